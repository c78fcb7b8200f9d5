"""Training in several processes, and training that is killed (make test-scale)."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from course_vit.kit.recipes import Recipe
from course_vit.kit.train import train

pytestmark = pytest.mark.scale
SPIED = Path(__file__).with_name("spied.py")
FOREVER = Recipe(epochs=100_000, batch=8, img_size=8)


def command(number, *program):
    """A command that starts a program in so many processes; 0 is without torchrun."""
    start = [sys.executable]
    if number:
        start += ["-m", "torch.distributed.run", "--standalone"]
        start += [f"--nproc_per_node={number}"]
    return [*start, *map(str, program)]


def run(number, *program, code=0, **variables):
    """Run such a command and return what it printed; `code` is its expected result."""
    done = subprocess.run(
        command(number, *program),
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


# The same run


def watch(folder, number, *options):
    """Train on the digits; returns the loss of each step, gradients and weights."""
    seen = folder / "seen.pt"
    arguments = ["train", "digits_vit", "digits", "--epochs=1", "--set=clip_norm=1e9"]
    run(number, SPIED, seen, *arguments, f"--output={folder / 'run'}", *options)
    state = torch.load(folder / "run" / "run.pth", weights_only=True)
    weights = {
        # Softmax does not see the biases of the keys, so AdamW moves them by noise.
        name: torch.cat(x.chunk(3)[::2]) if name.endswith("qkv.bias") else x
        for name, x in state["model"].items()
    }
    return torch.load(seen) | {"weights": weights, "history": state["history"]}


@pytest.fixture(scope="module", params=["plain", "random"])
def alone(request, tmp_path_factory):
    """What one process sees, and the options that it was given."""
    options = []
    if request.param == "random":
        changes = ["mixup=0.8", "cutmix=1", "randaugment=9", "erasing=0.25", "ema=0.9"]
        options = [f"--set={change}" for change in changes]
    return options, watch(tmp_path_factory.mktemp("alone"), 0, *options)


@pytest.mark.parametrize(
    ("number", "more"),
    [
        (0, ["--set=workers=1"]),
        (0, ["--compile"]),
        (1, []),
        (2, []),
        (4, []),
        (2, ["--set=accumulate=2"]),
        (2, ["--shard"]),
        (4, ["--shard", "--set=accumulate=2"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_any_number_of_processes_is_the_same_run(alone, number, more, tmp_path):
    options, right = alone
    got = watch(tmp_path, number, *options, *more)
    assert len(got["costs"]) == 22
    close = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(got["costs"], right["costs"], **close)
    torch.testing.assert_close(got["history"], right["history"], **close)
    torch.testing.assert_close(got["weights"], right["weights"], **close)
    close["atol"] = 1e-6
    torch.testing.assert_close(got["gradients"], right["gradients"], **close)


def test_a_folder_two_processes_averages_and_a_teacher(digits, tmp_path):
    teacher, train = tmp_path / "teacher", ["-m", "course_vit", "train"]
    options = ["--batch=8", "--epochs=3", "--set=img_size=8"]
    run(0, *train, "digits_vit", digits, *options, f"--output={teacher}")
    options += ["--recipe=small", "--set=drop_path=0", f"--teacher={teacher}"]
    found = []
    for number in (0, 2):
        output = tmp_path / str(number)
        program = [*train, "digits_deit", digits, *options, f"--output={output}"]
        said = run(number, *program)
        assert said.count("global batch 8") == 1, "only the first process speaks"
        found.append(torch.load(output / "run.pth", weights_only=True))
        averages = [it["average"] for it in found[-1]["optimizer"]["state"].values()]
        saved = load_file(output / "model.safetensors")["head.weight"]
        assert any(torch.equal(saved, average) for average in averages)
    close = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(*(it["history"] for it in found), **close)


@pytest.mark.parametrize("options", [[], ["--shard"]], ids=["ddp", "shard"])
def test_two_processes_that_were_stopped_continue(options, tmp_path):
    logs, arguments = [], ["train", "digits_vit", "digits", "--epochs=3", *options]
    arguments += ["--set=ema=0.9"]
    for name, stop in {"at once": 0, "stopped": 30}.items():
        program = [SPIED, tmp_path / "seen", *arguments, f"--output={tmp_path / name}"]
        if stop:
            said = run(2, *program, code=1, STOP=str(stop))
            assert said.count("interrupted: the same command continues") == 1
        run(2, *program)
        logs.append((tmp_path / name / "log.csv").read_text())
    assert logs[0] == logs[1]
    alone = [word for word in program if word != "--shard"]
    said = run(0, *alone, code=1)
    assert "processes 2, got 1: use the same to continue it, or add --resume" in said
    assert "3 are done" in run(0, *alone, "--resume-anyway")


def test_broken_images_are_found_together_and_named_once(digits, tmp_path):
    folder = shutil.copytree(digits, tmp_path / "digits")
    broken = [folder / "train" / "one" / f"{number}.png" for number in (2, 3, 4)]
    for path in broken:
        path.write_text("not an image")
    program = ["-m", "course_vit", "train", "digits_vit", folder, "--batch=8"]
    program += ["--epochs=1", "--set=img_size=8", f"--output={tmp_path / 'run'}"]
    said = run(2, *program, code=1)
    for words in ["of 36 images, 3 cannot be read", *map(str, broken)]:
        assert said.count(words) == 1
    said = run(2, *program, "--skip-broken")
    assert said.count("21 images for training, 12 for validation, 3 broken") == 1


# The end


def workers(process):
    """The processes that torchrun has started, by their rank."""
    children = psutil.Process(process.pid).children(recursive=True)
    return {int(it.environ()["RANK"]): it for it in children if "RANK" in it.environ()}


@pytest.mark.parametrize("killed", [0, 1])
def test_the_death_of_one_process_ends_the_others(digits, tmp_path, killed):
    output = tmp_path / "run"
    program = ["-m", "course_vit", "train", "digits_vit", digits, "--batch=8"]
    program += ["--epochs=100000", "--set=img_size=8", f"--output={output}"]
    with subprocess.Popen(
        command(2, *program), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        while not (output / "log.csv").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        both = workers(process)
        both[killed].send_signal(signal.SIGKILL)
        start = time.monotonic()
        process.wait(60)
        said = process.stderr.read().decode()
    assert process.returncode
    assert not any(worker.is_running() for worker in both.values())
    sentence = f"process {1 - killed} of 2 ends, because a different process has ended"
    assert sentence in said
    print(f"ended after {time.monotonic() - start:.1f} s")


def test_many_short_runs_come_to_an_end(digits, tmp_path, pytestconfig):
    runs = pytestconfig.getoption("runs")
    program = ["-m", "course_vit", "train", "digits_vit", digits, "--batch=8"]
    program += ["--epochs=1", "--set=img_size=8"]
    for number in range(runs):
        run(2, *program, f"--output={tmp_path / str(number)}")
    logs = {(tmp_path / str(n) / "log.csv").read_text() for n in range(runs)}
    assert len(logs) == 1


def test_a_run_that_is_killed_again_and_again(digits, tmp_path):
    recipe = replace(FOREVER, epochs=300, ema=0.9, mixup=0.5, drop_path=0.1)
    given = ("digits_vit", str(digits), recipe)
    start = time.monotonic()
    train(*given, tmp_path / "at once")
    seconds = time.monotonic() - start
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["course_vit.kit.train"])
    moments, done = random.Random(0), []
    for _ in range(30):
        child = server.Process(target=train, args=(*given, tmp_path / "killed"))
        child.start()
        child.join(moments.uniform(0, seconds / 20))
        assert child.exitcode is None, "the run was over before it was killed"
        child.kill()
        child.join()
        log = tmp_path / "killed" / "log.csv"
        done.append(len(log.read_text().splitlines()) - 1 if log.exists() else 0)
    print("epochs in the log at each kill:", done)
    assert len(set(done)) > 10
    train(*given, tmp_path / "killed")
    weights = [
        (tmp_path / name / "model.safetensors").read_bytes()
        for name in ("killed", "at once")
    ]
    assert weights[0] == weights[1]
    assert not [*(tmp_path / "killed").glob("*.unfinished")]
