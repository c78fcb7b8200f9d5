"""Checks of lesson 04: heads."""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ...multi_head_attention import MultiHeadAttention
from ...self_attention import attention
from .judge import answers, backward, choose, draw, elsewhere, exercise

X = draw(2, 5, 12)


@torch.no_grad()
def built(answer=MultiHeadAttention, dim=12, heads=3, tokens=X, **more) -> Any:
    """A layer in the dtype of the tokens, the same numbers in each; no bias is zero."""
    layer = answer(dim, num_heads=heads, **more).to(tokens.dtype)
    torch.manual_seed(1)
    for linear in (layer.qkv, layer.proj):
        for parameter in linear.parameters():
            nn.init.normal_(parameter, std=0.3)
    return layer


@torch.no_grad()
def shuffle_error(layer) -> float:
    """How far outputs of shuffled tokens are from shuffled outputs, at most."""
    order = torch.arange(5).roll(1)
    return (layer(X[:, order]) - layer(X)[:, order]).abs().max().item()


@torch.no_grad()
def is_heard(layer) -> bool:
    """Whether a change of the last token reaches the others of its image."""
    other = X.clone()
    other[:, -1] += 1
    return bool((layer(other) - layer(X))[:, :-1].abs().max() > 1e-9)


# What a layer may do from q, k and v on, in 4.2 and 4.4


def mix(q, k, v, scale=None, dim=-1, drop=lambda weights: weights) -> Tensor:
    scores = q @ k.mT * (scale or q.shape[-1] ** -0.5)
    return drop(scores.softmax(dim)) @ v


def merged(mixed: Tensor) -> Tensor:
    return rearrange(mixed, "b h n e -> b n (h e)")


def heads(layer, q, k, v) -> Tensor:
    """What the heads have found, side by side."""
    return merged(mix(q, k, v, drop=layer.attn_drop))


def of_the_middle(answer) -> dict:
    """Mistakes that are made with q, k and v; `answer` makes answers of them."""
    return {
        "attends-among-heads: token 4 was changed, and the outputs of the other tokens"
        " stayed the same: over which axis did your attention mix? Write down the axes"
        " of q, k and v": (
            answer(lambda *qkv: mix(*[x.transpose(1, 2) for x in qkv]).flatten(2))
        ),
        "heads-not-moved-back: the shape is right, but if the tokens are shuffled, the"
        " outputs are not shuffled in the same way: they differ by up to {got:.2f}. The"
        " heads were b h n e: in which order does the line that merges them need its"
        " axes?": answer(
            lambda *qkv: mix(*qkv).flatten(1).unflatten(1, (qkv[0].shape[2], -1))
        ),
        "channels-interleaved: the results differ from those of a loop over the heads"
        " by up to {off:.2f}: do the channels of a head lie side by side when proj"
        " reads them?": (
            answer(lambda *qkv: rearrange(mix(*qkv), "b h n e -> b n (e h)"))
        ),
    }


# 4.1 Put the lines in order

LINES = {
    "A": "q, k, v = qkv.unbind(0)",
    "B": "out = to_out(out)",
    "C": "qkv = qkv.reshape(3, b, h, n, e)",
    "D": "qkv = to_qkv(x)",
    "E": "out = attention(q, k, v)",
    "F": 'out = rearrange(out, "b h n e -> b n (h e)")',
    "G": 'qkv = rearrange(qkv, "b n (three h e) -> three b h n e", three=3, h=h)',
}


def labels(answer) -> list[str]:
    return [letter for label in answer for letter in label.upper() if letter.isalnum()]


def run_lines(answer, x: Tensor = X) -> tuple[str, Any]:
    """What stopped the lines, and what is called `out` after them."""
    layer = built()
    names: dict[str, Any] = {"x": x, "b": 2, "n": 5, "h": 3, "e": 4}
    names |= {"to_qkv": layer.qkv, "to_out": layer.proj}
    names |= {"attention": attention, "rearrange": rearrange}
    for label in labels(answer):
        try:
            exec(LINES[label], names)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            return f"line {label} stopped with {type(error).__name__}: {reason}", None
    return "" if "out" in names else "nothing is called `out`", names.get("out")


order = exercise(
    "4.1",
    right="DGAEFB",
    trial={
        f"there is no line {{got}}, only {', '.join(LINES)}": (
            lambda answer: [label for label in labels(answer) if label not in LINES]
        ),
        "use each line once: {got} appears more often": lambda answer: ", ".join(
            label for label in LINES if labels(answer).count(label) > 1
        ),
        "your lines were run, and {got}": lambda answer: run_lines(answer)[0],
        "your lines end with shape {got}; tokens (2, 5, 12) went in": (
            lambda answer: tuple(run_lines(answer)[1].shape)
        ),
        "reshape-into-heads": (
            lambda answer: shuffle_error(lambda x: run_lines(answer, x)[1])
        ),
        "last-map-forgotten": lambda answer: run_lines(answer)[1],
        "decoy-kept": lambda answer: len(labels(answer)),
    },
)
order.mistakes |= {
    "last-map-before-merge: your lines were run, and line B stopped: `to_out` expects"
    " the 12 numbers of a token, and the last axis of `out` has 4": "DGAEB",
    "reshape-into-heads: your lines run and the shape is right. But if the tokens are"
    " shuffled, the outputs are not shuffled in the same way: they differ by up to"
    " {got:.2f}. Which line gives numbers of one token to a different one?": "DCAEFB",
    "last-map-forgotten: your lines run, and every head has its answer. But"
    " nothing has mixed the channels of different heads yet: which line would?": (
        "DGAEF"
    ),
    "decoy-kept: the numbers are right, with {got} lines. Which one"
    " of them changes nothing, because its work is already done?": "DGCAEFB",
}

# 4.2 Write the layer


def queries_moved(answer) -> list[int]:
    """The queries that change if the last token does."""
    other, layer = X.clone(), built(answer)
    other[:, -1] += 1
    change = layer.split_heads(other)[0] - layer.split_heads(X)[0]
    return change.abs().amax(dim=(0, 1, 3)).gt(1e-9).nonzero().flatten().tolist()


@torch.no_grad()
def channels(answer) -> Tensor:
    """Which channel of `qkv` goes where, `three h e`: its bias numbers them."""
    layer = built(answer)
    nn.init.zeros_(layer.qkv.weight)
    layer.qkv.bias.copy_(torch.arange(36))
    return torch.stack([part[0, :, 0] for part in layer.split_heads(X)])


def queries_from_other_thirds(answer) -> list[int]:
    """The channels of the first query, if a part is cut out of several thirds."""
    found = channels(answer)
    thirds = (found // 12).flatten(1)
    mixed = (thirds != thirds[:, :1]).any()
    return found[0, 0].int().tolist() if mixed else []


def varies(answer, mode=True, **drop) -> bool:
    """Whether two passes differ."""
    layer = built(answer, **drop).train(mode)
    return not torch.equal(layer(X), layer(X))


@torch.no_grad()
def drops_looks(answer, images=400) -> tuple[bool, float]:
    """Whether a head's channels are dropped as one, and what is left on average.

    All values of an image are equal, so that dropped weights only scale a head.
    """
    layer = built(answer, attn_drop=0.5)
    nn.init.eye_(layer.proj.weight)
    nn.init.zeros_(layer.proj.bias)
    x = draw(images, 1, 12).expand(images, 5, 12)
    dropped, calm = layer(x), layer.eval()(x)
    factor = rearrange(dropped / calm, "b n (h e) -> b n h e", h=3)
    as_one = bool((factor - factor[..., :1]).abs().max() < 1e-6)
    mean = ((dropped * calm).sum() / calm.square().sum()).item()
    return as_one, 1.0 if abs(mean - 1) < 0.1 else mean


def keeps_its_mode(answer) -> bool:
    """Whether the layer and its parts are after a pass in the mode they were in."""
    layers = {mode: built(answer).train(mode) for mode in (True, False)}
    for layer in layers.values():
        layer(X)
    return all(p.training == mode for mode in layers for p in layers[mode].modules())


def sized(dim, heads, b, n, dtype=torch.float64, **more):
    """The trial of a layer of another size."""
    x = draw(b, n, dim, dtype=dtype)
    return lambda f: built(f, dim, heads, x, **more)(x)


layer = exercise(
    "4.2",
    right=MultiHeadAttention,
    trial={
        "split_heads gave shapes {got}, not {right}": lambda f: [
            tuple(part.shape) for part in built(f).split_heads(X)
        ],
        "reshape-into-heads": queries_moved,
        "split_heads does not return the numbers that `qkv` computes from x": (
            lambda f: channels(f).flatten().sort().values
        ),
        "parts-cut-from-each-head": queries_from_other_thirds,
        "parts-exchanged": lambda f: (channels(f) // 12)[:, 0, 0].int().tolist(),
        "channels-of-a-head-apart": lambda f: channels(f)[0, 0].int().tolist(),
        "split_heads is off by up to {off:.2f}": (
            lambda f: torch.stack([*built(f).split_heads(X)])
        ),
        "forward gave {got}, not {right}": lambda f: tuple(built(f)(X).shape),
        "attends-among-heads": lambda f: is_heard(built(f)),
        "heads-not-moved-back": lambda f: shuffle_error(built(f)),
        "the results differ from those of a loop over the heads by up to {off:.2f}": (
            lambda f: built(f)(X)
        ),
        "attention-dropout-ignored": lambda f: varies(f, attn_drop=0.5),
        "output-dropout-ignored": lambda f: varies(f, proj_drop=0.5),
        "dropped-before-proj": lambda f: bool((built(f, proj_drop=0.5)(X) == 0).any()),
        "drops-in-eval": lambda f: varies(f, False, attn_drop=0.5, proj_drop=0.5),
        "results-dropped": lambda f: drops_looks(f)[0],
        "after a pass some part of the layer is in a different mode, training or eval,"
        " than before: which line changed it?": keeps_its_mode,
        "with attn_drop=0.5 a weight counts {got:.2f} of what it should, on average:"
        " what does dropout do to the weights that it keeps?": lambda f: drops_looks(f)[
            1
        ],
    },
    also={
        "`forward` of tokens (2, 5, 11)": lambda f: built(f)(X[..., :-1]),
        "`forward` of tokens (5, 12), which have no batch axis,": (
            lambda f: built(f)(X[0])
        ),
        "`split_heads` of tokens (5, 12), which have no batch axis,": (
            lambda f: len(built(f).split_heads(X[0]))
        ),
        "1 head of width 6": sized(6, 1, 2, 5),
        "5 heads of width 1": sized(5, 5, 2, 5),
        "a single image of one token": sized(12, 3, 1, 1),
        "a layer with qkv_bias=False": sized(12, 3, 2, 5, qkv_bias=False),
        "tokens in float32": sized(12, 3, 2, 5, torch.float32),
        "a layer of 10 channels and 3 heads": lambda f: bool(f(10, 3)),
        "a layer of 0 channels and 1 head": lambda f: bool(f(0, 1)),
        "a layer of 4 channels and 0 heads": lambda f: bool(f(4, 0)),
        "`attn_drop.p` (other code reads it)": (
            lambda f: f(12, 3, attn_drop=0.1).attn_drop.p
        ),
        "`attention_map` (later lessons call it)": (
            lambda f: built(f).attention_map(X)
        ),
        "`state_dict` (it has the keys of published weights only)": (
            lambda f: sorted(f(12, 3).state_dict())
        ),
        **backward(lambda f, x: built(f)(x), X),
        **elsewhere(lambda f, x: built(f).to(x.device)(x), X),
    },
)


def parts(qkv, h, pattern="b n (three h e) -> three b h n e") -> Tensor:
    return rearrange(qkv, pattern, three=3, h=h)


def splits(rule):
    """The layer, but another function of its qkv and of h gives the parts."""

    class Layer(MultiHeadAttention):
        def split_heads(self, x):
            return rule(self.qkv(x), self.num_heads).unbind(0)

    return Layer


def cut(pattern):
    return splits(lambda qkv, h: parts(qkv, h, pattern))


def forwards(rule):
    """The layer, but from q, k and v on it does something else."""

    class Layer(MultiHeadAttention):
        def forward(self, x):
            return rule(self, *self.split_heads(x))

    return Layer


def mixes(**how):
    return forwards(lambda layer, *qkv: layer.proj(merged(mix(*qkv, **how))))


layer.mistakes |= of_the_middle(
    lambda rule: forwards(lambda layer, *qkv: layer.proj(rule(*qkv)))
)
layer.mistakes |= {
    "heads-left-behind-tokens: split_heads gave shapes {got}, b n h e: attention mixes"
    " along the last axis but one, and that is where the heads are now": cut(
        "b n (three h e) -> three b n h e"
    ),
    "reshape-into-heads: only token 4 was changed, yet the queries {got} changed: a"
    " head holds pieces of several tokens. Name every axis before you move one": splits(
        lambda qkv, h: qkv.reshape(3, len(qkv), h, qkv.shape[1], -1)
    ),
    "parts-cut-from-each-head: head 0 takes its query from the channels {got} of qkv:"
    " these are not all among the first 12, where published weights keep the queries"
    " of all heads": cut("b n (h three e) -> three b h n e"),
    "parts-exchanged: counted from 0, qkv holds queries, keys and values as thirds 0,"
    " 1 and 2; split_heads gives the thirds {got}": splits(
        lambda qkv, h: parts(qkv, h).flip(0)
    ),
    "channels-of-a-head-apart: head 0 takes its query from the channels {got} of qkv: in"
    " published weights the channels of one head are neighbours, head after head": cut(
        "b n (three e h) -> three b h n e"
    ),
    "scale-of-the-model: the scores look as if they were divided by the root of the"
    " model's width: which two vectors were multiplied, and how wide are they?": mixes(
        scale=12**-0.5
    ),
    "scale-left-out: the scores look as if nothing had divided them (lesson 3)": mixes(
        scale=1.0
    ),
    "scale-after-softmax: the scale was applied after the softmax: weights that summed"
    " to 1 now sum to 0.5, and the softmax saw the large scores": mixes(
        scale=1.0, drop=lambda weights: weights / 2
    ),
    "softmax-over-heads: the softmax ran over the heads: then the weights of a query"
    " do not sum to 1 over the keys": mixes(dim=1),
    "softmax-over-queries: the softmax ran over the queries: then the weights of a"
    " query do not sum to 1 over the keys": mixes(dim=2),
    "last-map-forgotten: the heads are side by side, but nothing has mixed them yet:"
    " where is proj?": forwards(heads),
    "attention-dropout-ignored: attn_drop=0.5 does nothing: two passes in training"
    " came out equal": mixes(),
    "output-dropout-ignored: proj_drop=0.5 does nothing: two passes in training came"
    " out equal": forwards(lambda layer, *qkv: layer.proj(heads(layer, *qkv))),
    "dropped-before-proj: with proj_drop=0.5 not one of 120 numbers that come out is"
    " 0: what comes between this dropout and the end?": forwards(
        lambda layer, *qkv: layer.proj(layer.proj_drop(heads(layer, *qkv)))
    ),
    "drops-in-eval: two passes in eval differ: dropping belongs to training, and a"
    " dropout that is a function does not know the mode": forwards(
        lambda layer, *qkv: F.dropout(layer.proj(heads(layer, *qkv)))
    ),
    "results-dropped: attn_drop drops some channels of a head and keeps others: it"
    " should drop entries of the map `b h n m`, not numbers of the result": forwards(
        lambda layer, *qkv: layer.proj(layer.attn_drop(merged(mix(*qkv))))
    ),
}

# 4.3 Do more heads cost more?

SLICES = (
    "a head is e = d / h wide: write down the shapes of its matrices, and multiply by h"
)
cost = choose("4.3", "B")
cost.mistakes |= {
    f"heads-cost-extra: there are more heads, but {SLICES}": "A",
    f"small-heads-cost-less: each head is smaller, but {SLICES}": "C",
}

# 4.4 A colleague's layer


def applied(answer):
    return lambda x: answer(built(), x)


repaired = exercise(
    "4.4",
    right=lambda layer, x: layer(x),
    trial={
        "the result has shape {got}, but the tokens have (2, 5, 12)": (
            lambda f: tuple(applied(f)(X).shape)
        ),
        "heads-not-moved-back": lambda f: shuffle_error(applied(f)),
        "attends-among-heads": lambda f: is_heard(applied(f)),
        "the shuffle test passes, but your result and that of a loop over the heads"
        " differ by up to {off:.2f}: only one line was broken": lambda f: applied(f)(X),
    },
    also={
        "4 tokens of width 10, 3 images and 5 heads": (
            lambda f: f(built(dim=10, heads=5), draw(3, 4, 10))
        ),
    },
)
repaired.mistakes |= of_the_middle(
    lambda rule: lambda layer, x: layer.proj(rule(*layer.split_heads(x)))
)

# 4.5 Does it leak?


def within_images(x: Tensor) -> Tensor:
    return attention(x, x, x)


def across_images(x: Tensor) -> Tensor:
    return within_images(x.transpose(0, 1)).transpose(0, 1)


TIGHT = {
    "its own numbers": lambda x: 2 * x,
    "the mean of its own image": lambda x: x + x.mean(dim=1, keepdim=True),
}


def leak(taken, left=lambda x: x):
    """A layer in which something taken of the next image is left in an image."""
    return lambda x: x + left(taken(x.roll(1, dims=0)).expand_as(x))


def only(axis: int, index: int):
    """Only one token or channel is left, the others become 0."""
    return lambda x: (
        x * (torch.arange(x.shape[axis]) == index).view(-1, *[1] * (-1 - axis))
    )


LEAKS = {
    "the first token": leak(lambda x: x[:, :1]),
    "the last token": leak(lambda x: x[:, -1:]),
    "one channel": leak(lambda x: x[..., 2:3]),
    "the mean of all tokens": leak(lambda x: x.mean(dim=1, keepdim=True)),
    "the mean of each token": leak(lambda x: x.mean(dim=2, keepdim=True)),
    "the largest number": leak(lambda x: x.amax(dim=(1, 2), keepdim=True)),
    "numbers without a sign": leak(torch.abs),
    "normalised tokens": leak(lambda x: F.layer_norm(x, x.shape[-1:])),
    "tokens of length 1": leak(lambda x: F.normalize(x, dim=-1)),
    "differences of tokens": leak(lambda x: x - x.roll(1, dims=1)),
    "a thousandth of each token": leak(lambda x: x / 1000),
    "everything (into the last token only)": leak(lambda x: x, only(-2, 5)),
    "everything (into the last channel only)": leak(lambda x: x, only(-1, 7)),
}


def called(answer, leaky: bool, bank: dict) -> str:
    """The layers that a test calls leaky, or tight."""
    x = (64 * draw(2, 6, 8)).round() / 64  # differences of such numbers are exact
    return ", ".join(name for name, f in bank.items() if bool(answer(f, x)) == leaky)


def runs(answer) -> bool:
    """Whether a test runs the layer that it is given."""
    seen = []

    def layer(x):
        seen.append(x)
        return x

    answer(layer, draw(2, 6, 8))
    return bool(seen)


def verdict(answer, layer) -> str | dict:
    """Whether a test is right about a layer, or else how much it has changed."""
    for b, n in ((2, 6), (4, 4)):
        x, changed = draw(b, n, 8), torch.zeros(b, n, dtype=torch.bool)

        def observed(other, x=x, changed=changed):
            if other.shape == x.shape:
                changed |= (other != x).any(dim=-1)
            return layer(other)

        leaky = bool(answer(observed, x))
        if leaky != (layer is across_images):
            images, tokens = changed.any(dim=1).sum(), changed.sum(dim=1).max()
            seen = {"images": images.item(), "tokens": tokens.item()}
            return {"leaky": leaky, "b": b, "n": n, **seen}
    return "right"


SIZES = "(b={got[b]}, n={got[n]})"
TIGHT_ONE = f"a layer that mixes only inside each image was called leaky {SIZES}"
LEAKY_ONE = f"a layer that mixes token i of all images was not noticed {SIZES}"


def leak_test(change=lambda x: x[1], watch=lambda x: x[0], copy=torch.clone):
    """An answer: what is changed, what is watched."""

    def leaks(layer, x):
        before, other = layer(x), copy(x)
        part = change(other)
        part -= 3 * torch.randn_like(part)
        return bool((watch(layer(other)) - watch(before)).abs().max() > 1e-6)

    return leaks


leaks = exercise(
    "4.5",
    right=leak_test(),
    trial={
        "your test never ran the layer that it was given": runs,
        f"{TIGHT_ONE}: what did your test compare?": (
            lambda f: verdict(f, within_images)
        ),
        LEAKY_ONE: lambda f: verdict(f, across_images),
        "a layer that mixes into a token only {got} was called leaky: what did your"
        " test compare?": lambda f: called(f, True, TIGHT),
        "leaks of {got} were not noticed: what hides them, your change or your"
        " comparison?": lambda f: called(f, False, LEAKS),
    },
)
leaks.mistakes |= {
    "verdict-turned-round: a layer that leaks was called tight and a tight one leaky"
    f" {SIZES}: which of the two does True stand for?": (
        lambda layer, x: not leak_test()(layer, x)
    ),
    f"every-image-changed: {TIGHT_ONE}: your test changed something in {{got[images]}}"
    " of {got[b]} images, so none was left to watch": answers(
        leak_test(change=lambda x: x[:, 1]),
        seen=lambda got, _: got["leaky"] and got["images"] == got["b"],
    ),
    f"changed-image-watched: {TIGHT_ONE}: your test changed {{got[images]}} of"
    " {got[b]} images. Whose output did it look at?": answers(
        leak_test(watch=lambda x: x[1]),
        seen=lambda got, _: got["leaky"] and 0 < got["images"] < got["b"],
    ),
    f"nothing-changed: {LEAKY_ONE}: your test ran the layer on unchanged tokens only. A"
    " mix-up of b and n keeps every shape; change one image, and watch a"
    " different one": answers(
        lambda layer, x: layer(x).shape != x.shape,
        seen=lambda got, _: not got["leaky"] and not got["images"],
    ),
    f"other-token-watched: {LEAKY_ONE}: your test changed {{got[tokens]}} of {{got[n]}}"
    " tokens of an image. If this leak carries token i to token i, where must your"
    " test look?": answers(
        leak_test(change=lambda x: x[1, 1], watch=lambda x: x[0, 0]),
        seen=lambda got, _: not got["leaky"] and 0 < got["tokens"] < got["n"],
    ),
}
