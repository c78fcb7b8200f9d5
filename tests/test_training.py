"""Lesson 7: steps, schedule, loop; a run that stops and goes on is one run."""

import itertools
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from course_vit.training import train_step as step_of_the_course


def small_model():
    """Its dropout makes every step depend on random numbers, also after a resume."""
    torch.manual_seed(1)
    layers = [nn.Flatten(), nn.Linear(16, 8), nn.LayerNorm(8), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Linear(8, 3))


def small_loader(count=22, seed=5):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 4, 4, generator=generator)
    labels = torch.randint(0, 3, (count,), generator=generator)
    data = TensorDataset(images, labels)
    return DataLoader(data, batch_size=8, shuffle=True, generator=generator)


class Wrapped(nn.Module):
    """A model whose outputs hold the logits, as those of transformers do."""

    def __init__(self, wrap=lambda logits: SimpleNamespace(logits=logits)):
        super().__init__()
        self.model, self.wrap = small_model(), wrap

    def forward(self, images):
        return self.wrap(self.model(images))


def two_images():
    return torch.rand(2, 1, 4, 4), torch.tensor([0, 1])


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# Losses and steps


def test_cross_entropy_equals_a_loop(package):
    outputs, labels = torch.randn(4, 5), torch.tensor([0, 4, 2, 2])
    by_loop = [
        -outputs[i].double().softmax(0)[label].log() for i, label in enumerate(labels)
    ]
    got = package.cross_entropy(torch.zeros(4, 1, 2, 2), outputs, labels)
    torch.testing.assert_close(got.double(), torch.stack(by_loop).mean())


def test_a_step_goes_downhill_and_returns_the_loss_before_it(package):
    model = small_model().eval()
    images, labels = torch.rand(8, 1, 4, 4), torch.randint(0, 3, (8,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = F.cross_entropy(model(images), labels).item()
    got = package.train_step(model, optimizer, images, labels)
    assert got == pytest.approx(before)
    assert F.cross_entropy(model(images), labels).item() < before


def test_a_step_calls_the_loss_with_images_outputs_and_labels(package):
    model, (images, labels) = small_model().eval(), two_images()
    seen = []

    def loss(*arguments):
        seen.extend(arguments)
        return arguments[1].sum()

    outputs = model(images).detach()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    package.train_step(model, optimizer, images, labels, loss)
    for got, right in zip(seen, (images, outputs, labels), strict=True):
        assert torch.equal(got, right)


def test_a_step_forgets_the_gradient_of_the_step_before(package):
    model, (images, labels) = small_model().eval(), two_images()
    optimizer, met = torch.optim.SGD(model.parameters(), lr=0.0), []
    optimizer.register_step_pre_hook(
        lambda *_: met.append(model[1].weight.grad.clone())
    )
    for _ in range(2):
        package.train_step(model, optimizer, images, labels, clip_norm=math.inf)
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    torch.testing.assert_close(met[1], model[1].weight.grad)


def test_a_long_gradient_is_shortened(package):
    model = small_model().eval()
    images, labels = 100 * torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])
    before = weights(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    package.train_step(model, optimizer, images, labels, clip_norm=0.01)
    assert (weights(model) - before).norm() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_no_step_is_taken_where_the_loss_or_its_gradient_is_not_finite(package, broken):
    model, (images, labels) = small_model(), two_images()

    def loss(images, outputs, labels):
        value = outputs.sum()
        return value * math.inf if broken == "loss" else (value - value).sqrt()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = weights(model)
    assert math.isnan(package.train_step(model, optimizer, images, labels, loss))
    assert torch.equal(weights(model), before)


def test_logits_are_taken_from_the_outputs_that_hold_them(package):
    loader = small_loader()
    for run in (package.evaluate, lambda *given: package.fit(*given, 1)):
        assert run(Wrapped(), loader) == run(small_model(), small_loader())
        with pytest.raises(TypeError, match=r"with .logits, got tuple"):
            run(Wrapped(wrap=lambda logits: (logits, None)), loader)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_labels_may_be_integers_of_any_width(package, dtype):
    images, labels = two_images()
    loaders = [(images, labels)], [(images, labels.to(dtype))]
    for run in (package.evaluate, lambda *given: package.fit(*given, 1)):
        first, again = (run(small_model(), loader) for loader in loaders)
        assert first == again


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.eye(3)[:2], r"labels \(2,\) of integers, got shape \(2, 3\) of torch.f"),
        (torch.tensor([[0], [1]]), r"got shape \(2, 1\) of torch.int64"),
        (torch.tensor([0.0, 1.0]), r"got shape \(2,\) of torch.float32.*labels.long"),
        (torch.tensor([0]), r"labels \(2,\) of integers, got shape \(1,\)"),
        (torch.tensor([0, 12]), "expected labels from 0 to 2, got 12"),
        (torch.tensor([-100, 0]), "expected labels from 0 to 2, got -100"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_a_step(package, labels, message):
    model, images = small_model(), torch.rand(2, 1, 4, 4)
    before = weights(model)
    for run in (package.evaluate, lambda *given: package.fit(*given, 1)):
        with pytest.raises(ValueError, match=message):
            run(model, [(images, labels)])
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize("clip_norm", [0, -1.0, math.nan, None])
def test_a_length_that_is_none_is_refused(package, clip_norm):
    model, (images, labels) = small_model(), two_images()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="clip_norm must be above 0, got"):
        step_of_the_course(model, optimizer, images, labels, clip_norm=clip_norm)
    with pytest.raises(ValueError, match="clip_norm must be above 0, got"):
        package.fit(model, [(images, labels)], 1, clip_norm=clip_norm)


# Start, schedule, optimizer, augmentation


def test_a_narrow_model_starts_with_xavier_and_wide_positions(package):
    model = package.VisionTransformer(8, 2, 1, 10, embed_dim=64, depth=2, num_heads=4)
    package.init_narrow(model, position_std=0.5)
    assert model.pos_embed.std().item() == pytest.approx(0.5, rel=0.1)
    for layer in (model.blocks[0].mlp.fc1, model.blocks[1].attn.qkv):
        right = math.sqrt(2 / sum(layer.weight.shape))
        assert layer.weight.std().item() == pytest.approx(right, rel=0.05)


@pytest.mark.parametrize("position", ["sincos_2d", "none"])
def test_a_fixed_table_stays_as_it_is(package, position):
    model = package.VisionTransformer(8, 2, 1, 10, 64, 1, 4, position=position)
    before = None if model.pos_embed is None else model.pos_embed.clone()
    package.init_narrow(model)
    assert before is None or torch.equal(model.pos_embed, before)


def test_the_rate_climbs_a_line_then_half_a_cosine(package):
    rates = [package.warmup_cosine(step, 100, 10) for step in range(101)]
    line = torch.tensor(rates[:11], dtype=torch.float64).diff()
    assert torch.allclose(line, line[:1]), "even steps up to the peak"
    assert max(rates) == rates[10] == 1.0
    for step, share in ((40, 0.75), (55, 0.5), (70, 0.25)):
        assert rates[step] == pytest.approx(share)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    assert min(rates[:100]) > 0


def test_without_warmup_the_rate_starts_at_its_peak(package):
    assert package.warmup_cosine(0, 10, 0) == 1.0
    assert package.warmup_cosine(0, 1, 1) == 0.5, "one step, all of it warm-up"


@pytest.mark.parametrize("step", [-1, 11, math.nan])
def test_a_step_outside_of_the_schedule_is_refused(package, step):
    with pytest.raises(ValueError, match=f"step must be between 0 and 10, got {step}"):
        package.warmup_cosine(step, 10, 2)
    with pytest.raises(ValueError, match="warmup_steps must be between 0 and 10"):
        package.warmup_cosine(0, 10, step)
    for steps in (0, math.inf):
        with pytest.raises(ValueError, match="num_steps must be a positive integer"):
            package.warmup_cosine(0, steps, 0)


def test_only_matrices_and_kernels_decay(package):
    model = package.VisionTransformer(8, 2, 1, 10, embed_dim=8, depth=1, num_heads=2)
    model.head.weight.requires_grad = False
    decaying, others = package.make_optimizer(model, 0.1, weight_decay=0.3).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert {names[id(p)] for p in decaying["params"]} == {
        "patch_embed.proj.weight",
        *(f"blocks.0.{layer}.weight" for layer in ("attn.qkv", "attn.proj")),
        *(f"blocks.0.{layer}.weight" for layer in ("mlp.fc1", "mlp.fc2")),
    }
    left = {names[id(p)] for p in others["params"]}
    assert {"cls_token", "pos_embed", "norm.weight", "head.bias"} <= left
    assert "head.weight" not in left, "frozen"


@pytest.mark.parametrize("number", [-1.0, math.nan, math.inf, "1", None])
def test_numbers_out_of_their_range_are_refused(package, number):
    images, labels = two_images()
    for name in ("shift", "degrees", "zoom"):
        with pytest.raises(ValueError, match=f"{name} must be between"):
            package.random_affine(images, **{name: number})
    for name in ("lr", "weight_decay", "warmup"):
        with pytest.raises(ValueError, match=f"{name} must be between"):
            package.fit(small_model(), [(images, labels)], 1, **{name: number})
    with pytest.raises(ValueError, match="smoothing must be between 0 and 1"):
        package.cross_entropy(images, torch.rand(2, 3), labels, smoothing=number)
    with pytest.raises(ValueError, match="position_std must be between"):
        package.init_narrow(small_model(), position_std=number)
    with pytest.raises(TypeError, match=r"got torch\.uint8; divide pixels"):
        package.random_affine(images.to(torch.uint8))


def test_a_model_with_nothing_to_train_is_refused(package):
    for model in (nn.Flatten(), small_model().requires_grad_(False)):
        with pytest.raises(ValueError, match="no parameter with requires_grad"):
            package.fit(model, small_loader(), 1)


def test_an_affine_map_of_no_strength_changes_nothing(package):
    images = torch.rand(3, 2, 6, 9)
    got = package.random_affine(images, 0, 0, 0)
    torch.testing.assert_close(got, images, atol=1e-5, rtol=0)


def test_affine_maps_stay_within_their_strength(package):
    """A spot on a large rectangle: where it goes tells shift, turn and zoom apart."""
    images = torch.zeros(200, 1, 41, 81)
    images[:, :, 20, 40] = 1.0  # the centre: only a shift moves it
    y, x = centres(package.random_affine(images, shift=3, degrees=0, zoom=0))
    assert 2.5 < (y - 20).abs().max() < 3.1
    assert 2.5 < (x - 40).abs().max() < 3.1

    images = torch.zeros(200, 1, 41, 81)
    images[:, :, 20, 60] = 1.0  # 20 pixels right of the centre
    y, x = centres(package.random_affine(images, shift=0, degrees=30, zoom=0))
    radius, angle = torch.hypot(y - 20, x - 40), torch.atan2(y - 20, x - 40).rad2deg()
    torch.testing.assert_close(radius, torch.full_like(radius, 20.0), atol=0.6, rtol=0)
    assert 27 < angle.abs().max() < 31

    y, x = centres(package.random_affine(images, shift=0, degrees=0, zoom=0.1))
    assert 1.5 < (x - 60).abs().max() < 2.6
    assert (y - 20).abs().max() < 0.1


def centres(images):
    """Centre of mass of each image."""
    mass = images.sum(dim=(1, 2, 3))
    rows = torch.arange(images.shape[2], dtype=torch.float32)[:, None]
    columns = torch.arange(images.shape[3], dtype=torch.float32)
    return ((images * place).sum(dim=(1, 2, 3)) / mass for place in (rows, columns))


def test_every_image_gets_its_own_affine_map_in_its_own_type(package):
    images = torch.rand(1, 1, 8, 8, dtype=torch.float64).repeat(4, 1, 1, 1)
    got = package.random_affine(images)
    assert got.dtype == torch.float64
    assert all(not torch.equal(got[0], other) for other in got[1:])


# Evaluation


def test_evaluate_is_the_mean_over_images_in_eval_mode(package):
    model, loader = small_model(), small_loader()
    for training in (True, False):
        model.train(training)
        got = package.evaluate(model, loader)
        assert model.training is training
    model.eval()
    images, labels = loader.dataset.tensors
    outputs = model(images).detach()
    loss = F.cross_entropy(outputs, labels).item()
    assert got["loss"] == pytest.approx(loss, rel=1e-5)
    right = (outputs.argmax(dim=1) == labels).float().mean()
    assert got["accuracy"] == pytest.approx(right.item())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("task", ["predict", "evaluate", "fit"])
def test_every_part_is_left_in_the_mode_it_was_in(package, task, training):
    """A part in eval mode stays there while the rest of its model is trained.

    A model that is in eval mode itself is trained as a whole.
    """
    model = small_model().train(training)
    model[2].requires_grad_(False).train(not training)
    before, seen = [module.training for module in model.modules()], []

    def run(loader):
        if task == "fit":
            return package.fit(model, loader, 1, val_loader=loader)
        return getattr(package, task)(model, loader)

    model[0].register_forward_hook(
        lambda *_: seen.append([module.training for module in model[1:]])
    )
    run([two_images()])
    everything, nothing = [True] * 4, [False] * 4
    in_training = [True, False, True, True] if training else everything
    assert seen == ([in_training, nothing] if task == "fit" else [nothing])
    assert [module.training for module in model.modules()] == before
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run([(torch.rand(2, 1, 5, 5), torch.tensor([0, 1]))])
    assert [module.training for module in model.modules()] == before


def test_a_train_method_of_a_module_is_told_of_both_modes(package):
    class Merging(nn.Flatten):
        """Like adapters that merge their weights into the others for eval mode."""

        def train(self, mode=True):
            self.merged = not mode
            return super().train(mode)

    model = nn.Sequential(Merging(), nn.Linear(16, 3)).train()
    with package.keep_modes(model):
        assert model.eval()[0].merged
    assert not model[0].merged


def test_predict_keeps_the_order_of_the_loader_and_no_graph(package):
    model, loader = small_model(), small_loader()
    batches = [(images, labels) for images, labels in loader]
    outputs, labels = package.predict(model, batches)
    assert outputs.shape == (22, 3)
    assert not outputs.requires_grad
    assert torch.equal(labels, torch.cat([labels for _, labels in batches]))


def test_predict_takes_a_generator_and_a_model_without_parameters(package):
    outputs, _ = package.predict(nn.Flatten(), iter([two_images()]))
    assert outputs.shape == (2, 16)


@pytest.mark.parametrize(
    ("loader", "error", "message"),
    [
        ([], ValueError, "batches must be a positive integer, got 0"),
        ([(torch.rand(0, 1, 4, 4), torch.rand(0))], ValueError, "batch_size must be"),
        ([{"pixel_values": 1}], TypeError, r"\(images, labels\), got {'pixel_values"),
        ([torch.rand(2, 1, 4, 4)], TypeError, r"pairs of tensors .* got tensor\("),
        ([(np.zeros((2, 1, 4, 4)), np.zeros(2))], TypeError, r"got \(array\("),
        ([(*two_images(), None)], TypeError, "pairs of tensors"),
    ],
)
def test_a_loader_of_something_else_is_refused(package, loader, error, message):
    for run in (package.evaluate, lambda *given: package.fit(*given, 1)):
        with pytest.raises(error, match=message):
            run(small_model(), loader)


# The loop


def test_fit_learns_and_keeps_a_record_of_each_epoch(package):
    loader = small_loader()
    history = package.fit(small_model(), loader, 30, lr=0.05, val_loader=loader)
    assert [record["epoch"] for record in history] == list(range(1, 31))
    assert set(history[0]) == {"epoch", "loss", "val_loss", "val_accuracy"}
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert set(package.fit(small_model(), loader, 1)[0]) == {"epoch", "loss"}


def test_fit_trains_in_train_mode_augments_and_shows_progress(package):
    model, loader, seen = small_model().eval(), small_loader(), []

    def augment(images):
        seen.append((model.training, len(images)))
        return images

    def progress(epochs):
        seen.append(list(epochs))
        return epochs

    package.fit(model, loader, 2, augment=augment, val_loader=loader, progress=progress)
    assert seen == [[0, 1], *[(True, 8), (True, 8), (True, 6)] * 2]


def test_fit_follows_the_schedule(package):
    rates = []

    class Watched(torch.optim.AdamW):
        def step(self):
            rates.append(self.param_groups[1]["lr"])
            super().step()

    original, torch.optim.AdamW = torch.optim.AdamW, Watched
    try:
        package.fit(small_model(), small_loader(), 4, lr=0.5, warmup=0.25)
    finally:
        torch.optim.AdamW = original
    right = [0.5 * package.warmup_cosine(step, 12, 3) for step in range(12)]
    assert rates == pytest.approx(right)


@pytest.mark.parametrize("number", [-1, 2.5, True, math.nan, "2"])
def test_fit_counts_epochs_and_seeds_in_integers(package, number):
    for epochs in (number, 0):
        with pytest.raises(ValueError, match="epochs must be a positive integer, got"):
            package.fit(small_model(), small_loader(), epochs)
    with pytest.raises(ValueError, match="seed must be 0 or a positive integer, got"):
        package.fit(small_model(), small_loader(), 1, seed=number)


class Stream(IterableDataset):
    """Images without a known number."""

    def __iter__(self):
        return iter([])


@pytest.mark.parametrize("name", ["loader", "val_loader"])
def test_a_training_needs_to_know_its_number_of_batches(package, name):
    for unknown in (iter([two_images()]), DataLoader(Stream())):
        loaders = {"loader": small_loader(), name: unknown}
        with pytest.raises(TypeError, match="a DataLoader of known length or a list"):
            package.fit(small_model(), epochs=1, **loaders)
    with pytest.raises(ValueError, match="batches must be a positive integer, got 0"):
        package.fit(small_model(), epochs=1, **{"loader": small_loader(), name: []})


def test_an_epoch_that_could_not_be_judged_is_not_recorded(package):
    run = package.Run(small_model(), small_loader(), 2, val_loader=[two_images()[0]])
    with pytest.raises(TypeError, match="pairs of tensors"):
        package.train_epoch(run)
    assert run.history == []


def test_fit_stops_where_the_loss_is_not_finite(package):
    calls = []

    def loss(images, outputs, labels):
        calls.append(1)
        return outputs.sum() * (math.nan if len(calls) == 5 else 1.0)

    with pytest.raises(FloatingPointError, match="epoch 2, step 5: try a lower lr"):
        package.fit(small_model(), small_loader(), 3, loss=loss)


def test_a_run_may_have_a_step_of_its_own(package):
    seen = []

    def step(model, optimizer, images, labels, loss, clip_norm):
        seen.append((len(images), len(labels), loss, clip_norm))
        return 2.0

    options = {"step": step, "clip_norm": 0.5}
    history = package.fit(small_model(), small_loader(), 1, **options)
    assert history == [{"epoch": 1, "loss": 2.0}]
    assert seen == [(size, size, package.cross_entropy, 0.5) for size in (8, 8, 6)]


# Seeds


def trained(package, loader=None, **options):
    """Weights and history of a run with dropout, shuffled batches and augmentation."""
    model = small_model()
    options = {"augment": package.random_affine, "lr": 0.01} | options
    history = package.fit(model, loader or small_loader(), 3, **options)
    return weights(model).tolist(), history


def test_a_seed_decides_a_run(package):
    first = trained(package)
    torch.manual_seed(77)  # the caller's random numbers do not matter
    assert trained(package) == first
    assert trained(package, small_loader(seed=5), seed=0) == first
    others = [trained(package, seed=seed)[1] for seed in (1, 2, 3)]
    assert all(history != first[1] for history in others)
    assert len({str(history) for history in others}) == 3


def test_every_epoch_draws_other_numbers_and_no_two_seeds_share_one(package):
    drawn = []

    def augment(images):
        drawn.append(torch.rand(()).item())
        return images

    for seed in (0, 1):
        loader = [two_images()]
        package.fit(small_model(), loader, 4, seed=seed, augment=augment)
    assert len(set(drawn)) == 8


def test_validation_does_not_change_the_training(package):
    weights_alone, _ = trained(package)
    assert trained(package, val_loader=small_loader())[0] == weights_alone


@pytest.mark.parametrize("scale", [1.0, math.nan], ids=["to its end", "with an error"])
def test_fit_gives_the_random_state_back(package, scale):
    loader = DataLoader(small_loader().dataset, batch_size=8, shuffle=True)
    model, before = small_model(), torch.get_rng_state()

    def loss(images, outputs, labels):
        return scale * outputs.sum()

    try:
        package.fit(model, loader, 2, loss=loss, val_loader=loader)
    except FloatingPointError:
        assert math.isnan(scale)
    assert torch.equal(torch.get_rng_state(), before)


# Checkpoints


class Noisy(TensorDataset):
    """Draws random numbers where its images are made, in a worker if there is one."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image + 0.1 * torch.randn(image.shape), label


LOADERS = {
    "with its own generator": small_loader,
    "without a generator": lambda: DataLoader(
        Noisy(*small_loader().dataset.tensors), batch_size=8, shuffle=True
    ),
    "with workers": lambda: DataLoader(
        Noisy(*small_loader().dataset.tensors),
        batch_size=8,
        shuffle=True,
        num_workers=2,
    ),
    "a list": lambda: [two_images_of(seed) for seed in range(3)],
}


def two_images_of(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 1, 4, 4, generator=generator), torch.tensor([0, 1])


def interrupted_after(package, epochs, **options):
    """The same run, stopped as by ctrl-C in the middle of the epoch that follows."""
    steps = []

    def augment(images):
        steps.append(1)
        if len(steps) == 3 * epochs + 2:
            raise KeyboardInterrupt
        return package.random_affine(images)

    with pytest.raises(KeyboardInterrupt):
        trained(package, augment=augment, **options)


@pytest.mark.parametrize("epochs", [0, 1, 2])
@pytest.mark.parametrize("kind", LOADERS)
def test_an_interrupted_run_continues_to_the_same_numbers(
    package, tmp_path, kind, epochs
):
    path = tmp_path / "new" / "run.pt"
    options = {"val_loader": list(small_loader()), "seed": 2}
    right = trained(package, LOADERS[kind](), **options)
    options["checkpoint"] = path
    interrupted_after(package, epochs, loader=LOADERS[kind](), **options)
    assert path.exists() is (epochs > 0)
    torch.manual_seed(77)  # a new process has drawn other numbers
    assert trained(package, LOADERS[kind](), **options) == right
    assert [p.name for p in path.parent.iterdir()] == ["run.pt"]


def test_a_checkpoint_holds_no_random_state(package, tmp_path):
    trained(package, checkpoint=tmp_path / "run.pt")
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    assert set(state) == {"identity", "history", "model", "optimizer"}


def one_go(package, **options):
    model, loader = small_model(), small_loader()
    history = package.fit(model, loader, 4, val_loader=loader, **options)
    return weights(model), history


def test_a_checkpoint_in_the_home_folder(package, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    one_go(package, checkpoint="~/runs/run.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert (tmp_path / "runs" / "run.pt").exists()


def test_a_finished_run_only_comes_back(package, tmp_path):
    path = tmp_path / "run.pt"
    right_weights, right_history = one_go(package, checkpoint=str(path))
    again_weights, again_history = one_go(package, checkpoint=path)
    assert torch.equal(again_weights, right_weights)
    assert again_history == right_history


def test_a_checkpoint_that_cannot_be_written_stops_the_run_at_once(package, tmp_path):
    (tmp_path / "file").touch()
    model = small_model()
    before = weights(model)
    with pytest.raises(OSError, match="file"):
        package.fit(model, small_loader(), 4, checkpoint=tmp_path / "file" / "run.pt")
    assert torch.equal(weights(model), before)


def test_a_checkpoint_is_replaced_in_one_move(package, tmp_path, monkeypatch):
    """A full disk or a pulled plug while writing leaves the old file."""
    path = tmp_path / "run.pt"
    interrupted_after(package, 1, checkpoint=path)
    before = path.read_bytes()

    def fails(state, file):
        file.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="no space"):
        trained(package, checkpoint=path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def compiled(model):
    return torch.compile(model, backend="eager")


KINDS = {
    "plain": lambda model: model,
    "compiled": compiled,
    "compiled in parts": lambda model: nn.Sequential(
        model[0], *map(compiled, model[1:])
    ),
    "parallel": nn.DataParallel,
}


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(KINDS, 2)))
def test_a_run_continues_with_and_without_a_wrapper(package, tmp_path, first, second):
    path = tmp_path / "run.pt"
    for kind, stop in ((first, 2), (second, 4)):
        model, loader = KINDS[kind](small_model()), small_loader()

        def until_the_stop(epochs, stop=stop):
            return [epoch for epoch in epochs if epoch < stop]

        package.fit(model, loader, 4, checkpoint=path, progress=until_the_stop)
    torch.testing.assert_close(weights(model), one_go(package)[0])
    assert set(torch.load(path)["model"]) == set(small_model().state_dict())


def test_a_run_with_numbers_of_numpy_continues(package, tmp_path):
    numbers = {"lr": np.float64(0.001), "seed": np.int64(0), "warmup": np.float32(0.5)}
    first, again = (
        one_go(package, checkpoint=tmp_path / "run.pt", **numbers) for _ in range(2)
    )
    assert first[1] == again[1]


def half_frozen():
    model = small_model()
    model[1].requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.5}, "continued with lr 0.001, got 0.5"),
        ({"epochs": 5}, "continued with epochs 4, got 5"),
        ({"weight_decay": 0.0}, "continued with weight_decay 0.05, got 0.0"),
        ({"clip_norm": 2.0}, "continued with clip_norm 1.0, got 2.0"),
        ({"warmup": 0.0}, "continued with warmup 0.1, got 0.0"),
        ({"seed": 1}, "continued with seed 0, got 1"),
        ({"loader": 12}, "continued with steps 12, got 8"),
        (
            {"model": nn.Sequential(nn.Flatten(), nn.Linear(16, 3))},
            r"continued with 1.weight \(8, 16\), got \(3, 16\)",
        ),
        (
            {"model": half_frozen()},
            "must be continued with trained parameters",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(package, tmp_path, change, message):
    path = tmp_path / "run.pt"
    one_go(package, checkpoint=path)
    change = dict(change)
    model = change.pop("model", None) or small_model()
    loader = small_loader(change.pop("loader", 22))
    with pytest.raises(ValueError, match=message):
        package.fit(model, loader, change.pop("epochs", 4), checkpoint=path, **change)


def refused(package, path, match, model=None):
    """The file is refused in the course's words, and the model stays as it was."""
    model = model or small_model()
    before = weights(model)
    with pytest.raises(ValueError, match=match):
        package.fit(model, small_loader(), 4, checkpoint=path)
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize("more", ["in the file", "in the model"])
def test_a_checkpoint_of_a_model_with_other_names_is_refused(package, tmp_path, more):
    path = tmp_path / "run.pt"
    small, large = (nn.Sequential(*small_model()[:n], nn.Flatten()) for n in (4, 5))
    saved, model = (large, small) if more == "in the file" else (small, large)
    package.fit(saved, small_loader(), 4, checkpoint=path)
    shapes = r"\(3, 8\), got None" if more == "in the file" else r"None, got \(3, 8\)"
    refused(package, path, f"must be continued with 4.weight {shapes}", model=model)


def test_a_new_run_may_start_from_the_weights_of_another(package, tmp_path):
    """The message about a finished run names the way, and the way can be gone."""
    path, model = tmp_path / "run.pt", small_model()
    one_go(package, checkpoint=path)
    with pytest.raises(ValueError, match="epochs 4, got 9") as refusal:
        package.fit(model, small_loader(), 9, checkpoint=path)
    (way,) = re.findall(r"model\.load_state_dict\(.*\)", str(refusal.value))
    exec(way, {"torch": torch, "model": model})
    assert torch.equal(weights(model), one_go(package)[0])


@pytest.mark.parametrize(
    "damage",
    {
        "empty": lambda whole: b"",
        "text": lambda whole: b"lr = 0.1\n",
        "cut": lambda whole: whole[:5000],
        "one byte short": lambda whole: whole[:-1],
        "zeros": lambda whole: bytes(len(whole)),
        "a lost sector": lambda whole: whole[:512] + bytes(512) + whole[1024:],
    }.items(),
    ids=lambda pair: pair[0],
)
def test_a_damaged_checkpoint_is_refused(package, tmp_path, damage):
    path = tmp_path / "run.pt"
    one_go(package, checkpoint=path)
    path.write_bytes(damage[1](path.read_bytes()))
    refused(package, path, "is damaged or was not written by fit")


@pytest.mark.parametrize("part", ["identity", "history", "model", "optimizer"])
@pytest.mark.parametrize("instead", [None, "text", [1]], ids=repr)
def test_a_checkpoint_without_one_of_its_parts_is_refused(
    package, tmp_path, part, instead
):
    path = tmp_path / "run.pt"
    one_go(package, checkpoint=path)
    state = torch.load(path, weights_only=True)
    state[part] = instead
    torch.save(state, path)
    refused(package, path, "is damaged or was not written by fit|must be continued")


def test_a_file_of_weights_is_no_checkpoint(package, tmp_path):
    torch.save(small_model().state_dict(), tmp_path / "weights.pt")
    refused(package, tmp_path / "weights.pt", "was not written by fit")


def test_a_checkpoint_cannot_run_code(package, tmp_path):
    class Harmful:
        def __reduce__(self):
            return (pytest.fail, ("code from the file was run",))

    torch.save({"identity": Harmful()}, tmp_path / "run.pt")
    refused(package, tmp_path / "run.pt", "was not written by fit")


@pytest.mark.gpu
def test_a_run_on_cuda_continues_to_the_same_numbers(package, tmp_path):
    """Its dropout draws from the generator of the device."""
    results = []
    for path in (None, tmp_path / "run.pt"):
        if path:
            stop = iter([False] * 7 + [True])

            def augment(images, stop=stop):
                if next(stop):
                    raise KeyboardInterrupt
                return images

            model = small_model().cuda()
            with pytest.raises(KeyboardInterrupt):
                package.fit(model, small_loader(), 4, checkpoint=path, augment=augment)
        model = small_model().cuda()
        torch.manual_seed(77)
        state = torch.cuda.get_rng_state()
        package.fit(model, small_loader(), 4, checkpoint=path)
        assert torch.equal(torch.cuda.get_rng_state(), state)
        results.append(weights(model).cpu())
    torch.testing.assert_close(*results)
