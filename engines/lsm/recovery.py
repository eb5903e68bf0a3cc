"""Opening a store: from what is on disk to the state before the crash.

    CURRENT → manifest → version → logs that it hasn't seen → memtable → tables of level 0
            → a new log and a new manifest → CURRENT → the rest is deleted

1. Nothing is written before everything has been read: a store that is refused is left as it was.
2. What a log's replay brings is written to tables, and synced, before anybody may read it. (A process that was killed
   leaves records in the page cache; the next power cut would take back what a reader has seen.)
3. Logs are replayed in the order of their numbers, and their sequences must go on without a gap from log to log.
4. A crash in the middle of this leaves the old manifest in charge; whatever was written besides is deleted next time.

Follows DB::Open and DBImpl::Recover in LevelDB's db/db_impl.cc.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engines.env import Env, Lock
from engines.errors import CorruptionError, NoSuchStore
from engines.kvstore import Operation, Stats
from engines.lsm import manifest
from engines.lsm.core import Core
from engines.lsm.files import CURRENT, LOCK, keep_owner, listed, repair_advice
from engines.lsm.foreign import refuse_rocksdb
from engines.lsm.memtable import MemTable
from engines.lsm.options import Options
from engines.lsm.parts import Parts
from engines.lsm.state import State
from engines.lsm.version import FileMeta, VersionEdit
from engines.lsm.wal import replay

__all__ = ["open_store"]


def open_store(env: Env, directory: str, options: Options, stats: Stats, parts: Parts) -> tuple[Core, Lock]:
    """The recovered store, and the lock that it holds. Raises StoreLocked, NoSuchStore, ForeignFormat, CorruptionError,
    OSError."""
    refuse_rocksdb(env, directory)
    if options.read_only or not options.create:
        _must_exist(env, directory)
    lock = _shared_lock(env, directory) if options.read_only else _exclusive_lock(env, directory)
    try:
        return _recover(env, directory, options, stats, parts), lock
    except BaseException:
        lock.close()
        raise


class _Unlocked:
    """In place of a lock where there is nothing to lock."""

    def close(self) -> None:
        """Nothing to give up."""


def _exclusive_lock(env: Env, directory: str) -> Lock:
    """For writing; makes the directory and LOCK if need be."""
    path = f"{directory}/{LOCK}"
    env.makedirs(directory, "lsm.open.mkdir")
    is_new = not env.exists(path)
    lock = env.lock(path, "both")
    if is_new:
        keep_owner(env, path)
    return lock


def _shared_lock(env: Env, directory: str) -> Lock:
    """For reading only: LOCK is neither made nor opened for writing. Without one there is nothing to share: every
    program that writes a store of this format holds LOCK, which it has made.
    """
    try:
        return env.lock(f"{directory}/{LOCK}", "both", shared=True)
    except FileNotFoundError:
        return _Unlocked()


def _must_exist(env: Env, directory: str) -> None:
    """Raises NoSuchStore if nothing is there; CorruptionError if only CURRENT is missing."""
    if not env.is_dir(directory):
        raise NoSuchStore.at(directory)
    if env.exists(f"{directory}/{CURRENT}"):
        return
    _refuse_leftovers(env, directory)
    raise NoSuchStore.at(directory)


def _refuse_leftovers(env: Env, directory: str) -> None:
    """Raises CorruptionError if a store was there, and only CURRENT is missing."""
    leftovers = [name for kind, _, name in listed(env, directory) if kind in ("log", "ldb", "sst")]
    if leftovers:
        raise CorruptionError(
            f"{directory}/{CURRENT}",
            None,
            f"it is missing, although {leftovers[0]} is there; {repair_advice(directory)}",
        )


def _recover(env: Env, directory: str, options: Options, stats: Stats, parts: Parts) -> Core:
    if not env.exists(f"{directory}/{CURRENT}"):
        _refuse_leftovers(env, directory)
        manifest.create(env, directory, stats)
    versions = manifest.recover(env, directory, stats)
    versions.max_manifest_bytes = options.max_manifest_bytes
    core = Core(env, directory, options, stats, versions, parts)
    _check_old_logs(core)
    if options.read_only:
        _replay_to_memory(core)
        return core
    try:
        replay_to_tables(core)
        core.delete_obsolete()
    except BaseException:
        versions.close()
        if core.log is not None:
            core.log.close()
        raise
    return core


def logs_to_replay(core: Core) -> list[str]:
    """The paths of the logs that are not in tables yet, oldest first.

    `listed` gives the directory's files in the order of their numbers. The manifest says which logs count: those from
    `versions.log_number` on, and the one with `versions.previous_log_number`. An older one was flushed, and a crash
    kept it from being deleted. Raises OSError. O(files).
    """
    versions = core.versions
    return [
        f"{core.directory}/{name}"
        for kind, number, name in listed(core.env, core.directory)
        if kind == "log" and (number >= versions.log_number or number == versions.previous_log_number)
    ]


def _check_old_logs(core: Core) -> None:
    """A log that the manifest takes for old, and that a crash kept from being deleted, has nothing that isn't in tables.

    Raises CorruptionError if it has: the log number of the manifest is too high. O(bytes); there rarely is one.
    """
    versions = core.versions
    for kind, number, name in listed(core.env, core.directory):
        if kind != "log" or number >= versions.log_number or number == versions.previous_log_number:
            continue
        path, last = f"{core.directory}/{name}", 0
        with contextlib.suppress(CorruptionError):  # nobody needs it: only what it can testify to counts
            for sequence, operations in replay(core.env, path):
                last = max(last, sequence + len(operations) - 1)
        if last > versions.last_sequence:
            raise CorruptionError(
                path,
                None,
                f"the manifest says that this log is in tables, up to sequence {versions.last_sequence}, but it goes on "
                f"to {last}; {repair_advice(core.directory)}",
            )


@dataclass(slots=True)
class Replayed:
    """A memtable made of logs; its sequences are from `lowest` to `highest`, and both are 0 while it is empty."""

    memtable: MemTable
    lowest: int = 0
    highest: int = 0


class Replay:
    """Feeds logs into memtables, and checks that the sequences go on (rule 3).

    `sequence` is the newest one so far. `filled` are the memtables, oldest first; the last one takes what comes next.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._next: int | None = (
            None  # None: LevelDB's manifest may be ahead of the first log, so any sequence is right
        )
        self.sequence = core.versions.last_sequence
        self.filled = [Replayed(core.new_memtable())]

    def feed(self, path: str) -> None:
        """Replays one log: each batch, in order, goes into the newest memtable.

        `batches` reads the log and has checked each sequence. A batch is never split over two memtables; when the
        newest one has reached `write_buffer_bytes` (of the core's options), the next batch begins another
        (`core.new_memtable()`). Afterwards `lowest` and `highest` of each memtable are those of what was added to it:
        an operation has its batch's sequence plus its place in it. `sequence` is the highest of all, and never lower than
        it was: LevelDB's manifest may be ahead of the log. Raises CorruptionError, OSError: from `batches`. O(log n) an
        operation.
        """
        for sequence, operations in self.batches(path):
            newest = self.filled[-1]
            if newest.memtable.size_bytes >= self._core.options.write_buffer_bytes:
                newest = Replayed(self._core.new_memtable())
                self.filled.append(newest)
            newest.memtable.add_all(sequence, operations)
            newest.lowest = newest.lowest or sequence
            newest.highest = sequence + len(operations) - 1
            self.sequence = max(self.sequence, newest.highest)

    def batches(self, path: str) -> Iterator[tuple[int, Sequence[Operation]]]:
        """(sequence of the first operation, operations) of each batch of a log. Raises CorruptionError, OSError."""
        for sequence, operations in replay(self._core.env, path, self._next or self.sequence + 1):
            expected = self._next or self.sequence + 1
            if sequence > expected or (self._next and sequence != expected):
                raise CorruptionError(
                    path,
                    None,
                    f"the log goes on at sequence {sequence}, but {expected} comes next: records before it "
                    f"are missing; {repair_advice(self._core.directory)}",
                )
            self._next = sequence + len(operations)
            yield sequence, operations


def _replay_to_memory(core: Core) -> None:
    """For reading only: everything in the logs becomes memtables."""
    replayed = Replay(core)
    for path in logs_to_replay(core):
        replayed.feed(path)
    newest, *older = [each.memtable for each in reversed(replayed.filled)]
    core.sequence = replayed.sequence
    core.state = State(newest, tuple(older), core.versions.current)


def replay_to_tables(core: Core) -> None:
    """Turns the logs that count into tables of level 0, and begins a new log and a new manifest: a store open for
    writing.

    The order, which makes a power cut at any moment harmless:

    1. `logs_to_replay`, each fed to one `Replay`, oldest first; `core.sequence` is what the replay has reached.
    2. `write_table` for each memtable, oldest first: these are the edit's new files, all on level 0.
    3. `core.new_log()`, whose number `core.log_number` is the edit's log number: the old logs count no longer.
    4. `versions.begin_manifest` with the edit, under a number of its own: now it counts. Any `versions.new_number()`
       will do; taken before step 2, the first manifest of a new store is MANIFEST-000002, as LevelDB's.
    5. `core.state` is a new memtable, nothing frozen, and the current version.

    The edit's previous log number is 0, its last sequence the replay's. Nothing is deleted here: the caller does that
    next, when the new manifest counts. Requires: `core.versions` was read from the manifest. Raises CorruptionError,
    OSError.
    """
    versions = core.versions
    replayed = Replay(core)
    for path in logs_to_replay(core):
        replayed.feed(path)
    core.sequence = replayed.sequence
    edit = VersionEdit(previous_log_number=0, last_sequence=replayed.sequence)
    number = versions.new_number()
    for part in replayed.filled:
        edit.added += [(0, file) for file in write_table(core, part)]
    core.new_log()
    edit.log_number = core.log_number
    versions.begin_manifest(edit, number)
    core.state = State(core.new_memtable(), (), versions.current)


def write_table(core: Core, part: Replayed) -> list[FileMeta]:
    """The tables of a replayed memtable, one as a rule, none if it is empty: synced, but not their names."""
    if not len(part.memtable):
        return []
    numbers = iter(core.versions.new_number, None)
    writer = core.table_writer(core.options, (part.lowest, part.highest), numbers, "lsm.table.recover")
    files = core.parts.flush(part.memtable, core.sequence, writer)  # nobody has a snapshot yet
    core.stats.bytes_written += writer.bytes_written
    core.stats.fsyncs += writer.fsyncs
    return files
