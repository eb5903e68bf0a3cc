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

from engines.env import Env, Lock
from engines.errors import CorruptionError, NoSuchStore
from engines.kvstore import Stats
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
        _replay_to_tables(core)
        core.delete_obsolete()
    except BaseException:
        versions.close()
        if core.log is not None:
            core.log.close()
        raise
    return core


def _logs(core: Core) -> list[tuple[int, str]]:
    """(number, path) of the logs that are not in tables yet, oldest first."""
    versions = core.versions
    return [
        (number, f"{core.directory}/{name}")
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


class _Replay:
    """Feeds logs into memtables, and checks that the sequences go on (rule 3)."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.sequence = core.versions.last_sequence  # the newest so far
        self._next: int | None = (
            None  # LevelDB's manifest may be ahead of the first log: its sequence is as good as any
        )
        self.memtable: MemTable = core.new_memtable()
        self.bounds: list[tuple[int, int]] = [(0, 0)]  # lowest and highest sequence of each memtable, this one's last

    def feed(self, path: str) -> list[MemTable]:
        """Replays one log; returns the memtables that it has filled."""
        full = []
        limit = self._core.options.write_buffer_bytes
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
            self.memtable.add_all(sequence, operations)
            last = sequence + len(operations) - 1
            self.bounds[-1] = self.bounds[-1][0] or sequence, last
            self.sequence = max(self.sequence, last)
            if self.memtable.size_bytes >= limit:
                full.append(self.memtable)
                self.memtable = self._core.new_memtable()
                self.bounds.append((0, 0))
        return full


def _replay_to_memory(core: Core) -> None:
    """For reading only: everything in the logs becomes memtables."""
    replayed = _Replay(core)
    full: list[MemTable] = []
    for _, path in _logs(core):
        full += replayed.feed(path)
    core.sequence = replayed.sequence
    core.state = State(replayed.memtable, tuple(reversed(full)), core.versions.current)


def _replay_to_tables(core: Core) -> None:
    versions = core.versions
    replayed = _Replay(core)
    memtables: list[MemTable] = []
    for _, path in _logs(core):
        memtables += replayed.feed(path)
    memtables.append(replayed.memtable)
    core.sequence = replayed.sequence
    edit = VersionEdit(previous_log_number=0, last_sequence=replayed.sequence)
    number = versions.new_number()
    for memtable, bounds in zip(memtables, replayed.bounds, strict=True):
        edit.added += [(0, file) for file in _write_table(core, memtable, bounds)]
    core.new_log()
    edit.log_number = core.log_number
    versions.begin_manifest(edit, number)
    core.state = State(core.new_memtable(), (), versions.current)


def _write_table(core: Core, memtable: MemTable, bounds: tuple[int, int]) -> list[FileMeta]:
    if not len(memtable):
        return []
    numbers = iter(core.versions.new_number, None)
    writer = core.table_writer(core.options, bounds, numbers, "lsm.table.recover")
    files = core.parts.flush(memtable, core.sequence, writer)  # nobody has a snapshot yet
    core.stats.bytes_written += writer.bytes_written
    core.stats.fsyncs += writer.fsyncs
    return files
