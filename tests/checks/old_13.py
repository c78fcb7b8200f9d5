"""Right and wrong answers to the exercises of lesson 13."""

import torch


def gap(ours, theirs, images):
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


def in_a_mode(mode):
    def gap(ours, theirs, images):
        ours.load_state_dict(theirs.state_dict())
        right = theirs.train(mode)(images)
        return ((ours.train(mode)(images) - right).abs().max() / right.std()).item()

    return gap


def own_weights(ours, theirs, images):
    right = theirs.eval()(images)
    return ((ours.eval()(images) - right).abs().max() / right.std()).item()


def with_summary(summary, scale=lambda right: right.std(), strict=True):
    def gap(ours, theirs, images):
        ours.load_state_dict(theirs.state_dict(), strict=strict)
        right = theirs.eval()(images)
        return float((summary(ours.eval()(images) - right) / scale(right)).detach())

    return gap


def from_ours(ours, theirs, images):
    theirs.load_state_dict(ours.state_dict())
    right = theirs.eval()(images)
    return ((ours.eval()(images) - right).abs().max() / right.std()).item()


def worst(difference):
    return difference.abs().max()


RIGHT = [
    ("13.1", gap),
    ("13.1", by_numbers),
    ("13.1", in_a_mode(False)),
    ("13.2", 193_384),
    ("13.2", 192 * 1002 + 1000),
    ("13.3", "C"),
    ("13.3", " c"),
]
WRONG = [
    ("13.1", in_a_mode(True), "compared-in-training-mode", "still drawn by chance"),
    ("13.1", own_weights, "weights-not-carried-over", "on whose weights"),
    ("13.1", from_ours, "changed-the-witness", "it is the witness"),
    (
        "13.1",
        with_summary(lambda d: d.abs().mean()),
        "mean-hides-the-worst",
        r"off by 0\.3, and your gap is 0\.\d+, a fifth",
    ),
    (
        "13.1",
        with_summary(worst, lambda right: 1),
        "not-in-units-of-spread",
        "much or little",
    ),
    ("13.1", with_summary(torch.max), "signed-difference", "too low is as wrong"),
    (
        "13.1",
        with_summary(worst, strict=False),
        "something-stayed-random",
        "stay random, should raise RuntimeError",
    ),
    ("13.1", with_summary(worst, torch.max), None, "expected"),
    ("13.2", 384, "second-head-forgotten", "who reads it"),
    ("13.2", 193_192, "position-row-forgotten", "how many rows"),
    ("13.2", 192_384, "head-without-bias", "is a matrix all of it"),
    ("13.2", 193_000, "token-forgotten", "what does it read"),
    ("13.2", 1, None, "list the parts"),
    ("13.3", "A", "a-count-shows-the-model", "the count sees none"),
    ("13.3", "B", "learning-shows-the-model", "models with a bug learn"),
    ("13.3", "D", "loading-shows-the-model", "in the order"),
    ("13.3", "E", None, "answer A, B, C or D"),
]
