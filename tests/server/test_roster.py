"""Members remember each other's directories: who lost its own, or was given an older one, is kept out.

The table of server/IDENTITY.md, "A node that its members know otherwise", with nodes on loopback.
"""

from __future__ import annotations

import dataclasses
import re
import shutil

import pytest

from raft import LogLostError
from server.address_book import Book, Member
from server.errors import DirectoryRefused, NodeError, NoLeader
from server.identity import Identity, Met, address_list, cluster_id, read_identity
from server.readmission import Readmission
from server.roster import Gone, Hello, Roster
from tests.server.local_nodes import LocalCluster, cuts_over, eventually, free_ports

PEERS = {node: ("127.0.0.1", 4000 + node) for node in (1, 2, 3)}
CLUSTER = cluster_id(PEERS)


# ---- judging --------------------------------------------------------------------------------------------------------


def roster_of(node_id: int, written: list[dict[int, Met]], **changes: object) -> Roster:
    identity = Identity(CLUSTER, node_id, 100 + node_id, "memory", address_list(PEERS), **changes)
    return Roster(identity.started(4, 6).started(5, 7), written.append)


def hello(node_id: int = 2, number: int = 102, starts: int = 3, session: int = 9, **changes: object) -> Hello:
    met = Met(number, starts, session)
    known = {node_id: met, **changes.pop("known", {})}
    past = {1: 7, 2: 8, starts: session, **changes.pop("past", {})}
    return dataclasses.replace(Hello(CLUSTER, node_id, met, "…", known, past), **changes)


def test_who_is_heard_is_on_disk_first():
    written: list[dict[int, Met]] = []
    one = roster_of(1, written)
    assert one.judge(hello()) == ""
    assert written == [{2: Met(102, 3, 9)}]
    assert one.judge(hello()) == ""
    assert one.judge(hello(starts=4, session=10, past={3: 9})) == ""
    assert written[1:] == [{2: Met(102, 4, 10)}]
    assert one.known() == {(1, 0), (2, 0)}


def test_who_can_not_be_written_is_not_heard():
    one = roster_of(1, [])

    def full(met: dict[int, Met]) -> None:
        raise OSError("full")

    one._remember = full
    assert one.judge(hello()) == (
        "node 1 can't write down with which directory node 2 came: full; until it can, it hears nobody who is new"
    )
    assert one.known() == {(1, 0)}
    one._remember = lambda met: None
    assert one.judge(hello()) == ""


def book_of(*ids: int, removed: dict[int, int] | None = None, **changed: Member) -> Book:
    members = {node: Member("127.0.0.1", 4000 + node) for node in ids}
    return Book({**members, **{int(name[1:]): member for name, member in changed.items()}}, removed or {})


def test_who_is_heard_follows_the_book():
    """Node 2 goes, and comes again with another directory; node 4 comes. What was remembered of the old one is forgotten."""
    written: list[dict[int, Met]] = []
    one = roster_of(1, written)
    assert one.judge(hello()) == ""
    assert one.follow(book_of(1, 3, removed={2: 8}), 8) == {2}
    assert one.known() == {(1, 0)}
    gone = one.judge(hello())
    assert isinstance(gone, Gone)
    assert gone == f"node 2 was removed from cluster {CLUSTER:016x} at entry 8"
    assert one.follow(book_of(1, 3, n2=Member("a", 1, admitted=9), n4=Member("b", 2, admitted=10)), 11) == set()
    gone = one.judge(hello())
    assert isinstance(gone, Gone)
    assert "let in anew at entry 9" in gone
    anew = Met(777, 1, 5, 9)
    assert one.judge(dataclasses.replace(hello(number=777), met=anew, known={2: anew}, past={1: 5})) == ""
    assert one.known() == {(1, 0), (2, 9)}
    assert one.addresses() == {1: PEERS[1], 2: ("a", 1), 3: PEERS[3], 4: ("b", 2)}


def test_who_was_let_in_by_an_entry_that_is_not_applied_here_is_heard_and_called_where_it_says():
    """A node that was away may have to hear from a leader that it has never heard of."""
    one = roster_of(1, [])
    one.follow(book_of(1, 2, 3), 5)
    met = Met(104, 1, 9, 6)
    four = hello(node_id=4, address="10.0.0.4:99", applied=8, known={4: met})
    four = dataclasses.replace(four, met=met)
    assert one.judge(four) == ""
    assert one.addresses()[4] == ("10.0.0.4", 99)
    moved = hello(node_id=3, number=103, address="10.0.0.3:98", applied=8)
    assert one.judge(moved) == ""
    assert one.addresses()[3] == ("10.0.0.3", 98)
    behind = hello(address="10.0.0.2:97", applied=4)
    assert one.judge(behind) == ""
    assert one.addresses()[2] == PEERS[2]
    one.follow(book_of(1, 2, n3=Member("10.0.0.3", 98)), 9)
    assert one.addresses() == {1: PEERS[1], 2: PEERS[2], 3: ("10.0.0.3", 98)}
    assert isinstance(one.judge(four), Gone)  # by now it would be in the book


def test_a_directory_that_the_book_asks_for_is_the_only_one():
    """The way back for a lost disk: the number in the book counts, whatever was remembered before."""
    one = roster_of(1, [])
    assert one.judge(hello(number=102)) == ""
    one.follow(book_of(1, 3, n2=Member("127.0.0.1", 4002, 555, 9)), 9)
    refused = one.judge(hello(number=102))
    assert refused.startswith("node 2 is a member with directory 000000000000022b, and comes with 0000000000000066")
    assert not isinstance(refused, Gone)
    assert one.judge(hello(number=555)) == ""  # it needn't know yet which entry has let it in
    assert one.known() == {(1, 0), (2, 9)}
    two = roster_of(2, [])
    two.follow(book_of(1, 3, n2=Member("127.0.0.1", 4002, 102, 9)), 9)
    assert two.admitted == 9
    assert two.judge(hello(node_id=3, number=103, known={2: Met(99, 1, 1)})) == ""  # it remembers the one that is lost


def test_a_node_that_is_no_member_any_more_is_removed_and_one_that_is_not_yet_is_not():
    one = roster_of(1, [])
    assert one.removal() == ""
    one.follow(book_of(2, 3, removed={1: 7}), 7)
    assert one.removal() == f"node 1 was removed from cluster {CLUSTER:016x} at entry 7"
    one.follow(book_of(2, 3, n1=Member("a", 1, admitted=9)), 9)
    assert "let in anew at entry 9" in one.removal()
    joins = roster_of(4, [], admitted=12, joined={4: "127.0.0.1:4", 1: "127.0.0.1:9"})
    joins.follow(book_of(1, 2, 3), 0)
    assert joins.removal() == ""
    assert joins.addresses() == {1: ("127.0.0.1", 9), 4: ("127.0.0.1", 4)}
    joins.follow(book_of(1, n4=Member("127.0.0.1", 4, admitted=12)), 12)
    assert (joins.removal(), joins.addresses()) == ("", {1: PEERS[1], 4: ("127.0.0.1", 4)})


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (hello(number=103), "node 2 came with directory 0000000000000066, and now it comes with 0000000000000067"),
        (hello(starts=2, session=8), "node 2 was met at start 3 of its directory, and now it comes with start 2 and doesn't"),
        (hello(session=8), "node 2 was met at start 3 of its directory, and now it comes with start 3 and doesn't"),
        (hello(starts=9), "node 2 was met at start 3 of its directory, and now it comes with start 9 and doesn't"),
        (hello(starts=9, past={3: 8}), "node 2 was met at start 3 of its directory, and now it comes with start 9 and"),
        (hello(cluster_id=5), f"node 2 is of cluster 0000000000000005, begun by the nodes …, and node 1 of cluster {CLUSTER:016x}"),
        (hello(node_id=1), "a second node 1 is running"),
        (hello(node_id=4), "node 4 is not a member of cluster"),
        (hello(known={1: Met(99, 1, 1)}), "node 2 remembers that node 1 came with directory 0000000000000063"),
        (hello(known={1: Met(101, 6, 1)}), "node 2 remembers that node 1 was met at start 6"),
        (hello(known={1: Met(101, 5, 1)}), "node 2 remembers that node 1 was met at start 5"),
        (hello(known={1: Met(101, 4, 1)}), "node 2 remembers that node 1 was met at start 4"),
    ],
)  # fmt: skip
def test_who_contradicts_what_is_remembered_is_refused(said, says):
    written: list[dict[int, Met]] = []
    one = roster_of(1, written, met={2: Met(102, 3, 9)})
    assert one.judge(said).startswith(says)
    assert written == []
    assert bool(one.kept_out) == ("remembers" in says)
    if one.kept_out:
        assert one.judge(hello()) == one.kept_out  # from then on it hears nobody


def test_what_others_remember_is_remembered_too():
    """So that who lost its directory is refused by those that it never met, too."""
    written: list[dict[int, Met]] = []
    one = roster_of(1, written)
    assert one.judge(hello(known={3: Met(103, 4, 1), 1: Met(101, 5, 7), 9: Met(1, 1, 1)})) == ""
    assert one.known() == {(1, 0), (2, 0), (3, 0)}
    assert one.judge(hello(node_id=3, number=104)).startswith("node 3 came with directory")
    assert one.judge(hello(known={3: Met(104, 9, 1)})) == ""  # hearsay replaces nothing
    assert one.judge(hello(known={3: Met(103, 9, 1)})) == ""
    assert one.judge(hello(node_id=3, number=103, starts=4, session=1)) == ""


# ---- nodes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path):
    with LocalCluster(tmp_path) as cluster:
        yield cluster


def empty(cluster: LocalCluster, node_id: int) -> None:
    shutil.rmtree(cluster.configs[node_id].data_dir)


def kept_out(node) -> str:
    return eventually("it is kept out", lambda: node.status()["kept_out"])


def all_met(cluster: LocalCluster) -> None:
    """Every running node knows every running node's directory."""
    running = set(cluster.nodes)

    def known() -> bool:
        identities = [read_identity(cluster.configs[node_id].data_dir) for node_id in running]
        return all(running - {each.node_id} <= set(each.met) for each in identities if each is not None)

    eventually("all have met", known)


@pytest.mark.parametrize("engines", [("memory",) * 3, ("lsm", "btree", "bitcask")], ids=lambda names: names[0])
def test_a_node_whose_directory_was_emptied_is_kept_out_and_the_others_go_on(tmp_path, engines, lines, monkeypatch):
    """Until it is readmitted, and here it isn't. It used to end with RaftPanic at every start, until another one led:
    then it voted."""
    monkeypatch.setattr(Readmission, "asked", lambda *_: None)
    with LocalCluster(tmp_path, engines) as cluster:
        _empty_one_and_go_on(cluster, lines)


def _empty_one_and_go_on(cluster, lines):
    cluster.put(cluster.leader(), b"key", b"value")
    all_met(cluster)
    victim = cluster.follower()
    cluster.stop(victim.id)
    empty(cluster, victim.id)
    again = cluster.start(victim.id)
    why = kept_out(again)
    assert re.match(rf"node \d remembers that node {victim.id} came with directory", why)
    assert "put back exactly what was there" in why
    with pytest.raises(NoLeader, match="this node is kept out of its cluster"):
        again.propose([(b"key", b"other")])
    with pytest.raises(NoLeader, match="this node is kept out of its cluster"):
        again.read_barrier()
    health = again.health()
    assert not health.healthy
    assert "kept out" in health.report["error"]
    eventually("it is no follower", lambda: again.status()["role"] == "kept out")
    del cluster.nodes[victim.id]
    try:
        cluster.put(cluster.leader(), b"key", b"another")
        said = f"node {victim.id} came with directory"
        for node_id in cluster.configs:
            about = [line for line in lines if line.startswith(f"node {node_id}: ") and said in line]
            assert len(about) == 1, about  # once in each log, its own too
        old_leader = cluster.leader().id
        cluster.stop(old_leader)
        cluster.start(old_leader)
        cluster.put(cluster.leader(), b"key", b"of the next leader")
        assert again.status()["kept_out"] == why
    finally:
        again.stop()
    again = cluster.start(victim.id)
    assert "remembers that node" in kept_out(again)


def test_two_emptied_nodes_that_were_kept_out_do_not_lead_when_the_third_is_away(tmp_path):
    """They had been told; after a restart they had forgotten it, led, and answered that an acknowledged key is absent."""
    cluster = LocalCluster(tmp_path)
    try:
        for node_id in (1, 2, 3):
            cluster.start(node_id)
        cluster.put(cluster.leader(), b"key", b"acknowledged")
        all_met(cluster)
        for node_id in (2, 3):
            cluster.stop(node_id)
            empty(cluster, node_id)
        for node in (cluster.start(2), cluster.start(3)):
            kept_out(node)
        for node_id in (1, 2, 3):
            cluster.stop(node_id)
        for node in (cluster.start(2), cluster.start(3)):
            assert f"remembers that node {node.id}" in node.status()["kept_out"]
            assert f"remembers that node {node.id}" in read_identity(cluster.configs[node.id].data_dir).kept_out
    finally:
        cluster.__exit__()


@pytest.mark.parametrize("met", ["itself", "only by hearsay"])
def test_a_node_that_lost_its_log_does_not_vote(tmp_path, met):
    """An entry is acknowledged by nodes 1 and 2; 2 loses everything; 1 is away; 2 and 3 must not lead without it."""
    cluster = LocalCluster(tmp_path)
    try:
        cluster.start(1)
        cluster.start(2)
        if met == "itself":
            cluster.start(3)
            all_met(cluster)
            cluster.stop(3)
        cluster.put(cluster.leader(), b"key", b"acknowledged")
        cluster.stop(2)
        if met == "only by hearsay":
            cluster.start(3)
            eventually("3 knows of 2", lambda: 2 in (read_identity(cluster.configs[3].data_dir).met or {}))
            cluster.stop(3)
        cluster.stop(1)
        empty(cluster, 2)
        second, third = cluster.start(2), cluster.start(3)
        kept_out(second)
        eventually("3 campaigns in vain", lambda: third.status()["role"] == "pre-candidate")
        with pytest.raises(NodeError):
            third.read_barrier(timeout_s=0.2)
        cluster.stop(2)
        first = cluster.start(1)
        assert cluster.read(first, b"key") == b"acknowledged"
    finally:
        cluster.__exit__()


def test_an_older_copy_of_a_directory_is_kept_out(cluster, tmp_path):
    """The copy was made while it was stopped; it has started since, and the others remember that."""
    all_met(cluster)
    victim = cluster.follower().id
    path = cluster.configs[victim].data_dir
    cluster.stop(victim)
    shutil.copytree(path, tmp_path / "older")
    cluster.start(victim)
    index = cluster.put(cluster.leader(), b"key", b"value")
    eventually("it has it", lambda: cluster.nodes[victim].machine.applied_index >= index)
    cluster.stop(victim)
    shutil.rmtree(path)
    shutil.copytree(tmp_path / "older", path)
    says = f"node {victim} was met at start 2 of its directory, and now it comes with start 2 and doesn't know that one"
    assert says in kept_out(cluster.start(victim))


def test_an_older_copy_that_its_starts_do_not_give_away_stops_at_the_leaders_word(cluster, tmp_path):
    """The copy was made while it ran. Once the leader has shown what is missing, it is refused also without the leader."""
    all_met(cluster)
    victim = cluster.follower().id
    path = cluster.configs[victim].data_dir
    shutil.copytree(path, tmp_path / "older")
    for number in range(5):
        index = cluster.put(cluster.leader(), b"key", b"%d" % number)
    eventually("it has it", lambda: cluster.nodes[victim].machine.applied_index >= index)
    cluster.stop(victim)
    shutil.rmtree(path)
    shutil.copytree(tmp_path / "older", path)
    node = cluster.start(victim)
    assert node.stopped.wait(30)
    del cluster.nodes[victim]
    assert isinstance(node.failure, LogLostError)
    assert "was acknowledged by this node and is committed, but its log ends at" in str(node.failure)
    cluster.stop(cluster.leader().id)
    with pytest.raises(DirectoryRefused, match="this directory takes no part any more: move it away and keep it"):
        cluster.start(victim)


def test_members_may_start_late_and_in_any_order(tmp_path):
    """The first start of a cluster has nobody who remembers; nor has a member that was never started."""
    cluster = LocalCluster(tmp_path)
    try:
        for node_id in (3, 1):
            cluster.start(node_id)
        cluster.put(cluster.leader(), b"key", b"of two")
        late = cluster.start(2)
        assert cluster.read(late, b"key") == b"of two"
        for node_id in (1, 2, 3):
            cluster.stop(node_id)
        for node_id in (2, 3, 1):
            cluster.start(node_id)
        cluster.put(cluster.leader(), b"key", b"of three")
        cluster.converged()
        ids = {node.status()["cluster"] for node in cluster.nodes.values()}
        assert ids == {f"{cluster_id(cluster.configs[1].peers):016x}"}
        assert cluster.leader().health().report["cluster"] in ids
        assert all(node.status()["kept_out"] == "" for node in cluster.nodes.values())
    finally:
        cluster.__exit__()


@pytest.mark.parametrize(("engine", "part"), [("bitcask", "engine"), ("memory", "snap")])
def test_an_engine_or_snapshots_of_another_node_of_the_cluster_make_the_same_state(tmp_path, engine, part):
    cluster = LocalCluster(tmp_path, (engine,) * 3, snapshot_entries=8)
    try:
        for node_id in (1, 2, 3):
            cluster.start(node_id)
        for number in range(30):
            cluster.put(cluster.leader(), b"key", b"%d" % number)
        before = cluster.converged()
        marks = {}
        for node_id, node in cluster.nodes.items():
            cuts_over(node)
            marks[node_id] = node._storage.memory.snapshot().metadata.index
        for node_id in (1, 2, 3):
            cluster.stop(node_id)
        earliest, *_, latest = sorted(
            marks, key=marks.__getitem__
        )  # each cuts when it wants; a later one's snapshot serves
        one, two = (f"{cluster.configs[node_id].data_dir}/{part}" for node_id in (earliest, latest))
        shutil.rmtree(one)
        shutil.copytree(two, one)
        for node_id in (1, 2, 3):
            cluster.start(node_id)
        cluster.put(cluster.leader(), b"other", b"value")
        after = cluster.converged()
        assert [pair for pair in before if pair[0] == b"kkey"] == [pair for pair in after if pair[0] == b"kkey"]
    finally:
        cluster.__exit__()


# ---- clusters -------------------------------------------------------------------------------------------------------


def test_a_node_that_was_alone_is_refused_by_its_directory(tmp_path):
    """Started once with itself as the only member, by mistake: it used to join the others with the same indexes."""
    cluster = LocalCluster(tmp_path)
    alone = {1: cluster.configs[1].peers[1]}
    node = cluster.start(1, peers=alone)
    cluster.put(node, b"key", b"of node 1 alone")
    cluster.stop(1)
    with pytest.raises(
        DirectoryRefused, match=r"which was begun by the nodes 1 at .*, and this node was started for the"
    ):
        cluster.start(1)


@pytest.mark.parametrize("mistake", ["alone", "swapped", "token"])
def test_nodes_with_different_lists_refuse_each_other_in_one_line_each(tmp_path, lines, mistake):
    cluster = LocalCluster(tmp_path)
    peers = cluster.configs[1].peers
    changes = {
        "alone": {"peers": {1: peers[1]}},
        "swapped": {"peers": {1: peers[1], 2: peers[3], 3: peers[2]}},
        "token": {"cluster_token": "another"},
    }[mistake]
    mistaken = cluster.start(1, **changes)
    del cluster.nodes[1]
    try:
        for node_id in (2, 3):
            cluster.start(node_id)
        pair = cluster.leader()
        cluster.put(pair, b"key", b"of the others")
        said = eventually(
            "both sides have said it",
            lambda: (
                {line.split(":")[0] for line in lines if "is of cluster" in line and "start both with the same" in line}
                >= ({"node 2", "node 3"} if mistake == "alone" else {"node 1", "node 2", "node 3"})
                and list(lines)
            ),
        )
        for node_id in (1, 2, 3):
            about = [line for line in said if line.startswith(f"node {node_id}: node 1 is of cluster")]
            assert len(about) == (node_id != 1), about
    finally:
        mistaken.stop()
        cluster.__exit__()


def test_a_list_that_has_another_node_at_an_address_is_told(tmp_path, lines):
    """Node 1's process is the one of node 3: the same cluster, the wrong place."""
    cluster = LocalCluster(tmp_path)
    peers = cluster.configs[1].peers
    spare = ("127.0.0.1", free_ports(1)[0])
    try:
        cluster.start(1)
        node = cluster.start(2)
        node._roster._elsewhere = {3: (1 << 40, peers[1])}
        node._transport.follow()
        eventually("2 says it", lambda: any("where node 3 should be, node 1 answers" in line for line in lines))
        eventually(
            "1 says it", lambda: any("this is node 1, and node 2 was looking for node 3" in line for line in lines)
        )
        node._roster._elsewhere = {3: (1 << 40, spare)}
        node._transport.follow()
    finally:
        cluster.__exit__()
