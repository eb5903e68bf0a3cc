"""The pager: pages decoded once, what is refused, a file that grows, a bounded cache."""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Callable

import pytest

from engines import CorruptionError, StoreClosed
from engines.btree import BTreeStore, StoreFull
from engines.btree import pager as pager_module
from engines.btree.fast import FAST
from engines.btree.meta import NO_FREELIST
from engines.btree.node import Node, memory_bytes
from engines.btree.page import BRANCH, FREELIST, LEAF, leaf_body, with_trailer
from engines.btree.pager import LEAF_MEMORY_BYTES, Pager, file_bytes
from engines.btree.tree import TreeWriter
from tests.btree.poisoning import PoisoningStore

PAGE = 4096
SMALL_PAGE = 1024  # of the fixture


@pytest.mark.parametrize(
    ("pages", "expected"), [(4, 1 << 15), (9, 1 << 16), (4096, 1 << 24), (4097, 1 << 25), (9000, 3 << 24)]
)
def test_a_file_grows_in_powers_of_two_and_then_in_steps(pages: int, expected: int) -> None:
    """bbolt's: from 32 KiB to 16 MiB, then by 16 MiB."""
    assert file_bytes(pages, PAGE) == expected


def test_a_written_node_is_the_cache(pager: Pager, writer: TreeWriter) -> None:
    """load gives back the very node; a page that isn't cached is read once."""
    node = Node.leaf([b"a", b"b"], [b"1", b"2"])
    pgid = writer.write(node)
    assert pager.load(pgid) is node and pager.stats.reads == 0
    pager.nodes.clear()
    again = pager.load(pgid)
    assert (again.keys, again.values, again.size_bytes, again.packed) == (node.keys, node.values, node.size_bytes, True)
    assert pager.load(pgid) is again and pager.stats.reads == 1


def test_a_node_of_several_pages_is_one_run(pager: Pager, writer: TreeWriter) -> None:
    """The header's overflow says how many follow."""
    pgid = writer.write(Node.leaf([b"a"], [b"v" * 3000]))
    pager.nodes.clear()
    assert pager.load(pgid).pages == 3
    assert pager.outline(pgid) == (LEAF, 3, False)
    assert pager.measure(pgid) == (LEAF, 1, 16 + 16 + 1 + 3000)


def _poked(pager: Pager, pgid: int, **fields: int) -> None:
    """Another page header, and no trailer."""
    names = ("id", "flags", "count", "overflow")
    start = pgid * SMALL_PAGE
    values = dict(zip(names, struct.unpack("<QHHI", pager.map[start : start + 16]))) | fields
    pager.writable[start : start + 16] = struct.pack("<QHHI", *(values[name] for name in names))
    pager.writable[start + SMALL_PAGE - 8 : start + SMALL_PAGE] = bytes(8)
    pager.nodes.clear()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"id": 9}, "says that it is page 9"),
        ({"flags": FREELIST}, "a branch or a leaf should be here"),
        ({"flags": BRANCH | LEAF}, "a branch or a leaf should be here"),
        ({"overflow": 3_000}, "beyond the end of the file"),
        ({"overflow": 1}, "fits into 1 pages"),
        ({"count": 200}, "200 elements"),
    ],
)
def test_a_page_that_cannot_be_is_refused(pager: Pager, writer: TreeWriter, fields: dict[str, int], why: str) -> None:
    """CorruptionError names the page and its place, no matter who reads it first."""
    pgid = writer.write(Node.leaf([b"a"], [b"1"]))
    _poked(pager, pgid, **fields)
    with pytest.raises(CorruptionError, match=why) as error:
        pager.load(pgid)
    assert error.value.offset == pgid * SMALL_PAGE


def test_a_flipped_byte_is_refused(pager: Pager, writer: TreeWriter) -> None:
    """By the checksum."""
    pgid = writer.write(Node.leaf([b"a"], [b"value"]))
    place = pgid * SMALL_PAGE + 34
    pager.writable[place : place + 1] = b"x"
    pager.nodes.clear()
    with pytest.raises(CorruptionError, match="checksum"):
        pager.load(pgid)


def test_a_key_of_no_bytes_is_refused(pager: Pager) -> None:
    """bbolt's next write there would panic."""
    run, _ = with_trailer(5, LEAF, 1, leaf_body([b""], [b"1"]), 1, SMALL_PAGE)
    pager.write(5, run, None)
    with pytest.raises(CorruptionError, match="no bytes"):
        pager.load(5)


@pytest.mark.parametrize("pgid", [0, 1, 32, 1 << 50])
def test_a_page_outside_of_the_file_is_refused(pager: Pager, pgid: int) -> None:
    """The metas' pages are no node's either."""
    with pytest.raises(CorruptionError, match="the file has 32"):
        pager.load(pgid)


def test_a_closed_file_is_told_from_a_damaged_one(pager: Pager) -> None:
    """A reader may be under way when the store is closed."""
    pager.unmap()
    with pytest.raises(StoreClosed):
        pager.load(3)


def test_a_full_file_refuses_and_goes_on(path: str) -> None:
    """max_size: StoreFull, nothing of the batch is written, and after deletes there is room again."""
    with PoisoningStore(path, max_size=20 * PAGE) as store:
        written = 0
        with pytest.raises(StoreFull, match="max_size is 81,920"):
            for number in range(1_000):
                store.put(b"%04d" % number, b"v" * 500)
                written += 1
        assert [key for key, _ in store.scan()] == [b"%04d" % number for number in range(written)]
        with pytest.raises(StoreFull), store.batch(sync=False) as batch:
            for number in range(1_000):
                batch.put(b"%04d" % number, b"w" * 500)
        assert {value for _, value in store.scan()} == {b"v" * 500}
        with pytest.raises(StoreFull):
            store.load((b"%04d" % number, b"w" * 500) for number in range(1_000))
        for number in range(written):
            store.delete(b"%04d" % number)
        store.put(b"again", b"v" * 500)
        assert store.stats().disk_bytes <= 20 * PAGE
        assert store.check() == []


@pytest.mark.parametrize("plain", [False, True])
def test_a_full_file_is_flushed_and_closed(path: str, plain: bool) -> None:
    """What was acknowledged without sync needs no page to become durable: a list of 1,000 waiting pages would need 8."""
    most = 4_000 * SMALL_PAGE
    expected = {b"%04d" % number: b"v" * 300 for number in range(9_000)}
    with PoisoningStore(path, page_size=SMALL_PAGE, max_size=most, plain=plain) as store:
        with store.batch() as batch:
            for key, value in expected.items():
                batch.put(key, value)
        for value in (b"w" * 300, b"x" * 300):  # the second time into the pages that the flush has freed
            with pytest.raises(StoreFull):
                for key in expected:
                    store.put(key, value, sync=False)
                    expected[key] = value
            store.flush()
            assert store._current.state.meta.freelist == NO_FREELIST, "there was room for the list"
            assert store.check() == []
        with pytest.raises(StoreFull):
            for key in expected:
                store.put(key, b"y" * 300, sync=False)
                expected[key] = b"y" * 300
    with BTreeStore(path, max_size=most, plain=plain) as store:
        assert dict(store.scan()) == expected and store.check() == []
        store.delete(b"0000")
        assert store._current.state.meta.freelist != NO_FREELIST


def test_no_hole_is_mapped_for_writing(path: str) -> None:
    """Writing to a hole through a mapping could find the disk full, which is SIGBUS: holes are filled when it opens, and
    when it grows."""
    with BTreeStore(path) as store:
        store.put(b"a", b"1")
    os.truncate(path, 1 << 20)
    with BTreeStore(path, sync=False) as store:
        for size in (1, 3_000_000):
            store.put(b"b", b"v" * size)
            assert os.stat(path).st_blocks * 512 >= os.stat(path).st_size >= 1 << 20
        assert len(store._current.state.pager.map) == os.stat(path).st_size


@pytest.mark.parametrize("plain", [True, False])
def test_the_cache_is_bounded(path: str, plain: bool) -> None:
    """cache_bytes: decoded nodes are given up, and read again; what is counted is what is there."""
    with BTreeStore(path, sync=False, cache_bytes=100_000, plain=plain) as store:
        store.load((b"%05d" % number, b"v" * 100) for number in range(5_000))
        assert sum(1 for _ in store.scan()) == 5_000
        pager = store._current.state.pager
        for number in range(0, 5_000, 7):
            assert store.get(b"%05d" % number) == store.get(b"%05d" % number) == b"v" * 100
            store.put(b"%05d" % number, b"w")
            store.delete(b"%05d" % (number + 1))
            known = sum(LEAF_MEMORY_BYTES + len(keys) for keys, _ in pager.leaves.values())
            assert pager.cached_bytes == sum(map(memory_bytes, pager.nodes.values())) + known <= 100_000
        assert pager.cached_bytes > 50_000
        assert store.check() == []


@pytest.mark.parametrize(("key_bytes", "value_bytes"), [(16, 100), (8, 2), (40, 1_000)])
@pytest.mark.parametrize("decode", [Node.decode, FAST.decode])
def test_memory_is_counted_as_it_is(
    pager: Pager, writer: TreeWriter, key_bytes: int, value_bytes: int, decode: Callable[[bytes, int], Node]
) -> None:
    """memory_bytes, against what tracemalloc finds for leaves and branches of full pages that were decoded."""
    keys = [b"%0*d" % (key_bytes, number) for number in range(2_000)]
    pieces = Node.leaf(keys, [b"v" * value_bytes] * len(keys)).split(4_096, 1.0)[:-1]
    for nodes in (pieces, Node.branch(keys, range(2_000)).split(4_096, 1.0)[:-1]):
        runs = [with_trailer(5, node.flags, len(node.keys), node.body(), 1, 4_096)[0] for node in nodes]
        decode(runs[0], 4_096)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        cache = {100_000 + index: decode(run, 4_096) for index, run in enumerate(runs)}
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        counted = sum(map(memory_bytes, cache.values()))
        assert 1 <= counted / (after - before) < 1.2, (counted, after - before)


def test_a_mapping_is_given_back(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many bytes were touched; what was written through it is there as before, synced or not."""
    given: list[int] = []
    monkeypatch.setattr("engines.btree.pager.MAPPED_BYTES", 1 << 20)
    with BTreeStore(path, sync=False) as store:
        file = store._current.state.pager.file
        give_back = file.give_back  # type: ignore[union-attr]
        monkeypatch.setattr(type(file), "give_back", lambda self, view: (given.append(len(view)), give_back(view)))
        for number in range(3_000):
            store.put(b"%05d" % (number * 7919 % 3_000), b"%d" % number * 100)
        assert len(given) > 10 and min(given) > 1 << 20  # the fast form counts more for a put: 64 KiB
        assert store.check() == []
        assert [value for _, value in store.scan()] == [b"%d" % (key * 1_679 % 3_000) * 100 for key in range(3_000)]


def test_a_count_of_the_cache_loses_nothing_to_a_thread_in_between(
    store: BTreeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may run within each call of `memory_bytes`: what it remembers meanwhile counts as well."""
    store.load((b"%04d" % number, b"v" * 50) for number in range(500))
    pager = store._current.state.pager
    between: list[int] = []

    def measured(node: Node) -> int:
        if not between:
            between.append(1 << 20 | len(pager.nodes))
            pager.remember(between[0], Node.leaf([b"k"], [b"v" * 100]))
        return memory_bytes(node)

    def counted() -> bool:
        between.clear()
        return pager.cached_bytes == sum(map(memory_bytes, pager.nodes.values()))

    assert counted()
    monkeypatch.setattr(pager_module, "memory_bytes", measured)
    pager.remember(1 << 21, Node.leaf([b"k"], [b"v"]))
    assert counted(), "a node was remembered"
    pager.forget([1 << 21])
    assert counted(), "a node was forgotten"
    pager._trim()
    assert counted(), "the cache was trimmed"
