"""Start a script in several processes of this computer."""

import os
import re
import subprocess
import sys
from pathlib import Path

from . import CourseError

# How processes of one computer find each other. By default gloo looks up the computer's
# name, and the address that it finds may lead nowhere, as with a VPN. PyTorch for
# Windows has no libuv.
CONNECTION = {
    "linux": {"GLOO_SOCKET_IFNAME": "lo"},
    "darwin": {"GLOO_SOCKET_IFNAME": "lo0"},
    "win32": {"USE_LIBUV": "0"},
}.get(sys.platform, {})


def torchrun(script: str | Path, processes: int = 2, seconds: float = 300) -> str:
    """Run a script in several processes of this computer; returns what they print.

    The same as `python -m torch.distributed.run --nproc-per-node=2 script.py` in a
    terminal. The processes find each other inside this computer, so no network is
    needed, and each of them computes with one thread.

    Args:
        script: The file to run.
        processes: The number of processes.
        seconds: How long it may take; then all processes are ended.

    Raises:
        CourseError: If there is no such script, if a process fails (the message has its
            error), or if the script takes too long.
    """
    script = Path(script)
    if not script.is_file():
        raise CourseError(f"there is no script {script}")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--local-addr=127.0.0.1", f"--nproc-per-node={processes}", str(script)]
    paths = os.pathsep.join([os.getcwd(), *filter(None, sys.path)])
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    with subprocess.Popen(
        command,
        env=CONNECTION | os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as run:
        try:
            printed, errors = run.communicate(timeout=seconds)
        except BaseException as error:  # ctrl-C, too
            run.terminate()  # torchrun ends the processes that it has started
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise CourseError(
                f"{script.name} was ended after {seconds:.0f} s in {processes}"
                " processes: does one of them wait for a message that is never sent?"
            ) from None
    if run.returncode:
        raise CourseError(f"{script.name} failed: {first_error(errors)}")
    return printed


def first_error(errors: str) -> str:
    """The first error of a process, from what all of them and torchrun have printed.

    Processes that have joined the others begin each line of an error with their number.
    """
    found = re.search(r"^(?:\[rank(\d+)\]: )?(\w+(?:Error|Exit)\b.*)$", errors, re.M)
    if found:
        who = f"process {found[1]}" if found[1] else "a process"
        return f"{who} raised {found[2]}"
    return "\n".join(["the last messages are", *errors.splitlines()[-5:]])
