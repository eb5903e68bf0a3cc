"""A hole of zeros in a log: what a killed process of ours has allocated, and after it the records of another program.

LevelDB's reader (db/log_reader.cc) skips zeros up to the end of a block, so that a program which reuses logs (Chromium:
`reuse_logs`) can go on after them. Here they are skipped only if the sequences say that nothing is missing.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

import engines
from engines.errors import CorruptionError
from engines.log import BLOCK_BYTES, LogReader, encode_record
from engines.lsm.store import LsmStore
from engines.lsm.wal import encode_batch
from engines.simenv import Policy, SimEnv

LOG = "/db/000003.log"


def opened(env: SimEnv, **options: Any) -> LsmStore:
    store = engines.open("/db", "lsm", env=env, background=False, **options)
    assert isinstance(store, LsmStore)
    return store


def killed(writes: int, sync: bool = True, **options: Any) -> SimEnv:
    """The disk of a process that was killed after some puts of k0, k1, ...; its log is as long as it was allocated."""
    env = SimEnv()
    store = opened(env, **options)
    for number in range(writes):
        store.put(b"k%d" % number, b"ours", sync=sync)
    image = env.crash(Policy.EVERYTHING, random.Random(0))
    store.close()
    return image


def go_on(env: SimEnv, *records: bytes) -> None:
    """What LevelDB's `reuse_logs` does: it appends at the end of the file, wherever the last record ends."""
    content = env.files()[LOG]
    for record in records:
        content += encode_record(len(content) % BLOCK_BYTES, record)
    env.poke(LOG, content)


def end_of_records(content: bytes) -> int:
    return len(content.rstrip(b"\0"))


@pytest.mark.parametrize("writes", [0, 1, 5])
@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("read_only", [True, False])
def test_what_another_program_wrote_behind_our_zeros_is_read(writes: int, sync: bool, read_only: bool) -> None:
    """db/log_reader.cc, type 0 and length 0. Killed before the first put as well: then the manifest knows what is next."""
    env = killed(writes, sync)
    assert len(env.files()[LOG]) % BLOCK_BYTES == 0 or not writes
    if not writes:
        env.poke(LOG, bytes(1 << 20))  # as if the process had died between allocating and writing
    go_on(
        env, encode_batch(writes + 1, [(b"theirs", b"1"), (b"k0", None)]), encode_batch(writes + 3, [(b"theirs", b"2")])
    )
    expected = {b"k%d" % number: b"ours" for number in range(1, writes)} | {b"theirs": b"2"}
    with opened(env, read_only=read_only) as store:
        assert dict(store.scan()) == expected
        assert store.check() == []
    with opened(env) as store:
        assert dict(store.scan()) == expected


@pytest.mark.parametrize("sequence", [1, 5, 7])
def test_a_hole_behind_which_the_sequences_jump_is_damage(sequence: int) -> None:
    """Five puts, and then 6 must come: what lies in between was lost, or is there twice."""
    env = killed(5)
    go_on(env, encode_batch(sequence, [(b"theirs", b"1")]))
    before = env.files()
    with pytest.raises(CorruptionError, match="no torn tail"):
        opened(env)
    assert env.files() == before


def test_records_that_rotted_to_zeros_up_to_the_blocks_end_are_found() -> None:
    """Every record was synced, and more than one block is full: whatever of the first block becomes zeros from a record's
    beginning on, the first record of the next block gives it away."""
    env = killed(2_000, write_buffer_bytes=1 << 20)
    content = env.files()[LOG]
    assert end_of_records(content) > BLOCK_BYTES + 1_000
    record = len(encode_record(0, encode_batch(1, [(b"k0", b"ours")])))
    for at in (0, record, 10 * record):
        env.poke(LOG, content[:at] + bytes(BLOCK_BYTES - at) + content[BLOCK_BYTES:])
        with pytest.raises(CorruptionError):
            opened(env)


def test_writes_without_a_sync_that_a_power_cut_took_up_to_the_blocks_end_are_a_torn_tail() -> None:
    """The same bytes as above, but nobody has promised these records: the log ends before them, and opens."""
    env = killed(3_000, sync=False, write_buffer_bytes=1 << 20)
    content = env.files()[LOG]
    assert end_of_records(content) > BLOCK_BYTES + 1_000
    for at in range(500, 600):
        env.poke(LOG, content[:at] + bytes(BLOCK_BYTES - at) + content[BLOCK_BYTES:])
        image = env.crash(Policy.EVERYTHING, random.Random(0))
        with opened(image) as store:
            kept = len(dict(store.scan()))
            assert kept in range(1, 30) and dict(store.scan()) == {b"k%d" % number: b"ours" for number in range(kept)}


def test_damage_behind_a_hole_is_judged_as_in_a_log_of_leveldb() -> None:
    """wal.py, rule 8: we were writing without syncs, but who wrote after the zeros knows no marks."""
    env = killed(5, sync=False)
    start = len(env.files()[LOG])
    go_on(env, *[encode_batch(6 + number, [(b"theirs", b"%d" % number)]) for number in range(3)])
    content = env.files()[LOG]
    size = len(encode_record(0, encode_batch(6, [(b"theirs", b"0")])))
    flipped = start + size + 12
    env.poke(LOG, content[:flipped] + bytes((content[flipped] ^ 1,)) + content[flipped + 1 :])
    with pytest.raises(CorruptionError, match="no torn tail") as caught:
        opened(env)
    assert caught.value.offset == start + size


def test_a_hole_in_a_manifest_is_damage() -> None:
    """Nobody leaves one there, and edits have no sequence that could say whether one is missing."""
    env = SimEnv()
    with opened(env) as store:
        store.put(b"k", b"v")
        store.flush()
    path = "/db/MANIFEST-000002"
    content = env.files()[path]
    (*_, (last, edit)) = LogReader(content, path)
    env.poke(path, content[:last] + bytes(BLOCK_BYTES - last) + encode_record(0, edit))
    with pytest.raises(CorruptionError, match="no torn tail") as caught:
        opened(env)
    assert caught.value.path == path and caught.value.offset == last


def test_allocated_space_ends_where_a_block_ends() -> None:
    """wal.py, rule 9: else LevelDB itself would lose what another program writes after it."""
    for buffer_bytes in (40_000, 100_000, 1 << 20, 4 << 20):
        assert len(killed(3, write_buffer_bytes=buffer_bytes).files()[LOG]) % BLOCK_BYTES == 0


def test_the_dump_shows_the_hole_and_what_lies_behind_it() -> None:
    env = killed(2)
    go_on(env, encode_batch(3, [(b"theirs", b"1")]))
    lines = "\n".join(LsmStore.dump("/db", env))
    assert "a hole of" in lines and "'theirs'" in lines
