"""Lesson 10. T2T-ViT.

T2T-ViT makes its tokens in three steps: each step gathers neighbours into overlapping
windows, and between two steps a small attention layer mixes them. Then a deep and
narrow ViT reads the tokens.

Printed from notebooks/10_t2t.ipynb: edit there, then `make export`.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.fx import wrap
from torch.nn import functional as F

from .encoder_block import Mlp
from .patch_embedding import (
    as_pair,
    check_images,
    check_range,
    check_shape,
    check_sizes,
)
from .vision_transformer import Backbone, init_weights, linear_head

__all__ = [
    "Split",
    "as_split",
    "split_grid",
    "soft_split",
    "TokenAttention",
    "TokenTransformer",
    "positive_features",
    "linear_attention",
    "random_features",
    "TokenPerformer",
    "TokensToToken",
    "T2TViT",
    "T2T_SIZES",
]


# --- 10.2 The soft split ---

Split = tuple[int, int, int]


def as_split(split: Split) -> Split:
    """Return a split as three Python integers.

    Args:
        split: (kernel, stride, padding), the same on both axes.

    Raises:
        ValueError: If the split is not three numbers, if kernel or stride is not a
            positive integer, or if the padding is not an integer of at least 0.
    """
    try:
        kernel, stride, padding = split
    except (TypeError, ValueError):
        raise ValueError(
            f"a split must be (kernel, stride, padding), got {split!r}"
        ) from None
    check_sizes(kernel=kernel, stride=stride)
    check_sizes(or_zero=True, padding=padding)
    return int(kernel), int(stride), int(padding)


def split_grid(grid_size: tuple[int, int], split: Split) -> tuple[int, int]:
    """Count the rows and columns of windows.

    `floor((side + 2 padding - kernel) / stride) + 1` on each side.

    Args:
        grid_size: Height and width of the image or grid that is cut.
        split: (kernel, stride, padding), the same on both axes.

    Raises:
        ValueError: If a side is too short for one window, if `grid_size` is not one or
            two positive integers, or if `split` is not a split (`as_split`).
    """
    kernel, stride, padding = as_split(split)
    sides = as_pair(grid_size, "grid_size")
    gh, gw = ((side + 2 * padding - kernel) // stride + 1 for side in sides)
    if gh < 1 or gw < 1:
        raise ValueError(
            f"each side must hold a window of {kernel} with padding {padding}, "
            f"got {sides}"
        )
    return gh, gw


def soft_split(x: Tensor, split: Split) -> Tensor:
    """Cut an image into overlapping windows, `b c gh gw -> b n (c kernel kernel)`.

    Torch's `unfold` returns the windows as columns; here each window is a row, a token.
    Yuan et al. 2021, sec. 3.1.

    Args:
        x: Images, or tokens laid out as images, `b c gh gw`.
        split: (kernel, stride, padding) of the windows.

    Raises:
        ValueError: If `x` does not have four axes, or if `split` is not a split
            (`as_split`).
    """
    check_shape("images", x, ("b", "c", "gh", "gw"))
    kernel, stride, padding = as_split(split)
    windows = F.unfold(x, kernel, stride=stride, padding=padding)
    return rearrange(windows, "b ckk n -> b n ckk")


# --- 10.4 The token transformer ---


class TokenAttention(nn.Module):
    """Single-head attention with outputs narrower than its inputs, `b n c -> b n e`.

    A token of c = 147 numbers cannot be added to an output of e = 64, so the residual
    connection starts from the values. The scale comes from c, not from the width of a
    query. Yuan et al. 2021, eq. 1, as released.

    Args:
        in_dim: The width of the tokens that enter, `c`.
        dim: The width of the tokens that are returned, `e`.

    Raises:
        ValueError: If a width is not a positive integer.
    """

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        check_sizes(in_dim=in_dim, dim=dim)
        self.scale = in_dim**-0.5
        self.qkv = nn.Linear(in_dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b n (qkv e) -> qkv b 1 n e", qkv=3)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return (v + self.proj(mixed)).squeeze(1)


class TokenTransformer(nn.Module):
    """A token layer with softmax attention, `b n c -> b n e`.

    The block of lesson 5, except that the residual connection of the attention starts
    from the values and the MLP's hidden layer is as wide as its input.

    Args:
        in_dim: The width of the tokens that enter, `c`.
        dim: The width of the tokens that are returned, `e`.
        drop: The dropout probability in the MLP.
        norm_eps: What both norms add to the variance.

    Raises:
        ValueError: If a width is not a positive integer, or if `drop` or `norm_eps` is
            not between 0 and 1.
    """

    def __init__(
        self, in_dim: int, dim: int, drop: float = 0.0, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        check_sizes(in_dim=in_dim, dim=dim)
        check_range(0, 1, drop=drop, norm_eps=norm_eps)
        self.norm1 = nn.LayerNorm(in_dim, eps=norm_eps)
        self.attn = TokenAttention(in_dim=in_dim, dim=dim)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim=dim, hidden_dim=dim, drop=drop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


# --- 10.5 Attention without the matrix ---


def positive_features(x: Tensor, w: Tensor) -> Tensor:
    """Positive features whose products approximate a kernel, `b n e, f e -> b n f`.

    `exp(w x - |x|^2 / 2) / sqrt(f)`, Choromanski et al. 2021, lemma 1. If the rows of
    `w` are drawn from a normal distribution, the products are `exp(q k)` on average.

    Args:
        x: Queries or keys, `b n e`.
        w: The random directions, one per row, `f e`.

    Raises:
        ValueError: If `x` is not a sequence of tokens, or if the rows of `w` do not
            have the width of a token.
    """
    check_shape("x", x, ("b", "n", "e"))
    check_shape("w", w, ("f", x.shape[2]))
    half_square = (x * x).sum(dim=-1, keepdim=True) / 2
    projected = torch.einsum("b n e, f e -> b n f", x, w)
    return (projected - half_square).exp() / w.shape[0] ** 0.5


def linear_attention(q: Tensor, k: Tensor, v: Tensor, eps: float = 1e-8) -> Tensor:
    """Attention without a matrix of weights, `b n f, b m f, b m e -> b n e`.

    `phi(q) (phi(k)^T v)`, divided by the row sums of `phi(q) phi(k)^T`. Because of the
    bracket the cost is linear in the number of tokens. Choromanski et al. 2021, eq. 4.

    Args:
        q: The features of the queries, `b n f`, all positive.
        k: The features of the keys, `b m f`, all positive.
        v: The values, `b m e`.
        eps: Added to the row sums. T2T-ViT's eps of 1e-8 underflows to 0 in float16.

    Raises:
        ValueError: If the shapes of `q`, `k` and `v` do not fit together.
    """
    check_shape("q", q, ("b", "n", "f"))
    check_shape("k", k, (q.shape[0], "m", q.shape[2]))
    check_shape("v", v, (q.shape[0], k.shape[1], "e"))
    summary = torch.einsum("b m f, b m e -> b f e", k, v)
    total = torch.einsum("b n f, b f -> b n", q, k.sum(dim=1))
    mixed = torch.einsum("b n f, b f e -> b n e", q, summary)
    return mixed / (total[..., None] + eps)


def random_features(dim: int) -> Tensor:
    """Draw e / 2 orthogonal rows of length sqrt(e / 2), a table `f e`.

    These are T2T-ViT's rows. With them the products of `positive_features` are, for
    short vectors, a Gaussian kernel on average, not `exp(q k)`.


    Args:
        dim: The width of the keys and queries, `e`.

    Raises:
        ValueError: If the width is not an integer of at least 2.
    """
    check_sizes(dim=dim)
    count, dtype = dim // 2, torch.get_default_dtype()
    if count < 1:
        raise ValueError(f"dim must be at least 2, one row for two numbers, got {dim}")
    exact = torch.promote_types(dtype, torch.float32)  # half precision is too coarse
    rows = nn.init.orthogonal_(torch.empty(count, dim, dtype=exact))
    return (rows * count**0.5).to(dtype)


class TokenPerformer(nn.Module):
    """A token layer with linear attention, `b n c -> b n e`.

    The token performer of T2T-ViT's code. One matrix gives keys, queries and values, in
    this order, with a bias; the queries are not scaled. `w` is never trained: it holds
    the directions of the features (`random_features`). In training the released code
    always drops 10 % here and ignores its `drop_rate`; this layer uses `drop`.

    Args:
        in_dim: The width of the tokens that enter, `c`.
        dim: The width of the tokens that are returned, `e`.
        drop: The dropout probability after the attention and in the MLP.
        norm_eps: What both norms add to the variance.

    Raises:
        ValueError: If `in_dim` is not a positive integer, if `dim` is not an integer of
            at least 2, or if `drop` or `norm_eps` is not between 0 and 1.
    """

    def __init__(
        self, in_dim: int, dim: int, drop: float = 0.0, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        check_sizes(in_dim=in_dim, dim=dim)
        check_range(0, 1, drop=drop, norm_eps=norm_eps)
        self.norm1 = nn.LayerNorm(in_dim, eps=norm_eps)
        self.kqv = nn.Linear(in_dim, 3 * dim)
        self.w = nn.Parameter(random_features(dim), requires_grad=False)
        self.proj = nn.Linear(dim, dim)
        self.drop = nn.Dropout(drop)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim), nn.Dropout(drop)
        )

    def forward(self, x: Tensor) -> Tensor:
        k, q, v = self.kqv(self.norm1(x)).chunk(3, dim=-1)
        k, q = positive_features(k, self.w), positive_features(q, self.w)
        x = v + self.drop(self.proj(linear_attention(q, k, v)))
        return x + self.mlp(self.norm2(x))


# --- 10.7 Tokens to token ---

_TOKEN_LAYERS = {"performer": TokenPerformer, "transformer": TokenTransformer}
# `torch.fx` cannot look into these functions: it records each call as one step.
_STEPS = wrap("rearrange"), wrap("check_images"), wrap("check_shape")


class TokensToToken(nn.Module):
    """Turn pixels into tokens in overlapping steps, `b c h w -> b (gh gw) d`.

    After each split but the last, a token layer mixes the windows, and its tokens are
    laid out as an image again. The sides may have any length that the splits can cut;
    pixels beyond the last full window are ignored. Yuan et al. 2021, sec. 3.1, fig. 3.

    Args:
        img_size: Height and width of the images in pixels; one number means a square.
        tokens: The kind of token layer, `performer` or `transformer`.
        token_dim: The width of the tokens between two splits, `e`.
        in_chans: The number of channels of an image.
        embed_dim: The width of the tokens that are returned, `d`.
        splits: (kernel, stride, padding) of each split; the first one cuts pixels.
        drop: The dropout probability of the token layers.
        norm_eps: What the norms of the token layers add to the variance.

    Raises:
        ValueError: For any other value of `tokens`; if there is no split, or one that
            `as_split` refuses; if a width or size is not a positive integer; if `drop`
            or `norm_eps` is not between 0 and 1; for images of a different size.
        TypeError: If the images are not a tensor of floating-point numbers.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int],
        tokens: str,
        token_dim: int,
        in_chans: int,
        embed_dim: int,
        splits: Sequence[Split],
        drop: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_sizes(token_dim=token_dim, in_chans=in_chans, embed_dim=embed_dim)
        if tokens not in list(_TOKEN_LAYERS):
            raise ValueError(f"tokens must be performer or transformer, got {tokens!r}")
        if not isinstance(splits, Sequence) or not splits:
            raise ValueError(f"splits must contain at least one split, got {splits!r}")
        self.img_size, self.in_chans = as_pair(img_size, "img_size"), int(in_chans)
        self.splits = tuple(as_split(split) for split in splits)
        self.grids, width = [self.img_size], self.in_chans
        for i, split in enumerate(self.splits, 1):
            self.grids.append(split_grid(self.grids[-1], split))
            width *= split[0] ** 2
            if i < len(self.splits):
                layer = _TOKEN_LAYERS[tokens](width, token_dim, drop, norm_eps)
                self.add_module(f"attention{i}", layer)
                width = token_dim
        self.grid_size = self.grids[-1]
        self.project = nn.Linear(width, embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, self.in_chans, self.img_size)
        x = images
        for i, split in enumerate(self.splits[:-1], 1):
            x = getattr(self, f"attention{i}")(soft_split(x, split))
            x = rearrange(x, "b (gh gw) e -> b e gh gw", gh=self.grids[i][0])
        return self.project(soft_split(x, self.splits[-1]))


# --- 10.8 The whole model ---


class T2TViT(Backbone):
    """Class scores of images, `b c h w -> b num_classes`.

    Yuan et al. 2021: a ViT with a different stem (`tokens_to_token`), with fixed
    sinusoids as positions, and with a narrower, deeper backbone. Parameters are named
    as in the release. The scores of a head are scaled by the width of the head; the
    release does the same unless it is built with `pretrained=True`. The arguments that
    are not listed here are those of `VisionTransformer`, with the release's defaults.

    Args:
        img_size: Height and width of the images in pixels; one number means a square.
        tokens: The kind of token layer, `performer` or `transformer`.
        token_dim: The width of the tokens between two splits.
        splits: (kernel, stride, padding) of each split, the first of which cuts pixels;
            a token layer follows each split but the last.
        drop_rate: The dropout probability of tokens, attention outputs and MLPs, also
            in the token layers.

    Raises:
        ValueError: For any other value of `tokens`, for sizes and rates that a layer
            refuses, and for images of a different shape.
        TypeError: If the images are not a tensor of floating-point numbers.
    """

    stem_name = "tokens_to_token"

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        tokens: str = "performer",
        token_dim: int = 64,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 384,
        depth: int = 14,
        num_heads: int = 6,
        mlp_ratio: float = 3.0,
        qkv_bias: bool = False,
        splits: Sequence[Split] = ((7, 4, 2), (3, 2, 1), (3, 2, 1)),
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        check_range(0, 1, drop_rate=drop_rate)
        stem = TokensToToken(
            img_size=img_size,
            tokens=tokens,
            token_dim=token_dim,
            in_chans=in_chans,
            embed_dim=embed_dim,
            splits=splits,
            drop=drop_rate,
            norm_eps=norm_eps,
        )
        super().__init__(
            stem,
            num_prefix_tokens=1,
            position="sinusoid",
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
        return self.head(self.forward_features(images)[:, 0])


# --- 10.10 The published sizes ---

_COLUMNS = ("tokens", "embed_dim", "depth", "num_heads", "mlp_ratio")
T2T_SIZES: dict[str, dict[str, str | int | float]] = {
    name: dict(zip(_COLUMNS, sizes, strict=True))
    for name, sizes in {
        "t2t_vit_7": ("performer", 256, 7, 4, 2.0),
        "t2t_vit_10": ("performer", 256, 10, 4, 2.0),
        "t2t_vit_12": ("performer", 256, 12, 4, 2.0),
        "t2t_vit_14": ("performer", 384, 14, 6, 3.0),
        "t2t_vit_19": ("performer", 448, 19, 7, 3.0),
        "t2t_vit_24": ("performer", 512, 24, 8, 3.0),
        "t2t_vit_t_14": ("transformer", 384, 14, 6, 3.0),
        "t2t_vit_t_19": ("transformer", 448, 19, 7, 3.0),
        "t2t_vit_t_24": ("transformer", 512, 24, 8, 3.0),
        "t2t_vit_14_resnext": ("performer", 384, 14, 32, 3.0),
        "t2t_vit_14_wide": ("performer", 768, 4, 12, 3.0),
    }.items()
}
