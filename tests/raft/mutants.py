"""Raft with one rule left out: bugs that real implementations had, each as a function that plants it.

A random run that can't fail proves nothing. Each of these must be found by the runs of simulation.py. Bugs that chance
meets too rarely have tests of their own in test_raft_traps.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from raft import Entry, HardState, Message, Raft
from raft import election as election_module
from raft import leader as leader_module
from raft import membership as membership_module
from raft import raft as raft_module
from raft import reads as reads_module
from raft.log import RaftLog
from raft.raftpb import MSG_APP_RESP, MSG_HEARTBEAT, MSG_READ_INDEX, MSG_VOTE
from raft.tracker import Progress
from tests.raft import network

__all__ = ["MUTANTS"]

Plant = Callable[[pytest.MonkeyPatch], None]


def vote_is_not_synced(patch: pytest.MonkeyPatch) -> None:
    """PySyncObj#84, #202: a restarted node has forgotten its vote, and votes again in the same term."""

    def must_sync(state: HardState, previous: HardState, entry_count: int) -> bool:
        return entry_count > 0

    patch.setattr("raft.rawnode.must_sync", must_sync)


def vote_goes_to_any_log(patch: pytest.MonkeyPatch) -> None:
    """Section 5.4.1 left out: a node that lacks committed entries is elected."""
    patch.setattr(RaftLog, "is_up_to_date", lambda self, index, term: True)


def vote_is_given_twice(patch: pytest.MonkeyPatch) -> None:
    """Section 5.2 left out: whoever asks gets a vote."""
    original = election_module.answer_vote_request

    def answer(r: Raft, m: Message) -> None:
        r.vote = m.from_
        original(r, m)

    patch.setitem(raft_module._HANDLERS, MSG_VOTE, answer)


def leader_counts_its_entries_before_they_are_written(patch: pytest.MonkeyPatch) -> None:
    """etcd#14370: what the leader of a small cluster has committed is lost with its own crash."""
    original = Raft.send

    def send(self: Raft, message: Message) -> None:
        original(self, message)
        if message.type == MSG_APP_RESP and message.to == self.id:
            self.messages_after_append.remove(message)
            self.step(message)

    patch.setattr(Raft, "send", send)


def follower_acknowledges_before_it_has_written(patch: pytest.MonkeyPatch) -> None:
    """etcd#8455 and many others: everything is sent before the sync."""
    patch.setattr(network, "may_send_before_sync", lambda message: True)


def old_terms_are_committed_by_counting(patch: pytest.MonkeyPatch) -> None:
    """Figure 8; PySyncObj#110, #169."""

    def maybe_commit(self: RaftLog, index: int, term: int) -> bool:
        if index <= self.committed:
            return False
        self.commit_to(index)
        return True

    patch.setattr(RaftLog, "maybe_commit", maybe_commit)


def a_match_truncates(patch: pytest.MonkeyPatch) -> None:
    """raftos#26, akka-raft#66: a late message deletes what came behind it, acknowledged or not."""

    def maybe_append(
        self: RaftLog, prev_index: int, prev_term: int, entries: Sequence[Entry], leader_commit: int
    ) -> int | None:
        if not self.match_term(prev_index, prev_term):
            return None
        fresh = [entry for entry in entries if entry.index > self.committed]
        if fresh:
            self.append(fresh)
        last_new = prev_index + len(entries)
        self.commit_to(min(leader_commit, last_new))
        return last_new

    patch.setattr(RaftLog, "maybe_append", maybe_append)


def heartbeat_commits_more_than_the_follower_has(patch: pytest.MonkeyPatch) -> None:
    original = Raft.send

    def send(self: Raft, message: Message) -> None:
        if message.type == MSG_HEARTBEAT:
            message.commit = self.log.committed
        original(self, message)

    patch.setattr(Raft, "send", send)


def reads_ask_no_quorum(patch: pytest.MonkeyPatch) -> None:
    """A leader that was replaced, and doesn't know it, answers with what it has."""

    def confirm(r: Raft, requests: Sequence[Message]) -> None:
        for request in requests:
            reads_module._answer(r, request, r.log.committed)

    patch.setattr(reads_module, "_confirm", confirm)


def reads_do_not_wait_for_the_term_to_open(patch: pytest.MonkeyPatch) -> None:
    """etcd#7331: a new leader doesn't know yet what the last one has committed."""
    patch.setitem(leader_module._HANDLERS, MSG_READ_INDEX, lambda r, m: reads_module._confirm(r, [m]))


def a_leader_alone_answers_reads_at_once(patch: pytest.MonkeyPatch) -> None:
    """A restarted node's commit index may be older than what it acknowledged: it isn't synced when it changes alone."""
    original = reads_module.handle_read_index

    def handle(r: Raft, m: Message) -> None:
        if len(r.tracker.progress) == 1:
            reads_module._answer(r, m, r.log.committed)
        else:
            original(r, m)

    patch.setitem(leader_module._HANDLERS, MSG_READ_INDEX, handle)


def refusals_lower_what_was_matched(patch: pytest.MonkeyPatch) -> None:
    """Late refusals are believed, and match falls with them; then what is sent is not what is missing."""

    def maybe_decrease(self: Progress, rejected: int, match_hint: int) -> bool:
        self.match = min(self.match, match_hint)
        self.next = match_hint + 2
        return True

    patch.setattr(Progress, "maybe_decrease", maybe_decrease)


def several_membership_changes_are_under_way(patch: pytest.MonkeyPatch) -> None:
    """Thesis 4.1: two changes at a time make majorities that don't meet."""

    patch.setattr(membership_module, "_refusal", lambda r, change: "")


MUTANTS: list[tuple[Plant, str]] = [
    (vote_is_not_synced, "five"),
    (vote_goes_to_any_log, "calm"),
    (vote_is_given_twice, "five"),
    (leader_counts_its_entries_before_they_are_written, "solo"),
    (follower_acknowledges_before_it_has_written, "calm"),
    (old_terms_are_committed_by_counting, "split"),
    (a_match_truncates, "calm"),
    (heartbeat_commits_more_than_the_follower_has, "calm"),
    (reads_ask_no_quorum, "split"),
    (reads_do_not_wait_for_the_term_to_open, "split"),
    (a_leader_alone_answers_reads_at_once, "solo"),
    (refusals_lower_what_was_matched, "calm"),
    (several_membership_changes_are_under_way, "members"),
]
"""Each with the profile of simulation.py that finds it soonest."""
