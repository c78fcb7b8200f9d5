"""Our ViT equals timm, torchvision, Hugging Face and vit-pytorch, number for number."""

from functools import lru_cache, partial
from itertools import product
from typing import NamedTuple

import pytest
import torch
from torch import nn
from weights import (
    TOLERANCE,
    answer,
    distance,
    drawn,
    exchange_eps,
    order_k_q_v,
    renamed,
    with_weights,
)


class Size(NamedTuple):
    img_size: int
    patch_size: int
    embed_dim: int
    depth: int
    num_heads: int
    num_params: int = 0


PUBLISHED = {
    "vit_tiny_patch16_224": Size(224, 16, 192, 12, 3, 5_717_416),
    "vit_tiny_patch32_224": Size(224, 32, 192, 12, 3, 6_131_560),
    "vit_small_patch16_224": Size(224, 16, 384, 12, 6, 22_050_664),
    "vit_small_patch32_224": Size(224, 32, 384, 12, 6, 22_878_952),
    "vit_base_patch8_224": Size(224, 8, 768, 12, 12, 86_576_872),
    "vit_base_patch16_224": Size(224, 16, 768, 12, 12, 86_567_656),
    "vit_base_patch16_384": Size(384, 16, 768, 12, 12, 86_859_496),
    "vit_base_patch32_224": Size(224, 32, 768, 12, 12, 88_224_232),
    "vit_large_patch14_224": Size(224, 14, 1024, 24, 16, 304_203_752),
    "vit_large_patch16_224": Size(224, 16, 1024, 24, 16, 304_326_632),
    "vit_large_patch32_224": Size(224, 32, 1024, 24, 16, 306_535_400),
    "vit_huge_patch14_224": Size(224, 14, 1280, 32, 16, 632_045_800),
    "vit_huge_patch16_224": Size(224, 16, 1280, 32, 16, 632_199_400),
    "vit_huge_patch32_224": Size(224, 32, 1280, 32, 16, 634_960_360),
}
TINY = "vit_tiny_patch16_224"


# The peers: each a model of a given size, and the names of its weights


def timm_vit(size, img_size, **options):
    from timm.models import VisionTransformer

    sizes = {**size._asdict(), "img_size": img_size, **options}
    del sizes["num_params"]
    return VisionTransformer(**sizes)


def torchvision_vit(size, img_size):
    from torchvision.models import VisionTransformer

    return VisionTransformer(
        image_size=img_size[0],
        patch_size=size.patch_size,
        num_layers=size.depth,
        num_heads=size.num_heads,
        hidden_dim=size.embed_dim,
        mlp_dim=4 * size.embed_dim,
    )


def transformers_vit(size, img_size):
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=img_size,
        patch_size=size.patch_size,
        num_hidden_layers=size.depth,
        num_attention_heads=size.num_heads,
        hidden_size=size.embed_dim,
        intermediate_size=4 * size.embed_dim,
        layer_norm_eps=1e-6,
        num_labels=1000,
    )
    return ViTForImageClassification(config)


def vit_pytorch_encoder(size):
    from vit_pytorch.vit import Transformer

    dim, heads = size.embed_dim, size.num_heads
    return Transformer(dim, size.depth, heads, dim // heads, 4 * dim)


PEERS = {
    "timm": timm_vit,
    "transformers": transformers_vit,
    "torchvision": torchvision_vit,
}


# The comparison


class Case(NamedTuple):
    size: Size
    state: dict
    images: torch.Tensor
    logits: torch.Tensor


@lru_cache(maxsize=1)
def our_case(package, name, shape, dtype):
    """Weights, images and our own answer, computed once for all peers."""
    size = PUBLISHED[name]
    if "large" in name or "huge" in name:
        size = size._replace(depth=2)
    side, p = size.img_size, size.patch_size
    img_size = (6 * p, 10 * p) if shape == "oblong" else (side, side)
    build = partial(package.create_model, name, img_size=img_size, depth=size.depth)
    if shape == "at init":
        torch.manual_seed(0)
        state = {key: tensor.to(dtype) for key, tensor in build().state_dict().items()}
    else:
        state = drawn(build, dtype)
    images = torch.randn(1, 3, *img_size).to(dtype)
    return Case(size, state, images, answer(with_weights(build, state), images))


def comparisons():
    """Every size with every peer; in float64 the two slowest with timm only."""
    slow = "vit_base_patch8_224", "vit_base_patch16_384"
    shapes = list(product(PUBLISHED, ("square", "oblong")))
    shapes.remove(("vit_base_patch16_384", "oblong"))  # the same as of 224
    for (name, shape), dtype, peer in product(
        [*shapes, (TINY, "at init")], TOLERANCE, PEERS
    ):
        squares_only = peer == "torchvision" and shape == "oblong"
        slow_double = name in slow and shape == "square" and dtype == torch.float64
        if not squares_only and not (slow_double and peer != "timm"):
            yield name, shape, dtype, peer


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "peer"), list(comparisons()), ids=str
)
def test_same_weights_give_the_same_logits(package, name, shape, dtype, peer):
    size, state, images, logits = our_case(package, name, shape, dtype)
    build = partial(PEERS[peer], size, tuple(images.shape[2:]))
    theirs = answer(with_weights(build, renamed(state, peer)), images)
    assert distance(logits, theirs) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kind", ["tiny", "small", "base"])
def test_from_the_tokens_on_we_equal_vit_pytorch(package, kind, dtype):
    name = f"vit_{kind}_patch16_224"
    like_theirs = {"qkv_bias": False, "norm_eps": 1e-5}
    build = partial(package.create_model, name, **like_theirs)
    state = drawn(build, dtype)
    ours = with_weights(build, state)
    encoder = {key: state[key] for key in state if key.startswith(("blocks", "norm"))}
    build_theirs = partial(vit_pytorch_encoder, PUBLISHED[name])
    theirs = with_weights(build_theirs, renamed(encoder, "vit_pytorch"))
    with torch.no_grad():
        x = tokens = ours.embed(torch.randn(1, 3, 224, 224, dtype=dtype))
        for block in ours.blocks:
            x = block(x)
        assert distance(ours.norm(x), theirs(tokens)) <= TOLERANCE[dtype]


# Keys, shapes and counts, without weights


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_number_of_parameters_is_the_published_one(package, name):
    img_size, p, d, depth, _, expected = PUBLISHED[name]
    with torch.device("meta"):
        model = package.create_model(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    patches, classes = (img_size // p) ** 2, 1000
    embedding = (p * p * 3 * d + d) + d + (patches + 1) * d
    blocks = depth * (12 * d * d + 13 * d)
    assert embedding + blocks + 2 * d + (d + 1) * classes == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_shapes_and_heads_are_those_of_timm(package, name):
    import timm

    size = PUBLISHED[name]
    with torch.device("meta"):
        ours = package.create_model(name)
        if timm.is_model(name):
            theirs = timm.create_model(name, num_classes=1000)
        else:
            theirs = timm_vit(size, size.img_size)
    shapes, peers = (
        {key: tensor.shape for key, tensor in model.state_dict().items()}
        for model in (ours, theirs)
    )
    assert shapes == peers
    assert len(shapes) == 8 + 12 * size.depth
    heads, peers = (
        [block.attn.num_heads for block in model.blocks] for model in (ours, theirs)
    )
    assert heads == peers


# Variants, and the proof that these tests can fail

SMALL = Size(img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3)


def small_pair(package, options, timm_options):
    """Our model and timm's with the same drawn weights, and images, in float64."""
    sizes = {**SMALL._asdict(), **options}
    del sizes["num_params"]
    build = partial(package.VisionTransformer, **sizes)
    state = drawn(build)
    theirs = with_weights(partial(timm_vit, SMALL, (32, 32), **timm_options), state)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    return with_weights(build, state), theirs, images


MEAN = {"class_token": False, "global_pool": "avg", "fc_norm": False}


@pytest.mark.parametrize(
    ("options", "timm_options"),
    [
        ({"pool": "mean"}, MEAN),
        ({"pool": "mean", "position": "none"}, {**MEAN, "pos_embed": "none"}),
        ({"position": "none"}, {"pos_embed": "none"}),
        ({"qkv_bias": False}, {"qkv_bias": False}),
        ({"mlp_ratio": 3.0}, {"mlp_ratio": 3.0}),
        ({"in_chans": 3, "num_classes": 7}, {"num_classes": 7}),
        ({"num_classes": 0}, {"num_classes": 0}),
        ({"patch_size": (4, 16)}, {"patch_size": (4, 16)}),
    ],
    ids=str,
)
def test_variants_equal_timm(package, options, timm_options):
    ours, theirs, images = small_pair(package, options, timm_options)
    gap = distance(answer(ours, images), answer(theirs, images))
    assert gap <= TOLERANCE[torch.float64]


def set_tanh_gelu(model):
    for block in model.blocks:
        block.mlp.act = nn.GELU(approximate="tanh")


def scale_by_the_whole_width(model):
    for block in model.blocks:
        shrink = SMALL.num_heads**-0.5
        block.attn.qkv.weight.data[: SMALL.embed_dim] *= shrink
        block.attn.qkv.bias.data[: SMALL.embed_dim] *= shrink


def drop_qkv_bias(model):
    for block in model.blocks:
        block.attn.qkv.bias = None


def double_the_heads(model):
    for block in model.blocks:
        block.attn.num_heads *= 2


def post_norm(block, x):
    x = block.norm1(x + block.attn(x))
    return block.norm2(x + block.mlp(x))


def normalise_after_the_sum(model):
    for block in model.blocks:
        block.forward = partial(post_norm, block)


def forget_the_final_norm(model):
    model.norm = nn.Identity()


def forget_the_positions(model):
    model.pos_embed = None


def put_the_class_token_last(model):
    embed = model.embed
    model.embed = lambda images: embed(images).roll(-1, dims=1)


def average_the_patches(model):
    features = model.forward_features
    model.forward_features = lambda images: features(images).mean(1, keepdim=True)


MUTATIONS = [
    exchange_eps,
    set_tanh_gelu,
    scale_by_the_whole_width,
    drop_qkv_bias,
    order_k_q_v,
    double_the_heads,
    normalise_after_the_sum,
    forget_the_final_norm,
    forget_the_positions,
    put_the_class_token_last,
    average_the_patches,
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mistake_is_seen(package, mutation):
    ours, theirs, images = small_pair(package, {}, {})
    expected = answer(theirs, images)
    mutation(ours)
    assert distance(answer(ours, images), expected) > 1000 * TOLERANCE[torch.float64]


def test_a_change_of_any_tensor_is_seen_but_of_the_key_bias(package):
    ours, theirs, images = small_pair(package, {}, {})
    expected = answer(theirs, images)
    keys = slice(SMALL.embed_dim, 2 * SMALL.embed_dim)
    for name, parameter in ours.named_parameters():
        kept = parameter.data.clone()
        parameter.data *= 1.01
        assert distance(answer(ours, images), expected) > 1e-5, name
        parameter.data = kept
        if name.endswith("qkv.bias"):
            parameter.data[keys] += 1
            assert distance(answer(ours, images), expected) < 1e-12, name
            parameter.data[keys] -= 1
