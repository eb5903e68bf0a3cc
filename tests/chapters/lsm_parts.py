"""The parts of an LSM store without the store: for chapters 5 to 7, in which it can't be opened as a whole yet.

rows(history)                 sorted rows of (key, sequence, value) triples
LogAndMemtable(env)           a log, a memtable and a writer: all that a store is before it has tables. `open` replays
                              the logs, writes what they had to a new one, and deletes the others
LogSubject()                  the same, for the machine that cuts the power
Counted(key)                  a key that counts comparisons
require_same_bytes(one, two)  says where two files differ
real_log(), real_table()      files that LevelDB 1.22 has written (tests/lsm/golden/README.md has the program)
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from engines.env import Env
from engines.kvstore import Operation, Stats
from engines.lsm.background import Background
from engines.lsm.core import Core
from engines.lsm.keys import Absent, Row
from engines.lsm.manifest import VersionSet
from engines.lsm.memtable import MemTable
from engines.lsm.options import Options
from engines.lsm.wal import LogFile, replay
from engines.lsm.writer import Writer
from tests.conformance.operations import batch_of
from tests.crash.machine import ROOT, Step, Subject

__all__ = ["Counted", "LogAndMemtable", "LogSubject", "Pairs", "real_log", "real_table", "require_same_bytes", "rows"]

GOLDEN = Path(__file__).parent.parent / "lsm" / "golden"
LOG_BYTES = 4096  # space that the log is given at first
Pairs = tuple[tuple[bytes, bytes], ...]


def real_log() -> bytes:
    """A log of LevelDB's: 5 batches, of which one has 70,000 bytes."""
    return gzip.decompress((GOLDEN / "course.log.gz").read_bytes())


def real_table() -> bytes:
    """A table of LevelDB's: 301 rows in 3 data blocks, without filter and compression."""
    return gzip.decompress((GOLDEN / "course.ldb.gz").read_bytes())


def rows(history: Iterable[tuple[bytes, int, bytes | None]]) -> list[Row]:
    """The rows of (key, sequence, value), in order."""
    return sorted(Row.of(*version) for version in history)


def require_same_bytes(ours: bytes, theirs: bytes) -> None:
    """Raises AssertionError with the first difference, if what we write isn't what LevelDB has written."""
    shorter = min(len(ours), len(theirs))
    at = next((at for at in range(shorter) if ours[at] != theirs[at]), shorter)
    assert ours == theirs, (
        f"ours has {len(ours)} bytes, and LevelDB's {len(theirs)}; the first difference is at byte {at}: ours "
        f"{ours[at : at + 12].hex(' ')}, LevelDB's {theirs[at : at + 12].hex(' ')}"
    )


class Counted(bytes):
    """A key that counts how often keys of its kind are compared by their order."""

    comparisons = 0
    __hash__ = bytes.__hash__

    def __lt__(self, other: bytes) -> bool:
        Counted.comparisons += 1
        return bytes.__lt__(self, other)

    def __le__(self, other: bytes) -> bool:
        Counted.comparisons += 1
        return bytes.__le__(self, other)

    def __gt__(self, other: bytes) -> bool:
        Counted.comparisons += 1
        return bytes.__gt__(self, other)

    def __ge__(self, other: bytes) -> bool:
        Counted.comparisons += 1
        return bytes.__ge__(self, other)


class LogAndMemtable:
    """A store in the making: `core` and `writer` are the real ones, and there is no manifest and no table."""

    def __init__(self, env: Env, directory: str = ROOT) -> None:
        options = Options(memtable="skiplist", background=False, plain=True)
        stats = Stats()
        self.core = Core(env, directory, options, stats, VersionSet(env, directory, stats))
        self.writer = Writer(self.core, Background(self.core))
        self._recover(env, directory)

    def _recover(self, env: Env, directory: str) -> None:
        """What is in the logs goes into a new one, whose content is on disk before the old ones are deleted."""
        env.makedirs(directory, "test.mkdir")
        numbers = sorted(int(name[:6]) for name in env.list(directory) if name.endswith(".log"))
        for number in numbers:
            for sequence, operations in replay(env, f"{directory}/{number:06d}.log"):
                self.memtable.add_all(sequence, operations)
                self.core.sequence = max(self.core.sequence, sequence + len(operations) - 1)
        self.core.log_number = max(numbers, default=0) + 1
        path = f"{directory}/{self.core.log_number:06d}.log"
        self.core.log = LogFile(env, path, self.core.stats, LOG_BYTES)
        if numbers:
            # Deletions as well: an old log may come back, and it may have been synced only up to before the deletion.
            self.write([*self._newest(), (b"recovered", b"%d" % self.core.log_number)], sync=True)
        env.sync_dir(directory, "test.names")
        for number in numbers:
            env.unlink(f"{directory}/{number:06d}.log")

    @property
    def memtable(self) -> MemTable:
        return self.core.state.memtable

    def write(self, operations: Sequence[Operation], sync: bool) -> None:
        """One batch."""
        self.writer.write(batch_of(list(operations)), sync)

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """What a reader sees: of each key, by `MemTable.get`; the keys are those of `MemTable.rows`."""
        return [(key, value) for key, value in self._newest() if value is not None]

    def _newest(self) -> list[Operation]:
        """Each key with what `MemTable.get` says of it."""
        found = []
        for key in sorted({row.key for row in self.memtable.rows()} - {b"recovered"}):
            value = self.memtable.get(key, self.core.sequence)
            assert not isinstance(value, Absent), f"{key!r} is among the rows, but get says ABSENT"
            found.append((key, value))
        return found

    def close(self) -> None:
        """As at the end of a store: the log is synced and closed for good."""
        self.writer.close_log()


class LogSubject(Subject):
    """A log and a memtable whose power is cut."""

    name = "a log and a memtable"
    initial: Pairs = ()

    def __init__(self, steps: int) -> None:
        self.step_count = steps

    def open(self, env: Env) -> LogAndMemtable:
        return LogAndMemtable(env)

    def steps(self, rng: random.Random) -> list[Step]:
        return [self._step(rng, number) for number in range(self.step_count)]

    @staticmethod
    def _step(rng: random.Random, number: int) -> Step:
        operations = []
        for place in range(rng.choice((1, 1, 2, 4))):
            value = None if rng.random() < 0.2 else b"%d.%d" % (number, place) + b"." * rng.choice((0, 9, 600))
            operations.append((b"key%d" % rng.randrange(6), value))
        return Step("write", tuple(operations), durable=rng.random() < 0.6)

    def apply(self, handle: LogAndMemtable, step: Step) -> None:
        handle.write(step.arguments, step.durable)

    def state(self, handle: LogAndMemtable) -> Pairs:
        return tuple(handle.pairs())

    def after(self, state: Pairs, step: Step) -> Sequence[Pairs]:
        if step.kind != "write":
            return []
        items: dict[bytes, bytes | None] = {**dict(state), **dict(step.arguments)}
        return [tuple(sorted((key, value) for key, value in items.items() if value is not None))]

    def probe(self, state: Pairs) -> Step:
        return Step("write", ((b"probe", b"1"),), durable=True)

    def close(self, handle: LogAndMemtable) -> None:
        handle.close()
