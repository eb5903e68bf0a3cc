"""The freelist: which pages may be written, and which ones must wait for whom.

    free      not reachable from any tree that somebody may still read: the next commit may write there
    waiting   reachable from an older tree only, and that tree is *pinned*
    in use    reachable from the newest tree

    txid        5      6      7      8      9      10
                       a------------->d                 a page born in 6 and dropped by 9 belongs to trees 6, 7, 8:
    pins               |      ^             ^           it waits for the pin at 7, not for the one at 9
                     born    waits         dies

A tree is pinned by its txid: by each open snapshot, and by the last *durable* commit, which is what a power cut falls
back to. When a page is dropped it waits for the newest pin that can see it; when that pin goes, it is placed again. So
each page is looked at once for each pin that held it, and a commit without readers looks at the handful it dropped
itself. (bbolt walks its pending lists for every write transaction; the ranges are the same as those of its PR #3.)

On disk the list has every page that its own tree can't reach: free, waiting and just dropped alike, without the pages
that the list itself lies in. After a crash there are no readers, so all of them are free.

    [page header: count of ids, or 0xFFFF][the real count, u64, if 0xFFFF][ids, u64 each, ascending]

Invariants:

1. No page is in two of the three places; ids are 2 <= id < high water.
2. `free` is sorted: a run of n pages is one whose ends differ by n - 1.
3. A page is handed out only if no pinned tree, and not the newest one, can reach it.

Follows bbolt's internal/freelist. Costs: `allocate(1)` O(1); a run O(free ids), at 45 ns for each; placing O(log pins).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable

from engines.btree.page import FREELIST, HEADER_BYTES, PageError, header

__all__ = ["Freelist", "find_run", "freelist_body", "read_freelist"]

COUNT_IS_INSIDE = 0xFFFF
FEW = 64  # ids that are put in their place one by one; more are sorted with the rest


class Freelist:
    """Free and waiting pages of one file. For the writer alone."""

    def __init__(self, free: Iterable[int], high_water: int) -> None:
        self.free = array("Q", sorted(free))
        self.high_water = high_water
        self.waits_for: dict[int, list[tuple[int, int, int]]] = {}  # pin → (page id, born, dropped)
        self._no_run_of: int | None = None  # a search for so many in a row has failed, and nothing was freed since

    @property
    def waiting_count(self) -> int:
        return sum(map(len, self.waits_for.values()))

    def waiting(self) -> list[int]:
        """The ids of all waiting pages, in no order."""
        return [pgid for pages in self.waits_for.values() for pgid, _, _ in pages]

    def allocate(self, count: int) -> int:
        """The first id of `count` pages in a row, which may be written; from the end of the file if none are free.

        They are not free any more. A single page is the last of `free`; a run is where `search` finds one; without either,
        the pages from the high-water mark on, which moves. The caller makes the file long enough. O(1) for a single page.
        """
        if count == 1 and self.free:
            return self.free.pop()
        if (start := self.search(count)) is not None:
            pgid = self.free[start]
            del self.free[start : start + count]
            return pgid
        pgid = self.high_water
        self.high_water += count
        return pgid

    def search(self, count: int) -> int | None:
        """As `find_run` in `free`; but what was looked for in vain is not looked for again until something is freed."""
        if len(self.free) < count or (self._no_run_of is not None and count >= self._no_run_of):
            return None
        found = find_run(self.free, count)
        if found is None:
            self._no_run_of = count
        return found

    def rollback(self, runs: Iterable[tuple[int, int]], high_water: int) -> None:
        """Takes back runs of (first page id, pages) that never became part of a committed tree.

        `high_water` is what it was before the first of them was allocated, and is so again: pages of the runs below it are
        free again, those above it are beyond the end again. No page may be lost here, and none be free twice.
        """
        freed: list[int] = []
        for pgid, count in runs:
            if pgid < high_water:
                freed += range(pgid, pgid + count)
        self.high_water = high_water
        self.add(freed)

    def add(self, ids: list[int]) -> None:
        """Pages that no tree reaches, current or pinned, are free: put in their places, as `free` is sorted."""
        if not ids:
            return
        self._no_run_of = None
        if len(ids) <= FEW:
            for pgid in ids:
                insort(self.free, pgid)
        else:
            self.free = array("Q", sorted([*self.free, *ids]))

    def drop(self, pages: Iterable[tuple[int, int]], txid: int, pins: list[int]) -> list[int]:
        """The newest tree is now `txid`, and no longer reaches the pages (id, born): they wait, or are free.

        `born` may be too low: the page waits longer then. `pins` are the pinned txids, ascending. Returns the ids that
        became free.
        """
        return self.place([(pgid, born, txid) for pgid, born in pages], pins)

    def release(self, pins: list[int]) -> list[int]:
        """Places again what waited for pins that are gone, in `waits_for`; `pins` as for `drop`.

        Another pin may hold a page as well, which goes on waiting then, for that one. Returns the ids that became free.
        O(pins, and pages that waited for those that are gone).
        """
        freed: list[int] = []
        for pin in self.waits_for.keys() - pins:
            freed += self.place(self.waits_for.pop(pin), pins)
        return freed

    def place(self, pages: list[tuple[int, int, int]], pins: list[int]) -> list[int]:
        """Each of the pages, (id, born, dropped), waits for the newest pin in [born, dropped), or becomes free.

        Who waits is entered in `waits_for`, under the pin; who doesn't is `add`ed. Returns the ids that became free. `pins`
        as for `drop`. O(log pins) for each page.
        """
        freed: list[int] = []
        for page in pages:
            pgid, born, dropped = page
            index = bisect_left(pins, dropped) - 1
            if index < 0 or pins[index] < born:
                freed.append(pgid)
            else:
                self.waits_for.setdefault(pins[index], []).append(page)
        self.add(freed)
        return freed

    def listed(self, dropping: Iterable[int]) -> array[int]:
        """The ids for the disk: free, waiting, and those that the transaction at hand is about to drop."""
        others = [*self.waiting(), *dropping]
        if len(others) > FEW:
            return array("Q", sorted([*self.free, *others]))
        ids = array("Q", self.free)
        for pgid in others:
            insort(ids, pgid)
        return ids


def find_run(free: array[int], count: int) -> int | None:
    """The lowest index i for which free[i] to free[i + count - 1] are `count` page ids in a row; None if there is none.

    `free` is ascending, each id once; `count` is at least 1. O(free ids), and no more for a greater `count`.
    """
    for index, (first, last) in enumerate(zip(free, free[count - 1 :])):
        if last - first == count - 1:  # the list is sorted, so there is no gap between the two
            return index
    return None


def freelist_body(ids: array[int]) -> tuple[int, bytes]:
    """(count for the page header, body) of a freelist page."""
    if len(ids) < COUNT_IS_INSIDE:
        return len(ids), ids.tobytes()
    return COUNT_IS_INSIDE, array("Q", [len(ids)]).tobytes() + ids.tobytes()


def read_freelist(run: bytes) -> tuple[array[int], int]:
    """The ids in a freelist's run, in the order of the file, and the end of its data. Raises PageError."""
    _, flags, count, _ = header.unpack_from(run)
    if flags != FREELIST:
        raise PageError(f"a freelist should be here, and the flags are {flags:#06x}")
    start = HEADER_BYTES
    if count == COUNT_IS_INSIDE:
        start += 8
        if len(run) < start:
            raise PageError("the freelist's count lies outside of its run")
        count = int.from_bytes(run[HEADER_BYTES:start], "little")
    end = start + 8 * count
    if end > len(run):
        raise PageError(f"the freelist's {count} ids end at byte {end}, and the run has {len(run)}")
    ids = array("Q")
    ids.frombytes(run[start:end])
    return ids, end
