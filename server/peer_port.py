"""The port for peers: who is let in there, and what is read of whom.

    accept ──▶ a stranger, one of 32 ──▶ head ──▶ Host? Origin? ──▶ hello, proof ──▶ who is it? ──▶ a member
                 │ for 5 s                            secret.py        handshake.py            │
                 │                                                                             ├─▶ a stream of frames
                 ▼ too many: the one that has been silent longest goes                         └─▶ a snapshot

Invariants:

1. Before a connection has said who it is, and proved it where there is a secret, it is a stranger. Strangers have places
   of their own, so that no number of them keeps a member out, and a time that no dripping byte moves.
2. A member has one stream, the newest (the old one's other end may have lost its power, and will never say so), and
   SNAPSHOTS_FROM_PEER_MAX snapshots at a time. So threads are bounded.
3. What a browser can be made to send is refused: a Host that is a name other than this node's own, any Origin, a page of
   another site; and what is sent begins with an Upgrade, which no page can ask for.
4. Errors are answered in the form of the client port: a status and {"error": "one sentence"}.
5. What isn't a request of a peer is counted, and told once a minute.

A request's head is read by server/request.py, which has the reasons for its strictness.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Collection, Iterator
from email.message import Message as Headers
from functools import partial
from http import HTTPStatus
from io import BufferedReader
from typing import Protocol, TypeVar, cast

from raft.raftpb import MSG_SNAP, DecodeError, Message
from server import guards
from server.errors import Overloaded
from server.forwards import TransitClock
from server.frames import read_frame
from server.handshake import UPGRADE, Caller, Handshake, Refusals, Unproven
from server.limits import HANDSHAKE_TIMEOUT_S, SNAPSHOT_BYTES_MAX, SNAPSHOTS_FROM_PEER_MAX, STRANGERS_MAX
from server.listener import Listener, drain, hang_up
from server.logs import Minutely, logger
from server.loop import Loop
from server.loop_peers import LoopStream
from server.metrics import Metrics, describe, labelled
from server.request import BadRequest, Request, is_local_name, read_head
from server.secret import HELLO
from server.snapshot_wire import UPGRADE_SNAPSHOT, Announced, IncomingFile

__all__ = ["Hearer", "PeerPort"]

REQUESTS_MAX = 4  # on one connection: a hello, and what it was about
SNAPSHOT_MESSAGE_BYTES_MAX = 1 << 20
LINGER_S = 0.5  # how long what follows a refusal is dropped, so that the refusal can be read
LINGER_BYTES = 4 << 20
STOP_TIMEOUT_S = 0.5  # for all connections together; what is still loading a snapshot then ends with the process

describe(
    {
        "peer_received_bytes_total": "Bytes of frames that came from the peer; snapshots are not among them.",
        "peer_connections": "Connections on the port for peers, also of those that have not said who they are.",
        "peer_connections_crowded_out_total": "Connections that said too late who they are.",
        "peer_connections_refused_total": "Connections of nodes that are not let in.",
        "peer_garbage_total": "What came to the port for peers and is nothing that a peer says.",
        "peer_snapshots_refused_total": "Snapshots from peers that were not taken.",
    }
)

Outcome = TypeVar("Outcome")


class Hearer(Protocol):
    """What a node does with what its peers send; called by this port's threads."""

    def receive(self, messages: list[Message]) -> None:
        """Takes messages from one peer, in order. Must not block for long."""

    def receive_snapshot(self, message: Message, file: Announced, rest: Callable[[int], Iterator[bytes]]) -> None:
        """Takes a MsgSnap and the snapshot file's bytes; returns when it is safely there, raises if it isn't.

        rest: called once, with the number of bytes of this very file that are here already; brings what follows them.
        """


class PeerPort(Listener):
    """Listens for peers. It binds in the constructor (OSError if the port is taken); `start` accepts."""

    def __init__(
        self,
        address: tuple[str, int],
        handshake: Handshake,
        refusals: Refusals,
        hearer: Hearer,
        met: Callable[[], None],
        name: str = "",
        loop: Loop | None = None,
    ) -> None:
        """refusals: who is refused is told there. met: called when a member has said who it is. name: what peers call this
        host, if not by `address`. loop: in which streams are read; None: each in the thread of its connection."""
        self.handshake = handshake
        self.met = met
        self.refusals = refusals
        self.loop = loop
        self.hearer = hearer
        self.name = (name or address[0]).lower().encode()
        self._guard = threading.Lock()
        self._strangers: dict[socket.socket, float] = {}  # until when it has to say who it is; the oldest first
        self._members: dict[socket.socket, int] = {}  # whose connection it is
        self._streams: dict[int, socket.socket] = {}  # the newest of each member
        self._received_bytes: dict[int, int] = {}  # by member; the thread of its newest stream counts
        self._cut: frozenset[int] = frozenset()  # whose calls don't arrive
        self._crowded_out = 0
        self._refused = 0
        self._garbage = Minutely(logger("peers"))
        self._snapshots_refused = Minutely(logger("peers"))
        super().__init__(address, _Connection, "peer-listener", logger("peers"))

    def stop(self) -> None:
        """Accepts no more, and ends every connection. Takes POLL_S and STOP_TIMEOUT_S at most."""
        self.stop_accepting()
        self.end_connections(socket.SHUT_RDWR, STOP_TIMEOUT_S)

    def metrics(self) -> Metrics:
        """Connections, what came over them, and what was wrong with some of them."""
        return {
            **{labelled("peer_received_bytes_total", peer=peer): n for peer, n in self._received_bytes.copy().items()},
            "peer_connections": len(self._strangers) + len(self._members),
            "peer_connections_crowded_out_total": self._crowded_out,
            "peer_connections_refused_total": self._refused,
            "peer_garbage_total": self._garbage.count,
            "peer_snapshots_refused_total": self._snapshots_refused.count,
        }

    # ---- what connections call --------------------------------------------------------------------------------------

    def count(self, member: int, size: int) -> None:
        """Bytes have come from a member. For the thread of its newest stream."""
        self._received_bytes[member] = self._received_bytes.get(member, 0) + size

    def admit(self, connection: socket.socket, member: int, is_stream: bool) -> bool:
        """Makes a member of a stranger. Its stream takes the place of the one that it had before.

        False if it must go: it was crowded out a moment ago, or the member sends enough snapshots already.
        """
        with self._guard:
            others = sum(1 for other in self._members.values() if other == member)
            if connection not in self._strangers or (not is_stream and others > SNAPSHOTS_FROM_PEER_MAX):
                return False
            if member in self._cut:
                return False
            del self._strangers[connection]
            self._members[connection] = member
            if is_stream:
                last = self._streams.get(member)
                if last is not None:
                    hang_up(last)
                self._streams[member] = connection
            return True

    def expel(self, members: Collection[int]) -> None:
        """Ends all connections of these, which are members no more."""
        with self._guard:
            for connection, member in self._members.items():
                if member in members:
                    hang_up(connection)

    def cut(self, members: frozenset[int]) -> None:
        """From now on these are not heard, and all others are: connections end, and calls get no answer."""
        with self._guard:
            self._cut = members
        self.expel(members)

    def is_cut(self, headers: Headers[str, str]) -> bool:
        """True if the caller, as it says who it is, can't be heard."""
        return bool(self._cut) and _number(headers, "X-Metcd-From") in self._cut

    def refused(self, whom: str, sentence: str) -> None:
        """Counts a refusal; `whom`, if it was somebody in particular, is told of once."""
        self._refused += 1
        if whom:
            self.refusals.tell(whom, sentence)

    def tell_of_garbage(self, host: str, why: str) -> None:
        """Counts what no peer sends."""
        self._garbage.say(
            f"node {self.handshake.node_id}: what {host} sends to the port for peers is none of theirs: {why}"
        )

    def tell_of_snapshot(self, sentence: str) -> None:
        """Tells of one that was refused; the sender tries again, and may be told the same for a while."""
        self._snapshots_refused.say(f"node {self.handshake.node_id}: {sentence}")

    # ---- what the listener asks -------------------------------------------------------------------------------------

    def welcome(self, connection: socket.socket) -> bool:
        """Gives a stranger a place, if need be that of the stranger who has had time for longest."""
        with self._guard:
            while len(self._strangers) >= STRANGERS_MAX:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                self._crowded_out += 1
                hang_up(oldest)
            self._strangers[connection] = time.monotonic() + HANDSHAKE_TIMEOUT_S
        return True

    def gone(self, connection: socket.socket) -> None:
        """Forgets a connection that has ended."""
        with self._guard:
            self._strangers.pop(connection, None)
            member = self._members.pop(connection, None)
            if member is not None and self._streams.get(member) is connection:
                del self._streams[member]

    def service_actions(self) -> None:
        """Called several times a second: ends the connections that have not said in time who they are."""
        now = time.monotonic()
        with self._guard:
            late = [connection for connection, deadline in self._strangers.items() if deadline < now]
            for connection in late:
                hang_up(connection)


class _Connection(socketserver.StreamRequestHandler):
    """One connection: a hello if there is a secret, and then a stream of frames until it ends, or one snapshot."""

    server: PeerPort
    disable_nagle_algorithm = True
    timeout = HANDSHAKE_TIMEOUT_S

    def setup(self) -> None:
        super().setup()
        self._caller = Caller(self.server.handshake)

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            for _ in range(REQUESTS_MAX):
                try:
                    if not self._serve_one():
                        return
                except BadRequest as error:
                    self._refuse(error)
                    return

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def _serve_one(self) -> bool:
        """One request; True if another one may follow. Raises BadRequest, OSError."""
        found = self._read_head()
        if found is None:
            return False
        request, headers = found
        if self.server.is_cut(headers):
            return False
        self._check_browser(request)
        path = request.target.decode("ascii", "replace")
        if path not in (HELLO, "/raft/stream", "/raft/snapshot"):
            # not 404: to a client that has mixed up the two ports, that would mean that a key is absent
            raise BadRequest(421, "Peers ask for /raft/stream or /raft/snapshot; the other port is for clients.")
        if request.method != b"POST":
            raise BadRequest(405, "Peers send POST.", b"Allow: POST\r\n")
        if path == HELLO:
            self._respond(200, self._guarded(headers, self._caller.hello))
            return True
        upgrade = UPGRADE if path == "/raft/stream" else UPGRADE_SNAPSHOT
        if not _asks_for(upgrade, headers):
            fields = f"Upgrade: {upgrade}\r\n".encode()
            raise BadRequest(426, f"What is sent to {path} begins with Upgrade: {upgrade}.", fields)
        self._guarded(headers, lambda headers: self._caller.prove(headers, path))
        whom = _whom(headers)
        refusal = self.server.handshake.refusal(headers)
        if refusal is not None:
            self.server.refused(whom, refusal[1])
            raise _Told(*refusal)
        self.server.refusals.heard(whom)
        self.server.met()
        sender = int(headers["X-Metcd-From"])
        if path == "/raft/stream":
            self._stream(sender)
        else:
            self._snapshot(sender, headers)
        return False

    def _guarded(self, headers: Headers[str, str], judge: Callable[[Headers[str, str]], Outcome]) -> Outcome:
        """What `judge` makes of a caller; who has not the secret is told of once, by the name it gives."""
        try:
            return judge(headers)
        except Unproven as error:
            self.server.refused(_whom(headers), error.sentence)
            raise _Told(error.status, error.sentence) from None

    def _read_head(self) -> tuple[Request, Headers[str, str]] | None:
        """The next request's head; None if nothing comes. Raises BadRequest, OSError."""
        found = read_head(self.rfile.readline)
        if found is None:
            return None
        request, head = found
        headers: Headers[str, str] = Headers()
        for field in head.split(b"\r\n")[1:-2]:
            name, _, text = field.decode("latin-1").partition(":")
            if name.lower() in headers:
                raise BadRequest(400, f"A peer sends the field {name} once.")
            headers[name] = text.strip(" \t")
        return request, headers

    def _check_browser(self, request: Request) -> None:
        if request.fields.from_page:
            raise BadRequest(403, "Pages in browsers are not answered here.")
        host = request.fields.host
        if host is None or not (is_local_name(host) or host.rpartition(b":")[0].lower() == self.server.name):
            raise BadRequest(403, "The Host field must be this node's address, or its name in --cluster.")

    # ---- answers ----------------------------------------------------------------------------------------------------

    def _respond(self, status: int, fields: dict[str, str], body: bytes = b"", reason: str = "") -> None:
        reason = reason or HTTPStatus(status).phrase
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {text}" for name, text in fields.items())]
        if status not in (HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.NO_CONTENT):
            lines.append(f"Content-Length: {len(body)}")
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body)

    def _refuse(self, error: BadRequest) -> None:
        """Answers an error, and drops what still comes for a moment: a reset could overtake the answer."""
        if not isinstance(error, _Told):
            self.server.refused("", error.sentence)
            self.server.tell_of_garbage(self.client_address[0], error.sentence)
        fields = {**self.server.handshake.headers(), "Content-Type": "application/json", "Connection": "close"}
        for line in error.headers.decode("latin-1").splitlines():
            name, _, text = line.partition(": ")
            fields[name] = text
        body = json.dumps({"error": error.sentence}).encode() + b"\n"
        self._respond(error.status, fields, body, error.sentence)
        drain(self.connection, LINGER_S, LINGER_BYTES)

    # ---- what members send ------------------------------------------------------------------------------------------

    def _stream(self, sender: int) -> None:
        """Reads frames until the peer closes, and hands over all that one read brought at once."""
        # before the peer hears that it is heard, so that the order of two streams is its own
        if not self.server.admit(self.connection, sender, True):
            return
        fields = {**self.server.handshake.headers(), "Upgrade": UPGRADE, "Connection": "Upgrade"}
        self._respond(101, fields)
        self.connection.settimeout(None)
        receive, count = self.server.hearer.receive, partial(self.server.count, sender)

        def read(size: int) -> bytes:
            data = self.rfile.read(size)
            count(len(data))
            return data

        transit = TransitClock()
        if self.server.loop is not None:
            self._stream_in_loop(self.server.loop, sender, transit)
            return
        try:
            while (messages := read_frame(read, sender, transit, time.monotonic)) is not None:
                receive(messages)
        except DecodeError as error:
            self.server.tell_of_garbage(f"node {sender}", str(error))

    def _stream_in_loop(self, loop: Loop, sender: int, transit: TransitClock) -> None:
        """Has the stream read in the node's loop, and waits for its end."""
        self.connection.setblocking(False)  # so that what was read ahead can be looked at, if there is any
        received: bytes = cast(BufferedReader, self.rfile).peek()
        stream = LoopStream(
            loop, self.connection, sender, transit, self.server.hearer.receive, partial(self.server.count, sender)
        )
        error = stream.run(received)
        if error is not None:
            self.server.tell_of_garbage(f"node {sender}", str(error))

    def _snapshot(self, sender: int, headers: Headers[str, str]) -> None:
        """Reads the message, and hands the file to the node as it comes. Raises BadRequest, OSError."""
        message_size = _number(headers, "Content-Length")
        file = Announced(_number(headers, "X-Metcd-File-Size"), _number(headers, "X-Metcd-File-Ending"))
        if not (0 < message_size <= SNAPSHOT_MESSAGE_BYTES_MAX and 0 <= file.size <= SNAPSHOT_BYTES_MAX):
            raise BadRequest(
                413, "A snapshot says its sizes, in Content-Length and X-Metcd-File-Size, and has a limit."
            )
        if not self.server.admit(self.connection, sender, False):
            raise _Told(503, f"Node {sender} sends {SNAPSHOTS_FROM_PEER_MAX} snapshots already.")
        incoming = IncomingFile(self.connection, self.rfile.read1, file, self._begin_snapshot)
        try:
            message = Message.decode(self.rfile.read(message_size))
            guards.check(message, sender)
            if message.type != MSG_SNAP:
                raise DecodeError("a snapshot's message is a MsgSnap")
            self.server.hearer.receive_snapshot(message, file, incoming.chunks)
        except Exception as error:
            sentence = " ".join(f"the snapshot from node {sender} is refused: {error}".split())
            self.server.tell_of_snapshot(sentence)
            if not incoming.begun:
                raise _Told(503 if isinstance(error, Overloaded) else 422, sentence) from None
            word = "broken" if isinstance(error, ConnectionError) else "refused"
            incoming.say(f"{word}: {sentence}\n".encode())
        else:
            incoming.say(b"done\n")

    def _begin_snapshot(self, offset: int) -> None:
        fields = {"Upgrade": UPGRADE_SNAPSHOT, "Connection": "Upgrade", "X-Metcd-File-Offset": str(offset)}
        self._respond(101, fields)


def _whom(headers: Headers[str, str]) -> str:
    return f"from {headers.get('X-Metcd-From', '')[:19]}"


class _Told(BadRequest):
    """A refusal that has been told in the log already."""


def _asks_for(upgrade: str, headers: Headers[str, str]) -> bool:
    options = [option.strip().lower() for option in headers.get("Connection", "").split(",")]
    return headers.get("Upgrade", "") == upgrade and "upgrade" in options


def _number(headers: Headers[str, str], name: str) -> int:
    """The number in a field, -1 if it is none. The parser has looked at Content-Length already."""
    text = headers.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1
