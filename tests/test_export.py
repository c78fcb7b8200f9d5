"""The modules that notebooks export, what is refused, and what `--check` finds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from course_vit.kit.cli import main

HERE = Path(__file__).parents[1]
OPENING = "# Lesson 1. Toy\n\n> A promise.\n\n**Time** 5 minutes"


class Course:
    """A small course with the settings of this one."""

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
                "metadata": {},
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
""",
    "import matplotlib.pyplot as plt",
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


WROTE = """wrote course_vit/toy.py
wrote course_vit/kit/solutions.py
wrote course_vit/kit/checks/exercises.json
"""


def test_a_module_reads_as_written_by_hand(course, capsys):
    course.write(*LESSON)
    assert course.export() == 0
    assert capsys.readouterr().out == WROTE
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
    assert "every module matches its notebook" in capsys.readouterr().out
    assert course.files() == before


REFUSED = {
    # the last cell after OPENING and another: which line, and what is said
    "#| export\nA = B = 2": (", line 2 (A = B = 2)", "this runs at import"),
    "#| export\nA: int": (", line 2 (A: int)", "this runs at import"),
    "#| export\nprint('hi')": (", line 2 (print('hi'))", "export only imports, funct"),
    "#| export\n'text'": (", line 2 ('text')", "this runs at import"),
    "#| export\nA = 1\nif A:\n    B = 2": (", line 3 (if A:)", "this runs at import"),
    "#| export\nA = 1\nA = 2": (", line 3", "`A` is exported twice, keep this or note"),
    "#| export\ndef f():\n    return secret": ("", "does not define `secret`: export"),
    "#| export\nA = secret": ("", "does not define `secret`"),
    "#| export\nclass A:\n    a: secret": ("", "does not define `secret`"),
    "#| export\nfrom math import *\nA = pi": ("", "does not define `pi`"),
    "#| export\n%timeit 1": (", line 2 (%timeit 1)", "not Python (invalid syntax)"),
    "A = 1\n!ls": (", line 2 (!ls)", "not Python"),
    "#| export\ndef f(:": (", line 2 (def f(:)", "not Python"),
}


@pytest.mark.parametrize("cell", REFUSED)
def test_refused(course, capsys, cell):
    line, rule = REFUSED[cell]
    course.write(OPENING, "secret = 3", cell)
    before = course.files()
    assert course.export() == course.export("--check") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"notebooks/01_toy.ipynb, code cell 2{line}: ")
    assert rule in said.err
    assert course.files() == before


CELL = '{"cells": [{"source": "%s", "cell_type": "markdown", "metadata": %s}]}'
NO_NOTEBOOK = [
    *("", "[]", "{}", "\udcff", "<<<<<<< HEAD", "[" * 100_000),
    *('{"cells": []}', '{"cells": 3}', '{"cells": [{}]}', '{"cells": ["a"]}'),
    *(CELL % ("a", "[]"), CELL % ("a", '{"course_vit": 3}'), CELL % ("\\ud800", "{}")),
]


@pytest.mark.parametrize("text", NO_NOTEBOOK)
def test_refused_file(course, capsys, text):
    path = course.root / "notebooks" / "01_toy.ipynb"
    path.write_text(text, "utf-8", "surrogateescape")
    assert course.export() == 1
    assert "notebooks/01_toy.ipynb" in (said := capsys.readouterr().err)
    assert "is not a notebook: save it again, or move it away" in said


@pytest.mark.parametrize("make", ["mkdir", "mkfifo", "symlink_to"])
def test_refused_in_the_place_of_a_file(course, capsys, make):
    path = course.root / "notebooks" / "01_toy.ipynb"
    if make == "symlink_to":
        path.symlink_to("nowhere")
    elif hasattr(os, make):
        getattr(os, make)(path)
    assert course.export() == 1
    assert "01_toy.ipynb is not a notebook" in capsys.readouterr().err


def test_an_incomplete_mark_of_an_exercise_is_named(course, capsys):
    table = ask(course, ("reason", WHY))
    assert course.export() == 1
    assert "01_toy.ipynb: the mark of exercise 1.1" in capsys.readouterr().err
    assert not table.exists()


def test_all_or_nothing(course):
    course.write(OPENING, "#| export\nA = 1")
    course.write(OPENING, "#| export\na = b", name="02_bad")
    assert course.export() == 1
    assert list(course.package.iterdir()) == []


def test_a_lesson_without_a_mark_exports_nothing(course):
    course.write(OPENING, "a = 1")
    assert course.export() == 0
    assert list(course.package.glob("*.py")) == []


def test_a_notebook_that_is_no_lesson_is_left_alone(course):
    course.write(*LESSON)
    course.write("broken", "#| export\n(", name="01_toy-Copy1")
    course.write("broken", "#| export\n(", name="Untitled")
    assert course.export() == 0
    assert [path.name for path in course.package.glob("*.py")] == ["toy.py"]


def test_check_finds_a_hand_edit_and_export_undoes_it(course, capsys):
    course.write(*LESSON)
    course.export()
    with (course.package / "toy.py").open("a") as file:
        file.write("# by hand\n")
    before = course.files()
    capsys.readouterr()
    assert course.export("--check") == 1
    assert capsys.readouterr().out == (
        "course_vit/toy.py does not match its notebook: "
        "edit the notebook, then run `make export`\n"
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
    assert said.count("course_vit/toy.py does not match its notebook") == 2


def test_modules_without_a_notebook_are_named_and_kept(course, capsys):
    course.write(OPENING)
    course.export()
    capsys.readouterr()
    for name in ("old", "__init__", "__main__", "kit/by_hand"):
        (course.package / f"{name}.py").touch()
    assert course.export() == 0
    assert course.export("--check") == 1
    sentence = (
        "no notebook exports course_vit/old.py: "
        "delete it, or move it to course_vit/kit/ if it is written by hand\n"
    )
    assert capsys.readouterr().out == 2 * sentence
    assert (course.package / "old.py").exists()


def test_a_folder_without_lessons_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export"]) == 1
    assert f"{tmp_path / 'notebooks'} has no lessons" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["exprot"], ["export", "--chekc"]])
def test_usage(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_the_command_is_light_and_survives_broken_modules(course):
    course.write(OPENING, "#| export\nA = 1")
    script = (
        "import sys; from course_vit.kit.cli import main; main(['export'])\n"
        "print(*sorted(name for name in sys.modules if 'course_vit' in name))\n"
        "print('torch is loaded:', 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=course.root, capture_output=True, text=True)
    assert run.stdout.splitlines() == [
        *WROTE.splitlines(),
        "course_vit course_vit.kit course_vit.kit.cli course_vit.kit.exercises"
        " course_vit.kit.export course_vit.kit.recipes course_vit.kit.source"
        " course_vit.kit.storage",
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
    made = []
    for role, text in cells:
        mark = {"exercise": "1.1", "kind": "predict", "role": role}
        if role == "solution":
            mark["blank"] = ["count.return"]
        metadata = {"course_vit": mark} if role else {}
        kind = "code" if role in ("solution", "check", "code") else "markdown"
        made.append({"cell_type": kind, "source": [text], "metadata": metadata})
    path = course.root / "notebooks" / "01_toy.ipynb"
    path.write_text(json.dumps({"cells": made}))
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
    assert "course_vit/kit/checks/exercises.json does not match its notebook" in said


SOLUTION = """def helper(x):
    return x


def count(x: Tensor) -> int:
    return math.prod(x.shape)


count(torch.ones(2))
"""


def test_where_an_exported_solution_goes_is_printed(course):
    exported = "#| export\ndef count(x):\n    return x"
    opening, solution = (None, OPENING), ("solution", exported)
    table = ask(course, opening, ("question", QUESTION), solution)
    assert course.export() == 0
    said = json.loads(table.read_text())["1.1"]
    assert (said["module"], said["names"]) == ("toy", ["count"])


def test_a_solution_that_no_lesson_exports_is_printed_for_my_vit(course):
    imports = ("code", "import torch, math, os\nfrom torch import nn, Tensor")
    table = ask(course, imports, ("question", QUESTION), ("solution", SOLUTION))
    assert course.export() == 0
    said = json.loads(table.read_text())["1.1"]
    assert (said["module"], said["names"]) == ("exercises", ["count"])
    text = (course.package / "kit" / "solutions.py").read_text()
    assert (
        text
        == '''"""Solutions that no lesson exports.

Printed from notebooks/: edit there, then `make export`.
"""

import math

from torch import Tensor


# Exercise 1.1
def count(x: Tensor) -> int:
    return math.prod(x.shape)
'''
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
