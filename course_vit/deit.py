"""Lesson 9. DeiT.

A second token listens to a teacher: two tokens, two heads, two losses.

Letters: `b` images, `n` tokens, `d` width of a token, `k` classes.

Printed from notebooks/09_deit.ipynb: edit there, then `make export`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .patch_embedding import PatchEmbedding
from .vision_transformer import VIT_SIZES, Backbone, init_weights

__all__ = [
    "DistilledVisionTransformer",
    "soft_distillation",
    "DistillationLoss",
    "DEIT_SIZES",
    "DISTILLED_SIZES",
]


# --- 9.3 Two tokens, two heads ---


class DistilledVisionTransformer(Backbone):
    """Class scores from two tokens, `b c h w -> b num_classes`.

    In training the model returns the pair (class logits, distillation logits), in eval
    mode it returns their mean. Touvron et al. 2021, sec. 4; the order of the tokens,
    `[class, distillation, patches]`, is that of DeiT's code, not of the paper's figure
    2. Parameters are named as in timm and DeiT. The arguments are those of
    `VisionTransformer` without `pool`, because each head reads its own token.

    Raises:
        ValueError: The same as `VisionTransformer`.
    """

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
        super().__init__(
            PatchEmbedding(img_size, patch_size, in_chans, embed_dim),
            num_prefix_tokens=2,
            position=position,
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
        self.dist_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.head = nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        self.head_dist = (
            nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        )
        init_weights(self)

    def prefix_tokens(self) -> list[Tensor]:
        """The class token, then the distillation token, each `1 1 d`."""
        return [*super().prefix_tokens(), self.dist_token]

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

    It is 0 for equal logits. Hinton et al. 2015, sec. 2; Touvron et al. 2021, eq. 2.

    Args:
        student: The student's logits, `b k`.
        teacher: The teacher's logits, `b k`.
        tau: The temperature, above 0, by which both logits are divided.
        reduction: What the sum is divided by: `batchmean`, the number of images (the
            definition), or `numel`, images times classes (DeiT's released code, k times
            smaller).

    Raises:
        ValueError: For any other value of `reduction`.
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
    """Train the class token on labels and the distillation token on a teacher.

    `(1 - alpha) * cross entropy + alpha * distillation`, Touvron et al. 2021, eq. 2 and
    3. It is called like any loss of the course, `loss(images, outputs, labels)`, and
    asks the teacher about the images that the student saw.

    Args:
        teacher: Any function from images to logits, `b c h w -> b k`. A module is put
            into eval mode and asked without gradients.
        kind: What the distillation token learns: `hard`, the teacher's decision as a
            second label, or `soft`, its probabilities at temperature `tau`.
        alpha: The share of the teacher in the loss, from 0 to 1.
        tau: The temperature of the soft loss, above 0.
        reduction: The division of the soft loss, as in `soft_distillation`.
        smoothing: Label smoothing of the true labels, from 0 to 1; the teacher's labels
            are never smoothed.

    Raises:
        ValueError: For any other value of `kind`, and if `alpha` or `tau` is out of
            range; when called, if the logits of teacher and student differ in shape.
        TypeError: When called with outputs that are not a pair.
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
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
        if tau <= 0.0:
            raise ValueError(f"tau must be above 0, got {tau}")
        self.teacher, self.kind, self.alpha, self.tau = teacher, kind, alpha, tau
        self.reduction, self.smoothing = reduction, smoothing

    @torch.no_grad()
    def ask_teacher(self, images: Tensor) -> Tensor:
        """The teacher's logits, `b c h w -> b k`; its running statistics are kept."""
        if isinstance(self.teacher, nn.Module):
            self.teacher.eval()
        return self.teacher(images)

    def __call__(
        self, images: Tensor, outputs: tuple[Tensor, Tensor], labels: Tensor
    ) -> Tensor:
        if not isinstance(outputs, tuple):
            got = type(outputs).__name__
            raise TypeError(
                f"expected the pair of logits of a model in training mode, got {got}"
            )
        by_class, by_distillation = outputs
        teacher = self.ask_teacher(images)
        if teacher.shape != by_distillation.shape:
            got, shape = tuple(teacher.shape), tuple(by_distillation.shape)
            raise ValueError(
                f"teacher logits must have the student's shape {shape}, got {got}"
            )
        true = F.cross_entropy(by_class, labels, label_smoothing=self.smoothing)
        if self.kind == "hard":
            taught = F.cross_entropy(by_distillation, teacher.argmax(dim=-1))
        else:
            taught = soft_distillation(
                by_distillation, teacher, tau=self.tau, reduction=self.reduction
            )
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
