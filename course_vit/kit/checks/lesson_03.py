"""Checks of lesson 03: who looks at whom."""

from functools import partial
from math import exp
from typing import Any

import torch
from torch import Tensor

from . import exercise, expect, expect_raises, probes
from .probes import trying


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


def weights_anywhere(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """The referee for any axes in front, `... n e, ... m e -> ... n m`, scaled."""
    *lead, n, e = q.shape
    m = k.shape[-2]
    masks = None if mask is None else mask.expand(*lead, n, m).reshape(-1, n, m)
    pairs = zip(q.reshape(-1, n, e), k.reshape(-1, m, e), strict=True)
    heads = [
        weights_by_loop(one_q, one_k, e**-0.5, None if masks is None else masks[i])
        for i, (one_q, one_k) in enumerate(pairs)
    ]
    return torch.stack(heads).reshape(*lead, n, m)


same = partial(probes.same, atol=1e-5)


def sums_to_one(weights: Tensor, *dims: int) -> bool:
    sums = weights.sum(dim=dims)
    return torch.allclose(sums, torch.ones_like(sums), atol=1e-3)


OVER_QUERIES, OVER_TABLE, OVER_HEADS = (
    "softmax-over-queries",
    "softmax-over-table",
    "softmax-over-heads",
)
WHAT_SUMS_TO_ONE = {
    OVER_QUERIES: "the softmax runs down the columns, over the tokens that look",
    OVER_TABLE: "one softmax over the whole table of weights",
}
WHAT_SUMS_TO_ONE_IN_HEADS = {
    **WHAT_SUMS_TO_ONE,
    OVER_HEADS: "the softmax runs over the heads",
}


def expect_rows_of_one(weights: Tensor) -> None:
    """Each query divides one whole of attention among the keys."""
    sums = weights.sum(dim=-1)
    low, high = sums.min().item(), sums.max().item()
    rows = f"rows sum to {low:.3f} up to {high:.3f}"
    question = "row i is how token i divides its attention: what must a row sum to?"
    expect(
        not sums_to_one(weights, -2) or sums_to_one(weights, -1),
        f"{rows}, and each column to 1; {question}",
        OVER_QUERIES,
    )
    expect(
        not sums_to_one(weights, -2, -1),
        f"all weights together sum to 1, each row to about {low:.3f}; {question}",
        OVER_TABLE,
    )
    expect(
        weights.ndim != 4 or not sums_to_one(weights, 1),
        f"{rows}, and the weights of one place to 1 over all heads: heads do not share"
        f" attention with each other; {question}",
        OVER_HEADS,
    )


def expect_no_smaller_sum(weights: Tensor) -> None:
    low, high = (f(weights.sum(dim=-1)).item() for f in (torch.min, torch.max))
    expect(
        low > 0.999 and high < 1.001,
        f"rows sum to {low:.3f} up to {high:.3f}; row i is how token i divides its"
        " attention: what must a row sum to?",
    )


@exercise(
    "3.1",
    {
        **WHAT_SUMS_TO_ONE,
        "numbers-look-at-numbers": "the columns of x are what looks",
        "values-mixed-already": "the weights and what they mix are one thing",
        "exponential-left-out": "to divide by the sum is enough",
        "scale-out-of-habit": "attention always has a scale",
    },
)
def axis(answer: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3)
    got, right = answer(x), weights_by_loop(x, x, 1.0)
    shape = f"5 tokens look at 5: not a table {tuple(got.shape)}"
    expect(
        got.shape != (3, 3),
        f"{shape}. That compares the 3 numbers of a token with each other",
        "numbers-look-at-numbers",
    )
    expect(
        got.shape != (5, 3),
        f"{shape}. That is the mixture already; the weights are asked for",
        "values-mixed-already",
    )
    expect(got.shape == right.shape, shape)
    expect_rows_of_one(got)
    scores = x @ x.T
    expect(
        not same(got, scores / scores.sum(dim=-1, keepdim=True)),
        f"rows sum to 1, but the smallest weight is {got.min():.2f}: what makes every"
        " score positive before the sum divides it?",
        "exponential-left-out",
    )
    expect_no_smaller_sum(got)
    expect(
        not same(got, weights_by_loop(x, x, 3**-0.5)),
        "rows sum to 1, and the scores are scaled. That comes in 3.5: here only the"
        " axis is wrong",
        "scale-out-of-habit",
    )
    expect(
        same(got, right),
        "rows sum to 1, but are not the softmax of x times x transposed",
    )


@exercise(
    "3.2",
    {
        **WHAT_SUMS_TO_ONE_IN_HEADS,
        "scale-after-softmax": "the scale may be applied to the weights",
        "scale-left-out": "softmax copes with scores of any size",
        "scale-multiplied": "the scale makes scores louder",
        "model-width": "a score adds up as many products as the model is wide",
        "root-left-out": "scores spread in proportion to the width",
        "number-of-keys": "the scale depends on how many keys there are",
    },
)
def scale(answer: Any) -> None:
    torch.manual_seed(0)
    b, h, n, m, e = 2, 8, 3, 64, 64
    q, k = torch.randn(b, h, n, e), torch.randn(b, h, m, e)
    got, right = answer(q, k), weights_of_heads(q, k, e**-0.5)
    expect(
        got.shape == right.shape,
        f"expected weights {b, h, n, m}, got {tuple(got.shape)}",
    )
    sums = got.sum(dim=-1)
    unscaled = weights_of_heads(q, k, 1.0)
    expect(
        sums.std() > 1e-4 or abs(sums.mean() - 1) < 1e-3,
        f"rows now sum to {sums.mean():.3f}: what was divided after the softmax?",
        "scale-after-softmax",
    )
    expect_rows_of_one(got)
    expect_no_smaller_sum(got)
    biggest, typical = [w.amax(dim=-1).mean().item() for w in (got, right)]
    size = f"the largest weight of a row is {biggest:.2f} on average, not {typical:.2f}"
    expect(
        not same(got, unscaled),
        f"nearly one-hot: {size}. Scores this loud leave no gradient. Where is the"
        " scale?",
        "scale-left-out",
    )
    expect(
        not same(got, weights_of_heads(q, k, e**0.5)),
        f"as good as one-hot: {size}. Did the scale make the scores smaller?",
        "scale-multiplied",
    )
    expect(
        not same(got, weights_of_heads(q, k, (h * e) ** -0.5)),
        f"too flat: {size}. Which vectors were multiplied, and how wide are they?",
        "model-width",
    )
    expect(
        not same(got, weights_of_heads(q, k, 1 / e))
        and not same(got, weights_of_heads(q, k, 1 / (h * e))),
        f"too flat: {size}. By which power of the width do scores spread? The table in"
        " 3.5 measures it",
        "root-left-out",
    )
    expect(same(got, right), "close, but not softmax(q k / sqrt(e)): which power of e?")
    few = k[:, :, :7]
    expect(
        same(answer(q, few), weights_of_heads(q, few, e**-0.5)),
        "right for 64 keys, and not for 7. A score knows two vectors only: what do"
        " other keys have to do with it?",
        "number-of-keys",
    )


@exercise(
    "3.3",
    {
        "entries-not-bytes": "an entry is a byte",
        "bits-taken-for-bytes": "float32 takes 32 bytes",
        "unit-left-out": "the answer is in bytes, or in KiB",
        "one-row-counted": "the table has one weight per token",
        "each-pair-counted-once": "i looking at j is j looking at i",
        "table-grows-as-n": "sixteen times the tokens, sixteen times the table",
    },
)
def memory(answer: Any) -> None:
    small, large = (n**2 * 4 / 2**20 for n in (197, 3136))

    def near(value: float, right: float) -> bool:
        return abs(value - right) < 0.1 * right

    for got, right, n in zip(answer, (small, large), (197, 3136), strict=True):
        expect(
            not near(got, right / 4),
            f"{got} MiB? So many million entries there are; how many bytes has each?",
            "entries-not-bytes",
        )
        expect(
            not near(got, right * 8),
            f"{got} MiB? The 32 in float32 counts bits, and a byte has 8",
            "bits-taken-for-bytes",
        )
        expect(
            not near(got, right * 2**20) and not near(got, right * 2**10),
            f"{got} is a number of bytes, or of KiB: one MiB is 2^20 bytes",
            "unit-left-out",
        )
        expect(
            not near(got, right / n),
            f"{got} MiB is one row: how one token looks at {n}. How many tokens look?",
            "one-row-counted",
        )
        expect(
            not near(got, right / 2),
            f"{got} MiB is half of the table. How i looks at j is not how j looks at i",
            "each-pair-counted-once",
        )
    got_small, got_large = answer
    expect(
        near(got_small, small), f"{got_small} MiB? A table of 197 by 197, 4 bytes each"
    )
    expect(
        not near(got_large / got_small, 3136 / 197),
        "your table grows 16-fold, as n does; how many entries has a table of n by n?",
        "table-grows-as-n",
    )
    expect(
        near(got_large, large),
        f"{got_large} MiB? A table of 3136 by 3136, 4 bytes each",
    )


def expect_scaled(got: Tensor, q: Tensor, k: Tensor) -> None:
    """Without a mask: the softmax of scaled scores, along the keys."""
    e, h = q.shape[-1], q.shape[1]
    right = weights_of_heads(q, k, e**-0.5)
    expect(
        got.shape != right.mT.shape,
        f"{tuple(got.shape)} came back: keys look at queries. Who asks stands in the"
        f" rows, {tuple(right.shape)}",
        "keys-look-at-queries",
    )
    expect(
        got.shape == right.shape,
        f"expected weights {tuple(right.shape)}, got {tuple(got.shape)}",
    )
    expect_rows_of_one(got)
    sums = got.sum(dim=-1)
    expect(
        sums.std() > 1e-4 or abs(sums.mean() - 1) < 1e-3,
        f"rows now sum to {sums.mean():.3f}: what was divided after the softmax?",
        "scale-after-softmax",
    )
    expect_no_smaller_sum(got)
    expect(
        not same(got, weights_of_heads(q, k, 1.0)),
        "without the scale: nearly one-hot rows",
        "scale-left-out",
    )
    expect(
        not same(got, weights_of_heads(q, k, (h * e) ** -0.5)),
        "scaled by the width of all heads together: how wide is one of them?",
        "model-width",
    )
    expect(
        not same(got, weights_of_heads(q, k, 1 / e)),
        f"divided by {e}, where {e**0.5:.2f} would do: too flat. By which power of the"
        " width do scores spread?",
        "root-left-out",
    )
    expect(same(got, right), "without a mask this is not softmax(q k / sqrt(e))")


def expect_masked(
    got: Tensor, free: Tensor, q: Tensor, k: Tensor, mask: Tensor
) -> None:
    """With a mask: the same among the allowed keys, and nothing elsewhere."""
    e = q.shape[-1]
    expect(
        not same(got, free),
        "a mask changes nothing: masked_fill *returns* a tensor",
        "mask-thrown-away",
    )
    expect(
        not got[:, :, 0, mask[0]].eq(0).all(),
        "the mask works the wrong way round: True means may look",
        "mask-other-way-round",
    )
    leak = got[:, :, ~mask].max().item()
    low = got.sum(dim=-1).min().item()
    scores = q @ k.mT * e**-0.5
    expect(
        not same(got, (scores * mask).softmax(dim=-1)),
        f"a blocked key still gets a weight of {leak:.2f}: 0 is a score like any other."
        " Which score gives the weight 0?",
        "zero-before-softmax",
    )
    expect(
        not same(got, (scores + mask).softmax(dim=-1)),
        f"a blocked key still gets a weight of {leak:.2f}: True was added as 1. What"
        " must be added to a score so that its exponential is 0?",
        "mask-added-as-one",
    )
    expect(
        not same(got, free * mask),
        f"a masked row sums to {low:.2f}: mask before the softmax, not after",
        "zero-after-softmax",
    )
    expect(leak < 1e-6, f"a blocked key still gets a weight of {leak:.2f}")
    expect(low > 0.999, f"a masked row sums to {low:.2f}, and should sum to 1")
    expect(
        same(got, weights_of_heads(q, k, e**-0.5, mask)),
        "with a mask, the allowed weights are not their own softmax",
    )


@exercise(
    "3.4",
    {
        **WHAT_SUMS_TO_ONE_IN_HEADS,
        "keys-look-at-queries": "a row belongs to a key",
        "scale-after-softmax": "the scale may be applied to the weights",
        "scale-left-out": "softmax copes with scores of any size",
        "model-width": "a score adds up as many products as the model is wide",
        "root-left-out": "scores spread in proportion to the width",
        "mask-thrown-away": "masked_fill changes the tensor it is called on",
        "mask-other-way-round": "True in a mask means blocked",
        "zero-before-softmax": "a score of 0 is no score",
        "mask-added-as-one": "a boolean mask can be added as it is",
        "zero-after-softmax": "blocked weights can be wiped out afterwards",
    },
)
def attention_weights(answer: Any) -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 4, 6), torch.randn(2, 3, 5, 6)
    free = answer(q, k)
    expect_scaled(free, q, k)
    mask = torch.tensor(
        [[1, 0, 0, 1, 0], [0, 1, 1, 0, 1], [1, 1, 0, 1, 1], [0, 0, 0, 0, 1]]
    ).bool()
    expect_masked(answer(q, k, mask), free, q, k, mask)

    blocked = mask.clone()
    blocked[1] = False
    expect_raises(
        answer, (q, k, blocked), ValueError, "a query that may look at nothing"
    )
    expect_raises(answer, (q, k, mask.float()), TypeError, "a mask that is not boolean")
    narrow = torch.randn(2, 3, 5, 1)  # width 1 would be broadcast
    expect_raises(
        answer, (q, narrow), ValueError, "queries and keys of different width"
    )
    expect_everywhere(answer)


def expect_everywhere(answer: Any, mixes: bool = False) -> None:
    """Other axes in front, sizes of 1, float64, masks of other shapes, large scores.

    `mixes` says whether values are asked for, and their mixtures come out.
    """

    def drawn(*lead: int, n: int = 4, m: int = 5, e: int = 6) -> list[Tensor]:
        sizes = (n, e), (m, e), (m, e + 1)
        parts = [torch.randn(*lead, *size) for size in sizes]
        return parts if mixes else parts[:2]

    def right(parts: list[Tensor], mask: Tensor | None = None) -> Tensor:
        weights = weights_anywhere(parts[0], parts[1], mask)
        return weights @ parts[2] if mixes else weights

    for lead in ((), (2,), (2, 2, 3)):
        parts = drawn(*lead)
        axes = f"{len(lead)} axes in front, q {tuple(parts[0].shape)}"
        with trying(axes):
            got = answer(*parts)
        expect(
            same(got, right(parts)),
            f"right for images and heads; with {axes}, something else comes out: `...`"
            " stands for any of them",
        )
    alone = drawn(2, 3, n=1, m=1, e=1)
    with trying("a single query and key of width 1"):
        got = answer(*alone)
    expect(
        same(got, right(alone)),
        f"a single query and key of width 1: expected {tuple(right(alone).shape)}, all"
        f" the weight on this key, got {tuple(got.shape)}. An axis of length 1 is an"
        " axis, too",
    )
    parts = [part.double() for part in drawn(2, 3)]
    mask = torch.ones(4, 5).tril().bool()
    per_image = torch.stack([mask, mask.flip(1)])[:, None]
    for some in (None, mask, per_image):
        what = "" if some is None else f" and a mask {tuple(some.shape)}"
        with trying(f"float64{what}"):
            got = answer(*parts, some)
        expect(
            same(got, right(parts, some), atol=1e-10, rtol=1e-10),
            f"nearly: in float64{what} the answer is off in the later digits. Where"
            " were they lost?",
        )
        leak = 0.0 if mixes or some is None else (got * ~some).max().item()
        expect(
            leak == 0,
            f"a blocked key still gets a weight of {leak:.0e}: little, and not 0. Which"
            " score is below every number?",
        )
    with trying("scores of a hundred million (what is exp of that?)"):
        answer(*(1e4 * part for part in parts))


@exercise(
    "3.5",
    {
        "keys-mixed": "what is mixed are the keys",
        "weights-not-applied": "the weights are the result",
        "mean-divided-again": "a sum must still be divided by the number of keys",
        "values-counted-alike": "every value counts as much as the next",
        "scale-left-out": "softmax copes with scores of any size",
        "mask-not-passed-on": "a mask works without being passed on",
        "mask-other-way-round": "True in a mask means blocked",
    },
)
def attention(answer: Any) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 4, 6), torch.randn(2, 3, 5, 6), torch.randn(2, 3, 5, 7)
    got, right = answer(q, k, v), weights_of_heads(q, k, 6**-0.5) @ v
    shape = (
        "each of 4 queries gets a mixture as wide as a value: expected (2, 3, 4, 7),"
        f" got {tuple(got.shape)}"
    )
    expect(
        got.shape != (2, 3, 4, 6),
        f"{shape}. A key is 6 wide: what do those give who are looked at?",
        "keys-mixed",
    )
    expect(
        got.shape != (2, 3, 4, 5),
        f"{shape}. These are the weights of 5 keys: what is mixed with them?",
        "weights-not-applied",
    )
    expect(got.shape == right.shape, shape)
    expect(
        not same(got * 5, right),
        "the weighted mean is there, divided by 5 once more. What do the weights of a"
        " row sum to?",
        "mean-divided-again",
    )
    expect(
        not same(got, v.mean(dim=-2, keepdim=True).expand_as(right)),
        "every query gets the plain mean of the values: where are its weights?",
        "values-counted-alike",
    )
    expect(
        not same(got, weights_of_heads(q, k, 1.0) @ v),
        "without the scale: nearly one-hot rows",
        "scale-left-out",
    )
    expect(same(got, right), "not the mean of the values, weighted row by row")
    mask = torch.ones(4, 5).tril().bool()
    got = answer(q, k, v, mask)
    expect(
        not same(got, right),
        "right without a mask: where did the mask go?",
        "mask-not-passed-on",
    )
    expect(
        not same(got, weights_of_heads(q, k, 6**-0.5, ~mask) @ v),
        "the mask works the wrong way round: True means may look",
        "mask-other-way-round",
    )
    expect(
        same(got, weights_of_heads(q, k, 6**-0.5, mask) @ v),
        "right without a mask; with one, not the mean over the allowed values",
    )
    blocked = mask.clone()
    blocked[1] = False
    expect_raises(
        answer, (q, k, v, blocked), ValueError, "a query that may look at nothing"
    )
    what = "a mask that is not boolean"
    expect_raises(answer, (q, k, v, mask.float()), TypeError, what)
    what = "queries and keys of different width"
    expect_raises(answer, (q, k[..., :1], v), ValueError, what)
    expect_everywhere(answer, mixes=True)


@exercise(
    "3.6",
    {
        "parts-swapped": "it is attention that reads one token after another",
        "recurrence-side-by-side": "a recurrent net reads all tokens at once",
        "gaps-counted": "the first token is read without a step",
        "queries-take-turns": "a query waits for the query before it",
        "work-is-waiting": "what is much work takes many steps in a row",
        "one-score-per-token": "each token gets one score",
        "own-score-left-out": "a token does not look at itself",
        "each-pair-scored-once": "i looking at j is j looking at i",
    },
)
def steps(answer: Any) -> None:
    n = 3136
    recurrent, parallel, scores = answer
    expect(
        (recurrent, parallel) != (1, n),
        "both numbers occur, each at the other's place: which of the two carries a"
        " state from token to token?",
        "parts-swapped",
    )
    expect(
        recurrent != 1,
        "one step? Each step of a recurrent net needs the state that the step before"
        " leaves",
        "recurrence-side-by-side",
    )
    expect(
        recurrent != n - 1,
        f"{recurrent} steps lie between the first token and the last, but the first has"
        " to be read too",
        "gaps-counted",
    )
    expect(
        recurrent == n, f"{recurrent} steps? The net mixes in one token at each of them"
    )
    expect(
        parallel not in (n, n - 1),
        f"{parallel} steps would be one query after another. Which result of query 0"
        " does query 1 wait for?",
        "queries-take-turns",
    )
    expect(
        parallel not in (n * n, n * n - n, n * (n - 1) // 2),
        f"{parallel} is how much there is to do. Which of it has to wait for the rest?",
        "work-is-waiting",
    )
    expect(
        parallel == 1,
        f"{parallel} steps? Ask of each query what must be finished before its turn",
    )
    expect(
        scores != n,
        f"{scores} scores would be one for each token. How many tokens does each token"
        " meet?",
        "one-score-per-token",
    )
    expect(
        scores != n * (n - 1),
        "that leaves the diagonal of the table empty: does a token look at itself?",
        "own-score-left-out",
    )
    expect(
        scores not in (n * (n - 1) // 2, n * (n + 1) // 2, n * n // 2),
        "that is half of the table. How i looks at j is not how j looks at i",
        "each-pair-scored-once",
    )
    expect(scores == n * n, f"{scores} scores? Every token that asks meets every token")
