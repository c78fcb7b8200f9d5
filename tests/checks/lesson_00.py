"""Right answers and known mistakes for the exercises of lesson 00."""

SHAPES = {
    "rearrange": (2, 64, 3),
    "repeat": (2, 5, 7),
    "reduce": (2, 3),
    "einsum": (2, 5, 6),
}
RIGHT = [
    ("0.1", "B"),
    ("0.2", ([0, 1], [0, 3])),
    ("0.3", SHAPES),
    ("0.4", ["table", "weight"]),
]
WRONG = [
    ("0.1", "A", "an old run"),
    ("0.1", "C", "does not look ahead"),
    ("0.1", "D", "the name exists"),
    ("0.1", 2, "answer A, B, C or D"),
    ("0.2", ([0, 3], [0, 3]), "print row 0 of both"),
    ("0.2", ([0, 2], [0, 3]), "two at a time"),
    ("0.2", ([0, 1], [0, 2]), r"column 0 of x"),
    ("0.3", SHAPES | {"rearrange": (2, 8, 8, 3)}, "brackets multiply"),
    ("0.3", SHAPES | {"repeat": (1, 5, 7)}, "b on the right is new"),
    ("0.3", SHAPES | {"reduce": (2, 3, 8)}, "averaged away"),
    ("0.3", SHAPES | {"einsum": (2, 5, 6, 4)}, "summed over"),
    ("0.4", ["weight"], "a buffer is saved"),
    ("0.4", ["weight", "table", "plain"], "not saved"),
    ("0.4", ["table"], "what a checkpoint is made of"),
    ("0.4", ["weight", "table", "layers"], "there is no"),
]
