"""The disk of SimEnv: what a power cut may leave of files and of names.

    Inode       content   what readers see now, the page cache
                durable   what the last sync has brought to the disk
                pending   the writes and size changes since then, in order
    Directory   entries, durable, pending: the same three for names

A power cut makes one of the disks that may be found afterwards; how much of what was pending is on it is the policy's
business. The fixed policies (the first four) make one image, the random ones as many as there are seeds.

| policy               | of pending names           | of pending writes                                                |
|----------------------|----------------------------|------------------------------------------------------------------|
| `everything`         | all, and they stay pending | all, and they stay pending: the process was killed, not the disk |
| `nothing`            | none                       | none                                                             |
| `data_without_names` | none                       | all                                                              |
| `names_without_data` | all                        | none, but a file may have grown to its new size, by zeros        |
| `prefix`             | the first few of each dir  | the first few of each file                                       |
| `reorder`            | any subset                 | any subset of each file's                                        |
| `torn`               | any subset                 | any subset of their sectors                                      |
| `garbage`            | any subset                 | as `torn`, but all size changes are kept: what was lost beyond   |
|                      |                            | the old end holds zeros, or what the disk held before            |

What the disk promises, no more and no less (ALICE, OSDI'14; SQLite's "Atomic Commit"; fsync(2), rename(2)):

1. What was pending when a sync *succeeded* is on every later image. Syncing a file does nothing for its name.
2. Between two syncs, pending writes reach the disk in any order, and so do the operations of a directory.
3. An aligned sector of 512 bytes is written as a whole or not at all.
4. A rename within a directory is one operation: a crash shows the old state of both names, or the new one. Between two
   directories it is a link in one and an unlink in the other, which persist independently. Nobody ever sees half of it
   while the power is on.
5. A failed sync loses what was pending: readers go on seeing it, and no later sync brings it to the disk (pages are
   marked clean: "Can Applications Recover from fsync Failures?", ATC'20).

Cheap images: a content that doesn't change is shared by disk and images, as `bytes`; it becomes a `bytearray` at the
next write. Left out: permissions, free space, bit rot, and disks that lie about a sync.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from enum import Enum
from typing import Any

__all__ = [
    "FIXED",
    "RANDOM",
    "SECTOR_BYTES",
    "Directory",
    "Inode",
    "Names",
    "Node",
    "Policy",
    "copied",
    "fingerprint",
    "survived",
]

SECTOR_BYTES = 512


class Policy(Enum):
    """What a power cut leaves of what was not synced; the module's docstring has the table."""

    EVERYTHING = "everything"
    NOTHING = "nothing"
    DATA_WITHOUT_NAMES = "data_without_names"
    NAMES_WITHOUT_DATA = "names_without_data"
    PREFIX = "prefix"
    REORDER = "reorder"
    TORN = "torn"
    GARBAGE = "garbage"

    @property
    def meaning(self) -> str:
        """In half a line, for reports."""
        return _MEANINGS[self]


_MEANINGS = {
    Policy.EVERYTHING: "all that was written: the process was killed, and the disk goes on",
    Policy.NOTHING: "only what was synced",
    Policy.DATA_WITHOUT_NAMES: "all that was written to files, and of names (create, rename, unlink) the synced ones",
    Policy.NAMES_WITHOUT_DATA: "all names, and of files what was synced; they may have grown, by zeros",
    Policy.PREFIX: "what was synced, and the first few changes since then of each file and directory",
    Policy.REORDER: "what was synced, and any of the changes since then: a later one without an earlier",
    Policy.TORN: "as reorder, and of a write any of its sectors of 512 bytes",
    Policy.GARBAGE: "as torn, but files keep their new length: what is missing there is zeros, or old bytes",
}

FIXED = (Policy.EVERYTHING, Policy.NOTHING, Policy.DATA_WITHOUT_NAMES, Policy.NAMES_WITHOUT_DATA)
RANDOM = (Policy.PREFIX, Policy.REORDER, Policy.TORN, Policy.GARBAGE)

# A pending write: (offset, data); a growth to `offset` bytes: (offset, b""); a cut or growth to it: (offset, None).
_Write = tuple[int, bytes | None]


def _apply(content: bytearray, write: _Write) -> None:
    """Does to `content` what the write does to a file; gaps are zeros."""
    offset, data = write
    if data is None:
        del content[offset:]
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    if data:
        content[offset : offset + len(data)] = data


class Inode:
    """A file without its names."""

    __slots__ = ("content", "durable", "lost", "mode", "pending")

    def __init__(self, content: bytes = b"", mode: int = 0o600) -> None:
        self.content: bytes | bytearray = content
        self.durable = content
        self.pending: list[_Write] = []
        self.lost = False  # a sync has failed: content holds what no sync will bring to the disk
        self.mode = mode

    def write(self, offset: int, data: bytes | None) -> None:
        if type(self.content) is not bytearray:
            self.content = bytearray(self.content)
        _apply(self.content, (offset, data))
        self.pending.append((offset, data))

    def frozen(self) -> bytes:
        """The content as bytes, which images share until the next write."""
        if type(self.content) is not bytes:
            self.content = bytes(self.content)
        return self.content

    def sync(self) -> None:
        if self.pending:
            self.durable = self._after(self.pending) if self.lost else self.frozen()
            self.pending = []

    def lose(self) -> None:
        if self.pending:
            self.pending = []
            self.lost = True

    def _after(self, writes: list[_Write]) -> bytes:
        content = bytearray(self.durable)
        for write in writes:
            _apply(content, write)
        return bytes(content)

    def is_durable(self) -> bool:
        """True if every image has what readers see now."""
        return not self.pending and not self.lost

    def copy(self) -> Inode:
        copy = Inode(self.frozen(), self.mode)
        copy.durable, copy.pending, copy.lost = self.durable, self.pending.copy(), self.lost
        return copy

    def survivor(self, policy: Policy, rng: random.Random) -> bytes:
        """What a power cut under the policy leaves of this file."""
        pending = self.pending
        if not pending or policy is Policy.NOTHING:
            return self.durable
        if policy is Policy.DATA_WITHOUT_NAMES:
            return self._after(pending)
        if policy is Policy.NAMES_WITHOUT_DATA:
            growth = max(0, len(self.content) - len(self.durable))
            return self.durable + bytes(growth if rng.random() < 0.5 else 0)
        if policy is Policy.PREFIX:
            return self._after(pending[: rng.randint(0, len(pending))])
        keep = rng.random()  # so that many are kept in one image, and few in the next
        if policy is Policy.REORDER:
            return self._after([write for write in pending if rng.random() < keep])
        if policy is Policy.TORN:
            return self._after([piece for write in pending for piece in _sectors(write) if rng.random() < keep])
        return self._garbage(keep, rng)

    def _garbage(self, keep: float, rng: random.Random) -> bytes:
        """All size changes are kept; of the data, a sector may be missing, and then nobody cleared the disk's."""
        content = bytearray(self.durable)
        old_end = len(content)
        for write in self.pending:
            if write[1] is None:
                old_end = min(old_end, write[0])
            for offset, data in _sectors(write):
                if not data or rng.random() < keep:
                    _apply(content, (offset, data))
                    continue
                fresh = max(offset, old_end)  # what lies before it is not new to the file, and keeps its old bytes
                size = max(0, offset + len(data) - fresh)
                _apply(content, (fresh, rng.randbytes(size) if rng.random() < 0.5 else bytes(size)))
        return bytes(content)


def _sectors(write: _Write) -> Iterator[_Write]:
    """Splits a write where it crosses from one sector to the next."""
    offset, data = write
    if not data or offset // SECTOR_BYTES == (offset + len(data) - 1) // SECTOR_BYTES:
        yield write
        return
    start = 0
    while start < len(data):
        end = start + SECTOR_BYTES - (offset + start) % SECTOR_BYTES
        yield offset + start, data[start:end]
        start = end


# One operation of a directory: names and what they now mean; None is nothing. A rename within it has two.
_Change = tuple[tuple[str, "Inode | Directory | None"], ...]
Names = dict[str, "Inode | Directory"]


def _rename(names: Names, change: _Change) -> None:
    """Does to `names` what the operation does to a directory."""
    for name, node in change:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Directory:
    """Names and what they mean: `Inode` with three dicts in the place of three byte strings."""

    __slots__ = ("durable", "entries", "lost", "pending")

    def __init__(self) -> None:
        self.entries: Names = {}
        self.durable: Names = {}
        self.pending: list[_Change] = []
        self.lost = False

    def change(self, *change: tuple[str, Inode | Directory | None]) -> None:
        _rename(self.entries, change)
        self.pending.append(change)

    def sync(self) -> None:
        for change in self.pending:
            _rename(self.durable, change)
        self.pending = []

    def lose(self) -> None:
        if self.pending:
            self.pending = []
            self.lost = True

    def is_durable(self) -> bool:
        """True if every image has what readers see now, here and below."""
        return not self.pending and not self.lost and all(node.is_durable() for node in self.entries.values())

    def survivors(self, policy: Policy, rng: random.Random) -> Names:
        """The names that a power cut under the policy leaves."""
        pending = self.pending
        if policy is Policy.NAMES_WITHOUT_DATA:
            kept = pending
        elif not pending or policy in (Policy.NOTHING, Policy.DATA_WITHOUT_NAMES):
            return self.durable
        elif policy is Policy.PREFIX:
            kept = pending[: rng.randint(0, len(pending))]
        else:
            keep = rng.random()
            kept = [change for change in pending if rng.random() < keep]
        names = dict(self.durable)
        for change in kept:
            _rename(names, change)
        return names


Node = Inode | Directory


def copied(node: Node, copies: dict[int, Node]) -> Node:
    """The node and what is below it for another SimEnv, pending things still pending. `copies` keeps links links."""
    if (done := copies.get(id(node))) is not None:
        return done
    if isinstance(node, Inode):
        copies[id(node)] = copy = node.copy()
        return copy
    directory = copies[id(node)] = Directory()
    directory.entries = {name: copied(child, copies) for name, child in node.entries.items()}
    directory.durable = {name: copied(child, copies) for name, child in node.durable.items()}
    directory.pending = [
        tuple((name, child and copied(child, copies)) for name, child in change) for change in node.pending
    ]
    directory.lost = node.lost
    return directory


def survived(node: Node, policy: Policy, rng: random.Random, survivors: dict[int, Node]) -> Node:
    """The node and what is below it after a power cut, all of it durable."""
    if (done := survivors.get(id(node))) is not None:
        return done
    if isinstance(node, Inode):
        survivors[id(node)] = inode = Inode(node.survivor(policy, rng), node.mode)
        return inode
    directory = survivors[id(node)] = Directory()
    for name, child in node.survivors(policy, rng).items():
        directory.durable[name] = survived(child, policy, rng, survivors)
    directory.entries = dict(directory.durable)
    return directory


def fingerprint(node: Node, seen: dict[int, int]) -> int:
    """A hash of all names and bytes at and below the node, and of what is pending there."""
    if (number := seen.get(id(node))) is not None:
        return number
    seen[id(node)] = len(seen)
    if isinstance(node, Inode):
        if not node.is_durable():
            return hash((node.frozen(), node.durable, tuple(node.pending)))
        return hash(node.frozen())
    parts: list[Any] = [(name, fingerprint(node.entries[name], seen)) for name in sorted(node.entries)]
    if node.pending or node.lost:
        parts += [(name, fingerprint(node.durable[name], seen)) for name in sorted(node.durable)]
        parts += [(name, child and fingerprint(child, seen)) for change in node.pending for name, child in change]
    return hash(tuple(parts))
