"""Lesson 1: an image becomes a sequence of tokens."""

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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: p.patchify(torch.zeros(1, 3, 8, 8), (4, 0)),
            "width must be a positive integer, got 0",
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
