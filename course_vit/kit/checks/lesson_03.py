"""Checks of lesson 03: self-attention."""

import torch
from torch import Tensor

from ...self_attention import attention as mixed_values
from ...self_attention import attention_weights
from .judge import answers, backward, draw, element, elsewhere, exercise

# Weights of attention, right or wrong: in 3.1, 3.2, 3.4 and 3.5


def over_keys(scores):
    return scores.softmax(dim=-1)


def head_width(q, k):
    return q.shape[-1]


def model_width(q, k):
    return q.shape[1] * q.shape[-1]


def blocked(scores, mask):
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)


def weights(width=head_width, softmax=over_keys, masked=blocked):
    """A way to write exercise 3.4 that refuses nothing, right or with a mistake."""

    def answer(q, k, mask=None):
        scores = torch.einsum("...ne,...me->...nm", q, k) / width(q, k) ** 0.5
        return softmax(scores) if mask is None else masked(scores, mask)

    return answer


def vectors(n=4, m=5, e=6, lead=(2, 3), dtype=torch.float32) -> tuple[Tensor, Tensor]:
    """Queries and keys."""
    return draw(*lead, n, e, dtype=dtype), draw(*lead, m, e, seed=1, dtype=dtype)


def row_sums(table: Tensor) -> tuple[float, float]:
    """The smallest and the largest sum of a row."""
    sums = table.sum(dim=-1)
    return round(sums.min().item(), 3), round(sums.max().item(), 3)


ROWS = "rows sum to {got[0]:.3f} up to {got[1]:.3f}"
A_ROW = "row i is how token i divides its attention: what must a row sum to?"
SIZE = "the largest weight of a row is {largest:.2f} on average, not {typical:.2f}"
MEASURES = {
    "smallest": lambda got, right: got.min().item(),
    "largest": lambda got, right: got.amax(dim=-1).mean().item(),
    "typical": lambda got, right: right.amax(dim=-1).mean().item(),
}


def softmaxes(answer) -> dict:
    """What a softmax does along other axes; `answer` makes answers of a softmax."""
    return {
        f"softmax-over-queries: {ROWS}, and each column to 1; {A_ROW}": answer(
            lambda scores: scores.softmax(dim=-2)
        ),
        "softmax-over-table: all weights together sum to 1, each row to about"
        " {got[0]:.3f}; " + A_ROW: answer(
            lambda scores: scores.flatten(-2).softmax(-1).view_as(scores)
        ),
    }


OF_HEADS = {
    **softmaxes(lambda softmax: weights(softmax=softmax)),
    f"softmax-over-heads: {ROWS}, and the weights of one place to 1 over all heads:"
    f" each head has weights of its own; {A_ROW}": weights(
        softmax=lambda scores: scores.softmax(dim=1)
    ),
    "scale-after-softmax: rows now sum to {got[0]:.3f}: what was divided after the"
    " softmax?": answers(
        lambda q, k, mask=None: over_keys(q @ k.mT) / head_width(q, k) ** 0.5,
        seen=lambda sums, right: right == (1, 1) and sums[0] == sums[1],
    ),
    f"scale-left-out: too sharp: {SIZE}. Large scores make sharp weights. Where is the"
    " scale?": weights(lambda q, k: 1),
    f"scale-multiplied: much too sharp: {SIZE}. Did the scale make the scores"
    " smaller?": weights(lambda q, k: 1 / head_width(q, k)),
    f"model-width: too flat: {SIZE}. Which vectors were multiplied, and how wide"
    " is one of them?": weights(model_width),
    f"root-left-out: too flat: {SIZE}. By which power of the width do scores spread?"
    " The table in 3.5 measures it": answers(
        weights(lambda q, k: head_width(q, k) ** 2),
        weights(lambda q, k: model_width(q, k) ** 2),
    ),
    f"length-of-another-axis: too sharp: {SIZE}. Does the scale count images, heads or"
    " queries? Which vectors were multiplied, and how wide is one of them?": answers(
        *[weights(lambda q, k, axis=axis: q.shape[axis]) for axis in range(3)]
    ),
}


# 3.1 Along which axis?


def looks(softmax):
    return lambda x: softmax(x @ x.T)


def tokens() -> Tensor:
    return draw(5, 3, dtype=torch.float32)


look = exercise(
    "3.1",
    right=looks(over_keys),
    trial={
        "5 tokens look at 5, so the table cannot be {got}": lambda f: tuple(
            f(tokens()).shape
        ),
        f"{ROWS}; {A_ROW}": lambda f: row_sums(f(tokens())),
        "rows sum to 1, but are not the softmax of x times x transposed": (
            lambda f: f(tokens())
        ),
    },
    also={"7 tokens of width 4, in float64": lambda f: f(draw(7, 4))},
    measures=MEASURES,
)
look.mistakes |= softmaxes(looks)
look.mistakes |= {
    "numbers-look-at-numbers: 5 tokens look at 5, so the table cannot be {got}. Your"
    " code compares the 3 numbers of a token with each other": lambda x: x.T @ x,
    "values-mixed-already: 5 tokens look at 5, so the table cannot be {got}. That is"
    " the mixture already; the exercise asks for the weights": lambda x: (
        over_keys(x @ x.T) @ x
    ),
    "exponential-left-out: rows sum to 1, but the smallest weight is {smallest:.2f}:"
    " what makes every score positive before the sum divides it?": looks(
        lambda scores: scores / scores.sum(dim=-1, keepdim=True)
    ),
    "scale-out-of-habit: rows sum to 1, but the scores are scaled. The scale comes in"
    " 3.5: here only the axis is wrong": looks(
        lambda scores: over_keys(scores / 3**0.5)
    ),
}

# 3.2 Two mistakes in one line


def of_eight_heads(answer, m=64, e=64, lead=(2, 8)) -> Tensor:
    return answer(*vectors(n=3, m=m, e=e, lead=lead))


scale = exercise(
    "3.2",
    right=weights(),
    trial={
        "expected weights {right}, got {got}": lambda f: tuple(of_eight_heads(f).shape),
        f"{ROWS}; {A_ROW}": lambda f: row_sums(of_eight_heads(f)),
        "close, but not softmax(q k / sqrt(e)), where e is q.shape[-1]: which power of"
        " e?": of_eight_heads,
        "number-of-keys": lambda f: of_eight_heads(f, m=7),
        "a-fixed-number": lambda f: of_eight_heads(f, e=6),
    },
    also={"4 images and 3 heads": lambda f: of_eight_heads(f, e=6, lead=(4, 3))},
    measures=MEASURES,
)
scale.mistakes |= OF_HEADS
scale.mistakes |= {
    "number-of-keys: right for 64 keys, and not for 7. A score comes from two vectors"
    " only: why should it depend on the number of keys?": weights(
        lambda q, k: k.shape[-2]
    ),
    "a-fixed-number: right for vectors of width 64, but not of width 6: how can your"
    " line find out how wide a query is?": weights(lambda q, k: 64),
}

# 3.3 How large is the table?

SMALL, LARGE = 197**2 * 4 / 2**20, 3136**2 * 4 / 2**20
memory = exercise(
    "3.3",
    right=(SMALL, LARGE),
    trial={
        "{got} MiB? A table of 197 by 197, 4 bytes each": element(0),
        "{got} MiB? A table of 3136 by 3136, 4 bytes each": element(1),
    },
    measures={"tokens": lambda _, right: round((right * 2**20 / 4) ** 0.5)},
    rtol=0.1,
)


def slips(small: float, large: float) -> list[tuple[float, float]]:
    """Both numbers are wrong by a factor, or only the second is."""
    return [(SMALL * small, LARGE * large), (SMALL, LARGE * large)]


memory.mistakes |= {
    "entries-not-bytes: {got} MiB? That is the number of entries, divided by 2^20. How"
    " many bytes does each entry take?": answers(*slips(1 / 4, 1 / 4)),
    "bits-taken-for-bytes: {got} MiB? The 32 in float32 counts bits, and a byte"
    " has 8": answers(*slips(8, 8)),
    "unit-left-out: {got} is a number of bytes, or of KiB: one MiB is 2^20"
    " bytes": answers(*slips(2**20, 2**20), *slips(2**10, 2**10)),
    "one-row-counted: {got} MiB is one row: how one token looks at {tokens}. How many"
    " tokens look?": answers(*slips(1 / 197, 1 / 3136)),
    "each-pair-counted-once: {got} MiB is half of the table. How i looks at j is not"
    " how j looks at i": answers(*slips(1 / 2, 1 / 2)),
    "table-grows-as-n: your table grows 16-fold, like n; how many entries does a table"
    " of n by n have?": (SMALL, SMALL * 3136 / 197),
}

# 3.4 Attention weights, with a mask

MASK = torch.ones(4, 5).tril().bool()
PER_IMAGE = torch.stack([MASK, MASK.flip(1)])[:, None]


def leak(table: Tensor) -> float:
    """The largest weight of a blocked key."""
    return (table * ~MASK).max().item()


def row_blocked(mask: Tensor) -> Tensor:
    """The same mask, but the last query may look at nothing."""
    mask = mask.clone()
    mask[..., -1, :] = False
    return mask


def lost_digits(answer, mask: Tensor | None = None) -> Tensor:
    q, k = vectors(dtype=torch.float64)
    return answer(q, k, mask) - attention_weights(q, k, mask)


TRIALS = {
    f"{ROWS}; {A_ROW}": lambda f: row_sums(f(*vectors())),
    "without a mask this is not softmax(q k / sqrt(e)), where e is q.shape[-1]": (
        lambda f: f(*vectors())
    ),
    "a blocked key still gets a weight of {got:.2f}": (
        lambda f: round(leak(f(*vectors(), MASK)), 3)
    ),
    "a masked row sums to {got:.2f}, and should sum to 1": (
        lambda f: row_sums(f(*vectors(), MASK))[0]
    ),
    "with a mask, the allowed weights are not their own softmax": (
        lambda f: f(*vectors(), MASK)
    ),
    "a blocked key still gets a weight of {got}: little, but not 0. Which score is"
    " below every number?": lambda f: f"{leak(f(*vectors(), MASK)):.0e}",
}
FURTHER = {
    "vectors of width 64": lambda f: f(*vectors(e=64)),
    "a query that may look at nothing": lambda f: f(*vectors(), row_blocked(MASK)),
    "a query of one image that may look at nothing": (
        lambda f: f(*vectors(), row_blocked(PER_IMAGE))
    ),
    "a mask that is not boolean": lambda f: f(*vectors(), MASK.float()),
    "queries and keys of different width": lambda f: f(vectors()[0], vectors(e=1)[1]),
    "0 axes in front, q (4, 6) (`...` means any)": (lambda f: f(*vectors(lead=()))),
    "1 axis in front, q (2, 4, 6) (`...` means any)": (
        lambda f: f(*vectors(lead=(2,)))
    ),
    "3 axes in front, q (2, 2, 3, 4, 6) (`...` means any)": (
        lambda f: f(*vectors(lead=(2, 2, 3)))
    ),
    "a single query and key of width 1 (an axis of length 1 is an axis, too)": (
        lambda f: f(*vectors(n=1, m=1, e=1))
    ),
    "float64 (are later digits lost?)": lost_digits,
    "float64 and a mask": lambda f: lost_digits(f, MASK),
    "float64 and a mask for each image": lambda f: lost_digits(f, PER_IMAGE),
    "scores of a hundred million (what is exp of that?)": (
        lambda f: f(*[1e4 * part for part in vectors()])
    ),
    **backward(lambda f, q, k: f(q, k, MASK), *vectors(dtype=torch.float64)),
    **elsewhere(lambda f, q, k: f(q, k), *vectors()),
}

who_looks = exercise(
    "3.4",
    right=attention_weights,
    trial={
        "expected weights {right}, got {got}": lambda f: tuple(f(*vectors()).shape),
        **TRIALS,
    },
    also=FURTHER,
    measures=MEASURES,
    shape="expected weights {right}, got {got}",
)
who_looks.mistakes |= OF_HEADS
who_looks.mistakes |= {
    'mask-other-way-round: the mask works the wrong way round: True means "may'
    ' look"': weights(masked=lambda scores, mask: blocked(scores, ~mask)),
    "zero-before-softmax: a blocked key still gets a weight of {got:.2f}: 0 is a score"
    " like any other. Which score gives the weight 0?": weights(
        masked=lambda scores, mask: over_keys(scores * mask)
    ),
    "mask-added-as-one: a blocked key still gets a weight of {got:.2f}: True was added"
    " as 1. What must be added to a score so that its exponential is 0?": weights(
        masked=lambda scores, mask: over_keys(scores + mask)
    ),
    "zero-after-softmax: a masked row sums to {got:.2f}: apply the mask before the"
    " softmax, not after": weights(
        masked=lambda scores, mask: over_keys(scores) * mask
    ),
    "keys-look-at-queries: shape {got}: here keys look at queries. The rows belong to"
    " the tokens that ask, so the shape should be {right}": lambda q, k, mask=None: (
        weights()(k, q)
    ),
    "mask-thrown-away: a mask changes nothing: masked_fill *returns* a tensor": weights(
        masked=lambda scores, mask: over_keys(scores)
    ),
}

# 3.5 Attention

SEEN = "with the identity as values, the result is the weights: "
WIDTH = "each of 4 queries gets a mixture as wide as a value: {right}, not {got}"


def values() -> Tensor:
    return draw(2, 3, 5, 7, seed=2, dtype=torch.float32)


def identity(k: Tensor) -> Tensor:
    m = k.shape[-2]
    return torch.eye(m, dtype=k.dtype, device=k.device).repeat(*k.shape[:-2], 1, 1)


def revealed(run):
    """The same trial of an attention; the identity, as values, shows its weights."""
    return lambda f: run(lambda q, k, mask=None: f(q, k, identity(k), mask))


def mixing(table):
    """The attention of these weights."""
    return lambda q, k, v, mask=None: table(q, k, mask) @ v


attention = exercise(
    "3.5",
    right=mixed_values,
    trial={
        WIDTH: lambda f: tuple(f(*vectors(), values()).shape),
        **{SEEN + hint: revealed(run) for hint, run in TRIALS.items()},
        "not the mean of the values, weighted row by row": (
            lambda f: f(*vectors(), values())
        ),
        "right without a mask; with one, not the mean over the allowed values": (
            lambda f: f(*vectors(), values(), MASK)
        ),
    },
    also={
        **{what: revealed(run) for what, run in FURTHER.items()},
        "a single value for 5 keys": lambda f: f(*vectors(), values()[..., :1, :]),
        "4 values for 5 keys": lambda f: f(*vectors(), values()[..., :4, :]),
        **backward(lambda f, q, k, v: f(q, k, v, MASK), *vectors(), values()),
        "`mask` given by its name": lambda f: f(*vectors(), values(), mask=MASK),
    },
    measures=MEASURES,
)
attention.mistakes |= {
    f"keys-mixed: {WIDTH}. A key is 6 wide: what does a token give when it is"
    " looked at?": lambda q, k, v, mask=None: mixed_values(q, k, k),
    f"weights-not-applied: {WIDTH}. These are the weights of 5 keys: what is mixed"
    " with them?": lambda q, k, v, mask=None: attention_weights(q, k),
    "mean-divided-again: the result is the weighted mean, divided by 5 once more."
    " What do the weights of a row sum to?": lambda q, k, v, mask=None: (
        mixed_values(q, k, v) / k.shape[-2]
    ),
    "values-counted-alike: every query gets the plain mean of the values: where are"
    " its weights?": lambda q, k, v, mask=None: mixed_values(0 * q, k, v),
    "mask-not-passed-on: right without a mask: where did the mask"
    " go?": lambda q, k, v, mask=None: mixed_values(q, k, v),
}
for name, known in who_looks.known().items():
    if name not in ("keys-look-at-queries", "mask-thrown-away"):
        of_attention = answers(*map(mixing, known.answers), seen=known.seen)
        attention.mistakes[f"{name}: {SEEN}{known.hint}"] = of_attention

# 3.6 What has to wait

N = 3136
steps = exercise(
    "3.6",
    right=(N, 1, N * N),
    trial={
        "{got} steps? The network mixes in one token at each step": element(0),
        "{got} steps? Ask of each query what must be finished before its turn": (
            element(1)
        ),
        "{got} scores? Every token that asks meets every token": element(2),
    },
)
steps.mistakes |= {
    "parts-swapped: both numbers occur, but in each other's place: which network"
    " carries a state from token to token?": (1, N, N * N),
    "recurrence-side-by-side: one step? Each step of a recurrent network needs the"
    " state left by the step before": (1, 1, N * N),
    "gaps-counted: {got} steps lie between the first token and the last, but the first"
    " has to be read too": (N - 1, 1, N * N),
    "queries-take-turns: {got} steps would be one query after another. Which result of"
    " query 0 does query 1 wait for?": answers((N, N, N * N), (N, N - 1, N * N)),
    "work-is-waiting: {got} is the amount of work. Which part of the work has to"
    " wait for a different part?": answers(
        (N, N * N, N * N), (N, N * N - N, N * N), (N, N * (N - 1) // 2, N * N)
    ),
    "one-score-per-token: {got} scores would be one for each token. How many tokens"
    " does each token meet?": (N, 1, N),
    "own-score-left-out: that leaves the diagonal of the table empty: does a token"
    " look at itself?": (N, 1, N * (N - 1)),
    "each-pair-scored-once: that is half of the table. How i looks at j is not how j"
    " looks at i": answers(
        (N, 1, N * (N - 1) // 2), (N, 1, N * N // 2), (N, 1, N * (N + 1) // 2)
    ),
}
