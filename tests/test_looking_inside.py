"""Lesson 8: maps, rollout, distances, filters, similar places."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_vit import looking_inside as ours  # for more than its exercises ask

few = st.integers(1, 3)
quick = settings(max_examples=15)
SIZES = {"img_size": (16, 24), "num_classes": 5, "embed_dim": 12, "num_heads": 3}
MODELS = {
    "VisionTransformer": {"patch_size": 8, "depth": 2},
    "DistilledVisionTransformer": {"patch_size": 8, "depth": 2},
    "T2TViT": {"token_dim": 8, "depth": 2},
}


def model_of(package, kind, **options):
    torch.manual_seed(0)
    return getattr(package, kind)(**SIZES | MODELS[kind] | options)


def random_maps(*shape, blocks=3):
    return list(torch.randn(blocks, *shape).softmax(dim=-1))


# Maps


@pytest.mark.parametrize("kind", MODELS)
def test_the_maps_are_those_that_the_blocks_use(package, kind):
    """Each block's output can be made again from its map and its values."""
    model = model_of(package, kind).double().eval()
    images = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    maps = package.attention_maps(model, images)
    tokens = model.num_prefix_tokens + math.prod(model.grid_size)
    assert [m.shape for m in maps] == [(2, 3, tokens, tokens)] * 2
    x = model.embed(images)
    for block, weights in zip(model.blocks, maps, strict=True):
        values = block.attn.split_heads(block.norm1(x))[2]
        mixed = (weights @ values).transpose(1, 2).flatten(2)
        x = x + block.attn.proj(mixed)
        x = x + block.mlp(block.norm2(x))
    torch.testing.assert_close(model.norm(x), model.forward_features(images))


@pytest.mark.parametrize("training", [True, False])
def test_maps_are_drawn_in_eval_and_leave_the_mode(package, training):
    model = model_of(package, "VisionTransformer", drop_rate=0.5).train(training)
    model.blocks[0].train(not training)
    before = [module.training for module in model.modules()]
    images = torch.randn(2, 3, 16, 24)
    first, again = (package.attention_maps(model, images) for _ in range(2))
    assert all(map(torch.equal, first, again))
    assert [module.training for module in model.modules()] == before
    assert not first[0].requires_grad
    with pytest.raises(ValueError, match="expected images"):
        package.attention_maps(model, images[:, :, 1:])
    assert [module.training for module in model.modules()] == before


def test_a_pooled_model_has_maps_of_patches_only(package):
    model = model_of(package, "VisionTransformer", pool="mean")
    maps = package.attention_maps(model, torch.randn(2, 3, 16, 24))
    assert maps[0].shape == (2, 3, 6, 6)


# Rollout


@quick
@given(b=few, h=few, n=st.integers(1, 6), blocks=few)
def test_rollout_follows_every_path(package, b, h, n, blocks):
    """From the last block to the first, half of each step stays in its place."""
    maps = random_maps(b, h, n, n, blocks=blocks)
    found = package.attention_rollout(maps)
    assert found.shape == (b, n, n)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(b, n))
    for image in range(b):
        share = torch.eye(n)
        for weights in reversed(maps):
            mean = weights[image].mean(dim=0)
            share = torch.stack(
                [
                    sum(row[i] * (mean[i] + torch.eye(n)[i]) / 2 for i in range(n))
                    for row in share
                ]
            )
        torch.testing.assert_close(found[image], share)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([], "at least one map is needed, got none"),
        (random_maps(0, 2, 4, 4), "at least one map is needed, got none"),
        (random_maps(4, 4), r"expected maps \(4, h, 4, 4\), got shape \(4, 4\)"),
        (random_maps(2, 4, 4), r"expected maps \(2, h, 4, 4\), got shape \(2, 4, 4\)"),
        (random_maps(1, 2, 4, 5), r"expected maps \(1, h, 5, 5\), got shape \(1, 2, 4"),
        ([*random_maps(1, 2, 4, 4), *random_maps(1, 2, 5, 5)], r"got shape \(1, 2, 5"),
        ([*random_maps(1, 2, 4, 4), *random_maps(2, 2, 4, 4)], r"got shape \(2, 2, 4"),
        ([torch.randn(1, 2, 4, 4)], "must hold shares, with rows that sum to 1"),
        ([2 * torch.eye(4)[None, None]], r"got sums from 2\.00 to 2\.00"),
        ([torch.tensor([[2.0, -1], [0, 1]])[None, None]], "entries down to -1"),
        ([math.nan * torch.eye(4)[None, None]], "got sums from nan"),
    ],
)
def test_what_are_no_maps_is_refused(package, maps, message):
    with pytest.raises(ValueError, match=message):
        package.check_maps(maps)
    with pytest.raises(ValueError, match=message):
        ours.attention_rollout(maps)
    with pytest.raises(ValueError, match=message):
        ours.mean_attention_distance(maps, 4, num_prefix_tokens=0)


def test_rollout_takes_the_maps_of_all_blocks_in_one_tensor():
    maps = random_maps(1, 2, 4, 4)
    stacked = ours.attention_rollout(torch.stack(maps))
    assert torch.equal(stacked, ours.attention_rollout(maps))


# Distance


@quick
@given(b=few, h=few, gh=few, gw=few, prefix=st.integers(0, 2), blocks=few)
def test_distance_is_the_sum_written_out(package, b, h, gh, gw, prefix, blocks):
    n = prefix + gh * gw
    maps = random_maps(b, h, n, n, blocks=blocks)
    options = ((4, 6), prefix, (gh, gw))
    found = package.mean_attention_distance(maps, *options)
    assert found.shape == (blocks, h)
    places = [(4 * i, 6 * j) for i in range(gh) for j in range(gw)]
    for block in range(blocks):
        for head in range(h):
            total = 0.0
            for image in range(b):
                for i, here in enumerate(places):
                    row = maps[block][image, head, prefix + i, prefix:]
                    for weight, there in zip(row / row.sum(), places, strict=True):
                        total += weight.item() * math.dist(here, there)
            mean = total / b / len(places)
            assert found[block, head].item() == pytest.approx(mean, abs=1e-4)


def test_uniform_attention_looks_116_pixels_far(package):
    """14 x 14 patches of 16 pixels; the prefix tokens do not count."""
    for prefix in (0, 1, 2):
        n = prefix + 196
        uniform = torch.full((1, 1, n, n), 1 / n)
        distance = package.mean_attention_distance([uniform], 16, prefix)
        assert round(distance.item(), 1) == 116.5


def test_maps_that_do_not_fill_the_grid_are_refused(package):
    maps = random_maps(1, 2, 7, 7)
    with pytest.raises(ValueError, match=r"maps must have 1 \+ 2 \* 2 tokens, got 7"):
        package.mean_attention_distance(maps, 16)
    assert package.mean_attention_distance(maps, 16, 1, (2, 3)).shape == (3, 2)


# Filters and places


def test_the_filters_are_the_directions_of_most_variance(package):
    kernels = torch.randn(40, 3, 2, 4) * torch.rand(3, 2, 4)
    filters = package.patch_filters(kernels, 5)
    assert filters.shape == (5, 3, 2, 4)
    rows = filters.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(5))
    centred = kernels.flatten(1) - kernels.flatten(1).mean(dim=0)
    variances = torch.linalg.eigvalsh(centred.T @ centred).flip(0)[:5]
    torch.testing.assert_close((centred @ rows.T).square().sum(dim=0), variances)
    assert (rows.gather(1, rows.abs().argmax(dim=1, keepdim=True)) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_filters_of_kernels_in_half_precision(package, dtype):
    kernels = torch.randn(40, 3, 2, 4, dtype=dtype)
    filters = package.patch_filters(kernels, 5)
    assert torch.equal(filters, package.patch_filters(kernels.float(), 5).to(dtype))


def test_more_filters_than_there_are_is_refused(package):
    with pytest.raises(ValueError, match="num_filters must be between 1 and 4, got 5"):
        package.patch_filters(torch.randn(9, 1, 2, 2), 5)


def test_similarity_is_the_cosine_of_two_places(package):
    position = torch.randn(1, 8, 12)
    tiles = package.position_similarity(position, (2, 3), num_prefix_tokens=2)
    assert tiles.shape == (6, 2, 3)
    for i in range(6):
        for j in range(6):
            pair = position[0, 2 + i], position[0, 2 + j]
            cosine = torch.cosine_similarity(*pair, dim=0)
            torch.testing.assert_close(tiles[i, j // 3, j % 3], cosine)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (((2, 2), 2), r"expected position \(1, 6, d\), got shape \(1, 8, 12\)"),
        (((2, 3), 1), r"expected position \(1, 7, d\)"),
        (((2, -3), 2), "grid_size must be a positive integer, got -3"),
        (((4, 2), -1), "num_prefix_tokens must be 0 or a positive integer, got -1"),
    ],
)
def test_a_grid_that_does_not_fit_the_table_is_refused(package, options, message):
    with pytest.raises(ValueError, match=message):
        package.position_similarity(torch.randn(1, 8, 12), *options)


@pytest.mark.parametrize("size", [0, -2, 2.0, math.nan])
def test_sizes_that_are_none_are_refused(package, size):
    maps = random_maps(1, 2, 5, 5)
    for name in ("patch_size", "num_prefix_tokens", "grid_size"):
        options = {"patch_size": 4, name: size or -1}
        with pytest.raises(ValueError, match=f"{name} must be"):
            ours.mean_attention_distance(maps, **options)
    with pytest.raises(ValueError, match="num_filters must be a positive integer"):
        package.patch_filters(torch.randn(9, 1, 2, 2), size)
    with pytest.raises(ValueError, match=r"expected kernels \(d, c, p, p\)"):
        package.patch_filters(torch.randn(9, 4), 2)
