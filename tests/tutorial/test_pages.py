"""tutorial/learn/pages.py: every chapter's page, and what a page must not do. Its commands: python -m tutorial.learn.author"""

from pathlib import Path

import pytest
from sybil.example import SybilFailure

from tutorial.learn import course, pages, walk

COURSE = course.load()
BY_CHAPTER = pytest.mark.parametrize("chapter", COURSE.chapters, ids=lambda chapter: chapter.folder)


@BY_CHAPTER
def test_what_a_page_shows_and_names_is_there(chapter: course.Chapter) -> None:
    assert list(pages.problems(COURSE, chapter)) == []


@BY_CHAPTER
def test_the_doctests_of_a_page_run(chapter: course.Chapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pages.run_doctests(chapter.page)


def test_a_doctest_that_shows_something_else_is_found(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("```python\n>>> one = 1\n```\n\n```python\n>>> one + 1\n2\n```\n")
    pages.run_doctests(page)
    page.write_text("```python\n>>> 1 + 1\n3\n```\n")
    with pytest.raises(SybilFailure):
        pages.run_doctests(page)


def test_blocks_know_their_line_and_whether_the_chapter_is_solved(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text('a\n```text\nb\n```\n<!-- solved -->\n```console input="2"\n$ metcd x\n```\n')
    assert pages.blocks(page) == [
        pages.Block("text", "b\n", 2, False),
        pages.Block('console input="2"', "$ metcd x\n", 6, True),
    ]


def test_the_commands_of_a_block_have_their_output() -> None:
    text = "$ metcd learn status\none\ntwo\n$ python -c 'print(3)'\n"
    assert list(walk.commands(text)) == [("metcd learn status", "one\ntwo\n"), ("python -c 'print(3)'", "")]
