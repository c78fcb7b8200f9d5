"""Every exercise accepts right answers and meets each known mistake with its hint.

The mistakes are written beside the exercises, in `course_vit/kit/checks`. What is
listed in `checks/lesson_NN.py` was not written with the judge in mind: RIGHT holds
right answers in other styles, WRONG mistakes in other forms, each with the name of the
mistake that must be recognised, or with a pattern of what must be said.
"""

import re
import subprocess
import sys
import time
from importlib import import_module

import nbformat
import pytest
import torch
from house import ROOT

from course_vit.kit import checks
from course_vit.kit.checks import EXERCISES, NotYet, check, judge_of
from course_vit.kit.checks.judge import outcome

LISTED = [
    import_module(f"checks.{path.stem}")
    for path in sorted((ROOT / "tests" / "checks").glob("lesson_*.py"))
]
RIGHT = {n: answers for lesson in LISTED for n, answers in lesson.RIGHT.items()}
WRONG = {n: answers for lesson in LISTED for n, answers in lesson.WRONG.items()}
WRITTEN = ("implement", "faded", "fix", "test")


def stub(*_, **__):
    """An exercise before anything is written."""
    raise NotImplementedError


def refusal(number, answer):
    with pytest.raises(NotYet) as caught:
        check(number, answer)
    return caught.value


@pytest.mark.parametrize("number", EXERCISES)
def test_right_answers_pass(number):
    for answer in (judge_of(number).right, *RIGHT.get(number, ())):
        assert check(number, answer) == f"ok {number}: {EXERCISES[number].title}"


@pytest.mark.parametrize("number", EXERCISES)
def test_a_right_answer_raises_only_what_an_exercise_asks_for(number):
    """Any other error would be a fault of the trial, which would then ask for it."""
    judge = judge_of(number)
    for trial in judge.trials:
        got = outcome(trial, judge.right)
        if isinstance(got, Exception):
            assert trial.what or number == "8.3", got
            assert type(got) in (ValueError, TypeError), got


def test_what_is_written_on_the_way_to_vit_is_right_in_three_styles():
    for number, known in EXERCISES.items():
        if 1 <= float(number) < 7 and known.kind in ("implement", "faded"):
            assert len(RIGHT[number]) >= 2, f"{number}: einsum, matmul, a loop, ..."


@pytest.mark.parametrize("number", EXERCISES)
def test_every_mistake_meets_its_own_hint(number):
    for name, known in judge_of(number).known().items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name)
        assert known.answers, f"{name}: what makes this mistake?"
        hints = [refusal(number, answer) for answer in known.answers]
        assert {hint.mistake for hint in hints} == {name}
        if known.hint:
            fixed = re.split(r"{.*?}", known.hint)
            pattern = ".*".join(map(re.escape, fixed))
            assert all(re.fullmatch(pattern, hint.hint) for hint in hints)


@pytest.mark.parametrize("number", EXERCISES)
def test_mistakes_in_other_forms_are_recognised(number):
    for answer, expected in WRONG.get(number, ()):
        seen = refusal(number, answer)
        if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", expected):
            assert seen.mistake == expected, seen.hint
        else:
            assert seen.mistake is None, seen.hint
            assert re.search(expected, seen.hint), seen.hint


@pytest.mark.parametrize(
    "number", [n for n, known in EXERCISES.items() if known.kind in WRITTEN]
)
def test_an_answer_that_is_not_written_yet_is_called_empty(number):
    right = judge_of(number).right
    parts = right if isinstance(right, tuple) else (right,)
    blank = tuple(stub if callable(part) else part for part in parts)
    said = refusal(number, blank if isinstance(right, tuple) else stub)
    assert "the blank is still empty" in said.hint


def test_an_unknown_exercise_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no exercise '99\.9': choose from \['0\.1'"):
        check("99.9", None)


# What is said of any answer


def test_an_empty_blank_is_called_empty():
    assert "the blank is still empty" in refusal("1.1", ...).hint


def test_a_blank_that_is_left_inside_is_called_empty():
    def patchify(images, patch_size):
        pattern = ...
        return images.reshape(pattern)

    assert "the blank is still empty" in refusal("1.2", patchify).hint


def test_an_ellipsis_that_stands_for_axes_is_no_blank():
    def patchify(images, patch_size):
        return images[..., 1:]

    assert "the blank" not in refusal("1.2", patchify).hint


def test_an_answer_that_raises_is_shown_its_own_line():
    def patchify(images, patch_size):
        return {}["missing"]

    hint = refusal("1.2", patchify).hint
    assert "your answer raised KeyError: 'missing'" in hint
    assert '`return {}["missing"]`' in hint


def test_an_answer_of_another_form_is_met_with_words():
    assert "42 cannot be read as an answer" in refusal("1.1", 42).hint
    assert "cannot be compared" in refusal("1.2", lambda *_: "patches").hint


def endless(*_):
    while True:
        time.sleep(0.001)


def endless_whatever_happens(*_):
    while True:
        try:
            endless()
        except Exception:
            continue


def endless_in_a_try(*_):
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


@pytest.mark.parametrize(
    "answer", [endless, endless_whatever_happens, endless_in_a_try]
)
def test_an_answer_that_never_ends_is_stopped(answer, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", 0.2)
    start = time.perf_counter()
    assert "no answer after 0 s" in refusal("1.2", answer).hint
    assert time.perf_counter() - start < 20  # at once, on a busy machine
    time.sleep(0.3)  # and no late interruption hits what comes next


def test_after_a_check_a_profiler_still_works():
    """A leftover request to interrupt makes Python 3.11 hang there."""
    code = """
import cProfile
from course_vit.kit.checks import check
check("2.1", "B")
print(cProfile.Profile().runcall(check, "2.1", "B"))
"""
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=ROOT, check=True, timeout=100)


def interrupts(*_):
    raise KeyboardInterrupt


def test_a_check_that_is_stopped_shows_no_line_of_the_judge():
    with pytest.raises(KeyboardInterrupt, match=r"stopped the check of 1\.2") as seen:
        check("1.2", interrupts)
    assert [entry.name for entry in seen.traceback][1:] == ["check"]


def test_an_answer_that_ends_the_program_is_refused():
    assert "your answer raised SystemExit" in refusal("1.2", lambda *_: exit()).hint


def test_a_pair_with_a_blank_in_a_list_is_empty():
    assert "the blank is still empty" in refusal("12.1", [..., stub]).hint


UNSOUND = {
    "your answer returned nothing": lambda q, k, v, mask=None: None,
    "changed its input": lambda q, k, v, mask=None: v.mul_(2),
    "contains nan": lambda q, k, v, mask=None: q * 0 / 0,
    r"float32, the result torch\.float64": lambda q, k, v, mask=None: q.double(),
    "the result on meta": lambda q, k, v, mask=None: q.to("meta"),
}


@pytest.mark.parametrize("hint", UNSOUND)
def test_what_is_wrong_whatever_was_asked_is_said(hint):
    assert re.search(hint, refusal("3.5", UNSOUND[hint]).hint)


def test_an_input_that_an_answer_changed_is_put_back():
    """Otherwise the next answer would be tried on an input that this one changed."""

    def spoiled(layer, x):
        return x.fill_(torch.nan)

    assert "changed its input" in refusal("4.4", spoiled).hint
    mistake = judge_of("4.4").known()["channels-interleaved"]
    assert refusal("4.4", mistake.answers[0]).mistake == "channels-interleaved"


def test_a_layer_is_watched_like_a_function():
    class Doubles(torch.nn.Module):
        def __init__(self, drop_prob=0.0):
            super().__init__()

        def forward(self, x):
            return x.mul_(2)

    assert "changed its input" in refusal("5.3", Doubles).hint


def test_a_hint_is_shown_without_its_traceback_and_says_where_to_read_again():
    (text,) = refusal("1.2", lambda *_: None)._render_traceback_()
    assert text.startswith("not yet, 1.2: your answer returned nothing")
    assert text.endswith(f"To read again: section {EXERCISES['1.2'].section}")


def test_the_hint_that_the_readme_shows_is_what_a_learner_reads():
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    said = str(refusal("3.1", lambda x: (x @ x.T).softmax(dim=0)))
    assert " ".join(said.split()) in shown  # beside its picture


def test_the_table_of_the_clinic_has_the_faults_that_its_checks_know():
    path = ROOT / "notebooks" / "12_bug_clinic.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    table = next(cell.source for cell in cells if "| fault |" in cell.source)
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert rows == import_module("course_vit.kit.checks.lesson_12").FAULTS
