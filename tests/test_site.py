"""The web site as readers meet it: every page in a real browser, without a network.

`make test-site` builds the site, visits all its pages, and prints what it counted.
`SCREENSHOTS=folder make test-site` keeps a picture of every page, light and dark.
"""

import functools
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import metadata
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote, urldefrag, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from house import NOTEBOOKS, ROOT

from course_vit.kit.exercises import mark

pytestmark = pytest.mark.browser

LESSON = "notebooks/03_self_attention.html"
# What must not be found on any page, as the table calls it.
FAULTS = [
    "requests to the outside",
    "console messages",
    "axe findings, light",
    "axe findings, dark",
    "broken links",
    "controls without a key",
    "controls without a focus ring",
    "pages wider than 360 px",
    "images without alt text",
    "formulas not drawn",
]
READY = "() => window.MathJax?.startup?.promise.then(() => true) ?? true"
# A colour in the middle of a fade is neither the one before nor the one after.
NO_MOTION = "* { animation: none !important; transition: none !important }"
UNFOLD = "document.querySelectorAll('details').forEach(it => { it.open = true })"
IN_THEME = "theme => (document.documentElement.dataset.theme ?? theme) === theme"
LINKS = "[...document.querySelectorAll('a[href]')].map(it => it.href)"
IDS = "[...document.querySelectorAll('[id]')].map(it => it.id)"
TOO_WIDE = "document.documentElement.scrollWidth - innerWidth"
IMAGES = "[...document.images].map(it => [it.alt, it.naturalWidth > 0])"
FORMULAS = """[...document.querySelectorAll('.math')].map(it => [it.textContent,
  it.querySelector('mjx-container svg') && !it.querySelector('[data-mjx-error]')])"""
# Keep the look of every control that can be seen, and again when it has the focus.
WATCH_CONTROLS = """() => {
  const look = it => {
    const { outline, boxShadow, backgroundColor, borderColor } = getComputedStyle(it);
    return [outline, boxShadow, backgroundColor, borderColor].join();
  };
  const kinds = 'a[href], button, input, select, textarea, summary, [tabindex="0"]';
  window.controls = new Map([...document.querySelectorAll(kinds)]
    .filter(it => !it.disabled && it.tabIndex >= 0)
    .filter(it => it.checkVisibility({ visibilityProperty: true }))
    .map(it => [it, { html: it.outerHTML.slice(0, 150), before: look(it) }]));
  document.addEventListener('focusin', ({ target }) => {
    const control = window.controls.get(target);
    if (control) control.focused = look(target);
  });
  return window.controls.size;
}"""
CONTROLS = """[...window.controls.values()].map(it =>
  [it.html, Boolean(it.focused), it.focused !== it.before])"""


SPHINX = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the site, built without a single warning."""
    sources, site = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("site")
    subprocess.run([*SPHINX, "-c", ROOT / "site", sources, site], check=True, cwd=ROOT)
    return site


@pytest.fixture(scope="session")
def address(site):
    """The address at which a server on this machine shows the site."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def page(browser):
    """A page on a wide screen, in the light."""
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    yield page
    page.close()


@pytest.fixture(scope="session")
def crawl(site, address, browser):
    """Every page with what was seen on it, by its path."""
    pages = (path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    paths = sorted(path for path in pages if not path.startswith("_static/"))
    visits = {path: visit(browser, address, path) for path in paths}
    for seen in visits.values():
        seen.faults["broken links"] = [
            link for link in seen.links if is_broken(link, address, site, visits)
        ]
    return visits


def visit(browser, address, path):
    """Look at a page by eye, with the keyboard, in dark mode and on a phone."""
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    asked, messages = [], []
    page.on("request", lambda it: asked.append(it.url))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("console", lambda it: messages.append(it.text))
    page.goto(address + path)
    page.wait_for_function(READY)
    page.add_style_tag(content=NO_MOTION)
    page.evaluate(UNFOLD)
    images, formulas = page.evaluate(IMAGES), page.evaluate(FORMULAS)
    links, ids = page.evaluate(LINKS), page.evaluate(IDS)
    faults = {"axe findings, light": by_axe(page, "light")}
    keep_picture(page, path, "light")
    faults["axe findings, dark"] = by_axe(page, "dark")
    keep_picture(page, path, "dark")
    controls = by_keyboard(page)
    page.set_viewport_size({"width": 360, "height": 780})
    too_wide = page.evaluate(TOO_WIDE)
    keep_picture(page, path, "phone")
    page.close()
    faults |= {
        "requests to the outside": [
            url for url in asked if not url.startswith((address, "data:"))
        ],
        "console messages": [it for it in messages if not it.startswith("[PST]")],
        "controls without a key": [it for it, reached, _ in controls if not reached],
        "controls without a focus ring": [it for it, _, seen in controls if not seen],
        "pages wider than 360 px": [f"by {too_wide}"] if too_wide > 0 else [],
        "images without alt text": [
            alt for alt, loaded in images if not loaded or len(alt.split()) < 2
        ],
        "formulas not drawn": [text for text, drawn in formulas if not drawn],
    }
    return SimpleNamespace(
        faults=faults, links=links, ids=ids, images=images, formulas=formulas
    )


def by_axe(page, theme):
    """What axe finds, including what it calls best practice."""
    page.emulate_media(color_scheme=theme)
    page.wait_for_function(IN_THEME, arg=theme)
    options = {"resultTypes": ["violations"], "preload": False}  # fetch no style again
    violations = Axe().run(page, options=options).response["violations"]
    return [
        f"{it['id']}: {node['html'][:200]}" for it in violations for node in it["nodes"]
    ]


def by_keyboard(page):
    """Every control, whether the Tab key reaches it, and whether it then shows it."""
    for _ in range(2 * page.evaluate(WATCH_CONTROLS)):
        page.keyboard.press("Tab")
    return page.evaluate(CONTROLS)


def keep_picture(page, path, name):
    """Store a screenshot of the page, for people who want to look at it."""
    if folder := os.environ.get("SCREENSHOTS"):
        name = f"{path.removesuffix('.html').replace('/', '-')}-{name}.png"
        page.screenshot(path=Path(folder) / name)


def is_broken(link, address, site, visits):
    """Does a link of this site lead to no file, or to no place in its page?"""
    if not link.startswith(address):
        return not link.startswith(("https://", "mailto:"))
    link, anchor = urldefrag(unquote(link.removeprefix(address)))
    path = urlsplit(link).path or "index.html"
    path = f"{path}index.html" if path.endswith("/") else path
    if not (site / path).is_file():
        return True
    return bool(anchor) and path in visits and anchor not in visits[path].ids


def test_a_folder_with_files_is_refused_and_keeps_them(tmp_path):
    precious = tmp_path / "precious.md"
    precious.write_text("mine")
    run = subprocess.run(
        [*SPHINX, "-c", ROOT / "site", tmp_path, tmp_path / "out"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert f"{tmp_path} is not empty" in " ".join(run.stderr.split())
    assert precious.read_text() == "mine"


def test_every_lesson_has_its_page_and_every_figure_its_alt_text(crawl):
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        outputs = [it for cell in cells for it in cell.get("outputs", [])]
        stored = [it["metadata"].get("image/png") for it in outputs if "data" in it]
        shown = [alt for alt, _ in crawl[f"notebooks/{path.stem}.html"].images]
        assert shown == [it["alt"] for it in stored if it]


@pytest.mark.parametrize("fault", FAULTS)
def test_no_page_has(fault, crawl):
    found = [
        f"{path}: {it}" for path, seen in crawl.items() for it in seen.faults[fault]
    ]
    assert found == []


def test_the_table_of_the_crawler(crawl, capsys):
    counts = Counter(pages=len(crawl))
    for seen in crawl.values():
        for name in ("links", "images", "formulas"):
            counts[f"{name} looked at"] += len(getattr(seen, name))
        counts.update({fault: len(found) for fault, found in seen.faults.items()})
    with capsys.disabled():
        print("\n" + "\n".join(f"{count:8,} {name}" for name, count in counts.items()))
    assert min(counts[f"{name} looked at"] for name in ("links", "images", "formulas"))


def test_a_solution_is_folded_and_the_enter_key_unfolds_it(page, address):
    page.goto(address + LESSON)
    solution = page.locator("details", has_text="Show the solution").first
    reason = page.locator("details", has_text="Why").first
    for fold in (solution, reason):
        assert fold.evaluate("it => it.open") is False
        fold.locator("summary").focus()
        page.keyboard.press("Enter")
        assert fold.evaluate("it => it.open") is True
    assert solution.locator("pre").is_visible()


def test_every_solution_is_folded(page, address):
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        solutions = [it for it in cells if mark(it).get("role") == "solution"]
        page.goto(f"{address}notebooks/{path.stem}.html")
        folded = page.locator("details:not([open]) > summary", has_text="the solution")
        assert folded.count() == len(solutions)


def test_the_keyboard_searches(page, address):
    page.goto(address)
    page.keyboard.press("Control+K")
    page.keyboard.type("softmax")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=softmax*")
    result = page.locator("#search-results li a").first
    result.wait_for()
    result.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "search.html" not in url)


def test_a_problem_is_reported_with_lesson_and_section(page, address):
    page.goto(address + LESSON)
    page.wait_for_function(READY)
    heading = page.locator("h2", has_text="3.2 Three tokens by hand")
    heading.evaluate("it => it.scrollIntoView({ behavior: 'instant' })")
    link = page.get_by_role("link", name="Report a problem")
    link.evaluate("it => { it.onclick = event => event.preventDefault() }")
    link.dispatch_event("click")  # a click of Playwright may scroll
    found = urlsplit(link.get_attribute("href"))
    urls = dict(it.split(", ") for it in metadata("course_vit").get_all("Project-URL"))
    assert found.geturl().startswith(f"{urls['Repository']}/issues/new?")
    asked = {name: values[0] for name, values in parse_qs(found.query).items()}
    form = asked.pop("template")
    assert asked == {
        "lesson": "Lesson 3. Self-attention",
        "section": "3.2 Three tokens by hand",
    }
    fields = (ROOT / ".github/ISSUE_TEMPLATE" / form).read_text("utf-8")
    assert all(f"id: {name}\n" in fields for name in asked)


def test_the_text_for_programs_contains_no_solution(site):
    text = (site / "llms-full.txt").read_text("utf-8")
    pages = (site / "llms.txt").read_text("utf-8")
    for path in NOTEBOOKS:
        assert f"/notebooks/{path.stem}.html): " in pages
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            source = "".join(cell["source"])
            hidden = mark(cell).get("role") in {"solution", "reason"}
            assert (source in text) != hidden, source


def test_nbconvert_finds_the_alt_text_too(tmp_path):
    command = [
        sys.executable,
        "-m",
        "nbconvert",
        "--to=html",
        f"--output-dir={tmp_path}",
    ]
    subprocess.run([*command, NOTEBOOKS[3]], check=True, cwd=ROOT)
    html = (tmp_path / f"{NOTEBOOKS[3].stem}.html").read_text("utf-8")
    stored = NOTEBOOKS[3].read_text("utf-8")
    assert html.count("<img") == stored.count('"alt": ') > 0
    assert len(re.findall(r'<img[^>]*alt="\w[^"]{20,}"', html)) == html.count("<img")
