"""Chapter 19: four accelerations of the LSM engine, each held to the plain function that it stands in for."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from engines.coding import DecodeError
from engines.kvstore import Operation
from engines.lsm import LsmStore, wal
from engines.lsm.block import Block, BlockBuilder
from engines.lsm.fast import FAST
from engines.lsm.fast.batch import encode_batch, encode_put
from engines.lsm.fast.block import decode, find
from engines.lsm.keys import ABSENT, DELETION, MAX_SEQUENCE, VALUE, Found, internal_key, trailer_of
from engines.lsm.parts import PLAIN
from engines.simenv import SimEnv
from tests.chapters.kit import History, rounds

# around the lengths at which a varint takes another byte
LENGTHS = (0, 1, 2, 126, 127, 128, 129, 300, 16_383, 16_384)


class Plain(LsmStore):
    parts = PLAIN


class Fast(LsmStore):
    parts = FAST


def operations(rng: random.Random, count: int) -> list[Operation]:
    """Puts and deletes with keys and values of all lengths; most are short."""
    made: list[Operation] = []
    for _ in range(count):
        key = rng.randbytes(rng.choice((1, 2, 5, 127, 128, 200)))
        made.append((key, None if rng.random() < 0.2 else rng.randbytes(rng.choice((0, 1, 5, 100, 127, 128, 20_000)))))
    return made


def block_of(rng: random.Random, count: int, interval: int) -> Block:
    """A block with `count` versions of a few keys, several of most of them."""
    names = [b"%s%d" % (rng.choice((b"a", b"apple", b"b" * 130)), number) for number in range(max(1, count // 3))]
    versions = {(rng.choice(names), rng.randrange(1, 100)): rng.choice((VALUE, VALUE, DELETION)) for _ in range(count)}
    builder = BlockBuilder(interval)
    for (name, sequence), kind in sorted(versions.items(), key=lambda version: (version[0][0], -version[0][1])):
        value = b"" if kind == DELETION else rng.randbytes(rng.choice((0, 3, 127, 128, 300)))
        builder.add(internal_key(name, sequence, kind), value)
    return Block(builder.finish())


def blocks(rng: random.Random, count: int) -> Iterator[Block]:
    for _ in range(count):
        yield block_of(rng, rng.choice((0, 1, 2, 16, 17, 60)), rng.choice((1, 2, 3, 16)))


def plain_find(block: Block, key: bytes, sequence: int) -> Found:
    """The answer of the textbook: the first entry that is not before (key, sequence), if it is the key's."""
    for stored, value in block.forward(internal_key(key, sequence, VALUE)):
        if stored[:-8] == key:
            return value if trailer_of(stored) & 255 == VALUE else None
        break
    return ABSENT


def or_refused(call: Callable[[], object]) -> object:
    """What the call returns, or that it raised a DecodeError; anything else that it raises is a failure."""
    try:
        return call()
    except DecodeError:
        return "refused"


def test_a_batch_becomes_the_same_bytes(rng: random.Random) -> None:
    for _ in range(rounds(160)):
        sequence, batch = rng.randrange(MAX_SEQUENCE), operations(rng, rng.choice((1, 2, 10)))
        assert encode_batch(sequence, batch) == wal.encode_batch(sequence, batch)


@pytest.mark.parametrize("key_bytes", LENGTHS[1:])
def test_a_key_of_any_length_is_encoded_right(key_bytes: int) -> None:
    """A varint takes a second byte from 128 on."""
    for batch in ([(b"k" * key_bytes, b"v")], [(b"k" * key_bytes, None)]):
        assert encode_batch(7, batch) == wal.encode_batch(7, batch)


@pytest.mark.parametrize("value_bytes", LENGTHS)
def test_a_value_of_any_length_is_encoded_right(value_bytes: int) -> None:
    batch: list[Operation] = [(b"key", b"v" * value_bytes)]
    assert encode_batch(7, batch) == wal.encode_batch(7, batch)


def test_a_batch_of_nothing_is_a_mark() -> None:
    assert encode_batch(9, []) == wal.encode_batch(9, [])


@pytest.mark.parametrize("key_bytes", LENGTHS[1:])
def test_one_put_becomes_the_same_bytes(key_bytes: int) -> None:
    for value_bytes in LENGTHS:
        key, value = b"k" * key_bytes, b"v" * value_bytes
        assert encode_put(3, key, value) == wal.encode_batch(3, [(key, value)])


def test_a_block_is_taken_apart_as_the_plain_one_walks_it(rng: random.Random) -> None:
    for block in blocks(rng, rounds(160)):
        keys, values = decode(block.raw, block.end)
        assert list(zip(keys, values, strict=True)) == list(block.entries())


def test_a_version_is_found_as_the_plain_form_finds_it(rng: random.Random) -> None:
    for block in blocks(rng, rounds(80)):
        names = {key[:-8] for key, _ in block.entries()} | {b"", b"a", b"apple5x", b"zz"}
        for name in names:
            for sequence in (0, 1, rng.randrange(100), 99, MAX_SEQUENCE):
                found = find(block, name, sequence)
                assert found == plain_find(block, name, sequence), f"{name!r} as of {sequence}"


def test_of_several_versions_the_newest_visible_one_counts() -> None:
    """Nine versions of one key over several restart points; the even ones are deletions."""
    builder = BlockBuilder(2)
    builder.add(internal_key(b"j", 50, VALUE), b"before")
    for sequence in range(9, 0, -1):
        builder.add(
            internal_key(b"k", sequence, VALUE if sequence % 2 else DELETION), b"%d" % sequence if sequence % 2 else b""
        )
    block = Block(builder.finish())
    for sequence in range(1, 12):
        newest = min(sequence, 9)
        assert find(block, b"k", sequence) == (b"%d" % newest if newest % 2 else None), f"as of {sequence}"
    assert find(block, b"k", 0) is ABSENT


def test_a_damaged_block_is_taken_apart_or_refused_as_by_the_plain_form(rng: random.Random) -> None:
    """Whatever bit is changed: the same entries, or both refuse. A fast path must not believe more than the plain one.

    The first three bytes are an entry's lengths, and its key shares nothing with a key before it, as there is none.
    """
    for block in blocks(rng, rounds(80)):
        if block.end:
            for at in (0, 1, 2, rng.randrange(block.end), rng.randrange(block.end)):
                damaged = bytearray(block.raw)
                damaged[at] ^= 1 << rng.randrange(8)
                other = Block(bytes(damaged))
                plain = or_refused(lambda other=other: list(other.entries()))
                fast = or_refused(lambda other=other: list(zip(*decode(other.raw, other.end), strict=True)))
                assert fast == plain, f"byte {at} was {block.raw[at]}, and is {damaged[at]}"


def test_a_search_in_a_damaged_block_answers_or_refuses(rng: random.Random) -> None:
    """Never an IndexError, never a loop without end, and no value that isn't there as bytes."""
    for block in blocks(rng, rounds(160)):
        if block.end:
            damaged = bytearray(block.raw)
            for _ in range(rng.choice((1, 3))):
                damaged[rng.randrange(block.end)] = rng.randrange(256)
            for name in (b"a1", b"apple0", b"b" * 130 + b"1"):
                found = or_refused(lambda name=name, raw=bytes(damaged): find(Block(raw), name, 50))
                assert found in ("refused", None, ABSENT) or found in bytes(damaged)  # type: ignore[operator]


def test_both_forms_leave_the_same_files_and_give_the_same_answers(rng: random.Random, history: History) -> None:
    """The whole store in both forms: one history, the same bytes on the disk."""
    options = {"write_buffer_bytes": 2_000, "block_bytes": 300, "max_file_bytes": 2_000, "background": False}
    disks = SimEnv(), SimEnv()
    stores = [kind("/db", env=env, **options) for kind, env in zip((Plain, Fast), disks)]  # type: ignore[arg-type]
    for number in range(rounds(800)):
        key, value = b"key%d" % rng.randrange(60), rng.randbytes(rng.choice((0, 10, 130)))
        history.do(f"put({key!r}, {len(value)} bytes)" if number % 5 else f"delete({key!r})")
        for store in stores:
            if number % 5:
                store.put(key, value, sync=False)
            else:
                store.delete(key, sync=False)
        plain, fast = (store.get(key) for store in stores)
        assert plain == fast
    for store in stores:
        store.flush()
        store.compact()
    names = [b"key%d" % number for number in range(61)]
    assert stores[0].multi_get(names) == stores[1].multi_get(names)
    assert list(stores[0].scan()) == list(stores[1].scan())
    for store in stores:
        store.close()
    assert disks[0].files() == disks[1].files()
