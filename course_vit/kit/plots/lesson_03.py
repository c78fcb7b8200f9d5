"""Figures of lesson 03: who looks at whom."""

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any

import torch
from einops import repeat
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from . import AXIS_COLORS, BLACK, BLUE, GREEN, VERMILION, draw_image, figure

CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "size": 11}
BELOW: dict[str, Any] = {"ha": "center", "va": "top", "size": 11}


def looks(
    image: Tensor,
    rows: Tensor,
    queries: Sequence[int],
    titles: Sequence[str] = (),
    letters: str = "ABCDEF",
) -> Figure:
    """A photograph `c h w` with some patches framed, then where each of them looks.

    `rows` are rows `k n` of attention weights, `queries` their k patches; different
    patches are called by the `letters`, in turn. A patch that gets little weight fades
    to white.
    """
    names = dict(zip(dict.fromkeys(queries), letters, strict=False))
    side = isqrt(rows.shape[1])
    patch = image.shape[1] // side
    columns = len(rows) + 1
    fig, (photo, *maps) = figure(1, columns, height=9 / columns + 0.6)
    draw_image(photo, image, "the queries")
    for query, letter in names.items():
        frame_patch(photo, query, side, patch, letter)
    titles = titles or [f"{names[query]} looks" for query in queries]
    for ax, row, query, title in zip(maps, rows, queries, titles, strict=True):
        ink = row.reshape(side, side) / row.max()
        ink = repeat(ink, "gh gw -> (gh ph) (gw pw)", ph=patch, pw=patch)
        draw_image(ax, 1 - ink * (1 - image), title)
        frame_patch(ax, query, side, patch)
        ax.text(0.5, -0.03, f"row sum {row.sum():.2f}", transform=ax.transAxes, **BELOW)
    return fig


def frame_patch(ax: Axes, index: int, side: int, patch: int, letter: str = "") -> None:
    x, y = index % side * patch - 0.5, index // side * patch - 0.5
    for color, width in (("white", 4), (BLACK, 2)):
        ax.add_patch(Rectangle((x, y), patch, patch, fill=False, ec=color, lw=width))
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    if letter:
        ax.text(x - 4, y, letter, ha="right", va="center", weight="bold", bbox=box)


def influence(curves: Mapping[str, Tensor]) -> Figure:
    """How much the last token's result reacts to each token `n`, log axis."""
    fig, (ax,) = figure(height=3.4)
    for name, curve in curves.items():
        ax.semilogy(curve, label=name)
    ax.set(xlabel="token, in reading order", ylabel="influence on the result")
    ax.set_yticks([1e-9, 1e-6, 1e-3, 1, 1e3], ["10⁻⁹", "10⁻⁶", "0.001", "1", "1000"])
    ax.minorticks_off()
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return fig


def three_tokens(
    words: Sequence[str], x: Tensor, weights: Tensor, moves: Mapping[str, tuple]
) -> Figure:
    """Left: who looks at whom, thicker is more. Right: the tokens in their plane.

    `moves` maps a label to (start, end), two points of the plane joined by an arrow.
    """
    fig, (left, right) = figure(1, 2, height=3.9, width_ratios=[1.25, 1])
    for i, word in enumerate(words):
        ends: dict[str, Any] = {"va": "center", "weight": "bold"}
        left.text(-0.05, -i, word, ha="right", color=AXIS_COLORS["n"], **ends)
        left.text(1.05, -i, word, ha="left", color=AXIS_COLORS["n"], **ends)
        for j in range(len(words)):
            weight = weights[i, j].item()
            color = (BLUE, VERMILION, GREEN)[i]
            left.plot([0, 1], [-i, -j], color=color, ls="-", lw=0.6 + 8 * weight)
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
            at = 0.2, -i + 0.2 * (i - j)
            left.text(*at, f"{weight:.2f}", color=color, bbox=box, zorder=3, **CENTRED)
    left.set(xlim=(-0.35, 1.35), ylim=(-2.4, 0.4), title="who looks  →  at whom")
    left.axis("off")
    right.plot(*x.T, "o", color=BLUE, ms=9)
    for word, point in zip(words, x.tolist(), strict=True):
        right.annotate(word, point, (7, 7), textcoords="offset points", color=BLUE)
    for label, (start, end) in moves.items():
        arrow = {"arrowstyle": "->", "lw": 2, "color": VERMILION}
        right.annotate("", end, start, arrowprops=arrow)
        text = right.annotate(label, end, (-6, -15), textcoords="offset points")
        text.set(ha="right", color=VERMILION)
    right.set(xlim=(-0.4, 2.6), ylim=(-0.4, 2.6), xlabel="water", ylabel="finance")
    right.set_xticks([0, 1, 2])
    right.set_yticks([0, 1, 2])
    return fig


def score_spread(scores: Mapping[int, Tensor]) -> Figure:
    """Scores `b n m` by width e, plain and scaled, and their weights, sorted."""
    fig, axes = figure(2, 2, height=5.4)
    for e, raw in scores.items():
        for column, scale in enumerate((1, e**-0.5)):
            spread, sizes = axes[column], axes[2 + column]
            values, limit = (raw * scale).flatten().numpy(), (30, 4)[column]
            bins = torch.linspace(-limit, limit, 101).tolist()
            spread.hist(
                values, bins, density=True, histtype="step", lw=2, label=f"e = {e}"
            )
            ordered = (raw * scale).softmax(dim=-1).sort(descending=True).values
            sizes.plot(ordered.mean(dim=(0, 1))[:20], lw=2, label=f"e = {e}")
    for column, name in enumerate(("q · k", "q · k / √e")):
        axes[column].set(title=f"scores {name}", xlabel="score", yticks=[])
        title = f"weights from {name}"
        axes[2 + column].set(title=title, xlabel="key, best first", ylim=(0, 1))
    for ax in axes:
        ax.legend(frameon=False)
    return fig


def kept_numbers(sizes: Sequence[int], counts: Mapping[str, Sequence[int]]) -> Figure:
    """How many numbers are kept for the backward pass at n tokens, log axes."""
    fig, (ax,) = figure(width=7, height=3.4)
    for (name, count), marker in zip(counts.items(), "os", strict=True):
        ax.loglog(sizes, count, marker=marker, label=name)
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
    ax.set(xlabel="tokens, n", ylabel="numbers kept")
    ax.legend(frameon=False)
    return fig
