"""One key, scans in both directions, and a cursor that survives deletes."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from engines import CorruptionError, ReadOnly
from engines.btree import BTreeStore
from engines.btree.bulk import build_tree
from engines.btree.cursor import leaves_backward, leaves_forward, lookup, scan_tree
from engines.btree.node import Node
from engines.btree.page import BucketValue
from engines.btree.pager import Pager
from engines.btree.tree import TreeWriter
from engines.kvstore import Pair

KEYS = [b"%03d" % number for number in range(0, 900, 3)]


def tree(writer: TreeWriter) -> Node:
    """300 keys, on three levels."""
    return writer.pager.load(build_tree(writer, ((key, b"v" + key) for key in KEYS)))


def scan(pager: Pager, root: Node, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Pair]:
    return scan_tree(pager, root, start, stop, reverse, [True], ZeroDivisionError, pager.pins.pin(1))  # type: ignore[arg-type]


def test_each_key_is_found_and_no_other(pager: Pager, writer: TreeWriter) -> None:
    """lookup: also what lies below the first key, above the last one, and between two leaves."""
    root = tree(writer)
    for number in range(-1, 905):
        key = b"%03d" % number
        assert lookup(pager, root, key) == (b"v" + key if key in KEYS else None)


def test_leaves_come_in_order_and_against_it(pager: Pager, writer: TreeWriter) -> None:
    """Every leaf once; from the one that a key belongs to."""
    root = tree(writer)
    forward = [leaf.keys for leaf in leaves_forward(pager, root, b"")]
    assert [key for keys in forward for key in keys] == KEYS
    assert [leaf.keys for leaf in leaves_backward(pager, root, None)] == forward[::-1]
    assert next(leaves_forward(pager, root, b"450")).keys[0] <= b"450"
    assert next(leaves_backward(pager, root, b"450")).keys[0] < b"450"


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_shows_its_range(pager: Pager, writer: TreeWriter, rng: random.Random, reverse: bool) -> None:
    """Bounds that are keys, that lie between keys, that are out of order."""
    root = tree(writer)
    for _ in range(300):
        start = b"%03d" % rng.randrange(-1, 905)
        stop = b"%03d" % rng.randrange(-1, 905) if rng.random() < 0.9 else None
        expected = [(key, b"v" + key) for key in KEYS if start <= key and (stop is None or key < stop)]
        assert list(scan(pager, root, start, stop, reverse)) == (expected[::-1] if reverse else expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_reads_what_it_shows(pager: Pager, writer: TreeWriter, reverse: bool) -> None:
    """Lazy: the way down and one leaf, whatever the tree's size."""
    root = tree(writer)
    pager.nodes.clear()
    before = pager.stats.reads
    assert next(scan(pager, root, b"450", b"460", reverse))
    assert pager.stats.reads - before <= 2


def test_buckets_are_no_pairs(pager: Pager, writer: TreeWriter) -> None:
    """A scan leaves them out; lookup says what they are."""
    root = pager.load(writer.write(Node.leaf([b"a", b"b"], [BucketValue(bytes(16)), b"1"])))
    assert list(scan(pager, root, b"", None, False)) == [(b"b", b"1")]
    assert type(lookup(pager, root, b"a")) is BucketValue


def test_a_scan_ends_when_its_store_does(pager: Pager, writer: TreeWriter) -> None:
    """`alive` is emptied: the next pair is an error."""
    alive: list[object] = [True]
    pairs = scan_tree(pager, tree(writer), b"", None, False, alive, lambda: 1 // 0, pager.pins.pin(1))  # type: ignore[arg-type,return-value]
    next(pairs)
    alive.clear()
    with pytest.raises(ZeroDivisionError):
        next(pairs)


def test_a_tree_that_has_itself_as_a_child_has_an_end(pager: Pager, writer: TreeWriter) -> None:
    """No call goes round for ever."""
    pgid = writer.write(Node.branch([b"a", b"b"], [2, 2]))
    assert pgid == 2
    root = pager.load(pgid)
    for call in (
        lambda: lookup(pager, root, b"a"),
        lambda: next(leaves_forward(pager, root, b"")),
        lambda: next(leaves_backward(pager, root, None)),
    ):
        with pytest.raises(
            CorruptionError, match="deeper than 64 levels; a branch probably points to its own ancestor"
        ):
            call()


def test_a_cursor_deletes_everything_it_passes(store: BTreeStore) -> None:
    """bbolt's issue 146: after Delete, Next skipped a key. Here none is skipped, across all pages."""
    keys = [b"%04d" % number for number in range(2_000)]
    store.load((key, b"v" * 30) for key in keys)
    seen = []
    with store.update() as tx:
        cursor = tx.cursor()
        pair = cursor.first()
        while pair is not None:
            seen.append(pair[0])
            cursor.delete()
            pair = cursor.next()
    assert seen == keys
    assert list(store.scan()) == []


def test_a_cursor_survives_deletes_in_both_directions(store: BTreeStore, rng: random.Random) -> None:
    """Random moves, puts and deletes, against a sorted list: next and prev are always the neighbours of where it stood."""
    store.load((b"%03d" % number, b"") for number in range(0, 1_000, 2))
    with store.update() as tx:
        model = {b"%03d" % number for number in range(0, 1_000, 2)}
        cursor = tx.cursor()
        place: bytes | None = None
        for _ in range(3_000):
            choice = rng.randrange(6)
            if choice == 0:
                key = b"%03d" % rng.randrange(1_000)
                tx.put(key, b"")
                model.add(key)
                continue
            if choice == 1 and place is not None:
                cursor.delete()
                model.discard(place)
                continue
            if choice == 2 or place is None:
                key = b"%03d" % rng.randrange(1_000)
                pair, expected = cursor.seek(key), min((k for k in model if k >= key), default=None)
            elif choice in (3, 4):
                pair, expected = cursor.next(), min((k for k in model if k > place), default=None)
            else:
                pair, expected = cursor.prev(), max((k for k in model if k < place), default=None)
            assert (pair and pair[0]) == expected
            place = expected
        assert [key for key, _ in tx.scan()] == sorted(model)


def test_a_cursor_knows_both_ends(store: BTreeStore) -> None:
    """first, last, and what lies beyond them."""
    with store.update() as tx:
        assert tx.cursor().first() is None and tx.cursor().last() is None and tx.cursor().next() is None
    store.load([(b"a", b"1"), (b"b", b"2")])
    with store.view() as view:
        cursor = view.cursor()
        assert cursor.last() == (b"b", b"2") and cursor.next() is None and cursor.next() is None
        assert cursor.prev() == (b"b", b"2") and cursor.prev() == (b"a", b"1") and cursor.prev() is None
        assert cursor.prev() is None and cursor.next() == (b"a", b"1") and cursor.seek(b"aa") == (b"b", b"2")
        assert cursor.seek(b"z") is None
        with pytest.raises(ReadOnly):
            view.cursor().first() and cursor.seek(b"a") and cursor.delete()
