"""The project: the cheap import, the set-up, the workflows, the first documents."""

import re
import subprocess
import sys
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import jedi
import pytest
import yaml
from house import MODULES, NOTEBOOKS, ROOT, our_files, stated_minutes
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import course_vit
from course_vit.kit import model_tools

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


PROJECT = tomllib.loads(read("pyproject.toml"))
PYTHON = SpecifierSet(PROJECT["project"]["requires-python"])
EXTRAS = PROJECT["project"]["optional-dependencies"]
OF_EXTRAS = EXTRAS["course"] + EXTRAS["check"] + EXTRAS["test"]
WANTED = [Requirement(line) for line in PROJECT["project"]["dependencies"] + OF_EXTRAS]
MAKEFILE = re.sub(r"\s*\\\n\s*", " ", read("Makefile"))
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.M))
PAGES = sorted(path.name for path in ROOT.glob("*.md"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def run(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    return done.stdout


def workflow_of(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


# The package


def test_import_is_cheap_silent_and_offline():
    code = """
import sys
sys.addaudithook(lambda event, _: event.startswith("socket.") and sys.exit(event))
import course_vit
heavy = {"torch", "torchvision", "matplotlib", "sklearn"} & set(sys.modules)
assert not heavy, f"import course_vit loads {heavy}"
"""
    assert run(sys.executable, "-c", code) == ""


def test_a_name_of_a_lesson_loads_nothing_of_the_kit():
    code = """
import sys
from course_vit import PatchEmbedding
heavy = {"torchvision", "matplotlib", "sklearn", "course_vit.kit"} & set(sys.modules)
assert not heavy, f"PatchEmbedding loads {heavy}"
"""
    assert run(sys.executable, "-c", code) == ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_package_offers_every_public_name_of_every_lesson(path):
    module = import_module(f"course_vit.{path.stem}")
    for name in module.__all__:
        assert getattr(course_vit, name) is getattr(module, name)


def test_the_package_offers_the_models_by_name():
    assert callable(course_vit.create_model)
    assert callable(course_vit.list_models)


def public_names():
    names = {"create_model", "list_models", *model_tools.__all__}
    for path in MODULES:
        names |= {path.stem, *import_module(f"course_vit.{path.stem}").__all__}
    return names


def test_dir_lists_every_public_name():
    assert public_names() <= set(dir(course_vit))


def test_a_star_import_gives_every_public_name():
    code = "from course_vit import *; print(*globals())"
    given = set(run(sys.executable, "-c", code).split())
    assert public_names() - {path.stem for path in MODULES} <= given


def test_a_module_is_loaded_when_it_is_first_used():
    code = "import course_vit; print(course_vit.training.__name__)"
    assert run(sys.executable, "-c", code) == "course_vit.training\n"


def test_an_editor_completes_every_public_name():
    here = jedi.InterpreterEnvironment()  # no process of its own
    offered = jedi.Script("from course_vit import ", environment=here).complete()
    assert public_names() <= {completion.name for completion in offered}


def test_type_checkers_are_told_that_the_package_has_types():
    assert (ROOT / "course_vit" / "py.typed").exists()


def test_a_name_that_does_not_exist_is_refused():
    with pytest.raises(AttributeError, match="'course_vit' has no attribute 'vit'"):
        _ = course_vit.vit


def test_the_exporter_runs_when_a_printed_module_is_broken():
    code = "import sys, course_vit.kit.export; print(*sys.modules)"
    printed = {f"course_vit.{path.stem}" for path in MODULES}
    loaded = printed & set(run(sys.executable, "-c", code).split())
    assert not loaded, f"kit.export must not import {loaded}"


# Set-up


def test_python_versions_agree_everywhere():
    in_make = re.search(r"\(3, (\d+)\) <= .* <= \(3, (\d+)\)", MAKEFILE)
    first, last = int(in_make[1]), int(in_make[2])
    assert SpecifierSet(f">=3.{first},<3.{last + 1}") == PYTHON
    assert f"Python 3.{first} to 3.{last}" in MAKEFILE
    jobs = workflow_of(ROOT / ".github/workflows/tests.yml")["jobs"]
    tested = jobs["newest"]["strategy"]["matrix"]["python"]
    assert tested == [f"3.{minor}" for minor in range(first, last + 1)]


def test_conda_installs_the_package_with_its_extras_through_pip():
    *conda, last = yaml.safe_load(read("environment.yml"))["dependencies"]
    specs = {Requirement(line).name: Requirement(line).specifier for line in conda}
    assert specs == {"python": PYTHON, "pip": SpecifierSet()}, "leave the rest to pip"
    (install,) = last["pip"]
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", install)[1].split(",")
    assert {"course"} <= set(extras) <= set(EXTRAS)


def pinned(name):
    """What a requirements file pins, by project."""
    lines = [line for line in read(name).splitlines() if line[:1].isalnum()]
    pins = [Requirement(line.rstrip(" \\")) for line in lines]
    return {pin.name: pin.specifier for pin in pins}


def test_the_lock_pins_with_hashes_all_that_is_wanted():
    pins = pinned("requirements.txt")
    for wanted in WANTED:
        assert wanted.name in pins, f"{wanted} is not pinned: make lock"
        (pin,) = pins[wanted.name]
        assert pin.operator == "=="
        assert pin.version in wanted.specifier, f"{wanted}, not {pin}: make lock"
    entries = re.split(r"\n(?! )", read("requirements.txt"))
    for entry in entries:
        assert entry[:1] in ("#", "") or "--hash=sha256:" in entry, entry


def test_the_oldest_torch_that_is_tested_is_the_one_promised():
    oldest = pinned("tests/oldest.txt")
    promised = {wanted.name: str(wanted.specifier) for wanted in WANTED}
    for name in ("torch", "torchvision"):
        assert str(oldest[name]) == promised[name].replace(">=", "==") + ".*"


# Rails


def test_strictness_is_not_loosened():
    options = set(PROJECT["tool"]["pytest"]["ini_options"]["addopts"])
    assert {"--strict-config", "--strict-markers", "--nbval-current-env"} <= options
    for name in ("Makefile", "pyproject.toml", ".ci/run", *WORKFLOWS):
        loose = re.search(r"nbval-(lax|san|skip)|continue-on-error", read(name))
        assert not loose, f"{name}: {loose[0]}"


def test_ci_runs_the_test_command_of_the_readme_and_the_browser():
    assert "exec env -i" in read(".ci/run"), "begin with a newcomer's environment"
    for command in ("make test", "make test-browser", "make dist"):
        assert re.search(rf"^time {command}$", read(".ci/run"), flags=re.M)
    assert "make test" in read("README.md")


def test_every_target_says_what_it_does():
    assert set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, flags=re.M)) == TARGETS


@pytest.mark.parametrize("name", [".ci/run", "Makefile", *PAGES, *WORKFLOWS])
def test_every_make_command_that_is_named_exists(name):
    named = re.findall(r"(?:[`\t(]|run: |^)make ([a-z][a-z-]*)", read(name), re.M)
    assert set(named) <= TARGETS, f"no target {set(named) - TARGETS}"


@each_workflow
def test_a_workflow_is_valid(path):
    schema = ("--builtin-schema", "vendor.github-workflows")
    run(sys.executable, "-m", "check_jsonschema", *schema, str(path))


@each_workflow
def test_a_workflow_may_little_and_trusts_no_moving_tag(path):
    workflow = workflow_of(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        if "permissions" in job:  # to publish what another job has built
            assert name == "publish"
            for step in job["steps"]:
                assert "run" not in step, "what may publish runs no code of ours"
                assert "checkout" not in step["uses"]
        for step in job["steps"]:
            assert "run" in step or re.search(r"@[0-9a-f]{40}$", step["uses"]), step
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_only_a_tag_publishes_and_only_what_was_tested():
    workflow = workflow_of(ROOT / ".github/workflows/release.yml")
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    jobs = workflow["jobs"]
    assert {"run": "make dist LOCKED=1"} in jobs["build"]["steps"]
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["environment"] == "pypi"
    assert not any("run" in step for step in jobs["publish"]["steps"])


@each_workflow
def test_a_pull_request_never_reaches_our_own_runner(path):
    workflow = workflow_of(path)
    triggers = set(workflow[True])  # the key `on`, in YAML's eyes
    assert "pull_request_target" not in triggers
    for job in workflow["jobs"].values():
        if "self-hosted" in job["runs-on"]:
            assert triggers <= {"push", "schedule", "workflow_dispatch"}


# What must not be in the repository


def test_no_file_names_a_registry_or_a_place_on_a_machine():
    trace = re.compile(
        r"pypi\.(?:org|python)|pythonhosted|pytorch\.(?:org)|index-url|find-links"
        r"|(?<![\w.])/(?:home|root|tmp|Users|work|opt|mnt)/\w|[A-Z]:\\+Users"
    )
    for path in set(our_files()) - {Path(__file__)}:
        text = path.read_text(encoding="utf-8", errors="ignore")
        found = trace.search(re.sub(r'"image/png": "[^"]*"', "", text))
        assert not found, f"{path.relative_to(ROOT)} holds {found[0]!r}"


def test_no_file_is_large():
    large = [path.name for path in our_files() if path.stat().st_size > 600_000]
    assert not large


# The door


def test_the_licences_are_the_official_texts():
    apache = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    cc_by = "7e7170e3cebf88a9f60c7b8421418323c09304da1af4d5e90f4da1dc1c8a2661"
    for name, digest in {"LICENSE": apache, "LICENSE-TEXT": cc_by}.items():
        assert sha256(read(name).encode()).hexdigest() == digest, name
        assert name in PROJECT["project"]["license-files"]


@pytest.mark.parametrize("name", PAGES)
def test_the_links_of_a_page_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)\s]+)\)", read(name)):
        if "://" not in link and not link.startswith("#"):
            assert (ROOT / link.partition("#")[0]).exists(), f"no file for {link}"
    assert not re.search(r"!\[\s*\]", read(name)), "a picture needs alt text"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_maps_of_lessons_name_each_with_its_minutes(path):
    minutes = stated_minutes(path)
    for name in {"README.md", f"notebooks/{NOTEBOOKS[0].name}"}:
        rows = [row for row in read(name).splitlines() if f"{path.name}) " in row]
        right = any(re.search(rf"\|\s*{minutes}\s*\|", row) for row in rows)
        if name != f"notebooks/{path.name}":
            assert right, f"{name} needs a row for {path.name}, {minutes} minutes"
