"""Lesson 6. Vision Transformer.

From pixels to class scores: we put the parts of lessons 1 to 5 together, add one token
that speaks for the image, and the Vision Transformer is complete.

Printed from notebooks/06_vision_transformer.ipynb: edit there, then `make export`.
"""

from typing import Any

import torch
from einops import repeat
from torch import Tensor, nn
from torch.fx import wrap

from .encoder_block import Block, drop_path_rates
from .patch_embedding import PatchEmbedding, check_range, check_sizes
from .position_encoding import sincos_2d_encoding, sinusoid_encoding

__all__ = [
    "position_table",
    "linear_head",
    "init_weights",
    "Backbone",
    "VisionTransformer",
    "VIT_SIZES",
]


# --- 6.3 Assembling ---


def position_table(
    position: str, grid_size: tuple[int, int], num_prefix_tokens: int, dim: int
) -> nn.Parameter | None:
    """The table that is added to the tokens, `1 n d`, or None; a fixed one is frozen.

    Args:
        position: `learned` (zeros until `init_weights` draws it), `sinusoid` (the
            prefix tokens take the first positions, as in T2T-ViT), `sincos_2d` (the
            prefix tokens get zeros, as in MAE) or `none` (no table).
        grid_size: Rows and columns of the patch grid.
        num_prefix_tokens: The number of tokens before the patches.
        dim: The width of a token, `d`.

    Raises:
        ValueError: For any other value of `position`.
    """
    num_tokens = num_prefix_tokens + grid_size[0] * grid_size[1]
    if position == "none":
        return None
    if position == "learned":
        return nn.Parameter(torch.zeros(1, num_tokens, dim))
    if position == "sinusoid":
        table = sinusoid_encoding(num_tokens, dim)
    elif position == "sincos_2d":
        prefix = torch.zeros(num_prefix_tokens, dim)
        table = torch.cat([prefix, sincos_2d_encoding(grid_size, dim)])
    else:
        raise ValueError(
            f"position must be learned, sinusoid, sincos_2d or none, got {position!r}"
        )
    return nn.Parameter(table[None], requires_grad=False)


def linear_head(embed_dim: int, num_classes: int) -> nn.Module:
    """The layer from features to class scores, `b d -> b num_classes`.

    Without classes it is the identity.

    Args:
        embed_dim: The width of a token, `d`.
        num_classes: The number of classes; 0 returns the features as they are.

    Raises:
        ValueError: If `num_classes` is neither 0 nor a positive integer.
    """
    check_sizes(or_zero=True, num_classes=num_classes)
    return nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()


def init_weights(model: nn.Module) -> None:
    """Initialise every trainable weight.

    Matrices, prefix tokens and positions: normal with std 0.02 (DeiT, timm; the
    function `trunc_normal_` cuts at +-2, which is 100 stds away). Patch kernels:
    std fan_in ** -0.5 (the paper's JAX code, torchvision). Biases: 0. Norms stay at
    1 and 0.

    Args:
        model: A new model, whose norms are still at 1 and 0.
    """
    for name, parameter in model.named_parameters():
        if "norm" in name or not parameter.requires_grad:
            continue
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            is_kernel = parameter.ndim == 4
            std = parameter[0].numel() ** -0.5 if is_kernel else 0.02
            nn.init.trunc_normal_(parameter, std=std)


# You can skip this: when `torch.fx` records a model, each call of `repeat` is one step.
_STEPS = (wrap("repeat"),)


class _Scriptable(nn.Module):
    """A model that gives `torch.jit.script` a copy of itself without einops."""

    def __prepare_scriptable__(self) -> nn.Module:
        from course_vit.kit.model_tools import without_einops

        return without_einops(self)


class Backbone(_Scriptable):
    """From images to features, `b c h w -> b n d`; ViT, DeiT and T2T-ViT share it.

    A stem turns the image into tokens, prefix tokens go in front, positions are added,
    the blocks mix the tokens, and a norm ends the stack. A model adds one or two heads
    and draws the weights. Dosovitskiy et al. 2021, eq. 1 to 4; parameters are named as
    in timm. The arguments that are not listed here are those of `VisionTransformer`.

    Args:
        stem: The layer from images to patch tokens, `b c h w -> b (gh gw) d`, with a
            `grid_size`.
        num_prefix_tokens: The number of tokens before the patches; the first of them is
            the class token.
    """

    stem_name = "patch_embed"  # what the published checkpoints call the stem

    def __init__(
        self,
        stem: Any,
        *,
        num_prefix_tokens: int,
        position: str,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        qkv_bias: bool,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
        norm_eps: float,
    ) -> None:
        super().__init__()
        check_range(0, 1, drop_rate=drop_rate, attn_drop_rate=attn_drop_rate)
        self.add_module(self.stem_name, stem)
        grid, prefix = stem.grid_size, num_prefix_tokens
        self.grid_size, self.num_prefix_tokens = grid, prefix
        cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.cls_token = cls_token if prefix else None
        self.pos_embed = position_table(position, grid, prefix, embed_dim)
        self.pos_drop = nn.Dropout(drop_rate)
        self.blocks = nn.ModuleList(
            Block(
                dim=embed_dim,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                drop=drop_rate,
                attn_drop=attn_drop_rate,
                drop_path=rate,
                norm_eps=norm_eps,
            )
            for rate in map(float, drop_path_rates(drop_path_rate, depth))
        )
        self.norm = nn.LayerNorm(embed_dim, eps=norm_eps)

    def prefix_tokens(self) -> list[Tensor]:
        """The learned tokens that go before the patches, each `1 1 d`."""
        return [] if self.cls_token is None else [self.cls_token]

    def embed(self, images: Tensor) -> Tensor:
        """Tokens with their positions, before the first block, `b c h w -> b n d`."""
        x = getattr(self, self.stem_name)(images)
        for token in reversed(self.prefix_tokens()):
            x = torch.cat([repeat(token, "1 1 d -> b 1 d", b=x.shape[0]), x], dim=1)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        return self.pos_drop(x)

    def forward_features(self, images: Tensor) -> Tensor:
        """All tokens after the last norm, `b c h w -> b n d`."""
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class VisionTransformer(Backbone):
    """Class scores of images, `b c h w -> b num_classes`.

    Dosovitskiy et al. 2021, sec. 3.1, eq. 1 to 4; parameters are named as in timm.

    Args:
        img_size: Height and width of the images in pixels; one number means a square.
        patch_size: Height and width of a patch in pixels; one number means a square.
        in_chans: The number of channels of an image.
        num_classes: The number of classes; 0 means that there is no head and the model
            returns the `d` pooled features.
        embed_dim: The width of a token, `d`, a multiple of `num_heads`.
        depth: The number of blocks.
        num_heads: The number of attention heads in each block.
        mlp_ratio: The hidden width of the MLPs divided by `embed_dim`.
        qkv_bias: Whether queries, keys and values have a bias.
        pool: What the head reads: `token`, the class token, or `mean`, the mean of the
            patch tokens; with `mean` the model has no class token.
        position: The position table: `learned`, `sinusoid`, `sincos_2d` or `none`, as
            in `position_table`.
        drop_rate: The dropout probability of tokens, attention outputs and MLPs.
        attn_drop_rate: The dropout probability of attention weights.
        drop_path_rate: The probability of dropping a branch in the last block; it rises
            from 0 in the first (`drop_path_rates`).
        norm_eps: What every norm adds to the variance.

    Raises:
        ValueError: For any other value of `pool` or `position`, and for sizes and rates
            that a layer refuses.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        pool: str = "token",
        position: str = "learned",
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
    ) -> None:
        if pool not in ("token", "mean"):
            raise ValueError(f"pool must be token or mean, got {pool!r}")
        super().__init__(
            PatchEmbedding(img_size, patch_size, in_chans, embed_dim),
            num_prefix_tokens=1 if pool == "token" else 0,
            position=position,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate,
            drop_path_rate=drop_path_rate,
            norm_eps=norm_eps,
        )
        self.head = linear_head(embed_dim, num_classes)
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.forward_features(images)
        return self.head(x.mean(dim=1) if self.cls_token is None else x[:, 0])


# --- 6.5 The published sizes ---

_COLUMNS = ("img_size", "patch_size", "embed_dim", "depth", "num_heads")
VIT_SIZES: dict[str, dict[str, int]] = {
    name: dict(zip(_COLUMNS, sizes, strict=True))
    for name, sizes in {
        "vit_tiny_patch16_224": (224, 16, 192, 12, 3),
        "vit_tiny_patch32_224": (224, 32, 192, 12, 3),
        "vit_small_patch16_224": (224, 16, 384, 12, 6),
        "vit_small_patch32_224": (224, 32, 384, 12, 6),
        "vit_base_patch8_224": (224, 8, 768, 12, 12),
        "vit_base_patch16_224": (224, 16, 768, 12, 12),
        "vit_base_patch16_384": (384, 16, 768, 12, 12),
        "vit_base_patch32_224": (224, 32, 768, 12, 12),
        "vit_large_patch14_224": (224, 14, 1024, 24, 16),
        "vit_large_patch16_224": (224, 16, 1024, 24, 16),
        "vit_large_patch32_224": (224, 32, 1024, 24, 16),
        "vit_huge_patch14_224": (224, 14, 1280, 32, 16),
        "vit_huge_patch16_224": (224, 16, 1280, 32, 16),
        "vit_huge_patch32_224": (224, 32, 1280, 32, 16),
    }.items()
}
