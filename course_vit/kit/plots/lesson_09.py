"""Figures of lesson 09: a teacher's doubts, two tokens, what a student takes over."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from . import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    describe,
    draw_image,
    figure,
    tiles,
)


def label_and_teacher(data: TensorDataset, unseen: TensorDataset) -> Figure:
    """What a label and what a simple teacher say about four unseen digits.

    This teacher lets the digits of `data` vote, each with more weight the nearer it is.
    """
    known, new = (part.tensors[0].flatten(1) for part in (data, unseen))
    near = (-torch.cdist(new, known).square()).softmax(dim=1)
    said = near @ F.one_hot(data.tensors[1], 10).float()
    hard = said.amax(dim=1).argsort()[:4]
    images, labels = (part[hard] for part in unseen.tensors)
    voices = {"label": F.one_hot(labels, 10).float(), "teacher": said[hard]}
    fig = opinions(images, labels, voices)
    fig.set_size_inches(7.2, 4)
    seen = [int((row > 0.05).sum()) for row in said[hard]]
    return describe(
        fig,
        "Four digits that are hard to read. Under each, ten bars for the classes 0 to "
        "9: the label puts everything on one class; the teacher gives more than 5 % to "
        f"{', '.join(map(str, seen[:-1]))} and {seen[-1]} classes.",
    )


def opinions(images: Tensor, labels: Tensor, readers: Mapping[str, Tensor]) -> Figure:
    """Images `b c h w`, below each what every reader `b k` thinks of it.

    The bar of the true class is orange, with a mark above it.
    """
    rows, columns = 1 + len(readers), len(images)
    ratios = [1.0] + [0.8] * len(readers)
    fig, axes = figure(
        rows, columns, width=9.5, height=0.4 + 1.2 * rows, height_ratios=ratios
    )
    for ax, image in zip(axes, images, strict=False):
        draw_image(ax, image)
    for row, (reader, probabilities) in enumerate(readers.items(), 1):
        line = axes[row * columns : (row + 1) * columns]
        for ax, bars, label in zip(line, probabilities, labels.tolist(), strict=True):
            draw_bars(ax, bars, label)
            if row < rows - 1:
                ax.set_xticklabels([])
        line[0].set_yticks([0, 1], ["0", "1"])
        line[0].set_ylabel(reader)
    found = {
        reader: (bars.topk(2).indices == labels[:, None]).any(dim=1).float().mean()
        for reader, bars in readers.items()
    }
    highest = {reader: bars.amax().item() for reader, bars in readers.items()}
    said = [
        f"{reader}: the highest bar is {'below' if highest[reader] < 0.3 else 'above'} "
        f"30 %, and the true class is {'' if share > 0.5 else 'not '}among the first "
        "two for most digits."
        for reader, share in found.items()
    ]
    return describe(
        fig,
        f"{columns} digits; below each, for each reader, bars for the probabilities of "
        "the classes 0 to 9, the bar of the true class orange and marked. "
        + " ".join(said),
    )


def draw_bars(ax: Axes, bars: Tensor, label: int) -> None:
    """Probabilities of all classes; the true one is orange, with a mark above it."""
    drawn = ax.bar(range(len(bars)), bars.cpu(), color=BLUE)
    drawn[label].set_color(ORANGE)
    ax.plot(label, bars[label].item() + 0.12, "v", color=ORANGE, ms=7)
    ax.set(ylim=(0, 1), yticks=[], xticks=[0, 3, 6, 9])


def relatives(answers: Tensor) -> Figure:
    """What a teacher's mean answer to each class gives to the others, `k k`."""
    fig, (ax,) = figure(width=5.4, height=4.4)
    others = 100 * answers.cpu()
    others.fill_diagonal_(torch.nan)
    drawn = ax.imshow(others, cmap="cividis")
    ax.set(xlabel="class", ylabel="label of the digit")
    ax.set_xticks(range(len(others)))
    ax.set_yticks(range(len(others)))
    fig.colorbar(drawn, label="probability, %")
    others.fill_diagonal_(0)
    uneven = others.amax(dim=1) / others.sum(dim=1) * (len(others) - 1)
    return describe(
        fig,
        f"A table of {len(others)} rows, the label of a digit, and {len(others)} "
        "columns, the classes; the shade is the teacher's mean probability, the "
        "diagonal left out. The rows are uneven: the brightest field of a row is on "
        f"average {uneven.mean():.0f} times as bright as the mean of its fields.",
    )


def two_tokens() -> Figure:
    """DeiT in training, with letters where exercise 9.1 asks for names."""
    fig, (ax,) = figure(width=9.5, height=4.0)
    ax.set(xlim=(0, 12), ylim=(0, 5))
    ax.axis("off")
    ink = {"ha": "center", "va": "center"}
    for index in range(7):
        low = 4.2 - 0.6 * index
        color = (VERMILION, PURPLE, SKY)[min(index, 2)]
        for left in (1.6, 4.9):
            ax.add_patch(Rectangle((left, low), 0.8, 0.5, color=color))
        if index < 2:
            ax.text(2.0, low + 0.25, "AB"[index], color="white", weight="bold", **ink)
    ax.text(2.0, 0.3, "tokens", **ink)
    ax.text(5.3, 0.3, "tokens", **ink)
    ax.text(0.65, 2.0, "image", **ink)
    ax.add_patch(Rectangle((3.0, 0.6), 1.3, 4.1, color=BLUE))
    ax.text(3.65, 2.65, "blocks\nand\nnorm", color="white", **ink)
    for low, head, target, loss in ((4.2, "C", "E", 1), (2.3, "D", "F", 2)):
        ax.add_patch(Rectangle((6.7, low), 0.8, 0.5, color=GREEN))
        ax.text(7.1, low + 0.25, head, color="white", weight="bold", **ink)
        ax.text(9.1, low + 0.25, f"loss {loss}", **ink)
        ax.add_patch(Rectangle((10.7, low), 0.8, 0.5, color=ORANGE))
        ax.text(11.1, low + 0.25, target, weight="bold", **ink)
    arrows = [
        ((1.1, 2.0), (1.5, 2.0)),
        ((2.5, 2.65), (2.95, 2.65)),
        ((4.35, 2.65), (4.8, 2.65)),
        ((5.75, 4.45), (6.65, 4.45)),
        ((5.75, 3.85), (6.65, 2.6)),
        ((7.55, 4.45), (8.5, 4.45)),
        ((7.55, 2.55), (8.5, 2.55)),
        ((10.65, 4.45), (9.7, 4.45)),
        ((10.65, 2.55), (9.7, 2.55)),
    ]
    for start, end in arrows:
        ax.annotate("", end, start, arrowprops={"arrowstyle": "->"})
    return describe(
        fig,
        "DeiT in training, from left to right: an image becomes seven tokens in a "
        "column, the first marked A and the second B. They pass the blocks and the "
        "norm. Then an arrow leads from the first token to box C and one from the "
        "second to box D. Loss 1 is between C and a box E, loss 2 between D and a box "
        "F.",
    )


def temperatures(image: Tensor, logits: Tensor, taus: Sequence[float]) -> Figure:
    """One image and its logits `k`, made probabilities at each temperature."""
    fig, axes = figure(1, 1 + len(taus), height=2.3)
    draw_image(axes[0], image)
    for ax, tau in zip(axes[1:], taus, strict=True):
        ax.bar(range(len(logits)), (logits / tau).softmax(dim=0).cpu(), color=BLUE)
        ax.set(title=f"tau = {tau}", ylim=(0, 1), xticks=[0, 3, 6, 9], xlabel="class")
        ax.set_yticks([0, 0.5, 1], ["0", "", "1"])
    axes[1].set_ylabel("probability")
    shown = [int(((logits / tau).softmax(dim=0) > 0.02).sum()) for tau in taus]
    return describe(
        fig,
        "A digit and the teacher's probabilities for it at the temperatures "
        f"{', '.join(map(str, taus))}: bars for the classes 0 to 9, flatter at each "
        f"higher temperature. At the last one, {shown[-1]} classes have more than 2 %.",
    )


def disagreements(images: Tensor, labels: Tensor, says: Tensor) -> Figure:
    """Images `b c h w`, each under its label and the teacher's different answer."""
    pairs = zip(labels.tolist(), says.tolist(), strict=True)
    differ = int((labels != says).sum())
    titles = [f"label {label}\nteacher {said}" for label, said in pairs]
    return describe(
        tiles(images, titles, columns=len(images)),
        f"{len(images)} digits after a strong move, turn and zoom, each under its "
        f"label and the teacher's answer; the two differ in {differ} of "
        f"{len(images)}.",
    )


def two_tokens_through_depth(cosines: Sequence[float], shares: Tensor) -> Figure:
    """The cosine of both tokens after each block; who agrees with whom, in percent."""
    fig, (left, right) = figure(1, 2, height=3.9, width_ratios=[1, 1.15])
    left.plot(range(len(cosines)), cosines, "o-", color=BLUE, lw=2)
    left.axhline(0, color="#666666", ls=":", lw=1)
    left.set(xlabel="blocks passed", ylabel="cosine of the two tokens")
    left.set(ylim=(-0.3, 1.02), xticks=range(len(cosines)))
    names = ["class", "distillation", "teacher", "label"]
    low = float(shares.min()) - 2
    right.imshow(shares, cmap="cividis", vmin=low, vmax=100)
    right.set_xticks(range(4), names, rotation=35, ha="right")
    right.set_yticks(range(4), names)
    for y, row in enumerate(shares.tolist()):
        for x, share in enumerate(row):
            color = "black" if share > (low + 100) / 2 else "white"
            right.text(x, y, f"{share:.1f}", color=color, ha="center", va="center")
    right.set_title("same answer, % of unseen digits")
    steps = pairwise(cosines)
    rises = sum(before < after for before, after in steps)
    start = "near" if abs(cosines[0]) < 0.3 else "away from"
    least = int(shares.min() // 10 * 10)
    return describe(
        fig,
        "Left: the cosine of class and distillation token against the blocks "
        f"passed. It starts {start} 0 and rises in "
        f"{rises} of {len(cosines) - 1} blocks. Right: a table of how often class "
        "head, distillation head, teacher and label give the same answer on unseen "
        f"digits; each pair agrees on more than {least} of 100.",
    )


def wrong_answers(teacher: Tensor, heads: Mapping[str, Tensor]) -> Figure:
    """Centred logits of the wrong classes `b k`: each head's against the teacher's."""
    fig, axes = figure(1, len(heads), width=8, height=3.6, sharex=True, sharey=True)
    for ax, (name, logits) in zip(axes, heads.items(), strict=True):
        dots = teacher.flatten().cpu(), logits.flatten().cpu()
        ax.plot(*dots, "o", color=BLUE, ms=3, alpha=0.3)
        ax.axline((0, 0), slope=1, color=VERMILION, ls="--", lw=1.5)
        ax.set(title=name, xlabel="teacher: logit of a wrong class")
    axes[0].set_ylabel("the head's logit")
    slopes = {
        name: float((x * teacher).sum() / teacher.square().sum())
        for name, x in heads.items()
    }
    steep, flat = max(slopes, key=slopes.get), min(slopes, key=slopes.get)
    return describe(
        fig,
        f"Clouds of dots in {len(heads)} panels, a dot for each wrong class of "
        f"{len(teacher)} unseen digits: the head's logit against the teacher's. A "
        f"dashed diagonal marks equal logits. The cloud of the {steep} is the steeper "
        f"one, the cloud of the {flat} is flatter.",
    )


def gains(
    tables: Mapping[str, Mapping[str, tuple[float, float]]], label: str
) -> Figure:
    """A panel per title; per row of it a mean difference with its interval.

    The first panel has all rows, a later one may lack some.
    """
    rows = list(next(iter(tables.values())))
    height = 1.3 + 0.4 * len(rows)
    fig, axes = figure(1, len(tables), height=height, sharey=True, sharex=True)
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        for row, (mean, half) in table.items():
            ax.errorbar(
                mean, rows.index(row), xerr=half, fmt="o", color=BLUE, capsize=4
            )
        ax.axvline(0, color=VERMILION, ls="--", lw=1.5)
        ax.set_title(title)
        ax.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    fig.supxlabel(label, fontsize=12)
    said = {
        title: "; ".join(f"{row}: {mean:+.1f}" for row, (mean, _) in table.items())
        for title, table in tables.items()
    }
    intervals = [
        (row, title, mean, half)
        for title, table in tables.items()
        for row, (mean, half) in table.items()
    ]
    clear = [
        f"{row} ({title})" for row, title, mean, half in intervals if abs(mean) > half
    ]
    return describe(
        fig,
        "Mean differences in points as dots, with intervals; a dashed line marks zero. "
        + " ".join(f"{title}, {line}." for title, line in said.items())
        + f" {len(intervals) - len(clear)} of {len(intervals)} intervals contain zero; "
        f"clear of it: {'; '.join(clear) or 'none'}.",
    )
