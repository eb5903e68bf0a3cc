"""What members say of themselves, names and client URLs, as the replicated store keeps it; and how a node publishes its own.

The address book (server/address_book.py) has what Raft needs of a member. Its name, and where clients reach it, only the
member knows: when it starts, it has an entry ClusterMemberAttrSet written, unless what is kept is the same already.

    mname<id u64 BE>     a protobuf membershippb.Attributes: name, client_urls. No row: not published, or no member any more

    the node's tick ── does the table say the same? ── no: propose it, every PUBLISH_AGAIN_S, as long as a leader is known

Invariants:

1. Only members have a row: what is published for an id that isn't one is passed over, and a member's row goes in the batch
   of the entry that removes it. So an id that is used again begins without a name.
2. What is kept follows from the entries in their order, however they are divided into batches.

Until it has published, a member of etcd's list has no name and no client URLs; etcd serves no client before that, and here
GET /health says false.
Follows etcd's server/etcdserver/server.go (publishV3) and server/etcdserver/api/membership/cluster.go (UpdateAttributes).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from engines.coding import DecodeError as CodingError
from engines.kvstore import KVStore, WriteBatch
from raft.raftpb import ConfState, Entry
from server.address_book import CONF_CHANGES
from server.v3 import rpc, wire

__all__ = ["NAME_ROW", "NOTHING", "Attributes", "Publisher", "Said"]

NAME_ROW = b"mname"
PUBLISH_AGAIN_S = 1.0

_ID = struct.Struct(">Q")


class Said(NamedTuple):
    """What a member has published."""

    name: str = ""
    client_urls: tuple[str, ...] = ()


NOTHING = Said()


class Applying(Protocol):
    """The part of a state machine that is asked while entries are applied."""

    def members_after(self, index: int) -> ConfState: ...


class Attributes:
    """What all members have published. For the thread that applies; `of` is for any."""

    def __init__(self, members: Callable[[], Iterable[int]]) -> None:
        """members: the ids of the members by what is in the engine."""
        self._members = members
        self._kept: Mapping[int, Said] = {}
        self._next: Mapping[int, Said] = {}
        self._set: list[tuple[int, int, Said]] = []  # index of the entry, member, what it says; of this batch

    def of(self, member: int) -> Said:
        """What a member has published; NOTHING if it has not."""
        return self._kept.get(member, NOTHING)

    def set(self, index: int, request: rpc.ClusterMemberAttrSetRequest) -> None:
        """The entry `index` sets a member's attributes."""
        said = request.member_attributes or rpc.Attributes()
        self._set.append((index, request.member_ID, Said(said.name, tuple(said.client_urls))))

    # ---- OwnKeys (server/statemachine.py) -----------------------------------------------------------------------

    def read(self, store: KVStore) -> None:
        """Reads what an engine has that was opened or loaded. Raises DecodeError."""
        kept = {}
        try:
            for key, row in store.scan(prefix=NAME_ROW):
                said = wire.decode(rpc.Attributes, row)
                [member] = _ID.unpack(key[len(NAME_ROW) :])
                kept[member] = Said(said.name, tuple(said.client_urls))
        except (wire.DecodeError, struct.error) as error:
            raise CodingError(f"a row {NAME_ROW!r} has no member's attributes: {error}") from None
        self._kept = self._next = kept
        self._set = []

    def put(self, batch: WriteBatch, entries: Sequence[Entry], machine: Applying) -> None:
        """Adds the rows that these entries change."""
        changes = [entry.index for entry in entries if entry.type in CONF_CHANGES]
        if not self._set and not changes:
            return
        kept, present = dict(self._kept), set(self._members())
        ordered = sorted([*((index, None) for index in changes), *((each[0], each) for each in self._set)], key=_first)
        for index, told in ordered:
            if told is None:
                present = _ids(machine.members_after(index))
                kept = {member: said for member, said in kept.items() if member in present}
            elif told[1] in present:
                kept[told[1]] = told[2]
        for member in self._kept.keys() - kept.keys():
            batch.delete(NAME_ROW + _ID.pack(member))
        for member, said in sorted(kept.items()):
            if self._kept.get(member) != said:
                row = wire.encode(rpc.Attributes(said.name, list(said.client_urls)))
                batch.put(NAME_ROW + _ID.pack(member), row)
        self._next = kept

    def written(self) -> None:
        """The batch is in the engine."""
        self._set = []
        self._kept = self._next


def _first(pair: tuple[int, object]) -> int:
    return pair[0]


def _ids(conf_state: ConfState) -> set[int]:
    return {*conf_state.voters, *conf_state.voters_outgoing, *conf_state.learners}


class Publisher:
    """Has this node's own attributes published. For the node's thread; `published` is for any."""

    def __init__(self, member: int, said: Said, kept: Attributes) -> None:
        """said: NOTHING if it has nothing to say; then nothing is published."""
        self._member, self._said, self._kept = member, said, kept
        self._asked_at = -math.inf

    @property
    def published(self) -> bool:
        """Whether the table here says what this node says."""
        return self._said == NOTHING or self._kept.of(self._member) == self._said

    def due(self, now: float) -> rpc.InternalRaftRequest | None:
        """What is to be proposed now, if anything is. now: seconds. Requires: a leader is known, and this is a member."""
        if self.published or now - self._asked_at < PUBLISH_AGAIN_S:
            return None
        self._asked_at = now
        said = rpc.Attributes(self._said.name, list(self._said.client_urls))
        return rpc.InternalRaftRequest(cluster_member_attr_set=rpc.ClusterMemberAttrSetRequest(self._member, said))
