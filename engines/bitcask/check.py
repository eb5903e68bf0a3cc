"""`check()` and `describe()`: reading everything and comparing, and the structure for people and pictures.

Each violation is one sentence that names the file and the byte. What is compared:

1. Every record of every segment has the checksum of its header, and the records fill the file; every batch is whole.
2. Every hint that is whole says what its data file says.
3. The keydir is what a fresh reading of all data files gives, places included; so are the live bytes of each segment.
4. The keys' order is that of the keydir. The files are those that the store knows.

Follows bbolt's Tx.Check in shape: all findings are returned, none is raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from engines.bitcask.hint import BadHint, Entry, decode_hint
from engines.bitcask.keydir import OFFSET_MASK, SEGMENT_SHIFT, SIZE_BITS, Keydir, load_entries
from engines.bitcask.record import BadRecord
from engines.bitcask.recovery import forget_mark
from engines.bitcask.scan import scan_entries
from engines.bitcask.segment import Segment, SegmentTable, data_file_id, data_path, hint_path
from engines.errors import StoreChanged
from engines.kvstore import Stats
from engines.lifetime import holding

if TYPE_CHECKING:
    from engines.bitcask.store import BitcaskStore

__all__ = ["check", "counters", "describe"]

SHOWN = 5  # differing keys that are told one by one


def check(store: BitcaskStore) -> list[str]:
    """All violations. Requires: the store's merging and writer locks. O(bytes of all segments)."""
    table = store._table
    fresh = Keydir()
    segments: dict[int, Segment] = {}
    problems: list[str] = []
    for file_id, segment in sorted(table.live.items()):
        segments[file_id] = Segment(file_id, segment.end)
        try:
            entries, end = scan_entries(table.view(file_id), segment.end, file_id)
        except BadRecord as bad:
            problems.append(f"{data_path(table.directory, file_id)} at byte {bad.offset}: {bad.why}")
            continue
        except (KeyError, StoreChanged, OSError) as error:
            problems.append(f"{data_path(table.directory, file_id)} can't be read: {error!r}")
            continue
        table.stats.bytes_read += end
        load_entries(fresh, segments, segments[file_id], entries)
        problems += _check_hint(table, segment, entries)
    if not problems:
        forget_mark(table, fresh, segments)
        problems += _compare(store, fresh, segments)
    if not table.read_only:  # else another program may make and remove files meanwhile
        problems += _check_names(table)
    return problems


def _check_hint(table: SegmentTable, segment: Segment, entries: list[Entry]) -> Iterator[str]:
    """A hint may be missing; one that is there says what the data says."""
    path = hint_path(table.directory, segment.id)
    if not table.env.exists(path) or (table.read_only and not segment.hint_bytes):
        return  # the second: recovery has found that it is not whole, as a crash leaves it, and has read the data
    file = table.env.open(path, "r")
    try:
        data = file.pread(file.size(), 0)
    finally:
        file.close()
    try:
        said = {entry[3]: entry for entry in decode_hint(data)}
    except BadHint as bad:
        yield f"{path}: {bad}"
        return
    for entry in entries:
        if said.pop(entry[3], None) != entry:
            yield f"{path}: it is wrong about the key {entry[3][:40]!r}, whose last record is at byte {entry[2]:#x}"
            return
    for key in said:
        yield f"{path}: it lists the key {key[:40]!r}, of which the data file has no record"


def _compare(store: BitcaskStore, fresh: Keydir, segments: dict[int, Segment]) -> Iterator[str]:
    """The keydir against a fresh one."""
    places, expected = store._keydir.places, fresh.places
    different = [key for key in expected.keys() | places.keys() if expected.get(key) != places.get(key)]
    for key in sorted(different)[:SHOWN]:
        yield f"the keydir has {_place(places.get(key))} for {key[:40]!r}, and the files {_place(expected.get(key))}"
    if len(different) > SHOWN:
        yield f"the keydir is wrong about {len(different) - SHOWN} more keys"
    for file_id, segment in segments.items():
        counted = store._table.live[file_id].live_bytes
        if counted != segment.live_bytes:
            yield f"segment {file_id} has {segment.live_bytes:,} live bytes, and the store counts {counted:,}"
    if store._keydir.order.made and not holding(store._mutex, store._keydir.order.check, places):
        yield "the keys' order is not that of the keydir"


def _place(place: int | None) -> str:
    if place is None:
        return "nothing"
    return f"byte {place >> SIZE_BITS & OFFSET_MASK} of segment {place >> SEGMENT_SHIFT}"


def _check_names(table: SegmentTable) -> Iterator[str]:
    """The data files are those that the store knows."""
    env, directory = table.env, table.directory
    names = [name for name in env.list(directory) if not env.is_dir(f"{directory}/{name}")]
    found = {file[0] for name in names if (file := data_file_id(name)) and file[1] == "data"}
    known = table.file_ids()
    for file_id in sorted(found - known):
        yield f"{data_path(table.directory, file_id)} is not one of the store's files"
    for file_id in sorted(known - found):
        yield f"{data_path(table.directory, file_id)} is missing"


def describe(store: BitcaskStore) -> dict[str, Any]:
    """The segments, oldest first, with their garbage. O(segments)."""
    table, active = store._table, store._log.active
    live, retired = sorted(table.live.items()), list(table.retired)
    segments = [_describe(segment, "active" if segment is active else "sealed") for _, segment in live]
    segments += [_describe(segment, "retired") for _, segment in retired]
    return {
        "engine": store.name,
        "keys": len(store._keydir.places),
        "snapshots": len(store._snapshots),
        "segments": sorted(segments, key=lambda described: described["id"]),
    }


def _describe(segment: Segment, state: str) -> dict[str, Any]:
    return {
        "id": segment.id,
        "state": state,
        "data_bytes": segment.end,
        "live_bytes": segment.live_bytes if state != "retired" else 0,
        "tombstone_bytes": segment.tombstone_bytes,
        "garbage_share": round(segment.garbage_share, 4) if state != "retired" else 1.0,
        "hint_bytes": segment.hint_bytes,
    }


def counters(store: BitcaskStore) -> Stats:
    """The store's counters, with the sizes of now. O(segments)."""
    table = store._table
    stats, segments = store._stats.copy(), list(table.live.values())
    stats.gets = store._hits + store._misses
    stats.reads += store._hits + store._hits_of_scans
    stats.bytes_read += store._bytes_of_reads
    stats.disk_bytes = table.disk_bytes()
    stats.live_bytes = sum(segment.live_bytes for segment in segments)
    segments += [segment for _, segment in table.retired]
    stats.dead_bytes = sum(segment.end for segment in segments) - stats.live_bytes
    stats.engine = {
        "keys": len(store._keydir.places),
        "segments": len(table.live),
        "retired_segments": len(table.retired),
        "open_files": len(table.views),
        "merges": store._merges,
    }
    return stats
