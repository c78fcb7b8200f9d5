"""Lesson 3: every token looks at every token."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import course_vit

few = st.integers(1, 5)
quick = settings(max_examples=25)
close = {"atol": 1e-12, "rtol": 0}


def random_qkv(*lead, n, m, e, width=None):
    torch.manual_seed(0)
    sizes = (n, e), (m, e), (m, width or e)
    return [torch.randn(*lead, *size, dtype=torch.float64) for size in sizes]


def random_mask(*shape):
    torch.manual_seed(1)
    mask = torch.rand(shape) < 0.5
    mask[..., 0] |= ~mask.any(dim=-1)  # every query may look somewhere
    return mask


@quick
@given(n=few, m=few, e=few, width=few)
def test_attention_equals_a_loop_over_queries_and_keys(package, n, m, e, width):
    q, k, v = random_qkv(n=n, m=m, e=e, width=width)
    weights, mixed = package.attention_weights(q, k), package.attention(q, k, v)
    for i in range(n):
        scores = [math.exp(float(q[i] @ k[j]) / math.sqrt(e)) for j in range(m)]
        row = torch.tensor(scores, dtype=torch.float64) / sum(scores)
        torch.testing.assert_close(weights[i], row, **close)
        mean = sum(row[j] * v[j] for j in range(m))
        torch.testing.assert_close(mixed[i], mean, **close)


@quick
@given(b=few, h=few, n=few, m=few, e=few, masked=st.booleans())
def test_every_row_sums_to_one(package, b, h, n, m, e, masked):
    q, k, _ = random_qkv(b, h, n=n, m=m, e=e)
    mask = random_mask(b, h, n, m) if masked else None
    weights = package.attention_weights(q, k, mask)
    assert weights.shape == (b, h, n, m)
    assert (weights >= 0).all()
    torch.testing.assert_close(
        weights.sum(dim=-1), torch.ones(b, h, n, dtype=torch.float64), **close
    )


@pytest.mark.parametrize("mask_shape", [None, (4, 5), (2, 1, 4, 5)])
def test_attention_and_mask_mean_the_same_as_in_torch_sdpa(package, mask_shape):
    mask = random_mask(*mask_shape) if mask_shape else None
    q, k, v = random_qkv(2, 3, n=4, m=5, e=6, width=7)
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(package.attention(q, k, v, mask), fused, **close)


def test_the_mask_of_torch_multihead_attention_means_the_opposite(package):
    layer = nn.MultiheadAttention(6, num_heads=1, bias=False, batch_first=True).double()
    layer.in_proj_weight.data = torch.eye(6, dtype=torch.float64).repeat(3, 1)
    layer.out_proj.weight.data = torch.eye(6, dtype=torch.float64)
    q, k, v = random_qkv(2, n=4, m=5, e=6)
    mask = random_mask(4, 5)
    theirs, their_weights = layer(q, k, v, attn_mask=~mask)
    torch.testing.assert_close(package.attention(q, k, v, mask), theirs, **close)
    weights = package.attention_weights(q, k, mask)
    torch.testing.assert_close(weights, their_weights, **close)
    assert (weights[:, ~mask] == 0).all()


@quick
@given(n=few, m=few, seed=st.integers(0, 99))
def test_the_order_of_tokens_means_nothing(package, n, m, seed):
    q, k, v = random_qkv(2, n=n, m=m, e=4)
    torch.manual_seed(seed)
    queries, keys = torch.randperm(n), torch.randperm(m)
    shuffled = package.attention(q[:, queries], k[:, keys], v[:, keys])
    torch.testing.assert_close(
        shuffled, package.attention(q, k, v)[:, queries], **close
    )


def test_images_of_a_batch_do_not_see_each_other(package):
    q, k, v = random_qkv(3, n=4, m=5, e=6)
    together = package.attention(q, k, v)
    for i in range(3):
        alone = package.attention(q[i], k[i], v[i])
        torch.testing.assert_close(together[i], alone, **close)


def test_large_scores_do_not_overflow(package):
    q, k, v = (1e4 * x for x in random_qkv(n=4, m=5, e=6))
    assert package.attention(q, k, v).isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: p.attention_weights(torch.ones(2, 4), torch.ones(3, 5)),
            r"q and k must have the same width, got q \(2, 4\), k \(3, 5\)",
        ),
        (
            lambda p: p.attention(*[torch.ones(2, 4)] * 3, mask=torch.eye(2) > 1),
            r"every query must be allowed to look at a key, .* \[\[0\], \[1\]\]",
        ),
    ],
)
def test_nonsense_is_refused(package, call, message):
    with pytest.raises(ValueError, match=message):
        call(package)


def test_a_mask_of_numbers_is_refused(package):
    message = "mask must be a boolean tensor, True .* may look, got torch.float32"
    with pytest.raises(TypeError, match=message):
        package.attention_weights(torch.ones(2, 4), torch.ones(2, 4), torch.eye(2))


@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (3, 4, 5), (2, 1, 1, 5)])
def test_a_mask_may_lack_axes_or_repeat_them_as_in_torch_sdpa(package, shape):
    q, k, v = random_qkv(2, 3, n=4, m=5, e=6)
    mask = torch.ones(shape, dtype=torch.bool)
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(package.attention(q, k, v, mask), fused, **close)


@pytest.mark.parametrize(
    ("q", "k", "message"),
    [
        ((4,), (4,), r"expected q \(..., n, e\) and k .*, got q \(4,\), k \(4,\)"),
        ((2, 4), (4,), r"expected q .*, got q \(2, 4\), k \(4,\)"),
        ((2, 0), (3, 0), r"m and e above 0, got q \(2, 0\), k \(3, 0\)"),
        ((2, 4), (0, 4), r"m and e above 0, got q \(2, 4\), k \(0, 4\)"),
        ((2, 4, 4), (3, 4, 4), r"agree before the last two axes, got q \(2, 4, 4\)"),
    ],
)
def test_queries_and_keys_that_do_not_belong_together_are_refused(
    package, q, k, message
):
    for refuse in (package.check_attention, course_vit.attention_weights):
        with pytest.raises(ValueError, match=message):
            refuse(torch.ones(q), torch.ones(k))


@pytest.mark.parametrize("shape", [(7, 4), (5, 4), (1, 4, 5), (1, 1, 1, 4, 5), (4, 0)])
def test_a_mask_of_another_shape_is_refused(package, shape):
    q, k, _ = random_qkv(n=4, m=5, e=6)
    mask = torch.ones(shape, dtype=torch.bool)
    message = re.escape(f"mask must fit the scores (4, 5), got {shape}")
    for refuse in (package.check_attention, course_vit.attention_weights):
        with pytest.raises(ValueError, match=message):
            refuse(q, k, mask)


@pytest.mark.parametrize("mask", [True, 1, [[True]], np.ones((4, 5), dtype=bool)])
def test_a_mask_that_is_no_tensor_is_refused(package, mask):
    q, k, _ = random_qkv(n=4, m=5, e=6)
    for refuse in (package.check_attention, course_vit.attention_weights):
        with pytest.raises(TypeError, match="mask must be a boolean tensor"):
            refuse(q, k, mask)


@pytest.mark.parametrize("shape", [(1, 6), (6, 6), (5,), ()])
def test_every_key_has_one_value(shape):
    q, k, _ = random_qkv(n=4, m=5, e=6)
    with pytest.raises(ValueError, match="expected one value per key"):
        course_vit.attention(q, k, torch.ones(shape, dtype=torch.float64))
