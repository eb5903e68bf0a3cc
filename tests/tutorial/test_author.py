"""tutorial/learn/author.py: it passes a sound chapter, and finds each way in which one can be unsound."""

import dataclasses
import random
from pathlib import Path

import pytest

from tutorial.learn import author, course

COURSE = course.load()

TESTS = "tests/tutorial/toy_chapter.py"
RECORD = "engines/bitcask/record.py"


@pytest.fixture
def toy() -> course.Course:
    """A course of two chapters. The first has a vacuous test, one too early, a harmless mutant, and an untested function."""
    owns = (course.Owned(RECORD, "tombstone_file", 1), course.Owned(RECORD, "half_of_overwrite", 1))
    mutant = course.Mutant("harmless", owns[0].id, "len(value) == 22", "len(value) <= 22", "", "test_vacuous")
    first = course.Chapter(1, "01_toy", "Toy", "", 1, 3, (TESTS,), owns, mutants=(mutant,))
    later = course.Owned(RECORD, "is_tombstone", 2)
    second = course.Chapter(2, "02_toy", "Toy", "", 1, 3, (TESTS,), (later,))
    return course.Course(1, COURSE.packages, (first, second))


def test_red_finds_a_test_that_judges_nothing(toy: course.Course, tmp_path: Path) -> None:
    found = author.red(toy, toy.chapter(1), tmp_path)
    assert [problem.split()[0] for problem in found.problems] == ["test_vacuous"]
    assert found.count == "2 of 3 tests red"


def test_green_finds_a_test_that_needs_a_later_chapter(toy: course.Course, tmp_path: Path) -> None:
    found = author.green(toy, toy.chapter(1), tmp_path)
    assert len(found.problems) == 1
    assert "test_of_a_later_chapter: NotImplementedError: chapter 2 asks you to write is_tombstone" in found.problems[0]


def test_fewer_tests_than_the_chapter_expects_are_a_problem(toy: course.Course, tmp_path: Path) -> None:
    more = dataclasses.replace(toy.chapter(2), expect=4)
    assert author.green(toy, more, tmp_path).problems == ["chapter 2 has 4 tests, and 3 were found"]


def test_a_mutant_that_nothing_kills_is_found(toy: course.Course, tmp_path: Path) -> None:
    assert author.mutants(toy, toy.chapter(1), tmp_path).problems == [
        "harmless is not killed by test_vacuous: it passes"
    ]


@pytest.mark.slow
def test_blame_names_a_tested_function_and_an_untested_one_is_found(toy: course.Course, tmp_path: Path) -> None:
    sound = dataclasses.replace(toy, chapters=(dataclasses.replace(toy.chapter(1), mutants=()), toy.chapter(2)))
    finished = dataclasses.replace(sound.chapter(2), owns=(*sound.chapter(1).owns, *sound.chapter(2).owns))
    found = author.blames(dataclasses.replace(sound, chapters=(finished,)), finished, tmp_path)
    assert found.problems == ["no test notices a fault in half_of_overwrite"]
    assert found.count == "blame right in 2 of 3"


def test_a_chapter_that_the_seed_draws_is_red_and_green(tmp_path: Path, rng: random.Random) -> None:
    """All chapters, and the other aspects: `make author`."""
    chapter = rng.choice(COURSE.chapters)
    for aspect in (author.red, author.green):
        assert aspect(COURSE, chapter, tmp_path).problems == [], chapter.folder
