"""Ready for use: exported, in ONNX Runtime, compiled, in bfloat16, each family alike.

Weights are drawn so that every part counts (tests/weights.py). Exports take batches of
any size; images are oblong, so that rows and columns cannot be exchanged.
"""

import copy
import shutil
from functools import partial

import pytest
import torch
from packaging.version import Version
from weights import answer, distance, drawn, with_weights

SIZES = {
    "img_size": (16, 24),
    "num_classes": 50,
    "embed_dim": 24,
    "num_heads": 3,
    "depth": 1,
}
VIT, DEIT = "VisionTransformer", "DistilledVisionTransformer"
FAMILIES = {
    "ViT": (VIT, {"patch_size": 8}),
    "ViT, mean": (VIT, {"patch_size": 8, "pool": "mean", "position": "sincos_2d"}),
    "DeiT": (DEIT, {"patch_size": 8}),
    "T2T performer": ("T2TViT", {"token_dim": 8}),
    "T2T transformer": ("T2TViT", {"token_dim": 8, "tokens": "transformer"}),
}
EXACT = 2e-5  # of the standard deviation of the logits

pytestmark = [
    pytest.mark.parametrize("family", FAMILIES),
    pytest.mark.filterwarnings("ignore"),  # of torch's and ONNX's own making
]


@pytest.fixture
def model(package, family):
    """A small model of the family in eval mode."""
    kind, options = FAMILIES[family]
    build = partial(getattr(package, kind), **SIZES, **options)
    return with_weights(build, drawn(build, torch.float32))


def some_images(b):
    return torch.randn(b, 3, 16, 24)


def exported(model):
    any_batch = ({0: torch.export.Dim("b")},)
    return torch.export.export(model, (some_images(2),), dynamic_shapes=any_batch)


def test_the_exported_model_answers_alike(model, tmp_path):
    torch.export.save(exported(model), tmp_path / "model.pt2")
    again = torch.export.load(tmp_path / "model.pt2").module()
    for b in (1, 2, 5):
        images = some_images(b)
        assert distance(answer(again, images), answer(model, images)) < EXACT


@pytest.mark.skipif(Version(torch.__version__) < Version("2.5"), reason="too old")
def test_onnx_runtime_answers_alike(model, family, tmp_path):
    import onnx
    import onnxruntime

    path = tmp_path / "model.onnx"
    options = {"input_names": ["images"], "output_names": ["logits"], "verbose": False}
    # onnxscript's optimizer takes the performer's eps, 1e-8, for 0 and leaves it out.
    options["optimize"] = family != "T2T performer"
    torch.onnx.export(exported(model), (), path, dynamo=True, **options)
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for b in (1, 2, 5):
        images = some_images(b)
        (logits,) = session.run(["logits"], {"images": images.cpu().numpy()})
        ours = answer(model, images).cpu()
        assert distance(torch.from_numpy(logits), ours) < EXACT


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a compiler")
def test_the_compiled_model_answers_alike(model):
    """In one graph, and with the backend that users get."""
    compiled = torch.compile(model, fullgraph=True)
    images = some_images(2)
    assert distance(answer(compiled, images), answer(model, images)) < EXACT


@pytest.mark.parametrize("way", ["converted", "autocast"])
def test_bfloat16_answers_nearly_alike(model, way):
    """8 bits hold two to three digits."""
    images = some_images(4)
    device = images.device.type
    if way == "converted":
        half = answer(copy.deepcopy(model).bfloat16(), images.bfloat16())
    else:
        with torch.autocast(device, torch.bfloat16):
            half = answer(model, images)
    assert half.dtype == torch.bfloat16
    assert 1e-4 < distance(half.float(), answer(model, images)) < 0.05
