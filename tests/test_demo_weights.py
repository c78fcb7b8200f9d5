"""The packages read the files that lesson 11 publishes under their names."""

import pytest
import torch
from safetensors.torch import load_file
from weights import answer, distance, drawn, with_weights

from course_vit import VisionTransformer
from course_vit.kit import demo_weights

SIZES = {"patch_size": 4, "embed_dim": 48, "depth": 2, "num_heads": 3}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A model with every weight drawn, and its four files."""

    def build():
        return VisionTransformer(24, num_classes=10, **SIZES)

    state = drawn(build, torch.float32)
    folder = tmp_path_factory.mktemp("published")
    return with_weights(build, state), demo_weights.publish(state, 3, folder)


def of_timm(path):
    from timm.models import VisionTransformer

    model = VisionTransformer(24, num_classes=10, **SIZES)
    if path.suffix == ".npz":
        model.load_pretrained(str(path))
    else:
        model.load_state_dict(load_file(path))
    return model


def of_torchvision(path):
    from torchvision.models import VisionTransformer

    model = VisionTransformer(24, 4, 2, 3, 48, 192, num_classes=10)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


def of_transformers(path):
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"num_hidden_layers": 2, "num_attention_heads": 3, "hidden_size": 48}
    options = {"patch_size": 4, "intermediate_size": 192, "num_labels": 10}
    config = ViTConfig(image_size=24, layer_norm_eps=1e-6, **sizes, **options)
    path.rename(path.with_name("model.safetensors"))
    model, told = ViTForImageClassification.from_pretrained(
        path.parent, config=config, output_loading_info=True
    )
    assert not any(told.values()), told
    return model


PEERS = {
    "timm": of_timm,
    "jax": of_timm,
    "torchvision": of_torchvision,
    "transformers": of_transformers,
}


@pytest.mark.parametrize("naming", PEERS)
def test_a_package_reads_its_own_file(published, naming):
    ours, paths = published
    torch.manual_seed(1)
    images = torch.randn(2, 3, 24, 24)
    theirs = PEERS[naming](paths[naming]).eval()
    assert distance(answer(theirs, images), answer(ours, images)) <= 2e-5


def test_the_pictures_are_the_same_at_every_call_and_all_ten_kinds():
    for test in (False, True):
        images, labels = demo_weights.pictures(test)
        assert images.shape == (len(labels), 3, 48, 48)
        assert 0 <= images.min() < images.max() <= 1
        assert labels.unique().tolist() == list(range(len(demo_weights.CLASSES)))
        assert torch.equal(images, demo_weights.pictures(test)[0])
