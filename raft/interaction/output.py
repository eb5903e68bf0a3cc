"""What a script prints: the commands' own lines, and the nodes' log lines in front of, between and after them.

The level decides which log lines are printed (`INFO 1 became follower at term 0`). NONE silences the commands, too: it
is for the part of a script that only prepares what is to be shown.

Follows etcd-io/raft: rafttest/interaction_env_logger.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["LEVELS", "Output"]

LEVELS: Final = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE")


class Output:
    """Collects text; it is a `Logger` (raft/util.py), so that the nodes write into it as well."""

    def __init__(self) -> None:
        self.level = 0
        self._parts: list[str] = []

    @property
    def silent(self) -> bool:
        return LEVELS[self.level] == "NONE"

    def set_level(self, name: str) -> None:
        """Raises `ValueError` for a name that is no level."""
        if name.upper() not in LEVELS:
            raise ValueError(f"log levels must be either of [{' '.join(LEVELS)}]")
        self.level = LEVELS.index(name.upper())

    def write(self, text: str) -> None:
        """Adds text as it is, unless silent."""
        if not self.silent:
            self._parts.append(text)

    def take(self) -> str:
        """All that was written since the last time."""
        text = "".join(self._parts)
        self._parts = []
        return text

    @contextmanager
    def indented(self) -> Iterator[None]:
        """What is written inside is indented by two spaces, and its last line is ended."""
        outside, self._parts = self._parts, []
        try:
            yield
        finally:
            text = "".join(self._parts).removesuffix("\n")
            self._parts = [*outside, *(f"  {line}\n" for line in text.split("\n") if text)]

    def _log(self, level: int, template: str, args: tuple[Any, ...]) -> None:
        if self.level <= level:
            self.write(f"{LEVELS[level]} {template % args}\n")

    def debug(self, template: str, /, *args: Any) -> None:
        self._log(0, template, args)

    def info(self, template: str, /, *args: Any) -> None:
        self._log(1, template, args)

    def warning(self, template: str, /, *args: Any) -> None:
        self._log(2, template, args)

    def error(self, template: str, /, *args: Any) -> None:
        self._log(3, template, args)
