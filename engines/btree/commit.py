"""The commit protocol: how one tree takes the place of another, on disk and in memory, and what a crash leaves.

    pages of the new tree, its freelist -> fsync -> its meta -> fsync -> readers see it

Two metas, one in page 0 and one in page 1, and each commit writes over the older one:

    txid 40    meta 40 in page 0, meta 39 in page 1
    txid 41    meta 40 in page 0, meta 41 in page 1            a crash while 41 is written leaves 40, and all of its pages

So after a power cut at any moment one of the metas is the last commit's, or the one's before it; a torn meta fails its
checksum, and then the other one counts.

Invariants:

1. No page that the newest durable tree or its freelist reaches is written to: that tree is pinned in the freelist, as if
   somebody were reading it.
2. A meta is written only when everything that it refers to is durable.

Commits without an fsync stand in provisional.py. Follows bbolt's tx.go (Commit).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engines.btree.current import Current, State
from engines.btree.freelist import Freelist, freelist_body
from engines.btree.meta import NO_FREELIST, Meta
from engines.btree.node import Node
from engines.btree.page import BucketValue
from engines.btree.tree import Changes, TreeWriter
from engines.btree.walk import bucket_header
from engines.kvstore import Operation

__all__ = ["Build", "Committer"]

# Given the writer of a transaction, writes a tree for the bucket, and returns its root; None leaves the old one.
Build = Callable[[TreeWriter], int | None]


class Committer:
    """The writer's side of an open file. Not for several threads: the write lock is held around every call."""

    def __init__(
        self,
        current: Current,
        state: State,
        freelist: Freelist,
        bucket: bytes,
        meta_page: int,
        fill: float,
        tree_writer: type[TreeWriter] = TreeWriter,
    ) -> None:
        self.current = current
        self.pager = state.pager
        self.freelist = freelist
        self.bucket = bucket
        self.durable = state.meta.txid  # of the newest commit that a power cut can't take
        self.freelist_run = self._run_of_freelist(state.meta)
        # A backup of bbolt's has its newest meta in page 0 whatever the txid; meta_page is where it was found.
        self.misplaced = meta_page != state.meta.page
        self.fill = fill
        self._tree_writer = tree_writer

    def _run_of_freelist(self, meta: Meta) -> range:
        if meta.freelist == NO_FREELIST:
            return range(0)
        pages = len(self.pager.run(meta.freelist)[0]) // self.pager.page_bytes
        return range(meta.freelist, meta.freelist + pages)

    def apply(self, operations: Sequence[Operation]) -> bool:
        """Puts the operations through the bucket's tree, and commits; False if they change nothing."""
        changes = Changes.of(operations)
        state = self.current.state
        return self.commit(lambda writer: writer.apply_to_node(state.root_id, state.root, changes))

    def commit(self, build: Build) -> bool:
        """One durable transaction: the bucket's tree becomes the one that `build` writes. False: nothing was to be done.

        A writer is begun for `next_txid`, and `build` called with it. If it returns None, and the current state is durable,
        that is all. Then `enter_root` makes the new root known to the root bucket, `write_freelist` writes the list of what
        the new trees don't reach, and returns where it lies, which is the `freelist_run` from then on. The new meta is the
        old one with another root, freelist, high-water mark and txid; `make_durable` brings it to the disk. Only then is
        the new State current, with the bucket's sequence unchanged, and only then does `let_go` give away the pages that
        the old one needed.

        Whatever is raised before `make_durable` leaves everything as it was, by the writer's `rollback`, and goes on to
        the caller. What that raises is not undone: the disk is as after a crash, and the caller stops using the store.
        """
        old = self.current.state
        writer = self.begin(self.next_txid())
        try:
            root = build(writer)
            if root is None and old.meta.txid == self.durable:
                return False
            top, root, node = self.enter_root(writer, root)
            freelist = self.write_freelist(writer)
        except BaseException:
            writer.rollback()
            raise
        high_water = self.freelist.high_water
        meta = old.meta._replace(root=top, freelist=freelist.start, high_water=high_water, txid=writer.txid)
        self.make_durable(meta)
        self.freelist_run = freelist
        self.current.state = State(self.pager, meta, root, node, old.sequence)
        self.let_go(writer)
        return True

    def next_txid(self) -> int:
        """The next commit's. Its meta goes to page `txid % 2`, which is the one that doesn't hold the newest meta.

        Misplaced, the last meta may be the only one of its state: one txid is skipped, so that the next one goes to the
        page where it isn't.
        """
        return self.current.state.meta.txid + (2 if self.misplaced else 1)

    def make_durable(self, meta: Meta) -> None:
        """Brings the pages of a transaction to the disk, and after them its meta: when this returns, no crash can take it.

        Two fsyncs, "btree.commit.data" and "btree.commit.meta": at no moment can the disk have the meta and lack a page
        that it refers to, directly or through others. `durable` then is its txid, and the newest meta is not `misplaced`.
        Requires: all its pages were handed to `pager.write`. Raises OSError.
        """
        self.pager.sync("btree.commit.data")  # before the meta that refers to the data, or a crash could leave it alone
        self.pager.write_meta(meta)
        self.pager.sync("btree.commit.meta")  # before anybody is told that it is committed
        self.durable = meta.txid
        self.misplaced = False

    # ------------------------------------------------------------------------------- the steps, shared with provisional

    def begin(self, txid: int) -> TreeWriter:
        """A writer for the next tree, after the pages of readers that are gone became free."""
        self.free(self.freelist.release(self.pins()))
        return self._tree_writer(self.pager, self.freelist, txid, self.fill)

    def enter_root(self, writer: TreeWriter, root: int | None) -> tuple[int, int, Node]:
        """Enters the bucket's new root in the root bucket: (the root bucket's page, the bucket's root, that root's node).

        The root bucket is a tree as well, and the entry a change in it: `bucket_header` of the root and the bucket's
        sequence, which stays, as a BucketValue under the bucket's name. Without a new root (None), the old ones, which get
        another meta.
        """
        old = self.current.state
        if root is None:
            return old.meta.root, old.root_id, old.root
        value = BucketValue(bucket_header.pack(root, old.sequence))
        top = writer.apply(old.meta.root, Changes([self.bucket], [value])) or old.meta.root
        return top, root, self.pager.load(root)

    def write_freelist(self, writer: TreeWriter) -> range:
        """Writes all ids that the new trees don't reach, the old list's pages among them; the pages that it lies in.

        In a full file it isn't written: the result then is no pages, which begin at NO_FREELIST.
        """
        writer.dropped += [(pgid, 0) for pgid in self.freelist_run]
        freelist, dropped = self.freelist, writer.dropped
        at, pages = writer.allocate_freelist(len(freelist.free) + freelist.waiting_count + len(dropped))
        writer.write_freelist(at, pages, *freelist_body(freelist.listed(pgid for pgid, _ in dropped)))
        return range(at, at + pages)

    def let_go(self, writer: TreeWriter) -> None:
        """Frees the pages that were dropped, or lets them wait for the readers who need them.

        After the new state was published: every reader of the old tree has pinned it by now.
        """
        self.free(self.freelist.drop(writer.dropped, writer.txid, self.pins()))

    def pins(self) -> list[int]:
        """The pinned txids, ascending, each once: the readers' (`pager.pins.held`), and the newest durable commit's."""
        return sorted({*self.pager.pins.held(), self.durable})

    def unused(self) -> list[int]:
        """The ids of all pages that the current trees don't reach."""
        return self.freelist.listed(self.freelist_run).tolist()

    def free(self, ids: list[int]) -> None:
        """Pages became free; their nodes go from the cache. (Tests fill the pages with rubbish here.)"""
        self.pager.forget(ids)
