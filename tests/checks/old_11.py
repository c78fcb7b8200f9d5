"""Right answers and known mistakes for the exercises of lesson 11."""

import re
from math import isqrt

import torch
from einops import rearrange
from torch.nn import functional as F


def joined(state_dict, order="qkv", dim=0, fault=""):
    """A way to write exercise 11.2, right or with a mistake."""
    fused = {}
    for key, tensor in state_dict.items():
        found = re.fullmatch(r"(blocks\.\d+\.attn\.)[qkv]\.(weight|bias)", key)
        if fault == "loose":
            found = re.fullmatch(r"(.*attn\.)[qkv].*\.(weight|bias)", key)
        if fault == "matrices" and key.endswith("bias"):
            found = None
        if fault == "block 1" and not key.startswith("blocks.1."):
            found = None
        if not found:
            if fault != "attention only" or "attn" in key:
                fused[key] = tensor
            continue
        if fault == "beside":
            fused[key] = tensor
        names = [f"{found[1]}{part}.{found[2]}" for part in order]
        if any(name not in state_dict for name in names):
            if fault == "lenient":
                names = [name for name in names if name in state_dict]
            else:
                raise ValueError("q, k and v belong together")
        three = [state_dict[name] for name in names]
        if fault == "rows":
            whole = torch.stack(three, dim=1).flatten(0, 1)
        elif fault == "twice q":
            whole = torch.cat([three[0], three[0], three[2]])
        elif fault == "summed":
            whole = sum(three)
        else:
            whole = torch.cat(three, dim=dim)
        fused[f"{found[1]}qkv.{found[2]}"] = whole
    return fused


def by_blocks(state_dict):
    """Right: the three are looked for in each place that has queries."""
    fused = {
        key: t for key, t in state_dict.items() if not re.search(r"n\.[qkv]\.", key)
    }
    torn = {key for key in state_dict if key not in fused}
    for place in {re.sub(r"\.[qkv]\.", ".{}.", key) for key in torn}:
        try:
            three = [state_dict[place.format(part)] for part in "qkv"]
        except KeyError as error:
            raise ValueError(f"no {error}") from None
        fused[place.format("qkv")] = torch.stack(three).flatten(0, 1)
    return fused


def by_hand(state_dict):
    """Right: a copy whose parts are taken out one after the other."""
    left, fused = dict(state_dict), {}
    for key in state_dict:
        if ".attn.q." not in key:
            continue
        k, v = key.replace(".q.", ".k."), key.replace(".q.", ".v.")
        if k not in left or v not in left:
            raise ValueError(f"{key} stands alone")
        q, k, v = left.pop(key), left.pop(k), left.pop(v)
        whole = q.new_empty(3 * len(q), *q.shape[1:])
        whole[: len(q)], whole[len(q) : 2 * len(q)], whole[2 * len(q) :] = q, k, v
        fused[key.replace(".q.", ".qkv.")] = whole
    if any(f".attn.{part}." in key for key in left for part in "kv"):
        raise ValueError("keys or values without queries")
    return left | fused


def in_the_order_of_the_file(state_dict):
    """As they come, one after the other."""
    fused = {}
    for key, tensor in state_dict.items():
        whole = re.sub(r"\.attn\.[qkv]\.", ".attn.qkv.", key)
        before = [fused[whole]] if whole in fused else []
        fused[whole] = torch.cat([*before, tensor])
    return fused


def used_up(state_dict):
    fused = by_hand(state_dict)
    for key in set(state_dict) - set(fused):
        del state_dict[key]
    return fused


def in_place(state_dict):
    fused = joined(state_dict)
    state_dict.clear()
    return fused


def stretched(position, old, new, fault=""):
    """A way to write exercise 11.3, right or with a mistake."""
    (gh, gw), rows = old, position.shape[1]
    prefix = rows - gh * gw
    if fault == "guess":
        prefix = 0 if isqrt(rows) ** 2 == rows else 1
        gh = isqrt(rows - prefix)
    if fault == "largest square":
        gh = isqrt(rows)
        prefix = rows - gh * gh
    if fault == "one":
        prefix = 1
    first, grid = position[:, :prefix], position[:, prefix:]
    if fault == "taken last":
        first, grid = position[:, rows - prefix :], position[:, : rows - prefix]
    if fault == "new turned":
        new = new[::-1]
    if fault == "first row":
        first, grid = position[:, :1], position[:, -gh * gw :]
        first = first[:, : rows - gh * gw]
    if fault == "one row":
        first, grid = position[:, :1], position[:, -gh * gw :]
    if fault == "exchanged":
        gh, gw = gw, gh
    if fault == "view":
        grid = grid.reshape(1, -1, gh, gw)
    else:
        grid = rearrange(grid, "1 (gh gw) d -> 1 d gh gw", gh=gh)
    mode = "bilinear" if fault == "bilinear" else "bicubic"
    grid = F.interpolate(grid, size=new, mode=mode)
    grid = (
        grid.reshape(1, new[0] * new[1], -1)
        if fault == "view"
        else grid.flatten(2).transpose(1, 2)
    )
    if fault == "dropped":
        return grid
    return torch.cat([grid, first] if fault == "last" else [first, grid], dim=1)


def one_place_at_a_time(position, old, new):
    """Right: every column of the table is a picture of its own."""
    places = old[0] * old[1]
    columns = [
        F.interpolate(column.reshape(1, 1, *old), size=new, mode="bicubic").flatten()
        for column in position[0, -places:].unbind(dim=1)
    ]
    grid = torch.stack(columns, dim=-1)
    return torch.cat([position[0, :-places], grid])[None]


def unflattened(position, old, new):
    """Right, with torch's own words for axes."""
    first, grid = position.split(
        [position.shape[1] - old[0] * old[1], old[0] * old[1]], 1
    )
    grid = grid.unflatten(1, old).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, new, mode="bicubic").permute(0, 2, 3, 1)
    return torch.cat((first, grid.flatten(1, 2)), 1)


def for_queries_only(state_dict):
    """Whole layers are made where queries are; keys and values are just left out."""
    fused = {}
    for key, tensor in state_dict.items():
        if ".attn.q." in key:
            names = [key.replace(".q.", f".{part}.") for part in "qkv"]
            if any(name not in state_dict for name in names):
                raise ValueError("q, k and v belong together")
            whole = torch.cat([state_dict[name] for name in names])
            fused[key.replace(".q.", ".qkv.")] = whole
        elif ".attn.k." not in key and ".attn.v." not in key:
            fused[key] = tensor
    return fused


def without_dots(state_dict):
    """Whatever has q in its name is a query."""
    fused = {}
    for key, tensor in state_dict.items():
        name = re.sub(r"\.attn\.(qkv|[qkv])", ".attn.qkv", key)
        if ".attn.q" in key:
            names = [re.sub(r"\.q\.", f".{part}.", key) for part in "qkv"]
            if any(part not in state_dict for part in names):
                raise ValueError("q, k and v belong together")
            fused[name] = torch.cat([state_dict[part] for part in names])
        elif name == key:
            fused[key] = tensor
        elif name.replace("qkv", "q") not in state_dict:
            raise ValueError("keys or values without queries")
    return fused


def stub(*_):
    raise NotImplementedError


RIGHT = [
    ("11.1", "D"),
    ("11.1", " d "),
    ("11.2", joined),
    ("11.2", by_blocks),
    ("11.2", by_hand),
    ("11.3", stretched),
    ("11.3", one_place_at_a_time),
    ("11.3", unflattened),
    ("11.4", "B"),
    ("11.4", "b"),
]


def fuse(**how):
    return lambda state_dict: joined(state_dict, **how)


def stretch(fault):
    return lambda *given: stretched(*given, fault=fault)


WRONG = [
    ("11.1", "E", None, "answer A, B, C or D"),
    ("11.1", "A", "silence-taken-for-success", "by their name"),
    ("11.1", "B", "weights-matched-by-order", "a place or a name"),
    ("11.1", "C", "some-keys-always-fit", "side by side"),
    ("11.2", stub, None, "still empty"),
    ("11.2", lambda state_dict: list(state_dict), None, "return a dict"),
    ("11.2", dict, None, "cannot be|expected the key"),
    ("11.2", in_the_order_of_the_file, "file-order-kept", "whose order"),
    ("11.2", fuse(order="vqk"), "file-order-kept", "values first"),
    ("11.2", fuse(order="kqv"), "another-order", "first third"),
    ("11.2", fuse(order="qvk"), "another-order", "second for the keys"),
    ("11.2", fuse(dim=-1), "joined-side-by-side", "a row of its matrix"),
    ("11.2", fuse(fault="rows"), "rows-interleaved", "take turns"),
    ("11.2", fuse(fault="beside"), "parts-left-beside", "unexpected"),
    ("11.2", fuse(fault="block 1"), "first-block-only", "many blocks"),
    ("11.2", fuse(fault="matrices"), "biases-left-out", "the biases are not"),
    ("11.2", fuse(fault="attention only"), "other-keys-lost", "got lost"),
    ("11.2", fuse(fault="loose"), None, "it raised ValueError: does your rule"),
    ("11.2", without_dots, "fused-again", "qkv.weight .36, 4."),
    ("11.2", for_queries_only, "two-parts-accepted", "two of the three"),
    ("11.2", fuse(fault="lenient"), "two-parts-accepted", "should raise ValueError"),
    ("11.2", in_place, "callers-dict-emptied", "make a new one"),
    ("11.2", used_up, "callers-dict-emptied", "has lost keys"),
    ("11.2", fuse(fault="twice q"), None, "does not hold the numbers"),
    ("11.2", fuse(fault="summed"), None, "expected .12, 4., got .4, 4."),
    ("11.3", stub, None, "still empty"),
    ("11.3", stretch("guess"), "prefix-guessed-from-square", "who knows the old grid"),
    (
        "11.3",
        stretch("largest square"),
        "prefix-guessed-from-square",
        "is a square number",
    ),
    ("11.3", stretch("one"), "one-prefix-row-always", "leave over"),
    ("11.3", stretch("dropped"), "prefix-rows-dropped", "the new grid alone"),
    ("11.3", stretch("first row"), "only-one-prefix-row-kept", "distillation token"),
    ("11.3", stretch("last"), "prefix-rows-moved-last", "stand last"),
    ("11.3", stretch("taken last"), "prefix-rows-taken-last", "stand first"),
    ("11.3", stretch("new turned"), "new-grid-exchanged", "10 rows of 6"),
    ("11.3", stretch("exchanged"), "rows-and-columns-exchanged", "in reading order"),
    ("11.3", stretch("view"), "reshape-into-pictures", "cuts across"),
    ("11.3", stretch("bilinear"), "other-interpolation", "bicubic stretching"),
    ("11.4", "AB", None, "answer A, B, C or D"),
    ("11.4", "A", "small-loss-from-a-random-head", "a thousand classes"),
    ("11.4", "C", "small-loss-from-exchanged-layers", "11.3"),
    ("11.4", "D", "small-loss-from-unscaled-images", "last column"),
]
