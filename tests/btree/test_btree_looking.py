"""The file itself: what its name, its mode and its owner are, and what reading leaves as it was."""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

import engines
from engines import NoSuchStore, ReadOnly, StoreError, StoreLocked
from engines.btree import BTreeStore, check_file
from engines.env import Env, File, Lock, LockKind, Mode, RealEnv, real_env
from engines.simdisk import Policy
from engines.simenv import SimEnv

ROOT = "/disk/db"
PAGE = 4096


class ReadOnlyMedium(RealEnv):
    """A disk on which nothing can be written, created, renamed or removed, as a read-only mount is."""

    def open(self, path: str, mode: Mode) -> File:
        if mode != "r":
            raise OSError(errno.EROFS, "read-only file system", path)
        return super().open(path, mode)

    def lock(self, path: str, kind: LockKind = "posix", *, shared: bool = False) -> Lock:
        if not shared:
            raise OSError(errno.EROFS, "read-only file system", path)
        return super().lock(path, kind, shared=shared)

    def _refuse(self, *_: object) -> None:
        raise OSError(errno.EROFS, "read-only file system")

    makedirs = rename = link = unlink = sync_dir = adopt = _refuse  # type: ignore[assignment]


def closed() -> SimEnv:
    """A store that was closed, of several pages, with free ones among them."""
    env = SimEnv(0)
    with BTreeStore(ROOT, env=env) as store:
        store.load((b"%04d" % number, b"v" * 50) for number in range(300))
        for number in range(0, 300, 7):
            store.put(b"%04d" % number, b"changed", sync=False)
        store.delete(b"0100")
    return env


def killed() -> SimEnv:
    """Unsynced commits are on the disk, and their sum is right: they count."""
    env = closed()
    store = BTreeStore(ROOT, env=env)
    for number in range(5):
        store.put(b"new", b"%d" % number, sync=False)
    return env.crash(Policy.EVERYTHING, random.Random(0))


def half_lost() -> SimEnv:
    """An unsynced commit's meta is on the disk, and one of its pages is not: the durable one counts."""
    env = killed()
    with BTreeStore(ROOT, env=env, read_only=True) as store:
        page = store._current.state.root_id
    content = env.files()[ROOT]
    env.poke(ROOT, content[: page * PAGE] + bytes(PAGE) + content[(page + 1) * PAGE :])
    return env


def damaged() -> SimEnv:
    """A byte of a leaf is flipped, and one of a meta."""
    env = closed()
    with BTreeStore(ROOT, env=env, read_only=True) as store:
        leaf = store._current.state.root.children[0]
    content = bytearray(env.files()[ROOT])
    content[leaf * PAGE + 2_000] ^= 1
    content[40] ^= 1
    env.poke(ROOT, bytes(content))
    return env


def cut() -> SimEnv:
    """The file is shorter than its high-water mark."""
    env = closed()
    env.poke(ROOT, env.files()[ROOT][: 5 * PAGE])
    return env


def nobodys() -> SimEnv:
    """No database at all."""
    env = closed()
    env.poke(ROOT, b"none of this" * 900)
    return env


STATES: dict[str, Callable[[], SimEnv]] = {
    state.__name__: state for state in (closed, killed, half_lost, damaged, cut, nobodys)
}


def look_at(path: str, env: Env) -> None:
    """Everything that only looks: which, check, dump, and a store opened for reading only, with all that it refuses."""
    engines.which(path, env)
    list(BTreeStore.dump(path, env))
    check_file(env, path)
    try:
        store = BTreeStore(path, env=env, read_only=True)
    except StoreError:
        return
    with store, BTreeStore(path, env=env, read_only=True) as another:
        store.check()
        with contextlib.suppress(StoreError):  # a damaged page
            another.get(b"0007")
            assert list(store.scan()) and store.stats().disk_bytes and store.describe()
        for refused in (
            lambda: store.put(b"a", b"1"),
            lambda: store.put(b"a", b"1", sync=False),
            lambda: store.delete(b"0007", sync=False),
            lambda: store.load([]),
            store.flush,
            store.compact,
        ):
            with pytest.raises(ReadOnly):
                refused()


@pytest.mark.parametrize("state", STATES)
def test_looking_changes_nothing_on_the_simulated_disk(state: str) -> None:
    """No call that changes a disk is made, after a kill and after a power cut neither; nor is a descriptor left open."""
    env = STATES[state]()
    before, calls, files = env.fingerprint(), env.calls, env.open_files
    look_at(ROOT, env)
    assert (env.fingerprint(), env.calls, env.open_files) == (before, calls, files)


@pytest.mark.parametrize("state", STATES)
def test_looking_works_on_a_read_only_medium(tmp_path: Path, state: str) -> None:
    """Contents, names, modes and times stay; leftovers of a creation and of a compaction, too."""
    path = tmp_path / "db"
    path.write_bytes(STATES[state]().files()[ROOT])
    path.with_name("db.compact").write_bytes(b"half a file")
    path.with_name("db.new").write_bytes(b"half a file")
    os.chmod(path, 0o444)

    def seen() -> dict[str, tuple[bytes, int, int, int]]:
        found = {}
        for each in tmp_path.iterdir():
            status = each.stat()
            found[each.name] = each.read_bytes(), status.st_mode, status.st_mtime_ns, status.st_ctime_ns
        return found

    before, directory = seen(), tmp_path.stat().st_mtime_ns
    look_at(str(path), ReadOnlyMedium())
    assert seen() == before and tmp_path.stat().st_mtime_ns == directory


def test_reading_only_replays_what_recovery_would_write() -> None:
    """After a kill it shows the unsynced writes, after a power cut the durable ones, and the next writer decides alike."""
    for state, expected in ((killed, b"4"), (half_lost, None)):
        env = state()
        with BTreeStore(ROOT, env=env, read_only=True) as reader:
            found = dict(reader.scan())
            assert reader.get(b"new") == expected and reader.check() == []
        with BTreeStore(ROOT, env=env) as writer:
            assert dict(writer.scan()) == found


def test_where_nothing_is_nothing_is_made(tmp_path: Path) -> None:
    """No file, an empty directory, a link that leads nowhere: NoSuchStore, and it stays so."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("nothing", "directory", "link", "no/parent"):
        with pytest.raises(NoSuchStore, match="there is no store at "):
            BTreeStore(tmp_path / name, read_only=True)
    assert sorted(os.listdir(tmp_path)) == ["directory", "link"] and os.listdir(tmp_path / "directory") == []


def test_a_writer_keeps_readers_out_and_the_other_way_round(tmp_path: Path) -> None:
    """flock on the file itself, shared by those who only read."""
    path = tmp_path / "db"
    with BTreeStore(path) as store:
        store.put(b"a", b"1")
        with pytest.raises(StoreLocked, match="is locked by this process"):
            BTreeStore(path, read_only=True)
        assert check_file(real_env(), str(path)) == []
    with BTreeStore(path, read_only=True), BTreeStore(path, read_only=True), pytest.raises(StoreLocked):
        BTreeStore(path)
