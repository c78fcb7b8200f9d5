"""Read the text of Python code without running it."""

import ast
import builtins
import symtable


def definition(text: str, name: str) -> str:
    """The lines of a function or class at the top of a text, "" if there is none."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            first = min([node.lineno, *(part.lineno for part in node.decorator_list)])
            lines = text.splitlines()[first - 1 : node.end_lineno]
            return "\n".join([*lines, ""])
    return ""


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
