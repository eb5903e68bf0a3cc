"""Pages as bytes: bbolt's own bytes as golden values, and what damage is refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.btree.page import (
    BRANCH,
    LEAF,
    BucketValue,
    PageError,
    branch_body,
    dump,
    leaf_body,
    read_branch,
    read_leaf,
    run_pages,
    verify_trailer,
    with_trailer,
)

PAGE = 4096
LEAF_A = "03000000000000000200010000000000 00000000 10000000 01000000 01000000 6131"
BRANCH_AM = (
    "07000000000000000100020000000000 20000000 01000000 0500000000000000 11000000 01000000 0600000000000000 616d"
)

keys_and_values = st.dictionaries(st.binary(min_size=1, max_size=40), st.binary(max_size=90), max_size=40).map(
    lambda items: (sorted(items), [items[key] for key in sorted(items)])
)


def leaf_run(keys: list[bytes], values: list[bytes]) -> bytes:
    body = leaf_body(keys, values)
    pages = run_pages(16 + len(body), PAGE)
    return with_trailer(9, LEAF, len(keys), body, pages, PAGE)[0]


@pytest.mark.parametrize(
    ("written", "golden"),
    [
        (with_trailer(3, LEAF, 1, leaf_body([b"a"], [b"1"]), 1, PAGE)[0], LEAF_A),
        (with_trailer(7, BRANCH, 2, branch_body([b"a", b"m"], [5, 6]), 1, PAGE)[0], BRANCH_AM),
    ],
    ids=["leaf", "branch"],
)
def test_pages_are_bbolts_bytes(written: bytes, golden: str) -> None:
    """Made by bbolt 1.3.6, byte for byte, but for the checksum at the page's end."""
    expected = bytes.fromhex(golden)
    assert written[: len(expected)] == expected
    assert not any(written[len(expected) : -8])
    assert written[-8:-4] == b"CRC1"


@given(keys_and_values)
def test_a_leaf_comes_back(items: tuple[list[bytes], list[bytes]]) -> None:
    """Decoding what was encoded; packed, and with a checksum."""
    keys, values = items
    run = leaf_run(keys, values)
    assert read_leaf(run, len(keys)) == (keys, values, 16 + len(leaf_body(keys, values)), True)
    assert verify_trailer(run, 16 + len(leaf_body(keys, values))) is not None


@given(st.dictionaries(st.binary(min_size=1, max_size=40), st.integers(2, 2**64 - 1), min_size=1, max_size=40))
def test_a_branch_comes_back(items: dict[bytes, int]) -> None:
    """Keys and page ids of any size."""
    keys, children = sorted(items), [items[key] for key in sorted(items)]
    run = with_trailer(9, BRANCH, len(keys), branch_body(keys, children), 1, PAGE)[0]
    assert read_branch(run, len(keys)) == (keys, children, 16 + len(branch_body(keys, children)), True)


def test_data_out_of_order_is_read_and_not_packed() -> None:
    """Another program may lay its data out in another order; such a page is not copied piece by piece."""
    run = bytearray(leaf_run([b"a", b"b"], [b"1", b"2"]))
    run[48:52] = b"b2a1"
    run[20:24], run[36:40] = bytes([34, 0, 0, 0]), bytes([16, 0, 0, 0])
    assert read_leaf(bytes(run), 2) == ([b"a", b"b"], [b"1", b"2"], 52, False)


def test_a_bucket_is_told_by_its_flag() -> None:
    """It comes back as a BucketValue."""
    run = leaf_run([b"a", b"b"], [b"1", BucketValue(bytes(16))])
    assert [type(value) for value in read_leaf(run, 2)[1]] == [bytes, BucketValue]


@pytest.mark.parametrize("at", range(0, PAGE, 97))
def test_a_flipped_byte_breaks_the_checksum(at: int) -> None:
    """verify_trailer: any byte of the run; the trailer's own magic makes the page an unchecked one."""
    run = bytearray(leaf_run([b"a", b"b"], [b"1" * 50, b"2" * 50]))
    run[at] ^= 1
    with pytest.raises(PageError, match="checksum"):
        verify_trailer(bytes(run), 200)


def test_a_full_page_has_a_checksum_as_well() -> None:
    """Data up to the very byte before the trailer."""
    value = b"x" * (PAGE - 16 - 16 - 1 - 8)
    run = leaf_run([b"k"], [value])
    used = read_leaf(run, 1)[2]
    assert len(run) == PAGE and used == PAGE - 8
    assert verify_trailer(run, used) is not None
    with pytest.raises(PageError, match="checksum"):
        verify_trailer(run[:2000] + b"y" + run[2001:], used)


def test_data_in_the_place_of_a_trailer_is_no_trailer() -> None:
    """A full page of bbolt's may end in anything, CRC1 included."""
    value = b"x" * (PAGE - 16 - 16 - 1 - 8) + b"CRC1abcd"
    run = (b"\x09" + bytes(7) + b"\x02\0\x01\0" + bytes(4)) + leaf_body([b"k"], [value])
    assert len(run) == PAGE
    assert verify_trailer(run, PAGE) is None
    assert read_leaf(run, 1)[1] == [value]


@pytest.mark.parametrize(
    ("keys", "what"),
    [([b"b", b"a"], "ascend"), ([b"a", b"a"], "ascend")],
)
def test_unsorted_keys_are_refused(keys: list[bytes], what: str) -> None:
    """A page out of order would give wrong answers silently."""
    with pytest.raises(PageError, match=what):
        read_leaf(leaf_run(keys, [b"1", b"2"]), 2)
    run = with_trailer(9, BRANCH, 2, branch_body(keys, [3, 4]), 1, PAGE)[0]
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


def test_a_dump_shows_elements_in_words() -> None:
    """For people: one line for each element, and what is wrong with a damaged page."""
    text = list(dump(leaf_run([b"a", b"b"], [b"1", BucketValue(b"\7" + bytes(15))])))
    assert text[:3] == ["page 9: leaf, 2 elements, 0 overflow pages", "  b'a': b'1'", "  b'b': bucket, root page 7"]
    assert text[3].startswith("  checksum ")
    branch = with_trailer(7, BRANCH, 1, branch_body([b"k"], [5]), 1, PAGE)[0]
    assert list(dump(branch))[1] == "  b'k' -> page 5"
    assert "damaged" in list(dump(branch[:8] + b"\1\0\xff\xff" + branch[12:]))[-1]
