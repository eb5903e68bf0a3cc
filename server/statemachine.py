"""The replicated map: committed entries go into one engine, as one batch with the applied index in it.

What is in an entry, server/proposal_bytes.py says. In the engine, the user's keys and ours are kept apart by their first byte:

    k<key>        → the newest version of the key: until revisions begin, the value as the user gave it, escaped if it is
                    like what Bitcask keeps for itself. Every node escapes, whatever its engine, so that what one engine
                    takes, all take. server/mvcc_rows.py has this row, and the next three
    h<revision>   → what one change did
    mrevision     → where revisions are
    mversion      → which rows there are
    mapplied      → index and term of the last entry that was applied, 8 bytes each
    mconf_state   → the members in force there
    mcluster      → the cluster's id, 8 bytes; written with the first entry, not there in stores of earlier versions
    mmembers      → the members' addresses and directories (server/address_book.py); with the first entry, too
    mdigest       → the running digest of the entries (server/digest.py); not there in stores of earlier versions
    ms<session>   → the last request of a session (server/sessions.py)

Invariants:

1. After any crash, the engine holds the effect of exactly the entries 1 to `applied.index`, because the index is in the
   same atomic batch as the effect. (etcd 3.5.0 wrote the two apart, and after a crash skipped entries.)
2. The engine is never synced for an entry: what a crash takes from it, the Raft log still has, and applies again.
   `flush` comes before the log is cut.
3. Two nodes with the same applied index have the same pairs, byte for byte, on any two engines.

Lookup is for any thread; apply, recover_from_snapshot and close are for the thread that owns the Raft node.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from engines.coding import DecodeError
from engines.errors import CorruptionError
from engines.kvstore import KVStore, Operation, Pair, Snapshot, WriteBatch
from raft.errors import DecodeError as RaftDecodeError
from raft.raftpb import (
    CONF_CHANGE_ADD_NODE,
    ENTRY_NORMAL,
    ConfChange,
    ConfChangeV2,
    ConfState,
    Entry,
    SnapshotMetadata,
)
from server.address_book import CONF_CHANGES, BookChange
from server.digest import RunningDigest
from server.errors import WAY_OUT, DirectoryRefused, NodeError, RightsChanged, UndecodableEntry
from server.evaluation import Evaluate, Evaluated, Request
from server.limits import KEY_BYTES_MAX
from server.mvcc import Change, LeaseMoved, View, Writes, state_of
from server.mvcc_compaction import EVERY, OWED_MAX, pay, step
from server.mvcc_fast import new_writes
from server.mvcc_rows import USER, State, plain_value
from server.principal import Guard, Principal
from server.proposal_bytes import Proposal, decode_proposal, encode_proposal, kind_of_proposal
from server.sessions import Sessions

__all__ = [
    "APPLIED",
    "CLUSTER",
    "CONF_STATE",
    "MAX_KEY_BYTES",
    "MAX_VALUE_BYTES",
    "USER",
    "Applied",
    "MachineSnapshot",
    "OwnKeys",
    "Proposal",
    "StateMachine",
    "applied_bytes",
    "applied_of",
    "cluster_bytes",
    "decode_proposal",
    "encode_proposal",
    "kind_of_proposal",
]

MAX_KEY_BYTES = KEY_BYTES_MAX
MAX_VALUE_BYTES = 64 << 20  # far above what the front end lets through; every engine takes it

APPLIED = b"mapplied"
CLUSTER = b"mcluster"
CONF_STATE = b"mconf_state"

_APPLIED = struct.Struct("<QQ")
_CLUSTER = struct.Struct("<Q")


class Applied(NamedTuple):
    """A proposal that has been applied: what its client is told, and whose it was.

    outcome: the index of its entry; of a write that its session has sent before, the first one's index, or an error; of a
    request what it came to.
    """

    outcome: int | NodeError | Evaluated
    origin: int
    sequence: int


class OwnKeys(Protocol):
    """A part of the server that keeps something in the engine beside the users' pairs, under keys that begin with `m`.

    What it puts there must follow from the entries alone, however they are divided into batches.
    """

    def read(self, store: KVStore) -> None:
        """Reads what an engine has that was opened, or loaded from a snapshot. Raises DecodeError."""

    def put(self, batch: WriteBatch, entries: Sequence[Entry], machine: StateMachine) -> None:
        """Adds to the batch what these entries change; `machine` still says what was before them."""

    def written(self) -> None:
        """The batch is in the engine."""


class MachineSnapshot(NamedTuple):
    """The state after one entry: what it stands for, the view that holds it, and its pairs in key order."""

    metadata: SnapshotMetadata
    view: Snapshot

    def pairs(self) -> Iterator[Pair]:
        """All pairs of the engine, ours among them, so that loading them restores the applied index too."""
        return self.view.scan()


def applied_of(value: bytes) -> tuple[int, int]:
    """Index and term in the value of APPLIED; (0, 0) for what is none."""
    return _APPLIED.unpack(value) if len(value) == _APPLIED.size else (0, 0)


def applied_bytes(index: int, term: int) -> bytes:
    """The value of APPLIED."""
    return _APPLIED.pack(index, term)


def cluster_bytes(cluster_id: int) -> bytes:
    """The value of CLUSTER."""
    return _CLUSTER.pack(cluster_id)


def _evaluates_nothing(index: int, term: int, data: bytes, writes: Writes) -> object:
    return NodeError("this program answers no requests of the v3 interface")


class StateMachine:
    """The map that Raft replicates, on an engine of any kind. It owns the store."""

    def __init__(
        self,
        store: KVStore,
        cluster_id: int = 0,
        skip_entries: Collection[int] = (),
        own_keys: Sequence[OwnKeys] = (),
        sessions: Sessions | None = None,
    ) -> None:
        """Takes over an open store. cluster_id: whose content it has to be, 0 for anybody's. skip_entries: indexes of
        entries that are passed over if they can't be decoded. own_keys: what else is kept in the engine. sessions: an
        empty table, if not one of the size that all nodes have.

        Raises CorruptionError if it has content that isn't a state machine's, DirectoryRefused for another cluster's.
        """
        self._store = store
        self._skip_entries = skip_entries
        self._cluster = _CLUSTER.pack(cluster_id) if cluster_id else b""
        self.applied_index = 0
        self.applied_term = 0
        self.conf_state: ConfState | None = None  # None until a first entry or snapshot says who takes part
        self.sessions = Sessions() if sessions is None else sessions
        self.digest = RunningDigest()
        self.passed_over: set[int] = set()  # of the entries that aren't applied yet
        self._own_keys: Sequence[OwnKeys] = (self.sessions, self.digest, *own_keys)
        self._members_after: dict[int, ConfState] = {}  # of the membership changes that aren't applied yet
        self.evaluate: Evaluate = _evaluates_nothing
        self.guard: Guard | None = None  # asked before simple writes; None: nothing has anything against them
        self.lease_moved: LeaseMoved | None = None
        self.changes_taps: list[Callable[[Sequence[Change]], object]] = []  # told of a batch once it is in the engine
        self._state: State | None = None  # where revisions are; None if they have not begun
        self._read_own_keys()
        self._writes = Writes(store, self._state, WriteBatch())

    def _read_own_keys(self) -> None:
        for read in (self._read_state, *(own.read for own in self._own_keys)):
            try:
                read(self._store)
            except DecodeError as error:
                raise CorruptionError(getattr(self._store, "path", "the store"), None, str(error)) from None
        applied = self._store.get(APPLIED)
        if applied is None:
            if next(self._store.scan(), None) is not None:
                raise CorruptionError(
                    getattr(self._store, "path", "the store"),
                    None,
                    f"a node's store has the key {APPLIED!r}, and this one has keys but not that one: "
                    "it isn't a node's, or it was changed by hand; give the node an empty directory",
                )
            self.applied_index = self.applied_term = 0
            self.conf_state = None
            return
        self._check_cluster(self._store.get(CLUSTER), getattr(self._store, "path", "the store"))
        self.applied_index, self.applied_term = _APPLIED.unpack(applied)
        conf_state = self._store.get(CONF_STATE)
        self.conf_state = None if conf_state is None else ConfState.decode(conf_state)

    def _read_state(self, store: KVStore) -> None:
        self._state = state_of(store)

    def _check_cluster(self, found: bytes | None, where: str) -> None:
        if found is not None and self._cluster not in (b"", found):
            raise DirectoryRefused(
                f"{where} is of cluster {_CLUSTER.unpack(found)[0]:016x}, and this node is of cluster "
                f"{_CLUSTER.unpack(self._cluster)[0]:016x}: it was put here from elsewhere; {WAY_OUT}"
            )

    @property
    def persistent(self) -> bool:
        """False if the engine forgets everything on close, so that only a snapshot file outlives the process."""
        return self._store.persistent

    @property
    def store(self) -> KVStore:
        """The engine, for its stats and its description."""
        return self._store

    def lookup(self, key: bytes) -> bytes | None:
        """The value of a user's key here and now; whether that is recent enough is the caller's business."""
        row = self._store.get(USER + key)
        return None if row is None else plain_value(row)

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, *, prefix: bytes | None = None, reverse: bool = False
    ) -> Iterator[Pair]:
        """The user's pairs with start <= key < stop that begin with `prefix`, lazily, all of the moment of the call."""
        pairs = self._store.scan(
            USER + start,
            None if stop is None else USER + stop,
            prefix=USER + (prefix or b""),
            reverse=reverse,
        )
        values = ((key[1:], plain_value(row)) for key, row in pairs)
        return ((key, value) for key, value in values if value is not None)

    @contextmanager
    def view(self) -> Iterator[View]:
        """All versions of all keys, as they are now, for any thread. O(what the engine's snapshot costs)."""
        with self._store.snapshot() as snapshot:
            yield View(snapshot)

    @property
    def newest(self) -> View:
        """The same without a snapshot, for the thread that applies: it shows one moment until the next `apply`. O(1)."""
        return View(self._store, self._state or State())

    @property
    def revisions(self) -> State | None:
        """Where revisions are; None if they have not begun. For any thread."""
        return self._state

    @property
    def revision(self) -> int:
        """The current main revision. For any thread."""
        return 1 if self._state is None else self._state.revision

    def apply(self, entries: Sequence[Entry], conf_state: ConfState | None = None) -> list[Applied]:
        """Applies committed entries, in one atomic batch with the index and term of the last; returns whose they were.

        entries: at least one; they follow on `applied_index` without a gap, and are stable in the Raft log: who calls
        guarantees both. conf_state: the members in force, given when they changed.
        One `_write`, of a batch (`_new_batch`) with the effect of all of them in their order, and this module's own keys:
        APPLIED, CONF_STATE if it was given, CLUSTER with the very first entry if the cluster has an id. `proposal_in` says
        what an entry proposes; an entry without a proposal counts for APPLIED, and does nothing else. `sessions.admit`
        makes of an entry's index and its proposal's operations what the proposer is told and what is to be done;
        `_carry_out` adds what is to be done to the batch, and gives the outcome for the Applied. After the write,
        `applied_index`, `applied_term` and `conf_state` say the same as the engine.
        Returns an Applied for each proposal, in order. Raises what `proposal_in` raises: then nothing was applied, and
        the node must stop, for whatever it did next would make it differ from the others. O(bytes), one batch.
        """
        assert entries[0].index == self.applied_index + 1
        batch = self._new_batch()
        applied = []
        for entry in entries:
            proposal = self.proposal_in(entry)
            if proposal is None:
                continue
            origin, sequence, proposed = proposal
            outcome, operations = self.sessions.admit(entry.index, proposed)
            applied.append(Applied(self._carry_out(entry, outcome, operations), origin, sequence))
        last = entries[-1]
        batch.put(APPLIED, _APPLIED.pack(last.index, last.term))
        if self.applied_index == 0 and self._cluster:
            batch.put(CLUSTER, self._cluster)
        if conf_state is not None:
            batch.put(CONF_STATE, conf_state.encode())
        self._write(batch, entries)
        self.applied_index, self.applied_term = last.index, last.term
        if conf_state is not None:
            self.conf_state = conf_state
        return applied

    def _new_batch(self) -> WriteBatch:
        """An empty batch, into which `_carry_out` puts."""
        batch = WriteBatch()
        self._writes = new_writes(self._store, self._state, batch, self.lease_moved)
        return batch

    def _carry_out(
        self, entry: Entry, outcome: int | NodeError, operations: Sequence[Operation | Principal | Request]
    ) -> int | NodeError | Evaluated:
        """Adds to the newest batch what these operations of an entry do; `outcome`, or what a request comes to, or why `guard`
        refuses them.

        Sizes and types were checked when the operations were proposed. O(bytes), and a read of the engine for each key.
        """
        writes = self._writes
        request = operations[0] if operations else None
        if not isinstance(request, Request):
            if self.guard is not None or isinstance(request, Principal):
                outcome, operations = self._guarded(entry.index, outcome, operations)
            writes.carry_out(operations)  # type: ignore[arg-type]  # a Request is alone or not there, a Principal was first
            if writes.owed >= OWED_MAX or not entry.index % EVERY:
                pay(writes, entry.index)
            return outcome
        writes.begin()
        writes.begin_revisions()
        if not request.data:
            step(writes)
            return Evaluated(None)
        answer = self._evaluated(entry, request)
        if isinstance(answer, Exception):
            writes.undo()
            writes.begin_revisions()
        pay(writes, entry.index)
        return Evaluated(answer)

    def _guarded(
        self, index: int, outcome: int | NodeError, operations: Sequence[Operation | Principal | Request]
    ) -> tuple[int | NodeError, Sequence[Operation]]:
        """What simple writes come to, whom a Principal may ask for: outcome and what is to be done, or an error and nothing."""
        who = operations[0] if operations and isinstance(operations[0], Principal) else None
        writes: Sequence[Operation] = operations[1:] if who else operations  # type: ignore[assignment]
        refused = self.guard(who, writes) if self.guard is not None and writes else None
        if refused is None:
            return outcome, writes
        self.sessions.refused(index, isinstance(refused, RightsChanged))
        return refused, ()

    def _evaluated(self, entry: Entry, request: Request) -> object:
        """What a request comes to: a response or an exception; the latter as well for one that is passed over. Raises
        UndecodableEntry for one that this version doesn't know, and whatever else ends the node."""
        try:
            return self.evaluate(entry.index, entry.term, request.data, self._writes)
        except UndecodableEntry as error:
            if entry.index not in self._skip_entries:
                raise
            self.passed_over.add(entry.index)
            return error

    def _write(self, batch: WriteBatch, entries: Sequence[Entry]) -> None:
        """Writes the batch that applies these entries, unsynced, and with it what else they change among our own keys."""
        writes = self._writes
        writes.end()
        for own in self._own_keys:
            own.put(batch, entries, self)
        self._store.write(batch, sync=False)
        before = self.revision
        self._state = writes.state if writes.begun else None
        self._members_after = {at: state for at, state in self._members_after.items() if at > entries[-1].index}
        self.passed_over = {at for at in self.passed_over if at > entries[-1].index}
        for own in self._own_keys:
            own.written()
        if writes.revision != before:
            changes = writes.made()
            for tap in self.changes_taps:
                tap(changes)

    def note_members(self, index: int, conf_state: ConfState) -> None:
        """The committed membership change at `index`, which isn't applied yet, leads to these members."""
        if index > self.applied_index:
            self._members_after[index] = conf_state

    def members_after(self, index: int) -> ConfState:
        """Who takes part after the membership change at `index`. Requires: `note_members` was told."""
        return self._members_after[index]

    def conf_change(self, entry: Entry) -> ConfChange | ConfChangeV2:
        """The membership change of a committed entry; one that is passed over changes nothing. Raises UndecodableEntry."""
        try:
            change = entry.conf_change()
            BookChange.decode(change.context)
            return change
        except (RaftDecodeError, DecodeError) as error:
            if entry.index not in self._skip_entries:
                raise UndecodableEntry(entry.index, entry.term, str(error)) from None
            self.passed_over.add(entry.index)
            return ConfChange(CONF_CHANGE_ADD_NODE, 0)

    def proposal_in(self, entry: Entry) -> Proposal | None:
        """What an entry proposes; None for a membership change, for a new leader's empty entry, and for one that is
        passed over. Raises UndecodableEntry for an entry that no node of ours proposed."""
        if entry.type in CONF_CHANGES or not entry.data:
            return None
        try:
            if entry.type != ENTRY_NORMAL:
                raise DecodeError(f"its type is {entry.type}, which is unknown here")
            return decode_proposal(entry.data)
        except DecodeError as error:
            if entry.index in self._skip_entries:
                self.passed_over.add(entry.index)
                return None
            raise UndecodableEntry(entry.index, entry.term, str(error)) from None

    def snapshot(self) -> MachineSnapshot:
        """The current state. Its view may be read and closed by another thread. Requires: `conf_state` is known."""
        assert self.conf_state is not None
        return MachineSnapshot(
            SnapshotMetadata(self.applied_index, self.applied_term, self.conf_state), self._store.snapshot()
        )

    def recover_from_snapshot(self, metadata: SnapshotMetadata, pairs: Iterable[Pair]) -> None:
        """Replaces everything by a snapshot's pairs; after a crash it is the old state or the new one.

        pairs: all keys of the engine that took the snapshot, those of this module among them, ascending: for
        `KVStore.load`, which is atomic on every engine, after `_of_this_cluster` has looked at them. Then `applied_index`
        and its companions are what the new content says (`_read_own_keys`). Raises CorruptionError if that isn't
        `metadata.index`, DirectoryRefused if the pairs are another cluster's; what `pairs` itself raises passes through.
        Readers see the old state until the new one is whole. O(bytes), in the memory of one pair.
        """
        self._store.load(self._of_this_cluster(pairs))
        self._read_own_keys()
        if self.applied_index != metadata.index:
            raise CorruptionError(
                "snapshot", None, f"the snapshot is of index {metadata.index}, but its pairs say {self.applied_index}"
            )

    def _of_this_cluster(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """The same pairs; our own keys come last among them, and one of them says whose they are."""
        for key, value in pairs:
            if key == CLUSTER:
                self._check_cluster(value, "the snapshot")
            yield key, value

    def flush(self) -> None:
        """Makes everything that was applied durable, so that the Raft log before it can go. One synced write.

        It writes the applied index again. A power cut takes a write only with everything after it (engines/kvstore.py,
        promise 3), so what came before a synced write is on disk, too. The engine's own flush does more than is needed: an
        LSM tree makes a table of its memtable, 70 to 180 ms for 10,000 small entries, where this takes 1 to 3.
        For any thread, while nothing is applied.
        """
        batch = WriteBatch()
        batch.put(APPLIED, _APPLIED.pack(self.applied_index, self.applied_term))
        self._store.write(batch, sync=True)

    def close(self) -> None:
        """Closes the store."""
        self._store.close()
