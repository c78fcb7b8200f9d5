"""Lesson 00: right answers in other forms, mistakes in other forms."""

import numpy as np
import torch

from course_vit.kit.checks.lesson_00 import SHAPES

RIGHT = {
    "0.1": [" b", "(B)", "**B**", ["B"], "B: its own cell"],
    "0.2": [
        [(0, 1), (0, 3)],
        torch.tensor([[0, 1], [0, 3]]),
        np.array([[0, 1], [0, 3]]),
        {"view": [0, 1], "T": [0, 3]},
    ],
    "0.3": [
        [*SHAPES.values()],
        tuple(SHAPES.values()),
        [str(shape) for shape in SHAPES.values()],
        *[
            {word: form(shape) for word, shape in SHAPES.items()}
            for form in (list, torch.Size, torch.tensor, np.array, str)
        ],
    ],
    "0.4": [
        {"weight", "table"},
        "weight, table",
        "table and weight",
        {"weight": True, "table": True, "plain": False},
    ],
}
WRONG = {
    "0.1": [
        ("d", "rerun-forgets-the-rest"),
        (2, "answer A, B, C or D"),
        ("A or B", "A, B, C"),
    ],
    "0.2": [
        (([0, 1], [0, 1]), "view-equals-transpose"),
        (([0, 2], [0, 3]), "two at a time"),
        (([0, 1], [0, 2]), "column 0 of x"),
        (0, "0 cannot be read as an answer: 2 values are asked for"),
        ((0, 3), "cannot be read as an answer: write two lists"),
        (([0, 1, 9], [0, 3]), r"\[0, 1, 9\]\? view cuts"),
    ],
    "0.3": [
        (SHAPES | {"rearrange": (2, 192)}, "how long is one axis"),
        (SHAPES | {"repeat": (5, 7)}, "b on the right is new"),
        (SHAPES | {"reduce": ()}, "averaged away"),
        (SHAPES | {"einsum": (2, 6, 5)}, "summed over"),
        ({"rearrange": (2, 64, 3)}, "cannot be read as an answer"),
        (((2, 64, 3), (2, 5, 7), (2, 3)), "as an answer: write four shapes"),
        (5, "5 cannot be read as an answer: write four shapes"),
    ],
    "0.4": [
        ("weight", "only-what-trains-is-saved"),
        (["weight", "plain"], "every-attribute-is-saved"),
        ([], "an empty checkpoint"),
        (["weight", "layers"], r"there is no \['layers'\]"),
    ],
}
