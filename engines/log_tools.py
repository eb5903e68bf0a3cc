"""Tools for logs: reading a damaged one as LevelDB does, and showing one byte by byte.

`LenientReader` returns what can be read and lists what it dropped. It is for repair, by somebody who has decided that a
part is better than nothing; recovery uses the strict `LogReader`. Unless told to keep more, it follows LevelDB's reader
in all cases:

    what it meets                                        what it drops
    a header cut by the end of the file                  the header; a writer that died, not reported
    a fragment longer than the rest of the file          the fragment; likewise
    a record whose last fragment never came              its fragments; likewise
    type 0 and length 0 (preallocated space)             the rest of the block; not reported
    a fragment longer than the rest of a whole block     the rest of the block: its length may be what is damaged
    a wrong checksum                                     the rest of the block, for the same reason
    an unknown type                                      the fragment
    a MIDDLE or LAST without a FIRST                     the fragment
    a FULL or FIRST while a record is unfinished         the unfinished record's fragments
    any of the above while a record is unfinished        the unfinished record's fragments as well

With `keeps_more`, a wrong checksum drops its fragment only, if a whole fragment begins right after it: then the length
was right. LevelDB drops up to 32 KiB of records that are whole.

Left out: LevelDB's `initial_offset`. Follows its db/log_reader.cc; `dump_log` resembles its db/dumpfile.cc, which knows
nothing of fragments.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engines.env import File, View
from engines.log import (
    BLOCK_BYTES,
    FIRST,
    FULL,
    HEADER_BYTES,
    LAST,
    MIDDLE,
    TYPE_NAMES,
    ZERO,
    all_zero,
    fragment_checksum,
)

__all__ = ["Drop", "LenientReader", "dump_log"]

_HEADER = struct.Struct("<IHB")
_BAD = -1  # in place of a type: what was here is dropped
_END = -2  # in place of a type: the file ends here, maybe in the middle of a fragment


@dataclass(frozen=True, slots=True)
class Drop:
    """`size_bytes` of a log that were skipped because of damage at `offset`."""

    offset: int
    size_bytes: int
    why: str


class LenientReader:
    """Iterates over the records that can be read: (offset, payload). `drops` lists what was lost so far.

    source: an open file, which may be closed after this call, or the bytes of one. keeps_more: see the module.
    Never raises for bytes. O(size).
    """

    def __init__(self, source: File | bytes, *, keeps_more: bool = False) -> None:
        self.drops: list[Drop] = []
        self._keeps_more = keeps_more
        self._view: View = source if isinstance(source, bytes) else source.view()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        pending: list[bytes] = []
        start = -1  # where the unfinished record began; -1: none
        for offset, kind, data in self._fragments():
            if kind in (FULL, FIRST):
                self._abandon(start, pending, "its end is missing")
                start, pending = (offset, [data]) if kind == FIRST else (-1, [])
                if kind == FULL:
                    yield offset, data
            elif kind in (MIDDLE, LAST):
                if start < 0:
                    self._drop(offset, len(data), "the start of this record is missing")
                    continue
                pending.append(data)
                if kind == LAST:
                    yield start, b"".join(pending)
                    start, pending = -1, []
            elif kind != _END:
                self._abandon(start, pending, "there is damage in the middle of it")
                start, pending = -1, []

    def _fragments(self) -> Iterator[tuple[int, int, bytes]]:
        """(offset, type, data) of each fragment; the type is _BAD where something is dropped, _END at the end."""
        for base in range(0, len(self._view), BLOCK_BYTES):
            block = self._view[base : base + BLOCK_BYTES]
            is_last = len(block) < BLOCK_BYTES
            at = 0
            while len(block) - at >= HEADER_BYTES:
                checksum, length, kind = _HEADER.unpack_from(block, at)
                data = block[at + HEADER_BYTES : at + HEADER_BYTES + length]
                whole = len(data) == length
                if not whole and is_last:
                    yield base + at, _END, b""
                    return
                if kind == ZERO and length == 0:
                    yield base + at, _BAD, b""
                    break
                if not whole or checksum != fragment_checksum(kind, data):
                    why = "the checksum does not match" if whole else "a length reaches past the end of the block"
                    after = at + HEADER_BYTES + length
                    goes_on = whole and self._keeps_more and _begins_fragment(block, after)
                    self._drop(base + at, (after if goes_on else len(block)) - at, why)
                    yield base + at, _BAD, b""
                    if goes_on:
                        at = after
                        continue
                    break
                if not FULL <= kind <= LAST:
                    self._drop(base + at, length, f"type {kind} is unknown")
                    kind = _BAD
                yield base + at, kind, data
                at += HEADER_BYTES + length

    def _abandon(self, start: int, pending: list[bytes], why: str) -> None:
        if any(pending):
            self._drop(start, sum(map(len, pending)), f"a record was begun, but {why}")

    def _drop(self, offset: int, size_bytes: int, why: str) -> None:
        self.drops.append(Drop(offset, size_bytes, why))


def _begins_fragment(block: bytes, at: int) -> bool:
    """True if a fragment with a right checksum begins in the block at `at`."""
    if len(block) - at < HEADER_BYTES:
        return False
    checksum, length, kind = _HEADER.unpack_from(block, at)
    data = block[at + HEADER_BYTES : at + HEADER_BYTES + length]
    return FULL <= kind <= LAST and len(data) == length and bool(checksum == fragment_checksum(kind, data))


def dump_log(
    source: File | bytes, describe: Callable[[bytes], str] | None = None, data_bytes_max: int = 64
) -> Iterator[str]:
    """A log as lines of text, one for each header, with up to `data_bytes_max` bytes of data below it.

        00000000  ac 6d 8c 3d  05 00  01  FULL, 5 bytes
                  68 65 6c 6c 6f                                   hello

    describe: what a payload means, in a line; asked for records of one fragment. Never raises for bytes (if `describe`
    doesn't); damage is shown, and reading goes on at the next block. O(size), nothing is kept.
    """
    view: View = source if isinstance(source, bytes) else source.view()
    for base in range(0, len(view), BLOCK_BYTES):
        block = view[base : base + BLOCK_BYTES]
        at = 0
        while len(block) - at >= HEADER_BYTES:
            if all_zero(view, base + at):
                yield f"{base + at:08x}  zeros up to the end, {len(view) - base - at} bytes"
                return
            if len(block) == BLOCK_BYTES and all_zero(block, at):
                yield f"{base + at:08x}  zeros up to the end of the block, {len(block) - at} bytes"
                at = len(block)
                break
            checksum, length, kind = _HEADER.unpack_from(block, at)
            data = block[at + HEADER_BYTES : at + HEADER_BYTES + length]
            damage = _damage(checksum, length, kind, data)
            yield f"{base + at:08x}  {_header_hex(block[at:])}  {_type_name(kind)}, {length} bytes{damage}"
            yield from _data_lines(data[:data_bytes_max])
            if len(data) > data_bytes_max:
                yield f"          … {len(data) - data_bytes_max} more"
            if damage:
                yield f"          the next {len(block) - at - HEADER_BYTES} bytes of the block are skipped"
                at = len(block)
                break
            if describe is not None and kind == FULL:
                yield f"          = {describe(data)}"
            at += HEADER_BYTES + length
        if at < len(block):
            what = "end of the block, unused" if len(block) == BLOCK_BYTES else "end of the file, no whole header"
            yield f"{base + at:08x}  {block[at:].hex(' ')}  {what}"


def _header_hex(block: bytes) -> str:
    return f"{block[:4].hex(' ')}  {block[4:6].hex(' ')}  {block[6:7].hex()}"


def _type_name(kind: int) -> str:
    return TYPE_NAMES[kind] if kind < len(TYPE_NAMES) else f"unknown type {kind}"


def _damage(checksum: int, length: int, kind: int, data: bytes) -> str:
    if len(data) < length:
        return f", but only {len(data)} are left: DAMAGED OR TORN"
    actual = fragment_checksum(kind, data)
    return "" if checksum == actual else f": WRONG CHECKSUM, type and data have {actual:#010x}"


def _data_lines(data: bytes) -> Iterator[str]:
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"          {row.hex(' '):47}  {text}"
