"""Checks of lesson 14: a fair comparison."""

import torch

from ..results import lead
from .judge import answers, choose, exercise

# 14.1 As heavy as three

stack = exercise("14.1", right=12)
stack.mistakes |= {
    "one-side-halved: {got} blocks of half the width: both sides of each matrix are"
    " halved, so what share of its weights is left?": 6,
    "three-sides-halved: {got} is too many: a matrix has two sides, not three": 24,
    "widths-not-counted: {got} blocks of half the width would have a quarter of the"
    " weights of the three wide blocks": 3,
}

# 14.2 Five pairs

OURS = torch.tensor([91.0, 95.5, 93.0, 96.5, 92.0])
THEIRS = torch.tensor([90.0, 93.0, 92.5, 94.0, 88.5])


def part(index: int, ours=OURS, theirs=THEIRS):
    return lambda answer: float(answer(ours, theirs)[index])


def by_hand(
    leads=lambda ours, theirs: ours - theirs,
    half=lambda leads, ours, theirs: 2.776 * leads.std() / 5**0.5,
):
    """A way to write exercise 14.2, right or with a mistake."""

    def answer(ours, theirs):
        found = leads(ours, theirs)
        return found.mean().item(), half(found, ours, theirs).item()

    return answer


pairs = exercise(
    "14.2",
    right=lead,
    trial={
        "the mean lead is {right:.2f}, got {got:.2f}": part(0),
        "with the two tensors swapped, the mean lead is {right:.2f}, got {got:.2f}": (
            part(0, THEIRS, OURS)
        ),
        "half of the interval is {right:.2f}, got {got:.2f}: 2.776 standard errors of"
        " the mean lead": part(1),
    },
    also={
        "two equal models": lambda f: [float(x) for x in f(OURS, OURS)],
        "float64": part(1, OURS.double(), THEIRS.double() - 1),
    },
    rtol=1e-3,
    atol=1e-6,
)
pairs.mistakes |= {
    "turned-round: the mean lead is {right:.2f}, got {got:.2f}: a lead above zero"
    " means that `ours` is better": by_hand(lambda ours, theirs: theirs - ours),
    "sign-lost: `ours` is behind here, so its mean lead is {right:.2f}, got"
    " {got:.2f}": by_hand(lambda ours, theirs: (ours - theirs).abs()),
    "pairs-torn-apart: half of the interval came out as {got:.2f} instead of"
    " {right:.2f}: the spread of each model by itself also shows how hard the images of"
    " a seed are. What do the two models of a seed have in common?": answers(
        by_hand(
            half=lambda leads, ours, theirs: (
                2.776 * (ours.var() + theirs.var()).sqrt() / 5**0.5
            )
        ),
        by_hand(
            half=lambda leads, ours, theirs: (
                2.776 * (ours.std() + theirs.std()) / 5**0.5
            )
        ),
        by_hand(half=lambda leads, ours, theirs: 2.776 * ours.std() / 5**0.5),
    ),
    "root-forgotten: {got:.2f} is how far a single lead may be from the mean; the mean"
    " of five leads varies less. By which factor?": by_hand(
        half=lambda leads, ours, theirs: 2.776 * leads.std()
    ),
    "divided-by-the-number: {got:.2f} is too narrow: divide the spread by the square"
    " root of the number of seeds, not by the number itself": by_hand(
        half=lambda leads, ours, theirs: 2.776 * leads.std() / 5
    ),
    "factor-forgotten: {got:.2f} is one standard error, and the interval reaches"
    " further": by_hand(half=lambda leads, ours, theirs: leads.std() / 5**0.5),
    "normal-factor: {got:.2f} is 1.96 standard errors. That is right for many seeds;"
    " for five the factor is larger": by_hand(
        half=lambda leads, ours, theirs: 1.96 * leads.std() / 5**0.5
    ),
    "whole-width: {got:.2f} is the whole width of the interval; return half of it": (
        by_hand(half=lambda leads, ours, theirs: 2 * 2.776 * leads.std() / 5**0.5)
    ),
    "divided-by-all-five: {got:.2f} is a little too narrow: torch's `std` divides by"
    " one less than the number of seeds": by_hand(
        half=lambda leads, ours, theirs: 2.776 * leads.std(correction=0) / 5**0.5
    ),
}

# 14.3 What five seeds show

shown = choose("14.3", "C")
shown.mistakes |= {
    "open-taken-for-equal: T2T-ViT's interval at 100 images contains zero, but also"
    " leads of a point and more: can five seeds rule them out?": "A",
    "every-interval-believed: one of these two leads is a tenth of a point. How many of"
    " fifteen intervals do you expect to miss the true lead by chance?": "B",
    "more-than-was-measured: only one convolutional network was tested, and on only one"
    " task. Is that enough for a sentence about every convolution?": "D",
}
