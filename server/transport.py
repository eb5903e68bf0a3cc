"""Node to node: Raft's messages over persistent HTTP connections, and snapshots as HTTP bodies.

    the thread that owns        a sender thread            one connection              a receiver thread       the other
    the Raft node               for each peer              for each peer               for each connection     node's inbox

    send(messages)  ──────▶  queue, bounded  ──────▶  frame │ frame │ frame  ──────▶  check, decode  ──────▶  receive([...])

A connection begins as a request and, once both sides have said who they are (server/handshake.py), is a stream of frames
(server/frames.py) in one direction; answers come back on the connection that the other node's sender opened. A snapshot
is one request:

    POST /raft/snapshot HTTP/1.1                            HTTP/1.1 204 No Content
    X-Metcd-Message-Size: m         body: the MsgSnap message (m bytes), then the snapshot file

Invariants:

1. `send` never blocks. Whatever has gathered while a frame was on its way leaves in the next frame, so that a slow link
   makes bigger frames and not a longer queue. A full queue drops what is new, and says so through `unreachable`: Raft
   then probes, and sends again what matters.
2. Messages between two nodes arrive in order, once, or not at all. A connection that breaks may lose any tail.
3. A node listens only to members of its own cluster that meant it and came with their own directory, and sends only to
   such; everything else is refused before a byte of Raft is read. A frame that fails its checksum or doesn't decode ends
   the connection.
4. Nothing that a peer sends is believed to have a size: frames and snapshots have limits. Nothing is ever unpickled, and
   no name from the network becomes the name of a file.
5. Threads and queues are bounded: CONNECTIONS_MAX connections, one stream from each peer (a new one ends the old, whose
   other end may have lost its power and will never say so), a deadline for saying who one is, which no dripping byte
   moves, and a slowest pace for a snapshot.

Left out: TLS and authentication of peers; until they come, the peer port belongs on a trusted network. Follows etcd's
rafthttp: its stream and snapshot channels, its X-Etcd headers, and its rule that a full buffer drops.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, Protocol

from raft.raftpb import MSG_SNAP, DecodeError, Message
from server import guards
from server.config import Peers
from server.forwards import TransitClock
from server.frames import FRAME_BYTES_MAX, FRAME_MESSAGES_MAX, encode_frame, read_frame
from server.handshake import UPGRADE, Handshake, Refusals, dial
from server.logs import Minutely, logger
from server.roster import Roster

__all__ = ["Receiver", "Transport"]

QUEUE_MESSAGES = 4096  # for each peer; etcd's stream buffer
QUEUE_BYTES = 128 << 20  # for each peer; or one message
SNAPSHOT_MESSAGE_BYTES_MAX = 1 << 20
SNAPSHOT_BYTES_MAX = 1 << 40
SEND_TIMEOUT_S = 5.0
HANDSHAKE_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 64  # two for each peer of a large cluster, and a few that come and go
SNAPSHOT_BYTES_PER_S_MIN = 64 << 10  # of a snapshot's body, after the first SNAPSHOT_GRACE_S
SNAPSHOT_GRACE_S = 5.0
RETRY_DELAY_S = (0.02, 0.5)  # the first and the longest wait after a failed connection


class Receiver(Protocol):
    """What a node does with what its peers send; called by the transport's threads."""

    def receive(self, messages: list[Message]) -> None:
        """Takes messages from one peer, in order. Must not block for long."""

    def receive_snapshot(self, message: Message, body: Iterator[bytes]) -> None:
        """Takes a MsgSnap and the snapshot file's bytes; returns when it is safely there, raises if it isn't."""

    def unreachable(self, node_id: int, dropped: list[Message]) -> None:
        """A peer's queue was full, or its connection broke; `dropped` is what surely was not sent."""

    def snapshot_sent(self, node_id: int, delivered: bool) -> None:
        """A snapshot that `send_snapshot` took has arrived, or has not."""


class Transport:
    """One node's connections to all of its peers, and its listener for theirs."""

    def __init__(self, roster: Roster, peers: Peers, receiver: Receiver) -> None:
        """Binds the listener at once, so that a taken port is an OSError here. `start` begins to talk."""
        self.node_id = roster.node_id
        self.handshake = Handshake(roster)
        self.refusals = Refusals(self.log, Minutely(logger()))
        self._receiver = receiver
        self._stopping = threading.Event()
        self._senders = {
            peer: _Sender(self, peer, address) for peer, address in sorted(peers.items()) if peer != self.node_id
        }
        self._listener = _Listener(self, peers[self.node_id], receiver)
        self._snapshots: set[threading.Thread] = set()
        self._spread = self.handshake.roster.known()  # whose directories the peers were last told of

    def start(self) -> None:
        """Starts the listener and a sender for each peer."""
        self._listener.start()
        for sender in self._senders.values():
            sender.introduce()
            sender.start()

    def wait_until_introduced(self, timeout_s: float) -> None:
        """Returns when every peer has been called once, whatever came of it, or after `timeout_s`.

        Peers may know that this node must not take part: it should hear that before it promises anything.
        """
        deadline = time.monotonic() + timeout_s
        for sender in self._senders.values():
            sender.introduced.wait(max(0.0, deadline - time.monotonic()))

    def spread_news(self) -> None:
        """Calls the peers again if a member was met since the last time: the others may not have met it."""
        known = self.handshake.roster.known()
        if self._spread != known:
            self._spread = known
            for sender in self._senders.values():
                sender.introduce()

    def send(self, messages: Iterable[Message]) -> None:
        """Queues each message for the node it is addressed to; never blocks. MsgSnap goes by `send_snapshot`."""
        for message in messages:
            sender = self._senders.get(message.to)
            if sender is not None and not sender.put(message):
                self._receiver.unreachable(message.to, [message])

    def send_snapshot(self, message: Message, write: Callable[[], str]) -> None:
        """Sends a MsgSnap and the file that `write()` writes and names, in a thread of its own.

        `write` is called in that thread. How it ended is told through `Receiver.snapshot_sent`.
        """
        assert message.type == MSG_SNAP
        thread = threading.Thread(target=self._send_snapshot, args=(message, write), name=f"snapshot-{message.to}")
        thread.daemon = True
        self._snapshots = {t for t in self._snapshots if t.is_alive()} | {thread}
        thread.start()

    def _send_snapshot(self, message: Message, write: Callable[[], str]) -> None:
        delivered = False
        try:
            with open(write(), "rb") as file:
                delivered = self._senders[message.to].post_snapshot(message.encode(), file)
        except Exception as error:
            if not self._stopping.is_set():
                self.log(f"the snapshot for node {message.to} was not delivered: {error}")
        finally:  # whatever happens: Raft sends nothing to that node, and no other snapshot, until it hears of this one
            self._receiver.snapshot_sent(message.to, delivered)

    def stop(self) -> None:
        """Closes every connection and ends every thread; what was queued is lost, as on a broken connection."""
        self._stopping.set()
        self._listener.stop()
        for sender in self._senders.values():
            sender.stop()
        for thread in [*self._senders.values(), *self._snapshots]:
            if thread.ident is not None:
                thread.join(timeout=SEND_TIMEOUT_S)

    def connected(self) -> dict[int, bool]:
        """For each peer, whether there is a connection to it now."""
        return {peer: sender.connected for peer, sender in self._senders.items()}

    def log(self, sentence: str) -> None:
        logger().warning("node %d: %s", self.node_id, sentence)


class _Sender(threading.Thread):
    """Takes messages for one peer from its queue, and writes them to the peer in frames."""

    def __init__(self, transport: Transport, peer: int, address: tuple[str, int]) -> None:
        super().__init__(name=f"sender-{peer}", daemon=True)
        self._transport = transport
        self._peer = peer
        self._address = address
        self._queue: queue.SimpleQueue[tuple[int, Message | None] | None] = queue.SimpleQueue()
        self.introduced = threading.Event()
        self._told: frozenset[int] = frozenset()  # whose directories the peer knows of, as it said or was told
        self._put_bytes = 0  # written by the thread that puts,
        self._taken_bytes = 0  # and by this one: the difference is in the queue
        self._socket: socket.socket | None = None

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def put(self, message: Message) -> bool:
        """Queues a message; False if the queue is full. For one thread."""
        size = sum(entry.size() for entry in message.entries) + 128
        queued_bytes = self._put_bytes - self._taken_bytes
        if self._queue.qsize() >= QUEUE_MESSAGES or (queued_bytes and queued_bytes + size > QUEUE_BYTES):
            return False
        self._put_bytes += size
        self._queue.put((size, message))
        return True

    def introduce(self) -> None:
        """Has the peer called, although there is nothing to send. For any thread."""
        self._queue.put((0, None))

    def stop(self) -> None:
        self._queue.put(None)
        connection = self._socket
        if connection is not None:
            _end(connection)

    def run(self) -> None:
        delay_s, longest_s = RETRY_DELAY_S
        stopping = self._transport._stopping
        roster = self._transport.handshake.roster
        while (messages := self._gather()) is not None:
            unsent = messages
            try:
                if self._socket is not None and not roster.known() <= self._told:
                    self._finish()
                if self._socket is None:
                    self._socket = self._connect()
                    delay_s = RETRY_DELAY_S[0]
                unsent = []
                if messages:
                    self._socket.sendall(encode_frame(messages, time.monotonic()))
            except (OSError, http.client.HTTPException):
                self._disconnect()
                if stopping.is_set():
                    break
                if messages:
                    self._transport._receiver.unreachable(self._peer, unsent)
                    self.introduced.set()
                    stopping.wait(delay_s)
                    delay_s = min(2 * delay_s, longest_s)
            self.introduced.set()
        self._disconnect()

    def _gather(self) -> list[Message] | None:
        """Waits for a message, and takes what else is there, up to a frame's limits; None when it is time to stop."""
        messages: list[Message] = []
        budget_bytes = FRAME_BYTES_MAX // 2  # one message may be as large as the rest of the limit
        while (queued := self._queue.get()) is not None:
            size, message = queued
            if message is None:  # to be introduced
                if self._queue.empty():
                    return messages
                continue
            self._taken_bytes += size
            messages.append(message)
            budget_bytes -= size
            if budget_bytes <= 0 or len(messages) == FRAME_MESSAGES_MAX or self._queue.empty():
                return messages
        return None

    def _connect(self) -> socket.socket:
        """Opens a connection and turns it into a stream. Raises OSError or HTTPException."""
        connection = socket.create_connection(self._address, timeout=HANDSHAKE_TIMEOUT_S)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                # Without it, what goes to a machine without power or network is sent again at ever longer intervals,
                # for a quarter of an hour; and two minutes may pass until the first packet after the network is back.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * SEND_TIMEOUT_S))
            why, self._told = dial(connection, self._address[0], self._peer, self._transport.handshake)
            if why:
                self._transport.refusals.tell(f"to {self._peer}", why)
                raise ConnectionError(why)
            self._transport.refusals.heard(f"to {self._peer}")
            self._transport.spread_news()
            connection.settimeout(SEND_TIMEOUT_S)
        except BaseException:
            connection.close()
            raise
        return connection

    def _finish(self) -> None:
        """Ends the stream when the peer has read all of it, for a new one that begins with what is known now."""
        assert self._socket is not None
        self._socket.shutdown(socket.SHUT_WR)
        self._socket.recv(1)
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def post_snapshot(self, message: bytes, file: BinaryIO) -> bool:
        """Sends a snapshot as one request; True if the peer has it. Raises OSError or HTTPException."""
        connection = http.client.HTTPConnection(*self._address, timeout=SEND_TIMEOUT_S)
        try:
            connection.putrequest("POST", "/raft/snapshot")
            for name, value in self._transport.handshake.headers(self._peer).items():
                connection.putheader(name, value)
            connection.putheader("X-Metcd-Message-Size", str(len(message)))
            connection.putheader("Content-Length", str(len(message) + os.fstat(file.fileno()).st_size))
            connection.endheaders(message)
            while chunk := file.read(1 << 20):
                connection.send(chunk)
                if self._transport._stopping.is_set():
                    return False
            if connection.sock is not None:
                connection.sock.settimeout(10 * SEND_TIMEOUT_S)  # the peer verifies and syncs it before it answers
            return connection.getresponse().status == 204
        finally:
            connection.close()


def _end(connection: socket.socket) -> None:
    """Wakes whoever reads from it or writes to it; its thread closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Listener(ThreadingHTTPServer):
    """Accepts the peers' connections; each is handled by a thread."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, transport: Transport, address: tuple[str, int], receiver: Receiver) -> None:
        self.transport = transport
        self.receiver = receiver
        self._connections: dict[socket.socket, float] = {}  # until when it has to say who it is
        self._streams: dict[int, socket.socket] = {}  # the newest of each peer
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="peer-listener", daemon=True)
        super().__init__(address, _PeerHandler)

    def server_bind(self) -> None:
        """As http.server's, without looking up the machine's name, which may ask the network."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self.shutdown()
        self.server_close()
        with self._guard:
            for connection in self._connections:
                _end(connection)

    def service_actions(self) -> None:
        """Called several times a second: ends the connections that have not said in time who they are."""
        now = time.monotonic()
        with self._guard:
            for connection, deadline in self._connections.items():
                if deadline < now:
                    _end(connection)

    def greeted(self, connection: socket.socket, stream_from: int | None = None) -> None:
        """It has said who it is. Its stream takes the place of the one that this peer had before."""
        with self._guard:
            self._connections[connection] = math.inf
            if stream_from is not None:
                last = self._streams.get(stream_from)
                if last is not None:
                    _end(last)
                self._streams[stream_from] = connection

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return len(self._connections) < CONNECTIONS_MAX

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._connections[request] = time.monotonic() + HANDSHAKE_TIMEOUT_S
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection is nothing to report; anything else is told in one line."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.transport.log(f"a peer's connection from {client_address} ended: {error!r}")


class _PeerHandler(BaseHTTPRequestHandler):
    """One connection from a peer: a stream of frames until it ends, or one snapshot."""

    protocol_version = "HTTP/1.1"
    timeout = HANDSHAKE_TIMEOUT_S
    server: _Listener

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.close_connection = True
        transport = self.server.transport
        refusal = transport.handshake.refusal(self.headers)
        sender = f"from {self.headers.get('X-Metcd-From', '')[:19]}"
        if refusal:
            transport.refusals.tell(sender, refusal[1])
            self._answer(*refusal)
            return
        transport.refusals.heard(sender)
        transport.spread_news()
        if self.path == "/raft/stream":
            self._stream()
        elif self.path == "/raft/snapshot":
            self._snapshot()
        else:
            self._answer(404, "peers ask for /raft/stream or /raft/snapshot")

    def _answer(self, status: int, reason: str) -> None:
        self.send_response(status, reason.encode("latin-1", "replace").decode("latin-1"))
        self._say_who()
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def _say_who(self) -> None:
        for name, value in self.server.transport.handshake.headers().items():
            self.send_header(name, value)

    def _stream(self) -> None:
        """Reads frames until the peer closes, and hands over all that one read brought at once."""
        sender = int(self.headers["X-Metcd-From"])
        self.server.greeted(self.connection, sender)  # before the peer hears that it is, so that the order is its own
        self.send_response(101)
        self._say_who()
        self.send_header("Upgrade", UPGRADE)
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        self.connection.settimeout(None)
        receive = self.server.receiver.receive
        transit = TransitClock()
        try:
            while (messages := read_frame(self.rfile.read, sender, transit, time.monotonic)) is not None:
                receive(messages)
        except DecodeError as error:
            self.server.transport.log(f"the stream from node {sender} is broken off: {error}")

    def _snapshot(self) -> None:
        """Reads the message and hands the rest of the body to the node as it comes."""
        try:
            message_size = int(self.headers["X-Metcd-Message-Size"])
            body_size = int(self.headers["Content-Length"]) - message_size
        except (TypeError, ValueError):
            self._answer(400, "a snapshot has X-Metcd-Message-Size and Content-Length")
            return
        if not (0 < message_size <= SNAPSHOT_MESSAGE_BYTES_MAX and 0 <= body_size <= SNAPSHOT_BYTES_MAX):
            self._answer(413, "the snapshot is larger than this node takes")
            return
        self.server.greeted(self.connection)
        try:
            message = Message.decode(self.rfile.read(message_size))
            guards.check(message, int(self.headers["X-Metcd-From"]))
            if message.type != MSG_SNAP:
                raise DecodeError("a snapshot's message is a MsgSnap")
            self.server.receiver.receive_snapshot(message, self._body(body_size))
        except Exception as error:
            self.server.transport.log(f"a snapshot from node {self.headers['X-Metcd-From']} is refused: {error}")
            self._answer(422, "the snapshot is not whole")
            return
        self._answer(204, "No Content")

    def _body(self, size: int) -> Iterator[bytes]:
        deadline = time.monotonic() + SNAPSHOT_GRACE_S
        while size:
            chunk = self.rfile.read1(min(size, 1 << 20))
            if not chunk:
                raise ConnectionError(f"the connection ended {size} bytes before the snapshot did")
            deadline += len(chunk) / SNAPSHOT_BYTES_PER_S_MIN
            if time.monotonic() > deadline:
                raise TimeoutError(f"it comes too slowly, and {size:,} bytes are missing")
            size -= len(chunk)
            yield chunk
