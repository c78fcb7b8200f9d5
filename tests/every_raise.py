"""The option `--every-raise`: every error of a lesson has a test that provokes it."""

import ast

import pytest
from coverage import Coverage
from house import MODULES


class EveryRaise:
    """Fail the run if a `raise` of a printed module was never reached.

    Each process of pytest-xdist sends the lines that it reached to the first one.
    """

    def __init__(self):
        modules = [str(path) for path in MODULES]
        self.coverage = Coverage(data_file=None, include=modules)
        self.coverage.set_option("run:disable_warnings", ["no-data-collected"])
        self.coverage.start()
        self.reached = set()
        self.missed = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        self.reached |= set(getattr(node, "workeroutput", {}).get("reached", ()))

    def pytest_sessionfinish(self, session):
        self.coverage.stop()
        data = self.coverage.get_data()
        for path in MODULES:
            lines = data.lines(str(path)) or ()
            self.reached |= {f"course_vit/{path.name}:{line}" for line in lines}
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["reached"] = list(self.reached)
            return
        raises = [
            f"course_vit/{path.name}:{node.lineno}"
            for path in MODULES
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Raise)
        ]
        self.missed = [place for place in raises if place not in self.reached]
        if self.missed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        for place in self.missed:
            line = f"FAILED: write a test that provokes the error at {place}"
            terminalreporter.write_line(line, red=True)
