"""engines/lsm/version.py: edits, and what overlaps on level 0."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.coding import DecodeError
from engines.lsm.keys import DELETION, VALUE, internal_key
from engines.lsm.version import FileMeta, Version, VersionEdit


def test_an_edits_bytes() -> None:
    """Golden: version_edit.cc's tags, in LevelDB's order."""
    edit = VersionEdit(b"leveldb.BytewiseComparator", 3, 0, 5, 9)
    edit.compact_pointers = [(1, internal_key(b"p", 1, VALUE))]
    edit.deleted = [(2, 7), (0, 8)]
    edit.added = [(1, FileMeta(4, 300, internal_key(b"a", 2, VALUE), internal_key(b"z", 3, DELETION)))]
    raw = edit.encode()
    assert raw.hex(" ") == (
        "01 1a 6c 65 76 65 6c 64 62 2e 42 79 74 65 77 69 73 65 43 6f 6d 70 61 72 61 74 6f 72 02 03 09 00 03 05 04 09 "
        "05 01 09 70 01 01 00 00 00 00 00 00 06 00 08 06 02 07 "
        "07 01 04 ac 02 09 61 01 02 00 00 00 00 00 00 09 7a 00 03 00 00 00 00 00 00"
    )
    decoded = VersionEdit.decode(raw)
    assert decoded.encode() == raw
    assert repr(decoded.added) == repr(edit.added)


@given(st.binary(max_size=60))
def test_a_damaged_edit_is_refused_or_read(raw: bytes) -> None:
    try:
        VersionEdit.decode(raw)
    except DecodeError:
        return


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x08\x00", "tag 8"),
        (b"\x06\x07\x01", "level 7"),
        (b"\x07\x00\x05\x10\x03abc\x03abc", "3 bytes"),
        (b"\x07\x00\x05\x10" + b"\x09z" + bytes(8) + b"\x09a" + bytes(8), "begin"),
    ],
)
def test_what_no_edit_may_say(raw: bytes, why: str) -> None:
    """LevelDB refuses the first two; the others are undefined behaviour there."""
    with pytest.raises(DecodeError, match=why):
        VersionEdit.decode(raw)


def file(number: int, first: bytes, last: bytes, sequence: int = 100, size: int = 10) -> FileMeta:
    return FileMeta(number, size, internal_key(first, sequence, VALUE), internal_key(last, sequence, VALUE))


def test_overlap_on_level_0_is_transitive() -> None:
    """version_set_test.cc: a file that overlaps brings those along that overlap it."""
    version = Version([[file(1, b"a", b"c"), file(2, b"b", b"f"), file(3, b"e", b"h"), file(4, b"x", b"z")], *[[]] * 6])
    assert [found.number for found in version.overlapping(0, b"a", b"a")] == [3, 2, 1]
    assert [found.number for found in version.overlapping(0, b"y", None)] == [4]
    assert version.overlapping(0, b"i", b"w") == []
