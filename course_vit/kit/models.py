"""Models by their published names."""

import warnings
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

# By its full name: the workbook's `my_vit` has a copy of this file, but no kit.
from course_vit.kit.weights import LoadedSet, check_name, load_set

from ..deit import DEIT_SIZES, DISTILLED_SIZES, DistilledVisionTransformer
from ..pretrained import load_weights
from ..t2t import T2T_SIZES, T2TViT
from ..vision_transformer import VIT_SIZES, VisionTransformer

__all__ = ["create_model", "list_models"]

FAMILIES: dict[type[nn.Module], dict[str, dict[str, Any]]] = {
    VisionTransformer: {**VIT_SIZES, **DEIT_SIZES},
    DistilledVisionTransformer: DISTILLED_SIZES,
    T2TViT: T2T_SIZES,
}


def list_models() -> list[str]:
    """Every name that `create_model` knows."""
    return [name for sizes in FAMILIES.values() for name in sizes]


def create_model(
    name: str,
    pretrained: bool | str | Path | LoadedSet = False,
    entry: str = "",
    **overrides: Any,
) -> nn.Module:
    """Build a model of a published size, in training mode like every new module.

    name: one of `list_models()`.
    pretrained: True (the published weights), the name of a set in
        `kit.weights.WEIGHT_SETS`, a file of weights or a folder with one, or the result
        of `kit.weights.load_set`; False means newly initialised.
    entry: which model to take if the file holds several (`kit.weights.read_weights`).
    overrides: arguments of the model that replace those of its published size. For a
        different image size the positions are stretched, for a different number of
        channels the kernel of a ViT or DeiT is summed or repeated; for a different
        number of classes the head is newly initialised, with a UserWarning.

    Raises ValueError for a name that does not exist and for weights that do not fit,
    TypeError for an argument that does not exist and for any other type of
    `pretrained`, and `kit.weights.WeightsError` if there are no such weights.
    """
    check_name(name)
    model_class = next(kind for kind, sizes in FAMILIES.items() if name in sizes)
    sizes = FAMILIES[model_class][name]
    known = signature(model_class).parameters
    if unknown := [argument for argument in overrides if argument not in known]:
        raise TypeError(
            f"{model_class.__name__} has no argument {', '.join(unknown)}, only"
            f" {', '.join(known)}"
        )
    if pretrained is False or pretrained is None:
        return model_class(**sizes | overrides)

    if not isinstance(pretrained, LoadedSet):
        pretrained = load_set(name, pretrained, entry=entry)
    how, tensors = pretrained
    heads = overrides.get("num_heads", sizes["num_heads"])
    if how.num_heads not in (heads, None):
        raise ValueError(
            f"{how.source} has {how.num_heads} heads, which its shapes do not show, got"
            f" num_heads={heads}"
        )
    of_weights = {"img_size": how.img_size, "norm_eps": how.norm_eps}
    model = model_class(**sizes | of_weights | overrides)
    for sentence in load_weights(
        model,
        tensors,
        policy=how.policy,
        old_grid_size=how.grid_size,
    ):
        warnings.warn(sentence, UserWarning, stacklevel=2)
    for module in model.modules():
        if isinstance(module, nn.GELU) and how.gelu != "none":
            module.approximate = how.gelu
    return model
