"""Lesson 06: right answers in other styles, mistakes in other forms."""

from math import log

import numpy as np
import torch
from einops import reduce, repeat
from torch import nn

from course_vit.kit.checks.lesson_06 import (
    COUNT,
    DECOY,
    STEPS,
    D,
    moved,
    prepended,
    prepends,
)


class Registered(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.register_parameter("cls_token", nn.Parameter(torch.randn(dim)))

    def forward(self, x):
        return torch.cat([repeat(self.cls_token, "d -> b 1 d", b=len(x)), x], dim=1)


def by_loop(x, num_prefix_tokens):
    total, count = torch.zeros_like(x[:, 0]), 0
    for n in range(num_prefix_tokens, x.shape[1]):
        total, count = total + x[:, n], count + 1
    return total / count


def by_weights(x, num_prefix_tokens):
    counts = torch.arange(x.shape[1]) >= num_prefix_tokens
    return torch.einsum("bnd,n->bd", x, counts / counts.sum())


RIGHT = {
    "6.1": [Registered],
    "6.2": [
        [f" {step.capitalize()}" for step in STEPS],
        ", ".join(STEPS),
        moved("token 0", to="norm"),  # equation 4 of the paper
        moved("head", to="token 0"),  # as much work as can be, and the same scores
    ],
    "6.3": [(float(COUNT), 3.0), (np.int64(COUNT), np.float32(2.996))],
    "6.4": [lambda x, k: reduce(x[:, k:], "b n d -> b d", "mean"), by_loop, by_weights],
}
WRONG = {
    "6.1": [
        (prepends(learned=torch.Tensor.requires_grad_), "token-is-a-plain-tensor"),
        (
            prepends(lambda token, x: prepended(token.detach(), x)),
            "token-cut-from-gradient",
        ),
        (prepends(rows=16), "one-token-per-image"),
        (
            prepends(lambda token, x: prepended(token, prepended(token, x))),
            r"expected tokens of shape \(3, 1 \+ 4, 5\), got \(3, 6, 5\)",
        ),
        (lambda d: prepends()(48), "5 numbers wide, got 48"),
        (lambda d: prepends()(5), r"2 images of 6 patches, 7 wide, raised"),
        (
            prepends(lambda t, x: torch.cat([t.expand(3, -1, -1), x], dim=1)),
            "2 images of 6 patches",
        ),
    ],
    "6.2": [
        (STEPS[:-1], "'head' is missing"),
        ([*STEPS[:-1], "heads"], "'heads' is none of the steps"),
        ([*STEPS, "norm"], "'norm' is in your list twice"),
        (
            [DECOY if step == "token 0" else step for step in STEPS],
            "reads-the-first-patch",
        ),
        (moved("class token", to="norm"), "positions-before-class-token"),
        ([*STEPS[:4], "token 0", "head", "norm"], "norm-not-before-head"),
    ],
    "6.3": [
        ((COUNT + 40 * D, 3.0), "one-token-per-image"),
        ((5_700_000, log(20)), "Add up"),
        ({"parameters": COUNT + 1, "loss": 3.0}, r"5,717,417\? Add up"),
        ((COUNT, 1.5), "Which probability"),
        ((..., 3.0), "the blank is still empty"),
        (3.0, "cannot be read as an answer"),
    ],
    "6.4": [
        (lambda x, k: reduce(x, "b n d -> b d", "mean"), "class-token-in-the-mean"),
        (lambda x, k: x[:, k:].mean(dim=0), r"expected shape \(2, 5\), got"),
        (lambda x, k: x[:, k:].amax(dim=1), "not the mean of the patch"),
        (
            lambda x, k: (x.sum(dim=1) - x[:, 0]) / (x.shape[1] - 1),
            "one-prefix-assumed",
        ),
        (
            lambda x, k: x[:, max(k, 1) :].mean(dim=1),
            "with no prefix token every token is a patch",
        ),
    ],
}
