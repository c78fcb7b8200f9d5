"""Recipes of `course-vit train`: every number of a training run, as plain values."""

from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields, replace
from math import inf
from typing import Any

from . import CourseError


def number(default: Any, lowest: float, highest: float = inf) -> Any:
    """A field that holds a number from `lowest` to `highest`."""
    return field(default=default, metadata={"range": (lowest, highest)})


def choice(*names: str) -> Any:
    """A field that holds one of some names; the first is the default."""
    return field(default=names[0], metadata={"names": names})


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. Raises CourseError for a value that is out of range.

    epochs: how many times the model sees all images.
    batch: images in one step, over all processes and pieces.
    lr, weight_decay, warmup, clip_norm, seed: those of `Run` in lesson 7.
    smoothing: the share of each label that is spread over all classes.
    affine: moves, turns and zooms like `random_affine` in lesson 7; this is the largest
        move, as a share of the image's side. 0 turns it off.
    crop: the smallest share of the area that a random crop shows; 1 means no such crop.
    flip: the probability of a mirrored image.
    randaugment: the magnitude of RandAugment's two changes, 0 to 30; 0 means none.
    mixup, cutmix: the alpha of each; 0 means none. With both, each pair gets one.
    erasing: the probability that a rectangle is filled with noise.
    drop_path: the highest rate of stochastic depth in the model.
    ema: the decay of the averaged weights, which are then judged and saved; 0 means
        that there is no average. In step n the decay is at most (1 + n) / (10 + n).
    distill: how a teacher is used: hard (its decisions) or soft (its probabilities).
    accumulate: the pieces into which a process cuts its part of a batch, which need
        less memory.
    precision: fp32, or bf16 for matrix products.
    img_size: the side of the images, in pixels; 0 means the model's own.
    workers: processes that prepare images, for each process that trains.
    """

    epochs: int = number(20, 1)
    batch: int = number(64, 1)
    lr: float = number(2e-3, 0)
    weight_decay: float = number(0.05, 0)
    warmup: float = number(0.1, 0, 1)
    clip_norm: float = number(1.0, 1e-12)
    seed: int = number(0, 0, 2**31)
    smoothing: float = number(0.1, 0, 1)
    affine: float = number(0.0, 0, 1)
    crop: float = number(1.0, 0.01, 1)
    flip: float = number(0.0, 0, 1)
    randaugment: int = number(0, 0, 30)
    mixup: float = number(0.0, 0)
    cutmix: float = number(0.0, 0)
    erasing: float = number(0.0, 0, 1)
    drop_path: float = number(0.0, 0, 0.99)
    ema: float = number(0.0, 0, 0.9999999)
    distill: str = choice("hard", "soft")
    accumulate: int = number(1, 1)
    precision: str = choice("fp32", "bf16")
    img_size: int = number(0, 0)
    workers: int = number(0, 0)

    def __post_init__(self) -> None:
        for it in fields(self):
            value = getattr(self, it.name)
            if names := it.metadata.get("names"):
                if value not in names:
                    expected = " or ".join(names)
                    raise CourseError(f"{it.name} must be {expected}, got {value!r}")
                continue
            lowest, highest = it.metadata["range"]
            if not lowest <= value <= highest:
                raise CourseError(
                    f"{it.name} must be from {lowest:g} to {highest:g}, got {value}"
                )


RECIPES = {
    "digits": Recipe(affine=1 / 16),  # of lesson 7
    "small": Recipe(  # for some thousand images of your own
        epochs=100,
        lr=1e-3,
        crop=0.35,
        flip=0.5,
        randaugment=6,
        mixup=0.2,
        drop_path=0.05,
        ema=0.99,
    ),
    "deit": Recipe(  # Touvron et al. 2021, table 9, without repeated augmentation
        epochs=300,
        batch=1024,
        lr=1e-3,
        warmup=5 / 300,
        clip_norm=inf,
        crop=0.08,
        flip=0.5,
        randaugment=9,
        mixup=0.8,
        cutmix=1.0,
        erasing=0.25,
        drop_path=0.1,
        ema=0.99996,
    ),
}


def changed(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """A recipe with other values, from texts such as `mixup=0.8`.

    Raises CourseError if a text has no `=`, or if there is no such field or value.
    """
    known = {it.name: it for it in fields(recipe)}
    values = {}
    for text in changes:
        name, _, value = text.partition("=")
        if name not in known:
            raise CourseError(
                f"{text!r} does not set anything: write NAME=VALUE, where NAME is one"
                f" of {', '.join(known)}"
            )
        values[name] = parsed(known[name], value)
    return replace(recipe, **values)


def parsed(known: Field, value: str) -> Any:
    """The value of a field, from a text."""
    kind: Any = type(known.default)
    try:
        return kind(value)
    except ValueError:
        what = {int: "an integer", float: "a number"}[kind]
        raise CourseError(f"{known.name} must be {what}, got {value!r}") from None
