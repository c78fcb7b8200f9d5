"""Right answers and known mistakes for the exercises of lesson 03."""

from math import inf, sqrt

import torch
from torch.nn import functional as F

from checks import stub


def looks(softmax):
    return lambda x: softmax(x @ x.T)


def over_keys(scores):
    return scores.softmax(dim=-1)


def over_queries(scores):
    return scores.softmax(dim=-2)


def over_queries_by_hand(scores):
    terms = scores.exp()
    return terms / terms.sum(dim=-2, keepdim=True)


def over_the_table(scores):
    return scores.flatten(-2).softmax(dim=-1).view_as(scores)


def over_the_table_by_hand(scores):
    terms = scores.exp()
    return terms / terms.sum(dim=(-2, -1), keepdim=True)


def over_heads(scores):
    return scores.softmax(dim=1)


def without_exp(scores):
    return scores / scores.sum(dim=-1, keepdim=True)


def look_by_loop(x):
    rows = [torch.stack([query @ key for key in x]).softmax(dim=0) for query in x]
    return torch.stack(rows)


def head_width(q):
    return q.shape[-1]


def model_width(q):
    return q.shape[1] * q.shape[-1]


def scaled(width, softmax=over_keys):
    return lambda q, k: softmax(q @ k.mT / width(q) ** 0.5)


def scaled_after(width):
    return lambda q, k: (q @ k.mT).softmax(dim=-1) / width(q) ** 0.5


def scaled_query(q, k):
    return torch.einsum("b h n e, b h m e -> b h n m", q / sqrt(q.size(3)), k).softmax(
        dim=3
    )


def scaled_by_keys(q, k):
    return (q @ k.mT / k.shape[-2] ** 0.5).softmax(dim=-1)


def refuse_width(q, k):
    if q.shape[-1] != k.shape[-1]:
        raise ValueError("queries and keys must have the same width")


def refuse_mask(mask):
    if mask.dtype != torch.bool:
        raise TypeError("a mask is boolean")
    if not mask.any(dim=-1).all():
        raise ValueError("every query must look somewhere")


def weights(width=head_width, softmax=over_keys, masked=None, refuse="width type row"):
    """A way to write exercise 3.4, right or with a mistake."""

    def attention_weights(q, k, mask=None):
        if "width" in refuse:
            refuse_width(q, k)
        scores = torch.einsum("... n e, ... m e -> ... n m", q, k) / width(q) ** 0.5
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


def other_way_round_by_where(scores, mask):
    return torch.where(mask, -inf, scores).softmax(dim=-1)


def thrown_away(scores, mask):
    scores.masked_fill(~mask, -inf)
    return scores.softmax(dim=-1)


def never_used(scores, mask):
    return scores.softmax(dim=-1)


def zero_before(scores, mask):
    return scores.masked_fill(~mask, 0.0).softmax(dim=-1)


def times_before(scores, mask):
    return (scores * mask).softmax(dim=-1)


def zero_after(scores, mask):
    return scores.softmax(dim=-1).masked_fill(~mask, 0.0)


def times_after(scores, mask):
    return mask * scores.softmax(dim=-1)


def added(scores, mask):
    return (scores + mask).softmax(dim=-1)


def added_as_float(scores, mask):
    scores = scores + mask.float()
    return scores.exp() / scores.exp().sum(dim=-1, keepdim=True)


def evenly(scores, mask):
    return mask / mask.sum(dim=-1, keepdim=True) + 0 * scores


def a_little_less(scores, mask):
    return scores.masked_fill(~mask, -1.0).softmax(dim=-1)


def halved(scores, mask):
    return 0.5 * minus_infinity(scores, mask)


def weights_by_exp(q, k, mask=None):
    refuse_width(q, k)
    scores = q @ k.mT / sqrt(q.shape[-1])
    terms = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    if mask is not None:
        refuse_mask(mask)
        terms = terms * mask
    return terms / terms.sum(dim=-1, keepdim=True)


def weights_by_adding(q, k, mask=None):
    refuse_width(q, k)
    scores = q * q.size(-1) ** -0.5 @ k.transpose(-1, -2)
    if mask is not None:
        refuse_mask(mask)
        scores = scores + torch.zeros(mask.shape).masked_fill(~mask, -inf)
    return F.softmax(scores, dim=-1)


def weights_revealed(q, k, mask=None):
    """Torch's attention, with a row of the identity as the value of each key."""
    refuse_width(q, k)
    if mask is not None:
        refuse_mask(mask)
    m = k.shape[-2]
    identity = torch.eye(m).to(q).expand(*k.shape[:-1], m)
    return F.scaled_dot_product_attention(q, k, identity, attn_mask=mask)


def weights_overflowing(q, k, mask=None):
    refuse_width(q, k)
    terms = (q @ k.mT / sqrt(q.shape[-1])).exp()
    if mask is not None:
        refuse_mask(mask)
        terms = terms * mask
    return terms / terms.sum(dim=-1, keepdim=True)


def weights_of_float32(q, k, mask=None):
    """The identity has a precision of its own."""
    refuse_width(q, k)
    if mask is not None:
        refuse_mask(mask)
    m = k.shape[-2]
    identity = torch.eye(m).expand(*k.shape[:-1], m)
    return F.scaled_dot_product_attention(q, k, identity, attn_mask=mask)


def weights_rounded(q, k, mask=None):
    return weights()(q.float(), k.float(), mask).to(q.dtype)


def weights_of_four_axes(q, k, mask=None):
    refuse_width(q, k)
    scores = torch.einsum("b h n e, b h m e -> b h n m", q, k) / q.shape[-1] ** 0.5
    if mask is not None:
        refuse_mask(mask)
        scores = scores.masked_fill(~mask, -inf)
    return scores.softmax(dim=-1)


def weights_squeezed(q, k, mask=None):
    return weights()(q, k, mask).squeeze()


def almost_blocked(scores, mask):
    return scores.masked_fill(~mask, -100.0).softmax(dim=-1)


def weights_after_softmax(q, k, mask=None):
    return (q @ k.mT).softmax(dim=-1) / q.shape[-1] ** 0.5


def attention(q, k, v, mask=None):
    return weights()(q, k, mask) @ v


def attention_by_einsum(q, k, v, mask=None):
    return torch.einsum("...nm,...me->...ne", weights_by_exp(q, k, mask), v)


def attention_of_four_axes(q, k, v, mask=None):
    return torch.einsum("bhnm,bhme->bhne", weights_by_exp(q, k, mask), v)


def attention_by_loop(q, k, v, mask=None):
    who = weights_by_adding(q, k, mask)
    rows = [(who[..., i, :, None] * v).sum(dim=-2) for i in range(q.shape[-2])]
    return torch.stack(rows, dim=-2)


def attention_by_loop_over_four_axes(q, k, v, mask=None):
    who = weights_by_adding(q, k, mask)
    rows = [(who[:, :, i, :, None] * v).sum(dim=2) for i in range(q.shape[2])]
    return torch.stack(rows, dim=2)


def attention_of_torch(q, k, v, mask=None):
    refuse_width(q, k)
    if mask is not None:
        refuse_mask(mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def attention_of_torch_alone(q, k, v, mask=None):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def attention_without_mask(q, k, v, mask=None):
    return weights()(q, k) @ v


def attention_by_hand_without_mask(q, k, v, mask=None):
    return F.scaled_dot_product_attention(q, k, v)


def attention_blocked(q, k, v, mask=None):
    return attention(q, k, v, mask if mask is None else ~mask)


def attention_zeroed(q, k, v, mask=None):
    return weights(masked=zero_before)(q, k, mask) @ v


def attention_of_keys(q, k, v, mask=None):
    return weights()(q, k, mask) @ k


def attention_unscaled(q, k, v, mask=None):
    return weights(width=lambda q: 1)(q, k, mask) @ v


def attention_mean(q, k, v, mask=None):
    return (weights()(q, k, mask)[:, :, :, :, None] * v[:, :, None]).mean(dim=3)


def attention_divided(q, k, v, mask=None):
    return attention(q, k, v, mask) / k.shape[-2]


def plain_mean(q, k, v, mask=None):
    return v.mean(dim=2, keepdim=True).repeat(1, 1, q.shape[2], 1)


N = 3136
RIGHT = [
    ("3.1", looks(over_keys)),
    ("3.1", lambda x: (x @ x.T).softmax(dim=1)),
    ("3.1", look_by_loop),
    ("3.2", scaled(head_width)),
    ("3.2", scaled_query),
    ("3.3", (0.15, 37.5)),
    ("3.3", [197**2 * 4 / 2**20, 3136**2 * 4 / 2**20]),
    ("3.3", (0.155, 39.3)),
    ("3.4", weights()),
    ("3.4", weights_by_exp),
    ("3.4", weights_by_adding),
    ("3.4", weights_revealed),
    ("3.5", attention),
    ("3.5", attention_by_einsum),
    ("3.5", attention_by_loop),
    ("3.5", attention_of_torch),
    ("3.6", (3136, 1, 3136 * 3136)),
    ("3.6", [3136, 1, 9.834496e6]),
]
WRONG = [
    ("3.1", stub, None, "still empty"),
    (
        "3.1",
        looks(over_queries),
        "softmax-over-queries",
        r"rows sum to 0\.\d+ up to .* what must a row sum to",
    ),
    (
        "3.1",
        looks(over_queries_by_hand),
        "softmax-over-queries",
        r"and each column to 1; row i is how",
    ),
    (
        "3.1",
        looks(over_the_table),
        "softmax-over-table",
        r"each row to about 0\.\d+; row i is how",
    ),
    (
        "3.1",
        looks(over_the_table_by_hand),
        "softmax-over-table",
        "all weights together sum to 1",
    ),
    ("3.1", looks(torch.exp), None, "what must a row sum to"),
    ("3.1", looks(without_exp), "exponential-left-out", r"smallest weight is -\d+\.\d"),
    (
        "3.1",
        lambda x: x @ x.T / (x @ x.T).sum(dim=1)[:, None],
        "exponential-left-out",
        "every score positive",
    ),
    (
        "3.1",
        looks(lambda scores: over_keys(scores / 3**0.5)),
        "scale-out-of-habit",
        "comes in 3.5",
    ),
    (
        "3.1",
        lambda x: (x @ x.T * x.shape[1] ** -0.5).softmax(dim=1),
        "scale-out-of-habit",
        "comes in 3.5",
    ),
    ("3.1", looks(lambda scores: over_keys(scores / 2)), None, "not the softmax of x"),
    ("3.1", lambda x: x.T @ x, "numbers-look-at-numbers", r"not a table \(3, 3\)"),
    (
        "3.1",
        lambda x: (x.T @ x).softmax(dim=-1),
        "numbers-look-at-numbers",
        "with each other",
    ),
    (
        "3.1",
        lambda x: over_keys(x @ x.T) @ x,
        "values-mixed-already",
        "the mixture already",
    ),
    ("3.1", lambda x: over_keys(x @ x.T)[0], None, r"not a table \(5,\)"),
    ("3.2", stub, None, "still empty"),
    (
        "3.2",
        scaled_after(head_width),
        "scale-after-softmax",
        r"rows now sum to 0\.125",
    ),
    (
        "3.2",
        scaled_after(model_width),
        "scale-after-softmax",
        r"rows now sum to 0\.044",
    ),
    (
        "3.2",
        scaled(model_width),
        "model-width",
        r"too flat: .* is 0\.03 .* Which vectors",
    ),
    (
        "3.2",
        lambda q, k: over_keys(q @ k.mT / 512**0.5),
        "model-width",
        "how wide are they",
    ),
    (
        "3.2",
        scaled(lambda q: 1),
        "scale-left-out",
        r"nearly one-hot: .* is 0\.7\d on average",
    ),
    (
        "3.2",
        lambda q, k: F.softmax(torch.matmul(q, k.transpose(2, 3)), dim=-1),
        "scale-left-out",
        "Where is the scale",
    ),
    (
        "3.2",
        lambda q, k: over_keys(q @ k.mT * 8),
        "scale-multiplied",
        "as good as one-hot",
    ),
    (
        "3.2",
        scaled(lambda q: q.shape[-1] ** 2),
        "root-left-out",
        r"too flat: .* By which power",
    ),
    (
        "3.2",
        lambda q, k: over_keys(q @ k.mT / 512),
        "root-left-out",
        "too flat: .* By which power",
    ),
    ("3.2", scaled_by_keys, "number-of-keys", "right for 64 keys, and not for 7"),
    (
        "3.2",
        scaled(head_width, over_queries),
        "softmax-over-queries",
        "and each column to 1",
    ),
    (
        "3.2",
        scaled(head_width, over_the_table),
        "softmax-over-table",
        "all weights together",
    ),
    (
        "3.2",
        scaled(head_width, over_heads),
        "softmax-over-heads",
        "heads do not share",
    ),
    (
        "3.2",
        lambda q, k: over_keys(q @ k.mT / k.size(2) ** 0.5),
        "number-of-keys",
        "two vectors only",
    ),
    ("3.2", scaled(lambda q: q.shape[-1] * 1.1), None, "which power of e"),
    ("3.2", lambda q, k: (q @ k.mT).exp(), None, "what must a row sum to"),
    ("3.2", lambda q, k: scaled(head_width)(q, k).mT, None, "expected weights"),
    ("3.3", (0.15, 2.4), "table-grows-as-n", "16-fold"),
    ("3.3", (0.037, 9.4), "entries-not-bytes", "how many bytes has each"),
    ("3.3", (0.0388, 9.83), "entries-not-bytes", "how many bytes has each"),
    ("3.3", (1.18, 300), "bits-taken-for-bytes", "counts bits"),
    ("3.3", (0.15, 300), "bits-taken-for-bytes", "300 MiB.* counts bits"),
    ("3.3", (155236, 39337984), "unit-left-out", "a number of bytes"),
    ("3.3", (151.6, 38416), "unit-left-out", "or of KiB"),
    ("3.3", (197 * 4 / 2**20, 0.012), "one-row-counted", "how one token looks at 197"),
    ("3.3", (0.15, 3136 * 4 / 2**20), "one-row-counted", "is one row"),
    ("3.3", (0.074, 18.8), "each-pair-counted-once", "half of the table"),
    ("3.3", (3, 37.5), None, "197 by 197"),
    ("3.3", (0.15, 50), None, "3136 by 3136"),
    ("3.4", stub, None, "still empty"),
    (
        "3.4",
        lambda q, k, mask=None: over_keys(k @ q.mT / 6**0.5),
        "keys-look-at-queries",
        r"\(2, 3, 5, 4\) came back",
    ),
    (
        "3.4",
        lambda q, k, mask=None: weights()(k, q),
        "keys-look-at-queries",
        "keys look at queries",
    ),
    (
        "3.4",
        lambda q, k, mask=None: weights()(q[0], k[0], mask),
        None,
        r"expected weights \(2, 3, 4, 5\), got \(3, 4, 5\)",
    ),
    (
        "3.4",
        weights(softmax=over_queries),
        "softmax-over-queries",
        "what must a row sum to",
    ),
    (
        "3.4",
        weights(softmax=over_queries_by_hand),
        "softmax-over-queries",
        "and each column to 1",
    ),
    (
        "3.4",
        weights(softmax=over_the_table),
        "softmax-over-table",
        "each row to about",
    ),
    ("3.4", weights(softmax=over_heads), "softmax-over-heads", "over all heads"),
    ("3.4", weights(softmax=torch.exp), None, "what must a row sum to"),
    ("3.4", weights_after_softmax, "scale-after-softmax", r"rows now sum to 0\.408"),
    (
        "3.4",
        weights(softmax=lambda scores: over_keys(6**0.5 * scores) / 6**0.5),
        "scale-after-softmax",
        "divided after the softmax",
    ),
    ("3.4", weights(width=lambda q: 1), "scale-left-out", "without the scale"),
    (
        "3.4",
        lambda q, k, mask=None: over_keys(q @ k.mT),
        "scale-left-out",
        "without the scale",
    ),
    ("3.4", weights(width=model_width), "model-width", "how wide is one of them"),
    (
        "3.4",
        lambda q, k, mask=None: over_keys(q @ k.mT / 18**0.5),
        "model-width",
        "how wide is one of them",
    ),
    (
        "3.4",
        weights(width=lambda q: q.shape[-1] ** 2),
        "root-left-out",
        r"divided by 6, where 2\.45 would do",
    ),
    ("3.4", weights(width=lambda q: 5), None, "without a mask this is not"),
    (
        "3.4",
        weights(softmax=lambda scores: over_keys(scores * max(1, 4 - scores.ndim))),
        None,
        "with 0 axes in front, .*, something else comes out",
    ),
    (
        "3.4",
        weights_of_four_axes,
        None,
        r"but 0 axes in front, q \(4, 6\) raised RuntimeError: einsum",
    ),
    ("3.4", weights_squeezed, None, r"expected \(2, 3, 1, 1\), .* got \(2, 3\)"),
    ("3.4", weights_of_float32, None, "but float64 raised RuntimeError"),
    ("3.4", weights_rounded, None, "off in the later digits"),
    (
        "3.4",
        weights(masked=almost_blocked),
        None,
        r"weight of \de-4\d: little, and not 0",
    ),
    ("3.4", weights_overflowing, None, "a hundred million .* holds nan"),
    (
        "3.4",
        weights(masked=other_way_round),
        "mask-other-way-round",
        "True means may look",
    ),
    (
        "3.4",
        weights(masked=other_way_round_by_where),
        "mask-other-way-round",
        "True means may look",
    ),
    ("3.4", weights(masked=thrown_away), "mask-thrown-away", "returns"),
    ("3.4", weights(masked=never_used), "mask-thrown-away", "changes nothing"),
    (
        "3.4",
        weights(masked=zero_before),
        "zero-before-softmax",
        r"a weight of 0\.\d\d: 0 is a score .* gives the weight 0",
    ),
    (
        "3.4",
        weights(masked=times_before),
        "zero-before-softmax",
        "0 is a score like any other",
    ),
    ("3.4", weights(masked=added), "mask-added-as-one", "True was added as 1"),
    ("3.4", weights(masked=added_as_float), "mask-added-as-one", "True was added"),
    (
        "3.4",
        weights(masked=zero_after),
        "zero-after-softmax",
        r"sums to 0\.\d\d: mask before the softmax, not after",
    ),
    (
        "3.4",
        weights(masked=times_after),
        "zero-after-softmax",
        "before the softmax, not after",
    ),
    ("3.4", weights(masked=a_little_less), None, r"still gets a weight of 0\.\d\d$"),
    ("3.4", weights(masked=halved), None, r"sums to 0\.50, and should sum to 1"),
    ("3.4", weights(masked=evenly), None, "not their own softmax"),
    (
        "3.4",
        weights(refuse="width type"),
        None,
        "may look at nothing should raise ValueError",
    ),
    ("3.4", weights(refuse="width row"), None, "not boolean should raise TypeError"),
    (
        "3.4",
        weights(refuse="type row"),
        None,
        "different width should raise ValueError, and nothing was raised",
    ),
    ("3.5", stub, None, "still empty"),
    ("3.5", attention_of_keys, "keys-mixed", r"\(2, 3, 4, 7\), got \(2, 3, 4, 6\)"),
    (
        "3.5",
        lambda q, k, v, mask=None: F.scaled_dot_product_attention(q, k, k),
        "keys-mixed",
        "what do those give",
    ),
    (
        "3.5",
        lambda q, k, v, mask=None: weights()(q, k, mask),
        "weights-not-applied",
        "what is mixed with them",
    ),
    ("3.5", attention_mean, "mean-divided-again", "divided by 5 once more"),
    ("3.5", attention_divided, "mean-divided-again", "divided by 5 once more"),
    ("3.5", plain_mean, "values-counted-alike", "where are its weights"),
    (
        "3.5",
        lambda q, k, v, mask=None: attention(0 * q, k, v),
        "values-counted-alike",
        "the plain mean",
    ),
    ("3.5", attention_unscaled, "scale-left-out", "without the scale"),
    (
        "3.5",
        lambda q, k, v, mask=None: (q @ k.mT).softmax(dim=-1) @ v,
        "scale-left-out",
        "without the scale",
    ),
    ("3.5", lambda *qkv: attention(*qkv).sum(dim=2), None, r"got \(2, 3, 7\)"),
    ("3.5", lambda *qkv: attention(*qkv) / 3, None, "weighted row by row"),
    (
        "3.5",
        attention_without_mask,
        "mask-not-passed-on",
        "where did the mask go",
    ),
    (
        "3.5",
        attention_by_hand_without_mask,
        "mask-not-passed-on",
        "where did the mask go",
    ),
    ("3.5", attention_blocked, "mask-other-way-round", "True means may look"),
    ("3.5", attention_zeroed, None, "over the allowed values"),
    (
        "3.5",
        attention_of_torch_alone,
        None,
        "may look at nothing should raise ValueError, and nothing was raised",
    ),
    (
        "3.5",
        lambda q, k, v, mask=None: weights(refuse="width row")(q, k, mask) @ v,
        None,
        "not boolean should raise TypeError",
    ),
    (
        "3.5",
        lambda q, k, v, mask=None: weights(refuse="type row")(q, k, mask) @ v,
        None,
        "different width should raise ValueError",
    ),
    ("3.5", attention_of_four_axes, None, "but 0 axes in front, .* raised RuntimeE"),
    ("3.5", attention_by_loop_over_four_axes, None, "but 0 axes in front, .* raised"),
    (
        "3.5",
        lambda q, k, v, mask=None: weights_rounded(q, k, mask) @ v,
        None,
        "in float64 the answer is off",
    ),
    (
        "3.5",
        lambda q, k, v, mask=None: weights_overflowing(q, k, mask) @ v,
        None,
        "a hundred million .* holds nan",
    ),
    ("3.6", (1, N, N * N), "parts-swapped", "carries a state"),
    ("3.6", (1, 1, N * N), "recurrence-side-by-side", "needs the state"),
    ("3.6", (N - 1, 1, N * N), "gaps-counted", "3135 steps lie between"),
    ("3.6", (56, 1, N * N), None, "mixes in one token"),
    ("3.6", (N, N, N * N), "queries-take-turns", "does query 1 wait for"),
    ("3.6", (N, N - 1, N * N), "queries-take-turns", "does query 1 wait for"),
    ("3.6", (N, N * N, N * N), "work-is-waiting", "how much there is to do"),
    ("3.6", (N, N * (N - 1) // 2, N * N), "work-is-waiting", "to wait for the rest"),
    ("3.6", (N, 12, N * N), None, "finished before its turn"),
    ("3.6", (N, 1, N), "one-score-per-token", "does each token meet"),
    ("3.6", (N, 1, N * (N - 1)), "own-score-left-out", "look at itself"),
    ("3.6", (N, 1, N * (N - 1) // 2), "each-pair-scored-once", "half of the table"),
    ("3.6", (N, 1, N * (N + 1) / 2), "each-pair-scored-once", "half of the table"),
    ("3.6", (N, 1, 196 * 196), None, "meets every token"),
]
