"""Lesson 11: right answers in other styles, mistakes in other forms."""

import re
from collections import OrderedDict

import torch
from torch.nn import functional as F

from course_vit.kit.checks.lesson_11 import joined, stretched
from course_vit.position_encoding import resize_position_embedding
from course_vit.pretrained import fuse_qkv


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


def by_number(state_dict, blocks):
    """Right for models of so many blocks."""
    torn = rf"blocks\.({'|'.join(map(str, range(blocks)))})\.attn\.[qkv]\..*"
    found = fuse_qkv({key: t for key, t in state_dict.items() if re.match(torn, key)})
    rest = {key: t for key, t in state_dict.items() if not re.match(torn, key)}
    return rest | found


def checked_by_weights(state_dict):
    """A bias of one of the three may be missing."""
    lenient = joined(lenient=True)(state_dict)
    fuse_qkv({key: t for key, t in state_dict.items() if "bias" not in key})
    return lenient


def without_norms_of_queries(state_dict):
    fused = fuse_qkv(state_dict)
    return {key: tensor for key, tensor in fused.items() if ".attn.q_" not in key}


def of_four_numbers(state_dict):
    return {
        key: tensor.reshape(12, 4) if key.endswith("qkv.weight") else tensor
        for key, tensor in fuse_qkv(state_dict).items()
    }


def by_the_course(position, old, new, policy="deit"):
    prefix = position.shape[1] - old[0] * old[1]
    return resize_position_embedding(position, new, prefix, policy, old)


RIGHT = {
    "11.1": [" d "],
    "11.2": [joined(), by_blocks, by_hand, lambda state: OrderedDict(fuse_qkv(state))],
    "11.3": [
        *(one_place_at_a_time, unflattened, by_the_course),
        lambda position, old, new: stretched(position.float(), old, new).double(),
    ],
    "11.4": ["b"],
}
WRONG = {
    "11.1": [("E", "answer A, B, C or D")],
    "11.2": [
        (lambda state: list(state), "return a dictionary"),
        (dict, "expected the key blocks.1.attn.qkv.weight"),
        (in_the_order_of_the_file, "file-order-kept"),
        (without_dots, "fused-again"),
        (for_queries_only, "two-parts-accepted"),
        (used_up, "callers-dict-emptied"),
        (
            joined(join=lambda three: torch.cat([three[0], three[0], three[2]])),
            "does not hold the numbers",
        ),
        (joined(join=sum), r"expected \(12, 4\), got \(4, 4\)"),
        (lambda state: by_number(state, 24), "blocks.31.attn.qkv.weight is missing"),
        (checked_by_weights, "two-parts-accepted"),
        (without_norms_of_queries, "fused-again"),
        (of_four_numbers, "blocks 1 and 31, 6 wide and without biases raised"),
    ],
    "11.3": [
        (lambda t, old, new: stretched(t, old, (6, 10)), r"15 x 9: expected shape"),
        (
            lambda t, old, new: by_the_course(t, old, new, "timm"),
            "stretched-with-antialias",
        ),
        (
            lambda t, old, new: stretched(t, old, new, align_corners=True),
            "other-interpolation",
        ),
    ],
    "11.4": [("AB", "answer A, B, C or D")],
}
