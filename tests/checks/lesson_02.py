"""Lesson 02: right answers in other styles, mistakes in other forms."""

import math
from math import isqrt

import numpy as np
import torch
from torch.nn import functional as F

from course_vit.kit.checks.lesson_02 import stretch, waves
from course_vit.position_encoding import sinusoid_encoding


def refusing(table):
    """Exercise 2.2 around its core: sizes without rows or columns are refused."""

    def answer(num_positions, dim):
        sinusoid_encoding(num_positions, dim)
        return table(num_positions, dim)

    return answer


@refusing
def by_loop(num_positions, dim):
    table = torch.zeros(num_positions, dim)
    for p in range(num_positions):
        for j in range(dim):
            angle = p / 10_000 ** (2 * (j // 2) / dim)
            table[p, j] = math.cos(angle) if j % 2 else math.sin(angle)
    return table


@refusing
def by_slices(num_positions, dim):
    clock = torch.arange(0, dim, 2, dtype=torch.float64)
    angle = torch.outer(
        torch.arange(num_positions).double(), (-math.log(10_000) * clock / dim).exp()
    )
    table = torch.zeros(num_positions, dim)
    table[:, ::2] = angle.sin()
    table[:, 1::2] = angle.cos()[:, : dim // 2]
    return table


@refusing
def by_turning(num_positions, dim):
    """Hands as complex numbers, i times e^(-i angle) = sin + i cos."""
    speed = 10_000.0 ** -(torch.arange(0, dim, 2).double() / dim)
    angle = torch.arange(num_positions).double()[:, None] * speed
    hands = 1j * torch.polar(torch.ones_like(angle), -angle)
    return torch.view_as_real(hands).flatten(1)[:, :dim].float()


def loop_over_columns(exponent):
    """Another way to write a mistake: column by column."""

    def table(num_positions, dim):
        position = torch.arange(num_positions).double()
        columns = []
        for j in range(dim):
            angle = position / 10_000 ** (exponent(j) / dim)
            columns.append(angle.cos() if j % 2 else angle.sin())
        return torch.stack(columns, dim=1).float()

    return table


def exponents(exponent, turn=1.0):
    """The table, but its exponents are another function of columns and width."""

    def answer(num_positions, dim):
        sinusoid_encoding(num_positions, dim)
        position, column = torch.arange(num_positions).double(), torch.arange(dim)
        angle = turn * position[:, None] / 10_000 ** exponent(column, dim)
        return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()

    return answer


def stretch_by_permute(position, side):
    prefix, grid = position.split([1, position.shape[1] - 1], dim=1)
    old = isqrt(grid.shape[1])
    grid = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=side, mode="bicubic")
    return torch.cat([prefix, grid.flatten(2).transpose(1, 2)], dim=1)


def stretch_by_columns(position, side):
    old = isqrt(position.shape[1] - 1)
    table = torch.zeros(1, 1 + side * side, position.shape[2])
    table[:, 0] = position[:, 0]
    for j in range(position.shape[2]):
        column = position[:, 1:, j].reshape(1, 1, old, old)
        larger = F.interpolate(column, size=(side, side), mode="bicubic")
        table[0, 1:, j] = larger.flatten()
    return table


def stretch_all_rows(position, side):
    """The mean of the neighbours, the class token taken for one of them."""
    mixed = 0.5 * (position[:, :1] + position[:, 1:2])
    return torch.cat([mixed, stretch()(position, side)[:, 1:]], dim=1)


RIGHT = {
    "2.1": ["b"],
    "2.2": [waves(), by_loop, by_slices, by_turning],
    "2.3": [
        [32.0, 32.0, torch.tensor(True)],
        (np.float64(32), 32, np.bool_(True)),
        {"length_0": 32, "length_150": 32, "same": "True"},
        torch.tensor([32.0, 32.0, 1.0]),
    ],
    "2.4": [
        ("Right", "across", "below "),
        "right, across, below",
        "right > ACROSS > below",
    ],
    "2.5": [stretch_by_permute, stretch_by_columns],
}
WRONG = {
    "2.1": [("E", "answer A, B, C or D")],
    "2.2": [
        (lambda n, dim: waves()(n + 1, dim), r"got \(51, 64\)"),
        (loop_over_columns(lambda j: j), "one-clock-per-column"),
        (waves(lambda j: (j - j % 2).clamp(max=50)), "slowest-clock-off"),
        (
            loop_over_columns(lambda j: (j - j % 2) * (1 + (j in (20, 21)) / 50)),
            "some columns differ",
        ),
        (exponents(lambda j, dim: (j - j % 2) / dim), "exponent-in-float32"),
        (exponents(lambda j, dim: -(j - j % 2).double() / dim), "position-multiplied"),
        (
            exponents(lambda j, dim: (j - j % 2).double() / dim, math.pi),
            "first-clock-off",
        ),
        (waves(base=500.0), "other-base"),
        (
            exponents(lambda j, dim: (j - j % 2).double() / 64),
            "off by up to .* for 600",
        ),
        (
            exponents(lambda j, dim: (j - j % 2).double() / max(dim - dim % 2, 1)),
            "do the exponents still divide by 7",
        ),
        (lambda n, dim: waves()(n, dim) + dim % 2 * 1e-5, "even widths are right"),
        (lambda n, dim: waves()(n, dim).half(), r"got torch\.float16"),
        (
            lambda n, dim: F.pad(waves()(n, max(dim - dim % 2, 2)), (0, dim % 2)),
            "without its cosine",
        ),
        (
            lambda n, dim: waves()(max(n, 1), dim)[:n],
            "without rows should raise ValueError",
        ),
        (
            lambda n, dim: waves()(n, max(dim, 1))[:, :dim],
            "without columns should raise ValueError",
        ),
        (
            lambda n, dim: waves()(n, dim) if dim > 1 else waves()(n, dim).squeeze(),
            r"sine of 0, \[\[0\.0\]\], got 0\.0",
        ),
    ],
    "2.3": [
        ((16, 16, True), "squares sum to 16"),
        ((32, 20, False), "length-depends-on-place"),
        ((32, 32, "False"), "product-depends-on-place"),
    ],
    "2.4": [(["right", "right", "below"], "in order, got")],
    "2.5": [
        (stretch_all_rows, "class-token-changed"),
        (lambda table, side: table, r"expected shape \(1, 37, 5\)"),
        (stretch(mode="nearest"), "other-interpolation"),
        (stretch(mode="bicubic", align_corners=True), "other-interpolation"),
        (lambda table, side: stretch()(table, 6), "for 61 x 61 places 36 rows"),
    ],
}
