"""Slides of a lesson, for reveal.js, which lies beside them: no network is needed.

What becomes a slide: the title with the goals; the picture that opens the lesson; each
numbered section with its question and first paragraph; each displayed formula with the
paragraph below it; each figure; each exercise, without its hints; each short piece of
exported code that is neither folded nor the answer to an exercise; the key points.
"""

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from ..checks import EXERCISES
from ..exercises import Cell, mark
from ..markdown import as_html
from .outline import Lesson, Section, figures, folded, paragraphs

LONGEST_CODE = 15  # lines that can be read from the last row
DEFINITION = re.compile(r"^(?:def|class) ", re.MULTILINE)
DOCSTRING = re.compile(r'\n *""".*?"""(?:\n(?=\n))?', re.DOTALL)
KEYS = "Arrow keys turn the pages, Escape shows all of them, F fills the screen."


def slides(lesson: Lesson) -> str:
    """The page with the slides of a lesson."""
    page = Path(__file__).with_name("slides.html").read_text("utf-8")
    page = page.replace("<!-- title -->", escape(lesson.title))
    parts = (f"<section>\n{as_html(it)}</section>" for it in texts(lesson))
    return page.replace("<!-- slides -->", "\n".join(parts))


def texts(lesson: Lesson) -> Iterator[str]:
    """The slides of a lesson in Markdown."""
    title = f"# {lesson.title}\n\n{lesson.summary}\n\n{lesson.goals}"
    yield f"{title}\n\n<small>{KEYS}</small>"
    for cell in lesson.first:
        yield from figures(cell)
    for section in lesson.sections:
        yield f"## {section.title}\n\n{section.question}\n\n{section.first_paragraph}"
        for cell in section.cells:
            yield from (f"### {it}" for it in inside(section, cell))
    yield f"## Key points\n\n{lesson.texts['Key points']}"


def inside(section: Section, cell: Cell) -> Iterator[str]:
    """The slides of one cell of a section."""
    if mark(cell).get("role") == "question":
        number = mark(cell)["exercise"]
        it, asked = EXERCISES[number], section.exercises[number]
        title = f"Exercise {number}: {it.title} ({it.minutes} min)"
        yield f"{title}\n\n{asked}\n\n{section.code_above(number)}"
    for shown in (*formulas(cell, section), *figures(cell), *code(cell)):
        yield f"{section.title}\n\n{shown}"


def formulas(cell: Cell, section: Section) -> Iterator[str]:
    """The displayed formulas of a text cell, each with the paragraph below it."""
    found = paragraphs([cell])
    for text, below in zip(found, [*found, ""][1:], strict=True):
        if "$$" in text and text not in section.first_paragraph:
            yield f"{text}\n\n{below}" if "$$" not in below else text


def code(cell: Cell) -> Iterator[str]:
    """The code of an exported cell, unless folded or an answer; without docstrings."""
    source = cell["source"]
    exported = cell["cell_type"] == "code" and source.startswith("#| export\n")
    answers = mark(cell).get("role") == "solution"
    if exported and not (folded(cell) or answers) and DEFINITION.search(source):
        short = DOCSTRING.sub("", source.removeprefix("#| export\n")).strip()
        if short.count("\n") < LONGEST_CODE:
            yield f"```python\n{short}\n```"
