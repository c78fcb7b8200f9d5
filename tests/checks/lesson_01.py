"""Right answers and known mistakes for the exercises of lesson 01."""

import torch
from einops import rearrange
from torch import nn


def by_loop(images, size):
    ph, pw = size
    rows = range(0, images.shape[2], ph)
    columns = range(0, images.shape[3], pw)
    cut = [
        images[:, :, y : y + ph, x : x + pw].flatten(1) for y in rows for x in columns
    ]
    return torch.stack(cut, dim=1)


def by_reshape(images, size):
    b, c, _, _ = images.shape
    return images.reshape(b, -1, c * size[0] * size[1])


def channel_last(images, size):
    pattern = "b c (gh ph) (gw pw) -> b (gh gw) (ph pw c)"
    return rearrange(images, pattern, ph=size[0], pw=size[1])


def by_column(images, size):
    pattern = "b c (gh ph) (gw pw) -> b (gw gh) (c ph pw)"
    return rearrange(images, pattern, ph=size[0], pw=size[1])


def stub(*_):
    raise NotImplementedError


def linear(weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
    return layer


def as_linear(conv):
    return linear(conv.weight.detach().flatten(1), conv.bias.detach())


def without_bias(conv):
    return linear(conv.weight.detach().flatten(1), torch.zeros(len(conv.weight)))


def kernel_channel_last(conv):
    weight = rearrange(conv.weight.detach(), "d c ph pw -> d (ph pw c)")
    return linear(weight, conv.bias.detach())


RIGHT = [("1.1", (196, 768)), ("1.2", by_loop), ("1.3", as_linear)]
WRONG = [
    ("1.1", (14, 768), "along one side"),
    ("1.1", (197, 768), "class token"),
    ("1.1", (3136, 768), "divided by 16 once"),
    ("1.1", (195, 768), "then square"),
    ("1.1", (196, 256), "one colour pixel"),
    ("1.1", (196, 14), "times channels"),
    ("1.2", stub, "still empty"),
    ("1.2", by_reshape, "Gather the two grid axes"),
    ("1.2", by_column, "Gather the two grid axes"),
    ("1.2", channel_last, "channel, row, column"),
    ("1.2", lambda images, size: by_loop(images, size).mT, "expected"),
    ("1.3", stub, "still empty"),
    ("1.3", lambda conv: conv, "nn.Linear is asked for"),
    ("1.3", without_bias, "added after the sum"),
    ("1.3", kernel_channel_last, "laid flat"),
]
