"""Lesson 9. DeiT.

A Vision Transformer gets a second token that learns from a teacher instead of the
labels: two tokens, two heads, two losses. You build this model, DeiT, and measure when
the teacher helps.

Printed from notebooks/09_deit.ipynb: edit there, then `make export`.
"""

from collections.abc import Callable
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .patch_embedding import (
    PatchEmbedding,
    check_range,
    check_shape,
    check_sizes,
)
from .training import class_labels, keep_modes, logits_of
from .vision_transformer import (
    VIT_SIZES,
    Backbone,
    init_weights,
    linear_head,
)

__all__ = [
    "DistilledVisionTransformer",
    "check_soft",
    "check_logits",
    "soft_distillation",
    "NO_LABEL",
    "labelled_cross_entropy",
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
        TypeError: The same as `VisionTransformer`.
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
        self.head = linear_head(embed_dim, num_classes)
        self.head_dist = linear_head(embed_dim, num_classes)
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


def check_soft(tau: float, reduction: str) -> None:
    """Refuse settings that the soft loss cannot use.

    Args:
        tau: The temperature, above 0.
        reduction: `batchmean` or `numel`.

    Raises:
        ValueError: If `tau` is not a finite number above 0, or for any other value of
            `reduction`.
    """
    check_range(0, inf, tau=tau)
    if tau == 0:
        raise ValueError(f"tau must be above 0, got {tau}")
    if reduction not in ("batchmean", "numel"):
        raise ValueError(f"reduction must be batchmean or numel, got {reduction!r}")


def check_logits(student: Tensor, teacher: Tensor) -> None:
    """Refuse teacher logits from which a student cannot learn.

    Args:
        student: The student's logits, `b k`.
        teacher: The teacher's logits, `b k`.

    Raises:
        ValueError: If the two are not tables of the same shape, if there is no image,
            or if the teacher's logits contain nan.
    """
    check_shape("student's logits", student, ("b", "k"))
    check_sizes(images=len(student))
    check_shape("teacher's logits", teacher, tuple(student.shape))
    if teacher.isnan().any():
        raise ValueError(
            "the teacher's logits contain nan: run the teacher alone on these images "
            "to find out why"
        )


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
        ValueError: If `check_logits` or `check_soft` refuses an argument.
    """
    check_logits(student, teacher)
    check_soft(tau=tau, reduction=reduction)
    log_p = F.log_softmax(teacher / tau, dim=-1)
    log_q = F.log_softmax(student / tau, dim=-1)
    total = F.kl_div(log_q, log_p, reduction="sum", log_target=True)
    count = len(student) if reduction == "batchmean" else student.numel()
    return total * tau**2 / count


# --- 9.5 The loss of DeiT ---

NO_LABEL = -1


def labelled_cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy over the images that have a label, `b k, b -> ()`.

    If no image has a label, the loss and its gradient are 0.

    Args:
        logits: The logits, `b k`.
        labels: The class of each image, `b`, from 0 to k - 1 or `NO_LABEL`; or, for
            blended images, the probability of each class, `b k`.
        smoothing: The label smoothing, as in `cross_entropy` of lesson 7.

    Raises:
        ValueError: If the labels do not fit the logits (`class_labels`).
    """
    if labels.is_floating_point() and labels.shape == logits.shape:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    has_label = labels.long() != NO_LABEL
    labels = class_labels(labels.masked_fill(~has_label, 0), logits)
    if not has_label.any():
        return 0 * logits.sum()  # the mean over no image would be nan
    return F.cross_entropy(
        logits[has_label], labels[has_label], label_smoothing=smoothing
    )


class DistillationLoss:
    """Train the class token on labels and the distillation token on a teacher.

    `(1 - alpha) * cross entropy + alpha * distillation`, Touvron et al. 2021, eq. 2 and
    3. It is called like any loss of the course, `loss(images, outputs, labels)`, and
    asks the teacher about the images that the student saw.

    Args:
        teacher: Any function from images to logits, `b c h w -> b k`, or to an object
            that holds them as `.logits`. A module is asked in eval mode and without
            gradients; afterwards each of its modules has the mode it had before.
        kind: What the distillation token learns: `hard` (the class that the teacher
            predicts, as a second label) or `soft` (its probabilities at
            temperature `tau`).
        alpha: The share of the teacher in the loss, from 0 to 1.
        tau: The temperature of the soft loss, above 0.
        reduction: The division of the soft loss, as in `soft_distillation`.
        smoothing: Label smoothing of the true labels, from 0 to 1; the teacher's labels
            are never smoothed.

    Raises:
        ValueError: For any other value of `kind` or `reduction`, and if `alpha`, `tau`
            or `smoothing` is out of range; when called, if the labels do not fit, or if
            `check_logits` refuses the teacher's logits.
        TypeError: If the teacher is not a function or returns no logits (`logits_of`);
            when called with outputs that are not a pair.
    """

    def __init__(
        self,
        teacher: Callable[[Tensor], Any],
        kind: str = "hard",
        alpha: float = 0.5,
        tau: float = 3.0,
        reduction: str = "batchmean",
        smoothing: float = 0.0,
    ) -> None:
        if not callable(teacher):
            raise TypeError(f"teacher must be a model or a function, got {teacher!r}")
        if kind not in ("hard", "soft"):
            raise ValueError(f"kind must be hard or soft, got {kind!r}")
        check_range(0, 1, alpha=alpha, smoothing=smoothing)
        check_soft(tau, reduction)
        self.teacher, self.kind, self.alpha, self.tau = teacher, kind, alpha, tau
        self.reduction, self.smoothing = reduction, smoothing

    @torch.no_grad()
    def ask_teacher(self, images: Tensor) -> Tensor:
        """Return the teacher's logits, `b c h w -> b k`, and leave it unchanged."""
        if not isinstance(self.teacher, nn.Module):
            return logits_of(self.teacher(images))
        with keep_modes(self.teacher):
            return logits_of(self.teacher.eval()(images))

    def __call__(
        self, images: Tensor, outputs: tuple[Tensor, Tensor], labels: Tensor
    ) -> Tensor:
        if not isinstance(outputs, tuple) or len(outputs) != 2:
            raise TypeError(
                "expected the pair of logits of a model in training mode, got "
                f"{type(outputs).__name__}"
            )
        by_class, by_distillation = outputs
        teacher = self.ask_teacher(images)
        check_logits(by_distillation, teacher)
        true = labelled_cross_entropy(by_class, labels, self.smoothing)
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
