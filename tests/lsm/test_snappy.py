"""engines/lsm/snappy.py: the elements of the format, and damage."""

from __future__ import annotations

import pytest

from engines.coding import DecodeError
from engines.lsm import snappy


def test_snappys_elements() -> None:
    """google/snappy's format_description.txt: literals of both lengths, the three copies, one that overlaps itself."""
    literal = b"\x0cabcd"  # 4 bytes: (4 - 1) << 2
    assert snappy.decompress_here(b"\x04" + literal) == b"abcd"
    assert snappy.decompress_here(b"\x08" + literal + b"\x01\x04") == b"abcdabcd"
    assert snappy.decompress_here(b"\x08" + literal + b"\x0e\x04\x00") == b"abcdabcd"
    assert snappy.decompress_here(b"\x08" + literal + b"\x0f\x04\x00\x00\x00") == b"abcdabcd"
    assert snappy.decompress_here(b"\x08\x00a" + b"\x0d\x01") == b"a" * 8
    assert snappy.decompress_here(b"\xac\x02" + b"\xf4\x2b\x01" + b"x" * 300) == b"x" * 300
    assert snappy.decompress_here(b"\x00") == b""


@pytest.mark.parametrize(
    "damaged",
    [b"", b"\x05\x0cabcd", b"\x03\x0cabcd", b"\x08\x0cabcd\x01\x05", b"\x08\x0cabcd\x01", b"\x04\x0cab", b"\xff" * 9],
)
def test_damaged_snappy_is_refused(damaged: bytes) -> None:
    with pytest.raises(DecodeError):
        snappy.decompress_here(damaged)
