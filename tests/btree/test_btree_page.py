"""Pages, metas and freelists as bytes: bbolt's own bytes as golden values, and what damage is refused."""

from __future__ import annotations

import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.btree.freelist import freelist_body, read_freelist
from engines.btree.meta import NO_FREELIST, SPARE_PLACE, Meta, MetaError, Seal, fnv1a_64, term
from engines.btree.page import (
    BRANCH,
    FREELIST,
    LEAF,
    BucketValue,
    PageError,
    branch_body,
    dump,
    leaf_body,
    patch_child,
    read_branch,
    read_leaf,
    run_pages,
    seal,
    splice_leaf,
    values_of,
    verify_seal,
)
from engines.btree.recovery import empty_file

PAGE = 4096
LEAF_A = "03000000000000000200010000000000 00000000 10000000 01000000 01000000 6131"
BRANCH_AM = (
    "07000000000000000100020000000000 20000000 01000000 0500000000000000 11000000 01000000 0600000000000000 616d"
)
FREELIST_9_10 = "02000000000000001000020000000000 0900000000000000 0a00000000000000"
META_0 = (
    "00000000000000000400000000000000 edda0ced02000000 0010000000000000 0300000000000000 0000000000000000"
    "0200000000000000 0400000000000000 0000000000000000 eefd8946116e5107"
)

keys_and_values = st.dictionaries(st.binary(min_size=1, max_size=40), st.binary(max_size=90), max_size=40).map(
    lambda items: (sorted(items), [items[key] for key in sorted(items)])
)


def leaf_run(keys: list[bytes], values: list[bytes]) -> bytes:
    body = leaf_body(keys, values)
    pages = run_pages(16 + len(body), PAGE)
    return seal(9, LEAF, len(keys), body, pages * PAGE, pages)[0]


@pytest.mark.parametrize(
    ("written", "golden"),
    [
        (seal(3, LEAF, 1, leaf_body([b"a"], [b"1"]), PAGE, 1)[0], LEAF_A),
        (seal(7, BRANCH, 2, branch_body([b"a", b"m"], array("Q", [5, 6])), PAGE, 1)[0], BRANCH_AM),
        (seal(2, FREELIST, *freelist_body(array("Q", [9, 10])), PAGE, 1)[0], FREELIST_9_10),
        (Meta(PAGE, 3, 2, 4, 0).encode(), META_0),
    ],
    ids=["leaf", "branch", "freelist", "meta"],
)
def test_pages_are_bbolts_bytes(written: bytes, golden: str) -> None:
    """Made by bbolt 1.3.6, byte for byte, but for the checksum at the page's end."""
    expected = bytes.fromhex(golden)
    assert written[: len(expected)] == expected
    assert not any(written[len(expected) : -8])


def test_a_new_file_is_bbolts_but_for_the_checksums() -> None:
    """Four pages: metas 0 and 1, an empty freelist, an empty leaf."""
    pages = [empty_file(PAGE)[at : at + PAGE] for at in range(0, 4 * PAGE, PAGE)]
    assert pages[0][:80] == bytes.fromhex(META_0) and not any(pages[0][80:])
    assert Meta.decode(pages[1]) == Meta(PAGE, 3, 2, 4, 1)
    assert pages[2][:-8] == bytes.fromhex("02000000000000001000").ljust(PAGE - 8, b"\0")
    assert pages[3][:-8] == bytes.fromhex("03000000000000000200").ljust(PAGE - 8, b"\0")
    assert all(page[-8:-4] == b"CRC1" for page in pages[2:])


@given(keys_and_values)
def test_a_leaf_comes_back(items: tuple[list[bytes], list[bytes]]) -> None:
    """Decoding what was encoded; packed, and sealed."""
    keys, values = items
    run = leaf_run(keys, values)
    assert read_leaf(run, len(keys)) == (keys, values, 16 + len(leaf_body(keys, values)), True)
    assert values_of(leaf_body(keys, values), len(keys)) == values
    assert verify_seal(run, 16 + len(leaf_body(keys, values))) is not None


@given(keys_and_values, st.data())
def test_splicing_is_encoding_the_changed_lists(items: tuple[list[bytes], list[bytes]], data: st.DataObject) -> None:
    """splice_leaf: inserts, overwrites of any size, deletes, at any index."""
    keys, values = items
    body = leaf_body(keys, values)
    key, value = data.draw(st.binary(min_size=1, max_size=30)), data.draw(st.binary(max_size=100))
    at = data.draw(st.integers(0, len(keys)))
    inserted = splice_leaf(body, len(keys), at, 0, key, value)
    assert inserted == leaf_body([*keys[:at], key, *keys[at:]], [*values[:at], value, *values[at:]])
    if keys:
        at = data.draw(st.integers(0, len(keys) - 1))
        replaced = splice_leaf(body, len(keys), at, 1, keys[at], value)
        assert replaced == leaf_body(keys, [*values[:at], value, *values[at + 1 :]])
        deleted = splice_leaf(body, len(keys), at, 1, keys[at], None)
        assert deleted == leaf_body(keys[:at] + keys[at + 1 :], values[:at] + values[at + 1 :])


def test_splicing_keeps_bucket_flags() -> None:
    """An element's flags stay, and a new bucket has its own."""
    keys, values = [b"a", b"b", b"c"], [b"1", BucketValue(bytes(16)), b"3"]
    body = leaf_body(keys, values)
    changed = BucketValue(b"\1" * 16)
    assert splice_leaf(body, 3, 1, 1, b"b", changed) == leaf_body(keys, [b"1", changed, b"3"])
    assert splice_leaf(body, 3, 0, 1, b"a", b"longer") == leaf_body(keys, [b"longer", *values[1:]])
    assert splice_leaf(body, 3, 3, 0, b"d", changed) == leaf_body([*keys, b"d"], [*values, changed])


def test_a_patched_branch_has_another_child() -> None:
    """patch_child: 8 bytes are different."""
    keys = [b"a", b"m", b"x"]
    body = branch_body(keys, array("Q", [5, 6, 7]))
    assert patch_child(body, 1, 99) == branch_body(keys, array("Q", [5, 99, 7]))


@pytest.mark.parametrize("at", range(0, PAGE, 97))
def test_a_flipped_byte_breaks_the_seal(at: int) -> None:
    """verify_seal: any byte of the run; the trailer's own magic makes the page an unchecked one."""
    run = bytearray(leaf_run([b"a", b"b"], [b"1" * 50, b"2" * 50]))
    run[at] ^= 1
    with pytest.raises(PageError, match="checksum"):
        verify_seal(bytes(run), 200)


def test_a_full_page_is_sealed_as_well() -> None:
    """Data up to the very byte before the trailer."""
    value = b"x" * (PAGE - 16 - 16 - 1 - 8)
    run = leaf_run([b"k"], [value])
    used = read_leaf(run, 1)[2]
    assert len(run) == PAGE and used == PAGE - 8
    assert verify_seal(run, used) is not None
    with pytest.raises(PageError, match="checksum"):
        verify_seal(run[:2000] + b"y" + run[2001:], used)


def test_data_in_the_place_of_a_trailer_is_no_trailer() -> None:
    """A full page of bbolt's may end in anything, CRC1 included."""
    value = b"x" * (PAGE - 16 - 16 - 1 - 8) + b"CRC1abcd"
    run = (b"\x09" + bytes(7) + b"\x02\0\x01\0" + bytes(4)) + leaf_body([b"k"], [value])
    assert len(run) == PAGE
    assert verify_seal(run, PAGE) is None
    assert read_leaf(run, 1)[1] == [value]


@pytest.mark.parametrize(
    ("keys", "what"),
    [([b"b", b"a"], "ascend"), ([b"a", b"a"], "ascend")],
)
def test_unsorted_keys_are_refused(keys: list[bytes], what: str) -> None:
    """A page out of order would give wrong answers silently."""
    with pytest.raises(PageError, match=what):
        read_leaf(leaf_run(keys, [b"1", b"2"]), 2)
    run = seal(9, BRANCH, 2, branch_body(keys, array("Q", [3, 4])), PAGE, 1)[0]
    with pytest.raises(PageError, match=what):
        read_branch(run, 2)


def test_lengths_are_not_believed(rng: random.Random) -> None:
    """Counts, positions and sizes of all kinds: PageError or a right answer, never more memory than the page."""
    run = leaf_run([b"%02d" % i for i in range(20)], [b"v" * i for i in range(20)])
    for _ in range(3_000):
        damaged = bytearray(run)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(16, 16 + 16 * 20)] = rng.randrange(256)
        try:
            keys, values, used, _ = read_leaf(bytes(damaged), rng.choice((20, 20, 19, 65_535)))
        except PageError:
            continue
        assert used <= PAGE and sum(map(len, keys)) + sum(map(len, values)) <= 20 * PAGE


@pytest.mark.parametrize("count", [0, 1, 509, 65_534, 65_535, 70_000])
def test_a_freelist_of_any_length_comes_back(count: int) -> None:
    """From 0xFFFF ids on, the count moves into the body."""
    ids = array("Q", range(2, 2 + count))
    in_header, body = freelist_body(ids)
    assert in_header == (count if count < 65_535 else 65_535)
    pages = run_pages(16 + len(body), PAGE)
    run, _ = seal(7, FREELIST, in_header, body, pages * PAGE, pages)
    assert read_freelist(run) == (ids, 16 + len(body))
    with pytest.raises(PageError, match="ids end at"):
        read_freelist(run[:10] + b"\xfe\xff" + run[12:PAGE])


@given(st.lists(st.integers(0, 2**64 - 1) | st.just(NO_FREELIST), max_size=9))
def test_fnv_is_fnv(words: list[int]) -> None:
    """Against the definition; the shortcut for zero bytes changes nothing."""
    basis = 0xCBF29CE484222325
    for byte in b"".join(word.to_bytes(8, "little") for word in words):
        basis = (basis ^ byte) * 0x100000001B3 % 2**64
    assert fnv1a_64(words) == basis


metas = st.builds(
    Meta,
    page_bytes=st.sampled_from([1024, 4096, 65_536]),
    root=st.integers(2, 9),
    freelist=st.sampled_from([2, 9, NO_FREELIST]),
    high_water=st.integers(10, 2**40),
    txid=st.integers(0, 2**63),
    sequence=st.integers(0, 2**63),
    flags=st.just(0),
    seal=st.none() | st.builds(Seal, st.integers(0, 2**63), st.integers(0, 2**64 - 1)),
)


@given(metas)
def test_a_meta_comes_back(meta: Meta) -> None:
    """Header, meta and seal; and no more than its place in the page."""
    encoded = meta.encode()
    assert Meta.decode(encoded) == meta
    assert len(encoded) <= SPARE_PLACE
    assert encoded[0] == meta.txid % 2


@given(metas, st.integers(16, 79), st.integers(0, 7))
def test_a_damaged_meta_is_refused(meta: Meta, at: int, bit: int) -> None:
    """Every bit of the 64 bytes."""
    damaged = bytearray(meta.encode())
    damaged[at] ^= 1 << bit
    with pytest.raises(MetaError):
        Meta.decode(bytes(damaged))


@given(metas.filter(lambda meta: meta.seal is not None), st.integers(80, 107), st.integers(0, 7))
def test_a_damaged_seal_is_no_seal(meta: Meta, at: int, bit: int) -> None:
    """The meta is whole then, and not to be believed."""
    damaged = bytearray(meta.encode())
    damaged[at] ^= 1 << bit
    assert Meta.decode(bytes(damaged)).seal is None


def test_terms_tell_pages_apart() -> None:
    """Exchanged checksums don't cancel out."""
    assert term(5, 1234) + term(6, 9999) != term(5, 9999) + term(6, 1234)
    assert len({term(pgid, 77) for pgid in range(10_000)}) == 10_000


def test_a_dump_shows_elements_in_words() -> None:
    """For people: one line for each element, and what is wrong with a damaged page."""
    text = list(dump(leaf_run([b"a", b"b"], [b"1", BucketValue(b"\7" + bytes(15))])))
    assert text[:3] == ["page 9: leaf, 2 elements, 0 overflow pages", "  b'a': b'1'", "  b'b': bucket, root page 7"]
    assert text[3].startswith("  checksum ")
    branch = seal(7, BRANCH, 1, branch_body([b"k"], array("Q", [5])), PAGE, 1)[0]
    assert list(dump(branch))[1] == "  b'k' -> page 5"
    assert "damaged" in list(dump(branch[:8] + b"\1\0\xff\xff" + branch[12:]))[-1]
