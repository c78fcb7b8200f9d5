"""Lesson 5. Encoder block.

A Transformer block has two steps. Attention mixes the tokens, then an MLP works on each
token alone, and each step adds its result to the tokens that it read.

Printed from notebooks/05_encoder_block.ipynb: edit there, then `make export`.
"""

from math import inf

from torch import Tensor, nn
from torch.nn import functional as F

from .multi_head_attention import MultiHeadAttention
from .patch_embedding import check_range, check_sizes

__all__ = [
    "Mlp",
    "DropPath",
    "drop_path_rates",
    "Block",
]


# --- 5.2 Think: the MLP ---


class Mlp(nn.Module):
    """Process each token alone, `b n d -> b n d`: widen, GELU, narrow.

    Dosovitskiy et al. 2021, sec. 3.1. The GELU is torch's exact one; JAX defaults to
    the tanh form.

    Args:
        dim: The width of a token, `d`.
        hidden_dim: The width between the two layers.
        drop: The dropout probability, in training, after the GELU and after the second
            layer.

    Raises:
        ValueError: If a width is not a positive integer, or `drop` is not between 0
            and 1.
    """

    def __init__(self, dim: int, hidden_dim: int, drop: float = 0.0) -> None:
        super().__init__()
        check_sizes(dim=dim, hidden_dim=hidden_dim)
        check_range(0, 1, drop=drop)
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


# --- 5.7 Drop a whole branch ---


class DropPath(nn.Module):
    """Drop a residual branch for some images, only in training, `b ... -> b ...`.

    Stochastic depth, Huang et al. 2016, sec. 3: dropout on one number per image, so the
    branches that survive are divided by the probability of surviving. The paper draws
    once per batch and skips the work; here the branch is computed in any case, so this
    regularises but saves no time.

    Args:
        drop_prob: The probability of dropping the branch of an image.

    Raises:
        ValueError: If `drop_prob` is not between 0 and 1.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        check_range(0, 1, drop_prob=drop_prob)
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        one_per_image = x.new_ones((x.shape[0],) + (1,) * (x.ndim - 1))
        return x * F.dropout(one_per_image, self.drop_prob)


def drop_path_rates(drop_path_rate: float, depth: int) -> list[float]:
    """The drop probability of each block, rising evenly from 0 in the first block.

    Counted as in timm and DeiT; in Huang et al. 2016, eq. 4, block 1 already has a
    nonzero rate. The rates are plain floats, so a model can be built on the meta
    device, where tensors have no values.

    Args:
        drop_path_rate: The probability in the last block; a single block gets 0.
        depth: The number of blocks.

    Raises:
        ValueError: If the rate is not between 0 and 1, or the depth is not a positive
            integer.
    """
    check_sizes(depth=depth)
    check_range(0, 1, drop_path_rate=drop_path_rate)
    rate, steps = float(drop_path_rate), max(int(depth) - 1, 1)
    return [rate * block / steps for block in range(depth)]


# --- 5.8 The block ---


class Block(nn.Module):
    """Attention, then an MLP, each with a residual connection, `b n d -> b n d`.

    Dosovitskiy et al. 2021, eq. 2 and 3. The norms are inside the residual branches
    (pre-norm): the sum itself is never normalised, so an unmodified path runs through
    all blocks.

    Args:
        dim: The width of a token, `d`, a multiple of `num_heads`.
        num_heads: The number of attention heads.
        mlp_ratio: The hidden width of the MLP divided by `dim`.
        qkv_bias: Whether queries, keys and values have a bias.
        drop: The dropout probability after the attention and in the MLP.
        attn_drop: The dropout probability of attention weights.
        drop_path: The probability of dropping a whole branch of an image.
        norm_eps: What both norms add to the variance: 1e-6 in the published ViT, 1e-5
            in torch's default and in T2T-ViT.

    Raises:
        ValueError: If the attention, the MLP or `DropPath` refuses a size or a rate, or
            `norm_eps` is not between 0 and 1.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        check_range(0, 1, norm_eps=norm_eps)
        check_range(0, inf, mlp_ratio=mlp_ratio)
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = MultiHeadAttention(
            dim=dim,
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            attn_drop=attn_drop,
            proj_drop=drop,
        )
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim=dim, hidden_dim=int(dim * mlp_ratio), drop=drop)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
