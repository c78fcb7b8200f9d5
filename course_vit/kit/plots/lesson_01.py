"""Figures of lesson 01: patches."""

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional as F

from . import (
    AXIS_COLORS,
    BLUE,
    GREEN,
    ORANGE,
    VERMILION,
    describe,
    draw_image,
    figure,
    tiles,
)


def patch_grid(image: Tensor, patch_size: int) -> Figure:
    """An image `c h w` beside its patches, set apart, some of them numbered."""
    fig, (left, right) = figure(1, 2, height=4.7)
    draw_image(left, image, "one image")
    c, rows, columns = len(image), *(side // patch_size for side in image.shape[1:])
    patches = F.unfold(image[None], patch_size, stride=patch_size)[0].T
    patches = patches.reshape(-1, c, patch_size, patch_size)
    n, step = len(patches), patch_size + max(2, patch_size // 6)
    sheet = torch.ones(c, rows * step, columns * step)
    corners = [(i // columns * step, i % columns * step) for i in range(n)]
    for patch, (y, x) in zip(patches, corners, strict=True):
        sheet[:, y : y + patch_size, x : x + patch_size] = patch
    draw_image(right, sheet, f"{n} patches, in reading order")
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    middle = {"ha": "center", "va": "center", "bbox": box}
    for i in (0, 1, columns - 1, columns, n - 1):
        y, x = corners[i]
        right.text(x + patch_size / 2, y + patch_size / 2, i, **middle)
    return describe(
        fig,
        f"Left: an image. Right: the same image as {n} square patches, set apart in "
        f"{rows} rows of {columns} and numbered in reading order: 0 and 1 start the "
        f"first row, {columns - 1} ends it, {columns} starts the second, and {n - 1} "
        "is the last.",
    )


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
    return describe(
        fig,
        "Left: an image of 8 by 8 pixels with its values written in, and four coloured "
        f"squares around its patches. Right: a table of {len(rows)} rows and "
        f"{rows.shape[1]} columns, one row for each patch in reading order. Row 0 "
        f"begins {', '.join(f'{v:.0f}' for v in rows[0, :patch_size])}: the first line "
        "of the top left patch.",
    )


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
    return describe(
        fig,
        f"Line chart on log axes: patch sizes from {patch_sizes[0]} to "
        f"{patch_sizes[-1]} pixels against counts. Tokens fall from {tokens[0]} to "
        f"{tokens[-1]}, pairs of tokens fall twice as steeply, from {pairs[0]:,} to "
        f"{pairs[-1]}.",
    )


def reshaped_and_cut(reshaped: Tensor, cut: Tensor, patch_size: int) -> Figure:
    """Rows that a plain reshape makes above true patches, `n (c p p)` each."""
    both = torch.cat([reshaped, cut]).unflatten(1, (-1, patch_size, patch_size))
    return describe(
        tiles(both, columns=len(cut)),
        f"Two rows of {len(cut)} tiles. Top, plain reshape: each tile shows stripes, "
        "which are pieces of image lines stacked on one another, in odd colours. "
        "Bottom: true patches of the image, which fit together.",
    )


def wrong_width(image: Tensor, claimed: Tensor) -> Figure:
    """An image, and its patches laid out in rows of the wrong length, `c h w` each."""
    titles = ["6 rows of 10", "10 rows of 6"]
    return describe(
        tiles([image, claimed], titles, columns=2, size=2.6),
        f"Left: a wide photograph, {titles[0]} patches. Right: the same patches as "
        f"{titles[1]}: each patch is intact, but the picture is tall and what it shows "
        "is broken into pieces.",
    )


def rebuilt(images: list[Tensor], titles: list[str], image: Tensor) -> Figure:
    """Images rebuilt from fewer and fewer numbers, and the original, `c h w` each."""
    errors = [f"{(it - image).square().mean().sqrt():.2f}" for it in images]
    return describe(
        tiles([*images, image], [*titles, "original"], columns=4, size=2.2),
        f"The image rebuilt with {', '.join(titles)}, and the original. The more "
        "numbers a patch keeps, the finer what is seen: blocks of colour, then edges, "
        f"then hardly a difference. Typical errors: {', '.join(errors)}.",
    )
