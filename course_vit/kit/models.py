"""Models by their published names."""

from difflib import get_close_matches
from inspect import signature
from typing import Any

from torch import nn

from ..deit import DEIT_SIZES, DISTILLED_SIZES, DistilledVisionTransformer
from ..t2t import T2T_SIZES, T2TViT
from ..vision_transformer import VIT_SIZES, VisionTransformer

__all__ = ["create_model", "list_models"]

FAMILIES: list[tuple[type[nn.Module], dict[str, dict[str, Any]]]] = [
    (VisionTransformer, VIT_SIZES),
    (VisionTransformer, DEIT_SIZES),
    (DistilledVisionTransformer, DISTILLED_SIZES),
    (T2TViT, T2T_SIZES),
]


def list_models() -> list[str]:
    """Every name that `create_model` knows."""
    return [name for _, sizes in FAMILIES for name in sizes]


def create_model(name: str, **overrides: Any) -> nn.Module:
    """A fresh model of a published size; `overrides` replace its arguments.

    Raises ValueError for a name and TypeError for an argument that does not exist.
    """
    for model, sizes in FAMILIES:
        if name in sizes:
            known = signature(model).parameters
            if unknown := [argument for argument in overrides if argument not in known]:
                rule = f"{model.__name__} takes {', '.join(known)}"
                raise TypeError(f"{rule}; got {', '.join(unknown)}")
            return model(**sizes[name] | overrides)
    close = ", ".join(get_close_matches(name, list_models(), cutoff=0.4)) or "none"
    rule = "name must be one of list_models()"
    raise ValueError(f"{rule}, got {name!r}; closest: {close}")
