"""What a learner shares, and what an instructor reads from the files of a room."""

import csv
import json
import re

import pytest

from course_vit.kit.checks import EXERCISES, judge_of
from course_vit.kit.cli import main
from course_vit.kit.report import OTHER, report, share
from course_vit.kit.workbook import Workbook

AXIS = "3.1"


def learner(folder, passed=(), refused=()):
    """A workbook in which some exercises passed and some answers were refused."""
    (folder / "my_vit").mkdir(parents=True)
    (folder / "my_vit/__init__.py").touch()
    notes = {number: {} for number in passed}
    (folder / "progress.json").write_text(json.dumps(notes))
    for number, mistake in refused:
        Workbook(folder).refused(number, mistake)
    return Workbook(folder)


def mistakes(number):
    return list(judge_of(number).known())


@pytest.fixture
def room(tmp_path):
    """Twenty learners: twelve are quick, five stuck, and three just beginning."""
    first, numbers = mistakes(AXIS)[0], list(EXERCISES)
    at = numbers.index(AXIS)
    for n in range(12):
        refused = [(AXIS, first)] * (n % 3)
        learner(tmp_path / f"quick{n}", numbers[: at + 3], refused)
    for n in range(5):
        learner(tmp_path / f"stuck{n}", numbers[:at], [(AXIS, first), (AXIS, "")])
    for n in range(3):
        learner(tmp_path / f"new{n}", numbers[:2], [(numbers[2], "")] * (n == 0))
    files = tmp_path / "files"
    files.mkdir()
    for folder in sorted(tmp_path.glob("*[0-9]")):
        share(Workbook(folder))
        (shared,) = folder.glob("shared-*.json")
        shared.rename(files / shared.name)
    return files


def rows_of(folder):
    with (folder / "report.csv").open(newline="", encoding="utf-8") as file:
        return {row["exercise"]: row for row in csv.DictReader(file)}


def test_the_report_shows_what_twenty_learners_did(room, tmp_path):
    said = report([room], tmp_path / "out")
    rows, numbers = rows_of(tmp_path / "out"), list(EXERCISES)
    at = numbers.index(AXIS)
    assert list(rows) == numbers[: at + 3]
    assert rows["0.1"]["passed"] == "20"
    third = rows[numbers[2]]
    assert (third["passed"], third["stuck"]) == ("17", "1")
    assert third["mistakes"] == f"{OTHER} (1)"
    axis, first = rows[AXIS], mistakes(AXIS)[0].replace("-", " ")
    assert (axis["passed"], axis["stuck"], axis["attempts"]) == ("12", "5", "2")
    assert axis["mistakes"] == f"{first} (13); {OTHER} (5)"
    assert said[:3] == [
        f"20 learners shared progress. Half of the room has passed {at + 3} or more of "
        f"{len(EXERCISES)} exercises; the numbers go from 2 to {at + 3}.",
        f"Exercise {AXIS} ({EXERCISES[AXIS].title}) stops most people: 5 learners "
        "tried it and did not pass yet.",
        f"The most common mistake is {first!r} in exercise {AXIS}: "
        "13 learners made it.",
    ]
    html = (tmp_path / "out/report.html").read_text("utf-8")
    assert all(sentence.replace("'", "&#x27;") in html for sentence in said[:3])
    (alt,) = re.findall('<img alt="(.+?)"', html)
    assert f"{AXIS}: 12 and 5" in alt
    assert html.count("<tr>") == 1 + len(rows) + 1 + 20


def test_a_shared_file_holds_no_code_no_path_and_no_name(tmp_path):
    answer = {"module": "exercises", "own": {"look": "def look(x): return 'precious'"}}
    mine = learner(tmp_path / "ada", refused=[(AXIS, mistakes(AXIS)[0])])
    (mine.folder / "progress.json").write_text(json.dumps({AXIS: answer}))
    share(mine)
    (shared,) = mine.folder.glob("shared-*.json")
    text = shared.read_text()
    assert "precious" not in text
    assert "ada" not in text
    assert json.loads(text)["passed"] == [AXIS]
    assert json.loads(text)["name"] == ""


def test_a_second_file_of_a_learner_replaces_the_first(tmp_path):
    mine = learner(tmp_path / "w")
    share(mine, name="Ada")
    (shared,) = mine.folder.glob("shared-*.json")
    old = json.loads(shared.read_text()) | {"written": "2020-01-01T00:00:00+00:00"}
    older = tmp_path / "shared-older.json"
    older.write_text(json.dumps(old | {"passed": ["0.1", "0.2"]}))
    (mine.folder / "progress.json").write_text('{"0.1": {}}')
    share(mine, name="Ada")
    assert len([*mine.folder.glob("shared-*.json")]) == 1
    for order in ([older, shared], [shared, older]):
        said = report(order, tmp_path / "out")
        assert any("the newest counts" in it for it in said)
        assert list(rows_of(tmp_path / "out")) == ["0.1"]


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"code": "a", "name": "", "written": "", "passed": 3}',
        '{"code": "a", "name": "", "written": "", "passed": [], "refused": {"1": []}}',
    ],
)
def test_a_broken_file_is_named_and_the_others_count(tmp_path, content):
    mine = learner(tmp_path / "w", passed=["0.1"])
    share(mine)
    bad = tmp_path / "shared-bad.json"
    bad.write_text(content)
    said = report([bad, tmp_path / "missing.json", mine.folder], tmp_path / "out")
    assert said[0].startswith(f"Left out: {bad} cannot be read (")
    assert said[1] == f"Left out: {tmp_path / 'missing.json'} does not exist"
    assert rows_of(tmp_path / "out")["0.1"]["passed"] == "1"


def test_without_a_single_file_nothing_is_written(tmp_path, capsys):
    assert main(["report", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert "course-vit progress --share" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_a_learner_wrote_into_the_file_is_shown_and_never_run(tmp_path):
    mine = learner(tmp_path / "w", refused=[(AXIS, "=1+1")])
    share(mine, name="<script>alert(1)</script>")
    report([mine.folder], tmp_path / "out")
    html = (tmp_path / "out/report.html").read_text("utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert rows_of(tmp_path / "out")[AXIS]["mistakes"] == f"{OTHER} (1)"


def test_a_name_is_for_the_shared_file(tmp_path, capsys):
    mine = learner(tmp_path / "w")
    assert main(["progress", str(mine.folder), "--name", "Ada"]) == 1
    assert "add --share" in capsys.readouterr().err
    assert [*mine.folder.glob("shared-*.json")] == []


def test_the_command_shares_and_reports(tmp_path, capsys):
    mine = learner(tmp_path / "w", passed=["0.1"])
    assert main(["progress", str(mine.folder), "--share", "--name", "Ada"]) == 0
    assert "nothing was sent" in capsys.readouterr().out
    out = tmp_path / "out"
    assert main(["report", str(mine.folder), "--output", str(out)]) == 0
    assert "1 learner shared" in capsys.readouterr().out
    assert "Ada" in (out / "report.html").read_text("utf-8")
