"""Files of bbolt 1.3.6, of etcd 3.4 and of PyPI's boltdb (golden/README.md), and one of ours that both judges have passed: where no Go is installed, these
take the place of tests/interop. And FORMAT.md's hex, byte for byte."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import engines
from engines import CorruptionError, ForeignFormat, InvalidKey
from engines.btree import BTreeStore, Bucket, check_file
from engines.btree.meta import fnv1a_64
from engines.btree.transaction import View
from engines.env import real_env

GOLDEN = Path(__file__).parent / "golden"
FORMAT = Path(engines.__file__).parent / "btree" / "FORMAT.md"

# bbolt.db: by path of bucket. Pages and overflow runs, nested buckets, an inline one.
THEIRS: dict[tuple[bytes, ...], dict[bytes, bytes]] = {
    (b"metcd",): {b"%04d" % number: b"v" * (number % 70) for number in range(900)},
    (b"other",): {b"large": b"L" * 20_000, b"empty": b""},
    (b"other", b"nested"): {b"%d" % number: b"nested" * 40 for number in range(100)},
    (b"small", b"a", b"b"): {b"k": b"inline"},
}
OURS = {b"%04d" % number: b"value %d" % number * (number % 9) for number in range(0, 700, 3)} | {b"large": b"L" * 9_000}


def write_ours(path: str) -> None:
    """A history whose file is the same bytes for ever: the format is final."""
    with BTreeStore(path, page_size=1024) as store:
        store.load((key, b"old") for key in sorted(OURS))
        with store.batch() as batch:
            for key, value in OURS.items():
                batch.put(key, value)
        for number in range(1, 700, 3):
            store.put(b"%04d" % number, b"for a while", sync=number % 100 == 1)
        for number in range(1, 700, 3):
            store.delete(b"%04d" % number, sync=False)


def content(view: View, names: tuple[bytes, ...]) -> dict[bytes, bytes]:
    bucket: Bucket = view.bucket(*names)
    found = dict(bucket.scan())
    assert list(bucket.scan(reverse=True)) == list(reversed(found.items()))
    assert [bucket.get(key) for key in found] == list(found.values())
    return found


@pytest.mark.parametrize("golden", ["bbolt"], indirect=True)
def test_a_file_of_bbolts_is_read_and_written(golden: Path) -> None:
    """Every bucket in it, in both directions and key by key; and ours goes on in it."""
    assert check_file(real_env(), str(golden)) == []
    with BTreeStore(str(golden)) as store:
        with store.view() as view:
            assert {names: content(view, names) for names in THEIRS} == THEIRS
            assert view.root_bucket().buckets() == [b"metcd", b"other", b"small"]
            assert view.bucket(b"small").buckets() == [b"a"]
        assert dict(store.scan()) == THEIRS[b"metcd",]
        for number in range(0, 900, 2):
            store.put(b"%04d" % number, b"ours", sync=False)
        assert store.check() == []
        store.compact()
        with store.view() as view:
            assert {names: content(view, names) for names in THEIRS if names[0] != b"metcd"} == {
                names: items for names, items in THEIRS.items() if names[0] != b"metcd"
            }
    assert check_file(real_env(), str(golden)) == []


@pytest.mark.parametrize("golden", ["bbolt"], indirect=True)
def test_sequences_of_buckets_are_kept(golden: Path) -> None:
    """bbolt's users count in them: through our writes, synced or not, and through compaction, ours and others' buckets."""
    data = golden.read_bytes()
    with BTreeStore(str(golden), read_only=True) as store, store.view() as view:
        leaf = store._current.state.pager.load(store._current.state.meta.root)
        roots = dict(zip(leaf.keys, leaf.values))
        assert view.bucket(b"other").sequence == 0
    for name, sequence in ((b"metcd", 7), (b"other", 77)):
        entry = name + roots[name]
        assert entry in data  # and again in older root pages, which are free now
        data = data.replace(entry, entry[:-8] + sequence.to_bytes(8, "little"))
    golden.write_bytes(data)
    with BTreeStore(str(golden)) as store:
        for number in range(40):
            store.put(b"%04d" % number, b"ours" * number, sync=number % 3 == 0)
        for _ in range(2):
            with store.view() as view:
                assert (view.bucket(b"metcd").sequence, view.bucket(b"other").sequence) == (7, 77)
            store.compact()
            store.put(b"and on", b"it goes")


@pytest.mark.parametrize("golden", ["bbolt"], indirect=True)
@pytest.mark.parametrize(
    "keys", [[], [b"a"], [b"z"], [b"a", b"o", b"z"], [b"%05d" % number for number in range(3_000)]]
)
def test_load_keeps_the_buckets_nested_in_the_stores_own(golden: Path, keys: list[bytes]) -> None:
    """They are another program's, and put and delete leave them alone, too: only the pairs beside them are replaced."""
    nested = (b"other", b"nested")
    with BTreeStore(str(golden), bucket=b"other") as store:
        for _ in range(2):
            store.load((key, b"loaded") for key in keys)
            assert dict(store.scan()) == dict.fromkeys(keys, b"loaded")
            assert store.check() == []
            with store.view() as view:
                assert content(view, nested) == THEIRS[nested]
        for names in ([b"nested"], [b"a", b"nested", b"z"]):
            with pytest.raises(InvalidKey, match="is a bucket of another program"):
                store.load((key, b"refused") for key in names)
        assert dict(store.scan()) == dict.fromkeys(keys, b"loaded") and store.check() == []
    assert check_file(real_env(), str(golden)) == []


@pytest.mark.parametrize("golden", ["bbolt"], indirect=True)
def test_a_bucket_within_itself_is_found_out(golden: Path) -> None:
    """A damaged root id may lead back to where it stands: a typed error each, and the store goes on."""
    with BTreeStore(str(golden), read_only=True) as store:
        top = store._current.state.meta.root
        leaf = store._current.state.pager.load(top)
        value = dict(zip(leaf.keys, leaf.values))[b"other"]
    golden.write_bytes(golden.read_bytes().replace(b"other" + value, b"other" + top.to_bytes(8, "little") + value[8:]))
    assert check_file(real_env(), str(golden))
    with BTreeStore(str(golden)) as store:
        for call in (store.compact, store.stats):
            with pytest.raises(CorruptionError):
                call()
        store.put(b"and on", b"it goes")
        assert store.get(b"0001") == b"v"
        assert os.listdir(golden.parent) == [golden.name]


@pytest.mark.parametrize("golden", ["etcd"], indirect=True)
def test_a_file_of_etcds_is_read(golden: Path) -> None:
    """Made by etcd 3.4.23 with twelve puts; `key` has its revisions, 17 bytes each."""
    assert check_file(real_env(), str(golden)) == []
    with BTreeStore(str(golden), bucket=b"key", read_only=True) as store, store.view() as view:
        assert {b"alarm", b"auth", b"cluster", b"key", b"lease", b"members", b"meta"} <= set(
            view.root_bucket().buckets()
        )
        revisions = list(store.scan())
        assert len(revisions) == 12 and {len(key) for key, _ in revisions} == {17}
        assert all(b"key%d" % number in value for number, (_, value) in enumerate(revisions))


@pytest.mark.parametrize("golden", ["boltdb"], indirect=True)
def test_a_file_without_checksums_is_refused_in_a_sentence(golden: Path) -> None:
    """PyPI's boltdb writes 0 for the checksum of each meta; bbolt took that for "not set" up to 1.3.6, and refuses it since.

    It is no damage, and nothing is changed.
    """
    before = golden.read_bytes()
    for open_it in (
        lambda: BTreeStore(str(golden)),
        lambda: BTreeStore(str(golden), read_only=True),
        lambda: check_file(real_env(), str(golden)),
    ):
        with pytest.raises(ForeignFormat, match=r"without checksums.* boltdb of PyPI .*bolt compact -o NEW OLD"):
            open_it()
    assert golden.read_bytes() == before and os.listdir(golden.parent) == [golden.name]
    (line,) = BTreeStore.dump(str(golden), real_env())
    assert "without checksums" in line


@pytest.mark.parametrize("golden", ["boltdb"], indirect=True)
def test_one_meta_with_a_checksum_is_enough(golden: Path) -> None:
    """What a commit of bbolt 1.3.6 leaves in such a file: a good meta, and an older one with 0, which doesn't count."""
    content = bytearray(golden.read_bytes())
    start = 16 if content[64] > content[4096 + 64] else 4096 + 16
    content[start + 56 : start + 64] = fnv1a_64(content[start : start + 56]).to_bytes(8, "little")
    golden.write_bytes(content)
    with BTreeStore(str(golden), read_only=True) as store:
        assert dict(store.scan()) == {b"key%02d" % number: b"value 2 %d" % number for number in range(20)}
        assert [problem for problem in store.check() if "meta" in problem] == [
            "meta page 1: it has no checksum: 0, which bbolt takes for a wrong one since 1.3.7"
        ]


@pytest.mark.parametrize("golden", ["boltdb"], indirect=True)
def test_a_newer_meta_without_a_checksum_is_not_passed_over(golden: Path) -> None:
    """What boltdb leaves in a file of bbolt's: to take the older meta would undo its last commit without a word."""
    content = bytearray(golden.read_bytes())
    older = 16 if content[64] < content[4096 + 64] else 4096 + 16
    content[older + 56 : older + 64] = fnv1a_64(content[older : older + 56]).to_bytes(8, "little")
    golden.write_bytes(content)
    for open_it in (lambda: BTreeStore(str(golden)), lambda: check_file(real_env(), str(golden))):
        with pytest.raises(ForeignFormat, match="without checksums"):
            open_it()
    assert golden.read_bytes() == content


@pytest.mark.parametrize("golden", ["ours"], indirect=True)
def test_our_file_is_the_same_bytes_for_ever(golden: Path, tmp_path: Path) -> None:
    """bbolt 1.3.6 and boltdb 1.3.1 have checked this one. What one version wrote, every later one writes alike."""
    write_ours(str(tmp_path / "again.db"))
    assert (tmp_path / "again.db").read_bytes() == golden.read_bytes()
    with BTreeStore(str(golden), read_only=True) as store:
        assert dict(store.scan()) == OURS and store.check() == []


def test_the_hex_in_format_md_is_true(tmp_path: Path) -> None:
    """The file of `hello` = `world`; what the dump leaves out is zero."""
    path = tmp_path / "store.db"
    with BTreeStore(str(path)) as store:
        store.put(b"hello", b"world")
    data = path.read_bytes()
    shown = re.findall(r"^([0-9a-f]{8}): ((?:[0-9a-f]{4} ){8})", FORMAT.read_text("utf-8"), re.MULTILINE)
    assert len(shown) > 20
    told = bytearray(len(data))
    for offset, words in shown:
        told[int(offset, 16) : int(offset, 16) + 16] = bytes.fromhex(words)
    assert told == data
