"""The simulated application: equal checksums mean equal histories."""

from __future__ import annotations

import pytest

from raft import ConfChange, Entry
from raft.kinds import ConfChangeType, EntryType
from raft.simulation.application import Application


def _applied(*datas: bytes) -> Application:
    application = Application()
    for index, data in enumerate(datas, 1):
        application.apply(Entry(1, index, data=data))
    return application


def test_the_checksum_tells_histories_apart() -> None:
    assert _applied(b"a", b"b").checksum == _applied(b"a", b"b").checksum
    assert len({_applied(*datas).checksum for datas in ((b"a", b"b"), (b"b", b"a"), (b"ab",), (b"a",))}) == 4


@pytest.mark.parametrize("index", [1, 2, 4])
def test_entries_are_applied_in_order_without_a_gap(index: int) -> None:
    with pytest.raises(AssertionError, match=f"entry {index} was handed out after 2"):
        _applied(b"a", b"b").apply(Entry(1, index))


def test_a_snapshot_brings_the_whole_state() -> None:
    source, target = _applied(b"a", b"", b"b"), _applied(b"x")
    target.install(source.snapshot())
    assert (target.index, target.checksum, target.data) == (source.index, source.checksum, [b"a", b"b"])
    empty = Application()
    empty.install(Application().snapshot())
    assert empty.data == []


def test_membership_changes_are_no_data() -> None:
    application = Application()
    change = ConfChange(ConfChangeType.ADD_NODE, 4)
    application.apply(Entry(1, 1, EntryType.CONF_CHANGE, change.encode()))
    assert application.index == 1
    assert application.data == []
