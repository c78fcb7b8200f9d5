"""Checks of lesson 09: a teacher and a student with two tokens."""

from inspect import unwrap

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...deit import DistilledVisionTransformer, soft_distillation
from ...training import keep_modes
from .judge import answers, by_letter, draw, exercise

# 9.1 Label the diagram

PARTS = {
    "A": "class token",
    "B": "distillation token",
    "C": "class head",
    "D": "distillation head",
    "E": "label",
    "F": "teacher",
}


def labels(answer, letters: str = "ABCDEF") -> list[str]:
    said = by_letter(answer, "ABCDEF")
    words = [str(said[letter]).lower().replace("_", " ").split() for letter in letters]
    return [" ".join(word for word in name if word != "the") for name in words]


def swapped(one: str, other: str) -> dict[str, str]:
    return PARTS | {one: PARTS[other], other: PARTS[one]}


diagram = exercise(
    "9.1",
    right=PARTS,
    trial={
        "use each of {right} once, got {got}": lambda answer: sorted(labels(answer)),
        "tokens-and-heads-confused": lambda answer: [
            sorted(labels(answer, pair)) for pair in ("AB", "CD", "EF")
        ],
        "new-token-first": lambda answer: labels(answer, "A"),
        "heads-crossed": lambda answer: labels(answer, "C"),
        "teacher-for-the-class-token": lambda answer: labels(answer, "E"),
    },
)
diagram.mistakes |= {
    "tokens-and-heads-confused: A and B pass through the blocks: they are tokens; C and"
    " D turn a token into scores: they are heads; E and F are not part of"
    " the model": swapped("C", "E"),
    "new-token-first: the code puts the token that ViT already had first, so that index"
    " 0 keeps its meaning": swapped("A", "B"),
    "heads-crossed: each head reads its own token: follow the arrow from A": swapped(
        "C", "D"
    ),
    "teacher-for-the-class-token: in your diagram the teacher trains the class token:"
    " which of the two losses did a ViT already have? For which one is there a new"
    " token?": swapped("E", "F"),
}

# 9.2 The soft loss

CASES = (6, 4, 0.5), (1, 2, 9.0), (4, 5, 1e4)
SURE = torch.tensor([[0.0, 400.0]])


def doubts(b: int = 6, k: int = 4, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    """Logits of a student, which learns, and of a teacher."""
    student = draw(b, k, dtype=dtype).requires_grad_()
    return student, 3 * draw(b, k, seed=1, dtype=dtype)


DOUBTS = STUDENT, TEACHER = doubts(dtype=torch.float32)


def what_returns(answer) -> object:
    got = answer(TEACHER, TEACHER, 1.0)
    return tuple(got.shape) if isinstance(got, Tensor) else got


def slopes(answer) -> list[Tensor | None]:
    found = []
    for b, k, tau in CASES:
        student, teacher = doubts(b, k)
        answer(student, teacher, tau).backward()
        found.append(student.grad)
    return found


def reduced_by(word: str):
    return lambda answer: answer(*DOUBTS, 3.0, word)


soft = exercise(
    "9.2",
    right=soft_distillation,
    trial={
        "return one number, a tensor (), got {got}": what_returns,
        "equal logits must cost 0, got {got:.3f}": lambda f: f(TEACHER, TEACHER, 1.0),
        "at tau=1 the definition gives {right:.3f}, yours {got:.3f}": (
            lambda f: f(*DOUBTS, 1.0)
        ),
        "right for 6 images of 4 classes, but not for 1 of 2 classes: expected"
        " {right:.3f}, got {got:.3f}: which number is fixed?": (
            lambda f: f(*doubts(1, 2), 1.0).item()
        ),
        "probability-rounded-to-zero": lambda f: f(SURE, -SURE, 1.0),
        "graph-cut-off": lambda f: f(*DOUBTS, 1.0).requires_grad,
        "at tau=3 expected {right:.3f}, got {got:.3f}": lambda f: f(*DOUBTS, 3.0),
        "usual-case-changed": lambda f: f(*DOUBTS),
        "reduction-ignored": lambda f: f(*DOUBTS, 3.0, reduction="numel"),
        "logits that are all larger by 7 mean the same probabilities and cost 0, got"
        " {got:.0e} in float64": lambda f: f(doubts()[0], doubts()[0] + 7, 0.5),
        "right in float32, but not in float64 or with other sizes and temperatures:"
        " expected {right}, got {got}": (
            lambda f: [f(*doubts(b, k), tau).item() for b, k, tau in CASES]
        ),
        "the number is right, its gradient for the student is not: does every term"
        " still depend on the student's logits?": slopes,
    },
    also={
        f"reduction={word!r}": reduced_by(word) for word in ("mean", "sum", "numels")
    },
    rtol=1e-5,
)


def loss(temper=lambda tau: (tau, tau, tau**2), dims=(-1, -1)):
    """An answer that divides student and teacher, and multiplies the whole."""

    def answer(student, teacher, tau=3.0, reduction="batchmean"):
        of_student, of_teacher, factor = temper(tau)
        log_q = F.log_softmax(student / of_student, dims[0])
        log_p = F.log_softmax(teacher / of_teacher, dims[1])
        total = F.kl_div(log_q, log_p, reduction="sum", log_target=True)
        count = student.numel() if reduction == "numel" else len(student)
        return total * factor / count

    return answer


def of_probabilities(count: int):
    """An answer that takes no logarithm of what the student says."""
    return lambda s, t, tau=3.0: (
        F.kl_div(s.softmax(dim=-1), t.softmax(dim=-1), reduction="sum") / count
    )


soft.mistakes |= {
    "log-target-without-flag: nan for equal logits: a target of log-probabilities goes"
    " through another logarithm unless log_target says what it is": (
        lambda s, t, tau=3.0: F.kl_div(
            s.log_softmax(dim=-1), t.log_softmax(dim=-1), reduction="sum"
        )
    ),
    "cross-entropy-for-divergence: {got:.2f} for equal logits, which is the entropy of"
    " the teacher. A divergence would be 0 here: did you compute a"
    " cross-entropy?": lambda s, t, tau=3.0: F.cross_entropy(s, t.softmax(dim=-1)),
    "probabilities-for-logarithms: {got:.2f} for equal logits, but a divergence is"
    " never negative: the first argument of F.kl_div must be"
    " log-probabilities": answers(*map(of_probabilities, (6, 24, 1))),
    "teacher-compared-with-itself: different logits also cost 0: are both arguments"
    " the same table?": lambda s, t, tau=3.0: soft_distillation(t, t, tau),
    "divided-by-all-numbers: 4 times too small for 4 classes: batchmean divides by the"
    " number of images only": (
        lambda s, t, tau=3.0: soft_distillation(s, t, tau, "numel")
    ),
    "not-divided: 6 times too large for 6 images: divide the sum by their number": loss(
        lambda tau: (tau, tau, 6 * tau**2)
    ),
    "teacher-and-student-exchanged: this is KL(student || teacher): F.kl_div expects"
    " the guess first and then the truth, and here the teacher is the"
    " truth": lambda s, t, tau=3.0: soft_distillation(t, s, tau),
    "softmax-over-the-images: probabilities sum to 1 over the images, of student,"
    " teacher or both: which axis of `b k` holds the classes?": answers(
        *[loss(dims=dims) for dims in ((0, 0), (0, -1), (-1, 0))]
    ),
    "tau-hard-coded: called with tau=1, the loss still contains a 3: which tau"
    " was given?": answers(
        *[loss(lambda tau, n=n: (3, 3, n)) for n in (1, 3, 9)],
        loss(lambda tau: (3, 3, tau**2)),
        loss(lambda tau: (tau, tau, 9)),
    ),
    "tau-multiplies: at tau=3 the answers are sharper than at tau=1: does a temperature"
    " multiply logits or divide them?": answers(
        *[loss(lambda tau, n=n: (1 / tau, 1 / tau, tau**n)) for n in range(3)]
    ),
    "graph-cut-off: a student can only learn from a loss with a graph back to its"
    " logits; this number has none": torch.no_grad()(soft_distillation),
    "tau-square-left-out: right at tau=1, 9 times too small at tau=3: dividing logits"
    " by tau makes the gradient tau squared times smaller. What makes up for it?": loss(
        lambda tau: (tau, tau, 1)
    ),
    "tau-once: right at tau=1, 3 times too small at tau=3: one tau comes from the chain"
    " rule, the other from the flatter answers": loss(lambda tau: (tau, tau, tau)),
    "tau-only-as-factor: at tau=3 the answers are as sharp as at tau=1: what does a"
    " temperature divide?": answers(
        *[loss(lambda tau, n=n: (1, 1, tau**n)) for n in range(3)]
    ),
    "one-side-not-divided: only one of the two tables was divided by tau: student and"
    " teacher need the same temperature": answers(
        *[loss(lambda tau, n=n: (1, tau, tau**n)) for n in range(3)],
        *[loss(lambda tau, n=n: (tau, 1, tau**n)) for n in range(3)],
    ),
    "usual-case-changed: tau=3.0 and batchmean are the defaults: called without them"
    " expected {right:.3f}, got {got:.3f}": lambda s, t, tau=1.0: soft_distillation(
        s, t, tau
    ),
    "reduction-ignored: numel divides by images times classes: expected {right:.3f},"
    " got {got:.3f}": lambda *given, **more: soft_distillation(*given),
    "other-words-accepted": loss(),
    "probability-rounded-to-zero: a student and a teacher, sure of different classes"
    " (logits 0 and 400): expected {right:.0f}, got {got:.0f}. A probability that is"
    " rounded to 0 has no logarithm": (
        lambda s, t, tau: F.kl_div(
            s.softmax(dim=-1).log(),
            t.softmax(dim=-1),
            reduction="batchmean",
        )
    ),
}

# 9.3 How to ask a teacher


def shy() -> nn.Module:
    """A small teacher: in training its answers depend on the rest of the batch."""
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)
    return nn.Sequential(*layers)


IMAGES = draw(5, 2, 2, 2, dtype=torch.float32).sigmoid()


def moved(answer) -> float:
    """How far the running mean of a teacher moves while it is asked."""
    teacher = shy()
    answer(teacher, IMAGES)
    return teacher.state_dict()["1.running_mean"].abs().max().item()


def training_after(answer) -> bool:
    """Whether a teacher that was in eval mode is in training mode afterwards."""
    teacher = shy().eval()
    answer(teacher, IMAGES)
    return any(module.training for module in teacher.modules())


@torch.no_grad()
def logits(teacher, images) -> Tensor:
    return teacher.eval()(images)


ask = exercise(
    "9.3",
    right=logits,
    trial={
        "no-grad-taken-for-eval": moved,
        "these are not the teacher's logits in eval mode": lambda f: f(shy(), IMAGES),
        "eval-taken-for-no-grad": lambda f: f(shy(), IMAGES).requires_grad,
        "left-in-training": training_after,
    },
    shape="return the teacher's logits, b k",
)
ask.mistakes |= {
    "no-grad-taken-for-eval: the teacher's running mean moved by {got:.2f}: no_grad"
    " stops gradients, not BatchNorm. Which mode is for inference?": torch.no_grad()(
        lambda teacher, images: teacher(images)
    ),
    "decision-for-logits: return the teacher's logits, b k, not its decision: the loss"
    " chooses how to use them": lambda teacher, images: logits(teacher, images).argmax(
        dim=-1
    ),
    "probabilities-for-logits: these are probabilities: a temperature can only divide"
    " logits": lambda teacher, images: logits(teacher, images).softmax(dim=-1),
    "images-normalised-again: these are the logits of images from -1 to 1, and the"
    " images go from 0 to 1. Try the teacher alone first: how many does it get"
    " right?": lambda teacher, images: logits(teacher, (images - 0.5) / 0.5),
    "eval-taken-for-no-grad: the answer has a graph, which costs memory and time for"
    " weights that must not change": lambda teacher, images: teacher.eval()(images),
    "left-in-training: the teacher was in eval mode, and your answer leaves it in"
    " training mode": lambda teacher, images: (
        logits(teacher, images),
        teacher.train(),
    )[0],
}

# 9.4 Ask both heads


def student(training: bool) -> DistilledVisionTransformer:
    torch.manual_seed(0)
    model = DistilledVisionTransformer(4, 2, 1, 3, 8, 1, 2, drop_rate=0.5).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.train(training)


def said(f) -> list[Tensor]:
    """What is said of 5 images by a model in training mode, then by one in eval."""
    images = draw(5, 1, 4, 4)
    return [logits for mode in (True, False) for logits in f(student(mode), images)]


def left(f, frozen: bool = False) -> list:
    """What every part of a model in training and of one in eval mode is afterwards."""
    models = student(True), student(False)
    for model in models:
        model.blocks.train(model.training is not frozen)
        f(model, draw(5, 1, 4, 4))
    parts = [part for model in models for part in model.modules()]
    return [(part.training, part.extra_repr()) for part in parts]


def reading(
    first: int = 0,
    second: int = 1,
    head: str = "head_dist",
    features=lambda model, images: model.eval().forward_features(images),
):
    """An answer that reads two tokens, and puts the mode back."""

    @torch.no_grad()
    def answer(model, images):
        with keep_modes(model):
            x = features(model, images)
        return [model.head(x[:, first]), getattr(model, head)(x[:, second])]

    return answer


both, crossed = reading(), reading(first=1, second=0)
two_answers = exercise(
    "9.4",
    right=both,
    trial={
        "mean-for-a-pair": lambda f: len(said(f)),
        "leave the model and its parts as you found them": left,
        "parts-follow-the-whole": lambda f: left(f, frozen=True),
        "these are not the answers of eval mode": said,
        "gradient-kept": lambda f: said(f)[0].requires_grad,
    },
)
two_answers.mistakes |= {
    "mean-for-a-pair: return two tensors; called in eval mode the model itself gives"
    " their mean only": lambda model, images: model(images),
    "left-in-training: the model was in eval mode and is now in training mode: put it"
    " back as it was": lambda model, images: both(model.train(), images),
    "left-in-eval: the model was in training mode and is now in eval mode: put it back"
    " as it was": lambda model, images: both(model.eval(), images),
    "parts-follow-the-whole: the blocks were in a different mode from the model, as"
    " frozen ones are, and now they are not: `train` and `eval` set all parts. Give"
    " each part its own mode back": lambda model, images: (
        both(model, images),
        model.train(model.training),
    )[0],
    "dropout-left-on: each call gives a different answer: dropout is still on": reading(
        features=lambda model, images: model.train().forward_features(images)
    ),
    "answers-exchanged: class first, then distillation": lambda model, images: both(
        model, images
    )[::-1],
    "heads-exchanged: the class token is read by the distillation head, and the"
    " distillation token by the class head": lambda model, images: crossed(
        model, images
    )[::-1],
    "tokens-exchanged: each head reads the other head's token: which of the two"
    " tokens comes first?": crossed,
    "mean-given-twice: this is the mean of the heads, twice": lambda model, images: (
        [sum(both(model, images)) / 2] * 2
    ),
    "distillation-token-last: the distillation token is not the last one: in the code"
    " it comes right after the class token": reading(second=-1),
    "one-head-for-both: the second token is read by the class head, but it has a head"
    " of its own": reading(head="head"),
    "one-token-for-both: both heads read token 0: which head should read it?": reading(
        second=0
    ),
    "norm-applied-twice: the tokens were normalised twice: what does `forward_features`"
    " end with?": reading(
        features=lambda model, images: model.norm(model.eval().forward_features(images))
    ),
    "probabilities-for-logits: these are probabilities, or their logarithms: the losses"
    " expect logits": answers(
        lambda model, images: [x.softmax(dim=-1) for x in both(model, images)],
        lambda model, images: [x.log_softmax(dim=-1) for x in both(model, images)],
    ),
    "gradient-kept: nothing is trained here: no gradient is needed": unwrap(both),
    "last-norm-left-out: the heads read tokens that are not normalised: what is between"
    " the last block and a head?": reading(
        features=lambda model, images: nn.Sequential(*model.blocks)(
            model.eval().embed(images)
        )
    ),
}
