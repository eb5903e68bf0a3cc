"""A node without Raft, for tests of what stands in front of one: it applies at once, and fails when it is told to."""

from __future__ import annotations

import functools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engines.kvstore import WriteBatch
from engines.memory import MemoryStore
from raft.raftpb import ConfState, SnapshotMetadata
from server.errors import NodeError
from server.health import Health
from server.http import FrontEnd, Limits
from server.loop import Loop
from server.loop_calls import Begun, BegunRead, BegunWrite
from server.sessions import OPENS
from server.snapshot_stream import SnapshotStream, SnapshotStreams
from server.statemachine import MachineSnapshot


class FakeMachine:
    """The user's keys in a memory engine."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def lookup(self, key: bytes) -> bytes | None:
        return self.store.get(key)

    def scan(self, start: bytes = b"", stop: bytes | None = None, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        return self.store.scan(start, stop, **options)


class FakeEtcd:
    """What is beside the keys: nothing, and no streams."""

    class streams:
        @staticmethod
        def stop() -> None:
            pass

    class auth:
        enabled = False

    def has_leader(self) -> bool:
        return True


class FakeLoop(Loop):
    """A loop with a thread of its own, where a node's would be."""

    def __init__(self) -> None:
        super().__init__()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="fake-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending:
            self.wait(1.0)
        self.close()

    def end(self) -> None:
        """As a node's thread ends that has failed."""
        self._ending = True
        self.put((0, None))
        self._thread.join()


@functools.cache
def shared_loop() -> FakeLoop:
    """The loop of all fake nodes in the fast form: one thread for all tests."""
    return FakeLoop()


class FakeBegins:
    """Has the interface of server.loop_calls.Begins: what the fake node's calls do, done at once or in a thread."""

    def __init__(self, node: FakeNode) -> None:
        self._node = node

    def write(self, operations: Sequence[tuple[bytes, bytes | None]], begun: BegunWrite) -> None:
        self._begin(begun, lambda: self._node.propose(operations))

    def read(self, begun: BegunRead, consistency: str = "linearizable") -> None:
        self._begin(begun, lambda: self._node.read_barrier(consistency))

    def _begin(self, begun: Begun, call: Callable[[], int]) -> None:
        begun.deadline = time.monotonic() + 5.0
        node = self._node
        assert node.loop is not None

        def run() -> None:
            outcome: int | NodeError
            try:
                outcome = call()
            except NodeError as error:
                outcome = error
            assert node.loop is not None
            node.loop.call(lambda: begun.resolve(outcome))

        if node.gate.is_set():
            run()
        else:
            threading.Thread(target=run, daemon=True).start()


class FakeNode:
    """Has the interface of server.node.Node; `fails` is raised by every call to Raft until it is None again.

    loop: in which the front end serves; None for the plain form.
    """

    def __init__(self, loop: Loop | None = None) -> None:
        self.loop = loop
        self.begins: Any = FakeBegins(self)
        self.machine = FakeMachine()
        self.etcd: Any = FakeEtcd()
        self.fails: Exception | None = None
        self.fails_once: Exception | None = None  # the next write's answer
        self.applies_before_failing = False
        self.applied = 0
        self.barriers: list[str] = []
        self.proposed: list[list[Any]] = []
        self.sessions = 0  # opened; they count as no write
        self.waited: list[bool] = []
        self.asked = threading.Event()  # a write has come as far as the gate
        self.gate = threading.Event()  # closed by tests that want a write to take its time
        self.gate.set()

    def stop_waiting(self) -> None:
        self.gate.set()

    def propose(self, operations: Sequence[tuple[bytes, bytes | None]], timeout_s: float = 5.0) -> int:
        self.asked.set()
        self.gate.wait(10)
        if list(operations) == [OPENS] and self.fails is None:
            self.sessions += 1
            return self.sessions
        if self.fails_once is not None:
            failure, self.fails_once = self.fails_once, None
            raise failure
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

    def snapshot_stream(self) -> SnapshotStream:
        return SnapshotStreams(lambda call: call(), self._snapshot).open()

    def _snapshot(self) -> MachineSnapshot:
        return MachineSnapshot(SnapshotMetadata(self.applied, 1, ConfState((1,))), self.machine.store.snapshot())

    def status(self) -> dict[str, Any]:
        return {"id": 1, "leader": 1, "applied_index": self.applied}

    def alive(self) -> bool:
        return True

    def health(self) -> Health:
        return Health(self.fails is None, {"healthy": self.fails is None, "error": str(self.fails)})

    def metrics(self) -> dict[str, int | float]:
        return {"proposals_total": self.applied, "applied_index": self.applied}


@contextmanager
def serving(node: FakeNode, limits: Limits | None = None, lab: str = "") -> Iterator[FrontEnd]:
    """A front end for the node on a free port of loopback, which is stopped at the end."""
    front = FrontEnd(node, ("127.0.0.1", 0), limits, lab=lab)
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
