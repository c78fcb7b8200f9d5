"""The bundle for a room without a network: chosen, fetched, resumed, and installed."""

import hashlib
import http.server
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.tags import parse_tag

from course_vit.kit import CourseError, bundle, storage
from course_vit.kit.bundle import Wheel
from course_vit.kit.cli import main

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="tomllib is new in Python 3.11"
)
FILES = {
    "/one-1.0-py3-none-any.whl": b"1" * 5000,
    "/two-2.0-cp312-cp312-manylinux_2_28_x86_64.whl": b"2" * 7000,
}


@pytest.fixture
def index():
    """A server with two wheels; `asked` lists path and range, `stop_at` cuts it off."""
    state = SimpleNamespace(asked=[], stop_at=None, ranges=True)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked.append((self.path, self.headers["Range"]))
            content = FILES[self.path]
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if not state.ranges:
                start = 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if state.ranges else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : state.stop_at])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        state.address = f"http://127.0.0.1:{server.server_port}"
        yield state
        server.shutdown()


def wheel(index, path, content=None):
    content = FILES[path] if content is None else content
    digest = hashlib.sha256(content).hexdigest()
    return Wheel(f"{index.address}{path}", len(FILES[path]), digest)


@pytest.fixture
def room(index, monkeypatch, tmp_path):
    """Make a bundle of the two wheels and a stand-in for the course's own."""

    def solve(course, system, python, further):
        assert (system, python) == ("linux", "3.12")
        return [wheel(index, path) for path in FILES]

    def course(scratch):
        made = scratch / "course_vit-0.1.0-py3-none-any.whl"
        made.write_bytes(b"the course")
        return made

    monkeypatch.setattr(bundle, "solve", solve)
    monkeypatch.setattr(bundle, "course_wheel", course)
    monkeypatch.setattr(bundle, "COURSE", tmp_path)
    folder = tmp_path / "room"

    def make(*options):
        return main(["bundle", str(folder), "--os=linux", "--python=3.12", *options])

    return SimpleNamespace(folder=folder, make=make)


def test_what_is_fetched_is_said_before_and_a_dry_run_fetches_nothing(
    room, index, capsys
):
    assert room.make("--dry-run") == 0
    said = capsys.readouterr().out
    assert said.startswith("2 packages for linux and Python 3.12: 0 MB, of which 0 MB")
    assert index.asked == []
    assert not room.folder.exists()


def test_a_bundle_has_every_wheel_the_installer_and_checksums(room, capsys):
    assert room.make() == 0
    wheels = {path.name: path.read_bytes() for path in room.folder.glob("wheels/*")}
    course = {"course_vit-0.1.0-py3-none-any.whl": b"the course"}
    assert wheels == {path[1:]: content for path, content in FILES.items()} | course
    for line in (room.folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        content = (room.folder / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        assert name != "SHA256SUMS"
    said = capsys.readouterr().out
    assert "the web site is not in it: make site" in said
    assert "run python install.py in it, with Python 3.12 on linux" in said


def test_a_second_run_fetches_only_what_is_missing_or_damaged(room, index):
    room.make()
    count = len(index.asked)
    room.make()
    assert len(index.asked) == count
    first = room.folder / "wheels/one-1.0-py3-none-any.whl"
    first.write_bytes(b"damaged")
    room.make()
    assert [path for path, _ in index.asked[count:]] == ["/one-1.0-py3-none-any.whl"]
    assert first.read_bytes() == FILES["/one-1.0-py3-none-any.whl"]


def test_two_at_once_fetch_every_wheel_once(room, index):
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(lambda: [*bundle.bundle(room.folder, "linux", "3.12")])
            for _ in range(2)
        ]
    for run in runs:
        assert "is complete" in run.result()[-1]
    assert sorted(path for path, _ in index.asked) == sorted(FILES)
    assert ".course-vit.lock" not in (room.folder / "SHA256SUMS").read_text()


def test_one_that_takes_too_long_is_named(room, index, monkeypatch, capsys):
    monkeypatch.setattr(storage, "SECONDS", 0.1)
    with storage.locked(room.folder):
        assert room.make() == 1
    said = capsys.readouterr().err
    assert f"another process has been changing {room.folder}" in said
    assert index.asked == []


def test_an_interrupted_download_goes_on_where_it_stopped(room, index, capsys):
    index.stop_at = 1000
    assert room.make() == 1
    assert "goes on where it stopped" in capsys.readouterr().err
    index.stop_at, index.asked = None, []
    assert room.make() == 0
    assert index.asked[0] == ("/one-1.0-py3-none-any.whl", "bytes=1000-")


def test_a_server_without_ranges_sends_everything_again(index, tmp_path):
    path = tmp_path / "one-1.0-py3-none-any.whl"
    path.with_name(f"{path.name}.partial").write_bytes(b"x" * 10)
    index.ranges = False
    bundle.download(wheel(index, f"/{path.name}"), path)
    assert path.read_bytes() == FILES[f"/{path.name}"]


def test_a_download_that_was_complete_is_taken_as_it_is(index, tmp_path):
    path = tmp_path / "one-1.0-py3-none-any.whl"
    path.with_name(f"{path.name}.partial").write_bytes(FILES[f"/{path.name}"])
    bundle.download(wheel(index, f"/{path.name}"), path)
    assert path.read_bytes() == FILES[f"/{path.name}"]


def test_what_the_index_did_not_promise_is_deleted(index, tmp_path):
    path = tmp_path / "one-1.0-py3-none-any.whl"
    with pytest.raises(CourseError, match="its digest differs"):
        bundle.download(wheel(index, f"/{path.name}", b"something else"), path)
    assert [*tmp_path.iterdir()] == []


def test_a_server_that_does_not_answer_is_named(tmp_path):
    missing = Wheel("http://127.0.0.1:9/one-1.0-py3-none-any.whl", 1, "0")
    with pytest.raises(CourseError, match=r"one-1\.0-py3-none-any\.whl could not be"):
        bundle.download(missing, tmp_path / missing.name)


# Which wheel


def package(*names):
    wheels = [{"url": f"https://a/{it}", "hashes": {"sha256": ""}} for it in names]
    return {"name": "a", "version": "1", "wheels": wheels}


def test_the_wheel_that_fits_best_is_chosen():
    tags = [
        *parse_tag("cp312-cp312-manylinux_2_28_x86_64"),
        *parse_tag("cp312-abi3-manylinux_2_28_x86_64"),
        *parse_tag("py3-none-any"),
    ]
    best = "a-1-cp312-cp312-manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl"
    others = ["a-1-py3-none-any.whl", "a-1-cp311-cp311-win_amd64.whl"]
    assert bundle.choose(package(*others, best), tags).name == best
    assert bundle.choose(package(*others), tags).name == others[0]
    for none in (package(others[1]), {"name": "a", "version": "1"}):
        with pytest.raises(CourseError, match="a 1 has no wheel for this system"):
            bundle.choose(none, tags)


def test_versions_are_those_of_the_tests_and_the_wheels_those_of_the_system(
    monkeypatch, tmp_path
):
    asked = {}

    def uv(*arguments):
        asked["options"] = [*map(str, arguments)]
        asked["pins"] = Path(arguments[arguments.index("-c") + 1]).read_text()
        lock = Path(arguments[-1])
        lock.write_text(
            '[[packages]]\nname = "course-vit"\narchive = { path = "c.whl" }\n'
            '[[packages]]\nname = "a"\nversion = "1"\nwheels = [\n'
            '{ url = "https://a/a-1-cp312-cp312-win_amd64.whl", size = 5, hashes = '
            '{ sha256 = "w" } },\n'
            '{ url = "https://a/a-1-cp312-cp312-macosx_11_0_arm64.whl", size = 6, '
            'hashes = { sha256 = "m" } }]\n'
        )

    monkeypatch.setattr(bundle, "uv", uv)
    course = tmp_path / "course_vit-0.1.0-py3-none-any.whl"
    for system, digest in (("windows", "w"), ("macos", "m")):
        (found,) = bundle.solve(course, system, "3.12", "https://cpu.example/simple")
        assert found.sha256 == digest
        assert bundle.SYSTEMS[system][0] in asked["options"]
    assert "https://cpu.example/simple" in asked["options"]
    assert "torch==" in asked["pins"]
    assert "--hash" not in asked["pins"]


def test_an_older_python_is_named(room, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    assert room.make() == 1
    assert "runs with Python 3.11 or newer" in capsys.readouterr().err


def test_uv_is_asked_for_and_what_it_says_is_shown(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: sys.executable)
    with pytest.raises(
        CourseError, match=r"uv -c exit\('error: no'\) failed:\nerror: no"
    ):
        bundle.uv("-c", "exit('error: no')")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(CourseError, match="bundle needs uv: pip install uv"):
        bundle.uv("--version")


def test_a_version_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["bundle", "room", "--os", "linux", "--python", "3.12.1"])
    assert "must be such as 3.12, got '3.12.1'" in capsys.readouterr().err


# The installer


def install(folder):
    command = [sys.executable, folder / "install.py"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.returncode, run.stderr.strip()


def test_the_installer_refuses_a_wrong_python_and_a_damaged_copy(room):
    room.make()
    script = room.folder / "install.py"
    text = script.read_text().replace('"3.12"', '"2.7"')
    script.write_text(text)
    here = ".".join(map(str, sys.version_info[:2]))
    said = f"This bundle is for Python 2.7, and this is Python {here}."
    assert install(room.folder) == (1, said)
    script.write_text(text.replace('"2.7"', f'"{here}"'))
    code, said = install(room.folder)
    assert (code, said) == (1, "install.py is damaged: copy the bundle again.")
    sums = room.folder / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if "install" not in line]
    sums.write_text("\n".join(lines))
    (room.folder / "wheels/one-1.0-py3-none-any.whl").unlink()
    code, said = install(room.folder)
    assert said == "wheels/one-1.0-py3-none-any.whl is missing: copy the bundle again."
    assert not (room.folder / "course_vit-room").exists()
