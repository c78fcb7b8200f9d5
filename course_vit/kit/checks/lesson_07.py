"""Checks of lesson 07: training."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import exercise, expect, expect_letter, probes
from .probes import trying


def loss(images: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy; who calls it with other things in mind is told so."""
    expect(
        (images.ndim, outputs.ndim, labels.ndim) == (4, 2, 1),
        "the loss takes images, outputs, labels, in this order",
        "loss-arguments-exchanged",
    )
    return F.cross_entropy(outputs, labels)


class Rehearsal:
    """A small network, one batch that it can learn by heart, and a look at a step."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers = nn.Flatten(), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 3)
        self.model = nn.Sequential(*layers)
        self.images, self.labels = torch.rand(12, 1, 4, 4), torch.arange(12) % 3
        self.weights = list(self.model.parameters())
        self.optimizer = torch.optim.SGD(self.weights, lr=0.0)
        self.weights[0].register_hook(lambda _: self.calls.append("backward"))
        self.optimizer.register_step_pre_hook(self.meet)
        self.calls: list[str] = []
        self.met = torch.zeros(0)  # the gradient that the last step was given

    def meet(self, *_) -> None:
        self.calls.append("step")
        grads = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in self.weights
        ]
        self.met = torch.cat([grad.detach().flatten() for grad in grads])

    def step(
        self, answer, clip_norm: float = 1e3, lr: float = 0.0, loss: Callable = loss
    ):
        """What the answer returns; `calls` and `met` say what it did."""
        self.calls, self.optimizer.param_groups[0]["lr"] = [], lr
        batch = self.images, self.labels
        return answer(self.model, self.optimizer, *batch, loss, clip_norm)

    def right(self) -> tuple[float, Tensor]:
        """The loss as it is now, and its gradient."""
        value = loss(self.images, self.model(self.images), self.labels)
        grads = torch.autograd.grad(value, self.weights)
        return value.item(), torch.cat([grad.flatten() for grad in grads])


@exercise(
    "7.1",
    {
        "loss-arguments-exchanged": "the loss gets images, outputs and labels in"
        " another order",
        "backward-left-out": "the loss is computed and never sent back",
        "step-left-out": "the gradient is computed, the optimizer never moves a weight",
        "step-before-backward": "the optimizer moves before the gradient is there",
        "gradient-emptied-before-step": "the gradient is emptied between backward and"
        " step",
        "gradient-never-emptied": "each backward replaces the gradient, so there is"
        " nothing to empty",
        "loss-kept-as-tensor": "the loss comes back with its graph, which stays in"
        " memory",
        "loss-times-batch": "the loss is a sum over the batch, though it is a mean",
        "loss-measured-after-step": "the loss that comes back is that of the moved"
        " weights",
        "clipped-entry-by-entry": "clipping cuts every number of the gradient, not its"
        " length",
        "gradient-not-clipped": "the gradient is shortened too late or not at all",
        "nothing-checked-before-step": "a loss of nan does no harm to the weights",
        "only-loss-checked": "a finite loss has a finite gradient",
        "only-gradient-checked": "a finite gradient has a finite loss",
        "infinity-let-through": "only nan is not finite",
        "missing-step-unsaid": "nobody needs to hear that a step was left out",
        "broken-gradient-left-behind": "emptying at the end of a step is enough, also"
        " when it ends early",
    },
)
def train_step(answer) -> None:
    on = Rehearsal()
    value, gradient = on.right()
    got = on.step(answer)
    expect_moves(on)
    expect(
        isinstance(got, float),
        f"return a float, such as .item() gives, got {type(got)}",
        "loss-kept-as-tensor",
    )
    expect(
        abs(got - 12 * value) > 1e-4,
        f"the loss of 12 images was {value:.3f}, you returned {got:.3f}: it is a mean"
        " already",
        "loss-times-batch",
    )
    expect(abs(got - value) < 1e-5, f"the loss was {value:.3f}, you returned {got:.3f}")
    expect(same(on.met, gradient), "the optimizer meets a gradient of something else")
    on.step(answer)
    expect(
        not same(on.met, 2 * gradient),
        "at the second step the gradient is twice as long: backward adds to what is"
        " there. Empty it first",
        "gradient-never-emptied",
    )
    expect(same(on.met, gradient), "two equal steps, two gradients: why?")
    expect_short(on, answer)
    value, _ = on.right()
    got = on.step(answer, lr=0.5)
    expect(
        abs(got - value) < 1e-5,
        f"the loss before the step was {value:.3f}, you returned {got:.3f}: the step"
        " had moved the weights by then",
        "loss-measured-after-step",
    )
    expect_careful(on, answer)
    expect_by_heart(answer)
    expect_usual_case(answer)


same = partial(probes.same, atol=1e-6, rtol=1e-3)


def expect_moves(on: Rehearsal) -> None:
    """One backward, then one step that has something to go by."""
    expect(
        "backward" in on.calls,
        "no gradient was computed: was backward called?",
        "backward-left-out",
    )
    expect(
        "step" in on.calls,
        "the gradient is there, and every weight stays where it was: a call is missing",
        "step-left-out",
    )
    expect(
        on.calls.index("backward") < on.calls.index("step"),
        "the optimizer moves first and the gradient comes afterwards: it goes by the"
        " batch before, or by nothing",
        "step-before-backward",
    )
    expect(
        on.met.norm() > 0,
        "the optimizer meets a gradient of 0: when was it emptied?",
        "gradient-emptied-before-step",
    )


def expect_short(on: Rehearsal, answer) -> None:
    on.step(answer, clip_norm=0.01)
    length, largest = on.met.norm().item(), on.met.abs().max().item()
    expect(
        length < 0.011 or largest > 0.011,
        f"clip_norm=0.01, and no number of the gradient is larger; but its length is"
        f" {length:.2f}. The length is to be shortened, so that the direction stays",
        "clipped-entry-by-entry",
    )
    expect(
        length < 0.011,
        f"clip_norm=0.01, but the optimizer meets a gradient of length {length:.2f}",
        "gradient-not-clipped",
    )


def expect_careful(on: Rehearsal, answer) -> None:
    """No step is taken on what is not finite, and the next one is sound again."""
    losses = {
        "nothing-checked-before-step": (
            lambda images, outputs, labels: outputs.sum() * math.nan,
            "loss and gradient were nan, and the optimizer took a step: now every"
            " weight is nan, too. Look before you step",
        ),
        "only-loss-checked": (
            lambda images, outputs, labels: (0 * outputs).abs().sqrt().sum(),
            "a loss of 0 with a gradient of nan (the root of 0 does it), and the"
            " optimizer took a step: look at the length as well",
        ),
        "only-gradient-checked": (
            lambda images, outputs, labels: outputs.sum() + math.nan,
            "a loss of nan with a finite gradient, and the optimizer took a step: look"
            " at the loss as well",
        ),
        "infinity-let-through": (
            lambda images, outputs, labels: outputs.sum() + math.inf,
            "a loss of inf, and the optimizer took a step: nan is not the only number"
            " that is not finite",
        ),
    }
    said = []
    for misconception, (broken, hint) in losses.items():
        said.append(on.step(answer, loss=broken))
        expect("step" not in on.calls, hint, misconception)
    expect(
        all(math.isnan(value) for value in said),
        f"no step was taken: say so with nan; you returned {said[0]} for a loss of nan,"
        f" {said[-1]} for one of inf",
        "missing-step-unsaid",
    )
    on.step(answer)
    expect(
        "step" in on.calls,
        "after one broken loss no step is taken any more: the nan is still in the"
        " gradients. Who empties them if a step ends early?",
        "broken-gradient-left-behind",
    )


def expect_by_heart(answer) -> None:
    on = Rehearsal()
    first, _ = on.right()
    moving = torch.optim.AdamW(on.weights, lr=0.03)
    for _ in range(100):
        last = answer(on.model, moving, on.images, on.labels, loss, 1.0)
    expect(
        last < 0.1,
        f"100 steps on one batch: the loss went from {first:.2f} to {last:.2f}, not to"
        " 0. That is a bug, not too small a model: does your step change more than the"
        " weights?",
    )


def expect_usual_case(answer) -> None:
    """Cross-entropy and a length of 1 if nothing is said; inf shortens nothing."""
    on = Rehearsal()
    _, gradient = on.right()
    on.step(answer, clip_norm=math.inf)
    expect(
        same(on.met, gradient),
        "clip_norm=math.inf: no gradient is longer than that, and still the optimizer"
        " meets another one",
    )
    on.images = 100 * on.images
    value, gradient = on.right()
    on.calls = []
    with trying("a call without a loss and a clip_norm, which have their defaults,"):
        got = answer(on.model, on.optimizer, on.images, on.labels)
    expect(
        abs(got - value) < 1e-4 * max(1.0, value),
        f"without a loss the mean cross-entropy is meant: it was {value:.3f}, you"
        f" returned {got:.3f}",
    )
    expect(
        same(on.met, gradient / max(1.0, gradient.norm().item())),
        f"without a clip_norm a gradient of length {gradient.norm():.1f} is shortened"
        f" to 1, the optimizer meets one of {on.met.norm():.1f}",
    )


@exercise(
    "7.2",
    {
        "more-tokens-are-better": "the finer the cut, the more a model knows",
        "few-tokens-say-little": "four tokens cannot hold what a digit is",
        "patch-size-is-a-constant": "a patch has 16 pixels, whatever the image",
    },
)
def patch_size(answer) -> None:
    wrong = {
        "A": (
            "more-tokens-are-better",
            "more tokens can say more, but 16 already hold every pixel: look at the"
            " numbers of the stored run",
        ),
        "B": (
            "few-tokens-say-little",
            "on photographs, yes. But these digits are centred and fill the image: a"
            " pixel of patch 2 is always at the same place of the digit",
        ),
        "D": (
            "patch-size-is-a-constant",
            "16 pixels are more than the whole image. How many tokens can then attend"
            " to each other?",
        ),
    }
    expect_letter(answer, "C", wrong)


FAULTS = {"A": "eval", "B": "rate", "C": "positions", "D": "warm-up"}


@exercise(
    "7.3",
    {
        "all-is-overfitting": "a high test loss means overfitting, whatever the"
        " training loss does",
        "forgotten-eval-not-seen": "a test loss may lie as high as the training loss of"
        " a model with dropout",
        "wild-rate-not-seen": "a loss that jumps above a blind guess had a bad start,"
        " no more",
        "missing-positions-not-seen": "two losses that stay high mean a wrong rate, not"
        " something that the model cannot see",
        "missing-warm-up-not-seen": "a bad start that heals has no cause of its own",
    },
)
def faults(answer) -> None:
    got = {letter: str(answer[letter]).strip().lower() for letter in FAULTS}
    expect(
        "overfitting" not in got.values(),
        "overfitting means: the training loss is low and the test loss is not. Compare"
        " the training loss first",
        "all-is-overfitting",
    )
    unknown = set(got.values()) - set(FAULTS.values())
    expect(not unknown, f"choose among {', '.join(FAULTS.values())}; got {unknown}")
    hints = {
        "B": (
            "wild-rate-not-seen",
            "B jumps about above a blind guess for half of its run and ends above 1:"
            " what sends the weights so far with every step?",
        ),
        "C": (
            "missing-positions-not-seen",
            "C learns steadily, but stays far from the others on training *and* test"
            " images: what can it not tell apart?",
        ),
        "A": (
            "forgotten-eval-not-seen",
            "A learns as the panel *dropout* does, but its test loss does not lie below"
            " its training loss: what was still switched on?",
        ),
        "D": (
            "missing-warm-up-not-seen",
            "D starts far above a blind guess and recovers: what would have kept its"
            " first steps small?",
        ),
    }
    for letter, (misconception, hint) in hints.items():
        expect(got[letter] == FAULTS[letter], hint, misconception)


@exercise(
    "7.4",
    {
        "model-too-small": "a low score means that the model is too small",
        "mixing-loses-pixels": "what attention mixes is lost",
        "optimizer-made-the-difference": "the better score had the better optimizer",
    },
)
def why_a_cnn(answer) -> None:
    wrong = {
        "A": (
            "model-too-small",
            "the clinic knows too small models by their training loss; this one learns"
            " its training images to the last",
        ),
        "C": (
            "mixing-loses-pixels",
            "every pixel is in some token, and a weighted sum with learned weights can"
            " keep what it needs",
        ),
        "D": (
            "optimizer-made-the-difference",
            "both were trained by the same fit, with the same AdamW",
        ),
    }
    expect_letter(answer, "B", wrong)
