"""A data file from end to end, as a hint would list it: the last record of each key, and what belongs together checked.

    [mark][record][record]       a batch: all of its records are whole, or the file is whole up to the mark only
    [half][record]               an overwrite of a key in an older file: whole up to the half only, if the value isn't

Where a file stops being whole is one thing, and whose fault that is another: engines.bitcask.torn tells the two apart.

Follows bitcask_fileops:fold of basho/bitcask, which knows neither batches nor halves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter
from zlib import crc32

from engines.bitcask.hint import TOMBSTONE_BIT, Entry, encode_entry, encode_hint
from engines.bitcask.record import (
    HEADER_BYTES,
    MARK_BYTES,
    BadRecord,
    Mark,
    Record,
    half_of_overwrite,
    is_tombstone,
    parse_mark,
    read_records,
)
from engines.env import View

__all__ = ["hint_of", "own_mark", "scan_entries", "whole_part", "whole_records"]


def hint_of(entries: Iterable[Entry]) -> bytes:
    """A hint file with these entries, in the order of their keys.

    Riak's readers and ours ask for no order. With this one the next opening puts the keys into the keydir in order, so
    that the first scan has next to nothing to sort, and what a scan meets lies together in memory. O(n log n).
    """
    return encode_hint(encode_entry(*entry) for entry in sorted(entries, key=itemgetter(3)))


def scan_entries(view: View, stop: int, file_id: int) -> tuple[list[Entry], int]:
    """What a hint of the data file `file_id` would say, from its records in view[:stop]; and the end of the last one.

    One entry for each key, (timestamp, size, offset, key), of the *last* record of the key: its size with the header,
    and where it begins. If that is a tombstone, the offset has TOMBSTONE_BIT set. Timestamps decide nothing. The end is
    0 if there is no record.

    The records come from `whole_records`, which verifies them, and raises BadRecord at the first that doesn't count:
    that goes on to the caller. O(bytes), and memory for each key.
    """
    found: dict[bytes, tuple[int, int, int]] = {}
    end = 0
    for offset, timestamp, key, value in whole_records(view, stop, file_id):
        size = HEADER_BYTES + len(key) + len(value)
        found[key] = (timestamp, size, offset | TOMBSTONE_BIT if is_tombstone(value) else offset)
        end = offset + size
    return [(timestamp, size, offset, key) for key, (timestamp, size, offset) in found.items()], end


def whole_records(view: View, stop: int, file_id: int) -> Iterator[Record]:
    """The records in view[:stop], in order, as long as what belongs together is whole.

    Every checksum is verified, those of batches too. Raises BadRecord at the first record that isn't whole, or at the
    mark or the tombstone that doesn't count without it: some records that don't count have been handed out then.
    """
    batch_end = batch_offset = half_end = 0
    half: int | None = None  # where a tombstone lies that waits for its value
    half_key = b""
    try:
        for record in read_records(view, 0, stop):
            offset, timestamp, key, value = record
            if half is not None and key != half_key:
                half = None  # a tombstone that was moved here, and stands for itself
            if is_tombstone(value):
                if half is None and half_of_overwrite(timestamp, value, file_id):
                    half, half_key = offset, key
                half_end = offset + HEADER_BYTES + len(key) + len(value)
            else:
                half = None
                if not key and (mark := own_mark(value, offset, file_id)) is not None and mark.records:
                    end = offset + MARK_BYTES
                    _check_batch(view, offset, end, stop, mark)
                    batch_offset, batch_end = offset, end + mark.size_bytes
            yield record
    except BadRecord as bad:
        if half is not None:
            raise BadRecord(half, f"an overwrite ends in the middle, and {bad}", bad.broken) from bad
        if batch_end > bad.offset:
            why = f"the records of a batch are not what its mark says, and {bad}"
            raise BadRecord(batch_offset, why, bad.broken) from bad
        raise
    if half is not None:
        raise BadRecord(half, "an overwrite ends in the middle: its tombstone is here, and its value is not", half_end)


def whole_part(view: View, stop: int, file_id: int) -> tuple[list[Entry], int]:
    """`scan_entries` of what is whole before `stop`, at which a bad record begins.

    A tombstone that one of Riak's merges had moved there may now be the last record, and looks like half of an overwrite.
    It goes too: the merge was not done, so what it had moved is still where it came from.
    """
    while True:
        try:
            return scan_entries(view, stop, file_id)
        except BadRecord as bad:
            stop = bad.offset


def own_mark(value: bytes, offset: int, file_id: int) -> Mark | None:
    """The mark in a record with the empty key, if this is where it was written."""
    mark = parse_mark(b"", value)
    return mark if mark is not None and (mark.file_id, mark.offset) == (file_id, offset) else None


def _check_batch(view: View, offset: int, start: int, stop: int, mark: Mark) -> None:
    """Returns if the whole batch of a mark is there; else raises BadRecord(offset, a sentence, _broken(view, start, stop)).

    The mark lies at `offset` of the file, and its batch from `start` on: the next `mark.size_bytes` bytes, of which
    `mark.crc` is the crc32. The file's records end at `stop`, and what is behind that isn't there. O(bytes of the batch).
    """
    if start + mark.size_bytes > stop:
        left = stop - start
        why = f"a batch of {mark.size_bytes:,} bytes is announced here, and {left:,} bytes are left"
        raise BadRecord(offset, why, _broken(view, start, stop))
    if crc32(view[start : start + mark.size_bytes]) != mark.crc:
        why = f"the {mark.records:,} records of the batch that is announced here are not all there"
        raise BadRecord(offset, why, _broken(view, start, stop))


def _broken(view: View, start: int, stop: int) -> int:
    """Where the bytes from `start` on stop being records."""
    end = start
    try:
        for at, _, key, value in read_records(view, start, stop):
            end = at + HEADER_BYTES + len(key) + len(value)
    except BadRecord as bad:
        return bad.broken
    return end
