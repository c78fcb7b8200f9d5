"""Figures of lesson 05: the encoder block."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor

from . import (
    AXIS_COLORS,
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    SKY,
    VERMILION,
    draw_image,
    figure,
)


def bends(x: Tensor, curves: Mapping[str, Tensor], exact: str) -> Figure:
    """Activation functions of `x`, and how far those like `exact` are from it."""
    fig, (left, right) = figure(1, 2, height=3.4)
    for name, y in curves.items():
        left.plot(x, y, label=name, lw=2)
        if 0 < (y - curves[exact]).abs().max() < 0.1:
            color = left.lines[-1].get_color()
            style = left.lines[-1].get_linestyle()
            right.plot(x, y - curves[exact], label=name, color=color, ls=style, lw=2)
    left.set(xlabel="number in", ylabel="number out", title="the bend")
    right.set(xlabel="number in", ylabel=f"minus {exact}", title="two stand-ins")
    for ax in (left, right):
        ax.legend(frameon=False)
    return fig


def who_moved(moves: Mapping[str, Tensor], changed: tuple[int, int, int]) -> Figure:
    """For each norm, the numbers `b n d` that moved when one of them was changed."""
    images = len(next(iter(moves.values())))
    fig, axes = figure(images, len(moves), height=1.35 * images + 0.4)
    for column, (title, moved) in enumerate(moves.items()):
        for row, sheet in enumerate(moved):
            ax = axes[row * len(moves) + column]
            ax.imshow(sheet, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
            n, d = sheet.shape
            ax.set_xticks([i - 0.5 for i in range(1, d)], minor=True)
            ax.set_yticks([i - 0.5 for i in range(1, n)], minor=True)
            ax.grid(which="minor", color="#BBBBBB")
            ax.tick_params(which="minor", length=0)
            ax.set_xticks([])
            ax.set_yticks([])
            for spine in ax.spines.values():
                spine.set(visible=True, color="#BBBBBB")
            if row == 0:
                ax.set_title(title)
            if column == 0:
                ax.set_ylabel("n", color=AXIS_COLORS["n"], rotation=0, va="center")
                text = {"transform": ax.transAxes, "ha": "right", "va": "center"}
                ax.text(-0.12, 0.5, f"image {row}", **text)
            if row == images - 1:
                ax.set_xlabel("d", color=AXIS_COLORS["d"])
            if row == changed[0]:
                corner = (changed[2] - 0.5, changed[1] - 0.5)
                ax.add_patch(Rectangle(corner, 1, 1, fill=False, ec=VERMILION, lw=4))
    return fig


def wirings() -> Figure:
    """Where the norm stands: post-norm, pre-norm, and a mistake between them."""
    fig, axes = figure(3, 1, height=4.9)
    plans = {
        "post-norm (2017)": ["look", "+", "norm", "think", "+", "norm"],
        "pre-norm (ViT)": ["norm look", "+", "norm think", "+"],
        "a mistake": ["norm look", "+", "norm", "think", "+"],
    }
    for ax, (title, steps) in zip(axes, plans.items(), strict=True):
        ax.set(xlim=(0, 11), ylim=(-0.65, 1.75))
        ax.axis("off")
        ax.set_title(title, loc="left", weight="bold")
        ax.annotate("", (10.9, 0), (0.1, 0), arrowprops={"arrowstyle": "->", "lw": 3})
        x = 0.7
        for step in steps:
            x = draw_step(ax, step, x)
    return fig


def draw_step(ax: Axes, step: str, x: float) -> float:
    """Draw a norm or a sum on the stream, or a branch above it; say where to go on."""
    if step == "norm":
        draw_box(ax, "norm", x, 0)
        return x + 1.75
    if step == "+":
        circle = {"boxstyle": "circle,pad=0.15", "fc": "white", "ec": BLACK, "lw": 2}
        ax.text(x + 0.1, 0, "+", ha="center", va="center", size=14, bbox=circle)
        return x + 0.85
    boxes = step.split()
    end = x + 0.45 + 1.5 * len(boxes) + 0.25
    line = {"color": BLACK, "lw": 2, "ls": "-", "zorder": 1}
    ax.plot([x, x, end + 0.1, end + 0.1], [0, 1.1, 1.1, 0.25], **line)
    for i, box in enumerate(boxes):
        draw_box(ax, box, x + 0.3 + 1.5 * i, 1.1)
    return end


def draw_box(ax: Axes, text: str, x: float, y: float) -> None:
    color = {"norm": ORANGE, "look": SKY, "think": GREEN}[text]
    name = {"look": "attention", "think": "MLP"}.get(text, text)
    shape = {"boxstyle": "round,pad=0.05", "fc": color, "ec": BLACK, "zorder": 4}
    ax.add_patch(FancyBboxPatch((x, y - 0.33), 1.25, 0.66, **shape))
    ax.text(x + 0.625, y, name, ha="center", va="center", zorder=5)


def dropped(rows: Mapping[str, Tensor]) -> Figure:
    """The same images `b c h w` untouched and dropped in two ways, a row for each."""
    images = len(next(iter(rows.values())))
    brightest = max(row.max().item() for row in rows.values())
    fig, axes = figure(len(rows), images, height=0.95 * len(rows))
    for index, (name, row) in enumerate(rows.items()):
        for column, image in enumerate(row):
            ax = axes[index * images + column]
            draw_image(ax, image, vmin=0, vmax=brightest)
            if column == 0:
                text = {"transform": ax.transAxes, "ha": "right", "va": "center"}
                ax.text(-0.15, 0.5, name, **text)
    return fig


def depth_diagnostics(measured: Mapping[str, Tensor]) -> Figure:
    """Lengths of tokens and of gradients, `starts 2 blocks`, for each wiring."""
    fig, axes = figure(1, 2, height=3.6)
    labels = ("mean length of a token", "length of the gradient")
    styles = zip((BLUE, VERMILION), ("o-", "s--"), strict=True)
    for (name, starts), (color, style) in zip(measured.items(), styles, strict=True):
        blocks = range(1, starts.shape[-1] + 1)
        for ax, lines in zip(axes, starts.unbind(1), strict=True):
            ax.plot(blocks, lines.T, style[1:], color=color, lw=0.8, alpha=0.4)
            ax.plot(blocks, lines.mean(dim=0), style, color=color, lw=2, label=name)
    for ax, label in zip(axes, labels, strict=True):
        ax.set(xlabel="block", ylabel=label, ylim=(0, None))
    axes[0].legend(frameon=False)
    return fig


def learning(
    losses: Mapping[str, Mapping[str, Sequence[float]]], guessing: float
) -> Figure:
    """Training losses of two models, a chart for each start, and that of guessing."""
    fig, axes = figure(1, len(losses), height=3.4, sharey=True)
    for ax, (title, curves) in zip(axes, losses.items(), strict=True):
        styles = zip((BLUE, VERMILION), ("-", "--"), strict=True)
        for (name, curve), (color, style) in zip(curves.items(), styles, strict=True):
            ax.plot(curve, style, color=color, lw=2, label=name)
        ax.axhline(guessing, color=BLACK, ls=":", label="guessing, ln 10")
        ax.set(xlabel="training step", title=title, ylim=(0, None))
    axes[0].set_ylabel("loss on 20 digits")
    axes[0].legend(frameon=False, loc="lower left")
    return fig
