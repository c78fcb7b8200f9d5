"""Find out why the course does not start, and how to fix it: `course-vit doctor`.

Each of the `CHECKS` runs in a separate process, because a broken torch may crash or
hang. Printed paths do not contain the names of the user or of the home folder.
"""

import base64
import inspect
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

from . import CourseError
from .doctor_checks import CHECKS, Verdict, maintainer, one_line, pip, run
from .storage import course_version

LIMIT = 90.0  # seconds for one check
PATH = re.compile(r"([^\s'\"]*[/\\][^'\"]*)")
STATES = ("ok", "warning", "fails", "not run")


def doctor(folder: Path, dev: bool = False, as_json: bool = False) -> int:
    """Print the verdict of each check, a code and advice; returns 1 if a check fails.

    Args:
        folder: The workbook, which need not exist yet.
        dev: Also check what a maintainer needs.
        as_json: Print one JSON object instead.
    """
    verdicts: dict[str, Verdict] = {}
    cures: dict[str, str] = {}  # each fix, and the first check that suggests it
    if not as_json:
        print(private(f"Looking at {folder}. This takes about half a minute."))
    for number, check in enumerate(CHECKS, start=1):
        if check is maintainer and not dev:
            continue
        name = check.__name__
        found = verdicts[name] = examine(name, folder)
        known = cures.setdefault(found.fix, name)
        if not as_json:
            print(f"{number:2}  {found.state:8} {name}: {found.said}", flush=True)
            if found.fix:
                todo = found.fix if known == name else f"(the same fix as for {known})"
                print(f"{'':13}{todo}")
    states = [found.state for found in verdicts.values()]
    summary = ", ".join(f"{states.count(state)} {state}" for state in STATES[:3])
    code = encode(verdicts)
    questions = answers([name for fix, name in cures.items() if fix])
    if as_json:
        rows = [{"name": n} | found._asdict() for n, found in verdicts.items()]
        said = {"version": course_version(), "summary": summary, "code": code}
        print(json.dumps(said | {"questions": questions, "checks": rows}, indent=1))
    else:
        print(f"\n{summary}. The code for your instructor is {code}")
        print("".join(questions.values()), end="")
    return 1 if "fails" in states else 0


def read_code(code: str) -> list[str]:
    """Explain a learner's code to an instructor: the state of each check, and advice.

    Raises CourseError if this is not a code of the doctor.
    """
    states = decode(code)
    lines = [f"{state:8} {name}" for name, state in states.items()]
    wrong = [name for name in states if states[name] in ("warning", "fails")]
    return [*lines, *answers(wrong).values()]


def answers(names: list[str]) -> dict[str, str]:
    """The questions that belong to these checks, with their answers."""
    texts = {check.__name__: inspect.getdoc(check) or "" for check in CHECKS}
    return {
        name: f"\n{name}. {texts[name].replace(chr(10) * 2, chr(10))}\n"
        for name in names
    }


def examine(name: str, folder: Path, limit: float = LIMIT) -> Verdict:
    """Run one check in its own process; returns its verdict even if that crashes."""
    code = f"""
import sys
sys.path[:] = {sys.path!r}
from course_vit.kit.doctor import answer
answer({name!r}, {str(folder)!r})"""
    try:
        environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
        done = run(sys.executable, "-c", code, timeout=limit, env=environment)
    except subprocess.TimeoutExpired:
        said = f"no answer within {limit:.0f} seconds"
        return Verdict("fails", said, private(pip()))
    try:
        verdict = Verdict(*json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        said = f"its process ended with code {done.returncode} ({last})"
        verdict = Verdict("fails", said, pip())
    return Verdict(*map(private, verdict))


def answer(name: str, folder: str) -> None:
    """Run one check and print its verdict as JSON; an exception counts as a failure."""
    check = next(check for check in CHECKS if check.__name__ == name)
    try:
        verdict = check(Path(folder))
    except Exception as error:  # the doctor has to survive everything
        verdict = Verdict("fails", one_line(error), pip())
    print(f"\n{json.dumps(verdict)}", flush=True)


def private(text: str) -> str:
    """Replace the home folder and the user name in paths by `$HOME` and `$USER`."""
    home = os.path.expanduser("~")
    names = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME")}
    for place in {home, os.path.realpath(home)} - {os.path.sep}:
        pattern = re.escape(place).replace(r"\\", r"\\+")
        text = re.sub(rf"{pattern}(?![\w.-])", "$HOME", text)
    for name in filter(None, names | {Path(home).name}):
        word = re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])")
        parts = PATH.split(text)  # every second part is a path
        parts[1::2] = [word.sub("$USER", part) for part in parts[1::2]]
        text = "".join(parts)
    return text


def encode(verdicts: dict[str, Verdict]) -> str:
    """Record how every check went in eight letters: two bits each, and a checksum."""
    number = 0
    for check in CHECKS:
        state = (
            verdicts[check.__name__].state if check.__name__ in verdicts else "not run"
        )
        number = 4 * number + STATES.index(state)
    content = number.to_bytes(4, "big")
    letters = base64.b32encode(content + bytes([zlib.crc32(content) % 256])).decode()
    return f"{letters[:4]}-{letters[4:]}"


def decode(code: str) -> dict[str, str]:
    """Read from a code how every check went.

    Raises CourseError if `encode` cannot have made the code.
    """
    try:
        content = base64.b32decode(re.sub(r"[\s-]", "", code).upper())
    except ValueError:
        content = b""
    if len(content) != 5 or zlib.crc32(content[:4]) % 256 != content[4]:
        raise CourseError(
            f"{code!r} is not a code of the doctor: check its eight letters for typos"
        )
    number = int.from_bytes(content[:4], "big")
    states = [STATES[number >> 2 * place & 3] for place in range(len(CHECKS))][::-1]
    return dict(zip((check.__name__ for check in CHECKS), states, strict=True))
