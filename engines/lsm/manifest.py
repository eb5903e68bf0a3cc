"""The manifest: the log of all version edits, and CURRENT, which says which manifest counts.

    CURRENT ──► MANIFEST-000005:  snapshot edit │ edit │ edit │ ...  ──(replayed)──►  the current Version

Every open begins a new manifest with a snapshot of all files, and so does the first edit after it has grown beyond
`max_manifest_bytes`. The order in which things reach the disk is what makes a crash at any moment harmless:

    tables and log of the new state: content synced
      → their names, and the new manifest's, synced            (one sync of the directory)
        → the edit in the manifest, synced                     from here on the new state is what counts
          → what only the old state needed is deleted          never before

For a new manifest there is one step more between the last two: its name is written to NNNNNN.dbtmp, synced, renamed
to CURRENT, and the directory synced. LevelDB leaves that last sync out.

1. A manifest is synced after each record. Damage in the middle is CorruptionError; a torn tail is the edit that was
   being written when the power failed, and it never counted.
2. A torn tail and a damaged last record look alike. But when an edit had counted, its consequences may have happened:
   so the log that the manifest asks for, and all tables, must be there. If not, the damage is CorruptionError.
3. `last_sequence` is exactly that of the newest version in any table. LevelDB writes a later one, which goleveldb
   takes for a reason to skip records of the log (google/leveldb#750).
4. Numbers are never used twice: `next_file_number` of the edit is above all numbers given out so far, and at open it
   is raised above every number in the directory.
5. After a failed write or sync of the manifest, or of the directory, nothing is written to it any more and nothing is
   deleted: nobody knows which of two states the disk has, and so the files of both must stay.

Follows LevelDB's class VersionSet in db/version_set.cc.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from engines.coding import DecodeError
from engines.env import Env, File
from engines.errors import CorruptionError, StoreFailed
from engines.kvstore import Stats
from engines.lifetime import Arguments, holding
from engines.log import LogReader, LogWriter
from engines.lsm.files import CURRENT, begin_file, current_temp_name, listed, manifest_name, parse, repair_advice
from engines.lsm.foreign import decode_edit
from engines.lsm.keys import order
from engines.lsm.version import COMPARATOR, FileMeta, Version, VersionEdit

__all__ = ["VersionSet", "create", "manifest_path", "read", "recover", "set_current"]


class VersionSet:
    """The current version, the numbers that belong to it, and the manifest that it is written to.

    `apply` is the only way to change the version; one at a time, under `lock`.
    """

    def __init__(self, env: Env, directory: str, stats: Stats) -> None:
        self._env = env
        self._directory = directory
        self._stats = stats
        self._writer: LogWriter | None = None
        self._file: File | None = None
        self._live: list[weakref.ref[Version]] = []
        self.lock = threading.RLock()
        self.failure: BaseException | None = None  # rule 5
        self.max_manifest_bytes = 1 << 62
        self.current = Version()
        self.number = 0  # of the manifest
        self.log_number = 0
        self.previous_log_number = 0
        self.next_file_number = 2
        self.last_sequence = 0  # rule 3
        self.compact_pointers: dict[int, bytes] = {}  # level → largest internal key of its last compaction

    def new_number(self, count: int = 1) -> int:
        """The first of `count` numbers that nobody else gets."""
        return holding(self.lock, self._take_numbers, count)

    def _take_numbers(self, count: int) -> int:
        number = self.next_file_number
        self.next_file_number += count
        return number

    def absorb(self, edit: VersionEdit) -> None:
        """Does what the edit says, in memory."""
        if edit.log_number is not None:
            self.log_number = edit.log_number
        if edit.previous_log_number is not None:
            self.previous_log_number = edit.previous_log_number
        if edit.next_file_number is not None:
            self.next_file_number = max(self.next_file_number, edit.next_file_number)
        if edit.last_sequence is not None:
            self.last_sequence = edit.last_sequence
        self.compact_pointers.update(edit.compact_pointers)
        self._live = [ref for ref in self._live if ref() is not None] + [weakref.ref(self.current)]
        self.current = self.current.edited(edit)

    def apply(self, edit: VersionEdit) -> None:
        """Writes the edit to the manifest, syncs it, and makes it the current version. Raises OSError.

        Requires: the edit's tables and log are on disk, their names too. Fills in the numbers, as LevelDB does.
        """
        self.write(self._apply, edit)

    def _apply(self, edit: VersionEdit) -> None:
        if self.manifest_bytes < self.max_manifest_bytes:
            self.append_edit(edit)
            return
        assert self._file is not None
        with contextlib.closing(self._file):
            self.begin_manifest(edit, self.new_number())

    def append_edit(self, edit: VersionEdit) -> None:
        """Appends the edit to the current manifest as one record, syncs the file under the name "lsm.manifest.append",
        and only then absorbs the edit, so that nobody sees a version that a power cut could take back.

        Before it is encoded, `_fill_in` gives the edit its numbers. `stats` counts the bytes by which the writer's
        `offset` grows, and one fsync. Requires: the edit's tables are on disk, and their names (the caller's work:
        `Core.install`); `begin_manifest` was called before (recovery does that); the lock (`apply` takes it). Raises
        OSError, and then the version is the old one.
        """
        assert self._writer is not None and self._file is not None
        self._fill_in(edit)
        begin = self._writer.offset
        self._writer.append(edit.encode())
        self._stats.bytes_written += self._writer.offset - begin
        self._file.sync("lsm.manifest.append")
        self._stats.fsyncs += 1
        self.absorb(edit)

    def write(self, call: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
        """Calls with the lock held. What fails there is the last thing that was done to manifest and directory (rule 5).

        Raises StoreFailed if something has failed before.
        """
        holding(self.lock, self._write, call, *arguments)

    def _write(self, call: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
        if self.failure is not None:
            raise StoreFailed(f"the manifest could not be written ({self.failure!r}): reopen the store")
        try:
            call(*arguments)
        except BaseException as failure:
            self.failure = failure
            raise

    def sync_names(self, site: str) -> None:
        """Makes the names in the directory durable. Raises OSError, StoreFailed."""
        self.write(self._sync_names, site)

    def _sync_names(self, site: str) -> None:
        self._env.sync_dir(self._directory, site)
        self._stats.fsyncs += 1

    def _fill_in(self, edit: VersionEdit) -> None:
        if edit.log_number is None:
            edit.log_number = self.log_number
        if edit.previous_log_number is None:
            edit.previous_log_number = self.previous_log_number
        if edit.last_sequence is None:
            edit.last_sequence = self.last_sequence
        edit.next_file_number = self.next_file_number

    def begin_manifest(self, edit: VersionEdit, number: int) -> None:
        """Writes a new manifest of a snapshot and the edit, and makes it the one that counts: `number` from then on.

        The file MANIFEST-number, made with `begin_file`, gets two records: `_snapshot()`, which is the version without
        the edit, and the edit, after `_fill_in`. In this order: the file is synced ("lsm.manifest.new"), the directory
        is synced ("lsm.manifest.dir"), which makes its name durable and those of the edit's tables and log,
        `set_current` switches to it. Then the edit is absorbed. `_file`, `_writer` and `number` are the new manifest's
        from then on; `stats` counts its bytes, and four fsyncs: these two and those of `set_current`.

        Requires: as `append_edit`, except that the names need not be on disk yet. Raises OSError.
        """
        path = f"{self._directory}/{manifest_name(number)}"
        self._fill_in(edit)
        self._file = begin_file(self._env, path)
        self._writer = LogWriter(self._file)
        self._writer.append_many([self._snapshot().encode(), edit.encode()])
        self._stats.bytes_written += self._writer.offset
        self._file.sync("lsm.manifest.new")
        self._env.sync_dir(self._directory, "lsm.manifest.dir")
        set_current(self._env, self._directory, number)
        self.number = number
        self._stats.fsyncs += 4
        self.absorb(edit)

    def _snapshot(self) -> VersionEdit:
        """All of the current version as one edit, in LevelDB's order: by level, then by smallest key, then by number."""
        edit = VersionEdit(comparator=COMPARATOR, compact_pointers=sorted(self.compact_pointers.items()))
        edit.added = sorted(
            self.current.files(), key=lambda added: (added[0], order(added[1].smallest), added[1].number)
        )
        return edit

    def obsolete(self, files: Iterable[tuple[str, int, str]], pending: Collection[int]) -> list[tuple[int, str]]:
        """(number, name) of the numbered files of the directory that nobody needs any more.

        files: (kind, number, name) as `listed` gives them. pending: numbers of tables in the making. What is needed:

        * tables, "ldb" and "sst": those of `live_files()`, pending ones, and any from `next_file_number` on
        * logs, "log": from `log_number` on, and `previous_log_number`; what is in them is in no table yet
        * manifests, "manifest": from `number` on
        * worker processes' files, "part": pending ones

        All else can go, "dbtmp" too. Requires: the version that says so is on disk, and `files` was listed before the
        call (the caller's work: `Core.delete_obsolete`). O(files).
        """
        live = self.live_files()
        gone = []
        for kind, number, name in files:
            if kind in ("ldb", "sst"):
                needed = number in live or number in pending or number >= self.next_file_number
            elif kind == "log":
                needed = number >= self.log_number or number == self.previous_log_number
            elif kind == "manifest":
                needed = number >= self.number
            else:
                needed = kind == "part" and number in pending
            if not needed:
                gone.append((number, name))
        return gone

    def skip_numbers(self, used: Iterable[int]) -> None:
        """Raises `next_file_number` above each number in `used`, so that `new_number` never gives one of them out (rule
        4).

        It is called once, at an open, with the numbers of all files in the directory: a crash may have left files that
        no manifest knows. It never lowers the number. O(len(used)).
        """
        self.next_file_number = max([self.next_file_number, *[number + 1 for number in used]])

    def live_files(self) -> dict[int, FileMeta]:
        """Number → table, of the current version and of those that somebody still reads."""
        return holding(self.lock, self._live_files)

    def _live_files(self) -> dict[int, FileMeta]:
        versions = [self.current, *[version for ref in self._live if (version := ref()) is not None]]
        return {file.number: file for version in versions for _, file in version.files()}

    @property
    def manifest_bytes(self) -> int:
        """The size of the manifest; 0 before `begin_manifest`."""
        return self._writer.offset if self._writer is not None else 0

    def close(self) -> None:
        """Closes the manifest; everything in it is on disk."""
        if self._file is not None:
            self._file.close()


def set_current(env: Env, directory: str, number: int) -> None:
    """Makes manifest `number` the one that counts, durably: afterwards CURRENT has its name and a newline.

    CURRENT is replaced as a whole, so that a power cut leaves the old name or the new one, and nothing else. The name
    is written to `current_temp_name(number)`, a file of `begin_file`, which is synced ("lsm.current.temp") and closed,
    renamed to CURRENT, and the directory is synced ("lsm.current.dir"). Requires: the manifest's content and name are
    on disk (`create` and `begin_manifest` see to that). Raises OSError; then CURRENT is the old one, or complete.
    """
    temp = f"{directory}/{current_temp_name(number)}"
    file = begin_file(env, temp)
    try:
        file.append(f"{manifest_name(number)}\n".encode())
        file.sync("lsm.current.temp")
    finally:
        file.close()
    env.rename(temp, f"{directory}/{CURRENT}")
    env.sync_dir(directory, "lsm.current.dir")


def create(env: Env, directory: str, stats: Stats) -> None:
    """Makes an empty store: MANIFEST-000001 of one edit, and CURRENT. Raises OSError.

    The edit says COMPARATOR, log number 0, next file number 2, last sequence 0. In this order: the record is written
    (`LogWriter`, on a file opened for writing), the file is synced ("lsm.create.manifest") and closed, the directory is
    synced ("lsm.create.dir"), `set_current` makes it the one that counts. `stats` counts the bytes of the manifest and
    the four fsyncs. Requires: no store is in the directory (`open_store` has looked).
    """
    path = f"{directory}/{manifest_name(1)}"
    edit = VersionEdit(COMPARATOR, log_number=0, next_file_number=2, last_sequence=0)
    file = env.open(path, "w")
    try:
        writer = LogWriter(file)
        writer.append(edit.encode())
        stats.bytes_written += writer.offset
        file.sync("lsm.create.manifest")
    finally:
        file.close()
    env.sync_dir(directory, "lsm.create.dir")
    set_current(env, directory, 1)
    stats.fsyncs += 4


NEEDED: Final = (
    ("next_file_number", "meta-nextfile"),
    ("log_number", "meta-lognumber"),
    ("last_sequence", "last-sequence-number"),
)


def recover(env: Env, directory: str, stats: Stats) -> VersionSet:
    """As `read`, if what it says can be true. Raises CorruptionError for whatever LevelDB refuses, and for what it doesn't
    notice (overlapping levels, numbers that were given out already, missing tables)."""
    versions = read(env, directory, stats)
    files = listed(env, directory)
    if (why := _impossible(versions, files)) is not None:
        raise CorruptionError(manifest_path(env, directory), None, f"{why}; {repair_advice(directory)}")
    versions.skip_numbers(number for _, number, _ in files)
    return versions


def read(env: Env, directory: str, stats: Stats) -> VersionSet:
    """The state that CURRENT's manifest describes: all of its edits, absorbed in order by a new VersionSet. Writes
    nothing.

    `manifest_path` finds the manifest, `edits_of` reads it, and `require_numbers` refuses one that is cut short. Raises
    CorruptionError, ForeignFormat, OSError: all of them come from these three. O(edits * files).
    """
    path = manifest_path(env, directory)
    edits = edits_of(env, path)
    require_numbers(path, edits)
    versions = VersionSet(env, directory, stats)
    for edit in edits:
        versions.absorb(edit)
    return versions


def edits_of(env: Env, path: str) -> list[VersionEdit]:
    """All edits of a manifest, in order. Raises CorruptionError, ForeignFormat, OSError."""
    edits = []
    with contextlib.closing(env.open(path, "r")) as file:
        for offset, record in LogReader(file, path, advice=repair_advice(path.rpartition("/")[0])):
            try:
                edits.append(decode_edit(path, record))
            except DecodeError as error:
                raise CorruptionError(path, offset, f"the version edit is damaged: {error}") from error
    return edits


def require_numbers(path: str, edits: Sequence[VersionEdit]) -> None:
    """Raises CorruptionError unless the numbers that every manifest tells are in some edit of this one."""
    for name, leveldb_name in NEEDED:
        if all(getattr(edit, name) is None for edit in edits):
            raise CorruptionError(path, None, f"no {leveldb_name} entry is in any edit: the manifest is cut short")


def manifest_path(env: Env, directory: str) -> str:
    """The path of the manifest that CURRENT points to, which exists. Raises CorruptionError, OSError."""
    current = f"{directory}/{CURRENT}"
    file = env.open(current, "r")
    try:
        content = file.pread(file.size(), 0)
    finally:
        file.close()
    name = content[:-1].decode("latin-1")
    parsed = parse(name)
    if content[-1:] != b"\n" or parsed is None or parsed[0] != "manifest":
        raise CorruptionError(
            current,
            0,
            f"the name of a manifest and a newline were expected, but it has {content[:60]!r}; {repair_advice(directory)}",
        )
    path = f"{directory}/{name}"
    if not env.exists(path):
        raise CorruptionError(current, 0, f"it points to {name}, which does not exist; {repair_advice(directory)}")
    return path


def _impossible(versions: VersionSet, files: Sequence[tuple[str, int, str]]) -> str | None:
    """Why the state that was read can't be what a store wrote, and what the directory has; None if it can."""
    tables = {number for kind, number, _ in files if kind in ("ldb", "sst")}
    live = [file.number for _, file in versions.current.files()]
    if missing := sorted(set(live) - tables):
        return f"{len(missing)} missing files, for example table {missing[0]}"
    if len(live) != len(set(live)):
        return "a table is listed twice, and not alike"
    if too_high := [number for number in live if number >= versions.next_file_number]:
        return (
            f"the next file number is {versions.next_file_number}, but table {max(too_high)} is in use: the next flush "
            "would overwrite it"
        )
    if violations := versions.current.violations():
        return violations[0]
    if versions.log_number and versions.log_number not in {number for kind, number, _ in files if kind == "log"}:
        return (
            f"the log {versions.log_number:06d}.log does not exist, although the manifest asks for it: the manifest's last "
            "edit or the log is lost"
        )
    return None
