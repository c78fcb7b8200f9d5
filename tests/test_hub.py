"""JupyterHub for one room: nobody opens a different learner's folder."""

import pwd
from pathlib import Path

import pytest

pytest.importorskip("jupyterhub")
pytest.importorskip("websocket")

from room import Learner, hub, needed, solutions, what_is_missing

REASON = what_is_missing()
pytestmark = [
    pytest.mark.hub,
    pytest.mark.skipif(bool(REASON), reason=REASON or "there is a hub"),
]
NAMES = ["hubtestann", "hubtestbob"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A running hub; its folder is the instructor's alone."""
    users = {user.pw_name for user in pwd.getpwall()}
    assert not users & set(NAMES), "a former test has left its users: userdel them"
    with hub(tmp_path_factory.mktemp("hub"), NAMES) as address:
        yield address


@pytest.fixture(scope="module")
def room(base):
    """Two learners with a server and a kernel each."""
    learners = [Learner(base, name) for name in NAMES]
    for learner in learners:
        assert learner.log_in(f"secret of {learner.name}").status_code == 302
    for learner in learners:
        learner.start_server()
        learner.start_kernel()
    return learners


def test_each_learner_passes_a_check_in_their_own_workbook(room):
    for learner in room:
        (solution,) = [text for n, text in solutions().items() if n == "7.1"]
        check = 'check("7.1", train_step)'
        for source in needed(learner.lesson(), [solution, check]):
            learner.well(source)
        learner.well(solution)
        assert learner.well(check).startswith("**ok 7.1**")
        assert learner.well("import os; print(os.getcwd())").strip() == str(
            Path.home().root + f"home/{learner.name}/workbook"
        )


def test_each_learner_is_a_unix_user_with_a_closed_home(room):
    for learner in room:
        user = pwd.getpwnam(learner.name)
        home = Path(user.pw_dir)
        assert home.stat().st_mode & 0o777 == 0o700
        assert home.stat().st_uid == user.pw_uid
        assert learner.well("print(os.getuid())").strip() == str(user.pw_uid)
        assert "True" not in learner.well(
            "import course_vit; print(os.access(course_vit.__file__, os.W_OK))"
        )


def test_no_kernel_reads_the_folder_of_a_different_learner(room):
    ann, bob = room
    for reader, other in ((ann, bob), (bob, ann)):
        for path in ("", "/workbook", "/workbook/progress.json"):
            _, error = reader.run(f"open('/home/{other.name}{path}').read()")
            assert error == "PermissionError"
        _, error = reader.run(f"os.listdir('/home/{other.name}/workbook')")
        assert error == "PermissionError"
        _, error = reader.run(
            "import psutil\n"
            f"for p in psutil.process_iter(['username']):\n"
            f"    if p.info['username'] == {other.name!r}: p.environ()"
        )
        assert error == "AccessDenied"  # so the tokens of the server are out of reach


def test_no_server_answers_a_different_learner(room):
    ann, bob = room
    for reader, other in ((ann, bob), (bob, ann)):
        assert reader.ask("GET", "contents").status_code == 200
        assert reader.ask("GET", "contents", home=other.home).status_code == 403
        outside = reader.ask("GET", f"contents/..%2F..%2F{other.name}")
        assert outside.status_code in (400, 403, 404)


def test_a_learners_token_opens_the_own_server_alone(room):
    ann, bob = room
    for reader, other in ((ann, bob), (bob, ann)):
        stranger = Learner(reader.base, reader.name)  # without cookies
        token = reader.well("print(os.environ['JUPYTERHUB_API_TOKEN'])").strip()
        key = {"Authorization": f"token {token}"}
        own = stranger.browser.get(f"{reader.home}/api/contents", headers=key)
        assert own.status_code == 200
        answer = stranger.browser.get(f"{other.home}/api/contents", headers=key)
        assert answer.status_code == 403
        nobody = Learner(reader.base, "nobody").browser
        assert nobody.get(f"{other.home}/api/contents").status_code == 403


def test_a_form_without_its_xsrf_token_is_refused(room):
    ann = room[0]
    answer = ann.browser.post(f"{ann.home}/api/sessions", json={})
    assert answer.status_code == 403


def test_a_name_is_guarded_by_its_first_password(room, base):
    thief = Learner(base, NAMES[0])
    answer = thief.log_in("a guess of bob's")
    assert answer.status_code == 403
    assert "Invalid username or password" in answer.text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("root", "The name root belongs to this computer."),
        ("daemon", "The name daemon belongs to this computer."),
        ("../ann", "plain letters (a to z) and digits"),
        ("ann lee", "plain letters (a to z) and digits"),
        ("-f", "plain letters (a to z) and digits"),
        ("1", "plain letters (a to z) and digits"),
    ],
)
def test_a_name_that_is_no_learners_is_refused(base, name, sentence):
    answer = Learner(base, name).log_in("a long password")
    assert answer.status_code == 403
    assert sentence in answer.text


def test_a_cell_that_wants_too_much_memory_fails_and_nothing_else_does(room):
    ann = room[0]
    assert ann.run("hog = bytearray(8 * 1024**3)")[1] == "MemoryError"
    assert ann.run("import torch; torch.ones(2 * 1024**3)")[1] == "RuntimeError"
    for learner in room:
        assert learner.well("print(1 + 1)").strip() == "2"
        assert learner.ask("GET", "status").status_code == 200


def test_a_learner_has_one_thread(room):
    assert room[0].well("print(torch.get_num_threads())").strip() == "1"
