"""Whose directory it is: the tables of server/IDENTITY.md, row by row.

A node that goes on without its log votes again, and an acknowledged write is gone. So: no row votes with amnesia, and
none deletes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import engines
from engines import CorruptionError, ForeignFormat, StoreError
from engines.env import RealEnv
from engines.log import encode_record
from server.config import NodeConfig
from server.directory import open_directory
from server.errors import DirectoryRefused
from server.identity import (
    FILE_NAME,
    SESSIONS_KEPT,
    Identity,
    Met,
    address_list,
    cluster_id,
    read_identity,
    write_identity,
)
from server.node import Node
from server.wal import WalMismatch
from server.wal_replay import CLUSTER_ID_BEFORE
from server.wal_segment import Head
from tests.server.directories import Lived, files, lived

ENGINES = ("memory", "lsm", "btree", "bitcask")
THREE = {node: ("127.0.0.1", 4000 + node) for node in (1, 2, 3)}


# ---- the file -------------------------------------------------------------------------------------------------------

IDENTITY = Identity(
    cluster_id=cluster_id(THREE),
    node_id=2,
    number=0xABC,
    engine="lsm",
    members=address_list(THREE),
    token=True,
    starts=3,
    segment=1,
    sessions={1: 4, 3: 5},
    heard=frozenset((1,)),
    met={1: Met(5, 6, 7), 3: Met(8, 9, 10)},
    lost="why",
)


def test_an_identity_is_read_as_it_was_written(tmp_path):
    write_identity(str(tmp_path), IDENTITY, RealEnv())
    assert read_identity(str(tmp_path)) == IDENTITY
    assert [each.name for each in tmp_path.iterdir()] == [FILE_NAME]


def test_a_node_that_starts_often_and_reaches_nobody_keeps_what_its_members_may_remember():
    """Its port is taken, say, and something starts it again and again."""
    identity = IDENTITY.started(4, 44).remembering({1: Met(5, 7, 7)})
    for start in range(5, 2000):
        identity = identity.started(start, start)
    assert {1: 4, 4: 44, 1999: 1999}.items() <= identity.sessions.items()
    assert identity.heard == {1, 4}
    assert len(identity.sessions) <= 2 * SESSIONS_KEPT
    for start in range(2000, 3000):
        identity = identity.started(start, start).remembering({})
    assert {2998: 2998, 2999: 2999}.items() <= identity.sessions.items()
    assert len(identity.sessions) <= 2 * SESSIONS_KEPT


def test_no_directory_and_no_file_are_no_identity(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert [read_identity(str(tmp_path / name)) for name in ("", "absent", "file")] == [None] * 3


def test_every_damage_of_an_identity_is_found():
    data = IDENTITY.encode()
    for at in range(len(data)):
        with pytest.raises(CorruptionError, match="were expected"):
            Identity.decode("identity", data[:at])
        with pytest.raises(CorruptionError, match="were expected"):
            Identity.decode("identity", data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])


def test_an_identity_of_a_later_version_is_not_called_damaged(monkeypatch):
    monkeypatch.setattr("server.identity.VERSION", 2)
    data = IDENTITY.encode()
    monkeypatch.undo()
    with pytest.raises(ForeignFormat, match="start the node with the metcd that wrote it"):
        Identity.decode("identity", data)


def test_members_agree_on_the_clusters_id_without_talking():
    assert cluster_id(THREE) == cluster_id(dict(reversed(THREE.items())))
    swapped = {1: THREE[1], 2: THREE[3], 3: THREE[2]}
    ids = [cluster_id(THREE), cluster_id(THREE, "token"), cluster_id(swapped), cluster_id({1: THREE[1]})]
    assert len(set(ids)) == 4


# ---- the table of a node's start ------------------------------------------------------------------------------------

Change = Callable[[Lived, Path], dict[str, Any]]  # does something to the directory; what the node is told otherwise


def remove(*names: str) -> Change:
    def change(directory: Lived, elsewhere: Path) -> dict[str, Any]:
        for name in names:
            where = directory.path / name
            shutil.rmtree(where) if where.is_dir() else where.unlink(missing_ok=True)
        return {}

    return change


def put_back(*names: str) -> Change:
    """Older copies of these, after another life."""

    def change(directory: Lived, elsewhere: Path) -> dict[str, Any]:
        older = directory.copy(elsewhere / "older")
        directory.live_on()
        return replace_by(directory, older, names)

    return change


def of_another_cluster(*names: str, **options: Any) -> Change:
    def change(directory: Lived, elsewhere: Path) -> dict[str, Any]:
        other = lived(elsewhere / "other", directory.config.engine, snapshot_entries=directory.config.snapshot_entries)
        return replace_by(directory, other.path, names)

    return change


def replace_by(directory: Lived, source: Path, names: tuple[str, ...]) -> dict[str, Any]:
    remove(*names)(directory, source)
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, directory.path / name)
        else:
            shutil.copy(source / name, directory.path / name)
    return {}


def newest_segment_gone(directory: Lived, elsewhere: Path) -> dict[str, Any]:
    """By hand, of a log with two; the older one has the newest start as well."""
    identity = read_identity(str(directory.path))
    assert identity is not None
    write_identity(str(directory.path), replace(identity, segment=identity.segment + 1), RealEnv())
    return {}


def log_of_another_directory(directory: Lived, elsewhere: Path) -> dict[str, Any]:
    again = lived(elsewhere / "again", directory.config.engine, peers=directory.config.peers)
    return replace_by(directory, again.path, ("wal",))


def directory_of_node_2(directory: Lived, elsewhere: Path) -> dict[str, Any]:
    shutil.rmtree(directory.path)
    Node(NodeConfig(2, THREE, str(directory.path), directory.config.engine)).stop()
    return {"peers": THREE}


def log_of_node_2(directory: Lived, elsewhere: Path) -> dict[str, Any]:
    """The same cluster, and even the same number: only the head of the segment tells."""
    directory_of_node_2(directory, elsewhere)
    identity = read_identity(str(directory.path))
    assert identity is not None
    write_identity(str(directory.path), replace(identity, node_id=1), RealEnv())
    return {"peers": THREE}


def damaged_identity(directory: Lived, elsewhere: Path) -> dict[str, Any]:
    path = directory.path / FILE_NAME
    path.write_bytes(path.read_bytes().replace(b'"starts": 1', b'"starts": 0'))
    return {}


def told(**changes: Any) -> Change:
    return lambda directory, elsewhere: changes


def another_engine(directory: Lived, elsewhere: Path) -> dict[str, Any]:
    return {"engine": "btree" if directory.config.engine == "lsm" else "lsm"}


def marked_as_lost(directory: Lived, elsewhere: Path) -> dict[str, Any]:
    opened = open_directory(directory.config)
    opened.condemn("entry 7 was lost")
    opened.close()
    return {}


def each_with_an_engine(rows: dict[str, Any]) -> pytest.MarkDecorator:
    """Every row with every engine; in the fast tier each row has one of them, in turn."""
    pairs = [
        pytest.param(row, engine, marks=() if (at - turn) % len(ENGINES) == 0 else pytest.mark.slow)
        for at, row in enumerate(rows)
        for turn, engine in enumerate(ENGINES)
    ]
    return pytest.mark.parametrize(("row", "engine"), pairs)


NO_LOG = "no log in wal/, where this node's votes and acknowledgements are"

REFUSED: dict[str, tuple[Change, str]] = {
    "the log is gone": (remove("wal"), f"has snap/ and engine/ and its identity, but {NO_LOG}"),
    "the log's segments are gone": (
        lambda directory, _: [segment.unlink() for segment in directory.log()] and {},
        NO_LOG,
    ),
    "identity and log are gone": (remove("wal", FILE_NAME), f"has snap/ and engine/, but {NO_LOG}"),
    "only the snapshots are left": (remove("wal", FILE_NAME, "engine"), f"has snap/, but {NO_LOG}"),
    "only the engine is left": (remove("wal", FILE_NAME, "snap"), f"has engine/, but {NO_LOG}"),
    "only the identity is left": (remove("wal", "snap", "engine"), f"has its identity, but {NO_LOG}"),
    "the identity is gone": (remove(FILE_NAME), "/identity is gone, and the log says that this is directory"),
    "the identity is damaged": (damaged_identity, "a line and its crc32c"),
    "the log is older": (put_back("wal"), "the log is older than the directory: it ends with segment 0 after start 1"),
    "the log's newest segment is gone": (
        newest_segment_gone,
        "it ends with segment 0 after start 1, and there was segment 1",
    ),
    "the log is another directory's": (log_of_another_directory, "the log is of directory"),
    "the log is another node's": (log_of_node_2, "belongs to node 0x2, and this is node 0x1"),
    "the log is another cluster's": (of_another_cluster("wal"), "belongs to cluster"),
    "the identity is another cluster's": (of_another_cluster(FILE_NAME), "belongs to cluster"),
    "all of it is another node's": (directory_of_node_2, "is the directory of node 2, and this is node 1"),
    "all of it is another cluster's": (of_another_cluster(FILE_NAME, "wal", "snap", "engine"), "belongs to cluster"),
    "another list": (told(peers=THREE), "and this node was started for the nodes 1 at 127.0.0.1:4001, 2 at"),
    "another token": (told(cluster_token="t"), "with no --cluster-token, and this node was started with one"),
    "another engine": (another_engine, "is a directory of the engine"),
    "it was found to have lost what it promised": (marked_as_lost, "entry 7 was lost; this directory takes no part"),
}


@each_with_an_engine(REFUSED)
def test_a_directory_that_must_not_take_part_is_refused_and_left_as_it_is(row, engine, tmp_path):
    change, says = REFUSED[row]
    directory = lived(tmp_path / "node", engine, snapshot_entries=8)
    changes = change(directory, tmp_path)
    before = files(directory.path)
    with pytest.raises((DirectoryRefused, WalMismatch, CorruptionError)) as refusal:
        directory.start(**changes)
    assert says in str(refusal.value)
    assert files(directory.path) == before
    with pytest.raises(StoreError, match=re.escape(says)):  # and the second time, too
        directory.start(**changes)


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_an_engine_that_is_ahead_of_its_log_is_refused(engine, tmp_path):
    """The log lost its end in a way that its own records don't show: as much as it knows was committed is there."""
    directory = lived(tmp_path / "node", engine)
    ahead = directory.copy(tmp_path / "ahead")
    shutil.rmtree(directory.path)
    directory.live_on(2)
    replace_by(directory, ahead, ("engine",))
    with pytest.raises(DirectoryRefused, match="the engine has applied entry 22, but the log ends at 4"):
        directory.start()


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_an_engine_of_another_history_is_refused(engine, tmp_path):
    """The same cluster, begun twice: the entry that it ends with is of another term in the log."""
    directory = lived(tmp_path / "node", engine, puts=2)
    other = directory.copy(tmp_path / "other")
    shutil.rmtree(directory.path)
    directory.live_on(1)
    directory.live_on(3)
    replace_by(directory, other, ("engine",))
    with pytest.raises(
        DirectoryRefused, match="entry 4, the last that the engine has applied, is of term 2 in the log"
    ):
        directory.start()


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_an_engine_of_another_cluster_is_refused(engine, tmp_path):
    directory = lived(tmp_path / "node", engine)
    of_another_cluster("engine")(directory, tmp_path)
    with pytest.raises(DirectoryRefused, match=r"is of cluster [0-9a-f]{16}, and this node is of cluster"):
        directory.start()


def test_a_snapshot_of_another_cluster_is_refused(tmp_path):
    """The same index and term as the log's mark; only its content says whose it is."""
    directory = lived(tmp_path / "node", snapshot_entries=8)
    of_another_cluster("snap")(directory, tmp_path)
    with pytest.raises(DirectoryRefused, match=r"the snapshot is of cluster [0-9a-f]{16}, and this node is of cluster"):
        directory.start()


def test_a_log_that_was_cut_and_an_engine_that_is_gone_are_refused(tmp_path):
    for engine in ("memory", "lsm"):
        directory = lived(tmp_path / engine, engine, snapshot_entries=8)
        remove("engine", "snap")(directory, tmp_path)
        with pytest.raises(DirectoryRefused, match="there is no whole snapshot between the two"):
            directory.start()


def class_of_the_engine(directory: Lived, elsewhere: Path) -> dict[str, Any]:
    return {"engine": engines.ENGINES[directory.config.engine]}


GOES_ON: dict[str, Change] = {
    "nothing happened": told(),
    "the engine is gone, and the log begins at 1": remove("engine"),
    "the engine is older": put_back("engine"),
    "the snapshots are gone, and the log begins at 1": remove("snap"),
    "the identity is older": put_back(FILE_NAME),
    "the engine is told by its class": class_of_the_engine,
}


@each_with_an_engine(GOES_ON)
def test_a_directory_that_has_all_it_promised_goes_on(row, engine, tmp_path):
    directory = lived(tmp_path / "node", engine)
    changes = GOES_ON[row](directory, tmp_path)
    before = read_identity(str(directory.path))
    assert directory.answers(directory.start(**changes)) == directory.value
    after = read_identity(str(directory.path))
    assert before is not None
    assert after is not None
    assert (after.number, after.cluster_id) == (before.number, before.cluster_id)
    assert after.starts > before.starts


def test_an_older_directory_as_a_whole_can_only_be_told_by_others(tmp_path):
    """It is whole. Its start, which members remember, gives it away (test_roster.py)."""
    directory = lived(tmp_path / "node")
    older = directory.copy(tmp_path / "older")
    directory.live_on()
    shutil.rmtree(directory.path)
    shutil.copytree(older, directory.path)
    node = directory.start()
    node.stop()
    identity = read_identity(str(directory.path))
    assert identity is not None
    assert identity.starts == 2


def test_a_first_start_that_was_cut_short_goes_on(tmp_path):
    """The identity is there and has promised nothing; the log is not there yet."""
    config = NodeConfig(1, THREE, str(tmp_path / "node"))
    Node(config).stop()
    identity = read_identity(config.data_dir)
    assert identity is not None
    for name in ("wal", "snap", "engine"):
        shutil.rmtree(tmp_path / "node" / name)
    write_identity(config.data_dir, replace(identity, starts=0, segment=0), RealEnv())
    Node(config).stop()
    again = read_identity(config.data_dir)
    assert again is not None
    assert (again.number, again.starts) == (identity.number, 1)


def test_an_unknown_engine_leaves_no_identity_behind(tmp_path):
    with pytest.raises(StoreError, match="no engine is called"):
        Node(NodeConfig(1, THREE, str(tmp_path / "node"), "lsmx"))
    assert not (tmp_path / "node").exists()


# ---- earlier versions -----------------------------------------------------------------------------------------------


def make_earlier(directory: Lived) -> None:
    """As a version without identities has left it: one segment without a START, with the id that all clusters had."""
    (directory.path / FILE_NAME).unlink()
    [segment] = directory.log()
    data = segment.read_bytes()
    size = int.from_bytes(data[4:6], "little")
    head = Head.decode(data[7 : 7 + size])
    earlier = encode_record(0, replace(head, cluster_id=CLUSTER_ID_BEFORE).encode())
    segment.write_bytes(earlier)


@pytest.mark.parametrize("engine", ["memory", "btree"])
def test_a_directory_of_an_earlier_version_gets_its_identity(engine, tmp_path):
    directory = lived(tmp_path / "node", engine, puts=0)
    make_earlier(directory)
    remove("engine")(directory, tmp_path)
    node = directory.start()
    node.stop()
    identity = read_identity(str(directory.path))
    assert identity is not None
    assert (identity.cluster_id, identity.starts) == (cluster_id(directory.config.peers), 1)
    directory.live_on()
    assert directory.answers(directory.start()) == directory.value


def test_a_directory_of_an_earlier_version_without_its_log_is_refused(tmp_path):
    directory = lived(tmp_path / "node")
    remove("wal", FILE_NAME)(directory, tmp_path)
    with pytest.raises(DirectoryRefused, match=NO_LOG):
        directory.start()


def test_an_earlier_log_does_not_take_the_place_of_a_log_that_counts(tmp_path):
    directory = lived(tmp_path / "node")
    identity = (directory.path / FILE_NAME).read_bytes()
    make_earlier(directory)
    (directory.path / FILE_NAME).write_bytes(identity)
    with pytest.raises(DirectoryRefused, match="it ends with segment 0 after start 0"):
        directory.start()
