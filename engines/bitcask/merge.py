"""Merging: what is live in some old segments is copied to new ones, and the old ones go away.

    1.bitcask.data  a1 b1 c1        merge {1, 2}       7.bitcask.data  b1 c2        (8: the active segment from now on)
    2.bitcask.data  c2 †a                              3, 4 … stay as they are

The order of files is the order of history, and outputs are the newest: their ids are above those of all files but the
active one, which is a new one, so that what is written during a merge comes after its outputs.

**A deleted key never comes back** (basho/bitcask#82). A tombstone may go only if no record of its key is left that is
older. So:

1. A live record is copied: it is the last of its key, and stays so when it moves to the end.
2. A tombstone whose key is absent is dropped if every file older than its own is among the inputs, else it is copied.
3. A tombstone whose key is live has been survived: it is not needed, for us. Riak drops the tombstone of a *file* with
   that file, and so relies on there being one for each dead record that has no successor in its own file. To keep that
   true, a tombstone whose file stays is copied, together with the live value if that doesn't come anyway.
4. Inputs are removed the oldest first, and a file with a tombstone only when the removals before it are on the disk
   (engines.bitcask.segment): whichever of them a power cut leaves, together with the outputs they say the same.

(2) needs no history: it holds for directories of old Riaks too, which wrote no tombstones for overwritten values.

Where a power cut may strike: the outputs are written under names that nobody reads, synced, renamed, and their names
synced; then the keydir is turned to them; then the inputs go. Before the rename nothing has happened, after it
everything is there twice.

Which segments? Those at the old end: then all of (2) and (3) is dropped and nothing copied twice. How far from the old
end, garbage decides: the shortest run of the oldest segments of which `garbage_share` can be dropped, or else the
shortest with `dead_bytes` of garbage; and then the next, until there is none. Thus a merge writes at most (1 - share) of
what it reads, and afterwards the closed segments have at most 1 / (1 - share) times their live data, and less than that
many bytes of garbage. Any other set may be merged by its ids.

Readers see nothing of it. Writers wait while the inputs are chosen, and for one pass over the keys of each output.
Follows bitcask:merge of basho/bitcask. Left out: merge windows, expiry.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import TYPE_CHECKING
from zlib import crc32

from engines.bitcask.hint import OFFSET_MASK, TOMBSTONE_BIT, decode_hint, encode_entry, encode_hint
from engines.bitcask.keydir import OFFSET_MASK as PLACE_OFFSET_MASK
from engines.bitcask.keydir import SEGMENT_SHIFT, SIZE_BITS, SIZE_MASK
from engines.bitcask.record import (
    HALF_TIMESTAMP,
    HEADER_BYTES,
    BadRecord,
    encode_record,
    encode_tombstone,
    is_tombstone,
    read_records,
    tombstone_file,
)
from engines.bitcask.segment import Segment, SegmentTable, data_path
from engines.bitcask.torn import repair_advice
from engines.errors import CorruptionError
from engines.lifetime import holding

if TYPE_CHECKING:
    from engines.bitcask.store import BitcaskStore

__all__ = ["Merge", "Output", "choose", "is_compact"]

BUFFER_BYTES = 1 << 20


def choose(segments: Collection[Segment], garbage_share: float, dead_bytes: int) -> list[int]:
    """The ids of the segments that a merge is worth while for, ascending; [] if there are none.

    `segments` are the sealed ones, oldest first. O(segments).
    """
    enough: list[int] = []
    chosen: list[int] = []
    total = garbage = 0
    for segment in segments:
        chosen.append(segment.id)
        total += segment.end
        garbage += segment.end - segment.live_bytes
        if garbage >= garbage_share * total:
            return chosen
        if not enough and garbage >= dead_bytes:
            enough = chosen.copy()
    return enough


def is_compact(segments: Collection[Segment], max_file_size: int) -> bool:
    """True if merging all of these segments would give nothing back. O(segments)."""
    total = sum(segment.end for segment in segments)
    return all(segment.live_bytes == segment.end for segment in segments) and (
        len(segments) <= 1 or len(segments) <= total // max_file_size
    )


class Output:
    """A segment that is being written beside the others, for a merge or a load."""

    def __init__(self, table: SegmentTable, file_id: int) -> None:
        self.segment = Segment(file_id)
        self.entries: list[bytes] = []  # of its hint
        self._table = table
        self._buffer: list[bytes] = []
        self._buffered_bytes = 0
        self.path = f"{data_path(table.directory, file_id)}.new"
        self._file = table.begin_file(self.path, "w")

    def add(self, record: bytes, timestamp: int, key: bytes, tombstone: bool = False) -> None:
        """Appends an encoded record."""
        segment, size = self.segment, len(record)
        self.entries.append(
            encode_entry(timestamp, size, segment.end | TOMBSTONE_BIT if tombstone else segment.end, key)
        )
        if tombstone:
            segment.tombstone_bytes += size
        segment.end += size
        self._buffer.append(record)
        self._buffered_bytes += size
        if self._buffered_bytes >= BUFFER_BYTES:
            self._write()

    def _write(self) -> None:
        self._file.append(b"".join(self._buffer))
        self._table.stats.bytes_written += self._buffered_bytes
        self._buffer = []
        self._buffered_bytes = 0

    def finish(self, site: str) -> None:
        """Brings it to the disk, under the name that nobody reads."""
        self._write()
        self._table.sync(self._file, site)
        self._file.close()

    def discard(self) -> None:
        """Gives it up, unless it is published; what can't be removed now is removed by the next open."""
        self._file.close()
        if self.segment.id not in self._table.live:
            with contextlib.suppress(OSError):
                self._table.env.unlink(self.path)

    def publish(self) -> None:
        """Gives it its name, whose sync is the caller's. Requires: `finish`."""
        table, segment = self._table, self.segment
        table.env.rename(self.path, data_path(table.directory, segment.id))
        table.live[segment.id] = segment


class Merge:
    """One merge of the segments `inputs`.

    Requires: they are sealed, no segment is active, the ids from `first_id` on are reserved, no other merge is running;
    made under the store's writer lock, run without it. Raises CorruptionError, OSError.
    """

    def __init__(self, store: BitcaskStore, inputs: Collection[int], first_id: int) -> None:
        self._store = store
        self._table: SegmentTable = store._table
        self._places = store._keydir.places
        self._inputs = frozenset(inputs)
        self._next_id = first_id
        self._outputs: list[Output] = []
        self._copied_early: dict[bytes, int] = {}  # rule 3: keys whose value had to be copied with a tombstone
        self._outside = self._table.file_ids() - self._inputs
        self._oldest_outside = min(self._outside, default=1 << 62)

    @staticmethod
    def outputs_at_most(input_bytes: int, max_file_size: int) -> int:
        """How many ids to reserve: of two outputs in a row, more than max_file_size bytes are filled; and rule 3 can
        make two tombstones and a value of one tombstone."""
        return 8 + 8 * input_bytes // max_file_size

    def run(self) -> None:
        """Copies, publishes, retires. The store goes on meanwhile."""
        try:
            for file_id in sorted(self._inputs):
                self._copy_segment(file_id)
            if self._outputs:
                self._outputs[-1].finish("bitcask.merge.output")
            for output in self._outputs:
                holding(self._store._writer, self._install, output)
        except BaseException:
            for output in self._outputs:
                output.discard()
            raise
        holding(self._store._writer, holding, self._store._mutex, self._table.retire, self._inputs)

    def _copy_segment(self, file_id: int) -> None:
        """Copies what has to stay of one input."""
        table, places = self._table, self._places
        view, segment, base = table.view(file_id), table.live[file_id], file_id << SEGMENT_SHIFT
        try:
            for offset, timestamp, key, value in read_records(view, 0, segment.end):
                size = HEADER_BYTES + len(key) + len(value)
                if is_tombstone(value):
                    self._copy_tombstone(file_id, timestamp, key, value)
                    continue
                place = base | offset << SIZE_BITS | size
                if places.get(key) == place and self._copied_early.get(key) != place:
                    self._output_for(size).add(view[offset : offset + size], timestamp, key)
        except BadRecord as bad:
            raise CorruptionError(
                data_path(table.directory, file_id), bad.offset, f"{bad.why}; {repair_advice(table.directory)}"
            ) from bad
        table.stats.bytes_read += segment.end

    def _copy_tombstone(self, file_id: int, timestamp: int, key: bytes, value: bytes) -> None:
        """Rules 2 and 3. The copy stands for itself, and not for half of an overwrite (engines.bitcask.record)."""
        if timestamp == HALF_TIMESTAMP:
            timestamp = 1
        tombstone = encode_record(timestamp, key, value)
        place = self._places.get(key)
        if place is None:
            if self._oldest_outside < file_id:
                self._output_for(len(tombstone)).add(tombstone, timestamp, key, tombstone=True)
        elif tombstone_file(value) in self._outside:
            self._copy_overwrite(timestamp, key, tombstone, place)

    def _copy_overwrite(self, timestamp: int, key: bytes, tombstone: bytes, place: int) -> None:
        """Copies a tombstone and, behind it and into the same output, the live value that it must not hide."""
        home, offset, size = place >> SEGMENT_SHIFT, place >> SIZE_BITS & PLACE_OFFSET_MASK, place & SIZE_MASK
        record = self._table.view(home)[offset : offset + size]
        if len(record) != size or crc32(record[4:]) != int.from_bytes(record[:4]):
            why = f"the record fails its checksum; {repair_advice(self._table.directory)}"
            raise CorruptionError(data_path(self._table.directory, home), offset, why)
        for_home = b"" if home in self._inputs else encode_tombstone(timestamp, key, home)
        output = self._output_for(len(tombstone) + len(for_home) + size)
        output.add(tombstone, timestamp, key, tombstone=True)
        if for_home:
            output.add(for_home, timestamp, key, tombstone=True)
        output.add(record, int.from_bytes(record[4:8]), key)
        self._copied_early[key] = place

    def _output_for(self, size: int) -> Output:
        """The last output, or a new one if `size` more bytes are too many for that."""
        if not self._outputs or 0 < self._outputs[-1].segment.end > self._store._max_file_size - size:
            if self._outputs:
                self._outputs[-1].finish("bitcask.merge.output")
            self._outputs.append(Output(self._table, self._next_id))
            self._next_id += 1
        return self._outputs[-1]

    def _install(self, output: Output) -> None:
        """Turns the keydir to an output. Requires: the writer's lock; readers see the same values before and after.

        Keys that were written since they were copied stay as they are. Their copies are dead, and get a tombstone in
        the active segment (rule 3), which is on the disk before the output has its name.
        """
        store, table, places = self._store, self._table, self._places
        segment = output.segment
        base = segment.id << SEGMENT_SHIFT
        moved: dict[bytes, int] = {}
        outdated: set[bytes] = set()
        store.check_usable()
        hint = encode_hint(output.entries)
        for _, size, offset, key in decode_hint(hint):
            place = places.get(key)
            if offset & TOMBSTONE_BIT:
                moved.pop(key, None)
            elif place is not None and (place >> SEGMENT_SHIFT in self._inputs or self._copied_early.get(key) == place):
                moved[key] = base | (offset & OFFSET_MASK) << SIZE_BITS | size
            else:
                outdated.add(key)
        if outdated:
            self._bury(outdated, segment.id)
        output.publish()
        table.sync_names("bitcask.merge.rename")
        table.write_hint(segment, hint)
        holding(store._mutex, self._turn, moved, segment)

    def _bury(self, keys: Collection[bytes], file_id: int) -> None:
        """Rule 3 for copies that are dead before they have a name."""
        store, places = self._store, self._places
        if b"" in places:
            keys = {*keys, b""}  # engines.bitcask.log says why
        values = {key: store._read(key, places[key]) if key in places else None for key in sorted(keys)}
        buried = store._log.bury(places, values, file_id)
        with store._mutex: places.update(buried)  # fmt: skip  # noqa: E701

    def _turn(self, moved: dict[bytes, int], segment: Segment) -> None:
        """Gives the moved keys their new places. No view notes it: the bytes are the same."""
        places, live = self._places, self._table.live
        for key, place in moved.items():
            old = places[key]
            live[old >> SEGMENT_SHIFT].live_bytes -= old & SIZE_MASK
            segment.live_bytes += place & SIZE_MASK
        places.update(moved)
