"""Lease reads: the leader answers them by itself while it has a lease, and never with another round's answer."""

from server.lease_reads import BothReads
from server.reads import Waiter
from tests.chapters.kit import History
from tests.chapters.replicas import Cluster


def waiting(count):
    return [Waiter() for _ in range(count)]


def test_the_two_kinds_have_rounds_of_their_own():
    reads, asked = BothReads(7), []
    safe, lease = waiting(2)
    reads.add(safe)
    reads.add_lease(lease)
    reads.begin(1, lambda context, safe=False: asked.append((safe, context)))
    assert sorted(kind for kind, _ in asked) == [False, True]
    contexts = dict(asked)
    assert len(set(contexts.values())) == 2
    reads.confirm(contexts[False], 5)
    reads.answer(5)
    assert (lease.wait(0), safe.wait(0)) == (5, None), "a lease must not answer a read that asked for a quorum"
    reads.confirm(contexts[True], 6)
    reads.answer(6)
    assert safe.wait(0) == 6
    assert reads.metrics() == {"reads_total": 1, "read_rounds_total": 1, "lease_reads_total": 1}


def cluster_of_three(seed):
    """A cluster whose leader, node 1, has a lease."""
    cluster = Cluster(["memory"] * 3, seed, History())
    cluster.elect(1)
    cluster.tick(4)
    return cluster


def begin(replica, lease):
    waiter = Waiter()
    (replica.reads.add_lease if lease else replica.reads.add)(waiter)
    replica.run()
    return waiter


def test_a_lease_is_enough_for_a_lease_read_and_not_for_a_linearizable_one(seed):
    """Nobody is asked: the others may be cut off, for half an election timeout."""
    cluster = cluster_of_three(seed)
    cluster.cut_off(1)
    leader = cluster.nodes[1]
    safe, lease = begin(leader, False), begin(leader, True)
    assert lease.wait(0) is not None
    assert safe.wait(0) is None
    cluster.tick(5)
    assert begin(leader, True).wait(0) is None, "the lease is over, and a quorum is asked"


def test_a_followers_lease_read_costs_one_exchange_with_its_leader(seed):
    cluster = cluster_of_three(seed)
    cluster.cut_off(3)
    cluster.links_cut = {frozenset((1, 3))}
    waiter = begin(cluster.nodes[2], True)
    cluster.deliver(cluster.nodes[2])
    cluster.deliver(cluster.nodes[1])
    assert waiter.wait(0) is not None


def test_a_leader_that_stood_still_has_no_lease_left(seed):
    """The others have elected another one meanwhile; it doesn't know, and must not answer with the past."""
    cluster = cluster_of_three(seed)
    old = cluster.nodes[1]
    cluster.cut_off(1)
    for _ in range(40):  # the time of the others alone
        for node_id in (2, 3):
            cluster.nodes[node_id].tick()
            cluster.nodes[node_id].run()
        cluster.settle()
    assert old.leads and (cluster.nodes[2].leads or cluster.nodes[3].leads)
    old.raft.paused(40)
    assert begin(old, True).wait(0) is None
