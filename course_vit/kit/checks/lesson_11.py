"""Checks of lesson 11: what stands between a file of weights and a prediction."""

import torch
from torch import Tensor
from torch.nn import functional as F

from . import NotYet, exercise, expect, expect_letter, expect_raises


@exercise(
    "11.1",
    {
        "silence-taken-for-success": "what raises no error was loaded",
        "weights-matched-by-order": "weights are matched by order or by shape",
        "some-keys-always-fit": "names that mean the same are found",
    },
)
def not_strict(answer) -> None:
    expect_letter(
        answer,
        "D",
        {
            "A": (
                "silence-taken-for-success",
                "no error, true. But a layer takes weights by their name: look for the"
                " first name of the file in the model",
            ),
            "B": (
                "weights-matched-by-order",
                "a state dict is a dictionary: what is looked up in it, a place or a"
                " name?",
            ),
            "C": (
                "some-keys-always-fit",
                "which ones? Put both lists of names side by side and look for one that"
                " is in both",
            ),
        },
    )


def parts(d: int = 4) -> dict[str, Tensor]:
    """Two blocks with queries, keys and values apart, and what else a model has."""
    torch.manual_seed(0)
    state = {"cls_token": torch.randn(1, 1, d)}
    for block in ("blocks.1.", "blocks.10."):
        state[f"{block}norm1.weight"] = torch.randn(d)
        for part in "vqk":  # a file may have them in any order
            state[f"{block}attn.{part}.weight"] = torch.randn(d, d)
            state[f"{block}attn.{part}.bias"] = torch.randn(d)
        state[f"{block}attn.proj.weight"] = torch.randn(d, d)
    return state


@exercise(
    "11.2",
    {
        "file-order-kept": "the order in the file is the order in the layer",
        "another-order": "the order of the three does not matter",
        "joined-side-by-side": "layers are joined along their inputs",
        "rows-interleaved": "the three are mixed row by row",
        "parts-left-beside": "what has been fused may stay as well",
        "first-block-only": "all blocks have the number of the example",
        "biases-left-out": "only matrices are fused",
        "other-keys-lost": "only attention is wanted",
        "fused-again": "whatever begins with q is a query",
        "two-parts-accepted": "what is missing will be noticed later",
        "callers-dict-emptied": "a dictionary that one is given may be used up",
    },
)
def fuse_qkv(answer) -> None:
    state = parts()
    given = dict(state)
    fused = answer(given)
    expect(isinstance(fused, dict), f"return a dict, got {type(fused).__name__}")
    expect(
        given.keys() == state.keys(),
        "the dictionary that came in has lost keys: make a new one and leave the"
        " caller's as it is",
        "callers-dict-emptied",
    )
    expect_keys(fused, state)
    for block in ("blocks.1.", "blocks.10."):
        for leaf in ("weight", "bias"):
            expect_rows(fused, state, f"{block}attn.", leaf)
    for key, tensor in state.items():
        kept = key not in fused or torch.equal(fused[key], tensor)
        expect(kept, f"{key} has another value than before")
    whole = {"blocks.0.attn.qkv.weight": torch.ones(12, 4), "norm.bias": torch.ones(4)}
    said = "a file in which qkv is one layer already should come back as it is"
    rule = "does your rule for q take qkv for a q?"
    try:
        again = answer(dict(whole))
    except Exception as error:
        raise NotYet(f"{said}, it raised {type(error).__name__}: {rule}") from None
    came = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in again.items())
    kept = again.keys() == whole.keys() and all(
        torch.equal(again[key], tensor) for key, tensor in whole.items()
    )
    expect(kept, f"{said}, this came back: {came}; {rule}", "fused-again")
    what = "a block with two of the three"
    for part in "qkv":
        torn = {key: t for key, t in state.items() if f"10.attn.{part}." not in key}
        expect_raises(answer, (torn,), ValueError, what, "two-parts-accepted")


def expect_keys(fused: dict, state: dict[str, Tensor]) -> None:
    """One `qkv` for each block and leaf, nothing of the parts, everything else."""
    parts_of = [key for key in state if ".attn." in key and "proj" not in key]
    left = [key for key in parts_of if key in fused]
    whole = [
        f"blocks.{n}.attn.qkv.{leaf}" for n in (1, 10) for leaf in ("weight", "bias")
    ]
    found = [key for key in whole if key in fused]
    expect(
        found or not left,
        f"expected the key {whole[0]}, got {', '.join(map(str, fused))}",
    )
    expect(
        len({key.split(".")[1] for key in found}) == 2,
        f"of the blocks 1 and 10, qkv came out as {', '.join(found) or 'nothing'}: a"
        " model has many blocks, of any number",
        "first-block-only",
    )
    expect(
        all(key in fused for key in whole[1::2]),
        "the matrices are fused, the biases are not: they are keys of the same layer",
        "biases-left-out",
    )
    expect(
        not left,
        f"{', '.join(left)} came back beside the fused layer: strict loading will call"
        " them unexpected",
        "parts-left-beside",
    )
    others = [key for key in state if key not in parts_of and key not in fused]
    expect(
        not others,
        f"{', '.join(others)} got lost: what is not attention belongs to the model,"
        " too",
        "other-keys-lost",
    )


def expect_rows(fused: dict, state: dict[str, Tensor], place: str, leaf: str) -> None:
    """The rows of queries, keys and values one below the other, in this order."""
    got = fused[f"{place}qkv.{leaf}"]
    three = {part: state[f"{place}{part}.{leaf}"] for part in "qkv"}
    right = torch.cat(list(three.values()))
    expect(
        leaf == "bias" or got.shape != (4, 12),
        "three matrices of 4 x 4 became (4, 12): each output of the layer is a row of"
        " its matrix, and the fused layer has three times the outputs",
        "joined-side-by-side",
    )
    expect(
        got.shape == right.shape,
        f"{place}qkv.{leaf}: expected {tuple(right.shape)}, got {tuple(got.shape)}",
    )
    if torch.equal(got, right):
        return
    expect(
        not torch.equal(got, torch.stack(list(three.values()), dim=1).flatten(0, 1)),
        "rows of q, k and v take turns: then the first third, which lesson 4 reads as"
        " the queries, holds a bit of all three",
        "rows-interleaved",
    )
    expect(
        not torch.equal(got, torch.cat([three[part] for part in "vqk"])),
        "the three stand as they came in this dictionary, values first: whose order"
        " counts, the file's or the layer's?",
        "file-order-kept",
    )
    blocks = sorted(got.flatten().tolist()) == sorted(right.flatten().tolist())
    expect(
        not blocks,
        "all numbers are there, in another order: lesson 4 takes the first third for"
        " the queries, the second for the keys",
        "another-order",
    )
    raise NotYet(f"{place}qkv.{leaf} does not hold the numbers of its q, k and v")


def by_columns(position: Tensor, old: tuple, new: tuple) -> Tensor:
    """The referee: prefix rows as they are, every column of the rest one picture."""
    prefix = position.shape[1] - old[0] * old[1]
    columns = [
        F.interpolate(column.reshape(1, 1, *old), size=new, mode="bicubic").flatten()
        for column in position[0, prefix:].T
    ]
    return torch.cat([position[0, :prefix], torch.stack(columns, dim=1)])[None]


@exercise(
    "11.3",
    {
        "prefix-guessed-from-square": "a number of rows tells whether there is a class"
        " token",
        "one-prefix-row-always": "there is one row before the patches, always",
        "prefix-rows-dropped": "only patches have positions",
        "only-one-prefix-row-kept": "whatever stands before the patches is one row",
        "prefix-rows-moved-last": "the rows before the patches may stand anywhere",
        "prefix-rows-taken-last": "the rows that are left over are the last ones",
        "new-grid-exchanged": "6 x 10 and 10 x 6 are one grid",
        "rows-and-columns-exchanged": "a grid of 5 x 3 is one of 3 x 5",
        "reshape-into-pictures": "reshape makes a picture of every column",
        "other-interpolation": "any way to enlarge a picture is the same",
    },
)
def stretch(answer) -> None:
    torch.manual_seed(0)
    for prefix, old in ((1, (4, 4)), (0, (4, 4)), (1, (5, 3)), (2, (4, 4))):
        table = torch.randn(1, prefix + old[0] * old[1], 6)
        rows = "1 row" if prefix == 1 else f"{prefix} rows"
        what = f"{old[0]} x {old[1]} places and {rows} before them"
        try:
            got = answer(table, old, (6, 10))
        except Exception as error:
            if (prefix, old) == (1, (4, 4)):
                raise
            got = f"it raised {type(error).__name__}"
        expect_kept(got, table, prefix, old, what)
        expect_stretched(got, table, prefix, old)


def expect_kept(got, table: Tensor, prefix: int, old: tuple, what: str) -> None:
    """The rows of the prefix, and 60 behind them."""
    said = f"a table of {table.shape[1]} rows, {what}"
    rows = got.shape[1] if isinstance(got, Tensor) else -1
    seen = got if rows < 0 else f"{rows} rows came back"
    square = old != (4, 4)  # where the number of rows is a square, and misleads
    expect(
        rows != 60 or not prefix or square,
        f"{said}: {seen}, and 60 are the new grid alone. The others have a position,"
        " too",
        "prefix-rows-dropped",
    )
    expect(
        not square or rows == 60 + prefix,
        f"{said}: {seen}. {table.shape[1]} is a square number, and no class token"
        " follows from that; who knows the old grid?",
        "prefix-guessed-from-square",
    )
    expect(
        prefix or rows == 60,
        f"{said}: {seen}, 60 were asked for. How many rows does the old grid leave"
        " over?",
        "one-prefix-row-always",
    )
    expect(
        prefix != 2 or rows == 62,
        f"{said}: {seen}, 2 + 60 were asked for. DeiT has a distillation token",
        "only-one-prefix-row-kept",
    )
    expect(rows == 60 + prefix, f"{said}: {seen}, {prefix} + 60 were asked for")


def expect_stretched(got: Tensor, table: Tensor, prefix: int, old: tuple) -> None:
    right = by_columns(table, old, (6, 10))
    if torch.allclose(got, right, atol=1e-5):
        return
    last = torch.cat([right[:, prefix:], right[:, :prefix]], dim=1)
    expect(
        not torch.allclose(got, last, atol=1e-5),
        "the rows that are no places stand last now, and the model adds the first row"
        " to its class token",
        "prefix-rows-moved-last",
    )
    expect(
        not prefix or not torch.equal(got[:, :prefix], table[:, -prefix:]),
        "the rows kept aside are the last ones of the table: class and distillation"
        " token stand first",
        "prefix-rows-taken-last",
    )
    turned = by_columns(table, old, (10, 6))
    expect(
        not torch.allclose(got, turned, atol=1e-5),
        "the 60 places are laid out as 10 rows of 6, and 6 rows of 10 were asked for",
        "new-grid-exchanged",
    )
    flipped = by_columns(table, old[::-1], (6, 10))
    expect(
        old[0] == old[1] or not torch.allclose(got, flipped, atol=1e-5),
        "a grid of 5 rows and 3 columns was read as 3 rows and 5 columns: its patches"
        " come in reading order",
        "rows-and-columns-exchanged",
    )
    scrambled = F.interpolate(
        table[:, prefix:].reshape(1, 6, *old), size=(6, 10), mode="bicubic"
    )
    ways = (scrambled.flatten(2).mT, scrambled.reshape(1, 60, 6))
    expect(
        not any(torch.allclose(got[:, prefix:], way, atol=1e-4) for way in ways),
        "the numbers of one place lie side by side in the table; a reshape to pictures"
        " cuts across them. Lesson 2 had a word that moves axes by name",
        "reshape-into-pictures",
    )
    raise NotYet(
        f"{prefix} + 60 rows came back, but not the numbers of the bicubic stretching"
        " in the question",
        "other-interpolation",
    )


@exercise(
    "11.4",
    {
        "small-loss-from-a-random-head": "a head that was never trained costs a little",
        "small-loss-from-exchanged-layers": "attention that asks with the wrong layer"
        " costs a little",
        "small-loss-from-unscaled-images": "numbers 255 times too large cost a little",
    },
)
def what_to_suspect(answer) -> None:
    expect_letter(
        answer,
        "B",
        {
            "A": (
                "small-loss-from-a-random-head",
                "a thousand classes, and a head that knows none of them: how many would"
                " it name rightly?",
            ),
            "C": (
                "small-loss-from-exchanged-layers",
                "section 11.3 tried that: how much was left?",
            ),
            "D": (
                "small-loss-from-unscaled-images",
                "look at the last column of the figure: does that cost four points?",
            ),
        },
    )
