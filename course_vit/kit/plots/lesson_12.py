"""Figures of lesson 12: what the patients of the clinic show."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from . import (
    AXIS_COLORS,
    BLUE,
    ORANGE,
    VERMILION,
    describe,
    draw_image,
    figure,
    tiles,
)


def tokens_as_windows(image: Tensor, tokens: Tensor) -> Figure:
    """An image `c h w` beside its tokens `n (c p p)`, each drawn as a square window."""
    fig, (left, right) = figure(1, 2, height=3.6)
    p = round((tokens.shape[1] / len(image)) ** 0.5)
    laid = F.fold(tokens.T[None], image.shape[1:], p, stride=p)[0]
    draw_image(left, image, "one photograph")
    draw_image(right, laid, f"its {len(tokens)} tokens, each in its place")
    kept = (laid == image).float().mean().item()
    likeness = {k: copies(laid, image, k) for k in (1, 2, 3, 4)}
    k = max(likeness, key=likeness.get)
    seen = f"{k} rows of {k} small copies of it" if k > 1 else "one picture like it"
    return describe(
        fig,
        f"Left: a photograph. Right: its {len(tokens)} tokens, each drawn as a window "
        f"of {p} by {p} pixels: {seen}. {kept:.0%} of the numbers are the same as in "
        "the photograph at the same place.",
    )


def copies(picture: Tensor, image: Tensor, k: int) -> float:
    """How well `k` by `k` small copies of an image fit a picture: a correlation."""
    picture, image = (x.mean(dim=0)[None, None] for x in (picture, image))
    small = F.interpolate(image, (48, 48), mode="area").flatten()
    parts = F.interpolate(picture, (48 * k, 48 * k), mode="area")
    parts = F.unfold(parts, 48, stride=48)[0].T
    found = [torch.stack([small, part]).corrcoef()[0, 1] for part in parts]
    return torch.stack(found).mean().item()


def row_lengths(table: Tensor) -> Figure:
    """The squared length of each row of a table `n d`, and half its width."""
    fig, (ax,) = figure(height=2.9)
    lengths, half = table.square().sum(dim=1), table.shape[1] / 2
    ax.plot(lengths, color=BLUE, lw=2, label="this table")
    ax.axhline(half, color=ORANGE, ls="--", lw=2, label="half the width")
    ax.set(xlabel="position", ylabel="squared length")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return describe(
        fig,
        f"Squared lengths of the {len(table)} rows of a table against their position, "
        f"from {lengths.min():.1f} to {lengths.max():.1f}. A dashed line is at half of "
        f"the width, {half:.0f}.",
    )


def responses(image: Tensor, maps: Sequence[Tensor], titles: Sequence[str]) -> Figure:
    """An image `c h w`, and one number for each of its patches, maps `1 gh gw`."""
    fig, axes = figure(1, 1 + len(maps), height=2.9)
    draw_image(axes[0], image, "the photograph")
    span = max(values.detach().abs().max().item() for values in maps)
    for ax, values, title in zip(axes[1:], maps, titles, strict=True):
        draw_image(ax, values, title, cmap="cividis", vmin=-span, vmax=span)
    ranges = ", ".join(
        f"{title} from {values.min():.1f} to {values.max():.1f}"
        for values, title in zip(maps, titles, strict=True)
    )
    alike = torch.stack([values.flatten() for values in maps]).corrcoef()[0, 1]
    return describe(
        fig,
        "A photograph, and beside it maps with one number for each of its patches, "
        f"bright for large numbers: {ranges}. The correlation of the two maps is "
        f"{alike:.1f}.",
    )


def curves(
    lines: Mapping[str, Tensor],
    xlabel: str,
    ylabel: str = "",
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """One curve for each name, its values against 0, 1, 2, ..."""
    fig, (ax,) = figure(height=2.9)
    for name, values in lines.items():
        ax.plot(range(len(values)), values.detach(), lw=2, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=ylim)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def histograms(values: Mapping[str, Tensor], xlabel: str) -> Figure:
    """How often which value occurs, between -1 and 1; one panel for each name."""
    fig, axes = figure(1, len(values), height=2.6, sharey=True)
    for ax, (name, numbers) in zip(axes, values.items(), strict=True):
        ax.hist(numbers.tolist(), bins=40, range=(-1, 1), color=BLUE)
        ax.set(title=name, xlabel=xlabel, xlim=(-1, 1))
    axes[0].set_ylabel("patches")
    found = "; ".join(
        f"{name}, from {numbers.min():.1f} to {numbers.max():.1f}, "
        f"{(numbers > 0.5).float().mean():.0%} of them above 0.5"
        for name, numbers in values.items()
    )
    return describe(fig, f"Histograms of the {xlabel}: {found}.")


def maps(tables: Sequence[Tensor], titles: Sequence[str]) -> Figure:
    """Tables of queries by keys, `n m`, each on its own scale from 0."""
    fig, axes = figure(1, len(tables), width=3.4 * len(tables), height=3.3)
    for ax, table, title in zip(axes, tables, titles, strict=True):
        ax.imshow(table.detach(), vmin=0)
        ax.set(
            title=title, xticks=range(0, len(table), 5), yticks=range(0, len(table), 5)
        )
        ax.set_xlabel("key, m", color=AXIS_COLORS["m"])
    axes[0].set_ylabel("query, n", color=AXIS_COLORS["n"])
    found = "; ".join(
        f"{title}: {int((table > 0).triu(1).sum())} positive entries above the "
        f"diagonal and {int((table > 0).tril().sum())} others"
        for table, title in zip(tables, titles, strict=True)
    )
    n, m = tables[0].shape
    return describe(fig, f"Tables of {n} queries by {m} keys: {found}.")


def three_ways(accuracy: Mapping[tuple[str, str], Sequence[float]]) -> Figure:
    """Accuracies of (layer, read-out), asked in three ways; a panel per read-out."""
    fig, axes = figure(1, 2, height=2.9, sharey=True)
    ways = ("100 at a time", "o"), ("one at a time", "D"), ("sorted by class", "x")
    names = list(dict.fromkeys(name for name, _ in accuracy))
    titles = {"mean": "read from the mean", "token": "read from the class token"}
    for ax, (pool, title) in zip(axes, titles.items(), strict=True):
        for index, (way, marker) in enumerate(ways):
            shares = [accuracy[name, pool][index] for name in names]
            style = {"ms": 10, "mew": 2, "mfc": "none", "ls": ""}
            ax.plot(shares, range(len(names)), marker, label=way, **style)
        ax.axvline(0.1, color="#666666", ls=":", lw=1.5)
        ax.set(title=title, xlim=(0, 1.02), xlabel="share of digits recognised")
        ax.set(ylim=(len(names) - 0.5, -0.5))
    axes[0].set_yticks(range(len(names)), names)
    fig.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3
    )
    found = "; ".join(
        f"{name}, {titles[pool]}: "
        + ", ".join(
            f"{share:.0%} {way}" for share, (way, _) in zip(shares, ways, strict=True)
        )
        for (name, pool), shares in accuracy.items()
    )
    return describe(
        fig,
        "Share of digits recognised by each layer, asked in three ways, in two panels "
        f"with a dotted line at 10%, where guessing is. {found[0].upper()}{found[1:]}.",
    )


def gradient_errors(errors: Mapping[tuple[bool, str], float]) -> Figure:
    """Error of the gradient, for each value of batch_first and each way to detach."""
    fig, axes = figure(1, 2, height=2.7, sharey=True)
    for ax, flag in zip(axes, (False, True), strict=True):
        cuts = {cut: error for (of, cut), error in errors.items() if of is flag}
        drawn = ax.bar(list(cuts), [100 * error for error in cuts.values()], color=BLUE)
        ax.bar_label(drawn, fmt="%.0f %%")
        ax.set(title=f"batch_first={flag}", xlabel="detached")
        ax.margins(y=0.15)
    axes[0].set_ylabel("error (%)")
    found = "; ".join(
        f"batch_first={flag}, detached {cut}: {error:.0%}"
        for (flag, cut), error in errors.items()
    )
    return describe(
        fig,
        "Bars: error of the input gradient, in percent of its largest entry, for each "
        f"value of batch_first and each way to detach. {found}.",
    )


def similarity_by_depth(lines: Mapping[str, Tensor]) -> Figure:
    """How similar tokens are after 0, 1, 2, ... blocks, one curve for each name."""
    return describe(
        curves(lines, "blocks passed", "mean cosine"),
        "Mean cosine of two tokens of a photograph against the number of blocks "
        f"passed. {first_and_last(lines)}",
    )


def losses_of_students(lines: Mapping[str, Tensor]) -> Figure:
    """Losses on the way from the teacher's scores to random ones, one curve a name."""
    way = "tenths of the way from the teacher's scores to random ones"
    lowest = min(-1.0, *(values.min().item() for values in lines.values()))
    highest = max(3.0, *(values.max().item() for values in lines.values()))
    return describe(
        curves(lines, way, "loss", ylim=(1.1 * lowest, 1.1 * highest)),
        f"Distillation loss of students against the {way}. {first_and_last(lines)}",
    )


def first_and_last(lines: Mapping[str, Tensor]) -> str:
    """A sentence on each curve: where it begins and ends, and whether it turns."""
    said = []
    for name, values in lines.items():
        steps = values.detach().diff()
        level = (steps > -0.005).all(), (steps < 0.005).all()
        ways = {(1, 1): "flat", (1, 0): "never falling", (0, 1): "never rising"}
        way = ways.get(tuple(map(int, level)), "up and down")
        ends = (f"{abs(round(values[i].item(), 2)):.2f}" for i in (0, -1))
        said.append(f"The curve '{name}' goes from {' to '.join(ends)}, {way}.")
    return " ".join(said)


def normed(images: Sequence[Tensor], titles: Sequence[str], patch_size: int) -> Figure:
    """One image `c h w` before and after norms, made of patches that were tokens."""
    levels = [
        F.avg_pool2d(image.detach(), patch_size).mean(dim=0).std() for image in images
    ]
    said = "; ".join(f"{n}: {x:.2f}" for n, x in zip(titles, levels, strict=True))
    return describe(
        tiles(images, titles, 3, 2.7),
        f"One photograph of a flower, {len(images)} times. How much its patches differ "
        f"in brightness, as a standard deviation: {said}.",
    )


def laid_back(photo: Tensor, back: Tensor) -> Figure:
    """A photograph `c h w`, and the sum of its windows, scaled to at most 1."""
    back = (back / back.max()).detach()
    ratio = back / photo.masked_fill(photo < 0.1, float("nan"))
    rows, columns = (
        (line < 0.9 * line.nanmedian()).sum().item()
        for line in (
            ratio.transpose(0, dim).flatten(1).nanmedian(1).values for dim in (1, 2)
        )
    )
    return describe(
        tiles([photo, back], ["the photograph", "laid back"], 2, 2.7),
        "Left: a photograph of a flower. Right: the picture made of its windows, "
        f"scaled to the same brightest pixel; {rows} of its {photo.shape[1]} rows and "
        f"{columns} of its {photo.shape[2]} columns are darker than the typical one.",
    )


def steps(sides: Sequence[int], counts: Mapping[str, list]) -> Figure:
    """Windows along a side of a picture, one staircase for each of two names."""
    fig, (ax,) = figure(height=2.9)
    styles = {"color": BLUE, "marker": "o"}, {"color": VERMILION, "marker": "x"}
    for (name, numbers), style in zip(counts.items(), styles, strict=True):
        ax.plot(list(sides), numbers, drawstyle="steps-mid", label=name, mew=2, **style)
    ax.set(xlabel="side in pixels", ylabel="windows", xticks=list(sides)[1::4])
    ax.legend(frameon=False, loc="upper left")
    (one, ours), (other, theirs) = counts.items()
    pairs = zip(sides, ours, theirs, strict=True)
    apart = [str(side) for side, n, m in pairs if n != m]
    where = f"differ at {', '.join(apart)}" if apart else "are equal everywhere"
    return describe(
        fig,
        f"Number of windows against the side of the picture, {sides[0]} to {sides[-1]} "
        f"pixels: a staircase '{one}' from {ours[0]} to {ours[-1]}, and a staircase "
        f"'{other}' from {theirs[0]} to {theirs[-1]}. They {where}.",
    )
