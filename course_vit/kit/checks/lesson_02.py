"""Checks of lesson 02: positions."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from . import NotYet, exercise, expect, expect_letter, expect_raises
from .probes import trying


@exercise(
    "2.1",
    {
        "results-stay-in-their-rows": "a result belongs to a row, not to a token",
        "neighbours-matter": "attention knows which tokens stand side by side",
        "order-is-part-of-the-input": "attention needs the tokens in their order",
    },
)
def shuffle(answer: Any) -> None:
    hints = {
        "A": (
            "results-stay-in-their-rows",
            "run it: is row 0 of both outputs the same? Then un-shuffle one",
        ),
        "C": (
            "neighbours-matter",
            "run it, then put the rows of the output back in the old order",
        ),
        "D": (
            "order-is-part-of-the-input",
            "run it: nothing in the line knows which row comes first",
        ),
    }
    expect_letter(answer, "B", hints)


def sinusoid_by_loop(
    num_positions: int,
    dim: int,
    exponent: Callable[[int], float] | None = None,
    first: int = 0,
) -> Tensor:
    """The referee: the formula, number by number; the options make known mistakes."""
    waves = (math.sin, math.cos)
    powers = [exponent(j) if exponent else (j - j % 2) / dim for j in range(dim)]
    rows = [
        [waves[j % 2](p / 10_000**power) for j, power in enumerate(powers)]
        for p in range(first, first + num_positions)
    ]
    return torch.tensor(rows)


def halves(table: Tensor) -> Tensor:
    """The same columns, all the even ones first."""
    return torch.cat([table[:, ::2], table[:, 1::2]], dim=1)


def expect_clocks(got: Tensor, right: Tensor) -> None:
    """Each pair of columns is a hand: one angle, sine first, counted from 0."""
    n, dim = right.shape

    def near(wrong: Tensor) -> bool:
        return torch.allclose(got, wrong.double(), atol=1e-3)

    expect(
        got.std(dim=1).max() > 1e-3,
        "all columns are alike: which number of a column enters the angle?",
    )
    expect(
        got[0].std() > 1e-3,
        f"row 0 is {got[0, 0]:.0f} in every column. A sine starts at 0, a cosine at 1:"
        " which columns belong to which?",
        "one-wave-for-all-columns",
    )
    library = sinusoid_by_loop(n, dim, lambda j: j // 2 / (dim // 2 - 1))
    expect(
        not near(library) and not near(halves(library)),
        "the slowest wave is exactly 10,000 times longer than the fastest: that is the"
        " table of tensor2tensor, see 2.5. In the paper's the exponent stays below 1",
        "tensor2tensor-spacing",
    )
    expect(
        not near(halves(right)),
        "all sines come first, then all cosines: the same waves in another order. In"
        " the paper's table columns 0 and 1 are the sine and the cosine of one angle",
        "sines-then-cosines",
    )
    expect(
        not near(right.unflatten(1, (-1, 2)).flip(2).flatten(1)),
        "row 0 starts with 1: an even column is a sine, and the sine of 0 is 0",
        "sine-and-cosine-swapped",
    )
    expect(
        not near(sinusoid_by_loop(n, dim, first=1)),
        "row 0 is what row 1 should be: at which number does counting start?",
        "counting-from-one",
    )
    length = got.square().sum(dim=1)
    seen = (
        f"the squared length of a row is between {length.min():.1f} and"
        f" {length.max():.1f}, and should be {dim // 2} in every row"
    )
    expect(
        not near(sinusoid_by_loop(n, dim, lambda j: j / dim)),
        f"{seen}: sin^2 + cos^2 = 1 needs one angle for both columns of a pair",
        "one-clock-per-column",
    )
    expect(
        not near(sinusoid_by_loop(n, dim, lambda j: 2 * j / dim)),
        f"{seen}. The i of the formula counts clocks, and there are {dim // 2} of them:"
        " did you put the column in its place?",
        "column-taken-for-i",
    )
    expect((length - dim // 2).abs().max() < 1e-2, f"{seen}: is each pair one clock?")
    expect(
        (got[0] - right[0]).abs().max() < 1e-3,
        "row 0 is not 0, 1, 0, 1, ...: what are the sine and the cosine of 0?",
    )


def expect_speeds(got: Tensor, right: Tensor) -> None:
    """Every clock is slower than the one before by the paper's factor."""
    n, dim = right.shape
    turns = [2 * math.pi / table[1, dim - 2].asin() for table in (got, right)]
    seen = (
        f"the slowest clock takes {turns[0]:,.0f} positions for a turn, the paper's"
        f" {turns[1]:,.0f}"
    )
    halved = sinusoid_by_loop(n, dim, lambda j: (j - j % 2) / 2 / dim).double()
    expect(
        not torch.allclose(got, halved, atol=1e-3),
        f"{seen}: too fast. Plot the last column; which number is missing in the"
        " exponent?",
        "no-factor-2",
    )
    doubled = sinusoid_by_loop(n, dim, lambda j: (j - j % 2) * 2 / dim).double()
    expect(
        not torch.allclose(got, doubled, atol=1e-3),
        f"{seen}: too slow. Plot the last column; which number stands twice in the"
        " exponent?",
        "factor-2-twice",
    )
    expect(
        abs(turns[0] / turns[1] - 1) < 1e-2,
        f"{seen}. Columns 2i and 2i + 1 have the exponent 2i / dim: what is 2i in"
        f" column {dim - 2}?",
    )


@exercise(
    "2.2",
    {
        "table-on-its-side": "positions run along the rows, waves down the columns",
        "one-wave-for-all-columns": "sines alone, or cosines alone, make the table",
        "tensor2tensor-spacing": "the library's table is the paper's",
        "sines-then-cosines": "all sines come first, then all cosines",
        "sine-and-cosine-swapped": "the even columns are the cosines",
        "counting-from-one": "the first position is 1",
        "one-clock-per-column": "each column has a speed of its own",
        "column-taken-for-i": "the i of the formula is the column",
        "no-factor-2": "the exponent is i / dim",
        "factor-2-twice": "the number of the even column is taken twice",
        "angles-in-float32": "seven digits are enough for any angle",
        "returned-in-float64": "the table keeps the precision of its angles",
        "odd-width-cut": "a table has an even number of columns",
    },
)
def sinusoid_encoding(answer: Any) -> None:
    got, right = answer(50, 64).double(), sinusoid_by_loop(50, 64).double()
    shape = f"a table of 50 rows and 64 columns is asked for, got {tuple(got.shape)}"
    expect(
        got.shape != (64, 50),
        f"{shape}: one row per position, please",
        "table-on-its-side",
    )
    expect(got.shape == right.shape, shape)
    expect_clocks(got, right)
    expect_speeds(got, right)
    expect(
        (got - right).abs().max() < 1e-3, "some columns differ from the paper's formula"
    )
    long, exact = answer(600, 30), sinusoid_by_loop(600, 30)
    expect(
        long.dtype != torch.float64,
        "the table is right, and twice as large as it need be: float64 came back",
        "returned-in-float64",
    )
    expect(long.dtype == torch.float32, f"float32 is asked for, got {long.dtype}")
    expect(
        (long - exact).abs().max() < 1e-7,
        "nearly: far positions differ in the last digits. How many digits has an angle"
        " of 600 in float32, and how many are left behind the point?",
        "angles-in-float32",
    )
    odd = answer(9, 7)
    expect(
        odd.shape != (9, 6),
        f"7 columns were asked for, 6 came back: {tuple(odd.shape)}. The last one is a"
        " sine without its cosine",
        "odd-width-cut",
    )
    expect(
        odd.shape == (9, 7) and torch.allclose(odd, sinusoid_by_loop(9, 7), atol=1e-6),
        "even widths are right; with 7 columns the last is a sine without its cosine",
    )
    with trying("a table of one row and one column"):
        got = answer(1, 1)
    expect(
        torch.equal(got, torch.zeros(1, 1)),
        f"one row of one column is the sine of 0, [[0.0]], got {got.tolist()}",
    )
    expect_raises(answer, (0, 16), ValueError, "a table without rows")
    expect_raises(answer, (3, 0), ValueError, "a table without columns")


@exercise(
    "2.3",
    {
        "cosine-of-zero-is-zero": "all waves start at 0",
        "every-column-counts-one": "each column, not each pair, adds 1 to the square",
        "rows-have-length-one": "rows are normalised to length 1",
        "length-not-squared": "the length is asked for, not its square",
        "length-depends-on-place": "rows grow, or shrink, with the position",
        "product-depends-on-place": "what two rows share depends on where they are",
    },
)
def facts(answer: Any) -> None:
    start, later, same = answer
    expect(
        start != 0,
        "row 0 is 0, 1, 0, 1, ...: the cosine of 0 is not 0",
        "cosine-of-zero-is-zero",
    )
    expect(
        start != 64,
        "64 columns, but sin^2 + cos^2 = 1 for each *pair* of columns",
        "every-column-counts-one",
    )
    expect(
        start != 1,
        "nothing divides a row by its length: row 0 is 0, 1, 0, 1, ...",
        "rows-have-length-one",
    )
    expect(
        abs(start - 32**0.5) > 0.1,
        f"{start} is the length itself: the sum of the squares is asked for",
        "length-not-squared",
    )
    expect(start == 32, f"row 0 is 0, 1, 0, 1, ...: its squares sum to {start}?")
    expect(
        later == start,
        f"{start} in row 0 and {later} in row 150? sin^2 + cos^2 = 1, for every angle:"
        " does the position matter?",
        "length-depends-on-place",
    )
    expect(
        same in (True, "True"),
        "turn two hands of one clock by the same angle: does the angle between them"
        " change?",
        "product-depends-on-place",
    )


@exercise(
    "2.4",
    {
        "table-sees-the-picture": "the sinusoid knows that an image has rows",
        "least-alike-first": "the order asked for is from far to near",
        "line-break-is-nearest": "the jump to the next line is the smallest step",
    },
)
def neighbours(answer: Any) -> None:
    labels = ["right", "across", "below"]
    got = [str(label).strip().lower() for label in answer]
    expect(sorted(got) == sorted(labels), f"put {labels} in order, got {answer}")
    expect(
        got != labels[::-1],
        "that is the other way round: most alike first",
        "least-alike-first",
    )
    expect(
        got.index("across") < got.index("below"),
        "that is how near they are in the picture. What does the table know of a patch"
        " besides its number? Look at the right edge of the tiles: where does the"
        " number jump?",
        "table-sees-the-picture",
    )
    expect(
        got == labels,
        "which two numbers are closest: 20 and 21, 13 and 15, or 20 and 34?",
        "line-break-is-nearest",
    )


def resize_by_column(table: Tensor, side: int) -> Tensor:
    """The referee: every column of the table is one picture, `n d -> m d`."""
    old = math.isqrt(len(table))
    columns = []
    for column in table.T:
        picture = column.reshape(1, 1, old, old)
        picture = F.interpolate(picture, size=(side, side), mode="bicubic")
        columns.append(picture.flatten())
    return torch.stack(columns, dim=1)


def expect_kept_prefix(got: Tensor, table: Tensor, size: int) -> None:
    """Row 0 of the table is still row 0, and there are `size` rows behind it."""
    expect(
        got.shape != (1, size, table.shape[2]),
        f"shape {tuple(got.shape)}: there are {size} places, and one row for the class"
        " token; where has it gone?",
        "class-token-lost",
    )
    expect(
        got.shape == (1, 1 + size, table.shape[2]),
        f"expected shape {1, 1 + size, table.shape[2]}, got {tuple(got.shape)}",
    )
    expect(
        not torch.equal(got[:, -1], table[:, 0]),
        "the row of the class token is there, but it stands last",
        "class-token-moved-last",
    )
    expect(
        torch.equal(got[:, 0], table[:, 0]),
        "the row of the class token has changed: it has no place in the picture",
        "class-token-changed",
    )


@exercise(
    "2.5",
    {
        "class-token-lost": "the class token's row is a place like any other",
        "class-token-moved-last": "the class token's row may stand anywhere",
        "class-token-changed": "the class token's row is resized with the others",
        "reshape-back-to-rows": "reshape takes pictures apart into rows",
        "reshape-into-pictures": "reshape makes a picture of every column",
        "grid-read-by-columns": "the places of the table go down the columns",
        "other-interpolation": "any way to enlarge a picture is the same",
        "factor-instead-of-size": "a factor says as much as a size",
    },
)
def stretch(answer: Any) -> None:
    torch.manual_seed(0)
    table = torch.randn(1, 1 + 16, 5)
    got = answer(table, 6)
    expect_kept_prefix(got, table, 36)
    grid, right = got[0, 1:], resize_by_column(table[0, 1:], 6)
    if not torch.allclose(grid, right, atol=1e-5):
        ramp = torch.arange(16.0)[None, :, None].expand(1, 16, 5)
        ramp = answer(torch.cat([table[:, :1], ramp], dim=1), 6)[0, 1:]
        expect_pictures(grid, right, (ramp - ramp[:, :1]).abs().max().item())
    large = answer(torch.zeros(1, 1 + 14 * 14, 2), 61)
    rows = large.shape[1] - 1
    expect(
        rows != 60 * 60,
        f"14 places to 61: {rows} rows came back, and 61 x 61 are {61**2}. A factor is"
        " rounded; what is asked for is a size",
        "factor-instead-of-size",
    )
    expect(rows == 61**2, f"for 61 x 61 places {rows} rows came back")


def expect_pictures(grid: Tensor, right: Tensor, spread: float) -> None:
    """What is wrong with a stretched grid; `spread` is of columns that were alike."""
    same_numbers = torch.allclose(
        grid.flatten().sort().values, right.flatten().sort().values, atol=1e-5
    )
    transposed = right.reshape(6, 6, 5).transpose(0, 1).flatten(0, 1)
    expect(
        not torch.allclose(grid, transposed, atol=1e-5),
        "every column is a picture, and each is mirrored: rows of the grid have become"
        " columns. Patches come in reading order",
        "grid-read-by-columns",
    )
    expect(
        not same_numbers,
        "the grid is stretched well, but it comes back scrambled: after the stretch the"
        " columns of the table are in front, and they belong behind the patches",
        "reshape-back-to-rows",
    )
    expect(
        spread < 1e-3,
        "a table whose 5 columns are all alike comes back with columns that differ by"
        f" up to {spread:.1f}. A column of the table is one picture of 4 x 4: does your"
        " grid hold it?",
        "reshape-into-pictures",
    )
    hint = "every column is a picture, but not stretched bicubically"
    raise NotYet(hint, "other-interpolation")
