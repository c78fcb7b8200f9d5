"""One lesson, three forms: solved, with blanks for a learner, folded for a presenter.

The solved lesson in `notebooks/` is the only source. The forms contain no outputs, and
they import from `my_vit`, the package that grows with the exercises.
"""

import ast
import re
import textwrap
from collections.abc import Collection, Iterator
from copy import deepcopy
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from .checks import EXERCISES
from .exercises import mark

FORMS = ("blanks", "live", "solved")


def make_form(lesson: NotebookNode, form: str = "blanks") -> NotebookNode:
    """Make one of the forms of a solved lesson, for the folder that holds `my_vit`.

    `blanks`: every answer is left out, and a cell after its check imports the current
    definition from `my_vit`. No check stops *Run All*, and the last cell lists the
    exercises that are still open. `live`: the same blanks, each followed by its folded
    answer. `solved`: with all answers. Raises ValueError for any other value of `form`.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    made, asked = deepcopy(lesson), ""
    made.cells = []
    # With a different language_info, JupyterLab would mark the notebook as changed.
    made.metadata.language_info = IPythonKernel.language_info
    for cell in deepcopy(lesson.cells):
        role = mark(cell).get("role")
        asked = cell.source if role == "question" else asked
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = on_my_vit(cell.source)
        if role == "solution" and form != "solved":
            blank, solution_id = deepcopy(cell), cell.id
            given = code_to_fix(asked) if mark(cell)["kind"] == "fix" else ""
            blank.source = leave_blank(cell.source, mark(cell)["blank"], given)
            made.cells.append(blank)
            cell.id = f"{solution_id}-solved"
            cell.metadata["jupyter"] = {"source_hidden": True}
        if form != "blanks" or role not in ("solution", "reason"):
            made.cells.append(cell)
        if form == "blanks" and role == "check":
            cell.metadata["tags"] = ["raises-exception"]  # so JupyterLab continues
            made.cells += go_on(mark(cell)["exercise"], f"{solution_id}-go-on")
    if form == "blanks" and (marks := [*filter(None, map(mark, lesson.cells))]):
        made.cells.append(list_open(marks[0]["exercise"]))
    return made


def on_my_vit(source: str) -> str:
    """Remove the export mark from code, and import the lessons from `my_vit`."""
    source = source.removeprefix("#| export\n")
    source = source.replace("course_vit.kit.checks", "course_vit.kit.workbook")
    imports = r"^(\s*)(from|import) course_vit\b(?!\.kit)"
    return re.sub(imports, r"\1\2 my_vit", source, flags=re.MULTILINE)


def go_on(exercise: str, cell_id: str) -> list[NotebookNode]:
    """A cell that imports the names of an exercise, solved or not, if it has any."""
    if not (names := ", ".join(EXERCISES[exercise].names)):
        return []
    said = "# This is your version once it has passed, and the course's until then."
    source = f"{said}\nfrom my_vit.{EXERCISES[exercise].module} import {names}"
    mark = {"course_vit": {"role": "go on"}}
    return [new_code_cell(source, id=cell_id, metadata=mark)]


def list_open(exercise: str) -> NotebookNode:
    """The last cell, which lists the exercises of the lesson that are still open."""
    number = exercise.partition(".")[0]
    source = f"from course_vit.kit.workbook import still_open\n\nstill_open({number})"
    mark = {"course_vit": {"role": "still open"}}
    return new_code_cell(source, id="still-open", metadata=mark)


def code_to_fix(question: str) -> str:
    """The code that a question shows, "" if there is none."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", question, re.M | re.S))


def leave_blank(source: str, names: Collection[str], given: str = "") -> str:
    """Remove the named answers from a solution; everything else stays, byte for byte.

    `f` or `C.f` names a function: its docstring and the comments on separate lines
    stay. `f.x` (or `x`) names an assignment: its value becomes `...`. `f.return` names
    a returned value. If the code `given` defines the same function, the blank contains
    its body, to be fixed there. Raises ValueError for a name that does not occur.
    """
    lines = source.encode().splitlines(keepends=True)  # ast counts columns in bytes
    found = [part for part in answers(ast.parse(source)) if part[0] in names]
    if missing := set(names) - {name for name, _ in found}:
        rest = ", ".join(sorted(missing))
        raise ValueError(f"found no {rest} to leave blank in {source}")
    to_fix = {name: body_of(node, given) for name, node in answers(ast.parse(given))}
    for node, name in reversed({node: name for name, node in found}.items()):
        line, column, blank = node.lineno, node.col_offset, b"return ..."
        if isinstance(node, ast.FunctionDef):
            line, column, blank = without_body(node, lines, to_fix.get(name, ""))
        elif isinstance(node, ast.Assign):
            target = node.targets[-1]
            line, column, blank = target.end_lineno, target.end_col_offset, b" = ..."
        rest = lines[node.end_lineno - 1][node.end_col_offset :]
        lines[line - 1 : node.end_lineno] = [lines[line - 1][:column] + blank + rest]
    return b"".join(lines).decode()


def answers(node: ast.AST, inside: str = "") -> Iterator[tuple[str, Any]]:
    """Everything that can be left blank, in order, with its qualified name."""
    for part in ast.iter_child_nodes(node):
        match part:
            case ast.ClassDef(name=name):
                yield from answers(part, f"{inside}{name}.")
            case ast.FunctionDef(name=name):
                yield inside + name, part
                yield from answers(part, f"{inside}{name}.")
            case ast.Return():
                yield f"{inside}return", part
            case ast.Assign(targets=[target, *_]):
                targets = target.elts if isinstance(target, ast.Tuple) else [target]
                for target in targets:
                    yield inside + ast.unparse(target), part
            case _:
                yield from answers(part, inside)


def body_of(node: ast.AST, source: str) -> str:
    """The statements of a function, without indentation; "" for anything else."""
    if not isinstance(node, ast.FunctionDef):
        return ""
    first = node.body[1 if ast.get_docstring(node) else 0]
    lines = source.splitlines()[first.lineno - 1 : node.end_lineno]
    return textwrap.dedent("\n".join(lines))


def without_body(
    function: ast.FunctionDef, lines: list[bytes], to_fix: str
) -> tuple[int, int, bytes]:
    """The line and column where a function's answer begins, and the blank for it."""
    statement = function.body[0]
    first = statement.lineno - 1
    if ast.get_docstring(function):
        first = statement.end_lineno or first
    while lines[first - 1].strip().startswith(b"#"):
        first -= 1
    blank = "raise NotImplementedError"
    if to_fix:
        blank = f"{blank}  # delete this line, and fix the code below\n{to_fix}"
    else:
        steps = [line.strip().decode() for line in lines[first : function.end_lineno]]
        blank = "\n".join([*(it for it in steps if it.startswith("#")), blank])
    indented = textwrap.indent(blank, " " * statement.col_offset)
    return first + 1, 0, indented.encode()
