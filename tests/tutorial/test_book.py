"""tutorial/book/build.py: every page's links lead somewhere. What Zensical makes of the pages is seen by `make book`."""

import re
import tomllib
from pathlib import Path

import pytest

from tutorial.book import build
from tutorial.book.build import Book, foreign_resources


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    book = Book(tmp_path_factory.mktemp("book") / "book")
    book.put_together()
    return book


def test_every_link_of_every_page_leads_somewhere(book: Book) -> None:
    assert book.problems == []


def test_what_a_page_links_to_is_a_page(book: Book) -> None:
    for page in book.pages.rglob("*.md"):
        if not page.relative_to(book.pages).as_posix().startswith("source/"):
            text = build.FENCE.sub("", page.read_text("utf-8"))
            for link in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", text):
                assert (page.parent / link).is_file(), f"{page} links to {link}"


def test_the_list_of_pages_has_every_chapter_in_order(book: Book) -> None:
    told = tomllib.loads((book.target / "zensical.toml").read_text("utf-8"))["project"]["nav"]
    tutorial = next(part["The tutorial"] for part in told if "The tutorial" in part)
    paths = [next(iter(entry.values())) for entry in tutorial]
    assert paths[0] == "tutorial/README.md"
    assert paths[1:] == sorted(
        f"tutorial/{page.parent.name}/README.md" for page in (build.REPOSITORY / "tutorial").glob("[0-9]*/README.md")
    )


def test_a_link_to_nothing_is_a_problem(book: Book) -> None:
    asked = Book(book.target)
    asked.markdown = book.markdown
    text = "[a](engines/kvstore.py) [b](nothing.py#x) [c](https://x.org/y) [d](#e)\n```\n[f](no.py)\n```\n"
    assert asked.rewritten("README.md", text).startswith("[a](source/engines/kvstore.py.md) [b](nothing.py#x) [c]")
    assert asked.problems == ["README.md links to nothing.py, which is no file of the repository"]


def test_a_path_in_backticks_becomes_a_link(book: Book) -> None:
    assert book.rewritten("engines/lsm/FORMAT.md", "in `engines/log.py`, not `a/b.py`") == (
        "in [`engines/log.py`](../../source/engines/log.py.md), not `a/b.py`"
    )


def test_what_a_browser_would_fetch_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<script src="https://cdn.example/x.js"></script><a href="https://ok.example">')
    (tmp_path / "b.html").write_text('<script src="assets/x.js"></script>')
    assert list(foreign_resources(tmp_path)) == ['a.html fetches <script src="https://cdn.example/x.js']
