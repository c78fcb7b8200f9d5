"""Checks of lesson 12, the bug clinic: an answer is a pair, fault and mended code."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import NotYet, exercise, expect
from .probes import same
from .watch import Unsound

FAULTS = {
    "axis": "works along the wrong axis",
    "order": "the right numbers in other places",
    "role": "two things have changed places, or yes and no",
    "scale": "a factor is missing, stands twice, or has another size",
    "missing": "a step is left out, or done twice",
    "count": "counts the wrong thing, or one too few",
    "mode": "mistakes what training and eval mean",
    "gradient": "learning is cut off",
    "leak": "images hear each other",
    "healthy": "nothing is wrong with it",
}
MISREAD = {"fault-misread": "takes the symptom for that of another kind of fault"}


def expect_fault(said: object, right: Sequence[str], symptom: str) -> None:
    """Go on if the fault is rightly named, else say again what the symptom says."""
    word = str(said).strip().lower()
    expect(word in FAULTS, f"a fault is one of {', '.join(FAULTS)}; got {said!r}")
    expect(word in right, symptom, "fault-misread")


def expect_shape(got: Any, right: Tensor, what: str) -> None:
    """What came out is a tensor with the shape of the right one."""
    shape = tuple(got.shape)
    expect(got.shape == right.shape, f"{what}: {tuple(right.shape)}, got {shape}")


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers of this shape, always the same."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def linear(d_in: int, d_out: int) -> nn.Linear:
    """A linear map whose bias is not zero."""
    torch.manual_seed(1)
    return nn.Linear(d_in, d_out, dtype=torch.float64)


def softmax(scores: Tensor, dim: int = -1) -> Tensor:
    """The referee's softmax, from the exponential."""
    powers = (scores - scores.max()).exp()
    return powers / powers.sum(dim=dim, keepdim=True)


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT / math.sqrt(q.shape[-1])


# Pictures and tokens


@exercise(
    "12.1",
    MISREAD
    | {
        "channels-before-windows": "lets reshape carry the channels past the windows",
        "grid-read-by-columns": "reads the grid of windows column by column",
        "pixels-before-channels": "writes a window pixel by pixel, the channels last",
    },
)
def three_flowers(answer: Any) -> None:
    said, cut = answer
    symptom = (
        "every pixel of the photograph is still there with its value. What has changed"
        " about it?"
    )
    expect_fault(said, ["order"], symptom)
    images = torch.arange(2 * 3 * 8 * 12.0).double().reshape(2, 3, 8, 12)
    windows = [images[:, :, i : i + 4, j : j + 4] for i in (0, 4) for j in (0, 4, 8)]
    right = torch.stack([window.flatten(1) for window in windows], dim=1)
    got = cut(images, 4)
    expect_shape(got, right, "2 images of 3 x 8 x 12, windows of 4, are tokens")
    channels = (got[0, 0] // 96).unique().tolist()
    expect(
        len(channels) == 3,
        f"all 48 numbers of token 0 come from channel {channels[0]:.0f}. Which axis has"
        " stayed where it was, in front of the windows?",
        "channels-before-windows",
    )
    by_columns = right.unflatten(1, (2, 3)).transpose(1, 2).flatten(1, 2)
    expect(
        not same(got.sort().values, by_columns.sort().values),
        "token 1 is the window *below* token 0: windows come in reading order, rows"
        " first",
        "grid-read-by-columns",
    )
    expect(
        same(got, right) or not same(got.sort().values, right.sort().values),
        "every token is its own window now, but inside it the order is not channel,"
        " row, column: whose weights would fit?",
        "pixels-before-channels",
    )
    expect(same(got, right), "the tokens are not the windows: draw one of them")


@exercise(
    "12.2",
    MISREAD
    | {
        "pixels-meet-channels-first": "flattens patches pixel by pixel and a kernel"
        " channel by channel",
        "rows-for-columns": "writes a patch column by column",
        "bias-left-out": "leaves the bias out",
    },
)
def weights_of_a_convolution(answer: Any) -> None:
    said, embed = answer
    symptom = (
        "the weights are the right ones and so are the pixels. But which pixel meets"
        " which weight?"
    )
    expect_fault(said, ["order"], symptom)
    images, weight, bias = draw(2, 3, 8, 12), draw(5, 3, 4, 4, seed=1), draw(5, seed=2)

    def convolved(weight: Tensor, bias: Tensor = bias) -> Tensor:
        return F.conv2d(images, weight, bias, stride=4).flatten(2).mT

    got, right = embed(images, weight, bias), convolved(weight)
    expect_shape(got, right, "2 images of 3 x 8 x 12, patches of 4, width 5")
    off = (got - right).abs().max().item()
    kernel = weight.flatten(1).unflatten(1, (4, 4, 3)).permute(0, 3, 1, 2)
    expect(
        not same(got, convolved(kernel)),
        f"off by up to {off:.1f}: a patch is written pixel by pixel, a kernel channel"
        " by channel",
        "pixels-meet-channels-first",
    )
    expect(
        not same(got, convolved(weight.mT)),
        f"off by up to {off:.1f}: the channels are in place, rows and columns of the"
        " patch are not",
        "rows-for-columns",
    )
    expect(
        not same(got, right - bias),
        "off by the same number in each channel of a token: what does a convolution add"
        " at the end?",
        "bias-left-out",
    )
    expect(same(got, right), f"off by up to {off:.1f} from the convolution")


# Positions


def table_of_waves(n: int, angle: Callable[[int, int], float], d: int = 16) -> Tensor:
    """The referee, number by number: even columns are sines, odd ones cosines."""
    waves = math.sin, math.cos
    rows = [[waves[j % 2](angle(p, j)) for j in range(d)] for p in range(n)]
    return torch.tensor(rows, dtype=torch.float64)


@exercise(
    "12.3",
    MISREAD
    | {
        "i-counts-columns": "takes i for the number of the column",
        "partners-with-two-angles": "gives sine and cosine of a pair two angles",
        "two-left-out": "writes i / d in the exponent where 2 i / d belongs",
        "sines-in-front": "puts all sines first, then all cosines",
    },
)
def uneven_rows(answer: Any) -> None:
    said, waves = answer
    symptom = (
        "sine squared plus cosine squared is 1, so a pair of columns cannot make rows"
        " uneven. What does `i` run over here, and what over in the paper?"
    )
    expect_fault(said, ["count", "role"], symptom)
    n, d = 50, 16
    right = table_of_waves(n, lambda p, j: p / 10_000 ** ((j - j % 2) / d))
    got = waves(n, d).double()
    expect_shape(got, right, "50 positions, width 16")

    def like(other: Tensor) -> bool:
        return torch.allclose(got, other, atol=1e-4)

    length = got.square().sum(dim=1)
    uneven = f"rows have squared lengths from {length.min():.1f} to {length.max():.1f}"
    expect(
        not like(table_of_waves(n, lambda p, j: p / 10_000 ** (2 * j / d))),
        f"{uneven}: `i` still counts columns. How many clocks has a table of 16?",
        "i-counts-columns",
    )
    expect(
        length.max() - length.min() < 1e-2,
        f"{uneven}: sine and cosine of one clock need one and the same angle",
        "partners-with-two-angles",
    )
    expect(
        not like(table_of_waves(n, lambda p, j: p / 10_000 ** (j // 2 / d))),
        "rows are equally long now, but the slowest clock is far too fast: what does"
        " the exponent run up to?",
        "two-left-out",
    )
    expect(
        not like(torch.cat([right[:, ::2], right[:, 1::2]], dim=1)),
        "the same waves in other columns: in the paper's table a sine and its cosine"
        " stand side by side",
        "sines-in-front",
    )
    expect(like(right), "rows are equally long, but this is not the table of lesson 2")


@exercise(
    "12.4",
    MISREAD
    | {
        "louder-than-patches": "draws positions with a standard deviation of 1",
        "fixed-not-learned": "gives a tensor that no optimizer will see",
        "scaled-by-width": "divides by the root of the width",
        "all-zero-start": "starts with a table of zeros",
    },
)
def louder(answer: Any) -> None:
    said, position_table = answer
    symptom = (
        "tokens and positions are added; nothing is lost, moved or cut off. How large"
        " is each of the two?"
    )
    expect_fault(said, ["scale"], symptom)
    torch.manual_seed(0)
    table = position_table(196, 300)
    expect_shape(table, torch.empty(1, 196, 300), "196 tokens of width 300")
    expect(
        isinstance(table, nn.Parameter) and table.requires_grad,
        "the table is a plain tensor now: who would train it, and who would save it?",
        "fixed-not-learned",
    )
    spread = table.std().item()
    rule = f"the table has a standard deviation of {spread:.3f}, published models 0.02"
    expect(
        abs(spread - 1) > 0.1,
        f"{rule}: still louder than the patches",
        "louder-than-patches",
    )
    expect(
        abs(spread - 300**-0.5) > 0.002,
        f"{rule}. A root belongs where {300} products are summed; is there such a sum?",
        "scaled-by-width",
    )
    expect(
        spread > 1e-6,
        f"{rule}: all rows begin alike, no place differs from another",
        "all-zero-start",
    )
    expect(abs(spread - 0.02) < 0.002, rule)


@exercise(
    "12.5",
    MISREAD
    | {
        "tokens-handed-back": "returns the tokens where the positions are wanted",
        "tokens-in-the-table": "returns tokens with positions, to which they are added",
        "no-rows-at-all": "returns zeros at the usual size",
        "stretch-forgotten": "returns the table whatever the size",
    },
)
def early_return(answer: Any) -> None:
    said, positions_for = answer
    symptom = (
        "at the usual size the sum is exactly twice the tokens. What was added, and"
        " what was not?"
    )
    expect_fault(said, ["missing", "role"], symptom)
    table, x = draw(1, 16, 6), draw(2, 16, 6, seed=1)
    got = positions_for(x, table)
    what = "at the usual size, 16 tokens and 16 rows,"
    expect(
        not (got.shape == x.shape and same(got, x)),
        f"{what} what is returned is the first argument: the tokens themselves",
        "tokens-handed-back",
    )
    expect(
        not (got.shape == x.shape and same(got, x + table)),
        f"{what} the tokens stand in what is returned, and the caller adds them once"
        " more",
        "tokens-in-the-table",
    )
    expect(got.any(), f"{what} nothing but zeros is added", "no-rows-at-all")
    row_by_row = got.shape in ((1, 16, 6), (2, 16, 6))
    expect(row_by_row, f"{what} rows (1, 16, 6) are wanted, got {tuple(got.shape)}")
    expect(same(got, table.expand_as(got)), f"{what} the rows are not the table's")
    larger = positions_for(draw(2, 36, 6), table)
    expect(
        larger.shape[1] == 36,
        f"36 tokens came, and {larger.shape[1]} rows were returned: who stretches"
        " them?",
        "stretch-forgotten",
    )
    flat = positions_for(draw(2, 36, 6), torch.full_like(table, 3.0))
    expect(
        flat.allclose(torch.tensor(3.0).double()), "36 tokens: the table was changed"
    )


@exercise(
    "12.6",
    MISREAD
    | {
        "product-rounded-down": "hopes that side / old * old is side again",
        "factor-made-larger": "adds a little to the factor",
        "grid-scrambled": "reshapes the rows into the grid without moving the channels",
    },
)
def one_row_short(answer: Any) -> None:
    said, stretch = answer
    symptom = "at one side in a hundred a row is not there. Which number is not exact?"
    expect_fault(said, ["count", "scale"], symptom)
    table = draw(1, 14 * 14, 3)
    lost = [side for side in range(55, 68) if stretch(table, side).shape[1] < side**2]
    expect(
        not lost,
        f"from 14 to sides {lost} a row and a column are lost: which number was rounded"
        " down?",
        "product-rounded-down",
    )
    grid = table[0].reshape(14, 14, 3).permute(2, 0, 1)[None]
    right = F.interpolate(grid, size=(21, 21), mode="bicubic")[0].flatten(1).mT[None]
    got = stretch(table, 21)
    expect_shape(got, right, "a table of 14 x 14 for 21 x 21")
    crumb = F.interpolate(grid, scale_factor=(21.1 / 14, 21.1 / 14), mode="bicubic")
    near = (got - crumb[0].flatten(1).mT[None]).abs().max()
    off = (got - right).abs().max()
    expect(
        off < 1e-9 or near > 0.1 or off > 0.5,
        f"no row is lost, but the values moved by up to {off:.2f}: the picture is"
        " stretched a little too far and cut off",
        "factor-made-larger",
    )
    expect(
        off < 0.5,
        f"the number of rows is right, the values are off by up to {off:.1f}: is a row"
        " of the table still one place of the grid?",
        "grid-scrambled",
    )
    expect(off < 1e-9, f"not the bicubic stretch: off by up to {off:.2f}")


# One head


@exercise(
    "12.7",
    MISREAD
    | {
        "softmax-over-heads": "lets the heads share out each pair of tokens",
        "softmax-over-queries": "lets the queries share out each key",
        "softmax-over-images": "lets the images share out each pair of tokens",
    },
)
def sixteen_times(answer: Any) -> None:
    said, look = answer
    symptom = (
        "the sums are not a little off: they are 197 / 12 on average, and one head"
        " gives all weights 1. Among whom is a whole divided?"
    )
    expect_fault(said, ["axis"], symptom)
    q, k = draw(2, 3, 4, 6), draw(2, 3, 5, 6, seed=1)
    got, right = look(q, k), softmax(scores(q, k))
    expect_shape(got, right, "2 images, 3 heads, 4 queries, 5 keys")
    sums = got.sum(dim=-1)
    rows = f"rows sum to {sums.min():.2f} up to {sums.max():.2f}"
    for dim, name, slug in (
        (1, "over the heads they sum to 1", "softmax-over-heads"),
        (2, "over the queries they sum to 1", "softmax-over-queries"),
        (0, "over the images they sum to 1", "softmax-over-images"),
    ):
        expect(not same(got, softmax(scores(q, k), dim)), f"{rows}; {name}", slug)
    expect(same(sums, torch.ones_like(sums)), f"{rows}: what should a row sum to?")
    expect(same(got, right), "rows sum to 1, but these are not the scores' weights")


@exercise(
    "12.8",
    MISREAD
    | {
        "tokens-for-values": "mixes the tokens themselves, not their values",
        "keys-for-values": "mixes the keys",
        "queries-for-values": "mixes the queries",
    },
)
def dead_third(answer: Any) -> None:
    said, attend = answer
    symptom = (
        "the last third of the matrix has no gradient, and nothing was detached. Is"
        " what it makes ever used?"
    )
    expect_fault(said, ["missing", "role"], symptom)
    x, qkv = draw(2, 5, 6), linear(6, 18)
    with torch.no_grad():
        q, k, v = qkv(x).split(6, dim=-1)
        weights = softmax(scores(q, k))
        got, right = attend(x, qkv), weights @ v
        expect_shape(got, right, "tokens (2, 5, 6)")
        for other, name, slug in (
            (x, "tokens themselves are", "tokens-for-values"),
            (k, "keys are", "keys-for-values"),
            (q, "queries are", "queries-for-values"),
        ):
            hint = f"the weights are right, and the {name} mixed: who was to be mixed?"
            expect(not same(got, weights @ other), hint, slug)
        expect(same(got, right), "not the values, weighted by softmax(q k / sqrt(e))")


@exercise(
    "12.9",
    MISREAD
    | {
        "result-thrown-away": "expects masked_fill to change its tensor",
        "zero-taken-for-forbidden": "gives a forbidden score 0, which softmax weighs",
        "masked-too-late": "masks the weights, after the softmax",
        "mask-turned-round": "forbids where the mask is True",
    },
)
def idle_mask(answer: Any) -> None:
    said, look = answer
    symptom = (
        "with the mask and without it the weights are the same. What has become of the"
        " step that should use it?"
    )
    expect_fault(said, ["missing"], symptom)
    q, k = draw(2, 4, 6), draw(2, 5, 6, seed=1)
    mask = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 1, 0, 1], [1] * 5, [0, 0, 0, 1, 1]])
    mask = mask.bool()
    right = softmax(scores(q, k).where(mask, -torch.inf))
    got = look(q, k, mask)
    expect_shape(got, right, "2 images, 4 queries, 5 keys")
    expect(
        not same(got, softmax(scores(q, k))),
        "the mask changes nothing: where does what `masked_fill` gives go?",
        "result-thrown-away",
    )
    forbidden = got[:, ~mask].max().item()
    expect(
        got[:, 0, mask[0]].any(),
        "allowed keys get no weight, and forbidden ones share it: True says *may* look",
        "mask-turned-round",
    )
    expect(
        forbidden < 1e-6,
        f"a forbidden key still gets a weight of {forbidden:.2f}: a score of 0 is a"
        " score like any other",
        "zero-taken-for-forbidden",
    )
    low = got.sum(dim=-1).min().item()
    expect(
        low > 0.999,
        f"a row sums to {low:.2f}: the weights of the forbidden were taken away, and"
        " nobody got them",
        "masked-too-late",
    )
    expect(
        same(got, right), "forbidden keys get nothing, but the others' weights are off"
    )


@exercise(
    "12.10",
    MISREAD
    | {
        "true-means-blocked-here": "hands True for real to a layer where True blocks",
        "mask-left-out": "lets everybody be heard",
        "padding-set-to-zero": "sets padding to zero, which still gets weight",
    },
)
def only_padding(answer: Any) -> None:
    said, hear = answer
    symptom = (
        "there is a mask, and it works: the padding is heard and the rest is not. What"
        " does its True say to the one side, and what to the other?"
    )
    expect_fault(said, ["role"], symptom)
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.float64).eval()
    x, real = draw(2, 7, 6), torch.arange(7) < torch.tensor([[3], [5]])
    with torch.no_grad():
        got, everybody = hear(layer, x, real), layer(x, x, x)[0]
        expect_shape(got, x, "tokens (2, 7, 6)")
        zeros = x * real[..., None]
        idle = layer(zeros, zeros, zeros)[0]
        blocked = layer(x, x, x, key_padding_mask=real)[0]
        parts = [x[i : i + 1, :n] for i, n in enumerate((3, 5))]
        right = [layer(part, part, part)[0][0] for part in parts]

    def like(other: Sequence[Tensor] | Tensor) -> bool:
        pairs = ((got[i, :n], other[i][:n]) for i, n in enumerate((3, 5)))
        return all(same(one, two) for one, two in pairs)

    expect(
        not like(blocked),
        "the padding is heard, the real tokens are not: this layer takes True for"
        " *blocked*",
        "true-means-blocked-here",
    )
    expect(
        not like(everybody),
        "everybody is heard, the padding as well: no mask has arrived",
        "mask-left-out",
    )
    expect(
        not like(idle),
        "padding of zeros still gets its share of every softmax, and takes it from the"
        " others",
        "padding-set-to-zero",
    )
    expect(like(right), "each image's real tokens alone give another result")


# Many heads


def head_by_head(x: Tensor, h: int) -> Tensor:
    """Attention without weights: each head, its slice of the channels, on its own."""
    e = x.shape[-1] // h
    slices = [x[:, :, i * e : (i + 1) * e] for i in range(h)]
    return torch.cat([softmax(scores(part, part)) @ part for part in slices], dim=-1)


@exercise(
    "12.11",
    MISREAD
    | {
        "tokens-divided": "divides the tokens among the heads",
        "heads-by-reshape": "reshapes straight into heads, which tears tokens apart",
        "heads-interleaved": "gives a head every h-th channel",
        "one-head-only": "leaves the channels whole",
    },
)
def quarters(answer: Any) -> None:
    said, looks = answer
    symptom = (
        "a token hears a quarter of its picture with four heads, half with two. What"
        " was cut into four, and what should have been?"
    )
    expect_fault(said, ["axis"], symptom)
    x, h = draw(2, 6, 12), 3
    got, right = looks(x, h), head_by_head(x, h)
    expect_shape(got, x, "tokens (2, 6, 12)")
    thirds = torch.cat([head_by_head(part, 1) for part in x.split(2, dim=1)], dim=1)
    expect(
        not same(got, thirds),
        "tokens 0 and 1 hear each other and nobody else: the tokens are still divided"
        " among the heads",
        "tokens-divided",
    )
    expect(
        not same(got, head_by_head(x, 1)),
        "all tokens meet, in one softmax over whole tokens: where are the heads?",
        "one-head-only",
    )
    turn = torch.arange(6).roll(1)
    error = (looks(x[:, turn], h) - got[:, turn]).abs().max().item()
    expect(
        error < 1e-9,
        f"shuffled tokens come out otherwise, by up to {error:.2f}: parts of one token"
        " are taken for tokens",
        "heads-by-reshape",
    )
    woven = head_by_head(x.unflatten(2, (4, 3)).mT.flatten(2), h)
    expect(
        not same(got, woven.unflatten(2, (3, 4)).mT.flatten(2)),
        "head 0 takes channels 0, 3, 6, 9: the channels of a head lie side by side, or"
        " published weights will not fit",
        "heads-interleaved",
    )
    expect(
        same(got, right), "tokens stay whole; a loop over the heads gives another sum"
    )


@exercise(
    "12.12",
    MISREAD
    | {
        "three-runs-fastest": "takes every third output for the queries",
        "heads-run-first": "takes the outputs head by head, each with its q, k, v",
        "channels-before-heads": "gives a head every h-th output",
    },
)
def another_house(answer: Any) -> None:
    said, split = answer
    symptom = (
        "each of the 36 outputs arrives exactly once, and unchanged. So what is wrong"
        " about where it arrives?"
    )
    expect_fault(said, ["order"], symptom)
    numbered = torch.arange(24.0).double().expand(2, 5, 24)
    parts = split(numbered, 2)
    got = [part[0, :, 0].int().tolist() for part in parts]
    shapes = [tuple(part.shape) for part in parts]
    rule = "q, k and v are each (2, 2, 5, 4)"
    expect(shapes == [(2, 2, 5, 4)] * 3, f"{rule} for b=2, h=2, n=5, e=4, got {shapes}")
    first = f"the first query of head 0 is made of outputs {got[0][0]}"
    for row, name, slug in (
        ([0, 3, 6, 9], "every third", "three-runs-fastest"),
        ([0, 2, 4, 6], "every second", "channels-before-heads"),
    ):
        expect(got[0][0] != row, f"{first}, {name}: what runs fastest?", slug)
    expect(
        got[1][0] != [4, 5, 6, 7],
        f"the first key of head 0 is made of outputs {got[1][0]}, but the published"
        " matrix has all queries of all heads in front",
        "heads-run-first",
    )
    starts = torch.arange(0, 24, 4).reshape(3, 2)  # three h
    right = starts[:, None, :, None, None] + torch.arange(4)
    right = right.expand(3, 2, 2, 5, 4)
    expect(same(torch.stack(list(parts)), right.double()), f"{first}; see the others")


# The layer that read the batch


@exercise(
    "12.13",
    MISREAD
    | {
        "images-read-as-tokens": "feeds b n d to a layer that reads n b d",
        "reshaped-not-turned": "reshapes b n d to n b d, which turns nothing",
        "gradient-cut-too": "detaches, although nothing has to be",
    },
)
def learns_nothing(answer: Any) -> None:
    said, mixer = answer
    symptom = (
        "token 0 hears the first token of *another* image, and no other token of its"
        " own. Who is heard, and who should be?"
    )
    expect_fault(said, ["leak", "axis"], symptom)
    torch.manual_seed(0)
    layer, x = mixer(6, 2).double().eval(), draw(3, 5, 6)
    got = layer(x)
    expect_shape(got, x, "tokens (3, 5, 6)")

    def moved(image: int, token: int) -> Tensor:
        other = x.clone()
        other[image, token] += draw(6, seed=1)
        return (layer(other) - layer(x)).abs().amax(dim=-1) > 1e-9

    heard = moved(1, 2)
    expect(
        not (heard[:, 2].all() and not heard[:, [0, 1, 3, 4]].any()),
        "token 2 of image 1 changed, and in every image token 2 heard of it, and nobody"
        " else: the layer still takes the images for the sequence",
        "images-read-as-tokens",
    )
    expect(
        not heard[[0, 2]].any(),
        "token 2 of image 1 changed, and some tokens of other images heard of it, in no"
        " order: have the axes been turned, or only relabelled?",
        "reshaped-not-turned",
    )
    expect(heard[1].all(), "no image hears another, but do all tokens of one meet?")
    back = x.clone().requires_grad_()
    probe, nudge = draw(3, 5, 6, seed=2), 1e-6 * draw(3, 5, 6, seed=3)
    (grad,) = torch.autograd.grad((layer(back) * probe).sum(), back)
    change = ((layer(x + nudge) - layer(x - nudge)) * probe).sum() / 2
    believed = (grad * nudge).sum()
    expect(
        torch.isclose(change, believed, rtol=1e-4),
        "who hears whom is right now. But small steps of the input change the output"
        " otherwise than the gradient says: is something still detached?",
        "gradient-cut-too",
    )


@exercise(
    "12.14",
    MISREAD
    | {
        "two-doors-shut": "detaches key and value, as was published",
        "one-door-shut": "detaches one of the three",
        "all-doors-shut": "detaches the input altogether",
    },
)
def after_the_cure(answer: Any) -> None:
    said, attend = answer
    symptom = (
        "what comes out is right, for every input. What is wrong with the way back?"
    )
    expect_fault(said, ["gradient"], symptom)
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.float64)
    x, probe = draw(2, 5, 6), draw(2, 5, 6, seed=1)
    right = layer(x, x, x)[0]
    got = attend(layer, x)
    expect_shape(got, right, "tokens (2, 5, 6)")
    expect(same(got, right), "the output was right, and has changed")

    def slope(attend: Callable) -> Tensor:
        back = x.clone().requires_grad_()
        out = (attend(layer, back) * probe).sum()
        (grad,) = torch.autograd.grad(out, back, allow_unused=True)
        return torch.zeros_like(x) if grad is None else grad

    def shut(cut: str) -> Tensor:
        def attend(layer: nn.Module, x: Tensor) -> Tensor:
            return layer(*(x.detach() if part in cut else x for part in "qkv"))[0]

        return slope(attend)

    found = slope(attend)
    off = (found - shut("")).abs().max().item()
    expect(
        found.any(),
        "no gradient reaches the input at all: everything below this layer would stand"
        " still",
        "all-doors-shut",
    )
    expect(
        not any(same(found, shut(cut)) for cut in ("kv", "qk", "qv")),
        f"the gradient is off by up to {off:.2f}: `x` acts as query, as key and as"
        " value, and what comes back comes through one of the three",
        "two-doors-shut",
    )
    expect(
        not any(same(found, shut(cut)) for cut in "qkv"),
        f"the gradient is off by up to {off:.2f}: it comes back through two of three"
        " doors",
        "one-door-shut",
    )
    expect(off < 1e-9, f"the gradient is off by up to {off:.2f}")


# The block


@exercise(
    "12.15",
    MISREAD
    | {
        "no-sum-at-all": "lets each step replace its input",
        "one-sum-for-two": "adds once for both steps",
        "first-sum-left-out": "lets attention replace its input",
        "second-sum-left-out": "lets the MLP replace its input",
        "start-added-again": "adds the start of the block twice",
    },
)
def all_alike(answer: Any) -> None:
    said, encode = answer
    symptom = (
        "norm, attention and MLP do what they should. With every step silent the"
        " encoder returns zeros: which part of the equation is nowhere?"
    )
    expect_fault(said, ["missing"], symptom)
    x = draw(2, 5, 6)
    a, c = draw(6, 6, seed=1) / 3, draw(6, 6, seed=2) / 3

    def look(x: Tensor) -> Tensor:
        return x @ a

    def think(x: Tensor) -> Tensor:
        return (x @ c).tanh()

    def run(block: Callable[[Tensor], Tensor]) -> Tensor:
        return block(block(x))

    got = encode(x, [(look, think)] * 2)
    right = run(lambda x: x + look(x) + think(x + look(x)))
    expect_shape(got, right, "tokens (2, 5, 6)")
    for other, hint, slug in (
        (
            lambda x: think(look(x)),
            "each step still replaces its input: silent steps would leave nothing",
            "no-sum-at-all",
        ),
        (
            lambda x: x + think(look(x)),
            "one sum for both steps: the MLP never sees the tokens, only what attention"
            " found",
            "one-sum-for-two",
        ),
        (
            lambda x: look(x) + think(look(x)),
            "attention replaces its input, the MLP adds: which of the two equations has"
            " no sum?",
            "first-sum-left-out",
        ),
        (
            lambda x: think(x + look(x)),
            "attention adds, the MLP replaces: which of the two equations has no sum?",
            "second-sum-left-out",
        ),
        (
            lambda x: x + look(x) + x + think(x + look(x)),
            "with silent steps the input comes back doubled: which sum begins at the"
            " wrong `x`?",
            "start-added-again",
        ),
    ):
        expect(not same(got, run(other)), hint, slug)
    expect(same(got, right), "not x + look(x) and then the same with think")


@exercise(
    "12.16",
    MISREAD
    | {
        "normed-over-the-image": "takes one mean over all tokens of an image",
        "normed-over-the-tokens": "takes a mean for each channel, over the tokens",
        "normed-over-the-batch": "takes means over several images",
    },
)
def talking_norm(answer: Any) -> None:
    said, make_norm = answer
    symptom = (
        "one token changes and 196 move, in one image. Over what does this norm take"
        " its mean?"
    )
    expect_fault(said, ["axis"], symptom)
    norm = make_norm(5, 6)
    x = draw(3, 5, 6).float() * 2 + draw(3, 5, 1, seed=1).float()
    got = norm(x)

    def normed(*dims: int) -> Tensor:
        centred = x - x.mean(dim=dims, keepdim=True)
        return centred / centred.square().mean(dim=dims, keepdim=True).sqrt()

    def like(other: Tensor) -> bool:
        return torch.allclose(got, other, atol=1e-3)

    expect_shape(got, x, "3 images, 5 tokens of width 6")
    expect(
        not like(normed(1, 2)),
        "one mean for a whole image: a token still moves when another one changes",
        "normed-over-the-image",
    )
    expect(
        not like(normed(1)),
        "a mean for each channel, over the tokens: a token still moves when another one"
        " changes, and is not centred itself",
        "normed-over-the-tokens",
    )
    expect(
        not like(normed(0, 2)) and not like(normed(0, 1)),
        "the mean runs over several images: they would hear each other",
        "normed-over-the-batch",
    )
    means = got.mean(dim=-1).abs().max().item()
    expect(like(normed(2)), f"each token should have mean 0, they go up to {means:.2f}")


@exercise(
    "12.17",
    MISREAD
    | {
        "keep-taken-for-drop": "hands the probability to keep to a function that drops",
        "shrunk-in-eval": "multiplies in eval although torch has scaled in training",
        "survivors-not-enlarged": "drops numbers and leaves the others as they were",
        "drops-in-eval": "drops in eval, too",
        "never-drops": "never drops anything",
    },
)
def keep_and_drop(answer: Any) -> None:
    said, drop = answer
    symptom = (
        "0.1 was kept where 0.9 was asked for, and in eval the mean is 0.9. One number"
        " has the other's meaning, and one factor stands where it should not"
    )
    expect_fault(said, ["role", "scale"], symptom)
    torch.manual_seed(0)
    ones = torch.ones(20_000, dtype=torch.float64)
    trained, asked = drop(ones, 0.8, True), drop(ones, 0.8, False)
    expect_shape(trained, ones, "20000 numbers")
    kept, mean = (trained != 0).double().mean().item(), trained.mean().item()
    expect(
        abs(kept - 0.2) > 0.02,
        f"keep_prob=0.8, and {kept:.2f} were kept in training: what does the function"
        " think that its number means?",
        "keep-taken-for-drop",
    )
    expect(kept < 0.99, "keep_prob=0.8, and all are kept in training", "never-drops")
    expect(abs(kept - 0.8) < 0.02, f"keep_prob=0.8, and {kept:.2f} were kept")
    in_eval = (asked != 0).double().mean().item()
    expect(in_eval > 0.99, f"in eval {in_eval:.2f} are kept, not all", "drops-in-eval")
    means = f"the mean is {mean:.1f} in training and {asked.mean():.1f} in eval"
    shrunk = asked.mean() < 0.9
    expect(
        not shrunk or mean < 0.9,
        f"{means}: torch has already made up for the loss, and eval does it again",
        "shrunk-in-eval",
    )
    expect(
        shrunk or mean > 0.9,
        f"{means}: nobody has made up for the dropped ones",
        "survivors-not-enlarged",
    )
    expect(not shrunk, f"{means}: the eval of this course is the identity")


@exercise(
    "12.18",
    MISREAD
    | {
        "nothing-by-nothing": "divides by a chance of 0 and multiplies by 0",
        "nan-painted-over": "repairs the output and leaves nan in the gradient",
        "survivors-not-divided": "leaves out the division",
        "drops-nothing-at-one": "returns the input when all should be dropped",
        "drops-single-numbers": "drops numbers, not branches",
    },
)
def nothing_at_all(answer: Any) -> None:
    said, drop_path = answer
    symptom = (
        "all is well until nobody survives: then something is divided that should not"
        " be. What is divided by what?"
    )
    expect_fault(said, ["scale"], symptom)
    torch.manual_seed(0)
    x = draw(400, 2, 3)
    nan = "with drop_prob=1 nan comes out: 0 survivors, and a division by their chance"
    try:
        nothing = drop_path(x, 1.0)
    except (Unsound, ZeroDivisionError):
        raise NotYet(nan, "nothing-by-nothing") from None
    expect(not nothing.isnan().any(), nan, "nothing-by-nothing")
    expect_shape(nothing, x, "a branch (400, 2, 3)")
    expect(
        not same(nothing, x),
        "with drop_prob=1 the branch comes back whole: who should survive?",
        "drops-nothing-at-one",
    )
    expect(not nothing.any(), "with drop_prob=1 something survives")
    back = x.clone().requires_grad_()
    drop_path(back, 1.0).sum().backward()
    expect(
        back.grad is not None and back.grad.isfinite().all(),
        "with drop_prob=1 zeros come out, and the gradient is nan: the division by 0 is"
        " still there, painted over",
        "nan-painted-over",
    )
    expect(same(drop_path(x, 0.0), x), "with drop_prob=0 nothing should be dropped")
    some = drop_path(x, 0.25)
    gone = some == 0
    expect(
        torch.equal(gone.all(dim=(1, 2)), gone.any(dim=1).any(dim=1)),
        "parts of a branch are dropped: one draw for each image, not for each number",
        "drops-single-numbers",
    )
    alive = ~gone.all(dim=(1, 2))
    expect(
        not same(some[alive], x[alive]),
        "survivors of drop_prob=0.25 come back as they were, so the mean falls to 0.75",
        "survivors-not-divided",
    )
    share = alive.double().mean().item()
    expect(abs(share - 0.75) < 0.08, f"drop_prob=0.25, and {share:.2f} survive")
    expect(same(some[alive], x[alive] / 0.75), "survivors: divided by their chance?")


# Read-out and training


def small_model() -> tuple[list[nn.Linear], nn.LayerNorm, nn.Linear]:
    """Two blocks, a norm with numbers of its own, a head."""
    norm = nn.LayerNorm(6, dtype=torch.float64)
    torch.manual_seed(2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return [linear(6, 6), nn.Linear(6, 6, dtype=torch.float64)], norm, linear(6, 4)


@exercise(
    "12.19",
    MISREAD
    | {
        "last-norm-left-out": "hands the sum of all blocks to the head as it is",
        "normed-before-the-blocks": "norms the tokens before the blocks",
        "normed-in-every-block": "norms again behind every block",
        "another-token-read": "reads another token than the class token",
    },
)
def too_loud(answer: Any) -> None:
    said, classify = answer
    symptom = (
        "the answers are nearly all the same, only the scores are three times as large:"
        " the head has met a sum that nobody brought back. Which step should have?"
    )
    expect_fault(said, ["missing"], symptom)
    (first, second), norm, head = small_model()
    x = draw(2, 5, 6)
    with torch.no_grad():
        got, after = classify(x, nn.ModuleList([first, second]), norm, head), x
        right = head(norm(second(first(after))))
        expect_shape(got, right[:, 0], "2 images, 4 classes")
        for other, hint, slug in (
            (
                head(second(first(x))),
                "the head still gets the sum of all blocks as it is: `norm` is not"
                " used",
                "last-norm-left-out",
            ),
            (
                head(second(first(norm(x)))),
                "the norm stands before the blocks: what they add is not normed",
                "normed-before-the-blocks",
            ),
            (
                head(norm(second(norm(first(x))))),
                "the norm stands behind every block: the sum itself must stay untouched"
                " until the end",
                "normed-in-every-block",
            ),
        ):
            expect(not same(got, other[:, 0]), hint, slug)
        others = (same(got, right[:, i]) for i in range(1, 5))
        expect(
            not any(others) and not same(got, right.mean(dim=1)),
            "the norm is in place, but these are not the scores of the class token,"
            " which stands first",
            "another-token-read",
        )
        expect(
            same(got, right[:, 0]), "blocks, norm, head of token 0 give other scores"
        )


@exercise(
    "12.20",
    MISREAD
    | {
        "token-cut-off": "detaches the token from its copies",
        "gradient-shared-out": "divides the token by the number of images",
        "token-behind": "puts the class token last",
    },
)
def starved(answer: Any) -> None:
    said, prepend = answer
    symptom = (
        "`repeat` and `expand` both print True: the gradient of the token is the sum"
        " over its copies. What, then, is wrong with it?"
    )
    expect_fault(said, ["healthy"], symptom)
    cls_token, x = draw(1, 1, 6).requires_grad_(), draw(3, 5, 6, seed=1)
    probe = draw(3, 6, 6, seed=2)
    got = prepend(cls_token, x)
    expect_shape(got, probe, "one token more, (3, 6, 6)")
    expect(
        not same(got[:, -1], cls_token[0].expand(3, 6)),
        "the class token stands last: index 0 is what the head reads",
        "token-behind",
    )
    expect(same(got[:, 1:], x), "the other tokens have changed")
    grad = torch.zeros_like(cls_token)
    if got.requires_grad:
        (grad,) = torch.autograd.grad((got * probe).sum(), cls_token)
    wanted = probe[:, :1].sum(dim=0, keepdim=True)
    expect(
        grad.any(),
        "now the token does starve: no gradient reaches it at all",
        "token-cut-off",
    )
    expect(
        not same(grad, wanted / 3),
        "the gradient is a third of the sum over its three copies: who has divided?",
        "gradient-shared-out",
    )
    expect(same(got[:, :1], cls_token.expand(3, 1, 6)), "row 0 is not the class token")
    expect(
        same(grad, wanted), "the gradient of the token is not the sum of its copies'"
    )


@exercise(
    "12.21",
    MISREAD
    | {
        "function-not-told": "calls F.dropout without telling it the mode",
        "off-for-ever": "switches dropout off in training as well",
        "drops-the-scores": "drops class scores instead of channels",
    },
)
def another_answer(answer: Any) -> None:
    said, readout = answer
    symptom = (
        "`eval()` was called, and two answers to one digit differ. Who did not hear of"
        " it?"
    )
    expect_fault(said, ["mode"], symptom)
    head, x = linear(6, 4), draw(50, 6)
    torch.manual_seed(0)
    layer = readout(head, 0.5)
    with torch.no_grad():
        layer.eval()
        got, again, right = layer(x), layer(x), head(x)
        expect_shape(got, right, "50 rows of features, 4 classes")
        expect(
            same(got, again),
            "two passes in eval still differ: the dropout has not been told the mode",
            "function-not-told",
        )
        expect(same(got, right), "in eval the read-out is the head alone")
        layer.train()
        loud = [layer(x) for _ in range(200)]
        expect(
            not same(loud[0], loud[1]),
            "calm in eval, but in training nothing is dropped either",
            "off-for-ever",
        )
        expect(
            not any((out == 0).any() for out in loud),
            "in training whole class scores are 0: what should be dropped are channels,"
            " before the head",
            "drops-the-scores",
        )
        off = (torch.stack(loud).mean(dim=0) - right).abs().mean().item()
        expect(off < 0.2, f"in training the mean answer is off by {off:.2f}")


@exercise(
    "12.22",
    MISREAD
    | {
        "eval-taken-for-frozen": "believes that eval() stops weights from learning",
        "dropout-frozen-too": "freezes the weights and switches dropout off",
        "inner-layers-forgotten": "freezes only what stands outermost",
    },
)
def still_moving(answer: Any) -> None:
    said, freeze = answer
    symptom = (
        "the weights moved, and dropout was silent. Which of the two does the switch"
        " that was used belong to?"
    )
    expect_fault(said, ["mode", "gradient"], symptom)
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5))
    backbone = nn.Sequential(inner, nn.Linear(5, 4)).double().train()
    backbone.register_parameter("token", nn.Parameter(torch.ones(1).double()))
    frozen = freeze(backbone)
    expect(isinstance(frozen, nn.Module), "return the backbone")
    learning = [name for name, p in frozen.named_parameters() if p.requires_grad]
    every = len(list(frozen.parameters()))
    expect(
        len(learning) < every,
        f"all {every} parameters still learn, and move with the next step",
        "eval-taken-for-frozen",
    )
    expect(
        not learning,
        f"some are frozen, but {', '.join(learning)} still learn",
        "inner-layers-forgotten",
    )
    expect(
        frozen.training and all(part.training for part in frozen.modules()),
        "the weights rest, and dropout has gone silent with them: it was to go on",
        "dropout-frozen-too",
    )


# A teacher


@exercise(
    "12.23",
    MISREAD
    | {
        "teacher-meets-itself": "compares the teacher with the teacher",
        "student-meets-itself": "compares the student with the student",
        "guess-and-truth-swapped": "makes the teacher the guess",
    },
)
def everybody_agrees(answer: Any) -> None:
    said, distil = answer
    symptom = (
        "every student has a loss of 0, also one that answers at random. Who is"
        " compared with whom?"
    )
    expect_fault(said, ["role", "missing"], symptom)
    student, teacher = draw(6, 4), 3 * draw(6, 4, seed=1)
    got = distil(student, teacher, 2.0)
    expect(got.ndim == 0, f"one number is wanted, got shape {tuple(got.shape)}")

    def divergence(one: Tensor, other: Tensor) -> Tensor:
        p, q = softmax(one / 2), softmax(other / 2)
        return 4 * (p * (p / q).log()).sum(dim=-1).mean()

    if abs(got) < 1e-9:
        back = student.clone().requires_grad_()
        alone = distil(back, teacher, 2.0).requires_grad
        for reached, name, slug in (
            (False, "the student is nowhere in it", "teacher-meets-itself"),
            (True, "the teacher is nowhere in it", "student-meets-itself"),
        ):
            expect(alone is not reached, f"still 0 for a stranger: {name}", slug)
    expect(
        not same(got, divergence(student, teacher)),
        "this is KL(student || teacher): who is the truth here, and who is the guess?",
        "guess-and-truth-swapped",
    )
    right = divergence(teacher, student)
    expect(same(got, right), f"the definition gives {right:.3f}, you {got:.3f}")


class Distiller(nn.Module):
    """What exercise 12.24 asks about, with parts inside parts."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
        self.teacher = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, 6))
        self.distillation_head = nn.Linear(5, 4)


@exercise(
    "12.24",
    MISREAD
    | {
        "student-only": "takes the student for all that learns",
        "teacher-learns-too": "hands the teacher's parameters to the optimizer, too",
        "token-left-outside": "forgets the distillation token",
        "head-left-outside": "forgets the distillation head",
    },
)
def token_outside(answer: Any) -> None:
    said, to_train = answer
    symptom = (
        "the student moves, token and head stay as they were drawn, whatever the loss"
        " says. Who would have to move them?"
    )
    expect_fault(said, ["gradient", "missing"], symptom)
    distiller = Distiller()
    chosen = [id(parameter) for parameter in to_train(distiller)]
    parts = {
        name.partition(".")[0]
        for name, parameter in distiller.named_parameters()
        if id(parameter) in chosen
    }
    expect(
        "teacher" not in parts,
        "the teacher is in the optimizer, and would learn from its student",
        "teacher-learns-too",
    )
    expect(
        parts != {"student"},
        "only the student is in the optimizer: who moves the token and its head?",
        "student-only",
    )
    for part, slug in (
        ("distillation_token", "token-left-outside"),
        ("distillation_head", "head-left-outside"),
    ):
        expect(part in parts, f"{part} is in no optimizer", slug)
    missing = [n for n, p in distiller.named_parameters() if id(p) not in chosen]
    missing = [name for name in missing if not name.startswith("teacher")]
    expect(not missing, f"in no optimizer: {', '.join(missing)}")
    twice = len(chosen) != len(set(chosen))
    expect(not twice, "a parameter is in the list twice, and would be moved twice")


# Tokens to token


@exercise(
    "12.25",
    MISREAD
    | {
        "rounded-up": "rounds up instead of counting the first window",
        "rounded-up-and-one": "rounds up and counts the first window",
        "first-window-forgotten": "counts steps, not windows",
        "padding-on-one-side": "pads on one side only",
    },
)
def every_fourth(answer: Any) -> None:
    said, windows = answer
    symptom = (
        "three sizes of four are right, and each fourth has one window too few. Which"
        " sizes are these?"
    )
    expect_fault(said, ["count"], symptom)
    splits = [(s, k, t, p) for s in range(20, 33) for k, t, p in ((7, 4, 2), (3, 2, 1))]

    def unfolded(side: int, kernel: int, stride: int, padding: int) -> int:
        column = torch.zeros(1, 1, side + 2 * padding, 1)
        return F.unfold(column, (kernel, 1), stride=(stride, 1)).shape[-1]

    def like(rule: Callable[[int, int, int, int], int]) -> bool:
        return got == [rule(*split) for split in splits]

    got = [windows(*split) for split in splits]
    pairs = zip(splits, got, strict=True)
    off = [split[0] for split, found in pairs if found != unfolded(*split)]
    sides = f"not what unfold makes for sides {sorted(set(off))}"
    expect(
        not like(lambda s, k, t, p: -((k - s - 2 * p) // t)),
        f"{sides}: where the division leaves nothing, rounding up adds nothing",
        "rounded-up",
    )
    expect(
        not like(lambda s, k, t, p: 1 - ((k - s - 2 * p) // t)),
        f"{sides}: where the division leaves a rest, half a window is counted as one",
        "rounded-up-and-one",
    )
    expect(
        not like(lambda s, k, t, p: (s + 2 * p - k) // t),
        f"{sides}, one too few everywhere: the first window needs no step",
        "first-window-forgotten",
    )
    expect(
        not like(lambda s, k, t, p: (s + p - k) // t + 1),
        f"{sides}: the padding stands on both sides",
        "padding-on-one-side",
    )
    expect(not off, sides)


def linear_mix(q: Tensor, k: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """The referee: the weights of the performer, made in full."""

    def features(x: Tensor) -> Tensor:
        return (x @ w.T - x.square().sum(dim=-1, keepdim=True) / 2).exp()

    weights = features(q) @ features(k).mT
    return weights / weights.sum(dim=-1, keepdim=True) @ v


@exercise(
    "12.26",
    MISREAD
    | {
        "queries-read-first": "reads q, k, v from a matrix that makes k, q, v",
        "values-read-first": "takes the first part for the values",
        "values-in-the-middle": "takes the second part for the values",
    },
)
def who_asks(answer: Any) -> None:
    said, perform = answer
    symptom = (
        "no number is lost and none is made wrongly. Each part gets a name: whose?"
    )
    expect_fault(said, ["role", "order"], symptom)
    x, kqv, w = draw(2, 5, 6), linear(6, 12), draw(3, 4, seed=1)
    with torch.no_grad():
        parts = kqv(x).split(4, dim=-1)
        got = perform(x, kqv, w)
        right = linear_mix(parts[1], parts[0], parts[2], w)

        def like(q: int, k: int, v: int) -> bool:
            mixed = linear_mix(parts[q], parts[k], parts[v], w)
            return torch.allclose(got, mixed, atol=1e-5)

    expect_shape(got, right, "tokens (2, 5, 6), width 4")
    expect(
        not like(0, 1, 2),
        "the first part is still taken for the queries: how is the matrix called?",
        "queries-read-first",
    )
    expect(
        not like(1, 2, 0) and not like(2, 1, 0),
        "the first part is mixed, as if it were the values: which letter stands last?",
        "values-read-first",
    )
    expect(
        not like(0, 2, 1) and not like(2, 0, 1),
        "the second part is mixed, as if it were the values: which letter stands last?",
        "values-in-the-middle",
    )
    expect(like(1, 0, 2), "not the linear attention of these queries, keys and values")


@exercise(
    "12.27",
    MISREAD
    | {
        "overlaps-added": "takes fold for the inverse of unfold",
        "one-factor-for-all": "divides every pixel by the same number",
        "windows-averaged": "divides by the kernel's pixels",
    },
)
def behind_a_fence(answer: Any) -> None:
    said, lay_back = answer
    symptom = (
        "every pixel is in its place, and comes back twice as bright or more. What has"
        " to be done about that, pixel by pixel?"
    )
    expect_fault(said, ["scale", "missing"], symptom)
    image = draw(2, 3, 16, 16) + 3
    padded = F.pad(image, (2, 2, 2, 2))
    places = [(i, j) for i in range(0, 14, 4) for j in range(0, 14, 4)]
    windows = [padded[:, :, i : i + 7, j : j + 7].flatten(1) for i, j in places]
    got = lay_back(torch.stack(windows, dim=1), 16)
    expect_shape(got, image, "windows of 2 pictures of 3 x 16 x 16")
    factors = (got / image).round(decimals=6).unique()
    low, high = factors.min().item(), factors.max().item()
    times = f"a pixel comes back {low:.2f} to {high:.2f} times as bright"
    ratio = high / low
    expect(
        not (low > 0.99 and ratio > 1.5),
        f"{times}: what several windows bring is still added up",
        "overlaps-added",
    )
    expect(
        abs(low - 1 / 49) > 1e-3,
        f"{times}: 49 is the number of pixels in a window, not of windows over a pixel",
        "windows-averaged",
    )
    expect(
        ratio < 1.5,
        f"{times}: the fence is still there. Is the number of windows the same for"
        " all?",
        "one-factor-for-all",
    )
    expect(same(got, image), f"{times}; it should be 1 everywhere")
