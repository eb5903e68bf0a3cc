"""Chapter 4: files of a limited size, hint files, and merges that give space back and bring no deleted key back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import pytest

from engines.bitcask.hint import TOMBSTONE_BIT, BadHint, decode_hint, encode_entry, encode_hint, hint_reach
from engines.bitcask.merge import tombstone_stays
from engines.bitcask.policy import choose, is_compact
from engines.bitcask.record import encode_record, encode_tombstone, is_tombstone, read_records, tombstone_file
from engines.bitcask.segment import Segment
from engines.bitcask.store import BitcaskStore
from engines.env import File
from engines.errors import CorruptionError
from engines.simenv import Call, Policy, SimEnv
from tests.bitcask.riak_files import content, data_path, open_sim, put_file, sealed_ids
from tests.chapters.kit import History, power_cuts, rounds
from tests.crash.bitcask_subject import MERGES, BitcaskSubject
from tests.crash.machine import Step

# written by Riak's Bitcask (erlang-bitcask 2.1.0), its clock stopped at 1: a=1, b=22, c=333, each in a record of its own
RIAKS_ENTRIES = [(1, 16, 0, b"a"), (1, 17, 16, b"b"), (1, 18, 33, b"c")]
RIAKS_HINT = bytes.fromhex(
    "00000001 0001 00000010 0000000000000000 61  00000001 0001 00000011 0000000000000010 62"
    "  00000001 0001 00000012 0000000000000021 63  00000000 0000 c5efe06c 7fffffffffffffff"
)


def hint_of(entries: list[tuple[int, int, int, bytes]]) -> bytes:
    return encode_hint(encode_entry(*entry) for entry in entries)


def hint_files(env: SimEnv) -> list[str]:
    return [path for path in env.files() if path.endswith(".hint")]


def data_files(env: SimEnv) -> dict[int, bytes]:
    """File id → bytes, oldest first."""
    paths = [path for path in env.files() if path.endswith(".bitcask.data")]
    ids = sorted(int(path.rpartition("/")[2].partition(".")[0]) for path in paths)
    return {file_id: env.files()[data_path(file_id)] for file_id in ids}


def records_of(env: SimEnv) -> Iterator[tuple[int, bytes, bytes]]:
    """(file id, key, value) of every record in the data files, tombstones included, oldest first."""
    for file_id, data in data_files(env).items():
        for _, _, key, value in read_records(data, 0, len(data)):
            yield file_id, key, value


# ---- hints ------------------------------------------------------------------------------------------------------------


def test_a_hint_has_the_bytes_that_riak_writes() -> None:
    """FORMAT.md, "A hint file"; the vector is the real Bitcask's."""
    found = hint_of(RIAKS_ENTRIES)
    assert found == RIAKS_HINT, f"Riak writes\n{RIAKS_HINT.hex(' ', -4)}, and encode_hint gave\n{found.hex(' ', -4)}"
    assert list(decode_hint(RIAKS_HINT)) == RIAKS_ENTRIES


def test_a_hint_gives_back_what_went_in(rng: random.Random) -> None:
    """Any keys, any number of them, none too; and tombstones keep their bit."""
    for _ in range(rounds(80)):
        entries = [
            (
                rng.randrange(1 << 32),
                rng.randrange(1 << 32),
                rng.randrange(1 << 47) | rng.choice((0, TOMBSTONE_BIT)),
                rng.randbytes(rng.choice((0, 1, 3, 300))),
            )
            for _ in range(rng.choice((0, 1, 2, 20)))
        ]
        assert list(decode_hint(hint_of(entries))) == entries


def test_a_hint_that_is_cut_or_changed_is_refused() -> None:
    """Every prefix of it, and every flipped bit: a wrong place would be a wrong answer. (One bit is free: the trailer's
    offset may be 2**63 - 1 or, from old writers, 2**64 - 1.)"""
    for size in range(len(RIAKS_HINT)):
        with pytest.raises(BadHint):
            list(decode_hint(RIAKS_HINT[:size]))
            pytest.fail(f"the first {size} of {len(RIAKS_HINT)} bytes were taken for a hint")
    for at in range(len(RIAKS_HINT)):
        for bit in range(8):
            if (at, bit) == (len(RIAKS_HINT) - 8, 7):
                continue
            damaged = RIAKS_HINT[:at] + bytes((RIAKS_HINT[at] ^ 1 << bit,)) + RIAKS_HINT[at + 1 :]
            with pytest.raises(BadHint):
                list(decode_hint(damaged))
                pytest.fail(f"bit {bit} of byte {at} was flipped, and the hint was taken")


def test_a_hint_says_where_its_file_ends() -> None:
    """In any order of the entries, and the bit of a tombstone is no part of its offset."""
    entries = [(5, 16, 0, b"a"), (7, 40, 16 | TOMBSTONE_BIT, b"key"), (6, 20, 56, b"c")]
    for size, expected in ((0, (0, 0)), (1, (16, 5)), (2, (56, 7)), (3, (76, 7))):
        for order in (entries[:size], entries[:size][::-1]):
            assert hint_reach(iter(order)) == expected, f"hint_reach of {order}"


def test_opening_with_hints_reads_a_small_part_of_the_data() -> None:
    """What hints are for, by the counter of bytes read: at most a twentieth of the data, with values of 500 bytes."""
    env = SimEnv()
    with open_sim(env, max_file_size=20_000) as store:
        for number in range(200):
            store.put(b"key%03d" % number, b"%03d" % number + b"." * 500, sync=False)
    data_bytes = sum(len(data) for data in data_files(env).values())
    assert len(hint_files(env)) == len(data_files(env)) > 4, f"a hint for each data file: {sorted(env.files())}"
    with open_sim(env, max_file_size=20_000) as store:
        read = store.stats().bytes_read
        assert 0 < read <= data_bytes / 20, f"{read:,} bytes were read to open {data_bytes:,} bytes of data"
        assert len(list(store.scan())) == 200


def test_without_hints_or_with_damaged_ones_the_same_is_found(rng: random.Random) -> None:
    """A hint is a help and never the only place of anything; and a new one is written where one was missing."""
    env = SimEnv()
    with open_sim(env) as store:
        for number in range(30):
            store.put(b"key%d" % rng.randrange(9), b"value %d" % number)
        store.delete(b"key1")
        expected = dict(store.scan())
    hints = {path: data for path, data in env.files().items() if path.endswith(".hint")}
    assert len(hints) > 2, f"there are {len(hints)} hints, and more data files than that"
    for path, hint in hints.items():
        at = rng.randrange(len(hint) - 8)
        for damaged in (None, b"", hint[:at], hint[:at] + bytes((hint[at] ^ 4,)) + hint[at + 1 :]):
            if damaged is None:
                env.unlink(path)
            else:
                env.poke(path, damaged)
            told = "is missing" if damaged is None else f"holds {damaged.hex(' ')}"
            assert content(env) == expected, f"{path} {told}"
            assert env.files().get(path) == hint, f"{path} {told}: opening writes it anew"


# ---- files of a limited size --------------------------------------------------------------------------------------------


def test_a_full_file_is_closed_and_the_next_one_begins() -> None:
    """No file is longer than max_file_size, and no record could have gone into the file before."""
    env = SimEnv()
    with open_sim(env, max_file_size=200) as store:
        for number in range(50):
            store.put(b"k%03d" % number, b"v" * (number % 60))
    sizes = [len(data) for data in data_files(env).values()]
    assert len(sizes) > 5, f"50 records are in {len(sizes)} files"
    assert max(sizes) <= 200, f"files of {sizes} bytes, and 200 are the limit"
    for size, following in zip(sizes, range(2, len(sizes) + 1)):
        _, key, value = next(record for record in records_of(env) if record[0] == following)
        assert size + 14 + len(key) + len(value) > 200, f"file {following - 1} had room for the record of {key!r}"


def test_a_record_that_is_larger_than_a_file_has_one_to_itself() -> None:
    """Else it would find no place at all. No file is left empty before it."""
    env = SimEnv()
    with open_sim(env, max_file_size=100) as store:
        store.put(b"a", b"1")
        store.put(b"large", b"L" * 500)
        store.put(b"b", b"2")
        assert dict(store.scan()) == {b"a": b"1", b"b": b"2", b"large": b"L" * 500}
    assert [(file_id, key) for file_id, key, _ in records_of(env)] == [(1, b"a"), (2, b"large"), (3, b"b")]
    assert Segment(1).is_full(500, 100) is False, "an empty segment takes any record"


# ---- which files, and when ----------------------------------------------------------------------------------------------


def segments(*sizes: tuple[int, int]) -> list[Segment]:
    """Of (bytes, live bytes), with the ids 1, 2, ..."""
    made = []
    for file_id, (end, live_bytes) in enumerate(sizes, 1):
        made.append(Segment(file_id, end))
        made[-1].live_bytes = live_bytes
    return made


def test_the_oldest_files_are_chosen_when_enough_of_them_is_garbage() -> None:
    """The shortest run that has the share; if none has, the shortest that has the bytes."""
    cases: list[tuple[list[Segment], float, int, list[int]]] = [
        (segments((100, 40), (100, 0)), 0.6, 1000, [1]),
        (segments((100, 41), (100, 0)), 0.6, 1000, [1, 2]),
        (segments((100, 90), (100, 90), (100, 90)), 0.6, 20, [1, 2]),
        (segments((100, 90), (100, 0), (100, 0)), 0.6, 5, [1, 2, 3]),
        (segments((100, 90)), 0.6, 11, []),
        (segments((100, 100), (100, 0)), 0.6, 100, [1, 2]),
        ([], 0.6, 1, []),
    ]
    for given, share, dead_bytes, expected in cases:
        told = [(segment.end, segment.live_bytes) for segment in given]
        assert list(choose(given, share, dead_bytes)) == expected, f"choose({told}, {share}, {dead_bytes})"


def test_a_store_without_garbage_is_left_alone() -> None:
    """`compact` of what is compact writes nothing; of two half-empty files it makes one."""
    for sizes, expected in (
        ((), True),
        (((90, 90),), True),
        (((100, 100), (100, 100)), True),
        (((60, 60), (60, 60)), False),
        (((90, 80),), False),
    ):
        assert bool(is_compact(segments(*sizes), 100)) is expected, f"is_compact of {sizes} with files of 100 bytes"
    env = SimEnv()
    with open_sim(env, max_file_size=1000) as store:
        for number in range(20):
            store.put(b"key%d" % (number % 5), b"%d" % number)
        store.compact()
        written = store.stats().bytes_written
        store.compact()
        assert store.stats().bytes_written == written, "the second time there was nothing to get back"
        assert store.stats().dead_bytes == 0, "and the first time there was"


def test_disk_use_is_bounded_by_a_multiple_of_the_live_bytes() -> None:
    """Twenty keys, overwritten for long: with a garbage share of a half, at most twice the live bytes, and the hints, in
    closed files; and the active one. By the store's counters after each write."""
    env = SimEnv()
    with open_sim(env, merge="inline", garbage_share=0.5, max_file_size=1000) as store:
        for number in range(1500):
            store.put(b"key%02d" % (number % 20), b"%04d" % number * 5, sync=False)
            stats = store.stats()
            assert stats.disk_bytes < 6 * stats.live_bytes + 4000, (
                f"after {number + 1} writes {stats.disk_bytes:,} bytes of files hold {stats.live_bytes:,} live ones"
            )
        assert dict(store.scan()) == {b"key%02d" % (n % 20): b"%04d" % n * 5 for n in range(1480, 1500)}


# ---- what a merge copies ------------------------------------------------------------------------------------------------


def overwritten(env: SimEnv, keys: int = 8, times: int = 4) -> dict[bytes, bytes]:
    """A closed store in several files, most of it garbage; what it holds."""
    with open_sim(env) as store:
        for number in range(keys * times):
            store.put(b"key%d" % (number % keys), b"value %d" % number)
        store.delete(b"key0")
        return dict(store.scan())


def test_a_merge_keeps_what_is_live_and_nothing_else() -> None:
    """Each live record once, no tombstone, no file of before: the records have the bytes that they had."""
    env = SimEnv()
    expected = overwritten(env)
    before = set(data_files(env))
    with open_sim(env) as store:
        store.compact()
        stats = store.stats()
        assert stats.dead_bytes == 0, f"{stats.dead_bytes} bytes of garbage are left"
        assert stats.live_bytes == sum(14 + len(key) + len(value) for key, value in expected.items())
        assert dict(store.scan()) == expected and store.check() == []
    assert not before & set(data_files(env)), f"of the merged files are left: {sorted(before & set(data_files(env)))}"
    left = [(key, value) for _, key, value in records_of(env)]
    assert sorted(left) == sorted(expected.items()), "the records that are left are not the live ones"
    outputs = [len(data) for data in data_files(env).values()]
    assert max(outputs) <= 200, f"outputs of {outputs} bytes, and 200 are the limit of a file"
    assert content(env) == expected


def three_generations(env: SimEnv) -> None:
    """1: a value of k; 2: its tombstone; 3: others."""
    for writes in (
        [(b"k", b"dead"), (b"other", b"1")],
        [(b"k", None), (b"another", b"2")],
        [(b"third", b"3")],
    ):
        with open_sim(env) as store:
            for key, value in writes:
                if value is None:
                    store.delete(key)
                else:
                    store.put(key, value)


ALIVE = {b"other": b"1", b"another": b"2", b"third": b"3"}


@pytest.mark.parametrize("chosen", [[1], [2], [3], [1, 2], [1, 3], [2, 3], [1, 2, 3]], ids=str)
def test_deleted_keys_stay_deleted(chosen: list[int], history: History) -> None:
    """basho/bitcask#82: after a merge of any files, a power cut at every call of it, with hints and without."""
    env = SimEnv()
    three_generations(env)
    images: list[tuple[str, SimEnv]] = []
    store = open_sim(env)

    def cut(call: Call) -> None:
        chance = random.Random(call.number)
        for policy in Policy:
            images.append((f"cut after call {call.number}, {call.kind} {call.path}", env.crash(policy, chance)))

    env.after_call = cut
    store.merge(chosen)
    store.close()
    env.after_call = None
    images.append(("no power cut", env))
    seen = set()
    for number, (when, image) in enumerate(images):
        without_hints = number % 2
        if (image.fingerprint(), without_hints) in seen:
            continue
        seen.add((image.fingerprint(), without_hints))
        history.clear()
        history.do("k is put in file 1 and deleted in file 2; others are put")
        history.do(f"store.merge({chosen}); {when}")
        if without_hints:
            for path in hint_files(image):
                image.unlink(path)
            history.do("all hints are removed")
        history.expect("reopen; what is there", ALIVE, content(image))
        with open_sim(image) as again:
            again.merge(sealed_ids(again)[1:])
        history.expect("all files but the oldest are merged; what is there", ALIVE, content(image))


def test_a_tombstone_goes_when_nothing_older_is_left_and_not_earlier() -> None:
    """Dropped too early, the key comes back; kept for ever, it is garbage (basho/bitcask#196)."""
    cases: list[tuple[int, set[int], bool]] = [
        (2, {1}, True),
        (2, {3}, False),
        (5, {7, 4}, True),
        (5, {7, 9}, False),
        (5, set(), False),
    ]
    for file_id, outside, expected in cases:
        found = bool(tombstone_stays(file_id, outside))
        assert found is expected, f"a tombstone of file {file_id} while the files {outside or 'none'} are not merged"
    env = SimEnv()
    three_generations(env)
    with open_sim(env) as store:
        store.merge([2])
        store.merge([1])
        kept = [file_id for file_id, _, value in records_of(env) if is_tombstone(value)]
        assert len(kept) == 1, "file 3 is older than the tombstone's copy, and nobody has looked into it"
        store.merge([3, *kept])
        assert not [1 for _, _, value in records_of(env) if is_tombstone(value)], "now nothing older is left"
    assert content(env) == ALIVE


def test_merges_of_any_files_keep_the_content(rng: random.Random, history: History) -> None:
    """A dozen generations of six keys; merges of every pair of files, with writes and reopenings between them."""
    for _ in range(rounds(8)):
        history.clear()
        env = SimEnv()
        model: dict[bytes, bytes] = {}
        store = history.watch(open_sim(env), "store")
        for step in range(40):
            _write(rng, store, model, step)
        for number, pair in enumerate(combinations(range(6), 2)):
            ids = sealed_ids(store)
            store.merge([ids[at] for at in pair if at < len(ids)])
            assert store.check() == []
            for step in range(3):
                _write(rng, store, model, 100 * number + step)
            history.expect("dict(store.scan())", model, dict(store.scan()))
            if rng.random() < 0.4:
                store.close()
                store = history.watch(open_sim(env), "store")
                history.expect("reopened: dict(store.scan())", model, dict(store.scan()))
        store.compact()
        history.expect("dict(store.scan())", model, dict(store.scan()))
        assert store.stats().dead_bytes == 0, "after `compact` there is no garbage"
        store.close()


def _write(rng: random.Random, store: BitcaskStore, model: dict[bytes, bytes], number: int) -> None:
    key = b"key%d" % rng.randrange(6)
    if rng.random() < 0.4:
        store.delete(key)
        model.pop(key, None)
    else:
        model[key] = b"%d" % number
        store.put(key, model[key])


# ---- while the store goes on ----------------------------------------------------------------------------------------------


def when_copied(store: BitcaskStore, action: Callable[[], None]) -> None:
    """Runs the action once, when the first output of a merge is on the disk, and has no name yet."""
    table, sync = store.core.table, store.core.table.sync
    todo = [action]

    def sync_and_act(file: File, site: str) -> None:
        sync(file, site)
        if site == "bitcask.merge.output" and todo:
            todo.pop()()

    table.sync = sync_and_act  # type: ignore[method-assign]


def test_what_is_written_during_a_merge_stands() -> None:
    """A key that was overwritten or deleted after it was copied keeps its new state; and for each dead copy there is a
    tombstone, as Riak needs one (basho/bitcask: a merge turns a key only if its old place is still the current one)."""
    env = SimEnv()
    with open_sim(env, max_file_size=2000) as store:
        for number in range(8):
            store.put(b"key%d" % number, b"first")
            store.put(b"key%d" % number, b"before")

        def write() -> None:
            store.put(b"key1", b"after")
            store.delete(b"key2")
            store.delete(b"key3")
            store.put(b"key3", b"after all")
            store.put(b"new", b"new")

        when_copied(store, write)
        store.compact()
        expected = {b"key%d" % number: b"before" for number in (0, 4, 5, 6, 7)}
        expected |= {b"key1": b"after", b"key3": b"after all", b"new": b"new"}
        assert dict(store.scan()) == expected, "after a merge during which key1, key2, key3 and new were written"
        assert store.check() == []
    assert content(env) == expected, "after it was opened again"
    output, *_ = [file_id for file_id, key, value in records_of(env) if (key, value) == (b"key4", b"before")]
    named = {key for _, key, value in records_of(env) if is_tombstone(value) and tombstone_file(value) == output}
    assert named >= {b"key1", b"key2", b"key3"}, f"tombstones for the dead copies in file {output}: only of {named}"


def test_readers_see_nothing_of_a_merge() -> None:
    """Gets in the middle of it, a snapshot from before it, and a scan that is held open."""
    env = SimEnv()
    expected = overwritten(env)
    with open_sim(env) as store:
        snapshot, scan = store.snapshot(), store.scan()
        first = next(scan)
        seen: list[dict[bytes, bytes | None]] = []
        env.after_call = lambda call: seen.append({key: store.get(key) for key in [*expected, b"key0"]})
        store.compact()
        env.after_call = None
        assert seen and all(state == {**expected, b"key0": None} for state in seen), "a get during the merge"
        assert dict(snapshot.scan()) == expected, "a snapshot from before the merge"
        assert [first, *scan] == sorted(expected.items()), "a scan that began before the merge"
        snapshot.close()
    assert content(env) == expected


def test_a_merge_that_fails_leaves_no_output_and_loses_nothing() -> None:
    """A record of an input is damaged: CorruptionError, and the inputs stay, of which the rest is readable."""
    env = SimEnv()
    with open_sim(env) as store:
        for number in range(12):
            store.put(b"key%02d" % number, b"v" * 20)
    before = {path for path in env.files() if path.endswith(".data")}
    with open_sim(env) as store:
        data = bytearray(env.files()[data_path(2)])
        data[30] ^= 1
        env.poke(data_path(2), bytes(data))
        with pytest.raises(CorruptionError):
            store.compact()
        assert {path for path in env.files() if path.endswith((".data", ".new"))} == before
        assert store.get(b"key00") == store.get(b"key11") == b"v" * 20


def test_riaks_own_tombstones_are_honoured() -> None:
    """A directory in which Riak has overwritten a value: the tombstone for file 1 stays as long as file 1 does, before
    the value, which it would kill after it. And old Riaks' tombstones say no file."""
    env = SimEnv()
    put_file(env, "1.bitcask.data", encode_record(1, b"k", b"old") + encode_record(1, b"a", b"1"))
    overwrite = encode_tombstone(2, b"k", 1) + encode_record(2, b"k", b"new") + encode_record(2, b"b", b"2")
    put_file(env, "2.bitcask.data", overwrite + encode_record(3, b"a", b"bitcask_tombstone"))
    with open_sim(env) as store:
        store.merge([2])
    records = [(key, value) for file_id, key, value in records_of(env) if file_id > 2]
    assert [tombstone_file(value) for key, value in records if key == b"k" and is_tombstone(value)] == [1]
    assert [value for key, value in records if key == b"k"][-1] == b"new", "after its tombstone, or it would be dead"
    assert content(env) == {b"k": b"new", b"b": b"2"}
    with open_sim(env) as store:
        store.compact()
    assert content(env) == {b"k": b"new", b"b": b"2"}
    assert not [1 for _, _, value in records_of(env) if is_tombstone(value)]


# ---- power cuts -----------------------------------------------------------------------------------------------------------


class MergeSubject(BitcaskSubject):
    """Writes, and a merge of some of the files after every few of them: also with writes in the middle of it, and with
    a snapshot open."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.step_count = steps
        self.options["max_file_size"] = 400

    def _step(self, rng: random.Random, number: int) -> Step:
        kind = MERGES[number // 5 % 3] if number % 5 == 4 else ""
        operations: Any = tuple(self._operation(rng, b"%d.%d" % (number, i)) for i in range(rng.randint(1, 3)))
        if kind:
            return Step(kind, (rng.random(), operations if kind == "written merge" else ()))
        return Step("write", operations, durable=rng.random() < 0.8)


def test_a_power_cut_at_any_step_of_a_merge_loses_nothing(seed: int, history: History) -> None:
    """After every call: also between the rename of an output and the removal of an input. What was acknowledged is there
    and nothing is invented, whatever of the unsynced data and names has reached the disk."""
    policies = [Policy.EVERYTHING, Policy.NOTHING, Policy.NAMES_WITHOUT_DATA, Policy.REORDER]
    overwritten(SimEnv())  # with the power on it works, or a cut would tell nothing
    report = power_cuts(MergeSubject(rounds(14) + 10), seed, history, policies=policies, second_cut_share=0)
    assert report.failed == 0 and report.calls > 50


def test_the_names_of_the_outputs_are_on_the_disk_before_the_inputs_go() -> None:
    """Until a directory is synced, each of its changes may be on the disk or not: the removal of an input, and not the
    new name of an output. A cut after any call of a merge that ends in removals."""
    env = SimEnv()
    expected = overwritten(env)
    images: list[tuple[Call, SimEnv]] = []
    with open_sim(env) as store:
        chance = random.Random(0)
        env.after_call = lambda call: images.extend((call, env.crash(Policy.REORDER, chance)) for _ in range(4))
        store.compact()
        env.after_call = None
    for call, image in images:
        assert content(image) == expected, f"a power cut after call {call.number}, {call.kind} {call.path}"
