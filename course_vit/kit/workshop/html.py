"""Pages that need no network: Markdown with formulas, as HTML."""

import re
from collections.abc import Sequence
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


def page(title: str, body: str, more: str = "") -> str:
    """A whole page with one `h1`; `more` goes into its head."""
    style = (HERE / "page.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n{more}</head>\n"
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def as_html(text: str) -> str:
    """Markdown as HTML, its formulas drawn."""
    return str(markdown(FORMULA.sub(with_formula, text)))


def in_line(text: str) -> str:
    """One line of Markdown as HTML, without a paragraph around it."""
    return as_html(text).strip().removeprefix("<p>").removesuffix("</p>")


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


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], last: str = ""
) -> str:
    """A table whose cells are HTML; the first of each row is its heading."""
    columns = "".join(f'<th scope="col">{it}</th>' for it in head)
    lines = "\n".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{it}</td>" for it in rest)}'
        "</tr>"
        for first, *rest in rows
    )
    return (
        f"<table><caption>{caption}</caption>\n<thead><tr>{columns}</tr></thead>\n"
        f"<tbody>\n{lines}\n</tbody>{last}</table>"
    )
