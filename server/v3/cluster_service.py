"""The Cluster service: who the members are, and changes of that, on our own membership (server/changes.py).

    member/list                    what is applied here, or after a barrier if it is to be linearizable
    member/add, update, promote    a change, which the leader judges; then the members with it
    member/remove

Ids are small numbers here, as everywhere in this program: the next one that no member has, and no removed one that is still
remembered. A member has one peer URL, http://host:port.

What the leader refuses comes with a sentence of ours. A client of etcd is told one of etcd's: the book of members is looked
at before, and once more after a refusal, for what etcd would have said; what is left then is that too few members answer.

Departures from etcd 3.5.1: changes need the role root while authentication is on, and the list a user. A member with
several peer URLs, or with https ones, is refused as etcd refuses URLs that can't be read. A learner whose URL is updated stays
one in the list.
Headers have no revision, as etcd's haven't. Follows etcd's api/v3rpc/member.go.
"""

from __future__ import annotations

from typing import Any

from server.address_book import Book, Member
from server.addresses import parse_url, url_of
from server.changes import ADD, LEARNER, MOVE, PROMOTE, REMOVE, Wish
from server.errors import ChangeRefused, NoLeader
from server.v3 import rpc, status
from server.v3.etcd import REQUEST_S
from server.v3.failures import confirmed
from server.v3.method import Call, Caller, Method
from server.v3.status import Sentence, Status

__all__ = ["LEARNERS_MAX", "METHODS", "NOT_ENOUGH_STARTED", "members_of"]

LEARNERS_MAX = 1  # as etcd 3.5 has it; POST /_/members takes more
# 3.5.1 has forgotten the code of this one, so that clients get "unknown"
NOT_ENOUGH_STARTED = Sentence(2, status.MEMBER_NOT_ENOUGH_STARTED.sentence)
TRIES = 5  # of an id, while others are added


def members_of(etcd: Any) -> list[rpc.Member]:
    """The members by what is applied here, in the order of their ids."""
    return [_described(etcd, node, member) for node, member in sorted(etcd.node.members.book.members.items())]


def _described(etcd: Any, node: int, member: Member) -> rpc.Member:
    said = etcd.attributes.of(node)
    return rpc.Member(node, said.name, [url_of(*member.address)], list(said.client_urls), member.learner)


def _list(etcd: Any, caller: Caller, request: rpc.MemberListRequest) -> rpc.MemberListResponse:
    etcd.auth.check_known(etcd.auth.identify_if_on(caller))
    if request.linearizable:
        confirmed(etcd.barrier, caller, REQUEST_S, status.TIMEOUT)
    return rpc.MemberListResponse(etcd.header(0), members_of(etcd))


def _add(etcd: Any, caller: Caller, request: rpc.MemberAddRequest) -> rpc.MemberAddResponse:
    addresses = _addresses(request.peerURLs)
    _root(etcd, caller)
    for _ in range(TRIES):
        try:
            etcd.barrier(REQUEST_S)
        except NoLeader:  # for one that isn't known etcd doesn't wait here
            raise Status(*status.UNHEALTHY) from None
        book: Book = etcd.node.members.book
        if any(member.address in addresses for member in book.members.values()):
            raise Status(*status.PEER_URL_EXIST)
        address = _only(addresses)
        if request.isLearner and sum(member.learner for member in book.members.values()) >= LEARNERS_MAX:
            raise Status(*status.TOO_MANY_LEARNERS)
        node = max([*book.members, *book.removed], default=0) + 1
        try:
            # etcd adds the second voter to a cluster of one, whether or not it answers: so does this service
            etcd.node.change_members(Wish(LEARNER if request.isLearner else ADD, node, address, alone=True))
        except ChangeRefused:
            etcd.barrier()
            if etcd.node.members.book is book:
                raise Status(*status.UNHEALTHY) from None
        else:
            member = rpc.Member(node, peerURLs=[url_of(*address)], isLearner=request.isLearner)
            return rpc.MemberAddResponse(etcd.header(0), member, members_of(etcd))
    raise Status(*status.TIMEOUT)


def _remove(etcd: Any, caller: Caller, request: rpc.MemberRemoveRequest) -> rpc.MemberRemoveResponse:
    _root(etcd, caller)
    confirmed(etcd.barrier, caller, REQUEST_S, status.TIMEOUT)
    _change(etcd, Wish(REMOVE, request.ID), _fault_of_removal)
    return rpc.MemberRemoveResponse(etcd.header(0), members_of(etcd))


def _update(etcd: Any, caller: Caller, request: rpc.MemberUpdateRequest) -> rpc.MemberUpdateResponse:
    _root(etcd, caller)
    confirmed(etcd.barrier, caller, REQUEST_S, status.TIMEOUT)
    if request.ID not in etcd.node.members.book.members:
        raise Status(*status.MEMBER_NOT_FOUND)
    _change(etcd, Wish(MOVE, request.ID, _only(_addresses(request.peerURLs))), _fault_of_move)
    return rpc.MemberUpdateResponse(etcd.header(0), members_of(etcd))


def _promote(etcd: Any, caller: Caller, request: rpc.MemberPromoteRequest) -> rpc.MemberPromoteResponse:
    _root(etcd, caller)
    confirmed(etcd.barrier, caller, REQUEST_S, status.NO_LEADER)
    _change(etcd, Wish(PROMOTE, request.ID), _fault_of_promotion)
    return rpc.MemberPromoteResponse(etcd.header(0), members_of(etcd))


def _root(etcd: Any, caller: Caller) -> None:
    etcd.auth.check_root(etcd.auth.identify(caller))


def _change(etcd: Any, wish: Wish, fault_of: Any) -> None:
    """Has the members changed. Raises Status, and NodeError as `change_members` does. Requires: after a barrier."""
    fault: Sentence | None = fault_of(etcd.node.members.book, wish)
    if fault is None:
        try:
            etcd.node.change_members(wish)
            return
        except ChangeRefused:
            etcd.barrier()
            fault = fault_of(etcd.node.members.book, wish)
    raise Status(*(fault or (status.LEARNER_NOT_READY if wish.kind == PROMOTE else status.UNHEALTHY)))


def _fault_of_removal(book: Book, wish: Wish) -> Sentence | None:
    if wish.node not in book.members:
        return status.MEMBER_NOT_FOUND
    last = [node for node, member in book.members.items() if not member.learner] == [wish.node]
    return NOT_ENOUGH_STARTED if last else None


def _fault_of_move(book: Book, wish: Wish) -> Sentence | None:
    if wish.node not in book.members:
        return status.MEMBER_NOT_FOUND
    taken = any(member.address == wish.address for node, member in book.members.items() if node != wish.node)
    return status.PEER_URL_EXIST if taken else None


def _fault_of_promotion(book: Book, wish: Wish) -> Sentence | None:
    if wish.node not in book.members:
        return status.MEMBER_NOT_FOUND
    return None if book.members[wish.node].learner else status.MEMBER_NOT_LEARNER


def _addresses(urls: list[str]) -> list[tuple[str, int]]:
    """Where these URLs lead, at least one. Raises Status."""
    try:
        found = [parse_url(url) for url in urls]
    except ValueError:
        found = []
    if not found:
        raise Status(*status.MEMBER_BAD_URLS)
    return found


def _only(addresses: list[tuple[str, int]]) -> tuple[str, int]:
    """The one address that a member has here. Raises Status."""
    if len(addresses) != 1:
        raise Status(*status.MEMBER_BAD_URLS)
    return addresses[0]


METHODS: list[Method] = [
    Call("cluster/member/list", rpc.MemberListRequest, _list),
    Call("cluster/member/add", rpc.MemberAddRequest, _add),
    Call("cluster/member/remove", rpc.MemberRemoveRequest, _remove),
    Call("cluster/member/update", rpc.MemberUpdateRequest, _update),
    Call("cluster/member/promote", rpc.MemberPromoteRequest, _promote),
]
