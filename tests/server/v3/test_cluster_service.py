"""server/v3/cluster_service.py and what members publish, on three nodes of three engines: as etcd's member.go answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from server.address_book import Book, Member
from server.changes import MOVE, PROMOTE, REMOVE, Wish
from server.errors import ChangeRefused, NoLeader
from server.node import Node
from server.v3 import cluster_service, rpc, status
from server.v3.cluster_service import METHODS, members_of
from server.v3.method import Caller
from server.v3.status import Status
from tests.server.local_nodes import LocalCluster, eventually, free_ports

CALLS: dict[str, Callable[..., Any]] = {method.path.rpartition("/")[2]: method.run for method in METHODS}


def ask(node: Any, call: str, request: Any) -> Any:
    return CALLS[call](node.etcd, Caller(), request)


def refused(node: Any, call: str, request: Any) -> tuple[int, str]:
    with pytest.raises(Status) as found:
        ask(node, call, request)
    return found.value.code, found.value.sentence


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


class Named(LocalCluster):
    """Nodes that have names and client URLs."""

    def start(self, node_id: int, **changes: Any) -> Node:
        named: dict[str, Any] = {"name": f"s{node_id}", "client_urls": (url(node_id),)}
        return super().start(node_id, **{**named, **changes})


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Named]:
    with Named(tmp_path_factory.mktemp("members"), ("lsm", "btree", "bitcask")) as nodes:
        eventually("all have published", lambda: all(node.etcd.standing.published for node in nodes.nodes.values()))
        nodes.converged()
        yield nodes


@pytest.fixture
def alone(tmp_path) -> Iterator[Any]:
    with Named(tmp_path, ("memory",)) as nodes:
        node = nodes.leader()
        eventually("it has published", lambda: node.etcd.standing.published)
        yield node


def test_every_node_lists_all_with_what_they_published(cluster: Named) -> None:
    for node in cluster.nodes.values():
        answer = ask(node, "list", rpc.MemberListRequest())
        ports = [config.peers[at][1] for at, config in cluster.configs.items()]
        assert answer.members == [rpc.Member(at, f"s{at}", [url(port)], [url(at)]) for at, port in enumerate(ports, 1)]
        assert answer.header.member_id == node.id and answer.header.revision == 0
        assert ask(node, "list", rpc.MemberListRequest(linearizable=True)).members == answer.members


def test_a_learner_comes_gets_another_url_and_goes(cluster: Named) -> None:
    node = cluster.follower()
    first, second = free_ports(2)
    added = ask(node, "add", rpc.MemberAddRequest([url(first)], isLearner=True))
    assert added.member == rpc.Member(4, peerURLs=[url(first)], isLearner=True)
    assert [member.ID for member in added.members] == [1, 2, 3, 4] and added.members[3] == added.member
    assert refused(node, "add", rpc.MemberAddRequest([url(second)], isLearner=True)) == status.TOO_MANY_LEARNERS
    assert refused(node, "add", rpc.MemberAddRequest([url(first)])) == status.PEER_URL_EXIST
    assert refused(node, "add", rpc.MemberAddRequest([url(second), url(first)])) == status.PEER_URL_EXIST
    assert refused(node, "promote", rpc.MemberPromoteRequest(4)) == status.LEARNER_NOT_READY
    assert refused(node, "promote", rpc.MemberPromoteRequest(1)) == status.MEMBER_NOT_LEARNER
    moved = ask(node, "update", rpc.MemberUpdateRequest(4, [url(second)]))
    assert moved.members[3].peerURLs == [url(second)] and moved.members[3].isLearner
    own = cluster.configs[1].peers[1][1]
    assert refused(node, "update", rpc.MemberUpdateRequest(4, [url(own)])) == status.PEER_URL_EXIST
    removed = ask(node, "remove", rpc.MemberRemoveRequest(4))
    assert [member.ID for member in removed.members] == [1, 2, 3]
    assert refused(node, "remove", rpc.MemberRemoveRequest(4)) == status.MEMBER_NOT_FOUND
    again = ask(node, "add", rpc.MemberAddRequest([url(second)], isLearner=True))
    assert again.member.ID == 5  # not that of the one that was removed
    ask(node, "remove", rpc.MemberRemoveRequest(5))


@pytest.mark.parametrize(
    "call, request_, expected",
    [
        ("promote", rpc.MemberPromoteRequest(77), status.MEMBER_NOT_FOUND),
        ("remove", rpc.MemberRemoveRequest(77), status.MEMBER_NOT_FOUND),
        ("update", rpc.MemberUpdateRequest(77, ["http://127.0.0.1:1"]), status.MEMBER_NOT_FOUND),
        ("update", rpc.MemberUpdateRequest(), status.MEMBER_NOT_FOUND),
        ("add", rpc.MemberAddRequest(), status.MEMBER_BAD_URLS),
        ("add", rpc.MemberAddRequest(["https://127.0.0.1:1"]), status.MEMBER_BAD_URLS),
        ("add", rpc.MemberAddRequest(["http://127.0.0.1:1", "http://127.0.0.1:2"]), status.MEMBER_BAD_URLS),
        ("add", rpc.MemberAddRequest(["http://127.0.0.1"]), status.MEMBER_BAD_URLS),
    ],
)
def test_what_is_refused(cluster: Named, call: str, request_: Any, expected: Any) -> None:
    assert refused(cluster.follower(), call, request_) == expected


def test_a_cluster_of_one_takes_a_second_voter_as_etcd_does(alone: Any) -> None:
    """And has no majority then until it comes: what /_/members refuses."""
    port = free_ports(1)[0]
    assert refused(alone, "remove", rpc.MemberRemoveRequest(1)) == cluster_service.NOT_ENOUGH_STARTED
    with pytest.raises(ChangeRefused, match="not heard"):
        alone.change_members(Wish("add", 2, ("127.0.0.1", port)))
    added = ask(alone, "add", rpc.MemberAddRequest([url(port)]))
    assert added.member == rpc.Member(2, peerURLs=[url(port)])
    assert [member.ID for member in members_of(alone.etcd)] == [1, 2]


def test_names_survive_a_restart_and_follow_the_command_line(tmp_path) -> None:
    with Named(tmp_path, ("btree",)) as nodes:
        eventually("it has published", lambda: nodes.leader().etcd.standing.published)
        nodes.stop(1)
        node = LocalCluster.start(nodes, 1)  # without a name: what is kept stays
        eventually("it has applied its log again", lambda: members_of(node.etcd)[0].name == "s1")
        nodes.stop(1)
        node = LocalCluster.start(nodes, 1, name="other", client_urls=(url(9),))
        eventually("it has published", lambda: node.etcd.standing.published)
        assert members_of(node.etcd)[0] == rpc.Member(1, "other", [url(nodes.configs[1].peers[1][1])], [url(9)])


class Refusing:
    """A node whose leader refuses every change, and whose book of members says another thing after that."""

    def __init__(self, before: Book, after: Book) -> None:
        self.book, self._after = before, after
        self.members = self

    def change_members(self, wish: Wish) -> int:
        self.book = self._after
        raise ChangeRefused("the leader's reason")


class Around:
    def __init__(self, node: Refusing) -> None:
        self.node = node

    def barrier(self) -> None: ...


A, LEARNER = Member("127.0.0.1", 1), Member("127.0.0.1", 2, learner=True)


@pytest.mark.parametrize(
    "wish, after, expected",
    [
        (Wish(REMOVE, 2), Book({1: A, 2: LEARNER}), status.UNHEALTHY),
        (Wish(REMOVE, 2), Book({1: A}), status.MEMBER_NOT_FOUND),
        (Wish(MOVE, 2, ("127.0.0.1", 3)), Book({1: A, 2: LEARNER, 3: Member("127.0.0.1", 3)}), status.PEER_URL_EXIST),
        (Wish(PROMOTE, 2), Book({1: A, 2: LEARNER}), status.LEARNER_NOT_READY),
        (Wish(PROMOTE, 2), Book({1: A, 2: Member("127.0.0.1", 2)}), status.MEMBER_NOT_LEARNER),
    ],
)
def test_the_leaders_refusal_is_told_in_etcds_words(wish: Wish, after: Book, expected: Any) -> None:
    """The book is looked at once more, because it may have changed since it was looked at first."""
    faults = {
        REMOVE: cluster_service._fault_of_removal,
        MOVE: cluster_service._fault_of_move,
        PROMOTE: cluster_service._fault_of_promotion,
    }
    around = Around(Refusing(Book({1: A, 2: LEARNER}), after))
    with pytest.raises(Status) as found:
        cluster_service._change(around, wish, faults[wish.kind])
    assert (found.value.code, found.value.sentence) == expected


@pytest.mark.parametrize(
    "call, request_, expected",
    [
        ("list", rpc.MemberListRequest(linearizable=True), status.TIMEOUT),
        ("add", rpc.MemberAddRequest(["http://127.0.0.1:9"]), status.UNHEALTHY),
        ("remove", rpc.MemberRemoveRequest(77), status.TIMEOUT),
        ("update", rpc.MemberUpdateRequest(77, ["http://127.0.0.1:9"]), status.TIMEOUT),
        ("promote", rpc.MemberPromoteRequest(77), status.NO_LEADER),
    ],
)
def test_without_a_majority(cluster: Named, monkeypatch: Any, call: str, request_: Any, expected: Any) -> None:
    """Seen on 3.5.1, whose clients wait 7 s for what isn't about adding."""
    node = cluster.follower()
    monkeypatch.setattr(cluster_service, "REQUEST_S", 0.01)

    def barrier(timeout_s: float) -> None:
        raise NoLeader("nobody leads")

    monkeypatch.setattr(node.etcd, "barrier", barrier)
    assert refused(node, call, request_) == expected
