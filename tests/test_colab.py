"""The lessons for Colab: run from the top in an empty folder, as Colab does."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from house import NOTEBOOKS, ROOT
from nbclient import NotebookClient

from course_vit.kit.exercises import mark

LESSON = NOTEBOOKS[1]


@pytest.fixture(scope="module")
def colab():
    """The file `site/colab.py`, which is not part of the package."""
    sys.path.insert(0, str(ROOT / "site"))
    import colab

    yield colab
    sys.path.remove(str(ROOT / "site"))


@pytest.fixture(scope="module")
def written(colab, tmp_path_factory):
    """The lessons as they are published, by the names of their files."""
    folder = tmp_path_factory.mktemp("site") / "colab"
    colab.write(folder)
    return {path.name: nbformat.read(path, as_version=4) for path in folder.iterdir()}


def run(cells, folder):
    """Run cells in a new kernel; `%pip` is left out and `!` finds our tools."""
    notebook = nbformat.v4.new_notebook(cells=cells)
    for cell in cells:
        cell.source = re.sub(r"^%pip .*\n", "", cell.source, flags=re.M)
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=300, resources=resources)
    client.execute(env=os.environ | {"PATH": tools})
    return notebook.cells


def test_every_lesson_is_written_and_valid(written):
    assert set(written) == {path.name for path in NOTEBOOKS}
    for notebook in written.values():
        nbformat.validate(notebook)


def test_links_between_lessons_stay_in_colab(colab, written):
    for notebook in written.values():
        text = "\n".join(it.source for it in notebook.cells if it.cell_type != "code")
        for link in re.findall(r"\]\(([^)\s]*\.ipynb)", text):
            assert link == colab.address(Path(link).name)
            assert Path(link).name in written


def test_the_readme_and_the_publisher_agree_with_the_address(colab):
    readme = (ROOT / "README.md").read_text("utf-8")
    for path in NOTEBOOKS:
        row = next(it for it in readme.splitlines() if f"notebooks/{path.name})" in it)
        assert f"]({colab.address(path.name)})" in row
    publisher = (ROOT / ".github/workflows/site.yml").read_text("utf-8")
    assert "publish_branch: gh-pages\n" in publisher
    assert "/blob/gh-pages/" in colab.address("a.ipynb")


def test_an_answer_is_checked_and_kept_and_outlives_the_session(written, tmp_path):
    cells = written[LESSON.name].cells
    roles = [mark(cell).get("role") for cell in cells]
    solved = nbformat.read(LESSON, as_version=4).cells
    blank = cells[roles.index("solution")]
    blank.source = next(
        cell.source.removeprefix("#| export\n")
        for cell in solved
        if mark(cell).get("role") == "solution"
    )
    today, tomorrow = tmp_path / "today", tmp_path / "tomorrow"
    today.mkdir()
    checked = run(cells[: roles.index("check") + 1], today)[-1]
    assert "**ok 1.1**" in checked.outputs[-1].data["text/markdown"]
    module = f"my_vit/{LESSON.stem[3:]}.py"
    kept = (today / module).read_text("utf-8")
    assert "Yours: " in kept

    tomorrow.mkdir()
    (today / "progress.json").rename(tomorrow / "progress.json")
    run(cells[:1], tomorrow)
    assert (tomorrow / module).read_text("utf-8") == kept
