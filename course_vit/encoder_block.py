"""Lesson 5. Encoder block.

Look around, then think: attention mixes the tokens, an MLP works on each one alone, and
what they find is added to what was there. Stack a dozen of these and you have the
Transformer.

Letters: `b` images, `n` tokens, `d` width of a token.

Printed from notebooks/05_encoder_block.ipynb: edit there, then `make export`.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from .multi_head_attention import MultiHeadAttention

__all__ = [
    "Mlp",
    "DropPath",
    "drop_path_rates",
    "Block",
]


# --- 5.2 Think: the MLP ---


class Mlp(nn.Module):
    """Each token thinks for itself, `b n d -> b n d`: widen, GELU, narrow.

    Dosovitskiy et al. 2021, sec. 3.1. `drop` acts after either layer. The GELU is
    torch's exact one; JAX defaults to the tanh form. Raises ValueError unless both
    widths are positive.
    """

    def __init__(self, dim: int, hidden_dim: int, drop: float = 0.0) -> None:
        super().__init__()
        if dim < 1 or hidden_dim < 1:
            raise ValueError(f"widths must be positive, got {dim=}, {hidden_dim=}")
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


# --- 5.7 Drop a whole branch ---


class DropPath(nn.Module):
    """Drop a residual branch for some images, only in training, `b ... -> b ...`.

    Stochastic depth, Huang et al. 2016, sec. 3. Dropout on one number per image, so
    survivors are divided by their chance. The paper draws once per batch and can skip
    the work; here the branch is computed all the same: this regularises, it saves no
    time. Raises ValueError unless 0 <= drop_prob <= 1.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= drop_prob <= 1.0:
            raise ValueError(f"drop_prob must be between 0 and 1, got {drop_prob}")
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        one_per_image = x.new_ones(len(x), *[1] * (x.ndim - 1))
        return x * F.dropout(one_per_image, self.drop_prob)


def drop_path_rates(drop_path_rate: float, depth: int) -> list[float]:
    """The drop probability of each block: 0 in the first, evenly up to the last.

    As timm and DeiT count; Huang et al. 2016, eq. 4, give block 1 a step already. A
    single block gets 0. Plain floats, so that models can be built without tensors.
    Raises ValueError unless 0 <= drop_path_rate <= 1 and depth >= 1.
    """
    if not 0.0 <= drop_path_rate <= 1.0 or depth < 1:
        rule = "drop_path_rate must be between 0 and 1 and depth at least 1"
        raise ValueError(f"{rule}, got {drop_path_rate=}, {depth=}")
    return [drop_path_rate * block / max(depth - 1, 1) for block in range(depth)]


# --- 5.8 The block ---


class Block(nn.Module):
    """Look around, then think; each finding is added, `b n d -> b n d`.

    Dosovitskiy et al. 2021, eq. 2 and 3. The norms stand on the branches (pre-norm):
    the sum itself is never normalised, so a straight path leads from the last block to
    the first. eps is 1e-6 as in the published ViT; torch's default and T2T-ViT's is
    1e-5. Raises ValueError for sizes and rates that its parts refuse.
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
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = MultiHeadAttention(dim, num_heads, qkv_bias, attn_drop, drop)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
