"""Checks of the exercises: `check("1.2", your_answer)` says ok, or what was observed.

A check is a function of the answer (a function, a class, a value) that judges by
properties and by a referee. Each lesson's checks stand in `lesson_NN`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any


class NotYet(AssertionError):
    """An answer that is not right yet; its text, without a traceback, is the hint."""

    def __init__(self, exercise: str, hint: str) -> None:
        super().__init__(f"not yet, {exercise}: {hint}")
        self.exercise, self.hint = exercise, hint

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True)
class Exercise:
    """What the course knows of an exercise; `judge` raises the hint if it is wrong."""

    title: str
    kind: str
    minutes: int
    judge: Callable[[Any], None]


EXERCISES: dict[str, Exercise] = {}


def exercise(number: str, title: str, kind: str, minutes: int) -> Callable:
    """Register the decorated function as the judge of an exercise."""

    def register(judge: Callable[[Any], None]) -> Callable[[Any], None]:
        EXERCISES[number] = Exercise(title, kind, minutes, judge)
        return judge

    return register


def expect(fact: object, hint: str) -> None:
    """Go on if the fact holds, else say the hint."""
    if not fact:
        raise AssertionError(hint)


def expect_letter(answer: object, right: str, hints: dict[str, str]) -> None:
    """Go on if the answer is the right letter, else say the hint of the other one."""
    *first, last = sorted({right, *hints})
    letters = f"{', '.join(first)} or {last}"
    expect(answer in (*first, last), f"answer {letters}, got {answer!r}")
    expect(answer == right, hints.get(str(answer), ""))


def check(number: str, answer: object) -> str:
    """Judge an answer: "ok ..." if it is right, else NotYet with a hint."""
    if number not in EXERCISES:
        raise ValueError(
            f"there is no exercise {number!r}, choose from {list(EXERCISES)}"
        )
    try:
        if answer is ...:
            raise NotImplementedError
        EXERCISES[number].judge(answer)
    except NotImplementedError:
        hint = "the blank is still empty, write your answer first"
        raise NotYet(number, hint) from None
    except AssertionError as error:
        raise NotYet(number, str(error)) from None
    except Exception as error:
        hint = f"your answer raised {type(error).__name__}: {error}"
        raise NotYet(number, hint) from error
    return f"ok {number}: {EXERCISES[number].title}"


for _lesson in iter_modules(__path__):
    import_module(f"{__name__}.{_lesson.name}")
