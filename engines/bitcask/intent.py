"""The intent file: which data files count, while a load replaces all of them.

    bitcask.metcd.load      metcd load                       all data files count, but while this file is there:
                            new 7 8                          these do, under their names or with ".new" after them
                            void 1 2 3                       these don't
                            crc32 5d0c3f1a                   of the lines above

Bitcask has no file that says which data files count, as LevelDB has its manifest: all of them do. `load` has to change
them at one moment, so it writes this list, and removes it when the directory says the same without it. Its steps are in
engines.bitcask.load.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from zlib import crc32

from engines.bitcask.segment import SegmentTable, data_path, hint_path
from engines.env import Env
from engines.errors import CorruptionError
from engines.files import read_whole

__all__ = ["INTENT", "LINES", "finish_load", "read_intent", "redo_load", "write_intent"]

INTENT = "bitcask.metcd.load"
LINES = re.compile(rb"metcd load\nnew((?: [0-9]{1,10})*)\nvoid((?: [0-9]{1,10})*)\n(crc32 ([0-9a-f]{8})\n)")


def read_intent(env: Env, directory: str) -> tuple[list[int], list[int]]:
    """(new, void) of a load that has happened and isn't finished; nothing if there is none. Raises CorruptionError."""
    path = f"{directory}/{INTENT}"
    if not env.exists(path):
        return [], []
    content = read_whole(env, path)
    match = LINES.fullmatch(content)
    if match is None or crc32(content[: match.start(3)]) != int(match[4], 16):
        why = "the list of files that a load has written is damaged: whether the old or the new ones count is lost"
        raise CorruptionError(path, 0, why)
    return list(map(int, match[1].split())), list(map(int, match[2].split()))


def write_intent(table: SegmentTable, new: Iterable[int], void: Iterable[int]) -> None:
    """Puts the intent file in its place; when this returns, the load has happened. Raises OSError.

    Requires: the data files `new`, and their names, are on the disk.
    """
    path = f"{table.directory}/{INTENT}"
    lines = f"metcd load\nnew{_numbers(new)}\nvoid{_numbers(void)}\n".encode()
    content = lines + b"crc32 %08x\n" % crc32(lines)
    file = table.begin_file(f"{path}.new", "w")
    try:
        file.append(content)
        table.sync(file, "bitcask.load.intent")  # or the name could be there after a power cut, and half of the list
    finally:
        file.close()
    table.env.rename(f"{path}.new", path)
    table.sync_names("bitcask.load.commit")  # or the old content could come back after the load was acknowledged
    table.intent_bytes = len(content)


def _numbers(ids: Iterable[int]) -> str:
    return "".join(f" {file_id}" for file_id in sorted(ids))


def finish_load(table: SegmentTable) -> None:
    """Removes the intent file, if all void files are gone. Raises OSError."""
    if table.intent_bytes and not any(segment.id in table.void for _, segment in table.retired):
        table.sync_names("bitcask.load.finish")  # or a void file could come back when nothing says that it is void
        table.env.unlink(f"{table.directory}/{INTENT}")
        table.intent_bytes = 0
        table.void.clear()


def redo_load(table: SegmentTable) -> None:
    """Before recovery: does what a crash has left to do of a load. Raises CorruptionError, OSError."""
    env, directory = table.env, table.directory
    path = f"{directory}/{INTENT}"
    new, void = read_intent(env, directory)
    if env.exists(f"{path}.new"):
        env.unlink(f"{path}.new")  # without its name it is no list: that load has not happened
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
