"""Lesson 00: right answers in other forms, mistakes in other forms."""

from course_vit.kit.checks.lesson_00 import SHAPES

RIGHT = {
    "0.1": [" b"],
    "0.2": [[(0, 1), (0, 3)]],
    "0.3": [[*SHAPES.values()], {word: list(shape) for word, shape in SHAPES.items()}],
    "0.4": [{"weight", "table"}],
}
WRONG = {
    "0.1": [("d", "rerun-forgets-the-rest"), (2, "answer A, B, C or D")],
    "0.2": [
        (([0, 1], [0, 1]), "view-equals-transpose"),
        (([0, 2], [0, 3]), "two at a time"),
        (([0, 1], [0, 2]), "column 0 of x"),
        (0, "0 cannot be read as an answer"),
    ],
    "0.3": [
        (SHAPES | {"rearrange": (2, 192)}, "how long is one axis"),
        (SHAPES | {"repeat": (5, 7)}, "b on the right is new"),
        (SHAPES | {"reduce": ()}, "averaged away"),
        (SHAPES | {"einsum": (2, 6, 5)}, "summed over"),
        ({"rearrange": (2, 64, 3)}, "cannot be read as an answer"),
    ],
    "0.4": [
        ("weight", "only-what-trains-is-saved"),
        (["weight", "plain"], "every-attribute-is-saved"),
        ([], "an empty checkpoint"),
        (["weight", "layers"], r"there is no \['layers'\]"),
    ],
}
