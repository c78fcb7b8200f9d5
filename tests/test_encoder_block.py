"""Lesson 5: look around, then think."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

quick = settings(max_examples=25)
close = {"atol": 1e-12, "rtol": 0}


def randomise(module):
    """Every parameter drawn, in float64: no bias is zero, no norm is the identity."""
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def random_tokens(b=2, n=5, d=12):
    torch.manual_seed(1)
    return torch.randn(b, n, d, dtype=torch.float64)


@quick
@given(d=st.integers(1, 6), hidden=st.integers(1, 9))
def test_mlp_equals_its_formula_with_the_exact_gelu(package, d, hidden):
    mlp, x = randomise(package.Mlp(d, hidden)), random_tokens(d=d)
    assert mlp.fc1.weight.shape == (hidden, d)
    wide = x @ mlp.fc1.weight.T + mlp.fc1.bias
    bent = wide * (1 + torch.erf(wide / math.sqrt(2))) / 2
    expected = bent @ mlp.fc2.weight.T + mlp.fc2.bias
    torch.testing.assert_close(mlp(x), expected, **close)


def test_mlp_drops_after_both_layers_and_in_training_only(package):
    mlp, x = randomise(package.Mlp(12, 30, drop=0.5)), random_tokens(n=100)
    inner = []
    mlp.fc2.register_forward_pre_hook(lambda _, inputs: inner.append(inputs[0]))
    for dropped in (mlp(x), inner[0]):
        assert 0.4 < (dropped == 0).double().mean() < 0.6
    assert torch.equal(mlp.eval()(x), mlp(x))
    assert (mlp(x) != 0).all()


def test_droppath_drops_whole_images_and_keeps_the_mean(package):
    torch.manual_seed(0)
    x = torch.rand(4000, 3, 2) + 1
    out = package.DropPath(0.25)(x)
    kept = (out != 0).flatten(1).all(dim=1)
    dropped = (out == 0).flatten(1).all(dim=1)
    assert (kept | dropped).all()
    assert 0.22 < dropped.double().mean() < 0.28
    torch.testing.assert_close(out[kept], x[kept] / 0.75)


@quick
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_droppath_takes_any_shape_and_keeps_it(package, shape):
    x = torch.ones(shape)
    assert package.DropPath(0.5)(x).shape == x.shape


@pytest.mark.parametrize("drop_prob", [0.0, 0.3, 1.0])
def test_droppath_does_nothing_in_eval(package, drop_prob):
    x = random_tokens()
    assert torch.equal(package.DropPath(drop_prob).eval()(x), x)


@pytest.mark.parametrize("drop_prob", [0.0, 0.3, 1.0])
def test_droppath_has_a_finite_gradient(package, drop_prob):
    x = random_tokens().requires_grad_()
    out = package.DropPath(drop_prob)(x)
    out.square().sum().backward()
    assert x.grad.isfinite().all()
    if drop_prob == 1.0:
        assert (out == 0).all()
        assert (x.grad == 0).all()
    if drop_prob == 0.0:
        assert torch.equal(out, x)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("depth", [1, 2, 12])
def test_drop_path_rates_rise_evenly_from_zero_to_the_rate(package, rate, depth):
    rates = package.drop_path_rates(rate, depth)
    expected = [rate * i / max(depth - 1, 1) for i in range(depth)]
    assert rates == pytest.approx(expected, abs=1e-7)


def layer_norm(x, norm, eps):
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
    return (x - mean) / (variance + eps).sqrt() * norm.weight + norm.bias


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("eps", [1e-6, 1e-5])
def test_block_equals_equations_2_and_3_of_the_paper(package, eps, qkv_bias):
    block = randomise(package.Block(12, 3, 2.5, qkv_bias, norm_eps=eps))
    x = random_tokens() / 100  # so small that eps is seen
    middle = block.attn(layer_norm(x, block.norm1, eps)) + x
    expected = block.mlp(layer_norm(middle, block.norm2, eps)) + middle
    torch.testing.assert_close(block(x), expected, **close)
    assert block.mlp.fc1.out_features == 30
    assert (block.attn.qkv.bias is not None) == qkv_bias


def test_the_defaults_are_those_of_the_published_vit(package):
    block = package.Block(12, 3)
    assert sum(p.numel() for p in block.parameters()) == 12 * 12**2 + 13 * 12
    assert block.norm1.eps == block.norm2.eps == 1e-6
    x = torch.randn(2, 5, 12)
    assert torch.equal(block.train()(x), block.eval()(x))


def test_both_branches_are_dropped_independently(package):
    block = randomise(package.Block(12, 3, drop_path=0.5)).eval()
    one = random_tokens(b=1)
    look = block.attn(block.norm1(one))
    x = one + 2 * look  # a survivor counts double
    outcomes = {
        "neither": one,
        "look": x,
        "think": one + 2 * block.mlp(block.norm2(one)),
        "both": x + 2 * block.mlp(block.norm2(x)),
    }
    outs = block.train()(one.expand(64, -1, -1))
    found = {
        name
        for out in outs
        for name, outcome in outcomes.items()
        if torch.allclose(out, outcome[0])
    }
    assert found == set(outcomes)
    assert all(
        any(torch.allclose(out, o[0]) for o in outcomes.values()) for out in outs
    )


@pytest.mark.parametrize(
    ("option", "reached"),
    [
        ("drop", ["attn.proj_drop.p", "mlp.drop.p"]),
        ("attn_drop", ["attn.attn_drop.p"]),
        ("drop_path", ["drop_path.drop_prob"]),
    ],
)
def test_each_kind_of_dropout_reaches_its_place_and_no_other(package, option, reached):
    from operator import attrgetter

    block = package.Block(12, 3, **{option: 0.25})
    places = ["attn.proj_drop.p", "mlp.drop.p", "attn.attn_drop.p"]
    places += ["drop_path.drop_prob"]
    found = [place for place in places if attrgetter(place)(block) == 0.25]
    assert found == reached


def test_images_of_a_batch_do_not_see_each_other(package):
    block, x = randomise(package.Block(12, 3)), random_tokens()
    torch.testing.assert_close(block(x)[:1], block(x[:1]), **close)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.Mlp(0, 4), "dim must be a positive integer, got 0"),
        (lambda p: p.Mlp(4, 0), "hidden_dim must be a positive integer, got 0"),
        (lambda p: p.Mlp(4, 4, -0.1), "drop must be between 0 and 1, got -0.1"),
        (lambda p: p.Block(4, 1, norm_eps=-1), "norm_eps must be .* 1, got -1"),
        (lambda p: p.Block(4, 1, mlp_ratio=-1.0), "mlp_ratio must be .* inf, got -1.0"),
        (lambda p: p.DropPath(-0.1), "drop_prob must be between 0 and 1, got -0.1"),
        (lambda p: p.DropPath(1.1), "drop_prob must be between 0 and 1, got 1.1"),
        (
            lambda p: p.drop_path_rates(1.1, 3),
            "drop_path_rate must be between 0 and 1, got 1.1",
        ),
        (
            lambda p: p.drop_path_rates(0.1, 0),
            "depth must be a positive integer, got 0",
        ),
    ],
)
def test_nonsense_is_refused(package, call, message):
    with pytest.raises(ValueError, match=message):
        call(package)
