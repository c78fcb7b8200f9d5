"""The collections of wrong implementations, and what tests catch of them."""

import pytest
import torch

from course_vit.kit.checks import judge_of
from course_vit.kit.checks.judge import outcome
from course_vit.kit.mistakes import caught, wrong
from course_vit.patch_embedding import patchify

# How many of the wrong implementations the weak tests of lesson 15 catch: by the shape,
# at one size (or one row, or at tau = 1), and by a sum (or another single property).
SCORES = {
    "15.1": (6, 7, 0, 14),
    "15.2": (2, 10, 8, 24),
    "15.3": (1, 10, 4, 18),
    "15.4": (1, 9, 3, 14),
    "15.5": (0, 6, 5, 10),
    "15.6": (0, 17, 13, 32),
}


@pytest.mark.parametrize("number", SCORES)
def test_a_strong_test_catches_all_and_weak_ones_what_they_look_at(number):
    judge = judge_of(number)
    _, false_alarms, found = judge.trials
    weak = [known.answers[0] for known in judge.known().values()]
    for test in (*weak, judge.right):
        assert outcome(false_alarms, test) == []
    counts = [len(outcome(found, test)) for test in (*weak, judge.right)]
    assert counts == [*SCORES[number]]


@pytest.mark.parametrize("number", SCORES)
def test_an_error_in_the_test_itself_is_shown_as_it_is(number):
    def misspelt(implementation):
        assert torch.oens(2) == 1

    with pytest.raises(AttributeError, match="oens"):
        judge_of(number)(misspelt)


def test_a_test_of_the_shape_catches_wrong_shapes_and_nothing_else():
    def shape(patchify):
        assert patchify(torch.ones(2, 3, 8, 12), (2, 4)).shape == (2, 12, 24)

    implementations = wrong("1.2")
    shapes = {
        n: f(torch.ones(2, 3, 8, 12), (2, 4)).shape for n, f in implementations.items()
    }
    expected = [name for name, it in shapes.items() if it != (2, 12, 24)]
    assert caught(shape, implementations) == expected


def test_names_say_what_is_wrong_and_can_be_left_out():
    assert list(wrong("1.2"))[3:5] == [
        "patches taken as squares",
        "patches taken as squares (2)",
    ]
    assert len(wrong("1.2", "patches-taken-as-squares")) == len(wrong("1.2")) - 2


def test_any_error_counts_and_a_blank_is_no_test():
    def blank(patchify):
        raise NotImplementedError

    assert caught(lambda f: f(1, 2, 3, 4), {"right": patchify}) == ["right"]
    with pytest.raises(NotImplementedError):
        caught(blank, {"right": patchify})


def test_each_seed_is_tried():
    def unlucky(implementation):
        assert torch.rand(()) < 0.7

    lucky = [seed for seed in range(10) if not caught(unlucky, {"it": None}, [seed])]
    assert 0 < len(lucky) < 10
    assert caught(unlucky, {"it": None}, lucky) == []
    assert caught(unlucky, {"it": None}, range(10)) == ["it"]
