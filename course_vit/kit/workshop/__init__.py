"""The kit of a workshop: all that an instructor prints, shows and sends.

Everything is made from the lessons and the checks, except for the texts beside this
file: `index.md`, `emails.md`, `feedback.md` and `before_notes.md`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import nbformat

from .. import CourseError
from ..checks import EXERCISES, judge_of
from ..exercises import KINDS
from ..forms import make_form
from ..mistakes import in_words, readable
from ..storage import digest, read_json, write
from .agenda import Agenda, clock, make_agenda
from .html import HERE, as_html, in_line, page, table
from .outline import Lesson, Section, course, statement
from .slides import slides

WRITTEN = "kit.json"  # what the command wrote, so that nothing else is overwritten
MISTAKES = 6  # of an exercise are listed; the others are folded


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
    files = dict(kit(agenda, plan, begin))
    written = {name: digest(folder / name, files[name]) for name in sorted(files)}
    write(folder / WRITTEN, f"{json.dumps(written, indent=1)}\n".encode())
    for name, content in files.items():
        write(folder / name, content)
    megabytes = sum(map(len, files.values())) / 1e6
    last = agenda.lessons[-1].number
    return [
        f"{folder}: {len(files)} files, {megabytes:.0f} MB, for lessons 0 to {last} in "
        f"{plan}; the agenda lists what is cut",
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


def kit(agenda: Agenda, plan: str, begin: str) -> Iterator[tuple[str, bytes]]:
    """Every file of the kit with its content."""
    last = agenda.lessons[-1].number
    parts = {"plan": plan, "begin": begin, "last": str(last)}
    yield "index.html", template("index", parts | {"lessons": lesson_links()})
    yield "agenda.html", agenda_page(agenda, plan).encode()
    yield "notes.html", template("before_notes", parts | {"lessons": note_links()})
    yield "votes.html", votes_page().encode()
    yield "feedback.html", template("feedback", parts)
    yield "checkpoints.html", checkpoints_page().encode()
    yield "emails.md", filled("emails", parts).encode()
    for lesson in course():
        number = f"{lesson.number:02}"
        yield f"notes/{number}.html", notes_page(lesson, agenda).encode()
        yield f"slides/{number}.html", slides(lesson).encode()
        yield f"take_home/{number}.html", take_home_page(lesson, agenda).encode()
        live = make_form(nbformat.read(lesson.path, as_version=4), "live")
        yield f"live/{lesson.path.name}", (nbformat.writes(live) + "\n").encode()
    for path in sorted((HERE / "reveal").iterdir()):
        yield f"slides/reveal/{path.name}", path.read_bytes()


def filled(name: str, parts: dict[str, str]) -> str:
    """A text that lies beside this file, with its parts filled in."""
    text = (HERE / f"{name}.md").read_text("utf-8")
    for mark, part in parts.items():
        text = text.replace(f"<!-- {mark} -->", part)
    return text


def template(name: str, parts: dict[str, str]) -> bytes:
    """The page of a text; its first line is the heading."""
    heading, _, body = filled(name, parts).partition("\n")
    return page(heading.removeprefix("# "), as_html(body)).encode()


def lesson_links() -> str:
    """A table in Markdown with the files of each lesson."""
    lines = ["| lesson | notes | slides | live | take home |", "|---|---|---|---|---|"]
    for it in course():
        n, title = f"{it.number:02}", it.title
        pages = [
            f"[{kind} {it.number}]({folder}/{n}.html)"
            for kind, folder in (("notes", "notes"), ("slides", "slides"))
        ]
        live = f"[notebook {it.number}](live/{it.path.name})"
        home = f"[page {it.number}](take_home/{n}.html)"
        lines.append(f"| {title} | {' | '.join([*pages, live, home])} |")
    return "\n".join(lines)


def note_links() -> str:
    """A list in Markdown of the notes of each lesson."""
    return "\n".join(f"- [{it.title}](notes/{it.number:02}.html)" for it in course())


# --- The agenda ---


def agenda_page(agenda: Agenda, plan: str) -> str:
    """The run sheet: a table for each block, and what was cut."""
    parts, session = [], -1
    for n, block in enumerate(agenda.blocks):
        if block.session != session:
            session = block.session
            sessions = agenda.blocks[-1].session + 1
            title = (
                f"Session {session + 1} of {sessions}" if sessions > 1 else "Run sheet"
            )
            parts.append(f"<h2>{title}</h2>")
        elif pause := block.begin - agenda.blocks[n - 1].end:
            kind = "Lunch" if pause > 30 else "Break"
            parts.append(f"<p><strong>{kind}, {pause} minutes.</strong></p>")
        parts.append(block_table(agenda, n))
    said = (
        f"<p>This is a plan of {plan} with its breaks. The minutes to explain are the "
        "time that a section takes to read at an even pace; those of an exercise are "
        "stated in its lesson. Write how long it really took into the last column: "
        "your next agenda will be better than this one. No block is longer than 90 "
        "minutes, and the time that a block has left over is yours.</p>"
    )
    return page("Agenda", "\n".join([said, *parts, what_is_cut(agenda)]))


def block_table(agenda: Agenda, n: int) -> str:
    """The table of one block, with the time at which each item begins."""
    block, now, rows = agenda.blocks[n], agenda.blocks[n].begin, []
    for item in block.items:
        what = {"explain": "explain", "exercise": "exercise", "room": ""}[item.kind]
        kind = f' class="{item.kind}"'
        title = in_line(item.title)
        if item.lesson >= 0:
            title = f'<a href="notes/{item.lesson:02}.html">{title}</a>'
        rows.append(
            f'<tr{kind}><th scope="row">{clock(now)}</th><td>{title}</td>'
            f"<td>{what}</td>"
            f'<td class="number">{item.minutes}</td><td class="measured"></td></tr>'
        )
        now += item.minutes
    total = sum(it.minutes for it in block.items)
    head = ("time", "what", "kind", "minutes", "measured")
    columns = "".join(f'<th scope="col">{it}</th>' for it in head)
    caption = f"{clock(block.begin)} to {clock(block.end)}"
    body = "\n".join(rows)
    return (
        f"<table><caption>{caption}</caption>\n<thead><tr>{columns}</tr></thead>\n"
        f'<tbody>\n{body}\n</tbody>\n<tfoot><tr><th scope="row">{clock(now)}</th>'
        f'<td>end, {block.left} minutes left over</td><td></td><td class="number">'
        f'{total}</td><td class="measured"></td></tr></tfoot></table>'
    )


def what_is_cut(agenda: Agenda) -> str:
    """What does not fit, and where learners find it at home."""
    rows = []
    for lesson in agenda.lessons:
        rows += [
            cut_row(lesson, f"{it.number} {it.title}", it.minutes)
            for it in agenda.cut_sections
            if it in lesson.sections
        ]
        rows += [
            cut_row(lesson, f"Exercise {n} {EXERCISES[n].title}", EXERCISES[n].minutes)
            for n in lesson.exercises
            if n in agenda.cut_exercises
        ]
    rows += [cut_row(it, it.title, it.minutes) for it in agenda.cut_lessons]
    if not rows:
        return "<h2>What is cut</h2>\n<p>Nothing.</p>"
    head = ("what", "minutes", "in the workbook", "summary")
    return f"<h2>What is cut</h2>\n{table('To read and do at home', head, rows)}"


def cut_row(lesson: Lesson, title: str, minutes: int) -> list[str]:
    page = f"take_home/{lesson.number:02}.html"
    home = f'<a href="{page}">take-home page {lesson.number}</a>'
    return [in_line(title), str(minutes), f"<code>{lesson.path.name}</code>", home]


# --- The notes ---


def notes_page(lesson: Lesson, agenda: Agenda) -> str:
    """What to say in each section, what goes wrong, and when to stop."""
    parts = [f"<p>{in_line(lesson.summary)}</p>"]
    if points := lesson.texts.get("Key points"):
        parts.append(f"<h2>What must stick</h2>\n{as_html(points)}")
    for section in lesson.sections:
        parts.append(section_notes(section))
        parts += [exercise_notes(section, it, agenda) for it in section.exercises]
    return page(f"Notes: {lesson.title}", "\n".join(parts))


def section_notes(section: Section) -> str:
    skip = " It may be skipped, and the agenda skips it." if section.optional else ""
    minutes = f"{section.minutes} minute{'s' * (section.minutes != 1)}"
    parts = [
        f"<h2>{in_line(f'{section.number} {section.title}')}</h2>",
        f'<p class="stop">Stop after {minutes}.{skip}</p>',
    ]
    if section.question:
        parts.append(f"<p><strong>Ask:</strong> {in_line(section.question)}</p>")
    if section.first_paragraph:
        parts.append("<p><strong>Then say:</strong></p>")
        parts.append(as_html(section.first_paragraph))
    return "\n".join(parts)


def exercise_notes(section: Section, number: str, agenda: Agenda) -> str:
    """An exercise with its answer, if it is voted on, and its known mistakes."""
    it = EXERCISES[number]
    shown = any(item.key == number for b in agenda.blocks for item in b.items)
    where = "" if shown else " The agenda leaves it for home."
    live = f"live/{course()[int(number.partition('.')[0])].path.name}"
    parts = [
        f"<h3>{in_line(f'Exercise {number} {it.title}')}</h3>",
        f'<p class="stop">{KINDS[it.kind].capitalize()}, {it.difficulty}. Stop after '
        f"{it.minutes} minutes.{where}</p>",
        as_html(statement(section, number)),
        f"<p><strong>The answer</strong> is folded in <code>{live}</code>.</p>",
    ]
    if it.kind in ("choose", "predict", "order"):
        answer = in_line(f"`{judge_of(number).right}`")
        parts[-1] = f"<p><strong>The answer</strong> is {answer}.</p>"
    parts.append(as_html(it.reason))
    if mistakes := known_mistakes(number):
        first, rest = mistakes[:MISTAKES], mistakes[MISTAKES:]
        parts.append("<p><strong>What the room will get wrong:</strong></p>")
        parts.append(as_html("\n".join(first)))
        if rest:
            parts.append(
                f"<details><summary>{len(rest)} more that the check recognises"
                f"</summary>\n{as_html(chr(10).join(rest))}</details>"
            )
    return "\n".join(parts)


def known_mistakes(number: str) -> list[str]:
    """The mistakes that the check of an exercise knows, as lines in Markdown."""
    lines = []
    for it in judge_of(number).known().values():
        letters = [a for a in it.answers if isinstance(a, str) and len(a) == 1]
        chosen = f"{', '.join(letters)}, " if letters else ""
        name = in_words(it.name)
        name = f"{chosen}{name}" if chosen else name.capitalize()
        lines.append(f"- **{name}:** {readable(it.hint)}")
    return lines


# --- What learners see ---


def votes_page() -> str:
    """Cards to hold up, and a page for each question."""
    cards = "".join(f'<div class="card">{letter}</div>' for letter in "ABCD")
    parts = [f'<h2>Cards</h2>\n<div class="cards">{cards}</div>']
    for lesson in course():
        for section in lesson.sections:
            for number in section.exercises:
                if EXERCISES[number].kind in ("choose", "predict"):
                    title = in_line(f"{number} {EXERCISES[number].title}")
                    asked = as_html(statement(section, number))
                    parts.append(
                        f'<div class="projector">\n<h2>{title}</h2>\n{asked}\n</div>'
                    )
    return page("Votes", "\n".join(parts))


def take_home_page(lesson: Lesson, agenda: Agenda) -> str:
    """One page for each lesson: key points, common mistakes, what is left to do."""
    parts = [f"<p>{in_line(lesson.summary)}</p>"]
    for name in ("Key points", "Common mistakes"):
        if text := lesson.texts.get(name):
            parts.append(f"<h2>{name}</h2>\n{as_html(text)}")
    whole = lesson in agenda.cut_lessons
    left = [n for n in lesson.exercises if whole or n in agenda.cut_exercises]
    if left:
        head = ("exercise", "task", "minutes", "section to read")
        rows = [
            [
                in_line(f"{n} {it.title}"),
                KINDS[it.kind],
                str(it.minutes),
                in_line(it.section),
            ]
            for n in left
            if (it := EXERCISES[n])
        ]
        parts.append(f"<h2>Left to do</h2>\n{table('Exercises', head, rows)}")
    parts.append(
        f"<p>You find all of it in <code>{lesson.path.name}</code> in your workbook. "
        "<code>course-vit lab</code> opens the workbook at your next exercise. Where "
        'this page says "below", it means the lesson.</p>'
    )
    return page(f"To take home: {lesson.title}", "\n".join(parts))


def checkpoints_page() -> str:
    """Which lesson needs what, and how a latecomer begins there."""
    rows = [
        [
            in_line(it.title),
            in_line(it.before),
            str(it.minutes),
            f"<code>course-vit catch-up {it.number}</code>",
        ]
        for it in course()
    ]
    head = ("lesson", "what it needs", "minutes", "how to begin here")
    said = (
        "<p>Nobody depends on having finished what came before: a blank that is still "
        "empty uses the course's version. Somebody who comes late, or was ill, runs "
        "one command and is where the room is.</p>"
    )
    return page("Checkpoints", f"{said}\n{table('Where to begin', head, rows)}")
