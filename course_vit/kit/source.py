"""Read the text of Python code without running it."""

import ast
import builtins
import linecache
import symtable
from collections.abc import Iterator
from types import FunctionType

SHARED = ("<timed exec>", "<string>")  # the file names of cells below %%time and %%prun


def definitions(text: str) -> dict[str, str]:
    """The lines of every function and class at the top level of a text, by name.

    A lambda counts as a function if the line gives it a name. If a name is defined
    twice, the last definition is returned, because Python keeps that one.
    """
    found, lines = {}, text.split("\n")  # ast ends lines nowhere else
    for node in ast.parse(text).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                first = min([node.lineno, *(it.lineno for it in node.decorator_list)])
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda()):
                first = node.lineno
            case _:
                continue
        found[name] = "\n".join([*lines[first - 1 : node.end_lineno], ""])
    return found


def definition(text: str, name: str) -> str:
    """The lines of a function or class at the top level, "" if there is none."""
    return definitions(text).get(name, "")


def text_around(function: FunctionType) -> str:
    """The text of the file or cell that defines a function, "" if it is not found.

    A cell that begins with a magic like `%%time` is compiled under a file name that
    many cells share. Its text is looked up in the history of the notebook; afterwards
    tracebacks and `inspect` find it, too.
    """
    file, name = function.__code__.co_filename, function.__qualname__.partition(".")[0]
    linecache.checkcache(file)
    if file in SHARED:
        for cell in reversed(function.__globals__.get("In", [])):
            for text in under_magics(cell, function):
                if name in definitions(text):
                    lines = text.splitlines(keepends=True)
                    linecache.cache[file] = len(text), None, lines, file
                    return text
    return "".join(linecache.getlines(file))


def under_magics(cell: str, function: FunctionType) -> Iterator[str]:
    """The code below a cell magic, and below a second one inside the first."""
    try:
        body = ast.parse(cell).body
    except SyntaxError:
        return
    match body:
        case [ast.Expr(ast.Call(ast.Attribute(attr="run_cell_magic"), [*_, code]))]:
            shell = function.__globals__["get_ipython"]()
            inside = shell.transform_cell(ast.literal_eval(code))
            yield inside
            yield from under_magics(inside, function)


def defined_names(text: str) -> set[str]:
    """The names that a text imports, defines or assigns at its top level."""
    table = symtable.symtable(text, "", "exec")
    found = table.get_symbols()
    return {it.get_name() for it in found if it.is_assigned() or it.is_imported()}


def missing_names(text: str) -> set[str]:
    """The names that a text uses but neither the text nor Python defines."""

    def used(table: symtable.SymbolTable) -> set[str]:
        outside = table.get_type() == "module"
        names = {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (outside or symbol.is_global())
        }
        return names.union(*map(used, table.get_children()))

    table = symtable.symtable(text, "", "exec")
    return used(table) - defined_names(text) - set(dir(builtins))
