"""LevelDB's log format: a file of checksummed records that survives a torn tail and finds a flipped bit.

The file is cut into blocks of 32,768 bytes, so that a reader who meets damage knows where to go on. A record that
does not fit in what is left of a block is cut into fragments; a fragment never crosses a block's border.

    block 0                                    block 1                     block 2
    ┌──────────┬─────────┬────────────────────┐┌──────────────────────────┐┌─────────────┬──────┬ ─ ─ ─
    │ FULL "a" │ FULL "b"│ FIRST of "c"       ││ MIDDLE of "c"            ││ LAST of "c" │ FULL │
    └──────────┴─────────┴────────────────────┘└──────────────────────────┘└─────────────┴──────┴ ─ ─ ─

    OFFSET SIZE FIELD       of one fragment
    0      4    checksum    crc32c of type and data, masked: rotated right by 15 bits, plus 0xa282ead8
    4      2    length      of the data, little-endian as everything here
    6      1    type        1 FULL, 2 FIRST, 3 MIDDLE, 4 LAST; 0 is what preallocated space reads as
    7      …    data

The checksum is masked because a log may hold bytes that hold checksums, and the crc of a string that contains its own
crc is a constant.

Invariants of the writer
 1. Fewer than 7 bytes left in a block: they are zeros, and the next fragment begins the next block.
 2. Exactly 7 bytes left: a FIRST without data (or an empty record's FULL) fills them.
 3. Every record has at least one fragment: the empty record is a FULL of length 0.
 4. A record is handed to the file in one write. Where one write ends and the next begins leaves no trace.

How the reader tells a torn tail from bit rot
    A crash loses what was written after the last completed sync: any part of it, in any order, with zeros or garbage
    in its place; a later record may survive an earlier one. Bit rot damages what was synced long ago. Both look like a
    record that fails its checksum. So what counts is whether the damaged record had been synced, and only a record
    after it can testify to that: the writer of the later record knew up to where the file was on disk at the time.
 5. Reading stops at the first fragment that is not valid. If all bytes from there on are zero, it is the clean end of
    a preallocated file. Otherwise the rest of the file is searched, at every byte, for whole valid records (the length
    at the damaged spot cannot be believed, so nobody knows where the next one begins). Each is shown to the caller's
    `Testimony`: "up to which offset was the file on disk before this record was written?" If one answers with more
    than the damaged offset, the damage is CorruptionError; if none does, it is a torn tail, and the log ends there.
 6. The usual answer is the record's own offset (`synced_each`): every record was synced before the next was written,
    so any whole record after the damage convicts it. A log with several writes between two syncs has to know more:
    server/wal.py stores in each record how far the file was synced. None is for logs without any promise: every damage
    is a torn tail, and nothing is searched.
 7. A valid fragment out of order (a MIDDLE without a FIRST, a FULL while a record is unfinished) is not valid either: a
    crash may have left it there from an older file.
    What no reader can tell: rot in the very last records, those that no later one testifies to. It looks exactly like a
    torn tail. A caller who must know writes one more record when it closes the log.
 8. A *hole*, zeros from where a record should begin to the end of its block, and any blocks of zeros after that, is by
    itself damage as in rule 5. It is none when a program has gone on with the log of a killed one, after the space that
    was allocated and not written (LevelDB's `reuse_logs`; Chromium does that). Whether a record is lost in it, only the
    caller can say, who knows what comes next: so a hole is read past if `goes_on` says that the first record after it
    goes on where the last one before it ended. Without `goes_on` no hole is read past. That is right for every log that
    nobody else writes to and whose writer never leaves a hole: Raft's log, a snapshot, a manifest. Only the LSM tree's
    log is read by the lenient rule (engines/lsm/wal.py), because its sequences count every operation.

Left out: LevelDB's `initial_offset` (reading from the middle), which LevelDB itself never uses.

Follows LevelDB's db/log_format.h, db/log_writer.cc and db/log_reader.cc; the files are the same byte for byte. LevelDB's
reader differs in rule 5: it skips the rest of the damaged block, goes on, and loses what was there, silently unless
`paranoid_checks` is set. In rule 8 it reads past every hole, and never asks what was in it. `LenientReader` (engines/log_tools.py) does the same, for repair; the dump is there as well.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from crc32c import crc32c

from engines.env import File, View
from engines.errors import CorruptionError

__all__ = [
    "BLOCK_BYTES",
    "HEADER_BYTES",
    "LogReader",
    "LogWriter",
    "Testimony",
    "TornTail",
    "decode_fragment",
    "encode_record",
    "encode_records",
    "mask",
    "record_offset",
    "synced_each",
    "unmask",
]

BLOCK_BYTES: Final = 32_768
HEADER_BYTES: Final = 7
ZERO, FULL, FIRST, MIDDLE, LAST = range(5)
TYPE_NAMES: Final = ("ZERO", "FULL", "FIRST", "MIDDLE", "LAST")

_HEADER = struct.Struct("<IHB")
_MASK_DELTA: Final = 0xA282EAD8
# The crc of the type byte alone, with which the crc of the data goes on: LevelDB keeps the same table.
_TYPE_CRC: Final = tuple(crc32c(bytes((kind,))) for kind in range(256))
_POSSIBLE_TYPE = re.compile(rb"[\x01-\x04]")

Testimony = Callable[[int, bytes], int]  # (offset, payload) of a later record → the file was on disk up to there
GoesOn = Callable[[bytes], bool]  # payload of the record after a hole → nothing is missing between it and what was read


def mask(crc: int) -> int:
    """A crc32c as it is stored. O(1)."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def unmask(masked: int) -> int:
    """The crc32c that `mask` made `masked` of. O(1)."""
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def fragment_checksum(kind: int, data: bytes | memoryview) -> int:
    """The masked checksum of a fragment of this type and data. O(len(data))."""
    return mask(crc32c(data, _TYPE_CRC[kind]))


# ---- writing --------------------------------------------------------------------------------------------------------


def record_offset(offset: int) -> int:
    """Where the record that is written at `offset` really begins: after the zeros that may end the block. O(1)."""
    left = BLOCK_BYTES - offset % BLOCK_BYTES
    return offset if left >= HEADER_BYTES else offset + left


def encode_record(block_offset: int, payload: bytes) -> bytes:
    """The bytes of one record, with the zeros before it if the block has no room for a header.

    block_offset: where in its block the writer stands, 0 to 32,767. One FULL fragment if it fits in what is left of the
    block, header and all, otherwise as many as it takes (invariants 1 to 3). A header is `_HEADER`: the
    `fragment_checksum`, the length of the data, the type. Pure: what becomes of the bytes (an append, a pwrite into
    preallocated space, a mapping) is the caller's. O(len(payload)).
    """
    size = len(payload)
    if size + HEADER_BYTES <= BLOCK_BYTES - block_offset:
        crc = crc32c(payload, _TYPE_CRC[FULL])
        return _HEADER.pack(((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF, size, FULL) + payload
    return _encode_fragments(block_offset, payload)


def _encode_fragments(block_offset: int, payload: bytes) -> bytes:
    """`encode_record` for a record that doesn't fit in its block: zeros where there is no room for a header, then FIRST,
    MIDDLEs, LAST, or one FULL in the next block. Each fragment but the last one ends where its block does. O(bytes)."""
    left = BLOCK_BYTES - block_offset
    parts: list[bytes | memoryview] = []
    if left < HEADER_BYTES:
        parts.append(bytes(left))
        left = BLOCK_BYTES
    rest = memoryview(payload)
    first = True
    while True:
        data = rest[: left - HEADER_BYTES]
        rest = rest[len(data) :]
        kind = (FIRST if rest else FULL) if first else (MIDDLE if rest else LAST)
        parts.append(_HEADER.pack(fragment_checksum(kind, data), len(data), kind))
        parts.append(data)
        if not rest:
            return b"".join(parts)
        first = False
        left = BLOCK_BYTES


def encode_records(block_offset: int, payloads: Sequence[bytes]) -> bytes:
    """The bytes of several records, one after the other, for one write. Otherwise as `encode_record`."""
    parts = []
    for payload in payloads:
        encoded = encode_record(block_offset, payload)
        parts.append(encoded)
        block_offset = (block_offset + len(encoded)) % BLOCK_BYTES
    return b"".join(parts)


class LogWriter:
    """Appends records to a file.

    offset: where the file's log ends; the writer needs it to know its place in the block. To go on with an existing
    log, read it to its end, cut the file to `LogReader.end`, and pass that. Syncing is the caller's. Not for several
    threads at once. After an OSError the file may hold a part of the record: write no more.
    """

    __slots__ = ("_append", "offset")

    def __init__(self, file: File, offset: int = 0) -> None:
        self._append = file.append
        self.offset = offset

    def append(self, payload: bytes) -> None:
        """Writes one record with one call of `file.append`. Raises OSError. O(len(payload))."""
        encoded = encode_record(self.offset % BLOCK_BYTES, payload)
        self._append(encoded)
        self.offset += len(encoded)

    def append_many(self, payloads: Sequence[bytes]) -> None:
        """Writes several records with one call of `file.append`. Raises OSError. O(bytes)."""
        encoded = encode_records(self.offset % BLOCK_BYTES, payloads)
        self._append(encoded)
        self.offset += len(encoded)


# ---- reading --------------------------------------------------------------------------------------------------------


def synced_each(offset: int, payload: bytes) -> int:
    """The testimony for a log that was synced after every record (or group of records written in one call of one
    record): everything before a record was on disk when it was written."""
    return offset


def decode_fragment(block: bytes, at: int) -> tuple[int, bytes] | None:
    """(type, data) of the fragment whose header begins at byte `at` of a block; None if no valid one does.

    Valid: its data ends within the block, its type is 1 to 4, its checksum is `fragment_checksum` of both. The length
    is not to be believed before the checksum was right. Requires: the header's 7 bytes are in the block. O(length).
    """
    checksum, length, kind = _HEADER.unpack_from(block, at)
    begin = at + HEADER_BYTES
    data = block[begin : begin + length]
    if len(data) < length or not FULL <= kind <= LAST or checksum != fragment_checksum(kind, data):
        return None
    return kind, data


@dataclass(frozen=True, slots=True)
class TornTail:
    """What a crash left after the last whole record: `size_bytes` from `offset` to the end of the file."""

    offset: int
    size_bytes: int
    why: str

    def __str__(self) -> str:
        return f"torn tail of {self.size_bytes} bytes at byte {self.offset}: {self.why}"


class LogReader:
    """Iterates over the records of a log: (offset of the record, payload). Strict: rules 5 to 8 of the module.

    source: an open file, or the bytes of one; it may be closed after this call, and has `size` bytes. path: for
    messages only. testimony: see rule 5; goes_on: see rule 8; advice: what is to be done about damage. While iterating, `end` is the offset after the last record
    returned; at the end it is where a writer goes on, and `torn` says what lies after it, if a crash has left something.
    `holes` are those that were read past so far: (offset, size in bytes).
    Raises CorruptionError. Memory: one block and one record. O(size); the search of rule 5, only made in a damaged
    file, ends at the first witness, and takes some seconds for a MiB of the worst bytes without one.
    """

    def __init__(
        self,
        source: File | bytes,
        path: str,
        testimony: Testimony | None = synced_each,
        goes_on: GoesOn | None = None,
        advice: str = "restore the file from a copy",
    ) -> None:
        self.path = path
        self.end = self.end_before = 0  # after the last record returned, and after the one before that
        self.torn: TornTail | None = None
        self.holes: list[tuple[int, int]] = []
        self._view: View = source if isinstance(source, bytes) else source.view()
        self.size = len(self._view)
        self._testimony = testimony
        self._goes_on = goes_on
        self._advice = advice

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """The records, in the order of the file: (offset of its first fragment, payload).

        `_fragments` gives the fragments, and has checked each by itself. A record is one FULL, or a FIRST, any number of
        MIDDLEs and a LAST; what is unfinished when the fragments end is no record. Before each record is given, `end` is
        set to the offset after its last fragment, and `end_before` to what `end` was. At the first fragment that has no
        place here (rule 7), `out_of_order` is called and nothing more is given. Raises as the class says. O(size).
        """
        pending: list[bytes] = []  # data of the fragments since a FIRST, which began at `start`
        start = 0
        for offset, kind, data, end in self._fragments():
            if (kind > FIRST) != bool(pending):
                self.out_of_order(start if pending else offset, kind, offset)
                return
            if not pending:
                start = offset
            pending.append(data)
            if kind in (FULL, LAST):
                payload = b"".join(pending)
                pending.clear()
                self.end_before, self.end = self.end, end
                yield start, payload

    def _fragments(self) -> Iterator[tuple[int, int, bytes, int]]:
        """The valid fragments up to the first damage: (offset, type, data, offset after it). Decides what the damage is.

        Damage within a record begins where the record does: `start`, which is None between two records.
        """
        start: int | None = None
        base = 0
        while base < self.size:
            block = self._view[base : base + BLOCK_BYTES]
            at, room, beyond = 0, len(block), base + BLOCK_BYTES
            while room - at >= HEADER_BYTES:
                fragment = decode_fragment(block, at)
                if fragment is None:
                    if start is None and (resume := self._behind_hole(base + at)):
                        at, beyond = room, resume
                        break
                    self._stop(base + at if start is None else start, self._complaint(block, at))
                    return
                kind, data = fragment
                end = at + HEADER_BYTES + len(data)
                if kind == FIRST:
                    start = base + at
                elif kind != MIDDLE:
                    start = None
                yield base + at, kind, data, base + end
                at = end
            if room < BLOCK_BYTES and room > at:
                self._stop(base + at if start is None else start, f"{room - at} bytes are no whole header")
                return
            base = beyond
        if start is not None:
            self._stop(start, "the record's last fragment is missing")

    def _behind_hole(self, offset: int) -> int:
        """The block at which the log goes on after the hole at `offset`; 0 if there is none to be read past (rule 8)."""
        if self._goes_on is None:
            return 0
        base = offset - offset % BLOCK_BYTES + BLOCK_BYTES
        if not all_zero(self._view[offset:base], 0):
            return 0
        while base < self.size and all_zero(self._view[base : base + BLOCK_BYTES], 0):
            base += BLOCK_BYTES
        found = next(find_records(self._view, base), None)
        if found is None or found[0] != base or not self._goes_on(found[1]):
            return 0
        self.holes.append((offset, base - offset))
        return base

    def reject(self, offset: int, why: str) -> None:
        """Ends the log before the record that was just returned, from `offset`: its checksum is right, but the caller
        sees that it doesn't belong there. Rule 5 decides what that means; CorruptionError, or `torn` is set.

        Requires: the iteration is not gone on with.
        """
        self.end = self.end_before
        self._stop(offset, why)

    @staticmethod
    def _complaint(block: bytes, at: int) -> str:
        """What is wrong with the fragment at `at`: expected and found."""
        checksum, length, kind = _HEADER.unpack_from(block, at)
        left = len(block) - at - HEADER_BYTES
        if length > left:
            return f"a fragment of {length} bytes was expected, but the block has only {left} more"
        actual = fragment_checksum(kind, block[at + HEADER_BYTES : at + HEADER_BYTES + length])
        if checksum != actual:
            return f"the checksum {checksum:#010x} was expected, but type and data have {actual:#010x}"
        return f"a fragment's type is 1 to 4, but this one's is {kind}"

    def out_of_order(self, offset: int, kind: int, found_at: int) -> None:
        """Ends the log at `offset`, where a record was begun or could have: the fragment of this type, at `found_at`, has
        no place there. CorruptionError, or `torn` is set (rule 5)."""
        expected = "FULL or FIRST" if offset == found_at else f"the rest of the record begun at byte {offset}"
        self._stop(offset, f"{expected} was expected, but at byte {found_at} is a {TYPE_NAMES[kind]}")

    def _stop(self, offset: int, why: str) -> None:
        """The end of the log at `offset`: clean, torn, or CorruptionError."""
        if all_zero(self._view, offset):
            return
        if self._testimony is not None:
            for later, payload in find_records(self._view, offset):
                if self._testimony(later, payload) > offset:
                    raise CorruptionError(
                        self.path,
                        offset,
                        f"{why}; it is no torn tail, because the record at byte {later} was written when this one was "
                        f"on disk: {self._advice}",
                    )
        self.torn = TornTail(offset, self.size - offset, why)


def all_zero(view: View, offset: int) -> bool:
    """True if every byte from `offset` on is zero. O(bytes left), at the speed of memcmp."""
    zeros = bytes(BLOCK_BYTES)
    for start in range(offset, len(view), BLOCK_BYTES):
        piece = view[start : start + BLOCK_BYTES]
        if piece != zeros[: len(piece)]:
            return False
    return True


def find_records(view: View, offset: int) -> Iterator[tuple[int, bytes]]:
    """Every whole valid record that begins at or after `offset`, at whatever byte: (offset, payload).

    Damage hides where the next record begins, so every byte that could be a type is tried; a wrong guess passes its
    checksum once in 2**32. The bytes of a record that is skipped may contain what looks like records, because somebody
    stored a log as a value: a caller who can, checks that the payload belongs where it was found.
    """
    pending: list[bytes] = []
    start = expected = 0
    for base in range(offset - offset % BLOCK_BYTES, len(view), BLOCK_BYTES):
        block = memoryview(view[base : base + BLOCK_BYTES])
        at = max(offset - base, 0)
        while match := _POSSIBLE_TYPE.search(block, at + HEADER_BYTES - 1):
            at = match.start() - HEADER_BYTES + 1
            checksum, length, kind = _HEADER.unpack_from(block, at)
            data = block[at + HEADER_BYTES : at + HEADER_BYTES + length]
            if len(data) < length or checksum != fragment_checksum(kind, data):
                at += 1
                continue
            if kind in (FULL, FIRST):
                pending.clear()
                start = base + at
            elif not pending or base + at != expected:
                pending.clear()
                at += HEADER_BYTES + length
                continue
            pending.append(bytes(data))
            at += HEADER_BYTES + length
            expected = base + BLOCK_BYTES
            if kind in (FULL, LAST):
                yield start, b"".join(pending)
                pending.clear()
