"""What the parts of a store share: its segments, its log, its keydir, its locks, its snapshots and its counters.

    store ──► writer, merging, load, snapshot, check ──► core ──► log, keydir, table of segments

Each part takes the core and none takes the store, so that no part knows who calls it.

Threads. Three locks, taken in this order:

    merging_lock    one merge, load or check at a time
    writer_lock     held by the thread that appends, or changes which files there are; also during syncs
    mutex           keydir, undo maps and retirement; held for microseconds, never during I/O. A small write that asks
                    for no sync may take this one alone, while nobody has the writer's (`Core.writing`)

A get takes none of them, a scan only the mutex, so no reader waits for what the writer waits for. A get may find that a
merge has removed the file of its place: then it looks the place up again. Counters of reads may miss some when several
threads read.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TypeVar

from engines import lifetime
from engines.bitcask.intent import finish_load
from engines.bitcask.keydir import Keydir, Undo
from engines.bitcask.log import Log
from engines.bitcask.options import Options
from engines.bitcask.place import CutRecord, Place, read_record, unpack
from engines.bitcask.record import HEADER_BYTES, BadRecord
from engines.bitcask.segment import SegmentTable, data_path, repair_advice
from engines.env import Env
from engines.errors import CorruptionError, StoreChanged
from engines.kvstore import Usable
from engines.lifetime import Arguments

__all__ = ["NEVER", "Core", "Moment"]

Answer = TypeVar("Answer")

NEVER = 1 << 62  # an epoch that no store comes to


class Moment:
    """What an open snapshot holds on to: the keydir with an undo map, and the epoch, which keeps the files."""

    __slots__ = ("__weakref__", "epoch", "keydir", "open", "undo")

    def __init__(self, keydir: Keydir, epoch: int) -> None:
        self.keydir = keydir
        self.epoch = epoch
        self.undo = Undo()
        self.open = True


class Core(Usable):
    """The shared parts of one open store; `store.py` has the public ones."""

    def __init__(self, env: Env, options: Options, table: SegmentTable, log: type[Log] = Log) -> None:
        self.closed, self.failure = False, None  # the class has them too, where a look takes longer
        self.env = env
        self.options = options
        self.table = table
        self.stats = table.stats
        self.log = log(env, table, options.max_file_size)
        self.turn_to(Keydir())
        self.merging_lock = threading.Lock()
        self.writer_lock = threading.Lock()
        self.mutex = threading.Lock()
        # Weakly: a snapshot that is dropped without being closed holds nothing
        self.moments: set[weakref.ref[Moment]] = set()
        self.hits = self.misses = self.scanned = self.bytes_read = self.merges = 0

    def turn_to(self, keydir: Keydir) -> None:
        """The keydir from now on: an empty one at first, and each load's. Requires: the mutex, if there are readers."""
        self.keydir = self.log.keydir = keydir

    def read(self, key: bytes, place: Place) -> bytes:
        """The value of a key at its place. One read of exactly its record, whose checksum is verified.

        Raises KeyError if a merge has removed the file, StoreChanged (a reader only), CorruptionError, OSError.
        """
        file_id, offset, size = unpack(place)
        self.bytes_read += size
        view = self.table.views.get(file_id)
        if view is None:
            view = self.table.view(file_id)
        try:
            return read_record(view, offset, size, key)[HEADER_BYTES + len(key) :]
        except BadRecord as bad:
            path = data_path(self.table.directory, file_id)
            if self.options.read_only and isinstance(bad, CutRecord):
                raise StoreChanged(path, "is shorter than it was") from None
            why = f"{bad.why}; {repair_advice(self.table.directory)}"
            raise CorruptionError(path, bad.offset, why) from bad

    # ---- locks ------------------------------------------------------------------------------------------------------

    def writing(self, call: Callable[[*Arguments], Answer], *arguments: *Arguments) -> Answer:
        """Calls with the writer's lock held, alone among those who write.

        Some take the mutex only, and see under it that nobody has the writer's lock. So this waits for the mutex once:
        the write in hand has ended then, and the next one sees.
        """
        with self.writer_lock: return self._alone(call, *arguments)  # fmt: skip  # noqa: E701

    def _alone(self, call: Callable[[*Arguments], Answer], *arguments: *Arguments) -> Answer:
        with self.mutex: pass  # fmt: skip  # noqa: E701
        return call(*arguments)

    # ---- snapshots --------------------------------------------------------------------------------------------------

    def new_moment(self) -> Moment:
        """Holds the present. O(1). Requires: the mutex."""
        moment = Moment(self.keydir, self.table.epoch)
        self.moments.add(weakref.ref(moment, self.moments.discard))
        return moment

    def open_moments(self) -> list[Moment]:
        """Those of all open snapshots."""
        found = [reference() for reference in list(self.moments)]
        return [moment for moment in found if moment is not None and moment.open]

    def undo_maps(self) -> list[Undo]:
        """Those of the open snapshots of the present keydir. Requires: the mutex."""
        if not self.moments:
            return []
        return [moment.undo for moment in self.open_moments() if moment.keydir is self.keydir]

    def close_moment(self, moment: Moment) -> None:
        """Lets go of a moment, and removes the files that only it needed."""
        moment.open = False
        moment.undo.clear()
        self.moments.discard(weakref.ref(moment))
        # A reader must not wait for the writer: if it has the lock, its flush, its next merge or `close` removes them
        if self.table.retired and not self.writer_lock.locked():
            self.writing(self._remove_retired_if_usable)

    def end_moments(self) -> None:
        """Closes all snapshots: the store is closed, or another process's."""
        for moment in self.open_moments():
            moment.open = False

    # ---- files and failures -----------------------------------------------------------------------------------------

    def remove_retired(self) -> None:
        """Removes the files that no open snapshot needs. Raises OSError. Requires: the writer's lock."""
        if self.table.retired or self.table.intent_bytes:
            self.table.remove_retired(min((moment.epoch for moment in self.open_moments()), default=NEVER))
            finish_load(self.table)

    def _remove_retired_if_usable(self) -> None:
        if not self.closed and self.failure is None:
            with self.poisoning():
                self.remove_retired()

    @contextlib.contextmanager
    def poisoning(self) -> Iterator[None]:
        """Makes a failure of the disk final, and an interrupt; damage that was found is neither."""
        try:
            yield
        except BaseException as failure:
            if isinstance(failure, OSError) or not isinstance(failure, Exception):
                self.poison(failure)
            raise

    def leave_to_parent(self) -> None:
        """In the child of a fork: other locks, since a thread that held one is not here; and no open snapshot."""
        for name, value in list(vars(self).items()):
            if (lock := lifetime.new_lock(value)) is not None:
                setattr(self, name, lock)
        self.end_moments()
