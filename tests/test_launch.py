"""Scripts in several processes, and the ring that is imitated in one."""

import time

import pytest
import torch

from course_vit.kit import CourseError
from course_vit.kit.launch import first_error, torchrun
from course_vit.kit.ring import in_a_ring
from course_vit.kit.solutions import all_reduce

JOIN = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
"""


def write(path, text):
    path.write_text(JOIN + text, encoding="utf-8")
    return path


def test_processes_find_each_other_and_what_they_print_is_returned(tmp_path):
    text = """
total = torch.tensor([10.0 + rank])
dist.all_reduce(total)
if rank == 0:
    print("sum", total.item(), "threads", torch.get_num_threads())
dist.destroy_process_group()
"""
    assert "sum 21.0 threads 1" in torchrun(write(tmp_path / "adds.py", text))


def test_if_one_process_fails_its_error_is_raised_and_the_others_end(tmp_path):
    text = """
if rank == 1:
    raise ValueError("no images left")
dist.barrier()
"""
    said = r"fails\.py failed: process 1 raised ValueError: no images left"
    with pytest.raises(CourseError, match=said):
        torchrun(write(tmp_path / "fails.py", text))


def test_if_the_time_is_over_all_processes_end(tmp_path):
    script = tmp_path / "waits.py"
    script.write_text(
        "import os, pathlib, time\n"
        "beat = pathlib.Path(__file__).with_name('alive-' + os.environ['RANK'])\n"
        "for number in range(2000):\n"
        "    beat.write_text(str(number))\n"
        "    time.sleep(0.1)\n"
    )
    start = time.monotonic()
    with pytest.raises(CourseError, match=r"waits\.py was ended after 30 s in 2 proc"):
        torchrun(script, seconds=30)
    assert time.monotonic() - start < 120  # the script alone would take 200 s
    beats = sorted(tmp_path.glob("alive-*"))
    seen = [beat.read_text() for beat in beats]
    time.sleep(1)
    assert len(beats) == 2
    assert [beat.read_text() for beat in beats] == seen


def test_an_error_before_the_processes_join_is_raised_too(tmp_path):
    script = tmp_path / "imports.py"
    script.write_text("import nothing_like_this")
    said = r"imports\.py failed: a process raised ModuleNotFoundError: .*nothing_like"
    with pytest.raises(CourseError, match=said):
        torchrun(script)


def test_without_a_known_error_the_last_messages_are_shown():
    assert first_error("1\n2\n3\n4\n5\n6") == "the last messages are\n2\n3\n4\n5\n6"


def test_a_script_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(CourseError, match=r"there is no script .*missing\.py"):
        torchrun(tmp_path / "missing.py")


@pytest.mark.parametrize("world_size", range(1, 7))
def test_in_a_ring_all_reduce_gives_the_mean_and_its_cost_is_counted(world_size):
    tensors = [torch.randn(60) for _ in range(world_size)]
    before = [tensor.clone() for tensor in tensors]
    found, sent = in_a_ring(all_reduce, tensors)
    for mean in found:
        assert torch.equal(mean, found[0])
        torch.testing.assert_close(mean, torch.stack(before).mean(dim=0))
    assert sent == 2 * (world_size - 1) * 60 // world_size
    assert all(map(torch.equal, tensors, before))


def test_an_error_inside_a_process_is_the_callers():
    def fails(x, rank, world_size, exchange):
        exchange(x)
        raise KeyError(rank)

    with pytest.raises(KeyError):
        in_a_ring(fails, [torch.ones(1), torch.ones(1)])
