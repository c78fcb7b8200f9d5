"""The kit of a workshop: all that an instructor prints, shows and sends.

Everything is made from the lessons and the checks, except for the texts beside this
file, in Markdown.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat

from .. import CourseError
from ..checks import EXERCISES, judge_of
from ..exercises import KINDS
from ..forms import make_form
from ..markdown import page, table
from ..mistakes import explained
from ..storage import digest, read_json, write
from .agenda import Agenda, clock, make_agenda
from .outline import Lesson, course
from .slides import slides

HERE = Path(__file__).parent
WRITTEN = "kit.json"  # what the command wrote, so that nothing else is overwritten
MISTAKES = 6  # of an exercise are listed; the others are folded
OPTION = re.compile(r'^- \*{0,2}([A-Z])\b|"([A-Z])"', re.MULTILINE)


def workshop(folder: Path, plan: str = "5h", begin: str = "9:00") -> list[str]:
    """Write the kit of a workshop into a folder, and say what to open.

    Args:
        folder: Where the kit is written. It must be empty, or hold a kit that nobody
            has changed since.
        plan: The length of the workshop, see `make_agenda`.
        begin: When each session begins.

    Raises:
        CourseError: If the plan is not one, or the folder holds files of yours.
    """
    agenda = make_agenda(plan, begin)
    must_be_ours(folder)
    files = dict(kit(agenda))
    written = {name: digest(folder / name, files[name]) for name in sorted(files)}
    write(folder / WRITTEN, f"{json.dumps(written, indent=1)}\n".encode())
    for name, content in files.items():
        write(folder / name, content)
    megabytes = sum(map(len, files.values())) / 1e6
    return [
        f"{folder}: {len(files)} files, {megabytes:.0f} MB, for lessons 0 to "
        f"{agenda.lessons[-1].number} in {plan}; the agenda lists what is cut",
        f"open {folder / 'index.html'}: it says how to prepare in two hours",
    ]


def must_be_ours(folder: Path) -> None:
    """Raise CourseError if a folder holds a file that `workshop` did not write."""
    if folder.exists() and not folder.is_dir():
        raise CourseError(f"{folder} is a file: name a folder for the kit")
    written = read_json(folder / WRITTEN, validate)
    for path in sorted(folder.rglob("*")) if folder.exists() else []:
        name = path.relative_to(folder).as_posix()
        known = name == WRITTEN or written.get(name) == digest(path)
        if path.is_symlink() or not (path.is_dir() or known):
            raise CourseError(
                f"{path} is not a file that this command wrote, or you have changed "
                "it since; nothing was written: move it away, or name an empty folder"
            )


def validate(written: object) -> None:
    """Raise ValueError for what cannot be the list of written files."""
    if not isinstance(written, dict):
        raise ValueError(f"expected files and their digests, got {written!r}")


def kit(agenda: Agenda) -> Iterator[tuple[str, bytes]]:
    """Every file of the kit with its content."""
    facts = {"plan": agenda.plan, "begin": agenda.begin}
    facts["last"] = str(agenda.lessons[-1].number)
    pages = {
        "index": text_of("index", **facts, lessons=links()),
        "agenda": text_of("agenda", **facts, blocks=blocks(agenda), cut=cut(agenda)),
        "notes": text_of("notes"),
        "votes": votes(),
        "feedback": text_of("feedback"),
        "checkpoints": text_of("checkpoints", lessons=checkpoints()),
    }
    yield "emails.md", text_of("emails", **facts).encode()
    for lesson in course():
        number = f"{lesson.number:02}"
        pages[f"notes/{number}"] = notes(lesson, agenda)
        pages[f"take_home/{number}"] = take_home(lesson, agenda)
        yield f"slides/{number}.html", slides(lesson).encode()
        live = make_form(nbformat.read(lesson.path, as_version=4), "live")
        yield f"live/{lesson.path.name}", (nbformat.writes(live) + "\n").encode()
    for name, text in pages.items():
        yield f"{name}.html", page(text).encode()
    for path in [HERE / "slides.css", *sorted((HERE / "reveal").iterdir())]:
        yield f"slides/{path.relative_to(HERE).as_posix()}", path.read_bytes()


def text_of(name: str, **parts: str) -> str:
    """A text that lies beside this file, with its parts filled in."""
    text = (HERE / f"{name}.md").read_text("utf-8")
    for place, part in parts.items():
        text = text.replace(f"<!-- {place} -->", part)
    return text


def links() -> str:
    """A table with the files of each lesson."""
    rows = [
        [
            it.title,
            f"[notes {it.number}](notes/{it.number:02}.html)",
            f"[slides {it.number}](slides/{it.number:02}.html)",
            f"[notebook {it.number}](live/{it.path.name})",
            f"[page {it.number}](take_home/{it.number:02}.html)",
        ]
        for it in course()
    ]
    return table(["lesson", "notes", "slides", "live", "to take home"], rows)


def checkpoints() -> str:
    """A table of what each lesson needs, and how to begin there."""
    rows = [
        [it.title, it.before, str(it.minutes), f"`course-vit catch-up {it.number}`"]
        for it in course()
    ]
    return table(["lesson", "what it needs", "minutes", "how to begin here"], rows)


# --- The agenda ---


def blocks(agenda: Agenda) -> str:
    """A table for each block, below its hours and its sums."""
    parts, end = [], 0
    for block in agenda.blocks:
        if block.begin > end > 0:
            parts.append(f"**Break of {block.begin - end} minutes**")
        end, now, rows = block.end, block.begin, []
        session = f"Session {block.session + 1}, " * (agenda.blocks[-1].session > 0)
        parts.append(f"## {session}{clock(block.begin)} to {clock(block.end)}")
        parts.append(
            f"{block.minutes('explain')} minutes to explain, "
            f"{block.minutes('exercise')} for exercises, {block.left} left over."
        )
        for it in block.items:
            title = f"**{it.title}**" if it.kind == "exercise" else it.title
            if it.lesson is not None:
                title = f"[{title}](notes/{it.lesson:02}.html)"
            rows.append([clock(now), title, it.kind, str(it.minutes), " "])
            now += it.minutes
        parts.append(table(["time", "what", "kind", "minutes", "measured"], rows))
    return "\n\n".join(parts)


def cut(agenda: Agenda) -> str:
    """A table of what does not fit, and where learners find it."""
    rows = []
    for it in agenda.cut:
        lesson = course()[it.lesson or 0]
        home = f"[page {lesson.number}](take_home/{lesson.number:02}.html)"
        rows.append([it.title, str(it.minutes), f"`{lesson.path.name}`", home])
    head = ["what", "minutes", "in the workbook", "to take home"]
    return table(head, rows) if rows else "Nothing."


# --- The notes ---


def notes(lesson: Lesson, agenda: Agenda) -> str:
    """What to say in each section, what goes wrong, and when to stop."""
    parts = [f"# Notes: {lesson.title}", lesson.summary]
    parts += ["## What must stick", lesson.texts["Key points"]]
    for it in lesson.sections:
        parts += [f"## {it.title}", f"> Stop after {it.minutes} minutes."]
        parts += ["It may be skipped, and the agenda skips it."] * it.optional
        parts.append(it.question)
        if said := it.first_paragraph:
            gap = "\n\n" if said.startswith("|") else " "  # a table needs an empty line
            parts.append(f"**Then say.**{gap}{said}")
        for number, asked in it.exercises.items():
            parts += exercise_notes(number, asked, number in left(lesson, agenda))
    return "\n\n".join(parts)


def exercise_notes(number: str, asked: str, at_home: bool) -> list[str]:
    """An exercise with its answer, if it is short, and its known mistakes."""
    it, mistakes = EXERCISES[number], explained(number)
    answer = "folded in the live notebook"
    if it.kind in ("choose", "predict", "order"):
        answer = f"`{judge_of(number).right}`"
    stop = f"> {KINDS[it.kind].capitalize()}, {it.difficulty}. Stop after {it.minutes}"
    stop += f" minutes.{' The agenda leaves it for home.' * at_home}"
    parts = [f"### Exercise {number} {it.title}", stop, asked]
    parts += [f"**The answer** is {answer}.", it.reason]
    if mistakes:
        parts += ["**What the room will get wrong:**", "\n".join(mistakes[:MISTAKES])]
    if rest := mistakes[MISTAKES:]:
        fold = f"<summary>{len(rest)} more that the check recognises</summary>"
        parts += [f"<details>{fold}", "\n".join(rest), "</details>"]
    return parts


# --- What learners see ---


def votes() -> str:
    """Cards to hold up, and a page for each question."""
    asked = [
        (number, section)
        for lesson in course()
        for section in lesson.sections
        for number in section.exercises
        if EXERCISES[number].kind in ("choose", "predict")
    ]
    found = (OPTION.findall(section.exercises[number]) for number, section in asked)
    letters = sorted({"".join(it) for options in found for it in options})
    cards = "".join(f'<div class="card">{letter}</div>' for letter in letters)
    parts = ["# Votes", "## Cards", f'<div class="cards">{cards}</div>']
    for number, section in asked:
        it, pictures = EXERCISES[number], section.pictures_above(number)
        parts += ['<div class="projector">', f"## {number} {it.title}"]
        parts += pictures[-1:] if it.kind == "choose" else []
        parts += [section.code_above(number), section.exercises[number], "</div>"]
    return "\n\n".join(parts)


def take_home(lesson: Lesson, agenda: Agenda) -> str:
    """One page for each lesson: key points, common mistakes, what is left to do."""
    parts = [f"# To take home: {lesson.title}", lesson.summary]
    for name in ("Key points", "Common mistakes"):
        if text := lesson.texts.get(name):
            parts += [f"## {name}", text]
    if numbers := left(lesson, agenda):
        minutes = sum(EXERCISES[it].minutes for it in numbers)
        lines = (f"- {it} {EXERCISES[it].title}" for it in numbers)
        parts += [f"## Left to do, {minutes} minutes", '<div class="columns">']
        parts += ["\n".join(lines), "</div>"]
    where = f"All of it is in `{lesson.path.name}` in your workbook"
    parts.append(f'{where}; "below" means below in the lesson.')
    return "\n\n".join(parts)


def left(lesson: Lesson, agenda: Agenda) -> list[str]:
    """The exercises of a lesson that the agenda leaves for home."""
    shown = {it.exercise for block in agenda.blocks for it in block.items}
    return [number for number in lesson.exercises if number not in shown]
