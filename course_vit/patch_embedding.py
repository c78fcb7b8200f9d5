"""Lesson 1. Patch embedding.

A Transformer reads a sequence of tokens. In this lesson an image becomes such a
sequence: we cut it into patches, lay each patch flat, and send every patch through the
same linear map.

Printed from notebooks/01_patch_embedding.ipynb: edit there, then `make export`.
"""

from collections.abc import Sequence
from math import inf, isqrt
from numbers import Real
from operator import index

from einops import rearrange
from torch import Tensor, nn
from torch.fx import wrap

__all__ = [
    "check_sizes",
    "check_range",
    "check_shape",
    "check_images",
    "as_pair",
    "patchify",
    "unpatchify",
    "PatchEmbedding",
]


# --- 1.3 All patches at once ---


def check_sizes(*, or_zero: bool = False, **sizes: int) -> None:
    """Refuse sizes that are not positive integers.

    Args:
        or_zero: Whether 0 is allowed, too.
        sizes: The sizes, each under the name that the message shows. NumPy's integers
            are accepted, `2.0` and `True` are not.

    Raises:
        ValueError: If a size is not an integer or is too small.
    """
    for name, size in sizes.items():
        try:
            fits = index(size) >= 1 - or_zero and not isinstance(size, bool)
        except TypeError:  # only an integer has an index
            fits = False
        if not fits:
            rule = "0 or a positive integer" if or_zero else "a positive integer"
            raise ValueError(f"{name} must be {rule}, got {size!r}")


def check_range(low: float, high: float, /, **numbers: float) -> None:
    """Refuse what is not a finite number between two bounds.

    Args:
        low: The smallest number that is allowed.
        high: The largest number that is allowed.
        numbers: The numbers, each under the name that the message shows.

    Raises:
        ValueError: If a value is out of the range, infinite, nan, or not a number.
    """
    for name, number in numbers.items():
        is_number = isinstance(number, Real) and not isinstance(number, bool)
        if not is_number or not low <= number <= high or number == inf:
            raise ValueError(f"{name} must be between {low} and {high}, got {number!r}")


def check_shape(name: str, x: Tensor, expected: Sequence[int | str]) -> None:
    """Refuse a tensor whose shape is not the expected one.

    Args:
        name: What the tensor holds, for the message.
        x: The tensor.
        expected: One entry per axis, a size or a letter; a letter allows any size.

    Raises:
        ValueError: If the number of axes or a size differs.
    """
    got = tuple(x.shape)
    pairs = zip(expected, got, strict=False)
    fits = all(isinstance(want, str) or want == size for want, size in pairs)
    if len(got) != len(expected) or not fits:
        wanted = ", ".join(map(str, expected))
        raise ValueError(f"expected {name} ({wanted}), got shape {got}")


def check_images(
    images: Tensor, in_chans: int | str, img_size: tuple[int | str, int | str]
) -> None:
    """Refuse images that a layer was not built for.

    Args:
        images: The images, `b c h w`.
        in_chans: The number of channels of an image; a letter allows any number.
        img_size: Height and width in pixels; a letter allows any size.

    Raises:
        TypeError: If the images are not a tensor of floating-point numbers.
        ValueError: If the images do not have this shape.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = getattr(images, "dtype", type(images).__name__)
        raise TypeError(
            f"images must be a tensor of floating-point numbers, got {got}; "
            "divide pixels from 0 to 255 by 255"
        )
    check_shape("images", images, ("b", in_chans, *img_size))


# You can skip this: tools that record a model (`torch.fx`) keep each call whole.
_STEPS = wrap("rearrange"), wrap("check_images")


def as_pair(size: int | tuple[int, int], name: str = "size") -> tuple[int, int]:
    """Return a size as (height, width).

    Args:
        size: One number for a square, or a pair (height, width).
        name: What the message calls the size.

    Raises:
        ValueError: If the size is not one positive integer or a pair of them.
    """
    pair = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if len(pair) != 2:
        raise ValueError(f"{name} must be one number or (height, width), got {size!r}")
    for side in pair:
        check_sizes(or_zero=False, **{name: side})
    return int(pair[0]), int(pair[1])


def patchify(images: Tensor, patch_size: int | tuple[int, int]) -> Tensor:
    """Cut images into flat patches, `b c (gh p) (gw p) -> b (gh gw) (c p p)`.

    Patches come in reading order; inside a patch the order is channel, row, column, as
    in the kernel of a convolution. Dosovitskiy et al. 2021, sec. 3.1, x_p.

    Args:
        images: The images, `b c h w`.
        patch_size: Height and width of a patch in pixels; one number means a square.

    Raises:
        ValueError: If a side of the images is not a multiple of the patch's side.
    """
    check_shape("images", images, ("b", "c", "h", "w"))
    (height, width), (ph, pw) = images.shape[2:], as_pair(patch_size, "patch_size")
    if height % ph or width % pw:
        raise ValueError(
            f"image sides must be multiples of {ph} and {pw}, got {height} and {width}"
        )
    pattern = "b c (gh ph) (gw pw) -> b (gh gw) (c ph pw)"
    return rearrange(images, pattern, ph=ph, pw=pw)


def unpatchify(
    patches: Tensor,
    patch_size: int | tuple[int, int],
    grid_size: int | tuple[int, int] | None = None,
) -> Tensor:
    """Put flat patches together again, `b (gh gw) (c p p) -> b c (gh p) (gw p)`.

    The exact inverse of `patchify`. A sequence does not record its image's width, so
    pass `grid_size`.

    Args:
        patches: The patches in reading order, `b (gh gw) (c p p)`.
        patch_size: Height and width of a patch in pixels; one number means a square.
        grid_size: Rows and columns of the patch grid; None means a square.

    Raises:
        ValueError: If the patches do not fill the grid or do not hold whole channels.
    """
    check_shape("patches", patches, ("b", "n", "c p p"))
    n, numbers = patches.shape[1:]
    ph, pw = as_pair(patch_size, "patch_size")
    gh, gw = as_pair(isqrt(n) if grid_size is None else grid_size, "grid_size")
    if n != gh * gw or numbers % (ph * pw):
        raise ValueError(
            f"expected {gh} * {gw} patches of c * {ph} * {pw}, got {n} of {numbers}"
        )
    pattern = "b (gh gw) (c ph pw) -> b c (gh ph) (gw pw)"
    return rearrange(patches, pattern, gh=gh, gw=gw, ph=ph, pw=pw)


# --- 1.4 From patch to token ---


class PatchEmbedding(nn.Module):
    """One token per patch, `b c (gh p) (gw p) -> b (gh gw) d`.

    A convolution whose stride is its kernel size applies the same linear map to every
    patch. Dosovitskiy et al. 2021, eq. 1, E. `proj` is the name in the published
    checkpoints.

    Args:
        img_size: Height and width of the images in pixels; one number means a square.
        patch_size: Height and width of a patch in pixels; one number means a square.
        in_chans: The number of channels of an image.
        embed_dim: The width of a token, `d`.

    Raises:
        ValueError: If a side is not a multiple of the patch's side, a size is not a
            positive integer, or the images do not have the shape given here.
        TypeError: If the images are not a tensor of floating-point numbers.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
    ) -> None:
        super().__init__()
        check_sizes(in_chans=in_chans, embed_dim=embed_dim)
        self.in_chans = in_chans
        self.img_size = as_pair(img_size, "img_size")
        self.patch_size = as_pair(patch_size, "patch_size")
        (height, width), (ph, pw) = self.img_size, self.patch_size
        if height % ph or width % pw:
            raise ValueError(
                "img_size must be a multiple of patch_size, "
                f"got {img_size=}, {patch_size=}"
            )
        self.grid_size = (height // ph, width // pw)
        self.proj = nn.Conv2d(
            in_chans, embed_dim, kernel_size=(ph, pw), stride=(ph, pw)
        )

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, self.in_chans, self.img_size)
        return rearrange(self.proj(images), "b d gh gw -> b (gh gw) d")
