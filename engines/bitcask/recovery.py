"""Opening a directory: what its files say, what a crash may have left in them, and what is damage.

For each data file, oldest first, the keys come from its hint if that is whole, else from its records; the later record
of a key wins, whatever the timestamps say. A file whose hint was missing gets one now.

A file that stops being whole has a torn end, which is cut off, or is damaged, which is a `CorruptionError`
(engines.bitcask.torn). What is torn goes as a whole: a batch from its mark on, an overwrite from its tombstone on
(engines.bitcask.record). What is kept is synced before anybody can read it, since the page cache may hold what the disk
doesn't, and a reader may not be told what the next power cut takes back.

`look` does the same in memory: it reads what `recover` would leave, and changes nothing. Our own writers are kept out by
a shared lock. Riak's may go on meanwhile, as they may beside Riak's own readers: its files only grow, so that what was
read stays true, and a record that is just being written looks like a torn end. What its merges remove while the files
are being opened is found at the next try, and what they remove later is a `StoreChanged`.

Follows bitcask:scan_key_files and bitcask_fileops:fold of basho/bitcask. Riak cuts nothing: it skips bad records, gives
up on a file after twenty of them, and leaves its torn ends where they are when it begins the next file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from engines.bitcask.hint import BadHint, Entry, decode_hint, hint_reach, was_closed
from engines.bitcask.intent import redo_load
from engines.bitcask.keydir import Keydir
from engines.bitcask.leftovers import log_removal, require_leftovers
from engines.bitcask.place import unpack
from engines.bitcask.record import HEADER_BYTES, MARK_BYTES, MARK_MAGIC, BadRecord
from engines.bitcask.scan import hint_of, scan_entries, whole_part
from engines.bitcask.segment import Segment, SegmentTable, data_path, hint_path, repair_advice
from engines.bitcask.survey import Survey, survey
from engines.bitcask.torn import DataFile, why_damage
from engines.errors import CorruptionError, StoreChanged

__all__ = ["forget_mark", "look", "prove_leftovers", "recover"]

TRIES = 20  # of opening for reading only, while a merge of Riak's removes files


class Content(NamedTuple):
    """What a data file holds: the last record of each key, and where the last one ends. `hint` is that of the file if it
    is whole, else None; then the entries are those of the records."""

    entries: Iterable[Entry]
    end: int
    newest_timestamp: int
    hint: bytes | None


def recover(table: SegmentTable, keydir: Keydir) -> None:
    """Fills `table` and `keydir` from the directory, and leaves its files as if they had been closed.

    Raises CorruptionError, ForeignFormat for files that Riak may be about to delete (engines.bitcask.leftovers),
    OSError. Cost: 0.6 µs for each key of a file with a hint; for a file without, all of it is read and its checksums
    verified.
    """
    found = survey(table.env, table.directory)
    if found.marked:
        prove_leftovers(table, found)
    redo_load(table)
    found = survey(table.env, table.directory)
    _sweep(table, found)
    for file_id in found.data:
        segment = _open_segment(table, keydir, file_id, newest=file_id == found.data[-1])
        if segment.end == 0:
            if segment.hint_bytes:
                table.env.unlink(hint_path(table.directory, file_id))
            table.env.unlink(data_path(table.directory, file_id))
            table.views.pop(file_id, None)
            del table.live[file_id]
    forget_mark(table, keydir, table.live)


def look(table: SegmentTable, keydir: Keydir) -> None:
    """Fills `table` and `keydir` as `recover` does, and changes nothing. Requires: a table for reading only.

    Raises what `recover` raises; StoreChanged if files have gone away at every try.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            _look_once(table, keydir)
            return
        except (StoreChanged, FileNotFoundError):
            if not tries_left or not table.env.is_dir(table.directory):
                raise
        table.live.clear()
        table.views.clear()
        keydir.places.clear()


def _look_once(table: SegmentTable, keydir: Keydir) -> None:
    found = survey(table.env, table.directory)
    table.unnamed = found.unnamed
    if found.marked:
        prove_leftovers(table, found)
    for file_id in found.data:
        table.live[file_id] = segment = Segment(file_id)
        content = _read(table, segment, newest=file_id == found.data[-1])
        segment.end = content.end
        keydir.load(segment, content.entries, table.live)
    forget_mark(table, keydir, table.live)


def _sweep(table: SegmentTable, found: Survey) -> None:
    """Removes what no reader may see: unfinished files of merges and loads, hints without data, and data files that
    Riak has merged. Requires: the last were proven to be that."""
    env, directory = table.env, table.directory
    table.next_id = max(table.next_id, found.next_id)
    for name in found.leftovers:
        env.unlink(f"{directory}/{name}")
    for file_id in sorted(found.marked):
        if env.exists(hint_path(directory, file_id)):
            env.unlink(hint_path(directory, file_id))
        env.unlink(data_path(directory, file_id))
    if found.marked:
        log_removal(directory, found)


def prove_leftovers(table: SegmentTable, found: Survey) -> None:
    """Raises ForeignFormat unless the marked files hold nothing that is missed without them. Changes no table."""
    aside = SegmentTable(table.env, table.directory, table.stats, table.max_open_files, read_only=True)
    aside.unnamed = found.unnamed
    contents = {}
    for file_id in sorted({*found.data, *found.marked}):
        aside.live[file_id] = segment = Segment(file_id)
        contents[file_id] = _read(aside, segment, newest=file_id == max(found.data, default=0)).entries
    require_leftovers(aside, found, contents)


def _open_segment(table: SegmentTable, keydir: Keydir, file_id: int, *, newest: bool) -> Segment:
    """Brings the keys of one file into the keydir, and the file into order."""
    table.live[file_id] = segment = Segment(file_id)
    content = _read(table, segment, newest=newest)
    segment.end = content.end
    if content.hint is None:
        _keep(table, segment, len(table.view(file_id)))
        table.write_hint(segment, hint_of(content.entries))
    keydir.load(segment, content.entries, table.live)
    table.last_timestamp = max(table.last_timestamp, content.newest_timestamp)
    return segment


def _read(table: SegmentTable, segment: Segment, *, newest: bool) -> Content:
    """The content of a data file, from its hint or from its records. Raises CorruptionError for damage."""
    view = table.view(segment.id)
    size = len(view)
    hint = table.read_hint(segment)
    reach = newest_timestamp = 0
    if hint is not None:
        try:
            reach, newest_timestamp = hint_reach(decode_hint(hint))
        except BadHint:
            reach = -1
    if reach > size:
        why = f"the file ends here, and its hint lists a record that ends at byte {reach:,}"
        raise CorruptionError(data_path(table.directory, segment.id), size, f"{why}; {repair_advice(table.directory)}")
    if hint is not None and reach == size:
        # decoded once more by the caller: a list of its entries would take 200 bytes for each key
        return Content(decode_hint(hint), size, newest_timestamp, hint)
    segment.hint_bytes = 0  # it is not believed
    left_open = hint is not None and not was_closed(hint)
    try:
        entries, end = scan_entries(view, size, segment.id)
    except BadRecord as bad:
        why_not = why_damage(DataFile(view, size, segment.id, newest, reach, left_open), bad)
        if why_not is not None:
            path = data_path(table.directory, segment.id)
            raise CorruptionError(path, bad.offset, f"{bad.why}; {why_not}; {repair_advice(table.directory)}") from bad
        entries, end = whole_part(view, bad.offset, segment.id)
    table.stats.bytes_read += end
    return Content(entries, end, hint_reach(entries)[1], None)


def _keep(table: SegmentTable, segment: Segment, size: int) -> None:
    """Makes what was found in a file durable, and cuts off the rest.

    The file of the segment (`data_path`) has `size` bytes, and its whole records end at `segment.end`: what is behind
    that goes (`File.truncate`). Then the file is synced, whether it was cut or not (`table.sync`, at the site
    "bitcask.recover"): the page cache may hold what the disk doesn't, and what a reader has seen must not be gone after
    the next power cut. It is opened with the mode "r+", and closed in any case. Before that, `table.views` forgets the
    file, because no mapping may be longer than its file. Raises OSError.
    """
    table.views.pop(segment.id, None)
    file = table.env.open(data_path(table.directory, segment.id), "r+")
    try:
        if segment.end < size:
            file.truncate(segment.end)
        table.sync(file, "bitcask.recover")
    finally:
        file.close()


def forget_mark(table: SegmentTable, keydir: Keydir, segments: dict[int, Segment]) -> None:
    """Takes the empty key out of the keydir if it is a mark. (A user of Riak may have stored something under it.)"""
    if (place := keydir.places.get(b"")) is None:
        return
    file_id, offset, size = unpack(place)
    magic_at = offset + HEADER_BYTES  # a mark has no key
    if size == MARK_BYTES and table.view(file_id)[magic_at : magic_at + len(MARK_MAGIC)] == MARK_MAGIC:
        del keydir.places[b""]
        segments[file_id].live_bytes -= MARK_BYTES
