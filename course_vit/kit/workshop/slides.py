"""Slides of a lesson, for reveal.js, which lies beside them: no network is needed.

What becomes a slide: the title with the goals; the picture that opens the lesson; each
numbered section with its question and first paragraph; each displayed formula with the
paragraph below it; each figure; each exercise, without its hints; each short piece of
exported code that is not the answer to an exercise; the key points.
"""

import re
from collections.abc import Iterator
from html import escape

from ..checks import EXERCISES
from ..exercises import Cell, mark
from .html import HERE, as_html, in_line
from .outline import Lesson, Section, paragraphs, statement, without_links

SIZES = {"large": 1.0, "middle": 0.82, "small": 0.66, "smallest": 0.55}
ROOM, WIDTH = 13.0, 66  # lines of a slide below its heading, and letters of a line
CODE = re.compile(r"```.*?```", re.DOTALL)
LONGEST_CODE = 15  # lines that can be read from the last row
KEYS = "Arrow keys turn the pages, Escape shows all of them, F fills the screen."
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="stylesheet" href="reveal/reveal.css">
<style>
{style}</style>
</head>
<body>
<div class="reveal"><div class="slides">
{slides}
</div></div>
<script src="reveal/reveal.js"></script>
<script>
Reveal.initialize({{ width: 1280, height: 760, margin: 0.03, center: false, hash: true,
  slideNumber: "c/t", transition: "none", pdfMaxPagesPerSlide: 1 }});
</script>
</body>
</html>
"""


def slides(lesson: Lesson) -> str:
    """The page with the slides of a lesson."""
    parts = [title_slide(lesson)]
    for cell in lesson.opening:
        parts += [figure_slide("", *it) for it in figures(cell)]
    for section in lesson.sections:
        parts += section_slides(section)
    if points := lesson.texts.get("Key points"):
        parts.append(slide(f"<h2>Key points</h2>\n{as_html(points)}", points))
    return PAGE.format(
        title=escape(lesson.title),
        style=(HERE / "slides.css").read_text("utf-8"),
        slides="\n".join(parts),
    )


def slide(body: str, text: str = "") -> str:
    """A slide; its letters are as large as its text allows."""
    size = next((name for name, em in SIZES.items() if lines(text, em) * em < ROOM), "")
    return f'<section class="{size or "smallest"}">\n{body}\n</section>'


def lines(text: str, em: float) -> float:
    """How many lines a text fills, with the space between paragraphs and items."""
    width = WIDTH / em
    code = [line for it in CODE.findall(text) for line in it.splitlines()]
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*|]|\d\.) )", CODE.sub("", text))
    wrapped = (len(" ".join(it.split())) // width + 1.5 for it in blocks)
    return sum(wrapped) + sum(len(line) // width + 1 for line in code)


def title_slide(lesson: Lesson) -> str:
    goals = without_links(lesson.goals)
    body = (
        f"<h1>{in_line(lesson.title)}</h1>\n<p>{in_line(lesson.summary)}</p>\n"
        f"{as_html(goals)}<p><small>{KEYS}</small></p>"
    )
    return slide(body, f"{lesson.title}\n\n{lesson.summary}\n\n{goals}\n\n{KEYS}")


def section_slides(section: Section) -> Iterator[str]:
    """The slides of a section in the order of its cells."""
    name = in_line(f"{section.number} {section.title}")
    question, first = section.question, section.first_paragraph
    lead = f'<p class="lead">{in_line(question)}</p>\n' if question else ""
    yield slide(f"<h2>{name}</h2>\n{lead}{as_html(first)}", f"{question}\n\n{first}")
    for cell in section.cells:
        for text in formulas(cell, first):
            yield slide(f"<h3>{name}</h3>\n{as_html(text)}", text)
        for png, alt in figures(cell):
            yield figure_slide(f"<h3>{name}</h3>\n", png, alt)
        if mark(cell).get("role") == "question":
            yield exercise_slide(section, mark(cell)["exercise"])
        if code := shown_code(cell):
            body = f"<h3>{name}</h3>\n<pre><code>{escape(code)}</code></pre>"
            yield slide(body, f"```\n{code}\n```")


def figure_slide(heading: str, png: str, alt: str) -> str:
    source = f"data:image/png;base64,{png}"
    return slide(f'{heading}<img alt="{escape(alt)}" src="{source}">')


def exercise_slide(section: Section, number: str) -> str:
    it, text = EXERCISES[number], statement(section, number)
    heading = in_line(f"Exercise {number}: {it.title} ({it.minutes} min)")
    return slide(f"<h3>{heading}</h3>\n{as_html(text)}", text)


def formulas(cell: Cell, first: str) -> Iterator[str]:
    """The displayed formulas of a text cell, each with the paragraph below it."""
    if cell["cell_type"] != "markdown" or mark(cell):
        return
    found = paragraphs([cell])
    for text, below in zip(found, [*found[1:], ""], strict=True):
        if "$$" in text and text not in first:
            yield f"{text}\n\n{below}" if "$$" not in below else text


def figures(cell: Cell) -> Iterator[tuple[str, str]]:
    """The pictures that a cell has drawn, each with its alt text."""
    for output in cell.get("outputs", []):
        if png := output.get("data", {}).get("image/png"):
            alt = output["metadata"]["image/png"]["alt"]
            yield "".join("".join(png).split()), alt


def shown_code(cell: Cell) -> str:
    """The code of an exported cell that is no answer, without its docstrings."""
    source = cell["source"]
    if cell["cell_type"] != "code" or mark(cell).get("role") == "solution":
        return ""
    if not source.startswith("#| export\n") or not re.search(
        r"^(def|class) ", source, re.M
    ):
        return ""
    code = source.removeprefix("#| export\n").strip()
    code = re.sub(r'\n *""".*?"""(?=\n)', "", code, flags=re.DOTALL)
    code = re.sub(r"\n\n(?= )", "\n", code)  # below a docstring
    return code if code.count("\n") < LONGEST_CODE else ""
