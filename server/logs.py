"""What a node says to people, in lines that never hold it up.

    any thread      say ──▶ a queue of 1,000 lines ──▶ a thread of its own ──▶ standard error
                               │ full
                               ▼
                       dropped, counted, and said as soon as there is room again

Standard error may be a full disk, a pipe whose reader has gone, or one that nobody reads. A write to it then fails, or
never returns; in the node's thread, that would be the end of the node, or a follower that stands still for no reason
that anybody could see. So nobody but one daemon thread ever writes there, and to it a line that can't be written is
just a line less.

Strangers can make a node say the same again and again, until the disk is full: `Minutely` says it once a minute, with how
often it happened since.

The lines go through `logging`, under the name "metcd", so that a program that embeds a node can send them elsewhere.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
from collections.abc import Callable

from server.json_lines import JsonLines
from server.metrics import Metrics, describe

__all__ = [
    "MINUTE_S",
    "LineWriter",
    "Minutely",
    "dropped_lines",
    "flush",
    "logger",
    "metrics",
    "pass_on",
    "print_line",
    "write_json",
]

describe(
    {"log_lines_dropped_total": "Lines of this process that nobody will read: its output is full, or nobody reads it."}
)

LINES_MAX = 1000
MINUTE_S = 60.0
FLUSH_S = 0.25


class LineWriter:
    """Writes lines to a file descriptor, in a thread that it starts with the first of them."""

    def __init__(self, descriptor: int, write: Callable[[int, bytes], int] = os.write) -> None:
        self._descriptor = descriptor
        self._write = write
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._taken = 0
        self._written = threading.Condition()
        self._done = 0  # lines that were written, or tried
        self.dropped = 0  # lines that will never be read

    def put(self, line: str) -> None:
        """Has a line written some time soon, or counts it as dropped. Never blocks, never raises."""
        with self._guard:
            if self._lines.qsize() >= LINES_MAX:
                self.dropped += 1
                return
            self._taken += 1
            self._lines.put(line.encode("utf-8", "backslashreplace") + b"\n")
            if self._thread is None or not self._thread.is_alive():  # the first line, or the first one after a fork
                self._thread = threading.Thread(target=self._run, name="log-lines", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # no more threads: the next line tries again
                    self._thread = None

    def flush(self, timeout_s: float = FLUSH_S) -> bool:
        """Waits until everything has been written; False if that takes longer than `timeout_s`."""
        with self._written:
            return self._written.wait_for(lambda: self._done >= self._taken, timeout_s)

    def _run(self) -> None:
        told = self.dropped
        while True:
            line = self._lines.get()
            if self.dropped > told:
                line = b"(%d lines before this one could not be written)\n" % (self.dropped - told) + line
            dropped = self.dropped
            if self._write_all(line):
                told = dropped
            else:
                self.dropped += 1
            with self._written:
                self._done += 1
                self._written.notify_all()

    def _write_all(self, data: bytes) -> bool:
        try:
            while data:
                data = data[self._write(self._descriptor, data) :]
        except OSError:
            return False
        return True


class _Handler(logging.Handler):
    """Hands records to a LineWriter. Formatting errors are dropped lines, too."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.put(self.format(record))
        except Exception:
            self._writer.dropped += 1

    def flush(self) -> None:
        self._writer.flush()


_OUT, _ERR = LineWriter(1), LineWriter(2)
atexit.register(lambda: flush())  # daemon threads are not waited for
_root = logging.getLogger("metcd")
_root.setLevel(logging.INFO)
_root.addHandler(_Handler(_ERR))


def write_json(node: int | None) -> None:
    """From here on every line of the log is a JSON object (server/json_lines.py). node: whose process this is."""
    for handler in _root.handlers:
        handler.setFormatter(JsonLines(node))


def logger(name: str = "") -> logging.Logger:
    """The logger of a part of the server: "http" is called "metcd.http"."""
    return _root.getChild(name) if name else _root


def print_line(line: str) -> None:
    """A line on standard output that, other than by print, never blocks and never raises."""
    _OUT.put(line)


def pass_on(line: str) -> None:
    """The same on standard error, for what another process has said."""
    _ERR.put(line)


def flush() -> None:
    """Waits FLUSH_S at most until all lines are written: for a process, or a node, that is about to end."""
    _OUT.flush()
    _ERR.flush()


def metrics() -> Metrics:
    """Lines that were lost."""
    return {"log_lines_dropped_total": dropped_lines()}


def dropped_lines() -> int:
    """How many lines of this process will never be read."""
    return _OUT.dropped + _ERR.dropped


class Minutely:
    """Says what happens often, or can be made to: at most a line a minute, which counts what it stands for."""

    def __init__(self, log: logging.Logger, now: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now = now
        self._quiet_until = -float("inf")
        self._unsaid = 0
        self._guard = threading.Lock()
        self.count = 0  # of all that happened

    def say(self, sentence: str) -> None:
        """It has happened again."""
        with self._guard:
            self.count += 1
            now = self._now()
            if now < self._quiet_until:
                self._unsaid += 1
                return
            self._quiet_until = now + MINUTE_S
            unsaid, self._unsaid = self._unsaid, 0
        before = f" (and {unsaid:,} times before, in the last minutes)" if unsaid else ""
        self._log.warning("%s%s", sentence, before, extra={"times": unsaid + 1})
