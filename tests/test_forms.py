"""The three forms of a lesson: nothing leaks, nothing else changes."""

import ast
import json
import re
from itertools import takewhile

import nbformat
import pytest
from house import NOTEBOOKS

from course_vit.kit.checks import EXERCISES
from course_vit.kit.exercises import mark
from course_vit.kit.forms import FORMS, leave_blank, make_form
from course_vit.kit.source import defined_names, missing_names
from course_vit.kit.tutor import instructions

each_lesson = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def lines(source):
    """Lines of code as they are compared: without indentation, comments, marks."""
    return {line.split("  #")[0].strip() for line in source.splitlines()}


def secret_lines(lesson, number):
    """Lines of a solution that the lesson does not show before it, or in the question.

    A bare return or import, a signature, an `else:`, a bracket or the first line of a
    `raise` give nothing away.
    """
    cells = [cell for cell in lesson.cells if mark(cell).get("exercise") == number]
    question, solution = cells[0], cells[1]
    before = takewhile(lambda cell: cell.id != solution.id, lesson.cells)
    shown = set().union(*(lines(cell.source) for cell in before))
    blanked = lines(leave_blank(solution.source, mark(solution)["blank"]))
    secret = lines(solution.source) - blanked - shown - lines(question.source)
    bare = {"return", "else:", "try:", "finally:", "pass", "raise ValueError("}
    return {
        line
        for line in secret - bare
        if any(letter.isalnum() for letter in line)
        and not line.startswith(("import ", "from ", "#", "@"))
    }


def secrets(lesson):
    """The secret lines of every exercise, by number."""
    numbers = dict.fromkeys(mark(cell).get("exercise") for cell in lesson.cells)
    return {number: secret_lines(lesson, number) for number in numbers if number}


def leaks(secret, form):
    """Solution lines that are written in a form of the lesson, by exercise."""
    text = set().union(*(lines(cell.source) for cell in form.cells))
    return {number: told & text for number, told in secret.items() if told & text}


@each_lesson
def test_no_line_of_a_solution_is_in_the_learners_form(path):
    lesson = nbformat.read(path, as_version=4)
    assert leaks(secrets(lesson), make_form(lesson)) == {}


@each_lesson
def test_code_to_fix_waits_in_the_blank(path):
    """Below a line to delete, so that an exercise that nobody began is still open."""
    lesson = nbformat.read(path, as_version=4)
    to_delete = "raise NotImplementedError  # delete this line, and fix the code below"
    question = ""
    for cell in make_form(lesson).cells:
        question = cell.source if mark(cell).get("role") == "question" else question
        if mark(cell).get("role") != "solution" or "```python" not in question:
            continue
        fix = mark(cell)["kind"] == "fix"
        assert (to_delete in cell.source) == fix
        if fix:
            begun = cell.source.replace(to_delete, "")
            statements = {ast.unparse(node) for node in ast.walk(ast.parse(begun))}
            (shown,) = re.findall(r"^```python\n(.*?)^```", question, re.M | re.S)
            function = next(
                node
                for node in ast.walk(ast.parse(shown))
                if isinstance(node, ast.FunctionDef)
            )
            body = function.body[bool(ast.get_docstring(function)) :]
            assert {ast.unparse(node) for node in body} <= statements


def test_a_blank_with_code_to_fix_keeps_what_is_around_it():
    source = (
        "class C:\n    def f(self):\n        # why\n        return 1\n\n    x = 2\n"
    )
    given = "class C:\n    def f(self):\n        y = 3\n        return y\n"
    first = "class C:\n    def f(self):\n        raise NotImplementedError"
    assert leave_blank(source, ["C.f"], given) == (
        f"{first}  # delete this line, and fix the code below\n"
        "        y = 3\n        return y\n\n    x = 2\n"
    )
    other = given.replace("def f", "def g")
    blank = first.replace("raise", "# why\n        raise")
    assert leave_blank(source, ["C.f"], other) == f"{blank}\n\n    x = 2\n"


@each_lesson
def test_neither_metadata_nor_the_words_to_an_assistant_hold_a_solution(path):
    lesson = nbformat.read(path, as_version=4)
    marks = [cell.metadata for cell in make_form(lesson).cells]
    said = instructions() + json.dumps(marks, ensure_ascii=False)
    secret = set().union(*secrets(lesson).values())
    assert secret
    assert [line for line in secret if len(line) > 8 and line in said] == []


def test_an_assistant_is_told_where_each_exercise_is_explained():
    for number, it in EXERCISES.items():
        assert f"| {number} | {it.title} | {it.section} |" in instructions()


@each_lesson
def test_the_scan_sees_a_line_that_is_planted(path):
    lesson = nbformat.read(path, as_version=4)
    secret, form = secrets(lesson), make_form(lesson)
    last = form.cells[-1].source
    for number, told in secret.items():
        planted = max(told, key=len)
        form.cells[-1].source = f"{last}\n    {planted}"
        assert planted in leaks(secret, form)[number]


@each_lesson
def test_no_cell_needs_an_answer_that_is_still_open(path):
    """So a lesson can be read to its end without solving anything."""
    still_open = set()
    for cell in make_form(nbformat.read(path, as_version=4)).cells:
        if mark(cell).get("role") == "solution":
            still_open |= {name.partition(".")[0] for name in mark(cell)["blank"]}
        elif cell.cell_type == "code" and not mark(cell):
            assert not missing_names(cell.source) & still_open, cell.source
            still_open -= defined_names(cell.source)


@each_lesson
@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_a_notebook_without_outputs_that_works_on_my_vit(path, form):
    made = make_form(nbformat.read(path, as_version=4), form)
    nbformat.validate(made)
    for cell in made.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert "#| " not in cell.source
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom) and "course_vit" in node.module:
                    assert node.module.startswith("course_vit.kit")
                    assert node.module != "course_vit.kit.checks"


@each_lesson
def test_forms_differ_only_in_their_exercises(path):
    lesson = nbformat.read(path, as_version=4)
    plain = [
        cell.source for cell in make_form(lesson, "solved").cells if not mark(cell)
    ]
    for form in ("blanks", "live"):
        kept = [
            cell.source
            for cell in make_form(lesson, form).cells
            if "course_vit" not in cell.metadata
            or "ignore_reason" in cell.metadata.course_vit
        ]
        assert kept == plain


@each_lesson
def test_the_presenter_finds_every_solution_folded_behind_its_blank(path):
    lesson = nbformat.read(path, as_version=4)
    solved = [
        cell.source
        for cell in make_form(lesson, "solved").cells
        if mark(cell).get("role") == "solution"
    ]
    live = make_form(lesson, "live").cells
    answers = [cell for cell in live if mark(cell).get("role") == "solution"]
    assert [cell.source for cell in answers[1::2]] == solved
    for blank, answer in zip(answers[::2], answers[1::2], strict=True):
        assert live.index(answer) == live.index(blank) + 1
        assert answer.metadata.jupyter.source_hidden
        assert "source_hidden" not in blank.metadata.get("jupyter", {})


def test_an_unknown_form_is_refused():
    lesson = nbformat.read(NOTEBOOKS[0], as_version=4)
    with pytest.raises(ValueError, match="blanks, live, solved, got 'empty'"):
        make_form(lesson, "empty")


SOURCE = '''
class Layer(nn.Module):
    """What it does."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim  # stays

    def forward(self, x):
        """One line."""
        # first the norm
        x = norm(x)
        if x.ndim:
            # then the rest
            return x
        return -x


def count(a, b: int = 2):
    total = a + b
    a, c = b, total
    return total * c


answer = (1, 2)
'''.lstrip()


def blanked(*names):
    before, after = SOURCE.splitlines(), leave_blank(SOURCE, names).splitlines()
    return [line for line in before if line not in after], [
        line for line in after if line not in before
    ]


def test_a_body_goes_but_its_docstring_and_its_steps_stay():
    text = leave_blank(SOURCE, ["Layer.forward"])
    before, after = lines(SOURCE), lines(text)
    assert before - after == {"x = norm(x)", "if x.ndim:", "return x", "return -x"}
    assert after - before == {"raise NotImplementedError"}
    for stays in ('"""One line."""', "# first the norm", "# then the rest"):
        assert f"        {stays}\n" in text


def test_a_value_and_a_returned_value_become_an_ellipsis():
    assert blanked("answer") == (["answer = (1, 2)"], ["answer = ..."])
    assert blanked("count.total")[1] == ["    total = ..."]
    assert blanked("count.c")[1] == ["    a, c = ..."]
    assert blanked("count.a", "count.c")[1] == ["    a, c = ..."]
    assert blanked("count.return") == (["    return total * c"], ["    return ..."])


def test_an_answer_on_several_lines_goes_whole_and_columns_count_letters():
    source = (
        "é = (\n    1\n)  # why\n\n\ndef f(\n    x,\n):\n    # step\n    return x\n"
    )
    assert leave_blank(source, ["é", "f"]) == (
        "é = ...  # why\n\n\n"
        "def f(\n    x,\n):\n    # step\n    raise NotImplementedError\n"
    )


def test_a_name_that_does_not_occur_is_refused():
    with pytest.raises(ValueError, match="no Layer to leave blank"):
        leave_blank(SOURCE, ["Layer"])
    with pytest.raises(ValueError, match=r"no count\.missing to leave blank"):
        leave_blank(SOURCE, ["count.missing", "answer"])
