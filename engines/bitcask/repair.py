"""repair(): data files without their damage. Everything that is whole stays, and what was there is kept aside.

    1.bitcask.data           [record][record][ damage ][record]          as it was: now 1.bitcask.data.damaged
    1.bitcask.data           [record][record][record]                    under its name

Every record of every data file is read, whatever its hint says: an opening believes a hint that is whole, and so finds
damage only when a record is read. All is looked at before anything is changed.

Where does the next record begin, after one whose checksum is wrong? Of these, the first that is a whole record:

1. where the record says that it ends, if its lengths are what they were;
2. where the file's hint says that a record of that key and that size begins;
3. at a mark, which says itself where it was written (engines.bitcask.record).

No byte is tried only because a checksum fits there: a value may hold what looks like a record, and a key that nobody has
written must not appear. If none of the three leads on, the rest of the file is left out.

What is left out of a key's history was its last word, or wasn't: an older record of the key may count again. But if a
hint that is whole says that the last word was a deletion, a tombstone takes its place, so that no deleted key comes back.
A batch of which a record is damaged was acknowledged, so the rest of it is kept, without its mark. A torn end is none of
this (engines.bitcask.torn): the next opening cuts it off.

Where a crash may strike: the new file is written and synced under a name that nobody reads; then the old one gets its
second name, and then the new one takes the first. Before that the file is damaged as before, and after it, repaired; its
old hint, which lists more than is there, goes next, and if a crash leaves that, repair is asked for again.

Follows nothing of basho/bitcask, which skips a damaged record by its lengths at each opening, and gives up after twenty.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, count
from zlib import crc32

from engines.bitcask.hint import (
    OFFSET_MASK,
    TOMBSTONE_BIT,
    BadHint,
    Entry,
    decode_hint,
    hint_reach,
    unchecked_entries,
    was_closed,
)
from engines.bitcask.intent import redo_load
from engines.bitcask.locks import DirectoryLock
from engines.bitcask.record import (
    HEADER,
    HEADER_BYTES,
    MARK_BYTES,
    TOMBSTONE_V1,
    BadRecord,
    Mark,
    encode_record,
    half_of_overwrite,
    parse_mark,
    read_records,
)
from engines.bitcask.recovery import prove_leftovers
from engines.bitcask.scan import own_mark, scan_entries
from engines.bitcask.segment import Segment, SegmentTable, data_path, hint_path
from engines.bitcask.survey import Survey, survey
from engines.bitcask.torn import DataFile, find_marks, why_damage
from engines.env import Env, View
from engines.kvstore import Stats

__all__ = ["log_repair", "repair"]

_log = logging.getLogger("metcd.bitcask")

COPY_BYTES = 1 << 20
FIRST_LOOK_BYTES = 4096  # after each damaged record, of which there may be many
SHOWN = 5  # damaged places of a file that are told one by one


@dataclass(slots=True)
class _Plan:
    """What is to become of one data file: the parts of it that stay, in order, with tombstones for what can't."""

    file_id: int
    parts: list[tuple[int, int] | bytes] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    rewrite: bool = True  # False: the data is whole, and only the hint is wrong


def repair(path: str, env: Env) -> list[str]:
    """Leaves out what is damaged in the data files at `path`; returns what was done, in sentences, [] if nothing.

    Raises, before anything is changed, StoreLocked; CorruptionError if the list of a load is damaged; ForeignFormat if
    the files are whole, and Riak may be about to delete some (engines.bitcask.leftovers; one that is repaired has no such
    mark any more); and OSError. O(bytes), and once more for each damaged file.
    """
    lock = DirectoryLock(env, path)
    try:
        table = SegmentTable(env, path, Stats(), 1, read_only=True)
        found = survey(env, path)
        file_ids = sorted({*found.data, *found.marked})
        plans = [plan for file_id in file_ids if (plan := _examine(table, found, file_id)) is not None]
        if not plans:
            if found.marked:
                prove_leftovers(table, found)
            return []
        table.views.clear()
        redo_load(table)
        return [sentence for plan in plans for sentence in _carry_out(env, path, plan)]
    finally:
        lock.close()


def log_repair(path: str, done: list[str]) -> None:
    """A line for each sentence, where a store repairs itself before it opens."""
    for sentence in done:
        _log.warning("%s: %s", path, sentence)


# ---- looking --------------------------------------------------------------------------------------------------------


def _examine(table: SegmentTable, found: Survey, file_id: int) -> _Plan | None:
    """The plan for a data file; None if nothing is wrong with it that an opening doesn't put right."""
    file = table.env.open(found.unnamed.get(file_id) or data_path(table.directory, file_id), "r")
    try:
        view = file.view()
    finally:
        file.close()
    hint = table.read_hint(Segment(file_id))
    entries, whole = _entries(hint)
    reach = hint_reach(entries)[0] if whole else 0
    left_open = hint is not None and not was_closed(hint)
    data = DataFile(view, len(view), file_id, file_id == max(found.data, default=0), min(reach, len(view)), left_open)
    name = f"{file_id}.bitcask.data"
    try:
        scanned, _ = scan_entries(view, data.size, file_id)
    except BadRecord as bad:
        why = why_damage(data, bad)
        if why is None and reach <= data.size:
            return None
        return _Salvage(data, entries, whole).plan(bad, why or "the file was cut")
    if reach > data.size:
        lost = sum((entry[2] & OFFSET_MASK) + entry[1] > data.size for entry in entries)
        what = f"{name}: it ends at byte {data.size:,}, and its hint lists {lost:,} more records, which are lost"
        return _Plan(file_id, sentences=[what], rewrite=False)
    if (
        whole
        and reach == data.size
        and {entry[3]: entry for entry in entries} != {entry[3]: entry for entry in scanned}
    ):
        return _Plan(file_id, sentences=[f"{name}: its hint says something else than its records"], rewrite=False)
    return None


def _entries(hint: bytes | None) -> tuple[list[Entry], bool]:
    """The entries of a hint in the order of their offsets, and whether the hint is whole."""
    if hint is None:
        return [], False
    found: list[Entry] = []
    try:
        found += decode_hint(hint)
        whole = True
    except BadHint:
        whole = False
        found = list(unchecked_entries(hint))
    return sorted(found, key=lambda entry: entry[2] & OFFSET_MASK), whole


class _Salvage:
    """What is whole in a damaged data file."""

    def __init__(self, file: DataFile, entries: list[Entry], hint_is_whole: bool) -> None:
        self._file = file
        self._entries = entries
        self._offsets = [entry[2] & OFFSET_MASK for entry in entries]
        self._hint_is_whole = hint_is_whole
        marks = list(find_marks(file.view, 0, file.size, file.file_id))
        self._marks = [offset for offset, _ in marks]
        self._synced = [*accumulate((synced for _, synced in reversed(marks)), max, initial=0)][
            ::-1
        ]  # from each mark on
        self._plan = _Plan(file.file_id)
        self._lost: list[str] = []

    def plan(self, bad: BadRecord, why: str) -> _Plan:
        """Keeps everything before the first bad record as it is, and after it what is whole."""
        name = f"{self._file.file_id}.bitcask.data"
        self._keep(0, bad.offset)
        at: int | None = bad.offset
        while at is not None and at < self._file.size:
            broken = self._walk(at)
            if broken >= self._file.size or self._is_torn_end(broken):
                break
            at = self._next(broken)
            self._leave_out(broken, self._file.size if at is None else at)
        more = f"; {len(self._lost) - SHOWN:,} more places" if len(self._lost) > SHOWN else ""
        self._plan.sentences.append(f"{name}: {bad}; {why}; left out: {'; '.join(self._lost[:SHOWN])}{more}")
        return self._plan

    def _keep(self, start: int, stop: int) -> None:
        parts = self._plan.parts
        if start < stop:
            last = parts[-1] if parts else b""
            if isinstance(last, tuple) and last[1] == start:
                parts[-1] = (last[0], stop)
            else:
                parts.append((start, stop))

    def _walk(self, start: int) -> int:
        """Keeps the records from `start` on, without marks, which would stand elsewhere; returns where they end."""
        view, file_id = self._file.view, self._file.file_id
        end = start
        half: tuple[int, int] | None = None
        try:
            for offset, timestamp, key, value in read_records(view, start, self._file.size, FIRST_LOOK_BYTES):
                if half is not None:
                    self._keep(*half)  # with what follows it; a half that is followed by damage means nothing
                    half = None
                mark = own_mark(value, offset, file_id) if not key else None
                if mark is not None and self._is_torn_batch(offset, mark):
                    return offset
                end = offset + HEADER_BYTES + len(key) + len(value)
                if half_of_overwrite(timestamp, value, file_id):
                    half = (offset, end)
                elif parse_mark(key, value) is None:
                    self._keep(offset, end)
        except BadRecord as bad:
            return bad.offset
        return end

    def _is_torn_batch(self, offset: int, mark: Mark) -> bool:
        """True for a batch that isn't whole and may never have been acknowledged, so that no part of it may appear."""
        if not mark.records or not self._is_torn_end(offset):
            return False
        batch = self._file.view[offset + MARK_BYTES : offset + MARK_BYTES + mark.size_bytes]
        return len(batch) < mark.size_bytes or crc32(batch) != mark.crc

    def _is_torn_end(self, offset: int) -> bool:
        """True if the next opening would cut the newest file here: nothing says that this was on the disk."""
        file = self._file
        return file.newest and offset >= file.reach and self._synced[bisect_right(self._marks, offset)] <= offset

    def _next(self, broken: int) -> int | None:
        """Where the next whole record begins, or None; the module's docstring says how it is known."""
        view, size = self._file.view, self._file.size
        found: list[int] = []
        header = view[broken : broken + HEADER_BYTES]
        if len(header) == HEADER_BYTES:
            _, _, key_size, value_size = HEADER.unpack(header)
            end = broken + HEADER_BYTES + key_size + value_size
            if end == size or _record_at(view, end, size) is not None:
                found.append(end)
        mark = bisect_right(self._marks, broken)
        found += self._marks[mark : mark + 1]
        for place in range(bisect_right(self._offsets, broken), len(self._offsets)):
            _, entry_size, _, key = self._entries[place]
            if found and self._offsets[place] >= min(found):
                break
            if _record_at(view, self._offsets[place], size) == (entry_size, key):
                found.append(self._offsets[place])
                break
        return min(found, default=None)

    def _leave_out(self, start: int, stop: int) -> None:
        """Says what is lost between the two, as far as the hint knows; keeps what it says about deletions."""
        keys = []
        for place in range(bisect_right(self._offsets, start - 1), bisect_right(self._offsets, stop - 1)):
            timestamp, _, offset, key = self._entries[place]
            if offset & TOMBSTONE_BIT and self._hint_is_whole:
                value = TOMBSTONE_V1 + self._file.file_id.to_bytes(4)
                self._plan.parts.append(encode_record(timestamp, key, value))
            else:
                keys.append(repr(key[:40]))
        whose = f", the last record of {', '.join(keys[:SHOWN])}" if keys else ""
        more = f" and of {len(keys) - SHOWN:,} more keys" if len(keys) > SHOWN else ""
        older = ": an older one counts again if there is one" if keys else ""
        self._lost.append(f"bytes {start:,} to {stop:,}{whose}{more}{older}")


def _record_at(view: View, at: int, size: int) -> tuple[int, bytes] | None:
    """(size, key) of the record at a byte if it is whole."""
    try:
        for _, _, key, value in read_records(view, at, size, HEADER_BYTES):
            return HEADER_BYTES + len(key) + len(value), key
    except BadRecord:
        pass
    return None


# ---- doing ----------------------------------------------------------------------------------------------------------


def _carry_out(env: Env, directory: str, plan: _Plan) -> Iterator[str]:
    """Puts the new file in the place of the old one. Yields the sentences when it is done."""
    data, hint = data_path(directory, plan.file_id), hint_path(directory, plan.file_id)
    kept = []
    if plan.rewrite:
        _write(env, data, f"{data}.new", plan.parts)
        aside = _free_name(env, data)
        try:
            env.link(data, aside)
        except OSError:  # a file system without links
            _write(env, data, aside, [(0, 1 << 62)])
        env.sync_dir(directory, "bitcask.repair.aside")
        env.rename(f"{data}.new", data)
        kept.append(aside)
    if env.exists(hint):
        kept.append(_free_name(env, hint))
        env.rename(hint, kept[-1])  # the next opening makes one from the data
    env.sync_dir(directory, "bitcask.repair.names")
    names = " and ".join(each.rpartition("/")[2] for each in kept)
    for sentence in plan.sentences:
        yield f"{sentence}; what was there is kept as {names}"


def _write(env: Env, source: str, target: str, parts: list[tuple[int, int] | bytes]) -> None:
    """A file with these parts of another, on the disk."""
    old, new = env.open(source, "r"), env.open(target, "w")
    try:
        env.adopt(target, source)
        for part in parts:
            if isinstance(part, bytes):
                new.append(part)
                continue
            at, stop = part[0], min(part[1], old.size())
            while at < stop:
                data = old.pread(min(COPY_BYTES, stop - at), at)
                new.append(data)
                at += len(data)
        new.sync("bitcask.repair.data")
    finally:
        old.close()
        new.close()


def _free_name(env: Env, path: str) -> str:
    """The path with ".damaged" after it, and a number if that is taken."""
    names = (f"{path}.damaged{number or ''}" for number in count())
    return next(name for name in names if not env.exists(name))
