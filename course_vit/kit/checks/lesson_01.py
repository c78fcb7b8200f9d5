"""Checks of lesson 01: patches."""

import torch
from einops import rearrange
from torch import Tensor, nn

from ...patch_embedding import as_pair, patchify
from .judge import answers, backward, draw, element, elsewhere, exercise

count = exercise(
    "1.1",
    right=(196, 768),
    trial={
        "{got} tokens? Count the patches along one side, then square": element(0),
        "{got} numbers? Pixels of a patch times channels": element(1),
    },
)
count.mistakes |= {
    "answer-swapped: both numbers occur, each at the other's place: how many tokens,"
    " how many numbers in each?": (768, 196),
    "one-side-counted: 14 patches along one side; an image has two": (14, 768),
    "class-token-counted: the class token comes in lesson 6; count the patches": (
        (197, 768)
    ),
    "divided-by-one-side: you divided by 16 once; a patch holds 16 x 16 = 256 pixels": (
        3136,
        768,
    ),
    "pixels-are-tokens: that is how many pixels there are. Here 16 x 16 of them make"
    " one token": (224 * 224, 768),
    "one-patch-per-channel: that is three times too many: a patch is cut through all"
    " channels at once": (3 * 196, 256),
    "channels-forgotten: 256 pixels, but how many numbers is one pixel?": (196, 256),
    "one-line-of-a-patch: that is one line of a patch; how many lines"
    " does it have?": answers((196, 16), (196, 48)),
}

# 1.2 Cut


def cut(pattern: str):
    """Exercise 1.2 with a pattern, between what reads and refuses sizes."""

    def answer(images, patch_size):
        patchify(images, patch_size)
        ph, pw = as_pair(patch_size)
        return rearrange(images, pattern, ph=ph, pw=pw)

    return answer


def patches_of(*size: int):
    """Patches of this size, in float32, where each pixel has a number of its own."""
    images = torch.arange(2 * 3 * 8 * 16.0).reshape(2, 3, 8, 16)
    return lambda answer: answer(images.clone(), size if len(size) > 1 else size[0])


def in_place(got: Tensor, right: Tensor) -> float:
    return (got == right).float().mean().item()


def same_content(got: Tensor, right: Tensor) -> bool:
    """Whether every patch holds the right pixels, in whatever order."""
    return torch.equal(got.sort(dim=-1).values, right.sort(dim=-1).values)


SHAPE = "shape {got}, expected {right}, for patches of 4 x 4 or 2 x 4 of (2, 3, 8, 16)"
SEEN = "{in_place:.0%} of the values are in place."
cutting = exercise(
    "1.2",
    right=patchify,
    trial=[patches_of(4, 4), patches_of(2, 4)],
    also={
        "a single 4, which means a square of 4 x 4": patches_of(4),
        "a height that is not a multiple of the patch": patches_of(3, 4),
        "a width that is not a multiple of the patch": patches_of(4, 3),
        "one image of one channel that is one patch (an axis of length 1 is an axis,"
        " too)": lambda f: f(draw(1, 1, 4, 4).float(), 4),
        "images in float64": lambda f: f(draw(2, 3, 8, 16), (2, 4)),
        "a patch of 4 x 0": patches_of(4, 0),
        "one image (3, 8, 16), without the axis of the batch,": (
            lambda f: f(draw(3, 8, 16), 4)
        ),
        **backward(lambda f, x: f(x, 4), draw(2, 3, 8, 16)),
        **elsewhere(lambda f, x: f(x, 4), draw(2, 3, 8, 16)),
    },
    measures={"in_place": in_place, "axes": lambda got, right: got.ndim},
    shape=SHAPE,
    otherwise=f"{SEEN} Show patch 0 as a picture: whose pixels does it hold?",
)


def channels_in_front(images, size):
    windows = cut("b c (gh ph) (gw pw) -> b (c gh gw) (ph pw)")(images, size)
    return windows.reshape(patchify(images, size).shape)


cutting.mistakes |= {
    f"channels-stay-in-front: {SEEN} The first token holds nothing but red: its pieces"
    " are whole windows, but the channel axis still comes before the grid": (
        channels_in_front
    ),
    f"tokens-last: {SHAPE}: the tokens came last. A Transformer reads `b n d` and"
    " would take what is"
    " in a patch for the sequence": cut("b c (gh ph) (gw pw) -> b (c ph pw) (gh gw)"),
    f"one-patch-per-channel: {SHAPE}: three times the tokens. Each channel was cut into"
    " patches of its own; one patch goes through all channels": (
        cut("b c (gh ph) (gw pw) -> b (c gh gw) (ph pw)")
    ),
    f"patches-taken-as-squares: {SHAPE}: you cut squares, but the size was"
    " a pair, (height, width)": answers(
        lambda images, size: patchify(images, as_pair(size)[0]),
        lambda images, size: patchify(images, as_pair(size)[1]),
    ),
    f"axes-not-merged: {SHAPE}: {{axes}} axes are left. Which of them go into one"
    " bracket?": answers(
        cut("b c (gh ph) (gw pw) -> b gh gw (c ph pw)"),
        cut("b c (gh ph) (gw pw) -> b (gh gw) c ph pw"),
        seen=lambda got, right: got.ndim > 3,
    ),
    f"cut-by-reshape: {SEEN} Show patch 0 as a picture: stripes, from all over the"
    " image. Gather the two grid axes before you merge": (
        lambda images, size: images.reshape(patchify(images, size).shape)
    ),
    f"height-and-width-swapped: {SEEN} Your patches are 4 high and 2 wide: sizes are"
    " (height, width)": lambda images, size: patchify(images, as_pair(size)[::-1]),
    f"grid-read-by-columns: {SEEN} Each patch is whole, but patch 1 lies below patch 0."
    " Reading order goes along a row first: which grid letter runs fastest?": answers(
        cut("b c (gh ph) (gw pw) -> b (gw gh) (c ph pw)"),
        cut("b c (gh ph) (gw pw) -> b (gw gh) (c pw ph)"),
    ),
    "channel-last: every patch holds its own pixels, the channel last: a valid"
    " embedding, but not the one whose weights you load. Kernels are channel, row,"
    " column": cut("b c (gh ph) (gw pw) -> b (gh gw) (ph pw c)"),
    "pixels-read-by-columns: every patch holds its own pixels, but it is read down its"
    " columns: channel, row, column is the order of published kernels": (
        cut("b c (gh ph) (gw pw) -> b (gh gw) (c pw ph)")
    ),
    "pixels-in-another-order: every patch holds its own pixels, but in another order:"
    " channel, row, column is the order of published kernels": answers(
        cut("b c (gh ph) (gw pw) -> b (gh gw) (ph c pw)"), seen=same_content
    ),
}

# 1.3 The same layer


def linear(conv: nn.Conv2d, pattern: str = "d c p q -> d (c p q)", bias: bool = True):
    """A linear layer from a convolution, right but for a pattern or a bias."""
    weight = rearrange(conv.weight.detach(), pattern)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias)
    layer.weight = nn.Parameter(weight.clone())
    if bias:
        layer.bias = nn.Parameter(conv.get_parameter("bias").detach().clone())
    return layer


def convolution(channels: int = 3, width: int = 7) -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(channels, width, (2, 4), stride=(2, 4))


@torch.no_grad()
def outputs(answer, bias_apart: bool = False, **sizes: int) -> Tensor:
    """What the layer makes of patches; without the mean of each channel if asked."""
    conv = convolution(**sizes)
    images = draw(2, conv.in_channels, 8, 12).float()
    out = answer(conv)(patchify(images, (2, 4)))
    return out - out.mean(dim=(0, 1)) if bias_apart else out


@torch.no_grad()
def untouched(answer) -> bool:
    """Whether the convolution does after the answer what it did before."""
    conv, images = convolution(), draw(2, 3, 8, 12).float()
    before = conv(images)
    answer(conv)
    return torch.equal(conv(images), before)


same_layer = exercise(
    "1.3",
    right=linear,
    trial={
        "layer-left-as-it-was": lambda f: isinstance(f(convolution()), nn.Linear),
        "linear.weight has shape {got}, not {right}": (
            lambda f: tuple(f(convolution()).weight.shape)
        ),
        "weights-left-random": lambda f: torch.equal(
            f(convolution()).weight, f(convolution()).weight
        ),
        "outputs differ by up to {off:.2f}: is the kernel laid flat as c p p?": (
            lambda f: outputs(f, bias_apart=True)
        ),
        "bias-forgotten": outputs,
        "right so far, but the layer says that its in_features and out_features are"
        " {got}, not {right}: with which sizes was it built?": (
            lambda f: (f(convolution()).in_features, f(convolution()).out_features)
        ),
        "right so far, but afterwards the convolution itself has changed: work on a"
        " copy of its weight and bias": untouched,
    },
    also={
        "2 channels in place of 3": lambda f: outputs(f, channels=2),
        "tokens of width 5 in place of 7": lambda f: outputs(f, width=5),
    },
)


def transposed(conv):
    layer = linear(conv)
    layer.weight = nn.Parameter(layer.weight.T)
    return layer


same_layer.mistakes |= {
    "weight-transposed: linear.weight has shape {got}, not {right}: row i holds what"
    " makes output i": transposed,
    "layer-left-as-it-was: your function should return an nn.Linear, and it returned"
    " something else": lambda conv: conv,
    "weights-left-random: two calls for one convolution give two different layers:"
    " where do the numbers in weight come from?": (
        lambda conv: nn.Linear(conv.weight[0].numel(), conv.out_channels)
    ),
    "bias-forgotten: the error is one constant per channel: what is added after the"
    " sum?": lambda conv: linear(conv, bias=False),
    "kernel-channel-last: outputs differ by up to {off:.2f}: the kernel was laid flat"
    " with the channel last. In which order does patchify lay a patch flat?": (
        lambda conv: linear(conv, "d c p q -> d (p q c)")
    ),
    "kernel-read-by-columns: outputs differ by up to {off:.2f}: the kernel was laid"
    " flat column by column. In which order does patchify lay a patch flat?": (
        lambda conv: linear(conv, "d c p q -> d (c q p)")
    ),
}
