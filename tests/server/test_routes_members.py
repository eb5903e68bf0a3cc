"""The routes of membership over HTTP, on a cluster of one."""

from __future__ import annotations

import http.client
import json

import pytest

from server.http import FrontEnd
from tests.server.local_nodes import LocalCluster, free_ports


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with LocalCluster(tmp_path_factory.mktemp("one"), ("memory",)) as one:
        [port] = free_ports(1)
        front = FrontEnd(one.leader(), ("127.0.0.1", port))
        front.start()
        yield port
        front.stop()


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body)
    answer = connection.getresponse()
    status, found = answer.status, json.loads(answer.read())
    connection.close()
    return status, found


def test_members_are_listed_added_moved_and_removed(port):
    status, cluster = ask(port, "GET", "/_/members")
    [one] = cluster["members"]
    assert (status, cluster["leader"], list(cluster["first"])) == (200, 1, ["1"])
    assert one.items() >= {"id": 1, "learner": False, "admitted": 0, "reachable": True, "behind": 0}.items()
    status, done = ask(port, "POST", "/_/members/7?learner=true", "http://127.0.0.1:1\n")
    assert status == 200
    [_, seven] = ask(port, "GET", "/_/members?consistency=stale")[1]["members"]
    assert seven.items() >= {
        "id": 7, "peer_url": "http://127.0.0.1:1", "learner": True, "admitted": done["index"], "reachable": False,
    }.items()  # fmt: skip
    assert ask(port, "PUT", "/_/members/7", "http://127.0.0.1:2")[0] == 200
    assert ask(port, "GET", "/_/members")[1]["members"][1]["peer_url"] == "http://127.0.0.1:2"
    assert ask(port, "DELETE", "/_/members/7")[0] == 200
    assert len(ask(port, "GET", "/_/members")[1]["members"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/_/members/0", "http://a:1", 400, "The path ends with a node's id"),
        ("POST", "/_/members/x", "http://a:1", 400, "The path ends with a node's id"),
        ("POST", "/_/members/99999999999999999999", "http://a:1", 400, "The path ends with a node's id"),
        ("POST", "/_/members/4", "a:1", 400, "The body is the member's peer URL: a node's URL is http://host:port"),
        ("POST", "/_/members/4", "", 400, "The body is the member's peer URL"),
        ("POST", "/_/members/4", "http://" + "a" * 300 + ":1", 400, "a URL has at most 300 bytes here"),
        ("POST", "/_/members/4?promote=true", "http://a:1", 400, "A learner is promoted where it is"),
        ("POST", "/_/members/4?promote=maybe", "", 400, "must be true or false"),
        ("POST", "/_/members/4?promote=true", "", 409, "there is no node 4"),
        ("PUT", "/_/members/4", "http://a:1", 409, "there is no node 4"),
        ("DELETE", "/_/members/4", None, 409, "there is no node 4"),
        ("DELETE", "/_/members/1", None, 409, "node 1 is the last voter"),
        ("POST", "/_/members/4", "http://a:1", 409, "add node 4 as a learner, start it, and promote it then"),
        ("POST", "/_/members/1", "http://a:1", 409, "there is a node 1 already, at 127.0.0.1:"),
        ("GET", "/_/members/1", None, 405, "The methods of this path are POST, PUT, DELETE."),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(port, method, path, body, status, says):
    found, answer = ask(port, method, path, body)
    assert found == status
    assert says in answer["error"]
