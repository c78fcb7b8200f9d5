"""Lesson 4. Multi-head attention.

One attention map gives one answer. With several heads a token asks several questions at
once: each head looks at the picture through its own slice of the channels, and one last
linear map combines what the heads found.

Printed from notebooks/04_multi_head_attention.ipynb: edit there, then `make export`.
"""

from einops import rearrange
from torch import Tensor, nn
from torch.fx import wrap
from torch.nn import functional as F

from .patch_embedding import check_range, check_shape, check_sizes
from .self_attention import attention_weights

__all__ = [
    "MultiHeadAttention",
]


# --- 4.3 The layer ---

# You can skip this: tools that record a model (`torch.fx`) keep each call whole.
_STEPS = wrap("rearrange"), wrap("check_shape")


class MultiHeadAttention(nn.Module):
    """Mix the tokens of each image, `b n d -> b n d`.

    Each head attends within its own slice of the channels, and its scores are divided
    by the square root of the head's width, not of the model's. Vaswani et al. 2017,
    sec. 3.2.2; Dosovitskiy et al. 2021, appendix A, eq. 5 to 8. `qkv` and `proj` are
    the names in the published checkpoints, so their weights load without a rename
    table.

    Args:
        dim: The width of a token, `d`, a multiple of `num_heads`.
        num_heads: The number of heads, `h`.
        qkv_bias: Whether queries, keys and values have a bias.
        attn_drop: The probability of dropping an attention weight in training.
        proj_drop: The probability of dropping a number of the result in training.

    Raises:
        ValueError: If `dim` is not a multiple of `num_heads`, a size is not a positive
            integer, a probability is not between 0 and 1, or the tokens do not have the
            shape `b n dim`.
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
        check_sizes(dim=dim, num_heads=num_heads)
        check_range(0, 1, attn_drop=attn_drop, proj_drop=proj_drop)
        if dim % num_heads:
            raise ValueError(
                "dim must be a positive multiple of num_heads, "
                f"got {dim=}, {num_heads=}"
            )
        self.dim, self.num_heads = int(dim), int(num_heads)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def split_heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values of the same tokens, each `b n d -> b h n e`."""
        check_shape("tokens", x, ("b", "n", self.dim))
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
