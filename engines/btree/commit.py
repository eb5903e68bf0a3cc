"""The commit protocol: how one tree takes the place of another, on disk and in memory, and what a crash leaves.

    synced    pages of the new tree, its freelist   -> fsync -> its meta -> fsync -> readers see it
    unsynced  pages of the new tree                          -> its meta          -> readers see it

Two metas, one in page 0 and one in page 1. At any time one of them belongs to the last *durable* commit, D:

    after a synced commit          D = 41 in page 1,  the one before it, 40, in page 0
    one unsynced commit            D = 41 in page 1,  44 in page 0        (an odd distance, of 3 at least)
    another                        D = 41 in page 1,  46 in page 0        44's meta is overwritten, D's never
    a synced commit after those    D = 47 in page 1,  46 in page 0        its first fsync has made 46 durable

Invariants:

1. D's meta is not written to, and no page that D's tree or freelist reaches, until another commit is durable. D is pinned
   in the freelist as if somebody were reading it.
2. A synced meta is written only when everything that it refers to is durable, all earlier commits included; its txid is
   the last one plus 1, so that it lies in the page that doesn't hold the last one.
3. An unsynced commit writes no freelist, as bbolt's don't with NoFreelistSync: D's dropped pages pile up in the list, and
   each commit would write all of it. Opening finds the free pages by a walk then; the next synced commit lists them.
4. An unsynced meta lies in the page that doesn't hold D's, and is sealed with a sum over its own pages (meta.py).

So after a power cut at any moment: one of the metas is D's, or the newer one's if that became durable. A torn meta fails
its checksum, and D counts. An unsynced meta that is whole counts if its sum is right: then it is some commit younger than
D, exactly as it was; otherwise D counts. In both cases the store shows a prefix of its history that has every synced write.
The real bbolt doesn't know the sum: let ours open the file first after a power cut, if there were unsynced writes.

After a kill without a power cut nothing is missing, and the newest meta counts: metas are written by one system call.

Follows bbolt's tx.go (Commit). bbolt's NoSync promises nothing; what is here about unsynced commits is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from engines.btree.freelist import Freelist, freelist_body
from engines.btree.meta import NO_FREELIST, Meta, Seal, checked_sum, term
from engines.btree.node import Node
from engines.btree.page import BucketValue
from engines.btree.pager import Pager, Pin
from engines.btree.tree import Changes, TreeWriter
from engines.btree.walk import bucket_header

__all__ = ["Build", "Committer", "State"]

# Given the writer of a transaction, writes a tree for the bucket, and returns its root; None leaves the old one.
Build = Callable[[TreeWriter], int | None]


class State(NamedTuple):
    """One committed tree, as readers see it: the file, the meta, and the root of the bucket that the contract lives in."""

    pager: Pager
    meta: Meta
    root_id: int  # its page; 0 if the bucket lies inline in the root bucket's leaf, or isn't there
    root: Node
    sequence: int  # the bucket's own counter, which bbolt's users may have set


class Committer:
    """The writer's side of an open file: freelist, the durable commit, and the sum of what is not durable yet.

    Not for several threads: the store's write lock is held around every call.
    """

    def __init__(self, state: State, freelist: Freelist, bucket: bytes, fill: float, meta_page: int) -> None:
        self.pager = state.pager
        self.freelist = freelist
        self.durable = state.meta.txid
        self.bucket = bucket
        self._fill = fill
        self._freelist_run = self._run_of_freelist(state.meta)
        self._misplaced = meta_page != state.meta.page  # as in bbolt's backups: their newest meta is always in page 0
        # No txid would tell an unsynced commit from a synced one next to a misplaced meta; small pages can't hold a seal.
        self.must_sync = self._misplaced or not self.pager.spare_place
        self.terms: dict[int, int] = {}  # of the pages that were written since D and are in use, by page id
        self.total = 0
        self.root_place: int | None = None  # of our bucket's root id in the root bucket's page, once point.py knows it

    def _run_of_freelist(self, meta: Meta) -> range:
        if meta.freelist == NO_FREELIST:
            return range(0)
        pages = len(self.pager.run(meta.freelist)[0]) // self.pager.page_bytes
        return range(meta.freelist, meta.freelist + pages)

    def commit(self, state: State, build: Build, publish: Callable[[State], None], *, sync: bool) -> bool:
        """Makes the next state out of `state`, and hands it to `publish`; False if nothing was to be done.

        A StoreError, or whatever else `build` raises, leaves everything as it was. An OSError leaves the disk as a crash
        would, and the caller stops using the store.
        """
        sync = sync or self.must_sync
        meta = state.meta
        released = self.freelist.release(self._pins())
        if released:
            self._free(released)
        writer = TreeWriter(self.pager, self.freelist, self.next_txid(meta, sync=sync), self._fill)
        try:
            root = build(writer)
            if root is None and (not sync or meta.txid == self.durable):
                return False
            next_state, freelist_run = self._prepare(writer, state, root, sync)
        except BaseException:
            writer.rollback()
            raise
        if sync:
            self._write_synced(next_state.meta)
        else:
            self.pager.write_meta(next_state.meta)
        self._freelist_run = freelist_run
        publish(next_state)
        self._settle(writer)
        return True

    def _write_synced(self, meta: Meta) -> None:
        """The two fsyncs. After the first one every earlier commit is durable, after the second this one is too."""
        self.pager.sync("btree.commit.data")
        self.pager.write_meta(meta)
        self.pager.sync("btree.commit.meta")
        self.terms.clear()
        self.total = 0
        self.durable = meta.txid
        self._misplaced = False
        self.must_sync = not self.pager.spare_place

    def next_txid(self, meta: Meta, *, sync: bool) -> int:
        """The txid whose meta goes where it may (invariants 2 and 4).

        After a misplaced meta one is skipped: the other page of a backup has the same state and could be overwritten as
        well as this one, but where somebody has moved a meta by hand it is the only one of its state.
        """
        if sync:
            return meta.txid + (2 if self._misplaced else 1)
        return meta.txid + (3 if meta.txid == self.durable else 2)

    def _prepare(self, writer: TreeWriter, state: State, root: int | None, sync: bool) -> tuple[State, range]:
        """The next state, all of whose pages are written: the root bucket with the new root in it, and a freelist.

        Without a new root, the old trees under another meta.
        """
        meta = state.meta
        top = meta.root
        if root is None:
            root, node = state.root_id, state.root
        else:
            value = BucketValue(bucket_header.pack(root, state.sequence))
            top = writer.apply(top, Changes([self.bucket], [value])) or top
            node = self.pager.load(root)
        writer.dropped += [(pgid, 0) for pgid in self._freelist_run]
        if sync:
            at, freelist_run, seal = *self._write_freelist(writer), None
        else:
            at, freelist_run, seal = NO_FREELIST, range(0), self._seal(writer)
        high_water = self.freelist.high_water
        next_meta = Meta(meta.page_bytes, top, at, high_water, writer.txid, meta.sequence, meta.flags, seal)
        return State(self.pager, next_meta, root, node, state.sequence), freelist_run

    def _write_freelist(self, writer: TreeWriter) -> tuple[int, range]:
        """Writes all ids that the new trees don't reach; the first page of the freelist, and all of its pages."""
        freelist = self.freelist
        dropped = writer.dropped
        at, pages = writer.allocate_freelist(len(freelist.free) + freelist.waiting_count + len(dropped))
        writer.write_freelist(at, pages, *freelist_body(freelist.listed(pgid for pgid, _ in dropped)))
        return at, range(at, at + pages)

    def _seal(self, writer: TreeWriter) -> Seal:
        """Brings the sum up to date: plus the pages written, minus those dropped that were in it."""
        terms, total = self.terms, self.total
        for pgid, crc in writer.written.items():
            added = terms[pgid] = term(pgid, crc)
            total += added
        for index, (pgid, born) in enumerate(writer.dropped):
            if pgid in terms:
                total -= terms.pop(pgid)
                writer.dropped[index] = pgid, born or self.durable + 1
        self.total = checked_sum(total)
        return Seal(self.durable, self.total)

    def unused(self) -> Sequence[int]:
        """The ids of all pages that the newest trees don't reach."""
        return self.freelist.listed(self._freelist_run)

    def _pins(self) -> list[int]:
        """The pinned txids, ascending: the readers', and D."""
        pins = self.pager.pins()
        if not pins:
            return [self.durable]
        return pins if self.durable in pins else sorted([*pins, self.durable])

    def _settle(self, writer: TreeWriter) -> None:
        """Sorts out who still needs what was dropped. After `publish`: whoever reads the old tree has pinned it by now."""
        pins = self._pins()
        self._free(self.freelist.drop(writer.dropped, writer.txid, pins))

    def settle_point(self, young: list[tuple[int, int]], old: list[tuple[int, int]], txid: int) -> None:
        """`_settle` for point.py: without readers, what is younger than D is free at once, and the rest waits for D."""
        pager = self.pager
        if pager.arrived or pager.gone or pager.pins():
            self._free(self.freelist.drop(young + old, txid, self._pins()))
            return
        pages = [pgid for pgid, _ in young]
        self.freelist.reuse(pages)
        self._free(pages)
        if old:
            self.freelist.drop(old, txid, [self.durable])

    def _free(self, ids: list[int]) -> None:
        """Pages became free; their nodes go from the cache. (Tests fill the pages with rubbish here.)"""
        nodes = self.pager.nodes
        for pgid in ids:
            nodes.pop(pgid, None)


def pin(pager: Pager, txid: int) -> Pin:
    """Pins a txid. The caller has to check that it is still the newest after that, and to take a newer one if not."""
    pager.arrived.append(txid)
    return Pin(txid, pager.gone)
