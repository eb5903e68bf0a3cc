"""What the lab answers: a table of calls, as server/routes.py has the nodes'.

    GET     /_/lab                                                      what is cut, paused, dead and slow
    POST    /_/lab/links/A/B          {"cut": true}                     both directions; {"cut": true, "one_way": true}: from A to B
    POST    /_/lab/nodes/N/pause, resume, kill, start                   the process (server/lab.py)
    POST    /_/lab/nodes/N/disk       {"sync_delay_s": 0.2}             0 for a disk like any other
    POST    /_/lab/nodes/N/compact, campaign, step_down                 the node is told (server/lab_node.py)
    POST    /_/lab/leader/N                                             once that node leads

Every answer of 200 is what `GET /_/lab` says after it. A call is refused with one sentence, and then nothing was done:
400 for a body that is none of these, 404 for a node or a path that there isn't, 405, 409 if it can't be done now, 503.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from server.lab import Lab
from server.lab_node import ACTIONS, SYNC_DELAY_S_MAX
from server.request import BadRequest

__all__ = ["ROUTES", "Found", "LabRoute", "find", "perform"]

Body = dict[str, Any]
NODE_DIGITS_MAX = 9


class LabRoute(NamedTuple):
    """A call. In `path`, a word of one capital letter stands for the number of a node.

    fields: of the body, each with what reads it (raises ValueError with the rest of a sentence); those in `optional` may
    be left out.
    """

    method: bytes
    path: bytes
    run: Callable[..., None]  # the lab, the numbers, and the fields by name
    fields: Mapping[str, Callable[[Any], Any]] = {}
    optional: frozenset[str] = frozenset()


class Found(NamedTuple):
    """A route, and the numbers in its path."""

    route: LabRoute
    nodes: list[int]


def _truth(told: Any) -> bool:
    if not isinstance(told, bool):
        raise ValueError("is true or false")
    return told


def _delay_s(told: Any) -> float:
    if type(told) not in (int, float) or not 0 <= told <= SYNC_DELAY_S_MAX:
        raise ValueError(f"is a number of seconds from 0 to {SYNC_DELAY_S_MAX:g}")
    return float(told)


def _nothing(lab: Lab) -> None:
    """GET /_/lab changes nothing."""


def _cut(lab: Lab, a: int, b: int, cut: bool, one_way: bool = False) -> None:
    lab.cut(a, b, cut, one_way)


def _action(name: str) -> Callable[[Lab, int], None]:
    return lambda lab, node_id: lab.do(node_id, name)


ROUTES = (
    LabRoute(b"GET", b"/_/lab", _nothing),
    LabRoute(b"POST", b"/_/lab/links/A/B", _cut, {"cut": _truth, "one_way": _truth}, frozenset(["one_way"])),
    LabRoute(b"POST", b"/_/lab/nodes/N/pause", Lab.pause),
    LabRoute(b"POST", b"/_/lab/nodes/N/resume", Lab.resume),
    LabRoute(b"POST", b"/_/lab/nodes/N/kill", Lab.kill),
    LabRoute(b"POST", b"/_/lab/nodes/N/start", Lab.start),
    LabRoute(b"POST", b"/_/lab/nodes/N/disk", Lab.slow_disk, {"sync_delay_s": _delay_s}),
    *(LabRoute(b"POST", b"/_/lab/nodes/N/%b" % name.encode(), _action(name)) for name in ACTIONS),
    LabRoute(b"POST", b"/_/lab/leader/N", Lab.transfer),
)


def find(method: bytes, target: bytes) -> Found:
    """The call of a request line. Raises BadRequest: 404, 405."""
    words = target.split(b"/")
    matching = [route for route in ROUTES if _matches(route.path.split(b"/"), words)]
    if not matching:
        raise BadRequest(404, "The lab has no such path: server/lab_routes.py has those that there are.")
    for route in matching:
        if route.method == method:
            return Found(route, [int(word) for word in words if word.isdigit()])
    allowed = b", ".join(route.method for route in matching)
    raise BadRequest(405, f"The method of this path is {allowed.decode()}.", b"Allow: %b\r\n" % allowed)


def _matches(pattern: list[bytes], words: list[bytes]) -> bool:
    return len(pattern) == len(words) and all(
        word.isdigit() and len(word) <= NODE_DIGITS_MAX if expected.isupper() else word == expected
        for expected, word in zip(pattern, words)
    )


def perform(lab: Lab, found: Found, body: bytes) -> bytes:
    """Does it, and returns the lab's state after it as JSON. Raises BadRequest."""
    found.route.run(lab, *found.nodes, **_fields(found.route, body))
    return json.dumps(lab.state()).encode() + b"\n"


def _fields(route: LabRoute, body: bytes) -> Body:
    if not route.fields:
        if body:
            raise BadRequest(400, "This call takes no body.")
        return {}
    known = ", ".join(route.fields)
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if (
        not isinstance(told, dict)
        or told.keys() - route.fields.keys()
        or route.fields.keys() - told.keys() - route.optional
    ):
        raise BadRequest(400, f"The body of this call is a JSON object with: {known}.")
    read = {}
    for name, value in told.items():
        try:
            read[name] = route.fields[name](value)
        except ValueError as error:
            raise BadRequest(400, f"In the body of this call, {name} {error}.") from None
    return read
