"""A dry run of a workshop: how long the computer of a room works in each block.

`python tests/dry_run.py 5h` prints a table. Every lesson of the agenda is opened in its
live form and run from top to bottom, as by a presenter: each blank, its answer, its
check. A check that does not pass ends the run.
"""

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

from course_vit.kit.exercises import Cell, mark
from course_vit.kit.workbook import Workbook
from course_vit.kit.workshop.agenda import Agenda, clock, make_agenda
from course_vit.kit.workshop.outline import Lesson, outline


def dry_run(agenda: Agenda, folder: Path) -> list[float]:
    """The seconds that each block of an agenda computes.

    A workbook in the live form is made in the folder. A cell counts for the block of
    its exercise, or else of its section; what the agenda leaves out counts for the
    block before it, because later cells may need it.
    """
    Workbook(folder).start("live")
    places = {
        it.exercise or it.title: n
        for n, block in enumerate(agenda.blocks)
        for it in block.items
    }
    spent, now = [0.0] * len(agenda.blocks), 0
    for lesson in agenda.lessons:
        path = folder / lesson.path.name
        notebook = nbformat.read(path, as_version=4)
        where = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=300, resources=where).execute()
        nbformat.write(notebook, path)
        for title, cell in cells(outline(path)):
            now = places.get(mark(cell).get("exercise", title), now)
            spent[now] += seconds(cell)
    return spent


def cells(lesson: Lesson) -> Iterator[tuple[str, Cell]]:
    """The cells of a lesson, each with the title of its section, or of the first."""
    yield from ((lesson.sections[0].title, cell) for cell in lesson.first)
    for section in lesson.sections:
        yield from ((section.title, cell) for cell in section.cells)


def seconds(cell: Cell) -> float:
    """How long a cell ran, as the client noted it."""
    names = ("iopub.status.busy", "iopub.status.idle")
    noted = cell["metadata"].get("execution", {})
    times = [datetime.fromisoformat(noted[it].rstrip("Z")) for it in names if noted]
    return (times[1] - times[0]).total_seconds() if times else 0.0


if __name__ == "__main__":
    agenda = make_agenda(*sys.argv[1:])
    with TemporaryDirectory() as folder:
        spent = dry_run(agenda, Path(folder) / "talk")
    print("block: minutes to explain, for exercises, left over; seconds of computing")
    for block, took in zip(agenda.blocks, spent, strict=True):
        minutes = block.minutes("explain"), block.minutes("exercise"), block.left
        print(clock(block.begin), "to", clock(block.end), *minutes, f"{took:.1f}")
