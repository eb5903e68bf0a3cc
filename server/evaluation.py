"""A request of the v3 interface on its way through the log: what it is in a proposal, and what it comes to.

    node.request ──▶ proposal with one Request ──▶ log ──▶ StateMachine.apply on every node ──▶ Evaluate ──▶ Evaluated
                                                                                                        └─▶ who waits

The state machine doesn't know what the bytes say: it is given a function that does (server/v3/etcd.py), and sees to it that
what was refused has changed nothing. An empty Request is for the state machine itself: revisions begin with the first
Request of a log, and each one takes the compaction on (server/mvcc_compaction.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from server.mvcc import Writes

__all__ = ["Evaluate", "Evaluated", "Request"]


class Request(NamedTuple):
    """The only operation of a proposal of kind 3. data: a protobuf InternalRaftRequest, or nothing."""

    data: bytes


class Evaluated(NamedTuple):
    """What a request came to where it was applied: its response, or the exception that its client is to be told."""

    answer: object


Evaluate = Callable[[int, int, bytes, Writes], object]
"""Index and term of the entry, the request's bytes, and the keys, to be read and changed: a response, or an exception that
is returned, not raised: what was written before that is taken back. The same on every node, as it follows from its
arguments and what earlier entries did. What it raises ends the node, but for an UndecodableEntry that is to be passed over."""
