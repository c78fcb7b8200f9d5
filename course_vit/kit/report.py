"""The class report: how far a room is, which exercise stops it, and by which mistake.

Each learner writes one small file with `share` and hands it over; `report` turns the
files of a room into one page and one table. Nothing is sent anywhere.
"""

import csv
import io
import json
import reprlib
import secrets
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from statistics import median, median_low
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import CourseError
from .checks import EXERCISES, judge_of
from .mistakes import in_words
from .plots import BLUE, ORANGE, describe, figure
from .storage import course_version, locked, read_json, write
from .workbook import Workbook, by_mistake

OTHER = "not recognised"
COLUMNS = ("exercise", "title", "passed", "stuck", "attempts", "mistakes")


@dataclass(frozen=True)
class Row:
    """One exercise in a room.

    `passed` and `stuck` count learners (stuck: refused at least once, not passed yet),
    `attempts` is the median of those who passed, 0 if none did, and `mistakes` counts
    the learners who made each.
    """

    exercise: str
    title: str
    passed: int
    stuck: int
    attempts: float
    mistakes: Counter[str]


def share(workbook: Workbook, name: str = "") -> list[str]:
    """Write what a learner shows the instructor into one file, and say what is in it.

    The file holds which exercises passed, how often each was refused, and which
    mistakes the checks recognised. It has a random code, and a name only if one is
    given; it holds no code of the learner and no path.
    """
    workbook.must_exist()
    notes = workbook.notes()
    with locked(workbook.folder):
        memory = workbook.memory()
        code = memory["code"] or secrets.token_hex(4)
        workbook.remember(code=code)
    shown = {
        "course_vit": course_version(),
        "code": code,
        "name": name,
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "passed": [number for number in EXERCISES if number in notes],
        "refused": memory["refused"],
    }
    path = workbook.folder / f"shared-{code}.json"
    write(path, f"{json.dumps(shown, indent=1)}\n".encode())
    whose = f"the name {name!r}" if name else "no name"
    return [
        f"{path}: {len(shown['passed'])} exercises passed, what the checks refused, "
        f"{whose}, and none of your code",
        "nothing was sent: give this file to your instructor if you want to",
    ]


def report(places: Sequence[Path], folder: Path) -> list[str]:
    """Write `report.html` and `report.csv` into a folder, and say what they show.

    Args:
        places: Files that `share` wrote, or folders with such files.
        folder: Where the page and the table are written; it is made if it is missing.

    Raises:
        CourseError: If there is no file, or none that can be read.
    """
    paths = [path for it in places for path in files_in(it)]
    shown, said = read_all(paths)
    if not shown:
        said.append(
            "No file of a learner could be read: each learner makes one with "
            "course-vit progress --share"
        )
        raise CourseError("\n".join(said))
    rows = [row(number, shown) for number in EXERCISES]
    rows = [row for row in rows if row.passed or row.stuck]
    summary = sentences(shown, rows)
    write(folder / "report.csv", as_csv(rows).encode())
    write(folder / "report.html", as_html(shown, rows, summary).encode())
    return [*said, *summary, f"The page is {folder / 'report.html'}."]


def files_in(place: Path) -> list[Path]:
    """The file itself, or the files of learners in a folder."""
    return sorted(place.glob("shared-*.json")) if place.is_dir() else [place]


def read_all(paths: Sequence[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """What each learner showed last, and a sentence about each file left out."""
    latest: dict[str, dict[str, Any]] = {}
    said = []
    for path in paths:
        try:
            shown = read_json(path, validate)
            if not shown:
                raise CourseError(f"{path} does not exist")
        except CourseError as error:
            said.append(f"Left out: {error}")
            continue
        before = latest.get(shown["code"])
        if before:
            said.append(
                f"Learner {shown['code']} has several files; the newest counts."
            )
        if not before or before["written"] <= shown["written"]:
            latest[shown["code"]] = shown | {"refused": by_mistake(shown["refused"])}
    return [*latest.values()], said


def validate(shown: Any) -> None:
    """Raise ValueError for what `share` cannot have written."""
    if not isinstance(shown, dict):
        raise ValueError(f"expected what a learner shows, got {reprlib.repr(shown)}")
    for key in ("code", "name", "written"):
        if not isinstance(shown.get(key), str):
            raise ValueError(f"expected text for {key}, got {shown.get(key)!r}")
    passed = shown.get("passed")
    if not isinstance(passed, list) or not all(isinstance(it, str) for it in passed):
        raise ValueError(f"expected passed exercises, got {reprlib.repr(passed)}")
    by_mistake(shown.get("refused"))


def row(number: str, room: Sequence[dict[str, Any]]) -> Row:
    """What a room did with one exercise."""
    known = judge_of(number).known()
    attempts, stuck, mistakes = [], 0, Counter[str]()
    for learner in room:
        refused = learner["refused"].get(number, {})
        mistakes.update({name if name in known else OTHER for name in refused})
        if number in learner["passed"]:
            attempts.append(sum(refused.values()) + 1)
        elif refused:
            stuck += 1
    middle = median(attempts) if attempts else 0
    title = EXERCISES[number].title
    return Row(number, title, len(attempts), stuck, middle, mistakes)


def sentences(room: Sequence[dict[str, Any]], rows: Sequence[Row]) -> list[str]:
    """What an instructor wants to know first."""
    done, people = [len(learner["passed"]) for learner in room], learners(len(room))
    said = [
        f"{people} shared progress. Half of the room has passed {median_low(done)} or "
        f"more of {len(EXERCISES)} exercises; the numbers go from {min(done)} to "
        f"{max(done)}."
    ]
    hard = max(rows, key=lambda row: row.stuck, default=None)
    if hard and hard.stuck:
        said.append(
            f"Exercise {hard.exercise} ({hard.title}) stops most people: "
            f"{learners(hard.stuck)} tried it and did not pass yet."
        )
    made = [(n, it, row) for row in rows for it, n in row.mistakes.items()]
    if named := [it for it in made if it[1] != OTHER]:
        count, mistake, row = max(named, key=lambda it: it[0])
        said.append(
            f"The most common mistake is {in_words(mistake)!r} in exercise "
            f"{row.exercise}: {learners(count)} made it."
        )
    return said


def learners(count: int) -> str:
    return f"{count} learner{'s' * (count != 1)}"


def cells(row: Row) -> list[str]:
    """A row of the table as text."""
    counted = sorted(row.mistakes.most_common(), key=lambda it: it[0] == OTHER)
    made = [f"{in_words(name)} ({n})" for name, n in counted]
    attempts = f"{row.attempts:g}" if row.attempts else ""
    counts = [str(row.passed), str(row.stuck), attempts]
    return [row.exercise, row.title, *counts, "; ".join(made)]


def as_csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *map(cells, rows)])
    return text.getvalue()


def as_html(
    room: Sequence[dict[str, Any]], rows: Sequence[Row], summary: Sequence[str]
) -> str:
    """One page: the summary, the picture and both tables."""
    people = [
        [it["name"] or it["code"], str(len(it["passed"])), it["written"][:10]]
        for it in sorted(room, key=lambda it: len(it["passed"]))
    ]
    drawn, svg = picture(rows, len(room)), io.BytesIO()
    drawn.savefig(svg, format="svg")
    return PAGE.format(
        summary="".join(f"<p>{escape(it)}</p>\n" for it in summary),
        alt=escape(str(drawn.get_label())),
        svg=b64encode(svg.getvalue()).decode(),
        exercises=html_table("Exercises", COLUMNS, [cells(row) for row in rows]),
        learners=html_table("Learners", ("learner", "passed", "day"), people),
    )


def html_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
    head = "".join(f'<th scope="col">{escape(it)}</th>' for it in columns)
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        f"{''.join(f'<td>{escape(it)}</td>' for it in rest)}</tr>"
        for first, *rest in rows
    )
    return (
        f"<table><caption>{title}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table>"
    )


def picture(rows: Sequence[Row], size: int) -> Figure:
    """A bar for each exercise: who passed it, and who tried it and did not pass yet."""
    fig, (ax,) = figure(height=1.2 + 0.28 * len(rows))
    names = [f"{row.exercise} {row.title}" for row in rows]
    passed, stuck = [row.passed for row in rows], [row.stuck for row in rows]
    ax.barh(names, passed, color=BLUE, label="passed")
    ax.barh(
        names, stuck, left=passed, color=ORANGE, hatch="//", label="tried, not passed"
    )
    ax.set(xlim=(0, size), xlabel=f"learners (of {size})")
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.legend(loc="outside upper right", ncols=2)
    counts = ", ".join(f"{row.exercise}: {row.passed} and {row.stuck}" for row in rows)
    return describe(
        fig,
        "A horizontal bar for each exercise, as long as the number of learners who "
        f"passed it and, after them, of those who tried it and did not pass: {counts}.",
    )


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Class report</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
body {{ margin: 1.5rem auto; max-width: 62rem; padding: 0 1rem; }}
img {{ background: white; max-width: 100%; }}
table {{ border-collapse: collapse; margin: 1.5rem 0; }}
caption {{ font-size: 1.2rem; font-weight: bold; text-align: left; }}
th, td {{ border-bottom: 1px solid; padding: 0.2rem 0.6rem; text-align: left; }}
</style>
</head>
<body>
<h1>Class report</h1>
{summary}
<img alt="{alt}" src="data:image/svg+xml;base64,{svg}">
{exercises}
{learners}
</body>
</html>
"""
