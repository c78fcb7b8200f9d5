"""Checks of lesson 02: positions."""

import math
from math import isqrt
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ...position_encoding import sinusoid_encoding, timing_signal
from .judge import answers, choose, draw, element, exercise, expect, same, words

shuffle = choose("2.1", "B")
shuffle.mistakes |= {
    "results-stay-in-their-rows: run the line: is row 0 the same in both outputs? Then"
    " put the rows of one output back in order": "A",
    "neighbours-matter: run the line, put the rows of the output back in the old order,"
    " and compare: which numbers changed?": "C",
    "order-is-part-of-the-input: run the line: there is no error. Does anything in it"
    " depend on which row comes first?": "D",
}

# 2.2 The table of waves


def waves(
    exponent=lambda j: j - j % 2,
    first=torch.sin,
    second=torch.cos,
    start=0,
    base=10_000.0,
    turn=1.0,
    exact=lambda j: j.double(),
):
    """The table with a different exponent, times dim, or waves, start, base or turn."""

    def answer(num_positions, dim, dtype=torch.float64):
        sinusoid_encoding(num_positions, dim)
        position = start + torch.arange(num_positions, dtype=dtype)
        column = torch.arange(dim)
        power = base ** (exact(exponent(column)) / dim)
        angle = turn * position[:, None] / power.to(dtype)
        return torch.where(column % 2 == 0, first(angle), second(angle)).float()

    return answer


def squares(got: Tensor, right: Tensor) -> tuple[float, float]:
    """The least and the largest squared length of a row."""
    lengths = got.square().sum(dim=1)
    return lengths.min().item(), lengths.max().item()


def turn(table: Tensor) -> float:
    """How many positions the slowest clock takes for a turn."""
    return 2 * math.pi / table[1, -2].double().asin().item()


def base(table: Tensor) -> float:
    """The number whose powers divide the position, if the slowest clock tells it."""
    return (turn(table) / (2 * math.pi)) ** (64 / 62)


def first_clock(table: Tensor) -> float:
    """How many radians the clock in columns 0 and 1 turns in a step."""
    return abs(torch.atan2(table[1, 0], table[1, 1]).item())


def digits(table: Tensor) -> Tensor:
    """A table whose sixth digit after the decimal point counts."""
    return (table.double() * 1e3).round(decimals=3)


SQUARES = (
    "the squared length of a row is between {squares[0]:.1f} and {squares[1]:.1f}, and"
    " should be 32 in every row"
)
TURNS = (
    "the slowest clock takes {turn:,.0f} positions to go round once, and the paper's"
    " takes {paper:,.0f}"
)
table_of_waves = exercise(
    "2.2",
    right=sinusoid_encoding,
    trial={
        "some columns differ from the paper's formula": lambda f: f(50, 64),
        "the table should be float32, got {got}": lambda f: str(f(600, 30).dtype),
        "right for 50 positions and 64 columns, and off by up to {off:.2g} for 600 and"
        " 30: is a number written into the code that should be an argument?": (
            lambda f: f(600, 30)
        ),
        "angles-in-float32": lambda f: digits(f(600, 30)),
        "even widths are right, 7 columns are not: is the last a sine without its"
        " cosine, and do the exponents still divide by 7?": (lambda f: digits(f(9, 7))),
        "one row of one column is the sine of 0, [[0.0]], got {got}": (
            lambda f: f(1, 1).tolist()
        ),
    },
    also={
        "a table without rows": lambda f: f(0, 16),
        "a table without columns": lambda f: f(3, 0),
    },
    measures={
        "squares": squares,
        "turn": lambda got, right: turn(got),
        "paper": lambda got, right: turn(right),
        "first": lambda got, right: got[0, 0].item(),
        "step": lambda got, right: first_clock(got),
        "base": lambda got, right: base(got),
    },
    shape="expected shape {right}, one row for each position, got {got}",
    atol=1e-3,
)
table_of_waves.mistakes |= {
    "table-on-its-side: expected a table of 50 rows and 64 columns, got {got}: does a"
    " position have a row or a column?": answers(
        lambda n, dim: sinusoid_encoding(n, dim).T,
        lambda n, dim: sinusoid_encoding(dim, n),
    ),
    "number-of-column-unused: all columns are the same: where does the number of a"
    " column enter the angle?": answers(
        lambda n, dim: 0 * sinusoid_encoding(n, dim),
        seen=lambda got, right: (
            got.shape == right.shape and got.std(dim=1).max() < 1e-3
        ),
    ),
    "one-wave-for-all-columns: row 0 is {first:.0f} in every column. A sine starts at"
    " 0, a cosine at 1: which columns belong to which?": answers(
        waves(second=torch.sin), waves(first=torch.cos)
    ),
    "tensor2tensor-spacing: the slowest wave is exactly 10,000 times as long as the"
    " fastest: that is the table of tensor2tensor, see 2.5. In the paper's table the"
    " exponent stays below 1": answers(
        timing_signal,
        lambda n, dim: rearrange(
            timing_signal(n, dim), "n (two i) -> n (i two)", two=2
        ),
    ),
    "sines-then-cosines: all sines come first, then all cosines: the same waves in"
    " a different order. In the paper's table columns 0 and 1 are the sine and the"
    " cosine of one angle": lambda n, dim: rearrange(
        sinusoid_encoding(n, dim), "n (i two) -> n (two i)", two=2
    ),
    "sine-and-cosine-swapped: row 0 starts with 1: an even column is a sine, and the"
    " sine of 0 is 0": waves(first=torch.cos, second=torch.sin),
    "counting-from-one: row 0 is what row 1 should be: at which number does counting"
    " start?": waves(start=1),
    f"one-clock-per-column: {SQUARES}: sin^2 + cos^2 = 1 needs one angle for both"
    " columns of a pair": waves(lambda j: j),
    f"column-taken-for-i: {SQUARES}. The i of the formula counts clocks, and there are"
    " 32 of them: did you put the column in its place?": waves(lambda j: 2 * j),
    f"pair-not-one-clock: {SQUARES}: does each pair share one angle?": answers(
        waves(lambda j: j + j % 2),
        seen=lambda got, right: (
            got.shape == right.shape == (50, 64)
            and any(abs(square - 32) > 1e-2 for square in squares(got, right))
        ),
    ),
    "row-0-off: row 0 is not 0, 1, 0, 1, ...: what are the sine and the"
    " cosine of 0?": answers(
        waves(second=lambda angle: -angle.cos()),
        seen=lambda got, right: (
            got.shape == right.shape == (50, 64) and (got - right)[0].abs().max() > 1e-3
        ),
    ),
    f"no-factor-2: {TURNS}: too fast. Plot the last column; which number is missing in"
    " the exponent?": waves(lambda j: j // 2),
    f"factor-2-twice: {TURNS}: too slow. Plot the last column; which number is twice"
    " in the exponent?": waves(lambda j: 2 * (j - j % 2)),
    "first-clock-off: the clock in columns 0 and 1 should turn by 1 radian from one"
    " position to the next, and it turns by {step:.2f} (whole turns not counted): what"
    " besides the power of 10,000 changes the position?": answers(
        waves(turn=2 * math.pi),
        waves(turn=math.pi / 180),
        lambda n, dim: waves(turn=1 / n)(n, dim),
        seen=lambda got, right: (
            got.shape == right.shape == (50, 64)
            and abs(first_clock(got) - 1) > 1e-3
            and same(got[:, :2], waves(turn=first_clock(got))(50, 64)[:, :2], atol=1e-2)
        ),
    ),
    "position-multiplied: the clocks get faster from column to column, and should get"
    " slower: is the position divided by the power, or multiplied by it?": answers(
        waves(base=1e-4)
    ),
    f"other-base: {TURNS}. The exponents are right, but the base is {{base:,.0f}}:"
    " which number does the formula raise to them?": answers(
        waves(base=1e3),
        waves(base=1e5),
        seen=lambda got, right: same(got, waves(base=base(got))(50, 64), atol=1e-2),
    ),
    f"slowest-clock-off: {TURNS}. Columns 2i and 2i + 1 have the exponent 2i / dim:"
    " what is 2i in column 62?": answers(
        waves(lambda j: 0.9 * (j - j % 2)),
        seen=lambda got, right: (
            got.shape == right.shape == (50, 64)
            and abs(turn(got) / turn(right) - 1) > 1e-2
        ),
    ),
    "returned-in-float64: the table is right, but it is float64, which takes twice the"
    " memory: which dtype does the exercise ask for?": lambda n, dim: sinusoid_encoding(
        n, dim
    ).double(),
    "exponent-in-float32: nearly right: far positions differ in the last digits. The"
    " angle is float64, but its exponent is not: which dtype does torch give to the"
    " quotient of two whole numbers?": answers(
        waves(exact=lambda j: j), waves(exact=lambda j: j.float())
    ),
    "angles-in-float32: nearly right: far positions differ in the last digits. How"
    " many digits does an angle of 600 have in float32, and how many of them are left"
    " after the decimal point? Its exponent must be float64, too": (
        lambda n, dim: waves()(n, dim, torch.float32)
    ),
    "odd-width-cut: expected 7 columns, got {got}. The last column is a sine"
    " without its cosine": lambda n, dim: sinusoid_encoding(n, max(dim - dim % 2, 2)),
}

# 2.3 Two facts

facts = exercise(
    "2.3",
    right=(32, 32, True),
    trial={
        "row 0 is 0, 1, 0, 1, ...: its squares sum to {got}?": element(0),
        "length-depends-on-place": lambda answer: (
            element(0)(answer) - element(1)(answer)
        ),
        "product-depends-on-place": element(2),
    },
    atol=0.1,
)
facts.mistakes |= {
    "cosine-of-zero-is-zero: row 0 is 0, 1, 0, 1, ...: the cosine of 0 is not 0": (
        (0, 32, True)
    ),
    "every-column-counts-one: 64 columns, but sin^2 + cos^2 = 1 for each *pair* of"
    " columns": (64, 64, True),
    "rows-have-length-one: nothing divides a row by its length: row 0 is 0, 1, 0, 1,"
    " ...": (1, 1, True),
    "length-not-squared: {got} is the length itself: the question asks for the sum of"
    " the squares": (32**0.5, 32**0.5, True),
    "length-depends-on-place: {answer[0]} in row 0 and {answer[1]} in row 150? sin^2 +"
    " cos^2 = 1, for every angle: does the position matter?": (32, 150, True),
    "product-depends-on-place: turn two hands of one clock by the same angle: does the"
    " angle between them change?": (32, 32, False),
}

# 2.4 Which neighbour is more alike?

LABELS = ["right", "across", "below"]


def ranking(answer: Any) -> list[str]:
    got = words(answer)
    rule = f"put the names {', '.join(sorted(LABELS))} in order"
    expect(sorted(got) == sorted(LABELS), f"{rule}, got {answer}")
    return got


neighbours = exercise(
    "2.4",
    right=LABELS,
    trial={
        "least-alike-first": lambda answer: ranking(answer) == LABELS[::-1],
        "table-sees-the-picture": lambda answer: (
            ranking(answer).index("across") < ranking(answer).index("below")
        ),
        "line-break-is-nearest": ranking,
    },
)
neighbours.mistakes |= {
    "least-alike-first: that is the other way round: the most similar pair comes"
    " first": LABELS[::-1],
    "table-sees-the-picture: that is how near they are in the picture. What does the"
    " table know of a patch besides its number? Look at the right edge of the tiles:"
    " where does the number jump?": answers(
        ["right", "below", "across"], ["below", "right", "across"]
    ),
    "line-break-is-nearest: which two numbers are closest: 20 and 21, 13 and 15, or 20"
    " and 34?": answers(["across", "right", "below"], ["across", "below", "right"]),
}

# 2.5 A stretch that scrambles


def stretch(mode="bicubic", by_factor=False, rows="gh gw", **options):
    """The stretch of 2.5, right or with a mistake."""

    def answer(position, side):
        old = old_side(position)
        grid = rearrange(position[:, 1:], "1 (gh gw) d -> 1 d gh gw", gh=old)
        how = {"scale_factor": side / old} if by_factor else {"size": (side, side)}
        grid = F.interpolate(grid, **how, mode=mode, **options)
        grid = rearrange(grid, f"1 d gh gw -> 1 ({rows}) d")
        return torch.cat([position[:, :1], grid], dim=1)

    return answer


def old_side(position) -> int:
    return isqrt(position.shape[1] - 1)


def reshaping(into: bool, back: bool):
    """A stretch that reshapes on its way into pictures, or back, or both."""

    def answer(position, side):
        old, dim = old_side(position), position.shape[2]
        grid = position[:, 1:] if into else position[:, 1:].mT
        grid = F.interpolate(
            grid.reshape(1, dim, old, old), size=(side, side), mode="bicubic"
        )
        rows = grid.reshape(1, side * side, dim) if back else grid.flatten(2).mT
        return torch.cat([position[:, :1], rows], dim=1)

    return answer


def table() -> Tensor:
    return draw(1, 1 + 16, 5).float()


def spread(answer) -> float:
    """How much the columns differ after a stretch of columns that are all the same."""
    ramp = torch.cat([torch.zeros(1), torch.arange(16.0)])
    got = answer(ramp[None, :, None].repeat(1, 1, 5), 6)[0, 1:]
    return (got - got[:, :1]).abs().max().item()


larger = exercise(
    "2.5",
    right=stretch(),
    trial={
        "expected shape {right}, got {got}": lambda f: tuple(f(table(), 6).shape),
        "class-token-changed": lambda f: f(table(), 6)[:, 0],
        "reshape-into-pictures": spread,
        "other-interpolation": lambda f: f(table(), 6),
        "for 61 x 61 places {got} rows were returned": (
            lambda f: f(torch.zeros(1, 1 + 14 * 14, 2), 61).shape[1] - 1
        ),
    },
    atol=1e-4,
)
larger.mistakes |= {
    "grid-read-by-columns: every column is a picture, but a mirrored one: rows of the"
    " grid have become columns. Patches come in reading order": stretch(rows="gw gh"),
    "class-token-lost: shape {got}: there are 36 places, and one row for the class"
    " token; where has it gone?": (
        lambda position, side: stretch()(position, side)[:, 1:]
    ),
    "class-token-moved-last: the row of the class token is there, but it comes last": (
        lambda position, side: stretch()(position, side).roll(-1, dims=1)
    ),
    "class-token-changed: the row of the class token has changed: it has no place in"
    " the picture": lambda position, side: stretch()(position * 2, side),
    "reshape-back-to-rows: the grid is stretched well, but the rows are scrambled:"
    " after the stretch the axis of the columns comes before the axes of the patches,"
    " and it should come after them": reshaping(into=False, back=True),
    "reshape-into-pictures: a table whose 5 columns are all the same is returned"
    " with columns that differ by up to {got:.1f}. A column of the table is one picture"
    " of 4 x 4: does your grid hold it?": answers(
        reshaping(into=True, back=False), reshaping(into=True, back=True)
    ),
    "other-interpolation: every column is a picture, but its values differ by up to"
    " {off:.2g} from those of the function in the question: which arguments does"
    " F.interpolate get there?": answers(
        stretch(mode="bilinear"), stretch(align_corners=True), stretch(antialias=True)
    ),
    "factor-instead-of-size: 14 places to 61: {got} rows were returned, and 61 x 61 are"
    " 3721. A factor is rounded: can F.interpolate be told the size?": stretch(
        by_factor=True
    ),
}
