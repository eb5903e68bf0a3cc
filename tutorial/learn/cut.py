"""Functions of a source, by name: finding one, cutting its body out, and putting another one in its place.

The syntax tree says where a function lies, and the text between is exchanged line by line, so that everything else stays
as it was written, comments included. Names are as in a traceback: "SkipList.insert", "encode". Of a property with a
setter the getter is meant.

    def insert(self, key):                                   def insert(self, key):
        \"\"\"Adds a key. O(log n).\"\"\"                ──cut──▶      \"\"\"Adds a key. O(log n).\"\"\"
        # find the place                                         raise NotImplementedError("chapter 5 asks you to …")
        ...
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TypeAlias

from tutorial.learn.errors import CourseError

__all__ = ["Function", "body_of", "cut", "functions", "same", "source_of", "swap"]

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@lru_cache(maxsize=64)
def functions(text: str) -> Mapping[str, Function]:
    """Every function and method of a source by its name; of several with one name the first. Raises SyntaxError.

    A file is asked about for each function that it has, so the last few dozen answers are kept: don't change the nodes.
    """
    found: dict[str, Function] = {}
    for name, node in _walk(ast.parse(text), ""):
        found.setdefault(name, node)
    return found


def _walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from _walk(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.If | ast.Try):
            yield from _walk(child, prefix)


def source_of(text: str, name: str) -> str:
    """The function's lines as they stand, its decorators included. Raises KeyError if there is none of that name."""
    first, last = _lines(text, functions(text)[name])
    return "".join(text.splitlines(keepends=True)[first:last])


def swap(text: str, name: str, new: str) -> str:
    """The source with `new` (all lines of a function, decorators and indentation included) in place of that function."""
    first, last = _lines(text, functions(text)[name])
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:first], new, *lines[last:]])


def cut(text: str, name: str, body: str) -> str:
    """The source with `body` in place of what follows the function's docstring. Raises CourseError if it has none."""
    first, last, indent = body_of(text, name)
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:first], textwrap.indent(body.strip("\n"), " " * indent) + "\n", *lines[last:]])


def body_of(text: str, name: str) -> tuple[int, int, int]:
    """The body after the docstring: its lines as a half-open range from 0, and its indentation."""
    node = functions(text)[name]
    if ast.get_docstring(node) is None:
        raise CourseError(f"{name} has no docstring: it is the specification of an owned function")
    if len(node.body) == 1:
        raise CourseError(f"{name} has no body besides its docstring")
    docstring = node.body[0]
    assert docstring.end_lineno is not None
    return docstring.end_lineno, _lines(text, node)[1], docstring.col_offset


def _lines(text: str, node: Function) -> tuple[int, int]:
    """The function's lines, decorators and its last comments included."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    lines = text.splitlines()
    last = node.end_lineno
    assert last is not None
    while last < len(lines) and lines[last].startswith(" " * (node.col_offset + 1) + " ") and _comment(lines[last]):
        last += 1
    return first, last


def _comment(line: str) -> bool:
    return line.strip().startswith("#")


def same(one: str, other: str) -> bool:
    """True if two functions do the same by their syntax trees: comments, spaces and docstrings don't count."""
    try:
        return _bare(one) == _bare(other)
    except SyntaxError:
        return False


def _bare(source: str) -> str:
    tree = ast.parse(textwrap.dedent(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
