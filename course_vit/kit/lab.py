"""Open a notebook in the JupyterLab of this Python, with the defaults of the course.

The defaults are in `jupyter/labconfig/`: JupyterLab does not ask whether to fetch news.
Your own settings of JupyterLab have priority.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from jupyterlab.labapp import LabApp

DEFAULTS = Path(__file__).with_name("jupyter")


def open_in_jupyterlab(notebook: Path, options: Sequence[str] = ()) -> None:
    """Serve the folder of a notebook, and open it in the browser, until Ctrl-C.

    Args:
        notebook: What to open; its folder is the root of the file browser.
        options: Further options of JupyterLab; they have priority over the course's.
    """
    theirs = os.environ.get("JUPYTER_CONFIG_PATH", "").split(os.pathsep)
    paths = filter(None, [*theirs, str(DEFAULTS)])
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(paths)
    # Many containers run as root, which JupyterLab refuses without this option.
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    as_root = ["--allow-root"] if is_root else []
    LabApp.launch_instance([str(notebook), *as_root, *options])
