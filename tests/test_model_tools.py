"""What engineers ask of a model, beside timm and torchvision."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import timm
import torch
from torchvision.models.feature_extraction import create_feature_extractor
from weights import drawn, with_weights

import course_vit

SIZES = {"num_classes": 5, "embed_dim": 24, "depth": 3, "num_heads": 3}
PATCHES = {**SIZES, "img_size": (16, 24), "patch_size": 8}
VIT = partial(course_vit.VisionTransformer, **PATCHES)
DEIT = partial(course_vit.DistilledVisionTransformer, **PATCHES)
T2T = partial(course_vit.T2TViT, **SIZES, img_size=(16, 24), token_dim=8)
MEAN = partial(VIT, pool="mean", position="sincos_2d")
FAMILIES = {"ViT": VIT, "ViT, mean": MEAN, "DeiT": DEIT, "T2T": T2T}
each_family = pytest.mark.parametrize("build", FAMILIES.values(), ids=FAMILIES)
close = {"atol": 1e-10, "rtol": 0}


def with_timm(build):
    """Our model and timm's in eval, in float64, with the same drawn weights."""
    state = drawn(build)
    kind = timm.models.VisionTransformer
    if build is DEIT:
        kind = timm.models.deit.VisionTransformerDistilled
    theirs = partial(kind, **PATCHES, dynamic_img_size=True)
    return with_weights(build, state), with_weights(theirs, state)


def model_of(build, dtype=torch.float64):
    return with_weights(build, drawn(build, dtype))


def images(b=2, height=16, width=24, dtype=torch.float64):
    return torch.rand(b, 3, height, width, dtype=dtype)


@pytest.mark.parametrize("build", [VIT, DEIT], ids=["ViT", "DeiT"])
@pytest.mark.parametrize("size", [(16, 24), (24, 24), (8, 40), (40, 48)])
def test_any_image_size_equals_timm(build, size):
    ours, theirs = with_timm(build)
    names = list(ours.state_dict())
    assert course_vit.allow_any_size(ours) is ours
    batch = images(2, *size)
    torch.testing.assert_close(ours(batch), theirs(batch), atol=1e-6, rtol=0)
    maps = course_vit.attention_maps(ours, batch)
    assert maps[0].shape[-1] == ours.num_prefix_tokens + size[0] * size[1] // 64
    assert list(ours.state_dict()) == names


def test_the_gradient_passes_the_stretched_positions():
    model = course_vit.allow_any_size(model_of(VIT))
    model(images(1, 32, 32)).sum().backward()
    assert model.pos_embed.grad.abs().max() > 0


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_copy_allows_any_size_and_checkpoints_with_its_own_weights(copied):
    model = course_vit.allow_any_size(model_of(VIT))
    course_vit.set_grad_checkpointing(model)
    twin = copied(model)
    for parameter in twin.parameters():
        parameter.data.zero_()
    assert twin(images(1, 8, 8)).abs().max() == 0
    assert model(images(1, 8, 8)).abs().max() > 0


@pytest.mark.parametrize("position", ["sincos_2d", "sinusoid", "none"])
def test_any_image_size_with_every_table_of_positions(position):
    model = course_vit.allow_any_size(model_of(partial(VIT, position=position)))
    assert model(images(2, 32, 8)).isfinite().all()


@each_family
@pytest.mark.parametrize("blocks", [[1], [0, 2], [2, 0], [-1, -2], range(3), None])
def test_intermediate_tokens_are_those_after_the_blocks(build, blocks):
    model, batch = model_of(build), images()
    states = [model.embed(batch)]
    for block in model.blocks:
        states.append(block(states[-1]))
    found = course_vit.intermediate_tokens(model, batch, blocks)
    wanted = range(3) if blocks is None else blocks
    assert len(found) == len(wanted)
    for number, tokens in zip(wanted, found, strict=True):
        assert torch.equal(tokens, states[1:][number])


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("build", [VIT, DEIT], ids=["ViT", "DeiT"])
def test_intermediate_tokens_equal_timm(build, norm):
    ours, theirs = with_timm(build)
    batch, prefix = images(), ours.num_prefix_tokens
    found = course_vit.intermediate_tokens(ours, batch, [0, 2], norm=norm)
    options = {"norm": norm, "return_prefix_tokens": True}
    for tokens, (patches, first) in zip(
        found, theirs.get_intermediate_layers(batch, [0, 2], **options), strict=True
    ):
        torch.testing.assert_close(tokens[:, prefix:], patches, **close)
        torch.testing.assert_close(tokens[:, :prefix], first, **close)


@each_family
def test_checkpointing_gives_the_same_gradients_and_keeps_less(build):
    build = partial(build, drop_rate=0.1, drop_path_rate=0.2)
    model, batch = model_of(build).train(), images()

    def step():
        kept = []
        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x: kept.append(x.numel()) or x, lambda x: x
        ):
            out = model(batch)
        out = sum(out) if isinstance(out, tuple) else out
        gradients = torch.autograd.grad(
            out.square().sum(), [p for p in model.parameters() if p.requires_grad]
        )
        return gradients, sum(kept)

    right, all_kept = step()
    course_vit.set_grad_checkpointing(model)
    found, few_kept = step()
    assert all(map(torch.equal, found, right))
    assert few_kept < 0.7 * all_kept
    course_vit.set_grad_checkpointing(model, False)
    assert step()[1] == all_kept


@each_family
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_symbolic_tracing_records_every_variant(build, mode):
    model = getattr(model_of(partial(build, drop_path_rate=0.2)), mode)()
    traced = torch.fx.symbolic_trace(model)
    for b in (1, 3):
        torch.manual_seed(0)
        right = model(images(b))
        torch.manual_seed(0)
        torch.testing.assert_close(traced(images(b)), right)


def test_symbolic_tracing_reads_sizes_of_numpy():
    sizes = {name: np.int64(size) for name, size in SIZES.items()}
    model = model_of(partial(VIT, **sizes, drop_path_rate=np.float32(0.2))).train()
    traced = torch.fx.symbolic_trace(model)
    assert traced(images()).shape == (2, 5)
    assert {type(block.drop_path.drop_prob) for block in model.blocks} == {float}


@each_family
def test_torchvision_extracts_features(build):
    model, batch = model_of(build), images()
    features = create_feature_extractor(model, ["blocks.1"])(batch)["blocks.1"]
    assert torch.equal(features, course_vit.intermediate_tokens(model, batch, [1])[0])


@pytest.mark.filterwarnings("ignore")
@each_family
@pytest.mark.parametrize("way", ["script", "trace"])
def test_torchscript_answers_alike_for_any_batch(build, way, tmp_path):
    model = model_of(build)
    if way == "script":
        scripted = torch.jit.script(model)
    else:
        scripted = torch.jit.trace(model, images())
    scripted.save(tmp_path / "model.pt")
    loaded = torch.jit.load(tmp_path / "model.pt")
    for b in (1, 2, 5):
        batch = images(b)
        torch.testing.assert_close(loaded(batch), model(batch), **close)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: course_vit.allow_any_size(T2T()),
            TypeError,
            "must be a ViT or DeiT of the course, got T2TViT: build it with",
        ),
        (
            lambda: course_vit.allow_any_size(timm.models.VisionTransformer(depth=1)),
            TypeError,
            "must be a ViT or DeiT of the course, got VisionTransformer: build it",
        ),
        (
            lambda: course_vit.allow_any_size(VIT())(images(1, 20, 24)),
            ValueError,
            "image sides must be multiples of 8 and 8, got 20 and 24",
        ),
        (
            lambda: course_vit.allow_any_size(VIT(), policy="nearest"),
            ValueError,
            "policy must be one of .*, got 'nearest'",
        ),
        *[
            (
                lambda blocks=blocks: course_vit.intermediate_tokens(
                    VIT(), images(), blocks
                ),
                ValueError,
                "blocks must be a list of numbers from -3 to 2, got ",
            )
            for blocks in ([3], [-4], [], [1.0], 1, "1")
        ],
    ],
)
def test_nonsense_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
