"""tutorial/learn/cut.py: a body is exchanged, and nothing else in the file changes."""

import ast

import pytest

from tutorial.learn import cut
from tutorial.learn.errors import CourseError

TEXT = '''"""A module."""

import os  # kept


class List:
    """A list."""

    size = 3  # kept

    @property
    def length(self) -> int:
        """How long it is.

        In pairs.
        """
        # a comment between the docstring and the first statement
        return (
            self.size
        )
        # a last comment

    @length.setter
    def length(self, new: int) -> None:
        """Sets it."""
        self.size = new

    class Inner:
        def deep(self) -> str:
            """Deep."""
            return "déjà vu"


# about the next one
def bare():
    return 1


def empty():
    """Only says what it does."""


async def later(n: int) -> int:
    """Later."""
    return n
'''


def test_every_function_is_found_by_its_name() -> None:
    assert list(cut.functions(TEXT)) == ["List.length", "List.Inner.deep", "bare", "empty", "later"]


def test_a_cut_leaves_signature_docstring_decorators_and_the_rest_of_the_file() -> None:
    found = cut.cut(TEXT, "List.length", 'raise NotImplementedError("chapter 1")')
    first = TEXT.index("        # a comment between")
    last = TEXT.index("\n    @length.setter")
    assert found == TEXT[:first] + '        raise NotImplementedError("chapter 1")\n' + TEXT[last:]


def test_a_default_of_several_lines_is_indented() -> None:
    found = cut.cut(TEXT, "later", "if n:\n    return 0\nreturn 1")
    assert found.endswith('    """Later."""\n    if n:\n        return 0\n    return 1\n')


def test_what_was_cut_out_can_be_put_back() -> None:
    for name in ("List.length", "List.Inner.deep", "later"):
        source = cut.source_of(TEXT, name)
        assert cut.swap(cut.cut(TEXT, name, "pass"), name, source) == TEXT


@pytest.mark.parametrize("name", ["bare", "empty"])
def test_a_function_without_specification_or_body_is_not_owned(name: str) -> None:
    with pytest.raises(CourseError, match=name):
        cut.cut(TEXT, name, "pass")


def test_comments_and_docstrings_make_no_difference_between_functions() -> None:
    assert cut.same('def f(a):\n    """A."""\n    return a  # why\n', "    def f(a):\n        return a\n")
    assert not cut.same("def f(a):\n    return a\n", "def f(a):\n    return -a\n")
    assert not cut.same("def f(a):\n    return a\n", "def f(a):\n    return (\n")


def test_a_cut_file_can_be_read_by_python() -> None:
    text = TEXT
    for name in ("List.length", "List.Inner.deep", "later"):
        text = cut.cut(text, name, "raise NotImplementedError")
    ast.parse(text)
