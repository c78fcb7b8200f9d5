"""Checks of lesson 00: tensor words."""

from typing import Any

from .judge import answers, choose, exercise, expect, words

out_of_order = choose("0.1", "B")
out_of_order.mistakes |= {
    "screen-is-memory: the screen shows an old run. Which cell has run again since,"
    " and what did it set?": "A",
    "names-follow-names: `doubled` gets a value when its own cell runs: has that cell"
    " run since the change?": "C",
    "rerun-forgets-the-rest: both names exist, because both cells have run: which of"
    " the two names has a new value?": "D",
}


def row(index: int):
    def run(answer: Any) -> list:
        lists = all(isinstance(each, list | tuple) for each in answer)
        expect(lists, f"{answer!r} cannot be read as an answer: write two lists")
        return list(answer[index])

    return run


first_rows = exercise(
    "0.2",
    right=([0, 1], [0, 3]),
    trial={
        "view-equals-transpose": lambda answer: row(0)(answer) == row(1)(answer),
        "{got}? view cuts the line 0 1 2 3 4 5 into rows, two at a time": row(0),
        "{got}? Row 0 of x.T is column 0 of x": row(1),
    },
)
first_rows.mistakes |= {
    "view-equals-transpose: print row 0 of both: view keeps the order in memory, a"
    " transpose swaps the axes": ([0, 3], [0, 3]),
    "view-and-transpose-swapped: both rows occur, each at the other's place. Which of"
    " the two words leaves the line of memory as it is?": ([0, 3], [0, 1]),
    "rows-keep-their-length: a row of three numbers? Both results have three rows of"
    " two": answers(([0, 1, 2], [0, 3]), ([0, 1], [0, 1, 2])),
    "transpose-rotates: {got} is row 0 of a table that was turned by a quarter. A"
    " transpose mirrors: the number in the corner, row 0 and column"
    " 0, stays there": answers(([0, 1], [2, 5]), ([0, 1], [3, 0])),
}

SHAPES = {
    "rearrange": (2, 64, 3),
    "repeat": (2, 5, 7),
    "reduce": (2, 3),
    "einsum": (2, 5, 6),
}


def shape_of(word: str):
    """The shape that an answer, a dict or four shapes in turn, gives for a word."""

    def run(answer: Any) -> tuple[int, ...]:
        if not isinstance(answer, dict):
            four = isinstance(answer, list | tuple) and len(answer) == len(SHAPES)
            expect(four, f"{answer!r} cannot be read as an answer: write four shapes")
            answer = dict(zip(SHAPES, answer, strict=True))
        return tuple(answer[word])

    return run


pattern_shapes = exercise(
    "0.3",
    right=SHAPES,
    trial={
        "rearrange does not give {got}: how long is one axis that holds all of h and"
        " all of w?": shape_of("rearrange"),
        "repeat does not give {got}: 1 on the left vanishes, b on the right is new": (
            shape_of("repeat")
        ),
        "reduce does not give {got}: letters missing on the right are averaged away": (
            shape_of("reduce")
        ),
        "einsum does not give {got}: e is in both inputs and not in the result: it is"
        " summed over": shape_of("einsum"),
    },
)
pattern_shapes.mistakes |= {
    "brackets-are-decoration: rearrange does not give {got}: count the axes on the"
    " right of the arrow: what do brackets make out of two letters?": (
        SHAPES | {"rearrange": (2, 8, 8, 3)}
    ),
    "brackets-add: rearrange does not give {got}: 16 is 8 + 8. How many pixels do 8"
    " rows of 8 have?": SHAPES | {"rearrange": (2, 16, 3)},
    "axes-keep-their-order: rearrange does not give {got}: the order on the right of"
    " the arrow is the order of the result: which letter comes last?": (
        SHAPES | {"rearrange": (2, 3, 64)}
    ),
    "repeat-changes-nothing: repeat does not give {got}: b is on the right, and the"
    " call says how long it is": SHAPES | {"repeat": (1, 5, 7)},
    "left-side-stays: repeat does not give {got}: the 1 is on the left of the arrow"
    " only. What is not on the right is not in the result": (
        SHAPES | {"repeat": (2, 1, 5, 7)}
    ),
    "repeat-lengthens-the-tokens: repeat does not give {got}: n is alone on both"
    " sides: it keeps its length. Which letter is new?": (
        SHAPES | {"repeat": (1, 10, 7)}
    ),
    "mean-over-last-axis-only: reduce does not give {got}: is w the only letter that"
    " is missing on the right?": SHAPES | {"reduce": (2, 3, 8)},
    "reduced-axes-stay-as-ones: reduce does not give {got}: a letter that is missing"
    " on the right leaves no axis behind, not even one of length 1": (
        SHAPES | {"reduce": (2, 3, 1, 1)}
    ),
    "named-letters-are-reduced: reduce does not give {got}: that took the mean over"
    " the letters on the right. They are what stays": SHAPES | {"reduce": (8, 8)},
    "shared-letter-stays: einsum does not give {got}: e is missing on the right: what"
    " does einsum do with such a letter?": SHAPES | {"einsum": (2, 5, 6, 4)},
    "shared-letter-always-summed: einsum does not give {got}: b is in both inputs, and"
    " in the result too: what is asked for on the right stays": (
        SHAPES | {"einsum": (5, 6)}
    ),
}

NAMES = ["weight", "table", "plain"]


def named(answer: Any) -> list[str]:
    """The names of an answer, all of them known."""
    got = words(answer)
    unknown = [name for name in got if name not in NAMES]
    expect(not unknown, f"there is no {unknown}, only {NAMES}")
    expect(got, "an empty checkpoint? Look into module.state_dict()")
    return got


remembered = exercise(
    "0.4",
    right=["weight", "table"],
    trial={
        "every-attribute-is-saved": lambda answer: "plain" in named(answer),
        "parameters-are-not-state": lambda answer: "weight" in named(answer),
        "only-what-trains-is-saved": lambda answer: "table" in named(answer),
    },
)
remembered.mistakes |= {
    "every-attribute-is-saved: a plain tensor is an attribute like any other: which"
    " line tells torch about it?": NAMES,
    "parameters-are-not-state: without its weight a loaded model has forgotten what it"
    " learned": ["table"],
    "only-what-trains-is-saved: a checkpoint must be enough to compute the same"
    " answers again. Is what trains enough for that?": ["weight"],
}
