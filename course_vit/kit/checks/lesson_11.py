"""Checks of lesson 11: what lies between a file of weights and a prediction."""

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ...pretrained import fuse_qkv
from .judge import answers, choose, draw, exercise

not_strict = choose("11.1", "D")
not_strict.mistakes |= {
    "silence-taken-for-success: it is true that there is no error. But a layer finds"
    " its weights by their name: look for the first name of the file in the model": "A",
    "weights-matched-by-order: a state dict is a dictionary. Is a tensor found in it by"
    " its place or by its name?": "B",
    "some-keys-always-fit: which ones? Put both lists of names side by side and look"
    " for a name that is in both": "C",
}

# 11.2 Three layers in one


def parts(d: int = 4, last: int = 10, bias: bool = True) -> dict[str, Tensor]:
    """Two blocks with separate queries, keys and values, and other parts of a model."""
    state = {"cls_token": draw(1, 1, d)}
    for block in ("blocks.1.", f"blocks.{last}."):
        state[f"{block}norm1.weight"] = draw(d, seed=len(state))
        for part in "vqk":  # a file may have them in any order
            state[f"{block}attn.{part}.weight"] = draw(d, d, seed=len(state))
            if bias:
                state[f"{block}attn.{part}.bias"] = draw(d, seed=len(state))
        state[f"{block}attn.proj.weight"] = draw(d, d, seed=len(state))
    return state


def fused(answer) -> Any:
    found = answer(parts())
    return dict(found) if isinstance(found, Mapping) else found


def keys_lost(answer) -> set[str]:
    """The keys that an answer removes from the dictionary that it is given."""
    state = parts()
    answer(state)
    return parts().keys() - state.keys()


def keys_with(text: str):
    return lambda answer: sorted(key for key in fused(answer) if text in key)


def whole(answer) -> dict[str, Any]:
    """The shapes that are returned if qkv is one layer already, or an error."""
    layers = {"blocks.0.attn.qkv.weight": torch.ones(12, 4)}
    layers |= {"norm.bias": torch.ones(4), "blocks.0.attn.q_norm.bias": torch.ones(2)}
    try:
        return {key: tuple(tensor.shape) for key, tensor in answer(layers).items()}
    except Exception as error:
        return {"an error": type(error).__name__}


def without(part: str) -> dict[str, Tensor]:
    return {key: t for key, t in parts().items() if f"10.attn.{part}" not in key}


def joined(
    order: str = "qkv",
    join=torch.cat,
    torn: str = r"(.*\.attn\.)[qkv]\.(weight|bias)",
    kept=lambda key, state: ".attn.q." not in key,
    lenient: bool = False,
):
    """A way to write exercise 11.2, right or with a mistake."""

    def answer(state_dict):
        found: dict[str, Tensor] = {}
        for key, tensor in state_dict.items():
            match = re.fullmatch(torn, key)
            if not match:
                found |= {key: tensor} if kept(key, state_dict) else {}
                continue
            names = [f"{match[1]}{part}.{match[2]}" for part in order]
            if lenient:
                names = [name for name in names if name in state_dict]
            if missing := [name for name in names if name not in state_dict]:
                raise ValueError(f"there is no {missing}")
            three = [state_dict[name] for name in names]
            found[f"{match[1]}qkv.{match[2]}"] = join(three)
        return found

    return answer


def emptied(state):
    found = fuse_qkv(state)
    state.clear()
    return found


layer = exercise(
    "11.2",
    right=fuse_qkv,
    trial={
        "return a dictionary": lambda f: isinstance(fused(f), Mapping),
        "callers-dict-emptied": keys_lost,
        "expected the key blocks.1.attn.qkv.weight, got {keys}": keys_with(
            "qkv.weight"
        ),
        "biases-left-out": keys_with("qkv.bias"),
        "parts-left-beside": lambda f: sorted(
            key for key in fused(f) if re.search(r"attn\.[qkv]\.", key)
        ),
        "other-keys-lost": lambda f: sorted(fused(f)),
        "blocks.1.attn.qkv.weight: expected {right}, got {got}": (
            lambda f: tuple(fused(f)["blocks.1.attn.qkv.weight"].shape)
        ),
        "blocks.1.attn.qkv.weight does not hold the numbers of its q, k and v": (
            lambda f: fused(f)["blocks.1.attn.qkv.weight"]
        ),
        "a key has a different value than before": fused,
        "fused-again": whole,
    },
    also={
        "a block without its queries": lambda f: f(without("q.")),
        "a block without its keys": lambda f: f(without("k.")),
        "a block without its values": lambda f: f(without("v.")),
        "a block whose keys have no bias": lambda f: f(without("k.bias")),
        "blocks 1 and 31, 6 wide and without biases": lambda f: dict(
            f(parts(d=6, last=31, bias=False))
        ),
    },
    measures={
        "keys": lambda got, right: ", ".join(got) or "none with qkv",
        "lost": lambda got, right: (
            ", ".join(key for key in right if key not in got) or "no key"
        ),
        "lacking": lambda got, right: str(right).split("there is no ")[1],
    },
    otherwise="{lost} is missing, or a key does not hold the expected numbers",
)
layer.mistakes |= {
    "callers-dict-emptied: the dictionary that your function was given has lost keys:"
    " make a new one and do not change the caller's": emptied,
    "file-order-kept: the parts are joined in the order of this dictionary, values"
    " first. Whose order counts, the file's or the layer's?": joined("vqk"),
    "another-order: all numbers are there, but in a different order. Lesson 4 reads the"
    " first third as the queries and the second third as the keys": answers(
        *(joined(order) for order in ("kqv", "qvk", "vkq", "kvq"))
    ),
    "joined-side-by-side: three matrices of 4 x 4 became (4, 12). Each output of a"
    " layer is a row of its matrix, and the fused layer has three times the outputs": (
        joined(join=lambda three: torch.cat(three, dim=-1))
    ),
    "rows-interleaved: the rows of q, k and v alternate, so the first third, which"
    " lesson 4 reads as the queries, holds a bit of all three": (
        joined(join=lambda three: torch.stack(three, dim=1).flatten(0, 1))
    ),
    "parts-left-beside: you returned {keys} beside the fused layer: strict loading"
    " will call them unexpected": lambda state: state | fuse_qkv(state),
    "first-block-only: the file has the blocks 1 and 10, and the fused keys are"
    " {keys}. A model has many blocks, with any numbers": (
        joined(torn=r"(blocks\.1\.attn\.)[qkv]\.(weight|bias)", kept=lambda *_: True)
    ),
    "biases-left-out: the matrices are fused, but the biases are not. They belong to"
    " the same layer": joined(
        torn=r"(.*\.attn\.)[qkv]\.(weight)", kept=lambda *_: True
    ),
    "other-keys-lost: {lost} got lost: the tensors outside attention"
    " belong to the model, too": joined(kept=lambda key, state: "attn" in key),
    "fused-again: if qkv is one layer already, the file should be returned as it is,"
    " but you returned {got}. Does your rule for q mistake qkv for a q?": (
        joined(torn=r"(.*\.attn\.)[qkv].*\.(weight|bias)")
    ),
    "two-parts-accepted: the file has no {lacking}, and no error was raised. What can"
    " be fused without it?": answers(
        joined(lenient=True),
        seen=lambda got, right: isinstance(right, ValueError) and hasattr(got, "keys"),
    ),
}

# 11.3 Another grid


def stretched(position, old, new, prefix=None, read=None, last=False, **how):
    """Exercise 11.3, right or with a mistake."""
    prefix = position.shape[1] - old[0] * old[1] if prefix is None else prefix
    rows = rearrange(position[:, prefix:], "1 n d -> 1 d n")
    grid = F.interpolate(
        rows.unflatten(2, read or old), **{"size": new, "mode": "bicubic"} | how
    )
    both = [position[:, :prefix], grid.flatten(2).mT]
    return torch.cat(both[::-1] if last else both, dim=1)


def guessed(position, old, new):
    """No prefix where the number of rows is a square, else one row."""
    rows = position.shape[1]
    prefix = int(isqrt(rows) ** 2 != rows)
    side = isqrt(rows - prefix)
    return stretched(position, old, new, prefix, (side, side))


def reshaped(position, old, new, back=False):
    prefix = position.shape[1] - old[0] * old[1]
    pictures = position[:, prefix:].reshape(1, -1, *old)
    grid = F.interpolate(pictures, size=new, mode="bicubic")
    rows = grid.reshape(1, 60, -1) if back else grid.flatten(2).mT
    return torch.cat([position[:, :prefix], rows], dim=1)


def table(prefix: int, old: tuple[int, ...]) -> Tensor:
    return draw(1, prefix + old[0] * old[1], 6)


def larger(prefix: int, *old: int, new: tuple[int, int] = (6, 10)):
    return lambda answer: answer(table(prefix, old), old, new)


def count(prefix: int, *old: int):
    """How many rows an answer returns, or that there was an error."""

    def run(answer) -> Any:
        try:
            return larger(prefix, *old)(answer).shape[1]
        except NotImplementedError:
            raise
        except Exception:
            return "an error and no"

    return run


grid = exercise(
    "11.3",
    right=stretched,
    trial={
        "a table of 17 rows, 4 x 4 places and 1 row before them: you returned {got}"
        " rows, expected 1 + 60": lambda f: larger(1, 4, 4)(f).shape[1],
        "a table of 16 rows, 4 x 4 places and no row before them: you returned {got}"
        " rows, expected 60": count(0, 4, 4),
        "a table of 16 rows, 5 x 3 places and 1 row before them: you returned {got}"
        " rows, expected 1 + 60": count(1, 5, 3),
        "a table of 18 rows, 4 x 4 places and 2 rows before them: you returned {got}"
        " rows, expected 2 + 60": count(2, 4, 4),
        "other-interpolation": larger(1, 4, 4),
        "rows-and-columns-exchanged": larger(1, 5, 3),
        "you returned 2 + 60 rows, but not the right ones": larger(2, 4, 4),
    },
    also={"a grid of 11 x 5 that becomes 15 x 9": larger(1, 11, 5, new=(15, 9))},
    rtol=1e-5,
    atol=1e-5,
)
grid.mistakes |= {
    "prefix-rows-taken-last: you set the last rows of the table aside, but class and"
    " distillation token come first": lambda t, old, new: stretched(
        t.roll(t.shape[1] - old[0] * old[1], dims=1), old, new
    ),
    "prefix-rows-dropped: a table of 17 rows, 4 x 4 places and 1 row before them:"
    " you returned {got} rows, and 60 are the new grid alone. The tokens before it have"
    " positions, too": lambda t, old, new: stretched(t, old, new)[:, -60:],
    "one-prefix-row-always: a table of 16 rows, 4 x 4 places and no row before them:"
    " you returned {got} rows, expected 60. How many rows does the old grid leave"
    " over?": lambda t, old, new: stretched(t, old, new, prefix=1),
    "prefix-guessed-from-square: a table of 16 rows, 5 x 3 places and 1 row before"
    " them: you returned {got} rows. 16 is a square number, but that does not tell"
    " whether there is a class token. What tells you more about the old grid?": guessed,
    "only-one-prefix-row-kept: a table of 18 rows, 4 x 4 places and 2 rows before"
    " them: you returned {got} rows, expected 2 + 60. DeiT has a distillation"
    " token": lambda t, old, new: stretched(t, old, new)[:, -61:],
    "prefix-rows-moved-last: the prefix rows come last in your table, but the model"
    " adds the first row to its class token": (
        lambda t, old, new: stretched(t, old, new, last=True)
    ),
    "new-grid-exchanged: the 60 places are laid out as 10 rows of 6, but the new grid"
    " has 6 rows of 10": lambda position, old, new: stretched(position, old, new[::-1]),
    "rows-and-columns-exchanged: a grid of 5 rows and 3 columns was read as 3 rows and"
    " 5 columns. Its patches come in reading order": (
        lambda position, old, new: stretched(position, old[::-1], new)
    ),
    "reshape-into-pictures: the numbers of one place are side by side in the table,"
    " and a reshape to pictures cuts across them. Lesson 1 introduced a function that"
    " moves axes by name": answers(
        reshaped, lambda t, old, new: reshaped(t, old, new, back=True)
    ),
    "stretched-with-antialias: this is bicubic with antialias=True, like the policy"
    " timm. The function in the question has no antialias, like the policy deit": (
        lambda *three: stretched(*three, antialias=True)
    ),
    "scaled-by-a-factor: 11 x 5 places should become 15 x 9, shape {right}, but"
    " became {got}: a factor is rounded, a size is not": lambda t, old, new: stretched(
        *(t, old, new),
        size=None,
        scale_factor=[n / o for n, o in zip(new, old, strict=True)],
    ),
    "other-interpolation: you returned 1 + 60 rows, but not the numbers of the bicubic"
    " interpolation in the question": lambda t, old, new: stretched(
        t, old, new, mode="bilinear"
    ),
}

# 11.4 Four points too few

four_points = choose("11.4", "B")
four_points.mistakes |= {
    "small-loss-from-a-random-head: there are a thousand classes, and such a head"
    " knows none of them. How many pictures would it name correctly?": "A",
    "small-loss-from-exchanged-layers: section 11.3 tried that. How much was left?": (
        "C"
    ),
    "small-loss-from-unscaled-images: look at the last column of the figure: does this"
    " slip cost four points?": "D",
}
