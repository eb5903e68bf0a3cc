"""A script from its text to a verdict: which vocabulary it is written in, what it prints, where that differs first.

    interaction     nodes, messages, Readies                commands.py
    quorum          committed, vote                         quorum_commands.py
    confchange      simple, enter-joint, leave-joint        confchange_commands.py

The first command of a file tells which; a file is written in one vocabulary.
"""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from raft.interaction import confchange_commands, quorum_commands
from raft.interaction.commands import Interaction
from raft.interaction.confchange_commands import ConfChanges
from raft.interaction.datadriven import Directive, Script
from raft.interaction.quorum_commands import Quorum

__all__ = ["Difference", "first_difference", "outputs", "without_log_lines"]

_LOG_LINE: Final = re.compile(r"[ ]*(DEBUG|INFO|WARN|ERROR|FATAL) ")


class Runner(Protocol):
    """What answers the directives of one script."""

    def run(self, directive: Directive) -> str: ...


@dataclass(frozen=True, slots=True)
class Difference:
    """The first directive whose output isn't what the script expects."""

    directive: Directive
    expected: str
    actual: str

    def __str__(self) -> str:
        """A unified diff under the place and the command."""
        head = self.directive.head.strip().split("\n")[-1]
        lines = difflib.unified_diff(
            self.expected.splitlines(), self.actual.splitlines(), "expected", "actual", lineterm="", n=5
        )
        return f"{self.directive.where}: {head}\n" + "\n".join(lines)


def _runner(script: Script, rng: random.Random) -> Runner:
    first = script.directives[0].command if script.directives else ""
    if first in quorum_commands.COMMANDS:
        return Quorum()
    if first in confchange_commands.COMMANDS:
        return ConfChanges()
    return Interaction(rng)


def outputs(script: Script, rng: random.Random) -> Iterator[str]:
    """What each directive prints, ended by a newline. Raises `ScriptError` at one that can't be run."""
    runner = _runner(script, rng)
    for directive in script.directives:
        text = runner.run(directive)
        yield text if not text or text.endswith("\n") else text + "\n"


def without_log_lines(text: str) -> str:
    """The text without the nodes' log lines; `ok`, which stands for nothing, is nothing as well."""
    kept = "".join(line for line in text.splitlines(keepends=True) if not _LOG_LINE.match(line))
    return "" if kept == "ok\n" else kept


def first_difference(script: Script, rng: random.Random, log_lines: bool = True) -> Difference | None:
    """Runs a script up to the first output that isn't the expected one; None if there is none."""
    for directive, actual in zip(script.directives, outputs(script, rng), strict=True):
        expected = directive.expected
        if not log_lines:
            expected, actual = without_log_lines(expected), without_log_lines(actual)
        if expected != actual:
            return Difference(directive, expected, actual)
    return None
