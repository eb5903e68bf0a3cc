"""Pins: which trees somebody is reading, so that the writer leaves their pages alone.

    reader   arrived.append(41) ....................... gone.append(41)
    writer                        held() -> [41]                          held() -> []

A reader *pins* the txid of the tree it reads, without a lock: it appends the txid to `arrived`, and checks after that that
the tree is still the current one (current.py). If it is, the writer sees the pin before it gives a page of that tree away,
because the writer publishes a new tree first and asks `held` after that. Letting go is appending to `gone`. Both are
single steps under the interpreter's lock.

bbolt keeps a list of open transactions under a lock (db.go). The rule of what a pinned page waits for is freelist.py's.
"""

from __future__ import annotations

import threading
from collections import Counter, deque

from engines.lifetime import holding

__all__ = ["Pin", "Pins"]

MANY_GONE = 1_000  # notes that pile up until a reader counts them, where no writer does


class Pin:
    """Holds a txid's tree in place for as long as somebody has this object; then its pages may be used again."""

    __slots__ = ("_gone", "txid")

    def __init__(self, txid: int, gone: deque[int]) -> None:
        self.txid, self._gone = txid, gone

    def __del__(self) -> None:
        self._gone.append(self.txid)


class Pins:
    """The pins of one file. `pin` is for any thread, `held` for the writer."""

    def __init__(self) -> None:
        self.arrived: deque[int] = deque()
        self.gone: deque[int] = deque()
        self.counts: Counter[int] = Counter()
        self._held: list[int] = []
        self._counting = threading.Lock()

    def pin(self, txid: int) -> Pin:
        """Pins a txid. The caller checks that it is still the newest after that, and takes a newer one if not. O(1)."""
        self.arrived.append(txid)
        pin = Pin(txid, self.gone)
        if len(self.gone) > MANY_GONE and not self._counting.locked():
            holding(self._counting, self.count)  # else where nobody writes the notes would pile up for ever
        return pin

    def held(self) -> list[int]:
        """The txids that readers have pinned, ascending. O(readers that came or went since the last call)."""
        # While a reader counts, the two may be empty, and `_held` still be the old one.
        if self.arrived or self.gone or self._counting.locked():
            holding(self._counting, self.count)
        return self._held

    def count(self) -> None:
        """Moves what is in `gone` and `arrived` into `counts`, which has the readers of each txid; and sets `_held`.

        Other threads append to both queues meanwhile: only what was there at the beginning has to be moved, and `gone` is
        looked at first. `counts` keeps no zeros; the txids in it, ascending, are what is held. An interrupt between
        two steps may count a reader for too long, never too short. Requires: one thread at a time.
        """
        counts = self.counts
        for _ in range(len(self.gone)):  # first, because a reader that is gone has arrived before, and is counted below
            counts[self.gone.popleft()] -= 1
        for _ in range(len(self.arrived)):
            counts[self.arrived[0]] += 1
            self.arrived.popleft()
        for txid in [txid for txid, count in counts.items() if count == 0]:
            del counts[txid]
        self._held = sorted(counts)
