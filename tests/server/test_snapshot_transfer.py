"""A snapshot's way to a peer: chunks with checksums, acknowledgements, and going on after a cut.

Between the two nodes stands a relay, which counts what passes, flips a bit of it, or cuts the connection.
"""

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Callable

import pytest

from engines.env import RealEnv
from raft.raftpb import MSG_SNAP, ConfState, Message, Snapshot, SnapshotMetadata
from server import snapshot_wire, transport
from server.errors import Overloaded
from server.identity import Identity, address_list
from server.roster import Roster
from server.snapshot import read_snapshot, write_snapshot
from server.snapshot_incoming import IncomingSnapshots
from server.snapshot_outgoing import OutgoingSnapshot
from server.snapshot_wire import Announced, SnapshotRefused, send_file
from server.statemachine import MachineSnapshot
from server.transport import Transport
from tests.server.inbox import Inbox
from tests.server.local_nodes import PATIENCE_S, eventually, free_ports
from tests.server.transports import CLUSTER

CHUNK = 8 << 10
PAIRS = [(b"key%06d" % number, b"%d" % number * 20) for number in range(3000)]


def metadata_at(index: int) -> SnapshotMetadata:
    return SnapshotMetadata(index, 1, ConfState((1, 2)))


class Relay:
    """Stands before a port: hands on what comes from the one that calls, through `change`, and back what is answered.

    change: of the bytes of one connection, with how many came on it before; None cuts the connection.
    """

    def __init__(self, port: int, to: int, change: Callable[[int, int, bytes], bytes | None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._to = to
        self._change = change
        self.connections = 0
        self.forward_bytes: list[int] = []
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, run, *words) -> None:
        self._threads.append(threading.Thread(target=run, args=words, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += [near, far]
                self.forward_bytes.append(0)
                self._start(self._forward, self.connections, near, far)
                self._start(self._back, near, far)
                self.connections += 1

    def _forward(self, number: int, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(4096):
                before = self.forward_bytes[number]
                self.forward_bytes[number] += len(data)
                changed = self._change(number, before, data)
                if changed is None:
                    break
                far.sendall(changed)
        _end(near, far)

    @staticmethod
    def _back(near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(4096):
                near.sendall(data)
        _end(near, far)

    def close(self) -> None:
        _end(*self._sockets)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()


def _end(*connections: socket.socket) -> None:
    for each in connections:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class Keeping(Inbox):
    """A receiver with a directory, as a node has it."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        self.incoming = IncomingSnapshots(directory, RealEnv())

    def receive_snapshot(self, message, file, rest) -> None:
        self.incoming.receive(message.snapshot.metadata, file, rest)
        self.snapshots.put((message, b""))


@pytest.fixture
def send(tmp_path, monkeypatch):
    """Sends the file of a snapshot through a relay, and returns what became of it; a second call goes on."""
    monkeypatch.setattr(snapshot_wire, "CHUNK_BYTES", CHUNK)
    # As often as it takes: a receiver that hasn't noticed a cut yet answers that it is busy with the one before.
    monkeypatch.setattr(transport, "RESUME_DELAYS_S", (0.01,) * 1000)
    open_ones = []
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    inbox, outbox = Keeping(str(here)), Inbox()
    ports = free_ports(3)

    def member(node_id: int, port_of_two: int, receiver: Inbox) -> Transport:
        peers = {1: ("127.0.0.1", ports[0]), 2: ("127.0.0.1", port_of_two)}
        identity = Identity(CLUSTER, node_id, node_id, "memory", address_list(peers)).started(1, 0)
        made = Transport(Roster(identity, lambda met: None), peers, receiver)
        made.start()
        open_ones.append(made)
        return made

    def send(change, index: int = 7, pairs=PAIRS):
        if not open_ones:
            send.change = as_it_is
            open_ones.append(Relay(ports[2], ports[1], lambda *words: send.change(*words)))
            member(2, ports[1], inbox)
            send.one = member(1, ports[2], outbox)
            eventually("they have met", lambda: send.one.connected()[2])
        send.change, send.relay = change, open_ones[0]
        path = write_snapshot(str(there), metadata_at(index), pairs)
        message = Message(MSG_SNAP, to=2, from_=1, term=1, snapshot=Snapshot(metadata_at(index)))
        send.one.send_snapshot(message, lambda: path)
        delivered = outbox.sent_snapshots.get(timeout=PATIENCE_S)
        assert delivered[0] == 2
        return delivered[1]

    send.here, send.incoming = here, inbox.incoming
    yield send
    for each in open_ones[::-1]:
        each.stop() if isinstance(each, Transport) else each.close()
    inbox.incoming.drop()


def as_it_is(number: int, before: int, data: bytes) -> bytes:
    return data


def files(directory) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_transfer_that_is_cut_goes_on_where_it_was(send):
    """Counted: all connections together bring the file once, and at most the window of each cut a second time."""
    limit = 10 * CHUNK
    cut: set[int] = set()

    def cut_four_times(number, before, data):
        if before >= limit and len(cut) < 4:
            cut.add(number)
            return None
        return data

    assert send(cut_four_times)
    size = (send.here / "0000000000000001-0000000000000007.snap").stat().st_size
    assert size > 12 * CHUNK
    assert list(read_snapshot(str(send.here / "0000000000000001-0000000000000007.snap"))[1]) == PAIRS
    counters = send.incoming.counters
    assert counters["snapshot_bytes_received"] == size
    assert counters["snapshots_resumed"] >= 1
    assert counters["snapshots_received"] == 1
    assert files(send.here) == ["0000000000000001-0000000000000007.snap"]


def test_what_raft_asks_for_again_goes_on_too(send, monkeypatch):
    """The transfer was given up; the next MsgSnap names the same state, and brings only the rest."""
    monkeypatch.setattr(transport, "RESUME_DELAYS_S", ())
    assert not send(lambda number, before, data: data if before < 10 * CHUNK else None)
    eventually("the cut is noticed", lambda: not send.incoming._guard.locked())
    assert files(send.here) == ["received.snap.part"]
    assert send.incoming.counters["snapshot_bytes_received"] >= CHUNK
    assert send(as_it_is)
    size = (send.here / "0000000000000001-0000000000000007.snap").stat().st_size
    assert send.incoming.counters["snapshot_bytes_received"] == size
    assert send.incoming.counters["snapshots_resumed"] == 1


def test_the_part_of_another_snapshot_is_dropped(send, monkeypatch):
    monkeypatch.setattr(transport, "RESUME_DELAYS_S", ())
    assert not send(lambda number, before, data: data if before < 10 * CHUNK else None)
    eventually("the cut is noticed", lambda: not send.incoming._guard.locked())
    assert send(as_it_is, index=8)
    assert files(send.here) == ["0000000000000001-0000000000000008.snap"]
    assert send.incoming.counters["snapshots_resumed"] == 0


def test_a_flipped_bit_is_noticed_with_its_chunk(send, monkeypatch):
    """Of a file of twenty chunks no more is sent than the window after the chunk that was damaged; and it is sent again."""
    monkeypatch.setattr(snapshot_wire, "WINDOW_BYTES", 2 * CHUNK)
    flipped = []

    def flip(number, before, data):
        if flipped or before < 3 * CHUNK:
            return data
        flipped.append(number)
        return data[:-1] + bytes((data[-1] ^ 1,))

    assert send(flip, pairs=[(b"%06d" % number, b"x" * 100) for number in range(3000)])
    assert send.relay.forward_bytes[flipped[0]] < 3 * CHUNK + 5 * CHUNK
    size = (send.here / "0000000000000001-0000000000000007.snap").stat().st_size
    assert send.incoming.counters["snapshot_bytes_received"] == size


def test_the_rest_of_another_file_is_found_out_and_the_next_attempt_begins_anew(tmp_path):
    """Two files that are named alike by chance: the whole is verified all the same, and nothing of it stays."""
    incoming = IncomingSnapshots(str(tmp_path), RealEnv())
    path = write_snapshot(str(tmp_path), metadata_at(7), PAIRS)
    with open(path, "rb") as file:
        content = file.read()
    RealEnv().unlink(path)
    about = Announced(len(content), 1)

    def cut(offset):
        yield bytes(CHUNK)
        raise ConnectionError("cut")

    with pytest.raises(ConnectionError):
        incoming.receive(metadata_at(7), about, cut)
    with pytest.raises(Exception, match=r"received\.snap\.part"):
        incoming.receive(metadata_at(7), about, lambda offset: iter([content[offset:]]))
    assert files(tmp_path) == []
    incoming.receive(metadata_at(7), about, lambda offset: iter([content[offset:]]))
    assert list(read_snapshot(path)[1]) == PAIRS


def test_a_part_that_the_log_has_passed_goes(tmp_path):
    """The node has caught up by entries, and nobody will ask for the rest."""
    incoming = IncomingSnapshots(str(tmp_path), RealEnv())

    def cut(offset):
        yield b"x"
        incoming.drop_passed(7)  # it is being received: not now
        raise ConnectionError("cut")

    with pytest.raises(ConnectionError):
        incoming.receive(metadata_at(7), Announced(2, 1), cut)
    incoming.drop_passed(6)
    assert files(tmp_path) == ["received.snap.part"]
    incoming.drop_passed(7)
    assert files(tmp_path) == []


def test_a_part_whose_write_failed_is_not_gone_on_with(tmp_path, monkeypatch):
    incoming = IncomingSnapshots(str(tmp_path), RealEnv())

    class Full:
        def append(self, data: bytes) -> None:
            raise OSError(28, "full")

        def close(self) -> None:
            pass

    def fill(offset):
        yield b"x"
        monkeypatch.setattr(incoming._part[2], "_file", Full())
        yield b"y"

    with pytest.raises(OSError, match="full"):
        incoming.receive(metadata_at(7), Announced(2, 1), fill)
    assert files(tmp_path) == []


def test_one_snapshot_is_received_at_a_time(tmp_path):
    incoming = IncomingSnapshots(str(tmp_path), RealEnv())

    def rest(offset):
        with pytest.raises(Overloaded, match="another snapshot"):
            incoming.receive(metadata_at(8), Announced(1, 1), lambda offset: iter(()))
        raise ConnectionError("enough")
        yield b""

    with pytest.raises(ConnectionError, match="enough"):
        incoming.receive(metadata_at(7), Announced(1, 1), rest)
    incoming.drop()


# ---- the wire -------------------------------------------------------------------------------------------------------


class Wire:
    """A sender's connection that keeps what it was given."""

    def __init__(self) -> None:
        self.sent = b""
        self.writes = 0

    def sendall(self, data: bytes) -> None:
        self.sent += data
        self.writes += 1

    def settimeout(self, timeout_s: float) -> None:
        pass


def test_the_bytes_of_a_chunk():
    wire = Wire()
    assert send_file(wire, io.BytesIO(b"5\ndone\n"), io.BytesIO(b"abcde"), 2, 5, 1.0) == 3
    size, checksum = struct.unpack_from("<II", wire.sent)
    assert (size, wire.sent[8:]) == (3, b"cde")
    assert checksum == snapshot_wire.checksum_of(2, b"cde")


def test_no_more_than_the_window_is_on_its_way(monkeypatch):
    """Flow control: a receiver that acknowledges nothing gets a window, and not a byte beyond."""
    monkeypatch.setattr(snapshot_wire, "CHUNK_BYTES", 100)
    monkeypatch.setattr(snapshot_wire, "WINDOW_BYTES", 400)
    wire = Wire()
    with pytest.raises(ConnectionError, match="ended"):
        send_file(wire, io.BytesIO(b""), io.BytesIO(bytes(10_000)), 0, 10_000, 1.0)
    assert wire.writes == 4
    with pytest.raises(SnapshotRefused, match="no room"):
        send_file(wire, io.BytesIO(b"100\n200\nrefused: no room\n"), io.BytesIO(bytes(10_000)), 0, 10_000, 1.0)


@pytest.mark.parametrize("said", [b"-1\n", b"x\n", b"9" * 30 + b"\n", b"\xff\n"])
def test_what_a_receiver_says_is_a_number_or_a_word(said):
    with pytest.raises(SnapshotRefused):
        send_file(Wire(), io.BytesIO(said), io.BytesIO(b"abc"), 0, 3, 1.0)


@pytest.mark.parametrize("offset", [-1, 4])
def test_an_offset_beyond_the_file_is_refused(offset):
    with pytest.raises(SnapshotRefused):
        send_file(Wire(), io.BytesIO(b"done\n"), io.BytesIO(b"abc"), offset, 3, 1.0)


# ---- one file for several followers ---------------------------------------------------------------------------------


class View:
    def __init__(self) -> None:
        self.closed = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        self.closed += 1


def test_a_file_is_written_once_whoever_asks(tmp_path):
    writes = []

    def write(snapshot) -> str:
        writes.append(snapshot)
        (tmp_path / "file").write_bytes(b"")
        return str(tmp_path / "file")

    view = View()
    outgoing = OutgoingSnapshot(MachineSnapshot(metadata_at(7), view), write, RealEnv())
    threads = [threading.Thread(target=outgoing.path) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(writes), view.closed) == (1, 1)
    assert outgoing.usable(first_index=8)
    assert not outgoing.usable(first_index=9)
    (tmp_path / "file").unlink()
    assert not outgoing.usable(first_index=8)


def test_a_file_that_could_not_be_written_is_not_asked_for_again():
    def write(snapshot) -> str:
        raise OSError(28, "full")

    view = View()
    outgoing = OutgoingSnapshot(MachineSnapshot(metadata_at(7), view), write, RealEnv())
    for match in ("full", "could not be written"):
        with pytest.raises(OSError, match=match):
            outgoing.path()
    assert not outgoing.usable(first_index=1)
    assert view.closed == 1
    unwanted = OutgoingSnapshot(MachineSnapshot(metadata_at(7), view), write, RealEnv())
    unwanted.forget()
    assert view.closed == 2
