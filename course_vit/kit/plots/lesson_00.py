"""Figures of lesson 00: axes and tensor words."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from . import AXIS_COLORS, BLACK, BLUE, describe, draw_image, figure, tiles


def digits(images: Tensor, labels: Tensor) -> Figure:
    """Handwritten digits `n 1 h w` with their labels `n` above, ten in a row."""
    named = [str(label) for label in labels.tolist()]
    return describe(
        tiles(images, named, columns=10, size=0.8),
        f"{len(named)} handwritten digits, grey on black, with their labels above: "
        f"{', '.join(named)}. They are coarse, {images.shape[-2]} by "
        f"{images.shape[-1]} pixels, but a person can read nearly all of them.",
    )


def one_image(image: Tensor) -> Figure:
    """A grey image `h w`, as wide as the page."""
    height, width = image.shape
    lit = (image.amax(dim=0) > 0).int()
    groups = lit[0] + (lit.diff() > 0).sum()
    return describe(
        tiles([image], columns=1, size=7),
        f"A grey image of {height} rows and {width} columns that holds all digits. "
        f"Columns in which all is black divide it into {groups} groups of columns.",
    )


def mean_digits(means: Sequence[Tensor]) -> Figure:
    """The mean image `h w` of each class."""
    return describe(
        tiles(means, columns=len(means), size=0.8),
        f"The mean images of the classes 0 to {len(means) - 1}: blurred, but each can "
        "be read.",
    )


def axis_letters(tensors: Mapping[str, Mapping[str, int]]) -> Figure:
    """Each tensor's axes as coloured boxes: its letter above, its length below."""
    fig, (ax,) = figure(width=8, height=0.9 * len(tensors))
    for row, (name, axes) in enumerate(tensors.items()):
        ax.text(0, -row, name, va="center", size=14)
        for column, (letter, length) in enumerate(axes.items()):
            color = AXIS_COLORS.get(letter, "#DDDDDD")
            ink = "white" if color in (BLACK, BLUE) else "black"
            box = {"facecolor": color, "edgecolor": "none", "boxstyle": "round,pad=0.3"}
            text = {"ha": "center", "va": "center", "size": 14}
            x = 3.2 + 1.15 * column
            ax.text(x, -row + 0.15, f" {letter} ", color=ink, bbox=box, **text)
            ax.text(x, -row - 0.32, length, **text)
    ax.set(xlim=(0, 7.2), ylim=(0.5 - len(tensors), 0.5))
    ax.axis("off")
    rows = "; ".join(f"{name}: {' '.join(axes)}" for name, axes in tensors.items())
    return describe(
        fig,
        f"{len(tensors)} rows of coloured boxes, one box for each axis. {rows}. The "
        "same letter has the same colour in every row, and below each box is a length.",
    )


def number_grids(grids: Mapping[str, Tensor]) -> Figure:
    """Small tables of whole numbers, equal numbers in equal shades."""
    fig, axes = figure(1, len(grids), width=8, height=2.4)
    for ax, (title, grid) in zip(axes, grids.items(), strict=True):
        draw_image(ax, grid, title, cmap="cividis", vmin=0, vmax=grid.max())
        for y, row in enumerate(grid.tolist()):
            for x, value in enumerate(row):
                color = "black" if value > grid.max() / 2 else "white"
                ax.text(x, y, value, ha="center", va="center", color=color, size=16)
    said = [f"{title} has the rows {grid.tolist()}" for title, grid in grids.items()]
    return describe(fig, f"{len(grids)} tables of numbers: {'; '.join(said)}.")
