"""Move a learner's definition from a notebook into a module, with what it uses."""

import ast
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any

from . import CourseError
from .checks.watch import functions
from .source import defined_names, definition, definitions, missing_names, text_around

Sources = dict[str, str]  # a name, and the text that defines it
PROVIDE = "from course_vit.kit.provide import provide\n"
OURS = {"course_vit.kit.models": "models", "course_vit.kit.solutions": "exercises"}


class CannotMove(CourseError):
    """Says why a definition cannot be part of a module, and what to do."""


def transplant(text: str, sources: Sources, still_open: Mapping[str, str]) -> str:
    """Replace definitions of a module by new ones of the same names; returns its text.

    Args:
        text: The text of the module.
        sources: The new definitions.
        still_open: Names that an open exercise asks for, with the number of the
            exercise. Their definitions are loaded from the course and cannot be read.
    """
    new = {
        name: f"{name} = provide({name!r}, globals())  # exercise {number} is open\n"
        for name, number in still_open.items()
    }
    new |= sources
    for name, old in definitions(text).items():
        text = text.replace(old, new.get(name, old), 1)
    docstring, end, code = text.partition('"""\n\n')
    return f"{docstring}{end}{PROVIDE}{code}" if still_open else text


def source_for(text: str, name: str, answer: Any) -> str:
    """Return the text that makes the answer the `name` of a module, `text`.

    The result includes the functions, classes, imports and plain constants of the
    notebook that the answer uses and the module lacks. Raises CannotMove if the answer
    uses any other value.
    """
    needed, there = Sources(), defined_names(text)
    own = gather(name, answer, there - {name}, needed)
    if own != name:
        if own in there:
            raise CannotMove(f"the module has its own `{own}`: call yours `{name}`")
        needed[name] = f"{name} = {own}\n"
    return "\n\n".join(needed.values())


def gather(name: str, answer: Any, there: set[str], needed: Sources) -> str:
    """Add a definition to `needed`, after those that it uses; returns its name.

    Raises:
        CannotMove: If there is no such definition at the top of a cell or a file.
    """
    own = getattr(answer, "__name__", name)
    own = name if own == "<lambda>" else own
    for function in functions(answer):
        source, around = definition(text_around(function), own), function.__globals__
        if source:
            break
    else:
        raise CannotMove(
            f"no cell defines `{own}` at its top: write it there with def or class"
        )
    if hasattr(answer, "__wrapped__") and not source.startswith("@"):
        raise CannotMove(f"`{own}` was wrapped after its def: write a decorator above")
    for used in sorted(missing_names(source) - there):
        if used in around and used not in needed:
            needed[used] = ""  # on its way: two definitions may use each other
            carry(used, around, there, needed)
    needed.pop(own, None)
    needed[own] = source
    return own


def carry(name: str, around: dict[str, Any], there: set[str], needed: Sources) -> None:
    """Add to `needed` the line or the definition of a name of the notebook."""
    value = around[name]
    if isinstance(value, ModuleType):
        needed[name] = import_line(value.__name__, "", name)
    elif getattr(value, "__module__", "") == around["__name__"] and functions(value):
        own = gather(name, value, there, needed)
        if own != name:
            needed[name] = f"{name} = {own}\n"
    elif origin := origin_of(value):
        needed[name] = import_line(origin, value.__name__, name)
    elif is_plain(value):
        needed[name] = f"{name} = {value!r}\n"
    else:
        raise CannotMove(
            f"`{name}` is a value of another cell: "
            "make it an argument, or define it inside your function"
        )


def origin_of(value: Any) -> str:
    """Return the module that has a value under the value's own name, or "" if none.

    A module of `my_vit` may have been run again in the meantime, with a different
    definition of this name; then only the name is compared.
    """
    origin, name = (str(getattr(value, key, "")) for key in ("__module__", "__name__"))
    if name and within(origin):
        return origin
    for place in [origin, *sorted({*sys.modules} - {"__main__"}, key=len)]:
        there = getattr(sys.modules.get(place), "__dict__", {})
        if name and there.get(name) is value:
            return place
    return ""


def within(module: str) -> str:
    """Return the name in `my_vit` of a module of the course or of `my_vit`, or ""."""
    package, _, inside = module.partition(".")
    inside = OURS.get(module, inside)
    return inside if package in ("my_vit", "course_vit") and "." not in inside else ""


def import_line(module: str, name: str, alias: str) -> str:
    """Write the line that imports a module or a name; `my_vit` may be renamed."""
    if module == "my_vit":
        return f"{alias} = __import__(__package__)\n"
    if inside := within(module):
        module, name = (f".{inside}", name) if name else (".", inside)
    return (
        f"from {module} import {name} as {alias}\n"
        if name
        else f"import {module} as {alias}\n"
    )


def is_plain(value: Any) -> bool:
    """Say whether the text of a value is Python code for the same value."""
    with suppress(Exception):
        read = ast.literal_eval(repr(value))
        return type(read) is type(value) and bool(read == value)
    return False
