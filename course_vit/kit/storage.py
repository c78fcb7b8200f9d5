"""Write files so that nothing is lost if two processes write or one is stopped."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import distributions
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from . import CourseError

PACKAGE = "my_vit"
NOTES, MEMORY = "progress.json", ".course-vit.json"
LOCK = ".course-vit.lock"
SECONDS = 150.0  # to wait for another process, which may be running a slow answer
LARGEST = 10_000_000  # bytes of a file with notes


class WorkbookError(CourseError):
    """Something that a workbook cannot do."""


def course_version() -> str:
    """The installed version of the course, "" if none is installed."""
    return next((it.version for it in distributions(name="course_vit")), "")


@contextmanager
def locked(
    folder: Path,
    seconds: float | None = None,
    todo: str = "wait for it, or interrupt the check that is running in another"
    " notebook",
) -> Iterator[None]:
    """Let one process at a time change a folder; makes the folder if it is missing.

    Raises WorkbookError, which ends with `todo`, if a different process still holds the
    lock after so many seconds, by default `SECONDS`. The system releases it when that
    process ends, even if it crashes.
    """
    from filelock import FileLock, Timeout  # not needed by the models

    limit = SECONDS if seconds is None else seconds
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK).acquire(timeout=limit)
    except Timeout:
        raise WorkbookError(
            f"another process has been changing {folder}: {todo}"
        ) from None
    except OSError as error:
        raise cannot_write(folder, error) from None
    with lock:
        yield


def read_json(path: Path, validate: Callable[[Any], None]) -> Any:
    """Read a JSON file, `{}` if there is none.

    `validate` raises ValueError for content that cannot be used. Raises WorkbookError,
    which names the file, if it cannot be read or used. The file is never changed.
    """
    try:
        if not path.exists():
            return {}
        if not path.is_file():
            raise ValueError("it is not a file")
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        said = json.loads(path.read_bytes())
        validate(said)
    except (OSError, ValueError, SyntaxError, RecursionError) as error:
        raise WorkbookError(
            f"{path} cannot be read ({error}): correct it, or move it away to begin "
            "a new one"
        ) from None
    return said


def write(path: Path, content: bytes) -> None:
    """Write a file completely or not at all; of a link, write the target."""
    path = Path(os.path.realpath(path))
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if path.suffix == ".py":  # a compiled file with the same time would be used
            Path(cache_from_source(str(path))).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> WorkbookError:
    return WorkbookError(
        f"cannot write {path} ({error.strerror}): allow it, free some space, "
        "or choose a different folder"
    )


def lay_aside(path: Path) -> str:
    """Copy a file to the next free name; returns a sentence that names the copy."""
    stem, last = path.stem, path.suffix
    if last != ".ipynb":  # only a notebook has to keep its ending
        stem, last = path.name, ""
    names = (path.with_name(f"{stem}.kept{n}{last}") for n in itertools.count(1))
    try:
        content = path.read_bytes()
        kept = next(it for it in names if not it.exists() or it.read_bytes() == content)
    except OSError as error:
        raise cannot_write(path, error) from None
    write(kept, content)
    return f"{path.name} with your changes is kept as {kept.name}."


def digest(path: Path, content: bytes | None = None) -> str:
    """A short hash of the content of a file, "" if it is not a file.

    For a notebook only the cells' texts and the course's marks count, because Jupyter
    changes the rest when it saves.
    """
    try:
        if content is None:
            content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".ipynb":
            cells = json.loads(content)["cells"]
            texts = [(it["cell_type"], "".join(it["source"])) for it in cells]
            marks = [it["metadata"].get("course_vit") for it in cells]
            content = json.dumps([texts, marks]).encode()
    except OSError:
        content = b""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # not a notebook: every byte counts
    return sha256(content).hexdigest()[:16] if content else ""
