"""`python -m course_vit` is the command `course-vit`."""

import sys

from .kit.cli import main

sys.exit(main())
