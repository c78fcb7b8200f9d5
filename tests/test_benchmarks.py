"""The benchmark runs, compares equal models, and shows its numbers as it says."""

import subprocess
import sys

import pytest
import torch
from house import ROOT
from weights import distance

sys.path.insert(0, str(ROOT))
from benchmarks import models, peers, tables


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks.peers", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_benchmark_writes_its_tables_and_its_picture(tmp_path):
    done = run("--quick", "--busy", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "peers-cpu.md").read_text("utf-8")
    assert text.count("\n## ") == 6
    assert tables.HOW_TO_READ in text
    assert "![Left: for each model and task" in text
    assert "\n| ViT-Ti/16 | step | float32 | " in text
    assert "<svg" in (tmp_path / "peers-cpu.svg").read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "peers-cpu.md",
        "peers-cpu.svg",
    ]


def test_an_unknown_device_is_refused():
    done = run("--device", "tpu")
    assert done.returncode == 2
    assert "invalid choice: 'tpu'" in done.stderr


@pytest.mark.parametrize("name", models.NAMES)
def test_the_peers_have_as_many_trained_parameters(name):
    """Up to what differs by design: vit-pytorch's norms, and biases it leaves out."""
    with torch.device("meta"):
        ours, *others = (build() for build in models.peers(name).values())
    count = sum(p.numel() for p in ours.parameters())
    for other in others:
        their = sum(p.numel() for p in other.parameters())
        assert their == pytest.approx(count, rel=0.003), type(other)


def test_the_released_t2t_written_plainly_is_ours():
    torch.manual_seed(0)
    theirs = models.PlainT2T(models.peers("T2T-7")["course_vit"]).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert distance(theirs(images), theirs.layers(images)) < 1e-5


def test_a_ratio_above_one_says_that_we_are_faster():
    low, middle, high = tables.ratio([2, 4, 6, 9], [2, 2, 2, 3])
    assert (low, middle, high) == (1.75, 2.5, 3.0)
    assert tables.ratio([3], [2]) == [1.5, 1.5, 1.5]


@pytest.mark.parametrize(
    ("quartiles", "right"),
    [
        ([0.96, 0.97, 0.98], True),  # at most 3 % slower
        ([0.90, 0.96, 1.00], True),  # the spread contains 1
        ([0.95, 0.96, 0.99], False),
    ],
)
def test_level_allows_three_percent_or_the_spread(quartiles, right):
    assert tables.level(quartiles) is right


def test_a_table_leaves_empty_what_a_row_lacks():
    rows = [{"a": 1.234, "b": [1.0, 1.5, 2.0]}, {"a": "x", "c": 2}]
    assert tables.table(rows).splitlines() == [
        "| a | b | c |",
        "| --- | --- | --- |",
        "| 1.23 | 1.50 (1.00 to 2.00) |  |",
        "| x |  | 2 |",
    ]


def test_the_operations_of_a_model_are_counted_with_its_attention():
    """ViT-Ti/16 needs 1.26 billion multiplications, two operations each."""
    (plain,) = peers.task_runs(
        peers.Bench(batch=1), "ViT-Ti/16", "forward", only="course_vit"
    ).values()
    d, n = 192, 197
    blocks = 12 * (12 * n * d * d + 2 * n * n * d)
    rest = 196 * 768 * d + d * 1000
    assert peers.flops(plain) == 2 * (blocks + rest)
