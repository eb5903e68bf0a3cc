"""`python -m tests.gateway.mutants`: requests that nobody in his senses sends, to the gateway of three nodes on three engines.

Each is grown from a request of the recorded situations: values, fields and paths exchanged for others and for odd ones, its
head contradicted, its bytes changed, cut out, put in. Whatever comes, the answer is one that etcd could give: no 500 of our
own (etcd's code 2 is one), and what is no HTTP is refused in a sentence, or the connection ends. Afterwards every node is
alive and answers, each connection's thread has ended, and no log has a failure.

What would change the members, the leader or who may do what is sent in a form that is refused: else the other requests would
be asked of no cluster, or of one that says no.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import random
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from server.config import NodeConfig
from tests.gateway.nodes import Ours
from tests.gateway.placeholders import Pairs
from tests.gateway.transcripts import load, names
from tests.gateway.wire import Answer, NothingComes

__all__ = ["Verdict", "play"]

ANSWER_S = 0.1  # how long an answer may take before the next request is sent by somebody else: locks, watches
CLIENTS = 8
LONG = 50_000
CHANGES = re.compile(
    "/v3/(cluster/member/(add|remove|update|promote)|maintenance/(transfer-leadership|alarm)|auth/(enable|disable))"
)
SLOW = re.compile(
    "/v3/(watch|lock/lock|election|lease/keepalive|maintenance/(snapshot|defragment)|auth/(authenticate|user))"
)
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 1.5, -0.0, 1e300, 2**31, 2**63 - 1, 2**63, -(2**63), 2**64, 10**40, "", "0", "-1", "1e2",
    "A", "AA==", "AAA=", "AP8=", "_-8=", "====", "a" * 5000, "\u0000", "\ud800", "é𝄞", [], {}, [[]], [{}], [None], {"": 0},
    "DESCEND", "VALUE", "NOSPACE", "GET", "key", "//", "9" * 400, " 7", "7 ", "+7", "0x7", "NaN", "Infinity",
]  # fmt: skip
FIELDS = [
    "Grpc-Timeout: 1n", "Grpc-Timeout: x", "Grpc-Timeout: 1S", "Authorization: x", "Authorization: Basic eDp5",
    "Grpc-Metadata-hasleader: true", "Grpc-Metadata-Token: x.1", "Expect: 100-continue", "Expect: y", "Connection: close",
    "Connection: x", "Content-Type: application/x-www-form-urlencoded", "X-HTTP-Method-Override: GET", "Content-Length: 5",
    "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Origin: http://example.org", "Accept-Encoding: gzip", "A : b",
    "Host: x", "X-Metcd-Request: 1/1", "Upgrade: h2c", ": y", "A: " + "b" * 9000,
]  # fmt: skip
PIECES = [
    b"",
    b"\0",
    b"{",
    b"}",
    b"[",
    b'"',
    b"\\",
    b"\\u",
    b"\xff",
    b",",
    b":",
    b"\r\n",
    b"0\r\n\r\n",
    b"e",
    b"-",
    b"[" * 3000,
]


@cache
def corpus() -> list[tuple[str, Any]]:
    """Path and body of every request of the recorded situations."""
    return [
        (request.get("path", ""), request.get("body", request.get("body_text", "")))
        for name in names()
        for request in _requests(load(name))
        if request.get("path", "").startswith("/v3") and "bytes of x" not in str(request)
    ]


def _requests(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list) and not isinstance(value, Pairs):
        for each in value:
            yield from _requests(each)
    elif isinstance(value, dict):
        if "path" in value:
            yield value
        for each in value.values():
            yield from _requests(each)


def mutated(rng: random.Random) -> bytes:
    """One request, its head and body in one piece."""
    path, body = rng.choice(corpus())
    while SLOW.match(path) and rng.random() < 0.9:
        path, body = rng.choice(corpus())
    if rng.random() < 0.05:
        body = rng.choice(corpus())[1]
    if isinstance(body, dict):
        body = json.loads(json.dumps(body))
        text = json.dumps(body)
        for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
            if len(text) < LONG:  # what was made seventy times as long isn't made so again
                body = _changed(rng, body)
                text = json.dumps(body)
        body = text
        if rng.random() < 0.05:
            body += rng.choice((body, " ", "x", "\n{}", ","))
    data = body.encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        data = _bytes_changed(rng, data)
    if CHANGES.match(path):
        return _framed(rng, path.encode(), b"[" + data, whole=True)  # no object, whatever follows
    target = path.encode()
    if rng.random() < 0.1:
        target = _bytes_changed(rng, target).replace(b" ", b"") or b"/"
    return _framed(rng, target, data)


def _changed(rng: random.Random, value: Any) -> Any:
    """The value with something in it exchanged, left out or added."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(list(value))
        way = rng.random()
        if way < 0.15:
            del value[name]
        elif way < 0.3:
            value[rng.choice((name.upper(), name.replace("_", ""), "range_end", "prev_kv", "limit", "ID", ""))] = value[
                name
            ]
        else:
            value[name] = _changed(rng, value[name])
        return value
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value * rng.choice((2, 70))
        value[at] = _changed(rng, value[at])
        return value
    if rng.random() < 0.05:
        for _ in range(rng.choice((3, 80))):
            value = rng.choice(({"request_txn": {"success": [value]}}, [value], {"success": [value]}))
        return value
    return copy.deepcopy(rng.choice(ODD))


def _bytes_changed(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randint(0, len(changed))
        changed[at : at + rng.choice((0, 1, 1, 4))] = rng.choice((*PIECES, bytes((rng.randrange(256),))))
    return bytes(changed)


def _framed(rng: random.Random, target: bytes, data: bytes, whole: bool = False) -> bytes:
    """The request with a head. whole: its bytes stay as they are."""
    method = rng.choice((b"GET", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"post")) if rng.random() < 0.03 else b"POST"
    fields = ["Host: localhost"]
    if rng.random() < 0.1:
        size = rng.choice((1, 7, 4096))
        data = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in _parts(data, size)) + b"0\r\n\r\n"
        fields.append("Transfer-Encoding: chunked")
    else:
        fields.append(f"Content-Length: {len(data)}")
    if rng.random() < 0.15:
        fields += rng.sample(FIELDS, rng.choice((1, 1, 2)))
    head = b"%b %b HTTP/1.1\r\n" % (method, target) + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n"
    request = head + data
    return _bytes_changed(rng, request) if rng.random() < 0.03 and not whole else request


def _parts(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


class Verdict:
    """What came of them."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.faults: list[str] = []

    def add(self, request: bytes, status: int, body: bytes) -> None:
        """Judges one answer."""
        self.statuses[str(status)] += 1
        wrong = status == 500 and not _is_etcd_s(body)
        wrong = wrong or b"failed to answer" in body or b'"grpc_code":13' in body or b'"code":13' in body
        if wrong and len(self.faults) < 20:
            self.faults.append(f"{request[:1500]!r}\n    was answered {status} {body[:300]!r}")


def _is_etcd_s(body: bytes) -> bool:
    try:
        error = json.loads(body)
    except ValueError:
        return False
    if not isinstance(error, dict):
        return False
    within = error.get("error")
    return error.get("code") == 2 or (isinstance(within, dict) and within.get("grpc_code") == 2)


class Client:
    """Sends requests on one connection, for as long as that is kept."""

    def __init__(self, ports: list[int], seed: str, verdict: Verdict) -> None:
        self._ports = ports
        self._rng = random.Random(seed)
        self._verdict = verdict
        self._socket: socket.socket | None = None

    def run(self, count: int) -> None:
        """So many requests."""
        for _ in range(count):
            request = mutated(self._rng)
            try:
                self._one(request)
            except NothingComes:
                self._verdict.statuses["no answer in time"] += 1
                self._close()
            except (OSError, ValueError, IndexError):  # closed, or the answer to a second request that was in the first
                self._verdict.statuses["closed"] += 1
                self._close()
        self._close()

    def _one(self, request: bytes) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._rng.choice(self._ports)), timeout=10)
        self._socket.sendall(request)
        answer = Answer(self._socket, request.split(b" ", 1)[0].decode("latin-1"))
        answer.head(ANSWER_S)
        body = b""
        try:
            body = answer.body(ANSWER_S)
        except NothingComes:
            self._verdict.add(request, answer.status, b"")
            raise
        self._verdict.add(request, answer.status, body)
        if (answer.header("connection") or "") == "close" or answer.rest:
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Failures(logging.Handler):
    """What the nodes log as failures."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < 20:
            self.lines.append(self.format(record))


def play(requests: int, seed: int, engines: Sequence[str] = ("lsm", "btree", "bitcask")) -> Verdict:
    """Sends so many requests to nodes on these engines, and looks at the nodes afterwards."""
    verdict, failures = Verdict(), _Failures()
    hook = threading.excepthook
    threading.excepthook = lambda told: failures.lines.append(f"{told.thread} ended with {told.exc_value!r}")
    logging.getLogger("metcd").addHandler(failures)
    try:
        with Ours(len(engines), [], list(engines), NodeConfig.tick_s) as nodes:  # a busy machine loses no leader
            clients = [Client(nodes.ports, f"{seed} {number}", verdict) for number in range(CLIENTS)]
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(lambda client: client.run(-(-requests // CLIENTS)), clients))
            verdict.faults += [f"node {at}: {told}" for at, told in nodes.ailments()]
    finally:
        logging.getLogger("metcd").removeHandler(failures)
        threading.excepthook = hook
    verdict.faults += failures.lines
    return verdict


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gateway.mutants", description="Mutated requests.")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("METCD_SEED", "0")))
    options = parser.parse_args(arguments)
    begin = time.monotonic()
    verdict = play(options.requests, options.seed)
    print(
        f"{options.requests} requests of seed {options.seed} in {time.monotonic() - begin:.0f} s: {dict(verdict.statuses)}"
    )
    print("\n".join(verdict.faults))
    return int(bool(verdict.faults))


if __name__ == "__main__":
    sys.exit(main())
