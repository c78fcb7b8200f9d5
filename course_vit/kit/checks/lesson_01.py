"""Checks of lesson 01: patches."""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from . import exercise, expect, expect_raises
from .probes import trying


@exercise(
    "1.1",
    {
        "answer-swapped": "the count and the size of a patch, each for the other",
        "one-side-counted": "an image has as many patches as one of its sides",
        "class-token-counted": "the class token is one of the patches",
        "divided-by-one-side": "a patch of 16 x 16 takes up 16 pixels",
        "pixels-are-tokens": "each pixel is a token",
        "one-patch-per-channel": "each channel is cut into patches of its own",
        "channels-forgotten": "a pixel of a colour image is one number",
        "one-line-of-a-patch": "a patch is one line of pixels",
    },
)
def count(answer: Any) -> None:
    tokens, numbers = answer
    wrong_tokens = {
        14: ("one-side-counted", "14 patches along one side; an image has two"),
        197: (
            "class-token-counted",
            "the class token comes in lesson 6; count the patches",
        ),
        3136: (
            "divided-by-one-side",
            "you divided by 16 once; a patch holds 16 x 16 = 256 pixels",
        ),
        224 * 224: (
            "pixels-are-tokens",
            "that is how many pixels there are. Here 16 x 16 of them make one token",
        ),
        3 * 196: (
            "one-patch-per-channel",
            "that is three times too many: a patch is cut through all channels at once",
        ),
    }
    wrong_numbers = {
        256: ("channels-forgotten", "256 pixels, but how many numbers is one pixel?"),
        16: ("one-line-of-a-patch", "that is one line of a patch; how many has it?"),
        48: ("one-line-of-a-patch", "that is one line of a patch; how many has it?"),
    }
    expect(
        (tokens, numbers) != (768, 196),
        "both numbers occur, each at the other's place: how many tokens, how many"
        " numbers in each?",
        "answer-swapped",
    )
    rule = f"{tokens} tokens? Count the patches along one side, then square"
    misconception, hint = wrong_tokens.get(tokens, (None, rule))
    expect(tokens == 196, hint, misconception)
    rule = f"{numbers} numbers? Pixels of a patch times channels"
    misconception, hint = wrong_numbers.get(numbers, (None, rule))
    expect(numbers == 768, hint, misconception)


def cut_by_loop(images: Tensor, ph: int, pw: int) -> Tensor:
    """The referee: every patch cut out with two indices."""
    _, _, height, width = images.shape
    patches = [
        images[:, :, top : top + ph, left : left + pw].flatten(1)
        for top in range(0, height, ph)
        for left in range(0, width, pw)
    ]
    return torch.stack(patches, dim=1)


def same_content(got: Tensor, right: Tensor) -> bool:
    """Whether every patch holds the right pixels, in whatever order."""
    return torch.equal(got.sort(dim=-1).values, right.sort(dim=-1).values)


def expect_patch_shape(got: Tensor, right: Tensor, size: str, ph: int, pw: int) -> None:
    b, n, width = right.shape
    pixels = n * ph * pw
    shape = f"shape {tuple(got.shape)}, expected {tuple(right.shape)}, for {size}"
    expect(
        got.shape != (b, width, n),
        f"{shape}: the tokens came last. A Transformer reads `b n d` and would take"
        " what is in a patch for the sequence",
        "tokens-last",
    )
    expect(
        got.shape != (b, 3 * n, ph * pw),
        f"{shape}: three times the tokens. Each channel was cut into patches of its"
        " own; one patch goes through all channels",
        "one-patch-per-channel",
    )
    squares = [(b, pixels // p**2, 3 * p**2) for p in (ph, pw)]
    expect(
        ph == pw or got.shape not in squares,
        f"{shape}: these patches are squares. The size is a pair, (height, width)",
        "patches-taken-as-squares",
    )
    expect(
        got.ndim <= 3,
        f"{shape}: {got.ndim} axes are left. Which of them stand in one bracket?",
        "axes-not-merged",
    )
    expect(got.shape == right.shape, shape)


@exercise(
    "1.2",
    {
        "tokens-last": "the axis of the tokens may stand behind what is in them",
        "one-patch-per-channel": "each channel is cut into patches of its own",
        "patches-taken-as-squares": "a patch is as wide as it is high",
        "axes-not-merged": "axes that belong together need not become one",
        "reshape-cuts-memory": "the right shape is enough: reshape finds the patches",
        "channels-stay-in-front": "windows can be merged where unfold left them",
        "height-and-width-swapped": "a size is (width, height)",
        "grid-read-by-columns": "the sequence goes down the columns of the grid",
        "channel-last": "inside a patch the channel runs fastest",
        "pixels-read-by-columns": "a patch is read down its columns",
    },
)
def patchify(answer: Any) -> None:
    images = torch.arange(2 * 3 * 8 * 16.0).reshape(2, 3, 8, 16)
    for ph, pw in ((4, 4), (2, 4)):
        got, right = answer(images, (ph, pw)), cut_by_loop(images, ph, pw)
        size = f"patches of {ph} x {pw} from images {tuple(images.shape)}"
        expect_patch_shape(got, right, size, ph, pw)
        in_place = (got == right).float().mean()
        seen = f"{size}: {in_place:.0%} of the values are in place."
        expect(
            not torch.equal(got, images.reshape(right.shape)),
            f"{seen} Show patch 0 as a picture: stripes, from all over the image."
            " Gather the two grid axes before you merge",
            "reshape-cuts-memory",
        )
        windows = images.unfold(2, ph, ph).unfold(3, pw, pw)
        expect(
            not torch.equal(got, windows.reshape(right.shape)),
            f"{seen} The first token holds nothing but red: its pieces are whole"
            " windows, but the channel axis still stands before the grid",
            "channels-stay-in-front",
        )
        expect(
            ph == pw or not same_content(got, cut_by_loop(images, pw, ph)),
            f"{seen} Your patches are {pw} high and {ph} wide: sizes are (height,"
            " width)",
            "height-and-width-swapped",
        )
        by_columns = rearrange(
            right, "b (gh gw) cpp -> b (gw gh) cpp", gw=images.shape[3] // pw
        )
        expect(
            not same_content(got, by_columns),
            f"{seen} Each patch is whole, but patch 1 lies below patch 0. Reading order"
            " goes along a row first: which grid letter runs fastest?",
            "grid-read-by-columns",
        )
        expect(
            same_content(got, right),
            f"{seen} Show patch 0 as a picture: whose pixels does it hold?",
        )
        whole = rearrange(right, "b n (c ph pw) -> b n c ph pw", c=3, ph=ph)
        expect(
            not torch.equal(got, whole.movedim(2, -1).flatten(2)),
            "every patch holds its own pixels, the channel last: a valid embedding, but"
            " not the one whose weights you load. Kernels are channel, row, column",
            "channel-last",
        )
        expect(
            not torch.equal(got, whole.mT.flatten(2)),
            "every patch holds its own pixels, but it is read down its columns:"
            " channel, row, column is the order of published kernels",
            "pixels-read-by-columns",
        )
        expect(
            torch.equal(got, right),
            "every patch holds its own pixels, but in another order: channel, row,"
            " column is the order of published kernels",
        )
    expect(
        torch.equal(answer(images, 4), answer(images, (4, 4))),
        "right for a pair of sizes; a single 4 should mean a square of 4 x 4",
    )
    what = "a side that is not a multiple of the patch"
    for sides in ((3, 4), (4, 3)):
        expect_raises(answer, (images, sides), ValueError, what)
    expect_everywhere(answer, images)


def expect_everywhere(answer: Any, images: Tensor) -> None:
    """Other numbers, sizes of 1, and what the lines above the blank refuse."""
    one = images[:1, :1, :4, :4]
    with trying("one image of one channel that is one patch"):
        got = tuple(answer(one, 4).shape)
    expect(
        got == (1, 1, 16),
        f"one image, one channel, one patch: expected (1, 1, 16), got {got}. An axis of"
        " length 1 is an axis, too",
    )
    exact = images.double() / 3
    with trying("images in float64"):
        got = answer(exact, (2, 4))
    expect(
        torch.equal(got, cut_by_loop(exact, 2, 4)),
        "right in float32; in float64 other numbers come out. Patches hold the pixels"
        " as they are",
    )
    expect_raises(answer, (images, (4, 0)), ValueError, "a patch of 4 x 0")
    alone = tuple(images[0].shape)
    what = f"one image {alone}, without the axis of the batch,"
    expect_raises(answer, (images[0], 4), ValueError, what)


@exercise(
    "1.3",
    {
        "layer-left-as-it-was": "a convolution counts as a linear layer",
        "weight-transposed": "a linear layer keeps its weight as (in, out)",
        "weights-left-random": "a new layer of the right size does the same",
        "bias-forgotten": "a convolution multiplies and sums up, nothing else",
        "kernel-channel-last": "a kernel is stored row, column, channel",
        "kernel-read-by-columns": "a kernel is laid flat down its columns",
    },
)
def as_linear(answer: Any) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 12)
    conv = nn.Conv2d(3, 7, (2, 4), stride=(2, 4))
    linear = answer(conv)
    expect(
        isinstance(linear, nn.Linear),
        f"an nn.Linear is asked for, got {linear!r}",
        "layer-left-as-it-was" if linear is conv else None,
    )
    shape = f"linear.weight has shape {tuple(linear.weight.shape)}, not (7, 24)"
    expect(
        linear.weight.shape != (24, 7),
        f"{shape}: row i holds what makes output i",
        "weight-transposed",
    )
    expect(linear.weight.shape == (7, 24), shape)
    expect(
        torch.equal(linear.weight, answer(conv).weight),
        "two calls for one convolution give two different layers: where do the numbers"
        " in weight come from?",
        "weights-left-random",
    )
    kernels = conv.weight.detach()
    with torch.no_grad():
        right = conv(images).flatten(2).mT
        error = linear(cut_by_loop(images, 2, 4)) - right
    worst = error.abs().max().item()
    constant = (error - error[:1, :1]).abs().max().item() < 1e-5
    expect(
        worst < 1e-5 or not constant,
        "the error is one constant per channel: what is added after the sum?",
        "bias-forgotten",
    )
    seen = f"outputs differ by up to {worst:.2f}"
    expect(
        not torch.equal(linear.weight, kernels.movedim(1, -1).flatten(1)),
        f"{seen}: the kernel was laid flat with the channel last. In which order does"
        " patchify lay a patch flat?",
        "kernel-channel-last",
    )
    expect(
        not torch.equal(linear.weight, kernels.mT.flatten(1)),
        f"{seen}: the kernel was laid flat column by column. In which order does"
        " patchify lay a patch flat?",
        "kernel-read-by-columns",
    )
    expect(worst < 1e-5, f"{seen}: is the kernel laid flat as c p p?")
