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
    describe,
    draw_image,
    figure,
)
from .lesson_00 import axis_letters

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
    last, first = (part[..., x].mean().item() for x in (patch - 1, patch))
    darker = "dark" if last < first else "bright"
    brighter = "bright" if last < first else "dark"
    return describe(
        fig,
        f"A photograph with a frame around {2 * patch} by {patch} pixels. Beside it "
        f"the two patches of {patch} by {patch} in this frame: the last column of the "
        f"first is {darker}, mean {last:.2f}, the first column of the second is "
        f"{brighter}, mean {first:.2f}. In the last panel the same pixels in one "
        "piece, with two overlapping windows of 7 by 7; the border between the patches "
        "runs inside both.",
    )


def shapes(tensors: Mapping[str, Mapping[str, int]]) -> Figure:
    """The shape of each tensor on its way: coloured letters, and lengths below."""
    fig = axis_letters(tensors)
    rows = [
        f"{name}: {' by '.join(map(str, axes.values()))}"
        for name, axes in tensors.items()
    ]
    return describe(
        fig,
        f"{len(rows)} rows of coloured boxes, one box with a letter for each axis, and "
        f"its length below. {'; '.join(rows)}.",
    )


def frame(
    ax: Axes, x: float, y: float, width: float, height: float, color: str = VERMILION
) -> None:
    style = {"fill": False, "edgecolor": color, "linewidth": 3}
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, **style))


def overlaps(maps: Mapping[str, Tensor]) -> Figure:
    """In how many windows each pixel lies, `h w` for each split, with the numbers."""
    fig, axes = figure(1, len(maps), width=9, height=3.4)
    most = max(int(counts.max()) for counts in maps.values())
    for ax, (title, counts) in zip(axes, maps.items(), strict=True):
        draw_image(ax, counts, title, cmap="cividis", vmin=0, vmax=most)
        for y, row in enumerate(counts.int().tolist()):
            for x, count in enumerate(row):
                color = "black" if count > most / 2 else "white"
                style = {"ha": "center", "va": "center", "size": 12, "color": color}
                ax.text(x, y, count, **style)
    said = []
    for title, counts in maps.items():
        numbers = counts.int().flatten().tolist()
        parts = [f"{n} at {numbers.count(n)} pixels" for n in sorted(set(numbers))]
        said.append(
            f"{title}, {' by '.join(map(str, counts.shape))}: {', '.join(parts)}"
        )
    return describe(
        fig,
        f"{len(maps)} maps of the number of windows in which a pixel lies. "
        f"{'; '.join(said)}.",
    )


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
    room = low - 0.35 * (high - low), high + 0.05 * (high - low)  # for the legend
    other.set(xlabel="kernel, exactly", ylabel="T2T-ViT's features, mean", ylim=room)
    other.legend(frameon=False, loc="lower right")
    few = min(16, len(steps)) - 1
    spread = [
        f"from {line.min():.1f} to {line.max():.1f} after {steps[at]} features"
        for at, line in ((few, running[:, few]), (-1, running[:, -1]))
    ]
    ratios = [
        f"{name} is {values.mean():.2f} on average" for name, values in curves.items()
    ]
    return describe(
        fig,
        f"Left: the means of the products of more and more features, {len(running)} "
        f"draws, on a log axis. They lie {' and '.join(spread)}; a dashed line marks "
        f"exp(q k) = {right:.1f}. Right: T2T-ViT's mean against two kernels, a point "
        f"for each of {len(found)} pairs. Its average is {found.mean():.2f}, "
        f"{' and '.join(ratios)}; a dashed line marks equality.",
    )


def errors(features: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Figure:
    """Share of the attention that goes to wrong keys, against random features."""
    fig, (ax,) = figure(width=7, height=3.2)
    for (name, values), (color, mark) in zip(curves.items(), MARKS, strict=False):
        ax.semilogx(features, values, color=color, marker=mark, label=name)
    ax.set_xticks(features, [str(m) for m in features])
    ax.minorticks_off()
    ax.set(xlabel="random features, f", ylabel="share misplaced", ylim=(0, 1))
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    said = [
        f"{name}: {values[0]:.2f} to {values[-1]:.2f}"
        for name, values in curves.items()
    ]
    return describe(
        fig,
        "Share of the attention that is misplaced against the number of random "
        f"features, {features[0]} to {features[-1]}, a line for each size of the "
        f"numbers in q and k. From first to last, {'; '.join(said)}.",
    )


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
    said = []
    for quantity in next(iter(measured.values())):
        ends = [
            f"{name} from {row[quantity][0]:.2g} to {row[quantity][-1]:.2g}"
            for name, row in measured.items()
        ]
        said.append(f"{quantity}: {', '.join(ends)}")
    return describe(
        fig,
        f"Two panels against the number of tokens, {sizes[0]} to {sizes[-1]}, on log "
        f"axes. {'; '.join(said)}.",
    )


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
    said = [
        f"{name}: "
        + ", ".join(
            f"{title} {maps.shape[-2]} by {maps.shape[-1]}"
            for title, maps in list(stages.items())[:3]
        )
        for name, stages in models.items()
    ]
    return describe(
        fig,
        "The same digit in each row and, for one model in each row, four maps at each "
        f"of three stages. Places in a map: {'; '.join(said)}.",
    )


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
    shares = {name: list(stages.values()) for name, stages in curves.items()}
    first, last = (min(shares, key=lambda name: shares[name][at]) for at in (0, -1))
    return describe(
        fig,
        "Share of the edges, between 0 and 1, that one matrix finds, stage by stage, "
        f"in {len(curves)} panels: {', '.join(curves)}. Lowest at the first stage is "
        f"{first}, lowest at the last stage is {last}.",
    )
