"""Figures of lesson 02: positions."""

from math import isqrt, pi

import torch
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from . import AXIS_COLORS, BLUE, SKY, VERMILION, draw_image, figure


def waves_and_clocks(period: int = 8) -> Figure:
    """One sine, one clock hand (sine and cosine), three clocks of different speed."""
    fig, (wave, clock, *bottom) = figure(2, 2, height=5.4, width_ratios=[1.4, 1])
    clocks = fig.add_subplot(bottom[0].get_gridspec()[1, :])
    for ax in bottom:
        ax.remove()
    smooth = torch.linspace(0, period + 1, 200)
    wave.plot(smooth, (smooth * 2 * pi / period).sin(), color=SKY)
    for p in range(period + 2):
        color = VERMILION if p in (1, 3) else BLUE
        wave.plot(p, hand(p, period)[0], "o", color=color)
    wave.axhline(0.5**0.5, color=VERMILION, linestyle=":")
    wave.set(xlabel="position", xticks=range(period + 2), yticks=(-1, 0, 1))
    wave.set_title("a sine: 1 and 3 are alike")
    draw_face(clock, 0, 0)
    for p in range(period):
        x, y = hand(p, period)
        clock.plot(x, y, "o", color=BLUE)
        text = f"{p}, {p + period}" if p < 2 else str(p)
        clock.text(1.35 * x, 1.25 * y, text, ha="center", va="center")
    clock.set_ylim(-1.4, 1.7)
    clock.set_title("sine and cosine: 0 and 8, 1 and 9")
    for p in range(period + 2):
        for row in range(3):
            x, y = hand(p, period * 3**row)
            left, top = 2.6 * p, -2.4 * row
            draw_face(clocks, left, top)
            clocks.plot([left, left + x], [top, top + y], "-", color=BLUE, lw=3)
        clocks.text(2.6 * p, 1.5, p, ha="center")
    clocks.set_title("three clocks: all columns differ", y=1.12)
    for ax in (clock, clocks):
        ax.set_aspect("equal")
        ax.axis("off")
    return fig


def hand(position: int, period: int) -> tuple[float, float]:
    """Where the hand of a clock points: (sine, cosine), so it starts at the top."""
    angle = torch.tensor(2 * pi * position / period)
    return angle.sin().item(), angle.cos().item()


def draw_face(ax: Axes, x: float, y: float) -> None:
    turn = torch.linspace(0, 2 * pi, 60)
    ax.plot(x + turn.sin(), y + turn.cos(), "-", color="0.7", lw=1)


def table_and_waves(table: Tensor, columns: tuple[int, ...]) -> Figure:
    """A table `n d` as a heat map, and some of its columns as waves."""
    fig, axes = figure(len(columns), 2, height=4.6, width_ratios=[1.15, 1])
    grid = axes[0].get_gridspec()
    for ax in axes[::2]:
        ax.remove()
    heat = fig.add_subplot(grid[:, 0])
    picture = heat.imshow(table, vmin=-1, vmax=1, aspect="auto")
    fig.colorbar(picture, ax=heat, ticks=(-1, 0, 1))
    heat.set_xlabel("column, d", color=AXIS_COLORS["d"])
    heat.set_ylabel("position, n", color=AXIS_COLORS["n"])
    heat.set_xticks([*columns, table.shape[1] - 1])
    for ax, column in zip(axes[1::2], columns, strict=True):
        ax.plot(table[:, column], color=AXIS_COLORS["n"])
        ax.set_ylabel(
            column, color=AXIS_COLORS["d"], rotation=0, ha="right", va="center"
        )
        ax.set(yticks=(), ylim=(-1.15, 1.15), xlim=(0, len(table) - 1))
        if column != columns[-1]:
            ax.set_xticks(())
    axes[1].set_title("four columns as waves")
    axes[-1].set_xlabel("position, n", color=AXIS_COLORS["n"])
    return fig


def likeness_by_offset(table: Tensor, starts: tuple[int, ...]) -> Figure:
    """Cosine similarity of row `start` with the rows after it, against the offset."""
    fig, (ax,) = figure(width=8, height=3.4)
    looks = [(BLUE, "-", 1), (VERMILION, "o", 10), ("black", "s", 15)]
    for start, (color, style, every) in zip(starts, looks, strict=True):
        likeness = F.cosine_similarity(table[start:], table[start], dim=-1)[::every]
        offsets = range(0, len(likeness) * every, every)
        label = f"from row {start}"
        ax.plot(offsets, likeness, style, color=color, label=label, markersize=5)
    ax.set(xlabel="offset between two rows", ylabel="cosine similarity")
    ax.legend(frameon=False)
    return fig


def similarity_tiles(likeness: list[Tensor], titles: list[str], gap: int = 1) -> Figure:
    """Similarities `n m` as tiles: tile i is row i, laid out as the grid."""
    fig, axes = figure(1, len(likeness), height=9 / len(likeness) - 0.2)
    for ax, matrix, title in zip(axes, likeness, titles, strict=True):
        side = isqrt(len(matrix))
        rows = rearrange(matrix, "n (th tw) -> n th tw", th=side)
        rows = F.pad(rows, (0, gap, 0, gap), value=float("nan"))
        pattern = "(gh gw) th tw -> (gh th) (gw tw)"
        sheet = rearrange(rows, pattern, gh=side)[:-gap, :-gap]
        picture = ax.imshow(sheet)
        middle = torch.arange(side) * (side + gap) + (side - 1) / 2
        ax.set_xticks(middle, range(side))
        ax.set_yticks(middle, range(side))
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set(xlabel="column of the patch", ylabel="row of the patch", title=title)
        fig.colorbar(picture, ax=ax, shrink=0.75)
    return fig


def resized(tables: dict[str, list[Tensor]], titles: list[str]) -> Figure:
    """Pictures `h w`, one row per name: a column of a table, resized in many ways."""
    fig, axes = figure(len(tables), len(titles), height=1.5 * len(tables))
    for row, (name, pictures) in enumerate(tables.items()):
        low, high = pictures[0].min(), pictures[0].max()
        for column, picture in enumerate(pictures):
            ax = axes[row * len(titles) + column]
            title = titles[column] if row == 0 else ""
            draw_image(ax, picture, title, cmap="viridis", vmin=low, vmax=high)
        first = axes[row * len(titles)]
        place = {"ha": "right", "va": "center", "rotation": 90}
        first.text(-0.1, 0.5, name, transform=first.transAxes, **place)
    return fig
