"""Checks of the exercises: `check("1.2", your_answer)` returns ok or raises a hint.

`judge` defines what an exercise is and how an answer is judged; the exercises of a
lesson are in `lesson_NN`. Their titles, minutes and reasons are written in the
notebooks, and exported from there to `exercises.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ..source import text_around
from .judge import JUDGES, Judge, NotYet
from .watch import NoAnswer, Unsound, blank_left, functions, in_time, tidy, where

__all__ = ["EXERCISES", "Exercise", "NotYet", "check", "judge_of"]

SECONDS = 60.0  # after this time we assume that an answer never ends
EMPTY = (
    "the blank is still empty: write your answer first, in place of `...` or of "
    "`raise NotImplementedError`; if your lines are there, delete that one"
)


@dataclass(frozen=True)
class Exercise:
    """The description of an exercise, from `exercises.json`.

    A right answer defines `names` in a `module` of `my_vit`.
    """

    title: str
    kind: str
    minutes: int
    difficulty: str
    section: str
    hints: list[str]
    reason: str
    module: str = ""
    names: Sequence[str] = ()


TABLE = json.loads(Path(__file__).with_name("exercises.json").read_text("utf-8"))
EXERCISES = {number: Exercise(**said) for number, said in TABLE.items()}


def judge_of(exercise: str) -> Judge:
    """The judge of an exercise; only the module of its lesson is imported."""
    import_module(f"{__name__}.lesson_{int(exercise.partition('.')[0]):02}")
    return JUDGES[exercise]


def check(exercise: str, answer: Any) -> str:
    """Judge an answer; returns "ok ..." if it is right, else raises NotYet with a hint.

    An answer is a function or a class, a value (predict), a letter (choose), or labels
    (order). Raises ValueError for an exercise that does not exist.
    """
    if exercise not in EXERCISES:
        raise ValueError(
            f"there is no exercise {exercise!r}: choose from {list(EXERCISES)}"
        )
    judge, answer, mistake = judge_of(exercise), tidy(answer), None
    for function in functions(answer):
        text_around(function)  # tracebacks find it from here on
    try:
        parts = answer if isinstance(answer, list | tuple) else (answer,)
        if any(part is ... for part in parts):
            raise NotYet(EMPTY)
        with torch.random.fork_rng(devices=[]):
            in_time(SECONDS, judge, answer)
    except NotYet as seen:
        mistake, hint = seen.mistake, seen.hint
    except Unsound as seen:
        hint = str(seen)
    except NoAnswer:
        hint = f"there was no answer after {SECONDS:.0f} s: which loop never ends?"
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"you stopped the check of {exercise}") from None
    except (Exception, SystemExit) as error:
        bare = isinstance(error, NotImplementedError) and not error.args
        hint = EMPTY if bare else where(error, answer)
    else:
        return f"ok {exercise}: {EXERCISES[exercise].title}"
    if blank_left(answer):
        mistake, hint = None, EMPTY
    section = EXERCISES[exercise].section
    raise NotYet(hint, mistake, exercise, section) from None
