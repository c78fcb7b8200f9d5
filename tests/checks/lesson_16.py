"""Lesson 16: right answers in other styles, mistakes in other forms."""

import torch
from torch.utils.data import DistributedSampler


def by_tensors(gradients, sizes):
    """Right, with the weights as a tensor."""
    share = torch.tensor(sizes, dtype=gradients[0].dtype) / sum(sizes)
    return share @ torch.stack(gradients)


def by_accumulation(gradients, sizes):
    """Right, one piece after the other."""
    total = torch.zeros_like(gradients[0])
    for gradient, size in zip(gradients, sizes, strict=True):
        total += gradient * (size / sum(sizes))
    return total


def of_the_first(gradients, sizes):
    return gradients[0]


def by_divmod(order, step, batch_size, rank, world_size):
    """Right, with plain arithmetic."""
    first = step * batch_size
    count = min(batch_size, len(order) - first)
    each, more = divmod(count, world_size)
    begin = first + rank * each + min(rank, more)
    return order[begin : begin + each + (rank < more)]


def as_a_list(order, step, batch_size, rank, world_size):
    """Right, although a list is returned."""
    return by_divmod(order, step, batch_size, rank, world_size).tolist()


def by_chunk(order, step, batch_size, rank, world_size):
    """Four rows in chunks of at most two leave nothing for the third process."""
    pieces = order[step * batch_size : (step + 1) * batch_size].chunk(world_size)
    return pieces[rank] if rank < len(pieces) else order[:0]


def every_third_of_all(order, step, batch_size, rank, world_size):
    """What DistributedSampler and a loader with a third of the batch do."""
    size = batch_size // world_size
    return order[rank::world_size][step * size : (step + 1) * size]


def backwards(order, step, batch_size, rank, world_size):
    return by_divmod(order, step, batch_size, world_size - 1 - rank, world_size)


def by_slices(x, rank, world_size, exchange):
    """Right, in a copy of the vector, with slices in place of chunks."""
    total, size = x.clone(), len(x) // world_size

    def part(number):
        start = number % world_size * size
        return slice(start, start + size)

    for step in range(world_size - 1):
        total[part(rank - step - 1)] += exchange(total[part(rank - step)])
    for step in range(world_size - 1):
        total[part(rank - step)] = exchange(total[part(rank - step + 1)])
    return total / world_size


def divided_first(x, rank, world_size, exchange):
    """Right: the mean is the sum of shares."""
    parts = list((x / world_size).chunk(world_size))
    for step in range(2 * world_size - 2):
        mine = (rank - step + (step >= world_size - 1) * world_size) % world_size
        arrived = exchange(parts[mine])
        keep = step < world_size - 1
        parts[mine - 1] = arrived + parts[mine - 1] if keep else arrived
    return torch.cat(parts)


def in_its_input(x, rank, world_size, exchange):
    return x.add_(exchange(x))


def too_often(x, rank, world_size, exchange):
    for _ in range(world_size + rank):
        x = exchange(x)
    return x


def unequal_chunks(x, rank, world_size, exchange):
    return exchange(x[: rank + 1])


def without_end(x, rank, world_size, exchange):
    while True:
        x = exchange(x)


def one_chunk(x, rank, world_size, exchange):
    return x[:4]


def by_generator(epoch, rank, world_size):
    """Right, with a seed that is far from any other and a generator of its own."""
    sampler = DistributedSampler(range(12), world_size, rank)
    sampler.set_epoch(epoch)
    source = torch.Generator().manual_seed(1_000_003 * epoch + rank)
    return list(sampler), torch.randn(6, generator=source).tolist()


def same_seed_everywhere(epoch, rank, world_size):
    sampler = DistributedSampler(range(12), world_size, rank)
    sampler.set_epoch(epoch)
    torch.manual_seed(0)
    return list(sampler), torch.randn(len(sampler))


def without_shuffling(epoch, rank, world_size):
    sampler = DistributedSampler(range(12), world_size, rank, shuffle=False)
    torch.manual_seed(epoch * world_size + rank)
    return list(sampler), torch.randn(len(sampler))


RIGHT = {
    "16.1": [by_tensors, by_accumulation],
    "16.2": [by_divmod, as_a_list],
    "16.3": [by_slices, divided_first],
    "16.4": [[("a", "Seed"), ("b", "sum"), ("c", "epoch"), ("d", "weights")]],
    "16.5": [by_generator],
    "16.6": [[785, 15.9, 5.3]],
}
WRONG = {
    "16.1": [(of_the_first, "differs from the right answer")],
    "16.2": [
        (by_chunk, "last-process-empty"),
        (every_third_of_all, "every-third-row"),
        (backwards, "Put together in the order of the processes"),
    ],
    "16.3": [
        (in_its_input, "changed its input"),
        (too_often, "process 1 waits .* process 0 has returned"),
        (unequal_chunks, r"chunks have the shapes \[\(1,\), \(2,\), \(3,\)\]"),
        (without_end, "no end after 100 exchanges"),
        (one_chunk, r"a tensor of the shape that it got, \(12,\)"),
    ],
    "16.4": [
        ({"A": "epoch", "B": "weights", "C": "seed", "D": "sum"}, "sum-not-seen"),
        (dict.fromkeys("ABCD", "lr"), "choose among epoch, seed, sum, weights; got lr"),
    ],
    "16.5": [
        (same_seed_everywhere, "seed-shared"),
        (without_shuffling, r"in three epochs .*; expected \[\[8, 5, "),
    ],
    "16.6": [((785, 16, 11), "expected 5, got 11")],
}
