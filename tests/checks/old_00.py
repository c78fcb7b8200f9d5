"""Right answers and known mistakes for the exercises of lesson 00."""

SHAPES = {
    "rearrange": (2, 64, 3),
    "repeat": (2, 5, 7),
    "reduce": (2, 3),
    "einsum": (2, 5, 6),
}


def shapes(**wrong):
    return SHAPES | wrong


RIGHT = [
    ("0.1", "B"),
    ("0.1", " b"),
    ("0.2", ([0, 1], [0, 3])),
    ("0.2", [(0, 1), (0, 3)]),
    ("0.3", SHAPES),
    ("0.3", {word: list(shape) for word, shape in SHAPES.items()}),
    ("0.4", ["table", "weight"]),
    ("0.4", {"weight", "table"}),
]
WRONG = [
    ("0.1", "A", "screen-is-memory", "an old run"),
    ("0.1", "C", "names-follow-names", "does not look ahead"),
    ("0.1", "d", "rerun-forgets-the-rest", "the name exists"),
    ("0.1", 2, None, "answer A, B, C or D"),
    ("0.1", "32, 64", None, "answer A, B, C or D"),
    ("0.2", ([0, 3], [0, 3]), "view-equals-transpose", "print row 0 of both"),
    ("0.2", ([0, 1], [0, 1]), "view-equals-transpose", "print row 0 of both"),
    ("0.2", ([0, 3], [0, 1]), "view-and-transpose-swapped", "the line of memory"),
    ("0.2", ([0, 1, 2], [0, 3]), "rows-keep-their-length", "three rows of two"),
    ("0.2", ([0, 1], [0, 1, 2]), "rows-keep-their-length", "three rows of two"),
    ("0.2", ([0, 1], [2, 5]), "transpose-rotates", r"\[2, 5\] is row 0 .* mirrors"),
    ("0.2", ([0, 1], [3, 0]), "transpose-rotates", r"\[3, 0\] is row 0 .* mirrors"),
    ("0.2", ([0, 2], [0, 3]), None, "two at a time"),
    ("0.2", ([0, 1], [0, 2]), None, "column 0 of x"),
    ("0.2", 0, None, "0 cannot be read as an answer"),
    (
        "0.3",
        shapes(rearrange=(2, 8, 8, 3)),
        "brackets-are-decoration",
        r"\(2, 8, 8, 3\): count the axes",
    ),
    ("0.3", shapes(rearrange=(2, 16, 3)), "brackets-add", "8 rows of 8"),
    (
        "0.3",
        shapes(rearrange=(2, 3, 64)),
        "axes-keep-their-order",
        "which letter stands last",
    ),
    ("0.3", shapes(rearrange=(2, 192)), None, "how long is one axis"),
    ("0.3", shapes(repeat=(1, 5, 7)), "repeat-changes-nothing", "how long it is"),
    ("0.3", shapes(repeat=(2, 1, 5, 7)), "left-side-stays", "on the left of the arrow"),
    (
        "0.3",
        shapes(repeat=(1, 10, 7)),
        "repeat-lengthens-the-tokens",
        "Which letter is new",
    ),
    ("0.3", shapes(repeat=(5, 7)), None, "b on the right is new"),
    ("0.3", shapes(reduce=(2, 3, 8)), "mean-over-last-axis-only", "the only letter"),
    ("0.3", shapes(reduce=(2, 3, 1, 1)), "reduced-axes-stay-as-ones", "no axis behind"),
    ("0.3", shapes(reduce=(8, 8)), "named-letters-are-reduced", "what stays"),
    ("0.3", shapes(reduce=()), None, "averaged away"),
    (
        "0.3",
        shapes(einsum=(2, 5, 6, 4)),
        "shared-letter-stays",
        "what does einsum do with such a letter",
    ),
    ("0.3", shapes(einsum=(5, 6)), "shared-letter-always-summed", "asked for"),
    ("0.3", shapes(einsum=(2, 6, 5)), None, "summed over"),
    ("0.3", {"rearrange": (2, 64, 3)}, None, "cannot be read as an answer"),
    ("0.4", ["weight"], "only-what-trains-is-saved", "Is what trains enough"),
    ("0.4", "weight", "only-what-trains-is-saved", "Is what trains enough"),
    ("0.4", ["weight", "table", "plain"], "every-attribute-is-saved", "has told torch"),
    ("0.4", ["weight", "plain"], "every-attribute-is-saved", "has told torch"),
    ("0.4", ["table"], "parameters-are-not-state", "has forgotten"),
    ("0.4", [], None, "an empty checkpoint"),
    ("0.4", ["weight", "layers"], None, r"there is no \['layers'\]"),
]
