"""Run parts of `my_vit`: the course's in place of what is open, the learner's anew."""

import ast
import importlib
import sys
from collections.abc import Collection, Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]


def provide(name: str, namespace: dict[str, Any]) -> Any:
    """Define a name in a module of `my_vit` as the course defines it.

    The text is read from the course and compiled under the name of its file, so it can
    be read in a traceback but not in `my_vit`. What it uses comes from `my_vit`.

    Args:
        name: A function or class.
        namespace: The `globals()` of the module.

    Returns:
        The function or class.
    """
    path = home(namespace["__name__"].rpartition(".")[2])
    nodes = parsed(path.read_text("utf-8")).body
    node = next(node for node in nodes if getattr(node, "name", "") == name)
    exec(compile(ast.Module([node], []), str(path), "exec"), namespace)
    return namespace[name]


def home(module: str) -> Path:
    """The file of the course from which a module of `my_vit` is written."""
    return PACKAGE / {
        "exercises": "kit/solutions.py",
        "models": "kit/models.py",
    }.get(module, f"{module}.py")


@lru_cache(maxsize=2)
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


def renew(package: str, kept: Mapping[str, Collection[str]]) -> None:
    """Run the modules of `my_vit` again where they are, so that all of it is new.

    Functions and classes that stay the same objects let models made of them be saved.
    An instance of a class that was replaced is saved as one of its successor.

    Args:
        package: The name of the package.
        kept: By module, each after those that it imports, the names that keep their
            objects.
    """
    importlib.invalidate_caches()
    for module, names in kept.items():
        if not (loaded := sys.modules.get(f"{package}.{module}")):
            continue
        before = dict(vars(loaded))
        try:
            importlib.reload(loaded)
        finally:
            for name, old in before.items():
                if name in names:
                    setattr(loaded, name, old)
                elif isinstance(old, type) and getattr(loaded, name) is not old:
                    give_successor(old)


def give_successor(kind: Any) -> None:
    """Save instances of a class that was replaced as instances of the class of today.

    A copy keeps the class that the instance has.
    """

    def reduce(instance: Any, protocol: int) -> tuple[Any, ...]:
        state: Any = object.__reduce_ex__(instance, protocol)
        make, (own, *rest), *state = state
        if own is kind:  # and not a class made of it
            own = getattr(importlib.import_module(kind.__module__), kind.__name__)
        return make, (own, *rest), *state

    def copy(instance: Any, memo: dict[int, Any]) -> Any:
        copied = memo[id(instance)] = object.__new__(type(instance))
        vars(copied).update(deepcopy(vars(instance), memo))
        return copied

    kind.__reduce_ex__, kind.__deepcopy__ = reduce, copy
