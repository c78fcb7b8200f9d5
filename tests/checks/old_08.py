"""Right answers and known mistakes for the exercises of lesson 08."""

from math import hypot, isqrt

import torch

from checks import stub

CLAIMS = dict(zip("ABCDEF", (True, False, True, False, False, False), strict=True))


def maps_of(model, images, norm=True, onward=True, eval_mode=True, restore=True):
    """The maps of all blocks, or one known mistake."""
    was_training = model.training
    if eval_mode:
        model.eval()
    try:
        with torch.no_grad():
            x, maps = model.embed(images), []
            for block in model.blocks:
                maps.append(block.attn.attention_map(block.norm1(x) if norm else x))
                x = block(x) if onward else x
    finally:
        if restore:
            model.train(was_training)
    return maps


def not_prepared(model, images):
    """Right, as long as nothing goes wrong."""
    was_training = model.training
    with torch.no_grad():
        x, maps = model.eval().embed(images), []
        for block in model.blocks:
            maps.append(block.attn.attention_map(block.norm1(x)))
            x = block(x)
    model.train(was_training)
    return maps


def by_attribute(model, images):
    """The blocks are not told that training goes on."""
    was_training = model.training
    try:
        return maps_of(model, images, restore=False)
    finally:
        model.training = was_training


def in_inference_mode(model, images):
    with torch.inference_mode():
        return maps_of(model, images)


def in_float32(model, images):
    x = model.embed(images)
    if x.dtype == torch.float64:
        return [w.round(decimals=3) for w in maps_of(model, images)]
    return maps_of(model, images)


def of_floats(model, images):
    maps = [torch.zeros(()).to(w) + w for w in maps_of(model, images)]
    return [torch.einsum("bhnm,mk->bhnk", w, torch.eye(w.shape[-1])) for w in maps]


def swallowed(model, images):
    try:
        return maps_of(model, images)
    except ValueError:
        return []


def with_option(function, **options):
    return lambda *args, **more: function(*args, **more, **options)


def with_graph(model, images):
    with torch.enable_grad():
        x, maps = model.embed(images), []
        for block in model.blocks:
            maps.append(block.attn.attention_map(block.norm1(x)))
            x = block(x)
    return maps


def after_the_block(model, images):
    was_training, maps = model.training, []
    model.eval()
    with torch.no_grad():
        x = model.embed(images)
        for block in model.blocks:
            x = block(x)
            maps.append(block.attn.attention_map(block.norm1(x)))
    model.train(was_training)
    return maps


def always_train(model, images):
    maps = maps_of(model, images)
    model.train()
    return maps


def by_generator(model, images):
    """Right: one block after the other, on demand."""

    def walk(x):
        for block in model.blocks:
            yield block.attn.attention_map(block.norm1(x))
            x = block(x)

    was_training = model.training
    try:
        with torch.no_grad():
            return tuple(walk(model.eval().embed(images)))
    finally:
        model.train(was_training)


def by_hooks_on_norms(model, images):
    """Right: a hook where something passes, and the map asked for there."""
    was_training, seen = model.training, []
    handles = [
        block.norm1.register_forward_hook(lambda *given: seen.append(given[-1]))
        for block in model.blocks
    ]
    try:
        with torch.set_grad_enabled(False):
            model.eval()(images)
            pairs = zip(model.blocks, seen, strict=True)
            return [block.attn.attention_map(x) for block, x in list(pairs)]
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)


def outputs_of_attention(model, images):
    was_training, caught = model.training, []
    handles = [
        block.attn.register_forward_hook(lambda *given: caught.append(given[-1]))
        for block in model.blocks
    ]
    with torch.no_grad():
        model.eval()(images)
    for handle in handles:
        handle.remove()
    model.train(was_training)
    return caught


def mean_of_heads(model, images):
    return [weights.mean(dim=1) for weights in maps_of(model, images)]


def without_sum(model, images):
    was_training, maps = model.training, []
    with torch.no_grad():
        x = model.eval().embed(images)
        for block in model.blocks:
            maps.append(block.attn.attention_map(block.norm1(x)))
            x = block.attn(block.norm1(x))
    model.train(was_training)
    return maps


def backwards(model, images):
    return maps_of(model, images)[::-1]


def mended(model, images):
    """The first map is right, the second block meets the tokens twice."""
    maps, twice = maps_of(model, images), maps_of(model, 2 * images)
    return [maps[0], *twice[1:]]


def by_hook(model, images):
    caught = []
    for block in model.blocks:
        block.drop.register_forward_pre_hook(lambda *_: None)
    model(images)
    return caught


def rollout(maps, identity=1.0, divide=True, reverse=False, fuse="mean"):
    """Attention rollout, or one known mistake."""
    if not len(maps):
        raise ValueError("at least one map is needed")
    eye = torch.eye(maps[0].shape[-1])
    result = eye
    for weights in maps:
        fused = weights.mean(dim=1) if fuse == "mean" else weights[:, 0]
        step = fused + identity * eye
        if divide:
            step = step / (1 + identity)
        result = result @ step if reverse else step @ result
    return result


def divided_at_the_end(maps):
    """Right: all rows of a product of such factors grow alike."""
    if not maps:
        raise ValueError("no map")
    result = torch.eye(maps[0].shape[-1])
    for weights in maps:
        result = torch.matmul(weights.mean(dim=1), result) + result
    return result / result.sum(dim=-1, keepdim=True)


def from_the_last(maps):
    """Right: from the last block to the first, each factor on the right."""
    if len(maps) == 0:
        raise ValueError("no map")
    *earlier, last = [torch.eye(w.shape[-1]).add(w.mean(dim=1)).div(2) for w in maps]
    for factor in reversed(earlier):
        last = last @ factor
    return last


def as_published(maps):
    """The version of the exercise, both mistakes in it."""
    identity = torch.eye(maps[0].shape[-1])
    result = identity
    for weights in maps:
        result = result @ (weights.mean(dim=1) + identity)
    return result


def rows_mended(maps):
    """The published version with its first mistake mended."""
    identity = torch.eye(maps[0].shape[-1])
    result = identity
    for weights in maps:
        mixed = weights.mean(dim=1) + identity
        result = result @ (mixed / mixed.sum(dim=-1, keepdim=True))
    return result


def order_mended(maps):
    """The published version with its second mistake mended."""
    identity = torch.eye(maps[0].shape[-1])
    result = identity
    for weights in maps:
        result = (weights.mean(dim=1) + identity) @ result
    return result


def both_mended(maps):
    """And still nobody thinks of an empty list."""
    identity = torch.eye(maps[0].shape[-1])
    result = identity
    for weights in maps:
        result = (weights.mean(dim=1) + identity) @ result / 2
    return result


def plain_product(maps):
    return product(w.mean(dim=1) for w in maps)


def product(factors):
    result = torch.eye(5)
    for factor in factors:
        result = factor @ result
    return result


def identity_once(maps):
    return (product(w.mean(dim=1) for w in maps) + torch.eye(5)) / 2


def of_five(maps):
    """The identity has the size of the example that was at hand."""
    if not maps:
        raise ValueError
    return product(torch.eye(5).add(w.mean(dim=1)) / 2 for w in maps)


def squeezed(maps):
    return rollout(maps).squeeze()


def by_maximum(maps):
    mixed = [w.amax(dim=1) + torch.eye(5) for w in maps]
    return product(w / w.sum(dim=-1, keepdim=True) for w in mixed)


def distance(
    maps,
    patch_size,
    num_prefix_tokens=1,
    grid_size=None,
    unit=1,
    norm=2.0,
    renormalise=True,
    itself=True,
    turned=False,
    by_columns=False,
):
    """Mean attention distance, or one known mistake."""
    n = maps[0].shape[-1] - num_prefix_tokens
    gh, gw = grid_size or (isqrt(n), isqrt(n))
    if gh * gw != n:
        raise ValueError("the patches must fill the grid")
    ph, pw = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    ph, pw = (pw, ph) if turned else (ph, pw)
    y, x = torch.meshgrid(ph * torch.arange(gh), pw * torch.arange(gw), indexing="ij")
    y, x = (y.T, x.T) if by_columns else (y, x)
    places = torch.stack([y.flatten(), x.flatten()], dim=1).float() / unit
    away = torch.cdist(places, places, p=norm)
    result = []
    for weights in maps:
        rows = weights[..., num_prefix_tokens:, num_prefix_tokens:]
        if not itself:
            rows = rows * (1 - torch.eye(rows.shape[-1]))
        if renormalise:
            rows = rows / rows.sum(dim=-1, keepdim=True)
        result.append((rows * away).sum(dim=-1).mean(dim=(0, 2)))
    return torch.stack(result)


def by_loops(maps, patch_size, num_prefix_tokens=1, grid_size=None):
    """Right, and slow where it may be: one pair of places at a time."""
    n = maps[0].shape[-1] - num_prefix_tokens
    if grid_size is None and isqrt(n) ** 2 != n:
        raise ValueError("no square")
    columns = grid_size[1] if grid_size else isqrt(n)
    ph, pw = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    away = torch.tensor(
        [
            [
                hypot(
                    ph * (i // columns - j // columns), pw * (i % columns - j % columns)
                )
                for j in range(n)
            ]
            for i in range(n)
        ]
    )
    table = []
    for weights in maps:
        patches = weights.flip(-1, -2)
        patches = patches.narrow(-1, 0, n).narrow(-2, 0, n).flip(-1, -2)
        shares = patches / patches.sum(dim=-1, keepdim=True)
        table.append(torch.einsum("b h n m, n m -> h", shares, away) / n / len(weights))
    return torch.stack(table)


def without_a_check(maps, patch_size, num_prefix_tokens=1, grid_size=None):
    """Right, as long as the patches fill a square."""
    side = isqrt(maps[0].shape[-1] - num_prefix_tokens)
    return by_loops(maps, patch_size, num_prefix_tokens, grid_size or (side, side))


def of_part(maps, patch_size, num_prefix_tokens, grid_size, first):
    """The patches are taken to start at token `first`."""
    last = first + maps[0].shape[-1] - num_prefix_tokens
    patches = [weights.narrow(-1, first, last - first) for weights in maps]
    patches = [weights.narrow(-2, first, last - first) for weights in patches]
    return distance(patches, patch_size, 0, grid_size)


def prefix_last(maps, patch_size, num_prefix_tokens=1, grid_size=None):
    return of_part(maps, patch_size, num_prefix_tokens, grid_size, 0)


def one_prefix(maps, patch_size, num_prefix_tokens=1, grid_size=None):
    return of_part(maps, patch_size, num_prefix_tokens, grid_size, 1)


def unweighted(maps, *args, **more):
    return distance([torch.ones_like(weights) for weights in maps], *args, **more)


def prefix_from_the_end(maps, patch_size, num_prefix_tokens=1, grid_size=None):
    """Turned round, cut off behind, turned back: nothing is left if 0 is cut off."""
    last = num_prefix_tokens
    turned = [w.flip(-1, -2)[..., :-last, :-last] for w in maps]
    return distance([w.flip(-1, -2) for w in turned], patch_size, 0, grid_size)


def dividing_by_the_farthest(*args, **more):
    """The unit is the longest way, and taken back: 0 divided by 0 on one patch."""
    far = distance(*args, **more)
    return far / far.max() * far.max()


def twice(*args, **more):
    return 2 * distance(*args, **more)


def of_block_0(*args, **more):
    return distance(*args, **more)[0]


def of_blocks(*args, **more):
    return distance(*args, **more).mean(dim=1)


def by_prefix_of_images(maps, patch_size, num_prefix_tokens=1, grid_size=None):
    """Right for even maps; of the others only the first image is looked at."""
    return distance([w[:1] for w in maps], patch_size, num_prefix_tokens, grid_size)


RIGHT = [
    ("8.1", maps_of),
    ("8.1", by_generator),
    ("8.1", by_hooks_on_norms),
    ("8.2", rollout),
    ("8.2", divided_at_the_end),
    ("8.2", from_the_last),
    ("8.3", distance),
    ("8.3", by_loops),
    ("8.4", CLAIMS),
    ("8.4", list(CLAIMS.items())),
]
BELIEFS = {
    "A": "rows-taken-for-columns",
    "B": "habit-taken-for-finding",
    "C": "map-taken-for-decoration",
    "D": "looked-at-taken-for-reason",
    "E": "outline-taken-for-knowledge",
    "F": "far-taken-for-even",
}
WRONG = [
    ("8.1", stub, None, "still empty"),
    ("8.1", by_hook, "hook-on-fused-attention", "0 maps"),
    ("8.1", lambda *_: [], "hook-on-fused-attention", "attn.attention_map"),
    ("8.1", lambda *given: maps_of(*given)[-1:], None, "3 blocks and 1 maps"),
    ("8.1", outputs_of_attention, "output-taken-for-map", "has mixed"),
    ("8.1", mean_of_heads, "heads-averaged-away", "axis of the heads is gone"),
    (
        "8.1",
        lambda *given: [weights[:, 0] for weights in maps_of(*given)],
        "heads-averaged-away",
        "sets one head apart",
    ),
    ("8.1", lambda *given: [w[0] for w in maps_of(*given)], None, "expected maps"),
    (
        "8.1",
        with_option(maps_of, restore=False),
        "left-in-eval",
        "leave it as you found it",
    ),
    ("8.1", with_graph, "gradient-kept", "hold on to the graph"),
    ("8.1", with_option(maps_of, norm=False), "norm-left-out", "stands before it"),
    ("8.1", with_option(maps_of, onward=False), "tokens-not-sent-on", "send them on"),
    ("8.1", without_sum, "sum-left-out", "to what came in"),
    ("8.1", after_the_block, "asked-after-the-block", "passed block 0"),
    ("8.1", backwards, None, "first map is not"),
    ("8.1", mended, None, "other tokens than"),
    ("8.1", with_option(maps_of, eval_mode=False), "dropout-left-on", "does dropout"),
    ("8.1", always_train, "always-set-to-train", "came back in training mode"),
    ("8.1", by_attribute, None, "in training mode, 22 of its parts did not"),
    ("8.1", in_inference_mode, None, "made in inference mode"),
    ("8.1", of_floats, None, "a model and images in float64 raised RuntimeError"),
    ("8.1", in_float32, None, "in float64 other maps come out"),
    ("8.1", not_prepared, None, "is in eval mode since then"),
    ("8.1", swallowed, None, "nobody heard of it"),
    ("8.2", stub, None, "still empty"),
    ("8.2", as_published, "rows-not-renormalised", "renormalise after adding"),
    ("8.2", order_mended, "rows-not-renormalised", "rows sum to 8"),
    (
        "8.2",
        with_option(rollout, divide=False),
        "rows-not-renormalised",
        "doubles each row",
    ),
    ("8.2", rows_mended, "order-reversed", "wrong order"),
    ("8.2", with_option(rollout, reverse=True), "order-reversed", "acts on them first"),
    ("8.2", both_mended, "empty-list-not-refused", "should raise ValueError, got"),
    ("8.2", lambda maps: rollout(maps)[:, 0], "class-row-cut-out", "all tokens"),
    ("8.2", lambda maps: rollout(maps)[:, 0, 1:], "class-row-cut-out", "afterwards"),
    ("8.2", lambda maps: rollout(maps)[0], None, "expected shape"),
    ("8.2", with_option(rollout, divide=False, identity=0.5), None, "must sum to 1"),
    (
        "8.2",
        with_option(rollout, identity=0.0),
        "identity-left-out",
        "path around attention is missing",
    ),
    (
        "8.2",
        lambda maps: plain_product(maps[::-1]),
        "identity-left-out",
        "besides looking around",
    ),
    ("8.2", identity_once, "identity-added-once", "once for all blocks"),
    ("8.2", lambda maps: rollout(maps[-1:]), "last-block-only", "one block only"),
    ("8.2", lambda maps: maps[-1].mean(dim=1), "last-block-only", "multiply them all"),
    ("8.2", with_option(rollout, identity=0.5), None, "count as much"),
    ("8.2", of_five, None, r"not for one block, .*, got \(1, 5, 5\)"),
    ("8.2", squeezed, None, r"expected \(1, 1, 1\), got \(\)"),
    ("8.2", by_maximum, "heads-fused-by-maximum", "on average"),
    ("8.2", with_option(rollout, fuse="first"), "one-head-only", "head 0 alone"),
    ("8.3", stub, None, "still empty"),
    ("8.3", of_block_0, None, "expected shape"),
    ("8.3", lambda *args, **more: distance(*args, **more).squeeze(0), None, "1 block"),
    ("8.3", of_blocks, "heads-averaged-away", "a near and a far head"),
    ("8.3", with_option(distance, unit=16), "grid-steps-not-pixels", "how many pixels"),
    (
        "8.3",
        with_option(distance, renormalise=False),
        "class-token-keeps-a-share",
        "sum to 1 again",
    ),
    ("8.3", with_option(distance, itself=False), "itself-left-out", "look at itself"),
    (
        "8.3",
        with_option(distance, norm=1.0),
        "streets-not-straight-line",
        "the straight line",
    ),
    ("8.3", twice, None, "weigh each distance"),
    ("8.3", unweighted, "weights-ignored", "where do the weights come in"),
    ("8.3", prefix_last, "prefix-cut-from-the-end", "stand in front"),
    ("8.3", one_prefix, "one-prefix-assumed", "num_prefix_tokens was 2"),
    (
        "8.3",
        with_option(distance, turned=True),
        "height-and-width-exchanged",
        "(height, width)",
    ),
    (
        "8.3",
        with_option(distance, by_columns=True),
        "places-column-by-column",
        "row by row",
    ),
    ("8.3", by_prefix_of_images, None, "heights go with rows"),
    (
        "8.3",
        dividing_by_the_farthest,
        None,
        "a grid of 1 x 1 and 1 prefix tokens: .* holds nan",
    ),
    ("8.3", prefix_from_the_end, None, "2 x 3 and 0 prefix tokens"),
    ("8.3", without_a_check, "square-taken-for-granted", "should raise ValueError"),
    ("8.4", {}, None, "say True or False"),
    ("8.4", CLAIMS | {"A": "yes"}, None, "say True or False"),
    *(
        ("8.4", CLAIMS | {name: not right}, BELIEFS[name], f"claim {name}")
        for name, right in CLAIMS.items()
    ),
    ("8.4", dict.fromkeys(CLAIMS, True), "habit-taken-for-finding", "follow the ink"),
    ("8.4", dict.fromkeys(CLAIMS, False), "rows-taken-for-columns", "which one is it"),
]
