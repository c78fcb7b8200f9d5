"""The lessons for Google Colab: the learner's form, and a cell that installs.

`make site` writes them into its output. They are published with the pages on the branch
`gh-pages`, from which Colab opens them.
"""

import re
from importlib.metadata import metadata
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

from course_vit.kit.exercises import lessons
from course_vit.kit.forms import make_form

COURSE = metadata("course_vit")
URLS = dict(line.split(", ") for line in COURSE.get_all("Project-URL"))
INSTALL = f"""\
# Run this cell first. It installs the course and makes your workbook in this folder.
# Colab deletes the folder when your session ends. To continue on another day, download
# progress.json, and upload it again before you run this cell.
%pip install --quiet "course_vit[course]=={COURSE["Version"]}"
!course-vit start ."""


def address(lesson: str) -> str:
    """Where Colab opens a lesson, such as `05_encoder_block.ipynb`."""
    repository = URLS["Repository"].removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{repository}"
    return f"{colab}/blob/gh-pages/colab/{lesson}"


def write(folder: Path) -> None:
    """Write every lesson for Colab; links between lessons lead to Colab, too."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in lessons(Path(__file__).parents[1]):
        made = make_form(nbformat.read(path, as_version=4))
        for cell in made.cells:
            if cell.cell_type == "markdown":
                link = r"\]\((\d\d_\w+\.ipynb)"
                cell.source = re.sub(
                    link, lambda found: f"]({address(found[1])}", cell.source
                )
        made.cells.insert(0, new_code_cell(INSTALL, id="install"))
        nbformat.write(made, folder / path.name)
