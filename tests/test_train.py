"""The command `course-vit train` in one process: recipes, images, steps, folders."""

import json
import math
import re
import shutil
import signal
import sys
from collections import Counter
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torchvision.transforms import v2

import course_vit.kit.train as command
from course_vit.deit import DistillationLoss
from course_vit.kit import CourseError, cli, predict
from course_vit.kit.images import (
    Order,
    Prepared,
    as_shown,
    as_trained,
    batch_of,
    blend_of,
    find_images,
    loaders,
)
from course_vit.kit.processes import Disconnected, Place, joined
from course_vit.kit.recipes import RECIPES, Recipe, changed
from course_vit.kit.storage import LOCK
from course_vit.kit.train import (
    Step,
    averaged,
    find_teacher,
    keep_average,
    make_model,
    preparation,
    train,
)
from course_vit.kit.weights import WeightSet
from course_vit.training import evaluate, train_step

ALONE = Place(0, 1, torch.device("cpu"))
TINY = Recipe(epochs=3, batch=8, img_size=8, affine=1 / 16)
RANDOM = replace(  # everything that draws random numbers
    RECIPES["deit"], epochs=3, batch=8, img_size=8, affine=0.1, warmup=0.1
)


@pytest.fixture
def copied(digits, tmp_path):
    """A copy of that folder, which a test may change."""
    return shutil.copytree(digits, tmp_path / "digits")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Runs without a name belong to the test."""
    monkeypatch.chdir(tmp_path)


# Recipes


def test_the_recipe_of_deit_is_the_published_one():
    published = {
        "epochs": 300,
        "batch": 1024,
        "lr": 5e-4 * 1024 / 512,
        "weight_decay": 0.05,
        "smoothing": 0.1,
        "randaugment": 9,
        "mixup": 0.8,
        "cutmix": 1.0,
        "erasing": 0.25,
        "drop_path": 0.1,
        "ema": 0.99996,
    }
    recipe = asdict(RECIPES["deit"])
    assert {name: recipe[name] for name in published} == published
    assert recipe["warmup"] * recipe["epochs"] == pytest.approx(5)


def test_a_recipe_is_changed_by_name():
    got = changed(Recipe(), ["epochs=7", "lr=1e-4", "precision=bf16"])
    assert got == replace(Recipe(), epochs=7, lr=1e-4, precision="bf16")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch=3", r"'epoch=3' does not set.*NAME=VALUE.* epochs, batch, lr"),
        ("batch=many", "batch must be an integer, got 'many'"),
        ("batch=1.5", "batch must be an integer, got '1.5'"),
        ("lr=fast", "lr must be a number, got 'fast'"),
        ("lr=nan", "lr must be from 0 to inf, got nan"),
        ("batch=0", "batch must be from 1 to inf, got 0"),
        ("erasing=1.5", "erasing must be from 0 to 1, got 1.5"),
        ("precision=fp16", "precision must be fp32 or bf16, got 'fp16'"),
        ("distill", "distill must be hard or soft, got ''"),
    ],
)
def test_a_wrong_change_is_refused(text, message):
    with pytest.raises(CourseError, match=message):
        changed(Recipe(), [text])


# The order of images, for any number of processes


def order(images, batch, seed, rank=0, number=1):
    generator = torch.Generator().manual_seed(seed)
    return [*Order(images, batch, generator, rank, number)]


@given(
    images=some.integers(1, 60),
    each=some.integers(1, 5),
    number=some.sampled_from([1, 2, 4]),
    seed=some.integers(0, 1000),
)
def test_processes_share_the_batches_of_one(images, each, number, seed):
    batch = each * number
    alone = order(images, batch, seed)
    parts = [order(images, batch, seed, rank, number) for rank in range(number)]
    together = [[*chain(*rows)] for rows in zip(*parts, strict=True)]
    assert together == alone
    seen = [key % images for rows in alone for key in rows]
    assert len(set(seen)) == len(seen) == images // batch * batch
    assert {key // images for rows in alone for key in rows} <= {seed}


def test_every_epoch_has_an_order_of_its_own():
    orders = [[key % 50 for key in order(50, 50, seed)[0]] for seed in range(4)]
    assert len({tuple(numbers) for numbers in orders}) == 4
    assert all(sorted(numbers) == [*range(50)] for numbers in orders)


def test_the_loop_of_lesson_7_gives_each_epoch_its_order(digits):
    images, how, recipe = find_images(str(digits)), WeightSet("", img_size=8), TINY
    loader, _ = loaders(images, how, recipe)
    seen = []
    for seed in (0, 1, 0):
        loader.generator.manual_seed(seed)
        seen.append(torch.cat([images for images, _ in loader]))
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


# Random changes


def test_a_key_decides_how_an_image_changes(digits):
    images = find_images(str(digits))
    change = v2.Compose(as_trained(WeightSet("", img_size=8), RANDOM))
    data = Prepared(images.train, change)
    before = torch.get_rng_state()
    first = {key: data[key][1] for key in (3, 27, 51, 4)}  # 3, 27, 51 are one image
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    again = {key: data[key][1] for key in (4, 51, 3, 27)}
    for key, image in first.items():
        assert torch.equal(again[key], image)
    assert not torch.equal(first[3], first[27])
    assert not torch.equal(first[27], first[51])


@pytest.mark.parametrize("names", [["mixup"], ["cutmix"], ["mixup", "cutmix"]])
def test_pairs_are_blended_the_same_in_any_part_of_a_batch(names):
    rows = [(key, torch.rand(1, 6, 6), key % 3) for key in range(40, 48)]
    blend = blend_of(Recipe(**dict.fromkeys(names, 1.0)), 3)
    images, labels = batch_of(rows, blend)
    parts = [batch_of(rows[i : i + 4], blend) for i in (0, 4)]
    assert torch.equal(images, torch.cat([part for part, _ in parts]))
    assert torch.equal(labels, torch.cat([part for _, part in parts]))
    assert torch.allclose(labels.sum(1), torch.ones(8))
    assert len({float(row.max()) for row in labels}) > 2, "pairs draw their own share"
    for i in range(0, 8, 2):  # a pixel and the labels of a pair keep their sum
        whole = rows[i][1] + rows[i + 1][1]
        torch.testing.assert_close(images[i] + images[i + 1], whole)


def test_without_mixing_labels_stay_whole_numbers():
    assert blend_of(Recipe(), 3) is None
    _, labels = batch_of([(0, torch.rand(1, 6, 6), 2)])
    assert labels.tolist() == [2]


def test_images_are_judged_the_way_that_predict_shows_them():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    picture = Image.fromarray(pixels)
    how = WeightSet("", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), img_size=64)
    right = predict.as_images(predict.view(picture, how), how)[0]
    got = v2.Compose(as_shown(how))(picture).as_subclass(torch.Tensor)
    torch.testing.assert_close(got, right, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "image", [torch.rand(1, 1, 20000), Image.new("RGB", (1, 20000))]
)
def test_an_image_that_would_become_huge_is_named(image):
    with pytest.raises(predict.ImageError, match=r"too thin, .*: crop it"):
        v2.Compose(as_shown(WeightSet("", img_size=64)))(image)


def test_grey_images_get_the_channels_of_the_model():
    got = v2.Compose(as_shown(WeightSet("", img_size=16)))(torch.rand(1, 8, 8))
    assert got.shape == (3, 16, 16)


# Finding images


def test_a_folder_may_have_its_own_split_or_none(digits):
    split = find_images(str(digits))
    assert (len(split.train), len(split.val)) == (24, 12)
    assert split.class_names == ["none", "one", "two"]
    whole = find_images(str(digits / "train"), seed=3)
    labels = [label for _, label in whole.train], [label for _, label in whole.val]
    assert sorted(Counter(labels[0]).values()) == [6, 6, 7]
    assert set(labels[1]) == {0, 1, 2}
    paths = [
        {part.dataset.samples[i] for i in part.indices}
        for part in (whole.train, whole.val)
    ]
    assert not paths[0] & paths[1]


def test_hidden_folders_and_files_do_not_count(copied):
    (copied / "train" / ".ipynb_checkpoints").mkdir()
    (copied / "train" / "one" / "._0.png").write_bytes(b"of macOS")
    (copied / "train" / "one" / "notes.txt").write_text("mine")
    assert len(find_images(str(copied)).train) == 24


def remove(path):
    shutil.rmtree(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: remove(root), "is neither a folder nor one of digits, mnist"),
        (lambda root: remove(root / "val"), "has train/ only: put images"),
        (lambda root: remove(root / "val" / "two"), "same classes.* only one has two"),
        (lambda root: (root / "val" / "six").mkdir(), "needs an image.*PNG.*six"),
        (
            lambda root: [remove(root / "train" / name) for name in ("one", "two")],
            r"at least two of them, got \['none'\]",
        ),
        (
            lambda root: (
                [it.unlink() for it in root.glob("train/one/[1-7].png")]
                + [it.write_bytes(b"") for it in root.glob("train/one/0.png")]
            ),
            "of 29 images, 1 cannot be read",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(copied, spoil, message):
    spoil(copied)
    with pytest.raises(CourseError, match=re.compile(message, re.DOTALL)):
        find_images(str(copied))


def test_a_broken_image_is_named_or_left_out(copied):
    broken = [copied / "train" / "one" / "3.png", copied / "val" / "two" / "9.png"]
    broken[0].write_bytes(broken[0].read_bytes()[:60])
    broken[1].write_text("not an image")
    with pytest.raises(CourseError, match="of 36 images, 2 cannot be read") as error:
        find_images(str(copied))
    for path in broken:
        assert f"{path}: " in str(error.value)
    assert "--skip-broken" in str(error.value)
    left = find_images(str(copied), skip_broken=True)
    assert (len(left.train), len(left.val), left.skipped) == (23, 11, 2)
    assert str(broken[0]) not in dict(left.train.samples)


def test_a_class_of_broken_images_is_refused(copied):
    for path in (copied / "train" / "one").iterdir():
        path.write_bytes(b"")
    with pytest.raises(CourseError, match=r"every image of one in .*train is broken"):
        find_images(str(copied), skip_broken=True)


def test_too_few_images_to_hold_out(copied):
    for path in (copied / "train" / "one").glob("[1-7].png"):
        path.unlink()
    with pytest.raises(CourseError, match="too small to hold out a fifth"):
        find_images(str(copied / "train"))


def test_a_data_set_that_was_not_downloaded():
    with pytest.raises(CourseError, match="there is no mnist in"):
        find_images("mnist")


@pytest.mark.parametrize(
    ("recipe", "number", "message"),
    [
        (Recipe(batch=9), 2, "--batch 9 cannot .* multiple of 2, such as 8 or 10"),
        (Recipe(batch=4, accumulate=4), 2, "multiple of 8, such as 8$"),
        (Recipe(batch=6, mixup=1.0), 2, "and pairs of images need a multiple of 4"),
        (Recipe(batch=32), 1, "24 images for training, fewer .* --batch to 24 or less"),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused(digits, recipe, number, message):
    with pytest.raises(CourseError, match=message):
        loaders(find_images(str(digits)), WeightSet(""), recipe, 0, number)


# One step


def step_parts(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 3))
    images, labels = torch.rand(8, 1, 4, 4), torch.randint(0, 3, (8,))
    return model, torch.optim.SGD(model.parameters(), lr=1.0), images, labels


def squared(images, outputs, labels):
    return (outputs - nn.functional.one_hot(labels, 3)).square().mean()


@pytest.mark.parametrize("pieces", [1, 2, 8])
def test_pieces_of_a_batch_make_the_step_of_the_whole(pieces):
    results = []
    for step in (train_step, Step(ALONE, pieces)):
        model, optimizer, images, labels = step_parts()
        cost = step(model, optimizer, images, labels, squared, 0.1)
        results.append([torch.tensor(cost), *model.state_dict().values()])
    for got, right in zip(*results, strict=True):
        torch.testing.assert_close(got, right)


def test_a_step_that_is_not_finite_changes_nothing():
    model, optimizer, images, labels = step_parts()
    before = [p.clone() for p in model.parameters()]
    step = Step(ALONE)
    cost = step(model, optimizer, images * math.inf, labels, squared, 1.0)
    assert math.isnan(cost)
    assert all(map(torch.equal, before, model.parameters()))


def test_bf16_rounds_the_matrix_products():
    costs = []
    for precision in ("fp32", "bf16"):
        model, optimizer, images, labels = step_parts()
        step = Step(ALONE, precision=precision)
        costs.append(step(model, optimizer, images, labels, squared, 1.0))
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert costs[0] != costs[1]
    assert costs[0] == pytest.approx(costs[1], rel=0.02)


def test_each_process_draws_its_own_masks():
    masks = []
    for rank in range(3):
        model, optimizer, images, labels = step_parts()
        dropping = nn.Sequential(nn.Dropout(0.5), model)
        dropping[0].register_forward_hook(lambda _, given, out: masks.append(out != 0))
        step = Step(Place(rank, 1, ALONE.device))
        step(dropping, optimizer, images, labels, squared, 1.0)
    assert len({str(mask) for mask in masks}) == 3


# Averaged weights


def test_averages_equal_a_loop():
    model, _, images, labels = step_parts()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    keep_average(optimizer, 0.4)
    by_loop = None
    for n in range(1, 7):
        Step(ALONE)(model, optimizer, images, labels, squared, 1.0)
        weight = model[1].weight.detach().double()
        d = min(0.4, (1 + n) / (10 + n))
        by_loop = weight.clone() if n == 1 else d * by_loop + (1 - d) * weight
    last = model[1].weight.detach().clone()
    with averaged(optimizer):
        torch.testing.assert_close(model[1].weight.double(), by_loop, atol=1e-6, rtol=0)
        assert not torch.equal(model[1].weight, last)
    assert torch.equal(model[1].weight, last)


def test_without_averages_the_weights_are_the_last():
    model, optimizer, images, labels = step_parts()
    Step(ALONE)(model, optimizer, images, labels, squared, 1.0)
    last = model[1].weight.detach().clone()
    with averaged(optimizer):
        assert torch.equal(model[1].weight, last)


# A teacher


def test_a_teacher_sees_the_images_in_its_own_way(digits, tmp_path):
    train("digits_vit", str(digits), replace(TINY, img_size=16), tmp_path / "teacher")
    model, theirs = command.load_trained(tmp_path / "teacher")
    pixels = torch.rand(2, 3, 8, 8)
    ours = WeightSet("", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), img_size=8)
    images = v2.functional.normalize(pixels, list(ours.mean), list(ours.std))
    larger = nn.functional.interpolate(pixels, (16, 16), mode="bilinear")
    with torch.no_grad():
        right = model.eval()(larger)  # its mean is 0, and its standard deviation 1
        got = find_teacher(str(tmp_path / "teacher"), ours, 3, ALONE.device)(images)
    assert theirs.img_size == 16
    torch.testing.assert_close(got, right)


def test_a_teacher_may_have_published_weights(monkeypatch):
    how = WeightSet("", img_size=8, classes=3)
    model = make_model("digits_vit", how, 3)
    loaded = {"vit_tiny_patch16_224": (model, how)}
    monkeypatch.setattr(command, "load", loaded.__getitem__)
    images = torch.rand(2, 3, 8, 8)
    got = find_teacher("vit_tiny_patch16_224", how, 3, ALONE.device)(images)
    torch.testing.assert_close(got, model(images))


@pytest.mark.parametrize(("kind", "alpha"), [("hard", 0.5), ("soft", 0.1)])
def test_distillation_is_the_loss_of_lesson_9(digits, tmp_path, kind, alpha):
    train("digits_vit", str(digits), TINY, tmp_path / "teacher")
    recipe = replace(TINY, distill=kind, epochs=1)
    images = find_images(str(digits))
    how = preparation("digits_deit", images, 8)
    name = str(tmp_path / "teacher" / "model.safetensors")
    run, _ = command.make_run("digits_deit", images, how, recipe, ALONE, name)
    teacher = command.load_trained(tmp_path / "teacher")[0]
    batch, labels = next(iter(run.loader))
    right = DistillationLoss(teacher, kind, alpha, smoothing=recipe.smoothing)
    outputs = run.model(batch)
    torch.testing.assert_close(
        run.loss(batch, outputs, labels), right(batch, outputs, labels)
    )
    history = train("digits_deit", str(digits), recipe, teacher=name)
    assert history[0]["loss"] > 0


def test_a_teacher_that_does_not_fit_is_refused(digits, tmp_path):
    folder = str(digits)
    with pytest.raises(CourseError, match="a distilled model needs a --teacher"):
        train("digits_deit", folder, TINY)
    with pytest.raises(CourseError, match="only a distilled model can learn"):
        train("digits_vit", folder, TINY, teacher="me")
    with pytest.raises(CourseError, match="there is no teacher 'me'"):
        train("digits_deit", folder, TINY, teacher="me")
    train("digits_vit", "digits", replace(TINY, epochs=1, batch=512), tmp_path / "ten")
    with pytest.raises(
        CourseError, match="ten knows 10 classes, but the images have 3"
    ):
        train("digits_deit", folder, TINY, teacher=str(tmp_path / "ten"))
    (tmp_path / "ten" / "model.safetensors").write_bytes(b"")
    with pytest.raises(CourseError, match="ten holds no trained model: "):
        train("digits_deit", folder, TINY, teacher=str(tmp_path / "ten"))


# A run and its folder


def test_a_run_leaves_its_log_its_weights_and_what_belongs_to_them(digits, capsys):
    history = train("digits_vit", str(digits), TINY)
    said = capsys.readouterr().out
    assert "24 images for training, 12 for validation" in said
    assert "global batch 8 = 8 (images at once) x 1 (processes) x 1 (pieces)" in said
    assert "highest learning rate 0.002" in said
    folder = next(path for path in command.Path("runs").iterdir())
    assert folder.name == f"digits_vit-{digits.name}"
    names = {path.name for path in folder.iterdir()} - {LOCK}
    assert names == {"run.pth", "settings.json", "log.csv"} | {
        "model.safetensors",
        "config.json",
    }
    head, *rows = (folder / "log.csv").read_text().splitlines()
    assert head == "epoch,loss,val_loss,val_accuracy"
    records = [
        dict(zip(head.split(","), map(float, row.split(",")), strict=True))
        for row in rows
    ]
    assert records == history
    assert len(history) == 3
    assert f"load_trained('{folder}') in Python" in said


def test_a_run_learns(digits):
    recipe = replace(TINY, epochs=30, lr=5e-3, ema=0.9)
    history = train("digits_vit", str(digits), recipe)
    assert history[-1]["val_accuracy"] > 0.8


def test_what_is_judged_and_saved_is_the_average(digits, tmp_path):
    recipe = replace(TINY, ema=0.9)
    history = train("digits_vit", str(digits), recipe, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "run.pth", weights_only=True)
    saved = load_file(tmp_path / "run" / "model.safetensors")
    averages = [it["average"] for it in state["optimizer"]["state"].values()]
    assert len(averages) == len(saved)
    for tensor in saved.values():
        assert any(torch.equal(tensor, it) for it in averages)
    assert not torch.equal(saved["head.weight"], state["model"]["head.weight"])
    model, how = command.load_trained(tmp_path / "run")
    _, val_loader = loaders(find_images(str(digits)), how, TINY)
    scores = {f"val_{name}": it for name, it in evaluate(model, val_loader).items()}
    assert scores.items() <= history[-1].items()


def stopping_at(monkeypatch, count):
    """Press Ctrl-C in a certain call of the step."""
    calls, call = [], Step.__call__

    def step(self, *given):
        calls.append(1)
        if len(calls) == count:
            raise KeyboardInterrupt
        return call(self, *given)

    monkeypatch.setattr(Step, "__call__", step)


def test_a_run_that_was_stopped_continues_to_the_same_weights(
    digits, tmp_path, monkeypatch, capsys
):
    def weights(name):
        train("digits_vit", str(digits), RANDOM, tmp_path / name)
        return load_file(tmp_path / name / "model.safetensors")

    at_once = weights("at once")
    with monkeypatch.context() as patch:
        stopping_at(patch, 5)
        with pytest.raises(KeyboardInterrupt, match=r"continues the run in .*stopped"):
            weights("stopped")
    capsys.readouterr()
    continued = weights("stopped")
    assert "; 1 are done" in capsys.readouterr().out
    for name, tensor in at_once.items():
        assert torch.equal(tensor, continued[name]), name
    logs = [
        (tmp_path / name / "log.csv").read_text() for name in ("at once", "stopped")
    ]
    assert logs[0] == logs[1]


def test_a_finished_run_is_only_published_again(digits, tmp_path):
    history = train("digits_vit", str(digits), TINY, tmp_path / "run")
    before = (tmp_path / "run" / "run.pth").read_bytes()
    (tmp_path / "run" / "log.csv").unlink()  # as if killed before it was written
    assert train("digits_vit", str(digits), TINY, tmp_path / "run") == history
    assert (tmp_path / "run" / "run.pth").read_bytes() == before
    assert (tmp_path / "run" / "log.csv").exists()


def test_a_folder_with_other_files_is_not_touched(digits, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.pth").write_text("mine")
    with pytest.raises(CourseError, match="mine holds other files"):
        train("digits_vit", str(digits), TINY, tmp_path / "mine")
    assert [it.name for it in (tmp_path / "mine").iterdir()] == ["run.pth"]


@pytest.mark.parametrize(
    ("model", "recipe", "message"),
    [
        ("digits_vit", replace(TINY, lr=0.5), "a run with lr 0.002, got 0.5"),
        ("digits_vit", replace(TINY, epochs=9), "a run with epochs 3, got 9"),
        ("digits_vit_2", TINY, "a run with model digits_vit, got digits_vit_2"),
    ],
)
def test_a_different_run_does_not_continue(
    digits, tmp_path, model, recipe, message, monkeypatch
):
    models = {"digits_vit_2": command.LESSON_MODELS["digits_vit"]}
    monkeypatch.setattr(command, "LESSON_MODELS", command.LESSON_MODELS | models)
    train("digits_vit", str(digits), TINY, tmp_path / "run")
    with pytest.raises(CourseError, match=message):
        train(model, str(digits), recipe, tmp_path / "run")


def test_a_different_number_of_processes_needs_consent(digits, tmp_path):
    history = train("digits_vit", str(digits), TINY, tmp_path / "run")
    settings = tmp_path / "run" / "settings.json"
    settings.write_text(
        settings.read_text().replace('"processes": 1', '"processes": 2')
    )
    with pytest.raises(
        CourseError, match=r"processes 2, got 1.*or add --resume-anyway"
    ):
        train("digits_vit", str(digits), TINY, tmp_path / "run")
    again = train("digits_vit", str(digits), TINY, tmp_path / "run", resume_anyway=True)
    assert again == history
    assert json.loads(settings.read_text())["processes"] == 1


def test_a_second_run_in_the_same_folder_is_refused(digits, tmp_path):
    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run" / LOCK),
        pytest.raises(
            CourseError,
            match=r"another process has been changing .*run: wait for it, or",
        ),
    ):
        train("digits_vit", str(digits), TINY, tmp_path / "run")


def test_a_damaged_file_is_named(digits, tmp_path):
    train("digits_vit", str(digits), TINY, tmp_path / "run")
    for name, what in {"run.pth": "is damaged", "settings.json": "be read"}.items():
        (tmp_path / "run" / name).write_bytes(b"[]")
        with pytest.raises(CourseError, match=f"{name} .*{what}"):
            train("digits_vit", str(digits), TINY, tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_run(digits):
    recipe = replace(TINY, lr=1e30, clip_norm=math.inf)
    with pytest.raises(CourseError, match="the loss or its gradient is nan"):
        train("digits_vit", str(digits), recipe)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("vit_huge", {}, "there is no model 'vit_huge': choose one of digits_vit,"),
        ("digits_vit", {"recipe": replace(TINY, img_size=9)}, "9"),
        ("vit_tiny_patch16_224", {"recipe": TINY}, "8"),
        ("digits_vit", {"device": "abacus"}, "there is no device 'abacus'"),
        ("digits_vit", {"shard": True}, "--shard needs torchrun"),
    ],
)
def test_what_cannot_be_trained_is_refused(digits, model, options, message):
    with pytest.raises(CourseError, match=message):
        train(model, str(digits), **{"recipe": TINY} | options)


def test_other_programs_read_the_weights(digits, tmp_path):
    recipe = replace(TINY, epochs=1, img_size=32, batch=24)
    train("vit_tiny_patch16_224", str(digits), recipe, tmp_path / "run")
    model, how = predict.load("vit_tiny_patch16_224", str(tmp_path / "run"))
    assert (how.img_size, how.classes, how.mean) == (32, 3, (0.5, 0.5, 0.5))
    assert predict.class_names(how) == ["none", "one", "two"]
    images = torch.rand(2, 3, 32, 32)
    theirs = timm.create_model(
        f"local-dir:{tmp_path / 'run'}", pretrained=True, img_size=32
    ).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(images), theirs(images))


def test_tensorboard_gets_each_epoch(digits, monkeypatch):
    events = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            self.first = purge_step

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def add_scalar(self, name, value, epoch):
            assert epoch == self.first
            events.append((name, epoch))

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    train("digits_vit", str(digits), replace(TINY, epochs=2))
    names = ("epoch", "loss", "val_loss", "val_accuracy")
    assert events == [(name, epoch) for epoch in (1, 2) for name in names]


# The processes


def test_a_process_alone_joins_nothing():
    with joined("cpu") as place:
        assert place == ALONE


def lose_connection():
    raise RuntimeError("[gloo] Connection closed by peer")


def receive_signal():
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("end", [lose_connection, receive_signal])
def test_the_end_of_a_different_process_is_said(end, monkeypatch, tmp_path):
    torch_distributed = command.mean_of_all.__globals__["dist"]
    monkeypatch.setattr(torch_distributed, "is_torchelastic_launched", lambda: True)
    address = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    address |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    for name, value in address.items():
        monkeypatch.setenv(name, value)
    store = torch_distributed.FileStore(str(tmp_path / "store"), 1)
    start = partial(torch_distributed.init_process_group, store=store)
    start = partial(start, rank=0, world_size=1)
    monkeypatch.setattr(torch_distributed, "init_process_group", start)
    with (
        pytest.raises(Disconnected, match="process 0 of 1 ends, because"),
        joined("cpu"),
    ):
        end()
    torch_distributed.destroy_process_group()


# The command


def test_the_command_trains(digits, capsys):
    arguments = ["train", "digits_vit", str(digits), "--epochs=1", "--batch=8"]
    arguments += ["--lr=1e-3", "--set=img_size=8", "--output=out"]
    assert cli.main(arguments) == 0
    said = capsys.readouterr()
    assert re.search(r"epoch +1: loss \d\.\d{4}, validation .* images/s", said.out)
    assert said.err == ""


def test_the_command_has_at_most_twelve_options(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    said = capsys.readouterr().out
    options = set(re.findall(r"^  (--[a-z-]+)", said, re.M))
    assert len(options) <= 12
    for name in asdict(Recipe()):
        assert name in said


def test_the_command_says_what_is_wrong(capsys):
    assert cli.main(["train", "digits_vit", "nowhere"]) == 1
    assert "'nowhere' is neither a folder nor" in capsys.readouterr().err
    assert cli.main(["train", "digits_vit", "digits", "--batch=x"]) == 1
    assert "batch must be an integer" in capsys.readouterr().err


def test_ctrl_c_says_how_to_continue(digits, monkeypatch, capsys):
    stopping_at(monkeypatch, 2)
    arguments = ["train", "digits_vit", str(digits), "--batch=8", "--set=img_size=8"]
    assert cli.main(arguments) == 130
    assert "the same command continues the run in runs" in capsys.readouterr().err
