"""Lesson 9. DeiT.

A second token listens to a teacher: two tokens, two heads, two losses.

Letters: `b` images, `n` tokens, `d` width of a token, `k` classes.

Printed from notebooks/09_deit.ipynb: edit there, then `make export`.
"""

from collections.abc import Callable
from typing import Any

import torch
from einops import repeat
from torch import Tensor, nn
from torch.nn import functional as F

from .vision_transformer import (
    VIT_SIZES,
    VisionTransformer,
    init_weights,
    position_table,
)

__all__ = [
    "DistilledVisionTransformer",
    "soft_distillation",
    "DistillationLoss",
    "DEIT_SIZES",
    "DISTILLED_SIZES",
]


# --- 9.3 Two tokens, two heads ---


class DistilledVisionTransformer(VisionTransformer):
    """Class scores by two tokens, `b c h w -> b num_classes`.

    Touvron et al. 2021, sec. 4; the tokens stand as `[class, distillation, patches]`,
    as in DeiT's code, not as in the paper's figure 2. In training it gives the pair
    (class logits, distillation logits), in eval their mean. Parameters are named as in
    timm and DeiT. Raises ValueError as `VisionTransformer`.
    """

    cls_token: nn.Parameter

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        position: str = "learned",
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
    ) -> None:
        sizes = (embed_dim, depth, num_heads, mlp_ratio, qkv_bias, "token", position)
        rates = (drop_rate, attn_drop_rate, drop_path_rate, norm_eps)
        super().__init__(img_size, patch_size, in_chans, num_classes, *sizes, *rates)
        self.num_prefix_tokens = 2
        self.dist_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = position_table(position, self.grid_size, 2, embed_dim)
        self.head_dist = (
            nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        )
        init_weights(self)

    def embed(self, images: Tensor) -> Tensor:
        """Two tokens, then the patches, with their positions, `b c h w -> b n d`."""
        x = self.patch_embed(images)
        tokens = torch.cat([self.cls_token, self.dist_token], dim=1)
        x = torch.cat([repeat(tokens, "1 two d -> b two d", b=x.shape[0]), x], dim=1)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        return self.pos_drop(x)

    def forward(self, images: Tensor) -> Any:
        x = self.forward_features(images)
        by_class, by_distillation = self.head(x[:, 0]), self.head_dist(x[:, 1])
        if self.training:
            return by_class, by_distillation
        return (by_class + by_distillation) / 2


# --- 9.4 Learning from a teacher's doubts ---


def soft_distillation(
    student: Tensor, teacher: Tensor, tau: float = 3.0, reduction: str = "batchmean"
) -> Tensor:
    """KL(teacher || student) at temperature `tau`, times tau squared, `b k, b k -> ()`.

    Hinton et al. 2015, sec. 2; Touvron et al. 2021, eq. 2. 0 for equal logits. The sum
    is divided by the images (`batchmean`, the definition) or by all numbers (`numel`,
    DeiT's released code: k times smaller). Raises ValueError for another word.
    """
    if reduction not in ("batchmean", "numel"):
        raise ValueError(f"reduction must be batchmean or numel, got {reduction!r}")
    log_p = F.log_softmax(teacher / tau, dim=-1)
    log_q = F.log_softmax(student / tau, dim=-1)
    total = F.kl_div(log_q, log_p, reduction="sum", log_target=True)
    count = len(student) if reduction == "batchmean" else student.numel()
    return total * tau**2 / count


# --- 9.5 The loss of DeiT ---


class DistillationLoss:
    """Labels for the class token, a teacher for the other: called as every loss.

    `(1 - alpha) * cross entropy + alpha * distillation`, Touvron et al. 2021, eq. 2 and
    3. `hard` takes the teacher's answer as a label, `soft` its probabilities at `tau`.
    The teacher is any function from images to logits; a module is asked in eval mode
    and without gradient, and sees the images the student saw. `smoothing` is of the
    labels only. Raises ValueError for other words, for alpha outside 0 to 1, for a
    teacher with other classes; TypeError if the outputs are not a pair.
    """

    def __init__(
        self,
        teacher: Callable[[Tensor], Tensor],
        kind: str = "hard",
        alpha: float = 0.5,
        tau: float = 3.0,
        reduction: str = "batchmean",
        smoothing: float = 0.0,
    ) -> None:
        if kind not in ("hard", "soft"):
            raise ValueError(f"kind must be hard or soft, got {kind!r}")
        if not 0.0 <= alpha <= 1.0 or tau <= 0.0:
            rule = "alpha must be between 0 and 1 and tau above 0"
            raise ValueError(f"{rule}, got {alpha=}, {tau=}")
        self.teacher, self.kind, self.alpha, self.tau = teacher, kind, alpha, tau
        self.reduction, self.smoothing = reduction, smoothing

    @torch.no_grad()
    def ask_teacher(self, images: Tensor) -> Tensor:
        """The teacher's logits, `b c h w -> b k`; its running statistics stay."""
        if isinstance(self.teacher, nn.Module):
            self.teacher.eval()
        return self.teacher(images)

    def __call__(
        self, images: Tensor, outputs: tuple[Tensor, Tensor], labels: Tensor
    ) -> Tensor:
        if not isinstance(outputs, tuple):
            advice = "a distilled model gives it in training mode"
            got = type(outputs).__name__
            raise TypeError(f"a pair of logits is needed, {advice}; got {got}")
        by_class, by_distillation = outputs
        teacher = self.ask_teacher(images)
        if teacher.shape != by_distillation.shape:
            got = f"{tuple(teacher.shape)} and {tuple(by_distillation.shape)}"
            raise ValueError(f"teacher and student must answer alike, got {got}")
        true = F.cross_entropy(by_class, labels, label_smoothing=self.smoothing)
        if self.kind == "hard":
            taught = F.cross_entropy(by_distillation, teacher.argmax(dim=-1))
        else:
            options = self.tau, self.reduction
            taught = soft_distillation(by_distillation, teacher, *options)
        return (1 - self.alpha) * true + self.alpha * taught


# --- 9.8 The published sizes ---

_SHAPES = (
    ("tiny", "patch16_224"),
    ("small", "patch16_224"),
    ("base", "patch16_224"),
    ("base", "patch16_384"),
)
DEIT_SIZES: dict[str, dict[str, int]] = {
    f"deit_{size}_{patch}": VIT_SIZES[f"vit_{size}_{patch}"] for size, patch in _SHAPES
}
DISTILLED_SIZES: dict[str, dict[str, int]] = {
    f"deit_{size}_distilled_{patch}": VIT_SIZES[f"vit_{size}_{patch}"]
    for size, patch in _SHAPES
}
