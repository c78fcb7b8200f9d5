"""Write the package: `notebooks/05_block.ipynb` is the source of `course_vit/block.py`.

Cells that begin with `#| export` are written into the module in their order; a cell
that cannot be part of a module is refused. This file imports none of these modules, so
a broken one can always be written again.
"""

import ast
import json
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from . import CourseError
from .exercises import Cell, exercises, lessons, mark, read, written
from .source import definition, missing_names
from .storage import write

MARK = "#| export\n"
IMPORTS = ast.Import | ast.ImportFrom


def export(root: Path, check: bool = False) -> list[str]:
    """Write each file that differs from the notebooks; returns a sentence about each.

    The files are the modules, the solutions that no lesson exports, and the table of
    exercises. With `check` nothing is written. Raises CourseError for a cell that is
    refused, before any file is written.
    """
    root = root.resolve()
    notebooks = {path: read(path) for path in lessons(root)}
    files: dict[str, str] = {}
    table: dict[str, dict[str, Any]] = {}
    for path, cells in notebooks.items():
        table |= exercises(path.stem[3:], cells)
        if exported := [cell for cell in cells if cell["source"].startswith(MARK)]:
            title = docstring(path.name, cells[0]["source"])
            files[f"{path.stem[3:]}.py"] = module(title, exported)
    files["kit/solutions.py"] = solutions([*notebooks.values()])
    files = ruff(root, files)
    rows = json.dumps(table, indent=1, ensure_ascii=False)
    files["kit/checks/exercises.json"] = f"{rows}\n"
    said = []
    for name, text in files.items():
        path = root / "course_vit" / name
        if path.exists() and path.read_bytes() == text.encode():
            continue
        if check:
            todo = "edit the notebook, then run `make export`"
            said.append(f"course_vit/{name} does not match its notebook: {todo}")
        else:
            write(path, text.encode())
            said.append(f"wrote course_vit/{name}")
    for path in sorted(root.glob("course_vit/[!_]*.py")):
        if path.name not in files:
            todo = "delete it, or move it to course_vit/kit/ if it is written by hand"
            said.append(f"no notebook exports course_vit/{path.name}: {todo}")
    return said


def docstring(notebook: str, opening: str) -> str:
    """The docstring of a module: title and promise of its lesson, and where to edit."""
    title = opening.partition("\n")[0].removeprefix("# ").rstrip(".")
    promise = "\n".join(re.findall(r"^> ?(.*)", opening, re.M))
    paragraphs = [textwrap.fill(text, 88) for text in promise.split("\n\n")]
    source = f"Printed from notebooks/{notebook}: edit there, then `make export`."
    text = "\n\n".join([f"{title}.", *paragraphs, source])
    return ("r" if "\\" in text else "") + f'"""{text}\n"""'


def module(title: str, cells: list[Cell]) -> str:
    """A module: docstring, imports, the public names in teaching order, the code."""
    imports, code, section = [], [], ""
    homes: dict[str, str] = {}  # each name, and the place that defines it
    for cell in cells:
        lines, end, parts = cell["source"].splitlines(), 1, []
        for node in cell["body"]:
            place = f"{cell['place']}, line {node.lineno}"
            part, end = "\n".join(lines[end : node.end_lineno]), node.end_lineno
            if isinstance(node, IMPORTS):
                imports.append(part.replace("from course_vit.", "from ."))
                continue
            if not (name := name_of(node)):
                raise CourseError(
                    f"{place} ({lines[node.lineno - 1].strip()}): this runs at import; "
                    "export only imports, functions, classes and constants"
                )
            if name in homes:
                raise CourseError(
                    f"{place}: `{name}` is exported twice, keep this or {homes[name]}"
                )
            homes[name] = place
            parts.append(part)
        if parts and cell["section"] != section:
            section = cell["section"]
            code.append(f"\n\n# --- {section} ---")
        code += ["", *parts] if parts else []
    public = [f"    {name!r}," for name in homes if not name.startswith("_")]
    text = "\n".join([title, *imports, "__all__ = [", *public, "]", *code])
    for name in missing_names(text):
        using = [cell for cell in cells if name in missing_names(cell["source"])]
        raise CourseError(
            f"{using[0]['place']}: the module does not define `{name}`: "
            "export the cell that defines it, or make it an argument"
        )
    return text


def name_of(node: ast.stmt) -> str:
    """The name of a function, class or constant, "" for any other statement."""
    match node:
        case (
            ast.FunctionDef(name=name)
            | ast.ClassDef(name=name)
            | ast.Assign(targets=[ast.Name(id=name)])
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr())
        ):
            return name
    return ""


def solutions(notebooks: list[list[Cell]]) -> str:
    """The solutions that no lesson exports, below the imports of all lessons."""
    code = [
        cell for cells in notebooks for cell in cells if cell["cell_type"] == "code"
    ]
    nodes = [node for cell in code for node in cell["body"]]
    text = [ast.unparse(node) for node in nodes if isinstance(node, IMPORTS)]
    for cell in code:
        if mark(cell).get("role") == "solution" and not cell["source"].startswith(MARK):
            for name in written(cell):
                text.append(f"# Exercise {mark(cell)['exercise']}")
                text.append(definition(cell["source"], name))
    title = "Solutions that no lesson exports."
    source = "Printed from notebooks/: edit there, then `make export`."
    return "\n".join([f'"""{title}\n\n{source}\n"""', *text])


def ruff(root: Path, files: dict[str, str]) -> dict[str, str]:
    """Remove unused imports from the modules, sort the others, and format the code."""
    fix = ["check", "--exit-zero", "--fix"]
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text.encode())
        for arguments in ([*fix, "--select=F401"], [*fix, "--select=I"], ["format"]):
            settings = f"--config={root / 'pyproject.toml'}", "--no-cache"
            command = [sys.executable, "-m", "ruff", *arguments, *settings, folder]
            done = subprocess.run(
                command, cwd=root, capture_output=True, encoding="utf-8"
            )
            if done.returncode:
                raise CourseError(f"ruff cannot format the modules: {done.stderr}")
        return {name: (Path(folder) / name).read_text("utf-8") for name in files}
