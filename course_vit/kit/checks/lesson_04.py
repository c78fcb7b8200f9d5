"""Checks of lesson 04: heads."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from . import exercise, expect, expect_letter, expect_raises
from .probes import same, trying


def tokens(b: int, n: int, d: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(b, n, d, dtype=torch.float64)


def linears(dim: int) -> SimpleNamespace:
    """The two linear maps of a layer; their biases are not zero."""
    torch.manual_seed(1)
    qkv = nn.Linear(dim, 3 * dim, dtype=torch.float64)
    proj = nn.Linear(dim, dim, dtype=torch.float64)
    return SimpleNamespace(qkv=qkv, proj=proj)


def mix(
    q: Tensor, k: Tensor, v: Tensor, scale: float = 0, dim: int = -1, after: float = 1
) -> Tensor:
    """Attention written once more; `scale`, `dim` and `after` make known mistakes."""
    scores = q @ k.mT * (scale or q.shape[-1] ** -0.5)
    return after * scores.softmax(dim) @ v


def parts_by_head(layer: Any, x: Tensor, num_heads: int) -> list[Tensor]:
    """The referee's q, k, v, `b h n e`: every head has its own rows of the weights."""
    e = x.shape[-1] // num_heads
    thirds = zip(layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3), strict=True)
    return [
        torch.stack(
            [x @ w.T + c for w, c in zip(weight.split(e), bias.split(e), strict=True)],
            dim=1,
        )
        for weight, bias in thirds
    ]


def by_heads(layer: Any, x: Tensor, num_heads: int) -> Tensor:
    """The referee: one head after the other."""
    parts = [part.unbind(1) for part in parts_by_head(layer, x, num_heads)]
    return layer.proj(
        torch.cat([mix(q, k, v) for q, k, v in zip(*parts, strict=True)], dim=-1)
    )


def shuffle_error(layer: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """How far outputs of shuffled tokens are from shuffled outputs, at most."""
    order = torch.arange(x.shape[1]).roll(1)
    return (layer(x[:, order]) - layer(x)[:, order]).abs().max().item()


def expect_hearing(layer: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """A change of the last token must reach the others of its image."""
    other = x.clone()
    other[:, -1] += 1
    moved = (layer(other) - layer(x))[:, :-1].abs().max() > 1e-9
    expect(
        moved,
        f"token {x.shape[1] - 1} was changed, and what comes out for the others is as"
        " before: among whom was attention paid? Write the letters of q, k and v",
        "attends-among-heads",
    )


DEAF = "lets the heads of one token attend to each other, and no token to another"
MOVED_BACK = "glues the last axes as they stand, without moving the heads back"
APART = "puts the heads together so that their channels alternate"

LINES = {
    "A": "q, k, v = qkv.unbind(0)",
    "B": "out = to_out(out)",
    "C": "qkv = qkv.reshape(3, b, h, n, e)",
    "D": "qkv = to_qkv(x)",
    "E": "out = attention(q, k, v)",
    "F": 'out = rearrange(out, "b h n e -> b n (h e)")',
    "G": 'qkv = rearrange(qkv, "b n (three h e) -> three b h n e", three=3, h=h)',
}


def run_lines(labels: list[str], layer: SimpleNamespace, x: Tensor) -> Tensor:
    """What is called `out` after these lines, for 3 heads of width 4."""
    names: dict[str, Any] = {"x": x, "b": len(x), "n": x.shape[1], "h": 3, "e": 4}
    names |= {"to_qkv": layer.qkv, "to_out": layer.proj}
    names |= {"attention": mix, "rearrange": rearrange}
    for label in labels:
        try:
            exec(LINES[label], names)
        except Exception as error:
            width = names["out"].shape[-1] if "out" in names else 12
            expect(
                label != "B" or width == 12,
                f"your lines were run, and line B stopped: `to_out` takes the 12"
                f" numbers of a token, and the last axis of `out` has {width}",
                "last-map-before-merge",
            )
            reason = str(error).strip().partition("\n")[0]
            what = f"line {label} stopped with {type(error).__name__}: {reason}"
            expect(False, f"your lines were run, and {what}")
    expect("out" in names, "your lines were run, and nothing is called `out`")
    return names["out"]


@exercise(
    "4.1",
    {
        "reshape-into-heads": "a reshape can carry the heads past the tokens",
        "decoy-kept": "keeps a line that has nothing left to do",
        "last-map-before-merge": "maps heads before they stand side by side",
        "last-map-forgotten": "takes heads laid side by side for the whole layer",
    },
)
def order(answer: Any) -> None:
    said = answer if isinstance(answer, str) else [str(label) for label in answer]
    labels = [letter for label in said for letter in label.upper() if letter.isalnum()]
    unknown = [label for label in labels if label not in LINES]
    expect(not unknown, f"there is no line {unknown}, only {', '.join(LINES)}")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    expect(not twice, f"use a line once, {', '.join(twice)} stands there more often")
    layer, x = linears(12), tokens(2, 5, 12)
    with torch.no_grad():
        got, right = run_lines(labels, layer, x), by_heads(layer, x, 3)
        ended = f"your lines end with shape {tuple(got.shape)}"
        expect(got.shape == right.shape, f"{ended}; tokens (2, 5, 12) went in")
        error = shuffle_error(lambda x: run_lines(labels, layer, x), x)
    expect(
        error < 1e-9,
        "your lines run and the shape is right. But shuffle the tokens that go in:"
        f" what comes out is not shuffled alike, it differs by up to {error:.2f}."
        " Which line forgets whose number is whose?",
        "reshape-into-heads",
    )
    expect(
        same(got, right),
        "your lines run, and every head has its answer. But the channels of one head"
        " never hear of another: which line would mix them?",
        "last-map-forgotten",
    )
    expect(
        "C" not in labels,
        f"the numbers are right, with {len(labels)} lines. One of them finds its work"
        " already done: which one changes nothing?",
        "decoy-kept",
    )


@exercise(
    "4.2",
    {
        "heads-left-behind-tokens": "cuts heads, but leaves them behind the tokens",
        "reshape-into-heads": "a reshape can carry the heads past the tokens",
        "parts-cut-from-each-head": "cuts heads first, and q, k, v out of each head",
        "parts-exchanged": "takes the three parts of qkv in another order",
        "channels-dealt-out": "deals the channels out to the heads in turn",
        "scale-of-the-model": "divides by the root of the model's width",
        "scale-left-out": "leaves the scores undivided",
        "scale-after-softmax": "divides the weights instead of the scores",
        "softmax-over-heads": "the softmax shares out among heads",
        "softmax-over-queries": "the softmax shares out among queries",
        "attends-among-heads": DEAF,
        "last-map-forgotten": "takes heads laid side by side for the whole layer",
        "heads-not-moved-back": MOVED_BACK,
        "channels-interleaved": APART,
        "attention-dropout-ignored": "builds the attention dropout and never uses it",
        "results-dropped": "drops results of attention instead of weights",
        "output-dropout-ignored": "builds the output dropout and never uses it",
        "dropped-before-proj": "drops before the last map instead of after it",
        "drops-in-eval": "takes a functional dropout to know when the model trains",
    },
)
def multi_head_attention(answer: Any) -> None:
    torch.manual_seed(1)
    layer, x = answer(12, num_heads=3).double(), tokens(2, 5, 12)
    for linear in (layer.qkv, layer.proj):
        nn.init.normal_(linear.bias)
    with torch.no_grad():
        judge_tokens(layer, x, 3)
        judge_channels(answer(12, num_heads=3).double(), x, 3)
        for part, truth in zip(
            layer.split_heads(x), parts_by_head(layer, x, 3), strict=True
        ):
            expect(same(part, truth), "split_heads does not give what `qkv` makes of x")
        judge_forward(layer, x, 3)
        judge_dropout(answer, x)
    narrow = x[..., :-1]
    expect_raises(layer, (narrow,), ValueError, f"tokens {tuple(narrow.shape)}")
    with torch.no_grad():
        judge_other_sizes(answer)
    alone = x[0]
    what = f"tokens {tuple(alone.shape)}, without the axis of the images,"
    expect_raises(layer, (alone,), ValueError, what)
    expect_raises(layer.split_heads, (alone,), ValueError, what)
    for sizes in ((10, 3), (0, 1), (4, 0)):
        what = f"a layer of {sizes[0]} channels and {sizes[1]} heads"
        expect_raises(answer, sizes, ValueError, what)


def judge_tokens(layer: Any, x: Tensor, h: int) -> None:
    """Shapes of split_heads, and that a token stays in one piece."""
    (b, n, d), parts = x.shape, layer.split_heads(x)
    shapes, right = [tuple(part.shape) for part in parts], (b, h, n, d // h)
    gave = f"split_heads gave shapes {shapes}"
    expect(
        shapes != [(b, n, h, d // h)] * 3,
        f"{gave}, b n h e: attention mixes along the last axis but one, and there the"
        " heads stand now",
        "heads-left-behind-tokens",
    )
    expect(shapes == [right] * 3, f"{gave}, not 3 times {right}")
    other = x.clone()
    other[:, -1] += 1
    change = (layer.split_heads(other)[0] - parts[0]).abs().amax(dim=(0, 1, 3))
    moved = change.gt(1e-9).nonzero().flatten().tolist()
    expect(moved, f"token {n - 1} was changed, and no query moved: is `qkv` asked?")
    expect(
        moved == [n - 1],
        f"only token {n - 1} was changed, yet the queries {moved} moved: a head holds"
        " pieces of several tokens. Name every axis before you move one",
        "reshape-into-heads",
    )


def judge_channels(layer: Any, x: Tensor, h: int) -> None:
    """Which channels of `qkv` go where; they are numbered by its bias."""
    d = x.shape[-1]
    nn.init.zeros_(layer.qkv.weight)
    layer.qkv.bias.copy_(torch.arange(3 * d))
    found = torch.stack([part[0, :, 0] for part in layer.split_heads(x)])  # 3 h e
    if found.flatten().sort().values.tolist() != list(range(3 * d)):
        return  # no mere change of order
    thirds = [sorted(set(part.flatten().tolist())) for part in found // d]
    expect(
        all(len(third) == 1 for third in thirds),
        f"head 0 takes its query from the channels {found[0, 0].int().tolist()} of"
        f" qkv: these are not all among the first {d}, where published weights keep"
        " the queries of all heads",
        "parts-cut-from-each-head",
    )
    given = [int(third[0]) for third in thirds]
    expect(
        given == [0, 1, 2],
        "counted from 0, qkv holds queries, keys and values as thirds 0, 1 and 2;"
        f" split_heads gives the thirds {given}",
        "parts-exchanged",
    )
    own = found[0, 0].int().tolist()
    expect(
        torch.equal(found.flatten(), torch.arange(3 * d).to(found)),
        f"head 0 takes its query from the channels {own} of qkv: in published weights"
        " the channels of one head are neighbours, head after head",
        "channels-dealt-out",
    )


def judge_forward(layer: Any, x: Tensor, h: int) -> None:
    got, right = layer(x), by_heads(layer, x, h)
    came = f"forward gave {tuple(got.shape)}, not {tuple(x.shape)}"
    expect(got.shape == x.shape, came)
    expect_hearing(layer, x)
    q, k, v = parts_by_head(layer, x, h)
    d, e = x.shape[-1], q.shape[-1]
    over_keys = "then the weights of a query do not sum to 1 over the keys"
    merge = "b h n e -> b n (h e)"
    for slug, hint, mistake in (
        (
            "scale-of-the-model",
            "the scores look divided by the root of the model's width: which two"
            " vectors were multiplied, and how wide are they?",
            {"scale": d**-0.5},
        ),
        (
            "scale-left-out",
            "the scores look as if nothing had divided them (lesson 3)",
            {"scale": 1.0},
        ),
        (
            "scale-after-softmax",
            "the scale was applied after the softmax: weights that summed to 1 now sum"
            f" to {e**-0.5:.1f}, and the softmax saw the large scores",
            {"scale": 1.0, "after": e**-0.5},
        ),
        (
            "softmax-over-heads",
            f"the softmax ran over the heads: {over_keys}",
            {"dim": 1},
        ),
        (
            "softmax-over-queries",
            f"the softmax ran over the queries: {over_keys}",
            {"dim": 2},
        ),
    ):
        wrong = layer.proj(rearrange(mix(q, k, v, **mistake), merge))
        expect(not same(got, wrong), hint, slug)
    mixed = mix(q, k, v)
    expect(
        not same(got, rearrange(mixed, merge)),
        "the heads stand side by side, but nothing has mixed them yet: where is proj?",
        "last-map-forgotten",
    )
    error = shuffle_error(layer, x)
    expect(
        error < 1e-9,
        "the shape is right, but shuffle the tokens that go in: what comes out is not"
        f" shuffled alike, it differs by up to {error:.2f}. How were the heads merged?",
        "heads-not-moved-back",
    )
    worst = (got - right).abs().max().item()
    loop = f"a loop over the heads gives other numbers, by up to {worst:.2f}"
    expect(
        not same(got, layer.proj(rearrange(mixed, "b h n e -> b n (e h)"))),
        f"{loop}: do the channels of a head lie side by side when proj comes?",
        "channels-interleaved",
    )
    expect(same(got, right), loop)


def judge_dropout(answer: Any, x: Tensor) -> None:
    """Both dropouts act, where they should, and only in training."""
    torch.manual_seed(2)
    weights = answer(12, num_heads=3, attn_drop=0.5).double()
    results = answer(12, num_heads=3, proj_drop=0.5).double()
    expect(
        not same(weights(x), weights(x)),
        "attn_drop=0.5 does nothing: two passes in training came out equal",
        "attention-dropout-ignored",
    )
    expect(
        not same(results(x), results(x)),
        "proj_drop=0.5 does nothing: two passes in training came out equal",
        "output-dropout-ignored",
    )
    expect(
        (results(x) == 0).any(),
        f"with proj_drop=0.5 not one of {x.numel()} numbers that come out is 0: what"
        " stands between this dropout and the end?",
        "dropped-before-proj",
    )
    nn.init.eye_(weights.proj.weight)
    nn.init.zeros_(weights.proj.bias)
    alike = x[:, :1].expand_as(x)  # equal values: dropped weights scale a head as one
    noisy = weights(alike)
    for layer in (weights.eval(), results.eval()):
        expect(
            same(layer(x), layer(x)),
            "two passes in eval differ: dropping belongs to training, and a dropout"
            " that is a function does not know the mode",
            "drops-in-eval",
        )
    factor = rearrange(noisy / weights(alike), "b n (h e) -> b n h e", h=3)
    expect(
        (factor - factor[..., :1]).abs().max() < 1e-6,
        "attn_drop treats the channels of one head differently: it shall drop looks,"
        " numbers of `b h n m`, not what the looks have found",
        "results-dropped",
    )
    many = tokens(400, 1, 12).expand(400, 5, 12)
    dropped, calm = weights.train()(many), weights.eval()(many)
    mean = ((dropped * calm).sum() / calm.square().sum()).item()
    expect(
        abs(mean - 1) < 0.1,
        f"with attn_drop=0.5 a look counts {mean:.2f} of what it should, on average:"
        " what does dropout do to what it keeps?",
    )


def judge_other_sizes(answer: Any) -> None:
    """One head, heads of width 1, one token; without a bias; in float32."""
    for d, h, b, n in ((6, 1, 2, 5), (5, 5, 2, 5), (12, 3, 1, 1)):
        layer, x = answer(d, num_heads=h).double(), tokens(b, n, d)
        case = f"{h} heads of width {d // h} and tokens {b, n, d}"
        with trying(case):
            got = layer(x)
        error = (got - by_heads(layer, x, h)).abs().max().item()
        expect(
            got.shape == x.shape and error < 1e-12,
            f"right for 3 heads of width 4; {case} give {tuple(got.shape)}, off by up"
            f" to {error:.0e}",
        )
    layer, x = answer(12, num_heads=3, qkv_bias=False).double(), tokens(2, 5, 12)
    with trying("a layer with qkv_bias=False"):
        got = layer(x)
    layer.qkv.bias = nn.Parameter(torch.zeros(36, dtype=torch.float64))
    expect(same(got, by_heads(layer, x, 3)), "with qkv_bias=False the answer is off")
    layer = answer(12, num_heads=3)
    with trying("tokens in float32"):
        got = layer(x.float())
    expect(
        torch.allclose(got.double(), layer.double()(x), atol=1e-4),
        "right in float64; in float32 other numbers come out",
    )


@exercise(
    "4.3",
    {
        "heads-cost-extra": "every head brings matrices of its own, of the full width",
        "small-heads-cost-less": "narrower heads make a smaller layer",
    },
)
def cost(answer: Any) -> None:
    slices = "a head is e = d / h wide: write down the shapes of its matrices, times h"
    expect_letter(
        answer,
        "B",
        {
            "A": ("heads-cost-extra", f"there are more heads, but {slices}"),
            "C": ("small-heads-cost-less", f"each head is smaller, but {slices}"),
        },
    )


@exercise(
    "4.4",
    {
        "heads-not-moved-back": MOVED_BACK,
        "attends-among-heads": DEAF,
        "channels-interleaved": APART,
    },
)
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
            "shapes agree and it would train. But tokens that went in shuffled came out"
            f" otherwise: off by up to {error:.2f}. `mixed` is b h n e: in which order"
            " does the next line need its axes?",
            "heads-not-moved-back",
        )
        expect_hearing(lambda x: answer(layer, x), x)
    worst = (got - right).abs().max().item()
    loop = f"tokens stay whole, but a loop over the heads differs by up to {worst:.2f}"
    q, k, v = parts_by_head(layer, x, 3)
    crossed = rearrange(mix(q, k, v), "b h n e -> b n (e h)")
    expect(
        not same(got, layer.proj(crossed)),
        f"{loop}: the channels of one head must lie side by side",
        "channels-interleaved",
    )
    expect(same(got, right), f"{loop}: only one line was broken")


@exercise(
    "4.5",
    {
        "verdict-turned-round": "says True for a tight layer, False for a leak",
        "every-image-changed": "changes one token of all images and calls it one image",
        "changed-image-watched": "watches the image that was changed itself",
        "nothing-changed": "images mixed up with tokens would show in a shape",
        "other-token-watched": "changes one token and watches for it in another place",
    },
)
def leaks(answer: Any) -> None:
    seen: list[Tensor] = []

    def within_images(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return mix(x, x, x)

    def across_images(x: Tensor) -> Tensor:
        return within_images(x.transpose(0, 1)).transpose(0, 1)

    for b, n in ((2, 6), (4, 4)):
        x, where = tokens(b, n, 8), f"(b={b}, n={n})"
        leaky = bool(answer(across_images, x))
        seen.clear()
        tight = bool(answer(within_images, x))
        expect(seen, "your test never ran the layer it was lent")
        changed = torch.zeros(b, n, dtype=torch.bool)
        for other in seen:
            if other.shape == x.shape:
                changed |= (other != x).any(dim=-1)
        images = int(changed.any(dim=1).sum())
        called = f"a layer that mixes only inside each image was called leaky {where}:"
        expect(
            not tight or images < b,
            f"{called} your test changed something in {images} of {b} images, so none"
            " was left to watch",
            "every-image-changed",
        )
        expect(
            leaky or not tight,
            f"a layer that leaks was called tight and a tight one leaky {where}: which"
            " of the two does True stand for?",
            "verdict-turned-round",
        )
        expect(
            not tight or not images,
            f"{called} your test changed {images} of {b} images. Whose output did it"
            " look at?",
            "changed-image-watched",
        )
        expect(not tight, f"{called} what did your test compare?")
        missed = f"a layer that mixes token i of all images was not noticed {where}"
        expect(
            leaky or not all(torch.equal(other, x) for other in seen),
            f"{missed}: the layer was asked with unchanged tokens only. A mix-up of b"
            " and n keeps every shape; change one image, and watch another",
            "nothing-changed",
        )
        per_image = int(changed.sum(dim=1).max())
        expect(
            leaky or not 0 < per_image < n,
            f"{missed}: your test changed {per_image} of {n} tokens of an image. If"
            " this leak carries token i to token i, where must one look?",
            "other-token-watched",
        )
        expect(leaky, missed)
