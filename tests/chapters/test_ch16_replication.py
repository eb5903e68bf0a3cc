"""Chapter 16, Raft: replication and commit. One log on all nodes, and what is committed stays.

Paper sections 5.3 and 5.4.2. Followers and leaders are asked with messages, and judged by what they answer, by what they
want on disk, and by what is committed. Figures 7 and 8 of the paper are scripts in tests/raft/scripts.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from raft import ConfState, Entry, MemoryStorage, Message
from raft.errors import CompactedError
from raft.follower import take_entries
from raft.log import RaftLog
from raft.quorum import MajorityConfig
from raft.quorum.quorum import INFINITE_INDEX
from raft.raftpb import MSG_APP, MSG_APP_RESP, MSG_HEARTBEAT_RESP, MSG_VOTE_RESP
from raft.replication import send_append
from raft.tracker import Inflights, Progress
from tests.chapters.kit import History, rounds
from tests.chapters.schedules import REPLICATION, play_schedules, play_script
from tests.raft.network import Network, Peer
from tests.raft.nodes import acknowledge, drain, entries, make_leader, make_peer, of_type, terms_of

SCRIPTS = [Path(__file__).parents[1] / "raft/scripts" / name for name in ("04_figure_7.txt", "05_figure_8.txt")]


def make_log(terms: Sequence[int], cut: int = 0) -> RaftLog:
    """A log with entries 1, 2, … of these terms on its disk, those up to `cut` cut away."""
    storage = MemoryStorage(ConfState((1,)))
    storage.append(entries(1, terms))
    if cut:
        storage.create_snapshot(cut, ConfState((1,)), b"")
        storage.compact(cut)
    return RaftLog(storage)


def terms_in(log: RaftLog) -> list[int]:
    """The terms of its entries, in order."""
    return [log.term(index) for index in range(log.first_index(), log.last_index() + 1)]


def random_terms(rng: random.Random, length: int) -> list[int]:
    """Terms as a log has them: they never fall."""
    return sorted(rng.randint(1, 5) for _ in range(length))


def append(prev: tuple[int, int], terms: Sequence[int] = (), commit: int = 0, term: int = 9, to: int = 2) -> Message:
    """A MsgApp of node 1, which leads in `term`: entries of these terms after the entry `prev`, an (index, term)."""
    batch = entries(prev[0] + 1, terms)
    return Message(MSG_APP, to=to, from_=1, term=term, index=prev[0], log_term=prev[1], entries=batch, commit=commit)


def answer_to(peer: Peer, message: Message) -> Message:
    """What a follower answers."""
    peer.node.step(message)
    (answer,) = drain(peer)
    assert (answer.type, answer.to, answer.from_) == (MSG_APP_RESP, message.from_, message.to)
    return answer


def make_progress(match: int, next_: int) -> Progress:
    """A follower as its leader sees it, probed."""
    return Progress(match, next_, Inflights(256))


# ---- two logs ----------------------------------------------------------------------------------------------------------


def test_an_entry_matches_by_its_index_and_its_term() -> None:
    """Log Matching: two logs with an entry of the same index and term are the same up to there."""
    log = make_log((1, 2, 2))
    found = [(index, term) for index in range(6) for term in range(4) if log.match_term(index, term)]
    assert found == [(0, 0), (1, 1), (2, 2), (3, 2)], "the (index, term) that match a log with the terms 1 2 2"
    cut = make_log((1, 2, 2, 3), cut=2)
    found = [(index, term) for index in range(6) for term in range(1, 4) if cut.match_term(index, term)]
    assert found == [(2, 2), (3, 2), (4, 3)], "of the entries that are cut away only the last is known"


def test_the_first_entry_that_differs_is_the_conflict(rng: random.Random) -> None:
    """Or the first that the log doesn't have; 0 if there is none. The terms of two logs by chance."""
    for _ in range(rounds(800)):
        own, other = random_terms(rng, rng.randint(0, 6)), random_terms(rng, rng.randint(0, 6))
        first = rng.randint(1, len(own) + 1)
        batch = entries(1, other)[first - 1 :]
        expected = next((e.index for e in batch if own[e.index - 1 : e.index] != [e.term]), 0)
        found = make_log(own).find_conflict(batch)
        assert found == expected, (
            f"a log with the terms {own} gets entries from {first} on with the terms {other[first - 1 :]}: "
            f"expected {expected}, found {found}"
        )


def test_a_log_takes_what_figure_2_says(rng: random.Random, history: History) -> None:
    """The receiver's rules 2 to 5, for any two logs, against a model: a list of terms, rewritten as the paper has it."""
    for _ in range(rounds(1200)):
        history.clear()
        own, leaders = random_terms(rng, rng.randint(0, 6)), random_terms(rng, rng.randint(1, 7))
        shared = next((i for i, (a, b) in enumerate(zip(own, leaders)) if a != b), min(len(own), len(leaders)))
        prev = rng.randint(0, len(leaders))
        batch = leaders[prev : rng.randint(prev, len(leaders))]
        committed, leader_commit = rng.randint(0, shared), rng.randint(0, len(leaders))
        prev_term = leaders[prev - 1] if prev else 0
        log = make_log(own)
        log.commit_to(committed)
        history.do(f"a log with the terms {own}, committed up to {committed}")
        what = f"maybe_append({prev}, {prev_term}, entries with the terms {batch}, {leader_commit})"
        if prev > len(own) or (prev and own[prev - 1] != prev_term):
            expected, last_new, commit = own, None, committed
        else:
            differs = any(own[prev + i : prev + i + 1] != [term] for i, term in enumerate(batch))
            expected = [*own[:prev], *batch] if differs else own
            last_new = prev + len(batch)
            commit = max(committed, min(leader_commit, last_new))
        history.expect(what, last_new, log.maybe_append(prev, prev_term, entries(prev + 1, batch), leader_commit))
        history.expect("the terms of the log", expected, terms_in(log))
        history.expect("the commit index", commit, log.committed)


def test_the_search_for_a_term_gives_the_last_entry_that_may_be_shared(rng: random.Random) -> None:
    """Both sides back up with it. What isn't known, cut away or after the end, ends the search with term 0."""
    for _ in range(rounds(800)):
        terms = random_terms(rng, rng.randint(1, 8))
        cut, index, term = rng.randint(0, len(terms)), rng.randint(0, len(terms) + 2), rng.randint(0, 6)
        known = {i: terms[i - 1] if i else 0 for i in range(cut, len(terms) + 1)}
        expected = index
        while known.get(expected, 0) > term:
            expected -= 1
        found = make_log(terms, cut).find_conflict_by_term(index, term)
        assert found == (expected, known.get(expected, 0)), (
            f"find_conflict_by_term({index}, {term}) of the terms {terms}, of which {cut} are cut away"
        )


# ---- the follower ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prev", "taken", "hint"),
    [
        ((0, 0), 0, None),
        ((2, 2), 2, None),
        ((3, 4), 3, None),
        ((3, 3), None, (2, 2)),  # entry 3 is of term 4 here: the leader, with 3 there, has no 4 before it
        ((3, 1), None, (1, 1)),
        ((4, 4), None, (3, 4)),  # nothing there
        ((9, 9), None, (3, 4)),
        ((9, 3), None, (2, 2)),
    ],
)
def test_a_follower_takes_what_follows_its_log_and_else_says_where_to_look(
    prev: tuple[int, int], taken: int | None, hint: tuple[int, int] | None
) -> None:
    """Section 5.3. The log has the terms 1 2 4. A refusal names its last entry that may be the leader's."""
    follower = make_peer(2, terms=(1, 2, 4))
    answer = answer_to(follower, append(prev))
    told = f"the log has the terms 1 2 4; what follows the entry {prev}, an (index, term), is offered"
    assert answer.reject is (taken is None), f"whether it is refused: {told}"
    assert answer.index == (prev[0] if taken is None else taken), f"the answer's index: {told}"
    assert answer.term == 9
    if hint is not None:
        assert (answer.reject_hint, answer.log_term) == hint, "the (index, term) of the hint"
    returned = take_entries(follower.node.raft, append(prev))
    assert returned is (taken is not None), f"take_entries returns whether they were taken: {told}"


def test_a_late_message_truncates_nothing() -> None:
    """raftos#26, akka-raft#66: what follows the message's entries may have been acknowledged since, and count for a commit."""
    follower = make_peer(2, terms=(1, 1, 1, 1), term=9)
    for message in (append((0, 0), (1, 1)), append((1, 1), (1,)), append((1, 1))):
        answer = answer_to(follower, message)
        assert answer.index == message.index + len(message.entries), "it vouches for what the message has shown"
        assert terms_of(follower) == [1, 1, 1, 1]


def test_the_commit_index_stays_within_what_the_message_has_shown() -> None:
    """copycat#265, scylladb#9965: entry 3 is an old leader's, and the new one has committed another."""
    follower = make_peer(2, terms=(1, 1, 2))
    answer = answer_to(follower, append((2, 1), commit=3))
    assert answer.index == 2
    assert follower.node.commit_index == 2, "what was compared is committed: entry 2, and not the entry 3 that is here"
    answer_to(follower, append((2, 1), (9,), commit=3))
    assert (terms_of(follower), follower.node.commit_index) == ([1, 1, 9], 3)


def test_what_is_committed_is_never_asked_about_again() -> None:
    """openraft#511: a message about entries before the commit index is late; the answer says how far the log is right."""
    follower = make_peer(2, terms=(1, 1, 1), term=9, commit=2)
    answer = answer_to(follower, append((0, 0), (1,)))
    assert (answer.reject, answer.index) == (False, 2)
    assert terms_of(follower) == [1, 1, 1]


@pytest.mark.parametrize("moment", ["asked", "taken", "half written", "written", "answered"])
def test_an_acknowledged_entry_survives_a_crash_at_every_moment(moment: str, rng: random.Random) -> None:
    """The leader may have counted it for a commit (etcd#8455)."""
    for _ in range(rounds(16)):
        follower, left = make_peer(2, terms=(1, 2), term=3), False
        follower.node.step(append((1, 1), (3, 3), term=3))
        if moment != "asked":
            left = any(m.type == MSG_APP_RESP for m in follower.take())
        if moment == "half written":
            follower.tear(follower.records()[: rng.randint(0, 2)])
        if moment in ("written", "answered"):
            follower.write()
        if moment == "answered":
            left = any(m.type == MSG_APP_RESP and m.index == 3 for m in follower.finish())
            assert left
        follower.crash(rng)
        follower.start()
        if left:
            assert terms_of(follower) == [1, 3, 3], f"it crashed when its answer was {moment}"
        else:
            assert terms_of(follower) in ([1, 2], [1, 3], [1, 3, 3])


# ---- the leader --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [(), (1, 2)])
def test_a_term_is_opened_with_an_empty_entry(terms: tuple[int, ...]) -> None:
    """Section 8: its commit commits what is before it. It is sent at once, so all learn who leads."""
    peer = make_peer(terms=terms, term=2)
    peer.node.campaign()
    drain(peer)
    peer.node.step(Message(MSG_VOTE_RESP, to=1, from_=3, term=3))
    sent = of_type(drain(peer), MSG_APP)
    last = (len(terms), max(terms, default=0))
    assert terms_of(peer) == [*terms, 3]
    assert [(m.to, m.term, (m.index, m.log_term)) for m in sent] == [(2, 3, last), (3, 3, last)]
    assert [m.entries for m in sent] == [[Entry(3, len(terms) + 1)]] * 2


def test_a_proposal_is_appended_and_sent_with_the_entry_before_it() -> None:
    """Section 5.3. Entries go out before the leader knows what became of the ones before them."""
    leader = make_leader()
    for node_id in (2, 3):
        acknowledge(leader, node_id, 1)
    for number in (2, 3, 4):
        leader.node.propose(b"%d" % number)
        sent = of_type(drain(leader), MSG_APP)
        found = [(m.to, m.index, m.log_term, m.commit, m.entries) for m in sent]
        assert found == [(node_id, number - 1, 1, 1, [Entry(1, number, data=b"%d" % number)]) for node_id in (2, 3)]
    assert terms_of(leader) == [1, 1, 1, 1]


def test_a_follower_that_lags_gets_what_it_lacks_in_messages_that_fit() -> None:
    """max_size_per_msg bounds a message, here to two entries of 20 bytes; each begins where the one before it has ended."""
    leader = make_leader(max_size_per_msg=50)
    leader.node.propose_batch([b"123"] * 6)
    drain(leader)
    sent = of_type(acknowledge(leader, 2, 1), MSG_APP)
    assert [[e.index for e in m.entries] for m in sent if m.entries] == [[2, 3], [4, 5], [6, 7]]
    assert [m.index for m in sent if m.entries] == [1, 3, 5]


def test_what_was_sent_counts_for_the_window_with_its_bytes() -> None:
    """max_inflight_bytes bounds what is sent ahead of the answers, here to two entries of 10 bytes, each in a message."""
    leader = make_leader(max_size_per_msg=20, max_inflight_bytes=20)
    leader.node.propose_batch([b"0123456789"] * 6)
    drain(leader)
    sent = of_type(acknowledge(leader, 2, 1), MSG_APP)
    assert [[e.index for e in m.entries] for m in sent if m.entries] == [[2], [3]], (
        "two messages of 10 bytes fill the window"
    )
    sent = of_type(acknowledge(leader, 2, 2), MSG_APP)
    assert [[e.index for e in m.entries] for m in sent if m.entries] == [[4]], "one was acknowledged, so one has room"


def test_what_is_cut_away_is_not_sent_and_not_noted() -> None:
    """Chapter 17 cuts logs. A follower that needs what is gone gets a snapshot from the caller, told by the error."""
    leader = make_leader(terms=(1, 2, 2))
    progress = leader.node.raft.tracker.progress[2]
    leader.node.raft.log = make_log((1, 2, 2, 3), cut=2)
    for next_ in (1, 2):  # the entry before is 0 or 1; of those that are cut away only entry 2 is still known
        progress.next, progress.msg_app_flow_paused = next_, False
        with pytest.raises(CompactedError):
            send_append(leader.node.raft, 2, progress, without_entries=next_ == 2)
        assert leader.node.raft.messages == [], "nothing may be sent"
        assert (progress.next, progress.msg_app_flow_paused) == (next_, False), "nothing was sent, so nothing is noted"


def test_the_committed_index_is_what_a_majority_has() -> None:
    """All answers of one to five voters, of which some have said nothing; strangers don't count."""
    for size in range(1, 6):
        for indexes in itertools.product((None, 3, 5), repeat=size):
            acknowledged = {node_id: index for node_id, index in enumerate(indexes, 1) if index is not None}
            expected = max(
                candidate for candidate in (0, 3, 5) if 2 * sum((i or 0) >= candidate for i in indexes) > size
            )
            found = MajorityConfig(range(1, size + 1)).committed_index({**acknowledged, 99: 9})
            assert found == expected, f"of {size} voters, which have {acknowledged}: expected {expected}, found {found}"
    assert MajorityConfig().committed_index({}) == INFINITE_INDEX, "without voters everything is agreed on"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_an_entry_is_committed_when_a_majority_has_it(size: int) -> None:
    """Section 5.3; and what comes before it is committed as well. The leader's own disk is one of them."""
    leader = make_leader(voters=tuple(range(1, size + 1)), terms=(1, 2))
    leader.node.propose(b"data")
    drain(leader)
    for count in range(1, size):
        committed = leader.node.commit_index == 4
        assert committed is (2 * count > size), f"{count} of {size} nodes have entry 4"
        acknowledge(leader, count + 1, 4)
    assert leader.node.commit_index == 4
    assert leader.application.data == [b"data"]


def test_a_leader_counts_its_own_entries_when_they_are_on_its_disk() -> None:
    """etcd#14370: the leader of a cluster of one told its client of a commit that a power cut then took back."""
    leader = make_leader(voters=(1,))
    before = leader.node.commit_index
    leader.node.propose_batch([b"a", b"b", b"c"])
    leader.take()
    assert leader.node.commit_index == before, "the entries aren't on the only disk yet"
    leader.write()
    leader.finish()
    assert leader.node.commit_index == before + 3, "all three are on the only disk"


@pytest.mark.parametrize(("index", "committed"), [(1, 0), (2, 0), (3, 3)])
def test_only_entries_of_the_own_term_are_committed_by_counting(index: int, committed: int) -> None:
    """Section 5.4.2, LogCabin#44. Entries 1 and 2 are of terms 1 and 2, the leader's own is 3."""
    leader = make_leader(terms=(1, 2))
    acknowledge(leader, 2, index)
    assert leader.node.commit_index == committed, f"two of three nodes have the entries up to {index}"


def test_answers_that_are_late_change_nothing() -> None:
    """They overtake each other. What a follower has acknowledged it has; a refusal from before that is old news."""
    leader = make_leader()
    leader.node.propose_batch([b""] * 9)
    drain(leader)
    acknowledge(leader, 2, 1)
    acknowledge(leader, 2, 10)
    progress = leader.node.raft.tracker.progress[2]
    assert (progress.match, progress.next) == (10, 11)
    assert acknowledge(leader, 2, 4) == []
    leader.node.step(Message(MSG_APP_RESP, to=1, from_=2, term=1, index=6, reject=True, reject_hint=3, log_term=1))
    assert drain(leader) == []
    assert (progress.match, progress.next) == (10, 11)


@pytest.mark.parametrize(
    ("index", "news", "match", "next_"),
    [
        (3, False, 4, 9),
        (4, False, 4, 9),
        (6, True, 6, 9),  # the entries 7 and 8 were sent already
        (8, True, 8, 9),
        (11, True, 11, 12),  # it has more than this leader has sent: an earlier leader's
    ],
)
def test_an_acknowledgement_only_adds(index: int, news: bool, match: int, next_: int) -> None:
    """match is 4, and everything before 9 was sent. What was sent ahead isn't sent again, and what is paused may go on."""
    progress = make_progress(match=4, next_=9)
    progress.msg_app_flow_paused = True
    told = f"of a follower with match 4 and next 9, which acknowledges {index}"
    assert progress.maybe_update(index) is news, f"whether it is news {told}"
    assert (progress.match, progress.next) == (match, next_), f"(match, next) {told}"
    assert progress.msg_app_flow_paused is not news, f"paused, {told}"


@pytest.mark.parametrize("replicates", [False, True])
def test_a_refusal_steps_back_by_one_at_least_and_never_to_match(replicates: bool) -> None:
    """A hint is what a follower says, and may be anything; with a bad one a leader must not ask the same for ever."""
    for rejected, hint in itertools.product((3, 4, 6, 8), (0, 3, 4, 5, 7, 8, 20)):
        progress = make_progress(match=4, next_=9)
        if replicates:
            progress.become_replicate()
            progress.sent_entries(4, 0)
        progress.msg_app_flow_paused = not replicates
        progress.sent_commit = 8
        told = f"of {progress} (entries up to {rejected} refused, hint {hint}, sent_commit 8)"
        if replicates:
            expected = 5 if rejected > 4 else 9
        else:
            expected = min(max(hint + 1, 5), 8) if rejected == 8 else 9
        assert progress.maybe_decrease(rejected, hint) is (expected < 9), f"whether it is news {told}"
        assert (progress.match, progress.next) == (4, expected), f"(match, next) after a refusal {told}"
        assert progress.sent_commit == min(8, expected - 1), f"sent_commit after a refusal {told}"
        if not replicates:
            assert progress.msg_app_flow_paused is (expected == 9), f"whether the flow waits after a refusal {told}"


def test_a_refusal_makes_the_leader_ask_further_back() -> None:
    """Until something is accepted, one message at a time; a refusal of another message than the last is old news."""
    leader = make_leader(terms=(1, 3, 3, 3, 5, 5, 5, 5))  # and entry 9, of term 6, of its own
    answers: list[tuple[int, tuple[int, int], list[int]]] = [
        (8, (6, 2), [1]),  # the follower's last is 6/2: of the leader's entries only 1 can be before a 2
        (8, (6, 2), []),  # the same refusal again
        (1, (0, 0), [0]),
    ]
    for refused, (hint, hint_term), expected in answers:
        leader.node.step(
            Message(MSG_APP_RESP, 1, 2, 6, index=refused, reject=True, reject_hint=hint, log_term=hint_term)
        )
        sent = of_type(drain(leader), MSG_APP)
        assert [m.index for m in sent] == expected, f"after a refusal at {refused} with the hint {hint}/{hint_term}"
    leader.node.step(Message(MSG_HEARTBEAT_RESP, to=1, from_=2, term=6))
    assert [m.index for m in of_type(drain(leader), MSG_APP)] == [0], "a heartbeat's answer lets it ask again"


def test_a_follower_that_has_lost_messages_is_asked_from_what_it_is_known_to_have() -> None:
    """Entries that were sent ahead didn't arrive; the hint doesn't matter, because what it has acknowledged it has."""
    leader = make_leader()
    acknowledge(leader, 2, 1)
    for _ in range(5):
        leader.node.propose(b"")
    drain(leader)
    leader.node.step(Message(MSG_APP_RESP, 1, 2, 1, index=4, reject=True, reject_hint=1, log_term=1))
    sent = of_type(drain(leader), MSG_APP)
    assert [(m.index, [e.index for e in m.entries]) for m in sent] == [(1, [2, 3, 4, 5, 6])]


# ---- clusters ----------------------------------------------------------------------------------------------------------


def repair(leaders: Sequence[int], followers: Sequence[int]) -> int:
    """Node 1 wins with node 2's vote, and makes node 3's log its own; gives how many messages node 3 has refused."""
    network = Network()
    term = max(*leaders, *followers)
    for node_id, terms in ((1, leaders), (2, leaders), (3, followers)):
        network.peers[node_id] = make_peer(node_id, (1, 2, 3), terms=terms, term=term)
    refused = 0

    def count(message: Message) -> bool:
        nonlocal refused
        refused += message.type == MSG_APP_RESP and message.reject
        return False

    network.drop = count
    network.elect(1)
    for _ in range(len(leaders) + len(followers) + 10):
        if terms_of(network.peers[3]) == terms_of(network.peers[1]):
            return refused
        network.tick()
    raise AssertionError("node 3's log never became the leader's")


@pytest.mark.parametrize(
    ("leaders", "followers", "most"),
    [
        ((1,) * 10 + (3,) * 1000, (1,) * 10 + (2,) * 1000, 2),  # an old leader's 1,000 entries that nobody else has
        ((1,) * 10 + (3,) * 1000, (1,) * 10, 2),  # 1,000 entries are missing
        ((1,) * 10 + (3,) * 10, (1,) * 1000, 2),  # 1,000 are too many
        (tuple(sorted([1, 3, 5, 7, 9] * 200)), tuple(sorted([1, 2, 4, 6, 8] * 200)), 6),  # five terms on either side
    ],
)
def test_a_divergence_of_1000_entries_is_repaired_in_few_round_trips(
    leaders: tuple[int, ...], followers: tuple[int, ...], most: int
) -> None:
    """At most one refusal for each term that differs, where one for each entry would be 1,000 (end of section 5.3)."""
    refused = repair(leaders, followers)
    assert refused <= most, f"the follower has refused {refused} messages; one for each term is enough"


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.stem)
def test_a_figure_of_the_paper_goes_as_it_is_drawn(file: Path, history: History) -> None:
    """Figure 7: seven logs, and all become the leader's. Figure 8: why an old term's entry isn't committed by counting."""
    play_script(history, file)


def test_what_is_committed_outlives_its_leader(history: History) -> None:
    """A leader commits, and dies; the next one has it. What the old one took and didn't commit is replaced."""
    network = Network(range(1, 6))
    history.do("node 1 is elected, and commits a")
    network.elect(1)
    network.propose(1, b"a")
    history.do("nodes 1 and 2 are cut off; b is proposed on node 1, c is committed by another leader")
    network.isolate(1, 2)
    network.propose(1, b"b")
    network.tick(60, ids=(3, 4, 5))
    network.propose(network.leader(), b"c")
    assert network.peers[1].application.data == [b"a"]
    history.do("the network is whole again")
    network.heal()
    network.tick(5)
    for node_id, applied in zip(network.peers, network.applied()):
        history.expect(f"what node {node_id} has applied", [b"a", b"c"], applied)


def test_hundreds_of_schedules_keep_the_promises_of_raft(history: History, seed: int) -> None:
    """Figure 3: Log Matching, Leader Completeness, State Machine Safety and the others of raft/simulation/invariants.py.

    Loss, repetition, delay, partitions, pauses, crashes in the middle of a write; and in the end all have the same.
    """
    totals = play_schedules(history, seed, rounds(240), REPLICATION)
    assert totals.commits > 4 * totals.runs, f"too little has happened to prove anything: {totals}"
