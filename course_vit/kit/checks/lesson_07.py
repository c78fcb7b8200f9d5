"""Checks of lesson 07: training."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from . import exercise, expect


def task() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A small network and one batch that it can learn by heart."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 3))
    return model, torch.rand(12, 1, 4, 4), torch.arange(12) % 3


def gradient(model: nn.Module) -> torch.Tensor:
    parts = [p.grad for p in model.parameters()]
    expect(None not in parts, "a parameter has no gradient: was backward called?")
    return torch.cat([part.flatten() for part in parts])


def loss(images, outputs, labels):
    expect(images.ndim == 4, "the loss takes images, outputs, labels, in this order")
    return F.cross_entropy(outputs, labels)


@exercise("7.1", "One step downhill", "implement", minutes=10)
def train_step(answer) -> None:
    model, images, labels = task()
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    first = loss(images, model(images), labels).item()
    got = answer(model, still, images, labels, loss, math.inf)
    expect(
        isinstance(got, float),
        f"return a float, such as .item() gives, got {type(got)}",
    )
    expect(abs(got - first) < 1e-5, f"the loss was {first:.3f}, you returned {got:.3f}")
    once = gradient(model).clone()
    answer(model, still, images, labels, loss, math.inf)
    twice = gradient(model)
    expect(
        not torch.allclose(twice, 2 * once, rtol=1e-3),
        "at the second step the gradient is twice as long: backward adds to what is there."
        " Empty it first",
    )
    expect(
        torch.allclose(twice, once, rtol=1e-3), "two equal steps, two gradients: why?"
    )

    answer(model, still, images, labels, loss, 0.01)
    length = gradient(model).norm().item()
    expect(
        length < 0.011,
        f"clip_norm=0.01, but the optimizer meets a gradient of length {length:.2f}",
    )

    moving = torch.optim.AdamW(model.parameters(), lr=0.03)
    for _ in range(100):
        last = answer(model, moving, images, labels, loss, 1.0)
    expect(
        last < 0.1,
        f"100 steps on one batch: the loss went from {first:.2f} to {last:.2f}, not to 0."
        " That is a bug, not too small a model: in which order do the calls stand?",
    )

    before = [p.detach().clone() for p in model.parameters()]
    broken = answer(
        model, moving, images, labels, lambda i, o, y: o.sum() * math.nan, 1.0
    )
    same = all(
        torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)
    )
    expect(same, "after a loss of nan the weights are nan, too: look before you step")
    expect(math.isnan(broken), f"no step was taken: say so with nan, not with {broken}")


@exercise("7.2", "Which patches for 8 pixels?", "order", minutes=3)
def patch_order(answer) -> None:
    got = [int(size) for size in answer]
    expect(sorted(got) == [1, 2, 4], f"put 1, 2 and 4 in an order, got {answer}")
    expect(
        got[0] != 4,
        "4 first, as the share of the image that the papers cut? Count how"
        " many tokens can then attend to each other",
    )
    expect(
        got[-1] == 4,
        "patches of 4 leave four tokens: can a digit be told from them better?",
    )
    ...
