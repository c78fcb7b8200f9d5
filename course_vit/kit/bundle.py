"""A bundle for a room without a network: every package, the course, and an installer.

`uv` finds out which packages a system needs; each wheel is fetched once, and an
interrupted download goes on where it stopped.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import parse_wheel_filename

from . import COURSE, CourseError
from .storage import LOCK, course_version, locked, write

HERE = Path(__file__).parent
INSTALLER = HERE / "install_bundle.py"
LINUX = [f"manylinux_2_{glibc}_x86_64" for glibc in range(28, 4, -1)]
LINUX += [f"manylinux{year}_x86_64" for year in ("2014", "2010", "1")]
MACOS = "14.0"  # the oldest for which torch has wheels
# What uv calls a system, and the platform tags of the wheels that it can install.
SYSTEMS = {
    "linux": ("x86_64-manylinux_2_28", LINUX),
    "macos": ("aarch64-apple-darwin", [*mac_platforms((14, 0), "arm64")]),
    "windows": ("x86_64-pc-windows-msvc", ["win_amd64"]),
}


@dataclass(frozen=True)
class Wheel:
    """A file to fetch: where it is, how many bytes it has, and their digest."""

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return unquote(urlsplit(self.url).path.rpartition("/")[2])


def bundle(
    folder: Path, system: str, python: str, index: str = "", fetch: bool = True
) -> Iterator[str]:
    """Make a bundle, or go on with one, saying what is done before it is done.

    Args:
        folder: Where the bundle is made.
        system: One of `SYSTEMS`, with the processor that most machines have: x86-64
            for Linux and Windows, arm64 for macOS.
        python: The version of Python in the room, such as "3.12".
        index: A further index of packages, which is asked first, such as one of torch
            builds without CUDA.
        fetch: Whether to fetch; otherwise it only says how much there is.

    Raises:
        CourseError: If `uv` or Python 3.11 is missing, if there is no set of packages
            for this system, if something cannot be fetched, or if another process has
            been making the same bundle for minutes.
    """
    if sys.version_info < (3, 11):
        raise CourseError(
            "course-vit bundle runs with Python 3.11 or newer, and this is Python "
            f"{'.'.join(map(str, sys.version_info[:2]))}: run it with a newer one"
        )
    wheels = folder / "wheels"
    with tempfile.TemporaryDirectory() as scratch:
        course = course_wheel(Path(scratch))
        needed = solve(course, system, python, index)
        rest = [it for it in needed if not is_whole(wheels / it.name, it)]
        yield (
            f"{len(needed)} packages for {system} and Python {python}: "
            f"{megabytes(needed)} MB, of which {megabytes(rest)} MB are still to fetch"
        )
        if any(it.name.startswith("nvidia_") for it in needed):
            yield (
                "most of it is CUDA, which torch needs on Linux; with --index and an "
                "index of CPU builds of torch the bundle is much smaller"
            )
        if not fetch:
            return
        with locked(folder, todo="wait for it, or name a different folder"):
            for count, wheel in enumerate(rest, 1):
                yield f"{count} of {len(rest)}: {wheel.name} ({megabytes([wheel])} MB)"
                if not is_whole(wheels / wheel.name, wheel):  # another process may have
                    download(wheel, wheels / wheel.name)
            if isinstance(course, Path):
                write(wheels / course.name, course.read_bytes())
            yield from finish(folder, python, system)


def course_wheel(scratch: Path) -> Path | str:
    """The course's own wheel, built from a clone, or else its name in an index."""
    if not (COURSE / "pyproject.toml").exists():
        return f"course_vit=={course_version()}"
    uv("build", "--wheel", "--quiet", "--out-dir", scratch, COURSE)
    return next(scratch.glob("course_vit-*.whl"))


def solve(course: Path | str, system: str, python: str, index: str) -> list[Wheel]:
    """The wheels that the course needs, in the versions with which it was tested.

    If its own wheel is given as a file, it is not among them.
    """
    import tomllib  # new in Python 3.11

    platform, platforms = SYSTEMS[system]
    major, minor = map(int, python.split("."))
    extras, pinned = "[course,check]", COURSE / "requirements.txt"
    with tempfile.TemporaryDirectory() as scratch:
        asked, lock = Path(scratch, "asked.in"), Path(scratch, "pylock.toml")
        constraints = Path(scratch, "constraints.txt")
        asked.write_text(
            f"course_vit{extras} @ {course.as_uri()}\n"
            if isinstance(course, Path)
            else course.replace("==", f"{extras}==")
        )
        lines = pinned.read_text("utf-8").splitlines()
        pins = [line.partition(" ")[0] for line in lines if "==" in line]
        constraints.write_text("\n".join(pins))
        options = ["--python-platform", platform, "--python-version", python]
        options += ["--only-binary", ":all:", "--format", "pylock.toml"]
        if index:
            options += ["--index", index, "--index-strategy", "unsafe-best-match"]
        uv("pip", "compile", "-q", asked, "-c", constraints, *options, "-o", lock)
        packages = tomllib.loads(lock.read_text("utf-8"))["packages"]
    tags = [
        *cpython_tags((major, minor), [f"cp{major}{minor}"], platforms),
        *compatible_tags((major, minor), f"cp{major}{minor}", platforms),
    ]
    if isinstance(course, Path):
        packages = [it for it in packages if it["name"] != "course-vit"]
    return [choose(it, tags) for it in packages]


def choose(package: dict, tags: Sequence[Tag]) -> Wheel:
    """The wheel of a package that fits best, tags being in the order of preference."""
    rank = {tag: n for n, tag in enumerate(tags)}
    found = []
    for it in package.get("wheels", []):
        wheel = Wheel(it["url"], it.get("size", 0), it["hashes"]["sha256"])
        fits = [rank[t] for t in parse_wheel_filename(wheel.name)[3] if t in rank]
        found += [(min(fits), wheel.name, wheel)] if fits else []
    if not found:
        raise CourseError(
            f"{package['name']} {package['version']} has no wheel for this system and "
            "version of Python: choose another --python"
        )
    return min(found)[2]


def uv(*arguments: object) -> None:
    """Run uv. Raises CourseError with what it says, or if there is none."""
    program = shutil.which("uv") or shutil.which("uv", path=Path(sys.executable).parent)
    if not program:
        raise CourseError("bundle needs uv: pip install uv")
    command = [program, *map(str, arguments)]
    of_uv = os.environ | {"MACOSX_DEPLOYMENT_TARGET": MACOS}
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, env=of_uv
    )
    if run.returncode:
        raise CourseError(f"uv {' '.join(command[1:3])} failed:\n{run.stderr.strip()}")


def is_whole(path: Path, wheel: Wheel) -> bool:
    return path.is_file() and digest(path) == wheel.sha256


def digest(path: Path) -> str:
    found = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def download(wheel: Wheel, path: Path) -> None:
    """Fetch a file, going on where an earlier download stopped.

    Raises CourseError if it cannot be fetched, or is not what the index promised.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as file:
            request = Request(wheel.url, headers={"Range": f"bytes={file.tell()}-"})
            with urlopen(request, timeout=60) as answer:
                if answer.status != 206:  # it sends everything again
                    file.truncate(0)
                shutil.copyfileobj(answer, file, 1 << 20)
    except HTTPError as error:
        if error.code != 416:  # 416: all bytes are there already
            raise cannot_fetch(wheel, error) from None
    except (URLError, OSError) as error:
        raise cannot_fetch(wheel, error) from None
    if partial.stat().st_size < wheel.size:
        raise cannot_fetch(wheel, "the connection broke off")
    if digest(partial) != wheel.sha256:
        partial.unlink()
        raise CourseError(
            f"{wheel.name} is not what the index promised (its digest differs), and "
            "was deleted: run the command again"
        )
    partial.replace(path)


def cannot_fetch(wheel: Wheel, error: object) -> CourseError:
    return CourseError(
        f"{wheel.name} could not be fetched ({error}): run the command again, and it "
        "goes on where it stopped"
    )


def megabytes(wheels: Sequence[Wheel]) -> str:
    return f"{sum(wheel.size for wheel in wheels) / 1e6:,.0f}"


def finish(folder: Path, python: str, system: str) -> Iterator[str]:
    """Add the installer, the site if there is one, and the checksums."""
    installer = INSTALLER.read_text("utf-8")
    write(folder / "install.py", installer.replace("@@PYTHON@@", python).encode())
    site = COURSE / "site/_build/html"
    if site.is_dir():
        shutil.copytree(site, folder / "site", dirs_exist_ok=True)
    else:
        yield "the web site is not in it: make site, then run the command again"
    files = [it for it in folder.rglob("*") if it.is_file() and it.suffix != ".partial"]
    names = sorted(it.relative_to(folder).as_posix() for it in files)
    names = [name for name in names if name not in ("SHA256SUMS", LOCK)]
    sums = "".join(f"{digest(folder / name)}  {name}\n" for name in names)
    write(folder / "SHA256SUMS", sums.encode())
    yield (
        f"{folder} is complete: copy it, and run python install.py in it, "
        f"with Python {python} on {system}"
    )
