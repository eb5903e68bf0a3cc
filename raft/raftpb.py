"""The data of Raft, and its bytes: entries, messages, hard state, configuration, snapshots.

The classes and their fields are those of etcd-io/raft's raftpb/raft.proto, and the message types carry its numbers. The
encoding is our own: fixed little-endian structs. The same bytes of an entry go to the write-ahead log and to every
peer. Nothing is ever pickled: unpickling what a peer sent would let the peer run code here.

All integers are unsigned. Nothing delimits itself; the frame around (a record of the log, a frame of the transport)
carries the length, and the last variable field takes the rest.

    Entry            0  1  type              0 normal, 1 conf change, 2 conf change v2
                     1  8  term
                     9  8  index
                    17  …  data
    HardState        0  8  term              8  8  vote             16  8  commit
    SnapshotMetadata 0  8  index             8  8  term             16  …  ConfState (confpb.py)
    Snapshot         0  4  length n of the metadata
                     4  n  SnapshotMetadata
                   4+n  …  data
    Message          0  1  type              0 to 23
                     1  1  flags             bit 0: reject, bit 1: a snapshot follows
                     2  8  to               10  8  from             18  8  term
                    26  8  log term         34  8  index            42  8  commit
                    50  8  reject hint      58  8  vote
                    66  4  length c of the context
                    70  4  number n of entries
                    74  c  context
                  74+c 4n  length of each entry
                     …  …  the entries
                     …  …  Snapshot, if flagged

Invariants
 1. decode(encode(x)) == x; and what decodes encodes to the same bytes: there is one encoding for each value.
 2. A decoder believes no length: each is checked against what is left before anything of that size is made. Whatever
    the bytes are, it returns or raises `DecodeError`; the cost is O(len(data)).
 3. An `Entry` is never changed after it is made. Logs, messages and the peers' queues share it.

Left out: protobuf's wire format (etcd's proto2 field numbers), because nobody but us reads these bytes, and a struct is
several times faster in Python than a varint parser; `Message.responses`, because the messages to this node's own storage
that have them never leave the process.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from raft.confpb import ConfChange, ConfChangeSingle, ConfChangeV2, ConfState
from raft.errors import DecodeError
from raft.kinds import ConfChangeTransition, ConfChangeType, EntryType, MessageType

__all__ = [
    "CONF_CHANGE_ADD_LEARNER_NODE",
    "CONF_CHANGE_ADD_NODE",
    "CONF_CHANGE_REMOVE_NODE",
    "CONF_CHANGE_UPDATE_NODE",
    "ENTRY_CONF_CHANGE",
    "ENTRY_CONF_CHANGE_V2",
    "ENTRY_NORMAL",
    "MSG_APP",
    "MSG_APP_RESP",
    "MSG_BEAT",
    "MSG_CHECK_QUORUM",
    "MSG_FORGET_LEADER",
    "MSG_HEARTBEAT",
    "MSG_HEARTBEAT_RESP",
    "MSG_HUP",
    "MSG_PRE_VOTE",
    "MSG_PRE_VOTE_RESP",
    "MSG_PROP",
    "MSG_READ_INDEX",
    "MSG_READ_INDEX_RESP",
    "MSG_SNAP",
    "MSG_SNAP_STATUS",
    "MSG_STORAGE_APPEND",
    "MSG_STORAGE_APPEND_RESP",
    "MSG_STORAGE_APPLY",
    "MSG_STORAGE_APPLY_RESP",
    "MSG_TIMEOUT_NOW",
    "MSG_TRANSFER_LEADER",
    "MSG_UNREACHABLE",
    "MSG_VOTE",
    "MSG_VOTE_RESP",
    "ConfChange",
    "ConfChangeSingle",
    "ConfChangeTransition",
    "ConfChangeType",
    "ConfChangeV2",
    "ConfState",
    "DecodeError",
    "Entry",
    "EntryType",
    "HardState",
    "Message",
    "MessageType",
    "Snapshot",
    "SnapshotMetadata",
]

# The members under names of their own, for modules that compare them for every message (kinds.py says why).
ENTRY_NORMAL: Final = EntryType.NORMAL
ENTRY_CONF_CHANGE: Final = EntryType.CONF_CHANGE
ENTRY_CONF_CHANGE_V2: Final = EntryType.CONF_CHANGE_V2

CONF_CHANGE_ADD_NODE: Final = ConfChangeType.ADD_NODE
CONF_CHANGE_REMOVE_NODE: Final = ConfChangeType.REMOVE_NODE
CONF_CHANGE_UPDATE_NODE: Final = ConfChangeType.UPDATE_NODE
CONF_CHANGE_ADD_LEARNER_NODE: Final = ConfChangeType.ADD_LEARNER_NODE

MSG_HUP: Final = MessageType.HUP
MSG_BEAT: Final = MessageType.BEAT
MSG_PROP: Final = MessageType.PROP
MSG_APP: Final = MessageType.APP
MSG_APP_RESP: Final = MessageType.APP_RESP
MSG_VOTE: Final = MessageType.VOTE
MSG_VOTE_RESP: Final = MessageType.VOTE_RESP
MSG_SNAP: Final = MessageType.SNAP
MSG_HEARTBEAT: Final = MessageType.HEARTBEAT
MSG_HEARTBEAT_RESP: Final = MessageType.HEARTBEAT_RESP
MSG_UNREACHABLE: Final = MessageType.UNREACHABLE
MSG_SNAP_STATUS: Final = MessageType.SNAP_STATUS
MSG_CHECK_QUORUM: Final = MessageType.CHECK_QUORUM
MSG_TRANSFER_LEADER: Final = MessageType.TRANSFER_LEADER
MSG_TIMEOUT_NOW: Final = MessageType.TIMEOUT_NOW
MSG_READ_INDEX: Final = MessageType.READ_INDEX
MSG_READ_INDEX_RESP: Final = MessageType.READ_INDEX_RESP
MSG_PRE_VOTE: Final = MessageType.PRE_VOTE
MSG_PRE_VOTE_RESP: Final = MessageType.PRE_VOTE_RESP
MSG_STORAGE_APPEND: Final = MessageType.STORAGE_APPEND
MSG_STORAGE_APPEND_RESP: Final = MessageType.STORAGE_APPEND_RESP
MSG_STORAGE_APPLY: Final = MessageType.STORAGE_APPLY
MSG_STORAGE_APPLY_RESP: Final = MessageType.STORAGE_APPLY_RESP
MSG_FORGET_LEADER: Final = MessageType.FORGET_LEADER

_ENTRY = struct.Struct("<BQQ")
_HARD_STATE = struct.Struct("<QQQ")
_SNAPSHOT_METADATA = struct.Struct("<QQ")
_LENGTH = struct.Struct("<I")
_MESSAGE = struct.Struct("<BB8QII")

_ENTRY_TYPES: Final = tuple(EntryType)
_MESSAGE_TYPES: Final = tuple(MessageType)

_REJECT = 1
_HAS_SNAPSHOT = 2


def _require(data: bytes, size_bytes: int, what: str) -> None:
    if len(data) < size_bytes:
        raise DecodeError(f"{what} needs at least {size_bytes} bytes, but there are {len(data)}")


class Entry:
    """One entry of the log. Never changed after it is made (invariant 3).

    term, index: 0 in a proposal; the leader makes a new entry with its own.
    type: ENTRY_NORMAL, ENTRY_CONF_CHANGE (data is an encoded `ConfChange`) or ENTRY_CONF_CHANGE_V2.
    data: the application's bytes; empty in the entry with which a leader opens its term.

    A plain class with slots, because a frozen dataclass takes three times as long to make, and one is made for each
    proposal on each node. The encoding isn't kept: beside the data it would double what an entry costs in memory.
    """

    __slots__ = ("data", "index", "term", "type")

    def __init__(self, term: int, index: int, type: EntryType = ENTRY_NORMAL, data: bytes = b"") -> None:
        self.term = term
        self.index = index
        self.type = type
        self.data = data

    def size(self) -> int:
        """Bytes of the encoded entry; all size limits of the library count these. O(1)."""
        return 17 + len(self.data)

    def encode(self) -> bytes:
        """The bytes of this entry. O(size)."""
        return _ENTRY.pack(self.type, self.term, self.index) + self.data

    def conf_change(self) -> ConfChange | ConfChangeV2:
        """The membership change in it. Requires: type is not ENTRY_NORMAL. Raises `DecodeError`."""
        return ConfChange.decode(self.data) if self.type == ENTRY_CONF_CHANGE else ConfChangeV2.decode(self.data)

    @classmethod
    def decode(cls, data: bytes) -> Entry:
        """The entry that `data`, all of it, encodes. Raises `DecodeError`. O(size)."""
        if len(data) < 17:
            raise DecodeError(f"an entry needs at least 17 bytes, but there are {len(data)}")
        type_, term, index = _ENTRY.unpack_from(data)
        if type_ > ENTRY_CONF_CHANGE_V2:
            raise DecodeError(f"an entry's type is 0, 1 or 2, but this one's is {type_}")
        return cls(term, index, _ENTRY_TYPES[type_], data[17:])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return (
            self.index == other.index
            and self.term == other.term
            and self.type == other.type
            and self.data == other.data
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Entry(term={self.term}, index={self.index}, type={self.type}, data={self.data!r})"


class HardState(NamedTuple):
    """What a node must not forget: its term, whom it voted for in it (0 is nobody), how far it knows of commits.

    A tuple, because one is made for most Readys, and a frozen dataclass takes three times as long.
    """

    term: int = 0
    vote: int = 0
    commit: int = 0

    def is_empty(self) -> bool:
        return self.term == 0 and self.vote == 0 and self.commit == 0

    def encode(self) -> bytes:
        return _HARD_STATE.pack(self.term, self.vote, self.commit)

    @classmethod
    def decode(cls, data: bytes) -> HardState:
        if len(data) != _HARD_STATE.size:
            raise DecodeError(f"a hard state has {_HARD_STATE.size} bytes, but there are {len(data)}")
        return cls(*_HARD_STATE.unpack(data))


@dataclass(frozen=True, slots=True)
class SnapshotMetadata:
    """The last entry that a snapshot holds (index and term), and the configuration in force there."""

    index: int = 0
    term: int = 0
    conf_state: ConfState = field(default_factory=ConfState)

    def encode(self) -> bytes:
        return _SNAPSHOT_METADATA.pack(self.index, self.term) + self.conf_state.encode()

    @classmethod
    def decode(cls, data: bytes) -> SnapshotMetadata:
        _require(data, _SNAPSHOT_METADATA.size, "the metadata of a snapshot")
        index, term = _SNAPSHOT_METADATA.unpack_from(data)
        return cls(index, term, ConfState.decode(data[_SNAPSHOT_METADATA.size :]))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the application at an index. `data` is the application's: the state, or where to find it."""

    metadata: SnapshotMetadata = field(default_factory=SnapshotMetadata)
    data: bytes = b""

    def is_empty(self) -> bool:
        """True if there is none: a snapshot at index 0 holds no entry."""
        return self.metadata.index == 0

    def encode(self) -> bytes:
        metadata = self.metadata.encode()
        return b"".join((_LENGTH.pack(len(metadata)), metadata, self.data))

    @classmethod
    def decode(cls, data: bytes) -> Snapshot:
        _require(data, _LENGTH.size, "a snapshot")
        (length,) = _LENGTH.unpack_from(data)
        _require(data, _LENGTH.size + length, "a snapshot with this length of metadata")
        end = _LENGTH.size + length
        return cls(SnapshotMetadata.decode(data[_LENGTH.size : end]), data[end:])


# Shared by all messages that have none of them: most haven't, and two lists would cost a fifth of making one.
_NO_ENTRIES: Final[list[Entry]] = []
_NO_RESPONSES: Final[list[Message]] = []


@dataclass(slots=True, init=False)
class Message:
    """Everything that happens to a Raft node is one of these; `type` says which fields mean something.

    type: what it is about.                     to, from_: node ids.     term: the sender's; 0 in local messages.
    index, log_term: an entry: the one before `entries` (MsgApp), the last one (MsgVote), the last one matched, or the
        one refused (MsgAppResp).
    commit: the sender's commit index.          reject, reject_hint: a refusal, and where to look next.
    entries: a list that is never changed.        snapshot: MsgSnap's.
    context: MsgHeartbeat's read position.      vote: of a hard state in MsgStorageAppend; 0 everywhere else.
    responses: what is to be delivered once the storage has done a MsgStorageAppend or MsgStorageApply; not in the bytes.
    """

    type: MessageType
    to: int
    from_: int
    term: int
    log_term: int
    index: int
    entries: list[Entry]
    commit: int
    snapshot: Snapshot | None
    reject: bool
    reject_hint: int
    context: bytes
    vote: int
    responses: list[Message]

    def __init__(
        self,
        type: MessageType,
        to: int = 0,
        from_: int = 0,
        term: int = 0,
        log_term: int = 0,
        index: int = 0,
        entries: list[Entry] = _NO_ENTRIES,
        commit: int = 0,
        snapshot: Snapshot | None = None,
        reject: bool = False,
        reject_hint: int = 0,
        context: bytes = b"",
        vote: int = 0,
        responses: list[Message] = _NO_RESPONSES,
    ) -> None:
        self.type = type
        self.to = to
        self.from_ = from_
        self.term = term
        self.log_term = log_term
        self.index = index
        self.entries = entries
        self.commit = commit
        self.snapshot = snapshot
        self.reject = reject
        self.reject_hint = reject_hint
        self.context = context
        self.vote = vote
        self.responses = responses

    def encode(self) -> bytes:
        """The bytes of this message, without its responses. O(bytes)."""
        entries = self.entries
        flags = (_REJECT if self.reject else 0) | (_HAS_SNAPSHOT if self.snapshot is not None else 0)
        header = _MESSAGE.pack(
            self.type,
            flags,
            self.to,
            self.from_,
            self.term,
            self.log_term,
            self.index,
            self.commit,
            self.reject_hint,
            self.vote,
            len(self.context),
            len(entries),
        )
        if not entries and self.snapshot is None:
            return header + self.context
        parts = [header, self.context]
        if entries:
            pack = _ENTRY.pack
            encoded = [pack(entry.type, entry.term, entry.index) + entry.data for entry in entries]
            parts.append(struct.pack(f"<{len(encoded)}I", *map(len, encoded)))
            parts.extend(encoded)
        if self.snapshot is not None:
            parts.append(self.snapshot.encode())
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Message:
        """The message that `data`, all of it, encodes. Raises `DecodeError`. O(len(data))."""
        if len(data) < _MESSAGE.size:
            raise DecodeError(f"a message needs at least {_MESSAGE.size} bytes, but there are {len(data)}")
        header = _MESSAGE.unpack_from(data)
        type_, flags, to, from_, term, log_term, index, commit, reject_hint, vote, context_size, count = header
        if type_ > MSG_FORGET_LEADER:
            raise DecodeError(f"a message's type is 0 to 23, but this one's is {type_}")
        if flags > _REJECT | _HAS_SNAPSHOT:
            raise DecodeError(f"a message's flags are 0 to 3, but this one's are {flags}")
        at = _MESSAGE.size + context_size
        if len(data) < at + 4 * count:
            raise DecodeError(
                f"a message with {context_size} bytes of context and {count} entries needs at least {at + 4 * count} "
                f"bytes, but there are {len(data)}"
            )
        entries, end = _decode_entries(data, at, count) if count else ([], at)
        snapshot = None
        if flags & _HAS_SNAPSHOT:
            snapshot = Snapshot.decode(data[end:])
        elif end != len(data):
            raise DecodeError(f"a message of {end} bytes is followed by {len(data) - end} more")
        return cls(
            _MESSAGE_TYPES[type_],
            to,
            from_,
            term,
            log_term,
            index,
            entries,
            commit,
            snapshot,
            bool(flags & _REJECT),
            reject_hint,
            data[_MESSAGE.size : at],
            vote,
        )


def _decode_entries(data: bytes, at: int, count: int) -> tuple[list[Entry], int]:
    """The `count` entries whose lengths start at `at`, and the offset after them. Requires: the lengths fit."""
    entries: list[Entry] = []
    lengths = struct.unpack_from(f"<{count}I", data, at)
    start = at + 4 * count
    if start + sum(lengths) > len(data):
        raise DecodeError(f"{count} entries of {sum(lengths)} bytes don't fit into {len(data) - start}")
    # As Entry.decode does it, but without a copy of each entry's bytes beside its data.
    if min(lengths) < 17:
        raise DecodeError(f"an entry needs at least 17 bytes, but there are {min(lengths)}")
    unpack = _ENTRY.unpack_from
    for length in lengths:
        type_, term, index = unpack(data, start)
        if type_ > ENTRY_CONF_CHANGE_V2:
            raise DecodeError(f"an entry's type is 0, 1 or 2, but this one's is {type_}")
        end = start + length
        entries.append(Entry(term, index, _ENTRY_TYPES[type_], data[start + 17 : end]))
        start = end
    return entries, start
