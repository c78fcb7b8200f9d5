"""Scripts in several processes, and the ring that is imitated in one."""

import time

import pytest
import torch

from course_vit.kit import CourseError
from course_vit.kit.launch import torchrun
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
        "for number in range(1000):\n"
        "    beat.write_text(str(number))\n"
        "    time.sleep(0.1)\n"
    )
    with pytest.raises(CourseError, match=r"waits\.py was ended after 30 s in 2 proc"):
        torchrun(script, seconds=30)
    beats = sorted(tmp_path.glob("alive-*"))
    seen = [beat.read_text() for beat in beats]
    time.sleep(1)
    assert len(beats) == 2
    assert [beat.read_text() for beat in beats] == seen


def test_a_script_that_does_not_start_is_shown_with_its_last_messages(tmp_path):
    with pytest.raises(CourseError, match=r"missing\.py failed: .*last messages"):
        torchrun(tmp_path / "missing.py", processes=1)


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
