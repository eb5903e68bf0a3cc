"""Views of the state at one and the same entry on every node, while writes go on: for a comparison of their contents.

    POST /_/digest ──▶ an entry that is a mark, at index 17 ──▶ each node, as soon as exactly 17 is applied, keeps a view
    GET  /_/digest?index=17, to each node ──▶ its view, in blocks: the last key of each, and a hash of its pairs

Invariants:

1. The view has the effect of the entries up to the mark, and of none after it: a batch that goes on is divided there.
2. A node keeps one view, that of the newest mark; KEPT_S after it was last asked for, it goes with the next batch. (While
   nothing is written, a view costs nothing.) Readers that are in it keep it open until they have done.
3. What is divided is applied as it would be in one batch, and what the engine has then is the same.

A node that comes to the mark by a snapshot, or after a restart, has no view of it, or one that nobody asks for: the mark
of the next comparison is another.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from engines.kvstore import KVStore, Pair, Snapshot
from raft.raftpb import ConfState, Entry
from server.address_book import CONF_CHANGES
from server.digest import DIGEST
from server.sessions import MARK
from server.statemachine import CLUSTER, CONF_STATE, Applied, encode_proposal

__all__ = ["BLOCK_PAIRS", "NotMarked", "NotYet", "Views", "blocks_of", "hashed_pairs"]

KEPT_S = 60.0
BLOCK_PAIRS = 1000
NOT_COMPARED = frozenset((CONF_STATE, CLUSTER, DIGEST))
"""Ours, and not the same in all nodes of a cluster that began with an earlier version, or in the middle of a batch."""

_MARK = encode_proposal(0, 0, [MARK])[16:]  # what follows origin and sequence
_MARK_BYTES = len(_MARK) + 16


class NotYet(Exception):
    """The node has not applied the mark."""


class NotMarked(Exception):
    """The node has applied the entry, and has no view of it."""


@dataclass(slots=True)
class _View:
    index: int
    view: Snapshot
    asked_at: float
    readers: int = 0


class Machine(Protocol):
    """The part of the state machine that is asked here."""

    @property
    def applied_index(self) -> int: ...
    @property
    def conf_state(self) -> ConfState | None: ...
    @property
    def store(self) -> KVStore: ...
    def members_after(self, index: int) -> ConfState: ...


Apply = Callable[[Sequence[Entry], ConfState | None], list[Applied]]


class Views:
    """The view of the newest mark. `read` is for any thread, the others for the one that applies."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: _View | None = None
        self._guard = threading.Lock()

    def take(self, index: int, view: Snapshot) -> None:
        """Keeps the view of the entry `index`, in the place of the last one."""
        self.drop()
        with self._guard:
            self._kept = _View(index, view, self._now())

    def drop(self) -> None:
        """Gives up the view; a reader that is in it closes it."""
        with self._guard:
            kept, self._kept = self._kept, None
            unread = kept is not None and not kept.readers
        if kept is not None and unread:
            kept.view.close()

    def drop_old(self) -> None:
        """Gives up a view that nobody has asked for in KEPT_S. O(1)."""
        kept = self._kept
        if kept is not None and self._now() - kept.asked_at > KEPT_S:
            self.drop()

    def divided(
        self, machine: Machine, apply: Apply, entries: Sequence[Entry], conf_state: ConfState | None
    ) -> list[Applied]:
        """Has entries applied, in as many batches as the marks among them divide them into, and keeps the view of each.

        apply: of one batch; it returns and raises as `StateMachine.apply`. conf_state: the members in force after the last
        entry; each batch before it comes with those that its own changes lead to, for Raft never hands out again what
        the engine has applied. O(entries) to look for marks, some 0.05 µs each.
        """
        self.drop_old()
        ends = [at for at, each in enumerate(entries, 1) if len(each.data) == _MARK_BYTES and each.data.endswith(_MARK)]
        if not ends or machine.conf_state is None:
            return apply(entries, conf_state)
        applied: list[Applied] = []
        begin = 0
        for end in ends:
            changes = [each.index for each in entries[begin:end] if each.type in CONF_CHANGES]
            in_force = machine.members_after(changes[-1]) if changes else None
            applied += apply(entries[begin:end], conf_state if end == len(entries) else in_force)
            self.take(machine.applied_index, machine.store.snapshot())
            begin = end
        if begin < len(entries):
            applied += apply(entries[begin:], conf_state)
        return applied

    @contextlib.contextmanager
    def read(self, index: int, applied_index: int) -> Iterator[Snapshot]:
        """The view of the mark at `index`, for a node that has applied `applied_index`. Raises NotYet, NotMarked."""
        if index > applied_index:
            raise NotYet
        with self._guard:
            kept = self._kept
            if kept is None or kept.index != index:
                raise NotMarked
            kept.readers += 1
        try:
            yield kept.view
        finally:
            with self._guard:
                kept.readers -= 1
                kept.asked_at = self._now()
                last = not kept.readers and kept is not self._kept
            if last:
                kept.view.close()


def hashed_pairs(view: Snapshot, after: bytes = b"") -> Iterator[Pair]:
    """The compared keys behind `after`, each with the size of its value, 4 bytes, and a hash of it, 16 bytes."""
    for key, value in view.scan(after + b"\0" if after else b""):
        if key not in NOT_COMPARED:
            yield key, len(value).to_bytes(4, "little") + blake2b(value, digest_size=16).digest()


def blocks_of(view: Snapshot) -> Iterator[Pair]:
    """For every BLOCK_PAIRS compared keys, the last of them, and the number and the hash of them all (4 and 16 bytes)."""
    count, hashed, last = 0, blake2b(digest_size=16), b""
    for key, value in view.scan():
        if key in NOT_COMPARED:
            continue
        hashed.update(b"%d %d " % (len(key), len(value)))
        hashed.update(key)
        hashed.update(value)
        count, last = count + 1, key
        if count == BLOCK_PAIRS:
            yield last, count.to_bytes(4, "little") + hashed.digest()
            count, hashed = 0, blake2b(digest_size=16)
    if count:
        yield last, count.to_bytes(4, "little") + hashed.digest()
