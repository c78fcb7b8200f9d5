"""Print the package: `notebooks/05_block.ipynb` is the source of `course_vit/block.py`.

A lesson names its module once, `#| default_exp block`; the cells below that begin with
`#| export` are printed, in their order. What has no place in a module is refused. No
printed module is imported here, so a broken one can always be printed again.
"""

import ast
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from . import CourseError
from .exercises import print_table

PACKAGE = "course_vit"
BY_HAND = ("__init__.py", "__main__.py")
# What a constant may call, and what may stand in a class.
TABLES = r"dict|enumerate|float|frozenset|list|range|set|tuple|zip|.*\.items"
ATTRIBUTES = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.Pass)
HINTS = {
    "F403": ", name what you import",
    "F821": ", export what defines it or make it an argument",
}

Line = tuple[str, str]  # a line to print, and its place in the notebook


class ExportError(CourseError):
    """What is refused."""


@dataclass(frozen=True)
class Cell:
    """A code cell: its number among the code cells, and the heading above it."""

    notebook: str
    number: int
    heading: str
    lines: list[str]

    def place(self, line: int) -> str:
        """Where a reader of the notebook finds a line, counted from 1."""
        code = self.lines[line - 1].strip()
        return f"{self.notebook}, code cell {self.number}, line {line} ({code})"

    def refuse(self, line: int, rule: str) -> ExportError:
        return ExportError(f"{self.place(line)}: {rule}")


def find_root(folder: Path) -> Path:
    """The first folder from here upwards that holds the notebooks and the package."""
    folder = folder.resolve()
    for root in (folder, *folder.parents):
        if (root / "notebooks").is_dir() and (root / PACKAGE).is_dir():
            return root
    rule = f"{folder} is not inside a folder with notebooks/ and {PACKAGE}/"
    raise ExportError(f"{rule}: go to the course, or name its folder with --root")


def export(
    root: Path, notebooks: Sequence[Path] = (), check: bool = False
) -> list[str]:
    """Write the modules that differ from their notebooks; a sentence about each.

    All or none: a refusal comes before the first is written. With `check` nothing is
    written at all. By default all notebooks are taken, and modules of none are named.
    """
    modules: dict[Path, tuple[str, str]] = {}
    for notebook in notebooks or sorted(root.glob("notebooks/*.ipynb")):
        path = root / PACKAGE / f"{notebook.stem[3:]}.py"
        if text := print_module(root, notebook, path):
            if path in modules:
                rule = f"{modules[path][0]} prints {path.name} too, rename one of them"
                raise ExportError(f"notebooks/{notebook.name}: {rule}")
            modules[path] = f"notebooks/{notebook.name}", text
    table = root / PACKAGE / "kit" / "checks" / "exercises.json"
    if table.parent.is_dir():
        try:
            text = print_table(sorted(root.glob("notebooks/*.ipynb")))
        except ValueError as error:
            raise ExportError(str(error)) from None
        modules[table] = "the exercises in notebooks/", text
    said = []
    for path, (source, text) in modules.items():
        name = path.relative_to(root).as_posix()
        if path.exists() and path.read_text("utf-8", "replace") == text:
            continue
        if check:
            todo = f"edit {source}, then run `make export`"
            said.append(f"{name} is not what its notebook prints: {todo}")
        else:
            partial = path.with_suffix(".partial")
            partial.write_text(text, "utf-8", newline="\n")
            partial.replace(path)
            said.append(f"wrote {name}")
    for path in () if notebooks else sorted(root.glob(f"{PACKAGE}/*.py")):
        if path not in modules and path.name not in BY_HAND:
            todo = f"delete it, or move it to {PACKAGE}/kit/ if it is written by hand"
            said.append(f"{PACKAGE}/{path.name} is printed by no notebook: {todo}")
    return said


def print_module(root: Path, notebook: Path, path: Path) -> str:
    """The text of a notebook's module, "" if the notebook exports nothing."""
    opening, cells = read(notebook)
    if not (cells := list(marked(cells, notebook.stem))):
        return ""
    imports, names, code = gather(cells)
    listed = "\n".join(["__all__ = [", *map('    "{}",'.format, names), "]"])

    def at_top(text: str) -> list[Line]:
        place = f"{cells[0].notebook}, title and promise"
        return [(line, place) for line in text.split("\n")]

    top = at_top(docstring(opening, cells[0].notebook))
    return polish(root, path, top + imports + at_top(listed) + code)


def read(notebook: Path) -> tuple[str, list[Cell]]:
    """The text of a notebook's first cell, and its code cells."""
    name = f"notebooks/{notebook.name}"
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        sources = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    except (ValueError, KeyError, TypeError):
        raise ExportError(f"{name} is not a notebook, save it again") from None
    heading = ""
    code: list[Cell] = []
    for kind, source in sources:
        if kind == "markdown":
            heading = [heading, *re.findall(r"^## +(.*\S)", source, re.MULTILINE)][-1]
        elif kind == "code":
            code.append(Cell(name, len(code) + 1, heading, source.split("\n")))
    return sources[0][1] if sources else "", code


def marked(cells: list[Cell], stem: str) -> Iterator[Cell]:
    """The cells to print; refuses a mark that is misplaced or not understood."""
    named = ""
    for cell in cells:
        for number, line in enumerate(cell.lines, 1):
            if not re.match(r"\s*#\s*\|\s*(export|default_exp)", line):
                continue
            mark = re.fullmatch(r"#\| (export|default_exp (\w+))\s*", line)
            if number > 1 or not mark:
                rule = "begin the cell with `#| export` or `#| default_exp name`"
                raise cell.refuse(number, rule)
            if mark[1] == "export" and named:
                yield cell
            elif mark[1] == "export":
                raise cell.refuse(1, "name the module above, `#| default_exp name`")
            elif named:
                raise cell.refuse(1, f"the module is named already, in {named}")
            elif not re.fullmatch(rf"\d\d_{mark[2]}", stem):
                raise cell.refuse(
                    1, "module `name` is printed by NN_name.ipynb, rename one"
                )
            else:
                named = cell.place(1)


def docstring(opening: str, notebook: str) -> str:
    """The lesson's title, its promise, and where to edit."""
    match = re.match(r"# +(.*\S)\s*\n((?:>.*\n?)+)", opening)
    if not match:
        rule = "begin the first cell with `# Title`, below it the promise, `> ...`"
        raise ExportError(f"{notebook}: {rule}")
    title = match[1] if match[1][-1] in ".?!" else f"{match[1]}."
    promise = re.sub(r"^> ?", "", match[2], flags=re.MULTILINE).strip()
    source = f"Printed from {notebook}: edit there, then `make export`."
    paragraphs = [textwrap.fill(text, 88) for text in re.split(r"\n\s*\n", promise)]
    text = "\n\n".join([title, *paragraphs, source])
    return ("r" if "\\" in text else "") + f'"""{text}\n"""'


def gather(cells: list[Cell]) -> tuple[list[Line], list[str], list[Line]]:
    """Imports, public names in teaching order, and the rest below its headings."""
    bound: dict[str, str] = {}  # a name, and its import or the place of its definition
    imports: dict[str, str] = {}
    names: list[str] = []
    code: list[Line] = []
    heading = ""
    for cell in cells:
        rest = dict(enumerate(cell.lines[1:], 2))
        defines: list[str] = []
        for node in parse(cell):
            place = cell.place(node.lineno)
            if isinstance(node, ast.Import | ast.ImportFrom):
                new = imported(cell, node)
                imports |= dict.fromkeys(new.values(), place)
                for number in range(node.lineno, (node.end_lineno or 0) + 1):
                    del rest[number]
            else:
                new = {defined(cell, node): place}
                defines += new
            for name, origin in new.items():
                if (first := bound.setdefault(name, origin)) != origin:
                    rule = f"`{name}` is exported twice, keep this or {first}"
                    raise cell.refuse(node.lineno, rule)
        if defines and cell.heading != heading:
            heading = cell.heading
            divider = ("", "", f"# --- {heading} ---", "")
            code += [(line, f"{cell.notebook}, heading") for line in divider]
        if defines:
            code += [(line, cell.place(number)) for number, line in rest.items()]
            code.append(("", ""))
        names += [name for name in defines if not name.startswith("_")]
    return list(imports.items()), names, code


def parse(cell: Cell) -> list[ast.stmt]:
    """The statements of a cell, each on lines of its own."""
    try:
        tree = ast.parse("\n".join(cell.lines))
    except SyntaxError as error:
        rule = f"not Python ({error.msg}), correct it or leave it to an unmarked cell"
        raise cell.refuse(min(error.lineno or 1, len(cell.lines)), rule) from None
    for node, following in pairwise(tree.body):
        if node.end_lineno == following.lineno:
            raise cell.refuse(following.lineno, "write one statement to a line")
    return tree.body


def imported(cell: Cell, node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Every imported name, and the line that prints it; lessons become relative."""
    source = ast.unparse(node).rpartition(" import ")[0]  # "from torch" or ""
    lines = {}
    for alias in node.names:
        line = f"{source} import {ast.unparse(alias)}".lstrip()
        if re.match(rf"(from|import) {PACKAGE}\.kit\b", line):
            rule = "a module stands without the kit, import it in an unmarked cell"
            raise cell.refuse(node.lineno, rule)
        if re.match(rf"(from|import) {PACKAGE}\b(?!\.\w+ import)", line):
            rule = f"import from the lesson, `from {PACKAGE}.module import name`"
            raise cell.refuse(node.lineno, rule)
        lines[alias.asname or alias.name] = line.replace(f"from {PACKAGE}.", "from .")
    return lines


def defined(cell: Cell, node: ast.stmt) -> str:
    """The name of a function, class or constant; refuses what else runs at import."""
    for part in ast.walk(node):
        match part:
            case ast.Import() | ast.ImportFrom() if PACKAGE in ast.unparse(part):
                raise cell.refuse(part.lineno, "import lessons at the top of the cell")
    match node:
        case ast.FunctionDef(name=name):
            return name
        case ast.ClassDef(name=name, body=body):
            for part in body:
                text = isinstance(getattr(part, "value", None), ast.Constant)
                if not text and not isinstance(part, ATTRIBUTES):
                    rule = "runs at import, move it to a method"
                    raise cell.refuse(part.lineno, rule)
            return name
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value)
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
        ):
            if not name.lstrip("_")[:1].isupper():
                rule = "a constant is UPPERCASE (a type CapWords), rename or unmark it"
                raise cell.refuse(node.lineno, rule)
            for part in ast.walk(value):
                match part:
                    case ast.Call(func=f) if not re.fullmatch(TABLES, ast.unparse(f)):
                        rule = "this call runs at import, a constant is a plain table"
                        raise cell.refuse(part.lineno, rule)
            return name
    rule = "runs at import, export only imports, functions, classes and constants"
    raise cell.refuse(node.lineno, rule)


def polish(root: Path, path: Path, module: list[Line]) -> str:
    """The module sorted and laid out by ruff; what else ruff finds is refused."""

    def ruff(text: str, *arguments: str) -> str:
        command = [sys.executable, "-m", "ruff", *arguments, "-q"]
        run = subprocess.run(
            [*command, f"--stdin-filename={path}", "-"],
            input=text,
            capture_output=True,
            cwd=root,
            encoding="utf-8",
        )
        if run.returncode:
            raise ExportError(f"ruff cannot print {path.name}: {run.stderr.strip()}")
        return run.stdout

    text = "".join(f"{line}\n" for line, _ in module)
    later = "--ignore=I001,F401,RUF022"  # sorted, dropped; __all__ is in teaching order
    found = ruff(text, "check", "--exit-zero", "--output-format=json", later)
    for finding in json.loads(found):
        place, code = module[finding["location"]["row"] - 1][1], finding["code"]
        rule = finding["message"] + HINTS.get(code, "")
        raise ExportError(f"{place}: {rule} (ruff {code})")
    text = ruff(text, "check", "--exit-zero", "--fix", "--select=I,F401")
    return ruff(text, "format")
