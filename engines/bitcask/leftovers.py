"""Data files with the execute bit for others, or setuid: is that Riak's mark, or a copy from a file system without modes?

Riak's merges give a file that they have replaced such a bit, and delete it when no fold needs it any more; after a crash
the next opening does it (bitcask:purge_setuid_files). But `chmod -R 755`, a FAT stick or a network drive give *every*
file these bits, and Riak then deletes every file. So the bit alone proves nothing. It is believed if the files without
it say the same as all files together:

1. there is a data file without the bit;
2. for each key of a marked file, a file without the bit has a later record that is whole, or the last record of the key
   in the marked files is a tombstone and no older file without the bit has a value that it hides.

Then removing the marked files loses nothing, whatever has marked them. It is not only sufficient: a merge that has
finished has copied all that was live in its inputs to newer files, and has synced them before it marks the first input.
There are leftovers for which it can't be shown (of a merge whose outputs were merged again, and of files whose values
had expired): they are refused, with what to do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from engines.bitcask.hint import OFFSET_MASK, TOMBSTONE_BIT, Entry
from engines.bitcask.place import read_record
from engines.bitcask.record import BadRecord
from engines.bitcask.segment import SegmentTable
from engines.bitcask.survey import Survey
from engines.errors import ForeignFormat

__all__ = ["log_removal", "require_leftovers"]

_log = logging.getLogger("metcd.bitcask")
_log.addHandler(logging.NullHandler())  # a program that wants the lines configures logging; else nothing is printed

Last = tuple[int, int, int]  # (file id, offset with its tombstone bit, size) of the last record of a key
SHOWN = 5  # files that the sentence names


def require_leftovers(table: SegmentTable, found: Survey, contents: Mapping[int, Iterable[Entry]]) -> None:
    """Raises ForeignFormat unless the marked files can go without a loss. O(keys of all files, once more)."""
    if not found.data:
        raise _refusal(table.directory, found, "and no data file is without")
    marked = _last_records(contents, found.marked)
    others = _last_records(contents, found.data, only=marked)
    for key, (file_id, offset, _) in sorted(marked.items()):
        other = others.get(key)
        if other is not None and other[0] > file_id:
            if _is_whole(table, key, other):
                continue
            why = f"and the record of {key[:40]!r} that should replace theirs is damaged, in {other[0]}.bitcask.data"
        elif offset & TOMBSTONE_BIT and (other is None or other[1] & TOMBSTONE_BIT):
            continue
        else:
            what = "deletion" if offset & TOMBSTONE_BIT else "value"
            why = f"and they alone have the last {what} of {key[:40]!r}, in {file_id}.bitcask.data"
        raise _refusal(table.directory, found, why)


def _last_records(
    contents: Mapping[int, Iterable[Entry]], file_ids: Iterable[int], only: Mapping[bytes, Last] | None = None
) -> dict[bytes, Last]:
    """The last record of each key in these files; of the keys of `only`, if given."""
    last: dict[bytes, Last] = {}
    for file_id in sorted(file_ids):
        for _, size, offset, key in contents[file_id]:
            if only is None or key in only:
                last[key] = (file_id, offset, size)
    return last


def _is_whole(table: SegmentTable, key: bytes, last: Last) -> bool:
    """True if the record is what its place says: a hint can be whole where the data is not."""
    file_id, offset, size = last
    try:
        read_record(table.view(file_id), offset & OFFSET_MASK, size, key)
    except BadRecord:
        return False
    return True


def _refusal(directory: str, found: Survey, why: str) -> ForeignFormat:
    files = [f"{file_id}.bitcask.data (mode {mode:04o})" for file_id, mode in sorted(found.marked.items())]
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return ForeignFormat(
        directory,
        f"the execute bit for others, or setuid, says that Riak has merged a data file and is about to delete it; "
        f"{', '.join(files[:SHOWN])}{more} {'has' if len(files) == 1 else 'have'} one, {why}. Nothing was deleted. If the "
        f"files were copied from a file system without modes, take the bits off: chmod u-s,o-x {directory}/*.bitcask.data; "
        "if they really are what a merge of Riak's has left, move them away",
    )


def log_removal(directory: str, found: Survey) -> None:
    """One line for what is removed."""
    names = ", ".join(f"{file_id}.bitcask.data (mode {mode:04o})" for file_id, mode in sorted(found.marked.items()))
    _log.warning(
        "%s: removed what a finished merge of Riak's had left, %s: newer files have all that is live in it",
        directory,
        names,
    )
