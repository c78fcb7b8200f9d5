"""Lesson 3. Self-attention.

Every token looks at every token: it asks a question, compares it with what the others
offer, and takes home a weighted mean of what they give.

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

    `softmax(q k^T / sqrt(e))`, Vaswani et al. 2017, eq. 1; e is the width of one head.
    `mask` is boolean, `... n m`, True = may look, as in `scaled_dot_product_attention`;
    torch's `nn.MultiheadAttention` means the opposite. Raises TypeError if the mask is
    not boolean, ValueError if queries and keys differ in width or a query may look at
    nothing.
    """
    if q.shape[-1] != k.shape[-1]:
        got = f"q {tuple(q.shape)}, k {tuple(k.shape)}"
        raise ValueError(f"queries and keys must have the same width, got {got}")
    scores = torch.einsum("... n e, ... m e -> ... n m", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        if mask.dtype != torch.bool:
            rule = "mask must be boolean, True where a query may look"
            raise TypeError(f"{rule}, got {mask.dtype}")
        blocked = ~mask.any(dim=-1)
        if blocked.any():
            rows = blocked.nonzero()[:3].tolist()
            got = f"got a mask with only False in rows {rows}"
            raise ValueError(f"every query must look somewhere, {got}")
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1)


# --- 3.8 Attention ---


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Each query's weighted mean of the values, `... n e, ... m e, ... m e -> ... n e`.

    Vaswani et al. 2017, eq. 1. The values may be wider or narrower than the keys.
    Raises as `attention_weights`.
    """
    weights = attention_weights(q, k, mask)
    return torch.einsum("... n m, ... m e -> ... n e", weights, v)
