"""Lesson 10. T2T-ViT.

Tokens to token: neighbouring pixels are gathered into overlapping windows, three times,
with a small attention layer between, before a deep and narrow ViT reads them.

Letters: `b` images, `c` channels, `n m` query and key tokens, `d` width of a token, `e`
width inside a token layer, `f` random features, `gh gw` rows and columns of the grid of
tokens.

Printed from notebooks/10_t2t.ipynb: edit there, then `make export`.
"""

from collections.abc import Sequence

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from .encoder_block import Block, Mlp, drop_path_rates
from .position_encoding import sinusoid_encoding
from .vision_transformer import init_weights

__all__ = [
    "Split",
    "split_grid",
    "soft_split",
    "TokenAttention",
    "TokenTransformer",
    "positive_features",
    "linear_attention",
    "TokenPerformer",
    "TokensToToken",
    "T2TViT",
    "T2T_SIZES",
]


# --- 10.2 The soft split ---

Split = tuple[int, int, int]


def split_grid(grid_size: tuple[int, int], split: Split) -> tuple[int, int]:
    """Rows and columns of windows; a split is (kernel, stride, padding).

    `floor((side + 2 padding - kernel) / stride) + 1` on each side. Raises ValueError if
    a side is shorter than one window.
    """
    kernel, stride, padding = split
    gh, gw = ((side + 2 * padding - kernel) // stride + 1 for side in grid_size)
    if gh < 1 or gw < 1:
        rule = f"each side must hold a window of {kernel} with padding {padding}"
        raise ValueError(f"{rule}, got {tuple(grid_size)}")
    return gh, gw


def soft_split(x: Tensor, split: Split) -> Tensor:
    """Overlapping windows as tokens, `b c gh gw -> b n (c kernel kernel)`.

    Yuan et al. 2021, sec. 3.1. Torch's `unfold` gives the windows as columns: they are
    turned into rows.
    """
    kernel, stride, padding = split
    windows = F.unfold(x, kernel, stride=stride, padding=padding)
    return rearrange(windows, "b ckk n -> b n ckk")


# --- 10.4 The token transformer ---


class TokenAttention(nn.Module):
    """One head for tokens that leave narrower than they came, `b n c -> b n e`.

    Yuan et al. 2021, eq. 1, as released. A token of c = 147 numbers cannot be added to
    an answer of e = 64: the path around is the values'. The scale comes from c, not
    from the width of a query.
    """

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.scale = in_dim**-0.5
        self.qkv = nn.Linear(in_dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b n (qkv e) -> qkv b 1 n e", qkv=3)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return (v + self.proj(mixed)).squeeze(1)


class TokenTransformer(nn.Module):
    """A token layer with softmax attention, `b n c -> b n e`.

    The block of lesson 5, but for the path around the attention; the MLP keeps its
    width.
    """

    def __init__(
        self, in_dim: int, dim: int, drop: float = 0.0, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_dim, eps=norm_eps)
        self.attn = TokenAttention(in_dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, dim, drop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


# --- 10.5 Attention without the matrix ---


def positive_features(x: Tensor, w: Tensor) -> Tensor:
    """Features whose products stand for a kernel, `b n e, f e -> b n f`, all above 0.

    `exp(w x - |x|^2 / 2) / sqrt(f)`, Choromanski et al. 2021, lemma 1. Rows of `w`
    drawn from a normal give `exp(q k)` on average; T2T-ViT's have length sqrt(f) and
    give a Gaussian kernel instead.
    """
    half_square = (x * x).sum(dim=-1, keepdim=True) / 2
    projected = torch.einsum("b n e, f e -> b n f", x, w)
    return (projected - half_square).exp() / len(w) ** 0.5


def linear_attention(q: Tensor, k: Tensor, v: Tensor, eps: float = 1e-8) -> Tensor:
    """Weighted means without the weights, `b n f, b m f, b m e -> b n e`.

    `phi(q) (phi(k)^T v)`, divided by what each row of `phi(q) phi(k)^T` sums to: the
    bracket makes the cost linear in the tokens. Choromanski et al. 2021, eq. 4. In
    float16 the eps of T2T-ViT is 0.
    """
    summary = torch.einsum("b m f, b m e -> b f e", k, v)
    total = torch.einsum("b n f, b f -> b n", q, k.sum(dim=1))
    mixed = torch.einsum("b n f, b f e -> b n e", q, summary)
    return mixed / (total[..., None] + eps)


class TokenPerformer(nn.Module):
    """A token layer with linear attention, `b n c -> b n e`.

    The token performer of T2T-ViT's code. One matrix gives keys, queries, values, in
    this order, with a bias; queries are not scaled. `w`, the random features, is never
    trained: e / 2 orthogonal rows of length sqrt(e / 2). The released code drops 10 %
    here in training whatever its `drop_rate`; this layer drops what it is told to.
    """

    def __init__(
        self, in_dim: int, dim: int, drop: float = 0.0, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_dim, eps=norm_eps)
        self.kqv = nn.Linear(in_dim, 3 * dim)
        w = nn.init.orthogonal_(torch.empty(dim // 2, dim)) * (dim // 2) ** 0.5
        self.w = nn.Parameter(w, requires_grad=False)
        self.proj = nn.Linear(dim, dim)
        self.drop = nn.Dropout(drop)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        layers = nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(*layers, nn.Dropout(drop))

    def forward(self, x: Tensor) -> Tensor:
        k, q, v = self.kqv(self.norm1(x)).chunk(3, dim=-1)
        k, q = positive_features(k, self.w), positive_features(q, self.w)
        x = v + self.drop(self.proj(linear_attention(q, k, v)))
        return x + self.mlp(self.norm2(x))


# --- 10.7 Tokens to token ---

_TOKEN_LAYERS = {"performer": TokenPerformer, "transformer": TokenTransformer}


class TokensToToken(nn.Module):
    """From pixels to tokens in overlapping steps, `b c h w -> b (gh gw) d`.

    Yuan et al. 2021, sec. 3.1, fig. 3. After each split but the last, a token layer
    mixes the windows and its tokens are laid out as an image again. Any size that the
    splits can cut works, oblong ones too; a rim that the floor rule cuts off is not
    seen. Raises ValueError for another word than performer or transformer, for no
    split, and for images of another size.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int],
        tokens: str,
        token_dim: int,
        in_chans: int,
        embed_dim: int,
        splits: Sequence[Split],
        drop: float,
        norm_eps: float,
    ) -> None:
        super().__init__()
        if tokens not in _TOKEN_LAYERS or not splits:
            rule = "tokens must be performer or transformer, with at least one split"
            raise ValueError(f"{rule}, got {tokens!r}, {splits=}")
        self.in_chans, self.splits = in_chans, tuple(splits)
        self.img_size = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.grids, width = [self.img_size], in_chans
        for i, split in enumerate(self.splits, 1):
            self.grids.append(split_grid(self.grids[-1], split))
            width *= split[0] ** 2
            if i < len(self.splits):
                layer = _TOKEN_LAYERS[tokens](width, token_dim, drop, norm_eps)
                self.add_module(f"attention{i}", layer)
                width = token_dim
        self.project = nn.Linear(width, embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        height, width = self.img_size
        if images.ndim != 4 or images.shape[1:] != (self.in_chans, height, width):
            rule = f"(b, {self.in_chans}, {height}, {width})"
            raise ValueError(f"expected images {rule}, got shape {tuple(images.shape)}")
        x = images
        for i, split in enumerate(self.splits[:-1], 1):
            x = getattr(self, f"attention{i}")(soft_split(x, split))
            x = rearrange(x, "b (gh gw) e -> b e gh gw", gh=self.grids[i][0])
        return self.project(soft_split(x, self.splits[-1]))


# --- 10.8 The whole model ---


class T2TViT(nn.Module):
    """Class scores of images, `b c h w -> b num_classes`.

    Yuan et al. 2021. A ViT with another beginning (`tokens_to_token`), a fixed
    sinusoid that counts the class token, and a narrower, deeper backbone; also: no bias
    in q, k, v, eps 1e-5. Parameters are named as in the release. Heads are scaled by
    their own width; the release does otherwise only when built with `pretrained=True`.
    Raises ValueError for sizes that a part refuses.
    """

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
        super().__init__()
        stem = (img_size, tokens, token_dim, in_chans, embed_dim, splits)
        self.tokens_to_token = TokensToToken(*stem, drop_rate, norm_eps)
        self.grid_size = self.tokens_to_token.grids[-1]
        self.num_prefix_tokens = 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        num_tokens = 1 + self.grid_size[0] * self.grid_size[1]
        table = sinusoid_encoding(num_tokens, embed_dim)
        self.pos_embed = nn.Parameter(table[None], requires_grad=False)
        self.pos_drop = nn.Dropout(drop_rate)
        sizes = (embed_dim, num_heads, mlp_ratio, qkv_bias, drop_rate, attn_drop_rate)
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.ModuleList(Block(*sizes, rate, norm_eps) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=norm_eps)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        init_weights(self)

    def embed(self, images: Tensor) -> Tensor:
        """Tokens with their positions, before the first block, `b c h w -> b n d`."""
        x = self.tokens_to_token(images)
        token = repeat(self.cls_token, "1 1 d -> b 1 d", b=x.shape[0])
        x = torch.cat([token, x], dim=1)
        return self.pos_drop(x + self.pos_embed)

    def forward_features(self, images: Tensor) -> Tensor:
        """All tokens after the last norm, `b c h w -> b n d`."""
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.forward_features(images)[:, 0])


# --- 10.12 The published sizes ---

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
