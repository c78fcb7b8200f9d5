"""Checks of lesson 16: gradients, rows and messages of several processes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler, TensorDataset

from .. import CourseError, solutions
from ..ring import in_a_ring
from .judge import NotYet, answers, by_letter, draw, exercise, expect

# 16.1 The gradient of the whole batch

PIECES = (5, 2, 1)
WHOLE = solutions.whole_gradient


def of_pieces(*sizes: int) -> Callable[[Any], Tensor]:
    gradients = [draw(4, seed=size) for size in sizes]
    return lambda answer: answer(list(gradients), list(sizes))


unequal_pieces = exercise(
    "16.1",
    right=WHOLE,
    trial=[of_pieces(*PIECES), of_pieces(3, 4)],
    also={"pieces of equal size": of_pieces(2, 2)},
)
unequal_pieces.mistakes |= {
    "mean-of-means: you averaged the gradients of 5, 2 and 1 images as if they counted"
    " equally. How much of your result comes from the piece with a single image?": (
        lambda gradients, sizes: torch.stack(gradients).mean(dim=0)
    ),
    "sum-for-mean: you added up the gradients. With eight equal images the result would"
    " be three times the gradient of one image. What should it be?": (
        lambda gradients, sizes: torch.stack(gradients).sum(dim=0)
    ),
    "never-divided: each gradient counts once for each of its images, which is right;"
    " but the sum over all images is not their mean. What is missing?": (
        lambda gradients, sizes: sum(
            g * n for g, n in zip(gradients, sizes, strict=True)
        )
    ),
    "divided-by-pieces: the sum over all images is divided by the number of pieces."
    " How many images are in that sum?": (
        lambda gradients, sizes: (
            sum(g * n for g, n in zip(gradients, sizes, strict=True)) / len(sizes)
        )
    ),
    "weighted-the-wrong-way: the smallest piece has the largest weight in your result."
    " Which piece says most about the batch?": (
        lambda gradients, sizes: (
            sum(g / n for g, n in zip(gradients, sizes, strict=True))
            / sum(1 / n for n in sizes)
        )
    ),
}

# 16.2 The rows of a process


def rows(steps: range) -> Callable[[Any], list[list[list[int]]]]:
    """For each step the rows of three processes, in batches of 6 of 22 images."""
    order = torch.randperm(22, generator=torch.Generator().manual_seed(0))

    def run(answer: Any) -> list[list[list[int]]]:
        def of(step: int, rank: int) -> list[int]:
            return torch.as_tensor(answer(order.clone(), step, 6, rank, 3)).tolist()

        return [[of(step, rank) for rank in range(3)] for step in steps]

    return run


whose_rows = exercise(
    "16.2",
    right=solutions.my_rows,
    trial=[rows(range(3)), rows(range(3, 4))],
    measures={
        "first": lambda got, _: got[0],
        "batch": lambda _, right: [row for piece in right[0] for row in piece],
        "sizes": lambda got, _: [len(piece) for piece in got[-1]],
    },
    otherwise="the first batch is {batch}, and your three processes got {first}. Put"
    " together in the order of the processes, these pieces should be the batch",
)
whose_rows.mistakes |= {
    "halves-of-the-data: the first batch is {batch}, and your processes got {first}:"
    " each takes its images from its own part of the whole order, so one process alone"
    " would see different batches. What should be cut into pieces?": (
        lambda order, step, size, rank, n: order.tensor_split(n)[rank][
            step * (size // n) : (step + 1) * (size // n)
        ]
    ),
    "every-third-row: your processes got {first} of the batch {batch}. The gradient"
    " will be right, but put together in the order of the processes the rows are not"
    " the batch. Are the rows of one process neighbours in the batch?": (
        lambda order, step, size, rank, n: order[step * size : (step + 1) * size][
            rank::n
        ]
    ),
    "a-batch-for-each: every process got a whole batch of 6, so the global batch has 18"
    " images. How many of 6 belong to one process?": (
        lambda order, step, size, rank, n: order[
            (step * n + rank) * size : (step * n + rank + 1) * size
        ]
    ),
    "the-same-for-all: every process got the same rows, {first}, so three processes do"
    " the work of one. Where does the rank matter?": (
        lambda order, step, size, rank, n: order[step * size : (step + 1) * size]
    ),
    "places-for-images: your processes got {first}: these are places in the order, and"
    " not the images that the order has there": (
        lambda order, step, size, rank, n: torch.arange(len(order))[
            step * size : (step + 1) * size
        ].tensor_split(n)[rank]
    ),
    "last-rows-lost: the last batch has 4 images, and your processes got {sizes} of"
    " them. Which process trains on the rest?": (
        lambda order, step, size, rank, n: (
            batch := order[step * size : (step + 1) * size]
        )[rank * (len(batch) // n) : (rank + 1) * (len(batch) // n)]
    ),
    "last-process-empty: of the 4 images of the last batch your processes got {sizes}."
    " The mean loss of zero images is nan. How do 4 images spread over 3 processes?": (
        lambda order, step, size, rank, n: order[step * size : (step + 1) * size][
            rank * (size // n) : (rank + 1) * (size // n)
        ]
    ),
}

# 16.3 All-reduce


def ring(world_size: int) -> Callable[[Any], tuple[Tensor, int]]:
    """What the processes return, `n numbers`, and how many numbers one has sent."""
    tensors = [draw(12, seed=rank) for rank in range(world_size)]

    def run(answer: Any) -> tuple[Tensor, int]:
        try:
            found, sent = in_a_ring(answer, tensors)
        except CourseError as error:
            raise NotYet(f"with {world_size} processes: {error}") from None
        expect(
            all(isinstance(it, Tensor) and it.shape == (12,) for it in found),
            "each process must return a tensor of the shape that it got, (12,); yours"
            f" returned {[tuple(getattr(it, 'shape', ())) for it in found]}",
        )
        return torch.stack(found), sent

    return run


def means(world_size: int) -> Callable[[Any], Tensor]:
    return lambda answer: ring(world_size)(answer)[0]


def all_reduce_like(
    first: str = "add", begin: int = 1, divide: bool = True, second: str = "replace"
) -> Callable[..., Tensor]:
    """A way to write exercise 16.3, right or with a mistake in one of its parts."""

    def all_reduce(x: Tensor, rank: int, world_size: int, exchange: Any) -> Tensor:
        parts = list(x.chunk(world_size))
        for start, rule in ((0, first), (begin, second)):
            for step in range((world_size - 1) * (rule != "skip")):
                mine = (rank + start - step) % world_size
                arrived = exchange(parts[mine])
                parts[mine - 1] = arrived + (rule == "add") * parts[mine - 1]
        return torch.cat(parts) / (world_size if divide else 1)

    return all_reduce


def whole_vectors(x: Tensor, rank: int, world_size: int, exchange: Any) -> Tensor:
    total, passed = x, x
    for _ in range(world_size - 1):
        passed = exchange(passed)
        total = total + passed
    return total / world_size


def adding_up(x: Tensor, rank: int, world_size: int, exchange: Any) -> Tensor:
    """Adds its own vector to what arrives, and passes the sum on."""
    total = x
    for _ in range(world_size - 1):
        total = x + exchange(total)
    return total / world_size


def with_a_neighbour(x: Tensor, rank: int, world_size: int, exchange: Any) -> Tensor:
    return (x + exchange(x)) / 2


all_reduced = exercise(
    "16.3",
    right=solutions.all_reduce,
    trial={
        "": means(3),
        "one process alone has the mean already: return what it has": means(1),
        "whole-vectors-sent": lambda answer: ring(4)(answer)[1],
    },
    also={"two processes": means(2), "six processes": means(6)},
    otherwise="with three processes, only {count} of 36 numbers are the mean, and the"
    " others are off by up to {off:.2g}: which chunk does a process send in each"
    " exchange?",
    measures={"count": lambda got, right: int(torch.isclose(got, right).sum())},
)
all_reduced.mistakes |= {
    "no-exchange: every process returned what it had, so the weights drift apart. What"
    " do the others have?": lambda x, rank, world_size, exchange: x,
    "one-neighbour: each process averaged with one neighbour, which is right for two"
    " processes only. How does a number reach the process after the next?": (
        with_a_neighbour
    ),
    "sum-for-mean: every process has the same numbers, three times too large: is it"
    " the sum or the mean?": all_reduce_like(divide=False),
    "first-round-only: in each process one chunk of three is the mean, and the other"
    " two are not finished: which process has finished them?": all_reduce_like(
        second="skip"
    ),
    "added-twice: in the second round a finished chunk arrives, and you added yours to"
    " it once more. What should happen to yours?": all_reduce_like(second="add"),
    "sums-lost: every process has the same numbers, but no sums: each chunk is that of"
    " one process, divided by three. Which chunk is finished in your process after the"
    " first round?": answers(
        all_reduce_like(begin=0), all_reduce_like(first="replace")
    ),
    "whole-vectors-sent: the mean is right, but with 4 processes each sends {got}"
    " numbers for a vector of 12, and {right} would be enough. What if a message were"
    " one chunk?": answers(whole_vectors, adding_up),
}

# 16.4 Four logs

FAULTS = {"A": "seed", "B": "sum", "C": "epoch", "D": "weights"}


def named(answer: Any) -> dict[str, str]:
    """The fault of each run; only the four words are accepted."""
    said = by_letter(answer, "ABCD")
    got = {letter: str(fault).strip().lower() for letter, fault in said.items()}
    unknown = sorted(set(got.values()) - set(FAULTS.values()))
    choices = ", ".join(sorted(FAULTS.values()))
    expect(not unknown, f"choose among {choices}; got {', '.join(unknown)}")
    return got


def fault_of(letter: str) -> Callable[[Any], str]:
    return lambda answer: named(answer)[letter]


four_logs = exercise(
    "16.4",
    right=FAULTS,
    trial={
        "sum-not-seen": fault_of("B"),
        "weights-not-seen": fault_of("D"),
        "order-not-seen": fault_of("C"),
        "seed-not-seen": fault_of("A"),
    },
)
four_logs.mistakes |= {
    "sum-not-seen: in B the gradient is exactly twice as long as that of the whole"
    " batch, and there are two processes. What did they leave out?": (
        FAULTS | {"B": "weights", "D": "sum"}
    ),
    "weights-not-seen: in D the two processes hold different models before the first"
    " step. What should all processes have in common at the start?": (
        FAULTS | {"D": "seed", "A": "weights"}
    ),
    "order-not-seen: in C every image of the second epoch is where it was in the first."
    " What should change between two epochs?": FAULTS | {"C": "seed", "A": "epoch"},
    "seed-not-seen: in A the processes changed different images in the same way. Which"
    " numbers did both of them draw?": FAULTS | {"A": "sum"},
}

# 16.5 A script with two faults


def epoch(number: int, rank: int) -> Callable[[Any], tuple[list[int], Tensor]]:
    """The images of one process of two in an epoch, and their shifts."""

    def run(answer: Any) -> tuple[list[int], Tensor]:
        images, shifts = answer(number, rank, 2)
        shape = f"return 6 images and 6 shifts, got {len(images)} and {len(shifts)}"
        expect(len(images) == len(shifts) == 6, shape)
        return [int(image) for image in images], torch.as_tensor(shifts)

    return run


def orders(answer: Any) -> list[list[int]]:
    """The images of both processes in three epochs."""
    return [epoch(e, rank)(answer)[0] for e in range(3) for rank in range(2)]


def shifts_repeated(answer: Any) -> int:
    """How many of six pairs of an epoch and a process draw the shifts of another."""
    pairs = [(e, rank) for e in range(3) for rank in range(2)]
    drawn = {tuple(epoch(*pair)(answer)[1].tolist()) for pair in pairs}
    return len(pairs) - len(drawn)


def same_again(answer: Any) -> bool:
    """Whether an epoch draws the same shifts when it is run once more."""
    first = epoch(2, 1)(answer)[1]
    torch.rand(5)  # a run that was continued has drawn other numbers before
    return torch.equal(first, epoch(2, 1)(answer)[1])


def epoch_like(
    order: Callable[[int, int], int | None],
    seed: Callable[[int, int, int], int | None],
) -> Callable[..., tuple[list[int], Tensor]]:
    """A way to write exercise 16.5, from the seeds of the order and of the shifts."""

    def epoch_of_process(epoch: int, rank: int, world_size: int) -> tuple:
        images = TensorDataset(torch.arange(12))
        sampler: DistributedSampler = DistributedSampler(images, world_size, rank)
        sampler.set_epoch(order(epoch, rank) or 0)
        if (number := seed(epoch, rank, world_size)) is not None:
            torch.manual_seed(number)
        return list(sampler), torch.randn(len(sampler))

    return epoch_of_process


two_faults = exercise(
    "16.5",
    right=solutions.epoch_of_process,
    trial={
        "in three epochs your two processes got the images {got}; expected {right}": (
            orders
        ),
        "seed-shared": shifts_repeated,
        "seed-left-to-chance": same_again,
    },
    measures={"first": lambda got, _: got[0]},
)
two_faults.mistakes |= {
    "order-never-changes: process 0 got the images {first} in every epoch. Which method"
    " tells the sampler the epoch?": answers(
        epoch_like(lambda e, r: 0, lambda e, r, n: e * n + r),
        epoch_like(lambda e, r: 0, lambda e, r, n: e),
    ),
    "order-by-process: in one epoch your processes got {got[0]} and {got[1]}: they"
    " shuffled differently, so some images appear twice and others not at all": (
        epoch_like(lambda e, r: e + r, lambda e, r, n: e * n + r)
    ),
    "seed-shared: of six draws (three epochs, two processes) {got} repeat the shifts of"
    " another one, since both processes use the same seed": (
        epoch_like(lambda e, r: e, lambda e, r, n: e)
    ),
    "seed-without-epoch: of six draws (three epochs, two processes) {got} repeat the"
    " shifts of another one: the processes differ, but each epoch is like the first": (
        epoch_like(lambda e, r: e, lambda e, r, n: r)
    ),
    "seeds-collide: of six draws (three epochs, two processes) {got} repeat the shifts"
    " of another one. Which seed does process 1 use in epoch 0, and process 0 in epoch"
    " 1?": epoch_like(lambda e, r: e, lambda e, r, n: e + r),
    "seed-left-to-chance: the same epoch of the same process drew different shifts the"
    " second time, so a run that is continued is not the same run. Where does the seed"
    " come from?": epoch_like(lambda e, r: e, lambda e, r, n: None),
}
# 16.6 Memory at 448 pixels

memory = exercise(
    "16.6",
    right=(785, 16, 5),
    trial=[
        lambda answer: answer[0],
        lambda answer: round(answer[1]),
        lambda answer: round(answer[2]),
    ],
)
memory.mistakes |= {
    "class-token-forgotten: {got} patches are right. What else is in the sequence?": (
        784,
        16,
        5,
    ),
    "class-token-four-times: {got} = 4 x 197. There are four times as many patches. Are"
    " there four class tokens, too?": (788, 16, 5),
    "one-side-counted: {got} is about 2 x 197. The image has twice the width and twice"
    " the height. By which factor does the number of patches grow?": answers(
        (394, 16, 5), (393, 16, 5)
    ),
    "matrix-grows-like-tokens: there are 4 times as many tokens. How many rows does the"
    " matrix have, and how many columns?": (785, 4, 5),
    "matrix-grows-like-the-side: the side doubles, and the number of tokens grows with"
    " its square. How does the matrix grow with the number of tokens?": (785, 2, 5),
    "heads-forgotten: 785 x 785 numbers of 4 bytes, in 12 blocks for 32 images, are 0.9"
    " GiB. How many such matrices does one block have?": (785, 16, 1),
    "blocks-or-images-forgotten: {got} GiB is too little: multiply by all heads, all"
    " blocks and all images": (785, 16, 0),
    "bytes-of-bf16: that is the number for 2 bytes each. How many bytes does a"
    " number have in float32?": (785, 16, 3),
    "billions-for-gib: 5.7 billion bytes are right, but a GiB has 2**30 bytes": (
        785,
        16,
        6,
    ),
}
