"""Right answers and known mistakes for the exercises of lesson 06."""

from math import log

import torch
from torch import nn

from course_vit.kit.checks.lesson_06 import STEPS


def moved(step, before):
    """The right order with one step taken out and put before another."""
    steps = [other for other in STEPS if other != step]
    steps.insert(steps.index(before), step)
    return steps


class Prepend(nn.Module):
    def __init__(self, dim, rows=1):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(rows, 1, dim))

    def forward(self, x):
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)


class Plain(Prepend):
    def __init__(self, dim):
        nn.Module.__init__(self)
        self.cls_token = torch.zeros(1, 1, dim)


class Buffer(Prepend):
    def __init__(self, dim):
        nn.Module.__init__(self)
        self.register_buffer("cls_token", torch.zeros(1, 1, dim))


class Append(Prepend):
    def forward(self, x):
        return super().forward(x).roll(-1, dims=1)


def stub(*_, **__):
    raise NotImplementedError


RIGHT = [
    ("6.1", Prepend),
    ("6.2", STEPS),
    ("6.3", (5_717_416, log(10))),
    ("6.4", lambda x, num_prefix_tokens: x[:, num_prefix_tokens:].mean(dim=1)),
]
WRONG = [
    ("6.1", Plain, "not saved"),
    ("6.1", Buffer, "does not train"),
    ("6.1", lambda dim: Prepend(dim, rows=3), "3 class tokens"),
    ("6.1", Append, "must follow unchanged"),
    ("6.2", STEPS[:-1], "use each of"),
    ("6.2", moved("positions", before="class token"), "who has position 0"),
    ("6.2", moved("class token", before="patches"), "nothing to stack"),
    ("6.2", moved("blocks", before="positions"), "too late"),
    ("6.2", moved("token 0", before="blocks"), "has not seen the others"),
    ("6.2", [*STEPS[:4], "token 0", "head", "norm"], "what does the head want"),
    ("6.2", moved("token 0", before="norm"), "gives the same"),
    ("6.3", (5_717_416 - 192, log(10)), "has a position too"),
    ("6.3", (5_700_000, log(10)), "Add up"),
    ("6.3", (5_717_416, 4.6), r"ln\(100\)"),
    ("6.3", (5_717_416, 1.0), "Which probability"),
    ("6.4", stub, "still empty"),
    ("6.4", lambda x, num_prefix_tokens: x.mean(dim=1), "slice it off"),
    ("6.4", lambda x, num_prefix_tokens: x[:, 1:].mean(dim=2), "expected shape"),
    ("6.4", lambda x, num_prefix_tokens: x[:, 1:].sum(dim=1), "not the mean"),
    ("6.4", lambda x, num_prefix_tokens: x[:, 1:].mean(dim=1), "two prefix tokens"),
]
