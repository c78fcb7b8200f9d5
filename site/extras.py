"""Add what Sphinx does not make: buttons, notebooks for Colab, text for programs."""

import json
import re
from pathlib import Path
from urllib.parse import urlencode

import colab
from sources import LESSONS, ROOT, write

from course_vit.kit.exercises import mark
from course_vit.kit.explorer import page
from course_vit.kit.results import stored_model


def add_buttons(app, name, template, context, doctree) -> None:
    """Add links to Colab and to the form for problems to the top of a page.

    The form asks for lesson and section. `course.js` fills in the section.
    """
    if name.startswith("notebooks/"):
        lesson = colab.address(f"{name.removeprefix('notebooks/')}.ipynb")
        context["header_buttons"].append(button("Open in Colab", "play", lesson))
    form = {"template": "lesson.yml", "lesson": context.get("title", name)}
    problem = f"{colab.URLS['Repository']}/issues/new?{urlencode(form)}"
    context["header_buttons"].append(button("Report a problem", "flag", problem))


def button(text: str, icon: str, url: str) -> dict[str, str]:
    """A link in the form that the theme expects."""
    return {"type": "link", "text": text, "icon": f"fa-solid fa-{icon}", "url": url}


def write_extras(app, error) -> None:
    """Write the explorer, notebooks for Colab, licences, and what llmstxt.org asks for.

    `llms.txt` lists the lessons. `llms-full.txt` contains them without solutions, so
    that a tutor who has read them can still let you find the answers yourself.
    """
    site = Path(app.outdir)
    explorer = page(stored_model(), "the course's model", "../notebooks/")
    write(site / "explorer/index.html", explorer)
    colab.write(site / "colab")
    for name in ("LICENSE", "LICENSE-TEXT"):
        write(site / f"{name}.txt", (ROOT / name).read_text("utf-8"))
    lessons = [json.loads(path.read_text("utf-8"))["cells"] for path in LESSONS]
    lines = [f"# {app.config.html_title}", "", f"> {colab.COURSE['Summary']}", ""]
    lines += ["## Lessons", ""]
    for path, cells in zip(LESSONS, lessons, strict=True):
        address = f"{app.config.html_baseurl}/notebooks/{path.stem}.html"
        title, summary = heading(cells)
        lines.append(f"- [{title}]({address}): {summary}")
    write(site / "llms.txt", "\n".join([*lines, ""]))
    write(site / "llms-full.txt", "\n\n".join(map(without_solutions, lessons)))


def heading(cells: list[dict]) -> tuple[str, str]:
    """The title of a lesson, and the sentence below it in one line."""
    first = "".join(cells[0]["source"])
    title, summary = re.match(r"# (.+)\n\n((?:> .+\n)+)", first).groups()
    return title, " ".join(line[2:] for line in summary.splitlines())


def without_solutions(cells: list[dict]) -> str:
    """The text and the code of a lesson, except for solutions and their reasons."""
    kept = [it for it in cells if mark(it).get("role") not in {"solution", "reason"}]
    texts = [(it["cell_type"], "".join(it["source"])) for it in kept]
    return "\n\n".join(
        f"```python\n{text}\n```" if kind == "code" else text for kind, text in texts
    )
