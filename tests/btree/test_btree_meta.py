"""Meta pages: bbolt's bytes, and damage that is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.btree.meta import META_AREA_BYTES, NO_FREELIST, Meta, MetaError, NoChecksum, fnv1a_64

PAGE = 4096
META_0 = (
    "00000000000000000400000000000000 edda0ced02000000 0010000000000000 0300000000000000 0000000000000000"
    "0200000000000000 0400000000000000 0000000000000000 eefd8946116e5107"
)

metas = st.builds(
    Meta,
    page_bytes=st.sampled_from([1024, 4096, 65_536]),
    root=st.integers(2, 9),
    freelist=st.sampled_from([2, 9, NO_FREELIST]),
    high_water=st.integers(10, 2**40),
    txid=st.integers(0, 2**63),
    sequence=st.integers(0, 2**63),
    flags=st.just(0),
    extra=st.just(b""),
)


def test_a_meta_is_bbolts_bytes() -> None:
    """Meta 0 of a new file, as bbolt 1.3.6 writes it."""
    assert Meta(PAGE, 3, 2, 4, 0).encode() == bytes.fromhex(META_0)
    assert Meta(PAGE, 3, 2, 4, 0).encode_page() == bytes.fromhex(META_0).ljust(PAGE, b"\0")


@pytest.mark.parametrize(("data", "expected"), [(b"", 0xCBF29CE484222325), (b"foobar", 0x85944171F73967E8)])
def test_fnv_is_fnv(data: bytes, expected: int) -> None:
    """The values of the algorithm's authors."""
    assert fnv1a_64(data) == expected


@given(metas, st.binary(max_size=48))
def test_a_meta_comes_back(meta: Meta, after: bytes) -> None:
    """And what lies after it in its page is kept with it, but for zeros at the end."""
    encoded = meta.encode()
    assert Meta.decode(encoded) == meta
    assert encoded[0] == meta.page == meta.txid % 2
    assert Meta.decode(encoded + after) == meta._replace(extra=after.rstrip(b"\0"))
    assert len(encoded) + 28 <= META_AREA_BYTES


@given(metas, st.integers(16, 79), st.integers(0, 7))
def test_a_damaged_meta_is_refused(meta: Meta, at: int, bit: int) -> None:
    """Every bit of the 64 bytes."""
    damaged = bytearray(meta.encode())
    damaged[at] ^= 1 << bit
    with pytest.raises(MetaError):
        Meta.decode(bytes(damaged))


def test_a_meta_without_a_checksum_is_told_from_a_damaged_one() -> None:
    """boltdb wrote 0 there; to take the older meta then would lose a commit."""
    with pytest.raises(NoChecksum):
        Meta.decode(Meta(PAGE, 3, 2, 4, 7).encode()[:-8] + bytes(8))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"page_bytes": 79}, "page size"),
        ({"root": 1}, "root 1"),
        ({"root": 9}, "root 9"),
        ({"freelist": 9}, "freelist 9"),
    ],
)
def test_a_meta_that_cannot_be_is_refused(fields: dict[str, int], why: str) -> None:
    """A right checksum does not make it right: ids lie below the high-water mark, and a page has room for a meta."""
    meta = Meta(PAGE, 3, 2, 4, 7)._replace(**fields)  # type: ignore[arg-type]
    with pytest.raises(MetaError, match=why):
        Meta.decode(meta.encode())


def test_too_few_bytes_are_no_meta() -> None:
    """The end of a file that is too short."""
    with pytest.raises(MetaError, match="79 are there"):
        Meta.decode(Meta(PAGE, 3, 2, 4, 7).encode()[:79])
