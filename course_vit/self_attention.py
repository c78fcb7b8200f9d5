"""Lesson 3. Self-attention.

Every token looks at every token: it asks a question, compares it with what the others
offer, and receives a weighted mean of what they give.

Letters: `b` images, `h` heads, `n` queries, `m` keys, `d` width of a token, `e` width
of one head, which is the width of a query and of a key.

Printed from notebooks/03_self_attention.ipynb: edit there, then `make export`.
"""

import torch
from torch import Tensor

__all__ = [
    "attention_weights",
    "attention",
]


# --- 3.7 Who may look where ---


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """Who looks at whom, `... n e, ... m e -> ... n m`; every row sums to 1.

    `softmax(q k^T / sqrt(e))`, Vaswani et al. 2017, eq. 1.

    Args:
        q: The queries, `... n e`; `e` is the width of one head.
        k: The keys, `... m e`.
        mask: Where a query may look, boolean, `... n m`; None allows every key. True
            means "may look", as in `scaled_dot_product_attention`; in torch's
            `nn.MultiheadAttention` it means the opposite.

    Raises:
        TypeError: If the mask is not boolean.
        ValueError: If queries and keys differ in width, or a query may look at nothing.
    """
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(
            f"q and k must have the same width, got {tuple(q.shape)}, {tuple(k.shape)}"
        )
    scores = torch.einsum("... n e, ... m e -> ... n m", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        if mask.dtype != torch.bool:
            raise TypeError(
                f"mask must be boolean, True where a query may look, got {mask.dtype}"
            )
        blocked = ~mask.any(dim=-1)
        if blocked.any():
            rows = blocked.nonzero()[:3].tolist()
            raise ValueError(
                f"every query must look somewhere, the mask is all False in rows {rows}"
            )
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1)


# --- 3.8 Attention ---


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Each query's weighted mean of the values, `... n e, ... m e, ... m e -> ... n e`.

    Vaswani et al. 2017, eq. 1.

    Args:
        q: The queries, `... n e`.
        k: The keys, `... m e`.
        v: The values, one per key; they may be wider or narrower than the keys.
        mask: Where a query may look, as in `attention_weights`.

    Raises:
        TypeError: The same as `attention_weights`.
        ValueError: The same as `attention_weights`.
    """
    weights = attention_weights(q, k, mask)
    return torch.einsum("... n m, ... m e -> ... n e", weights, v)
