"""Right answers and known mistakes for the exercises of lesson 10."""

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from checks import stub
from course_vit.t2t import TokenAttention, linear_attention, soft_split


def by_transpose(x, split):
    """Right: torch's module, and its columns turned."""
    kernel, stride, padding = split
    return nn.Unfold(kernel, stride=stride, padding=padding)(x).transpose(1, 2)


def by_views(x, split):
    """Right: two times `Tensor.unfold`, which is another function."""
    kernel, stride, padding = split
    windows = (
        F.pad(x, [padding] * 4).unfold(2, kernel, stride).unfold(3, kernel, stride)
    )
    return rearrange(windows, "b c gh gw p q -> b (gh gw) (c p q)")


def by_position(x, split):
    kernel, stride, padding = split
    return F.unfold(x, kernel, stride, padding).mT


def dilated_columns(x, split):
    kernel, stride, padding = split
    return F.unfold(x, kernel, padding=padding, dilation=stride)


def steps_of_one(x, split):
    kernel, _, padding = split
    return F.unfold(x, kernel, padding=padding).mT


def no_padding(x, split):
    return F.unfold(x, split[0], stride=split[1]).mT


def one_more(x, split):
    return soft_split(x, (split[0], split[1], split[2] + split[1]))


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


def by_kernels(x, split):
    """Every pixel picked by a kernel of its own, in float32."""
    kernel, stride, padding = split
    size = x.shape[1] * kernel**2
    kernels = torch.eye(size).view(size, x.shape[1], kernel, kernel)
    return F.conv2d(x, kernels, stride=stride, padding=padding).flatten(2).mT


def squeezed(x, split):
    return soft_split(x, split).squeeze()


def of_rounded(x, split):
    return soft_split(x.float(), split).to(x)


def shifted(x, split):
    return soft_split(x.roll(1, dims=-1), split)


class ByHand(TokenAttention):
    """Right, written out."""

    def forward(self, x):
        q, k, v = self.qkv(x).split(self.proj.in_features, dim=-1)
        weights = torch.softmax(self.scale * torch.einsum("bne,bme->bnm", q, k), dim=2)
        return torch.baddbmm(v, weights, v @ self.proj.weight.T) + self.proj.bias


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


class AroundFromK(Layer):
    def around(self, x, q, k, v):
        return k


class ScaleLast(Layer):
    def mixed(self, q, k, v):
        return self.scale * F.scaled_dot_product_attention(q, k, v, scale=1.0)


class KeysQueriesValues(Layer):
    """As in the performer: all of q and k are exchanged."""

    def forward(self, x):
        k, q, v = self.qkv(x).chunk(3, dim=-1)
        return v + self.proj(self.mixed(q, k, v))


class ValuesFirst(Layer):
    def forward(self, x):
        v, q, k = self.qkv(x).chunk(3, dim=-1)
        return v + self.proj(self.mixed(q, k, v))


class NoProjection(Layer):
    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return v + self.mixed(q, k, v)


class ProjectsAll(Layer):
    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj(v + self.mixed(q, k, v))


class Twice(Layer):
    def around(self, x, q, k, v):
        return 2 * v


class AddsInput(TokenAttention):
    """The block of lesson 5, on the way its author knows best."""

    def forward(self, x):
        weights = torch.softmax(self.scale * x @ x.mT, dim=-1)
        return x + self.proj(weights @ self.qkv(x).chunk(3, dim=-1)[2])


class WrongMatrix(TokenAttention):
    def forward(self, x):
        return self.proj(self.qkv(x))


class TorchScale(Layer):
    def mixed(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)


class NoScale(Layer):
    def mixed(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)


class KeysFirst(Layer):
    def mixed(self, q, k, v):
        return super().mixed(k, q, v)


class Squeezed(Layer):
    def forward(self, x):
        return super().forward(x[:, None]).squeeze()


class OfFloat32(Layer):
    """The question is scaled by a number that has a precision of its own."""

    def mixed(self, q, k, v):
        scores = q @ k.mT * torch.full((1, 1, 1), self.scale)
        return scores.softmax(dim=-1) @ v


class OneChannel(Layer):
    def forward(self, x):
        return super().forward(x)[:, :, :1]


def with_matrix(q, k, v, eps=1e-8):
    scores = q @ k.mT
    return scores @ v / (scores.sum(dim=-1, keepdim=True) + eps)


def by_matmul(q, k, v, eps=1e-8):
    """Right: the sum comes out of the same product, of values that are all 1."""
    summary = k.transpose(1, 2) @ torch.cat([v, torch.ones_like(v.narrow(2, 0, 1))], 2)
    mixed, total = (q @ summary).split([v.shape[2], 1], dim=2)
    return mixed / (total + eps)


def by_steps(q, k, v, eps=1e-8):
    """Right: the table of features by channels grows key by key."""
    table = v.new_zeros(len(v), k.shape[2], v.shape[2])
    for key, value in zip(k.unbind(dim=1), v.unbind(dim=1), strict=True):
        table = table + key.unsqueeze(2) * value.unsqueeze(1)
    total = (q * k.sum(dim=1, keepdim=True)).sum(dim=2, keepdim=True)
    return torch.bmm(q, table) / (total + eps)


def by_steps_of_float32(q, k, v, eps=1e-8):
    """The table has a precision of its own."""
    table = torch.zeros(len(v), k.shape[2], v.shape[2])
    for key, value in zip(k.unbind(dim=1), v.unbind(dim=1), strict=True):
        table = table + key.unsqueeze(2) * value.unsqueeze(1)
    total = (q * k.sum(dim=1, keepdim=True)).sum(dim=2, keepdim=True)
    return torch.bmm(q, table) / (total + eps)


def rounded(q, k, v, eps=1e-8):
    return linear_attention(q.float(), k.float(), v.float(), eps).to(v)


def squeezed_mixture(q, k, v, eps=1e-8):
    return linear_attention(q, k, v, eps).squeeze()


def by_broadcast(q, k, v, eps=1e-8):
    """Every pair, without a matrix product that a counter could count."""
    scores = (q.unsqueeze(2) * k.unsqueeze(1)).sum(dim=3)
    mixed = (scores.unsqueeze(3) * v.unsqueeze(1)).sum(dim=2)
    return mixed / (scores.sum(dim=2, keepdim=True) + eps)


def by_queries(q, k, v, eps=1e-8):
    """Every pair, one query at a time."""
    rows = []
    for one in q.unbind(dim=1):
        weights = torch.einsum("b f, b m f -> b m", one, k)
        total = weights.sum(dim=1, keepdim=True) + eps
        rows.append(torch.einsum("b m, b m e -> b e", weights / total, v))
    return torch.stack(rows, dim=1)


def by_count(q, k, v, eps=1e-8):
    return q @ (k.mT @ v) / k.shape[1]


def by_columns(q, k, v, eps=1e-8):
    scores = q @ k.mT
    return scores / (scores.sum(dim=1, keepdim=True) + eps) @ v


def eps_each(q, k, v, eps=1e-8):
    total = torch.einsum("b n f, b f -> b n", q, k.sum(dim=1)).unsqueeze(2)
    return q @ (k.mT @ v) / (total + eps * k.shape[1])


def eps_in_scores(q, k, v, eps=1e-8):
    scores = q @ k.mT + eps
    return scores @ v / scores.sum(dim=2, keepdim=True)


def eps_on_features(q, k, v, eps=1e-8):
    return linear_attention(q + eps, k, v)


def keys_squared(q, k, v, eps=1e-8):
    return linear_attention(q, k * k, v)


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


TOKENS, WIDTHS = [3136, 784, 196], [147, 576, 576]
RIGHT = [
    ("10.1", (TOKENS, WIDTHS, 4)),
    ("10.1", [(56**2, 28**2, 14**2), torch.tensor(WIDTHS).tolist(), 2 * 2.0]),
    ("10.2", soft_split),
    ("10.2", by_transpose),
    ("10.2", by_views),
    ("10.3", {1, 2, 4}),
    ("10.3", torch.tensor([1.0, 2.0, 4.0])),
    ("10.4", TokenAttention),
    ("10.4", Layer),
    ("10.4", ByHand),
    ("10.5", linear_attention),
    ("10.5", by_matmul),
    ("10.5", by_steps),
    ("10.6", "B"),
    ("10.6", "b "),
]
WRONG = [
    ("10.1", ([56, 28, 14], WIDTHS, 4), "one-side-for-the-grid", "is one side"),
    ("10.1", (TOKENS, WIDTHS, 2), "one-side-for-the-grid", "rows and columns"),
    ("10.1", ([57, 29, 15], WIDTHS, 4), "rounded-up-and-one-added", "floor it"),
    ("10.1", ([3249, 841, 225], WIDTHS, 4), "rounded-up-and-one-added", "add 1"),
    (
        "10.1",
        ([3025, 729, 169], WIDTHS, 4),
        "padding-or-first-window-forgotten",
        "one too few",
    ),
    ("10.1", ([1024, 256, 64], WIDTHS, 4), None, "floor"),
    ("10.1", (TOKENS, [49, 576, 576], 4), "channels-forgotten", "per pixel"),
    ("10.1", (TOKENS, [49, 9, 9], 4), "channels-forgotten", "how many numbers"),
    ("10.1", (TOKENS, [64, 576, 576], 4), None, "kernel, kernel, c"),
    (
        "10.1",
        (TOKENS, [147, 1323, 11907], 4),
        "width-never-narrowed",
        "does the token layer leave",
    ),
    (
        "10.1",
        (TOKENS, [147, 64, 64], 4),
        "layer-width-for-split-width",
        "gathers 3 x 3",
    ),
    ("10.1", (TOKENS, [147, 147, 147], 4), None, "leaves 64 numbers"),
    ("10.1", (TOKENS, WIDTHS, 196), None, "8, 4 and 2"),
    ("10.2", stub, None, "still empty"),
    ("10.2", columns, "columns-taken-for-tokens", "a token is a row"),
    (
        "10.2",
        lambda x, split: F.unfold(x, split[0], stride=split[1], padding=split[2]),
        "columns-taken-for-tokens",
        "stores a window as a column",
    ),
    ("10.2", torn, "reshape-for-transpose", "does not transpose"),
    (
        "10.2",
        lambda x, split: columns(x, split).reshape(
            len(x), -1, x.shape[1] * split[0] ** 2
        ),
        "reshape-for-transpose",
        "torn apart",
    ),
    ("10.2", channels_last, "channels-last", "c first"),
    ("10.2", without_padding, "padding-forgotten", "expected tokens"),
    ("10.2", no_padding, "padding-forgotten", "over the rim"),
    ("10.2", steps_of_one, "stride-forgotten", "move by 1"),
    ("10.2", by_position, "stride-taken-for-dilation", "the second number"),
    ("10.2", dilated_columns, "stride-taken-for-dilation", "have gaps"),
    ("10.2", one_more, None, "expected tokens"),
    ("10.2", shifted, None, "not the windows"),
    ("10.2", by_kernels, None, r"but torch\.float64, .* raised RuntimeError"),
    ("10.2", of_rounded, None, "float64, .* expected the pixels as they are"),
    ("10.3", {1}, "fold-undoes-unfold", "share nothing"),
    ("10.3", {1, 9}, "window-size-counted", "how many pixels a window has"),
    ("10.3", {9}, "window-size-counted", "a pixel lies"),
    ("10.3", {1, 2}, "one-side-only", "both rows and columns"),
    ("10.3", {4}, "corners-forgotten", "in the middle of a window"),
    ("10.3", {2, 4}, "corners-forgotten", "which other window"),
    ("10.3", {1, 2, 3, 4}, None, "count along one side"),
    ("10.4", AroundFromX, "input-goes-around", "x cannot be added"),
    ("10.4", AddsInput, "input-goes-around", "147 and 64"),
    ("10.4", WrongMatrix, None, "your answer raised RuntimeError"),
    ("10.4", NotAround, "path-left-out", "no path around"),
    ("10.4", AroundFromQ, "question-goes-around", "says what it gives"),
    ("10.4", AroundFromK, "question-goes-around", "asks or answers to"),
    ("10.4", TorchScale, "query-width-for-scale", "width that came in"),
    ("10.4", NoScale, "scale-left-out", "not scaled"),
    ("10.4", ScaleLast, "scaled-after-softmax", "before the softmax"),
    ("10.4", KeysFirst, "parts-in-another-order", "q, k, v"),
    ("10.4", KeysQueriesValues, "parts-in-another-order", "another order"),
    ("10.4", ValuesFirst, "parts-in-another-order", "another order"),
    ("10.4", NoProjection, "projection-left-out", "where does `proj`"),
    ("10.4", ProjectsAll, "projection-around-both", "nothing but the mixing"),
    ("10.4", Twice, None, "not the values plus"),
    ("10.4", OneChannel, None, "expected"),
    ("10.4", OfFloat32, None, "but tokens in bfloat16, .* raised RuntimeError"),
    ("10.4", Squeezed, None, r"in float64: expected \(1, 1, 6\), got \(6,\)"),
    ("10.5", stub, None, "still empty"),
    ("10.5", with_matrix, "matrix-first", "Which product can come first"),
    ("10.5", by_broadcast, "matrix-first", "an n x m matrix"),
    ("10.5", by_queries, "matrix-first", "times the work"),
    ("10.5", undivided, "denominator-left-out", "weights sum to 1"),
    ("10.5", by_count, "denominator-left-out", "values that are all 1"),
    ("10.5", by_columns, "denominator-left-out", "by what must each row"),
    ("10.5", without_eps, None, "holds nan"),
    ("10.5", fixed_eps, "eps-fixed", "that was asked for"),
    ("10.5", eps_each, "eps-at-every-key", "the number of keys"),
    ("10.5", eps_in_scores, "eps-at-every-key", "of each row, once"),
    ("10.5", eps_on_features, None, r"eps=1\.0"),
    ("10.5", keys_squared, None, "divided by their sum"),
    ("10.5", of_softmax, "softmax-once-more", "once more"),
    ("10.5", transposed, None, "expected"),
    ("10.5", by_steps_of_float32, None, "but bfloat16, .* raised RuntimeError"),
    ("10.5", rounded, None, r"off by up to \de-0[78]"),
    ("10.5", squeezed_mixture, None, r"expected \(1, 1, 4\), got \(4,\)"),
    ("10.6", "A", "enough-features-make-it-exact", "longest"),
    ("10.6", "C", "rows-of-one-make-softmax", "wrong weights, too"),
    ("10.6", "D", "orthogonal-makes-it-exact", "their length"),
    ("10.6", "E", None, "A, B, C or D"),
]
