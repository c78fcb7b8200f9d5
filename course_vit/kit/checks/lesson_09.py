"""Checks of lesson 09: a teacher and a student with two tokens."""

import math
from inspect import unwrap

import torch
from torch import Tensor, nn

from ...deit import DistilledVisionTransformer
from . import exercise, expect, expect_raises
from .probes import trying

PARTS = {
    "A": "class token",
    "B": "distillation token",
    "C": "class head",
    "D": "distillation head",
    "E": "label",
    "F": "teacher",
}


@exercise(
    "9.1",
    {
        "tokens-and-heads-confused": "a token is what gives the scores",
        "new-token-first": "the distillation token takes the first place",
        "heads-crossed": "each token is read by the head of the other",
        "teacher-for-the-class-token": "the teacher tells the class token what to say",
    },
)
def diagram(answer) -> None:
    got = {letter: str(answer[letter]).strip().lower() for letter in PARTS}
    names = sorted(PARTS.values())
    expect(sorted(got.values()) == names, f"use each of {names} once, got {got}")
    for pair in ("AB", "CD", "EF"):
        expect(
            {got[letter] for letter in pair} == {PARTS[letter] for letter in pair},
            "A and B pass through the blocks: they are tokens; C and D turn a token"
            " into scores: they are heads; E and F are no part of the model",
            "tokens-and-heads-confused",
        )
    expect(
        got["A"] == "class token",
        "the code puts the token that ViT already had first, so that index 0 keeps its"
        " meaning",
        "new-token-first",
    )
    expect(
        got["C"] == "class head",
        "each head reads its own token: follow the arrow from A",
        "heads-crossed",
    )
    expect(
        got["E"] == "label",
        "then the class token listens to the teacher: which of the two outputs did the"
        " paper give it? For which one is there a new token?",
        "teacher-for-the-class-token",
    )


def doubts(b: int = 6, k: int = 4) -> tuple[Tensor, Tensor]:
    """Logits of a student and of a teacher."""
    torch.manual_seed(0)
    return torch.randn(b, k), 3 * torch.randn(b, k)


def divergence(student: Tensor, teacher: Tensor, tau: float) -> float:
    """The definition, image by image: sum of p log(p / q), then the mean."""
    p, q = (teacher / tau).softmax(dim=-1), (student / tau).softmax(dim=-1)
    each = [(a * (a / b).log()).sum() for a, b in zip(p, q, strict=True)]
    return torch.stack(each).mean().item()


def close(got: float, right: float) -> bool:
    return math.isclose(got, right, rel_tol=1e-3)


@exercise(
    "9.2",
    {
        "log-target-without-flag": "F.kl_div sees for itself that the target is a"
        " logarithm",
        "probabilities-for-logarithms": "F.kl_div takes the student's probabilities",
        "cross-entropy-for-divergence": "the cross-entropy against the teacher is the"
        " divergence",
        "graph-cut-off": "a loss is a number, whatever became of its graph",
        "teacher-compared-with-itself": "one table of logits is used in both places",
        "divided-by-all-numbers": "a mean over all numbers is the mean over the images",
        "not-divided": "the sum over the batch is the loss",
        "teacher-and-student-exchanged": "a divergence is symmetric, or F.kl_div takes"
        " the truth first",
        "tau-square-left-out": "a temperature changes what is taught and not how"
        " loudly",
        "tau-once": "tau makes up for the temperature once",
        "tau-only-as-factor": "tau is a weight of the loss",
        "one-side-not-cooled": "only one of the two answers gets a temperature",
        "usual-case-changed": "the defaults are a matter of taste",
        "reduction-ignored": "there is one way to divide",
        "other-words-accepted": "whoever writes another word means the usual one",
        "probability-rounded-to-zero": "the logarithm of a softmax is always there",
    },
)
def soft_distillation(answer) -> None:
    student, teacher = doubts()
    expect_zero_for_equal(answer, teacher)
    expect_definition(answer(student, teacher, 1.0).item(), student, teacher)
    watching = student.clone().requires_grad_()
    expect(
        answer(watching, teacher, 1.0).requires_grad,
        "a student can learn from a tensor that remembers its logits; this number does"
        " not",
        "graph-cut-off",
    )
    got = answer(student, teacher, 3.0).item()
    expect_tau(got, student, teacher)
    usual = answer(student, teacher).item()
    expect(
        close(usual, got),
        f"tau=3.0 and batchmean are the usual case: asked without them expected"
        f" {got:.3f}, got {usual:.3f}",
        "usual-case-changed",
    )
    legacy = answer(student, teacher, 3.0, reduction="numel").item()
    expect(
        close(legacy, got / 4),
        f"numel divides by images times classes: expected {got / 4:.3f}, got"
        f" {legacy:.3f}",
        "reduction-ignored",
    )
    words = (student, teacher, 3.0, "mean")
    expect_raises(answer, words, ValueError, "reduction='mean'", "other-words-accepted")
    sure = torch.tensor([[0.0, 400.0]])
    got, right = answer(sure, -sure, 1.0).item(), 400.0
    expect(
        abs(got - right) < 1e-2,
        f"a student and a teacher, sure of different classes (logits 0 and 400):"
        f" expected {right:.0f}, got {got:.0f}. A probability that is rounded to 0 has"
        " no logarithm",
        "probability-rounded-to-zero",
    )
    expect_digits(answer)


def expect_digits(answer) -> None:
    """In float64, for one image and for other temperatures, and on the way back."""
    for b, k, tau in ((6, 4, 0.5), (1, 2, 9.0), (4, 5, 1e4)):
        student, teacher = (logits.double() for logits in doubts(b, k))
        student.requires_grad_()
        case = f"float64, logits {b, k} and tau={tau:g}"
        with trying(case):
            got = answer(student, teacher, tau)
            got.backward()
            same = answer(student, student.detach() + 7, tau).item()
        right = tau**2 * divergence(student, teacher, tau)
        expect(
            math.isclose(got.item(), right, rel_tol=1e-6),
            f"nearly: for {case} expected {right:.9f}, got {got.item():.9f}",
        )
        expect(
            abs(same) < 1e-9 * max(1.0, tau**2),
            f"logits that are all larger by 7 mean the same probabilities and cost 0,"
            f" got {same:.0e} for {case}",
        )
        p, q = (teacher / tau).softmax(dim=-1), (student / tau).softmax(dim=-1)
        slope = (q - p) * tau / b
        expect(
            student.grad is not None
            and torch.allclose(student.grad, slope, rtol=1e-4, atol=1e-6),
            f"the number is right for {case}, its gradient for the student is not: does"
            " every term still know the student's logits?",
        )


def expect_zero_for_equal(answer, logits: Tensor) -> None:
    """The first test of a divergence."""
    raw = unwrap(answer)(logits.clone(), logits.clone(), 1.0)
    expect(
        not (isinstance(raw, Tensor) and raw.isnan().any()),
        "nan for equal logits: a target of log-probabilities goes through another"
        " logarithm unless log_target says what it is",
        "log-target-without-flag",
    )
    same = answer(logits, logits.clone(), 1.0)
    expect(
        isinstance(same, Tensor) and same.ndim == 0,
        f"return one number, a tensor (), got {same}",
    )
    p = logits.softmax(dim=-1)
    entropy = -(p * p.log()).sum(dim=-1).mean().item()
    expect(
        abs(same - entropy) > 1e-3,
        f"{same:.2f} for equal logits, which is the entropy of the teacher: a"
        " cross-entropy, where a divergence is 0",
        "cross-entropy-for-divergence",
    )
    expect(
        same > -1e-4,
        f"{same:.2f} for equal logits, but a divergence is never negative: the first"
        " argument of F.kl_div must be log-probabilities",
        "probabilities-for-logarithms",
    )
    expect(same < 1e-4, f"equal logits must cost 0, got {same:.3f}")


def expect_definition(got: float, student: Tensor, teacher: Tensor) -> None:
    """Without a temperature, on 6 images of 4 classes."""
    right = divergence(student, teacher, 1.0)
    expect(
        abs(got) > 1e-4,
        "different logits cost 0, too: are both arguments the same table?",
        "teacher-compared-with-itself",
    )
    expect(
        not close(got, right / 4),
        "4 times too small for 4 classes: batchmean divides by the number of images"
        " only",
        "divided-by-all-numbers",
    )
    expect(
        not close(got, right * 6),
        "6 times too large for 6 images: divide the sum by their number",
        "not-divided",
    )
    expect(
        not close(got, divergence(teacher, student, 1.0)),
        "this is KL(student || teacher): F.kl_div takes the guess first and then the"
        " truth, and the teacher is the truth here",
        "teacher-and-student-exchanged",
    )
    expect(
        close(got, right), f"at tau=1 the definition gives {right:.3f}, you {got:.3f}"
    )


def expect_tau(got: float, student: Tensor, teacher: Tensor) -> None:
    right, uncooled = (divergence(student, teacher, tau) for tau in (3.0, 1.0))
    expect(
        not close(got, right),
        "right at tau=1, 9 times too small at tau=3: dividing logits by tau makes the"
        " gradient tau squared times smaller. Who makes up for it?",
        "tau-square-left-out",
    )
    expect(
        not close(got, 3 * right),
        "right at tau=1, 3 times too small at tau=3: one tau comes from the chain rule,"
        " another from the flatter answers",
        "tau-once",
    )
    expect(
        not any(close(got, factor * uncooled) for factor in (1, 3, 9)),
        "at tau=3 the answers are as sharp as at tau=1: what does a temperature"
        " divide?",
        "tau-only-as-factor",
    )
    one_sided = (student, 3 * teacher), (3 * student, teacher)
    expect(
        not any(
            close(got, factor * divergence(*pair, 3.0))
            for pair in one_sided
            for factor in (1, 3, 9)
        ),
        "both are cooled by the same tau, student and teacher",
        "one-side-not-cooled",
    )
    expect(
        close(got, 9 * right),
        f"at tau=3 expected {9 * right:.3f}, got {got:.3f}",
    )


class Shy(nn.Module):
    """A small teacher: its answers depend on the company while it is in training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.drop(self.norm(images.flatten(1))))


@exercise(
    "9.3",
    {
        "no-grad-taken-for-eval": "without gradients nothing in a teacher can change",
        "eval-taken-for-no-grad": "eval mode stops gradients",
        "decision-for-logits": "a teacher gives a class",
        "probabilities-for-logits": "a teacher gives probabilities",
        "images-normalised-again": "a teacher wants its images in another range than"
        " the student's, whatever it was trained on",
    },
)
def ask(answer) -> None:
    teacher, images = Shy().train(), torch.rand(5, 2, 2, 2)
    before = teacher.state_dict()["norm.running_mean"].clone()
    got = answer(teacher, images)
    after = teacher.state_dict()["norm.running_mean"]
    moved = (after - before).abs().max().item()
    expect(
        moved == 0,
        f"the teacher's running mean moved by {moved:.2f}: no_grad stops gradients, not"
        " BatchNorm. Which mode is for answering?",
        "no-grad-taken-for-eval",
    )
    quiet = Shy().eval()
    right = quiet(images)
    expect(
        not torch.equal(got, right.argmax(dim=-1)),
        "return the teacher's logits, b k, not its decision: the loss decides what to"
        " make of them",
        "decision-for-logits",
    )
    expect(
        isinstance(got, Tensor) and got.shape == (5, 3),
        "return the teacher's logits, b k",
    )
    expect(
        not torch.allclose(got, right.softmax(dim=-1), atol=1e-5),
        "these are probabilities: a temperature can only divide logits",
        "probabilities-for-logits",
    )
    expect(
        not torch.allclose(got, quiet((images - 0.5) / 0.5), atol=1e-5),
        "these are the logits of images from -1 to 1, and the images go from 0 to 1."
        " Try the teacher alone first: how many does it get right?",
        "images-normalised-again",
    )
    expect(
        torch.allclose(got, right, atol=1e-5),
        "these are not the teacher's logits in eval mode",
    )
    expect(
        not got.requires_grad,
        "the answer carries a gradient: memory and time for weights that must not move",
        "eval-taken-for-no-grad",
    )


def readings(model: DistilledVisionTransformer, images: Tensor) -> dict[str, tuple]:
    """The pair of answers in eval mode, right and by the known mistakes."""
    with torch.no_grad():
        x = model.eval().forward_features(images)
        raw = model.embed(images)
        for block in model.blocks:
            raw = block(raw)
        right = model.head(x[:, 0]), model.head_dist(x[:, 1])
        mean = (right[0] + right[1]) / 2
        return {
            "right": right,
            "answers-exchanged": right[::-1],
            "mean-given-twice": (mean, mean),
            "distillation-token-last": (right[0], model.head_dist(x[:, -1])),
            "one-head-for-both": (right[0], model.head(x[:, 1])),
            "one-token-for-both": (right[0], model.head_dist(x[:, 0])),
            "last-norm-left-out": (
                model.head(raw[:, 0]),
                model.head_dist(raw[:, 1]),
            ),
        }


@exercise(
    "9.4",
    {
        "mean-for-a-pair": "a model with two heads always gives a pair",
        "left-in-eval": "nobody minds that the model is in eval mode afterwards",
        "left-in-training": "nobody minds that the model is in training mode"
        " afterwards",
        "dropout-left-on": "training mode differs from eval mode by the pair only",
        "answers-exchanged": "the distillation logits come first",
        "mean-given-twice": "the mean stands for both answers",
        "distillation-token-last": "the distillation token stands where the paper's"
        " figure draws it",
        "one-head-for-both": "both tokens are read by the class head",
        "one-token-for-both": "both heads read the class token",
        "last-norm-left-out": "a head reads what the last block gives",
        "gradient-kept": "eval mode switches gradients off",
    },
)
def two_answers(answer) -> None:
    torch.manual_seed(0)
    model = DistilledVisionTransformer(8, 2, 1, 3, 8, 2, 2, drop_rate=0.5)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    images = torch.rand(4, 1, 8, 8)
    known = readings(model, images)
    for training in (False, True):
        model.train(training)
        got = answer(model, images)
        expect(
            isinstance(got, tuple | list) and len(got) == 2,
            "return two tensors; called in eval mode the model itself gives their mean"
            " only",
            "mean-for-a-pair",
        )
        now = "training" if model.training else "eval"
        expect(
            model.training == training,
            f"the model was in the other mode and is now in {now} mode: put it back as"
            " it was",
            f"left-in-{now}",
        )
        expect(
            alike(got, answer(model, images)),
            "two calls, two answers: dropout is still on",
            "dropout-left-on",
        )
        expect_own_tokens(got, known)
        expect(
            alike(got, known["right"]),
            f"not the answers of eval mode (the model was in training={training})",
        )
        expect(
            not got[0].requires_grad,
            "nobody learns here: no gradient is needed",
            "gradient-kept",
        )


def alike(got: tuple, right: tuple) -> bool:
    return all(torch.allclose(a, b, atol=1e-4) for a, b in zip(got, right, strict=True))


def expect_own_tokens(got: tuple, known: dict[str, tuple]) -> None:
    hints = {
        "answers-exchanged": "class first, then distillation",
        "mean-given-twice": "this is the mean of the heads, twice",
        "distillation-token-last": "the distillation token is not the last one: in the"
        " code it stands behind the class token",
        "one-head-for-both": "the second token is read by the class head, and it has a"
        " head of its own",
        "one-token-for-both": "both heads read token 0: whose place is it?",
        "last-norm-left-out": "the heads read tokens that are not normalised: what"
        " stands between the last block and a head?",
    }
    for misconception, hint in hints.items():
        expect(not alike(got, known[misconception]), hint, misconception)
