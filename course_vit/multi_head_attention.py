"""Lesson 4. Multi-head attention.

Several questions at once: every head looks at the picture through its own slice of the
channels, and one last linear map puts the answers together.

Letters: `b` images, `n` tokens that ask, `m` tokens that are looked at, `d` width of a
token, `h` heads, `e` width of one head (d divided by h).

Printed from notebooks/04_multi_head_attention.ipynb: edit there, then `make export`.
"""

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .self_attention import attention_weights

__all__ = [
    "MultiHeadAttention",
]


# --- 4.3 The layer ---


class MultiHeadAttention(nn.Module):
    """Mix the tokens of one image, `b n d -> b n d`.

    Vaswani et al. 2017, sec. 3.2.2; Dosovitskiy et al. 2021, appendix A, eq. 5 to 8.
    `qkv` and `proj` are the names in the published checkpoints, so their weights load
    without a rename table. The scale comes from the width of one head, not of the
    model. Raises ValueError if dim is not a multiple of num_heads, or tokens have
    another width.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        if dim < 1 or num_heads < 1 or dim % num_heads:
            got = f"{dim=}, {num_heads=}"
            raise ValueError(f"dim must be a positive multiple of num_heads, got {got}")
        self.dim, self.num_heads = dim, num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def split_heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values of the same tokens, each `b n d -> b h n e`."""
        if x.ndim != 3 or x.shape[-1] != self.dim:
            rule = f"(b, n, {self.dim})"
            raise ValueError(f"expected tokens {rule}, got shape {tuple(x.shape)}")
        pattern = "b n (three h e) -> three b h n e"
        return rearrange(self.qkv(x), pattern, three=3, h=self.num_heads).unbind(0)

    def attention_map(self, x: Tensor) -> Tensor:
        """Who looks at whom, `b n d -> b h n m`; every row sums to 1."""
        q, k, _ = self.split_heads(x)
        return attention_weights(q, k)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split_heads(x)
        drop = self.attn_drop.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        return self.proj_drop(self.proj(rearrange(mixed, "b h n e -> b n (h e)")))
