"""A node without Raft, for tests of what stands in front of one: it applies at once, and fails when it is told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engines.kvstore import WriteBatch
from engines.memory import MemoryStore
from server.health import Health
from server.http import FrontEnd, Limits


class FakeMachine:
    """The user's keys in a memory engine."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def lookup(self, key: bytes) -> bytes | None:
        return self.store.get(key)

    def scan(self, start: bytes = b"", stop: bytes | None = None, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        return self.store.scan(start, stop, **options)


class FakeNode:
    """Has the interface of server.node.Node; `fails` is raised by every call to Raft until it is None again."""

    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.fails: Exception | None = None
        self.applies_before_failing = False
        self.applied = 0
        self.barriers: list[str] = []
        self.proposed: list[list[Any]] = []
        self.waited: list[bool] = []
        self.asked = threading.Event()  # a write has come as far as the gate
        self.gate = threading.Event()  # closed by tests that want a write to take its time
        self.gate.set()

    def stop_waiting(self) -> None:
        self.gate.set()

    def propose(self, operations: Sequence[tuple[bytes, bytes | None]], timeout_s: float = 5.0) -> int:
        self.asked.set()
        self.gate.wait(10)
        if self.fails is not None and not self.applies_before_failing:
            raise self.fails
        self._apply(operations)
        self.waited.append(True)
        if self.fails is not None:
            raise self.fails
        return self.applied

    def propose_nowait(self, operations: Sequence[tuple[bytes, bytes | None]]) -> None:
        if self.fails is not None:
            raise self.fails
        self._apply(operations)
        self.waited.append(False)

    def _apply(self, operations: Sequence[Any]) -> None:
        self.proposed.append(list(operations))
        batch = WriteBatch()
        for key, value in operations:
            if isinstance(key, int):  # a Serial: whose request it is
                continue
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        self.machine.store.write(batch)
        self.applied += 1

    def read_barrier(self, consistency: str = "linearizable", timeout_s: float = 5.0) -> int:
        if self.fails is not None and consistency != "stale":
            raise self.fails
        self.barriers.append(consistency)
        return self.applied

    def status(self) -> dict[str, Any]:
        return {"id": 1, "leader": 1, "applied_index": self.applied}

    def alive(self) -> bool:
        return True

    def health(self) -> Health:
        return Health(self.fails is None, {"healthy": self.fails is None, "error": str(self.fails)})

    def metrics(self) -> dict[str, int | float]:
        return {"proposals_total": self.applied, "applied_index": self.applied}


@contextmanager
def serving(node: FakeNode, limits: Limits | None = None) -> Iterator[FrontEnd]:
    """A front end for the node on a free port of loopback, which is stopped at the end."""
    front = FrontEnd(node, ("127.0.0.1", 0), limits)
    front.start()
    try:
        yield front
    finally:
        node.gate.set()
        front.stop()
        assert not front.threads, "a connection's thread is still there"


class Wire:
    """A client's end of a connection, for bytes as they are."""

    def __init__(self, address: tuple[str, int], timeout_s: float = 10.0) -> None:
        self.socket = socket.create_connection(address, timeout=timeout_s)
        self._buffer = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def rest(self) -> bytes:
        """Everything until the server closes."""
        data = self._buffer
        try:
            while piece := self.socket.recv(65536):
                data += piece
        except ConnectionError:
            pass
        return data

    def answer(self, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers by lower-case name, body."""
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if head_only or status in (100, 101, 204):
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, b"".join(self._chunks())
        return status, headers, self._take(int(headers["content-length"]))

    def ask(
        self, method: str, target: str, body: bytes | None = None, *fields: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Sends a request as curl would, and returns the answer."""
        lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *fields]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        return self.answer(head_only=method == "HEAD")

    def _chunks(self) -> Iterator[bytes]:
        while True:
            while b"\r\n" not in self._buffer:
                self._fill()
            size, _, self._buffer = self._buffer.partition(b"\r\n")
            chunk = self._take(int(size, 16) + 2)
            assert chunk.endswith(b"\r\n")
            if len(chunk) == 2:
                return
            yield chunk[:-2]

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _fill(self) -> None:
        piece = self.socket.recv(65536)
        if not piece:
            raise EOFError(f"the server closed the connection after {self._buffer[:200]!r}")
        self._buffer += piece
