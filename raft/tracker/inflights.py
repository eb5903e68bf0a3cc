"""The window of messages with entries that were sent to one follower and not yet answered.

Each is known by the index of its last entry. An acknowledgement of index i frees all up to i at once, because the
follower's log is contiguous. Both the number of messages and, if a limit is given, their bytes are bounded; the message
that goes over the limit of bytes is still let through, or a single large one could never be sent.

Invariant: the indexes are in ascending order, and `bytes` is the sum over the window.

etcd keeps a ring buffer; a deque is that in Python.

Follows etcd-io/raft: tracker/inflights.go.
"""

from __future__ import annotations

from collections import deque

from raft.errors import RaftPanic

__all__ = ["Inflights"]


class Inflights:
    """At most `size` messages; `max_bytes` 0 is no limit of bytes. All methods O(1), free_le O(freed)."""

    __slots__ = ("_window", "bytes", "max_bytes", "size")

    def __init__(self, size: int, max_bytes: int = 0) -> None:
        self.size = size
        self.max_bytes = max_bytes
        self.bytes = 0
        self._window: deque[tuple[int, int]] = deque()

    def add(self, index: int, size_bytes: int) -> None:
        """A message whose last entry is `index` was sent. Requires: not full, index ≥ the last one added."""
        if self.full():
            raise RaftPanic(f"a message up to {index} was sent, but the window of {self.size} is full")
        self._window.append((index, size_bytes))
        self.bytes += size_bytes

    def free_le(self, index: int) -> None:
        """Everything up to `index` is acknowledged."""
        window = self._window
        while window and window[0][0] <= index:
            self.bytes -= window.popleft()[1]

    def full(self) -> bool:
        return len(self._window) >= self.size or (self.max_bytes != 0 and self.bytes >= self.max_bytes)

    def reset(self) -> None:
        self._window.clear()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._window)
