"""Chapter 8: version edits, CURRENT, recovery and what it cleans up."""

from __future__ import annotations

import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import engines
from engines.coding import DecodeError
from engines.env import Env, real_env
from engines.errors import CorruptionError
from engines.faultenv import FaultEnv
from engines.kvstore import Stats
from engines.log import LogWriter, encode_record
from engines.lsm import manifest
from engines.lsm.keys import DELETION, VALUE, internal_key
from engines.lsm.manifest import VersionSet, set_current
from engines.lsm.recovery import Replay, logs_to_replay
from engines.lsm.store import LsmStore
from engines.lsm.version import COMPARATOR, FileMeta, VersionEdit
from engines.lsm.wal import encode_batch
from engines.simenv import Call, Policy, SimEnv
from tests.chapters.kit import History, model_run, power_cuts, rounds, store_subject

GOLDEN = Path(__file__).parents[1] / "lsm" / "golden"
SMALL = {"write_buffer_bytes": 600, "max_file_bytes": 400, "block_bytes": 128, "max_manifest_bytes": 700}


def key(text: str, sequence: int = 100, kind: int = VALUE) -> bytes:
    return internal_key(text.encode(), sequence, kind)


def opened(env: SimEnv, **options: object) -> LsmStore:
    store = engines.open("/db", "lsm", env=env, background=False, plain=True, **{**SMALL, **options})
    assert isinstance(store, LsmStore)
    return store


def put_file(env: SimEnv, path: str, content: bytes = b"") -> None:
    file = env.open(path, "w")
    file.append(content)
    file.close()


def images(env: SimEnv, rng: random.Random) -> Iterator[tuple[Policy, SimEnv]]:
    """The disks that a power cut may leave now."""
    return ((policy, env.crash(policy, rng)) for policy in Policy)


def an_edit(rng: random.Random) -> VersionEdit:
    """Any edit: numbers of all sizes, 0 and None among them."""

    def number() -> int:
        return rng.choice((0, 1, 127, 128, rng.randrange(1 << 20), rng.randrange(1 << 63)))

    def file() -> FileMeta:
        first, last = sorted(rng.choices(("", "a", "key", "k" * 200), k=2))
        return FileMeta(number(), number(), key(first, 9), key(last, 7))

    edit = VersionEdit(*(rng.choice((None, number())) if at else rng.choice((None, b"any name")) for at in range(5)))
    edit.compact_pointers = [(rng.randrange(7), key("p", 3)) for _ in range(rng.randrange(3))]
    edit.deleted = sorted((rng.randrange(7), number()) for _ in range(rng.randrange(4)))
    edit.added = [(rng.randrange(7), file()) for _ in range(rng.randrange(4))]
    return edit


# ---- the bytes of an edit -------------------------------------------------------------------------------------------


def test_an_edit_has_leveldbs_bytes() -> None:
    """LevelDB's db/version_edit.cc: tags 1, 2, 9, 3, 4, then pointers, deleted and new files. The deleted are sorted."""
    edit = VersionEdit(b"leveldb.BytewiseComparator", 3, 0, 5, 9)
    edit.compact_pointers = [(1, key("p", 1))]
    edit.deleted = [(2, 7), (0, 8)]
    edit.added = [(1, FileMeta(4, 300, key("a", 2), key("z", 3, DELETION)))]
    expected = (
        "01 1a 6c 65 76 65 6c 64 62 2e 42 79 74 65 77 69 73 65 43 6f 6d 70 61 72 61 74 6f 72 02 03 09 00 03 05 04 09 "
        "05 01 09 70 01 01 00 00 00 00 00 00 06 00 08 06 02 07 "
        "07 01 04 ac 02 09 61 01 02 00 00 00 00 00 00 09 7a 00 03 00 00 00 00 00 00"
    )
    assert edit.encode().hex(" ") == expected


@pytest.mark.parametrize(("edit", "raw"), [(VersionEdit(), ""), (VersionEdit(log_number=0), "02 00")])
def test_zero_is_written_and_none_is_not(edit: VersionEdit, raw: str) -> None:
    """A log number of 0 says something; a log number of None says: as before."""
    assert edit.encode().hex(" ") == raw


def test_an_edit_comes_back_as_it_was(rng: random.Random) -> None:
    """encode and decode are each other's inverse, for every field."""
    for _ in range(rounds(400)):
        edit = an_edit(rng)
        raw = edit.encode()
        found = VersionEdit.decode(raw)
        assert (repr(found), found.added) == (repr(edit), edit.added), f"decoded from {raw.hex(' ')[:300]}"


def test_tags_are_read_in_any_order_and_the_last_number_counts() -> None:
    """A reader believes what is there, and not the order in which LevelDB happens to write it."""
    edit = VersionEdit.decode(bytes.fromhex("04 09 06 02 07 02 03 06 00 08 02 05"))
    assert (edit.last_sequence, edit.log_number, edit.deleted) == (9, 5, [(2, 7), (0, 8)])
    assert edit.next_file_number is None


def test_a_deeper_level_is_read_only_where_it_is_allowed() -> None:
    """A dump shows other programs' levels; a store has seven."""
    assert VersionEdit.decode(bytes.fromhex("06 09 01"), levels=12).deleted == [(9, 1)]
    key_a = "09 61 01 01 00 00 00 00 00 00"
    for raw in ("06 07 01", f"05 07 {key_a}", f"07 07 05 10 {key_a} {key_a}"):
        with pytest.raises(DecodeError, match="level 7"):
            pytest.fail(f"{raw} has a level 7, and gave {VersionEdit.decode(bytes.fromhex(raw))}")


@pytest.mark.parametrize("raw", ["08 00", "0b 00", "02", "06 01", "01 05 61", "05 01 03 61 62 63", "07 00 05 10 09 61"])
def test_a_damaged_edit_is_refused(raw: str) -> None:
    """An unknown tag, an end in the middle of a field, a key without its trailer: DecodeError, and nothing else."""
    with pytest.raises(DecodeError):
        VersionEdit.decode(bytes.fromhex(raw))


def test_a_manifest_of_another_program_is_read(tmp_path: Path) -> None:
    """goleveldb, the LevelDB written in Go, made it; tests/lsm/golden/README.md has the commands."""
    with tarfile.open(GOLDEN / "goleveldb.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    versions = manifest.read(real_env(), str(tmp_path), Stats())
    names = {name.name for name in tmp_path.iterdir()}
    live = {file.number for _, file in versions.current.files()}
    assert live and all({f"{number:06d}.ldb", f"{number:06d}.sst"} & names for number in live)
    assert versions.log_number and f"{versions.log_number:06d}.log" in names
    assert versions.next_file_number > max(live)


# ---- CURRENT and the manifest under power cuts ----------------------------------------------------------------------


def a_directory() -> SimEnv:
    env = SimEnv()
    env.makedirs("/db", "test")
    env.sync_dir("/", "test")
    return env


def after_each_call(env: SimEnv, act: Callable[[], object], look: Callable[[str, SimEnv], None], seed: int) -> None:
    """Does `act`, and hands every disk that a power cut may leave after each of its calls to `look`."""
    rng = random.Random(seed)

    def cut(call: Call) -> None:
        for policy, image in images(env, rng):
            look(f"power cut after {call.kind} {call.path} {call.site}, left is {policy.meaning}", image)

    env.after_call = cut
    act()
    env.after_call = None


def test_current_names_the_old_manifest_or_the_new_one(seed: int) -> None:
    """Whenever the power is cut; and after set_current has returned, it is the new one."""
    env = a_directory()
    set_current(env, "/db", 1)
    names = (b"MANIFEST-000001\n", b"MANIFEST-000002\n")
    assert env.files()["/db/CURRENT"] == names[0]

    def look(when: str, image: SimEnv) -> None:
        assert image.files().get("/db/CURRENT") in names, when

    after_each_call(env, lambda: set_current(env, "/db", 2), look, seed)
    for policy, image in images(env, random.Random(seed)):
        assert image.files().get("/db/CURRENT") == names[1], f"set_current has returned; left is {policy.meaning}"
    assert [name for name in env.list("/db") if name.endswith("dbtmp")] == []
    assert env.open_files == 0, "set_current has returned, and its file is still open"
    for nth in range(1, 20):
        faulty = FaultEnv(disk := a_directory(), 1 << 60)
        faulty.fail_at = nth
        try:
            set_current(faulty, "/db", 1)
        except OSError:
            assert disk.open_files == 0, f"{faulty.fired} has failed, and the file is still open"
        else:
            break


def test_a_new_store_is_there_as_a_whole_or_not_at_all(seed: int) -> None:
    """create: where CURRENT is, there is a complete manifest; afterwards both are durable."""
    env, stats = a_directory(), Stats()

    def look(when: str, image: SimEnv) -> None:
        if image.exists("/db/CURRENT"):
            versions = manifest.read(image, "/db", Stats())
            assert (versions.next_file_number, versions.last_sequence, versions.log_number) == (2, 0, 0), when

    after_each_call(env, lambda: manifest.create(env, "/db", stats), look, seed)
    after = env.crash(Policy.NOTHING, random.Random(seed))
    assert after.files()["/db/CURRENT"] == b"MANIFEST-000001\n", "create has returned, and a power cut takes it back"
    assert list(manifest.read(after, "/db", Stats()).current.files()) == []
    assert (stats.bytes_written, stats.fsyncs) == (len(env.files()["/db/MANIFEST-000001"]), 4)
    expected = VersionEdit(COMPARATOR, log_number=0, next_file_number=2, last_sequence=0)
    assert manifest.edits_of(env, "/db/MANIFEST-000001") == [expected], "the one edit of a new store"
    assert env.open_files == 0, "create has returned, and a file is still open"


def test_a_manifest_that_is_cut_short_is_refused() -> None:
    """read: without the numbers that every manifest has, nobody knows where the store was."""
    env = a_directory()
    file = env.open("/db/MANIFEST-000001", "w")
    LogWriter(file).append(VersionEdit(COMPARATOR, log_number=0, next_file_number=2).encode())
    file.close()
    set_current(env, "/db", 1)
    with pytest.raises(CorruptionError, match="last-sequence-number"):
        manifest.read(env, "/db", Stats())


def file_of(number: int) -> FileMeta:
    return FileMeta(number, 10, key(f"k{number:03d}"), key(f"k{number:03d}x"))


def numbers_of(versions: VersionSet) -> list[int]:
    return sorted(file.number for _, file in versions.current.files())


def a_version_set(env: Env, stats: Stats) -> VersionSet:
    """An open VersionSet with one file, as recovery leaves it."""
    manifest.create(env, "/db", Stats())
    versions = manifest.recover(env, "/db", stats)
    number = versions.new_number()
    versions.begin_manifest(
        VersionEdit(log_number=0, last_sequence=1, added=[(0, file_of(number))]), versions.new_number()
    )
    return versions


def test_nobody_sees_a_version_that_a_power_cut_takes_back(seed: int) -> None:
    """append_edit: what the current version has is on the disk at that moment, under the worst of power cuts."""
    env, stats = a_directory(), Stats()
    versions = a_version_set(env, stats)

    def look(when: str, image: SimEnv) -> None:
        found = numbers_of(manifest.read(image, "/db", Stats()))
        assert set(found) >= set(numbers_of(versions)), f"{when}: files {found}, but readers see {numbers_of(versions)}"

    for _ in range(3):
        edit = VersionEdit(added=[(0, file_of(versions.new_number()))])
        written, synced = stats.bytes_written, stats.fsyncs
        size = versions.manifest_bytes
        after_each_call(env, lambda edit=edit: versions.append_edit(edit), look, seed)  # type: ignore[misc]
        assert numbers_of(versions)[-1] == edit.added[0][1].number, "append_edit has to absorb the edit"
        counted, expected = (stats.bytes_written - written, stats.fsyncs - synced), (versions.manifest_bytes - size, 1)
        assert counted == expected, (
            f"stats: (bytes, fsyncs) {expected} were expected for one edit, {counted} was counted"
        )
    after = manifest.read(env.crash(Policy.NOTHING, random.Random(seed)), "/db", Stats())
    assert numbers_of(after) == numbers_of(versions), "append_edit has returned, and a power cut takes the edit back"
    assert (after.next_file_number, after.last_sequence) == (versions.next_file_number, 1), "the edit has its numbers"


@pytest.mark.parametrize("begin", [False, True], ids=["append_edit", "begin_manifest"])
def test_an_edit_that_the_disk_refuses_is_not_seen(begin: bool) -> None:
    """Each write, sync and rename fails in turn (EIO): then the version is the old one."""
    for nth in range(1, 20):
        env = FaultEnv(a_directory(), 1 << 60)
        versions = a_version_set(env, Stats())
        before, number = numbers_of(versions), versions.new_number()
        edit = VersionEdit(log_number=0, last_sequence=2, added=[(0, file_of(versions.new_number()))])
        env.fail_at = env.calls + nth
        try:
            versions.begin_manifest(edit, number) if begin else versions.append_edit(edit)
        except OSError:
            assert numbers_of(versions) == before, f"{env.fired} has failed, and readers see the edit"
        else:
            assert numbers_of(versions) != before and nth > 2, "nothing has failed: is the edit on disk?"
            return
    raise AssertionError("it makes too many calls")


def test_a_new_manifest_counts_when_it_is_complete(seed: int) -> None:
    """begin_manifest: after a power cut, the state before the edit or the one after it; all old files are in it."""
    env, stats = a_directory(), Stats()
    versions = a_version_set(env, stats)
    before = numbers_of(versions)
    edit = VersionEdit(
        log_number=0, last_sequence=5, added=[(1, file_of(versions.new_number()))], deleted=[(0, before[0])]
    )
    edit.compact_pointers = [(0, key("k"))]
    expected = [edit.added[0][1].number]
    number, written, synced = versions.new_number(), stats.bytes_written, stats.fsyncs

    def look(when: str, image: SimEnv) -> None:
        found = numbers_of(manifest.read(image, "/db", Stats()))
        assert found in (before, expected), f"{when}: files {found}, neither {before} nor {expected}"
        assert found == expected or numbers_of(versions) == before, f"{when}: readers see what isn't on disk"

    after_each_call(env, lambda: versions.begin_manifest(edit, number), look, seed)
    after = env.crash(Policy.NOTHING, random.Random(seed))
    found = manifest.read(after, "/db", Stats())
    assert (numbers_of(found), found.last_sequence) == (expected, 5)
    assert found.compact_pointers == {0: key("k")}
    assert after.files()["/db/CURRENT"] == f"MANIFEST-{number:06d}\n".encode()
    assert versions.number == number, f"the manifest is number {number} now, but versions.number is {versions.number}"
    assert versions.manifest_bytes == len(after.files()[f"/db/MANIFEST-{number:06d}"]), "_writer is the new manifest's"
    counted = (stats.bytes_written - written, stats.fsyncs - synced)
    assert counted == (versions.manifest_bytes, 4), f"stats: all bytes of the manifest and 4 fsyncs, not {counted}"


def test_a_snapshot_is_the_version_before_the_edit() -> None:
    """Two records: a manifest that begins with the edit, too, would add a file twice."""
    env = a_directory()
    versions = a_version_set(env, Stats())
    old, new = numbers_of(versions)[0], versions.new_number()
    versions.begin_manifest(
        VersionEdit(log_number=0, last_sequence=2, added=[(0, file_of(new))]), versions.new_number()
    )
    edits = manifest.edits_of(env, manifest.manifest_path(env, "/db"))
    assert [[file.number for _, file in edit.added] for edit in edits] == [[old], [new]]
    assert edits[0].comparator == b"leveldb.BytewiseComparator"


# ---- numbers and orphans --------------------------------------------------------------------------------------------


def test_a_number_is_never_given_out_twice() -> None:
    """skip_numbers: above everything that is in the directory, and never lower than it was."""
    versions = VersionSet(SimEnv(), "/db", Stats())
    for used, expected in (([], 2), ([3, 7, 5], 8), ([5], 8), ([8], 9)):
        versions.skip_numbers(iter(used))
        found = versions.next_file_number
        assert found == expected, f"after skip_numbers of {used}, {expected} is the next number, and {found} was found"
    assert versions.new_number() == 9


def test_what_a_crash_left_behind_is_deleted_and_its_numbers_are_not_used() -> None:
    """Orphans of each kind, with high numbers; and files of other names, which are not ours."""
    env = SimEnv()
    with opened(env) as store:
        for number in range(20):
            store.put(b"%d" % number, b"x" * 60)
        store.flush()
        expected = list(store.scan())
    before = {name for name in env.list("/db") if name.endswith(".ldb")}
    orphans = ["000060.ldb", "000061.sst", "MANIFEST-000001", "000003.dbtmp", "000062.ldb.4711"]
    for name in [*orphans, "notes.txt", "backup.ldb"]:
        put_file(env, f"/db/{name}", b"left behind")
    created: list[str] = []
    env.after_call = lambda call: created.append(call.path) if call.kind == "create" else None
    with opened(env) as store:
        assert list(store.scan()) == expected
        names = set(env.list("/db"))
        store.put(b"more", b"1")
        store.flush()
    assert not names & set(orphans), "these are orphans, and still there"
    assert names >= before | {"notes.txt", "backup.ldb", "CURRENT"}, "these are no orphans"
    numbers = [
        int("".join(filter(str.isdigit, name)))
        for name in (path.rpartition("/")[2] for path in created)
        if name[-1] != "K"
    ]
    assert min(numbers) > 62, f"{created}: a file of an earlier life has number 62"


def test_a_table_stays_while_a_scan_reads_it() -> None:
    """obsolete asks for live_files: also those of versions that a reader still holds."""
    env = SimEnv()
    with opened(env, max_open_files=1) as store:
        for number in range(60):
            store.put(b"%02d" % number, b"x" * 60)
        store.flush()
        scan = store.scan()
        assert next(scan) == (b"00", b"x" * 60)
        tables = {name for name in env.list("/db") if name.endswith(".ldb")}
        store.load([(b"new", b"1")])
        assert tables <= set(env.list("/db")), "a scan from before the load still reads these tables"
        assert [key for key, _ in scan] == [b"%02d" % number for number in range(1, 60)]
        del scan
        store.put(b"x", b"1")
        store.flush()
        assert not tables & set(env.list("/db")), "nobody reads these tables any more"


def test_what_is_needed_is_not_obsolete() -> None:
    """Kind by kind: tables in the making, the logs from log_number on, the manifest that counts."""
    env = a_directory()
    versions = a_version_set(env, Stats())
    versions.log_number, versions.previous_log_number = 20, 17
    versions.next_file_number = 40
    (live,) = numbers_of(versions)
    counts = versions.number
    files = [("ldb", live), ("sst", live), ("ldb", 30), ("ldb", 31), ("ldb", 40), ("part", 30), ("part", 31)]
    files += [("log", number) for number in (16, 17, 18, 20, 21)]
    files += [("manifest", counts - 1), ("manifest", counts), ("manifest", counts + 1), ("dbtmp", 12)]
    gone = versions.obsolete([(kind, number, f"{kind}{number}") for kind, number in files], {30})
    expected = {"ldb31", "part31", "log16", "log18", f"manifest{counts - 1}", "dbtmp12"}
    named = {name for _, name in gone}
    assert named == expected, (
        f"needed, and to go: {sorted(named - expected)}; to go, and kept: {sorted(expected - named)}"
    )
    assert all(name.endswith(str(number)) for number, name in gone), "(number, name) of each"


# ---- recovery -------------------------------------------------------------------------------------------------------


def test_a_store_opens_again_with_what_it_had(rng: random.Random, history: History) -> None:
    """Every kind of operation, and many reopens, against a dict."""
    for _ in range(rounds(40)):
        model_run(lambda env: opened(env), rng, history, steps=150)


def test_only_logs_that_are_in_no_table_are_replayed() -> None:
    """An older log may be there when a crash kept it from being deleted. Oldest first, whatever the disk lists first."""
    env = SimEnv()
    with opened(env) as store:
        for number in (103, 99, 100, 98):
            put_file(env, f"/db/{number:06d}.log")
        put_file(env, "/db/000101.ldb")
        versions = store.core.versions
        versions.log_number, versions.previous_log_number = 100, 98
        found, expected = logs_to_replay(store.core), [f"/db/{number:06d}.log" for number in (98, 100, 103)]
        assert found == expected, "the manifest says: log number 100, previous log number 98"


def test_sequences_go_on_where_they_were(seed: int) -> None:
    """A sequence for each operation and no more, over reopens: goleveldb skips log records if the manifest's last
    sequence is too high (google/leveldb#750)."""
    env, written = SimEnv(), 0
    for life in range(3):
        with opened(env) as store:
            assert store.snapshot().sequence == written, f"life {life}: {written} operations were written"
            for number in range(25):
                with store.batch() as batch:
                    batch.put(b"%d" % number, b"x" * 20)
                    batch.delete(b"gone")
                written += 2
    versions = manifest.read(env, "/db", Stats())
    assert versions.last_sequence <= written


def test_a_manifest_that_is_ahead_of_its_log_keeps_its_sequence() -> None:
    """LevelDB may note a last sequence that is above what the first log has: the sequence never goes back, or the next
    write would be older than what is in tables."""
    env = SimEnv()
    with opened(env) as store:
        put_file(env, "/db/000200.log", encode_record(0, encode_batch(5, [(b"a", b"1"), (b"b", None), (b"c", b"3")])))
        store.core.versions.last_sequence = 10
        replay = Replay(store.core)
        replay.feed("/db/000200.log")
        assert replay.sequence == 10, "the manifest says 10, and the log ends at 7"
        assert [(part.lowest, part.highest, len(part.memtable)) for part in replay.filled] == [(5, 7, 3)]
        store.core.versions.last_sequence = 0


def test_a_long_log_becomes_several_tables() -> None:
    """Replay.feed: a memtable that has reached write_buffer_bytes gives way to the next one, and no batch is split."""
    env = SimEnv()
    with opened(env, write_buffer_bytes=1 << 20) as store:
        for number in range(40):
            with store.batch() as batch:
                for part in range(3):
                    batch.put(b"%02d.%d" % (number, part), b"x" * 40)
        expected = list(store.scan())
    no_compaction = {"level0_files": 99, "level0_slowdown_files": 99, "level0_stop_files": 99}
    with opened(env, max_file_bytes=1 << 20, **no_compaction) as store:
        tables = store.core.versions.current.levels[0]
        assert len(tables) >= 8, "some 6,000 bytes of log, and memtables of 600"
        assert all(file.first.endswith(b".0") and file.last.endswith(b".2") for file in tables), "a batch was split"
        assert list(store.scan()) == expected
        assert store.check() == []


def test_a_reader_is_not_shown_what_the_next_power_cut_takes(rng: random.Random) -> None:
    """After kill -9, records are in the page cache only. Recovery puts them into synced tables before it shows them."""
    env = SimEnv()
    store = opened(env, write_buffer_bytes=1 << 20)
    for number in range(10):
        store.put(b"%d" % number, b"x", sync=False)
    killed = env.crash(Policy.EVERYTHING, rng)
    again = opened(killed)
    seen = list(again.scan())
    assert len(seen) == 10, "kill -9 takes nothing that was written"
    for policy, image in images(killed, rng):
        assert list(opened(image).scan()) == seen, f"a power cut after the recovery leaves {policy.meaning}"


def test_manifests_stay_small(rng: random.Random) -> None:
    """An edit after max_manifest_bytes begins a new manifest, and the old one goes."""
    env = SimEnv()
    numbers = set()
    with opened(env) as store:
        for number in range(500):
            store.put(b"%03d" % rng.randrange(40), b"x" * 60)
            if number % 10 == 0:
                store.load([(b"%03d" % number, b"loaded")])
            numbers.add(store.core.versions.number)
            assert store.core.versions.manifest_bytes < 700 + 700, "700 bytes are the limit, and one edit is allowed"
        assert len([name for name in env.list("/db") if name.startswith("MANIFEST")]) == 1
        expected = list(store.scan())
    assert len(numbers) > 3
    with opened(env) as store:
        assert list(store.scan()) == expected


def test_no_manifest_names_a_file_that_is_not_there(rng: random.Random) -> None:
    """In every image of a power cut, each table of the manifest that CURRENT names is there with its size, and the log
    from which recovery begins."""
    env = SimEnv()
    cuts = 0

    def look(call: Call) -> None:
        nonlocal cuts
        for policy in (Policy.NOTHING, Policy.REORDER, Policy.NAMES_WITHOUT_DATA):
            image = env.crash(policy, rng)
            if not image.exists("/db/CURRENT"):
                assert cuts < 30, "CURRENT was there, and is gone"
                continue
            files = image.files()
            versions = manifest.read(image, "/db", Stats())
            for level, file in versions.current.files():
                size = len(files.get(f"/db/{file.number:06d}.ldb", b""))
                assert size == file.size_bytes, (
                    f"after {call}, {policy.meaning}: level {level}, {file} has {size} bytes"
                )
            if versions.log_number:
                assert f"/db/{versions.log_number:06d}.log" in files, f"after {call}, {policy.meaning}: its log is gone"
            cuts += 1

    env.after_call = look
    for life in range(2):
        with opened(env) as store:
            for _ in range(6 if life else rounds(16) + 8):
                store.put(b"%d" % rng.randrange(9), b"x" * 100)
            store.load([(b"%d" % life, b"1")])
    assert cuts > 100


def test_a_power_cut_after_any_call_loses_nothing(seed: int, history: History) -> None:
    """put, batch, flush, load, close and open: cut after every call, and in the recovery after that once more."""
    for number in range(rounds(2)):
        subject = store_subject("lsm", logs=("*.log",), steps=8, plain=True, **SMALL)
        power_cuts(subject, seed + number, history, second_cut_share=0.01)
