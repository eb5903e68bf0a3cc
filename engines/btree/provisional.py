"""Provisional commits: what a write with sync=False leaves on disk, so that a kill loses none of it and a power cut no more.

    pages of the new tree -> its meta -> readers see it                                   no fsync, and no freelist

A killed process loses nothing that it has written. After a power cut the meta may be on disk, and pages of its tree not.
So such a meta is *provisional*: the next opening looks for its pages, and if one is missing, the last durable commit is
what counts. That takes four things, all of them in this file.

**1. The txid rule** tells a provisional meta from a durable one, and keeps it out of the durable one's page. A durable
commit is one txid after the commit before it. A provisional one is an odd number of at least 3 after the durable one:

    the durable commit             41 in page 1,  the one before it, 40, in page 0
    one provisional commit         41 in page 1,  44 in page 0
    another                        41 in page 1,  46 in page 0        44's meta is written over, 41's never
    a durable commit after those   47 in page 1,  46 in page 0        its first fsync has made 46 durable

bbolt's txids go up by one, so its files have no provisional metas.

**2. The sum** tells whether the pages are there. It stands after the meta in its page (`Meta.extra`):

    OFFSET SIZE FIELD                  (80 bytes after the start of the page: after the header and the meta)
    0      4    magic b"PROV"
    4      8    txid of the durable meta it builds upon, its base
    12     8    sum, modulo 2**64, over every page that is reachable from it and not from its base: `summand(id, checksum)`
    20     4    zero
    24     4    CRC-32C of the 64 bytes of the meta and the 24 above

An older version of a page has a valid checksum of its own; only the sum finds it out.

**3. The spare place.** Metas are written through a mapping, so that a process can be killed half-way through copying one.
A provisional meta is therefore written to a second place in its page first, at byte 512 (at 128 in pages of less than
640), and then over the one before it: one of the two is whole. A durable meta needs no such care: nobody was told of it
yet, and the one before it is durable.

**4. No freelist.** The pages that the durable tree reaches are kept until the next durable commit, so the list only grows,
and each commit would write all of it. Opening finds the free pages by a walk then, as with bbolt's NoFreelistSync.

What a power cut leaves is then: the durable meta, or a provisional one whose pages are all there, exactly as they were. In
both cases the store shows a prefix of its history that has every synced write. The real bbolt doesn't know the sum: let
ours open the file first after a power cut, if there were unsynced writes. bbolt's own NoSync promises nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from crc32c import crc32c

from engines.btree.commit import Build, Committer
from engines.btree.current import State
from engines.btree.meta import MASK_64, META_AREA_BYTES, NO_FREELIST, Meta, MetaError, read_meta
from engines.btree.node import Node
from engines.btree.page import BRANCH, HEADER_BYTES, LEAF, PageError, read_branch, read_leaf, verify_trailer
from engines.btree.pager import Pager
from engines.btree.tree import Changes, TreeWriter
from engines.btree.walk import bucket_ids, free_ids
from engines.env import File
from engines.errors import CorruptionError
from engines.kvstore import Operation

__all__ = [
    "SPARE_PLACE",
    "SUMMAND_FACTOR",
    "SUM_MAGIC",
    "PageSum",
    "Provisional",
    "add_sum",
    "is_provisional",
    "is_whole",
    "next_txid",
    "page_sum",
    "restore_torn",
    "spare_place",
    "summand",
]

SPARE_PLACE = 512  # in a page: another sector than the meta's own
SUM_MAGIC = b"PROV"
SUMMAND_FACTOR = 0x9E3779B97F4A7C15  # 2**64 / the golden ratio: its multiples differ in all bits
_fields = struct.Struct("<4sQQI")
_u32 = struct.Struct("<I")

# ------------------------------------------------------------------------------------------------------ 1. the txid rule


def next_txid(newest: int, durable: int) -> int:
    """The txid of a provisional commit: an odd distance from the durable one, so never in that one's page."""
    return newest + (3 if newest == durable else 2)


def is_provisional(newest: Meta, other: Meta) -> bool:
    """True if the newest meta's txid says that it was written without an fsync."""
    distance = newest.txid - other.txid
    return distance >= 3 and distance % 2 == 1


# ----------------------------------------------------------------------------------------------------------- 2. the sum


class PageSum(NamedTuple):
    """What a provisional meta says about itself: the txid it builds upon, and the sum over its own pages."""

    base: int
    total: int


def summand(pgid: int, crc: int) -> int:
    """What one page adds to the sum: its checksum times an odd number of its own, so that two errors don't cancel out."""
    return crc * (pgid * SUMMAND_FACTOR | 1) & MASK_64


def add_sum(encoded: bytes, base: int, total: int) -> bytes:
    """Header, meta and sum, as they lie at the beginning of a provisional meta's page."""
    data = encoded + _fields.pack(SUM_MAGIC, base, total, 0)
    return data + _u32.pack(crc32c(data[HEADER_BYTES:]))


def page_sum(meta: Meta) -> PageSum | None:
    """The sum that was read with a meta; None if there is none, or a damaged one."""
    extra = meta.extra.ljust(_fields.size + 4, b"\0")
    if extra[:4] != SUM_MAGIC:
        return None
    (stored,) = _u32.unpack_from(extra, _fields.size)
    if crc32c(meta.encode()[HEADER_BYTES:] + extra[: _fields.size]) != stored:
        return None
    _, base, total, _ = _fields.unpack_from(extra)
    return PageSum(base, total)


def is_whole(pager: Pager, meta: Meta, base: Meta) -> bool:
    """True if every page that `meta` reaches and `base` doesn't is there, in the version that belongs to `meta`.

    Reads those pages, and nothing below the ones they share. Raises CorruptionError if `base`'s freelist is damaged.
    """
    told = page_sum(meta)
    if told is None or told.base != base.txid or meta.high_water * meta.page_bytes > len(pager.map):
        return False
    own = set(free_ids(pager, base))  # where base has nothing: what meta's tree has there is its own
    summands: dict[int, int] = {}
    todo = [meta.root]
    try:
        while todo:
            pgid = todo.pop()
            if (pgid >= base.high_water or pgid in own) and pgid not in summands:
                summands[pgid] = _read_own_page(pager, pgid, todo)
    except (CorruptionError, PageError):
        return False
    return sum(summands.values()) & MASK_64 == told.total


def _read_own_page(pager: Pager, pgid: int, todo: list[int]) -> int:
    """The page's summand; what it refers to is added to `todo`. Raises PageError, CorruptionError."""
    run, flags, count = pager.run(pgid)
    crc = verify_trailer(run, HEADER_BYTES)
    if crc is None:
        raise PageError("a page of our own has no checksum")
    if flags == BRANCH:
        todo += read_branch(run, count)[1]
    elif flags == LEAF:
        keys, values, _, _ = read_leaf(run, count)
        todo += bucket_ids(Node.leaf(keys, values))
    return summand(pgid, crc)


# --------------------------------------------------------------------------------------------------- 3. the spare place


def spare_place(page_bytes: int) -> int:
    """Where a meta's page has its spare place; 0 in pages so small that there is none, and no provisional meta either."""
    for place in (SPARE_PLACE, META_AREA_BYTES):
        if page_bytes >= place + META_AREA_BYTES:
            return place
    return 0


def restore_torn(file: File, page_bytes: int, metas: list[Meta | MetaError]) -> list[Meta | MetaError]:
    """The two metas of a file, with what lies in its page's spare place for a torn one, if that builds upon the other one.

    Torn is what doesn't decode, and a provisional meta without a whole sum: the copying has stopped in the one or the
    other.
    """
    found = metas.copy()
    place = spare_place(page_bytes)
    if not place:
        return found
    for page, other in ((0, metas[1]), (1, metas[0])):
        if isinstance(other, Meta) and _is_torn(metas[page], other):
            spare = read_meta(file, page * page_bytes + place)
            told = page_sum(spare) if isinstance(spare, Meta) else None
            if told is not None and told.base == other.txid:
                found[page] = spare
    return found


def _is_torn(meta: Meta | MetaError, other: Meta) -> bool:
    return isinstance(meta, MetaError) or (page_sum(meta) is None and is_provisional(meta, other))


# ----------------------------------------------------------------------------------------------------------- committing


class Provisional:
    """The commits without an fsync of one open file, on top of its committer. The write lock is held around every call."""

    def __init__(self, committer: Committer) -> None:
        self.committer = committer
        self.pager = committer.pager
        self.spare_place = spare_place(self.pager.page_bytes)
        self.base = committer.durable
        self.summands: dict[int, int] = {}  # by page id, of the pages that were written since the base and are in use
        self.total = 0

    @property
    def possible(self) -> bool:
        """False in pages too small for a spare place; and while no txid would tell this commit from a durable one, because
        the newest meta lies in the wrong page."""
        return self.spare_place > 0 and not self.committer.misplaced

    def apply(self, operations: Sequence[Operation]) -> bool:
        """Puts the operations through the bucket's tree, and commits; False if they change nothing."""
        changes = Changes.of(operations)
        state = self.committer.current.state
        return self.commit(lambda writer: writer.apply_to_node(state.root_id, state.root, changes))

    def commit(self, build: Build) -> bool:
        """As Committer.commit, without the fsyncs and without a freelist; or with them, where it isn't `possible`."""
        committer = self.committer
        if not self.possible:
            return committer.commit(build)
        old = committer.current.state
        self.restart_sum()
        writer = committer.begin(next_txid(old.meta.txid, self.base))
        try:
            root = build(writer)
            if root is None:
                return False
            top, root, node = committer.enter_root(writer, root)
        except BaseException:
            writer.rollback()
            raise
        writer.dropped += [(pgid, 0) for pgid in committer.freelist_run]
        self._add_up(writer)
        meta = old.meta._replace(
            root=top, freelist=NO_FREELIST, high_water=committer.freelist.high_water, txid=writer.txid
        )
        self.write_meta(meta.page, add_sum(self.encode_meta(meta), self.base, self.total))
        committer.freelist_run = range(0)
        committer.current.state = State(self.pager, meta, root, node, old.sequence)
        committer.let_go(writer)
        return True

    def restart_sum(self) -> None:
        """After a durable commit: nothing was written since."""
        if self.base != self.committer.durable:
            self.base = self.committer.durable
            self.summands.clear()
            self.total = 0

    def _add_up(self, writer: TreeWriter) -> None:
        """Brings the sum up to date: plus the pages written, minus those dropped that were in it."""
        total = self.total
        for pgid, crc in writer.written.items():
            self.summands[pgid] = summand(pgid, crc)
            total += self.summands[pgid]
        for index, (pgid, born) in enumerate(writer.dropped):
            if pgid in self.summands:
                total -= self.summands.pop(pgid)
                # The base's tree doesn't reach it, even if nobody remembers which commit wrote it.
                writer.dropped[index] = pgid, born or self.base + 1
        self.total = total & MASK_64

    def encode_meta(self, meta: Meta) -> bytes:
        """The page header and the meta."""
        return meta.encode()

    def write_meta(self, page: int, data: bytes) -> None:
        """Writes a provisional meta twice, so that a kill at any byte leaves a whole one."""
        start = page * self.pager.page_bytes
        self.pager.write_bytes(start + self.spare_place, data)
        self.pager.write_bytes(start, data)
