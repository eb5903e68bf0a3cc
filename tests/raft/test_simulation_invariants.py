"""Each property is checked: what violates it, planted in a node or told to the history, is reported by its name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raft import ConfState, Entry, HardState, ReadState
from raft.simulation.invariants import History, Invariants, Violation
from raft.state import STATE_LEADER
from tests.raft.network import Network, Peer


def _leaders(h: History) -> None:
    h.see_leader(3, 1)
    h.see_leader(3, 1)
    h.see_leader(3, 2)


def _votes(h: History) -> None:
    h.see_vote(1, 3, 2)
    h.see_vote(1, 3, 2)
    h.see_vote(1, 3, 1)


def _entries(h: History) -> None:
    h.see_entry(Entry(2, 5, data=b"x"), 1)
    h.see_entry(Entry(3, 5, data=b"y"), 1)
    h.see_entry(Entry(2, 5, data=b"y"), 1)


def _previous(h: History) -> None:
    h.see_entry(Entry(2, 5, data=b"x"), 1)
    h.see_entry(Entry(2, 5, data=b"x"), 2)


def _commits(h: History) -> None:
    h.see_commit(5, 2, 3)
    h.see_commit(5, 2, 4)
    h.see_commit(5, 3, 4)


def _states(h: History) -> None:
    h.see_state(5, 77)
    h.see_state(5, 78)


def _reads(h: History) -> None:
    h.ask(b"early")
    h.see_commit(5, 2, 2)
    h.answer(1, ReadState(0, b"early"))
    h.ask(b"late")
    h.answer(1, ReadState(4, b"late"))


def _dropped(h: History) -> None:
    h.dropped.add(b"x")
    h.see_entry(Entry(2, 5, data=b"x"), 1)


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        (_leaders, "Election Safety: nodes 1 and 2 lead in term 3"),
        (_votes, "One Vote: node 1 votes for 2 and 1 in term 3"),
        (_entries, "Log Matching: entry 5 of term 2"),
        (_previous, "Log Matching: entry 5 of term 2"),
        (_commits, "Committed Immutable: entry 5 was of term 2, and is of term 3"),
        (_states, "State Machine Safety: states differ at index 5"),
        (_reads, "Reads: node 1 reads at index 4, but 5 was committed before"),
        (_dropped, "Dropped Is Dropped: b'x' was refused, and is entry 5"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_fact_that_contradicts_the_history_is_reported(facts: Callable[[History], None], rule: str) -> None:
    with pytest.raises(Violation, match=rule):
        facts(History())


def _cluster() -> tuple[Network, Invariants, Peer]:
    """Node 1 leads, and two entries are committed and seen."""
    network = Network()
    network.elect(1)
    network.propose(1, b"x")
    invariants = Invariants(network.peers)
    for peer in network.peers.values():
        invariants.after_event(peer)
        invariants.applied(peer)
    return network, invariants, network.peers[1]


def test_a_healthy_cluster_violates_nothing() -> None:
    _, invariants, _ = _cluster()
    assert invariants.history.commit == 2


def test_a_leader_without_a_committed_entry_is_reported() -> None:
    """Leader Completeness: the entry was committed in an earlier term, as far as the history knows."""
    _, invariants, peer = _cluster()
    invariants.history.committed[2] = (9, 0)
    invariants.seen[1].leads = False
    with pytest.raises(Violation, match="Leader Completeness: node 1 leads in term 1 without entry 2 of term 9"):
        invariants.after_event(peer)


def test_a_second_leader_in_a_term_is_reported() -> None:
    network, invariants, _ = _cluster()
    network.peers[2].node.raft.state = STATE_LEADER
    with pytest.raises(Violation, match="Election Safety"):
        invariants.after_event(network.peers[2])


def test_a_commit_that_is_on_too_few_disks_is_reported() -> None:
    """Committed On Quorum: the leader commits what only it has written."""
    network, invariants, peer = _cluster()
    network.isolate(1)
    network.propose(1, b"y")
    peer.node.raft.log.commit_to(3)
    with pytest.raises(
        Violation, match=r"Committed On Quorum: leader 1 commits entry 3, which is on the disks of \[1\]"
    ):
        invariants.after_event(peer)


@pytest.mark.parametrize("what", ["term", "commit"])
def test_a_term_or_commit_index_that_falls_is_reported(what: str) -> None:
    _, invariants, peer = _cluster()
    if what == "term":
        peer.node.raft.term = 0
    else:
        peer.node.raft.log.committed = 1
    with pytest.raises(Violation, match=f"Monotonic: the {what}.* of node 1 fell from"):
        invariants.after_event(peer)


def test_an_application_that_goes_back_is_reported() -> None:
    _, invariants, peer = _cluster()
    peer.application.index = 1
    with pytest.raises(Violation, match="Monotonic: node 1 was at index 2, and is at 1"):
        invariants.applied(peer)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (HardState(5, 0, 0), "starts at term 1, but had written 5"),
        (HardState(1, 3, 0), "has forgotten its vote for 3 in term 1"),
        (HardState(1, 1, 9), "starts at commit 2, wrote 9"),
    ],
)
def test_a_node_that_starts_with_less_than_it_wrote_is_reported(written: HardState, said: str) -> None:
    """Monotonic, across a restart."""
    _, invariants, peer = _cluster()
    peer.disk.write(written)
    with pytest.raises(Violation, match=f"Monotonic: node 1 {said}"):
        invariants.started(peer)


def test_a_leader_that_writes_over_an_entry_is_reported() -> None:
    """Leader Append-Only."""
    _, invariants, peer = _cluster()
    peer.node.propose(b"y")
    invariants.before_take(peer)
    peer.node.raft.log.unstable.truncate_and_append([Entry(1, 3, data=b"z")])
    with pytest.raises(Violation, match="Leader Append-Only: leader 1 writes over entry 3"):
        invariants.before_take(peer)


def test_votes_of_a_node_whose_disk_was_lost_do_not_count() -> None:
    """tests/raft/amnesia.py: nobody hears it any more."""
    invariants = Invariants({1: Peer(1, ConfState((1,)))})
    invariants.lost.add(1)
    invariants.voted(1, 2, 1)
    invariants.voted(1, 2, 3)
    assert not invariants.history.votes
