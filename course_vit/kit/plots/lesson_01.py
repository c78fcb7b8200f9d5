"""Figures of lesson 01: patches."""

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from . import AXIS_COLORS, BLUE, GREEN, ORANGE, VERMILION, draw_image, figure


def patch_grid(image: Tensor, patches: Tensor, columns: int) -> Figure:
    """An image `c h w` beside its patches `n c p p`, set apart, some numbered."""
    fig, (left, right) = figure(1, 2, height=4.7)
    draw_image(left, image, "one image")
    n, c, ph, pw = patches.shape
    gap = max(2, ph // 6)
    height, width = n // columns * (ph + gap) - gap, columns * (pw + gap) - gap
    sheet = torch.ones(c, height, width)
    corners = [(i // columns * (ph + gap), i % columns * (pw + gap)) for i in range(n)]
    for patch, (y, x) in zip(patches, corners, strict=True):
        sheet[:, y : y + ph, x : x + pw] = patch
    draw_image(right, sheet, f"{n} patches, in reading order")
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    for i in (0, 1, columns - 1, columns, n - 1):
        y, x = corners[i]
        right.text(x + pw / 2, y + ph / 2, i, ha="center", va="center", bbox=box)
    return fig


def numbered_patches(image: Tensor, rows: Tensor, patch_size: int) -> Figure:
    """A small image `h w` with its values, and its flat patches `n (p p)` as rows."""
    fig, (left, right) = figure(1, 2, height=3.6, width_ratios=[1, 2])
    colors = [BLUE, VERMILION, GREEN, ORANGE]
    limits = {"vmin": 0, "vmax": image.max()}
    draw_image(left, image, "image: 8 rows, 8 columns", **limits)
    write_values(left, image)
    for i, color in enumerate(colors):
        y, x = i // 2 * patch_size - 0.5, i % 2 * patch_size - 0.5
        left.add_patch(outline(x, y, patch_size, patch_size, color))
    draw_image(
        right, rows, "patches: n = 4 rows of p x p = 16", aspect="auto", **limits
    )
    write_values(right, rows)
    for i, color in enumerate(colors):
        right.add_patch(outline(-0.5, i - 0.5, rows.shape[1], 1, color))
        right.text(-0.9, i, i, ha="right", va="center", color=color, weight="bold")
    return fig


def outline(x: float, y: float, width: float, height: float, color: str) -> Rectangle:
    inset = 0.06
    size = (width - 2 * inset, height - 2 * inset)
    return Rectangle((x + inset, y + inset), *size, fill=False, edgecolor=color, lw=3)


def write_values(ax: Axes, values: Tensor) -> None:
    """Write each value `h w` into its cell, dark on light and light on dark."""
    middle = values.max() / 2
    for (y, x), value in zip(
        torch.cartesian_prod(*map(torch.arange, values.shape)).tolist(),
        values.flatten(),
        strict=True,
    ):
        color = "black" if value > middle else "white"
        ax.text(x, y, f"{value:.0f}", ha="center", va="center", color=color, size=10)


def token_counts(patch_sizes: list[int], tokens: list[int]) -> Figure:
    """How the number of tokens and of token pairs grows as patches shrink, log axes."""
    fig, (ax,) = figure(width=7, height=3.4)
    ax.loglog(patch_sizes, tokens, "o-", color=AXIS_COLORS["n"], label="tokens, n")
    pairs = [n * n for n in tokens]
    ax.loglog(
        patch_sizes, pairs, "s--", color=VERMILION, label="pairs of tokens, n x n"
    )
    ax.set_xticks(patch_sizes, [str(p) for p in patch_sizes])
    ax.minorticks_off()
    ax.set(xlabel="patch size p (pixels), image 224 x 224", ylabel="count")
    ax.legend(frameon=False)
    return fig
