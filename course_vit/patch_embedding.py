"""Lesson 1. Patch embedding.

An image becomes a sequence of tokens: cut it into patches, lay each patch flat, and
send every patch through the same linear map.

Letters: `b` images, `c` channels, `p` patch side, `gh gw` rows and columns of the patch
grid, `n` tokens (gh times gw), `d` width of a token.

Printed from notebooks/01_patch_embedding.ipynb: edit there, then `make export`.
"""

from math import isqrt

from einops import rearrange
from torch import Tensor, nn

__all__ = [
    "as_pair",
    "patchify",
    "unpatchify",
    "PatchEmbedding",
]


# --- 1.3 All patches at once ---


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """A size as (height, width); a single int means a square.

    Raises ValueError if a side is not positive.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"a size must be positive, got {size}")
    return height, width


def patchify(images: Tensor, patch_size: int | tuple[int, int]) -> Tensor:
    """Cut images into flat patches, `b c (gh p) (gw p) -> b (gh gw) (c p p)`.

    Patches come in reading order; inside a patch the order is channel, row, column, as
    in the kernel of a convolution. Dosovitskiy et al. 2021, sec. 3.1, x_p. Raises
    ValueError if a side is not a multiple of the patch.
    """
    ph, pw = as_pair(patch_size)
    if images.ndim != 4 or images.shape[2] % ph or images.shape[3] % pw:
        rule = f"(b, c, multiple of {ph}, multiple of {pw})"
        raise ValueError(f"expected images {rule}, got shape {tuple(images.shape)}")
    pattern = "b c (gh ph) (gw pw) -> b (gh gw) (c ph pw)"
    return rearrange(images, pattern, ph=ph, pw=pw)


def unpatchify(
    patches: Tensor,
    patch_size: int | tuple[int, int],
    grid_size: int | tuple[int, int] | None = None,
) -> Tensor:
    """Lay flat patches out as images, `b (gh gw) (c p p) -> b c (gh p) (gw p)`.

    The exact inverse of `patchify`. A sequence has forgotten how wide its image was:
    `grid_size` says it, None means a square. Raises ValueError if the patches do not
    fill the grid or do not hold whole channels.
    """
    if patches.ndim != 3:
        raise ValueError(f"expected patches (b, n, c p p), got {tuple(patches.shape)}")
    ph, pw = as_pair(patch_size)
    gh, gw = as_pair(isqrt(patches.shape[1]) if grid_size is None else grid_size)
    if patches.shape[1] != gh * gw or patches.shape[2] % (ph * pw):
        rule = f"(b, {gh} * {gw}, multiple of {ph} * {pw})"
        raise ValueError(f"expected patches {rule}, got shape {tuple(patches.shape)}")
    pattern = "b (gh gw) (c ph pw) -> b c (gh ph) (gw pw)"
    return rearrange(patches, pattern, gh=gh, gw=gw, ph=ph, pw=pw)


# --- 1.4 From patch to token ---


class PatchEmbedding(nn.Module):
    """One token per patch, `b c (gh p) (gw p) -> b (gh gw) d`.

    A convolution whose stride is its kernel: the same linear map on every patch.
    Dosovitskiy et al. 2021, eq. 1, E. `proj` is the name in the published checkpoints.
    Raises ValueError if a side is not a multiple of the patch, or images differ in
    size.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
    ) -> None:
        super().__init__()
        self.img_size, self.patch_size = as_pair(img_size), as_pair(patch_size)
        (height, width), (ph, pw) = self.img_size, self.patch_size
        if height % ph or width % pw:
            got = f"{img_size=}, {patch_size=}"
            raise ValueError(f"img_size must be a multiple of patch_size, got {got}")
        self.in_chans = in_chans
        self.grid_size = (height // ph, width // pw)
        self.proj = nn.Conv2d(in_chans, embed_dim, (ph, pw), stride=(ph, pw))

    def forward(self, images: Tensor) -> Tensor:
        height, width = self.img_size
        if images.ndim != 4 or images.shape[1:] != (self.in_chans, height, width):
            rule = f"(b, {self.in_chans}, {height}, {width})"
            raise ValueError(f"expected images {rule}, got shape {tuple(images.shape)}")
        return rearrange(self.proj(images), "b d gh gw -> b (gh gw) d")
