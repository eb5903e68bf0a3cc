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

1. Keys ascend strictly; data is *packed*: element i's data ends where element i+1's begins.
2. size of the node + 8 <= pages in the run x page size, and one page fewer would not do.

Follows bbolt's internal/common/page.go and inode.go. Left out: big-endian machines (bbolt writes the machine's own
order, and so its files don't travel between the two kinds either).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

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
    "TRAILER_MAGIC",
    "BucketValue",
    "PageError",
    "branch_body",
    "branch_element",
    "check_table",
    "check_unchecked",
    "dump",
    "header",
    "kind",
    "leaf_body",
    "leaf_element",
    "read_branch",
    "read_leaf",
    "run_pages",
    "verify_trailer",
    "with_trailer",
]

BRANCH, LEAF, META, FREELIST = 0x01, 0x02, 0x04, 0x10
HEADER_BYTES = 16
ELEMENT_BYTES = 16
TRAILER_BYTES = 8
MAX_COUNT = 0xFFFE  # bbolt keeps 0xFFFF for freelists whose count doesn't fit
TRAILER_MAGIC = b"CRC1"
BUCKET_FLAG = 0x01

header = struct.Struct("<QHHI")  # id, flags, count, overflow
leaf_element = struct.Struct("<IIII")  # flags, pos, size of the key, size of the value
branch_element = struct.Struct("<IIQ")  # pos, size of the key, child's page id
_u32 = struct.Struct("<I")
_bucket = struct.Struct("<QQ")


class PageError(ValueError):
    """Bytes that are no page; the pager, who knows the path and the offset, makes a CorruptionError of it."""


class BucketValue(bytes):
    """A leaf's value that is a bucket: 16 bytes of root page id and sequence, or those and an inline page."""

    __slots__ = ()


# ----------------------------------------------------------------------------------------------------------- whole runs


def run_pages(node_bytes: int, page_bytes: int) -> int:
    """How many pages a node of `node_bytes`, header included, takes together with its trailer."""
    return (node_bytes + TRAILER_BYTES + page_bytes - 1) // page_bytes


def with_trailer(pgid: int, flags: int, count: int, body: bytes, pages: int, page_bytes: int) -> tuple[bytes, int]:
    """The run of `pages` with a header, `body` (elements and data, or page ids) and a trailer: (its bytes, its checksum).

    `pgid` is the run's first page. Between body and trailer there are zeros. Requires: header, body and trailer fit, as
    `run_pages` has told the caller. O(bytes).
    """
    padding = bytes(pages * page_bytes - HEADER_BYTES - len(body) - TRAILER_BYTES)
    run = b"".join((header.pack(pgid, flags, count, pages - 1), body, padding, TRAILER_MAGIC))
    crc = crc32c(run)
    return run + _u32.pack(crc), crc


def verify_trailer(run: bytes, used: int) -> int | None:
    """The checksum of a run whose data ends at byte `used`; None if the run has no trailer.

    It has none if the data reaches into its last 8 bytes, or if these don't begin with TRAILER_MAGIC. Raises PageError if
    the stored checksum, a little-endian u32, isn't that of all bytes before it. O(bytes).
    """
    if used > len(run) - TRAILER_BYTES or run[-8:-4] != TRAILER_MAGIC:
        return None
    stored: int = _u32.unpack_from(run, len(run) - 4)[0]
    found = crc32c(memoryview(run)[:-4])
    if stored != found:
        raise PageError(f"its checksum should be {stored:08x}, and its bytes give {found:08x}")
    return stored


def check_unchecked(run: bytes, used: int, page_bytes: int) -> None:
    """Of a run without a checksum, the overflow field at least has to fit the data, which ends at byte `used`.

    bbolt takes as many pages as the data needs, old boltdb one more if that is a whole number of pages. Raises PageError.
    """
    pages, needed = len(run) // page_bytes, -(-used // page_bytes)
    if pages != needed and not (pages == needed + 1 and -used % page_bytes < TRAILER_BYTES):
        raise PageError(f"its data fits into {needed} pages, and it has {pages}")


# ------------------------------------------------------------------------------------------------------------- decoding


def check_table(run: bytes, count: int) -> int:
    """The byte at which the table of `count` elements ends. Raises PageError if the run is too short for it."""
    end = HEADER_BYTES + ELEMENT_BYTES * count
    if end > len(run):
        raise PageError(f"its {count} elements end at byte {end}, and it has {len(run)}")
    return end


def read_leaf(run: bytes, count: int) -> tuple[list[bytes], list[bytes], int, bool]:
    """A leaf's keys, its values (BucketValue where flagged), the end of its data, and whether that is packed.

    `run` is the whole run, page header included, and `count` what the header says; nothing in it can be trusted. The end
    is the highest byte that an element's data reaches, the end of the table if there is none. Packed: each element's data
    begins where the one before it ends, the first one's where the table ends. Raises PageError if the table is longer
    than the run (`check_table`), if an element's data doesn't lie between the table's end and the run's end, or if the
    keys don't ascend strictly. O(bytes).
    """
    keys: list[bytes] = []
    values: list[bytes] = []
    table_end = used = check_table(run, count)
    packed = True
    for at in range(HEADER_BYTES, table_end, ELEMENT_BYTES):
        flags, pos, key_size, value_size = leaf_element.unpack_from(run, at)
        start = at + pos
        middle = start + key_size
        end = middle + value_size
        if start < table_end or end > len(run):
            raise PageError(f"an element's data lies outside of its {len(run)} bytes")
        key, value = run[start:middle], run[middle:end]
        if keys and key <= keys[-1]:
            raise PageError("its keys don't ascend")
        keys.append(key)
        values.append(BucketValue(value) if flags & BUCKET_FLAG else value)
        packed = packed and start == used
        used = max(used, end)
    return keys, values, used, packed


def read_branch(run: bytes, count: int) -> tuple[list[bytes], list[int], int, bool]:
    """A branch's keys, its children's page ids, the end of its data, and whether that is packed; as `read_leaf`.

    Raises PageError, besides, if there are no elements.
    """
    keys: list[bytes] = []
    children: list[int] = []
    table_end = used = check_table(run, count)
    packed = True
    if not count:
        raise PageError("a branch has no elements")
    for at in range(HEADER_BYTES, table_end, ELEMENT_BYTES):
        pos, key_size, child = branch_element.unpack_from(run, at)
        start = at + pos
        end = start + key_size
        if start < table_end or end > len(run):
            raise PageError(f"an element's data lies outside of its {len(run)} bytes")
        key = run[start:end]
        if keys and key <= keys[-1]:
            raise PageError("its keys don't ascend")
        keys.append(key)
        children.append(child)
        packed = packed and start == used
        used = max(used, end)
    return keys, children, used, packed


# ------------------------------------------------------------------------------------------------------------- encoding


def leaf_body(keys: list[bytes], values: list[bytes]) -> bytes:
    """The elements and the data of a leaf, as they follow the page header. O(bytes).

    The flags are BUCKET_FLAG for a value that is a BucketValue, and 0 for others. Requires: as many values as keys, and
    keys that ascend strictly; the node's maker sees to both.
    """
    elements: list[bytes] = []
    data: list[bytes] = []
    pos = ELEMENT_BYTES * len(keys)  # from element 0 to its data: past all elements
    for key, value in zip(keys, values):
        flags = BUCKET_FLAG if type(value) is BucketValue else 0
        elements.append(leaf_element.pack(flags, pos, len(key), len(value)))
        data += (key, value)
        pos += len(key) + len(value) - ELEMENT_BYTES  # the next element lies 16 bytes nearer to the data
    return b"".join(elements + data)


def branch_body(keys: list[bytes], children: Sequence[int]) -> bytes:
    """The elements and the data of a branch, as they follow the page header. Requires: as many children as keys."""
    elements: list[bytes] = []
    pos = ELEMENT_BYTES * len(keys)
    for key, child in zip(keys, children):
        elements.append(branch_element.pack(pos, len(key), child))
        pos += len(key) - ELEMENT_BYTES
    return b"".join(elements + keys)


# ----------------------------------------------------------------------------------------------------------------- dump

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
            keys, children, used, _ = read_branch(run, count)
            for key, child in zip(keys, children):
                yield f"  {_short(key)} -> page {child}"
        else:
            return
        crc = verify_trailer(run, used)
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
    root, sequence = _bucket.unpack_from(value)
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
