"""Chapter 3, Bitcask: a log of records, an index in memory, and what is left of both when the power goes.

Every store here is on a simulated disk, whose power can be cut after every call. It has no merges and needs no hint
files: those are chapter 4's.
"""

from __future__ import annotations

import random
from typing import Any
from zlib import crc32

import pytest

from engines import WriteBatch
from engines.bitcask import BitcaskStore
from engines.bitcask.core import Core
from engines.bitcask.hint import TOMBSTONE_BIT
from engines.bitcask.keydir import Keydir, Undo
from engines.bitcask.log import Log, tombstone_for
from engines.bitcask.place import Place, pack
from engines.bitcask.record import (
    HALF_TIMESTAMP,
    HEADER_BYTES,
    MARK_BYTES,
    BadRecord,
    Mark,
    encode_mark,
    encode_record,
    encode_tombstone,
    parse_mark,
    read_records,
)
from engines.bitcask.scan import scan_entries
from engines.bitcask.segment import Segment, SegmentTable
from engines.env import File
from engines.errors import StoreClosed
from engines.kvstore import Stats
from engines.simenv import Call, Policy, SimEnv
from tests.chapters.kit import History, model_run, power_cuts, rounds, store_subject

# What the real Bitcask (erlang-bitcask, its clock held at 1) wrote for: put a=1, b=22, c=333; reopen, put a=4; reopen,
# delete b. Before the new value of a, its second file has a tombstone of the old one.
REAL = {
    1: "e623e973 00000001 0001 00000001 61 31"
    "e8e1ff16 00000001 0001 00000002 62 3232"
    "04ebcf96 00000001 0001 00000003 63 333333",
    2: "9c43b7b5 00000001 0001 00000016 61 626974636173 6b5f746f6d6273746f6e6532 00000001"
    "96491dfc 00000001 0001 00000001 61 34",
    3: "eaa68e88 00000001 0001 00000016 62 626974636173 6b5f746f6d6273746f6e6532 00000001",
}


def file_name(file_id: int) -> str:
    return f"/db/{file_id}.bitcask.data"


def open_at(env: SimEnv, **options: Any) -> BitcaskStore:
    return BitcaskStore("/db", env=env, **options)


def clock_at_1() -> SimEnv:
    """A disk whose clock stands at the second 1 of 1970."""
    env = SimEnv(0)
    env.clock += 1 - env.unix_time()
    return env


def killed(env: SimEnv) -> SimEnv:
    """The disk as `kill -9` of its process leaves it: everything that was written is there."""
    return env.crash(Policy.EVERYTHING, random.Random(0))


def records_in(env: SimEnv, file_id: int) -> list[tuple[int, int, bytes, bytes]]:
    """The records of a file, up to the zeros of the space that was allocated ahead."""
    found = []
    data = env.files()[file_name(file_id)]
    try:
        for record in read_records(data, 0, len(data)):
            found.append(record)
    except BadRecord:
        pass
    return found


def cut_file(env: SimEnv, file_id: int, size: int) -> SimEnv:
    """A copy of the disk, on which the file ends after `size` bytes."""
    image = killed(env)
    file = image.open(file_name(file_id), "r+")
    file.truncate(size)
    file.close()
    return image


def content(store: BitcaskStore) -> dict[bytes, bytes]:
    return dict(store.scan())


# ---- writing ----------------------------------------------------------------------------------------------------------


def test_a_put_appends_the_record_of_the_real_bitcask() -> None:
    env = clock_at_1()
    with open_at(env) as store:
        for key, value in ((b"a", b"1"), (b"b", b"22"), (b"c", b"333")):
            store.put(key, value)
    assert env.files()[file_name(1)].hex(" ") == bytes.fromhex(REAL[1]).hex(" ")


def test_a_delete_appends_a_tombstone_that_names_the_values_file() -> None:
    """In a later file than the value, as after each reopening: a store never goes on with an old file."""
    env = clock_at_1()
    with open_at(env) as store:
        store.put(b"a", b"1")
        store.put(b"b", b"22")
        store.put(b"c", b"333")
    with open_at(env) as store:
        store.delete(b"b")
        assert store.get(b"b") is None
    assert env.files()[file_name(2)].hex(" ") == bytes.fromhex(REAL[3]).hex(" ")


def test_deleting_what_is_absent_writes_nothing() -> None:
    env = SimEnv(0)
    with open_at(env) as store:
        store.put(b"a", b"1")
        store.delete(b"a")
        written = store.stats().bytes_written
        store.delete(b"a")
        store.delete(b"never there")
        assert store.stats().bytes_written == written, "a deletion of an absent key needs no tombstone"


@pytest.mark.parametrize(
    ("what", "value", "active_id", "in_batch", "expected"),
    [
        ("a deletion, value in an older file", None, 9, False, encode_tombstone(7, b"k", 3)),
        ("a deletion, value in the same file", None, 3, False, encode_tombstone(7, b"k", 3)),
        ("a deletion in a batch", None, 9, True, encode_tombstone(7, b"k", 3)),
        ("an overwrite in the same file", b"new", 3, False, b""),
        ("an overwrite in the same file, in a batch", b"new", 3, True, b""),
        ("an overwrite of a value in an older file", b"new", 9, False, encode_tombstone(HALF_TIMESTAMP, b"k", 3)),
        ("the same in a batch", b"new", 9, True, encode_tombstone(7, b"k", 3)),
        ("an empty value in an older file's place", b"", 9, False, encode_tombstone(HALF_TIMESTAMP, b"k", 3)),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_which_tombstones_are_written(
    what: str, value: bytes | None, active_id: int, in_batch: bool, expected: bytes
) -> None:
    """The old record is in file 3."""
    found = tombstone_for(b"k", value, pack(3, 40, 16), active_id, 7, in_batch)
    assert found.hex(" ") == expected.hex(" "), what


def test_a_batch_is_announced_by_a_mark() -> None:
    """Its number of records, its bytes and their checksum: what recovery needs to tell a whole batch from a part."""
    env = SimEnv(0)
    with open_at(env) as store:
        store.put(b"before", b"")
        with store.batch() as batch:
            batch.put(b"a", b"1")
            batch.delete(b"before")
            batch.put(b"b", b"22")
        mark_at = HEADER_BYTES + len(b"before")
        records = [record for record in records_in(env, 1) if record[0] >= mark_at]
    assert [key for _, _, key, _ in records] == [b"", b"a", b"before", b"b"], "the mark, and three records in order"
    mark = parse_mark(b"", records[0][3])
    assert mark is not None and (mark.file_id, mark.offset) == (1, mark_at)
    size_bytes = sum(HEADER_BYTES + len(key) + len(value) for _, _, key, value in records[1:])
    assert (mark.records, mark.size_bytes) == (3, size_bytes)


def test_a_batch_needs_no_halves_and_is_counted() -> None:
    """A batch that overwrites a value in an older file: its mark keeps the tombstone and the value together."""
    env = SimEnv(0)
    with open_at(env) as store:
        store.put(b"a", b"1")
    store = open_at(env)
    before = store.stats().bytes_written
    with store.batch() as batch:
        batch.put(b"a", b"2")
        batch.put(b"b", b"2")
    records = records_in(env, 2)
    assert [key for _, _, key, _ in records] == [b"", b"a", b"a", b"b"], "the mark, the tombstone, the values"
    assert HALF_TIMESTAMP not in [time for _, time, _, _ in records], "of two operations all are in a batch"
    end = sum(HEADER_BYTES + len(key) + len(value) for _, _, key, value in records)
    assert store.stats().bytes_written - before == end, "stats().bytes_written counts every byte that is appended"
    assert store.core.log.active is not None
    assert store.core.log.active.tombstone_bytes == 0, "the tombstone is not the last record of its key"
    store.close()


def test_a_sync_that_failed_was_none(monkeypatch: pytest.MonkeyPatch) -> None:
    env = SimEnv(0)
    env.makedirs("/db", "test")
    log = Log(env, SegmentTable(env, "/db", Stats(), 16), 1 << 20)
    log.batch({}, {b"a": b"1"}, sync=False)

    def fail(self: SegmentTable, file: File, site: str) -> None:
        raise OSError("the disk says no")

    monkeypatch.setattr(SegmentTable, "sync", fail)
    assert log.active is not None
    with pytest.raises(OSError, match="the disk says no"):
        log.sync()
    assert log.active.synced == 0, "the sync failed, and the segment says that it is synced"


def test_a_write_costs_one_fsync_and_none_if_not_asked_for(history: History) -> None:
    """A batch of a hundred costs no more than a put."""
    store = open_at(history.watch_disk(SimEnv(0)))
    watched = history.watch(store, "store")
    watched.put(b"first", b"makes the file")
    before = store.stats().fsyncs

    def expect(fsyncs: int) -> None:
        history.expect("store.stats().fsyncs, since the file was made", fsyncs, store.stats().fsyncs - before)

    for number in range(5):
        watched.put(b"%d" % number, b"", sync=True)
    expect(5)
    batch = WriteBatch()
    for number in range(100):
        batch.put(b"%d" % number, b"")
    watched.write(batch, sync=True)
    expect(6)
    for number in range(5):
        watched.put(b"%d" % number, b"again", sync=False)
    expect(6)
    watched.flush()
    expect(7)
    watched.flush()
    expect(7)
    store.close()


def test_nobody_reads_what_is_not_on_the_disk_yet() -> None:
    """At every call of the disk during a put with sync=True, a reader sees the old value."""
    env = SimEnv(0)
    store = open_at(env)
    store.put(b"a", b"old")
    seen: list[tuple[str, bytes | None]] = []

    def look(call: Call) -> None:
        seen.append((call.kind, store.get(b"a")))

    env.after_call = look
    store.put(b"a", b"new", sync=True)
    env.after_call = None
    assert [kind for kind, _ in seen] and {value for _, value in seen} == {b"old"}, (
        f"during the put a reader saw {seen}; a power cut then would have taken back what it saw"
    )
    assert store.get(b"a") == b"new"
    store.close()


# ---- the index --------------------------------------------------------------------------------------------------------


class Seen(dict[bytes, Any]):
    """A keydir's places, with what a reader without a lock could see after each step of the writer."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.states = [self._visible()]

    def _visible(self) -> dict[bytes, Any]:
        return {key: place for key, place in self.items() if place is not None}

    def _note(self) -> None:
        if self._visible() != self.states[-1]:
            self.states.append(self._visible())

    def __setitem__(self, key: bytes, place: Any) -> None:
        super().__setitem__(key, place)
        self._note()

    def __delitem__(self, key: bytes) -> None:
        super().__delitem__(key)
        self._note()

    def update(self, *arguments: Any, **keywords: Any) -> None:
        super().update(*arguments, **keywords)
        self._note()

    def __ior__(self, other: Any) -> Any:
        super().update(other)
        self._note()
        return self

    def pop(self, key: bytes, *default: Any) -> Any:
        value = super().pop(key, *default)
        self._note()
        return value


def test_a_batch_changes_the_index_at_one_instant() -> None:
    """kvstore, promise 4: readers take no lock, and never see half of a batch."""
    keydir = Keydir()
    places = keydir.places = Seen({b"a": pack(1, 0, 20), b"b": pack(1, 20, 20), b"c": pack(1, 40, 20)})
    undo = Undo()
    keydir.apply({b"a": pack(2, 0, 20), b"b": None, b"d": pack(2, 20, 20)}, [undo])
    after = {b"a": pack(2, 0, 20), b"c": pack(1, 40, 20), b"d": pack(2, 20, 20)}
    assert dict(places) == after, "the keys that are there afterwards; a deleted key is not in the dict any more"
    assert len(places.states) == 2, f"readers could see {len(places.states) - 2} states between before and after"
    assert dict(undo) == {b"a": pack(1, 0, 20), b"b": pack(1, 20, 20), b"d": None}, "what the snapshot remembers"


def test_a_snapshot_shows_its_moment() -> None:
    """By undo maps, as in chapter 1; but what is noted is where a value lies, and not the value."""
    store = open_at(SimEnv(0))
    with store.batch() as batch:
        batch.put(b"a", b"a")
        batch.put(b"b", b"b")
    with store.snapshot() as snapshot:
        for round_ in (b"1", b"2"):
            store.put(b"a", round_)
            store.delete(b"b")
            store.put(b"c", round_)
        assert dict(snapshot.scan()) == {b"a": b"a", b"b": b"b"}
        assert [snapshot.get(key) for key in (b"a", b"b", b"c")] == [b"a", b"b", None]
        assert list(store.scan()) == [(b"a", b"2"), (b"c", b"2")]
    store.close()


def test_a_snapshot_keeps_no_note_of_a_key_that_came_and_went() -> None:
    keydir, undo = Keydir(), Undo()
    keydir.apply({b"a": pack(1, 0, 16)}, [undo])
    assert dict(undo) == {b"a": None}
    keydir.apply({b"a": None}, [undo])
    assert (keydir.places, dict(undo)) == ({}, {}), "absent then and absent now needs no note (Undo.forget)"


def test_a_get_reads_exactly_one_record() -> None:
    """However many keys there are, and however often the key was written: the index knows the place."""
    store = open_at(SimEnv(0))
    for number in range(rounds(2_000)):
        store.put(b"%04d" % (number % 500), b"v" * (number % 60), sync=False)
    store.put(b"wanted", b"v" * 321)
    before = store.stats()
    assert store.get(b"wanted") == b"v" * 321
    after = store.stats()
    assert after.reads - before.reads == 1, "one read"
    size = HEADER_BYTES + len(b"wanted") + 321
    assert after.bytes_read - before.bytes_read == size, f"of the {size} bytes of the record, and of no other"
    store.close()


def test_a_get_of_an_absent_key_reads_nothing() -> None:
    store = open_at(SimEnv(0))
    store.put(b"a", b"1")
    store.put(b"b", b"1")
    store.delete(b"b")
    before = store.stats()
    assert [store.get(b"b"), store.get(b"c"), store.get(b"c", b"a default")] == [None, None, b"a default"]
    after = store.stats()
    assert (after.reads, after.bytes_read) == (before.reads, before.bytes_read), "the index knows that they are absent"
    assert after.gets == before.gets + 3
    store.close()


def test_a_get_asks_again_when_a_merge_has_moved_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first read finds no file; meanwhile the keydir has the new place. Or the store was closed meanwhile."""
    read = Core.read
    store = open_at(SimEnv(0), plain=True)
    store.put(b"a", b"1")
    reads = 0

    def moved(core: Core, key: bytes, place: Place) -> bytes:
        nonlocal reads
        reads += 1
        if reads % 2:
            if reads == 3:
                store.close()
            raise KeyError(1)
        return read(core, key, place) if reads == 2 else b"a read after the store was closed"

    monkeypatch.setattr(Core, "read", moved)
    assert store.get(b"a") == b"1"
    with pytest.raises(StoreClosed):
        store.get(b"a")


# ---- opening again ----------------------------------------------------------------------------------------------------


def test_the_last_record_of_a_key_counts() -> None:
    """Whatever the timestamps say: clocks go backwards, files don't."""
    data = b""
    expected = {}
    for timestamp, key, value in ((9, b"a", b"old"), (9, b"b", b"x"), (2, b"a", b"new"), (5, b"c", b"y")):
        record = encode_record(timestamp, key, value)
        expected[key] = (timestamp, len(record), len(data), key)
        data += record
    tombstone = encode_tombstone(1, b"b", 1)
    expected[b"b"] = (1, len(tombstone), len(data) | TOMBSTONE_BIT, b"b")
    entries, end = scan_entries(data + tombstone + b"what follows", len(data + tombstone), 1)
    assert sorted(entries) == sorted(expected.values()), "(timestamp, size, offset, key) of the last record of each key"
    assert end == len(data) + len(tombstone), "where the last record ends"
    assert scan_entries(b"", 0, 1) == ([], 0)


def test_a_later_file_wins_and_takes_the_live_bytes() -> None:
    """Live bytes decide in chapter 4 which files are worth a merge."""
    keydir = Keydir()
    segments = {1: Segment(1, 100), 2: Segment(2, 100)}
    keydir.load(segments[1], [(9, 30, 0, b"a"), (9, 31, 30, b"b"), (9, 32, 61, b"c")], segments)
    assert (segments[1].live_bytes, segments[1].tombstone_bytes) == (93, 0)
    later = [(1, 40, 0, b"a"), (1, 50, 40 | TOMBSTONE_BIT, b"b"), (1, 51, 90 | TOMBSTONE_BIT, b"never there")]
    keydir.load(segments[2], later, segments)
    assert keydir.places == {b"a": pack(2, 0, 40), b"c": pack(1, 61, 32)}
    assert (segments[1].live_bytes, segments[1].tombstone_bytes) == (32, 0), "only c is still alive in file 1"
    assert (segments[2].live_bytes, segments[2].tombstone_bytes) == (40, 101)


def test_files_of_the_real_bitcask_are_read() -> None:
    env = SimEnv(0)
    env.makedirs("/db", "test")
    for file_id, golden in REAL.items():
        file = env.open(file_name(file_id), "x")
        file.append(bytes.fromhex(golden))
        file.close()
    with open_at(env) as store:
        assert content(store) == {b"a": b"4", b"c": b"333"}


def test_a_store_comes_back_as_it_was(rng: random.Random) -> None:
    """Closed in good order, and killed; its counters as well."""
    for _ in range(rounds(8)):
        env, items = SimEnv(0), dict[bytes, bytes]()
        for _ in range(4):
            store = open_at(env)
            assert content(store) == items
            assert store.check() == [], "the store's own check: index and live bytes against a fresh reading"
            for _ in range(25):
                key = b"%02d" % rng.randrange(12)
                if rng.random() < 0.3:
                    store.delete(key)
                    items.pop(key, None)
                else:
                    items[key] = rng.randbytes(rng.choice((0, 3, 50)))
                    store.put(key, items[key])
            assert store.check() == []
            if rng.random() < 0.5:
                store.close()
            else:
                env = killed(env)


def test_a_torn_record_is_cut_off() -> None:
    """Wherever it was torn. The file ends with the last whole record afterwards, and takes new ones."""
    env = SimEnv(0)
    store = open_at(env)
    store.put(b"a", b"1")
    store.put(b"b", b"the last value")
    [(_, _, _, first), (start, _, _, last)] = records_in(env, 1)
    end = start + HEADER_BYTES + 1 + len(last)
    assert first == b"1"
    for size in range(start, end):
        image = cut_file(env, 1, size)
        with open_at(image) as again:
            assert content(again) == {b"a": b"1"}, f"the file was cut to {size} bytes, in the record at byte {start}"
            assert len(image.files()[file_name(1)]) == start, f"cut to {size} bytes: what is torn goes from the file"
            view = again.core.table.views.get(1)
            assert view is None or len(view) == start, "the mapping in table.views is longer than its file"
            again.put(b"c", b"3")
        with open_at(image) as again:
            assert content(again) == {b"a": b"1", b"c": b"3"}, f"written after the file was cut to {size} bytes"


def test_a_torn_batch_is_not_there_at_all() -> None:
    """kvstore, promise 2. Cut anywhere between its mark and its last byte; whole records of it don't count."""
    env = SimEnv(0)
    store = open_at(env)
    store.put(b"a", b"1")
    start = HEADER_BYTES + 2
    with store.batch() as batch:
        batch.put(b"a", b"2")
        batch.put(b"b", b"2")
        batch.put(b"c", b"2")
    last = records_in(env, 1)[-1]
    end = last[0] + HEADER_BYTES + 2
    assert end > start + MARK_BYTES
    for size in range(start, end):
        with open_at(cut_file(env, 1, size)) as again:
            assert content(again) == {b"a": b"1"}, f"the file was cut to {size} bytes, in the batch of {start} to {end}"
    with open_at(cut_file(env, 1, end)) as again:
        assert content(again) == {b"a": b"2", b"b": b"2", b"c": b"2"}, "the batch is whole"


def test_a_batch_is_what_its_mark_says() -> None:
    """What isn't synced reaches the disk in any order, and where it is missing there may be anything: zeros, or whole
    records of somebody else."""
    batch = [encode_record(7, key, b"a value") for key in (b"b", b"c", b"d")]
    before, body = encode_record(7, b"a", b"1"), b"".join(batch)
    mark = Mark(1, len(before), 0, len(batch), len(body), crc32(body))
    whole = before + encode_mark(7, mark) + body
    entries, end = scan_entries(whole, len(whole), 1)
    assert {key for _, _, _, key in entries} >= {b"a", b"b", b"c", b"d"} and end == len(whole)
    foreign = encode_record(7, b"c", b"another")
    for number in range(len(batch)):
        for there in (bytes(len(batch[number])), foreign):
            found = b"".join([*batch[:number], there, *batch[number + 1 :]])
            data = before + encode_mark(7, mark) + found
            with pytest.raises(BadRecord) as caught:
                scan_entries(data, len(data), 1)
            assert caught.value.offset == len(before), f"record {number} of the batch is another one: none of it counts"
    more = whole + encode_record(7, b"e", b"later")
    for stop in range(len(before) + MARK_BYTES, len(whole)):
        with pytest.raises(BadRecord) as caught:
            scan_entries(more, stop, 1)
        assert caught.value.offset == len(before), f"the file's records end at {stop}: the batch is not whole"


def test_an_overwrite_that_is_torn_leaves_the_old_value() -> None:
    """The old one lies in an older file, so the new one has a tombstone before it. A cut between the two is no deletion."""
    env = SimEnv(0)
    with open_at(env) as store:
        store.put(b"a", b"old")
    store = open_at(env)
    store.put(b"a", b"new")
    [(_, _, _, tombstone), (start, _, _, _)] = records_in(env, 2)
    assert tombstone.startswith(b"bitcask_tombstone2")
    end = start + HEADER_BYTES + 4
    for size in range(end):
        with open_at(cut_file(env, 2, size)) as again:
            assert content(again) == {b"a": b"old"}, f"the new file was cut to {size} of {end} bytes"
    with open_at(cut_file(env, 2, end)) as again:
        assert content(again) == {b"a": b"new"}


def test_what_was_shown_after_a_kill_stays_after_a_power_cut() -> None:
    """A killed process leaves its writes to the operating system, and the next one shows them. So it syncs them first."""
    env = SimEnv(0)
    store = open_at(env)
    store.put(b"a", b"1", sync=True)
    store.put(b"b", b"2", sync=False)
    after_kill = killed(env)
    again = open_at(after_kill)
    assert content(again) == {b"a": b"1", b"b": b"2"}
    after_power_cut = after_kill.crash(Policy.NOTHING, random.Random(0))
    with open_at(after_power_cut) as last:
        assert content(last) == {b"a": b"1", b"b": b"2"}, "b was shown after the kill, and is gone after a power cut"


def test_a_file_that_is_whole_is_synced_too() -> None:
    """Nothing is cut from it; but nobody knows whether its writer has synced it."""
    env = SimEnv(0)
    env.makedirs("/db", "test")
    file = env.open(file_name(1), "x")
    file.append(bytes.fromhex(REAL[1]))
    file.close()
    env.sync_dir("/db", "test")
    shown = content(open_at(env))
    assert len(shown) == 3
    with open_at(env.crash(Policy.NOTHING, random.Random(0))) as last:
        assert content(last) == shown, "what was shown is gone after a power cut, though nothing had to be cut"


# ---- all of it --------------------------------------------------------------------------------------------------------


def test_a_store_agrees_with_a_dict(rng: random.Random, history: History) -> None:
    """The suite of chapter 1, with reopenings."""
    for _ in range(rounds(64)):
        model_run(open_at, rng, history, steps=100, without={"compact", "load"})


def test_acknowledged_writes_survive_a_power_cut_after_any_call(seed: int, history: History) -> None:
    """In each of eight ways that a disk may look afterwards; and nothing is there that was not written."""
    subject = store_subject("bitcask", steps=12, without={"compact", "load"})
    for number in range(rounds(6)):
        report = power_cuts(subject, seed + number, history)
        assert report.calls > 15
