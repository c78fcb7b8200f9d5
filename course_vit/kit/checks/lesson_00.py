"""Checks of lesson 00: tensor words."""

from . import exercise, expect, expect_letter


@exercise("0.1", "What is on screen, what is in memory", "choose", minutes=3)
def out_of_order(answer) -> None:
    hints = {
        "A": "the screen shows an old run. Restart, run all, and compare",
        "C": "Python does not look ahead: a cell changes nothing until it runs",
        "D": "the name exists, since its cell has run; it only changed since",
    }
    expect_letter(answer, "B", hints)


@exercise("0.2", "A view is not a transpose", "predict", minutes=3)
def first_rows(answer) -> None:
    viewed, transposed = [list(row) for row in answer]
    expect(
        viewed != transposed,
        "print row 0 of both: view keeps the order in memory, a transpose swaps the"
        " axes",
    )
    expect(viewed == [0, 1], f"{viewed}? view cuts 0 1 2 3 4 5 anew, two at a time")
    expect(transposed == [0, 3], f"{transposed}? Row 0 of x.T is column 0 of x")


@exercise("0.3", "Read a pattern", "predict", minutes=5)
def pattern_shapes(answer) -> None:
    right = {
        "rearrange": (2, 64, 3),
        "repeat": (2, 5, 7),
        "reduce": (2, 3),
        "einsum": (2, 5, 6),
    }
    hints = {
        "rearrange": "brackets multiply: (h w) is one axis of h times w",
        "repeat": "1 on the left vanishes, b on the right is new",
        "reduce": "letters missing on the right are averaged away",
        "einsum": "e stands on both inputs and not in the result: it is summed over",
    }
    for word, shape in right.items():
        got = tuple(answer[word])
        expect(got == shape, f"{word} does not give {got}: {hints[word]}")


@exercise("0.4", "What a module remembers", "choose", minutes=3)
def remembered(answer) -> None:
    got = set(answer)
    expect(
        "plain" not in got, "a plain tensor is an attribute like any other: not saved"
    )
    expect("table" in got, "a buffer is saved although it does not train")
    expect("weight" in got, "a Parameter is what a checkpoint is made of")
    expect(got == {"weight", "table"}, f"there is no {got - {'weight', 'table'}}")
