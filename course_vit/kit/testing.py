"""Run the tests of the course on `my_vit`, and report in sentences what fails."""

import ast
import os
import re
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from xml.etree import ElementTree

from . import COURSE
from .exercises import lessons
from .workbook import PACKAGE, Workbook, WorkbookError, course_texts, lesson

SECONDS = 180  # after this time we assume that a test never ends
# Without these settings, pytest would use those of a project around the folder.
SETTINGS = """[pytest]
addopts = -m "not gpu"
markers = gpu
"""


@dataclass(frozen=True)
class Case:
    """A test that ran: its file, its name, and pytest's report if it failed."""

    file: str
    name: str
    failure: str

    def __str__(self) -> str:
        """The name in words, and the first line that pytest marks with an E."""
        words = self.name.removeprefix("test_").replace("_", " ")
        error = re.search(r"^E +(.+)", self.failure, re.MULTILINE)
        return f"{words!r}: {shorten(error[1] if error else self.failure, 160)}"


def check_package(
    workbook: Workbook, number: int | None = None, verbose: bool = False
) -> tuple[bool, list[str]]:
    """Test the module of one lesson, or all; returns whether all pass, and a report.

    Without a `number`, the comparisons with other models run, too. `verbose` adds the
    output of pytest. Raises WorkbookError for a lesson without tests, and if a package
    that the tests need is missing.
    """
    workbook.must_exist()
    workbook.remake()
    needed = ("hypothesis", "pytest", "transformers", "vit_pytorch")
    if missing := ", ".join(name for name in needed if not find_spec(name)):
        raise WorkbookError(
            f"the tests need packages that are not installed ({missing}): "
            "pip install 'course_vit[check]'"
        )
    paths = lessons(COURSE) if number is None else [lesson(number)]
    tests = {path: COURSE / "tests" / f"test_{path.stem[3:]}.py" for path in paths}
    tests = {path: test for path, test in tests.items() if test.exists()}
    if not tests:
        raise WorkbookError(
            f"lesson {number} has no module, so there is nothing to test: "
            "the checks in its notebook have judged your answers"
        )
    if number is None:
        tests |= {
            path: path for path in sorted((COURSE / "tests").glob("test_parity*"))
        }
    cases, output = run(workbook.folder, [*tests.values()])
    lines = []
    for path, test in tests.items():
        module = test.stem.removeprefix("test_")
        ran = [case for case in cases if case.file == test.stem]
        failed = [case for case in ran if case.failure]
        lines.append(f"{module:24} {len(ran) - len(failed)} of {len(ran)} tests passed")
        if module in course_texts():
            lines.append(f"{'':24} {whose(workbook, module)}")
        if failed:
            suspects = ", ".join(suspected(workbook, module, failed))
            where = f"lesson {int(path.stem[:2])}" if path != test else module
            lines.append(
                f"{where}{suspects and f', {suspects}'}: {len(failed)} of {len(ran)} "
                f"tests fail; the first is {failed[0]}"
            )
    well = not any(case.failure for case in cases)
    if verbose:
        lines.append(output)
    elif not well:
        only = "" if number is None else f" --lesson {number}"
        lines.append(f"course-vit check{only} --verbose shows the output of pytest")
    return well, lines


def suspected(workbook: Workbook, module: str, failed: list[Case]) -> list[str]:
    """The learner's definitions that may be wrong, each with its exercise.

    These are the definitions of the module that the failed tests mention; if there are
    none, any definitions that they mention; and if there are none, all of the module.
    """
    text = "\n".join(case.failure for case in failed)
    here, named = [], []
    for number, note in workbook.notes().items():
        for name in note.get("own", ()):
            one = f"exercise {number} `{name}`"
            here += [one] if note["module"] == module else []
            named += [one] if re.search(rf"\b{name}\b", text) else []
    return [one for one in named if one in here] or named or here


def whose(workbook: Workbook, module: str) -> str:
    """Which definitions of a module are the learner's, and which are the course's."""
    own = workbook.own().get(module, {})
    body = ast.parse(course_texts()[module]).body
    names = [n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    rest = [name for name in names if name not in own]
    parts = {"yours": ", ".join(own), "the course's": ", ".join(rest)}
    return "; ".join(f"{who}: {names}" for who, names in parts.items() if names)


def run(folder: Path, tests: list[Path]) -> tuple[list[Case], str]:
    """Run tests on the `my_vit` of a folder; returns them and the output of pytest.

    Raises WorkbookError if a test does not end.
    """
    with tempfile.TemporaryDirectory() as made:
        report, printed = Path(made) / "report.xml", Path(made) / "printed"
        settings = Path(made) / "pytest.ini"
        settings.write_text(SETTINGS)
        paths = [str(folder.resolve()), os.environ.get("PYTHONPATH", "")]
        options = {"CI": "1", "PYTHONIOENCODING": "utf-8"}
        with printed.open("wb") as out:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                    *(f"--config-file={settings}", f"--rootdir={COURSE}"),
                    *("-o", f"faulthandler_timeout={SECONDS}"),
                    *(f"--package={PACKAGE}", f"--junitxml={report}"),
                    *map(str, tests),
                ],
                cwd=COURSE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | options,
                stdout=out,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
            )
            said = until_it_ends_or_hangs(process)
        output = printed.read_text("utf-8", "replace")
        if hangs := said.partition("Timeout (")[2]:
            places = re.findall(rf'File ".*({PACKAGE}\W.*)", (line \d+)', hangs)
            place = ", ".join(places[0] if places else [PACKAGE])
            raise WorkbookError(
                f"a test did not end within {SECONDS} s: "
                f"is there an endless loop in {place}?"
            )
        if not report.exists():
            raise WorkbookError(f"the tests did not run:\n{output}{said}")
        cases = []
        for case in ElementTree.parse(report).iter("testcase"):
            names = f"{case.get('classname')}.{case.get('name')}".strip(".").split(".")
            file = next((name for name in names if name.startswith("test_")), "")
            found = [*case.iter("failure"), *case.iter("error")]
            failure = "\n".join(f"{it.get('message')}\n{it.text}" for it in found)
            cases.append(Case(file, case.get("name", ""), failure))
    return cases, output


def until_it_ends_or_hangs(process: subprocess.Popen[str]) -> str:
    """Read the stderr of pytest until it ends; stop it if a test takes too long."""
    said = ""
    with process:
        try:
            for line in process.stderr or ():
                said += line
                if line.startswith("Timeout ("):  # and then each line that is running
                    threading.Timer(1.0, process.kill).start()
        except BaseException:
            process.kill()
            raise
    return said
