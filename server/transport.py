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
5. Threads and queues are bounded, here and on the port where the peers' connections arrive (server/peer_port.py).
6. Beyond loopback, peers have a secret, and prove it (server/secret.py).

Left out: TLS; whoever can read or change what is on the wire between two nodes must be kept out by the network. Follows
etcd's rafthttp: its stream and snapshot channels, its X-Etcd headers, and its rule that a full buffer drops.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Protocol

from raft.raftpb import MSG_SNAP, Message
from server.addresses import netloc
from server.config import Peers
from server.frames import FRAME_BYTES_MAX, FRAME_MESSAGES_MAX, encode_frame
from server.handshake import Handshake, Refusals, Unproven, answer_of, dial, head_of
from server.logs import Minutely, logger
from server.peer_port import HANDSHAKE_TIMEOUT_S, PeerPort
from server.request import is_local_name
from server.roster import Roster

__all__ = ["Receiver", "Transport", "require_secret"]

QUEUE_MESSAGES = 4096  # for each peer; etcd's stream buffer
QUEUE_BYTES = 128 << 20  # for each peer; or one message
SEND_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 0.5  # for all threads together; what still waits for a machine that is away ends with the process
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

    def __init__(self, roster: Roster, peers: Peers, receiver: Receiver, secret: bytes = b"") -> None:
        """Binds the listener at once, so that a taken port is an OSError here. `start` begins to talk.

        Raises ValueError if it listens beyond this machine without a secret.
        """
        self.node_id = roster.node_id
        require_secret(peers[self.node_id][0], secret)
        self.handshake = Handshake(roster, secret)
        self.refusals = Refusals(self.log, Minutely(logger()))
        self._receiver = receiver
        self._stopping = threading.Event()
        self._senders = {
            peer: _Sender(self, peer, address) for peer, address in sorted(peers.items()) if peer != self.node_id
        }
        self._port = PeerPort(peers[self.node_id], self.handshake, self.refusals, receiver, self.spread_news)
        self._snapshots: set[threading.Thread] = set()
        self._calls: set[socket.socket] = set()  # what `stop` has to wake somebody from
        self._guard = threading.Lock()
        self._spread = self.handshake.roster.known()  # whose directories the peers were last told of

    def start(self) -> None:
        """Starts the listener and a sender for each peer."""
        self._port.start()
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

    def stop_introducing(self) -> None:
        """Ends the wait of `wait_until_introduced`: the node stops, whatever its peers know."""
        for sender in self._senders.values():
            sender.introduced.set()

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
                self._senders[message.to].post_snapshot(message.encode(), file)
            delivered = True
        except Exception as error:
            if not self._stopping.is_set():
                self.log(f"the snapshot for node {message.to} was not delivered: {error}")
        finally:  # whatever happens: Raft sends nothing to that node, and no other snapshot, until it hears of this one
            self._receiver.snapshot_sent(message.to, delivered)

    def stop(self) -> None:
        """Closes every connection and ends every thread; what was queued is lost, as on a broken connection."""
        self._stopping.set()
        self._port.stop()
        for sender in self._senders.values():
            sender.stop()
        with self._guard:
            for call in self._calls:
                _end(call)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for thread in [*self._senders.values(), *self._snapshots]:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    @contextlib.contextmanager
    def call(self, address: tuple[str, int]) -> Iterator[socket.socket]:
        """A new connection to a peer, which `stop` ends while it is in here; closed if it ends badly. Raises OSError."""
        connection = socket.create_connection(address, timeout=HANDSHAKE_TIMEOUT_S)
        with self._guard:
            self._calls.add(connection)
        try:
            if self._stopping.is_set():
                raise ConnectionError("the node stops")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                # Without it, what goes to a machine without power or network is sent again at ever longer intervals,
                # for a quarter of an hour; and two minutes may pass until the first packet after the network is back.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * SEND_TIMEOUT_S))
            yield connection
        except BaseException:
            connection.close()
            raise
        finally:
            with self._guard:
                self._calls.discard(connection)

    def metrics(self) -> dict[str, int | float]:
        """The port's counters."""
        return self._port.metrics()

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
            if not self.introduced.is_set():
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
        with self._transport.call(self._address) as connection:
            why, self._told = dial(connection, netloc(*self._address), self._peer, self._transport.handshake)
            if why:
                self._transport.refusals.tell(f"to {self._peer}", why)
                raise ConnectionError(why)
            self._transport.refusals.heard(f"to {self._peer}")
            self._transport.spread_news()
            connection.settimeout(SEND_TIMEOUT_S)
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

    def post_snapshot(self, message: bytes, file: BinaryIO) -> None:
        """Sends a snapshot as one request. Raises OSError or HTTPException unless the peer has it."""
        handshake, host = self._transport.handshake, netloc(*self._address)
        with self._transport.call(self._address) as connection, connection:
            try:
                fields = handshake.calling(connection, host, self._peer, "/raft/snapshot")
            except Unproven as error:
                raise ConnectionError(error.sentence) from None
            fields["X-Metcd-Message-Size"] = str(len(message))
            fields["Content-Length"] = str(len(message) + os.fstat(file.fileno()).st_size)
            # an answer that comes before the end is a refusal, and the peer then closes
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(head_of(host, "/raft/snapshot", fields) + message)
                while chunk := file.read(1 << 20):
                    connection.sendall(chunk)
            connection.settimeout(10 * SEND_TIMEOUT_S)  # the peer verifies and syncs it before it answers
            answer = answer_of(connection)
            if answer.status != 204:
                raise ConnectionError(f"node {self._peer} answered {answer.status}: {answer.reason}")


def require_secret(host: str, secret: bytes) -> None:
    """Raises ValueError if a node listens for peers beyond its machine and has no secret to know them by."""
    if not secret and not _is_loopback(host):
        raise ValueError(
            f"peers reach this node at {host}, beyond this machine, so they have to prove that they belong to it: start "
            "all nodes with --peer-secret-file FILE, the same secret in each (head -c 32 /dev/urandom | base64)"
        )


def _is_loopback(host: str) -> bool:
    return host == "::1" or host.lower() == "localhost" or (host.startswith("127.") and is_local_name(host.encode()))


def _end(connection: socket.socket) -> None:
    """Wakes whoever reads from it or writes to it; its thread closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
