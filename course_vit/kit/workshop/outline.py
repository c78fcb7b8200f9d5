"""What a room needs to know of each lesson: its sections, their minutes, its words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from html import escape
from pathlib import Path

from .. import COURSE, CourseError
from ..checks import EXERCISES
from ..exercises import FOLD, Cell, lessons, mark, read

FIRST_CELL = re.compile(
    r"# (?P<title>[^\n]+)\n\n(?P<summary>(?:> [^\n]+\n)+)\n"
    r"\*\*After this lesson you can\*\*\n\n(?P<goals>.+?)\n\n"
    r"\*\*Time\*\*: (?P<minutes>\d+) minutes.*?"
    r"\*\*Before\*\*: (?P<before>.+?)(?:\n\n|\Z)",
    re.DOTALL,
)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)\s]*\)")
LIST = ("- ", "1.")  # how a list begins
SHORTEST = 2  # minutes to explain a section, however little it says


@dataclass(frozen=True)
class Section:
    """A numbered section: `minutes` to explain it, without those of its exercises."""

    title: str
    minutes: int
    cells: list[Cell]

    @cached_property
    def exercises(self) -> dict[str, str]:
        """What each exercise asks, without its heading and its hints, by number."""
        return {
            mark(it)["exercise"]: text_of(it).partition("\n")[2].strip()
            for it in self.cells
            if mark(it).get("role") == "question"
        }

    @property
    def optional(self) -> bool:
        """Whether the section says that it may be skipped."""
        return any("You may skip" in it for it in paragraphs(self.cells)[:2])

    @property
    def question(self) -> str:
        """The paragraph with the question that the section asks first, "" if none."""
        asked = "**Question.**"
        return next((it for it in paragraphs(self.cells) if it.startswith(asked)), "")

    @property
    def first_paragraph(self) -> str:
        """The first paragraph that is neither the question nor advice to skip.

        What explains a formula, follows a colon or is a list belongs to it, if it is in
        the same cell. After an exercise nothing is found, since it may be the answer.
        """
        others = ("**Question.**", "*You may skip", "```")
        for cell in self.cells:
            found = [it for it in paragraphs([cell]) if not it.startswith(others)]
            if found or mark(cell):
                first, second = [*found, "", ""][:2]
                joined = first.endswith(":") or "$$" in first or second[:2] in LIST
                return f"{first}\n\n{second}".strip() if joined else first
        return ""

    def code_above(self, number: str) -> str:
        """The code right above an exercise, if the exercise is about it.

        That is a question to fix something that does not show the code itself, or to
        choose if no picture is above it. Of a folded cell it is what the cell printed.
        """
        kind, code = EXERCISES[number].kind, list[str]()
        needed = kind == "fix" and "```" not in self.exercises[number]
        if not needed and (kind != "choose" or self.pictures_above(number)):
            return ""
        for cell in reversed(self.before(number)):
            if cell["cell_type"] != "code" or mark(cell):
                break
            if folded(cell):
                return f"```text\n{printed(cell)}\n```"
            code.insert(0, re.sub(r"\n{3,}", "\n\n", cell["source"]))
        return "```python\n{}\n```".format("\n\n".join(code)) if code else ""

    def pictures_above(self, number: str) -> list[str]:
        """The pictures above an exercise in its section, as HTML."""
        return [it for cell in self.before(number) for it in figures(cell)]

    def before(self, number: str) -> list[Cell]:
        """The cells of the section before an exercise."""
        numbers = [mark(it).get("exercise") for it in self.cells]
        return self.cells[: numbers.index(number)]


@dataclass(frozen=True)
class Lesson:
    """One lesson as a room needs it.

    `first` are the cells above the first section; `texts` are the paragraphs of every
    section by its heading, such as "Key points".
    """

    number: int
    path: Path
    title: str
    summary: str
    goals: str
    before: str
    minutes: int
    first: list[Cell]
    sections: list[Section]
    texts: dict[str, str]

    @property
    def exercises(self) -> list[str]:
        """The numbers of its exercises, in order."""
        return [number for it in self.sections for number in it.exercises]


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
    said = FIRST_CELL.match(without_links(cells[0]["source"]))
    if not said:
        raise CourseError(
            f"{path} does not begin with its title, summary, goals, minutes, and what "
            "comes before it"
        )
    parts, minutes = split(cells), int(said["minutes"])
    numbers = [mark(it)["exercise"] for it in cells if mark(it)]
    exercises = sum(EXERCISES[number].minutes for number in dict.fromkeys(numbers))
    rate = (minutes - exercises) / sum(map(reading_time, parts.values()))
    sections = [
        Section(name, max(SHORTEST, round(rate * reading_time(inside))), inside)
        for name, inside in parts.items()
        if re.match(r"\d+\.\d+ ", name)
    ]
    texts = {name: "\n\n".join(paragraphs(inside)) for name, inside in parts.items()}
    return Lesson(
        int(path.name[:2]),
        path,
        said["title"],
        said["summary"].replace("\n>", "").removeprefix("> ").strip(),
        said["goals"],
        " ".join(said["before"].split()),
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
    """The paragraphs of the text cells that belong to no exercise."""
    texts = [
        text_of(it) for it in cells if it["cell_type"] == "markdown" and not mark(it)
    ]
    return [it for it in re.split(r"\n\s*\n", "\n\n".join(texts)) if it.strip()]


def figures(cell: Cell) -> Iterator[str]:
    """The pictures that a cell has drawn, as HTML with their alt texts."""
    for output in cell.get("outputs", []):
        if png := output.get("data", {}).get("image/png"):
            alt = escape(output["metadata"]["image/png"]["alt"])
            data = "".join("".join(png).split())
            yield f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def folded(cell: Cell) -> bool:
    """Whether the lesson shows the code of a cell only to those who unfold it."""
    return bool(cell["metadata"].get("jupyter", {}).get("source_hidden"))


def printed(cell: Cell) -> str:
    """The text that a cell has printed."""
    return "".join("".join(it.get("text", "")) for it in cell["outputs"]).rstrip()


def text_of(cell: Cell) -> str:
    """The text of a cell without what is folded, such as hints, and without links."""
    return re.sub(r"\n{3,}", "\n\n", without_links(FOLD.sub("", cell["source"])))


def without_links(text: str) -> str:
    """The text, with links into the lessons replaced by their words."""
    return LINK.sub(r"\1", text)
