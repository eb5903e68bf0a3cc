"""What is printed: in colour on a terminal, plain otherwise; and what is asked.

Long texts are broken at WIDTH whatever the terminal's width, so that a page can show what a command prints.
"""

from __future__ import annotations

import difflib
import sys
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.text import Text

from tutorial.learn.errors import LearnError

__all__ = ["WIDTH", "ask", "ask_choice", "busy", "confirm", "counted", "differences", "prose", "say"]

WIDTH = 100


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def say(text: str = "", style: str = "") -> None:
    """Prints lines as they are."""
    _console().print(Text(text, style))


def prose(text: str, indent: str = "", style: str = "") -> None:
    """Prints a text of sentences; empty lines separate paragraphs."""
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            say()
        say(textwrap.fill(" ".join(paragraph.split()), WIDTH, initial_indent=indent, subsequent_indent=indent), style)


def busy(what: str) -> AbstractContextManager[object]:
    """Says on a terminal what one is waiting for, until it is done."""
    console = _console()
    return console.status(what) if console.is_terminal else nullcontext()


def counted(count: int, noun: str) -> str:
    """ "1 test", "2 tests"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def differences(before: str, after: str, name: str) -> bool:
    """Prints a unified diff of two functions. False if there is no difference."""
    lines = list(
        difflib.unified_diff(before.splitlines(), after.splitlines(), f"{name} before", f"{name} after", lineterm="")
    )
    for line in lines[2:]:
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        say(line, style)
    return bool(lines)


def ask(question: str) -> str | None:
    """A line that was typed; None if nobody is there to type one."""
    try:
        print(question, end=" ", flush=True)
        return input().strip()
    except EOFError:
        print(flush=True)
        return None


def ask_choice(choices: Sequence[str]) -> str | None:
    """One of the choices, by its number or its words; None if nobody is there, or the line was left empty."""
    for number, choice in enumerate(choices, 1):
        say(f"  {number}  {choice}")
    for _ in range(5):
        typed = ask("Your answer (a number; Enter for none):")
        if not typed:
            return None
        if typed in choices:
            return typed
        if typed.isascii() and typed.isdigit() and 1 <= int(typed) <= len(choices):
            return choices[int(typed) - 1]
        say(f"{typed!r} is none of them.")
    return None


def confirm(question: str) -> bool:
    """True after a y. Raises LearnError where nobody can answer."""
    typed = ask(f"{question} [y/N]")
    if typed is None and not sys.stdin.isatty():
        raise LearnError("nobody is there to answer: say --yes")
    return (typed or "").lower() in ("y", "yes")
