"""The store: the contract on one bbolt file.

    write  -> queue -> the writer that gets the lock takes all that wait -> one pass through the tree -> one commit
    put    -> the same, or past the queue if it is unsynced and nobody else writes
    get    -> the current state's root -> one bisection for each level -> the value
    scan   -> a pin on the current state -> the leaves of that tree, one after the other

Reading stands here; what changes the content stands in writer.py, and everything here that calls it does so under the
write lock. Readers take the current state once, and never wait.

Invariants:

1. The current state is replaced as a whole, by the committer, under the write lock.
2. After an OSError from a commit the store is poisoned: only the next opening knows what the disk has.
3. Every exception that is a StoreError, or that came from a caller's pairs, leaves the store as it was.

The path is the database file's; if there is a directory, the file in it is `metcd.db`. The lock is bbolt's, flock on the
database file itself, so that bbolt and this store keep each other out.

Left out: several writing transactions at once (copy-on-write has one writer), several processes writing.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Unpack

from engines.btree.bulk import StreamFailed
from engines.btree.check import Checker
from engines.btree.current import Current, State
from engines.btree.dump import dump_file
from engines.btree.explain import explain
from engines.btree.fast import FAST
from engines.btree.foreign import is_anothers
from engines.btree.meta import Meta, MetaError
from engines.btree.options import Options
from engines.btree.page import BucketValue
from engines.btree.parts import PLAIN, Parts
from engines.btree.pins import Pin
from engines.btree.recovery import has_magic, open_database, read_metas
from engines.btree.survey import Survey, add_survey, picture, short, survey
from engines.btree.transaction import Update, View
from engines.btree.writer import Writer
from engines.env import Env, StorePath, real_env
from engines.errors import ReadOnly, StoreError
from engines.group_commit import GroupCommit, Waiter
from engines.keywords import BTreeKeywords
from engines.kvstore import KVStore, Pair, Stats, WriteBatch, check_key, check_key_type, check_value, scan_bounds
from engines.lifetime import Arguments, holding
from engines.telling import counters

__all__ = ["BTreeStore"]

ALIVE = 256  # more than a page of 4,096 bytes can have pairs: what a scan may give out before it looks again
FILE_IN_DIRECTORY = "metcd.db"
IN_USE = "the store is in use by this thread: "


def database_path(path: str, env: Env) -> str:
    """The database file that `path` means: itself, or the one in the directory that it is."""
    return f"{path.rstrip('/')}/{FILE_IN_DIRECTORY}" if env.is_dir(path) else path


class BTreeStore(KVStore):
    """A copy-on-write B+tree in a bbolt file. `options` are those of engines.btree.options.Options.

    Writers take turns; those that wait share the next commit. Readers use what is committed and wait for nobody.
    """

    name = "btree"
    option_class = Options
    look_options: ClassVar[Mapping[str, Any]] = {"bucket": None}
    parts: ClassVar[Parts | None] = None  # a subclass that is to run with other parts says which

    def __init__(self, path: StorePath, *, env: Env | None = None, **options: Unpack[BTreeKeywords]) -> None:
        env = env or real_env()
        self.path: str = env.absolute(path)
        self._options = Options.of(options)
        self._stats = Stats()
        self._group = GroupCommit()
        self._write_lock = self._group.lock
        self._owner: int | None = None  # the thread that holds the lock for longer, with a caller's code in between
        self._alive: list[object] = [True] * ALIVE  # emptied when the store ends; scans look at it
        self._views: weakref.WeakSet[View] = weakref.WeakSet()
        self._survey: tuple[State, Survey] | None = None
        parts = self.parts or (FAST if self._options.fast else PLAIN)
        self._read_one: Callable[[Current, bytes], bytes | None] = parts.read_one
        self._scan_tree = parts.scan_tree
        database = database_path(self.path, env)
        self._current, committer = open_database(env, database, self._options, self._stats, parts)
        self._writer: Writer | None = None  # of a store that is for reading only
        if committer is not None:
            self._writer = Writer(self._current, committer, self._options, self._stats, parts)
        self.opened(env)

    @classmethod
    def recognises(cls, path: StorePath, env: Env) -> bool:
        """By a meta; a sound file of another program, without our bucket, isn't ours (foreign.py)."""
        path = env.resolve(database_path(env.absolute(path), env))
        if not env.exists(path):
            return False
        file = env.open(path, "r")
        try:
            return has_magic(file) and not is_anothers(file, path)
        finally:
            file.close()

    @classmethod
    def dump(cls, path: StorePath, env: Env) -> Iterator[str]:
        """As the contract says; dump.py has an example."""
        return dump_file(env, database_path(env.absolute(path), env))

    # ------------------------------------------------------------------------------------------------------- reading

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """As the contract says. One bisection for each level, and some 6 µs for a leaf that isn't cached."""
        if type(key) is not bytes:
            check_key_type(key)
        if self.closed or self.failure is not None:
            self.refuse()
        self._stats.gets += 1
        value = self._read_one(self._current, key)
        return default if value is None or value.__class__ is BucketValue else value

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, *, prefix: bytes | None = None, reverse: bool = False
    ) -> Iterator[Pair]:
        """As the contract says; O(height) to begin with, and one page for some thirty pairs of 100 bytes."""
        if type(start) is not bytes or stop is not None or prefix is not None:
            start, stop = scan_bounds(start, stop, prefix)
        if self.closed or self.failure is not None:
            self.refuse()
        state, pin = self._current.pinned()
        return self._scan_tree(state.pager, state.root, start, stop, reverse, self._alive, self.refuse, pin)

    def snapshot(self) -> View:
        """A read transaction: O(1), and the pages that it needs are not used again while it is open."""
        self.check_usable()
        view = View(*self._current.pinned(), self.check_usable)
        self._views.add(view)
        if self.closed:  # meanwhile, and without this view
            view.close()
        return view

    view = snapshot

    # ------------------------------------------------------------------------------------------------------- writing

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        """As the contract says. A batch of one takes some 22 µs without sync; a large one less than 1 µs for each key."""
        self._check_writable()
        if not batch.operations:
            return
        if batch.size_bytes > self.max_value_bytes:
            for _, value in batch.operations:
                if value is not None:
                    check_value(value, self.max_value_bytes)
        self._group.submit(batch, self._options.sync if sync is None else sync, self._commit_group)

    def put(self, key: bytes, value: bytes, *, sync: bool | None = None) -> None:
        """As the contract says. Without sync and with nobody else writing, past the queue: there is no fsync to share."""
        if sync or (sync is None and self._options.sync) or self._write_lock.locked():
            super().put(key, value, sync=sync)
            return
        check_key(key)
        check_value(value, self.max_value_bytes)
        with self._write_lock: self._change_one(key, value)  # fmt: skip  # noqa: E701  (lifetime.py says why in one line)

    def delete(self, key: bytes, *, sync: bool | None = None) -> None:
        """As `put`."""
        if sync or (sync is None and self._options.sync) or self._write_lock.locked():
            super().delete(key, sync=sync)
            return
        check_key_type(key)
        with self._write_lock: self._change_one(key, None)  # fmt: skip  # noqa: E701

    def _change_one(self, key: bytes, value: bytes | None) -> None:
        """Requires: the write lock."""
        self._guarded(self._check_writable().change_one, key, value)

    def _commit_group(self, group: list[Waiter]) -> None:
        writer = self._writer
        if self.closed or self.failure is not None or writer is None:  # since it was submitted
            self.refuse()
        self._guarded(writer.commit_group, group)

    @contextmanager
    def update(self, *, sync: bool | None = None) -> Iterator[Update]:
        """`with store.update() as tx:` is a write transaction: committed at the end, discarded if the block raises.

        It holds the write lock: other threads' writes wait, and this thread's go to `tx`. Its writes are kept in memory.
        """
        writer = self._check_writable()
        with self._write_lock:
            tx = Update(self.snapshot())
            self._owner = threading.get_ident()
            try:
                yield tx
                if writes := tx.writes:
                    self.check_usable()
                    self._guarded(writer.apply, list(writes.items()), self._options.sync if sync is None else sync)
                    self._stats.puts += tx.puts
                    self._stats.deletes += tx.deletes
                    self._stats.user_bytes += tx.user_bytes
            finally:
                self._owner = None
                tx.close()

    def load(self, pairs: Iterable[Pair]) -> None:
        """As the contract says: a tree is built bottom-up beside the old one, which a commit then lets go of."""
        try:
            self._locked(self._check_writable().load, self.while_usable(pairs))
        except StreamFailed as failure:
            assert failure.__cause__ is not None
            raise failure.__cause__ from None

    def flush(self) -> None:
        """As the contract says: if the last commit was not synced, its trees are committed once more, with two fsyncs."""
        self._locked(self._check_writable().flush)

    def compact(self) -> None:
        """Writes the database again into a fresh file, without free pages; open snapshots keep the old one. O(bytes)."""
        self._survey = None  # else the old file would stay mapped
        self._locked(self._check_writable().compact)

    # ------------------------------------------------------------------------------------- who may write, and failures

    def _check_writable(self) -> Writer:
        """The writer. Raises StoreClosed, StoreFailed, ReadOnly; RuntimeError where the thread would wait for itself."""
        if self.closed or self.failure is not None:
            self.refuse()
        if self._owner is not None and self._is_owner():
            raise RuntimeError(IN_USE + "write to the transaction that is open, or end it")
        if self._writer is None:
            raise ReadOnly("the store was opened with read_only=True: open it without to write")
        return self._writer

    def _is_owner(self) -> bool:
        """True if this thread holds the write lock for longer. (After an interrupt, `_owner` may be left over.)"""
        return self._owner == threading.get_ident() and self._write_lock.locked()

    def _locked(self, change: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
        """Calls a method of the writer under the write lock, as this thread's own for that time."""
        holding(self._write_lock, self._own, change, *arguments)

    def _own(self, change: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
        self.check_usable()
        self._owner = threading.get_ident()
        try:
            self._guarded(change, *arguments)
        finally:
            self._owner = None

    def _guarded(self, change: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
        """Calls a method of the writer; a failure that it did not undo poisons the store. Requires: the write lock."""
        try:
            change(*arguments)
        except (StoreError, StreamFailed):
            raise
        except RecursionError as error:
            raise self._current.state.pager.too_deep() from error
        except BaseException as failure:
            self.poison(failure)
            self._end_readers()
            raise

    def leave_to_parent(self) -> None:
        super().leave_to_parent()
        self._end_readers()

    def _end_readers(self) -> None:
        self._alive.clear()
        for view in list(self._views):
            view.close()

    # ------------------------------------------------------------------------------------------------ looking at it

    def check(self) -> list[str]:
        """As the contract says; check.py lists what it finds. Writers go on meanwhile."""
        self.check_usable()
        if self._is_owner():
            raise RuntimeError(IN_USE + "end the transaction before check()")
        state, pin, metas, unused = holding(self._write_lock, self._what_to_check)
        checker = Checker(state.pager.map, state.meta, unused)
        checker.check_metas(metas)
        problems = checker.run()
        del pin
        return problems

    def _what_to_check(self) -> tuple[State, Pin, list[Meta | MetaError], list[int] | None]:
        self.check_usable()
        state, pin = self._current.pinned()
        assert state.pager.file is not None
        _, metas = read_metas(state.pager.file, state.pager.path)
        return state, pin, metas, None if self._writer is None else self._writer.committer.unused()

    def stats(self) -> Stats:
        """A copy of the counters. O(pages) if something was written since the last call, as it counts the pages then."""
        self.check_usable()
        state, pin = self._current.pinned()
        if self._survey is None or self._survey[0] is not state:
            self._survey = state, survey(state.pager, state.meta.root)
        stats = self._stats.copy()
        committer = None if self._writer is None else self._writer.committer
        add_survey(stats, self._survey[1], state, self._options.bucket, committer)
        del pin
        return stats

    def size_bytes(self) -> int:
        """As the contract says: the pages below the high-water mark, free ones among them, which is bbolt's `Tx.Size`. O(1)."""
        self.check_usable()
        meta = self._current.state.meta
        return meta.high_water * meta.page_bytes

    def describe(self) -> dict[str, Any]:
        """The file's structure; `map` has a letter for each page: Meta, Freelist, Branch, Leaf, overflow, . free, w waiting."""
        self.check_usable()
        view = View(*self._current.pinned(), self.check_usable)
        names = view.root_bucket().buckets()
        committer = None if self._writer is None else self._writer.committer
        return {"engine": self.name, **picture(view.state, names, len(self._views), committer)}

    def sketch(self) -> dict[str, Any]:
        """As the contract says; `map_step` pages stand under each letter of the map. O(pages), 0.2 µs each."""
        return {**short(self.describe()), "counters": counters(self._stats)}

    def explain(self, key: bytes) -> dict[str, Any]:
        """As the contract says: the pages from the meta to the key's leaf. O(height)."""
        check_key_type(key)
        self.check_usable()
        state, pin = self._current.pinned()
        explained = explain(state, self._options.bucket, key)
        del pin  # until here, so that no page of the tree was written meanwhile
        return explained

    def close(self) -> None:
        """As the contract says. The last state is entered into both metas, so that damage to one of them is no loss."""
        if self._is_owner():
            raise RuntimeError(IN_USE + "end the transaction before close()")
        if not self.stuck(self._write_lock):
            holding(self._write_lock, self._close)

    def _close(self) -> None:
        """Once more after an interrupt, it does what is left. Requires: the write lock."""
        pagers = [self._current.state.pager]
        try:
            if self._writer is not None:
                pagers.append(self._writer.committer.pager)  # another one, if compact was interrupted
                if not self.closed and self.failure is None:
                    self._guarded(self._writer.finish)
        finally:
            self.closed = True
            self._survey = None
            self._end_readers()
            for pager in pagers:
                pager.close()
                pager.unmap()
