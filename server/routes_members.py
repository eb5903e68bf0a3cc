"""The routes of membership: who takes part, and how that is changed, from any node.

    GET     /_/members         ?consistency=linearizable|lease|stale     200, the cluster and its members
    POST    /_/members/<id>    ?learner=true     body: its peer URL      200 {"index": 17}, when it is applied here
    POST    /_/members/<id>    ?promote=true     no body                 200, a learner becomes a voter
    PUT     /_/members/<id>                      body: its peer URL      200, the member is somewhere else now
    DELETE  /_/members/<id>                                              200, it is removed, and stops

A change that must not be made is answered 409, with the leader's reason (server/changes.py has them all). "reachable",
"behind" and "caught_up" of a member are known to the leader alone, and null in another node's answer.

Follows etcd's member API (/v3/cluster/member/list, add, promote, update, remove).
"""

from __future__ import annotations

import json

from server.addresses import parse_url
from server.answers import JSON, Answer, Options, Parameters, Route, Serving
from server.changes import ADD, LEARNER, MOVE, NODE_MAX, PROMOTE, REMOVE, Wish
from server.request import BadRequest

__all__ = ["MEMBER_ROUTES", "answer_members"]

URL_BYTES_MAX = 300


def answer_members(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """The members, after a barrier: every change that was answered before the call is among them. Raises what it raises."""
    server.node.read_barrier(options.get("consistency", "linearizable"))
    return Answer(200, json.dumps(server.node.describe_members(), indent=2).encode() + b"\n", JSON)


def _add(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    node = _node(key)
    if options.get("promote", False):
        if body or options.get("learner", False):
            raise BadRequest(400, "A learner is promoted where it is: without a body, and without learner=true.")
        return _change(server, Wish(PROMOTE, node))
    return _change(server, Wish(LEARNER if options.get("learner", False) else ADD, node, _address(body)))


def _move(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    return _change(server, Wish(MOVE, _node(key), _address(body)))


def _remove(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    return _change(server, Wish(REMOVE, _node(key)))


def _change(server: Serving, wish: Wish) -> Answer:
    index = server.node.change_members(wish)
    return Answer(200, b'{"index":%d}\n' % index, JSON + b"X-Metcd-Index: %d\r\n" % index)


def _node(key: bytes) -> int:
    if not (key.isdigit() and len(key) <= 16 and 1 <= int(key) <= NODE_MAX):
        raise BadRequest(400, f"The path ends with a node's id, a number from 1 to {NODE_MAX}.")
    return int(key)


def _address(body: bytes) -> tuple[str, int]:
    """The host and port in a body like "http://127.0.0.1:33380"."""
    try:
        if len(body) > URL_BYTES_MAX:
            raise ValueError(f"a URL has at most {URL_BYTES_MAX} bytes here")
        return parse_url(body.decode("ascii").strip())
    except ValueError as error:
        raise BadRequest(400, f"The body is the member's peer URL: {error}.") from None


def _truth(text: bytes) -> bool:
    if text not in (b"true", b"false"):
        raise ValueError("must be true or false")
    return text == b"true"


_KINDS: Parameters = {b"learner": _truth, b"promote": _truth}

MEMBER_ROUTES = {
    b"POST": Route(_add, _KINDS),
    b"PUT": Route(_move, {}, True),
    b"DELETE": Route(_remove),
}
