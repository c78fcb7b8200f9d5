"""Checks of lesson 00: tensor words."""

from typing import Any

from . import exercise, expect, expect_letter


@exercise(
    "0.1",
    {
        "screen-is-memory": "what the screen shows is what the kernel remembers",
        "names-follow-names": "a name is a formula that follows the names in it",
        "rerun-forgets-the-rest": "running one cell again takes the other names away",
    },
)
def out_of_order(answer: Any) -> None:
    hints = {
        "A": (
            "screen-is-memory",
            "the screen shows an old run. Restart, run all, and compare",
        ),
        "C": (
            "names-follow-names",
            "Python does not look ahead: a cell changes nothing until it runs",
        ),
        "D": (
            "rerun-forgets-the-rest",
            "the name exists, since its cell has run; it only changed since",
        ),
    }
    expect_letter(answer, "B", hints)


@exercise(
    "0.2",
    {
        "view-equals-transpose": "the same shape means the same rows",
        "view-and-transpose-swapped": "view swaps the axes, a transpose cuts anew",
        "rows-keep-their-length": "a new shape leaves the old rows as they are",
        "transpose-rotates": "a transpose turns the table by a quarter",
    },
)
def first_rows(answer: Any) -> None:
    viewed, transposed = [list(row) for row in answer]
    expect(
        viewed != transposed,
        "print row 0 of both: view keeps the order in memory, a transpose swaps the"
        " axes",
        "view-equals-transpose",
    )
    expect(
        (viewed, transposed) != ([0, 3], [0, 1]),
        "both rows occur, each at the other's place. Which of the two words leaves the"
        " line of memory as it is?",
        "view-and-transpose-swapped",
    )
    expect(
        [0, 1, 2] not in (viewed, transposed),
        "a row of three numbers? Both results have three rows of two",
        "rows-keep-their-length",
    )
    expect(
        transposed not in ([2, 5], [3, 0]),
        f"{transposed} is row 0 of a table that was turned by a quarter. A transpose"
        " mirrors: the number in the corner, row 0 and column 0, stays there",
        "transpose-rotates",
    )
    expect(viewed == [0, 1], f"{viewed}? view cuts 0 1 2 3 4 5 anew, two at a time")
    expect(transposed == [0, 3], f"{transposed}? Row 0 of x.T is column 0 of x")


# For each word the right shape; for wrong ones the misconception and what to say.
PATTERNS = {
    "rearrange": (
        (2, 64, 3),
        "how long is one axis that holds all of h and all of w?",
        {
            (2, 8, 8, 3): (
                "brackets-are-decoration",
                "count the axes on the right of the arrow: what do brackets make out"
                " of two letters?",
            ),
            (2, 16, 3): (
                "brackets-add",
                "16 is 8 + 8. How many pixels have 8 rows of 8?",
            ),
            (2, 3, 64): (
                "axes-keep-their-order",
                "the order on the right of the arrow is the order of the result: which"
                " letter stands last?",
            ),
        },
    ),
    "repeat": (
        (2, 5, 7),
        "1 on the left vanishes, b on the right is new",
        {
            (1, 5, 7): (
                "repeat-changes-nothing",
                "b stands on the right, and the call says how long it is",
            ),
            (2, 1, 5, 7): (
                "left-side-stays",
                "the 1 stands on the left of the arrow only. What is not on the right"
                " is not in the result",
            ),
            (1, 10, 7): (
                "repeat-lengthens-the-tokens",
                "n stands alone on both sides: it keeps its length. Which letter is"
                " new?",
            ),
        },
    ),
    "reduce": (
        (2, 3),
        "letters missing on the right are averaged away",
        {
            (2, 3, 8): (
                "mean-over-last-axis-only",
                "is w the only letter that is missing on the right?",
            ),
            (2, 3, 1, 1): (
                "reduced-axes-stay-as-ones",
                "a letter that is missing on the right leaves no axis behind, not even"
                " one of length 1",
            ),
            (8, 8): (
                "named-letters-are-reduced",
                "that took the mean over the letters on the right. They are what stays",
            ),
        },
    ),
    "einsum": (
        (2, 5, 6),
        "e stands on both inputs and not in the result: it is summed over",
        {
            (2, 5, 6, 4): (
                "shared-letter-stays",
                "e is missing on the right: what does einsum do with such a letter?",
            ),
            (5, 6): (
                "shared-letter-always-summed",
                "b stands in both inputs, and in the result too: what is asked for on"
                " the right stays",
            ),
        },
    ),
}


@exercise(
    "0.3",
    {
        "brackets-are-decoration": "letters in brackets remain axes of their own",
        "brackets-add": "the length of a bracket is the sum of its letters",
        "axes-keep-their-order": "the order on the right of the arrow has no meaning",
        "repeat-changes-nothing": "repeat gives back the shape it was given",
        "left-side-stays": "what stands on the left only is in the result too",
        "repeat-lengthens-the-tokens": "repeat puts copies behind each other in n",
        "mean-over-last-axis-only": "a reduction takes one axis, the last one",
        "reduced-axes-stay-as-ones": "a reduced axis stays, with length 1",
        "named-letters-are-reduced": "reduce removes the letters named on the right",
        "shared-letter-stays": "einsum keeps every letter of its inputs",
        "shared-letter-always-summed": "einsum sums every letter both inputs share",
    },
)
def pattern_shapes(answer: Any) -> None:
    for word, (shape, rule, known) in PATTERNS.items():
        got = tuple(answer[word])
        misconception, hint = known.get(got, (None, rule))
        expect(got == shape, f"{word} does not give {got}: {hint}", misconception)


@exercise(
    "0.4",
    {
        "every-attribute-is-saved": "whatever stands on self is in a checkpoint",
        "only-what-trains-is-saved": "what is not trained is not saved",
        "parameters-are-not-state": "state is what is fixed, parameters lie elsewhere",
    },
)
def remembered(answer: Any) -> None:
    names = ["weight", "table", "plain"]
    got = [answer] if isinstance(answer, str) else list(answer)
    unknown = [name for name in got if name not in names]
    expect(not unknown, f"there is no {unknown}, only {names}")
    expect(got, "an empty checkpoint? Look into module.state_dict()")
    expect(
        "plain" not in got,
        "a plain tensor is an attribute like any other: who has told torch of it?",
        "every-attribute-is-saved",
    )
    expect(
        "weight" in got,
        "without its weight a loaded model has forgotten what it learned",
        "parameters-are-not-state",
    )
    expect(
        "table" in got,
        "a checkpoint must be enough to compute the same answers again. Is what trains"
        " enough for that?",
        "only-what-trains-is-saved",
    )
