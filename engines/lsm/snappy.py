"""Snappy, the compression of the blocks that LevelDB writes: a decoder of our own, so that reading needs nothing.

    compressed   size of the output: varint │ element*
    element      a tag byte, whose low two bits say which kind it is:
      00 literal   len - 1 in the tag's high 6 bits; 60 to 63 there: in the next 1 to 4 bytes; then the bytes
      01 copy      len - 4 in bits 2-4, offset in bits 5-7 (high) and the next byte
      10 copy      len - 1 in the high 6 bits, offset in the next 2 bytes
      11 copy      len - 1 in the high 6 bits, offset in the next 4 bytes

A copy repeats what was written `offset` bytes ago; it may overlap its own output ("a", then copy 7 bytes from 1 back,
is eight times "a"). When cramjam is installed, it does the work, thirty times faster; it also compresses.

Raw snappy, not the framed format. Follows google/snappy's format_description.txt.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from engines.coding import DecodeError, get_varint32

__all__ = ["can_compress", "compress", "decompress", "decompress_here"]

MAX_RATIO: Final = 64  # three bytes can say at most 64: so a size beyond that is a lie, and nothing is allocated for it


def _cramjam() -> Any:
    try:
        return importlib.import_module("cramjam").snappy
    except ImportError:
        return None


_FAST: Final = _cramjam()


def can_compress() -> bool:
    """True if there is a compressor: cramjam is installed."""
    return _FAST is not None


def compress(data: bytes) -> bytes:
    """Compressed bytes. Requires: `can_compress()`."""
    return bytes(_FAST.compress_raw(data))


def decompress(data: bytes) -> bytes:
    """The bytes that were compressed. Raises DecodeError."""
    if _FAST is None:
        return decompress_here(data)
    size, _ = get_varint32(data, 0)
    _check_size(size, len(data))
    try:
        return bytes(_FAST.decompress_raw(data))
    except Exception as error:  # cramjam has an exception of its own, whose base is Exception
        raise DecodeError(f"not snappy: {error}") from error


def decompress_here(data: bytes) -> bytes:
    """`decompress` in Python. O(elements)."""
    size, at = get_varint32(data, 0)
    _check_size(size, len(data))
    output = bytearray()
    end = len(data)
    while at < end:
        kind, high = data[at] & 3, data[at] >> 2
        at += 1
        if kind == 0:
            if high >= 60:
                extra = high - 59
                high = int.from_bytes(data[at : at + extra], "little")
                at += extra
            if at + high + 1 > end:
                raise DecodeError(f"a literal of {high + 1} bytes at byte {at} ends after the {end} that are there")
            output += data[at : at + high + 1]
            at += high + 1
            continue
        if kind == 1:
            length, width = (high & 7) + 4, 1
            offset = (high >> 3) << 8
        else:
            length, width, offset = high + 1, 2 if kind == 2 else 4, 0
        if at + width > end:
            raise DecodeError(f"a copy at byte {at} ends after the {end} bytes that are there")
        offset += int.from_bytes(data[at : at + width], "little")
        at += width
        _copy(output, offset, length)
        if len(output) > size:
            break
    if len(output) != size:
        raise DecodeError(f"{size} bytes were announced, and {len(output)} came out")
    return bytes(output)


def _copy(output: bytearray, offset: int, length: int) -> None:
    """Appends `length` bytes from `offset` bytes back, which may overlap what is being appended."""
    if not 0 < offset <= len(output):
        raise DecodeError(f"a copy goes {offset} bytes back, but only {len(output)} are there")
    source = output[-offset:] if length >= offset else output[-offset : len(output) - offset + length]
    if len(source) < length:
        source = (source * (length // offset + 1))[:length]
    output += source


def _check_size(size: int, compressed: int) -> None:
    if size > MAX_RATIO * (compressed + 1):
        raise DecodeError(f"{compressed} bytes can't be {size} compressed ones")
