"""Figures of lesson 06: the whole model."""

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor

from . import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    describe,
    draw_image,
    figure,
)
from .lesson_00 import axis_letters

MIDDLE = 2.0


def whole_model(image: Tensor, patch_size: int, num_classes: int = 10) -> Figure:
    """The way of one small image `1 h w` through a ViT, from left to right."""
    fig, (ax,) = figure(width=9.5, height=3.9)
    ax.set(xlim=(0, 12.2), ylim=(-0.75, 4.4))
    ax.axis("off")
    options = {"cmap": "gray", "aspect": "auto", "vmin": 0, "vmax": 1}
    ax.imshow(image[0], extent=(0, 1.4, MIDDLE - 0.7, MIDDLE + 0.7), **options)
    pattern = "1 (gh p) (gw q) -> (gh gw) p q"
    patches = rearrange(image, pattern, p=patch_size, q=patch_size)
    side = 3.9 / (len(patches) + 1)
    for index in range(len(patches) + 1):
        top = 4.0 - index * side
        box = (top - 0.8 * side, top)
        if index:
            ax.imshow(
                patches[index - 1], extent=(2.2, 2.2 + 0.8 * side, *box), **options
            )
        color = SKY if index else VERMILION
        for left, shade in ((3.3, color), (4.45, GREEN)):
            ax.add_patch(Rectangle((left, box[0]), 0.7, 0.8 * side, color=shade))
    ax.text(4.22, MIDDLE, "+", ha="center", va="center", size=16)
    for index in range(3):
        place = (5.75 + 0.22 * index, 0.5 + 0.22 * index)
        style = {"boxstyle": "round,pad=0.1", "edgecolor": "white", "facecolor": BLUE}
        ax.add_patch(FancyBboxPatch(place, 1.1, 2.5, **style))
    ax.text(6.75, 2.2, "blocks", ha="center", va="center", color="white")
    for left, color in ((7.95, ORANGE), (9.2, VERMILION)):
        ax.add_patch(Rectangle((left, MIDDLE - 1.2), 0.4, 2.4, color=color))
    for index in range(num_classes):
        low = 0.55 + 0.3 * index
        ax.add_patch(Rectangle((10.9, low), 0.6, 0.22, color=PURPLE))
        ax.text(
            11.75,
            low + 0.11,
            num_classes - 1 - index,
            ha="center",
            va="center",
            size=12,
        )
    for start, end in (
        (1.5, 2.1),
        (2.55, 3.2),
        (5.25, 5.7),
        (7.45, 7.85),
        (8.45, 9.1),
        (9.7, 10.8),
    ):
        ax.annotate("", (end, MIDDLE), (start, MIDDLE), arrowprops={"arrowstyle": "->"})
    words = {
        0.7: "image",
        2.3: "patches",
        3.65: "tokens",
        4.95: "positions",
        6.6: "depth of them",
        8.15: "norm",
        9.4: "class\ntoken",
        11.2: "head:\nscores",
    }
    for x, word in words.items():
        ax.text(x, -0.12, word, ha="center", va="top", size=12)
    n = len(patches)
    return describe(
        fig,
        f"The whole model from left to right: an image, its {n} patches in a column, "
        f"{n + 1} tokens (the class token on top in another colour), plus {n + 1} "
        "position rows, a stack of blocks, a norm, the class token alone, and the "
        f"head's {num_classes} scores, for 0 to {num_classes - 1}.",
    )


def shapes_on_the_way(shapes: Mapping[str, Mapping[str, int]]) -> Figure:
    """The shapes of the tensors on their way through the model, by axis letter."""
    steps = [
        f"{name} {' by '.join(str(size) for size in axes.values())}"
        for name, axes in shapes.items()
    ]
    return describe(
        axis_letters(shapes),
        f"Shapes through the model as boxes, one per axis: {'; '.join(steps)}.",
    )


def parameter_shares(shares: Mapping[str, Mapping[str, int]]) -> Figure:
    """Where the parameters of each model are, in percent, as stacked bars."""
    fig, (ax,) = figure(width=8.5, height=0.55 * len(shares) + 1.1)
    colors = [SKY, GREEN, BLUE, YELLOW, PURPLE]  # as in `whole_model`
    hatches = ["", "//", "", "", ".."]
    for row, parts in enumerate(shares.values()):
        total, left = sum(parts.values()), 0.0
        for (part, count), color, hatch in zip(
            parts.items(), colors, hatches, strict=True
        ):
            width = 100 * count / total
            label = part if row == 0 else None
            style = {
                "color": color,
                "hatch": hatch,
                "edgecolor": "white",
                "label": label,
            }
            ax.barh(row, width, left=left, **style)
            left += width
    ax.set_yticks(range(len(shares)), list(shares))
    ax.invert_yaxis()
    ax.set(xlabel="share of the parameters (%)", xlim=(0, 100))
    ax.legend(
        ncols=5,
        loc="lower center",
        bbox_to_anchor=(0.45, 1),
        frameon=False,
        fontsize=12,
    )
    seen = []
    for size, parts in shares.items():
        percent = {part: count / sum(parts.values()) for part, count in parts.items()}
        listed = ", ".join(f"{part} {share:.1%}" for part, share in percent.items())
        seen.append(f"{size}: {listed}")
    return describe(
        fig,
        "Stacked bars of where the parameters are, one bar for each size. "
        f"{'; '.join(seen)}.",
    )


def first_losses(classes: Sequence[int], losses: Sequence[float]) -> Figure:
    """First loss of an untrained model against the number of classes."""
    fig, (ax,) = figure(width=6, height=3.2)
    ax.semilogx(classes, torch.tensor(classes).log(), color=BLUE, label="ln(classes)")
    ax.plot(classes, losses, "o", color=VERMILION, label="untrained ViT, measured")
    ax.set_xticks(classes, [str(k) for k in classes])
    ax.minorticks_off()
    ax.set(xlabel="classes", ylabel="cross-entropy")
    ax.legend(frameon=False)
    logs = torch.tensor(classes).log()
    off = (torch.tensor(losses) - logs).abs().max()
    return describe(
        fig,
        f"Loss of an untrained model for {', '.join(map(str, classes))} classes, as "
        f"dots, and the line ln(classes), which rises from {logs[0]:.1f} to "
        f"{logs[-1]:.1f}. No dot is more than {off:.2f} away from the line.",
    )


def guesses(images: Tensor, probabilities: Tensor) -> Figure:
    """Images `b c h w` above their class probabilities `b k`."""
    fig, axes = figure(2, len(images), width=9, height=3.2, height_ratios=[1, 1.2])
    for column, (image, bars) in enumerate(zip(images, probabilities, strict=True)):
        draw_image(axes[column], image)
        below = axes[len(images) + column]
        below.bar(range(len(bars)), bars, color=BLUE)
        below.axhline(1 / len(bars), color=VERMILION, linestyle="--", linewidth=1)
        below.set(ylim=(0, 1), xticks=range(0, len(bars), 3), yticks=[0, 0.5, 1])
        if column:
            below.set_yticklabels([])
    axes[len(images)].set_ylabel("probability")
    return describe(
        fig,
        f"{len(images)} images, and below each the probabilities that the model gives "
        f"to {probabilities.shape[1]} classes. The bars are between "
        f"{probabilities.min():.2f} and {probabilities.max():.2f}; a dashed line marks "
        f"{1 / probabilities.shape[1]:.2f}, the probability of guessing.",
    )


def growing_apart(distances: Sequence[float]) -> Figure:
    """How far the class tokens of two images are apart, before and after each block."""
    fig, (ax,) = figure(width=6, height=2.8)
    ax.plot(range(len(distances)), distances, "o-", color=VERMILION)
    ax.set(xlabel="blocks passed", ylabel="distance of class tokens")
    ax.set_xticks(range(len(distances)))
    ax.set_ylim(bottom=0)
    return describe(
        fig,
        "Line chart: distance between the class tokens of two images against blocks "
        f"passed: {', '.join(f'{distance:.2f}' for distance in distances)}.",
    )


def early_guesses(right: Tensor, labels: Sequence[int]) -> Figure:
    """Probability of the right class after each block, `blocks images`."""
    fig, (ax,) = figure(width=6.5, height=3.2)
    for line, label, marker in zip(right.T, labels, "os^Dvx", strict=True):
        ax.plot(range(len(line)), line, marker=marker, label=f"a {label}")
    ax.set(xlabel="blocks passed", ylabel="probability of the right digit")
    ax.set_xticks(range(len(right)))
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return describe(
        fig,
        "Line chart: probability of the right digit against blocks passed, one line "
        f"for each of {len(labels)} digits. Before the first block the probabilities "
        f"are between {right[0].min():.2f} and {right[0].max():.2f}, after the last "
        f"between {right[-1].min():.2f} and {right[-1].max():.2f}.",
    )
