"""Figures of lesson 10: overlapping windows, attention's cost, what tokens hold."""

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional as F

from . import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    draw_image,
    figure,
)

MARKS = [(BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (ORANGE, "D"), (PURPLE, "v")]


def edge_on_border(image: Tensor, top: int, border: int, patch: int = 16) -> Figure:
    """An image `c h w`, two patches left and right of `border`, and windows over it."""
    fig, axes = figure(1, 4, width=9, height=3, width_ratios=[2.2, 1, 1, 2])
    draw_image(axes[0], image, "where we look")
    left = border - patch
    frame(axes[0], left, top, 2 * patch, patch)
    part = image[:, top : top + patch, left : border + patch]
    draw_image(axes[1], part[..., :patch], "one token")
    draw_image(axes[2], part[..., patch:], "the next token")
    draw_image(axes[3], part, "overlapping windows")
    for x, y, color in ((patch - 6, 2, SKY), (patch - 2, 6, VERMILION)):
        frame(axes[3], x, y, 7, 7, color)
    return fig


def frame(
    ax: Axes, x: float, y: float, width: float, height: float, color: str = VERMILION
) -> None:
    style = {"fill": False, "edgecolor": color, "linewidth": 3}
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, **style))


def overlaps(maps: Mapping[str, Tensor]) -> Figure:
    """In how many windows each pixel stands, `h w` each, with the numbers."""
    fig, axes = figure(1, len(maps), width=9, height=3.4)
    most = max(int(counts.max()) for counts in maps.values())
    for ax, (title, counts) in zip(axes, maps.items(), strict=True):
        draw_image(ax, counts, title, cmap="cividis", vmin=0, vmax=most)
        for y, row in enumerate(counts.int().tolist()):
            for x, count in enumerate(row):
                color = "black" if count > most / 2 else "white"
                style = {"ha": "center", "va": "center", "size": 11, "color": color}
                ax.text(x, y, count, **style)
    return fig


def kernels(
    running: Tensor, right: float, found: Tensor, curves: Mapping[str, Tensor]
) -> Figure:
    """Left, means of more and more features, `draws f`; right, T2T-ViT's features.

    `found` are its mean estimates, `curves` the kernels to compare them with.
    """
    fig, (left, other) = figure(1, 2, height=3.4)
    steps = torch.arange(1, running.shape[1] + 1)
    for line in running:
        left.semilogx(steps, line, color=SKY, ls="-", lw=1)
    left.axhline(right, color=BLACK, ls="--", lw=1.5, label="exp(q · k)")
    left.set(xlabel="features", ylabel="mean of the products", ylim=(0, 2.5 * right))
    left.legend(frameon=False)
    for (name, values), (color, mark) in zip(curves.items(), MARKS, strict=False):
        other.plot(values, found, mark, color=color, ms=4, label=name, alpha=0.7)
    low, high = found.min().item(), found.max().item()
    other.plot([low, high], [low, high], color=BLACK, ls="--", lw=1.5)
    other.set(xlabel="kernel, exactly", ylabel="T2T-ViT's features, mean")
    other.legend(frameon=False)
    return fig


def errors(features: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Figure:
    """Share of the attention that goes to wrong keys, against random features."""
    fig, (ax,) = figure(width=7, height=3.2)
    for (name, values), (color, mark) in zip(curves.items(), MARKS, strict=False):
        ax.semilogx(features, values, color=color, marker=mark, label=name)
    ax.set_xticks(features, [str(m) for m in features])
    ax.minorticks_off()
    ax.set(xlabel="random features, f", ylabel="share misplaced", ylim=(0, 1))
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def costs(sizes: Sequence[int], measured: Mapping[str, Mapping[str, list]]) -> Figure:
    """Milliseconds and kept numbers against tokens; `measured` maps names to both."""
    fig, axes = figure(1, 2, height=3.6)
    for ax, quantity in zip(axes, next(iter(measured.values())), strict=True):
        for (name, row), (color, mark) in zip(measured.items(), MARKS, strict=False):
            ax.loglog(sizes, row[quantity], color=color, marker=mark, label=name)
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.minorticks_off()
        ax.set(xlabel="tokens, n", ylabel=quantity)
    axes[0].legend(frameon=False)
    return fig


def token_maps(image: Tensor, models: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """The first image's maps at three stages of each model, each `b c gh gw`.

    Drawn along the four directions in which the tokens of all images vary most.
    """
    fig, axes = figure(len(models), 4, width=9, height=2.15 * len(models))
    for row, (name, stages) in enumerate(models.items()):
        draw_image(axes[4 * row], image, name)
        for column, (title, maps) in enumerate(list(stages.items())[:3], 1):
            tokens = rearrange(maps, "b c gh gw -> (b gh gw) c")
            tokens = tokens - tokens.mean(dim=0)
            directions = torch.linalg.eigh(tokens.T @ tokens).eigenvectors[:, -4:]
            four = torch.einsum("c h w, c f -> f h w", maps[0], directions.flip(1))
            low, high = four.amin((1, 2), keepdim=True), four.amax((1, 2), keepdim=True)
            framed = F.pad((four - low) / (high - low), (0, 1, 0, 1), value=torch.nan)
            mosaic = rearrange(framed, "(y x) h w -> (y h) (x w)", y=2)[:-1, :-1]
            draw_image(axes[4 * row + column], mosaic, title, cmap="viridis")
    return fig


def edges_left(curves: Mapping[str, Mapping[str, float]]) -> Figure:
    """How much of the edges a linear read-out finds at each stage of each model."""
    fig, axes = figure(1, len(curves), width=9, height=3.4, sharey=True)
    for ax, (name, stages), (color, mark) in zip(
        axes, curves.items(), MARKS, strict=False
    ):
        ax.plot(list(stages.values()), color=color, marker=mark, ls="-")
        ax.set_xticks(range(len(stages)), list(stages), rotation=40, ha="right")
        ax.set(title=name, ylim=(0, 1.05), xlim=(-0.3, len(stages) - 0.7))
        ax.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("share of the edges")
    return fig
