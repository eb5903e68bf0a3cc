"""A run as text, as a diagram, and as etcd's trace validation wants it."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter

from raft import Entry, Message, Snapshot, SnapshotMetadata
from raft.kinds import MessageType
from raft.simulation.trace import describe
from raft.simulator import plan_of, trace_of

PLAN = plan_of(5, "members")


def test_a_message_is_one_line() -> None:
    app = Message(MessageType.APP, 2, 1, term=3, log_term=2, index=7, commit=6, entries=[Entry(3, 8)])
    assert describe(app) == "MsgApp term 3 after 7/2: 1 entries, commit 6"
    refused = Message(MessageType.APP_RESP, 1, 2, term=3, index=7, reject=True, reject_hint=4)
    assert describe(refused) == "MsgAppResp term 3 7 rejected, hint 4"
    snap = Message(MessageType.SNAP, 2, 1, term=3, snapshot=Snapshot(SnapshotMetadata(9, 2)))
    assert describe(snap) == "MsgSnap term 3 at 9/2"
    assert describe(Message(MessageType.VOTE, 2, 1, term=4, index=7, log_term=2)) == "MsgVote term 4 7/2"


def test_the_text_has_a_line_for_each_event_in_order_of_time() -> None:
    text, violation = trace_of(PLAN, "text")
    assert not violation
    lines = text.splitlines()
    times = [int(line.split()[0]) for line in lines]
    assert times == sorted(times)
    for words in ("starts: follower", "leader at term", "sends to", "received from", "and syncs", "crashes, keeps"):
        assert words in text, words


def test_a_mermaid_diagram_has_the_nodes_their_messages_and_what_happened() -> None:
    text, _ = trace_of(PLAN, "mermaid")
    head, *rest = text.splitlines()
    assert head == "sequenceDiagram"
    form = re.compile(r"    (participant \d+ as node \d+|\d+(->>|--x)\d+: [^;#]+|Note over \d+: [^;#]+)")
    assert [line for line in rest if not form.fullmatch(line)] == []
    assert any("->>" in line for line in rest)
    assert any("--x" in line for line in rest)


def test_an_svg_picture_is_a_document_with_an_arrow_for_each_message() -> None:
    text, _ = trace_of(PLAN, "svg")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    lines = root.findall("{http://www.w3.org/2000/svg}line")
    mermaid, _ = trace_of(PLAN, "mermaid")
    arrows = sum("->>" in line or "--x" in line for line in mermaid.splitlines())
    assert sum(line.get("stroke") != "silver" for line in lines) == arrows
    height = int(root.get("height", "0"))
    assert all(0 <= int(line.get("y2", "-1")) <= height for line in lines)


def _events() -> list[dict[str, object]]:
    text, _ = trace_of(PLAN, "ndjson")
    return [json.loads(line)["event"] for line in text.splitlines()]


def test_the_trace_for_tla_has_the_fields_of_etcds_state_trace() -> None:
    """etcd-io/raft: state_trace.go."""
    for event in _events():
        assert {"name", "nid", "state", "role", "log", "conf"} <= set(event) <= {
            "name", "nid", "state", "role", "log", "conf", "msg", "prop",
        }  # fmt: skip
        assert set(event["state"]) == {"term", "vote", "commit"}  # type: ignore[call-overload]
        if "msg" in event:
            assert list(event["msg"]) == [  # type: ignore[call-overload]
                "type", "term", "from", "to", "entries", "logTerm", "index", "commit", "vote", "reject", "rejectHint",
            ]  # fmt: skip


def test_the_trace_for_tla_has_every_kind_of_event() -> None:
    names = Counter(event["name"] for event in _events())
    requests = [f"{way}{what}{end}" for way in ("Send", "Receive") for what in ("AppendEntries", "RequestVote")
                for end in ("Request", "Response")]  # fmt: skip
    others = ["InitState", "BecomeFollower", "BecomeCandidate", "BecomeLeader", "Commit", "Replicate", "Ready",
              "ChangeConf", "ApplyConfChange"]  # fmt: skip
    assert set(names) == {*requests, *others}


def test_a_leaders_events_of_a_proposal_come_in_etcds_order() -> None:
    """Replicate, then the messages with the entry; Commit only after a response."""
    events = [event for event in _events() if event["role"] == "StateLeader"]
    names = [event["name"] for event in events]
    assert names[names.index("BecomeLeader") + 1] == "Replicate"
    first = names.index("Commit")
    assert "ReceiveAppendEntriesResponse" in names[:first]
