"""The command `course-vit`, also run by `python -m course_vit`."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import CourseError
from .export import export
from .storage import NOTES, PACKAGE, course_version

if TYPE_CHECKING:
    from .workbook import Workbook

INTERRUPTED = "interrupted: run the command again, it goes on"
HELP = "if the course does not start, this finds out why: course-vit doctor"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: 0 if all is well, 1 if not, 130 if it was interrupted.

    A command that is not understood exits with 2.
    """
    for stream in (sys.stdout, sys.stderr):  # a folder may have any name
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    top = parser()
    options, rest = top.parse_known_args(arguments)
    if rest and options.run is not run_lab:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    except BrokenPipeError:  # such as `course-vit progress | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        if str(error.name).startswith(("course_vit", "my_vit")):
            raise
        missing = str(error.name or error).partition(".")[0]
        todo = "pip install 'course_vit[course]'"
        print(f"{options.command} needs {missing}: {todo}", file=sys.stderr)
        print(HELP, file=sys.stderr)
        return 1
    except (CourseError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        if options.command in ("lab", "start") or isinstance(error, ImportError):
            print(HELP, file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The commands; `run` of each takes the options and returns the exit code."""
    top = argparse.ArgumentParser("course-vit", description="The tools of the course.")
    version = f"course_vit {course_version() or 'that is not installed'}"
    top.add_argument("--version", action="version", version=version)
    commands = top.add_subparsers(required=True, metavar="command", dest="command")

    command = commands.add_parser(
        "lab",
        usage="course-vit lab [FOLDER] [OPTION OF JUPYTERLAB ...]",
        help="make or renew a workbook, and open it in JupyterLab",
        description="Make a workbook, or renew what you have not touched, and open it "
        "in JupyterLab at your next exercise. FOLDER is the workbook (default: this "
        "folder if it is one, else workbook/ in this folder); what follows it goes to "
        "JupyterLab, such as --port=9999.",
    )
    command.set_defaults(run=run_lab)

    about = "print the modules of course_vit/ from the notebooks"
    command = commands.add_parser("export", help=about, description=about)
    command.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if out of step"
    )
    command.add_argument(
        "--root",
        type=folder,
        default=Path(),
        help="the folder of the course (default: this one)",
    )
    command.set_defaults(run=run_export)

    about = "name what is in photographs, with published weights"
    command = commands.add_parser("predict", help=about, description=about)
    command.add_argument(
        "images",
        nargs="+",
        type=place,
        metavar="IMAGE",
        help="a file, or a folder: all images in it and in the folders inside",
    )
    command.add_argument(
        "--model",
        default="deit_tiny_distilled_patch16_224",
        metavar="NAME",
        help="a name of list_models() (default: %(default)s)",
    )
    command.add_argument(
        "--top",
        default=5,
        type=positive,
        metavar="N",
        help="how many classes of each image (default: 5)",
    )
    command.add_argument(
        "--overlay",
        type=place,
        metavar="FOLDER",
        help="draw each image there, and beside it where the model looked: yellow most",
    )
    command.add_argument(
        "--weights",
        metavar="FILE",
        help="the name of a set, or a file: no file says how its images were prepared,"
        " so as the family of the model does (default: the published, fetched once)",
    )
    command.add_argument(
        "--entry",
        default="",
        metavar="NAME",
        help="which of several models in the file of weights, by its place in it",
    )
    command.add_argument(
        "--names",
        type=place,
        metavar="FILE",
        help="the names of the classes, one in each line, or JSON (default: those in a"
        " config.json beside the weights, or ImageNet's for a thousand classes)",
    )
    command.add_argument(
        "--device", default="cpu", help="cpu, cuda or mps (default: cpu)"
    )
    command.set_defaults(run=run_predict)

    about = "find out why the course does not start, and how to fix it"
    command = commands.add_parser("doctor", help=about, description=about)
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument(
        "--dev", action="store_true", help="also check what a maintainer needs"
    )
    command.add_argument(
        "--read", metavar="CODE", help="say what the code of a learner means"
    )
    command.set_defaults(run=run_doctor)

    def of_workbook(name: str, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run_workbook)
        return command

    command = of_workbook(
        "start", "make a workbook, or renew what you have not touched"
    )
    command.add_argument(
        "--form",
        choices=("blanks", "live", "solved"),
        help="live: each answer folded behind its blank, for a presenter"
        " (default: blanks, or what the workbook has)",
    )
    command.add_argument(
        "--beside",
        action="store_true",
        help="also write the newer version of a lesson that you worked in beside it",
    )
    command = of_workbook("catch-up", "begin a later lesson without the ones before")
    command.add_argument("lesson", type=int, metavar="N")
    command = of_workbook(
        "progress", "show which exercises have passed, and what comes next"
    )
    command.add_argument(
        "--share",
        action="store_true",
        help="also write a small file for your instructor: what passed and what was "
        "refused, without your code; nothing is sent",
    )
    command.add_argument(
        "--name", default="", help="put a name into that file (default: none)"
    )
    command = of_workbook(
        "reset", "empty exercises again, and keep a copy of your work"
    )
    command.add_argument("exercises", nargs="+", metavar="N.N", help="such as 4.2 5.1")
    command = of_workbook("check", "put my_vit through the tests of course_vit")
    command.add_argument(
        "--lesson", type=int, metavar="N", help="the tests of lesson N (default: all)"
    )
    command.add_argument(
        "--verbose", action="store_true", help="also print what pytest prints"
    )
    command = of_workbook("explore", "draw a digit, and watch your own model read it")
    command.add_argument(
        "--model",
        type=place,
        metavar="FILE",
        help="a model that lesson 7 kept (default: the one in the workbook, else the"
        " course's)",
    )
    command.add_argument(
        "--no-browser", action="store_true", help="only write the page and name it"
    )
    about = "make all that a workshop needs: agenda, notes, slides, votes, e-mails"
    command = commands.add_parser("workshop", help=about, description=about)
    command.add_argument(
        "folder", type=folder, metavar="DIR", help="where to write it; an empty folder"
    )
    command.add_argument(
        "--plan",
        default="5h",
        metavar="LENGTH",
        help="such as 5h, 2x6h or 5x90min, breaks included (default: 5h)",
    )
    command.add_argument(
        "--begin",
        default="9:00",
        metavar="TIME",
        help="when each session begins (default: 9:00)",
    )
    command.set_defaults(run=run_workshop)
    about = "show how far a room is, from the files that its learners share"
    command = commands.add_parser("report", help=about, description=about)
    command.add_argument(
        "files",
        nargs="+",
        type=place,
        metavar="FILE",
        help="what course-vit progress --share wrote, or a folder with such files",
    )
    command.add_argument(
        "--output",
        type=folder,
        default=folder("report"),
        metavar="FOLDER",
        help="where to write report.html and report.csv (default: report/ in this "
        "folder)",
    )
    command.set_defaults(run=run_report)
    for command in commands.choices.values():
        if command.get_default("run") in (run_doctor, run_workbook):
            command.add_argument(
                "folder",
                nargs="?",
                type=folder,
                metavar="FOLDER",
                help="the workbook (default: this folder if it is one, else workbook/"
                " in this folder)",
            )
    return top


def place(text: str) -> Path:
    """A path, for argparse; `~` is the home folder."""
    if not text:
        raise argparse.ArgumentTypeError("must be a path, got an empty text")
    return Path(os.path.expanduser(text))


def positive(text: str) -> int:
    """A whole number from 1 up, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 1 up, got {text!r}"
        )
    return int(text)


def folder(text: str) -> Path:
    """The full path of a folder, for argparse."""
    return Path(os.path.abspath(place(text)))


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process while torch is imported, which it would crash."""

    def end(*_: object) -> None:
        print(INTERRUPTED, file=sys.stderr, flush=True)
        os._exit(130)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_export(options: argparse.Namespace) -> int:
    said = export(options.root, options.check)
    print("\n".join(said) or "every module is what its notebook prints")
    return 1 if options.check and said else 0


def run_predict(options: argparse.Namespace) -> int:
    with ending_at_once():
        from .predict import predict
    well = predict(
        options.images,
        options.model,
        weights=options.weights,
        top=options.top,
        overlay=options.overlay,
        device=options.device,
        names=options.names,
        entry=options.entry,
    )
    return 0 if well else 1


def workbook_folder(chosen: Path | None) -> Path:
    """The folder of the workbook: this one if it is one, else workbook/ in it."""
    here = Path.cwd()
    inside = (here / PACKAGE).is_dir() or (here / NOTES).exists()
    return chosen or (here if inside else here / "workbook")


def run_doctor(options: argparse.Namespace) -> int:
    from .doctor import doctor, read_code

    if options.read:
        print("\n".join(read_code(options.read)))
        return 0
    return doctor(workbook_folder(options.folder), options.dev, options.json)


def workbook_in(chosen: Path | None) -> "Workbook":
    """The workbook of a folder, see `workbook_folder`."""
    with ending_at_once():
        from .workbook import Workbook

    return Workbook(workbook_folder(chosen))


def run_lab(options: argparse.Namespace) -> int:
    from .lab import open_in_jupyterlab

    named = options.rest and not options.rest[0].startswith("-")
    workbook = workbook_in(folder(options.rest.pop(0)) if named else None)
    said, lesson = workbook.start()[:-1], workbook.next_lesson()
    print("\n".join([*said, f"JupyterLab opens {lesson.name}"]), flush=True)
    open_in_jupyterlab(lesson, options.rest)
    return 0


def run_report(options: argparse.Namespace) -> int:
    with ending_at_once():
        from .report import report

    print("\n".join(report(options.files, options.output)))
    return 0


def run_workshop(options: argparse.Namespace) -> int:
    with ending_at_once():
        from .workshop import workshop

    print("\n".join(workshop(options.folder, options.plan, options.begin)))
    return 0


def run_workbook(options: argparse.Namespace) -> int:
    well = True
    if options.command == "reset" and not re.fullmatch(
        r"\d+\.\d+", options.exercises[-1]
    ):
        options.folder = folder(options.exercises.pop())
    workbook = workbook_in(options.folder)
    match options.command:
        case "start":
            said = workbook.start(options.form, options.beside)
        case "catch-up":
            said = workbook.catch_up(options.lesson)
        case "progress":
            said = workbook.progress()
            if options.share:
                from .report import share

                said += share(workbook, options.name)
        case "reset":
            said = workbook.reset(options.exercises)
        case "check":
            from .testing import check_package

            workbook.must_exist()
            where = workbook.folder / PACKAGE
            print(f"running the tests of course_vit on {where} ...", flush=True)
            well, said = check_package(workbook, options.lesson, options.verbose)
        case "explore":
            from .explorer import explore

            said = explore(workbook, options.model, not options.no_browser)
    print("\n".join(said))
    return 0 if well else 1
