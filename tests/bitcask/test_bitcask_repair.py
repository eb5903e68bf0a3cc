"""repair(): what is whole stays, the damage goes aside, and afterwards the store opens, compacts and checks."""

from __future__ import annotations

import logging
import random
from types import SimpleNamespace
from typing import Any

import pytest

from engines import CorruptionError, InvalidOption, NoSuchStore, StoreLocked
from engines.bitcask.hint import TOMBSTONE_BIT, encode_entry, encode_hint
from engines.bitcask.record import Mark, encode_mark, encode_record, encode_tombstone
from engines.bitcask.store import BitcaskStore
from engines.env import Mode, View
from engines.simenv import Policy, SimEnv
from tests.bitcask.riak_files import PATH, content, data_path, open_sim, put_file

RECORDS = {b"key%d" % at: encode_record(5 + at, b"key%d" % at, b"value %d" % at) for at in range(6)}
DATA = b"".join(RECORDS.values())
VALUES = {key: record[18:] for key, record in RECORDS.items()}
SIZE = len(DATA) // 6


def hint_of(records: dict[bytes, bytes], closed: bool = True) -> bytes:
    entries, offset = [], 0
    for key, record in records.items():
        entries.append(encode_entry(int.from_bytes(record[4:8]), len(record), offset, key))
        offset += len(record)
    return encode_hint(entries) if closed else b"".join(entries)


def damaged_at(*places: int, hint: bytes | None = None, data: bytes = DATA) -> SimEnv:
    """Two files; of the first, these bytes are damaged."""
    env = SimEnv()
    for at in places:
        data = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
    put_file(env, "1.bitcask.data", data)
    if hint is not None:
        put_file(env, "1.bitcask.hint", hint)
    put_file(env, "2.bitcask.data", encode_record(20, b"last", b"file"))
    return env


def repaired(env: SimEnv) -> tuple[dict[bytes, bytes], list[str]]:
    """The content afterwards, through check, compact and a reopening; and the sentences."""
    sentences = BitcaskStore.repair(PATH, env)
    with open_sim(env) as store:
        assert store.check() == []
        found = dict(store.scan())
        store.compact()
        assert store.check() == [] and dict(store.scan()) == found
    assert content(env) == found
    assert BitcaskStore.repair(PATH, env) == []
    return found, sentences


def test_a_damaged_record_whose_hint_is_whole_is_left_out_and_nothing_else() -> None:
    """An opening believes the hint, so the record is found when it is read: by a scan, a compaction, a check."""
    env = damaged_at(2 * SIZE + 16, hint=hint_of(RECORDS))
    before = env.files()[data_path(1)]
    with open_sim(env) as store:
        with pytest.raises(CorruptionError, match=r"`metcd repair [^`]+`"):
            list(store.scan())
        with pytest.raises(CorruptionError, match=r"`metcd repair [^`]+`"):
            store.compact()
    found, (sentence,) = repaired(env)
    assert found == {key: value for key, value in VALUES.items() if key != b"key2"} | {b"last": b"file"}
    assert sentence.startswith(f"1.bitcask.data: at byte {2 * SIZE}: the record's checksum is not ")
    assert f"left out: bytes {2 * SIZE} to {3 * SIZE}, the last record of b'key2'" in sentence
    assert sentence.endswith("kept as 1.bitcask.data.damaged and 1.bitcask.hint.damaged")
    assert env.files()[f"{PATH}/1.bitcask.data.damaged"] == before


@pytest.mark.parametrize("field", [0, 4, 8, 9, 10, 13, 14, 18], ids=str)
@pytest.mark.parametrize(
    "hint", [None, hint_of(RECORDS), hint_of(RECORDS, closed=False)], ids=["none", "whole", "open"]
)
def test_whichever_field_is_damaged_what_is_before_stays_and_what_is_behind_if_it_is_found(
    field: int, hint: bytes | None
) -> None:
    """A damaged length leads on by the hint only; without one, the rest of the file is set aside, and said."""
    found, sentences = repaired(damaged_at(2 * SIZE + field, hint=hint))
    assert len(sentences) == 1
    lengths = field in (8, 9, 10, 13)
    kept = [key for key in VALUES if key < b"key2" or (key > b"key2" and (hint is not None or not lengths))]
    assert found == {key: VALUES[key] for key in kept} | {b"last": b"file"}


def test_many_damaged_records_are_left_out_one_by_one() -> None:
    """More than the twenty after which Riak gives a file up."""
    records = {b"key%04d" % at: encode_record(5, b"key%04d" % at, b"v" * 20) for at in range(2000)}
    size = len(records[b"key0000"])
    env = damaged_at(*range(20, 2000 * size, 2 * size), hint=hint_of(records), data=b"".join(records.values()))
    found, (sentence,) = repaired(env)
    assert found.keys() == {b"key%04d" % at for at in range(1, 2000, 2)} | {b"last"}
    assert "; 995 more places" in sentence


def test_a_value_that_holds_a_record_is_no_place_to_go_on_at() -> None:
    """A key that nobody has written must not appear, although its checksum is right."""
    inner = encode_record(5, b"inner", b"never written")
    outer = encode_record(5, b"outer", inner + b"!" * 9)
    data = encode_record(5, b"first", b"1") + outer[:9] + b"\x09" + outer[10:]
    found, _ = repaired(damaged_at(data=data))
    assert found == {b"first": b"1", b"last": b"file"}


def test_without_a_hint_a_mark_is_a_place_to_go_on_at() -> None:
    """It says where it was written: a copy of it elsewhere, as in a value, isn't believed."""
    env = SimEnv()
    store = open_sim(env, max_file_size=4000)
    store.put(b"a", b"1")
    store.put(b"b", b"2")
    for number in (3, 4):
        with store.batch() as batch:
            batch.put(b"c", b"%d" % number)
            batch.put(b"d", b"%d" % number)
    image = env.crash(Policy.EVERYTHING, random.Random(0))
    data = image.files()[data_path(1)]
    image.poke(data_path(1), data[:9] + b"\x09" + data[10:])
    with pytest.raises(CorruptionError, match="a later mark says"):
        open_sim(image)
    found, _ = repaired(image)
    assert found == {b"c": b"4", b"d": b"4"}, "b is whole, and nothing says where it begins"


def test_an_older_record_counts_again_and_that_is_said() -> None:
    """Of a key that was overwritten in the same file; what a hint knows to be deleted stays deleted."""
    old, new = encode_record(5, b"k", b"old"), encode_record(6, b"k", b"new")
    data = old + encode_record(5, b"gone", b"1") + new + encode_tombstone(7, b"gone", 1)
    at, deleted = len(old) + len(encode_record(5, b"gone", b"1")), len(data) - 3
    hint = encode_hint(
        [encode_entry(6, len(new), at, b"k"), encode_entry(7, 14 + 4 + 22, (at + len(new)) | TOMBSTONE_BIT, b"gone")]
    )
    found, (sentence,) = repaired(damaged_at(at + 16, deleted, data=data, hint=hint))
    assert found == {b"k": b"old", b"last": b"file"}
    assert "the last record of b'k': an older one counts again if there is one" in sentence


def test_the_whole_records_of_an_acknowledged_batch_are_kept() -> None:
    """One of three is damaged, in a file that was closed."""
    parts = [encode_record(5, key, b"1") for key in (b"a", b"b", b"c")]
    body = b"".join(parts)
    mark = encode_mark(5, Mark(1, 0, 0, 3, len(body), 0))
    found, _ = repaired(damaged_at(len(mark) + len(parts[0]) + 15, data=mark + body, hint=None))
    assert found == {b"a": b"1", b"c": b"1", b"last": b"file"}


def test_half_of_an_overwrite_doesnt_delete_what_it_was_to_replace() -> None:
    """Its value is damaged: the old value, in an older file, is the last one that is whole."""
    env = damaged_at()
    overwrite = encode_tombstone(0, b"key1", 1) + encode_record(9, b"key1", b"new"[:2] + b"?")
    overwrite = overwrite[:-1] + b"!"
    put_file(env, "3.bitcask.data", overwrite + encode_record(9, b"more", b"1"))
    put_file(env, "4.bitcask.data", encode_record(9, b"end", b"1"))
    found, _ = repaired(env)
    assert found == {**VALUES, b"last": b"file", b"more": b"1", b"end": b"1"}


def test_a_file_that_was_cut_keeps_what_is_left() -> None:
    """At a record's end, and within a record; the hint says how many there were."""
    for size, lost in ((3 * SIZE, 3), (3 * SIZE + 5, 3)):
        env = damaged_at(data=DATA[:size], hint=hint_of(RECORDS))
        with pytest.raises(CorruptionError, match="its hint lists a record that ends at byte"):
            open_sim(env)
        found, (sentence,) = repaired(env)
        assert found == {key: VALUES[key] for key in list(VALUES)[:-lost]} | {b"last": b"file"}
        assert "1.bitcask.hint.damaged" in sentence


def test_a_hint_that_lies_is_set_aside() -> None:
    """It is whole, and says something else than the records."""
    lie = {key: record for key, record in RECORDS.items() if key != b"key0"}
    entries = [encode_entry(5, SIZE, at * SIZE, key) for at, key in enumerate(lie, 1)]
    env = damaged_at(hint=encode_hint(entries))
    found, (sentence,) = repaired(env)
    assert found == {**VALUES, b"last": b"file"}
    assert sentence.startswith("1.bitcask.data: its hint says something else than its records")


def test_a_crash_of_repair_leaves_the_damage_or_the_repaired_store() -> None:
    """Power is cut after each of its calls: repair once more, and the content is the same."""
    images: list[SimEnv] = []
    env = damaged_at(2 * SIZE + 16, hint=hint_of(RECORDS))
    expected = {key: value for key, value in VALUES.items() if key != b"key2"} | {b"last": b"file"}
    env.after_call = lambda _: images.extend(env.crash(policy, random.Random(3)) for policy in Policy)
    BitcaskStore.repair(PATH, env)
    env.after_call = None
    assert len(images) > 40
    for image in images:
        BitcaskStore.repair(PATH, image)
        assert content(image) == expected
        assert any(path.endswith(".data.damaged") for path in image.files()), "what was there is never lost"


def test_what_is_well_is_let_alone() -> None:
    """A killed store, too: its torn end is no damage. Nothing is there afterwards that wasn't, but our own lock."""
    env = damaged_at(hint=hint_of(RECORDS))
    put_file(env, "3.bitcask.data", DATA[:-3])
    before = env.files()
    assert BitcaskStore.repair(PATH, env) == []
    assert {path: data for path, data in env.files().items() if "lock" not in path} == before


def test_what_cant_be_repaired_is_refused_before_anything_is_changed() -> None:
    """An open store, no store, and a list of a load of which nobody knows what it said."""
    env = damaged_at(20)
    put_file(env, "bitcask.metcd.load", b"metcd load\nnew 7\n")
    before = env.files()
    with pytest.raises(CorruptionError, match="whether the old or the new ones count is lost"):
        BitcaskStore.repair(PATH, env)
    with pytest.raises(NoSuchStore):
        BitcaskStore.repair("/nowhere", env)
    assert {path: data for path, data in env.files().items() if "lock" not in path} == before
    env = damaged_at()
    with open_sim(env), pytest.raises(StoreLocked):
        BitcaskStore.repair(PATH, env)


def test_the_option_repairs_first_and_logs_what_it_did(caplog: pytest.LogCaptureFixture) -> None:
    """And makes no sense for a reader."""
    env = damaged_at(2 * SIZE + 16, hint=hint_of(RECORDS))
    with caplog.at_level(logging.WARNING, "metcd.bitcask"), open_sim(env, repair=True) as store:
        assert b"key2" not in dict(store.scan())
    assert "left out" in caplog.text
    with pytest.raises(InvalidOption, match="reading only"):
        open_sim(env, repair=True, read_only=True)


def test_the_work_of_a_repair_grows_with_the_file_and_not_with_its_square() -> None:
    """Every second record is damaged: twice as many cost twice as many bytes to be looked at."""

    class Counted:
        """A view that counts the bytes of its slices."""

        def __init__(self, view: View) -> None:
            self.view = view

        def __len__(self) -> int:
            return len(self.view)

        def __getitem__(self, index: Any) -> Any:
            found = self.view[index]
            looked.append(len(found) if isinstance(found, bytes) else 1)
            return found

    class Watched(SimEnv):
        def open(self, path: str, mode: Mode) -> Any:
            file = super().open(path, mode)
            if path.endswith(".data") and mode == "r":
                return SimpleNamespace(
                    view=lambda: Counted(file.view()), close=file.close, size=file.size, pread=file.pread
                )
            return file

    work = []
    for count in (2000, 4000):
        records = [encode_record(5, b"key%05d" % at, b"v" * 40) for at in range(count)]
        data = bytearray(b"".join(records))
        for at in range(0, len(data), 2 * len(records[0])):
            data[at + 20] ^= 1
        env = Watched()
        put_file(env, "1.bitcask.data", bytes(data))
        put_file(env, "2.bitcask.data", encode_record(20, b"last", b"file"))
        looked: list[int] = []
        BitcaskStore.repair(PATH, env)
        work.append(sum(looked))
        with open_sim(env) as store:
            assert store.stats().engine["keys"] == count // 2 + 1
    assert work[1] < 2.5 * work[0]


@pytest.mark.parametrize("round_seed", range(6))
def test_whatever_is_damaged_the_repaired_store_says_only_what_was_written(seed: int, round_seed: int) -> None:
    """Random histories, closed or killed; random bytes flipped, zeroed, put in or cut off, in any of the files."""
    rng = random.Random(f"{seed}:{round_seed}")
    env = SimEnv()
    said: dict[bytes, set[bytes]] = {}
    store = open_sim(env, max_file_size=600)
    for number in range(150):
        with store.batch(sync=rng.random() < 0.5) as batch:
            for _ in range(rng.choice((1, 1, 1, 3))):
                key, value = b"key%02d" % rng.randrange(25), b"%d:" % number + rng.randbytes(rng.randrange(40))
                if rng.random() < 0.25:
                    batch.delete(key)
                else:
                    batch.put(key, value)
                    said.setdefault(key, set()).add(value)
        if number == 90:
            store.compact()
    if rng.random() < 0.5:
        store.close()
    whole = env.crash(Policy.EVERYTHING, rng)
    before = content(whole.crash(Policy.EVERYTHING, rng))
    names = [path for path in whole.files() if path.endswith((".data", ".hint"))]
    mended = 0
    for _ in range(40):
        image = whole.crash(Policy.EVERYTHING, rng)
        for path in rng.sample(names, rng.choice((1, 1, 2, 5))):
            data = image.files()[path]
            at = rng.randrange(len(data) + 1)
            change = rng.choice((bytes((data[at - 1] ^ 1 << rng.randrange(8),)), bytes(9), rng.randbytes(3), None))
            image.poke(path, data[:at] if change is None else data[: max(0, at - 1)] + change + data[at:])
        try:
            found, sentences = repaired(image)
        except CorruptionError as error:
            raise AssertionError(f"{error} after repair") from error
        assert all(value in said[key] for key, value in found.items())
        mended += bool(sentences)
        assert len(found.keys() & before.keys()) >= len(before) // 3, "most of it is still there"
    assert mended > 5
