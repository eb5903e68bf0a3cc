"""One changed key, committed without an fsync: the whole way in one go, for writes that are a transaction each.

    key -> path [(root, 3), (branch, 17)] and the leaf
           leaf     spliced                 -> another page
           branch   8 bytes are different   -> another page           each copied from the old page's bytes,
           root     8 bytes are different   -> another page           with a new id and a new checksum
           the bucket's entry in the root bucket's leaf: 8 bytes are different

It does what `TreeWriter.apply` and `Committer.commit` would do, byte for byte, and only where nothing else is to be done: no
split, no joining, no other first key, no page from elsewhere that would have to be laid out anew, no reader who
holds a pin. Else `commit_point` says so before it has changed anything, and the general way is taken.

Why: the general way takes 50 µs for it, and this 25.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING

from crc32c import crc32c

from engines.btree.meta import NO_FREELIST, Meta, Seal, checked_sum, term
from engines.btree.node import NO_CHILDREN, Node
from engines.btree.page import (
    ELEMENT_BYTES,
    HEADER_BYTES,
    LEAF,
    SPLICE_LIMIT,
    TRAILER_BYTES,
    TRAILER_MAGIC,
    header,
    splice_leaf,
)
from engines.btree.pager import MAX_LEVELS, Pager
from engines.btree.tree import SMALL

if TYPE_CHECKING:
    from engines.btree.commit import Committer, State

__all__ = ["commit_point"]

_pack_header = header.pack
_u32 = struct.Struct("<I").pack
_u64 = struct.Struct("<Q").pack
_CHILD = HEADER_BYTES + 8  # where element 0 of a branch has its page id

Path = list[tuple[int, Node, int]]  # (page id, branch, index of the child that comes next), from the root down


def commit_point(
    committer: Committer, state: State, key: bytes, value: bytes | None, publish: Callable[[State], None]
) -> bool | None:
    """Puts or deletes one key in an unsynced commit: True if it did, False if there was nothing to do.

    None: it is a case for `Committer.commit`, and nothing was changed. Raises CorruptionError, StoreFull, OSError.
    """
    pager = committer.pager
    top = committer.root_place
    if top is None:
        top = _find_place_of_root(committer, state)
    if not top or committer.must_sync or pager.arrived or pager.gone or pager.pins():
        return None
    nodes = pager.nodes
    room = pager.page_bytes - TRAILER_BYTES
    path: Path = []
    pgid, node = state.root_id, state.root
    while node.children:
        keys = node.keys
        if not node.packed or node.size_bytes > room or len(path) > MAX_LEVELS:
            return None
        index = bisect_right(keys, key, 1) - 1
        path.append((pgid, node, index))
        pgid = node.children[index]
        found = nodes.get(pgid)
        node = pager.load(pgid) if found is None else found
    index = bisect_left(node.keys, key)
    present = index < len(node.keys) and node.keys[index] == key
    if value is None and not present:
        return False
    if path and not index and not (present and value is not None):
        return None  # the leaf gets another first key, and so does the branch above it
    leaf = _changed_leaf(pager, pgid, node, index, present, key, value, bool(path))
    if leaf is None:
        return None
    _write(committer, state, path, pgid, node.born, leaf, top, publish)
    return True


def _find_place_of_root(committer: Committer, state: State) -> int:
    """Where in the root bucket's page the page id of our bucket's root is; 0 if it isn't there, or in no simple leaf.

    It stays where it is, because our commits change nothing else in the root bucket.
    """
    if not state.root_id:
        return 0
    top = committer.pager.load(state.meta.root)
    index = bisect_left(top.keys, committer.bucket)
    place = HEADER_BYTES + ELEMENT_BYTES * len(top.keys)
    place += sum(map(len, top.keys[: index + 1])) + sum(map(len, top.values[:index]))
    simple = not top.children and top.packed and top.size_bytes + TRAILER_BYTES <= committer.pager.page_bytes
    committer.root_place = place if simple else 0
    return committer.root_place


def _changed_leaf(
    pager: Pager, pgid: int, node: Node, index: int, present: bool, key: bytes, value: bytes | None, has_branches: bool
) -> Node | None:
    """The leaf after the change, its body spliced; None if the tree's shape or the page's layout would change."""
    page_bytes = pager.page_bytes
    keys = node.keys
    count = len(keys)
    old = node.size_bytes
    if not node.packed or old + TRAILER_BYTES > page_bytes or node.has_buckets or not 0 < count < SPLICE_LIMIT:
        return None
    body = node.body
    if body is None:
        start = pgid * page_bytes
        body = pager.map[start + HEADER_BYTES : start + old]
    body = splice_leaf(body, count, index, present, key, value)
    size = HEADER_BYTES + len(body)
    if size + TRAILER_BYTES > page_bytes or (has_branches and size < old and size < page_bytes // SMALL):
        return None
    if value is None:
        if count == 1:
            return None
        keys = keys.copy()
        del keys[index]
    elif not present:
        keys = keys.copy()
        keys.insert(index, key)
    return Node(keys, None, NO_CHILDREN, size, 0, body)


def _write(
    committer: Committer,
    state: State,
    path: Path,
    old: int,
    born: int,
    leaf: Node,
    top: int,
    publish: Callable[[State], None],
) -> None:
    """Writes the leaf, the branches above it, the root bucket's leaf and the meta, each to a page of its own."""
    pager, meta, terms, total = committer.pager, state.meta, committer.terms, committer.total
    nodes = pager.nodes
    txid = leaf.born = committer.next_txid(meta, sync=False)
    pages = _allocate(committer, len(path) + 2)

    new = pages.pop()
    terms[new] = added = _write_leaf(pager, new, leaf)
    total += added
    nodes[new] = root = leaf
    dropped = [(old, born)]
    for old, branch, index in reversed(path):
        child, new = new, pages.pop()
        terms[new] = added = _write_patched(pager, old, _CHILD + ELEMENT_BYTES * index, child, new)
        total += added
        children = branch.children[:]
        children[index] = child
        nodes[new] = root = Node(branch.keys, [], children, branch.size_bytes, txid)
        dropped.append((old, branch.born))
    last = pages.pop()
    terms[last] = added = _write_patched(pager, meta.root, top, new, last)
    total += added
    dropped.append((meta.root, meta.txid))  # unless D wrote it, and then it isn't among the terms

    young, aged = [], []
    for page in dropped:
        if page[0] in terms:
            total -= terms.pop(page[0])
            young.append(page)
        else:
            aged.append((page[0], 0))
    committer.total = total = checked_sum(total)
    seal = Seal(committer.durable, total)
    high_water = committer.freelist.high_water
    meta = Meta(pager.page_bytes, last, NO_FREELIST, high_water, txid, meta.sequence, meta.flags, seal)
    pager.write_meta(meta)
    publish(state.__class__(pager, meta, new, root, state.sequence))
    committer.settle_point(young, aged, txid)


def _allocate(committer: Committer, count: int) -> list[int]:
    """Ids of so many single pages, which the file has room for. Raises StoreFull, OSError."""
    freelist = committer.freelist
    high_water = freelist.high_water
    pages = freelist.allocate_singles(count)
    if freelist.high_water > high_water:
        try:
            committer.pager.grow(freelist.high_water)
        except BaseException:
            freelist.rollback([(pgid, 1) for pgid in pages], high_water)
            raise
    return pages


def _write_leaf(pager: Pager, pgid: int, leaf: Node) -> int:
    """Writes the leaf's body to a page; the page's term."""
    body = leaf.body
    assert body is not None
    page_bytes = pager.page_bytes
    padding = bytes(page_bytes - HEADER_BYTES - TRAILER_BYTES - len(body))
    page = b"".join((_pack_header(pgid, LEAF, len(leaf.keys), 0), body, padding, TRAILER_MAGIC))
    crc = crc32c(page)
    pager.writable[pgid * page_bytes : (pgid + 1) * page_bytes] = page + _u32(crc)
    pager.stats.bytes_written += page_bytes
    return term(pgid, crc)


def _write_patched(pager: Pager, old: int, place: int, child: int, pgid: int) -> int:
    """Writes page `old` to page `pgid`, with the page id `child` at byte `place`; the page's term."""
    page_bytes = pager.page_bytes
    start = old * page_bytes
    view = pager.writable
    end = start + page_bytes - TRAILER_BYTES
    place += start
    page = b"".join((_u64(pgid), view[start + 8 : place], _u64(child), view[place + 8 : end], TRAILER_MAGIC))
    crc = crc32c(page)
    start = pgid * page_bytes
    view[start : start + page_bytes] = page + _u32(crc)
    pager.stats.bytes_written += page_bytes
    return term(pgid, crc)
