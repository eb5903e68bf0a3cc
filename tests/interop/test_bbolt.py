"""The real boltdb and bbolt open, check, dump and write our files, and we theirs.

Two judges: boltdb 1.3.1's own `check` command, and a program of ours linked with bbolt 1.3.6 (tests/interop/bbolt_judge),
which checks, walks every bucket with bbolt's cursor in both directions, and asks `Get` for every key, so that separators
are used as well. etcdctl, which has a bbolt of its own inside, is a third.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from engines.btree import BTreeStore, check_file
from engines.env import real_env
from tests.btree.mutations import MUTATIONS, make_database
from tests.interop.bbolt_tools import Operation, Tools, build_tools, dump_view

BUCKET = b"metcd"
GOLDEN = Path(__file__).parent.parent / "btree" / "golden"
HISTORIES = 6


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    built = build_tools(tmp_path_factory.mktemp("go"))
    if built is None:
        pytest.skip("needs golang-go golang-github-coreos-bbolt-dev golang-github-boltdb-bolt-dev")
    return built


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
            assert store.check() == []
        tools.check(path)
        assert tools.dump(path) == in_bucket(content)
        backwards = tools.dump(path, "reverse")
        assert backwards == in_bucket(content)
        assert check_file(real_env(), str(path)) == []


def test_our_check_passes_bbolts_histories(tools: Tools, tmp_path: Path, seed: int) -> None:
    """Nested and inline buckets, sequences, overflow runs: everything in a file of bbolt's is read, and found well."""
    for number in range(HISTORIES):
        path = tmp_path / f"{number}.db"
        tools.run("history", path, seed * 1_000 + number, 60)
        assert check_file(real_env(), str(path)) == []
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
    for name in ("bbolt", "etcd", "ours"):
        path = tmp_path / f"{name}.db"
        path.write_bytes(gzip.decompress((GOLDEN / f"{name}.db.gz").read_bytes()))
        if name == "etcd":  # it writes no freelist, and boltdb 1.3.1 does not survive that
            tools.run("check", path)
        else:
            tools.check(path)
        with BTreeStore(str(path), read_only=True) as store, store.view() as view:
            assert dump_view(view) == tools.dump(path)


def test_writers_alternate_on_one_file(tools: Tools, tmp_path: Path, rng: random.Random) -> None:
    """Ours and bbolt's, in turn: the first few rounds leave an inline bucket, the last ones many pages."""
    path = tmp_path / "shared.db"
    content: dict[bytes, bytes] = {}
    for number in range(16):
        operations = random_operations(rng, 3 if number < 4 else 400)
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
        store.compact()
        write(store, rng, content, 20)
    tools.check(path)
    assert tools.dump(path) == {**others, **in_bucket(content)}


def test_a_backup_is_a_database_to_bbolt(tools: Tools, tmp_path: Path, rng: random.Random) -> None:
    """View.write_to, of a synced and of an unsynced commit, while the writer goes on."""
    content: dict[bytes, bytes] = {}
    with BTreeStore(str(tmp_path / "store.db"), sync=False) as store:
        write(store, rng, content, 40)
        for number in range(2):
            expected = dict(content)
            with store.view() as view, open(tmp_path / f"{number}.db", "wb") as sink:
                write(store, rng, content, 40)
                assert view.write_to(sink) == sink.tell()
            tools.check(tmp_path / f"{number}.db")
            assert tools.dump(tmp_path / f"{number}.db") == in_bucket(expected)
            store.flush()


def test_bbolt_and_we_keep_each_other_out(tools: Tools, tmp_path: Path) -> None:
    """flock on the database file itself, by both."""
    path = tmp_path / "locked.db"
    with BTreeStore(str(path)) as store:
        store.put(b"a", b"1")
        with pytest.raises(AssertionError, match="timeout"):
            tools.run("check", path)
    tools.run("check", path)


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
        snapshot = tmp_path / "snapshot.db"
        save = ["etcdctl", "--endpoints", client, "snapshot", "save", str(snapshot)]
        subprocess.run(save, env=environment, check=True, capture_output=True, timeout=30)
    finally:
        server.terminate()
        server.wait(30)
    for path in (tmp_path / "etcd/member/snap/db", snapshot):
        # etcdctl appends a SHA-256 to a snapshot, which lies behind the high-water mark
        with BTreeStore(str(path), bucket=b"key", read_only=True) as store, store.view() as view:
            problems = [problem for problem in store.check() if "belongs to page" not in problem]
            assert problems == []
            assert {b"key", b"meta", b"members"} <= set(view.root_bucket().buckets())
            dumped = dump_view(view)
            assert len(dumped) > 35
            values = b"".join(value for _, value in store.scan())
            assert b"hello" in values and b"world" in values and b"key29" in values


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


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_bbolts_check_finds_ours_finds(tools: Tools, tmp_path: Path, name: str) -> None:
    """Row by row: ours tells all of them, bbolt 1.3.6 those that the table says (it ends in a signal at others)."""
    path = tmp_path / "db"
    file = make_database(path)
    tools.check(path)
    MUTATIONS[name].damage(file)
    path.write_bytes(file.data)
    assert check_file(real_env(), str(path)), f"nobody notices that {name}"
    expected = MUTATIONS[name].bbolt_tells
    assert tools.violations(path) is (expected is not False)
