"""Lesson 13: right answers in other styles, mistakes in other forms."""

import torch

from course_vit.kit.checks.lesson_13 import gap_by


def by_strict_loading(ours, theirs, images):
    right = theirs.eval()(images)
    missing, extra = ours.load_state_dict(theirs.state_dict(), strict=True)
    assert not missing
    assert not extra
    return ((ours.eval()(images) - right).abs().max() / right.std()).item()


def by_numbers(first, second, x):
    first.load_state_dict(second.state_dict())
    first.train(False)
    second.train(False)
    pairs = zip(first(x).flatten().tolist(), second(x).flatten().tolist(), strict=True)
    worst = max(abs(a - b) for a, b in pairs)
    return worst / torch.std(second(x)).item()


def biased(right):
    return right.std(correction=0)


RIGHT = {
    "13.1": [by_strict_loading, by_numbers, gap_by(scale=biased)],
    "13.2": [192 * 1002 + 1000],
    "13.3": [" c"],
}
WRONG = {
    "13.1": [(gap_by(scale=torch.max), r"expected a gap of 0\.\d+, got 0\.\d+")],
    "13.2": [(1, "list the parts")],
    "13.3": [("E", "answer A, B, C or D")],
}
