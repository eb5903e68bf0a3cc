"""Transports of two nodes on loopback, for the tests of what goes between nodes."""

from __future__ import annotations

import socket

from raft.raftpb import MSG_HEARTBEAT, Message
from server.identity import Identity, address_list
from server.loop import Loop
from server.roster import Roster
from server.transport import Transport
from tests.server.inbox import Inbox

PATIENCE_S = 10.0  # how long a test waits for what will come at once, before it calls it lost
CLUSTER = 0xC1


def roster(node_id: int, peers, number: int | None = None) -> Roster:
    """A member's, of the directory whose number is `number`; what it meets is remembered nowhere."""
    identity = Identity(CLUSTER, node_id, number or node_id, "memory", address_list(peers))
    return Roster(identity.started(1, 0), lambda met: None)


def transport_of(node_id: int, peers, inbox: Inbox, loop: Loop | None = None) -> Transport:
    return Transport(roster(node_id, peers), peers, inbox, loop=loop)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def heartbeat(number: int, from_: int = 1, to: int = 2) -> Message:
    return Message(MSG_HEARTBEAT, to=to, from_=from_, term=1, commit=number)
