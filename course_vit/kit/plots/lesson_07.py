"""Figures of lesson 07: curves, confusion, comparisons."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from . import BLUE, VERMILION, draw_image, figure


def losses(curves: Mapping[str, Sequence[float]], classes: int = 10) -> Figure:
    """Loss against step, beside what a blind guess among the classes costs."""
    fig, (ax,) = figure(width=7, height=3.2)
    for name, values in curves.items():
        ax.plot(range(1, len(values) + 1), values, label=name, lw=2)
    blind_guess(ax, classes)
    ax.set(xlabel="step", ylabel="loss", ylim=(0, None))
    ax.legend(frameon=False)
    return fig


def blind_guess(ax: Axes, classes: int = 10) -> None:
    ax.axhline(math.log(classes), color="#666666", ls=":", lw=1.5)


def schedule(curves: Mapping[str, Sequence[float]]) -> Figure:
    """The share of the peak learning rate against step."""
    fig, (ax,) = figure(width=7, height=2.8)
    for name, values in curves.items():
        ax.plot(values, label=name, lw=2)
    ax.set(xlabel="step", ylabel="share of the peak rate", ylim=(0, 1.05))
    ax.legend(frameon=False, title="warm-up")
    return fig


def curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Training loss, test loss and test accuracy of a run of `fit`."""
    fig, (left, right) = figure(1, 2, height=3.2)
    draw_losses(left, history)
    left.legend(frameon=False)
    epochs = [record["epoch"] for record in history]
    right.plot(epochs, [record["val_accuracy"] for record in history], color=VERMILION)
    right.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1.02))
    return fig


def draw_losses(ax: Axes, history: Sequence[Mapping[str, float]]) -> None:
    epochs = [record["epoch"] for record in history]
    ax.plot(
        epochs, [r["loss"] for r in history], color=BLUE, ls="-", lw=2, label="training"
    )
    ax.plot(
        epochs,
        [record["val_loss"] for record in history],
        color=VERMILION,
        ls="--",
        lw=2,
        label="test",
    )
    ax.set(xlabel="epoch", ylabel="loss", ylim=(0, None))


def confusion(counts: Tensor, names: Sequence[str]) -> Figure:
    """How often each true class (row) got each answer (column)."""
    fig, (ax,) = figure(width=6.4, height=5.6)
    draw_image(ax, counts, cmap="cividis_r")
    ax.axis("on")
    ax.set_xticks(range(len(names)), names, rotation=60)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="answer", ylabel="truth")
    for y, row in enumerate(counts.tolist()):
        for x, count in enumerate(row):
            if count:
                color = "white" if count > counts.max() / 2 else "black"
                weight = "normal" if x == y else "bold"
                style = {
                    "color": color,
                    "weight": weight,
                    "ha": "center",
                    "va": "center",
                }
                ax.text(x, y, count, **style)
    return fig


def by_seed(rows: Mapping[str, Mapping[str, Sequence[float]]], label: str) -> Figure:
    """A dot per seed and a bar at the mean; names stand left, accuracies below.

    `rows` maps a name to its series; each series has its own colour and marker.
    """
    fig, (ax,) = figure(width=8, height=0.8 + 0.46 * len(rows))
    styles = [(BLUE, "o", 0.14), (VERMILION, "s", -0.14)]
    series = list(next(iter(rows.values())))
    for y, results in enumerate(reversed(rows.values())):
        for (color, marker, lift), values in zip(
            styles, results.values(), strict=False
        ):
            place = y + (lift if len(series) > 1 else 0)
            ax.plot(values, [place] * len(values), marker, color=color, ms=5, alpha=0.6)
            ax.plot(sum(values) / len(values), place, "|", color=color, ms=16, mew=3)
    for (color, marker, _), name in zip(styles, series, strict=False):
        ax.plot([], [], marker, color=color, label=name)
    if len(series) > 1:
        ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    ax.set_yticks(range(len(rows)), list(reversed(rows)))
    lowest = min(
        min(values) for results in rows.values() for values in results.values()
    )
    ax.set(xlabel=label, ylim=(-0.6, len(rows) - 0.4), xlim=(lowest - 2, 100.4))
    ax.grid(axis="x", alpha=0.3)
    return fig


def clinic(patients: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Training and test loss of each patient, all on the same axes."""
    columns = 3
    rows = -(-len(patients) // columns)
    fig, axes = figure(rows, columns, height=2.4 * rows, sharey=True)
    for ax, (name, history) in zip(axes, patients.items(), strict=True):
        draw_losses(ax, history)
        blind_guess(ax)
        ax.set(title=name, ylim=(0, 3.2), xticks=[1, len(history) // 2, len(history)])
    axes[0].legend(frameon=False)
    for i, ax in enumerate(axes):
        ax.set(ylabel="" if i % columns else "loss")
        ax.set(xlabel="epoch" if i >= len(axes) - columns else "")
    return fig


def answers(
    images: Tensor, probabilities: Tensor, names: Sequence[str], columns: int = 4
) -> Figure:
    """Images `b c h w`, each with the two likeliest classes and their probabilities."""
    rows = -(-len(images) // columns)
    fig, axes = figure(rows, columns, width=9, height=2.3 * rows)
    for ax, image, chances in zip(axes, images, probabilities, strict=True):
        draw_image(ax, image)
        (best, second), (i, j) = (part.tolist() for part in chances.topk(2))
        ax.set_title(f"{names[i]} {best:.0%}\n{names[j]} {second:.0%}")
    return fig
