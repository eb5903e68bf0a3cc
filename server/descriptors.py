"""How many files a node may have open: as many as the system lets it.

A shell's usual soft limit is 1,024, and a node has a descriptor for each connection and stream: a thousand watchers would leave none
for its log. The soft limit is for programs that use select(2), which can't look at more; none of ours does. So it is raised to the hard
one, as Go's runtime does at the start of every program, etcd among them.
"""

from __future__ import annotations

import contextlib
import resource

__all__ = ["raise_limit"]


def raise_limit() -> None:
    """Raises this process's limit of open files as far as it may. Child processes inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # a system that has another limit beside this one
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
