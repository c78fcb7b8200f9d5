"""Lesson 08: right answers in other styles, mistakes in other forms."""

from inspect import unwrap
from math import hypot, isqrt

import torch

from course_vit.kit.checks.lesson_08 import CLAIMS, on, product, walk
from course_vit.looking_inside import (
    attention_maps,
    attention_rollout,
    mean_attention_distance,
)

# 8.1 Every map of a model


def calm(answer):
    """An answer in eval mode, without gradients."""

    def with_modes_put_back(model, images):
        modes = [part.training for part in model.modules()]
        try:
            with torch.no_grad():
                return answer(model.eval(), images)
        finally:
            for part, training in zip(model.modules(), modes, strict=True):
                part.training = training

    return with_modes_put_back


@calm
def by_generator(model, images):
    def each(x):
        for block in model.blocks:
            yield block.attn.attention_map(block.norm1(x))
            x = block(x)

    return tuple(each(model.embed(images)))


@calm
def by_hooks(model, images):
    seen = []
    handles = [
        block.norm1.register_forward_hook(lambda *given: seen.append(given[-1]))
        for block in model.blocks
    ]
    model(images)
    for handle in handles:
        handle.remove()
    pairs = zip(model.blocks, seen, strict=True)
    return [block.attn.attention_map(x) for block, x in pairs]


def by_hooks_on_dropout(model, images):
    caught = []
    for block in model.blocks:
        block.attn.attn_drop.register_forward_hook(lambda *given: caught.append(given))
    model(images)
    return caught


def by_attribute(model, images):
    was_training = model.training
    try:
        return attention_maps(model.eval(), images)
    finally:
        model.training = was_training


def asked_without_norm(block, x):
    return block.attn.attention_map(x)


def without_mlp(block, x):
    return x + block.attn(block.norm1(x))


@calm
def by_class_token(model, images):
    """`embed` written again, for the models of lesson 6 only."""
    x = torch.cat(
        [model.cls_token.expand(len(images), -1, -1), model.patch_embed(images)], 1
    )
    x, maps = x + model.pos_embed, []
    for block in model.blocks:
        maps.append(block.attn.attention_map(block.norm1(x)))
        x = block(x)
    return maps


def frozen_for_it(model, images):
    return attention_maps(model.requires_grad_(False), images)


def gradients_off(model, images):
    torch.set_grad_enabled(False)
    return unwrap(attention_maps)(model, images)


def by_hooks_left(model, images):
    for block in model.blocks:
        block.register_forward_hook(lambda *_: None)
    return attention_maps(model, images)


def each(change):
    return lambda *given: [change(weights) for weights in attention_maps(*given)]


# 8.2 Fix the rollout


def divided_at_the_end(maps):
    if not maps:
        raise ValueError("no map")
    result = torch.eye(maps[0].shape[-1])
    for weights in maps:
        result = torch.matmul(weights.mean(dim=1), result) + result
    return result / result.sum(dim=-1, keepdim=True)


def from_the_last(maps):
    if len(maps) == 0:
        raise ValueError("no map")
    *earlier, last = [torch.eye(w.shape[-1]).add(w.mean(dim=1)).div(2) for w in maps]
    for factor in reversed(earlier):
        last = last @ factor
    return last


# 8.3 How far does a head look?


def by_loops(maps, patch_size, num_prefix_tokens=1, grid_size=None):
    n = maps[0].shape[-1] - num_prefix_tokens
    gh, gw = grid_size or (isqrt(n), isqrt(n))
    if gh * gw != n:
        raise ValueError("no square")
    ph, pw = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    places = [(ph * y, pw * x) for y in range(gh) for x in range(gw)]
    away = torch.tensor([[hypot(y - v, x - u) for v, u in places] for y, x in places])
    patches = torch.stack(list(maps))[..., -n:, -n:]
    shares = patches / patches.sum(dim=-1, keepdim=True)
    return torch.einsum("l b h n m, n m -> l h", shares, away) / n / len(maps[0])


def then(change):
    """The right distances, changed afterwards."""
    return lambda *args, **more: change(mean_attention_distance(*args, **more))


def no_prefix_forgotten(maps, patch_size, num_prefix_tokens=1, grid_size=None):
    prefix = num_prefix_tokens or 1
    return mean_attention_distance(maps, patch_size, prefix, grid_size)


def side_after_a_class_token(maps, patch_size, num_prefix_tokens=1, grid_size=None):
    grid_size = grid_size or (isqrt(maps[0].shape[-1] - 1),) * 2
    return mean_attention_distance(maps, patch_size, num_prefix_tokens, grid_size)


def refusing_by(kind):
    def answer(*args, **more):
        try:
            return mean_attention_distance(*args, **more)
        except ValueError as error:
            raise kind from error

    return answer


RIGHT = {
    "8.1": [by_generator, by_hooks],
    "8.2": [divided_at_the_end, from_the_last],
    "8.3": [by_loops],
    "8.4": [list(CLAIMS.items()), [*CLAIMS.values()], torch.tensor([*CLAIMS.values()])],
}
WRONG = {
    "8.1": [
        (by_hooks_on_dropout, "hook-on-fused-attention"),
        (lambda *given: attention_maps(*given)[1:], "3 blocks and 2 maps"),
        (each(lambda w: w[0]), r"maps \(3, 2, 5, 5\), got \[\(2, 5, 5\)"),
        (each(lambda w: w[:, 0]), "heads-averaged-away"),
        (lambda *given: attention_maps(*given)[::-1], "first map is not"),
        (
            lambda m, x: attention_maps(m, x)[:1] + attention_maps(m, 2 * x)[1:],
            "from the second block on .* does each block get the tokens that",
        ),
        (by_attribute, "parts-not-put-back"),
        (calm(walk(asked_without_norm)), "norm-left-out"),
        (walk(asked_without_norm, in_eval=False), "norm-left-out"),
        (walk(step=without_mlp), "mlp-skipped"),
        (by_class_token, "the model of lesson 9 with 2 blocks"),
        (frozen_for_it, "its weights are frozen: leave the model, and torch, as you"),
        (gradients_off, "gradients are off: leave"),
        (by_hooks_left, "your hooks are still on it: leave"),
        (each(lambda w: w @ torch.eye(5)), "in float64 raised RuntimeError"),
        (
            each(lambda w: w.round(decimals=3) if w.dtype == torch.float64 else w),
            "in float64: the maps differ from the expected",
        ),
        (torch.inference_mode()(attention_maps), "What is a milder way"),
        (walk(), "in the wrong mode: what puts a mode back"),
        (
            lambda m, x: attention_maps(m, x) if x.ndim == 4 else [],
            "an image that `embed` refuses should raise ValueError: nothing was raised",
        ),
    ],
    "8.2": [
        (lambda maps: product(torch.add)(maps[::-1]), "rows-not-renormalised"),
        (lambda maps: attention_rollout(maps)[0], r"\(2, 5, 5\), .* got \(5, 5\)"),
        (product(lambda w, one: w + one / 2), r"sum to 3\.3\d to 3\.38: shares of one"),
        (
            product(lambda w, one: (w + one / 2) / 1.5),
            "residual connection count as much",
        ),
        (product(lambda w, one: (w + torch.eye(5)) / 2), "one block.* raised"),
        (lambda maps: attention_rollout(maps).squeeze(), r"one block, .* got 1"),
    ],
    "8.3": [
        (then(lambda table: table[0]), r"shape \(2, 3\).* got \(3,\)"),
        (then(lambda table: table.squeeze(0)), r"shape \(1, 3\).* got \(3,\)"),
        (then(lambda table: 2 * table), r"got 233\.0: .* weight each distance"),
        (on(mean_attention_distance, lambda w: w[:1]), "heights go with rows"),
        (then(lambda table: table / table.max() * table.max()), "1 x 1.* contains nan"),
        (no_prefix_forgotten, "a grid of 2 x 3 and 0 prefix tokens raised"),
        (side_after_a_class_token, "a square without a prefix .* raised"),
        (refusing_by(RuntimeError), "square-taken-for-granted"),
    ],
    "8.4": [
        ({}, "answer each of A, B, C, D, E, F, got {}"),
        (CLAIMS | {"A": "yes"}, "answer True or False"),
        (dict.fromkeys(CLAIMS, True), "habit-taken-for-finding"),
        (dict.fromkeys(CLAIMS, False), "rows-taken-for-columns"),
    ],
}
