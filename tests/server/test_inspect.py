"""server/inspect.py: `metcd check`, `dump`, `which` and `repair` look at files, say what they are, and change nothing.

That nothing is changed on any engine's stores, sound or damaged, is tests/conformance/test_only_reading.py; here are
nodes' directories, etcd's, and what nobody recognises.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
from pathlib import Path

import pytest

import engines
from engines import CorruptionError, KVStore, NoSuchStore, StoreError, StoreLocked, UnknownEngine
from raft.raftpb import ConfState, Entry, HardState
from server import inspect
from server.cli import main
from server.config import NodeConfig
from server.identity import read_identity
from server.node import Node
from server.snapshot import write_snapshot
from server.statemachine import StateMachine, encode_proposal
from server.store_check import NotRecognised
from server.wal import Wal
from server.wal_replay import CLUSTER_ID_BEFORE
from tests.conformance.reading import picture
from tests.server.local_nodes import cuts_over, eventually, free_ports

BOLT_FILES = Path(__file__).parent.parent / "btree" / "golden"  # its README says which programs made them

OWN_ENGINE = '''
"""A learner's engine: a text file, which keeps nothing of a power cut's promises."""

from pathlib import Path

from engines import CorruptionError
from engines.memory import MemoryStore


class Mine(MemoryStore):
    name = "mine"
    persistent = True

    def __init__(self, path, *, env=None, sync=True):
        super().__init__(path, env=env, sync=sync)
        self._file = Path(path) / "MINE"
        if self._file.exists():
            for line in self._file.read_text().split():
                key, _, value = line.partition("=")
                self._values[bytes.fromhex(key)] = bytes.fromhex(value)

    def write(self, batch, *, sync=None):
        super().write(batch, sync=sync)
        self._file.write_text("\\n".join(f"{k.hex()}={v.hex()}" for k, v in self._values.items()))

    def check(self):
        return [f"{self._file}: {key!r} is upper case" for key in self._values if key != key.lower()]
'''


@pytest.fixture
def own_engine(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(OWN_ENGINE)
    return f"{tmp_path}/mine.py:Mine"


def node_on(engine: str, directory: Path, *, snapshot_entries: int = 10_000) -> Node:
    """A node of a cluster of one that has applied some writes, and runs."""
    known = read_identity(str(directory))
    port = free_ports(1)[0] if known is None else int(known.members[1].rpartition(":")[2])
    peers = {1: ("127.0.0.1", port)}
    limits = {"snapshot_entries": snapshot_entries, "catch_up_entries": 2}
    node = Node(NodeConfig(1, peers, str(directory), engine, tick_s=0.002, **limits))
    node.start()
    eventually("it leads", lambda: node.health().healthy)
    for number in range(20):
        node.propose([(b"key%d" % number, b"value %d" % number)])
    cuts_over(node)
    return node


def stopped_node(engine: str, directory: Path, *, snapshot_entries: int = 10_000) -> Path:
    """The directory of a node that has stopped."""
    node_on(engine, directory, snapshot_entries=snapshot_entries).stop()
    return directory


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_a_node_is_checked_on_the_engine_that_it_ran_on(engine: str, tmp_path: Path) -> None:
    """Recognised by its files; the memory engine's by there being none. Nothing is changed."""
    directory = stopped_node(engine, tmp_path / "n")
    before = picture(directory)
    assert inspect.check(directory) == []
    assert inspect.what_is(directory) == f"a node's directory, on the engine {engine!r}"
    assert any("HardState" in line for line in inspect.dump(directory))
    assert inspect.check(directory / "wal") == []
    assert picture(directory) == before


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_a_node_that_runs_is_left_alone(engine: str, tmp_path: Path) -> None:
    """StoreLocked, from the lock that the node's engine holds."""
    node = node_on(engine, tmp_path / "n")
    try:
        with pytest.raises(StoreLocked):
            inspect.check(tmp_path / "n")
    finally:
        node.stop()


@pytest.mark.parametrize("part", ["engine", "wal", "snap"])
def test_a_node_that_lost_a_part_is_told(part: str, tmp_path: Path) -> None:
    """It was called well, and an engine's directory was made."""
    directory = stopped_node("lsm", tmp_path / "n")
    shutil.rmtree(directory / part)
    before = picture(directory)
    assert any(f"{directory}/{part} is missing: " in sentence for sentence in inspect.check(directory))
    assert picture(directory) == before


def test_a_node_whose_engine_lost_its_current_file_is_told(tmp_path: Path) -> None:
    """It was opened as the memory engine, and called well."""
    directory = stopped_node("lsm", tmp_path / "n")
    (directory / "engine/CURRENT").unlink()
    before = picture(directory)
    (sentence,) = inspect.check(directory)
    assert f"{directory}/engine/CURRENT: it is missing, although" in sentence
    assert picture(directory) == before


def test_a_node_whose_engine_nobody_recognises_is_told(tmp_path: Path, own_engine: str) -> None:
    """Somebody's own engine: named with --engine it is checked, on a copy, because it can't open for reading only."""
    directory = stopped_node(own_engine, tmp_path / "n")
    before = picture(directory)
    (sentence,) = inspect.check(directory)
    assert sentence == (
        f"{directory}/engine: the node ran on an engine of somebody's own: check it with --engine {own_engine}"
    )
    assert inspect.check(directory, own_engine) == []
    assert picture(directory) == before
    mine = directory / "engine/MINE"
    mine.write_text(mine.read_text().replace(b"kkey7".hex(), b"kkeY7".hex()))
    before = picture(directory)
    (sentence,) = inspect.check(directory, own_engine)
    assert sentence.endswith("b'kkeY7' is upper case")
    assert picture(directory) == before


def test_a_node_of_another_engine_or_of_no_engines_files_is_told(tmp_path: Path) -> None:
    """The identity says which engine it was: files of another, and files that are gone, are seen."""
    directory = stopped_node("btree", tmp_path / "n")
    (directory / "engine").unlink()
    shutil.copytree(stopped_node("bitcask", tmp_path / "other") / "engine", directory / "engine")
    (sentence,) = inspect.check(directory)
    assert sentence == f"{directory}/engine: the node ran on the engine 'btree', and these are files of 'bitcask'"
    shutil.rmtree(directory / "engine")
    (directory / "engine").write_text("not what was there")
    (sentence,) = inspect.check(directory)
    assert sentence == f"{directory}/engine: the node ran on the engine 'btree', whose files are gone: a file is there"
    (directory / "engine").unlink()
    (directory / "engine").mkdir()
    (sentence,) = inspect.check(directory)
    assert sentence == f"{directory}/engine: the node ran on the engine 'btree', whose files are gone: nothing is there"


def test_a_node_whose_log_is_not_that_of_its_identity_is_told(tmp_path: Path) -> None:
    """Another directory's log, an older one, none; and an identity that is gone or damaged. No file by itself is wrong."""
    directory = stopped_node("btree", tmp_path / "n")
    older = shutil.copytree(directory / "wal", tmp_path / "older")
    stopped_node("btree", directory)
    whole = shutil.copytree(directory, tmp_path / "whole")
    assert inspect.check(directory) == []
    for wal, sentence in (
        (None, "the log is gone, and with it what this node has promised"),
        (older, "older"),
        (stopped_node("memory", tmp_path / "stranger") / "wal", "cluster"),
    ):
        shutil.rmtree(directory / "wal")
        shutil.copytree(wal, directory / "wal") if wal else (directory / "wal").mkdir()
        before = picture(directory)
        assert sentence in inspect.check(directory)[0]
        assert picture(directory) == before
    identity = whole / "identity"
    data = identity.read_bytes()
    identity.write_bytes(data[:-4] + b"0000")
    assert "the file was damaged or edited" in inspect.check(whole)[0]
    identity.unlink()
    assert inspect.check(whole) == [f"{identity} is missing: the log says that there was one"]


def of_an_earlier_version(directory: Path, engine: str, *, cut: bool = False) -> Path:
    """A node's directory as it was before there were identities: a log, snapshots, a store, and nothing that names them."""
    entries = [Entry(1, index, data=encode_proposal(1, index, [(b"key", b"%d" % index)])) for index in range(1, 22)]
    wal, _ = Wal.open(f"{directory}/wal", node_id=1, cluster_id=CLUSTER_ID_BEFORE)
    wal.save(HardState(1, 1, 21), entries, must_sync=True)
    (directory / "snap").mkdir()
    with engines.open(directory / "engine", engine, sync=False) as store:
        machine = StateMachine(store)
        machine.apply(entries, ConfState(voters=(1,)))
        if cut:
            made = machine.snapshot()
            write_snapshot(f"{directory}/snap", made.metadata, made.pairs())
            wal.save_snapshot(made.metadata)
    wal.close()
    return directory


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_a_directory_of_an_earlier_version_is_checked_by_its_files(engine: str, tmp_path: Path) -> None:
    """No identity says which engine it was."""
    directory = of_an_earlier_version(tmp_path / "n", engine)
    before = picture(directory)
    assert inspect.check(directory) == []
    assert inspect.what_is(directory) == f"a node's directory, on the engine {engine!r}"
    assert picture(directory) == before


def test_a_log_and_an_engine_that_do_not_fit_are_told(tmp_path: Path) -> None:
    """Each file by itself is whole, and no identity says more."""
    directory = of_an_earlier_version(tmp_path / "n", "btree")
    log = next((directory / "wal").glob("*.wal"))
    log.rename(tmp_path / "log")
    (sentence,) = inspect.check(directory)
    assert "the engine has applied entry 21, but the log ends at 0: one of the two was lost" in sentence
    (tmp_path / "log").rename(log)
    assert inspect.check(directory) == []


@pytest.mark.parametrize("engine", ["memory", "lsm"])
def test_a_node_whose_log_begins_after_what_is_left_is_told(engine: str, tmp_path: Path) -> None:
    """The log was cut, because a snapshot, or the engine, had what was before."""
    directory = of_an_earlier_version(tmp_path / "n", engine, cut=True)
    assert inspect.check(directory) == []
    for each in (directory / "engine", directory / "snap"):
        shutil.rmtree(each)
        each.mkdir()
    (sentence,) = inspect.check(directory)
    assert "the log begins after entry 21, the engine is at entry 0, and no whole snapshot is between" in sentence


def test_a_damaged_snapshot_is_told_and_left_where_it_is(tmp_path: Path) -> None:
    """By the node's directory, and by the file alone."""
    directory = stopped_node("memory", tmp_path / "n", snapshot_entries=5)
    file = next((directory / "snap").glob("*.snap"))
    assert inspect.check(file) == []
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    before = picture(directory)
    assert any(str(file) in sentence for sentence in inspect.check(directory))
    assert str(file) in inspect.check(file)[0]
    assert picture(directory) == before


# ---- what isn't ours ------------------------------------------------------------------------------------------------


def etcds(directory: Path) -> Path:
    """What etcd leaves, as far as anything looks at it: names, and the first record of a log."""
    member = directory / "member"
    (member / "wal").mkdir(parents=True)
    (member / "snap").mkdir()
    first = bytes.fromhex("0400000000000084" + "08041000" + "00000000")  # a length, walpb.Record{type: 4}, padding
    (member / "wal" / f"{0:016x}-{0:016x}.wal").write_bytes(first.ljust(1024, b"\0"))
    with engines.open(member / "snap/db", "btree") as store:
        store.put(b"key", b"value")
    return member


@pytest.mark.parametrize("part", [".", "member", "member/wal", "member/snap"])
def test_etcds_directory_is_no_node_of_ours(part: str, tmp_path: Path) -> None:
    """A false violation was found in it, and a directory made."""
    etcds(tmp_path / "etcd")
    before = picture(tmp_path)
    for look in (inspect.check, inspect.what_is, inspect.repair, lambda path: list(inspect.dump(path))):
        with pytest.raises(NotRecognised) as refusal:
            look(tmp_path / "etcd" / part)
        assert "is etcd's: its log and its snapshots are in etcd's own formats" in str(refusal.value)
        assert f"metcd check {tmp_path}/etcd/member/snap/db --engine btree" in str(refusal.value)
    assert inspect.check(tmp_path / "etcd/member/snap/db", "btree") == []
    assert picture(tmp_path) == before


def test_etcds_log_is_told_from_ours_without_its_database(tmp_path: Path) -> None:
    """By its first record."""
    member = etcds(tmp_path)
    (member / "snap/db").unlink()
    with pytest.raises(NotRecognised, match="is etcd's"):
        inspect.check(member)


@pytest.mark.parametrize("name", ["etcd", "podman", "containerd", "raft-boltdb"])
def test_another_programs_bolt_file_is_checked_as_a_whole(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of its buckets, none of which is ours; opened as a store of ours it is a sentence, also as a node's engine."""
    path = tmp_path / "their.db"
    path.write_bytes(gzip.decompress((BOLT_FILES / f"{name}.db.gz").read_bytes()))
    assert engines.which(path) is None
    assert main(["which", str(path)]) == 1
    assert "a bolt file of another program" in capsys.readouterr().err
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: OK\n"
    assert main(["dump", str(path)]) == 0
    assert "bucket" in capsys.readouterr().out
    assert main(["repair", str(path)]) == 1  # not "restore a copy": it is sound
    assert "a bolt file of another program" in capsys.readouterr().err
    for part in ("wal", "snap"):
        (tmp_path / "node" / part).mkdir(parents=True)
    shutil.copy(path, tmp_path / "node" / "engine")
    assert any("a bolt file of another program" in problem for problem in inspect.check(tmp_path / "node"))


def test_another_programs_file_that_is_in_use_is_told_as_locked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As etcd's database is while etcd runs. It was told to be nobody's, and maybe of an engine of one's own."""
    path = tmp_path / "their.db"
    path.write_bytes(gzip.decompress((BOLT_FILES / "etcd.db.gz").read_bytes()))
    with engines.open(path, "btree", bucket=b"key"):
        before = picture(tmp_path)
        for words in (["check"], ["which"], ["repair"], ["check", "--engine", "btree"]):
            assert main([words[0], str(path), *words[1:]]) in (1, 2)
            assert f"{path} is locked by this process: a store is open in one" in capsys.readouterr().err
        for engine in ("lsm", "bitcask"):
            with pytest.raises(StoreLocked):
                engines.open(path, engine)
        assert picture(tmp_path) == before
    assert main(["check", str(path)]) == 0


def test_damage_in_another_programs_bucket_is_told(tmp_path: Path) -> None:
    """In one that is nested in another one, and that no store of ours would read."""
    path = tmp_path / "their.db"
    path.write_bytes(gzip.decompress((BOLT_FILES / "bbolt.db.gz").read_bytes()).replace(b"66nested", b"06nested"))
    assert ["key b'06'" in problem for problem in inspect.check(path)] == [True]


@pytest.mark.parametrize("engine", [None, *engines.ENGINES])
def test_what_nobody_recognises_is_a_sentence_and_status_1(
    engine: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was opened as the memory engine's, and called well; named by --engine, nothing is made either."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").write_bytes(b"\xff\xd8")
    before = picture(tmp_path)
    words = ["check", str(photos)] + (["--engine", engine] if engine else [])
    assert main(words) == (1 if engine is None else 2)
    out, err = capsys.readouterr()
    assert out == ""
    if engine is None:
        assert err == (
            f"metcd: {photos} has holiday.jpg in it, which is neither a node's nor a store of memory, lsm, btree, "
            "bitcask: if it is of an engine of your own, say --engine path/to/file.py:Class\n"
        )
    else:
        assert f"metcd: there is no store at {photos}" in err
    assert picture(tmp_path) == before


def test_one_file_of_a_store_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence says where the store is, and which verb shows the file."""
    path = tmp_path / "store"
    with engines.open(path, "bitcask") as store:
        store.put(b"a", b"1")
    file = next(path.glob("*.data"))
    assert main(["check", str(file)]) == 1
    told = f"metcd: {file} is a file in a store of 'bitcask': check {path}, or see the file with metcd dump\n"
    assert capsys.readouterr().err == told
    assert main(["dump", str(file)]) == 0


def test_dump_of_what_nobody_recognises_is_status_1_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file by name; a directory as for check."""
    (tmp_path / "notes.txt").write_text("milk")
    assert main(["dump", str(tmp_path / "notes.txt")]) == 1
    assert "is none of the files that dump knows" in capsys.readouterr().err


def test_a_dump_names_what_is_missing(tmp_path: Path) -> None:
    """It was nothing at all for a node, and an errno for a store."""
    node_on("lsm", tmp_path / "node").stop()
    (tmp_path / "node/engine/CURRENT").unlink()
    lines = list(inspect.dump(tmp_path / "node/engine"))
    assert lines[0] == f"DAMAGED: {tmp_path}/node/engine/CURRENT is missing"
    shutil.rmtree(tmp_path / "node/wal")
    assert list(inspect.dump(tmp_path / "node")) == [f"{tmp_path}/node/wal is missing"]


@pytest.mark.parametrize("engine", ["lsm", "bitcask"])
def test_a_sentence_about_a_damaged_record_names_a_command_that_mends_it(tmp_path: Path, engine: str) -> None:
    """The command as it stands in the sentence; it was "PATH" for bitcask, and a copy that nobody has for lsm."""
    path = tmp_path / "store"
    with engines.open(path, engine) as store:
        for number in range(100):
            store.put(b"%03d" % number, b"value")
    files = [file for file in path.iterdir() if file.suffix in (".log", ".data")]
    (file,) = files
    data = bytearray(file.read_bytes())
    at = data.index(b"050value") if engine == "bitcask" else data.index(b"050")
    data[at] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptionError) as damage, engines.open(path, engine) as store:
        list(store.scan())
    command = re.search(r"`metcd (repair [^`]+)`", str(damage.value))
    assert command is not None, damage.value
    assert main(command[1].split()) == 0
    with engines.open(path, engine) as store:
        assert store.check() == [] and len(list(store.scan())) == 99


def test_nothing_is_nothing(tmp_path: Path) -> None:
    """NoSuchStore, and it isn't made."""
    for look in (inspect.check, inspect.what_is, inspect.repair, inspect.dump):
        with pytest.raises(NoSuchStore, match=f"there is nothing at {tmp_path}/nowhere"):
            look(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_nowhere_is_nothing(tmp_path: Path) -> None:
    """It was an errno; as a node's engine, the whole check ended there."""
    (tmp_path / "link").symlink_to("nowhere")
    for look in (inspect.check, inspect.what_is, inspect.repair, inspect.dump):
        with pytest.raises(NoSuchStore, match=f"nothing at {tmp_path}/nowhere, where the link {tmp_path}/link leads"):
            look(tmp_path / "link")
    assert engines.which(tmp_path / "link") is None
    for engine in engines.ENGINES:
        with pytest.raises(NoSuchStore):
            engines.open(tmp_path / "link", engine, read_only=True)
    directory = stopped_node("lsm", tmp_path / "n")
    shutil.rmtree(directory / "engine")
    (directory / "engine").symlink_to("nowhere")
    assert inspect.check(directory) == [f"{directory}/engine is missing: the node's store is gone"]


def test_a_pipe_is_told_and_not_waited_for(tmp_path: Path) -> None:
    """Opening one to read waits for a writer."""
    os.mkfifo(tmp_path / "pipe")
    for look in (inspect.check, inspect.what_is, lambda path: list(inspect.dump(path))):
        with pytest.raises((OSError, NotRecognised), match=str(tmp_path)):
            look(tmp_path / "pipe")


def test_a_relative_path_is_told_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Env.absolute: a sentence that is read in another directory says the same."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoSuchStore, match=f"there is nothing at {tmp_path}/nowhere"):
        inspect.check("nowhere")


# ---- which, repair --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [name for name in engines.ENGINES if name != "memory"])
def test_which_says_whose_files_these_are(engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verb: one word; status 1 for nobody's."""
    with engines.open(tmp_path / "store", engine) as store:
        store.put(b"a", b"1")
    assert main(["which", str(tmp_path / "store")]) == 0
    assert capsys.readouterr().out == f"{engine}\n"
    (tmp_path / "empty").mkdir()
    assert main(["which", str(tmp_path / "empty")]) == 1
    assert "is an empty directory, which is neither a node's nor a store of" in capsys.readouterr().err


class Repairable(KVStore):
    """Says that it was asked."""

    @classmethod
    def repair(cls, path: str, env: engines.env.Env) -> list[str]:
        return [f"{path} was mended"]


def test_repair_is_the_engines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """KVStore.repair, of the engine that is named; an engine that has none says so, and nothing is changed."""
    (tmp_path / "store").mkdir()
    assert main(["repair", str(tmp_path / "store"), "--engine", f"{__file__}:Repairable"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/store was mended\n"
    with engines.open(tmp_path / "sound", "bitcask") as store:
        store.put(b"a", b"1")
    assert main(["repair", str(tmp_path / "sound")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/sound: nothing needs to be repaired\n"
    assert main(["repair", str(tmp_path / "store"), "--engine", "memory"]) == 2
    assert "the engine 'memory' has no repair: restore a copy" in capsys.readouterr().err
    assert main(["repair", str(tmp_path / "store")]) == 1
    assert "is an empty directory" in capsys.readouterr().err
    with pytest.raises(UnknownEngine):
        inspect.repair(tmp_path / "store", "rocks")


def test_a_store_that_no_engine_recognises_is_repaired_by_the_one_that_misses_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lsm says what is missing, so its repair is asked."""
    path = tmp_path / "store"
    with engines.open(path, "lsm") as store:
        store.put(b"a", b"1")
    (path / "CURRENT").unlink()
    assert engines.which(path) is None
    with pytest.raises(NotRecognised, match="CURRENT: it is missing, although"):
        inspect.check(path)
    monkeypatch.setattr(engines.engine_class("lsm"), "repair", lambda path, env: [f"asked for {path}"])
    assert inspect.repair(path) == [f"asked for {path}"]


def test_a_nodes_engine_is_not_repaired_in_its_place(tmp_path: Path) -> None:
    """What a repair loses, the node has promised to others."""
    directory = stopped_node("lsm", tmp_path / "n")
    before = picture(directory)
    for path in (directory, directory / "engine"):
        with pytest.raises(StoreError, match=r"copy .*/engine to another place and repair the copy"):
            inspect.repair(path)
    assert picture(directory) == before
