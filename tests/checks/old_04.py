"""Right answers and known mistakes for the exercises of lesson 04."""

import torch
from einops import rearrange
from torch.nn import functional as F

from checks import stub
from course_vit.multi_head_attention import MultiHeadAttention

MERGE = "b h n e -> b n (h e)"


# 4.2 The layer: right ones


class InTorchWords(MultiHeadAttention):
    def split_heads(self, x):
        if x.ndim != 3 or x.shape[2] != self.dim:
            raise ValueError("another width, or no batch")
        shape = (*x.shape[:2], self.num_heads, self.dim // self.num_heads)
        thirds = self.qkv(x).chunk(3, dim=-1)
        return tuple(third.view(shape).transpose(1, 2) for third in thirds)

    def forward(self, x):
        q, k, v = self.split_heads(x)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
        mixed = self.attn_drop(weights) @ v
        return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))


class HeadByHead(MultiHeadAttention):
    def split_heads(self, x):
        if (x.dim(), x.size(-1)) != (3, self.dim):
            raise ValueError("another width, or no batch")
        thirds = self.qkv(x).split(self.dim, dim=-1)
        width = self.dim // self.num_heads
        return [torch.stack(third.split(width, dim=-1), dim=1) for third in thirds]

    def forward(self, x):
        found = []
        for q, k, v in zip(*(p.unbind(1) for p in self.split_heads(x)), strict=True):
            scores = torch.einsum("bne,bme->bnm", q, k) * q.shape[-1] ** -0.5
            weights = F.dropout(scores.softmax(-1), self.attn_drop.p, self.training)
            found.append(torch.einsum("bnm,bme->bne", weights, v))
        return self.proj_drop(self.proj(torch.cat(found, dim=-1)))


# 4.2 The layer: wrong ones


def splits(pattern):
    """The layer, but heads are cut out by another pattern."""

    class Layer(MultiHeadAttention):
        def split_heads(self, x):
            if x.shape[-1] != self.dim:
                raise ValueError
            return rearrange(self.qkv(x), pattern, three=3, h=self.num_heads).unbind(0)

    return Layer


class SplitByReshape(MultiHeadAttention):
    def split_heads(self, x):
        shape = (len(x), self.num_heads, x.shape[1], self.dim // self.num_heads)
        return tuple(part.reshape(shape) for part in self.qkv(x).chunk(3, dim=-1))


class SplitByView(MultiHeadAttention):
    def split_heads(self, x):
        parts = self.qkv(x).view(len(x), self.num_heads, x.shape[1], 3, -1)
        return parts.permute(3, 0, 1, 2, 4).unbind(0)


class Swapped(MultiHeadAttention):
    def split_heads(self, x):
        q, k, v = super().split_heads(x)
        return k, q, v


class ValuesFirst(MultiHeadAttention):
    def split_heads(self, x):
        return super().split_heads(x)[::-1]


class HeadsLast(MultiHeadAttention):
    def split_heads(self, x):
        return tuple(part.transpose(1, 2) for part in super().split_heads(x))


class NotSplit(MultiHeadAttention):
    def split_heads(self, x):
        return self.qkv(x).chunk(3, dim=-1)


class QueriesHalved(MultiHeadAttention):
    def split_heads(self, x):
        q, k, v = super().split_heads(x)
        return q / 2, k, v


def mixes(mix, merge=lambda mixed: rearrange(mixed, MERGE), project=True):
    """The layer, but its middle is another function of q, k, v."""

    class Layer(MultiHeadAttention):
        def forward(self, x):
            mixed = merge(mix(*self.split_heads(x)))
            return self.proj(mixed) if project else mixed

    return Layer


def softmax(dim=-1, scale=0.5, after=1.0):
    return lambda q, k, v: (q @ k.mT * scale).softmax(dim) / after @ v


def fused(scale=None):
    return lambda *parts: F.scaled_dot_product_attention(*parts, scale=scale)


def among_heads(q, k, v):
    return fused()(*(part.transpose(1, 2) for part in (q, k, v))).transpose(1, 2)


def reshape_merge(mixed):
    return mixed.reshape(len(mixed), mixed.shape[2], -1)


def flatten_merge(mixed):
    return mixed.flatten(1).unflatten(1, (mixed.shape[2], -1))


def interleave(mixed):
    return rearrange(mixed, "b h n e -> b n (e h)")


def swap_ends(mixed):
    return mixed.permute(0, 2, 3, 1).flatten(2)


class DropsInEval(MultiHeadAttention):
    def forward(self, x):
        parts = self.split_heads(x)
        mixed = F.scaled_dot_product_attention(*parts, dropout_p=self.attn_drop.p)
        return self.proj_drop(self.proj(rearrange(mixed, MERGE)))


class DropsOutputInEval(MultiHeadAttention):
    def forward(self, x):
        drop = self.attn_drop.p if self.training else 0.0
        parts = self.split_heads(x)
        mixed = F.scaled_dot_product_attention(*parts, dropout_p=drop)
        return F.dropout(self.proj(rearrange(mixed, MERGE)), self.proj_drop.p)


class KeepsOutput(MultiHeadAttention):
    def forward(self, x):
        drop = self.attn_drop.p if self.training else 0.0
        parts = self.split_heads(x)
        mixed = F.scaled_dot_product_attention(*parts, dropout_p=drop)
        return self.proj(rearrange(mixed, MERGE))


class DropsBeforeProj(MultiHeadAttention):
    def forward(self, x):
        drop = self.attn_drop.p if self.training else 0.0
        parts = self.split_heads(x)
        mixed = F.scaled_dot_product_attention(*parts, dropout_p=drop)
        return self.proj(self.proj_drop(rearrange(mixed, MERGE)))


class DropsResults(MultiHeadAttention):
    def forward(self, x):
        mixed = self.attn_drop(fused()(*self.split_heads(x)))
        return self.proj_drop(self.proj(rearrange(mixed, MERGE)))


class DropsValues(MultiHeadAttention):
    def forward(self, x):
        q, k, v = self.split_heads(x)
        mixed = F.scaled_dot_product_attention(q, k, self.attn_drop(v))
        return self.proj_drop(self.proj(rearrange(mixed, MERGE)))


class WelcomesAnyWidth(MultiHeadAttention):
    def split_heads(self, x):
        return super().split_heads(F.pad(x, (0, self.dim - x.shape[-1])))


class StumblesOverWidth(MultiHeadAttention):
    def split_heads(self, x):
        self.qkv(x)
        return super().split_heads(x)


class LooksAtWidthOnly(MultiHeadAttention):
    def split_heads(self, x):
        if x.shape[-1] != self.dim:
            raise ValueError("another width")
        shape = (*x.shape[:-1], self.num_heads, self.dim // self.num_heads)
        thirds = self.qkv(x).chunk(3, dim=-1)
        return tuple(third.view(shape).transpose(-3, -2) for third in thirds)


class WelcomesAnyDivision(InTorchWords):
    def __init__(self, dim, num_heads=8, qkv_bias=True, attn_drop=0.0, proj_drop=0.0):
        super().__init__(dim, 1, qkv_bias, attn_drop, proj_drop)
        self.num_heads = num_heads


class CountsOnBias(InTorchWords):
    def split_heads(self, x):
        parts = super().split_heads(x)
        self.qkv.bias.sum()
        return parts


class KeepsSurvivorsSmall(InTorchWords):
    def forward(self, x):
        q, k, v = self.split_heads(x)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
        if self.training:
            weights = weights * (torch.rand_like(weights) >= self.attn_drop.p)
        return self.proj_drop(self.proj((weights @ v).transpose(1, 2).flatten(2)))


class FourWide(InTorchWords):
    def forward(self, x):
        q, k, v = self.split_heads(x)
        weights = self.attn_drop((q @ k.mT / 2).softmax(dim=-1))
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        return self.proj_drop(self.proj(mixed))


class OneToken(InTorchWords):
    def forward(self, x):
        mixed = [part.squeeze() for part in self.split_heads(x)]
        weights = (mixed[0] @ mixed[1].mT / 2).softmax(dim=-1)
        mixed = self.attn_drop(weights) @ mixed[2]
        return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))


class Empty(MultiHeadAttention):
    split_heads = stub


# 4.4 A colleague's layer


def colleague(merge, mix=F.scaled_dot_product_attention):
    """Exercise 4.4 with a way to put the heads together."""

    def repaired(layer, x):
        b, n, d = x.shape
        h = layer.num_heads
        parts = layer.qkv(x).view(b, n, 3, h, d // h).permute(2, 0, 3, 1, 4)
        return layer.proj(merge(mix(*parts)))

    return repaired


def not_repaired(layer, x):
    b, n, d = x.shape
    h = layer.num_heads
    parts = layer.qkv(x).view(b, n, 3, h, d // h)
    q, k, v = parts.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v)
    return layer.proj(mixed.reshape(b, n, d))


def split_repaired_instead(layer, x):
    b, n, d = x.shape
    h = layer.num_heads
    parts = layer.qkv(x).view(b, n, 3, h, d // h)
    q, k, v = parts.permute(2, 0, 1, 3, 4)
    mixed = F.scaled_dot_product_attention(q, k, v)
    return layer.proj(mixed.reshape(b, n, d))


# 4.5 Does it leak?


def leaks(change=lambda x: x[1], watch=lambda x: x[0], copy=torch.clone):
    """Exercise 4.5: what is changed, what is watched."""

    def test(layer, x):
        before, other = layer(x), copy(x)
        part = change(other)
        part += torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype)
        return bool((watch(layer(other)) - watch(before)).abs().max() > 1e-6)

    return test


def alone_or_in_company(layer, x):
    return not torch.allclose(layer(x[:1]), layer(x)[:1])


def by_gradient(layer, x):
    x = x.clone().requires_grad_()
    layer(x)[0].square().sum().backward()
    return bool(x.grad[1:].any())


def same_shape(layer, x):
    return layer(x).shape != x.shape


def repeats(layer, x):
    return not torch.equal(layer(x), layer(x.clone()))


def every_first_token(layer, x):
    other = torch.cat([x[:, :1] + 1, x[:, 1:]], dim=1)
    return not torch.allclose(layer(other)[:, 1:], layer(x)[:, 1:])


def moves_itself(layer, x):
    other = torch.cat([x[:1] * 2, x[1:]])
    return not torch.allclose(layer(other), layer(x))


RIGHT = [
    ("4.1", ["D", "G", "A", "E", "F", "B"]),
    ("4.1", "dgaefb"),
    ("4.1", "D, G, A, E, F, B"),
    ("4.2", MultiHeadAttention),
    ("4.2", InTorchWords),
    ("4.2", HeadByHead),
    ("4.3", "B"),
    ("4.3", " b "),
    ("4.4", colleague(lambda mixed: rearrange(mixed, MERGE))),
    ("4.4", colleague(lambda mixed: mixed.transpose(1, 2).flatten(2))),
    ("4.4", colleague(lambda mixed: torch.cat(mixed.unbind(1), dim=-1))),
    ("4.5", leaks()),
    ("4.5", leaks(watch=lambda x: x[0, 0])),
    ("4.5", alone_or_in_company),
    ("4.5", by_gradient),
]
WRONG = [
    (
        "4.1",
        list("DCAEFB"),
        "reshape-into-heads",
        r"alike, it differs by up to 0\.\d\d",
    ),
    ("4.1", "DCAEFB", "reshape-into-heads", "Which line forgets"),
    ("4.1", "DGCAEFB", "decoy-kept", "with 7 lines.* changes nothing"),
    ("4.1", "DGACEFB", "decoy-kept", "changes nothing"),
    ("4.1", "DGAEB", "last-map-before-merge", "line B stopped.* has 4"),
    ("4.1", "DGAEBF", "last-map-before-merge", "takes the 12 numbers of a token"),
    ("4.1", "DGAEF", "last-map-forgotten", "channels of one head never hear of"),
    ("4.1", list("DGEAFB"), None, "line E stopped with NameError: name 'q'"),
    ("4.1", list("DAGEFB"), None, "line A stopped with ValueError"),
    ("4.1", list("BDGAEF"), None, "line B stopped with NameError"),
    ("4.1", "DGAE", None, r"end with shape \(2, 3, 5, 4\)"),
    ("4.1", "DGAEFBB", None, "use a line once, B stands there"),
    ("4.1", list("DGAX"), None, r"no line \['X'\]"),
    ("4.1", [], None, "nothing is called `out`"),
    ("4.2", Empty, None, "still empty"),
    ("4.2", HeadsLast, "heads-left-behind-tokens", r"\(2, 5, 3, 4\).*b n h e"),
    ("4.2", NotSplit, None, r"\(2, 5, 12\).* not 3 times \(2, 3, 5, 4\)"),
    ("4.2", SplitByReshape, "reshape-into-heads", r"only token 4 .* \[.*\] moved"),
    ("4.2", SplitByView, "reshape-into-heads", "Name every axis before"),
    (
        "4.2",
        splits("b n (h e three) -> three b h n e"),
        "parts-cut-from-each-head",
        r"channels \[0, 3, 6, 9\] of qkv: these are not all among the first 12",
    ),
    (
        "4.2",
        splits("b n (h three e) -> three b h n e"),
        "parts-cut-from-each-head",
        "keep the queries of all heads",
    ),
    ("4.2", Swapped, "parts-exchanged", r"gives the thirds \[1, 0, 2\]"),
    ("4.2", ValuesFirst, "parts-exchanged", r"gives the thirds \[2, 1, 0\]"),
    (
        "4.2",
        splits("b n (three e h) -> three b h n e"),
        "channels-dealt-out",
        r"\[0, 3, 6, 9\] .* head after head",
    ),
    ("4.2", QueriesHalved, None, "not give what `qkv` makes"),
    ("4.2", mixes(softmax(scale=12**-0.5)), "scale-of-the-model", "model's width"),
    ("4.2", mixes(fused(scale=12**-0.5)), "scale-of-the-model", "model's width"),
    ("4.2", mixes(softmax(scale=1.0)), "scale-left-out", "as if nothing had divided"),
    (
        "4.2",
        mixes(softmax(scale=1.0, after=2.0)),
        "scale-after-softmax",
        r"now sum to 0\.5",
    ),
    ("4.2", mixes(softmax(dim=1)), "softmax-over-heads", "ran over the heads"),
    ("4.2", mixes(softmax(dim=2)), "softmax-over-queries", "ran over the queries"),
    ("4.2", mixes(among_heads), "attends-among-heads", "among whom was attention paid"),
    ("4.2", mixes(fused(), project=False), "last-map-forgotten", "where is proj"),
    (
        "4.2",
        mixes(softmax(), reshape_merge),
        "heads-not-moved-back",
        r"alike, it differs by up to \d\.\d\d",
    ),
    ("4.2", mixes(fused(), flatten_merge), "heads-not-moved-back", "heads merged"),
    ("4.2", mixes(softmax(), interleave), "channels-interleaved", "when proj comes"),
    ("4.2", mixes(fused(), swap_ends), "channels-interleaved", "side by side when"),
    ("4.2", mixes(fused(scale=0.6)), None, "over the heads gives other numbers"),
    ("4.2", mixes(fused()), "attention-dropout-ignored", "attn_drop=0.5 does nothing"),
    ("4.2", KeepsOutput, "output-dropout-ignored", "proj_drop=0.5 does nothing"),
    ("4.2", DropsBeforeProj, "dropped-before-proj", "not one of 120 numbers"),
    ("4.2", DropsInEval, "drops-in-eval", "two passes in eval differ"),
    ("4.2", DropsOutputInEval, "drops-in-eval", "does not know the mode"),
    ("4.2", DropsResults, "results-dropped", "it shall drop looks"),
    ("4.2", DropsValues, "results-dropped", "channels of one head differently"),
    ("4.2", WelcomesAnyWidth, None, "should raise ValueError, and nothing was raised"),
    ("4.2", StumblesOverWidth, None, "should raise ValueError, got RuntimeError"),
    ("4.2", KeepsSurvivorsSmall, None, r"a look counts 0\.[45]\d of what it should"),
    ("4.2", FourWide, None, r"1 heads of width 6 and tokens \(2, 5, 6\) give"),
    ("4.2", OneToken, None, "but 1 heads of width 6 .* raised"),
    ("4.2", CountsOnBias, None, "with qkv_bias=False raised AttributeError"),
    (
        "4.2",
        LooksAtWidthOnly,
        None,
        r"\(5, 12\), without the axis of the images, should raise ValueError",
    ),
    (
        "4.2",
        WelcomesAnyDivision,
        None,
        "a layer of 10 channels and 3 heads should raise ValueError",
    ),
    ("4.3", "A", "heads-cost-extra", "more heads, but a head is e = d / h wide"),
    ("4.3", "C", "small-heads-cost-less", "is smaller, but a head is e = d / h wide"),
    ("4.3", 16, None, "answer A, B or C, got 16"),
    ("4.4", stub, None, "still empty"),
    ("4.4", not_repaired, "heads-not-moved-back", r"otherwise: off by up to 0\.\d\d"),
    ("4.4", colleague(flatten_merge), "heads-not-moved-back", "shapes agree and it"),
    ("4.4", split_repaired_instead, "attends-among-heads", "token 4 was changed"),
    (
        "4.4",
        colleague(lambda mixed: rearrange(mixed, MERGE), among_heads),
        "attends-among-heads",
        "among whom",
    ),
    ("4.4", colleague(interleave), "channels-interleaved", "must lie side by side"),
    ("4.4", colleague(swap_ends), "channels-interleaved", "must lie side by side"),
    (
        "4.4",
        colleague(lambda mixed: rearrange(mixed, MERGE), fused(scale=1.0)),
        None,
        "only one line was broken",
    ),
    ("4.5", stub, None, "still empty"),
    ("4.5", leaks(watch=lambda x: x[1]), "changed-image-watched", "changed 1 of 2"),
    ("4.5", moves_itself, "changed-image-watched", "Whose output did it look at"),
    ("4.5", leaks(change=lambda x: x[:, 1]), "every-image-changed", "none was left to"),
    ("4.5", every_first_token, "every-image-changed", "something in 2 of 2 images"),
    ("4.5", same_shape, "nothing-changed", r"was not noticed \(b=2, n=6\).* shape"),
    ("4.5", repeats, "nothing-changed", "unchanged tokens only"),
    (
        "4.5",
        leaks(change=lambda x: x[1, 1], watch=lambda x: x[0, 0]),
        "other-token-watched",
        "changed 1 of 6 tokens",
    ),
    (
        "4.5",
        lambda layer, x: not leaks()(layer, x),
        "verdict-turned-round",
        "which of the two does True stand for",
    ),
    ("4.5", lambda layer, x: True, None, "never ran the layer"),
    ("4.5", leaks(copy=lambda x: x), None, "was changed on the way"),
]
