"""`python -m course_vit` runs the command `course-vit`."""

import sys

from .kit.cli import main

sys.exit(main())
