"""The notebooks as files: run, clean, readable, their exercises well-formed."""

import ast
import re
from itertools import pairwise
from types import SimpleNamespace
from urllib.parse import unquote

import nbformat
import pytest
from house import NOTEBOOKS, lines_that_count, minutes, stated_minutes

from course_vit.kit.checks import EXERCISES
from course_vit.kit.forms import leave_blank

KINDS = {"implement", "faded", "predict", "choose", "order", "fix", "test"}
RERUN = "run it from the top: make notebooks"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem, scope="module")
def lesson(request):
    """A notebook and its parts; `exercises` maps a number to its cells by role."""
    notebook = nbformat.read(request.param, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    exercises = {}
    for cell in notebook.cells:
        mark = cell.metadata.get("course_vit", {})
        if "exercise" in mark:
            exercises.setdefault(mark["exercise"], []).append((mark.get("role"), cell))
    return SimpleNamespace(
        path=request.param,
        number=int(request.param.name[:2]),
        notebook=notebook,
        code=code,
        markdown=[cell for cell in notebook.cells if cell.cell_type == "markdown"],
        outputs=[output for cell in code for output in cell.outputs],
        exercises=exercises,
    )


def headings(lesson):
    """Level and text of every heading, code fences left out."""
    for cell in lesson.markdown:
        text = re.sub(r"^```.*?^```", "", cell.source, flags=re.M | re.S)
        for marks, title in re.findall(r"^(#+) (.+)$", text, flags=re.M):
            yield len(marks), re.sub(r"[`*]", "", title).strip()


def texts(output):
    """All the text in an output."""
    if output.output_type == "stream":
        return output.text
    data = output.get("data", {})
    return "\n".join(text for kind, text in data.items() if kind.startswith("text/"))


# As files


def test_the_numbers_of_the_lessons_have_no_gap():
    assert [int(path.name[:2]) for path in NOTEBOOKS] == list(range(len(NOTEBOOKS)))


def test_every_lesson_has_a_name_of_its_own():
    assert len({path.stem[3:] for path in NOTEBOOKS}) == len(NOTEBOOKS), "one module"


def test_the_file_is_valid_and_small(lesson):
    nbformat.validate(lesson.notebook)
    assert lesson.path.stat().st_size < 1_500_000, "draw fewer or simpler figures"


def test_every_code_cell_was_run_once_in_order(lesson):
    counts = [cell.execution_count for cell in lesson.code]
    assert counts == list(range(1, len(counts) + 1)), RERUN


def test_no_metadata_but_the_kernel_tags_and_our_own(lesson):
    assert lesson.notebook.metadata == {
        "kernelspec": {
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }, RERUN
    for cell in lesson.notebook.cells:
        assert set(cell.metadata) <= {"tags", "course_vit", "jupyter"}, cell.source
        folded = cell.metadata.get("jupyter", {"source_hidden": True})
        assert folded == {"source_hidden": True}, cell.source


# Outputs


def test_no_output_is_an_error_or_a_warning(lesson):
    for cell in lesson.code:
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source
            assert "Warning" not in texts(output), cell.source


def test_no_output_tells_where_it_was_made(lesson):
    place = re.compile(
        r"0x[0-9a-f]{6,}"  # an address in memory
        r"|(?<![\w.:/])/[\w.-]+/[\w.-]+|[A-Z]:\\"  # a path
        r"|\bcuda\b|\bmps\b"
    )
    for output in lesson.outputs:
        found = place.search(texts(output))
        assert not found, f"do not print what differs by machine: {found[0]!r}"


def test_no_output_is_longer_than_a_screen(lesson):
    for output in lesson.outputs:
        assert texts(output).count("\n") <= 20, f"show less: {texts(output)}"


def test_every_figure_is_drawn_by_show_with_alt_text(lesson):
    for output in lesson.outputs:
        data = output.get("data", {})
        assert not {"image/svg+xml", "image/jpeg"} & set(data)
        if "image/png" in data:
            alt = output.metadata.get("image/png", {}).get("alt", "")
            assert len(alt.split()) >= 8, (
                f"say what is seen: describe(fig, alt), {alt!r}"
            )
            assert data.get("text/plain") == alt


# Rules that keep strict nbval strict


def test_no_output_escapes_comparison_but_three_with_a_reason(lesson):
    ignored = 0
    for cell in lesson.notebook.cells:
        tags = set(cell.metadata.get("tags", []))
        reason = cell.metadata.get("course_vit", {}).get("ignore_reason")
        assert tags <= {"nbval-ignore-output"}, f"tags {tags}: {cell.source}"
        assert "NBVAL_" not in cell.source, "use a tag, not a comment"
        assert bool(tags) == bool(reason), f"tag with ignore_reason: {cell.source}"
        ignored += bool(tags)
    assert ignored <= 3


def test_code_cells_are_plain_python_of_at_most_40_lines(lesson):
    for cell in lesson.code:
        tree = ast.parse(cell.source)  # a magic, %time or !ls, is a SyntaxError
        assert lines_that_count(tree) <= 40, f"split this cell: {cell.source}"
        assert not cell.source.rstrip().endswith(";"), f"end without `;`: {cell.source}"


def test_a_mark_of_the_export_is_the_first_line_of_its_cell(lesson):
    for cell in lesson.code:
        rest = cell.source.removeprefix("#| export\n")
        assert not re.search(r"^\s*#\s*\|", rest, re.M), f"no such mark: {cell.source}"


# As a text


def test_one_title_stands_first_and_headings_go_down_step_by_step(lesson):
    levels = [level for level, _ in headings(lesson)]
    first = lesson.notebook.cells[0].source
    assert re.match(rf"# Lesson {lesson.number}\. .*\n\n> ", first), "title, promise"
    assert levels.count(1) == 1
    for before, after in pairwise(levels):
        assert after <= before + 1, list(headings(lesson))


def test_the_first_screen_says_what_comes(lesson):
    first, *others = lesson.markdown
    for part in ("**After this lesson you can**", "**Time**: ", "**Before**: "):
        assert part in first.source, f"the first cell lacks {part}"
    opening = first.source + others[0].source  # a picture may be between the two
    for level, title in headings(lesson):
        if level == 2 and title[0].isdigit():
            link = f"(#{title.replace(' ', '-')})"
            assert link in opening, f"contents lack {title!r}"


def test_the_stated_time_is_the_readers(lesson):
    stated, counted = stated_minutes(lesson.path), minutes(lesson.path)
    advice = f"state {5 * round(counted / 5)} minutes here and in both maps of lessons"
    assert abs(stated - counted) <= 0.15 * counted, f"{counted:.0f} counted: {advice}"


def test_every_lesson_has_its_fixed_parts(lesson):
    titles = {title for level, title in headings(lesson) if level == 2}
    parts = {"Key points", "Where next"}
    if lesson.number:
        parts |= {"Recall", "Common mistakes"}
    assert parts <= titles, f"missing: {parts - titles}"


def test_links_inside_the_course_lead_somewhere(lesson):
    anchors = {title.replace(" ", "-") for _, title in headings(lesson)}
    for cell in lesson.markdown:
        for link in re.findall(r"\]\(([^)\s]+)\)", cell.source):
            path, _, anchor = unquote(link).partition("#")
            if path and "://" not in path:
                assert (lesson.path.parent / path).exists(), f"no file for {link}"
            if not path:
                assert anchor in anchors, f"no heading for {link}"


def test_every_picture_in_the_text_has_alt_text(lesson):
    for cell in lesson.markdown:
        assert not re.search(r"!\[\s*\]", cell.source), cell.source
        for tag in re.findall(r"<img[^>]*>", cell.source):
            assert re.search(r'alt="[^"]+', tag), tag


def test_every_column_of_a_table_has_a_name(lesson):
    for cell in lesson.markdown:
        for head in re.findall(
            r"^(?:> )?\|(.+)\|\n(?:> )?\|[-| ]+\|$", cell.source, re.M
        ):
            assert all(name.strip() for name in head.split("|")), head


def test_no_word_calls_the_matter_easy(lesson):
    easy = re.compile(r"\b(just|simply|obviously|trivial\w*)\b", re.I)
    for cell in lesson.notebook.cells:
        found = easy.search(cell.source)
        assert not found, f"without {found[0]!r}: {cell.source}"


# Exercises


def test_every_exercise_is_marked_and_registered(lesson):
    here = f"{lesson.number}."
    registered = [number for number in EXERCISES if number.startswith(here)]
    assert len(registered) >= 3
    assert list(lesson.exercises) == registered, "marks against checks, in order"


def test_every_exercise_has_question_solution_check_and_reason(lesson):
    for number, cells in lesson.exercises.items():
        roles, parts = [role for role, _ in cells], dict(cells)
        assert roles == ["question", "solution", "check", "reason"], number
        known = EXERCISES[number]
        assert parts["check"].source.startswith(f'check("{number}", '), number
        assert len(known.hints) >= 2, f"{number}: a first hint, and a stronger one"
        assert known.reason, f"{number}: why is it so? <details><summary>Why</summary>"


def test_every_mark_of_an_exercise_is_well_formed(lesson):
    for number, cells in lesson.exercises.items():
        for role, cell in cells:
            mark = set(cell.metadata["course_vit"]) - {"ignore_reason"}
            blank = {"blank"} if role == "solution" else set()
            assert mark == {"exercise", "kind", "role"} | blank, f"{number}: {mark}"
            kind = cell.metadata["course_vit"]["kind"]
            assert kind == EXERCISES[number].kind, f"{number}: {kind}"
            assert kind in KINDS
            code = role in ("solution", "check")
            assert cell.cell_type == ("code" if code else "markdown"), number


def test_a_solution_defines_what_the_learners_form_leaves_blank(lesson):
    for cells in lesson.exercises.values():
        solution = dict(cells)["solution"]
        blank = solution.metadata["course_vit"]["blank"]
        assert leave_blank(solution.source, blank) != solution.source
