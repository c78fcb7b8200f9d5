"""The agenda of a workshop: what fits into its hours, and what is cut.

The rule: lessons 0 to 8 come in order, without sections that a lesson says may be
skipped. If they take too long, each lesson keeps its shortest exercise only, then
lessons are cut from the end, and the time that is left goes to the shortest of the
exercises that were cut. If there is time left over, the lessons after 8 follow, each as
a whole.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from .. import CourseError
from ..checks import EXERCISES
from .outline import Lesson, Section, course

LONGEST_BLOCK, PAUSE, LUNCH = 90, 15, 45
CORE = 9  # lessons 0 to 8 come before all others


@dataclass(frozen=True)
class Item:
    """A line of the agenda; `key` is the number of a section or an exercise."""

    minutes: int
    title: str
    kind: str  # "explain", "exercise" or "room"
    lesson: int = -1
    key: str = ""


WELCOME = Item(10, "Welcome: everybody opens their workbook", "room")
GOODBYE = Item(5, "Look back, feedback form, what to do at home", "room")


@dataclass(frozen=True)
class Block:
    """Work without a break; `session` counts from 0, times are minutes of the day."""

    session: int
    begin: int
    end: int
    items: tuple[Item, ...] = ()

    @property
    def left(self) -> int:
        """Minutes that no item uses."""
        return self.end - self.begin - sum(it.minutes for it in self.items)


@dataclass(frozen=True)
class Agenda:
    """What fits, block by block, and what does not."""

    blocks: list[Block]
    lessons: list[Lesson]
    cut_lessons: list[Lesson]
    cut_sections: list[Section]
    cut_exercises: list[str]


def make_agenda(plan: str = "5h", begin: str = "9:00") -> Agenda:
    """Fill the hours of a plan by the rule at the top of this module.

    Args:
        plan: The length of the workshop with its breaks, such as `5h` or `90min`, or
            several sessions such as `2x6h`.
        begin: When each session begins, such as `9:00`.

    Raises:
        CourseError: If the plan or the time cannot be read, or is too short.
    """
    empty = make_blocks(*read_plan(plan), read_time(begin))
    lessons = course()
    shown, every = lessons[:CORE], set(EXERCISES)
    kept = every
    if fill(empty, shown, every):
        for lesson in lessons[CORE:]:
            if not fill(empty, [*shown, lesson], every):
                break
            shown = [*shown, lesson]
    else:
        kept = {min(lesson.exercises, key=length_of) for lesson in shown}
        while shown and not fill(empty, shown, kept):
            shown = shown[:-1]
        numbers = [number for lesson in shown for number in lesson.exercises]
        for number in sorted(numbers, key=length_of):
            if fill(empty, shown, kept | {number}):
                kept = kept | {number}
    if not shown:
        first = lessons[0]
        one = items([first], {min(first.exercises, key=length_of)})
        raise CourseError(
            f"the plan {plan!r} is too short: {first.title} with one exercise, a "
            f"welcome and a goodbye needs {sum(it.minutes for it in one)} minutes "
            "without a break; choose a longer one, such as 5h"
        )
    return Agenda(
        fill(empty, shown, kept),
        shown,
        lessons[len(shown) :],
        [it for lesson in shown for it in lesson.sections if it.optional],
        [n for lesson in shown for n in lesson.exercises if n not in kept],
    )


def read_plan(plan: str) -> tuple[int, int]:
    """How many sessions a plan has, and how many minutes each of them lasts."""
    found = re.fullmatch(r"(?:(\d{1,2})x)?(\d{1,3})(h|min)", plan.replace(" ", ""))
    if not found:
        raise CourseError(
            f"the plan {plan!r} is not a length: write 5h, 90min, 2x6h or 5x90min"
        )
    sessions = int(found[1] or 1)
    minutes = int(found[2]) * (60 if found[3] == "h" else 1)
    if not 1 <= sessions <= 20 or not 30 <= minutes <= 600:
        raise CourseError(
            f"the plan {plan!r} has {sessions} sessions of {minutes} minutes: choose 1 "
            "to 20 sessions of 30 minutes to 10 hours"
        )
    return sessions, minutes


def read_time(text: str) -> int:
    """A time such as `9:00` in minutes after midnight."""
    found = re.fullmatch(r"(\d{1,2}):(\d\d)", text)
    if not found or int(found[1]) > 23 or int(found[2]) > 59:
        raise CourseError(f"the time {text!r} is not one of a day: write it like 9:00")
    return 60 * int(found[1]) + int(found[2])


def clock(minutes: int) -> str:
    """Minutes after midnight as `9:05`; a late session goes on after midnight."""
    return f"{minutes // 60 % 24}:{minutes % 60:02}"


def make_blocks(sessions: int, length: int, begin: int) -> list[Block]:
    """Equal blocks with breaks between them; from 6 h on one is for lunch."""
    count, pauses = 1, list[int]()
    while length - sum(pauses) > count * LONGEST_BLOCK:
        count += 1
        pauses = [PAUSE] * (count - 1)
        if length >= 360:
            pauses[(count - 1) // 2] = LUNCH
    size = (length - sum(pauses)) // count
    starts = [begin + i * size + sum(pauses[:i]) for i in range(count)]
    return [Block(n, it, it + size) for n in range(sessions) for it in starts]


def fill(
    blocks: Sequence[Block], lessons: Sequence[Lesson], kept: Collection[str]
) -> list[Block]:
    """The blocks with all items in order, [] if they do not fit."""
    filled, rest = [], [*items(lessons, kept)]
    for block in blocks:
        inside: list[Item] = []
        room = block.end - block.begin
        while rest and rest[0].minutes <= room:
            room -= rest[0].minutes
            inside.append(rest.pop(0))
        filled.append(Block(block.session, block.begin, block.end, tuple(inside)))
    return [] if rest else [it for it in filled if it.items]


def items(lessons: Sequence[Lesson], kept: Collection[str]) -> Iterator[Item]:
    """The lines of an agenda: each section, and behind it its exercises."""
    yield WELCOME
    for lesson in lessons:
        for section in lesson.sections:
            key, n = section.number, lesson.number
            if not section.optional:
                yield Item(section.minutes, f"{key} {section.title}", "explain", n, key)
            for exercise in section.exercises:
                if exercise in kept:
                    it = EXERCISES[exercise]
                    title = f"Exercise {exercise} {it.title}"
                    yield Item(it.minutes, title, "exercise", n, exercise)
    yield GOODBYE


def length_of(exercise: str) -> int:
    """The minutes of an exercise."""
    return EXERCISES[exercise].minutes
