"""tutorial/learn/check.py: where a failure is said to be."""

from tutorial.learn import check, course

TOY = course.Chapter(
    2, "02_toy", "", "", 1, 1, (), (course.Owned("a.py", "List.add", 2), course.Owned("b.py", "find", 2))
)
LATER = course.Chapter(3, "03_toy", "", "", 1, 1, (), (course.Owned("c.py", "walk", 3),))
COURSE = course.Course(1, (), (TOY, LATER))


def test_a_failure_is_in_the_deepest_function_that_was_asked_for() -> None:
    """The given functions that it calls, down to the simulated disk, are right."""
    frames = [("b.py", 5, "find"), ("a.py", 9, "add"), ("c.py", 1, "walk"), ("env.py", 77, "unlink")]
    assert check.where(frames, COURSE, TOY) == "a.py:9 in add"
    assert check.where(frames, COURSE, LATER) == "c.py:1 in walk"


def test_a_failure_in_given_functions_alone_is_in_the_deepest_of_them() -> None:
    assert check.where([("x.py", 1, "f"), ("env.py", 77, "unlink")], COURSE, TOY) == "env.py:77 in unlink"
    assert check.where([], COURSE, TOY) is None
