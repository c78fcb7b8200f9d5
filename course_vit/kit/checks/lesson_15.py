"""Checks of lesson 15: a test is put through right and wrong implementations."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ...deit import soft_distillation
from ...encoder_block import DropPath
from ...multi_head_attention import MultiHeadAttention
from ...patch_embedding import as_pair, patchify
from ...position_encoding import sinusoid_encoding
from ...self_attention import attention_weights
from .. import solutions
from ..mistakes import Test, caught, fails, wrong
from . import judge_of
from .judge import Judge, draw, exercise

SEEDS = range(20)  # a test of something random must not fail by chance

FALSE_ALARM = (
    "your test fails for a right implementation ({got}): does it ask for more than the"
    " specification, such as equality to the last digit? If the course's own function"
    " or layer is in this list, call your test with it to see which assert fails."
)
SCORE = (
    "your test catches {caught} of {all} wrong implementations. Not caught: {missed}."
)


def exam(
    number: str,
    right: Test,
    good: dict[str, Any],
    bad: dict[str, Any],
    weak: dict[str, Test],
) -> Judge:
    """Write down an exercise whose answer is a test.

    Args:
        number: The exercise.
        right: A test that fails for all of `bad` and for none of `good`.
        good: Right implementations in different styles.
        bad: Wrong implementations.
        weak: Tests that are too weak, by the name of the mistake and its hint.
    """

    def slip(test: Test) -> None:  # an error in the test is shown as it is
        fails(inspect.unwrap(test), next(iter(good.values())), by=AssertionError)

    def missed(got: list[str], _: object) -> str:
        left = [name for name in bad if name not in got]
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        return ", ".join(map(repr, left[:3])) + more

    judge = exercise(
        number,
        right=right,
        trial={
            "": slip,
            FALSE_ALARM: lambda test: caught(inspect.unwrap(test), good, SEEDS),
            f"{SCORE} For which input would the first of them give a wrong result?": (
                lambda test: caught(inspect.unwrap(test), bad)
            ),
        },
        measures={
            "caught": lambda got, _: len(got),
            "all": lambda *_: len(bad),
            "missed": missed,
        },
    )
    judge.mistakes |= {
        name.replace(": ", f": {SCORE} ", 1): test for name, test in weak.items()
    }
    return judge


# 15.1 Patches


def by_unfold(images: Tensor, patch_size: Any) -> Tensor:
    size = as_pair(patch_size)
    return F.unfold(images, size, stride=size).mT


def by_views(images: Tensor, patch_size: Any) -> Tensor:
    (b, c, height, width), (ph, pw) = images.shape, as_pair(patch_size)
    grid = images.reshape(b, c, height // ph, ph, width // pw, pw)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * ph * pw)


def patches_have_a_shape(patchify) -> None:
    assert patchify(draw(2, 3, 8, 12), (2, 4)).shape == (2, 12, 24)


def patches_of_a_square(patchify) -> None:
    patches = patchify(draw(1, 1, 4, 4), 2)
    for i, (y, x) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
        window = draw(1, 1, 4, 4)[:, :, y : y + 2, x : x + 2]
        assert torch.equal(patches[:, i], window.flatten(1))


def patches_have_a_sum(patchify) -> None:
    images = draw(2, 3, 8, 12)
    assert torch.isclose(patchify(images, (2, 4)).sum(), images.sum())


exam(
    "15.1",
    solutions.test_patchify,
    {
        "the function of lesson 1": patchify,
        "with `F.unfold`": by_unfold,
        "with `permute`": by_views,
    },
    wrong("1.2"),
    {
        "shape-only: Your test looks at the shape and never at a number: what would the"
        " numbers have to be, so that you can tell which pixel came from"
        " where?": patches_have_a_shape,
        "one-size: Some sizes in your test are equal, so two swapped axes do not show:"
        " which sizes should differ?": patches_of_a_square,
        "sum-only: A sum stays the same whatever the order: which comparison would fail"
        " if two numbers were swapped?": patches_have_a_sum,
    },
)

# 15.2 Waves


def by_complex_numbers(num_positions: int, dim: int) -> Tensor:
    pairs = torch.arange(0, dim, 2, dtype=torch.float64)
    angles = torch.arange(num_positions)[:, None] * 10_000 ** (-pairs / dim)
    turned = torch.polar(torch.ones_like(angles), angles)  # cos + i sin
    waves = torch.stack([turned.imag, turned.real], dim=-1)
    return waves.flatten(1)[:, :dim].to(torch.get_default_dtype())


def waves_have_a_shape(sinusoid_encoding) -> None:
    assert sinusoid_encoding(50, 8).shape == (50, 8)


def waves_begin_right(sinusoid_encoding) -> None:
    assert torch.equal(sinusoid_encoding(50, 8)[0], torch.tensor([0.0, 1.0] * 4))


def waves_have_a_length(sinusoid_encoding) -> None:
    squares = sinusoid_encoding(50, 8).square().sum(dim=1)
    assert torch.allclose(squares, torch.full_like(squares, 4))


exam(
    "15.2",
    solutions.test_sinusoid,
    {
        "the function of lesson 2": sinusoid_encoding,
        "with complex numbers": by_complex_numbers,
        "with angles in float32": judge_of("2.2")
        .known()["angles-in-float32"]
        .answers[0],
    },
    wrong("2.2", "returned-in-float64", "exponent-in-float32", "angles-in-float32"),
    {
        "shape-only: Your test looks at the shape and never at a number: which entries"
        " of the table can you compute with `math.sin`?": waves_have_a_shape,
        "one-row: At position 0 every angle is 0, whatever the clock: which rows show"
        " how fast a clock runs?": waves_begin_right,
        "sum-only: The squares of the sine and the cosine of one angle sum to 1,"
        " whatever the angle: which numbers"
        " would show a wrong angle?": waves_have_a_length,
    },
)

# 15.3 Attention weights


def by_exponentials(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = (q @ k.mT / q.shape[-1] ** 0.5).exp()
    scores = scores if mask is None else scores * mask
    return scores / scores.sum(dim=-1, keepdim=True)


def by_values(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    one_each = torch.eye(k.shape[-2], dtype=q.dtype)
    one_each = one_each.expand(*k.shape[:-2], -1, -1)
    return F.scaled_dot_product_attention(q, k, one_each, attn_mask=mask)


def weights_have_a_shape(attention_weights) -> None:
    q, k = draw(2, 4, 8), draw(2, 5, 8, seed=1)
    assert attention_weights(q, k).shape == (2, 4, 5)


def weights_of_one_sequence(attention_weights) -> None:
    q = draw(4, 8)
    expected = (q @ q.T / 8**0.5).softmax(dim=-1)
    assert torch.allclose(attention_weights(q, q), expected)


def weights_have_a_sum(attention_weights) -> None:
    q, k = draw(2, 3, 4, 8), draw(2, 3, 5, 8, seed=1)
    total = attention_weights(q, k).sum(dim=-1)
    assert torch.allclose(total, torch.ones_like(total))


exam(
    "15.3",
    solutions.test_attention_weights,
    {
        "the function of lesson 3": attention_weights,
        "with exponentials": by_exponentials,
        "with torch's attention": by_values,
    },
    wrong("3.4"),
    {
        "shape-only: Your test looks at the shape and never at a number: what is one"
        " weight, computed with `math.exp`?": weights_have_a_shape,
        "one-size: Queries and keys are the same tensor, and there is no mask: what"
        " would change here if queries and keys were swapped?": weights_of_one_sequence,
        "sum-only: Softmax makes rows that sum to 1 from any scores at all: which"
        " numbers would show a wrong score?": weights_have_a_sum,
    },
)

# 15.4 Heads


class WithEinsum(MultiHeadAttention):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split_heads(x)
        mixed = torch.einsum("b h n m, b h m e -> b n h e", attention_weights(q, k), v)
        return self.proj(mixed.flatten(2))


class WithHeadsInTheBatch(MultiHeadAttention):
    def forward(self, x: Tensor) -> Tensor:
        pattern, h = "b n (three h e) -> three (b h) n e", self.num_heads
        q, k, v = rearrange(self.qkv(x), pattern, three=3, h=h)
        mixed = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1) @ v
        return self.proj(rearrange(mixed, "(b h) n e -> b n (h e)", h=h))


def layer_has_a_shape(layer_class) -> None:
    assert layer_class(12, 3)(draw(2, 5, 12).float()).shape == (2, 5, 12)


def layer_of_one_head(layer_class) -> None:
    layer, x = layer_class(12, 1), draw(2, 5, 12).float()
    q, k, v = layer.qkv(x).chunk(3, dim=-1)
    expected = layer.proj((q @ k.mT / 12**0.5).softmax(dim=-1) @ v)
    assert torch.allclose(layer(x), expected, atol=1e-5)


def layer_knows_no_order(layer_class) -> None:
    layer, x = layer_class(12, 3), draw(2, 5, 12).float()
    order = torch.arange(5).roll(1)
    assert torch.allclose(layer(x[:, order]), layer(x)[:, order], atol=1e-5)


exam(
    "15.4",
    solutions.test_heads,
    {
        "the layer of lesson 4": MultiHeadAttention,
        "with `einsum`": WithEinsum,
        "with the heads in the batch": WithHeadsInTheBatch,
    },
    wrong(
        "4.2",
        "attention-dropout-ignored",
        "output-dropout-ignored",
        "dropped-before-proj",
        "drops-in-eval",
        "results-dropped",
    ),
    {
        "shape-only: Your test looks at the shape and never at a number: what does head"
        " 0 compute, in plain torch?": layer_has_a_shape,
        "one-size: With a single head there is nothing to mix up: how many heads would"
        " show a mix-up?": layer_of_one_head,
        "order-only: Many wrong layers do not care about the order of the tokens"
        " either: which numbers should come out?": layer_knows_no_order,
    },
)

# 15.5 Drop paths


def dropping(drop: Callable[[Tensor, float], Tensor]):
    """A layer that drops in training as `drop` does, with the probability to keep."""

    class Layer(nn.Module):
        def __init__(self, drop_prob: float = 0.0) -> None:
            super().__init__()
            self.drop_prob = drop_prob

        def forward(self, x: Tensor) -> Tensor:
            return drop(x, 1 - self.drop_prob) if self.training else x

    return Layer


def by_floor(x: Tensor, keep: float) -> Tensor:
    return x / keep * (keep + torch.rand(len(x), 1, 1)).floor()


def by_channel_dropout(x: Tensor, keep: float) -> Tensor:
    return F.dropout1d(x.flatten(1)[None], 1 - keep).view_as(x)


def drops_to_a_shape(layer_class) -> None:
    assert layer_class(0.4)(torch.ones(20, 3, 2)).shape == (20, 3, 2)


def drops_half(layer_class) -> None:
    out = layer_class(0.5)(torch.ones(2000, 3, 2))
    share = (out == 0).flatten(1).float().mean(dim=1)
    assert set(share.tolist()) == {0.0, 1.0}
    assert abs(share.mean() - 0.5) < 0.06
    assert abs(out.mean() - 1) < 0.1


def keeps_the_mean(layer_class) -> None:
    assert abs(layer_class(0.4)(torch.ones(2000, 3, 2)).mean() - 1) < 0.1


exam(
    "15.5",
    solutions.test_drop_path,
    {
        "the layer of lesson 5": DropPath,
        "with `floor`": dropping(by_floor),
        "with dropout of whole channels": dropping(by_channel_dropout),
    },
    wrong("5.3", "nonsense-let-through", "exact-share", "three-axes-assumed"),
    {
        "shape-only: Your test looks at the shape and never at a number: which images"
        " are 0, and how many?": drops_to_a_shape,
        "one-size: With probability 0.5 as many images are kept as dropped, and your"
        " test ran one pass in one mode: which probability, how many passes and"
        " which modes would show more?": drops_half,
        "mean-only: Many ways to drop keep the mean at 1: what else does stochastic"
        " depth promise?": keeps_the_mean,
    },
)

# 15.6 Distillation


def by_definition(student: Tensor, teacher: Tensor, tau: float = 3.0) -> Tensor:
    p = (teacher / tau).softmax(dim=-1)
    each = p * (p.log() - (student / tau).log_softmax(dim=-1))
    return each.sum() / len(student) * tau**2


def by_cross_entropies(student: Tensor, teacher: Tensor, tau: float = 3.0) -> Tensor:
    student, teacher = student / tau, teacher / tau
    truth = teacher.softmax(dim=-1)
    least = F.cross_entropy(teacher, truth)
    return (F.cross_entropy(student, truth) - least) * tau**2


def loss_has_a_shape(loss) -> None:
    assert loss(draw(6, 4), draw(6, 4, seed=1), 3.0).shape == ()


def loss_at_one(loss) -> None:
    student, teacher = draw(6, 4), draw(6, 4, seed=1)
    expected = by_definition(student, teacher, 1.0)
    assert torch.isclose(loss(student, teacher, 1.0), expected)


def loss_of_equals(loss) -> None:
    assert abs(loss(draw(6, 4), draw(6, 4), 3.0)) < 1e-6


exam(
    "15.6",
    solutions.test_distillation,
    {
        "the loss of lesson 9": soft_distillation,
        "by the definition": by_definition,
        "as a difference of two cross-entropies": by_cross_entropies,
    },
    wrong(
        "9.2",
        "usual-case-changed",
        "reduction-ignored",
        "other-words-accepted",
        "probability-rounded-to-zero",
    ),
    {
        "shape-only: Your test looks at the shape and never at the number: what is the"
        " loss of one image, by the definition?": loss_has_a_shape,
        "one-size: At tau = 1 every power of tau is 1, so a forgotten factor does not"
        " show: at which tau does it?": loss_at_one,
        "zero-only: Many wrong losses are 0 for equal logits, too: what is the loss of"
        " unequal logits, by the definition?": loss_of_equals,
    },
)
