"""The write-ahead log: each batch as one record of engines/log.py, before it is in the memtable.

    record      sequence: fixed64 │ count: fixed32 │ operation * count
    operation   01 │ slice key │ slice value      a put, with sequence + its place in the batch
                00 │ slice key                    a delete
    an empty batch (count 0) changes nothing; we write it to say "everything before this is on disk"

**How a torn tail is told from bit rot.** Damage in the log means that a write was lost in a power cut, if that write
had not been synced; otherwise it is bit rot, and must be refused. So the log says which of its writes were synced:

    mode *strict*    every record was synced before the next one was written. A log begins so; sync=True stays so.
    mode *relaxed*   records follow each other without syncs.
    a mark           an empty batch. Everything before it is on disk. It changes the mode.

1. Before the first record that isn't going to be synced: a mark, a sync of its own, and the mode is relaxed. (The sync
   is needed: if the mark could be lost with the record after it, a third one would look like a witness.)
2. Before a record that is going to be synced, while the mode is relaxed and everything is synced: a mark, and the mode
   is strict again.
3. A log that is closed, and a log that gives way to the next one, ends in a mark: the last record has a witness, too.
4. Damage at byte X is bit rot if a valid record follows and the mode at X was strict, or if a mark follows. Otherwise
   it is a torn tail: the log ends there.

LevelDB skips empty batches, and so does goleveldb. Its own logs have no marks, and read as strict: after a power cut
LevelDB's store may therefore be refused here, where LevelDB would open it and be silent about what is lost; repair
takes what is whole.

**Writing** goes through a mapping of space that was allocated before: 0.2 µs in place of 1.2 for a write call, and a
sync needs no new size in the file system's journal. The unused rest of the file is zeros, which a reader takes
for the end (but for goleveldb with opt.StrictJournal, which is off by default); `close` cuts it off.

5. A record is on disk when `sync` returns; nothing is ever retried.
6. Sequences ascend without gaps. A reader that finds a gap has lost a record: CorruptionError.

**A hole**: a process of ours was killed and left allocated space, and then a program that reuses logs (LevelDB with
`reuse_logs`, as in Chromium) has gone on after it. LevelDB reads past any zeros up to the end of a block. Here:

7. The zeros are read past if the first record after them has the very sequence that comes next: then no operation is
   missing. Otherwise they are damage as any other, and rule 4 decides. Before the log's first record, the sequence that
   comes next is known only to a caller who has read the manifest.
8. After a hole the mode is strict: the program that wrote there knows no marks, and its logs read as strict. (What
   another program writes after the mark that closes a log of ours reads as relaxed: nothing tells it from our own unsynced
   writes, and damage in it ends the log.)
9. Space is allocated in whole blocks of the log, so that a hole ends where a block does. (After one that ends within a
   block, LevelDB loses what the other program wrote.) Only a write buffer that is smaller than a block gets less.

Follows LevelDB's db/write_batch.cc; the marks are ours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from engines.coding import DecodeError, get_slice, put_slice
from engines.env import Env, MutableView
from engines.errors import CorruptionError
from engines.kvstore import Operation, Stats
from engines.log import BLOCK_BYTES, LogReader, encode_record
from engines.lsm.files import begin_file, repair_advice
from engines.lsm.keys import DELETION, MAX_SEQUENCE, VALUE

__all__ = ["LogFile", "decode_batch", "encode_batch", "replay"]

_HEADER: Final = struct.Struct("<QI")
HEADER_BYTES: Final = _HEADER.size
_pack_header = _HEADER.pack
ALLOCATE_BYTES: Final = 1 << 20  # a log grows by so much at most


def encode_batch(sequence: int, operations: Sequence[Operation]) -> bytes:
    """The record of a batch whose first operation has `sequence`: the grammar is on top of this file. O(bytes).

    operations: pairs of key and value, in order; a value of None deletes. They may be none, which makes a mark.
    """
    parts = [_pack_header(sequence, len(operations))]
    for key, value in operations:
        if value is None:
            parts += [bytes((DELETION,)), put_slice(key)]
        else:
            parts += [bytes((VALUE,)), put_slice(key), put_slice(value)]
    return b"".join(parts)


def decode_batch(record: bytes) -> tuple[int, list[Operation]]:
    """What `encode_batch` was given: (sequence of the first operation, operations). O(bytes).

    The record's checksum was right, but nobody knows who wrote it. Raises DecodeError if it is shorter than its header, if
    an operation is neither 0 nor 1 or doesn't fit (`get_slice` raises for a key or value that doesn't), if there are more
    or fewer operations than announced, and if `sequence` + their number is above MAX_SEQUENCE.
    """
    if len(record) < HEADER_BYTES:
        raise DecodeError(f"a batch has at least {HEADER_BYTES} bytes, and this one {len(record)}")
    sequence, count = _HEADER.unpack_from(record)
    if sequence + count > MAX_SEQUENCE:
        raise DecodeError(f"the batch's sequence {sequence} is beyond 56 bits")
    operations: list[Operation] = []
    at, end = HEADER_BYTES, len(record)
    while at < end:
        kind = record[at]
        key, at = get_slice(record, at + 1)
        if kind == VALUE:
            value, at = get_slice(record, at)
            operations.append((key, value))
        elif kind == DELETION:
            operations.append((key, None))
        else:
            raise DecodeError(f"an operation is 0 (delete) or 1 (put), and the one before byte {at} is {kind}")
    if len(operations) != count:
        raise DecodeError(f"the batch announces {count} operations, and has {len(operations)}")
    return sequence, operations


class LogFile:
    """A log that is being written. Raises OSError from every method; then the log must not be written any more.

    `synced` is True while everything written is on disk. `size_bytes` is where the log ends; the file is longer.
    stats: where written bytes and syncs are counted. expected_bytes: what it will hold, about: space is allocated in
    steps of that, or of a MiB. Requires: one caller at a time (the store's writer lock).
    """

    def __init__(self, env: Env, path: str, stats: Stats, expected_bytes: int) -> None:
        self._file = begin_file(env, path, "x")
        self._stats = stats
        self.path = path
        self.size_bytes = 0
        self.synced = True
        self.sealed = False
        self._strict = True
        self._allocated = 0
        self._step = max(4096, expected_bytes)
        if self._step > BLOCK_BYTES:
            self._step = min(ALLOCATE_BYTES, -(-self._step // BLOCK_BYTES) * BLOCK_BYTES)  # rule 9
        self._map: MutableView | None = None

    def append(self, record: bytes, next_sequence: int, sync: bool) -> None:
        """Writes one batch, after a mark if the mode changes (rules 1 and 2). The caller syncs.

        next_sequence: that of the batch, which the mark carries as well. sync: whether the caller is going to.
        """
        if sync is not self._strict and (self._strict or self.synced):
            self._write(_pack_header(next_sequence, 0))
            if self._strict:  # rule 1; in the other direction the batch's own sync covers the mark
                self.sync("lsm.wal.mark")
            self._strict = not self._strict
        self.synced = False
        self._write(record)

    def _write(self, record: bytes) -> None:
        at = self.size_bytes
        encoded = encode_record(at % BLOCK_BYTES, record)
        end = at + len(encoded)
        if end > self._allocated:
            self._grow(end)
        assert self._map is not None
        self._map[at:end] = encoded
        self.size_bytes = end
        self._stats.bytes_written += end - at

    def _grow(self, size_bytes: int) -> None:
        """Allocates space: after this, a full disk can't turn up in the middle of a mapping (SIGBUS)."""
        self._allocated = -(-size_bytes // self._step) * self._step
        self._file.allocate(self._allocated)
        self._map = self._file.map()

    def sync(self, site: str) -> None:
        """Brings everything written to the disk."""
        self._file.sync(site)
        self._stats.fsyncs += 1
        self.synced = True

    def seal(self, next_sequence: int, site: str) -> None:
        """Closes the log for good: syncs, if need be, writes a mark (rule 3), and cuts off the space that is left."""
        if not self.synced:
            self.sync(site)
        if self.size_bytes:
            self._write(_pack_header(next_sequence, 0))
        self._file.truncate(self.size_bytes)
        self.sealed = True
        self.close()

    @property
    def file_bytes(self) -> int:
        """The size of the file, with the space that is allocated for later."""
        return max(self._allocated, self.size_bytes)

    def close(self) -> None:
        """Closes the file as it is: after a failure. Twice is fine."""
        self._map = None
        self._file.close()


def replay(env: Env, path: str, first: int | None = None) -> Iterator[tuple[int, list[Operation]]]:
    """Iterates over the batches of a log: (sequence of the first operation, operations); marks are not among them.

    first: the sequence that the log should begin with, if the caller knows it; only rule 7 asks for it. Stops at a torn tail.
    Raises CorruptionError (rules 4 and 6), OSError.
    """
    file = env.open(path, "r")
    try:
        so_far = _SoFar(first)
        reader = LogReader(file, path, so_far.testimony, so_far.goes_on, repair_advice(path.rpartition("/")[0]))
        holes = 0
        for offset, record in reader:
            if len(reader.holes) > holes:
                holes, so_far.is_strict = len(reader.holes), True  # rule 8
            if _is_mark(record):
                so_far.is_strict = not so_far.is_strict
                continue
            try:
                sequence, operations = decode_batch(record)
            except DecodeError as error:
                raise CorruptionError(path, offset, f"the batch is damaged: {error}") from error
            if so_far.next is not None and sequence != so_far.next:  # rule 6
                raise CorruptionError(
                    path,
                    offset,
                    f"a batch with sequence {so_far.next} was expected, but this one has {sequence}: a record is missing",
                )
            so_far.next = sequence + len(operations)
            yield sequence, operations
    finally:
        file.close()


class _SoFar:
    """What the records of a log have said so far: the mode, and the sequence that comes next (None before the first one).

    The log's reader asks it about the records that it finds after damage, or after a hole.
    """

    def __init__(self, first: int | None) -> None:
        self._first = first
        self.is_strict = True  # a log begins so
        self.next: int | None = None

    def testimony(self, offset: int, record: bytes) -> int:
        """How much of the log is known to have been on disk before `record` was written at `offset`: all, or nothing.

        Rule 4. In strict mode every record says so, in relaxed mode a mark does.
        """
        return offset if self.is_strict or _is_mark(record) else 0

    def goes_on(self, record: bytes) -> bool:
        """True if a record after zeros has the sequence that comes next (rule 7)."""
        return len(record) >= HEADER_BYTES and _HEADER.unpack_from(record)[0] == (self.next or self._first)


def _is_mark(record: bytes) -> bool:
    return len(record) == HEADER_BYTES and record[8:] == bytes(4)
