"""Checks of lesson 06: the whole model."""

from math import log
from typing import Any

import torch
from torch import Tensor, nn

from .judge import answers, draw, element, exercise, expect

# 6.1 A token for the class


def prepended(token: Tensor, x: Tensor) -> Tensor:
    return torch.cat([token.expand(len(x), -1, -1), x], dim=1)


def prepends(join=prepended, learned=nn.Parameter, rows=1):
    """A layer, right or with a mistake in what is learned, or done with the token."""

    class Layer(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.cls_token = learned(torch.zeros(rows, 1, dim))

        def forward(self, x):
            return join(self.cls_token, x)

    return Layer


class TokenIsABuffer(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.register_buffer("cls_token", torch.zeros(1, 1, dim))

    def forward(self, x):
        return prepended(self.cls_token, x)


def run(answer, b=3, n=4, d=5) -> tuple[Any, Tensor]:
    """A layer whose token is not zero, and what it makes of `b` images."""
    layer = answer(d)
    nn.init.normal_(layer.cls_token)
    return layer, layer(draw(b, n, d).float())


def token_and_copies(answer) -> Tensor:
    layer, out = run(answer)
    return out[:, 0] - layer.cls_token.reshape(5)


def has_gradient(answer) -> bool:
    layer, out = run(answer)
    if out.requires_grad:
        out.sum().backward()
    return layer.cls_token.grad is not None


class_token = exercise(
    "6.1",
    right=prepends(),
    trial={
        "token-is-a-plain-tensor": lambda f: "cls_token" in f(5).state_dict(),
        "token-is-a-buffer": lambda f: "cls_token" in dict(f(5).named_parameters()),
        "the token should be 5 numbers wide, got {got}": lambda f: f(5).cls_token.shape[
            -1
        ],
        "one-token-per-image": lambda f: f(5).cls_token.numel() // 5,
        "expected tokens of shape (3, 1 + 4, 5), got {got}": lambda f: tuple(
            run(f)[1].shape
        ),
        "the patches must follow unchanged": lambda f: run(f)[1][:, 1:],
        "token 0 is not the learned one": token_and_copies,
        "token-cut-from-gradient": has_gradient,
    },
    also={"2 images of 6 patches, 7 wide,": lambda f: tuple(run(f, 2, 6, 7)[1].shape)},
    otherwise="expected shape {right}, got {got}",
)


class_token.mistakes |= {
    "token-is-a-plain-tensor: cls_token is not in state_dict, so it is not saved: which"
    " kinds of tensor does a module know?": prepends(learned=torch.clone),
    "token-is-a-buffer: cls_token is in state_dict, but not in parameters(), so it is"
    " saved and not trained: which kind of tensor is in both?": TokenIsABuffer,
    "token-cut-from-gradient: cls_token is among the parameters, but no gradient"
    " reaches it: is it frozen, or detached on its way?": prepends(
        learned=lambda token: nn.Parameter(token, requires_grad=False)
    ),
    "token-added-to-patches: expected shape {right}, got {got}: the class token is an"
    " extra token, and is not added to the other tokens": prepends(torch.add),
    "token-put-last: in your result the patches come first and the class token last:"
    " which token should be token 0?": prepends(
        lambda token, x: prepended(token, x).roll(-1, dims=1)
    ),
    "one-token-per-image: your layer learns {got} class tokens: learn one, and give it"
    " to every image": prepends(rows=3),
}

# 6.2 From pixels to scores

STEPS = ["patches", "class token", "positions", "blocks", "norm", "token 0", "head"]
DECOY = "token 1"  # the first patch


def said(answer: Any) -> list[str]:
    steps = answer.split(",") if isinstance(answer, str) else answer
    return [str(step).strip().lower() for step in steps]


def places(answer: Any) -> dict[str, int]:
    steps = said(answer)
    for step in steps:
        expect(
            step in STEPS,
            f"{step!r} is none of the steps: copy the names from the task",
        )
        expect(steps.count(step) == 1, f"{step!r} is in your list twice")
    for step in STEPS:
        expect(step in steps, f"{step!r} is missing from your list")
    return {step: index for index, step in enumerate(steps)}


def before(first: str, *others: str):
    """The trial whether one step comes before others."""
    return lambda answer: all(
        places(answer)[first] < places(answer)[other] for other in others
    )


def moved(step: str, to: str) -> list[str]:
    """The right order with one step taken out and put before another."""
    steps = [other for other in STEPS if other != step]
    steps.insert(steps.index(to), step)
    return steps


pixels_to_scores = exercise(
    "6.2",
    right=STEPS,
    trial={
        "reads-the-first-patch": lambda answer: DECOY in said(answer),
        "tokens-before-patches": before("patches", *STEPS[1:]),
        "positions-after-blocks": before("positions", "blocks"),
        "positions-before-class-token": before("class token", "positions"),
        "token-read-before-blocks": before("blocks", "token 0", "head"),
        "norm-not-before-head": lambda answer: (
            before("blocks", "norm")(answer) and before("norm", "head")(answer)
        ),
    },
)
pixels_to_scores.mistakes |= {
    "reads-the-first-patch: `token 1` is in your list. Counted from 0 this is the"
    " first patch, the top left corner: which token was put in front of it?": (
        [*STEPS[:5], DECOY, *STEPS[5:]]
    ),
    "tokens-before-patches: your first step is not `patches`, but an image enters as"
    " pixels: which step can work on pixels?": moved("class token", to="patches"),
    "positions-after-blocks: in your list positions come after the blocks: how would"
    " the blocks know where a patch was?": moved("blocks", to="positions"),
    "positions-before-class-token: the table has n + 1 rows, so there must be n + 1"
    " tokens when it is added: which token has position 0?": moved(
        "positions", to="class token"
    ),
    "token-read-before-blocks: in your list a token is read before the blocks: what has"
    " it seen of the image by then?": moved("token 0", to="blocks"),
    "norm-not-before-head: a pre-norm stack leaves its sum unnormalised, and in your"
    " list the head reads this sum: which step must come between them?": moved(
        "norm", to="blocks"
    ),
}

# 6.3 Count and predict

COUNT, D, BLOCK = 5_717_416, 192, 12 * 192**2 + 13 * 192
LOSS = log(20)


def missing(answer: Any) -> int:
    return COUNT - element(0)(answer)


sanity = exercise(
    "6.3",
    right=(COUNT, LOSS),
    trial={
        "{said:,}? Add up: patch embedding, class token, position table, 12 blocks"
        " of 12 d d + 13 d, last norm, head with its bias": missing,
        "{got}? Which probability does each of twenty classes have?": element(1),
    },
    measures={
        "said": lambda got, right: COUNT - got,
        "many": lambda got, right: -got,
        "rows": lambda got, right: abs(got) // D,
    },
    atol=0.01,
    rtol=0.02,
)
sanity.mistakes |= {
    "one-block-repeated: {got:,} too few, that is 11 blocks: the model has 12, and no"
    " two of them share their weights": (COUNT - 11 * BLOCK, LOSS),
    "matrices-alone-in-blocks: {got:,} too few, that is 13 d in each of 12 blocks:"
    " which parameters of a block are not in a matrix?": (COUNT - 12 * 13 * D, LOSS),
    "table-not-learned: {got:,} too few, that is 197 rows of d, one for each token:"
    " the published ViT learns where its tokens are": (COUNT - 197 * D, LOSS),
    "table-of-pixel-rows: {many:,} too many, that is 768 - 197 rows of d: how many"
    " tokens get a position?": (COUNT + (768 - 197) * D, LOSS),
    "head-of-ten-classes: {got:,} too few, that is the head of 990 classes: how many"
    " does question 1 ask for?": (COUNT - 990 * (D + 1), LOSS),
    "head-bias-forgotten: {got:,} too few, one for each class: what does the head add"
    " to each score?": (COUNT - 1000, LOSS),
    "rows-of-width-d-forgotten: {got:,} too few, that is {rows} times d. A bias, a"
    " class token, its position, half a norm: each has as many numbers as a token is"
    " wide. Which of them is missing?": answers(
        *((COUNT - rows * D, LOSS) for rows in range(1, 6))
    ),
    "one-token-per-image: {many:,} too many, that is {rows} rows of d: how many images"
    " share one class token and one table?": answers(
        (COUNT + 31 * D, LOSS),
        seen=lambda got, right: right == 0 and got < 0 and got % D == 0,
    ),
    "loss-of-ten-classes: a loss of {got:.2f} is ln(10), the loss that the section"
    " measured for ten classes: how many does question 2 ask for?": (COUNT, log(10)),
    "loss-of-a-hundred-classes: a loss of {got:.2f} is ln(100): how many classes does"
    " question 2 ask for?": (COUNT, log(100)),
    "loss-of-a-thousand-classes: a loss of {got:.2f} is ln(1000), right for the model"
    " of question 1: and for twenty classes?": (COUNT, log(1000)),
    "probability-for-loss: {got:.2f} is the probability of the right class: how does"
    " cross-entropy turn it into a loss?": (COUNT, 1 / 20),
    "sign-of-the-log: {got:.2f} is below zero, like the log of every probability: which"
    " sign does a loss have?": (COUNT, -LOSS),
    "log-of-another-base: a loss of {got:.2f} is a logarithm of the right number,"
    " twenty, to a different base: which logarithm does cross-entropy use?": answers(
        (COUNT, log(20, 10)), (COUNT, log(20, 2))
    ),
}

# 6.4 The mean


def pooled(count: int):
    return lambda answer: answer(draw(2, 7, 5).float(), count)


mean = exercise(
    "6.4",
    right=lambda x, k: x[:, k:].mean(dim=1),
    trial={
        "this is not the mean of the patch tokens": pooled(1),
        "one-prefix-assumed": pooled(2),
        "with no prefix token every token is a patch, and the result is wrong": pooled(
            0
        ),
    },
)
mean.mistakes |= {
    "mean-over-channels: x is b n d, (2, 7, 5), and {got} came out: over which of the"
    " three letters did you average?": answers(
        lambda x, k: x[:, k:].mean(dim=2), lambda x, k: x.mean(dim=2)
    ),
    "class-token-in-the-mean: the class token is in your mean: where in `x` do the"
    " patches begin?": (lambda x, k: x.mean(dim=1)),
    "class-token-read: your result is token 0, the class token: over which tokens"
    " should you average?": lambda x, k: x[:, 0],
    "one-patch-for-all: your result is a single patch: where are the others?": answers(
        *(lambda x, k, n=n: x[:, n] for n in range(1, 7))
    ),
    "prefix-cut-from-the-end: the last patch was left out and the class token was kept:"
    " at which end are the prefix tokens?": lambda x, k: x[:, :-k].mean(dim=1),
    "sum-for-mean: your result is 6 times the mean, and there are 6 patches: what is"
    " missing?": (lambda x, k: x[:, k:].sum(dim=1)),
    "divided-by-all-tokens: 6 patches were added up and divided by 7: which token is"
    " the seventh?": lambda x, k: x[:, k:].sum(dim=1) / x.shape[1],
    "one-prefix-assumed: with two prefix tokens (DeiT has two) the result is wrong: use"
    " num_prefix_tokens": lambda x, k: x[:, 1:].mean(dim=1),
}
