"""Right answers and known mistakes for the exercises of lesson 10."""

import torch
from torch.nn import functional as F

from course_vit.t2t import TokenAttention, linear_attention, soft_split


def columns(x, split):
    return soft_split(x, split).mT


def torn(x, split):
    tokens = soft_split(x, split)
    return tokens.mT.reshape(tokens.shape)


def channels_last(x, split):
    tokens = soft_split(x, split)
    return tokens.unflatten(2, (x.shape[1], -1)).mT.flatten(2)


def without_padding(x, split):
    return soft_split(x, (*split[:2], 0))


def shifted(x, split):
    return soft_split(x.roll(1, dims=-1), split)


class Layer(TokenAttention):
    """The reference with one thing done differently."""

    def around(self, x, q, k, v):
        return v

    def mixed(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, scale=self.scale)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.around(x, q, k, v) + self.proj(self.mixed(q, k, v))


class AroundFromX(Layer):
    def around(self, x, q, k, v):
        return x


class NotAround(Layer):
    def around(self, x, q, k, v):
        return 0


class AroundFromQ(Layer):
    def around(self, x, q, k, v):
        return q


class TorchScale(Layer):
    def mixed(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)


class NoScale(Layer):
    def mixed(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)


class KeysFirst(Layer):
    def mixed(self, q, k, v):
        return super().mixed(k, q, v)


class OneChannel(Layer):
    def forward(self, x):
        return super().forward(x)[..., :1]


def with_matrix(q, k, v, eps=1e-8):
    scores = q @ k.mT
    return scores @ v / (scores.sum(dim=-1, keepdim=True) + eps)


def undivided(q, k, v, eps=1e-8):
    return q @ (k.mT @ v)


def without_eps(q, k, v, eps=1e-8):
    return linear_attention(q, k, v, eps=0.0)


def fixed_eps(q, k, v, eps=1e-8):
    return linear_attention(q, k, v)


def of_softmax(q, k, v, eps=1e-8):
    return (q @ k.mT).softmax(dim=-1) @ v


def transposed(q, k, v, eps=1e-8):
    return linear_attention(q, k, v).mT


def stub(*_, **__):
    raise NotImplementedError


TOKENS, WIDTHS = [3136, 784, 196], [147, 576, 576]
RIGHT = [
    ("10.1", (TOKENS, WIDTHS, 4)),
    ("10.2", soft_split),
    ("10.3", {1, 2, 4}),
    ("10.3", torch.tensor([1.0, 2.0, 4.0])),
    ("10.4", TokenAttention),
    ("10.4", Layer),
    ("10.5", linear_attention),
    ("10.6", "B"),
]
WRONG = [
    ("10.1", ([56, 28, 14], WIDTHS, 4), "one side"),
    ("10.1", ([57, 29, 15], WIDTHS, 4), "floor it"),
    ("10.1", ([1024, 256, 64], WIDTHS, 4), "floor"),
    ("10.1", (TOKENS, [49, 576, 576], 4), "per pixel"),
    ("10.1", (TOKENS, [64, 576, 576], 4), "kernel, kernel, c"),
    ("10.1", (TOKENS, [147, 1323, 11907], 4), "does the token layer leave"),
    ("10.1", (TOKENS, [147, 64, 64], 4), "gathers 3 x 3"),
    ("10.1", (TOKENS, WIDTHS, 2), "one side of the grid"),
    ("10.1", (TOKENS, WIDTHS, 196), "8, 4 and 2"),
    ("10.2", stub, "still empty"),
    ("10.2", columns, "a token is a row"),
    ("10.2", torn, "does not transpose"),
    ("10.2", channels_last, "c first"),
    ("10.2", without_padding, "expected tokens"),
    ("10.2", shifted, "not the windows"),
    ("10.3", {1}, "share nothing"),
    ("10.3", {1, 9}, "how many pixels a window has"),
    ("10.3", {1, 2}, "both rows and columns"),
    ("10.3", {1, 2, 3, 4}, "count along one side"),
    ("10.4", AroundFromX, "x cannot be added"),
    ("10.4", NotAround, "no path around"),
    ("10.4", AroundFromQ, "is it v"),
    ("10.4", TorchScale, "width that came in"),
    ("10.4", NoScale, "not scaled"),
    ("10.4", KeysFirst, "swapped"),
    ("10.4", OneChannel, "expected"),
    ("10.5", stub, "still empty"),
    ("10.5", with_matrix, "Which product can come first"),
    ("10.5", undivided, "weights sum to 1"),
    ("10.5", without_eps, "give nan"),
    ("10.5", fixed_eps, r"eps=1\.0"),
    ("10.5", of_softmax, "divided by their sum"),
    ("10.5", transposed, "expected"),
    ("10.6", "A", "longest"),
    ("10.6", "C", "wrong weights, too"),
    ("10.6", "D", "their length"),
    ("10.6", "E", "A, B, C or D"),
]
