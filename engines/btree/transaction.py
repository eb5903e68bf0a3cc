"""Transactions: a frozen view of one commit, and a set of writes on top of one.

    with store.view() as tx:                        with store.update() as tx:
        tx.get(b"k"), tx.scan(), tx.cursor()            tx.put(b"k", b"v"); tx.delete(b"x")
        tx.bucket(b"another", b"nested in it")          tx.get(b"k")            # sees what it wrote
        tx.write_to(stream)      # a backup             ...                     # an exception discards all of it

A `View` pins its commit (pager.py) and reads from that tree for as long as it lives; the writer goes on beside it. It is
also what `snapshot()` returns: the contract's snapshot is a read transaction.

An `Update` holds the store's write lock and keeps its writes in a sorted map; at the end they go through the tree in one
pass (tree.py). It is a view with a layer on top:

    written    b -> "2"    c -> deleted    x -> "9"             what is asked is looked for here first,
    view       a -> "1"    b -> "1"    c -> "1"                 and then in the tree that the transaction began with

so that there are no dirty nodes to roll back, and a scan goes on wherever it is, whatever is written before or after it.

Buckets. The contract's keys live in one bucket at the top of the file, `metcd` unless the store was opened for another. A
`Bucket` reads any other one, nested in whatever depth, or inline in its parent's leaf. Writing is for the one bucket.

Follows bbolt's tx.go, bucket.go. Left out: managed batches of several goroutines (the store groups waiting writers), and
creating or deleting buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NoReturn, Protocol

from sortedcontainers import SortedDict

from engines.btree.backup import backup
from engines.btree.current import State
from engines.btree.cursor import Cursor, leaves_forward, lookup, scan_tree
from engines.btree.node import Node
from engines.btree.page import BucketValue
from engines.btree.pins import Pin
from engines.btree.tree import bucket_in_the_way
from engines.btree.walk import bucket_header, bucket_root
from engines.errors import ReadOnly, StoreClosed
from engines.kvstore import KVStore, Pair, Reader, Snapshot, check_key, check_key_type, check_value, scan_bounds

__all__ = ["Bucket", "Update", "View"]


class Sink(Protocol):
    """Where a backup goes: a binary file opened for writing, a socket's file, a BytesIO."""

    def write(self, data: bytes, /) -> object: ...


def no_deletes(key: bytes) -> NoReturn:
    """What a cursor over a view does when it is asked to delete."""
    raise ReadOnly("a view can't delete: use store.update()")


class Bucket:
    """A bucket of the file as a view shows it: for reading, and as long as the view is open."""

    def __init__(self, view: View, root: Node, sequence: int) -> None:
        self._view = view
        self._root = root
        self.sequence = sequence  # a counter that bbolt's users may keep in a bucket

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """The value of `key`, or `default`; a nested bucket's name has no value."""
        value = lookup(self._view.pager, self._root, key)
        return default if value is None or type(value) is BucketValue else value

    def scan(self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Iterator[Pair]:
        """The pairs with start <= key < stop in order, or against it; nested buckets are left out."""
        return self._view.scan_tree(self._root, start, stop, reverse)

    def cursor(self) -> Cursor:
        return Cursor(self, no_deletes)

    def buckets(self) -> list[bytes]:
        """The names of the buckets in this one, sorted."""
        leaves = leaves_forward(self._view.pager, self._root, b"")
        return [key for leaf in leaves for key, value in zip(leaf.keys, leaf.values) if type(value) is BucketValue]

    def bucket(self, name: bytes) -> Bucket:
        """A bucket in this one. Raises KeyError if there is none."""
        pager = self._view.pager
        value = lookup(pager, self._root, name)
        if type(value) is not BucketValue or len(value) < bucket_header.size:
            raise KeyError(name)
        _, sequence = bucket_header.unpack_from(value)
        return Bucket(self._view, bucket_root(pager, value), sequence)


class View(Snapshot):
    """A read transaction, and the contract's snapshot. For any number of threads."""

    def __init__(self, state: State, pin: Pin, check_usable: Callable[[], None]) -> None:
        self.state = state
        self._pin: Pin | None = pin
        self._check_usable = check_usable  # the store's: raises if that is closed or has failed
        self.root = state.root
        self.pager = state.pager
        self.alive: list[object] = [True]  # emptied when the view, or the store, is closed

    @property
    def txid(self) -> int:
        """The transaction whose commit this shows."""
        return self.state.meta.txid

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """O(height) bisections; a page is read if it isn't cached."""
        check_key_type(key)
        pin = self.held()
        value = lookup(self.pager, self.root, key)
        del pin  # until here, so that a `close` in another thread doesn't give the pages away
        return default if value is None or type(value) is BucketValue else value

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, *, prefix: bytes | None = None, reverse: bool = False
    ) -> Iterator[Pair]:
        """As the contract says; O(height) to begin with, and one page for some thirty pairs of 100 bytes."""
        start, stop = scan_bounds(start, stop, prefix)
        return self.scan_tree(self.root, start, stop, reverse)

    def scan_tree(self, root: Node, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Pair]:
        """A scan of some tree of this view's file."""
        return scan_tree(self.pager, root, start, stop, reverse, self.alive, self._refuse, self.held())

    def cursor(self) -> Cursor:
        """A cursor over the keys of the contract's bucket."""
        return Cursor(self, no_deletes)

    def root_bucket(self) -> Bucket:
        """The bucket that all others are in: `root_bucket().buckets()` are the names at the top of the file."""
        self.held()
        return Bucket(self, self.pager.load(self.state.meta.root), self.state.meta.sequence)

    def bucket(self, *names: bytes) -> Bucket:
        """The bucket that the names lead to, from the top of the file. Raises KeyError if one of them isn't there."""
        found = self.root_bucket()
        for name in names:
            found = found.bucket(name)
        return found

    def write_to(self, sink: Sink) -> int:
        """Writes the whole file as of this view, and returns its size in bytes; backup.py. The writer goes on meanwhile.

        The result opens like any database, in bbolt as well. O(bytes).
        """
        pin = self.held()
        size = 0
        for piece in backup(self.pager, self.state.meta):
            sink.write(piece)
            size += len(piece)
        del pin
        return size

    def close(self) -> None:
        self.alive.clear()
        self._pin = None

    def held(self) -> Pin:
        """The pin. Raises StoreClosed if the view, or the store, was closed."""
        pin = self._pin
        if pin is None or not self.alive:
            self._refuse()
        return pin

    def _refuse(self) -> NoReturn:
        self._check_usable()
        raise StoreClosed("the snapshot is closed: take another one")


class Update(Reader):
    """A write transaction: what it reads is its own. For the thread that began it."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._writes: SortedDict[bytes, bytes | None] = SortedDict()
        self.puts = 0
        self.deletes = 0
        self.user_bytes = 0

    @property
    def writes(self) -> SortedDict[bytes, bytes | None]:
        """What was written so far; None for what was deleted."""
        return self._writes

    def put(self, key: bytes, value: bytes) -> None:
        """Sets `key` to `value`. Raises InvalidKey, InvalidValue; StoreClosed when the transaction is over."""
        check_key(key)
        check_value(value, KVStore.max_value_bytes)
        self._check_no_bucket(key)
        self._writes[key] = value
        self.puts += 1
        self.user_bytes += len(key) + len(value)

    def delete(self, key: bytes) -> None:
        """Removes `key`, which need not be there."""
        check_key_type(key)
        self._check_no_bucket(key)
        self._writes[key] = None
        self.deletes += 1
        self.user_bytes += len(key)

    def _check_no_bucket(self, key: bytes) -> None:
        self._view.held()
        if type(lookup(self._view.pager, self._view.root, key)) is BucketValue:
            raise bucket_in_the_way(key)

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        check_key_type(key)
        if key in self._writes:
            self._view.held()
            value = self._writes[key]
            return default if value is None else value
        return self._view.get(key, default)

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, *, prefix: bytes | None = None, reverse: bool = False
    ) -> Iterator[Pair]:
        """As the contract says, but for its moment: a key shows what it holds when the scan arrives at it."""
        start, stop = scan_bounds(start, stop, prefix)
        return self._merged(self._view.scan(start, stop, reverse=reverse), start, stop, reverse)

    def _merged(self, base: Iterator[Pair], start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Pair]:
        """The tree's pairs and the written ones in one order; of two with the same key, the written one."""
        writes = self._writes
        pair = next(base, None)
        while stop is None or start < stop:
            self._view.held()
            key = next(writes.irange(start, stop, (True, False), reverse), None)
            if key is None and pair is None:
                return
            if key is None or (pair is not None and (pair[0] > key if reverse else pair[0] < key)):
                assert pair is not None
                found: Pair | None = pair
                reached = pair[0]
                pair = next(base, None)
            else:
                reached = key
                value = writes[key]
                found = None if value is None else (key, value)
                if pair is not None and pair[0] == key:
                    pair = next(base, None)
            if found is not None:
                yield found
            if reverse:
                stop = reached
            else:
                start = reached + b"\0"

    def cursor(self) -> Cursor:
        """A cursor that sees what was written, and can delete."""
        return Cursor(self, self.delete)

    def bucket(self, *names: bytes) -> Bucket:
        """As View.bucket: another bucket, as it was when the transaction began."""
        return self._view.bucket(*names)

    def close(self) -> None:
        """Ends the transaction; what it wrote is the store's business."""
        self._view.close()
