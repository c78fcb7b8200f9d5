"""What notebooks print, what is refused, and what `--check` finds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from course_vit.kit.cli import main

HERE = Path(__file__).parents[1]
OPENING = "# Lesson 1. Toy\n\n> A promise.\n\n**Time** 5 minutes"
NAMED = "#| default_exp toy"


class Course:
    """A course of its own, with the settings of this one."""

    def __init__(self, root: Path) -> None:
        self.root, self.package = root, root / "course_vit"
        self.package.mkdir(parents=True)
        (root / "notebooks").mkdir()
        (root / "pyproject.toml").write_text((HERE / "pyproject.toml").read_text())

    def write(self, *sources: str, name: str = "01_toy") -> None:
        """A notebook; what begins with `# ` or `## ` is markdown, the rest is code."""
        cells = [
            {
                "cell_type": "markdown" if source.startswith(("# ", "## ")) else "code",
                "source": source.splitlines(keepends=True),
                "id": f"{self.root.name}{number}",
            }
            for number, source in enumerate(sources)
        ]
        path = self.root / "notebooks" / f"{name}.ipynb"
        path.write_text(json.dumps({"cells": cells}))

    def export(self, *arguments: str) -> int:
        return main(["export", "--root", str(self.root), *arguments])

    def files(self) -> dict[str, tuple[str, int]]:
        """Every file with its text and the time of its last change."""
        paths = (path for path in self.root.rglob("*") if path.is_file())
        return {str(p): (p.read_text(), p.stat().st_mtime_ns) for p in paths}


@pytest.fixture
def course(tmp_path):
    return Course(tmp_path)


LESSON = (
    r"""# Lesson 1. Toy models

> Every toy counts \(n\) tokens, and this sentence stands on two
> lines of the notebook, but is wrapped anew where it is printed.
>
> Letters: `n` tokens.

> Another quote.
""",
    "%matplotlib inline\nimport matplotlib.pyplot as plt",
    NAMED,
    "## 1.1 Never printed",
    "#| export\nfrom torch import nn\nimport math\nimport os",
    "secret = 1",
    "## 1.2 Counting",
    "#| export\nfrom torch import Tensor\nfrom torch import nn\n"
    "from course_vit.other import thing\n\n"
    "# why: a comment stays\n"
    "def second(x: Tensor) -> Tensor:\n    return thing(math.pi * x)",
    "second(secret)",
    "#| export\nSIZES: dict[str, int] = dict(zip(('a', 'b'), (1, 2), strict=True))",
    "#| export\n_HIDDEN = {name: 2 * size for name, size in SIZES.items()}",
    "## 1.3 The model",
    "#| export\nLoss = type[nn.Module]\n"
    "class First(nn.Module):\n    '''A model.'''\n\n    hidden = _HIDDEN",
)

PRINTED = r'''r"""Lesson 1. Toy models.

Every toy counts \(n\) tokens, and this sentence stands on two lines of the notebook,
but is wrapped anew where it is printed.

Letters: `n` tokens.

Printed from notebooks/01_toy.ipynb: edit there, then `make export`.
"""

import math

from torch import Tensor, nn

from .other import thing

__all__ = [
    "second",
    "SIZES",
    "Loss",
    "First",
]


# --- 1.2 Counting ---


# why: a comment stays
def second(x: Tensor) -> Tensor:
    return thing(math.pi * x)


SIZES: dict[str, int] = dict(zip(("a", "b"), (1, 2), strict=True))

_HIDDEN = {name: 2 * size for name, size in SIZES.items()}


# --- 1.3 The model ---

Loss = type[nn.Module]


class First(nn.Module):
    """A model."""

    hidden = _HIDDEN
'''


def test_a_module_reads_as_written_by_hand(course, capsys):
    course.write(*LESSON)
    assert course.export() == 0
    assert capsys.readouterr().out == "wrote course_vit/toy.py\n"
    assert (course.package / "toy.py").read_text() == PRINTED
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", course.package]
        run = subprocess.run(ruff, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout


def test_the_place_on_disk_and_the_cells_ids_leave_no_trace(tmp_path):
    courses = [Course(tmp_path / "here"), Course(tmp_path / "over" / "there")]
    for course in courses:
        course.write(*LESSON)
        course.export()
    here, there = ((course.package / "toy.py").read_bytes() for course in courses)
    assert here == there


def test_a_second_export_touches_nothing(course, capsys):
    course.write(*LESSON)
    course.export()
    before = course.files()
    capsys.readouterr()
    assert course.export() == course.export("--check") == 0
    assert "every module is what its notebook prints" in capsys.readouterr().out
    assert course.files() == before


REFUSED = {
    # the last cell after OPENING and NAMED: what is said about which line
    "#| export\nscale = 2": (2, "a constant is UPPERCASE"),
    "#| export\nA = B = 2": (2, "runs at import"),
    "#| export\nA: int": (2, "runs at import"),
    "#| export\nprint('hi')": (2, "runs at import, export only imports, functions"),
    "#| export\n'text'": (2, "runs at import"),
    "#| export\nA = 1\nif A:\n    B = 2": (3, "runs at import"),
    "#| export\nA = [\n    open('file'),\n]": (3, "this call runs at import"),
    "#| export\nclass A:\n    print('hi')": (3, "runs at import, move it to a method"),
    "#| export\nclass A:\n    for i in ():\n        x = i": (3, "runs at import"),
    "#| export\nA = 1\nA = 2": (3, "`A` is exported twice, keep this or"),
    "#| export\nimport math\ndef math():\n    ...": (3, "`math` is exported twice"),
    "#| export\nfrom a import x\nfrom b import x": (3, "`x` is exported twice"),
    "#| export\nA = 1; import math": (2, "write one statement to a line"),
    "#| export\ndef f():\n    return secret": (
        3,
        "Undefined name `secret`, export what",
    ),
    "#| export\nA = secret": (2, "Undefined name `secret`"),
    "#| export\ndef f():\n    get_ipython()": (3, "Undefined name `get_ipython`"),
    "#| export\ndef f(x):\n    y = x": (3, "ruff F841"),
    "#| export\n%timeit 1": (2, "not Python (invalid syntax)"),
    "#| export\n\n!ls": (3, "not Python"),
    "#| export\ndef f(:": (2, "not Python"),
    "#| export\nfrom math import *": (2, "name what you import"),
    "#| export\nfrom course_vit.kit.data import x": (
        2,
        "a module stands without the kit",
    ),
    "#| export\nimport course_vit.kit": (2, "a module stands without the kit"),
    "#| export\nfrom course_vit import x": (2, "import from the lesson"),
    "#| export\nimport course_vit.x": (2, "import from the lesson"),
    "#| export\nfrom course_vit.x.y import z": (2, "import from the lesson"),
    "#| export\ndef f():\n    from course_vit.x import y": (
        3,
        "at the top of the cell",
    ),
    "A = 1\n#| export": (2, "begin the cell with `#| export`"),
    "#|export\nA = 1": (1, "begin the cell with"),
    "#| exports\nA = 1": (1, "begin the cell with"),
    "#| default_exp toy": (1, "the module is named already"),
}


@pytest.mark.parametrize("cell", REFUSED)
def test_refused(course, capsys, cell):
    line, rule = REFUSED[cell]
    course.write(OPENING, NAMED, "secret = 3", cell)
    before = course.files()
    assert course.export() == course.export("--check") == 1
    said = capsys.readouterr()
    code = cell.splitlines()[line - 1].strip()
    place = f"notebooks/01_toy.ipynb, code cell 3, line {line} ({code}): "
    assert said.out == ""
    assert said.err.startswith(place)
    assert rule in said.err
    assert course.files() == before


@pytest.mark.parametrize(
    ("cells", "rule"),
    [
        ([OPENING, "#| export\nA = 1"], "name the module above"),
        ([OPENING, "#| default_exp game"], "module `name` is printed by NN_name.ipynb"),
        (["# Title", NAMED, "#| export\nA = 1"], "begin the first cell with `# Title`"),
        (["## A\n\n> b", NAMED, "#| export\nA = 1"], "begin the first cell"),
        (
            [OPENING.replace("T", "T" * 90), NAMED, "#| export\nA = 1"],
            "title and promise",
        ),
        (
            [OPENING, NAMED, f"## {'T' * 90}", "#| export\nA = 1"],
            "heading: Line too long",
        ),
    ],
)
def test_refused_notebook(course, capsys, cells, rule):
    course.write(*cells)
    assert course.export() == 1
    said = capsys.readouterr().err
    assert said.startswith("notebooks/01_toy.ipynb")
    assert rule in said


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": [{}]}', "\udcff"])
def test_refused_file(course, capsys, text):
    path = course.root / "notebooks" / "01_toy.ipynb"
    path.write_text(text, "utf-8", "surrogateescape")
    assert course.export() == 1
    assert capsys.readouterr().err.startswith(
        "notebooks/01_toy.ipynb is not a notebook"
    )


def test_a_module_has_one_notebook(course, capsys):
    course.write(OPENING, NAMED, "#| export\nA = 1")
    course.write(OPENING, NAMED, "#| export\nA = 1", name="02_toy")
    assert course.export() == 1
    assert "notebooks/01_toy.ipynb prints toy.py too" in capsys.readouterr().err


def test_all_or_nothing(course):
    course.write(OPENING, NAMED, "#| export\nA = 1")
    course.write(OPENING, "#| default_exp bad", "#| export\na = 1", name="02_bad")
    assert course.export() == 1
    assert list(course.package.iterdir()) == []


def test_a_notebook_without_a_name_exports_nothing(course):
    course.write(OPENING, "a = 1")
    assert course.export() == 0
    assert list(course.package.iterdir()) == []


def test_only_the_notebooks_asked_for(course, capsys):
    course.write(OPENING, NAMED, "#| export\nA = 1")
    course.write("broken", "#| export\n", name="02_bad")
    (course.package / "bad.py").touch()
    assert course.export(str(course.root / "notebooks" / "01_toy.ipynb")) == 0
    assert capsys.readouterr().out == "wrote course_vit/toy.py\n"


def test_check_finds_a_hand_edit_and_export_undoes_it(course, capsys):
    course.write(*LESSON)
    course.export()
    with (course.package / "toy.py").open("a") as file:
        file.write("# by hand\n")
    before = course.files()
    capsys.readouterr()
    assert course.export("--check") == 1
    assert capsys.readouterr().out == (
        "course_vit/toy.py is not what its notebook prints: "
        "edit notebooks/01_toy.ipynb, then run `make export`\n"
    )
    assert course.files() == before
    assert course.export() == 0
    assert (course.package / "toy.py").read_text() == PRINTED


def test_check_finds_a_notebook_that_was_not_exported(course, capsys):
    course.write(*LESSON)
    assert course.export("--check") == 1
    course.export()
    course.write(*LESSON, "#| export\nNEW = 1")
    assert course.export("--check") == 1
    said = capsys.readouterr().out
    assert said.count("course_vit/toy.py is not what its notebook prints") == 2


def test_modules_without_a_notebook_are_named_and_kept(course, capsys):
    (course.package / "kit").mkdir()
    for name in ("old", "__init__", "__main__", "kit/by_hand"):
        (course.package / f"{name}.py").touch()
    assert course.export() == 0
    assert course.export("--check") == 1
    sentence = (
        "course_vit/old.py is printed by no notebook: "
        "delete it, or move it to course_vit/kit/ if it is written by hand\n"
    )
    assert capsys.readouterr().out == 2 * sentence
    assert (course.package / "old.py").exists()


def test_the_course_is_found_from_its_folders(course, capsys, monkeypatch):
    course.write(*LESSON)
    monkeypatch.chdir(course.root / "notebooks")
    assert main(["export", "01_toy.ipynb"]) == 0
    monkeypatch.chdir("/")
    assert main(["export"]) == 1
    assert "is not inside a folder with notebooks/" in capsys.readouterr().err


def test_a_notebook_from_elsewhere(course, capsys):
    assert course.export("nowhere.ipynb") == 1
    expected = f"expected notebooks in {course.root / 'notebooks'}, got nowhere.ipynb\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("arguments", [[], ["exprot"], ["export", "--chekc"]])
def test_usage(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_the_command_is_light_and_survives_broken_modules(course):
    course.write(OPENING, NAMED, "#| export\nA = 1")
    script = (
        "import sys; from course_vit.kit.cli import main; main(['export'])\n"
        "print(*sorted(name for name in sys.modules if 'course_vit' in name))\n"
        "print('torch is loaded:', 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=course.root, capture_output=True, text=True)
    assert run.stdout.splitlines() == [
        "wrote course_vit/toy.py",
        "course_vit course_vit.kit course_vit.kit.cli course_vit.kit.exercises"
        " course_vit.kit.export",
        "torch is loaded: False",
    ]


# The table of exercises

QUESTION = """### Exercise 1.1 (5 min, easy) Count

How many?

<details><summary>Hint 1</summary>

One hint,
on two lines.

</details>

<details><summary>Hint 2</summary>Another.</details>
"""
WHY = "<details><summary>Why</summary>\n\nFor a reason.\n\n</details>"


def ask(course, *cells):
    """A notebook with an exercise; cells are pairs of role and text."""
    (course.package / "kit" / "checks").mkdir(parents=True, exist_ok=True)
    marks = [
        {
            "cell_type": "markdown",
            "source": [text],
            "metadata": {
                "course_vit": {"exercise": "1.1", "kind": "predict", "role": role}
            }
            if role
            else {},
        }
        for role, text in cells
    ]
    path = course.root / "notebooks" / "01_toy.ipynb"
    path.write_text(json.dumps({"cells": marks}))
    return course.package / "kit" / "checks" / "exercises.json"


def test_what_a_lesson_says_of_its_exercises_is_printed(course, capsys):
    heading = (None, "## 1.3 Counting")
    table = ask(course, heading, ("question", QUESTION), ("reason", WHY))
    assert course.export() == 0
    assert json.loads(table.read_text()) == {
        "1.1": {
            "title": "Count",
            "kind": "predict",
            "minutes": 5,
            "difficulty": "easy",
            "section": "1.3 Counting",
            "hints": ["One hint, on two lines.", "Another."],
            "reason": "For a reason.",
        }
    }
    capsys.readouterr()
    assert course.export("--check") == 0
    ask(course, heading, ("question", QUESTION.replace("easy", "hard")))
    assert course.export("--check") == 1
    said = capsys.readouterr().out
    assert (
        "course_vit/kit/checks/exercises.json is not what its notebook prints" in said
    )


def test_a_question_without_its_heading_is_refused(course, capsys):
    table = ask(course, ("question", "### Exercise 1.1 (5 min) Count\n"))
    assert course.export() == 1
    said = capsys.readouterr().err
    assert "01_toy.ipynb: begin with '### Exercise 1.1 (5 min, easy) Title'" in said
    assert "got '### Exercise 1.1 (5 min) Count'" in said
    assert not table.exists()


def test_package_is_in_step(capsys):
    code = main(["export", "--check", "--root", str(HERE)])
    assert code == 0, "".join(capsys.readouterr())
