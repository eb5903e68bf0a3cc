"""A request applied by a state machine, without a node."""

from __future__ import annotations

from typing import Any

from raft.raftpb import Entry
from server.evaluation import Evaluated, Request
from server.proposal_bytes import encode_proposal
from server.statemachine import StateMachine
from server.v3 import wire
from server.v3.rpc import InternalRaftRequest

__all__ = ["applied"]


def applied(machine: StateMachine, request: InternalRaftRequest | bytes) -> Any:
    """What the next entry comes to, with this request in it: a response, or an exception."""
    data = request if isinstance(request, bytes) else wire.encode(request)
    index = machine.applied_index + 1
    (told,) = machine.apply([Entry(term=1, index=index, data=encode_proposal(1, index, [Request(data)]))])
    assert isinstance(told.outcome, Evaluated)
    return told.outcome.answer
