"""engines/lsm/wal.py: the record of a batch."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.coding import DecodeError
from engines.kvstore import Operation
from engines.lsm.fast import batch as fast
from engines.lsm.keys import MAX_SEQUENCE
from engines.lsm.wal import decode_batch, encode_batch

Encode = Callable[[int, list[Operation]], bytes]
both = pytest.mark.parametrize("encode", [encode_batch, fast.encode_batch])
OPERATIONS = st.lists(st.tuples(st.binary(max_size=200), st.none() | st.binary(max_size=300)), max_size=8)


@both
def test_a_batchs_bytes(encode: Encode) -> None:
    """Golden: write_batch.cc's grammar."""
    assert encode(100, [(b"foo", b"bar"), (b"box", None)]).hex(" ") == (
        "64 00 00 00 00 00 00 00 02 00 00 00 01 03 66 6f 6f 03 62 61 72 00 03 62 6f 78"
    )


@both
@given(sequence=st.integers(1, MAX_SEQUENCE - 10), operations=OPERATIONS)
def test_batches_come_back(encode: Encode, sequence: int, operations: list[tuple[bytes, bytes | None]]) -> None:
    record = encode(sequence, operations)
    assert decode_batch(record) == (sequence, operations)
    assert record == encode_batch(sequence, operations)
    for key, value in operations:
        if value is not None:
            assert fast.encode_put(sequence, key, value) == encode_batch(sequence, [(key, value)])


@given(st.binary(max_size=40))
def test_a_damaged_batch_is_refused_or_read(record: bytes) -> None:
    for raw in (record, struct.pack("<QI", 5, 2) + record):
        try:
            _, operations = decode_batch(raw)
        except DecodeError:
            continue
        assert len(operations) == int.from_bytes(raw[8:12], "little")
