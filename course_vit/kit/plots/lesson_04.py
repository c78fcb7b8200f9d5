"""Figures of lesson 04: heads."""

from math import floor

import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
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
    YELLOW,
    describe,
    draw_image,
    figure,
    tiles,
)

TOKEN_COLORS = [SKY, ORANGE, YELLOW, "#DDDDDD"]


def slices_of_channels(
    image: Tensor, tokens: Tensor, num_heads: int, query: int = 60
) -> Figure:
    """An image, its tokens `n d`, the heads' slices, and what each of them finds."""
    slices = tokens.unflatten(1, (num_heads, -1)).transpose(0, 1)  # h n e
    centred = F.normalize(slices - slices.mean(dim=1, keepdim=True), dim=-1)
    maps = (8 * centred @ centred.mT).softmax(dim=-1)[:, query]  # h m
    (n, d), side = tokens.shape, round(tokens.shape[0] ** 0.5)
    ratios = [1, 1.4] + [1] * num_heads
    fig, (first, left, *axes) = figure(1, len(ratios), height=2.3, width_ratios=ratios)
    patch, (y, x) = image.shape[-1] // side, divmod(query, side)
    draw_image(first, image, "one patch asks")
    frame_cell(first, x * patch - 0.5, y * patch - 0.5, patch)
    left.imshow(tokens, cmap="gray", aspect="auto")
    left.set_title(f"{n} tokens of {d} channels")
    left.set(xticks=[], yticks=[])
    colors = [BLUE, VERMILION, GREEN, ORANGE][:num_heads]
    for head, (ax, color) in enumerate(zip(axes, colors, strict=True)):
        start, width = head * d / num_heads, d / num_heads
        frame = Rectangle((start + 4, -0.5), width - 8, n, fill=False, ec=color, lw=4)
        left.add_patch(frame)
        draw_image(ax, maps[head].reshape(side, side), cmap="viridis", vmin=0)
        frame_cell(ax, x - 0.5, y - 0.5, 1)
        ax.set_title(f"head {head}", color=color, weight="bold")
    return describe(
        fig,
        f"Left: an image with a framed patch. Middle: its {n} tokens as a table, {d} "
        f"channels wide, divided into {num_heads} framed slices of {d // num_heads} "
        f"channels. Right: for each slice one map of "
        f"{side} by {side} patches, which shows what the framed patch finds when it "
        "compares the patches by that slice alone: each head finds different ones.",
    )


def query_maps(
    image: Tensor,
    maps: Tensor,
    queries: list[int],
    titles: list[str],
    size: float = 2.2,
) -> Figure:
    """An image `c h w`, and what a query sees in each map `h n m`; a row per query."""
    columns = 1 + len(maps)
    height = len(queries) * size + 0.35
    fig, axes = figure(len(queries), columns, columns * size, height)
    side = round(maps.shape[-1] ** 0.5)
    patch = image.shape[-1] / side
    for row, query in enumerate(queries):
        first, *rest = axes[row * columns : (row + 1) * columns]
        y, x = divmod(query, side)
        draw_image(first, image)
        frame_cell(first, x * patch - 0.5, y * patch - 0.5, patch)
        for ax, head in zip(rest, maps, strict=True):
            draw_image(ax, head[query].reshape(side, side), cmap="viridis", vmin=0)
            frame_cell(ax, x - 0.5, y - 0.5, 1)
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title)
    named = zip(maps, titles[1:], strict=True)
    seen = [where(it[queries[0]], queries[0], title) for it, title in named]
    return describe(
        fig,
        f"{several(len(queries), 'row')}: an image with a framed patch, and beside it "
        f"{len(maps)} maps of {side} by {side} patches that show what this patch looks "
        f"at, bright where it looks most. In the first row: {'; '.join(seen)}.",
    )


def where(weights: Tensor, query: int, title: str) -> str:
    """How widely a row of weights `m` on a square of patches is spread, in words."""
    side, order = round(len(weights) ** 0.5), weights.argsort(descending=True)
    half = order[: int((weights[order].cumsum(0) < 0.5 * weights.sum()).sum()) + 1]
    steps = torch.stack([half // side - query // side, half % side - query % side])
    far = steps.float().norm(dim=0).mean()
    return (
        f"{title}, half of the weight on {several(len(half), 'patch', 'patches')}, "
        f"{far:.1f} away on average"
    )


def several(count: int, noun: str, plural: str = "") -> str:
    """A number and what is counted, in the singular or the plural."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def frame_cell(ax: Axes, x: float, y: float, size: float) -> None:
    """A white and black frame, seen on dark and on light."""
    for color, width in ((BLACK, 4), ("white", 2)):
        ax.add_patch(Rectangle((x, y), size, size, fill=False, ec=color, lw=width))


def head_flow(tokens: Tensor, right: Tensor, wrong: Tensor, follow: int) -> Figure:
    """Numbered tokens `n d`, cut into heads `h n e` by name and by plain reshape.

    The entries of `tokens` are 0, 1, 2, ... so that every number knows its home; the
    one called `follow` is framed wherever it goes.
    """
    (n, d), (h, _, e) = tokens.shape, right.shape
    fig, (ax,) = figure(height=3.9)
    named = [right[head] for head in range(h)]
    gap, left = 0.7, 0.0

    def block(cells: Tensor, x: float, y: float, axes: dict[str, tuple]) -> None:
        draw_cells(ax, cells, x, y, width=d, follow=follow)
        for letter, (dx, dy) in axes.items():
            write_axis(ax, letter, x + dx, y + dy)

    down, up = (-0.5, n / 2), -0.55
    ax.text(left + d / 2, -2, "the tokens", ha="center")
    block(tokens, left, 0, {"n": down, "d": (d / 2, up)})
    left += d + 2
    ax.text(left + (d + gap) / 2, -2, "name the heads", ha="center")
    for head, cells in enumerate(named):
        letters = {"e": (e / 2, up)} | ({"n": down} if head == 0 else {})
        block(cells, left + head * (e + gap), 0, letters)
    write_axis(ax, "h", left + e + gap / 2, up)
    left += d + gap + 2
    for title, heads in (("heads in front", right), ("plain reshape", wrong)):
        ax.text(left + e / 2, -2, title, ha="center")
        for head in range(h):
            top = head * (n + gap)
            block(heads[head], left, top, {"n": down})
            ax.text(
                left + e + 0.3, top + n / 2, f"head {head}", color=GREEN, va="center"
            )
        write_axis(ax, "e", left + e / 2, up)
        left += e + 4.4
    ax.set(xlim=(-1, left - 2), ylim=(h * (n + gap) - gap + 0.2, -2.7), aspect="equal")
    ax.axis("off")

    def owners(heads: Tensor) -> str:
        pieces = [sorted(set((head // d).flatten().tolist())) for head in heads]
        letters = [", ".join("ABCD"[token] for token in row) for row in pieces]
        return "; ".join(f"head {head} of {row}" for head, row in enumerate(letters))

    return describe(
        fig,
        f"{n} tokens as rows of {d} numbered channels; one number is framed. Naming "
        f"the heads cuts every row into {h} groups of {e}. With the heads in front, "
        f"they hold pieces of these tokens: {owners(right)}. After plain reshape: "
        f"{owners(wrong)}; the framed number is in the row of another token.",
    )


def split_and_merged(pictures: list[Tensor], titles: list[str]) -> Figure:
    """The same picture after splitting and merging in several ways, `c h w` each."""
    same = [f"{(it == pictures[0]).float().mean():.0%}" for it in pictures]
    return describe(
        tiles(pictures, titles, columns=3, size=2.9),
        f"{len(pictures)} pictures: {', '.join(titles)}. The first is the photograph; "
        "the others are colourful noise in fine stripes. Numbers in their place: "
        f"{', '.join(same)}.",
    )


def draw_cells(
    ax: Axes, cells: Tensor, x: float, y: float, width: int, follow: int
) -> None:
    """Draw numbers as cells, coloured and lettered by token, numbered by channel."""
    for row, values in enumerate(cells.tolist()):
        for column, value in enumerate(values):
            token, channel = divmod(value, width)
            corner, color = (x + column, y + row), TOKEN_COLORS[token]
            ax.add_patch(Rectangle(corner, 1, 1, facecolor=color, ec="white"))
            if value == follow:
                inner = (corner[0] + 0.06, corner[1] + 0.06)
                frame = Rectangle(
                    inner, 0.88, 0.88, fill=False, ec=BLACK, lw=2.5, zorder=3
                )
                ax.add_patch(frame)
            place = (corner[0] + 0.5, corner[1] + 0.5)
            ax.text(
                *place, f"{'ABCD'[token]}{channel}", ha="center", va="center", size=11
            )


def write_axis(ax: Axes, letter: str, x: float, y: float) -> None:
    """Write the letter of an axis in its colour."""
    text = ax.text(x, y, letter, color=AXIS_COLORS[letter], size=14, weight="bold")
    text.set(ha="center", va="center", family="monospace")


def changed(changes: list[Tensor], titles: list[str], cause: tuple[int, int]) -> Figure:
    """Which tokens of which images change, each `b n`, after one token was changed."""
    fig, axes = figure(1, len(changes), height=2.5)
    (b, n), (image, token) = changes[0].shape, cause
    colors = ListedColormap(["#E5E5E5", BLUE])
    for ax, found, title in zip(axes, changes, titles, strict=True):
        ax.pcolormesh(found, cmap=colors, vmin=0, vmax=1, edgecolors="white")
        ax.plot(token + 0.5, image + 0.5, "x", color="white", ms=7, mew=2)
        ax.set_xticks([i + 0.5 for i in range(0, n, 5)], map(str, range(0, n, 5)))
        ax.set_yticks([i + 0.5 for i in range(b)], map(str, range(b)))
        ax.set(title=f"{title}: what changes", ylim=(b, 0), aspect="equal")
        ax.set_xlabel("token, n", color=AXIS_COLORS["n"])
    axes[0].set_ylabel("image, b", color=AXIS_COLORS["b"])
    found = "; ".join(
        f"{title}: outputs of {several(int(it.any(1).sum()), 'image')}, at "
        f"{several(int(it.any(0).sum()), 'token')}"
        for it, title in zip(changes, titles, strict=True)
    )
    return describe(
        fig,
        f"Grids of {b} images by {n} tokens; token {token} of image {image} has a "
        f"cross, because it was changed. What changes is dark. {found}.",
    )


def accuracies(names: list[str], batches: list[float], singles: list[float]) -> Figure:
    """Test accuracy of each layer, asked in batches and one image at a time."""
    fig, (ax,) = figure(height=3.4)
    rows = range(len(names))
    ax.hlines(rows, singles, batches, color="#BBBBBB", zorder=0)
    ax.plot(
        batches, rows, "o", ms=10, color=AXIS_COLORS["n"], label="in batches of 100"
    )
    ax.plot(
        singles, rows, "D", ms=8, mfc="none", mew=2, color=VERMILION, label="one by one"
    )
    ax.axvline(0.1, color=BLACK, ls=":")
    ax.text(0.11, len(names) - 0.45, "guessing")
    ax.set_yticks(rows, names)
    ax.set(xlim=(0, 1.02), ylim=(len(names) - 0.2, -0.6))
    ax.set_xlabel("share of test digits recognised")
    ax.legend(frameon=False, loc="center", bbox_to_anchor=(0.5, 0.5))
    pairs = zip(names, batches, singles, strict=True)
    fall = [
        f"{name} falls to {one:.1f}" for name, many, one in pairs if many > one + 0.1
    ]
    return describe(
        fig,
        f"Share of test digits that {len(names)} layers recognise. In batches of 100 "
        f"all are above {floor(10 * min(batches) - 1) / 10}. One by one, "
        f"{', '.join(fall) or 'none falls'}; the dotted line is guessing, 0.1.",
    )
