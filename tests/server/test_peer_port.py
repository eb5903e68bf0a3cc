"""The port for peers: who gets in, who is kept out and told why, and what the secret is good for."""

import json
import socket
import threading

import pytest

from raft.raftpb import MSG_HEARTBEAT, MSG_SNAP, Message, Snapshot, SnapshotMetadata
from server import peer_port as peer_port_module
from server.addresses import url_of
from server.client import Client, RequestRefused
from server.identity import Identity, address_list
from server.limits import SNAPSHOTS_FROM_PEER_MAX, STRANGERS_MAX
from server.roster import Roster
from server.transport import Transport, require_secret
from tests.server.fake_node import Wire
from tests.server.inbox import Inbox
from tests.server.local_nodes import PATIENCE_S, eventually, free_ports

CLUSTER = 0xC1
SECRET, OTHER = b"a secret of thirty-two bytes, 1", b"a secret of thirty-two bytes, 2"
MEMBER = {
    "X-Metcd-Cluster": f"{CLUSTER:x}",
    "X-Metcd-From": "1",
    "X-Metcd-To": "2",
    "X-Metcd-Known": "1=1.1.0",
}
UPGRADE = {"Connection": "keep-alive, Upgrade", "Upgrade": "metcd-raft/3"}


@pytest.fixture
def peers():
    return dict(enumerate((("127.0.0.1", port) for port in free_ports(2)), 1))


@pytest.fixture
def start(peers):
    """Starts node 1's or 2's transport; all end with the test, and no thread of theirs is left."""
    started = []

    def start(node_id, secret=b"", inbox=None):
        inbox = inbox or Inbox()
        identity = Identity(CLUSTER, node_id, node_id, "memory", address_list(peers)).started(1, 0)
        transport = Transport(Roster(identity, lambda met: None), peers, inbox, secret)
        transport.start()
        started.append(transport)
        return transport, inbox

    yield start
    for transport in started:
        transport.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("sender-", "peer-listener"))]


def request(path, fields, body=b""):
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {text}" for name, text in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def asked(wire, path, **changes):
    """The answer to a member's request with these changes; None takes a field away."""
    fields = {"Host": "127.0.0.1", **MEMBER, **UPGRADE}
    fields |= {name.replace("_", "-"): text for name, text in changes.items()}
    wire.send(request(path, {name: text for name, text in fields.items() if text is not None}))
    return wire.answer()


def heartbeat(number):
    return Message(MSG_HEARTBEAT, to=2, from_=1, term=1, commit=number)


REFUSED = {
    "another name": ({"Host": "example.com"}, 403, "Host"),
    "another name with a port": ({"Host": "example.com:80"}, 403, "Host"),
    "no name": ({"Host": None}, 400, "Host"),
    "its own page": ({"Origin": "http://127.0.0.1"}, 403, "browsers"),
    "another page": ({"Origin": "http://example.com"}, 403, "browsers"),
    "a page that says no more": ({"Origin": "null"}, 403, "browsers"),
    "a page of another site": ({"Sec-Fetch-Site": "cross-site"}, 403, "browsers"),
    "no upgrade": ({"Upgrade": None}, 426, "metcd-raft/3"),
    "no connection": ({"Connection": None}, 426, "metcd-raft/3"),
    "another protocol": ({"Upgrade": "websocket"}, 426, "metcd-raft/3"),
    "an earlier version": ({"Upgrade": "metcd-raft/2"}, 426, "metcd-raft/3"),
    "no name of a node": ({"X-Metcd-From": None}, 403, "who it is"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_peer_sends_is_refused_in_our_form(start, peers, name):
    """A page in a browser can send a POST anywhere, and by DNS rebinding read the answer: not here."""
    changes, status, words = REFUSED[name]
    _, inbox = start(2)
    with Wire(peers[2]) as wire:
        found, headers, body = asked(wire, "/raft/stream", **changes)
        assert (found, headers["content-type"], headers["connection"]) == (status, "application/json", "close")
        assert words in json.loads(body)["error"]
        assert wire.rest() == b""
    assert inbox.messages.empty()


@pytest.mark.parametrize(("method", "path", "status"), [
    ("POST", "/hello", 421), ("GET", "/", 421), ("GET", "/_/health", 421), ("GET", "/raft/stream", 405),
    ("POST", "/raft/stream?x", 421), ("G T", "/", 400),
])  # fmt: skip
def test_other_paths_and_methods_get_a_sentence(start, peers, method, path, status):
    start(2)
    with Wire(peers[2]) as wire:
        found, _, body = wire.ask(method, path)
        assert found == status
        assert json.loads(body)["error"]


def test_a_client_that_asks_the_wrong_port_is_not_told_that_a_key_is_absent(start, peers):
    """404 says that to a client: `metcd get` called a key absent that the node has."""
    start(2)
    with Client([url_of(*peers[2])]) as client:
        with pytest.raises(RequestRefused, match="the other port is for clients"):
            client.get(b"hello")
        with pytest.raises(RequestRefused, match="the other port is for clients"):
            client.put(b"hello", b"world")


def test_a_node_goes_by_its_own_name(start, peers):
    transport, _ = start(2)
    transport._port.name = b"node2.example.com"
    for host in ("localhost", f"localhost:{peers[2][1]}", "127.0.0.1:1", "[::1]", "Node2.Example.com:23380"):
        with Wire(peers[2]) as wire:
            assert asked(wire, "/raft/stream", Host=host, X_Metcd_To="2")[0] == 101
    with Wire(peers[2]) as wire:
        assert asked(wire, "/raft/stream", Host="node3.example.com:23380")[0] == 403


def test_garbage_is_counted_and_told_once_a_minute(start, peers, caplog):
    transport, _ = start(2)
    for _ in range(3):
        with Wire(peers[2]) as wire:
            wire.send(b"\x16\x03\x01\x02 not of our kind\r\n\r\n")
            assert wire.answer()[0] == 400
    assert transport.metrics()["peer_garbage_total"] == 3
    lines = [record.getMessage() for record in caplog.records if "none of theirs" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("node 2: what 127.0.0.1 sends to the port for peers is none of theirs: ")


def test_silent_connections_keep_no_member_out(start, peers):
    """64 of them did. The one that has been silent longest makes room."""
    transport, inbox = start(2)
    silent = [socket.create_connection(peers[2], timeout=PATIENCE_S) for _ in range(3 * STRANGERS_MAX)]
    try:
        other, _ = start(1)
        other.send([heartbeat(7)])
        assert inbox.messages.get(timeout=PATIENCE_S).commit == 7
        assert silent[0].recv(1) == b""
        metrics = transport.metrics()
        assert metrics["peer_connections"] <= STRANGERS_MAX + 1
        assert metrics["peer_connections_crowded_out_total"] >= 2 * STRANGERS_MAX
        late = [socket.create_connection(peers[2], timeout=PATIENCE_S) for _ in range(2 * STRANGERS_MAX)]
        silent += late
        other.send([heartbeat(8)])
        assert inbox.messages.get(timeout=PATIENCE_S).commit == 8  # who is in stays in
    finally:
        for each in silent:
            each.close()


def test_a_member_sends_so_many_snapshots_at_a_time(start, peers):
    gate = threading.Event()

    class Slow(Inbox):
        def receive_snapshot(self, message, file, rest):
            gate.wait(PATIENCE_S)
            super().receive_snapshot(message, file, rest)

    transport, _ = start(2, inbox=Slow())
    message = Message(MSG_SNAP, to=2, from_=1, term=1, snapshot=Snapshot(SnapshotMetadata(5, 1))).encode()
    fields = {**MEMBER, "Host": "127.0.0.1", "Connection": "Upgrade", "Upgrade": "metcd-snapshot/1"}
    fields |= {"Content-Length": len(message), "X-Metcd-File-Size": 0, "X-Metcd-File-Ending": 0}
    wires = [Wire(peers[2]) for _ in range(SNAPSHOTS_FROM_PEER_MAX + 2)]
    try:
        for at, wire in enumerate(wires[:-1]):
            wire.send(request("/raft/snapshot", fields, message))
            eventually("it is let in", lambda at=at: len(transport._port._members) == at + 1)
        wires[-1].send(request("/raft/snapshot", fields, message))
        assert wires[-1].answer()[0] == 503
        gate.set()
        assert [wire.answer()[0] for wire in wires[:-1]] == [101] * (SNAPSHOTS_FROM_PEER_MAX + 1)
    finally:
        gate.set()
        for wire in wires:
            wire.socket.close()


# ---- the secret -----------------------------------------------------------------------------------------------------


def test_members_with_the_same_secret_hear_each_other(start, tmp_path):
    (one, inbox_one), (two, inbox_two) = start(1, SECRET), start(2, SECRET)
    one.send([heartbeat(1)])
    assert inbox_two.messages.get(timeout=PATIENCE_S).commit == 1
    two.send([Message(MSG_HEARTBEAT, to=1, from_=2, term=1, commit=2)])
    assert inbox_one.messages.get(timeout=PATIENCE_S).commit == 2
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    message = Message(MSG_SNAP, to=2, from_=1, term=1, snapshot=Snapshot(SnapshotMetadata(5, 1)))
    one.send_snapshot(message, lambda: str(tmp_path / "file"))
    assert inbox_two.snapshots.get(timeout=PATIENCE_S) == (message, bytes(3_000_000))
    assert inbox_one.sent_snapshots.get(timeout=PATIENCE_S) == (2, True)


@pytest.mark.parametrize(
    ("callers", "listeners", "callers_line", "listeners_line"),
    [
        (SECRET, OTHER, "node 2 has another peer secret than this node", ""),
        (
            SECRET,
            b"",
            "node 2 doesn't ask for a peer secret",
            "node 2 has no peer secret, and the node that calls it has one",
        ),
        (b"", SECRET, "calls node 2 without its peer secret", "node 1 calls node 2 without its peer secret"),
    ],
)
def test_without_the_same_secret_nothing_is_heard_and_both_say_so_once(
    start, caplog, tmp_path, callers, listeners, callers_line, listeners_line
):
    _, inbox = start(2, listeners)
    one, inbox_one = start(1, callers)
    for number in range(3):
        one.send([heartbeat(number)])
        inbox_one.losses.get(timeout=PATIENCE_S)
    (tmp_path / "file").write_bytes(b"x")
    message = Message(MSG_SNAP, to=2, from_=1, term=1, snapshot=Snapshot(SnapshotMetadata(5, 1)))
    one.send_snapshot(message, lambda: str(tmp_path / "file"))
    assert inbox_one.sent_snapshots.get(timeout=PATIENCE_S) == (2, False)
    assert inbox.messages.empty()
    assert inbox.snapshots.empty()
    lines = [record.getMessage() for record in caplog.records if "snapshot for" not in record.getMessage()]
    assert [line for line in lines if line.startswith("node 1: ") and callers_line in line][1:] == []
    assert any(callers_line in line and "--peer-secret-file" in line for line in lines)
    assert (
        len([line for line in lines if line.startswith("node 2: ") and listeners_line in line and listeners_line]) <= 1
    )
    assert any(listeners_line in line for line in lines)


def hello(wire, nonce="0" * 32, sender="1"):
    wire.send(request("/raft/hello", {"Host": "127.0.0.1", "X-Metcd-From": sender, "X-Metcd-Nonce": nonce}))
    return wire.answer()


def test_what_was_recorded_on_one_connection_proves_nothing_on_another(start, peers, monkeypatch):
    """A listener draws its nonce for each connection, and a proof is over both."""
    recorded = []
    head_of = peer_port_module.Handshake.calling

    def record(self, *words):
        fields = head_of(self, *words)
        recorded.append(fields)
        return fields

    monkeypatch.setattr(peer_port_module.Handshake, "calling", record)
    start(2, SECRET)
    one, _ = start(1, SECRET)
    one.send([heartbeat(1)])
    eventually("node 1 has called", lambda: recorded)
    for path in ("/raft/stream", "/raft/snapshot"):
        with Wire(peers[2]) as wire:
            assert hello(wire)[0] == 200
            protocol = {"Upgrade": UPGRADE["Upgrade"] if path == "/raft/stream" else "metcd-snapshot/1"}
            wire.send(request(path, {"Host": "127.0.0.1", **recorded[0], **UPGRADE, **protocol}))
            status, _, body = wire.answer()
            assert status == 403
            assert "another peer secret" in json.loads(body)["error"]
        with Wire(peers[2]) as wire:
            protocol = {"Upgrade": UPGRADE["Upgrade"] if path == "/raft/stream" else "metcd-snapshot/1"}
            wire.send(request(path, {"Host": "127.0.0.1", **recorded[0], **UPGRADE, **protocol}))
            assert wire.answer()[0] == 403


def test_a_listener_does_not_answer_its_own_question(start, peers):
    """Its proof, sent back to it as the caller's, is for another purpose."""
    _, inbox = start(2, SECRET)
    with Wire(peers[2]) as wire:
        answer = hello(wire)[1]
        fields = {"Host": "127.0.0.1", **MEMBER, **UPGRADE, "X-Metcd-Proof": answer["x-metcd-proof"]}
        wire.send(request("/raft/stream", fields))
        assert wire.answer()[0] == 403
    assert inbox.messages.empty()


def test_a_caller_says_nothing_of_itself_to_a_listener_without_the_secret(start, peers, monkeypatch):
    """Somebody who has only the address gets to see a hello, and no message."""
    seen = []
    with socket.create_server(peers[2]) as impostor:
        impostor.settimeout(PATIENCE_S)
        one, _ = start(1, SECRET)
        one.send([heartbeat(1)])
        connection, _ = impostor.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            seen.append(connection.recv(65536))
            nonce, proof = "0" * 32, "0" * 64
            connection.sendall(f"HTTP/1.1 200 OK\r\nX-Metcd-Nonce: {nonce}\r\nX-Metcd-Proof: {proof}\r\n\r\n".encode())
            assert connection.recv(65536) == b""
    assert seen[0].startswith(b"POST /raft/hello ")
    assert b"X-Metcd-Known" not in seen[0]


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "node1.example.com", "127.example.com"])
def test_beyond_loopback_a_secret_is_demanded(host):
    with pytest.raises(ValueError, match="--peer-secret-file"):
        require_secret(host, b"")
    require_secret(host, SECRET)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"])
def test_on_loopback_it_is_not(host):
    require_secret(host, b"")


def test_stop_does_not_wait_for_a_peer_that_does_not_answer(start, peers):
    """A peer that is paused accepts connections, and says nothing for as long as it is."""
    with socket.create_server(peers[2]) as paused:
        one, _ = start(1)
        one.send([heartbeat(1)])
        eventually("it is calling", lambda: one._dialer.calls)
        one.stop()
        assert not [thread for thread in threading.enumerate() if thread.name == "sender-2"]
        assert paused
