"""Checks of lesson 01: patches."""

import torch
from torch import nn

from . import exercise, expect


@exercise("1.1", "Count before you cut", "predict", minutes=3)
def count(answer) -> None:
    tokens, numbers = answer
    expect(tokens != 14, "14 patches along one side; an image has two")
    expect(tokens != 197, "the class token comes in lesson 6; count the patches")
    expect(tokens != 3136, "you divided by 16 once; a patch holds 16 x 16 = 256 pixels")
    expect(
        tokens == 196, f"{tokens} tokens? Count the patches along one side, then square"
    )
    expect(numbers != 256, "256 pixels, but how many numbers is one colour pixel?")
    expect(numbers == 768, f"{numbers} numbers? Pixels of a patch times channels")


def cut_by_loop(images: torch.Tensor, ph: int, pw: int) -> torch.Tensor:
    """The referee: every patch cut out with two indices."""
    _, _, height, width = images.shape
    patches = [
        images[:, :, top : top + ph, left : left + pw].flatten(1)
        for top in range(0, height, ph)
        for left in range(0, width, pw)
    ]
    return torch.stack(patches, dim=1)


@exercise("1.2", "Cut a batch of images", "faded", minutes=10)
def patchify(answer) -> None:
    images = torch.arange(2 * 3 * 6 * 12.0).reshape(2, 3, 6, 12)
    for ph, pw in ((3, 3), (2, 4)):
        got, right = answer(images, (ph, pw)), cut_by_loop(images, ph, pw)
        size = f"patches of {ph} x {pw} from images {tuple(images.shape)}"
        shape = f"shape {tuple(got.shape)}, expected {tuple(right.shape)}, for {size}"
        expect(got.shape == right.shape, shape)
        same_patch = (got.sort(dim=-1).values == right.sort(dim=-1).values).all()
        expect(
            same_patch,
            f"{size}: {(got == right).float().mean():.0%} of the values are in place."
            f" Show patch 0 as a picture: does it hold pixels from all over the image?"
            f" Gather the two grid axes before you merge",
        )
        expect(
            torch.equal(got, right),
            "every patch holds its own pixels, but in another order: channel, row,"
            " column is the order of published kernels",
        )


@exercise("1.3", "The same map, twice", "implement", minutes=10)
def as_linear(answer) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 12)
    conv = nn.Conv2d(3, 7, 4, stride=4)
    with torch.no_grad():
        right = conv(images).flatten(2).transpose(1, 2)
        linear = answer(conv)
        expect(
            isinstance(linear, nn.Linear), f"an nn.Linear is asked for, got {linear!r}"
        )
        got = linear(cut_by_loop(images, 4, 4))
    expect(
        got.shape == right.shape, f"tokens have shape {tuple(got.shape)}, not (2, 6, 7)"
    )
    error = got - right
    constant = (error - error[:1, :1]).abs().max() < 1e-5 < error.abs().max()
    expect(
        not constant,
        "the error is one constant per channel: what is added after the sum?",
    )
    worst = error.abs().max().item()
    expect(
        worst < 1e-5,
        f"outputs differ by up to {worst:.2f}: is the kernel laid flat as c p p?",
    )
