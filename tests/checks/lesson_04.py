"""Right answers and known mistakes for the exercises of lesson 04."""

import torch
from einops import rearrange
from torch.nn import functional as F

from course_vit.multi_head_attention import MultiHeadAttention

MERGE = "b h n e -> b n (h e)"


def stub(*_, **__):
    raise NotImplementedError


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


class Swapped(MultiHeadAttention):
    def split_heads(self, x):
        q, k, v = super().split_heads(x)
        return k, q, v


class HeadsLast(MultiHeadAttention):
    def split_heads(self, x):
        return tuple(part.transpose(1, 2) for part in super().split_heads(x))


def mixes(mix, merge=lambda mixed: rearrange(mixed, MERGE), project=True):
    """The layer, but its middle is another function of q, k, v."""

    class Layer(MultiHeadAttention):
        def forward(self, x):
            mixed = merge(mix(*self.split_heads(x)))
            return self.proj(mixed) if project else mixed

    return Layer


def softmax(dim=-1, scale=0.5):
    return lambda q, k, v: (q @ k.mT * scale).softmax(dim) @ v


def reshape_merge(mixed):
    return mixed.reshape(len(mixed), mixed.shape[2], -1)


def interleave(mixed):
    return rearrange(mixed, "b h n e -> b n (e h)")


class DropsInEval(MultiHeadAttention):
    def forward(self, x):
        parts = self.split_heads(x)
        mixed = F.scaled_dot_product_attention(*parts, dropout_p=self.attn_drop.p)
        return self.proj(rearrange(mixed, MERGE))


class WelcomesAnyWidth(MultiHeadAttention):
    def split_heads(self, x):
        return super().split_heads(F.pad(x, (0, self.dim - x.shape[-1])))


class StumblesOverWidth(MultiHeadAttention):
    def split_heads(self, x):
        self.qkv(x)
        return super().split_heads(x)


class Empty(MultiHeadAttention):
    split_heads = stub


def colleague(merge):
    """Exercise 4.4 with a way to put the heads together."""

    def mix(layer, x):
        b, n, d = x.shape
        h = layer.num_heads
        parts = layer.qkv(x).view(b, n, 3, h, d // h).permute(2, 0, 3, 1, 4)
        return layer.proj(merge(F.scaled_dot_product_attention(*parts)))

    return mix


def leaks(change=lambda x: x[1], watch=lambda x: x[0], copy=torch.clone):
    """Exercise 4.5: what is changed, what is watched."""

    def test(layer, x):
        before, other = layer(x), copy(x)
        part = change(other)
        part += torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype)
        return bool((watch(layer(other)) - watch(before)).abs().max() > 1e-6)

    return test


def same_shape(layer, x):
    return layer(x).shape != x.shape


RIGHT = [
    ("4.1", ["D", "G", "A", "E", "F", "B"]),
    ("4.1", "dgaefb"),
    ("4.2", MultiHeadAttention),
    ("4.3", "B"),
    ("4.3", " b "),
    ("4.4", colleague(lambda mixed: rearrange(mixed, MERGE))),
    ("4.4", colleague(lambda mixed: mixed.transpose(1, 2).flatten(2))),
    ("4.5", leaks()),
    ("4.5", leaks(watch=lambda x: x[0, 0])),
]
WRONG = [
    ("4.1", list("DCAEFB"), r"not shuffled alike, it differs by up to 0\.\d\d"),
    ("4.1", list("DGEAFB"), "line E stopped with NameError: name 'q'"),
    ("4.1", list("DGAEB"), "line B stopped with RuntimeError"),
    ("4.1", list("DAGEFB"), "line A stopped with ValueError"),
    ("4.1", list("DGAEF"), "does a last map still mix"),
    ("4.1", list("DGAX"), r"no line \['X'\]"),
    ("4.1", [], "nothing is called `out`"),
    ("4.2", Empty, "still empty"),
    ("4.2", HeadsLast, r"gave shapes .* not 3 times \(2, 3, 5, 4\)"),
    ("4.2", SplitByReshape, r"only token 4 .* queries \[.*\] moved"),
    ("4.2", splits("b n (h e three) -> three b h n e"), "not the right channels"),
    ("4.2", Swapped, "where the queries should be, the keys are"),
    ("4.2", splits("b n (three e h) -> three b h n e"), "not the right channels"),
    ("4.2", mixes(softmax(scale=12**-0.5)), "root of the model's width"),
    ("4.2", mixes(softmax(scale=1.0)), "as if nothing had divided"),
    ("4.2", mixes(softmax(dim=1)), "softmax ran over the heads"),
    ("4.2", mixes(softmax(dim=2)), "softmax ran over the queries"),
    ("4.2", mixes(softmax(), project=False), "where is proj"),
    ("4.2", mixes(softmax(), reshape_merge), r"alike, it differs by up to \d\.\d\d"),
    ("4.2", mixes(softmax(), interleave), "side by side when proj comes"),
    ("4.2", mixes(softmax()), "attn_drop=0.5 does nothing"),
    ("4.2", DropsInEval, "two passes in eval differ"),
    ("4.2", WelcomesAnyWidth, "raise ValueError"),
    ("4.2", StumblesOverWidth, "raise ValueError, not RuntimeError"),
    ("4.3", "A", "there are more heads, but a head is e = d / h wide"),
    ("4.3", "C", "each head is smaller, but a head is e = d / h wide"),
    ("4.3", 16, "choose A, B or C"),
    ("4.4", stub, "still empty"),
    ("4.4", colleague(reshape_merge), r"came out otherwise: off by up to 0\.\d\d"),
    ("4.4", colleague(interleave), "channels of one head must lie side by side"),
    ("4.5", stub, "still empty"),
    ("4.5", leaks(watch=lambda x: x[1]), "called leaky"),
    ("4.5", leaks(change=lambda x: x[:, 1]), "called leaky"),
    ("4.5", same_shape, "was not noticed"),
    ("4.5", leaks(copy=lambda x: x), "was lent"),
]
