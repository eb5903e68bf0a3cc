"""Fixed-width and variable-width integers, the letters of every format here.

    fixed32   4 bytes, little-endian                       300  →  2c 01 00 00
    fixed64   8 bytes, little-endian
    varint    base 128, low 7 bits first; a set high bit   300  →  ac 02
              means that more follows; at most 5 bytes for 32 bits, 10 bytes for 64
    slice     a varint length, then that many bytes        b"hi" →  02 68 69

Decoders take a buffer and an offset, and return the value with the offset after it. They never read past the buffer
and never believe a length: what doesn't fit raises `DecodeError`, which the caller turns into a `CorruptionError`
with the path and position that only it knows.

Follows LevelDB's util/coding.cc. Cost: O(bytes); one `struct` call for a fixed integer, one loop step for each 7 bits.
"""

from __future__ import annotations

import struct

__all__ = ["DecodeError", "get_slice", "get_varint32", "get_varint64", "put_slice", "put_varint", "u32", "u64"]

u32 = struct.Struct("<I")
u64 = struct.Struct("<Q")

MAX_VARINT = (1 << 64) - 1

_ONE_BYTE = [bytes([i]) for i in range(128)]


class DecodeError(ValueError):
    """The bytes end too early, or say a number that can't be."""


def put_varint(value: int) -> bytes:
    """Encodes 0 ≤ value < 2**64, which the caller guarantees, in 1 to 10 bytes: as few as it takes.

    Seven bits a byte, the lowest first; the high bit of a byte says that another one follows.
    """
    if value < 128:
        return _ONE_BYTE[value]
    if value < 16384:
        return bytes((value & 127 | 128, value >> 7))
    assert value <= MAX_VARINT
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def get_varint64(buffer: bytes | memoryview, offset: int) -> tuple[int, int]:
    """Decodes a varint of at most 64 bits: (value, offset after it). Raises DecodeError."""
    return _get_varint(buffer, offset, 64)


def get_varint32(buffer: bytes | memoryview, offset: int) -> tuple[int, int]:
    """Decodes a varint of at most 32 bits: (value, offset after it). Raises DecodeError."""
    return _get_varint(buffer, offset, 32)


def _get_varint(buffer: bytes | memoryview, offset: int, bits: int) -> tuple[int, int]:
    """Decodes the varint that begins at `offset`: (value, offset after it). bits: 32 or 64, what the value has to fit in.

    Raises DecodeError if the buffer ends before the varint does (an offset outside of it included), and if the value is
    2**bits or more: nothing is read after the 5 bytes that 32 bits take, or the 10 of 64. A varint that is longer than
    it need be is none the worse: 80 00 is 0. O(1).
    """
    value = shift = 0
    end = len(buffer)
    while shift < bits:
        if not 0 <= offset < end:
            raise DecodeError(f"a varint begins or goes on at byte {offset}, but only {end} bytes are there")
        byte = buffer[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> bits:
                break
            return value, offset
        shift += 7
    raise DecodeError(f"the varint that ends at byte {offset} does not fit in {bits} bits")


def put_slice(data: bytes) -> bytes:
    """Encodes `data` after its length."""
    return put_varint(len(data)) + data


def get_slice(buffer: bytes, offset: int) -> tuple[bytes, int]:
    """Decodes a length-prefixed slice: (its bytes, offset after it). Raises DecodeError."""
    size_bytes, start = get_varint32(buffer, offset)
    stop = start + size_bytes
    if stop > len(buffer):
        raise DecodeError(
            f"a slice of {size_bytes} bytes begins at byte {start}, but only {len(buffer)} bytes are there"
        )
    return buffer[start:stop], stop
