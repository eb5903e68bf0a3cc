"""read_only=True: the same content as an opening for writing, and not a byte, a name, a mode or a lock file changed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engines import CorruptionError, NoSuchStore, ReadOnly, StoreChanged, StoreLocked, WriteBatch
from engines.bitcask.record import encode_record
from engines.bitcask.store import BitcaskStore
from engines.simenv import Policy, SimEnv
from tests.bitcask.riak_files import PATH, content, data_path, open_sim, put_file

A, B, C = (encode_record(5, key, b"value") for key in (b"a", b"b", b"c"))
OLD_AND_NEW = {"1.bitcask.data": A, "1.bitcask.hint": b"", "2.bitcask.data": B}


@contextmanager
def unchanged(env: SimEnv) -> Iterator[None]:
    """Nothing in the block makes one call that changes the disk."""
    before, calls = env.fingerprint(), env.calls
    yield
    assert (env.fingerprint(), env.calls) == (before, calls)


def looked_at(env: SimEnv) -> dict[bytes, bytes]:
    with unchanged(env), open_sim(env, read_only=True) as store:
        assert store.check() == []
        found = dict(store.scan())
        assert store.multi_get(list(found)) == list(found.values())
    return found


def test_an_image_of_every_crash_reads_as_it_will_recover() -> None:
    """Torn ends, batches, merges, and the four steps of a load: power is cut after every call."""
    images: list[SimEnv] = []
    rng = random.Random(7)

    def cut(_: object) -> None:
        images.append(env.crash(rng.choice(list(Policy)), rng))

    env = SimEnv(after_call=cut)
    with open_sim(env) as store:
        for number in range(12):
            store.put(b"key%d" % (number % 5), b"v" * 20)
            with store.batch() as batch:
                batch.put(b"x", b"%d" % number)
                batch.delete(b"key%d" % ((number + 2) % 5))
        with store.snapshot():
            store.load((b"new%02d" % number, b"w" * 20) for number in range(20))
        store.put(b"new", b"1")
        store.compact()
    compared = 0
    for image in images:
        if BitcaskStore.recognises(PATH, image):
            seen = looked_at(image)
            assert seen == content(image)
            compared += 1
    assert compared > 100 and any(b"new%02d" % 0 in content(image) for image in images[-3:])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({**OLD_AND_NEW, "1.bitcask.data": A + C[:-1]}, {b"a", b"b"}),  # Riak's torn end in an older file
        ({"1.bitcask.data": A + B[:-1]}, {b"a"}),
        ({**OLD_AND_NEW, "3.bitcask.data.new": C, "9.bitcask.hint": b"alone"}, {b"a", b"b"}),
        (
            {
                **OLD_AND_NEW,
                "3.bitcask.data.new": C,
                "bitcask.metcd.load": b"metcd load\nnew 3\nvoid 1 2\ncrc32 522d6766\n",
            },
            {b"c"},
        ),
        ({"bitcask.metcd.lock": b""}, set()),
    ],
    ids=["an older torn end", "a torn end", "unfinished files", "a load to be finished", "an empty store"],
)
def test_what_recovery_would_write_is_replayed_in_memory(files: dict[str, bytes], expected: set[bytes]) -> None:
    """And the opening for writing that comes then finds the same."""
    env = SimEnv()
    for name, data in files.items():
        put_file(env, name, data)
    assert looked_at(env).keys() == expected
    assert content(env).keys() == expected


def test_every_write_is_refused(tmp_path: Path) -> None:
    """With one sentence, and the store goes on reading."""
    with BitcaskStore(tmp_path) as store:
        store.put(b"a", b"1")
    with BitcaskStore(tmp_path, read_only=True) as store:
        batch = WriteBatch()
        batch.put(b"b", b"2")
        writes: list[Callable[[], object]] = [
            lambda: store.put(b"b", b"2"),
            lambda: store.delete(b"a"),
            lambda: store.write(batch),
            lambda: store.load([(b"b", b"2")]),
            store.compact,
            store.merge,
            store.flush,
        ]
        for write in writes:
            with pytest.raises(ReadOnly, match="opened with read_only=True: open it without to write"):
                write()
        assert dict(store.scan()) == {b"a": b"1"}


def test_nothing_there_is_no_store() -> None:
    """And nothing is made: no directory, no lock."""
    env = SimEnv()
    env.makedirs("/empty", "test")
    with unchanged(env):
        for path in ("/nowhere", "/empty"):
            with pytest.raises(NoSuchStore):
                BitcaskStore(path, env=env, read_only=True)


def test_readers_share_and_a_writer_of_ours_keeps_them_out() -> None:
    """And they keep a writer out."""
    env = SimEnv()
    with open_sim(env) as store:
        store.put(b"a", b"1")
        with pytest.raises(StoreLocked, match="this process"):
            open_sim(env, read_only=True)
    with open_sim(env, read_only=True) as one, open_sim(env, read_only=True) as two:
        assert one.get(b"a") == two.get(b"a") == b"1"
        with pytest.raises(StoreLocked):
            open_sim(env)


def test_a_directory_that_may_only_be_read_is_read(tmp_path: Path) -> None:
    """No right to write, neither to the files nor to the directory; contents, names, modes and times stay as they are."""
    with BitcaskStore(tmp_path, max_file_size=200, merge="manual") as store:
        for number in range(30):
            store.put(b"key%d" % (number % 7), b"v" * number)
        expected = dict(store.scan())
    (tmp_path / "99.bitcask.data").write_bytes(A + B[:-1])
    for path in tmp_path.iterdir():
        path.chmod(0o400)
    tmp_path.chmod(0o500)

    def seen() -> dict[str, tuple[int, int, int, bytes]]:
        paths = {path.name: path for path in tmp_path.iterdir()}
        stats = {name: path.stat() for name, path in paths.items()}
        times = {name: (stat.st_mode, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats.items()}
        return {name: (*times[name], path.read_bytes()) for name, path in paths.items()}

    before, directory = seen(), os.stat(tmp_path).st_mtime_ns
    with BitcaskStore(tmp_path, read_only=True) as store:
        assert dict(store.scan()) == {**expected, b"a": b"value"}
        assert store.check() == []
    assert (seen(), os.stat(tmp_path).st_mtime_ns) == (before, directory)
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", ["bitcask.write.lock", "bitcask.merge.lock"])
def test_a_riak_that_writes_keeps_no_reader_out(name: str) -> None:
    """As it doesn't keep out its own. What it writes later isn't seen, what it is just writing is no damage."""
    env = SimEnv()
    env.alive.add(4711)
    put_file(env, "1.bitcask.data", A)
    put_file(env, "2.bitcask.data", B + C[:-1])
    put_file(env, "2.bitcask.hint", b"")
    put_file(env, name, b"4711 /db/2.bitcask.data\n")
    with unchanged(env):
        store = open_sim(env, read_only=True)
    put_file(env, "2.bitcask.data", B + C)
    put_file(env, "3.bitcask.data", A)
    with unchanged(env):
        assert dict(store.scan()) == {b"a": b"value", b"b": b"value"}
        assert store.check() == []
        store.close()
    assert looked_at(env).keys() == {b"a", b"b", b"c"}


def test_a_file_that_another_program_has_merged_away_is_no_damage() -> None:
    """The sentence says what to do; what is still there is read."""
    env = SimEnv()
    put_file(env, "1.bitcask.data", A)
    put_file(env, "2.bitcask.data", B)
    with open_sim(env, read_only=True, max_open_files=1) as store:
        put_file(env, "3.bitcask.data", A)
        env.unlink(data_path(1))
        assert store.get(b"b") == b"value"
        for _ in range(2):
            with pytest.raises(StoreChanged, match=r"1\.bitcask\.data is gone: .* open it again"):
                store.get(b"a")
        with pytest.raises(StoreChanged):
            list(store.scan())
        assert "is gone" in store.check()[0]
    assert looked_at(env).keys() == {b"a", b"b"}


def test_a_record_that_riak_has_taken_back_is_no_damage() -> None:
    """Its merge cuts off what it has just copied, if the key was written anew meanwhile (bitcask_fileops:un_write)."""
    env = SimEnv()
    put_file(env, "1.bitcask.data", A + B)
    with open_sim(env, read_only=True) as store:
        env.poke(data_path(1), A + B[:3])
        with pytest.raises(StoreChanged, match="is shorter than it was"):
            store.get(b"b")
        assert store.get(b"a") == b"value"


def test_files_that_go_away_while_it_opens_are_looked_for_again() -> None:
    """Riak's merge removes the first file when it has been listed, and it is gone when it is to be read."""

    class Merging(SimEnv):
        def list(self, path: str) -> list[str]:
            names = super().list(path)
            if data_path(1) in self.files() and "3.bitcask.data" in names:
                self.unlink(data_path(1))
            return names

    env = Merging()
    for file_id, data in ((1, A), (2, B), (3, A)):
        put_file(env, f"{file_id}.bitcask.data", data)
    with open_sim(env, read_only=True) as store:
        assert {key for key, _ in store.scan()} == {b"a", b"b"}
    assert data_path(1) not in env.files()


def test_damage_is_told_and_left() -> None:
    """As an opening for writing tells it."""
    env = SimEnv()
    put_file(env, "1.bitcask.data", A[:-1] + b"?" + C)
    put_file(env, "2.bitcask.data", B)
    with unchanged(env), pytest.raises(CorruptionError, match=r"1\.bitcask\.data at byte 0"):
        open_sim(env, read_only=True)


def test_of_damaged_files_a_reader_says_what_a_writer_says(rng: random.Random) -> None:
    """The same content, or the same sentence; and it changes nothing either way."""
    env = SimEnv()
    with open_sim(env) as store:
        for number in range(40):
            store.put(b"key%d" % rng.randrange(9), rng.randbytes(rng.randrange(40)))
            with store.batch() as batch:
                batch.put(b"a", b"%d" % number)
                batch.delete(b"key%d" % rng.randrange(9))
        env = env.crash(Policy.EVERYTHING, rng)
    names = [path for path in env.files() if path.endswith((".data", ".hint"))]

    def outcome(image: SimEnv, read_only: bool) -> object:
        try:
            with open_sim(image, read_only=read_only) as store:
                return sorted(store.scan())
        except CorruptionError as error:
            return str(error)

    refused = 0
    for _ in range(200):
        image = env.crash(Policy.EVERYTHING, rng)
        for path in rng.sample(names, 2):
            data = image.files()[path]
            at = rng.randrange(len(data))
            image.poke(path, rng.choice((data[:at], data[:at] + b"?" + data[at + 1 :])))
            if rng.random() < 0.3 and path.endswith("hint"):
                image.unlink(path)
        with unchanged(image):
            seen = outcome(image, True)
        refused += isinstance(seen, str)
        assert outcome(image, False) == seen
    assert 20 < refused < 190
