"""Files as text: every record of a data file and every entry of a hint, with their bytes and what they mean.

    1.bitcask.data, 102 bytes
    00000000  e6 23 e9 73  00 00 00 01  00 01  00 00 00 01  a value: key 1, value 1, 1970-01-01 00:00:01
              61                                               a
              31                                               1

The four groups are the header's fields: checksum, timestamp, key size, value size; below them are the first bytes of
the key and of the value. It is for looking at what is there, whatever that is: damage is shown in its place, and what
comes after it as far as the lengths lead; nothing is opened, repaired or locked. Resembles what `xxd` shows, which is
how the real files were first understood.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

from engines.bitcask.hint import ENTRY, ENTRY_BYTES, MAX_OFFSETS, OFFSET_MASK, TOMBSTONE_BIT
from engines.bitcask.intent import INTENT
from engines.bitcask.locks import OWN_LOCK, RIAK_LOCKS
from engines.bitcask.record import (
    HALF_TIMESTAMP,
    HEADER,
    HEADER_BYTES,
    half_of_overwrite,
    is_tombstone,
    parse_mark,
    tombstone_file,
)
from engines.bitcask.segment import PreadView, data_file_id
from engines.env import Env, View

__all__ = ["dump", "dump_data", "dump_hint"]

SHOWN_BYTES = 64  # of a key, and of a value
LINE_BYTES = 16
TEXT_FILES = (INTENT, OWN_LOCK, *RIAK_LOCKS)
DAY_S = 86_400


def dump(path: str, env: Env) -> Iterator[str]:
    """A file of a store, or all files of a directory in the order of their ids. Raises OSError; never for bytes.

    Nothing for a file that isn't Bitcask's by its name. O(bytes), one record at a time.
    """
    if env.is_dir(path):
        names = [name for name in env.list(path) if _is_ours(name) and not env.is_dir(f"{path}/{name}")]
        for name in sorted(names, key=lambda name: (data_file_id(name) or (0, ""), name)):
            yield from dump(f"{path}/{name}", env)
            yield ""
        return
    name = path.rpartition("/")[2]
    if not _is_ours(name):
        return
    view = PreadView(env.open(path, "r"))  # and no mapping: the store may be open, and its owner cut the file
    yield f"{name}, {len(view):,} bytes"
    kind = data_file_id(name)
    if kind is None:
        yield from (f"  {line}" for line in view[:].decode(errors="backslashreplace").splitlines())
    elif kind[1].startswith("data"):
        yield from dump_data(view, kind[0])
    else:
        yield from dump_hint(view)


def _is_ours(name: str) -> bool:
    return name in TEXT_FILES or data_file_id(name) is not None


def dump_data(view: View, file_id: int) -> Iterator[str]:
    """The records of the data file `file_id`, to the end of the bytes or of what the lengths lead to."""
    offset, size = 0, len(view)
    while offset < size:
        header = view[offset : offset + HEADER_BYTES]
        if len(header) < HEADER_BYTES:
            yield f"{offset:08x}  {header.hex(' ')}  no whole header, and the file ends"
            return
        crc, timestamp, key_size, value_size = HEADER.unpack(header)
        end = offset + HEADER_BYTES + key_size + value_size
        groups = "  ".join(header[a:b].hex(" ") for a, b in ((0, 4), (4, 8), (8, 10), (10, 14)))
        if not any(header):
            yield f"{offset:08x}  {groups}  zeros: allocated and not written, {size - offset:,} bytes to the end"
            return
        if end > size:
            yield f"{offset:08x}  {groups}  DAMAGED: {end - offset:,} bytes, and {size - offset:,} are left"
            return
        record = view[offset:end]
        key, value = record[HEADER_BYTES : HEADER_BYTES + key_size], record[HEADER_BYTES + key_size :]
        meaning = _meaning(timestamp, key, value, offset, file_id)
        if (found := crc32(record[4:])) != crc:
            meaning = f"DAMAGED: the checksum of these bytes is {found:08x}; or else {meaning}"
        yield f"{offset:08x}  {groups}  {meaning}"
        yield from _hex_lines(key)
        yield from _hex_lines(value)
        offset = end


def _meaning(timestamp: int, key: bytes, value: bytes, offset: int, file_id: int) -> str:
    """What a record is, in half a line."""
    when = f"key {len(key)}, value {len(value)}, {_utc(timestamp)}"
    if is_tombstone(value):
        victim = tombstone_file(value)
        if half_of_overwrite(timestamp, value, file_id):
            return f"a tombstone, half of an overwrite: the old value is in file {victim}"
        return f"a tombstone of {'an older Riak' if victim is None else f'a value in file {victim}'}: {when}"
    mark = parse_mark(key, value)
    if mark is None:
        return f"a value: {when}"
    moved = "" if (mark.file_id, mark.offset) == (file_id, offset) else "moved here, and void: "
    batch = f"the next {mark.records} records ({mark.size_bytes:,} bytes) are one batch" if mark.records else "no batch"
    return f"a mark, {moved}{batch}; synced before byte {mark.synced:,}"


def _utc(timestamp: int) -> str:
    """Seconds since 1970 as a date, by the civil calendar's rule of 146,097 days in 400 years."""
    if timestamp == HALF_TIMESTAMP:
        return "no time"
    days, seconds = divmod(timestamp, DAY_S)
    era, day = divmod(days + 719_468, 146_097)  # days since 0000-03-01, so that a leap day is a year's last
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153  # 0 is March
    date = f"{era * 400 + year + (month >= 10)}-{(month + 2) % 12 + 1:02}-{day - (153 * month + 2) // 5 + 1:02}"
    return f"{date} {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def dump_hint(view: View) -> Iterator[str]:
    """The entries of a hint file and its trailer."""
    data = view[:]
    at = 0
    while at < len(data):
        head = data[at : at + ENTRY_BYTES]
        if len(head) < ENTRY_BYTES:
            yield f"{at:08x}  {head.hex(' ')}  no whole entry, and the file ends: it was not closed"
            return
        timestamp, key_size, size, offset = ENTRY.unpack(head)
        groups = "  ".join(head[a:b].hex(" ") for a, b in ((0, 4), (4, 6), (6, 10), (10, 18)))
        if (timestamp, key_size) == (0, 0) and offset in MAX_OFFSETS:
            right = "right" if crc32(data[:at]) == size else "WRONG: the data file is read in place of this one"
            yield f"{at:08x}  {groups}  the trailer: its checksum is {right}"
        else:
            what = "tombstone" if offset & TOMBSTONE_BIT else "value"
            yield f"{at:08x}  {groups}  a {what}: {size:,} bytes at {offset & OFFSET_MASK:08x}, {_utc(timestamp)}"
        yield from _hex_lines(data[at + ENTRY_BYTES : at + ENTRY_BYTES + key_size])
        at += ENTRY_BYTES + key_size


def _hex_lines(data: bytes) -> Iterator[str]:
    """Up to SHOWN_BYTES as hex and as text."""
    for at in range(0, min(len(data), SHOWN_BYTES), LINE_BYTES):
        line = data[at : min(at + LINE_BYTES, SHOWN_BYTES)]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        yield f"          {line.hex(' '):{3 * LINE_BYTES - 1}}  {text}"
    if len(data) > SHOWN_BYTES:
        yield f"          … {len(data) - SHOWN_BYTES:,} more"
