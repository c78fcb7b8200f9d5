"""How the numbers of `peers.py` are shown: ratios, tables and a picture."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import quantiles

import torch

from course_vit.kit import plots

STYLES = [  # a colour and a mark for each peer
    (plots.BLUE, "o"),
    (plots.VERMILION, "s"),
    (plots.GREEN, "D"),
    (plots.ORANGE, "^"),
    (plots.PURPLE, "v"),
    (plots.BLACK, "x"),
]


def ratio(theirs, ours):
    """The quartiles of the ratios, round by round."""
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    return quantiles(ratios, method="inclusive") if len(ratios) > 1 else 3 * ratios


def level(quartiles):
    """Whether a ratio says that we are as fast, up to 3 % or up to its own spread."""
    _, middle, high = quartiles
    return middle >= 0.97 or high >= 1


def text_of(value):
    """A number with two decimals, three quartiles as the middle one and its range."""
    if isinstance(value, list):
        low, middle, high = value
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def table(rows):
    """A Markdown table of dictionaries; what a row lacks stays empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[text_of(row.get(column, "")) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def picture(cells, attention):
    """Every ratio with its quartiles, and the time of attention against tokens."""
    fig, (left, right) = plots.figure(1, 2, width=11, height=1.5 + 0.5 * len(cells))
    styles, middles, places = {}, [], {}
    for cell in cells:
        label = ", ".join(cell[key] for key in ("model", "task", "mode"))
        places[label] = place = -len(places)
        ratios = {k: value for k, value in cell.items() if isinstance(value, list)}
        for i, (peer, (low, middle, high)) in enumerate(ratios.items()):
            known = peer in styles
            color, mark = styles.setdefault(peer, STYLES[len(styles) % len(STYLES)])
            y = place + 0.3 - i / 8
            left.plot([low, high], [y, y], "-", color=color)
            name = "_" if known else peer
            left.plot([middle], [y], mark, color=color, label=name, markersize=5)
            middles.append(middle)
    left.axvline(1, color="gray", linewidth=1, linestyle=":")
    left.set_yticks(list(places.values()), list(places))
    left.set_xlabel("the peer's time / ours (right of 1: we are faster)")
    handles, names = left.get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=6, fontsize=9)
    tokens = [row["tokens"] for row in attention]
    for way in list(attention[0])[1:]:
        right.loglog(tokens, [row[way] for row in attention], marker="o", label=way)
    right.set_xlabel("tokens")
    right.set_ylabel("ms, one head of width 64")
    right.legend(fontsize=9)
    last = [f"{way} {text_of(x)} ms" for way, x in attention[-1].items()][1:]
    return plots.describe(
        fig,
        "Left: for each model and task a mark for each peer, its time divided by "
        f"ours, with its quartiles; all are between {min(middles):.2f} and "
        f"{max(middles):.2f}. Right: the time of attention against the number of "
        f"tokens, both on logarithmic axes; at {tokens[-1]} tokens: {', '.join(last)}.",
    )


HOW_TO_READ = """\
A ratio is a peer's time divided by ours, round by round: its median, and in brackets
its quartiles. Above 1 we are faster. *Level* says whether the ratio of the fastest peer
is at least 0.97, or its upper quartile at least 1. The *share of the peak* compares the
operations that our model does in a second with those of a plain product of two
matrices, measured in the same rounds. Lesson 16, section 16.6, says more about tables
like these.
"""


def machine(bench):
    """What the numbers belong to, without naming the machine or a folder."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
        chip = text.partition("model name")[2].partition(":")[2].split("\n")[0].strip()
    except OSError:  # not Linux
        chip = platform.processor()
    parts = [chip or platform.machine(), f"{os.cpu_count()} cores"]
    if bench.device == "cuda":
        parts.insert(0, torch.cuda.get_device_name())
    parts += [f"torch on {torch.get_num_threads()} of them", f"{platform.system()}"]
    parts += [f"Python {platform.python_version()}"]
    for package in ("torch", "timm", "transformers", "torchvision", "vit-pytorch"):
        parts.append(f"{package} {version(package)}")
    clock = (
        "processor time, because the machine was busy" if bench.busy else "wall time"
    )
    return f"{', '.join(parts)}; {clock}, {bench.rounds} rounds."
