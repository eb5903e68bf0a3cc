"""Where a data file stops being whole: is that a torn end, or damage?

**A torn end** is what a crash leaves of a record that was being written. It was never acknowledged. **Damage** was on the
disk, and no longer is what was written. A torn end is cut off, damage is a `CorruptionError`: never a shorter history.

A bad record is damage, in any file, if

1. the file's hint is whole and lists records that end after it: then the file was closed, and this was in it;
2. a later mark says that everything before some later byte was on the disk (engines.bitcask.record).

Else, in the **newest** file, it is a torn end. There may be whole records after it, because what isn't synced reaches
the disk in any order. So damage is told from a torn end except for what was synced after the last mark before a crash:
the last 4 KiB, and less if there are batches.

An **older** file of ours can't have a torn end (invariant 2 of engines.bitcask.segment). Riak's can: after a crash it
leaves the file as it is, and begins the next one; and it does so with a file that a killed store of ours has left. So
in an older file the bad record is damage unless

3. the file was never closed: it has a hint without a trailer, which is how Riak's looks until it closes it, or zeros
   after its records, which is how ours looks;
4. it is the last thing in the file: it begins and the file ends, or nothing but zeros comes after it;
5. and no whole record lies anywhere after its first byte: a length that was damaged may lead to the end of the file,
   over records that are there.

Follows nothing of basho/bitcask, which skips bad records and gives up on a file after twenty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from engines.bitcask.record import HEADER, HEADER_BYTES, MARK_BYTES, MARK_MAGIC, BadRecord, read_records
from engines.bitcask.scan import own_mark
from engines.env import View

__all__ = ["DataFile", "find_marks", "why_damage"]

SEARCH_BYTES = 1 << 20
VALUE_SIZE_AT = 10  # in a record's header
SEARCH_COST = 256  # bytes that may be summed for each byte that is searched, 0.2 µs at most
FREE_COST = 64 << 20  # and besides


@dataclass(frozen=True, slots=True)
class DataFile:
    """What is known of a data file before its records are read."""

    view: View
    size: int
    file_id: int
    newest: bool
    reach: int = 0  # where the last record ends that a whole hint lists; 0 without one
    left_open: bool = False  # it has a hint, and that has no trailer


def why_damage(file: DataFile, bad: BadRecord) -> str | None:
    """Why the bad record is damage; None for a torn end. O(bytes after it)."""
    view, size = file.view, file.size
    if bad.broken < file.reach:
        return f"its hint, which is whole, lists records up to byte {file.reach:,}"
    for synced in _synced(view, bad.offset, size, file.file_id):
        if synced > bad.offset:
            return f"a later mark says that all before byte {synced:,} was on the disk"
    if file.newest:
        return None
    end = _end_of_content(view, bad.broken, size)
    if bad.broken < end and size - bad.broken >= HEADER_BYTES:
        _, _, key_size, value_size = HEADER.unpack(view[bad.broken : bad.broken + HEADER_BYTES])
        claimed = bad.broken + HEADER_BYTES + key_size + value_size
        if claimed == size or claimed < end:
            return "it has its length, and more follows or the file ends with it: a torn record is cut off"
        never_closed = file.left_open or claimed < size
    else:
        never_closed = file.left_open or bad.broken == end < size
    if not never_closed:
        return "only the newest file may end in a torn record, or one that was never closed"
    return _why_not_the_last(view, bad.broken + 1, end)


def find_marks(view: View, start: int, stop: int, file_id: int) -> Iterator[tuple[int, int]]:
    """(offset, synced) of each mark between the two that stands where it was written: it proves its own place."""
    for at in _find_all(view, MARK_MAGIC, start, stop):
        offset = at - HEADER_BYTES
        if offset < start:
            continue
        try:
            _, _, key, value = next(read_records(view, offset, min(stop, offset + MARK_BYTES)))
        except BadRecord:
            continue
        if not key and (mark := own_mark(value, offset, file_id)) is not None:
            yield offset, mark.synced


def _synced(view: View, bad: int, stop: int, file_id: int) -> Iterator[int]:
    """How far the file was synced, as each mark after the bad record says."""
    return (synced for _, synced in find_marks(view, bad + 1, stop, file_id))


def _find_all(view: View, what: bytes, start: int, stop: int) -> Iterator[int]:
    """Where `what` occurs in view[start:stop]."""
    while start < stop:
        window = view[start : min(stop, start + SEARCH_BYTES)]
        at = window.find(what)
        while at >= 0:
            yield start + at
            at = window.find(what, at + 1)
        start += max(1, len(window) - len(what) + 1)


def _end_of_content(view: View, start: int, stop: int) -> int:
    """Where the zeros begin that lead to `stop`; `start` if there is nothing else."""
    while stop > start:
        begin = max(start, stop - SEARCH_BYTES)
        content = len(view[begin:stop].rstrip(b"\x00"))
        if content:
            return begin + content
        stop = begin
    return start


def _why_not_the_last(view: View, start: int, stop: int) -> str | None:
    """Says where a record with a right checksum begins, at whatever byte; None if there is none. O(bytes).

    A value size that fits is no greater than the number of bytes, so only places with such a first byte are looked at.
    What is there may be anything, and lead to long sums: a search that would cost too much is given up, as damage.
    """
    if stop - start < HEADER_BYTES:
        return None
    left = SEARCH_COST * (stop - start) + FREE_COST
    greatest = min(stop - start, 0xFFFF_FFFF).to_bytes(4).lstrip(b"\0")
    fitting = re.compile(b"(?=%b[\\x00-\\x%02x])" % (bytes(4 - len(greatest)), greatest[0]), re.DOTALL)
    for base in range(start, stop, SEARCH_BYTES):
        window = view[base : min(stop, base + SEARCH_BYTES + HEADER_BYTES - 1)]
        for found in fitting.finditer(window, VALUE_SIZE_AT):
            at = found.start() - VALUE_SIZE_AT
            if at > len(window) - HEADER_BYTES:
                break
            crc, _, key_size, value_size = HEADER.unpack_from(window, at)
            size = HEADER_BYTES + key_size + value_size
            if base + at + size <= stop:
                left -= size
                if left < 0:
                    return "what comes after it may be records, at more places than can be tried"
                if crc32(view[base + at + 4 : base + at + size]) == crc:
                    return f"only the last record may be torn, and there is a whole one at byte {base + at:,}"
    return None
