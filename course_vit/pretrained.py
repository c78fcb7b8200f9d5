"""Lesson 11. Pretrained weights.

What stands between a file of published weights and a prediction: other names, three
layers in one, axes in another order, positions for another grid, a head for other
classes.

Letters: `d` width of a token, `h` head, `e` width of a head, `n m` old and new rows of
the table of positions, `gh gw` rows and columns of the patch grid.

Printed from notebooks/11_pretrained.ipynb: edit there, then `make export`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from math import isqrt, prod
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

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
    "list_differences",
    "load_weights",
]


# --- 11.2 One model, many names ---

OUR_NAMES = (
    "cls_token",
    "dist_token",
    "pos_embed",
    "patch_embed.proj",
    "blocks.*.norm1",
    "blocks.*.attn.qkv",
    "blocks.*.attn.proj",
    "blocks.*.norm2",
    "blocks.*.mlp.fc1",
    "blocks.*.mlp.fc2",
    "norm",
    "pre_logits.fc",
    "head",
    "head_dist",
)

_TOKEN_LAYER = (
    *("norm1", "kqv", "w", "proj", "norm2", "mlp.0", "mlp.2"),  # performer
    *("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"),  # transformer
)

NAMINGS: dict[str, dict[str, str]] = {
    "timm": {name: name for name in OUR_NAMES},
    "t2t": {
        name: name
        for name in (
            *OUR_NAMES,
            *(f"tokens_to_token.attention*.{part}" for part in _TOKEN_LAYER),
            "tokens_to_token.project",
        )
    },
    "torchvision": {
        "class_token": "cls_token",
        "encoder.pos_embedding": "pos_embed",
        "conv_proj": "patch_embed.proj",
        **{
            f"encoder.layers.encoder_layer_*.{their}": f"blocks.*.{our}"
            for their, our in {
                "ln_1": "norm1",
                "self_attention.in_proj": "attn.qkv",
                "self_attention.out_proj": "attn.proj",
                "ln_2": "norm2",
                "mlp.0": "mlp.fc1",
                "mlp.3": "mlp.fc2",
                "mlp.linear_1": "mlp.fc1",  # in files from before version 0.13
                "mlp.linear_2": "mlp.fc2",
            }.items()
        },
        "encoder.ln": "norm",
        "heads.pre_logits": "pre_logits.fc",
        "heads.head": "head",
    },
    "transformers": {
        "embeddings.cls_token": "cls_token",
        "embeddings.distillation_token": "dist_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        **{
            f"layers.*.{their}": f"blocks.*.{our}"
            for their, our in {
                "layernorm_before": "norm1",
                "attention.q_proj": "attn.q",
                "attention.k_proj": "attn.k",
                "attention.v_proj": "attn.v",
                "attention.o_proj": "attn.proj",
                "layernorm_after": "norm2",
                "mlp.fc1": "mlp.fc1",
                "mlp.fc2": "mlp.fc2",
            }.items()
        },
        **{
            f"encoder.layer.*.{their}": f"blocks.*.{our}"  # version 4, and every file
            for their, our in {
                "layernorm_before": "norm1",
                "attention.attention.query": "attn.q",
                "attention.attention.key": "attn.k",
                "attention.attention.value": "attn.v",
                "attention.output.dense": "attn.proj",
                "layernorm_after": "norm2",
                "intermediate.dense": "mlp.fc1",
                "output.dense": "mlp.fc2",
            }.items()
        },
        "layernorm": "norm",
        "pooler.dense": "pre_logits.fc",
        "classifier": "head",
        "cls_classifier": "head",
        "distillation_classifier": "head_dist",
    },
    "jax": {
        "cls": "cls_token",
        "Transformer/posembed_input/pos_embedding": "pos_embed",
        "embedding": "patch_embed.proj",
        **{
            f"Transformer/encoderblock_*/{their}": f"blocks.*.{our}"
            for their, our in {
                "LayerNorm_0": "norm1",
                "MultiHeadDotProductAttention_1/query": "attn.q",
                "MultiHeadDotProductAttention_1/key": "attn.k",
                "MultiHeadDotProductAttention_1/value": "attn.v",
                "MultiHeadDotProductAttention_1/out": "attn.proj",
                "LayerNorm_2": "norm2",
                "MlpBlock_3/Dense_0": "mlp.fc1",
                "MlpBlock_3/Dense_1": "mlp.fc2",
            }.items()
        },
        "Transformer/encoder_norm": "norm",
        "pre_logits": "pre_logits.fc",
        "head": "head",
    },
}

_WRAPPER = r"(module\.|_orig_mod\.|vit\.|deit\.|opt/target/)*"  # around a model
_NUMBER = r"(block_|blocks\.|layer_|layers?\.|attention)(\d+)"  # of a block
_LEAF = r"(.+)[._/](weight|bias|kernel|scale)"  # at the end


def rename_key(key: str, names: Mapping[str, str]) -> str | None:
    """A key under our name, None if `names`, a table of `NAMINGS`, does not have it.

    A star stands for the number of a block. What wraps a whole model (`module.`,
    `vit.`) is taken off; JAX's kernel and scale are weights.
    """
    key = re.sub(_WRAPPER, "", key, count=1)
    number, part = re.search(_NUMBER, key), key
    if number:
        part = f"{key[: number.start(2)]}*{key[number.end(2) :]}"
    leaf = re.fullmatch(_LEAF, part)
    name = names.get(leaf[1] if leaf else part)
    if name is None:
        return None
    if number:
        name = name.replace("*", number[2])
    if leaf:
        name += ".bias" if leaf[2] == "bias" else ".weight"
    return name


# --- 11.3 Three layers in one ---


def fuse_qkv(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values of a block as one layer, `d d, d d, d d -> (3 d) d`.

    In this order, biases likewise; what is fused already stays. Raises ValueError if
    one of the three is missing.
    """
    fused: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        name = re.sub(r"\.attn\.[qkv]\.", ".attn.qkv.", key)
        if name == key:
            fused[key] = tensor
        elif name not in fused:
            three = [name.replace(".qkv.", f".{part}.") for part in "qkv"]
            if missing := [part for part in three if part not in state_dict]:
                rule = "queries, keys and values of a block belong together"
                raise ValueError(f"{rule}, got no {' and no '.join(missing)}")
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
    "kernel": "i o -> o i",  # every other one
}


def from_jax(key: str, tensor: Tensor) -> Tensor:
    """A tensor with its axes as torch has them, `... i o -> o i ...`.

    JAX multiplies from the other side, keeps heads on an axis of their own and channels
    last. `key` is JAX's. Raises ValueError for a tensor with other axes.
    """
    *_, part, leaf = f"/{key}".split("/")  # "cls" has no slash
    pattern = JAX_LAYOUTS.get(f"{part}/{leaf}", JAX_LAYOUTS.get(leaf))
    if pattern is None:
        return tensor
    axes = pattern.split(" -> ")[0]
    if tensor.ndim != len(axes.split()):
        raise ValueError(f"{key} must be {axes!r}, got shape {tuple(tensor.shape)}")
    return rearrange(tensor, pattern)


# --- 11.5 All of it ---


def recognise_naming(keys: Iterable[str]) -> str:
    """The naming whose table has most of the keys.

    Raises ValueError if none has any, and for a checkpoint of vit-pytorch: no table can
    help, it is another model.
    """
    keys = list(keys)
    if any("to_patch_embedding." in key for key in keys):
        reason = (
            "it normalises patches before and after their projection; ours does not"
        )
        raise ValueError(f"a vit-pytorch checkpoint is not of this model: {reason}")

    def known(naming: str) -> int:
        return sum(rename_key(key, NAMINGS[naming]) is not None for key in keys)

    best = max(NAMINGS, key=known)
    if not known(best):
        raise ValueError(f"no naming of {list(NAMINGS)} has these keys: {_some(keys)}")
    return best


def convert_state_dict(
    state_dict: Mapping[str, Tensor], naming: str | None = None
) -> dict[str, Tensor]:
    """Published weights, with our names and axes, `{key: ...} -> {our key: ...}`.

    `naming` is a key of `NAMINGS`, None = recognised. No number changes: queries, keys
    and values are fused, JAX's axes turned. Raises ValueError for another naming, for
    keys that it does not have, and for two keys of the same tensor.
    """
    if naming is None:
        naming = recognise_naming(state_dict)
    if naming not in NAMINGS:
        raise ValueError(f"naming must be one of {list(NAMINGS)}, got {naming!r}")
    names = {key: rename_key(key, NAMINGS[naming]) for key in state_dict}
    if unknown := [key for key, name in names.items() if name is None]:
        got = f"{_some(unknown)} ({len(unknown)} of {len(names)} keys)"
        raise ValueError(f"these keys are not in the naming {naming!r}: {got}")
    counts = Counter(names.values())
    if twice := [key for key, name in names.items() if counts[name] > 1]:
        raise ValueError(f"these keys mean the same tensors: {_some(twice)}; keep one")
    turn = from_jax if naming == "jax" else lambda key, tensor: tensor
    return fuse_qkv(
        {str(names[key]): turn(key, tensor) for key, tensor in state_dict.items()}
    )


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
    """A table of positions for the grid of a model, `1 n d -> 1 m d`.

    `old_grid_size` is the grid of the table. None = that of the model if it has as many
    patches, else a square; if the rows make none, the table is given back as it is.
    If it must be stretched, raises ValueError for an unknown policy or a wrong grid.
    """
    grid_size, prefix = tuple(model.grid_size), model.num_prefix_tokens
    if old_grid_size is None:
        rows = position.shape[1] - prefix if position.ndim == 3 else 0
        if rows == prod(grid_size) or rows < 1 or isqrt(rows) ** 2 != rows:
            return position
    exact = position.double() if position.dtype == torch.float64 else position.float()
    return resize_position_embedding(exact, grid_size, prefix, policy, old_grid_size)


# --- 11.7 Other classes ---

_HEAD = ("head.", "head_dist.", "pre_logits.")


def fit_head(
    weights: Mapping[str, Tensor], ours: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights with a head like `ours`, `{key: ...} -> {key: ...}`, and what is fresh.

    For another number of classes the head is the one of `ours`, and a sentence says so.
    Both heads of a distilled model go together. A model without a head needs none.
    """
    here, there = (
        len(state["head.weight"]) if "head.weight" in state else 0
        for state in (ours, weights)
    )
    if here == there > 0:
        return dict(weights), []
    body = {key: tensor for key, tensor in weights.items() if not key.startswith(_HEAD)}
    fresh = {key: tensor for key, tensor in ours.items() if key.startswith(_HEAD)}
    why = f"{here} classes here, {there} in the weights"
    said = f"{', '.join(fresh)} stay as they were drawn ({why}): train them"
    return body | fresh, [said] if fresh else []


# --- 11.8 Nothing random in silence ---


def list_differences(
    weights: Mapping[str, Tensor], ours: Mapping[str, Tensor]
) -> list[str]:
    """A line each for what is missing, unexpected, misshaped or not made of floats."""
    shapes = [
        f"{key} {tuple(weights[key].shape)}, not {tuple(ours[key].shape)}"
        for key in ours
        if key in weights and weights[key].shape != ours[key].shape
    ]
    found = {
        "missing": [key for key in ours if key not in weights],
        "unexpected": [key for key in weights if key not in ours],
        "of another shape": shapes,
        "not of floating point": [
            f"{key} {tensor.dtype}"
            for key, tensor in weights.items()
            if not tensor.is_floating_point()
        ],
    }
    return [f"{what}: {_some(names)}" for what, names in found.items() if names]


def load_weights(
    model: nn.Module,
    state_dict: Mapping[str, Tensor],
    policy: str = "timm",
    old_grid_size: tuple[int, int] | None = None,
) -> list[str]:
    """Converted weights into a model of any image size and number of classes.

    Says, in sentences, what of the model stays as it was drawn: a head for other
    classes. Positions are stretched by `policy` from `old_grid_size` (`fit_positions`).
    Everything else must fit: raises ValueError with the names of what does not, and the
    model is as it was.
    """
    ours = model.state_dict()
    weights, said = fit_head(state_dict, ours)
    if "pos_embed" in weights:
        table = weights["pos_embed"]
        weights["pos_embed"] = fit_positions(table, model, policy, old_grid_size)
    if differences := list_differences(weights, ours):
        todo = "build the model that these weights were made for"
        raise ValueError(f"the weights do not fit: {'; '.join(differences)}; {todo}")
    model.load_state_dict(weights)
    return said
