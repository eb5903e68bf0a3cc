"""What a node can answer instead of doing what it was asked, one class for each thing a client does about it.

    NodeError
    ├── NoLeader         nobody leads at the moment: nothing happened, ask again soon            (503)
    ├── Overloaded       too much is waiting already: nothing happened, ask again later          (503)
    ├── NodeStopped      the node is shutting down or has failed: ask another one                (503)
    ├── OutcomeUnknown   the proposal may or may not be applied, now or later: read to find out  (504)
    ├── RightsChanged    users or roles have changed meanwhile: nothing happened, ask again       (503)
    ├── NumberPassed     a request of a session after a later one: this did nothing               (409)
    ├── SessionExpired   the session is forgotten: this did nothing, an earlier sending may have  (410)
    ├── ChangeRefused    this change of the membership must not be made: nothing happened        (409)
    ├── PermissionDenied the user may not write that: nothing happened                            (403)
    ├── NoSpace          an alarm says that there is no room: nothing happened                    (507)
    ├── Corrupt          an alarm says that the nodes differ: nothing happened                    (500)
    └── TooLarge         more than one proposal may carry                                        (413)

The difference between the first three and OutcomeUnknown is the one that clients must never lose: "not done" can be
sent again blindly, "unknown" cannot. A timeout is always unknown, because the entry may be in somebody's log.

UndecodableEntry is why a node stops that finds an entry committed which it can't read, NodeRemoved why one stops that is
no member any more. DirectoryRefused, a StoreError, is what a node raises at its start instead of taking part with a
directory that it must not vote or acknowledge with. Its sentence ends with what is safe to do.
"""

from __future__ import annotations

from engines.errors import StoreError

__all__ = [
    "WAY_OUT",
    "ChangeRefused",
    "Corrupt",
    "DirectoryRefused",
    "NoLeader",
    "NoSpace",
    "NodeError",
    "NodeRemoved",
    "NodeStopped",
    "NotAVoter",
    "NumberPassed",
    "OutcomeUnknown",
    "Overloaded",
    "PermissionDenied",
    "RightsChanged",
    "SessionExpired",
    "TooLarge",
    "UndecodableEntry",
]

# All that is safe after a part of a directory is lost. Beginning anew under the same id is not: the node would
# vote and acknowledge without knowing what it has promised.
WAY_OUT = (
    "nothing was deleted; put back exactly what was there, if you have it (an older copy is not enough), or move this "
    "directory away and start the node with an empty one: the leader readmits it, as long as the others are a majority"
)


class DirectoryRefused(StoreError):
    """The data directory isn't the one that this node has to have, or has lost a part of what it has promised."""


class NodeError(Exception):
    """Anything a node answers instead of a result."""


class NoLeader(NodeError):
    """No leader is known, or the leader changed before it took the proposal; nothing was written."""


class Overloaded(NodeError):
    """The queue of waiting proposals is full; nothing was written."""


class NodeStopped(NodeError):
    """The node has stopped or is stopping; nothing was written by this call."""


class NotAVoter(NodeError):
    """The node that is to lead is no voting member; nothing happened."""


class OutcomeUnknown(NodeError):
    """The deadline passed, or leadership moved, after the proposal was sent: it may still be applied."""


class NumberPassed(NodeError):
    """A session's request came after a later one was applied, or after it was refused: this did nothing."""


class RightsChanged(NodeError):
    """Users or roles have changed between the permission of a write and its entry; nothing was written."""


class PermissionDenied(NodeError):
    """The user may not write all of these keys; nothing was written."""


class NoSpace(NodeError):
    """The alarm NOSPACE is raised, and this puts something; nothing was written."""


class Corrupt(NodeError):
    """The alarm CORRUPT is raised; nothing was written."""


class SessionExpired(NodeError):
    """The session isn't in the table: this did nothing; if the same request was sent before, that is unknown."""


class ChangeRefused(NodeError):
    """The leader doesn't take this change of the membership, and would not later; nothing was changed."""


class TooLarge(NodeError):
    """The operations are larger than one proposal may be; nothing was written."""


class NodeRemoved(DirectoryRefused):
    """This node was removed from its cluster: it has stopped, and its directory takes no part any more."""


class UndecodableEntry(Exception):
    """A committed entry whose bytes say nothing to this version: the node must stop, or it would differ from others.

    `index` is the entry's.
    """

    def __init__(self, index: int, term: int, why: str) -> None:
        super().__init__(
            f"entry {index} of term {term} is committed, and this version of metcd can't decode it: {why}; nothing of "
            "it was applied, and the node would stop here at every start: start all members with the version that "
            f"proposed it or, if there is none, all members with --skip-entry {index}, which passes over it "
            "(server/IDENTITY.md)"
        )
        self.index = index
