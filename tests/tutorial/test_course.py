"""tutorial/learn/course.py and tree.py: what the chapters own is there, and can be cut."""

import ast

import pytest

from tutorial.learn import course, tree
from tutorial.learn.course import CourseError, Prediction

COURSE = course.load()


def test_every_owned_function_can_be_cut_and_its_file_still_be_read() -> None:
    files: dict[str, str] = {}
    for owned in COURSE.owned.values():
        text = files.setdefault(owned.path, (course.REPOSITORY / owned.path).read_text("utf-8"))
        files[owned.path] = tree.cut.swap(text, owned.name, tree.text_of(owned, "until"))
        assert tree.text_of(owned, "asked") != tree.text_of(owned, "reference")
    for path, text in files.items():
        ast.parse(text, path)


def test_every_mutant_fits_its_function_and_can_be_read() -> None:
    for chapter in COURSE.chapters:
        for mutant in chapter.mutants:
            owned, text = tree.mutate(COURSE, mutant)
            ast.parse("if True:\n" + text if text.startswith(" ") else text)
            assert not tree.cut.same(text, tree.reference(owned)), f"{mutant.name} changes nothing"


def test_every_chapter_has_its_page_and_its_tests() -> None:
    for chapter in COURSE.chapters:
        assert chapter.page.is_file()
        for test in chapter.tests:
            assert (course.REPOSITORY / test).is_file()


def test_a_choice_may_not_be_the_number_of_another_one() -> None:
    """Who types 2 means the second choice, or the choice 2: a question must not leave that open."""
    with pytest.raises(CourseError, match="number of another"):
        Prediction("How many?", "20", "So it is.", "test_it", ("2", "20"))
    assert Prediction("How many?", "10", "So it is.", "test_it", ("1", "10")).right("10")
