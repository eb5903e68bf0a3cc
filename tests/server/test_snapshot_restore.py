"""A saved state, and a new cluster of it: on other engines, at other addresses, with every pair."""

import base64
import contextlib
import dataclasses
import hashlib
import json

import pytest

import engines
from engines.env import real_env
from engines.errors import CorruptionError, StoreLocked
from raft.raftpb import ConfState, SnapshotMetadata
from server import inspect
from server.cli import main
from server.config import NodeConfig
from server.errors import DirectoryRefused
from server.http import FrontEnd
from server.identity import read_identity
from server.node import Node
from server.snapshot import find_snapshots, read_snapshot, save, summarize, write_snapshot
from server.snapshot_restore import RestoreRefused, restore
from server.v3.attributes import NAME_ROW
from tests.server.fake_node import FakeNode
from tests.server.fake_node import serving as serving_fake
from tests.server.gateways import asked, serving
from tests.server.local_nodes import LocalCluster, eventually, free_ports

BUILT = sorted(name for name in engines.ENGINES if engines.engine_class(name).persistent)


@pytest.fixture
def saved(tmp_path):
    """A cluster's state in a file, and what it holds of users' pairs."""
    with LocalCluster(tmp_path / "old", ["memory"]) as cluster:
        for number in range(200):
            cluster.put(cluster.leader(), b"key%03d" % number, b"=%d" % number)
        cluster.leader().propose([(b"key%03d" % number, None) for number in range(0, 200, 7)])
        node = cluster.leader()
        path = str(tmp_path / "backup")
        save(path, node.snapshot_stream().blocks)
        return path, dict(node.machine.scan())


def new_cluster(tmp_path, names, **options) -> LocalCluster:
    return LocalCluster(tmp_path / "new", names, **options)


def restored(cluster: LocalCluster, path: str, ids=None) -> None:
    """Restores the nodes' directories, and has the cluster's nodes started with the token."""
    for node_id in ids or cluster.configs:
        done = restore(path, cluster.configs[node_id])
        cluster.configs[node_id] = dataclasses.replace(cluster.configs[node_id], cluster_token=done.token)


def test_one_file_is_restored_on_three_engines_and_they_form_a_cluster(tmp_path, saved):
    path, pairs = saved
    of = summarize(path).metadata
    cluster = new_cluster(tmp_path, BUILT, snapshot_entries=20, catch_up_entries=5)
    restored(cluster, path)
    for config in cluster.configs.values():
        assert inspect.check(config.data_dir) == []
    with cluster:
        index = cluster.put(cluster.leader(), b"new", b"one")
        assert index > of.index, "indexes go on where the old cluster's were"
        assert cluster.leader().status()["term"] > of.term
        cluster.converged()
        for node in cluster.nodes.values():
            assert dict(node.machine.scan()) == pairs | {b"new": b"one"}
            assert node.machine.conf_state == ConfState((1, 2, 3))
            assert {member.address for member in node.members.book.members.values()} == {
                *cluster.configs[1].peers.values()
            }
        for number in range(60):
            cluster.put(cluster.leader(), b"more%d" % number, b"v")
        for node_id in (1, 2, 3):
            cluster.stop(node_id)
        for node_id in (1, 2, 3):
            cluster.start(node_id)
        cluster.put(cluster.leader(), b"last", b"one")
        cluster.converged()
        assert len(dict(cluster.nodes[2].machine.scan())) == len(pairs) + 62


def test_a_memory_node_can_be_restored_alone(tmp_path, saved):
    path, pairs = saved
    cluster = new_cluster(tmp_path, ["memory"])
    restored(cluster, path)
    with cluster:
        cluster.put(cluster.leader(), b"new", b"one")
        assert dict(cluster.nodes[1].machine.scan()) == pairs | {b"new": b"one"}


def test_all_nodes_of_a_file_begin_with_one_state(tmp_path, saved):
    """Byte for byte: what a node of them is sent later must continue what it has."""
    path, _ = saved
    cluster = new_cluster(tmp_path, BUILT)
    restored(cluster, path)
    files = [next(find_snapshots(f"{config.data_dir}/snap")) for config in cluster.configs.values()]
    contents = set()
    for found in files:
        with open(found.path, "rb") as file:
            contents.add(file.read())
    assert len(contents) == 1


def test_nodes_of_two_files_are_of_two_clusters(tmp_path, saved):
    path, _ = saved
    metadata, pairs = read_snapshot(path)
    pairs = [(key, b"other" if key == b"kkey001" else value) for key, value in pairs]
    (tmp_path / "other").mkdir()
    other = write_snapshot(str(tmp_path / "other"), metadata, pairs)
    cluster = new_cluster(tmp_path, ["memory"] * 2)
    restored(cluster, path, [1])
    restored(cluster, other, [2])
    ids = [read_identity(config.data_dir).cluster_id for config in cluster.configs.values()]
    assert ids[0] != ids[1]
    with pytest.raises(DirectoryRefused, match="belongs to cluster"):
        Node(dataclasses.replace(cluster.configs[1], cluster_token=""))


def test_a_directory_that_is_there_is_left_alone(tmp_path, saved):
    path, _ = saved
    place = tmp_path / "there"
    place.mkdir()
    config = NodeConfig(1, {1: ("127.0.0.1", 1)}, str(place))
    with pytest.raises(RestoreRefused, match="is there already"):
        restore(path, config)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_damaged_file_makes_no_directory(tmp_path, saved, cut):
    path, _ = saved
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data[:cut] + bytes((data[cut] ^ 1,)) + data[cut:][1:])
    with pytest.raises(CorruptionError):
        restore(path, NodeConfig(1, {1: ("127.0.0.1", 1)}, str(tmp_path / "new")))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["backup", "old"]


def test_a_file_that_is_no_nodes_state_makes_no_directory(tmp_path):
    path = write_snapshot(str(tmp_path), SnapshotMetadata(7, 1, ConfState((1,))), [(b"k1", b"v")])
    with pytest.raises(CorruptionError, match="aren't a node's state"):
        restore(path, NodeConfig(1, {1: ("127.0.0.1", 1)}, str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "new.restoring").exists()


def test_what_a_restore_that_was_cut_short_has_left_does_no_harm(tmp_path, saved):
    path, _ = saved
    config = NodeConfig(1, {1: ("127.0.0.1", free_ports(1)[0])}, str(tmp_path / "new"))
    (tmp_path / "new.restoring" / "wal").mkdir(parents=True)
    with contextlib.closing(real_env().lock(str(tmp_path / "new.restoring" / "LOCK"))), pytest.raises(StoreLocked):
        restore(path, config)
    assert not (tmp_path / "new").exists()
    restore(path, config)
    assert (tmp_path / "new" / "identity").exists()
    assert not (tmp_path / "new.restoring").exists()


def test_a_restored_cluster_has_the_names_of_its_own_members_only(tmp_path):
    """What the old ones have published isn't theirs, and nobody would ever take it back."""
    path = str(tmp_path / "backup")
    with LocalCluster(tmp_path / "old", ["memory"] * 3, name="old", client_urls=("http://old:1",)) as cluster:
        for node in cluster.nodes.values():
            eventually("it has published", lambda node=node: node.etcd.standing.published)
        names = {cluster.leader().etcd.standing.attributes.of(member).name for member in (1, 2, 3)}
        assert names == {"old"}
        save(path, cluster.leader().snapshot_stream().blocks)
    assert any(key.startswith(NAME_ROW) for key, _ in read_snapshot(path)[1])
    cluster = new_cluster(tmp_path, ["memory"], name="new", client_urls=("http://new:1",))
    restored(cluster, path)
    found = next(find_snapshots(f"{cluster.configs[1].data_dir}/snap"))
    assert not any(key.startswith(NAME_ROW) for key, _ in read_snapshot(found.path)[1])
    with cluster:
        attributes = cluster.leader().etcd.standing.attributes
        eventually("it has published", lambda: cluster.leader().etcd.standing.published)
        assert [attributes.of(member).name for member in (1, 2, 3)] == ["new", "", ""]


# ---- with a hash, as the v3 gateway sends it ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """All blobs of /v3/maintenance/snapshot."""
    with serving(tmp_path_factory.mktemp("sent") / "old") as url:
        for number in range(300):
            asked(url, "PUT", f"/key{number}", b"v" * number)
        lines = asked(url, "POST", "/v3/maintenance/snapshot", b"{}")[2].splitlines()
    data = b"".join(base64.b64decode(json.loads(line)["result"]["blob"]) for line in lines)
    assert data[-32:] == hashlib.sha256(data[:-32]).digest()
    return data


@pytest.fixture
def hashed(tmp_path, sent):
    """What a client of etcd writes into its file."""
    path = tmp_path / "snapshot.db"
    path.write_bytes(sent)
    return path


def test_a_file_that_a_client_of_etcd_saved_is_restored(tmp_path, capsys, hashed):
    assert main(["snapshot", "status", str(hashed)]) == 0
    assert "whole, and its SHA-256 is right: index " in capsys.readouterr().out
    assert main(["check", str(hashed)]) == 0
    assert main(["dump", str(hashed)]) == 0
    assert capsys.readouterr().out.endswith(f"SHA-256  {hashed.read_bytes()[-32:].hex()}\n")
    cluster = new_cluster(tmp_path, ["lsm"])
    done = restore(str(hashed), cluster.configs[1])
    assert done.summary.file_bytes == hashed.stat().st_size
    bare = tmp_path / "bare"
    bare.write_bytes(hashed.read_bytes()[:-32])
    other = restore(str(bare), dataclasses.replace(cluster.configs[1], data_dir=str(tmp_path / "other")))
    assert other.token == done.token
    cluster.configs[1] = dataclasses.replace(cluster.configs[1], cluster_token=done.token)
    with cluster:
        assert cluster.leader().machine.lookup(b"key299") == b"v" * 299


@pytest.mark.parametrize("at", [0, 20_000, -33, -32, -1])
def test_a_file_whose_hash_is_not_right_is_refused(tmp_path, capsys, hashed, at):
    data = bytearray(hashed.read_bytes())
    data[at] ^= 1
    hashed.write_bytes(data)
    words = ["--data", str(tmp_path / "new"), "--id", "1", "--cluster", "http://127.0.0.1:7"]
    assert main(["snapshot", "restore", str(hashed), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert ("isn't its SHA-256" in error) == (at in (-32, -1))
    assert not (tmp_path / "new").exists()
    assert main(["snapshot", "status", str(hashed)]) == 2
    assert main(["check", str(hashed)]) == 1


@pytest.mark.parametrize("left", [1, 31])
def test_a_hash_that_was_cut_short_is_none(capsys, hashed, left):
    hashed.write_bytes(hashed.read_bytes()[: left - 32])
    assert main(["snapshot", "status", str(hashed)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# ---- the verb -------------------------------------------------------------------------------------------------------


def test_the_verb_saves_restores_and_tells(tmp_path, capsys):
    file, data = str(tmp_path / "backup.db"), str(tmp_path / "new")
    with LocalCluster(tmp_path / "old", ["memory"]) as cluster:
        cluster.put(cluster.leader(), b"hello", b"world")
        front = FrontEnd(cluster.leader(), ("127.0.0.1", 0))
        front.start()
        try:
            url = "http://{}:{}".format(*front.address)
            nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
            assert main(["snapshot", "save", file, "--endpoints", f"{nobody},{url}"]) == 0
        finally:
            front.stop()
    saved = capsys.readouterr().out
    assert saved.startswith(f"{file}: saved: index ")
    assert main(["snapshot", "status", file, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["voters"], told["file_bytes"]) == ([1], (tmp_path / "backup.db").stat().st_size)
    assert f"index {told['index']}, term {told['term']}, {told['pairs']} pairs" in saved
    assert told["checksum"] in saved
    assert main(["snapshot", "status", file]) == 0
    assert "whole" in capsys.readouterr().out
    assert main(["check", file]) == 0
    assert main(["which", file]) == 0
    assert main(["dump", file]) == 0
    assert "TRAILER" in capsys.readouterr().out
    words = ["--data", data, "--id", "1", "--cluster", "http://127.0.0.1:7", "--engine", "lsm"]
    assert main(["snapshot", "restore", file, *words]) == 0
    assert f"metcd serve --id 1 --cluster http://127.0.0.1:7 --data {data} --engine lsm --cluster-token restored-" in (
        capsys.readouterr().out
    )
    assert main(["snapshot", "restore", file, *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with open(file, "r+b") as damaged:
        damaged.seek(100)
        damaged.write(b"????")
    assert main(["snapshot", "status", file]) == 2
    assert main(["check", file]) == 1


def test_what_is_cut_off_leaves_the_file_as_it_was(tmp_path, capsys, monkeypatch):
    node = FakeNode()
    for number in range(3000):
        node.machine.store.put(b"%04d" % number, b"v" * 100)
    file = tmp_path / "backup"
    file.write_bytes(b"an older one")
    with serving_fake(node) as front:
        stream = node.snapshot_stream

        def cut():
            metadata, blocks = stream()
            return metadata, iter([next(blocks), next(blocks)])

        def broken():
            metadata, blocks = stream()

            def some():
                yield next(blocks)
                raise OSError(5, "simulated")

            return metadata, some()

        url = "http://{}:{}".format(*front.address)
        for kind, sentence in ((cut, "a trailer was expected"), (broken, "the answer broke off")):
            monkeypatch.setattr(node, "snapshot_stream", kind)
            assert main(["snapshot", "save", str(file), "--endpoints", url]) == 2
            assert sentence in capsys.readouterr().err
            assert file.read_bytes() == b"an older one"
            assert [each.name for each in tmp_path.iterdir()] == ["backup"]


@pytest.mark.parametrize(
    "words",
    [
        ["save", "FILE", "--endpoints", "http://127.0.0.1:1", "--timeout", "1"],
        ["save", "FILE", "--endpoints", "nonsense"],
        ["restore", "FILE", "--data", "D", "--id", "2", "--cluster", "http://127.0.0.1:7"],
        ["restore", "FILE", "--data", "D", "--id", "1", "--cluster", "nonsense"],
        ["restore", "FILE", "--data", "D", "--id", "1", "--cluster", "http://127.0.0.1:7", "--engine", "no"],
        ["status", "FILE"],
    ],
)
def test_what_can_not_be_done_is_said_in_one_line(tmp_path, capsys, words):
    words = [{"FILE": str(tmp_path / "missing"), "D": str(tmp_path / "data")}.get(word, word) for word in words]
    assert main(["snapshot", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("metcd: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
