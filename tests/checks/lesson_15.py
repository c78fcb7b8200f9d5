"""Lesson 15: tests in other styles, and tests that are too weak."""

import math

import numpy as np
import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F


def by_own_coordinates(patchify):
    """Each pixel says where it is, so each token must say where its patch is."""
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(20.0), indexing="ij")
    channels = torch.arange(4.0)[:, None, None].expand(4, 6, 20)
    where = torch.stack([channels * 1000 + rows * 100 + columns + s for s in (0, 0.5)])
    out = patchify(where, (3, 5)).numpy()
    assert out.ndim == 3
    for image in range(2):
        flat = [
            channel * 1000 + (3 * r + y) * 100 + 5 * c + x + image / 2
            for r in range(2)
            for c in range(4)
            for channel in range(4)
            for y in range(3)
            for x in range(5)
        ]
        np.testing.assert_array_equal(out[image].ravel(), flat)


def by_convolution(patchify):
    images = torch.randn(2, 3, 4, 10)
    kernels = torch.eye(3 * 2 * 5).reshape(-1, 3, 2, 5)
    right = F.conv2d(images, kernels, stride=(2, 5)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(patchify(images, (2, 5)), right)


def by_numpy(sinusoid_encoding):
    for n, d in ((40, 6), (11, 7)):
        pair = np.arange(d) // 2 * 2
        angle = np.arange(n)[:, None] / 10_000 ** (pair / d)
        right = np.where(np.arange(d) % 2, np.cos(angle), np.sin(angle))
        np.testing.assert_allclose(sinusoid_encoding(n, d).numpy(), right, atol=1e-5)


def by_softmax(attention_weights):
    q, k = torch.randn(2, 3, 4, 8).double(), torch.randn(2, 3, 5, 8).double()
    lower = torch.ones(4, 5, dtype=torch.bool).tril()
    for mask in (None, lower):
        scores = torch.einsum("bhne,bhme->bhnm", q, k) / math.sqrt(8)
        scores = scores if mask is None else scores.masked_fill(~mask, -math.inf)
        right = scores.softmax(dim=-1)
        torch.testing.assert_close(attention_weights(q, k, mask), right)


def by_torch(layer_class):
    layer, x = layer_class(12, 3), torch.randn(2, 5, 12)
    right = nn.MultiheadAttention(12, 3, batch_first=True)
    right.in_proj_weight.data = layer.qkv.weight.data
    right.in_proj_bias.data = layer.qkv.bias.data
    right.out_proj = layer.proj
    torch.testing.assert_close(layer(x), right(x, x, x)[0], rtol=1e-4, atol=1e-5)


def by_counting(layer_class):
    x = torch.rand(4000, 2, 3) + 1
    layer = layer_class(0.25).train()
    first, second = layer(x), layer(x)
    gone = (first == 0).reshape(len(x), -1)
    if (gone.any(dim=1) != gone.all(dim=1)).any():
        raise ValueError("only a part of an image is dropped")
    count = gone.all(dim=1).sum().item()
    assert 860 < count < 1140, count
    assert 0.9 < first.sum() / x.sum() < 1.1
    assert (first != second).any()
    assert (layer.eval()(x) == x).all()


def by_kl_div(loss):
    student = torch.randn(5, 3).requires_grad_()
    teacher = 2 * torch.randn(5, 3)
    for tau in (0.5, 2.0):
        found = loss(student, teacher, tau)
        logs = [F.log_softmax(x / tau, dim=-1) for x in (student, teacher)]
        right = F.kl_div(*logs, reduction="batchmean", log_target=True) * tau**2
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-6)
        (slope,) = torch.autograd.grad(found, student)
        assert slope.abs().sum() > 0


def to_the_last_digit(sinusoid_encoding):
    for p in range(50):
        angle = torch.tensor(p / 10_000 ** (2 / 8), dtype=torch.float64)
        assert sinusoid_encoding(50, 8)[p, 2].item() == angle.sin().item()


def one_image_of_a_batch(patchify):
    images = torch.randn(1, 3, 4, 4)
    right = rearrange(images, "b c (r y) (s x) -> b (r s) (c y x)", y=2, x=2)
    assert torch.equal(patchify(images, 2), right)


def without_a_mask(attention_weights):
    q, k = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 5, 8)
    right = (q @ k.transpose(-1, -2) / 8**0.5).softmax(dim=-1)
    assert torch.allclose(attention_weights(q, k), right, atol=1e-5)


def too_tight(layer_class):
    share = (layer_class(0.4)(torch.ones(100, 1, 1)) == 0).float().mean()
    assert abs(share - 0.4) < 0.02


def of_all_numbers(patchify):
    images = torch.arange(2 * 4 * 6 * 20.0).reshape(2, 4, 6, 20)
    right = rearrange(images, "b c (r y) (s x) -> (b r s c y x)", y=3, x=5)
    assert torch.equal(patchify(images, (3, 5)).flatten(), right)


def always_fails(implementation):
    raise AssertionError


def never_fails(implementation):
    return None


EMPTY_HANDED = r"catches 0 of {} wrong implementations\. Not caught: "
RIGHT = {
    "15.1": [by_own_coordinates, by_convolution],
    "15.2": [by_numpy],
    "15.3": [by_softmax],
    "15.4": [by_torch],
    "15.5": [by_counting],
    "15.6": [by_kl_div],
}
WRONG = {
    "15.1": [
        (always_fails, "fails for a right implementation.*the function of lesson 1"),
        (never_fails, "sum-only"),
        (of_all_numbers, r"catches 12 of 14 .* Not caught: 'axes not merged', 'axes"),
        (one_image_of_a_batch, r"catches \d+ of 14 .*'patches taken as squares'"),
    ],
    "15.2": [
        (to_the_last_digit, "fails for a right implementation.*the function of lesson"),
        (never_fails, EMPTY_HANDED.format(24)),
    ],
    "15.3": [
        (never_fails, EMPTY_HANDED.format(18)),
        (without_a_mask, r"catches 13 of 18 .*'mask other way round'"),
    ],
    "15.4": [(never_fails, EMPTY_HANDED.format(14))],
    "15.5": [
        (never_fails, "shape-only"),
        (too_tight, "fails for a right implementation.*the layer of lesson 5"),
    ],
    "15.6": [(never_fails, "shape-only")],
}
