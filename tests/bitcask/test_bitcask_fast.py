"""The acceleration: the same files byte for byte, the same answers and the same counters as the plain form."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import engines.bitcask
from engines import CorruptionError, InvalidKey, InvalidValue, ReadOnly, ReservedValue, StoreClosed, WriteBatch
from engines.bitcask.fast import FAST
from engines.bitcask.fast.reading import SHAPES, FastCore
from engines.bitcask.fast.sealing import hint_of_active
from engines.bitcask.parts import PLAIN
from engines.bitcask.record import WINDOW_BYTES, encode_record
from engines.bitcask.scan import hint_of, scan_entries
from engines.bitcask.store import BitcaskStore
from engines.simenv import SimEnv
from tests.bitcask.riak_files import PATH, put_file


class Plain(BitcaskStore):
    parts = PLAIN


class Fast(BitcaskStore):
    parts = FAST


class Watched:
    """A lock that says when somebody asks for it."""

    def __init__(self) -> None:
        self.lock, self.asked = threading.Lock(), threading.Event()
        self.locked = self.lock.locked

    def __enter__(self) -> None:
        self.asked.set()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


class Pair:
    """Two stores of one history, of which one is fast."""

    def __init__(self, **options: Any) -> None:
        self.envs = SimEnv(), SimEnv()
        self.options = options
        self.stores: list[BitcaskStore] = []

    def open(self) -> None:
        self.stores = [kind(PATH, env=env, **self.options) for kind, env in zip((Plain, Fast), self.envs)]

    def do(self, call: Callable[[BitcaskStore], Any]) -> Any:
        """Calls with each store; the answers have to be equal."""
        plain, fast = [call(store) for store in self.stores]
        assert plain == fast
        return fast

    def compare(self) -> None:
        plain, fast = self.envs
        assert plain.files() == fast.files()
        self.do(lambda store: store.stats())
        self.do(lambda store: list(store.scan()))
        self.do(lambda store: list(store.scan(b"k1", b"k30", reverse=True)))
        self.do(lambda store: list(store.scan(prefix=b"k2")))
        assert self.do(lambda store: store.check()) == []


@pytest.mark.parametrize("file_bytes", [200, 20_000])
@pytest.mark.parametrize("riaks_empty_key", [False, True])
def test_a_history_leaves_the_same_bytes(rng: random.Random, file_bytes: int, riaks_empty_key: bool) -> None:
    """Overwrites in the same segment and of older ones, marks that are due, a clock that goes both ways, snapshots, batches."""
    pair = Pair(max_file_size=file_bytes, garbage_share=0.5)
    if riaks_empty_key:
        for env in pair.envs:
            put_file(env, "1.bitcask.data", encode_record(5, b"", b"a user of Riak's") + encode_record(5, b"k1", b"1"))
    pair.open()
    snapshots: list[list[Any]] = []
    for number in range(1500):
        key, value = b"k%d" % rng.randrange(40), rng.randbytes(rng.choice((0, 1, 30, 100)))
        chance = rng.random()
        sync = rng.choice((True, False, None))
        if chance < 0.7:
            pair.do(lambda store, key=key, value=value, sync=sync: store.put(key, value, sync=sync))
        elif chance < 0.8:
            batch = WriteBatch()
            for _ in range(rng.choice((1, 2, 5))):
                batch.put(b"k%d" % rng.randrange(60), rng.randbytes(rng.choice((0, 20))))
            if rng.random() < 0.2:
                batch.delete(key)
            pair.do(lambda store, batch=batch, sync=sync: store.write(batch, sync=sync))
        elif chance < 0.9:
            pair.do(lambda store, key=key, sync=sync: store.delete(key, sync=sync))
        elif chance < 0.92:
            snapshots.append([store.snapshot() for store in pair.stores])
        elif chance < 0.94 and snapshots:
            plain, fast = snapshots.pop(rng.randrange(len(snapshots)))
            assert list(plain.scan()) == list(fast.scan())
            plain.close()
            fast.close()
        elif chance < 0.95:
            seconds = rng.choice((1.0, 60.0, -30.0))
            for env in pair.envs:
                env.clock += seconds
                rng = random.Random(rng.random())
        elif chance < 0.96:
            for store in pair.stores:
                store.close()
            snapshots.clear()
            pair.open()
        if number % 50 == 0:
            pair.compare()
    pair.compare()
    for store in pair.stores:
        store.close()
    assert pair.envs[0].files() == pair.envs[1].files()


def test_the_hint_of_a_long_segment(rng: random.Random) -> None:
    """Some MiB, read in several windows: keys of every size, marks, batches, what was deleted once or twice or written again."""
    pair = Pair()
    pair.open()
    keys = [rng.randbytes(rng.choice((1, 16, 300, 32_768))) for _ in range(40)]
    for _ in range(220):
        key, value = rng.choice(keys), rng.randbytes(rng.choice((0, 5, 40_000)))
        sync, other = rng.random() < 0.5, rng.choice(keys)
        chance = rng.random()
        if chance < 0.6:
            pair.do(lambda store, key=key, value=value, sync=sync: store.put(key, value, sync=sync))
        elif chance < 0.8:
            pair.do(lambda store, key=key: store.delete(key))
        else:
            batch = WriteBatch()
            batch.put(key, value)
            batch.delete(other)
            pair.do(lambda store, batch=batch: store.write(batch))
    fast = pair.stores[1].core
    active = fast.log.active
    assert active is not None and active.end > 2 * WINDOW_BYTES
    entries, _ = scan_entries(active.map, active.end, active.id)
    assert hint_of_active(active, fast.keydir.places) == hint_of(entries)
    assert len(entries) > len(fast.keydir.places) + 1, "no tombstone, or no mark"
    pair.do(lambda store: store.close())
    assert pair.envs[0].files() == pair.envs[1].files()


@pytest.mark.parametrize("kind", [Plain, Fast])
@pytest.mark.parametrize("operation", ["put", "overwrite", "delete"])
def test_a_reader_that_comes_just_before_readers_are_told(kind: type[BitcaskStore], operation: str) -> None:
    """A snapshot and a scan begin when the record is written, and the writer is about to take the mutex."""

    store = kind(PATH, env=SimEnv(), sync=False)
    for number in range(20):
        store.put(b"k%02d" % number, b"old")
    key = b"new" if operation == "put" else b"k07"
    before: list[Any] = []
    snapshots: list[Any] = []

    def read() -> None:
        snapshots.append(snapshot := store.snapshot())
        before.extend([snapshot.get(key), list(snapshot.scan())])

    class Mutex:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.before = [read]

        def __enter__(self) -> None:
            while self.before:
                self.before.pop()()
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()

    store.core.mutex = Mutex()  # type: ignore[assignment]
    if operation == "delete":
        store.delete(key)
    else:
        store.put(key, b"new")
    assert [snapshots[0].get(key), list(snapshots[0].scan())] == before
    assert dict(store.scan()).get(key) == (None if operation == "delete" else b"new")
    assert store.check() == []
    store.close()


@pytest.mark.parametrize("operation", ["put", "delete", "batch"])
def test_a_write_without_a_sync_waits_for_who_has_the_writers_lock(operation: str) -> None:
    """It takes the mutex first, and sees there that somebody writes."""
    store = Fast(PATH, env=SimEnv(), sync=False)
    store.put(b"k", b"old")
    store.core.writer_lock = watched = Watched()  # type: ignore[assignment]
    call = {
        "put": lambda: store.put(b"k", b"new"),
        "delete": lambda: store.delete(b"k"),
        "batch": lambda: store.write(batch),
    }
    batch = WriteBatch()
    batch.put(b"k", b"new")
    writer = threading.Thread(target=call[operation])
    with watched.lock:
        writer.start()
        assert watched.asked.wait(20), "it didn't ask for the writer's lock"
        assert store.get(b"k") == b"old"
    writer.join()
    assert store.get(b"k") == (None if operation == "delete" else b"new")
    assert store.check() == []
    store.close()


def test_who_takes_the_writers_lock_waits_for_the_write_in_hand() -> None:
    """It may be one that has the mutex only, and began when nobody had the writer's lock."""
    store = Fast(PATH, env=SimEnv(), sync=False)
    core = store.core
    core.mutex = watched = Watched()  # type: ignore[assignment]
    ran: list[bool] = []
    writer = threading.Thread(target=core.writing, args=(ran.append, True))
    with watched.lock:
        writer.start()
        assert watched.asked.wait(20) and core.writer_lock.locked()
        assert ran == []
    writer.join()
    assert ran == [True] and not core.writer_lock.locked()
    store.close()


def test_the_writers_lock_is_taken_in_one_place() -> None:
    """Core.writing, which waits for the mutex as well: no part takes the lock by itself."""
    for path in Path(engines.bitcask.__file__).parent.rglob("*.py"):
        lines = [line for line in path.read_text().splitlines() if ".writer_lock" in line]
        takes = [line for line in lines if ".locked()" not in line and "self.stuck(" not in line]
        assert len(takes) == (2 if path.name == "core.py" else 0), f"{path}: {takes}"  # it is made and taken there


def test_a_scan_finds_the_same_damage(rng: random.Random) -> None:
    """Each byte of a file in turn: the pairs before it, and the sentence. Of three files one may be mapped."""
    pair = Pair(max_file_size=120, max_open_files=1)
    pair.open()
    pair.do(lambda store: [store.put(b"k%d" % number, b"value %d" % number) for number in range(12)])
    pair.do(lambda store: store.close())
    pair.options["read_only"] = True
    path = f"{PATH}/2.bitcask.data"
    whole = pair.envs[0].files()[path]
    sentences = set()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= rng.randrange(1, 256)
        pair.open()
        for env in pair.envs:
            file = env.open(path, "r+")
            file.pwrite(bytes(damaged), 0)
            file.close()

        def read(store: BitcaskStore) -> tuple[list[Any], str]:
            pairs: list[Any] = []
            try:
                pairs.extend(store.scan())
            except CorruptionError as error:
                return pairs, str(error)
            return pairs, ""

        pairs, sentence = pair.do(read)
        assert len(pairs) < 12 and sentence
        sentences.add(sentence.split("; ")[0])
        pair.do(lambda store: store.close())
        for env in pair.envs:
            file = env.open(path, "r+")
            file.pwrite(whole, 0)
            file.close()
    assert len(sentences) > 2


def test_reads_of_a_disk_find_the_same_damage(rng: random.Random, tmp_path: Path) -> None:
    """Mapped files, records of many shapes: each byte in turn, by a scan and by gets."""
    path = tmp_path / "store"
    values = {b"k" * rng.randrange(1, 4) + b"%d" % number: rng.randbytes(rng.randrange(20)) for number in range(6)}
    with Fast(path, sync=False) as store:
        for key, value in values.items():
            store.put(key, value)
    file = path / "1.bitcask.data"
    whole = file.read_bytes()

    def read(store: BitcaskStore) -> list[Any]:
        found: list[Any] = []
        for ask in [lambda: list(store.scan()), *(lambda key=key: store.get(key) for key in values)]:
            try:
                found.append(ask())
            except CorruptionError as error:
                found.append(str(error))
        return found

    answers: dict[type[BitcaskStore], list[list[Any]]] = {Plain: [], Fast: []}
    bits = [1 << rng.randrange(8) for _ in whole]
    for kind in answers:
        with kind(path, sync=False) as store:
            assert read(store)[0] == sorted(values.items())
            for at, bit in enumerate(bits):
                with open(file, "r+b") as damaged:
                    damaged.seek(at)
                    damaged.write(bytes((whole[at] ^ bit,)))
                answers[kind].append(read(store))
                file.write_bytes(whole)
    assert answers[Plain] == answers[Fast]
    sentences = {answer for found in answers[Fast] for answer in found if isinstance(answer, str)}
    assert len(sentences) == len(values)


def test_another_keys_record_is_refused(tmp_path: Path) -> None:
    """A hint that is whole, and lists `k` where `key` is: the record begins alike, and its checksum is right."""
    path = tmp_path / "store"
    path.mkdir()
    record = encode_record(5, b"key", b"value")
    (path / "1.bitcask.data").write_bytes(record)
    (path / "1.bitcask.hint").write_bytes(hint_of([(5, len(record), 0, b"k")]))
    sentences = []
    for kind in (Plain, Fast):
        with kind(path) as store:
            for read in (lambda store=store: store.get(b"k"), lambda store=store: list(store.scan())) * 2:
                with pytest.raises(CorruptionError, match="it is another key's") as caught:
                    read()
                sentences.append(str(caught.value))
    assert len(set(sentences)) == 1


def test_records_of_more_sizes_than_are_remembered(tmp_path: Path) -> None:
    """The table of shapes is bounded, and whatever it has forgotten is read all the same."""
    with Fast(tmp_path / "store", sync=False) as store:
        values = {b"%06d" % size: b"v" * size for size in range(SHAPES + 100)}
        for key, value in values.items():
            store.put(key, value)
        for _ in range(2):
            assert dict(store.scan()) == values
            assert [store.get(key) for key in values] == list(values.values())
        assert isinstance(store.core, FastCore) and 100 <= len(store.core.shapes) <= SHAPES


@pytest.mark.parametrize("kind", [Plain, Fast])
def test_the_second_read_of_a_shape_takes_no_slice(kind: type[BitcaskStore], tmp_path: Path) -> None:
    """What the fast form is for: it doesn't fall back to the plain one where nothing is wrong."""

    class Counted(dict[int, Any]):
        gets = 0

        def get(self, *arguments: Any) -> Any:  # as Core.read asks, and only it
            self.gets += 1
            return super().get(*arguments)

    with kind(tmp_path / "store", sync=False) as store:
        for number in range(100):
            store.put(b"%02d" % number, b"v" * 50)
        store.core.table.views = views = Counted(store.core.table.views)
        assert all(store.get(b"%02d" % number) for number in range(100))
        assert len(list(store.scan())) == 100
        assert views.gets == (200 if kind is Plain else 1)


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        (b"", b"v", InvalidKey),
        ("k", b"v", InvalidKey),
        (b"k" * 40_000, b"v", InvalidKey),
        (b"k", "v", InvalidValue),
        (b"k", None, InvalidValue),
        (b"k", b"bitcask_tombstone", ReservedValue),
    ],
    ids=lambda given: str(given)[:12],
)
def test_the_same_is_refused(key: Any, value: Any, error: type[Exception]) -> None:
    """With the same sentence, and the stores go on."""
    pair = Pair()
    pair.open()
    sentences = set()
    for store in pair.stores:
        with pytest.raises(error) as caught:
            store.put(key, value)
        sentences.add(str(caught.value))
        store.put(b"k", b"v")
    assert len(sentences) == 1
    pair.compare()
    for store in pair.stores:
        store.close()
        with pytest.raises(StoreClosed):
            store.put(b"k", b"v")
    pair.options["read_only"] = True
    pair.open()
    for store in pair.stores:
        with pytest.raises(ReadOnly):
            store.put(b"k", b"v")
        store.close()


def test_the_option_and_the_environment_choose_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """`plain=True`, or METCD_PLAIN=1 for every store."""
    chosen: list[str] = []
    monkeypatch.setattr("engines.bitcask.store.PLAIN", "plain parts")
    monkeypatch.setattr("engines.bitcask.store.FAST", "fast parts")

    def choice(**options: Any) -> str:
        with pytest.raises(AttributeError, match="has no attribute") as caught:  # a text is no Parts
            BitcaskStore(PATH, env=SimEnv(), **options)
        chosen.append(str(caught.value.obj))
        return chosen[-1]

    monkeypatch.delenv("METCD_PLAIN", raising=False)
    assert choice() == "fast parts"
    assert choice(plain=True) == "plain parts"
    monkeypatch.setenv("METCD_PLAIN", "1")
    assert choice() == "plain parts"


@pytest.mark.parametrize("kind", [Plain, Fast])
def test_a_dropped_store_is_gone_at_once(kind: type[BitcaskStore]) -> None:
    """Nothing that it handed down leads back to it."""
    gc.disable()
    try:
        store = kind(PATH, env=SimEnv())
        store.put(b"k", b"v")
        list(store.scan())
        dropped = weakref.ref(store)
        del store
        assert dropped() is None
    finally:
        gc.enable()
