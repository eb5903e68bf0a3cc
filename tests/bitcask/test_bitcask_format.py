"""FORMAT.md says what the code does: every block of hex on that page is encoded and decoded here."""

from __future__ import annotations

import re
from pathlib import Path
from zlib import crc32

import engines
from engines.bitcask.hint import decode_hint, encode_entry, encode_hint
from engines.bitcask.intent import LINES
from engines.bitcask.record import Mark, encode_mark, encode_record, encode_tombstone, parse_mark, read_records
from engines.bitcask.scan import scan_entries
from engines.bitcask.store import BitcaskStore
from engines.env import real_env
from server.cli import main

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


def test_dump_shows_every_record_and_what_is_damaged(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    """`metcd dump` of a directory, of a file, of a damaged one, of a torn one, of a file of nobody's."""
    with BitcaskStore(str(tmp_path), max_file_size=300, merge="manual") as store:
        store.put(b"key", b"old")
        for number in range(8):
            store.put(b"%d" % number, b"." * 30)
        store.put(b"key", b"new")
        with store.batch() as batch:
            batch.delete(b"key")
            batch.put(b"batched", b"x" * 100)
    assert main(["dump", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "1.bitcask.data, ",
        "a value: key 3, value 3, 20",
        "half of an overwrite: the old value is in file 1",
        "the next 2 records (",
        "a tombstone of a value in file 2: key 3, value 22",
        "… 36 more",
        "the trailer: its checksum is right",
    ):
        assert words in shown
    for name, at in (("1.bitcask.data", 20), ("1.bitcask.hint", 3)):
        data = bytearray((tmp_path / name).read_bytes())
        data[at] ^= 1
        (tmp_path / name).write_bytes(bytes(data[:-1]))
    assert main(["dump", str(tmp_path / "1.bitcask.data")]) == 0
    shown = capsys.readouterr().out
    assert "DAMAGED: the checksum of these bytes is" in shown
    assert "45 bytes, and 44 are left" in shown, "of the 14 + 1 + 30 of the last record"
    assert main(["dump", str(tmp_path / "1.bitcask.hint")]) == 0
    assert "no whole entry" in capsys.readouterr().out
    (tmp_path / "foreign").write_bytes(b"x")
    assert main(["dump", str(tmp_path / "foreign")]) == 1


def test_dump_says_nothing_wrong_about_any_bytes(tmp_path: Path, rng) -> None:  # type: ignore[no-untyped-def]
    """Whatever a file holds, it is shown to its end, and no length is believed."""
    for _ in range(200):
        for name in ("1.bitcask.data", "1.bitcask.hint", "bitcask.metcd.load"):
            (tmp_path / name).write_bytes(rng.randbytes(rng.randrange(200)) + hex_of("batch") * rng.randrange(2))
        lines = list(BitcaskStore.dump(str(tmp_path), real_env()))
        assert sum("bitcask" in line and " bytes" in line for line in lines) >= 3
