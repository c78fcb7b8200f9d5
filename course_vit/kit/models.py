"""Models by their published names."""

import warnings
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from ..deit import DEIT_SIZES, DISTILLED_SIZES, DistilledVisionTransformer
from ..pretrained import convert_state_dict, load_weights
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


def create_model(
    name: str, pretrained: bool | str | Path = False, **overrides: Any
) -> nn.Module:
    """A model of a published size; `overrides` replace its arguments.

    `pretrained` is True (the published weights), the name of a set of
    `kit.weights.WEIGHT_SETS` or a file of weights; else the model is fresh. Another
    image size stretches the positions; another number of classes leaves the head fresh,
    with a UserWarning. In training mode, as every new module.

    Raises ValueError for a name, or weights that do not fit, TypeError for an argument
    that does not exist or is no name and no file of weights, `kit.weights.WeightsError`
    if there are no such weights.
    """
    model_class, sizes = find_size(name)
    known = signature(model_class).parameters
    if unknown := [argument for argument in overrides if argument not in known]:
        rule = f"{model_class.__name__} takes {', '.join(known)}"
        raise TypeError(f"{rule}; got {', '.join(unknown)}")
    if pretrained is False or pretrained is None:
        return model_class(**sizes | overrides)

    from course_vit.kit.weights import fetch, read_weights, weight_set

    found = weight_set(name, pretrained)
    heads = overrides.get("num_heads", sizes["num_heads"])
    if found.num_heads not in (heads, None):
        rule = f"{found.source} is for {found.num_heads} heads, which no shape shows"
        raise ValueError(f"{rule}; got num_heads={heads}")
    weights = convert_state_dict(read_weights(fetch(found)), found.naming)
    of_weights = {"img_size": found.img_size, "norm_eps": found.norm_eps}
    model = model_class(**sizes | of_weights | overrides)
    for sentence in load_weights(model, weights, found.policy, found.grid_size):
        warnings.warn(sentence, UserWarning, stacklevel=2)
    if found.gelu != "none":
        for module in model.modules():
            if isinstance(module, nn.GELU):
                module.approximate = found.gelu
    return model


def find_size(name: str) -> tuple[type[nn.Module], dict[str, Any]]:
    """The class of a model and the arguments of its published size.

    Raises ValueError for an unknown name, with the closest ones.
    """
    for model_class, sizes in FAMILIES:
        if name in sizes:
            return model_class, sizes[name]
    close = ", ".join(get_close_matches(name, list_models(), cutoff=0.4)) or "none"
    rule = "name must be one of list_models()"
    raise ValueError(f"{rule}, got {name!r}; closest: {close}")
