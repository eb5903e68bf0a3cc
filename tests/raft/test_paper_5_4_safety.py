"""Section 5.4 of the paper: safety. What has to be on disk, who may be elected, what may be committed by counting."""

from __future__ import annotations

import pytest

from raft import HardState, Message
from raft.kinds import StateType
from raft.raftpb import MSG_APP, MSG_HEARTBEAT, MSG_VOTE, MSG_VOTE_RESP
from tests.raft.network import Network
from tests.raft.nodes import acknowledge, drain, entries, make_leader, make_peer, of_type, terms_of


@pytest.mark.parametrize(
    ("own", "index", "log_term", "granted"),
    [
        # the same last term: the longer log is more up to date
        ((1,), 1, 1, True),
        ((1,), 2, 1, True),
        ((1, 1), 1, 1, False),
        # different last terms: the later term is more up to date, however short
        ((1,), 1, 2, True),
        ((1,), 2, 2, True),
        ((1, 1), 1, 2, True),
        ((2,), 1, 1, False),
        ((2,), 9, 1, False),
        ((2, 1), 1, 1, False),
        ((), 0, 0, True),
    ],
)
def test_a_vote_goes_only_to_a_log_as_up_to_date_as_the_own(
    own: tuple[int, ...], index: int, log_term: int, granted: bool
) -> None:
    """Section 5.4.1: "the voter denies its vote if its own log is more up-to-date than that of the candidate"."""
    voter = make_peer(terms=own, term=3)
    voter.node.step(Message(MSG_VOTE, to=1, from_=2, term=4, index=index, log_term=log_term))
    (answer,) = drain(voter)
    assert (answer.type, answer.term, answer.reject) == (MSG_VOTE_RESP, 4, not granted)
    assert voter.node.status().vote == (2 if granted else 0)


@pytest.mark.parametrize("terms", [(1,), (1, 2, 2), ()])
def test_a_request_for_votes_tells_of_the_last_entry(terms: tuple[int, ...]) -> None:
    candidate = make_peer(terms=terms, term=2)
    candidate.node.campaign()
    sent = of_type(drain(candidate), MSG_VOTE)
    assert [(m.to, m.term, m.index, m.log_term) for m in sent] == [
        (2, 3, len(terms), max(terms, default=0)),
        (3, 3, len(terms), max(terms, default=0)),
    ]


def test_a_node_without_a_committed_entry_is_not_elected() -> None:
    """Leader Completeness, end to end: the one that was away asks first, again and again, and never wins."""
    network = Network()
    network.elect(1)
    network.isolate(3)
    network.propose(1, b"committed")
    network.heal()
    network.flying.clear()
    for _ in range(3):
        network[3].campaign()
        network.settle()
        assert network.leader() != 3
    network.tick(60)
    assert network.leader() in (1, 2)
    assert network.applied() == [[b"committed"]] * 3


@pytest.mark.parametrize(("index", "committed"), [(1, 0), (2, 0), (3, 3)])
def test_only_entries_of_the_own_term_are_committed_by_counting(index: int, committed: int) -> None:
    """Section 5.4.2: entries 1 and 2 are of terms 1 and 2, the leader's own is 3."""
    leader = make_leader(terms=(1, 2))
    assert terms_of(leader) == [1, 2, 3]
    acknowledge(leader, 2, index)
    assert leader.node.status().commit == committed


def test_figure_8() -> None:
    """The schedule of figure 8: an entry of term 2 on a majority is not committed by S1 in term 4, and S5 may
    overwrite it in term 5; once an entry of term 4 is committed as well, S5 can't win."""
    five = (1, 2, 3, 4, 5)
    for term_4_spreads in (False, True):
        network = Network(five)
        for node_id, terms in zip(five, [(1, 2), (1, 2), (1,), (1,), (1, 3)]):
            network.peers[node_id] = make_peer(node_id, five, terms=terms, term=3)
        # (c) S1 is elected in term 4 by S2, S3, S4, and its entry of term 2 gets to S3.
        reached = {2, 3} if term_4_spreads else {3}

        def drop(m: Message, reached: set[int] = reached, spreads: bool = term_4_spreads) -> bool:
            if 5 in (m.to, m.from_):
                return True
            if m.type != MSG_APP:
                return False
            # Without the spread, what is of term 4 gets lost: only the entry of term 2 arrives at S3.
            return m.to not in reached or (not spreads and any(entry.term == 4 for entry in m.entries))

        network.drop = drop
        network[1].campaign()
        network.settle()
        assert network.leader() == 1
        if not term_4_spreads:
            # One probe with the old entry alone, as a limit on the size of messages would make it.
            old = Message(MSG_APP, to=3, from_=1, term=4, index=1, log_term=1, entries=entries(2, (2,)))
            network[3].step(old)
        network.settle()
        network.tick(3, ids=(1,))
        on_three = [node_id for node_id in five if terms_of(network.peers[node_id])[1:2] == [2]]
        assert on_three == [1, 2, 3]
        assert network[1].status().commit == (3 if term_4_spreads else 0)
        # (d) S1 is gone, S5 asks.
        network.drop = lambda m: 1 in (m.to, m.from_)
        for _ in range(3):
            network[5].campaign()
            network.settle()
        assert (network.leader() == 5) is not term_4_spreads


def test_an_old_leader_cannot_commit_alone() -> None:
    """What is proposed on the wrong side of a partition is replaced, and never applied anywhere."""
    network = Network(range(1, 6))
    network.elect(1)
    network.isolate(1, 2)
    network.propose(1, b"lost")
    network.tick(60, ids=(3, 4, 5))
    network.propose(network.leader(), b"kept")
    network.heal()
    network.tick(5)
    assert network.applied() == [[b"kept"]] * 5


def test_term_and_vote_are_on_disk_before_the_vote_is_sent() -> None:
    """Section 5.2 needs it; PySyncObj#84: the vote was never written."""
    voter = make_peer()
    voter.node.step(Message(MSG_VOTE, to=1, from_=2, term=3))
    assert voter.take() == [], "nothing leaves before the write"
    assert voter.ready is not None
    assert (voter.ready.must_sync, voter.ready.hard_state) == (True, HardState(3, 2, 0))
    voter.write()
    assert [m.type for m in voter.finish()] == [MSG_VOTE_RESP]


def test_a_restarted_node_keeps_its_term_and_vote() -> None:
    voter = make_peer()
    voter.node.step(Message(MSG_VOTE, to=1, from_=2, term=3))
    drain(voter)
    voter.restart()
    status = voter.node.status()
    assert (status.term, status.vote, status.raft_state) == (3, 2, StateType.FOLLOWER)
    voter.node.step(Message(MSG_VOTE, to=1, from_=3, term=3))
    (answer,) = drain(voter)
    assert answer.reject, "it has voted for 2 in this term, before the crash"
    voter.node.step(Message(MSG_VOTE, to=1, from_=2, term=3))
    (answer,) = drain(voter)
    assert not answer.reject, "the same vote again is no second vote"


def test_an_acknowledgement_waits_for_the_disk() -> None:
    """A follower that has acknowledged an entry has it after a crash; etcd#8455."""
    follower = make_peer(2)
    follower.node.step(Message(MSG_APP, to=2, from_=1, term=1, entries=entries(1, (1, 1))))
    assert follower.take() == []
    assert follower.ready is not None
    assert follower.ready.must_sync
    follower.write()
    assert [(m.index, m.reject) for m in follower.finish()] == [(2, False)]
    follower.restart()
    assert terms_of(follower) == [1, 1]


def test_the_whole_cluster_restarts_with_what_was_committed() -> None:
    """PySyncObj#201: after a restart of all nodes the term began at 0, and committed data was lost."""
    network = Network()
    network.elect(1)
    network.propose(1, b"a", b"b")
    network.tick()
    for peer in network.peers.values():
        peer.restart()
    assert [peer.node.status().term for peer in network.peers.values()] == [1, 1, 1]
    network.tick(60)
    assert network.leader()
    assert network[network.leader()].status().term > 1
    assert network.applied() == [[b"a", b"b"]] * 3


def test_a_commit_index_that_was_not_synced_is_learned_again() -> None:
    """A Ready that only raises it isn't synced; after a power cut it may be older than what was applied."""
    network = Network()
    network.elect(1)
    network.propose(1, b"a")
    network.tick()
    assert network[2].status().commit == 2
    network.peers[2].restart()
    assert network[2].status().commit < 2
    network.settle()
    network.tick()
    assert network[2].status().commit == 2
    assert network.applied()[1] == [b"a"]


def test_the_commit_index_of_a_heartbeat_is_no_more_than_was_acknowledged() -> None:
    """The follower takes it without looking at its log, whose tail may be another leader's."""
    leader = make_leader()
    acknowledge(leader, 2, 1)
    leader.node.propose(b"x")
    drain(leader)
    acknowledge(leader, 2, 2)
    leader.node.tick()
    sent = of_type(drain(leader), MSG_HEARTBEAT)
    assert [(m.to, m.commit) for m in sent] == [(2, 2), (3, 0)]
