"""Checks of lesson 10: T2T-ViT."""

from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from . import exercise, expect, expect_letter, probes
from .probes import trying

same = partial(probes.same, atol=1e-5)


@exercise(
    "10.1",
    {
        "one-side-for-the-grid": "as many tokens as windows along one side",
        "rounded-up-and-one-added": "a started stride holds a window",
        "padding-or-first-window-forgotten": "the padding holds no window, or the first"
        " window counts as a stride",
        "channels-forgotten": "a window is as wide as it has pixels",
        "width-never-narrowed": "the second split gathers what the first has made",
        "layer-width-for-split-width": "a split gives what the layer behind it gives",
    },
)
def trace(answer) -> None:
    tokens, widths, few = (list(answer[0]), list(answer[1]), answer[2])
    sides = "is one side: a grid has rows and columns"
    expect(tokens != [56, 28, 14], f"{tokens} {sides}", "one-side-for-the-grid")
    expect(
        tokens not in ([57, 29, 15], [57**2, 29**2, 15**2]),
        "224 + 4 - 7 is 221, and 221 / 4 is no whole number: floor it, then add 1",
        "rounded-up-and-one-added",
    )
    expect(
        tokens not in ([55, 27, 13], [55**2, 27**2, 13**2]),
        "55 windows on a side, then 27, then 13, each one too few: the padding makes"
        " room on both sides, and the first window has not moved yet",
        "padding-or-first-window-forgotten",
    )
    expect(
        tokens == [3136, 784, 196],
        f"tokens {tokens}? A side has floor((side + 2 padding - kernel) / stride) + 1",
    )
    expect(
        widths[:1] != [49],
        "49 pixels in a window: and how many numbers per pixel?",
        "channels-forgotten",
    )
    expect(widths[:1] == [147], f"a first window of {widths[0]}? kernel, kernel, c")
    expect(
        widths[1:] != [1323, 11907],
        "1323 is 9 windows of 147: what width does the token layer leave?",
        "width-never-narrowed",
    )
    expect(
        widths[1:] != [64, 64],
        "64 is what a token layer leaves; asked is what the next split makes of it,"
        " and a window gathers 3 x 3",
        "layer-width-for-split-width",
    )
    expect(
        widths == [147, 576, 576],
        f"widths {widths}? The token layer leaves 64 numbers, a window gathers 3 x 3",
    )
    expect(few != 2, f"{few} {sides}", "one-side-for-the-grid")
    expect(few == 4, f"{few} tokens of 32 pixels? The grids are 8, 4 and 2 on a side")


def windows_by_loop(
    x: Tensor, kernel: int, stride: int, padding: int, dilation: int = 1
) -> Tensor:
    b, c, height, width = x.shape
    canvas = x.new_zeros(b, c, height + 2 * padding, width + 2 * padding)
    canvas[:, :, padding : padding + height, padding : padding + width] = x
    reach = dilation * (kernel - 1) + 1
    rows = []
    for y in range(0, canvas.shape[2] - reach + 1, stride):
        for left in range(0, canvas.shape[3] - reach + 1, stride):
            window = canvas[:, :, y : y + reach, left : left + reach]
            rows.append(window[:, :, ::dilation, ::dilation].reshape(b, -1))
    return torch.stack(rows, dim=1)


@exercise(
    "10.2",
    {
        "columns-taken-for-tokens": "unfold gives a token in each row",
        "reshape-for-transpose": "a reshape turns columns into rows",
        "channels-last": "a token holds its pixels one by one, each with all channels",
        "padding-forgotten": "a split has a kernel and a stride",
        "stride-forgotten": "windows move by one pixel",
        "stride-taken-for-dilation": "the stride is the second number that unfold"
        " takes",
    },
)
def soft_split(answer) -> None:
    torch.manual_seed(0)
    for shape, split in (((2, 3, 9, 8), (3, 2, 1)), ((1, 2, 12, 9), (5, 3, 2))):
        x = torch.randn(shape)
        right, got = windows_by_loop(x, *split), answer(x, split)
        asked = f"{shape} cut by {split}: expected tokens {tuple(right.shape)}"
        found = f"{asked}, got {tuple(got.shape)}"
        expect(
            got.shape != right.mT.shape,
            f"{found}: unfold stores a window as a column, a token is a row",
            "columns-taken-for-tokens",
        )
        expect_all_windows(got, x, split, found)
        expect(got.shape == right.shape, found)
        mixed = got.reshape(right.mT.shape).mT
        expect(
            same(got, right) or not same(mixed, right),
            "the shape is right and the windows are torn apart: reshape does not"
            " transpose",
            "reshape-for-transpose",
        )
        by_pixel = right.unflatten(2, (shape[1], -1)).mT.flatten(2)
        expect(
            same(got, right) or not same(got, by_pixel),
            "channels last inside a token: the published weights expect c first, then"
            " rows and columns of the window",
            "channels-last",
        )
        expect(same(got, right), "these are not the windows, row by row")
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for shape, split in (((1, 1, 4, 6), (1, 1, 0)), ((2, 3, 8, 12), (4, 4, 0))):
            x = torch.randn(shape, dtype=torch.float64).to(dtype)
            case = f"{dtype}, {shape} cut by {split}"
            with trying(case):
                got = answer(x, split)
            right = windows_by_loop(x, *split)
            expect(
                got.shape == right.shape and torch.equal(got, right),
                f"{case}: expected the pixels as they are, {tuple(right.shape)}, got"
                f" {tuple(got.shape)}",
            )


def expect_all_windows(
    got: Tensor, x: Tensor, split: tuple[int, int, int], found: str
) -> None:
    kernel, stride, padding = split
    known = {
        "padding-forgotten": (
            windows_by_loop(x, kernel, stride, 0),
            "no window reaches over the rim, so the padding is missing",
        ),
        "stride-forgotten": (
            windows_by_loop(x, kernel, 1, padding),
            f"the windows move by 1, and the stride is {stride}",
        ),
        "stride-taken-for-dilation": (
            windows_by_loop(x, kernel, 1, padding, dilation=stride),
            "the windows have gaps and move by 1: what is the second number that unfold"
            " takes, if it is not named?",
        ),
    }
    for misconception, (wrong, hint) in known.items():
        seen = same(got, wrong) or same(got.mT, wrong)
        expect(not seen, f"{found}: {hint}", misconception)


@exercise(
    "10.3",
    {
        "fold-undoes-unfold": "fold is the inverse of unfold",
        "window-size-counted": "as many windows as a window has pixels",
        "one-side-only": "a pixel lies in one window or in two",
        "corners-forgotten": "every pixel lies where windows overlap",
    },
)
def overlaps(answer) -> None:
    numbers = {int(number) for number in answer}
    expect(
        numbers != {1},
        "all 1 would need windows that share nothing: with kernel 3 and stride 2 each"
        " next to another shares a column",
        "fold-undoes-unfold",
    )
    expect(
        9 not in numbers,
        "9 is how many pixels a window has; asked is in how many windows a pixel lies",
        "window-size-counted",
    )
    expect(
        numbers != {1, 2},
        "along one side a pixel lies in 1 or 2 windows: what if both rows and columns"
        " overlap?",
        "one-side-only",
    )
    expect(
        numbers not in ({4}, {2, 4}),
        "and a pixel that is in the middle of a window, in both directions: which other"
        " window reaches it?",
        "corners-forgotten",
    )
    expect(
        numbers == {1, 2, 4},
        f"{sorted(numbers)}? Windows start at -1, 1, 3, 5: count along one side first,"
        " then multiply",
    )


class TokenReferee:
    """What `TokenAttention` gives, one image and one query at a time."""

    def __init__(self, layer: Any, x: Tensor) -> None:
        self.layer, self.x, self.width = layer, x, layer.proj.in_features
        self.scale = x.shape[-1] ** -0.5

    def parts(self, order: str = "qkv") -> dict[str, Tensor]:
        rows = self.layer.qkv.weight.split(self.width)
        return {name: self.x @ w.T for name, w in zip(order, rows, strict=True)}

    def mixed(
        self, parts: dict[str, Tensor], scale: float, after: float = 1.0
    ) -> Tensor:
        images = [
            torch.stack([after * ((k @ one) * scale).softmax(dim=0) @ v for one in q])
            for q, k, v in zip(*(parts[name] for name in "qkv"), strict=True)
        ]
        return torch.stack(images)

    def wrong(self) -> dict[str, tuple[str, list[Tensor]]]:
        """What the known mistakes give, with their hints."""
        proj, parts, scale = self.layer.proj, self.parts(), self.scale
        mixed = self.mixed(parts, scale)
        q, k, v = (parts[name] for name in "qkv")

        def with_order(order: str) -> Tensor:
            other = self.parts(order)
            return other["v"] + proj(self.mixed(other, scale))

        others = ["".join(order) for order in permutations("qkv")][1:]
        return {
            "path-left-out": (
                "there is no path around: what the token itself said is lost",
                [proj(mixed)],
            ),
            "query-width-for-scale": (
                "the scale is that of a query's width, 6 (torch's default). The release"
                " takes the width that came in: self.scale",
                [v + proj(self.mixed(parts, self.width**-0.5))],
            ),
            "scale-left-out": (
                "the scores are not scaled",
                [v + proj(self.mixed(parts, 1.0))],
            ),
            "scaled-after-softmax": (
                f"the weights of a row sum to {scale:.2f}: scaled are the scores,"
                " before the softmax",
                [v + proj(self.mixed(parts, 1.0, after=scale))],
            ),
            "parts-in-another-order": (
                "queries, keys and values are taken in another order: in this matrix it"
                " is q, k, v",
                [with_order(order) for order in others],
            ),
            "question-goes-around": (
                "what goes around is what a token asks or answers to, its query or its"
                " key: which of the three says what it gives?",
                [q + proj(mixed), k + proj(mixed)],
            ),
            "projection-left-out": (
                "the mixture is added as it is: where does `proj` come in?",
                [v + mixed],
            ),
            "projection-around-both": (
                "the path around goes through `proj` as well, so it goes around nothing"
                " but the mixing",
                [proj(v + mixed)],
            ),
        }


@exercise(
    "10.4",
    {
        "input-goes-around": "a path around always starts at the input",
        "path-left-out": "attention alone makes the token",
        "query-width-for-scale": "the scale always comes from the width of a query",
        "scale-left-out": "scores need no scale here",
        "scaled-after-softmax": "the scale may come after the softmax",
        "parts-in-another-order": "the parts of the matrix stand in any order",
        "question-goes-around": "any of q, k, v of the right width may go around",
        "projection-left-out": "one head needs no projection",
        "projection-around-both": "the projection comes last, over all",
    },
)
def path_around(answer) -> None:
    torch.manual_seed(0)
    layer, x = answer(11, 6), torch.randn(2, 5, 11)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    try:
        got = layer(x)
    except RuntimeError as error:
        expect(
            "must match the size" not in str(error),
            "a token comes in with 11 numbers and must leave with 6 (147 and 64 in the"
            " paper): x cannot be added. Which of q, k, v has the new width and is a"
            " summary of the token?",
            "input-goes-around",
        )
        raise
    expect(got.shape == (2, 5, 6), f"expected (2, 5, 6), got {tuple(got.shape)}")
    referee = TokenReferee(layer, x)
    for misconception, (hint, wrong) in referee.wrong().items():
        expect(not any(same(got, other) for other in wrong), hint, misconception)
    parts = referee.parts()
    right = parts["v"] + layer.proj(referee.mixed(parts, referee.scale))
    expect(same(got, right), "not the values plus the projected mixture")
    with trying("tokens in bfloat16, as they come on many accelerators"):
        layer.bfloat16()(x.bfloat16())
    layer, x = answer(11, 6).double(), torch.randn(1, 1, 11).double()
    with trying("one image of one token in float64"):
        got = layer(x)
    value = x @ layer.qkv.weight[12:].T  # the only one, so it is the mixture, too
    right = value + layer.proj(value)
    worst = (got - right).abs().max().item()
    expect(
        got.shape == right.shape and worst < 1e-12,
        f"one image of one token in float64: expected {tuple(right.shape)}, got"
        f" {tuple(got.shape)}, off by up to {worst:.0e}",
    )


class Made(TorchDispatchMode):
    """Counts the numbers that are made on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            self.numbers += tensor.numel() if isinstance(tensor, Tensor) else 0
        return out


def work(answer: Callable, tokens: int) -> int:
    """How much is multiplied, added and made on so many tokens."""
    q = k = torch.rand(1, tokens, 4)
    with FlopCounterMode(display=False) as counter, Made() as made:
        answer(q, k, torch.rand(1, tokens, 6))
    return counter.get_total_flops() + made.numbers


@exercise(
    "10.5",
    {
        "matrix-first": "the brackets do not change the work",
        "denominator-left-out": "the weights of a row need not sum to 1",
        "softmax-once-more": "attention needs a softmax, with features, too",
        "eps-fixed": "eps is a number of the course's, not of the caller's",
        "eps-at-every-key": "every weight gets an eps of its own",
    },
)
def linear_attention(answer) -> None:
    torch.manual_seed(0)
    q, k, v = torch.rand(2, 5, 4), torch.rand(2, 7, 4), torch.randn(2, 7, 6)
    scores = q @ k.mT
    total = scores.sum(dim=-1, keepdim=True)
    right = scores @ v / (total + 1e-8)
    got = answer(q, k, v)
    expect(got.shape == (2, 5, 6), f"expected (2, 5, 6), got {tuple(got.shape)}")
    ones = answer(q, k, torch.ones(2, 7, 6))
    expect(
        torch.allclose(ones, torch.ones(2, 5, 6), atol=1e-4),
        f"the mean of values that are all 1 came out as {ones[0, 0, 0]:.2f}: by what"
        " must each row be divided so that its weights sum to 1?",
        "denominator-left-out",
    )
    expect(
        not same(got, scores.softmax(dim=-1) @ v),
        "the features stand for the exponential already, and here a softmax takes it"
        " once more",
        "softmax-once-more",
    )
    expect(same(got, right), "the weights are not phi(q) phi(k), divided by their sum")
    answer(0 * q, k, v)  # 0 / 0 without an eps
    wide = answer(q, k, v, eps=1.0)
    expect(
        not same(wide, right),
        "with eps=1.0 the answer is the same as with 1e-8: add the eps that was asked"
        " for",
        "eps-fixed",
    )
    expect(
        not any(
            same(wide, top / (total + 7)) for top in (scores @ v, (scores + 1) @ v)
        ),
        "with eps=1.0 the denominator grows by 7, the number of keys: add eps to the"
        " sum of each row, once",
        "eps-at-every-key",
    )
    expect(
        same(wide, scores @ v / (total + 1.0)),
        "with eps=1.0 the answer is off: add eps to the sum of each row, once",
    )
    few, many = work(answer, 64), work(answer, 128)
    expect(
        many <= 2.1 * few,
        f"right numbers, but twice the tokens took {many / max(few, 1):.1f} times the"
        " work: somewhere there is an n x m matrix. Which product can come first?",
        "matrix-first",
    )
    for b, n, m in ((2, 5, 7), (1, 1, 1)):
        q, k, v = (torch.rand(b, s, w).double() for s, w in ((n, 3), (m, 3), (m, 4)))
        case = f"float64, q {tuple(q.shape)} and k {tuple(k.shape)}"
        with trying(case):
            got = answer(q, k, v)
        scores = q @ k.mT
        right = scores @ v / (scores.sum(dim=-1, keepdim=True) + 1e-8)
        error = (got - right).abs().max().item()
        expect(
            got.shape == right.shape and error < 1e-12,
            f"{case}: expected {tuple(right.shape)}, got {tuple(got.shape)}, off by up"
            f" to {error:.0e}",
        )
    with trying("bfloat16, as it is used on many accelerators"):
        answer(q.bfloat16(), k.bfloat16(), v.bfloat16())


@exercise(
    "10.6",
    {
        "enough-features-make-it-exact": "with enough features it is exact for any"
        " input",
        "rows-of-one-make-softmax": "weights that sum to 1 are those of softmax",
        "orthogonal-makes-it-exact": "orthogonal directions leave no error",
    },
)
def exactness(answer) -> None:
    wrong = {
        "A": (
            "enough-features-make-it-exact",
            "true on average and in the limit, but look at the curve of the longest"
            " queries: how many features would it need?",
        ),
        "C": (
            "rows-of-one-make-softmax",
            "the denominator makes the weights of a row sum to 1, whatever they are:"
            " wrong weights, too",
        ),
        "D": (
            "orthogonal-makes-it-exact",
            "orthogonal rows spread the directions; what exp(w x) becomes depends on"
            " their length as well",
        ),
    }
    expect_letter(answer, "B", wrong)
