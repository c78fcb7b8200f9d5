"""Markdown: tables, and pages with formulas that need no network."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import mistune
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath

HERE = Path(__file__).parent
# Code, which may contain dollars, or a formula: displayed or in a line.
FORMULA = re.compile(
    r"```.*?```|`[^`\n]+`|\$\$(?P<display>.+?)\$\$|\$(?P<inline>[^$]+?)\$", re.DOTALL
)
# What matplotlib does not know, and what it can draw instead.
SIMPLER = {
    r"\\[lr]vert\b": "|",
    r"\\(?:textstyle|[bB]ig[lr]?)(?![a-z])": "",
    r"\\tfrac": r"\\frac",
    r"\\sqrt (\w)": r"\\sqrt{\1}",
    r"\\!": "",
}
COMMANDS = {
    Outline.MOVETO: ("M", 1),
    Outline.LINETO: ("L", 1),
    Outline.CURVE3: ("Q", 2),
    Outline.CURVE4: ("C", 3),
    Outline.CLOSEPOLY: ("Z", 0),
}
markdown = mistune.create_markdown(escape=False, plugins=["table"])


def page(text: str) -> str:
    """A whole page of Markdown whose first line is its heading."""
    heading = text.partition("\n")[0].removeprefix("# ")
    style = (HERE / "page.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(heading)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{as_html(text)}</main>\n</body>\n</html>\n"
    )


def as_html(text: str) -> str:
    """Markdown as HTML, its formulas drawn."""
    return str(markdown(FORMULA.sub(with_formula, text)))


def with_formula(found: re.Match[str]) -> str:
    """A formula as HTML; code as it is."""
    if display := found["display"]:
        return f'<span class="display">{formula(display)}</span>'
    return formula(found["inline"]) if found["inline"] else found[0]


def formula(tex: str) -> str:
    """A formula as a drawing that reads its source aloud; as code if it is too hard."""
    tex = " ".join(tex.split())
    simple = tex
    for pattern, other in SIMPLER.items():
        simple = re.sub(pattern, other, simple)
    try:
        drawn = TextPath((0, 0), f"${simple}$", size=20)
    except ValueError:
        return f"<code>{escape(tex)}</code>"
    box, steps, at = drawn.get_extents(), [], 0
    while at < len(drawn.codes):
        letter, count = COMMANDS[drawn.codes[at]]
        points = drawn.vertices[at : at + count]
        steps.append(letter + " ".join(f"{x:.1f} {-y:.1f}" for x, y in points))
        at += count or 1
    left, below = box.x0 - 1, box.y0 - 1
    width, height = box.width + 2, box.height + 2
    return (
        f'<svg role="img" aria-label="{escape(tex)}" viewBox="{left:.1f} '
        f'{-below - height:.1f} {width:.1f} {height:.1f}" style="height:'
        f'{height / 20:.2f}em; vertical-align: {below / 20:.2f}em"><path d="'
        f'{"".join(steps)}"/></svg>'
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
