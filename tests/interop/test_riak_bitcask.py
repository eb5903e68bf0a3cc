"""Riak's Bitcask and ours on the same directories: each reads what the other wrote, and merges it.

The golden vectors were written by the real thing (erlang-bitcask 2.1.0, with its clock stopped at 1): they are tested
everywhere. The rest needs Erlang, and is skipped without it; `make interop` counts a skip as a failure.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import engines
from engines import ForeignFormat, StoreChanged, StoreLocked
from engines.bitcask.hint import TOMBSTONE_BIT, BadHint, decode_hint, encode_entry, encode_hint
from engines.bitcask.record import BadRecord, encode_record, encode_tombstone, is_tombstone, parse_mark, read_records
from engines.bitcask.store import BitcaskStore
from tests.interop.riak import Riak, file_ids, require_erlang

# puts a=1, b=22, c=333, a=4, then delete b, with max_file_size 60
GOLDEN = {
    "1.bitcask.data": "e623e973 00000001 0001 00000001 61 31  e8e1ff16 00000001 0001 00000002 62 3232"
    "  04ebcf96 00000001 0001 00000003 63 333333",
    "1.bitcask.hint": "00000001 0001 00000010 0000000000000000 61  00000001 0001 00000011 0000000000000010 62"
    "  00000001 0001 00000012 0000000000000021 63  00000000 0000 c5efe06c 7fffffffffffffff",
    "2.bitcask.data": "9c43b7b5 00000001 0001 00000016 61 626974636173 6b5f746f6d6273746f6e6532 00000001"
    "  96491dfc 00000001 0001 00000001 61 34",
    "3.bitcask.data": "eaa68e88 00000001 0001 00000016 62 626974636173 6b5f746f6d6273746f6e6532 00000001",
}
FIRST = [(b"a", b"1"), (b"b", b"22"), (b"c", b"333")]


def golden(name: str) -> bytes:
    return bytes.fromhex(GOLDEN[name])


def open_ours(directory: Path, **options: object) -> BitcaskStore:
    store = engines.open(str(directory), "bitcask", sync=False, **{"max_file_size": 300, "merge": "manual", **options})
    assert isinstance(store, BitcaskStore)
    return store


def content(directory: Path) -> dict[bytes, bytes]:
    """What ours finds, with everything verified."""
    with open_ours(directory) as store:
        assert store.check() == []
        return dict(store.scan())


# ---- without Erlang -----------------------------------------------------------------------------------------------


def test_records_are_riaks_byte_for_byte() -> None:
    """The golden data files, encoded and decoded."""
    assert b"".join(encode_record(1, key, value) for key, value in FIRST) == golden("1.bitcask.data")
    assert encode_tombstone(1, b"a", 1) + encode_record(1, b"a", b"4") == golden("2.bitcask.data")
    assert encode_tombstone(1, b"b", 1) == golden("3.bitcask.data")
    data = golden("1.bitcask.data")
    assert list(read_records(data, 0, len(data))) == [(0, 1, b"a", b"1"), (16, 1, b"b", b"22"), (33, 1, b"c", b"333")]
    data = golden("3.bitcask.data")
    [(_, _, key, value)] = read_records(data, 0, len(data))
    assert key == b"b" and is_tombstone(value)


def test_hints_are_riaks_byte_for_byte() -> None:
    """The golden hint file, and the entry of a tombstone."""
    entries = [(1, 16, 0, b"a"), (1, 17, 16, b"b"), (1, 18, 33, b"c")]
    assert encode_hint(encode_entry(*entry) for entry in entries) == golden("1.bitcask.hint")
    assert list(decode_hint(golden("1.bitcask.hint"))) == entries
    tombstone = bytes.fromhex("00000001 0001 00000025 8000000000000000 61")
    assert encode_entry(1, 37, TOMBSTONE_BIT, b"a") == tombstone
    trailer = bytes.fromhex("00000000 0000 d50e8ecb 7fffffffffffffff")
    assert encode_hint([tombstone, encode_entry(1, 16, 37, b"a")])[-18:] == trailer, "2.bitcask.hint, as Riak wrote it"


@pytest.mark.parametrize("names", [list(GOLDEN), [name for name in GOLDEN if name.endswith("data")]])
def test_the_golden_directory_opens(tmp_path: Path, names: list[str]) -> None:
    """With its hints, and without."""
    for name in names:
        (tmp_path / name).write_bytes(golden(name))
    with open_ours(tmp_path) as store:
        assert dict(store.scan()) == {b"a": b"4", b"c": b"333"}
        assert store.check() == []
        store.compact()
    assert content(tmp_path) == {b"a": b"4", b"c": b"333"}


@pytest.mark.parametrize(
    "value",
    [b"bitcask_tombstone", b"bitcask_tombstone1\x00\x00\x00\x01", b"bitcask_tombstone2\x00\x00\x00\x01"],
    ids=["v0", "v1", "v2"],
)
@pytest.mark.parametrize("hinted", [True, False], ids=["hint", "no-hint"])
def test_every_generation_of_tombstones_deletes(tmp_path: Path, value: bytes, hinted: bool) -> None:
    """v0 and v1 were written by older Riaks; they delete, and keep deleting through partial merges."""
    (tmp_path / "1.bitcask.data").write_bytes(golden("1.bitcask.data"))
    record = encode_record(1_000, b"b", value)
    (tmp_path / "2.bitcask.data").write_bytes(record)
    if hinted:
        hint = encode_hint([encode_entry(1_000, len(record), TOMBSTONE_BIT, b"b")])
        (tmp_path / "2.bitcask.hint").write_bytes(hint)
    expected = {b"a": b"1", b"c": b"333"}
    assert content(tmp_path) == expected
    with open_ours(tmp_path) as store:
        store.merge([2])
    assert content(tmp_path) == expected, "the tombstone has to stay as long as file 1 does"
    with open_ours(tmp_path) as store:
        store.compact()
        assert store.stats().dead_bytes == 0
    assert content(tmp_path) == expected


# ---- with Erlang --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def riak() -> Iterator[Riak]:
    require_erlang()
    with Riak() as riak:
        yield riak


def change_ours(store: BitcaskStore, model: dict[bytes, bytes], rng: random.Random, count: int) -> None:
    """Random writes of every kind to a store of ours."""
    for _ in range(count):
        keys = [b"key%02d" % rng.randrange(20) for _ in range(rng.choice((1, 1, 1, 2, 5)))]
        with store.batch() as batch:
            for key in keys:
                if rng.random() < 0.3:
                    batch.delete(key)
                    model.pop(key, None)
                else:
                    value = rng.randbytes(rng.choice((0, 3, 20, 80)))
                    batch.put(key, value)
                    model[key] = value
        if rng.random() < 0.3:
            key, value = b"key%02d" % rng.randrange(20), rng.randbytes(10)
            store.put(key, value)
            model[key] = value


def change_riak(riak: Riak, model: dict[bytes, bytes], rng: random.Random, count: int) -> None:
    """Random puts and deletes by Riak."""
    for _ in range(count):
        key = b"key%02d" % rng.randrange(20)
        if rng.random() < 0.3:
            riak.delete(key)
            model.pop(key, None)
        else:
            model[key] = rng.randbytes(rng.choice((0, 3, 20, 80)))
            riak.put(key, model[key])


def written(directory: Path) -> list[tuple[int, bytes, bytes]]:
    """Every whole record of every data file: (file id, key, value)."""
    found = []
    for file_id in sorted(file_ids(directory)):
        data = (directory / f"{file_id}.bitcask.data").read_bytes()
        with contextlib.suppress(BadRecord):
            found += [(file_id, key, value) for _, _, key, value in read_records(data, 0, len(data))]
    return found


def data_files(directory: Path) -> list[str]:
    return sorted((path.name for path in directory.glob("*.bitcask.data")), key=lambda name: int(name.split(".")[0]))


def test_riak_reads_our_directory(riak: Riak, tmp_path: Path, rng: random.Random) -> None:
    """Keydir, fold and get of the real Bitcask, over puts, deletes, batches, rotation, merges and a load of ours."""
    model: dict[bytes, bytes] = {}
    with open_ours(tmp_path) as store:
        change_ours(store, model, rng, 60)
    records, before = written(tmp_path), file_ids(tmp_path)
    assert len(before) > 5 and any(is_tombstone(value) for _, _, value in records)
    assert any((mark := parse_mark(key, value)) and mark.records > 1 for _, key, value in records), "a batch"
    riak.read(tmp_path)
    assert riak.content() == model
    riak.shut()
    with open_ours(tmp_path) as store:
        store.compact()
        assert store.stats().engine["merges"] == 1 and not before & file_ids(tmp_path), "merged, and removed"
        change_ours(store, model, rng, 20)
    before = file_ids(tmp_path)
    riak.read(tmp_path)
    assert riak.content() == model
    riak.shut()
    model = {b"loaded %d" % number: b"%d" % number for number in range(50)}
    with open_ours(tmp_path) as store:
        store.load(sorted(model.items()))
        assert not before & file_ids(tmp_path), "replaced"
        change_ours(store, model, rng, 20)
    riak.read(tmp_path)
    assert riak.content() == model
    riak.shut()


def test_riak_reads_a_directory_without_hints(riak: Riak, tmp_path: Path, rng: random.Random) -> None:
    """From our data files alone, so that our hints aren't what makes it right."""
    model: dict[bytes, bytes] = {}
    with open_ours(tmp_path) as store:
        change_ours(store, model, rng, 60)
    for hint in tmp_path.glob("*.hint"):
        hint.unlink()
    riak.read(tmp_path)
    assert riak.content() == model
    riak.shut()
    assert len(file_ids(tmp_path)) > 5 and not list(tmp_path.glob("*.hint"))


def test_riak_merges_our_directory(riak: Riak, tmp_path: Path, rng: random.Random) -> None:
    """First some of the files, then all: the contents stay, for Riak and for us."""
    model: dict[bytes, bytes] = {}
    with open_ours(tmp_path) as store:
        change_ours(store, model, rng, 80)
    names = data_files(tmp_path)
    assert len(names) > 6
    riak.open(tmp_path)
    riak.merge(tmp_path, *names[1::2])
    assert riak.content() == model
    riak.shut()
    assert content(tmp_path) == model
    riak.open(tmp_path)
    riak.merge(tmp_path)
    assert riak.content() == model
    riak.shut()
    assert content(tmp_path) == model


def test_we_read_what_riak_wrote(riak: Riak, tmp_path: Path, rng: random.Random) -> None:
    """Many small files, live hints, and tombstones of all three forms (Riak writes v2; a put of the old forms' bytes
    leaves the records that older Riaks left)."""
    model: dict[bytes, bytes] = {}
    riak.open(tmp_path)
    change_riak(riak, model, rng, 200)
    for key, tombstone in ((b"key00", b"bitcask_tombstone"), (b"key01", b"bitcask_tombstone1\x00\x00\x00\x09")):
        riak.put(key, b"about to die")
        riak.put(key, tombstone)
        model.pop(key, None)
    assert riak.content() == model
    riak.shut()
    values = [value for _, _, value in written(tmp_path)]
    assert {b"bitcask_tombstone", b"bitcask_tombstone1\x00\x00\x00\x09"} <= set(values)
    assert any(value.startswith(b"bitcask_tombstone2") for value in values) and len(file_ids(tmp_path)) > 20
    for file_id in file_ids(tmp_path):
        entries = list(decode_hint((tmp_path / f"{file_id}.bitcask.hint").read_bytes()))
        assert len(entries) == sum(each == file_id for each, _, _ in written(tmp_path)), "one for each record"
    assert content(tmp_path) == model
    with open_ours(tmp_path) as store:
        store.compact()
        assert store.stats().engine["merges"] == 1
        assert dict(store.scan()) == model
    riak.read(tmp_path)
    assert riak.content() == model
    riak.shut()


@pytest.mark.parametrize("round_seed", range(4))
def test_both_write_and_merge_one_directory(riak: Riak, tmp_path: Path, seed: int, round_seed: int) -> None:
    """Taking turns, with partial merges of random files by either: no deleted key comes back to anyone (#82)."""
    rng = random.Random(f"{seed}:{round_seed}")
    model: dict[bytes, bytes] = {}
    merged_by_us = merged_by_riak = 0
    for turn in range(6):
        with open_ours(tmp_path) as store:
            change_ours(store, model, rng, rng.randrange(20))
            last = turn == 5
            if last or rng.random() < 0.7:
                ids = [s["id"] for s in store.describe()["segments"] if s["state"] == "sealed"]
                merged = store.merge(rng.sample(ids, rng.randint(last, len(ids))))
                assert not set(merged) & file_ids(tmp_path)
                merged_by_us += bool(merged)
            assert dict(store.scan()) == model
        riak.open(tmp_path)
        assert riak.content() == model, f"turn {turn}, after ours"
        change_riak(riak, model, rng, rng.randrange(20))
        names = data_files(tmp_path)[:-1]
        chosen = rng.sample(names, rng.randint(last, len(names)))
        if chosen:
            riak.merge(tmp_path, *chosen)
            merged_by_riak += 1
        assert riak.content() == model
        riak.shut()
        riak.read(tmp_path)
        assert riak.content() == model, f"turn {turn}, after Riak's merge of {chosen}"
        riak.shut()
        assert content(tmp_path) == model, f"turn {turn}, after Riak's merge of {chosen}"
    assert merged_by_us and merged_by_riak


def test_each_keeps_the_other_out(riak: Riak, tmp_path: Path) -> None:
    """Riak's write lock is ours too: who has it is told by pid, and what a dead process left is cleared away."""
    riak.open(tmp_path)
    riak.put(b"a", b"1")  # Riak takes the lock with the first write
    with pytest.raises(StoreLocked, match=r"bitcask\.write\.lock is locked by process \d+: this is a lock of Riak's"):
        open_ours(tmp_path)
    riak.shut()
    with open_ours(tmp_path) as store:
        riak.open(tmp_path)
        assert riak.get(b"a") == b"1", "reading is allowed"
        assert "locked" in riak.ask("put", "62", "32")
        assert "locked" in riak.ask("merge", str(tmp_path))
        riak.shut()
        store.put(b"a", b"2")
    dead = f"{2**22 + os.getpid()} {tmp_path}/9.bitcask.data\n"
    (tmp_path / "bitcask.write.lock").write_text(dead)
    (tmp_path / "bitcask.merge.lock").write_text(dead)
    assert content(tmp_path) == {b"a": b"2"}
    assert [path.name for path in tmp_path.glob("*.lock")] == ["bitcask.metcd.lock"]


# ---- a Riak that was killed ------------------------------------------------------------------------------------------


def killed_riak(directory: Path, first: int = 0) -> tuple[dict[bytes, bytes], int]:
    """What a Riak had put that was killed with -9 while it wrote, and the number of the next key."""
    with Riak() as riak:
        riak.open(directory, 1 << 20)
        after = riak.flood_and_kill(first, 200)
    assert (directory / "bitcask.write.lock").exists(), "it was killed"
    return {b"k%d" % number: b"v" * (number % 500) for number in range(first, after)}, after


def tear(directory: Path) -> int:
    """Cuts the newest data file in the middle of its last record; returns the file's id."""
    newest = max(file_ids(directory))
    path = directory / f"{newest}.bitcask.data"
    data = path.read_bytes()
    *_, (offset, _, key, value) = read_records(data, 0, len(data))
    os.truncate(path, offset + (14 + len(key) + len(value)) // 2)
    with pytest.raises(BadHint, match="it was not closed"):
        decode_hint((directory / f"{newest}.bitcask.hint").read_bytes())
    return newest


def is_torn(directory: Path, file_id: int) -> bool:
    data = (directory / f"{file_id}.bitcask.data").read_bytes()
    try:
        return not list(read_records(data, 0, len(data)))
    except BadRecord:
        return True


def test_a_killed_riaks_directory_opens(tmp_path: Path) -> None:
    """All that it had said to be put is there, and perhaps the next ones, which it put before the kill reached it."""
    require_erlang()
    put, _ = killed_riak(tmp_path)
    with open_ours(tmp_path, read_only=True) as store:
        seen = dict(store.scan())
        assert store.check() == []
    assert content(tmp_path) == seen
    assert seen == {b"k%d" % number: b"v" * (number % 500) for number in range(len(seen))} and len(seen) >= len(put)


def test_torn_ends_that_riak_has_left_behind_open_and_go_back(riak: Riak, tmp_path: Path) -> None:
    """Killed, torn, reopened by Riak and written on, twice; then opened by us, and by Riak again."""
    torn, expected, number = [], {}, 0
    for _ in range(2):
        put, after = killed_riak(tmp_path, number)
        torn.append(tear(tmp_path))
        expected |= put
        number = after + 10
    riak.open(tmp_path)
    riak.put(b"written", b"on")
    model = riak.content()
    riak.shut()
    assert all(is_torn(tmp_path, file_id) for file_id in torn) and max(file_ids(tmp_path)) > max(torn)
    assert model[b"written"] == b"on" and len(expected.keys() - model.keys()) <= 2, "a record of each torn file is lost"
    with open_ours(tmp_path, read_only=True) as store:
        assert dict(store.scan()) == model and store.check() == []
    assert all(is_torn(tmp_path, file_id) for file_id in torn), "who only reads cuts nothing"
    assert content(tmp_path) == model
    assert not any(is_torn(tmp_path, file_id) for file_id in torn)
    with open_ours(tmp_path) as store:
        store.put(b"ours", b"1")
        store.delete(b"written")
        store.compact()
    model[b"ours"] = b"1"
    del model[b"written"]
    riak.read(tmp_path)
    assert riak.content() == model
    riak.shut()


def test_a_killed_store_of_ours_goes_on_under_riak_and_comes_back(riak: Riak, tmp_path: Path) -> None:
    """Its active file has zeros after the records; Riak leaves them there, and begins the next file."""
    code = (
        "import os, sys, engines\n"
        "store = engines.open(sys.argv[1], 'bitcask', sync=False)\n"
        "for number in range(50): store.put(b'key%d' % number, b'v' * number)\n"
        "os.kill(os.getpid(), 9)"
    )
    root = Path(engines.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root).returncode == -9
    (killed,) = file_ids(tmp_path)
    data = (tmp_path / f"{killed}.bitcask.data").read_bytes()
    assert data.endswith(bytes(1000)) and not (tmp_path / f"{killed}.bitcask.hint").exists()
    for path in tmp_path.glob("bitcask.*.lock"):
        path.unlink()  # the pid may be somebody's again, and then Riak would refuse
    riak.open(tmp_path)
    riak.put(b"riak", b"1")
    riak.delete(b"key7")
    model = riak.content()
    riak.shut()
    assert (tmp_path / f"{killed}.bitcask.data").read_bytes() == data and max(file_ids(tmp_path)) > killed
    assert model == {b"key%d" % number: b"v" * number for number in range(50) if number != 7} | {b"riak": b"1"}
    assert content(tmp_path) == model
    riak.read(tmp_path)
    assert riak.content() == model
    riak.shut()


def test_what_a_merge_of_riaks_has_left_is_removed(tmp_path: Path, rng: random.Random) -> None:
    """It ended when the inputs were marked, and not deleted; and after `chmod -R 755` nothing is removed."""
    require_erlang()
    model: dict[bytes, bytes] = {}
    with Riak() as riak:
        riak.open(tmp_path)
        change_riak(riak, model, rng, 60)
        riak.leave(tmp_path)
    marked = {file_id for file_id in file_ids(tmp_path) if (tmp_path / f"{file_id}.bitcask.data").stat().st_mode & 1}
    assert len(marked) > 5 and len(file_ids(tmp_path)) > len(marked)
    whole = tmp_path / "chmod"
    shutil.copytree(tmp_path, whole)
    with open_ours(tmp_path, read_only=True) as store:
        assert dict(store.scan()) == model
    assert marked < file_ids(tmp_path)
    assert content(tmp_path) == model
    assert not marked & file_ids(tmp_path)
    before = file_ids(whole)
    for path in whole.iterdir():
        path.chmod(0o755)
    with pytest.raises(ForeignFormat, match="chmod u-s,o-x"):
        open_ours(whole)
    assert file_ids(whole) == before


def test_a_reader_goes_on_beside_a_riak_that_writes(riak: Riak, tmp_path: Path) -> None:
    """It sees what is in the file that is being written, and changes nothing; what is merged away is said."""
    riak.open(tmp_path)
    for number in range(30):
        riak.put(b"key%d" % (number % 4), b"v" * number)
    model = riak.content()
    files = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    assert {"bitcask.write.lock", f"{max(file_ids(tmp_path))}.bitcask.data"} <= files.keys()
    with open_ours(tmp_path, read_only=True, max_open_files=1) as store:
        assert dict(store.scan()) == model and store.check() == []
        assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == files
        riak.merge(tmp_path, *data_files(tmp_path)[:-1])
        riak.put(b"later", b"1")
        with pytest.raises(StoreChanged, match="open it again"):
            for key in model:
                store.get(key)
    with open_ours(tmp_path, read_only=True) as store:
        assert dict(store.scan()) == {**model, b"later": b"1"} and store.check() == []
    riak.shut()


def test_the_empty_key_of_a_riak_stays_riaks(riak: Riak, tmp_path: Path, rng: random.Random) -> None:
    """Our batches have marks under that key; to both of us, its value stays the last record of it, until it is deleted."""
    riak.open(tmp_path)
    riak.put(b"", b"of Riak")
    riak.shut()
    with open_ours(tmp_path) as store:
        model = {b"": b"of Riak"}
        change_ours(store, model, rng, 60)
        store.merge([segment["id"] for segment in store.describe()["segments"] if segment["state"] == "sealed"][::2])
        change_ours(store, model, rng, 20)
        assert dict(store.scan()) == model
    assert any(parse_mark(key, value) for _, key, value in written(tmp_path))
    assert content(tmp_path) == model
    riak.read(tmp_path)
    assert riak.get(b"") == b"of Riak"
    riak.shut()
    with open_ours(tmp_path) as store:
        store.delete(b"")
        store.compact()
    riak.read(tmp_path)
    assert riak.get(b"") is None
    riak.shut()
