"""Section 5.3 of the paper: log replication."""

from __future__ import annotations

import itertools

import pytest

from raft import Entry, Message, ProposalDroppedError
from raft.raftpb import MSG_APP, MSG_APP_RESP, MSG_HEARTBEAT, MSG_PROP
from tests.raft.network import Network
from tests.raft.nodes import acknowledge, drain, entries, make_leader, make_peer, of_type, terms_of


def test_a_proposal_is_appended_and_sent_to_all() -> None:
    """The paper: "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to each of
    the other servers"; with the index and term of the entry before."""
    leader = make_leader()
    for node_id in (2, 3):
        acknowledge(leader, node_id, 1)
    leader.node.propose(b"data")
    sent = of_type(drain(leader), MSG_APP)
    assert [(m.to, m.index, m.log_term, m.commit) for m in sent] == [(2, 1, 1, 1), (3, 1, 1, 1)]
    assert all(m.entries == [Entry(1, 2, data=b"data")] for m in sent)
    assert leader.storage.term(2) == 1


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_an_entry_is_committed_when_a_majority_has_it(size: int) -> None:
    """The paper: "A log entry is committed once the leader that created the entry has replicated it on a majority of the
    servers"; and then it is applied."""
    leader = make_leader(voters=tuple(range(1, size + 1)))
    for node_id in range(2, size + 1):
        acknowledge(leader, node_id, 1)
    leader.node.propose(b"data")
    drain(leader)
    for node_id in range(2, size // 2 + 2):
        assert leader.node.status().commit == 1, f"{node_id - 1} of {size} have it"
        acknowledge(leader, node_id, 2)
    assert leader.node.status().commit == 2
    assert leader.application.data == [b"data"]


@pytest.mark.parametrize("terms", [(1,), (1, 2), (2, 2, 3), (1, 1, 1, 4)])
def test_committing_an_entry_commits_all_before_it(terms: tuple[int, ...]) -> None:
    """The paper: "This also commits all preceding entries in the leader's log, including entries created by previous leaders." """
    leader = make_leader(terms=terms)
    leader.node.propose(b"data")
    drain(leader)
    acknowledge(leader, 2, len(terms) + 2)
    assert leader.node.status().commit == leader.application.index == len(terms) + 2


def test_followers_apply_what_they_learn_to_be_committed_in_order() -> None:
    """The paper: "Once a follower learns that a log entry is committed, it applies the entry to its local state machine." """
    follower = make_peer(2)
    batch = [Entry(1, 1, data=b"a"), Entry(1, 2, data=b"b"), Entry(1, 3, data=b"c")]
    follower.node.step(Message(MSG_APP, to=2, from_=1, term=1, entries=batch, commit=2))
    drain(follower)
    assert follower.application.data == [b"a", b"b"]
    follower.node.step(Message(MSG_HEARTBEAT, to=2, from_=1, term=1, commit=3))
    drain(follower)
    assert follower.application.data == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("index", "log_term", "reject", "hint"),
    [
        (0, 0, False, None),
        (1, 1, False, None),
        (2, 2, False, None),
        (1, 2, True, (1, 1)),  # another term there
        (2, 1, True, (1, 1)),  # what can the leader have before an entry of term 1? nothing of term 2
        (3, 3, True, (2, 2)),  # nothing there
        (9, 9, True, (2, 2)),
    ],
)
def test_a_follower_refuses_what_does_not_follow_its_log(
    index: int, log_term: int, reject: bool, hint: tuple[int, int] | None
) -> None:
    """The paper: "If the follower does not find an entry in its log with the same index and term, then it refuses the new
    entries." """
    follower = make_peer(2, terms=(1, 2))
    follower.node.step(Message(MSG_APP, to=2, from_=1, term=9, index=index, log_term=log_term))
    (answer,) = drain(follower)
    assert (answer.type, answer.index, answer.reject) == (MSG_APP_RESP, index, reject)
    if hint is not None:
        assert (answer.reject_hint, answer.log_term) == hint


@pytest.mark.parametrize(
    ("prev", "terms", "expected", "written"),
    [
        ((2, 2), (3,), [1, 2, 3], [3]),
        ((1, 1), (3, 4), [1, 3, 4], [3, 4]),  # the conflicting one and all that follow are replaced
        ((0, 0), (1,), [1, 2], []),  # nothing new: nothing is deleted, nothing written
        ((0, 0), (3,), [3], [3]),
        ((0, 0), (1, 2), [1, 2], []),
    ],
)
def test_a_follower_deletes_only_what_conflicts(
    prev: tuple[int, int], terms: tuple[int, ...], expected: list[int], written: list[int]
) -> None:
    """The paper: "the leader must find the latest log entry where the two logs agree, delete any entries in the follower's log
    after that point" - but figure 2, rule 3: only "if an existing entry conflicts with a new one"."""
    follower = make_peer(2, terms=(1, 2))
    batch = entries(prev[0] + 1, terms)
    follower.node.step(Message(MSG_APP, to=2, from_=1, term=4, index=prev[0], log_term=prev[1], entries=batch))
    follower.take()
    assert follower.ready is not None
    assert [entry.term for entry in follower.ready.entries] == written
    follower.write()
    follower.finish()
    assert terms_of(follower) == expected


FIGURE_7 = {
    "a": (1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": (1, 1, 1, 4),
    "c": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": (1, 1, 1, 4, 4, 4, 4),
    "f": (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}


@pytest.mark.parametrize("name", FIGURE_7)
def test_the_leader_brings_every_log_of_figure_7_into_line(name: str) -> None:
    """Figure 7: what a follower lacks, and what it has too much. The probes needed are at most one for each term."""
    network = Network()
    for node_id, terms in ((1, (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)), (2, FIGURE_7[name])):
        network.peers[node_id] = make_peer(node_id, terms=terms, term=7)
    # The third node lets the leader be elected, and then is gone.
    network.peers[3] = make_peer(3, term=7)
    network.drop = lambda m: 2 in (m.to, m.from_)
    network.elect(1)
    refusals = 0

    def drop(message: Message) -> bool:
        nonlocal refusals
        refusals += message.type == MSG_APP_RESP and message.reject
        return 3 in (message.to, message.from_)

    network.drop = drop
    network.tick(2)
    assert terms_of(network.peers[2]) == terms_of(network.peers[1]) == [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8]
    assert refusals <= 3


@pytest.mark.parametrize(
    ("leader", "follower", "probes"),
    [
        # The follower's hint: nothing of its term 4 can precede an entry of term 2.
        ((1, 2, 2, 2, 2), (1, 4, 4, 4, 4, 4), 2),
        # The leader's own: nothing of its term 5 can be at or before an entry of term 3.
        ((1, 5, 5, 5, 5, 5, 5), (1, 3, 3, 3), 2),
        # Both: terms that alternate.
        ((1, 1, 1, 3, 3, 3, 5, 5, 5), (1, 1, 1, 2, 2, 2, 4, 4, 4), 2),
        # A log that is only too short.
        ((1,) * 50, (1, 1), 2),
        ((1,) * 50, (), 2),
    ],
)
def test_the_leader_backs_up_by_terms_not_by_entries(
    leader: tuple[int, ...], follower: tuple[int, ...], probes: int
) -> None:
    """The paper: "the leader can decrement nextIndex to bypass all of the conflicting entries in that term" (end of 5.3): the
    number of messages until one is accepted."""
    network = Network()
    network.peers[1] = make_peer(1, terms=leader, term=9)
    network.peers[2] = make_peer(2, terms=follower, term=9)
    network.peers[3] = make_peer(3, term=9)
    network.drop = lambda m: 2 in (m.to, m.from_)
    network.elect(1)
    sent: list[Message] = []

    def drop(message: Message) -> bool:
        if message.to == 2 and message.type == MSG_APP:
            sent.append(message)
        return 3 in (message.to, message.from_)

    network.drop = drop
    network.tick(2)
    assert terms_of(network.peers[2]) == terms_of(network.peers[1])
    until_accepted = list(itertools.takewhile(lambda m: not m.entries or m.index + len(m.entries) < len(leader), sent))
    assert len(until_accepted) <= probes


def test_the_leader_never_changes_its_own_entries() -> None:
    """Leader Append-Only, and the answers of followers can't move it."""
    leader = make_leader(terms=(1, 2, 3))
    before = leader.log()
    for reject_hint in range(5):
        leader.node.step(
            Message(MSG_APP_RESP, to=1, from_=2, term=4, index=3, reject=True, reject_hint=reject_hint, log_term=1)
        )
        drain(leader)
    assert leader.log() == before


def test_followers_send_proposals_to_the_leader() -> None:
    network = Network()
    network.elect(1)
    network.propose(3, b"a", b"b")
    network.tick()
    assert network.applied() == [[b"a", b"b"]] * 3


def test_forwarding_can_be_switched_off() -> None:
    network = Network(disable_proposal_forwarding=True)
    network.elect(1)
    with pytest.raises(ProposalDroppedError, match="leader is 1"):
        network[2].propose(b"x")
    network.propose(1, b"x")
    network.tick()
    assert network.applied() == [[b"x"]] * 3


def test_a_batch_is_one_message_with_all_its_entries() -> None:
    leader = make_leader()
    acknowledge(leader, 2, 1)
    leader.node.propose_batch([b"%d" % number for number in range(100)])
    (message,) = [m for m in of_type(drain(leader), MSG_APP) if m.to == 2]
    assert [entry.index for entry in message.entries] == list(range(2, 102))


def test_an_empty_batch_is_refused_here_and_ignored_from_a_peer() -> None:
    leader = make_leader()
    with pytest.raises(ValueError, match="at least one"):
        leader.node.propose_batch([])
    leader.node.step(Message(MSG_PROP, to=1, from_=2))
    assert not leader.node.has_ready()


def test_too_much_that_is_not_committed_is_refused() -> None:
    """A leader cut off from its followers mustn't fill its memory; empty entries and a first one always pass."""
    leader = make_leader(max_uncommitted_entries_size=100)
    leader.node.propose(b"x" * 1000)
    with pytest.raises(ProposalDroppedError, match="limit is 100"):
        leader.node.propose(b"y")
    leader.node.propose(b"")
    drain(leader)
    acknowledge(leader, 2, 3)
    leader.node.propose(b"y" * 60)
    with pytest.raises(ProposalDroppedError):
        leader.node.propose_batch([b"z" * 30, b"z" * 30])
    leader.node.propose(b"z" * 40)


def test_lost_messages_are_made_up_for() -> None:
    """The paper: "If followers crash or run slowly, or if network packets are lost, the leader retries AppendEntries RPCs
    indefinitely." """
    network = Network()
    network.elect(1)
    network.isolate(3)
    for number in range(10):
        network.propose(1, b"%d" % number)
    assert network.applied()[2] == []
    network.heal()
    network.tick(2)
    assert network.applied() == [[b"%d" % number for number in range(10)]] * 3
