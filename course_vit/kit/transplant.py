"""Move a learner's definition from a notebook into a module, with all that it needs."""

import importlib
import linecache
from types import ModuleType
from typing import Any

from . import CourseError
from .checks.watch import functions
from .source import defined_names, definition, missing_names

Sources = dict[str, str]  # a name, and the text that defines it


class CannotMove(CourseError):
    """Why a definition cannot be part of a module, and what to do."""


def transplant(text: str, sources: Sources) -> str:
    """A module with other definitions in place of its own of the same names."""
    for name, source in sources.items():
        text = text.replace(definition(text, name), source, 1)
    return text


def source_for(text: str, name: str, answer: Any) -> str:
    """What to write into a module, `text`, so that its `name` is the answer.

    Functions, classes, imports and plain constants of the notebook that the answer
    uses, and that the module lacks, come along. Raises CannotMove for other values.
    """
    needed: Sources = {}
    gather(answer, defined_names(text) - {name}, needed)
    if answer.__name__ != name:
        needed[name] = f"{name} = {answer.__name__}\n"
    return "\n\n".join(needed.values())


def gather(answer: Any, there: set[str], needed: Sources) -> None:
    """Add a definition to `needed`, after what it uses itself."""
    own = answer.__name__
    if not (written := functions(answer)):
        raise CannotMove(f"`{own}` has no function of its own")
    cell = "".join(linecache.getlines(written[0].__code__.co_filename))
    source, around = definition(cell, own), written[0].__globals__
    if not source:
        raise CannotMove(f"write `{own}` with def or class at the top of a cell")
    for name in sorted(missing_names(source) - there):
        if name in around and name not in needed:
            needed[name] = ""  # on its way: two definitions may use each other
            carry(name, around, there, needed)
    needed.pop(own, None)
    needed[own] = source


def carry(name: str, around: dict[str, Any], there: set[str], needed: Sources) -> None:
    """Add to `needed` the line or the definition that gives a notebook's name."""
    value = around[name]
    origin, real = getattr(value, "__module__", ""), getattr(value, "__name__", "")
    if isinstance(value, ModuleType):
        needed[name] = f"import {real} as {name}\n"
    elif origin == around["__name__"] and functions(value):
        gather(value, there, needed)
    elif origin and getattr(importlib.import_module(origin), real, ...) is value:
        needed[name] = f"from {origin} import {real} as {name}\n"
    elif isinstance(value, int | float | str | tuple):
        needed[name] = f"{name} = {value!r}\n"
    else:
        raise CannotMove(
            f"`{name}` is a value of another cell: "
            "make it an argument, or define it inside"
        )
