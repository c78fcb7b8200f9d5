"""Figures of lesson 11: names side by side, positions, pictures, a new task."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional as F

from ..demo_weights import CLASSES, REGIONS
from . import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    describe,
    draw_image,
    figure,
    tiles,
)

CLASS_COLORS = [SKY, VERMILION, GREEN, ORANGE, BLUE, PURPLE, YELLOW]


def listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them: "none", "a", "a and b", "a, b and c"."""
    *others, last = names or ["none"]
    return f"{', '.join(others)} and {last}" if others else last


def ten_classes(images: Tensor, labels: Tensor) -> Figure:
    """The first picture of each class, `b 3 h w` with the numbers of the classes."""
    first = [(labels == k).nonzero()[0].item() for k in range(len(CLASSES))]
    return describe(
        tiles(images[first], CLASSES, columns=len(first), size=0.95),
        f"A row of {len(first)} small pictures with their names. Pieces of photographs:"
        f" {listed(CLASSES[: len(REGIONS)])}. Handwritten digits, white on black: "
        f"{listed(CLASSES[len(REGIONS) :])}.",
    )


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
            ax.text(left + wide / 2, top - tall / 2, f"{name}\n{shape}", size=12, **ink)
            top -= tall
        left += wide
    ax.set(xlim=(0, left), ylim=(-rows, 1))
    seen = [
        f"{title}: {', '.join(f'{name} {shape}' for name, shape, _ in parts)}"
        for title, parts in columns.items()
    ]
    return describe(
        fig,
        f"{len(columns)} columns, one for each naming, with the parts of a block in the"
        f" order of the model and their shapes. {'; '.join(seen)}.",
    )


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
    rows, columns = fused.shape
    return describe(
        fig,
        f"{len(three)} matrices of {d} by {columns}, {listed(list(three))}, each in "
        f"its own colour. Beside them the fused matrix of {rows} by {columns}: from "
        f"top to bottom the rows of {listed(list(three))}, in the same colours.",
    )


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
    (reference, pictures), *others = rows.items()
    compared = [
        f"{(other == pictures).flatten(1).all(dim=1).sum()} of {name}"
        for name, other in others
    ]
    height, width = pictures.shape[2:]
    return describe(
        fig,
        f"{len(rows)} rows of {columns} tiny colour pictures, {height} by {width} "
        f"pixels: {listed(list(rows))}. Pictures equal to those of {reference}: "
        f"{listed(compared)}.",
    )


def loudness(moved: Mapping[str, float]) -> Figure:
    """How far each change moves the logits, on a logarithmic axis."""
    fig, (ax,) = figure(width=8.5, height=0.9 + 0.42 * len(moved))
    ax.plot(list(moved.values()), range(len(moved)), "o", color=BLUE, ms=9, ls="")
    ax.set_yticks(range(len(moved)), list(moved))
    ax.set(xscale="log", ylim=(len(moved) - 0.5, -0.5))
    ax.set_xlabel("mean change of a logit, in standard deviations of the logits")
    ax.grid(color="0.9")
    seen = [
        f"{name}: {f'{change:.1g}' if change >= 1e-4 else 'below 0.0001'}"
        for name, change in moved.items()
    ]
    return describe(
        fig,
        "Dots on a logarithmic axis: how far a setting moves a logit on average, in "
        f"standard deviations of the logits. {'; '.join(seen)}.",
    )


def tables_of_positions(tables: Mapping[str, Tensor], place: tuple[int, int]) -> Figure:
    """How similar one row of a table is to all others, on its grid; tables `gh gw d`.

    The mean row, which all of them share, is subtracted first. `place` is the row and
    column of a patch in the first table; in the others, the same place of the picture.
    """
    fig, axes = figure(1, len(tables), height=3.2)
    first, seen = next(iter(tables.values())), []
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        y, x = (
            int((where + 0.5) * new / old)
            for where, new, old in zip(place, table.shape, first.shape, strict=False)
        )
        table = table - table.mean(dim=(0, 1))
        similar = F.cosine_similarity(table, table[y, x], dim=-1).cpu()
        picture = ax.imshow(similar, vmin=-0.5, vmax=1)
        seen.append(f"{title}: {spot(similar, y, x)}")
        ax.plot(x, y, "s", color=VERMILION, mfc="none", ms=12, mew=2)
        ax.set_xticks(range(0, table.shape[1], 2))
        ax.set_yticks(range(0, table.shape[0], 2))
        ax.set(title=title, xlabel="column")
    axes[0].set_ylabel("row")
    fig.colorbar(picture, ax=axes, label="cosine", shrink=0.8)
    return describe(
        fig,
        f"{len(tables)} grids, coloured by the cosine of one row of a table with every "
        f"row; a red frame marks the patch of this row. {'; '.join(seen)}.",
    )


def spot(similar: Tensor, y: int, x: int) -> str:
    """Say how similar the places next to row `y`, column `x` of a grid are to it."""
    places = {"above": (-1, 0), "below": (1, 0), "left": (0, -1), "right": (0, 1)}
    beside = {name: similar[y + dy, x + dx] for name, (dy, dx) in places.items()}
    bright = [name for name, cosine in beside.items() if cosine > 0.3]
    found = (
        "bright on all four sides" if len(bright) == 4 else f"bright {listed(bright)}"
    )
    if dark := [name for name, cosine in beside.items() if cosine < 0]:
        found += f", dark {listed(dark)}"
    more, less = sorted(("left", "right"), key=beside.__getitem__, reverse=True)
    if more in bright and beside[more] - beside[less] > 0.05:
        found += f", more on the {more} than on the {less}"
    return found


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
    sizes = sorted({str(prefix + gh * gw) for prefix, gh, gw in grids.values()})
    seen = [
        f"{title}: {f'{prefix} in red above ' if prefix else ''}{gh} by {gw}"
        for title, (prefix, gh, gw) in grids.items()
    ]
    return describe(
        fig,
        f"The rows of one table, laid out as {len(grids)} different grids of squares. "
        f"{'; '.join(seen)}. Each has "
        f"{listed(sizes)} squares.",
    )


def prepared(
    shown: Mapping[str, Tensor], named: Mapping[str, tuple[float, float]]
) -> Figure:
    """What the model is shown, `n 3 h w` between 0 and 1, for each way of preparing it.

    Below, which share of the things and of the digits it then names, in percent.
    """
    fig, axes = figure(3, len(shown), width=11, height=4.8, height_ratios=[1, 1, 1.2])
    for column, (title, pictures) in enumerate(shown.items()):
        for row, picture in enumerate(pictures[:2]):
            draw_image(axes[row * len(shown) + column], picture.clamp(0, 1))
        axes[column].set_title(title)
        ax = axes[2 * len(shown) + column]
        drawn = ax.bar(["things", "digits"], named[title], color=[BLUE, ORANGE])
        ax.bar_label(drawn, fmt="%.0f")
        ax.set(ylim=(0, 118), yticks=[])
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="x", labelsize=12)
    axes[2 * len(shown)].set_ylabel("named, %")
    light = [f"{way}: {p.clamp(0, 1).mean():.1f}" for way, p in shown.items()]
    things, digits = (
        [way for way, shares in named.items() if shares[kind] < 50] for kind in (0, 1)
    )
    return describe(
        fig,
        f"{len(shown)} columns, one for each way of preparing images: two examples as "
        "the model is shown them, and bars with the percent of things and of digits "
        f"that it names. Mean brightness of the examples: {'; '.join(light)}. The "
        f"model names fewer than half of the things with {listed(things)}, and fewer "
        f"than half of the digits with {listed(digits)}.",
    )


def maps_of_classes(
    photographs: Sequence[Tensor], found: Sequence[Tensor], names: Sequence[str]
) -> Figure:
    """Photographs, and beside each of them the class of every window, `gh gw`.

    The most frequent classes have a colour, the others are grey.
    """
    together = torch.cat([part.flatten() for part in found]).cpu()
    frequent = together.bincount().argsort(descending=True)[: len(CLASS_COLORS)]
    frequent = [k for k in sorted(frequent.tolist()) if (together == k).sum() > 0]
    fig, axes = figure(len(photographs), 2, width=11, height=3.5 * len(photographs))
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
                ink = {"ha": "center", "va": "center", "size": 12}
                ink |= {"color": "white" if dark else "black"}
                axes[2 * row + 1].text(x, y, names[number][:6], **ink)
    handles = [
        Rectangle((0, 0), 1, 1, color=color, label=names[number][:24])
        for color, number in zip(CLASS_COLORS, frequent, strict=False)
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    seen = []
    for number, classes in enumerate(found, 1):
        shares = (
            classes.flatten().cpu().bincount(minlength=len(names)) / classes.numel()
        )
        large = [names[k] for k in (shares > 0.15).nonzero().flatten().tolist()]
        gh, gw = classes.shape
        seen.append(f"photograph {number}, {gh} by {gw} windows: {listed(large)}")
    return describe(
        fig,
        f"{len(photographs)} photographs, and beside each a map of coloured cells: the "
        "class that the model names in each window. Classes with more than 15 % of the "
        f"windows: {'; '.join(seen)}.",
    )


def transfer(scores: Mapping[str, Sequence[float]]) -> Figure:
    """Accuracy in percent for each way: a dot for each seed, a line at the mean."""
    fig, (ax,) = figure(width=8, height=0.9 + 0.6 * len(scores))
    for row, values in enumerate(scores.values()):
        ax.plot(values, [row] * len(values), "o", color=BLUE, ms=8, alpha=0.7)
        middle = sum(values) / len(values)
        ax.plot([middle, middle], [row - 0.3, row + 0.3], "-", color=VERMILION, lw=3)
    ax.set_yticks(range(len(scores)), list(scores))
    ax.set(ylim=(len(scores) - 0.5, -0.5), xlabel="unseen digits 5 to 9 read, %")
    ax.grid(axis="x", color="0.9")
    means = {way: sum(values) / len(values) for way, values in scores.items()}
    ranges = [f"{way} over {mean // 10 * 10:.0f} %" for way, mean in means.items()]
    return describe(
        fig,
        f"{len(scores)} rows of dots, one dot for each seed and a line at their mean: "
        f"the share of unseen digits 5 to 9 that are read. Means: {', '.join(ranges)}; "
        f"the best is {max(means, key=means.__getitem__)}.",
    )
