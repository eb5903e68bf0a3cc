"""What a node lets its viewers see of itself: what its thread says when it is asked, and taps in its parts.

    the feed's thread ── look ──▶ the inbox ──▶ the node's thread copies: status, the log's end, members ──▶ View
                      ── tap ───▶ `taps` of transport, intake, storage, state machine and contact

Only the node's thread touches the RawNode (server/node.py, invariant 1), so it is the one that looks, as an event like any
other: ten a second while somebody watches, none otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from engines.kvstore import KVStore
from raft import NO_LIMIT, RawNode
from raft.raftpb import Entry
from raft.status import Status
from server.config import NodeConfig
from server.feed_taps import Tapped, Taps
from server.statemachine import StateMachine
from server.storage import NodeStorage

__all__ = ["LOG_SHOWN", "View", "Watched"]

LOG_SHOWN = 32  # entries at the end of the log


class View(NamedTuple):
    """A node's Raft at one moment. Nothing of it changes afterwards."""

    status: Status
    applied: int  # in the engine
    first: int  # index of the first entry in memory
    snapshot_index: int  # the log has entries after it
    entries: Sequence[Entry]  # the last ones, LOG_SHOWN at most
    installing: bool  # a snapshot of the leader is being loaded
    wal: dict[str, int]  # server.wal.Wal.stats


class Watched:
    """One node, for server/feed.py. `tap` and `look` are for the feed's thread."""

    def __init__(
        self,
        config: NodeConfig,
        raft: RawNode,
        storage: NodeStorage,
        machine: StateMachine,
        later: Callable[[Callable[[], object]], object],
        parts: Sequence[Tapped],
    ) -> None:
        """later: has a function called in the node's thread. parts: what else has taps, beside the front end."""
        self.id = config.id
        self.engine = config.engine
        self.data_dir = config.data_dir
        self.machine = machine
        self._raft = raft
        self._storage = storage
        self._later = later
        self._parts = parts
        self._asked: Future[View] | None = None  # and not answered yet

    @property
    def store(self) -> KVStore:
        """The engine."""
        return self.machine.store

    def tap(self, taps: Taps | None) -> None:
        """Has the parts tell these taps from here on; None: nobody."""
        for part in self._parts:
            part.taps = taps

    def look(self, timeout_s: float) -> View | None:
        """The node's Raft now; None if its thread doesn't get to it in time: then the next call waits for the same look.

        Raises what went wrong in it.
        """
        asked = self._asked
        if asked is None:
            asked = self._asked = Future()
            self._later(lambda: self._answer(asked))
        try:
            view = asked.result(timeout_s)
        except TimeoutError:
            return None
        finally:
            if asked.done():
                self._asked = None
        return view

    def _answer(self, asked: Future[View]) -> None:
        """For the node's thread, which no fault of a look may end."""
        try:
            asked.set_result(self._view())
        except Exception as error:
            asked.set_exception(error)

    def _view(self) -> View:
        """For the node's thread. O(members + LOG_SHOWN)."""
        status, memory = self._raft.status(), self._storage.memory
        first, last = memory.first_index(), memory.last_index()
        shown = max(first, last - LOG_SHOWN + 1)
        return View(
            status,
            self.machine.applied_index,
            first,
            memory.snapshot().metadata.index,
            memory.entries(shown, last + 1, NO_LIMIT) if last >= first else (),
            self._storage.installing,
            self._storage.stats(),
        )
