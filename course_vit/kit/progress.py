"""A progress bar for people, which tests and stored runs do not show."""

import os
import sys
from collections.abc import Iterable

from tqdm import tqdm

SILENT_UNDER = ("PYTEST_VERSION", "COURSE_VIT_QUIET")


def progress(steps: Iterable, name: str = "") -> Iterable:
    """Show a bar while a loop runs through `steps`; at the end it disappears."""
    silent = any(variable in os.environ for variable in SILENT_UNDER)
    return tqdm(steps, desc=name, disable=silent, leave=False, file=sys.stdout)
