"""Lesson 10: soft splits, token layers, and a model that begins with them."""

import copy
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torchvision.models.feature_extraction import create_feature_extractor

import course_vit

quick = settings(max_examples=15)
close = {"atol": 1e-12, "rtol": 0}
KINDS = ["performer", "transformer"]
SPLITS = ((3, 2, 1), (3, 1, 1), (2, 2, 0))


def small(package, tokens="performer", **options):
    """A small model of oblong images, 16 x 12 pixels, seed 0."""
    torch.manual_seed(0)
    sizes = {"img_size": (16, 12), "num_classes": 5, "embed_dim": 12, "depth": 2}
    sizes |= {"num_heads": 3, "token_dim": 8, "splits": SPLITS}
    return package.T2TViT(tokens=tokens, **sizes | options)


def random_images(b=2, **options):
    return torch.randn(b, 3, 16, 12, **options)


# Splits


@st.composite
def grids_and_splits(draw):
    kernel = draw(st.integers(1, 4))
    split = (kernel, draw(st.integers(1, 3)), draw(st.integers(0, kernel // 2)))
    sides = st.integers(max(kernel - 2 * split[2], 1), 9)
    return (draw(sides), draw(sides)), split


@quick
@given(grids_and_splits())
def test_every_window_is_the_part_of_the_image_that_it_covers(package, case):
    (gh, gw), split = case
    kernel, stride, padding = split
    x = torch.randn(2, 3, gh, gw)
    rows, columns = package.split_grid((gh, gw), split)
    windows = package.soft_split(x, split)
    assert windows.shape == (2, rows * columns, 3 * kernel**2)
    padded = F.pad(x, [padding] * 4)
    for i in range(rows):
        for j in range(columns):
            top, left = stride * i, stride * j
            part = padded[:, :, top : top + kernel, left : left + kernel]
            assert torch.equal(windows[:, columns * i + j], part.flatten(1))
    assert stride * rows + kernel > gh + 2 * padding, "one more window would fit"


def test_windows_without_overlap_are_patches(package):
    x = torch.randn(2, 3, 8, 12)
    assert torch.equal(package.soft_split(x, (4, 4, 0)), package.patchify(x, 4))


def test_a_side_shorter_than_a_window_is_refused(package):
    with pytest.raises(ValueError, match=r"window of 7 with padding 2, got \(2, 9\)"):
        package.split_grid((2, 9), (7, 4, 2))
    with pytest.raises(ValueError, match=r"window of 3 with padding 0, got \(2, 2\)"):
        small(package, img_size=4, splits=((3, 2, 1), (3, 1, 0)))


# Linear attention


@quick
@given(seed=st.integers(0, 99), n=st.integers(1, 5), m=st.integers(1, 7))
def test_the_brackets_do_not_change_the_numbers(package, seed, n, m):
    torch.manual_seed(seed)
    q, k = torch.rand(2, n, 3).double(), torch.rand(2, m, 3).double()
    v = torch.randn(2, m, 4).double()
    weights = torch.einsum("b n f, b m f -> b n m", q, k)
    weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-8)
    mixed = package.linear_attention(q, k, v)
    torch.testing.assert_close(mixed, weights @ v, **close)


def test_means_stay_means(package):
    """Values that are all 1 come back as 1: the weights sum to 1."""
    q, k = torch.rand(2, 5, 3) + 0.1, torch.rand(2, 7, 3) + 0.1
    ones = torch.ones(2, 7, 4)
    torch.testing.assert_close(package.linear_attention(q, k, ones), ones[:, :5])


def test_normal_rows_estimate_the_softmax_kernel(package):
    """The mean over many random features is exp(q k): Choromanski et al., lemma 1."""
    q, k = 0.25 * torch.randn(1, 6, 8), 0.25 * torch.randn(1, 6, 8)
    w = torch.randn(200_000, 8)
    found = package.positive_features(q, w) @ package.positive_features(k, w).mT
    torch.testing.assert_close(found, (q @ k.mT).exp(), rtol=0.03, atol=0)


def test_rows_of_t2t_estimate_a_gaussian(package):
    """Length sqrt(f) for f = e / 2: near exp(-|q - k|^2 / 4) for small q and k."""
    q, k = 0.05 * torch.randn(1, 6, 64), 0.05 * torch.randn(1, 6, 64)
    draws = [package.TokenPerformer(64, 64).w.detach() for _ in range(300)]
    found = torch.stack(
        [
            package.positive_features(q, w) @ package.positive_features(k, w).mT
            for w in draws
        ]
    ).mean(dim=0)
    distance = torch.cdist(q, k, compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(found, (-(distance**2) / 4).exp(), rtol=0.02, atol=0)


def test_random_features_are_orthogonal_and_not_trained(package):
    layer = package.TokenPerformer(9, 8)
    torch.testing.assert_close(layer.w @ layer.w.T, 4 * torch.eye(4))
    assert not layer.w.requires_grad
    assert "w" in layer.state_dict()


# Token layers


def test_the_token_transformer_is_its_parts_in_order(package):
    layer = package.TokenTransformer(9, 8).double()
    x = torch.randn(2, 5, 9, dtype=torch.float64)
    q, k, v = layer.attn.qkv(F.layer_norm(x, (9,))).chunk(3, dim=-1)
    weights = (q @ k.mT / 3).softmax(dim=-1)  # 9 numbers come in: the root of 9
    y = v + layer.attn.proj(weights @ v)
    y = y + layer.mlp(F.layer_norm(y, (8,)))
    torch.testing.assert_close(layer(x), y, **close)


def test_the_token_performer_is_its_parts_in_order(package):
    layer = package.TokenPerformer(9, 8).double()
    x = torch.randn(2, 5, 9, dtype=torch.float64)
    k, q, v = layer.kqv(F.layer_norm(x, (9,))).chunk(3, dim=-1)
    k, q = (
        (part @ layer.w.T - (part**2).sum(dim=-1, keepdim=True) / 2).exp()
        for part in (k, q)
    )
    weights = q @ k.mT
    y = v + layer.proj(weights / weights.sum(dim=-1, keepdim=True) @ v)
    y = y + layer.mlp(F.layer_norm(y, (8,)))
    torch.testing.assert_close(layer(x), y, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["TokenPerformer", "TokenTransformer"])
def test_dropout_is_as_told(package, kind):
    """The released performer drops 10 % whatever it is told; ours does not."""
    x = torch.randn(2, 5, 9)
    keeps = getattr(package, kind)(9, 8).train()
    assert torch.equal(keeps(x), keeps(x))
    drops = getattr(package, kind)(9, 8, drop=0.5).train()
    assert not torch.equal(drops(x), drops(x))
    drops.eval()
    assert torch.equal(drops(x), drops(x))


def test_a_performer_that_drops_everything_keeps_the_values(package):
    """Dropout comes after attention and MLP, not on the residual connection."""
    layer, x = package.TokenPerformer(9, 8, drop=1.0).train(), torch.randn(2, 5, 9)
    values = layer.kqv(layer.norm1(x)).chunk(3, dim=-1)[2]
    torch.testing.assert_close(layer(x), values)


# The model


@pytest.mark.parametrize("tokens", KINDS)
def test_every_variant_is_its_parts_in_order(package, tokens):
    model = small(package, tokens).double().eval()
    images = random_images(dtype=torch.float64)
    stem = model.tokens_to_token
    x = images
    for layer, split in zip((stem.attention1, stem.attention2), SPLITS, strict=False):
        gh, gw = package.split_grid(x.shape[2:], split)
        x = layer(package.soft_split(x, split))
        x = x.mT.unflatten(2, (gh, gw))
    x = stem.project(package.soft_split(x, SPLITS[2]))
    assert x.shape == (2, 12, 12)
    assert model.grid_size == (4, 3)
    torch.testing.assert_close(stem(images), x, **close)
    x = torch.cat([model.cls_token.expand(2, 1, 12), x], dim=1)
    x = x + package.sinusoid_encoding(13, 12)
    torch.testing.assert_close(model.embed(images), x, **close)
    for block in model.blocks:
        x = block(x)
    x = F.layer_norm(x, (12,))
    torch.testing.assert_close(model.forward_features(images), x, **close)
    torch.testing.assert_close(model(images), model.head(x[:, 0]), **close)
    assert model.num_prefix_tokens == 1


@quick
@given(
    height=st.integers(14, 40),
    width=st.integers(14, 40),
    tokens=st.sampled_from(KINDS),
)
def test_any_size_is_exact(package, height, width, tokens):
    """The release declares (side // 16) ** 2 tokens and breaks where that is wrong."""
    options = {"img_size": (height, width), "token_dim": 8, "depth": 1}
    sizes = {"embed_dim": 12, "num_heads": 3, "num_classes": 5}
    model = package.T2TViT(tokens=tokens, **options, **sizes)
    gh, gw = model.grid_size
    images = torch.randn(1, 3, height, width)
    assert model.embed(images).shape == (1, 1 + gh * gw, 12)
    assert model(images).shape == (1, 5)


@pytest.mark.parametrize("tokens", KINDS)
def test_one_split_has_no_token_layer(package, tokens):
    model = small(package, tokens, splits=((4, 4, 0),)).eval()
    images = random_images()
    tokens = model.tokens_to_token.project(package.patchify(images, 4))
    torch.testing.assert_close(model.tokens_to_token(images), tokens)


def test_the_same_blocks_as_a_vit(package):
    """Rates, eps, bias and ratio reach every block; T2T's own are the defaults."""
    model = package.T2TViT(img_size=32, depth=3, drop_path_rate=0.2, token_dim=8)
    rates = [block.drop_path.drop_prob for block in model.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2])
    assert all(block.attn.qkv.bias is None for block in model.blocks)
    assert all(block.mlp.fc1.out_features == 3 * 384 for block in model.blocks)
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-5}
    assert len(norms) == 2 * 2 + 2 * 3 + 1


@pytest.mark.parametrize("tokens", KINDS)
def test_the_start_follows_the_law(package, tokens):
    model = small(package, tokens, embed_dim=192)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert (parameter == float(name.endswith("weight"))).all()
        elif name.endswith("bias"):
            assert (parameter == 0).all()
        elif name.endswith("weight") or name == "cls_token":
            assert 0.014 < parameter.std() < 0.026, name
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    features = {f"tokens_to_token.attention{i}.w" for i in (1, 2)}
    assert frozen == {"pos_embed"} | (features if tokens == "performer" else set())


@pytest.mark.parametrize("tokens", KINDS)
def test_everything_that_is_trained_has_a_gradient(package, tokens):
    model = small(package, tokens)
    model(random_images()).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize("tokens", KINDS)
def test_copies_reloads_and_other_precisions_answer_alike(package, tokens):
    model, images = small(package, tokens).eval(), random_images()
    again = small(package, tokens, num_classes=5).eval()
    nn.init.normal_(again.cls_token)
    again.load_state_dict(copy.deepcopy(model).state_dict())
    assert torch.equal(model(images), again(images))
    half = copy.deepcopy(model).bfloat16()(images.bfloat16())
    torch.testing.assert_close(half.float(), model(images), atol=0.05, rtol=0.05)
    exact = copy.deepcopy(model).double()(images.double())
    torch.testing.assert_close(exact.float(), model(images))


@pytest.mark.parametrize("tokens", KINDS)
def test_compiled_and_exported_models_answer_alike(package, tokens):
    model, images = small(package, tokens).eval(), random_images()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images))
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), model(images))


@pytest.mark.filterwarnings("ignore")  # torch.jit is old, and says so
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("tokens", KINDS)
def test_traced_and_scripted_models_answer_alike(tokens, mode):
    model = getattr(small(course_vit, tokens), mode)()
    traced = torch.fx.symbolic_trace(model)
    scripted = torch.jit.script(model)
    for images in (random_images(1), random_images(3)):
        torch.testing.assert_close(traced(images), model(images))
        torch.testing.assert_close(scripted(images), model(images))
    with pytest.raises(ValueError, match="expected images"):
        traced(images.mT)
    features = create_feature_extractor(model, ["blocks.1"])(images)["blocks.1"]
    expected = course_vit.intermediate_tokens(model, images, [1])[0]
    torch.testing.assert_close(features, expected)


def test_no_classes_means_features(package):
    model = small(package, num_classes=0).eval()
    images = random_images()
    assert torch.equal(model(images), model.forward_features(images)[:, 0])


@pytest.mark.parametrize("tokens", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_is_built_in_torchs_default_precision(tokens, dtype):
    torch.set_default_dtype(dtype)
    try:
        model = small(course_vit, tokens)
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}
        assert model(random_images()).isfinite().all()
    finally:
        torch.set_default_dtype(torch.float32)


def test_sizes_may_come_from_numpy():
    sizes = {"img_size": np.int64(16), "token_dim": np.int32(8), "in_chans": np.int8(3)}
    splits = [np.array([7, 4, 2], dtype=np.int8), [3, 2, 1]]
    model = small(course_vit, num_classes=np.int64(5), splits=splits, **sizes)
    assert model.tokens_to_token.splits == ((7, 4, 2), (3, 2, 1))
    assert model(torch.zeros(1, 3, 16, 16)).shape == (1, 5)


NAN = float("nan")
SPLIT = r"a split must be \(kernel, stride, padding\)"
POSITIVE = "must be a positive integer"


@pytest.mark.parametrize(
    ("option", "values", "message"),
    [
        ("tokens", ["softmax", None, ["performer"]], "be performer or transformer"),
        ("splits", [(), None, 7], "splits must contain at least one split"),
        ("splits", [(7, 4, 2), ((3, 2),), ("ab",)], SPLIT),
        (
            "splits",
            [((-3, 2, 1),), ((3.0, 2, 1),), (("3", 2, 1),)],
            f"kernel {POSITIVE}",
        ),
        (
            "splits",
            [((3, 0, 1),), ((3, -1, 1),), ((3, True, 1),)],
            f"stride {POSITIVE}",
        ),
        ("splits", [((3, 2, -1),), ((3, 2, 0.5),)], "padding must be 0 or a positive"),
        ("img_size", [32.0, "32", NAN, 0], f"img_size {POSITIVE}"),
        ("token_dim", [-8, 8.0, 0, True], f"token_dim {POSITIVE}"),
        ("in_chans", [0, 3.0], f"in_chans {POSITIVE}"),
        ("embed_dim", [-12, 12.0], f"embed_dim {POSITIVE}"),
        ("num_classes", [-1, 10.0], "num_classes must be 0 or a positive integer"),
        ("drop_rate", [-0.1, 1.1, NAN], "drop_rate must be between 0 and 1"),
        ("norm_eps", [-1, NAN], "norm_eps must be between 0 and 1"),
    ],
)
def test_nonsense_is_refused_by_its_name(option, values, message):
    for value in values:
        with pytest.raises(ValueError, match=message):
            small(course_vit, **{option: value})


@pytest.mark.parametrize(
    "kind", ["TokenAttention", "TokenTransformer", "TokenPerformer"]
)
def test_token_layers_refuse_widths_that_are_none(kind):
    for widths in ((0, 8), (9, -8), (9, 8.0), (9, "8")):
        with pytest.raises(ValueError, match="dim must be a positive integer"):
            getattr(course_vit, kind)(*widths)


def test_one_number_per_token_leaves_no_room_for_random_features():
    with pytest.raises(ValueError, match=r"dim must be at least 2, .*, got 1"):
        course_vit.TokenPerformer(9, 1)


def shape(*sizes):
    return torch.ones(sizes)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("split_grid", ((8.5, 8), (3, 2, 1)), f"grid_size {POSITIVE}, got 8.5"),
        ("split_grid", ((8, 8), (3, 0, 1)), f"stride {POSITIVE}, got 0"),
        ("split_grid", ((8, 8), (-3, 2, 1)), f"kernel {POSITIVE}, got -3"),
        ("soft_split", (shape(3, 8, 8), (3, 2, 1)), "images (b, c, gh, gw), got"),
        ("soft_split", (shape(2, 3, 8, 8), (3, 0, 1)), f"stride {POSITIVE}, got 0"),
        ("positive_features", (shape(2, 5, 8), shape(4, 1)), "w (f, 8), got shape"),
        ("positive_features", (shape(5, 8), shape(4, 8)), "x (b, n, e), got shape"),
        (
            "linear_attention",
            (shape(2, 5, 4), shape(2, 7, 1), shape(2, 7, 6)),
            "k (2, m, 4), got shape (2, 7, 1)",
        ),
        (
            "linear_attention",
            (shape(2, 5, 4), shape(2, 1, 4), shape(2, 7, 6)),
            "v (2, 1, e), got shape (2, 7, 6)",
        ),
    ],
)
def test_what_would_broadcast_or_divide_by_0_is_refused(name, given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(course_vit, name)(*given)


def test_images_must_be_floating_point():
    with pytest.raises(TypeError, match="images must be a tensor of floating-point"):
        small(course_vit)(torch.zeros(1, 3, 16, 12, dtype=torch.uint8))


def test_images_of_another_size_are_refused(package):
    model = small(package)
    for shape in [(2, 3, 12, 16), (2, 1, 16, 12), (3, 16, 12)]:
        with pytest.raises(ValueError, match=r"images \(b, 3, 16, 12\), got shape"):
            model(torch.randn(shape))
