"""Raft's values as text, in etcd's formats (raft/describe.py): scripts are compared by these bytes."""

from __future__ import annotations

import pytest

from raft import describe
from raft.kinds import ConfChangeTransition, ConfChangeType, EntryType, MessageType, StateType
from raft.raftpb import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
    SnapshotMetadata,
)
from raft.rawnode import Ready
from raft.state import ReadState, SoftState
from raft.tracker import Inflights, Progress
from raft.util import LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD

JOINT = ConfState((2, 3), (4,), (1, 2), (1,), True)
SNAPSHOT = Snapshot(SnapshotMetadata(4, 1, JOINT), b"data")
NOTHING = Ready(None, None, [], [], None, [], [], False)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"prop_1", '"prop_1"'),
        (b"", '""'),
        (b'a"b\\c', '"a\\"b\\\\c"'),
        (b"\a\b\f\n\r\t\v", '"\\a\\b\\f\\n\\r\\t\\v"'),
        (b"\x00\x7f\xff", '"\\x00\\x7f\\xff"'),
        ("é世".encode(), '"é世"'),
        ("\u00a0\u2028\U000e0001".encode(), '"\\u00a0\\u2028\\U000e0001"'),
    ],
)
def test_data_is_quoted_as_go_does(data: bytes, text: str) -> None:
    """strconv.Quote: printable UTF-8 stays, everything else is escaped in the shortest way that Go has for it."""
    assert describe.quote(data) == text


def test_membership_changes_are_a_letter_and_a_node() -> None:
    changes = describe.conf_changes_from_text("v1 l2  r3\nu4")
    assert [change.type for change in changes] == [
        ConfChangeType.ADD_NODE,
        ConfChangeType.ADD_LEARNER_NODE,
        ConfChangeType.REMOVE_NODE,
        ConfChangeType.UPDATE_NODE,
    ]
    assert describe.describe_conf_changes(changes) == "v1 l2 r3 u4"


@pytest.mark.parametrize("text", ["x1", "v", "vv", "v-1", "v1 2"])
def test_what_is_no_membership_change_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=text.split()[-1]):
        describe.conf_changes_from_text(text)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (Entry(1, 2, data=b"x"), '1/2 EntryNormal "x"'),
        (Entry(1, 2), '1/2 EntryNormal ""'),
        (
            Entry(1, 4, EntryType.CONF_CHANGE, ConfChange(ConfChangeType.ADD_NODE, 2).encode()),
            "1/4 EntryConfChange v2",
        ),
        (
            Entry(
                1,
                4,
                EntryType.CONF_CHANGE_V2,
                ConfChangeV2(
                    ConfChangeTransition.JOINT_EXPLICIT,
                    (ConfChangeSingle(ConfChangeType.REMOVE_NODE, 1), ConfChangeSingle(ConfChangeType.ADD_NODE, 4)),
                ).encode(),
            ),
            "1/4 EntryConfChangeV2 r1 v4",
        ),
        (Entry(2, 6, EntryType.CONF_CHANGE_V2, ConfChangeV2().encode()), "2/6 EntryConfChangeV2"),
    ],
)
def test_an_entry_is_one_line(entry: Entry, text: str) -> None:
    assert describe.describe_entry(entry) == text
    assert describe.describe_entries([entry, entry]) == f"{text}\n{text}\n"


def test_an_entry_whose_change_cannot_be_read_says_why() -> None:
    assert "needs at least 9 bytes" in describe.describe_entry(Entry(1, 2, EntryType.CONF_CHANGE, b"?"))


def test_states_are_one_line() -> None:
    assert describe.describe_hard_state(HardState(3, 0, 5)) == "Term:3 Commit:5"
    assert describe.describe_hard_state(HardState(3, 2, 0)) == "Term:3 Vote:2 Commit:0"
    assert describe.describe_soft_state(SoftState(1, StateType.PRE_CANDIDATE)) == "Lead:1 State:StatePreCandidate"
    assert describe.describe_snapshot(SNAPSHOT) == (
        "Index:4 Term:1 ConfState:Voters:[2 3] VotersOutgoing:[1 2] Learners:[4] LearnersNext:[1] AutoLeave:true"
    )


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Message(MessageType.HEARTBEAT, 2, 1, 3), "1->2 MsgHeartbeat Term:3 Log:0/0"),
        (
            Message(MessageType.APP, 2, 1, 3, 2, 7, [Entry(3, 8, data=b"a")], commit=6),
            '1->2 MsgApp Term:3 Log:2/7 Commit:6 Entries:[3/8 EntryNormal "a"]',
        ),
        (
            Message(MessageType.APP, 2, 1, 3, 2, 7, [Entry(3, 8), Entry(3, 9)]),
            '1->2 MsgApp Term:3 Log:2/7 Entries:[\n  3/8 EntryNormal ""\n  3/9 EntryNormal ""\n]',
        ),
        (
            Message(MessageType.APP_RESP, 1, 2, 3, 2, 7, reject=True, reject_hint=4),
            "2->1 MsgAppResp Term:3 Log:2/7 Rejected (Hint: 4)",
        ),
        (Message(MessageType.VOTE, 171, 16, 3), "10->ab MsgVote Term:3 Log:0/0"),
        (Message(MessageType.PROP, 1), "None->1 MsgProp Term:0 Log:0/0"),
        (
            Message(MessageType.SNAP, 2, 1, 3, snapshot=Snapshot(SnapshotMetadata(4, 1, ConfState((1,))))),
            "1->2 MsgSnap Term:3 Log:0/0\n  Snapshot: Index:4 Term:1 ConfState:Voters:[1] VotersOutgoing:[] "
            "Learners:[] LearnersNext:[] AutoLeave:false",
        ),
        (
            Message(
                MessageType.STORAGE_APPEND,
                LOCAL_APPEND_THREAD,
                1,
                3,
                commit=5,
                vote=2,
                responses=[Message(MessageType.STORAGE_APPLY_RESP, 1, LOCAL_APPLY_THREAD, entries=[Entry(1, 2)] * 2)],
            ),
            "1->AppendThread MsgStorageAppend Term:3 Log:0/0 Commit:5 Vote:2 Responses:[\n"
            "  ApplyThread->1 MsgStorageApplyResp Term:0 Log:0/0 Entries:[\n"
            '    1/2 EntryNormal ""\n    1/2 EntryNormal ""\n  ]\n]',
        ),
    ],
)
def test_a_message_is_one_line_and_more_if_it_carries_more(message: Message, text: str) -> None:
    assert describe.describe_message(message) == text


def test_an_empty_ready_is_said_to_be() -> None:
    assert describe.describe_ready(NOTHING) == "<empty Ready>"


def test_a_ready_has_its_parts_in_order() -> None:
    ready = Ready(
        soft_state=SoftState(1, StateType.LEADER),
        hard_state=HardState(1, 1, 2),
        read_states=[ReadState(2, b"ab"), ReadState(3, b"")],
        entries=[Entry(1, 3)],
        snapshot=SNAPSHOT,
        committed_entries=[Entry(1, 2)],
        messages=[Message(MessageType.TIMEOUT_NOW, 2, 1, 1)],
        must_sync=True,
    )
    assert describe.describe_ready(ready).split("\n") == [
        "Ready MustSync=true:",
        "Lead:1 State:StateLeader",
        "HardState Term:1 Vote:1 Commit:2",
        "ReadStates [{2 [97 98]} {3 []}]",
        "Entries:",
        '1/3 EntryNormal ""',
        f"Snapshot {describe.describe_snapshot(SNAPSHOT)}",
        "CommittedEntries:",
        '1/2 EntryNormal ""',
        "Messages:",
        "1->2 MsgTimeoutNow Term:1 Log:0/0",
        "",
    ]


def test_progress_is_a_line_for_each_node_and_says_what_is_unusual() -> None:
    full = Progress(3, 5, Inflights(1))
    full.become_replicate()
    full.recent_active = True
    full.sent_entries(1, 10)
    snapshot = Progress(0, 1, Inflights(1))
    snapshot.become_snapshot(7)
    assert describe.describe_progress({2: snapshot, 1: full}) == (
        "1: StateReplicate match=3 next=5 paused inflight=1[full]\n"
        "2: StateSnapshot match=0 next=8 paused pendingSnap=7 inactive\n"
    )


@pytest.mark.parametrize(
    ("acknowledged", "bars"),
    [
        ({}, ["?   ", "?   ", "?   "]),
        ({1: 5, 2: 5}, ["x>  ", "x>  ", "?   "]),
        ({1: 9, 2: 5, 3: 7}, ["xx> ", ">   ", "x>  "]),
        ({1: 5, 2: 5, 3: 5}, [">   ", ">   ", ">   "]),
    ],
)
def test_a_majority_is_drawn_with_a_bar_for_each_voter(acknowledged: dict[int, int], bars: list[str]) -> None:
    """Longer the more voters are behind; equal indexes have equal bars."""
    lines = describe.describe_acknowledged((1, 2, 3), acknowledged).splitlines()
    assert lines[0] == "       idx"
    assert [line[:4] for line in lines[1:]] == bars


def test_the_empty_majority_agrees_to_everything() -> None:
    assert describe.describe_acknowledged((), {}) == "<empty majority quorum>"
    assert describe.describe_index((1 << 64) - 1) == "∞"
    assert describe.describe_index(12) == "12"
