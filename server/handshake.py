"""How a connection between two nodes begins: each side says who it is, and judges the other (server/roster.py).

    POST /raft/stream HTTP/1.1                              HTTP/1.1 101 Switching Protocols
    Upgrade: metcd-raft/3                                   Upgrade: metcd-raft/3
    X-Metcd-Cluster: <cluster id>                           X-Metcd-Cluster, -From, -Members, -Known, -Past: of the
    X-Metcd-From: <node id>    X-Metcd-To: <node id>          node that answers, in a refusal too
    X-Metcd-Members: the first list, in words
    X-Metcd-Known: <node>=<number>.<starts>.<session>[.<admitted>],…
    X-Metcd-Past: <start>.<session>,…
    X-Metcd-Address: <host>:<port>  X-Metcd-Applied: <index>
    X-Metcd-Leader: <node id>, or 0    X-Metcd-Asks: readmission, of a node that has lost its disk (server/readmission.py)

Numbers and sessions are hexadecimal. A node's own directory is an entry of what it knows. A snapshot's request (POST
/raft/snapshot) has the same headers. The listening node refuses before a byte of Raft is read: 412 for another cluster,
another directory, or another node than was meant, as etcd answers; 403 for a sender that is no member; 410 for one that
was removed, which stops when it reads that. A refusal is one line in the log of each of the two, and no more until it is
another one.

Where the members have a secret, a hello comes before on the same connection, in which each proves to the other that it
has it (server/secret.py): before a node believes a word that another says of itself, and before it says any.

Follows etcd's rafthttp: its X-Etcd headers and its checks (server/etcdserver/api/rafthttp/http.go).
"""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections.abc import Callable
from email.message import Message as Headers

from server.identity import Met
from server.logs import MINUTE_S, Minutely
from server.request import BadRequest
from server.roster import Gone, Hello, Roster
from server.secret import HELLO, NONCE, PROOF, Exchange, is_nonce, same

__all__ = ["Caller", "Handshake", "Known", "Refusal", "Refusals", "Unproven", "answer_of", "dial", "head_of"]

UPGRADE = "metcd-raft/3"
KNOWN_MAX = 1000  # members, or starts, that a header may name

GONE = 410  # what a node is answered that was removed

Refusal = tuple[int, str]  # a status of HTTP, and a sentence
Known = frozenset[tuple[int, int]]  # server/roster.py, Roster.known

_KNOWN = re.compile(r"([0-9]{1,19})=([0-9a-f]{1,16})\.([0-9]{1,19})\.([0-9a-f]{1,16})(?:\.([0-9]{1,19}))?")
_PAST = re.compile(r"([0-9]{1,19})\.([0-9a-f]{1,16})")
_ID = re.compile(r"[0-9]{1,19}")
_CLUSTER = re.compile(r"[0-9a-f]{1,16}")


class Handshake:
    """What one node says of itself when a connection begins, and what it wants to hear of the other."""

    def __init__(self, roster: Roster, secret: bytes = b"") -> None:
        """secret: what all members share; empty if they don't."""
        self.roster = roster
        self.secret = secret
        self.node_id = roster.node_id

    def headers(self, peer: int | None = None) -> dict[str, str]:
        """What a request to node `peer` carries; None for an answer."""
        hello = self.roster.hello()
        known = ",".join(
            f"{node}={met.number:x}.{met.starts}.{met.session:x}" + (f".{met.admitted}" if met.admitted else "")
            for node, met in sorted(hello.known.items())
        )
        return {
            "X-Metcd-Cluster": f"{hello.cluster_id:016x}",
            "X-Metcd-From": str(hello.node_id),
            **({} if peer is None else {"X-Metcd-To": str(peer)}),
            "X-Metcd-Members": hello.members,
            "X-Metcd-Known": known,
            "X-Metcd-Past": ",".join(f"{start}.{session:x}" for start, session in sorted(hello.past.items())),
            **({"X-Metcd-Address": hello.address} if hello.address else {}),
            "X-Metcd-Applied": str(hello.applied),
            **({} if hello.leader is None else {"X-Metcd-Leader": str(hello.leader)}),
            **({"X-Metcd-Asks": "readmission"} if hello.asks else {}),
        }

    def calling(self, connection: socket.socket, host: str, peer: int, path: str) -> dict[str, str]:
        """What a request for `path` on this connection to node `peer` carries; after a hello, if there is a secret.

        Raises Unproven if the peer hasn't the same one, OSError, HTTPException.
        """
        headers = self.headers(peer)
        if not self.secret:
            return headers
        exchange = Exchange(self.secret, self.node_id, peer)
        hello = {"X-Metcd-From": str(self.node_id), "X-Metcd-To": str(peer), NONCE: exchange.ours}
        connection.sendall(head_of(host, HELLO, hello))
        answer = answer_of(connection)
        theirs = answer.headers.get(NONCE)
        if theirs is None or not is_nonce(theirs):
            raise Unproven(f"node {peer} doesn't ask for a peer secret, and this node has one: {SAME_SECRET}")
        if not same(exchange.answers(exchange.ours, theirs), answer.headers.get(PROOF)):
            raise Unproven(f"node {peer} has another peer secret than this node: {SAME_SECRET}")
        return {**headers, PROOF: exchange.calls(exchange.ours, theirs, path, headers["X-Metcd-Cluster"])}

    def refusal(self, headers: Headers[str, str]) -> Refusal | None:
        """Why the sender of these headers is not to be heard; None if it may speak, and is a member."""
        hello = hello_of(headers)
        if hello is None:
            return 403, "a member says who it is, in X-Metcd-Cluster, X-Metcd-From and X-Metcd-Known"
        if hello.cluster_id == self.roster.cluster_id and headers.get("X-Metcd-To") != str(self.node_id):
            return 412, (
                f"this is node {self.node_id}, and node {hello.node_id} was looking for node "
                f"{(headers.get('X-Metcd-To') or '?')[:19]} here: compare the --cluster of the two"
            )
        sentence = self.roster.judge(hello)
        if sentence:
            if isinstance(sentence, Gone):
                return GONE, sentence
            return (403 if "is not a member" in sentence else 412), sentence
        return None

    def is_member(self, headers: Headers[str, str], peer: int) -> bool:
        """Whether it is node `peer` of this cluster that has answered."""
        hello = hello_of(headers)
        return hello is not None and (hello.cluster_id, hello.node_id) == (self.roster.cluster_id, peer)

    def answered(self, headers: Headers[str, str], peer: int) -> tuple[str, Known]:
        """Why the answer of node `peer` is not that of a node to send to, "" if it is; and whose directories it knows."""
        hello = hello_of(headers)
        if hello is None:
            return f"where node {peer} should be, something answers that doesn't say which node it is", frozenset()
        if hello.cluster_id == self.roster.cluster_id and hello.node_id != peer:
            return (
                f"where node {peer} should be, node {hello.node_id} answers: compare the --cluster of the two",
                frozenset(),
            )
        return self.roster.judge(hello), frozenset((node, met.admitted) for node, met in hello.known.items())


SAME_SECRET = "start all nodes with the same --peer-secret-file"


class Unproven(BadRequest):
    """The other side has not proved that it has the secret; `sentence` says what to do."""

    def __init__(self, sentence: str) -> None:
        super().__init__(403, sentence)


class Caller:
    """The node that calls on one connection, and what it has to prove before anything that it says is believed."""

    def __init__(self, handshake: Handshake) -> None:
        self._handshake = handshake
        self._exchange: Exchange | None = None
        self._name = ""

    def hello(self, headers: Headers[str, str]) -> dict[str, str]:
        """The answer to a hello. Raises Unproven."""
        name, nonce = headers.get("X-Metcd-From", ""), headers.get(NONCE)
        secret, node_id = self._handshake.secret, self._handshake.node_id
        if not secret:
            raise Unproven(f"node {node_id} has no peer secret, and the node that calls it has one: {SAME_SECRET}")
        if nonce is None or not is_nonce(nonce) or _ID.fullmatch(name) is None:
            raise Unproven(f"a hello has X-Metcd-From and {NONCE}")
        self._name = name
        self._exchange = exchange = Exchange(secret, int(name), node_id, nonce)
        return {NONCE: exchange.ours, PROOF: exchange.answers(nonce, exchange.ours)}

    def prove(self, headers: Headers[str, str], path: str) -> None:
        """Raises Unproven unless there is no secret, or the caller has it; a hello is good for one request."""
        if not self._handshake.secret:
            return
        exchange, self._exchange = self._exchange, None
        name = headers.get("X-Metcd-From", "")
        if exchange is None:
            said = f"node {name[:19]}" if _ID.fullmatch(name) else "somebody"
            raise Unproven(f"{said} calls node {self._handshake.node_id} without its peer secret: {SAME_SECRET}")
        proof = exchange.calls(exchange.theirs, exchange.ours, path, headers.get("X-Metcd-Cluster", ""))
        if name != self._name or not same(proof, headers.get(PROOF)):
            raise Unproven(
                f"node {self._name} has another peer secret than node {self._handshake.node_id}: {SAME_SECRET}"
            )


class Refusals:
    """Tells of each refusal once: again only if it is another one, or if the node was heard meanwhile.

    Two that call themselves the same node are heard and refused in turn: the same is told once in MINUTE_S at most.

    Anybody who can reach the port can be refused in ever new words: from LINES_MAX on it is a line a minute. For any thread.
    """

    LINES_MAX = 100

    def __init__(self, log: Callable[[str], None], often: Minutely) -> None:
        self._log = log
        self._often = often
        self._told: dict[tuple[str, str], float] = {}  # to whom and what, and when
        self._guard = threading.Lock()

    def tell(self, node: str, sentence: str) -> None:
        """`node`: who is refused, or refuses."""
        with self._guard:
            new = not any(sentence == told for _, told in self._told)
            too_many = len(self._told) >= self.LINES_MAX
            if new and not too_many:
                self._told[node, sentence] = time.monotonic()
        if too_many:
            self._often.say(sentence)
        elif new:
            self._log(sentence)

    def heard(self, node: str) -> None:
        """A node is a member like any other now."""
        if not self._told:
            return
        recent = time.monotonic() - MINUTE_S
        with self._guard:
            self._told = {told: at for told, at in self._told.items() if told[0] != node or at > recent}


def hello_of(headers: Headers[str, str]) -> Hello | None:
    """What a node says of itself in its headers; None if it doesn't. Believes no length."""
    cluster, from_ = headers.get("X-Metcd-Cluster", ""), headers.get("X-Metcd-From", "")
    entries = headers.get("X-Metcd-Known", "").split(",", KNOWN_MAX)
    found = [_KNOWN.fullmatch(entry) for entry in entries]
    if not (_CLUSTER.fullmatch(cluster) and _ID.fullmatch(from_)):
        return None
    known = {
        int(each[1]): Met(int(each[2], 16), int(each[3]), int(each[4], 16), int(each[5] or 0))
        for each in found
        if each is not None
    }
    if len(known) != len(entries) or int(from_) not in known:
        return None
    starts = [_PAST.fullmatch(entry) for entry in headers.get("X-Metcd-Past", "").split(",", KNOWN_MAX)]
    met = known[int(from_)]
    past = {int(each[1]): int(each[2], 16) for each in starts if each is not None} | {met.starts: met.session}
    members = "".join(filter(str.isprintable, headers.get("X-Metcd-Members", "")))[:1000]
    applied = headers.get("X-Metcd-Applied", "")
    at = int(applied) if _ID.fullmatch(applied) else 0
    leader = headers.get("X-Metcd-Leader", "")
    return Hello(
        int(cluster, 16),
        int(from_),
        met,
        members,
        known,
        past,
        headers.get("X-Metcd-Address", "")[:300],
        at,
        int(leader) if _ID.fullmatch(leader) else None,
        headers.get("X-Metcd-Asks") == "readmission",
    )


def answer_of(connection: socket.socket) -> http.client.HTTPResponse:
    """The head of the answer to what was asked on this connection. Raises OSError or HTTPException."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer


def head_of(host: str, path: str, fields: dict[str, str]) -> bytes:
    """The head of a request to a peer. host: as a Host field has it."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {text}" for name, text in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def dial(connection: socket.socket, host: str, peer: int, handshake: Handshake) -> tuple[str, Known]:
    """Turns a fresh connection to node `peer` into a stream of frames.

    Returns "", or why it must not be used; and whose directories the peer knows of, from itself or from this call.
    Raises OSError or HTTPException.
    """
    told = handshake.roster.known()
    try:
        fields = handshake.calling(connection, host, peer, "/raft/stream")
    except Unproven as error:
        return error.sentence, told
    fields = {**fields, "Connection": "Upgrade", "Upgrade": UPGRADE}
    connection.sendall(head_of(host, "/raft/stream", fields))
    answer = answer_of(connection)
    if answer.status == 426:
        return f"node {peer} is of another version, whose nodes don't speak {UPGRADE}: update both", told
    if answer.status not in (101, 403, 412, GONE):
        raise ConnectionError(f"node {peer} answered {answer.status}: {answer.reason}")
    if answer.status == GONE and handshake.is_member(answer.headers, peer):
        why = f"{answer.reason}, as node {peer} says"
        handshake.roster.leave(why)
        return why, told
    why, known = handshake.answered(answer.headers, peer)
    if not why and answer.status != 101:
        why = f"node {peer} refuses this node: {answer.reason}"
    return why, told | known
