"""Our T2T-ViT equals the official release, stage by stage."""

import re
import sys

import pytest
import torch
from weights import TOLERANCE, distance, exchange_eps, released_t2t

KINDS = ["performer", "transformer"]
COUNTS = {  # all parameters, and those that are trained
    "t2t_vit_7": (4_310_222, 4_255_694),
    "t2t_vit_10": (5_889_230, 5_834_702),
    "t2t_vit_12": (6_941_902, 6_887_374),
    "t2t_vit_14": (21_545_550, 21_465_806),
    "t2t_vit_19": (39_177_422, 39_085_070),
    "t2t_vit_24": (64_105_934, 64_000_974),
    "t2t_vit_t_14": (21_541_070, 21_465_422),
    "t2t_vit_t_19": (39_172_942, 39_084_686),
    "t2t_vit_t_24": (64_101_454, 64_000_590),
    "t2t_vit_14_resnext": (21_545_550, 21_465_806),
    "t2t_vit_14_wide": (25_156_302, 25_000_910),
}


def released(package, kind, dtype=torch.float64):
    """Our small model with the released model's weights, and the golden numbers."""
    model, golden = released_t2t(package, kind, dtype)
    model.load_state_dict(golden["weights"], strict=True)
    return model, golden


@torch.no_grad()
def stages(model, images):
    """What each stage gives, under the names of the golden files."""
    seen = {}

    def keep(name):
        def hook(module, inputs, output):
            seen[name] = output

        return hook

    parts = {
        "after_token_layer_1": model.tokens_to_token.attention1,
        "after_token_layer_2": model.tokens_to_token.attention2,
        "after_tokens_to_token": model.tokens_to_token,
        "after_block_0": model.blocks[0],
    }
    hooks = [
        part.register_forward_hook(keep(f"stage.{name}"))
        for name, part in parts.items()
    ]
    seen["logits"] = model(images)
    for hook in hooks:
        hook.remove()
    return seen


def gaps(model, golden):
    answers = stages(model, golden["input"])
    return {name: distance(answers[name], golden[name]) for name in answers}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_and_the_logits_equal_the_release(package, kind, dtype):
    model, golden = released(package, kind, dtype)
    found = gaps(model, golden)
    assert len(found) == 5
    assert max(found.values()) <= TOLERANCE[dtype], found


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_published_ones(package, name):
    with torch.device("meta"):
        model = package.create_model(name)
    parameters = list(model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    counts = tuple(sum(p.numel() for p in part) for part in (parameters, trained))
    assert counts == COUNTS[name]
    depth = (
        4 if name.endswith("wide") else int(re.search(r"\d+", name.split("vit")[1])[0])
    )
    assert len(model.blocks) == depth


def test_a_larger_image_has_a_larger_frozen_table_only(package):
    with torch.device("meta"):
        model = package.create_model("t2t_vit_14", img_size=384)
    assert sum(p.numel() for p in model.parameters()) == 21_691_470
    trained = (p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(trained) == 21_465_806


@pytest.mark.parametrize(
    ("name", "tensors"), [("t2t_vit_14", 188), ("t2t_vit_t_14", 184)]
)
def test_the_number_of_tensors_is_the_release_s(package, name, tensors):
    with torch.device("meta"):
        assert len(package.create_model(name).state_dict()) == tensors


@pytest.mark.parametrize(
    ("side", "grids"),
    [
        (160, [40, 20, 10]),
        (192, [48, 24, 12]),
        (224, [56, 28, 14]),
        (240, [60, 30, 15]),
        (256, [64, 32, 16]),
        (384, [96, 48, 24]),
    ],
)
def test_the_sides_of_the_grids_are_the_release_s(package, side, grids):
    with torch.device("meta"):
        model = package.T2TViT(side, depth=1)
    assert model.tokens_to_token.grids[1:] == [(grid, grid) for grid in grids]
    assert model.grid_size == (grids[-1], grids[-1])
    assert model.pos_embed.shape == (1, grids[-1] ** 2 + 1, 384)


# The proof that these tests can fail


def queries_before_keys(model):
    for name in ("attention1", "attention2"):
        layer = getattr(model.tokens_to_token, name)
        for parameter in layer.kqv.parameters():
            k, q, v = parameter.data.chunk(3)
            parameter.data = torch.cat([q, k, v])


def rows_of_length_sqrt_e(model):
    for name in ("attention1", "attention2"):
        getattr(model.tokens_to_token, name).w.data *= 2**0.5


def scale_of_a_query(model):
    for name in ("attention1", "attention2"):
        getattr(model.tokens_to_token, name).attn.scale = 8**-0.5


def scale_of_the_whole_width(model):
    for block in model.blocks:
        block.attn.qkv.weight.data[:24] *= 0.5  # 4 heads: 24 ** -0.5, not 6 ** -0.5


MISTAKES = [
    ("performer", queries_before_keys),
    ("performer", rows_of_length_sqrt_e),
    ("performer", exchange_eps),
    ("transformer", scale_of_a_query),
    ("transformer", exchange_eps),
    ("transformer", scale_of_the_whole_width),
]


@pytest.mark.parametrize(("kind", "mistake"), MISTAKES)
def test_a_mistake_is_seen(package, kind, mistake):
    model, golden = released(package, kind)
    mistake(model)
    assert gaps(model, golden)["logits"] > 1e-6


def test_a_missing_epsilon_is_seen(package, monkeypatch):
    model, golden = released(package, "performer")
    home = sys.modules[type(model).__module__]

    def without_epsilon(q, k, v):
        weights = torch.einsum("b n f, b m f -> b n m", q, k)
        return weights / weights.sum(dim=-1, keepdim=True) @ v

    monkeypatch.setattr(home, "linear_attention", without_epsilon)
    assert gaps(model, golden)["logits"] > 1e-6
