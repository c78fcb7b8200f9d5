"""What the course needs but does not teach: data, pictures, checks, export."""

from pathlib import Path

COURSE_VIT = Path(__file__).parents[1]
COURSE = COURSE_VIT / "course"  # a wheel carries the lessons and their tests here
if not COURSE.exists():  # and a clone has them beside the package
    COURSE = COURSE_VIT.parent


class CourseError(Exception):
    """What cannot be done: where, why, and what to do. Shown without its traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]
