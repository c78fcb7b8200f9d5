"""Figures of lesson 12: what the patients of the clinic show."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from . import AXIS_COLORS, BLUE, ORANGE, draw_image, figure


def responses(image: Tensor, maps: Sequence[Tensor], titles: Sequence[str]) -> Figure:
    """An image `c h w`, and one number for each of its patches, maps `1 gh gw`."""
    fig, axes = figure(1, 1 + len(maps), height=2.9)
    draw_image(axes[0], image, "the photograph")
    span = max(values.detach().abs().max().item() for values in maps)
    for ax, values, title in zip(axes[1:], maps, titles, strict=True):
        draw_image(ax, values, title, cmap="cividis", vmin=-span, vmax=span)
    return fig


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
    return fig


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
    return fig


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
    return fig


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
    return fig


def steps(sides: Sequence[int], counts: Mapping[str, list], xlabel: str) -> Figure:
    """Whole numbers against the side of a picture, one staircase for each name."""
    fig, (ax,) = figure(height=2.9)
    styles = {"color": BLUE, "marker": "o"}, {"color": ORANGE, "marker": "x", "ms": 9}
    for (name, numbers), style in zip(counts.items(), styles, strict=True):
        ax.plot(list(sides), numbers, drawstyle="steps-mid", label=name, mew=2, **style)
    ax.set(xlabel=xlabel, ylabel="windows", xticks=list(sides)[1::4])
    ax.legend(frameon=False, loc="upper left")
    return fig
