"""The real boltdb and bbolt open, check, dump and write our files, and we theirs.

Two judges: boltdb 1.3.1's own `check` command, and a program of ours linked with the bbolt that is installed
(tests/interop/bbolt_judge; 1.3.6 in Debian 12), which checks, walks every bucket with bbolt's cursor in both directions,
and asks `Get` for every key, so that separators are used as well. etcdctl, which has a bbolt of its own inside, is a third.

Each scene looks into the file to see that what it is named for took place.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from engines import ForeignFormat, StoreLocked
from engines.btree import BTreeStore, check_file
from engines.btree.meta import NO_FREELIST, Meta, MetaError
from engines.btree.page import BRANCH, BucketValue, header, read_branch, read_leaf
from engines.btree.provisional import page_sum
from engines.env import real_env
from tests.btree.mutations import MUTATIONS, make_database, numbers_of
from tests.interop.bbolt_tools import Operation, Tools, build_tools, dump_view
from tests.server.local_nodes import free_ports

BUCKET = b"metcd"
GOLDEN = Path(__file__).parent.parent / "btree" / "golden"
HISTORIES = 6


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    built = build_tools(tmp_path_factory.mktemp("go"))
    if built is None:
        pytest.skip("needs golang-go golang-github-coreos-bbolt-dev golang-github-boltdb-bolt-dev")
    return built


@dataclass(frozen=True)
class Found:
    """What is in a file, page by page, as the metas lead to it."""

    metas: list[Meta]  # of page 0 and page 1; a damaged one is left out
    buckets: list[BucketValue]  # of all trees
    branches: int
    overflows: int  # runs of several pages
    checksummed: int  # runs with our checksum
    runs: int

    @property
    def inline(self) -> int:
        """How many buckets are inline."""
        return sum(bucket[:8] == bytes(8) for bucket in self.buckets)


def look_into(path: Path) -> Found:
    """Reads the file with nothing but the page's decoders."""
    data = path.read_bytes()
    metas = []
    for page in (0, 1):
        with contextlib.suppress(MetaError):
            metas.append(Meta.decode(data[page * page_bytes_of(data) :]))
    size = metas[0].page_bytes
    todo = [max(metas, key=lambda meta: meta.txid).root]
    buckets: list[BucketValue] = []
    branches = overflows = checksummed = runs = 0
    while todo:
        start = todo.pop() * size
        _, flags, count, overflow = header.unpack_from(data, start)
        run = data[start : start + (overflow + 1) * size]
        runs += 1
        overflows += overflow > 0
        checksummed += run[-8:-4] == b"CRC1"
        if flags == BRANCH:
            branches += 1
            todo += read_branch(run, count)[1]
            continue
        found = [value for value in read_leaf(run, count)[1] if isinstance(value, BucketValue)]
        buckets += found
        todo += [root for root in (int.from_bytes(value[:8], "little") for value in found) if root]
    return Found(metas, buckets, branches, overflows, checksummed, runs)


def page_bytes_of(data: bytes) -> int:
    return int.from_bytes(data[24:28], "little")


def in_bucket(content: dict[bytes, bytes]) -> dict[str, bytes | None]:
    """The judge's dump of a file with these keys in our bucket."""
    if not content:
        return {f"/{BUCKET.hex()}": None}
    return {f"/{BUCKET.hex()}": None, **{f"/{BUCKET.hex()}/{key.hex()}": value for key, value in content.items()}}


def random_operations(rng: random.Random, count: int) -> list[Operation]:
    """Puts and deletes over 4,000 keys, with values of every size class: none, small, overflow pages."""
    operations: list[Operation] = []
    for _ in range(count):
        key = b"%d" % rng.randrange(4_000) * rng.choice((1, 1, 1, 7))
        size = rng.choice((0, 3, 40, 40, 300, 1_000 if rng.random() < 0.2 else 9, 40_000 if rng.random() < 0.05 else 5))
        operations.append((key, None if rng.random() < 0.3 else rng.randbytes(size)))
    return operations


def apply(content: dict[bytes, bytes], operations: list[Operation]) -> None:
    for key, value in operations:
        if value is None:
            content.pop(key, None)
        else:
            content[key] = value


def write(store: BTreeStore, rng: random.Random, content: dict[bytes, bytes], steps: int) -> None:
    """A random history: single writes and batches, with and without sync, loads, flushes, compactions."""
    for _ in range(steps):
        choice = rng.random()
        if choice < 0.02:
            pairs = sorted((b"%06d" % rng.randrange(10**6), rng.randbytes(rng.randrange(90))) for _ in range(800))
            pairs = sorted(dict(pairs).items())
            store.load(pairs)
            content.clear()
            content.update(pairs)
        elif choice < 0.05:
            store.compact()
        elif choice < 0.08:
            store.flush()
        else:
            operations = random_operations(rng, rng.choice((1, 1, 1, 5, 60)))
            with store.batch(sync=rng.random() < 0.3) as batch:
                for key, value in operations:
                    batch.delete(key) if value is None else batch.put(key, value)
            apply(content, operations)


@pytest.mark.parametrize("number", range(HISTORIES))
def test_bbolt_reads_our_histories(tools: Tools, tmp_path: Path, seed: int, number: int) -> None:
    """Both checks pass, and both directions of bbolt's cursor, and Get of every key, show what we wrote."""
    rng = random.Random(f"{seed} {number}")
    path = tmp_path / "our.db"
    content: dict[bytes, bytes] = {}
    for _ in range(3):
        with BTreeStore(str(path), sync=False, page_size=rng.choice((1024, 4096, 16384))) as store:
            write(store, rng, content, 60)
            enough = {b"more %03d" % number: b"v" * 40 for number in range(600)} | {b"large": rng.randbytes(40_000)}
            with store.batch() as batch:
                for key, value in enough.items():
                    batch.put(key, value)
            content.update(enough)
            assert store.check() == []
        tools.check(path)
        assert tools.dump(path) == in_bucket(content)
        backwards = tools.dump(path, "reverse")
        assert backwards == in_bucket(content)
        assert check_file(real_env(), str(path)) == []
        found = look_into(path)
        assert found.checksummed == found.runs, "every page is one of ours"
        assert found.branches and found.overflows, "several leaves, and a value of several pages"


def test_our_check_passes_bbolts_histories(tools: Tools, tmp_path: Path, seed: int) -> None:
    """Nested and inline buckets, sequences, overflow runs: everything in a file of bbolt's is read, and found well."""
    for number in range(HISTORIES):
        path = tmp_path / f"{number}.db"
        tools.run("history", path, seed * 1_000 + number, 60)
        assert check_file(real_env(), str(path)) == []
        found = look_into(path)
        assert found.checksummed == 0 and found.branches and found.overflows
        assert 0 < found.inline < len(found.buckets) and any(bucket[8:16] != bytes(8) for bucket in found.buckets)
        with BTreeStore(str(path), read_only=True) as store, store.view() as view:
            assert store.check() == []
            assert dump_view(view) == tools.dump(path)
            assert {key for key, _ in store.scan()} == {
                bytes.fromhex(name.split("/")[2])
                for name, value in tools.dump(path).items()
                if name.startswith(f"/{BUCKET.hex()}/") and value is not None
            }


def test_the_golden_files_are_well(tools: Tools, tmp_path: Path) -> None:
    """What tests/btree compares with where there is no Go."""
    for name in ("bbolt", "etcd", "ours", "podman", "containerd", "raft-boltdb"):
        path = tmp_path / f"{name}.db"
        path.write_bytes(gzip.decompress((GOLDEN / f"{name}.db.gz").read_bytes()))
        if name == "etcd":  # it writes no freelist, and boltdb 1.3.1 does not survive that
            tools.run("check", path)
        else:
            tools.check(path)
        with BTreeStore(str(path), read_only=True, bucket=None) as store, store.view() as view:
            assert dump_view(view) == tools.dump(path)


def test_writers_alternate_on_one_file(tools: Tools, tmp_path: Path, rng: random.Random) -> None:
    """Ours and bbolt's, in turn: the first few rounds leave an inline bucket, the last ones many pages."""
    path = tmp_path / "shared.db"
    content: dict[bytes, bytes] = {}
    inline: list[int] = []
    for number in range(16):
        operations = random_operations(rng, 400) if number > 3 else [(b"%d" % number, b"small")]
        if number % 2:
            with BTreeStore(str(path), sync=False) as store:
                assert dict(store.scan()) == content
                for key, value in operations:
                    store.delete(key) if value is None else store.put(key, value)
                assert store.check() == []
        else:
            tools.apply(path, BUCKET, [operations[:50], operations[50:]])
        apply(content, operations)
        tools.check(path)
        assert tools.dump(path) == in_bucket(content)
        assert check_file(real_env(), str(path)) == []
        inline.append(look_into(path).inline)
    found = look_into(path)
    assert inline[0] == 1 and inline[-1] == 0, "bbolt has left an inline bucket, and we have written to it"
    assert 0 < found.checksummed < found.runs and found.branches, "pages of both are in the tree"


def test_other_buckets_survive_our_writes(tools: Tools, tmp_path: Path, seed: int, rng: random.Random) -> None:
    """Nested and inline buckets of another program stay as they are, through writes, loads and compactions of ours."""
    path = tmp_path / "their.db"
    tools.run("history", path, seed, 40)
    ours = f"/{BUCKET.hex()}"
    others = {name: value for name, value in tools.dump(path).items() if not name.startswith(ours)}
    assert len(others) > 100
    content: dict[bytes, bytes] = {}
    with BTreeStore(str(path), sync=False) as store:
        store.load([])
        write(store, rng, content, 80)
        before = path.stat().st_ino
        store.compact()
        assert path.stat().st_ino != before
        write(store, rng, content, 20)
    tools.check(path)
    assert look_into(path).inline > 0
    assert tools.dump(path) == {**others, **in_bucket(content)}


def test_a_backup_is_a_database_to_bbolt(tools: Tools, tmp_path: Path, rng: random.Random) -> None:
    """View.write_to, of a synced and of an unsynced commit, while the writer goes on."""
    content: dict[bytes, bytes] = {}
    with BTreeStore(str(tmp_path / "store.db"), sync=False) as store:
        for number, synced in enumerate((True, False)):
            write(store, rng, content, 40)
            store.put(b"last", b"%d" % number, sync=synced)
            content[b"last"] = b"%d" % number
            expected = dict(content)
            newest = max(look_into(tmp_path / "store.db").metas, key=lambda meta: meta.txid)
            assert (page_sum(newest) is None) is synced
            with store.view() as view, open(tmp_path / f"{number}.db", "wb") as sink:
                write(store, rng, content, 40)
                assert view.write_to(sink) == sink.tell() and view.txid == newest.txid
            tools.check(tmp_path / f"{number}.db")
            assert tools.dump(tmp_path / f"{number}.db") == in_bucket(expected)
            assert [meta.txid % 2 for meta in look_into(tmp_path / f"{number}.db").metas] == [0, 1]


def test_bbolts_backups_are_well(tools: Tools, tmp_path: Path, seed: int) -> None:
    """Tx.WriteTo: the newest meta in page 0, with odd and even txids, and the same state under txid - 1 in page 1."""
    path = tmp_path / "their.db"
    parities = set()
    for number in range(6):
        tools.run("history", path, seed + number, 1 + number % 2)
        copy = tmp_path / f"{number}.db"
        tools.run("backup", path, copy)
        newest, twin = look_into(copy).metas
        assert (twin.txid, twin.root, twin.freelist) == (newest.txid - 1, newest.root, newest.freelist)
        parities.add(newest.txid % 2)
        assert check_file(real_env(), str(copy)) == []
        expected = tools.dump(copy)
        with BTreeStore(copy) as store:
            assert store.check() == []
            store.put(b"ours", b"unsynced", sync=False)
            store.put(b"ours", b"synced")
        tools.check(copy)
        assert tools.dump(copy) == expected | in_bucket({b"ours": b"synced"})
    assert parities == {0, 1}


@pytest.mark.parametrize("page_bytes", [100, 512, 1000, 1536, 5000, 65_536])
def test_any_page_size_of_bbolts(tools: Tools, tmp_path: Path, seed: int, rng: random.Random, page_bytes: int) -> None:
    """Options.PageSize takes any: what bbolt has made so, we read and write, and bbolt finds it well."""
    path = tmp_path / "their.db"
    tools.run("history", path, seed, 40, page_bytes)
    assert {meta.page_bytes for meta in look_into(path).metas} == {page_bytes}
    assert check_file(real_env(), str(path)) == []
    theirs = tools.dump(path)
    others = {name: value for name, value in theirs.items() if not name.startswith(f"/{BUCKET.hex()}")}
    content: dict[bytes, bytes] = {}
    with BTreeStore(path, sync=False) as store:
        with store.view() as view:
            assert dump_view(view) == theirs
        store.load([])
        write(store, rng, content, 40)
        assert store.check() == []
    tools.check(path)
    assert tools.dump(path) == {**others, **in_bucket(content)}


def test_a_file_without_checksums_is_converted_by_boltdb(tools: Tools, tmp_path: Path) -> None:
    """PyPI's boltdb writes 0 for them: bbolt takes that up to 1.3.6, and boltdb's compact makes a file that we open."""
    path, copy = tmp_path / "boltdb.db", tmp_path / "converted.db"
    path.write_bytes(gzip.decompress((GOLDEN / "boltdb.db.gz").read_bytes()))
    data = path.read_bytes()
    assert [data[page * 4096 + 72 : page * 4096 + 80] for page in (0, 1)] == [bytes(8)] * 2
    expected = in_bucket({b"key%02d" % number: b"value 2 %d" % number for number in range(20)})
    if numbers_of(tools.version) <= [1, 3, 6]:
        assert tools.dump(path) == expected
    else:
        with pytest.raises(AssertionError, match=r"invalid database|checksum"):
            tools.dump(path)
    with pytest.raises(ForeignFormat, match="without checksums"):
        BTreeStore(path)
    if tools.bolt is not None:
        tools.run_bolt("compact", "-o", copy, path)
        with BTreeStore(copy) as store, store.view() as view:
            assert dump_view(view) == expected and store.check() == []


def test_bbolt_and_we_keep_each_other_out(tools: Tools, tmp_path: Path) -> None:
    """flock on the database file itself, by both."""
    path = tmp_path / "locked.db"
    with BTreeStore(str(path)) as store:
        store.put(b"a", b"1")
        with pytest.raises(AssertionError, match="timeout"):
            tools.run("check", path)
    tools.run("check", path)  # the other way round: test_a_file_of_etcd_opens


def test_a_file_of_etcd_opens(tmp_path: Path) -> None:
    """A file that a real etcd has made: opens, passes our check, dumps, and shows the keys that were put."""
    if shutil.which("etcd") is None or shutil.which("etcdctl") is None:
        pytest.skip("needs etcd-server etcd-client")
    ports = free_ports(2)
    client, peer = (f"http://127.0.0.1:{port}" for port in ports)
    environment = {**os.environ, "ETCDCTL_API": "3", "ETCD_UNSUPPORTED_ARCH": "arm64"}
    urls = ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
    urls += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(["etcd", "--data-dir", str(tmp_path / "etcd"), *urls], env=environment, stderr=log)
    try:
        put = ["etcdctl", "--endpoints", client, "put"]
        for _ in range(100):
            ended = subprocess.run([*put, "hello", "world"], env=environment, capture_output=True, timeout=30)
            if ended.returncode == 0:
                break
        assert ended.returncode == 0, ended.stderr.decode() + (tmp_path / "log").read_text()
        for number in range(30):
            subprocess.run(
                [*put, f"key{number}", "v" * 200], env=environment, check=True, capture_output=True, timeout=30
            )
        database = tmp_path / "etcd/member/snap/db"
        for options in ({"bucket": None}, {}):
            with pytest.raises(StoreLocked, match=f"is locked by process {server.pid}: "):
                BTreeStore(database, read_only=True, **options)
        snapshots = snapshots_of_both_parities(tmp_path, [*put[:-1]], environment)
    finally:
        server.terminate()
        server.wait(30)
    assert max(look_into(database).metas, key=lambda meta: meta.txid).freelist == NO_FREELIST
    for path in (database, *snapshots):
        with pytest.raises(ForeignFormat, match="no bucket b'metcd' but with b'alarm'"):
            BTreeStore(path, read_only=True)
        assert check_file(real_env(), str(path)) == []
        with BTreeStore(path, bucket=b"key", read_only=True) as store, store.view() as view:
            assert store.check() == []
            assert {b"key", b"meta", b"members"} <= set(view.root_bucket().buckets())
            dumped = dump_view(view)
            assert len(dumped) > 35
            values = b"".join(value for _, value in store.scan())
            assert b"hello" in values and b"world" in values and b"key29" in values


def snapshots_of_both_parities(directory: Path, etcdctl: list[str], environment: dict[str, str]) -> list[Path]:
    """Two files of `etcdctl snapshot save`: one whose txid is odd, and one whose txid is even.

    etcdctl appends a SHA-256 to each, which lies past the high-water mark.
    """
    found: dict[int, Path] = {}
    for number in range(40):
        path = directory / f"snapshot {number}.db"
        for words in (["put", "count", str(number)], ["snapshot", "save", str(path)]):
            subprocess.run([*etcdctl, *words], env=environment, check=True, capture_output=True, timeout=30)
        newest, twin = look_into(path).metas
        assert twin.txid == newest.txid - 1 and path.stat().st_size % newest.page_bytes == 32
        found[newest.txid % 2] = path
        if len(found) == 2:
            break
    assert set(found) == {0, 1}
    return list(found.values())


def test_etcdctl_finds_our_files_whole(tmp_path: Path, rng: random.Random) -> None:
    """`etcdctl snapshot status` runs the check of the bbolt it was built with, and counts the keys."""
    if shutil.which("etcdctl") is None:
        pytest.skip("needs etcd-client")
    path = tmp_path / "our.db"
    content: dict[bytes, bytes] = {}
    with BTreeStore(str(path), sync=False) as store:
        write(store, rng, content, 60)
    status = subprocess.run(
        ["etcdctl", "snapshot", "status", str(path), "-w", "json"],
        env={**os.environ, "ETCDCTL_API": "3"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["totalKey"] == len(content)


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_bbolts_check_finds_ours_finds(tools: Tools, tmp_path: Path, name: str) -> None:
    """Row by row: ours tells all of them, bbolt those that its version's column says; some of them bbolt isn't given."""
    path = tmp_path / "db"
    file = make_database(path)
    tools.check(path)
    MUTATIONS[name].damage(file)
    path.write_bytes(file.data)
    assert check_file(real_env(), str(path)), f"nobody notices that {name}"
    told = MUTATIONS[name].told_by(tools.version)
    assert told in ("not asked", "?") or tools.violations(path) is (told == "yes")
