"""Opening a directory: what its files say, what a power cut may have left in them, and what is damage.

For each data file, oldest first, the keys come from its hint if that is whole, else from its records; the later record
of a key wins, whatever the timestamps say. A file whose hint was missing gets one now.

A bad record is one of two things. **A torn tail**: the power was cut while it was being written. It was never
acknowledged, and is cut off. **Damage**: it was on the disk, and no longer is what was written. That is a
`CorruptionError`, never a shorter history. Which of the two it is:

1. Only the newest file can have a torn tail (invariant 2 of engines.bitcask.segment), and only if it has no hint.
2. Behind a torn tail there may be whole records, because what wasn't synced reaches the disk in any order. But there is
   no mark (engines.bitcask.record) that says that the bad record was on the disk.
3. So damage to synced records is told from a torn tail, except for what was synced after the last mark before a crash:
   the last 4 KiB, and less if there are batches.

What is torn goes as a whole: a batch from its mark on, an overwrite from its tombstone on (engines.bitcask.record).
What is kept is synced before anybody can read it, since the page cache may hold what the disk doesn't, and a reader may
not be told what the next power cut takes back.

Riak cuts nothing: it skips bad records, gives up on a file after twenty of them, and leaves its torn tails behind when
it starts the next file. `repair=True` opens such directories, by cutting *every* file at its first bad record.

Follows bitcask:scan_key_files and bitcask_fileops:fold of basho/bitcask, which have no rule 1 and no rule 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from zlib import crc32

from engines.bitcask.hint import TOMBSTONE_BIT, BadHint, Entry, decode_hint, encode_entry, encode_hint, hint_reach
from engines.bitcask.keydir import OFFSET_MASK, SEGMENT_SHIFT, SIZE_BITS, SIZE_MASK, Keydir
from engines.bitcask.record import (
    HEADER_BYTES,
    MARK_BYTES,
    MARK_MAGIC,
    BadRecord,
    Mark,
    half_of_overwrite,
    is_tombstone,
    parse_mark,
    read_records,
)
from engines.bitcask.segment import Segment, SegmentTable, data_file_id, data_path, hint_path
from engines.env import Env, View
from engines.errors import CorruptionError

__all__ = ["directory_has_segments", "forget_mark", "hint_of", "load_entries", "recover", "scan_entries", "sweep"]

PENDING_DELETE = 0o4001  # permission bits with which Riak marks a data file that it is about to delete
SEARCH_BYTES = 1 << 20


def sweep(table: SegmentTable) -> list[int]:
    """Removes what no reader may see, and returns the ids of the data files that are left, ascending.

    It removes unfinished files of merges and loads, data files that Riak has given up, hints without data. `next_id`
    is behind every id that was seen. Files and directories with other names are let alone.
    """
    env, directory = table.env, table.directory
    found: dict[str, set[int]] = {"data": set(), "hint": set(), "data.new": set(), "hint.new": set()}
    for name in env.list(directory):
        file = data_file_id(name)
        if file is None:
            continue
        file_id, kind = file
        table.next_id = max(table.next_id, file_id + 1)
        if env.is_dir(f"{directory}/{name}"):
            continue  # somebody's, but no other file can have its name
        found[kind].add(file_id)
        if kind.endswith(".new"):
            env.unlink(f"{directory}/{name}")
        elif kind == "data" and env.mode(f"{directory}/{name}") & PENDING_DELETE:
            env.unlink(f"{directory}/{name}")
            found["data"].discard(file_id)
    for file_id in found["hint"] - found["data"]:
        env.unlink(hint_path(directory, file_id))
    return sorted(found["data"])


def recover(table: SegmentTable, keydir: Keydir, *, repair: bool = False) -> None:
    """Fills `table` and `keydir` from the directory. Raises CorruptionError, OSError.

    Cost: 0.6 µs for each key of a file with a hint; for a file without, all of it is read and its checksums verified.
    """
    file_ids = sweep(table)
    for file_id in file_ids:
        segment = _open_segment(table, keydir, file_id, may_be_torn=file_id == file_ids[-1], repair=repair)
        if segment.end == 0:
            table.env.unlink(hint_path(table.directory, file_id))
            table.env.unlink(data_path(table.directory, file_id))
            table.views.pop(file_id, None)
            del table.live[file_id]
    forget_mark(table, keydir, table.live)


def _open_segment(table: SegmentTable, keydir: Keydir, file_id: int, *, may_be_torn: bool, repair: bool) -> Segment:
    """Brings the keys of one file into the keydir, from its hint or from its records."""
    table.live[file_id] = segment = Segment(file_id)
    view = table.view(file_id)
    size = len(view)
    hint = _read_hint(table, segment, size)
    if hint is not None:
        segment.end = size
        load_entries(keydir, table.live, segment, decode_hint(hint))
        return segment
    try:
        scanned, segment.end = scan_entries(view, size, file_id)
    except BadRecord as bad:
        why = None
        if not may_be_torn:
            why = "only the newest file may end in a torn record"
        elif (synced := _witness(view, bad.offset, size, file_id)) is not None:
            why = f"a later mark says that all before byte {synced:,} was on the disk"
        if why is not None and not repair:
            raise CorruptionError(data_path(table.directory, file_id), bad.offset, f"{bad.why}; {why}") from bad
        scanned, segment.end = _whole_part(view, bad.offset, file_id)
    table.stats.bytes_read += segment.end
    _keep(table, segment, size)
    table.write_hint(segment, hint_of(scanned))
    load_entries(keydir, table.live, segment, scanned)
    table.last_timestamp = max(table.last_timestamp, hint_reach(scanned)[1])
    return segment


def _keep(table: SegmentTable, segment: Segment, size: int) -> None:
    """Makes what was found in a file durable, and cuts off the rest."""
    table.views.pop(segment.id, None)  # no view may be longer than its file
    file = table.env.open(data_path(table.directory, segment.id), "r+")
    try:
        if segment.end < size:
            file.truncate(segment.end)
        table.sync(file, "bitcask.recover")
    finally:
        file.close()


def _read_hint(table: SegmentTable, segment: Segment, size: int) -> bytes | None:
    """The segment's hint, if it is whole and of this file; None if the data file has to be read instead.

    It is gone through here, and once more by the caller: a list of its entries would take 200 bytes for each key.

    Raises CorruptionError if a hint that is whole lists a record beyond the end of the data: the file was cut.
    """
    path = hint_path(table.directory, segment.id)
    if not table.env.exists(path):
        return None
    file = table.env.open(path, "r")
    try:
        data = file.pread(file.size(), 0)
    finally:
        file.close()
    table.stats.bytes_read += len(data)
    try:
        reach, newest = hint_reach(decode_hint(data))
    except BadHint:
        return None
    if reach > size:
        why = f"the file ends here, and its hint lists a record that ends at byte {reach:,}"
        raise CorruptionError(data_path(table.directory, segment.id), size, why)
    segment.hint_bytes = len(data)
    if reach != size:
        return None
    table.last_timestamp = max(table.last_timestamp, newest)
    return data


def hint_of(entries: Iterable[Entry]) -> bytes:
    """A hint file with these entries."""
    return encode_hint(encode_entry(*entry) for entry in entries)


def load_entries(keydir: Keydir, segments: dict[int, Segment], segment: Segment, entries: Iterable[Entry]) -> None:
    """Brings the keys of a segment into the keydir, over those of older segments."""
    places, base = keydir.places, segment.id << SEGMENT_SHIFT
    get, pop = places.get, places.pop
    live = tombstones = 0
    for _, size, offset, key in entries:
        if offset & TOMBSTONE_BIT:
            old = pop(key, None)
            tombstones += size
        else:
            old = get(key)
            places[key] = base | offset << SIZE_BITS | size
            live += size
        if old is not None:
            segments[old >> SEGMENT_SHIFT].live_bytes -= old & SIZE_MASK
    segment.live_bytes += live  # negative before, if a hint lists a key twice
    segment.tombstone_bytes += tombstones


def forget_mark(table: SegmentTable, keydir: Keydir, segments: dict[int, Segment]) -> None:
    """Takes the empty key out of the keydir if it is a mark. (A user of Riak may have stored something under it.)"""
    place = keydir.places.get(b"")
    if place is None or place & SIZE_MASK != MARK_BYTES:
        return
    segment = segments[place >> SEGMENT_SHIFT]
    offset = place >> SIZE_BITS & OFFSET_MASK
    if table.view(segment.id)[offset + HEADER_BYTES : offset + HEADER_BYTES + len(MARK_MAGIC)] == MARK_MAGIC:
        del keydir.places[b""]
        segment.live_bytes -= MARK_BYTES


def scan_entries(view: View, stop: int, file_id: int) -> tuple[list[Entry], int]:
    """What a hint of this file would say, from its records up to `stop`, and the end of the last one.

    Every checksum is verified, those of batches too. Raises BadRecord at the first record that isn't whole, or at the
    mark or the tombstone that is worth nothing without it.
    """
    found: dict[bytes, tuple[int, int, int]] = {}
    end = batch_end = batch_offset = 0
    half: int | None = None  # where a tombstone lies that waits for its value
    half_key = b""
    try:
        for offset, timestamp, key, value in read_records(view, 0, stop):
            size = HEADER_BYTES + len(key) + len(value)
            end = offset + size
            if half is not None and key != half_key:
                half = None  # a tombstone that was moved here, and stands for itself
            if is_tombstone(value):
                if half is None and half_of_overwrite(timestamp, value, file_id):
                    half, half_key = offset, key
                found[key] = (timestamp, size, offset | TOMBSTONE_BIT)
                continue
            half = None
            found[key] = (timestamp, size, offset)
            if not key and (mark := _own_mark(value, offset, file_id)) is not None and mark.records:
                _check_batch(view, offset, end, stop, mark)
                batch_offset, batch_end = offset, end + mark.size_bytes
    except BadRecord as bad:
        if half is not None:
            raise BadRecord(half, f"an overwrite ends in the middle, and {bad}") from bad
        if batch_end > bad.offset:
            raise BadRecord(batch_offset, f"the records of a batch are not what its mark says, and {bad}") from bad
        raise
    if half is not None:
        raise BadRecord(half, "an overwrite ends in the middle: its tombstone is here, and its value is not")
    return [(timestamp, size, offset, key) for key, (timestamp, size, offset) in found.items()], end


def _whole_part(view: View, stop: int, file_id: int) -> tuple[list[Entry], int]:
    """`scan_entries` of what is whole before `stop`, at which a bad record begins.

    A tombstone that one of Riak's merges had moved there may now be the last record, and looks like half of an overwrite.
    It goes too: the merge was not done, so what it had moved is still where it came from.
    """
    while True:
        try:
            return scan_entries(view, stop, file_id)
        except BadRecord as bad:
            stop = bad.offset


def _own_mark(value: bytes, offset: int, file_id: int) -> Mark | None:
    """The mark in a record with the empty key, if this is where it was written."""
    mark = parse_mark(b"", value)
    return mark if mark is not None and (mark.file_id, mark.offset) == (file_id, offset) else None


def _check_batch(view: View, offset: int, start: int, stop: int, mark: Mark) -> None:
    """Raises BadRecord at the mark unless all of its batch is there."""
    if start + mark.size_bytes > stop:
        left = stop - start
        raise BadRecord(offset, f"a batch of {mark.size_bytes:,} bytes is announced here, and {left:,} bytes are left")
    if crc32(view[start : start + mark.size_bytes]) != mark.crc:
        raise BadRecord(offset, f"the {mark.records:,} records of the batch that is announced here are not all there")


def _witness(view: View, bad: int, stop: int, file_id: int) -> int | None:
    """How far the file was synced, if a mark behind the bad record says that it was synced beyond it; else None."""
    for at in _find_all(view, MARK_MAGIC, bad + 1, stop):
        offset = at - HEADER_BYTES
        try:
            _, _, key, value = next(read_records(view, offset, min(stop, offset + MARK_BYTES)))
        except BadRecord:
            continue
        mark = _own_mark(value, offset, file_id) if not key else None
        if mark is not None and mark.synced > bad:
            return mark.synced
    return None


def _find_all(view: View, what: bytes, start: int, stop: int) -> Iterator[int]:
    """Where `what` occurs in view[start:stop]."""
    while start < stop:
        window = view[start : min(stop, start + SEARCH_BYTES)]
        at = window.find(what)
        while at >= 0:
            yield start + at
            at = window.find(what, at + 1)
        start += max(1, len(window) - len(what) + 1)


def directory_has_segments(env: Env, directory: str) -> bool:
    """True if a file in the directory is named like one of Bitcask's data files."""
    return any((file := data_file_id(name)) is not None and file[1] == "data" for name in env.list(directory))
