"""Lesson 1: an image becomes a sequence of tokens."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

few = st.integers(1, 4)
quick = settings(max_examples=25)


def random_images(b, c, gh, gw, ph, pw):
    torch.manual_seed(0)
    return torch.randn(b, c, gh * ph, gw * pw, dtype=torch.float64)


@quick
@given(b=few, c=few, gh=few, gw=few, ph=few, pw=few)
def test_patchify_equals_a_loop_over_patches(package, b, c, gh, gw, ph, pw):
    images = random_images(b, c, gh, gw, ph, pw)
    patches = package.patchify(images, (ph, pw))
    assert patches.shape == (b, gh * gw, c * ph * pw)
    for row in range(gh):
        for column in range(gw):
            top, left = row * ph, column * pw
            patch = images[:, :, top : top + ph, left : left + pw]
            assert torch.equal(patches[:, row * gw + column], patch.flatten(1))


@quick
@given(b=few, c=few, gh=few, gw=few, ph=few, pw=few)
def test_unpatchify_undoes_patchify(package, b, c, gh, gw, ph, pw):
    images = random_images(b, c, gh, gw, ph, pw)
    patches = package.patchify(images, (ph, pw))
    assert torch.equal(package.unpatchify(patches, (ph, pw), (gh, gw)), images)


def test_unpatchify_takes_the_grid_for_a_square_when_not_told(package):
    images = random_images(2, 3, 4, 4, 2, 5)
    patches = package.patchify(images, (2, 5))
    assert torch.equal(package.unpatchify(patches, (2, 5)), images)


def test_an_int_means_a_square_patch(package):
    images = random_images(2, 3, 2, 3, 4, 4)
    patches = package.patchify(images, 4)
    assert torch.equal(patches, package.patchify(images, (4, 4)))
    assert torch.equal(package.unpatchify(patches, 4, (2, 3)), images)


@quick
@given(b=few, c=few, gh=few, gw=few, ph=few, pw=few)
def test_the_convolution_is_one_linear_map_on_every_patch(
    package, b, c, gh, gw, ph, pw
):
    images = random_images(b, c, gh, gw, ph, pw)
    embed = package.PatchEmbedding(
        (gh * ph, gw * pw), (ph, pw), c, embed_dim=5
    ).double()
    assert embed.grid_size == (gh, gw)
    weight, bias = embed.proj.weight.flatten(1), embed.proj.bias
    linear = F.linear(package.patchify(images, (ph, pw)), weight, bias)
    torch.testing.assert_close(embed(images), linear, atol=1e-12, rtol=0)


def test_the_default_is_vit_base_at_224_pixels(package):
    embed = package.PatchEmbedding()
    assert embed.proj.weight.shape == (768, 3, 16, 16)
    assert embed.grid_size == (14, 14)


def test_sizes_may_come_from_numpy_or_a_file(package):
    for size in (np.int64(4), np.array(4), [4, 4], torch.zeros(4, 4).shape):
        assert package.as_pair(size) == (4, 4)
        assert all(type(side) is int for side in package.as_pair(size))
    embed = package.PatchEmbedding(np.int64(8), [4, 2], np.int32(3), np.int64(6))
    assert embed(torch.zeros(1, 3, 8, 8)).shape == (1, 8, 6)


NO_SIZES = [-1, 2.0, np.float32(2), math.nan, math.inf, True, np.True_, "2", None]


@pytest.mark.parametrize("size", [0, *NO_SIZES, (2, 2), np.array([2, 2])], ids=repr)
def test_what_is_no_positive_integer_is_refused(package, size):
    package.check_sizes(depth=1, dim=np.int64(2))
    message = re.escape(f"dim must be a positive integer, got {size!r}")
    with pytest.raises(ValueError, match=message):
        package.check_sizes(depth=1, dim=size)


@pytest.mark.parametrize("size", NO_SIZES, ids=repr)
def test_zero_is_a_size_only_on_request(package, size):
    package.check_sizes(or_zero=True, num_classes=0)
    message = re.escape(f"num_classes must be 0 or a positive integer, got {size!r}")
    with pytest.raises(ValueError, match=message):
        package.check_sizes(or_zero=True, num_classes=size)


@pytest.mark.parametrize("side", [0, *NO_SIZES], ids=repr)
def test_a_pair_consists_of_sizes(package, side):
    message = re.escape(f"img_size must be a positive integer, got {side!r}")
    for size in (side, (side, 8), [8, side]):
        with pytest.raises(ValueError, match=message):
            package.as_pair(size, "img_size")


def test_a_range_includes_its_bounds(package):
    package.check_range(0, 1, a=0, b=1.0, c=np.float32(0.5))
    package.check_range(0, math.inf, a=1e30)


@pytest.mark.parametrize("number", [-0.1, math.nan, math.inf, "1", True, None])
def test_what_is_out_of_range_is_refused(package, number):
    message = re.escape(f"rate must be between 0 and inf, got {number!r}")
    with pytest.raises(ValueError, match=message):
        package.check_range(0, math.inf, rate=number)


def test_a_letter_allows_any_size(package):
    x = torch.zeros(2, 5, 12)
    package.check_shape("tokens", x, ("b", "n", 12))
    package.check_shape("tokens", x, ("b", 5, "d"))
    for expected in [("b", "n", 11), ("b", 12), ("b", "n", 12, "e"), (3, "n", "d")]:
        message = re.escape(f"tokens ({', '.join(map(str, expected))}), got shape (2, ")
        with pytest.raises(ValueError, match=message):
            package.check_shape("tokens", x, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: p.as_pair((3, 8, 8)),
            r"size must be one number or \(height, width\), got \(3, 8, 8\)",
        ),
        (
            lambda p: p.patchify(torch.zeros(1, 3, 8, 8), (4, 0)),
            "patch_size must be a positive integer, got 0",
        ),
        (
            lambda p: p.patchify(torch.zeros(1, 3, 9, 8), 4),
            "image sides must be multiples of 4 and 4, got 9 and 8",
        ),
        (
            lambda p: p.patchify(torch.zeros(1, 3, 8, 9), (8, 4)),
            "image sides must be multiples of 8 and 4, got 8 and 9",
        ),
        (
            lambda p: p.patchify(torch.zeros(3, 8, 8), 4),
            r"expected images \(b, c, h, w\), got shape \(3, 8, 8\)",
        ),
        (
            lambda p: p.unpatchify(torch.zeros(1, 6, 48), 4),
            r"expected 2 \* 2 patches of c \* 4 \* 4, got 6 of 48",
        ),
        (
            lambda p: p.unpatchify(torch.zeros(1, 6, 47), 4, (2, 3)),
            r"expected 2 \* 3 patches of c \* 4 \* 4, got 6 of 47",
        ),
        (
            lambda p: p.unpatchify(torch.zeros(6, 48), 4, (2, 3)),
            r"expected patches \(b, n, c p p\), got shape \(6, 48\)",
        ),
        (
            lambda p: p.PatchEmbedding(img_size=(32, 30), patch_size=8),
            r"img_size must be a multiple of patch_size, "
            r"got img_size=\(32, 30\), patch_size=8",
        ),
        (
            lambda p: p.PatchEmbedding(32, 8)(torch.zeros(1, 3, 32, 24)),
            r"expected images \(b, 3, 32, 32\), got shape \(1, 3, 32, 24\)",
        ),
        (
            lambda p: p.PatchEmbedding(32, 8)(torch.zeros(1, 1, 32, 32)),
            r"expected images \(b, 3, 32, 32\), got shape \(1, 1, 32, 32\)",
        ),
    ],
)
def test_nonsense_is_refused(package, call, message):
    with pytest.raises(ValueError, match=message):
        call(package)
