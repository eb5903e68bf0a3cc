"""engines/lsm/keys.py: the order of internal keys, and the short keys between two blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.coding import DecodeError
from engines.lsm.keys import DELETION, MAX_SEQUENCE, VALUE, Row, internal_key, order, separator, successor

KEYS = st.binary(max_size=12)


def test_internal_keys_put_the_newest_version_first() -> None:
    """dbformat_test.cc: user key ascending, sequence descending; their bytes are not in this order."""
    ordered = [internal_key(b"a", 9, VALUE), internal_key(b"a", 4, DELETION), internal_key(b"a\x00", 7, VALUE)]
    assert sorted(ordered, key=order) == ordered
    assert sorted(ordered) != ordered


@pytest.mark.parametrize(
    ("last", "first", "expected"),
    [
        (b"foo", b"foo", None),
        (b"foo", b"bar", None),
        (b"foo", b"hello", b"g"),
        (b"foo", b"foobar", None),
        (b"foobar", b"foo", None),
        (b"abc1", b"abc3", None),
        (b"abc12", b"abc3", b"abc2"),
        (b"a\xffz", b"b", None),
        (b"", b"b", None),
    ],
)
def test_separators_are_leveldbs(last: bytes, first: bytes, expected: bytes | None) -> None:
    """dbformat_test.cc, InternalKeyShortSeparator: shortened only if there is room between the two keys."""
    key = internal_key(last, 100, VALUE)
    found = separator(key, internal_key(first, 100, VALUE))
    assert found == (key if expected is None else internal_key(expected, MAX_SEQUENCE, VALUE))


def test_successors_are_leveldbs() -> None:
    """dbformat_test.cc, InternalKeyShortestSuccessor."""
    assert successor(internal_key(b"foo", 100, VALUE)) == internal_key(b"g", MAX_SEQUENCE, VALUE)
    assert successor(internal_key(b"\xff\xff", 100, VALUE)) == internal_key(b"\xff\xff", 100, VALUE)
    assert successor(internal_key(b"\xff\x01\x02", 1, VALUE)) == internal_key(b"\xff\x02", MAX_SEQUENCE, VALUE)


@given(KEYS, KEYS, st.integers(1, 50), st.integers(1, 50))
def test_a_separator_lies_between_its_keys(one: bytes, two: bytes, first: int, second: int) -> None:
    last, following = sorted((internal_key(one, first, VALUE), internal_key(two, second + 50, VALUE)), key=order)
    assert order(last) <= order(separator(last, following)) < order(following)
    assert order(last) <= order(successor(last))


@given(st.lists(st.tuples(KEYS, st.integers(1, 99), st.none() | st.binary(max_size=2)), max_size=20))
def test_rows_sort_as_their_internal_keys_do(versions: list[tuple[bytes, int, bytes | None]]) -> None:
    """InternalKeyComparator; and what goes into a row comes out of it."""
    rows = [Row.of(*version) for version in versions]
    assert [row.internal_key for row in sorted(rows)] == sorted([row.internal_key for row in rows], key=order)
    for row, (key, sequence, value) in zip(rows, versions):
        assert (row.key, row.sequence, None if row.is_deletion else row.value) == (key, sequence, value)
        assert row == Row.decode(row.internal_key, row.value)


def test_a_key_without_a_trailer_is_no_row() -> None:
    with pytest.raises(DecodeError, match="at least 8 bytes"):
        Row.decode(b"7 bytes", b"")
