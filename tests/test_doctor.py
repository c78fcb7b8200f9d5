"""The doctor: seventeen broken environments, each of which it has to identify."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import venv
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from house import NOTEBOOKS, ROOT

from course_vit.kit import CourseError, data, doctor, doctor_checks
from course_vit.kit.cli import HELP, main
from course_vit.kit.doctor import CHECKS, Verdict, examine
from course_vit.kit.storage import MEMORY

NAMES = [check.__name__ for check in CHECKS]


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Put a file where Python looks first, in this process and in those it starts."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    paths = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return lambda name, text: write(folder / name, text)


def distribution(stub, name, version, *requires):
    lines = [f"Requires-Dist: {line}" for line in requires]
    text = "\n".join(
        [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *lines]
    )
    stub(f"{name}-{version}.dist-info/METADATA", f"{text}\n")


def identified(verdict, state, said, fix):
    assert verdict.state == state, verdict
    assert re.search(said, verdict.said), verdict
    assert re.search(fix, verdict.fix), verdict


# Each check, in its order


def test_the_time_of_every_lesson_is_known():
    assert len(doctor_checks.LESSONS) == len(NOTEBOOKS)


@pytest.mark.parametrize(
    ("version", "largest"),
    [((3, 9, 9), 2**63), ((3, 15, 0), 2**63), ((3, 12, 1), 2**31)],
)
def test_01_a_python_that_is_too_old_too_new_or_32_bit(tmp_path, version, largest):
    verdict = doctor_checks.python(tmp_path, version, largest)
    identified(verdict, "fails", rf"{version[0]}\.{version[1]}.*needs .*64-bit", "venv")


def test_02_a_kernel_of_another_environment(tmp_path, monkeypatch):
    other = tmp_path / "other"
    venv.create(other)
    (library,) = {*other.glob("[Ll]ib/**/site-packages")}
    paths = [path for path in sys.path if "site-packages" in path]
    (library / "all.pth").write_text("\n".join(paths))
    program = next(
        it for name in ("bin", "Scripts") for it in (other / name).glob("python*")
    )
    argv = [str(program), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    write(tmp_path / "jupyter/kernels/python3/kernel.json", json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    verdict = examine("kernel", tmp_path)
    identified(verdict, "fails", "run in the Python of .*other, not", "JUPYTER_PATH")


def test_03_a_package_that_is_too_old_missing_or_newer_than_tested(tmp_path, stub):
    wanted = "einops>=0.7", 'never-made>=2; extra == "course"', 'other; extra == "test"'
    distribution(stub, "einops", "0.7.5")
    distribution(stub, "course_vit", "0.1.0", *wanted)
    verdict = doctor_checks.packages(tmp_path)
    identified(verdict, "fails", "^never-made is missing$", r"pip install .*\[course\]")
    distribution(stub, "course_vit", "0.1.0", "einops>=0.12")
    verdict = doctor_checks.packages(tmp_path)
    identified(
        verdict,
        "fails",
        r"einops is 0\.7\.5, but must be >=0\.12",
        r"pip install .*\[course\]",
    )
    distribution(stub, "course_vit", "0.1.0", "einops>=0.7")
    assert doctor_checks.packages(tmp_path).state == "ok"
    shutil.rmtree(tmp_path / "stubs" / "einops-0.7.5.dist-info")
    distribution(stub, "einops", "99.0")
    verdict = doctor_checks.packages(tmp_path)
    identified(verdict, "warning", r"newer than tested: einops 99\.0", "einops==0")


def test_04_a_torchvision_for_another_torch(tmp_path, stub):
    stub("torchvision/__init__.py", "__version__ = '0.19.0+cpu'\nfrom . import ops")
    stub("torchvision/ops.py", "def nms(*boxes): pass")
    distribution(stub, "torchvision", "0.19.0", "torch==2.4.0")
    verdict = examine("pytorch", tmp_path)
    identified(
        verdict, "fails", "not built for each other", "--(force-)?reinstall torch "
    )


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        ("raise ImportError('libcudart.so.12: cannot open')", "libcudart.so.12"),
        ("raise ModuleNotFoundError(\"No module named 'torch'\")", "No module .*torch"),
        ("import os; os.abort()", "process ended with code"),
        ("import time; time.sleep(60)", "no answer within 2 seconds"),
    ],
)
def test_04_a_torch_that_does_not_load_crashes_or_never_returns(
    tmp_path, stub, breaks, said
):
    stub("torch.py", breaks)
    stub("numpy.py", "")
    verdict = examine("pytorch", tmp_path, limit=2 if "sleep" in breaks else 60)
    identified(verdict, "fails", said, "pip install")


def test_05_a_course_vit_from_somewhere_else(tmp_path):
    write(tmp_path / "course_vit.py")
    verdict = examine("course", tmp_path)
    identified(verdict, "fails", "a notebook in .* finds course_vit in", "pip install")


def test_05_a_workbook_of_another_version(mine, monkeypatch):
    monkeypatch.setattr(doctor_checks, "COURSE", ROOT)
    assert doctor_checks.course(mine.folder).state == "ok"
    memory = json.loads((mine.folder / MEMORY).read_text())
    write(mine.folder / MEMORY, json.dumps(memory | {"version": "0.0.9"}))
    verdict = doctor_checks.course(mine.folder)
    identified(verdict, "warning", r"your workbook 0\.0\.9", "course-vit start")


def test_06_a_card_that_torch_cannot_use(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = write(tmp_path / "nvidia-smi")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: f"{tmp_path}/{name}")
    verdict = doctor_checks.devices(tmp_path)
    identified(verdict, "warning", "torch cannot use the NVIDIA GPU", "--upgrade torch")


def test_06_a_card_that_torch_is_not_built_for(tmp_path, monkeypatch):
    def to(tensor, name):
        raise RuntimeError("CUDA error: no kernel image is available")

    said = {
        "is_available": True,
        "get_device_name": "Old Card",
        "get_device_capability": (3, 5),
        "get_arch_list": ["sm_80", "sm_90"],
    }
    for name, value in said.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.Tensor, "to", to)
    verdict = doctor_checks.devices(tmp_path)
    identified(verdict, "fails", r"sm_35.*not built.*sm_80", "CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "150000 100000"},
        {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"},
        {},
    ],
)
def test_07_a_container_or_hub_with_two_cores_of_a_large_machine(
    tmp_path, monkeypatch, files
):
    for name, text in files.items():
        write(tmp_path / name, text)
    if not files:  # a hub says so itself
        monkeypatch.setenv("CPU_LIMIT", "2.0")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64), raising=False)
    verdict = doctor_checks.threads(tmp_path, cgroup=tmp_path)
    identified(verdict, "warning", "64 threads .* 2 cores", "OMP_NUM_THREADS='?2")


def test_08_a_container_with_little_memory(tmp_path):
    limits = {
        "memory.max": f"{700 * 2**20}",
        "memory.current": f"{300 * 2**20}",
        "memory.stat": f"anon 5\ninactive_file {112 * 2**20}",
    }
    for name, text in limits.items():
        write(tmp_path / name, text)
    verdict = doctor_checks.room(tmp_path, cgroup=tmp_path)
    identified(verdict, "fails", r"^0\.5 GB of memory", "course-vit doctor")


def test_08_a_disk_that_is_nearly_full(tmp_path, monkeypatch):
    usage = namedtuple("Usage", "free")(2**30)
    memory = namedtuple("Memory", "available")(2**34)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    verdict = doctor_checks.room(tmp_path, tmp_path, lambda folder: usage)
    identified(verdict, "warning", r"1\.0 GB of disk", "pip cache purge")


def test_09_a_slow_computer(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    verdict = doctor_checks.speed(tmp_path, step=0.01)
    identified(verdict, "warning", "profile tiny.* times as long", "doctor|OMP_NUM")


def test_09_threads_that_wait_for_each_other(tmp_path, monkeypatch):
    threads = [2]
    step = torch.optim.AdamW.step

    def wait(optimizer):
        time.sleep(0.1 * (threads[-1] > 1))
        step(optimizer)

    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.optim.AdamW, "step", wait)
    verdict = doctor_checks.speed(tmp_path, step=1.0)
    identified(verdict, "warning", "one thread is faster", "OMP_NUM_THREADS='?1")


def test_10_a_download_that_was_cut_off(tmp_path):
    folder = tmp_path / "data" / "MNIST" / "raw"
    write(folder / "train-images-idx3-ubyte", "half")
    verdict = doctor_checks.data(tmp_path)
    identified(verdict, "warning", "mnist could not be read", "rmtree")


def test_10_digits_that_are_damaged(tmp_path, monkeypatch):
    images, labels = data.digit_images()
    monkeypatch.setattr(data, "digit_images", lambda: (images.flip(0), labels))
    verdict = doctor_checks.data(tmp_path)
    identified(verdict, "fails", "digits .* damaged", "scikit-learn")


def test_11_a_package_that_calls_home_when_it_is_imported(tmp_path, stub):
    stub("einops.py", "import socket; socket.create_connection(('127.0.0.1', 9))")
    verdict = examine("offline", tmp_path)
    identified(verdict, "fails", "tried to use the network", "pip install")


def test_12_a_file_in_the_place_of_the_folder(tmp_path):
    path = write(tmp_path / "workbook")
    identified(
        examine("workspace", path), "fails", "cannot be written", "course-vit start"
    )


def test_12_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(doctor_checks.tempfile, "TemporaryFile", refuse)
    verdict = doctor_checks.workspace(tmp_path)
    identified(verdict, "fails", r"\(Permission denied\)", "course-vit start")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("OneDrive - School", "synchronised by OneDrive"),
        ("Library/Mobile Documents", "synchronised by Mobile Documents"),
        ("50% done", "its name contains %"),
        ("Übung", "its name contains Ü"),
        ("long/" * 40, "letters, and Windows allows 260"),
    ],
)
def test_12_a_folder_in_an_odd_place(tmp_path, name, said):
    verdict = doctor_checks.workspace(tmp_path / name)
    identified(verdict, "warning", said, "course-vit start")


def test_13_a_file_beside_the_notebook_that_hides_a_package(tmp_path):
    write(tmp_path / "matplotlib.py")
    verdict = examine("notebook", tmp_path)
    identified(verdict, "fails", "matplotlib.py hides", 'mv ".*matplotlib.py" ".*my_')


def test_13_a_figure_without_words(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_checks, "in_kernel", lambda code, folder: [{"data": {}}])
    verdict = doctor_checks.notebook(tmp_path)
    identified(verdict, "fails", "drew no figure with alt text", "pip install")


def test_14_no_widgets(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # as if it were not installed
    identified(
        doctor_checks.widgets(tmp_path), "ok", "the course does not need them", ""
    )


def test_15_a_jupyterlab_that_does_not_start(tmp_path, stub):
    stub("jupyterlab.py", "raise ImportError('cannot import name x from y')")
    verdict = examine("browser", tmp_path)
    identified(
        verdict, "fails", "does not answer: .*cannot import name x", "jupyterlab"
    )


def test_15_a_proxy_between_the_browser_and_jupyterlab(tmp_path, stub, monkeypatch):
    stub(
        "jupyterlab.py",  # starts at once
        "import http.server as h, sys; from pathlib import Path;"
        "port = next(it for it in sys.argv if it.startswith('--port='))[7:];"
        "root = next(it for it in sys.argv if it.startswith('--ServerApp'));"
        "h.test(lambda *a: h.SimpleHTTPRequestHandler("
        "*a, directory=root.partition('=')[2]), port=int(port), bind='127.0.0.1')",
    )
    write(tmp_path / "api")
    # urllib keeps the proxies that it saw first, so later tests must not get these.
    monkeypatch.setattr(urllib.request, "_opener", None)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    verdict = doctor_checks.browser(tmp_path)
    identified(verdict, "fails", "through a proxy", "no_proxy=.*127.0.0.1")


def test_16_a_module_that_was_edited_by_hand(tmp_path, monkeypatch):
    for name in ("notebooks", "course_vit"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(doctor_checks, "COURSE", tmp_path)
    assert doctor_checks.maintainer(tmp_path).state == "ok"
    write(tmp_path / "course_vit" / "t2t.py", "# edited")
    verdict = doctor_checks.maintainer(tmp_path)
    identified(verdict, "fails", "t2t.py does not match", "course_vit export")


def test_16_a_tool_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbstripout", None)
    verdict = doctor_checks.maintainer(tmp_path)
    identified(
        verdict, "fails", "not installed: nbstripout", "pip install .*nbstripout"
    )


def test_17_the_code_and_the_questions_tell_which_checks_did_not_pass(
    tmp_path, monkeypatch, capsys
):
    found = {
        "threads": Verdict("warning", "slow", "export"),
        "data": Verdict("fails", "x", "y"),
    }
    fine = Verdict("ok", "fine")
    monkeypatch.setattr(doctor, "examine", lambda name, folder: found.get(name, fine))
    assert main(["doctor", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "13 ok, 1 warning, 1 fails" in said
    assert len(said.splitlines()) < 40
    assert "threads. Why is everything slow" in said
    assert "kernel. " not in said
    code = re.search(r"instructor is (\S+)", said)[1]
    assert main(["doctor", "--read", code.lower().replace("-", " ")]) == 0
    said = capsys.readouterr().out
    states = dict(line.rsplit(maxsplit=1)[::-1] for line in said.splitlines()[:16])
    wanted = {"threads": "warning", "data": "fails", "maintainer": "not run"}
    assert {name: it for name, it in states.items() if it != "ok"} == wanted
    assert "data. Which images" in said


# The doctor as a whole


def test_nothing_is_wrong_with_the_environment_of_the_tests(fresh, capfd, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):  # CI may reach its packages through a proxy
        monkeypatch.setenv(name, "127.0.0.1")
    assert main(["doctor", "--json", "--dev", str(fresh)]) == 0, capfd.readouterr().out
    said = json.loads(capfd.readouterr().out)
    assert [row["name"] for row in said["checks"]] == NAMES
    states = {row["name"]: row["state"] for row in said["checks"]}
    assert "fails" not in states.values()
    assert states == doctor.decode(said["code"])


def test_every_code_can_be_read_and_a_mistyped_one_cannot():
    states = doctor.STATES * 4
    verdicts = {n: Verdict(s, "") for n, s in zip(NAMES, states, strict=True)}
    code = doctor.encode(verdicts)
    assert doctor.decode(code) == dict(zip(NAMES, states, strict=True))
    wrong = code.replace(code[0], "A" if code[0] != "A" else "B", 1)
    for text in (wrong, code[:-1], "", "no code"):
        with pytest.raises(CourseError, match="not a code of the doctor"):
            doctor.decode(text)


def test_no_output_names_the_user_or_the_home_folder(tmp_path, monkeypatch):
    home = tmp_path / "homes" / "ada.l"
    for name, value in {"HOME": home, "USERPROFILE": home, "USER": "ada.l"}.items():
        monkeypatch.setenv(name, str(value))
    path = write(home / "my course" / "workbook")
    verdict = examine("workspace", path)
    assert "ada" not in str(verdict)
    assert "$HOME" + str(path)[len(str(home)) :] in verdict.said
    assert (
        doctor.private("in '/data/ada.l/x', ada.l_2") == "in '/data/$USER/x', ada.l_2"
    )
    assert doctor.private(f"{home}2/x") != "$HOME2/x"


def test_the_doctor_itself_needs_only_python():
    code = """
import sys, course_vit.kit.doctor
heavy = {"torch", "numpy", "nbformat", "nbclient", "packaging", "filelock"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("missing", ["torch", "nbformat"])
def test_a_start_that_fails_points_to_the_doctor(tmp_path, stub, missing):
    stub(f"{missing}.py", f"raise ModuleNotFoundError('gone', name='{missing}')")
    command = [sys.executable, "-m", "course_vit", "start", str(tmp_path / "workbook")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    todo = "pip install 'course_vit[course]'"
    assert done.stderr == f"course-vit start needs {missing}: {todo}\n{HELP}\n"


def test_a_folder_that_cannot_be_used_points_to_the_doctor(tmp_path, capsys):
    assert main(["start", str(write(tmp_path / "workbook"))]) == 1
    assert capsys.readouterr().err.endswith(f"{HELP}\n")
    assert main(["progress", str(tmp_path)]) == 1
    assert HELP not in capsys.readouterr().err


def test_every_check_answers_a_question_of_learners():
    for name, text in doctor.answers(NAMES).items():
        question, *answer = text.strip().splitlines()
        assert question.startswith(f"{name}. ")
        assert question.endswith("?")
        assert len(" ".join(answer)) > 60


def test_readme_and_lesson_0_point_to_the_doctor():
    for name in ("README.md", "notebooks/00_start_here.ipynb"):
        assert "course-vit doctor" in Path(ROOT, name).read_text("utf-8")
