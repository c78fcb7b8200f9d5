"""Figures of lesson 15: which wrong implementations a test catches."""

from collections.abc import Collection, Mapping

from matplotlib.figure import Figure

from . import BLUE, describe, figure


def score(implementations: Collection[str], caught: Mapping[str, list[str]]) -> Figure:
    """A row per wrong implementation and a column per test, with a square if caught."""
    names = list(implementations)
    fig, (ax,) = figure(width=9.0, height=1.0 + 0.3 * len(names))
    for column, found in enumerate(caught.values()):
        rows = [names.index(name) for name in found]
        ax.plot([column] * len(rows), rows, "s", color=BLUE, ms=13)
    counts = [f"{test}: {len(it)} of {len(names)}" for test, it in caught.items()]
    ax.set_xticks(range(len(caught)), counts)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(-0.5, len(caught) - 0.5), ylim=(len(names) - 0.5, -0.5))
    ax.xaxis.tick_top()
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)
    for side in ax.spines.values():
        side.set_visible(False)
    ax.tick_params(length=0)
    return describe(
        fig,
        f"A table of {len(names)} wrong implementations and {len(caught)} tests, with "
        f"a square where the test catches the implementation. {', '.join(counts)}.",
    )
