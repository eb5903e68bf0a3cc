"""The grammar of script files: commands with arguments and input, and the output that each of them should have.

    # A comment. Blank lines and comments may stand between commands.
    command argument key=value key=(value, value)       ┐ head; a \\ at the end of a line joins the next one to it
    input, any number of lines                          ┘
    ----
    expected output, up to the first blank line

Output that has blank lines itself stands between doubled separators, each of the two a pair of `----` lines, followed
by a blank line. A value in parentheses may hold parentheses; commas inside of the inner ones don't separate.

A parsed script keeps its text, so that it can be written again with other output and nothing else changed.

Follows cockroachdb/datadriven, which the tests of etcd-io/raft use.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Argument", "Directive", "Script", "ScriptError", "parse_line", "parse_script", "rewritten"]

_SEPARATOR: Final = "----"
_WORD: Final = re.compile(r"[^\s=()]+")


class ScriptError(ValueError):
    """A script can't be read, or asks for what there is not; the sentence begins with file:line."""


@dataclass(frozen=True, slots=True)
class Argument:
    """`key` alone, `key=value`, or `key=(value, value)`."""

    key: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Directive:
    """One command with the output that it should have.

    where: file:line of the command.       given: the lines of input below it.
    head: the text of both, and what stands in front of it, up to the separator.
    expected: the output, each line with its newline.       end: the text that closes it, a blank line or nothing.
    """

    where: str
    command: str
    arguments: tuple[Argument, ...]
    given: str
    expected: str
    head: str
    end: str


@dataclass(frozen=True, slots=True)
class Script:
    """The directives of one file, in order, and the comments after the last one."""

    name: str
    directives: tuple[Directive, ...]
    tail: str


def parse_line(line: str, where: str) -> tuple[str, tuple[Argument, ...]]:
    """The command and the arguments of one line. Raises `ScriptError`."""
    match = _WORD.match(line)
    if match is None:
        raise ScriptError(f"{where}: a command begins with a word, but this line is {line!r}")
    command, at = match[0], match.end()
    arguments = []
    while at < len(line):
        if line[at].isspace():
            at += 1
            continue
        match = _WORD.match(line, at)
        if match is None:
            raise ScriptError(f"{where}: expected an argument, but found {line[at:]!r}")
        key, at = match[0], match.end()
        values: tuple[str, ...] = ()
        if line.startswith("=(", at):
            inside, at = _parenthesised(line, at + 1, where)
            values = tuple(_split(inside))
        elif line.startswith("=", at):
            end = at + 1
            while end < len(line) and not line[end].isspace():
                end += 1
            values, at = (line[at + 1 : end],), end
        arguments.append(Argument(key, values))
    return command, tuple(arguments)


def _parenthesised(line: str, start: int, where: str) -> tuple[str, int]:
    """What stands between the parenthesis at `start` and its counterpart, and the place after that."""
    depth = 0
    for at in range(start, len(line)):
        depth += {"(": 1, ")": -1}.get(line[at], 0)
        if depth == 0:
            return line[start + 1 : at], at + 1
    raise ScriptError(f"{where}: a parenthesis is opened and not closed in {line!r}")


def _split(inside: str) -> list[str]:
    """The values between the commas that are in no inner parentheses."""
    values, depth = [""], 0
    for character in inside:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            values.append("")
        else:
            values[-1] += character
    values = [value.strip() for value in values]
    return [] if values == [""] else values


class _Lines:
    """The lines of a text, each with its newline, and how far they are read."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.lines = [line + "\n" for line in self.lines[:-1]] + ([self.lines[-1]] if self.lines[-1] else [])
        self.at = 0

    def more(self) -> bool:
        return self.at < len(self.lines)

    def take(self) -> str:
        self.at += 1
        return self.lines[self.at - 1]


def parse_script(name: str, text: str) -> Script:
    """Reads a whole file. Raises `ScriptError` for a command without separator, and what `parse_line` raises."""
    lines, directives = _Lines(text), []
    head = ""
    while lines.more():
        line = lines.take()
        head += line
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        where = f"{name}:{lines.at}"
        while stripped.endswith("\\") and lines.more():
            line = lines.take()
            head += line
            stripped = stripped[:-1] + " " + line.strip()
        command, arguments = parse_line(stripped, where)
        given = ""
        while lines.more() and (line := lines.take()).rstrip("\n") != _SEPARATOR:
            head += line
            given += line
        if line.rstrip("\n") != _SEPARATOR:
            raise ScriptError(f"{where}: {command} has no {_SEPARATOR} after it, so what it should print isn't known")
        expected, end = _expected(lines)
        directives.append(Directive(where, command, arguments, given.strip(), expected, head, end))
        head = ""
    return Script(name, tuple(directives), head)


def _expected(lines: _Lines) -> tuple[str, str]:
    """The output and the text that closes it."""
    expected = ""
    if lines.more() and lines.lines[lines.at].rstrip("\n") == _SEPARATOR:
        lines.take()
        while lines.more():
            line = lines.take()
            if line.rstrip("\n") == _SEPARATOR and lines.more() and lines.lines[lines.at].rstrip("\n") == _SEPARATOR:
                lines.take()
                break
            expected += line
        return expected, lines.take() if lines.more() else ""
    while lines.more():
        line = lines.take()
        if not line.strip():
            return expected, line
        expected += line if line.endswith("\n") else line + "\n"
    return expected, ""


def rewritten(script: Script, outputs: Sequence[str]) -> str:
    """The script's text with these outputs, one for each directive, in place of the expected ones."""
    text = ""
    for directive, output in zip(script.directives, outputs, strict=True):
        separator = f"{_SEPARATOR}\n"
        if output and any(not line.strip() for line in output.removesuffix("\n").split("\n")):
            output = f"{separator}{output}{separator}{separator}"
        text += f"{directive.head}{separator}{output}{directive.end}"
    return text + script.tail
