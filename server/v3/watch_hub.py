"""The hub: every change that was applied, to everybody who watches its key; each of them once, and in order.

    the node's thread                 the streams' thread
    ───────────────────               ──────────────────────────────────────────────────────────────────────────────
    applied: one batch ─▶ [deque] ──▶ each revision ─▶ index ─▶ synced watchers ──▶ sink.deliver(watcher, block)
       if somebody watches it                                       │      ▲
      (one append, one wake)                                        │      │
                                                   its sink is full ▼      │ has read up to the view's revision
                                                                 parked ─▶ unsynced ◀── began in the past
                                                                            │  ▲
                                                                 a pass over the history in a view: BATCH_REVISIONS at most

A synced watcher has been given everything up to `processed`, and gets what comes from the node. An unsynced one
reads the history, as all others at about the same place in one pass. A watcher that is too slow is never given half of anything:
its sink says that it is full, the watcher notes at which revision, and reads the history from there when the sink has room.

Invariants:

1. `watcher.next` is the first revision that it has not been given, while it is unsynced or parked. While it is synced it has
   been given all that it wants below max(next, processed + 1).
2. What is given to a watcher is whole revisions, ascending, each once: a change below `next` isn't given again, and who
   becomes synced does so at the revision of a view, which is not below `processed`.
3. What the deque can't hold (PENDING_MAX) is dropped, and so is what comes without passing through it, a snapshot from the
   leader: that is a gap, and after it every watcher is unsynced. So events are lost for nobody.
4. The node's thread never waits, and pays nothing for what nobody watches: it sets the current revision before it looks
   whether somebody does (`Watched`), and who begins to watch says so before it looks at the current revision.
5. A watcher whose `next` is below the compacted revision is told so and ends. While nothing is compacted that revision is -1,
   and a watcher from -1 on is given what comes from here on, as by etcd.

Left out: etcd's victims (responses that wait for a full channel), since the history has the same.
Follows etcd's server/mvcc/watchable_store.go.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from engines.errors import StoreClosed
from engines.kvstore import KVStore, WriteBatch
from raft.raftpb import Entry
from server.metrics import Metrics, describe
from server.mvcc import Change, Compacted, Record, Revision, View
from server.v3.watch_index import Watched, WatchIndex

__all__ = ["Block", "Sink", "WatchHub", "Watcher"]

BATCH_REVISIONS = 1000  # of the history, that a pass reads; etcd's watchBatchMaxRevs
BATCH_BYTES = 4 << 20  # or so many bytes of keys and values; a revision is never divided
PASS_WATCHERS = 512  # that are served in one pass; etcd's maxWatchersPerSync
PENDING_MAX = 16_384  # changes that wait for the streams' thread,
PENDING_BYTES_MAX = 64 << 20  # and bytes of their keys and values
CHANGE_BYTES = 128  # what a change costs beside its key and its value

describe(
    {
        "watchers": "Watches that are open.",
        "watchers_unsynced": "Watches that read the history, or wait until their client has taken what it was sent.",
        "watch_events_total": "Events that were given to watchers.",
        "watch_gaps_total": "How often synced watchers had to read the history, because more was applied than may wait.",
    }
)


class Block:
    """Changes of one or more whole revisions, as all are given them who want the same: what is made of it is made once.

    revision: where the history stood when it was made. prevs: what each change replaced, once somebody has wanted that.
    """

    __slots__ = ("_filtered", "changes", "made", "prevs", "revision")

    def __init__(self, changes: Sequence[Change], revision: int) -> None:
        self.changes = changes
        self.revision = revision
        self.prevs: Sequence[Record | None] | None = None
        self.made: dict[Any, Any] = {}  # for its receivers: encodings, by what they depend on
        self._filtered: dict[tuple[bool, bool], Block | None] = {}

    def without(self, puts: bool, deletes: bool) -> Block | None:
        """The same without puts or without deletes; None if nothing is left."""
        if (puts, deletes) not in self._filtered:
            kept = [change for change in self.changes if not (deletes if change.deleted else puts)]
            self._filtered[puts, deletes] = Block(kept, self.revision) if kept else None
        return self._filtered[puts, deletes]


class Sink(Protocol):
    """Who takes what watchers are given. Asked by the streams' thread; `WatchHub.resume` is told when it isn't full any more.

    `deliver` may not begin or cancel a watch: the hub goes through its watchers meanwhile. That takes a call of its own.
    """

    @property
    def full(self) -> bool: ...
    def deliver(self, watcher: Any, block: Block) -> None: ...
    def compacted(self, watcher: Any, revision: int) -> None: ...


class Watcher:
    """One watch: of a key (stop None), or of the keys from `key` on and before `stop`."""

    __slots__ = ("key", "next", "no_deletes", "no_puts", "prev_kv", "sink", "state", "stop")

    def __init__(
        self,
        sink: Sink,
        key: bytes,
        stop: bytes | None = None,
        prev_kv: bool = False,
        no_puts: bool = False,
        no_deletes: bool = False,
    ) -> None:
        self.sink = sink
        self.key, self.stop = key, stop
        self.prev_kv = prev_kv
        self.no_puts, self.no_deletes = no_puts, no_deletes
        self.next = 0
        self.state = ENDED


ENDED, SYNCED, UNSYNCED, PARKED = range(4)

Views = Callable[[], AbstractContextManager[View]]


class WatchHub:
    """The watchers of one node. `applied` and `read` are for the node's thread, the rest for the streams'."""

    def __init__(
        self, views: Views, current: Callable[[], int], call: Callable[[Callable[[], object]], object]
    ) -> None:
        """views: opens a view of what is applied. current: the revision that was applied last, set before `applied` is told.
        call: has a function called in the streams' thread."""
        self._views = views
        self._current = current
        self._call = call
        self._arrived: deque[Sequence[Change]] = deque()
        self._given = self._taken = 0  # changes that were put into the deque, and that were taken from it
        self._given_bytes = self._taken_bytes = 0
        self._watched = Watched()
        self._passed = 0  # all that is wanted of the revisions up to this one is in the deque, or was
        self._gap = False
        self._synced: WatchIndex[Watcher] = WatchIndex()
        self._unsynced: dict[Watcher, None] = {}
        self._parked: dict[Sink, dict[Watcher, None]] = {}
        self._scheduled = False  # a pass
        self.processed = 0  # all changes up to this revision have been given to the synced
        self.events = self.gaps = 0

    @property
    def revision(self) -> int:
        """The revision that was applied last."""
        return self._current()

    # ---- the node's thread ---------------------------------------------------------------------------------------

    def applied(self, changes: Sequence[Change]) -> None:
        """The changes of a batch, which is in the store. O(changes); a look at each of them if nobody watches it."""
        watched = self._watched
        if not watched.somebody or not changes:
            return
        if any(watched.has(change.record.key) for change in changes):
            self._append(changes)
        self._passed = changes[-1].main

    def _append(self, changes: Sequence[Change]) -> None:
        size = sum(map(_size, changes))
        if (
            self._given + len(changes) - self._taken > PENDING_MAX
            or self._given_bytes + size - self._taken_bytes > PENDING_BYTES_MAX
        ):
            self._note_gap()
        if self._gap:
            return
        self._given += len(changes)
        self._given_bytes += size
        self._arrived.append(changes)
        if len(self._arrived) == 1:  # else a call is on its way that takes all
            self._call(self.take)

    def read(self, store: KVStore) -> None:
        """The store has another content, a snapshot's: between what was given and what comes next, much is missing."""
        self._note_gap()

    def put(self, batch: WriteBatch, entries: Sequence[Entry], machine: Any) -> None:
        """Nothing: a node's watchers are not replicated. (The hub is an OwnKeys for the sake of `read`.)"""

    def written(self) -> None:
        """Nothing."""

    def _note_gap(self) -> None:
        if self._watched.somebody and not self._gap:
            self._gap = True
            self._call(self.take)

    # ---- the streams' thread: watchers that come and go ----------------------------------------------------------

    def watch(self, watcher: Watcher, start: int = 0) -> int:
        """Begins to give a watcher the changes from revision `start` on; 0: those that come from here on. The current revision.

        What is older comes later, from a call of its own: so the caller can tell its client first."""
        if not self._watched.somebody:
            self.processed = 0
        self._watched.add(watcher.key, watcher.stop)
        current = self._current()
        self.processed = self.processed or current
        if start == 0 or start > current:
            watcher.next = start or current + 1
            self._sync(watcher)
        else:
            watcher.next = start
            self._unsync(watcher)
        return current

    def cancel(self, watcher: Watcher) -> None:
        """Gives a watcher nothing more; nothing to do if it has ended. O(log watchers)."""
        if watcher.state == ENDED:
            return
        self._take_out(watcher)
        watcher.state = ENDED
        self._watched.remove(watcher.key, watcher.stop)
        if not self._watched.somebody:
            self._gap = False
            self._arrived.clear()
            self._taken, self._taken_bytes = self._given, self._given_bytes

    def resume(self, sink: Sink) -> None:
        """A sink that was full has room."""
        for watcher in self._parked.pop(sink, ()):
            self._unsync(watcher)

    def progress(self, watchers: Iterable[Watcher]) -> int | None:
        """The revision up to which these watchers have been given everything; None if one of them is unsynced."""
        self.take()
        if any(watcher.state != SYNCED for watcher in watchers):
            return None
        return self.processed if self._watched.somebody else self._current()

    def _take_out(self, watcher: Watcher) -> None:
        if watcher.state == SYNCED:
            self._synced.remove(watcher.key, watcher.stop, watcher)
        elif watcher.state == UNSYNCED:
            del self._unsynced[watcher]
        elif watcher.state == PARKED:
            parked = self._parked[watcher.sink]
            del parked[watcher]
            if not parked:
                del self._parked[watcher.sink]

    def _sync(self, watcher: Watcher) -> None:
        watcher.state = SYNCED
        self._synced.add(watcher.key, watcher.stop, watcher)

    def _unsync(self, watcher: Watcher) -> None:
        watcher.state = UNSYNCED
        self._unsynced[watcher] = None
        self._schedule()

    def _park(self, watcher: Watcher) -> None:
        watcher.state = PARKED
        self._parked.setdefault(watcher.sink, {})[watcher] = None

    # ---- the streams' thread: what was applied -------------------------------------------------------------------

    def take(self) -> None:
        """Gives the synced watchers what has been applied since."""
        arrived, passed = self._arrived, self._passed
        while arrived:
            changes = arrived[0]
            self._taken += len(changes)
            self._taken_bytes += sum(map(_size, changes))
            for main, block in _by_revision(changes):
                if main > self.processed:
                    self._tell(main, block)
                    self.processed = main
            arrived.popleft()  # only here, so that the node's thread doesn't call again meanwhile
        if self._gap:
            self._close_gap()
        elif passed > self.processed:
            self.processed = passed

    def _close_gap(self) -> None:
        """Synced watchers for which something is missing read it in the history."""
        self._gap = False
        self.gaps += 1
        current = self._current()  # after the line above: what was dropped until then isn't newer
        for watcher in self._synced.watchers():
            first = max(watcher.next, self.processed + 1)
            if first <= current:
                self._take_out(watcher)
                watcher.next = first
                self._unsync(watcher)
        self.processed = max(self.processed, current)

    def _tell(self, main: int, changes: Sequence[Change]) -> None:
        """Gives one revision's changes to the synced watchers of their keys."""
        slow: list[Watcher] = []
        for group, numbers in self._wanted(self._synced, changes):
            block = Block(changes if len(numbers) == len(changes) else [changes[at] for at in numbers], main)
            for watcher in group:
                if watcher.next > main:
                    continue
                if watcher.sink.full:
                    slow.append(watcher)
                else:
                    self._deliver(watcher, block, None)
        for watcher in slow:
            self._take_out(watcher)
            watcher.next = main
            self._park(watcher)

    @staticmethod
    def _wanted(index: WatchIndex[Watcher], changes: Sequence[Change]) -> list[tuple[dict[Watcher, None], list[int]]]:
        """Who watches something of these changes, and which of them, as positions."""
        if len(changes) == 1:
            return [(group, [0]) for group in index.at(changes[0].record.key)]
        found: dict[int, tuple[dict[Watcher, None], list[int]]] = {}
        for at, change in enumerate(changes):
            for group in index.at(change.record.key):
                found.setdefault(id(group), (group, []))[1].append(at)
        return list(found.values())

    def _deliver(self, watcher: Watcher, block: Block | None, view: View | None) -> None:
        """Gives a watcher what it wants of a block. view: where to look for what was replaced; None: in one of its own."""
        assert block is not None
        if watcher.no_puts or watcher.no_deletes:
            block = block.without(watcher.no_puts, watcher.no_deletes)
            if block is None:
                return
        if watcher.prev_kv and block.prevs is None:
            block.prevs = self._prevs(block.changes, view)
        self.events += len(block.changes)
        watcher.sink.deliver(watcher, block)

    def _prevs(self, changes: Sequence[Change], view: View | None) -> list[Record | None]:
        """What each change replaced, where compaction has not passed it."""
        if view is None:
            try:
                with self._views() as own:
                    return self._prevs(changes, own)
            except StoreClosed:
                return [None] * len(changes)
        oldest = view.compacted
        return [None if change.main - 1 < oldest else view.prev_of(change) for change in changes]

    # ---- the streams' thread: history ----------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call(self._catch_up)

    def _catch_up(self) -> None:
        """One pass over a part of the history, and the next one scheduled: in between, others have their turn."""
        self._scheduled = False
        if self._unsynced:
            try:
                with self._views() as view:
                    self._sort_out(view)
                    if self._unsynced:
                        self._pass(view)
            except StoreClosed:
                return
        if self._unsynced:
            self._schedule()

    def _sort_out(self, view: View) -> None:
        """Unsynced watchers that want what is gone end, those whose sink is full are parked."""
        for watcher in list(self._unsynced):
            if watcher.next < view.compacted:
                self.cancel(watcher)
                watcher.sink.compacted(watcher, view.compacted)
            elif watcher.next < 0:
                self._take_out(watcher)
                watcher.next = view.revision + 1
                self._sync(watcher)
            elif watcher.sink.full:
                self._take_out(watcher)
                self._park(watcher)

    def _pass(self, view: View) -> None:
        """Reads from where the one is who has waited longest; everybody whose place is in what was read comes along."""
        longest = next(iter(self._unsynced))
        first = longest.next
        try:
            changes, last = _read(view, first)
        except Compacted:
            return  # `_sort_out` has looked: this is a view that can't be, and the next one tells
        index: WatchIndex[Watcher] = WatchIndex()
        along = [watcher for watcher in self._unsynced if first <= watcher.next <= last][:PASS_WATCHERS]
        for watcher in along:
            index.add(watcher.key, watcher.stop, watcher)
        waiting = set()
        for group, numbers in self._wanted(index, changes):
            mains = [changes[at].main for at in numbers]
            blocks: dict[int, Block] = {}
            for watcher in group:
                since = bisect_left(mains, watcher.next)
                if since == len(numbers):
                    continue
                if watcher.sink.full:
                    waiting.add(watcher)
                    continue
                if since not in blocks:
                    blocks[since] = Block([changes[at] for at in numbers[since:]], view.revision)
                self._deliver(watcher, blocks[since], view)
        for watcher in along:
            self._take_out(watcher)
            if watcher not in waiting:
                watcher.next = last + 1
            if watcher.next > view.revision:
                self._sync(watcher)
            else:
                self._unsync(watcher)  # at the end of those who wait

    # ---- for any thread ------------------------------------------------------------------------------------------

    def metrics(self) -> Metrics:
        """How many watch, how many of them are unsynced, and what they were given."""
        unsynced = len(self._unsynced) + sum(map(len, list(self._parked.values())))
        return {
            "watchers": len(self._synced) + unsynced,
            "watchers_unsynced": unsynced,
            "watch_events_total": self.events,
            "watch_gaps_total": self.gaps,
        }


def _size(change: Change) -> int:
    return CHANGE_BYTES + len(change.record.key) + len(change.record.value)


def _by_revision(changes: Sequence[Change]) -> Iterable[tuple[int, Sequence[Change]]]:
    """The changes of each main revision."""
    at = 0
    while at < len(changes):
        main, begin = changes[at].main, at
        while at < len(changes) and changes[at].main == main:
            at += 1
        yield main, changes[begin:at]


def _read(view: View, first: int) -> tuple[list[Change], int]:
    """Whole revisions of the history from `first` on, and the last one up to which this is all that there is."""
    changes: list[Change] = []
    size = mains = last = 0
    for change in view.changes(Revision(first, 0)):
        if change.main != last:
            if mains >= BATCH_REVISIONS or size >= BATCH_BYTES:
                return changes, last
            mains, last = mains + 1, change.main
        changes.append(change)
        size += _size(change)
    return changes, view.revision
