"""The store: the contract on one bbolt file.

    write  -> queue -> whoever gets the write lock takes all that wait -> one pass through the tree -> one commit
    get    -> the newest state's root -> cached nodes, bisected -> the value          (no lock, no pin, no page read)
    scan   -> a pin on the newest state -> the leaves of that tree, one after the other

**Reading without a pin.** `get` uses cached nodes only. It may be led astray by a page that was written again meanwhile, but
not without a newer state being there at the end: then, and when a node is missing, it reads again through a view.

Invariants:

1. `_state` is replaced as a whole, by the committer, under the write lock; readers take it once and use that.
2. After an OSError from a commit the store is poisoned: what the disk has is known only to whoever opens it next.
3. Every exception that is not an OSError leaves the store as it was.

The path is the database file's; if there is a directory, the file in it is `metcd.db`. The lock is bbolt's, flock on the
database file itself, so that bbolt and this store keep each other out.

Left out: several writing transactions at once (copy-on-write has one writer), several processes writing.
"""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Unpack

from engines.btree.bulk import StreamFailed, replace_tree
from engines.btree.check import Checker
from engines.btree.commit import Build, State, pin
from engines.btree.compact import rewrite
from engines.btree.cursor import ascend, descend, lookup
from engines.btree.dump import dump_file
from engines.btree.foreign import is_anothers
from engines.btree.group import GroupCommit, Waiter
from engines.btree.meta import Meta, MetaError
from engines.btree.options import Options
from engines.btree.page import BucketValue
from engines.btree.pager import MAX_LEVELS, Pager, Pin
from engines.btree.point import commit_point
from engines.btree.recovery import has_magic, open_database, read_metas, reopened
from engines.btree.survey import Survey, add_survey, picture, survey
from engines.btree.transaction import Update, View
from engines.btree.tree import Changes
from engines.env import Env, Lock, StorePath, real_env
from engines.errors import ReadOnly, StoreError
from engines.keywords import BTreeKeywords
from engines.kvstore import KVStore, Pair, Stats, WriteBatch, check_key, check_key_type, check_value, scan_bounds
from engines.lifetime import Arguments, holding

__all__ = ["BTreeStore"]

FILE_IN_DIRECTORY = "metcd.db"
READ_ONLY = "the store was opened with read_only=True: open it without to write"
MANY_GONE = 1_000  # readers that have come and gone since a writer has looked
LEVELS = (None,) * MAX_LEVELS  # to iterate over costs less than a range


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

    def __init__(self, path: StorePath, *, env: Env | None = None, **options: Unpack[BTreeKeywords]) -> None:
        env = env or real_env()
        self.path: str = env.absolute(path)
        self._options = Options.of(options)
        self._sync = self._options.sync
        self._stats = Stats()
        self._group = GroupCommit()
        self._write_lock = self._group.lock
        self._owner: int | None = None  # the thread that holds the lock for longer, with a caller's code in between
        self._alive: list[object] = [True]  # emptied when the store ends; scans look at it
        self._views: weakref.WeakSet[View] = weakref.WeakSet()
        self._written = False
        self._survey: tuple[State, Survey] | None = None
        self._state, committer = open_database(env, database_path(self.path, env), self._options, self._stats)
        self._nodes = self._state.pager.nodes
        self._writer = committer
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
        """As the contract says. One bisection for each level; 2 µs with all nodes cached, 20 µs more for each that isn't."""
        if type(key) is not bytes:
            check_key_type(key)
        if self.closed or self.failure is not None:
            self.refuse()
        self._stats.gets += 1
        state = self._state
        nodes = self._nodes
        node = state.root
        try:
            for _ in LEVELS:
                if not node.children:
                    break
                node = nodes[node.children[bisect_right(node.keys, key, 1) - 1]]
        except KeyError:
            return self._get_through_view(key, default)
        keys = node.keys
        index = bisect_left(keys, key)
        value = node.values[index] if index < len(keys) and keys[index] == key else None
        if self._state is not state or node.children:
            return self._get_through_view(key, default)
        return default if value is None or value.__class__ is BucketValue else value

    def _get_through_view(self, key: bytes, default: bytes | None) -> bytes | None:
        """With a pin, which allows pages to be read, and keeps them from being written."""
        state, pin = self._pinned()
        value = lookup(state.pager, state.root, key)
        del pin
        return default if value is None or type(value) is BucketValue else value

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, *, prefix: bytes | None = None, reverse: bool = False
    ) -> Iterator[Pair]:
        """As the contract says; O(height) to begin with, and one page for some thirty pairs of 100 bytes."""
        start, stop = scan_bounds(start, stop, prefix)
        if self.closed or self.failure is not None:
            self.refuse()
        state, pin = self._pinned()
        walk = descend if reverse else ascend
        return walk(state.pager, state.root, start, stop, self._alive, self.refuse, pin)

    def snapshot(self) -> View:
        """A read transaction: O(1), and the pages that it needs are not used again while it is open."""
        self.check_usable()
        state, pin = self._pinned()
        view = View(self, state, pin)
        self._views.add(view)
        if self.closed:  # meanwhile, and without this view
            view.close()
        return view

    view = snapshot

    def _pinned(self) -> tuple[State, Pin]:
        """The newest state, and a pin on it: pager.py says why a look back is enough."""
        while True:
            state = self._state
            token = pin(state.pager, state.meta.txid)
            if self._state is state:
                if len(state.pager.gone) > MANY_GONE:
                    self._count_pins(state.pager)
                return state, token

    def _count_pins(self, pager: Pager) -> None:
        """What a writer does in passing, done by a reader where nobody writes: else the notes would pile up for ever."""
        if not self._write_lock.locked():
            holding(self._write_lock, self._take_pins, pager)

    def _take_pins(self, pager: Pager) -> None:
        try:
            pager.pins()
        except BaseException as failure:  # interrupted: a reader may not have been counted
            self._fail(failure)
            raise

    # ------------------------------------------------------------------------------------------------------- writing

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        """As the contract says. A batch of one takes some 20 µs without sync; a large one less than 1 µs for each key."""
        self._check_writable()
        if not batch.operations:
            return
        if batch.size_bytes > self.max_value_bytes:
            for _, value in batch.operations:
                if value is not None:
                    check_value(value, self.max_value_bytes)
        self._group.submit(Waiter(batch, self._sync if sync is None else sync), self._commit_batches)

    def put(self, key: bytes, value: bytes, *, sync: bool | None = None) -> None:
        """As the contract says; without sync, and if nobody else is writing, without a batch."""
        lock = self._write_lock
        if sync or (sync is None and self._sync) or lock.locked():
            super().put(key, value, sync=sync)
        else:
            check_key(key)
            check_value(value, self.max_value_bytes)
            with lock: self._write_point(key, value)  # fmt: skip  # noqa: E701

    def delete(self, key: bytes, *, sync: bool | None = None) -> None:
        """As `put`."""
        lock = self._write_lock
        if sync or (sync is None and self._sync) or lock.locked():
            super().delete(key, sync=sync)
        else:
            check_key_type(key)
            with lock: self._write_point(key, None)  # fmt: skip  # noqa: E701

    def _write_point(self, key: bytes, value: bytes | None) -> None:
        """One unsynced change. Requires: the write lock, and nobody waits for it with an earlier one."""
        if self.closed or self.failure is not None:
            self.refuse()
        if self._writer is None:
            raise ReadOnly(READ_ONLY)
        if not self._commit_point(key, value):
            self._apply(Changes([key], [value]), False)
        stats = self._stats
        stats.user_bytes += len(key)
        if value is None:
            stats.deletes += 1
        else:
            stats.puts += 1
            stats.user_bytes += len(value)

    def _check_writable(self) -> None:
        if self.closed or self.failure is not None:
            self.refuse()
        if self._owner is not None and self._is_owner():
            raise RuntimeError("the store is in use by this thread: write to the transaction that is open, or end it")
        if self._options.read_only:
            raise ReadOnly(READ_ONLY)

    def _commit_batches(self, waiters: list[Waiter]) -> None:
        self.check_usable()
        first = waiters[0].batch.operations
        sync = any(waiter.sync for waiter in waiters) if len(waiters) > 1 else waiters[0].sync
        if len(waiters) == len(first) == 1:
            ((key, value),) = first
            if sync or not self._commit_point(key, value):
                self._apply(Changes([key], [value]), sync)
        else:
            merged: dict[bytes, bytes | None] = {}
            for waiter in waiters:
                merged.update(waiter.batch.operations)
            keys = sorted(merged)
            self._apply(Changes(keys, [merged[key] for key in keys]), sync)
        stats = self._stats
        for waiter in waiters:
            operations = waiter.batch.operations
            deletes = sum(value is None for _, value in operations) if len(operations) > 1 else first[0][1] is None
            stats.deletes += deletes
            stats.puts += len(operations) - deletes
            stats.user_bytes += waiter.batch.size_bytes

    def _apply(self, changes: Changes, sync: bool) -> None:
        state = self._state
        self._commit(lambda writer: writer.apply_to_node(state.root_id, state.root, changes), sync)

    def _commit_point(self, key: bytes, value: bytes | None) -> bool:
        """One unsynced change on the short way; False if that isn't open to it. Requires: the write lock."""
        assert self._writer is not None
        try:
            committed = commit_point(self._writer, self._state, key, value, self._publish)
        except StoreError:
            raise
        except BaseException as failure:
            self._fail(failure)
            raise
        self._written = self._written or bool(committed)
        return committed is not None

    def _commit(self, build: Build, sync: bool) -> None:
        """One transaction. Requires: the write lock. What isn't rolled back poisons the store."""
        assert self._writer is not None
        try:
            if self._writer.commit(self._state, build, self._publish, sync=sync):
                self._written = True
        except (StoreError, StreamFailed):
            raise
        except RecursionError as error:
            raise self._state.pager.endless() from error
        except BaseException as failure:
            self._fail(failure)
            raise

    def _publish(self, state: State) -> None:
        self._state = state

    def _fail(self, failure: BaseException) -> None:
        self.poison(failure)
        self._end_readers()

    def leave_to_parent(self) -> None:
        super().leave_to_parent()
        self._end_readers()

    def _end_readers(self) -> None:
        self._alive.clear()
        for view in list(self._views):
            view.close()

    @contextmanager
    def update(self, *, sync: bool | None = None) -> Iterator[Update]:
        """`with store.update() as tx:` is a write transaction: committed at the end, discarded if the block raises.

        It holds the write lock: other threads' writes wait, and this thread's go to `tx`. Its writes are kept in memory.
        """
        with self._owned():
            tx = Update(self.snapshot())
            try:
                yield tx
                writes = tx.writes
                if writes:
                    self.check_usable()
                    self._apply(
                        Changes(list(writes.keys()), list(writes.values())), self._sync if sync is None else sync
                    )
                    self._stats.puts += tx.puts
                    self._stats.deletes += tx.deletes
                    self._stats.user_bytes += tx.user_bytes
            finally:
                tx.close()

    @contextmanager
    def _owned(self) -> Iterator[None]:
        """The write lock, for longer than a commit: a write by the same thread is then refused, and doesn't wait for ever."""
        self._check_writable()
        with self._write_lock:
            self.check_usable()
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = None

    def _own(self, call: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
        """As `_owned`, around a call. Requires: the write lock."""
        self.check_usable()
        self._owner = threading.get_ident()
        try:
            call(*arguments)
        finally:
            self._owner = None

    def _is_owner(self) -> bool:
        """True if this thread holds the write lock for longer. (After an interrupt, `_owner` may be left over.)"""
        return self._owner == threading.get_ident() and self._write_lock.locked()

    def load(self, pairs: Iterable[Pair]) -> None:
        """As the contract says: a tree is built bottom-up beside the old one, which a commit then lets go of."""
        self._check_writable()
        holding(self._write_lock, self._own, self._load, self.while_usable(pairs))

    def _load(self, pairs: Iterable[Pair]) -> None:
        root = self._state.root_id
        try:
            self._commit(lambda writer: replace_tree(writer, root, pairs), True)
        except StreamFailed as failure:
            assert failure.__cause__ is not None
            raise failure.__cause__ from None

    def flush(self) -> None:
        """As the contract says: if the last commit was not synced, its meta is written once more, between two fsyncs."""
        self._check_writable()
        holding(self._write_lock, self._flush)

    def _flush(self) -> None:
        self.check_usable()
        self._commit(lambda writer: None, sync=True)

    def compact(self) -> None:
        """Writes the database again into a fresh file, without free pages; open snapshots keep the old one. O(bytes)."""
        self._check_writable()
        holding(self._write_lock, self._own, self._compact)

    def _compact(self) -> None:
        old = self._state
        try:
            state, committer = reopened(*rewrite(old.pager, old.meta, self._new_pager), self._options)
            self._writer = committer
            self._nodes = state.pager.nodes
            self._state = state
            self._survey = None  # else the old file would stay mapped
            old.pager.close()
        except StoreError:
            raise
        except RecursionError as error:
            raise old.pager.endless() from error
        except BaseException as failure:
            self._fail(failure)
            raise

    def _new_pager(self, lock: Lock) -> Pager:
        old, options = self._state.pager, self._options
        return Pager(old.env, old.path, lock, old.page_bytes, self._stats, options.cache_pages, options.max_size)

    # ------------------------------------------------------------------------------------------------ looking at it

    def check(self) -> list[str]:
        """As the contract says; check.py lists what it finds. Writers go on meanwhile."""
        self.check_usable()
        if self._is_owner():
            raise RuntimeError("the store is in use by this thread: end the transaction before check()")
        state, pin, metas, unused = holding(self._write_lock, self._what_to_check)
        checker = Checker(state.pager.map, state.meta, unused)
        checker.check_metas(metas)
        problems = checker.run()
        del pin
        return problems

    def _what_to_check(self) -> tuple[State, Pin, list[Meta | MetaError], Sequence[int] | None]:
        self.check_usable()
        state, pin = self._pinned()
        assert state.pager.file is not None
        _, metas = read_metas(state.pager.file, state.pager.path)
        return state, pin, metas, None if self._writer is None else self._writer.unused()

    def stats(self) -> Stats:
        """A copy of the counters. O(pages) if something was written since the last call, as it counts the pages then."""
        self.check_usable()
        state, pin = self._pinned()
        if self._survey is None or self._survey[0] is not state:
            self._survey = state, survey(state.pager, state.meta.root)
        stats = self._stats.copy()
        add_survey(stats, self._survey[1], state, self._options.bucket, self._writer)
        del pin
        return stats

    def describe(self) -> dict[str, Any]:
        """The file's structure; `map` has a letter for each page: Meta, Freelist, Branch, Leaf, overflow, . for free."""
        self.check_usable()
        state, pin = self._pinned()
        view = View(self, state, pin)
        names = view.root_bucket().buckets()
        return {"engine": self.name, **picture(state, names, len(self._views), self._writer)}

    def close(self) -> None:
        """As the contract says. The last state is entered into both metas, so that damage to one of them is no loss."""
        if self._is_owner():
            raise RuntimeError("the store is in use by this thread: end the transaction before close()")
        if not self.stuck(self._write_lock):
            holding(self._write_lock, self._close)

    def _close(self) -> None:
        """Once more after an interrupt, it does what is left. Requires: the write lock."""
        try:
            if not self.closed and self.failure is None and self._writer is not None:
                self._commit(lambda writer: None, sync=True)
                if self._written:
                    meta = self._state.meta
                    self._state.pager.write_meta(meta._replace(txid=meta.txid + 1))
        finally:
            self.closed = True
            self._survey = None
            self._end_readers()
            # an interrupted compact may have left two
            for pager in (self._state.pager, self._state.pager if self._writer is None else self._writer.pager):
                pager.close()
                pager.unmap()
