"""The old form of an exercise; goes away with the last lesson that uses it."""

from collections.abc import Callable, Mapping

from .judge import JUDGES, NotYet, expect
from .watch import Unsound, watched


def exercise(number: str, misconceptions: Mapping[str, str]) -> Callable:
    def register(judge):
        JUDGES[number] = lambda answer: judge(watched(answer))
        return judge

    return register


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
