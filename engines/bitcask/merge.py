"""Merging: what is live in some old segments is copied to new ones, and the old ones go away.

    1.bitcask.data  a1 b1 c1        merge {1, 2}       7.bitcask.data  b1 c2        (8: the active segment from then on)
    2.bitcask.data  c2 †a                              3, 4 … stay as they are

The order of files is the order of history, and outputs are the newest: their ids are above those of all files but the
active one, which is a new one, so that what is written during a merge comes after its outputs.

**A deleted key never comes back** (basho/bitcask#82). A tombstone may go only if no record of its key is left that is
older. It needs no history to know that, but a look at the ids: is any file left that is older than the tombstone's?

**A power cut leaves the state before or the state after.** The outputs are written under names that nobody reads,
synced, renamed, and their names synced; then the keydir is turned to them; then the inputs go, the oldest first. Before
a rename the output does not exist, after it everything in it is there twice, and says the same.

**Riak may merge our files.** It drops the tombstone of a *file* together with that file, and so relies on there being a
tombstone for each dead record that has no successor in its own file. Our merges keep that true.

Readers see nothing of a merge. Writers wait while the inputs are chosen, and for one pass over the keys of each output.
Which segments are merged is engines.bitcask.policy. Follows bitcask:merge of basho/bitcask.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from engines.bitcask.core import NEVER, Core
from engines.bitcask.hint import OFFSET_MASK, TOMBSTONE_BIT
from engines.bitcask.output import Output
from engines.bitcask.place import Place, pack, read_record, unpack
from engines.bitcask.record import (
    HALF_TIMESTAMP,
    HEADER,
    HEADER_BYTES,
    BadRecord,
    encode_record,
    encode_tombstone,
    is_tombstone,
    read_records,
    tombstone_file,
)
from engines.bitcask.segment import Segment, data_path, repair_advice
from engines.env import View
from engines.errors import CorruptionError
from engines.lifetime import holding

__all__ = ["Merge", "tombstone_stays"]


def tombstone_stays(file_id: int, outside: Collection[int]) -> bool:
    """True if a merge has to copy a tombstone of the file `file_id` whose key is dead.

    `outside` are the ids of all data files that are no inputs of the merge. The tombstone is needed while any of them
    may hold a record of its key that is older, and the ids tell the order of history. No file is opened. O(files).
    """
    return min(outside, default=NEVER) < file_id


class Merge:
    """One merge of the segments `inputs`.

    Requires: they are sealed, no segment is active, the ids from `first_id` on are reserved, no other merge is running;
    made under the writer's lock, run without it.
    """

    def __init__(self, core: Core, inputs: Collection[int], first_id: int) -> None:
        self._core = core
        self._table = core.table
        self._places = core.keydir.places
        self._inputs = frozenset(inputs)
        self._input_bytes = sum(self._table.live[file_id].end for file_id in inputs)
        self._next_id = first_id
        self._outputs: list[Output] = []
        self._copied_early: dict[bytes, Place] = {}  # keys whose value had to be copied together with a tombstone
        self._outside = self._table.file_ids() - self._inputs

    @staticmethod
    def outputs_at_most(input_bytes: int, max_file_size: int) -> int:
        """How many ids to reserve."""
        # Of two outputs in a row more than max_file_size bytes are filled; and one tombstone can make us write two
        # tombstones and a value
        return 8 + 8 * input_bytes // max_file_size

    def run(self) -> None:
        """The whole merge. The store goes on meanwhile. O(bytes of the inputs).

        Copies each input with `_copy_segment`, the oldest first: an older record never comes after a newer one. Brings
        the last output to the disk (`finish`, at the site "bitcask.merge.output"; `_output_for` has finished the ones
        before). Installs each output with `_install`. Only after all of them, takes the inputs out of use with `_retire`.

        Raises CorruptionError for a damaged input, OSError; then every output is discarded, and the inputs stay.
        """
        try:
            for file_id in sorted(self._inputs):
                self._copy_segment(file_id)
            if self._outputs:
                self._outputs[-1].finish("bitcask.merge.output")
            for output in self._outputs:
                self._install(output)
        except BaseException:
            for output in self._outputs:
                output.discard()
            raise
        self._retire()

    def progress(self) -> dict[str, Any]:
        """How far the merge has come, ready for JSON: for `describe`, while another thread runs it. O(outputs)."""
        outputs = [{"id": output.segment.id, "bytes": output.segment.end} for output in self._outputs[:]]
        return {
            "inputs": sorted(self._inputs),
            "input_bytes": self._input_bytes,
            "outputs": outputs,
            "output_bytes": sum(output["bytes"] for output in outputs),
        }

    # ---- copying ----------------------------------------------------------------------------------------------------

    def _copy_segment(self, file_id: int) -> None:
        """Copies what has to stay of one input. Raises CorruptionError, OSError."""
        view, segment = self._table.view(file_id), self._table.live[file_id]
        try:
            self._copy_records(view, file_id, segment.end)
        except BadRecord as bad:
            raise self._corruption(file_id, bad) from bad
        self._table.stats.bytes_read += segment.end

    def _copy_records(self, view: View, file_id: int, end: int) -> None:
        """Copies what has to stay of the records in view[:end], the bytes of the input `file_id`, in their order.

        A value has to stay if the keydir (`_places`) points at exactly this record: then its bytes are added, as they
        are, to the output that `_output_for` has for its size. The exception: if `_copied_early` has this place for the
        key, the given code has copied it together with a tombstone, and it isn't copied twice. What to do with a
        tombstone, `_copy_tombstone` knows. Raises BadRecord (read_records does), OSError. O(bytes).
        """
        for offset, timestamp, key, value in read_records(view, 0, end):
            if is_tombstone(value):
                self._copy_tombstone(file_id, timestamp, key, value)
                continue
            size = HEADER_BYTES + len(key) + len(value)
            place = pack(file_id, offset, size)
            if self._places.get(key) == place and self._copied_early.get(key) != place:
                self._output_for(size).add(view[offset : offset + size], timestamp, key)

    def _copy_tombstone(self, file_id: int, timestamp: int, key: bytes, value: bytes) -> None:
        """Copies a tombstone, or drops it: of a key that is dead `tombstone_stays` decides."""
        if timestamp == HALF_TIMESTAMP:
            timestamp = 1  # the copy stands for itself, and is not half of an overwrite (engines.bitcask.record)
        tombstone = encode_record(timestamp, key, value)
        place = self._places.get(key)
        if place is None:
            # This holds for directories of old Riaks, too, which wrote no tombstones for overwritten values
            if tombstone_stays(file_id, self._outside):
                self._output_for(len(tombstone)).add(tombstone, timestamp, key, tombstone=True)
        elif tombstone_file(value) in self._outside:
            # The key was written again, so we don't need its tombstone. But the file stays that it names, with a dead
            # record, and Riak needs one
            self._copy_overwrite(timestamp, key, tombstone, place)

    def _copy_overwrite(self, timestamp: int, key: bytes, tombstone: bytes, place: Place) -> None:
        """Copies a tombstone and, after it and into the same output, the live value that it must not hide."""
        home, offset, size = unpack(place)
        try:
            record = read_record(self._table.view(home), offset, size, key)
        except BadRecord as bad:
            raise self._corruption(home, bad) from bad
        # If the value's own file stays, the record there is dead from now on, and Riak needs a tombstone for it as well
        for_home = b"" if home in self._inputs else encode_tombstone(timestamp, key, home)
        output = self._output_for(len(tombstone) + len(for_home) + size)
        output.add(tombstone, timestamp, key, tombstone=True)
        if for_home:
            output.add(for_home, timestamp, key, tombstone=True)
        _, value_timestamp, _, _ = HEADER.unpack_from(record)
        output.add(record, value_timestamp, key)
        self._copied_early[key] = place

    def _output_for(self, size: int) -> Output:
        """The last output, or a new one if `size` more bytes are too many for that."""
        if not self._outputs or self._outputs[-1].segment.is_full(size, self._core.options.max_file_size):
            if self._outputs:
                self._outputs[-1].finish("bitcask.merge.output")
            self._outputs.append(Output(self._table, self._next_id))
            self._next_id += 1
        return self._outputs[-1]

    def _corruption(self, file_id: int, bad: BadRecord) -> CorruptionError:
        directory = self._table.directory
        return CorruptionError(data_path(directory, file_id), bad.offset, f"{bad.why}; {repair_advice(directory)}")

    # ---- publishing -------------------------------------------------------------------------------------------------

    def _install(self, output: Output) -> None:
        """Publishes an output and turns the keydir to it, under the writer's lock: nothing is written meanwhile.

        Readers see the same values before and after. Keys that were written since they were copied stay as they are.
        """
        self._core.writing(self._install_now, output)

    def _install_now(self, output: Output) -> None:
        self._core.check_usable()
        moved, outdated = self._moves(output)
        self._publish(output, outdated)
        holding(self._core.mutex, self._turn, moved, output.segment)

    def _moves(self, output: Output) -> tuple[dict[bytes, Place], set[bytes]]:
        """What an output means for the keydir: the new places of the keys that move, and the keys whose copies are dead.

        `output.entries()` has its records in order, and the later one of a key counts. The copy of a value is good if
        the key's place still is one that was copied: it lies in one of the inputs, or is that of `_copied_early`. Else
        the key was written or deleted since it was copied, and the copy is dead. Requires: the writer's lock. Changes
        nothing. O(entries).
        """
        moved: dict[bytes, Place] = {}
        outdated: set[bytes] = set()
        for _, size, offset, key in output.entries():
            place = self._places.get(key)
            if offset & TOMBSTONE_BIT:
                moved.pop(key, None)
            elif place is not None and (unpack(place)[0] in self._inputs or self._copied_early.get(key) == place):
                moved[key] = pack(output.segment.id, offset & OFFSET_MASK, size)
            else:
                outdated.add(key)
        return moved, outdated

    def _publish(self, output: Output, outdated: Collection[bytes]) -> None:
        """Makes an output a data file that the next opening would read, in an order that a power cut can't hurt.

        1. If any of its copies are dead, `_bury` writes tombstones for them, which are on the disk when it returns. Not
        later: a power cut in between would leave dead records without a tombstone, which Riak's merges rely on.
        2. `output.publish()` gives the file its name.
        3. `sync_names`, at the site "bitcask.merge.rename", brings the name to the disk: the inputs are about to go, and
        from then on their records are only here.
        4. The hint, which may be missing, comes last.

        Requires: the output is finished; the writer's lock. Raises OSError.
        """
        if outdated:
            self._bury(outdated, output.segment.id)
        output.publish()
        self._table.sync_names("bitcask.merge.rename")
        self._table.write_hint(output.segment, output.hint())

    def _bury(self, keys: Collection[bytes], file_id: int) -> None:
        """Writes tombstones for the copies of these keys in an output, and their live values once more."""
        core, places = self._core, self._places
        if b"" in places:
            keys = {*keys, b""}  # a mark is written, and the last record of the empty key has to be the user's again
        values = {key: core.read(key, places[key]) if key in places else None for key in sorted(keys)}
        buried = core.log.bury(places, values, file_id)
        holding(core.mutex, places.update, buried)

    def _turn(self, moved: dict[bytes, Place], segment: Segment) -> None:
        """Gives the moved keys their new places, all in `segment`; their old segments' `live_bytes` become its own.

        No snapshot notes it: the bytes are the same. Requires: the mutex; each key is in the keydir. O(keys).
        """
        for key, place in moved.items():
            home, _, old_size = unpack(self._places[key])
            self._table.live[home].live_bytes -= old_size
            segment.live_bytes += unpack(place)[2]
        self._places.update(moved)

    def _retire(self) -> None:
        """Takes the inputs out of use: their files go when no snapshot needs them (SegmentTable.remove_retired)."""
        self._core.writing(holding, self._core.mutex, self._table.retire, self._inputs)
