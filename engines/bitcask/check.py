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
from itertools import islice
from sys import getsizeof
from typing import Any

from engines.bitcask.core import Core
from engines.bitcask.hint import BadHint, Entry, decode_hint
from engines.bitcask.keydir import Keydir
from engines.bitcask.merge import Merge
from engines.bitcask.place import Place, unpack
from engines.bitcask.record import BadRecord
from engines.bitcask.recovery import forget_mark
from engines.bitcask.scan import scan_entries
from engines.bitcask.segment import Segment, SegmentTable, data_file_id, data_path, hint_path
from engines.errors import StoreChanged
from engines.files import read_whole
from engines.kvstore import Stats
from engines.lifetime import holding
from engines.telling import counters as told_counters

__all__ = ["check", "counters", "describe", "sketch"]

SEGMENTS_MOST = 48  # that a sketch tells one by one
SAMPLED = 32  # keys, by which the keydir's memory is estimated
SHOWN = 5  # differing keys that are named


def check(core: Core) -> list[str]:
    """All violations. Requires: the merging lock and the writer's. O(bytes of all segments)."""
    core.check_usable()
    table = core.table
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
        fresh.load(segments[file_id], entries, segments)
        problems += _check_hint(table, segment, entries)
    if not problems:
        forget_mark(table, fresh, segments)
        problems += _compare(core, fresh, segments)
    if not table.read_only:  # else another program may make and remove files meanwhile
        problems += _check_names(table)
    return problems


def _check_hint(table: SegmentTable, segment: Segment, entries: list[Entry]) -> Iterator[str]:
    """A hint may be missing; one that is there says what the data says."""
    path = hint_path(table.directory, segment.id)
    if not table.env.exists(path) or (table.read_only and not segment.hint_bytes):
        return  # the second: recovery has found that it is not whole, as a crash leaves it, and has read the data
    try:
        said = {entry[3]: entry for entry in decode_hint(read_whole(table.env, path))}
    except BadHint as bad:
        yield f"{path}: {bad}"
        return
    for entry in entries:
        if said.pop(entry[3], None) != entry:
            yield f"{path}: it is wrong about the key {entry[3][:40]!r}, whose last record is at byte {entry[2]:#x}"
            return
    for key in said:
        yield f"{path}: it lists the key {key[:40]!r}, of which the data file has no record"


def _compare(core: Core, fresh: Keydir, segments: dict[int, Segment]) -> Iterator[str]:
    """The keydir against a fresh one."""
    places, expected = core.keydir.places, fresh.places
    different = [key for key in expected.keys() | places.keys() if expected.get(key) != places.get(key)]
    for key in sorted(different)[:SHOWN]:
        yield f"the keydir has {_place(places.get(key))} for {key[:40]!r}, and the files {_place(expected.get(key))}"
    if len(different) > SHOWN:
        yield f"the keydir is wrong about {len(different) - SHOWN} more keys"
    for file_id, segment in segments.items():
        counted = core.table.live[file_id].live_bytes
        if counted != segment.live_bytes:
            yield f"segment {file_id} has {segment.live_bytes:,} live bytes, and the store counts {counted:,}"
    if core.keydir.order.made and not holding(core.mutex, core.keydir.order.check, places):
        yield "the keys' order is not that of the keydir"


def _place(place: Place | None) -> str:
    if place is None:
        return "nothing"
    file_id, offset, _ = unpack(place)
    return f"byte {offset} of segment {file_id}"


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


def describe(core: Core, merge: Merge | None = None) -> dict[str, Any]:
    """The segments, oldest first, with their garbage; the keydir; the merge that is running. O(segments)."""
    table, active = core.table, core.log.active
    live, retired = sorted(table.live.items()), list(table.retired)
    segments = [_describe(segment, "active" if segment is active else "sealed") for _, segment in live]
    segments += [_describe(segment, "retired") for _, segment in retired]
    return {
        "engine": core.options.engine,
        "keys": len(core.keydir.places),
        "keydir_bytes": holding(core.mutex, _keydir_bytes, core.keydir),
        "snapshots": len(core.moments),
        "max_file_size": core.options.max_file_size,
        "running_merge": None if merge is None else merge.progress(),
        "segments": sorted(segments, key=lambda described: described["id"]),
    }


def _keydir_bytes(keydir: Keydir) -> int:
    """About what the keydir takes in memory, by the size of its hash table and of a few keys with their places. O(1).

    Requires: the mutex, so that nobody adds a key meanwhile.
    """
    some = list(islice(keydir.places.items(), SAMPLED))
    each = sum(getsizeof(key) + getsizeof(place) for key, place in some) / max(1, len(some))
    return getsizeof(keydir.places) + int(len(keydir.places) * each)


def sketch(core: Core, merge: Merge | None) -> dict[str, Any]:
    """`describe` in a few KB, with counters: of more than SEGMENTS_MOST segments, as many runs of neighbours, `spans`."""
    described = describe(core, merge)
    segments = described["segments"]
    described["segment_count"] = len(segments)
    if len(segments) > SEGMENTS_MOST:
        del described["segments"]
        described["spans"] = [_span(run) for run in _runs(segments)]
    counted = counters(core)
    return {
        **described,
        "counters": {**told_counters(counted), "merges": core.merges, "disk_bytes": counted.disk_bytes},
    }


def _runs(segments: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    step = -(-len(segments) // SEGMENTS_MOST)
    return (segments[at : at + step] for at in range(0, len(segments), step))


def _span(run: list[dict[str, Any]]) -> dict[str, Any]:
    sums = {
        name: sum(each[name] for each in run) for name in ("data_bytes", "live_bytes", "tombstone_bytes", "hint_bytes")
    }
    return {"first_id": run[0]["id"], "last_id": run[-1]["id"], "segments": len(run), **sums}


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


def counters(core: Core) -> Stats:
    """The store's counters, with the current sizes. O(segments)."""
    table = core.table
    stats, segments = core.stats.copy(), list(table.live.values())
    stats.gets = core.hits + core.misses
    stats.reads += core.hits + core.scanned
    stats.bytes_read += core.bytes_read
    stats.disk_bytes = table.disk_bytes()
    stats.live_bytes = sum(segment.live_bytes for segment in segments)
    segments += [segment for _, segment in table.retired]
    stats.dead_bytes = sum(segment.end for segment in segments) - stats.live_bytes
    stats.engine = {
        "keys": len(core.keydir.places),
        "segments": len(table.live),
        "retired_segments": len(table.retired),
        "open_files": len(table.views),
        "merges": core.merges,
    }
    return stats
