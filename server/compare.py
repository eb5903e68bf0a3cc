"""`metcd check --cluster`: whether all nodes have the same, at one entry, while writes go on.

    a mark goes into the log ──▶ every node keeps a view of its state there          (server/marked_views.py)
    every node's blocks (the last key and a hash of each thousand) are read side by side, and compared
      all equal                  ──▶ the contents are the same
      the first block that isn't ──▶ its keys are read side by side, up to the first that differs

Nothing but hashes travels as long as all is equal; memory is that of a piece of each node's answer. It ends at the first
key that differs. What is compared are all pairs of the engine, the history, sessions and the book of members among them, but for
those of server/marked_views.py's NOT_COMPARED.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from engines.coding import DecodeError
from engines.kvstore import Pair
from server.client import Client
from server.errors import NodeError
from server.mvcc_rows import revision_at

__all__ = ["Compared", "NodeCompared", "compare", "compared_lines"]


@dataclass
class NodeCompared:
    """What was seen of one node. found: the value of the first key that differs, "absent", or "" if none differs."""

    url: str
    id: int = 0
    engine: str = ""
    keys: int = 0
    found: str = ""
    failure: str = ""


@dataclass
class Compared:
    """What a comparison found. key: the first that differs, of the engine, with its first letter; None: none does."""

    index: int
    nodes: list[NodeCompared] = field(default_factory=list)
    key: bytes | None = None

    @property
    def whole(self) -> bool:
        """True if every node was compared."""
        return not any(node.failure for node in self.nodes)

    def report(self) -> dict[str, Any]:
        """The same, ready for JSON; a key that isn't text has its bytes escaped."""
        return {
            "index": self.index,
            "same": self.key is None and self.whole,
            "first_key": None if self.key is None else named(self.key),
            "nodes": [vars(node) for node in self.nodes],
        }


class _Reading:
    """One node's lines, one at a time."""

    def __init__(self, node: NodeCompared, client: Client) -> None:
        self.node, self.client = node, client
        self._lines: Iterator[Pair] = iter(())

    def begin(self, index: int, after: bytes | None = None) -> None:
        """Asks for the blocks, or for the keys behind `after`; what fails is noted."""
        try:
            self._lines = self.client.digest(index, after)
        except NodeError as error:
            self._fail(error)

    def next(self) -> Pair | None:
        """The next line; None at the end."""
        try:
            return next(self._lines, None)
        except NodeError as error:
            self._fail(error)
            return None

    def end(self) -> None:
        self._lines = iter(())

    def _fail(self, error: NodeError) -> None:
        self.node.failure = str(error)
        self._lines = iter(())


def compare(urls: Sequence[str], timeout_s: float = 10.0, user: str | None = None) -> Compared:
    """Compares all nodes. timeout_s: for each node to come to the mark. user: as in `Client`. Raises NodeError if no mark can
    be made.

    O(bytes) at each node; at the first key that differs it ends.
    """
    with Client(urls, timeout_s=timeout_s, sessions=False, user=user) as any_of_them:
        compared = Compared(any_of_them.mark())
    readings = [_Reading(NodeCompared(url), Client([url], timeout_s=timeout_s, user=user)) for url in urls]
    compared.nodes = [reading.node for reading in readings]
    try:
        for reading in readings:
            _introduce(reading)
            reading.begin(compared.index)
        _compare([reading for reading in readings if not reading.node.failure], compared)
    finally:
        for reading in readings:
            reading.end()
            reading.client.close()
    return compared


def _introduce(reading: _Reading) -> None:
    try:
        status = reading.client.status()
        reading.node.id, reading.node.engine = int(status.get("id", 0)), str(status.get("engine", ""))
    except NodeError as error:
        reading.node.failure = str(error)


def _compare(readings: Sequence[_Reading], compared: Compared) -> None:
    """Compares the blocks, and then the keys of the first block that differs."""
    equal_to = b""
    while True:
        blocks = [(reading, reading.next()) for reading in readings]
        blocks = [(reading, block) for reading, block in blocks if not reading.node.failure]
        seen = {block for _, block in blocks}
        if len(seen) > 1:
            break
        block = next(iter(seen), None)
        if block is None:
            return
        equal_to = block[0]
        for reading, _ in blocks:
            reading.node.keys += int.from_bytes(block[1][:4], "little")
    for reading, _ in blocks:
        reading.end()
        reading.begin(compared.index, equal_to)
    _first_key([reading for reading, _ in blocks if not reading.node.failure], compared)


def _first_key(readings: Sequence[_Reading], compared: Compared) -> None:
    """Finds the first key that isn't the same everywhere, and what each node has there."""
    while True:
        pairs = [(reading, reading.next()) for reading in readings]
        pairs = [(reading, pair) for reading, pair in pairs if not reading.node.failure]
        if len({pair for _, pair in pairs}) > 1:
            break
        if not pairs or pairs[0][1] is None:
            return
        for reading, _ in pairs:
            reading.node.keys += 1
    compared.key = min(pair[0] for _, pair in pairs if pair is not None)
    for reading, pair in pairs:
        if pair is None or pair[0] != compared.key:
            reading.node.found = "absent"
        else:
            reading.node.found = f"{int.from_bytes(pair[1][:4], 'little'):,} bytes, {pair[1][4:].hex()[:12]}"


def named(key: bytes) -> str:
    """A key of the engine for people: the user's own, or the name of one of ours."""
    with contextlib.suppress(DecodeError):
        return "(metcd's own key) the change of revision {}.{}".format(*revision_at(key))
    text = key[1:].decode(errors="backslashreplace")
    return repr(text) if key.startswith(b"k") else f"(metcd's own key) m{text!r}"


def compared_lines(compared: Compared) -> list[str]:
    """The table for people, and a sentence."""
    rows = [("NODE", "ENGINE", "EQUAL KEYS", "THERE", "URL")]
    for node in compared.nodes:
        there = "not compared" if node.failure else node.found or "the same"
        rows.append((str(node.id or "?"), node.engine or "?", f"{node.keys:,}", there, node.url))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    lines += [f"node {node.id or '?'} at {node.url}: {node.failure}" for node in compared.nodes if node.failure]
    if compared.key is None:
        others = "" if compared.whole else " that were compared"
        lines.append(f"at entry {compared.index:,}, all nodes{others} have the same")
    else:
        odd = ", ".join(str(node.id) for node in _odd(compared))
        lines.append(f"at entry {compared.index:,}, the first key that differs is {named(compared.key)}, on node {odd}")
    return lines


def _odd(compared: Compared) -> list[NodeCompared]:
    """The nodes that have something else at the key than most; all of them if no two of three, or of two, agree."""
    nodes = [node for node in compared.nodes if node.found]
    for node in nodes:
        if 2 * sum(other.found == node.found for other in nodes) > len(nodes):
            return [other for other in nodes if other.found != node.found]
    return nodes
