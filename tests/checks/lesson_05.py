"""Lesson 05: right answers in other styles, mistakes in other forms."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_vit.encoder_block import drop_path_rates
from course_vit.kit.checks.lesson_05 import drops, per_image, pre_norm

# 5.1 A colleague's block


def with_other_names(x, norm1, attn, norm2, mlp):
    found = attn(norm1(x))
    middle = torch.add(x, found)
    return sum([middle, mlp(norm2(middle))])


def sum_changed_in_place(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    x += mlp(norm2(x))
    return x


def sum_from_normed(x, norm1, attn, norm2, mlp):
    x = norm1(x)
    x = x + attn(x)
    x = norm2(x)
    return x + mlp(x)


def half_a_residual(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    return mlp(norm2(x))


# 5.3 Drop paths


class ByComparison(nn.Module):
    def __init__(self, drop_prob=0.0):
        super().__init__()
        if drop_prob < 0 or drop_prob > 1:
            raise ValueError("no probability")
        self.drop_prob, self.keep = drop_prob, 1 - drop_prob

    def forward(self, x):
        if not self.training or self.keep == 1:
            return x
        if self.keep == 0:
            return x * 0
        lucky = torch.rand(len(x), device=x.device) < self.keep
        return torch.einsum("b...,b->b...", x, lucky.to(x) / self.keep)


class LoopsInEval(nn.Module):
    def __init__(self, drop_prob=0.0):
        super().__init__()
        if not 0 <= drop_prob <= 1:
            raise ValueError("no probability")
        self.drop_prob, self.coin = drop_prob, nn.Dropout(drop_prob)

    def forward(self, x):
        return torch.stack([image * self.coin(x.new_ones(())) for image in x])


class ImageByImage(LoopsInEval):
    def forward(self, x):
        return super().forward(x) if self.training else x


class UnderAnotherName(ImageByImage):
    def __init__(self, drop_prob=0.0):
        super().__init__(drop_prob)
        del self.drop_prob


class NoDefault(ImageByImage):
    def __init__(self, drop_prob):
        super().__init__(drop_prob)


class LeavesEval(ByComparison):
    def forward(self, x):
        out = super().forward(x)
        self.eval()
        return out


class SavesItsCoin(ByComparison):
    def __init__(self, drop_prob=0.0):
        super().__init__(drop_prob)
        self.register_buffer("coin", torch.ones(1))


class SeedOfItsOwn(ByComparison):
    def forward(self, x):
        torch.manual_seed(0)
        return super().forward(x)


class SameLayerEverywhere(ByComparison):
    def forward(self, x):
        lucky = torch.rand(len(x), generator=self.chance) < self.keep
        lucky = lucky.view(-1, *[1] * (x.ndim - 1))
        return x * lucky / (self.keep or 1) if self.training else x

    def __init__(self, drop_prob=0.0):
        super().__init__(drop_prob)
        self.chance = torch.Generator().manual_seed(0)


class OnTheCpu(ByComparison):
    def forward(self, x):
        lucky = torch.rand(len(x), *[1] * (x.ndim - 1)) < self.keep
        return x * lucky.to(x.dtype) / (self.keep or 1) if self.training else x


class ZerosWithoutGraph(ByComparison):
    def forward(self, x):
        if self.training and not self.keep:
            return torch.zeros_like(x)
        return super().forward(x)


class MaskOfFloats(ByComparison):
    def forward(self, x):
        mask = torch.ones(len(x), *[1] * (x.ndim - 1), device=x.device)
        return x * F.dropout(mask, self.drop_prob) if self.training else x


class RoundsToFloat(ByComparison):
    def forward(self, x):
        return super().forward(x.float()).to(x) if self.training else x


class GraphCutOff(ByComparison):
    def forward(self, x):
        return super().forward(x.detach() if self.keep < 1 else x)


def whole_batch_by_chance(x, keep):
    return x / keep if torch.rand(()) < keep else x * 0


def three_names(x, keep):
    b, _, _ = x.shape
    return x * F.dropout(x.new_ones(b, 1, 1), 1 - keep)


class Clamped(drops()):
    def __init__(self, drop_prob=0.0):
        super().__init__(min(max(drop_prob, 0.0), 1.0))


# 5.4 The deeper, the more


def rates(rule):
    """A decay rule that refuses nonsense, whatever else is wrong with it."""

    def answer(drop_path_rate, depth):
        drop_path_rates(drop_path_rate, depth)
        return rule(drop_path_rate, depth)

    return answer


def step_by_step(drop_path_rate, depth):
    found, step = [0.0], drop_path_rate / (depth - 1) if depth > 1 else 0.0
    while len(found) < depth:
        found.append(found[-1] + step)
    return found


def by_range(drop_path_rate, depth):
    """Steps of equal size, as many as fit below the rate."""
    if depth == 1:
        return [0.0]
    step = drop_path_rate / (depth - 1)
    return [step * i for i in range(round(drop_path_rate / step) + 1)]


RIGHT = {
    "5.1": [
        with_other_names,
        lambda x, n1, look, n2, mlp: pre_norm(x, n1, look, n2, mlp),
    ],
    "5.2": [12.0 * 192**2 + 13 * 192, np.int64(444_864), [444_864], "444864"],
    "5.3": [ByComparison, ImageByImage],
    "5.4": [
        rates(step_by_step),
        rates(lambda r, n: torch.linspace(0, r, n, device="cpu").tolist()),
        rates(lambda r, n: [*np.linspace(0, r, n)]),
    ],
}
WRONG = {
    "5.1": [
        (sum_from_normed, "norm-on-the-sum"),
        (half_a_residual, "residual-missing"),
        (
            lambda x, norm1, attn, *more: pre_norm(
                x, norm1, lambda x: 2 * attn(x), *more
            ),
            r"equations 2 and 3 differ by up to \d",
        ),
        (sum_changed_in_place, "what `backward` carries back to the input raised Runt"),
        (lambda x, *parts: pre_norm(x.detach(), *parts), "what `backward` carries"),
        (
            lambda x, *_: x[:, :1],
            r"of shape \(2, 5, 12\) went in, \(2, 1, 12\) came out",
        ),
    ],
    "5.2": [
        (4 * 192**2 + 4 * 192, "mlp-forgotten"),
        (12 * 192**2 + 10 * 192, r"444,288 is 12 d d \+ 10 d.* layer by layer"),
        ((12, 13), "one value is asked for"),
        ("12 d d + 13 d", "a number is asked for, got '12 d d"),
        (400_000, "400,000 is 10 d d .* the shape of each matrix"),
    ],
    "5.3": [
        (drops(whole_batch_by_chance), "whole-batch-at-once"),
        (
            drops(lambda x, keep: x * F.dropout(torch.ones(len(x), 1, 1), keep)),
            "keep-and-drop-exchanged",
        ),
        (
            drops(lambda x, keep: x * per_image(x, keep) / (1 - keep)),
            r"multiplied by 3\.33, the mean is 2\.3",
        ),
        (
            drops(lambda x, keep: x / keep * per_image(x, keep)),
            "contains nan.* is 0 divided by 0",
        ),
        (drops(three_names), "three-axes-assumed"),
        (Clamped, "nonsense-let-through"),
        (drops(in_eval=lambda x, keep: x.half().float()), "in eval .* pass as it is"),
        (NoDefault, "a layer made without a drop_prob raised TypeError"),
        (UnderAnotherName, r"attribute drop_prob.* expected 0\.25, got None"),
        (LoopsInEval, "but no image at all in eval .* raised RuntimeError"),
        (
            drops(in_eval=lambda x, keep: x if keep else 0 * x),
            "with drop_prob 1 in eval the branch must pass",
        ),
        (ZerosWithoutGraph, "drop_prob=1 and `backward` raised RuntimeError"),
        (GraphCutOff, r"drop_prob=0\.3 and `backward` raised RuntimeError"),
        (SeedOfItsOwn, "same-images-again"),
        (SameLayerEverywhere, "same-images-again"),
        (LeavesEval, "mode after a pass in training: expected True, got False"),
        (SavesItsCoin, r"nothing needs to be saved,: expected \[\], got \['coin'\]"),
        (OnTheCpu, "on another device .* raised RuntimeError"),
        (
            drops(lambda x, keep: x * per_image(x, 0.7 if keep else 0) / (keep or 1)),
            "drop_prob is 0.6, 30% were dropped",
        ),
        (
            MaskOfFloats,
            r"input of float16: the input is torch.float16, the result tor",
        ),
        (RoundsToFloat, "float64, drop_prob=0.* got other numbers"),
    ],
    "5.4": [
        (rates(lambda r, n: torch.linspace(0, r, n)), "rates-from-a-tensor"),
        (rates(lambda r, n: (0.0,) * n), "a list is asked for, got tuple"),
        (rates(lambda r, n: ["0.0"] * n), "must hold plain floats, got .'str'"),
        (
            rates(lambda r, n: [r * i / max(n - 1, 1) for i in range(n)][:12]),
            "with 24 blocks: ",
        ),
        (
            rates(lambda r, n: drop_path_rates(r, n) if n > 1 else [0]),
            r"drop_path_rates\(0.3, 1\) must hold plain floats, got .'int'",
        ),
        (rates(lambda r, n: [0.0, r]), "must give 4 rates, got 2"),
        (rates(lambda r, n: [r * (n - i) / n for i in range(n)]), "falls-with-depth"),
        (
            rates(lambda r, n: torch.linspace(0, r, n + 1, device="cpu").tolist()[:n]),
            "steps-counted-as-blocks",
        ),
        (
            rates(lambda r, n: [r * (i / max(n - 1, 1)) ** 2 for i in range(n)]),
            "in equal steps",
        ),
        (step_by_step, "nonsense-let-through"),
        (rates(by_range), "a rate of 0 raised ZeroDivisionError"),
        (
            rates(lambda r, n: [min(x, 0.9) for x in drop_path_rates(r, n)]),
            r"with a rate of 1: expected \[0\.0, 0\.5, 1\.0\], got",
        ),
    ],
}
