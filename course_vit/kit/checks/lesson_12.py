"""Checks of lesson 12, the bug clinic: an answer is a pair, a fault and fixed code."""

from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ...deit import soft_distillation
from ...encoder_block import Block
from ...patch_embedding import patchify
from ...position_encoding import resize_position_embedding, sinusoid_encoding
from ...self_attention import attention, attention_weights
from ...t2t import linear_attention, positive_features
from .judge import Mistake, answers, draw, exercise, expect, itself, same

WORDS = "axis order role scale missing count mode gradient leak healthy"
FAULTS = WORDS.split()
# For each patient the faults that fit, and the hint for any other.
SYMPTOMS = {
    ("12.1", "order"): "every pixel of the photograph is still there with its value."
    " What about it has changed?",
    ("12.2", "order"): "the weights are right and so are the pixels. But which pixel"
    " meets which weight?",
    ("12.3", "count", "role"): "sine squared plus cosine squared is 1, so two columns"
    " with one angle cannot make rows uneven. What does `i` count here, and what does"
    " it count in the paper of the Transformer?",
    ("12.4", "scale"): "tokens and positions are added; nothing is lost, moved or cut"
    " off. How large are the tokens, and how large are the positions?",
    ("12.5", "missing", "role"): "at the usual size the sum is exactly twice the"
    " tokens. What was added, and what was not?",
    ("12.6", "count", "scale"): "from a 14 x 14 grid, one side in a hundred lacks a"
    " row. Which number is not exact?",
    ("12.7", "axis"): "the sums are 197 / 12 on average, and with one head all weights"
    " are 1. Over which axis does the code share out a weight of 1?",
    ("12.8", "missing", "role", "gradient"): "the last third of the matrix has no"
    " gradient. Is what it makes ever used?",
    ("12.9", "missing"): "the weights are the same with the mask and without it. What"
    " became of the step that should use the mask?",
    ("12.10", "role"): "there is a mask, and it works: the padding is heard and the"
    " rest is not. What does True mean to the caller, and what does it mean to torch?",
    ("12.11", "axis"): "with four heads a token hears a quarter of its image, with two"
    " heads half of it. What was cut into four, and what should have been cut?",
    ("12.12", "order"): "each of the 36 outputs arrives exactly once, and unchanged."
    " Does it arrive in the right place?",
    ("12.13", "leak", "axis"): "token 0 hears the first token of a *different* image,"
    " and no other token of its own image. Which tokens should it hear?",
    ("12.14", "gradient"): "the output is right for every input. What is wrong with the"
    " backward pass?",
    ("12.15", "missing"): "norm, attention and MLP do what they should. If every step"
    " returns zeros, so does the encoder: which part of the equation is not in the"
    " code?",
    ("12.16", "axis"): "one token changes and 196 move, in one image. Over which"
    " numbers does this norm take its mean?",
    ("12.17", "role", "scale"): "0.1 was kept where 0.9 was asked for, and the mean in"
    " eval is 0.9. One number is read with the opposite meaning, and one factor is"
    " where it should not be. Which word fits one of the two?",
    ("12.18", "scale"): "all is well as long as something survives; otherwise the code"
    " divides where it should not. What is divided by what?",
    ("12.19", "missing"): "the answers are the same, and the scores are three times as"
    " large: the head receives a sum that was never normalised. Which step should do"
    " that?",
    ("12.20", "healthy"): "with `repeat` and with `expand` the gradient of the token is"
    " the sum over its copies, with an error of 0. What, then, is wrong with it?",
    ("12.21", "mode"): "`eval()` was called, and two answers to one digit differ. Which"
    " step does not know of the call?",
    ("12.22", "mode", "gradient"): "the weights moved, and dropout dropped nothing."
    " Which of the two does the switch in this code control?",
    ("12.23", "role", "missing"): "every student has a loss of 0, even one that answers"
    " at random. Which two answers does the code compare?",
    ("12.24", "gradient", "missing"): "the student moves; token and head keep their"
    " first values, whatever the loss is. What would have to move them?",
    ("12.25", "count"): "three of four sides are right, and every fourth has one window"
    " too few. Which sides are these?",
    ("12.26", "role", "order"): "no number is lost and none is computed wrongly. Each"
    " part gets a name: is it the right one?",
    ("12.27", "scale", "missing"): "every pixel is in its place, and many are two or"
    " four times as bright as before. What has to be done about that, pixel by pixel?",
}
Run = Callable[[Any], Any]


def patient(
    number: str,
    *,
    right: Any,
    mistakes: Mapping[str, Any],
    trial: Run = itself,
    readings: Mapping[str, Run] | None = None,
    other: Run | None = None,
    **more: Any,
) -> None:
    """Register the exercise of a patient, whose answer is a word and fixed code.

    `right` is fixed code. `trial` runs code, and `readings` are the parts of its result
    that are compared in turn (by default the whole result), each under the hint for a
    wrong one. `other` runs code on other inputs, to find sizes that were written in as
    numbers. `mistakes` is the table of `exercise`, with code for answers; a hint may
    name `{low}` and `{high}`, the range of the part that was compared.
    """
    words, symptom = next(
        (words, symptom) for (n, *words), symptom in SYMPTOMS.items() if n == number
    )

    def well_named(answer: Any) -> bool:
        said, _ = answer
        word = str(said).strip().lower()
        expect(
            word in FAULTS,
            f"the answer starts with a fault, one of {', '.join(FAULTS)}; got {said!r}",
        )
        return word in words

    def on_code(read: Run) -> Run:
        return lambda answer: read(trial(answer[1]))

    trials = {hint: on_code(read) for hint, read in (readings or {"": itself}).items()}
    judge = exercise(
        number,
        right=(words[0], right),
        trial={"fault-misread": well_named, **trials},
        also={"other inputs": lambda answer: other(answer[1])} if other else None,
        measures={"low": lambda got, _: got.min(), "high": lambda got, _: got.max()},
        **more,
    )
    misread = next(word for word in FAULTS if word not in words)
    judge.mistakes[f"fault-misread: {symptom}"] = (misread, right)
    for key, made in mistakes.items():
        codes = made.answers if isinstance(made, Mistake) else (made,)
        judge.mistakes[key] = answers(*((words[0], code) for code in codes))


def linear(d_in: int, d_out: int) -> nn.Linear:
    """A linear map whose bias is not zero."""
    torch.manual_seed(1)
    return nn.Linear(d_in, d_out, dtype=torch.float64)


def slope(run: Run, x: Tensor) -> Tensor:
    """The gradient of a mixture of what comes out, zeros where there is none."""
    out = run(x.requires_grad_())
    if not out.requires_grad:
        return torch.zeros_like(x)
    mixture = (out * draw(*out.shape, seed=3)).sum()
    return torch.autograd.grad(mixture, x, materialize_grads=True)[0]


def torch_heads() -> nn.MultiheadAttention:
    return nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.float64)


def cut(windows="gh gw", inside="c p q"):
    pattern = f"b c (gh p) (gw q) -> b ({windows}) ({inside})"
    return lambda images, p: rearrange(images, pattern, p=p, q=p)


patient(
    "12.1",
    right=patchify,
    trial=lambda f: f(draw(2, 3, 8, 12), 4),
    other=lambda f: f(draw(1, 2, 6, 9), 3),
    mistakes={
        "channels-before-windows: all 48 numbers of token 0 come from channel 0. Which"
        " axis is still in front of the windows?": answers(
            lambda images, p: images.reshape(2, -1, 3 * p**2),
            lambda images, p: cut("c gh gw p", "q")(images, p).reshape(2, -1, 3 * p**2),
        ),
        "grid-read-by-columns: token 1 is the window *below* token 0, but reading order"
        " goes to the right first": cut("gw gh"),
        "pixels-before-channels: every token is one window now, but inside it the order"
        " is not channel, row, column: would the weights of a convolution"
        " fit?": answers(cut(inside="p q c"), cut(inside="q p c")),
    },
    shape="each window should be a token: expected shape {right}, got {got}",
    otherwise="the tokens are not the windows: draw one of them",
)


def embed(kernel="c p q", keep=1):
    """The convolution, with its weights in another order or without the bias."""

    def embed(images, weight, bias):
        p = weight.shape[-1]
        weight = rearrange(weight.flatten(1), f"d ({kernel}) -> d c p q", p=p, q=p)
        return F.conv2d(images, weight, keep * bias, stride=p).flatten(2).mT

    return embed


patient(
    "12.2",
    right=embed(),
    trial=lambda f: f(draw(2, 3, 8, 12), draw(5, 3, 4, 4, seed=1), draw(5, seed=2)),
    other=lambda f: f(draw(1, 2, 6, 9), draw(4, 2, 3, 3, seed=1), draw(4, seed=2)),
    mistakes={
        "pixels-meet-channels-first: off by up to {off:.1f}: the patch goes pixel by"
        " pixel, the kernel channel by channel": embed("p q c"),
        "rows-for-columns: off by up to {off:.1f}: the channels are in the right order,"
        " but the rows and columns of the patch are exchanged": embed("c q p"),
        "bias-left-out: every token is off by the same vector: what does a convolution"
        " add at the end?": embed(keep=0),
    },
    otherwise="off by up to {off:.1f} from the convolution",
)


def waves(exponent):
    """The table with another exponent for each column, given d = 16."""
    column = torch.arange(16)
    angle = torch.arange(50).double()[:, None] / 10_000 ** exponent(column)
    return lambda n, d: torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


UNEVEN = "rows have squared lengths from {low:.1f} to {high:.1f}"
patient(
    "12.3",
    right=sinusoid_encoding,
    trial=lambda f: f(50, 16),
    other=lambda f: f(7, 10),
    readings={
        "partners-with-two-angles": lambda table: 16 * table.square().mean(dim=1),
        "": itself,
    },
    mistakes={
        f"i-counts-columns: {UNEVEN}: `i` still counts columns. How many clocks does"
        " a table of 16 columns have?": waves(lambda column: 2 * column / 16),
        f"partners-with-two-angles: {UNEVEN}: the sine and the cosine of one clock need"
        " the same angle": waves(lambda column: column / 16),
        "two-left-out: rows are equally long now, but the slowest clock is far too"
        " fast: how large should the exponent become?": (
            waves(lambda column: column // 2 / 16)
        ),
        "sines-in-front: the waves are right, their columns are not: in the paper's"
        " table a sine and its cosine are neighbours": (
            lambda n, d: rearrange(sinusoid_encoding(n, d), "n (i w) -> n (w i)", w=2)
        ),
    },
    otherwise="rows are equally long, but this is not the table of lesson 2",
    atol=1e-4,
)


def table(spread):
    return lambda n, d: nn.Parameter(spread * torch.randn(1, n, d))


SPREAD = "the rows have a standard deviation of {got:.3f}, published models 0.02"
patient(
    "12.4",
    right=table(0.02),
    trial=lambda f: f(196, 300),
    readings={
        "expected shape {right}, got {got}": lambda table: str(tuple(table.shape)),
        "fixed-not-learned": lambda table: (
            isinstance(table, nn.Parameter) and table.requires_grad
        ),
        SPREAD: lambda table: table.std(dim=1).mean().item(),
    },
    other=lambda f: torch.zeros_like(f(9, 4)),
    mistakes={
        "fixed-not-learned: the table is a plain tensor or frozen now: would an"
        " optimizer train it?": lambda n, d: 0.02 * torch.randn(1, n, d),
        f"louder-than-patches: {SPREAD}: still louder than the patches": table(1),
        f"scaled-by-width: {SPREAD}. One divides by the root of 300 where 300 products"
        " are summed; is there such a sum?": table(300**-0.5),
        f"all-zero-start: {SPREAD}: all rows are equal at the start, so no place"
        " differs from the next": table(0),
    },
    rtol=0.1,
)


def bicubic(table, side, policy="deit"):
    return resize_position_embedding(table, (side, side), 0, policy)


def stretched(answer, old, side) -> Tensor:
    """The table that an answer returns; all policies of lesson 2 are equally right."""
    table = draw(1, old * old, 3)
    got, right = answer(table, side), bicubic(table, side)
    every = "timm", "transformers", "torchvision", "jax"
    well = any(same(got, bicubic(table, side, other), atol=1e-5) for other in every)
    return right if well else got


def positions(usual):
    return lambda x, table: (
        usual(x, table)
        if x.shape[1] == table.shape[1]
        else bicubic(table, isqrt(x.shape[1]))
    )


def placed(side):
    """The rows that an answer gives to this many tokens, squared, from 16."""
    return lambda answer: stretched(
        lambda table, side: answer(draw(2, side * side, 3), table), 4, side
    )


USUAL = "at the usual size, 16 tokens and 16 rows,"
patient(
    "12.5",
    right=positions(lambda x, table: table),
    readings={
        f"{USUAL} the rows are not the table's": (
            lambda f: draw(2, 16, 6) + f(draw(2, 16, 6), draw(1, 16, 6, seed=1))
        ),
        "stretch-forgotten": lambda f: f(draw(2, 36, 6), draw(1, 16, 6)).shape[1],
        "the rows for 36 tokens are not those of the stretched table": placed(6),
    },
    other=placed(3),
    mistakes={
        f"tokens-handed-back: {USUAL} what is returned is the first argument: the"
        " tokens themselves": positions(lambda x, table: x),
        f"tokens-in-the-table: {USUAL} the function adds the tokens to the table, and"
        " the caller adds them once more": positions(lambda x, table: x + table),
        f"no-rows-at-all: {USUAL} the function returns zeros": (
            positions(lambda x, table: 0 * table)
        ),
        "stretch-forgotten: for 36 tokens the function returned {got} rows: where is"
        " the table stretched?": lambda x, table: table,
    },
)


def by_factor(more=0.0):
    """Stretch by a factor; `more` makes it larger than it should be."""

    def stretch(table, side):
        old = isqrt(table.shape[1])
        grid, factor = table.mT.unflatten(2, (old, old)), (side + more) / old
        return F.interpolate(grid, None, factor, "bicubic").flatten(2).mT

    return stretch


patient(
    "12.6",
    right=bicubic,
    readings={
        "product-rounded-down": lambda f: ", ".join(
            f"{old} to {n}"
            for old, n in ((14, 61), (37, 39), (37, 43))
            if f(draw(1, old * old, 3), n).shape[1] < n * n
        ),
        "no stretch of lesson 2 gives this: up to {off:.2g} from torch's bicubic": (
            lambda f: stretched(f, 14, 61)
        ),
    },
    other=lambda f: stretched(f, 5, 8),
    mistakes={
        "product-rounded-down: stretching {got} loses a row and a column: which number"
        " was rounded down?": by_factor(),
        "factor-made-larger: no row is lost, but the values differ by up to {off:.1g}:"
        " the table is stretched a little too far and cut off": (
            answers(*map(by_factor, (0.1, 0.01, 0.001)))
        ),
        "grid-scrambled: the number of rows is right, but the values are off"
        " by up to {off:.1f}: does a row of the table still belong to one"
        " place?": lambda x, n: bicubic(x.reshape(1, 3, -1).mT, n).mT.reshape(1, -1, 3),
    },
    atol=1e-5,
)


def shares(dim):
    return lambda q, k: (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=dim)


ROWS = "rows sum to {low:.2f} up to {high:.2f}"
patient(
    "12.7",
    right=attention_weights,
    trial=lambda f: f(draw(2, 3, 4, 6), draw(2, 3, 5, 6, seed=1)),
    other=lambda f: f(draw(1, 1, 7, 8), draw(1, 1, 3, 8, seed=1)),
    readings={
        f"{ROWS}: what should a row sum to?": lambda weights: weights.sum(dim=-1),
        "rows sum to 1, but these are not the weights of the scores": itself,
    },
    mistakes={
        f"softmax-over-heads: {ROWS}; sums over the heads are 1": shares(1),
        f"softmax-over-queries: {ROWS}; sums over the queries are 1": shares(2),
        f"softmax-over-images: {ROWS}; sums over the images are 1": shares(0),
    },
    shape="2 images, 3 heads, 4 queries, 5 keys need weights (2, 3, 4, 5)",
)


def attend(place):
    """A head that mixes the queries 0, keys 1, values 2 or tokens 3."""

    def attend(x, qkv):
        parts = *qkv(x).chunk(3, dim=-1), x
        return attention(parts[0], parts[1], parts[place])

    return attend


patient(
    "12.8",
    right=attend(2),
    trial=lambda f: f(draw(2, 5, 6), linear(6, 18)),
    other=lambda f: f(draw(1, 3, 4), linear(4, 12)),
    mistakes={
        "tokens-for-values: the weights are right, but they multiply the tokens: what"
        " should they multiply?": attend(3),
        "keys-for-values: the weights are right, but they multiply the keys: what"
        " should they multiply?": attend(1),
        "queries-for-values: the weights are right, but they multiply the queries: what"
        " should they multiply?": attend(0),
    },
    otherwise="these are not the values, weighted by softmax(q k / sqrt(e))",
)


MASK = torch.eye(5)[:4] + torch.eye(5)[1:] > 0
patient(
    "12.9",
    right=attention_weights,
    trial=lambda f: f(draw(2, 4, 6), draw(2, 5, 6, seed=1), MASK),
    other=lambda f: f(draw(1, 3, 4, 8), draw(1, 3, 5, 8, seed=1), MASK),
    readings={
        "zero-taken-for-forbidden": lambda weights: weights.masked_fill(MASK, 0),
        "masked-too-late": lambda weights: weights.sum(dim=-1),
        "forbidden keys get nothing, but the weights of the others are off": itself,
    },
    mistakes={
        "result-thrown-away: the mask changes nothing: what happens to the tensor that"
        " `masked_fill` returns?": lambda q, k, mask: attention_weights(q, k),
        "mask-turned-round: row 0 looks where it may not: is the mask inverted? True"
        " means *may look*": lambda q, k, mask: attention_weights(q, k, ~mask),
        "zero-taken-for-forbidden: a forbidden key still gets a"
        " weight of {high:.2f}: a score of 0 is a score like any"
        " other": lambda q, k, mask: (q @ k.mT / 6**0.5 * mask).softmax(dim=-1),
        "masked-too-late: a row sums to {low:.2f}: no other key got the weights that"
        " the forbidden keys lost": lambda q, k, mask: mask * attention_weights(q, k),
    },
)


@torch.no_grad()
def of_the_real(answer) -> Tensor:
    """The outputs of two images of 3 and 5 tokens, with zeros for the padding."""
    real = torch.arange(7) < torch.tensor([[3], [5]])
    return answer(torch_heads().eval(), draw(2, 7, 6), real).where(real[..., None], 0)


patient(
    "12.10",
    right=lambda layer, x, real: layer(x, x, x, key_padding_mask=~real)[0],
    trial=of_the_real,
    mistakes={
        "true-means-blocked-here: the padding is heard, the real tokens are not: in"
        " this layer True means *blocked*": (
            lambda layer, x, real: layer(x, x, x, key_padding_mask=real)[0]
        ),
        "mask-left-out: all tokens are heard, the padding as well: the layer"
        " got no mask": lambda layer, x, real: layer(x, x, x)[0],
        "padding-set-to-zero: padding of zeros still gets a share of every"
        " softmax": lambda layer, x, real: layer(*3 * [x * real[..., None]])[0],
    },
    otherwise="the real tokens of each image alone give a different result",
)


def many_looks(tokens, heads):
    """Attention in the heads that a pattern makes of the tokens."""

    def many_looks(x, h):
        parts = rearrange(x, f"{tokens} -> {heads}", h=h)
        return rearrange(attention(parts, parts, parts), f"{heads} -> {tokens}", h=h)

    return many_looks


def shuffled(answer) -> Tensor:
    """How far the outputs move, apart from their order, when tokens are shuffled."""
    x, turn = draw(2, 6, 12), torch.arange(6).roll(1)
    return answer(x[:, turn], 3) - answer(x, 3)[:, turn]


patient(
    "12.11",
    right=many_looks("b n (h e)", "b h n e"),
    readings={"heads-by-reshape": shuffled, "": lambda f: f(draw(2, 6, 12), 3)},
    other=lambda f: f(draw(1, 5, 16), 2),
    mistakes={
        "tokens-divided: tokens 0 and 1 hear each other and no other token: the tokens"
        " are still divided among the heads": many_looks("b (h n) d", "b h n d"),
        "one-head-only: all tokens meet, in one softmax over whole tokens: where are"
        " the heads?": lambda x, h: attention(x, x, x),
        "heads-by-reshape: shuffling the tokens changes their outputs by up to"
        " {off:.2f}: parts of one token are taken for tokens": (
            lambda x, h: attention(*3 * [x.reshape(2, h, 6, -1)]).reshape(x.shape)
        ),
        "heads-interleaved: head 0 takes channels 0, 3, 6, 9: in published weights the"
        " channels of a head are neighbours": many_looks("b n (e h)", "b h n e"),
    },
    otherwise="tokens stay whole, but a loop over the heads gives a different result",
)


def split(layout):
    return lambda qkv, h: rearrange(qkv, f"b n ({layout}) -> t b h n e", t=3, h=h)


QUERY = "the first query of head 0 is made of outputs {got[0][0]}"
patient(
    "12.12",
    right=split("t h e"),
    trial=lambda f: f(torch.arange(24.0).expand(2, 5, 24), 2),
    readings={
        "q, k and v are each (2, 2, 5, 4) for b=2, h=2, n=5, e=4, got {got}": (
            lambda parts: [tuple(part.shape) for part in parts]
        ),
        f"{QUERY}; look at the others, too": (
            lambda parts: [part[0, :, 0].int().tolist() for part in parts]
        ),
    },
    other=lambda f: torch.stack([*f(draw(2, 3, 24), 4)]),
    mistakes={
        f"three-runs-fastest: {QUERY}, every third: what runs fastest?": split("h e t"),
        f"channels-before-heads: {QUERY}, every second: what runs fastest?": split(
            "t e h"
        ),
        "heads-run-first: the first key of head 0 is made of outputs {got[1][0]}: the"
        " published matrix has all queries of all heads first": split("h t e"),
    },
)


def mixer(batch_first=True, turn=lambda x: x, cut=lambda x: x):
    """A layer; `turn` is done to what goes in and out, `cut` to keys and values."""

    class Mixer(nn.Module):
        def __init__(self, d, h):
            super().__init__()
            self.heads = nn.MultiheadAttention(d, h, batch_first=batch_first)

        def forward(self, x):
            x = turn(x)
            return turn(self.heads(x, cut(x), cut(x))[0])

    return Mixer


def heard(layer) -> Tensor:
    """The tokens that move when token 2 of image 1 changes; 3 images of 5 tokens."""
    x, change = draw(3, 5, 6), torch.zeros(3, 5, 1)
    change[1, 2] = 1
    return (layer(x + change) - layer(x)).abs().amax(dim=-1) > 1e-9


def slope_is_true(layer) -> bool:
    """Whether the gradient predicts the effect of a small step of the input."""
    x, step, mixture = (draw(3, 5, 6, seed=seed) for seed in (1, 2, 3))
    change = layer(x + 1e-6 * step) - layer(x - 1e-6 * step)
    believed = 2e-6 * (slope(layer, x) * step).sum()
    return bool(torch.isclose((change * mixture).sum(), believed, rtol=1e-4))


patient(
    "12.13",
    right=mixer(),
    trial=lambda f: f(6, 3).double().eval(),
    readings={
        "3 heads were asked for, and the layer has {got}": lambda layer: next(
            (part.num_heads for part in layer.modules() if hasattr(part, "num_heads")),
            3,
        ),
        "reshaped-not-turned": lambda layer: heard(layer)[[0, 2]],
        "no image hears a different one, but do all tokens of one meet?": heard,
        "gradient-cut-too": slope_is_true,
    },
    mistakes={
        "images-read-as-tokens: token 2 of image 1 changed, and token 2 of every image"
        " heard of it, and no other token: the layer still takes the images for the"
        " sequence": mixer(batch_first=False),
        "reshaped-not-turned: token 2 of image 1 changed, and scattered tokens of other"
        " images heard of it: were the axes exchanged, or only given other sizes?": (
            mixer(False, turn=lambda x: x.reshape(x.shape[1], x.shape[0], -1))
        ),
        "gradient-cut-too: the right tokens hear each other now. But small steps of the"
        " input change the output by an amount that the gradient does not give: is a"
        " part still detached?": mixer(cut=torch.detach),
    },
    shape="3 images of 5 tokens should keep their shape",
)


def detach(cut):
    """Attention whose query, key or value, `q`, `k`, `v`, is cut off."""
    return lambda layer, x: layer(
        *(x.detach() if part in cut else x for part in "qkv")
    )[0]


def mode_after(answer) -> bool:
    layer = torch_heads()
    answer(layer, draw(2, 5, 6))
    return layer.training


SLOPE = "the gradient is off by up to {off:.2f}"
patient(
    "12.14",
    right=detach(""),
    readings={
        "the output was right, and has changed": (
            lambda f: f(torch_heads(), draw(2, 5, 6))
        ),
        "the layer was in training mode before, and is in eval mode now": mode_after,
        SLOPE: lambda f: slope(lambda x: f(torch_heads(), x), draw(2, 5, 6)),
    },
    mistakes={
        "all-doors-shut: no gradient reaches the input at all: nothing below this layer"
        " would learn": detach("qkv"),
        f"two-doors-shut: {SLOPE}: `x` is query, key and value, but the gradient flows"
        " through only one of the three": answers(*map(detach, ("kv", "qk", "qv"))),
        f"one-door-shut: {SLOPE}: the gradient flows through only two of three"
        " doors": answers(*map(detach, "qkv")),
    },
)


STEPS = [
    (lambda x: x.cumsum(1), torch.tanh),
    (lambda x: x.flip(1), torch.sin),
    (lambda x: x.roll(1, 1), torch.cos),
]


def encode(block):
    def encode(x, blocks):
        for look, think in blocks:
            x = block(x, look, think)
        return x

    return encode


patient(
    "12.15",
    right=encode(lambda x, look, think: x + look(x) + think(x + look(x))),
    trial=lambda f: f(draw(2, 5, 6), STEPS[:2]),
    other=lambda f: f(draw(2, 5, 6), STEPS),
    mistakes={
        "no-sum-at-all: each step still replaces its input. What is left if every step"
        " returns zeros?": encode(lambda x, f, g: g(f(x))),
        "one-sum-for-two: there is one sum for both steps, so the MLP never sees the"
        " tokens, only what attention found": encode(lambda x, f, g: x + g(f(x))),
        "first-sum-left-out: the MLP adds to its input, attention replaces it: which of"
        " the two equations has no sum?": encode(lambda x, f, g: f(x) + g(f(x))),
        "second-sum-left-out: attention adds to its input, the MLP replaces it: which"
        " of the two equations has no sum?": encode(lambda x, f, g: g(x + f(x))),
        "start-added-again: if every step returns zeros, the encoder doubles its input:"
        " which sum starts from the wrong `x`?": encode(
            lambda x, f, g: x + x + f(x) + g(x + f(x))
        ),
    },
    otherwise="the result is not x + look(x), and then the same with think",
)

patient(
    "12.16",
    right=lambda n, d: nn.LayerNorm(d),
    trial=lambda f: f(5, 6)(2 * draw(3, 5, 6).float() + 1),
    readings={
        "the means of the tokens should be 0, and they go up to {high:.2f}": (
            lambda tokens: tokens.mean(dim=-1).abs()
        ),
        "": itself,
    },
    mistakes={
        "normed-over-the-image: the norm takes one mean for a whole image: a token"
        " still moves when a different one changes": lambda n, d: nn.LayerNorm([n, d]),
        "normed-over-the-tokens: the norm takes a mean for each channel, over the"
        " tokens: a token still moves when a different one changes, and its own mean is"
        " not 0": lambda n, d: lambda x: F.layer_norm(x.mT, [n]).mT,
        "normed-over-the-batch: the mean runs over several images: they would affect"
        " each other": lambda n, d: nn.BatchNorm1d(n),
        "spread-of-a-sample: off by up to {off:.2f}: `std` divides by d - 1 by default,"
        " a norm by d": lambda n, d: (
            lambda x: (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)
        ),
    },
    atol=1e-3,
)


def share(x: Tensor) -> float:
    """The share of the numbers that are not 0."""
    return (x != 0).double().mean().item()


LOUD = draw(20_000).abs() + 1
MEANS = "the mean is {got[0]:.1f} in training and {got[1]:.1f} in eval"
patient(
    "12.17",
    right=lambda x, keep, on: F.dropout(x, 1 - keep, on),
    trial=lambda f: [f(LOUD, 0.8, on) / LOUD for on in (True, False)],
    other=lambda f: f(LOUD, 1.0, True),
    readings={
        "keep_prob=0.8, and {got:.2f} were kept": lambda both: share(both[0]),
        "drops-in-eval": lambda both: share(both[1]),
        f"{MEANS}: both should be 1, and eval should change nothing": (
            lambda both: [x.mean().item() for x in both]
        ),
    },
    mistakes={
        "keep-taken-for-drop: keep_prob=0.8, and {got:.2f} were kept"
        " in training: which probability does torch's function"
        " expect?": lambda x, keep, on: F.dropout(x, keep),
        "drops-in-eval: in eval {got:.2f} are kept, not all": (
            lambda x, keep, on: F.dropout(x, 1 - keep)
        ),
        f"shrunk-in-eval: {MEANS}: torch has already made up for the loss in training,"
        " and eval does it once more": (
            lambda x, keep, on: F.dropout(x, 1 - keep) if on else keep * x
        ),
        f"survivors-not-enlarged: {MEANS}: nothing makes up for the dropped"
        " numbers": lambda x, keep, on: F.dropout(x, 1 - keep) * keep if on else x,
    },
    atol=0.02,
)


def drop_path(x, p):
    return x * F.dropout(x.new_ones(len(x), 1, 1), p)


def alive(x, p):
    return (torch.rand(len(x), 1, 1) >= p).to(x)


def factors(answer) -> Tensor:
    """The factors by which the numbers of 400 branches are multiplied."""
    return answer(draw(400, 2, 3), 0.25) / draw(400, 2, 3)


patient(
    "12.18",
    right=drop_path,
    readings={
        "with drop_prob=1 something survives": lambda f: f(draw(400, 2, 3), 1.0),
        "nan-painted-over": lambda f: slope(lambda x: f(x, 1.0), draw(400, 2, 3)),
        "with drop_prob=0 nothing should be dropped": lambda f: f(draw(3, 4, 5), 0.0),
        "drops-single-numbers": lambda f: factors(f).std(dim=(1, 2)),
        "are survivors divided by their chance?": lambda f: factors(f).max(),
        "drop_prob=0.25, and the share of the survivors is off by {got:.2f}": (
            lambda f: max(abs(share(factors(f)) - 0.75), 0.08)
        ),
    },
    mistakes={
        "nothing-by-nothing: drop_prob=1 gives nan: the survivors are divided by their"
        " chance, and that is 0": lambda x, p: x / (1 - p) * alive(x, p),
        "nan-painted-over: drop_prob=1 gives zeros, but the gradient"
        " is nan: the division by 0 is still there, only hidden in the"
        " output": lambda x, p: (x / (1 - p) * alive(x, p)).nan_to_num(),
        "survivors-not-divided: with drop_prob=0.25 the survivors are unchanged, so the"
        " mean falls to 0.75": lambda x, p: x * alive(x, p),
        "drops-single-numbers: single numbers of a branch are dropped: one draw decides"
        " for a whole image": F.dropout,
    },
)


def parts(depth: int):
    """Blocks, a norm whose weights are not 1 and 0, and a head."""
    head, norm = linear(6, 4), nn.LayerNorm(6).double()
    for weight in norm.parameters():
        nn.init.normal_(weight)
    return nn.ModuleList(Block(6, 2) for _ in range(depth)).double(), norm, head


def classify(pick):
    return lambda x, b, n, h: h(pick(n(nn.Sequential(*b)(x))))


patient(
    "12.19",
    right=classify(lambda x: x[:, 0]),
    trial=lambda f: f(draw(2, 5, 6), *parts(2)),
    other=lambda f: f(draw(2, 5, 6), *parts(3)),
    mistakes={
        "last-norm-left-out: the head still receives the sum of all blocks without a"
        " norm: `norm` is not used": lambda x, b, n, h: h(b[1](b[0](x))[:, 0]),
        "normed-before-the-blocks: the norm comes before the blocks, so what they add"
        " is not normalised": lambda x, b, n, h: h(b[1](b[0](n(x)))[:, 0]),
        "normed-in-every-block: the norm comes after every block: the sum itself must"
        " stay unchanged until the end": (
            lambda x, b, n, h: h(n(b[1](n(b[0](x))))[:, 0])
        ),
        "another-token-read: the norm is in place, but these are not the scores of the"
        " class token, which is token 0": answers(
            classify(lambda x: x[:, 1]),
            classify(lambda x: x.mean(dim=1)),
        ),
    },
    otherwise="blocks, norm, head of token 0 give other scores",
)


def prepend(token, x):
    return torch.cat([token.expand(len(x), -1, -1), x], dim=1)


patient(
    "12.20",
    right=prepend,
    readings={
        "the gradient of the token is not the sum of its copies'": (
            lambda f: slope(lambda token: f(token, draw(3, 5, 6)), draw(1, 1, 6))
        ),
        "row 0 is not the class token, or the other tokens have changed": (
            lambda f: f(draw(1, 1, 6), draw(3, 5, 6, seed=1))
        ),
    },
    other=lambda f: f(draw(1, 1, 4), draw(2, 3, 4, seed=1)),
    mistakes={
        "token-cut-off: now the token really starves: no gradient reaches it at"
        " all": lambda token, x: prepend(token.detach(), x),
        "gradient-shared-out: the gradient is a third of the sum over its three copies:"
        " which step divides?": lambda token, x: prepend(token / len(x), x),
        "token-behind: the class token comes last, but the head reads index"
        " 0": lambda token, x: prepend(token, x).roll(-1, dims=1),
    },
)


class NotTold(nn.Dropout):
    def forward(self, x):
        return F.dropout(x, self.p)


def passes(answer) -> list[Tensor]:
    """The scores of 50 rows of features, 2 times in eval and 3 times in training."""
    layer, x = answer(linear(6, 4), 0.5), draw(50, 6)
    calm = torch.stack([layer.eval()(x) for _ in range(2)])
    layer.train()
    return [calm, torch.stack([layer(x) for _ in range(3)])]


def dropped(answer) -> Tensor:
    """The share of ones that survives, and their new size, to one digit."""
    ones = answer(nn.Identity(), 0.2).train()(torch.ones(5_000, 10))
    return torch.stack([(ones != 0).float().mean(), ones.max()]).round(decimals=1)


patient(
    "12.21",
    right=lambda head, drop: nn.Sequential(nn.Dropout(drop), head),
    trial=passes,
    readings={
        "function-not-told": lambda both: both[0].std(dim=0),
        "in eval the read-out is the head alone": lambda both: both[0][0],
        "off-for-ever": lambda both: both[1][1:].std(dim=0).any().item(),
        "drops-the-scores": lambda both: (both[1] == 0).any().item(),
    },
    other=dropped,
    mistakes={
        "function-not-told: two passes in eval still differ: the dropout does not know"
        " the mode": lambda head, drop: nn.Sequential(NotTold(drop), head),
        "off-for-ever: two passes in eval agree, but in training nothing is"
        " dropped either": lambda head, drop: nn.Sequential(head),
        "drops-the-scores: in training some class scores are 0: drop channels instead,"
        " before the head": lambda head, p: nn.Sequential(head, nn.Dropout(p)),
    },
)


def frozen(answer) -> tuple[str, list[bool]]:
    """Which weights of a body still learn, and the mode of each of its dropouts."""
    inner = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5).eval())
    body = nn.Sequential(inner, nn.LayerNorm(5), nn.Dropout(0.5), nn.Linear(5, 4))
    body, x = answer(body), draw(3, 6).float().requires_grad_()
    (body(x).sum() + x.sum()).backward()
    learning = [name for name, part in body.named_parameters() if part.grad is not None]
    drops = [part.training for part in body.modules() if isinstance(part, nn.Dropout)]
    return ", ".join(learning), drops


patient(
    "12.22",
    right=lambda backbone: backbone.requires_grad_(False),
    trial=frozen,
    readings={
        "inner-layers-forgotten": lambda seen: seen[0],
        "the modes of its dropouts are {got}, and they were {right}": (
            lambda seen: seen[1]
        ),
    },
    mistakes={
        "eval-taken-for-frozen: all 6 parameters still learn, and the next step will"
        " move them": lambda backbone: backbone.eval(),
        "inner-layers-forgotten: some are frozen, but {got} still learn": lambda net: (
            net[3].requires_grad_(False) and net
        ),
        "dropout-frozen-too: the weights no longer learn, and dropout is off as well:"
        " it should work as before": lambda net: net.eval().requires_grad_(False),
        "all-of-it-in-training: the weights no longer learn, but a dropout that was in"
        " eval mode drops now: each should keep its mode": (
            lambda net: net.train().requires_grad_(False)
        ),
    },
)


patient(
    "12.23",
    right=soft_distillation,
    trial=lambda f: f(draw(6, 4).requires_grad_(), 3 * draw(6, 4, seed=1), 2.0),
    other=lambda f: f(draw(5, 3), draw(5, 3, seed=1), 4.0),
    readings={
        "the definition gives {right:.3f}, yours {got:.3f}": itself,
        "the student gets no gradient": lambda loss: loss.requires_grad,
    },
    mistakes={
        "teacher-meets-itself: still 0 for a student with random scores: where is the"
        " student used?": lambda s, t, tau: soft_distillation(t, t, tau),
        "student-meets-itself: still 0 for a student with random scores: where is the"
        " teacher used?": lambda s, t, tau: soft_distillation(s, s, tau),
        "guess-and-truth-swapped: this is KL(student || teacher): which of the two"
        " is the target, and which is the guess?": lambda s, t, tau: soft_distillation(
            t, s, tau
        ),
    },
)


class Distiller(nn.Module):
    """The distiller of exercise 12.24, with parts inside parts."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
        self.teacher = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, 6))
        self.distillation_head = nn.Linear(5, 4)


def trained(answer) -> tuple[str, str]:
    """The names of the parameters that an optimizer gets, and of those left out."""
    distiller = Distiller()
    names = {id(part): name for name, part in distiller.named_parameters()}
    optimizer = torch.optim.SGD(answer(distiller), lr=0.1)
    given = sorted(
        names[id(part)]
        for group in optimizer.param_groups
        for part in group["params"]
        if part.requires_grad
    )
    students = [name for name in names.values() if not name.startswith("teacher")]
    return ", ".join(given), ", ".join(n for n in students if n not in given)


def to_train(*parts):
    return lambda distiller: [
        part for name, part in distiller.named_parameters() if name.startswith(parts)
    ]


patient(
    "12.24",
    right=to_train("student", "distillation"),
    trial=trained,
    readings={
        "teacher-learns-too": lambda names: "teacher" in names[0],
        "in no optimizer: {got}. What would move these?": (lambda names: names[1]),
        "a parameter is in the list twice, and would be moved twice": itself,
    },
    mistakes={
        "teacher-learns-too: the teacher is in the optimizer, so it would learn from"
        " its student": to_train(""),
    },
)


SPLITS = [
    (s, *kind) for s in range(20, 33) for kind in ((7, 4, 2), (3, 2, 1), (5, 2, 2))
]


def windows(side, kernel, stride, padding):
    return (side + 2 * padding - kernel) // stride + 1


def counted(answer) -> tuple[list[int], list[int]]:
    """The sides where the count differs from unfold's, and all the counts."""
    counts = [answer(*split) for split in SPLITS]
    pairs = zip(SPLITS, counts, strict=True)
    return sorted({split[0] for split, n in pairs if n != windows(*split)}), counts


SIDES = "not what unfold makes for sides {got[0]}"
patient(
    "12.25",
    right=windows,
    trial=counted,
    mistakes={
        f"rounded-up: {SIDES}: where the division leaves no remainder, rounding up adds"
        " nothing": lambda s, k, t, p: -((k - s - 2 * p) // t),
        f"rounded-up-and-one: {SIDES}: where the division leaves a remainder, part of a"
        " window is counted as one": lambda s, k, t, p: 1 - (k - s - 2 * p) // t,
        f"first-window-forgotten: {SIDES}, one too few everywhere: the first window"
        " needs no step": lambda s, k, t, p: (s + 2 * p - k) // t,
        f"padding-on-one-side: {SIDES}: the padding is added on both"
        " sides": lambda s, k, t, p: windows(s + p, k, t, 0),
        f"padding-forgotten: {SIDES}: the padding is not counted": (
            lambda s, k, t, p: windows(s, k, t, 0)
        ),
    },
    otherwise=SIDES,
)


def perform(*order):
    """Linear attention, given the places of queries, keys and values."""

    def perform(x, kqv, w):
        q, k, v = torch.stack(kqv(x).chunk(3, dim=-1))[list(order)]
        return linear_attention(positive_features(q, w), positive_features(k, w), v)

    return perform


patient(
    "12.26",
    right=perform(1, 0, 2),
    trial=lambda f: f(draw(2, 5, 6), linear(6, 12), draw(3, 4, seed=1)),
    other=lambda f: f(draw(1, 3, 4), linear(4, 24), draw(5, 8, seed=1)),
    mistakes={
        "queries-read-first: the first part is still taken for the queries: what is the"
        " matrix called?": perform(0, 1, 2),
        "values-read-first: the first part is mixed, as if it were the values: which"
        " letter of the name comes last?": answers(perform(1, 2, 0), perform(2, 1, 0)),
        "values-in-the-middle: the second part is mixed, as if it were the values:"
        " which letter of the name comes last?": answers(
            perform(0, 2, 1), perform(2, 0, 1)
        ),
    },
    otherwise="this is not the linear attention of the queries, keys and values",
    atol=1e-5,
)


def fold(windows, side):
    return F.fold(windows.mT, side, 7, stride=4, padding=2)


def lay_back(divide):
    """Lay back by a function of the sums and of the windows over each pixel."""
    return lambda windows, side: divide(
        fold(windows, side), fold(torch.ones_like(windows), side)
    )


def brightness(answer, channels=3, side=16) -> Tensor:
    image = draw(2, channels, side, side).abs() + 1
    return answer(F.unfold(image, 7, stride=4, padding=2).mT, side) / image


TIMES = "a pixel is {low:.2f} to {high:.2f} times as bright as before"
patient(
    "12.27",
    right=lay_back(lambda total, times: total / times),
    trial=brightness,
    other=lambda f: brightness(f, channels=1, side=20),
    mistakes={
        f"overlaps-added: {TIMES}: what several windows contain is still added"
        " up": lay_back(lambda total, times: total),
        f"windows-averaged: {TIMES}: 49 is the number of pixels in a window, not of"
        " windows over a pixel": lay_back(lambda total, times: total / 49),
        f"one-factor-for-all: {TIMES}: the dark lines are still there. Is the number"
        " of windows the same for all pixels?": answers(
            lay_back(lambda total, times: total / 4),
            lay_back(lambda total, times: total / times.mean()),
            lay_back(lambda total, times: total / times**2),
        ),
    },
    otherwise=f"{TIMES}; it should be 1 everywhere",
)
