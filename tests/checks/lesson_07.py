"""Right answers and known mistakes for the exercises of lesson 07."""

import math

import torch
from torch import nn


def step(skip="", late_zero=False, check_first=True, as_float=True, order=(0, 1, 2)):
    """A way to write exercise 7.1, right or with a mistake."""

    def train_step(model, optimizer, images, labels, loss, clip_norm=1.0):
        if "zero" not in skip:
            optimizer.zero_grad()
        outputs = model(images)
        value = loss(*[(images, outputs, labels)[i] for i in order])
        if "backward" not in skip:
            value.backward()
        if late_zero:
            optimizer.zero_grad(set_to_none=False)
        limit = math.inf if "clip" in skip else clip_norm
        length = nn.utils.clip_grad_norm_(model.parameters(), limit)
        if check_first and not torch.isfinite(value + length):
            return math.nan
        if "step" not in skip:
            optimizer.step()
        return value.item() if as_float else value

    return train_step


def sum_of_losses(model, optimizer, images, labels, loss, clip_norm=1.0):
    return len(images) * step()(model, optimizer, images, labels, loss, clip_norm)


def silent_about_nan(*arguments):
    value = step()(*arguments)
    return 0.0 if math.isnan(value) else value


def stub(*_):
    raise NotImplementedError


FAULTS = {"A": "eval", "B": "rate", "C": "positions", "D": "warm-up"}

RIGHT = [("7.1", step()), ("7.2", "C"), ("7.3", FAULTS), ("7.4", "B")]
WRONG = [
    ("7.1", stub, "still empty"),
    ("7.1", lambda *_: 0.5, "the loss was"),
    ("7.1", step(skip="zero"), "twice as long"),
    ("7.1", step(skip="backward"), "was backward called"),
    ("7.1", step(skip="clip"), "gradient of length"),
    ("7.1", step(skip="step"), "a call missing"),
    ("7.1", step(late_zero=True), "when was it emptied"),
    ("7.1", step(check_first=False), "look before you step"),
    ("7.1", step(as_float=False), "return a float"),
    ("7.1", step(order=(1, 0, 2)), "images, outputs, labels"),
    ("7.1", sum_of_losses, "you returned"),
    ("7.1", silent_about_nan, "say so with nan"),
    ("7.2", "A", "look at the"),
    ("7.2", "B", "centred"),
    ("7.2", "D", "attend to each other"),
    ("7.2", 4, "answer A, B, C or D"),
    ("7.3", dict.fromkeys(FAULTS, "overfitting"), "training loss first"),
    ("7.3", FAULTS | {"A": "noise"}, "choose among"),
    ("7.3", FAULTS | {"A": "rate"}, "still switched on"),
    ("7.3", FAULTS | {"B": "warm-up"}, "blind guess"),
    ("7.3", FAULTS | {"C": "rate"}, "tell apart"),
    ("7.3", FAULTS | {"D": "rate"}, "recovers"),
    ("7.3", {"A": "eval"}, "KeyError"),
    ("7.4", "A", "training loss"),
    ("7.4", "C", "weighted sum"),
    ("7.4", "D", "same fit"),
    ("7.4", "resnet", "answer A, B, C or D"),
]
