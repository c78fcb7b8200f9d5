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
from torch.nn import functional as F

from . import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    VERMILION,
    describe,
    draw_image,
    figure,
    tiles,
)
from .lesson_02 import names

CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "size": 12}
BELOW: dict[str, Any] = {"ha": "center", "va": "top", "size": 12}


def patches_look(
    image: Tensor, queries: Sequence[int], patch_size: int = 16, sharpness: float = 10
) -> Figure:
    """Where some patches of a photograph look if each looks at those like itself."""
    patches = F.unfold(image[None], patch_size, stride=patch_size)[0].T
    x = F.normalize(patches - patches.mean(dim=0), dim=-1)
    return looks(image, (sharpness * x[queries] @ x.T).softmax(dim=-1), queries)


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
    called = dict(zip(dict.fromkeys(queries), letters, strict=False))
    side = isqrt(rows.shape[1])
    patch = image.shape[1] // side
    columns = len(rows) + 1
    fig, (photo, *maps) = figure(1, columns, height=9 / columns + 0.6)
    draw_image(photo, image, "the queries")
    for query, letter in called.items():
        frame_patch(photo, query, side, patch, letter)
    titles = titles or [f"{called[query]} looks" for query in queries]
    for ax, row, query, title in zip(maps, rows, queries, titles, strict=True):
        ink = row.reshape(side, side) / row.max()
        ink = repeat(ink, "gh gw -> (gh ph) (gw pw)", ph=patch, pw=patch)
        draw_image(ax, 1 - ink * (1 - image), title)
        frame_patch(ax, query, side, patch)
        ax.text(0.5, -0.03, f"row sum {row.sum():.2f}", transform=ax.transAxes, **BELOW)
    places = (
        f"{letter} in row {query // side} and column {query % side}"
        for query, letter in called.items()
    )
    views = (
        f"{title}: {focus(row, query)}."
        for title, row, query in zip(titles, rows, queries, strict=True)
    )
    return describe(
        fig,
        f"A photograph with framed patches, on a grid of {side} by {side}: "
        f"{names(places)}. Then {len(rows)} views of it in which a patch fades to "
        f"white if it gets little weight. {' '.join(views)}",
    )


def focus(row: Tensor, query: int) -> str:
    """How a row of weights `n` divides its attention, in words."""
    half = (row.sort(descending=True).values.cumsum(dim=0) < row.sum() / 2).sum() + 1
    return (
        f"half of the weight goes to {half} of {len(row)} patches, "
        f"{row[query + 1 :].sum():.0%} to patches after its own in reading order, "
        f"and the row sums to {row.sum():.2f}"
    )


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
    colors = BLUE, VERMILION, GREEN
    for color, (name, curve) in zip(colors, curves.items(), strict=True):
        ax.semilogy(curve, label=name, color=color)
    ax.set(xlabel="token, in reading order", ylabel="influence on the result")
    ticks = {1e-12: "10⁻¹²", 1e-8: "10⁻⁸", 1e-4: "0.0001", 1: "1", 1e4: "10000"}
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.minorticks_off()
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    ratios = (
        f"{name}: 10 to the {(curve[0] / curve[-1]).log10():.0f}"
        for name, curve in curves.items()
    )
    return describe(
        fig,
        f"Line chart with a log axis: the tokens 0 to {len(curve) - 1} in reading "
        "order against their influence on the result of the last token. The first "
        f"token's influence, divided by the last one's, is for {names(ratios)}.",
    )


def three_tokens(
    words: Sequence[str], x: Tensor, weights: Tensor, moves: Mapping[str, tuple]
) -> Figure:
    """Left: who looks at whom, thicker is more. Right: the tokens in their plane.

    `moves` maps a label to (start, end), two points of the plane joined by an arrow.
    """
    fig, (left, right) = figure(1, 2, height=3.9, width_ratios=[1.25, 1])
    colors = dict(zip(words, (BLUE, VERMILION, GREEN), strict=True))
    for i, (word, color) in enumerate(colors.items()):
        ends: dict[str, Any] = {"va": "center", "weight": "bold", "color": color}
        left.text(-0.05, -i, word, ha="right", **ends)
        left.text(1.05, -i, word, ha="left", **ends)
        for j in range(len(words)):
            weight = weights[i, j].item()
            left.plot([0, 1], [-i, -j], color=color, ls="-", lw=0.6 + 8 * weight)
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
            at = 0.2, -i + 0.2 * (i - j)
            left.text(*at, f"{weight:.2f}", color=color, bbox=box, zorder=3, **CENTRED)
    left.set(xlim=(-0.35, 1.35), ylim=(-2.4, 0.4), title="who looks  →  at whom")
    left.axis("off")
    for (word, color), at in zip(colors.items(), x.tolist(), strict=True):
        right.plot(*at, "o", color=color, ms=9)
        right.annotate(word, at, (7, 7), textcoords="offset points", color=color)
    for label, (start, end) in moves.items():
        arrow = {"arrowstyle": "->", "lw": 2, "color": VERMILION}
        right.annotate("", end, start, arrowprops=arrow)
        text = right.annotate(label, end, (-6, -15), textcoords="offset points")
        text.set(ha="right", color=VERMILION)
    right.set(xlim=(-0.4, 2.6), ylim=(-0.4, 2.6), xlabel="water", ylabel="finance")
    right.set_xticks([0, 1, 2])
    right.set_yticks([0, 1, 2])
    given = (
        f"{word} gives {names(f'{weight:.2f}' for weight in row)} to them"
        for word, row in zip(words, weights, strict=True)
    )
    points = (f"{word} at {coordinates(p)}" for word, p in zip(words, x, strict=True))
    arrows = (
        f"{label} from {coordinates(start)} to {coordinates(end)}"
        for label, (start, end) in moves.items()
    )
    return describe(
        fig,
        f"Left: lines from {names(words)} to {names(words)}, the thicker the more "
        f"weight. {'; '.join(given)}. Right: the plane of water and finance with "
        f"{names(points)}, and arrows: {names(arrows)}.",
    )


def coordinates(place: Tensor) -> str:
    """A point of the plane, as it is written in a text."""
    return f"({', '.join(f'{number:g}' for number in place.tolist())})"


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
    plain = (f"{raw.std():.1f} for e = {e}" for e, raw in scores.items())
    scaled = (f"{raw.std() / e**0.5:.1f} for e = {e}" for e, raw in scores.items())
    best = (f"{largest(raw):.2f} for e = {e}" for e, raw in scores.items())
    evened = (f"{largest(raw / e**0.5):.2f} for e = {e}" for e, raw in scores.items())
    return describe(
        fig,
        f"Four panels with one curve for each width e. Top left, plain scores: hills "
        f"around 0 whose standard deviation is {names(plain)}. Top right, scores "
        f"divided by the root of e: it is {names(scaled)}. Bottom left, weights from "
        f"the plain scores, best key first: they begin at {names(best)}. Bottom right, "
        f"weights from the scaled scores: they begin at {names(evened)}.",
    )


def largest(scores: Tensor) -> Tensor:
    """The largest weight of a row, on average, for scores `... m`."""
    return scores.softmax(dim=-1).amax(dim=-1).mean()


def kept_numbers(sizes: Sequence[int], counts: Mapping[str, Sequence[int]]) -> Figure:
    """How many numbers are kept for the backward pass at n tokens, log axes."""
    fig, (ax,) = figure(width=7, height=3.4)
    looks_of = zip(counts.items(), "os", (BLUE, ORANGE), strict=True)
    for (name, count), marker, color in looks_of:
        ax.loglog(sizes, count, marker=marker, label=name, color=color)
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
    ax.set(xlabel="tokens, n", ylabel="numbers kept")
    ax.legend(frameon=False)
    (first, ours), (second, theirs) = counts.items()
    growth = (
        f"{name} keeps {count[-1] / count[-2]:.0f} times as many"
        for name, count in counts.items()
    )
    return describe(
        fig,
        f"Line chart on log axes: {sizes[0]} to {sizes[-1]} tokens against the numbers "
        f"kept for the backward pass. From {sizes[-2]} to {sizes[-1]} tokens "
        f"{names(growth)}. {first.capitalize()} keeps {ours[0] / theirs[0]:.1f} times "
        f"as much as {second} at {sizes[0]} tokens, and {ours[-1] / theirs[-1]:.0f} "
        f"times as much at {sizes[-1]}.",
    )


def denoised(noisy: Tensor, cleaned: Tensor, image: Tensor) -> Figure:
    """A photograph with noise, after attention, and as it was, `c h w` each."""
    titles = ["noisy", "after attention", "original"]
    errors = (
        f"{(each - image).square().mean() ** 0.5:.2f}" for each in (noisy, cleaned)
    )
    return describe(
        tiles(
            [noisy.clamp(0, 1), cleaned.clamp(0, 1), image], titles, columns=3, size=3
        ),
        f"Three photographs: {names(titles)}. The typical error of a number is "
        f"{' and '.join(errors)} in the first two.",
    )
