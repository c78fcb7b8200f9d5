"""Right answers and known mistakes for the exercises of lesson 07."""

import math

import torch
from torch import nn

from checks import stub
from course_vit.training import cross_entropy


def both(value, length):
    return (value + length).isfinite()


def step(
    moves="zero forward backward clip look step",
    finite=both,
    give=torch.Tensor.item,
    usual=1.0,
):
    """A way to write exercise 7.1: its moves in some order, right or with a mistake."""

    def train_step(
        model, optimizer, images, labels, loss=cross_entropy, clip_norm=usual
    ):
        weights, length = list(model.parameters()), torch.zeros(())
        for move in moves.split():
            match move:
                case "zero":
                    optimizer.zero_grad()
                case "zeros":
                    optimizer.zero_grad(set_to_none=False)
                case "forward":
                    value = loss(images, model(images), labels)
                case "backward":
                    value.backward()
                case "clip":
                    length = nn.utils.clip_grad_norm_(weights, clip_norm)
                case "clip-values":
                    nn.utils.clip_grad_value_(weights, clip_norm)
                    length = nn.utils.clip_grad_norm_(weights, math.inf)
                case "look" if not finite(value, length):
                    return math.nan
                case "step":
                    optimizer.step()
                case "fade":
                    for p in weights:
                        p.grad = None if p.grad is None else p.grad / 2
                case "slower":
                    optimizer.param_groups[0]["lr"] *= 0.5
        return give(value)

    return train_step


def by_hand(model, optimizer, images, labels, loss=cross_entropy, clip_norm=1.0):
    """Right, with little help of torch; it empties at the end, whatever happens."""
    value = loss(images, model(images), labels)
    value.backward()
    grads = [p.grad for p in model.parameters()]
    length = math.sqrt(sum(grad.square().sum().item() for grad in grads))
    healthy = math.isfinite(value.item()) and math.isfinite(length)
    if healthy:
        for grad in grads:
            grad *= min(1.0, clip_norm / (length + 1e-6))
        optimizer.step()
    model.zero_grad()
    return value.item() if healthy else math.nan


def no_defaults(model, optimizer, images, labels, loss, clip_norm):
    return step()(model, optimizer, images, labels, loss, clip_norm)


def of_another_loss(
    model,
    optimizer,
    images,
    labels,
    loss=lambda *given: 2 * cross_entropy(*given),
    clip_norm=1.0,
):
    return step()(model, optimizer, images, labels, loss, clip_norm)


def clipped_by_quotient(
    model, optimizer, images, labels, loss=cross_entropy, clip_norm=1.0
):
    """Shortened with the larger of two lengths; inf divided by inf is nan."""
    optimizer.zero_grad()
    value = loss(images, model(images), labels)
    value.backward()
    grads = [p.grad for p in model.parameters()]
    length = sum(grad.square().sum() for grad in grads).sqrt()
    if not both(value, length):
        return math.nan
    for grad in grads:
        grad *= clip_norm / max(clip_norm, length.item())
    optimizer.step()
    return value.item()


def exchanged(model, optimizer, images, labels, loss, clip_norm=1.0):
    return step()(
        model, optimizer, images, labels, lambda x, y, t: loss(y, x, t), clip_norm
    )


def outputs_last(model, optimizer, images, labels, loss, clip_norm=1.0):
    optimizer.zero_grad()
    value = loss(images, labels, model(images))
    value.backward()
    optimizer.step()
    return value.item()


def plain(model, optimizer, images, labels, loss, clip_norm=1.0):
    """The step of a first tutorial, without a look and without clipping."""
    optimizer.zero_grad()
    value = loss(images, model(images), labels)
    value.backward()
    optimizer.step()
    return value.item()


def never_empty(model, optimizer, images, labels, loss, clip_norm=1.0):
    value = loss(images, model(images), labels)
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return value.item()


def sum_of_losses(model, optimizer, images, labels, loss, clip_norm=1.0):
    return len(images) * step()(model, optimizer, images, labels, loss, clip_norm)


def half_of_it(*arguments):
    return step()(*arguments) / 2


def silent_about_nan(*arguments):
    value = step()(*arguments)
    return 0.0 if math.isnan(value) else value


def other_loss(model, optimizer, images, labels, loss, clip_norm=1.0):
    """The loss is reported, something else is sent back."""
    optimizer.zero_grad()
    value = loss(images, model(images), labels)
    (value + sum(p.square().sum() for p in model.parameters())).backward()
    optimizer.step()
    return value.item()


FAULTS = {"A": "eval", "B": "rate", "C": "positions", "D": "warm-up"}

RIGHT = [
    ("7.1", step()),
    ("7.1", by_hand),
    (
        "7.1",
        step("zeros forward backward clip look step", give=lambda x: float(x.detach())),
    ),
    ("7.2", "C"),
    ("7.2", " c"),
    ("7.3", FAULTS),
    ("7.3", {letter: fault.title() for letter, fault in FAULTS.items()}),
    ("7.4", "B"),
    ("7.4", "b"),
]
WRONG = [
    ("7.1", stub, None, "still empty"),
    ("7.1", lambda *_: None, None, "nothing came back"),
    ("7.1", exchanged, "loss-arguments-exchanged", "images, outputs, labels"),
    ("7.1", outputs_last, "loss-arguments-exchanged", "in this order"),
    ("7.1", step("zero forward clip look step"), "backward-left-out", "was backward"),
    ("7.1", lambda *_: 0.5, "backward-left-out", "no gradient was computed"),
    (
        "7.1",
        step("zero forward backward clip look"),
        "step-left-out",
        "call is missing",
    ),
    ("7.1", step("zero forward step backward"), "step-before-backward", "comes after"),
    (
        "7.1",
        step("forward step zero backward clip"),
        "step-before-backward",
        "moves first",
    ),
    (
        "7.1",
        step("forward backward zeros clip step"),
        "gradient-emptied-before-step",
        "when was it emptied",
    ),
    (
        "7.1",
        step("forward backward clip look zero step"),
        "gradient-emptied-before-step",
        "gradient of 0",
    ),
    ("7.1", step("forward backward clip look step"), "gradient-never-emptied", "twice"),
    ("7.1", never_empty, "gradient-never-emptied", "adds to what is there"),
    ("7.1", step("fade forward backward clip look step"), None, "two gradients: why"),
    ("7.1", step(give=lambda x: x), "loss-kept-as-tensor", "return a float"),
    ("7.1", step(give=torch.Tensor.detach), "loss-kept-as-tensor", "got <class"),
    ("7.1", sum_of_losses, "loss-times-batch", "a mean already"),
    ("7.1", half_of_it, None, "you returned"),
    ("7.1", other_loss, None, "gradient of something else"),
    (
        "7.1",
        step("zero forward backward clip look step forward"),
        "loss-measured-after-step",
        "moved the weights by then",
    ),
    (
        "7.1",
        step("zero forward backward clip-values look step"),
        "clipped-entry-by-entry",
        "direction stays",
    ),
    ("7.1", plain, "gradient-not-clipped", "gradient of length"),
    (
        "7.1",
        step("zero forward backward look step clip"),
        "gradient-not-clipped",
        "gradient of length",
    ),
    (
        "7.1",
        step("zero forward backward clip step"),
        "nothing-checked-before-step",
        "Look before you step",
    ),
    (
        "7.1",
        step("zero forward backward clip step look"),
        "nothing-checked-before-step",
        "every weight is nan",
    ),
    (
        "7.1",
        step(finite=lambda value, _: value.isfinite()),
        "only-loss-checked",
        "at the length",
    ),
    (
        "7.1",
        step(finite=lambda _, length: length.isfinite()),
        "only-gradient-checked",
        "at the loss",
    ),
    (
        "7.1",
        step(finite=lambda value, length: not (value + length).isnan()),
        "infinity-let-through",
        "not the only number",
    ),
    ("7.1", silent_about_nan, "missing-step-unsaid", "say so with nan"),
    (
        "7.1",
        step("forward backward clip look step zero"),
        "broken-gradient-left-behind",
        "if a step ends early",
    ),
    (
        "7.1",
        step("zero forward backward clip look step slower"),
        None,
        "more than the weights",
    ),
    ("7.1", clipped_by_quotient, None, "math.inf: no gradient is longer than that"),
    ("7.1", no_defaults, None, "a call without a loss and a clip_norm.* raised TypeE"),
    ("7.1", of_another_loss, None, "the mean cross-entropy is meant"),
    ("7.1", step(usual=math.inf), None, r"is shortened to 1, the optimizer meets one"),
    ("7.2", "A", "more-tokens-are-better", "look at the numbers"),
    ("7.2", "B", "few-tokens-say-little", "centred"),
    ("7.2", "D", "patch-size-is-a-constant", "attend to each other"),
    ("7.2", 4, None, "answer A, B, C or D"),
    (
        "7.3",
        dict.fromkeys(FAULTS, "overfitting"),
        "all-is-overfitting",
        "training loss first",
    ),
    (
        "7.3",
        FAULTS | {"C": "overfitting"},
        "all-is-overfitting",
        "the test loss is not",
    ),
    ("7.3", FAULTS | {"A": "noise"}, None, "choose among"),
    ("7.3", FAULTS | {"A": "positions"}, "forgotten-eval-not-seen", "switched on"),
    ("7.3", FAULTS | {"B": "warm-up", "D": "rate"}, "wild-rate-not-seen", "so far"),
    ("7.3", FAULTS | {"C": "rate"}, "missing-positions-not-seen", "tell apart"),
    ("7.3", FAULTS | {"D": "rate"}, "missing-warm-up-not-seen", "recovers"),
    ("7.3", {"A": "eval"}, None, "KeyError"),
    ("7.4", "A", "model-too-small", "training loss"),
    ("7.4", "C", "mixing-loses-pixels", "weighted sum"),
    ("7.4", "D", "optimizer-made-the-difference", "same fit"),
    ("7.4", "resnet", None, "answer A, B, C or D"),
]
