"""Figures of lesson 02: positions."""

from collections.abc import Iterable
from math import isqrt, pi

import torch
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from . import (
    AXIS_COLORS,
    BLUE,
    ORANGE,
    describe,
    draw_image,
    figure,
    tiles,
)


def shuffled_patches(image: Tensor, patch_size: int, seed: int) -> Figure:
    """A photograph `c h w`, and its square patches in random order."""
    rows, columns = (side // patch_size for side in image.shape[1:])
    patches = F.unfold(image[None], patch_size, stride=patch_size)
    order = torch.randperm(
        rows * columns, generator=torch.Generator().manual_seed(seed)
    )
    scattered = F.fold(
        patches[..., order], image.shape[1:], patch_size, stride=patch_size
    )
    titles = ["a photograph", "its patches, shuffled"]
    return describe(
        tiles([image, scattered[0]], titles, columns=2, size=4),
        f"Left: a photograph. Right: its {rows * columns} square patches, again "
        f"{rows} rows of {columns}, in random order; what the photograph shows is "
        "scattered all over and cannot be recognised.",
    )


def outputs_of_attention(images: Tensor) -> Figure:
    """What attention makes of a photograph, of its shuffled patches, and put back."""
    titles = ["from the photograph", "from the shuffled one", "... and put back"]
    difference = (images[0] - images[2]).abs().max()
    return describe(
        tiles(images, titles, columns=3, size=3),
        "Three outputs of attention, each a picture of square patches that hardly vary "
        "inside. From the photograph: its shapes in large blocks. From the shuffled "
        "patches: such blocks in random order. Put back in order: the largest "
        f"difference from the first picture is {difference:.2f}.",
    )


def waves_and_clocks(period: int = 8) -> Figure:
    """One sine, one clock hand (sine and cosine), three clocks of different speed."""
    count, last = 3, period + 1
    fig, (wave, clock, *bottom) = figure(2, 2, height=5.4, width_ratios=[1.4, 1])
    clocks = fig.add_subplot(bottom[0].get_gridspec()[1, :])
    for ax in bottom:
        ax.remove()
    smooth = torch.linspace(0, period + 1, 200)
    wave.plot(smooth, (smooth * 2 * pi / period).sin(), color="0.6")
    for p in range(period + 2):
        color = ORANGE if p in (1, 3) else BLUE
        wave.plot(p, hand(p, period)[0], "o", color=color)
    wave.axhline(hand(1, period)[0], color=ORANGE, linestyle=":")
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
        for row in range(count):
            x, y = hand(p, period * 3**row)
            left, top = 2.6 * p, -2.4 * row
            draw_face(clocks, left, top)
            clocks.plot([left, left + x], [top, top + y], "-", color=BLUE, lw=3)
        clocks.text(2.6 * p, 1.5, p, ha="center")
    clocks.set_title("three clocks: all columns differ", y=1.12)
    for ax in (clock, clocks):
        ax.set_aspect("equal")
        ax.axis("off")
    return describe(
        fig,
        f"Top left: a sine wave over positions 0 to {last}; positions 1 and 3 have the "
        f"same height. Top right: sine and cosine as a clock face; positions 0 to "
        f"{period - 1} lie around the circle, {period} falls on 0 and {last} on 1. "
        f"Below: {count} clocks at positions 0 to {last}; the first goes round in "
        f"{period} steps, each following clock is three times as slow as the one "
        f"before, and no two columns of {count} hands are the same.",
    )


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
    axes[1].set_title(f"{len(columns)} columns as waves")
    axes[-1].set_xlabel("position, n", color=AXIS_COLORS["n"])
    rows, width = table.shape
    steps = table.diff(dim=0).abs().mean(dim=0)
    waves = table[:, list(columns)]
    crossings = (waves[1:-1] * waves[2:] < 0).sum(dim=0).tolist()
    return describe(
        fig,
        f"Left: the table as a heat map, {rows} positions down and {width} columns "
        "across. From one position to the next, the numbers of the first two columns "
        f"change by {steps[:2].mean():.2f} on average, those of the last two by "
        f"{steps[-2:].mean():.4f}. Right: columns {names(columns)} as waves that cross "
        f"zero {names(crossings)} times.",
    )


def names(things: Iterable) -> str:
    """Things in a row, as in a sentence: `a, b and c`."""
    *others, last = map(str, things)
    return f"{', '.join(others)} and {last}" if others else last


def similarity_by_offset(table: Tensor, starts: tuple[int, ...]) -> Figure:
    """Cosine similarity of row `start` with the rows after it, against the offset."""
    fig, (ax,) = figure(width=8, height=3.4)
    looks = [(BLUE, "-", 1), (ORANGE, "o", 10), ("black", "s", 15)]
    curves = [
        F.cosine_similarity(table[start:], table[start], dim=-1) for start in starts
    ]
    for start, curve, look in zip(starts, curves, looks, strict=True):
        color, style, every = look
        offsets = range(0, len(curve), every)
        label = f"from row {start}"
        ax.plot(offsets, curve[::every], style, color=color, label=label, markersize=5)
    ax.set(xlabel="offset between two rows", ylabel="cosine similarity")
    ax.legend(frameon=False)
    first = curves[0]
    apart = max((curve - first[: len(curve)]).abs().max() for curve in curves)
    marks = [offset for offset in (20, 50, 100, 150) if offset < len(first)]
    return describe(
        fig,
        "Cosine similarity of two rows against their offset, 0 to "
        f"{len(first) - 1}, for rows counted from {names(starts)}. The curves differ "
        f"by at most {apart:.4f}. The similarity is {first[0]:.2f} at offset 0, "
        + names(f"{first[offset]:.2f} at {offset}" for offset in marks)
        + f"; its lowest value is {first.min():.2f}. It rises in "
        f"{(first.diff() > 0).sum()} of {len(first) - 1} steps.",
    )


def similarity_tiles(
    similarity: list[Tensor], titles: list[str], gap: int = 1
) -> Figure:
    """Similarities `n m` as tiles: tile i is row i, laid out as the grid."""
    count = len(similarity)
    fig, axes = figure(1, count, height=9 / count + 0.4)
    facts = []
    for ax, matrix, title in zip(axes, similarity, titles, strict=True):
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
        ax.set(xlabel="column of the patch", title=title)
        fig.colorbar(picture, ax=ax, location="bottom", shrink=0.7, aspect=30)
        facts.append(f"{title}: {by_distance(matrix)}.")
    axes[0].set_ylabel("row of the patch")
    return describe(
        fig,
        f"{names(titles)}: for each a square of {side} by {side} tiles, one for each "
        f"patch, and in each tile {side} by {side} values, one for each patch. "
        + " ".join(facts),
    )


def by_distance(similarity: Tensor) -> str:
    """The mean similarity `n m` to the patches beside, below and far away, in words."""
    side = isqrt(len(similarity))
    rows, columns = (
        (place[:, None] - place).abs()
        for place in (torch.arange(side**2) // side, torch.arange(side**2) % side)
    )
    far = rows + columns >= side
    beside, below = (rows == 0) & (columns == 1), (rows == 1) & (columns == 0)
    means = {
        "a patch beside it": similarity[beside].mean(),
        "one above or below": similarity[below].mean(),
        f"patches at least {side} steps away": similarity[far].mean(),
    }
    own = (similarity.argmax(dim=1) == torch.arange(side**2)).sum()
    return f"{own} of {side**2} tiles are brightest at the patch itself; " + names(
        f"{round(mean.item(), 2) + 0.0:.2f} on average to {which}"
        for which, mean in means.items()
    )


def resized(tables: dict[str, list[Tensor]], titles: list[str]) -> Figure:
    """Pictures `h w`, one row per name: a column of a table, resized in many ways."""
    fig, axes = figure(len(tables), len(titles), height=1.5 * len(tables))
    for row, (name, pictures) in enumerate(tables.items()):
        low, high = pictures[0].min(), pictures[0].max()
        for column, picture in enumerate(pictures):
            ax = axes[row * len(titles) + column]
            title = titles[column] if row == 0 else ""
            draw_image(ax, picture, title, cmap="viridis", vmin=low, vmax=high)
        ax = axes[row * len(titles)]
        place = {"ha": "right", "va": "center", "rotation": 90}
        ax.text(-0.1, 0.5, name, transform=ax.transAxes, **place)
    first = next(iter(tables.values()))
    spreads = {
        name: names(f"{picture.std() / pictures[0].std():.2f}" for picture in pictures)
        for name, pictures in tables.items()
    }
    return describe(
        fig,
        f"{len(tables)} rows of {len(titles)} pictures: {names(titles)}. A picture is "
        "the smoother and paler, the smaller the standard deviation of its values is. "
        + " ".join(
            f"Row {name}: {spread} times that of the first."
            for name, spread in spreads.items()
        )
        + f" In {titles[-1]}, neighbouring values of the first row differ "
        f"{rough(first[-1]) / rough(first[1]):.0f} times as much as in {titles[1]}.",
    )


def rough(picture: Tensor) -> Tensor:
    """How much two neighbours in a line of a picture `h w` differ on average."""
    return picture.diff(dim=1).abs().mean()
