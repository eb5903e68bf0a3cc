"""Even leaves: those whose keys all have one size, and whose values all have one size. They are read and changed as bytes.

    [header][element 0 .. element n - 1, the table][key 0][value 0][key 1][value 1] ... 00 00 [CRC1 crc]
             <- tells the sizes, nothing else ->    <---- step ---->

The table of such a leaf follows from three numbers, its *shape*. So one comparison tells whether a page is even, the table
after a change is looked up and not computed, and pair i is at `start + i x step`. A get looks for its key with one
`bytes.find` in the keys, which are kept in one piece, and takes the value from the mapping; the pairs of a scan come from
`struct.iter_unpack`.

What it buys is memory, and what comes with it. A decoded leaf takes 4,900 bytes in a hundred objects, each of them a miss in
the processor's caches; this takes 600 in two. While there is little in memory a decoded leaf is the faster one, 0.8 µs for
a get and not 1.2: so leaves are decoded until a part of the cache is full (`roomy`), and kept like this from then on.

Invariants:

1. Before anything is kept of a page, its checksum and the order of its keys are verified. It is kept until the page is
   free (`Pager.forget`), as a node is.
2. What isn't even, or not as it should be in any way, is None here, and goes to the plain form: it has the last word.
"""

from __future__ import annotations

import struct
from operator import lt
from typing import NamedTuple

from crc32c import crc32c

from engines.btree.page import ELEMENT_BYTES, HEADER_BYTES, LEAF, TRAILER_MAGIC, leaf_element
from engines.btree.pager import Pager

__all__ = ["EvenLeaf", "Parts", "Shape", "change_even", "find", "learn", "looks_even", "pair_at", "place_of", "roomy"]

MAX_SHAPES = 256  # that are kept; one of 28 pairs takes 2 KB
DECODED_PART = 0.25  # of the cache
MAX_COUNT = 256  # pairs of a leaf; smaller ones come by the hundred only in large pages
_sizes = struct.Struct("<QHH12xII").unpack_from  # id, flags, count; of element 0, size of the key, size of the value
_rest_of_header = struct.Struct("<HHI")  # after the page's id: flags, count, overflow

Parts = tuple[bytes, ...]  # a page from its byte 8 on to its checksum, in pieces


class Shape(NamedTuple):
    """What even leaves with as many pairs of the same sizes have in common."""

    key_size: int
    value_size: int
    step: int  # from a pair to the next one
    start: int  # of pair 0, in the page
    elements: int
    head: bytes  # of the page, from its byte 8 on: the rest of the header, and the table
    keys: struct.Struct  # takes the keys out of the data
    pairs: struct.Struct  # one pair


class EvenLeaf(NamedTuple):
    """What is kept of one page."""

    keys: bytes  # one after the other
    shape: Shape


_shapes: dict[tuple[int, int, int], Shape] = {}  # by count, size of a key, size of a value


def _shape(count: int, key_size: int, value_size: int) -> Shape:
    """With the table as page.leaf_body would lay it out."""
    shape = _shapes.get((count, key_size, value_size))
    if shape is not None:
        return shape
    step = key_size + value_size
    end = ELEMENT_BYTES * count
    elements = [
        leaf_element.pack(0, end + (step - ELEMENT_BYTES) * index, key_size, value_size) for index in range(count)
    ]
    head = _rest_of_header.pack(LEAF, count, 0) + b"".join(elements)
    keys, pairs = struct.Struct(f"{key_size}s{value_size}x" * count), struct.Struct(f"{key_size}s{value_size}s")
    if len(_shapes) >= MAX_SHAPES:
        _shapes.clear()
    shape = _shapes[count, key_size, value_size] = Shape(
        key_size, value_size, step, HEADER_BYTES + end, count, head, keys, pairs
    )
    return shape


def roomy(pager: Pager) -> bool:
    """True while there is so little in the cache that leaves are to be decoded."""
    return pager.cached_bytes < pager.cache_bytes * DECODED_PART


def looks_even(page: bytes, pgid: int) -> Shape | None:
    """The shape of page `pgid` if it is an even leaf, else None. `page` goes as far as its checksum, which isn't looked at."""
    room = len(page) - 4
    if room < HEADER_BYTES + ELEMENT_BYTES:
        return None
    found, flags, count, key_size, value_size = _sizes(page)
    if found != pgid or flags != LEAF or not 1 < count < MAX_COUNT or not key_size:
        return None
    if HEADER_BYTES + (ELEMENT_BYTES + key_size + value_size) * count > room:
        return None
    shape = _shapes.get((count, key_size, value_size))
    if shape is None:  # make one only if the last element says the same as the first one
        last = count - 1
        pos = ELEMENT_BYTES * count + (key_size + value_size - ELEMENT_BYTES) * last
        if leaf_element.unpack_from(page, HEADER_BYTES + ELEMENT_BYTES * last) != (0, pos, key_size, value_size):
            return None
        shape = _shape(count, key_size, value_size)
    return shape if page.startswith(shape.head, 8) and page.endswith(TRAILER_MAGIC) else None


def learn(pager: Pager, pgid: int) -> EvenLeaf | None:
    """The even leaf at page `pgid`, verified and kept; None if it is none, or is to be decoded.

    Requires: the caller has pinned a tree that it is in. 5 µs.
    """
    if roomy(pager):
        return None
    page = pager.map[pgid * pager.page_bytes : (pgid + 1) * pager.page_bytes]
    shape = looks_even(page[:-4], pgid)
    if shape is None or crc32c(page[:-4]) != int.from_bytes(page[-4:], "little"):
        return None
    keys = shape.keys.unpack_from(page, shape.start)
    if not all(map(lt, keys, keys[1:])):
        return None
    leaf = EvenLeaf(b"".join(keys), shape)
    pager.count_read(1)
    pager.keep(pgid, leaf)
    return leaf


def find(leaf: EvenLeaf, key: bytes) -> int:
    """The index of `key`; -1 if it isn't there."""
    keys, size = leaf.keys, leaf.shape.key_size
    at = keys.find(key) if len(key) == size else -1
    while at > 0 and at % size:  # the end of one key and the beginning of another
        at = keys.find(key, at + 1)
    return at // size


def place_of(leaf: EvenLeaf, key: bytes) -> int:
    """The index of the first key that isn't below `key`; the count if there is none."""
    index = find(leaf, key)
    if index >= 0:
        return index
    keys, size = leaf.keys, leaf.shape.key_size
    low, high = 0, leaf.shape.elements
    while low < high:
        middle = (low + high) >> 1
        if keys[size * middle : size * middle + size] < key:
            low = middle + 1
        else:
            high = middle
    return low


def pair_at(pager: Pager, pgid: int, leaf: EvenLeaf, index: int) -> int:
    """Where in the file pair `index` of the leaf at page `pgid` begins."""
    return pgid * pager.page_bytes + leaf.shape.start + index * leaf.shape.step


def change_even(page: bytes, pgid: int, least: int, key: bytes, value: bytes | None) -> Parts | None:
    """The page after one change: its parts, or () if nothing changes; None if that is a case for nodes.

    Such are leaves that aren't even, or wouldn't be any more; a change of the first key, a split, a leaf of less than
    `least` bytes; and a wrong checksum. `page` is the whole page.
    """
    crc = page[-4:]
    page = page[:-4]
    shape = looks_even(page, pgid)
    if shape is None or crc32c(page) != int.from_bytes(crc, "little"):
        return None
    room = len(page) - 4
    key_size, value_size, step, start, count, _, _, _ = shape
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        at = start + step * middle
        if page[at : at + key_size] < key:
            low = middle + 1
        else:
            high = middle
    at = start + step * low
    end = start + step * count
    found = low < count and page[at : at + key_size] == key
    if value is None:
        if not found:
            return ()
        if not low or end - step - ELEMENT_BYTES < least:
            return None
        head = _shape(count - 1, key_size, value_size).head
        padding = bytes(room - end + step + ELEMENT_BYTES)
        return head, page[start:at], page[at + step : end], padding, TRAILER_MAGIC
    if len(value) != value_size:
        return None
    if found:
        at += key_size
        return page[8:at], value, page[at + value_size :]
    if not low or len(key) != key_size or end + step + ELEMENT_BYTES > room or count + 1 >= MAX_COUNT:
        return None
    head = _shape(count + 1, key_size, value_size).head
    padding = bytes(room - end - step - ELEMENT_BYTES)
    return head, page[start:at], key, value, page[at:end], padding, TRAILER_MAGIC
