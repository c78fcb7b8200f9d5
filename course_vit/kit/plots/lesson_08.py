"""Figures of lesson 08: what a model looks at, and the controls beside it."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.nn import functional as F

from . import BLACK, BLUE, VERMILION, describe, draw_image, figure
from .lesson_02 import similarity_tiles


@torch.no_grad()
def block_by_block(model: nn.Module, image: Tensor) -> Figure:
    """An image `1 h w`, and what the class token looks at in each block of a model."""
    x, maps = model.embed(image[None]), []
    for block in model.blocks:
        weights = block.attn.attention_map(block.norm1(x))  # b h n m
        maps.append(weights[0, :, 0, 1:].mean(dim=0).unflatten(0, model.grid_size))
        x = block(x)
    titles = [f"block {number}" for number in range(len(maps))]
    return class_maps(image, torch.stack(maps)[None], titles)


def class_maps(
    image: Tensor, maps: Tensor, titles: Sequence[str], rows: Sequence[str] = ("",)
) -> Figure:
    """A digit `1 h w`, then maps `rows columns gh gw` under its outline, one scale."""
    height = 9 / (len(titles) + 1) * len(rows) + 0.4
    columns = len(titles) + 1
    fig, axes = figure(len(rows), columns, height=height)
    for row, name in enumerate(rows):
        first, *others = axes[row * columns : (row + 1) * columns]
        draw_image(first, image, "the digit" if row == 0 else "")
        place = {"ha": "right", "va": "center", "rotation": 90}
        first.text(-0.06, 0.5, name, transform=first.transAxes, **place)
        for ax, weights, title in zip(others, maps[row], titles, strict=True):
            picture = draw_map(ax, weights, image, maps.max().item())
            ax.set_title(title if row == 0 else "")
    fig.colorbar(picture, ax=axes, shrink=0.8, label="weight", fraction=0.03)
    gh, gw = maps.shape[2:]
    strongest = [
        f"{row} {title}: {weights.max():.2f}".strip()
        for row, part in zip(rows, maps, strict=True)
        for title, weights in zip(titles, part, strict=True)
    ]
    return describe(
        fig,
        f"A handwritten digit, and {len(strongest)} maps of {gh} by {gw} patches with "
        "the outline of the digit on them: how much the class token looks at each "
        f"patch. Weight of the strongest patch: {', '.join(strongest)}.",
    )


def draw_map(ax: Axes, weights: Tensor, image: Tensor, most: float) -> AxesImage:
    """A map `gh gw` from 0 to `most`, with the outline of the image `1 h w` on it."""
    height, width = image.shape[1:]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    picture = ax.imshow(weights.cpu(), extent=extent, vmin=0, vmax=most)
    closed = F.pad(image[0].cpu(), (1, 1, 1, 1))  # an outline that ends at no edge
    steps = range(-1, height + 1), range(-1, width + 1)
    ax.contour(*steps[::-1], closed, levels=[0.4], colors="white", linewidths=1.5)
    ax.set(xlim=extent[:2], ylim=extent[2:])
    ax.axis("off")
    return picture


def distances(panels: Mapping[str, tuple[Tensor, float]]) -> Figure:
    """Mean attention distance `blocks h` of some models, each with the uniform one."""
    fig, axes = figure(1, len(panels), height=3.4)
    for ax, (title, (heads, uniform)) in zip(axes, panels.items(), strict=True):
        for block, values in enumerate(heads.cpu()):
            ax.plot([block] * len(values), values, "o", color=BLUE, mfc="none")
        ax.axhline(uniform, color=VERMILION, ls="--")
        ax.text(0, 0.93 * uniform, f"uniform: {uniform:.1f}", va="top", color=VERMILION)
        ax.set(title=title, xlabel="block", xlim=(-0.5, len(heads) - 0.5))
        ax.set(ylabel="distance (pixels)", ylim=(0, 1.35 * uniform))
        ax.set_xticks(range(0, len(heads), 1 if len(heads) < 6 else 3))
    found = "; ".join(
        f"{title}: {heads.numel()} circles between {in_pixels(heads.min())} and "
        f"{in_pixels(heads.max())} pixels, the line at {uniform:.1f}"
        for title, (heads, uniform) in panels.items()
    )
    return describe(
        fig,
        "Mean attention distance in pixels against block, a circle for each head, with "
        f"a dashed line for uniform attention. {found}.",
    )


def in_pixels(distance: Tensor) -> str:
    """A distance with as many digits as are the same on every machine."""
    return f"{distance:.{0 if distance > 10 else 1}f}"


def filters(few: Tensor, many: Tensor, titles: tuple[str, str]) -> Figure:
    """Filters `k c p p`: a few in grey, blue to yellow about 0, and many in colour."""
    fig = figure(height=3.7)[0]
    fig.clear()
    left, right = fig.subfigures(1, 2, width_ratios=[1, 2.6])
    for part, title, rows, columns, kernels in (
        (left, titles[0], 2, 2, few),
        (right, titles[1], 4, 7, many),
    ):
        part.suptitle(title, size=12)
        for ax, kernel in zip(part.subplots(rows, columns).flat, kernels, strict=True):
            span = kernel.abs().max()
            if len(kernel) == 1:
                draw_image(ax, kernel, cmap="viridis", vmin=-span, vmax=span)
            else:
                draw_image(ax, 0.5 + kernel / (2 * span))
    first, last = (roughness(part).mean() for part in (many[:7], many[-7:]))
    return describe(
        fig,
        f"Left, {titles[0]}: {len(few)} tiles of {few.shape[-1]} by {few.shape[-1]} "
        f"pixels, blue for negative, yellow for positive. Right, {titles[1]}: "
        f"{len(many)} colour tiles of {many.shape[-1]} by {many.shape[-1]} pixels. A "
        f"step to the next pixel is {first:.2f} of the tile's own spread in the first "
        f"row, on average, and {last:.2f} in the last.",
    )


def roughness(kernels: Tensor) -> Tensor:
    """Mean step to the next pixel, relative to the spread, `k c p p -> k`."""
    steps = kernels.diff(dim=-1).square().mean(dim=(1, 2, 3))
    steps = steps + kernels.diff(dim=-2).square().mean(dim=(1, 2, 3))
    return (steps / 2 / kernels.square().mean(dim=(1, 2, 3))).sqrt()


def position_tiles(cosines: Sequence[Tensor], titles: Sequence[str]) -> Figure:
    """Similarities of places, `(gh gw) gh gw` each, as sheets of tiles."""
    fig = similarity_tiles([tiles.flatten(1) for tiles in cosines], list(titles))
    side = len(cosines[0][0])
    places = torch.cartesian_prod(*[torch.arange(float(side))] * 2)
    near = torch.cdist(places, places) == 1
    means = [
        f"{title}: {tiles.flatten(1)[near].mean():.1f} for neighbours, "
        f"{tiles.unflatten(0, (side, side))[:, 0, :, -1].mean():.1f} between the left "
        "and the right edge"
        for tiles, title in zip(cosines, titles, strict=True)
    ]
    return describe(
        fig,
        f"Sheets of {side} by {side} tiles. The tile of a patch shows the cosine of "
        "its row of the table with every row; with itself it is 1. Mean cosines: "
        f"{'; '.join(means)}.",
    )


def stretched(images: Tensor, maps: Tensor) -> Figure:
    """Images `b c h w`, their maps `b gh gw` with stretched colours, then from 0."""
    fig, axes = figure(1, 3 * len(images), height=2.1)
    top = 2 * maps.mean().item()
    for place, (image, weights) in enumerate(zip(images, maps.cpu(), strict=True)):
        photo, wide, honest = axes[3 * place : 3 * place + 3]
        draw_image(photo, image, "photograph")
        wide.imshow(weights)
        wide.set_title("least to most")
        honest.imshow(weights, vmin=0, vmax=top)
        honest.set_title("from zero")
        for ax in (wide, honest):
            ax.axis("off")
    least, most = (maps / maps.mean()).aminmax()
    return describe(
        fig,
        f"{len(images)} photographs, each with the map of a model twice. With colours "
        "from the least to the most weight the map shows a pattern; the mean colours "
        f"of the patches explain {explained(images, maps):.1f} of its variance. With "
        "colours from zero to twice the mean, the same weights are between "
        f"{least:.1f} and {most:.1f} times the mean.",
    )


def explained(images: Tensor, maps: Tensor) -> float:
    """Share of a map's variance that the mean colours of the patches explain."""
    colours = F.adaptive_avg_pool2d(images.cpu(), maps.shape[1:]).flatten(2).mT
    design = F.pad(colours, (0, 1), value=1.0)
    target = maps.cpu().flatten(1)[..., None]
    rest = target - design @ torch.linalg.lstsq(design, target).solution
    return (1 - rest.var(dim=1) / target.var(dim=1)).mean().item()


def left_out(
    images: Tensor, orders: Mapping[str, Tensor], answers: Mapping[str, Sequence[str]]
) -> Figure:
    """Digits `b 1 h w` in rows, in each the first patches of an order `b k` crossed."""
    fig, axes = figure(len(orders), len(images), height=1.45 * len(orders))
    for row, (name, order) in enumerate(orders.items()):
        part = axes[row * len(images) : (row + 1) * len(images)]
        place = {"ha": "right", "va": "center", "rotation": 90}
        part[0].text(-0.08, 0.5, name, transform=part[0].transAxes, **place)
        rows = zip(part, images, order.tolist(), answers[name], strict=True)
        for ax, image, patches, answer in rows:
            draw_image(ax, image, answer)
            for patch in patches:
                corner = (patch % 4 * 2 - 0.5, patch // 4 * 2 - 0.5)
                style = {"fc": VERMILION, "ec": BLACK, "hatch": "xx", "lw": 0}
                ax.add_patch(Rectangle(corner, 2, 2, **style))
    wrong = [
        f"{name}, {sum('for' in it for it in row)} wrong"
        for name, row in answers.items()
    ]
    return describe(
        fig,
        f"{len(images)} test digits in {len(orders)} rows, {len(order[0])} patches of "
        "each crossed out, and above each what the model answers without these "
        f"patches. Wrong answers in the rows: {'; '.join(wrong)}.",
    )


def fewer_patches(
    panels: Mapping[str, Mapping[str, Mapping[int, float]]], rows: int
) -> Figure:
    """Accuracy in percent against patches taken away, one line per order."""
    columns = len(panels) // rows
    options = {"sharex": True, "sharey": True}
    fig, axes = figure(rows, columns, height=2.7 * rows, **options)
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        for (name, accuracy), marker in zip(lines.items(), "vo^", strict=True):
            numbers, shares = list(accuracy), list(accuracy.values())
            ax.plot(numbers, shares, marker=marker, markersize=5, label=name)
        ax.set(title=title, ylim=(0, 102))
    for ax in axes[-columns:]:
        ax.set(xlabel="patches taken away", xticks=range(0, 16, 5))
    for ax in axes[::columns]:
        ax.set_ylabel("right (%)")
    axes[-2].legend(frameon=False, title="looked at")
    found = "; ".join(
        f"{title}: " + ", ".join(f"{name} {it[3]:.0f}" for name, it in lines.items())
        for title, lines in panels.items()
    )
    return describe(
        fig,
        "Percent of the test digits still read against the number of patches taken "
        f"away, in {len(panels)} panels with a line for each order: the patches looked "
        f"at most first, random, those looked at least first. With 3 patches away, "
        f"{found}.",
    )
