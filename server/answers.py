"""What a route is made of: what it is given, and the answer that it makes of it.

    head of a request ──▶ Call (a Route, the key, the options of its query) ──▶ Route.run(server, key, options, body) ──▶ Answer

server/routes.py has the table of all routes; each server/routes_*.py has those of one subject.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, NamedTuple, Protocol

from engines.kvstore import Operation, Snapshot
from raft.raftpb import SnapshotMetadata
from server.changes import Wish
from server.health import Health
from server.metrics import Metrics
from server.principal import Principal
from server.sessions import Serial
from server.v3.etcd import Etcd
from server.watched import Watched

__all__ = [
    "JSON",
    "NDJSON",
    "NO_OPTIONS",
    "OCTETS",
    "PLAIN_TEXT",
    "PROMETHEUS",
    "Answer",
    "Call",
    "Feed",
    "Machine",
    "Node",
    "Options",
    "Parameters",
    "Right",
    "Route",
    "Run",
    "Serving",
    "Writer",
    "error_answer",
]


class Machine(Protocol):
    """The part of server.timings.TimedMachine that is asked here."""

    def lookup(self, key: bytes) -> bytes | None: ...
    def scan(
        self, start: bytes = b"", stop: bytes | None = None, *, prefix: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]: ...
    def marked(self, index: int) -> AbstractContextManager[Snapshot]: ...


class Writer(Protocol):
    """Who takes writes: a node, or one request of a session (server/routes_sessions.py)."""

    def propose(self, operations: Sequence[Operation | Serial | Principal]) -> int: ...
    def propose_nowait(self, operations: Sequence[Operation | Serial | Principal]) -> None: ...


class Node(Writer, Protocol):
    """The part of server.node.Node that is asked here; its docstrings say what each call promises."""

    @property
    def machine(self) -> Machine: ...
    @property
    def watched(self) -> Watched: ...
    @property
    def etcd(self) -> Etcd: ...
    def read_barrier(self, consistency: str = "linearizable") -> int: ...
    def change_members(self, wish: Wish) -> int: ...
    def describe_members(self) -> dict[str, Any]: ...
    def snapshot_stream(self) -> tuple[SnapshotMetadata, Iterator[bytes]]: ...
    def transfer(self, node_id: int) -> int: ...
    def stop_waiting(self) -> None: ...
    def status(self) -> dict[str, Any]: ...
    def alive(self) -> bool: ...
    def health(self) -> Health: ...
    def metrics(self) -> Metrics: ...


class Feed(Protocol):
    """The part of server.feed.Feed that is asked here."""

    pages: list[str]

    def join(self) -> Iterator[bytes]: ...


class Serving(Protocol):
    """Who serves: the node, and the front end's own counters."""

    @property
    def node(self) -> Node: ...
    @property
    def feed(self) -> Feed: ...
    @property
    def lab(self) -> str: ...
    def metrics(self) -> Metrics: ...


class Answer(NamedTuple):
    """What is sent: headers are whole lines with CR LF; a body of blocks is sent as it comes. A tuple for speed.

    endless: the blocks come for as long as somebody takes them, at no pace; the connection ends with them. one_chunk: the
    whole body is sent as one chunk.
    """

    status: int
    body: bytes | Iterator[bytes] = b""
    headers: bytes = b""
    endless: bool = False
    one_chunk: bool = False


Options = dict[str, Any]
Parameters = Mapping[bytes, Callable[[bytes], Any]]
Run = Callable[[Serving, bytes, Options, bytes], Answer]  # who serves, key, options, body


class Right(Enum):
    """What a request needs while authentication is on (server/access.py)."""

    OPEN = "nothing"
    KNOWN = "to be a user"
    READ = "to read the key, or the whole range"
    WRITE = "to write the key, or each key of the batch"
    ROOT = "the role root"


class Route(NamedTuple):
    """A function, the parameters that its query may have with their readers, and whether a body must come with it.

    writes: it may be a request of a session (X-Metcd-Request), which is the option "serial". right: what it needs.
    """

    run: Run
    parameters: Mapping[bytes, Callable[[bytes], Any]] = {}
    needs_length: bool = False
    writes: bool = False
    right: Right = Right.ROOT


class Call(NamedTuple):
    """A request that is in order so far: what will be run once its body is there."""

    route: Route
    key: bytes
    options: Options


JSON = b"Content-Type: application/json\r\n"
NDJSON = b"Content-Type: application/x-ndjson\r\n"
OCTETS = b"Content-Type: application/octet-stream\r\n"
PROMETHEUS = b"Content-Type: text/plain; version=0.0.4\r\n"
PLAIN_TEXT = b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
NO_OPTIONS: Options = {}


def error_answer(status: int, sentence: str, headers: bytes = b"") -> Answer:
    """An error with its one sentence."""
    return Answer(status, json.dumps({"error": sentence}).encode() + b"\n", JSON + headers)
