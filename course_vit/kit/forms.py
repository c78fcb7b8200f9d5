"""One lesson, three forms: solved, with blanks for a learner, folded for a presenter.

The solved lesson in `notebooks/` is the only source. No form carries outputs, and all
of them work on `my_vit`, the package that grows with the exercises.
"""

import ast
import re
from collections.abc import Collection
from copy import deepcopy

import libcst as cst
import libcst.matchers as m
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from .exercises import mark

FORMS = ("blanks", "live", "solved")
EXTRA = "exercises"  # the module of my_vit for what no lesson exports


def make_form(lesson: NotebookNode, form: str = "blanks") -> NotebookNode:
    """A lesson in another form, to be worked in beside `my_vit`.

    `blanks`: every answer is left out, and a cell behind its check goes on with what
    stands in `my_vit`. `live`: the same blanks, each with the answer folded behind it.
    `solved`: the lesson as it is. Raises ValueError for another form.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    made = deepcopy(lesson)
    made.cells = []
    for original in lesson.cells:
        cell, role = deepcopy(original), mark(original).get("role")
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = on_my_vit(cell.source)
            if not cell.source:
                continue  # it held a mark of the export only
        if role == "solution" and form != "solved":
            solution, blank = original, deepcopy(cell)
            blank.source = leave_blank(cell.source, mark(cell)["blank"])
            made.cells.append(blank)
            cell.id = f"{cell.id}-solved"
            cell.metadata["jupyter"] = {"source_hidden": True}
        if form == "blanks" and role in ("solution", "reason"):
            continue
        made.cells.append(cell)
        if form == "blanks" and role == "check" and definitions(solution):
            made.cells.append(go_on(solution, lesson))
    return made


def on_my_vit(source: str) -> str:
    """The same code, with the lessons imported from `my_vit`; export marks are gone."""
    source = re.sub(r"^#\| .*\n?", "", source)
    source = source.replace("course_vit.kit.checks", "course_vit.kit.workbook")
    imports = r"^(\s*)(from|import) course_vit\b(?!\.kit)"
    return re.sub(imports, r"\1\2 my_vit", source, flags=re.MULTILINE)


def go_on(solution: NotebookNode, lesson: NotebookNode) -> NotebookNode:
    """A cell with which a lesson goes on, whether its exercise is solved or not."""
    said = "# Yours once it has passed, until then the course's: nobody is stuck."
    names = ", ".join(definitions(solution))
    source = f"{said}\nfrom my_vit.{home(solution, lesson)} import {names}"
    cell = new_code_cell(source, metadata={"course_vit": {"role": "go on"}})
    cell.id = f"{solution.id}-go-on"
    return cell


def definitions(solution: NotebookNode) -> list[str]:
    """The functions and classes that the learner writes in a solution cell."""
    blank = {name.partition(".")[0] for name in mark(solution)["blank"]}
    kinds = ast.FunctionDef | ast.ClassDef
    body = ast.parse(solution.source).body
    return [
        node.name for node in body if isinstance(node, kinds) and node.name in blank
    ]


def home(solution: NotebookNode, lesson: NotebookNode) -> str:
    """The module of my_vit in which a solution has its place."""
    if not solution.source.startswith("#| export"):
        return EXTRA
    sources = "\n".join(cell.source for cell in lesson.cells)
    return re.findall(r"^#\| default_exp (\w+)", sources, re.MULTILINE)[0]


def leave_blank(source: str, names: Collection[str]) -> str:
    """A solution without its answers; everything else stays as it is, to the byte.

    `f` or `C.f` names a function, whose body goes but for docstring and comments on
    lines of their own; `f.x` (or `x`) an assignment, whose value becomes `...`;
    `f.return` a returned value. Raises ValueError for a name that does not occur.
    """
    blanker = Blanker(names)
    blanked = cst.parse_module(source).visit(blanker).code
    if missing := set(names) - blanker.found:
        raise ValueError(f"no {', '.join(sorted(missing))} to leave blank in {source}")
    return blanked


class Blanker(cst.CSTTransformer):
    """Takes out the answers by their qualified names."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names, self.found, self.inside = names, set[str](), list[str]()

    def wanted(self, name: str = "") -> bool:
        qualified = ".".join([*self.inside, *([name] if name else [])])
        if qualified in self.names:
            self.found.add(qualified)
        return qualified in self.names

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self.inside.append(node.name.value)

    def leave_ClassDef(self, _: cst.ClassDef, updated: cst.ClassDef) -> cst.ClassDef:
        self.wanted()
        self.inside.pop()
        return updated

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self.inside.append(node.name.value)

    def leave_FunctionDef(
        self, _: cst.FunctionDef, updated: cst.FunctionDef
    ) -> cst.FunctionDef:
        if self.wanted():
            updated = without_body(updated)
        self.inside.pop()
        return updated

    def leave_Assign(self, _: cst.Assign, updated: cst.Assign) -> cst.Assign:
        target = updated.targets[0].target
        parts = target.elements if isinstance(target, cst.Tuple) else [target]
        names = [
            part.value if isinstance(part, cst.Element) else target for part in parts
        ]
        if any(isinstance(n, cst.Name) and self.wanted(n.value) for n in names):
            return updated.with_changes(value=cst.Ellipsis())
        return updated

    def leave_Return(self, _: cst.Return, updated: cst.Return) -> cst.Return:
        if self.wanted("return"):
            return updated.with_changes(value=cst.Ellipsis())
        return updated


def without_body(function: cst.FunctionDef) -> cst.FunctionDef:
    """A function with its docstring, its steps as comments, and a blank."""
    body = function.body
    comments = m.findall(body, m.EmptyLine(comment=m.Comment()))
    kept = list(body.body[:1]) if function.get_docstring() else []
    empty = cst.parse_statement("raise NotImplementedError")
    blank = empty.with_changes(leading_lines=comments)
    return function.with_changes(body=body.with_changes(body=[*kept, blank], footer=[]))
