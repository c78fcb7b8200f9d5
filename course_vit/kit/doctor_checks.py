"""The checks of `course-vit doctor`, in the order in which they run.

A check expects the folder of the workbook and returns a `Verdict`. Only modules of
Python itself are imported before a check needs them. If a check does not pass, the
doctor prints its docstring: a question that learners ask, and the answer. The further
arguments of some checks are for the tests.
"""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
import zlib
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

from . import COURSE, COURSE_VIT
from .storage import MEMORY, course_version

CGROUP = Path("/sys/fs/cgroup")  # where Linux keeps the limits of a container
SECONDS = 60.0  # to wait for Jupyter
# We measured these on one core of a server of 2026: the milliseconds of one step of the
# check `speed`, and the seconds of computing in each lesson.
STEP = 31.0
LESSONS = (6, 6, 9, 9, 13, 19, 7, 29, 19, 30, 33, 42, 27, 44, 10, 8, 40)


class Verdict(NamedTuple):
    """The result of a check: ok, warning or fails; a sentence; and a fix to copy."""

    state: str
    said: str
    fix: str = ""


def ok(said: str) -> Verdict:
    return Verdict("ok", said)


def python(
    folder: Path, version: tuple = sys.version_info, largest: int = sys.maxsize
) -> Verdict:
    """Which Python does the course need?

    A 64-bit Python of a version that PyTorch supports. For a newer Python there may be
    no PyTorch yet, and for an older one there is no current PyTorch any more.
    """
    from packaging.specifiers import SpecifierSet

    wanted = importlib.metadata.metadata("course_vit")["Requires-Python"]
    number, bits = ".".join(map(str, version[:3])), 64 if largest > 2**32 else 32
    if bits == 64 and SpecifierSet(wanted).contains(number):
        return ok(f"Python {number}, 64-bit")
    said = f"this is Python {number}, {bits}-bit; the course needs {wanted}, 64-bit"
    newer = "python3.12" if os.name == "posix" else "py -3.12"
    return Verdict("fails", said, f"{newer} -m venv .venv")


def kernel(folder: Path) -> Verdict:
    """Why does a notebook not find what I have installed?

    A notebook runs in a kernel, which may be a different Python from the one that you
    installed the course for. An environment (venv, conda) keeps the two together;
    activate it before you start Jupyter.
    """
    with tempfile.TemporaryDirectory() as empty:
        outputs = in_kernel("import sys; print(sys.prefix)", Path(empty))
    there = "".join(output.get("text", "") for output in outputs).strip()
    if os.path.realpath(there) != os.path.realpath(sys.prefix):
        said = f"notebooks run in the Python of {there}, not in {sys.prefix}"
        spec = "-m ipykernel install --sys-prefix --name python3"
        if os.environ.get("JUPYTER_PATH"):  # it has priority over the environment
            return Verdict("fails", f"{said} (JUPYTER_PATH)", setting("JUPYTER_PATH"))
        return Verdict("fails", said, f"{this_python()} {spec}")
    conda = Path(sys.prefix, "conda-meta").exists()
    if sys.prefix == sys.base_prefix and not conda:
        said = "notebooks run in this Python, which is not in an environment"
        return Verdict("warning", said, f"{this_python()} -m venv .venv")
    return ok("notebooks run in this Python, in an environment")


def packages(folder: Path) -> Verdict:
    """Which versions of the packages does the course need?

    The metadata of `course_vit` names the oldest versions that work, and its
    `requirements.txt` the newest ones that were tested. Newer versions usually work,
    too: if something fails, try the tested version before you look any further.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    pins = re.compile(r"^([\w.-]+)==([\w.]+)", re.MULTILINE)
    lock = (COURSE / "requirements.txt").read_text("utf-8")
    tested = {canonicalize_name(name): Version(v) for name, v in pins.findall(lock)}
    missing, newer = [], {}
    for line in importlib.metadata.requires("course_vit") or ():
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate({"extra": "course"}):
            continue
        name = wanted.name
        try:
            found = Version(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            missing.append(f"{name} is missing")
            continue
        highest = tested.get(canonicalize_name(name), found)
        if not wanted.specifier.contains(found, prereleases=True):
            missing.append(f"{name} is {found}, but must be {wanted.specifier}")
        elif found.release[:2] > highest.release[:2]:
            newer[f"{name}=={highest}"] = f"{name} {found} (tested: {highest})"
    if missing:
        return Verdict("fails", ", ".join(missing), pip())
    if newer:
        said = f"newer than tested: {', '.join(newer.values())}"
        return Verdict("warning", said, pip(*newer))
    return ok("all are installed, none older than needed or newer than tested")


def pytorch(folder: Path) -> Verdict:
    """Why does PyTorch not work although it is installed?

    Each torchvision is built for one version of torch, and each torch for one major
    version of NumPy. Updating one of them alone breaks the others, so install them
    together.
    """
    again = pip("torch", "torchvision", "numpy", options="--force-reinstall ")
    try:
        import numpy as np
        import torch
        import torchvision

        there = torch.from_numpy(np.arange(3.0)).numpy()
        assert there.tolist() == [0, 1, 2], there
        torchvision.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)  # compiled for torch
    except ModuleNotFoundError:
        raise
    except Exception as error:  # a broken library may raise anything
        return Verdict("fails", one_line(error), again)
    from packaging.requirements import Requirement

    (number, _, tag), (with_it, _, its_tag) = (
        module.__version__.partition("+") for module in (torch, torchvision)
    )
    needs = map(Requirement, importlib.metadata.requires("torchvision") or ())
    fits = all(n.specifier.contains(number, True) for n in needs if n.name == "torch")
    if not fits or tag != its_tag:
        said = f"torch {number} ({tag}) and torchvision {with_it} ({its_tag})"
        return Verdict("fails", f"{said} are not built for each other", again)
    return ok(f"torch {number}, torchvision {with_it}, build {tag or 'not named'}")


def course(folder: Path) -> Verdict:
    """Which course_vit does my notebook use?

    Python imports the first `course_vit` that it finds, beginning in the folder of the
    notebook. After an update of the course, run `course-vit start` once: it updates the
    lessons that you have not changed.
    """
    code = "import course_vit; print(course_vit.__file__)"
    place = existing(folder)
    done = run(sys.executable, "-c", code, cwd=place)
    found = Path((done.stdout.splitlines() or [""])[-1]).parent
    if os.path.realpath(found) != os.path.realpath(COURSE_VIT):
        said = f"a notebook in {place} finds course_vit in {found}, not in {COURSE_VIT}"
        return Verdict("fails", said, pip())
    version, project = course_version(), COURSE / "pyproject.toml"
    with suppress(OSError):
        there = re.search(r'^version = "(.+)"', project.read_text("utf-8"), re.M)
        if there and there[1] != version:
            old = version or "none"
            said = f"version {old} is installed, but {COURSE} has {there[1]}"
            return Verdict("fails", said, pip())
    if not (folder / MEMORY).exists():
        return ok(f"version {version}; there is no workbook yet")
    its = json.loads((folder / MEMORY).read_bytes()).get("version", "is older")
    if its != version:
        said = f"the course has version {version}, your workbook {its}"
        return Verdict("warning", said, f'course-vit start "{folder}"')
    return ok(f"version {version}, like your workbook")


def devices(folder: Path) -> Verdict:
    """Do I need a GPU?

    No, every lesson runs on a CPU. A GPU that PyTorch can use makes lessons 7 to 9
    faster. If PyTorch sees a GPU but cannot use it, hide the GPU from PyTorch.
    """
    import torch

    from course_vit import VisionTransformer

    model = VisionTransformer(8, 2, 1, 10, embed_dim=16, depth=1, num_heads=2)
    model(torch.rand(2, 1, 8, 8)).sum().backward()
    gradients = [part.grad for part in model.parameters()]
    if not all(it is not None and it.isfinite().all() for it in gradients):
        return Verdict("fails", "gradients on the CPU are not finite", pip("torch"))
    if torch.cuda.is_available():
        name, hide = "cuda", setting("CUDA_VISIBLE_DEVICES", "-1")
        card = "sm_{}{}".format(*torch.cuda.get_device_capability())
        said = f"{torch.cuda.get_device_name()} ({card})"
    elif torch.backends.mps.is_available():
        name, said, hide = "mps", "Apple's GPU, float32 only", "course-vit doctor"
    elif shutil.which("nvidia-smi") and "CUDA_VISIBLE_DEVICES" not in os.environ:
        said = "torch cannot use the NVIDIA GPU in this computer, but the CPU is enough"
        return Verdict(
            "warning", said, pip("torch", "torchvision", options="--upgrade ")
        )
    else:
        return ok("there is no GPU, and the CPU is enough")
    x = torch.rand(64, 64)
    try:
        product = (x.to(name) @ x.to(name)).cpu()
        torch.testing.assert_close(product, x @ x, rtol=0.01, atol=0.1)
    except Exception as error:  # a driver may raise anything
        if name == "cuda" and card not in (built := torch.cuda.get_arch_list()):
            said = f"{said}, for which torch is not built (only for {' '.join(built)}),"
        return Verdict("fails", f"{said} cannot compute: {one_line(error)}", hide)
    return ok(f"{said} computes the same as the CPU")


def threads(folder: Path, cgroup: Path = CGROUP) -> Verdict:
    """Why is everything slow in a container?

    PyTorch starts one thread for each core of the machine. If the container or the hub
    gives you fewer cores, the threads wait for each other. Start fewer threads.
    """
    import torch

    cores = [float(os.cpu_count() or 1)]
    if hasattr(os, "sched_getaffinity"):
        cores.append(len(os.sched_getaffinity(0)))
    quota = words(cgroup, "cpu.max") or [
        *words(cgroup, "cpu/cpu.cfs_quota_us"),
        *words(cgroup, "cpu/cpu.cfs_period_us"),
    ]
    if len(quota) == 2 and quota[0] not in ("max", "-1"):
        cores.append(int(quota[0]) / int(quota[1]))
    if limit := os.environ.get("CPU_LIMIT"):  # which JupyterHub sets
        cores.append(float(limit))
    allowed, used = max(1, round(min(cores))), torch.get_num_threads()
    said = f"torch starts {used} threads and may use {allowed} cores"
    if used > allowed:
        return Verdict("warning", said, setting("OMP_NUM_THREADS", allowed))
    return ok(said)


def room(
    folder: Path, cgroup: Path = CGROUP, disk_usage: Callable = shutil.disk_usage
) -> Verdict:
    """How much memory and disk does the course need?

    Four gigabytes of free memory and three of free disk are comfortable. Close other
    notebooks (Kernel, Shut Down All Kernels) and large programs; in a container, give
    it more memory.
    """
    import psutil

    free = psutil.virtual_memory().available
    limit = words(cgroup, "memory.max", "memory/memory.limit_in_bytes") or ["max"]
    if limit[0] != "max":
        used = words(cgroup, "memory.current", "memory/memory.usage_in_bytes") or ["0"]
        stat = words(cgroup, "memory.stat", "memory/memory.stat")
        files = dict(zip(stat[::2], stat[1::2], strict=False)).get("inactive_file", 0)
        free = min(free, int(limit[0]) - int(used[0]) + int(files))
    memory, disk = free / 2**30, disk_usage(existing(folder)).free / 2**30
    said = f"{memory:.1f} GB of memory and {disk:.1f} GB of disk are free"
    state = "fails" if memory < 1 or disk < 0.2 else "warning"
    if memory < 4:
        said = (
            f"{said}, but 4 GB of memory are recommended: close other programs, and run"
            " the doctor again"
        )
        return Verdict(state, said, "course-vit doctor")
    if disk < 3:
        said = (
            f"{said}, but 3 GB of disk are recommended: delete pip's copies of the"
            " packages that it installed"
        )
        return Verdict(state, said, f"{this_python()} -m pip cache purge")
    return ok(said)


def speed(folder: Path, step: float = STEP) -> Verdict:
    """How long does my computer need to compute a lesson?

    Computing is the small part of a lesson: reading and thinking take longer. If your
    computer is slow, plug it in and close other programs, because threads that share a
    busy core wait for each other. You can also read the solved lessons in `notebooks/`,
    which contain their outputs.
    """
    import torch

    from course_vit import VisionTransformer

    model = VisionTransformer(8, 2, 1, 10, embed_dim=64, depth=3, num_heads=4)
    optimizer = torch.optim.AdamW(model.parameters())
    images, labels = torch.rand(64, 1, 8, 8), torch.arange(64) % 10

    def measured(seconds: float = 1.5) -> float:
        begin, steps = time.monotonic(), 0
        while time.monotonic() < begin + seconds:
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            steps += 1
        return 1000 * (time.monotonic() - begin) / steps

    measured()  # the first steps are slower
    ms = measured()
    gpu = torch.cuda.is_available()
    profile = "gpu" if gpu else "tiny" if ms > 4 * step else "normal"
    minutes = " ".join(f"{it * ms / step / 60:.1f}" for it in LESSONS)
    lessons = f"lessons 0 to {len(LESSONS) - 1}"
    said = f"profile {profile}; {lessons} compute for about {minutes} minutes"
    if profile == "tiny":
        said = f"{said}, {ms / step:.0f} times as long as on our computer"
        torch.set_num_threads(1)
        if measured() < ms / 2:
            said = f"{said}; one thread is faster than several"
            return Verdict("warning", said, setting("OMP_NUM_THREADS", 1))
        return Verdict("warning", said, "course-vit doctor")
    return ok(f"{said}{' on the CPU' * gpu}")


def data(folder: Path) -> Verdict:
    """Which images does the course need?

    The digits and photographs that come with scikit-learn. MNIST and the other data
    sets that lesson 7 offers are downloaded only if you ask for them. If a download was
    interrupted, delete its folder and download it again.
    """
    from .data import DOWNLOADS, digit_images, load_data

    pixels = zlib.crc32(digit_images()[0].numpy().tobytes())
    if pixels != 0x9423A9D:
        again = pip("scikit-learn", options="--force-reinstall --no-deps ")
        return Verdict("fails", "the digits of scikit-learn are damaged", again)
    found = []
    for root in {existing(folder).parent / "data", existing(folder) / "data"}:
        for name in (
            name for name in DOWNLOADS if (root / DOWNLOADS[name][0]).exists()
        ):
            try:
                load_data(name, root=root)
            except (RuntimeError, OSError) as error:
                code = f"import shutil; shutil.rmtree(r'{root / DOWNLOADS[name][0]}')"
                return Verdict(
                    "warning", one_line(error), f'{this_python()} -c "{code}"'
                )
            found.append(name)
    also = f"{', '.join(found)} and " if found else "nothing was downloaded: "
    return ok(f"{also}the bundled digits will be used")


def offline(folder: Path) -> Verdict:
    """Does the course need the internet?

    Only to install it and to download published weights. If an import of a lesson tries
    to use the network, some package on this computer causes it: install the course into
    a new environment.
    """
    from .exercises import lessons, read

    def refuse(event: str, arguments: tuple) -> None:
        if event == "socket.getaddrinfo" or (
            event == "socket.connect" and isinstance(arguments[1], tuple)
        ):
            raise OSError(f"an import tried to use the network ({event})")

    cells = [cell for path in lessons(COURSE)[:9] for cell in read(path)]
    nodes = [node for cell in cells for node in cell.get("body", ())]
    lines = {
        ast.unparse(it) for it in nodes if isinstance(it, ast.Import | ast.ImportFrom)
    }
    sys.addaudithook(refuse)
    for line in sorted(lines):
        exec(line, {})
    from .data import digit_images, photograph
    from .results import stored_model

    stored_model()(digit_images()[0][:1])
    photograph()
    return ok(
        f"lessons 0 to 8 start without a network ({len(lines)} imports, the data)"
    )


def workspace(folder: Path) -> Verdict:
    """Where should my workbook be?

    In your own folder with a short, plain name. A folder that is synchronised
    (OneDrive, Dropbox, iCloud) may be changed while Jupyter writes into it, and some
    tools fail if a path contains letters that are not English.
    """
    better = f'course-vit start "{Path.home() / "course" / "workbook"}"'
    try:
        with tempfile.TemporaryFile(dir=existing(folder)):
            pass
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError("it is a file")
    except OSError as error:
        why = error.strerror or error
        return Verdict("fails", f"{folder} cannot be written to ({why})", better)
    synced = (
        r"OneDrive|Dropbox|iCloud|Mobile Documents|CloudStorage|Google ?Drive|Nextcloud"
    )
    if found := re.search(rf"[\\/]({synced})", str(folder)):
        return Verdict("warning", f"{folder} is synchronised by {found[1]}", better)
    if odd := sorted(set(re.findall(r"[^\w\s.:~\\/()+,-]|[^\x00-\x7f]", str(folder)))):
        said = f"some tools may fail in {folder}: its name contains {' '.join(odd)}"
        return Verdict("warning", said, better)
    if len(str(folder)) > 150:
        said = f"the path has {len(str(folder))} letters, and Windows allows 260"
        return Verdict("warning", said, better)
    return ok(f"{folder} can be written to")


def notebook(folder: Path) -> Verdict:
    """Why does a notebook fail at its first import?

    Often a file beside the notebook has the name of a package, such as `random.py`:
    Python then imports your file instead. Rename the file, and restart the kernel.
    """
    code = """
from course_vit.kit.data import digit_images
from course_vit.kit.plots import describe, show, tiles
digits = tiles(digit_images()[0][:2], columns=2)
show(describe(digits, "Two handwritten digits, a 0 and a 1."))
"""
    place = existing(folder)
    try:
        outputs = in_kernel(code, place)
    except Exception as error:  # a kernel may die in many ways
        said = f"a notebook in {place} fails: {one_line(error)}"
        for path in sorted(place.glob("*.py")):
            if path.stem in sys.stdlib_module_names or find_spec(path.stem):
                said = f"{path.name} hides the package {path.stem} from notebooks"
                return Verdict(
                    "fails", said, f'mv "{path}" "{path.parent}/my_{path.name}"'
                )
        return Verdict("fails", said, pip())
    for output in outputs:
        if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
            return ok(f"a notebook drew a figure with the alt text {alt!r}")
    return Verdict("fails", "a notebook drew no figure with alt text", pip())


def widgets(folder: Path) -> Verdict:
    """Do I need widgets?

    No. Every figure of the course is a static picture with a text that describes it, so
    it looks the same everywhere.
    """
    if all(map(find_spec, ("ipywidgets", "jupyterlab_widgets"))):
        return ok("widgets are installed, but the course does not need them")
    return ok("there are no widgets, and the course does not need them")


def browser(folder: Path, seconds: float = SECONDS) -> Verdict:
    """JupyterLab runs, but why does my browser show nothing?

    Copy the address that JupyterLab prints, with its token, into the browser. If your
    network has a proxy, addresses of this computer must not go through it. If
    JupyterLab runs on a different computer or in a container, forward its port.
    """
    if "JUPYTERHUB_SERVICE_PREFIX" in os.environ:
        return ok("this is a hub: its address ends with /hub/user-redirect/lab")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ip=127.0.0.1", f"--port={url.rpartition(':')[2]}", "--port-retries=0"),
        f"--ServerApp.root_dir={existing(folder)}",
    ]
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            end, served = time.monotonic() + seconds, False
            while time.monotonic() < end and server.poll() is None and not served:
                time.sleep(0.2)
                with suppress(OSError):
                    served = direct.open(f"{url}/api", timeout=5).status == 200
            if not served:
                log.seek(0)
                last = shorten(
                    (log.read().strip().splitlines() or ["it printed nothing"])[-1], 120
                )
                again = pip("jupyterlab", options="--force-reinstall ")
                return Verdict("fails", f"JupyterLab does not answer: {last}", again)
            try:
                urllib.request.urlopen(f"{url}/api", timeout=5)
            except OSError:
                said = "the address of JupyterLab goes through a proxy"
                return Verdict(
                    "fails", said, setting("no_proxy", "localhost,127.0.0.1")
                )
        finally:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(10)
            server.kill()
    said = f"JupyterLab answered at {url}/lab and was closed again"
    try:
        webbrowser.get()
    except webbrowser.Error:
        said = f"{said}; no browser was found: copy the address to one"
    return ok(said)


def maintainer(folder: Path) -> Verdict:
    """Why does `make test` say that a module does not match its notebook?

    The modules are written from the notebooks. Edit the notebook, then run
    `make export`. The tools that it needs are in the extra `test`.
    """
    from .export import export

    missing = [name for name in ("ruff", "nbstripout") if not find_spec(name)]
    if missing:
        return Verdict("fails", f"not installed: {', '.join(missing)}", pip(*missing))
    if said := export(COURSE, check=True):
        return Verdict("fails", said[0], f"{this_python()} -m course_vit export")
    return ok("every module matches its notebook; ruff and nbstripout are installed")


CHECKS: tuple[Callable[[Path], Verdict], ...] = (
    python,
    kernel,
    packages,
    pytorch,
    course,
    devices,
    threads,
    room,
    speed,
    data,
    offline,
    workspace,
    notebook,
    widgets,
    browser,
    maintainer,
)


# What several checks use


def this_python() -> str:
    """The command that starts this Python in a terminal."""
    active = shutil.which("python")
    if active and os.path.normcase(active) == os.path.normcase(sys.executable):
        return "python"
    return f'"{sys.executable}"' if " " in sys.executable else sys.executable


def pip(*packages: str, options: str = "") -> str:
    """A command that installs packages for this Python; without names, the course."""
    clone = (COURSE / "pyproject.toml").exists()
    here = "." if Path.cwd() == COURSE else COURSE
    what = packages or [f"{here}[course]" if clone else "course_vit[course]"]
    named = " ".join(f'"{it}"' if re.search(r"\W", it) else it for it in what)
    edit = "-e " if clone and not packages else ""
    tool = f"{this_python()} -m pip install"
    if not any(distributions(name="pip")):  # find_spec would change distutils
        tool = f"uv pip install --python {this_python()}"
        options = options.replace("--force-reinstall", "--reinstall")
    return f"{tool} {options}{edit}{named}"


def setting(name: str, value: object = "") -> str:
    """A command that sets a variable of the shell."""
    return f"export {name}={value}" if os.name == "posix" else f"$env:{name}='{value}'"


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command without input, and keep what it prints."""
    kept = {"stdin": subprocess.DEVNULL, "capture_output": True}
    text = {"encoding": "utf-8", "errors": "replace"}
    return subprocess.run(command, **kept, **text, **options)  # type: ignore


def in_kernel(code: str, folder: Path) -> list[dict[str, Any]]:
    """Run code as the only cell of a notebook in a folder; returns its outputs."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    made = new_notebook(cells=[new_code_cell(code)])
    path = {"metadata": {"path": str(folder)}}
    client = NotebookClient(made, kernel_name="python3", resources=path)
    client.timeout = client.startup_timeout = int(SECONDS)
    client.execute()
    return made.cells[0].outputs


def existing(folder: Path) -> Path:
    """The folder if it exists, else its nearest parent that does."""
    return next((it for it in (folder, *folder.parents) if it.is_dir()), Path.cwd())


def words(folder: Path, *names: str) -> list[str]:
    """The words of the first of these files that can be read."""
    for name in names:
        with suppress(OSError):
            return (folder / name).read_text().split()
    return []


def one_line(error: BaseException) -> str:
    """The type and the last line of an error, the most useful line of a traceback."""
    last = (str(error).strip().splitlines() or [""])[-1]
    last = re.sub(r"\x1b\[[\d;]*m", "", last)
    return shorten(f"{type(error).__name__}: {last}", 160)
