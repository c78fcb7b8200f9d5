"""Right answers and known mistakes for the exercises of lesson 09."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from checks import stub
from course_vit.kit.checks.lesson_09 import PARTS


def soft(fault=""):
    """A way to write exercise 9.2, right or with a mistake."""
    usual = 1.0 if fault == "usual tau" else 3.0

    def soft_distillation(student, teacher, tau=usual, reduction="batchmean"):
        if fault != "any word" and reduction not in ("batchmean", "numel"):
            raise ValueError(reduction)
        if fault == "reversed":
            student, teacher = teacher, student
        if fault == "teacher twice":
            student = teacher
        by = {"warm student": (1, tau), "warm teacher": (tau, 1), "cold": (1, 1)}
        by = by.get(fault, (tau, tau))
        log_q, log_p = (
            (student / by[0]).log_softmax(-1),
            (teacher / by[1]).log_softmax(-1),
        )
        total = F.kl_div(log_q, log_p, reduction="sum", log_target=True)
        total = total * {"no square": 1, "tau": tau}.get(fault, tau**2)
        if fault == "sum":
            return total
        if fault == "a half":
            return total / len(student) / 2
        if fault == "each":
            return total.expand(len(student))
        if fault == "float":
            return (total / len(student)).item()
        if fault == "detached":
            return (total / len(student)).detach()
        whole = fault == "numel" or (reduction == "numel" and fault != "one way")
        return total / (student.numel() if whole else len(student))

    return soft_distillation


def divided(total, logits, reduction):
    return total / {"batchmean": len(logits), "numel": logits.numel()}[reduction]


def written_out(student, teacher, tau=3.0, reduction="batchmean"):
    """Right, by the definition: a sum over classes, then one over images."""
    if reduction not in {"batchmean", "numel"}:
        raise ValueError("batchmean or numel")
    p = torch.softmax(teacher / tau, dim=1)
    surer = teacher / tau - teacher.div(tau).logsumexp(1, keepdim=True)
    surer = surer - student / tau + student.div(tau).logsumexp(1, keepdim=True)
    return tau * tau * divided((p * surer).sum(), student, reduction)


def one_by_one(student, teacher, tau=3.0, reduction="batchmean"):
    """Right, by a loop over the images."""
    total = sum(
        nn.KLDivLoss(reduction="sum", log_target=True)(
            F.log_softmax(guess / tau, dim=0), F.log_softmax(truth / tau, dim=0)
        )
        for guess, truth in zip(student, teacher, strict=True)
    )
    if reduction == "batchmean":
        return total * tau**2 / len(student)
    if reduction == "numel":
        return total * tau**2 / student.numel()
    raise ValueError(reduction)


def no_flag(student, teacher, tau=3.0, reduction="batchmean"):
    log_q, log_p = (F.log_softmax(x / tau, dim=-1) for x in (student, teacher))
    return F.kl_div(log_q, log_p, reduction="batchmean") * tau**2


def twice_logged(student, teacher, tau=3.0, reduction="batchmean"):
    log_p = F.log_softmax(teacher / tau, dim=-1)
    log_q = F.log_softmax(student / tau, dim=-1)
    return divided((log_p * (log_p.log() - log_q)).sum(), student, reduction) * tau**2


def probabilities_first(student, teacher, tau=3.0, reduction="batchmean"):
    q, p = (student / tau).softmax(-1), (teacher / tau).softmax(-1)
    return F.kl_div(q, p, reduction=reduction) * tau**2


def no_logarithm_of_q(student, teacher, tau=3.0, reduction="batchmean"):
    q, p = (student / tau).softmax(-1), (teacher / tau).softmax(-1)
    return (p * (p.log() - q)).sum(dim=-1).mean() * tau**2


def cross_entropy(student, teacher, tau=3.0, reduction="batchmean"):
    return F.cross_entropy(student / tau, (teacher / tau).softmax(-1)) * tau**2


def torch_mean(student, teacher, tau=3.0, reduction="batchmean"):
    log_q, log_p = (F.log_softmax(x / tau, dim=-1) for x in (student, teacher))
    each = F.kl_div(log_q, log_p, reduction="none", log_target=True)
    return each.mean() * tau**2


def squared(student, teacher, tau=3.0, reduction="batchmean"):
    return (student - teacher).square().sum(dim=-1).mean()


def underflows(student, teacher, tau=3.0, reduction="batchmean"):
    if reduction not in ("batchmean", "numel"):
        raise ValueError(reduction)
    q, p = (student / tau).softmax(-1), (teacher / tau).softmax(-1)
    total = F.kl_div(q.log(), p, reduction="sum")
    return divided(total, student, reduction) * tau**2


def of_float32(student, teacher, tau=3.0, reduction="batchmean"):
    return written_out(student.float(), teacher.float(), tau, reduction).to(student)


def target_moves(student, teacher, tau=3.0, reduction="batchmean"):
    """The number is right, and no term of it learns."""
    loss = written_out(student, teacher, tau, reduction)
    return loss.detach() + 0 * student.sum()


def ask(teacher, images):
    teacher.eval()
    with torch.no_grad():
        return teacher(images)


def quietly(teacher, images):
    """Right: the mode is put back for those who train the teacher on."""
    was_training = teacher.training
    with torch.inference_mode():
        logits = teacher.eval()(images)
    teacher.train(was_training)
    return logits


def of_a_copy(teacher, images):
    with torch.no_grad():
        return copy.deepcopy(teacher)(images)


def normalised(teacher, images):
    return ask(teacher, (images - 0.5) / 0.5)


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


def by_hand(model, images):
    """Right: block by block, the heads by their names."""
    training = model.training
    with torch.no_grad():
        x = model.eval().embed(images)
        for block in model.blocks:
            x = block(x)
        of_class, of_teacher, *_ = model.norm(x).unbind(dim=1)
        answers = [model.head(of_class), model.head_dist(of_teacher)]
    model.train(training)
    return answers


def without_norm(model, images):
    training = model.training
    with torch.no_grad():
        x = model.eval().embed(images)
        for block in model.blocks:
            x = block(x)
    model.train(training)
    with torch.no_grad():
        return model.head(x[:, 0]), model.head_dist(x[:, 1])


def left_in_training(model, images):
    answers = two_answers(model, images)
    model.train()
    return answers


def pair_of_training(model, images):
    with torch.no_grad():
        return model.train()(images)


def of_other_images(model, images):
    return two_answers(model, images.flip(0))


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


def swapped(one, other):
    """The right labels with two exchanged."""
    return PARTS | {one: PARTS[other], other: PARTS[one]}


RIGHT = [
    ("9.1", PARTS),
    ("9.1", {letter: part.upper() for letter, part in PARTS.items()}),
    ("9.2", soft()),
    ("9.2", written_out),
    ("9.2", one_by_one),
    ("9.3", ask),
    ("9.3", detached),
    ("9.3", quietly),
    ("9.4", two_answers),
    ("9.4", by_hand),
]
WRONG = [
    ("9.1", PARTS | {"F": "label"}, None, "use each of"),
    ("9.1", swapped("A", "B"), "new-token-first", "keeps its meaning"),
    ("9.1", swapped("C", "E"), "tokens-and-heads-confused", "they are heads"),
    ("9.1", swapped("A", "C"), "tokens-and-heads-confused", "they are tokens"),
    ("9.1", swapped("B", "F"), "tokens-and-heads-confused", "no part of the model"),
    ("9.1", swapped("C", "D"), "heads-crossed", "its own token"),
    ("9.1", swapped("E", "F"), "teacher-for-the-class-token", "did the paper give it"),
    ("9.1", "ABCDEF", None, "cannot be read as an answer"),
    ("9.2", stub, None, "still empty"),
    ("9.2", soft("each"), None, "one number, a tensor"),
    ("9.2", soft("float"), None, "one number, a tensor"),
    ("9.2", soft("detached"), "graph-cut-off", "can learn from"),
    ("9.2", no_flag, "log-target-without-flag", "log_target"),
    ("9.2", twice_logged, "log-target-without-flag", "another logarithm"),
    ("9.2", probabilities_first, "probabilities-for-logarithms", "never negative"),
    ("9.2", no_logarithm_of_q, "probabilities-for-logarithms", "log-probabilities"),
    ("9.2", cross_entropy, "cross-entropy-for-divergence", "entropy of the teacher"),
    (
        "9.2",
        lambda *args: cross_entropy(*args) + 0.5,
        None,
        "must cost 0",
    ),
    ("9.2", soft("teacher twice"), "teacher-compared-with-itself", "the same table"),
    (
        "9.2",
        lambda student, teacher, tau=3.0: written_out(student, student, tau),
        "teacher-compared-with-itself",
        "cost 0, too",
    ),
    ("9.2", soft("numel"), "divided-by-all-numbers", "number of images"),
    ("9.2", torch_mean, "divided-by-all-numbers", "4 times too small"),
    ("9.2", soft("sum"), "not-divided", "6 times too large"),
    (
        "9.2",
        soft("reversed"),
        "teacher-and-student-exchanged",
        "the teacher is the truth",
    ),
    (
        "9.2",
        lambda student, teacher, tau=3.0: written_out(teacher, student, tau),
        "teacher-and-student-exchanged",
        r"KL\(student",
    ),
    ("9.2", soft("a half"), None, "the definition gives"),
    ("9.2", squared, None, "the definition gives"),
    ("9.2", soft("no square"), "tau-square-left-out", "Who makes up for it"),
    ("9.2", soft("tau"), "tau-once", "flatter answers"),
    ("9.2", soft("cold"), "tau-only-as-factor", "what does a temperature divide"),
    (
        "9.2",
        lambda student, teacher, tau=3.0: written_out(student, teacher, 1.0),
        "tau-only-as-factor",
        "as sharp as at tau=1",
    ),
    ("9.2", soft("warm student"), "one-side-not-cooled", "cooled by the same tau"),
    ("9.2", soft("warm teacher"), "one-side-not-cooled", "student and teacher"),
    (
        "9.2",
        lambda student, teacher, tau=3.0: written_out(student, teacher, tau) * tau,
        None,
        "at tau=3 expected",
    ),
    ("9.2", soft("usual tau"), "usual-case-changed", "the usual case"),
    ("9.2", soft("one way"), "reduction-ignored", "images times classes"),
    ("9.2", soft("any word"), "other-words-accepted", "should raise ValueError"),
    ("9.2", of_float32, None, "larger by 7 mean the same"),
    ("9.2", target_moves, None, "its gradient for the student is not"),
    ("9.2", underflows, "probability-rounded-to-zero", "has no logarithm"),
    ("9.3", stub, None, "still empty"),
    ("9.3", only_no_grad, "no-grad-taken-for-eval", "Which mode is for answering"),
    (
        "9.3",
        lambda teacher, images: teacher.train()(images).detach(),
        "no-grad-taken-for-eval",
        "running mean moved by",
    ),
    ("9.3", only_eval, "eval-taken-for-no-grad", "carries a gradient"),
    (
        "9.3",
        lambda *given: ask(*given).argmax(dim=-1),
        "decision-for-logits",
        "not its decision",
    ),
    ("9.3", lambda *given: ask(*given)[:1], None, "return the teacher's logits"),
    (
        "9.3",
        lambda *given: ask(*given).softmax(dim=-1),
        "probabilities-for-logits",
        "these are probabilities",
    ),
    ("9.3", normalised, "images-normalised-again", "the teacher alone first"),
    ("9.3", of_a_copy, None, "not the teacher's logits"),
    ("9.4", stub, None, "still empty"),
    ("9.4", lambda model, images: model(images), "mean-for-a-pair", "their mean only"),
    ("9.4", in_training, "dropout-left-on", "dropout is still on"),
    ("9.4", pair_of_training, "left-in-training", "put it back"),
    ("9.4", left_in_training, "left-in-training", "now in training mode"),
    ("9.4", left_in_eval, "left-in-eval", "now in eval mode"),
    (
        "9.4",
        lambda *given: two_answers(*given, tokens=(0, -1)),
        "distillation-token-last",
        "not the last one",
    ),
    (
        "9.4",
        lambda *given: two_answers(*given)[::-1],
        "answers-exchanged",
        "class first",
    ),
    ("9.4", means, "mean-given-twice", "mean of the heads"),
    (
        "9.4",
        lambda *given: two_answers(*given, heads=("head", "head")),
        "one-head-for-both",
        "a head of its own",
    ),
    (
        "9.4",
        lambda *given: two_answers(*given, tokens=(0, 0)),
        "one-token-for-both",
        "whose place is it",
    ),
    ("9.4", without_norm, "last-norm-left-out", "between the last block and a head"),
    ("9.4", of_other_images, None, "not the answers of eval mode"),
    ("9.4", with_gradient, "gradient-kept", "no gradient is needed"),
]
