"""The exported modules: which imports which, docstrings, sizes."""

import ast
import re
import sys

import pytest
from house import MODULES, lines_that_count

# What a module may import besides the standard library. Kit is never on the list:
# what a learner copies out runs on torch and einops alone.
MAY_IMPORT = {
    "patch_embedding": "torch einops",
    "position_encoding": "torch einops .patch_embedding",
    "self_attention": "torch einops",
    "multi_head_attention": "torch einops .patch_embedding .self_attention",
    "encoder_block": "torch einops .patch_embedding .multi_head_attention",
    "vision_transformer": "torch einops .patch_embedding .position_encoding"
    " .encoder_block course_vit",  # model_tools, which torch.jit.script asks for
    "training": "torch .patch_embedding",
    "looking_inside": "torch .patch_embedding .training",
    "deit": "torch einops .patch_embedding .vision_transformer .training",
    "t2t": "torch einops .patch_embedding .encoder_block .vision_transformer",
    "pretrained": "torch einops safetensors .patch_embedding .position_encoding",
}


@pytest.fixture(params=MODULES, ids=lambda path: path.stem)
def module(request):
    return request.param


@pytest.fixture
def tree(module):
    return ast.parse(module.read_text(encoding="utf-8"))


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            name = node.module or ""
            yield f".{name}" if node.level else name.split(".")[0]


def definitions(tree, inside=""):
    """Every function, class and method with its qualified name."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield inside + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from definitions(node, f"{node.name}.")


def documented(tree):
    """All that needs a docstring: public names; a class covers its forward."""
    for name, node in definitions(tree):
        parts = name.split(".")
        if parts[-1] != "forward" and not any(part[0] == "_" for part in parts):
            yield name, node


def maps_tensors(node):
    """Is this a layer, or a function from tensors to tensors?"""
    if isinstance(node, ast.ClassDef):
        return any(getattr(part, "name", "") == "forward" for part in node.body)
    ends = ast.unparse(node.args), ast.unparse(node.returns or node.args)
    return all("Tensor" in end for end in ends)


def shapes(node):
    """The texts in backticks in the first paragraph of a docstring."""
    paragraph = (ast.get_docstring(node) or "").split("\n\n")[0]
    return paragraph.split("`")[1::2]


def test_imports_follow_the_arrows_of_the_house(module, tree):
    assert module.stem in MAY_IMPORT, "a new lesson: say above what it may import"
    allowed = set(MAY_IMPORT[module.stem].split()) | sys.stdlib_module_names
    extra = sorted(set(imports(tree)) - allowed)
    assert not extra, f"{module.name} may import {MAY_IMPORT[module.stem]}, not {extra}"


# What a constant may call: nothing that takes time, reads a file or draws numbers.
TABLES = r"dict|enumerate|float|frozenset|list|range|set|tuple|wrap|zip|.*\.items"


def test_nothing_runs_at_import_but_tables(tree):
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            parts = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
            for part in node.body:
                text = isinstance(getattr(part, "value", None), ast.Constant)
                assert text or isinstance(part, parts | ast.Pass), ast.unparse(part)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            name = ast.unparse(getattr(node, "targets", [node])[0]).partition(":")[0]
            assert name == "__all__" or name.strip("_")[0].isupper(), name
            for part in ast.walk(node):
                if isinstance(part, ast.Call):
                    assert re.fullmatch(TABLES, ast.unparse(part.func)), name


def test_every_public_name_has_a_docstring(tree):
    silent = [name for name, node in documented(tree) if not ast.get_docstring(node)]
    assert not silent, f"write a docstring for {silent}"


def test_what_maps_tensors_says_its_shapes_first(tree):
    silent = [
        name
        for name, node in documented(tree)
        if maps_tensors(node) and not any("->" in words for words in shapes(node))
    ]
    assert not silent, f"begin the docstring with shapes, `b n d -> b n d`: {silent}"


def test_modules_neither_print_nor_assert(tree):
    for node in ast.walk(tree):
        loud = isinstance(node, ast.Assert) or getattr(node, "id", "") == "print"
        assert not loud, f"silence is success; raise what is wrong: {ast.unparse(node)}"


def test_a_module_fits_on_two_screens(tree):
    assert lines_that_count(tree) <= 200


def test_a_function_fits_on_half_a_screen(tree):
    sizes = {
        name: lines_that_count(node)
        for name, node in definitions(tree)
        if isinstance(node, ast.FunctionDef)
    }
    long = {name: size for name, size in sizes.items() if size > 30}
    assert not long, f"at most 30 lines without signature and docstring, got {long}"
