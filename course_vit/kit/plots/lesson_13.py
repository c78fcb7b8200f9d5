"""Figures of lesson 13: how large a mistake is, what a model has read."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from . import BLUE, VERMILION, describe, draw_image, figure

FLOOR = 1e-16  # a gap of 0 is drawn here
LIMIT = 1e-9


def gaps_found(gaps: Mapping[str, Mapping[str, float]]) -> Figure:
    """Gaps by kind of weights and by mistake, on one logarithmic axis."""
    fig, (ax,) = figure(width=9.0, height=3.2)
    styles = (
        {"color": BLUE, "marker": "o", "ms": 12},
        {"color": VERMILION, "marker": "D", "ms": 7},
    )
    names = list(next(iter(gaps.values())))
    for (row, gap_of), style in zip(gaps.items(), styles, strict=True):
        values = [max(gap_of[name], FLOOR) for name in names]
        ax.plot(values, range(len(names)), linestyle="", label=row, **style)
    ax.axvline(LIMIT, color="0.4", linestyle="--")
    ax.text(1.5 * LIMIT, -0.7, "found from here on", color="0.3")
    ax.set_yticks(range(len(names)), names)
    ax.set(xscale="log", ylim=(len(names) - 0.5, -1.1))
    ax.set_xlabel("largest difference of the logits, in standard deviations")
    ax.grid(axis="y", color="0.9")
    ax.legend(loc="lower left", framealpha=1)
    found = "; ".join(
        f"{name}: "
        + ", ".join(f"{row} {in_words(it[name])}" for row, it in gaps.items())
        for name in names
    )
    return describe(
        fig,
        f"Gaps of {len(names)} models on a logarithmic axis, a circle on one kind of "
        f"weights and a diamond on the other; a dashed line at 1e-9. {found}.",
    )


def in_words(gap: float) -> str:
    """A gap with one digit, or that it is below the limit."""
    return f"{gap:.1g}" if gap > LIMIT else "below 1e-9"


def readings(
    images: Tensor,
    labels: Tensor,
    logits: Tensor,
    rollout: Tensor,
    grid_size: tuple[int, int],
) -> Figure:
    """Images `b 1 h w` with the class read, and rollout `b n m` of the class token."""
    fig, axes = figure(2, len(images), width=9.5, height=2.4)
    parts = zip(images, labels.tolist(), logits.argmax(dim=-1).tolist(), strict=True)
    for index, (image, label, read) in enumerate(parts):
        title = f"{read}" if read == label else f"{read} for {label}"
        draw_image(axes[index], image, title)
        places = rollout[index, 0, -grid_size[0] * grid_size[1] :].unflatten(
            0, grid_size
        )
        draw_image(axes[index + len(images)], places, cmap="cividis")
    read = (logits.argmax(dim=-1) == labels).float().mean().item()
    most = "most" if read > 0.5 else "half or fewer"
    return describe(
        fig,
        f"{len(images)} digits in the top row, each with what the model reads; {most} "
        f"of them are read right. Below each a map of {grid_size[0]} by {grid_size[1]} "
        "patches, brighter where rollout finds more of the patch in the class token.",
    )
