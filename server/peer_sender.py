"""What goes to one peer: a queue, a thread that empties it into frames, and a connection that is opened again and again.

    the thread that owns the Raft node ── put ──▶ queue, bounded ──▶ the sender's thread ──▶ frame │ frame │ frame ──▶ the peer

Invariants:

1. `put` never blocks: a full queue refuses, and Raft is told that the peer is unreachable.
2. What gathers while one frame is written leaves in the next one, so a slow link makes larger frames, not a longer queue.
3. Messages leave in their order. A connection that breaks may lose any number of those that were written last.
4. A stream that its peer closed while it was idle is noticed before it is written to.
5. After a failure the sender waits, longer each time, before it calls again: RETRY_DELAY_S.

Follows etcd's rafthttp: stream.go and pipeline.go, and its rule that a full buffer drops.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

from raft.raftpb import Message
from server.addresses import netloc
from server.frames import FRAME_BYTES_MAX, FRAME_MESSAGES_MAX, encode_frame
from server.handshake import Handshake, Known, Refusals, Unproven, answer_of, dial, head_of
from server.limits import PEER_QUEUE_BYTES_MAX, PEER_QUEUE_MESSAGES_MAX
from server.listener import hang_up
from server.metrics import Metrics, describe
from server.snapshot_wire import UPGRADE_SNAPSHOT, SnapshotRefused, announced, send_file

__all__ = ["Dialer", "PeerSender"]

CALL_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 5.0
DIRECT_MESSAGES_MAX = 8  # that are written at once: with one entry each they fit into a frame, however large it is
STREAM_IDLE_S = 0.2  # a stream that nothing was written to for so long is looked at first; a leader's never is idle
RETRY_DELAY_S = (0.02, 0.5)  # the first and the longest wait after a failed connection


describe(
    {
        "peer_connected": "1 if there is a connection on which this node sends to the peer.",
        "peer_queue_messages": "Raft messages that wait to be sent to the peer.",
        "peer_queue_bytes": "Bytes of them.",
        "peer_sent_bytes_total": "Bytes of frames that were sent to the peer; snapshots are not among them.",
        "peer_send_failures_total": "Connections to the peer that broke, or could not be made.",
    }
)


class Dialer:
    """Opens connections to peers, and ends those that are being opened or used when the node stops or their link is cut."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._cut: frozenset[int] = frozenset()
        self.calls: dict[socket.socket, int] = {}  # to which peer
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def call(self, address: tuple[str, int], peer: int) -> Iterator[socket.socket]:
        """A new connection to a peer, which `stop` and `cut` end while it is in here; closed if it ends badly.

        Raises OSError.
        """
        self.require_link(peer)
        connection = socket.create_connection(address, timeout=CALL_TIMEOUT_S)
        with self._guard:
            self.calls[connection] = peer
        try:
            self.require_link(peer)
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
                del self.calls[connection]

    def require_link(self, peer: int) -> None:
        """Raises ConnectionError if nothing may go to this peer."""
        if self.stopping.is_set():
            raise ConnectionError("the node stops")
        if peer in self._cut:
            raise ConnectionError(f"the link to node {peer} is cut")

    def cut(self, peers: frozenset[int]) -> None:
        """From now on these can't be called, and all others can: wakes every thread that waits within a `call` to one."""
        self._cut = peers
        with self._guard:
            for connection, peer in self.calls.items():
                if peer in peers:
                    hang_up(connection)

    def stop(self) -> None:
        """Wakes every thread that waits within `call`; another call fails."""
        self.stopping.set()
        with self._guard:
            for connection in self.calls:
                hang_up(connection)


class PeerSender(threading.Thread):
    """Takes messages for one peer from its queue, and writes them to the peer in frames."""

    def __init__(
        self,
        peer: int,
        address: tuple[str, int],
        dialer: Dialer,
        handshake: Handshake,
        refusals: Refusals,
        unreachable: Callable[[int, list[Message]], None],
        met: Callable[[], None],
        direct: bool = False,
    ) -> None:
        """unreachable: called with the peer and what surely was not sent. met: called when the peer has answered.
        direct: the fast form."""
        super().__init__(name=f"sender-{peer}", daemon=True)
        self._peer = peer
        self.address = address  # where the peer is called
        self._dialer = dialer
        self._handshake = handshake
        self._refusals = refusals
        self._unreachable = unreachable
        self._met = met
        self._queue: queue.SimpleQueue[tuple[int, Message | None] | None] = queue.SimpleQueue()
        self.introduced = threading.Event()
        self._told: Known = frozenset()  # whose directories the peer knows of, as it said or was told
        self._put_bytes = 0  # written by the thread that puts,
        self._taken_bytes = 0  # and by this one: the difference is in the queue
        self._socket: socket.socket | None = None
        # The fast form: who sends writes to the stream itself while nothing waits for it. `_guard` is held to change hands.
        self._direct = direct
        self._guard = threading.Lock()
        self._open: int | None = None  # the stream's descriptor, while it belongs to who sends
        self._written_at = 0.0  # a frame, to the stream
        self._rest = b""  # of a frame that didn't fit into the pipe: the thread's to send, before anything else
        self._sent_bytes = self._failures = 0  # written by whoever has the stream

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def metrics(self) -> Metrics:
        """The queue, the connection, and what went over it; without a label."""
        return {
            "peer_connected": int(self.connected),
            "peer_queue_messages": self._queue.qsize(),
            "peer_queue_bytes": max(0, self._put_bytes - self._taken_bytes),
            "peer_sent_bytes_total": self._sent_bytes,
            "peer_send_failures_total": self._failures,
        }

    def send(self, messages: list[Message]) -> list[Message]:
        """Queues messages; returns those for which the queue is too full. For one thread.

        In the fast form, a stream on which nothing waits is written to at once (`_write`).
        """
        with self._guard:
            if self._open is not None and len(messages) <= DIRECT_MESSAGES_MAX and not self._has_ended(self._open):
                self._write(messages)
                return []
            self._open = None
            return [message for message in messages if not self._put(message)]

    def _write(self, messages: list[Message]) -> None:
        """Writes a frame to the open stream; what the pipe doesn't take is the thread's, and so is the stream then."""
        assert self._open is not None
        sent = 0
        self._written_at = now = time.monotonic()
        frame = encode_frame(messages, now)
        with contextlib.suppress(OSError):  # the thread will meet the same failure, and knows what to do
            sent = os.write(self._open, frame)  # nonblocking: sockets with a timeout are
            self._sent_bytes += sent
        if sent < len(frame):
            self._open = None
            self._rest = frame[sent:]
            self._queue.put((0, None))

    def _has_ended(self, stream: int) -> bool:
        """Whether the peer has closed a stream that was idle: then the first frame would be lost, and nobody would know.

        A follower may have nothing to say to another for hours; when that one leads, it is given a client's write first.
        Nothing ever comes back on a stream, so what can be read is its end.
        """
        if time.monotonic() - self._written_at < STREAM_IDLE_S:
            return False
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        return bool(poll.poll(0))

    def _put(self, message: Message) -> bool:
        size = sum(entry.size() for entry in message.entries) + 128
        queued_bytes = self._put_bytes - self._taken_bytes
        if self._queue.qsize() >= PEER_QUEUE_MESSAGES_MAX or (
            queued_bytes and queued_bytes + size > PEER_QUEUE_BYTES_MAX
        ):
            return False
        self._put_bytes += size
        self._queue.put((size, message))
        return True

    def introduce(self) -> None:
        """Has the peer called, although there is nothing to send. For any thread."""
        self._queue.put((0, None))

    def retire(self) -> None:
        """Ends the thread when it has sent what is queued: the peer is called no more. For any thread."""
        self._queue.put(None)

    def hang_up(self) -> None:
        """Ends the connection; the thread notices, and calls again if it may. For any thread."""
        connection = self._socket
        if connection is not None:
            hang_up(connection)
        self.introduce()

    def stop(self) -> None:
        self._queue.put(None)
        connection = self._socket
        if connection is not None:
            hang_up(connection)

    def run(self) -> None:
        delay_s, longest_s = RETRY_DELAY_S
        stopping = self._dialer.stopping
        roster = self._handshake.roster
        while (messages := self._gather()) is not None:
            unsent = messages
            self._take_over()
            try:
                if self._socket is not None and self._rest:
                    self._socket.sendall(self._rest)
                    self._sent_bytes += len(self._rest)
                    self._rest = b""
                if self._socket is not None and self._has_ended(self._socket.fileno()):
                    self._disconnect()
                if self._socket is not None and not roster.known() <= self._told:
                    self._finish()
                if self._socket is None:
                    self._socket = self._connect()
                    self._dialer.require_link(self._peer)  # again: who cuts it hangs up what is in `_socket`
                    delay_s = RETRY_DELAY_S[0]
                unsent = []
                if messages:
                    self._written_at = now = time.monotonic()
                    frame = encode_frame(messages, now)
                    self._socket.sendall(frame)
                    self._sent_bytes += len(frame)
                self._hand_back()
            except (OSError, http.client.HTTPException):
                self._failures += 1
                lost = messages or self._rest
                self._disconnect()
                if stopping.is_set():
                    break
                if lost:
                    self._unreachable(self._peer, unsent)
                    self.introduced.set()
                    stopping.wait(delay_s)
                    delay_s = min(2 * delay_s, longest_s)
            if not self.introduced.is_set():
                self.introduced.set()
        self._disconnect()

    def _take_over(self) -> None:
        """The stream is this thread's: nobody else writes to it until `_hand_back`."""
        with self._guard:
            self._open = None

    def _hand_back(self) -> None:
        """Nothing waits here: whoever sends may write to the stream itself."""
        with self._guard:
            if self._direct and self._socket is not None and self._queue.empty():
                self._open = self._socket.fileno()

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
        if messages or self._rest:
            self._queue.put(None)  # the end comes after these
            return messages
        return None

    def _connect(self) -> socket.socket:
        """Opens a connection and turns it into a stream. Raises OSError or HTTPException."""
        with self._dialer.call(self.address, self._peer) as connection:
            why, self._told = dial(connection, netloc(*self.address), self._peer, self._handshake)
            if why:
                self._refusals.tell(f"to {self._peer}", why)
                raise ConnectionError(why)
            self._refusals.heard(f"to {self._peer}")
            self._met()
            connection.settimeout(SEND_TIMEOUT_S)
            return connection

    def _finish(self) -> None:
        """Ends the stream when the peer has read all of it, for a new one that begins with what is known now."""
        assert self._socket is not None
        self._socket.shutdown(socket.SHUT_WR)
        self._socket.recv(1)
        self._disconnect()

    def _disconnect(self) -> None:
        self._take_over()
        self._rest = b""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def post_snapshot(self, message: bytes, file: BinaryIO) -> int:
        """Sends a snapshot, or what the peer doesn't have of it yet; the bytes that were sent.

        Raises SnapshotRefused, OSError or HTTPException unless the peer has it.
        """
        handshake, host = self._handshake, netloc(*self.address)
        about = announced(file)
        with self._dialer.call(self.address, self._peer) as connection, connection:
            try:
                fields = handshake.calling(connection, host, self._peer, "/raft/snapshot")
            except Unproven as error:
                raise SnapshotRefused(error.sentence) from None
            fields |= {"Connection": "Upgrade", "Upgrade": UPGRADE_SNAPSHOT, "Content-Length": str(len(message))}
            fields |= {"X-Metcd-File-Size": str(about.size), "X-Metcd-File-Ending": str(about.ending)}
            # an answer that comes before the end of the message is a refusal, and the peer then closes
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(head_of(host, "/raft/snapshot", fields) + message)
            answer = answer_of(connection)
            if answer.status != 101:
                kind = ConnectionError if answer.status == 503 else SnapshotRefused  # 503: try again later
                raise kind(f"node {self._peer} answered {answer.status}: {answer.reason}")
            offset = int(answer.headers.get("X-Metcd-File-Offset", ""))
            return send_file(connection, answer.fp, file, offset, about.size, 10 * SEND_TIMEOUT_S)
