"""A progress bar for people; silence for tests and stored runs."""

import os
import sys
from collections.abc import Iterable

from tqdm import tqdm

SILENT_UNDER = ("PYTEST_VERSION", "COURSE_VIT_QUIET")


def progress(steps: Iterable, name: str = "") -> Iterable:
    """Wrap a long loop: the same items, with a bar that disappears when it is done."""
    silent = any(variable in os.environ for variable in SILENT_UNDER)
    return tqdm(steps, desc=name, disable=silent, leave=False, file=sys.stdout)
