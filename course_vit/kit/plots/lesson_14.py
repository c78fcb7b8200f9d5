"""Figures of lesson 14: models on the same few images, and on digits in clutter."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from . import BLUE, GREEN, ORANGE, PURPLE, VERMILION, describe, figure, tiles
from .lesson_07 import by_seed

# One colour, mark and line for each model; colours and marks are those of lesson 10.
STYLES = {
    "ViT": (BLUE, "o", "--"),
    "T2T": (VERMILION, "s", "-"),
    "small CNN": (GREEN, "^", "-"),
    "DeiT, soft": (ORANGE, "D", ":"),
    "support vectors": (PURPLE, "v", "-."),
}


def clutter(images: Tensor, labels: Tensor) -> Figure:
    """Cluttered digits, each under the digit that is asked for."""
    titles = [str(label) for label in labels.tolist()]
    height, width = images.shape[-2:]
    fig = tiles(images, titles, columns=6, size=1.4)
    return describe(
        fig,
        f"{len(images)} images of {height} by {width} pixels, each under the digit "
        f"that is asked for: {', '.join(titles)}. In each image a whole handwritten "
        "digit is somewhere among square scraps of digits.",
    )


def deep_and_narrow(scores: Mapping[str, Sequence[float]]) -> Figure:
    """A row per model, with a dot per seed and a bar at the mean."""
    rows = {name: {"300 digits": values} for name, values in scores.items()}
    fig = by_seed(rows, "test accuracy, % (stored: five seeds, 300 digits)")
    means = {name: sum(values) / len(values) for name, values in scores.items()}
    said = [
        f"{name}: mean {means[name]:.1f}, seeds from {min(values):.1f} to "
        f"{max(values):.1f}"
        for name, values in scores.items()
    ]
    return describe(
        fig,
        f"Test accuracy in percent of {len(scores)} models, a row each, with a dot for "
        f"each seed and a bar at the mean. {'; '.join(said)}.",
    )


def by_number(rows: Mapping[str, Mapping[int, Tensor]]) -> Figure:
    """Accuracy against training images: every seed, and a line through the means."""
    fig, (ax,) = figure(width=8, height=3.8)
    for name, runs in rows.items():
        color, mark, line = STYLES[name]
        means = [values.mean() for values in runs.values()]
        style = {"color": color, "marker": mark, "ls": line, "lw": 2}
        ax.semilogx(list(runs), means, label=name, **style)
        for number, values in runs.items():
            places = [number] * len(values)
            ax.plot(places, values, mark, color=color, ms=4, alpha=0.5, ls="none")
    numbers = list(next(iter(rows.values())))
    ax.set_xticks(numbers, [f"{number:,}" for number in numbers])
    ax.minorticks_off()
    ax.set(xlabel="training images", ylabel="test accuracy, %")
    ax.grid(axis="y", alpha=0.3)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    said = [
        f"{name}: " + ", ".join(f"{values.mean():.0f} %" for values in runs.values())
        for name, runs in rows.items()
    ]
    return describe(
        fig,
        "Test accuracy against the number of training images, "
        f"{', '.join(f'{number:,}' for number in numbers)}, on a log axis, for "
        f"{len(rows)} models: a mark for each seed, and a line through the means. "
        f"{'; '.join(said)}.",
    )
