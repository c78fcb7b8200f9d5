"""JupyterLab as a learner meets it: `make lab`, a real browser, every notebook run.

`make test-browser` runs this; `SCREENSHOTS=folder make test-browser` keeps a picture of
every notebook as it stands at the end.
"""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.request import urlopen

import nbformat
import pytest
from house import NOTEBOOKS, ROOT

pytestmark = pytest.mark.browser

# All cells are in the page, not only those in view.
SETTINGS = {"notebook-extension/tracker": {"windowingMode": "none"}}
RUN_ALL = """async path => {
  const app = window.jupyterapp;
  await app.restored;
  const panel = await app.commands.execute('docmanager:open', { path });
  await panel.context.ready;
  await panel.sessionContext.ready;
  await app.commands.execute('notebook:run-all-cells');
  return panel.content.widgets
    .filter(cell => cell.model.type === 'code')
    .map(cell => cell.model.executionCount);
}"""
OPEN = """async path => {
  const app = window.jupyterapp;
  await app.restored;
  const panel = await app.commands.execute('docmanager:open', { path });
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
}"""
# Text that is wider than its place is cut off, or needs a scroll bar to be read.
TOO_WIDE = """() =>
  [...document.querySelectorAll('.jp-Notebook :is(.cm-scroller, .jp-RenderedMarkdown)')]
  .filter(box => box.scrollWidth > box.clientWidth + 1)
  .map(box => box.textContent)"""
DEAD_LINKS = """() =>
  [...document.querySelectorAll('.jp-RenderedMarkdown a[href^="#"]')]
  .map(link => decodeURIComponent(link.hash.slice(1)))
  .filter(name => !document.querySelector(`[data-jupyter-id="${CSS.escape(name)}"]`))"""
# What the learner writes; the page indents nothing of its own while text is inserted.
MINE = """def patchify(images, patch_size):
    ph, pw = as_pair(patch_size)
    if images.ndim != 4 or images.shape[2] % ph or images.shape[3] % pw:
        raise ValueError("the patches do not fit")
    windows = images.unfold(2, ph, ph).unfold(3, pw, pw)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
"""
SCROLLED = "document.querySelector('.jp-WindowedPanel-outer')"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of `make lab`, on notebooks without outputs, and its workbook."""
    home = tmp_path_factory.mktemp("lab")
    notebooks = home / "course" / "notebooks"
    notebooks.mkdir(parents=True)
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, notebooks / path.name)
    for name, values in SETTINGS.items():
        file = home / f"settings/@jupyterlab/{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [
        *("--no-browser", "--expose-app-in-browser"),
        *("--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=secret"),
        f"--ServerApp.root_dir={home}/course",
    ]
    folders = {
        "JUPYTER_CONFIG_DIR": f"{home}/config",
        "JUPYTERLAB_SETTINGS_DIR": f"{home}/settings",
        "JUPYTERLAB_WORKSPACES_DIR": f"{home}/workspaces",
    }
    workbook = f"WORKBOOK={home}/course/workbook"
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            ["make", "lab", f"LAB_FLAGS={' '.join(flags)}", workbook],
            cwd=ROOT,
            env=os.environ | folders,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address, server, home / "log")
        yield address, home / "course" / "workbook"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def wait_for(address, server, log, seconds=120):
    """Wait until the server answers; fail with its output if it does not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            return urlopen(f"{address}/api")
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"`make lab` does not serve:\n{log.read_text()}")


@pytest.fixture
def page(lab, browser):
    """JupyterLab in a page; fails the test if anything went wrong in the page."""
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    wrong = []
    page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.on("response", lambda r: r.status < 400 or wrong.append(f"no answer: {r.url}"))
    page.goto(f"{lab[0]}/lab?token=secret&reset")
    page.wait_for_function("window.jupyterapp")
    yield page
    page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")
    page.close()
    assert not wrong


def test_the_token_is_asked_for(lab, browser):
    page = browser.new_page()
    page.goto(f"{lab[0]}/lab")
    assert page.get_by_label("Password or token").is_visible()
    page.close()


def test_no_news_are_offered(page):
    page.evaluate("window.jupyterapp.restored")
    asked = page.evaluate("""() => window.jupyterapp.serviceManager.settings
        .fetch('@jupyterlab/apputils-extension:notification')""")
    defaults = {k: v["default"] for k, v in asked["schema"]["properties"].items()}
    assert (defaults["fetchNews"], defaults["checkForUpdates"]) == ("false", False)
    page.wait_for_timeout(3000)
    assert page.locator(".jp-Notification-List, .jp-toastContainer li").count() == 0
    assert "news" not in page.locator("body").inner_text()


@pytest.mark.parametrize("name", ["00_start_here", "13_capstone"])
def test_a_notebook_that_is_only_opened_is_not_changed(page, lab, name):
    path = lab[1] / f"{name}.ipynb"
    before = path.read_bytes()
    page.evaluate(OPEN, f"workbook/{path.name}")
    tab = page.locator(".lm-TabBar-tab.lm-mod-current", has_text=path.name)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").last.wait_for()
    page.wait_for_timeout(2000)
    assert "jp-mod-dirty" not in tab.get_attribute("class")
    page.evaluate("window.jupyterapp.commands.execute('application:close')")
    tab.wait_for(state="detached")  # without a question whether to save
    assert path.read_bytes() == before
    page.evaluate(OPEN, f"workbook/{path.name}")
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(page, path):
    counts = page.evaluate(RUN_ALL, f"notebooks/{path.name}")
    troubles = '[data-mime-type*="jupyter.error"], [data-mime-type*="stderr"]'
    assert page.locator(troubles).all_inner_texts() == []
    assert counts == list(range(1, len(counts) + 1))
    images = page.locator(".jp-OutputArea-output img")
    assert images.count() == path.read_text(encoding="utf-8").count('"image/png": "')
    for image in images.all():
        assert image.is_visible()
        assert image.evaluate("image => image.complete && image.naturalWidth > 0")
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate(DEAD_LINKS) == []
    if folder := os.environ.get("SCREENSHOTS"):
        height = 150 + page.evaluate(f"{SCROLLED}.scrollHeight")
        page.set_viewport_size({"width": 1300, "height": height})
        page.evaluate(f"{SCROLLED}.scrollTop = 0")
        page.screenshot(path=Path(folder) / f"{path.stem}.png")


def test_a_learner_fills_the_first_blank_and_passes_the_first_checks(page, lab):
    def run(text, code=""):
        """Click into a cell, perhaps replace its text, and run it like a person."""
        cell = page.locator(".jp-CodeCell", has_text=text).first
        cell.locator(".cm-content").click()
        if code:
            page.keyboard.press("Control+A")
            page.keyboard.insert_text(code)
        page.keyboard.press("Shift+Enter")

    def says(text):
        page.locator(".jp-OutputArea-output", has_text=text).first.wait_for()

    page.evaluate(RUN_ALL, "workbook/01_patch_embedding.ipynb")
    says("open 1.1 (Count before you cut): the blank is still empty")
    run("answer = ...", "answer = (14, 3 * 16 * 16)")
    run('check("1.1", answer)')
    says("not yet, 1.1: 14")
    run("answer = (14, 3", "answer = (14 * 14, 3 * 16 * 16)")
    run('check("1.1", answer)')
    says("ok 1.1")
    assert "Traceback" not in page.locator(".jp-Notebook").inner_text()
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    says("The cells below use the course's patchify")
    run("def patchify", MINE)
    run('check("1.2", patchify)')
    says("patchify in my_vit.patch_embedding is yours from now on")
    own = (lab[1] / "my_vit" / "patch_embedding.py").read_text(encoding="utf-8")
    assert MINE in own
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "workbook.png")
