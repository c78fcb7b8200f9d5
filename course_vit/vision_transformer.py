"""Lesson 6. Vision Transformer.

From pixels to class scores: patches, a class token, positions, a stack of blocks, a
norm and one linear layer.

Letters: `b` images, `c` channels, `n` tokens, `d` width of a token, `gh gw` rows and
columns of the patch grid.

Printed from notebooks/06_vision_transformer.ipynb: edit there, then `make export`.
"""

import torch
from einops import repeat
from torch import Tensor, nn

from .encoder_block import Block, drop_path_rates
from .patch_embedding import PatchEmbedding
from .position_encoding import sincos_2d_encoding, sinusoid_encoding

__all__ = [
    "position_table",
    "init_weights",
    "VisionTransformer",
    "VIT_SIZES",
]


# --- 6.2 Positions for all ---


def position_table(
    position: str, grid_size: tuple[int, int], num_prefix_tokens: int, dim: int
) -> nn.Parameter | None:
    """The table added to the tokens, `1 n d`, or None; fixed ones are frozen.

    `learned` starts at zero until `init_weights`. `sinusoid` counts the prefix tokens
    as the first positions (as T2T-ViT), `sincos_2d` gives them zeros (as MAE), `none`
    has no table. Raises ValueError for any other word.
    """
    num_tokens = num_prefix_tokens + grid_size[0] * grid_size[1]
    if position == "learned":
        return nn.Parameter(torch.zeros(1, num_tokens, dim))
    if position == "sinusoid":
        table = sinusoid_encoding(num_tokens, dim)
    elif position == "sincos_2d":
        nowhere = torch.zeros(num_prefix_tokens, dim)
        table = torch.cat([nowhere, sincos_2d_encoding(grid_size, dim)])
    elif position == "none":
        return None
    else:
        words = "learned, sinusoid, sincos_2d or none"
        raise ValueError(f"position must be {words}, got {position!r}")
    return nn.Parameter(table[None], requires_grad=False)


# --- 6.3 Assembling ---


def init_weights(model: nn.Module) -> None:
    """Draw every trainable weight afresh.

    Matrices, class token and positions: normal with std 0.02 (DeiT, timm; the cut of
    `trunc_normal_` at +-2 is a hundred std away). Patch kernels: std fan_in ** -0.5
    (the paper's JAX code, torchvision). Biases: 0. Norms stay at 1 and 0.
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


class VisionTransformer(nn.Module):
    """Class scores of images, `b c h w -> b num_classes`.

    Dosovitskiy et al. 2021, sec. 3.1, eq. 1 to 4; parameters are named as in timm.
    `pool="token"` reads the class token; `pool="mean"` has none and averages the
    patches. `position` is learned, sinusoid, sincos_2d or none; `num_classes=0` gives
    the pooled features. Raises ValueError for other words, and for sizes that a part
    refuses.
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
        super().__init__()
        if pool not in ("token", "mean"):
            raise ValueError(f"pool must be token or mean, got {pool!r}")
        self.patch_embed = PatchEmbedding(img_size, patch_size, in_chans, embed_dim)
        self.grid_size = self.patch_embed.grid_size
        self.num_prefix_tokens = 1 if pool == "token" else 0
        self.cls_token = (
            nn.Parameter(torch.zeros(1, 1, embed_dim)) if pool == "token" else None
        )
        self.pos_embed = position_table(
            position, self.grid_size, self.num_prefix_tokens, embed_dim
        )
        self.pos_drop = nn.Dropout(drop_rate)
        sizes = (embed_dim, num_heads, mlp_ratio, qkv_bias, drop_rate, attn_drop_rate)
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.ModuleList(Block(*sizes, rate, norm_eps) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=norm_eps)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        init_weights(self)

    def embed(self, images: Tensor) -> Tensor:
        """Tokens with their positions, before the first block, `b c h w -> b n d`."""
        x = self.patch_embed(images)
        if self.cls_token is not None:
            cls_token = repeat(self.cls_token, "1 1 d -> b 1 d", b=x.shape[0])
            x = torch.cat([cls_token, x], dim=1)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        return self.pos_drop(x)

    def forward_features(self, images: Tensor) -> Tensor:
        """All tokens after the last norm, `b c h w -> b n d`."""
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

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
