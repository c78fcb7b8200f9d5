"""A room of learners for the tests and the benchmark: a real hub, and its visitors."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import nbformat
import requests
import websocket
from house import ROOT

from course_vit.kit.exercises import mark
from course_vit.kit.forms import on_my_vit
from course_vit.kit.source import defined_names, missing_names

LESSON = "07_training.ipynb"
PATHS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def what_is_missing():
    """Why no hub can be started here; empty if one can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "the hub makes Unix users, so it needs root"
    programs = ("jupyterhub", "configurable-http-proxy", "useradd", "prlimit")
    gone = [program for program in programs if not shutil.which(program, path=PATHS)]
    return f"the hub needs {', '.join(gone)}" if gone else ""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def hub(folder, names):
    """Run a hub in a folder; afterwards the Unix users of these names are removed."""
    folder.chmod(0o700)
    base = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "jupyterhub", "--config"]
    command += [str(ROOT / "hub/jupyterhub_config.py"), f"--JupyterHub.bind_url={base}"]
    command += [f"--JupyterHub.hub_port={free_port()}"]
    command += [f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{free_port()}"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    with (folder / "hub.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=env | {"PATH": PATHS}, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: answers(base, process), 60, "the hub")
        yield base
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        for name in names:
            subprocess.run(["userdel", "--remove", name], capture_output=True)


def answers(base, process):
    assert process.poll() is None, "the hub has ended: see hub.log"
    try:
        return requests.get(f"{base}/hub/login", timeout=5).ok
    except requests.ConnectionError:
        return False


def wait_for(ready, seconds, what):
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end, f"{what} was not ready after {seconds} s"
        time.sleep(1)
    return found


class Learner:
    """A visitor of the hub, with the cookies that a browser would keep."""

    def __init__(self, base, name):
        self.base, self.name = base, name
        self.home = f"{base}/user/{name}"
        self.browser = requests.Session()

    def log_in(self, password):
        """The hub's answer to the login form."""
        page = f"{self.base}/hub/login"
        self.browser.get(page)
        form = {"username": self.name, "password": password}
        form["_xsrf"] = self.token_of_forms("/hub/")
        return self.browser.post(page, data=form, allow_redirects=False)

    def token_of_forms(self, path):
        """The XSRF token that belongs to a path, as a cookie holds it."""
        found = [k for k in self.browser.cookies if k.name == "_xsrf"]
        (token,) = [cookie.value for cookie in found if cookie.path == path]
        return token

    def start_server(self, seconds=300):
        """Open JupyterLab, and wait until it shows the workbook."""
        self.browser.get(f"{self.base}/hub/spawn/{self.name}")

        def shown():
            page = self.browser.get(f"{self.home}/lab/tree/{LESSON}")
            return page.ok and page.url.startswith(f"{self.home}/lab")

        wait_for(shown, seconds, f"{self.name}'s server")

    def ask(self, method, path, home=None, **options):
        """A request to the API of the learner's server, or of the one at `home`."""
        headers = {"X-XSRFToken": self.token_of_forms(f"/user/{self.name}/")}
        address = f"{home or self.home}/api/{path}"
        return self.browser.request(method, address, headers=headers, **options)

    def start_kernel(self):
        wanted = {"path": LESSON, "name": "", "type": "notebook"}
        wanted["kernel"] = {"name": "python3"}
        answer = self.ask("POST", "sessions", json=wanted)
        answer.raise_for_status()
        kernel = answer.json()["kernel"]["id"]
        token = self.token_of_forms(f"/user/{self.name}/")
        address = f"{self.home}/api/kernels/{kernel}/channels?_xsrf={token}"
        request = requests.Request("GET", self.home + "/")
        cookie = self.browser.prepare_request(request).headers["Cookie"]
        self.socket = websocket.create_connection(
            address.replace("http", "ws", 1), cookie=cookie, timeout=600
        )

    def run(self, source):
        """Run a cell; its text, and the name of its error or ''."""
        number = uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": "execute_request", "version": "5.3"}
        header |= {"username": self.name, "session": number, "date": ""}
        content = {"code": source, "silent": False, "store_history": True}
        content |= {"user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}}
        message |= {"content": content, "channel": "shell", "buffers": []}
        self.socket.send(json.dumps(message))
        text, error = "", ""
        while True:
            reply = json.loads(self.socket.recv())
            if reply["parent_header"].get("msg_id") != number:
                continue
            content = reply["content"]
            if reply["msg_type"] == "stream":
                text += content["text"]
            elif reply["msg_type"] in ("display_data", "execute_result"):
                data = content["data"]
                text += data.get("text/markdown") or data.get("text/plain", "")
            elif reply["msg_type"] == "error":
                error = content["ename"]
                text += "\n".join(content["traceback"])
            elif reply["msg_type"] == "status" and content["execution_state"] == "idle":
                return text, error

    def well(self, source):
        """The text of a cell, which must not end in an error."""
        text, error = self.run(source)
        assert not error, text
        return text

    def lesson(self):
        """The code cells of the learner's own copy of lesson 7."""
        found = self.ask("GET", f"contents/{LESSON}").json()["content"]
        notebook = nbformat.from_dict(found)
        return [cell for cell in notebook.cells if cell.cell_type == "code"]


def solutions():
    """The solution of each exercise of lesson 7, as a learner would write it."""
    cells = nbformat.read(ROOT / "notebooks" / LESSON, as_version=4).cells
    return {
        mark(cell)["exercise"]: on_my_vit(cell.source)
        for cell in cells
        if mark(cell).get("role") == "solution"
    }


def needed(cells, wanted):
    """The cells that define what some code uses, in the order of the lesson."""
    names, found = set().union(*map(missing_names, wanted)), []
    for cell in reversed(cells):
        if not mark(cell) and defined_names(cell.source) & names:
            names |= missing_names(cell.source)
            found.insert(0, cell.source)
    return found


def training(cells):
    """Where the lesson trains its model: the number of the cell."""
    (place,) = [
        i
        for i, cell in enumerate(cells)
        if cell.source.count("epochs=20") == 1 and "model = make_model()" in cell.source
    ]
    return place
