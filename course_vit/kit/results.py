"""The long runs behind the figures: `python -m course_vit.kit.results`, `make results`.

Every run is a table of trainings and is written to one small file in `stored/`, which
the notebooks read with `stored(name)`. With names behind it the command makes those
only: `python -m course_vit.kit.results clinic patches`.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from ..training import cross_entropy, evaluate, fit, init_narrow, random_affine
from ..vision_transformer import VisionTransformer
from .data import ImageData, load_data

FOLDER = Path(__file__).parent / "stored"
SEEDS = range(5)
SMALL: dict[str, Any] = {
    "embed_dim": 64,
    "depth": 3,
    "num_heads": 4,
    "mlp_ratio": 2.0,
    "pool": "mean",
}
LARGE = SMALL | {"embed_dim": 96, "depth": 4}
MEDIUM = {"epochs": 30, "lr": 2e-3, "augment": random_affine}
LONG = {"epochs": 70, "lr": 1e-3, "augment": random_affine, "sizes": LARGE}


def stored(name: str) -> dict:
    """What a long run found; raises ValueError for a run that is not stored."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        names = ", ".join(sorted(path.stem for path in FOLDER.glob("*.json")))
        raise ValueError(f"name must be one of {names}; got {name!r}")
    return json.loads(path.read_text("utf-8"))


def stored_model() -> VisionTransformer:
    """A Vision Transformer that reads digits, with a class token, in eval mode."""
    model = VisionTransformer(8, 2, 1, 10, **SMALL | {"pool": "token"})
    model.load_state_dict(torch.load(FOLDER / "digit_model.pt", weights_only=True))
    return model.eval()


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
    options = {"epochs": 20, "lr": 2e-3} | options
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


def small_cnn(in_chans: int = 1, num_classes: int = 10) -> nn.Sequential:
    """The rival: three convolutions, a mean over all places, a linear layer."""
    layers: list[nn.Module] = []
    for before, after in ((in_chans, 32), (32, 64), (64, 64)):
        conv = nn.Conv2d(before, after, kernel_size=3, padding=1)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)]
    return nn.Sequential(*layers, *head)


def cnn(*, seed: int, new_writers: bool) -> dict:
    """Train the small CNN on digits."""
    data = load_data(seed=seed, new_writers=new_writers)
    torch.manual_seed(seed)
    model = small_cnn()
    start = time.process_time()
    fit(model, data.train, 20, lr=5e-3, augment=random_affine)
    return result_of(model, data, start)


def without_network(*, name: str, seed: int, new_writers: bool) -> dict:
    """Ask a method of scikit-learn the same question."""
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

Job = tuple[str, Callable[..., dict], dict]


def comparison(new_writers: bool = False) -> Iterator[Job]:
    """Every method on random splits."""
    split = [{"seed": seed, "new_writers": new_writers} for seed in SEEDS]
    for name in ("logistic regression", "3 nearest neighbours", "support vectors"):
        yield from ((name, without_network, where | {"name": name}) for where in split)
    yield from (("small CNN", cnn, where) for where in split)
    yield from (("ViT", vit, where | MEDIUM) for where in split)
    yield from (("larger ViT", vit, where | LONG) for where in split)


def new_writers() -> Iterator[Job]:
    """Every method on hands that the training has not seen; the seed is the start's."""
    return comparison(new_writers=True)


def positions() -> Iterator[Job]:
    """Kinds of position, and the published models' start, all else equal."""
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
    """The patients of the learning-curve clinic."""
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


RUNS = {
    run.__name__: run for run in (comparison, new_writers, positions, patches, clinic)
}


def make(name: str, pool: ProcessPoolExecutor) -> None:
    """Do every training of a run, say each result, write the table."""
    jobs = list(RUNS[name]())
    futures = {
        pool.submit(train, **settings): i
        for i, (*_, train, settings) in enumerate(jobs)
    }
    results: dict[int, dict] = {}
    for future in as_completed(futures):
        i = futures[future]
        result = results[i] = future.result()
        said = f"{jobs[i][0]}: {result['accuracy']} %, {result['seconds']} s"
        print(f"{name} {len(results)}/{len(jobs)}, {said}", flush=True)
    table: dict = {}
    for i, (row, *_) in enumerate(jobs):
        for key, value in results[i].items():
            table.setdefault(row, {}).setdefault(key, []).append(value)
    text = json.dumps(table, indent=1)
    (FOLDER / f"{name}.json").write_text(f"{text}\n", "utf-8")


def make_digit_model() -> None:
    """Train the model that `stored_model` gives, and keep its weights."""
    sizes = {"pool": "token"}
    result = vit(sizes=sizes, epochs=60, augment=random_affine, weights=True)
    torch.save(result["weights"], FOLDER / "digit_model.pt")
    print(f"digit_model: {result['accuracy']} %, {result['seconds']} s", flush=True)


def main(names: list[str]) -> None:
    """Make the runs of these names, or all."""
    known = [*RUNS, "digit_model"]
    if unknown := set(names) - set(known):
        sys.exit(f"runs are {', '.join(known)}; got {', '.join(sorted(unknown))}")
    FOLDER.mkdir(exist_ok=True)
    spawn, one_thread = get_context("spawn"), torch.set_num_threads
    with ProcessPoolExecutor(None, spawn, one_thread, (1,)) as pool:
        for name in names or known:
            if name in RUNS:
                make(name, pool)
            else:
                pool.submit(make_digit_model).result()


if __name__ == "__main__":
    main(sys.argv[1:])
