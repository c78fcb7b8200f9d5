"""The command `course-vit`, also run by `python -m course_vit`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .export import ExportError, export, find_root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: 0 if all is well, 1 if not; a command not understood exits 2."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ExportError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The commands; `run` of each takes the options and returns the exit code."""
    top = argparse.ArgumentParser("course-vit", description="The tools of the course.")
    commands = top.add_subparsers(required=True, metavar="command")

    about = "print the modules of course_vit/ from the notebooks"
    command = commands.add_parser("export", help=about, description=about)
    command.add_argument(
        "notebooks",
        nargs="*",
        type=Path,
        metavar="NOTEBOOK",
        help="default: all of them",
    )
    command.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if out of step"
    )
    command.add_argument(
        "--root", type=Path, default=Path(), help="the folder of the course"
    )
    command.set_defaults(run=run_export)
    return top


def run_export(options: argparse.Namespace) -> int:
    root = find_root(options.root)
    for notebook in options.notebooks:
        if not notebook.is_file() or notebook.resolve().parent != root / "notebooks":
            place = root / "notebooks"
            raise ExportError(f"expected notebooks in {place}, got {notebook}")
    said = export(root, options.notebooks, options.check)
    print("\n".join(said) or "every module is what its notebook prints")
    return 1 if options.check and said else 0
