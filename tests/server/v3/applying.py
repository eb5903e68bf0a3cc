"""A request applied by a state machine, without a node."""

from __future__ import annotations

from typing import Any

from engines.kvstore import KVStore
from raft.raftpb import Entry
from server.evaluation import Evaluated, Request
from server.proposal_bytes import encode_proposal
from server.statemachine import StateMachine
from server.statemachine_fast import FastMachine
from server.v3 import wire
from server.v3.etcd import Etcd
from server.v3.rpc import InternalRaftRequest, ResponseHeader
from server.v3.tokens import Tokens

__all__ = ["Alone", "applied", "machine_of"]


class Alone(Etcd):
    """What a node has for the v3 interface, without the node."""

    def header(self, revision: int) -> ResponseHeader:
        return ResponseHeader(revision=revision)


def machine_of(store: KVStore, kind: type[StateMachine] = FastMachine) -> tuple[Alone, StateMachine]:
    """A state machine with all of its tables, without a node."""
    etcd = Alone()
    etcd.auth.tokens = Tokens(lambda: 0.0)
    machine = kind(store, own_keys=etcd.own_keys)
    machine.evaluate, machine.lease_moved = etcd.evaluate, etcd.leases.moved
    etcd.guarding.attach(machine)
    return etcd, machine


def applied(machine: StateMachine, request: InternalRaftRequest | bytes) -> Any:
    """What the next entry comes to, with this request in it: a response, or an exception."""
    data = request if isinstance(request, bytes) else wire.encode(request)
    index = machine.applied_index + 1
    (told,) = machine.apply([Entry(term=1, index=index, data=encode_proposal(1, index, [Request(data)]))])
    assert isinstance(told.outcome, Evaluated)
    return told.outcome.answer
