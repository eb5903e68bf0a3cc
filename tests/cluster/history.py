"""What clients have asked and been told: the history that the checkers judge, and the file in which a failed one is kept.

    {"client": 3, "node": 2, "kind": "put", "key": "g00001/b", "value": "3.17", "called": 1.04, "answered": 1.05, "index": 812}

One line for each operation. `answered` is missing if nobody knows whether it was done: it may happen at any time after its
call, or never. What was refused (503, no connection) was surely not done, and isn't here at all: if its value is ever seen,
nobody wrote it.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["UNKNOWN", "Op", "Recorder", "applied_by", "load", "observations", "save"]

UNKNOWN = math.inf
WRITES = ("put", "delete")


@dataclass(frozen=True, slots=True)
class Op:
    """One operation. key: of a scan, the prefix. value: what was put, what a get saw; pairs: what a scan saw.

    index: where a write stands in the log, if it was acknowledged, or a node has recorded it (witness.patched). Times are seconds since the round began, by one clock.
    """

    client: int
    kind: str  # "put", "delete", "get", "scan"
    key: bytes
    value: bytes | None
    called: float
    answered: float = UNKNOWN
    index: int = 0
    node: int = 0
    pairs: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def writes(self) -> bool:
        return self.kind in WRITES

    def __str__(self) -> str:
        seen = {
            "put": f"put {self.key!r} = {self.value!r}",
            "delete": f"delete {self.key!r}",
            "get": f"get {self.key!r} → {self.value!r}",
            "scan": f"scan {self.key!r} → {dict(self.pairs)!s:.200}",
        }[self.kind]
        end = "unknown" if self.answered == UNKNOWN else f"{self.answered:.4f}"
        at = f"  index {self.index}" if self.index else ""
        return f"{self.called:>9.4f} … {end:>9}  client {self.client} at node {self.node}  {seen}{at}"


class Recorder:
    """Collects operations from many threads."""

    def __init__(self) -> None:
        self._ops: list[Op] = []
        self._guard = threading.Lock()
        self.answered = 0  # also what was refused isn't counted

    def add(self, op: Op) -> None:
        with self._guard:
            self._ops.append(op)
            self.answered += op.answered != UNKNOWN

    def history(self) -> list[Op]:
        """All operations so far, by their calls."""
        with self._guard:
            return sorted(self._ops, key=lambda op: op.called)


def observations(op: Op, keys: Iterable[bytes]) -> list[tuple[bytes, bytes | None]]:
    """What a read says of each of `keys` that it is about."""
    if op.kind == "get":
        return [(op.key, op.value)]
    seen = dict(op.pairs)
    return [(key, seen.get(key)) for key in sorted({*keys, *seen}) if key.startswith(op.key)]


def save(path: Path, history: Sequence[Op]) -> None:
    """Writes a history, one line for each operation."""
    with open(path, "w") as file:
        for op in history:
            fields = {"client": op.client, "node": op.node, "kind": op.kind, "key": _text(op.key), "called": op.called}
            if op.value is not None:
                fields["value"] = _text(op.value)
            if op.answered != UNKNOWN:
                fields["answered"] = op.answered
            if op.index:
                fields["index"] = op.index
            if op.kind == "scan":
                fields["pairs"] = {_text(key): _text(value) for key, value in op.pairs}  # type: ignore[assignment]
            file.write(json.dumps(fields) + "\n")


def load(path: Path) -> list[Op]:
    """The history that `save` wrote."""
    with open(path) as file:
        return [_op(json.loads(line)) for line in file]


def _op(fields: dict) -> Op:  # type: ignore[type-arg]
    value = fields.get("value")
    pairs = tuple((_bytes(key), _bytes(each)) for key, each in fields.get("pairs", {}).items())
    return Op(
        fields["client"], fields["kind"], _bytes(fields["key"]), None if value is None else _bytes(value),
        fields["called"], fields.get("answered", UNKNOWN), fields.get("index", 0), fields["node"], pairs,
    )  # fmt: skip


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def applied_by(paths: Iterable[Path]) -> dict[int, tuple[bytes, bytes | None]]:
    """What nodes have recorded as applied (node.py): index → key, and value or None. Raises ValueError if two differ.

    The last line of a node that was killed may be cut short, and is then passed over.
    """
    found: dict[int, tuple[bytes, bytes | None]] = {}
    for path in paths:
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
            index, _, rest = line.partition(b" ")
            key, _, value = rest.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n"):
                continue
            write = (bytes.fromhex(key.decode()), None if value == b"-" else bytes.fromhex(value.decode()))
            if found.setdefault(int(index), write) != write:
                raise ValueError(
                    f"{path}: entry {int(index)} was applied as {write}, and elsewhere as {found[int(index)]}"
                )
    return found
