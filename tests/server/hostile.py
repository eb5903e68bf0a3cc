"""Bytes that no well-meaning client or peer sends, grown from a seed; and what a server may not lose by them.

All of it is harmless: requests cut short, fields twice, sizes that lie, numbers out of range, noise.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import socket
import struct
import sys
import threading
from collections.abc import Callable

from crc32c import crc32c

from raft.raftpb import Entry, Message, Snapshot, SnapshotMetadata
from tests.server.local_nodes import eventually

METHODS = [
    *b"GET GET GET PUT PUT PUT DELETE DELETE POST HEAD".split(),
    b"OPTIONS",
    b"get",
    b"G T",
    b"",
    b"\x00",
    b"P" * 300,
]
TARGETS = [
    *b"/k /k /k /a%20b /b /c / /% /%zz //x /k?wait=false /k?consistency=stale /k?consistency=soon /_/scan /_/scan?limit=0".split(),
    *b"/_/scan?limit=3&reverse=true /_/scan?start=%ff&stop=%00 /_/batch /_/status /_/metrics /_/x /v3/kv/put".split(),
    *b"http://h/k * /# /raft/stream /raft/snapshot /raft/hello /k?&& /k?=".split(),
    *(b"/" + b"x" * 9000, b"/" + b"%41" * 3000, b"", b"/a b", b"/\xff"),
]
VERSIONS = [b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"http/1.1", b"HTTP/1.", b""]
FIELDS = [
    *(b"Host: localhost", b"Host: 127.0.0.1:1", b"Host: example.com", b"Host: a b", b"Host:", b"Origin: http://x"),
    *(b"Content-Length: " + n for n in b"0 1 5 005 +5 -1 5_0 99999999999999999999 2000000 1048577".split()),
    *(
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Expect: x",
        b"Connection: close",
        b"Connection: upgrade",
    ),
    *(b"Sec-Fetch-Site: cross-site", b" folded", b"No colon", b": empty", b"A : b", b"A: \x00", b"A: " + b"b" * 9000),
    *(b"Upgrade: metcd-raft/3", b"Upgrade: websocket", b"X-Metcd-From: 1", b"X-Metcd-From: 99", b"X-Metcd-To: 2"),
    *(b"X-Metcd-Cluster: 0", b"X-Metcd-Message-Size: 5", b"X-Metcd-Message-Size: -5", b"X-Metcd-Nonce: 00"),
]
BODIES = [
    b"",
    b"v",
    b"value",
    b'{"op":"delete","key":"YQ=="}\n',
    b'{"op":"put"}\n',
    b"[" * 3000,
    b"\xff" * 50,
    b"\r\n" * 20,
]


def request(rng: random.Random, methods: list[bytes] = METHODS, targets: list[bytes] = TARGETS) -> bytes:
    """One request, in which anything may be wrong."""
    line = b" ".join((rng.choice(methods), rng.choice(targets), rng.choice(VERSIONS)))
    body = rng.choice(BODIES)
    fields = rng.choices(FIELDS, k=rng.choice([0, 0, 0, 1, 2, 3]))
    if rng.random() < 0.8:
        fields += [b"Host: localhost", b"Content-Length: %d" % (len(body) + rng.choice([0] * 8 + [3, -1]))]
    rng.shuffle(fields)
    end = rng.choice([b"\r\n"] * 12 + [b"\n", b"\r"])
    return end.join([line, *fields, b"", b""]) + body


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The same with a few bytes changed, cut out or put in; or cut short."""
    changed = bytearray(data)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(changed) + 1)
        changed[at : at + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.3 else changed)


def http_input(rng: random.Random) -> bytes:
    """What somebody may send to a client port."""
    kind = rng.random()
    if kind < 0.1:
        return rng.randbytes(rng.randrange(300))
    data = b"".join(request(rng) for _ in range(rng.randrange(1, 4)))
    return data if kind < 0.5 else damaged(rng, data)


def peer_input(rng: random.Random, member: dict[str, str]) -> bytes:
    """What somebody may send to a port for peers: noise, requests, and streams of a member that has gone mad.

    member: the fields with which it says who it is, and whom it means.
    """
    kind = rng.random()
    if kind < 0.3:
        return http_input(rng)
    me, to = int(member["X-Metcd-From"]), int(member["X-Metcd-To"])
    fields = {"Host": "127.0.0.1", **member, "Connection": "Upgrade", "Upgrade": "metcd-raft/3"}
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        fields[rng.choice([*fields, "X-Metcd-Proof", "Origin"])] = rng.choice(
            ["", "x", "9" * 25, "1,2", "1=1.0.0", "2"]
        )
    body = b"".join(_frame(rng, me, to) for _ in range(rng.randrange(4)))
    path = "/raft/stream"
    if kind > 0.8:
        path = rng.choice(["/raft/snapshot", "/raft/snapshot", "/raft/hello"])
        message = damaged(rng, _message(rng, me, to).encode())
        body = message + rng.randbytes(rng.randrange(100))
        fields["Upgrade"] = rng.choice(["metcd-snapshot/1", "metcd-snapshot/1", "metcd-raft/2"])
        fields["Content-Length"] = str(len(message) + rng.choice([0, 0, 0, 1, -1]))
        fields["X-Metcd-File-Size"] = str(rng.choice([0, 100, 100, 1 << 50, -1]))
        fields["X-Metcd-File-Ending"] = str(rng.choice([0, 7, 1 << 40]))
    head = "".join(f"{name}: {text}\r\n" for name, text in fields.items())
    data = f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body
    return damaged(rng, data) if rng.random() < 0.3 else data


TERMS = [0, 0, 1, 2, 5, 1 << 62, (1 << 62) + 1, (1 << 64) - 1]  # long past, or beyond belief
NUMBERS = [0, 1, 2, 5, 1000, 1 << 31, 1 << 62, (1 << 62) + 1, (1 << 64) - 1]


def _message(rng: random.Random, me: int, to: int) -> Message:
    """A message in which any number may be out of range.

    It is of no term that a leader may be of, since Raft rightly believes its leader: that isn't the port's to judge.
    """

    def number() -> int:
        return rng.choice(NUMBERS)

    entries = [
        Entry(number(), number(), rng.randrange(3), rng.randbytes(rng.randrange(30))) for _ in range(rng.randrange(3))
    ]
    snapshot = Snapshot(SnapshotMetadata(number(), number())) if rng.random() < 0.2 else None
    return Message(
        rng.randrange(24), to, rng.choice([me, me, me, 9]), rng.choice(TERMS), number(), number(), entries,
        rng.choice([0, number()]), snapshot, rng.random() < 0.2, number(), rng.randbytes(rng.randrange(70)),
    )  # fmt: skip


def _frame(rng: random.Random, me: int, to: int) -> bytes:
    messages = [_message(rng, me, to).encode() for _ in range(rng.randrange(3))]
    payload = bytes(8) + b"".join(struct.pack("<I", len(message)) + message for message in messages)
    if rng.random() < 0.2:
        payload = damaged(rng, payload)
    checksum = crc32c(payload) ^ (rng.random() < 0.1)
    return struct.pack("<II", len(payload) + rng.choice([0] * 9 + [1, 1 << 31]), checksum) + payload


def throw(address: tuple[str, int], data: bytes, hang_up: bool) -> bytes:
    """Sends this over a connection of its own, and returns what comes back until the server closes; b"" if hung up."""
    answer = b""
    with contextlib.suppress(ConnectionError), socket.create_connection(address, timeout=30) as connection:
        connection.sendall(data)
        if hang_up:
            return b""
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer


def throw_all(
    address: tuple[str, int], count: int, seed: str, make: Callable[[random.Random], bytes], threads: int = 4
) -> list[str]:
    """Throws `count` inputs at a server, from several threads; what was wrong with the answers, in sentences."""
    wrong: list[str] = []

    def run(number: int) -> None:
        rng = random.Random(f"{seed}:{number}")
        for at in range(count // threads):
            data = make(rng)
            try:
                answer = throw(address, data, rng.random() < 0.1)
            except OSError as error:  # no answer and no close within the time
                wrong.append(f"input {at} of thread {number}: {error!r} for {data[:200]!r}")
                continue
            if b"HTTP/1.1 500" in answer or not (answer == b"" or answer.startswith(b"HTTP/1.1 ")):
                wrong.append(f"input {at} of thread {number}: {answer[:200]!r} for {data[:200]!r}")

    workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return wrong


class Belongings:
    """What this process holds: threads, descriptors, objects. Nothing of it may grow with the inputs."""

    BLOCKS_MAX = 30_000  # of Python's memory: caches, buffers and log entries whose number is bounded

    def __init__(self) -> None:
        self.threads, self.descriptors, self.blocks = self._count()

    def _count(self) -> tuple[int, int, int]:
        gc.collect()
        return threading.active_count(), len(os.listdir("/proc/self/fd")), sys.getallocatedblocks()

    def assert_kept(self) -> None:
        """Fails if there is more than there was, as soon as what is on its way out has had time to go."""
        eventually("every thread of a connection has ended", lambda: threading.active_count() <= self.threads)
        eventually("every descriptor is closed", lambda: len(os.listdir("/proc/self/fd")) <= self.descriptors)
        assert self._count()[2] < self.blocks + self.BLOCKS_MAX
