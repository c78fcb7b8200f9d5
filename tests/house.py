"""Where things stand in the house, for the tests that look after it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODULES = sorted((ROOT / "course_vit").glob("[!_]*.py"))  # printed from the notebooks


def lines_that_count(tree):
    """Lines of code without signatures, docstrings, and tables in capitals.

    The fields of a dataclass are the signature of its constructor.
    """
    counted = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            counted |= lines(node)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            counted -= set(range(node.lineno, node.body[0].lineno))
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            counted -= lines(node.body[0]) if ast.get_docstring(node) else set()
        if isinstance(node, ast.ClassDef) and node.decorator_list:
            fields = (part for part in node.body if isinstance(part, ast.AnnAssign))
            counted -= {line for part in fields for line in lines(part)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            name = ast.unparse(node).split(":")[0].split(" =")[0]
            counted -= lines(node) if name.isupper() else set()
    return len(counted)


def lines(node):
    return set(range(node.lineno, node.end_lineno + 1))
