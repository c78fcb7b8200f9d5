"""Checks of lesson 02: positions."""

import math

import torch
from torch.nn import functional as F

from . import exercise, expect


@exercise("2.1", "Shuffle the tokens", "choose", minutes=2)
def shuffle(answer) -> None:
    expect(
        answer != "A", "run it: is row 0 of both outputs the same? Then un-shuffle one"
    )
    expect(
        answer != "C", "run it, then put the rows of the output back in the old order"
    )
    expect(answer != "D", "run it: nothing in the line knows which row comes first")
    expect(answer == "B", f"choose one of A, B, C, D, got {answer!r}")


def sinusoid_by_loop(num_positions: int, dim: int) -> torch.Tensor:
    """The referee: the formula, number by number."""
    waves = (math.sin, math.cos)
    rows = [
        [waves[j % 2](p / 10_000 ** ((j - j % 2) / dim)) for j in range(dim)]
        for p in range(num_positions)
    ]
    return torch.tensor(rows)


@exercise("2.2", "Write the waves", "faded", minutes=10)
def sinusoid_encoding(answer) -> None:
    got, right = answer(50, 16).double(), sinusoid_by_loop(50, 16).double()
    shape = f"a table of 50 rows and 16 columns is asked for, got {tuple(got.shape)}"
    expect(got.shape == right.shape, shape)
    halves = torch.cat([right[:, ::2], right[:, 1::2]], dim=1)
    expect(
        not torch.allclose(got, halves, atol=1e-3),
        "all sines come first, then all cosines: the same waves in another order. In"
        " the paper's table columns 0 and 1 are the sine and the cosine of one angle",
    )
    swapped = right.unflatten(1, (8, 2)).flip(2).flatten(1)
    expect(
        not torch.allclose(got, swapped, atol=1e-3),
        "row 0 starts with 1: an even column is a sine, and the sine of 0 is 0",
    )
    length = got.square().sum(dim=1)
    expect(
        (length - 8).abs().max() < 1e-2,
        f"the squared length of a row is between {length.min():.1f} and"
        f" {length.max():.1f}, and should be 8 in every row: sin^2 + cos^2 = 1 needs"
        " one angle for both columns of a pair",
    )
    expect(
        (got[0] - right[0]).abs().max() < 1e-3,
        "row 0 is not 0, 1, 0, 1, ...: at which number does counting start?",
    )
    slowest, wanted = got[1, 14].asin(), right[1, 14].asin()
    expect(
        (slowest / wanted - 1).abs() < 1e-3,
        f"column 14 needs {2 * math.pi / slowest:,.0f} positions for one turn, the"
        f" paper's {2 * math.pi / wanted:,.0f}. Columns 2i and 2i + 1 have the exponent"
        " 2i / dim: what is 2i in column 14?",
    )
    expect(
        (got - right).abs().max() < 1e-3, "some columns differ from the paper's formula"
    )
    long, exact = answer(600, 30), sinusoid_by_loop(600, 30)
    expect(
        (long - exact).abs().max() < 1e-6 and long.dtype == torch.float32,
        "nearly: far positions differ in the last digits, or the table is not float32."
        " Compute the angles in float64, return float32",
    )
    odd = answer(9, 7)
    expect(
        odd.shape == (9, 7) and torch.allclose(odd, sinusoid_by_loop(9, 7), atol=1e-6),
        "even widths are right; with 7 columns the last is a sine without its cosine",
    )


@exercise("2.3", "Three facts about rows", "predict", minutes=3)
def facts(answer) -> None:
    start, later, same = answer
    expect(start != 0, "row 0 is 0, 1, 0, 1, ...: the cosine of 0 is not 0")
    expect(start != 64, "64 columns, but sin^2 + cos^2 = 1 for each *pair* of columns")
    expect(start == 32, f"row 0 is 0, 1, 0, 1, ...: its squares sum to {start}?")
    expect(
        later == start, "sin^2 + cos^2 = 1, for every angle: does the position matter?"
    )
    expect(
        same is True,
        "turn two hands of one clock by the same angle: does the angle between them"
        " change?",
    )


@exercise("2.4", "Who is near patch 20?", "order", minutes=5)
def neighbours(answer) -> None:
    labels = ["right", "across", "below"]
    expect(sorted(answer) == sorted(labels), f"put {labels} in order, got {answer}")
    expect(
        list(answer) != ["right", "below", "across"],
        "that is how near they are in the picture. What does the table know of a patch"
        " besides its number? Look at the right edge of the tiles",
    )
    expect(
        answer[0] == "right",
        "which two numbers are closest: 20, 21 or 13, 15 or 20, 34?",
    )
    expect(
        list(answer) == labels,
        "write down the difference of the two numbers of each pair",
    )


def resize_by_column(table: torch.Tensor, side: int) -> torch.Tensor:
    """The referee: every column of the table is one picture."""
    old = math.isqrt(len(table))
    columns = []
    for column in table.T:
        picture = column.reshape(1, 1, old, old)
        picture = F.interpolate(picture, size=(side, side), mode="bicubic")
        columns.append(picture.flatten())
    return torch.stack(columns, dim=1)


@exercise("2.5", "A stretch that scrambles", "fix", minutes=8)
def stretch(answer) -> None:
    torch.manual_seed(0)
    table = torch.randn(1, 1 + 16, 5)
    got = answer(table, 6)
    expect(
        got.shape == (1, 37, 5), f"expected shape (1, 37, 5), got {tuple(got.shape)}"
    )
    expect(
        torch.equal(got[:, 0], table[:, 0]),
        "the row of the class token has changed: it has no place in the picture",
    )
    right = resize_by_column(table[0, 1:], 6)
    if torch.allclose(got[0, 1:], right, atol=1e-5):
        return
    same_numbers = torch.allclose(
        got[0, 1:].flatten().sort().values, right.flatten().sort().values, atol=1e-5
    )
    expect(
        not same_numbers,
        "the grid is stretched well, but it comes back scrambled: after the stretch the"
        " columns of the table are in front, and they belong behind the patches",
    )
    ramp = torch.arange(16.0)[None, :, None].expand(1, 16, 5)
    got = answer(torch.cat([table[:, :1], ramp], dim=1), 6)[0, 1:]
    spread = (got - got[:, :1]).abs().max().item()
    expect(
        spread < 1e-3,
        "a table whose 5 columns are all alike comes back with columns that differ by"
        f" up to {spread:.1f}. A column of the table is one picture of 4 x 4: does your"
        " grid hold it?",
    )
    raise AssertionError("every column is a picture, but not stretched bicubically")
