"""The trainings behind lessons 9 and 10: other models, few images, the same budget."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from ...deit import NO_LABEL, DistillationLoss, DistilledVisionTransformer
from ...t2t import T2TViT
from ...training import cross_entropy, evaluate, fit, init_narrow, random_affine
from ...vision_transformer import VisionTransformer
from ..data import cluttered_digits, digit_images
from . import Job, small_cnn

SIZES: dict[str, Any] = {
    "in_chans": 1,
    "num_classes": 10,
    "embed_dim": 64,
    "depth": 3,
    "num_heads": 4,
    "mlp_ratio": 2.0,
}
SHALLOW = {"embed_dim": 112, "depth": 1}  # as many weights, within 3 %
DEEP = {"embed_dim": 32, "depth": 12}

Part = TensorDataset
Answers = Callable[[Tensor], Tensor]


class Task(NamedTuple):
    """A task: images for a number and a seed, the models, and how long they train."""

    split: Callable[[int, int], tuple[Part, Part]]
    models: dict[str, Callable[[], nn.Module]]
    steps: int
    batch_size: int
    lr: float
    augment: Callable[[Tensor], Tensor] | None


def few_digits(images: int, seed: int) -> tuple[Part, Part]:
    """Digits for training, and 797 for testing that no split of this seed trains on."""
    inputs, labels = digit_images()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    parts = order[:images], order[1000:]
    train, test = (Part(inputs[part], labels[part]) for part in parts)
    return train, test


def hide_labels(data: Part, labelled: int) -> Part:
    """The same images; only the first ones keep their labels."""
    images, labels = data.tensors
    known = torch.arange(len(labels)) < labelled
    return Part(images, labels.where(known, NO_LABEL))


def clutter(images: int, seed: int) -> tuple[Part, Part]:
    """Synthetic images for training, and 1,000 test images by other writers."""
    return cluttered_digits(images, seed), cluttered_digits(1000, seed, test=True)


TASKS = {
    "few digits": Task(
        few_digits,
        {
            "small CNN": small_cnn,
            "ViT": lambda: VisionTransformer(8, 2, **SIZES),
            "DeiT": lambda: DistilledVisionTransformer(8, 2, **SIZES),
            "T2T": lambda: T2TViT(8, splits=((3, 1, 1), (3, 2, 1)), **SIZES),
            "shallow": lambda: VisionTransformer(8, 2, **SIZES | SHALLOW),
            "deep": lambda: VisionTransformer(8, 2, **SIZES | DEEP),
        },
        steps=600,
        batch_size=50,
        lr=3e-3,
        augment=random_affine,
    ),
    "clutter": Task(
        clutter,
        {
            "small CNN": lambda: small_cnn(stride=2),
            "ViT": lambda: VisionTransformer(24, 4, **SIZES),
            "DeiT": lambda: DistilledVisionTransformer(24, 4, **SIZES),
            "T2T": lambda: T2TViT(24, splits=((5, 2, 2), (3, 2, 1)), **SIZES),
        },
        steps=1000,
        batch_size=50,
        lr=2e-3,
        augment=None,
    ),
}


# The training, a function of its settings


def support_vectors(data: Part) -> Answers:
    """A teacher without a network; its logits are 1 for the class that it predicts."""
    from sklearn.svm import SVC

    images, labels = data.tensors
    machine = SVC(C=10).fit(images.flatten(1), labels)

    def answer(images: Tensor) -> Tensor:
        named = torch.tensor(machine.predict(images.cpu().flatten(1)))
        return F.one_hot(named, 10).float().to(images.device)

    return answer


def on_labels(images: Tensor, outputs: Any, labels: Tensor) -> Tensor:
    """Smoothed cross entropy; for a pair of outputs, of each one, averaged."""
    each = outputs if isinstance(outputs, tuple) else (outputs,)
    losses = [cross_entropy(images, one, labels, smoothing=0.1) for one in each]
    return torch.stack(losses).mean()


def on_both(loss: DistillationLoss) -> Callable[[Tensor, Any, Tensor], Tensor]:
    """A model with one output learns from the labels and the teacher through it."""

    def taught(images: Tensor, outputs: Any, labels: Tensor) -> Tensor:
        pair = outputs if isinstance(outputs, tuple) else (outputs, outputs)
        return loss(images, pair, labels)

    return taught


def learn(
    *,
    task: str,
    model: str,
    images: int,
    seed: int,
    teacher: str | None = None,
    kind: str = "hard",
    longer: int = 1,
    unlabelled: int = 0,
) -> dict[str, Any]:
    """Train one model on images with labels and, if asked, on more without labels.

    Its teacher was trained on the labelled images, and answers for all of them.
    """
    how = TASKS[task]
    everything, test = how.split(images + unlabelled, seed)
    data, seen = Part(*everything[:images]), hide_labels(everything, images)

    def run(
        name: str, data: Part, loss: Callable = on_labels, longer: int = 1
    ) -> nn.Module:
        torch.manual_seed(seed)
        model = how.models[name]()
        is_cnn = isinstance(model, nn.Sequential)
        if not is_cnn:
            init_narrow(model)
        loader = DataLoader(data, how.batch_size, shuffle=True)
        epochs = round(longer * how.steps / len(loader))
        lr = 5e-3 if is_cnn else how.lr
        fit(model, loader, epochs, lr=lr, seed=seed, loss=loss, augment=how.augment)
        return model

    loss: Callable = on_labels
    if teacher:
        machine = teacher == "support vectors"
        asked = support_vectors(data) if machine else run(teacher, data)
        loss = on_both(DistillationLoss(asked, kind, smoothing=0.1))
    start = time.process_time()
    trained = run(model, seen, loss, longer)
    seconds = round(time.process_time() - start, 1)
    part = Part(*data[:1000])
    known, unseen = (
        round(100 * evaluate(trained, DataLoader(part, 500))["accuracy"], 2)
        for part in (part, test)
    )
    return {"images": images, "accuracy": unseen, "train": known, "seconds": seconds}


def machine(*, images: int, seed: int) -> dict[str, Any]:
    """A support vector machine on few digits, for comparison."""
    data, test = few_digits(images, seed)
    start = time.process_time()
    answer = support_vectors(data)
    seconds = round(time.process_time() - start, 1)
    hits = (answer(test.tensors[0]).argmax(dim=-1) == test.tensors[1]).float()
    accuracy = round(100 * hits.mean().item(), 2)
    return {"images": images, "accuracy": accuracy, "seconds": seconds}


# The tables: the row that a training belongs to, its function, its settings

CNN = {"teacher": "small CNN"}
ROWS: dict[str, dict[str, Any]] = {
    "small CNN": {"model": "small CNN"},
    "ViT": {"model": "ViT"},
    "T2T": {"model": "T2T"},
    "one token, soft": {"model": "ViT", "kind": "soft", **CNN},
    "two tokens, labels only": {"model": "DeiT"},
    "DeiT, hard": {"model": "DeiT", "kind": "hard", **CNN},
    "DeiT, soft": {"model": "DeiT", "kind": "soft", **CNN},
    "DeiT, support vectors": {"model": "DeiT", "teacher": "support vectors"},
}


def few_images() -> Iterator[Job]:
    """Every model and every kind of teaching, on 100, 300 and 1,000 digits."""
    for images in (100, 300, 1000):
        for seed in range(5):
            where = {"images": images, "seed": seed}
            yield "support vectors", machine, where
            for row, settings in ROWS.items():
                yield row, learn, {"task": "few digits", **settings, **where}


def longer() -> Iterator[Job]:
    """Six times as long, on 300 digits: does the teacher help then?"""
    for seed in range(3):
        where = {"images": 300, "seed": seed, "longer": 6}
        for row in ("ViT", "two tokens, labels only", "DeiT, soft"):
            yield row, learn, {"task": "few digits", **ROWS[row], **where}


def unlabelled() -> Iterator[Job]:
    """100 digits with labels; a teacher for these, or for 900 more as well."""
    for seed in range(10):
        where = {"task": "few digits", "images": 100, "seed": seed}
        same, more = ROWS["DeiT, hard"] | where, {"unlabelled": 900}
        yield "small CNN", learn, ROWS["small CNN"] | where
        yield "ViT", learn, ROWS["ViT"] | where
        yield "DeiT, teacher on 100", learn, same
        yield "DeiT, teacher on 1,000", learn, same | more
        yield "one token, teacher on 1,000", learn, same | more | {"model": "ViT"}


def in_clutter() -> Iterator[Job]:
    """A digit anywhere among scraps: 1,000, 4,000 and 16,000 images."""
    for images in (1000, 4000, 16_000):
        for seed in range(3):
            where = {"task": "clutter", "images": images, "seed": seed}
            for row in ("small CNN", "ViT", "DeiT, soft", "T2T"):
                yield row, learn, ROWS[row] | where


def longer_in_clutter() -> Iterator[Job]:
    """Three times as long, on 16,000 images: patience, or structure?"""
    for seed in range(3):
        where = {"task": "clutter", "images": 16_000, "seed": seed, "longer": 3}
        for row in ("ViT", "T2T"):
            yield row, learn, ROWS[row] | where


def deep_narrow() -> Iterator[Job]:
    """One block of width 112, three of 64, twelve of 32, on 300 digits."""
    for seed in range(5):
        where = {"task": "few digits", "images": 300, "seed": seed}
        for row, model in ((1, "shallow"), (3, "ViT"), (12, "deep")):
            yield str(row), learn, {"model": model, **where}


RUNS = (few_images, longer, unlabelled, in_clutter, longer_in_clutter, deep_narrow)
