"""What the judges share: equal up to rounding, and tried with what."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from . import NotYet
from .watch import Unsound


def same(got: Tensor, right: Tensor, atol: float = 1e-9, rtol: float = 1e-5) -> bool:
    """Whether two tensors have one shape and are equal up to rounding."""
    return got.shape == right.shape and torch.allclose(got, right, rtol, atol)


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
