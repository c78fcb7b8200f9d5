"""The trainings behind lesson 7: the whole digits, each setting in turn."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from ...training import cross_entropy, evaluate, fit, init_narrow, random_affine
from ...vision_transformer import VisionTransformer
from ..data import ImageData, load_data
from . import SMALL, Job, small_cnn

SEEDS = range(5)
LARGE = SMALL | {"embed_dim": 96, "depth": 4}
MEDIUM = {"epochs": 30, "lr": 2e-3, "augment": random_affine}
LONG = {"epochs": 70, "lr": 1e-3, "augment": random_affine, "sizes": LARGE}


# The trainings, each a function of its settings


def vit(
    *,
    seed: int = 0,
    new_writers: bool = False,
    patch_size: int = 2,
    sizes: dict | None = None,
    papers_start: bool = False,
    few_images: int | None = None,
    forget_eval: bool = False,
    smoothing: float = 0.1,
    history: bool = False,
    weights: bool = False,
    **options,
) -> dict[str, Any]:
    """Train a Vision Transformer on digits; `options` are those of `fit`."""
    data = load_data(seed=seed, new_writers=new_writers)
    torch.manual_seed(seed)
    model = VisionTransformer(8, patch_size, 1, 10, **SMALL | (sizes or {}))
    if not papers_start:
        init_narrow(model)
    if forget_eval:
        vars(model)["eval"] = model.train  # evaluate() calls it and believes it
    train = data.train
    if few_images:
        part = Subset(train.dataset, range(few_images))
        train = DataLoader(
            part, train.batch_size, shuffle=True, generator=train.generator
        )
    options = {"epochs": 20, "lr": 2e-3, "seed": seed} | options
    options |= {"val_loader": data.test} if history else {}
    options["loss"] = partial(cross_entropy, smoothing=smoothing)
    start = time.process_time()
    curve = fit(model, train, **options)
    result = result_of(model, data, start)
    result |= {"history": [rounded(record) for record in curve]} if history else {}
    return result | ({"weights": model.state_dict()} if weights else {})


def rounded(record: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in record.items()}


def result_of(model: nn.Module, data: ImageData, start: float) -> dict[str, Any]:
    """Accuracy in percent of the test images, and processor seconds since `start`."""
    seconds = round(time.process_time() - start, 1)
    return {
        "accuracy": round(100 * evaluate(model, data.test)["accuracy"], 2),
        "seconds": seconds,
    }


def cnn(*, seed: int, new_writers: bool) -> dict:
    """Train the small CNN on digits."""
    data = load_data(seed=seed, new_writers=new_writers)
    torch.manual_seed(seed)
    model = small_cnn()
    start = time.process_time()
    fit(model, data.train, 20, lr=5e-3, seed=seed, augment=random_affine)
    return result_of(model, data, start)


def without_network(*, name: str, seed: int, new_writers: bool) -> dict:
    """Train and test a method of scikit-learn on the same digits."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    methods = {
        "logistic regression": LogisticRegression(max_iter=2000),
        "3 nearest neighbours": KNeighborsClassifier(3),
        "support vectors": SVC(C=10),
    }
    data = load_data(seed=seed, new_writers=new_writers)
    (train, labels), (test, truth) = (
        part.dataset[:] for part in (data.train, data.test)
    )
    start = time.process_time()
    accuracy = methods[name].fit(train.flatten(1), labels).score(test.flatten(1), truth)
    seconds = round(time.process_time() - start, 1)
    return {"accuracy": round(100 * accuracy, 2), "seconds": seconds}


# The tables: the row that a training belongs to, its function, its settings


def comparison(new_writers: bool = False) -> Iterator[Job]:
    """Every method on random splits."""
    split = [{"seed": seed, "new_writers": new_writers} for seed in SEEDS]
    for name in ("logistic regression", "3 nearest neighbours", "support vectors"):
        yield from ((name, without_network, where | {"name": name}) for where in split)
    yield from (("small CNN", cnn, where) for where in split)
    yield from (("ViT", vit, where | MEDIUM) for where in split)
    yield from (("larger ViT", vit, where | LONG) for where in split)


def new_writers() -> Iterator[Job]:
    """Every method on the digits of new writers; the seed sets the starting weights."""
    return comparison(new_writers=True)


def positions() -> Iterator[Job]:
    """Kinds of position, and the published starting weights, all else equal."""
    for seed in SEEDS:
        for name in ("none", "sinusoid", "learned", "sincos_2d"):
            settings = {"seed": seed, "sizes": {"position": name}}
            yield name, vit, settings
        settings = {"seed": seed, "papers_start": True}
        yield "papers' start", vit, settings


def patches() -> Iterator[Job]:
    """Patches of 1, 2 and 4 pixels: 64, 16 and 4 tokens."""
    for seed in SEEDS[:3]:
        for patch_size in (1, 2, 4):
            settings = {"seed": seed, "patch_size": patch_size}
            yield str(patch_size), vit, settings


def clinic() -> Iterator[Job]:
    """The runs with a fault, for the learning-curve clinic."""
    patients: dict[str, dict[str, Any]] = {
        "healthy": {},
        "dropout": {"sizes": {"drop_rate": 0.3}},
        "too few images": {"few_images": 144, "epochs": 60},
        "4 tokens": {"patch_size": 4},
        "64 tokens": {"patch_size": 1},
        "A": {"sizes": {"drop_rate": 0.3}, "forget_eval": True},
        "B": {"lr": 0.5},
        "C": {"sizes": {"position": "none"}},
        "D": {"lr": 0.02, "warmup": 0.0},
    }
    for name, settings in patients.items():
        usual = {"epochs": 12, "smoothing": 0.0, "history": True}
        yield name, vit, usual | settings


RUNS = (comparison, new_writers, positions, patches, clinic)
