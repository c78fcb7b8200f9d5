"""Models by their published names."""

import re

import pytest
import torch


def test_every_listed_name_is_one_model(package):
    names = package.list_models()
    assert len(names) == len(set(names))
    with torch.device("meta"):
        for name in names:
            model = package.create_model(name)
            assert ("distilled" in name) == (model.num_prefix_tokens == 2)
            if name.startswith("t2t"):
                layer = model.tokens_to_token.attention1
                transformer = isinstance(layer, package.TokenTransformer)
                assert ("_t_" in name) == transformer
                continue
            ph, pw = model.patch_embed.patch_size
            height, width = model.patch_embed.img_size
            assert ph == pw
            assert height == width
            assert name.endswith(f"_patch{ph}_{height}")


def test_an_override_changes_that_argument_only(package):
    with torch.device("meta"):
        plain = package.create_model("vit_tiny_patch16_224").state_dict()
        other = package.create_model("vit_tiny_patch16_224", num_classes=7).state_dict()
    differ = {key for key in plain if plain[key].shape != other[key].shape}
    assert differ == {"head.weight", "head.bias"}
    assert other["head.weight"].shape == (7, 192)


def test_an_override_may_replace_a_published_size(package):
    with torch.device("meta"):
        model = package.create_model("vit_large_patch16_224", depth=2)
    assert len(model.blocks) == 2
    with torch.device("meta"):
        assert len(package.create_model("vit_large_patch16_224").blocks) == 24


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("vit_tiny_patch16", "vit_tiny_patch16_224, "),
        ("ViT-B/16", ""),
        ("vit_base_patch16_244", "vit_base_patch16_224, "),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest_ones(package, name, close):
    words = rf"there is no model '{name}' in list_models\(\): choose one of {close}"
    with pytest.raises(ValueError, match=words):
        package.create_model(name)


def test_a_name_that_is_close_to_none_is_refused_with_all(package):
    with pytest.raises(
        ValueError, match=f"choose one of {', '.join(package.list_models())}$"
    ):
        package.create_model("alexnet")


@pytest.mark.parametrize("name", [None, 3, ["vit_tiny_patch16_224"]])
def test_a_name_that_is_no_string_is_refused(package, name):
    words = rf"the name of a model must be a string, got {re.escape(repr(name))}$"
    with pytest.raises(TypeError, match=words):
        package.create_model(name)


def test_an_unknown_argument_is_refused_with_the_known_ones(package):
    words = "VisionTransformer has no argument image_size, dim, only img_size, .*,"
    with pytest.raises(TypeError, match=f"{words} norm_eps"):
        package.create_model("vit_tiny_patch16_224", image_size=32, dim=64)
