"""Our distilled ViT equals timm's and Hugging Face's DeiT, number for number, twice."""

from functools import partial

import pytest
import torch
from weights import (
    TOLERANCE,
    distance,
    drawn,
    exchange_eps,
    order_k_q_v,
    renamed,
    with_weights,
)

# Parameters as published; embed_dim and heads as in the names' ViT.
PLAIN = {
    "deit_tiny_patch16_224": 5_717_416,
    "deit_small_patch16_224": 22_050_664,
    "deit_base_patch16_224": 86_567_656,
    "deit_base_patch16_384": 86_859_496,
}
DISTILLED = {
    "deit_tiny_distilled_patch16_224": 5_910_800,
    "deit_small_distilled_patch16_224": 22_436_432,
    "deit_base_distilled_patch16_224": 87_338_192,
    "deit_base_distilled_patch16_384": 87_630_032,
}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def timm_deit(name, **options):
    import timm

    return timm.create_model(name, **options)


def transformers_deit(embed_dim, depth, num_heads, img_size, patch_size, classes):
    from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher

    config = DeiTConfig(
        image_size=img_size,
        patch_size=patch_size,
        num_hidden_layers=depth,
        num_attention_heads=num_heads,
        hidden_size=embed_dim,
        intermediate_size=4 * embed_dim,
        layer_norm_eps=1e-6,
        num_labels=classes,
    )
    return DeiTForImageClassificationWithTeacher(config)


@torch.no_grad()
def three_answers(model, images):
    """The logits of the class head, of the distillation head, and of eval mode."""
    mean = model.eval()(images)
    by_class, by_distillation = model.train()(images)
    model.eval()
    return by_class, by_distillation, mean


def gaps(ours, theirs):
    return [distance(*pair) for pair in zip(ours, theirs, strict=True)]


@DTYPES
@pytest.mark.parametrize("name", DISTILLED)
def test_both_heads_equal_timm(package, name, dtype):
    depth = 2 if name.endswith("384") else 12
    build = partial(package.create_model, name, depth=depth)
    state = drawn(build, dtype)
    ours = with_weights(build, state)
    theirs = with_weights(partial(timm_deit, name, depth=depth), state)
    theirs.set_distilled_training(True)
    images = torch.randn(1, 3, *ours.patch_embed.img_size, dtype=dtype)
    pairs = gaps(three_answers(ours, images), three_answers(theirs, images))
    assert max(pairs) <= TOLERANCE[dtype]


@DTYPES
@pytest.mark.parametrize(
    ("name", "embed_dim", "num_heads"),
    [
        ("deit_tiny_distilled_patch16_224", 192, 3),
        ("deit_small_distilled_patch16_224", 384, 6),
        ("deit_base_distilled_patch16_224", 768, 12),
    ],
)
def test_both_heads_equal_transformers(package, name, embed_dim, num_heads, dtype):
    state = drawn(partial(package.create_model, name), dtype)
    ours = with_weights(partial(package.create_model, name), state)
    sizes = (embed_dim, 12, num_heads, 224, 16, 1000)
    names = renamed(state, "transformers DeiT")
    theirs = with_weights(partial(transformers_deit, *sizes), names)
    images = torch.randn(1, 3, 224, 224, dtype=dtype)
    with torch.no_grad():
        out = theirs(images)
    answers = out.cls_logits, out.distillation_logits, out.logits
    assert max(gaps(three_answers(ours, images), answers)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", [*PLAIN, *DISTILLED])
def test_names_shapes_and_counts_are_the_published_ones(package, name):
    with torch.device("meta"):
        ours, theirs = package.create_model(name), timm_deit(name)
    count = sum(parameter.numel() for parameter in ours.parameters())
    assert count == (PLAIN | DISTILLED)[name]
    ours, theirs = (
        {key: tensor.shape for key, tensor in model.state_dict().items()}
        for model in (ours, theirs)
    )
    assert ours == theirs
    assert len(ours) == (155 if name in DISTILLED else 152)


# The proof that these tests can fail

SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}


def small_pair(package):
    from timm.models.deit import VisionTransformerDistilled

    build = partial(package.DistilledVisionTransformer, num_classes=7, **SIZES)
    state = drawn(build)
    theirs = partial(VisionTransformerDistilled, num_classes=7, **SIZES)
    theirs = with_weights(theirs, state)
    theirs.set_distilled_training(True)
    return with_weights(build, state), theirs


def tokens_in_the_other_order(model):
    model.cls_token, model.dist_token = model.dist_token, model.cls_token


def distillation_token_last(model):
    embed = model.embed

    def moved(images):
        x = embed(images)
        return torch.cat([x[:, :1], x[:, 2:], x[:, 1:2]], dim=1)

    model.embed = moved


def heads_exchanged(model):
    model.head, model.head_dist = model.head_dist, model.head


def one_head_for_both(model):
    model.head_dist = model.head


MISTAKES = [
    tokens_in_the_other_order,
    distillation_token_last,
    heads_exchanged,
    one_head_for_both,
    order_k_q_v,
    exchange_eps,
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_seen(package, mistake):
    ours, theirs = small_pair(package)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = three_answers(theirs, images)
    assert max(gaps(three_answers(ours, images), expected)) <= 1e-9
    mistake(ours)
    assert max(gaps(three_answers(ours, images), expected)) > 1e-6
