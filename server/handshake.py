"""How a connection between two nodes begins: each side says who it is, and whom it means.

    POST /raft/stream HTTP/1.1                              HTTP/1.1 101 Switching Protocols
    Upgrade: metcd-raft/2
    X-Metcd-Cluster: <cluster id>    X-Metcd-From: <node id>    X-Metcd-To: <node id>

A snapshot's request (POST /raft/snapshot) has the same three headers. Whoever listens refuses a stranger before a byte
of Raft is read: a wrong cluster or a wrong node is 412, as etcd answers, and a sender that is no member is 403.

Follows etcd's rafthttp: its X-Etcd headers and its checks (server/etcdserver/api/rafthttp/http.go).
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Collection
from dataclasses import dataclass
from email.message import Message as Headers

__all__ = ["Handshake", "Refusal", "dial"]

UPGRADE = "metcd-raft/2"

Refusal = tuple[int, str]  # a status of HTTP, and a sentence


@dataclass(frozen=True, slots=True)
class Handshake:
    """What one node says of itself when it opens a connection, and what it wants to hear when it is called.

    node_id, cluster_id: its own. members: the other nodes that it knows.
    """

    node_id: int
    cluster_id: int
    members: Collection[int]

    def headers(self, peer: int) -> dict[str, str]:
        """What a request to node `peer` carries."""
        return {
            "X-Metcd-Cluster": f"{self.cluster_id:x}",
            "X-Metcd-From": str(self.node_id),
            "X-Metcd-To": str(peer),
        }

    def refusal(self, headers: Headers[str, str]) -> Refusal | None:
        """Why whoever sent these headers is not to be heard; None if it may speak, and is a member."""
        if headers.get("X-Metcd-Cluster") != f"{self.cluster_id:x}":
            return 412, "this node is of another cluster"
        if headers.get("X-Metcd-To") != str(self.node_id):
            return 412, f"this is node {self.node_id}"
        if headers.get("X-Metcd-From", "") not in map(str, self.members):
            return 403, "the sender is not a member of this cluster"
        return None


def dial(connection: socket.socket, host: str, peer: int, handshake: Handshake) -> None:
    """Turns a fresh connection to node `peer` into a stream of frames. Raises OSError or HTTPException."""
    head = f"POST /raft/stream HTTP/1.1\r\nHost: {host}\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in handshake.headers(peer).items()
    )
    connection.sendall(f"{head}Connection: Upgrade\r\nUpgrade: {UPGRADE}\r\n\r\n".encode())
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    if answer.status != 101:
        raise ConnectionError(f"node {peer} answered {answer.status}: {answer.reason}")
