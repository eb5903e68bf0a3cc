"""Files of other programs: etcd's, podman's, containerd's have buckets of their own names, and some have no freelist.

The golden files are what the real etcd and the real bbolt have written (golden/README.md).
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

import engines
from engines import ForeignFormat, InvalidOption, ReadOnly
from engines.btree import BTreeStore, check_file
from engines.btree.meta import NO_FREELIST
from engines.env import real_env
from engines.kvstore import KVStore

GOLDEN = Path(__file__).parent / "golden"


def unpacked(name: str, directory: Path) -> Path:
    path = directory / f"{name}.db"
    path.write_bytes(gzip.decompress((GOLDEN / f"{name}.db.gz").read_bytes()))
    return path


@pytest.fixture
def etcds(tmp_path: Path) -> Path:
    return unpacked("etcd", tmp_path)


@pytest.mark.parametrize(
    ("name", "buckets", "nested", "value"),
    [
        ("podman", "b'all-ctrs'.* and 2 more", (b"vol", b"v1"), b"config"),
        ("containerd", "b'v1'", (b"v1", b"demo", b"labels"), b"owner"),
        ("raft-boltdb", "b'conf', b'logs'", (b"conf",), b"CurrentTerm"),
    ],
)
def test_files_of_other_programs_are_read(
    tmp_path: Path, name: str, buckets: str, nested: tuple[bytes], value: bytes
) -> None:
    """Each says which buckets it has, check() finds nothing wrong, and shows what is nested in it, to views and to dump."""
    path = unpacked(name, tmp_path)
    with pytest.raises(ForeignFormat, match=f"no bucket b'metcd' but with {buckets}: "):
        BTreeStore(path)
    assert check_file(real_env(), str(path)) == []
    with BTreeStore(path, read_only=True, bucket=None) as store, store.view() as view:
        assert store.check() == []
        assert view.bucket(*nested).get(value) is not None
    text = "\n".join(BTreeStore.dump(str(path), real_env()))
    assert repr(nested[-1]) in text and repr(value) in text
    assert "violation" not in text and "damaged" not in text


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_without_our_bucket_says_which_it_has(etcds: Path, read_only: bool) -> None:
    """Not an empty store: a sentence with the buckets and what to do; nothing is changed."""
    before = etcds.read_bytes()
    with pytest.raises(ForeignFormat, match=r"no bucket b'metcd' but with b'alarm', .*b'key'.*: name the one to open"):
        BTreeStore(etcds, read_only=read_only)
    with pytest.raises(ForeignFormat, match="no bucket b'kye'"):
        BTreeStore(etcds, read_only=True, bucket=b"kye")
    assert etcds.read_bytes() == before


def test_many_buckets_are_counted(tmp_path: Path) -> None:
    """The sentence stays one line, however many there are."""
    path = tmp_path / "db"
    for number in range(30):
        with BTreeStore(path, bucket=b"bucket %02d" % number) as store:
            store.put(b"a", b"1")
    with pytest.raises(ForeignFormat, match="b'bucket 11' and 18 more: "):
        BTreeStore(path)


def test_a_new_bucket_beside_others_is_made_by_its_name(etcds: Path) -> None:
    """A caller who wants one says its name; the first write makes it, and the others stay."""
    with BTreeStore(etcds, bucket=b"mine") as store:
        assert dict(store.scan()) == {}
        store.put(b"a", b"1")
        with store.view() as view:
            assert {b"key", b"mine"} <= set(view.root_bucket().buckets())
    with BTreeStore(etcds, bucket=b"key", read_only=True) as store:
        assert len(list(store.scan())) == 12


def test_a_whole_file_is_looked_at_without_a_bucket(etcds: Path) -> None:
    """bucket=None: views, check and describe; for reading only."""
    with BTreeStore(etcds, read_only=True, bucket=None) as store:
        assert store.describe()["buckets"][:2] == ["alarm", "auth"] and store.stats().engine["keys"] == 10
        assert list(store.scan()) == [] and store.get(b"key") is None
        with store.view() as view:
            assert dict(view.bucket(b"cluster").scan()) == {b"clusterVersion": b"3.4.0"}
        with pytest.raises(ReadOnly):
            store.put(b"a", b"1")
        assert store.check() == []
    with pytest.raises(InvalidOption, match="wants bucket to be the name of one, unless read_only is True"):
        BTreeStore(etcds, bucket=None)


def test_damage_in_anybodys_bucket_is_told(tmp_path: Path) -> None:
    """check walks the whole file: here a key in a nested bucket of another program lies where it doesn't belong."""
    path = unpacked("bbolt", tmp_path)
    assert check_file(real_env(), str(path)) == []
    path.write_bytes(path.read_bytes().replace(b"66nested", b"06nested"))
    assert any("key b'06'" in problem for problem in check_file(real_env(), str(path)))
    with BTreeStore(path, read_only=True, bucket=None) as store:
        assert any("key b'06'" in problem for problem in store.check())


def test_etcds_file_has_no_freelist_and_is_written_all_the_same(etcds: Path) -> None:
    """etcd opens bbolt with NoFreelistSync: a walk finds the free pages, for reading, for check, and for our first write."""
    with BTreeStore(etcds, bucket=b"key") as store:
        assert store._current.state.meta.freelist == NO_FREELIST
        assert store.stats().engine["free_pages"] == 2
        before = dict(store.scan())
        store.put(b"a", b"1")
        assert store._current.state.meta.freelist != NO_FREELIST
        assert dict(store.scan()) == before | {b"a": b"1"} and store.check() == []
    assert check_file(real_env(), str(etcds)) == []


def test_a_dump_shows_what_is_in_inline_buckets(etcds: Path, tmp_path: Path) -> None:
    """etcd's small buckets lie in the leaf of the root bucket: names, pairs, and the roots of those with pages."""
    lines = list(BTreeStore.dump(str(etcds), real_env()))
    at = lines.index("  b'cluster': inline bucket, 1 elements")
    assert lines[at + 1] == "    b'clusterVersion': b'3.4.0'"
    lines = list(BTreeStore.dump(str(unpacked("bbolt", tmp_path)), real_env()))
    assert "  b'metcd': bucket, root page 28" in lines
    at = lines.index("  b'b': inline bucket, 1 elements")
    assert lines[at + 1] == "    b'k': b'inline'"


def test_any_bytes_key_can_be_asked_for_and_deleted(etcds: Path) -> None:
    """bbolt's keys have 1 to 32,768 bytes: others are absent, and deleting them does nothing."""

    def asked(store: KVStore, key: bytes) -> None:
        assert store.get(key) is None and key not in store and store.multi_get([key]) == [None]
        store.delete(key, sync=False)
        store.delete(key, sync=True)

    with BTreeStore(etcds, bucket=b"key") as store:
        before = dict(store.scan())
        for key in (b"", b"k" * 32_769, b"k" * 1_000_000):
            asked(store, key)
            with store.update() as tx:
                tx.delete(key)
                assert tx.get(key) is None
            with store.snapshot() as snapshot:
                assert snapshot.get(key) is None
        assert dict(store.scan()) == before and store.check() == []


@pytest.mark.parametrize("name", ["etcd", "podman", "containerd", "raft-boltdb"])
def test_nobody_claims_another_programs_file(tmp_path: Path, name: str) -> None:
    """`which` says None, and another engine that is to open it says what it is; with its bucket's name it is opened."""
    path = unpacked(name, tmp_path)
    assert engines.which(path) is None
    with pytest.raises(ForeignFormat, match="a bolt file of another program"):
        engines.open(path, "lsm")
    bucket = {"etcd": b"key", "podman": b"all-ctrs", "containerd": b"v1", "raft-boltdb": b"conf"}[name]
    with engines.open(path, "btree", bucket=bucket) as store:
        store.put(b"ours", b"1")
    assert engines.which(path) == "btree", "whose root page we have written"


def test_a_file_of_ours_is_ours_whatever_its_bucket_is_called(tmp_path: Path) -> None:
    """By the checksum of the root page; an empty file, and one that bbolt has written with our bucket, are ours too."""
    for bucket in (b"mine", b"metcd"):
        path = tmp_path / f"{bucket.decode()}.db"
        BTreeStore(path, bucket=bucket).close()
        assert engines.which(path) == "btree"
        with BTreeStore(path, bucket=bucket) as store:
            store.put(b"a", b"1")
        assert engines.which(path) == "btree"
    assert engines.which(unpacked("bbolt", tmp_path)) == engines.which(unpacked("ours", tmp_path)) == "btree"
