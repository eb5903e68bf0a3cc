"""Engines with one bug each: what the suite has to notice, or it proves nothing about the engines that pass.

Each is the memory engine with one method gone wrong the way that such methods do go wrong; what shows on a disk only is in
broken_toys.py. `caught_by` names the case that notices it; "machine" is the state machine.
test_suite_can_fail.py runs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from engines.errors import StoreClosed
from engines.kvstore import Pair, Snapshot, Stats, WriteBatch, check_key
from engines.memory import MemorySnapshot, MemoryStore

# scans


class StopIsIncluded(MemoryStore):
    """An off by one at the end of the range."""

    caught_by: ClassVar = "test_a_scan_shows_its_range_in_order"

    def scan(self, start: bytes = b"", stop: bytes | None = None, **rest: Any) -> Iterator[Pair]:
        return super().scan(start, None if stop is None else stop + b"\x00", **rest)


class PrefixOfFF(MemoryStore):
    """The successor of a prefix is taken to be its last byte plus one, which b"\\xff" doesn't have."""

    caught_by: ClassVar = "test_a_scan_shows_its_range_in_order"

    def scan(self, start: bytes = b"", stop: bytes | None = None, *, prefix: bytes | None = None, **rest: Any):
        if prefix:
            end = prefix[:-1] + bytes((min(prefix[-1] + 1, 255),))
            start, stop = max(start, prefix), end if stop is None else min(stop, end)
        return super().scan(start, stop, **rest)


class BackwardsIncludesStop(MemoryStore):
    """A seek to the key at or before `stop`, where the key before it is meant."""

    caught_by: ClassVar = "test_a_scan_shows_its_range_in_order"

    def scan(self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False, **rest: Any):
        if reverse and stop in self and start < stop and not rest["prefix"]:
            return super().scan(start, stop + b"\x00", reverse=True, **rest)
        return super().scan(start, stop, reverse=reverse, **rest)


class ShortKeysFirst(MemoryStore):
    """Keys in the order of their length, as they come out of length-prefixed records."""

    caught_by: ClassVar = "test_order_is_that_of_unsigned_bytes"

    def scan(self, *bounds: Any, reverse: bool = False, **rest: Any) -> Iterator[Pair]:
        pairs = super().scan(*bounds, **rest)
        return iter(sorted(pairs, key=lambda pair: (len(pair[0]), pair[0]), reverse=reverse))


class ScanBeginsLate(MemoryStore):
    """A generator: nothing happens, nor is anything looked at, before the first pair is asked for."""

    caught_by: ClassVar = "test_a_scan_shows_the_moment_of_its_call"

    def scan(self, *bounds: Any, **rest: Any) -> Iterator[Pair]:
        yield from super().scan(*bounds, **rest)


class ScanRefusesLate(MemoryStore):
    """The moment is right, and a bad bound is found out too late."""

    caught_by: ClassVar = "test_a_bound_that_is_not_bytes_is_refused_at_the_call"

    def scan(self, *bounds: Any, **rest: Any) -> Iterator[Pair]:
        snapshot = self.snapshot()
        return (pair for reader in [snapshot] for pair in _scan_later(reader, bounds, rest))


def _scan_later(reader: Snapshot, bounds: Any, rest: Any) -> Iterator[Pair]:
    yield from reader.scan(*bounds, **rest)


class ScanPinsNothing(MemoryStore):
    """Chunks of what is there when they are fetched."""

    caught_by: ClassVar = "test_a_long_scan_holds_its_moment_through_flush_and_compaction"

    def scan(self, *bounds: Any, **rest: Any) -> Iterator[Pair]:
        snapshot = self.snapshot()
        self._snapshots.discard(snapshot)
        return snapshot.scan(*bounds, **rest)


class ScanOutlivesStore(MemoryStore):
    """A scan that has fetched its pairs goes on after `close`."""

    caught_by: ClassVar = "test_close_ends_snapshots_and_scans"

    def scan(self, *bounds: Any, **rest: Any) -> Iterator[Pair]:
        return iter(list(super().scan(*bounds, **rest)))


# keys and values


class EmptyIsAbsent(MemoryStore):
    """`or` where `is None` is meant."""

    caught_by: ClassVar = "test_an_empty_value_is_a_value"

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        return super().get(key) or default


class TakesAnyKey(MemoryStore):
    """A lookup that doesn't check its key: a bytearray finds nothing, or more than it should."""

    caught_by: ClassVar = "test_what_is_no_key_is_refused_everywhere"

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        try:
            check_key(key)
        except ValueError:
            return default
        return super().get(key, default)


class ShortKeysOnly(MemoryStore):
    """One byte for the key's length."""

    caught_by: ClassVar = "test_keys_have_one_byte_to_32_768"

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        cut = WriteBatch()
        cut.operations = [(key[:255], value) for key, value in batch.operations]
        super().write(cut, sync=sync)


class MultiGetSorts(MemoryStore):
    """Reads in key order, which is faster, and forgets in which order it was asked."""

    caught_by: ClassVar = "test_multi_get_keeps_order_duplicates_and_gaps"

    def multi_get(self, keys: Iterable[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in sorted(keys)]


# batches


class BatchWritesThrough(MemoryStore):
    """Each operation of a batch is applied when it is added."""

    caught_by: ClassVar = "test_a_batch_with_a_bad_value_writes_nothing"

    @contextmanager
    def batch(self, *, sync: bool | None = None) -> Iterator[WriteBatch]:
        batch = WriteBatch()
        try:
            yield batch
        finally:
            self.write(batch)


class FirstInBatchWins(MemoryStore):
    """A batch that is made a map of its keys, the wrong way round."""

    caught_by: ClassVar = "test_the_last_operation_on_a_key_in_a_batch_wins"

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        reduced = WriteBatch()
        reduced.operations = list(dict(reversed(batch.operations)).items())
        super().write(reduced, sync=sync)


class EatsTheBatch(MemoryStore):
    """Takes the caller's list for its own."""

    caught_by: ClassVar = "test_a_batch_can_be_written_again_and_to_another_store"

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        super().write(batch, sync=sync)
        batch.clear()


class TornBatch(MemoryStore):
    """Each operation is atomic, the batch is not."""

    caught_by: ClassVar = "test_readers_see_whole_batches_only"

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        for operation in batch.operations:
            one = WriteBatch()
            one.operations = [operation]
            super().write(one, sync=sync)


class WritersMingle(MemoryStore):
    """As TornBatch, seen from the second writer."""

    caught_by: ClassVar = "test_two_writers_take_turns"
    write = TornBatch.write


# deletes, maintenance, load


class DeletedKeysRise(MemoryStore):
    """Compaction drops the tombstone before what it hides."""

    caught_by: ClassVar = "test_a_deleted_key_is_absent"

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        for key, value in batch.operations:
            if value is None and (old := self._values.get(key)) is not None:
                self.__dict__.setdefault("hidden", {})[key] = old
        super().write(batch, sync=sync)

    def compact(self) -> None:
        super().compact()
        hidden = WriteBatch()
        hidden.operations = list(self.__dict__.pop("hidden", {}).items())
        super().write(hidden)


class CompactionLosesSnapshots(MemoryStore):
    """Compaction that asks for nobody's leave."""

    caught_by: ClassVar = "test_a_snapshot_survives_flush_and_compaction"

    def compact(self) -> None:
        super().compact()
        for snapshot in self._snapshots:
            snapshot.undo.clear()


class LoadInPlace(MemoryStore):
    """The old content is gone before the new one is known to be good."""

    caught_by: ClassVar = "test_a_load_that_is_refused_leaves_the_old_content"

    def load(self, pairs: Iterable[Pair]) -> None:
        super().load([])
        super().load(pairs)


class LoadAdds(MemoryStore):
    """A load that is a large batch."""

    caught_by: ClassVar = "test_load_replaces_everything"

    def load(self, pairs: Iterable[Pair]) -> None:
        super().load(sorted((dict(self._values) | dict(pairs)).items()))


class LoadSorts(MemoryStore):
    """Kind to its caller, and so not a stream any more."""

    caught_by: ClassVar = "test_a_load_that_is_refused_leaves_the_old_content"

    def load(self, pairs: Iterable[Pair]) -> None:
        super().load(sorted(dict(pairs).items()))


class LoadForgetsSnapshots(MemoryStore):
    """The new content shows through views of the old one."""

    caught_by: ClassVar = "test_load_leaves_snapshots_and_scans_in_their_moment"

    def load(self, pairs: Iterable[Pair]) -> None:
        snapshots, self._snapshots = self._snapshots, type(self._snapshots)()
        super().load(pairs)
        self._snapshots = snapshots


# snapshots


class SnapshotIsLive(MemoryStore):
    """A view of the store, and not of a moment."""

    caught_by: ClassVar = "test_a_snapshot_is_frozen"

    def snapshot(self) -> MemorySnapshot:
        snapshot = super().snapshot()
        self._snapshots.discard(snapshot)
        return snapshot


class SnapshotSeesDeletes(MemoryStore):
    """The undo map has no word for "was there"."""

    caught_by: ClassVar = "test_a_snapshot_is_frozen"

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        super().write(batch, sync=sync)
        for key, value in batch.operations:
            if value is None:
                for snapshot in self._snapshots:
                    snapshot.undo[key] = None


class ClosedSnapshotAnswers(MemoryStore):
    """Its data may be gone; it still says something."""

    caught_by: ClassVar = "test_a_closed_snapshot_refuses_every_call"

    def snapshot(self) -> MemorySnapshot:
        snapshot = super().snapshot()
        snapshot.close = lambda: None  # type: ignore[method-assign]
        return snapshot


# life, and what a store tells about itself


class ClosedStoreAnswers(MemoryStore):
    """`get` doesn't ask whether the store is closed."""

    caught_by: ClassVar = "test_a_closed_store_refuses_every_call"

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        check_key(key)
        return self._values.get(key, default)


class CloseOnce(MemoryStore):
    """The second close is taken for a mistake."""

    caught_by: ClassVar = "test_a_closed_store_refuses_every_call"

    def close(self) -> None:
        if self.closed:
            raise StoreClosed("closed twice")
        super().close()


class StatsAreShared(MemoryStore):
    """The counters themselves are handed out."""

    caught_by: ClassVar = "test_stats_are_a_copy"

    def stats(self) -> Stats:
        return self._stats


class CountsBatches(MemoryStore):
    """A batch is counted as one put."""

    caught_by: ClassVar = "test_stats_count_what_callers_do"

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        puts = self._stats.puts
        super().write(batch, sync=sync)
        self._stats.puts = min(puts + 1, self._stats.puts)


class DescribesInBytes(MemoryStore):
    """Keys as they are, which JSON doesn't know."""

    caught_by: ClassVar = "test_describe_is_ready_for_json"

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"first key": next(iter(self._values), b"")}


class SketchesInBytes(MemoryStore):
    """The first key as it is, in the sketch alone."""

    caught_by: ClassVar = "test_a_sketch_is_ready_for_json_and_small"

    def sketch(self) -> dict[str, Any]:
        return super().sketch() | {"first key": next(iter(self._values), b"")}


class ExplainsByTheKeyAlone(MemoryStore):
    """An absent key whose neighbour is there is explained as found."""

    caught_by: ClassVar = "test_an_explanation_agrees_with_get"

    def explain(self, key: bytes) -> dict[str, Any]:
        return super().explain(key) | {"found": any(near.startswith(key) for near in self._values)}
