"""The parts that the course needs but does not teach: data, figures, checks."""

from pathlib import Path

COURSE_VIT = Path(__file__).parents[1]
COURSE = COURSE_VIT / "course"  # a wheel carries the lessons and their tests here
if not COURSE.exists():  # and a clone has them beside the package
    COURSE = COURSE_VIT.parent


class CourseError(Exception):
    """Something cannot be done; the message says where, why and what to do.

    Notebooks and commands show it without its traceback.
    """

    def _render_traceback_(self) -> list[str]:
        return [str(self)]
