"""What the course needs but does not teach: data, pictures, checks, export."""


class CourseError(Exception):
    """What cannot be done: where, why, and what to do. Shown without its traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]
