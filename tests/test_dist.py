"""The wheel is the course: what is in it, and what a learner without a clone can do.

`make dist` also runs the tests that are marked `dist`, which take a minute.
"""

import fnmatch
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import venv
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from zipfile import ZipFile

import pytest
from house import MODULES, ROOT, our_files
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

RUN = """
import sys, nbformat, nbclient
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook).execute()
nbformat.write(notebook, sys.argv[1])
"""
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}


def build(root, folder, *options):
    """Build the wheel and the sdist of a source folder."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), *options]
    subprocess.run(command, cwd=root, check=True, capture_output=True)


def found(folder):
    """The wheel and the sdist in a folder."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist: those in the folder DIST, otherwise new ones."""
    if folder := os.environ.get("DIST"):
        return found(ROOT / folder)
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder)
    return found(folder)


@pytest.fixture(scope="module")
def metadata(built):
    with ZipFile(built[0]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        return Metadata.from_email(wheel.read(name), validate=True)


def test_the_wheel_has_the_lessons_the_tests_of_their_modules_and_nothing_else(built):
    tests = [f"test_{path.name}" for path in MODULES]
    tests += ["conftest.py", "weights.py", "golden/*", "test_parity*.py"]
    files = [path.relative_to(ROOT).as_posix() for path in our_files()]
    wanted = {name for name in files if name.startswith("course_vit/")}
    others = ["notebooks/*", "requirements.txt"]
    for pattern in (*others, *(f"tests/{name}" for name in tests)):
        some = fnmatch.filter(files, pattern)
        wanted |= {f"course_vit/course/{name}" for name in some}
    with ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
    (info,) = {name.split("/")[0] for name in names if "dist-info" in name}
    licences = ["LICENSE", "LICENSE-TEXT", "course_vit/kit/workshop/reveal/LICENSE"]
    wanted |= {f"{info}/licenses/{name}" for name in licences}
    wanted |= {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL")}
    assert names == wanted | {f"{info}/entry_points.txt"}


def test_the_wheel_is_small(built):
    assert built[0].stat().st_size < 6_000_000


def test_the_sdist_makes_the_same_wheel(built, tmp_path):
    with tarfile.open(built[1]) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    build(source, source / "dist")
    assert found(source / "dist")[0].read_bytes() == built[0].read_bytes()


def test_an_editable_installation_leads_to_the_clone(tmp_path):
    build(ROOT, tmp_path, "-t", "wheel:editable")
    (path,) = tmp_path.iterdir()
    with ZipFile(path) as wheel:
        assert wheel.read("_course_vit.pth").decode().strip() == str(ROOT)
        assert not any(name.endswith(".py") for name in wheel.namelist())


def test_the_metadata_is_valid_and_says_what_to_install(metadata):
    assert metadata.license_expression == "Apache-2.0 AND CC-BY-4.0 AND MIT"
    assert metadata.description_content_type == "text/markdown"
    assert {"course", "check"} <= set(metadata.provides_extra)


def brought_by(requirement, path):
    """The distributions that a requirement brings into an environment."""
    at_hand = {
        canonicalize_name(it.name): it for it in [*distributions(path=path)][::-1]
    }
    queue, brought = [Requirement(requirement)], {}
    for wanted in queue:
        there = at_hand[canonicalize_name(wanted.name)]
        assert there.version in wanted.specifier, f"{wanted}, got {there.version}"
        for line in there.requires or ():
            needs = Requirement(line)
            for extra in wanted.extras or {""}:
                new = not needs.marker or needs.marker.evaluate({"extra": extra})
                if new and needs not in queue:
                    queue.append(needs)
        brought[there.name] = there
    return brought


@pytest.fixture(scope="module")
def learner(built, tmp_path_factory):
    """How to run a command where the wheel is installed, and what it requires.

    The wheel is really installed. The packages that it requires are links to those of
    the environment of the tests, so nothing is downloaded, and one that the metadata
    forgets is missing.
    """
    home = tmp_path_factory.mktemp("learner")
    venv.create(home / "env", symlinks=True)
    python = home / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(built[0])], check=True)
    (site,) = (home / "env").glob("lib/python*/site-packages")
    path = [str(site), *filter(None, sys.path)]
    brought = brought_by("course_vit[course,check]", path)
    del brought["course_vit"]
    for there in brought.values():
        for file in there.files:
            outside = ".." in file.parts
            if outside and not {"share", "etc"} & set(file.parts):
                continue  # a script, which names its own Python
            inside = file if outside else file.parts[0]
            link = Path(os.path.normpath(site / inside))
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(os.path.normpath(there.locate_file(inside)))
    env = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))
    }
    env |= {"HOME": str(home), "PATH": f"{python.parent}:{env['PATH']}"}
    return {"cwd": home, "env": env, **PIPES}


@pytest.mark.dist
def test_a_learner_without_a_clone_starts_passes_a_check_and_tests_my_vit(
    learner, metadata
):
    def run(*command):
        done = subprocess.run(command, **learner)
        assert done.returncode == 0, done.stdout
        return done.stdout

    assert run("course-vit", "--version") == f"course_vit {metadata.version}\n"
    assert "made " in run("course-vit", "start")
    learner["cwd"] /= "workbook"
    lesson = learner["cwd"] / "01_patch_embedding.ipynb"
    blank, mine = '"answer = ..."', '"answer = (14 * 14, 3 * 16 * 16)"'
    text = lesson.read_text("utf-8")
    assert blank in text
    lesson.write_text(text.replace(blank, mine, 1), "utf-8")
    run("python", "-c", RUN, lesson.name)
    assert "**ok 1.1**" in lesson.read_text("utf-8")
    said = run("course-vit", "progress")
    assert re.search(r"^01_patch_embedding +1 of ", said, re.M)
    assert "tests passed" in run("course-vit", "check", "--lesson", "1")


def serves(address):
    with suppress(OSError):
        return urlopen(address)


@pytest.mark.dist
def test_a_learner_without_a_clone_opens_the_lab(learner):
    flags = ("--no-browser", "--port=9461", "--IdentityProvider.token=secret")
    with subprocess.Popen(["course-vit", "lab", "there", *flags], **learner) as lab:
        patience = threading.Timer(180, lab.kill)
        patience.start()
        said = ""
        try:
            while "127.0.0.1" not in said:
                said += next(lab.stdout)
            assert "JupyterLab opens 00_start_here.ipynb" in said
            address = said.split()[-1].partition("?")[0]
            while lab.poll() is None and not serves(address.replace("/lab", "/api")):
                time.sleep(0.2)  # the address is printed a little too early
            with pytest.raises(HTTPError, match="403"):
                urlopen(address.replace("/lab", "/api/contents"))
            token = {"Authorization": "token secret"}
            page = urlopen(Request(address, headers=token)).read().decode()
            assert "jupyter-config-data" in page
        finally:
            lab.send_signal(signal.SIGINT)
            patience.cancel()
        rest = lab.stdout.read()
    assert "Traceback" not in rest
    assert lab.returncode == 0
