"""What `metcd learn` says when it can't go on: one sentence, with what to do."""

__all__ = ["CourseError", "LearnError"]


class LearnError(Exception):
    """Something that the person at the keyboard can mend: printed as one sentence, and the exit code is 1."""


class CourseError(Exception):
    """The course itself is wrong: a function in a chapter.toml that no file has, a mutant that fits nowhere. Ours to mend."""
