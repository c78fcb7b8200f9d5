"""An automatic learner: from `course-vit start` to the last check, in a real kernel.

It runs the exercises and the cells that they need. Everything else in a lesson runs as
in the solved notebook, because no cell needs an open answer (`test_forms.py`). At first
it leaves every blank as it is. Then it goes back, and at each exercise tries a listed
wrong answer and writes the solution.
"""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from house import MODULES, NOTEBOOKS, ROOT
from nbclient import NotebookClient

from course_vit.kit.checks import EXERCISES
from course_vit.kit.exercises import mark
from course_vit.kit.forms import on_my_vit
from course_vit.kit.source import defined_names, missing_names

in_order = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
TRY_WRONG = """
from course_vit.kit.checks import judge_of
mistake = next(iter(judge_of("{number}").known().values()))
check("{number}", mistake.answers[0])
"""


def course_vit(*arguments):
    """The output of a command; the test ends here if it fails."""
    command = [sys.executable, "-m", "course_vit", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def workbook(tmp_path_factory):
    """A fresh workbook, worked through lesson by lesson."""
    folder = tmp_path_factory.mktemp("learner") / "workbook"
    course_vit("start", folder)
    return folder


@pytest.fixture(scope="module")
def run(workbook):
    """Run a cell in a kernel in the workbook, and return its outputs."""
    notebook = nbformat.v4.new_notebook()
    where = {"metadata": {"path": str(workbook)}}
    client = NotebookClient(notebook, timeout=300, allow_errors=True, resources=where)
    paths = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": paths, "COURSE_VIT_QUIET": "1"}

    def run(source):
        cell = nbformat.v4.new_code_cell(source)
        notebook.cells.append(cell)
        client.execute_cell(cell, len(notebook.cells) - 1)
        return cell.outputs

    with client.setup_kernel(env=env):
        yield run


def needed(cells, solutions):
    """The exercises of a lesson, and the cells that define what they or answers use."""
    names, found = set().union(*map(missing_names, solutions)), []
    for cell in reversed(cells):
        role = cell.metadata.get("course_vit", {}).get("role")
        if role or defined_names(cell.source) & names:
            names |= missing_names(cell.source)
            found.insert(0, cell)
    return found


def refused(outputs):
    """The hint of an answer that is not right yet: its text alone, no traceback."""
    (error,) = [output for output in outputs if output.output_type == "error"]
    assert error.ename == "NotYet", "\n".join(error.traceback)
    (text,) = error.traceback
    assert text.startswith("not yet, ")
    return text


def well(outputs):
    """The outputs, none of which may be an error."""
    for output in outputs:
        assert output.output_type != "error", "\n".join(output.traceback)
        assert output.get("name") != "stderr", output.text
    return outputs


@in_order
def test_a_learner_works_through_the_lesson(workbook, run, path):
    solutions = {
        mark(cell)["exercise"]: on_my_vit(cell.source)
        for cell in nbformat.read(path, as_version=4).cells
        if mark(cell).get("role") == "solution"
    }
    notebook = nbformat.read(workbook / path.name, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cells = needed(code, solutions.values())
    run("%reset -f")
    for cell in cells:
        outputs = well(run(cell.source))
        if mark(cell).get("role") == "check":
            opening = f"**open {mark(cell)['exercise']}** "
            assert outputs[0].data["text/markdown"].startswith(opening)
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        if mark(cell).get("role") != "check":
            continue
        number = mark(cell)["exercise"]
        refused(run(TRY_WRONG.format(number=number)))
        well(run(solutions[number]))
        (verdict,) = well(run(cell.source))
        text = verdict.data["text/markdown"]
        assert text.startswith(f"**ok {number}** {EXERCISES[number].title}")
        assert EXERCISES[number].reason in text
        assert "was not changed" not in text
        if following and following.source.startswith("# This is your version once"):
            well(run(following.source))


@pytest.mark.parametrize("number", ["00", "03", "06"])
def test_run_all_comes_to_the_end_of_a_fresh_lesson(tmp_path, number):
    course_vit("start", tmp_path)
    (path,) = tmp_path.glob(f"{number}_*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    asked = [n for n in EXERCISES if int(n.partition(".")[0]) == int(number)]
    assert outputs[-1].data["text/markdown"].startswith(f"**{len(asked)} of ")
    assert all(f"- {n} " in outputs[-1].data["text/markdown"] for n in asked)
    assert "error" not in {output.output_type for output in outputs}


def test_in_the_end_all_is_passed_and_the_learners_own(workbook):
    said = course_vit("progress", workbook)
    assert "open:" not in said
    assert "all exercises have passed" in said
    said = course_vit("check", "--lesson", 3, workbook)
    assert "yours: attention_weights, attention" in said


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_solutions_of_the_course_make_the_package_of_the_course(workbook, path):
    """So the tests of the package also hold for the learner's."""
    mine = (workbook / "my_vit" / path.name).read_text(encoding="utf-8")
    assert mine.partition('"""\n')[2] == path.read_text("utf-8").partition('"""\n')[2]


def test_in_the_end_my_vit_works_anywhere_and_without_the_course(workbook, tmp_path):
    shutil.copytree(workbook / "my_vit", tmp_path / "renamed")
    code = """
import sys
sys.modules["course_vit"] = sys.modules["my_vit"] = None
import renamed.exercises, torch
print(renamed.VisionTransformer(depth=1)(torch.zeros(1, 3, 224, 224)).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert not done.stderr
