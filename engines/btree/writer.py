"""The write half of a store: every way in which its content changes, each of them one commit.

    commit_group   the batches that wait, together        -> one pass through the tree      synced if one of them asks
    change_one     one put or delete                      -> the same                       not synced
    apply          the changes of an `update()`           -> the same
    load           a sorted stream                        -> a tree beside the old one      synced
    flush          nothing new                            -> the same trees, synced
    compact        everything, in a fresh file            -> another pager, another committer

It knows nothing of the store: whether that is usable, and what follows from a failure, is the store's matter (store.py).
What is raised here and is no StoreError leaves the disk as a crash would.

Requires, of every method: the write lock is held.

In bbolt all of this is Tx and DB in one (tx.go, db.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter

from engines.btree.bulk import replace_tree
from engines.btree.commit import Build, Committer
from engines.btree.compact import rewrite
from engines.btree.current import Current
from engines.btree.options import Options
from engines.btree.pager import Pager
from engines.btree.parts import Parts
from engines.btree.recovery import committer_of, state_of
from engines.env import Lock
from engines.group_commit import Waiter
from engines.kvstore import Operation, Pair, Stats

__all__ = ["Writer"]

_value_of = itemgetter(1)


class Writer:
    """Changes the current state. For one thread at a time."""

    def __init__(self, current: Current, committer: Committer, options: Options, stats: Stats, parts: Parts) -> None:
        self.current = current
        self.committer = committer
        self.provisional = parts.provisional(committer)
        self._options = options
        self._stats = stats
        self._parts = parts
        self._committed = False  # something, since the file was opened

    def commit_group(self, group: list[Waiter]) -> None:
        """One commit for the batches of a group, in their order."""
        first, *others = group
        operations, sync, size_bytes = first.batch.operations, first.sync, first.batch.size_bytes
        if others:
            operations = [operation for waiter in group for operation in waiter.batch.operations]
            sync = any(waiter.sync for waiter in group)
            size_bytes = sum(waiter.batch.size_bytes for waiter in group)
        self.apply(operations, sync)
        deletes = list(map(_value_of, operations)).count(None)
        stats = self._stats
        stats.deletes += deletes
        stats.puts += len(operations) - deletes
        stats.user_bytes += size_bytes

    def change_one(self, key: bytes, value: bytes | None) -> None:
        """One change without sync; as `commit_group` of one batch of one operation."""
        self._committed |= self.provisional.apply([(key, value)])
        stats = self._stats
        if value is None:
            stats.deletes += 1
            stats.user_bytes += len(key)
        else:
            stats.puts += 1
            stats.user_bytes += len(key) + len(value)

    def apply(self, operations: Sequence[Operation], sync: bool) -> None:
        """One commit of operations in any order."""
        self._committed |= (self.committer if sync else self.provisional).apply(operations)

    def load(self, pairs: Iterable[Pair]) -> None:
        """Replaces the content, durably; the old tree is let go by the same commit. Raises bulk.StreamFailed."""
        old_root = self.current.state.root_id
        self._commit(lambda writer: replace_tree(writer, old_root, pairs))

    def flush(self) -> None:
        """If the last commit was not synced, its trees are committed once more, with the two fsyncs."""
        self._commit(lambda writer: None)

    def _commit(self, build: Build) -> None:
        self._committed |= self.committer.commit(build)

    def compact(self) -> None:
        """Everything in a fresh file, which takes the old one's name. Readers of the old file keep it."""
        old = self.current.state
        pager, meta = rewrite(old.pager, old.meta, self._new_pager)
        state = state_of(pager, meta, self._options)
        self.committer = committer_of(self.current, state, meta.page, self._options, self._parts)
        self.provisional = self._parts.provisional(self.committer)
        self.current.state = state
        old.pager.close()

    def _new_pager(self, lock: Lock) -> Pager:
        old, options = self.current.state.pager, self._options
        sizes = old.page_bytes, self._stats, options.cache_bytes, options.max_size
        return Pager(old.env, old.path, lock, *sizes, self._parts.cache, self._parts.decode)

    def finish(self) -> None:
        """The last commit of a store that is closed: durable, and in both metas, so that damage to one of them is no loss."""
        self.flush()
        if self._committed:
            meta = self.current.state.meta
            self.committer.pager.write_meta(meta._replace(txid=meta.txid + 1))
