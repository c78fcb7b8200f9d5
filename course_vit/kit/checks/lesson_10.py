"""Checks of lesson 10: T2T-ViT."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from . import exercise, expect, expect_letter


def same(got: Tensor, right: Tensor) -> bool:
    return got.shape == right.shape and torch.allclose(got, right, atol=1e-5)


@exercise("10.1", "Follow an image of 224 pixels", "predict", minutes=5)
def trace(answer) -> None:
    tokens, widths, few = (list(answer[0]), list(answer[1]), answer[2])
    expect(
        tokens != [56, 28, 14],
        "56, 28, 14 is one side: a grid has rows and columns",
    )
    expect(
        tokens != [57, 29, 15],
        "224 + 4 - 7 is 221, and 221 / 4 is no whole number: floor it, then add 1",
    )
    expect(
        tokens == [3136, 784, 196],
        f"tokens {tokens}? A side has floor((side + 2 padding - kernel) / stride) + 1",
    )
    expect(widths[:1] != [49], "49 pixels in a window: and how many numbers per pixel?")
    expect(widths[:1] == [147], f"a first window of {widths[0]}? kernel, kernel, c")
    expect(
        widths[1:] != [1323, 11907],
        "1323 is 9 windows of 147: what width does the token layer leave?",
    )
    expect(
        widths == [147, 576, 576],
        f"widths {widths}? The token layer leaves 64 numbers, a window gathers 3 x 3",
    )
    expect(few != 2, "2 is one side of the grid")
    expect(few == 4, f"{few} tokens of 32 pixels? The grids are 8, 4 and 2 on a side")


def windows_by_loop(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    b, c, height, width = x.shape
    canvas = x.new_zeros(b, c, height + 2 * padding, width + 2 * padding)
    canvas[:, :, padding : padding + height, padding : padding + width] = x
    rows = []
    for y in range(0, canvas.shape[2] - kernel + 1, stride):
        for left in range(0, canvas.shape[3] - kernel + 1, stride):
            window = canvas[:, :, y : y + kernel, left : left + kernel]
            rows.append(window.reshape(b, -1))
    return torch.stack(rows, dim=1)


@exercise("10.2", "Windows as tokens", "implement", minutes=5)
def soft_split(answer) -> None:
    torch.manual_seed(0)
    for shape, split in (((2, 3, 9, 8), (3, 2, 1)), ((1, 2, 12, 7), (5, 3, 2))):
        x = torch.randn(shape)
        right, got = windows_by_loop(x, *split), answer(x, split)
        found = f"{shape} cut by {split}: expected tokens {tuple(right.shape)}"
        expect(
            got.shape != right.mT.shape,
            f"{found}, got {tuple(got.shape)}: unfold stores a window as a column, a"
            " token is a row",
        )
        expect(got.shape == right.shape, f"{found}, got {tuple(got.shape)}")
        mixed = got.reshape(right.mT.shape).mT
        expect(
            same(got, right) or not same(mixed, right),
            "the shape is right and the windows are torn apart: reshape does not"
            " transpose",
        )
        by_pixel = right.unflatten(2, (shape[1], -1)).mT.flatten(2)
        expect(
            same(got, right) or not same(got, by_pixel),
            "channels last inside a token: the published weights expect c first, then"
            " rows and columns of the window",
        )
        expect(same(got, right), "these are not the windows, row by row")


@exercise("10.3", "Fold it back", "predict", minutes=3)
def overlaps(answer) -> None:
    numbers = {int(number) for number in answer}
    expect(
        numbers != {1},
        "all 1 would need windows that share nothing: with kernel 3 and stride 2 each"
        " next to another shares a column",
    )
    expect(
        9 not in numbers,
        "9 is how many pixels a window has; asked is in how many windows a pixel lies",
    )
    expect(
        numbers != {1, 2},
        "along one side a pixel lies in 1 or 2 windows: what if both rows and columns"
        " overlap?",
    )
    expect(
        numbers == {1, 2, 4},
        f"{sorted(numbers)}? Windows start at -1, 1, 3, 5: count along one side first,"
        " then multiply",
    )


def token_attention(layer, x: Tensor, scale: float, order: str = "qkv") -> Tensor:
    """The referee, one image and one query at a time."""
    e = layer.proj.in_features
    parts = dict(zip(order, layer.qkv.weight.split(e), strict=True))
    images = []
    for tokens in x:
        q, k, v = (tokens @ parts[letter].T for letter in "qkv")
        rows = [((k @ query) * scale).softmax(dim=0) @ v for query in q]
        images.append(v + layer.proj(torch.stack(rows)))
    return torch.stack(images)


@exercise("10.4", "Where does the path around start?", "implement", minutes=10)
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
        )
        raise
    expect(got.shape == (2, 5, 6), f"expected (2, 5, 6), got {tuple(got.shape)}")
    right = token_attention(layer, x, 11**-0.5)
    _, _, v = layer.qkv(x).split(6, dim=-1)
    expect(
        not same(got, right - v),
        "there is no path around: what the token itself said is lost",
    )
    expect(
        not same(got, token_attention(layer, x, 6**-0.5)),
        "the scale is that of a query's width, 6 (torch's default). The release takes"
        " the width that came in: self.scale",
    )
    expect(not same(got, token_attention(layer, x, 1.0)), "the scores are not scaled")
    expect(
        not same(got, token_attention(layer, x, 11**-0.5, "kqv")),
        "keys and queries are swapped: the order in this matrix is q, k, v",
    )
    expect(
        same(got, right),
        "not the values plus the projected mixture: is it v that goes around?",
    )


def work(answer: Callable, tokens: int) -> int:
    """How many multiplications and additions the answer does on so many tokens."""
    q = k = torch.rand(1, tokens, 4)
    with FlopCounterMode(display=False) as counter:
        answer(q, k, torch.rand(1, tokens, 6))
    return counter.get_total_flops()


@exercise("10.5", "Bracket first", "implement", minutes=10)
def linear_attention(answer) -> None:
    torch.manual_seed(0)
    q, k, v = torch.rand(2, 5, 4), torch.rand(2, 7, 4), torch.randn(2, 7, 6)
    scores = q @ k.mT
    right = scores @ v / (scores.sum(dim=-1, keepdim=True) + 1e-8)
    got = answer(q, k, v)
    expect(got.shape == (2, 5, 6), f"expected (2, 5, 6), got {tuple(got.shape)}")
    ones = answer(q, k, torch.ones(2, 7, 6))
    expect(
        torch.allclose(ones, torch.ones(2, 5, 6), atol=1e-4),
        f"the mean of values that are all 1 came out as {ones[0, 0, 0]:.2f}: by what"
        " must each row be divided so that its weights sum to 1?",
    )
    expect(same(got, right), "the weights are not phi(q) phi(k), divided by their sum")
    zero = answer(0 * q, k, v)
    expect(
        not zero.isnan().any(),
        "features that are all 0 give nan: the eps belongs to the denominator",
    )
    wide = answer(q, k, v, eps=1.0)
    expect(
        same(wide, scores @ v / (scores.sum(dim=-1, keepdim=True) + 1.0)),
        "with eps=1.0 the answer is off: add eps to the sum of each row, once",
    )
    few, many = work(answer, 64), work(answer, 128)
    expect(
        many <= 2.1 * few,
        f"right numbers, but twice the tokens took {many / max(few, 1):.1f} times the"
        " work: somewhere there is an n x m matrix. Which product can come first?",
    )


@exercise("10.6", "How exact is it?", "choose", minutes=3)
def exactness(answer) -> None:
    hints = {
        "A": "true on average and in the limit, but look at the curve of the longest"
        " queries: how many features would it need?",
        "C": "the denominator makes the weights of a row sum to 1, whatever they are:"
        " wrong weights, too",
        "D": "orthogonal rows spread the directions; what exp(w x) becomes depends on"
        " their length as well",
    }
    expect_letter(answer, "B", hints)
