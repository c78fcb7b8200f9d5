"""Checks of lesson 08: looking inside."""

from contextlib import suppress
from inspect import unwrap

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...deit import DistilledVisionTransformer
from ...looking_inside import (
    attention_maps,
    attention_rollout,
    mean_attention_distance,
)
from ...vision_transformer import VisionTransformer
from .judge import answers, by_letter, draw, exercise

# 8.1 Every map of a model

IMAGES = draw(3, 1, 8, 8, dtype=torch.float32)


def toy(training: bool = False) -> VisionTransformer:
    """Three blocks of 2 heads over 5 tokens of width 6, with large weights."""
    torch.manual_seed(0)
    model = VisionTransformer(8, 4, 1, 0, 6, depth=3, num_heads=2, drop_rate=0.5)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.train(training)


def maps_of(answer, training: bool = False) -> list[Tensor]:
    return list(answer(toy(training), IMAGES))


def modes_after(answer, training: bool = True, images=IMAGES) -> tuple[str, int]:
    """The mode of a model after an answer, and how many parts changed theirs."""
    model = toy(training)
    model.blocks[0].train(not training)
    before = [part.training for part in model.modules()]
    with suppress(ValueError):
        answer(model, images)
    after = [part.training for part in model.modules()]
    changed = sum(map(bool.__ne__, before, after))
    return "training" if model.training else "eval", changed


def left_behind(answer) -> str:
    """What else an answer changed, in words."""
    model = toy()
    answer(model, IMAGES)
    if not torch.is_grad_enabled():
        return "gradients are off"
    if not all(parameter.requires_grad for parameter in model.parameters()):
        return "its weights are frozen"
    hooked = any(part._forward_hooks for part in model.modules())
    return "your hooks are still on it" if hooked else "nothing"


every_map = exercise(
    "8.1",
    right=attention_maps,
    trial={
        "3 blocks and {got} maps": lambda f: len(maps_of(f)),
        "expected maps {right[0]}, got {got}": (
            lambda f: [tuple(weights.shape) for weights in maps_of(f)]
        ),
        "the first map is not the one that block 0 makes": lambda f: maps_of(f)[0],
        "from the second block on the maps are off: does each block get the tokens that"
        " it gets in `forward`?": maps_of,
        "parts-not-put-back": modes_after,
        "a model was in eval mode and one part of it in training mode. After your call"
        " the model is in {got[0]} mode, and the mode of {got[1]} parts has"
        " changed": (lambda f: modes_after(f, training=False)),
        "after your call, {got}: leave the model, and torch, as you found"
        " them": left_behind,
        "gradient-kept": lambda f: maps_of(f)[-1].requires_grad,
        "dropout-left-on": lambda f: maps_of(f, training=True),
        "these maps were made in inference mode: multiply them with something that has"
        " a gradient, and you get an error. What is a milder way to switch gradients"
        " off?": (lambda f: maps_of(f)[-1].is_inference()),
        "`embed` refused an image without a batch axis, and since then {got[1]} parts"
        " of the model are in the wrong mode: what puts a mode back even after an"
        " error?": lambda f: modes_after(f, images=IMAGES[0]),
    },
    also={
        "a model and images in float64": lambda f: f(toy().double(), IMAGES.double()),
        "an image that `embed` refuses": lambda f: f(toy(), IMAGES[0]),
        "the model of lesson 9 with 2 blocks": lambda f: list(
            f(DistilledVisionTransformer(8, 4, 1, 0, 6, depth=2, num_heads=2), IMAGES)
        ),
    },
    otherwise="the maps differ from the expected ones",
)


def asked(block, x) -> Tensor:
    return block.attn.attention_map(block.norm1(x))


def walk(ask=asked, step=lambda block, x: block(x), in_eval=True):
    """An answer that asks each block and takes a step, and thinks of no error."""

    @torch.no_grad()
    def answer(model, images):
        modes = {part: part.training for part in model.modules()}
        if in_eval:
            model.eval()
        x, maps = model.embed(images), []
        for block in model.blocks:
            maps.append(ask(block, x))
            x = step(block, x)
        for part, training in modes.items():
            part.training = training
        return maps

    return answer


def one_mode_for_all(model, images):
    was_training = model.training
    try:
        return attention_maps(model.eval(), images)
    finally:
        model.train(was_training)


every_map.mistakes |= {
    "hook-on-fused-attention: 3 blocks and 0 maps: a hook waits for a layer that fused"
    " attention never calls; instead, ask each block's"
    " `attn.attention_map`": lambda model, images: [],
    "output-taken-for-map: expected maps {right[0]}, got {got[0]}: these are the tokens"
    " that attention has mixed, not the weights with which it mixed them": walk(
        lambda block, x: block.attn(block.norm1(x))
    ),
    "heads-averaged-away: expected maps {right[0]}, got {got[0]}: the axis of the heads"
    " is gone, so the heads can no longer be told apart": walk(
        lambda block, x: asked(block, x).mean(dim=1)
    ),
    "norm-left-out: attention never sees these raw tokens: what does a block apply to"
    " them first?": walk(lambda block, x: block.attn.attention_map(x)),
    "asked-after-the-block: the first map belongs to tokens that have already"
    " passed block 0: ask a block for its map first, then run the block": walk(
        lambda block, x: asked(block, block(x))
    ),
    "tokens-not-sent-on: every block was asked about the tokens that enter the first"
    " block: run each block to get the tokens of the next": walk(
        step=lambda block, x: x
    ),
    "sum-left-out: from the second block on the maps are off: a block adds to its input"
    " what attention found": walk(step=lambda block, x: block.attn(block.norm1(x))),
    "mlp-skipped: from the second block on the maps are off: attention is one half of a"
    " block. What does the other half add?": walk(
        step=lambda block, x: x + block.attn(block.norm1(x))
    ),
    "left-in-eval: a model in training mode is in eval mode after your call: leave it"
    " as you found it": lambda model, images: attention_maps(model.eval(), images),
    "parts-not-put-back: one block was in eval mode, like a frozen part, and after your"
    " call {got[1]} parts have a different mode: `train` and `eval` set all parts of"
    " a model. Record the mode of each part in `model.modules()`": one_mode_for_all,
    "gradient-kept: the maps still hold the graph: work without gradients": unwrap(
        attention_maps
    ),
    "dropout-left-on: the maps of a model in training mode differ from those in eval"
    " mode: is dropout still on?": walk(in_eval=False),
    "always-set-to-train: a model in eval mode is in training mode after your"
    " call": lambda model, images: attention_maps(model.train(), images),
}

# 8.2 Fix the rollout


def on(answer, change):
    """The answer for other maps."""
    return lambda maps, *args, **more: answer(list(map(change, maps)), *args, **more)


def maps(*shape: int) -> list[Tensor]:
    """Maps of one or several blocks, `blocks b h n m`."""
    return list((2 * draw(*shape, dtype=torch.float32)).softmax(dim=-1))


def shares(answer) -> Tensor:
    return answer(maps(3, 2, 4, 5, 5))


rollout = exercise(
    "8.2",
    right=attention_rollout,
    trial={
        "expected shape {right}, `b n m`, got {got}": lambda f: tuple(shares(f).shape),
        "rows sum to {got[0]:.2f} to {got[1]:.2f}: shares of one token must sum to 1": (
            lambda f: shares(f).sum(dim=-1).aminmax()
        ),
        "rows sum to 1, but the shares are off: are the heads averaged, and does the"
        " residual connection count as much as attention?": shares,
    },
    also={
        "one block, image, head and token": lambda f: f(maps(1, 1, 1, 1, 1)),
        "one block, one image, 3 heads and 6 tokens": lambda f: f(maps(1, 1, 3, 6, 6)),
        "an empty list of maps": lambda f: f([]),
    },
)


def product(factor):
    """An answer that multiplies a factor of each block from the left."""

    def answer(maps):
        result = identity = torch.eye(maps[0].shape[-1])
        for weights in maps:
            result = factor(weights.mean(dim=1), identity) @ result
        return result

    return answer


def maximum(weights) -> Tensor:
    return weights.amax(dim=1, keepdim=True)


attention_alone = product(lambda weights, identity: weights)
half = product(lambda weights, identity: (weights + identity) / 2)
rollout.mistakes |= {
    "class-row-cut-out: expected shape {right}, `b n m`, got {got}: return the shares"
    " of all tokens; the row to draw is chosen afterwards": answers(
        lambda maps: attention_rollout(maps)[:, 0],
        lambda maps: attention_rollout(maps)[:, 0, 1:],
    ),
    "rows-not-renormalised: rows sum to 8 with three blocks: adding the identity"
    " doubles each row, so renormalise after adding": product(torch.add),
    "identity-left-out: the residual connection is missing: what does a block do with"
    " its input, apart from attention?": answers(
        attention_alone, lambda maps: attention_alone(maps[::-1])
    ),
    "identity-added-once: the residual connection is counted once for all blocks, but"
    " every block has its own": lambda maps: (attention_alone(maps) + torch.eye(5)) / 2,
    "order-reversed: the blocks are in the wrong order: tokens are rows, and a map"
    " multiplies them from the left, so which factor acts on the"
    " tokens first?": lambda maps: attention_rollout(maps[::-1]),
    "last-block-only: this is one block only: multiply the factors of all"
    " blocks": answers(
        lambda maps: attention_rollout(maps[-1:]), lambda maps: maps[-1].mean(dim=1)
    ),
    "heads-fused-by-maximum: here the largest weight of any head counts: the heads of a"
    " block share the work, so take their mean": answers(
        on(half, maximum),
        on(product(lambda w, one: F.normalize(w + one, p=1, dim=-1)), maximum),
    ),
    "one-head-only: this is the rollout of head 0 alone, but there are 4 heads": on(
        attention_rollout, lambda weights: weights[:, :1]
    ),
    "empty-list-not-refused": half,
}

# 8.3 How far does a head look?


def even(answer) -> Tensor:
    """Two blocks of 3 heads that look evenly at 14 x 14 patches of 16 pixels."""
    return answer([torch.ones(1, 3, 197, 197) / 197] * 2, (16, 16))


def oblong(answer) -> Tensor:
    """2 prefix tokens, 2 rows of 3 patches; none of these numbers is the default."""
    return answer(maps(1, 2, 3, 8, 8), (4, 7), num_prefix_tokens=2, grid_size=(2, 3))


how_far = exercise(
    "8.3",
    right=mean_attention_distance,
    trial={
        "even attention on 14 x 14 patches of 16 pixels gives 116.5, got {first:.1f}:"
        " leave out the row and the column of the class token, weight each distance by"
        " the attention, then take the mean over the patches": even,
        "two prefix tokens, a grid of 2 rows and 3 columns, patches 4 high and 7 wide:"
        " for head 0 expected {expected:.2f}, got {first:.2f}. Does every row sum to 1,"
        " and do heights go with rows?": oblong,
        "square-taken-for-granted": lambda f: f(maps(1, 2, 3, 8, 8), 4),
    },
    also={
        "a grid of 2 x 3 and 0 prefix tokens": (
            lambda f: f(maps(1, 2, 3, 6, 6), 4, 0, (2, 3))
        ),
        "a square without a prefix and without a grid_size": (
            lambda f: f(maps(1, 2, 3, 4, 4), 4, num_prefix_tokens=0)
        ),
        "a grid of 1 x 1 and 1 prefix token": (
            lambda f: f(maps(1, 1, 1, 2, 2), (4, 7), 1, (1, 1))
        ),
    },
    measures={
        "first": lambda got, right: got[0, 0].item(),
        "expected": lambda got, right: right[0, 0].item(),
    },
    shape="expected shape {right}, blocks and heads, got {got}",
    rtol=1e-4,
)


def distance(maps, *args, **more) -> Tensor:
    """The right answer, for maps whose rows need not sum to 1."""
    rows = [weights / weights.sum(dim=-1, keepdim=True) for weights in maps]
    return mean_attention_distance(rows, *args, **more)


def square_taken_for_granted(*args, **more):
    with suppress(ValueError):
        return mean_attention_distance(*args, **more)
    return torch.zeros(1, 3)


# The first five are written for even attention, where they differ from each other.
how_far.mistakes |= {
    "heads-averaged-away: 2 blocks with 3 heads: expected shape {right}, got {got}: the"
    " mean of a near head and a far head describes a head that does not"
    " exist": lambda *args: mean_attention_distance(*args).mean(dim=1),
    "grid-steps-not-pixels: {first:.2f} counts steps on the grid: how many pixels is"
    " one step?": lambda maps, patch_size: mean_attention_distance(maps, 1),
    "class-token-keeps-a-share: {first:.1f} is a little too small: the class token took"
    " a share of each row. Make the rows sum to 1 again": lambda *args: (
        mean_attention_distance(*args) * 196 / 197
    ),
    "itself-left-out: {first:.1f} is a little too large: a patch may look at itself,"
    " too, at a distance of 0 pixels": on(
        distance, lambda weights: weights * (1 - torch.eye(weights.shape[-1]))
    ),
    "streets-not-straight-line: {first:.1f} is the distance along the streets, rows"
    " plus columns; measure the straight line": (
        lambda maps, size: (
            2 * distance([w[..., :15, :15] for w in maps], size, grid_size=(14, 1))
        )
    ),
    "weights-ignored: all heads have the same distance, that of even attention: where"
    " do the weights come in?": on(distance, torch.ones_like),
    "prefix-cut-from-the-end: the last two tokens are left out, but prefix tokens come"
    " first": on(mean_attention_distance, lambda weights: weights.roll((2, 2), (2, 3))),
    "one-prefix-assumed: one token is left out in front, but num_prefix_tokens was"
    " 2": on(mean_attention_distance, lambda weights: weights.roll((1, 1), (2, 3))),
    "height-and-width-exchanged: patches 4 high and 7 wide were read as 7 high and 4"
    " wide: sizes are (height, width)": lambda maps, size, **more: (
        mean_attention_distance(maps, size[::-1], **more)
    ),
    "places-column-by-column: the second patch is to the right of the first, not below"
    " it: patches are numbered row by row": (
        lambda maps, size, grid_size=(14, 14), **more: mean_attention_distance(
            maps, size[::-1], grid_size=grid_size[::-1], **more
        )
    ),
    "square-taken-for-granted: a map of 1 + 7 tokens, without a grid_size, should raise"
    " ValueError: 7 patches fill no square": square_taken_for_granted,
}

# 8.4 Six claims

CLAIMS = {"A": True, "B": False, "C": True, "D": False, "E": False, "F": False}


def claim(letter: str):
    return lambda answer: by_letter(answer, "ABCDEF")[letter]


claims = exercise(
    "8.4",
    right=CLAIMS,
    trial=[
        lambda answer: [type(said) for said in by_letter(answer, "ABCDEF").values()],
        *map(claim, CLAIMS),
    ],
    otherwise=f"answer True or False for each of {', '.join(CLAIMS)}, got {{answer}}",
)


def denied(letter: str) -> dict[str, bool]:
    return CLAIMS | {letter: not CLAIMS[letter]}


claims.mistakes |= {
    "rows-taken-for-columns: claim A: softmax runs over one axis of `n m`: which one is"
    " it?": denied("A"),
    "habit-taken-for-finding: claim B: section 8.3 looked at 360 digits: does the"
    " favourite patch of this head follow the ink?": denied("B"),
    "map-taken-for-decoration: claim C: section 8.8: compare the orders in the panels"
    " 'left out'": denied("C"),
    "looked-at-taken-for-reason: claim D: section 8.8 took their ink away and asked"
    " again: which line is lowest in the panel 'rollout, black'?": denied("D"),
    "outline-taken-for-knowledge: claim E: what did a model that had learned nothing"
    " show in section 8.8?": denied("E"),
    "far-taken-for-even: claim F: which maps in section 8.5 had the same distance"
    " without looking evenly?": denied("F"),
}
