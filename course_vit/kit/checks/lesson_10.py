"""Checks of lesson 10: T2T-ViT."""

from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ...t2t import TokenAttention, linear_attention, soft_split
from .judge import answers, choose, draw, exercise

# 10.1 Follow an image of 224 pixels

TOKENS, WIDTHS = [3136, 784, 196], [147, 576, 576]


def asked(answer, index: int) -> Any:
    """One of the three answers, as Python numbers, in whatever form they come."""
    parts = list(answer.values() if isinstance(answer, dict) else answer)
    return torch.as_tensor(parts[index]).tolist()


trace = exercise(
    "10.1",
    right=(TOKENS, WIDTHS, 4),
    trial={
        "tokens {got}? A side has floor((side + 2 padding - kernel) / stride) + 1": (
            lambda answer: asked(answer, 0)
        ),
        "a first window of {got} numbers? Multiply kernel, kernel, c": (
            lambda answer: asked(answer, 1)[0]
        ),
        "widths {got}? The token layer leaves 64 numbers, and a window gathers 3 x 3 of"
        " these": (lambda answer: asked(answer, 1)),
        "{got} tokens of 32 pixels? The grids are 8, 4 and 2 on a side": (
            lambda answer: asked(answer, 2)
        ),
    },
)
trace.mistakes |= {
    "one-side-for-the-grid: {got} is one side of the grid: how many places does the"
    " whole grid have?": answers(([56, 28, 14], WIDTHS, 4), (TOKENS, WIDTHS, 2)),
    "rounded-up-and-one-added: 224 + 4 - 7 is 221, and 221 / 4 is not a whole number:"
    " take the floor, then add 1": answers(
        ([57, 29, 15], WIDTHS, 4), ([57**2, 29**2, 15**2], WIDTHS, 4)
    ),
    "padding-or-first-window-forgotten: 55 windows on a side, then 27, then 13 are one"
    " too few each time: the padding makes room on both sides, and the first window has"
    " not moved yet": answers(
        ([55, 27, 13], WIDTHS, 4), ([55**2, 27**2, 13**2], WIDTHS, 4)
    ),
    "channels-forgotten: a window has 49 pixels, but how many numbers does each pixel"
    " have?": (
        TOKENS,
        [49, 576, 576],
        4,
    ),
    "width-never-narrowed: 1323 is 9 tokens of 147 numbers: how many numbers does the"
    " token layer leave of the 147?": (TOKENS, [147, 1323, 11907], 4),
    "layer-width-for-split-width: 64 is what a token layer leaves. The question is how"
    " wide a token is after the next split, which gathers 3 x 3 of these": (
        TOKENS,
        [147, 64, 64],
        4,
    ),
}

# 10.2 Windows as tokens


def cut(*shape: int, split: tuple[int, int, int], dtype=torch.float32):
    return lambda answer: answer(draw(*shape, dtype=dtype), split)


split = exercise(
    "10.2",
    right=soft_split,
    trial={
        "these are not the windows, row by row": cut(2, 3, 9, 8, split=(3, 2, 1)),
    },
    also={
        f"{dtype}, {shape} cut by {split}": cut(*shape, split=split, dtype=dtype)
        for dtype in (torch.float32, torch.float64, torch.bfloat16)
        for shape, split in (
            ((1, 2, 12, 9), (5, 3, 2)),
            ((1, 1, 4, 6), (1, 1, 0)),
            ((2, 3, 8, 12), (4, 4, 0)),
        )
    },
    shape="expected tokens {right}, got {got}",
    otherwise="expected the pixels as they are, got some that are off by {off:.0e}",
)


def unfolded(options):
    """Two answers that call unfold, one for windows as rows and one as columns."""

    def columns(x, split):
        return F.unfold(x, split[0], **options(*split))

    return columns, lambda x, split: columns(x, split).mT


split.mistakes |= {
    "reshape-for-transpose: the shape is right, but the windows are torn apart: a"
    " reshape does not transpose": lambda x, split: (
        soft_split(x, split).mT.flatten().view_as(soft_split(x, split))
    ),
    "columns-taken-for-tokens: expected tokens {right}, got {got}: unfold stores each"
    " window as a column, but a token is a row": lambda x, split: (
        soft_split(x, split).mT
    ),
    "padding-forgotten: expected tokens {right}, got {got}: no window reaches over the"
    " border, so the padding is missing": answers(
        *unfolded(lambda kernel, stride, padding: {"stride": stride})
    ),
    "stride-forgotten: expected tokens {right}, got {got}: the windows move by 1, and"
    " the stride is 2": answers(
        *unfolded(lambda kernel, stride, padding: {"padding": padding})
    ),
    "stride-taken-for-dilation: expected tokens {right}, got {got}: the windows have"
    " gaps and move by 1. Which argument does unfold expect after the kernel, if you do"
    " not name it?": answers(
        *unfolded(lambda _, stride, padding: {"dilation": stride, "padding": padding})
    ),
    "channels-last: inside a token your channels come last: the published weights"
    " expect c first, then the rows and columns of the window": lambda x, split: (
        soft_split(x, split).unflatten(2, (x.shape[1], -1)).mT.flatten(2)
    ),
}

# 10.3 Fold it back

overlaps = exercise(
    "10.3",
    right={1, 2, 4},
    trial={
        "{got}? Windows start at -1, 1, 3, 5: count along one side first, then"
        " multiply": lambda answer: sorted(
            {int(x) if x == int(x) else float(x) for x in answer}
        )
    },
)
overlaps.mistakes |= {
    "fold-undoes-unfold: the result would be all 1 if no windows overlapped. With"
    " kernel 3 and stride 2, how many columns do two neighbours share?": {1},
    "window-size-counted: 9 is how many pixels a window has; the question is in how"
    " many windows a pixel lies": answers({9}, seen=lambda got, right: 9 in got),
    "one-side-only: along one side a pixel lies in 1 or 2 windows. In how many does it"
    " lie if both its row and its column are shared?": {1, 2},
    "corners-forgotten: think of a pixel in the middle of a window, in both directions:"
    " which other window reaches it?": answers({4}, {2, 4}),
}

# 10.4 Where does the residual connection start?


def tokens(answer, b: int, n: int, dtype=torch.float32, widths=(11, 6)) -> Tensor:
    """The output of a layer that makes 6 numbers of 11, with large weights."""
    layer = answer(*widths)
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer.to(dtype)(draw(b, n, widths[0], dtype=dtype))


path = exercise(
    "10.4",
    right=TokenAttention,
    trial=lambda f: tokens(f, 2, 5),
    also={
        "a layer that makes 4 numbers of 7": lambda f: tokens(f, 2, 5, widths=(7, 4)),
        "tokens in bfloat16, which many accelerators use,": (
            lambda f: tuple(tokens(f, 2, 5, torch.bfloat16).shape)
        ),
        "one image of one token in float64": lambda f: tokens(f, 1, 1, torch.float64),
    },
    shape="expected {right}, got {got}",
    otherwise="differs from the formula above by up to {off:.2g}: are the scale, the"
    " softmax, the projection and the order of q, k, v those of the formula?",
)


def layer(
    combine=lambda proj, x, q, k, v, mixed: v + proj(mixed),
    scale=lambda scale: scale,
    order=(0, 1, 2),
):
    """A layer with its own scale, order of queries, keys and values, and sum."""

    class Layer(TokenAttention):
        def forward(self, x):
            parts = self.qkv(x).chunk(3, dim=-1)
            q, k, v = (parts[i] for i in order)
            scaled = scale(self.scale)
            mixed = F.scaled_dot_product_attention(q, k, v, scale=scaled)
            return combine(self.proj, x, q, k, v, mixed)

    return Layer


path.mistakes |= {
    "input-goes-around: here a token arrives with 11 numbers and must leave with 6 (147"
    " and 64 in the paper), so x cannot be added. Which of q, k, v is a summary of the"
    " token at the new width?": layer(lambda proj, x, q, k, v, mixed: x + proj(mixed)),
    "path-left-out: there is no residual connection: what is left of what the token"
    " itself said?": layer(lambda proj, x, q, k, v, mixed: proj(mixed)),
    "query-width-for-scale: the scale is that of a query's width, 6 (torch's default)."
    " The release uses the width of the input: self.scale": layer(
        scale=lambda scale: 6**-0.5
    ),
    "scale-left-out: the scores are not scaled: where does `self.scale` belong?": layer(
        scale=lambda scale: 1.0
    ),
    "scaled-twice: the scores are scaled twice: what does fused attention already do"
    " with them?": answers(
        layer(scale=lambda scale: scale * scale),
        layer(scale=lambda scale: scale * 6**-0.5),
    ),
    "scale-upside-down: the scores are divided by self.scale, which makes them larger:"
    " is it the root, or one over the root?": layer(scale=lambda scale: 1 / scale),
    "softmax-over-the-queries: the weights of a column sum to 1, those of a row do not:"
    " over which axis does one query divide its attention?": layer(
        lambda proj, x, q, k, v, mixed: (
            v + proj((q @ k.mT * 11**-0.5).softmax(dim=-2) @ v)
        )
    ),
    "scaled-after-softmax: the weights of a row sum to 0.30: scale the scores, before"
    " the softmax": layer(
        lambda proj, x, q, k, v, mixed: v + proj(11**-0.5 * mixed),
        scale=lambda scale: 1.0,
    ),
    "parts-in-another-order: you read queries, keys and values in a different order: in"
    " this matrix it is q, k, v": answers(
        *[layer(order=order) for order in permutations(range(3))][1:]
    ),
    "question-goes-around: your residual connection starts from the query or the key."
    " They are made to be compared. Which part says what a token gives?": answers(
        layer(lambda proj, x, q, k, v, mixed: q + proj(mixed)),
        layer(lambda proj, x, q, k, v, mixed: k + proj(mixed)),
    ),
    "projection-left-out: the mixture is added as it is: where does `proj`"
    " belong?": layer(lambda proj, x, q, k, v, mixed: v + mixed),
    "projection-around-both: `proj` is applied to the values as well: to which of the"
    " two terms does the formula apply it?": layer(
        lambda proj, x, q, k, v, mixed: proj(v + mixed)
    ),
}

# 10.5 Bracket first


def features(b: int, n: int, m: int, dtype=torch.float32) -> tuple[Tensor, ...]:
    """Features of queries and keys, all above 0, and values."""
    q, k = draw(b, n, 4).exp(), draw(b, m, 4, seed=1).exp()
    return q.to(dtype), k.to(dtype), draw(b, m, 6, seed=2, dtype=dtype)


Q, K, V = features(2, 5, 7)


class Made(TorchDispatchMode):
    """Counts the numbers in all tensors that an answer makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            self.numbers += tensor.numel() if isinstance(tensor, Tensor) else 0
        return out


def work(answer, tokens: int) -> int:
    """Operations and numbers made, for so many tokens."""
    given = features(1, tokens, tokens)
    with FlopCounterMode(display=False) as counter, Made() as made:
        answer(*given)
    return counter.get_total_flops() + made.numbers


bracket = exercise(
    "10.5",
    right=linear_attention,
    trial={
        "denominator-left-out": lambda f: f(Q, K, torch.ones(2, 7, 6)),
        "your weights are not phi(q) phi(k), divided by their sum": lambda f: f(
            Q, K, V
        ),
        "with 0 * q your answer is not finite: can the denominator be 0?": lambda f: (
            bool(f(0 * Q, K, V).isfinite().all())
        ),
        "with eps=1.0 the answer is off: add eps to the sum of each row, once": (
            lambda f: f(Q, K, V, eps=1.0)
        ),
        "matrix-first": lambda f: max(2.1, work(f, 128) / work(f, 64)),
    },
    also={
        "float64": lambda f: f(*features(2, 5, 7, torch.float64)),
        "float64, a single token": lambda f: f(*features(1, 1, 1, torch.float64)),
        "bfloat16, which many accelerators use,": (
            lambda f: list(f(*features(2, 5, 7, torch.bfloat16)).shape)
        ),
    },
    measures={"first": lambda got, right: got[0, 0, 0].item()},
    shape="expected {right}, got {got}",
)
bracket.mistakes |= {
    "matrix-first: the numbers are right, but twice the tokens took {got:.1f} times the"
    " work: it grows as n x m, as with a matrix of all pairs. Which product can come"
    " first?": (
        lambda q, k, v, eps=1e-8: q @ k.mT @ v / ((q @ k.mT).sum(-1, True) + eps)
    ),
    "denominator-left-out: the mean of values that are all 1 came out as {first:.2f}:"
    " by what must you divide each row so that its weights sum to 1?": lambda q, k, v: (
        q @ (k.mT @ v)
    ),
    "softmax-once-more: the features are there in place of the exponential, and your"
    " softmax takes it once more": lambda q, k, v: (q @ k.mT).softmax(dim=-1) @ v,
    "eps-fixed: with eps=1.0 the answer is the same as with 1e-8: add the eps of the"
    " argument": lambda q, k, v, eps=1e-8: linear_attention(q, k, v),
    "eps-at-every-key: with eps=1.0 the denominator grows by 7, the number of keys: add"
    " eps to the sum of each row, once": answers(
        lambda q, k, v, eps=1e-8: linear_attention(q, k, v, 7 * eps),
        lambda q, k, v, eps=1e-8: (q @ k.mT + eps) @ v / (q @ k.mT + eps).sum(-1, True),
    ),
}

# 10.6 How exact is it?

exactness = choose("10.6", "B")
exactness.mistakes |= {
    "enough-features-make-it-exact: on average and in the limit this is true, but look"
    " at the curve of the longest queries: how many features would it need?": "A",
    "rows-of-one-make-softmax: the denominator makes the weights of a row sum to 1,"
    " whatever they are, so wrong weights sum to 1, too": "C",
    "orthogonal-makes-it-exact: orthogonal rows spread the directions, but the mean of"
    " exp(w x) depends on the length of the rows as well": "D",
}
