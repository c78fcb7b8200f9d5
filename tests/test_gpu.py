"""On a machine with a GPU the lessons use it; elsewhere this fails (make test-gpu)."""

import nbformat
import pytest
from house import NOTEBOOKS
from nbclient import NotebookClient

pytestmark = pytest.mark.gpu

ON_THE_GPU = [path for path in NOTEBOOKS if 6 <= int(path.name[:2]) <= 11]


@pytest.mark.parametrize("path", ON_THE_GPU, ids=lambda path: path.stem)
def test_the_lesson_uses_memory_of_the_gpu(path):
    notebook = nbformat.read(path, as_version=4)
    most = "import torch\nassert torch.cuda.max_memory_allocated() > 0"
    notebook.cells.append(nbformat.v4.new_code_cell(most))
    folder = {"metadata": {"path": path.parent}}
    NotebookClient(notebook, timeout=300, resources=folder).execute()
