"""`load`: replacing the whole content, so that a crash leaves the old one or the new one.

Bitcask has no file that says which data files count: all do. So a list of them is made, for as long as it is needed:

    bitcask.metcd.load      metcd load                       the intent file
                            new 7 8                          files that are to count, under their names or with ".new"
                            void 1 2 3                       files that don't count any more
                            crc32 5d0c3f1a                   of the lines above

    1  write 7.bitcask.data.new and 8.bitcask.data.new, sync them       a crash: they are removed, the old content stays
       and then their names, or else the intent file could be there without them
    2  write and sync the intent file, rename it to its name, sync the names            ← the moment of the load
    3  rename 7 and 8, remove 1, 2 and 3, sync the names                a crash: the next open does it again
    4  remove the intent file

Files that open snapshots still need stay after step 3, and the intent file with them, so that a crash can't bring them
back. If a load follows before that, its intent file replaces the first one and takes over its list.

Riak doesn't know the intent file. It sees the old content until step 3, and the new one after it; between the two, and
while a snapshot keeps void files, the directory is locked against it, and after a crash our open has to come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from zlib import crc32

from engines.bitcask.hint import decode_hint, encode_hint
from engines.bitcask.keydir import Keydir, load_entries
from engines.bitcask.merge import Output
from engines.bitcask.record import HEADER_BYTES, encode_record
from engines.bitcask.segment import SegmentTable, data_path, hint_path
from engines.bitcask.survey import INTENT, read_intent
from engines.errors import InvalidKey
from engines.kvstore import Pair, check_key
from engines.lifetime import holding

if TYPE_CHECKING:
    from engines.bitcask.store import BitcaskStore

__all__ = ["finish_load", "load", "redo_load"]


def load(store: BitcaskStore, pairs: Iterable[Pair]) -> None:
    """Replaces the store's content. Requires: no merge is running. Raises what `pairs` raises, InvalidKey, InvalidValue,
    OSError; before the intent file has its name nothing has changed.
    """
    outputs: list[Output] = []
    try:
        for key, value in _ascending(store, pairs):
            size = HEADER_BYTES + len(key) + len(value)
            if not outputs or 0 < outputs[-1].segment.end > store._max_file_size - size:
                if outputs:
                    outputs[-1].finish("bitcask.load.output")
                outputs.append(holding(store._writer, _new_output, store))
            timestamp = store._log.timestamp()
            outputs[-1].add(encode_record(timestamp, key, value), timestamp, key)
        if outputs:
            outputs[-1].finish("bitcask.load.output")
    except BaseException:
        if store.failure is None:  # else they are the next open's, or the parent's of a forked process
            for output in outputs:
                output.discard()
        raise
    holding(store._writer, _replace, store, outputs)


def _new_output(store: BitcaskStore) -> Output:
    store.check_usable()
    return Output(store._table, store._table.take_id())


def _replace(store: BitcaskStore, outputs: list[Output]) -> None:
    """Steps 2 to 4: whatever happens here, only the next open may say which files count. Requires: the writer's lock."""
    store.check_usable()
    table = store._table
    store._log.abandon()
    void = table.file_ids()
    table.sync_names("bitcask.load.names")
    _write_intent(table, [output.segment.id for output in outputs], void | table.void)
    for output in outputs:
        output.publish()
    keydir = Keydir()
    for output in outputs:
        hint = encode_hint(output.entries)
        table.write_hint(output.segment, hint)
        load_entries(keydir, table.live, output.segment, decode_hint(hint))
    holding(store._mutex, _turn, store, keydir, void)
    store._remove_retired()


def _turn(store: BitcaskStore, keydir: Keydir, void: set[int]) -> None:
    store._keydir = keydir
    store._table.void |= void
    store._table.retire(store._table.live.keys() & void)


def _write_intent(table: SegmentTable, new: list[int], void: Iterable[int]) -> None:
    """Puts the intent file in its place; when this returns, the load has happened."""
    path = f"{table.directory}/{INTENT}"
    lines = f"metcd load\nnew{_numbers(new)}\nvoid{_numbers(void)}\n".encode()
    content = lines + b"crc32 %08x\n" % crc32(lines)
    file = table.begin_file(f"{path}.new", "w")
    try:
        file.append(content)
        table.sync(file, "bitcask.load.intent")
    finally:
        file.close()
    table.env.rename(f"{path}.new", path)
    table.sync_names("bitcask.load.commit")
    table.intent_bytes = len(content)


def _numbers(ids: Iterable[int]) -> str:
    return "".join(f" {file_id}" for file_id in sorted(ids))


def finish_load(table: SegmentTable) -> None:
    """Step 4, if all void files are gone: makes that durable, and removes the intent file."""
    if table.intent_bytes and not any(segment.id in table.void for _, segment in table.retired):
        table.sync_names("bitcask.load.finish")
        table.env.unlink(f"{table.directory}/{INTENT}")
        table.intent_bytes = 0
        table.void.clear()


def redo_load(table: SegmentTable) -> None:
    """Before recovery: does what a crash has left to do of a load. Raises CorruptionError, OSError."""
    env, directory = table.env, table.directory
    path = f"{directory}/{INTENT}"
    new, void = read_intent(env, directory)
    if env.exists(f"{path}.new"):
        env.unlink(f"{path}.new")
    if not env.exists(path):
        return
    table.sync_names("bitcask.load.commit")  # a killed process may have left it in the page cache only
    for file_id in new:
        if env.exists(f"{data_path(directory, file_id)}.new"):
            env.rename(f"{data_path(directory, file_id)}.new", data_path(directory, file_id))
    for file_id in void:
        for name in (hint_path(directory, file_id), data_path(directory, file_id)):
            if env.exists(name):
                env.unlink(name)
    table.next_id = max([0, *new, *void]) + 1
    table.sync_names("bitcask.load.finish")
    env.unlink(path)


def _ascending(store: BitcaskStore, pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Passes valid pairs on; raises InvalidKey at the first key that is not above the one before it."""
    previous = b""
    for key, value in pairs:
        check_key(key)
        store._check_value(value)
        if key <= previous:
            raise InvalidKey(f"load wants strictly ascending keys, and {key[:40]!r} comes after {previous[:40]!r}")
        previous = key
        yield key, value
