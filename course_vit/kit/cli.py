"""The command `course-vit`, also run by `python -m course_vit`."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import CourseError
from .export import export
from .recipes import RECIPES, changed
from .storage import NOTES, PACKAGE, course_version

if TYPE_CHECKING:
    from .workbook import Workbook

INTERRUPTED = "interrupted: run the command again to continue"
HELP = "to find out why the course does not start, run: course-vit doctor"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 for success, 1 for failure.

    After Ctrl-C the code is 130. argparse exits with 2 if it does not understand the
    command.
    """
    for stream in (sys.stdout, sys.stderr):  # which may not know a folder's letters
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
    except KeyboardInterrupt as stop:
        print(str(stop) or INTERRUPTED, file=sys.stderr)
        return 130
    except BrokenPipeError:  # such as `course-vit progress | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        if str(error.name).startswith(("course_vit", "my_vit")):
            raise
        missing = str(error.name or error).partition(".")[0]
        todo = "pip install 'course_vit[course]'"
        print(f"course-vit {options.command} needs {missing}: {todo}", file=sys.stderr)
        print(HELP, file=sys.stderr)
        return 1
    except (CourseError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        if options.command in ("lab", "start") or isinstance(error, ImportError):
            print(HELP, file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The parser; each command sets `run`, a function from options to an exit code."""
    top = argparse.ArgumentParser(
        "course-vit",
        description="Build a Vision Transformer yourself: the commands of the course.",
        epilog="Begin with: course-vit lab. About one command: course-vit lab --help.",
    )
    version = f"course_vit {course_version() or '(not installed)'}"
    top.add_argument("--version", action="version", version=version)
    commands = top.add_subparsers(required=True, metavar="command", dest="command")

    command = commands.add_parser(
        "lab",
        usage="course-vit lab [FOLDER] [OPTION OF JUPYTERLAB ...]",
        help="make or update your workbook, and open it in JupyterLab",
        description="Make a workbook, or update the files that you have not changed, "
        "and open it in JupyterLab at your next exercise. FOLDER is the workbook "
        "(default: the current folder if it is one, else workbook/ in it). Further "
        "options, such as --port=9999, are passed on to JupyterLab.",
    )
    command.set_defaults(run=run_lab)

    about = "write the modules of course_vit/ from the notebooks (in a clone)"
    command = commands.add_parser("export", help=about, description=about)
    command.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit with 1 if a module does not match its notebook",
    )
    command.add_argument(
        "--root",
        type=folder,
        default=Path(),
        help="the folder of the clone (default: the current folder)",
    )
    command.set_defaults(run=run_export)

    about = "say what is in photographs, with published weights"
    command = commands.add_parser("predict", help=about, description=about)
    command.add_argument(
        "images",
        nargs="+",
        type=place,
        metavar="IMAGE",
        help="a file, or a folder: all images in it and in its subfolders",
    )
    command.add_argument(
        "--model",
        default="deit_tiny_distilled_patch16_224",
        metavar="NAME",
        help="one of the names in list_models() (default: %(default)s)",
    )
    command.add_argument(
        "--top",
        default=5,
        type=positive,
        metavar="N",
        help="how many classes to print for each image (default: 5)",
    )
    command.add_argument(
        "--overlay",
        type=place,
        metavar="FOLDER",
        help="save each image in this folder, beside a map of where the model looked"
        " (yellow: most)",
    )
    command.add_argument(
        "--weights",
        metavar="FILE",
        help="the name of a set, or a file, or the folder of course-vit train (default:"
        " the published weights, downloaded once). Images are prepared as the file's"
        " config.json says, or else in the usual way for the model's family",
    )
    command.add_argument(
        "--entry",
        default="",
        metavar="NAME",
        help="which model to take if the file holds several, such as teacher.backbone",
    )
    command.add_argument(
        "--names",
        type=place,
        metavar="FILE",
        help="the names of the classes: a text file with one name in each line, or JSON"
        " (default: those in a config.json beside the weights, or ImageNet's if there"
        " are 1000 classes)",
    )
    command.add_argument(
        "--device",
        default="cpu",
        help="where to compute: cpu, cuda or mps (default: cpu)",
    )
    command.set_defaults(run=run_predict)

    add_train(commands)

    about = "find out why the course does not start, and how to fix it"
    command = commands.add_parser("doctor", help=about, description=about)
    command.add_argument(
        "--json", action="store_true", help="print the results as JSON"
    )
    command.add_argument(
        "--dev", action="store_true", help="also check what a maintainer needs"
    )
    command.add_argument(
        "--read", metavar="CODE", help="explain the code from a learner's doctor"
    )
    command.set_defaults(run=run_doctor)

    def of_workbook(name: str, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run_workbook)
        return command

    command = of_workbook(
        "start", "make a workbook, or update the files that you have not changed"
    )
    command.add_argument(
        "--form",
        choices=("blanks", "live", "solved"),
        help="blanks: without the answers; live: with each answer folded below its"
        " blank, for a presenter; solved: with the answers (default: the form that the"
        " workbook has, or blanks)",
    )
    command.add_argument(
        "--beside",
        action="store_true",
        help="if you have changed a lesson that has a newer version, write that version"
        " beside yours",
    )
    command = of_workbook("catch-up", "begin a later lesson without the ones before it")
    command.add_argument(
        "lesson", type=int, metavar="N", help="the number of the lesson"
    )
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
    command.add_argument(
        "exercises", nargs="+", metavar="N.N", help="such as 4.2 or 5.1"
    )
    command = of_workbook("check", "run the tests of course_vit on your my_vit")
    command.add_argument(
        "--lesson",
        type=int,
        metavar="N",
        help="only the tests of lesson N (default: all)",
    )
    command.add_argument(
        "--verbose", action="store_true", help="also print the full output of pytest"
    )
    command = of_workbook("explore", "draw a digit, and watch your own model read it")
    command.add_argument(
        "--model",
        type=place,
        metavar="FILE",
        help="a model that lesson 7 saved (default: the one in the workbook, else the"
        " course's)",
    )
    command.add_argument(
        "--no-browser", action="store_true", help="do not open the page, only write it"
    )
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

    about = "collect the course and its packages for a room without a network"
    command = commands.add_parser("bundle", help=about, description=about)
    command.add_argument("folder", type=folder, metavar="FOLDER")
    command.add_argument(
        "--os",
        dest="system",
        choices=("linux", "macos", "windows"),
        required=True,
        help="what the room has (linux and windows on x86-64, macos on arm64)",
    )
    command.add_argument(
        "--python", type=python_version, required=True, metavar="3.N", help="its Python"
    )
    command.add_argument(
        "--index",
        default="",
        metavar="URL",
        help="also take packages from this index, such as torch without CUDA",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="say how much there is, fetch nothing"
    )
    command.set_defaults(run=run_bundle)
    for command in commands.choices.values():
        if command.get_default("run") in (run_doctor, run_workbook):
            command.add_argument(
                "folder",
                nargs="?",
                type=folder,
                metavar="FOLDER",
                help="the workbook (default: the current folder if it is one, else"
                " workbook/ in it)",
            )
    return top


def add_train(commands: Any) -> None:
    """Add the command `train`, which has many options, to the commands."""
    about = "train a model on images, in one process or several"
    command = commands.add_parser(
        "train",
        help=about,
        description=f"{about[0].upper()}{about[1:]}. The same command again continues a"
        " run that was stopped. With several processes the run is the same, except for"
        " the random numbers of drop_path: torchrun --nproc_per_node=N -m course_vit"
        " train MODEL DATA",
    )
    command.add_argument(
        "model",
        metavar="MODEL",
        help="digits_vit or digits_deit, the models of lessons 7 and 9, or a name in"
        " list_models()",
    )
    command.add_argument(
        "data",
        metavar="DATA",
        help="digits, mnist, fashion_mnist, cifar10, imagenette, or a folder: with"
        " train/ and val/, or with a subfolder of images for each class",
    )
    option = command.add_argument
    option(
        "--recipe",
        choices=tuple(RECIPES),
        default="digits",
        help="all settings (default: digits, those of lesson 7)",
    )
    for name, what in {
        "epochs": "how many times the model sees all images",
        "batch": "how many images one step sees, over all processes",
        "lr": "the highest learning rate",
    }.items():
        option(f"--{name}", metavar="N", help=f"{what} (default: the recipe's)")
    option(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"a different setting: {', '.join(asdict(RECIPES['digits']))}",
    )
    option(
        "--teacher",
        default="",
        metavar="NAME",
        help="what a distilled model learns from: the folder of an earlier run, or a"
        " name in list_models() with published weights",
    )
    option(
        "--output",
        type=place,
        metavar="FOLDER",
        help="for checkpoint, log and weights (default: runs/MODEL-DATA)",
    )
    option("--device", default="", help="cpu, cuda or mps (default: cuda if there is)")
    option("--compile", action="store_true", help="compile the model first")
    option(
        "--shard",
        action="store_true",
        help="keep only a part of the weights in each process (FSDP2)",
    )
    option(
        "--skip-broken",
        action="store_true",
        help="leave out images that cannot be read",
    )
    option(
        "--resume-anyway",
        action="store_true",
        help="continue with a different number of processes",
    )
    command.set_defaults(run=run_train)


def place(text: str) -> Path:
    """Read a path, for argparse; `~` is the home folder."""
    if not text:
        raise argparse.ArgumentTypeError("must be a path, got an empty string")
    return Path(os.path.expanduser(text))


def positive(text: str) -> int:
    """Read a positive integer, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def python_version(text: str) -> str:
    """A version of Python such as 3.12, for argparse."""
    if not re.fullmatch(r"3\.\d+", text):
        raise argparse.ArgumentTypeError(f"must be such as 3.12, got {text!r}")
    return text


def folder(text: str) -> Path:
    """Read the full path of a folder, for argparse."""
    return Path(os.path.abspath(place(text)))


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process while it imports torch, which would crash instead."""

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
    print("\n".join(said) or "every module matches its notebook")
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


def run_train(options: argparse.Namespace) -> int:
    known = {name: getattr(options, name) for name in ("epochs", "batch", "lr")}
    changes = [f"{name}={value}" for name, value in known.items() if value is not None]
    recipe = changed(RECIPES[options.recipe], changes + options.changes)
    with ending_at_once():
        from .train import train
    train(
        options.model,
        options.data,
        recipe,
        options.output,
        teacher=options.teacher,
        device=options.device,
        compiled=options.compile,
        shard=options.shard,
        skip_broken=options.skip_broken,
        resume_anyway=options.resume_anyway,
    )
    return 0


def workbook_folder(chosen: Path | None) -> Path:
    """The chosen folder; else this one if it is a workbook, else workbook/ in it."""
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
    """The workbook in the folder that `workbook_folder` finds."""
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


def run_bundle(options: argparse.Namespace) -> int:
    from .bundle import bundle

    said = bundle(
        options.folder,
        options.system,
        options.python,
        options.index,
        fetch=not options.dry_run,
    )
    for line in said:
        print(line, flush=True)
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
            if options.name and not options.share:
                raise CourseError("--name goes into the file of --share: add --share")
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
