"""Lesson 03: right answers in other styles, mistakes in other forms."""

from math import inf, sqrt

import numpy as np
import torch
from torch.nn import functional as F

from course_vit.kit.checks.lesson_03 import (
    blocked,
    identity,
    looks,
    mixing,
    over_keys,
    weights,
)
from course_vit.self_attention import attention_weights

# 3.1 and 3.2


def look_by_loop(x):
    rows = [torch.stack([query @ key for key in x]).softmax(dim=0) for query in x]
    return torch.stack(rows)


def over_queries_by_hand(scores):
    terms = scores.exp()
    return terms / terms.sum(dim=-2, keepdim=True)


def scaled_query(q, k):
    q = q / sqrt(q.size(3))
    return torch.einsum("b h n e, b h m e -> b h n m", q, k).softmax(dim=3)


# 3.4 Attention weights, with a mask


def refusing(table, but="no error"):
    """These weights, with the errors of the right ones, except the one named."""

    def answer(q, k, mask=None):
        try:
            attention_weights(q, k, mask)
        except (TypeError, ValueError) as error:
            if but not in str(error):
                raise
        return table(q, k, mask)

    return answer


def by_exp(q, k, mask=None, safe=True):
    scores = q @ k.mT / sqrt(q.shape[-1])
    terms = (scores - safe * scores.amax(dim=-1, keepdim=True)).exp()
    terms = terms if mask is None else terms * mask
    return terms / terms.sum(dim=-1, keepdim=True)


def overflowing(q, k, mask=None):
    return by_exp(q, k, mask, safe=False)


def by_adding(q, k, mask=None):
    scores = q * q.size(-1) ** -0.5 @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores + torch.zeros(mask.shape).masked_fill(~mask, -inf)
    return F.softmax(scores, dim=-1)


def rounded(q, k, mask=None):
    return attention_weights(q.float(), k.float(), mask).to(q.dtype)


def of_four_axes(q, k, mask=None):
    torch.einsum("b h n e, b h m e -> b h n m", q, k)
    return attention_weights(q, k, mask)


def rows_in_a_list(q, k, mask=None):
    if mask is not None and not all(any(row) for row in mask.tolist()):
        raise ValueError("a query may look at nothing")
    return refusing(weights(), but="look")(q, k, mask)


def on_the_cpu(q, k, mask=None):
    weights = attention_weights(q, k, mask)
    return weights * torch.ones(weights.shape[-1], dtype=weights.dtype)


def masked(rule):
    return weights(masked=rule)


# 3.5 Attention


def one_value_per_key(k, v):
    if k.shape[-2] != v.shape[-2]:
        raise ValueError("there must be one value for each key")


def broadcasting(q, k, v, mask=None):
    return torch.einsum("...nm,...me->...ne", refusing(by_exp)(q, k, mask), v)


def by_einsum(q, k, v, mask=None):
    one_value_per_key(k, v)
    return broadcasting(q, k, v, mask)


def by_loop(q, k, v, mask=None):
    one_value_per_key(k, v)
    who = refusing(by_adding)(q, k, mask)
    rows = [(who[..., i, :, None] * v).sum(dim=-2) for i in range(q.shape[-2])]
    return torch.stack(rows, dim=-2)


def by_torch(q, k, v, mask=None):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def by_torch_refusing(q, k, v, mask=None):
    one_value_per_key(k, v)
    attention_weights(q, k, mask)
    return by_torch(q, k, v, mask)


N = 3136
RIGHT = {
    "3.1": [look_by_loop, lambda x: (x @ x.T).softmax(dim=1)],
    "3.2": [scaled_query, lambda q, k: over_keys(q @ k.mT / np.sqrt(q.shape[-1]))],
    "3.3": [(0.15, 37.5), [0.155, 39.3], np.array([0.15, 37.5]), ("0.15", "37.5")],
    "3.4": [
        refusing(by_exp),
        refusing(by_adding),
        refusing(lambda q, k, m: by_torch(q, k, identity(k), m)),
    ],
    "3.5": [by_einsum, by_loop, by_torch_refusing],
    "3.6": [[3136, 1, 9.834496e6], np.array([N, 1, N * N])],
}
WRONG = {
    "3.1": [
        (looks(over_queries_by_hand), "softmax-over-queries"),
        (looks(torch.exp), "rows sum to .* what must a row sum to"),
        (looks(lambda scores: over_keys(scores / 2)), "not the softmax of x"),
        (lambda x: over_keys(x @ x.T)[0], r"table cannot be \(5,\)"),
        (lambda x: (x.T @ x).softmax(dim=-1), "numbers-look-at-numbers"),
        (lambda x: over_keys(x[:5] @ x[:5].T), r"7 tokens .* \(7, 7\), got \(5, 5\)"),
        (lambda x: over_keys(x[:, :3] @ x[:, :3].T), "7 tokens of width 4"),
    ],
    "3.2": [
        (lambda q, k: over_keys(q @ k.mT) / 512**0.5, "scale-after-softmax"),
        (lambda q, k: over_keys(q @ k.mT / 512**0.5), "model-width"),
        (lambda q, k: over_keys(q @ k.mT / 8), "a-fixed-number"),
        (weights(lambda q, k: q.shape[-1] * 1.1), "which power of e"),
        (lambda q, k: (q @ k.mT).exp(), "what must a row sum to"),
        (lambda q, k: weights()(q, k).mT, "expected weights"),
        (weights(lambda q, k: q.shape[1] * q.shape[-1] / 8), "4 images and 3 heads"),
    ],
    "3.3": [
        ((0.037, 9.4), "entries-not-bytes"),
        ((0.15, 2.4), "table-grows-as-n"),
        ((3, 37.5), "197 by 197"),
        ((0.15, 50), "3136 by 3136"),
    ],
    "3.4": [
        (lambda q, k: weights()(q[0], k[0]), r"\(2, 3, 4, 5\), got \(3, 4, 5\)"),
        (weights(softmax=torch.exp), "what must a row sum to"),
        (weights(softmax=lambda s: over_keys(2 * s) / 2), "scale-after-softmax"),
        (weights(lambda q, k: 7), "without a mask this is not"),
        (weights(lambda q, k: 6), "with vectors of width 64: differs"),
        (masked(lambda s, m: over_keys(s.masked_fill(~m, 0))), "zero-before-softmax"),
        (masked(lambda s, m: over_keys(s.masked_fill(~m, -1))), r"weight of 0\.\d\d$"),
        (masked(lambda s, m: blocked(s, m) / 2), r"sums to 0\.50, and should sum to 1"),
        (masked(lambda s, m: m / m.sum(-1, True) + 0 * s), "not their own softmax"),
        (masked(lambda s, m: over_keys(s.masked_fill(~m, -100))), "little, but not 0"),
        (refusing(weights(), but="look"), "look at nothing should raise ValueError"),
        (rows_in_a_list, "of one image that may look at nothing should raise"),
        (refusing(masked(lambda s, m: blocked(s, m.bool())), "boolean"), "TypeError"),
        (refusing(weights(), but="same width"), "width should raise ValueError: "),
        (of_four_axes, r"but 0 axes in front, q \(4, 6\) .* raised RuntimeError: eins"),
        (
            lambda q, k, m=None: attention_weights(q, k * max(1, 4 - q.ndim), m),
            "with 0 axes in front, .* differs",
        ),
        (lambda *qkm: attention_weights(*qkm).squeeze(), r"1, 1\), got \(2, 3\)$"),
        (
            refusing(lambda q, k, m: by_torch(q, k, identity(k).float(), m)),
            "but float64 .* raised RuntimeError",
        ),
        (rounded, "with float64 .* later digits lost.* by up to .*e-0"),
        (refusing(overflowing), "a hundred million .* contains nan"),
        (lambda q, k, m=None: attention_weights(q, k.detach(), m), "what `backward`"),
        (on_the_cpu, "on another device .* raised RuntimeError"),
    ],
    "3.5": [
        (mixing(weights(softmax=over_queries_by_hand)), "softmax-over-queries"),
        (lambda *qkvm: by_torch(*qkvm) / 3, "scale-after-softmax"),
        (lambda *qkvm: by_torch(*qkvm).sum(dim=2), r"\(2, 3, 4, 7\), not \(2, 3, 7\)"),
        (lambda q, k, v, m=None: by_torch(q, k, v), "mask-not-passed-on"),
        (lambda q, k, v, m=None: by_torch(q, k, v * v, m), "weighted row by row"),
        (by_torch, "look at nothing should raise ValueError: nothing was raised"),
        (mixing(refusing(weights(), but="width")), "width should raise ValueError: no"),
        (mixing(of_four_axes), "but 0 axes in front, .* raised RuntimeError"),
        (mixing(rounded), "with float64 .* later digits lost"),
        (mixing(refusing(overflowing)), "a hundred million .* contains nan"),
        (lambda q, k, v, m=None: by_einsum(q, k, v.detach(), m), "back to the input"),
        (lambda q, k, v, m=None: by_torch_refusing(q, k, v, m), "raised TypeError"),
        (broadcasting, "a single value for 5 keys should raise ValueError: nothing"),
        (mixing(attention_weights), "a single value for 5 keys .* got RuntimeError"),
    ],
    "3.6": [
        ((56, 1, N * N), "mixes in one token"),
        ((N, 12, N * N), "finished before its turn"),
        ((N, 1, 196 * 196), "meets every token"),
    ],
}
