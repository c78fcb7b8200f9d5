"""Lesson 07: right answers in other styles, mistakes in other forms."""

import math

import torch

from course_vit.kit.checks.lesson_07 import FAULTS, both, step
from course_vit.training import cross_entropy, train_step


def by_hand(model, optimizer, images, labels, loss=cross_entropy, clip_norm=1.0):
    """Right, with little help of torch; it empties at the end, whatever happens."""
    value = loss(images, model(images), labels)
    value.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    length = math.sqrt(sum(grad.square().sum().item() for grad in grads))
    healthy = math.isfinite(value.item()) and math.isfinite(length)
    if healthy:
        for grad in grads:
            grad *= min(1.0, clip_norm / (length + 1e-6))
        optimizer.step()
    model.zero_grad()
    return value.item() if healthy else math.nan


def no_defaults(model, optimizer, images, labels, loss, clip_norm):
    return train_step(model, optimizer, images, labels, loss, clip_norm)


def of_another_loss(
    model,
    optimizer,
    images,
    labels,
    loss=lambda *given: 2 * cross_entropy(*given),
    clip_norm=1.0,
):
    return train_step(model, optimizer, images, labels, loss, clip_norm)


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


def plain(model, optimizer, images, labels, loss, clip_norm=1.0):
    """The step of a first tutorial, without a look and without clipping."""
    optimizer.zero_grad()
    value = loss(images, model(images), labels)
    value.backward()
    optimizer.step()
    return value.item()


def other_loss(model, optimizer, images, labels, loss, clip_norm=1.0):
    """The loss is reported, something else is sent back."""
    optimizer.zero_grad()
    value = loss(images, model(images), labels)
    (value + sum(p.square().sum() for p in model.parameters())).backward()
    optimizer.step()
    return value.item()


def its_own_loss(model, optimizer, images, labels, loss, clip_norm=1.0):
    """It knows cross-entropy only."""
    return train_step(model, optimizer, images, labels, cross_entropy, clip_norm)


def ends_in_training(model, *given):
    value = train_step(model, *given)
    model.train()
    return value


def looks_at_every_gradient(model, *given, **named):
    value = train_step(model, *given, **named)
    assert all(p.grad is not None for p in model.parameters())
    return value


def other_names(model, optimizer, images, labels, criterion=cross_entropy, most=1.0):
    return train_step(model, optimizer, images, labels, criterion, most)


def slower(model, optimizer, *given):
    optimizer.param_groups[0]["lr"] *= 0.5
    return train_step(model, optimizer, *given)


def never_clipped(model, optimizer, images, labels, loss=cross_entropy, clip_norm=9e9):
    return train_step(model, optimizer, images, labels, loss, clip_norm)


RIGHT = {
    "7.1": [step(), by_hand, step(give=lambda x: float(x.detach()))],
    "7.2": [" c"],
    "7.3": [
        {letter.lower(): fault.title() for letter, fault in FAULTS.items()},
        [*FAULTS.values()],
        FAULTS | {"D": "warm up"},
    ],
    "7.4": ["b"],
}
WRONG = {
    "7.1": [
        (lambda *_: None, "returned nothing"),
        (lambda *_: 0.5, "loss-ignored"),
        (its_own_loss, "loss-ignored"),
        (ends_in_training, "mode-switched"),
        (looks_at_every_gradient, "a frozen layer, whose gradient is None raised"),
        (other_names, "given by their names raised TypeError"),
        (step("forward step zero backward clip"), "step-before-backward"),
        (step("forward backward zero clip step"), "gradient-emptied-before-step"),
        (step("fade forward backward clip look step"), "two different gradients: why"),
        (step(give=torch.Tensor.detach), "loss-kept-as-tensor"),
        (lambda *given: train_step(*given) / 2, "you returned"),
        (other_loss, "gradient of something other"),
        (plain, "gradient-not-clipped"),
        (step("zero forward backward clip step look"), "nothing-checked-before-step"),
        (slower, "more than the weights"),
        (clipped_by_quotient, "math.inf: no gradient is longer than that"),
        (no_defaults, "call that names no loss .* raised TypeError"),
        (of_another_loss, "it is the mean cross-entropy"),
        (never_clipped, r"shortened to 1\): expected 1\.000, got \d+"),
    ],
    "7.2": [(4, "answer A, B, C or D")],
    "7.3": [
        (FAULTS | {"C": "overfitting"}, "all-is-overfitting"),
        (FAULTS | {"A": "noise"}, "choose among"),
        (FAULTS | {"B": "warm-up", "D": "rate"}, "wild-rate-not-seen"),
        ({"A": "eval"}, "answer each of A, B, C, D, got"),
        (["eval", "rate"], "answer each of A, B, C, D, got"),
    ],
    "7.4": [("resnet", "answer A, B, C or D")],
}
