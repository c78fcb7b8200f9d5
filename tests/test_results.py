"""Stored runs: small, complete, and made by the command that claims to make them."""

from concurrent.futures import Future

import pytest
import torch
from torch import nn

from course_vit.deit import NO_LABEL
from course_vit.kit import results
from course_vit.kit.data import digit_images, load_data
from course_vit.kit.results import __main__ as command
from course_vit.kit.results import (
    by_images,
    lead,
    lesson_07,
    lesson_10,
    small_cnn,
    stored,
    stored_model,
)
from course_vit.kit.results.__main__ import RUNS
from course_vit.kit.results.lesson_07 import vit
from course_vit.kit.results.lesson_10 import ROWS, TASKS, few_digits, learn
from course_vit.training import evaluate
from course_vit.vision_transformer import VisionTransformer


@pytest.mark.parametrize("name", RUNS)
def test_a_stored_run_has_a_result_for_every_training(name):
    rows: dict[str, int] = {}
    for row, *_ in RUNS[name]():
        rows[row] = rows.get(row, 0) + 1
    table = stored(name)
    assert {row: len(cell["accuracy"]) for row, cell in table.items()} == rows
    assert all(0 <= a <= 100 for cell in table.values() for a in cell["accuracy"])


def table(name):
    """The accuracies of a stored run: row, number of images, seeds."""
    return {row: by_images(found) for row, found in stored(name).items()}


def test_what_lesson_14_says_of_depth_holds_for_what_is_stored():
    mean = {row: sum(it["accuracy"]) / 5 for row, it in stored("deep_narrow").items()}
    assert min(mean["3"], mean["12"]) > mean["1"] + 1
    assert abs(mean["3"] - mean["12"]) < 1


def test_what_lesson_14_says_of_the_digits_holds_for_what_is_stored():
    few = table("few_images")
    leads = {
        name: [lead(scores, few["ViT"][n]) for n, scores in few[name].items()]
        for name in ("small CNN", "T2T", "DeiT, hard", "DeiT, soft")
    }
    assert all(mean > half for mean, half in leads["small CNN"])
    assert all(mean > 0.5 for mean, _ in leads["T2T"])
    assert [mean > half for mean, half in leads["T2T"]] == [False, True, True]
    for taught in ("DeiT, hard", "DeiT, soft"):
        assert all(abs(mean) < half for mean, half in leads[taught])


def test_what_lesson_14_says_of_clutter_holds_for_what_is_stored():
    clutter, patient = table("in_clutter"), table("longer_in_clutter")
    for n, scores in clutter["T2T"].items():
        assert scores.mean() > clutter["ViT"][n].mean() + 15
        assert clutter["small CNN"][n].mean() > scores.mean()
    for name in ("ViT", "DeiT, soft"):
        assert all(scores.mean() < 16 for scores in clutter[name].values())
    assert 18 < patient["ViT"][16_000].mean() < 35
    assert patient["T2T"][16_000].min() > patient["ViT"][16_000].max() + 40


def test_three_shapes_of_lesson_14_weigh_the_same():
    shapes = [{}, lesson_10.SHALLOW, lesson_10.DEEP]
    for shape in shapes:
        with torch.device("meta"):
            model = VisionTransformer(8, 2, **lesson_10.SIZES | shape)
        assert abs(sum(p.numel() for p in model.parameters()) / 104_000 - 1) < 0.03


def test_stored_files_are_small():
    for path in results.FOLDER.iterdir():
        assert path.stat().st_size < 1_000_000, path.name


def test_a_run_that_is_not_stored_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"one of clinic, comparison, .*; got 'miracle'"
    ):
        stored("miracle")
    with pytest.raises(SystemExit, match=r"runs are comparison, .*; got miracle"):
        command.main(["miracle"])


def test_the_stored_runs_still_show_what_lesson_7_says_of_them():
    random, new, tables = (
        {row: sum(cell["accuracy"]) / 5 for row, cell in stored(name).items()}
        for name in ("comparison", "new_writers", "positions")
    )
    for scores in (random, new):
        assert max(scores, key=scores.get) == "small CNN"
    lost = {method: score - new[method] for method, score in random.items()}
    assert min(lost.values()) == lost["small CNN"] > 0
    assert min(random["larger ViT"], random["support vectors"]) > 99
    del tables["papers' start"]
    assert tables.pop("none") < 85
    assert min(tables, key=tables.get) == "sincos_2d"
    seeds = [stored("positions")[name]["accuracy"] for name in tables]
    between = max(tables.values()) - min(tables.values())
    assert between < sum(max(row) - min(row) for row in seeds) / 3 < 1.5


def test_the_stored_model_reads_digits():
    model = stored_model()
    assert not model.training
    assert evaluate(model, load_data(seed=0).test)["accuracy"] > 0.97


def test_a_training_gives_accuracy_seconds_and_curve():
    options = {"epochs": 2, "few_images": 128, "history": True}
    result = vit(**options, sizes={"depth": 1}, patch_size=4)
    assert set(result) == {"accuracy", "seconds", "history"}
    assert [record["epoch"] for record in result["history"]] == [1, 2]
    again = vit(**options, sizes={"depth": 1}, patch_size=4)
    assert again["history"] == result["history"], "a seed decides everything"
    fewer = vit(**options | {"few_images": 64}, sizes={"depth": 1}, patch_size=4)
    assert fewer["history"] != result["history"]


def test_every_training_passes_its_seed_on_to_fit(monkeypatch):
    """Otherwise five seeds would be five starts with the same shuffles and dropout."""
    seeds = []
    for module in (lesson_07, lesson_10):
        monkeypatch.setattr(
            module, "fit", lambda *_, seed=None, **options: seeds.append(seed) or []
        )
    vit(seed=3)
    lesson_07.cnn(seed=4, new_writers=False)
    learn(task="few digits", images=100, seed=5, **ROWS["DeiT, soft"])
    assert seeds == [3, 4, 5, 5], "the last one has a teacher, which is trained first"


def test_forgetting_eval_is_what_it_says():
    """With eval forgotten, dropout makes two evaluations differ."""
    options = {"epochs": 1, "few_images": 128, "history": True, "patch_size": 4}
    sizes = {"depth": 1, "drop_rate": 0.5}
    right, wrong = (
        vit(**options, sizes=sizes, forget_eval=forget)["history"][0]
        for forget in (False, True)
    )
    assert right["loss"] == wrong["loss"]
    assert right["val_loss"] != wrong["val_loss"]


def test_the_rival_is_smaller_than_the_transformer():
    assert small_cnn(3, 7)(torch.rand(2, 3, 8, 8)).shape == (2, 7)
    sizes = [
        sum(p.numel() for p in m.parameters()) for m in (small_cnn(), stored_model())
    ]
    assert sizes[0] < 0.6 * sizes[1]


class Pool:
    """Train at once; refuse functions that the real processes cannot find."""

    def submit(self, train, **settings):
        module = getattr(train, "func", train).__module__
        assert not module.endswith("__main__"), "`python -m` has another name for it"
        future = Future()
        future.set_result(train(**settings))
        return future


def test_the_digit_model_is_written(tmp_path, monkeypatch):
    """The real training, on few images and for one epoch."""

    def short(*, epochs, **settings):
        return vit(epochs=1, few_images=64, **settings)

    monkeypatch.setattr(command, "FOLDER", tmp_path)
    monkeypatch.setattr(lesson_07, "vit", short)
    command.make_digit_model(Pool())
    weights = torch.load(tmp_path / "digit_model.pt", weights_only=True)
    stored_model().load_state_dict(weights)


def test_a_table_is_written_whole(tmp_path, monkeypatch, capsys):
    """Rows as in the table, lists in the order of the seeds, progress in words."""

    def train(seed):
        return {"accuracy": 90.0 + seed, "seconds": 0.1}

    jobs = [
        ("one", train, {"seed": 0}),
        ("two", train, {"seed": 0}),
        ("one", train, {"seed": 1}),
    ]
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    monkeypatch.setitem(RUNS, "trial", lambda: iter(jobs))
    command.make("trial", Pool())
    assert stored("trial") == {
        "one": {"accuracy": [90.0, 91.0], "seconds": [0.1, 0.1]},
        "two": {"accuracy": [90.0], "seconds": [0.1]},
    }
    said = capsys.readouterr().out
    assert "trial 3/3, " in said
    assert "one: 91.0 %, 0.1 s" in said


def test_few_digits_keep_their_test_apart():
    train, test = few_digits(100, seed=0)
    more, same_test = few_digits(1000, seed=0)
    assert (len(train), len(more), len(test)) == (100, 1000, 797)
    assert torch.equal(test.tensors[0], same_test.tensors[0])
    assert torch.equal(more.tensors[0][:100], train.tensors[0])
    everything = torch.cat([more.tensors[0], test.tensors[0]]).flatten(1)
    images = digit_images()[0].flatten(1)
    assert sorted(everything.tolist()) == sorted(images.tolist())
    assert not torch.equal(few_digits(100, seed=1)[0].tensors[0], train.tensors[0])


def test_the_student_sees_more_images_than_have_labels(monkeypatch):
    """The teacher learns only from images with labels."""
    seen = []
    monkeypatch.setattr(
        lesson_10, "fit", lambda _, loader, *__, **___: seen.append(loader.dataset)
    )
    settings = ROWS["DeiT, hard"] | {"images": 100, "unlabelled": 900, "seed": 0}
    learn(task="few digits", **settings)
    teacher, student = seen
    assert (len(teacher), len(student)) == (100, 1000)
    for mine, theirs in zip(student.tensors, teacher.tensors, strict=True):
        assert torch.equal(mine[:100], theirs)
    assert (teacher.tensors[1] >= 0).all()
    assert (student.tensors[1][100:] == NO_LABEL).all()


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_lead_has_the_interval_of_students_t(seeds):
    from scipy.stats import ttest_1samp

    ours, theirs = torch.randn(2, seeds, dtype=torch.float64)
    mean, half = results.lead(ours, theirs)
    low, high = ttest_1samp(ours - theirs, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-3)


def test_a_teacher_of_unlabelled_images_is_worth_more_than_a_point():
    runs = {row: torch.tensor(t["accuracy"]) for row, t in stored("unlabelled").items()}
    mean, half = results.lead(runs["DeiT, teacher on 1,000"], runs["ViT"])
    assert mean - half > 1


@pytest.fixture
def one_thread():
    """As in the long runs: on small models, threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_trains_its_model_with_its_teacher(row, monkeypatch, one_thread):
    """A few steps: each asks the teacher that its name promises."""
    asked = []
    monkeypatch.setitem(TASKS, "few digits", TASKS["few digits"]._replace(steps=4))

    class Watched(lesson_10.DistillationLoss):
        def __init__(self, teacher, kind, **options):
            asked.append((teacher, kind))
            super().__init__(teacher, kind, **options)

    monkeypatch.setattr(lesson_10, "DistillationLoss", Watched)
    result = learn(task="few digits", images=100, seed=0, **ROWS[row])
    assert set(result) == {"images", "accuracy", "train", "seconds"}
    if "soft" in row or "hard" in row:
        assert {kind for _, kind in asked} == {row.split()[-1]}
        assert isinstance(asked[0][0], nn.Sequential), "the small CNN"
    elif "support" in row:
        images = digit_images()[0][:3]
        assert asked[0][0](images).sum(dim=-1).tolist() == [1, 1, 1]
    else:
        assert not asked


def test_a_seed_decides_a_training_on_clutter(monkeypatch, one_thread):
    monkeypatch.setitem(TASKS, "clutter", TASKS["clutter"]._replace(steps=4))
    settings = {"task": "clutter", "images": 100, "model": "ViT"}
    first, again, other = (learn(seed=seed, **settings) for seed in (0, 0, 1))
    assert first["train"] == again["train"]
    assert (first["train"], first["accuracy"]) != (other["train"], other["accuracy"])
