"""The reference pages of the site: true to the course, and no answer is given away."""

import json
import re
import sys
from functools import cache

import pytest
from house import MODULES, NOTEBOOKS, ROOT

from course_vit import create_model
from course_vit.kit.checks import EXERCISES, judge_of
from course_vit.kit.mistakes import readable
from course_vit.pretrained import NAMINGS

sys.path.insert(0, str(ROOT / "site"))
import pages

LINK = re.compile(r"\]\(<?(notebooks/\w+\.ipynb)#([^>\n]+)>\)")
NOT_TREATED = "The course does not treat"
CELLS = {
    f"notebooks/{path.name}": json.loads(path.read_text("utf-8"))["cells"]
    for path in NOTEBOOKS
}


def texts(cells):
    """The sources of the text cells."""
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] != "code"]


def lines_of_solutions():
    for cells in CELLS.values():
        for cell in cells:
            if cell["metadata"].get("course_vit", {}).get("role") == "solution":
                yield from "".join(cell["source"]).splitlines()


@cache
def made(name):
    return pages.PAGES[name]()


@pytest.fixture(params=pages.PAGES)
def page(request):
    return made(request.param)


# Every page


def test_a_page_is_markdown_with_one_title_and_nothing_left_to_fill_in(page):
    assert re.match(r"# \w.*\n\n", page)
    assert len(re.findall(r"^# ", page, re.M)) == 1
    assert "<!--" not in page
    assert not pages.REFERENCE.search(page), "a reference without a link"


def test_every_link_leads_to_a_heading_that_a_lesson_has(page):
    found = LINK.findall(page)
    assert found
    assert page.count("](<notebooks/") == len(found)
    assert "github.com/notebooks" not in page
    for lesson, anchor in found:
        headings = re.findall(r"^#{1,3} (.+)", "\n".join(texts(CELLS[lesson])), re.M)
        assert anchor in [heading.replace(" ", "-") for heading in headings], anchor


def test_the_anchors_are_those_to_which_the_lessons_link_themselves():
    ours = {
        (f"{docname}.ipynb", heading.replace(" ", "-"))
        for docname, heading in pages.headings().values()
    }
    theirs = {
        (lesson, anchor)
        for lesson, cells in CELLS.items()
        for anchor in re.findall(r"\]\(#([^\n]+?)\)", "\n".join(texts(cells)))
    }
    assert len(theirs) > 100
    assert theirs <= ours


def test_a_section_that_does_not_exist_is_refused():
    with pytest.raises(KeyError, match=r"3\.99"):
        pages.link("3.99")


def test_no_page_has_a_line_of_a_solution(page):
    long = {line.strip() for line in lines_of_solutions() if len(line.strip()) > 25}
    assert len(long) > 200
    assert [line for line in long if line in page] == []


# Exercises and mistakes


def test_the_exercises_are_all_there_with_their_kind_and_minutes():
    rows = re.findall(
        r"^\| \[(\d+\.\d+) (.+?)\]\(<.+>\) \| (.+)", made("exercises"), re.M
    )
    assert [number for number, _, _ in rows] == list(EXERCISES)
    for number, title, rest in rows:
        it = EXERCISES[number]
        assert title == it.title
        assert rest == f"{pages.KINDS[it.kind]} | {it.minutes} | {it.difficulty} |"


def test_the_mistakes_are_folded_under_their_exercise_and_its_section():
    parts = re.split(r"^### (\d+\.\d+) ", made("mistakes"), flags=re.M)[1:]
    assert parts[::2] == list(EXERCISES)
    for number, text in zip(parts[::2], parts[1::2], strict=True):
        outside, *folds = text.split("<details>")
        section = EXERCISES[number].section.replace(" ", "-")
        assert f"#{section}>)" in outside
        known = judge_of(number).known().values()
        if EXERCISES[number].kind == "choose":
            assert not folds, "what is left over would be the right answer"
        else:
            (fold,) = folds
            assert fold.count("\n- **") == len(known)
            for mistake in known:
                assert mistake.name.replace("-", " ") in fold.lower()


def test_a_hint_shows_three_dots_for_what_the_check_fills_in():
    assert readable("rows sum to {got[0]:.3f}, not {{1}}") == ("rows sum to …, not {1}")
    assert readable("") == "The check describes what it observed."
    assert not re.search(r"\{\w+[\[:}]", made("mistakes"))


# Questions


def test_there_are_94_questions_and_each_is_asked_once():
    headings = re.findall(r"^### (.+)", made("questions"), re.M)
    assert len(headings) == len(set(headings)) == 94
    assert all("?" in heading for heading in headings)


def test_each_question_has_an_answer_and_a_section_or_says_that_there_is_none():
    for text in made("questions").split("\n### ")[1:]:
        question, answer, asked = text.split("\n\n")[:3]
        assert len(answer) > 50, question
        treated = NOT_TREATED not in answer
        assert treated == bool(LINK.search(answer)), question
        assert asked.startswith("Asked "), question


def test_a_thread_is_linked():
    link = "[karpathy/nanoGPT#83](https://github.com/karpathy/nanoGPT/issues/83)"
    assert link in made("questions")


# Words and letters


def test_the_glossary_has_every_letter_of_the_shapes_in_the_modules():
    table, _ = made("glossary").split("\n## Words\n")
    known = set(" ".join(re.findall(r"`([a-z ]+)`", table)).split())
    for module in MODULES:
        text = module.read_text("utf-8")
        for pattern in re.findall(r"`([a-z (),]+ -> [a-z (),]+)`", text):
            letters = re.findall(r"\b[a-z]{1,2}\b", pattern)
            assert set(letters) <= known, f"{module.stem}: {pattern}"


def test_every_word_of_the_glossary_is_explained_once_and_says_where_to_read_more():
    block = made("glossary").split("```{glossary}\n:sorted:\n")[1].split("```")[0]
    terms = re.findall(r"^\w.*", block, re.M)
    assert len(terms) == len(set(terms)) > 80
    for entry in block.strip().split("\n\n"):
        assert re.match(r"(\w.*\n)+( {2}.*\n?)+$", entry), entry
        assert LINK.search(entry), entry


# Papers and code


def test_the_sheet_has_every_word_of_every_naming():
    table = made("paper_and_code").replace("<wbr>", "")
    for words in NAMINGS.values():
        for theirs, ours in words.items():
            if ours.strip("."):
                (row,) = re.findall(
                    rf"^\| <code>{ours.strip('.')}</code> .*", table, re.M
                )
                assert f"<code>{theirs}</code>" in row


def test_the_sheet_names_what_the_models_have():
    letters = made("paper_and_code").split("\n## Letters and names\n")[1]
    letters = letters.split("\n## ")[0]
    model = create_model("vit_tiny_patch16_224", depth=2)
    keys = [*model.state_dict(), *dict(model.named_modules())]
    arguments = {"patch_size", "in_chans", "embed_dim", "depth", "num_heads"}
    for row in re.findall(r"^\| [^|]+ \| ([^|]+) \|", letters, re.M)[2:]:
        for name in re.findall(r"`([\w.]+)`", row):
            known = name in arguments or hasattr(model, name)
            assert known or any(name in key for key in keys), name


def test_the_parameters_are_the_published_ones():
    rows = re.findall(
        r"^\| <code>(.+?)</code> \| ([\d,]+) \|", made("paper_and_code"), re.M
    )
    counted = {name.replace("<wbr>", ""): number for name, number in rows}
    assert counted["vit_base_patch16_224"] == "86,567,656"
    assert counted["deit_tiny_distilled_patch16_224"] == "5,910,800"
    assert counted["t2t_vit_14"] == "21,545,550"


def test_the_sheet_has_the_box_of_every_lesson_that_has_one():
    boxes = made("paper_and_code")
    for lesson, cells in enumerate(CELLS.values()):
        titles = re.findall(
            r"\*\*([^*\n]+)\*\*\n(?:> *)?\n(?:> )?\|", "\n".join(texts(cells))
        )
        has_one = any("aper" in it and "code" in it for it in titles)
        assert has_one == bool(
            re.search(rf"^### \[Lesson {lesson}\. .+\n\n\|", boxes, re.M)
        )
    assert (
        "| $N = HW / P^2$ | the same; $H$ and $W$ must be multiples of $P$ |" in boxes
    )
