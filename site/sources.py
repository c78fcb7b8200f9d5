"""Write the pages of the site from the lessons, the docstrings and the README."""

import json
import re
import shutil
from pathlib import Path

from pages import PAGES
from sphinx.errors import ExtensionError

from course_vit.kit.exercises import lessons, mark

HERE = Path(__file__).parent
ROOT = HERE.parent
LESSONS = lessons(ROOT)
MODULES = [it for it in LESSONS if (ROOT / f"course_vit/{it.stem[3:]}.py").exists()]
API_PAGE = """# {name}

```{{eval-rst}}
.. automodule:: course_vit.{name}
   :members:
   :show-inheritance:
```
"""


def write_sources(app) -> None:
    """Fill the folder that Sphinx reads; it has to be empty, so no file is lost."""
    folder = Path(app.srcdir)
    if any(folder.iterdir()):
        raise ExtensionError(
            f"the site writes its pages into the folder that Sphinx reads, and "
            f"{folder} is not empty; run `make site`, or name an empty folder"
        )
    shutil.copytree(HERE / "static", folder / "site/static")  # as in the README
    shutil.copytree(ROOT / "notebooks/figures", folder / "notebooks/figures")
    for path in LESSONS:
        notebook = for_readers(json.loads(path.read_text("utf-8")))
        write(folder / f"notebooks/{path.name}", json.dumps(notebook))
    for name, page in PAGES.items():
        write(folder / f"{name}.md", page())
    modules = [path.stem[3:] for path in MODULES]
    for name in modules:
        write(folder / f"api/{name}.md", API_PAGE.format(name=name))
    home = (HERE / "index.md").read_text("utf-8")
    home = home.replace("{{ lessons }}", lesson_table())
    home = home.replace("{{ modules }}", "\n".join(f"api/{name}" for name in modules))
    write(folder / "index.md", home)


def write(path: Path, text: str) -> None:
    """Write a file, and make its folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def for_readers(notebook: dict) -> dict:
    """The notebook with folds, and with alt text where MyST-NB looks for it.

    Solutions are folded, and so are the cells that JupyterLab folds. MyST-NB reads the
    alt text of an image from its cell; ours is in the output.
    """
    for cell in notebook["cells"]:
        metadata = cell["metadata"]
        shown = metadata["mystnb"] = {}
        if mark(cell).get("role") == "solution":
            metadata["tags"] = ["hide-input"]
        elif "jupyter" in metadata:
            metadata["tags"] = ["hide-input"]
            shown |= {"code_prompt_show": "Show the code"}
            shown |= {"code_prompt_hide": "Hide the code"}
        for output in cell.get("outputs", []):
            if image := output.get("metadata", {}).get("image/png"):
                shown["image"] = image
    return notebook


def lesson_table() -> str:
    """The README's table of lessons; its links to modules lead to their pages here."""
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.split("\n## The lessons\n")[1].split("\n## ")[0]
    table = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    return re.sub(r"\(course_vit/(\w+)\.py\)", r"(api/\1.md)", table)


def link_the_lesson(app, what, name, obj, options, lines) -> None:
    """Turn the name of the notebook in the docstring of a module into a link."""
    if what == "module":
        printed = r"Printed from notebooks/(\w+)\.ipynb: .*"
        link = r"Printed from :doc:`/notebooks/\1`."
        lines[:] = [re.sub(printed, link, line) for line in lines]
