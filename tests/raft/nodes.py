"""Single nodes for tests: with a given log and hard state, and with what they say collected."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from raft import Config, ConfState, Entry, HardState, MemoryStorage, Message
from raft.kinds import MessageType, StateType
from raft.raft import Raft
from raft.raftpb import MSG_APP_RESP, MSG_VOTE_RESP
from tests.raft.network import Peer

__all__ = [
    "acknowledge",
    "drain",
    "entries",
    "make_config",
    "make_leader",
    "make_peer",
    "make_raft",
    "of_type",
    "terms_of",
]


def make_config(**changes: Any) -> Config:
    """Node 1 of three, with nothing on its disk."""
    settings: dict[str, Any] = {
        "id": 1,
        "election_tick": 10,
        "heartbeat_tick": 1,
        "storage": MemoryStorage(ConfState((1, 2, 3))),
        "rng": random.Random(0),
    }
    return Config(**{**settings, **changes})


def entries(first: int, terms: Sequence[int], data: bytes = b"") -> list[Entry]:
    """Entries from index `first` on, with these terms."""
    return [Entry(term, index, data=data) for index, term in enumerate(terms, first)]


def make_peer(
    node_id: int = 1,
    voters: Sequence[int] = (1, 2, 3),
    *,
    terms: Sequence[int] = (),
    term: int = 0,
    vote: int = 0,
    commit: int = 0,
    **config: Any,
) -> Peer:
    """A node that starts with entries 1, 2, … of these terms, and this hard state."""
    peer = Peer(node_id, ConfState(tuple(voters)), **config)
    for entry in entries(1, terms):
        peer.disk.write(entry)
    peer.disk.write(HardState(term or max(terms, default=0), vote, commit))
    peer.disk.sync()
    peer.start()
    return peer


def make_leader(voters: Sequence[int] = (1, 2, 3), **options: Any) -> Peer:
    """Node 1 as the leader of the next term, its first entry written; nobody else has answered anything since."""
    peer = make_peer(1, voters, **options)
    peer.node.campaign()
    drain(peer)
    term = peer.node.status().term
    for node_id in voters[1 : len(voters) // 2 + 1]:
        peer.node.step(Message(MSG_VOTE_RESP, to=1, from_=node_id, term=term))
    drain(peer)
    assert peer.node.status().raft_state == StateType.LEADER
    return peer


def make_raft(role: StateType, **options: Any) -> Raft:
    """A node that got into a role by the steps between them."""
    r = make_peer(term=1, **options).node.raft
    if role in (StateType.CANDIDATE, StateType.LEADER):
        r.become_candidate()
    elif role == StateType.PRE_CANDIDATE:
        r.become_pre_candidate()
    if role == StateType.LEADER:
        r.become_leader()
    return r


def acknowledge(peer: Peer, from_: int, index: int) -> list[Message]:
    """Another node has everything up to `index`; gives back what the leader says to that."""
    term = peer.node.status().term
    peer.node.step(Message(MSG_APP_RESP, to=peer.id, from_=from_, term=term, index=index))
    return drain(peer)


def drain(peer: Peer) -> list[Message]:
    """Processes every Ready; gives back all messages."""
    messages = []
    while peer.node.has_ready():
        messages.extend(peer.process())
    return messages


def of_type(messages: Sequence[Message], kind: MessageType) -> list[Message]:
    return [message for message in messages if message.type == kind]


def terms_of(peer: Peer) -> list[int]:
    """The terms of the log, in order."""
    return [term for _, term in peer.log()]
