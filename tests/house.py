"""Where files of the course are, for the tests of its structure."""

import ast
import json
import os
import re
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODULES = sorted((ROOT / "course_vit").glob("[!_]*.py"))  # printed from the notebooks


def our_files():
    """Every file of the course, except git's own and those that .gitignore names."""
    lines = (ROOT / ".gitignore").read_text("utf-8").split()
    ignored = [".git", *(line.strip("/") for line in lines)]

    def ours(names):
        return [n for n in names if not any(fnmatch(n, pattern) for pattern in ignored)]

    for folder, folders, files in os.walk(ROOT):
        folders[:] = ours(folders)
        yield from (Path(folder, name) for name in ours(files))


def lines_that_count(tree):
    """Lines of code without signatures, docstrings, errors, and tables in capitals.

    The fields of a dataclass are the signature of its constructor, and `__all__` is a
    table that the export prints.
    """
    counted = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            counted |= lines(node)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            counted -= set(range(node.lineno, node.body[0].lineno))
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            counted -= lines(node.body[0]) if ast.get_docstring(node) else set()
        if isinstance(node, ast.ClassDef) and node.decorator_list:
            fields = (part for part in node.body if isinstance(part, ast.AnnAssign))
            counted -= {line for part in fields for line in lines(part)}
        if isinstance(node, ast.Raise):
            counted -= lines(node)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            name = ast.unparse(node).split(":")[0].split(" =")[0]
            counted -= lines(node) if name.isupper() or name == "__all__" else set()
    return len(counted)


def lines(node):
    return set(range(node.lineno, node.end_lineno + 1))


def minutes(notebook):
    """How long a lesson takes: 180 words or 15 lines of code a minute, and exercises.

    Without what is folded, and without the code that the learner writes.
    """
    words = code = of_exercises = 0
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text = re.sub(r"<details>.*?</details>", "", source, flags=re.DOTALL)
            words += len(re.findall(r"\w\S*", text))
            found = re.findall(r"^### Exercise .*?\((\d+) min", text)
            of_exercises += sum(map(int, found))
        elif cell["metadata"].get("course_vit", {}).get("role") != "solution":
            code += lines_that_count(ast.parse(source))
    return words / 180 + code / 15 + of_exercises


def stated_minutes(notebook):
    """The time that a lesson says it takes, in its first cell."""
    text = notebook.read_text("utf-8")
    return int(re.search(r"\*\*Time\*\*: (\d+) minutes", text)[1])


if __name__ == "__main__":  # python tests/house.py: the minutes of every lesson
    for path in NOTEBOOKS:
        stated, counted = stated_minutes(path), minutes(path)
        print(f"{path.stem:25} {counted:4.0f} counted, {stated} stated")
