"""What a node can answer instead of doing what it was asked, one class for each thing a client does about it.

    NodeError
    ├── NoLeader         nobody leads at the moment: nothing happened, ask again soon            (503)
    ├── Overloaded       too much is waiting already: nothing happened, ask again later          (503)
    ├── NodeStopped      the node is shutting down or has failed: ask another one                (503)
    ├── OutcomeUnknown   the proposal may or may not be applied, now or later: read to find out  (504)
    └── TooLarge         more than one proposal may carry                                        (413)

The difference between the first three and OutcomeUnknown is the one that clients must never lose: "not done" can be
sent again blindly, "unknown" cannot. A timeout is always unknown, because the entry may be in somebody's log.
"""

from __future__ import annotations

__all__ = ["NoLeader", "NodeError", "NodeStopped", "OutcomeUnknown", "Overloaded", "TooLarge"]


class NodeError(Exception):
    """Anything a node answers instead of a result."""


class NoLeader(NodeError):
    """No leader is known, or the leader changed before it took the proposal; nothing was written."""


class Overloaded(NodeError):
    """The queue of waiting proposals is full; nothing was written."""


class NodeStopped(NodeError):
    """The node has stopped or is stopping; nothing was written by this call."""


class OutcomeUnknown(NodeError):
    """The deadline passed, or leadership moved, after the proposal was sent: it may still be applied."""


class TooLarge(NodeError):
    """The operations are larger than one proposal may be; nothing was written."""
