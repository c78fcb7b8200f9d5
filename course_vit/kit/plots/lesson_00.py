"""Figures of lesson 00: axes and tensor words."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from . import AXIS_COLORS, BLACK, BLUE, draw_image, figure


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
    return fig


def number_grids(grids: Mapping[str, Tensor]) -> Figure:
    """Small tables of whole numbers, equal numbers in equal shades."""
    fig, axes = figure(1, len(grids), width=8, height=2.4)
    for ax, (title, grid) in zip(axes, grids.items(), strict=True):
        draw_image(ax, grid, title, cmap="cividis", vmin=0, vmax=grid.max())
        for y, row in enumerate(grid.tolist()):
            for x, value in enumerate(row):
                color = "black" if value > grid.max() / 2 else "white"
                ax.text(x, y, value, ha="center", va="center", color=color, size=16)
    return fig
