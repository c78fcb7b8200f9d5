"""What a room needs to know of each lesson: its sections, their minutes, its words."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .. import COURSE, CourseError
from ..checks import EXERCISES
from ..exercises import FOLD, Cell, lessons, mark, read

TITLE = re.compile(r"# (?P<title>.+)\n\n(?P<summary>(?:> .+\n)+)")
SHORTEST = 2  # minutes to explain a section, however little it says
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)\s]*\)")


@dataclass(frozen=True)
class Section:
    """A numbered section: `minutes` to explain it, without those of its exercises."""

    number: str
    title: str
    minutes: int
    optional: bool
    cells: list[Cell]

    @property
    def exercises(self) -> list[str]:
        """The numbers of the exercises in the section."""
        return list(
            dict.fromkeys(mark(it)["exercise"] for it in self.cells if mark(it))
        )

    @property
    def question(self) -> str:
        """The question that the section asks first, "" if it asks none."""
        for paragraph in paragraphs(self.cells):
            if paragraph.startswith("**Question.**"):
                return paragraph.removeprefix("**Question.**").strip()
        return ""

    @property
    def first_paragraph(self) -> str:
        """The first paragraph that is neither the question nor advice to skip.

        What explains a formula, or follows a colon, belongs to it.
        """
        found = [
            it
            for it in paragraphs(self.cells)
            if not it.startswith(("**Question.**", "*You may skip", "```"))
        ]
        joined = bool(found) and (found[0].endswith(":") or "$$" in found[0])
        return "\n\n".join(found[: 1 + joined])


@dataclass(frozen=True)
class Lesson:
    """One lesson as a room needs it.

    `opening` are the cells above the first section, and `texts` has the sections that
    have no number.
    """

    number: int
    path: Path
    title: str
    summary: str
    goals: str
    before: str
    minutes: int
    opening: list[Cell]
    sections: list[Section]
    texts: dict[str, str]

    @property
    def exercises(self) -> list[str]:
        """The numbers of its exercises, in order."""
        return [number for number in EXERCISES if number.startswith(f"{self.number}.")]


@cache
def course() -> list[Lesson]:
    """All lessons in order."""
    return [outline(path) for path in lessons(COURSE)]


def outline(path: Path) -> Lesson:
    """Read a lesson.

    Its stated minutes, without those of the exercises, are shared out to its sections
    by how long each takes to read.
    """
    cells = read(path)
    number, first, parts = int(path.name[:2]), cells[0]["source"], split(cells)
    stated = re.search(r"\*\*Time\*\*: (\d+) minutes", first)
    heading = TITLE.match(first)
    if not stated or not heading:
        raise CourseError(f"{path} does not begin with its title and its minutes")
    minutes = int(stated[1])
    to_explain = minutes - sum(
        it.minutes for n, it in EXERCISES.items() if n.startswith(f"{number}.")
    )
    rate = to_explain / sum(map(reading_time, parts.values()))
    sections = [
        Section(
            numbered[1],
            numbered[2],
            minutes=max(SHORTEST, round(rate * reading_time(inside))),
            optional=any("You may skip" in it for it in paragraphs(inside)[:2]),
            cells=inside,
        )
        for name, inside in parts.items()
        if (numbered := re.fullmatch(r"(\d+\.\d+) (.+)", name))
    ]
    numbers = {f"{it.number} {it.title}" for it in sections}
    texts = {
        name: "\n\n".join(paragraphs(inside))
        for name, inside in parts.items()
        if name not in numbers
    }
    before = re.search(r"\*\*Before\*\*: (.+?)(?:\n\n|\Z)", first, re.DOTALL)
    goals = re.search(r"\*\*After this lesson you can\*\*\n\n(.+?)\n\n", first, re.S)
    return Lesson(
        number,
        path,
        heading["title"],
        " ".join(line[2:] for line in heading["summary"].splitlines()),
        goals[1] if goals else "",
        " ".join(without_links(before[1]).split()) if before else "",
        minutes,
        parts[""],
        sections,
        texts,
    )


def split(cells: list[Cell]) -> dict[str, list[Cell]]:
    """The cells below each `##` heading; a cell with two headings is cut in two."""
    parts: dict[str, list[Cell]] = {}
    name = ""
    for cell in cells:
        texts = [cell["source"]]
        if cell["cell_type"] == "markdown":
            texts = re.split(r"^(?=## )", cell["source"], flags=re.MULTILINE)
        for text in texts:
            if cell["cell_type"] == "markdown" and text.startswith("## "):
                heading, _, text = text.partition("\n")
                name = heading[3:].strip()
            if text.strip():
                parts.setdefault(name, []).append(cell | {"source": text.strip()})
    return parts


def reading_time(cells: list[Cell]) -> float:
    """Minutes to read cells without exercises: 180 words or 15 lines in a minute."""
    words = lines = 0
    for cell in cells:
        if cell["cell_type"] == "markdown" and not mark(cell):
            words += len(re.findall(r"\w\S*", FOLD.sub("", cell["source"])))
        elif not mark(cell):
            lines += sum(1 for line in cell["source"].splitlines() if line.strip())
    return words / 180 + lines / 15


def paragraphs(cells: list[Cell]) -> list[str]:
    """The paragraphs of the text cells, without exercises, folds and inner links."""
    texts = [
        without_links(FOLD.sub("", cell["source"]))
        for cell in cells
        if cell["cell_type"] == "markdown" and not mark(cell)
    ]
    return [it for it in re.split(r"\n\s*\n", "\n\n".join(texts)) if it.strip()]


def statement(section: Section, exercise: str) -> str:
    """What an exercise asks, without its heading and its hints."""
    for cell in section.cells:
        if mark(cell).get("exercise") == exercise and mark(cell)["role"] == "question":
            text = FOLD.sub("", cell["source"]).partition("\n")[2]
            return re.sub(r"\n{3,}", "\n\n", without_links(text)).strip()
    raise ValueError(f"section {section.number} has no exercise {exercise}")


def without_links(text: str) -> str:
    """The text, with links into the lessons replaced by their words."""
    return LINK.sub(r"\1", text)
