"""The kit of a workshop: what it holds, what it does not, and how it looks."""

import ast
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import nbformat
import pytest
from dry_run import dry_run
from house import NOTEBOOKS
from test_forms import secrets
from test_house import PYTHON

from course_vit.kit import CourseError
from course_vit.kit.checks import EXERCISES, judge_of
from course_vit.kit.cli import main
from course_vit.kit.exercises import mark, read
from course_vit.kit.markdown import as_html, formula
from course_vit.kit.mistakes import in_words
from course_vit.kit.workshop import agenda, kit, workshop
from course_vit.kit.workshop.outline import course, outline

PLANS = ("1h", "90min", "2h", "5h", "2x6h", "5x90min", "3x10h")
each_plan = pytest.mark.parametrize("plan", PLANS)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folder of a kit for five hours."""
    folder = tmp_path_factory.mktemp("kit") / "workshop"
    workshop(folder)
    return folder


def pages(folder):
    return sorted(folder.rglob("*.html"))


def text_of(path):
    """What a person reads on a page, without scripts and styles."""
    html = re.sub(r"<(script|style).*?</\1>", "", path.read_text("utf-8"), flags=re.S)
    return Words(html).text


class Words(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.text = ""
        self.feed(html)

    def handle_data(self, data):
        self.text += data


# Files


def test_every_file_is_made(made):
    names = {path.relative_to(made).as_posix() for path in made.rglob("*.*")}
    once = {"agenda", "checkpoints", "feedback", "index", "notes", "votes"}
    wanted = {f"{name}.html" for name in once} | {"emails.md", "kit.json"}
    for path in NOTEBOOKS:
        number = path.name[:2]
        folders = ("notes", "slides", "take_home")
        wanted |= {f"{folder}/{number}.html" for folder in folders}
        wanted.add(f"live/{path.name}")
    wanted.add("slides/slides.css")
    reveal = {"LICENSE", "reveal.css", "reveal.js"}
    wanted |= {f"slides/reveal/{name}" for name in reveal if "." in name}
    assert names == wanted
    assert {path.name for path in (made / "slides/reveal").iterdir()} == reveal


def test_two_runs_write_the_same_bytes(made):
    for name, content in kit(agenda.make_agenda()):
        assert (made / name).read_bytes() == content, name


def test_every_link_of_a_page_leads_to_a_file(made):
    for path in pages(made):
        for link in re.findall(r'(?:href|src)="([^"]+)"', path.read_text("utf-8")):
            if not link.startswith(("https://", "data:")):
                assert (path.parent / link).is_file(), f"{path.name}: {link}"


def test_every_page_has_one_title_and_headings_in_order(made):
    for path in pages(made):
        html = path.read_text("utf-8")
        assert '<html lang="en">' in html
        levels = [int(it) for it in re.findall(r"<h([1-6])[ >]", html)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        if path.parent.name != "slides":
            assert all(after - before <= 1 for before, after in pairwise(levels)), path


def test_every_image_has_the_alt_text_of_its_figure(made):
    for path in pages(made):
        for image in re.findall(r"<img[^>]*>", path.read_text("utf-8")):
            assert re.search(r'alt="[^"]{30,}"', image), path


def test_the_e_mails_name_the_pythons_and_the_start(tmp_path):
    workshop(tmp_path / "kit", "2x6h", "13:30")
    text = (tmp_path / "kit/emails.md").read_text("utf-8")
    pythons = re.findall(r"Python 3\.(\d+) to 3\.(\d+)", text)
    assert [(f">=3.{a}", f"<3.{int(b) + 1}") for a, b in pythons] == [
        tuple(sorted(map(str, PYTHON), reverse=True))
    ]
    assert text.count("13:30") == 3
    assert "<!--" not in text


# No solution where learners look


def public(made, number):
    """What learners may see of a lesson such as "03", as one text."""
    both = [made / "votes.html", made / "agenda.html", made / "emails.md"]
    own = [made / f"{folder}/{number}.html" for folder in ("slides", "take_home")]
    return "\n".join(map(text_of, [*own, *both]))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_line_of_a_solution_is_outside_live_and_notes(made, path):
    text = public(made, path.name[:2])
    shown = {line.split("  #")[0].strip() for line in text.splitlines()}
    lesson = nbformat.read(path, as_version=4)
    found = {number: it & shown for number, it in secrets(lesson).items() if it & shown}
    assert found == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_neither_reasons_nor_answers_are_outside_live_and_notes(made, path):
    shown = " ".join(public(made, path.name[:2]).split())
    for cell in nbformat.read(path, as_version=4).cells:
        text = cell.source
        if mark(cell).get("role") == "reason":
            text = Words(as_html(re.sub(r"</?(details|summary).*?>", "", text))).text
        if mark(cell).get("role") in ("reason", "solution"):
            words = " ".join(text.removeprefix("Why").split())
            assert words[: 70 if cell.cell_type == "markdown" else None] not in shown, (
                mark(cell)["exercise"]
            )


def test_the_live_notebooks_fold_each_answer(made):
    for path in NOTEBOOKS:
        live = json.loads((made / "live" / path.name).read_text("utf-8"))
        folded = [
            it for it in live["cells"] if it["metadata"].get("jupyter") and mark(it)
        ]
        mine = [n for n in EXERCISES if n.startswith(f"{int(path.name[:2])}.")]
        assert len(folded) >= len(mine)
        assert not any(it.get("outputs") for it in live["cells"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_page_shows_code_that_a_lesson_folds(made, path):
    shown = " ".join(public(made, path.name[:2]).split())
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            longest = max(cell.source.splitlines(), key=len).strip()
            assert longest not in shown, cell.id


# The agenda


@each_plan
def test_blocks_are_short_and_their_sums_match(plan):
    made = agenda.make_agenda(plan, "9:00")
    sessions, length = agenda.read_plan(plan)
    for block in made.blocks:
        assert 0 < block.end - block.begin <= agenda.LONGEST_BLOCK
        assert block.left >= 0
        assert 540 <= block.begin < block.end <= 540 + length
        assert 0 <= block.session < sessions
    for before, after in pairwise(made.blocks):
        pause = after.begin - before.end
        assert before.session < after.session or pause >= agenda.PAUSE


@each_plan
def test_what_is_shown_and_what_is_cut_is_the_whole_course(plan):
    made = agenda.make_agenda(plan)
    shown = [it for block in made.blocks for it in block.items]
    assert (shown.pop(0), shown.pop()) == (agenda.WELCOME, agenda.GOODBYE)
    count = len(made.lessons)
    assert made.lessons == course()[:count]
    parts = [part for lesson in made.lessons for part in agenda.items(lesson)]
    whole = [it for it in made.cut if it.kind == "lesson"]
    assert [it.lesson for it in whole] == [it.number for it in course()[count:]]
    cut = [it for it in made.cut if it not in whole]
    assert shown == [it for it in parts if it not in cut]
    assert cut == [it for it in parts if it not in shown]
    assert {it.kind for it in cut} <= {"optional", "exercise"}


@each_plan
def test_at_most_three_quarters_of_the_time_are_for_explaining(plan):
    blocks = agenda.make_agenda(plan).blocks
    explained = sum(block.minutes("explain") for block in blocks)
    assert explained <= 0.75 * sum(block.end - block.begin for block in blocks)


def test_the_agenda_says_the_rule_of_the_code(made):
    rule = " ".join(agenda.__doc__.split("The rule: ")[1].split())
    rule = rule[:1].upper() + rule[1:]
    assert rule in " ".join(text_of(made / "agenda.html").split())


@each_plan
def test_every_lesson_that_is_shown_has_an_exercise(plan):
    made = agenda.make_agenda(plan)
    done = {it.lesson for b in made.blocks for it in b.items if it.kind == "exercise"}
    assert done == {it.number for it in made.lessons}


@pytest.mark.parametrize(("plan", "last"), [("5h", 6), ("5x90min", 9), ("2x6h", 11)])
def test_how_far_a_plan_goes(plan, last):
    made = agenda.make_agenda(plan)
    assert made.lessons[-1].number == last


def test_the_page_of_the_agenda_shows_every_item_and_every_cut(made):
    text, plan = text_of(made / "agenda.html"), agenda.make_agenda()
    for block in plan.blocks:
        assert f"{agenda.clock(block.begin)} to {agenda.clock(block.end)}" in text
        sums = block.minutes("explain"), block.minutes("exercise"), block.left
        assert "{} minutes to explain, {} for exercises, {} left".format(*sums) in text
        assert all(it.title in text for it in block.items)
    for number in EXERCISES:
        lesson = int(number.partition(".")[0])
        assert (f"Exercise {number} " in text) == (lesson < len(plan.lessons))
    assert all(it.title.replace("`", "") in text for it in plan.cut)


@pytest.mark.parametrize(
    ("plan", "begin", "said"),
    [
        ("all day", "9:00", "the plan 'all day' is not a length: write 5h"),
        ("5x1min", "9:00", "has 5 sessions of 1 minutes: choose 1 to 20"),
        ("0x5h", "9:00", "has 0 sessions"),
        ("5h", "25:00", "the time '25:00' is not one of a day"),
        ("5h", "nine", "the time 'nine' is not one of a day"),
    ],
)
def test_a_plan_that_cannot_be_read_is_refused(tmp_path, capsys, plan, begin, said):
    folder = tmp_path / "kit"
    command = ["workshop", str(folder), "--plan", plan, "--begin", begin]
    assert main(command) == 1
    assert said in capsys.readouterr().err
    assert not folder.exists()


def test_a_plan_that_is_too_short_for_the_first_lesson_is_refused():
    with pytest.raises(
        CourseError, match="'30min' is too short for a welcome, lesson 0"
    ):
        agenda.make_agenda("30min")


# Notes and votes


def test_cards_go_as_far_as_the_options(made):
    html = (made / "votes.html").read_text("utf-8")
    assert re.findall('class="card">(.)<', html) == [*"ABCDEF"]


def test_a_question_about_logs_comes_with_the_logs(made):
    asked = text_of(made / "votes.html").partition("16.4 Four logs")[2]
    asked = asked.partition("16.6 ")[0]
    assert "B                   0.0        2 x" in asked
    assert "randperm" not in asked


def test_nothing_after_an_exercise_is_said_before_it():
    section = next(it for it in course()[4].sections if "4.3" in it.exercises)
    assert section.question
    assert section.first_paragraph == ""


def test_a_table_in_the_notes_begins_with_its_own_head(made):
    assert "<th>letter</th>" in (made / "notes/00.html").read_text("utf-8")
    for path in made.glob("notes/*.html"):
        assert "say.</strong></th>" not in path.read_text("utf-8")


def test_the_notes_name_every_mistake_and_its_exercise(made):
    for lesson in course():
        text = text_of(made / f"notes/{lesson.number:02}.html")
        for number in lesson.exercises:
            assert f"Exercise {number} {EXERCISES[number].title}"[:20] in text
            for name in judge_of(number).known():
                assert in_words(name).lower() in text.lower()


# Latecomers, and a dry run


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_latecomer_can_begin_at_every_checkpoint(made, mine, capsys, path):
    number = str(int(path.name[:2]))
    command = ["catch-up", number]
    assert f"course-vit {' '.join(command)}" in text_of(made / "checkpoints.html")
    assert main([*command, str(mine.folder)]) == 0
    lesson = mine.folder / path.name
    assert capsys.readouterr().out.endswith(f"begin here: {lesson}\n")
    assert mine.progress()[-1].startswith(f"next: exercise {number}.1, ")
    nodes = [node for cell in read(lesson) for node in cell.get("body", [])]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("my_vit"):
            exec(ast.unparse(node))  # what it needs is there


def test_a_presenter_can_walk_through_an_hour(tmp_path):
    plan = agenda.make_agenda("1h")
    (spent,) = dry_run(plan, tmp_path / "talk")
    assert 0 < spent < 60
    passed = json.loads((tmp_path / "talk/progress.json").read_text("utf-8"))
    assert [*passed] == [it for lesson in plan.lessons for it in lesson.exercises]


# Lessons


def test_a_lesson_without_its_minutes_is_named(tmp_path):
    path = tmp_path / "03_broken.ipynb"
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["# Lesson 3. Broken"]}
    path.write_text(json.dumps({"cells": [cell]}))
    with pytest.raises(CourseError, match=r"03_broken\.ipynb does not begin with"):
        outline(path)


# Folders


def test_a_folder_with_your_files_is_refused_and_keeps_them(tmp_path):
    mine = tmp_path / "talk.md"
    mine.write_text("mine")
    with pytest.raises(CourseError, match=r"talk\.md is not a file that this command"):
        workshop(tmp_path)
    assert [*tmp_path.iterdir()] == [mine]
    assert mine.read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "kit").write_text("mine")
    with pytest.raises(CourseError, match="is a file: name a folder"):
        workshop(tmp_path / "kit")


@pytest.mark.parametrize("content", ["[]", "{"])
def test_a_broken_list_of_files_is_named(tmp_path, content):
    (tmp_path / "kit.json").write_text(content)
    with pytest.raises(CourseError, match=r"kit\.json cannot be read"):
        workshop(tmp_path)


def test_a_kit_is_renewed_unless_it_was_changed(tmp_path, monkeypatch):
    small = {"agenda.html": b"first", "live/a.txt": b"same"}
    monkeypatch.setattr("course_vit.kit.workshop.kit", lambda *_: small.items())
    workshop(tmp_path)
    small["agenda.html"] = b"second"
    workshop(tmp_path, "2x6h")
    assert (tmp_path / "agenda.html").read_bytes() == b"second"
    (tmp_path / "agenda.html").write_text("mine")
    with pytest.raises(CourseError, match="you have changed it since"):
        workshop(tmp_path)
    assert (tmp_path / "agenda.html").read_text() == "mine"


def test_a_link_to_another_folder_is_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit/live").symlink_to(tmp_path / "mine")
    with pytest.raises(CourseError, match="live is not a file that this command"):
        workshop(tmp_path / "kit")
    assert [*(tmp_path / "mine").iterdir()] == []


def test_a_kit_that_was_interrupted_is_finished_by_the_next_run(tmp_path, monkeypatch):
    files = {"agenda.html": b"first", "notes.html": b"second"}
    monkeypatch.setattr("course_vit.kit.workshop.kit", lambda *_: files.items())
    workshop(tmp_path)
    (tmp_path / "notes.html").unlink()
    workshop(tmp_path)
    assert (tmp_path / "notes.html").read_bytes() == b"second"


# Formulas


def test_formulas_are_drawn_and_code_keeps_its_dollars():
    assert 'aria-label="\\sqrt{e}"' in as_html(r"the root $\sqrt{e}$ of it")
    assert as_html("`a $b$ c`") == "<p><code>a $b$ c</code></p>\n"
    assert formula(r"\unknown{x}") == r"<code>\unknown{x}</code>"


def without_code(path):
    """A page without its code, which may contain backslashes, and without scripts."""
    html, code = path.read_text("utf-8"), r"<(code|script|style)\b.*?</\1>"
    assert not re.search(r"(?<!<pre>)<code>[^<]*\\[a-z]{3,}\{", html)
    return re.sub(code, "", html, flags=re.S)


def test_every_formula_of_the_kit_is_drawn(made):
    for path in pages(made):
        assert "\\" not in Words(without_code(path)).text, path


# In a browser

SEEN = ["agenda", "checkpoints", "feedback", "index", "notes", "notes/03", "votes"]
SEEN += ["take_home/03"]


def findings(page):
    """What axe finds on a page."""
    from axe_playwright_python.sync_playwright import Axe

    return [it["id"] for it in Axe().run(page).response["violations"]]


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", SEEN)
def test_a_page_asks_for_nothing_and_axe_finds_nothing(made, browser, name, theme):
    page = browser.new_page(color_scheme=theme)
    asked = []
    page.on("request", lambda it: asked.append(it.url))
    page.goto((made / f"{name}.html").as_uri())
    assert findings(page) == []
    assert all(url.startswith(("file:", "data:")) for url in asked)
    page.set_viewport_size({"width": 360, "height": 780})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_keyboard_turns_the_slides_and_each_fits(made, browser, path):
    page = browser.new_page(viewport={"width": 1280, "height": 760})
    asked, said = [], []
    page.on("request", lambda it: asked.append(it.url))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda it: said.append(it.text))
    page.goto((made / f"slides/{path.name[:2]}.html").as_uri())
    page.wait_for_function("window.Reveal?.isReady()")
    count, seen = page.evaluate("Reveal.getTotalSlides()"), []
    for _ in range(count):
        seen.append(page.evaluate("Reveal.getIndices().h"))
        sizes = "[it.scrollWidth <= 1280, it.scrollHeight <= 760]"
        fits = page.evaluate(f"(it => {sizes})(Reveal.getCurrentSlide())")
        assert fits == [True, True], seen[-1]
        page.keyboard.press("ArrowRight")
    assert seen == [*range(count)]
    page.keyboard.press("Home")
    assert page.evaluate("Reveal.getIndices().h") == 0
    assert said == []  # axe will add messages
    for number in range(0, count, 5):
        page.evaluate(f"Reveal.slide({number})")
        assert findings(page) == []
    assert all(url.startswith(("file:", "data:")) for url in asked)
    page.close()


QUESTIONS = sum(it.kind in ("choose", "predict") for it in EXERCISES.values())
SHEETS = {"agenda": 3, "feedback": 1, "votes": 1 + QUESTIONS}
SHEETS |= {f"take_home/{path.name[:2]}": 1 for path in NOTEBOOKS}


@pytest.mark.browser
def test_pages_fill_as_many_sheets_of_paper_as_planned(made, browser):
    page = browser.new_page()
    printed = {}
    for name in SHEETS:
        page.goto((made / f"{name}.html").as_uri())
        printed[name] = sheets(page.pdf(format="A4"))
    assert printed == SHEETS
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("number", ["05", "12"])
def test_each_slide_prints_on_one_sheet_with_its_picture(made, browser, number):
    page = browser.new_page()
    page.goto(f"{(made / f'slides/{number}.html').as_uri()}?print-pdf")
    page.wait_for_function("window.Reveal?.isReady()")
    page.wait_for_selector(".pdf-page img")
    count = page.evaluate("Reveal.getTotalSlides()")
    assert sheets(page.pdf(prefer_css_page_size=True)) == count
    tallest = "Math.max(...[...document.images].map(it => it.offsetHeight))"
    assert page.evaluate(tallest) <= 610
    page.close()


def sheets(pdf):
    """The number of pages of a PDF."""
    return len(re.findall(rb"/Type\s*/Page\b", pdf))
