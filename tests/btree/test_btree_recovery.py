"""Opening: files that are none, files that are damaged, and what unsynced commits leave after a kill."""

from __future__ import annotations

import fcntl
import os
import random
from pathlib import Path

import pytest

import engines
from engines import CorruptionError, StoreLocked
from engines.btree import BTreeStore, check_file
from engines.btree.meta import NO_FREELIST, Meta
from engines.btree.recovery import empty_file
from engines.env import real_env
from engines.simdisk import Policy
from engines.simenv import SimEnv

PAGE = 4096
ROOT = "/db"


def make(path: Path, count: int = 300) -> dict[bytes, bytes]:
    items = {b"%04d" % number: b"v" * number for number in range(count)}
    with BTreeStore(str(path), sync=False) as store:
        store.load(sorted(items.items()))
        store.put(b"0001", b"changed")
    return items | {b"0001": b"changed"}


def metas_of(content: bytes, page_bytes: int = PAGE) -> list[Meta]:
    return [Meta.decode(content[page * page_bytes :]) for page in (0, 1)]


# ------------------------------------------------------------------------------------------------------------ new files


def test_a_new_file_is_bbolts_but_for_the_checksums() -> None:
    """Four pages: metas 0 and 1, an empty freelist, an empty leaf."""
    pages = [empty_file(PAGE)[at : at + PAGE] for at in range(0, 4 * PAGE, PAGE)]
    assert [Meta.decode(page) for page in pages[:2]] == [Meta(PAGE, 3, 2, 4, 0), Meta(PAGE, 3, 2, 4, 1)]
    assert pages[2][:-8] == bytes.fromhex("02000000000000001000").ljust(PAGE - 8, b"\0")
    assert pages[3][:-8] == bytes.fromhex("03000000000000000200").ljust(PAGE - 8, b"\0")
    assert all(page[-8:-4] == b"CRC1" for page in pages[2:])


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"x", "16"),
        (b"not a database" * 1000, "magic"),
        (bytes(10 * PAGE), "magic"),
        (b"SQLite format 3\0".ljust(2 * PAGE, b"\0"), "magic"),
        (random.Random(1).randbytes(5 * PAGE), "magic"),
    ],
    ids=["empty", "one-byte", "text", "zeros", "sqlite", "random"],
)
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    """CorruptionError, nothing is changed, the lock is given up; and nobody recognises it."""
    path = tmp_path / "file"
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(CorruptionError, match=why if why != "16" else "both of its metas"):
            BTreeStore(str(path))
    assert path.read_bytes() == content
    assert engines.which(str(path)) is None
    assert check_file(real_env(), str(path))


def test_both_metas_damaged(tmp_path: Path) -> None:
    """A typed error; one damaged meta is no loss after an orderly close."""
    path = tmp_path / "db"
    items = make(path)
    content = path.read_bytes()
    for page in (0, 1):
        damaged = bytearray(content)
        damaged[page * PAGE + 50] ^= 8
        path.write_bytes(damaged)
        with BTreeStore(str(path)) as store:
            assert dict(store.scan()) == items
    damaged = bytearray(content)
    damaged[50] ^= 8
    damaged[PAGE + 50] ^= 8
    path.write_bytes(damaged)
    with pytest.raises(CorruptionError, match="checksum"):
        BTreeStore(str(path))


def test_every_truncation_is_an_error_or_no_loss(tmp_path: Path) -> None:
    """A file shorter than its high-water mark is refused before anything of it is mapped: no length raises SIGBUS."""
    path = tmp_path / "db"
    items = make(path, 60)
    content = path.read_bytes()
    needed = max(meta.high_water for meta in metas_of(content)) * PAGE
    for size in [*range(0, needed + PAGE, 509), needed - 1, needed, needed + 1]:
        path.write_bytes(content[:size])
        if size >= needed:
            with BTreeStore(str(path)) as store:
                assert dict(store.scan()) == items and store.check() == []
                store.put(b"and on", b"it goes" * 2_000)
        else:
            with pytest.raises(CorruptionError):
                BTreeStore(str(path))


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    """CorruptionError has the path, and the byte at which the page begins; other pages are still read."""
    path = tmp_path / "db"
    items = make(path)
    content = bytearray(path.read_bytes())
    with BTreeStore(str(path), read_only=True) as store:
        victim = store._current.state.root.children[1]
        first = store._current.state.root.keys[1]
    content[victim * PAGE + 2_000] ^= 1
    path.write_bytes(content)
    with BTreeStore(str(path)) as store:
        with pytest.raises(CorruptionError, match="checksum") as error:
            store.get(first)
        assert (error.value.path, error.value.offset) == (str(path), victim * PAGE)
        with pytest.raises(CorruptionError):
            store.put(first, b"new", sync=False)
        with pytest.raises(CorruptionError):
            store.put(first, b"new", sync=True)
        assert store.get(b"0001") == items[b"0001"]
        store.put(b"0001", b"still writable")
        assert [problem for problem in store.check() if f"page {victim}:" in problem]


def test_branches_in_a_circle_are_found_out(tmp_path: Path) -> None:
    """A damaged page without a checksum may lead back to itself: no call goes round for ever."""
    path = tmp_path / "db"
    make(path, 700)
    content = bytearray(path.read_bytes())
    with BTreeStore(str(path), read_only=True) as store:
        root = store._current.state.root_id
        count = len(store._current.state.root.keys)
    for index in range(count):
        content[root * PAGE + 24 + 16 * index : root * PAGE + 32 + 16 * index] = root.to_bytes(8, "little")
    content[root * PAGE + PAGE - 8 : root * PAGE + PAGE] = bytes(8)
    path.write_bytes(content)
    assert check_file(real_env(), str(path))
    with BTreeStore(str(path), read_only=True) as store:
        for call in (
            lambda: store.get(b"0005"),
            lambda: list(store.scan()),
            lambda: list(store.scan(reverse=True)),
            lambda: store.snapshot().get(b"0005"),
            store.stats,
        ):
            with pytest.raises(CorruptionError):
                call()


def test_a_file_in_use_is_refused(tmp_path: Path) -> None:
    """flock on the file itself, as bbolt does it: by this process, by another program, for reading or for writing."""
    path = tmp_path / "db"
    make(path)
    with BTreeStore(str(path)), pytest.raises(StoreLocked):
        BTreeStore(str(path), read_only=True)
    with open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        with pytest.raises(StoreLocked):
            BTreeStore(str(path))
        with BTreeStore(str(path), read_only=True) as reader:
            assert reader.get(b"0001") == b"changed"
    with BTreeStore(str(path)) as store, open(path, "rb") as other:
        store.compact()
        with open(path, "rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_leftover_of_a_compaction_is_removed(tmp_path: Path) -> None:
    """And one of a creation is overwritten."""
    path = tmp_path / "db"
    Path(f"{path}.new").write_bytes(b"half a file")
    items = make(path)
    Path(f"{path}.compact").write_bytes(b"half a file")
    with BTreeStore(str(path)) as store:
        assert dict(store.scan()) == items
    assert sorted(os.listdir(tmp_path)) == ["db"]


# ------------------------------------------------------------------------------------------------------- choosing a meta


def killed(env: SimEnv) -> SimEnv:
    """The disk that the next process finds after kill -9."""
    return env.crash(Policy.EVERYTHING, random.Random(0))


def with_metas(content: bytes, *metas: Meta) -> bytes:
    """The file with these metas in page 0 and page 1, wherever their txids belong; headers as bbolt writes them."""
    changed = bytearray(content)
    for page, meta in enumerate(metas):
        head = bytes([page, *bytes(7), 4, *bytes(7)])
        changed[page * PAGE : (page + 1) * PAGE] = (head + meta.encode()[16:]).ljust(PAGE, b"\0")
    return bytes(changed)


@pytest.mark.parametrize("odd", [False, True])
def test_a_backup_of_bbolts_is_well(tmp_path: Path, odd: bool) -> None:
    """Tx.WriteTo puts the newest meta into page 0 whatever its txid, and the same state under txid - 1 into page 1.

    Nothing can be lost: whichever page the next commit writes to, the other one has the state.
    """
    path = tmp_path / "db"
    items = make(path)
    newest = max(metas_of(path.read_bytes()), key=lambda meta: meta.txid)
    newest = newest._replace(txid=newest.txid // 2 * 2 + 2 + odd)
    path.write_bytes(with_metas(path.read_bytes(), newest, newest._replace(txid=newest.txid - 1)))
    assert check_file(real_env(), str(path)) == []
    with BTreeStore(str(path)) as store:
        assert store.check() == []
        store.put(b"new", b"1", sync=False)
        assert len({meta.txid for meta in metas_of(path.read_bytes()) if meta.root == newest.root}) == 1
        assert dict(store.scan()) == items | {b"new": b"1"}
        store.put(b"new", b"2")
        assert store.check() == []
    assert check_file(real_env(), str(path)) == []


@pytest.mark.parametrize("txid", [8, 9])
def test_two_equal_metas_are_well(txid: int) -> None:
    """`bbolt surgery revert-meta-page` copies the older meta over the newer one: unsynced writes go on from there."""
    env = SimEnv(0)
    with BTreeStore(ROOT, env=env) as store:
        store.put(b"a", b"1")
    reverted = metas_of(env.files()[ROOT])[0]._replace(txid=txid)
    env.poke(ROOT, with_metas(env.files()[ROOT], reverted, reverted))
    assert check_file(env, ROOT) == []
    store = BTreeStore(ROOT, env=env, sync=False)
    for number in range(5):
        store.put(b"b", b"%d" % number)
        again = BTreeStore(ROOT, env=killed(env))
        assert (again.get(b"a"), again.get(b"b")) == (b"1", b"%d" % number)
        assert again.check() == []
    lost = env.crash(Policy.NOTHING, random.Random(0))
    assert dict(BTreeStore(ROOT, env=lost).scan()) == {b"a": b"1"}


@pytest.mark.parametrize("unsynced", [1, 2, 7])
def test_revert_meta_page_on_a_killed_store_goes_back_to_the_last_synced_state(unsynced: int) -> None:
    """`bbolt surgery revert-meta-page` copies the page of the older meta over the other one, and sets its page id.

    The older one is the durable commit's, however many unsynced ones came after it, and its pages are all there.
    """
    env = SimEnv(0)
    store = BTreeStore(ROOT, env=env)
    for number in range(200):
        store.put(b"%03d" % number, b"durable" * 9)
    durable = dict(store.scan())
    for number in range(unsynced):
        store.put(b"%03d" % number, b"unsynced", sync=False)
    image = killed(env)
    content = image.files()[ROOT]
    old, new = sorted(metas_of(content), key=lambda meta: meta.txid)
    reverted = new.page.to_bytes(8, "little") + content[old.page * PAGE + 8 : (old.page + 1) * PAGE]
    image.poke(ROOT, content[: new.page * PAGE] + reverted + content[(new.page + 1) * PAGE :])
    assert check_file(image, ROOT) == []
    with BTreeStore(ROOT, env=image) as again:
        assert dict(again.scan()) == durable and again.check() == []


def test_the_only_meta_of_a_state_in_the_wrong_page_is_told(tmp_path: Path) -> None:
    """No tool leaves it so: the other meta has another root, or is damaged. Our first commit spares it."""
    path = tmp_path / "db"
    items = make(path)
    newest = max(metas_of(path.read_bytes()), key=lambda meta: meta.txid)
    newest = newest._replace(txid=newest.txid | 1)
    older = Meta(PAGE, newest.freelist, NO_FREELIST, newest.high_water, newest.txid - 1)
    damaged = with_metas(path.read_bytes(), newest, older)
    for content in (damaged, damaged[: PAGE + 20] + b"\7" + damaged[PAGE + 21 :]):
        path.write_bytes(content)
        problems = check_file(real_env(), str(path))
        assert any("belongs to page 1" in problem for problem in problems)
        with BTreeStore(str(path)) as store:
            store.put(b"new", b"1", sync=False)
            pages = path.read_bytes()
            assert Meta.decode(pages).txid == newest.txid, "the meta that counted is still there"
            assert Meta.decode(pages[PAGE:]).txid == newest.txid + 2
            assert dict(store.scan()) == items | {b"new": b"1"}
        assert check_file(real_env(), str(path)) == []


def test_a_file_without_a_freelist_is_opened() -> None:
    """bbolt's NoFreelistSync, and our own unsynced commits: a walk finds the free pages."""
    env = SimEnv(0)
    store = BTreeStore(ROOT, env=env, page_size=1024)
    for number in range(200):
        store.put(b"%03d" % number, b"v" * 50)
    store.delete(b"100", sync=False)
    unused = set(store._writer.committer.unused())  # type: ignore[union-attr]
    image = killed(env)
    again = BTreeStore(ROOT, env=image)
    assert set(again._writer.committer.freelist.free) == unused  # type: ignore[union-attr]
    assert again.get(b"100") is None and again.get(b"101") == b"v" * 50
    again.put(b"100", b"back")
    assert again.check() == []
