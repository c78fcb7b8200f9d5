"""Lesson 3. Self-attention.

Every token looks at every token, itself included: it asks a question, compares the
question with what each token offers, and receives a weighted mean of what they give.

Printed from notebooks/03_self_attention.ipynb: edit there, then `make export`.
"""

import torch
from torch import Tensor

__all__ = [
    "check_attention",
    "attention_weights",
    "attention",
]


# --- 3.7 Which looks are allowed ---


def check_attention(q: Tensor, k: Tensor, mask: Tensor | None = None) -> None:
    """Refuse queries, keys and a mask that do not belong together.

    Args:
        q: The queries, `... n e`.
        k: The keys, `... m e`.
        mask: Where a query may look, boolean, `... n m`; None allows every key.

    Raises:
        TypeError: If the mask is not a boolean tensor.
        ValueError: If the shapes do not belong together, or if there is no key.
    """
    got = f"q {tuple(q.shape)}, k {tuple(k.shape)}"
    if q.ndim < 2 or k.ndim < 2 or q.shape[-1] == 0 or k.shape[-2] == 0:
        raise ValueError(
            f"expected q (..., n, e) and k (..., m, e), m and e above 0, got {got}"
        )
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"q and k must have the same width, got {got}")
    try:
        lead = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    except RuntimeError:
        raise ValueError(
            f"q and k must agree before the last two axes, got {got}"
        ) from None
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise TypeError(
            f"mask must be a boolean tensor, True where a query may look, got {kind}"
        )
    scores = (*lead, q.shape[-2], k.shape[-2])
    try:
        mask.expand(scores)
    except RuntimeError:
        raise ValueError(
            f"mask must fit the scores {scores}, got {tuple(mask.shape)}"
        ) from None


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention weights, `... n e, ... m e -> ... n m`; every row sums to 1.

    `softmax(q k^T / sqrt(e))`, Vaswani et al. 2017, eq. 1.

    Args:
        q: The queries, `... n e`; `e` is the width of one head.
        k: The keys, `... m e`.
        mask: Where a query may look, boolean, `... n m`; None allows every key. True
            means "may look", as in `scaled_dot_product_attention`; in torch's
            `nn.MultiheadAttention` it means the opposite.

    Raises:
        TypeError: If the mask is not a boolean tensor.
        ValueError: If the shapes do not belong together (`check_attention`), or a query
            may look at nothing.
    """
    check_attention(q, k, mask)
    scores = torch.einsum("... n e, ... m e -> ... n m", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
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
        ValueError: The same as `attention_weights`, and if there is not one value per
            key.
    """
    weights = attention_weights(q, k, mask)
    if v.shape[-2:-1] != k.shape[-2:-1]:
        raise ValueError(
            f"expected one value per key, got k {tuple(k.shape)}, v {tuple(v.shape)}"
        )
    return torch.einsum("... n m, ... m e -> ... n e", weights, v)
