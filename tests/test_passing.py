"""What happens to an answer in a notebook of a workbook, in a real IPython."""

import importlib
from contextlib import suppress

import pytest
from house import ROOT
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from course_vit.kit import workbook
from course_vit.kit.checks import EXERCISES, judge_of
from course_vit.kit.source import definitions
from course_vit.kit.workbook import Workbook

START = """
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from course_vit.kit.workbook import check, still_open
"""
LOOK = "def look(x):\n    return (x @ x.T).softmax(dim=-1)\n"


@pytest.fixture
def run(mine):
    """Run a cell of a notebook in the workbook, and return its last value."""
    in_memory = Config({"HistoryManager": {"hist_file": ":memory:"}})
    shell = InteractiveShell.instance(config=in_memory)

    def run(code):
        done = shell.run_cell(code, store_history=True)
        done.raise_error()
        return done.result

    run(START)
    yield run
    InteractiveShell.clear_instance()


# What is open is loaded, and not shown


def module(workbook, name):
    return (workbook.folder / "my_vit" / f"{name}.py").read_text("utf-8")


def test_my_vit_shows_no_solution_of_an_open_exercise_and_has_all(mine):
    for number, known in EXERCISES.items():
        for name in known.names:
            text = module(mine, known.module)
            assert name not in definitions(text)
            assert f"# exercise {number} is open\n" in text
            loaded = importlib.import_module(f"my_vit.{known.module}")
            assert getattr(loaded, name).__module__ == loaded.__name__
    for path in (ROOT / "course_vit").glob("[!_]*.py"):
        shown = definitions(module(mine, path.stem))
        course = definitions(path.read_text("utf-8"))
        asked = {name for known in EXERCISES.values() for name in known.names}
        assert shown == {n: text for n, text in course.items() if n not in asked}


def test_what_is_provided_uses_my_vit_and_fails_with_its_own_line(mine):
    loaded = importlib.import_module("my_vit.self_attention")
    weights = loaded.attention_weights
    assert loaded.attention.__globals__["attention_weights"] is weights
    path = ROOT / "course_vit" / "self_attention.py"
    assert weights.__code__.co_filename == str(path)
    line = path.read_text("utf-8").splitlines()[weights.__code__.co_firstlineno - 1]
    assert line.startswith("def attention_weights(")


# Every way to write an answer is taken, or the message says why it cannot be moved

TAKEN = {
    "a magic": f"%%time\n{LOOK}",
    "a magic in a magic": f"%%capture\n%%time\n%pwd\n{LOOK}",
    "a captured cell": f"%%capture\n{LOOK}",
    "a command": f"!true\n# {{why}}\n{LOOK}",
    "a cell that waits": f"import asyncio\nawait asyncio.sleep(0)\n{LOOK}",
    "a decorator": f"@torch.no_grad()\n{LOOK}",
    "a second definition": f"def look(x):\n    return x.missing\n\n\n{LOOK}",
    "a lambda with a name": "look = lambda x: (x @ x.T).softmax(dim=-1)",
    "a lambda for a helper": "scores = lambda x: x @ x.T\n"
    "def look(x):\n    return scores(x).softmax(dim=-1)",
    "plain data": "how = {'dim': -1}\nnothing = None\n"
    "def look(x):\n    return (x @ x.T).softmax(**how, dtype=nothing)",
    "a builtin of torch": "from torch import softmax\n"
    "def look(x):\n    return softmax(x @ x.T, -1)",
    "my_vit as a package": "import my_vit\nfrom my_vit import self_attention as three\n"
    "def look(x):\n    root = x.shape[-1] ** 0.5\n"
    "    return (my_vit if x.ndim > 2 else three).attention_weights(x * root, x)",
    "a file of one's own": "%%writefile {file}\n" + LOOK,
}


@pytest.mark.parametrize("how", TAKEN)
def test_an_answer_is_taken_from(how, mine, run, tmp_path, monkeypatch):
    file = tmp_path / "mine_only.py"
    run(TAKEN[how].replace("{file}", str(file)))
    if file.exists():
        monkeypatch.syspath_prepend(tmp_path)
        run("from mine_only import look")
    verdict = run("check('3.1', look)")
    assert "`look` in `my_vit.exercises` is yours" in verdict.text
    assert "look" in definitions(module(mine, "exercises"))
    assert run("check('3.1', look)").text == verdict.text


NO_LINES = "no cell defines `look` at its top: write it there with def or class"
BODY = "return (x @ x.T).softmax(-1)"
LEFT = {
    "def scores(x, dim): return (x @ x.T).softmax(dim)\n"
    "look = __import__('functools').partial(scores, dim=-1)": NO_LINES,
    f"def make():\n    def look(x): {BODY}\n    return look\nlook = make()": NO_LINES,
    f"class Look:\n    def look(self, x): {BODY}\nlook = Look().look": NO_LINES,
    f"class Look:\n    def __call__(self, x): {BODY}\nlook = Look()": NO_LINES,
    f"def stretch(x): {BODY}\nlook = stretch": "has its own `stretch`: call yours",
    f"{LOOK}look = torch.no_grad()(look)": "write a decorator above",
    "one = torch.ones(1)\n"
    "def look(x): return (x @ x.T * one).softmax(-1)": "`one` is a value of another",
}


@pytest.mark.parametrize("code", LEFT)
def test_what_cannot_be_moved_is_right_and_says_why(code, mine, run):
    run(code)
    before = module(mine, "exercises")
    verdict = run("check('3.1', look)")
    assert verdict == "ok 3.1: Along which axis?"
    assert "`my_vit` was not changed: " in verdict.text
    assert LEFT[code] in verdict.text
    assert module(mine, "exercises") == before


def test_a_name_is_looked_up_in_lines_as_python_counts_them():
    assert definitions(f"SEPARATOR = '\u2028\x0c'\n{LOOK}")["look"] == LOOK


def test_what_was_wrapped_in_a_magic_shows_its_line_and_its_blank(run):
    run("%%time\ndef look(x):\n    return {}['missing']")
    with pytest.raises(workbook.NotYet, match=r"in the line `return {}\['missing'\]`"):
        run("check('3.1', look)")
    run("%%time\ndef look(x):\n    weights = ...\n    return weights")
    assert run("check('3.1', look)") == "open 3.1: Along which axis?"


# An answer of two parts

PAIRS = [
    "{word}, {code}",
    "[{word}, {code}]",
    "({code}, {word})",
    "{{0: {word}, 1: {code}}}",
]


@pytest.mark.parametrize("pair", PAIRS)
def test_a_word_and_code_come_in_any_natural_form_and_twice(pair, mine, run):
    cell = "from my_vit.patch_embedding import patchify\n"
    cell += "def mended_cut(images, p): return patchify(images, p)\n"
    cell += f"answer = {pair.format(word=repr('order'), code='mended_cut')}"
    run(cell)
    first = run("check('12.1', answer)")
    assert "is yours from now on" in first.text
    run(cell.partition("\n")[2])  # with the patchify of before the pass
    assert run("check('12.1', answer)").text == first.text
    text = module(mine, "exercises")
    assert "from .patch_embedding import patchify as patchify" in text


# A pass, a refusal, an open blank


def test_a_pass_shows_the_solution_of_the_course_folded(run):
    run(LOOK)
    text = run("check('3.1', look)").text
    course = definitions((ROOT / "course_vit/kit/solutions.py").read_text("utf-8"))
    *_, folded = text.partition("<details><summary>The course's solution</summary>")
    assert f"\n\n```python\n{course['look']}```\n\n</details>" in folded
    assert "<details>" not in run("check('2.1', 'B')").text


def test_outside_of_a_workbook_a_pass_shows_no_solution():
    workbook.forget()
    assert "<details>" not in workbook.check("3.5", judge_of("3.5").right).text


def test_an_open_blank_lets_the_notebook_go_on_and_is_listed_at_the_end(run):
    run("def look(x):\n    raise NotImplementedError")
    verdict = run("check('3.1', look)")
    assert verdict == "open 3.1: Along which axis?"
    assert "The cells below use the course's `look`" in verdict.text
    assert "The cells below" not in run("check('3.3', ...)").text
    run(f"{LOOK}check('3.1', look)")
    said = run("still_open(3)").text
    assert said.startswith("**5 of 6 exercises are open in this lesson:**\n\n- 3.2 ")


def test_the_course_s_own_answer_is_no_answer(mine, run):
    run("from my_vit.exercises import look")
    assert run("check('3.1', look)") == "open 3.1: Along which axis?"
    assert not (mine.folder / "progress.json").exists()


def test_a_program_is_told_that_a_blank_is_open(mine):
    with pytest.raises(workbook.NotYet, match="the blank is still empty"):
        workbook.check("3.1", ...)


def test_a_refusal_is_counted_and_an_open_blank_is_not(mine, run, monkeypatch):
    counted = []
    monkeypatch.setattr(Workbook, "refused", lambda self, *said: counted.append(said))
    for code in ("check('3.3', ...)", "check('3.1', lambda x: x)"):
        with suppress(workbook.NotYet):
            run(code)
    assert counted == [("3.1", "values-mixed-already")]
