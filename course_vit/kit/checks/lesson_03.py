"""Checks of lesson 03: who looks at whom."""

from collections.abc import Callable
from math import exp
from typing import Any

import torch
from torch import Tensor

from . import exercise, expect


def weights_by_loop(
    q: Tensor, k: Tensor, scale: float, mask: Tensor | None = None
) -> Tensor:
    """The referee for one head, `n e, m e -> n m`: one number at a time."""
    rows = []
    for i, query in enumerate(q.double()):
        terms = [exp(sum((query * key).tolist()) * scale) for key in k.double()]
        if mask is not None:
            terms = [term * bool(may) for term, may in zip(terms, mask[i], strict=True)]
        rows.append([term / sum(terms) for term in terms])
    return torch.tensor(rows, dtype=q.dtype)


def weights_of_heads(
    q: Tensor, k: Tensor, scale: float, mask: Tensor | None = None
) -> Tensor:
    """The referee for `b h n e, b h m e -> b h n m`."""
    heads = [
        weights_by_loop(one_q, one_k, scale, mask)
        for one_q, one_k in zip(q.flatten(0, 1), k.flatten(0, 1), strict=True)
    ]
    return torch.stack(heads).unflatten(0, q.shape[:2])


def same(got: Tensor, right: Tensor) -> bool:
    return got.shape == right.shape and torch.allclose(got, right, atol=1e-5)


def expect_rows_of_one(weights: Tensor) -> None:
    """Each query divides one whole of attention among the keys."""
    sums = weights.sum(dim=-1)
    low, high = sums.min().item(), sums.max().item()
    one = torch.allclose(weights.sum(dim=(-2, -1)), torch.tensor(1.0))
    question = "row i is how token i divides its attention: what must a row sum to?"
    expect(
        not one,
        f"all weights together sum to 1, each row to about {low:.3f}; {question}",
    )
    expect(
        low > 0.999 and high < 1.001,
        f"rows sum to {low:.3f} up to {high:.3f}; {question}",
    )


@exercise("3.1", "Along which axis?", "fix", minutes=4)
def axis(answer: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3)
    got, right = answer(x), weights_by_loop(x, x, 1.0)
    expect(
        got.shape == right.shape, f"5 tokens look at 5: not a table {tuple(got.shape)}"
    )
    expect_rows_of_one(got)
    expect(
        same(got, right),
        "rows sum to 1, but are not the softmax of x times x transposed",
    )


@exercise("3.2", "Two mistakes in one line", "fix", minutes=6)
def scale(answer: Any) -> None:
    torch.manual_seed(0)
    b, h, n, m, e = 2, 8, 3, 64, 64
    q, k = torch.randn(b, h, n, e), torch.randn(b, h, m, e)
    got, right = answer(q, k), weights_of_heads(q, k, e**-0.5)
    expect(
        got.shape == right.shape,
        f"expected weights {b, h, n, m}, got {tuple(got.shape)}",
    )
    sums, biggest = got.sum(dim=-1).mean().item(), got.amax(dim=-1).mean().item()
    expect(
        abs(sums - 1) < 1e-3,
        f"rows now sum to {sums:.3f}: what was divided after the softmax?",
    )
    typical = right.amax(dim=-1).mean().item()
    expect(
        biggest > typical / 2,
        f"too flat: the largest weight of a row is {biggest:.2f} on average, not"
        f" {typical:.2f}. Which vectors were multiplied, and how wide are they?",
    )
    expect(
        biggest < typical * 2,
        f"nearly one-hot: the largest weight is {biggest:.2f} on average, not"
        f" {typical:.2f}; scores this loud leave no gradient. Where is the scale?",
    )
    expect(same(got, right), "close, but not softmax(q k / sqrt(e)): which power of e?")


@exercise("3.3", "How large is the table?", "predict", minutes=3)
def memory(answer: Any) -> None:
    small, large = (197**2 * 4 / 2**20, 3136**2 * 4 / 2**20)

    def near(value: float, right: float) -> bool:
        return abs(value - right) < 0.1 * right

    for got, right in zip(answer, (small, large), strict=True):
        expect(
            not near(got, right / 4),
            f"{got} million entries? Each one takes four bytes",
        )
        expect(
            not near(got, right * 8), f"{got} MiB? float32 means 32 bits, not 32 bytes"
        )
    got_small, got_large = answer
    expect(
        near(got_small, small), f"{got_small} MiB? A table of 197 by 197, 4 bytes each"
    )
    expect(
        not near(got_large / got_small, 3136 / 197),
        "your table grows 16-fold, as n does; how many entries has a table of n by n?",
    )
    expect(
        near(got_large, large),
        f"{got_large} MiB? A table of 3136 by 3136, 4 bytes each",
    )


@exercise("3.4", "Attention weights, with a mask", "faded", minutes=10)
def attention_weights(answer: Any) -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 4, 6), torch.randn(2, 3, 5, 6)
    right = weights_of_heads(q, k, 6**-0.5)
    got = answer(q, k)
    expect(
        got.shape == right.shape,
        f"expected weights (2, 3, 4, 5), got {tuple(got.shape)}",
    )
    expect_rows_of_one(got)
    expect(
        not same(got, weights_of_heads(q, k, 1.0)),
        "without the scale: nearly one-hot rows",
    )
    expect(
        not same(got, weights_of_heads(q, k, 18**-0.5)),
        "scaled by the width of all heads together: how wide is one of them?",
    )
    expect(same(got, right), "without a mask this is not softmax(q k / sqrt(e))")

    mask = torch.tensor(
        [[1, 0, 0, 1, 0], [0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]]
    )
    mask = mask.bool()
    got, right = answer(q, k, mask), weights_of_heads(q, k, 6**-0.5, mask)
    expect(
        not same(got, answer(q, k)),
        "a mask changes nothing: masked_fill *returns* a tensor",
    )
    expect(
        not got[..., 0, :][..., mask[0]].eq(0).all(),
        "the mask works the wrong way round: True means may look",
    )
    leak = got[..., ~mask].max().item()
    expect(
        leak < 1e-6,
        f"a blocked key still gets a weight of {leak:.2f}: which score gives the"
        " weight 0?",
    )
    low = got.sum(dim=-1).min().item()
    expect(
        low > 0.999,
        f"a masked row sums to {low:.2f}: mask before the softmax, not after",
    )
    expect(
        same(got, right), "with a mask, the allowed weights are not their own softmax"
    )

    blocked = mask.clone()
    blocked[1] = False
    expect_raises(
        answer, (q, k, blocked), ValueError, "a query that may look at nothing"
    )
    expect_raises(answer, (q, k, mask.float()), TypeError, "a mask that is not boolean")
    expect_raises(
        answer, (q, k[..., :5]), ValueError, "queries and keys of different width"
    )


def expect_raises(
    function: Callable, arguments: tuple, kind: type[Exception], what: str
) -> None:
    """`function` must refuse these arguments, with this kind of error."""
    try:
        function(*arguments)
    except kind:
        return
    except Exception as error:
        hint = (
            f"{what} should raise {kind.__name__}, got {type(error).__name__}: {error}"
        )
        raise AssertionError(hint) from None
    raise AssertionError(f"{what} should raise {kind.__name__}, and nothing was raised")


@exercise("3.5", "Attention", "implement", minutes=4)
def attention(answer: Any) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 4, 6), torch.randn(2, 3, 5, 6), torch.randn(2, 3, 5, 7)
    mask = torch.ones(4, 5).tril(1).bool()
    got, right = answer(q, k, v), weights_of_heads(q, k, 6**-0.5) @ v
    expect(
        got.shape == right.shape,
        "each of 4 queries gets a mixture as wide as a value: expected (2, 3, 4, 7),"
        f" got {tuple(got.shape)}",
    )
    expect(same(got, right), "not the mean of the values, weighted row by row")
    masked = weights_of_heads(q, k, 6**-0.5, mask) @ v
    expect(
        same(answer(q, k, v, mask), masked),
        "right without a mask: where did the mask go?",
    )
