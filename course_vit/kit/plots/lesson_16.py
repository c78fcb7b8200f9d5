"""Figures of lesson 16: a batch in two halves, a ring, losses, memory."""

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from . import BLACK, BLUE, ORANGE, VERMILION, describe, draw_image, figure


def cut_in_two(images: Tensor, whole: Tensor, halves: Sequence[Tensor]) -> Figure:
    """A batch `b 1 h w` in two rows, and the gradients of its halves and their mean."""
    fig, (left, right) = figure(1, 2, height=4.2)
    framed = F.pad(images, (1, 1, 1, 1), value=1)
    rows = rearrange(framed, "(r n) 1 h w -> r h (n w)", r=2)
    gap = torch.ones(6, rows.shape[-1])
    draw_image(left, torch.cat([rows[0], gap, rows[1]]), vmin=0, vmax=1)
    for text, color, y in (("process 0", BLUE, -1), ("process 1", VERMILION, 15)):
        left.text(0, y, text, color=color, va="bottom", weight="bold")
    places = torch.logspace(0, 1, 800, base=len(whole)).long().unique() - 1
    shown = whole.abs().argsort(descending=True)[places]  # many large, few small ones
    largest = whole.abs().max().item()
    ends = [-largest, largest]
    right.plot(ends, ends, color="#999999", lw=1)
    marks = ((halves[0], BLUE, "+"), (halves[1], VERMILION, "x"))
    for number, (half, color, marker) in enumerate(marks):
        style = {"color": color, "marker": marker, "ls": "", "ms": 5, "alpha": 0.5}
        right.plot(whole[shown], half[shown], label=f"process {number}", **style)
    mean = (halves[0] + halves[1]) / 2
    style = {"color": BLACK, "marker": ".", "ls": "", "ms": 4}
    right.plot(whole[shown], mean[shown], label="mean of both", **style)
    right.set(xlabel="gradient of the whole batch", ylabel="gradient of a half")
    right.legend(frameon=False)
    off = (mean - whole).abs().max().item()
    where = "on it" if off < 1e-6 else f"up to {off:.2g} away from it"
    return describe(
        fig,
        f"Left: {len(images)} digits in two rows, the first for process 0, the second "
        f"for process 1. Right: {len(shown)} entries of the gradient, from one half "
        "against those from the whole batch, with a line where both are equal. The "
        "marks of the two processes lie scattered on both sides of the line; the means "
        f"of both lie {where}.",
    )


def ring(world_size: int) -> Figure:
    """How many processes each chunk holds the sum of, after each exchange."""
    states = [torch.ones(world_size, world_size, dtype=torch.int)]
    for start in (0, 1):
        for step in range(world_size - 1):
            before, after = states[-1], states[-1].clone()
            for rank in range(world_size):
                chunk = (rank + start - step) % world_size
                own = 0 if start else before[(rank + 1) % world_size, chunk]
                after[(rank + 1) % world_size, chunk] = own + before[rank, chunk]
            states.append(after)
    fig, axes = figure(1, len(states), width=1.45 * len(states), height=2.2)
    rounds = ["first"] * (world_size - 1) + ["second"] * (world_size - 1)
    titles = ["start", *(f"{name} round" for name in rounds)]
    for ax, state, title in zip(axes, states, titles, strict=True):
        draw_image(ax, state, cmap="Blues", vmin=0, vmax=1.6 * world_size)
        for (row, column), count in zip(
            torch.cartesian_prod(*[torch.arange(world_size)] * 2).tolist(),
            state.flatten().tolist(),
            strict=True,
        ):
            weight = "bold" if count == world_size else "normal"
            ax.text(column, row, count, ha="center", va="center", weight=weight)
        ax.set_title(title)
    axes[0].axis("on")
    axes[0].set_xticks(range(world_size))
    axes[0].set_yticks(range(world_size))
    axes[0].set(xlabel="chunk", ylabel="process")
    done = [int((state == world_size).sum()) for state in states]
    return describe(
        fig,
        f"{len(states)} tables, one at the start and one after each exchange, with "
        f"{world_size} processes as rows and {world_size} chunks as columns. A number "
        "says how many processes have added their numbers to a chunk. Finished chunks: "
        f"{', '.join(map(str, done))}.",
    )


def losses(alone: Tensor, own: Tensor, mean: Tensor) -> Figure:
    """Loss against step: one process, process 0 of two, and the mean of the two."""
    fig, (ax,) = figure(width=7, height=3.2)
    steps = range(1, len(alone) + 1)
    ax.plot(steps, alone, color=BLUE, lw=2, label="one process")
    ax.plot(steps, own, "x", color=VERMILION, label="process 0 of two")
    style = {"mfc": "none", "ms": 9, "mew": 1.5}
    ax.plot(steps, mean, "o", color=ORANGE, label="mean of two processes", **style)
    ax.set(xlabel="step", ylabel="loss", xticks=range(5, len(alone) + 1, 5))
    ax.legend(frameon=False)
    on = "on" if (mean - alone).abs().max() < 1e-5 else "beside"
    off = "differ from" if (own - alone).abs().max() > 1e-2 else "agree with"
    return describe(
        fig,
        f"Loss against step, 1 to {len(alone)}. A line for the run in one process, "
        f"which falls. The losses of process 0 of two {off} it; the means of both "
        f"processes lie {on} the line in every step.",
    )


def attention_memory(sides: Sequence[int], kept: Mapping[str, list[float]]) -> Figure:
    """MiB that one attention keeps for the backward pass, against the image's side."""
    fig, (ax,) = figure(width=7, height=3.4)
    styles = [{"color": VERMILION, "marker": "o"}, {"color": BLUE, "marker": "s"}]
    for (name, values), style in zip(kept.items(), styles, strict=True):
        ax.loglog(sides, values, lw=2, label=name, **style)
    ax.set_xticks(sides, map(str, sides))
    ax.minorticks_off()
    ax.set_yticks([1, 10, 100], ["1", "10", "100"])
    ax.set(xlabel="side of the image in pixels", ylabel="MiB kept for backward")
    ax.legend(frameon=False)
    listed = "; ".join(
        f"{name}: {', '.join(f'{value:.1f}' for value in values)}"
        for name, values in kept.items()
    )
    return describe(
        fig,
        "MiB that attention keeps for the backward pass against the side of the image, "
        f"both axes logarithmic, at {', '.join(map(str, sides))} pixels. {listed}.",
    )
