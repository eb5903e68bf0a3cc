"""`metcd dump`: what the files of a store hold, line by line, for people.

    a directory     CURRENT, the edits of its manifest, the levels with their tables, the logs with their batches
    MANIFEST-*      every fragment's header in hex, and the edit that it holds
    *.log           every fragment's header in hex, and the batch that it holds
    *.ldb, *.sst    footer, meta blocks, and every entry of every data block: 'key' @ sequence : kind => 'value'

Takes no lock and writes nothing, so that it shows what a running store has on disk at the moment. Damage is shown where
it is met, and the dump goes on after it. LevelDB's `leveldbutil dump FILE` prints the same entries in the same form
(db/dumpfile.cc).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from engines.coding import DecodeError
from engines.env import Env
from engines.errors import CorruptionError, ForeignFormat
from engines.kvstore import Stats
from engines.log import LogReader
from engines.log_tools import dump_log
from engines.lsm import manifest
from engines.lsm.cache import BlockCache
from engines.lsm.files import CURRENT, listed, parse
from engines.lsm.keys import DELETION, trailer_of
from engines.lsm.options import LEVELS
from engines.lsm.sstable import Table
from engines.lsm.statistics import Counters
from engines.lsm.version import FileMeta, ForeignEdit, VersionEdit
from engines.lsm.wal import decode_batch

__all__ = ["describe_batch", "describe_edit", "dump", "show_key"]

SHOWN_BYTES: Final = 60  # of a key or a value
SHOWN_OPERATIONS: Final = 8  # of a batch
ANY_LEVELS: Final = 1 << 32  # a dump shows goleveldb's deeper levels, too


def dump(path: str, env: Env) -> Iterator[str]:
    """What is at `path`, a store's directory or one of its files, as lines. Raises OSError. O(bytes), streamed."""
    if env.is_dir(path):
        return _dump_directory(path, env)
    parsed = parse(path.rpartition("/")[2])
    kind = parsed[0] if parsed is not None else ""
    if kind in ("ldb", "sst", "part"):
        return _dump_table(path, env)
    if kind in ("log", "manifest"):
        return _dump_log(path, env, describe_batch if kind == "log" else describe_edit)
    return iter(())  # none of ours


def _show(data: bytes) -> str:
    text = data[:SHOWN_BYTES].decode("latin-1").encode("unicode_escape").decode()
    return f"'{text}'" + (f"… ({len(data)} bytes)" if len(data) > SHOWN_BYTES else "")


def show_key(internal_key: bytes) -> str:
    """An internal key as LevelDB prints it: 'key' @ sequence : kind."""
    number = trailer_of(internal_key)
    return f"{_show(internal_key[:-8])} @ {number >> 8} : {'del' if number & 255 == DELETION else 'val'}"


def describe_batch(record: bytes) -> str:
    """A log's record in a line; damage is said, not raised."""
    try:
        sequence, operations = decode_batch(record)
    except DecodeError as error:
        return f"no batch: {error}"
    if not operations:
        return f"a mark before sequence {sequence}: everything before it is on disk"
    shown = [
        f"del {_show(key)}" if value is None else f"put {_show(key)} => {_show(value)}"
        for key, value in operations[:SHOWN_OPERATIONS]
    ]
    more = f", and {len(operations) - SHOWN_OPERATIONS} more" if len(operations) > SHOWN_OPERATIONS else ""
    return f"sequence {sequence}, {len(operations)} operations: {', '.join(shown)}{more}"


def describe_edit(record: bytes) -> str:
    """A manifest's record in a line; damage is said, not raised."""
    try:
        edit = VersionEdit.decode(record, ANY_LEVELS)
    except ForeignEdit as error:
        return f"an edit of RocksDB: {error}"
    except DecodeError as error:
        return f"no version edit: {error}"
    parts = [f"comparator {edit.comparator.decode('latin-1')}"] if edit.comparator is not None else []
    for name in ("log_number", "previous_log_number", "next_file_number", "last_sequence"):
        if (number := getattr(edit, name)) is not None:
            parts.append(f"{name} {number}")
    parts += [f"level {level} goes on after {show_key(key)}" for level, key in edit.compact_pointers]
    parts += [f"level {level} loses {number}" for level, number in edit.deleted]
    parts += [f"level {level} gets {_show_file(file)}" for level, file in edit.added]
    return "; ".join(parts) or "an empty edit"


def _show_file(file: FileMeta) -> str:
    return f"{file.number} ({file.size_bytes} bytes, {show_key(file.smallest)} to {show_key(file.largest)})"


def _dump_log(path: str, env: Env, describe: Callable[[bytes], str]) -> Iterator[str]:
    file = env.open(path, "r")
    try:
        yield from dump_log(file, describe)
    finally:
        file.close()


def _dump_directory(path: str, env: Env) -> Iterator[str]:
    oldest_log = 0
    try:
        name = manifest.manifest_path(env, path)
        yield f"{CURRENT}: {name.rpartition('/')[2]}"
        yield from _records(name, env, describe_edit)
        versions = manifest.read(env, path, Stats())
    except FileNotFoundError as error:
        yield f"DAMAGED: {error.filename} is missing"
    except CorruptionError as error:
        yield f"DAMAGED: {error}"
    except ForeignFormat as error:
        yield f"FOREIGN: {error}"
    else:
        oldest_log = versions.log_number
        for level in range(LEVELS):
            files = versions.current.levels[level]
            yield f"level {level}: {len(files)} tables, {versions.current.level_bytes(level)} bytes"
            for file in files:
                yield f"    {_show_file(file)}"
    for kind, number, name in listed(env, path):
        if kind == "log":
            yield f"{name}:" if number >= oldest_log else f"{name}: in tables already, about to be deleted"
            yield from _records(f"{path}/{name}", env, describe_batch)


def _records(path: str, env: Env, describe: Callable[[bytes], str]) -> Iterator[str]:
    """The records of a log, one line each."""
    file = env.open(path, "r")
    try:
        reader = LogReader(file, path, None, lambda record: True)
        shown = 0
        for offset, record in reader:
            for hole, size in reader.holes[shown:]:
                yield f"    {hole:08x}  a hole of {size} zeros"
            shown = len(reader.holes)
            yield f"    {offset:08x}  {describe(record)}"
        if reader.torn is not None:
            yield f"    {reader.torn}"
    finally:
        file.close()


def _dump_table(path: str, env: Env) -> Iterator[str]:
    file = env.open(path, "r")
    try:
        table = Table(file, file.size(), BlockCache(0), Counters())
    except CorruptionError as error:
        file.close()
        yield f"DAMAGED: {error}"
        return
    except ForeignFormat as error:
        file.close()
        yield f"FOREIGN: {error}"
        return
    yield f"{table.size_bytes} bytes, {table.blocks} data blocks; {', '.join(table.filters) or 'no filter'}"
    yield f"statistics: {table.statistics}" if table.statistics is not None else "statistics: none"
    for number in range(table.blocks):
        (offset, size), separator = table.handles[number], table.separators[number]
        kind = table.block_compression(number)
        of_kind = f" of {kind}" if kind is not None else ""
        yield f"{offset:08x}  data block {number}, {size} bytes{of_kind}, in the index up to {show_key(separator)}"
        try:
            rows = list(table.block_rows(number))
        except CorruptionError as error:
            yield f"    DAMAGED: {error}"
            continue
        except ForeignFormat as error:
            yield f"    FOREIGN: {error}"
            continue
        for row in rows:
            yield f"    {show_key(row.internal_key)}" + ("" if row.is_deletion else f" => {_show(row.value)}")
