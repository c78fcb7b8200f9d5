"""Lesson 09: right answers in other styles, mistakes in other forms."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from course_vit.deit import soft_distillation
from course_vit.kit.checks.lesson_09 import PARTS, both, logits, reading, swapped

# 9.2 The soft loss


def divided(total, student, reduction):
    if reduction not in ("batchmean", "numel"):
        raise ValueError("batchmean or numel")
    return total / (len(student) if reduction == "batchmean" else student.numel())


def written_out(student, teacher, tau=3.0, reduction="batchmean"):
    p = torch.softmax(teacher / tau, dim=1)
    surer = teacher / tau - teacher.div(tau).logsumexp(1, keepdim=True)
    surer = surer - student / tau + student.div(tau).logsumexp(1, keepdim=True)
    return tau * tau * divided((p * surer).sum(), student, reduction)


def one_by_one(student, teacher, tau=3.0, reduction="batchmean"):
    total = sum(
        nn.KLDivLoss(reduction="sum", log_target=True)(
            F.log_softmax(guess / tau, dim=0), F.log_softmax(truth / tau, dim=0)
        )
        for guess, truth in zip(student, teacher, strict=True)
    )
    return divided(total, student, reduction) * tau**2


def target_moves(student, teacher, *more, **named):
    return (
        soft_distillation(student, teacher, *more, **named).detach() + 0 * student.sum()
    )


def then(change):
    """The right loss, changed afterwards."""
    return lambda *given, **more: change(soft_distillation(*given, **more))


# 9.3 How to ask a teacher, 9.4 Ask both heads


def quietly(teacher, images):
    was_training = teacher.training
    with torch.inference_mode():
        found = teacher.eval()(images)
    teacher.train(was_training)
    return found


@torch.no_grad()
def of_a_copy(teacher, images):
    return copy.deepcopy(teacher)(images)


@torch.no_grad()
def of_a_copied_student(model, images):
    """The pair of training mode, with every part but the outermost in eval mode."""
    model = copy.deepcopy(model).eval()
    model.training = True
    return model(images)


def set_as_a_whole(model, images):
    was_training = model.training
    found = both(model.eval(), images)
    model.train(was_training)
    return found


def without_dropout(model, images):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return both(model, images)


def by_hand(model, images):
    x = model.eval().embed(images)
    for block in model.blocks:
        x = block(x)
    return model.norm(x)


RIGHT = {
    "9.1": [
        {letter.lower(): part.upper() for letter, part in PARTS.items()},
        [f"the_{part}".replace(" ", "_") for part in PARTS.values()],
    ],
    "9.2": [written_out, one_by_one],
    "9.3": [quietly, lambda teacher, images: teacher.eval()(images).detach()],
    "9.4": [reading(features=by_hand), of_a_copied_student],
}
WRONG = {
    "9.1": [
        (PARTS | {"F": "label"}, "use each of"),
        (swapped("A", "C"), "tokens-and-heads-confused"),
        ("ABCDEF", "use each of"),
        ({"A": "class token"}, "answer each of A, B, C, D, E, F, got"),
    ],
    "9.2": [
        (then(lambda total: total.expand(6)), r"one number, a tensor \(\), got \(6,\)"),
        (then(lambda total: total.item()), r"one number, a tensor \(\), got 0\.0"),
        (
            lambda s, t, tau: F.kl_div(s, t.log_softmax(-1), reduction="batchmean"),
            "log-target-without-flag",
        ),
        (
            lambda s, t, tau: (
                (t.softmax(-1) * (t.log_softmax(-1) - s.softmax(-1))).sum() / 6
            ),
            "probabilities-for-logarithms",
        ),
        (then(lambda total: total + 0.5), "must cost 0"),
        (then(lambda total: total / 2), "the definition gives"),
        (lambda s, t, tau: soft_distillation(s, t, tau) * tau, "at tau=3 expected"),
        (
            lambda s, t, *more, **named: soft_distillation(
                s.float(), t.float(), *more, **named
            ).to(s),
            "larger by 7 mean the same .* in float64",
        ),
        (
            lambda s, t, *more, **named: (
                soft_distillation(s, t, *more, **named) * (len(s) / 6)
            ),
            "right for 6 images of 4 classes, but not for 1 of 2",
        ),
        (
            lambda s, t, tau=3.0, reduction="batchmean": soft_distillation(
                s, t, tau, reduction if reduction in ("numel", "mean") else "batchmean"
            ),
            "reduction='sum' should raise ValueError: nothing was raised",
        ),
        (target_moves, "its gradient for the student is not"),
    ],
    "9.3": [
        (
            lambda teacher, images: teacher.train()(images).detach(),
            "no-grad-taken-for-eval",
        ),
        (lambda *given: logits(*given)[:1], "return the teacher's logits, b k"),
        (of_a_copy, "not the teacher's logits"),
    ],
    "9.4": [
        (lambda model, images: model.train()(images), "left-in-training"),
        (set_as_a_whole, "parts-follow-the-whole"),
        (without_dropout, "leave the model and its parts as you found them"),
        (lambda model, images: both(model, images.flip(0)), "answers of eval mode"),
    ],
}
