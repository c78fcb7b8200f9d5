"""Right answers and known mistakes for the exercises of lesson 05."""

import torch
from torch import nn

from course_vit.encoder_block import DropPath, drop_path_rates


def stub(*_, **__):
    raise NotImplementedError


def pre_norm(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    return x + mlp(norm2(x))


def post_norm(x, norm1, attn, norm2, mlp):
    x = norm1(x + attn(x))
    return norm2(x + mlp(x))


def colleague(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    x = norm2(x)
    return x + mlp(x)


def no_residual(x, norm1, attn, norm2, mlp):
    return mlp(norm2(attn(norm1(x))))


def side_by_side(x, norm1, attn, norm2, mlp):
    return x + attn(norm1(x)) + mlp(norm2(x))


def norm_forgotten(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    return x + mlp(x)


def norms_swapped(x, norm1, attn, norm2, mlp):
    return pre_norm(x, norm2, attn, norm1, mlp)


class Mistaken(nn.Module):
    """Drop paths in one of several wrong ways."""

    def __init__(self, drop_prob=0.0):
        super().__init__()
        self.p, self.keep = drop_prob, 1 - drop_prob

    def draw(self, x, *shape):
        return (torch.rand(*shape) < self.keep).to(x)

    def per_image(self, x):
        return self.draw(x, len(x), *[1] * (x.ndim - 1))

    def forward(self, x):
        return self.wrong(x) if self.training else x


class Idle(Mistaken):
    def wrong(self, x):
        return x


class WholeBatch(Mistaken):
    def wrong(self, x):
        return x * self.draw(x, 1) / self.keep


class Channels(Mistaken):
    def wrong(self, x):
        return x * self.draw(x, x.shape[-1]) / self.keep


class Unscaled(Mistaken):
    def wrong(self, x):
        return x * self.per_image(x)


class Multiplied(Mistaken):
    def wrong(self, x):
        return x * self.per_image(x) * self.keep


class Swapped(Mistaken):
    def wrong(self, x):
        return x * (1 - self.per_image(x)) / self.keep


class NotANumber(Mistaken):
    def wrong(self, x):
        return x / self.keep * self.per_image(x)


class OneRank(Mistaken):
    def wrong(self, x):
        mask = self.draw(x, len(x), 1, 1)
        return x * mask / self.keep if self.p < 1 else x * 0


class Unchecked(Mistaken):
    def wrong(self, x):
        return x * self.per_image(x) / self.keep if self.p < 1 else x * 0


class AlwaysOn(Unchecked):
    def forward(self, x):
        return self.wrong(x)


class ScaledInEval(Unchecked):
    def forward(self, x):
        return self.wrong(x) if self.training else x * self.keep


def rates(rule):
    """A decay rule that refuses nonsense, whatever else is wrong with it."""

    def answer(drop_path_rate, depth):
        drop_path_rates(drop_path_rate, depth)
        return rule(drop_path_rate, depth)

    return answer


RIGHT = [
    ("5.1", pre_norm),
    ("5.2", 444_864),
    ("5.3", DropPath),
    ("5.4", drop_path_rates),
]
WRONG = [
    ("5.1", stub, "still empty"),
    ("5.1", post_norm, "writes over the sum"),
    ("5.1", colleague, "writes over the sum"),
    ("5.1", no_residual, "what was there must be added"),
    ("5.1", side_by_side, "starts from z', not from z"),
    ("5.1", norm_forgotten, "what mlp adds has changed"),
    ("5.1", norms_swapped, "equations 2 and 3 differ"),
    ("5.1", lambda x, **_: x[:, :1], "came out"),
    ("5.2", 12 * 192**2, "Biases, and two norms"),
    ("5.2", 4 * 192**2, "two matrices of d times 4 d"),
    ("5.2", 4 * 192**2 + 4 * 192, "attention alone"),
    ("5.2", 12 * 192**2 + 9 * 192, "a norm has a weight and a bias"),
    ("5.2", 400_000, "the shape of each matrix"),
    ("5.3", stub, "still empty"),
    ("5.3", Idle, "idle all the time"),
    ("5.3", WholeBatch, "whole batch"),
    ("5.3", Channels, "belongs to an image"),
    ("5.3", nn.Dropout, "that is dropout"),
    ("5.3", Swapped, "which of the two probabilities"),
    ("5.3", Unscaled, r"the mean falls to 0\.[67]"),
    ("5.3", Multiplied, r"multiplied by 0\.70"),
    ("5.3", AlwaysOn, "two passes in eval differ"),
    ("5.3", ScaledInEval, "pass as it is"),
    ("5.3", NotANumber, "not a number"),
    ("5.3", OneRank, "any rank is welcome"),
    ("5.3", Unchecked, "refuse it"),
    ("5.4", stub, "still empty"),
    ("5.4", rates(lambda r, n: torch.linspace(0, r, n)), "a list is asked for"),
    ("5.4", rates(lambda r, n: list(torch.linspace(0, r, n))), "plain floats"),
    ("5.4", rates(lambda r, n: [0.0, r]), "must give 4 rates"),
    ("5.4", rates(lambda r, n: [r] * n), "the same rate"),
    ("5.4", rates(lambda r, n: drop_path_rates(r, n)[::-1]), "must rise with depth"),
    ("5.4", rates(lambda r, n: [r * (i + 1) / n for i in range(n)]), "starts at 0.075"),
    ("5.4", rates(lambda r, n: [r * i / n for i in range(n)]), "how many steps"),
    ("5.4", rates(lambda r, n: [r * (i / (n - 1)) ** 2 for i in range(n)]), "equal"),
    ("5.4", rates(lambda r, n: [r * i / (n - 1) for i in range(n)]), "no steps"),
    ("5.4", lambda r, n: [r * i / max(n - 1, 1) for i in range(n)], "refuse it"),
]
