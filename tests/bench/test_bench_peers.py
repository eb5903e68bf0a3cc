"""The adapters of those peers that every Python has, and how a missing one is told. The others': tests/interop."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.peers import PEERS, Peer, installed
from bench.subjects import SubjectFault, peer_subject, subjects_of
from engines import InvalidOption
from tests.bench.peer_checks import check_peer


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("name", ["sqlite3", "dbm"])
def test_a_peer_of_the_standard_library_keeps_what_it_is_given(name: str, sync: bool, tmp_path: Path) -> None:
    check_peer(name, tmp_path, sync=sync)


def test_a_write_beside_the_reads_of_another_thread(tmp_path: Path) -> None:
    """sqlite3's connections are for the thread that made them: the other one gets its own."""
    store = PEERS["sqlite3"].open(str(tmp_path / "store"), False)
    assert store.put_beside is not None
    store.put_beside()(b"key", b"value")
    assert store.get(b"key") == b"value"
    store.close()


def test_a_peer_that_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "plyvel", Peer("plyvel", "no_such_module", PEERS["plyvel"].open))
    assert "plyvel" not in installed() and {"sqlite3", "dbm"} <= set(installed())
    with pytest.raises(SubjectFault, match=r"needs the package plyvel: pip install 'metcd\[peers\]'"):
        peer_subject("plyvel")
    assert "plyvel" not in [subject.name for subject in subjects_of([], [], ["all"])]


def test_options_go_to_each_engine_that_has_them() -> None:
    """As in `metcd cluster`; those behind a name to that one alone. A learner's engine is named by its file."""
    file = Path(__file__).parents[2] / "examples" / "toy.py"
    subjects = subjects_of(["lsm,filter=none", "btree", f"{file}:ToyStore"], ["memtable=sorted", "plain=true"], ["dbm"])
    assert [subject.name for subject in subjects] == [
        "lsm filter=none memtable=sorted plain=true", "btree plain=true", "toy.py:ToyStore", "dbm",
    ]  # fmt: skip
    assert [subject.kind for subject in subjects] == ["engine", "engine", "learner", "peer"]
    assert subjects[0].options == {"filter": None, "memtable": "sorted", "plain": True}
    with pytest.raises(InvalidOption, match="none of the engines has an option"):
        subjects_of(["btree"], ["memtable=sorted"], [])
