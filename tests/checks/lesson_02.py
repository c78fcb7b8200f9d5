"""Right answers and known mistakes for the exercises of lesson 02."""

from math import isqrt

import torch
from einops import rearrange
from torch.nn import functional as F


def stub(*_):
    raise NotImplementedError


def pair(column):
    return column - column % 2


def waves(
    exponent=pair, first=torch.sin, second=torch.cos, start=0, dtype=torch.float64
):
    """A way to write exercise 2.2, right or with a mistake."""

    def table(num_positions, dim):
        position = start + torch.arange(num_positions, dtype=dtype)
        column = torch.arange(dim)
        angle = position[:, None] / 10_000 ** (exponent(column).to(dtype) / dim)
        return torch.where(column % 2 == 0, first(angle), second(angle)).float()

    return table


def halves(num_positions, dim):
    table = waves()(num_positions, dim)
    return torch.cat([table[:, ::2], table[:, 1::2]], dim=1)


def picture(grid, side):
    return rearrange(grid, "1 (gh gw) d -> 1 d gh gw", gh=side)


def rows(grid):
    return rearrange(grid, "1 d gh gw -> 1 (gh gw) d")


def reshaped_picture(grid, side):
    return grid.reshape(1, -1, side, side)


def reshaped_rows(grid):
    return grid.reshape(1, -1, grid.shape[1])


def stretch(into=picture, back=rows, prefix_scale=1.0, mode="bicubic"):
    """A way to write exercise 2.5, right or with a mistake."""

    def stretched(position, side):
        prefix, grid = position[:, :1] * prefix_scale, position[:, 1:]
        grid = into(grid, isqrt(grid.shape[1]))
        grid = F.interpolate(grid, size=(side, side), mode=mode)
        return torch.cat([prefix, back(grid)], dim=1)

    return stretched


RIGHT = [
    ("2.1", "B"),
    ("2.2", waves()),
    ("2.3", (32, 32, True)),
    ("2.4", ["right", "across", "below"]),
    ("2.5", stretch()),
]
WRONG = [
    ("2.1", "A", "un-shuffle"),
    ("2.1", "C", "back in the old order"),
    ("2.1", "D", "which row comes first"),
    ("2.1", "b", "choose one of A, B, C, D"),
    ("2.2", stub, "still empty"),
    ("2.2", lambda n, dim: waves()(n, dim).T, "50 rows and 16 columns"),
    ("2.2", halves, "all sines come first"),
    ("2.2", waves(first=torch.cos, second=torch.sin), "row 0 starts with 1"),
    ("2.2", waves(lambda column: column), "one angle for both columns"),
    ("2.2", waves(start=1), "counting start"),
    ("2.2", waves(lambda column: column // 2), "what is 2i in column 14"),
    ("2.2", waves(lambda column: pair(column).clamp(4)), "some columns differ"),
    ("2.2", waves(dtype=torch.float32), "angles in float64"),
    ("2.2", lambda n, dim: waves()(n, dim).double(), "not float32"),
    ("2.2", lambda n, dim: waves()(n, dim - dim % 2), "without its cosine"),
    ("2.3", (0, 32, True), "cosine of 0"),
    ("2.3", (64, 64, True), r"each \*pair\*"),
    ("2.3", (16, 16, True), "squares sum to 16"),
    ("2.3", (32, 150, True), "does the position matter"),
    ("2.3", (32, 32, False), "turn two hands"),
    ("2.4", ["right", "below", "across"], "how near they are in the picture"),
    ("2.4", ["across", "right", "below"], "numbers are closest"),
    ("2.4", ["right", "right", "below"], "in order, got"),
    ("2.5", stub, "still empty"),
    ("2.5", stretch(reshaped_picture, reshaped_rows), "does your grid hold it"),
    ("2.5", stretch(reshaped_picture, rows), "does your grid hold it"),
    ("2.5", stretch(picture, reshaped_rows), "comes back scrambled"),
    ("2.5", stretch(prefix_scale=0.5), "no place in the picture"),
    ("2.5", stretch(mode="nearest"), "not stretched bicubically"),
    ("2.5", lambda table, side: stretch()(table, side)[:, 1:], "expected shape"),
]
