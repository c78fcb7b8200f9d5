"""Checks of lesson 07: training."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...training import cross_entropy, train_step
from .judge import answers, by_letter, choose, exercise, expect

# 7.1 One step


def loss(images: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy; a call with the arguments in a different order is refused."""
    expect(
        (images.ndim, outputs.ndim, labels.ndim) == (4, 2, 1),
        "call the loss as loss(images, outputs, labels), in this order",
        "loss-arguments-exchanged",
    )
    return F.cross_entropy(outputs, labels)


class Rehearsal:
    """A small network, one batch that it can learn by heart, and a record of a step."""

    def __init__(self, scale: float = 1.0) -> None:
        layers = nn.Flatten(), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 3)
        self.model = nn.Sequential(*layers)
        self.images, self.labels = scale * torch.rand(12, 1, 4, 4), torch.arange(12) % 3
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

    def step(self, answer, *options: Any, lr: float = 0.0) -> Any:
        """What the answer returns; `calls` and `met` record what it did."""
        self.calls, self.optimizer.param_groups[0]["lr"] = [], lr
        batch = self.images, self.labels
        return answer(self.model, self.optimizer, *batch, *options)

    def modes(self) -> tuple[bool, ...]:
        return tuple(part.training for part in self.model.modules())


def moves(answer) -> str:
    """What an answer did, in words."""
    on, given = Rehearsal(), list[Any]()

    def seen(*arguments: Any) -> Tensor:
        given.append(arguments)
        return loss(*arguments)

    on.step(answer, seen, 1e3)
    calls = [call for call in on.calls if on.calls.count(call) == 1]
    if not given:
        return "no call of the given loss"
    if calls == ["backward", "step"] and not on.met.any():
        return "step without gradient"
    return " ".join(on.calls) or "nothing"


def modes_met(answer) -> list[tuple[bool, ...]]:
    """The modes in which a step runs the model, and the modes after the step."""
    on, met = Rehearsal(), {}
    on.model[0].register_forward_pre_hook(lambda *_: met.update({on.modes(): 1}))
    for part in (on.model[1], on.model):
        part.eval()
        on.step(answer, loss, 1e3)
        met[on.modes()] = 1
    return list(met)


def frozen(answer) -> Tensor:
    """The gradient at the optimizer's step if the first layer is frozen."""
    on = Rehearsal()
    on.model[1].requires_grad_(False)
    on.step(answer, loss, 0.01)
    return on.met


def returned(lr: float = 0.0):
    return lambda answer: Rehearsal().step(answer, loss, 1e3, lr=lr)


def met(*options: Any, times: int = 1, scale: float = 1.0):
    """The gradient that the last of some equal steps was given."""

    def run(answer) -> Tensor:
        on = Rehearsal(scale)
        for _ in range(times):
            on.step(answer, *options)
        return on.met

    return run


def clipped(answer) -> str:
    """What a step with clip_norm=0.01 does to a longer gradient."""
    on = Rehearsal()
    on.step(answer, loss, 0.01)
    length, largest = on.met.norm().item(), on.met.abs().max().item()
    if length < 0.011:
        return "shortened"
    return f"{length:.2f}" + (", with small numbers" if largest < 0.011 else "")


BROKEN = {
    "nan": lambda images, outputs, labels: outputs.sum() * math.nan,
    "gradient": lambda images, outputs, labels: (0 * outputs).abs().sqrt().sum(),
    "loss": lambda images, outputs, labels: outputs.sum() + math.nan,
    "inf": lambda images, outputs, labels: outputs.sum() + math.inf,
}


def steps_on(name: str):
    def run(answer) -> bool:
        on = Rehearsal()
        on.step(answer, BROKEN[name], 1e3)
        return "step" in on.calls

    return run


def said(answer) -> list[str]:
    on = Rehearsal()
    return [str(on.step(answer, BROKEN[name], 1e3)) for name in ("nan", "inf")]


def goes_on(answer) -> bool:
    on = Rehearsal()
    for each in (BROKEN["nan"], loss):
        on.step(answer, each, 1e3)
    return "step" in on.calls


def by_heart(answer) -> str:
    """How the loss changes in 100 steps on one batch."""
    on = Rehearsal()
    moving = torch.optim.AdamW(on.weights, lr=0.03)
    batch = on.images, on.labels
    losses = [answer(on.model, moving, *batch, loss, 1.0) for _ in range(100)]
    end = "0" if losses[-1] < 0.1 else f"{losses[-1]:.2f}"
    return f"from {losses[0]:.2f} to {end}"


def both(value, length):
    return (value + length).isfinite()


def step(
    moves="zero forward backward clip look step",
    finite=both,
    give=torch.Tensor.item,
    of=lambda loss: loss,
    mode=lambda model: None,
):
    """A way to write exercise 7.1: its moves in some order, right or with a mistake."""

    def answer(model, optimizer, images, labels, loss=cross_entropy, clip_norm=1.0):
        weights, length = list(model.parameters()), torch.zeros(())
        mode(model)
        for move in moves.split():
            match move:
                case "zero":
                    optimizer.zero_grad()
                case "forward":
                    value = of(loss)(images, model(images), labels)
                case "backward":
                    value.backward()
                case "clip":
                    length = nn.utils.clip_grad_norm_(weights, clip_norm)
                case "clip-values":
                    nn.utils.clip_grad_value_(weights, clip_norm)
                case "look" if not finite(value, length):
                    return math.nan
                case "step":
                    optimizer.step()
                case "fade":
                    for p in weights:
                        p.grad = None if p.grad is None else p.grad / 2
        return give(value)

    return answer


one_step = exercise(
    "7.1",
    right=train_step,
    trial={
        "your step made these moves: {got}; the right ones are: {right}": moves,
        "mode-switched": modes_met,
        "return a float, as .item() gives; you returned a {got}": (
            lambda f: type(returned()(f)).__name__
        ),
        "the loss was {right:.3f}, you returned {got:.3f}": returned(),
        "the optimizer was given the gradient of something other than the loss": (
            met(loss, 1e3)
        ),
        "two steps on the same batch gave two different gradients: why?": met(
            loss, 1e3, times=2
        ),
        "gradient-not-clipped": clipped,
        "loss-measured-after-step": returned(lr=0.5),
        "nothing-checked-before-step": steps_on("nan"),
        "only-loss-checked": steps_on("gradient"),
        "only-gradient-checked": steps_on("loss"),
        "infinity-let-through": steps_on("inf"),
        "missing-step-unsaid": said,
        "broken-gradient-left-behind": goes_on,
        "in 100 steps on one batch the loss went {got}, not to 0. That is a bug, not"
        " too small a model: does your step change more than the weights?": by_heart,
        "with clip_norm=math.inf: no gradient is longer than that, but your step"
        " changed the gradient all the same": met(loss, math.inf),
    },
    also={
        "the loss of a call that names no loss (then it is the mean cross-entropy)"
        " and no clip_norm": lambda f: Rehearsal(100.0).step(f),
        "the length of the gradient of such a call (shortened to 1)": (
            lambda f: met(scale=100.0)(f).norm().item()
        ),
        "a frozen layer, whose gradient is None": frozen,
        "the loss and clip_norm given by their names": lambda f: Rehearsal().step(
            partial(f, loss=loss, clip_norm=1.0)
        ),
    },
    otherwise="expected {right:.3f}, got {got:.3f}",
    rtol=1e-3,
    atol=1e-5,
)


one_step.mistakes |= {
    "loss-measured-after-step: the loss before the step was {right:.3f}, you returned"
    " {got:.3f}: by then the step had moved the weights": (
        step("zero forward backward clip look step forward")
    ),
    "loss-arguments-exchanged: call the loss as loss(images, outputs, labels), in this"
    " order": (step(of=lambda loss: lambda x, out, labels: loss(out, x, labels))),
    "loss-ignored: your step did not call the loss that it got as an argument": (
        step(of=lambda loss: cross_entropy)
    ),
    "mode-switched: your step switches the mode of the model, by train or eval. Leave"
    " that to fit, which keeps a frozen part in eval mode while it trains the"
    " rest": answers(step(mode=nn.Module.train), step(mode=nn.Module.eval)),
    "backward-left-out: no gradient was computed. Does your step call backward?": (
        answers(step("zero forward clip look step"), step("zero forward"))
    ),
    "step-left-out: the gradient was computed, but every weight stayed where it was."
    " Which call is missing?": step("zero forward backward clip look"),
    "step-before-backward: the optimizer stepped before backward had computed the"
    " gradient, so it followed the batch before, or nothing": (
        step("zero forward step backward")
    ),
    "gradient-emptied-before-step: when the optimizer stepped, the gradient was 0. When"
    " did your step empty it?": step("forward backward clip look zero step"),
    "loss-kept-as-tensor: return a float, as .item() gives; you returned a {got}": (
        step(give=lambda value: value)
    ),
    "loss-times-batch: the loss of 12 images was {right:.3f}, you returned {got:.3f}:"
    " the loss is a mean already": step(give=lambda value: 12 * value.item()),
    "gradient-never-emptied: in the second step on the same batch the gradient was"
    " twice as long, because backward adds to what is there. Empty it first": (
        step("forward backward clip look step")
    ),
    "clipped-entry-by-entry: with clip_norm=0.01 the length of the gradient was {got}."
    " Shorten the whole gradient, so that it keeps its direction": (
        step("zero forward backward clip-values look step")
    ),
    "gradient-not-clipped: with clip_norm=0.01 the optimizer still got a gradient of"
    " length {got}": step("zero forward backward look step clip"),
    "nothing-checked-before-step: loss and gradient were nan, and the optimizer took a"
    " step all the same, so now every weight is nan, too. Look before you step": (
        step("zero forward backward clip step")
    ),
    "only-loss-checked: the loss was 0 and its gradient nan (as for the root of 0),"
    " and the optimizer took a step. Look at the length as well": (
        step(finite=lambda value, length: value.isfinite())
    ),
    "only-gradient-checked: the loss was nan and its gradient finite, and the optimizer"
    " took a step. Look at the loss as well": (
        step(finite=lambda value, length: length.isfinite())
    ),
    "infinity-let-through: the loss was inf, and the optimizer took a step. nan is not"
    " the only number that is not finite": (
        step(finite=lambda value, length: not (value + length).isnan())
    ),
    "missing-step-unsaid: your step moved no weight, which is right, but it must then"
    " return nan; you returned {got[0]} for a loss of nan, {got[1]} for one of inf": (
        lambda *given: torch.tensor(train_step(*given)).nan_to_num().item()
    ),
    "broken-gradient-left-behind: after one loss of nan your step never moves a weight"
    " again, because the nan is still in the gradients. Which line empties them if a"
    " step ends early?": (step("forward backward clip look step zero")),
}

# 7.2 Which patch size

patch_size = choose("7.2", "C")
patch_size.mistakes |= {
    "more-tokens-are-better: 16 tokens already hold every pixel, so 64 hold nothing"
    " more. Look at the numbers of the stored run": "A",
    "few-tokens-say-little: on photographs, yes. But these digits are centred and fill"
    " the image, so every patch always shows the same part of a digit": "B",
    "patch-size-is-a-constant: a patch of 16 pixels is larger than the whole image. How"
    " many tokens can then attend to each other?": "D",
}

# 7.3 Four runs with a fault

FAULTS = {"A": "eval", "B": "rate", "C": "positions", "D": "warm-up"}


def named(answer: Any) -> dict[str, str]:
    """The fault of each run; only the four words are accepted."""
    said = by_letter(answer, "ABCD")
    got = {letter: str(fault).strip().lower() for letter, fault in said.items()}
    got |= {letter: "warm-up" for letter in got if got[letter] in ("warmup", "warm up")}
    expect(
        "overfitting" not in got.values(),
        "overfitting means that the training loss is low and the test loss is not."
        " Compare the training losses first",
        "all-is-overfitting",
    )
    unknown = set(got.values()) - set(FAULTS.values())
    expect(
        not unknown,
        f"choose among {', '.join(FAULTS.values())}; got {', '.join(unknown)}",
    )
    return got


four_runs = exercise(
    "7.3",
    right=FAULTS,
    trial={
        "wild-rate-not-seen": lambda answer: named(answer)["B"],
        "missing-positions-not-seen": lambda answer: named(answer)["C"],
        "forgotten-eval-not-seen": lambda answer: named(answer)["A"],
        "missing-warm-up-not-seen": lambda answer: named(answer)["D"],
    },
)
four_runs.mistakes |= {
    "all-is-overfitting: overfitting means that the training loss is low and the test"
    " loss is not. Compare the training losses first": dict.fromkeys(
        FAULTS, "overfitting"
    ),
    "wild-rate-not-seen: B jumps about above a blind guess for almost half of its run"
    " and ends above 1. What throws the weights so far in every step?": (
        FAULTS | {"B": "warm-up"}
    ),
    "missing-positions-not-seen: C learns steadily, but ends far above the healthy run"
    " on training *and* test images. What can it not tell apart?": FAULTS
    | {"C": "rate"},
    "forgotten-eval-not-seen: A learns like the panel *dropout*, but its test loss"
    " does not end below its training loss. What was still on during the test?": (
        FAULTS | {"A": "positions"}
    ),
    "missing-warm-up-not-seen: D starts above a blind guess and recovers. What would"
    " have kept its first steps small?": FAULTS | {"D": "rate"},
}

# 7.4 Why a convolutional net

why_a_cnn = choose("7.4", "B")
why_a_cnn.mistakes |= {
    "model-too-small: a model that is too small has a high training loss (7.10); this"
    " one learns nearly all its training images": "A",
    "mixing-loses-pixels: every pixel is in some token, and a weighted sum with"
    " learned weights can keep what it needs": "C",
    "optimizer-made-the-difference: the same fit trained both, with equal AdamW": "D",
}
