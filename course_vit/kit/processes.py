"""Several processes that train as one: the start, the sharing, and the end.

`torchrun` starts the processes. A process alone needs nothing of this, and every
function here then returns what it was given.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map

from . import CourseError
from .launch import CONNECTION

PATIENCE = timedelta(minutes=5)  # a process that hangs longer ends the run


class Place(NamedTuple):
    """Which of the processes this is, how many there are, and its device."""

    rank: int
    number: int
    device: torch.device


class Disconnected(CourseError):
    """A different process has ended, so this one cannot go on."""


@contextmanager
def joined(device: str) -> Iterator[Place]:
    """Join the processes that torchrun has started, if it has, until the block ends.

    device: cpu, cuda or mps; each process of a computer gets its own GPU.

    Raises CourseError if there is no such device, and Disconnected inside the block
    if a different process ends.
    """
    launched = dist.is_available() and dist.is_torchelastic_launched()
    if launched and device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        torch.ones(1, device=device).item()
    except (AssertionError, RuntimeError) as error:
        raise CourseError(f"there is no device {device!r} on this computer") from error
    here = torch.device(device)
    if not launched:
        yield Place(0, 1, here)
        return
    if os.environ["WORLD_SIZE"] == os.environ["LOCAL_WORLD_SIZE"]:
        for name, value in CONNECTION.items():
            os.environ.setdefault(name, value)
    if here.type == "cuda":
        torch.cuda.set_device(here)
    backend = "nccl" if here.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    place = Place(dist.get_rank(), dist.get_world_size(), here)
    said = (
        f"process {place.rank} of {place.number} ends, because a different process has"
        " ended: repeat the command to continue"
    )

    def stopped(*_: object) -> None:
        raise Disconnected(said)

    before = signal.signal(signal.SIGTERM, stopped)  # sent by torchrun
    try:
        yield place
        dist.destroy_process_group()
    except RuntimeError as error:
        lost = ("peer", "gloo", "NCCL", "imed out", "Connection")
        if any(word in str(error) for word in lost):
            raise Disconnected(said) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def several() -> bool:
    """Whether this process has joined others."""
    return dist.is_available() and dist.is_initialized()


def mean_of_all(value: Tensor) -> Tensor:
    """The mean of a number over all processes, `() -> ()`; changes it in place."""
    if several():
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value


def one_does(action: Callable[[], Any]) -> Any:
    """Let the first process act; all get its result, or raise its CourseError."""
    if not several():
        return action()
    result: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            result[0] = action()
        except (CourseError, OSError) as error:
            result[1] = str(error)
    dist.broadcast_object_list(result)
    if result[1]:
        raise CourseError(result[1])
    return result[0]


def shared_work(function: Callable[[list], list], work: list) -> list:
    """Apply a function to a list, of which each process takes an equal part."""
    if not several():
        return function(work)
    parts: list[list] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, function(work[dist.get_rank() :: len(parts)]))
    return sorted(item for part in parts for item in part)


# --- The model in several processes ---


def spread(model: nn.Module, shard: bool) -> nn.Module:
    """Make the gradients of a model the mean over all processes.

    shard: whether each process keeps only its part of the weights (FSDP2); otherwise
        each keeps all of them (DDP).

    Raises CourseError if `shard` is impossible here.
    """
    if shard:
        if not several():
            raise CourseError("--shard needs torchrun: see course-vit train --help")
        try:
            from torch.distributed.fsdp import fully_shard
        except ImportError:
            raise CourseError("--shard needs torch 2.6 or newer") from None
        mesh = dist.init_device_mesh(
            next(model.parameters()).device.type, (dist.get_world_size(),)
        )
        blocks: Any = model.blocks
        for part in (*blocks, model):
            # The last part, too, lets go of what it gathered, because its own weights
            # may be exchanged for their averages before it is used again.
            fully_shard(part, mesh=mesh, reshard_after_forward=True)
        return model
    if not several():
        return model
    return DistributedDataParallel(model)


def synchronise(model: nn.Module, on: bool) -> None:
    """Whether the next backward pass shares its gradients with other processes."""
    share: Any = getattr(model, "set_requires_gradient_sync", None)  # FSDP2
    if share:
        share(on)
    elif isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = on  # what model.no_sync() sets


def whole(state: Any) -> Any:
    """The same state with whole tensors in place of a process's parts.

    All processes must call this.
    """
    return tree_map(lambda x: x.full_tensor() if is_part(x) else x, state)


def part_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """This process's part of a whole tensor, if `pattern` is a part, too."""
    if not is_part(pattern) or tensor.shape != pattern.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    where: Any = pattern
    return distribute_tensor(tensor, where.device_mesh, where.placements)


def is_part(x: Any) -> bool:
    return hasattr(x, "full_tensor")
