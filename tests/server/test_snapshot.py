"""Snapshot files: their bytes, that half of one is never taken for a whole one, and what becomes of damaged ones.

Power cuts are in tests/crash; etcd's counterparts are in server/etcdserver/api/snap/snapshotter_test.go.
"""

import random
import struct
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from crc32c import crc32c
from hypothesis import example, given
from hypothesis import strategies as st

from engines.errors import CorruptionError
from engines.kvstore import Pair
from engines.log import LogReader, encode_records
from engines.simenv import SimEnv
from raft.raftpb import ConfState, SnapshotMetadata
from server.snapshot import (
    BATCH_BYTES,
    SnapshotReceiver,
    dump,
    find_snapshots,
    newest_snapshot,
    purge,
    read_snapshot,
    receive_snapshot,
    remove_leftovers,
    verify_snapshot,
    write_snapshot,
)

ROOT = "/disk/snap"
METADATA = SnapshotMetadata(0x1234, 5, ConfState((1, 2, 3)))
PATH = f"{ROOT}/0000000000000005-0000000000001234.snap"


@pytest.fixture
def env() -> SimEnv:
    env = SimEnv(seed=0)
    env.makedirs(ROOT, "test")
    return env


def some_pairs(count: int, value_bytes: int = 20) -> list[Pair]:
    return [(b"key%06d" % i, b"%d" % i + b"." * value_bytes) for i in range(count)]


def content(env: SimEnv, path: str = PATH) -> bytes:
    return env.files()[path]


def place(env: SimEnv, data: bytes, path: str = PATH) -> str:
    file = env.open(path, "w")
    file.append(data)
    file.close()
    return path


def read_all(env: SimEnv, path: str = PATH) -> list[Pair]:
    return list(read_snapshot(path, env)[1])


def at(index: int, term: int = 1) -> SnapshotMetadata:
    return SnapshotMetadata(index, term, ConfState((1,)))


def payloads(data: bytes) -> list[bytes]:
    return [payload for _, payload in LogReader(data, "test.snap")]


def assembled(parts: Iterable[bytes], **trailer: int) -> bytes:
    """A file of these payloads and a trailer that fits them, but for what `trailer` says."""
    parts = list(parts)
    count = size = checksum = 0
    for payload in parts:
        checksum = crc32c(payload, checksum)
        at = 1 if payload[0] == 2 else len(payload)
        while at < len(payload):
            key_bytes, value_bytes = struct.unpack_from("<II", payload, at)
            at += 8 + key_bytes + value_bytes
            count, size = count + 1, size + key_bytes + value_bytes
    values = {"count": count, "size": size, "checksum": checksum, **trailer}
    return encode_records(0, [*parts, struct.pack("<BQQI", 3, *values.values())])


# ---- writing and reading --------------------------------------------------------------------------------------------


def test_a_snapshot_is_read_as_it_was_written(env: SimEnv):
    pairs = some_pairs(5000)
    assert write_snapshot(ROOT, METADATA, iter(pairs), env) == PATH
    metadata, read = read_snapshot(PATH, env)
    assert metadata == METADATA and list(read) == pairs
    assert verify_snapshot(PATH, env) == METADATA
    assert env.list(ROOT) == [PATH.rpartition("/")[2]]


@given(
    st.dictionaries(st.binary(max_size=40), st.binary(max_size=400) | st.integers(0, 100_000).map(bytes), max_size=12),
    st.integers(0, (1 << 64) - 1),
)
def test_any_sorted_pairs_survive(pairs: dict[bytes, bytes], index: int):
    env = SimEnv(seed=0)
    env.makedirs(ROOT, "test")
    path = write_snapshot(ROOT, at(index), sorted(pairs.items()), env)
    assert read_all(env, path) == sorted(pairs.items())
    assert newest_snapshot(ROOT, env, pytest.fail) is not None


def test_the_bytes_of_a_snapshot(env: SimEnv):
    """These bytes never change: header, one record of pairs, trailer."""
    write_snapshot(ROOT, SnapshotMetadata(7, 3, ConfState((1,))), [(b"a", b"1"), (b"b", b"")], env)
    header, pairs, trailer = payloads(content(env, f"{ROOT}/0000000000000003-0000000000000007.snap"))
    assert header == bytes.fromhex(
        "01 01 0700000000000000 0300000000000000 00 01000000 00000000 00000000 00000000 0100000000000000"
    )
    assert pairs == bytes.fromhex("02 01000000 01000000 61 31 01000000 00000000 62")
    assert trailer == bytes.fromhex("03 0200000000000000 0300000000000000") + struct.pack(
        "<I", crc32c(pairs, crc32c(header))
    )
    assert assembled([header, pairs]) == encode_records(0, [header, pairs, trailer])


def test_writing_and_reading_stream(env: SimEnv):
    """One batch of about 64 KiB is in memory, whatever the size: the source is drawn as the file grows."""
    drawn = 0
    sizes: list[tuple[int, int]] = []

    def source() -> Iterator[Pair]:
        nonlocal drawn
        for pair in some_pairs(3000, value_bytes=100):
            drawn += 1
            yield pair

    env.after_call = lambda call: sizes.append((drawn, call.number)) if call.kind == "append" else None
    write_snapshot(ROOT, METADATA, source(), env)
    env.after_call = None
    steps = [later[0] - earlier[0] for earlier, later in pairwise(sizes)]
    assert len(sizes) > 5 and max(steps) <= BATCH_BYTES // 100
    records = payloads(content(env))
    assert all(BATCH_BYTES <= len(payload) < BATCH_BYTES + 200 for payload in records[1:-2])


def test_reading_goes_on_after_the_file_is_purged(env: SimEnv):
    pairs = some_pairs(3000)
    write_snapshot(ROOT, METADATA, pairs, env)
    _, read = read_snapshot(PATH, env)
    assert next(read) == pairs[0]
    write_snapshot(ROOT, at(0x2000, 9), [], env)
    purge(ROOT, 1, env)
    assert not env.exists(PATH)
    assert list(read) == pairs[1:]


def test_pairs_out_of_order_are_refused_and_leave_nothing(env: SimEnv):
    for pairs in ([(b"b", b""), (b"a", b"")], [(b"a", b""), (b"a", b"")]):
        with pytest.raises(ValueError, match="ascend"):
            write_snapshot(ROOT, METADATA, pairs, env)
        assert env.list(ROOT) == []


def test_a_source_that_raises_leaves_nothing(env: SimEnv):
    def source() -> Iterator[Pair]:
        yield from some_pairs(5000)
        raise RuntimeError("the engine is gone")

    with pytest.raises(RuntimeError):
        write_snapshot(ROOT, METADATA, source(), env)
    assert env.list(ROOT) == []


def test_a_snapshot_replaces_one_of_its_name(env: SimEnv):
    write_snapshot(ROOT, METADATA, some_pairs(10), env)
    write_snapshot(ROOT, METADATA, some_pairs(3), env)
    assert read_all(env) == some_pairs(3)


# ---- damage ---------------------------------------------------------------------------------------------------------


def expect_refused(env: SimEnv, data: bytes, match: str | None = None) -> None:
    """The stream raises before it ends, and verifying raises."""
    place(env, data)
    with pytest.raises(CorruptionError, match=match) as caught:
        read_all(env)
    assert caught.value.path == PATH
    with pytest.raises(CorruptionError, match=match):
        verify_snapshot(PATH, env)


def test_a_snapshot_cut_anywhere_is_refused(env: SimEnv, rng: random.Random):
    write_snapshot(ROOT, METADATA, some_pairs(2000), env)
    data = content(env)
    for size in [*range(200), *rng.sample(range(200, len(data)), 60), *range(len(data) - 50, len(data))]:
        expect_refused(env, data[:size])


def test_every_flipped_byte_is_found(env: SimEnv, rng: random.Random):
    write_snapshot(ROOT, METADATA, some_pairs(30), env)
    data = content(env)
    for offset in range(len(data)):
        expect_refused(env, data[:offset] + bytes([data[offset] ^ 1 << rng.randrange(8)]) + data[offset + 1 :])


def test_a_record_that_is_missing_doubled_or_moved_is_found(env: SimEnv):
    """Each record's own checksum is right."""
    write_snapshot(ROOT, METADATA, some_pairs(3000, 100), env)
    header, *pairs, trailer = payloads(content(env))
    assert len(pairs) > 3
    swapped = [pairs[1], pairs[0], *pairs[2:]]
    expect_refused(env, encode_records(0, [header, *pairs[1:], trailer]), "a trailer for")
    expect_refused(env, encode_records(0, [header, *pairs[:-1], trailer]), "a trailer for")
    expect_refused(env, encode_records(0, [header, pairs[0], *pairs, trailer]), "keys ascend")
    expect_refused(env, encode_records(0, [header, *swapped, trailer]), "keys ascend")
    expect_refused(env, encode_records(0, [header, *pairs]), "a trailer was expected; the file ends")
    expect_refused(env, encode_records(0, [*pairs, trailer]), "begins with a header of version 1")
    expect_refused(env, encode_records(0, [header, header, *pairs, trailer]), "a record of pairs was expected")
    expect_refused(env, encode_records(0, []), "begins with a header")


def test_two_snapshots_joined_are_none(env: SimEnv):
    """The header of one and the pairs of the other; and one after the other."""
    write_snapshot(ROOT, METADATA, some_pairs(10), env)
    first = content(env)
    other = content(env, write_snapshot(ROOT, at(9, 9), some_pairs(10, 21), env))
    expect_refused(env, encode_records(0, [payloads(first)[0], *payloads(other)[1:]]), "a trailer for")
    same_sizes = [payload.replace(b".", b"!") for payload in payloads(first)]
    expect_refused(env, encode_records(0, [same_sizes[0], same_sizes[1], payloads(first)[2]]), "a trailer for")
    expect_refused(env, encode_records(0, [*payloads(first), *payloads(other)]), "as the last record")
    expect_refused(env, first + bytes(10), "as the last record")
    expect_refused(env, first + b"x", "as the last record")


@pytest.mark.parametrize("wrong", ["count", "size", "checksum"])
def test_a_trailer_that_does_not_fit_is_found(env: SimEnv, wrong: str):
    write_snapshot(ROOT, METADATA, some_pairs(10), env)
    parts = payloads(content(env))[:-1]
    assert assembled(parts) == content(env)
    expect_refused(env, assembled(parts, **{wrong: 12345}), "a trailer for 10 pairs")


def test_lengths_are_not_believed(env: SimEnv):
    """Under right checksums, as a foreign writer would make them; nothing of that size is allocated."""
    write_snapshot(ROOT, METADATA, some_pairs(3), env)
    header, pairs, trailer = payloads(content(env))
    for broken, match in (
        (pairs[:-1], "after its record"),
        (pairs + b"1234567", "8 bytes, and 7 are left"),
        (b"\x02" + b"\xff" * 8 + b"x", "after its record"),
        (b"\x02", "a record of pairs was expected"),
        (b"", "a record of pairs was expected"),
        (b"\x09" + pairs[1:], "a record of pairs was expected"),
    ):
        expect_refused(env, encode_records(0, [header, broken, trailer]), match)
    expect_refused(env, encode_records(0, [header[:-3], pairs, trailer]), "metadata cannot be read")
    expect_refused(env, encode_records(0, [b"\x01\x02" + header[2:], pairs, trailer]), "version 1")


@given(st.binary(max_size=200))
@example(b"\x01")  # a header that ends before its version
def test_whatever_the_bytes_are_reading_refuses_them(data: bytes):
    env = SimEnv(seed=0)
    env.makedirs(ROOT, "test")
    expect_refused(env, data)
    expect_refused(env, encode_records(0, [b"\x01\x01" + METADATA.encode(), data]))
    assert all(isinstance(line, str) for line in dump(PATH, env))


# ---- the directory --------------------------------------------------------------------------------------------------


def test_the_newest_snapshot_has_the_highest_index(env: SimEnv):
    assert newest_snapshot(ROOT, env) is None
    for index, term in ((5, 1), (300, 2), (17, 2), (0x10, 2)):
        write_snapshot(ROOT, at(index, term), some_pairs(index % 7), env)
    place(env, b"not ours", f"{ROOT}/notes.txt")
    assert [found.metadata.index for found in find_snapshots(ROOT, env, pytest.fail)] == [300, 17, 16, 5]
    newest = newest_snapshot(ROOT, env)
    assert newest is not None and newest.metadata == at(300, 2)
    assert newest.path == f"{ROOT}/0000000000000002-000000000000012c.snap"


def test_a_damaged_snapshot_is_put_aside_and_told(env: SimEnv):
    """etcd's TestLoadNewestSnap with a broken one on top."""
    write_snapshot(ROOT, at(5), some_pairs(5), env)
    path = write_snapshot(ROOT, at(9), some_pairs(9), env)
    misnamed = place(env, content(env, path), f"{ROOT}/0000000000000001-00000000000000ff.snap")
    place(env, content(env, path)[:-1], path)
    told: list[str] = []
    found = newest_snapshot(ROOT, env, told.append)
    assert found is not None and found.metadata == at(5)
    assert len(told) == 2
    assert misnamed in told[0] and "another snapshot" in told[0]
    assert f"put aside as {path}.broken" in told[1] and "a trailer was expected" in told[1]
    assert env.exists(f"{path}.broken") and not env.exists(path)
    assert newest_snapshot(ROOT, env, pytest.fail) == found


def test_snapshots_are_only_verified_when_they_are_asked_for(env: SimEnv):
    place(env, b"damaged", f"{ROOT}/0000000000000001-0000000000000001.snap")
    write_snapshot(ROOT, at(9), [], env)
    assert newest_snapshot(ROOT, env, pytest.fail) is not None


def test_a_snapshot_that_is_purged_meanwhile_is_no_error(env: SimEnv):
    for index in (1, 2, 3):
        write_snapshot(ROOT, at(index), [], env)
    found = find_snapshots(ROOT, env, pytest.fail)
    assert next(found).metadata.index == 3
    purge(ROOT, 1, env)
    assert list(found) == []


def test_purge_keeps_the_newest(env: SimEnv):
    for index in range(1, 8):
        write_snapshot(ROOT, at(index, term=1 + index // 4), [], env)
    place(env, b"x", f"{PATH}.broken")
    purge(ROOT, 2, env)
    assert [found.metadata.index for found in find_snapshots(ROOT, env)] == [7, 6]
    assert env.exists(f"{PATH}.broken")


def test_purge_spares_the_one_that_a_restart_needs(env: SimEnv):
    for index in range(1, 6):
        write_snapshot(ROOT, at(index), [], env)
    purge(ROOT, 2, env, spare_index=2)
    assert [found.metadata.index for found in find_snapshots(ROOT, env)] == [5, 4, 2]


def test_leftovers_are_removed(env: SimEnv):
    write_snapshot(ROOT, METADATA, [], env)
    place(env, b"half", f"{ROOT}/0000000000000001-0000000000000001.snap.tmp")
    remove_leftovers(ROOT, env)
    assert [f"{ROOT}/{name}" for name in env.list(ROOT)] == [PATH]


# ---- receiving ------------------------------------------------------------------------------------------------------


def test_a_snapshot_arrives_in_pieces(env: SimEnv, rng: random.Random):
    write_snapshot(ROOT, METADATA, some_pairs(4000), env)
    data = content(env)
    purge(ROOT, 0, env)
    cuts = sorted(rng.sample(range(len(data)), 20))
    chunks = [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert receive_snapshot(ROOT, METADATA, iter(chunks), env) == PATH
    assert content(env) == data and len(env.list(ROOT)) == 1


def test_half_a_snapshot_leaves_nothing(env: SimEnv):
    write_snapshot(ROOT, METADATA, some_pairs(100), env)
    data = content(env)
    purge(ROOT, 0, env)
    with pytest.raises(CorruptionError, match="a trailer was expected"):
        receive_snapshot(ROOT, METADATA, [data[:-1]], env)
    with pytest.raises(CorruptionError, match="begins with a header"):
        receive_snapshot(ROOT, METADATA, [], env)
    assert env.list(ROOT) == []


def test_another_snapshot_than_announced_leaves_nothing(env: SimEnv):
    data = content(env, write_snapshot(ROOT, METADATA, some_pairs(100), env))
    purge(ROOT, 0, env)
    for announced in (at(0x1234, 5), SnapshotMetadata(0x1235, 5, METADATA.conf_state)):
        with pytest.raises(CorruptionError, match="was announced"):
            receive_snapshot(ROOT, announced, [data], env)
    assert env.list(ROOT) == []


def test_a_connection_that_breaks_leaves_nothing_and_what_was_there_stays(env: SimEnv):
    write_snapshot(ROOT, METADATA, some_pairs(100), env)

    def chunks() -> Iterator[bytes]:
        yield content(env)[:500]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        receive_snapshot(ROOT, METADATA, chunks(), env)
    assert read_all(env) == some_pairs(100) and len(env.list(ROOT)) == 1


def test_a_receiver_can_be_told_to_discard(env: SimEnv):
    receiver = SnapshotReceiver(ROOT, METADATA, env)
    receiver.write(b"something")
    assert env.list(ROOT) == ["received.snap.part"]
    receiver.discard()
    receiver.discard()
    assert env.list(ROOT) == []


# ---- the dump -------------------------------------------------------------------------------------------------------


def test_the_dump_tells_what_each_record_holds(env: SimEnv):
    write_snapshot(ROOT, METADATA, some_pairs(2), env)
    header, pairs, trailer, end = dump(PATH, env)
    assert header.startswith("00000000  HEADER   version 1, SnapshotMetadata(index=4660, term=5")
    assert "2 pairs, b'key000000' to b'key000001'" in pairs
    assert "TRAILER  2 pairs, 60 bytes, checksum 0x" in trailer
    assert end == f"{len(content(env)):08x}  end"
    place(env, content(env)[:-3])
    assert "torn tail" in list(dump(PATH, env))[-1]
