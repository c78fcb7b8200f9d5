"""The agenda of a workshop: what fits into its hours, and what is cut.

The rule: lessons come in order, each with its shortest exercise, for as long as
explaining them takes at most three quarters of the time. The rest of the time is for
their other exercises, the shortest first.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from .. import CourseError
from ..checks import EXERCISES
from .outline import Lesson, course

LONGEST_BLOCK, PAUSE, LUNCH = 90, 15, 40
MOST = 0.75  # of the time for explaining


@dataclass(frozen=True)
class Item:
    """A line of the agenda, about a section or an exercise of a lesson, if any."""

    title: str
    minutes: int
    kind: str  # "explain", "exercise", "optional" or "room"
    lesson: int | None = None
    exercise: str = ""


WELCOME = Item("Welcome: everybody opens their workbook", 10, "room")
GOODBYE = Item("Look back, feedback form, what to do at home", 5, "room")


@dataclass(frozen=True)
class Block:
    """Work without a break; `session` counts from 0, times are minutes of the day."""

    session: int
    begin: int
    end: int
    items: tuple[Item, ...] = ()

    def minutes(self, kind: str) -> int:
        """The sum of the minutes of one kind of items."""
        return sum(it.minutes for it in self.items if it.kind == kind)

    @property
    def left(self) -> int:
        """Minutes that no item uses."""
        return self.end - self.begin - sum(it.minutes for it in self.items)


@dataclass(frozen=True)
class Agenda:
    """What fits, block by block, and what is cut: parts of lessons, or whole ones."""

    plan: str
    begin: str
    lessons: list[Lesson]
    blocks: list[Block]
    cut: list[Item]


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
    time = sum(it.end - it.begin for it in empty)
    lessons, chosen, blocks = list[Lesson](), list[Item](), list[Block]()
    for lesson in course():
        more = [*chosen, *core(lesson)]
        explained = sum(it.minutes for it in more if it.kind == "explain")
        filled = fill(empty, more)
        if not filled or explained > MOST * time:
            break
        lessons, chosen, blocks = [*lessons, lesson], more, filled
    parts = [it for lesson in lessons for it in items(lesson)]
    others = [it for it in parts if it.kind == "exercise" and it not in chosen]
    for exercise in sorted(others, key=lambda it: it.minutes):
        with_it = {*chosen, exercise}
        if filled := fill(empty, [it for it in parts if it in with_it]):
            chosen, blocks = [*with_it], filled
    if not blocks:
        raise CourseError(
            f"the plan {plan!r} is too short for a welcome, lesson 0 with an exercise, "
            "and a goodbye: choose a longer one, such as 1h"
        )
    cut = [it for it in parts if it not in chosen]
    for lesson in course()[len(lessons) :]:
        cut.append(Item(lesson.title, lesson.minutes, "lesson", lesson.number))
    return Agenda(plan, begin, lessons, blocks, cut)


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


def fill(blocks: Collection[Block], items: Collection[Item]) -> list[Block]:
    """The blocks with all items in order, [] if they do not fit."""
    filled, rest = [], [WELCOME, *items, GOODBYE]
    for block in blocks:
        inside: list[Item] = []
        room = block.end - block.begin
        while rest and rest[0].minutes <= room:
            room -= rest[0].minutes
            inside.append(rest.pop(0))
        filled.append(Block(block.session, block.begin, block.end, tuple(inside)))
    return [] if rest else [it for it in filled if it.items]


def items(lesson: Lesson) -> Iterator[Item]:
    """All parts of a lesson: each section, and after it its exercises."""
    for section in lesson.sections:
        kind = "optional" if section.optional else "explain"
        yield Item(section.title, section.minutes, kind, lesson.number)
        for number in section.exercises:
            it = EXERCISES[number]
            title = f"Exercise {number} {it.title}"
            yield Item(title, it.minutes, "exercise", lesson.number, number)


def core(lesson: Lesson) -> list[Item]:
    """The parts of a lesson that no agenda may cut: one exercise is enough."""
    parts = list(items(lesson))
    exercises = [it for it in parts if it.kind == "exercise"]
    shortest = min(exercises, key=lambda it: it.minutes, default=None)
    return [it for it in parts if it.kind == "explain" or it is shortest]
