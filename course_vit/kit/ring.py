"""A ring of processes, imitated in one."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor

from . import CourseError

MOST = 100  # exchanges, after which we assume that a function never ends


class Waits(BaseException):
    """A process waits for a chunk; an `except Exception` does not catch this."""


def in_a_ring(
    function: Callable[..., Any], tensors: Sequence[Tensor]
) -> tuple[list[Any], int]:
    """Run a function in each process of an imaginary ring.

    It is called as `function(tensor, rank, world_size, exchange)`. Inside it,
    `exchange(chunk)` sends a chunk to the next process of the ring, and returns the
    chunk that the process before has sent.

    The processes advance in turns. One that waits is stopped, and in the next turn it
    starts again with everything that it has received so far.

    Args:
        function: What every process does.
        tensors: The tensor of each process.

    Returns:
        What each process returned, and how many numbers the first one sent.

    Raises:
        CourseError: If a process waits for a chunk that is never sent, if chunks of
            different shapes are exchanged, or if the exchanges do not end.
    """
    count, received = 0, [list[Tensor]() for _ in tensors]
    for _ in range(MOST):
        results, sent = turn(function, tensors, received)
        if not sent:
            return list(results.values()), count
        if results:
            raise CourseError(
                f"process {min(sent)} waits for a chunk, but process {min(results)} has"
                " returned: every process must call exchange equally often"
            )
        shapes = {tuple(chunk.shape) for chunk in sent.values()}
        if len(shapes) > 1:
            raise CourseError(
                f"in one exchange the chunks have the shapes {sorted(shapes)}: each"
                " process must send as much as it receives"
            )
        count += sent[0].numel()
        for rank, inbox in enumerate(received):
            inbox.append(sent[(rank - 1) % len(tensors)])
    raise CourseError(f"there is no end after {MOST} exchanges: which loop never ends?")


def turn(
    function: Callable[..., Any],
    tensors: Sequence[Tensor],
    received: Sequence[Sequence[Tensor]],
) -> tuple[dict[int, Any], dict[int, Tensor]]:
    """Run every process until it returns or waits for a chunk that has not come yet.

    Returns:
        By rank, what the processes returned and what the waiting ones sent.
    """
    results, sent = dict[int, Any](), dict[int, Tensor]()
    for rank, tensor in enumerate(tensors):
        inbox = iter(received[rank])

        def exchange(chunk: Tensor, rank: int = rank, inbox: Any = inbox) -> Tensor:
            for arrived in inbox:
                return arrived.clone()
            sent[rank] = chunk.detach().clone()
            raise Waits

        with suppress(Waits):
            results[rank] = function(tensor.clone(), rank, len(tensors), exchange)
    return results, sent
