"""Small rules that several files share (raft/util.py): what must be synced, what may leave early, where a run is cut."""

from __future__ import annotations

import pytest

from raft import NO_LIMIT, Entry, HardState, Message, may_send_before_sync, must_sync
from raft.raftpb import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_VOTE,
    MSG_VOTE_RESP,
)
from raft.util import entries_size, payloads_size, take_within


@pytest.mark.parametrize(
    ("state", "entry_count", "expected"),
    [
        (HardState(2, 1, 5), 0, False),
        (HardState(2, 1, 9), 0, False),  # a commit index is learned again
        (HardState(3, 1, 5), 0, True),
        (HardState(2, 2, 5), 0, True),
        (HardState(2, 1, 5), 1, True),
    ],
)
def test_term_vote_and_entries_must_be_synced(state: HardState, entry_count: int, expected: bool) -> None:
    """Figure 2 of the paper: persistent state."""
    assert must_sync(state, HardState(2, 1, 5), entry_count) is expected


def test_which_messages_promise_nothing_about_the_disk() -> None:
    early = {kind for kind in range(24) if may_send_before_sync(Message(kind))}
    assert early == {MSG_PROP, MSG_APP, MSG_SNAP, MSG_HEARTBEAT, MSG_READ_INDEX, MSG_READ_INDEX_RESP}
    assert not early & {MSG_VOTE, MSG_VOTE_RESP, MSG_APP_RESP, MSG_HEARTBEAT_RESP}


ENTRIES = [Entry(1, index, data=b"x" * 83) for index in range(1, 5)]  # 100 bytes each


@pytest.mark.parametrize(
    ("start", "stop", "max_size_bytes", "end"),
    [
        (0, 4, NO_LIMIT, 4),
        (0, 4, 400, 4),
        (0, 4, 399, 3),
        (0, 4, 200, 2),
        (0, 4, 0, 1),  # at least one, or a large entry would stop everything for ever
        (0, 4, 99, 1),
        (2, 4, 100, 3),
        (3, 4, 100, 4),
    ],
)
def test_a_run_of_entries_is_cut_at_a_size(start: int, stop: int, max_size_bytes: int, end: int) -> None:
    """etcd: limitSize."""
    taken, size_bytes = take_within(ENTRIES, start, stop, max_size_bytes)
    assert taken == ENTRIES[start:end]
    assert size_bytes == payloads_size(taken)


def test_sizes_are_of_the_bytes_or_of_the_data() -> None:
    """Limits of messages count the bytes, the limit of what is uncommitted the data: an empty entry is never refused."""
    assert entries_size(ENTRIES) == sum(len(entry.encode()) for entry in ENTRIES) == 400
    assert payloads_size(ENTRIES) == 332
    assert (entries_size([]), payloads_size([Entry(1, 1)])) == (0, 0)
