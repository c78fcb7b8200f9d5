"""With a GPU, lessons and training use it; without one this fails (make test-gpu)."""

import nbformat
import pytest
import torch
from house import NOTEBOOKS
from nbclient import NotebookClient
from test_scale import run

pytestmark = pytest.mark.gpu

ON_THE_GPU = [path for path in NOTEBOOKS if 6 <= int(path.name[:2]) <= 11]


@pytest.mark.parametrize("path", ON_THE_GPU, ids=lambda path: path.stem)
def test_the_lesson_uses_memory_of_the_gpu(path):
    notebook = nbformat.read(path, as_version=4)
    most = "import torch\nassert torch.cuda.max_memory_allocated() > 0"
    notebook.cells.append(nbformat.v4.new_code_cell(most))
    folder = {"metadata": {"path": path.parent}}
    NotebookClient(notebook, timeout=300, resources=folder).execute()


@pytest.fixture(scope="module")
def on_the_cpu(tmp_path_factory):
    return losses(tmp_path_factory.mktemp("cpu"), 0, "--device=cpu")


def losses(folder, number, *options):
    """The losses of three epochs of training in so many processes."""
    program = ["-m", "course_vit", "train", "digits_vit", "digits", "--epochs=3"]
    run(number, *program, f"--output={folder}", *options)
    history = torch.load(folder / "run.pth", weights_only=True)["history"]
    return [record["loss"] for record in history]


@pytest.mark.parametrize(
    ("option", "close"),
    [
        ("--lr=2e-3", 1e-3),  # as it is
        ("--shard", 1e-3),
        ("--compile", 1e-3),
        ("--set=precision=bf16", 3e-2),
    ],
)
def test_a_training_on_all_gpus_is_the_run_of_the_cpu(
    on_the_cpu, option, close, tmp_path
):
    number = torch.cuda.device_count()
    got = losses(tmp_path, number, "--device=cuda", option)
    assert got == pytest.approx(on_the_cpu, abs=close)
