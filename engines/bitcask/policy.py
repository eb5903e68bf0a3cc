"""Which segments are merged, and when.

**Which?** Those at the old end: then no older file is left that could hold what a tombstone kills, so every tombstone is
dropped, and nothing is copied twice (engines.bitcask.merge). How far from the old end, garbage decides:

    id            1     2     3     4     active
    garbage      90 %  60 %  10 %   0 %            with a share of 0.6:  {1} first, then {2}, then none

The shortest run of the oldest segments of which `garbage_share` is garbage, or else the shortest with `dead_bytes` of
it; and then the next, until there is none. So a merge writes at most (1 - share) of what it reads, and afterwards the
sealed segments have at most 1 / (1 - share) times their live data, and less than `dead_bytes` of garbage. Any other set
may be merged by its ids.

**When?** After a write has filled a segment: in that write, or in a thread; or only when asked.

Follows bitcask:needs_merge of basho/bitcask and its names for the triggers. Left out: merge windows, expiry.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection

from engines.bitcask.core import Core
from engines.bitcask.merge import Merge
from engines.bitcask.segment import Segment
from engines.errors import InvalidOption, StoreError
from engines.lifetime import holding

__all__ = ["Merging", "choose", "is_compact"]


def choose(segments: Collection[Segment], garbage_share: float, dead_bytes: int) -> list[int]:
    """The ids of the segments that a merge is worth while for, oldest first; [] if there are none.

    `segments` are the sealed ones, oldest first. Their garbage is what isn't live of their `end` bytes. The answer is
    the shortest run of the oldest segments whose garbage is at least `garbage_share` of its bytes, a part of 1.0; if no
    run has that, the shortest whose garbage is at least `dead_bytes`. Empty segments don't exist. O(segments).
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
    """True if merging all of these segments would give nothing back. O(segments).

    So if every byte in them is live, and they are no more than one, or no more than as many as files of `max_file_size`
    bytes can be filled with what is in them.
    """
    total = sum(segment.end for segment in segments)
    return all(segment.live_bytes == segment.end for segment in segments) and (
        len(segments) <= 1 or len(segments) <= total // max_file_size
    )


class Merging:
    """The merges of a store: the chosen, the asked for, and the thread that does them if there is one.

    `running` is the merge that is being done, for `describe`.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self._when = core.options.merge
        self._thread: threading.Thread | None = None
        self.running: Merge | None = None

    def compact(self) -> None:
        """Merges all segments, if there is any garbage in them or they are more than they need be. O(live bytes)."""
        holding(self.core.merging_lock, self._merge, None)

    def merge(self, file_ids: Collection[int] | None) -> list[int]:
        """Merges the segments with these ids; or those that are worth while, until none is. Returns the merged ids.

        Raises InvalidOption for an id that no sealed segment has, CorruptionError, OSError.
        """
        return holding(self.core.merging_lock, self._merge_some, file_ids)

    def _merge_some(self, file_ids: Collection[int] | None) -> list[int]:
        merged: list[int] = []
        if file_ids is None:
            while chosen := self.core.writing(self._choose):
                self._merge(chosen)
                merged += chosen
        elif file_ids:
            merged = sorted(set(file_ids))
            unknown = [file_id for file_id in merged if file_id not in self.core.table.sealed()]
            if unknown:
                raise InvalidOption(f"no sealed segment has the id {unknown[0]}: describe() lists them")
            self._merge(merged)
        return merged

    def _choose(self) -> list[int]:
        """What a merge is worth while for. Requires: the writer's lock."""
        core, options = self.core, self.core.options
        core.check_usable()
        with core.poisoning():
            core.remove_retired()
        if core.table.retired:
            # Files that wait for a snapshot may hold what a tombstone kills: a merge would keep the tombstone, and the
            # next one would find it worth while again, and again (basho/bitcask#205)
            return []
        return choose(core.table.sealed().values(), options.garbage_share, options.dead_bytes)

    def _merge(self, chosen: list[int] | None) -> None:
        """Merges the chosen segments, or all. Requires: the merging lock."""
        core = self.core
        with core.poisoning():
            merge = core.writing(self._begin, chosen)
            if merge is not None:
                self.running = merge
                try:
                    merge.run()
                finally:
                    self.running = None
                core.merges += 1
                core.writing(core.remove_retired)

    def _begin(self, chosen: list[int] | None) -> Merge | None:
        """None if there is nothing to merge. Requires: both locks."""
        core, table = self.core, self.core.table
        core.check_usable()
        core.remove_retired()
        max_file_size = core.options.max_file_size
        if chosen is None and is_compact(table.live.values(), max_file_size):
            return None
        core.log.seal()  # what is written from now on has to come after the outputs, and so in a file with a greater id
        inputs = table.live if chosen is None else {file_id: table.live[file_id] for file_id in chosen}
        if not inputs:
            return None
        input_bytes = sum(segment.end for segment in inputs.values())
        first_id = table.take_id(Merge.outputs_at_most(input_bytes, max_file_size))
        return Merge(core, inputs, first_id)

    # ---- when -------------------------------------------------------------------------------------------------------

    def run_if_due(self) -> None:
        """If a segment was filled since the last call: merges here, or has a thread do it. Called after each write."""
        if not self.core.log.rotations:
            return
        self.core.log.rotations = 0
        if self._when == "manual" or self.core.merging_lock.locked():
            return
        if self._when == "inline":
            self.merge(None)
        elif self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._merge_quietly, name="bitcask-merge")
            try:
                thread.start()
                self._thread = thread
            except RuntimeError:  # the interpreter is ending, or the system has no more threads
                self._when = "inline"
                self.merge(None)

    def _merge_quietly(self) -> None:
        """What the thread does: a failure has poisoned the store, or is raised again when the damaged record is read."""
        with contextlib.suppress(StoreError, OSError):
            self.merge(None)

    def join(self) -> None:
        """Waits for the thread, if there is one, unless it is the caller."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def end_thread(self) -> None:
        """At the interpreter's end: no more threads; what is due then is done in the write."""
        if self._when == "thread":
            self._when = "inline"
        self.join()
