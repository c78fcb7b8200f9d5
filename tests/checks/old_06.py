"""Right answers and known mistakes for the exercises of lesson 06."""

from math import log, log2, log10

import torch
from einops import reduce, repeat
from torch import nn

from checks import stub
from course_vit.kit.checks.lesson_06 import DECOY, STEPS

# 6.1 The class token


class Prepend(nn.Module):
    def __init__(self, dim, rows=1):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(rows, 1, dim))

    def forward(self, x):
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)


class Registered(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.register_parameter("cls_token", nn.Parameter(torch.randn(dim)))

    def forward(self, x):
        return torch.cat([repeat(self.cls_token, "d -> b 1 d", b=len(x)), x], dim=1)


class Plain(Prepend):
    def __init__(self, dim):
        nn.Module.__init__(self)
        self.cls_token = torch.zeros(1, 1, dim)


class PlainWithGradient(Prepend):
    def __init__(self, dim):
        nn.Module.__init__(self)
        self.cls_token = torch.zeros(1, 1, dim, requires_grad=True)


class Buffer(Prepend):
    def __init__(self, dim):
        nn.Module.__init__(self)
        self.register_buffer("cls_token", torch.zeros(1, 1, dim))


class BufferWithGradient(Prepend):
    def __init__(self, dim):
        nn.Module.__init__(self)
        self.cls_token = nn.Buffer(torch.zeros(1, 1, dim, requires_grad=True))


class Frozen(Prepend):
    def __init__(self, dim):
        super().__init__(dim)
        self.cls_token.requires_grad_(False)


class Detached(Prepend):
    def forward(self, x):
        token = self.cls_token.detach().expand(len(x), -1, -1)
        return torch.cat([token, x], dim=1)


class OnePerPatch(Prepend):
    def __init__(self, dim):
        nn.Module.__init__(self)
        self.cls_token = nn.Parameter(torch.zeros(1, 16, dim))


class Append(Prepend):
    def forward(self, x):
        return super().forward(x).roll(-1, dims=1)


class AppendByCat(Prepend):
    def forward(self, x):
        return torch.cat([x, self.cls_token.expand(len(x), -1, -1)], dim=1)


class Added(Prepend):
    def forward(self, x):
        return x + self.cls_token


class AddedToTheFirst(Prepend):
    def forward(self, x):
        return torch.cat([x[:, :1] + self.cls_token, x[:, 1:]], dim=1)


class TwoCopies(Prepend):
    def forward(self, x):
        return super().forward(super().forward(x))


# 6.2 The order


def moved(step, before):
    """The right order with one step taken out and put before another."""
    steps = [other for other in STEPS if other != step]
    steps.insert(steps.index(before), step)
    return steps


# 6.3 Count and predict

RIGHT_COUNT, D, BLOCK = 5_717_416, 192, 444_864

# 6.4 The mean


def by_loop(x, num_prefix_tokens):
    total, count = torch.zeros_like(x[:, 0]), 0
    for n in range(num_prefix_tokens, x.shape[1]):
        total, count = total + x[:, n], count + 1
    return total / count


def by_weights(x, num_prefix_tokens):
    counts = torch.arange(x.shape[1]) >= num_prefix_tokens
    return torch.einsum("bnd,n->bd", x, counts / counts.sum())


RIGHT = [
    ("6.1", Prepend),
    ("6.1", Registered),
    ("6.2", STEPS),
    ("6.2", [f" {step.capitalize()}" for step in STEPS]),
    ("6.3", (RIGHT_COUNT, log(10))),
    ("6.3", (5_717_416.0, 2.3)),
    ("6.4", lambda x, num_prefix_tokens: x[:, num_prefix_tokens:].mean(dim=1)),
    ("6.4", lambda x, k: reduce(x[:, k:], "b n d -> b d", "mean")),
    ("6.4", by_loop),
    ("6.4", by_weights),
]
WRONG = [
    ("6.1", Plain, "token-is-a-plain-tensor", "not saved: state_dict has nothing"),
    ("6.1", PlainWithGradient, "token-is-a-plain-tensor", "does a module know of"),
    ("6.1", Buffer, "token-is-a-buffer", "does not train"),
    ("6.1", BufferWithGradient, "token-is-a-buffer", "has never heard of it"),
    ("6.1", Frozen, "token-cut-from-gradient", "no gradient reaches it"),
    ("6.1", Detached, "token-cut-from-gradient", "frozen, or detached"),
    ("6.1", lambda dim: Prepend(dim, rows=3), "one-token-per-image", "3 class tokens"),
    ("6.1", OnePerPatch, "one-token-per-image", "16 class tokens to learn, 80 numbers"),
    ("6.1", Append, "token-put-last", "who is to be token 0"),
    ("6.1", AppendByCat, "token-put-last", "who is to be token 0"),
    ("6.1", Added, "token-added-to-patches", "is one token more"),
    ("6.1", AddedToTheFirst, "token-added-to-patches", "went in and came out"),
    ("6.1", TwoCopies, None, r"expected tokens \(3, 1 \+ 4, 5\), got \(3, 6, 5\)"),
    ("6.1", stub, None, "still empty"),
    ("6.2", STEPS[:-1], None, "use each of"),
    (
        "6.2",
        [DECOY if step == "token 0" else step for step in STEPS],
        "reads-the-first-patch",
        "top left corner",
    ),
    ("6.2", [*STEPS[:5], DECOY, *STEPS[5:]], "reads-the-first-patch", "top left"),
    (
        "6.2",
        moved("positions", before="class token"),
        "positions-before-class-token",
        "who has position 0",
    ),
    (
        "6.2",
        moved("class token", before="norm"),
        "positions-before-class-token",
        "n [+] 1 rows",
    ),
    ("6.2", moved("class token", before="patches"), "tokens-before-patches", "pixels"),
    (
        "6.2",
        moved("blocks", before="positions"),
        "positions-after-blocks",
        "positions are step 4, the blocks step 3: .* too late",
    ),
    (
        "6.2",
        moved("token 0", before="blocks"),
        "token-read-before-blocks",
        "has not seen the others",
    ),
    (
        "6.2",
        [*STEPS[:4], "token 0", "head", "norm"],
        "norm-not-before-head",
        "what does the head want",
    ),
    (
        "6.2",
        moved("norm", before="blocks"),
        "norm-not-before-head",
        "leaves its sum unnormalised",
    ),
    (
        "6.2",
        moved("head", before="token 0"),
        "head-before-token",
        "right numbers, wasted work",
    ),
    (
        "6.2",
        moved("token 0", before="norm"),
        "token-picked-before-norm",
        "gives the same",
    ),
    (
        "6.3",
        (RIGHT_COUNT - 192, log(10)),
        "rows-of-width-d-forgotten",
        "192 too few, that is 1 times d.* a class token, its position",
    ),
    ("6.3", (RIGHT_COUNT - 2 * D, 1.0), "rows-of-width-d-forgotten", "384 too few"),
    ("6.3", (RIGHT_COUNT - 11 * BLOCK, 2.3), "one-block-repeated", "that is 11 blocks"),
    (
        "6.3",
        (RIGHT_COUNT - 12 * 13 * D, 2.3),
        "matrices-alone-in-blocks",
        "13 d in each of 12 blocks",
    ),
    ("6.3", (RIGHT_COUNT - 197 * D, 2.3), "table-not-learned", "37,824 too few"),
    (
        "6.3",
        (RIGHT_COUNT + (768 - 197) * D, 2.3),
        "table-of-pixel-rows",
        "109,632 too many, .* how many tokens get a position",
    ),
    (
        "6.3",
        (RIGHT_COUNT - 990 * 193, 2.3),
        "head-of-ten-classes",
        "how many does question 1 ask",
    ),
    ("6.3", (RIGHT_COUNT - 1000, 2.3), "head-bias-forgotten", "one for each class"),
    (
        "6.3",
        (RIGHT_COUNT + 31 * D, 2.3),
        "one-token-per-image",
        "5,952 too many, that is 31 rows of d: how many images share",
    ),
    ("6.3", (5_700_000, log(10)), None, "Add up"),
    ("6.3", (RIGHT_COUNT, 4.6), "loss-of-a-hundred-classes", r"4\.60 is ln\(100\)"),
    (
        "6.3",
        (RIGHT_COUNT, log(1000)),
        "loss-of-a-thousand-classes",
        r"6\.91 is ln\(1000\)",
    ),
    ("6.3", (RIGHT_COUNT, 0.1), "probability-for-loss", "cross-entropy make of it"),
    ("6.3", (RIGHT_COUNT, log(0.1)), "sign-of-the-log", "below zero"),
    ("6.3", (RIGHT_COUNT, log10(10)), "log-of-another-base", "Which logarithm"),
    ("6.3", (RIGHT_COUNT, log2(10)), "log-of-another-base", "in another unit"),
    ("6.3", (RIGHT_COUNT, 1.5), None, "Which probability"),
    ("6.3", (..., 2.3), None, "the blank is still empty"),
    ("6.3", 2.3, None, "cannot be read as an answer"),
    ("6.4", stub, None, "still empty"),
    ("6.4", lambda x, k: x.mean(dim=1), "class-token-in-the-mean", "slice it off"),
    (
        "6.4",
        lambda x, k: reduce(x, "b n d -> b d", "mean"),
        "class-token-in-the-mean",
        "say so",
    ),
    ("6.4", lambda x, k: x[:, k:].mean(dim=2), "mean-over-channels", r"\(2, 6\) came"),
    ("6.4", lambda x, k: x.mean(dim=-1)[:, k:], "mean-over-channels", "averaged away"),
    ("6.4", lambda x, k: x[:, k:].mean(dim=0), None, r"expected shape \(2, 5\), got"),
    ("6.4", lambda x, k: x[:, 0], "class-token-read", "nothing was averaged"),
    ("6.4", lambda x, k: x[:, k], "one-patch-for-all", "and the others"),
    ("6.4", lambda x, k: x[:, -1], "one-patch-for-all", "one patch as it stands"),
    ("6.4", lambda x, k: x[:, :-k].mean(dim=1), "prefix-cut-from-the-end", "which end"),
    ("6.4", lambda x, k: x[:, k:].sum(dim=1), "sum-for-mean", "6 times the mean"),
    (
        "6.4",
        lambda x, k: x[:, k:].sum(dim=1) / x.shape[1],
        "divided-by-all-tokens",
        "who is the seventh",
    ),
    ("6.4", lambda x, k: x[:, k:].amax(dim=1), None, "not the mean of the patch"),
    ("6.4", lambda x, k: x[:, 1:].mean(dim=1), "one-prefix-assumed", "two prefix tok"),
    (
        "6.4",
        lambda x, k: (x.sum(dim=1) - x[:, 0]) / (x.shape[1] - 1),
        "one-prefix-assumed",
        "use num_prefix_tokens",
    ),
    (
        "6.4",
        lambda x, k: x[:, max(k, 1) :].mean(dim=1),
        None,
        "with no prefix token every token is a patch",
    ),
]
