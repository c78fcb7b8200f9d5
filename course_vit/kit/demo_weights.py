"""Pictures of ten kinds and four files of weights, so lesson 11 needs no network.

The pictures are cut from the photographs and digits that come with the course. The four
files hold the same weights with the names and layout of timm, torchvision, transformers
and Google's JAX code. They are written without the lesson's tables of names, so that
these libraries can test both the files and the tables.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .data import digit_images, photograph

CLASSES = [
    *("sky", "pagoda", "tree", "flower", "leaf"),
    *("zero", "one", "two", "three", "four"),
]
SIDE = 48  # height and width of a picture
# The photograph, and top, bottom, left and right of a part that shows only this.
REGIONS = {
    "sky": ("china", 0, 150, 330, 620),
    "pagoda": ("china", 60, 330, 110, 310),
    "tree": ("china", 310, 427, 330, 640),
    "flower": ("flower", 100, 340, 180, 440),
    "leaf": ("flower", 0, 427, 450, 640),
}


def pictures(test: bool = False) -> tuple[Tensor, Tensor]:
    """Pictures of the ten kinds, `n 3 48 48` between 0 and 1, and their classes `n`.

    `test` chooses the pictures for testing. Pieces of photographs are cut from the left
    three fifths of a region for training, from the rest for testing. Digits are among
    the first 1,000 of the file for training, among the last 360 for testing.
    """
    images, classes = [], []
    for number, name in enumerate(CLASSES[: len(REGIONS)]):
        images.append(pieces(name, 60 if test else 180, test))
        classes.append(torch.full((len(images[-1]),), number))
    digits, labels = digit_images()
    part = slice(-360, None) if test else slice(1000)
    known = labels[part] < len(CLASSES) - len(REGIONS)
    images.append(enlarged(digits[part][known]))
    classes.append(labels[part][known] + len(REGIONS))
    return torch.cat(images), torch.cat(classes)


def pieces(name: str, number: int, test: bool) -> Tensor:
    """Cut squares from random places of a region, `n 3 48 48`, the same at every call.

    name: a key of `REGIONS`.
    number: how many squares, the `n` of the shape.
    test: whether to cut from the part for testing.
    """
    photo, top, bottom, left, right = REGIONS[name]
    middle = left + (right - left) * 3 // 5
    left, right = (middle, right) if test else (left, middle)
    scene = photograph(photo, (427, 640))
    source = torch.Generator().manual_seed(int(test))
    squares = []
    for _ in range(number):
        y = int(torch.randint(top, bottom - SIDE + 1, (), generator=source))
        x = int(torch.randint(left, right - SIDE + 1, (), generator=source))
        squares.append(scene[:, y : y + SIDE, x : x + SIDE])
    return torch.stack(squares)


def enlarged(digits: Tensor) -> Tensor:
    """Frame digits in black, in three equal channels, `b 1 8 8 -> b 3 48 48`."""
    framed = F.pad(digits, (1, 1, 1, 1)).expand(-1, 3, -1, -1)
    return F.interpolate(framed, size=(SIDE, SIDE), mode="bilinear")


# --- The same weights, in four layouts ---

QKV = ("query", "key", "value")

TORCHVISION = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed.proj": "conv_proj",
    "blocks.": "encoder.layers.encoder_layer_",
    "norm1": "ln_1",
    "attn.qkv.": "self_attention.in_proj_",
    "attn.proj": "self_attention.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
    "norm.": "encoder.ln.",
    "head.": "heads.head.",
}
TRANSFORMERS = {  # the names of version 4, which every file still has
    "cls_token": "vit.embeddings.cls_token",
    "pos_embed": "vit.embeddings.position_embeddings",
    "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
    "blocks.": "vit.encoder.layer.",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "norm.": "vit.layernorm.",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "head.": "classifier.",
}
JAX = {
    "cls_token": "cls",
    "pos_embed": "Transformer/posembed_input/pos_embedding",
    "patch_embed.proj": "embedding",
    "blocks.": "Transformer/encoderblock_",
    "norm1": "LayerNorm_0",
    "norm2": "LayerNorm_2",
    "attn.proj": "MultiHeadDotProductAttention_1/out",
    "mlp.fc1": "MlpBlock_3/Dense_0",
    "mlp.fc2": "MlpBlock_3/Dense_1",
}


def publish(
    weights: Mapping[str, Tensor], num_heads: int, folder: Path
) -> dict[str, Path]:
    """Write the weights of a Vision Transformer into four files; returns their paths.

    weights: a state dict with our names, of a model with `num_heads` heads.
    folder: where to write; the keys of the result are the four namings.
    """
    import numpy as np
    from safetensors.torch import save_file

    weights = {key: tensor.detach().cpu() for key, tensor in weights.items()}
    files = {
        "timm": folder / "timm.safetensors",
        "torchvision": folder / "torchvision.pth",
        "transformers": folder / "transformers.safetensors",
        "jax": folder / "jax.npz",
    }
    save_file(weights, files["timm"])
    torch.save(as_torchvision(weights), files["torchvision"])
    save_file(as_transformers(weights), files["transformers"])
    arrays: dict[str, Any] = {
        key: tensor.numpy() for key, tensor in as_jax(weights, num_heads).items()
    }
    np.savez(files["jax"], **arrays)
    return files


def renamed(key: str, words: Mapping[str, str]) -> str:
    """Replace each of our words in a key by the other library's."""
    for ours, theirs in words.items():
        key = key.replace(ours, theirs)
    return key


def as_torchvision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors torchvision's names."""
    return {renamed(key, TORCHVISION): tensor for key, tensor in weights.items()}


def as_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors transformers' names, and separate queries, keys and values."""
    theirs = {}
    for key, tensor in weights.items():
        if "qkv" in key:
            place = renamed(key, TRANSFORMERS)
            for word, part in zip(QKV, tensor.chunk(3), strict=True):
                name = f"attention.attention.{word}"
                theirs[place.replace("attn.qkv", name)] = part.clone()
        else:
            theirs[renamed(key, TRANSFORMERS)] = tensor
    return theirs


def as_jax(weights: Mapping[str, Tensor], num_heads: int) -> dict[str, Tensor]:
    """Give the tensors the names and the layout of Google's files.

    A matrix has its inputs on the first axis, and the heads have their own axis.
    """
    theirs = {}
    for key, tensor in weights.items():
        place = f"Transformer/encoder_{key}" if key.startswith("norm.") else key
        place = renamed(place, JAX)
        place = place.replace(".weight", "/scale" if "norm" in key else "/kernel")
        place = place.replace(".", "/")
        if "qkv" in key:
            for word, part in zip(QKV, tensor.chunk(3), strict=True):
                turned = part.T if part.ndim == 2 else part
                apart = turned.unflatten(-1, (num_heads, -1))
                name = f"MultiHeadDotProductAttention_1/{word}"
                theirs[place.replace("attn/qkv", name)] = apart.contiguous()
        elif key.endswith("attn.proj.weight"):
            theirs[place] = tensor.T.unflatten(0, (num_heads, -1)).contiguous()
        elif tensor.ndim == 4:
            theirs[place] = tensor.permute(2, 3, 1, 0).contiguous()
        else:
            theirs[place] = tensor.T.contiguous() if tensor.ndim == 2 else tensor
    return theirs
