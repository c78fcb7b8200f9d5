"""A workbook: the lessons with blanks, and `my_vit`, which becomes the learner's own.

`my_vit` is the text of `course_vit`, lesson by lesson; what the learner wrote and the
check let pass takes the place of the course's definition, also inside whatever is built
on it. `progress.json` notes what has passed, and all of `my_vit` follows from it.
"""

import importlib
import itertools
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import Any

from . import CourseError, checks
from .checks import EMPTY, EXERCISES, NotYet
from .checks.watch import functions, tidy
from .exercises import lessons
from .provide import home
from .source import definitions
from .transplant import CannotMove, Sources, source_for, transplant

__all__ = ["NotYet", "Workbook", "WorkbookError", "check", "still_open"]

COURSE = Path(__file__).parents[2]
PACKAGE = "my_vit"
NOTES = "progress.json"
ASKED = {name: n for n, known in EXERCISES.items() for name in known.names}
ORIGIN = re.compile(r"Printed from (\S+): edit there, then `make export`\.")


class WorkbookError(CourseError):
    """What a workbook cannot do."""


class Verdict(str):
    """What a learner reads of an answer; a notebook shows `text`."""

    text: str

    def __new__(cls, said: str, *paragraphs: str) -> "Verdict":
        verdict = super().__new__(cls, said)
        verdict.text = "\n\n".join(filter(None, paragraphs))
        return verdict

    def _repr_markdown_(self) -> str:
        return self.text


def check(exercise: str, answer: object) -> Verdict:
    """Judge an answer as `kit.checks.check`; a right one is noted and goes to my_vit.

    In a notebook of a workbook an empty blank is no error, so that *Run All* goes on.
    The cell below the check defines what the exercise asks for.

    Raises:
        NotYet: If the answer is not right, or is still empty outside of a notebook.
        ValueError: If there is no such exercise.
        WorkbookError: If the notes cannot be kept.
    """
    workbook, answer = find_workbook(), tidy(answer)
    try:
        if workbook and provided(exercise, answer):
            raise NotYet(EMPTY, exercise=exercise)
        said = checks.check(exercise, answer)
    except NotYet as seen:
        if workbook and seen.hint != EMPTY:
            workbook.refused(exercise)
        if workbook and seen.hint == EMPTY and in_a_notebook():
            return left_open(exercise)
        raise
    known = EXERCISES[exercise]
    ok = f"**ok {exercise}** {known.title}"
    if not workbook:
        return Verdict(said, ok, known.reason)
    return Verdict(
        said, ok, workbook.take(exercise, answer), known.reason, solution(exercise)
    )


def find_workbook() -> "Workbook | None":
    """The workbook whose `my_vit` is imported here, if any is."""
    spec = find_spec(PACKAGE)
    return Workbook(Path(spec.origin).parents[1]) if spec and spec.origin else None


def in_a_notebook() -> bool:
    return "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None


def provided(exercise: str, answer: object) -> bool:
    """Whether an answer is the course's own, which the cell below a check imports."""
    known = EXERCISES.get(exercise)
    return known is not None and any(
        function.__code__.co_filename == str(home(known.module))
        and function.__qualname__.partition(".")[0] in known.names
        for function in functions(answer)
    )


def left_open(exercise: str) -> Verdict:
    """What is said of a blank that is still empty."""
    known = EXERCISES[exercise]
    names = "` and `".join(known.names)
    lent = f" The cells below use the course's `{names}`." if names else ""
    open_ = f"**open {exercise}** {known.title}"
    return Verdict(f"open {exercise}: {known.title}", f"{open_}: {EMPTY}.{lent}")


def solution(exercise: str) -> str:
    """The course's solution, folded, "" if the answer is a value or a letter."""
    known = EXERCISES[exercise]
    if not known.names:
        return ""
    text = definitions(course_texts()[known.module])
    code = "\n\n".join(text[name] for name in known.names)
    summary = "<details><summary>The course's solution</summary>"
    return f"{summary}\n\n```python\n{code}```\n\n</details>"


def still_open(number: int) -> Verdict:
    """The exercises of a lesson that have not passed; its last cell shows them."""
    workbook = find_workbook()
    notes = workbook.notes() if workbook else {}
    asked = [n for n in EXERCISES if lesson_of(n) == number]
    rest = [f"- {n} {EXERCISES[n].title}" for n in asked if n not in notes]
    if not rest:
        return Verdict(
            "nothing is open", f"**All {len(asked)} exercises have passed.**"
        )
    said = f"**{len(rest)} of {len(asked)} exercises are open in this lesson:**"
    return Verdict(f"open: {len(rest)}", said, "\n".join(rest))


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
        """Everything that belongs into the folder but the notes: name and content."""
        import nbformat

        from .forms import make_form

        own, notebooks = self.own(), lessons(COURSE)
        for module, text in course_texts().items():
            yield f"{PACKAGE}/{module}.py", module_text(text, own.get(module, {}))
        for path in sorted((COURSE / "notebooks" / "figures").glob("*")):
            yield f"figures/{path.name}", path.read_bytes()
        for path in notebooks:
            made = make_form(nbformat.read(path, as_version=4), form)
            yield path.name, nbformat.writes(made).encode()

    def must_exist(self) -> None:
        if not (self.folder / PACKAGE / "__init__.py").exists():
            raise WorkbookError(
                f"there is no workbook in {self.folder}: make one with course-vit start"
            )

    def notes(self) -> dict[str, dict[str, Any]]:
        """What has passed: by exercise, the module and the learner's definitions."""
        path = self.folder / NOTES
        try:
            notes = json.loads(path.read_text("utf-8")) if path.exists() else {}
            return {number: dict(note) for number, note in notes.items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise WorkbookError(
                f"{path} cannot be read ({error}): correct it, or move it away and "
                "pass the checks again"
            ) from None

    def own(self) -> dict[str, Sources]:
        """The learner's definitions, by module of my_vit."""
        own: dict[str, Sources] = {}
        for note in self.notes().values():
            own.setdefault(note.get("module", ""), {}).update(note.get("own", {}))
        return own

    def take(self, exercise: str, answer: object) -> str:
        """Note a right answer, and put it into my_vit; says what became of it.

        An answer that cannot be part of a module leaves my_vit as it was.
        """
        known, notes, said = EXERCISES[exercise], self.notes(), ""
        notes.setdefault(exercise, {})
        if known.names:
            try:
                own, kept = self.put(exercise, answer)
                notes[exercise] = {"module": known.module, "own": own}
                names, home = "` and `".join(own), f"{PACKAGE}.{known.module}"
                said = f"`{names}` in `{home}` is yours from now on. {kept}"
            except CannotMove as reason:
                said = f"`{PACKAGE}` keeps what it has: {reason}."
        in_order = {number: notes[number] for number in EXERCISES if number in notes}
        write(self.folder / NOTES, (json.dumps(in_order, indent=1) + "\n").encode())
        return said.strip()

    def put(self, exercise: str, answer: object) -> tuple[Sources, str]:
        """Write an answer into its module, and take it back if it fails there.

        Returns the definitions, and where a module that was changed by hand is kept.
        """
        known = EXERCISES[exercise]
        text, own = course_texts()[known.module], self.own().get(known.module, {})
        parts = answer if isinstance(answer, tuple) else (answer,)
        written = zip(known.names, filter(callable, parts), strict=True)
        new = {name: source_for(text, name, part) for name, part in written}
        path = self.folder / PACKAGE / f"{known.module}.py"
        before = path.read_bytes() if path.exists() else module_text(text, own)
        kept = "" if before == module_text(text, own) else lay_aside(path)
        write(path, module_text(text, own | new))
        forget()
        try:
            inside = importlib.import_module(f"{PACKAGE}.{known.module}")
            moved = iter([getattr(inside, name) for name in new])
            again = tuple(next(moved) if callable(part) else part for part in parts)
            checks.check(exercise, again if len(again) > 1 else again[0])
        except Exception as error:
            write(path, before)
            forget()
            said = getattr(error, "hint", error)
            raise CannotMove(f"right here, but not inside a module ({said})") from None
        return new, kept

    def refused(self, exercise: str) -> None:
        """Count an answer that is not right."""

    def progress(self) -> list[str]:
        """A line for each lesson, and what comes next."""
        self.must_exist()
        notes, lines, following = self.notes(), [], ""
        for number, path in enumerate(lessons(COURSE)):
            asked = [n for n in EXERCISES if lesson_of(n) == number]
            rest = [n for n in asked if n not in notes]
            minutes = sum(EXERCISES[n].minutes for n in rest)
            open_ = f"open: {' '.join(rest)} ({minutes} min)" if rest else "all passed"
            done = f"{len(asked) - len(rest)} of {len(asked)}"
            lines.append(f"{path.stem:24} {done:>8}  {open_}")
            if rest and not following:
                title = EXERCISES[rest[0]].title
                following = f"next: exercise {rest[0]}, {title}, in {path.name}"
        return [*lines, following or "all have passed; now: course-vit check"]

    def catch_up(self, number: int) -> list[str]:
        """Make lesson `number` ready, whatever was done before it."""
        path = lesson(number)
        said, notes = self.start(), self.notes()
        before = [n for n in EXERCISES if lesson_of(n) < number and not notes.get(n)]
        if provided := " ".join(n for n in before if EXERCISES[n].names):
            said.append(f"{PACKAGE} stands in for you in {provided}: later is fine")
        return [*said, f"begin here: {self.folder / path.name}"]


def lesson_of(exercise: str) -> int:
    return int(exercise.partition(".")[0])


def lesson(number: int) -> Path:
    """The notebook of a lesson. Raises WorkbookError if there is no such lesson."""
    paths = {int(path.name[:2]): path for path in lessons(COURSE)}
    if number not in paths:
        raise WorkbookError(
            f"there is no lesson {number}: choose one from {min(paths)} to {max(paths)}"
        )
    return paths[number]


def course_texts() -> Sources:
    """The modules of my_vit as the course would write them."""
    package = COURSE / "course_vit"
    texts = {path.stem: path.read_text("utf-8") for path in package.glob("[!_]*.py")}
    init = (package / "__init__.py").read_text("utf-8")
    texts["__init__"] = init.replace("kit.models", "models")
    models = (package / "kit" / "models.py").read_text("utf-8")
    texts["models"] = models.replace("from ..", "from .")
    solutions = (package / "kit" / "solutions.py").read_text("utf-8")
    texts["exercises"] = solutions.replace("from course_vit.", "from .")
    return texts


def module_text(text: str, own: Sources) -> bytes:
    """A module of my_vit; its first lines say whose it is."""
    there = definitions(text).keys() - own.keys()
    rest = {name: number for name, number in ASKED.items() if name in there}
    yours = ", ".join(own) or "nothing yet"
    whose = rf"Yours: {yours}. All else is the course's, from \1."
    return ORIGIN.sub(whose, transplant(text, own, rest)).encode()


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        partial.write_bytes(content)
        partial.replace(path)
        if path.suffix == ".py":  # the time of its compiled text may be the same
            Path(cache_from_source(str(path))).unlink(missing_ok=True)
    except OSError as error:
        raise WorkbookError(
            f"cannot write {path} ({error.strerror}): permit it or make room, "
            "or name another folder"
        ) from None


def lay_aside(path: Path) -> str:
    """Keep a copy of a module under the next free name; says which."""
    numbers = (path.with_name(f"{path.name}.kept{n}") for n in itertools.count(1))
    kept = next(other for other in numbers if not other.exists())
    write(kept, path.read_bytes())
    return f"Your own change of {path.name} is kept as {kept.name}."


def forget() -> None:
    """Let the next import of my_vit read it afresh."""
    importlib.invalidate_caches()
    for name in [*sys.modules]:
        if name.partition(".")[0] == PACKAGE:
            del sys.modules[name]
