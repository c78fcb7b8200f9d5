"""Right answers and known mistakes for the exercises of lesson 12."""

import math
from functools import partial

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_vit.position_encoding import resize_position_embedding
from course_vit.t2t import linear_attention, positive_features

# Pictures and tokens


def cut(pattern):
    """Exercise 12.1 with another order of the axes."""
    return lambda images, p: rearrange(images, pattern, p=p, q=p)


def cut_by_permute(images, p):
    windows = images.unfold(2, p, p).unfold(3, p, p)
    b, c, gh, gw = windows.shape[:4]
    return windows.permute(0, 2, 3, 1, 4, 5).reshape(b, gh * gw, c * p * p)


def cut_as_published(images, p):
    windows = images.unfold(2, p, p).unfold(3, p, p)
    return windows.reshape(len(images), -1, images.shape[1] * p * p)


def cut_by_reshape(images, p):
    return images.reshape(len(images), -1, images.shape[1] * p * p)


def cut_by_torch(images, p):
    return F.unfold(images, p, stride=p).mT


def embed(pattern, kernel="d c p q -> d (c p q)", with_bias=True):
    """Exercise 12.2 with an order of the patch, and one of the kernel."""

    def embed(images, weight, bias):
        p = weight.shape[-1]
        patches = rearrange(
            images, f"b c (gh p) (gw q) -> b (gh gw) {pattern}", p=p, q=p
        )
        return F.linear(patches, rearrange(weight, kernel), bias if with_bias else None)

    return embed


def embed_by_convolution(images, weight, bias):
    return F.conv2d(images, weight, bias, stride=weight.shape[-1]).flatten(2).mT


# Positions


def waves(exponent, arrange=lambda table: table):
    """Exercise 12.3 with an exponent for each column."""

    def waves(n, d):
        column = torch.arange(d)
        angle = torch.arange(n).double()[:, None] / 10_000 ** exponent(column, d)
        return arrange(torch.where(column % 2 == 0, angle.sin(), angle.cos())).float()

    return waves


def waves_by_pairs(n, d):
    clock = 10_000 ** (-torch.arange(0, d, 2) / d)
    angle = torch.outer(torch.arange(n).float(), clock)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def sines_in_front(table):
    return torch.cat([table[:, ::2], table[:, 1::2]], dim=1)


def table(make):
    return lambda n, d: nn.Parameter(make(n, d))


def table_by_init(n, d):
    table = nn.Parameter(torch.empty(1, n, d))
    return nn.init.trunc_normal_(table, std=0.02)


def positions(usual, larger=resize_position_embedding):
    """Exercise 12.5: what is given back at the usual size, and at another."""

    def positions_for(x, table):
        if x.shape[1] == table.shape[1]:
            return usual(x, table)
        side = math.isqrt(x.shape[1])
        return larger(table, (side, side), num_prefix_tokens=0)

    return positions_for


def stretch(resize, read="1 (gh gw) d -> 1 d gh gw"):
    """Exercise 12.6 with a way to resize, and one to lay out the table."""

    def stretch(table, side):
        old = math.isqrt(table.shape[1])
        grid = resize(rearrange(table, read, gh=old), side, old)
        return rearrange(grid, "1 d gh gw -> 1 (gh gw) d")

    return stretch


def by_size(grid, side, old):
    return F.interpolate(grid, size=(side, side), mode="bicubic")


def by_factor(grid, side, old, more=0.0):
    return F.interpolate(grid, scale_factor=(side + more) / old, mode="bicubic")


def by_module(grid, side, old):
    return nn.Upsample((side, side), mode="bicubic")(grid)


def scrambled(table, side):
    old = math.isqrt(table.shape[1])
    grid = by_size(table.reshape(1, -1, old, old), side, old)
    return grid.reshape(1, side * side, -1)


# One head


def scores(q, k):
    return q @ k.mT * q.shape[-1] ** -0.5


def look(dim):
    return lambda q, k: scores(q, k).softmax(dim=dim)


def look_by_exponential(q, k):
    powers = torch.einsum("bhne,bhme->bhnm", q, k).div(q.shape[-1] ** 0.5).exp()
    return powers / powers.sum(dim=3, keepdim=True)


def attend(mixed):
    """Exercise 12.8: what is mixed by the weights."""

    def attend(x, qkv):
        q, k, v = qkv(x).chunk(3, dim=-1)
        return scores(q, k).softmax(dim=-1) @ mixed(x, q, k, v)

    return attend


def attend_fused(x, qkv):
    return F.scaled_dot_product_attention(*qkv(x).chunk(3, dim=-1))


def masked(fill):
    """Exercise 12.9: from scores and mask to weights."""
    return lambda q, k, mask: fill(scores(q, k), mask)


def thrown_away(scores, mask):
    scores.masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1)


def in_place(scores, mask):
    scores.masked_fill_(~mask, -math.inf)
    return scores.softmax(dim=-1)


def added(scores, mask):
    forbidden = torch.zeros_like(scores).masked_fill(~mask, -math.inf)
    return (scores + forbidden).softmax(dim=-1)


def by_where(scores, mask):
    return torch.where(mask, scores, -math.inf).softmax(dim=-1)


def zeroed(scores, mask):
    return scores.masked_fill(~mask, 0.0).softmax(dim=-1)


def times_mask(scores, mask):
    return (scores * mask).softmax(dim=-1)


def too_late(scores, mask):
    return scores.softmax(dim=-1).masked_fill(~mask, 0.0)


def turned_round(scores, mask):
    return scores.masked_fill(mask, -1e9).softmax(dim=-1)


def hear(mask, tokens=lambda x, real: x):
    """Exercise 12.10: the layer's mask from ours."""

    def hear(layer, x, real):
        x = tokens(x, real)
        return layer(x, x, x, key_padding_mask=mask(real), need_weights=False)[0]

    return hear


def hear_each(layer, x, real):
    out = torch.zeros_like(x)
    for i, own in enumerate(real):
        part = x[i : i + 1, own]
        out[i, own] = layer(part, part, part)[0][0]
    return out


# Many heads


def looks(split, merge, whole=lambda x: x):
    """Exercise 12.11 with two patterns."""

    def looks(x, h):
        parts = rearrange(x, split, h=h)
        mixed = F.scaled_dot_product_attention(parts, parts, parts)
        return rearrange(mixed, merge, h=h)

    return looks


def looks_by_reshape(x, h):
    b, n, d = x.shape
    parts = x.reshape(b, h, n, d // h)
    return F.scaled_dot_product_attention(parts, parts, parts).reshape(b, n, d)


def merged_by_reshape(x, h):
    parts = rearrange(x, "b n (h e) -> b h n e", h=h)
    return F.scaled_dot_product_attention(parts, parts, parts).reshape(x.shape)


def looks_by_loop(x, h):
    parts = x.chunk(h, dim=-1)
    return torch.cat([look(-1)(part, part) @ part for part in parts], dim=-1)


def split(pattern):
    return lambda qkv, h: rearrange(qkv, pattern, three=3, h=h)


def split_by_view(qkv, h):
    b, n, d = qkv.shape
    return qkv.view(b, n, 3, h, d // 3 // h).permute(2, 0, 3, 1, 4).unbind(0)


# The layer that read the batch


class Mixer(nn.Module):
    """Exercise 12.13: how the layer is made, and what goes in and comes out."""

    def __init__(self, d, h, batch_first=True, turn=lambda x: x, cut=lambda x: x):
        super().__init__()
        self.heads = nn.MultiheadAttention(d, h, batch_first=batch_first)
        self.turn, self.cut = turn, cut

    def forward(self, x):
        x = self.turn(x)
        mixed = self.heads(x, self.cut(x), self.cut(x), need_weights=False)[0]
        return self.turn(mixed)


def turned(x):
    return x.transpose(0, 1)


def relabelled(x):
    return x.reshape(x.shape[1], x.shape[0], x.shape[2])


class NoMixer(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.linear = nn.Linear(d, d)

    def forward(self, x):
        return self.linear(x)


def published_mixer(**options):
    """A class, as asked for, that makes a Mixer of a kind."""

    class Published(Mixer):
        def __init__(self, d, h):
            super().__init__(d, h, **options)

    return Published


def detach(*cut):
    """Exercise 12.14: the parts that are detached."""

    def attend(layer, x):
        return layer(*(x.detach() if part in cut else x for part in "qkv"))[0]

    return attend


# The block


def encode(block):
    """Exercise 12.15 with another block."""

    def encode(x, blocks):
        for look, think in blocks:
            x = block(x, look, think)
        return x

    return encode


def inline(x, look, think):
    y = look(x) + x
    return y + think(y)


class Norm(nn.Module):
    """Exercise 12.16: a norm over these axes, written by hand."""

    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        centred = x - x.mean(dim=self.axes, keepdim=True)
        spread = centred.square().mean(dim=self.axes, keepdim=True)
        return centred / (spread + 1e-6).sqrt()


def drop(train, test=lambda x, keep: x):
    """Exercise 12.17: what happens in training, and in eval."""
    return lambda x, keep, training: (train if training else test)(x, keep)


def kept(x, keep):
    return x * (torch.rand_like(x) < keep)


def path(factor, mask=lambda x: torch.rand(len(x), 1, 1)):
    """Exercise 12.18: from the input, who survives, and the chance."""

    def drop_path(x, drop_prob):
        keep = 1 - drop_prob
        return factor(x, (mask(x) < keep).to(x.dtype), keep)

    return drop_path


def path_by_dropout(x, drop_prob):
    return x * F.dropout(x.new_ones(len(x), 1, 1), drop_prob)


# Read-out and training


def classify(steps):
    """Exercise 12.19: a list of words, run one after the other."""

    def classify(x, blocks, norm, head):
        blocks = list(blocks)
        for step in steps.split():
            x = {"first": blocks[0], "second": blocks[1], "norm": norm}[step](x)
        return head(x[:, 0])

    return classify


def other_token(x, blocks, norm, head):
    for block in blocks:
        x = block(x)
    return head(norm(x)[:, 1])


def mean_token(x, blocks, norm, head):
    for block in blocks:
        x = block(x)
    return head(norm(x)).mean(dim=1)


def prepend(copy, last=False):
    """Exercise 12.20: how the token is copied, and where it goes."""

    def prepend(cls_token, x):
        parts = [copy(cls_token, len(x)), x]
        return torch.cat(parts[::-1] if last else parts, dim=1)

    return prepend


def repeated(token, b):
    return token.repeat(b, 1, 1)


def expanded(token, b):
    return token.expand(b, -1, -1)


class Readout(nn.Module):
    """Exercise 12.21 as published; the others change `forward`."""

    def __init__(self, head, drop):
        super().__init__()
        self.head, self.drop = head, drop

    def forward(self, x):
        return self.head(F.dropout(x, self.drop))


class ToldReadout(Readout):
    def forward(self, x):
        return self.head(F.dropout(x, self.drop, self.training))


class LayerReadout(Readout):
    def __init__(self, head, drop):
        super().__init__(head, drop)
        self.layer = nn.Dropout(drop)

    def forward(self, x):
        return self.head(self.layer(x))


class SilentReadout(Readout):
    def forward(self, x):
        return self.head(F.dropout(x, self.drop, training=False))


class LateReadout(Readout):
    def forward(self, x):
        return F.dropout(self.head(x), self.drop, self.training)


def freeze_each(backbone):
    for parameter in backbone.parameters():
        parameter.requires_grad = False
    return backbone


def freeze_outermost(backbone):
    for parameter in backbone.parameters(recurse=False):
        parameter.requires_grad = False
    return backbone


# A teacher


def distil(guess, truth):
    """Exercise 12.23: who is the guess, and who the truth."""

    def distil(student, teacher, tau):
        log_guess = (guess(student, teacher) / tau).log_softmax(dim=-1)
        soft = (truth(student, teacher) / tau).softmax(dim=-1)
        return F.kl_div(log_guess, soft, reduction="batchmean") * tau**2

    return distil


def the_student(student, teacher):
    return student


def the_teacher(student, teacher):
    return teacher


def distil_by_definition(student, teacher, tau):
    p, q = ((x / tau).softmax(dim=-1) for x in (teacher, student))
    return (p * (p.log() - q.log())).sum() / len(p) * tau**2


def to_train(*parts):
    """Exercise 12.24: the parts whose parameters are handed on."""

    def to_train(distiller):
        named = distiller.named_parameters()
        return [p for name, p in named if name.partition(".")[0] in parts]

    return to_train


def to_train_by_hand(distiller):
    inner = distiller.student, distiller.distillation_head
    return [distiller.distillation_token, *(p for m in inner for p in m.parameters())]


# Tokens to token


def windows(rule):
    return lambda side, kernel, stride, padding: rule(side, kernel, stride, padding)


def windows_by_loop(side, kernel, stride, padding):
    return len(range(0, side + 2 * padding - kernel + 1, stride))


def perform(*order):
    """Exercise 12.26: which part is the query, the key, the values."""

    def features(x, w):
        return (x @ w.mT - x.square().sum(dim=-1, keepdim=True) / 2).exp()

    def perform(x, kqv, w):
        parts = kqv(x).chunk(3, dim=-1)
        q, k, v = (parts[place] for place in order)
        weights = features(q, w) @ features(k, w).mT
        return weights @ v / weights.sum(dim=-1, keepdim=True)

    return perform


def perform_as_the_lesson(x, kqv, w):
    k, q, v = kqv(x).chunk(3, dim=-1)
    return linear_attention(positive_features(q, w), positive_features(k, w), v)


def lay_back(divide):
    """Exercise 12.27: what is done with the sums."""

    def lay_back(windows, side):
        return divide(fold(windows, side), fold(torch.ones_like(windows), side))

    return lay_back


def fold(windows, side):
    return F.fold(windows.mT, (side, side), 7, stride=4, padding=2)


def lay_back_window_by_window(windows, side):
    full = windows.new_zeros(len(windows), 3, side + 4, side + 4)
    across = (side + 4 - 7) // 4 + 1
    for place in range(windows.shape[1]):
        i, j = 4 * (place // across), 4 * (place % across)
        full[:, :, i : i + 7, j : j + 7] = windows[:, place].unflatten(1, (3, 7, 7))
    return full[:, :, 2:-2, 2:-2]


RIGHT = [
    ("12.1", ("order", cut("b c (gh p) (gw q) -> b (gh gw) (c p q)"))),
    ("12.1", (" Order", cut_by_permute)),
    ("12.1", ("order", cut_by_torch)),
    ("12.2", ("order", embed("(c p q)"))),
    ("12.2", ("order", embed("(p q c)", "d c p q -> d (p q c)"))),
    ("12.2", ("order", embed_by_convolution)),
    ("12.3", ("count", waves(lambda column, d: 2 * (column // 2) / d))),
    ("12.3", ("role", waves_by_pairs)),
    ("12.4", ("scale", table(lambda n, d: 0.02 * torch.randn(1, n, d)))),
    ("12.4", ("scale", table_by_init)),
    ("12.5", ("missing", positions(lambda x, table: table))),
    ("12.5", ("role", positions(lambda x, table: table.expand_as(x)))),
    ("12.6", ("count", stretch(by_size))),
    ("12.6", ("scale", stretch(by_module))),
    ("12.7", ("axis", look(-1))),
    ("12.7", ("axis", look_by_exponential)),
    ("12.8", ("missing", attend(lambda x, q, k, v: v))),
    ("12.8", ("role", attend_fused)),
    ("12.9", ("missing", masked(in_place))),
    ("12.9", ("missing", masked(added))),
    ("12.9", ("missing", masked(by_where))),
    ("12.10", ("role", hear(lambda real: ~real))),
    ("12.10", ("role", hear_each)),
    ("12.11", ("axis", looks("b n (h e) -> b h n e", "b h n e -> b n (h e)"))),
    ("12.11", ("axis", looks_by_loop)),
    ("12.12", ("order", split("b n (three h e) -> three b h n e"))),
    ("12.12", ("order", split_by_view)),
    ("12.13", ("leak", published_mixer())),
    ("12.13", ("axis", published_mixer(batch_first=False, turn=turned))),
    ("12.14", ("gradient", detach())),
    ("12.14", ("gradient", lambda layer, x: layer(x, x.clone(), x + 0)[0])),
    ("12.15", ("missing", encode(inline))),
    ("12.15", ("missing", encode(lambda x, f, g: x + f(x) + g(x + f(x))))),
    ("12.16", ("axis", lambda n, d: nn.LayerNorm(d))),
    ("12.16", ("axis", lambda n, d: Norm(-1))),
    ("12.17", ("role", lambda x, keep, training: F.dropout(x, 1 - keep, training))),
    ("12.17", ("scale", drop(lambda x, keep: kept(x, keep) / keep))),
    ("12.18", ("scale", path_by_dropout)),
    ("12.18", ("scale", path(lambda x, alive, keep: x * alive / max(keep, 1e-9)))),
    ("12.19", ("missing", classify("first second norm"))),
    ("12.19", ("missing", lambda x, b, norm, head: head(norm(b[1](b[0](x[:, 0])))))),
    ("12.20", ("healthy", prepend(repeated))),
    ("12.20", ("healthy", prepend(expanded))),
    ("12.21", ("mode", ToldReadout)),
    ("12.21", ("mode", LayerReadout)),
    ("12.22", ("mode", freeze_each)),
    ("12.22", ("gradient", lambda backbone: backbone.requires_grad_(False))),
    ("12.23", ("role", distil(the_student, the_teacher))),
    ("12.23", ("missing", distil_by_definition)),
    (
        "12.24",
        ("gradient", to_train("student", "distillation_token", "distillation_head")),
    ),
    ("12.24", ("missing", to_train_by_hand)),
    ("12.25", ("count", windows(lambda s, k, t, p: (s + 2 * p - k) // t + 1))),
    ("12.25", ("count", windows_by_loop)),
    ("12.26", ("role", perform(1, 0, 2))),
    ("12.26", ("order", perform_as_the_lesson)),
    ("12.27", ("scale", lay_back(lambda summed, times: summed / times))),
    ("12.27", ("missing", lay_back_window_by_window)),
]
GOOD = dict(reversed(RIGHT))  # the first right answer of each exercise


def other_words(number, *right):
    """Right code under a word that does not fit."""
    code = GOOD[number][1]
    words = [word for word in ("leak", "mode", "scale", "axis") if word not in right]
    return [(number, (word, code)) for word in words[:2]]


WRONG = [
    *((*wrong, "fault-misread", "still there") for wrong in other_words("12.1")),
    ("12.1", ("order", cut_as_published), "channels-before-windows", "from channel 0"),
    ("12.1", ("order", cut_by_reshape), "channels-before-windows", "from channel 0"),
    (
        "12.1",
        ("order", cut("b c (gh p) (gw q) -> b (gw gh) (c p q)")),
        "grid-read-by-columns",
        "reading order",
    ),
    (
        "12.1",
        ("order", cut("b c (gh p) (gw q) -> b (gh gw) (p q c)")),
        "pixels-before-channels",
        "order is not channel, row",
    ),
    ("12.1", ("order", lambda x, p: x.flatten(1)), None, r"\(2, 6, 48\), got"),
    ("12.1", ("order", lambda x, p: cut_by_torch(x, p) + 1), None, "draw one"),
    ("12.1", ("shape", cut_by_torch), None, r"one of axis, order, .* got 'shape'"),
    ("12.1", "order", None, "cannot be read as an answer"),
    *((*wrong, "fault-misread", "meets") for wrong in other_words("12.2")),
    ("12.2", ("order", embed("(p q c)")), "pixels-meet-channels-first", r"off by"),
    (
        "12.2",
        ("order", embed("(c p q)", "d c p q -> d (p q c)")),
        None,
        "from the convolution",
    ),
    ("12.2", ("order", embed("(c q p)")), "rows-for-columns", "rows and columns"),
    ("12.2", ("order", embed("(c p q)", with_bias=False)), "bias-left-out", "add"),
    *((*wrong, "fault-misread", "run over") for wrong in other_words("12.3")),
    ("12.3", ("count", waves(lambda c, d: 2 * c / d)), "i-counts-columns", "clocks"),
    ("12.3", ("count", waves(lambda c, d: c / d)), "partners-with-two-angles", "angle"),
    (
        "12.3",
        ("count", waves(lambda c, d: 2 * (c // 2) / d + c % 2 / d)),
        "partners-with-two-angles",
        "angle",
    ),
    ("12.3", ("count", waves(lambda c, d: c // 2 / d)), "two-left-out", "too fast"),
    (
        "12.3",
        ("count", waves(lambda c, d: 2 * (c // 2) / d, sines_in_front)),
        "sines-in-front",
        "side by side",
    ),
    ("12.3", ("count", waves(lambda c, d: c // 2 * 3 / d)), None, "not the table"),
    *((*wrong, "fault-misread", "How large") for wrong in other_words("12.4", "scale")),
    (
        "12.4",
        ("scale", table(lambda n, d: torch.randn(1, n, d))),
        "louder-than-patches",
        r"deviation of (1|0\.99)",
    ),
    (
        "12.4",
        ("scale", lambda n, d: 0.02 * torch.randn(1, n, d)),
        "fixed-not-learned",
        "plain tensor",
    ),
    (
        "12.4",
        ("scale", table(lambda n, d: torch.randn(1, n, d) / d**0.5)),
        "scaled-by-width",
        "summed",
    ),
    (
        "12.4",
        ("scale", table(lambda n, d: torch.zeros(1, n, d))),
        "all-zero-start",
        "begin alike",
    ),
    (
        "12.4",
        ("scale", table(lambda n, d: torch.rand(1, n, d))),
        None,
        "deviation of 0",
    ),
    *((*wrong, "fault-misread", "twice") for wrong in other_words("12.5")),
    ("12.5", ("missing", positions(lambda x, t: x)), "tokens-handed-back", "argument"),
    (
        "12.5",
        ("missing", positions(lambda x, t: x + t)),
        "tokens-in-the-table",
        "once more",
    ),
    ("12.5", ("missing", positions(lambda x, t: 0 * t)), "no-rows-at-all", "zeros"),
    ("12.5", ("missing", lambda x, t: t), "stretch-forgotten", "16 rows"),
    *((*wrong, "fault-misread", "not exact") for wrong in other_words("12.6", "scale")),
    ("12.6", ("count", stretch(by_factor)), "product-rounded-down", r"\[61\]"),
    (
        "12.6",
        ("count", stretch(partial(by_factor, more=0.1))),
        "factor-made-larger",
        "too far",
    ),
    ("12.6", ("count", scrambled), "grid-scrambled", "one place of the grid"),
    *((*wrong, "fault-misread", "197") for wrong in other_words("12.7", "axis")),
    ("12.7", ("axis", look(1)), "softmax-over-heads", r"rows sum to \d\.\d+ up to"),
    ("12.7", ("axis", look(-2)), "softmax-over-queries", "over the queries"),
    ("12.7", ("axis", look(0)), "softmax-over-images", "over the images"),
    ("12.7", ("axis", lambda q, k: look(1)(q, k) / 2), None, "what should a row"),
    *((*wrong, "fault-misread", "ever used") for wrong in other_words("12.8")),
    ("12.8", ("missing", attend(lambda x, q, k, v: x)), "tokens-for-values", "tokens"),
    ("12.8", ("missing", attend(lambda x, q, k, v: k)), "keys-for-values", "keys are"),
    (
        "12.8",
        ("missing", attend(lambda x, q, k, v: q)),
        "queries-for-values",
        "queries",
    ),
    ("12.8", ("missing", attend(lambda x, q, k, v: v + x)), None, "not the values"),
    *((*wrong, "fault-misread", "without it") for wrong in other_words("12.9")),
    ("12.9", ("missing", masked(thrown_away)), "result-thrown-away", "changes nothing"),
    (
        "12.9",
        ("missing", lambda q, k, mask: look(-1)(q, k)),
        "result-thrown-away",
        "changes nothing",
    ),
    ("12.9", ("missing", masked(zeroed)), "zero-taken-for-forbidden", "of 0 is a"),
    ("12.9", ("missing", masked(times_mask)), "zero-taken-for-forbidden", "of 0 is a"),
    ("12.9", ("missing", masked(too_late)), "masked-too-late", r"sums to 0\."),
    ("12.9", ("missing", masked(turned_round)), "mask-turned-round", "True says"),
    *((*wrong, "fault-misread", "its True") for wrong in other_words("12.10")),
    ("12.10", ("role", hear(lambda real: real)), "true-means-blocked-here", "blocked"),
    ("12.10", ("role", hear(lambda real: None)), "mask-left-out", "everybody"),
    (
        "12.10",
        ("role", hear(lambda real: None, lambda x, real: x * real[:, :, None])),
        "padding-set-to-zero",
        "its share",
    ),
    *((*wrong, "fault-misread", "into four") for wrong in other_words("12.11", "axis")),
    (
        "12.11",
        ("axis", looks("b (h n) d -> b h n d", "b h n d -> b (h n) d")),
        "tokens-divided",
        "nobody else",
    ),
    ("12.11", ("axis", looks_by_reshape), "heads-by-reshape", r"by up to \d\.\d\d"),
    ("12.11", ("axis", merged_by_reshape), "heads-by-reshape", r"by up to \d\.\d\d"),
    (
        "12.11",
        ("axis", looks("b n (e h) -> b h n e", "b h n e -> b n (e h)")),
        "heads-interleaved",
        "0, 3, 6, 9",
    ),
    ("12.11", ("axis", lambda x, h: looks_by_loop(x, 1)), "one-head-only", "heads"),
    *((*wrong, "fault-misread", "exactly once") for wrong in other_words("12.12")),
    (
        "12.12",
        ("order", split("b n (h e three) -> three b h n e")),
        "three-runs-fastest",
        r"\[0, 3, 6, 9\]",
    ),
    (
        "12.12",
        ("order", split("b n (h three e) -> three b h n e")),
        "heads-run-first",
        r"\[4, 5, 6, 7\]",
    ),
    (
        "12.12",
        ("order", split("b n (three e h) -> three b h n e")),
        "channels-before-heads",
        r"\[0, 2, 4, 6\]",
    ),
    *(
        (*wrong, "fault-misread", "another")
        for wrong in other_words("12.13", "leak", "axis")
    ),
    (
        "12.13",
        ("leak", published_mixer(batch_first=False)),
        "images-read-as-tokens",
        "images for the sequence",
    ),
    (
        "12.13",
        ("leak", published_mixer(batch_first=False, cut=torch.detach)),
        "images-read-as-tokens",
        "images for the sequence",
    ),
    (
        "12.13",
        ("leak", published_mixer(turn=turned)),
        "images-read-as-tokens",
        "images for the sequence",
    ),
    (
        "12.13",
        ("leak", published_mixer(batch_first=False, turn=relabelled)),
        "reshaped-not-turned",
        "only relabelled",
    ),
    (
        "12.13",
        ("leak", published_mixer(cut=torch.detach)),
        "gradient-cut-too",
        "still detached",
    ),
    ("12.13", ("leak", NoMixer), None, "do all tokens of one meet"),
    *((*wrong, "fault-misread", "way back") for wrong in other_words("12.14")),
    ("12.14", ("gradient", detach("k", "v")), "two-doors-shut", r"off by up to \d"),
    ("12.14", ("gradient", detach("q", "k")), "two-doors-shut", "one of the three"),
    ("12.14", ("gradient", detach("v")), "one-door-shut", "two of three"),
    ("12.14", ("gradient", detach("q")), "one-door-shut", "two of three"),
    ("12.14", ("gradient", detach("q", "k", "v")), "all-doors-shut", "at all"),
    ("12.14", ("gradient", lambda layer, x: x), None, "has changed"),
    *((*wrong, "fault-misread", "nowhere") for wrong in other_words("12.15")),
    (
        "12.15",
        ("missing", encode(lambda x, f, g: g(f(x)))),
        "no-sum-at-all",
        "replaces its input",
    ),
    (
        "12.15",
        ("missing", encode(lambda x, f, g: x + g(f(x)))),
        "one-sum-for-two",
        "one sum",
    ),
    (
        "12.15",
        ("missing", encode(lambda x, f, g: f(x) + g(f(x)))),
        "first-sum-left-out",
        "the MLP adds",
    ),
    (
        "12.15",
        ("missing", encode(lambda x, f, g: g(x + f(x)))),
        "second-sum-left-out",
        "the MLP replaces",
    ),
    (
        "12.15",
        ("missing", encode(lambda x, f, g: x + inline(x, f, g))),
        "start-added-again",
        "doubled",
    ),
    ("12.15", ("missing", lambda x, blocks: x), None, "not x"),
    *((*wrong, "fault-misread", "196") for wrong in other_words("12.16", "axis")),
    (
        "12.16",
        ("axis", lambda n, d: nn.LayerNorm([n, d])),
        "normed-over-the-image",
        "whole image",
    ),
    (
        "12.16",
        ("axis", lambda n, d: Norm(1, 2)),
        "normed-over-the-image",
        "whole image",
    ),
    ("12.16", ("axis", lambda n, d: Norm(1)), "normed-over-the-tokens", "each channel"),
    (
        "12.16",
        ("axis", lambda n, d: nn.BatchNorm1d(n)),
        "normed-over-the-batch",
        "several images",
    ),
    ("12.16", ("axis", lambda n, d: nn.Identity()), None, "each token should have"),
    *((*wrong, "fault-misread", "meaning") for wrong in other_words("12.17", "scale")),
    (
        "12.17",
        ("role", drop(F.dropout, lambda x, keep: x * keep)),
        "keep-taken-for-drop",
        r"0\.20 were kept",
    ),
    ("12.17", ("role", drop(F.dropout)), "keep-taken-for-drop", r"0\.20 were kept"),
    (
        "12.17",
        (
            "role",
            drop(lambda x, keep: F.dropout(x, 1 - keep), lambda x, keep: x * keep),
        ),
        "shrunk-in-eval",
        r"1\.0 in training and 0\.8 in eval",
    ),
    ("12.17", ("role", drop(kept)), "survivors-not-enlarged", r"0\.8 in training"),
    (
        "12.17",
        ("role", drop(kept, lambda x, keep: x * keep)),
        None,
        "of this course is the identity",
    ),
    (
        "12.17",
        ("role", lambda x, keep, training: F.dropout(x, 1 - keep)),
        "drops-in-eval",
        "in eval",
    ),
    ("12.17", ("role", drop(lambda x, keep: x)), "never-drops", "all are kept"),
    *(
        (*wrong, "fault-misread", "nobody survives")
        for wrong in other_words("12.18", "scale")
    ),
    (
        "12.18",
        ("scale", path(lambda x, alive, keep: x.div(keep) * alive)),
        "nothing-by-nothing",
        "nan comes out",
    ),
    (
        "12.18",
        ("scale", path(lambda x, alive, keep: x * (alive * (1 / keep)))),
        "nothing-by-nothing",
        "nan comes out",
    ),
    (
        "12.18",
        ("scale", path(lambda x, alive, keep: (x.div(keep) * alive).nan_to_num())),
        "nan-painted-over",
        "painted over",
    ),
    (
        "12.18",
        ("scale", path(lambda x, alive, keep: x * alive)),
        "survivors-not-divided",
        "as they were",
    ),
    (
        "12.18",
        ("scale", lambda x, p: x if p in (0, 1) else path_by_dropout(x, p)),
        "drops-nothing-at-one",
        "comes back whole",
    ),
    ("12.18", ("scale", F.dropout), "drops-single-numbers", "one draw for each"),
    *((*wrong, "fault-misread", "three times") for wrong in other_words("12.19")),
    ("12.19", ("missing", classify("first second")), "last-norm-left-out", "not used"),
    (
        "12.19",
        ("missing", classify("norm first second")),
        "normed-before-the-blocks",
        "before the blocks",
    ),
    (
        "12.19",
        ("missing", classify("first norm second norm")),
        "normed-in-every-block",
        "behind every block",
    ),
    ("12.19", ("missing", other_token), "another-token-read", "stands first"),
    ("12.19", ("missing", mean_token), "another-token-read", "stands first"),
    ("12.19", ("missing", classify("first norm")), None, "other scores"),
    *((*wrong, "fault-misread", "print True") for wrong in other_words("12.20")),
    (
        "12.20",
        ("gradient", prepend(expanded)),
        "fault-misread",
        "print True",
    ),
    (
        "12.20",
        ("healthy", prepend(lambda token, b: expanded(token.detach(), b))),
        "token-cut-off",
        "no gradient",
    ),
    (
        "12.20",
        (
            "healthy",
            prepend(
                lambda token, b: torch.tensor(repeated(token, b).tolist()).double()
            ),
        ),
        "token-cut-off",
        "no gradient",
    ),
    (
        "12.20",
        ("healthy", prepend(lambda token, b: expanded(token, b) / b)),
        "gradient-shared-out",
        "a third",
    ),
    ("12.20", ("healthy", prepend(expanded, last=True)), "token-behind", "stands last"),
    *(
        (*wrong, "fault-misread", "did not hear")
        for wrong in other_words("12.21", "mode")
    ),
    ("12.21", ("mode", Readout), "function-not-told", "still differ"),
    ("12.21", ("mode", SilentReadout), "off-for-ever", "nothing is dropped"),
    ("12.21", ("mode", LateReadout), "drops-the-scores", "whole class scores"),
    *((*wrong, "fault-misread", "belong to") for wrong in other_words("12.22", "mode")),
    (
        "12.22",
        ("mode", lambda backbone: backbone.eval()),
        "eval-taken-for-frozen",
        "still learn, and move",
    ),
    (
        "12.22",
        ("mode", lambda backbone: backbone.eval().requires_grad_(False)),
        "dropout-frozen-too",
        "silent",
    ),
    ("12.22", ("mode", freeze_outermost), "inner-layers-forgotten", "but 0.0.weight"),
    *((*wrong, "fault-misread", "compared") for wrong in other_words("12.23")),
    (
        "12.23",
        ("role", distil(the_teacher, the_teacher)),
        "teacher-meets-itself",
        "the student is nowhere",
    ),
    (
        "12.23",
        ("role", distil(the_student, the_student)),
        "student-meets-itself",
        "the teacher is nowhere",
    ),
    (
        "12.23",
        ("role", distil(the_teacher, the_student)),
        "guess-and-truth-swapped",
        "who is the truth",
    ),
    (
        "12.23",
        ("role", lambda s, t, tau: distil_by_definition(s, t, tau) / tau),
        None,
        "the definition gives",
    ),
    *((*wrong, "fault-misread", "to move them") for wrong in other_words("12.24")),
    ("12.24", ("gradient", to_train("student")), "student-only", "only the student"),
    (
        "12.24",
        ("gradient", lambda distiller: list(distiller.parameters())),
        "teacher-learns-too",
        "from its student",
    ),
    (
        "12.24",
        ("gradient", to_train("student", "distillation_head")),
        "token-left-outside",
        "distillation_token is in no",
    ),
    (
        "12.24",
        ("gradient", to_train("student", "distillation_token")),
        "head-left-outside",
        "distillation_head is in no",
    ),
    (
        "12.24",
        ("gradient", lambda distiller: 2 * to_train_by_hand(distiller)),
        None,
        "twice",
    ),
    *((*wrong, "fault-misread", "each fourth") for wrong in other_words("12.25")),
    (
        "12.25",
        ("count", windows(lambda s, k, t, p: math.ceil((s + 2 * p - k) / t))),
        "rounded-up",
        "leaves nothing",
    ),
    (
        "12.25",
        ("count", windows(lambda s, k, t, p: math.ceil((s + 2 * p - k) / t) + 1)),
        "rounded-up-and-one",
        "half a window",
    ),
    (
        "12.25",
        ("count", windows(lambda s, k, t, p: (s + 2 * p - k) // t)),
        "first-window-forgotten",
        "needs no step",
    ),
    (
        "12.25",
        ("count", windows(lambda s, k, t, p: (s + p - k) // t + 1)),
        "padding-on-one-side",
        "both sides",
    ),
    (
        "12.25",
        ("count", windows(lambda s, k, t, p: s // t + 2)),
        None,
        "not what unfold",
    ),
    *((*wrong, "fault-misread", "a name") for wrong in other_words("12.26")),
    ("12.26", ("role", perform(0, 1, 2)), "queries-read-first", "the matrix called"),
    ("12.26", ("role", perform(1, 2, 0)), "values-read-first", "stands last"),
    ("12.26", ("role", perform(2, 1, 0)), "values-read-first", "stands last"),
    ("12.26", ("role", perform(0, 2, 1)), "values-in-the-middle", "stands last"),
    ("12.26", ("role", lambda x, kqv, w: kqv(x)[:, :, :4]), None, "not the linear"),
    *((*wrong, "fault-misread", "bright") for wrong in other_words("12.27", "scale")),
    ("12.27", ("scale", lay_back(lambda s, t: s)), "overlaps-added", "added up"),
    ("12.27", ("scale", lay_back(lambda s, t: s / 4)), "one-factor-for-all", "fence"),
    (
        "12.27",
        ("scale", lay_back(lambda s, t: s / t.mean())),
        "one-factor-for-all",
        "fence",
    ),
    ("12.27", ("scale", lay_back(lambda s, t: s / 49)), "windows-averaged", "49 is"),
    (
        "12.27",
        ("scale", lay_back(lambda s, t: s / t**2)),
        "one-factor-for-all",
        "fence",
    ),
]
