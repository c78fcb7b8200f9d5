"""Checks of lesson 13: the same model, and the test that shows it."""

from typing import Any

import torch
from torch import Tensor, nn

from . import exercise, expect, expect_letter, expect_raises


class Classifier(nn.Module):
    """A small model with dropout; `slip` is added to its first logit."""

    def __init__(self, seed: int, bias: bool = True, slip: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.drop, self.slip = nn.Dropout(0.5), slip
        self.head = nn.Linear(6, 5, bias=bias, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.head(self.drop(x))
        return torch.cat([logits[:, :1] + self.slip, logits[:, 1:]], dim=1)


@exercise(
    "13.1",
    {
        "weights-not-carried-over": "each model may answer on weights of its own",
        "compared-in-training-mode": "dropout does not matter for a comparison",
        "mean-hides-the-worst": "the mean difference is as good as the largest",
        "not-in-units-of-spread": "a difference means something without a scale",
        "something-stayed-random": "weights that have no partner may be passed over",
        "signed-difference": "the largest value of a difference is its largest size",
        "changed-the-witness": "it does not matter whose weights are carried over",
    },
)
def gap(answer: Any) -> None:
    torch.manual_seed(0)
    images = torch.randn(7, 6, dtype=torch.float64)
    theirs = Classifier(1)
    before = theirs.head.weight.detach().clone()
    first, second = Classifier(2), Classifier(2)
    same, again = answer(first, theirs, images), answer(second, theirs, images)
    expect(
        torch.equal(theirs.head.weight, before),
        "the weights of `theirs` have changed: it is the witness, carry them from it",
        "changed-the-witness",
    )
    expect(
        abs(same - again) < 1e-12,
        f"asked twice, your gap of the same two models is {same:.2f} and {again:.2f}:"
        " something in them is still drawn by chance",
        "compared-in-training-mode",
    )
    expect(
        abs(same) < 1e-12,
        f"two models of the same class are {same:.2f} apart, they should be 0 apart: on"
        " whose weights does each of them answer?",
        "weights-not-carried-over",
    )
    right = theirs.eval()(images).std().item()
    for slip in (0.3, -0.3):
        got, true = answer(Classifier(2, slip=slip), theirs, images), 0.3 / right
        expect(
            abs(got - true / 5) > 1e-6,
            f"one logit of five is off by {slip}, and your gap is {got:.3f}, a fifth of"
            " it: four good ones must not excuse a bad one",
            "mean-hides-the-worst",
        )
        expect(
            abs(abs(got) - 0.3) > 1e-6,
            f"one logit is off by {slip}, and that is your gap. Is this much or little?"
            f" The logits of `theirs` spread by {right:.3f}",
            "not-in-units-of-spread",
        )
        expect(
            slip > 0 or got > 1e-6,
            f"one logit is too low by {-slip}, and your gap is {got:.3f}: too low is as"
            " wrong as too high",
            "signed-difference",
        )
        hint = f"one logit is off by {slip}, the logits spread by {right:.3f}: expected"
        expect(abs(got - true) < 1e-9, f"{hint} {true:.3f}, got {got:.3f}")
    expect_raises(
        answer,
        (Classifier(2), Classifier(1, bias=False), images),
        RuntimeError,
        "a weight of ours that theirs has not, and that would stay random,",
        "something-stayed-random",
    )


@exercise(
    "13.2",
    {
        "second-head-forgotten": "both tokens share one head",
        "position-row-forgotten": "the new token needs no place in the table",
        "head-without-bias": "a head is its matrix only",
        "token-forgotten": "a token that is added costs nothing itself",
    },
)
def added(answer: Any) -> None:
    head = 192 * 1000 + 1000
    wrong = {
        "second-head-forgotten": (
            2 * 192,
            "that is the token and its place; who reads it, at the other end?",
        ),
        "position-row-forgotten": (
            192 + head,
            "198 tokens enter the blocks: how many rows has the position table now?",
        ),
        "head-without-bias": (
            2 * 192 + 192 * 1000,
            "a linear map for 1000 classes: is a matrix all of it?",
        ),
        "token-forgotten": (head, "a head more, but what does it read?"),
    }
    for misconception, (value, hint) in wrong.items():
        expect(answer != value, f"{value:,}: {hint}", misconception)
    expect(answer == 2 * 192 + head, f"not {answer}: list the parts, one on a line")


@exercise(
    "13.3",
    {
        "a-count-shows-the-model": "the right number of weights means the right model",
        "learning-shows-the-model": "a model that learns well has no bug",
        "loading-shows-the-model": "weights that fit are used in the right way",
    },
)
def witness(answer: Any) -> None:
    wrong = {
        "A": (
            "a-count-shows-the-model",
            "scale, order of q, k and v, eps, the path around: none of these has a"
            " weight, so the count sees none of them",
        ),
        "B": (
            "learning-shows-the-model",
            "models with a bug learn, too, sometimes even well (lesson 4): the"
            " optimizer works around it",
        ),
        "D": (
            "loading-shows-the-model",
            "names and shapes agree. But does the model read the rows of a matrix in"
            " the order in which they were written?",
        ),
    }
    expect_letter(answer, "C", wrong)
