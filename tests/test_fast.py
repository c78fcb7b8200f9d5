"""The fastest way answers like the model; what cannot run is left out and named."""

import builtins
import itertools
import shutil
from functools import partial

import pytest
import torch
from torch import nn
from weights import answer, distance, drawn, with_weights

import course_vit
from course_vit.kit import fast
from course_vit.kit.fast import fastest

SIZES = {"num_classes": 10, "embed_dim": 24, "num_heads": 3, "depth": 1}
FAMILIES = {
    "ViT": partial(course_vit.VisionTransformer, 16, 8, **SIZES),
    "DeiT": partial(course_vit.DistilledVisionTransformer, 16, 8, **SIZES),
    "T2T": partial(course_vit.T2TViT, 16, token_dim=8, **SIZES),
}
EXACT = 2e-5  # of the standard deviation of the logits

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's and ONNX's own making


def model_of(family, seed=0):
    """A model with every weight drawn."""
    torch.manual_seed(seed)
    return with_weights(FAMILIES[family], drawn(FAMILIES[family], torch.float32))


def some_images(b):
    return torch.randn(b, 3, 16, 16)


@pytest.mark.parametrize("way", ["packed", "onnx"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_way_answers_like_the_model_for_any_batch(family, way):
    model = model_of(family)
    run = fast.WAYS[way](model_of(family), some_images(2))
    for b in (1, 2, 5):
        images = some_images(b)
        with torch.no_grad():
            assert distance(run(images), answer(model, images)) < EXACT


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a compiler")
def test_each_compiled_model_answers_with_its_own_weights():
    """Both have one shape, and torch keeps compiled graphs by their code."""
    images = some_images(2)
    for seed in (0, 1):
        model = model_of("ViT", seed)
        with torch.no_grad():
            run = fast.compiled(model_of("ViT", seed), images)
            for b in (2, 5):
                images = some_images(b)
                assert distance(run(images), answer(model, images)) < EXACT


def test_the_tanh_gelu_is_not_replaced_by_the_exact_one():
    model, images = model_of("ViT"), some_images(2)
    for block in model.blocks:
        block.mlp.act.approximate = "tanh"
    expected = answer(model, images)
    with torch.no_grad():
        assert distance(fast.packed(model, images)(images), expected) < EXACT


def test_the_model_itself_is_not_changed():
    model = model_of("ViT").train()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    quick = fastest(model, some_images(2), ["packed"])
    assert model.training
    assert not any(isinstance(m, fast.PackedLinear) for m in model.modules())
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert not quick(some_images(3)).requires_grad


def test_the_fastest_way_is_chosen_and_the_report_says_why(monkeypatch):
    times = {"as it is": [0.1, 0.3, 0.4], "packed": [9.0, 0.1, 0.1]}
    monkeypatch.setattr(fast, "time_in_turn", lambda runs: times)
    quick = fastest(model_of("ViT"), some_images(2), ["packed"])
    assert quick.way == "packed"
    assert "-> packed: 3.00 times as fast, logits differ by " in str(quick)
    times["packed"] = [0.6, 0.6, 0.6]
    quick = fastest(model_of("ViT"), some_images(2), ["packed"])
    assert quick.way == "as it is"
    assert "-> as it is: 1.00 times as fast" in str(quick)
    assert "   packed: 0.50 times as fast, logits differ by " in str(quick)


class Clock:
    """A clock that stands still until a function moves it."""

    now = 0.0

    def run(self, seconds):
        self.now += seconds

    def read(self):
        return self.now


def test_every_round_times_every_function_in_a_new_order_and_the_first_warms_up():
    clock, turns = Clock(), []

    def run(name):
        turns.append(name)
        clock.run(1 if len(turns) > 3 else 100)

    runs = {name: partial(run, name) for name in "abc"}
    times = fast.time_in_turn(runs, rounds=5, clock=clock.read)
    rounds = ["".join(turns[i : i + 3]) for i in range(0, len(turns), 3)]
    assert len(rounds) == 6
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len({*rounds}) > 2, "one function must not always follow the same other one"
    assert times == dict.fromkeys("abc", [1.0] * 5)


def test_a_short_function_is_repeated_in_its_turn_and_the_median_counts():
    clock = Clock()
    seconds = itertools.cycle([0.06, 0.01, 0.01, 0.03])  # the first call is slow
    runs = {"short": lambda: clock.run(next(seconds))}
    times = fast.time_in_turn(runs, rounds=2, at_least=0.1, clock=clock.read)
    assert times["short"] == pytest.approx([0.02, 0.02])


def test_bfloat16_is_used_only_if_the_tolerance_allows_it():
    model, images = model_of("ViT"), some_images(4)
    strict = fastest(model, images, ["bfloat16"])
    assert "bfloat16: not used, logits differ by " in str(strict)
    assert "not used" not in str(fastest(model, images, ["bfloat16"], tolerance=0.1))


def test_without_a_compiler_and_onnx_the_model_still_runs(monkeypatch):
    find = builtins.__import__

    def missing(name, *rest):
        if name == "onnxruntime":
            raise ModuleNotFoundError("No module named 'onnxruntime'")
        return find(name, *rest)

    def no_compiler(model, **options):
        raise RuntimeError("no C++ compiler was found\nand more")

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setattr(torch, "compile", no_compiler)
    model, images = model_of("ViT"), some_images(2)
    quick = fastest(model, images, ["compiled", "onnx"])
    assert quick.way == "as it is"
    assert "compiled: not used, no C++ compiler was found\n" in str(quick)
    assert "onnx: not used, No module named 'onnxruntime'" in str(quick)
    assert torch.equal(quick(images), answer(model, images))


def test_a_way_that_cannot_take_the_images_says_so():
    quick = fastest(model_of("ViT").double(), some_images(2).double(), ["packed"])
    assert "packed: not used, it needs float32 on a CPU" in str(quick)


def test_layers_that_torch_uses_in_its_own_way_stay():
    layer = nn.TransformerEncoderLayer(24, 3, 48, batch_first=True)
    quick = fastest(layer, torch.randn(2, 5, 24), ["packed"])
    assert "packed: " in str(quick)
    assert "not used" not in str(quick)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ways": ["quick"]}, "ways must be among packed, .*; got 'quick'"),
        ({"tolerance": 2}, "tolerance must be between 0 and 1, got 2"),
    ],
)
def test_a_wrong_argument_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        fastest(model_of("ViT"), some_images(2), **options)


def test_the_model_refuses_images_of_another_size():
    with pytest.raises(ValueError, match="expected images"):
        fastest(model_of("ViT"), torch.randn(2, 3, 8, 8), ["packed"])
