"""Checks of lesson 07: training."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from . import exercise, expect, expect_letter


def task() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A small network and one batch that it can learn by heart."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 3))
    return model, torch.rand(12, 1, 4, 4), torch.arange(12) % 3


def gradient(model: nn.Module) -> torch.Tensor:
    parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    expect(parts, "no parameter has a gradient: was backward called?")
    return torch.cat(parts)


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
    expect(once.norm() > 0, "the optimizer meets a gradient of 0: when was it emptied?")
    answer(model, still, images, labels, loss, math.inf)
    twice = gradient(model)
    expect(
        not torch.allclose(twice, 2 * once, rtol=1e-3),
        "at the second step the gradient is twice as long: backward adds to what is"
        " there. Empty it first",
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
        f"100 steps on one batch: the loss went from {first:.2f} to {last:.2f}, not to"
        " 0. That is a bug, not too small a model: is a call missing, or out of order?",
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


@exercise("7.2", "Which patches for 8 pixels?", "choose", minutes=3)
def patch_size(answer) -> None:
    hints = {
        "A": "more tokens can say more, but 16 already hold every pixel: look at the"
        " numbers of the stored run",
        "B": "on photographs, yes. But these digits are centred and fill the image: a"
        " pixel of patch 2 is always at the same place of the digit",
        "D": "16 pixels are more than the whole image. How many tokens can then attend"
        " to each other?",
    }
    expect_letter(answer, "C", hints)


FAULTS = {"A": "eval", "B": "rate", "C": "positions", "D": "warm-up"}


@exercise("7.3", "Name the fault", "choose", minutes=10)
def faults(answer) -> None:
    got = {letter: str(answer[letter]).strip().lower() for letter in FAULTS}
    expect(
        "overfitting" not in got.values(),
        "overfitting means: the training loss is low and the test loss is not. Compare"
        " the training loss first",
    )
    unknown = set(got.values()) - set(FAULTS.values())
    expect(not unknown, f"choose among {', '.join(FAULTS.values())}; got {unknown}")
    hints = {
        "rate": "one model jumps about a blind guess for half of its run",
        "positions": "one model learns, but stays far from the others on training *and*"
        " test images: what can it not tell apart?",
        "eval": "in one the test loss does not lie where it should beside the training"
        " loss: what was still switched on?",
        "warm-up": "one starts far above a blind guess and recovers: what would have"
        " kept its first steps small?",
    }
    for letter, fault in FAULTS.items():
        expect(got[letter] == fault, f"{letter} is not {got[letter]}: {hints[fault]}")


@exercise("7.4", "Why is the small CNN ahead?", "choose", minutes=3)
def why_a_cnn(answer) -> None:
    hints = {
        "A": "the clinic knows too small models by their training loss; this one learns"
        " its training images to the last",
        "C": "every pixel is in some token, and a weighted sum with learned weights can"
        " keep what it needs",
        "D": "both were trained by the same fit, with the same AdamW",
    }
    expect_letter(answer, "B", hints)
