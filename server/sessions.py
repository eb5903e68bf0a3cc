"""Sessions: a write that a client sends again is applied once, however often it gets into the log.

    POST /_/sessions      ──▶ an entry that opens a session ──▶ its number: the index of that entry
    PUT  … 17/1           ──▶ entry 20: applied, answered 20
    PUT  … 17/1 (again)   ──▶ entry 22: nothing is applied, answered 20
    PUT  … 17/2           ──▶ entry 23: applied, answered 23
    PUT  … 17/1 (late)    ──▶ entry 24: nothing is applied; its answer is forgotten

A client numbers its writes in a session 1, 2, 3 …, and sends one at a time. So the last number of each session and its
outcome are all that has to be remembered: 24 bytes.

    ms<session, 8 bytes, big-endian>  → <last number> <its index, 0 if it was refused> <the index of the last use>, 8 bytes each

Invariants:

1. The table follows from the entries alone: same entries, same sessions, on every node, however the entries are divided
   into batches. So it is in the same batch as their effect, and in every snapshot.
2. A number that has been applied is never applied again, and neither is one before it, or one that was refused for good
   (an alarm, a right): who was told so relies on it, whatever copies of the request are still on their way.
3. The table is bounded. The session that goes is the one whose last use has the lowest index; no two have the same.
4. A request of a session that isn't in the table does nothing. Whether it did something before, nobody knows any more.

SESSIONS_MAX is a part of what the nodes agree on: another number in one of them, and it would apply what the others
don't. Left out: a client's word that it has ended. Follows Ongaro's thesis, section 6.3.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from engines.coding import DecodeError
from engines.kvstore import Operation, Reader, WriteBatch
from raft.raftpb import Entry
from server.errors import NodeError, NumberPassed, SessionExpired
from server.evaluation import Request
from server.limits import SESSIONS_MAX
from server.principal import Principal

__all__ = ["MARK", "OPENS", "SESSIONS_MAX", "Serial", "Sessions"]

PREFIX = b"ms"

_KEY = struct.Struct(">2sQ")  # big-endian, as it is in the order of keys
_VALUE = struct.Struct("<QQQ")


class Serial(NamedTuple):
    """Which write of which session it is: the first operation of a proposal that must be applied once.

    session: the index of the entry that opened it. number: from 1 on. Both 0 (`OPENS`): the proposal opens a session.
    `MARK` is no session's: it does nothing, and asks every node for a view of its state there (server/marked_views.py).
    """

    session: int
    number: int


OPENS = Serial(0, 0)
MARK = Serial(0, 1)


class _Session(NamedTuple):
    """The last request of a session: its number, its index, and the index where the session was last named."""

    number: int
    applied_at: int
    used_at: int


class Sessions:
    """The table, in memory and in the engine's keys. For the thread that applies."""

    def __init__(self, most: int = SESSIONS_MAX) -> None:
        """most: how many there may be; another number than the other nodes have is for tests."""
        self._most = most
        self._table: dict[int, _Session] = {}  # the one that was used longest ago comes first
        self._changed: dict[int, None] = {}  # since the last batch, in this order
        self._before = _Session(0, 0, 0)  # what the last request that was let through has taken the place of

    def __len__(self) -> int:
        return len(self._table)

    def admit(
        self, index: int, operations: Sequence[Operation | Serial | Principal | Request]
    ) -> tuple[int | NodeError, Sequence[Operation | Principal | Request]]:
        """What a proposal comes to whose entry has this index: what its client is told, and the operations to apply.

        Without a Serial in front: the index, and all of them. Else the first time likewise, without the Serial; again:
        the first time's index, and none; too late: an error, and none. O(operations).
        """
        serial = operations[0] if operations else None
        if not isinstance(serial, Serial):
            return index, operations  # type: ignore[return-value]  # a Serial comes first or not at all
        if serial == OPENS:
            self._use(index, _Session(0, 0, index))
            self._evict()
            return index, ()
        if serial == MARK:
            return index, ()
        session, number = serial
        known = self._table.get(session)
        if known is None:
            return SessionExpired(
                f"session {session} has expired (or was never opened), so this did nothing; whether the same request did "
                "something before is unknown: read the key to find out, and open a new session"
            ), ()
        if number < known.number:
            return NumberPassed(
                f"request {session}/{number} comes after {session}/{known.number} was applied, so this did nothing; "
                "what an earlier sending of it did is forgotten: a session has one request at a time"
            ), ()
        if number == known.number:
            self._use(session, known._replace(used_at=index))
            return known.applied_at or NumberPassed(
                f"request {session}/{number} was refused when it came first, and so it is for good: it did nothing, and "
                "what is sent again needs the next number"
            ), ()
        self._before = known
        self._use(session, _Session(number, index, index))
        return index, operations[1:]  # type: ignore[return-value]

    def refused(self, index: int, may_come_again: bool) -> None:
        """What `admit` has let through at this index is refused after all, and does nothing. If it is a session's, its number
        is used up, unless it may come again. O(1)."""
        session = next(reversed(self._table), 0)
        if session and self._table[session].applied_at == index:
            last = self._before if may_come_again else self._table[session]._replace(applied_at=0)
            self._use(session, last._replace(used_at=index))

    def _use(self, session: int, now: _Session) -> None:
        self._table.pop(session, None)
        self._table[session] = now
        self._changed[session] = None

    def _evict(self) -> None:
        while len(self._table) > self._most:
            oldest = next(iter(self._table))
            del self._table[oldest]
            self._changed[oldest] = None

    # ---- with the batch ---------------------------------------------------------------------------------------------

    def read(self, store: Reader) -> None:
        """Reads the table that a store has, which was opened or loaded. Raises DecodeError. O(sessions)."""
        found = []
        for key, value in store.scan(prefix=PREFIX):
            if len(key) != _KEY.size or len(value) != _VALUE.size:
                raise DecodeError(f"the key {key!r} is not a session's, or its value isn't")
            found.append((_KEY.unpack(key)[1], _Session(*_VALUE.unpack(value))))
        found.sort(key=lambda each: each[1].used_at)
        self._table = dict(found)
        self._changed.clear()

    def put(self, batch: WriteBatch, entries: Sequence[Entry], machine: object) -> None:
        """Adds to the batch what `admit` has changed. O(changed sessions)."""
        for session in self._changed:
            known = self._table.get(session)
            key = _KEY.pack(PREFIX, session)
            if known is None:
                batch.delete(key)
            else:
                batch.put(key, _VALUE.pack(*known))

    def written(self) -> None:
        """The batch is in the engine."""
        self._changed.clear()
