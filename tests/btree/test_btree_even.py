"""Leaves whose pairs all have the same sizes: known, searched and changed as bytes, as lists of keys would be."""

from __future__ import annotations

import random
import struct
from bisect import bisect_left, insort
from collections.abc import Callable
from itertools import islice

import pytest
from crc32c import crc32c

from engines import StoreClosed
from engines.btree import BTreeStore
from engines.btree.fast import FAST, even
from engines.btree.fast.even import EvenLeaf, change_even, find, learn, pair_at, place_of
from engines.btree.node import Node
from engines.btree.page import BRANCH, LEAF, BucketValue, branch_body, leaf_body, with_trailer
from engines.btree.pager import Pager

PAGE = 1024  # of the fixtures
ROOM = PAGE - 8
Pairs = list[tuple[bytes, bytes]]


class FastStore(BTreeStore):
    """In fast form also where METCD_PLAIN is set."""

    parts = FAST


@pytest.fixture(autouse=True)
def no_room_for_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else small stores are decoded."""
    monkeypatch.setattr(even, "DECODED_PART", 0)


def _some_pairs(rng: random.Random) -> Pairs:
    """Keys of few different bytes: most of them are also found where one ends and the next one begins."""
    size, value_size = rng.choice((1, 2, 3, 8)), rng.choice((0, 1, 12, 40, 40))
    keys = {bytes(rng.choices(b"\0\1", k=size)) for _ in range(rng.choice((2, 5, 9, 13)))} | {
        b"\0" * size,
        b"\1" * size,
    }
    return [(key, rng.randbytes(value_size)) for key in sorted(keys)]


def _write(pager: Pager, pgid: int, pairs: Pairs) -> bytes:
    run, _ = with_trailer(
        pgid, LEAF, len(pairs), leaf_body([key for key, _ in pairs], [value for _, value in pairs]), 1, PAGE
    )
    pager.write(pgid, run, None)
    return run


def test_each_key_is_found_and_each_place(pager: Pager, rng: random.Random) -> None:
    """As bisect does in a list, whatever the keys have in common; and the pairs lie where they are said to."""
    for pgid in [*range(2, 30)] * 10:
        pairs = _some_pairs(rng)
        _write(pager, pgid, pairs)
        leaf = learn(pager, pgid)
        assert leaf is not None and pager.leaves[pgid] is leaf
        keys = [key for key, _ in pairs]
        size = len(keys[0])
        wanted = [
            *keys,
            *(bytes(rng.choices(b"\0\1\2", k=rng.choice((size, size, size + 1)))) for _ in range(30)),
            b"\0",
        ]
        for key in wanted:
            assert find(leaf, key) == (keys.index(key) if key in keys else -1)
            assert place_of(leaf, key) == bisect_left(keys, key)
        start, step = pair_at(pager, pgid, leaf, 0), leaf.shape.step
        assert list(leaf.shape.pairs.iter_unpack(pager.map[start : start + step * len(keys)])) == pairs


def test_a_change_is_encoding_the_changed_lists(pager: Pager, rng: random.Random) -> None:
    """Put and delete of keys that are there and that aren't; what isn't for bytes is said to be none of theirs."""
    seen: set[str] = set()
    for _ in range(2_000):
        pairs = _some_pairs(rng)
        page = _write(pager, 7, pairs)
        size, value_size = map(len, pairs[0])
        key = bytes(rng.choices(b"\0\1\2", k=size))
        value = None if rng.random() < 0.5 else rng.randbytes(value_size)
        changed = dict(pairs)
        changed.pop(key, None)
        if value is not None:
            changed[key] = value
        keys = sorted(changed)
        node = Node.leaf(keys, [changed[key] for key in keys])
        parts = change_even(page, 7, 100, key, value)
        if parts is None:
            kind = "first" if keys[0] != pairs[0][0] else "split" if value is not None else "small"
            assert kind == "first" or (node.size_bytes > ROOM if kind == "split" else node.size_bytes < 100)
        elif not parts:
            kind = "nothing"
            assert value is None and key not in dict(pairs)
        else:
            kind = "delete" if value is None else "replace" if len(keys) == len(pairs) else "insert"
            image = struct.pack("<Q", 9) + b"".join(parts)
            assert (image + struct.pack("<I", crc32c(image)), crc32c(image)) == with_trailer(
                9, LEAF, len(keys), node.body(), 1, PAGE
            )
        seen.add(kind)
    assert seen == {"first", "split", "small", "nothing", "delete", "replace", "insert"}


@pytest.mark.parametrize("value", [b"12", b"1234"])
def test_what_would_make_a_leaf_uneven_is_for_nodes(pager: Pager, value: bytes) -> None:
    """A value, or a key, of another size."""
    page = _write(pager, 7, [(b"%d" % number, b"123") for number in range(9)])
    assert change_even(page, 7, 0, b"4", value) is None
    assert change_even(page, 7, 0, b"44", b"123") is None
    assert change_even(page, 7, 0, b"44", None) == ()
    assert change_even(page, 7, 0, b"4", b"abc")


def _resealed(run: bytes) -> bytes:
    return run[:-4] + struct.pack("<I", crc32c(run[:-4]))


EVEN = [(b"%02d" % number, b"value") for number in range(20)]


@pytest.mark.parametrize(
    "damaged",
    [
        lambda run: run[:600] + b"?" + run[601:],  # a value
        lambda run: _resealed(run[:8] + b"\x01" + run[9:]),  # a branch, it says
        lambda run: _resealed(run[:12] + b"\x01" + run[13:]),  # of two pages
        lambda run: _resealed(b"\x08" + run[1:]),  # page 8
        lambda run: _resealed(run[:16] + b"\x01" + run[17:]),  # element 0 is a bucket
        lambda run: _resealed(run[:48] + b"\x01" + run[49:]),  # element 2
        lambda run: _resealed(run[:52] + b"\x01" + run[53:]),  # its data lies elsewhere
        lambda run: _resealed(run.replace(b"05value", b"03value")),  # two keys are the same
        lambda run: _resealed(run[:10] + b"\xff\xff" + run[12:]),  # the count
        lambda run: _resealed(run[:24] + b"\0\0\0\0" + run[28:]),  # a key of no bytes
        lambda run: run[:-8] + bytes(8),  # no checksum
        lambda run: bytes(len(run)),
    ],
)
def test_whatever_is_not_as_it_should_be_is_left_to_the_plain_form(
    pager: Pager, damaged: Callable[[bytes], bytes]
) -> None:
    """Nothing is kept, and nothing changed in such a page."""
    run = _write(pager, 7, EVEN)
    assert isinstance(learn(pager, 7), EvenLeaf)
    pager.forget([7])
    assert not pager.leaves and pager.cached_bytes == 0
    pager.write(7, damaged(run), None)
    assert learn(pager, 7) is None and not pager.leaves


def test_other_leaves_are_not_even(pager: Pager) -> None:
    """One pair; other sizes in the middle; a bucket; a branch; a page beyond the file."""
    for pairs in (EVEN[:1], [*EVEN[:5], (b"05", b"longer"), *EVEN[6:]], [*EVEN[:5], (b"055", b"valu"), *EVEN[6:]]):
        _write(pager, 7, pairs)
        assert learn(pager, 7) is None
    _write(pager, 7, [(b"%02d" % number, BucketValue(bytes(16))) for number in range(9)])
    assert learn(pager, 7) is None
    pager.write(7, with_trailer(7, BRANCH, 2, branch_body([b"a", b"b"], [5, 6]), 1, PAGE)[0], None)
    assert learn(pager, 7) is None
    assert learn(pager, 32) is None


class _Interrupting(dict[int, EvenLeaf]):
    """Leaves of which a look at one is interrupted by something else, once."""

    interrupt: Callable[[], None] | None = None

    def get(self, pgid: int) -> EvenLeaf | None:  # type: ignore[override]
        interrupt, self.interrupt = self.interrupt, None
        found = super().get(pgid)
        if interrupt is not None:
            interrupt()
        return found


def _interrupted(store: BTreeStore, by: Callable[[], None]) -> None:
    """The next get of b"0107" finds its leaf among the known ones, and is interrupted then."""
    pager = store._current.state.pager
    store.get(b"0106")
    pager.forget_all()
    store.get(b"0106")
    leaves = _Interrupting(pager.leaves)
    leaves.interrupt = by
    pager.leaves = leaves


def test_a_get_from_a_leaf_that_is_given_up_meanwhile_looks_again(path: str) -> None:
    """Between the look at the leaf and the look at its page, that page is written again, several times."""
    with FastStore(path, sync=False) as store:
        store.load((b"%04d" % number, b"v" * 50) for number in range(500))
        assert store.get(b"0107") == b"v" * 50 and store._current.state.pager.leaves

        def write() -> None:
            for number in (*range(100, 130), *range(100, 130)):
                store.put(b"%04d" % number, b"%050d" % number)

        _interrupted(store, write)
        assert store.get(b"0107") == b"%050d" % 107
        _interrupted(store, lambda: store.delete(b"0107"))
        assert store.get(b"0107") is None
        _interrupted(store, lambda: store.put(b"0107", b"again"))
        assert store.get(b"0107") == b"again"


def test_a_get_from_a_store_that_is_closed_meanwhile_says_so(path: str) -> None:
    """The mapping is gone then."""
    store = FastStore(path, sync=False)
    store.load((b"%04d" % number, b"v" * 50) for number in range(500))
    assert store.get(b"0107") == b"v" * 50
    _interrupted(store, store.close)
    with pytest.raises(StoreClosed):
        store.get(b"0107")


@pytest.mark.parametrize("taken", [0, 1, 5, 60, 499])
def test_a_scan_of_known_leaves_ends_with_the_store_or_goes_on_beside_writes(path: str, taken: int) -> None:
    """Leaves that a get has met are scanned without a node: from the key's own leaf on, whatever is written meanwhile."""
    expected = [(b"%04d" % number, b"v" * 50) for number in range(500)]
    store = FastStore(path, sync=False)
    store.load(expected)
    for key, _ in expected:
        store.get(key)
    for start in (0, 1, 250, 499):
        scan = store.scan(b"%04d" % start)
        found = list(islice(scan, taken))
        for number in range(0, 500, 3):
            store.put(b"%04d" % number, b"w" * 50)
        assert found + list(scan) == expected[start:]
        store.load(expected)
        for key, _ in expected[::2]:
            store.get(key)
    scan = store.scan(b"0000")
    assert list(islice(scan, taken)) == expected[:taken]
    store.close()
    with pytest.raises(StoreClosed):
        next(scan)


def test_a_cache_of_no_bytes_keeps_no_leaf(path: str) -> None:
    """Each get learns the leaf again."""
    with FastStore(path, sync=False, cache_bytes=0) as store:
        for number in range(200):
            store.put(b"%04d" % number, b"v" * 50)
        assert all(store.get(b"%04d" % number) == b"v" * 50 for number in range(200))
        assert dict(store.scan(b"0100")) == {b"%04d" % number: b"v" * 50 for number in range(100, 200)}
        pager = store._current.state.pager
        assert not pager.leaves and pager.cached_bytes == 0


def test_the_order_of_sizes_makes_no_difference() -> None:
    """16 bytes for a pair: each element is as far from its data as the one before it."""
    keys: list[bytes] = []
    for number in range(8):
        insort(keys, b"%08d" % number)
    body = leaf_body(keys, [b"12345678"] * 8)
    run, _ = with_trailer(7, LEAF, 8, body, 1, PAGE)
    parts = change_even(run, 7, 0, b"00000003", None)
    del keys[3]
    assert parts and b"".join(parts)[8:].startswith(leaf_body(keys, [b"12345678"] * 7))
