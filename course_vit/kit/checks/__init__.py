"""Checks of the exercises: `check("1.2", your_answer)` says ok, or what was observed.

A check is a function of the answer (a function, a class, a value) that judges by
properties and by a referee. Each lesson's checks stand in `lesson_NN`; what the course
says of an exercise stands in its notebook, and is printed into `exercises.json`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from .watch import NoAnswer, Unsound, blank_left, time_limit, watched, where

__all__ = ["EXERCISES", "Exercise", "NotYet", "check", "exercise", "expect"]

TABLE = json.loads(Path(__file__).with_name("exercises.json").read_text("utf-8"))
SECONDS = 60.0  # longer than this and an answer is taken never to end


class NotYet(AssertionError):
    """An answer that is not right yet; its text, without a traceback, is the hint.

    `misconception` is the name of the idea behind it, a key of the exercise's
    `misconceptions`, or None where only the observation is known.
    """

    def __init__(
        self, hint: str, misconception: str | None = None, exercise: str = ""
    ) -> None:
        super().__init__(hint)
        self.exercise, self.misconception, self.hint = exercise, misconception, hint

    def __str__(self) -> str:
        text = f"not yet, {self.exercise}: {self.hint}"
        section = EXERCISES[self.exercise].section if self.exercise in EXERCISES else ""
        return f"{text}\nTo read again: section {section}" if section else text

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True)
class Exercise:
    """What the course knows of an exercise.

    `misconceptions` are names of known wrong ideas, each with the belief behind it;
    `judge` takes an answer and raises NotYet if it is wrong. A right answer defines
    `names` in a `module` of `my_vit`.
    """

    title: str
    kind: str
    minutes: int
    difficulty: str
    section: str
    hints: tuple[str, ...]
    reason: str
    misconceptions: Mapping[str, str]
    judge: Callable[[Any], None]
    module: str = ""
    names: Sequence[str] = ()


EXERCISES: dict[str, Exercise] = {}


def exercise(number: str, misconceptions: Mapping[str, str]) -> Callable:
    """Register the decorated function as the judge of an exercise."""
    if number not in TABLE:
        rule = f"no notebook asks exercise {number}"
        raise ValueError(f"{rule}: mark its cells, then run `make export`")

    def register(judge: Callable[[Any], None]) -> Callable[[Any], None]:
        known = {**TABLE[number], "hints": tuple(TABLE[number]["hints"])}
        EXERCISES[number] = Exercise(
            **known, misconceptions=misconceptions, judge=judge
        )
        return judge

    return register


def expect(fact: object, hint: str, misconception: str | None = None) -> None:
    """Go on if the fact holds, else say the hint."""
    if not fact:
        raise NotYet(hint, misconception)


def expect_letter(
    answer: object, right: str, wrong: Mapping[str, tuple[str, str]]
) -> None:
    """Go on if the answer is the right letter, else say what the other one means.

    `wrong` gives, for every other letter, its misconception and its hint.
    """
    *first, last = sorted({right, *wrong})
    letter = str(answer).strip().upper()
    letters = f"{', '.join(first)} or {last}"
    expect(letter in (*first, last), f"answer {letters}, got {answer!r}")
    if letter != right:
        misconception, hint = wrong[letter]
        raise NotYet(hint, misconception)


def expect_raises(
    function: Callable,
    arguments: tuple,
    kind: type[Exception],
    what: str,
    misconception: str | None = None,
) -> None:
    """`function` must refuse these arguments, with this kind of error."""
    rule = f"{what} should raise {kind.__name__}"
    try:
        function(*arguments)
    except kind:
        return
    except NotYet:
        raise
    except Unsound as seen:
        raise NotYet(f"{rule}, instead {seen}") from None
    except Exception as error:
        hint = f"{rule}, got {type(error).__name__}: {error}"
        raise NotYet(hint, misconception) from None
    raise NotYet(f"{rule}, and nothing was raised", misconception)


def check(exercise: str, answer: object) -> str:
    """Judge an answer: "ok ..." if it is right, else NotYet with a hint.

    An answer is a function or a class, a value (predict), a letter (choose), or labels
    (order). Raises ValueError for an exercise that does not exist.
    """
    if exercise not in EXERCISES:
        rule = f"there is no exercise {exercise!r}, choose from {list(EXERCISES)}"
        raise ValueError(rule)
    empty = "the blank is still empty, write your answer first"
    try:
        parts = answer if isinstance(answer, tuple) else (answer,)
        if any(part is ... for part in parts):
            raise NotYet(empty)
        with time_limit(SECONDS):
            EXERCISES[exercise].judge(watched(answer))
    except NotYet as seen:
        misconception, hint = seen.misconception, seen.hint
    except Unsound as seen:
        misconception, hint = None, str(seen)
    except NoAnswer:
        misconception, hint = None, f"no answer after {SECONDS:.0f} s: does a loop end?"
    except Exception as error:
        bare = isinstance(error, NotImplementedError) and not error.args
        misconception, hint = None, empty if bare else where(error, answer)
    else:
        return f"ok {exercise}: {EXERCISES[exercise].title}"
    if blank_left(answer):
        misconception, hint = None, empty
    raise NotYet(hint, misconception, exercise) from None


for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
