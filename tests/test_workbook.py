"""The workbook: never overwritten; answers that pass become the learner's my_vit."""

import copy
import importlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import pytest
import torch
from house import NOTEBOOKS, ROOT
from safetensors.torch import save_file

from course_vit import create_model
from course_vit.kit import CourseError, checks, storage, testing, workbook
from course_vit.kit.checks import EXERCISES
from course_vit.kit.cli import main
from course_vit.kit.storage import locked
from course_vit.kit.testing import check_package, run
from course_vit.kit.workbook import Workbook, WorkbookError


@pytest.fixture
def cell(tmp_path):
    """Run code as a cell of a notebook: source at hand, names in one space."""
    space = {"__name__": "__main__"}

    def run(code):
        path = tmp_path / f"cell{len(os.listdir(tmp_path))}.py"
        path.write_text(textwrap.dedent(code))
        exec(compile(path.read_text(), path, "exec"), space)
        return space

    return run


@pytest.fixture
def course(tmp_path, monkeypatch):
    """The lessons of a course that may change; its modules change by `course_texts`."""
    folder, texts = tmp_path / "course", workbook.course_texts()
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    monkeypatch.setattr(workbook, "COURSE", folder)
    monkeypatch.setattr(workbook, "course_texts", lambda: texts)
    return folder / "notebooks"


def edit(path, words, resave=False):
    """Add words to the first cell of a notebook, or only save it as Jupyter does."""
    notebook = json.loads(path.read_text("utf-8"))
    notebook["cells"][0]["source"] = "".join(notebook["cells"][0]["source"]) + words
    if resave:
        notebook["metadata"]["language_info"] = {"version": "3.13"}
        notebook["cells"][1] |= {"execution_count": 1}
    path.write_text(json.dumps(notebook), "utf-8")


def contents(folder):
    """All files by their place in the folder, except for compiled ones."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }


# Made once, never overwritten


def test_start_makes_every_lesson_and_the_package(fresh):
    assert {path.name for path in fresh.glob("*.ipynb")} == {p.name for p in NOTEBOOKS}
    for path in (ROOT / "course_vit").glob("[!_]*.py"):
        assert (fresh / "my_vit" / path.name).exists()
    code = "from my_vit import *; print(VisionTransformer.__module__)"
    run = [sys.executable, "-c", code]
    said = subprocess.run(run, cwd=fresh, capture_output=True, text=True, check=True)
    assert said.stdout == "my_vit.vision_transformer\n"


def test_a_second_start_changes_nothing_and_says_what_it_kept(mine):
    lesson, module = (
        mine.folder / "03_self_attention.ipynb",
        mine.folder / "my_vit/deit.py",
    )
    lesson.write_text("{}")
    module.write_text("mine = True\n")
    before = contents(mine.folder)
    said, _ = mine.start()
    assert contents(mine.folder) == before
    assert "kept as they are, with your work: my_vit/deit.py, 03_self_att" in said


def test_a_start_adds_what_is_missing(mine):
    before = contents(mine.folder)
    (mine.folder / "05_encoder_block.ipynb").unlink()
    (mine.folder / "my_vit" / "t2t.py").unlink()
    begin = f"begin here: {mine.folder / '00_start_here.ipynb'}"
    assert mine.start() == [f"{mine.folder}: made 2 files", begin]
    assert contents(mine.folder) == before


def test_a_start_that_was_interrupted_is_finished_by_the_next(
    tmp_path, fresh, monkeypatch
):
    written = []
    write = workbook.write

    def power_cut(path, content):
        written.append(path)
        if len(written) == 9:
            path.with_name(f"{path.name}.partial").write_bytes(content[:50])
            raise KeyboardInterrupt
        write(path, content)

    mine = Workbook(tmp_path / "workbook")
    monkeypatch.setattr(workbook, "write", power_cut)
    with pytest.raises(KeyboardInterrupt):
        mine.start()
    assert not written[-1].exists()
    monkeypatch.undo()
    mine.start()
    assert contents(mine.folder) == contents(fresh)


def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    command = [sys.executable, "-m", "course_vit", "start", str(locked)]
    if (
        hasattr(os, "geteuid") and os.geteuid() == 0
    ):  # root may write anywhere, unless it gives that up
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"cannot write {locked}" in done.stderr
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(locked.iterdir())


def test_a_file_in_the_way_is_named(tmp_path, capsys):
    (tmp_path / "workbook").write_text("a file")
    assert main(["start", str(tmp_path / "workbook")]) == 1
    assert "cannot write" in capsys.readouterr().err


BROKEN = {
    "progress.json": [
        *("{", "", "[1]", '{"1.1": 3}', '{"3.1": {"own": 3}}', "[" * 100_000),
        '{"3.1": {"module": ["exercises"]}}',
        '{"3.1": {"module": "t2t", "own": {"look": "def look(): pass"}}}',
        '{"3.1": {"module": "exercises", "own": {"look": 3}}}',
        '{"3.1": {"module": "exercises", "own": {"glance": "glance = 1"}}}',
        '{"3.1": {"module": "exercises", "own": {"look": "def ("}}}',
        '{"3.1": {"module": "exercises", "own": {"look": "glance = 1"}}}',
        '{"a": "\\ud800"' + " " * storage.LARGEST,
    ],
    ".course-vit.json": [
        "{",
        "[]",
        '{"refused": {"3.1": "a"}}',
        '{"refused": {"3.1": {"a": "b"}}}',
        '{"made": {"a": 1}}',
        '{"begin": []}',
    ],
}


@pytest.mark.parametrize(
    ("name", "broken"), [(n, b) for n in BROKEN for b in BROKEN[n]]
)
def test_what_cannot_be_read_is_named_and_left_alone(mine, capsys, name, broken):
    (mine.folder / name).write_text(broken)
    for command in (["progress"], ["start"], ["reset", "3.1"]):
        assert main([*command, str(mine.folder)]) == 1
        assert f"{mine.folder / name} cannot be read" in capsys.readouterr().err
    mine.refused("3.1", "")  # and the hint is shown all the same
    assert (mine.folder / name).read_text() == broken


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_pipe_in_the_place_of_the_notes_is_named(mine, capsys):
    os.mkfifo(mine.folder / "progress.json")
    assert main(["progress", str(mine.folder)]) == 1
    assert "progress.json cannot be read (it is not a file)" in capsys.readouterr().err


def test_notes_of_another_version_or_editor_are_kept(mine):
    notes = mine.folder / "progress.json"
    notes.write_text('{"99.9": {"new": 1}, "0.1": {}}', "utf-8-sig")
    mine.take("0.2", ([0, 1], [0, 3]))
    assert json.loads(notes.read_text()) == {"0.1": {}, "0.2": {}, "99.9": {"new": 1}}


# The course changes


def test_what_was_not_touched_is_renewed_and_the_rest_is_kept(
    mine, course, monkeypatch, capsys
):
    texts, folder = workbook.course_texts(), mine.folder
    new = texts | {"deit": texts["deit"] + "# new\n"}
    monkeypatch.setattr(workbook, "course_texts", lambda: new)
    edit(folder / "02_position_encoding.ipynb", "", resave=True)
    edit(folder / "03_self_attention.ipynb", "my thought")
    for path in course.glob("0[235]*.ipynb"):
        edit(path, "new words")
    renewed = "my_vit/deit.py, 02_position_encoding.ipynb, 05_encoder_block.ipynb"
    said = mine.start()
    assert said[0].endswith(f"you had not changed them: {renewed}")
    assert said[1].startswith("kept as they are, with your work, although the course")
    assert said[1].endswith(": 03_self_attention.ipynb")
    assert "new words" in (folder / "02_position_encoding.ipynb").read_text("utf-8")
    assert "my thought" in (folder / "03_self_attention.ipynb").read_text("utf-8")
    assert main(["start", str(folder), "--beside"]) == 0
    assert "beside them as .new: 03_self_attention.ipynb" in capsys.readouterr().out
    assert "new words" in (folder / "03_self_attention.new.ipynb").read_text("utf-8")
    assert "although" not in mine.start(beside=True)[0]


def test_in_a_workbook_of_an_older_version_what_differs_counts_as_touched(mine, course):
    (mine.folder / ".course-vit.json").unlink()
    edit(course / "05_encoder_block.ipynb", "new words")
    assert "newer version" in mine.start()[0]
    edit(course / "06_vision_transformer.ipynb", "new words")
    assert ".py" not in mine.start()[0]
    assert "new words" in (mine.folder / "06_vision_transformer.ipynb").read_text(
        "utf-8"
    )


def test_a_workbook_keeps_its_form(mine):
    mine.start("live")
    before = contents(mine.folder)
    mine.start()
    assert contents(mine.folder) == before
    assert (
        b"-solved"
        in before[(mine.folder / "03_self_attention.ipynb").relative_to(mine.folder)]
    )


@pytest.mark.parametrize("broken", ["", "{}", "<<<<<<< HEAD", '{"cells": 3}', None])
def test_a_lesson_of_the_course_that_is_broken_is_named(course, tmp_path, broken):
    path = course / "05_encoder_block.ipynb"
    path.unlink()
    path.symlink_to("nowhere") if broken is None else path.write_text(broken)
    for name in ("Untitled.ipynb", "01_patch_embedding-Copy1.ipynb"):
        (course / name).write_text(broken or "")
    said = Workbook(tmp_path / "workbook").start()
    assert f"{path} is broken, so it was left out" in said[-2]
    assert len([*(tmp_path / "workbook").glob("*.ipynb")]) == len(NOTEBOOKS) - 1


def test_two_lessons_with_one_number_are_named(course):
    shutil.copy(course / "05_encoder_block.ipynb", course / "05_old.ipynb")
    with pytest.raises(CourseError, match=r"05_old\.ipynb have the same number"):
        workbook.lesson(5)


# Two at once, and stopped in between


def test_two_passes_at_the_same_moment_are_both_kept(mine):
    with locked(mine.folder):
        other = Thread(target=mine.take, args=("0.1", "B"))
        other.start()
        other.join(0.3)
        assert other.is_alive()
        mine.note({"2.1": {}})
    other.join()
    assert [*mine.notes()] == ["0.1", "2.1"]


def test_a_workbook_that_another_process_keeps_is_named(mine, monkeypatch, capsys):
    monkeypatch.setattr(storage, "SECONDS", 0.1)
    with locked(mine.folder):
        assert main(["start", str(mine.folder)]) == 1
    assert f"another process has been changing {mine.folder}" in capsys.readouterr().err


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("stopped", [1, 2, 3, 4])
def test_a_pass_that_is_stopped_anywhere_loses_nothing(
    mine, cell, monkeypatch, stopped, older
):
    """Neither answer nor order is lost: the note is written before the module."""
    look = cell("def look(x): return (x @ x.T).softmax(-1)")["look"]
    write, written = workbook.write, []
    if older:
        (mine.folder / ".course-vit.json").unlink()

    def power_cut(path, content):
        written.append(path.name)
        if len(written) == stopped:
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(workbook, "write", power_cut)
        with pytest.raises(KeyboardInterrupt):
            workbook.check("3.1", look)
    workbook.forget()
    noted = "progress.json" in written[: stopped - 1]
    assert ("3.1" in mine.notes()) == noted
    mine.remake()
    text = (mine.folder / "my_vit" / "exercises.py").read_text()
    assert ("Yours: look." in text) == noted
    assert "is yours" in workbook.check("3.1", look).text
    assert not [*mine.folder.rglob("*.kept*"), *mine.folder.rglob("*.partial")]


def test_ctrl_c_is_one_line(mine, monkeypatch, capsys):
    monkeypatch.setattr(
        workbook, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert main(["start", str(mine.folder)]) == 130
    assert capsys.readouterr().err == "interrupted: run the command again to continue\n"


def test_ctrl_c_during_an_import_reaches_no_code_that_cannot_bear_it():
    code = """
import signal
from contextlib import suppress
from course_vit.kit.cli import ending_at_once
with ending_at_once(), suppress(KeyboardInterrupt):
    signal.raise_signal(signal.SIGINT)
"""
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr[:12]) == (130, "interrupted:")


# Empty an exercise again


def test_reset_empties_an_exercise_and_keeps_what_was_written(mine, cell, capsys):
    look = "def look(x): return (x @ x.T).softmax(-1)"
    workbook.check("3.1", cell(look)["look"])
    workbook.check("0.1", "B")
    workbook.check("2.1", "B")
    lesson = mine.folder / "03_self_attention.ipynb"
    module = mine.folder / "my_vit" / "exercises.py"
    fresh = lesson.read_bytes()
    blank, fresh_module = json.loads(fresh), workbook.course_texts()["exercises"]
    answered = json.loads(fresh)
    workbook.cells_of(answered, "3.1")[0] |= {"source": look, "outputs": [1]}
    lesson.write_text(json.dumps(answered))
    assert main(["reset", "3.1", "0.1", str(mine.folder)]) == 0
    said = capsys.readouterr().out
    assert f"{mine.folder}: open now: 3.1, 0.1" in said
    assert [*mine.notes()] == ["2.1"]
    assert json.loads(lesson.read_text("utf-8")) == blank
    assert workbook.module_text(fresh_module, {}) == module.read_bytes()
    assert look in (mine.folder / "my_vit" / "exercises.py.kept1").read_text()
    assert (
        json.loads((mine.folder / "03_self_attention.kept1.ipynb").read_text())
        == answered
    )
    for name in ("exercises.py.kept1", "03_self_attention.kept1.ipynb"):
        assert f"is kept as {name}" in said
    lesson.write_text("{}")
    assert "no cell of exercise 3.1" in " ".join(mine.reset(["3.1"]))
    assert lesson.read_text() == "{}"


def test_reset_of_an_exercise_that_does_not_exist_is_refused(mine, capsys):
    before = contents(mine.folder)
    assert main(["reset", "2.1", "4.99", str(mine.folder)]) == 1
    assert "there is no exercise 4.99: choose from 0.1," in capsys.readouterr().err
    assert contents(mine.folder) == before


def test_what_my_vit_has_is_kept_though_the_notes_are_gone(mine, cell):
    workbook.check("3.1", cell("def look(x): return (x @ x.T).softmax(-1)")["look"])
    (mine.folder / "progress.json").unlink()
    assert "exercises.py with your changes is kept as" in " ".join(mine.start())


# What passes becomes the learner's own

COUNTED = """
import torch
from einops import rearrange
from torch import nn

COUNT = []

class MultiHeadAttention(nn.Module):
    def __init__(self, dim, num_heads=8, qkv_bias=True, attn_drop=0.0, proj_drop=0.0):
        super().__init__()
        if dim < 1 or num_heads < 1 or dim % num_heads:
            raise ValueError("dim must be a multiple of num_heads")
        self.dim, self.num_heads, self.calls = dim, num_heads, 0
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def split_heads(self, x):
        if x.ndim != 3 or x.shape[-1] != self.dim:
            raise ValueError("another width")
        three = self.qkv(x).chunk(3, dim=-1)
        pattern = "b n (h e) -> b h n e"
        return tuple(rearrange(part, pattern, h=self.num_heads) for part in three)

    def attention_map(self, x):
        q, k, _ = self.split_heads(x)
        return (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)

    def forward(self, x):
        self.calls += 1
        mixed = self.attn_drop(self.attention_map(x)) @ self.split_heads(x)[2]
        return self.proj_drop(self.proj(rearrange(mixed, "b h n e -> b n (h e)")))
"""


def test_a_passed_layer_runs_inside_the_learners_vision_transformer(mine, cell):
    verdict = workbook.check("4.2", cell(COUNTED)["MultiHeadAttention"])
    assert verdict == "ok 4.2: Write the layer"
    assert (
        "`MultiHeadAttention` in `my_vit.multi_head_attention` is yours" in verdict.text
    )
    my_vit = importlib.import_module("my_vit")
    model = my_vit.VisionTransformer(
        img_size=8, patch_size=4, in_chans=1, embed_dim=12, depth=3, num_heads=3
    )
    model(torch.zeros(2, 1, 8, 8))
    assert [block.attn.calls for block in model.blocks] == [1, 1, 1]
    text = (mine.folder / "my_vit" / "multi_head_attention.py").read_text()
    assert "Yours: MultiHeadAttention." in text
    assert mine.own()["multi_head_attention"].keys() == {"MultiHeadAttention"}


def test_a_model_made_before_a_pass_can_be_saved_and_copied(mine, cell):
    my_vit = importlib.import_module("my_vit")
    sizes = {"img_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": 12}
    model = my_vit.VisionTransformer(**sizes, depth=1, num_heads=3).eval()
    before = type(model.blocks[0].attn)
    workbook.check("4.2", cell(COUNTED)["MultiHeadAttention"])
    loaded = pickle.loads(pickle.dumps(model))
    now = importlib.import_module("my_vit.multi_head_attention").MultiHeadAttention
    assert type(loaded.blocks[0].attn) is now is not before
    weights = model.state_dict()
    assert all(torch.equal(weights[k], w) for k, w in loaded.state_dict().items())
    copied, images = copy.deepcopy(model), torch.randn(1, 1, 8, 8)
    assert type(copied.blocks[0].attn) is before
    assert torch.equal(copied(images), model(images))


def test_published_weights_go_into_the_learners_own_model(mine, cell, tmp_path):
    workbook.check("4.2", cell(COUNTED)["MultiHeadAttention"])
    name, file = "vit_tiny_patch16_224", tmp_path / "published.safetensors"
    published = create_model(name, depth=1).eval()
    save_file(published.state_dict(), file)
    my_vit = importlib.import_module("my_vit")
    model = my_vit.create_model(name, pretrained=file, depth=1).eval()
    images = torch.randn(1, 3, 224, 224)
    assert torch.allclose(model(images), published(images), atol=1e-4)
    assert [block.attn.calls for block in model.blocks] == [1]


def test_helpers_imports_and_constants_of_the_notebook_come_along(mine, cell):
    cell("import numpy as np\nfrom math import sqrt as root\nPOWER = 0.5")
    cell("def width(q): return np.asarray(q.shape)[-1] ** POWER * root(4) / 2")
    cell("def scores(q, k): return q @ k.mT / float(width(q))")
    space = cell("def scaled_weights(q, k): return scores(q, k).softmax(-1)")
    assert "yours" in workbook.check("3.2", space["scaled_weights"]).text
    text = (mine.folder / "my_vit" / "exercises.py").read_text()
    for part in (
        "import numpy as np",
        "import sqrt as root",
        "POWER = 0.5",
        "def width",
    ):
        assert part in text
    q = torch.randn(1, 2, 3, 4)
    inside = importlib.import_module("my_vit.exercises").scaled_weights(q, q)
    assert torch.allclose(inside, (q @ q.mT / 2).softmax(-1))


def test_an_answer_of_another_name_is_taken_under_the_right_one(mine, cell):
    space = cell("def my_look(x): return (x @ x.mT).softmax(1)")
    assert "yours" in workbook.check("3.1", space["my_look"]).text
    assert importlib.import_module("my_vit.exercises").look(torch.eye(2)).shape == (
        2,
        2,
    )


def test_what_cannot_stand_in_a_module_is_right_but_not_taken(mine, cell):
    space = cell("import torch\ntwo = torch.tensor(2.0)")
    cell("def look(x): return (x @ x.T * two / 2).softmax(-1)")
    before = contents(mine.folder / "my_vit")
    verdict = workbook.check("3.1", space["look"])
    assert verdict == "ok 3.1: Along which axis?"
    assert "`two` is a value of another cell" in verdict.text
    assert "with def" in workbook.check("3.1", lambda x: (x @ x.T).softmax(-1)).text
    assert contents(mine.folder / "my_vit") == before
    assert mine.notes() == {"3.1": {}}


def test_a_second_right_answer_replaces_the_first_and_others_stay(mine, cell):
    first = cell("def look(x): return (x @ x.T).softmax(dim=1)")["look"]
    workbook.check("3.1", first)
    pool = """
    def pool_patches(x, num_prefix_tokens):
        return x[:, num_prefix_tokens:].mean(1)
    """
    workbook.check("6.4", cell(pool)["pool_patches"])
    second = cell("def look(x): return (x @ x.T).softmax(dim=-1)")["look"]
    workbook.check("3.1", second)
    text = (mine.folder / "my_vit" / "exercises.py").read_text()
    assert "softmax(dim=1)" not in text
    assert "x[:, num_prefix_tokens:].mean(1)" in text
    assert list(mine.notes()) == ["3.1", "6.4"]


def test_a_module_changed_by_hand_is_kept_under_another_name(mine, cell):
    module = mine.folder / "my_vit" / "exercises.py"
    module.write_text(module.read_text() + "# a thought\n")
    verdict = workbook.check(
        "3.1", cell("def look(x): return (x @ x.T).softmax(-1)")["look"]
    )
    assert "kept as exercises.py.kept1" in verdict.text
    assert "# a thought" in (module.parent / "exercises.py.kept1").read_text()
    assert "# a thought" not in module.read_text()


def test_what_fails_inside_the_module_is_taken_back(mine, cell, monkeypatch):
    judged = []

    def only_once(number, answer):
        judged.append(number)
        if len(judged) > 1:
            raise NameError("name 'helper' is not defined")
        return f"ok {number}"

    monkeypatch.setattr(checks, "check", only_once)
    before = contents(mine.folder / "my_vit")
    verdict = workbook.check("3.1", cell("def look(x): return x")["look"])
    assert "not inside a module (name 'helper' is not defined)" in verdict.text
    assert contents(mine.folder / "my_vit") == before


def test_a_wrong_answer_leaves_no_trace(mine):
    with pytest.raises(workbook.NotYet):
        workbook.check("1.1", (14, 768))
    assert not (mine.folder / "progress.json").exists()


def test_outside_a_workbook_a_check_is_a_check():
    workbook.forget()
    assert workbook.check("2.1", "B") == "ok 2.1: Shuffle the tokens"


# Catching up, and seeing where one stands


def test_progress_counts_lesson_by_lesson(mine, capsys):
    workbook.check("0.1", "B")
    assert main(["progress", str(mine.folder)]) == 0
    folder, first, *_, last = capsys.readouterr().out.splitlines()
    assert folder == str(mine.folder)
    assert first.split() == [
        "00_start_here",
        *("1", "of", "4", "open:", "0.2", "0.3", "0.4", "(11", "min)"),
    ]
    assert (
        last == 'next: exercise 0.2, "A view is not a transpose" in 00_start_here.ipynb'
    )


def test_catching_up_begins_a_lesson_and_names_what_is_lent(mine, capsys):
    assert main(["catch-up", "3", str(mine.folder)]) == 0
    folder, lent, begin = capsys.readouterr().out.splitlines()
    assert folder == f"{mine.folder}: everything is up to date"
    assert lent.startswith("my_vit uses the course's code for 1.2 1.3 2.2 2.5: solve")
    assert begin == f"begin here: {mine.folder / '03_self_attention.ipynb'}"
    assert not (mine.folder / "progress.json").exists()
    assert mine.progress()[-1].startswith("next: exercise 3.1, ")
    mine.note({number: {} for number in EXERCISES if int(number.split(".")[0]) > 2})
    assert mine.progress()[-1].startswith("next: exercise 0.1, ")
    mine.note({number: {} for number in EXERCISES})
    assert mine.progress()[-1] == "all exercises have passed; next: course-vit check"


def test_what_was_refused_most_often_is_worth_repeating(mine):
    for number in ("2.1", "3.1", "5.1", "3.1", "5.1", "5.1", "4.1", "4.1"):
        mine.refused(number, "")
    *_, first, second, third, _ = mine.progress()
    where = f"worth repeating: section {EXERCISES['5.1'].section}"
    assert first == f"{where} (3 wrong answers to exercise 5.1)"
    assert "2 wrong answers to exercise 3.1" in second
    assert "2 wrong answers to exercise 4.1" in third


def test_refusals_that_an_earlier_version_counted_still_count(mine):
    mine.remember(refused={"3.1": 2})
    mine.refused("3.1", "softmax-over-table")
    assert mine.memory()["refused"] == {"3.1": {"": 2, "softmax-over-table": 1}}
    assert "(3 wrong answers to exercise 3.1)" in "".join(mine.progress())


def test_a_lesson_that_does_not_exist_is_refused(tmp_path, capsys):
    assert main(["catch-up", "99", str(tmp_path)]) == 1
    assert "there is no lesson 99: choose one from 0 to 16" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["progress", "check", "catch-up 6", "reset 0.1"])
def test_without_a_workbook_only_start_makes_one(tmp_path, capsys, command):
    assert main([*command.split(), str(tmp_path / "typo")]) == 1
    assert f"there is no workbook in {tmp_path / 'typo'}" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("inside", [False, True])
def test_a_command_works_here_and_says_where(mine, monkeypatch, capsys, inside):
    monkeypatch.chdir(mine.folder if inside else mine.folder.parent)
    for command in (["start"], ["progress"], ["catch-up", "0"], ["reset", "0.1"]):
        assert main(command) == 0
        assert capsys.readouterr().out.startswith(f"{mine.folder}")
    monkeypatch.setenv("HOME", str(mine.folder.parent))
    assert main(["progress", "~/workbook"]) == 0


def test_any_name_of_a_folder_can_be_printed(mine):
    folder = mine.folder.rename(mine.folder.with_name("w\u00f6rkbook"))
    command = [sys.executable, "-m", "course_vit", "start", folder]
    env = os.environ | {"LANG": "C", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert "w\\xf6rkbook: everything" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_without_the_lessons_beside_the_package_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(workbook, "COURSE", tmp_path)
    with pytest.raises(CourseError, match="notebooks has no lessons"):
        Workbook(tmp_path / "workbook").start()
    assert not (tmp_path / "workbook").exists()


def test_what_passes_its_check_passes_the_tests_of_the_course(mine):
    """A different right answer to every exercise, instead of the course's own."""
    package, modules = mine.folder / "my_vit", set()
    for number, known in EXERCISES.items():
        if known.names and known.module != "exercises":
            lesson = f"checks.lesson_{int(number.partition('.')[0]):02d}"
            other = f"{known.names[0]} = RIGHT[{number!r}][-1]"
            with (package / f"{known.module}.py").open("a") as file:
                file.write(f"\nfrom {lesson} import RIGHT\n{other}\n")
            modules.add(known.module)
    tests = [ROOT / "tests" / f"test_{module}.py" for module in sorted(modules)]
    cases, output = run(mine.folder, tests)
    assert not [case for case in cases if case.failure], output
    assert len(cases) > 200


def own_and_wrong(mine, number, name, text):
    """A workbook in which a definition of the learner is wrong, as if it had passed."""
    module = EXERCISES[number].module
    notes = mine.notes() | {number: {"module": module, "own": {name: text}}}
    (mine.folder / "progress.json").write_text(json.dumps(notes))
    (mine.folder / "my_vit" / f"{module}.py").unlink()
    mine.start()


def test_a_failing_test_names_the_exercise_in_a_sentence(mine, monkeypatch, capsys):
    drop_path = """
    class DropPath(nn.Module):
        def __init__(self, drop_prob):
            super().__init__()

        def forward(self, x):
            return 2 * x
    """
    own_and_wrong(mine, "5.3", "DropPath", textwrap.dedent(drop_path).lstrip())
    monkeypatch.chdir(mine.folder.parent)
    assert main(["check", "--lesson", "5", mine.folder.name]) == 1
    _, count, whose, said, todo = capsys.readouterr().out.splitlines()
    passed, total = count.split()[1], count.split()[3]
    failed = int(total) - int(passed)
    assert "yours: DropPath; the course's: Mlp, drop_path_rates, Block" in whose
    assert said.startswith(
        f"lesson 5, exercise 5.3 `DropPath`: {failed} of {total} tests fail; "
        "the first is '"
    )
    assert "Error" in said or "assert" in said
    assert todo == "course-vit check --lesson 5 --verbose shows the output of pytest"


def test_a_change_by_hand_that_breaks_a_module_is_shown(mine, capsys):
    with (mine.folder / "my_vit" / "patch_embedding.py").open("a") as file:
        file.write("def (:\n")
    assert main(["check", "--lesson", "1", "--verbose", str(mine.folder)]) == 1
    said = capsys.readouterr().out
    assert "lesson 1: " in said
    assert "SyntaxError" in said
    assert "short test summary" in said


def test_a_loop_in_my_vit_that_never_ends_is_named(mine, monkeypatch, capsys):
    monkeypatch.setattr(testing, "SECONDS", 5)
    with (mine.folder / "my_vit" / "self_attention.py").open("a") as file:
        file.write("\n\nwhile True:\n    pass\n")
    assert main(["check", "--lesson", "3", str(mine.folder)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "a test did not end within 5 s: is there an endless loop in my_vit/s"
    )


def test_a_lesson_without_tests_is_named(mine):
    with pytest.raises(WorkbookError, match="lesson 0 has no module"):
        check_package(mine, 0)
    with pytest.raises(WorkbookError, match="no lesson 99: choose one from 0 to 16"):
        check_package(mine, 99)


def test_settings_of_a_project_around_the_course_do_not_count(mine, monkeypatch):
    around = mine.folder.parent / "course"
    (around / "tests").mkdir(parents=True)
    (around / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    option = "def pytest_addoption(parser): parser.addoption('--package')"
    (around / "tests" / "conftest.py").write_text(option)
    (around / "tests" / "test_one.py").write_text("def test_one(): pass\n")
    monkeypatch.setattr(testing, "COURSE", around)
    (case,), output = run(mine.folder, [around / "tests" / "test_one.py"])
    assert not case.failure, output


@pytest.mark.parametrize("name", ["hypothesis", "vit_pytorch"])
def test_what_the_tests_lack_is_named(mine, capsys, monkeypatch, name):
    monkeypatch.setattr(testing, "find_spec", lambda asked: asked != name)
    assert main(["check", str(mine.folder)]) == 1
    said = capsys.readouterr().err
    assert said.endswith(f"not installed ({name}): pip install 'course_vit[check]'\n")


# The lab


@pytest.fixture
def opened(monkeypatch):
    """The arguments with which JupyterLab would be started."""
    from jupyterlab.labapp import LabApp

    opened = []
    monkeypatch.setattr(LabApp, "launch_instance", opened.extend)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "theirs")
    return opened


def test_the_lab_makes_a_workbook_and_opens_its_first_lesson(
    opened, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["lab"]) == 0
    assert opened[0] == str(tmp_path / "workbook" / "00_start_here.ipynb")
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / 'workbook'}: made ")
    assert said.endswith("JupyterLab opens 00_start_here.ipynb\n")


def test_the_lab_opens_the_lesson_of_the_next_exercise(opened, mine):
    mine.catch_up(5)
    assert main(["lab", str(mine.folder)]) == 0
    notes = {number: {} for number in EXERCISES}
    (mine.folder / "progress.json").write_text(json.dumps(notes))
    assert main(["lab", str(mine.folder)]) == 0
    names = [
        mine.folder / "05_encoder_block.ipynb",
        mine.folder / "00_start_here.ipynb",
    ]
    assert [it for it in opened if it.endswith(".ipynb")] == [*map(str, names)]


def test_the_lab_passes_on_its_options_and_those_of_the_reader(opened, mine):
    flags = ["--port", "9999", "--no-browser"]
    assert main(["lab", str(mine.folder), *flags]) == 0
    assert opened[-3:] == flags
    theirs, ours = os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    assert theirs == "theirs"
    (settings,) = Path(ours).glob("labconfig/*.json")
    (values,) = json.loads(settings.read_text("utf-8")).values()
    assert values["fetchNews"] == "false"


@pytest.mark.parametrize(("user", "flags"), [(0, ["--allow-root"]), (1000, [])])
def test_the_lab_allows_root_only_to_root(opened, mine, monkeypatch, user, flags):
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    monkeypatch.chdir(mine.folder)
    assert main(["lab"]) == 0
    assert opened[1:] == flags


def test_without_jupyterlab_it_is_said_what_to_install(mine, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "course_vit.kit.lab", raising=False)
    monkeypatch.setitem(sys.modules, "jupyterlab.labapp", None)
    assert main(["lab", str(mine.folder)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "course-vit lab needs jupyterlab: pip install 'course_vit[course]'\n"
    )


@pytest.mark.parametrize("command", ["start", "progress", "export"])
def test_only_the_lab_takes_options_that_it_does_not_know(capsys, command):
    with pytest.raises(SystemExit, match="2"):
        main([command, "--port=9999"])
    assert "unrecognized arguments: --port=9999" in capsys.readouterr().err


def test_the_version_is_that_of_the_installed_package(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"course_vit {version('course_vit')}\n"


# my_vit


def test_a_module_is_read_afresh_though_size_and_second_are_the_same(mine, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    module = mine.folder / "my_vit" / "exercises.py"
    for value in (1, 2):
        workbook.write(module, f"answer = {value}\n".encode())
        os.utime(module, (0, 0))
        workbook.forget()
        assert importlib.import_module("my_vit.exercises").answer == value
    assert (module.parent / "__pycache__").exists()
