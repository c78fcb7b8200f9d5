"""Lesson 12: right answers in other styles, mistakes in other forms."""

from math import isqrt

import numpy as np
import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_vit.deit import soft_distillation
from course_vit.kit.checks.lesson_12 import (
    bicubic,
    by_factor,
    cut,
    encode,
    lay_back,
    mixer,
    positions,
    prepend,
    shares,
    table,
    to_train,
    waves,
)
from course_vit.self_attention import attention


def by_patches(inside, kernel):
    def embed(images, weight, bias):
        patches = cut(inside=inside)(images, weight.shape[-1])
        return F.linear(patches, rearrange(weight, f"d c p q -> d ({kernel})"), bias)

    return embed


def waves_by_pairs(n, d):
    angle = torch.outer(torch.arange(n).float(), 10_000 ** (-torch.arange(0, d, 2) / d))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def stretch_by_module(table, side):
    old = isqrt(table.shape[1])
    grid = table.mT.unflatten(2, (old, old))
    return nn.Upsample((side, side), mode="bicubic")(grid).flatten(2).mT


def masked(fill):
    return lambda q, k, mask: fill(q @ k.mT / q.shape[-1] ** 0.5, mask).softmax(dim=-1)


def hear_each(layer, x, real):
    out = torch.zeros_like(x)
    for i, own in enumerate(real):
        part = x[i : i + 1, own]
        out[i, own] = layer(part, part, part)[0][0]
    return out


def looks_by_loop(x, h):
    return torch.cat([attention(part, part, part) for part in x.chunk(h, -1)], dim=-1)


def merged_by_reshape(x, h):
    parts = rearrange(x, "b n (h e) -> b h n e", h=h)
    return attention(parts, parts, parts).reshape(x.shape)


def split_by_view(qkv, h):
    return qkv.unflatten(2, (3, h, -1)).permute(2, 0, 3, 1, 4).unbind()


def turned(x):
    return x.transpose(0, 1)


def kept(x, keep):
    return x * (torch.rand_like(x) < keep)


class Readout(nn.Module):
    def __init__(self, head, drop):
        super().__init__()
        self.head, self.drop = head, drop

    def forward(self, x):
        return self.head(F.dropout(x, self.drop, self.training))


def freeze_each(backbone):
    for part in backbone.parameters():
        part.requires_grad = False
    return backbone


class Unlearning(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    @torch.no_grad()
    def forward(self, x):
        return self.backbone(x)


def distil_by_definition(student, teacher, tau):
    p, q = ((x / tau).softmax(dim=-1) for x in (teacher, student))
    return (p * (p.log() - q.log())).sum() / len(p) * tau**2


def learners(distiller):
    head = distiller.distillation_head.parameters()
    return [*distiller.student.parameters(), distiller.distillation_token, *head]


def perform_in_full(x, kqv, w):
    k, q, v = kqv(x).chunk(3, dim=-1)
    k, q = ((x @ w.T - x.square().sum(-1, keepdim=True) / 2).exp() for x in (k, q))
    return q @ k.mT @ v / (q @ k.mT).sum(dim=-1, keepdim=True)


def window_by_window(windows, side):
    windows, row = windows.unflatten(2, (-1, 7, 7)), isqrt(windows.shape[1])
    full = windows.new_zeros(len(windows), windows.shape[2], side + 4, side + 4)
    for place in range(row * row):
        i, j = 4 * (place // row), 4 * (place % row)
        full[:, :, i : i + 7, j : j + 7] = windows[:, place]
    return full[:, :, 2:-2, 2:-2]


RIGHT = {
    "12.1": [(" Order", lambda images, p: F.unfold(images, p, stride=p).mT)],
    "12.2": [("order", by_patches("p q c", "p q c"))],
    "12.3": [("role", waves_by_pairs)],
    "12.4": [("scale", lambda n, d: nn.init.trunc_normal_(table(1)(n, d), std=0.02))],
    "12.5": [("role", positions(lambda x, table: table.expand_as(x)))],
    "12.6": [
        ("scale", stretch_by_module),
        ("count", by_factor(1e-6)),
        ["count", lambda table, side: bicubic(table, side, "timm")],
    ],
    "12.7": [("axis", shares(-1))],
    "12.8": [
        ("gradient", lambda x, qkv: attention(*qkv(x).split(x.shape[-1], dim=-1)))
    ],
    "12.9": [
        ("missing", masked(lambda s, mask: s.masked_fill_(~mask, -torch.inf))),
        ("missing", masked(lambda s, mask: torch.where(mask, s, -torch.inf))),
        ("missing", masked(lambda s, mask: s + mask.double().log())),
    ],
    "12.10": [("role", hear_each)],
    "12.11": [("axis", looks_by_loop)],
    "12.12": [("order", split_by_view)],
    "12.13": [("axis", mixer(batch_first=False, turn=turned))],
    "12.14": [("gradient", lambda layer, x: layer(x, x.clone(), x + 0)[0])],
    "12.15": [("missing", encode(lambda x, f, g: (y := f(x) + x) + g(y)))],
    "12.16": [("axis", lambda n, d: nn.InstanceNorm1d(n))],
    "12.17": [("scale", lambda x, keep, on: kept(x, keep) / keep if on else x)],
    "12.18": [
        ("scale", lambda x, p: x * (torch.rand(len(x), 1, 1) >= p) / max(1 - p, 1e-9))
    ],
    "12.19": [("missing", lambda x, b, n, h: h(n(nn.Sequential(*b)(x)))[:, 0])],
    "12.20": [("healthy", lambda t, x: torch.cat([t.repeat(len(x), 1, 1), x], dim=1))],
    "12.21": [("mode", Readout)],
    "12.22": [("gradient", freeze_each), ("mode", Unlearning)],
    "12.23": [("missing", distil_by_definition)],
    "12.24": [
        ("missing", learners),
        ("missing", lambda net: [{"params": learners(net)}]),
        ("missing", lambda net: net.teacher.requires_grad_(False) and net.parameters()),
    ],
    "12.25": [
        ("count", lambda s, k, t, p: len(range(0, s + 2 * p - k + 1, t))),
        ("count", lambda s, k, t, p: np.floor((s + 2 * p - k) / t + 1)),
    ],
    "12.26": [("order", perform_in_full)],
    "12.27": [("missing", window_by_window)],
}

WRONG = {
    "12.1": [
        (("leak", cut()), "fault-misread"),
        (("shape", cut()), r"one of axis, order, .* got 'shape'"),
        ("order", "cannot be read as an answer"),
        (("order", lambda x, p: x.flatten(1)), r"\(2, 6, 48\), got \(2, 288\)"),
        (("order", lambda x, p: cut()(x, p) + 1), "draw one"),
    ],
    "12.2": [
        (("order", by_patches("p q c", "c p q")), "pixels-meet-channels-first"),
        (("order", by_patches("c p q", "p q c")), "from the convolution"),
    ],
    "12.3": [
        (("count", waves(lambda c: c // 2 * 3 / 16)), "not the table of lesson 2")
    ],
    "12.4": [
        (("scale", table(0.3)), r"deviation of 0\.\d+, published models 0\.02$"),
        (
            ("scale", lambda n, d: table(0.02)(1, d).repeat(1, n, 1)),
            "fixed-not-learned",
        ),
    ],
    "12.5": [
        (("role", positions(lambda x, table: 2 * table)), "not the table's"),
        (
            ("role", lambda x, table: table[:, torch.arange(x.shape[1]) % 16]),
            "not those of the stretched",
        ),
    ],
    "12.6": [
        (
            ("count", lambda t, side: by_factor(side == 61)(t, side)[:, : side**2]),
            "product-rounded-down",
        ),
    ],
    "12.7": [(("axis", lambda q, k: shares(1)(q, k) / 2), "what should a row")],
    "12.8": [(("missing", lambda x, qkv: x + qkv(x)[..., :6]), "not the values")],
    "12.9": [
        (
            ("missing", masked(lambda s, mask: s.masked_fill(mask, -1e9))),
            "mask-turned-round",
        ),
        (
            ("missing", masked(lambda s, mask: s.masked_fill(~mask, -1))),
            "zero-taken-for-forbidden",
        ),
    ],
    "12.11": [(("axis", merged_by_reshape), "heads-by-reshape")],
    "12.13": [
        (("leak", mixer(batch_first=False, cut=torch.detach)), "images-read-as-tokens"),
        (("leak", mixer(turn=turned)), "images-read-as-tokens"),
        (("leak", lambda d, h: nn.Linear(d, d)), "do all tokens of one meet"),
        (("leak", lambda d, h: mixer()(d, 1)), "3 heads .* the layer has 1"),
    ],
    "12.14": [
        (("gradient", lambda layer, x: x), "has changed"),
        (("gradient", lambda layer, x: layer.eval()(x, x, x)[0]), "in eval mode now"),
    ],
    "12.15": [(("missing", lambda x, blocks: x), "not x")],
    "12.16": [(("axis", lambda n, d: nn.Identity()), r"they go up to \d")],
    "12.17": [
        (
            ("role", lambda x, keep, on: kept(x.sign(), keep) / keep if on else x),
            "both should be 1",
        ),
        (
            ("role", lambda x, keep, on: kept(x, keep) if on else x * keep),
            "0.8 in training and 0.8 in eval: both should be 1",
        ),
    ],
    "12.18": [
        (("scale", lambda x, p: x * F.dropout(x.new_ones(400, 1, 1), p)), "400"),
        (("scale", lambda x, p: F.dropout1d(x, p % 1)), "something survives"),
    ],
    "12.19": [
        (("missing", lambda x, b, n, h: h(n(b[0](x))[:, 0])), "other scores"),
        (
            ("missing", lambda x, b, n, h: h(n(nn.Sequential(*b)(x[:, :1])))[:, 0]),
            "other scores",
        ),
        (("missing", lambda x, b, n, h: h(n(b[1](b[0](x)))[:, 0])), "other inputs"),
    ],
    "12.20": [(("healthy", lambda t, x: prepend(t.data, x)), "token-cut-off")],
    "12.22": [
        (("mode", lambda net: freeze_each(net[0]) and net), "inner-layers-forgotten")
    ],
    "12.23": [
        (
            ("role", lambda s, t, tau: soft_distillation(s, t, tau) / 2),
            "definition gives",
        )
    ],
    "12.24": [
        (("gradient", to_train("student")), "distillation_token, .* What would move"),
        (("gradient", lambda net: 2 * to_train("student", "dist")(net)), "twice"),
    ],
    "12.25": [(("count", lambda s, k, t, p: s // t + 2), "not what unfold")],
    "12.26": [(("role", lambda x, kqv, w: kqv(x)[:, :, :4]), "not the linear")],
    "12.27": [
        (("scale", lay_back(lambda total, times: total / times + 1)), "be 1 every")
    ],
}

# Right for one size: a fixed number in place of a name.
FIXED = {
    "12.1": lambda images, p: cut()(images, 4),
    "12.2": lambda images, w, b: F.conv2d(images, w, b, stride=4).flatten(2).mT,
    "12.3": lambda n, d: waves_by_pairs(50, d),
    "12.4": lambda n, d: table(0.02)(196, d),
    "12.5": lambda x, table: table if x.shape[1] == 16 else bicubic(table, 6),
    "12.7": lambda q, k: (q @ k.mT / 6**0.5).softmax(dim=-1),
    "12.8": lambda x, qkv: attention(*qkv(x)[..., :18].split(6, dim=-1)),
    "12.9": lambda q, k, mask: (q @ k.mT / 6**0.5 + mask.log()).softmax(dim=-1),
    "12.11": lambda x, h: looks_by_loop(x, 3),
    "12.12": lambda qkv, h: split_by_view(qkv, 2),
    "12.15": lambda x, blocks: encode(lambda x, f, g: x + f(x) + g(x + f(x)))(
        x, blocks[:2]
    ),
    "12.17": lambda x, keep, on: F.dropout(x, 0.2, on),
    "12.20": lambda t, x: torch.cat([t.expand(3, -1, -1), x], dim=1),
    "12.21": lambda head, drop: Readout(head, 0.5),
    "12.23": lambda s, t, tau: soft_distillation(s, t, 2.0),
    "12.26": lambda x, kqv, w: perform_in_full(x, lambda x: kqv(x)[..., :12], w),
    "12.27": lambda windows, side: window_by_window(windows, 16),
}
for number, code in FIXED.items():
    WRONG.setdefault(number, []).append(((RIGHT[number][0][0], code), "other inputs"))
