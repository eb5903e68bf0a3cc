"""Our log and the real LevelDB's are the same file: plyvel, which holds LevelDB, writes and reads the other half.

LevelDB keeps what it was told last in `NNNNNN.log`, one record for each batch, until its memtable is full. So the log of a
small database holds everything, and a log put in its place is replayed when the database is opened.
"""

import random
import struct
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

import engines
from engines.coding import get_slice, put_slice
from engines.errors import CorruptionError
from engines.log import BLOCK_BYTES, HEADER_BYTES, LogReader, encode_records
from engines.log_tools import LenientReader

plyvel = pytest.importorskip("plyvel")

Operation = tuple[bytes, bytes | None]
Batch = tuple[int, list[Operation]]  # the first sequence number, and the operations

BATCH_HEADER_BYTES = 12
BUFFER_BYTES = 64 << 20  # of LevelDB's memtable: so large that it is never written to a table


def encode_batch(sequence: int, operations: Iterable[Operation]) -> bytes:
    """LevelDB's WriteBatch: sequence, count, and tag, key, value of each operation."""
    parts = []
    for key, value in operations:
        parts.append(b"\x00" + put_slice(key) if value is None else b"\x01" + put_slice(key) + put_slice(value))
    return struct.pack("<QI", sequence, len(parts)) + b"".join(parts)


def decode_batch(payload: bytes) -> Batch:
    sequence, count = struct.unpack_from("<QI", payload)
    operations: list[Operation] = []
    at = BATCH_HEADER_BYTES
    while at < len(payload):
        tag = payload[at]
        key, at = get_slice(payload, at + 1)
        value = None
        if tag == 1:
            value, at = get_slice(payload, at)
        operations.append((key, value))
    assert len(operations) == count
    return sequence, operations


def log_path(directory: Path) -> Path:
    """The one log of a database that is closed."""
    (path,) = directory.glob("*.log")
    return path


def write_with_leveldb(directory: Path, batches: Iterable[list[Operation]]) -> bytes:
    """The log that LevelDB writes for the batches."""
    with plyvel.DB(str(directory), create_if_missing=True, write_buffer_size=BUFFER_BYTES) as db:
        for operations in batches:
            with db.write_batch() as batch:
                for key, value in operations:
                    batch.delete(key) if value is None else batch.put(key, value)
    return log_path(directory).read_bytes()


def replay_with_leveldb(directory: Path, log: bytes) -> dict[bytes, bytes]:
    """What LevelDB finds in a database whose log is `log`."""
    plyvel.DB(str(directory), create_if_missing=True).close()
    log_path(directory).write_bytes(log)
    with plyvel.DB(str(directory), paranoid_checks=True, write_buffer_size=BUFFER_BYTES) as db:
        return dict(db)


def batch_of(size: int, sequence: int, key: bytes = b"k") -> bytes:
    """A batch of one put, whose record has exactly `size` bytes."""
    for value_bytes in range(max(size - 30, 0), size):
        payload = encode_batch(sequence, [(key, b"v" * value_bytes)])
        if len(payload) == size:
            return payload
    raise AssertionError(f"no batch has {size} bytes")  # the length of the value's length jumps there


def random_batches(rng: random.Random, count: int, value_bytes_max: int) -> list[list[Operation]]:
    return [
        [
            (
                b"key%d" % rng.randrange(500),
                None if rng.random() < 0.2 else rng.randbytes(rng.randrange(value_bytes_max)),
            )
            for _ in range(rng.choice((1, 1, 1, 5, 50)))
        ]
        for _ in range(count)
    ]


@pytest.mark.parametrize(("count", "value_bytes_max"), [(3000, 60), (300, 3000), (12, 200_000)])
def test_a_log_of_leveldb_is_read_and_written_again_byte_for_byte(
    tmp_path: Path, rng: random.Random, count: int, value_bytes_max: int
):
    """Small records, records of about a block's size, and records of many blocks."""
    batches = random_batches(rng, count, value_bytes_max)
    written = write_with_leveldb(tmp_path / "db", batches)
    reader = LogReader(written, "leveldb.log")
    records = [payload for _, payload in reader]
    decoded = [decode_batch(payload) for payload in records]
    assert [operations for _, operations in decoded] == batches
    assert decoded[0][0] == 1 and all(later[0] == earlier[0] + len(earlier[1]) for earlier, later in pairwise(decoded))
    assert reader.end == len(written) and reader.torn is None
    assert [payload for _, payload in LenientReader(written)] == records
    assert [encode_batch(*batch) for batch in decoded] == records
    assert encode_records(0, records) == written


@pytest.mark.parametrize(("count", "value_bytes_max"), [(3000, 60), (300, 3000), (12, 200_000)])
def test_leveldb_replays_a_log_of_ours(tmp_path: Path, rng: random.Random, count: int, value_bytes_max: int):
    model: dict[bytes, bytes] = {}
    payloads = []
    sequence = 1
    for operations in random_batches(rng, count, value_bytes_max):
        payloads.append(encode_batch(sequence, operations))
        sequence += len(operations)
        for key, value in operations:
            model.pop(key, None) if value is None else model.__setitem__(key, value)
    assert replay_with_leveldb(tmp_path / "db", encode_records(0, payloads)) == model


@pytest.mark.parametrize("left", [*range(9), 40])
def test_both_agree_on_every_end_of_a_block(tmp_path: Path, left: int):
    """A first record that leaves `left` bytes of its block, a short, a long and a last one after it."""
    first = batch_of(BLOCK_BYTES - HEADER_BYTES - left, 1)
    payloads = [
        first,
        encode_batch(2, [(b"short", b"")]),
        batch_of(70_000, 3, b"long"),
        encode_batch(4, [(b"z", b"!")]),
    ]
    batches = [decode_batch(payload)[1] for payload in payloads]
    ours = encode_records(0, payloads)
    assert write_with_leveldb(tmp_path / "theirs", batches) == ours
    expected = {key: value for operations in batches for key, value in operations}
    assert replay_with_leveldb(tmp_path / "ours", ours) == expected


@pytest.mark.parametrize("left", range(9))
def test_both_agree_on_an_empty_batch_at_the_end_of_a_block(tmp_path: Path, left: int):
    """LevelDB has no way to write an empty record, but a batch without operations is one of 12 bytes."""
    first = batch_of(BLOCK_BYTES - HEADER_BYTES - left, 1)
    log = encode_records(0, [first, encode_batch(2, []), encode_batch(2, [(b"after", b"1")])])
    assert write_with_leveldb(tmp_path / "theirs", [decode_batch(first)[1], [], [(b"after", b"1")]]) == log
    assert set(replay_with_leveldb(tmp_path / "ours", log)) == {b"k", b"after"}


def test_both_end_at_the_same_torn_tail(tmp_path: Path, rng: random.Random):
    """A log cut anywhere: LevelDB finds the keys of the records that our reader returns, and is not alarmed."""
    batches = [[(b"key%03d" % i, rng.randbytes(rng.randrange(9000)))] for i in range(20)]
    log = encode_records(0, [encode_batch(i + 1, operations) for i, operations in enumerate(batches)])
    for attempt in range(12):
        cut = rng.randrange(len(log))
        ours = [decode_batch(payload)[1][0][0] for _, payload in LogReader(log[:cut], "cut.log")]
        assert sorted(replay_with_leveldb(tmp_path / f"db{attempt}", log[:cut])) == ours


def test_both_read_past_the_zeros_before_a_record_that_goes_on(tmp_path: Path):
    """A log with allocated space that another program has gone on after it: LevelDB, paranoid, and we read all of it."""
    first, behind = encode_batch(1, [(b"ours", b"1")]), encode_batch(2, [(b"theirs", b"2")])
    log = encode_records(0, [first])
    log += bytes(2 * BLOCK_BYTES - len(log)) + encode_records(0, [behind])
    assert replay_with_leveldb(tmp_path / "theirs", log) == {b"ours": b"1", b"theirs": b"2"}
    plyvel.DB(str(tmp_path / "ours"), create_if_missing=True).close()
    log_path(tmp_path / "ours").write_bytes(log)
    with engines.open(str(tmp_path / "ours"), "lsm") as store:
        assert dict(store.scan()) == {b"ours": b"1", b"theirs": b"2"}


def test_leveldb_loses_records_that_rotted_to_zeros_and_we_refuse(tmp_path: Path):
    """FORMAT.md, the three kinds of damage: the sequence after the zeros tells, and LevelDB doesn't ask it."""
    log = encode_records(0, [encode_batch(1, [(b"first", b"1")]), batch_of(BLOCK_BYTES - 60, 2, b"lost")])
    start = len(encode_records(0, [encode_batch(1, [(b"first", b"1")])]))
    log = log[:start] + bytes(BLOCK_BYTES - start) + encode_records(0, [encode_batch(3, [(b"last", b"3")])])
    assert replay_with_leveldb(tmp_path / "theirs", log) == {b"first": b"1", b"last": b"3"}
    plyvel.DB(str(tmp_path / "ours"), create_if_missing=True).close()
    log_path(tmp_path / "ours").write_bytes(log)
    with pytest.raises(CorruptionError, match="no torn tail"):
        engines.open(str(tmp_path / "ours"), "lsm")
