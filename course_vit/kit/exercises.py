"""Read the lessons: their cells, and the descriptions of their exercises.

The cells of an exercise are marked in their metadata, under `course_vit`: with its
number (`exercise`), its `kind`, the cell's `role` (question, solution, check, reason)
and, for a solution, the names that the learner's form leaves `blank`. Everything else
is in the text.
"""

import ast
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from . import CourseError

Cell = dict[str, Any]
HEADING = re.compile(
    r"### Exercise (?P<number>\d+\.\d+) "
    r"\((?P<minutes>\d+) min, (?P<difficulty>easy|medium|hard)\) (?P<title>.+)\n"
)
# What an exercise of each kind asks for.
KINDS = {
    "implement": "write",
    "faded": "complete",
    "fix": "fix",
    "predict": "predict",
    "choose": "choose",
    "order": "put in order",
    "test": "write a test",
}
FOLD = re.compile(r"<details><summary>(.*?)</summary>\s*(.*?)\s*</details>", re.DOTALL)


def lessons(course: Path) -> list[Path]:
    """The notebooks of a course in order, by names such as `05_encoder_block.ipynb`."""
    notebooks = sorted((course / "notebooks").glob("*.ipynb"))
    found = [path for path in notebooks if re.fullmatch(r"\d\d_\w+", path.stem)]
    if not found:
        raise CourseError(
            f"{course / 'notebooks'} has no lessons: course-vit export needs the "
            "folder of a clone; for any other command, install the course again: "
            "pip install --force-reinstall --no-deps course_vit"
        )
    for first, second in pairwise(found):
        if first.name[:2] == second.name[:2]:
            raise CourseError(
                f"{first} and {second.name} have the same number: rename one of them"
            )
    return found


def read(notebook: Path) -> list[Cell]:
    """The cells of a lesson, each with its `place` and `section`; code with its `body`.

    Raises CourseError for a file that is not a notebook or a cell that is not Python.
    """
    place, section, number = f"notebooks/{notebook.name}", "", 0
    try:
        if not notebook.is_file():
            raise ValueError("it may be a folder, a pipe or a broken link")
        if not (cells := json.loads(notebook.read_text("utf-8"))["cells"]):
            raise ValueError("a lesson has cells")
        for cell in cells:
            source = cell["source"] = "".join(cell["source"])
            source.encode(), mark(cell)  # both fail for a broken cell
            if cell["cell_type"] == "code":
                number += 1
                place = f"notebooks/{notebook.name}, code cell {number}"
                cell["body"] = ast.parse(source).body
            else:
                section = [section, *re.findall(r"^## +(.*\S)", source, re.M)][-1]
            cell |= {"place": place, "section": section}
    except SyntaxError as error:
        line = f"line {error.lineno} ({(error.text or '').strip()})"
        raise CourseError(f"{place}, {line}: not Python ({error.msg})") from None
    except OSError as error:
        raise CourseError(f"{place} cannot be read ({error.strerror})") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise CourseError(
            f"{place} is not a notebook: save it again, or move it away"
        ) from None
    return cells


def mark(cell: Cell) -> dict[str, Any]:
    """The mark of a cell, empty if it belongs to no exercise."""
    found = cell["metadata"].get("course_vit", {})
    return found if "exercise" in found else {}


def written(solution: Cell) -> list[str]:
    """The functions and classes that the learner writes in a solution cell."""
    blank = {name.partition(".")[0] for name in mark(solution)["blank"]}
    kinds = ast.FunctionDef | ast.ClassDef
    definitions = [node for node in solution["body"] if isinstance(node, kinds)]
    return [node.name for node in definitions if node.name in blank]


def exercises(lesson: str, cells: list[Cell]) -> dict[str, dict[str, Any]]:
    """The description of each exercise of a lesson, by number.

    The learner's definitions, `names`, go into one `module` of `my_vit`: that of the
    lesson if it exports them, otherwise `exercises`. Raises CourseError if a question
    does not begin with its heading, or a mark is incomplete.
    """
    table: dict[str, dict[str, Any]] = {}
    for cell in filter(mark, cells):
        try:
            add_exercise(table, lesson, cell)
        except (KeyError, TypeError) as error:
            raise CourseError(
                f"{cell['place']}: the mark of exercise {mark(cell)['exercise']} or of "
                f"its question is incomplete ({type(error).__name__}: {error})"
            ) from None
    return table


def add_exercise(table: dict[str, dict[str, Any]], lesson: str, cell: Cell) -> None:
    """Add to the table what one cell contributes to its exercise."""
    number, role = mark(cell)["exercise"], mark(cell)["role"]
    source, folds = cell["source"], FOLD.findall(cell["source"])
    if role == "question":
        heading = HEADING.match(source)
        if not heading or heading["number"] != number:
            raise CourseError(
                f"{cell['place']}: begin with '### Exercise {number} (5 min, easy) "
                f"Title', got {source.partition(chr(10))[0]!r}"
            )
        table[number] = {
            "title": heading["title"].strip(),
            "kind": mark(cell)["kind"],
            "minutes": int(heading["minutes"]),
            "difficulty": heading["difficulty"],
            "section": cell["section"],
            "hints": [one_line(text) for title, text in folds if "Hint" in title],
        }
    if role == "solution" and (names := written(cell)):
        exported = source.startswith("#| export\n")
        module = lesson if exported else "exercises"
        table[number] |= {"module": module, "names": names}
    if role == "reason":
        table[number]["reason"] = "\n\n".join(text for _, text in folds)


def one_line(text: str) -> str:
    """Remove the line breaks from each paragraph; keep the blank lines between them."""
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
