"""What all tests share: the package under test, the device, one seed."""

import importlib
import os
import shutil

import pytest
import torch
from hypothesis import settings

settings.register_profile("course", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("course")


def pytest_addoption(parser):
    option = parser.getgroup("course").addoption
    option("--package", default="course_vit", help="the package under test")
    option("--device", default="cpu", help="where the tests make their tensors")
    option("--runs", type=int, default=50, help="short runs in make test-scale")
    option("--every-raise", action="store_true", help="fail if a raise is not tested")


def pytest_configure(config):
    if config.getoption("device") != "cpu":
        torch.set_default_device(config.getoption("device"))
    if config.getoption("package") != "course_vit":
        kind_only = pytest.raises  # a learner's errors have words of their own
        pytest.raises = lambda kind, match=None: kind_only(kind)
    if config.getoption("every_raise"):
        from every_raise import EveryRaise  # which a learner does not need

        config.pluginmanager.register(EveryRaise())


@pytest.fixture(scope="session")
def package(request):
    """The package whose lessons are tested: the course's, or a learner's own."""
    return importlib.import_module(request.config.getoption("package"))


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    """Every test starts from one seed."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """The folder of a workbook to copy; making one takes a second."""
    from course_vit.kit.workbook import Workbook

    folder = tmp_path_factory.mktemp("fresh") / "workbook"
    Workbook(folder).start()
    return folder


@pytest.fixture
def mine(fresh, tmp_path, monkeypatch):
    """A separate copy of a workbook, whose my_vit can be imported."""
    from course_vit.kit.workbook import Workbook, forget

    folder = tmp_path / "workbook"
    shutil.copytree(fresh, folder)
    monkeypatch.syspath_prepend(folder)
    forget()
    yield Workbook(folder)
    forget()


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A folder with images of digits in three classes: 24 to train, 12 to judge."""
    from PIL import Image

    from course_vit.kit.data import digit_images

    root = tmp_path_factory.mktemp("digits")
    images, labels = digit_images()
    for label, name in enumerate(["none", "one", "two"]):
        pixels = (images[labels == label][:12, 0] * 255).byte().numpy()
        for number, picture in enumerate(pixels):
            place = root / ("train" if number < 8 else "val") / name
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).convert("RGB").save(place / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def browser():
    """Chromium, of the system or else Playwright's own."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        chromium = playwright.chromium
        browser = chromium.launch(executable_path=path, chromium_sandbox=not is_root)
        yield browser
        browser.close()
