"""Chapter 15, Raft: elections. At most one leader in a term, whatever the network and the power do.

Paper sections 5.1, 5.2 and 5.4.1. A node is asked with messages and ticks, and judged by its messages, by what it wants on
disk, and by the state that Figure 2 of the paper names: term, vote, and who leads. Scripts are in tests/chapters/scripts.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from raft import Entry, Message
from raft.election import ask_for_votes
from raft.errors import ProposalDroppedError, RaftPanic
from raft.kinds import MessageType, StateType, VoteResult
from raft.quorum import MajorityConfig
from raft.raftpb import (
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_VOTE,
    MSG_VOTE_RESP,
)
from tests.chapters.kit import History, rounds
from tests.chapters.schedules import ELECTIONS, play_schedules, play_script
from tests.raft.network import Network, Peer
from tests.raft.nodes import drain, make_peer, make_raft, of_type

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("15_*.txt"))
ELECTION_TICK = 10  # of the nodes that make_peer makes
FOLLOWER, CANDIDATE, LEADER = StateType.FOLLOWER, StateType.CANDIDATE, StateType.LEADER


# ---- one node ----------------------------------------------------------------------------------------------------------


def vote_request(candidate: int, term: int, last: tuple[int, int] = (0, 0)) -> Message:
    """A MsgVote for node 1, of a candidate whose log ends with (index, term)."""
    return Message(MSG_VOTE, to=1, from_=candidate, term=term, index=last[0], log_term=last[1])


def heartbeat(leader: int, term: int) -> Message:
    """A heartbeat for node 1."""
    return Message(MSG_HEARTBEAT, to=1, from_=leader, term=term)


def make_candidate(voters: int = 3, term: int = 0) -> Peer:
    """Node 1 as a candidate of the term after `term`, whose own vote is on its disk."""
    peer = make_peer(voters=range(1, voters + 1), term=term)
    peer.node.campaign()
    drain(peer)
    return peer


def make_winner(term: int = 0) -> Peer:
    """Node 1 of three as the leader of the term after `term`."""
    peer = make_candidate(term=term)
    peer.node.step(Message(MSG_VOTE_RESP, to=1, from_=2, term=term + 1))
    drain(peer)
    assert peer.node.role == LEADER, "of three nodes, its own vote and one more have to make it the leader"
    return peer


def make_role(role: StateType, term: int) -> Peer:
    """Node 1 in a role, in this term."""
    if role == FOLLOWER:
        return make_peer(term=term)
    return make_candidate(term=term - 1) if role == CANDIDATE else make_winner(term=term - 1)


def look(peer: Peer) -> tuple[StateType, int, int]:
    """Role, term, and who leads."""
    return peer.node.role, peer.node.term, peer.node.lead


def vote_of(peer: Peer) -> int:
    """Whom it has voted for in its term."""
    return peer.node.status().vote


def ticks_to_campaign(peer: Peer) -> int:
    """Ticks until its term rises; a node that never campaigns gets 1,000."""
    term = peer.node.term
    for ticks in range(1, 1000):
        peer.node.tick()
        drain(peer)
        if peer.node.term > term:
            return ticks
    return 1000


# ---- counting ----------------------------------------------------------------------------------------------------------


def test_a_vote_is_decided_as_soon_as_a_majority_is_certain() -> None:
    """All votes of one to five voters: granted, refused, or not here yet. A stranger's vote never counts."""
    for size in range(1, 6):
        for answers in itertools.product((True, False, None), repeat=size):
            votes = {node_id: answer for node_id, answer in enumerate(answers, 1) if answer is not None}
            granted, missing = answers.count(True), answers.count(None)
            expected = VoteResult.LOST
            if 2 * granted > size:
                expected = VoteResult.WON
            elif 2 * (granted + missing) > size:
                expected = VoteResult.PENDING
            found = MajorityConfig(range(1, size + 1)).vote_result({**votes, 99: True})
            assert found == expected, f"of {size} voters, with the votes {votes}: expected {expected}, found {found}"
    assert MajorityConfig().vote_result({}) == VoteResult.WON, "without voters every vote is won"


@pytest.mark.parametrize(
    ("own", "last", "expected"),
    [
        ((1,), (1, 1), True),
        ((1,), (2, 1), True),
        ((1, 1), (1, 1), False),
        ((1,), (1, 2), True),
        ((1, 1), (1, 2), True),
        ((2,), (1, 1), False),
        ((2,), (9, 1), False),
        ((), (0, 0), True),
        ((1,), (0, 0), False),
    ],
)
def test_a_vote_goes_to_a_log_that_is_as_up_to_date(
    own: tuple[int, ...], last: tuple[int, int], expected: bool
) -> None:
    """Section 5.4.1: the later last term wins; with the same last term, the longer log. hashicorp/raft#94 compared both."""
    peer = make_peer(terms=own, term=3)
    peer.node.step(vote_request(2, 4, last))
    (answer,) = drain(peer)
    assert answer.reject is not expected, (
        f"the log ends with {(len(own), max(own, default=0))} (index, term), the candidate's with {last}: "
        f"the vote should be {'granted' if expected else 'refused'}"
    )
    assert vote_of(peer) == (2 if expected else 0)


# ---- one vote in a term ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vote", "candidate", "granted"), [(0, 2, True), (0, 3, True), (2, 2, True), (3, 2, False), (1, 2, False)]
)
def test_one_vote_in_a_term_first_come_first_served(vote: int, candidate: int, granted: bool) -> None:
    """Section 5.2. A candidate that asks again gets the same answer: the first one may have been lost."""
    peer = make_peer(term=4, vote=vote)
    peer.node.step(vote_request(candidate, 4))
    (answer,) = drain(peer)
    assert (answer.type, answer.to, answer.from_, answer.term) == (MSG_VOTE_RESP, candidate, 1, 4)
    assert answer.reject is not granted, f"it had voted for node {vote}, and node {candidate} asks"
    assert vote_of(peer) == (candidate if granted else vote)


def test_a_node_that_knows_the_leader_of_its_term_votes_for_nobody_else() -> None:
    """The term is decided, also for a node whose own vote it didn't need."""
    peer = make_peer(term=4)
    peer.node.step(heartbeat(2, 4))
    drain(peer)
    peer.node.step(vote_request(3, 4))
    (answer,) = drain(peer)
    assert answer.reject
    assert vote_of(peer) == 0


def test_a_candidate_that_has_lost_keeps_its_vote() -> None:
    """eliben/raft#27, etcd#2461, hazelcast#16643: back to follower in the same term, a node forgot whom it had voted for."""
    refused = make_candidate()
    for voter in (2, 3):
        refused.node.step(Message(MSG_VOTE_RESP, to=1, from_=voter, term=1, reject=True))
    beaten = make_candidate()
    beaten.node.step(heartbeat(2, 1))
    for peer, lead in ((refused, 0), (beaten, 2)):
        drain(peer)
        assert look(peer) == (FOLLOWER, 1, lead), "role, term, and who leads, of a candidate of term 1 that has lost"
        assert vote_of(peer) == 1, "the vote belongs to the term, and the term is the same"
        peer.node.step(vote_request(3, 1))
        (answer,) = drain(peer)
        assert answer.reject, "that would be its second vote in term 1"


def test_a_vote_is_on_disk_before_the_answer_leaves() -> None:
    """Figure 2: votedFor is updated on stable storage before responding. PySyncObj#84: it was never written."""
    peer = make_peer()
    peer.node.step(vote_request(2, 3))
    assert peer.take() == [], "nothing may leave before the vote is written"
    assert peer.ready is not None
    assert peer.ready.hard_state is not None
    assert (peer.ready.hard_state.term, peer.ready.hard_state.vote, peer.ready.must_sync) == (3, 2, True)
    peer.write()
    assert [(m.type, m.to, m.reject) for m in peer.finish()] == [(MSG_VOTE_RESP, 2, False)]


@pytest.mark.parametrize("moment", ["asked", "taken", "half written", "written", "answered"])
def test_a_vote_survives_a_crash_at_every_moment(moment: str, history: History, rng: random.Random) -> None:
    """If the answer may have left, the node knows its vote when it starts again; another candidate gets none."""
    for _ in range(rounds(16)):
        history.clear()
        peer, left = make_peer(term=2), False
        history.do("node 2 asks for a vote in term 3")
        peer.node.step(vote_request(2, 3))
        if moment != "asked":
            left = any(message.to == 2 for message in peer.take())
        if moment == "half written":
            peer.tear(peer.records())
        if moment in ("written", "answered"):
            peer.write()
        if moment == "answered":
            left = any(message.to == 2 for message in peer.finish())
            assert left
        history.note(f"power cut: {moment}, and the answer has {'left' if left else 'not left'}")
        peer.crash(rng)
        peer.start()
        history.do(
            f"it starts in term {peer.node.term} with its vote for {vote_of(peer) or 'nobody'}; node 3 asks in term 3"
        )
        peer.node.step(vote_request(3, 3))
        (answer,) = drain(peer)
        assert not (left and not answer.reject), "it votes for nodes 2 and 3 in term 3"
        assert answer.reject == (vote_of(peer) == 2), "it starts with what is on its disk"


def test_the_own_vote_counts_when_it_is_on_disk() -> None:
    """A candidate's vote is a promise like any other; with one voter it decides alone (etcd#14370 has the same of commits)."""
    peer = make_peer(voters=(1,))
    peer.node.campaign()
    peer.take()
    assert peer.node.role == CANDIDATE, "its vote isn't on its disk yet"
    peer.write()
    peer.finish()
    assert peer.node.role == LEADER


# ---- campaigns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [(), (1,), (1, 2, 2)])
def test_a_campaign_asks_all_other_voters_in_the_next_term(terms: tuple[int, ...]) -> None:
    """Section 5.2: a new term, a vote for itself, a request to each of the others, with the last entry of its log."""
    peer = make_peer(terms=terms, term=4, voters=(1, 2, 3, 4))
    peer.node.campaign()
    sent = drain(peer)
    assert look(peer) == (CANDIDATE, 5, 0)
    assert vote_of(peer) == 1, "a candidate votes for itself, and notes it"
    last = (len(terms), max(terms, default=0))
    found = [(m.type, m.from_, m.to, m.term, (m.index, m.log_term)) for m in sent]
    assert found == [(MSG_VOTE, 1, node_id, 5, last) for node_id in (2, 3, 4)]


def test_the_votes_are_asked_for_with_the_types_that_are_given() -> None:
    """Pre-vote (off by default) asks the same way, with other types, about another term; a transfer has a context."""
    r = make_raft(FOLLOWER, terms=(1, 2))
    ask_for_votes(r, MSG_PRE_VOTE, MSG_PRE_VOTE_RESP, 8, b"why")
    found = [(m.type, m.to, m.term, (m.index, m.log_term), m.context) for m in r.messages]
    assert found == [(MSG_PRE_VOTE, node_id, 8, (2, 2), b"why") for node_id in (2, 3)]
    own = [(m.type, m.to, m.term, m.reject) for m in r.messages_after_append]
    assert own == [(MSG_PRE_VOTE_RESP, 1, 8, False)], "its own answer waits for the disk"


def test_a_leader_that_campaigns_is_a_fault_of_its_caller() -> None:
    """`hup` never lets it happen; a leader that goes to the next term by itself would depose itself."""
    r = make_raft(LEADER)
    term = r.term
    with pytest.raises(RaftPanic):
        r.become_candidate()
    assert (r.state, r.term) == (LEADER, term), "nothing is changed before the error"


def test_a_candidate_takes_no_proposals() -> None:
    """Nobody leads, so nobody can take it. Who proposes has to hear that: an entry that vanishes is waited for in vain."""
    peer = make_candidate()
    with pytest.raises(ProposalDroppedError):
        peer.node.propose(b"x")


@pytest.mark.parametrize(
    ("size", "granted", "refused", "expected"),
    [
        (3, 1, 0, LEADER),
        (3, 1, 1, LEADER),
        (5, 2, 2, LEADER),
        (4, 2, 0, LEADER),
        (4, 1, 1, CANDIDATE),
        (5, 1, 2, CANDIDATE),
        (3, 0, 2, FOLLOWER),
        (4, 1, 2, FOLLOWER),
        (5, 1, 3, FOLLOWER),
    ],
)
def test_a_majority_makes_the_leader(size: int, granted: int, refused: int, expected: StateType) -> None:
    """Its own vote is one of them. Each answer arrives twice: a network may repeat it (akka-raft#45 counted both)."""
    peer = make_candidate(size)
    for voter in range(2, 2 + granted + refused):
        for _ in range(2):
            peer.node.step(Message(MSG_VOTE_RESP, to=1, from_=voter, term=1, reject=voter >= 2 + granted))
    assert look(peer) == (expected, 1, 1 if expected == LEADER else 0), (
        f"role, term, and who leads, of a candidate of term 1 among {size} voters; of the others {granted} granted their "
        f"vote and {refused} refused it"
    )


def test_a_leader_is_heard_at_once_and_at_every_heartbeat() -> None:
    """Section 5.2: the winner tells all others, before their timeouts end, and keeps telling them."""
    peer = make_candidate()
    peer.node.step(Message(MSG_VOTE_RESP, to=1, from_=3, term=1))
    assert {m.to for m in drain(peer)} == {2, 3}, "all others are to hear of their leader as soon as it has won"
    for _ in range(3):
        peer.node.tick()
        assert [(m.to, m.from_, m.term) for m in of_type(drain(peer), MSG_HEARTBEAT)] == [(2, 1, 1), (3, 1, 1)]


def test_what_is_sent_says_who_sends_it_and_in_which_term() -> None:
    """A proposal that a follower passes on is the exception: it is local to the node that made it, so its term is 0."""
    peer = make_peer(term=4)
    peer.node.step(heartbeat(2, 4))
    peer.node.propose(b"x")
    sent = drain(peer)
    assert [(m.type, m.from_, m.to, m.term) for m in of_type(sent, MSG_HEARTBEAT_RESP)] == [
        (MSG_HEARTBEAT_RESP, 1, 2, 4)
    ]
    assert [(m.from_, m.to, m.term) for m in of_type(sent, MSG_PROP)] == [(1, 2, 0)]


@pytest.mark.parametrize(
    ("kind", "term", "expected"),
    [
        (MSG_HEARTBEAT, 0, 4),
        (MSG_HEARTBEAT_RESP, 0, 4),
        (MSG_APP_RESP, 0, 4),
        (MSG_PROP, 0, 0),
        (MSG_READ_INDEX, 0, 0),
        (MSG_VOTE, 5, 5),
        (MSG_PRE_VOTE_RESP, 5, 5),
    ],
)
def test_what_promises_something_waits_for_the_disk(kind: MessageType, term: int, expected: int) -> None:
    """A vote or an acknowledgement goes to messages_after_append, whoever gets it; the others may leave earlier."""
    r = make_raft(FOLLOWER)
    r.become_follower(4, 2)
    waits = kind in (MSG_APP_RESP, MSG_VOTE_RESP, MSG_PRE_VOTE_RESP)
    cases = [(2, 0), (2, 3), *([(1, 0)] if waits else [])]  # to itself a node sends nothing but promises
    for to, from_ in cases:
        r.messages, r.messages_after_append = [], []
        r.send(Message(kind, to=to, from_=from_, term=term, entries=[Entry(0, 0, data=b"x")]))
        found, other = r.messages, r.messages_after_append
        if waits:
            found, other = other, found
        assert len(found) == 1, f"{kind} to node {to} goes to {'messages_after_append' if waits else 'messages'}"
        assert other == [], f"{kind} to node {to} goes to one list"
        assert (found[0].type, found[0].to, found[0].from_, found[0].term) == (kind, to, from_ or 1, expected), (
            f"type, to, from_ and term of a {kind} of node 1, in term 4; it came with from_ {from_} and term {term}"
        )


# ---- terms -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [FOLLOWER, CANDIDATE, LEADER])
def test_a_higher_term_is_followed_in_every_role(role: StateType) -> None:
    """Section 5.1. Only a leader's message says who leads in it; a candidate hasn't won yet. The old vote is void."""
    for message, lead in ((heartbeat(3, 7), 3), (vote_request(3, 7, (9, 6)), 0)):
        peer = make_role(role, 2)
        peer.node.step(message)
        assert look(peer) == (FOLLOWER, 7, lead), f"a {role} of term 2 got {message.type} of term 7 from node 3"
        assert vote_of(peer) == (0 if lead else 3), "the vote in term 7; one of term 2 is void"
    # A refusal carries the term of its sender, too: it is how a candidate learns that it is late.
    peer = make_role(role, 2)
    peer.node.step(Message(MSG_VOTE_RESP, to=1, from_=3, term=7, reject=True))
    assert look(peer) == (FOLLOWER, 7, 0), f"a {role} of term 2 got a refusal of term 7"
    assert vote_of(peer) == 0, "the vote in term 7; one of term 2 is void"


@pytest.mark.parametrize("role", [FOLLOWER, CANDIDATE, LEADER])
def test_a_lower_term_changes_nothing(role: StateType) -> None:
    """Section 5.1: its sender is late. An old leader's heartbeat, an old campaign's request, an old campaign's answer."""
    peer = make_role(role, 5)
    before = (look(peer), vote_of(peer))
    old = [heartbeat(3, 4), vote_request(3, 4, (9, 4)), *(Message(MSG_VOTE_RESP, 1, voter, 4) for voter in (2, 3))]
    for message in old:
        peer.node.step(message)
        assert (look(peer), vote_of(peer)) == before, f"a {role} of term 5 got {message.type} of term 4"
        assert drain(peer) == [], f"a {role} of term 5 answered {message.type} of term 4"
    # With pre-vote (off by default) an old leader has to be told; that is `refuse_lower_term`'s, and it has to be asked.
    peer = make_peer(term=5, pre_vote=True)
    peer.node.step(heartbeat(3, 4))
    assert [(m.to, m.term) for m in drain(peer)] == [(3, 5)], "what `refuse_lower_term` answers to an old leader"


def test_a_candidate_gives_way_to_the_leader_of_its_term_and_to_nobody_else() -> None:
    """Section 5.2: a leader of its term has won; another candidate of its term has not."""
    peer = make_candidate()
    peer.node.step(vote_request(2, 1))
    (answer,) = drain(peer)
    assert answer.reject
    assert look(peer) == (CANDIDATE, 1, 0)
    peer.node.step(heartbeat(3, 1))
    assert look(peer) == (FOLLOWER, 1, 3), (
        "role, term, and who leads, of a candidate that has heard the leader of its term"
    )
    assert [m.type for m in drain(peer)] == [MSG_HEARTBEAT_RESP], (
        "the message that ends the campaign is answered as well"
    )


@pytest.mark.parametrize("role", [FOLLOWER, CANDIDATE, LEADER])
def test_a_follower_knows_the_leader_that_it_was_told_of(role: StateType) -> None:
    """In the same term and in a later one; a change of role restarts the timer, in whatever order it is done."""
    for terms_later, lead in ((0, 3), (0, 0), (2, 3), (2, 0)):
        r = make_raft(role)
        term = r.term + terms_later
        r.election_elapsed = 7
        r.become_follower(term, lead)
        assert (r.state, r.term, r.lead) == (FOLLOWER, term, lead), f"a {role} of term {term - terms_later} follows"
        assert r.election_elapsed == 0, f"a {role} becomes a follower, and its timer counts from 0"
        assert ELECTION_TICK <= r.randomized_election_timeout < 2 * ELECTION_TICK


# ---- time --------------------------------------------------------------------------------------------------------------


def test_timeouts_are_random_in_their_interval(seed: int) -> None:
    """Section 5.2: each election has a new one, from 10 to 19 ticks here, or two nodes would split their votes for ever."""
    peer = make_peer(seed=seed)
    found = [ticks_to_campaign(peer) for _ in range(200)]
    assert set(found) == set(range(ELECTION_TICK, 2 * ELECTION_TICK)), "ticks from one campaign to the next, of 200"
    assert max(found.count(ticks) for ticks in set(found)) < 60, "each length should be about as likely as the others"
    again = make_peer(seed=seed)
    assert found == [ticks_to_campaign(again) for _ in range(200)], (
        "the same rng, the same timeouts: chance is config.rng"
    )


def test_time_that_is_over_is_said_once() -> None:
    """Each step starts the count anew, also one that changes no role: with pre-vote, a node that asks again and again."""
    peer = make_peer(pre_vote=True)
    asked = []
    for tick in range(1, 10 * ELECTION_TICK):
        peer.node.tick()
        if of_type(drain(peer), MSG_PRE_VOTE):
            asked.append(tick)
    waits = [later - earlier for earlier, later in itertools.pairwise([0, *asked])]
    assert len(waits) >= 5, f"it asked at the ticks {asked}"
    assert min(waits) >= ELECTION_TICK, f"it asked at the ticks {asked}, with less than {ELECTION_TICK} between two"


def test_heartbeats_keep_a_follower_quiet() -> None:
    """As long as the leader is heard, nobody campaigns; when it falls silent, an election timeout passes before that."""
    peer = make_peer()
    for _ in range(20):
        peer.node.step(heartbeat(3, 1))
        for _ in range(ELECTION_TICK - 1):
            peer.node.tick()
        drain(peer)
        assert look(peer) == (FOLLOWER, 1, 3), "role, term, and who leads; a heartbeat came every 9 ticks"
    peer.node.step(heartbeat(3, 1))
    drain(peer)
    assert ELECTION_TICK <= ticks_to_campaign(peer) < 2 * ELECTION_TICK
    assert look(peer) == (CANDIDATE, 2, 0)


def test_a_granted_vote_restarts_the_timer_and_a_refused_one_does_not() -> None:
    """Whoever can't win must not keep the others from trying (goraft#58; jgroups-raft#45 restarted at neither)."""
    for last, granted in (((1, 1), True), ((0, 0), False)):
        peer = make_peer(terms=(1,), term=3)
        for _ in range(ELECTION_TICK - 1):
            peer.node.tick()
        peer.node.step(vote_request(2, 3, last))
        assert [m.reject for m in drain(peer)] == [not granted]
        ticks = ticks_to_campaign(peer)
        if granted:
            assert ticks >= ELECTION_TICK, f"it campaigns {ticks} ticks after it has given its vote"
        else:
            assert ticks <= ELECTION_TICK, f"it campaigns {ticks} ticks after a refusal, and had waited 9 before it"


def test_a_node_that_is_no_voter_never_campaigns() -> None:
    """`promotable` says so: here node 1 isn't in its own configuration."""
    peer = make_peer(voters=(2, 3, 4))
    for _ in range(5 * ELECTION_TICK):
        peer.node.tick()
    assert look(peer) == (FOLLOWER, 0, 0)
    assert peer.node.raft.election_elapsed == 5 * ELECTION_TICK, "it goes on counting, for when it becomes a voter"
    assert drain(peer) == []
    peer.node.step(vote_request(2, 1))
    assert [m.reject for m in drain(peer)] == [False], "it votes all the same (etcd#10998)"


# ---- clusters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.stem)
def test_a_script_goes_as_it_is_written(file: Path, history: History) -> None:
    """A split vote, a tie, and a candidate whose log is behind, message by message. Log lines don't matter."""
    play_script(history, file)


def test_a_cluster_elects_a_leader_and_replaces_it_when_it_dies(history: History, seed: int) -> None:
    """Three nodes and nothing but time; then the leader is gone, and later it comes back as a follower."""
    for round_ in range(rounds(24)):
        history.clear()
        network = Network(seed=1000 * seed + round_)
        _tick_until(network, network.leader, history, "a leader")
        first = network.leader()
        term = network[first].term
        network.tick(100)
        history.do(f"node {first} leads in term {term}; 100 ticks pass")
        assert (network.leader(), network[first].term) == (first, term), "a leader that is heard stays"
        network.peers[first].crash()
        history.do(f"node {first} crashes")
        others = [node_id for node_id in (1, 2, 3) if node_id != first]
        _tick_until(network, network.leader, history, "another leader")
        second = network.leader()
        assert second in others
        assert network[second].term > term
        network.peers[first].start()
        history.do(f"node {second} leads; node {first} is back")
        network.tick(2)
        assert {peer.node.lead for peer in network.peers.values()} == {second}


def _tick_until(network: Network, happens: Callable[[], object], history: History, what: str) -> None:
    """Ticks until something happens; ten elections' time is more than enough."""
    for _ in range(10 * 2 * ELECTION_TICK):
        if happens():
            return
        network.tick()
        told = [f"{peer.id}: {peer.node.role} term {peer.node.term}" for peer in network.peers.values() if peer.up]
        history.note("tick  " + "   ".join(told))
    raise AssertionError(f"there isn't {what} after 200 ticks of an undisturbed network")


def test_hundreds_of_schedules_keep_the_promises_of_elections(history: History, seed: int) -> None:
    """Election Safety, One Vote, terms that never fall, committed entries that a new leader has; and in the end a leader.

    Loss, repetition, delay, partitions, pauses, crashes in the middle of a write; three and five nodes.
    """
    totals = play_schedules(history, seed, rounds(240), ELECTIONS)
    assert totals.leaders > totals.runs, f"too little has happened to prove anything: {totals}"
