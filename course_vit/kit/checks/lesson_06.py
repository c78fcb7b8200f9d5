"""Checks of lesson 06: the whole model."""

import torch
from torch import nn

from . import exercise, expect

STEPS = ["patches", "class token", "positions", "blocks", "norm", "token 0", "head"]


@exercise("6.1", "The class token that never learned", "fix", minutes=10)
def prepend_class_token(answer) -> None:
    layer = answer(5)
    names = list(layer.state_dict())
    expect(
        "cls_token" in names,
        f"cls_token is not saved: state_dict has {names or 'nothing'}",
    )
    parameters = dict(layer.named_parameters())
    expect("cls_token" in parameters, "cls_token is saved but does not train")
    rows = parameters["cls_token"].numel() // 5
    expect(rows == 1, f"{rows} class tokens? Learn one and hand it to every image")
    nn.init.normal_(parameters["cls_token"])
    x = torch.randn(3, 4, 5)
    got = layer(x)
    expect(
        got.shape == (3, 5, 5), f"expected tokens (3, 1 + 4, 5), got {tuple(got.shape)}"
    )
    expect(
        torch.equal(got[:, 1:], x), "the patches must follow unchanged behind token 0"
    )
    token = parameters["cls_token"].reshape(5)
    expect(torch.equal(got[:, 0], token.expand(3, 5)), "token 0 is not the learned one")


@exercise("6.2", "Put the steps in order", "order", minutes=5)
def order(answer) -> None:
    steps = list(answer)
    expect(sorted(steps) == sorted(STEPS), f"use each of {STEPS} once, got {steps}")
    place = {step: index for index, step in enumerate(steps)}
    expect(
        place["class token"] < place["positions"],
        "the table has n + 1 rows, so there are n + 1 tokens when it is added: who has"
        " position 0?",
    )
    expect(place["patches"] == 0, "before there are patches there is nothing to stack")
    expect(
        place["positions"] < place["blocks"],
        "after the blocks it is too late to know where a patch was",
    )
    expect(
        place["token 0"] > place["blocks"],
        "a token chosen before the blocks has not seen the others",
    )
    expect(
        place["blocks"] < place["norm"] < place["head"],
        "a pre-norm stack leaves its sum unnormalised: what does the head want to"
        " read?",
    )
    expect(
        steps == STEPS,
        "the norm treats every token alike, so picking token 0 before or after it"
        " gives the same; the course norms all tokens first, as forward_features"
        " returns them",
    )


@exercise("6.3", "Count and predict", "predict", minutes=10)
def sanity(answer) -> None:
    parameters, loss = answer
    expect(
        parameters != 5_717_416 - 192,
        "one row is missing in the position table: the class token has a position too",
    )
    expect(
        parameters == 5_717_416,
        f"{parameters:,}? Add up: patch embedding, class token, position table, 12"
        f" blocks of 12 d d + 13 d, last norm, head with its bias",
    )
    expect(
        abs(loss - 4.6) > 0.1, "4.6 is ln(100): how many classes do the digits have?"
    )
    expect(
        abs(loss - 2.3026) < 0.01, f"{loss}? Which probability has each of ten classes?"
    )


@exercise("6.4", "Read out the mean", "implement", minutes=10)
def pool_patches(answer) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 7, 5)
    got, right = answer(x, num_prefix_tokens=1), x[:, 1:].mean(dim=1)
    expect(got.shape == (2, 5), f"expected shape (2, 5), got {tuple(got.shape)}")
    expect(
        not torch.allclose(got, x.mean(dim=1), atol=1e-5),
        "the class token is in the mean: slice it off, or decide for it and say so",
    )
    expect(
        torch.allclose(got, right, atol=1e-5),
        "this is not the mean of the patch tokens",
    )
    got = answer(x, num_prefix_tokens=2)
    expect(
        torch.allclose(got, x[:, 2:].mean(dim=1), atol=1e-5),
        "with two prefix tokens (DeiT has two) the answer is off: use"
        " num_prefix_tokens",
    )
