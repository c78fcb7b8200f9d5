"""Figures of lesson 11: names side by side, positions, pictures, a new task."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional as F

from . import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    draw_image,
    figure,
)

CLASS_COLORS = [SKY, VERMILION, GREEN, ORANGE, BLUE, PURPLE, YELLOW]


# The matrices and norms of a block, in the order of the model.
PARTS = {
    "timm": "norm1.weight attn.qkv.weight attn.proj.weight norm2.weight"
    " mlp.fc1.weight mlp.fc2.weight",
    "torchvision": "ln_1.weight self_attention.in_proj_weight"
    " self_attention.out_proj.weight ln_2.weight mlp.0.weight mlp.3.weight",
    "transformers": "layernorm_before.weight attention.attention.query.weight"
    " attention.attention.key.weight attention.attention.value.weight"
    " attention.output.dense.weight layernorm_after.weight"
    " intermediate.dense.weight output.dense.weight",
    "jax": "LayerNorm_0/scale MultiHeadDotProductAttention_1/query/kernel"
    " MultiHeadDotProductAttention_1/key/kernel"
    " MultiHeadDotProductAttention_1/value/kernel"
    " MultiHeadDotProductAttention_1/out/kernel LayerNorm_2/scale"
    " MlpBlock_3/Dense_0/kernel MlpBlock_3/Dense_1/kernel",
}
FIRST_BLOCK = {
    "timm": "blocks.0.",
    "torchvision": "encoder.layers.encoder_layer_0.",
    "transformers": "vit.encoder.layer.0.",
    "jax": "Transformer/encoderblock_0/",
}


def names_side_by_side(files: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """What the parts of the first block are called, and their shapes, by naming."""
    columns = {}
    for naming, weights in files.items():
        column = columns["timm, ours" if naming == "timm" else naming] = []
        for name in PARTS[naming].split():
            shape = " x ".join(map(str, weights[FIRST_BLOCK[naming] + name].shape))
            column.append((name, shape, 3 if "qkv" in name or "in_proj" in name else 1))
    rows = sum(tall for *_, tall in next(iter(columns.values())))
    widths = {
        title: max(len(name) for name, *_ in parts) for title, parts in columns.items()
    }
    fig, (ax,) = figure(width=12, height=0.5 * (rows + 1))
    ax.axis("off")
    ink = {"ha": "center", "va": "center"}
    left = 0.0
    for (title, parts), color in zip(columns.items(), CLASS_COLORS, strict=False):
        wide, top = widths[title] + 3.0, 0.0
        ax.text(left + wide / 2, 0.5, title, weight="bold", **ink)
        for name, shape, tall in parts:
            style = {"facecolor": color, "alpha": 0.16, "edgecolor": "none"}
            box = Rectangle((left + 0.4, top - tall + 0.06), wide - 0.8, tall - 0.12)
            box.update(style)
            ax.add_patch(box)
            ax.text(
                left + wide / 2, top - tall / 2, f"{name}\n{shape}", size=10.5, **ink
            )
            top -= tall
        left += wide
    ax.set(xlim=(0, left), ylim=(-rows, 1))
    return fig


def stacked(three: Mapping[str, Tensor], fused: Tensor) -> Figure:
    """Three matrices `d d`, each in a colour, and the one `(3 d) d` that holds them."""
    fig, axes = figure(1, 4, height=4.4, width_ratios=[1, 1, 1, 1.25])
    limits = {"vmin": -fused.abs().max() / 2, "vmax": fused.abs().max() / 2}
    last, d = axes[-1], fused.shape[1]
    for row, (name, matrix) in enumerate(three.items()):
        look = {"cmap": ["Blues", "Oranges", "Greens"][row], **limits}
        draw_image(axes[row], matrix, f"{name}\n{tuple(matrix.shape)}", **look)
        rows = slice(row * d, (row + 1) * d)
        place = (-0.5, d - 0.5, rows.stop - 0.5, rows.start - 0.5)
        last.imshow(fused[rows].cpu(), extent=place, **look)
    last.set(title=f"fused\n{tuple(fused.shape)}", ylim=(3 * d - 0.5, -0.5), xticks=[])
    last.set_yticks([d / 2, 3 * d / 2, 5 * d / 2], list(three))
    return fig


def kernels(rows: Mapping[str, Tensor]) -> Figure:
    """Rows of patch kernels `n 3 h w`, each brought to 0 to 1 by itself."""
    columns = len(next(iter(rows.values())))
    fig, axes = figure(len(rows), columns, width=9.5, height=0.85 * len(rows))
    for row, (name, pictures) in enumerate(rows.items()):
        for column, picture in enumerate(pictures.cpu()):
            ax = axes[row * columns + column]
            low, high = picture.min(), picture.max()
            draw_image(ax, (picture - low) / (high - low))
        first = axes[row * columns]
        first.text(-0.15, 0.5, name, ha="right", va="center", transform=first.transAxes)
    return fig


def loudness(moved: Mapping[str, float]) -> Figure:
    """How far each change moves the logits, on a logarithmic axis."""
    fig, (ax,) = figure(width=8.5, height=0.9 + 0.42 * len(moved))
    ax.plot(list(moved.values()), range(len(moved)), "o", color=BLUE, ms=9, ls="")
    ax.set_yticks(range(len(moved)), list(moved))
    ax.set(xscale="log", ylim=(len(moved) - 0.5, -0.5))
    ax.set_xlabel("mean change of a logit, in standard deviations of the logits")
    ax.grid(color="0.9")
    return fig


def tables_of_positions(tables: Mapping[str, Tensor], place: tuple[int, int]) -> Figure:
    """How alike one row of a table is to all others, on its grid; tables `gh gw d`.

    The mean row, which all of them share, is taken away before. `place` is the row and
    column of a patch in the first table; in the others, the same place of the picture.
    """
    fig, axes = figure(1, len(tables), height=3.2)
    first = next(iter(tables.values()))
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        y, x = (
            int((where + 0.5) * new / old)
            for where, new, old in zip(place, table.shape, first.shape, strict=False)
        )
        table = table - table.mean(dim=(0, 1))
        alike = F.cosine_similarity(table, table[y, x], dim=-1).cpu()
        picture = ax.imshow(alike, vmin=-0.5, vmax=1)
        ax.plot(x, y, "s", color=VERMILION, mfc="none", ms=12, mew=2)
        ax.set_xticks(range(0, table.shape[1], 2))
        ax.set_yticks(range(0, table.shape[0], 2))
        ax.set(title=title, xlabel="column")
    axes[0].set_ylabel("row")
    fig.colorbar(picture, ax=axes, label="cosine", shrink=0.8)
    return fig


def two_readings(grids: Mapping[str, tuple[int, int, int]]) -> Figure:
    """The same rows of a table, laid out in several ways: prefix rows, gh, gw."""
    fig, axes = figure(1, len(grids), height=3.6)
    for ax, (title, (prefix, gh, gw)) in zip(axes, grids.items(), strict=True):
        numbers = torch.arange(gh * gw).reshape(gh, gw) + prefix
        ax.pcolormesh(numbers, cmap="cividis", edgecolors="white", linewidth=1)
        for column in range(prefix):
            ax.add_patch(Rectangle((column, -1.6), 1, 1, color=VERMILION))
        ax.set(title=title, xlim=(-0.2, 15.2), ylim=(15.2, -1.8))
        ax.axis("off")
        ax.set_aspect("equal")
    return fig


def prepared(
    shown: Mapping[str, Tensor], named: Mapping[str, tuple[float, float]]
) -> Figure:
    """What a model is shown, `n 3 h w` between 0 and 1, by way of preparing.

    Below, how many of the things and of the digits it then names, in percent.
    """
    fig, axes = figure(3, len(shown), width=10.5, height=4.6, height_ratios=[1, 1, 1.2])
    for column, (title, pictures) in enumerate(shown.items()):
        for row, picture in enumerate(pictures[:2]):
            draw_image(axes[row * len(shown) + column], picture.clamp(0, 1))
        axes[column].set_title(title)
        ax = axes[2 * len(shown) + column]
        drawn = ax.bar(["things", "digits"], named[title], color=[BLUE, ORANGE])
        ax.bar_label(drawn, fmt="%.0f")
        ax.set(ylim=(0, 118), yticks=[])
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="x", labelsize=10)
    axes[2 * len(shown)].set_ylabel("named, %")
    return fig


def maps_of_classes(
    photographs: Sequence[Tensor], found: Sequence[Tensor], names: Sequence[str]
) -> Figure:
    """Photographs, beside each the class of every window, `gh gw`.

    The most frequent classes have a colour, the others are grey.
    """
    together = torch.cat([part.flatten() for part in found]).cpu()
    frequent = together.bincount().argsort(descending=True)[: len(CLASS_COLORS)]
    frequent = [k for k in sorted(frequent.tolist()) if (together == k).sum() > 0]
    fig, axes = figure(len(photographs), 2, width=9.5, height=3.1 * len(photographs))
    colors = ListedColormap([*CLASS_COLORS[: len(frequent)], "0.6"])
    for row, (photo, classes) in enumerate(zip(photographs, found, strict=True)):
        draw_image(axes[2 * row], photo)
        index = torch.full(classes.shape, len(frequent))
        for place, number in enumerate(frequent):
            index[classes.cpu() == number] = place
        step = [max(1, round(length / 7)) for length in classes.shape]
        options = {"cmap": colors, "vmin": -0.5, "vmax": len(frequent) + 0.5}
        draw_image(axes[2 * row + 1], index, **options)
        for y, line in list(enumerate(classes.cpu().tolist()))[1 :: step[0]]:
            for x, number in list(enumerate(line))[1 :: step[1]]:
                dark = colors(int(index[y, x])) == to_rgba(BLUE)
                ink = {"ha": "center", "va": "center", "size": 10}
                ink |= {"color": "white" if dark else "black"}
                axes[2 * row + 1].text(x, y, names[number][:6], **ink)
    handles = [
        Rectangle((0, 0), 1, 1, color=color, label=names[number][:24])
        for color, number in zip(CLASS_COLORS, frequent, strict=False)
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return fig


def transfer(scores: Mapping[str, Sequence[float]]) -> Figure:
    """Accuracy in percent: a dot for each seed, a line at the mean, by way."""
    fig, (ax,) = figure(width=8, height=0.9 + 0.6 * len(scores))
    for row, values in enumerate(scores.values()):
        ax.plot(values, [row] * len(values), "o", color=BLUE, ms=8, alpha=0.7)
        middle = sum(values) / len(values)
        ax.plot([middle, middle], [row - 0.3, row + 0.3], "-", color=VERMILION, lw=3)
    ax.set_yticks(range(len(scores)), list(scores))
    ax.set(ylim=(len(scores) - 0.5, -0.5), xlabel="unseen digits 5 to 9 read, %")
    ax.grid(axis="x", color="0.9")
    return fig
