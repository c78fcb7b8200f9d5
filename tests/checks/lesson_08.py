"""Right answers and known mistakes for the exercises of lesson 08."""

from math import isqrt

import torch

CLAIMS = dict(zip("ABCDEF", (True, False, True, False, False, False), strict=True))


def maps_of(model, images, norm=True, onward=True, eval_mode=True, restore=True):
    """The maps of all blocks, or one known mistake."""
    was_training = model.training
    if eval_mode:
        model.eval()
    with torch.no_grad():
        x, maps = model.embed(images), []
        for block in model.blocks:
            maps.append(block.attn.attention_map(block.norm1(x) if norm else x))
            x = block(x) if onward else x
    if restore:
        model.train(was_training)
    return maps


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


def no_error(maps):
    return rollout(maps) if len(maps) else torch.eye(2)


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
    checked=True,
):
    """Mean attention distance, or one known mistake."""
    n = maps[0].shape[-1] - num_prefix_tokens
    gh, gw = grid_size or (isqrt(n), isqrt(n))
    if checked and gh * gw != n:
        raise ValueError("the patches must fill the grid")
    ph, pw = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    ph, pw = (pw, ph) if turned else (ph, pw)
    y, x = torch.meshgrid(ph * torch.arange(gh), pw * torch.arange(gw), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=1).float() / unit
    away = torch.cdist(places, places, p=norm)
    result = []
    for weights in maps:
        rows = weights[..., num_prefix_tokens:, num_prefix_tokens:]
        rows = rows[..., : len(places), : len(places)]
        if not itself:
            rows = rows * (1 - torch.eye(rows.shape[-1]))
        if renormalise:
            rows = rows / rows.sum(dim=-1, keepdim=True)
        result.append((rows * away).sum(dim=-1).mean(dim=(0, 2)))
    return torch.stack(result)


def one_prefix(maps, patch_size, num_prefix_tokens=1, grid_size=None):
    try:
        return distance(maps, patch_size, 1, grid_size)
    except ValueError:
        return distance([m[..., :-1, :-1] for m in maps], patch_size, 1, grid_size)


def stub(*_, **__):
    raise NotImplementedError


RIGHT = [
    ("8.1", maps_of),
    ("8.2", rollout),
    ("8.3", distance),
    ("8.4", CLAIMS),
]
WRONG = [
    ("8.1", stub, "still empty"),
    ("8.1", by_hook, "fused attention"),
    ("8.1", with_option(maps_of, restore=False), "leave it as you found it"),
    ("8.1", with_graph, "hold on to the graph"),
    ("8.1", lambda m, x: [a[:, 0] for a in maps_of(m, x)], "expected maps"),
    ("8.1", with_option(maps_of, norm=False), "what stands before it"),
    ("8.1", with_option(maps_of, onward=False), "send them on"),
    ("8.1", after_the_block, "first map is not"),
    ("8.1", with_option(maps_of, eval_mode=False), "does dropout act"),
    ("8.1", always_train, "came back in training mode"),
    ("8.2", stub, "still empty"),
    ("8.2", lambda maps: rollout(maps)[0], "expected shape"),
    ("8.2", with_option(rollout, divide=False), "renormalise after adding"),
    ("8.2", with_option(rollout, divide=False, identity=0.5), "must sum to 1"),
    ("8.2", with_option(rollout, identity=0.0), "path around attention is missing"),
    ("8.2", with_option(rollout, reverse=True), "wrong order"),
    ("8.2", lambda maps: rollout(maps[-1:]), "one block only"),
    ("8.2", with_option(rollout, identity=0.5), "count as much"),
    ("8.2", with_option(rollout, fuse="first"), "are the heads averaged"),
    ("8.2", no_error, "nothing to roll out"),
    ("8.3", stub, "still empty"),
    ("8.3", lambda *args, **more: distance(*args, **more)[0], "expected shape"),
    ("8.3", with_option(distance, unit=16), "how many pixels is a step"),
    ("8.3", with_option(distance, renormalise=False), "sum to 1 again"),
    ("8.3", with_option(distance, itself=False), "look at itself"),
    ("8.3", with_option(distance, norm=1.0), "the straight line"),
    ("8.3", lambda *args, **more: 2 * distance(*args, **more), "weigh each distance"),
    ("8.3", one_prefix, "two prefix tokens"),
    ("8.3", with_option(distance, turned=True), "heights go with rows"),
    ("8.3", with_option(distance, checked=False), "fill no square"),
    ("8.4", {}, "say True or False"),
    ("8.4", CLAIMS | {"A": "yes"}, "say True or False"),
    *(
        ("8.4", CLAIMS | {name: not right}, f"claim {name}")
        for name, right in CLAIMS.items()
    ),
]
