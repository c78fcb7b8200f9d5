"""Figures of lesson 07: curves, confusion, comparisons."""

import math
from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from ...vision_transformer import VisionTransformer
from . import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILION,
    describe,
    draw_image,
    figure,
    tiles,
)

TRAINING, TEST, NEW = BLUE, VERMILION, PURPLE
Rows = Mapping[str, Mapping[str, Sequence[float]]]


def at_least(percent: float, step: int = 5) -> int:
    """A percentage rounded down, which is the same on every machine."""
    return int(percent // step * step)


def before_and_after(images: Tensor, labels: Tensor, trained: nn.Module) -> Figure:
    """Digits `b 1 8 8` with the answers of an untrained and of a trained model."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        untrained = VisionTransformer(8, 2, 1, 10, embed_dim=64, depth=3, num_heads=4)
        models = untrained.eval(), trained
        answers = [model(images).argmax(dim=1) for model in models]
    fig, axes = figure(1, len(images), height=2.1)
    for ax, image, *said in zip(axes, images, *answers, strict=True):
        draw_image(ax, image, str(said[0].item()))
        style = {"ha": "center", "va": "top", "size": 18, "weight": "bold"}
        ax.text(0.5, -0.06, said[1].item(), transform=ax.transAxes, **style)
        ax.title.set(size=18, color="#666666")
    fig.suptitle("above: answers before training, below: answers after training")
    listed = [", ".join(map(str, said.tolist())) for said in answers]
    right = [(said == labels).sum().item() for said in answers]
    return describe(
        fig,
        f"{len(images)} handwritten digits in a row. Above them the answers of an "
        f"untrained model: {listed[0]} (right: {right[0]}). Below them the answers "
        f"of a trained one: {listed[1]} (right: {right[1]}).",
    )


def named_images(images: Tensor, names: Sequence[str]) -> Figure:
    """Images `b c h w`, each under the name of its class."""
    height, width = images.shape[2:]
    return describe(
        tiles(images, names, columns=8),
        f"{len(images)} training images of {height} by {width} pixels in rows of "
        f"eight, each under the name of its class: {', '.join(names[:8])} in row 1.",
    )


def losses(curves: Mapping[str, Sequence[float]], classes: int = 10) -> Figure:
    """Loss against step, beside what a blind guess among the classes costs."""
    fig, (ax,) = figure(width=7, height=3.2)
    styles = [{"color": TRAINING}, {"color": ORANGE, "ls": "--"}]
    for (name, values), style in zip(curves.items(), styles, strict=False):
        ax.plot(range(1, len(values) + 1), values, label=name, lw=2, **style)
    blind_guess(ax, classes)
    ax.set(xlabel="step", ylabel="loss", ylim=(0, None))
    ax.legend(frameon=False)
    trends = [
        f"{name}: from {values[0]:.1f} to {values[-1]:.1f} in {len(values)} steps"
        for name, values in curves.items()
    ]
    return describe(
        fig,
        "Loss against step, with a dotted line at the cost of a blind guess, "
        f"{math.log(classes):.2f}. {'; '.join(trends)}.",
    )


def blind_guess(ax: Axes, classes: int = 10) -> None:
    ax.axhline(math.log(classes), color="#666666", ls=":", lw=1.5)


def schedule(curves: Mapping[str, Sequence[float]]) -> Figure:
    """The share of the peak learning rate against step."""
    fig, (ax,) = figure(width=7, height=2.8)
    styles = [{"color": GREEN}, {"color": ORANGE, "ls": "--"}]
    for (name, values), style in zip(curves.items(), styles, strict=True):
        ax.plot(values, label=name, lw=2, **style)
    ax.set(xlabel="step", ylabel="share of the peak rate", ylim=(0, 1.05))
    ax.legend(frameon=False, title="warm-up")
    trends = [
        f"{name}: {values[0]:.2f} at step 0, highest ({max(values):.2f}) at step "
        f"{list(values).index(max(values))}, {values[-1]:.2f} at the end"
        for name, values in curves.items()
    ]
    return describe(
        fig,
        "The share of the peak learning rate against step, one curve for each kind of "
        f"warm-up. {'; '.join(trends)}.",
    )


def moved_copies(image: Tensor, gentle: Tensor, strong: Tensor) -> Figure:
    """Two rows of copies of an image `1 c h w`, each after the original."""
    return describe(
        tiles(torch.cat([image, gentle, image, strong]), columns=1 + len(gentle)),
        f"Two rows; each starts with the original image. Top: {len(gentle)} copies, "
        "moved, turned and zoomed a little, which differ from it by "
        f"{(gentle - image).abs().mean():.2f} per pixel on average. Bottom: "
        f"{len(strong)} copies, changed more strongly, by "
        f"{(strong - image).abs().mean():.2f} per pixel.",
    )


def curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Training loss, test loss and test accuracy of a run of `fit`."""
    fig, (left, right) = figure(1, 2, height=3.4)
    draw_losses(left, history)
    left.legend(frameon=False)
    epochs = [record["epoch"] for record in history]
    accuracies = [record["val_accuracy"] for record in history]
    right.plot(epochs, accuracies, color=TEST, ls="--", lw=2)
    title = f"{100 * accuracies[-1]:.1f} % after {epochs[-1]} epochs"
    right.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1.02), title=title)
    first, last = history[0], history[-1]
    moves = [
        f"the {name} loss {'falls' if last[key] < first[key] else 'does not fall'}"
        for name, key in (("training", "loss"), ("test", "val_loss"))
    ]
    lower = "below" if last["val_loss"] < last["loss"] else "above"
    return describe(
        fig,
        f"Two panels against epoch, 1 to {epochs[-1]}. Left: {' and '.join(moves)}; "
        f"the test loss ends {lower} the training loss. Right: the test accuracy ends "
        f"at {at_least(100 * accuracies[-1])} percent or more.",
    )


def draw_losses(ax: Axes, history: Sequence[Mapping[str, float]]) -> None:
    epochs = [record["epoch"] for record in history]
    for key, name, style in (
        ("loss", "training", {"color": TRAINING, "ls": "-"}),
        ("val_loss", "test", {"color": TEST, "ls": "--"}),
    ):
        values = [record[key] for record in history]
        ax.plot(epochs, values, lw=2, label=name, **style)
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
                middle = {"ha": "center", "va": "center"}
                ax.text(x, y, count, color=color, weight=weight, **middle)
    share = 100 * counts.diagonal().sum().item() / counts.sum().item()
    return describe(
        fig,
        f"A table of counts with {len(names)} true classes as rows and the answers as "
        f"columns. At least {at_least(share)} percent of the {counts.sum()} images are "
        "on the diagonal, where answer and truth agree; the others are in bold.",
    )


def hardest(images: Sequence[Tensor], answers: list[str], truths: list[str]) -> Figure:
    """Images `c h w`, each under the model's answer and, in brackets, the truth."""
    titles = [f"{said}\n({truth})" for said, truth in zip(answers, truths, strict=True)]
    return describe(
        tiles(images, titles, columns=8, size=1.25),
        f"The {len(images)} test images whose true class got the smallest probability, "
        "in rows of eight. Above each is the model's answer and, in brackets, the "
        "truth.",
    )


def accuracies(rows: Rows, origin: str) -> Figure:
    """Test accuracies in the colours of this lesson; `origin` says which run."""
    return by_seed(rows, f"test accuracy, % ({origin})", (TEST, NEW))


def by_seed(
    rows: Rows, label: str, colors: Sequence[str] = (BLUE, VERMILION)
) -> Figure:
    """A dot per seed and a bar at the mean; each series has its colour and marker.

    `rows` maps a name to its series, and a series to its accuracies in percent.
    """
    fig = draw_by_seed(rows, label, colors)
    series = list(next(iter(rows.values())))
    means = {
        name: [f"{sum(values) / len(values):.1f}" for values in results.values()]
        for name, results in rows.items()
    }
    listed = "; ".join(f"{name} {' and '.join(row)}" for name, row in means.items())
    kinds = f" ({' and '.join(series)})" if len(series) > 1 else ""
    return describe(
        fig,
        f"Dot plot of the accuracy of {len(rows)} rows, a dot for each seed and a bar "
        f"at the mean. The means{kinds} in percent: {listed}.",
    )


def live_scores(scores: Mapping[str, float], label: str) -> Figure:
    """One accuracy (0 to 1) for each method, trained here and now."""
    rows = {name: {"live": [100 * score]} for name, score in scores.items()}
    lowest, highest = 100 * min(scores.values()), 100 * max(scores.values())
    return describe(
        draw_by_seed(rows, label, (TEST, NEW)),
        f"One mark for the test accuracy of each method: {', '.join(scores)}. All lie "
        f"between {at_least(lowest)} and {5 * math.ceil(highest / 5)} percent.",
    )


def draw_by_seed(rows: Rows, label: str, colors: Sequence[str]) -> Figure:
    fig, (ax,) = figure(width=8, height=0.8 + 0.46 * len(rows))
    styles = list(zip(colors, "os", (0.14, -0.14), strict=True))
    series = list(next(iter(rows.values())))
    for y, results in enumerate(reversed(rows.values())):
        for style, values in zip(styles, results.values(), strict=False):
            color, marker, lift = style
            place = y + (lift if len(series) > 1 else 0)
            ax.plot(values, [place] * len(values), marker, color=color, ms=5, alpha=0.6)
            ax.plot(sum(values) / len(values), place, "|", color=color, ms=16, mew=3)
    for (color, marker, _), name in zip(styles, series, strict=False):
        ax.plot([], [], marker, color=color, label=name)
    if len(series) > 1:
        ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    ax.set_yticks(range(len(rows)), list(reversed(rows)))
    lowest = min(min(values) for row in rows.values() for values in row.values())
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
    listed = "; ".join(
        f"{name}: {way(history, 'loss')}, {way(history, 'val_loss')}"
        for name, history in patients.items()
    )
    return describe(
        fig,
        f"{len(patients)} small panels of training loss and test loss against epoch, "
        f"with a dotted line at the cost of a blind guess, {math.log(10):.2f}. In each "
        "panel the loss in the first epoch, half-way and in the last, training then "
        f"test: {listed}.",
    )


def way(history: Sequence[Mapping[str, float]], key: str) -> str:
    """A curve in three numbers: at the start, half-way, at the end."""
    picked = history[0], history[len(history) // 2 - 1], history[-1]
    return " ".join(f"{record[key]:.2f}" for record in picked)


def two_best(
    images: Tensor, probabilities: Tensor, truth: Tensor, names: Sequence[str]
) -> Figure:
    """Images `b c h w`, each with the two likeliest classes and their probabilities."""
    columns = 4
    rows = -(-len(images) // columns)
    fig, axes = figure(rows, columns, width=9, height=2.3 * rows)
    for ax, image, chances in zip(axes, images, probabilities, strict=True):
        draw_image(ax, image)
        (best, second), (i, j) = (part.tolist() for part in chances.topk(2))
        ax.set_title(f"{names[i]} {best:.0%}\n{names[j]} {second:.0%}")
    right = (probabilities.argmax(dim=1) == truth).sum().item()
    share = "more than half" if 2 * right > len(images) else "half or fewer"
    return describe(
        fig,
        f"{len(images)} test images; above each are the two likeliest classes with "
        f"their probabilities. The likelier one is right for {share} of the images.",
    )
