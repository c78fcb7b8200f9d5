"""The results of the long trainings, which `make results` runs.

A run is a table of trainings, written to one small file in `kit/stored/`, which the
notebooks read with `stored(name)`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...vision_transformer import VisionTransformer

FOLDER = Path(__file__).parents[1] / "stored"
SMALL: dict[str, Any] = {
    "embed_dim": 64,
    "depth": 3,
    "num_heads": 4,
    "mlp_ratio": 2.0,
    "pool": "mean",
}
Job = tuple[str, Callable[..., dict], dict]  # a row, its training, the settings


def stored(name: str) -> dict:
    """The results of a long run; raises ValueError for a run that is not stored."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        names = ", ".join(sorted(path.stem for path in FOLDER.glob("*.json")))
        raise ValueError(f"name must be one of {names}; got {name!r}")
    return json.loads(path.read_text("utf-8"))


def by_images(row: dict[str, list]) -> dict[int, Tensor]:
    """The accuracies of all seeds in a stored row, for each number of images."""
    table: dict[int, list[float]] = {}
    for number, accuracy in zip(row["images"], row["accuracy"], strict=True):
        table.setdefault(number, []).append(accuracy)
    return {number: torch.tensor(accuracies) for number, accuracies in table.items()}


def lead(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """Mean difference, seed by seed, and half of its 95 % interval (Student's t)."""
    difference = ours - theirs
    quantile = {3: 4.303, 5: 2.776, 10: 2.262}[len(difference)]
    half = quantile * difference.std() / len(difference) ** 0.5
    return difference.mean().item(), half.item()


def stored_model() -> VisionTransformer:
    """A Vision Transformer that reads digits, with a class token, in eval mode."""
    model = VisionTransformer(8, 2, 1, 10, **SMALL | {"pool": "token"})
    model.load_state_dict(torch.load(FOLDER / "digit_model.pt", weights_only=True))
    return model.eval()


def small_cnn(
    in_chans: int = 1, num_classes: int = 10, stride: int = 1
) -> nn.Sequential:
    """The CNN to compare with: three convolutions, a mean, a linear layer."""
    layers: list[nn.Module] = []
    for before, after in ((in_chans, 32), (32, 64), (64, 64)):
        conv = nn.Conv2d(before, after, 3, stride if layers else 1, padding=1)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)]
    return nn.Sequential(*layers, *head)
