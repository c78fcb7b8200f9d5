"""Lesson 2. Position encoding.

Attention does not see in which order its tokens come. So we add to each token the row
of a position table that belongs to its place.

Printed from notebooks/02_position_encoding.ipynb: edit there, then `make export`.
"""

from math import isqrt

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from .patch_embedding import as_pair, check_shape, check_sizes

__all__ = [
    "sinusoid_encoding",
    "timing_signal",
    "sincos_2d_encoding",
    "RESIZE_POLICIES",
    "resize_position_embedding",
]


# --- 2.3 The table of waves ---


def sinusoid_encoding(num_positions: int, dim: int) -> Tensor:
    """The sinusoidal table, `n d`: sines in the even columns, cosines in the odd ones.

    Columns 2i and 2i + 1 share the angle `position / 10000 ** (2i / dim)`. It is
    computed in float64, and the table is returned in torch's default dtype. Vaswani et
    al. 2017, sec. 3.5; also the fixed table of T2T-ViT, where row 0 belongs to the
    class token.

    Args:
        num_positions: The number of rows, `n`.
        dim: The width of a token, `d`; if it is odd, the last column is a sine.

    Raises:
        ValueError: If a size is not a positive integer.
    """
    check_sizes(num_positions=num_positions, dim=dim)
    position = torch.arange(num_positions, dtype=torch.float64)
    column = torch.arange(dim)
    pair = (column - column % 2).double()
    angle = position[:, None] / 10_000 ** (pair / dim)
    dtype = torch.get_default_dtype()
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).to(dtype)


# --- 2.5 The same idea, another table ---


def timing_signal(num_positions: int, dim: int) -> Tensor:
    """The sinusoids of the library tensor2tensor, `n d`: all sines, then all cosines.

    This is not the paper's table in a different order: the slowest wave is exactly
    10000 times as long as the fastest, so every wavelength but the first differs from
    the paper's. `get_timing_signal_1d` of tensor2tensor.

    Args:
        num_positions: The number of rows, `n`.
        dim: The width of a token, `d`, at least 2; if it is odd, the last column is
            zero.

    Raises:
        ValueError: If a size is not a positive integer, or `dim` is 1.
    """
    check_sizes(num_positions=num_positions, dim=dim)
    if dim == 1:
        raise ValueError(f"dim must be at least 2, for a sine and a cosine, got {dim}")
    position = torch.arange(num_positions, dtype=torch.float64)
    angle = position[:, None] / torch.logspace(0, 4, dim // 2, dtype=torch.float64)
    table = F.pad(torch.cat([angle.sin(), angle.cos()], dim=1), (0, dim % 2))
    return table.to(torch.get_default_dtype())


# --- 2.7 Rows and columns ---


def sincos_2d_encoding(grid_size: tuple[int, int], dim: int) -> Tensor:
    """The row and column of every patch as sines and cosines, `(gh gw) d`.

    The tokens are in reading order, and a class token gets no row. A row consists of
    four quarters, [sin y, sin x, cos y, cos x]: the layout of timm's
    `build_sincos2d_pos_embed`. MAE and SimpleViT order the quarters differently.

    Args:
        grid_size: Rows and columns of the patch grid.
        dim: The width of a token, `d`, a multiple of 4.

    Raises:
        ValueError: If a size is not a positive integer, or `dim` is not a multiple
            of 4.
    """
    gh, gw = as_pair(grid_size, "grid_size")
    check_sizes(dim=dim)
    if dim % 4:
        raise ValueError(f"dim must be a multiple of 4, got {dim}")
    band = 10_000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    y, x = torch.meshgrid(torch.arange(gh), torch.arange(gw), indexing="ij")
    angle = torch.cat([y.reshape(-1, 1) * band, x.reshape(-1, 1) * band], dim=1)
    table = torch.cat([angle.sin(), angle.cos()], dim=1)
    return table.to(torch.get_default_dtype())


# --- 2.9 Another image size ---

RESIZE_POLICIES: dict[str, dict] = {
    "timm": {"mode": "bicubic", "antialias": True},
    "transformers": {"mode": "bicubic"},
    "torchvision": {"mode": "bicubic", "align_corners": True},
    "jax": {"mode": "bilinear", "align_corners": True},
    "deit": {"mode": "bicubic"},
}


def resize_position_embedding(
    position: Tensor,
    grid_size: tuple[int, int],
    num_prefix_tokens: int = 1,
    policy: str = "timm",
    old_grid_size: tuple[int, int] | None = None,
) -> Tensor:
    """Stretch a learned table to a different grid of patches, `1 n d -> 1 m d`.

    The rows of the prefix tokens (class, distillation) have no place in the image and
    are kept as they are.

    Args:
        position: The table, `1 n d`.
        grid_size: Rows and columns of the new grid.
        num_prefix_tokens: The number of rows before those of the patches.
        policy: The library whose interpolation is reproduced, a key of
            `RESIZE_POLICIES`.
        old_grid_size: Rows and columns of the grid that the table was made for; None
            means a square.

    Raises:
        ValueError: If the policy is unknown, the table does not fit its grid, or a size
            is not a positive integer.
    """
    if policy not in RESIZE_POLICIES:
        raise ValueError(
            f"policy must be one of {list(RESIZE_POLICIES)}, got {policy!r}"
        )
    check_shape("position", position, (1, "n", "d"))
    check_sizes(or_zero=True, num_prefix_tokens=num_prefix_tokens)
    new_grid_size, rows = as_pair(grid_size, "grid_size"), position.shape[1]
    num_patches = rows - num_prefix_tokens
    gh, gw = as_pair(old_grid_size or isqrt(max(num_patches, 1)), "old_grid_size")
    if gh * gw != num_patches:
        raise ValueError(
            f"position must have {num_prefix_tokens} + {gh} * {gw} rows, got {rows}"
        )
    if (gh, gw) == new_grid_size:
        return position
    prefix, grid = position[:, :num_prefix_tokens], position[:, num_prefix_tokens:]
    grid = rearrange(grid, "1 (gh gw) d -> 1 d gh gw", gh=gh, gw=gw)
    wide = torch.promote_types(position.dtype, torch.float32)  # bicubic needs it
    grid = F.interpolate(grid.to(wide), new_grid_size, **RESIZE_POLICIES[policy])
    grid = rearrange(grid.to(position.dtype), "1 d gh gw -> 1 (gh gw) d")
    return torch.cat([prefix, grid], dim=1)
