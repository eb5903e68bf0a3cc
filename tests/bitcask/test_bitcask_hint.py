"""Hint files: right in every byte, or not used at all."""

from __future__ import annotations

import random
import struct
from zlib import crc32

import pytest

from engines.bitcask.hint import TOMBSTONE_BIT, BadHint, decode_hint, encode_entry, encode_hint, hint_reach
from engines.simenv import SimEnv
from tests.bitcask.riak_files import PATH, content, open_sim

ENTRIES = [(5, 16, 0, b"a"), (6, 40, 16 | TOMBSTONE_BIT, b"key"), (6, 20, 56, b"")]
HINT = encode_hint(encode_entry(*entry) for entry in ENTRIES)


def test_a_hint_comes_back() -> None:
    assert list(decode_hint(HINT)) == ENTRIES
    assert list(decode_hint(encode_hint([]))) == []


def test_the_trailer_of_old_writers_is_read() -> None:
    """They closed with offset 2**64 - 1."""
    assert list(decode_hint(HINT[:-8] + b"\xff" * 8)) == ENTRIES


def test_every_flipped_bit_makes_it_useless() -> None:
    """But the first one of the trailer's offset, which makes it the trailer of an old writer."""
    for at in range(len(HINT)):
        for bit in range(8):
            damaged = HINT[:at] + bytes((HINT[at] ^ 1 << bit,)) + HINT[at + 1 :]
            if (at, bit) == (len(HINT) - 8, 7):
                assert list(decode_hint(damaged)) == ENTRIES
            else:
                with pytest.raises(BadHint):
                    list(decode_hint(damaged))


def test_every_cut_makes_it_useless() -> None:
    for size in range(len(HINT)):
        with pytest.raises(BadHint):
            list(decode_hint(HINT[:size]))


def test_a_key_size_that_leads_into_the_trailer_is_refused() -> None:
    """With a checksum that is right, as a writer with a bug would leave it."""
    body = struct.pack(">IHIQ", 1, 2, 16, 0) + b"a"
    with pytest.raises(BadHint, match="leads into the trailer"):
        list(decode_hint(body + struct.pack(">IHIQ", 0, 0, crc32(body), TOMBSTONE_BIT - 1)))


def test_reach_is_the_end_of_the_last_listed_record() -> None:
    assert hint_reach(ENTRIES) == (76, 6)
    assert hint_reach(ENTRIES[:2]) == (56, 6), "the tombstone's bit is no part of its offset"
    assert hint_reach([(9, 5, 0, b"a"), (3, 5, 5, b"b")]) == (10, 9), "old clocks went back"
    assert hint_reach([]) == (0, 0)


def test_a_damaged_hint_changes_nothing() -> None:
    """Cut or flipped at every byte: the data file is read, and the same is found; the hint is written anew."""
    env = SimEnv()
    with open_sim(env, max_file_size=1000) as store:
        for number in range(6):
            store.put(b"key%d" % (number % 4), b"value %d" % number)
        store.delete(b"key1")
        expected = dict(store.scan())
    hint = env.files()[f"{PATH}/1.bitcask.hint"]
    for at in range(len(hint)):
        for damaged in (hint[:at], hint[:at] + bytes((hint[at] ^ 4,)) + hint[at + 1 :]):
            env.poke(f"{PATH}/1.bitcask.hint", damaged)
            assert content(env) == expected
            assert env.files()[f"{PATH}/1.bitcask.hint"] == hint


def keys_listed(env: SimEnv) -> list[list[bytes]]:
    """What each hint lists, in its order."""
    hints = [data for name, data in sorted(env.files().items()) if name.endswith(".hint")]
    return [[key for _, _, _, key in decode_hint(hint)] for hint in hints]


@pytest.mark.parametrize("plain", [True, False])
def test_every_hint_lists_its_keys_in_order(plain: bool, rng: random.Random) -> None:
    """Those of closed segments, of an opening that makes one anew, of merges and of loads: so the keydir is in order."""
    env = SimEnv()
    store = open_sim(env, plain=plain, max_file_size=2000, merge="manual")
    for number in rng.sample(range(300), 300):
        store.put(b"%d" % number, b"value")
    store.delete(b"77")
    assert list(store.core.keydir.places) != sorted(store.core.keydir.places)
    store.close()
    found = keys_listed(env)
    assert len(found) > 2 and all(keys == sorted(keys) for keys in found)
    path = f"{PATH}/1.bitcask.hint"
    env.unlink(path)
    store = open_sim(env, plain=plain, max_file_size=1 << 20)
    assert keys_listed(env) == found
    store.compact()
    store.close()
    assert keys_listed(env) == [sorted(b"%d" % number for number in range(300) if number != 77)]
    store = open_sim(env, plain=plain)
    assert list(store.core.keydir.places) == sorted(store.core.keydir.places)
    store.close()
