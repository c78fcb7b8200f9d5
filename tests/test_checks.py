"""Every exercise accepts right answers and meets each known mistake with its hint.

The answers stand in `checks/lesson_NN.py`. RIGHT lists (exercise, answer). WRONG lists
(exercise, answer, misconception, hint): the misconception is a key of the exercise's
`misconceptions`, or None; the hint is a pattern that what is said must match.
"""

import re
import time
from collections import Counter, defaultdict
from importlib import import_module

import nbformat
import pytest
import torch
from house import ROOT

from course_vit.kit import checks
from course_vit.kit.checks import EXERCISES, NotYet, check

LESSONS = [
    import_module(f"checks.{path.stem}")
    for path in sorted((ROOT / "tests" / "checks").glob("lesson_*.py"))
]
RIGHT = [answer for lesson in LESSONS for answer in lesson.RIGHT]
WRONG = [answer for lesson in LESSONS for answer in lesson.WRONG]


def refusal(number, answer):
    with pytest.raises(NotYet) as caught:
        check(number, answer)
    return caught.value


def test_every_exercise_is_tested_with_right_and_wrong_answers():
    assert {number for number, _ in RIGHT} == set(EXERCISES)
    assert {number for number, *_ in WRONG} == set(EXERCISES)


def test_what_is_written_in_the_lessons_on_the_way_to_vit_has_three_right_forms():
    forms = Counter(number for number, _ in RIGHT)
    for number, known in EXERCISES.items():
        if 1 <= float(number) < 7 and known.kind in ("implement", "faded"):
            assert forms[number] >= 3, f"{number}: einsum, matmul, a loop, ..."


def test_at_least_120_wrong_answers_are_listed_with_the_idea_behind_them():
    lessons = [n for n, _, idea, _ in WRONG if idea and 1 <= float(n) < 11]
    assert len(lessons) >= 120


@pytest.mark.parametrize(("number", "answer"), RIGHT)
def test_right_answers_pass(number, answer):
    assert check(number, answer) == f"ok {number}: {EXERCISES[number].title}"


@pytest.mark.parametrize(("number", "answer", "misconception", "hint"), WRONG)
def test_mistakes_meet_their_hint(number, answer, misconception, hint):
    seen = refusal(number, answer)
    assert (seen.exercise, seen.misconception) == (number, misconception)
    assert re.search(hint, seen.hint), seen.hint
    assert misconception is None or misconception in EXERCISES[number].misconceptions


@pytest.mark.parametrize("number", EXERCISES)
def test_every_misconception_has_a_listed_answer_and_one_hint(number):
    hints = defaultdict(set)
    for other, answer, misconception, _ in WRONG:
        if other == number and misconception:
            hint = refusal(number, answer).hint
            hints[misconception].add(re.sub(r"[-\d.,()\[\]e+ ]+", " ", hint))
    assert set(hints) == set(EXERCISES[number].misconceptions)
    for misconception, said in hints.items():
        assert len(said) == 1, f"{misconception}: {said}"
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", misconception)


def test_an_unknown_exercise_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no exercise '99\.9', choose from \['0\.1'"):
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


@pytest.mark.parametrize("answer", [endless, endless_whatever_happens])
def test_an_answer_that_never_ends_is_stopped(answer, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", 0.2)
    assert "no answer after 0 s" in refusal("1.2", answer).hint
    time.sleep(0.3)  # and no late interruption hits what comes next


UNSOUND = {
    "nothing came back": lambda q, k, v, mask=None: None,
    "was changed on the way": lambda q, k, v, mask=None: v.mul_(2),
    "holds nan": lambda q, k, v, mask=None: q * 0 / 0,
    r"float32 went in, torch\.float64 came out": lambda q, k, v, mask=None: q.double(),
    "the answer on meta": lambda q, k, v, mask=None: q.to("meta"),
}


@pytest.mark.parametrize("hint", UNSOUND)
def test_what_is_wrong_whatever_was_asked_is_said(hint):
    assert re.search(hint, refusal("3.5", UNSOUND[hint]).hint)


def test_a_layer_is_watched_like_a_function():
    class Doubles(torch.nn.Module):
        def __init__(self, drop_prob=0.0):
            super().__init__()

        def forward(self, x):
            return x.mul_(2)

    assert "was changed on the way" in refusal("5.3", Doubles).hint


def test_a_hint_is_shown_without_its_traceback_and_says_where_to_read_again():
    (text,) = refusal("1.2", lambda *_: None)._render_traceback_()
    assert text.startswith("not yet, 1.2: nothing came back")
    assert text.endswith(f"To read again: section {EXERCISES['1.2'].section}")


def test_the_hint_that_the_readme_shows_is_what_a_learner_reads():
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    assert str(refusal("3.1", lambda x: (x @ x.T).softmax(dim=0))) in shown


def test_the_table_of_the_clinic_has_the_faults_that_its_checks_know():
    path = ROOT / "notebooks" / "12_bug_clinic.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    table = next(cell.source for cell in cells if "| fault |" in cell.source)
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.MULTILINE))
    assert rows == import_module("course_vit.kit.checks.lesson_12").FAULTS
