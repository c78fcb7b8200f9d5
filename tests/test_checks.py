"""Every exercise accepts right answers and meets each known mistake with its hint.

The answers stand in `checks/lesson_NN.py`: RIGHT and WRONG, the latter with the hint.
"""

from importlib import import_module

import pytest
from house import ROOT

from course_vit.kit.checks import EXERCISES, NotYet, check

LESSONS = [
    import_module(f"checks.{path.stem}")
    for path in sorted((ROOT / "tests" / "checks").glob("lesson_*.py"))
]
RIGHT = [answer for lesson in LESSONS for answer in lesson.RIGHT]
WRONG = [answer for lesson in LESSONS for answer in lesson.WRONG]


def test_every_exercise_is_tested_with_right_and_wrong_answers():
    assert {number for number, _ in RIGHT} == set(EXERCISES)
    assert {number for number, _, _ in WRONG} == set(EXERCISES)


@pytest.mark.parametrize(("number", "answer"), RIGHT)
def test_right_answers_pass(number, answer):
    assert check(number, answer) == f"ok {number}: {EXERCISES[number].title}"


@pytest.mark.parametrize(("number", "answer", "hint"), WRONG)
def test_mistakes_meet_their_hint(number, answer, hint):
    with pytest.raises(NotYet, match=hint):
        check(number, answer)


def test_an_unknown_exercise_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no exercise '99\.9', choose from \['0\.1'"):
        check("99.9", None)


def test_an_empty_blank_is_called_empty():
    with pytest.raises(NotYet, match="the blank is still empty"):
        check("1.1", ...)


def test_an_answer_that_raises_is_met_with_words():
    with pytest.raises(NotYet, match=r"not yet, 1\.2: your answer raised KeyError"):
        check("1.2", lambda *_: {}["missing"])


def test_a_hint_is_shown_without_its_traceback():
    assert NotYet("1.2", "look")._render_traceback_() == ["not yet, 1.2: look"]
