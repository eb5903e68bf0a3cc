"""Chapter 11: a bbolt file is read: metas, branches and leaves as bytes, and the way to a key."""

from __future__ import annotations

import gzip
import random
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import pytest

from engines.btree import BTreeStore
from engines.btree.cursor import leaves_backward, leaves_forward, lookup
from engines.btree.dump import dump_file
from engines.btree.meta import META_AREA_BYTES, NO_FREELIST, Meta, MetaError, NoChecksum, newest_first
from engines.btree.node import Node
from engines.btree.page import (
    BRANCH,
    LEAF,
    BucketValue,
    PageError,
    branch_body,
    branch_element,
    header,
    leaf_body,
    leaf_element,
    read_branch,
    read_leaf,
    run_pages,
    verify_trailer,
    with_trailer,
)
from engines.btree.pager import Pager
from engines.env import real_env
from engines.errors import CorruptionError
from engines.kvstore import Stats
from engines.simenv import SimEnv
from tests.chapters.kit import rounds

PAGE = 1024
GOLDEN = Path(__file__).parents[1] / "btree" / "golden"

# Made by bbolt 1.3.6: meta 0 of a new file; a leaf at page 3 with a = 1; a branch at page 7 with a -> 5 and m -> 6
META_0 = (
    "00000000000000000400000000000000 edda0ced020000000010000000000000"
    "0300000000000000 0000000000000000 0200000000000000 0400000000000000 0000000000000000 eefd8946116e5107"
)
LEAF_3 = "03000000000000000200010000000000 00000000100000000100000001000000 6131"
BRANCH_7 = "07000000000000000100020000000000 20000000010000000500000000000000 11000000010000000600000000000000 616d"

# What a Go program wrote with bbolt 1.3.6, by bucket (tests/btree/golden/README.md)
THEIRS: dict[tuple[bytes, ...], dict[bytes, bytes]] = {
    (b"metcd",): {b"%04d" % number: b"v" * (number % 70) for number in range(900)},
    (b"other",): {b"large": b"L" * 20_000, b"empty": b""},
    (b"other", b"nested"): {b"%d" % number: b"nested" * 40 for number in range(100)},
    (b"small", b"a", b"b"): {b"k": b"inline"},
}

# hello = world in a new store of ours, as engines/btree/FORMAT.md shows it: the rows that aren't zeros
HELLO = {
    0x0000: "00000000000000000400000000000000edda0ced020000000010000000000000",
    0x0020: "0500000000000000000000000000000006000000000000000700000000000000",
    0x0040: "02000000000000002dff8a2f380cc138",
    0x1000: "01000000000000000400000000000000edda0ced020000000010000000000000",
    0x1020: "0500000000000000000000000000000006000000000000000700000000000000",
    0x1040: "03000000000000000cb59b242f45c619",
    0x2000: "02000000000000001000000000000000",
    0x2FF8: "43524331f191c79b",
    0x3000: "03000000000000000200000000000000",
    0x3FF8: "435243313aa7eb39",
    0x4000: "0400000000000000020001000000000000000000100000000500000005000000",
    0x4020: "68656c6c6f776f726c64",
    0x4FF8: "435243312cade20f",
    0x5000: "0500000000000000020001000000000001000000100000000500000010000000",
    0x5020: "6d65746364040000000000000000000000",
    0x5FF8: "43524331bcab8f45",
    0x6000: "0600000000000000100002000000000002000000000000000300000000000000",
    0x6FF8: "43524331dc374797",
}
HELLO_DUMP = """\
meta page 0: txid 2, root 5, freelist 6, high-water mark 7
meta page 1: txid 3, root 5, freelist 6, high-water mark 7
the pages of txid 3: MM..LLF
page 2: free
page 3: free
page 4: leaf, 1 elements, 0 overflow pages
  b'hello': b'world'
  checksum 0fe2ad2c
page 5: leaf, 1 elements, 0 overflow pages
  b'metcd': bucket, root page 4
  checksum 458fabbc
page 6: freelist, 2 elements, 0 overflow pages
  2 3""".splitlines()


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A file that the real bbolt wrote."""
    path = tmp_path / "bbolt.db"
    path.write_bytes(gzip.decompress((GOLDEN / "bbolt.db.gz").read_bytes()))
    return path


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


def leaf_run(pgid: int, keys: list[bytes], values: list[bytes], page_bytes: int = PAGE) -> bytes:
    """A leaf with its header, body and trailer."""
    body = leaf_body(keys, values)
    return with_trailer(pgid, LEAF, len(keys), body, run_pages(16 + len(body), page_bytes), page_bytes)[0]


def branch_run(pgid: int, keys: list[bytes], children: Sequence[int]) -> bytes:
    body = branch_body(keys, children)
    return with_trailer(pgid, BRANCH, len(keys), body, run_pages(16 + len(body), PAGE), PAGE)[0]


def pager_of(runs: Sequence[bytes]) -> Pager:
    """A pager over a file in memory: two empty pages, and after them the runs."""
    env = SimEnv(0)
    file = env.open("/db", "w")
    file.append(bytes(2 * PAGE) + b"".join(runs))
    pager = Pager(env, "/db", env.lock("/db", "flock"), PAGE, Stats(), 1 << 20, None)
    pager.attach(file, writable=False)
    return pager


def three_levels(fan: int = 5, each: int = 6) -> tuple[Pager, Node, dict[bytes, bytes]]:
    """A tree of `fan` branches of `fan` leaves with `each` keys: its pager, its root, its pairs."""
    runs: list[bytes] = []
    model: dict[bytes, bytes] = {}
    tops: list[tuple[bytes, int]] = []
    for branch in range(fan):
        entries: list[tuple[bytes, int]] = []
        for leaf in range(fan):
            first = (branch * fan + leaf) * each
            pairs = {b"%04d" % (2 * number): b"v%d" % number for number in range(first, first + each)}
            model |= pairs
            entries.append((min(pairs), 2 + len(runs)))
            runs.append(leaf_run(2 + len(runs), list(pairs), list(pairs.values())))
        tops.append((entries[0][0], 2 + len(runs)))
        runs.append(branch_run(2 + len(runs), [key for key, _ in entries], [pgid for _, pgid in entries]))
    return pager_of(runs), Node.branch([key for key, _ in tops], [pgid for _, pgid in tops]), model


def some_pairs(rng: random.Random, count: int) -> tuple[list[bytes], list[bytes]]:
    """Keys in order, with values, some of which are empty, and some buckets."""
    keys = sorted({rng.randbytes(rng.randint(1, 12)) for _ in range(count)})
    values = [rng.randbytes(rng.choice((0, 1, 7, 30))) for _ in keys]
    return keys, [BucketValue(value) if rng.random() < 0.2 else value for value in values]


# ---------------------------------------------------------------------------------------------------------------- metas


def test_a_meta_is_bbolts_bytes() -> None:
    """Made by bbolt 1.3.6: header, 56 bytes, FNV-1a over them."""
    assert Meta(4096, 3, 2, 4, 0).encode().hex() == unhex(META_0).hex()
    assert Meta.decode(unhex(META_0)) == Meta(4096, 3, 2, 4, 0)


def test_a_meta_comes_back_as_it_was(rng: random.Random) -> None:
    """encode, then decode: every field, and what came after the meta in its page."""
    for _ in range(rounds(160)):
        high_water = rng.randint(5, 1 << 60)
        freelist = rng.choice((NO_FREELIST, rng.randrange(2, high_water)))
        root, txid, sequence = rng.randrange(2, high_water), rng.getrandbits(64), rng.getrandbits(64)
        meta = Meta(rng.choice((512, 4096, 65_536)), root, freelist, high_water, txid, sequence)
        encoded = meta.encode()
        assert len(encoded) == 80, f"{meta} has {len(encoded)} bytes, and 16 + 64 are due"
        assert int.from_bytes(encoded[:8], "little") == txid % 2, "the header has the meta's own page"
        assert Meta.decode(encoded) == meta
        page = (encoded + b"PROV" + bytes(4000)).ljust(4096, b"\0")
        assert Meta.decode(page) == Meta.decode(page[:META_AREA_BYTES]) == meta._replace(extra=b"PROV")


def test_no_flipped_bit_makes_another_meta() -> None:
    """Each bit of the 64 bytes is protected, by its own rule or by the checksum; the page header isn't looked at."""
    good = unhex(META_0)
    for bit in range(8 * len(good)):
        image = bytearray(good)
        image[bit // 8] ^= 1 << bit % 8
        if bit < 8 * 16:
            assert Meta.decode(bytes(image)) == Meta.decode(good), f"bit {bit} lies in the page header"
            continue
        with pytest.raises(MetaError):
            Meta.decode(bytes(image))


def test_what_is_no_meta_is_refused_in_a_sentence() -> None:
    """Too short; another magic or version; a page size or page ids that can't be; no checksum at all."""
    good = Meta(4096, 3, 2, 4, 7)
    for size in range(80):
        with pytest.raises(MetaError):
            Meta.decode(good.encode()[:size])
    for meta in (
        good._replace(page_bytes=79),
        good._replace(root=4),
        good._replace(root=1),
        good._replace(freelist=4),
        good._replace(freelist=1),
    ):
        with pytest.raises(MetaError):
            Meta.decode(meta.encode())  # its checksum is right
    with pytest.raises(NoChecksum) as failure:
        Meta.decode(good.encode()[:72] + bytes(8))
    assert failure.value.txid == 7, "the error of a meta without a checksum knows its txid"


def test_the_newest_whole_meta_counts() -> None:
    """By txid; a damaged one doesn't count; of two equal ones the one that lies in its own page does."""
    old, new, torn = Meta(4096, 3, 2, 4, 8), Meta(4096, 3, 2, 4, 9), MetaError("torn")
    assert newest_first([old, new]) == [(new, 1), (old, 0)]
    assert newest_first([new, old]) == [(new, 0), (old, 1)], "where bbolt's backups have it"
    assert newest_first([torn, new]) == [(new, 1)]
    assert newest_first([old, torn]) == [(old, 0)]
    assert newest_first([torn, torn]) == []
    assert newest_first([new, new])[0] == (new, 1)
    assert newest_first([old, old])[0] == (old, 0)


# ---------------------------------------------------------------------------------------------------------------- pages


def test_branches_and_leaves_are_bbolts_bytes() -> None:
    """Made by bbolt 1.3.6, but for the trailer, where bbolt has zeros."""
    for run, expected in (
        (leaf_run(3, [b"a"], [b"1"], 4096), unhex(LEAF_3)),
        (with_trailer(7, BRANCH, 2, branch_body([b"a", b"m"], [5, 6]), 1, 4096)[0], unhex(BRANCH_7)),
    ):
        assert run[: len(expected)].hex() == expected.hex()
        assert run[len(expected) : -8] == bytes(4096 - 8 - len(expected)), "zeros between the data and the trailer"
        assert run[-8:-4] == b"CRC1"


def test_pages_come_back_as_they_were(rng: random.Random) -> None:
    """Encoded and decoded: keys, values, which of them are buckets, page ids, where the data ends, and that it is packed."""
    for _ in range(rounds(80)):
        keys, values = some_pairs(rng, rng.randint(0, 40))
        run = leaf_run(9, keys, values)
        found_keys, found, used, packed = read_leaf(run, len(keys))
        assert (found_keys, found) == (keys, values)
        assert [type(value) for value in found] == [type(value) for value in values], "a bucket comes back as one"
        assert used == 16 + 16 * len(keys) + sum(map(len, keys + values)), "the end of the data"
        assert packed, "the data has no gaps"
        children = [rng.getrandbits(64) for _ in keys]
        if keys:
            run = branch_run(9, keys, children)
            expected = keys, children, 16 + 16 * len(keys) + sum(map(len, keys)), True
            assert read_branch(run, len(keys)) == expected


def test_gaps_between_the_data_are_seen() -> None:
    """packed is False where the bytes are not as we would lay them out; content and end are right all the same."""
    leaf = leaf_element.pack(0, 32, 1, 1) + leaf_element.pack(0, 20, 1, 1) + b"a1??b2"
    assert read_leaf(header.pack(2, LEAF, 2, 0) + leaf + bytes(20), 2) == ([b"a", b"b"], [b"1", b"2"], 54, False)
    branch = branch_element.pack(33, 1, 5) + branch_element.pack(16, 1, 6) + b"ba"
    assert read_branch(header.pack(2, BRANCH, 2, 0) + branch + bytes(20), 2) == ([b"a", b"b"], [5, 6], 50, False)


@pytest.mark.parametrize("branch", [False, True], ids=["leaf", "branch"])
def test_elements_that_can_not_be_are_refused(branch: bool) -> None:
    """No length is believed before it is compared with what is there; keys ascend strictly."""

    def read(count: int, *elements: tuple[int, int], data: bytes = b"") -> None:
        """Elements of (pos, size of the key), and after them the data."""
        if branch:
            table = b"".join(branch_element.pack(pos, size, 5) for pos, size in elements)
            read_branch(header.pack(2, BRANCH, count, 0) + table + data, count)
        else:
            table = b"".join(leaf_element.pack(0, pos, size, 0) for pos, size in elements)
            read_leaf(header.pack(2, LEAF, count, 0) + table + data, count)

    read(2, (32, 1), (17, 1), data=b"ab")  # as it should be
    for count, elements, why in (
        (3, [(32, 1), (17, 1)], "a table beyond the end of the run"),
        (0xFFFF, [(32, 1), (17, 1)], "a table far beyond it"),
        (2, [(32, 1), (18, 1)], "data beyond the end"),
        (2, [(32, 1), (17, 2)], "a key that is too long by one"),
        (2, [(32, 1), (17, 0xFFFF_FFFF)], "a key of 4 GB"),
        (2, [(31, 1), (17, 1)], "data in the table"),
        (2, [(0, 1), (17, 1)], "data in the element itself"),
        (2, [(33, 1), (16, 1)], "keys that descend"),
        (2, [(32, 1), (16, 1)], "a key that is there twice"),
    ):
        with pytest.raises(PageError):
            read(count, *elements, data=b"ab")
            pytest.fail(f"{why} was not refused: count {count}, (pos, key size) {elements}")


def test_a_value_longer_than_its_page_is_refused() -> None:
    """Of a leaf, key and value both have to lie in the run; a branch has one child at least."""
    with pytest.raises(PageError):
        read_leaf(header.pack(2, LEAF, 1, 0) + leaf_element.pack(0, 16, 1, 2) + b"ab", 1)
    with pytest.raises(PageError):
        read_branch(header.pack(2, BRANCH, 0, 0) + bytes(64), 0)


def test_a_trailer_is_checked_and_may_be_missing(rng: random.Random) -> None:
    """bbolt writes none; and where data reaches into its place, what looks like one is data."""
    keys, values = some_pairs(rng, 10)
    body = leaf_body(keys, values)
    run, crc = with_trailer(9, LEAF, len(keys), body, 1, PAGE)
    used = 16 + len(body)
    assert len(run) == PAGE
    assert verify_trailer(run, used) == crc
    assert verify_trailer(run, PAGE - 8) == crc, "data may end where the trailer begins"
    assert verify_trailer(run, PAGE - 7) is None, "one byte more, and it is data"
    assert verify_trailer(run[:-8] + bytes(8), used) is None, "as bbolt leaves it"
    with pytest.raises(PageError):
        verify_trailer(run[:-1] + bytes([run[-1] ^ 1]), used)


def test_no_flipped_bit_of_a_page_passes_unnoticed() -> None:
    """Header, elements, data, zeros and checksum. Without its magic the trailer is none, and the content is the same."""
    run = leaf_run(5, [b"a", b"bb"], [b"1", b""], 128)
    for bit in range(8 * len(run)):
        image = bytearray(run)
        image[bit // 8] ^= 1 << bit % 8
        if len(run) - 8 <= bit // 8 < len(run) - 4:
            assert Node.decode(bytes(image), 128).keys == [b"a", b"bb"]
            continue
        with pytest.raises(PageError):
            Node.decode(bytes(image), 128)
            pytest.fail(f"bit {bit % 8} of byte {bit // 8} was flipped, and the page was taken as it is")


def test_a_node_is_a_page_decoded() -> None:
    """A leaf, a branch, a run of several pages; anything else is refused by its kind."""
    leaf = Node.decode(leaf_run(5, [b"a"], [b"L" * 2_500]), PAGE)
    assert (leaf.keys, leaf.values, list(leaf.children), leaf.pages) == ([b"a"], [b"L" * 2_500], [], 3)
    branch = Node.decode(branch_run(5, [b"a", b"b"], [7, 9]), PAGE)
    assert (branch.keys, branch.children, branch.pages) == ([b"a", b"b"], array("Q", [7, 9]), 1)
    assert leaf.packed and branch.packed
    for flags in (0, 4, 16, BRANCH | LEAF):
        with pytest.raises(PageError):
            Node.decode(with_trailer(5, flags, 0, b"", 1, PAGE)[0], PAGE)
    with pytest.raises(PageError):
        Node.decode(leaf_run(5, [b""], [b"1"]), PAGE)
    unchecked = leaf_run(5, [b"a"], [b"1"])[:-8] + bytes(8)
    assert Node.decode(unchecked, PAGE).values == [b"1"]
    with pytest.raises(PageError):
        Node.decode(unchecked + bytes(2 * PAGE), PAGE)  # no checksum, and two pages more than the data needs


# ------------------------------------------------------------------------------------------------------- the way to a key


def test_a_branch_knows_which_child_a_key_belongs_to(rng: random.Random) -> None:
    """Against counting: [key i, key i + 1), the first child for all below, the last for all above."""
    for _ in range(rounds(40)):
        keys = sorted({rng.randbytes(rng.randint(1, 2)) for _ in range(rng.randint(1, 9))})
        branch = Node.branch(keys, range(len(keys)))
        for key in [*keys, b"", b"\xff" * 3, *(key + b"\0" for key in keys), rng.randbytes(2)]:
            expected = max(sum(each <= key for each in keys) - 1, 0)
            assert branch.child_index(key) == expected, f"{key!r} among the keys {keys}"


def test_a_lookup_reads_one_page_for_each_level() -> None:
    """O(height): of 31 pages, those on the way, present or not; what was read before is not read again."""
    pager, root, model = three_levels()
    for count, key in enumerate((b"0000", b"0130", b"0298"), start=1):
        assert lookup(pager, root, key) == model[key]
        assert pager.stats.reads == 2 * count, "a branch and a leaf below the root, which was in hand"
    for key in (b"", b"0001", b"0131", b"9999"):
        assert lookup(pager, root, key) is None
    for key, value in model.items():
        assert lookup(pager, root, key) == value
    assert pager.stats.reads == 30, "each page once"


def test_leaves_come_in_order_from_any_key(rng: random.Random) -> None:
    """In both directions, from any bound: all that is asked for, no leaf before it, and no leaf twice."""
    pager, root, model = three_levels()
    firsts = [key for number, key in enumerate(model) if number % 6 == 0]
    for _ in range(rounds(160)):
        bound = b"%04d" % rng.randrange(310)
        where = max(bisect_right(firsts, bound) - 1, 0)
        forward = [leaf.keys[0] for leaf in leaves_forward(pager, root, bound)]
        assert forward == firsts[where:], f"from {bound!r} on"
        backward = [key for leaf in leaves_backward(pager, root, bound) for key in reversed(leaf.keys) if key < bound]
        assert backward == sorted((key for key in model if key < bound), reverse=True), f"below {bound!r}"
    assert [leaf.keys[0] for leaf in leaves_backward(pager, root, None)] == firsts[::-1]
    below = [leaf.keys[0] for leaf in leaves_backward(pager, root, b"0100")]
    assert below[0] == b"0096" and len(below) == 9, "the leaf with the last key below 0100 comes first"


def test_a_scan_reads_no_page_before_its_turn() -> None:
    """Lazy: two pages for the first leaf, one for each that follows; a bound at a leaf's first key reads one less."""
    for leaves in (
        lambda pager, root: leaves_forward(pager, root, b"0160"),
        lambda pager, root: leaves_backward(pager, root, b"0160"),
    ):
        pager, root, _ = three_levels()
        found = leaves(pager, root)
        assert pager.stats.reads == 0
        for expected in (2, 3):
            next(found)
            assert pager.stats.reads == expected
    pager, root, _ = three_levels()
    assert next(leaves_backward(pager, root, b"0060")).keys[-1] == b"0058", "0060 begins the second branch"
    assert pager.stats.reads == 2


def test_a_tree_without_an_end_is_refused() -> None:
    """A damaged branch can point to itself; who goes down gives up after MAX_LEVELS."""
    pager = pager_of([branch_run(2, [b"a", b"b"], [2, 2])])
    root = pager.load(2)
    for walk in (
        lambda: lookup(pager, root, b"a"),
        lambda: next(leaves_forward(pager, root, b"")),
        lambda: next(leaves_backward(pager, root, None)),
    ):
        with pytest.raises(CorruptionError, match="deeper than"):
            walk()


# ---------------------------------------------------------------------------------------------------------- whole files


def test_a_file_of_the_real_bbolt_opens(golden: Path) -> None:
    """Every bucket in it, nested and inline ones and an overflow run, in both directions and key by key."""
    with BTreeStore(str(golden), read_only=True) as store, store.view() as view:
        for names, items in THEIRS.items():
            bucket = view.bucket(*names)
            assert dict(bucket.scan()) == items, f"bucket {names}"
            assert list(bucket.scan(reverse=True)) == sorted(items.items(), reverse=True)
            assert {key: bucket.get(key) for key in items} == items
        assert view.root_bucket().buckets() == [b"metcd", b"other", b"small"]
        assert view.txid == 13, "the newest meta of the two"
        assert store.get(b"0017") == b"v" * 17 and store.get(b"0017x") is None


def test_a_dump_is_the_golden_one(tmp_path: Path) -> None:
    """hello = world, as engines/btree/FORMAT.md has its bytes."""
    image = bytearray(0x8000)
    for place, row in HELLO.items():
        image[place : place + len(row) // 2] = bytes.fromhex(row)
    path = tmp_path / "hello.db"
    path.write_bytes(image)
    lines = list(dump_file(real_env(), str(path)))
    assert lines[0].endswith(": 32768 bytes, pages of 4096 bytes")
    assert lines[1:] == HELLO_DUMP


def test_a_bad_page_is_reported_with_its_id(golden: Path) -> None:
    """Another type, elements that can't be; in our files any byte, by the checksum."""
    good = golden.read_bytes()
    for offset, byte in ((8, 0x04), (8, 0x03), (10, 0xFF), (20, 0xFF)):
        image = bytearray(good)
        image[4 * 4096 + offset] = byte  # page 4 is the first leaf of the bucket metcd
        golden.write_bytes(image)
        with BTreeStore(str(golden), read_only=True) as store, pytest.raises(CorruptionError, match="page 4: "):
            store.get(b"0003")
    run = leaf_run(2, [b"a"], [b"1"])
    for offset in (34, 500, PAGE - 1):
        broken = run[:offset] + bytes([run[offset] ^ 0x10]) + run[offset + 1 :]
        with pytest.raises(CorruptionError, match="page 2: ") as failure:
            pager_of([broken]).load(2)
        assert failure.value.offset == 2 * PAGE
