"""Node to node: what arrives, what is refused, and what is told when something is lost."""

import socket
import struct
import time

import pytest
from crc32c import crc32c

from raft.raftpb import MSG_APP, MSG_SNAP, Entry, Message, Snapshot, SnapshotMetadata
from server import peer_port as peer_port_module
from server import snapshot_wire
from server.transport import Transport
from tests.server.inbox import Inbox
from tests.server.transports import CLUSTER, PATIENCE_S, free_port, heartbeat, roster, transport_of


def test_messages_arrive_once_and_in_order(pair):
    transports, inboxes = pair
    sent = [heartbeat(number) for number in range(3000)]
    sent[7] = Message(MSG_APP, to=2, from_=1, term=1, entries=[Entry(1, i, data=b"x" * i) for i in range(1, 50)])
    for message in sent:
        transports[1].send([message])
    assert [inboxes[2].messages.get(timeout=PATIENCE_S) for _ in sent] == sent
    transports[2].send([heartbeat(1, from_=2, to=1)])
    assert inboxes[1].messages.get(timeout=PATIENCE_S).from_ == 2


def test_a_node_listens_elsewhere_than_its_peers_call_it(peers):
    """Between the two is what passes connections on: NAT, a port of the host's, a proxy. The list names what peers call."""
    inbox = Inbox()
    own = ("127.0.0.1", free_port())
    called = Transport(
        roster(2, peers | {2: ("node2.example", 3380)}), peers | {2: ("node2.example", 3380)}, inbox, listen=own
    )
    caller = transport_of(1, peers | {2: own}, Inbox())
    try:
        called.start()
        caller.start()
        caller.send([heartbeat(1)])
        assert inbox.messages.get(timeout=PATIENCE_S).from_ == 1
        with greet(own[1], Host="node2.example:3380") as named:
            assert b"101" in named.recv(100), "the peers' name for it is its own"
        with greet(own[1], Host="other.example:3380") as foreign:
            assert b"101" not in foreign.recv(100)
    finally:
        caller.stop()
        called.stop()


def test_a_message_to_nobody_is_dropped(pair):
    transports, inboxes = pair
    transports[1].send([heartbeat(1, to=99), heartbeat(2)])
    assert inboxes[2].messages.get(timeout=PATIENCE_S).commit == 2


def greet(port: int, **headers: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    words = {"X-Metcd-Cluster": f"{CLUSTER:x}", "X-Metcd-From": "1", "X-Metcd-To": "2"} | headers
    words = {"X-Metcd-Known": f"{words['X-Metcd-From']}=1.1.0", "X-Metcd-Past": "1.0"} | words
    host = words.pop("Host", f"127.0.0.1:{port}")
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in words.items())
    upgrade = "Connection: Upgrade\r\nUpgrade: metcd-raft/3\r\n"
    connection.sendall(f"POST /raft/stream HTTP/1.1\r\nHost: {host}\r\n{upgrade}{head}\r\n".encode())
    return connection


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Metcd-Cluster": "c2"}, b"412"),
        ({"X-Metcd-To": "3"}, b"412"),
        ({"X-Metcd-From": "2"}, b"412"),
        ({"X-Metcd-Known": "1=2.1.0,2=9.1.0"}, b"412"),
        ({"X-Metcd-Known": "2=2.1.0"}, b"403"),
        ({"X-Metcd-From": "99"}, b"403"),
        ({"X-Metcd-From": "one"}, b"403"),
    ],
)
def test_strangers_are_refused_before_a_byte_of_raft_is_read(pair, peers, headers, status):
    _, inboxes = pair
    with greet(peers[2][1], **headers) as connection:
        assert connection.recv(4096).split()[1] == status
    assert inboxes[2].messages.empty()


def frame(payload: bytes, checksum: int | None = None, size: int | None = None) -> bytes:
    payload = bytes(8) + payload
    return (
        struct.pack("<II", len(payload) if size is None else size, crc32c(payload) if checksum is None else checksum)
        + payload
    )


def sized(message: bytes) -> bytes:
    return struct.pack("<I", len(message)) + message


GOOD = sized(heartbeat(1).encode())


@pytest.mark.parametrize(
    "broken",
    [
        frame(GOOD, checksum=1),
        frame(GOOD, size=1 << 31),
        frame(GOOD[:-1]),
        frame(GOOD + b"\0\0"),
        frame(b""),
        frame(sized(b"no message")),
        frame(sized(heartbeat(1, from_=2).encode())),
        frame(sized(Message(MSG_SNAP, to=2, from_=1, term=1, snapshot=Snapshot(SnapshotMetadata(5, 1))).encode())),
    ],
    ids=[
        "checksum",
        "huge",
        "cut message",
        "trailing bytes",
        "nothing",
        "not a message",
        "another sender",
        "snapshot, no file",
    ],
)
def test_a_broken_frame_ends_its_connection_and_nothing_else(lone, peers, broken):
    _, inbox = lone
    with greet(peers[2][1]) as connection:
        assert b" 101 " in connection.recv(4096)
        connection.sendall(broken)
        assert connection.recv(1) == b""
    assert inbox.messages.empty()
    one = transport_of(1, peers, Inbox())
    one.start()
    try:
        one.send([heartbeat(5)])
        assert inbox.messages.get(timeout=PATIENCE_S).commit == 5
    finally:
        one.stop()


def test_a_byte_now_and_then_does_not_keep_a_stranger_connected(monkeypatch, pair, peers):
    """Each connection costs a thread (slowloris): a deadline that every byte moves is none."""
    monkeypatch.setattr(peer_port_module, "HANDSHAKE_TIMEOUT_S", 0.2)
    with socket.create_connection(("127.0.0.1", peers[2][1]), timeout=0.02) as connection:
        give_up = time.monotonic() + PATIENCE_S
        connection.sendall(b"POST /raft/stream HTTP/1.1\r\nX-Drip: ")
        while time.monotonic() < give_up:
            try:
                connection.sendall(b"x")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("it may drip for as long as it likes")


@pytest.fixture
def lone(peers, form):
    """Node 2, whose peer isn't there."""
    inbox = Inbox()
    transport = transport_of(2, peers, inbox, form)
    transport.start()
    yield transport, inbox
    transport.stop()


def test_a_peer_has_one_stream_and_the_newest_counts(lone, peers):
    """A machine that lost its power never closed the old one, and the thread that reads it would wait for ever."""
    _, inbox = lone
    with greet(peers[2][1]) as old:
        assert b" 101 " in old.recv(4096)
        with greet(peers[2][1]) as new:
            assert b" 101 " in new.recv(4096)
            assert old.recv(1) == b""
            new.sendall(frame(GOOD))
            assert inbox.messages.get(timeout=PATIENCE_S) == heartbeat(1)


def snapshot_message() -> Message:
    return Message(MSG_SNAP, to=2, from_=1, term=1, snapshot=Snapshot(SnapshotMetadata(5, 1)))


def test_a_snapshot_arrives_whole(pair, tmp_path):
    transports, inboxes = pair
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 20_000)
    transports[1].send_snapshot(snapshot_message(), lambda: str(path))
    message, content = inboxes[2].snapshots.get(timeout=PATIENCE_S)
    assert message == snapshot_message()
    assert content == path.read_bytes()
    assert inboxes[1].sent_snapshots.get(timeout=PATIENCE_S) == (2, True)


def test_a_snapshot_that_is_refused_or_can_not_be_written_is_reported_as_not_delivered(pair, tmp_path):
    transports, inboxes = pair
    inboxes[2].refuse_snapshots = True
    path = tmp_path / "file"
    path.write_bytes(b"x")
    transports[1].send_snapshot(snapshot_message(), lambda: str(path))
    assert inboxes[1].sent_snapshots.get(timeout=PATIENCE_S) == (2, False)
    transports[1].send_snapshot(snapshot_message(), lambda: str(tmp_path / "missing"))
    assert inboxes[1].sent_snapshots.get(timeout=PATIENCE_S) == (2, False)


def test_a_snapshot_that_drips_is_given_up(monkeypatch, pair, peers):
    monkeypatch.setattr(snapshot_wire, "SNAPSHOT_GRACE_S", 0.1)
    _, inboxes = pair
    with calling_with_a_snapshot(peers, size=1 << 30, timeout_s=0.02) as connection:
        give_up = time.monotonic() + PATIENCE_S
        assert until(connection, b"\r\n\r\n", give_up).startswith(b"HTTP/1.1 101 ")
        answer = b""
        while not answer and time.monotonic() < give_up:
            connection.sendall(b"x")
            try:
                answer = connection.recv(4096)
            except TimeoutError:
                continue
        assert answer.startswith(b"refused: ")
        assert b"it comes too slowly" in answer
    assert inboxes[2].snapshots.empty()


def calling_with_a_snapshot(peers, size: int, timeout_s: float = PATIENCE_S) -> socket.socket:
    """A connection of node 1 to node 2 that announces a snapshot of so many bytes."""
    message = snapshot_message().encode()
    head = f"POST /raft/snapshot HTTP/1.1\r\nHost: [::1]\r\nX-Metcd-Cluster: {CLUSTER:x}\r\nX-Metcd-From: 1\r\nX-Metcd-To: 2\r\n"
    head += "X-Metcd-Known: 1=1.1.0\r\nX-Metcd-Past: 1.0\r\nConnection: Upgrade\r\nUpgrade: metcd-snapshot/1\r\n"
    head += f"Content-Length: {len(message)}\r\nX-Metcd-File-Size: {size}\r\nX-Metcd-File-Ending: 7\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", peers[2][1]), timeout=timeout_s)
    connection.sendall(head.encode() + message)
    return connection


def until(connection: socket.socket, end: bytes, give_up: float) -> bytes:
    """What comes, up to and including `end`."""
    data = b""
    while not data.endswith(end) and time.monotonic() < give_up:
        try:
            data += connection.recv(1)
        except TimeoutError:
            continue
    return data


def test_a_taken_port_is_an_error_at_once(peers):
    with socket.socket() as taken:
        taken.bind(peers[1])
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            transport_of(1, peers, Inbox())
