"""Chapter 18: what a client is told is true. Acknowledged means applied, read means recent, unknown stays unknown."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import server
from engines.kvstore import Operation
from raft.raftpb import MSG_PROP, Entry, Message
from server.client import Client
from server.cluster import LocalCluster
from server.errors import (
    ChangeRefused,
    NodeError,
    NodeStopped,
    NoLeader,
    NumberPassed,
    OutcomeUnknown,
    Overloaded,
    SessionExpired,
    TooLarge,
)
from server.forwards import sift, with_deadlines
from server.proposals import Proposal, Proposals
from server.reads import RETRY_TICKS, ReadRounds, Waiter
from server.routes import Answer
from server.statemachine import Applied, encode_proposal
from server.waits import Asked, Waits
from tests.chapters.clients import Front, Stage, ask
from tests.chapters.kit import History, rounds
from tests.chapters.linearizable import violation
from tests.chapters.replicas import Cluster
from tests.server.fake_node import FakeNode
from tests.server.local_nodes import cluster_port, eventually

ENGINES = ["lsm", "btree", "bitcask"]
ORIGIN = 7


class Slip(Waiter):
    """A waiter that tells what it was resolved with, and how often, without waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[int | NodeError] = []

    def resolve(self, outcome: int | NodeError) -> None:
        self.outcomes.append(outcome)


# ---- proposals ------------------------------------------------------------------------------------------------------


def waiting(count: int) -> tuple[Proposals, list[Slip], list[tuple[int, bytes]]]:
    """So many proposals, and who waits for each."""
    proposals = Proposals(ORIGIN)
    slips = [Slip() for _ in range(count)]
    return proposals, slips, [proposals.add([(b"k", b"%d" % number)], slip) for number, slip in enumerate(slips)]


def test_an_applied_write_is_told_to_who_waits_for_it() -> None:
    """Others' proposals are in the same batch, those of this node's earlier life, and those that nobody waits for."""
    proposals, slips, added = waiting(3)
    first, second, third = (sequence for sequence, _ in added)
    proposals.forget(third)
    proposals.answer([Applied(10, ORIGIN + 1, first), Applied(11, ORIGIN, second), Applied(12, ORIGIN, third)])
    assert [slip.outcomes for slip in slips] == [[], [11], []]
    proposals.answer([Applied(13, ORIGIN, 999), Applied(14, ORIGIN, first)])
    assert [slip.outcomes for slip in slips] == [[14], [11], []]


def test_a_refused_write_is_told_only_to_who_waits_for_it() -> None:
    """Its bytes say whose it is; the first 16 are enough, which is all that a refusal carries."""
    proposals, slips, added = waiting(3)
    error = NoLeader("nobody leads")
    (_, first), (_, second), (third, _) = added
    proposals.refuse(
        [first, second[:16], encode_proposal(ORIGIN + 1, third, []), encode_proposal(ORIGIN, 999, [])], error
    )
    assert [slip.outcomes for slip in slips] == [[error], [error], []]


def test_a_node_that_stops_tells_everybody_and_lets_nobody_in() -> None:
    proposals, slips, _ = waiting(3)
    error = OutcomeUnknown("the node stops")
    proposals.close(error)
    assert [slip.outcomes for slip in slips] == [[error]] * 3
    with pytest.raises(NodeStopped):
        proposals.add([(b"k", b"v")], Slip())


# ---- rounds of reads ------------------------------------------------------------------------------------------------


def reading(count: int) -> tuple[ReadRounds, list[Slip], list[bytes]]:
    """Rounds in which so many reads have gathered; the contexts that are asked for."""
    reads = ReadRounds(ORIGIN)
    slips = [Slip() for _ in range(count)]
    for slip in slips:
        reads.add(slip)
    return reads, slips, []


def test_reads_that_gather_share_a_round() -> None:
    """A thousand readers cost one exchange of heartbeats; and without a reader there is none."""
    reads, slips, asked = reading(0)
    reads.begin(1, asked.append)
    assert asked == [], "nobody reads, and a round was asked for"
    reads, slips, asked = reading(1000)
    reads.begin(1, asked.append)
    reads.begin(1, asked.append)
    assert len(asked) == 1, f"1,000 reads had gathered, and {len(asked)} rounds were asked for"
    reads.confirm(asked[0], 5)
    reads.answer(5)
    assert all(slip.outcomes == [5] for slip in slips)


def test_a_read_never_joins_a_round_that_has_begun() -> None:
    """What confirms the round may have been sent before the read began; then it says nothing about it."""
    reads, slips, asked = reading(1)
    reads.begin(1, asked.append)
    late = Slip()
    reads.add(late)
    reads.begin(1, asked.append)
    reads.confirm(asked[0], 5)
    reads.answer(9)
    assert (slips[0].outcomes, late.outcomes) == ([9], []), (
        "the second read began after its round, and was answered by it"
    )
    reads.begin(1, asked.append)
    assert len(asked) == 2 and asked[0] != asked[1], "the next round has a context of its own"
    reads.confirm(asked[1], 9)
    reads.answer(9)
    assert late.outcomes == [9]


def test_an_overdue_round_is_asked_for_again() -> None:
    """With another context; whichever answer comes confirms it, because all its reads had begun before the first."""
    for answered in (0, 1):
        reads, slips, asked = reading(1)
        reads.begin(1, asked.append)
        for _ in range(RETRY_TICKS):
            reads.tick()
            reads.begin(1, asked.append)
        assert len(asked) == 1, f"{RETRY_TICKS} ticks are patience, and it was asked for again before they were over"
        reads.tick()
        reads.begin(1, asked.append)
        reads.begin(1, asked.append)
        assert len(set(asked)) == len(asked) == 2, "it is overdue, and is asked for once more, with another context"
        reads.confirm(asked[answered], 5)
        reads.answer(5)
        assert slips[0].outcomes == [5]


def test_without_a_leader_reads_are_refused() -> None:
    """At once, and also those of a round that is on its way when the leader is lost."""
    reads, slips, asked = reading(2)
    reads.begin(0, asked.append)
    assert asked == []
    for slip in slips:
        assert len(slip.outcomes) == 1 and isinstance(slip.outcomes[0], NoLeader)
    reads.add(Slip())
    reads.begin(1, asked.append)
    assert len(asked) == 1, "and the next read begins a round of its own"


def test_an_answer_to_another_round_confirms_nothing() -> None:
    """A context is used once: an old answer says nothing about reads that began after it (etcd#20418)."""
    reads, slips, asked = reading(1)
    reads.begin(1, asked.append)
    reads.confirm(asked[0], 3)
    late = Slip()
    reads.add(late)
    reads.begin(1, asked.append)
    reads.confirm(asked[0], 3)
    reads.confirm(b"another node's..", 4)
    reads.answer(99)
    assert (slips[0].outcomes, late.outcomes) == ([99], []), "an answer to an earlier round has confirmed a later read"


def test_a_confirmed_read_waits_until_its_index_is_applied() -> None:
    """The leader was the leader when 8 was committed; here, 8 may not have been applied yet."""
    reads, slips, asked = reading(1)
    reads.begin(1, asked.append)
    reads.confirm(asked[0], 8)
    reads.answer(7)
    assert slips[0].outcomes == [], "7 is applied here, and the read needs 8"
    second = Slip()
    reads.add(second)
    reads.begin(1, asked.append)
    reads.confirm(asked[1], 12)
    reads.answer(10)
    reads.answer(11)
    assert (slips[0].outcomes, second.outcomes) == ([10], []), "each is answered once, and in its own time"
    reads.answer(12)
    assert second.outcomes == [12]


# ---- calls that wait ------------------------------------------------------------------------------------------------


class Desk:
    """A Waits with a node around it that does what the test says, in the moment in which the waiting begins."""

    def __init__(self, meanwhile: Callable[[Desk], object] = lambda desk: None) -> None:
        self.proposed: list[Proposal] = []
        self.reads: list[Waiter] = []
        self.stopping = False
        self.now = 100.0
        self.proposals = Proposals(ORIGIN)
        self.patience: list[float] = []
        desk = self

        class Waiting(Slip):
            def wait(self, timeout_s: float) -> int | None:
                desk.patience.append(timeout_s)
                meanwhile(desk)
                if not self.outcomes:
                    return None
                if isinstance(self.outcomes[0], NodeError):
                    raise self.outcomes[0]
                return self.outcomes[0]

        asked = Asked(
            propose=self.proposed.append,
            read=self.reads.append,
            leader=lambda: 1,
            require_member=lambda: None,
            applied_index=lambda: 41,
            stopping=lambda: self.stopping,
            now=lambda: self.now,
        )
        self.waits = Waits(self.proposals, asked, Waiting)


def test_a_write_is_acknowledged_when_it_is_applied() -> None:
    """With its index; the waiter was known before the proposal was in anybody's hands, and is forgotten afterwards."""
    desk = Desk(lambda desk: desk.proposals.answer([Applied(12, ORIGIN, 1)]))
    assert desk.waits.propose([(b"k", b"v")], timeout_s=3.0) == 12
    assert [(each.data, each.deadline) for each in desk.proposed] == [
        (encode_proposal(ORIGIN, 1, [(b"k", b"v")]), 103.0)
    ]
    assert desk.patience == [3.0]
    assert len(desk.proposals) == 0, "nobody waits any more, and the waiter is still known"


def test_a_write_that_nobody_answers_is_unknown() -> None:
    """It may be in somebody's log. To say that it failed would be a lie that makes clients write twice."""
    desk = Desk()
    with pytest.raises(OutcomeUnknown):
        desk.waits.propose([(b"k", b"v")], timeout_s=0.5)
    assert len(desk.proposals) == 0
    refused = Desk(lambda desk: desk.proposals.refuse([desk.proposed[0].data], Overloaded("too much waits")))
    with pytest.raises(Overloaded):
        refused.waits.propose([(b"k", b"v")])
    assert len(refused.proposals) == 0, "also when it is refused the waiter is forgotten"


def test_a_read_waits_for_its_round_and_a_stale_one_for_nothing() -> None:
    desk = Desk(lambda desk: desk.reads[-1].resolve(50))
    for consistency in ("linearizable", "lease"):
        assert desk.waits.read_barrier(consistency, timeout_s=1.5) == 50
    assert (len(desk.reads), desk.patience) == (2, [1.5, 1.5])
    assert desk.waits.read_barrier("stale") == 41
    assert len(desk.reads) == 2, "a stale read asks nobody"
    with pytest.raises(ValueError, match="consistency"):
        desk.waits.read_barrier("strong")
    with pytest.raises(NoLeader):
        Desk().waits.read_barrier(timeout_s=0.5)


def test_a_node_that_has_stopped_lets_no_reader_wait() -> None:
    """Nobody may be there who would take the read from the inbox."""
    desk = Desk()
    desk.stopping = True
    for consistency in ("linearizable", "stale"):
        with pytest.raises(NodeStopped):
            desk.waits.read_barrier(consistency)
    assert desk.patience == []


# ---- forwarded writes -----------------------------------------------------------------------------------------------


def forwarded(*entries: tuple[bytes, float]) -> Message:
    """Proposals as a follower passes them on, each with its deadline by the leader's clock."""
    return Message(
        MSG_PROP, to=1, from_=2, entries=[Entry(0, 0, data=data) for data, _ in entries],
        context=with_deadlines([deadline for _, deadline in entries]),
    )  # fmt: skip


def test_a_forwarded_write_that_comes_too_late_is_dropped() -> None:
    """Its client was told 504 long ago; applied now, it would overwrite what was written since then."""
    early, late, last = (encode_proposal(2, number, [(b"k", b"%d" % number)]) for number in range(3))
    sifted = sift(forwarded((early, 10.5), (late, 9.9), (last, 10.0)), now=10.0)
    assert [entry.data for entry in sifted.good] == [early, last], "only what is still wanted, in its order"
    assert (sifted.late, sifted.unreadable) == (1, [])


def test_what_no_node_can_apply_never_gets_into_a_log() -> None:
    """One such entry, committed, would end every node, and again at each restart."""
    good = encode_proposal(2, 1, [(b"k", b"v")])
    bad = [b"nonsense", good + b"x", encode_proposal(2, 2, [(b"", b"v")])]
    sifted = sift(forwarded(*((data, 9.0) for data in bad), (good, 11.0)), now=10.0)
    assert [entry.data for entry in sifted.unreadable] == bad, "whether they are late doesn't matter: they are answered"
    assert [entry.data for entry in sifted.good] == [good]
    assert sifted.late == 0


# ---- routes ---------------------------------------------------------------------------------------------------------


class Serving:
    def __init__(self, node: FakeNode) -> None:
        self.node = node


def answered(node: FakeNode, method: str, target: str, body: bytes = b"") -> tuple[int, bytes, bytes]:
    answer: Answer = ask(Serving(node), method, target, body)
    assert isinstance(answer.body, bytes)
    return answer.status, answer.body, answer.headers


def test_a_write_is_204_with_its_index_once_it_is_applied() -> None:
    node = FakeNode()  # type: ignore[no-untyped-call]
    assert answered(node, "PUT", "/hello", b"world") == (204, b"", b"X-Metcd-Index: 1\r\n")
    assert answered(node, "DELETE", "/hello") == (204, b"", b"X-Metcd-Index: 2\r\n")
    assert node.waited == [True, True]
    assert answered(node, "PUT", "/hello?wait=false", b"again") == (204, b"", b"")
    assert node.waited == [True, True, False]
    assert node.machine.lookup(b"hello") == b"again"


def test_a_get_reads_after_the_barrier_it_asked_for() -> None:
    node = FakeNode()  # type: ignore[no-untyped-call]
    node.machine.store.put(b"key", b"old")
    barrier = node.read_barrier

    def newer(consistency: str = "linearizable", timeout_s: float = 5.0) -> int:
        node.machine.store.put(b"key", b"of " + consistency.encode())
        return barrier(consistency, timeout_s)

    node.read_barrier = newer  # type: ignore[method-assign]
    for query, consistency in (
        ("", b"linearizable"),
        ("?consistency=lease", b"lease"),
        ("?consistency=stale", b"stale"),
    ):
        status, body, _ = answered(node, "GET", f"/key{query}")
        assert (status, body) == (200, b"of " + consistency), "the key is looked up after the barrier has returned"
    assert answered(node, "GET", "/absent")[0] == 404
    node.machine.store.put(b"empty", b"")
    assert answered(node, "GET", "/empty")[:2] == (200, b""), "an empty value is a value"


def test_every_error_says_what_the_client_may_do() -> None:
    """503: nothing was done, send it again. 504: it may be done, now or later. The difference must never be lost."""

    class Newer(NodeError):
        """A class that the table doesn't know."""

    expected = {NoLeader: 503, Overloaded: 503, NodeStopped: 503, Newer: 503, OutcomeUnknown: 504, TooLarge: 413}
    expected |= {ChangeRefused: 409, NumberPassed: 409, SessionExpired: 410}
    for kind, status in expected.items():
        node = FakeNode()  # type: ignore[no-untyped-call]
        node.fails = kind("the reason")
        found, body, headers = answered(node, "PUT", "/k", b"v")
        assert found == status, f"{kind.__name__} was answered {found}, and not {status}"
        assert b"the reason" in body and b"X-Metcd-Error: %b\r\n" % kind.__name__.encode() in headers
        assert (b"Retry-After: 1\r\n" in headers) == (status == 503)


# ---- clusters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(4))
def test_every_history_is_linearizable(part: int, rng: random.Random, history: History) -> None:
    """Four clients at three nodes with three engines, partitions, kill -9 and power cuts of the leader."""
    for _ in range(rounds(12)):
        seed = rng.getrandbits(32) * 4 + part
        history.clear()
        stage = Stage(ENGINES, seed, history)
        stage.run()
        wrong = violation(stage.done)
        if wrong is not None:
            history.note(f"no order explains what was seen of {wrong[0].key!r}:")
            for done in wrong:
                history.note(str(done))
            raise AssertionError("no order of these explains what was seen:\n" + "\n".join(map(str, wrong)))


def test_a_history_without_faults_has_no_unknowns(rng: random.Random, history: History) -> None:
    """And every client gets an answer of every node: followers pass writes on, and read with the leader's help."""
    stage = Stage(ENGINES, rng.getrandbits(32), history, faults=False)
    stage.run()
    assert len(stage.done) == 4 * 8, "each request is answered, and none by an error"
    assert all(done.answered < 1e9 for done in stage.done)
    assert violation(stage.done) is None
    assert len({tuple(content) for content in stage.cluster.contents()}) == 1, "three engines, one content"


def test_without_a_majority_nothing_is_promised(seed: int, history: History) -> None:
    """A leader that is cut off can't know that it isn't the leader any more. It may read stale, and says so."""
    cluster = Cluster(ENGINES, seed, history, lambda: Tired(lambda: cluster.tick(3)))
    leader = cluster.elect(1)
    front = Front(leader)
    assert ask(front, "PUT", "/k", b"1").status == 204
    cluster.cut_off(1)
    assert ask(front, "PUT", "/k", b"2").status == 504
    assert ask(front, "GET", "/k").status == 503
    assert (ask(front, "GET", "/k?consistency=stale").status, leader.machine.lookup(b"k")) == (200, b"1")
    other = Front(cluster.elect(2))
    assert ask(other, "PUT", "/k", b"3").status == 204
    cluster.heal()
    cluster.tick(5)
    assert leader.machine.lookup(b"k") == b"3", "the new leader's log has won"


class Tired(Slip):
    """Waits for a few ticks of the whole cluster, and no longer."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    def wait(self, timeout_s: float) -> int | None:
        self.meanwhile()
        if not self.outcomes:
            self.given_up = True
            return None
        if isinstance(self.outcomes[0], NodeError):
            raise self.outcomes[0]
        return self.outcomes[0]


def test_three_processes_on_three_engines_outlive_a_kill(tmp_path: Path) -> None:
    """The real thing: `metcd cluster` on these packages, kill -9 of one node, writes meanwhile, and identical scans."""
    node = FakeNode()  # type: ignore[no-untyped-call]
    assert answered(node, "PUT", "/k", b"v")[0] == 204, "before three processes are started for it"
    operations: Sequence[Operation] = [(b"batch%d" % number, b"v") for number in range(20)]
    packages = str(Path(server.__file__).parents[1])
    with LocalCluster(ENGINES, str(tmp_path), cluster_port(), packages=packages) as processes:
        processes.start()
        processes.wait_until_healthy()
        with Client([processes.nodes[0].url], timeout_s=10.0) as client:
            leader = client.status()["leader"]
        lost = next(node for node in processes.nodes if node.id != leader)  # the leader's death is for the histories
        others = [node for node in processes.nodes if node is not lost]
        with Client([node.url for node in others], timeout_s=10.0) as client:
            client.put(b"before", b"1")
            processes.processes[lost.id].kill()
            processes.processes[lost.id].wait(10)
            client.batch(operations)
            client.put(b"after", b"2")
        assert [node.id for node in processes.dead()] == [lost.id]
        processes.start_node(lost)
        scans = []
        for node in processes.nodes:
            with Client([node.url], timeout_s=10.0) as client:
                eventually(f"node {node.id} is healthy", client.health)
                scans.append(list(client.scan()))
        assert scans[0] == scans[1] == scans[2]
        assert len(scans[0]) == 22
