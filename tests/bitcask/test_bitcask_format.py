"""FORMAT.md says what the code does: every block of hex on that page is encoded and decoded here."""

from __future__ import annotations

import re
from pathlib import Path
from zlib import crc32

import engines
from engines.bitcask.hint import decode_hint, encode_entry, encode_hint
from engines.bitcask.intent import LINES
from engines.bitcask.record import (
    Mark,
    encode_mark,
    encode_record,
    encode_tombstone,
    parse_mark,
    read_records,
)
from engines.bitcask.scan import scan_entries

PAGE = (Path(engines.__file__).parent / "bitcask" / "FORMAT.md").read_text()


BLOCKS: dict[str, str] = dict(re.findall(r"```(?:hex|text) ([\w-]+)\n(.*?)```", PAGE, re.DOTALL))


def hex_of(name: str) -> bytes:
    return bytes.fromhex(BLOCKS[name])


def records(name: str) -> list[tuple[bytes, bytes]]:
    data = hex_of(name)
    return [(key, value) for _, _, key, value in read_records(data, 0, len(data))]


def test_every_block_is_tested_here() -> None:
    used = {"riak-1-data", "riak-2-data", "riak-3-data", "half-of-an-overwrite", "batch", "riak-1-hint", "intent"}
    assert set(BLOCKS) == used


def test_the_values_and_tombstones_of_the_page() -> None:
    assert records("riak-1-data") == [(b"a", b"1"), (b"b", b"22"), (b"c", b"333")]
    assert b"".join(encode_record(1, key, value) for key, value in records("riak-1-data")) == hex_of("riak-1-data")
    assert hex_of("riak-2-data") == encode_tombstone(1, b"a", 1) + encode_record(1, b"a", b"4")
    assert hex_of("riak-3-data") == encode_tombstone(1, b"b", 1)


def test_the_half_of_an_overwrite_of_the_page() -> None:
    whole = hex_of("half-of-an-overwrite")
    assert whole == encode_tombstone(0, b"a", 2) + encode_record(1, b"a", b"6")
    entries, end = scan_entries(whole, len(whole), 4)
    assert (entries, end) == ([(1, 16, 37, b"a")], len(whole))


def test_the_batch_of_the_page() -> None:
    data = hex_of("batch")
    body = encode_record(1, b"d", b"5") + encode_tombstone(1, b"c", 1)
    mark = Mark(4, 0, 0, 2, len(body), crc32(body))
    assert data == encode_mark(1, mark) + body
    assert parse_mark(*records("batch")[0]) == mark
    assert scan_entries(data, len(data), 4)[1] == len(data)


def test_the_hint_of_the_page() -> None:
    data = hex_of("riak-1-data")
    entries, _ = scan_entries(data, len(data), 1)
    assert encode_hint(encode_entry(*entry) for entry in entries) == hex_of("riak-1-hint")
    assert list(decode_hint(hex_of("riak-1-hint"))) == entries


def test_the_list_of_a_load_of_the_page() -> None:
    content = BLOCKS["intent"].encode()
    match = LINES.fullmatch(content)
    assert match is not None and (match[1], match[2]) == (b" 7 8", b" 1 2 3")
    assert crc32(content[: match.start(3)]) == int(match[4], 16)
