"""Lesson 11. Pretrained weights.

A file of published weights rarely fits your model as it is: the names are different,
one of your layers is stored as three, the axes come in a different order, and positions
and head have the wrong size. In this lesson you make it fit, and prove that every
number arrived where it belongs.

Printed from notebooks/11_pretrained.ipynb: edit there, then `make export`.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from math import isqrt, prod
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .patch_embedding import check_sizes
from .position_encoding import resize_position_embedding

__all__ = [
    "OUR_NAMES",
    "NAMINGS",
    "rename_key",
    "fuse_qkv",
    "JAX_LAYOUTS",
    "from_jax",
    "recognise_naming",
    "convert_state_dict",
    "fit_positions",
    "fit_head",
    "fit_channels",
    "list_differences",
    "load_weights",
]


# --- 11.2 One model, many names ---

OUR_NAMES = (
    r"cls_token|dist_token|pos_embed|tokens_to_token\.[\w.]+"
    r"|(patch_embed\.proj|norm|pre_logits\.fc|head|head_dist"
    r"|blocks\.\d+\.(norm[12]|attn\.(q|k|v|qkv|proj)|mlp\.fc[12]))\.(weight|bias)"
)

NAMINGS: dict[str, dict[str, str]] = {
    "timm": {},
    "t2t": {},
    "torchvision": {
        "class_token": "cls_token",
        "encoder.pos_embedding": "pos_embed",
        "conv_proj": "patch_embed.proj",
        "encoder.layers.encoder_layer_": "blocks.",
        "ln_1": "norm1",
        "self_attention.in_proj_": "attn.qkv.",
        "self_attention.out_proj": "attn.proj",
        "ln_2": "norm2",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
        "mlp.linear_1": "mlp.fc1",  # in files from before version 0.13
        "mlp.linear_2": "mlp.fc2",
        "encoder.ln.": "norm.",
        "heads.pre_logits": "pre_logits.fc",
        "heads.head": "head",
        "heads.": "head.",  # if you have replaced them with one layer
    },
    "transformers": {
        "embeddings.cls_token": "cls_token",
        "embeddings.distillation_token": "dist_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "layers.": "blocks.",
        "attention.q_proj": "attn.q",
        "attention.k_proj": "attn.k",
        "attention.v_proj": "attn.v",
        "attention.o_proj": "attn.proj",
        "encoder.layer.": "blocks.",  # from here on: version 4, all files
        "attention.attention.query": "attn.q",
        "attention.attention.key": "attn.k",
        "attention.attention.value": "attn.v",
        "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "layernorm_before": "norm1",  # both versions
        "layernorm_after": "norm2",
        "layernorm.": "norm.",
        "pooler.dense": "pre_logits.fc",
        "cls_classifier": "head",
        "distillation_classifier": "head_dist",
        "classifier": "head",
    },
    "jax": {
        "cls": "cls_token",
        "Transformer/posembed_input/pos_embedding": "pos_embed",
        "embedding": "patch_embed.proj",
        "Transformer/encoderblock_": "blocks.",
        "LayerNorm_0": "norm1",
        "MultiHeadDotProductAttention_1/query": "attn.q",
        "MultiHeadDotProductAttention_1/key": "attn.k",
        "MultiHeadDotProductAttention_1/value": "attn.v",
        "MultiHeadDotProductAttention_1/out": "attn.proj",
        "LayerNorm_2": "norm2",
        "MlpBlock_3/Dense_0": "mlp.fc1",
        "MlpBlock_3/Dense_1": "mlp.fc2",
        "Transformer/encoder_norm": "norm",
        "pre_logits": "pre_logits.fc",
        "kernel": "weight",
        "scale": "weight",
        "/": ".",
    },
}


def rename_key(key: str, words: Mapping[str, str]) -> tuple[str, str]:
    """Translate a key of a file and cut it where our name begins.

    Returns the wrapper and the name: "net.blocks.0.norm1.bias" becomes ("net.",
    "blocks.0.norm1.bias"). If a key is not known, the name is "".

    Args:
        key: The key, as it is in the file.
        words: A table of `NAMINGS`: their words and ours, replaced in this order.
    """
    name = re.sub(r"\b_\w+\.", "", key)  # marks of torch.compile and others
    for theirs, ours in words.items():
        name = name.replace(theirs, ours)
    found = re.fullmatch(rf"(((?!blocks\.)[^.]+\.)*?)({OUR_NAMES})", name)
    return (found[1], found[3]) if found else (name, "")


# --- 11.3 Three layers in one ---


def fuse_qkv(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join queries, keys and values into one layer, `d d, d d, d d -> (3 d) d`.

    In every block their rows are stacked in this order, and so are their biases. A
    layer that is already joined is kept, and so is everything else.

    Args:
        state_dict: Weights under our names, with `attn.q`, `attn.k` and `attn.v`.

    Raises:
        ValueError: If a block has only one or two of the three.
    """
    fused: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        name = re.sub(r"\.attn\.[qkv]\.", ".attn.qkv.", key)
        if name == key:
            fused[key] = tensor
        elif name not in fused:
            three = [name.replace(".qkv.", f".{part}.") for part in "qkv"]
            if missing := [part for part in three if part not in state_dict]:
                raise ValueError(
                    "the weights are not complete: queries, keys and values of a block"
                    f" belong together, but there is no {' and no '.join(missing)}"
                )
            fused[name] = torch.cat([state_dict[part] for part in three])
    return fused


# --- 11.4 The other way round ---

JAX_LAYOUTS = {
    "embedding/kernel": "h w c d -> d c h w",
    "query/kernel": "d h e -> (h e) d",
    "key/kernel": "d h e -> (h e) d",
    "value/kernel": "d h e -> (h e) d",
    "query/bias": "h e -> (h e)",
    "key/bias": "h e -> (h e)",
    "value/bias": "h e -> (h e)",
    "out/kernel": "h e d -> d (h e)",
    "kernel": "i o -> o i",  # every other kernel
}


def from_jax(key: str, tensor: Tensor) -> Tensor:
    """Rearrange a tensor from JAX's order of axes to torch's, `... i o -> o i ...`.

    JAX stores inputs before outputs, gives heads an axis of their own and puts channels
    last.

    Args:
        key: The key in JAX's file, which decides the order of the axes. Keys of other
            files have no slash; their tensors are returned as they are.
        tensor: The tensor under that key.

    Raises:
        ValueError: If the tensor does not have the axes that belong to its key.
    """
    *_, part, leaf = f"/{key}".split("/")  # "cls" has no slash
    pattern = JAX_LAYOUTS.get(f"{part}/{leaf}", JAX_LAYOUTS.get(leaf))
    if pattern is None:
        return tensor
    axes = pattern.split(" -> ")[0]
    if tensor.ndim != len(axes.split()):
        shape = tuple(tensor.shape)
        raise ValueError(
            f"{key} must have the axes {axes!r}, got shape {shape}: is it a file of"
            " Google's ViT?"
        )
    return rearrange(tensor, pattern)


# --- 11.5 All of it ---


def recognise_naming(keys: Iterable[str]) -> str:
    """Find the naming whose table translates the most keys of a file into our names.

    Args:
        keys: The keys of the file.

    Raises:
        ValueError: If no table translates any of the keys, or if the file is a
            checkpoint of vit-pytorch, which is a different model.
    """
    keys = list(keys)
    if any("to_patch_embedding." in key for key in keys):
        raise ValueError(
            "a vit-pytorch checkpoint does not fit: its model normalises patches before"
            " and after their projection, ours does not; choose weights from one of"
            f" {list(NAMINGS)}"
        )

    def known(naming: str) -> int:
        return sum(rename_key(key, NAMINGS[naming])[1] != "" for key in keys)

    best = max(NAMINGS, key=known)
    if not known(best):
        raise ValueError(
            "these weights do not belong to a model that the course knows: no naming of"
            f" {list(NAMINGS)} has these keys: {_some(keys)}"
        )
    return best


def convert_state_dict(
    state_dict: Mapping[str, Tensor], naming: str | None = None
) -> dict[str, Tensor]:
    """Give published weights our names and axes, `{key: ...} -> {our key: ...}`.

    No number changes: keys are renamed, JAX's axes are rearranged, and queries, keys
    and values are joined.

    Args:
        state_dict: The published weights under their own keys.
        naming: The library that named them, a key of `NAMINGS`; None means that the
            keys decide (`recognise_naming`).

    Raises:
        TypeError: If it is not a dictionary with names as keys and tensors as values.
        ValueError: If the naming does not exist or cannot be recognised, if a key is
            not in its table, if two keys mean the same tensor, if a tensor is sparse,
            quantised or on the meta device, or if `fuse_qkv` or `from_jax` refuses it.
    """
    _check_tensors(state_dict)
    if naming is None:
        naming = recognise_naming(state_dict)
    if naming not in NAMINGS:
        raise ValueError(f"naming must be one of {list(NAMINGS)}, got {naming!r}")
    names = {key: rename_key(key, NAMINGS[naming])[1] for key in state_dict}
    if unknown := [key for key, name in names.items() if not name]:
        raise ValueError(
            f"these keys are not in the naming {naming!r}: {_some(unknown)}"
            f" ({len(unknown)} of {len(names)} keys); is it a different model?"
        )
    found = list(names.values())
    if twice := [key for key, name in names.items() if found.count(name) > 1]:
        raise ValueError(f"these keys mean the same tensors: {_some(twice)}; keep one")
    return fuse_qkv(
        {names[key]: from_jax(key, tensor) for key, tensor in state_dict.items()}
    )


def _check_tensors(state_dict: Any) -> None:
    """Refuse anything but a dictionary of plain tensors by their names."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"expected a dictionary of tensors, got {type(state_dict)}")
    for name, tensor in state_dict.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise TypeError(f"expected names and tensors, got {name!r}: {type(tensor)}")
        if tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided:
            got = f"{tensor.layout} {tensor.dtype} on {tensor.device}"
            raise ValueError(f"{name} must be a plain tensor with numbers, got {got}")


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + rest


# --- 11.6 Another image size ---


def fit_positions(
    position: Tensor,
    model: Any,
    policy: str = "timm",
    old_grid_size: tuple[int, int] | None = None,
) -> Tensor:
    """Fit a table of positions to the grid of a model, `1 n d -> 1 m d`.

    A table in half precision is stretched, and returned, in float32.

    Args:
        position: The table of the file, `1 n d`.
        model: A model with a `grid_size` and `num_prefix_tokens`.
        policy: The library whose interpolation is reproduced, a key of
            `RESIZE_POLICIES` (lesson 2).
        old_grid_size: Rows and columns of the grid that the table was made for. None
            means the model's grid if the number of rows agrees, otherwise a square; a
            table that does not fill a square is returned as it is, and strict loading
            refuses it.

    Raises:
        ValueError: If the policy is unknown or the table does not fit `old_grid_size`.
    """
    if old_grid_size is None:
        rows = position.shape[1] - model.num_prefix_tokens if position.ndim == 3 else 0
        if rows == prod(model.grid_size) or rows < 1 or isqrt(rows) ** 2 != rows:
            return position
    return resize_position_embedding(
        position.to(torch.promote_types(position.dtype, torch.float32)),
        tuple(model.grid_size),
        num_prefix_tokens=model.num_prefix_tokens,
        policy=policy,
        old_grid_size=old_grid_size,
    )


# --- 11.7 Other classes ---

_HEAD = ("head.", "head_dist.", "pre_logits.")


def fit_head(
    weights: Mapping[str, Tensor], ours: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Fit the head to the classes of a model, `{key: ...} -> {key: ...}`.

    If the numbers of classes differ, the model keeps its head, or both heads if it is
    distilled. The list then holds one sentence that names what is newly initialised;
    otherwise it is empty.

    Args:
        weights: Converted weights.
        ours: The state dict of the model.
    """
    heads = (state.get("head.weight", torch.empty(0)) for state in (ours, weights))
    here, there = (sum(head.shape[:1]) for head in heads)
    if here == there > 0 or (not there and "head.weight" in weights):
        return dict(weights), []
    body = {key: tensor for key, tensor in weights.items() if not key.startswith(_HEAD)}
    fresh = {key: tensor for key, tensor in ours.items() if key.startswith(_HEAD)}
    said = (
        f"{', '.join(fresh)} are newly initialised (model {here} classes, checkpoint"
        f" {there}): train them before use"
    )
    return body | fresh, [said] if fresh else []


def fit_channels(kernel: Tensor, in_chans: int) -> Tensor:
    """Fit a patch kernel for colours to `c` channels, `d 3 h w -> d c h w`.

    The rule is timm's: one channel gets the sum of the three, any other number gets
    them in turn, times 3 / c. A kernel that is not for three channels is returned as it
    is.

    Args:
        kernel: The weight of the patch embedding.
        in_chans: The number of channels `c` of the model.

    Raises:
        ValueError: If `in_chans` is not a positive integer.
    """
    check_sizes(in_chans=in_chans)
    if kernel.ndim != 4 or kernel.shape[1] != 3 or in_chans == 3:
        return kernel
    if in_chans == 1:
        return kernel.sum(dim=1, keepdim=True)
    return kernel[:, torch.arange(in_chans) % 3] * (3 / in_chans)


# --- 11.8 Nothing stays random in silence ---


def list_differences(
    weights: Mapping[str, Tensor], ours: Mapping[str, Tensor]
) -> list[str]:
    """List what is missing, unexpected, misshaped or not a finite float, a line each.

    A number counts as finite if it is finite in float32.

    Args:
        weights: Converted weights.
        ours: The state dict of the model.
    """
    found = {
        "missing": [key for key in ours if key not in weights],
        "unexpected": [key for key in weights if key not in ours],
        "of a different shape": [
            f"{key} {tuple(t.shape)}, not {tuple(ours[key].shape)}"
            for key, t in weights.items()
            if key in ours and t.shape != ours[key].shape
        ],
        "not floating-point": [
            f"{key} {t.dtype}"
            for key, t in weights.items()
            if not t.is_floating_point()
        ],
        "not finite": [k for k, t in weights.items() if not t.float().isfinite().all()],
    }
    return [f"{what}: {_some(names)}" for what, names in found.items() if names]


def load_weights(
    model: nn.Module,
    state_dict: Mapping[str, Tensor],
    policy: str = "timm",
    old_grid_size: tuple[int, int] | None = None,
) -> list[str]:
    """Load converted weights into a model of any image size, channels and classes.

    Returns a list with one sentence if a head for different classes is newly
    initialised, otherwise an empty list. If an error is raised, the model is unchanged.

    Args:
        model: The model, which is changed in place.
        state_dict: Converted weights (`convert_state_dict`).
        policy: The library whose interpolation stretches positions (`fit_positions`).
        old_grid_size: Rows and columns of the grid that the positions were made for;
            None has the same meaning as in `fit_positions`.

    Raises:
        TypeError: If `state_dict` is not a dictionary with names as keys and tensors as
            values.
        ValueError: If the positions cannot be stretched, or if anything else does not
            fit; the message names it.
    """
    _check_tensors(state_dict)
    ours = model.state_dict()
    weights, said = fit_head(state_dict, ours)
    if "pos_embed" in weights:
        weights["pos_embed"] = fit_positions(
            weights["pos_embed"], model, policy=policy, old_grid_size=old_grid_size
        )
    if (kernel := "patch_embed.proj.weight") in weights.keys() & ours.keys():
        weights[kernel] = fit_channels(weights[kernel], ours[kernel].shape[1])
    if differences := list_differences(weights, ours):
        advice = (
            "build the model that these weights were made for, or get a file that is"
            " not damaged"
        )
        with suppress(ValueError):  # no table knows the names
            words = NAMINGS[recognise_naming(weights)]
            strange = weights.keys() - ours.keys()
            if any(rename_key(key, words)[1] in ours for key in strange):
                advice = "convert them first, with convert_state_dict"
        raise ValueError(f"the weights do not fit: {'; '.join(differences)}; {advice}")
    model.load_state_dict(weights)
    return said
