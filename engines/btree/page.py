"""Pages: the bytes of branches and leaves, exactly as bbolt lays them out, and a checksum in the room it leaves.

A file is a row of pages of one size (4,096 bytes by default); page i begins at byte i x page size. A node that needs
more than one page takes several in a row: a *run*, whose first page alone has a header.

    page header, 16 bytes                     branch element, 16 bytes       leaf element, 16 bytes
    OFFSET SIZE FIELD                         OFFSET SIZE FIELD              OFFSET SIZE FIELD
    0      8    id, the page's own number     0      4    pos                0      4    flags: 1 = value is a bucket
    8      2    flags: 1 branch, 2 leaf,      4      4    size of the key    4      4    pos
                4 meta, 16 freelist           8      8    child's page id    8      4    size of the key
    10     2    count of elements                                            12     4    size of the value
    12     4    overflow: pages that follow

    leaf of {a: 1}   [header][0, 16, 1, 1]a1            `pos` counts from the start of its own element to its data
                             |<--- 16 --->|

Elements follow the header, then the data, key after value after key, in the order of the elements and without gaps.
All integers are little-endian. The rest of the run is zeros, but for its last 8 bytes, the *trailer*:

    CRC1 | CRC-32C of everything in the run before it, header and zeros included

bbolt ignores the trailer, and writes zeros there: a run without one is *unchecked*, not damaged. Where data reaches into
the last 8 bytes there is no trailer either, because our own nodes leave room for it.

Invariants of every run that this module writes:

1. keys ascend strictly; data is packed: element i's data ends where element i+1's begins.
2. size of the node + 8 <= pages in the run x page size, and one page fewer would not do.

An insert into a leaf moves every `pos` behind it and before it by the same amount; `splice_leaf` adds that amount to all
of them at once, as one addition of two long integers, which is three times faster than encoding the leaf again.

Follows bbolt's internal/common/page.go and inode.go. Left out: big-endian machines (bbolt writes the machine's own
order, and so its files don't travel between the two kinds either).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from itertools import accumulate, chain, islice
from operator import add, lt, sub

from crc32c import crc32c

__all__ = [
    "BRANCH",
    "ELEMENT_BYTES",
    "FREELIST",
    "HEADER_BYTES",
    "LEAF",
    "MAX_COUNT",
    "META",
    "TRAILER_BYTES",
    "BucketValue",
    "PageError",
    "branch_body",
    "dump",
    "has_buckets",
    "header",
    "kind",
    "leaf_body",
    "patch_child",
    "read_branch",
    "read_leaf",
    "run_pages",
    "seal",
    "splice_leaf",
    "values_of",
    "verify_seal",
]

BRANCH, LEAF, META, FREELIST = 0x01, 0x02, 0x04, 0x10
HEADER_BYTES = 16
ELEMENT_BYTES = 16
TRAILER_BYTES = 8
MAX_COUNT = 0xFFFE  # bbolt keeps 0xFFFF for freelists whose count doesn't fit
TRAILER_MAGIC = b"CRC1"
BUCKET_FLAG = 0x01

header = struct.Struct("<QHHI")  # id, flags, count, overflow
_element = struct.Struct("<IIII")
_u32 = struct.Struct("<I")
_u64 = struct.Struct("<Q")


class PageError(ValueError):
    """Bytes that are no page; whoever knows the path and the offset makes a CorruptionError of it."""


class BucketValue(bytes):
    """A leaf's value that is a bucket: 16 bytes of root page id and sequence, or those and an inline page."""

    __slots__ = ()


def run_pages(node_bytes: int, page_bytes: int) -> int:
    """How many pages a node of `node_bytes`, header included, takes together with its trailer."""
    return (node_bytes + TRAILER_BYTES + page_bytes - 1) // page_bytes


def seal(pgid: int, flags: int, count: int, body: bytes, run_bytes: int, pages: int) -> tuple[bytes, int]:
    """The run of `pages` that holds `body` (elements and data, or page ids) behind a header: (its bytes, its checksum)."""
    padding = bytes(run_bytes - HEADER_BYTES - len(body) - TRAILER_BYTES)
    run = b"".join((header.pack(pgid, flags, count, pages - 1), body, padding, TRAILER_MAGIC))
    crc = crc32c(run)
    return run + _u32.pack(crc), crc


def verify_seal(run: bytes, used: int) -> int | None:
    """The checksum of a run whose data ends at byte `used`; None if the run has no trailer. Raises PageError."""
    if used > len(run) - TRAILER_BYTES or run[-8:-4] != TRAILER_MAGIC:
        return None
    stored: int = _u32.unpack_from(run, len(run) - 4)[0]
    found = crc32c(memoryview(run)[:-4])
    if stored != found:
        raise PageError(f"its checksum should be {stored:08x}, and its bytes give {found:08x}")
    return stored


# ------------------------------------------------------------------------------------------------------------ decoding


def _elements(run: bytes, count: int) -> array[int]:
    end = HEADER_BYTES + ELEMENT_BYTES * count
    if end > len(run):
        raise PageError(f"its {count} elements end at byte {end}, and it has {len(run)}")
    elements = array("I")
    elements.frombytes(run[HEADER_BYTES:end])
    return elements


def _check_data(starts: list[int], ends: list[int], count: int, limit: int) -> int:
    """The end of the data. Raises PageError if any of it lies outside of the run, or in the elements."""
    if not count:
        return HEADER_BYTES
    used = max(ends)
    if used > limit or min(starts) < HEADER_BYTES + ELEMENT_BYTES * count:
        raise PageError(f"an element's data lies outside of its {limit} bytes")
    return used


def _check_order(keys: list[bytes]) -> None:
    if not all(map(lt, keys, islice(keys, 1, None))):
        raise PageError("its keys don't ascend")


def read_leaf(run: bytes, count: int) -> tuple[list[bytes], list[bytes], int, bool]:
    """A leaf's keys, its values (BucketValue where flagged), the end of its data, and whether that is packed.

    Raises PageError if the keys don't ascend or the data doesn't lie within the run. O(bytes).
    """
    elements = _elements(run, count)
    starts = list(map(add, elements[1::4], range(HEADER_BYTES, HEADER_BYTES + ELEMENT_BYTES * count, ELEMENT_BYTES)))
    middles = list(map(add, starts, elements[2::4]))
    ends = list(map(add, middles, elements[3::4]))
    used = _check_data(starts, ends, count, len(run))
    keys = [run[start:middle] for start, middle in zip(starts, middles)]
    values = [run[middle:end] for middle, end in zip(middles, ends)]
    _check_order(keys)
    flags = elements[0::4]
    if any(flags):
        values = [BucketValue(value) if flag & BUCKET_FLAG else value for flag, value in zip(flags, values)]
    packed = not count or (starts[0] == HEADER_BYTES + ELEMENT_BYTES * count and starts[1:] == ends[:-1])
    return keys, values, used, packed


def read_branch(run: bytes, count: int) -> tuple[list[bytes], array[int], int]:
    """A branch's keys, its children's page ids, and the end of its data; as `read_leaf`."""
    elements = _elements(run, count)
    if not count:
        raise PageError("a branch has no elements")
    starts = list(map(add, elements[0::4], range(HEADER_BYTES, HEADER_BYTES + ELEMENT_BYTES * count, ELEMENT_BYTES)))
    ends = list(map(add, starts, elements[1::4]))
    used = _check_data(starts, ends, count, len(run))
    keys = [run[start:end] for start, end in zip(starts, ends)]
    _check_order(keys)
    words = array("Q")
    words.frombytes(elements.tobytes())
    return keys, words[1::2], used


def values_of(body: bytes, count: int) -> list[bytes]:
    """The values in a leaf's body that was written by this module and has no buckets."""
    elements = array("I", body[: ELEMENT_BYTES * count])
    starts = map(add, map(add, elements[1::4], elements[2::4]), range(0, ELEMENT_BYTES * count, ELEMENT_BYTES))
    return [body[start : start + size] for start, size in zip(starts, elements[3::4])]


def has_buckets(run: bytes, count: int) -> bool:
    """True if some element of a leaf is flagged as a bucket. Raises PageError."""
    return any(_elements(run, count)[0::4])


# ------------------------------------------------------------------------------------------------------------ encoding


def leaf_body(keys: list[bytes], values: list[bytes]) -> bytes:
    """The elements and the data of a leaf. O(bytes); three strided copies in place of one pack for each element."""
    count = len(keys)
    key_sizes = array("I", map(len, keys))
    value_sizes = array("I", map(len, values))
    ends = accumulate(map(add, key_sizes, value_sizes), initial=ELEMENT_BYTES * count)
    elements = array("I", bytes(ELEMENT_BYTES * count))
    elements[1::4] = array("I", map(sub, ends, range(0, ELEMENT_BYTES * count, ELEMENT_BYTES)))
    elements[2::4] = key_sizes
    elements[3::4] = value_sizes
    if BucketValue in map(type, values):
        elements[0::4] = array("I", (type(value) is BucketValue for value in values))
    return b"".join((elements.tobytes(), *chain.from_iterable(zip(keys, values))))


def branch_body(keys: list[bytes], children: array[int]) -> bytes:
    """The elements and the data of a branch."""
    count = len(keys)
    key_sizes = array("I", map(len, keys))
    ends = accumulate(key_sizes, initial=ELEMENT_BYTES * count)
    elements = array("I", bytes(ELEMENT_BYTES * count))
    elements[0::4] = array("I", map(sub, ends, range(0, ELEMENT_BYTES * count, ELEMENT_BYTES)))
    elements[1::4] = key_sizes
    words = array("Q", elements.tobytes())
    words[1::2] = children
    return b"".join((words.tobytes(), *keys))


def patch_child(body: bytes, index: int, pgid: int) -> bytes:
    """A branch's body with another page id in element `index`."""
    at = ELEMENT_BYTES * index + 8
    return b"".join((body[:at], _u64.pack(pgid), body[at + 8 :]))


SPLICE_LIMIT = 256  # elements; beyond it the long integers cost more than encoding anew

# _POS[n] has a 1 in the place of `pos` of each of n leaf elements, read as one little-endian integer
_POS = list(accumulate((1 << (128 * i + 32) for i in range(SPLICE_LIMIT)), initial=0))


def splice_leaf(body: bytes, count: int, index: int, removed: int, key: bytes, value: bytes | None) -> bytes:
    """A packed leaf's body with one element changed, as `leaf_body` of the changed lists would give it.

    Inserts at `index` (removed = 0), or replaces the element there (removed = 1: the bytes are `key`'s own and the
    flags stay), or deletes it (value is None; `key` is the key that goes). Requires: count <= SPLICE_LIMIT - 1.
    """
    table = ELEMENT_BYTES * count
    at = ELEMENT_BYTES * index
    if index < count:
        flags, pos, old_key, old_value = _element.unpack_from(body, at)
        start = at + pos
    else:
        flags, start = 0, len(body)
    if value is None:
        gap = old_key + old_value
        elements = body[:at] + body[at + ELEMENT_BYTES : table]
        shift = -ELEMENT_BYTES * _POS[index] - gap * (_POS[count - 1] - _POS[index])
        moved = (int.from_bytes(elements, "little") + shift).to_bytes(table - ELEMENT_BYTES, "little")
        return b"".join((moved, body[table:start], body[start + gap :]))
    size = len(key) + len(value)
    if removed:
        grown = size - old_key - old_value
        if grown == 0:
            return b"".join((body[: start + old_key], value, body[start + size :]))
        elements = b"".join(
            (body[:at], _element.pack(flags, pos, old_key, len(value)), body[at + ELEMENT_BYTES : table])
        )
        shift = grown * (_POS[count] - _POS[index + 1])
        moved = (int.from_bytes(elements, "little") + shift).to_bytes(table, "little")
        return b"".join((moved, body[table : start + old_key], value, body[start + old_key + old_value :]))
    new = _element.pack(isinstance(value, BucketValue), start - at, len(key), len(value))
    elements = b"".join((body[:at], new, body[at:table]))
    shift = ELEMENT_BYTES * _POS[index + 1] + size * (_POS[count + 1] - _POS[index + 1])
    moved = (int.from_bytes(elements, "little") + shift).to_bytes(table + ELEMENT_BYTES, "little")
    return b"".join((moved, body[table:start], key, value, body[start:]))


# ---------------------------------------------------------------------------------------------------------------- dump

_KINDS = {BRANCH: "branch", LEAF: "leaf", META: "meta", FREELIST: "freelist"}


def kind(flags: int) -> str:
    """The name of a page's kind, or its flags in hex."""
    return _KINDS.get(flags, f"unknown (flags {flags:#06x})")


def dump(run: bytes) -> Iterator[str]:
    """A branch or leaf in words, one line for each element; damaged pages as far as they make sense."""
    pgid, flags, count, overflow = header.unpack_from(run)
    yield f"page {pgid}: {kind(flags)}, {count} elements, {overflow} overflow pages"
    try:
        if flags == LEAF:
            keys, values, used, _ = read_leaf(run, count)
            yield from _dump_pairs(keys, values, 1)
        elif flags == BRANCH:
            keys, children, used = read_branch(run, count)
            for key, child in zip(keys, children):
                yield f"  {_short(key)} -> page {child}"
        else:
            return
        crc = verify_seal(run, used)
        yield "  unchecked" if crc is None else f"  checksum {crc:08x}"
    except PageError as error:
        yield f"  damaged: {error}"


DEEPEST_DUMP = 16  # inline buckets have none inside, if bbolt wrote them


def _short(data: bytes, limit: int = 40) -> str:
    return repr(data) if len(data) <= limit else f"{data[:limit]!r}... ({len(data)} bytes)"


def _dump_pairs(keys: list[bytes], values: list[bytes], level: int) -> Iterator[str]:
    for key, value in zip(keys, values):
        if type(value) is BucketValue:
            yield from _dump_bucket(f"{'  ' * level}{_short(key)}", value, level)
        else:
            yield f"{'  ' * level}{_short(key)}: {_short(value)}"


def _dump_bucket(name: str, value: bytes, level: int) -> Iterator[str]:
    """A bucket's line, and what an inline one contains, one level further in. Raises PageError."""
    if len(value) < 16:
        raise PageError(f"a bucket's value has {len(value)} bytes, and should have 16 at least")
    root, sequence = _u64.unpack_from(value)[0], _u64.unpack_from(value, 8)[0]
    counted = f", sequence {sequence}" if sequence else ""
    if root:
        yield f"{name}: bucket, root page {root}{counted}"
        return
    page = value[16:]
    if len(page) < HEADER_BYTES:
        raise PageError(f"an inline bucket has {len(page)} bytes, and its header alone has {HEADER_BYTES}")
    _, flags, count, _ = header.unpack_from(page)
    if flags != LEAF:
        raise PageError(f"an inline bucket should be a leaf, and is a {kind(flags)}")
    yield f"{name}: inline bucket, {count} elements{counted}"
    if level < DEEPEST_DUMP:
        keys, values, _, _ = read_leaf(page, count)
        yield from _dump_pairs(keys, values, level + 1)
