"""A workbook: the lessons with blanks, and `my_vit`, which becomes the learner's own.

At first `my_vit` does the same as `course_vit`. Once an answer has passed its check, it
replaces the course's definition, and everything built on that definition uses it.
`progress.json` records what has passed, and `my_vit` can always be made again from it.
`.course-vit.json` remembers which texts are the course's, so that files that the
learner has not changed can be updated. One process at a time changes a workbook.
"""

import importlib
import json
import linecache
import re
import reprlib
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from types import ModuleType
from typing import Any

from torch import nn

from . import COURSE, COURSE_VIT, checks
from .checks import EMPTY, EXERCISES, NotYet
from .checks.watch import functions, tidy
from .exercises import lessons, mark
from .provide import home
from .source import defined_names, definitions
from .storage import (
    MEMORY,
    NOTES,
    PACKAGE,
    WorkbookError,
    course_version,
    digest,
    lay_aside,
    locked,
    read_json,
    write,
)
from .transplant import CannotMove, Sources, source_for, transplant
from .tutor import instructions

__all__ = ["NotYet", "Workbook", "WorkbookError", "check", "still_open"]

Notes = dict[str, dict[str, Any]]
ASKED = {name: n for n, known in EXERCISES.items() for name in known.names}
SAID = {
    "renewed": "updated to the new version of the course; you had not changed them",
    "kept": "kept as they are, with your work",
    "beside": "kept as they are, with the course's newer version beside them as .new",
    "newer": "kept as they are, with your work, although the course has a newer version"
    " (course-vit start --beside writes it beside yours)",
}
YOURS = re.compile(r"Yours: (.+)\. All else is the course's")
ORIGIN = re.compile(r"Printed from (\S+): edit there, then `make export`\.")


class Verdict(str):
    """The verdict on an answer, for the learner; a notebook shows its `text`."""

    text: str

    def __new__(cls, said: str, *paragraphs: str) -> "Verdict":
        verdict = super().__new__(cls, said)
        verdict.text = "\n\n".join(filter(None, paragraphs))
        return verdict

    def _repr_markdown_(self) -> str:
        return self.text


def check(exercise: str, answer: object) -> Verdict:
    """Judge an answer like `kit.checks.check`; record a right one and add it to my_vit.

    In a notebook of a workbook an empty blank is no error, so that *Run All* continues:
    the cell below the check imports the course's version.

    Raises:
        NotYet: If the answer is not right, or if it is empty outside of a notebook.
        ValueError: If there is no such exercise.
        WorkbookError: If the result cannot be saved.
    """
    workbook, answer = find_workbook(), tidy(answer)
    try:
        if workbook and provided(exercise, answer):
            raise NotYet(EMPTY, exercise=exercise)
        said = checks.check(exercise, answer)
    except NotYet as seen:
        if workbook and seen.hint != EMPTY:
            workbook.refused(exercise, seen.mistake or "")
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
    """The workbook whose `my_vit` is importable here, None if there is none."""
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
    """The verdict on a blank that is still empty."""
    known = EXERCISES[exercise]
    names = "` and `".join(known.names)
    below = f" The cells below use the course's `{names}`." if names else ""
    open_ = f"**open {exercise}** ({known.title})"
    return Verdict(f"open {exercise}: {known.title}", f"{open_}: {EMPTY}.{below}")


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

    def start(self, form: str | None = None, beside: bool = False) -> list[str]:
        """Make missing files, update those that you have not changed, keep the rest.

        Args:
            form: One of `forms.FORMS`; by default the form that the workbook has.
            beside: Write the course's newer version of a kept file beside it.

        Returns:
            Sentences about the files that were made, updated and kept, and where to
            begin.

        Raises:
            WorkbookError: If a file of the workbook cannot be read or written.
        """
        first = self.folder / lessons(COURSE)[0].name
        with locked(self.folder):
            form = form or self.memory()["form"]
            wanted, broken = self.files(form)
            self.remember(form=form, version=course_version())
            did = self.refresh(wanted, beside)
        count = len(did["made"])
        said = [f"made {count} file{'s' * (count > 1)}"] if count else []
        said += [f"{SAID[it]}: {', '.join(did[it])}" for it in SAID if did[it]]
        said = [*said, *did["aside"], *broken] or ["everything is up to date"]
        return [f"{self.folder}: {said[0]}", *said[1:], f"begin here: {first}"]

    def next_lesson(self) -> Path:
        """The notebook to open: of the next open exercise, or else the first."""
        number = lesson_of(next(iter(self.still_open()), "0.0"))
        return self.folder / lesson(number).name

    def still_open(self) -> list[str]:
        """The exercises that have not passed, from the lesson on that was chosen."""
        notes, begin = self.notes(), self.memory()["begin"]
        numbers = {int(path.name[:2]) for path in lessons(COURSE)}
        still = [n for n in EXERCISES if n not in notes and lesson_of(n) in numbers]
        return [n for n in still if lesson_of(n) >= begin] or still

    def files(self, form: str) -> tuple[dict[str, bytes], list[str]]:
        """The contents of all files in the folder, except for the notes, by name.

        Also returns a sentence about each broken lesson of the course.
        """
        import nbformat

        from .forms import make_form

        wanted, broken = self.modules(), []
        wanted["AGENTS.md"] = instructions().encode()
        for path in sorted((COURSE / "notebooks" / "figures").glob("*")):
            wanted[f"figures/{path.name}"] = path.read_bytes()
        for path in lessons(COURSE):
            try:
                if not path.is_file():
                    raise ValueError("it is not a file")
                made = make_form(nbformat.read(path, as_version=4), form)
                wanted[path.name] = f"{nbformat.writes(made)}\n".encode()
            except Exception as error:  # the file may contain anything
                why = shorten(f"{type(error).__name__}: {error}", 160)
                broken.append(f"{path} is broken, so it was left out ({why})")
        return wanted, broken

    def modules(self, names: Collection[str] | None = None) -> dict[str, bytes]:
        """The text of all modules of my_vit, or of some, made from the notes."""
        own, texts = self.own(), course_texts()
        return {
            f"{PACKAGE}/{name}.py": module_text(texts[name], own.get(name, {}))
            for name in (texts if names is None else names)
        }

    def refresh(
        self, wanted: dict[str, bytes], beside: bool = False, force: bool = False
    ) -> dict[str, list[str]]:
        """Write the files that the learner has not changed; returns what was done.

        `force` also overwrites changed files, after making a copy of each.
        """
        made = self.memory()["made"]
        did: dict[str, list[str]] = {it: [] for it in ("made", "aside", *SAID)}
        queue, files = [*wanted.items()], {}
        for name, content in queue:
            path, given = self.folder / name, made.setdefault(name, [])
            now, new = digest(path), digest(path, content)
            state = "kept" if new in given else "newer"
            if not path.exists():
                state = "made"
            elif now == new:
                state = "same"
            elif now in given or force:
                state = "renewed"
                if now not in given or yours(path.read_bytes()) - yours(content):
                    did["aside"].append(lay_aside(path))
            elif state == "newer" and beside and name in wanted:
                state = "beside"
                new_name = str(Path(name).with_suffix(f".new{path.suffix}"))
                queue.append((new_name, content))
            if state in ("made", "renewed"):
                files[name] = content
            if state not in ("kept", "newer") and new not in given:
                given.append(new)
            did.setdefault(state, []).append(name)
        self.remember(made=made)
        for name, content in files.items():
            write(self.folder / name, content)
        return did

    def remake(self) -> None:
        """Write the modules that an interrupted command did not write, if possible."""
        with suppress(WorkbookError), locked(self.folder):
            self.refresh(self.modules())

    def must_exist(self) -> None:
        if not (self.folder / PACKAGE / "__init__.py").exists():
            raise WorkbookError(
                f"there is no workbook in {self.folder}: change to the folder of your "
                "workbook, or make one with course-vit start"
            )

    def notes(self) -> Notes:
        """What has passed: for each exercise its module and the learner's definitions.

        Notes of an exercise that this version of the course does not have are kept.
        """
        return read_json(self.folder / NOTES, validate_notes)

    def own(self) -> dict[str, Sources]:
        """The learner's definitions, by module of my_vit."""
        own: dict[str, Sources] = {}
        notes = self.notes()
        for note in (notes[number] for number in EXERCISES if number in notes):
            own.setdefault(note.get("module", ""), {}).update(note.get("own", {}))
        return own

    def note(self, notes: Notes, modules: Collection[str] = ()) -> list[str]:
        """Write the notes, then the modules that follow from them.

        If this is interrupted in between, the next command writes the modules. Returns
        a sentence about each copy of a module that had been edited by hand.
        """
        # First the texts on disk are remembered, in case this is interrupted.
        said = self.refresh(self.modules(modules))["aside"]
        numbers = [*(n for n in EXERCISES if n in notes), *(notes.keys() - EXERCISES)]
        in_order = {number: notes[number] for number in numbers}
        write(self.folder / NOTES, (json.dumps(in_order, indent=1) + "\n").encode())
        return said + self.refresh(self.modules(modules), force=True)["aside"]

    def memory(self) -> dict[str, Any]:
        """What the course has to remember about the workbook.

        This is its `form`, the `version` of the course that last updated it, the lesson
        to `begin` with, how many answers to each exercise were `refused` for which
        mistake, the random `code` of a learner who shares progress, and for each file
        the digests of the texts that were `made` for it.
        """
        empty = {"form": "blanks", "begin": 0, "refused": {}, "code": "", "made": {}}
        memory = empty | read_json(self.folder / MEMORY, validate_memory)
        return memory | {"refused": by_mistake(memory["refused"])}

    def remember(self, **changes: Any) -> None:
        said = json.dumps(self.memory() | changes, indent=1)
        write(self.folder / MEMORY, f"{said}\n".encode())

    def refused(self, exercise: str, mistake: str) -> None:
        """Count an answer that was not right; an error here must not hide the hint."""
        with suppress(WorkbookError), locked(self.folder):
            refused = self.memory()["refused"]
            counts = refused.setdefault(exercise, {})
            counts[mistake] = counts.get(mistake, 0) + 1
            self.remember(refused=refused)

    def take(self, exercise: str, answer: object) -> str:
        """Record a right answer and put it into my_vit; returns what was done.

        If the answer cannot be part of a module, my_vit stays as it was.
        """
        known, modules = EXERCISES[exercise], set()
        said: list[str] = []
        with locked(self.folder):
            notes = self.notes()
            notes.setdefault(exercise, {})
            if known.names:
                try:
                    own = self.put(exercise, answer)
                    notes[exercise] = {"module": known.module, "own": own}
                    modules.add(known.module)
                    names, home = "` and `".join(own), f"{PACKAGE}.{known.module}"
                    said.append(f"`{names}` in `{home}` is yours from now on.")
                except CannotMove as reason:
                    said.append(f"`{PACKAGE}` was not changed: {reason}.")
            said += self.note(notes, modules)
            forget()
        return " ".join(said)

    def put(self, exercise: str, answer: object) -> Sources:
        """Try an answer in its module, without writing it; returns its definitions."""
        known = EXERCISES[exercise]
        text, own = course_texts()[known.module], self.own().get(known.module, {})
        parts = answer if isinstance(answer, tuple) else (answer,)
        written = zip(known.names, filter(callable, parts), strict=True)
        new = {name: source_for(text, name, part) for name, part in written}
        try:
            with tried(known.module, module_text(text, own | new).decode()) as inside:
                moved = iter([getattr(inside, name) for name in new])
                again = tuple(next(moved) if callable(part) else part for part in parts)
                checks.check(exercise, again if len(again) > 1 else again[0])
        except Exception as error:
            said = getattr(error, "hint", error)
            raise CannotMove(
                f"the answer is right here, but not inside a module ({said})"
            ) from None
        return new

    def progress(self) -> list[str]:
        """Report on the folder, each lesson, what was hard, and what comes next."""
        self.must_exist()
        notes, memory, lines = self.notes(), self.memory(), [f"{self.folder}"]
        paths = {int(path.name[:2]): path for path in lessons(COURSE)}
        for number, path in paths.items():
            asked = [n for n in EXERCISES if lesson_of(n) == number]
            rest = [n for n in asked if n not in notes]
            minutes = sum(EXERCISES[n].minutes for n in rest)
            open_ = f"open: {' '.join(rest)} ({minutes} min)" if rest else "all passed"
            done = f"{len(asked) - len(rest)} of {len(asked)}"
            lines.append(f"{path.stem:24} {done:>8}  {open_}")
        refused = {
            number: sum(counts.values())
            for number, counts in memory["refused"].items()
            if number in EXERCISES
        }
        for n in sorted(refused, key=refused.__getitem__, reverse=True)[:3]:
            wrong = f"{refused[n]} wrong answer{'s' * (refused[n] > 1)}"
            where = f"section {EXERCISES[n].section}"
            lines.append(f"worth repeating: {where} ({wrong} to exercise {n})")
        if not (still := self.still_open()):
            return [*lines, "all exercises have passed; next: course-vit check"]
        n = still[0]
        where = f'"{EXERCISES[n].title}" in {paths[lesson_of(n)].name}'
        return [*lines, f"next: exercise {n}, {where}"]

    def catch_up(self, number: int) -> list[str]:
        """Prepare lesson `number`, even if exercises before it are open."""
        path = lesson(number)
        self.must_exist()
        said, notes = self.start()[:-1], self.notes()
        with locked(self.folder):
            self.remember(begin=number)
        before = [n for n in EXERCISES if lesson_of(n) < number and not notes.get(n)]
        if provided := " ".join(n for n in before if EXERCISES[n].names):
            said.append(
                f"{PACKAGE} uses the course's code for {provided}: "
                "solve these exercises whenever you like"
            )
        return [*said, f"begin here: {self.folder / path.name}"]

    def reset(self, numbers: list[str]) -> list[str]:
        """Empty exercises again: their notes, their parts of my_vit and their blanks.

        The learner's work is kept in copies. Raises WorkbookError for an exercise
        that does not exist.
        """
        self.must_exist()
        if unknown := [number for number in numbers if number not in EXERCISES]:
            raise WorkbookError(
                f"there is no exercise {', '.join(unknown)}: "
                f"choose from {', '.join(EXERCISES)}"
            )
        with locked(self.folder):
            fresh, _ = self.files(self.memory()["form"])
            notes = {n: note for n, note in self.notes().items() if n not in numbers}
            modules = {EXERCISES[n].module for n in numbers} - {""}
            said = self.note(notes, modules)
            for number in numbers:
                path = lesson(lesson_of(number))
                said += self.empty(number, path.name, fresh.get(path.name, b""))
        return [
            f"{self.folder}: open now: {', '.join(numbers)}",
            *dict.fromkeys(said),
            "if a notebook is open, reload it from disk, and restart its kernel",
        ]

    def empty(self, number: str, name: str, fresh: bytes) -> list[str]:
        """Put the blank of an exercise back; returns a sentence about the copy."""
        path = self.folder / name
        try:
            blank = cells_of(json.loads(fresh), number)[0]
            notebook = json.loads(path.read_bytes())
            cell = cells_of(notebook, number)[0]
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return [f"{name} has no cell of exercise {number}, so it was not changed."]
        if "".join(cell["source"]) == "".join(blank["source"]):
            return []
        kept = lay_aside(path)
        cell |= {"source": blank["source"], "outputs": [], "execution_count": None}
        text = json.dumps(notebook, indent=1, ensure_ascii=False)
        write(path, f"{text}\n".encode())
        return [kept]


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


def cells_of(notebook: Any, exercise: str) -> list[dict[str, Any]]:
    """The cells of a notebook that hold the answer to an exercise."""
    wanted = {"exercise": exercise, "role": "solution"}
    return [cell for cell in notebook["cells"] if wanted.items() <= mark(cell).items()]


def yours(module: bytes) -> set[str]:
    """The names of the learner's definitions, from the first lines of a module."""
    found = YOURS.search(module.decode("utf-8", "replace"))
    return set(found[1].split(", ")) - {"nothing yet"} if found else set()


def validate_notes(notes: Any) -> None:
    """Raise ValueError for notes from which my_vit cannot be made."""
    if not isinstance(notes, dict):
        raise ValueError(f"expected notes by exercise, got {reprlib.repr(notes)}")
    for number, note in notes.items():
        if not isinstance(note, dict):
            raise ValueError(f"{number}: expected a note, got {reprlib.repr(note)}")
        if number not in EXERCISES:
            continue
        module, names = EXERCISES[number].module, EXERCISES[number].names
        own = note.get("own", {})
        if note.get("module", module) != module or not isinstance(own, dict):
            raise ValueError(f"{number}: expected {module!r}, got {reprlib.repr(note)}")
        for name, text in own.items():
            fit = name in names and isinstance(text, str)
            if not fit or name not in defined_names(text):
                raise ValueError(
                    f"{number}: expected texts that define {', '.join(names)}, got "
                    f"{reprlib.repr({name: text})}"
                )


def validate_memory(memory: Any) -> None:
    """Raise ValueError for what cannot be the memory of a workbook."""
    kinds = {"form": str, "version": str, "begin": int, "code": str, "made": dict}
    if not isinstance(memory, dict):
        raise ValueError(f"expected a table, got {reprlib.repr(memory)}")
    for key in kinds.keys() & memory.keys():
        value = memory[key]
        lists = value.values() if isinstance(value, dict) else ()
        if not isinstance(value, kinds[key]) or not all(
            isinstance(it, list) for it in lists
        ):
            raise ValueError(f"{key} has the wrong type: {reprlib.repr(value)}")
    by_mistake(memory.get("refused", {}))


def by_mistake(refused: Any) -> dict[str, dict[str, int]]:
    """Refusals by exercise and mistake; earlier versions only counted by exercise.

    Raises ValueError for anything else.
    """
    if not isinstance(refused, dict):
        raise ValueError(f"refused: expected a table, got {reprlib.repr(refused)}")
    counted = {n: {"": it} if isinstance(it, int) else it for n, it in refused.items()}
    for number, counts in counted.items():
        numbers = counts.values() if isinstance(counts, dict) else [counts]
        if not all(isinstance(it, int) for it in numbers):
            raise ValueError(f"refused: {number} has {reprlib.repr(counts)}, no counts")
    return counted


def course_texts() -> Sources:
    """The modules of my_vit before any exercise has passed, by name."""
    texts = {path.stem: path.read_text("utf-8") for path in COURSE_VIT.glob("[!_]*.py")}
    init = (COURSE_VIT / "__init__.py").read_text("utf-8")
    texts["__init__"] = init.replace("kit.", "")
    for name in ("models", "model_tools"):
        text = (COURSE_VIT / "kit" / f"{name}.py").read_text("utf-8")
        texts[name] = text.replace("from ..", "from .")
    solutions = home("exercises").read_text("utf-8")
    texts["exercises"] = solutions.replace("from course_vit.", "from .")
    return texts


def module_text(text: str, own: Sources) -> bytes:
    """The text of a module of my_vit; its first lines list the learner's names."""
    there = definitions(text).keys() - own.keys()
    rest = {name: number for name, number in ASKED.items() if name in there}
    yours = ", ".join(own) or "nothing yet"
    whose = rf"Yours: {yours}. All else is the course's, from \1."
    return ORIGIN.sub(whose, transplant(text, own, rest)).encode()


@contextmanager
def tried(name: str, text: str) -> Iterator[ModuleType]:
    """A module of my_vit with this text, for a while; nothing is written."""
    full, place = f"{PACKAGE}.{name}", f"<{PACKAGE}.{name}>"
    linecache.cache[place] = len(text), None, text.splitlines(keepends=True), place
    module, before = ModuleType(full), sys.modules.get(full)
    module.__package__, module.__file__ = PACKAGE, place
    sys.modules[full] = module
    try:
        exec(compile(text, place, "exec"), vars(module))
        yield module
    finally:
        del sys.modules[full]
        if before:
            sys.modules[full] = before


def forget() -> None:
    """Let the next import of my_vit read its files; older models can still be saved."""
    importlib.invalidate_caches()
    for name, module in [*sys.modules.items()]:
        if name.partition(".")[0] == PACKAGE:
            for kind in vars(module).values():
                own = getattr(kind, "__module__", "") == name
                if own and isinstance(kind, type) and issubclass(kind, nn.Module):
                    save_by_name(kind)
            del sys.modules[name]


def save_by_name(kind: Any) -> None:
    """Make models of a replaced class be saved as models of the class that replaced it.

    A deep copy keeps the old class.
    """

    def reduce(model: nn.Module, protocol: int) -> tuple[Any, ...]:
        own = type(model)
        now = getattr(importlib.import_module(own.__module__), own.__qualname__, own)
        parts: Any = object.__reduce_ex__(model, 2)
        return object.__new__, (now,), *parts[2:]

    def copy(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
        made = memo[id(model)] = object.__new__(type(model))
        vars(made).update(deepcopy(vars(model), memo))
        return made

    kind.__reduce_ex__, kind.__deepcopy__ = reduce, copy
