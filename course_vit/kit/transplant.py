"""Move a learner's definition from a notebook into a module, with all that it needs."""

import ast
import builtins
import importlib
import linecache
import symtable
from types import ModuleType
from typing import Any

from . import CourseError
from .checks.watch import functions

Sources = dict[str, str]  # a name, and the text that defines it


class CannotMove(CourseError):
    """Why a definition cannot stand in a module, and what to do."""


def transplant(text: str, sources: Sources) -> str:
    """A module with other definitions in place of its own of the same names."""
    for name, source in sources.items():
        text = text.replace(definition(text, name), source, 1)
    return text


def definition(text: str, name: str) -> str:
    """The lines of a function or class at the top of a text, decorators included."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            first = min([node.lineno, *(part.lineno for part in node.decorator_list)])
            lines = text.splitlines()[first - 1 : node.end_lineno]
            return "\n".join([*lines, ""])
    raise CannotMove(f"write `{name}` with def or class at the top of a cell")


def source_for(text: str, name: str, answer: Any) -> str:
    """What to write into a module, `text`, so that its `name` is the answer.

    Functions, classes, imports and plain constants of the notebook that the answer
    uses, and that the module has not, come along. Raises CannotMove for other values.
    """
    table = symtable.symtable(text, "", "exec")
    there = {symbol.get_name() for symbol in table.get_symbols()} - {name}
    needed: Sources = {}
    gather(answer, there, needed)
    if answer.__name__ != name:
        needed[name] = f"{name} = {answer.__name__}\n"
    return "\n\n".join(needed.values())


def gather(answer: Any, there: set[str], needed: Sources) -> None:
    """Add a definition to `needed`, behind what it uses itself."""
    own = answer.__name__
    if not (written := functions(answer)):
        raise CannotMove(f"`{own}` has no function of its own")
    cell = "".join(linecache.getlines(written[0].__code__.co_filename))
    source, around = definition(cell, own), written[0].__globals__
    for name in sorted(global_names(source) - there - {own}):
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
        rule = "make it an argument, or define it inside"
        raise CannotMove(f"`{name}` is a value of another cell: {rule}")


def global_names(source: str) -> set[str]:
    """The names that a definition takes from around it."""

    def of(table: symtable.SymbolTable) -> set[str]:
        outside = table.get_type() == "module"
        names = {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (outside or symbol.is_global())
        }
        return names.union(*map(of, table.get_children()))

    return of(symtable.symtable(source, "", "exec")) - set(dir(builtins))
