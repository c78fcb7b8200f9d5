"""Lesson 13: right answers in other styles, mistakes in other forms."""

import numpy as np
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


def by_name(ours, theirs, images):
    for name, value in theirs.state_dict().items():
        ours.state_dict()[name].copy_(value)
    if len(ours.state_dict()) > len(theirs.state_dict()):
        raise ValueError("ours has more names")
    return torch.dist(ours.eval()(images), theirs.eval()(images), torch.inf) / (
        theirs(images).std()
    )


def parameters_alone(ours, theirs):
    for mine, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        mine.data.copy_(right)


def our_names(ours, theirs):
    known = theirs.state_dict()
    ours.load_state_dict({name: known[name] for name in ours.state_dict()})


def biased(right):
    return right.std(correction=0)


RIGHT = {
    "13.1": [by_strict_loading, by_numbers, by_name, gap_by(scale=biased)],
    "13.2": [192 * 1002 + 1000, np.int64(193_384)],
    "13.3": [" c"],
}
WRONG = {
    "13.1": [
        (gap_by(scale=torch.max), r"expected a gap of \d\.\d+, got \d\.\d+"),
        (gap_by(lambda difference: difference[0].abs().max()), "off by 2"),
        (gap_by(lambda difference: difference.mean(dim=0).abs().max()), "off by 2"),
        (gap_by(copies=parameters_alone), "weights-not-carried-over"),
        (gap_by(copies=our_names), "ours lacks a weight"),
    ],
    "13.2": [(1, "write down each part")],
    "13.3": [("E", "answer A, B, C or D")],
}
