"""The table of leases: what was granted, and which keys hang on it. A part of what Raft replicates.

    lease/grant 77, 60 s  ──▶ 77: 60                        put a, lease 77 ──▶ 77: {a}
    put b, lease 77       ──▶ 77: {a, b}                    put a           ──▶ 77: {b}      the lease is taken off
    lease/revoke 77       ──▶ b is deleted, 77 is gone      all of it one revision

In the engine, beside the keys:

    mlg<id, 8 bytes, big-endian>                 → seconds that were granted, and the index of the entry that granted them;
                                                   8 bytes each, little-endian
    mlk<id><key>                                 → nothing; the key hangs on the lease
    mlx<id><SHA-256 of the key>                  → the key, where `mlk<id><key>` would be longer than an engine's keys

Invariants:

1. The table follows from the entries alone: when a lease expires is no part of it. The leader decides that by its clock
   (server/v3/lease_keeper.py), and proposes it.
2. A key hangs on one lease at most, the one in its newest version's header. Every put and delete, also those of the simple
   routes, says so through `moved`.
3. A lease's keys are deleted in the entry that deletes the lease, in the order of their bytes, as one revision.
4. An expiry is void unless its entry has the term in which the leader decided it, and it is about the grant that the leader
   saw. A leader that was stopped for a minute proposes what it decided before; should that be proposed again by a follower,
   under a new leader who has meanwhile told a client that its lease lives, then it does nothing. (etcd revoked such leases
   until 3.5.13.)
5. The table is bounded: LEASES_MAX. What is attached is not in memory; the engine has it.

Left out: checkpoints of what remains of a lease, an experiment of etcd's that is off by default: a new leader gives every
lease its whole time again. For the thread that applies, unless a method says otherwise. Follows etcd's
server/lease/lessor.go.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from engines.coding import DecodeError
from engines.kvstore import MAX_KEY_BYTES, Reader, WriteBatch
from raft.raftpb import Entry
from server.limits import LEASES_MAX
from server.v3 import status
from server.v3.status import Status

__all__ = ["LEASE_TTL_MAX_S", "NO_LEASE", "Granted", "Leases", "Revoking"]

NO_LEASE = 0
LEASE_TTL_MAX_S = 9_000_000_000  # etcd's

GRANTED, ATTACHED, ATTACHED_LONG = b"mlg", b"mlk", b"mlx"

_ID = struct.Struct(">3sq")
_GRANTED = struct.Struct("<qQ")


class Granted(NamedTuple):
    """A lease: its seconds, and the index of the entry that granted them."""

    ttl: int
    entry: int


class Revoking(Protocol):
    """The part of the entry's writes that revoking needs; `delete` comes back as `Leases.moved`."""

    def delete(self, key: bytes) -> object: ...


class Leases:
    """The table of one node: an own table of the state machine (server/statemachine.py, OwnKeys)."""

    def __init__(self, most: int = LEASES_MAX) -> None:
        """most: how many there may be; another number than the other nodes have is for tests."""
        self._most = most
        self._store: Reader | None = None
        self._granted: dict[int, Granted] = {}  # with what the batch that is being made will write
        self._were: dict[
            int, Granted | None
        ] = {}  # leases that were touched since the last batch, as the engine has them
        self._moved: dict[int, dict[bytes, bool]] = {}  # attached (or detached) since the last batch
        self._undo: list[Callable[[], object]] = []  # what takes back the entry that is being evaluated
        self.on_change: Callable[[dict[int, Granted | None]], None] = lambda changed: None
        self.on_read: Callable[[], None] = lambda: None

    # ---- for any thread ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._granted)

    def ids(self) -> list[int]:
        """All leases, ascending. O(n log n)."""
        return sorted(self._granted.copy())

    def all(self) -> dict[int, Granted]:
        """All leases."""
        return self._granted.copy()

    def granted(self, lease: int) -> Granted | None:
        """What was granted; None if there is no such lease."""
        return self._granted.get(lease)

    @staticmethod
    def keys_in(reader: Reader, lease: int) -> list[bytes]:
        """The keys that hang on a lease in an engine, or a snapshot of one, ascending. O(keys)."""
        prefix = _ID.pack(ATTACHED, lease)
        keys = [key[len(prefix) :] for key, _ in reader.scan(prefix=prefix)]
        keys += [key for _, key in reader.scan(prefix=_ID.pack(ATTACHED_LONG, lease))]
        return sorted(keys)

    # ---- evaluation -------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Another entry is evaluated; what came before stays."""
        self._undo.clear()

    def undo(self) -> None:
        """Takes back what was changed since `begin`: the entry came to a Status. O(changes)."""
        while self._undo:
            self._undo.pop()()

    def require(self, lease: int) -> None:
        """Raises Status if there is no such lease."""
        if lease not in self._granted:
            raise Status(*status.LEASE_NOT_FOUND)

    def grant(self, lease: int, ttl: int, index: int) -> int:
        """Grants a lease for so many seconds, which the proposer has raised to the least; returns them. Raises Status.

        index: of the entry that says so.
        """
        if lease == NO_LEASE:
            raise Status(*status.LEASE_NOT_FOUND)
        if ttl > LEASE_TTL_MAX_S:
            raise Status(*status.LEASE_TTL_TOO_LARGE)
        if lease in self._granted:
            raise Status(*status.LEASE_EXIST)
        if len(self._granted) >= self._most:
            raise Status(*status.TOO_MANY_REQUESTS)
        self._set(lease, Granted(ttl, index))
        return ttl

    def revoke(self, lease: int, writes: Revoking) -> None:
        """Deletes a lease and the keys that hang on it. Raises Status. O(keys)."""
        self.require(lease)
        for key in self.keys(lease):
            writes.delete(key)
        self._set(lease, None)

    def expire(self, lease: int, index: int, decided: int, term: int, writes: Revoking) -> bool:
        """Revokes a lease that the leader of the term `decided` has found expired; whether it did.

        index: of its grant. term: of the entry. It does nothing if the terms differ, or if it is another grant or none.
        """
        granted = self._granted.get(lease)
        if decided != term or granted is None or granted.entry != index:
            return False
        self.revoke(lease, writes)
        return True

    def keys(self, lease: int) -> list[bytes]:
        """The keys that hang on a lease, with what the entries before this one and this one have changed. O(keys)."""
        assert self._store is not None
        moved = self._moved.get(lease, {})
        keys = {key for key in self.keys_in(self._store, lease) if moved.get(key, True)}
        return sorted(keys.union(key for key, attached in moved.items() if attached))

    def moved(self, key: bytes, before: int, after: int) -> None:
        """A key that hung on the lease `before` hangs on `after` now; NO_LEASE for none."""
        if before == after:
            return
        if before != NO_LEASE:
            self._move(before, key, False)
        if after != NO_LEASE:
            self._move(after, key, True)

    def _move(self, lease: int, key: bytes, attached: bool) -> None:
        moved = self._moved.setdefault(lease, {})
        was = moved.get(key)
        moved[key] = attached
        if was is None:
            self._undo.append(lambda: moved.pop(key))
        else:
            self._undo.append(lambda: moved.__setitem__(key, was))

    def _set(self, lease: int, to: Granted | None) -> None:
        was, granted = self._granted.get(lease), self._granted
        self._were.setdefault(lease, was)
        if was is None:
            self._undo.append(lambda: granted.pop(lease, None))
        else:
            self._undo.append(lambda: granted.__setitem__(lease, was))
        if to is None:
            del granted[lease]
        else:
            granted[lease] = to

    # ---- with the batch ---------------------------------------------------------------------------------------------

    def read(self, store: Reader) -> None:
        """Reads the table that a store has, which was opened or loaded. Raises DecodeError. O(leases)."""
        granted = {}
        for key, value in store.scan(prefix=GRANTED):
            if len(key) != _ID.size or len(value) != _GRANTED.size:
                raise DecodeError(f"the key {key!r} is not a lease's, or its value isn't")
            granted[_ID.unpack(key)[1]] = Granted(*_GRANTED.unpack(value))
        self._store, self._granted = store, granted
        self._were.clear()
        self._moved.clear()
        self._undo.clear()
        self.on_read()

    def put(self, batch: WriteBatch, entries: Sequence[Entry], machine: object) -> None:
        """Adds to the batch what has changed since the last one. O(changes)."""
        for lease, granted in self._changes().items():
            row = _ID.pack(GRANTED, lease)
            if granted is None:
                batch.delete(row)
            else:
                batch.put(row, _GRANTED.pack(*granted))
        for lease, keys in self._moved.items():
            for key, attached in keys.items():
                row, value = _row(lease, key)
                if attached:
                    batch.put(row, value)
                else:
                    batch.delete(row)

    def _changes(self) -> dict[int, Granted | None]:
        """The leases that differ from what the engine has of them, as they are now."""
        granted = self._granted
        return {lease: granted.get(lease) for lease, was in self._were.items() if granted.get(lease) != was}

    def written(self) -> None:
        """The batch is in the engine."""
        changed = self._changes()
        self._were.clear()
        self._moved.clear()
        self._undo.clear()
        if changed:
            self.on_change(changed)


def _row(lease: int, key: bytes) -> tuple[bytes, bytes]:
    """The row that says that a key hangs on a lease."""
    if _ID.size + len(key) <= MAX_KEY_BYTES:
        return _ID.pack(ATTACHED, lease) + key, b""
    return _ID.pack(ATTACHED_LONG, lease) + hashlib.sha256(key).digest(), key
