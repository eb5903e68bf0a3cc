"""The record of a node of the rounds: the witness needs the index of every write whose client heard nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from raft.raftpb import Entry
from server.proposal_bytes import encode_proposal
from server.sessions import OPENS, Serial, Sessions
from server.statemachine import StateMachine
from server.statemachine_fast import FastMachine
from tests.cluster.history import applied_by
from tests.cluster.node import record
from tests.server.mvcc_model import Store, machine_on, request


@pytest.mark.parametrize("form", [StateMachine, FastMachine])
def test_each_write_of_one_operation_is_recorded(
    form: type[StateMachine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Puts and deletions, with a session and without one, before revisions have begun and after, in both forms of apply."""
    for owner, name in ((Sessions, "admit"), (FastMachine, "_put")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back at the end
    file = record(tmp_path / "applied")
    store = Store(machine_on("memory", form=form))
    writes = [
        [(b"a", b"1")],
        [request([("put", "b", "2", 0)])],
        [(b"a", b"3")],
        [(b"a", None)],
        [OPENS],
        [Serial(5, 1), (b"c", b"4")],
        [(b"d", b"5"), (b"e", b"6")],
        [(b"a", b"")],
        [(b"a", b"7")],
    ]
    machine = store.machine
    first = machine.applied_index + 1
    for index, proposed in enumerate(writes, first):
        machine.apply([Entry(1, index, data=encode_proposal(7, index, proposed))])
    file.close()
    expected = {0: (b"a", b"1"), 2: (b"a", b"3"), 3: (b"a", None), 5: (b"c", b"4"), 7: (b"a", b""), 8: (b"a", b"7")}
    assert applied_by([tmp_path / "applied"]) == {first + at: write for at, write in expected.items()}
