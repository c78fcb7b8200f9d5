"""Lesson 10: right answers in other styles, mistakes in other forms."""

import numpy as np
import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_vit.kit.checks.lesson_10 import TOKENS, WIDTHS, layer
from course_vit.t2t import TokenAttention, linear_attention, soft_split

# 10.2 Windows as tokens


def by_module(x, split):
    kernel, stride, padding = split
    return nn.Unfold(kernel, stride=stride, padding=padding)(x).transpose(1, 2)


def by_views(x, split):
    kernel, stride, padding = split
    padded = F.pad(x, [padding] * 4)
    windows = padded.unfold(2, kernel, stride).unfold(3, kernel, stride)
    return rearrange(windows, "b c gh gw p q -> b (gh gw) (c p q)")


def by_kernels(x, split):
    """Every pixel picked by a kernel of its own, in float32."""
    kernel, stride, padding = split
    size = x.shape[1] * kernel**2
    kernels = torch.eye(size).view(size, x.shape[1], kernel, kernel)
    return F.conv2d(x, kernels, stride=stride, padding=padding).flatten(2).mT


# 10.4 Where does the residual connection start?


class ByHand(TokenAttention):
    def forward(self, x):
        q, k, v = self.qkv(x).split(self.proj.in_features, dim=-1)
        weights = torch.softmax(self.scale * torch.einsum("bne,bme->bnm", q, k), dim=2)
        return torch.baddbmm(v, weights, v @ self.proj.weight.T) + self.proj.bias


class OneRounding(TokenAttention):
    """The scores are scaled by a number that has a precision of its own."""

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        scores = q @ k.mT * torch.full((1, 1, 1), self.scale)
        return v + self.proj(scores.softmax(dim=-1) @ v)


class SixNumbers(TokenAttention):
    def forward(self, x):
        q, k, v = self.qkv(x).split(6, dim=-1)
        return v + self.proj((q @ k.mT * self.scale).softmax(dim=-1) @ v)


# 10.5 Bracket first


def by_columns_of_ones(q, k, v, eps=1e-8):
    ones = torch.ones_like(v.narrow(2, 0, 1))
    mixed, total = (q @ (k.mT @ torch.cat([v, ones], 2))).split([v.shape[2], 1], dim=2)
    return mixed / (total + eps)


def by_steps(q, k, v, eps=1e-8, dtype=None):
    table = torch.zeros(len(v), k.shape[2], v.shape[2], dtype=dtype or v.dtype)
    for key, value in zip(k.unbind(dim=1), v.unbind(dim=1), strict=True):
        table = table + key.unsqueeze(2) * value.unsqueeze(1)
    total = (q * k.sum(dim=1, keepdim=True)).sum(dim=2, keepdim=True)
    return torch.bmm(q, table) / (total + eps)


def by_broadcast(q, k, v, eps=1e-8):
    """Every pair, without a matrix product that a counter could count."""
    scores = (q.unsqueeze(2) * k.unsqueeze(1)).sum(dim=3)
    mixed = (scores.unsqueeze(3) * v.unsqueeze(1)).sum(dim=2)
    return mixed / (scores.sum(dim=2, keepdim=True) + eps)


RIGHT = {
    "10.1": [
        [(56**2, 28**2, 14**2), torch.tensor(WIDTHS), 2 * 2.0],
        {"tokens": np.array(TOKENS), "widths": WIDTHS, "of 32": np.int64(4)},
    ],
    "10.2": [by_module, by_views],
    "10.3": [torch.tensor([1.0, 2.0, 4.0])],
    "10.4": [layer(), ByHand],
    "10.5": [by_columns_of_ones, by_steps],
    "10.6": ["b "],
}
WRONG = {
    "10.1": [
        (([1024, 256, 64], WIDTHS, 4), r"tokens \[1024, .* floor"),
        ((TOKENS, [49, 9, 9], 4), "channels-forgotten"),
        ((TOKENS, [64, 576, 576], 4), "kernel, kernel, c"),
        ((TOKENS, [147, 147, 147], 4), "leaves 64 numbers"),
        ((TOKENS, WIDTHS, 196), "8, 4 and 2"),
    ],
    "10.2": [
        (lambda x, split: soft_split(x, (*split[:2], 3)), r"tokens \(2, 20, 27\), got"),
        (
            lambda x, split: soft_split(x.roll(1, -1), split),
            "these are not the windows",
        ),
        (by_kernels, r"but torch\.float64, .* raised RuntimeError"),
        (
            lambda x, split: soft_split(x.float(), split).to(x),
            r"float64, .* pixels as they are, got some that are off by \de-0[78]",
        ),
    ],
    "10.3": [
        ({1, 9}, "window-size-counted"),
        ({1.5, 2, 4}, r"\[1\.5, 2, 4\]\?"),
        ({1, 2, 3, 4}, r"\[1, 2, 3, 4\]\? .* count along one side first"),
    ],
    "10.4": [
        (layer(lambda proj, x, *_: proj(x)), "mat1 and mat2 shapes"),
        (layer(lambda proj, x, q, k, v, mixed: 2 * v + proj(mixed)), "formula above"),
        (layer(scale=lambda scale: 11**-0.5), "but with a layer that makes 4 numbers"),
        (SixNumbers, "but a layer that makes 4 numbers of 7 raised ValueError"),
        (layer(lambda proj, *parts: parts[-1][:, :, :1]), r"6\), got \(2, 5, 1\)"),
        (OneRounding, "but tokens in bfloat16, .* raised RuntimeError"),
        (
            layer(lambda proj, x, q, k, v, mixed: (v + proj(mixed)).squeeze()),
            r"in float64: expected \(1, 1, 6\), got \(6,\)",
        ),
    ],
    "10.5": [
        (by_broadcast, "matrix-first"),
        (
            lambda q, k, v, eps=1e-8: torch.cat(
                [linear_attention(one, k, v, eps) for one in q.split(1, dim=1)], dim=1
            ),
            "matrix-first",
        ),
        (lambda q, k, v: (q @ k.mT).softmax(dim=1) @ v, "denominator-left-out"),
        (lambda q, k, v: linear_attention(q, k, v, 0.0), "contains nan"),
        (lambda q, k, v, eps=0.0: linear_attention(q + eps, k, v, 1e-8), r"eps=1\.0"),
        (lambda q, k, v: linear_attention(q, k * k, v), "divided by their sum"),
        (lambda *given: linear_attention(*given).mT, r"\(2, 5, 6\), got \(2, 6, 5\)"),
        (
            lambda *given, **more: by_steps(*given, **more, dtype=torch.float32),
            "but bfloat16, .* raised RuntimeError",
        ),
        (
            lambda *given, **more: linear_attention(
                *(part.float() for part in given), **more
            ).to(given[0]),
            r"with float64: differs .* up to \d\.?\d*e-0[78]",
        ),
        (
            lambda *given, **more: linear_attention(*given, **more).squeeze(),
            r"a single token: expected \(1, 1, 6\), got \(6,\)",
        ),
    ],
    "10.6": [("E", "answer A, B, C or D, got 'E'")],
}
