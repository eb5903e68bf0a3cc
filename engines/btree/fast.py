"""What makes the B+tree fast: four parts that stand in for plain ones, with the same bytes on disk and the same answers.

    part          stands in for            how
    read_one      current.read_one         a get without a pin                               get   1.8 µs -> 0.8
    scan_tree     cursor.scan_tree         no generator for each level, at the start        seek  3.4 µs -> 3.1
    Splicing      tree.TreeWriter          old pages are cut open, and not encoded anew      put  86 µs -> 51
    PointCommits  provisional.Provisional  one key, unsynced: pages are copied, not built    put  51 µs -> 22

(Keys of 16 and values of 100 bytes, 20,000 of them, unsynced; Python 3.11. A batch of 100 random keys takes 12.5 µs for
each in place of 15.5.) Left out, because plain code is as fast or nearly so: reading and writing a page's elements with
strided arrays, a scan that keeps its path itself.

`tests/btree/test_btree_fast.py` holds each to its plain form. METCD_PLAIN=1, or the option plain=True, does without them.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import NoReturn

from crc32c import crc32c

from engines.btree import current as plain
from engines.btree.commit import Committer
from engines.btree.current import Current, State
from engines.btree.cursor import leaves_forward, without_buckets
from engines.btree.cursor import scan_tree as plain_scan_tree
from engines.btree.freelist import Freelist
from engines.btree.meta import FNV_PRIME, MAGIC, MASK_64, NO_FREELIST, VERSION, Meta, fnv1a_64
from engines.btree.node import NO_CHILDREN, Node
from engines.btree.page import (
    ELEMENT_BYTES,
    HEADER_BYTES,
    LEAF,
    META,
    TRAILER_BYTES,
    TRAILER_MAGIC,
    BucketValue,
    header,
    leaf_element,
)
from engines.btree.pager import MAX_LEVELS, Pager
from engines.btree.parts import Parts
from engines.btree.pins import Pin
from engines.btree.provisional import SUMMAND_FACTOR, Provisional, add_sum, next_txid
from engines.btree.tree import APPEND_FILL, SMALL, TreeWriter
from engines.kvstore import Operation, Pair

__all__ = ["FAST", "PointCommits", "Splicing", "read_one", "scan_tree", "splice_leaf"]

_u32 = struct.Struct("<I").pack
_u64 = struct.Struct("<Q").pack

# ---------------------------------------------------------------------------------------------------------------- gets

_STEPS_DOWN = range(MAX_LEVELS)


def read_one(current: Current, key: bytes) -> bytes | None:
    """current.read_one, without a pin, as long as every node on the way is cached: 1.8 µs -> 0.8 µs for a get.

    Costs: a second look at the current state. Without a pin a page may be written again meanwhile, and lead astray; but
    not without a newer state being there at the end. Then, and when a node isn't cached, the plain form reads again.
    """
    state = current.state
    nodes = state.pager.nodes
    node = state.root
    try:
        for _ in _STEPS_DOWN:
            if not node.children:
                break
            node = nodes[node.children[bisect_right(node.keys, key, 1) - 1]]
    except KeyError:
        return plain.read_one(current, key)
    keys = node.keys
    index = bisect_left(keys, key)
    value = node.values[index] if index < len(keys) and keys[index] == key else None
    if current.state is not state or node.children:
        return plain.read_one(current, key)
    return value


# --------------------------------------------------------------------------------------------------------------- scans


Dead = Callable[[], NoReturn]


def scan_tree(
    pager: Pager, root: Node, start: bytes, stop: bytes | None, reverse: bool, alive: list[object], dead: Dead, pin: Pin
) -> Iterator[Pair]:
    """cursor.scan_tree; forward, no generator for each level leads to the first leaf: ten pairs 3.4 µs -> 3.1 µs.

    Costs: the way down once more, to the second leaf. Less than a third, and kept because short scans had become slower.
    """
    if reverse:
        return plain_scan_tree(pager, root, start, stop, reverse, alive, dead, pin)
    return _ascend(pager, root, start, stop, alive, dead, pin)


def _ascend(
    pager: Pager, root: Node, start: bytes, stop: bytes | None, alive: list[object], dead: Dead, pin: Pin
) -> Iterator[Pair]:
    node: Node | None
    node = root
    beyond: bytes | None = None  # the first key of the leaf after this one; None if this is the last
    leaves: Iterator[Node] | None = None
    for _ in _STEPS_DOWN:
        if not node.children:
            break
        index = bisect_right(node.keys, start, 1)
        if index < len(node.keys):
            beyond = node.keys[index]
        node = pager.load(node.children[index - 1])
    else:
        raise pager.too_deep()
    while node is not None:
        keys, values = node.keys, node.values
        low = bisect_left(keys, start) if keys and keys[0] < start else 0
        high = bisect_left(keys, stop) if stop is not None and keys and keys[-1] >= stop else len(keys)
        if low > 0 or high < len(keys):
            keys, values = keys[low:high], values[low:high]
        pairs = zip(keys, values)
        for pair in without_buckets(pairs) if node.has_buckets else pairs:
            if not alive:
                dead()
            yield pair
        if high < len(node.keys):
            return
        if leaves is None:
            leaves = iter(()) if beyond is None else leaves_forward(pager, root, beyond)
        node = next(leaves, None)
    if not alive:
        dead()


# ------------------------------------------------------------------------------------------------------------ splicing

SPLICE_LIMIT = 256  # elements; beyond it the long integers cost more than encoding anew

_CHILD = HEADER_BYTES + 8  # where element 0 of a branch has its page id

# _POS[n] has a 1 in the place of `pos` of each of n leaf elements, read as one little-endian integer
_POS = list(accumulate((1 << (128 * i + 32) for i in range(SPLICE_LIMIT)), initial=0))


def splice_leaf(body: bytes, count: int, index: int, found: bool, key: bytes, value: bytes | None) -> bytes:
    """A packed leaf's body with one element changed, as page.leaf_body of the changed lists would give it: 5 µs -> 2 µs.

    An insert moves every `pos` before it and after it by the same amount each: that is one addition of two long integers.
    Inserts at `index`, or replaces the element there (`found`: its key is `key`, its flags stay), or deletes it (value is
    None). Requires: count < SPLICE_LIMIT.
    """
    table = ELEMENT_BYTES * count
    at = ELEMENT_BYTES * index
    if index < count:
        flags, pos, old_key, old_value = leaf_element.unpack_from(body, at)
        start = at + pos
    else:
        flags, start, old_key, old_value = 0, len(body), 0, 0
    if value is None:
        gap = old_key + old_value
        elements = body[:at] + body[at + ELEMENT_BYTES : table]
        shift = -ELEMENT_BYTES * _POS[index] - gap * (_POS[count - 1] - _POS[index])
        moved = (int.from_bytes(elements, "little") + shift).to_bytes(table - ELEMENT_BYTES, "little")
        return b"".join((moved, body[table:start], body[start + gap :]))
    size = len(key) + len(value)
    if found:
        grown = size - old_key - old_value
        if grown == 0:
            return b"".join((body[: start + old_key], value, body[start + size :]))
        element = leaf_element.pack(flags, pos, old_key, len(value))
        elements = b"".join((body[:at], element, body[at + ELEMENT_BYTES : table]))
        shift = grown * (_POS[count] - _POS[index + 1])
        moved = (int.from_bytes(elements, "little") + shift).to_bytes(table, "little")
        return b"".join((moved, body[table : start + old_key], value, body[start + old_key + old_value :]))
    new = leaf_element.pack(isinstance(value, BucketValue), start - at, len(key), len(value))
    elements = b"".join((body[:at], new, body[at:table]))
    shift = ELEMENT_BYTES * _POS[index + 1] + size * (_POS[count + 1] - _POS[index + 1])
    moved = (int.from_bytes(elements, "little") + shift).to_bytes(table + ELEMENT_BYTES, "little")
    return b"".join((moved, body[table:start], key, value, body[start:]))


def _changed_leaf(
    pager: Pager, pgid: int, node: Node, index: int, found: bool, key: bytes, value: bytes | None
) -> tuple[Node, bytes] | None:
    """The leaf after one change, and its body, spliced; None if it can't be, or doesn't fit into its page any more."""
    keys = node.keys
    count = len(keys)
    page_bytes = pager.page_bytes
    old_size = node.size_bytes
    if not node.packed or old_size + TRAILER_BYTES > page_bytes or node.has_buckets or not 1 < count < SPLICE_LIMIT:
        return None
    start = pgid * page_bytes
    body = splice_leaf(pager.map[start + HEADER_BYTES : start + old_size], count, index, found, key, value)
    size = HEADER_BYTES + len(body)
    if size + TRAILER_BYTES > page_bytes:
        return None
    values = node.values.copy()
    if value is None:
        keys = keys.copy()
        del keys[index], values[index]
    elif found:
        values[index] = value
    else:
        keys = keys.copy()
        keys.insert(index, key)
        values.insert(index, value)
    return Node(keys, values, NO_CHILDREN, size), body


class Splicing(TreeWriter):
    """TreeWriter, but a leaf with one changed element is spliced, and so is a branch with one changed child: a put that is
    a commit of its own takes 51 µs in place of 86.

    Costs: the bodies of the nodes that are to be written are kept beside them.
    """

    def __init__(self, pager: Pager, freelist: Freelist, txid: int, fill: float) -> None:
        super().__init__(pager, freelist, txid, fill)
        self._bodies: dict[Node, bytes] = {}

    def update_leaf(self, pgid: int, node: Node, low: int, high: int, rightmost: bool) -> list[Node] | None:
        key, value = self.changes.keys[low], self.changes.values[low]
        if high - low > 1 and node.keys and key > node.keys[-1]:
            return self._append(node, low, high, rightmost)
        if high - low > 1 or not pgid or type(value) is BucketValue:
            return super().update_leaf(pgid, node, low, high, rightmost)
        index = bisect_left(node.keys, key)
        found = index < len(node.keys) and node.keys[index] == key
        if value is None and not found:
            return None
        changed = _changed_leaf(self.pager, pgid, node, index, found, key, value)
        if changed is None:
            return super().update_leaf(pgid, node, low, high, rightmost)
        self._bodies[changed[0]] = changed[1]
        return [changed[0]]

    def _append(self, node: Node, low: int, high: int, rightmost: bool) -> list[Node] | None:
        """New keys after the leaf's last one, all at once: 100 of them, with the split, 41 µs -> 29 µs."""
        changes = zip(self.changes.keys[low:high], self.changes.values[low:high])
        added = [pair for pair in changes if pair[1] is not None]
        if not added:
            return None
        keys = node.keys + [key for key, _ in added]
        values = node.values + [value for _, value in added if value is not None]
        return Node.leaf(keys, values).split(self.page_bytes, APPEND_FILL if rightmost else self.fill)

    def drop(self, pgid: int, pages: int, born: int) -> None:
        """Without a list for the usual run of one page: 0.28 µs -> 0.06."""
        if pages == 1:
            self.dropped.append((pgid, born))
        else:
            super().drop(pgid, pages, born)

    def rebuild(self, pgid: int, node: Node, replaced: dict[int, list[Node]], rightmost: bool) -> list[Node]:
        """One child that remains one, under the same key, is another page id: 8 bytes of the page are different."""
        index, pieces = next(iter(replaced.items()))
        piece = pieces[0] if pieces else node
        same_shape = len(replaced) == len(pieces) == 1 and not piece.shrunk and piece.keys[0] == node.keys[index]
        if not same_shape or not node.packed or not pgid or node.size_bytes + TRAILER_BYTES > self.page_bytes:
            return super().rebuild(pgid, node, replaced, rightmost)
        child = self.write(piece)
        children = node.children[:]
        children[index] = child
        branch = Node(node.keys, [], children, node.size_bytes)
        start = pgid * self.page_bytes
        place = start + _CHILD + ELEMENT_BYTES * index
        view = self.pager.map
        rest = view[place + 8 : start + node.size_bytes]
        self._bodies[branch] = b"".join((view[start + HEADER_BYTES : place], _u64(child), rest))
        return [branch]

    def encode(self, node: Node) -> bytes:
        return self._bodies.pop(node, None) or super().encode(node)


# -------------------------------------------------------------------------------------------------------------- metas

_FNV_POWERS = [pow(FNV_PRIME, n, 1 << 64) for n in range(9)]
_FNV_OF_ONES = [  # by the low byte of a hash: what 8 bytes of 0xFF add to hash x prime**8
    (fnv1a_64(b"\xff" * 8, low) - low * _FNV_POWERS[8]) & MASK_64 for low in range(256)
]
_prefix = struct.Struct("<IIII")
_fields = struct.Struct("<6Q")


def encode_meta(meta: Meta) -> bytes:
    """Meta.encode, with FNV-1a over 8-byte words in place of bytes: 4.1 µs -> 1.7 µs.

    A word's high bytes are mostly zeros, and a run of those is one multiplication by a power of the prime. So is a word of
    ones, which every provisional meta has for its freelist: an xor with 0xFF adds what only the low byte decides, and the
    low bytes of a hash depend on nothing but its low byte. The 16 bytes that never change are hashed once.
    """
    page_bytes, root, freelist, high_water, txid, sequence, flags, _ = meta
    start, found = _prefix_of(txid % 2, page_bytes, flags)
    words = (root, sequence, freelist, high_water, txid)
    for word in words:
        if word == NO_FREELIST:
            found = found * _FNV_POWERS[8] + _FNV_OF_ONES[found & 0xFF] & MASK_64
            continue
        zeros = 8
        while word:
            found = (found ^ word & 0xFF) * FNV_PRIME & MASK_64
            word >>= 8
            zeros -= 1
        found = found * _FNV_POWERS[zeros] & MASK_64
    return start + _fields.pack(*words, found)


@cache
def _prefix_of(page: int, page_bytes: int, flags: int) -> tuple[bytes, int]:
    """The page header and the first 16 bytes of the meta, and the hash after these."""
    prefix = _prefix.pack(MAGIC, VERSION, page_bytes, flags)
    return header.pack(page, META, 0, 0) + prefix, fnv1a_64(prefix)


# -------------------------------------------------------------------------------------------------------- point commits

Path = list[tuple[int, Node, int]]  # (page id, branch, index of the child that comes next), from the root down


class PointCommits(Provisional):
    """Provisional, but one changed key is committed on a fast path, where nothing else is to be done: 51 µs -> 22 µs.

        key -> path [(root, 3), (branch, 17)] and the leaf
               leaf     spliced                 -> another page
               branch   8 bytes are different   -> another page           each copied from the old page's bytes,
               root     8 bytes are different   -> another page           with a new id and a new checksum
               the bucket's entry in the root bucket's leaf: 8 bytes are different

    Where something else is to be done, `apply` finds that out before it has changed anything, and the plain form does it:
    a split, a joining, another first key, a page from elsewhere that is laid out in another way, readers with a pin.
    """

    def __init__(self, committer: Committer) -> None:
        super().__init__(committer)
        self._place_of_root: int | None = None  # of our bucket's root id in the root bucket's page, once it is known

    def apply(self, operations: Sequence[Operation]) -> bool:
        if len(operations) == 1:
            done = self._apply_one(*operations[0])
            if done is not None:
                return done
        return super().apply(operations)

    def encode_meta(self, meta: Meta) -> bytes:
        return encode_meta(meta)

    def _apply_one(self, key: bytes, value: bytes | None) -> bool | None:
        """True if it is committed, False if it changes nothing; None if it is a case for the plain form."""
        committer, pager = self.committer, self.pager
        pins = pager.pins
        place = self._place_of_root or self._find_place_of_root()
        if not place or pins.arrived or pins.gone or pins.held():
            return None
        state = committer.current.state
        nodes = pager.nodes
        room = pager.page_bytes - TRAILER_BYTES
        path: Path = []
        pgid, node = state.root_id, state.root
        while node.children:
            if not node.packed or node.size_bytes > room or len(path) > MAX_LEVELS:
                return None
            index = bisect_right(node.keys, key, 1) - 1
            path.append((pgid, node, index))
            pgid = node.children[index]
            node = nodes.get(pgid) or pager.load(pgid)
        index = bisect_left(node.keys, key)
        found = index < len(node.keys) and node.keys[index] == key
        if value is None and not found:
            return False
        if path and not index and not (found and value is not None):
            return None  # the leaf gets another first key, and so does the branch above it
        changed = _changed_leaf(pager, pgid, node, index, found, key, value)
        if changed is None:
            return None
        if path and changed[0].size_bytes < node.size_bytes and changed[0].size_bytes < pager.page_bytes // SMALL:
            return None
        self._write(state, path, pgid, node.born, *changed, place)
        return True

    def _find_place_of_root(self) -> int:
        """Where in the root bucket's page the page id of our bucket's root is; 0 if it isn't there, or in no simple leaf.

        It stays where it is, because our commits change nothing else in the root bucket.
        """
        state = self.committer.current.state
        if not state.root_id or not self.possible:
            return 0
        top = self.pager.load(state.meta.root)
        index = bisect_left(top.keys, self.committer.bucket)
        place = HEADER_BYTES + ELEMENT_BYTES * len(top.keys)
        place += sum(map(len, top.keys[: index + 1])) + sum(map(len, top.values[:index]))
        simple = not top.children and top.packed and top.size_bytes + TRAILER_BYTES <= self.pager.page_bytes
        self._place_of_root = place if simple else 0
        return self._place_of_root

    def _write(self, state: State, path: Path, old: int, born: int, leaf: Node, body: bytes, place: int) -> None:
        """Writes the leaf, the branches above it, the root bucket's leaf and the meta, each to a page of its own."""
        committer, pager, meta = self.committer, self.pager, state.meta
        if self.base != committer.durable:
            self.restart_sum()
        if released := committer.freelist.release([committer.durable]):
            committer.free(released)
        nodes, page_bytes = pager.nodes, pager.page_bytes
        txid = leaf.born = next_txid(meta.txid, self.base)
        pages = self._allocate(len(path) + 2)
        view = pager.writable
        new = pages[0]
        padding = bytes(page_bytes - HEADER_BYTES - len(body) - TRAILER_BYTES)
        self._write_page(new, b"".join((header.pack(new, LEAF, len(leaf.keys), 0), body, padding, TRAILER_MAGIC)))
        nodes[new] = root = leaf
        dropped = [(old, born)]
        for (old, branch, index), page in zip(reversed(path), pages[1:]):
            start = old * page_bytes
            at = start + _CHILD + ELEMENT_BYTES * index
            rest = view[at + 8 : start + page_bytes - TRAILER_BYTES]
            self._write_page(page, b"".join((_u64(page), view[start + 8 : at], _u64(new), rest, TRAILER_MAGIC)))
            children = branch.children[:]
            children[index] = new
            new = page
            nodes[new] = root = Node(branch.keys, [], children, branch.size_bytes)
            root.born = txid
            dropped.append((old, branch.born))
        top = pages[-1]
        start = meta.root * page_bytes
        at = start + place
        rest = view[at + 8 : start + page_bytes - TRAILER_BYTES]
        self._write_page(top, b"".join((_u64(top), view[start + 8 : at], _u64(new), rest, TRAILER_MAGIC)))
        dropped.append((meta.root, 0))
        if committer.freelist_run:
            dropped += [(pgid, 0) for pgid in committer.freelist_run]
        young, aged = self._take_from_sum(dropped)
        high_water = committer.freelist.high_water
        meta = Meta(page_bytes, top, NO_FREELIST, high_water, txid, meta.sequence, meta.flags)
        data = add_sum(encode_meta(meta), self.base, self.total)
        start = txid % 2 * page_bytes
        view[start + self.spare_place : start + self.spare_place + len(data)] = data
        view[start : start + len(data)] = data
        pager.stats.bytes_written += page_bytes * len(pages) + 2 * len(data)
        committer.freelist_run = range(0)
        committer.current.state = State(pager, meta, new, root, state.sequence)
        if pager.pins.arrived:  # a reader of the old tree, since `_apply_one` has looked
            aged += [(pgid, self.base + 1) for pgid in young]
            committer.free(committer.freelist.drop(aged, txid, committer.pins()))
            return
        committer.freelist.add(young)  # nobody reads, and the durable tree doesn't reach them
        committer.free(young)
        if aged:
            committer.free(committer.freelist.drop(aged, txid, [committer.durable]))

    def _write_page(self, pgid: int, image: bytes) -> None:
        """Writes a page that lacks only its checksum, and adds it to the sum."""
        crc = crc32c(image)
        start = pgid * self.pager.page_bytes
        self.pager.writable[start : start + self.pager.page_bytes] = image + _u32(crc)
        self.summands[pgid] = added = crc * (pgid * SUMMAND_FACTOR | 1) & MASK_64  # summand, without the call
        self.total += added

    def _take_from_sum(self, dropped: list[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int]]]:
        """Takes dropped pages out of the sum: (those written since the base, the others, which the base's tree reaches)."""
        summands, total = self.summands, self.total
        young: list[int] = []
        aged: list[tuple[int, int]] = []
        for page in dropped:
            pgid = page[0]
            if pgid in summands:
                total -= summands.pop(pgid)
                young.append(pgid)
            else:
                aged.append(page)
        self.total = total & MASK_64
        return young, aged

    def _allocate(self, count: int) -> list[int]:
        """Ids of so many single pages, which the file has room for. Raises StoreFull, OSError."""
        freelist = self.committer.freelist
        high_water = freelist.high_water
        free = freelist.free
        if len(free) >= count:
            pages = free[: -count - 1 : -1].tolist()  # in the order in which `allocate` would give them
            del free[-count:]
            return pages
        pages = [freelist.allocate(1) for _ in range(count)]
        if freelist.high_water > high_water:
            try:
                self.pager.grow(freelist.high_water)
            except BaseException:
                freelist.rollback([(pgid, 1) for pgid in pages], high_water)
                raise
        return pages


FAST = Parts(read_one=read_one, scan_tree=scan_tree, tree_writer=Splicing, provisional=PointCommits)
