"""Lesson 2: tokens learn where they come from."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import course_vit
from course_vit.position_encoding import RESIZE_POLICIES

quick = settings(max_examples=25)
ROUNDING = 1e-7  # float64 sines, stored in float32


@quick
@given(n=st.integers(1, 600), dim=st.integers(1, 70))
def test_sinusoid_equals_a_loop_of_the_papers_formula(package, n, dim):
    table = package.sinusoid_encoding(n, dim)
    assert table.shape == (n, dim)
    assert table.dtype == torch.float32
    for position in {0, n // 2, n - 1}:
        for j in range(dim):
            wave = math.cos if j % 2 else math.sin
            value = wave(position / 10_000 ** (2 * (j // 2) / dim))
            assert abs(table[position, j].item() - value) < ROUNDING


def test_sinusoid_rows_know_only_how_far_apart_they_are(package):
    table = package.sinusoid_encoding(197, 64).double()
    offset = torch.arange(197.0, dtype=torch.float64)[:, None]
    wave = 10_000 ** (-torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    by_offset = (offset * wave).cos().sum(1)
    for start in (0, 50, 150):
        got = table[start:] @ table[start]
        torch.testing.assert_close(got, by_offset[: 197 - start], atol=1e-5, rtol=0)


@quick
@given(n=st.integers(1, 600), dim=st.integers(2, 70))
def test_timing_signal_equals_a_loop_of_tensor2tensors_definition(package, n, dim):
    table = package.timing_signal(n, dim)
    assert table.shape == (n, dim)
    assert table.dtype == torch.float32
    num_timescales = dim // 2
    step = math.log(10_000) / max(num_timescales - 1, 1)
    for position in {0, n // 2, n - 1}:
        angles = [position * math.exp(-i * step) for i in range(num_timescales)]
        row = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        row += [0.0] * (dim % 2)
        for got, value in zip(table[position].tolist(), row, strict=True):
            assert abs(got - value) < ROUNDING


@quick
@given(gh=st.integers(1, 20), gw=st.integers(1, 20), quarter=st.integers(1, 12))
def test_sincos_2d_equals_a_loop(package, gh, gw, quarter):
    table = package.sincos_2d_encoding((gh, gw), 4 * quarter)
    assert table.shape == (gh * gw, 4 * quarter)
    assert table.dtype == torch.float32
    bands = [10_000 ** (-k / quarter) for k in range(quarter)]
    for y, x in {(0, 0), (gh - 1, 0), (0, gw - 1), (gh // 2, gw - 1)}:
        waves = [(math.sin, y), (math.sin, x), (math.cos, y), (math.cos, x)]
        row = [wave(place * band) for wave, place in waves for band in bands]
        for got, value in zip(table[y * gw + x].tolist(), row, strict=True):
            assert abs(got - value) < ROUNDING


@pytest.mark.parametrize("grid_size", [(14, 14), (24, 24), (6, 10), (1, 3)])
def test_sincos_2d_equals_timm(package, grid_size):
    from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed

    ours = package.sincos_2d_encoding(grid_size, 192)
    theirs = build_sincos2d_pos_embed(list(grid_size), dim=192)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)  # theirs is all float32


def as_timm(table, new_grid, num_prefix_tokens):
    from timm.layers import resample_abs_pos_embed

    return resample_abs_pos_embed(
        table, list(new_grid), num_prefix_tokens=num_prefix_tokens
    )


def as_transformers(table, new_grid, num_prefix_tokens):
    from transformers import ViTConfig
    from transformers.models.vit.modeling_vit import ViTEmbeddings

    assert num_prefix_tokens == 1
    patch, side = 4, math.isqrt(table.shape[1])
    config = ViTConfig(
        hidden_size=table.shape[2], image_size=side * patch, patch_size=patch
    )
    peer = ViTEmbeddings(config)
    peer.position_embeddings.data = table
    gh, gw = new_grid
    tokens = table.new_zeros(1, 1 + gh * gw, table.shape[2])
    return peer.interpolate_pos_encoding(tokens, gh * patch, gw * patch).detach()


def as_torchvision(table, new_grid, num_prefix_tokens):
    from torchvision.models.vision_transformer import interpolate_embeddings

    assert num_prefix_tokens == 1
    state = {"encoder.pos_embedding": table}
    interpolate_embeddings(new_grid[0] * 16, 16, state)
    return state["encoder.pos_embedding"]


def as_jax(table, new_grid, num_prefix_tokens):
    from scipy.ndimage import zoom

    prefix, rows = table[:, :num_prefix_tokens], table[0, num_prefix_tokens:]
    side = math.isqrt(len(rows))
    grid = rows.reshape(side, side, -1).numpy(force=True)
    factors = (new_grid[0] / side, new_grid[1] / side, 1)
    stretched = torch.tensor(zoom(grid, factors, order=1)).flatten(0, 1)
    return torch.cat([prefix, stretched[None]], dim=1)


def as_deit(table, new_grid, num_prefix_tokens):
    prefix, rows = table[:, :num_prefix_tokens], table[:, num_prefix_tokens:]
    side = math.isqrt(rows.shape[1])
    rows = rows.reshape(-1, side, side, table.shape[2]).permute(0, 3, 1, 2)
    rows = F.interpolate(rows, size=new_grid, mode="bicubic", align_corners=False)
    return torch.cat([prefix, rows.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


@pytest.mark.parametrize(
    ("policy", "witness", "num_prefix_tokens", "new_grid"),
    [
        (policy, witness, prefix, grid)
        for policy, witness, prefixes, grids in [
            ("timm", as_timm, (0, 1, 2), [(10, 10), (18, 18), (10, 17)]),
            ("transformers", as_transformers, (1,), [(10, 10), (18, 18), (10, 17)]),
            ("torchvision", as_torchvision, (1,), [(10, 10), (18, 18)]),
            ("jax", as_jax, (0, 1), [(10, 10), (18, 18), (10, 17)]),
            ("deit", as_deit, (1, 2), [(10, 10), (18, 18), (10, 17)]),
        ]
        for prefix in prefixes
        for grid in grids
    ],
)
def test_each_resize_policy_equals_the_library_it_is_named_after(
    package, policy, witness, num_prefix_tokens, new_grid
):
    torch.manual_seed(0)
    table = torch.randn(1, num_prefix_tokens + 14 * 14, 8, dtype=torch.float64)
    ours = package.resize_position_embedding(table, new_grid, num_prefix_tokens, policy)
    assert ours.shape == (1, num_prefix_tokens + new_grid[0] * new_grid[1], 8)
    assert ours.dtype == table.dtype
    theirs = witness(table, new_grid, num_prefix_tokens)
    tolerance = 1e-5 if policy == "timm" else 1e-12  # timm resizes in float32
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


def test_the_default_policy_is_timms(package):
    table = torch.arange(17.0 * 4).sin().reshape(1, 17, 4)
    ours = package.resize_position_embedding(table, (2, 3))
    assert torch.equal(
        ours, package.resize_position_embedding(table, (2, 3), policy="timm")
    )


def test_resizing_from_an_oblong_grid_equals_timm(package):
    from timm.layers import resample_abs_pos_embed

    torch.manual_seed(0)
    table = torch.randn(1, 1 + 6 * 10, 8)
    ours = package.resize_position_embedding(table, (10, 6), old_grid_size=(6, 10))
    theirs = resample_abs_pos_embed(table, [10, 6], old_size=[6, 10])
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    same = package.resize_position_embedding(table, (6, 10), old_grid_size=(6, 10))
    assert torch.equal(same, table)


@pytest.mark.parametrize(
    "policy", ["timm", "transformers", "torchvision", "jax", "deit"]
)
def test_resizing_keeps_constant_tables_and_returns_the_same_grid_untouched(
    package, policy
):
    constant = torch.full((1, 26, 4), 0.5, dtype=torch.float64)
    bigger = package.resize_position_embedding(constant, (7, 3), policy=policy)
    assert bigger.shape == (1, 22, 4)
    torch.testing.assert_close(bigger, constant[:, :22], atol=1e-12, rtol=0)
    same = package.resize_position_embedding(constant, (5, 5), policy=policy)
    assert torch.equal(same, constant)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_tables_have_the_default_dtype_and_are_rounded_once(dtype):
    tables = (
        lambda: course_vit.sinusoid_encoding(300, 9),
        lambda: course_vit.timing_signal(300, 9),
        lambda: course_vit.sincos_2d_encoding((20, 30), 12),
    )
    usual = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        exact = [table() for table in tables]
        torch.set_default_dtype(dtype)
        for table, right in zip(tables, exact, strict=True):
            assert torch.equal(table(), right.to(dtype))
    finally:
        torch.set_default_dtype(usual)


@pytest.mark.parametrize("policy", RESIZE_POLICIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_table_in_half_precision_is_stretched_in_float32(package, policy, dtype):
    table = torch.randn(1, 5, 8).to(dtype)
    single = package.resize_position_embedding(table.float(), (3, 4), policy=policy)
    half = package.resize_position_embedding(table, (3, 4), policy=policy)
    assert torch.equal(half, single.to(dtype))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: p.sinusoid_encoding(0, 4),
            "num_positions must be a positive integer, got 0",
        ),
        (
            lambda p: p.sinusoid_encoding(2.5, 4),
            "num_positions must be a positive integer, got 2.5",
        ),
        (
            lambda p: p.sinusoid_encoding(4, 0),
            "dim must be a positive integer, got 0",
        ),
        (
            lambda p: p.timing_signal(0, 4),
            "num_positions must be a positive integer, got 0",
        ),
        (
            lambda p: p.timing_signal(4, 1),
            "dim must be at least 2, for a sine and a cosine, got 1",
        ),
        (
            lambda p: p.sincos_2d_encoding((2, 2), 6),
            "dim must be a multiple of 4, got 6",
        ),
        (
            lambda p: p.sincos_2d_encoding((0, 2), 8),
            "grid_size must be a positive integer, got 0",
        ),
        (
            lambda p: p.resize_position_embedding(torch.zeros(1, 5, 4), (3.0, 3)),
            "grid_size must be a positive integer, got 3.0",
        ),
        (
            lambda p: p.resize_position_embedding(
                torch.zeros(1, 5, 4), 3, old_grid_size=(2.0, 2)
            ),
            "old_grid_size must be a positive integer, got 2.0",
        ),
        (
            lambda p: p.resize_position_embedding(torch.zeros(1, 1, 4), 3),
            r"position must have 1 \+ 1 \* 1 rows, got 1",
        ),
        (
            lambda p: p.resize_position_embedding(torch.zeros(1, 5, 4), 3, -1),
            "num_prefix_tokens must be 0 or a positive integer, got -1",
        ),
        (
            lambda p: p.resize_position_embedding(
                torch.zeros(1, 5, 4), (3, 3), policy="keras"
            ),
            r"policy must be one of \['timm', .*\], got 'keras'",
        ),
        (
            lambda p: p.resize_position_embedding(torch.zeros(5, 4), (3, 3)),
            r"expected position \(1, n, d\), got shape \(5, 4\)",
        ),
        (
            lambda p: p.resize_position_embedding(torch.zeros(2, 5, 4), (3, 3)),
            r"expected position \(1, n, d\), got shape \(2, 5, 4\)",
        ),
        (
            lambda p: p.resize_position_embedding(torch.zeros(1, 6, 4), (3, 3)),
            r"position must have 1 \+ 2 \* 2 rows, got 6",
        ),
        (
            lambda p: p.resize_position_embedding(
                torch.zeros(1, 5, 4), (3, 3), old_grid_size=(2, 3)
            ),
            r"position must have 1 \+ 2 \* 3 rows, got 5",
        ),
    ],
)
def test_nonsense_is_refused(package, call, message):
    with pytest.raises(ValueError, match=message):
        call(package)
