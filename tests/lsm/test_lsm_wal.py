"""engines/lsm/wal.py: the record of a batch."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from engines.coding import DecodeError
from engines.lsm.keys import MAX_SEQUENCE
from engines.lsm.wal import decode_batch, encode_batch, encode_put

OPERATIONS = st.lists(st.tuples(st.binary(max_size=200), st.none() | st.binary(max_size=300)), max_size=8)


def test_a_batchs_bytes() -> None:
    """Golden: write_batch.cc's grammar."""
    assert encode_batch(100, [(b"foo", b"bar"), (b"box", None)]).hex(" ") == (
        "64 00 00 00 00 00 00 00 02 00 00 00 01 03 66 6f 6f 03 62 61 72 00 03 62 6f 78"
    )


@given(st.integers(1, MAX_SEQUENCE - 10), OPERATIONS)
def test_batches_come_back(sequence: int, operations: list[tuple[bytes, bytes | None]]) -> None:
    assert decode_batch(encode_batch(sequence, operations)) == (sequence, operations)
    for key, value in operations:
        if value is not None:
            assert encode_put(sequence, key, value) == encode_batch(sequence, [(key, value)])


@given(st.binary(max_size=40))
def test_a_damaged_batch_is_refused_or_read(record: bytes) -> None:
    for raw in (record, struct.pack("<QI", 5, 2) + record):
        try:
            _, operations = decode_batch(raw)
        except DecodeError:
            continue
        assert len(operations) == int.from_bytes(raw[8:12], "little")
