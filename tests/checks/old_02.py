"""Right answers and known mistakes for the exercises of lesson 02."""

import math
from math import isqrt

import torch
from einops import rearrange
from torch.nn import functional as F

from checks import stub


def refusing(table):
    """Exercise 2.2 around its core: sizes without rows or columns refused."""

    def sinusoid_encoding(num_positions, dim):
        if num_positions < 1 or dim < 1:
            raise ValueError("sizes must be positive")
        return table(num_positions, dim)

    return sinusoid_encoding


def pair(column):
    return column - column % 2


def waves(
    exponent=pair, first=torch.sin, second=torch.cos, start=0, dtype=torch.float64
):
    """A way to write exercise 2.2, right or with a mistake."""

    @refusing
    def table(num_positions, dim):
        position = start + torch.arange(num_positions, dtype=dtype)
        column = torch.arange(dim)
        angle = position[:, None] / 10_000 ** (exponent(column).to(dtype) / dim)
        return torch.where(column % 2 == 0, first(angle), second(angle)).float()

    return table


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


def halves(num_positions, dim):
    table = waves()(num_positions, dim)
    return torch.cat([table[:, ::2], table[:, 1::2]], dim=1)


def concatenated(num_positions, dim):
    clock = torch.arange(dim // 2).double()
    angle = torch.arange(num_positions)[:, None] / 10_000 ** (2 * clock / dim)
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def timing_signal(num_positions, dim):
    clocks = torch.logspace(0, 4, dim // 2, dtype=torch.float64)
    angle = torch.arange(num_positions)[:, None] / clocks
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def timing_signal_sorted(num_positions, dim):
    table = timing_signal(num_positions, dim)
    return rearrange(table, "n (two i) -> n (i two)", two=2)


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


def counted_from_one(num_positions, dim):
    return by_loop(num_positions + 1, dim)[1:]


def picture(grid, side):
    return rearrange(grid, "1 (gh gw) d -> 1 d gh gw", gh=side)


def rows(grid):
    return rearrange(grid, "1 d gh gw -> 1 (gh gw) d")


def rows_by_columns(grid):
    return rearrange(grid, "1 d gh gw -> 1 (gw gh) d")


def reshaped_picture(grid, side):
    return grid.reshape(1, -1, side, side)


def reshaped_rows(grid):
    return grid.reshape(1, -1, grid.shape[1])


def stretch(
    into=picture, back=rows, prefix_scale=1.0, mode="bicubic", factor=False, last=False
):
    """A way to write exercise 2.5, right or with a mistake."""

    def stretched(position, side):
        prefix, grid = position[:, :1] * prefix_scale, position[:, 1:]
        old = isqrt(grid.shape[1])
        size = {"scale_factor": side / old} if factor else {"size": (side, side)}
        grid = F.interpolate(into(grid, old), **size, mode=mode)
        parts = [prefix, back(grid)]
        return torch.cat(parts[::-1] if last else parts, dim=1)

    return stretched


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


def stretch_as_given(position, side):
    """The function of the question."""
    prefix, grid = position[:, :1], position[:, 1:]
    old, dim = isqrt(grid.shape[1]), grid.shape[2]
    grid = grid.reshape(1, dim, old, old)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic")
    grid = grid.reshape(1, side * side, dim)
    return torch.cat([prefix, grid], dim=1)


def stretch_with_view_back(position, side):
    prefix, grid = position[:, :1], position[:, 1:]
    old, dim = isqrt(grid.shape[1]), grid.shape[2]
    grid = grid.transpose(1, 2).reshape(1, dim, old, old)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic")
    return torch.cat([prefix, grid.view(1, side * side, dim)], dim=1)


def stretch_all_rows(position, side):
    """The mean of the neighbours, the class token taken for one of them."""
    mixed = 0.5 * (position[:, :1] + position[:, 1:2])
    return torch.cat([mixed, stretch()(position, side)[:, 1:]], dim=1)


RIGHT = [
    ("2.1", "B"),
    ("2.1", "b"),
    ("2.2", waves()),
    ("2.2", by_loop),
    ("2.2", by_slices),
    ("2.2", by_turning),
    ("2.3", (32, 32, True)),
    ("2.3", [32.0, 32.0, torch.tensor(True)]),
    ("2.4", ["right", "across", "below"]),
    ("2.4", ("Right", "across", "below ")),
    ("2.5", stretch()),
    ("2.5", stretch_by_permute),
    ("2.5", stretch_by_columns),
]
WRONG = [
    ("2.1", "A", "results-stay-in-their-rows", "un-shuffle"),
    ("2.1", "C", "neighbours-matter", "back in the old order"),
    ("2.1", "D", "order-is-part-of-the-input", "which row comes first"),
    ("2.1", "E", None, "answer A, B, C or D"),
    ("2.2", stub, None, "still empty"),
    (
        "2.2",
        lambda n, dim: waves()(n, dim).T,
        "table-on-its-side",
        "50 rows and 64 columns",
    ),
    (
        "2.2",
        lambda n, dim: waves()(dim, n),
        "table-on-its-side",
        "one row per pos",
    ),
    ("2.2", lambda n, dim: waves()(n + 1, dim), None, r"got \(51, 64\)"),
    ("2.2", waves(second=torch.sin), "one-wave-for-all-columns", "0 in every column"),
    ("2.2", waves(first=torch.cos), "one-wave-for-all-columns", "in every column"),
    ("2.2", lambda n, dim: torch.zeros(n, dim), None, "all columns are alike"),
    ("2.2", timing_signal, "tensor2tensor-spacing", "exactly 10,000 times"),
    ("2.2", timing_signal_sorted, "tensor2tensor-spacing", "exactly 10,000 times"),
    ("2.2", halves, "sines-then-cosines", "all sines come first"),
    ("2.2", concatenated, "sines-then-cosines", "all sines come first"),
    (
        "2.2",
        waves(first=torch.cos, second=torch.sin),
        "sine-and-cosine-swapped",
        "row 0 starts with 1",
    ),
    ("2.2", waves(start=1), "counting-from-one", "counting start"),
    ("2.2", counted_from_one, "counting-from-one", "counting start"),
    (
        "2.2",
        waves(lambda column: column),
        "one-clock-per-column",
        r"between \d+\.\d and \d+\.\d, and should be 32 .* one angle for both",
    ),
    (
        "2.2",
        loop_over_columns(lambda j: j),
        "one-clock-per-column",
        "one angle for both columns",
    ),
    (
        "2.2",
        waves(lambda column: 2 * column),
        "column-taken-for-i",
        "i of the formula counts clocks",
    ),
    (
        "2.2",
        loop_over_columns(lambda j: 2 * j),
        "column-taken-for-i",
        "i of the formula counts clocks",
    ),
    (
        "2.2",
        waves(lambda column: column // 2),
        "no-factor-2",
        "takes 544 positions for a turn, the paper's 47,117: too fast",
    ),
    ("2.2", loop_over_columns(lambda j: j // 2), "no-factor-2", "544 .* is missing"),
    ("2.2", waves(lambda column: 2 * pair(column)), "factor-2-twice", "too slow"),
    (
        "2.2",
        loop_over_columns(lambda j: 4 * (j // 2)),
        "factor-2-twice",
        "which number stands twice",
    ),
    ("2.2", waves(lambda column: 0.9 * pair(column)), None, "what is 2i in column 62"),
    ("2.2", waves(lambda column: pair(column).clamp(4)), None, "some columns differ"),
    ("2.2", waves(lambda column: column + column % 2), None, "is each pair one clock"),
    (
        "2.2",
        waves(second=lambda angle: -angle.cos()),
        None,
        "the sine and the cosine of 0",
    ),
    ("2.2", waves(dtype=torch.float32), "angles-in-float32", "behind the point"),
    ("2.2", lambda n, dim: waves()(n, dim).double(), "returned-in-float64", "float64"),
    ("2.2", lambda n, dim: waves()(n, dim).half(), None, r"got torch\.float16"),
    ("2.2", lambda n, dim: waves()(n, dim - dim % 2), "odd-width-cut", "6 came back"),
    (
        "2.2",
        lambda n, dim: F.pad(waves()(n, dim - dim % 2), (0, dim % 2)),
        None,
        "without its cosine",
    ),
    (
        "2.2",
        lambda n, dim: waves()(max(n, 1), dim)[:n],
        None,
        "without rows should raise ValueError",
    ),
    (
        "2.2",
        lambda n, dim: waves()(n, max(dim, 1))[:, :dim],
        None,
        "without columns should raise ValueError",
    ),
    (
        "2.2",
        lambda n, dim: waves()(n, dim) if dim > 1 else waves()(n, dim).squeeze(),
        None,
        r"sine of 0, \[\[0\.0\]\], got 0\.0",
    ),
    ("2.3", (0, 32, True), "cosine-of-zero-is-zero", "cosine of 0"),
    ("2.3", (64, 64, True), "every-column-counts-one", r"each \*pair\*"),
    ("2.3", (1, 1, True), "rows-have-length-one", "nothing divides a row"),
    ("2.3", (5.66, 5.66, True), "length-not-squared", "is the length itself"),
    ("2.3", (16, 16, True), None, "squares sum to 16"),
    ("2.3", (32, 150, True), "length-depends-on-place", "does the position matter"),
    ("2.3", (32, 20, False), "length-depends-on-place", "does the position matter"),
    ("2.3", (32, 32, False), "product-depends-on-place", "turn two hands"),
    ("2.3", (32, 32, "False"), "product-depends-on-place", "turn two hands"),
    (
        "2.4",
        ["right", "below", "across"],
        "table-sees-the-picture",
        "how near they are in the picture",
    ),
    (
        "2.4",
        ["below", "right", "across"],
        "table-sees-the-picture",
        "where does the number jump",
    ),
    (
        "2.4",
        ["below", "across", "right"],
        "least-alike-first",
        "the other way round",
    ),
    (
        "2.4",
        ["across", "right", "below"],
        "line-break-is-nearest",
        "numbers are closest",
    ),
    (
        "2.4",
        ["across", "below", "right"],
        "line-break-is-nearest",
        "numbers are closest",
    ),
    ("2.4", ["right", "right", "below"], None, "in order, got"),
    ("2.5", stub, None, "still empty"),
    ("2.5", stretch_as_given, "reshape-into-pictures", r"up to \d+\.\d\. .* grid hold"),
    (
        "2.5",
        stretch(reshaped_picture, rows),
        "reshape-into-pictures",
        "does your grid hold it",
    ),
    (
        "2.5",
        stretch(picture, reshaped_rows),
        "reshape-back-to-rows",
        "comes back scrambled",
    ),
    (
        "2.5",
        stretch_with_view_back,
        "reshape-back-to-rows",
        "comes back scrambled",
    ),
    (
        "2.5",
        stretch(back=rows_by_columns),
        "grid-read-by-columns",
        "rows of the grid have become columns",
    ),
    (
        "2.5",
        stretch(lambda grid, side: picture(grid, side).mT),
        "grid-read-by-columns",
        "rows of the grid have become columns",
    ),
    (
        "2.5",
        stretch(prefix_scale=0.5),
        "class-token-changed",
        "no place in the picture",
    ),
    ("2.5", stretch_all_rows, "class-token-changed", "no place in the picture"),
    ("2.5", stretch(last=True), "class-token-moved-last", "it stands last"),
    (
        "2.5",
        lambda table, side: stretch()(table, side)[:, 1:],
        "class-token-lost",
        "where has it gone",
    ),
    ("2.5", lambda table, side: table, None, r"expected shape \(1, 37, 5\)"),
    ("2.5", stretch(mode="nearest"), "other-interpolation", "not stretched bicubic"),
    ("2.5", stretch(mode="bilinear"), "other-interpolation", "not stretched bicubic"),
    (
        "2.5",
        stretch(factor=True),
        "factor-instead-of-size",
        "3600 rows came back, and 61 x 61 are 3721",
    ),
    (
        "2.5",
        lambda table, side: stretch()(table, 6),
        None,
        "for 61 x 61 places 36 rows",
    ),
]
