"""Lesson 8. Looking inside.

See what a trained Vision Transformer looks at, block by block and head by head, and
learn what such a picture cannot show.

Printed from notebooks/08_looking_inside.ipynb: edit there, then `make export`.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .patch_embedding import as_pair, check_range, check_shape, check_sizes
from .training import keep_modes

__all__ = [
    "attention_maps",
    "check_maps",
    "attention_rollout",
    "mean_attention_distance",
    "patch_filters",
    "position_similarity",
]


# --- 8.2 Every map of a model ---


@torch.no_grad()
def attention_maps(model: Any, images: Tensor) -> list[Tensor]:
    """The attention map of every block, `b c h w -> b h n m` each; rows sum to 1.

    Fused attention returns no map, so a hook would catch nothing. The maps are
    computed again from the tokens that enter each block, in eval mode and without
    gradients.

    Args:
        model: A model with `embed` and `blocks`, like those of lessons 6, 9 and 10.
            Each of its modules is put back into the mode it was in.
        images: The images, `b c h w`.
    """
    with keep_modes(model):
        model.eval()
        x, maps = model.embed(images), []
        for block in model.blocks:
            maps.append(block.attn.attention_map(block.norm1(x)))
            x = block(x)
    return maps


# --- 8.4 Rollout ---


def check_maps(maps: Sequence[Tensor]) -> None:
    """Check that these are attention maps of one model, `b h n m` each.

    Args:
        maps: The map of each block; n and m are the same tokens.

    Raises:
        ValueError: If there is no map, if the shapes do not fit each other, or if rows
            do not sum to 1.
    """
    if not len(maps) or not maps[0].numel():
        raise ValueError("at least one map is needed, got none")
    b, n = len(maps[0]), maps[0].shape[-1]
    for weights in maps:
        check_shape("maps", weights, (b, "h", n, n))
        low, high = weights.sum(dim=-1).aminmax()
        if (weights < 0).any() or not 0.98 < low <= high < 1.02:
            raise ValueError(
                "a map must hold shares, with rows that sum to 1, got sums from "
                f"{low:.2f} to {high:.2f} and entries down to {weights.min():.2g}"
            )


def attention_rollout(maps: Sequence[Tensor]) -> Tensor:
    """How much of each input token is in each output token, `b h n m -> b n m`.

    The heads are averaged, and in each block the residual connection counts as much as
    the attention. Rows sum to 1. Abnar and Zuidema 2020, sec. 3.

    Args:
        maps: The map of each block, first block first, each `b h n m`.

    Raises:
        ValueError: If the list is empty, or if an entry is no map (`check_maps`).
    """
    check_maps(maps)
    identity = torch.eye(maps[0].shape[-1]).to(maps[0])
    rollout = identity
    for weights in maps:
        rollout = (weights.mean(dim=1) + identity) / 2 @ rollout
    return rollout


# --- 8.5 How far a head looks ---


def mean_attention_distance(
    maps: Sequence[Tensor],
    patch_size: int | tuple[int, int],
    num_prefix_tokens: int = 1,
    grid_size: tuple[int, int] | None = None,
) -> Tensor:
    """How far every head looks, in pixels, maps `b h n m -> blocks h`.

    The distance between two patches, weighted by attention, is averaged over patches
    and images. Prefix tokens have no place in the image: they are left out, and each
    row is divided by its new sum. Dosovitskiy et al. 2021, sec. 4.5.

    Args:
        maps: The map of each block, each `b h n m`.
        patch_size: Height and width of a patch in pixels; one number means a square.
        num_prefix_tokens: The number of tokens before the patches.
        grid_size: Rows and columns of the patch grid; None means a square.

    Raises:
        ValueError: If the patches do not fill the grid, if a size is not a positive
            integer, or if an entry of `maps` is no map (`check_maps`).
    """
    check_maps(maps)
    check_sizes(or_zero=True, num_prefix_tokens=num_prefix_tokens)
    n = maps[0].shape[-1]
    num_patches = n - num_prefix_tokens
    gh, gw = as_pair(grid_size or max(isqrt(max(num_patches, 0)), 1), "grid_size")
    if gh * gw != num_patches:
        raise ValueError(
            f"maps must have {num_prefix_tokens} + {gh} * {gw} tokens, got {n}"
        )
    ph, pw = as_pair(patch_size, "patch_size")
    y, x = torch.meshgrid(ph * torch.arange(gh), pw * torch.arange(gw), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=1).to(maps[0])
    distance = (places[:, None] - places).norm(dim=-1)
    means = []
    for weights in maps:
        patches = weights[..., num_prefix_tokens:, num_prefix_tokens:]
        patches = patches / patches.sum(dim=-1, keepdim=True)
        means.append((patches * distance).sum(dim=-1).mean(dim=(0, 2)))
    return torch.stack(means)


# --- 8.6 What the first layer asks ---


def patch_filters(kernels: Tensor, num_filters: int) -> Tensor:
    """The main directions of a patch embedding, `d c p p -> k c p p`, each of length 1.

    These are the principal components of `proj.weight`, in order of variance. Their
    signs are arbitrary; here the entry with the largest size is positive. Dosovitskiy
    et al. 2021, fig. 7 left.

    Args:
        kernels: The weight of the patch embedding, `d c p p`.
        num_filters: The number of directions, `k`.

    Raises:
        ValueError: If the kernels are not `d c p p`, or if `num_filters` is not a
            positive integer or exceeds the number of directions.
    """
    check_shape("kernels", kernels, ("d", "c", "p", "p"))
    check_sizes(num_filters=num_filters)
    wide = torch.promote_types(kernels.dtype, torch.float32)  # half has no SVD
    rows = kernels.detach().flatten(1).to(wide)
    check_range(1, min(rows.shape), num_filters=num_filters)
    *_, directions = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False)
    main = directions[:num_filters]
    largest = main.gather(1, main.abs().argmax(dim=1, keepdim=True))
    return (main * largest.sign()).view(num_filters, *kernels.shape[1:]).to(kernels)


# --- 8.7 Who is whose neighbour ---


def position_similarity(
    position: Tensor, grid_size: tuple[int, int], num_prefix_tokens: int = 1
) -> Tensor:
    """The cosine between all places, `1 n d -> (gh gw) gh gw`: a tile for each patch.

    Dosovitskiy et al. 2021, fig. 7 centre.

    Args:
        position: The position table, `1 n d`.
        grid_size: Rows and columns of the patch grid.
        num_prefix_tokens: The number of rows before those of the patches; they are left
            out.

    Raises:
        ValueError: If the table does not have the shape that prefix and grid give.
    """
    check_sizes(num_prefix_tokens=num_prefix_tokens, or_zero=True)
    gh, gw = as_pair(grid_size, "grid_size")
    check_shape("position", position, (1, num_prefix_tokens + gh * gw, "d"))
    rows = F.normalize(position.detach()[0, num_prefix_tokens:], dim=-1)
    return (rows @ rows.T).unflatten(1, (gh, gw))
