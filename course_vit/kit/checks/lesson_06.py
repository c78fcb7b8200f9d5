"""Checks of lesson 06: the whole model."""

from math import log

import torch
from torch import Tensor, nn

from . import exercise, expect

STEPS = ["patches", "class token", "positions", "blocks", "norm", "token 0", "head"]
DECOY = "token 1"  # the first patch


@exercise(
    "6.1",
    {
        "token-is-a-plain-tensor": "what is assigned in __init__ belongs to the model",
        "token-is-a-buffer": "what is saved is learned as well",
        "token-cut-from-gradient": "a parameter learns, whatever is done with it",
        "one-token-per-image": "every image has a class token of its own to learn",
        "token-added-to-patches": "the class token is added to the patches",
        "token-put-last": "the class token stands behind the patches",
    },
)
def prepend_class_token(answer) -> None:
    layer = answer(5)
    names = list(layer.state_dict())
    expect(
        "cls_token" in names,
        f"cls_token is not saved: state_dict has {names or 'nothing'}. What kind of"
        " tensor does a module know of?",
        "token-is-a-plain-tensor",
    )
    parameters = dict(layer.named_parameters())
    expect(
        "cls_token" in parameters,
        "cls_token is saved but does not train: parameters() has never heard of it",
        "token-is-a-buffer",
    )
    token = parameters["cls_token"]
    rows = token.numel() // 5
    expect(
        rows == 1,
        f"{rows} class tokens to learn, {token.numel()} numbers for a width of 5? Learn"
        " one and hand it to every image",
        "one-token-per-image",
    )
    torch.manual_seed(0)
    nn.init.normal_(token)
    x = torch.randn(3, 4, 5)
    got = layer(x)
    expect(
        got.shape != x.shape,
        f"{tuple(x.shape)} went in and came out: the class token is one token more, not"
        " something added to the others",
        "token-added-to-patches",
    )
    expect(
        got.shape == (3, 5, 5), f"expected tokens (3, 1 + 4, 5), got {tuple(got.shape)}"
    )
    expect(
        not torch.equal(got[:, :-1], x),
        "the patches come first and the class token last: who is to be token 0?",
        "token-put-last",
    )
    expect(torch.equal(got[:, 1:], x), "the patches must follow unchanged")
    right = token.detach().reshape(5).expand(3, 5)
    expect(torch.equal(got[:, 0], right), "token 0 is not the learned one")
    if got.requires_grad:
        got.sum().backward()
    expect(
        token.grad is not None,
        "cls_token is among the parameters, and no gradient reaches it: is it frozen,"
        " or detached on its way?",
        "token-cut-from-gradient",
    )


@exercise(
    "6.2",
    {
        "reads-the-first-patch": "the head reads the token with the number 1",
        "tokens-before-patches": "there are tokens before there are patches",
        "positions-before-class-token": "only patches need a position",
        "positions-after-blocks": "positions can be told at the end",
        "token-read-before-blocks": "reads the class token before it has looked around",
        "norm-not-before-head": "the sum that leaves the blocks is fit to be read",
        "head-before-token": "scores every token and keeps those of one",
        "token-picked-before-norm": "takes the order of equation 4 for the code's",
    },
)
def order(answer) -> None:
    steps = [str(step).strip().lower() for step in answer]
    expect(
        DECOY not in steps,
        f"`{DECOY}` is in your list. Counted from 0 this is the first patch, the top"
        " left corner: who was put in front of it?",
        "reads-the-first-patch",
    )
    expect(sorted(steps) == sorted(STEPS), f"use each of {STEPS} once, got {steps}")
    place = {step: index for index, step in enumerate(steps)}
    expect(
        place["patches"] == 0,
        "before there are patches there is nothing to work on: an image enters as"
        " pixels",
        "tokens-before-patches",
    )
    expect(
        place["positions"] < place["blocks"],
        f"positions are step {place['positions'] + 1}, the blocks step"
        f" {place['blocks'] + 1}: after them it is too late to know where a patch was",
        "positions-after-blocks",
    )
    expect(
        place["class token"] < place["positions"],
        "the table has n + 1 rows, so there are n + 1 tokens when it is added: who has"
        " position 0?",
        "positions-before-class-token",
    )
    expect(
        place["blocks"] < min(place["token 0"], place["head"]),
        "a token that is read before the blocks has not seen the others",
        "token-read-before-blocks",
    )
    expect(
        place["blocks"] < place["norm"] < place["head"],
        "a pre-norm stack leaves its sum unnormalised: what does the head want to"
        " read?",
        "norm-not-before-head",
    )
    expect(
        place["token 0"] < place["head"],
        "this head scores all n + 1 tokens, and n of the answers are thrown away: right"
        " numbers, wasted work. What must come before it?",
        "head-before-token",
    )
    expect(
        steps == STEPS,
        "the norm treats every token alike, so picking token 0 before or after it"
        " gives the same; the course norms all tokens first, as forward_features"
        " returns them",
        "token-picked-before-norm",
    )


@exercise(
    "6.3",
    {
        "one-block-repeated": "depth says how often one block is run",
        "matrices-alone-in-blocks": "a block has 12 d d parameters and no more",
        "table-not-learned": "positions are waves, with nothing to learn",
        "table-of-pixel-rows": "the position table has a row for each pixel of a patch",
        "head-of-ten-classes": "counts the head of the other question",
        "head-bias-forgotten": "the head is its matrix",
        "rows-of-width-d-forgotten": "bias, class token, its position, norm: too small",
        "one-token-per-image": "every image has a class token of its own to learn",
        "loss-of-a-hundred-classes": "takes 100 classes instead of ten",
        "loss-of-a-thousand-classes": "takes the classes of the first question",
        "probability-for-loss": "the loss is the probability of the right class",
        "sign-of-the-log": "the loss is the log of the probability",
        "log-of-another-base": "cross-entropy counts in bits or in powers of ten",
    },
)
def sanity(answer) -> None:
    parameters, loss = answer
    judge_parameters(parameters, d=192)
    known = f"a loss of {loss:.2f}"
    expect(
        abs(loss - log(100)) > 0.1,
        f"{known} is ln(100): how many classes do the digits have?",
        "loss-of-a-hundred-classes",
    )
    expect(
        abs(loss - log(1000)) > 0.1,
        f"{known} is ln(1000), right for the model of question 1: and for ten classes?",
        "loss-of-a-thousand-classes",
    )
    expect(
        abs(loss - 0.1) > 0.01,
        f"{loss:.1f} is the probability of the right class: what does cross-entropy"
        " make of it?",
        "probability-for-loss",
    )
    expect(
        abs(loss + log(10)) > 0.1,
        f"{known} is below zero, as the log of any probability is: which sign has a"
        " loss?",
        "sign-of-the-log",
    )
    expect(
        min(abs(loss - 1), abs(loss - log(10, 2))) > 0.05,
        f"{known}: you have the right ten, but in another unit. Which logarithm does"
        " cross-entropy take?",
        "log-of-another-base",
    )
    expect(
        abs(loss - log(10)) < 0.01,
        f"{loss}? Which probability has each of ten classes?",
    )


def judge_parameters(parameters, d: int) -> None:
    """Go on if ViT-Ti was counted right, else say which term the difference is."""
    right = 5_717_416
    few, block = right - parameters, 12 * d * d + 13 * d
    said = f"{few:,} too few"
    expect(
        few != 11 * block,
        f"{said}, that is 11 blocks: the model has 12, and no two of them share their"
        " weights",
        "one-block-repeated",
    )
    expect(
        few != 12 * 13 * d,
        f"{said}, 13 d in each of 12 blocks: what in a block is no matrix?",
        "matrices-alone-in-blocks",
    )
    expect(
        few != 197 * d,
        f"{said}, that is 197 rows of d, one for each token: the published ViT learns"
        " where its tokens are",
        "table-not-learned",
    )
    expect(
        few != -(768 - 197) * d,
        f"{-few:,} too many, 768 - 197 rows of d: how many tokens get a position?",
        "table-of-pixel-rows",
    )
    expect(
        few != 990 * (d + 1),
        f"{said}, that is the head of 990 classes: how many does question 1 ask for?",
        "head-of-ten-classes",
    )
    expect(
        few != 1000,
        f"{said}, one for each class: what has the head forgotten?",
        "head-bias-forgotten",
    )
    expect(
        few % d or not 0 < few <= 5 * d,
        f"{said}, that is {few // d} times d. A bias, a class token, its position, half"
        " a norm: each has as many numbers as a token is wide. Which is missing?",
        "rows-of-width-d-forgotten",
    )
    expect(
        few % d or few >= 0,
        f"{-few:,} too many, that is {-few // d} rows of d: how many images share a"
        " class token, and how many a table?",
        "one-token-per-image",
    )
    expect(
        few == 0,
        f"{parameters:,}? Add up: patch embedding, class token, position table, 12"
        f" blocks of 12 d d + 13 d, last norm, head with its bias",
    )


@exercise(
    "6.4",
    {
        "mean-over-channels": "the last axis is the tokens",
        "class-token-in-the-mean": "the class token is one of the patches",
        "class-token-read": "returns the class token itself",
        "one-patch-for-all": "returns a single patch",
        "prefix-cut-from-the-end": "prefix tokens stand behind the patches",
        "sum-for-mean": "returns the sum",
        "divided-by-all-tokens": "divides by the number of all tokens",
        "one-prefix-assumed": "there is one prefix token in every model",
    },
)
def pool_patches(answer) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 7, 5)
    got, right = answer(x, 1), x[:, 1:].mean(dim=1)

    def is_not(other: Tensor) -> bool:
        return got.shape != other.shape or not torch.allclose(got, other, atol=1e-5)

    expect(
        got.shape not in ((2, 6), (2, 7)),
        f"x is b n d, {tuple(x.shape)}, and {tuple(got.shape)} came out: which of the"
        " letters was averaged away?",
        "mean-over-channels",
    )
    expect(got.shape == (2, 5), f"expected shape (2, 5), got {tuple(got.shape)}")
    expect(
        is_not(x.mean(dim=1)),
        "the class token is in the mean: slice it off, or decide for it and say so",
        "class-token-in-the-mean",
    )
    expect(
        is_not(x[:, 0]),
        "this is token 0 as it stands, the class token: nothing was averaged",
        "class-token-read",
    )
    expect(
        all(is_not(x[:, n]) for n in range(1, 7)),
        "this is one patch as it stands: and the others?",
        "one-patch-for-all",
    )
    expect(
        is_not(x[:, :-1].mean(dim=1)),
        "the last patch was left out and the class token kept: at which end does a"
        " prefix stand?",
        "prefix-cut-from-the-end",
    )
    expect(
        is_not(6 * right),
        "this is 6 times the mean: with more patches it would grow",
        "sum-for-mean",
    )
    expect(
        is_not(right * 6 / 7),
        "6 patches were added up and divided by 7: who is the seventh?",
        "divided-by-all-tokens",
    )
    expect(not is_not(right), "this is not the mean of the patch tokens")
    two, none = answer(x, 2), answer(x, 0)
    expect(
        torch.allclose(two, x[:, 2:].mean(dim=1), atol=1e-5),
        "with two prefix tokens (DeiT has two) the answer is off: use"
        " num_prefix_tokens",
        "one-prefix-assumed",
    )
    expect(
        torch.allclose(none, x.mean(dim=1), atol=1e-5),
        "with no prefix token every token is a patch, and the answer is off",
    )
