"""A workbook: the lessons with blanks, and `my_vit`, which becomes the learner's own.

`my_vit` is the text of `course_vit`, lesson by lesson; what the learner wrote and the
check let pass takes the place of the course's definition, also inside whatever is built
on it. `progress.json` notes what has passed, and all of `my_vit` follows from it.
"""

import ast
import importlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat

from . import CourseError, checks
from .checks import EXERCISES, NotYet
from .exercises import mark
from .forms import EXTRA, definitions, home, make_form
from .transplant import (
    CannotMove,
    Sources,
    definition,
    global_names,
    source_for,
    transplant,
)

__all__ = ["NotYet", "Workbook", "WorkbookError", "check"]

COURSE = Path(__file__).parents[2]
PACKAGE = "my_vit"
NOTES = "progress.json"
ORIGIN = re.compile(r"Printed from (\S+): edit there, then `make export`\.")


class WorkbookError(CourseError):
    """What a workbook cannot do."""


class Verdict(str):
    """What a learner reads when an answer is right; a notebook shows `text`."""

    text: str

    def _repr_markdown_(self) -> str:
        return self.text


def check(exercise: str, answer: object) -> Verdict:
    """Judge an answer as `kit.checks.check`; a right one is noted and goes to my_vit.

    Raises as `kit.checks.check`, and WorkbookError if the notes cannot be kept.
    """
    verdict = Verdict(checks.check(exercise, answer))
    known, spec = EXERCISES[exercise], find_spec(PACKAGE)
    said = ""
    if spec and spec.origin:
        said = Workbook(Path(spec.origin).parents[1]).take(exercise, answer)
    parts = [f"**ok {exercise}** {known.title}", said, known.reason]
    verdict.text = "\n\n".join(filter(None, parts))
    return verdict


@dataclass(frozen=True)
class Workbook:
    """A folder with the learner's notebooks, `my_vit` and the notes."""

    folder: Path

    def start(self, form: str = "blanks") -> list[str]:
        """Make what is missing, overwrite nothing; sentences about made and kept."""
        made, kept = [], []
        for name, content in self.files(form):
            path = self.folder / name
            if not path.exists():
                write(path, content)
                made.append(name)
            elif path.read_bytes() != content:
                kept.append(name)
        said = [f"{self.folder}: made {len(made)} files"] if made else []
        if kept:
            said.append(f"kept as they are, with your work: {', '.join(kept)}")
        return said or [f"{self.folder} has everything already"]

    def files(self, form: str) -> Iterator[tuple[str, bytes]]:
        """All that belongs into the folder but the notes: name and content."""
        own = self.own()
        for module, text in course_texts().items():
            yield f"{PACKAGE}/{module}.py", module_text(text, own.get(module, {}))
        for path in sorted((COURSE / "notebooks" / "figures").glob("*")):
            yield f"figures/{path.name}", path.read_bytes()
        for path in lessons():
            made = make_form(nbformat.read(path, as_version=4), form)
            yield path.name, nbformat.writes(made).encode()

    def must_exist(self) -> None:
        if not (self.folder / PACKAGE / "__init__.py").exists():
            raise WorkbookError(f"no workbook in {self.folder}: course-vit start")

    def notes(self) -> dict[str, dict[str, Any]]:
        """What has passed: by exercise, the module and the learner's definitions."""
        path = self.folder / NOTES
        try:
            notes = json.loads(path.read_text("utf-8")) if path.exists() else {}
            return {number: dict(note) for number, note in notes.items()}
        except (ValueError, AttributeError, TypeError) as error:
            todo = "mend it, or move it away and pass the checks again"
            raise WorkbookError(f"{path} cannot be read ({error}): {todo}") from None

    def own(self) -> dict[str, Sources]:
        """The learner's definitions, by module of my_vit."""
        own: dict[str, Sources] = {}
        for note in self.notes().values():
            own.setdefault(note.get("module", ""), {}).update(note.get("own", {}))
        return own

    def take(self, exercise: str, answer: object) -> str:
        """Note a right answer, and put it into my_vit; says what became of it.

        An answer that cannot stand in a module leaves my_vit as it was.
        """
        notes, said = self.notes(), ""
        module, names = place(exercise)
        notes.setdefault(exercise, {})
        if names:
            parts = answer if isinstance(answer, tuple) else (answer,)
            written = zip(names, filter(callable, parts), strict=True)
            try:
                text = course_texts()[module]
                own = {name: source_for(text, name, part) for name, part in written}
                kept = self.keep_edited(module)
                self.put(exercise, parts, module, own)
                notes[exercise] = {"module": module, "own": own}
                yours = " and ".join(f"`{name}`" for name in names)
                said = f"{yours} in `{PACKAGE}.{module}` is yours from now on. {kept}"
            except CannotMove as reason:
                said = f"`{PACKAGE}` keeps what it has: {reason}."
        in_order = {number: notes[number] for number in EXERCISES if number in notes}
        write(self.folder / NOTES, (json.dumps(in_order, indent=1) + "\n").encode())
        return said.strip()

    def keep_edited(self, module: str) -> str:
        """Lay a module of my_vit aside if it was changed by hand; says where."""
        path = self.folder / PACKAGE / f"{module}.py"
        text = module_text(course_texts()[module], self.own().get(module, {}))
        if not path.exists() or path.read_bytes() == text:
            return ""
        numbers = (path.with_name(f"{path.name}.kept{n}") for n in itertools.count(1))
        kept = next(other for other in numbers if not other.exists())
        write(kept, path.read_bytes())
        return f"Your own change of {path.name} is kept as {kept.name}."

    def put(self, exercise: str, parts: tuple, module: str, new: Sources) -> None:
        """Write definitions into a module, and take them back if they fail there."""
        text, own = course_texts()[module], self.own().get(module, {})
        path = self.folder / PACKAGE / f"{module}.py"
        write(path, module_text(text, own | new))
        forget()
        try:
            inside = importlib.import_module(f"{PACKAGE}.{module}")
            moved = iter([getattr(inside, name) for name in new])
            again = tuple(next(moved) if callable(part) else part for part in parts)
            checks.check(exercise, again if len(again) > 1 else again[0])
        except Exception as error:
            write(path, module_text(text, own))
            forget()
            said = getattr(error, "hint", error)
            raise CannotMove(f"right here, but not inside a module ({said})") from None

    def progress(self) -> list[str]:
        """A line for each lesson, and what comes next."""
        self.must_exist()
        notes, lines, following = self.notes(), [], ""
        for path in lessons():
            numbers = exercises_of(path)
            rest = [number for number in numbers if number not in notes]
            minutes = sum(EXERCISES[number].minutes for number in rest)
            open_ = f"open: {' '.join(rest)} ({minutes} min)" if rest else "all passed"
            done = f"{len(numbers) - len(rest)} of {len(numbers)}"
            lines.append(f"{path.stem:24} {done:>8}  {open_}")
            if rest and not following:
                title = EXERCISES[rest[0]].title
                following = f"next: exercise {rest[0]}, {title}, in {path.name}"
        return [*lines, following or "all have passed; now: course-vit check"]

    def catch_up(self, number: int) -> list[str]:
        """Make lesson `number` ready, whatever was done before it."""
        paths = {int(path.name[:2]): path for path in lessons()}
        if number not in paths:
            rule = f"choose a lesson from {', '.join(map(str, paths))}"
            raise WorkbookError(f"{rule}, got {number}")
        said, notes = self.start(), self.notes()
        before = [n for n in EXERCISES if lesson_of(n) < number and not notes.get(n)]
        if lent := " ".join(n for n in before if place(n)[1]):
            said.append(f"{PACKAGE} stands in for you in {lent}: later is fine")
        return [*said, f"begin here: {self.folder / paths[number].name}"]

    def test(self, lesson: int | None = None) -> tuple[bool, list[str]]:
        """Put my_vit through the tests of course_vit: all well? and lines to read.

        The tests of one lesson, or those of all and the comparisons with other models.
        """
        self.must_exist()
        if not all(map(find_spec, ("pytest", "hypothesis", "transformers"))):
            todo = "pip install -e '.[course,test]', or make test once"
            raise WorkbookError(f"the tests need more than the lessons: {todo}")
        folder, found = COURSE / "tests", {}
        for path in lessons():
            tests = folder / f"test_{path.stem[3:]}.py"
            if tests.exists() and lesson in (None, int(path.name[:2])):
                found[path.stem[3:]] = tests
        if not found:
            raise WorkbookError(f"lesson {lesson} gives no module, so it has no tests")
        if lesson is None:
            found |= {p.stem[5:]: p for p in sorted(folder.glob("test_parity*.py"))}
        passed, failed, output = self.run([*found.values()])
        lines = []
        for name, path in found.items():
            well = passed.count(path.stem)
            number = well + failed.count(path.stem)
            lines.append(f"{name:24} {well} of {number} tests passed")
            if (self.folder / PACKAGE / f"{name}.py").exists():
                lines.append(f"{'':24} {self.whose(name)}")
        return not failed, [*lines, output] if failed else lines

    def run(self, tests: list[Path]) -> tuple[list[str], list[str], str]:
        """Run tests on my_vit: the file of each that passed, of each that failed."""
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            before = os.environ.get("PYTHONPATH", "")
            paths = os.pathsep.join([str(self.folder.resolve()), before])
            run = subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", "-q", "--tb=line"),
                    *("--package", PACKAGE, "-p", "no:cacheprovider"),
                    *(f"--junitxml={report}", *map(str, tests)),
                ],
                cwd=COURSE,
                env=os.environ | {"PYTHONPATH": paths, "CI": "1"},  # same examples
                capture_output=True,
                text=True,
            )
            if not report.exists():
                raise WorkbookError(f"the tests did not run:\n{run.stdout}{run.stderr}")
            cases = [*ElementTree.parse(report).iter("testcase")]
        files = [(case.get("classname", "").split(".")[-1], case) for case in cases]
        passed = [name for name, case in files if not len(case)]
        return passed, [name for name, case in files if len(case)], run.stdout

    def whose(self, module: str) -> str:
        """Which definitions of a module are the learner's, which the course's."""
        own = self.own().get(module, {})
        body = ast.parse(course_texts()[module]).body
        names = [n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        lent = [name for name in names if name not in own]
        parts = {"yours": ", ".join(own), "the course's": ", ".join(lent)}
        return "; ".join(f"{who}: {names}" for who, names in parts.items() if names)


def lessons() -> list[Path]:
    """The solved notebooks in order."""
    if found := sorted((COURSE / "notebooks").glob("*.ipynb")):
        return found
    todo = "install the course from its own folder, pip install -e ."
    raise WorkbookError(f"the lessons are not beside the package: {todo}")


def lesson_of(exercise: str) -> int:
    return int(exercise.partition(".")[0])


def exercises_of(lesson: Path) -> list[str]:
    """The numbers of a lesson's exercises."""
    return [n for n in EXERCISES if lesson_of(n) == int(lesson.name[:2])]


def place(exercise: str) -> tuple[str, list[str]]:
    """The module of my_vit for an exercise, and the names that it defines there."""
    (path,) = (path for path in lessons() if exercise in exercises_of(path))
    lesson = nbformat.read(path, as_version=4)
    for cell in lesson.cells:
        found = mark(cell)
        if found.get("exercise") == exercise and found["role"] == "solution":
            return home(cell, lesson), definitions(cell)
    raise WorkbookError(f"{path.name} has no solution of {exercise}")


def course_texts() -> Sources:
    """The modules of my_vit as the course would write them."""
    lessons()  # or say that there are none
    package = COURSE / "course_vit"
    models = (package / "kit" / "models.py").read_text("utf-8")
    init = (package / "__init__.py").read_text("utf-8")
    return {
        "__init__": init.replace("kit.models", "models"),
        "models": models.replace("from ..", "from ."),
        **{path.stem: path.read_text("utf-8") for path in package.glob("[!_]*.py")},
        EXTRA: extra_text(),
    }


def extra_text() -> str:
    """The solutions that no lesson exports, as a module with the imports they need."""
    imports: dict[str, None] = {}
    code = []
    for path in lessons():
        lesson = nbformat.read(path, as_version=4)
        cells = [cell for cell in lesson.cells if cell.cell_type == "code"]
        offered = dict(
            imported for cell in cells for imported in imports_of(cell.source)
        )
        for cell in cells:
            if mark(cell).get("role") == "solution" and home(cell, lesson) == EXTRA:
                for name in definitions(cell):
                    source = definition(cell.source, name)
                    code.append(f"\n# Exercise {mark(cell)['exercise']}\n{source}")
                    used = sorted(global_names(source) & set(offered))
                    imports |= dict.fromkeys(offered[name] for name in used)
    title = '"""Exercises that no lesson exports.\n\n'
    origin = 'Printed from notebooks/: edit there, then `make export`.\n"""\n'
    return "\n".join([title + origin, *imports, "", *code])


def imports_of(source: str) -> Iterator[tuple[str, str]]:
    """Every name that a cell imports, and the line that imports it inside my_vit."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            start = ast.unparse(node).rpartition("import ")[0]
            start = re.sub(r"^from course_vit\.(?!kit)", "from .", start)
            for alias in node.names:
                yield alias.asname or alias.name, f"{start}import {ast.unparse(alias)}"


def module_text(text: str, own: Sources) -> bytes:
    """A module of my_vit; its first lines say whose it is."""
    yours = ", ".join(own) or "nothing yet"
    whose = rf"Yours: {yours}. All else is the course's, from \1."
    return ORIGIN.sub(whose, transplant(text, own)).encode()


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        partial.write_bytes(content)
        partial.replace(path)
        if path.suffix == ".py":
            Path(cache_from_source(str(path))).unlink(missing_ok=True)
    except OSError as error:
        todo = "permit it or make room, or name another folder"
        raise WorkbookError(f"cannot write {path} ({error.strerror}): {todo}") from None


def forget() -> None:
    """Let the next import of my_vit read it afresh."""
    importlib.invalidate_caches()
    for name in [*sys.modules]:
        if name.partition(".")[0] == PACKAGE:
            del sys.modules[name]
