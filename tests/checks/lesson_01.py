"""Lesson 01: right answers in other styles, mistakes in other forms."""

import numpy as np
import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_vit.kit.checks.lesson_01 import cut, linear
from course_vit.patch_embedding import as_pair, patchify


def refusing(cut):
    """Exercise 1.2 around its core: what does not fit is refused."""

    def answer(images, patch_size):
        patchify(images, patch_size)
        return cut(images, *as_pair(patch_size))

    return answer


def by_loop(images, ph, pw):
    rows = range(0, images.shape[2], ph)
    columns = range(0, images.shape[3], pw)
    cut = [
        images[:, :, y : y + ph, x : x + pw].flatten(1) for y in rows for x in columns
    ]
    return torch.stack(cut, dim=1)


def by_unfold(images, ph, pw):
    return F.unfold(images, (ph, pw), stride=(ph, pw)).transpose(1, 2)


def by_permute(images, ph, pw):
    b, c, height, width = images.shape
    parts = images.reshape(b, c, height // ph, ph, width // pw, pw)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * ph * pw)


def by_convolution(images, ph, pw, dtype=None):
    size = images.shape[1] * ph * pw
    kernels = torch.eye(size, dtype=dtype or images.dtype, device=images.device)
    kernels = kernels.reshape(size, -1, ph, pw)
    return F.conv2d(images, kernels, stride=(ph, pw)).flatten(2).mT


def by_windows(images, ph, pw):
    windows = images.unfold(2, ph, ph).unfold(3, pw, pw)
    return windows.reshape(len(images), -1, images.shape[1] * ph * pw)


def unchecked(cut):
    return lambda images, size: cut(images, *as_pair(size))


def as_linear_by_copy(conv):
    layer = nn.Linear(conv.weight[0].numel(), conv.out_channels)
    with torch.no_grad():
        layer.weight.copy_(rearrange(conv.weight, "d c h w -> d (c h w)"))
        layer.bias.copy_(conv.bias)
    return layer


def as_linear_by_asking(conv):
    """The convolution shows its matrix when it is given one pixel at a time."""
    size, layer = conv.weight[0].numel(), linear(conv)
    with torch.no_grad():
        pixels = torch.eye(size).reshape(size, -1, *conv.kernel_size)
        layer.weight.copy_((conv(pixels).flatten(1) - conv.bias).T)
    return layer


def with_a_random_bias(conv):
    layer = linear(conv)
    nn.init.normal_(layer.bias)
    return layer


def by_loading(conv):
    layer = nn.Linear(conv.weight[0].numel(), conv.out_channels)
    layer.load_state_dict({"weight": conv.weight.flatten(1), "bias": conv.bias})
    return layer


def with_other_sizes(conv):
    """The layer says that it is larger than it is."""
    layer = nn.Linear(3 * 16 * 16, conv.out_channels)
    layer.weight, layer.bias = linear(conv).weight, linear(conv).bias
    return layer


def with_fixed(*rows):
    """Numbers in place of names."""

    def answer(conv):
        layer = linear(conv)
        layer.weight = nn.Parameter(conv.weight.detach().reshape(rows))
        return layer

    return answer


def emptying(conv):
    """The convolution is 0 afterwards."""
    layer = linear(conv)
    nn.init.zeros_(conv.weight)
    return layer


def filled(images, ph, pw):
    """By loop, into a table that is made on the CPU."""
    patches = by_loop(images, ph, pw)
    table = torch.zeros(patches.shape, dtype=images.dtype)
    for i in range(table.shape[1]):
        table[:, i] = patches[:, i]
    return table


RIGHT = {
    "1.1": [
        [(224 // 16) ** 2, 3 * 16**2],
        {"tokens": 196, "numbers": 768},
        torch.tensor([196, 768]),
        (np.int64(196), np.float64(768)),
        torch.Size([196, 768]),
        "196, 768",
    ],
    "1.2": [refusing(by) for by in (by_loop, by_unfold, by_permute, by_convolution)],
    "1.3": [as_linear_by_copy, as_linear_by_asking, by_loading],
}
WRONG = {
    "1.1": [
        ((195, 768), "then square"),
        ((196, 14), "times channels"),
        ((196, 768, 3), "2 values are asked for"),
    ],
    "1.2": [
        (refusing(by_windows), "channels-stay-in-front"),
        (lambda images, size: F.unfold(images, size, stride=size), "tokens-last"),
        (
            cut("b c (gh ph) (pw gw) -> b (gh gw) (c ph pw)"),
            "whose pixels does it hold",
        ),
        (
            cut("b c (gh ph) (gw pw) -> (b gh gw) (c ph pw)"),
            r"shape \(16, 48\), expected \(2, 8, 48\)",
        ),
        (lambda images, size: by_permute(images, *size), "a single 4, .* TypeError"),
        (unchecked(by_unfold), "multiple of the patch should raise ValueError: "),
        (
            lambda x, size: patchify(x, (2, 2) if isinstance(size, int) else size),
            "a single 4, which means a square",
        ),
        (refusing(lambda *args: by_loop(*args).squeeze()), "1 is an axis, too"),
        (
            refusing(lambda *args: by_convolution(*args, dtype=torch.float32)),
            "but images in float64 raised Runt",
        ),
        (
            refusing(lambda x, *size: by_loop(x.float(), *size).to(x.dtype)),
            "images in float64: .* values are in place",
        ),
        (
            lambda x, size: patchify(x, size) if size[1:] != (0,) else x,
            "a single 4, .* TypeError",
        ),
        (
            lambda x, size: patchify(x if x.ndim == 4 else x[None], size),
            r"image \(3, 8, 16\), without the axis of the batch, should raise Value",
        ),
        (lambda x, size: patchify(x.detach(), size), "back to the input raised Run"),
        (refusing(filled), "on another device .* raised NotImpl"),
    ],
    "1.3": [
        (lambda conv: conv.weight, "layer-left-as-it-was"),
        (lambda conv: nn.Linear(3, 7), r"\(7, 3\), not \(7, 24\)"),
        (with_a_random_bias, "bias-forgotten"),
        (
            lambda conv: linear(conv, "d c p q -> d (q p c)"),
            r"up to \d\.\d\d: is the kernel laid flat",
        ),
        (
            lambda conv: nn.Linear(3 * 8, 7).requires_grad_(False),
            "weights-left-random",
        ),
        (with_other_sizes, r"are \(768, 7\), not \(24, 7\): with which sizes"),
        (emptying, "afterwards the convolution itself has changed"),
        (with_fixed(7, -1), "tokens of width 5 in place of 7 raised"),
        (with_fixed(-1, 24), "2 channels in place of 3 raised"),
    ],
}
