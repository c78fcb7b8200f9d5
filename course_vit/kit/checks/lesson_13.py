"""Checks of lesson 13: the same model, and the test that shows it."""

import torch
from torch import Tensor, nn

from .judge import choose, draw, exercise

# 13.1 The gap


class Classifier(nn.Module):
    """A small model with dropout and a buffer; `slip` is added to its last logit."""

    def __init__(self, seed: int, bias: bool = True, slip: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.drop, self.slip = nn.Dropout(0.5), slip
        self.head = nn.Linear(6, 5, bias=bias, dtype=torch.float64)
        self.register_buffer("shift", torch.randn(5, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        logits = self.head(self.drop(x)) + self.shift
        slip = torch.zeros_like(logits)
        slip[-1, -1] = self.slip
        return logits + slip


def gap_by(
    summary=lambda difference: difference.abs().max(),
    scale=torch.std,
    copies=lambda ours, theirs: ours.load_state_dict(theirs.state_dict()),
    training=False,
):
    """A way to write exercise 13.1, right or with a mistake."""

    def gap(ours, theirs, images):
        copies(ours, theirs)
        right = theirs.train(training)(images)
        difference = ours.train(training)(images) - right
        return (summary(difference) / scale(right)).item()

    return gap


def between(slip: float):
    return lambda gap: torch.as_tensor(
        gap(Classifier(2, slip=slip), Classifier(1), draw(7, 6))
    ).detach()


def raises(ours: bool, theirs: bool):
    """Whether a gap is refused between models with and without a bias."""

    def run(gap) -> bool:
        try:
            gap(Classifier(2, bias=ours), Classifier(1, bias=theirs), draw(7, 6))
        except Exception:
            return True
        return False

    return run


def kept(gap) -> Tensor:
    """By how much the weights of `theirs` change."""
    theirs = Classifier(1)
    gap(Classifier(2), theirs, draw(7, 6))
    return theirs.head.weight - Classifier(1).head.weight


gap = exercise(
    "13.1",
    right=gap_by(),
    trial={
        "changed-the-reference": kept,
        "compared-in-training-mode": lambda f: between(0.0)(f) - between(0.0)(f),
        "weights-not-carried-over": between(0.0),
        "one logit of 35 is off by 2: expected a gap of {right:.3f}, got {got:.3f}": (
            between(2.0)
        ),
        "one logit of 35 is off by -2: expected a gap of {right:.3f}, got {got:.3f}": (
            between(-2.0)
        ),
        "something-stayed-random": raises(ours=True, theirs=False),
        "ours lacks a weight that theirs has, and nothing was raised": (
            raises(ours=False, theirs=True)
        ),
    },
    rtol=0.03,  # either definition of the standard deviation is good
    atol=1e-9,
)
gap.mistakes |= {
    "weights-not-carried-over: two models of the same class are {got:.2f} apart, and"
    " they should be 0 apart: which weights does each of them use?": (
        gap_by(copies=lambda ours, theirs: None)
    ),
    "compared-in-training-mode: called twice with the same two models, your gap returns"
    " numbers that are {got:.2f} apart: something in the models is still"
    " random": gap_by(training=True),
    "mean-hides-the-worst: one logit of 35 is off by 2, and your gap is {got:.3f},"
    " far below {right:.3f}: many good logits must not hide a bad one": (
        gap_by(summary=lambda difference: difference.abs().mean())
    ),
    "not-in-units-of-spread: one logit is off by 2, and that is your gap. Is this"
    " a lot or a little? In units of the spread of the logits of `theirs` it is"
    " {right:.3f}": gap_by(scale=lambda right: 1),
    "something-stayed-random: ours has a weight that theirs lacks: it stayed random,"
    " and nothing was raised": gap_by(
        copies=lambda ours, theirs: ours.load_state_dict(theirs.state_dict(), False)
    ),
    "signed-difference: one logit is too low by 2, and your gap is {got:.3f}: a"
    " logit that is too low is as wrong as one that is too"
    " high": gap_by(summary=torch.max),
    "changed-the-reference: the weights of `theirs` have changed: that model is the"
    " reference, so copy the weights from it": (
        gap_by(copies=lambda ours, theirs: theirs.load_state_dict(ours.state_dict()))
    ),
}

# 13.2 What a token costs

HEAD = 192 * 1000 + 1000
cost = exercise(
    "13.2",
    right=2 * 192 + HEAD,
    otherwise="{got} is not right: write down each part that is added, one per line",
)
cost.mistakes |= {
    "second-head-forgotten: {got:,} is the token and its row in the position table:"
    " what reads the token at the output?": 2 * 192,
    "position-row-forgotten: {got:,} is too few: 198 tokens enter the blocks, so how"
    " many rows does the position table have now?": 192 + HEAD,
    "head-without-bias: {got:,} is too few: does the linear map for 1000 classes"
    " have nothing but a matrix?": 2 * 192 + 192 * 1000,
    "token-forgotten: {got:,} counts the second head: what does that head read?": HEAD,
}

# 13.3 The test that shows it

witness = choose("13.3", "C")
witness.mistakes |= {
    "a-count-shows-the-model: scale, order of q, k and v, eps, the residual"
    " connection: none of these has a weight, so the count sees none of them": "A",
    "learning-shows-the-model: models with a bug learn, too, sometimes even well"
    " (lesson 4): training works around the bug": "B",
    "loading-shows-the-model: names and shapes agree. But does the model read the rows"
    " of a matrix in the order in which they were written?": "D",
}
