"""The reference pages of the site, made from the lessons, their checks and the models.

Their text is in `text/`, one file for each page. In it `[3.5]` becomes a link to
section 3.5, `owner/repo#12` a link to a thread on GitHub, and `<!-- names -->` a table
that a function in this file makes.
"""

import re
from collections.abc import Callable
from functools import cache
from itertools import groupby
from pathlib import Path

import torch

from course_vit import create_model
from course_vit.kit.checks import EXERCISES
from course_vit.kit.exercises import KINDS, lessons, read
from course_vit.kit.markdown import table
from course_vit.kit.mistakes import explained
from course_vit.kit.models import FAMILIES
from course_vit.pretrained import NAMINGS

HERE = Path(__file__).parent
REFERENCE = re.compile(
    r"\[(\d+\.\d+|(?:Exercise|Lesson) [\d.]+|\d+ [A-Z][a-z ]+)\](?!\()"
)
THREAD = re.compile(r"(?<![\w/.<-])([\w.-]+/[\w.-]+)#(\d+)")


# --- Text with references ---


def page(name: str, **parts: str) -> str:
    """A page of `text/` with its parts filled in, its sections and threads linked."""
    text = (HERE / "text" / f"{name}.md").read_text("utf-8")
    for mark, part in parts.items():
        text = text.replace(f"<!-- {mark} -->", part)
    text = THREAD.sub(r"[\1#\2](https://github.com/\1/issues/\2)", text)
    return REFERENCE.sub(lambda found: link(found[1]), text)


def link(reference: str, text: str = "") -> str:
    """A Markdown link to a heading of a lesson; without a text the heading is shown."""
    docname, heading = headings()[reference]
    if reference.endswith(heading):  # it has no number
        text = f"{heading} in lesson {reference.partition(' ')[0]}"
    return f"[{text or heading}](<{docname}.ipynb#{slug(heading)}>)"


def slug(heading: str) -> str:
    """The anchor of a heading as JupyterLab makes it, which the lessons link to."""
    return heading.replace(" ", "-")


@cache
def headings() -> dict[str, tuple[str, str]]:
    """The page and the text of every heading in the lessons, by its reference.

    A reference is the number of a section, such as `3.5`, or `Lesson 3`, or `Exercise
    3.1`. For a heading without a number it is the lesson and the heading, as in `3 Key
    points`.
    """
    found = {}
    for lesson, (docname, text) in enumerate(texts().items()):
        for heading in re.findall(r"^#{1,3} +(.*\S)", text, re.M):
            number = re.match(r"(Lesson |Exercise )?\d+(\.\d+)?", heading)
            found[number[0] if number else f"{lesson} {heading}"] = docname, heading
    return found


@cache
def texts() -> dict[str, str]:
    """The text cells of each lesson, by the name of its page."""
    return {
        f"notebooks/{path.stem}": "\n\n".join(
            cell["source"] for cell in read(path) if cell["cell_type"] == "markdown"
        )
        for path in lessons(HERE.parent)
    }


# --- Exercises, and the mistakes that their checks recognise ---


def by_lesson(tell: Callable[[list[str]], str]) -> str:
    """A section for each lesson; `tell` writes it from the numbers of its exercises."""
    parts = groupby(EXERCISES, key=lambda number: number.partition(".")[0])
    return "\n\n".join(
        f"## [Lesson {lesson}]\n\n{tell(list(numbers))}" for lesson, numbers in parts
    )


def exercises() -> str:
    """All exercises, with links to them."""

    def tell(numbers: list[str]) -> str:
        rows = []
        for number in numbers:
            it = EXERCISES[number]
            name = link(f"Exercise {number}", f"{number} {it.title}")
            rows.append([name, KINDS[it.kind], str(it.minutes), it.difficulty])
        return table(["exercise", "task", "minutes", "level"], rows)

    minutes = sum(it.minutes for it in EXERCISES.values())
    return page(
        "exercises",
        number=str(len(EXERCISES)),
        hours=str(round(minutes / 60)),
        exercises=by_lesson(tell),
    )


def mistakes() -> str:
    """The mistakes that the checks recognise, folded under the exercise."""
    return page(
        "mistakes",
        mistakes=by_lesson(lambda numbers: "\n\n".join(map(mistakes_of, numbers))),
    )


def mistakes_of(number: str) -> str:
    """The known mistakes of one exercise, unless they would give the answer away."""
    it = EXERCISES[number]
    place = link(f"Exercise {number}", f"Exercise {number}")
    again = link(it.section.partition(" ")[0])
    text = f"### {number} {it.title}\n\n{place}. Read again: {again}."
    if it.kind == "choose":
        return text
    lines = explained(number)
    fold = f"{len(lines)} mistakes that this check recognises"
    return (
        f"{text}\n\n<details><summary>{fold}</summary>\n\n"
        + "\n".join(lines)
        + "\n\n</details>"
    )


# --- Papers and code ---


def code(*names: str) -> str:
    """Names as code, with line breaks allowed after each slash, dot or underscore."""
    broken = [re.sub(r"([./_])(?=.)", r"\1<wbr>", name) for name in names]
    return ", ".join(f"<code>{name}</code>" for name in broken)


def names_in_files() -> str:
    """A table of the names that each library gives to the parts of a model."""
    theirs = {naming: words for naming, words in NAMINGS.items() if words}
    parts = (word.strip(".") for words in theirs.values() for word in words.values())
    rows = []
    for part in filter(None, dict.fromkeys(parts)):
        cells = [
            code(*(name for name, word in words.items() if word.strip(".") == part))
            for words in theirs.values()
        ]
        rows.append([code(part), *cells])
    return table(["here and in timm", *theirs], rows)


def sizes() -> str:
    """A table of the published models, their parameters and sizes."""
    columns = ["img_size", "patch_size", "embed_dim", "depth", "num_heads"]
    rows = []
    for published in FAMILIES.values():
        for name, size in published.items():
            with torch.device("meta"):
                model = create_model(name)
            count = sum(weight.numel() for weight in model.parameters())
            known = {"img_size": 224, "patch_size": "soft splits"} | size
            cells = [str(known[column]) for column in columns]
            rows.append([code(name), f"{count:,}", *cells])
    head = ["model", "parameters", "image", "patch", "width", "depth", "heads"]
    return table(head, rows)


def boxes() -> str:
    """The tables "paper and code" of the lessons, a section for each lesson."""
    title = r"^(?:> )?\*\*[^*\n]*paper[^*\n]*code[^*\n]*\*\*\n(?:>? ?\n)?"
    box = re.compile(title + r"((?:(?:> )?\|.*\n?)+)", re.M | re.I)
    return "\n\n".join(
        f"### [Lesson {lesson}]\n\n" + re.sub(r"^> ?", "", found[1], flags=re.M).strip()
        for lesson, text in enumerate(texts().values())
        for found in box.finditer(text)
    )


def paper_and_code() -> str:
    """The page that compares the papers with the code."""
    return page("paper_and_code", names=names_in_files(), sizes=sizes(), boxes=boxes())


# --- Words and questions ---


def glossary() -> str:
    """The words of the field, and the letters of shapes."""
    return page("glossary")


def questions() -> str:
    """Questions that learners ask, their answers, and where each was asked."""
    return page("questions")


PAGES: dict[str, Callable[[], str]] = {
    "exercises": exercises,
    "mistakes": mistakes,
    "questions": questions,
    "glossary": glossary,
    "paper_and_code": paper_and_code,
}
