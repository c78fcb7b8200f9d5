"""Lesson 6: from pixels to class scores."""

import copy
import io
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import course_vit

few = st.integers(1, 3)
quick = settings(max_examples=15)
close = {"atol": 1e-12, "rtol": 0}
POOLS = ["token", "mean"]
POSITIONS = ["learned", "sinusoid", "sincos_2d", "none"]


def small(package, **options):
    """A small model with an oblong grid of 2 x 3 patches, in eval, seed 0."""
    torch.manual_seed(0)
    sizes = {
        "img_size": (16, 24),
        "patch_size": 8,
        "num_classes": 5,
        "embed_dim": 12,
        "depth": 2,
        "num_heads": 3,
    }
    return package.VisionTransformer(**{**sizes, **options}).eval()


def random_images(b=2, **options):
    torch.manual_seed(1)
    return torch.randn(b, 3, 16, 24, **options)


@quick
@given(b=few, gh=few, gw=few, ph=few, pw=few, c=few, pool=st.sampled_from(POOLS))
def test_shapes_follow_the_sizes(package, b, gh, gw, ph, pw, c, pool):
    size = {"img_size": (gh * ph, gw * pw), "patch_size": (ph, pw), "in_chans": c}
    model = small(package, **size, pool=pool)
    images = torch.randn(b, c, gh * ph, gw * pw)
    prefix = 1 if pool == "token" else 0
    assert model.grid_size == (gh, gw)
    assert model.num_prefix_tokens == prefix
    assert model.embed(images).shape == (b, prefix + gh * gw, 12)
    assert model.forward_features(images).shape == (b, prefix + gh * gw, 12)
    assert model(images).shape == (b, 5)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("position", POSITIONS)
def test_every_variant_is_its_parts_in_order(package, pool, position):
    model = small(package, pool=pool, position=position).double()
    images = random_images(dtype=torch.float64)
    x = model.patch_embed(images)
    if pool == "token":
        x = torch.cat([model.cls_token.expand(2, 1, 12), x], dim=1)
    if position != "none":
        x = x + model.pos_embed
    torch.testing.assert_close(model.embed(images), x, **close)
    for block in model.blocks:
        x = block(x)
    x = F.layer_norm(x, (12,), model.norm.weight, model.norm.bias, eps=1e-6)
    torch.testing.assert_close(model.forward_features(images), x, **close)
    pooled = x[:, 0] if pool == "token" else x.mean(dim=1)
    torch.testing.assert_close(model(images), model.head(pooled), **close)
    assert len(model.blocks) == 2


@pytest.mark.parametrize("pool", POOLS)
def test_no_classes_means_features(package, pool):
    model = small(package, pool=pool, num_classes=0)
    images = random_images()
    tokens = model.forward_features(images)
    features = tokens[:, 0] if pool == "token" else tokens.mean(dim=1)
    assert torch.equal(model(images), features)
    assert not any(key.startswith("head") for key in model.state_dict())


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("position", ["sinusoid", "sincos_2d"])
def test_a_fixed_table_is_frozen_and_travels_with_the_weights(package, pool, position):
    model = small(package, pool=pool, position=position)
    prefix = model.num_prefix_tokens
    if position == "sinusoid":
        table = package.sinusoid_encoding(prefix + 6, 12)
    else:
        places = package.sincos_2d_encoding((2, 3), 12)
        table = torch.cat([torch.zeros(prefix, 12), places])
    assert torch.equal(model.state_dict()["pos_embed"], table[None])
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["pos_embed"]


def test_no_position_means_no_table_and_no_order(package):
    model = small(package, position="none").double()
    assert "pos_embed" not in model.state_dict()
    images = random_images(dtype=torch.float64)
    patches = package.patchify(images, 8)[:, [4, 0, 5, 2, 1, 3]]
    shuffled = package.unpatchify(patches, 8, (2, 3))
    torch.testing.assert_close(model(shuffled), model(images), **close)
    ordered = small(package).double()
    assert (ordered(shuffled) - ordered(images)).abs().max() > 1e-4


def test_images_of_a_batch_do_not_see_each_other(package):
    model = small(package).double()
    images = random_images(3, dtype=torch.float64)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), **close)


def test_the_class_token_starts_equal_and_ends_different_for_each_image(package):
    model, images = small(package), random_images()
    first, second = model.embed(images)[:, 0]
    assert torch.equal(first, second)
    first, second = model.forward_features(images)[:, 0]
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("pool", POOLS)
def test_the_gradient_reaches_every_parameter_but_the_key_bias(package, pool):
    model = small(package, pool=pool).double().train()
    labels = torch.tensor([0, 1])
    F.cross_entropy(model(random_images(dtype=torch.float64)), labels).backward()
    for name, parameter in model.named_parameters():
        for part, gradient in enumerate(parameter.grad.split(12)):
            is_key_bias = name.endswith("qkv.bias") and part == 1
            assert (gradient.abs().max() < 1e-12) == is_key_bias, name


def test_the_first_loss_is_the_log_of_the_number_of_classes(package):
    torch.manual_seed(0)
    model = package.VisionTransformer(
        img_size=32, patch_size=8, num_classes=100, embed_dim=192, depth=4, num_heads=3
    )
    loss = F.cross_entropy(model(torch.randn(16, 3, 32, 32)), torch.arange(16))
    assert abs(loss.item() - math.log(100)) < 0.2


def test_every_weight_starts_from_its_law(package):
    torch.manual_seed(0)
    model = package.VisionTransformer(depth=2, embed_dim=384, num_heads=6, patch_size=8)
    for name, parameter in model.named_parameters():
        mean, std = parameter.mean().item(), parameter.std().item()
        if name == "patch_embed.proj.weight":
            expected = (0.0, (3 * 8 * 8) ** -0.5)
        elif "norm" in name:
            expected = (1.0 if name.endswith("weight") else 0.0, 0.0)
        elif name.endswith("bias"):
            expected = (0.0, 0.0)
        else:
            expected = (0.0, 0.02)
        noise = (
            0.1 if name == "cls_token" else 0.02
        )  # 384 numbers tell their std by 4 %
        assert std == pytest.approx(expected[1], rel=noise), name
        assert mean == pytest.approx(expected[0], abs=3e-3), name


def test_drop_path_rises_along_the_depth(package):
    model = small(package, depth=5, drop_path_rate=0.4)
    rates = [block.drop_path.drop_prob for block in model.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("option", "reached"),
    [
        ("drop_rate", {"pos_drop", "attn.proj_drop", "mlp.drop"}),
        ("attn_drop_rate", {"attn.attn_drop"}),
        ("drop_path_rate", {"drop_path"}),
    ],
)
def test_each_dropout_reaches_its_places_and_acts_in_training_only(
    package, option, reached
):
    model, images = small(package, **{option: 0.5}), random_images()
    block = model.blocks[-1]
    found = {
        "pos_drop": model.pos_drop.p,
        "attn.proj_drop": block.attn.proj_drop.p,
        "mlp.drop": block.mlp.drop.p,
        "attn.attn_drop": block.attn.attn_drop.p,
        "drop_path": block.drop_path.drop_prob,
    }
    assert {place for place, rate in found.items() if rate == 0.5} == reached
    assert torch.equal(model(images), small(package)(images))
    model.train()
    assert not torch.equal(model(images), model(images))


def test_drop_rate_drops_before_the_first_block_too(package):
    tokens = small(package, drop_rate=0.5).train().embed(random_images())
    assert 0.3 < (tokens == 0).double().mean() < 0.7


@pytest.mark.parametrize(
    ("option", "key", "shape"),
    [
        ({"mlp_ratio": 1.5}, "blocks.1.mlp.fc1.weight", (18, 12)),
        ({"qkv_bias": False}, "blocks.1.attn.qkv.bias", None),
        ({"in_chans": 1}, "patch_embed.proj.weight", (12, 1, 8, 8)),
        ({"patch_size": (4, 12)}, "patch_embed.proj.weight", (12, 3, 4, 12)),
    ],
)
def test_each_size_reaches_its_parameter(package, option, key, shape):
    state = small(package, **option).state_dict()
    assert (state[key].shape if key in state else None) == shape


def test_norm_eps_reaches_every_norm(package):
    model = small(package, norm_eps=1e-5)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert [norm.eps for norm in norms] == [1e-5] * 5


@pytest.mark.parametrize("position", POSITIONS)
def test_copies_pickles_and_state_dicts_give_the_same_model(package, position):
    model, images = small(package, position=position), random_images()
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = small(package, position=position)
    package.init_weights(loaded)
    loaded.load_state_dict(model.state_dict())
    unpickled = torch.load(file, weights_only=False)
    for twin in (copy.deepcopy(model), loaded, unpickled):
        assert torch.equal(twin(images), model(images))
        twin.patch_embed.proj.weight.data.zero_()
        assert not torch.equal(twin(images), model(images))


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("position", POSITIONS)
def test_it_can_be_built_on_the_meta_device(package, pool, position):
    with torch.device("meta"):
        model = small(package, pool=pool, position=position, drop_path_rate=0.1)
        assert model(torch.empty(2, 3, 16, 24)).shape == (2, 5)
    real = small(package, pool=pool, position=position).state_dict()
    assert {key: t.shape for key, t in model.state_dict().items()} == {
        key: t.shape for key, t in real.items()
    }


@pytest.mark.parametrize("position", POSITIONS)
def test_init_weights_draws_all_but_norms_and_fixed_tables_again(package, position):
    model = small(package, position=position)
    before = copy.deepcopy(model.state_dict())
    for name, parameter in model.named_parameters():
        if "norm" not in name and parameter.requires_grad:
            parameter.data.fill_(float("nan"))
    package.init_weights(model)
    for name, parameter in model.named_parameters():
        fixed = not parameter.requires_grad or "norm" in name or name.endswith("bias")
        assert parameter.isfinite().all(), name
        assert torch.equal(parameter, before[name]) == fixed, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_runs_in_other_precisions(package, dtype):
    images, single = random_images(), small(package)
    out = small(package).to(dtype)(images.to(dtype))
    assert out.dtype == dtype
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-3  # a GPU may use TF32
    torch.testing.assert_close(out.float(), single(images), atol=tolerance, rtol=0)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_it_is_built_in_the_default_dtype(dtype, position, pool):
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model = small(course_vit, pool=pool, position=position)
    finally:
        torch.set_default_dtype(usual)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    scores = model(random_images().to(dtype))
    assert scores.dtype == dtype
    assert scores.isfinite().all()


@pytest.mark.filterwarnings("ignore")
def test_it_compiles_without_a_graph_break(package):
    model, images = small(package), random_images()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pool", POOLS)
def test_it_exports_for_any_batch(package, pool):
    model, images = small(package, pool=pool), random_images()
    batch = ({0: torch.export.Dim("b")},)
    exported = torch.export.export(model, (images,), dynamic_shapes=batch).module()
    more = random_images(5)
    torch.testing.assert_close(exported(more), model(more))


def test_construction_and_forward_are_silent_and_leave_no_trace(package, capsys):
    model = small(package)
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    model(random_images())
    after = {name: set(vars(module)) for name, module in model.named_modules()}
    assert before == after
    assert capsys.readouterr() == ("", "")


def test_sizes_may_come_from_numpy(package):
    sizes = {"img_size": np.int64(16), "patch_size": np.int64(8)}
    counts = {"num_classes": np.int64(5), "depth": np.int64(1), "num_heads": np.int8(3)}
    model = small(package, **sizes, **counts, embed_dim=np.int32(12))
    assert model(torch.zeros(1, 3, 16, 16)).shape == (1, 5)


NAN = float("nan")


@pytest.mark.parametrize(
    ("option", "values", "rule"),
    [
        ("pool", ["max"], "token or mean"),
        ("position", ["rope"], "learned, sinusoid, sincos_2d or none"),
        ("img_size", [32.0, "32", NAN, None, 0], "a positive integer"),
        ("img_size", [(3, 32, 32), (32,), []], r"one number or \(height, width\)"),
        ("patch_size", [-8, 2.5, True], "a positive integer"),
        ("in_chans", [0, 3.0], "a positive integer"),
        ("num_classes", [-1, 10.0, None, NAN], "0 or a positive integer"),
        ("embed_dim", [-8, 12.0], "a positive integer"),
        ("depth", [0, 2.0, "2"], "a positive integer"),
        ("num_heads", [0, 3.0], "a positive integer"),
        ("mlp_ratio", [-1.0, NAN, math.inf, "4"], "between 0 and inf"),
        ("drop_rate", [-0.1, 1.1, NAN, None], "between 0 and 1"),
        ("attn_drop_rate", [-0.1, 1.1, NAN], "between 0 and 1"),
        ("drop_path_rate", [-0.1, 1.1, NAN], "between 0 and 1"),
        ("norm_eps", [-1, NAN, math.inf], "between 0 and 1"),
    ],
)
def test_nonsense_is_refused_by_its_name(option, values, rule):
    for value in values:
        message = f"{option} must be {rule}, got {re.escape(repr(value))}"
        with pytest.raises(ValueError, match=message):
            small(course_vit, **{option: value})


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 3, 16, 24, dtype=torch.uint8),
        torch.zeros(1, 3, 16, 24, dtype=torch.int64),
        np.zeros((1, 3, 16, 24)),
        None,
    ],
    ids=["uint8", "int64", "numpy", "None"],
)
def test_images_must_be_floating_point(images):
    message = "images must be a tensor of floating-point numbers, got .*; divide pixels"
    with pytest.raises(TypeError, match=message):
        small(course_vit)(images)
