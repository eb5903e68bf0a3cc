"""What the library raises, in three kinds: ask again, the caller is wrong, and stop the node.

    DecodeError                             a peer or a file handed in bytes that are no message; drop them
    ProposalDroppedError                    no leader, or too much is waiting: nothing was written, try again
    SnapshotTemporarilyUnavailableError     Storage has no snapshot ready yet: the leader asks again later
    CompactedError, UnavailableError        Storage's answers for an index before or after what it holds
    SnapshotOutOfDateError                  a snapshot older than the one already there
    ConfChangeError                         a membership change that is not valid, or not supported yet
    StepLocalMsgError, StepPeerNotFoundError   a message that must not come from outside
    RaftPanic                               the state contradicts itself; never caught, the node must stop
      LogLostError                          and what contradicts is what the leader and this node know as committed

etcd-io/raft panics where `RaftPanic` is raised here: a commit index beyond the end of the log, a conflict with a
committed entry, two leaders in one term. Each means that the log was lost or damaged outside of the algorithm (or that
the driver broke its contract), and that going on would spread the damage to the other nodes.

Follows etcd-io/raft: raft.go, rawnode.go and storage.go, where these are error values.
"""

from __future__ import annotations

__all__ = [
    "CompactedError",
    "ConfChangeError",
    "DecodeError",
    "LogLostError",
    "ProposalDroppedError",
    "RaftError",
    "RaftPanic",
    "SnapshotOutOfDateError",
    "SnapshotTemporarilyUnavailableError",
    "StepLocalMsgError",
    "StepPeerNotFoundError",
    "UnavailableError",
]


class RaftError(Exception):
    """The base of all errors of this package but `DecodeError`, which is a `ValueError`."""


class DecodeError(ValueError):
    """The bytes are not what they should be; the sentence says what was expected and what was found."""


class ProposalDroppedError(RaftError):
    """The proposal was refused and not written anywhere. It is safe to propose it again."""


class CompactedError(RaftError):
    """The index asked for is at or before the point at which the log was cut."""


class UnavailableError(RaftError):
    """The index asked for is after the last entry."""


class SnapshotOutOfDateError(RaftError):
    """The snapshot is not newer than the one that Storage has."""


class SnapshotTemporarilyUnavailableError(RaftError):
    """Storage is still making the snapshot; the leader asks again at the follower's next response."""


class ConfChangeError(RaftError):
    """The membership change is not valid for the current configuration, or this version can't do it."""


class StepLocalMsgError(RaftError):
    """A message that a node only sends to itself was handed to `RawNode.step`."""


class StepPeerNotFoundError(RaftError):
    """A response came from a node that isn't in the configuration."""


class RaftPanic(RaftError):
    """The state contradicts itself. Stop the node: nothing that it says from here on can be trusted."""


class LogLostError(RaftPanic):
    """The leader and this node know different things as committed or acknowledged: one of the two has lost a part of its
    log, or was given another. Nothing was changed by the message. The node must not take part with this log again."""
