"""The kinds of things: message types, entry types, roles, and the other enumerations, with etcd's numbers and names.

`MessageType.APP` is 3 and prints as `MsgApp`, as etcd writes it. Modules that compare a kind for every message use the
constants of the same meaning (`MSG_APP`), because a member looked up through its class costs an attribute lookup more.

Members are ints with a name: they go into a struct as they are, and compare and hash at the speed of ints.

Follows etcd-io/raft: raftpb/raft.proto, raft.go (StateType, ReadOnlyOption), node.go (SnapshotStatus), tracker/state.go
and quorum/quorum.go (VoteResult).
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "ConfChangeTransition",
    "ConfChangeType",
    "EntryType",
    "Kind",
    "MessageType",
    "ProgressState",
    "ReadOnlyOption",
    "SnapshotStatus",
    "StateType",
    "VoteResult",
]

_PREFIXES = {
    "ConfChangeTransition": "ConfChangeTransition",
    "ConfChangeType": "ConfChange",
    "EntryType": "Entry",
    "MessageType": "Msg",
    "ProgressState": "State",
    "ReadOnlyOption": "ReadOnly",
    "SnapshotStatus": "Snapshot",
    "StateType": "State",
    "VoteResult": "Vote",
}


class Kind(IntEnum):
    """An enumeration whose members print under etcd's name."""

    def __str__(self) -> str:
        return _PREFIXES[type(self).__name__] + self.name.title().replace("_", "")

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


class MessageType(Kind):
    """What a `Message` is about."""

    HUP = 0
    BEAT = 1
    PROP = 2
    APP = 3
    APP_RESP = 4
    VOTE = 5
    VOTE_RESP = 6
    SNAP = 7
    HEARTBEAT = 8
    HEARTBEAT_RESP = 9
    UNREACHABLE = 10
    SNAP_STATUS = 11
    CHECK_QUORUM = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    PRE_VOTE = 17
    PRE_VOTE_RESP = 18
    STORAGE_APPEND = 19
    STORAGE_APPEND_RESP = 20
    STORAGE_APPLY = 21
    STORAGE_APPLY_RESP = 22
    FORGET_LEADER = 23


class EntryType(Kind):
    """What an `Entry` holds: the application's bytes, a `ConfChange`, or a `ConfChangeV2`."""

    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class ConfChangeType(Kind):
    """What happens to one node."""

    ADD_NODE = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER_NODE = 3


class ConfChangeTransition(Kind):
    """How a `ConfChangeV2` gets from the old configuration to the new one.

    AUTO: at once if at most one voter changes, else jointly, and the leader leaves the joint configuration by itself.
    JOINT_IMPLICIT: jointly in any case, left by itself. JOINT_EXPLICIT: jointly, until an empty change is proposed.
    """

    AUTO = 0
    JOINT_IMPLICIT = 1
    JOINT_EXPLICIT = 2


class StateType(Kind):
    """The role of a node."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    PRE_CANDIDATE = 3


class ProgressState(Kind):
    """How a leader sees one follower (tracker/state.py has the picture)."""

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class ReadOnlyOption(Kind):
    """SAFE asks a quorum whether this is still the leader; LEASE_BASED counts on clocks that run at the same speed."""

    SAFE = 0
    LEASE_BASED = 1


class SnapshotStatus(Kind):
    """How the transfer of a snapshot ended, for `RawNode.report_snapshot`."""

    FINISH = 1
    FAILURE = 2


class VoteResult(Kind):
    """How a vote stands."""

    PENDING = 1
    LOST = 2
    WON = 3
