"""The state applied here as a snapshot file for a client, made while it is sent: `GET /_/snapshot`.

    the client's thread ── ask ──▶ the node's thread takes a snapshot (O(1)) ──▶ the client's thread scans it, makes records
                                                                                 and sends them, a block of 64 KiB at a time

No file is written. The bytes are those of a snapshot file (server/snapshot.py), so that the client can tell by the trailer
that all of it has come, and that it is what was sent.

Invariants:

1. SNAPSHOT_STREAMS_MAX at a time: an open snapshot keeps old tables, pages and segments on the disk, and a scan takes its part of
   the interpreter's time (server/pace.py). A client that takes too long over it is cut off (server/connection.py).
2. The place and the snapshot are given back however a stream ends: read to its end, broken off, or never begun.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import NamedTuple

from engines.kvstore import Pair
from engines.log import BLOCK_BYTES, encode_record
from raft.raftpb import SnapshotMetadata
from server.errors import NodeStopped, Overloaded
from server.limits import SNAPSHOT_STREAMS_MAX
from server.pace import Pace
from server.snapshot import records
from server.statemachine import MachineSnapshot

__all__ = ["SNAPSHOT_STREAMS_MAX", "SnapshotStream", "SnapshotStreams"]

TAKE_TIMEOUT_S = 5.0


class SnapshotStream(NamedTuple):
    """A snapshot's metadata, and the bytes of its file in blocks."""

    metadata: SnapshotMetadata
    blocks: Iterator[bytes]


class SnapshotStreams:
    """The streams of one node. For any thread."""

    def __init__(
        self, later: Callable[[Callable[[], object]], object], take: Callable[[], MachineSnapshot | None]
    ) -> None:
        """later: has a function called in the node's thread. take: called there; None if there is no state just now."""
        self._later = later
        self._take = take
        self._places = threading.Semaphore(SNAPSHOT_STREAMS_MAX)
        self._stopped = threading.Event()

    def open(self) -> SnapshotStream:
        """A stream of what is applied now. Raises Overloaded, NodeStopped."""
        return self._open(False)[0]

    def measured(self) -> tuple[SnapshotMetadata, Iterator[bytes], int]:
        """The same, and the bytes of all its blocks: all pairs are read once more, to count. Raises the same."""
        (metadata, blocks), size = self._open(True)
        return metadata, blocks, size

    def _open(self, measured: bool) -> tuple[SnapshotStream, int]:
        if not self._places.acquire(blocking=False):
            raise Overloaded(
                f"{SNAPSHOT_STREAMS_MAX} snapshots are being read already: try again later, or ask another node"
            )
        try:
            snapshot = self._taken()
        except BaseException:
            self._places.release()
            raise
        blocks = self._blocks(snapshot, measured)
        size = int.from_bytes(next(blocks), "big")  # begun, so that it is ended
        return SnapshotStream(snapshot.metadata, _chained(next(blocks), blocks)), size

    def _taken(self) -> MachineSnapshot:
        """What the node's thread has taken. Raises Overloaded, NodeStopped."""
        taken: Future[MachineSnapshot | None] = Future()

        def take() -> None:
            if taken.set_running_or_notify_cancel():
                taken.set_result(self._take())

        self._later(take)
        try:
            snapshot = taken.result(TAKE_TIMEOUT_S)
        except TimeoutError:
            if taken.cancel():
                raise NodeStopped("the node has stopped, or is too busy to say what it has applied") from None
            snapshot = taken.result()  # it is being taken at this moment
        if snapshot is None:
            raise Overloaded("this node has no whole state just now: it loads a snapshot; ask another one")
        return snapshot

    def _blocks(self, snapshot: MachineSnapshot, measured: bool) -> Iterator[bytes]:
        """How many bytes there are, 0 if they are not to be counted, and then these."""
        try:
            with snapshot.view:
                size = sum(map(len, self._encoded(snapshot))) if measured else 0
                yield size.to_bytes(8, "big")
                yield from self._encoded(snapshot)
        finally:
            self._places.release()

    def _encoded(self, snapshot: MachineSnapshot) -> Iterator[bytes]:
        offset = 0
        for payload in records(snapshot.metadata, self._paced(snapshot.pairs())):
            block = encode_record(offset % BLOCK_BYTES, payload)
            offset += len(block)
            yield block

    def _paced(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        pace = Pace(self._stopped)
        for pair in pairs:
            if pace.step():
                raise NodeStopped("the node stops")
            yield pair

    def stop(self) -> None:
        """Ends all streams at their next pair: the node stops."""
        self._stopped.set()


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
