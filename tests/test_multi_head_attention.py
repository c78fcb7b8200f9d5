"""Lesson 4: several questions at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

quick = settings(max_examples=25)
close = {"atol": 1e-12, "rtol": 0}


def random_layer(package, dim, num_heads, **options):
    """A layer in float64 whose biases are not zero, and tokens for it."""
    torch.manual_seed(0)
    layer = package.MultiHeadAttention(dim, num_heads, **options).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer, torch.randn(2, 5, dim, dtype=torch.float64)


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize(("dim", "num_heads"), [(12, 3), (12, 4), (6, 1), (5, 5)])
def test_it_equals_torch_multihead_attention(package, dim, num_heads, qkv_bias):
    layer, x = random_layer(package, dim, num_heads, qkv_bias=qkv_bias)
    peer = nn.MultiheadAttention(dim, num_heads, batch_first=True).double()
    peer.in_proj_weight.data = layer.qkv.weight.data
    if qkv_bias:
        peer.in_proj_bias.data = layer.qkv.bias.data
    peer.out_proj.load_state_dict(layer.proj.state_dict())
    theirs, their_maps = peer(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(layer(x), theirs, **close)
    torch.testing.assert_close(layer.attention_map(x), their_maps, **close)


@quick
@given(h=st.integers(1, 4), e=st.integers(1, 5))
def test_it_equals_a_loop_over_heads(package, h, e):
    layer, x = random_layer(package, h * e, h)
    q, k, v = F.linear(x, layer.qkv.weight, layer.qkv.bias).chunk(3, dim=-1)
    mixed = []
    for head in range(h):
        mine = slice(head * e, (head + 1) * e)
        scores = q[..., mine] @ k[..., mine].transpose(1, 2) / e**0.5
        mixed.append(scores.softmax(dim=-1) @ v[..., mine])
        torch.testing.assert_close(
            layer.attention_map(x)[:, head], scores.softmax(dim=-1), **close
        )
    torch.testing.assert_close(layer(x), layer.proj(torch.cat(mixed, dim=-1)), **close)


def test_every_row_of_the_attention_map_sums_to_one(package):
    layer, x = random_layer(package, 12, 3)
    attention_map = layer.attention_map(x)
    assert attention_map.shape == (2, 3, 5, 5)
    ones = torch.ones(2, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(attention_map.sum(dim=-1), ones, **close)


def test_shuffled_tokens_give_the_same_answers_shuffled(package):
    layer, x = random_layer(package, 12, 3)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order], **close)


def test_images_of_a_batch_do_not_see_each_other(package):
    layer, x = random_layer(package, 12, 3)
    torch.testing.assert_close(layer(x)[:1], layer(x[:1]), **close)


def test_the_key_bias_changes_nothing(package):
    layer, x = random_layer(package, 12, 3)
    before = layer(x)
    layer.qkv.bias.data[12:24] += 3.0
    torch.testing.assert_close(layer(x), before, **close)
    layer.qkv.bias.data[:12] += 3.0
    assert (layer(x) - before).abs().max() > 0.01


@pytest.mark.parametrize("option", ["attn_drop", "proj_drop"])
def test_dropout_acts_in_training_only(package, option):
    still, x = random_layer(package, 12, 3)
    layer, _ = random_layer(package, 12, 3, **{option: 0.5})
    assert torch.equal(layer.eval()(x), still(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))


def test_attn_drop_drops_looks_and_proj_drop_drops_outputs(package):
    looks, x = random_layer(package, 12, 3, attn_drop=0.5)
    outputs, _ = random_layer(package, 12, 3, proj_drop=0.5)
    assert (looks(x) != 0).all()
    zero = outputs(x) == 0
    assert 0 < zero.sum() < zero.numel()


def test_dropped_attention_is_right_on_average(package):
    layer, x = random_layer(package, 12, 3, attn_drop=0.3)
    many = layer(x[:1].expand(20_000, -1, -1)).mean(dim=0)
    expected = layer.eval()(x[:1])[0]
    torch.testing.assert_close(many, expected, atol=0.05, rtol=0)


def test_the_only_parameters_are_those_of_the_published_checkpoints(package):
    names = {"qkv.weight", "qkv.bias", "proj.weight", "proj.bias"}
    assert set(package.MultiHeadAttention(12, 3).state_dict()) == names
    no_bias = package.MultiHeadAttention(12, 3, qkv_bias=False).state_dict()
    assert set(no_bias) == names - {"qkv.bias"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: p.MultiHeadAttention(10, 3),
            "dim must be a positive multiple of num_heads, got dim=10, num_heads=3",
        ),
        (lambda p: p.MultiHeadAttention(0, 1), "dim must be a positive .*, got 0"),
        (lambda p: p.MultiHeadAttention(4, 0), "num_heads must be .*, got 0"),
        (lambda p: p.MultiHeadAttention(8, 2.0), "num_heads must be .*, got 2.0"),
        (
            lambda p: p.MultiHeadAttention(8, 2, attn_drop=1.5),
            "attn_drop must be between 0 and 1, got 1.5",
        ),
        (
            lambda p: p.MultiHeadAttention(8, 2, proj_drop=float("nan")),
            "proj_drop must be between 0 and 1, got nan",
        ),
        (
            lambda p: p.MultiHeadAttention(12, 3)(torch.zeros(2, 5, 11)),
            r"expected tokens \(b, n, 12\), got shape \(2, 5, 11\)",
        ),
        (
            lambda p: p.MultiHeadAttention(12, 3).attention_map(torch.zeros(5, 12)),
            r"expected tokens \(b, n, 12\), got shape \(5, 12\)",
        ),
    ],
)
def test_nonsense_is_refused(package, call, message):
    with pytest.raises(ValueError, match=message):
        call(package)
