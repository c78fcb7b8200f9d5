"""Checks of lesson 04: heads."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from . import exercise, expect


def tokens(b: int, n: int, d: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(b, n, d, dtype=torch.float64)


def linears(dim: int) -> SimpleNamespace:
    """The two linear maps of a layer; their biases are not zero."""
    torch.manual_seed(1)
    qkv = nn.Linear(dim, 3 * dim, dtype=torch.float64)
    proj = nn.Linear(dim, dim, dtype=torch.float64)
    return SimpleNamespace(qkv=qkv, proj=proj)


def mix(q: Tensor, k: Tensor, v: Tensor, scale: float = 0.0, dim: int = -1) -> Tensor:
    """Attention written once more; `scale` and `dim` make the known mistakes."""
    scores = q @ k.mT * (scale or q.shape[-1] ** -0.5)
    return scores.softmax(dim) @ v


def parts_by_head(layer: Any, x: Tensor, num_heads: int) -> list[list[Tensor]]:
    """The referee's q, k, v of every head: its own rows of the weights, unmoved."""
    e = x.shape[-1] // num_heads
    thirds = zip(layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3), strict=True)
    return [
        [x @ w.T + c for w, c in zip(weight.split(e), bias.split(e), strict=True)]
        for weight, bias in thirds
    ]


def by_heads(layer: Any, x: Tensor, num_heads: int) -> Tensor:
    """The referee: one head after the other."""
    heads = zip(*parts_by_head(layer, x, num_heads), strict=True)
    return layer.proj(torch.cat([mix(q, k, v) for q, k, v in heads], dim=-1))


def same(got: Tensor, right: Tensor) -> bool:
    return got.shape == right.shape and torch.allclose(got, right, atol=1e-9)


def shuffle_error(layer: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """How far outputs of shuffled tokens are from shuffled outputs, at most."""
    order = torch.arange(x.shape[1]).roll(1)
    return (layer(x[:, order]) - layer(x)[:, order]).abs().max().item()


LINES = {
    "A": "q, k, v = qkv.unbind(0)",
    "B": "out = to_out(out)",
    "C": "qkv = qkv.reshape(3, b, h, n, e)",
    "D": "qkv = to_qkv(x)",
    "E": "out = attention(q, k, v)",
    "F": 'out = rearrange(out, "b h n e -> b n (h e)")',
    "G": 'qkv = rearrange(qkv, "b n (three h e) -> three b h n e", three=3, h=h)',
}


@exercise("4.1", "Put the lines in order", "order", minutes=5)
def order(answer: Any) -> None:
    labels = [str(label).strip().upper() for label in answer]
    unknown = [label for label in labels if label not in LINES]
    expect(not unknown, f"there is no line {unknown}, only {', '.join(LINES)}")
    layer = linears(12)

    def run(x: Tensor) -> Tensor:
        names: dict[str, Any] = {
            "x": x,
            "b": len(x),
            "n": 5,
            "h": 3,
            "e": 4,
            "rearrange": rearrange,
        }
        names |= {"attention": mix, "to_qkv": layer.qkv, "to_out": layer.proj}
        for label in labels:
            try:
                exec(LINES[label], names)
            except Exception as error:
                reason = str(error).strip().splitlines()[0]
                what = f"line {label} stopped with {type(error).__name__}: {reason}"
                raise AssertionError(f"your lines were run, and {what}") from None
        expect("out" in names, "your lines were run, and nothing is called `out`")
        return names["out"]

    x = tokens(2, 5, 12)
    with torch.no_grad():
        got, right = run(x), by_heads(layer, x, 3)
        ended = f"your lines end with shape {tuple(got.shape)}"
        expect(got.shape == right.shape, f"{ended}; tokens (2, 5, 12) went in")
        error = shuffle_error(run, x)
        expect(
            error < 1e-9,
            "your lines run and the shape is right. But shuffle the tokens that go in:"
            f" what comes out is not shuffled alike, it differs by up to {error:.2f}."
            " Which line forgets whose number is whose?",
        )
        expect(same(got, right), "your lines run; does a last map still mix the heads?")


@exercise("4.2", "Write the layer", "implement", minutes=15)
def multi_head_attention(answer: Any) -> None:
    torch.manual_seed(1)
    layer, x = answer(12, num_heads=3).double(), tokens(2, 5, 12)
    dropping = answer(12, num_heads=3, attn_drop=0.5).double()
    for linear in (layer.qkv, layer.proj):
        nn.init.normal_(linear.bias)
    with torch.no_grad():
        judge_split(layer, x, 3)
        judge_forward(layer, x, 3)
        loud = not same(dropping(x), dropping(x))
        expect(
            loud, "attn_drop=0.5 does nothing: two passes in training came out equal"
        )
        dropping.eval()
        calm = same(dropping(x), dropping(x))
        expect(calm, "two passes in eval differ: attn_drop belongs to training only")
    try:
        layer(x[..., :-1])
    except ValueError:
        return
    except Exception as error:
        got = type(error).__name__
        hint = f"for tokens of another width, raise ValueError, not {got}"
        raise AssertionError(hint) from None
    raise AssertionError("for tokens of another width, raise ValueError; nothing did")


def judge_split(layer: Any, x: Tensor, h: int) -> None:
    (b, n, d), parts = x.shape, layer.split_heads(x)
    shapes, right = [tuple(part.shape) for part in parts], (b, h, n, d // h)
    expect(
        shapes == [right] * 3, f"split_heads gave shapes {shapes}, not 3 times {right}"
    )
    other = x.clone()
    other[:, -1] += 1
    change = (layer.split_heads(other)[0] - parts[0]).abs().amax(dim=(0, 1, 3))
    moved = change.gt(1e-9).nonzero().flatten().tolist()
    expect(
        moved == [n - 1],
        f"only token {n - 1} was changed, yet the queries {moved} moved: a head holds"
        " pieces of several tokens. Name every axis before you move one",
    )
    names = ("queries", "keys", "values")
    truth = [torch.stack(heads, dim=1) for heads in parts_by_head(layer, x, h)]
    for name, part in zip(names, parts, strict=True):
        found = [other for other, t in zip(names, truth, strict=True) if same(part, t)]
        expect(
            found in ([], [name]),
            f"where the {name} should be, the {', '.join(found)} are",
        )
        expect(
            found,
            f"the {name} hold the right tokens, but not the right channels: published"
            " weights hold all queries, then all keys, then all values, and in each of"
            " them head after head",
        )


def judge_forward(layer: Any, x: Tensor, h: int) -> None:
    got, right = layer(x), by_heads(layer, x, h)
    expect(
        got.shape == x.shape, f"forward gave {tuple(got.shape)}, not {tuple(x.shape)}"
    )
    over_keys = "then the weights of a query do not sum to 1 over the keys"
    mistakes = {
        "the scores look divided by the root of the model's width: which two vectors"
        " were multiplied, and how wide are they?": {"scale": x.shape[-1] ** -0.5},
        "the scores look as if nothing had divided them (lesson 3)": {"scale": 1.0},
        f"the softmax ran over the heads: {over_keys}": {"dim": 1},
        f"the softmax ran over the queries: {over_keys}": {"dim": 2},
    }
    merge, parts = "b h n e -> b n (h e)", layer.split_heads(x)
    for hint, mistake in mistakes.items():
        wrong = layer.proj(rearrange(mix(*parts, **mistake), merge))
        expect(not same(got, wrong), hint)
    expect(
        not same(got, rearrange(mix(*parts), merge)),
        "the heads stand side by side, but nothing has mixed them yet: where is proj?",
    )
    error = shuffle_error(layer, x)
    expect(
        error < 1e-9,
        "the shape is right, but shuffle the tokens that go in: what comes out is not"
        f" shuffled alike, it differs by up to {error:.2f}. How were the heads merged?",
    )
    worst = (got - right).abs().max().item()
    expect(
        same(got, right),
        f"a loop over the heads gives other numbers, by up to {worst:.2f}: do the"
        " channels of a head lie side by side when proj comes?",
    )


@exercise("4.3", "Do more heads cost more?", "choose", minutes=3)
def cost(answer: Any) -> None:
    letter = str(answer).strip().upper()
    expect(letter in ("A", "B", "C"), f"choose A, B or C, got {answer!r}")
    slices = "a head is e = d / h wide: write down the shapes of its matrices, times h"
    expect(letter != "A", f"there are more heads, but {slices}")
    expect(letter != "C", f"each head is smaller, but {slices}")


@exercise("4.4", "A colleague's layer", "fix", minutes=8)
def colleague(answer: Any) -> None:
    layer, x = linears(12), tokens(2, 5, 12)
    layer.num_heads = 3
    with torch.no_grad():
        got, right = answer(layer, x), by_heads(layer, x, 3)
        shapes = f"{tuple(got.shape)} came out, {tuple(x.shape)} went in"
        expect(got.shape == x.shape, shapes)
        error = shuffle_error(lambda x: answer(layer, x), x)
    expect(
        error < 1e-9,
        f"tokens went in shuffled, and came out otherwise: off by up to {error:.2f}."
        " `mixed` is b h n e: in which order does the next line need its axes?",
    )
    worst = (got - right).abs().max().item()
    expect(
        same(got, right),
        "tokens stay whole now, but a loop over the heads differs by up to"
        f" {worst:.2f}: the channels of one head must lie side by side",
    )


@exercise("4.5", "Does it leak?", "implement", minutes=10)
def leaks(answer: Any) -> None:
    def within_images(x: Tensor) -> Tensor:
        return mix(x, x, x)

    def across_images(x: Tensor) -> Tensor:
        return within_images(x.transpose(0, 1)).transpose(0, 1)

    for b, n in ((2, 6), (4, 4)):
        x = tokens(b, n, 8)
        before = x.clone()
        tight, leaky = answer(within_images, x), answer(across_images, x)
        where = f"(b={b}, n={n})"
        expect(
            torch.equal(x, before), "your test changed the tokens it was lent: clone"
        )
        expect(
            not tight,
            f"a layer that mixes only inside each image was called leaky {where}: did"
            " you change one image as a whole, and watch another one?",
        )
        expect(
            leaky,
            f"a layer that mixes token i of all images was not noticed {where}: change"
            " one image, and watch the numbers of one you did not change",
        )
