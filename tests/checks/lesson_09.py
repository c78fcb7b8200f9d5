"""Right answers and known mistakes for the exercises of lesson 09."""

import torch
from torch.nn import functional as F

from course_vit.kit.checks.lesson_09 import PARTS


def swapped(one, other):
    """The right labels with two exchanged."""
    return PARTS | {one: PARTS[other], other: PARTS[one]}


def soft(fault=""):
    """A way to write exercise 9.2, right or with a mistake."""

    usual = 1.0 if fault == "usual tau" else 3.0

    def soft_distillation(student, teacher, tau=usual, reduction="batchmean"):
        if fault != "any word" and reduction not in ("batchmean", "numel"):
            raise ValueError(reduction)
        if fault == "reversed":
            student, teacher = teacher, student
        by = {"warm student": (1, tau), "warm teacher": (tau, 1)}.get(fault, (tau, tau))
        q, p = (student / by[0]).softmax(-1), (teacher / by[1]).softmax(-1)
        calls = {
            "probabilities": lambda: F.kl_div(q, p, reduction="sum"),
            "no flag": lambda: F.kl_div(q.log(), p.log(), reduction="sum"),
        }
        total = calls.get(fault, lambda: F.kl_div(q.log(), p, reduction="sum"))()
        total = total * {"no square": 1, "tau": tau}.get(fault, tau**2)
        if fault == "sum":
            return total
        if fault == "cross entropy":
            return F.cross_entropy(student / tau, p) * tau**2
        if fault == "a half":
            return total / len(student) / 2
        if fault == "cold":
            return F.kl_div(
                student.log_softmax(-1), teacher.softmax(-1), reduction="batchmean"
            ) * (tau**2)
        if fault == "float":
            return (total / len(student)).item()
        whole = fault == "numel" or (reduction == "numel" and fault != "one way")
        return total / (student.numel() if whole else len(student))

    return soft_distillation


def ask(teacher, images):
    teacher.eval()
    with torch.no_grad():
        return teacher(images)


def only_no_grad(teacher, images):
    with torch.no_grad():
        return teacher(images)


def only_eval(teacher, images):
    return teacher.eval()(images)


def detached(teacher, images):
    return teacher.eval()(images).detach()


def two_answers(model, images, tokens=(0, 1), heads=("head", "head_dist")):
    was_training = model.training
    model.eval()
    with torch.no_grad():
        x = model.forward_features(images)
    model.train(was_training)
    with torch.no_grad():
        pairs = zip(heads, tokens, strict=True)
        return tuple(getattr(model, head)(x[:, token]) for head, token in pairs)


def in_training(model, images):
    was_training = model.training
    model.train()
    with torch.no_grad():
        answers = model(images)
    model.train(was_training)
    return answers


def left_in_eval(model, images):
    answers = two_answers(model, images)
    model.eval()
    return answers


def means(model, images):
    first, second = two_answers(model, images)
    return (first + second) / 2, (first + second) / 2


def with_gradient(model, images):
    was_training = model.training
    model.eval()
    x = model.forward_features(images)
    model.train(was_training)
    return model.head(x[:, 0]), model.head_dist(x[:, 1])


def stub(*_, **__):
    raise NotImplementedError


RIGHT = [
    ("9.1", PARTS),
    ("9.2", soft()),
    ("9.3", ask),
    ("9.3", detached),
    ("9.4", two_answers),
]
WRONG = [
    ("9.1", PARTS | {"F": "label"}, "use each of"),
    ("9.1", swapped("A", "B"), "keeps its meaning"),
    ("9.1", swapped("C", "E"), "they are heads"),
    ("9.1", swapped("C", "D"), "its own token"),
    ("9.1", swapped("E", "F"), "did the paper give it"),
    ("9.2", stub, "still empty"),
    ("9.2", soft("float"), "one number, a tensor"),
    ("9.2", soft("no flag"), "log_target"),
    ("9.2", soft("probabilities"), "never negative"),
    ("9.2", soft("cross entropy"), "must cost 0"),
    ("9.2", soft("numel"), "number of images"),
    ("9.2", soft("sum"), "6 times too large"),
    ("9.2", soft("reversed"), "the teacher is the truth"),
    ("9.2", soft("a half"), "the definition gives"),
    ("9.2", soft("no square"), "Who makes up for it"),
    ("9.2", soft("tau"), "tau squared"),
    ("9.2", soft("warm student"), "cooled by the same tau"),
    ("9.2", soft("warm teacher"), "cooled by the same tau"),
    ("9.2", soft("cold"), "at tau=3 expected"),
    ("9.2", soft("usual tau"), "the usual case"),
    ("9.2", soft("one way"), "images times classes"),
    ("9.2", soft("any word"), "must raise ValueError"),
    ("9.3", stub, "still empty"),
    ("9.3", only_no_grad, "Which mode is for answering"),
    ("9.3", only_eval, "carries a gradient"),
    ("9.3", lambda *a: ask(*a).argmax(dim=-1), "return the teacher's logits"),
    ("9.3", lambda *a: ask(*a).softmax(dim=-1), "not the teacher's logits"),
    ("9.4", stub, "still empty"),
    ("9.4", lambda model, images: model(images), "their mean only"),
    ("9.4", in_training, "dropout still on"),
    ("9.4", left_in_eval, "put it back"),
    ("9.4", lambda *a: two_answers(*a, tokens=(0, -1)), "not the last one"),
    ("9.4", lambda *a: two_answers(*a)[::-1], "class first"),
    ("9.4", means, "mean of the heads"),
    ("9.4", lambda *a: two_answers(*a, heads=("head", "head")), "another token read"),
    ("9.4", with_gradient, "no gradient is needed"),
]
