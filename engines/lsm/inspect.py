"""What a store tells about itself: counters, structure, LevelDB's properties, sizes. Of tables it reads no whole blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from engines.env import Env
from engines.kvstore import Stats
from engines.lifetime import holding
from engines.lsm.background import Background
from engines.lsm.compaction import scores, total_bytes
from engines.lsm.compression import PACKAGES, can_write
from engines.lsm.core import Core
from engines.lsm.dump import show_key
from engines.lsm.files import table_name
from engines.lsm.keys import MAX_SEQUENCE
from engines.lsm.memtable import MemTable
from engines.lsm.merge import visible
from engines.lsm.options import LEVELS
from engines.lsm.statistics import TableStatistics
from engines.lsm.version import FileMeta
from engines.telling import counters, shown

__all__ = ["approximate_size", "describe", "leveldb_property", "size_bytes", "sketch", "stats"]

MIB = 1 << 20
FILES_MOST = 64  # tables that a sketch tells one by one, all levels together
SPANS_MOST = 16  # of a level
LIST_MOST = 20
TEXT_CHARS = 60
CURRENT_BYTES = len(b"MANIFEST-000001\n")


def stats(core: Core, background: Background) -> Stats:
    """A copy of the counters, with the current sizes.

    live_bytes is an estimate while tables overlap: every row but tombstones and older versions in its own table counts,
    and each tombstone takes an average row away. After `compact` it is exact.
    """
    counted = core.stats.copy()
    core.tables.counters.add_to(counted)
    _, frozen, version = core.state
    files = {file.number: file for _, file in version.files()}
    rows_bytes, live = 0, 0.0
    for file in files.values():
        total, alive = _rows_bytes(file, file.statistics or core.tables.get(file).statistics)
        rows_bytes += total
        live += alive
    memory = core.state.memtable.size_bytes + sum([table.size_bytes for table in frozen])
    live += sum(_live_of(table) for table in (core.state.memtable, *frozen))
    counted.live_bytes = max(0, int(live))
    counted.disk_bytes = _disk_bytes(core)
    counted.dead_bytes = max(0, rows_bytes - counted.live_bytes)
    counted.engine |= background.work.counts()
    counted.engine["workers_died"] = background.executor.workers_died
    counted.engine["workers_refused"] = int(background.executor.refusal is not None)
    counted.engine |= {f"level{level}_bytes": version.level_bytes(level) for level in range(LEVELS)}
    counted.engine |= {f"level{level}_files": len(version.levels[level]) for level in range(LEVELS)}
    # how many places a read may have to look at: its amplification at worst; block_lookups / gets is what it was
    counted.engine["sorted_runs"] = 1 + len(frozen) + len(version.levels[0]) + len(version.sorted_levels)
    counted.engine["memtable_bytes"] = memory
    counted.engine["open_snapshots"] = len(core.views)
    counted.engine["cached_blocks"] = len(core.cache)
    counted.engine["open_tables"] = len(core.tables)
    return counted


def _rows_bytes(file: FileMeta, known: TableStatistics | None) -> tuple[int, float]:
    """(bytes of all keys and values, about how many of them are live) of a table."""
    if known is None:
        return file.size_bytes, float(file.size_bytes)
    total = known.key_bytes + known.value_bytes
    if known.simple:
        return total, float(total)
    garbage = min(known.entries, 2 * known.deletions + known.versions)
    return total, total * (1 - garbage / max(1, known.entries))


def _live_of(memtable: MemTable) -> float:
    """How many bytes of a memtable's keys and values are live."""
    return float(
        sum(len(key) + len(value) for key, value in visible(memtable.rows(), MAX_SEQUENCE) if value is not None)
    )


def _disk_bytes(core: Core) -> int:
    """The size of the store's files, those included that only a snapshot or a scan still needs."""
    live = core.versions.live_files()
    size = total_bytes(list(live.values())) + core.versions.manifest_bytes + CURRENT_BYTES
    if core.log is not None:
        size += core.log.file_bytes
    return size + sum([frozen.log_bytes for frozen in core.frozen])


def size_bytes(core: Core) -> int:
    """What `_disk_bytes` says, without older versions' tables and without what the log has allocated ahead. No locks."""
    log, version = core.log, core.state.version
    size = sum([version.level_bytes(level) for level in range(LEVELS)]) + core.versions.manifest_bytes + CURRENT_BYTES
    return size + sum([frozen.log_bytes for frozen in core.frozen]) + (log.size_bytes if log is not None else 0)


def describe(core: Core, background: Background) -> dict[str, Any]:
    """The structure, ready for JSON. Keys are shown as text, bytes that are none as \\\\x.."""
    memtable, frozen, version = core.state
    options = core.options
    all_scores = scores(version, core.options)
    return {
        "engine": "lsm",
        "last_sequence": core.sequence,
        "manifest": core.versions.number,
        "log": {"number": core.log_number, "bytes": core.log.size_bytes if core.log is not None else 0},
        "memtable": {
            "kind": core.options.memtable,
            "entries": len(memtable),
            "bytes": memtable.size_bytes,
            "full_bytes": options.write_buffer_bytes,
        },
        "frozen": [{"entries": len(table), "bytes": table.size_bytes} for table in frozen],
        "compression": _compression(core),
        "levels": [
            {
                "level": level,
                "bytes": version.level_bytes(level),
                "limit_files": None if level else options.level0_files,
                "limit_bytes": options.level_bytes(level) if 0 < level < LEVELS - 1 else None,
                "score": round(all_scores[level], 3) if level < len(all_scores) else None,
                "files": [_describe_file(file, core.tables.statistics(file)) for file in files],
            }
            for level, files in enumerate(version.levels)
        ],
        "snapshots": holding(core.state_lock, _open_sequences, core),
        "work_is_done_by": background.executor.where,
        "running_compaction": _running(core, background),
    }


def _open_sequences(core: Core) -> list[int]:
    """Requires: the state lock, so that nobody opens a snapshot meanwhile."""
    return sorted([view.sequence for view in core.views])


def _running(core: Core, background: Background) -> dict[str, Any] | None:
    """The compaction that is being done, and how far it has come, by the sizes of the files that it writes. Nothing is
    counted for this while it works: the files are looked at here, a listing and a call for each."""
    compactor = background.compactor
    running = compactor.running
    if running is None:
        return None
    outputs = [] if running.trivial else list(_output_bytes(core, compactor.outputs))
    return {
        "reason": running.reason,
        "from_level": running.level,
        "to_level": running.output_level,
        "trivial": running.trivial,
        "inputs": [file.number for _, file in running.inputs()],
        "input_bytes": sum([file.size_bytes for _, file in running.inputs()]),
        "outputs": [{"number": number, "bytes": size} for number, size in outputs],
        "output_bytes": sum([size for _, size in outputs]),
        "seconds": round(core.env.now() - compactor.began, 3),
    }


def _output_bytes(core: Core, numbers: list[int]) -> Iterator[tuple[int, int]]:
    """(number, bytes so far) of the tables that have begun, under their own names or a worker's (worker.py, rule 1)."""
    wanted = {table_name(number): number for number in numbers[:]}
    for name in sorted(core.env.list(core.directory)):
        number = wanted.get(name) or wanted.get(name.rpartition(".")[0])
        if number is not None and (size := _size(core.env, f"{core.directory}/{name}")) is not None:
            yield number, size


def _size(env: Env, path: str) -> int | None:
    """The file's size; None if it isn't there any more."""
    try:
        file = env.open(path, "r")
    except FileNotFoundError:
        return None
    with contextlib.closing(file):
        return file.size()


def sketch(core: Core, background: Background) -> dict[str, Any]:
    """`describe` in a few KB, with counters: keys are cut, and if the tables are more than FILES_MOST, a level's are told
    in SPANS_MOST runs of neighbours, `spans`, in place of `files`. O(files)."""
    described = describe(core, background)
    levels = described["levels"]
    whole = sum([len(level["files"]) for level in levels]) <= FILES_MOST
    for level, files in zip(levels, core.state.version.levels):
        told = level.pop("files")
        level["tables"] = len(told)
        for each in told if whole else ():
            each["first"], each["last"] = each["first"][:TEXT_CHARS], each["last"][:TEXT_CHARS]
        level |= {"files": told} if whole else {"spans": _spans(files)}
    described["snapshots"] = described["snapshots"][:LIST_MOST]
    counted = core.stats.copy()
    core.tables.counters.add_to(counted)
    described["counters"] = {**counters(counted), **counted.engine, **background.work.counts()}
    return described


def _spans(files: list[FileMeta]) -> list[dict[str, Any]]:
    """The tables of a level in SPANS_MOST runs of neighbours at most."""
    step = max(1, -(-len(files) // SPANS_MOST))
    return [
        {
            "tables": len(run),
            "bytes": total_bytes(run),
            "first": shown(min(file.first for file in run)),
            "last": shown(max(file.last for file in run)),
        }
        for run in (files[at : at + step] for at in range(0, len(files), step))
    ]


def _compression(core: Core) -> dict[str, Any]:
    """What new tables are compressed with, and for "keep", what the deepest level's are, which they should have."""
    described: dict[str, Any] = {"option": core.options.compression, "written": core.compression()}
    if core.options.compression == "keep":
        found = core.deepest_compression()
        described["found"] = found
        if found is not None and not can_write(found):
            described["note"] = (
                f"the tables come with {found}, and are written uncompressed, so that the store grows as it is "
                f"compacted: pip install {PACKAGES[found]}"
            )
    return described


def _describe_file(file: FileMeta, known: TableStatistics | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "number": file.number,
        "bytes": file.size_bytes,
        "first": file.first.decode("utf-8", "backslashreplace"),
        "last": file.last.decode("utf-8", "backslashreplace"),
    }
    if known is not None:
        described["entries"] = known.entries
        described["tombstones"] = known.deletions
    return described


def approximate_size(core: Core, start: bytes, stop: bytes) -> int:
    """About how many bytes of tables hold the keys in [start, stop); what is in memory doesn't count.

    O(files), and no reads but of tables that weren't open.
    """
    size = 0
    for _, file in core.state.version.files():
        if file.last < start or file.first >= stop:
            continue
        if start <= file.first and file.last < stop:
            size += file.size_bytes
            continue
        table = core.tables.get(file)
        size += table.offset_of(stop) - table.offset_of(start)
    return max(0, size)


def leveldb_property(core: Core, background: Background, name: str) -> str | None:
    """LevelDB's properties: leveldb.num-files-at-level<N>, .stats, .sstables, .approximate-memory-usage; else None."""
    version = core.state.version
    if not name.startswith("leveldb."):
        return None
    kind = name.removeprefix("leveldb.")
    if kind.startswith("num-files-at-level"):
        digits = kind.removeprefix("num-files-at-level")
        return str(len(version.levels[int(digits)])) if digits.isdecimal() and int(digits) < LEVELS else None
    if kind == "stats":
        return _compaction_table(core, background)
    if kind == "sstables":
        text = ""
        for level, files in enumerate(version.levels):
            text += f"--- level {level} ---\n"
            for file in files:
                text += f" {file.number}:{file.size_bytes}[{show_key(file.smallest)} .. {show_key(file.largest)}]\n"
        return text
    if kind == "approximate-memory-usage":
        memory = core.state.memtable.size_bytes + sum([table.size_bytes for table in core.state.frozen])
        return str(memory + core.cache.size_bytes)
    return None


def _compaction_table(core: Core, background: Background) -> str:
    """LevelDB's table: what each level has, and what flushes and compactions into it have cost since the open."""
    heading = "Level  Files Size(MB) Time(sec) Read(MB) Write(MB)"
    lines = [f"{'Compactions':>42}", heading, "-" * len(heading)]
    version = core.state.version
    for level, work in enumerate(background.work.levels):
        files = len(version.levels[level])
        if files or work.seconds:
            size, read, written = version.level_bytes(level) / MIB, work.bytes_read / MIB, work.bytes_written / MIB
            lines.append(f"{level:3d} {files:8d} {size:8.0f} {work.seconds:9.0f} {read:8.0f} {written:9.0f}")
    return "\n".join(lines) + "\n"
