"""Wrong implementations of what the lessons build, and which of them a test catches."""

from collections.abc import Callable, Iterable, Mapping
from string import Formatter
from typing import Any

import torch

from .checks import judge_of

Test = Callable[[Any], None]


def wrong(exercise: str, *without: str) -> dict[str, Any]:
    """The known mistakes of an exercise as implementations, by what is wrong in them.

    Args:
        exercise: The exercise in which the function or class is written, such as "1.2".
        without: Names of mistakes to leave out.
    """
    return {
        f"{in_words(name)}{f' ({count + 1})' if count else ''}": made
        for name, known in judge_of(exercise).known().items()
        for count, made in enumerate(known.answers)
        if name not in without
    }


def in_words(mistake: str) -> str:
    """The name of a mistake as people read it."""
    return mistake.replace("-", " ")


def explained(exercise: str) -> list[str]:
    """The known mistakes of an exercise in Markdown, each with the hint that it gets.

    For a question with options, the letters of the wrong ones come first.
    """
    lines = []
    for mistake in judge_of(exercise).known().values():
        letters = [it for it in mistake.answers if isinstance(it, str) and len(it) == 1]
        name = ", ".join([*letters, in_words(mistake.name)])
        lines.append(f"- **{name[:1].upper()}{name[1:]}:** {readable(mistake.hint)}")
    return lines


def readable(hint: str) -> str:
    """A hint with three dots for each number that the check fills in."""
    parts = Formatter().parse(hint)
    text = "".join(text + "…" * (field is not None) for text, field, *_ in parts)
    return text or "The check describes what it observed."


def caught(
    test: Test, implementations: Mapping[str, Any], seeds: Iterable[int] = (0,)
) -> list[str]:
    """The names of the implementations for which a test fails.

    Args:
        test: A function that is called with an implementation, and raises an error (as
            `assert` does) if the implementation is wrong.
        implementations: Functions or classes by their names.
        seeds: The test runs once after each seed; it catches an implementation if it
            fails at least once.

    Raises:
        NotImplementedError: If the test is not written yet.
    """
    return [
        name
        for name, made in implementations.items()
        if any(fails(test, made, seed) for seed in seeds)
    ]


def fails(
    test: Test, implementation: Any, seed: int = 0, by: type[Exception] = Exception
) -> bool:
    """Whether a test fails for an implementation, by an error of the type `by`.

    By default every error counts, because a wrong implementation may lead to any.
    Raises the other errors, and NotImplementedError if the test is not written yet.
    """
    torch.manual_seed(seed)
    try:
        test(implementation)
    except NotImplementedError:
        raise
    except by:
        return True
    return False
