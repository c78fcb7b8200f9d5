"""Right answers and known mistakes for the exercises of lesson 05."""

import torch
from torch import nn
from torch.nn import functional as F

from checks import stub
from course_vit.encoder_block import DropPath, drop_path_rates

# 5.1 A colleague's block


def pre_norm(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    return x + mlp(norm2(x))


def with_other_names(x, norm1, attn, norm2, mlp):
    found = attn(norm1(x))
    middle = torch.add(x, found)
    thought = mlp(norm2(middle))
    return sum([middle, thought])


def post_norm(x, norm1, attn, norm2, mlp):
    x = norm1(x + attn(x))
    return norm2(x + mlp(x))


def sum_from_normed(x, norm1, attn, norm2, mlp):
    x = norm1(x)
    x = x + attn(x)
    x = norm2(x)
    return x + mlp(x)


def colleague(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    x = norm2(x)
    return x + mlp(x)


def norm_behind(x, norm1, attn, norm2, mlp):
    x = x + norm1(attn(x))
    return x + norm2(mlp(x))


def second_norm_behind(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    return norm2(mlp(x)) + x


def no_residual(x, norm1, attn, norm2, mlp):
    return mlp(norm2(attn(norm1(x))))


def half_a_residual(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    return mlp(norm2(x))


def side_by_side(x, norm1, attn, norm2, mlp):
    return x + attn(norm1(x)) + mlp(norm2(x))


def second_norm_forgotten(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    return x + mlp(x)


def norm_called_for_nothing(x, norm1, attn, norm2, mlp):
    norm1(x)
    x = x + attn(x)
    return x + mlp(norm2(x))


def norms_swapped(x, norm1, attn, norm2, mlp):
    return pre_norm(x, norm2, attn, norm1, mlp)


def one_norm(x, norm1, attn, norm2, mlp):
    return pre_norm(x, norm1, attn, norm1, mlp)


def think_first(x, norm1, attn, norm2, mlp):
    return pre_norm(x, norm2, mlp, norm1, attn)


def doubled(x, norm1, attn, norm2, mlp):
    x = x + 2 * attn(norm1(x))
    return x + mlp(norm2(x))


# 5.3 Drop paths: right ones


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


class ImageByImage(nn.Module):
    def __init__(self, drop_prob=0.0):
        super().__init__()
        if not 0 <= drop_prob <= 1:
            raise ValueError("no probability")
        self.drop_prob, self.coin = drop_prob, nn.Dropout(drop_prob)

    def forward(self, x):
        if not self.training:
            return x
        return torch.stack([image * self.coin(x.new_ones(())) for image in x])


# 5.3 Drop paths: wrong ones


class UnderAnotherName(ImageByImage):
    def __init__(self, drop_prob=0.0):
        super().__init__(drop_prob)
        del self.drop_prob


class LoopsInEval(ImageByImage):
    def forward(self, x):
        return torch.stack([image * self.coin(x.new_ones(())) for image in x])


class NoDefault(ImageByImage):
    def __init__(self, drop_prob):
        super().__init__(drop_prob)


class ZerosInEval(ByComparison):
    def forward(self, x):
        return super().forward(x) if self.keep else 0 * x


class ZerosWithoutGraph(ByComparison):
    def forward(self, x):
        if self.training and not self.keep:
            return torch.zeros_like(x)
        return super().forward(x)


class RoundsToFloat(ByComparison):
    def forward(self, x):
        return super().forward(x.float()).to(x) if self.training else x


class GraphCutOff(ByComparison):
    def forward(self, x):
        return super().forward(x.detach() if self.keep < 1 else x)


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


class WholeBatchByChance(Mistaken):
    def wrong(self, x):
        return x * 0 if torch.rand(()) < self.p else x / self.keep


class Channels(Mistaken):
    def wrong(self, x):
        return x * self.draw(x, x.shape[-1]) / self.keep


class TokensOfAll(Mistaken):
    def wrong(self, x):
        return x * self.draw(x, x.shape[1], 1) / self.keep


class TokenByToken(Mistaken):
    def wrong(self, x):
        return x * self.draw(x, *x.shape[:2], 1) / self.keep


class Unscaled(Mistaken):
    def wrong(self, x):
        return x * self.per_image(x)


class UnscaledByLoop(Mistaken):
    def wrong(self, x):
        return torch.stack([x_i if torch.rand(()) > self.p else 0 * x_i for x_i in x])


class Multiplied(Mistaken):
    def wrong(self, x):
        return x * self.per_image(x) * self.keep


class DividedByDrop(Mistaken):
    def wrong(self, x):
        return x * self.per_image(x) / self.p


class Swapped(Mistaken):
    def wrong(self, x):
        return x * (1 - self.per_image(x)) / self.keep


class SwappedInDropout(Mistaken):
    def wrong(self, x):
        return x * F.dropout(torch.ones(len(x), 1, 1), self.keep)


class NotANumber(Mistaken):
    def wrong(self, x):
        return x / self.keep * self.per_image(x)


class OneRank(Mistaken):
    def wrong(self, x):
        mask = self.draw(x, len(x), 1, 1)
        return x * mask / self.keep if self.p < 1 else x * 0


class ThreeNames(Mistaken):
    def wrong(self, x):
        b, _, _ = x.shape
        return x * F.dropout(x.new_ones(b, 1, 1), self.p)


class Unchecked(Mistaken):
    def wrong(self, x):
        return x * self.per_image(x) / self.keep if self.p < 1 else x * 0


class Clamped(Unchecked):
    def __init__(self, drop_prob=0.0):
        super().__init__(min(max(drop_prob, 0.0), 1.0))


class AlwaysOn(Unchecked):
    def forward(self, x):
        return self.wrong(x)


class FunctionInEval(Mistaken):
    def forward(self, x):
        return x * F.dropout(x.new_ones(len(x), *[1] * (x.ndim - 1)), self.p)


class ScaledInEval(Unchecked):
    def forward(self, x):
        return self.wrong(x) if self.training else x * self.keep


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


def by_linspace(drop_path_rate, depth):
    return torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()


def by_range(drop_path_rate, depth):
    """Steps of equal size, as many as fit below the rate."""
    if depth == 1:
        return [0.0]
    step = drop_path_rate / (depth - 1)
    return [step * i for i in range(round(drop_path_rate / step) + 1)]


def full_rate_alone(r, n):
    return [r] if n == 1 else drop_path_rates(r, n)


D = 192
RIGHT = [
    ("5.1", pre_norm),
    ("5.1", with_other_names),
    ("5.2", 444_864),
    ("5.2", 12.0 * D**2 + 13 * D),
    ("5.3", DropPath),
    ("5.3", ByComparison),
    ("5.3", ImageByImage),
    ("5.4", drop_path_rates),
    ("5.4", rates(step_by_step)),
    ("5.4", rates(by_linspace)),
]
WRONG = [
    ("5.1", stub, None, "still empty"),
    ("5.1", post_norm, "norm-on-the-sum", "writes over the sum"),
    ("5.1", sum_from_normed, "norm-on-the-sum", "writes over the sum"),
    ("5.1", colleague, "norm-on-the-sum", "writes over the sum"),
    ("5.1", norm_behind, "norm-after-the-branch", "the bias of a norm"),
    ("5.1", second_norm_behind, "norm-after-the-branch", "before the branch or behind"),
    ("5.1", no_residual, "residual-missing", "what was there must be added"),
    ("5.1", half_a_residual, "residual-missing", "what was there must be added"),
    ("5.1", side_by_side, "branches-side-by-side", "starts from z', not from z"),
    ("5.1", think_first, "mlp-first", "have not looked around yet"),
    ("5.1", second_norm_forgotten, "norm-forgotten", "what branch 2 of the block adds"),
    ("5.1", norm_called_for_nothing, "norm-forgotten", "what branch 1 of the block"),
    ("5.1", one_norm, "one-norm-for-both", "the other one is idle"),
    ("5.1", norms_swapped, "norms-exchanged", "stand in the wrong place"),
    ("5.1", doubled, None, r"equations 2 and 3 differ by up to \d"),
    ("5.1", lambda x, **_: x[:, :1], None, "came out"),
    ("5.2", 4 * D**2, "mlp-forgotten", r"147,456 is 4 d d \+ 0 d.* attention alone"),
    ("5.2", 4 * D**2 + 4 * D, "mlp-forgotten", "attention alone"),
    ("5.2", 6 * D**2 + 13 * D, "mlp-not-widened", "how wide is the MLP"),
    ("5.2", 18 * D**2 + 13 * D, "matrices-per-head", "once for every head"),
    ("5.2", 12 * D**2, "biases-and-norms-forgotten", "what in a block is no matrix"),
    ("5.2", 12 * D**2 + 4 * D, "biases-forgotten", "also adds something"),
    ("5.2", 12 * D**2 + 9 * D, "norms-forgotten", "what else learns, once per channel"),
    ("5.2", 12 * D**2 + 11 * D, "norm-half-counted", "a norm stretches, and what"),
    ("5.2", 12 * D**2 + 10 * D, None, r"12 d d \+ 10 d.* layer by layer"),
    ("5.2", 400_000, None, "the shape of each matrix"),
    ("5.2", 12, None, "One matrix of d times d alone"),
    ("5.3", stub, None, "still empty"),
    ("5.3", Idle, "never-drops", "idle all the time"),
    ("5.3", nn.Identity, "never-drops", "nothing was dropped"),
    ("5.3", WholeBatch, "whole-batch-at-once", "whole batch is kept or dropped"),
    ("5.3", WholeBatchByChance, "whole-batch-at-once", "one number for each image"),
    ("5.3", Channels, "same-for-all-images", "belongs to an image"),
    ("5.3", TokensOfAll, "same-for-all-images", "channels or tokens were dropped"),
    ("5.3", nn.Dropout, "dropout-of-numbers", r"8\d% of the images .* is dropout"),
    ("5.3", TokenByToken, "dropout-of-numbers", "mask for image 0"),
    ("5.3", Swapped, "keep-and-drop-exchanged", r"(69|7\d)% .* which of the two"),
    ("5.3", SwappedInDropout, "keep-and-drop-exchanged", "which of the two"),
    ("5.3", Unscaled, "survivors-not-rescaled", r"the mean falls to 0\.[67]"),
    ("5.3", UnscaledByLoop, "survivors-not-rescaled", "what does dropout do to them"),
    ("5.3", Multiplied, "rescaled-the-wrong-way", r"by 0\.70, .* falls to 0\.4"),
    ("5.3", DividedByDrop, None, r"multiplied by 3\.33, the mean is 2\.3"),
    ("5.3", AlwaysOn, "drops-in-eval", "two passes in eval differ"),
    ("5.3", FunctionInEval, "drops-in-eval", "ask self.training"),
    ("5.3", ScaledInEval, "scaled-in-eval", r"was multiplied by 0\.70"),
    ("5.3", NotANumber, None, "holds nan.* is 0 divided by 0"),
    ("5.3", OneRank, "three-axes-assumed", r"shape \(6,\).* any rank is welcome"),
    ("5.3", ThreeNames, "three-axes-assumed", "How many axes has your mask"),
    ("5.3", Unchecked, "nonsense-let-through", r"drop_prob=-0.1 should raise ValueE"),
    ("5.3", Clamped, "nonsense-let-through", "nothing was raised"),
    ("5.3", NoDefault, None, "a layer without a drop_prob raised TypeError"),
    ("5.3", UnderAnotherName, None, "has the drop_prob None: keep it as"),
    ("5.3", LoopsInEval, None, "but no image at all in eval .* raised RuntimeError"),
    ("5.3", ZerosInEval, None, "with drop_prob 1 in eval the branch must pass"),
    ("5.3", ZerosWithoutGraph, None, "drop_prob=1 and `backward` raised RuntimeError"),
    ("5.3", GraphCutOff, None, r"drop_prob=0\.3 and `backward` raised RuntimeError"),
    ("5.3", RoundsToFloat, None, "numbers of float64 must pass as they are"),
    ("5.4", stub, None, "still empty"),
    (
        "5.4",
        rates(lambda r, n: torch.linspace(0, r, n)),
        "rates-from-a-tensor",
        "the device meta",
    ),
    (
        "5.4",
        rates(lambda r, n: list(torch.linspace(0, r, n))),
        "rates-from-a-tensor",
        "a shape and no numbers",
    ),
    (
        "5.4",
        rates(lambda r, n: torch.linspace(0, r, n).tolist()),
        "rates-from-a-tensor",
        "plain floats do without",
    ),
    ("5.4", rates(lambda r, n: (0.0,) * n), None, "a list is asked for, got tuple"),
    ("5.4", rates(lambda r, n: ["0.0"] * n), None, "must hold plain floats, got str"),
    ("5.4", rates(lambda r, n: [0.0, r]), None, "must give 4 rates"),
    ("5.4", rates(lambda r, n: [r] * n), "one-rate-for-all", "the same rate"),
    (
        "5.4",
        rates(lambda r, n: drop_path_rates(r, n)[::-1]),
        "falls-with-depth",
        r"goes from 0\.300 to 0\.000",
    ),
    (
        "5.4",
        rates(lambda r, n: [r * (n - i) / n for i in range(n)]),
        "falls-with-depth",
        "is everything else built",
    ),
    (
        "5.4",
        rates(lambda r, n: [r * (i + 1) / n for i in range(n)]),
        "first-block-dropped",
        r"starts at 0\.075",
    ),
    (
        "5.4",
        rates(lambda r, n: [r * i / n for i in range(n)]),
        "steps-counted-as-blocks",
        r"ends at 0\.225, not at 0\.3: how many steps",
    ),
    (
        "5.4",
        rates(lambda r, n: torch.linspace(0, r, n + 1, device="cpu").tolist()[:n]),
        "steps-counted-as-blocks",
        "how many steps",
    ),
    (
        "5.4",
        rates(lambda r, n: [r * (i / max(n - 1, 1)) ** 2 for i in range(n)]),
        None,
        "in equal steps",
    ),
    (
        "5.4",
        rates(lambda r, n: [r * i / (n - 1) for i in range(n)]),
        "single-block-divides-by-zero",
        "how many steps are there",
    ),
    (
        "5.4",
        rates(full_rate_alone),
        "single-block-taken-for-last",
        "Which other place in the row",
    ),
    (
        "5.4",
        lambda r, n: [r * i / max(n - 1, 1) for i in range(n)],
        "nonsense-let-through",
        r"drop_path_rates\(-0\.1, 4\) should raise ValueError",
    ),
    ("5.4", step_by_step, "nonsense-let-through", "nothing was raised"),
    ("5.4", rates(by_range), None, "a rate of 0 raised ZeroDivisionError"),
    (
        "5.4",
        rates(lambda r, n: [min(x, 0.9) for x in drop_path_rates(r, n)]),
        None,
        r"a rate of 1 and 3 blocks: \[0\.0, 0\.5, 1\.0\], got",
    ),
]
