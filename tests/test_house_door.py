"""Citing, licences, and the services in which the course opens."""

import json
import re
import stat
import subprocess
import sys
from fnmatch import fnmatch
from importlib.metadata import metadata

import pytest
import yaml
from house import NOTEBOOKS, ROOT
from test_house import EXTRAS, PROJECT, PYTHON, our_files, read, run

from course_vit.kit.weights import WEIGHT_SETS

ADDRESSES = PROJECT["project"]["urls"]
NAME = ADDRESSES["Repository"].removeprefix("https://github.com/")
FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"
SCHEMAS = {
    "CITATION.cff": "citation-file-format",
    ".github/ISSUE_TEMPLATE/config.yml": "github-issue-config",
    ".github/ISSUE_TEMPLATE/lesson.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/package.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/question.yml": "github-issue-forms",
}


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items(), ids=lambda it: it)
def test_a_file_that_others_read_is_valid(name, schema):
    schema = ("--builtin-schema", f"vendor.{schema}")
    run(sys.executable, "-m", "check_jsonschema", *schema, name)


def test_every_issue_form_is_validated():
    assert {f".github/ISSUE_TEMPLATE/{it.name}" for it in FORMS.iterdir()} < {*SCHEMAS}


def test_the_address_of_the_project_is_the_same_everywhere():
    hosts = r"github\.com|colab\.research\.google\.com/github|mybinder\.org/v2/gh"
    address = re.compile(rf"(?:{hosts})/([\w.-]+/course_vit)\b")
    found = {
        (path.name, name)
        for path in our_files()
        if path.suffix in (".md", ".cff", ".yml", ".toml")
        for name in address.findall(path.read_text("utf-8"))
    }
    assert {"CITATION.cff", "README.md", "config.yml"} <= {file for file, _ in found}
    assert {name for _, name in found} == {NAME}


def test_the_citation_agrees_with_the_package():
    citation, project = yaml.safe_load(read("CITATION.cff")), PROJECT["project"]
    assert citation["version"] == project["version"]
    assert citation["repository-code"] == ADDRESSES["Repository"]
    assert citation["url"] == ADDRESSES["Documentation"]


def test_every_file_that_a_contributor_is_sent_to_exists():
    named = re.findall(
        r"`((?:course_vit|notebooks|tests)/\S+)`", read("CONTRIBUTING.md")
    )
    named += re.findall(r"\b(?:notebooks|tests)/[\w*]+\.\w+", read("CONTRIBUTING.md"))
    assert "tests/test_house*.py" in named
    for name in named:
        assert [*ROOT.glob(name.replace("<lesson>", "deit"))], f"there is no {name}"


def test_every_version_says_which_stored_outputs_moved():
    first, *versions = read("CHANGELOG.md").split("\n## ")[1:]
    assert first.startswith("Unreleased\n")
    assert PROJECT["project"]["version"] in [it.split()[0] for it in versions]
    for version in (first, *versions):
        assert "\n### Stored outputs that moved\n\n- " in version


# Licences of others


def table(heading):
    """The rows of a table of THIRD_PARTY.md, each a list of its cells."""
    section = read("THIRD_PARTY.md").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def licences(text):
    """The families of licences that a text names."""
    words = r"0BSD|Apache|BSD|BSL|CC0|GPL|ISC|MIT|MPL|Matplotlib|Unlicense|Zlib"
    return set(re.findall(rf"\b({words})\b", text.replace("matplotlib", "Matplotlib")))


def test_code_of_others_comes_with_its_licence():
    stated = {row[0].strip("`"): row for row in table("Code of others in the course")}
    foreign = {path.parent for path in ROOT.glob("course_vit/**/LICENSE")}
    assert {f"{it.relative_to(ROOT).as_posix()}/" for it in foreign} == {*stated}
    for folder, (_, source, licence) in stated.items():
        name = f"{folder}LICENSE"
        assert name in licence
        assert name in PROJECT["project"]["license-files"]
        assert "Permission is hereby granted, free of charge" in read(name)
        assert licences(licence) == {"MIT"}
        script = source.split()[0]
        assert script.encode() in (ROOT / folder / "reveal.js").read_bytes()[:200]


@pytest.mark.parametrize(("package", "stated"), table("Packages"), ids=lambda it: it)
def test_the_licence_of_a_package_is_what_the_package_says(package, stated):
    told = metadata(package)
    kinds = [it for it in told.get_all("Classifier", []) if it.startswith("License")]
    short = (told.get("License") or "").partition("\n")[0]
    said = told.get("License-Expression") or " ".join([*kinds, short])
    assert licences(said), f"{package} says {said!r}"
    assert licences(said) <= licences(stated), f"{package} says {said!r}"


def test_every_package_that_is_installed_has_its_licence():
    wanted = PROJECT["project"]["dependencies"] + EXTRAS["course"]
    names = {re.match(r"[\w-]+", line)[0] for line in wanted}
    assert {package for package, _ in table("Packages")} == names


@pytest.mark.parametrize("name", WEIGHT_SETS)
def test_a_set_of_weights_has_one_licence_and_its_source(name):
    (row,) = [
        it for it in table("Published weights") if fnmatch(name, it[0].strip("`"))
    ]
    source = re.search("`(.+?)`", row[1])[1]
    assert WEIGHT_SETS[name].source.startswith(source)
    assert ("not for commercial use" in row[3]) == ("swag" in name)


# Rooms


def test_every_room_has_a_python_that_the_course_supports():
    room = json.loads(read(".devcontainer/devcontainer.json"))
    pythons = [
        re.search(r"^FROM python:(\S+)-slim$", read("Dockerfile"), re.M)[1],
        read(".binder/runtime.txt").strip().removeprefix("python-"),
        room["image"].rpartition(":")[2],
    ]
    assert all(version in PYTHON for version in pythons)


def test_every_room_installs_what_the_course_needs():
    assert read(".binder/requirements.txt").split("\n")[-2] == "-e .[course]"
    assert (ROOT / ".binder" / "postBuild").stat().st_mode & stat.S_IXUSR
    room = json.loads(read(".devcontainer/devcontainer.json"))
    assert "pip install -r .binder/requirements.txt" in room["postCreateCommand"]
    assert '"/source[course]"' in read("Dockerfile")


def test_codespaces_opens_the_first_lesson():
    room = json.loads(read(".devcontainer/devcontainer.json"))
    opened = room["customizations"]["codespaces"]["openFiles"]
    assert opened == [f"workbook/{NOTEBOOKS[0].name}"]


def test_the_container_is_not_root_and_keeps_the_token():
    users = re.findall(r"^USER (\w+)$", read("Dockerfile"), re.M)
    assert users
    assert users[-1] not in ("root", "0")
    assert not re.search("token=|password", read("Dockerfile"), re.I)


def test_the_container_is_not_healthy_while_jupyterlab_does_not_answer():
    (command,) = re.findall(
        r"^HEALTHCHECK .*\n +CMD (\[.*\])$", read("Dockerfile"), re.M
    )
    python, *arguments = json.loads(command)
    assert python == "python"
    nobody = [it.replace("8888", "1") for it in arguments]
    assert subprocess.run([sys.executable, *nobody], capture_output=True).returncode
