"""Checks of lesson 09: a teacher and a student with two tokens."""

import math

import torch
from torch import Tensor, nn

from ...deit import DistilledVisionTransformer
from . import exercise, expect

PARTS = {
    "A": "class token",
    "B": "distillation token",
    "C": "class head",
    "D": "distillation head",
    "E": "label",
    "F": "teacher",
}


@exercise("9.1", "Label the diagram", "choose", minutes=5)
def diagram(answer) -> None:
    got = {letter: str(answer[letter]).strip().lower() for letter in PARTS}
    names = sorted(PARTS.values())
    expect(sorted(got.values()) == names, f"use each of {names} once, got {got}")
    expect(
        got["A"] == "class token",
        "the code puts the token that ViT already had first, so that index 0 keeps its"
        " meaning",
    )
    expect(
        {got["C"], got["D"]} == {"class head", "distillation head"},
        "C and D turn a token into scores: they are heads",
    )
    expect(
        got["C"] == "class head",
        "each head reads its own token: follow the arrow from A",
    )
    expect(
        got["E"] == "label",
        "then the class token listens to the teacher: which of the two outputs did the"
        " paper give it? For which one is there a new token?",
    )


def doubts(b: int = 6, k: int = 4) -> tuple[Tensor, Tensor]:
    """Logits of a student and of a teacher."""
    torch.manual_seed(0)
    return torch.randn(b, k), 3 * torch.randn(b, k)


def divergence(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """The definition, image by image: sum of p log(p / q), then the mean."""
    p, q = (teacher / tau).softmax(dim=-1), (student / tau).softmax(dim=-1)
    return torch.stack(
        [(a * (a / b).log()).sum() for a, b in zip(p, q, strict=True)]
    ).mean()


@exercise("9.2", "The soft loss", "implement", minutes=15)
def soft_distillation(answer) -> None:
    student, teacher = doubts()
    same = answer(teacher, teacher.clone(), 1.0)
    expect(
        isinstance(same, Tensor) and same.ndim == 0, "return one number, a tensor ()"
    )
    expect(
        not torch.isnan(same),
        "nan for equal logits: a target of log-probabilities goes through another"
        " logarithm unless log_target says what it is",
    )
    expect(
        same > -1e-4,
        f"{same:.2f} for equal logits, but a divergence is never negative: the first"
        " argument of F.kl_div must be log-probabilities",
    )
    expect(same < 1e-4, f"equal logits must cost 0, got {same:.3f}")
    got, right = answer(student, teacher, 1.0).item(), divergence(student, teacher, 1.0)
    close = math.isclose
    expect(
        not close(got, right / 4, rel_tol=1e-3),
        "4 times too small for 4 classes: batchmean divides by the number of images"
        " only",
    )
    expect(
        not close(got, right * 6, rel_tol=1e-3),
        "6 times too large for 6 images: divide the sum by their number",
    )
    expect(
        not close(got, divergence(teacher, student, 1.0), rel_tol=1e-3),
        "this is KL(student || teacher): F.kl_div takes the guess first and then the"
        " truth, and the teacher is the truth here",
    )
    expect(
        close(got, right, rel_tol=1e-3),
        f"at tau=1 the definition gives {right:.3f}, you {got:.3f}",
    )
    got, right = answer(student, teacher, 3.0).item(), divergence(student, teacher, 3.0)
    expect(
        not close(got, right, rel_tol=1e-3),
        "right at tau=1, 9 times too small at tau=3: dividing logits by tau makes the"
        " gradient tau squared times smaller. Who makes up for it?",
    )
    expect(
        not close(got, 3 * right, rel_tol=1e-3),
        "one tau comes from the chain rule, another from the flatter answers: tau"
        " squared",
    )
    expect(
        not close(got, 9 * divergence(student, 3 * teacher, 3.0), rel_tol=1e-3)
        and not close(got, 9 * divergence(3 * student, teacher, 3.0), rel_tol=1e-3),
        "both are cooled by the same tau, student and teacher",
    )
    expect(
        close(got, 9 * right, rel_tol=1e-3),
        f"at tau=3 expected {9 * right:.3f}, got {got:.3f}",
    )
    usual = answer(student, teacher).item()
    expect(
        close(usual, got, rel_tol=1e-6),
        f"tau=3.0 and batchmean are the usual case: asked without them expected"
        f" {got:.3f}, got {usual:.3f}",
    )
    legacy = answer(student, teacher, 3.0, reduction="numel").item()
    expect(
        close(legacy, 9 * right / 4, rel_tol=1e-3),
        f"numel divides by images times classes: expected {9 * right / 4:.3f}, got"
        f" {legacy:.3f}",
    )
    try:
        answer(student, teacher, 3.0, reduction="mean")
    except ValueError:
        return
    expect(False, "another word for the reduction must raise ValueError")


class Shy(nn.Module):
    """A small teacher: its answers depend on the company while it is in training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.drop(self.norm(images.flatten(1))))


@exercise("9.3", "How to ask a teacher", "fix", minutes=5)
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
    )
    expect(
        isinstance(got, Tensor) and got.shape == (5, 3) and got.is_floating_point(),
        "return the teacher's logits, b k; the loss decides what to make of them",
    )
    right = Shy().eval()(images)
    expect(
        torch.allclose(got, right, atol=1e-5),
        "these are not the teacher's logits in eval mode",
    )
    expect(
        not got.requires_grad,
        "the answer carries a gradient: memory and time for weights that must not move",
    )


@exercise("9.4", "Ask both heads", "implement", minutes=10)
def two_answers(answer) -> None:
    torch.manual_seed(0)
    model = DistilledVisionTransformer(8, 2, 1, 3, 8, 2, 2, drop_rate=0.5)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    images = torch.rand(4, 1, 8, 8)
    model.eval()
    with torch.no_grad():
        x = model.forward_features(images)
        right = model.head(x[:, 0]), model.head_dist(x[:, 1])
        last = model.head_dist(x[:, -1])
    for training in (False, True):
        model.train(training)
        got = answer(model, images)
        expect(
            isinstance(got, tuple) and len(got) == 2,
            "return two tensors; called in eval mode the model itself gives their mean"
            " only",
        )
        expect(
            model.training == training,
            f"the model was in training={training} and is now in {not training}: put it"
            " back as it was",
        )
        expect(
            not torch.allclose(got[1], last, atol=1e-4),
            "the distillation token is not the last one: in the code it stands behind"
            " the class token",
        )
        expect(
            not torch.allclose(got[0], right[1], atol=1e-4),
            "class first, then distillation",
        )
        mean = (right[0] + right[1]) / 2
        expect(
            not torch.allclose(got[0], mean, atol=1e-4), "this is the mean of the heads"
        )
        expect(
            all(
                torch.allclose(a, b, atol=1e-4) for a, b in zip(got, right, strict=True)
            ),
            f"not the answers of eval mode (the model was in training={training}): is"
            " dropout still on, or another token read?",
        )
        expect(not got[0].requires_grad, "nobody learns here: no gradient is needed")
