"""Read the text of Python code without running it."""

import ast
import builtins
import linecache
import symtable
from collections.abc import Iterator
from types import FunctionType

SHARED = ("<timed exec>", "<string>")  # cells below %%time and %%prun are called so


def definitions(text: str) -> dict[str, str]:
    """The lines of every function and class at the top of a text, by name.

    A lambda counts as a function if the line gives it a name. Of two definitions with
    one name the last is returned, which is the one that Python keeps.
    """
    found, lines = {}, text.split("\n")  # ast knows no other ends of lines
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
    """The lines of a function or class at the top of a text, "" if there is none."""
    return definitions(text).get(name, "")


def text_around(function: FunctionType) -> str:
    """The text of the file or the cell that defines a function, "" if it is lost.

    A cell that begins with a magic like `%%time` is compiled under a name that many
    cells share. Its text is looked up in the history of the notebook, and from then on
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
    """The names that a text imports, defines or assigns at its top."""
    table = symtable.symtable(text, "", "exec")
    found = table.get_symbols()
    return {it.get_name() for it in found if it.is_assigned() or it.is_imported()}


def missing_names(text: str) -> set[str]:
    """The names that a text uses, and that neither it nor Python defines."""

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
