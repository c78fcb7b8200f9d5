"""What a right idea still has to stand: other axes, other numbers, sizes of 1."""

from collections.abc import Iterator
from contextlib import contextmanager

from . import NotYet
from .watch import Unsound


@contextmanager
def trying(what: str) -> Iterator[None]:
    """Say with what an answer was tried, if it stumbles there."""
    try:
        yield
    except NotYet:
        raise
    except Unsound as seen:
        raise NotYet(f"right so far, but not for {what}: {seen}") from None
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise NotYet(f"right so far, but {what} raised {said}") from None
