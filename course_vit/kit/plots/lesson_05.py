"""Figures of lesson 05: the encoder block."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor
from torch.nn import functional as F

from . import (
    AXIS_COLORS,
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    SKY,
    VERMILION,
    describe,
    draw_image,
    figure,
    tiles,
)


def one_block() -> Figure:
    """The block of ViT: two steps, each of which adds its result to the tokens."""
    fig, (ax,) = figure(height=2.1)
    draw_plan(ax, ["norm look", "+", "norm think", "+"], 11.1, start=1.5)
    for x, text, side in ((0.0, "tokens in\nb n d", "left"), (11.2, "out", "left")):
        ax.text(x, 0, text, ha=side, va="center")
    return describe(
        fig,
        "Diagram of one block: a thick arrow carries the tokens from left to right. "
        "Two detours leave it and are added back to it: the first passes a norm and "
        "attention, the second a norm and an MLP.",
    )


def averaged(
    pictures: Sequence[Tensor], rounds: Sequence[int], patch_size: int
) -> Figure:
    """An image `c h w` after some rounds in which its patches were averaged."""
    spreads = [spread(picture, patch_size) for picture in pictures]
    listed = ", ".join(f"{value:.2f}" for value in spreads)
    trend = (
        "falls from picture to picture"
        if all(a > b for a, b in pairwise(spreads))
        else "does not fall every time"
    )
    end = " In the last picture all patches look the same." * (spreads[-1] < 0.01)
    return describe(
        tiles(pictures, [f"round {i}" for i in rounds], len(pictures), size=1.8),
        f"An image after {', '.join(map(str, rounds))} rounds of attention over its "
        "patches. How far the patches typically are from their mean: "
        f"{listed}, so it {trend}.{end}",
    )


def spread(image: Tensor, patch_size: int) -> float:
    """The typical distance of the patches of an image `c h w` from their mean."""
    patches = F.unfold(image[None], patch_size, stride=patch_size)
    return (patches - patches.mean(dim=2, keepdim=True)).square().mean().sqrt().item()


def normalised(pictures: Sequence[Tensor], outs: Sequence[Tensor]) -> Figure:
    """A picture in two lights, and both `c h w` with every patch normalised."""
    before, after = (
        (first - second).abs().mean() for first, second in (pictures, outs)
    )
    shown = [(0.5 + 0.2 * out).clamp(0, 1) for out in outs]
    titles = ["before", "before, less light", "normed", "normed, less light"]
    return describe(
        tiles([*pictures, *shown], titles, columns=4, size=2.2),
        "Four pictures: a photograph, the same photograph in less light, and both "
        "with every patch normalised, so that texture and edges inside the patches "
        f"are left. The first two differ by {before:.2f} on average, the last two by "
        f"{after:.2f}.",
    )


def dropout_on_pixels(image: Tensor, draw: Tensor, mean: Tensor) -> Figure:
    """An image `c h w`, one draw of dropout, and the mean of many draws."""
    titles = ["input", "one draw", "mean of 200 draws"]
    pictures = [image, draw.clamp(0, 1), mean.clamp(0, 1)]
    lost = (draw == 0).float().mean()
    return describe(
        tiles(pictures, titles, columns=3, size=2.4),
        f"Three pictures: an image; one draw of dropout, in which {lost:.0%} of the "
        "numbers are 0 and the others brighter, like coloured snow; and the mean of "
        f"many draws, which is {(mean - image).abs().mean():.2f} off the image on "
        "average.",
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
    left.set(xlabel="number in", ylabel="number out", title="the curves")
    right.set(
        xlabel="number in",
        ylabel=f"difference from {exact}",
        title="two approximations",
    )
    for ax in (left, right):
        ax.legend(frameon=False)
    lows = ", ".join(f"{name} {y.min():.2f}" for name, y in curves.items())
    offs = ", ".join(
        f"{line.get_label()} at most {abs(line.get_ydata()).max():.4f}"
        for line in right.lines
    )
    return describe(
        fig,
        f"Left, line chart: number out against number in from {x.min():.0f} to "
        f"{x.max():.0f}; lowest values: {lows}; all of them follow the diagonal for "
        f"large numbers. Right, the difference from {exact}: {offs}.",
    )


def changed_by(changed: Mapping[str, Tensor], place: tuple[int, int, int]) -> Figure:
    """For each norm, the numbers `b n d` that changed when one of them was changed."""
    images = len(next(iter(changed.values())))
    fig, axes = figure(images, len(changed), height=1.35 * images + 0.4)
    for column, (title, numbers) in enumerate(changed.items()):
        for row, sheet in enumerate(numbers):
            ax = axes[row * len(changed) + column]
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
            if row == place[0]:
                corner = (place[2] - 0.5, place[1] - 0.5)
                ax.add_patch(Rectangle(corner, 1, 1, fill=False, ec=VERMILION, lw=4))
    found = [
        f"{title}: {numbers.sum()} numbers, in "
        f"{(n := int(numbers.flatten(1).any(dim=1).sum()))} image{'s' * (n > 1)}, "
        f"{(n := int(numbers.any(dim=2).sum()))} token{'s' * (n > 1)} and "
        f"{(n := int(numbers.flatten(0, 1).any(dim=0).sum()))} channel{'s' * (n > 1)}"
        for title, numbers in changed.items()
    ]
    return describe(
        fig,
        f"For each norm {images} small tables, one per image, tokens as rows and "
        f"channels as columns. One number of image {place[0]} is framed; coloured are "
        f"the outputs that changed with it. {'; '.join(found)}.",
    )


def wirings() -> Figure:
    """Where the norm stands: post-norm, pre-norm, and a mistake between them."""
    fig, axes = figure(3, 1, height=4.9)
    plans = {
        "post-norm (2017)": ["look", "+", "norm", "think", "+", "norm"],
        "pre-norm (ViT)": ["norm look", "+", "norm think", "+"],
        "a mistake": ["norm look", "+", "norm", "think", "+"],
    }
    for ax, (title, steps) in zip(axes, plans.items(), strict=True):
        ax.set_title(title, loc="left", weight="bold")
        draw_plan(ax, steps, 10.9)
    return describe(
        fig,
        "Three diagrams, each a thick arrow from left to right with two detours that "
        "are added back to it. Post-norm: detours through attention and MLP, and after "
        "each sum a norm on the arrow itself. Pre-norm: each detour first passes a "
        "norm, then attention or MLP; the arrow passes two sums and nothing else. A "
        "mistake: like pre-norm, but the second norm has slipped from the detour onto "
        "the arrow.",
    )


def draw_plan(ax: Axes, steps: Sequence[str], end: float, start: float = 0.1) -> None:
    """Draw the stream of tokens as a thick arrow, and on it the steps of a block."""
    ax.set(xlim=(0, end + 0.1 + start / 2), ylim=(-0.65, 1.75))
    ax.axis("off")
    ax.annotate("", (end, 0), (start, 0), arrowprops={"arrowstyle": "->", "lw": 3})
    x = start + 0.6
    for step in steps:
        x = draw_step(ax, step, x)


def draw_step(ax: Axes, step: str, x: float) -> float:
    """Draw a norm or a sum on the stream, or a branch above it; return its end."""
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
    first, *others = rows.items()
    seen = [
        f"{name}: {(row[first[1] > 0] == 0).float().mean():.0%} of the lit pixels are "
        f"black, and {int((row == 0).flatten(1).all(dim=1).sum())} of {images} images "
        "entirely"
        for name, row in others
    ]
    return describe(
        fig,
        f"{len(rows)} rows of the same {images} digits. Top: as they are. "
        f"{'; '.join(seen)}. The pixels that are left are brighter.",
    )


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
    seen = [
        f"{name}: {label} from {line[0]:.1f} in the first block to {line[-1]:.1f} in "
        "the last"
        for name, starts in measured.items()
        for label, line in zip(labels, starts.mean(dim=0), strict=True)
    ]
    return describe(
        fig,
        "Two line charts against the block, means over several starts with a thin line "
        f"for each start. {'; '.join(seen)}.",
    )


def learning(
    losses: Mapping[str, Mapping[str, Sequence[float]]],
    guessing: float,
    limit: float,
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
    seen = [
        f"{title}, {name}: above {limit} in {sum(loss > limit for loss in curve)} of "
        f"{len(curve)} steps"
        for title, curves in losses.items()
        for name, curve in curves.items()
    ]
    return describe(
        fig,
        "Line charts of the loss on 20 digits against training steps, with a dotted "
        f"line at {guessing:.1f}, the loss of guessing. {'; '.join(seen)}.",
    )
