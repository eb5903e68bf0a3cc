"""How much memory a process has in use: its resident set, and that of the processes that a store has started.

From /proc, which Linux has; elsewhere there is no answer, and none is made up. Pages of a mapped file count for as long as
they are in memory, as they do for every tool that shows a resident set: a store that maps its file looks larger than one
that reads it, though the system may take those pages back. A started process shares pages with others, and so counts with
its proportional share (Pss).
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

__all__ = ["resident_bytes"]

PAGE_BYTES = resource.getpagesize()


def resident_bytes() -> int | None:
    """Of this process and its children, in bytes; None where the system doesn't tell. Some 20 µs without children."""
    try:
        with open("/proc/self/statm", "rb") as file:
            own = int(file.read().split()[1]) * PAGE_BYTES
    except OSError:
        return None
    return own + sum(map(_share, _children()))


def _children() -> Iterator[str]:
    """The process ids of all descendants, from the lists that each thread has of its own."""
    waiting = [str(os.getpid())]
    while waiting:
        process = waiting.pop()
        try:
            for thread in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{thread}/children") as file:
                    children = file.read().split()
                waiting += children
                yield from children
        except OSError:  # it has ended meanwhile
            continue


def _share(process: str) -> int:
    """A process's proportional share of the pages that it has in use; 0 for one that has ended."""
    try:
        with open(f"/proc/{process}/smaps_rollup") as file:
            return sum(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
    except OSError:
        return 0
