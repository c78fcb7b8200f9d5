"""Lesson 2. Position encoding.

Tokens learn where they come from: a row of a table is added to each, one row for each
place.

Letters: `n` positions, `d` width of a token, `gh gw` rows and columns of the patch
grid.

Printed from notebooks/02_position_encoding.ipynb: edit there, then `make export`.
"""

from math import isqrt

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "sinusoid_encoding",
    "timing_signal",
    "sincos_2d_encoding",
    "RESIZE_POLICIES",
    "resize_position_embedding",
]


# --- 2.3 The table of waves ---


def sinusoid_encoding(num_positions: int, dim: int) -> Tensor:
    """One row of waves per position, `n d`: even columns are sines, odd ones cosines.

    Vaswani et al. 2017, sec. 3.5; the fixed table of T2T-ViT, where row 0 belongs to
    the class token. Columns 2i and 2i + 1 share `position / 10000 ** (2i / dim)`, the
    angle. Computed in float64, returned in float32. Raises ValueError unless both
    sizes are positive.
    """
    if num_positions < 1 or dim < 1:
        raise ValueError(f"sizes must be positive, got {num_positions=}, {dim=}")
    position = torch.arange(num_positions, dtype=torch.float64)
    column = torch.arange(dim)
    pair = (column - column % 2).double()
    angle = position[:, None] / 10_000 ** (pair / dim)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


# --- 2.5 The same idea, another table ---


def timing_signal(num_positions: int, dim: int) -> Tensor:
    """The sinusoids of the library tensor2tensor, `n d`: all sines, then all cosines.

    `get_timing_signal_1d` of tensor2tensor. Not the paper's table in another order: the
    slowest wave is exactly 10000 times longer than the fastest, so every wavelength
    between differs. An odd dim ends in a column of zeros. Raises ValueError for sizes
    below (1, 2).
    """
    if num_positions < 1 or dim < 2:
        got = f"{num_positions=}, {dim=}"
        raise ValueError(f"sizes must be at least (1, 2), got {got}")
    position = torch.arange(num_positions, dtype=torch.float64)
    angle = position[:, None] / torch.logspace(0, 4, dim // 2, dtype=torch.float64)
    return F.pad(torch.cat([angle.sin(), angle.cos()], dim=1), (0, dim % 2)).float()


# --- 2.7 Rows and columns ---


def sincos_2d_encoding(grid_size: tuple[int, int], dim: int) -> Tensor:
    """Row and column of every patch as waves, `(gh gw) d`, no row for a class token.

    Four quarters [sin y, sin x, cos y, cos x], the layout of timm's
    `build_sincos2d_pos_embed`; MAE and SimpleViT order them differently. Tokens in
    reading order. Raises ValueError unless dim is a positive multiple of 4 and the grid
    has rows and columns.
    """
    gh, gw = grid_size
    if gh < 1 or gw < 1 or dim < 4 or dim % 4:
        got = f"{grid_size=}, {dim=}"
        rule = "a positive grid and a dim in multiples of 4 are needed"
        raise ValueError(f"{rule}, got {got}")
    band = 10_000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    y, x = torch.meshgrid(torch.arange(gh), torch.arange(gw), indexing="ij")
    angle = torch.cat([y.reshape(-1, 1) * band, x.reshape(-1, 1) * band], dim=1)
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


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
    """Stretch a learned table to another grid of patches, `1 n d -> 1 m d`.

    The rows of the prefix tokens (class, distillation) have no place in the picture and
    are kept. `policy` names whose interpolation to reproduce, a key of
    `RESIZE_POLICIES`; `old_grid_size=None` means the table was made for a square.
    Raises ValueError for an unknown policy or a table that does not fit its grid.
    """
    if policy not in RESIZE_POLICIES:
        rule = f"one of {list(RESIZE_POLICIES)}"
        raise ValueError(f"policy must be {rule}, got {policy!r}")
    if position.ndim != 3 or position.shape[0] != 1:
        got = tuple(position.shape)
        raise ValueError(f"expected position (1, n, d), got shape {got}")
    num_patches = position.shape[1] - num_prefix_tokens
    gh, gw = old_grid_size or (isqrt(max(num_patches, 0)),) * 2
    if num_patches < 1 or gh * gw != num_patches:
        rule = f"{num_prefix_tokens} + {gh} * {gw}"
        raise ValueError(f"position must have {rule} rows, got {position.shape[1]}")
    if (gh, gw) == tuple(grid_size):
        return position
    prefix, grid = position[:, :num_prefix_tokens], position[:, num_prefix_tokens:]
    grid = rearrange(grid, "1 (gh gw) d -> 1 d gh gw", gh=gh, gw=gw)
    grid = F.interpolate(grid, size=tuple(grid_size), **RESIZE_POLICIES[policy])
    return torch.cat([prefix, rearrange(grid, "1 d gh gw -> 1 (gh gw) d")], dim=1)
