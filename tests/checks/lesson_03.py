"""Right answers and known mistakes for the exercises of lesson 03."""

from math import inf

import torch


def stub(*_):
    raise NotImplementedError


def looks(softmax):
    return lambda x: softmax(x @ x.T)


def over_keys(scores):
    return scores.softmax(dim=-1)


def over_queries(scores):
    return scores.softmax(dim=-2)


def over_the_table(scores):
    return scores.flatten(-2).softmax(dim=-1).view_as(scores)


def head_width(q):
    return q.shape[-1]


def model_width(q):
    return q.shape[1] * q.shape[-1]


def scaled(width):
    return lambda q, k: (q @ k.mT / width(q) ** 0.5).softmax(dim=-1)


def scaled_after(width):
    return lambda q, k: (q @ k.mT).softmax(dim=-1) / width(q) ** 0.5


def weights(width=head_width, softmax=over_keys, masked=None, refuse="width type row"):
    """A way to write exercise 3.4, right or with a mistake."""

    def attention_weights(q, k, mask=None):
        if "width" in refuse and q.shape[-1] != k.shape[-1]:
            raise ValueError
        e = k.shape[-1]
        scores = q[..., :e] @ k.mT / width(q) ** 0.5
        if mask is None:
            return softmax(scores)
        if "type" in refuse and mask.dtype != torch.bool:
            raise TypeError
        mask = mask.bool()
        if "row" in refuse and not mask.any(dim=-1).all():
            raise ValueError
        return (masked or minus_infinity)(scores, mask)

    return attention_weights


def minus_infinity(scores, mask):
    return scores.masked_fill(~mask, -inf).softmax(dim=-1)


def other_way_round(scores, mask):
    return scores.masked_fill(mask, -inf).softmax(dim=-1)


def thrown_away(scores, mask):
    scores.masked_fill(~mask, -inf)
    return scores.softmax(dim=-1)


def zero_before(scores, mask):
    return scores.masked_fill(~mask, 0.0).softmax(dim=-1)


def zero_after(scores, mask):
    return scores.softmax(dim=-1).masked_fill(~mask, 0.0)


def evenly(scores, mask):
    return mask / mask.sum(dim=-1, keepdim=True) + 0 * scores


def attention(q, k, v, mask=None):
    return weights()(q, k, mask) @ v


RIGHT = [
    ("3.1", looks(over_keys)),
    ("3.2", scaled(head_width)),
    ("3.3", (0.15, 37.5)),
    ("3.4", weights()),
    ("3.5", attention),
]
WRONG = [
    ("3.1", stub, "still empty"),
    ("3.1", looks(over_queries), r"rows sum to 0\.\d+ up to .* what must a row sum to"),
    ("3.1", looks(over_the_table), r"each row to about 0\.\d+; row i is how"),
    ("3.1", looks(lambda scores: over_keys(scores / 2)), "not the softmax of x"),
    ("3.1", lambda x: x.T @ x, r"not a table \(3, 3\)"),
    ("3.2", stub, "still empty"),
    ("3.2", scaled_after(head_width), r"rows now sum to 0\.125"),
    ("3.2", scaled_after(model_width), r"rows now sum to 0\.044"),
    ("3.2", scaled(model_width), r"too flat: .* is 0\.03 .* Which vectors"),
    ("3.2", scaled(lambda q: 1), "nearly one-hot"),
    ("3.2", scaled(lambda q: q.shape[-1] * 1.1), "which power of e"),
    ("3.2", lambda q, k: scaled(head_width)(q, k).mT, "expected weights"),
    ("3.3", (0.15, 2.4), "16-fold"),
    ("3.3", (0.037, 9.4), "four bytes"),
    ("3.3", (1.18, 300), "32 bits"),
    ("3.3", (3, 37.5), "197 by 197"),
    ("3.3", (0.15, 50), "3136 by 3136"),
    ("3.4", stub, "still empty"),
    ("3.4", lambda q, k, mask=None: k @ q.mT, r"expected weights \(2, 3, 4, 5\)"),
    ("3.4", weights(softmax=over_queries), "what must a row sum to"),
    ("3.4", weights(softmax=over_the_table), "each row to about"),
    ("3.4", weights(width=lambda q: 1), "without the scale"),
    ("3.4", weights(width=model_width), "how wide is one of them"),
    ("3.4", weights(width=lambda q: 5), "without a mask this is not"),
    ("3.4", weights(masked=other_way_round), "True means may look"),
    ("3.4", weights(masked=thrown_away), "returns"),
    ("3.4", weights(masked=zero_before), "gives the weight 0"),
    ("3.4", weights(masked=zero_after), "before the softmax, not after"),
    ("3.4", weights(masked=evenly), "not their own softmax"),
    (
        "3.4",
        weights(refuse="width type"),
        "may look at nothing should raise ValueError",
    ),
    ("3.4", weights(refuse="width row"), "not boolean should raise TypeError"),
    ("3.4", weights(refuse="type row"), "different width should raise ValueError"),
    ("3.5", stub, "still empty"),
    ("3.5", lambda q, k, v, mask=None: weights()(q, k, mask) @ k, r"\(2, 3, 4, 7\)"),
    ("3.5", lambda *qkv: attention(*qkv) / 5, "weighted row by row"),
    ("3.5", lambda q, k, v, mask=None: attention(q, k, v), "where did the mask go"),
]
