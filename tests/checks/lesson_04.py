"""Lesson 04: right answers in other styles, mistakes in other forms."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_vit.kit.checks.lesson_04 import (
    forwards,
    heads,
    leak_test,
    merged,
    mix,
    parts,
    splits,
)
from course_vit.multi_head_attention import MultiHeadAttention

# 4.2 Write the layer


class InTorchWords(MultiHeadAttention):
    def split_heads(self, x):
        if x.ndim != 3 or x.shape[2] != self.dim:
            raise ValueError("another width, or no batch")
        shape = (*x.shape[:2], self.num_heads, self.dim // self.num_heads)
        thirds = self.qkv(x).chunk(3, dim=-1)
        return tuple(third.view(shape).transpose(1, 2) for third in thirds)

    def forward(self, x):
        q, k, v = self.split_heads(x)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
        mixed = self.attn_drop(weights) @ v
        return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))


class HeadByHead(MultiHeadAttention):
    def split_heads(self, x):
        if (x.dim(), x.size(-1)) != (3, self.dim):
            raise ValueError("another width, or no batch")
        thirds = self.qkv(x).split(self.dim, dim=-1)
        width = self.dim // self.num_heads
        return [torch.stack(third.split(width, dim=-1), dim=1) for third in thirds]

    def forward(self, x):
        found = []
        for q, k, v in zip(*(p.unbind(1) for p in self.split_heads(x)), strict=True):
            scores = torch.einsum("bne,bme->bnm", q, k) * q.shape[-1] ** -0.5
            weights = F.dropout(scores.softmax(-1), self.attn_drop.p, self.training)
            found.append(torch.einsum("bnm,bme->bne", weights, v))
        return self.proj_drop(self.proj(torch.cat(found, dim=-1)))


class WelcomesAnyWidth(MultiHeadAttention):
    def split_heads(self, x):
        return super().split_heads(F.pad(x, (0, self.dim - x.shape[-1])))


class LooksAtWidthOnly(MultiHeadAttention):
    def split_heads(self, x):
        return super().split_heads(x if x.ndim == 3 else x[None])


class RefusesInForward(splits(parts)):
    def forward(self, x):
        MultiHeadAttention.split_heads(self, x)
        return super().forward(x)


class WelcomesAnyDivision(InTorchWords):
    def __init__(self, dim, num_heads=8, qkv_bias=True, attn_drop=0.0, proj_drop=0.0):
        super().__init__(dim, 1, qkv_bias, attn_drop, proj_drop)
        self.num_heads = num_heads


class ProbabilityAlone(MultiHeadAttention):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.attn_p = self.attn_drop.p
        del self.attn_drop

    def forward(self, x):
        drop = nn.Dropout(self.attn_p).train(self.training)
        return self.proj_drop(self.proj(merged(mix(*self.split_heads(x), drop=drop))))


class LeavesEval(HeadByHead):
    def forward(self, x):
        out = super().forward(x)
        self.proj_drop.eval()
        return out


class SavesItsScale(InTorchWords):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("scale", torch.ones(1))


class MeanOfTheMaps(InTorchWords):
    def attention_map(self, x):
        return super().attention_map(x).mean(dim=1)


class DetachesQueries(InTorchWords):
    def split_heads(self, x):
        q, k, v = super().split_heads(x)
        return q.detach(), k, v


class OnTheCpu(InTorchWords):
    def forward(self, x):
        return super().forward(x) * torch.ones(self.dim, dtype=x.dtype)


def ends(rule):
    """The layer, but its middle is another function of itself, q, k and v."""
    return forwards(lambda layer, *qkv: layer.proj_drop(layer.proj(rule(layer, *qkv))))


def small_survivors(layer, *qkv):
    keep = 1 - layer.attn_drop.p if layer.training else 1
    return merged(mix(*qkv, drop=lambda w: w * (torch.rand_like(w) < keep)))


# 4.4 A colleague's layer


def colleague(*order, merge=merged, mix=F.scaled_dot_product_attention, h=None):
    def repaired(layer, x, h=h):
        b, n, d = x.shape
        h = h or layer.num_heads
        q, k, v = layer.qkv(x).view(b, n, 3, h, d // h).permute(2, 0, *order, 4)
        return layer.proj(merge(mix(q, k, v)).reshape(b, n, d))

    return repaired


# 4.5 Does it leak?


def alone_or_in_company(layer, x):
    return not torch.allclose(layer(x[:1]), layer(x)[:1])


def by_gradient(layer, x):
    x = x.clone().requires_grad_()
    layer(x)[0].square().sum().backward()
    return bool(x.grad[1:].any())


def changed_by(change, watch=lambda x: x, same=torch.allclose):
    """A leak test with a different change of image 1."""

    def leaks(layer, x):
        other = torch.stack([x[0], change(x[1])])
        got, before = watch(layer(other)[0]), watch(layer(x[:2])[0])
        return not same(got, before)

    return leaks


RIGHT = {
    "4.1": [list("DGAEFB"), "dgaefb", "D, G, A, E, F, B", np.array([*"DGAEFB"])],
    "4.2": [InTorchWords, HeadByHead],
    "4.3": [" b ", "(B)"],
    "4.4": [
        colleague(3, 1),
        colleague(3, 1, merge=lambda mixed: torch.cat(mixed.unbind(1), dim=-1)),
    ],
    "4.5": [
        changed_by(torch.randn_like),
        changed_by(torch.zeros_like),
        alone_or_in_company,
        by_gradient,
    ],
}
WRONG = {
    "4.1": [
        (list("DCAEFB"), "reshape-into-heads"),
        ("DGACEFB", "decoy-kept"),
        ("DGAEBF", "last-map-before-merge"),
        ("DGEAFB", "line E stopped with NameError: name 'q'"),
        ("DAGEFB", "line A stopped with ValueError"),
        ("BDGAEF", "line B stopped with NameError"),
        ("DGAE", r"end with shape \(2, 3, 5, 4\)"),
        ("DGAEFBB", "use each line once: B appears"),
        (list("DGAX"), r"no line \['X'\]"),
        ([], "nothing is called `out`"),
    ],
    "4.2": [
        (splits(lambda qkv, h: torch.stack(qkv.chunk(3, -1))), "gave shapes .*, not "),
        (
            splits(lambda qkv, h: parts(qkv, h) / 2),
            "does not return the numbers that `qkv` computes",
        ),
        (ends(lambda _, *qkv: merged(mix(*qkv, 0.6))), "differ from those of a loop"),
        (
            ends(lambda layer, q, k, v: merged(mix(q, k, layer.attn_drop(v)))),
            "results-dropped",
        ),
        (ends(small_survivors), r"a weight counts 0\.[45]\d of what it should"),
        (
            ends(lambda layer, *qkv: merged(mix(*qkv, 0.5, drop=layer.attn_drop))),
            "with 1 head of width 6: differs",
        ),
        (
            ends(lambda layer, *qkv: heads(layer, *[part.squeeze(1) for part in qkv])),
            "but 1 head of width 6 raised",
        ),
        (
            ends(lambda layer, *qkv: heads(layer, *qkv) + 0 * layer.qkv.bias[0]),
            "with qkv_bias=False raised TypeError",
        ),
        (WelcomesAnyWidth, r"\(2, 5, 11\) should raise ValueError: nothing was raised"),
        (splits(parts), r"\(2, 5, 11\) should raise ValueError: got RuntimeError"),
        (LooksAtWidthOnly, "`forward` of .*, which have no batch axis, should"),
        (RefusesInForward, "`split_heads` of tokens .* should raise ValueError"),
        (WelcomesAnyDivision, "of 10 channels and 3 heads should raise ValueError"),
        (ProbabilityAlone, r"`attn_drop\.p` .* raised AttributeError"),
        (LeavesEval, "in a different mode, training or eval"),
        (SavesItsScale, r"`state_dict` \(it has the keys of published weights only\)"),
        (MeanOfTheMaps, r"`attention_map` \(later lessons call it\)"),
        (DetachesQueries, "what `backward` carries back"),
        (OnTheCpu, "on another device .* raised RuntimeError"),
    ],
    "4.3": [(16, "answer A, B or C, got 16")],
    "4.4": [
        (colleague(3, 1, merge=lambda mixed: mixed), "heads-not-moved-back"),
        (colleague(1, 3, merge=lambda mixed: mixed), "attends-among-heads"),
        (colleague(3, 1, mix=lambda *qkv: mix(*qkv, 1.0)), "only one line was broken"),
        (colleague(3, 1, h=3), "but 4 tokens of width 10, .* raised RuntimeError"),
    ],
    "4.5": [
        (lambda layer, x: not layer(x * 2).equal(layer(x)), "every-image-changed"),
        (lambda layer, x: not torch.equal(layer(x), layer(x)), "nothing-changed"),
        (lambda layer, x: True, "never ran the layer"),
        (leak_test(copy=lambda x: x), "changed its input"),
        (changed_by(lambda image: image + 1), "leaks of normalised tokens"),
        (
            changed_by(lambda image: image + 1, same=torch.equal),
            "leaks of .*differences of tokens",
        ),
        (changed_by(lambda image: image.flip(0)), "leaks of .* mean of all tokens"),
        (changed_by(torch.neg), "leaks of numbers without a sign were not noticed"),
        (
            changed_by(lambda image: 2 * image, torch.sum),
            "leaks of .*normalised tokens",
        ),
        (changed_by(lambda image: 2 * image), "leaks of tokens of length 1"),
        (changed_by(lambda image: image.flip(1)), "leaks of the mean of each token"),
        (changed_by(torch.randn_like, lambda x: x[0]), "into the last token only"),
        (changed_by(torch.randn_like, lambda x: x[:, 0]), "the last channel only"),
    ],
}
