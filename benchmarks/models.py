"""The models that `peers.py` compares: each of ours, and its peers of the same size."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

import course_vit

NAMES = {
    "ViT-Ti/16": "vit_tiny_patch16_224",
    "ViT-S/16": "vit_small_patch16_224",
    "DeiT-Ti, distilled": "deit_tiny_distilled_patch16_224",
    "T2T-7": "t2t_vit_7",
    "T2T-14": "t2t_vit_14",
}


def peers(name: str) -> dict[str, Callable[[], nn.Module]]:
    """What builds a model of the course and each of its peers, ours first."""
    build = partial(course_vit.create_model, NAMES[name])
    models = {"course_vit": build}
    if name.startswith("T2T"):
        return models | {"T2T-ViT as released": partial(PlainT2T, build)}
    with torch.device("meta"):
        ours = build()
    size = {"embed_dim": ours.norm.normalized_shape[0], "depth": len(ours.blocks)}
    size["heads"] = ours.blocks[0].attn.num_heads
    models["timm"] = partial(of_timm, NAMES[name])
    models["transformers"] = partial(of_transformers, "distilled" in name, **size)
    if not name.startswith("DeiT"):
        models["torchvision"] = partial(of_torchvision, **size)
        models["vit-pytorch"] = partial(of_vit_pytorch, **size)
        models["nn.TransformerEncoder"] = partial(OfTorch, **size)
    return models


def of_timm(name):
    import timm

    return timm.create_model(name)


def of_transformers(distilled, embed_dim, depth, heads):
    from transformers import (
        DeiTConfig,
        DeiTForImageClassificationWithTeacher,
        ViTConfig,
        ViTForImageClassification,
    )

    options = {"hidden_size": embed_dim, "num_hidden_layers": depth}
    options |= {"num_attention_heads": heads, "intermediate_size": 4 * embed_dim}
    options |= {"num_labels": 1000, "layer_norm_eps": 1e-6}
    if distilled:
        return DeiTForImageClassificationWithTeacher(DeiTConfig(**options))
    return ViTForImageClassification(ViTConfig(**options))


def of_torchvision(embed_dim, depth, heads):
    from torchvision.models import VisionTransformer

    return VisionTransformer(224, 16, depth, heads, embed_dim, 4 * embed_dim)


def of_vit_pytorch(embed_dim, depth, heads, **options):
    from vit_pytorch import ViT

    size = {"dim": embed_dim, "depth": depth, "heads": heads, "mlp_dim": 4 * embed_dim}
    options = {"image_size": 224, "patch_size": 16, "num_classes": 1000} | options
    return ViT(**size | options)


class OfTorch(nn.Module):
    """The simplest ViT made of torch's own layers."""

    def __init__(self, embed_dim, depth, heads):
        super().__init__()
        self.patches = nn.Conv2d(3, embed_dim, kernel_size=16, stride=16)
        self.first = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.position = nn.Parameter(torch.zeros(1, 197, embed_dim))
        options = {"batch_first": True, "norm_first": True, "dropout": 0.0}
        layer = nn.TransformerEncoderLayer(
            embed_dim, heads, 4 * embed_dim, activation="gelu", **options
        )
        self.encoder = nn.TransformerEncoder(
            layer, depth, nn.LayerNorm(embed_dim), enable_nested_tensor=False
        )
        self.head = nn.Linear(embed_dim, 1000)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1) + self.position
        return self.head(self.encoder(x)[:, 0])


class PlainT2T(nn.Module):
    """T2T-ViT with the performer, step by step as in the released code.

    It works on the layers of a model of ours, so only the computation differs:
    attention is written out, and the performer repeats its sums to the full width.
    """

    def __init__(self, build):
        super().__init__()
        self.layers = build()

    def forward(self, images):
        m = self.layers
        stem = m.tokens_to_token
        x = F.unfold(images, 7, stride=4, padding=2).transpose(1, 2)
        for layer in (stem.attention1, stem.attention2):
            x = self.performer(layer, x)
            b, n, e = x.shape
            side = int(n**0.5)
            x = x.transpose(1, 2).reshape(b, e, side, side)
            x = F.unfold(x, 3, stride=2, padding=1).transpose(1, 2)
        x = torch.cat([m.cls_token.expand(len(x), -1, -1), stem.project(x)], dim=1)
        x = x + m.pos_embed
        for block in m.blocks:
            x = x + self.attention(block.attn, block.norm1(x))
            x = x + block.mlp(block.norm2(x))
        return m.head(m.norm(x)[:, 0])

    def performer(self, layer, x):
        k, q, v = torch.split(layer.kqv(layer.norm1(x)), layer.proj.in_features, dim=-1)
        k, q = self.features(k, layer.w), self.features(q, layer.w)
        total = torch.einsum("bti,bi->bt", q, k.sum(dim=1)).unsqueeze(dim=2)
        summary = torch.einsum("bin,bim->bnm", v, k)
        total = total.repeat(1, 1, v.shape[-1]) + 1e-8
        x = v + layer.proj(torch.einsum("bti,bni->btn", q, summary) / total)
        return x + layer.mlp(layer.norm2(x))

    def features(self, x, w):
        half_square = (x * x).sum(dim=-1, keepdim=True).repeat(1, 1, len(w)) / 2
        projected = torch.einsum("bti,mi->btm", x, w)
        return torch.exp(projected - half_square) / len(w) ** 0.5

    def attention(self, layer, x):
        b, n, d = x.shape
        heads = layer.num_heads
        qkv = layer.qkv(x).reshape(b, n, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = ((q @ k.transpose(-2, -1)) * (d // heads) ** -0.5).softmax(dim=-1)
        return layer.proj((weights @ v).transpose(1, 2).reshape(b, n, d))
