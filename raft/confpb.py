"""The configuration and the changes of it, and their bytes: who takes part, and how that becomes different.

    ConfState        0  1  auto_leave        0 or 1
                     1 16  four counts of 4 bytes: voters, learners, voters_outgoing, learners_next
                    17  …  the node ids, 8 bytes each, in that order
    ConfChange       0  1  type              1  8  node id           9  …  context
    ConfChangeV2     0  1  transition        1  4  number n of changes
                     5 9n  type (1 byte) and node id (8 bytes) of each
                  5+9n  …  context
                     or no byte at all: the empty change, which leaves a joint configuration

The empty `ConfChangeV2` has no bytes so that its entry can't be refused for its size: a leader must always be able to
leave a joint configuration.

Follows etcd-io/raft: raftpb/raft.proto, raftpb/confchange.go and raftpb/confstate.go.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from raft.errors import DecodeError
from raft.kinds import ConfChangeTransition, ConfChangeType

__all__ = ["ConfChange", "ConfChangeSingle", "ConfChangeV2", "ConfState"]

_CONF_STATE = struct.Struct("<BIIII")
_CONF_CHANGE = struct.Struct("<BQ")
_CONF_CHANGE_V2 = struct.Struct("<BI")

_TYPES: Final = tuple(ConfChangeType)
_TRANSITIONS: Final = tuple(ConfChangeTransition)


def _require(data: bytes, size_bytes: int, what: str) -> None:
    if len(data) < size_bytes:
        raise DecodeError(f"{what} needs at least {size_bytes} bytes, but there are {len(data)}")


def _type_of(value: int) -> ConfChangeType:
    if value >= len(_TYPES):
        raise DecodeError(f"a configuration change's type is 0 to 3, but this one's is {value}")
    return _TYPES[value]


@dataclass(frozen=True, slots=True)
class ConfState:
    """Who takes part: the configuration in force at some index. Ids are unsigned 64-bit numbers, never 0.

    voters: the set that decides; the incoming one of a joint configuration.
    learners: get the log, and don't count.
    voters_outgoing: the old set, which decides as well while the configuration is joint; empty otherwise.
    learners_next: become learners when the joint configuration is left; until then they are in voters_outgoing.
    auto_leave: whether the leader leaves the joint configuration by itself.
    """

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False

    def encode(self) -> bytes:
        groups = (self.voters, self.learners, self.voters_outgoing, self.learners_next)
        ids = [node_id for group in groups for node_id in group]
        return _CONF_STATE.pack(self.auto_leave, *map(len, groups)) + struct.pack(f"<{len(ids)}Q", *ids)

    @classmethod
    def decode(cls, data: bytes) -> ConfState:
        _require(data, _CONF_STATE.size, "a configuration")
        auto_leave, *counts = _CONF_STATE.unpack_from(data)
        total = sum(counts)
        if len(data) != _CONF_STATE.size + 8 * total:
            raise DecodeError(
                f"a configuration of {total} ids has {_CONF_STATE.size + 8 * total} bytes, not {len(data)}"
            )
        if auto_leave > 1:
            raise DecodeError(f"a configuration's auto_leave is 0 or 1, not {auto_leave}")
        ids = struct.unpack_from(f"<{total}Q", data, _CONF_STATE.size)
        groups: list[tuple[int, ...]] = []
        start = 0
        for count in counts:
            groups.append(ids[start : start + count])
            start += count
        voters, learners, voters_outgoing, learners_next = groups
        return cls(voters, learners, voters_outgoing, learners_next, bool(auto_leave))


@dataclass(frozen=True, slots=True)
class ConfChangeSingle:
    """What happens to one node; one of the changes of a `ConfChangeV2`."""

    type: ConfChangeType
    node_id: int


@dataclass(frozen=True, slots=True)
class ConfChangeV2:
    """Changes of any number of members at once: the data of an ENTRY_CONF_CHANGE_V2.

    Without changes, and whatever its transition and context are, it leaves a joint configuration.
    """

    transition: ConfChangeTransition = ConfChangeTransition.AUTO
    changes: tuple[ConfChangeSingle, ...] = ()
    context: bytes = b""

    def as_v2(self) -> ConfChangeV2:
        return self

    def enter_joint(self) -> bool | None:
        """Whether the joint configuration is left automatically; None if the change needs none.

        It does if that is asked for, or if more than one change is made: then the majorities before and after may have
        no node in common.
        """
        if self.transition == ConfChangeTransition.AUTO and len(self.changes) <= 1:
            return None
        return self.transition != ConfChangeTransition.JOINT_EXPLICIT

    def leave_joint(self) -> bool:
        """Whether this change leaves a joint configuration."""
        return self.transition == ConfChangeTransition.AUTO and not self.changes

    def encode(self) -> bytes:
        if not self.changes and not self.context and self.transition == ConfChangeTransition.AUTO:
            return b""
        head = _CONF_CHANGE_V2.pack(self.transition, len(self.changes))
        return b"".join((head, *(_CONF_CHANGE.pack(one.type, one.node_id) for one in self.changes), self.context))

    @classmethod
    def decode(cls, data: bytes) -> ConfChangeV2:
        if not data:
            return cls()
        _require(data, _CONF_CHANGE_V2.size, "a configuration change of several nodes")
        transition, count = _CONF_CHANGE_V2.unpack_from(data)
        if transition >= len(_TRANSITIONS):
            raise DecodeError(f"a transition is 0, 1 or 2, but this one is {transition}")
        end = _CONF_CHANGE_V2.size + _CONF_CHANGE.size * count
        _require(data, end, f"a configuration change of {count} nodes")
        pairs: Iterable[tuple[int, int]] = _CONF_CHANGE.iter_unpack(data[_CONF_CHANGE_V2.size : end])
        changes = tuple(ConfChangeSingle(_type_of(type_), node_id) for type_, node_id in pairs)
        change = cls(_TRANSITIONS[transition], changes, data[end:])
        if not change.encode():
            raise DecodeError("an empty configuration change has no bytes")
        return change


@dataclass(frozen=True, slots=True)
class ConfChange:
    """One change of one member: the data of an ENTRY_CONF_CHANGE. `context` is the application's (a peer's URL)."""

    type: ConfChangeType
    node_id: int
    context: bytes = b""

    def as_v2(self) -> ConfChangeV2:
        """The same change in the newer form, which is what the library works with."""
        return ConfChangeV2(changes=(ConfChangeSingle(self.type, self.node_id),), context=self.context)

    def encode(self) -> bytes:
        return _CONF_CHANGE.pack(self.type, self.node_id) + self.context

    @classmethod
    def decode(cls, data: bytes) -> ConfChange:
        _require(data, _CONF_CHANGE.size, "a configuration change")
        type_, node_id = _CONF_CHANGE.unpack_from(data)
        return cls(_type_of(type_), node_id, data[_CONF_CHANGE.size :])
