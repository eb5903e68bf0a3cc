"""The address book: who the members are, where each one's peer port is, and with which directory it has to come.

It is a value in the state machine's own keys, `mmembers`. The entries that change who takes part (raft, ConfChange and
ConfChangeV2) change it, in the batch in which they are applied. So it is the same on all members at the same index, it
travels in every snapshot, and a crash leaves the book and the configuration of one index, never of two.

    0   1  version          1
    1   4  count            members, by ascending id; for each of them
    …   8  id
    …   8  number           its directory's (server/identity.py); 0 if nobody has asked for a particular one
    …   8  admitted         index of the entry that let it in, or let it in again; 0 if it is of the first list
    …   1  learner          1 if it has no vote
    …   2  port
    …   2  host size        then the host, in UTF-8
    …   4  count            ids that were removed and are no members now, by ascending id; for each of them
    …   8  id
    …   8  index            of the entry that removed it

What the entry of a change says beside raft's own words is its context:

    0   8  origin           who proposed it, as in a write (server/statemachine.py)
    8   8  sequence         which of its proposals
   16   1  version          1
   17   2  count            records; for each of them
    …   1  admits           1 if the member is let in anew: its directory is another one than before
    …   8  id
    …   8  number           0: any
    …   2  port
    …   2  host size        then the host

Who votes and who learns is not said twice: the book takes it from the configuration that the entry leads to.

Invariants:

1. The ids of the book are those of the configuration in force at the applied index, learners and voters alike, and those
   that a joint configuration still needs.
2. `admitted` of an id only grows. Two directories of one id are told apart by it: the later one is the one that counts.
3. A removed id is remembered with its index, so that a node that comes back can be told. REMOVED_MAX of them are; the
   longest removed are forgotten first.

Left out: names and URLs of clients, which are the v3 interface's (server/v3/attributes.py). Follows etcd's server/etcdserver/api/membership.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from engines.coding import DecodeError
from engines.kvstore import KVStore, WriteBatch
from raft.raftpb import ENTRY_CONF_CHANGE, ENTRY_CONF_CHANGE_V2, ConfChange, ConfChangeV2, ConfState, Entry
from server.addresses import netloc
from server.limits import REMOVED_MAX

__all__ = ["CONF_CHANGES", "MEMBERS", "AddressBook", "Applying", "Book", "BookChange", "Member", "Record", "first_book"]

CONF_CHANGES = (ENTRY_CONF_CHANGE, ENTRY_CONF_CHANGE_V2)
MEMBERS = b"mmembers"
VERSION = 1
APPLIED_MAX = 100

_COUNT = struct.Struct("<I")
_MEMBER = struct.Struct("<QQQBHH")
_REMOVED = struct.Struct("<QQ")
_CHANGE = struct.Struct("<QQBH")
_RECORD = struct.Struct("<BQQHH")


@dataclass(frozen=True, slots=True)
class Member:
    """One member; the module's docstring has the fields. host: "" if no entry has said where it is."""

    host: str
    port: int
    number: int = 0
    admitted: int = 0
    learner: bool = False

    @property
    def address(self) -> tuple[str, int]:
        """Where its peer port is."""
        return self.host, self.port


@dataclass(frozen=True, slots=True)
class Record:
    """What a change says of one member."""

    id: int
    host: str
    port: int
    number: int = 0
    admits: bool = False


@dataclass(frozen=True, slots=True)
class BookChange:
    """The context of a membership change: whose proposal it is, and what becomes of the book."""

    origin: int = 0
    sequence: int = 0
    records: tuple[Record, ...] = ()

    def encode(self) -> bytes:
        """Its bytes. Requires: hosts of less than 65,536 bytes."""
        parts = [_CHANGE.pack(self.origin, self.sequence, VERSION, len(self.records))]
        for record in self.records:
            host = record.host.encode()
            parts += (_RECORD.pack(record.admits, record.id, record.number, record.port, len(host)), host)
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> BookChange:
        """What `data`, all of it, says; the change that says nothing if it is empty. Raises DecodeError."""
        if not data:
            return cls()
        reader = _Reader(data, "a change of the address book")
        origin, sequence, version, count = reader.take(_CHANGE)
        reader.require(version == VERSION, f"is of version {VERSION}, and this one of {version}")
        records = []
        for _ in range(count):
            admits, node, number, port, size = reader.take(_RECORD)
            reader.require(admits <= 1, f"admits (1) or doesn't (0), and here is {admits}")
            records.append(Record(node, reader.text(size), port, number, bool(admits)))
        reader.end()
        return cls(origin, sequence, tuple(records))


@dataclass(frozen=True, slots=True)
class Book:
    """The members at one index, and the ids that were removed up to there."""

    members: Mapping[int, Member] = field(default_factory=dict)
    removed: Mapping[int, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Its bytes; the same book has the same bytes."""
        parts = [bytes([VERSION]), _COUNT.pack(len(self.members))]
        for node, member in sorted(self.members.items()):
            host = member.host.encode()
            fields = (node, member.number, member.admitted, member.learner, member.port, len(host))
            parts += (_MEMBER.pack(*fields), host)
        parts.append(_COUNT.pack(len(self.removed)))
        parts += (_REMOVED.pack(node, index) for node, index in sorted(self.removed.items()))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Book:
        """What `data`, all of it, says. Raises DecodeError; believes no count and no length."""
        reader = _Reader(data, "an address book")
        [version] = reader.take(struct.Struct("<B"))
        reader.require(version == VERSION, f"is of version {VERSION}, and this one of {version}")
        members: dict[int, Member] = {}
        for _ in range(reader.count(_MEMBER.size)):
            node, number, admitted, learner, port, size = reader.take(_MEMBER)
            reader.require(not members or node > max(members), f"has ascending ids, and node {node} is out of order")
            reader.require(learner <= 1, f"says learner (1) or voter (0), and here is {learner}")
            members[node] = Member(reader.text(size), port, number, admitted, bool(learner))
        removed: dict[int, int] = {}
        for _ in range(reader.count(_REMOVED.size)):
            node, at = reader.take(_REMOVED)
            removed[node] = at
        reader.end()
        return cls(members, removed)

    def dump(self) -> list[str]:
        """A line for each member and each id that was removed."""
        lines = [
            f"node {node} at {netloc(*member.address)}, {'learner' if member.learner else 'voter'}, "
            + (f"admitted at entry {member.admitted}" if member.admitted else "of the first list")
            + (f", directory {member.number:016x}" if member.number else "")
            for node, member in sorted(self.members.items())
        ]
        return [*lines, *(f"node {node} was removed at entry {at}" for node, at in sorted(self.removed.items()))]

    def changed(self, index: int, change: BookChange, conf_state: ConfState) -> Book:
        """The book after the entry `index`, which has led to `conf_state`. O(members)."""
        present = {*conf_state.voters, *conf_state.voters_outgoing, *conf_state.learners}
        members = dict(self.members)
        for record in change.records:
            before = members.get(record.id)
            admitted = index if before is None or record.admits else before.admitted
            members[record.id] = Member(record.host, record.port, record.number, admitted)
        gone = self.members.keys() - present
        removed = {**self.removed, **dict.fromkeys(gone, index)}
        kept = sorted((at, node) for node, at in removed.items() if node not in present)[-REMOVED_MAX:]
        unknown = Member("", 0, admitted=index)
        return Book(
            {
                node: replace(members.get(node, unknown), learner=node in conf_state.learners)
                for node in sorted(present)
            },
            {node: at for at, node in kept},
        )


def first_book(addresses: Mapping[int, tuple[str, int]]) -> Book:
    """The book of a cluster that begins with these nodes, all of them voters."""
    return Book({node: Member(host, port) for node, (host, port) in sorted(addresses.items())})


class Applying(Protocol):
    """The part of a state machine that the book asks while entries are applied."""

    @property
    def applied_index(self) -> int: ...
    def conf_change(self, entry: Entry) -> ConfChange | ConfChangeV2: ...
    def members_after(self, index: int) -> ConfState: ...


class AddressBook:
    """The book as the state machine keeps it (server/statemachine.py, OwnKeys). For the thread that applies.

    `book` may be read by any thread: it is replaced as a whole, after the batch is written.
    """

    def __init__(self, first: Book) -> None:
        """first: the book of the cluster's first list, which counts until the engine has one."""
        self._first = first
        self.book = first
        self._next = first
        self.applied: dict[tuple[int, int], int] = {}  # the last changes: origin and sequence → index
        self._applying: dict[tuple[int, int], int] = {}

    def read(self, store: KVStore) -> None:
        """Reads the book of an engine that was opened or loaded. Raises DecodeError."""
        found = store.get(MEMBERS)
        self.book = self._next = self._first if found is None else Book.decode(found)

    def put(self, batch: WriteBatch, entries: Sequence[Entry], machine: Applying) -> None:
        """Adds the book to the batch that applies `entries`, if they change it, and with a node's very first entry."""
        book = self.book
        self._applying = {}
        for entry in entries:
            if entry.type in CONF_CHANGES:
                change = BookChange.decode(machine.conf_change(entry).context)
                book = book.changed(entry.index, change, machine.members_after(entry.index))
                self._applying[change.origin, change.sequence] = entry.index
        if book is not self.book or machine.applied_index == 0:
            batch.put(MEMBERS, book.encode())
        self._next = book

    def written(self) -> None:
        """The batch is in the engine."""
        if self._applying:
            self.applied = dict([*self.applied.items(), *self._applying.items()][-APPLIED_MAX:])
            self._applying = {}
        self.book = self._next


class _Reader:
    """Takes bytes apart, and believes no length."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._at = 0

    def require(self, holds: bool, sentence: str) -> None:
        if not holds:
            raise DecodeError(f"{self._what} {sentence}")

    def _bytes(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        self.require(len(found) == size, f"ends in the middle: {size} bytes were expected at byte {self._at}")
        self._at += size
        return found

    def take(self, fields: struct.Struct) -> tuple[int, ...]:
        return fields.unpack(self._bytes(fields.size))

    def count(self, least_bytes: int) -> int:
        """A count of things that have `least_bytes` or more each."""
        [count] = self.take(_COUNT)
        left = len(self._data) - self._at
        self.require(count * least_bytes <= left, f"can't have {count} of them in the {left} bytes that are left")
        return count

    def text(self, size: int) -> str:
        try:
            return self._bytes(size).decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"{self._what} has a host that is no UTF-8: {error}") from None

    def end(self) -> None:
        self.require(self._at == len(self._data), f"ends at byte {self._at}, and there are {len(self._data)}")
