"""README.md has the table of limits that server/limits.py has, and each row has a test that reaches the limit."""

from __future__ import annotations

import ast
from pathlib import Path

from server import limits
from server.connection import Limits
from server.errors import SessionExpired
from server.limits import SESSIONS_MAX, TABLE
from server.sessions import OPENS, Serial, Sessions

HERE = Path(__file__).parent
README = (HERE.parents[1] / "README.md").read_text("utf-8")

REACHED_BY = {
    "a key, wherever it stands": "test_connection.py::test_a_longer_key_is_refused_in_the_same_words_everywhere",
    "a body: a value, or a batch with all its operations": "test_connection.py::test_a_body_that_is_too_large_is_refused_before_it_is_read",
    "a body of etcd's JSON gateway": "test_connection.py::test_a_body_of_etcd_s_is_limited_by_what_has_come_of_it",
    "an answer of `/v3/kv`, all its keys and values": "v3/test_kv.py::test_an_answer_has_so_many_bytes_and_no_more",
    "a transaction of `/v3/kv/txn`": "v3/test_txn.py::test_so_many_operations_and_no_more",
    "a request line: three keys of a scan, percent-encoded": "test_request.py::test_most_fields_and_longest_lines_are_still_taken",
    "a header field; all of them": "test_request.py::test_all_fields_together_are_bounded",
    "connections": "test_slots.py::test_when_places_are_short_the_longest_idle_connection_goes",
    "connections that wait for a place": "test_slots.py::test_more_connections_than_places_are_answered_503",
    "a head; a body; from its first byte to its last": "test_connection.py::test_a_client_that_drips_is_closed_at_the_absolute_deadline",
    "an answer that is taken slowly": "test_routes.py::test_a_scan_as_a_whole_has_a_slowest_pace",
    "a connection without a request": "test_connection.py::test_an_idle_connection_is_closed_without_a_word",
    "pages that watch a node, beside its connections": "test_feed.py::test_so_many_watch_and_the_next_one_is_told",
    "streams of etcd's gateway, beside the connections": "v3/test_streams.py::test_there_are_no_more_than_so_many",
    "watches on all of them together": "v3/test_watch_service.py::test_there_are_no_more_than_so_many_watches",
    "what waits to be sent to a stream": "v3/test_streams.py::test_a_client_that_reads_again_makes_room",
    "snapshots that are read at a time": "test_snapshot_stream.py::test_a_place_is_given_back_however_a_stream_ends",
    "sessions": "test_limits.py::test_the_session_that_was_used_least_recently_is_forgotten",
    "users; roles; permissions of one role": "v3/test_users.py::test_there_is_room_for_so_many",
    "a user's or a role's name; a password": "v3/test_users.py::test_a_name_is_bounded",
    "tokens": "v3/test_tokens.py::test_the_one_that_was_used_least_recently_ends",
    "passwords that are hashed at a time": "v3/test_passwords.py::test_so_many_are_hashed_at_a_time_and_the_next_one_is_told",
    "leases": "v3/test_leases.py::test_there_is_a_limit_to_leases",
    "keepalives that wait for the leader's word, on one node": "v3/test_lease_calls.py::test_what_waits_is_limited",
    "writes that wait for an outcome": "test_proposals.py::test_proposals_that_nobody_waits_for_are_bounded_too",
    "writes that Raft has and whose end isn't known": "test_outstanding.py::test_there_is_room_for_so_much_and_no_more",
    "what waits to be sent to a peer": "test_peer_sender.py::test_a_full_queue_drops_what_is_new_and_says_so",
    "a frame from a peer": "test_transport.py::test_a_broken_frame_ends_its_connection_and_nothing_else",
    "connections to the peers' port that haven't said who they are": "test_peer_port.py::test_silent_connections_keep_no_member_out",
    "snapshots that one peer sends at a time": "test_peer_port.py::test_a_member_sends_so_many_snapshots_at_a_time",
    "a snapshot that comes slowly": "test_transport.py::test_a_snapshot_that_drips_is_given_up",
    "removed members that are remembered": "test_address_book.py::test_removed_ids_are_bounded_and_the_oldest_go",
}


def _tables(text: str) -> list[list[list[str]]]:
    tables: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif tables[-1]:
            tables.append([])
    return tables


def test_the_readme_has_the_table():
    (table,) = (table for table in _tables(README) if table and table[0][0] == "limit")
    assert table[2:] == [list(row) for row in TABLE], "copy server/limits.py's TABLE into README.md"


def test_each_row_has_a_test_that_reaches_the_limit():
    assert REACHED_BY.keys() == {row.what for row in TABLE}
    for what, test in REACHED_BY.items():
        file, _, name = test.partition("::")
        tree = ast.parse((HERE / file).read_text("utf-8"))
        assert any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body), f"{what}: {test}"


def test_no_other_module_has_a_limit_of_this_name():
    """A number stands once: the modules that keep to a limit import it."""
    names = {name for name in limits.__all__ if name.isupper()}
    for file in sorted((HERE.parents[1] / "server").glob("*.py")):
        if file.name != "limits.py":
            for node in ast.parse(file.read_text("utf-8")).body:
                if isinstance(node, ast.Assign):
                    ours = {target.id for target in node.targets if isinstance(target, ast.Name)} & names
                    assert not ours, f"{file.name}: {ours}"


def test_a_client_has_what_the_table_says():
    assert (Limits().connections, Limits().spare_connections, Limits().body_bytes) == (256, 16, 3 << 19)
    assert (Limits().head_s, Limits().body_s, Limits().answer_s, Limits().idle_s) == (10, 30, 30, 75)


def test_the_session_that_was_used_least_recently_is_forgotten():
    sessions = Sessions()
    for index in range(1, SESSIONS_MAX + 1):
        sessions.admit(index, [OPENS])
    assert sessions.admit(SESSIONS_MAX + 1, [Serial(1, 1), (b"k", b"v")])[0] == SESSIONS_MAX + 1, (
        "there is room for all"
    )
    sessions.admit(SESSIONS_MAX + 2, [OPENS])
    assert len(sessions) == SESSIONS_MAX
    assert isinstance(sessions.admit(SESSIONS_MAX + 3, [Serial(2, 1), (b"k", b"v")])[0], SessionExpired)
    assert sessions.admit(SESSIONS_MAX + 4, [Serial(1, 2), (b"k", b"v")])[0] == SESSIONS_MAX + 4, "1 was used since"
