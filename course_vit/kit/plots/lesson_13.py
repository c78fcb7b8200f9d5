"""Figures of lesson 13: how loud a mistake is, what a model has read."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from . import BLUE, VERMILION, draw_image, figure

FLOOR = 1e-16  # a gap of 0 is drawn here


def loudness(gaps: Mapping[str, Mapping[str, float]]) -> Figure:
    """Gaps by kind of weights and by mistake, on one logarithmic axis."""
    fig, (ax,) = figure(width=9.0, height=3.2)
    styles = {"color": BLUE, "marker": "o"}, {"color": VERMILION, "marker": "D"}
    names = list(next(iter(gaps.values())))
    for (row, gap_of), style in zip(gaps.items(), styles, strict=True):
        values = [max(gap_of[name], FLOOR) for name in names]
        ax.plot(values, range(len(names)), linestyle="", ms=9, label=row, **style)
    ax.axvline(1e-9, color="0.4", linestyle="--")
    ax.text(1.5e-9, -0.7, "found from here on", color="0.3")
    ax.set_yticks(range(len(names)), names)
    ax.set(xscale="log", ylim=(len(names) - 0.5, -1.1))
    ax.set_xlabel("largest difference of the logits, in standard deviations")
    ax.grid(axis="y", color="0.9")
    ax.legend(loc="lower left", framealpha=1)
    return fig


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
        title = f"{read}" if read == label else f"{read}, not {label}"
        draw_image(axes[index], image, title)
        places = rollout[index, 0, -grid_size[0] * grid_size[1] :].unflatten(
            0, grid_size
        )
        draw_image(axes[index + len(images)], places, cmap="cividis")
    return fig
