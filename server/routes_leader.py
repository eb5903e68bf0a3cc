"""The route that hands over the leadership.

POST    /_/leader/<id>      200 {"leader": 3, "term": 8} once that node leads; 404 if it has no vote; 503 if it didn't
                            come to that in time: then another one leads, or nobody does
"""

from __future__ import annotations

from server.answers import JSON, Answer, Options, Serving, error_answer
from server.errors import NotAVoter
from server.request import BadRequest

__all__ = ["hand_over"]


def hand_over(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """POST /_/leader/<id>, from any node. key: the id."""
    if not key.isdigit() or len(key) > 19:
        raise BadRequest(400, "The path is /_/leader/ and the number of the node that is to lead.")
    try:
        term = server.node.transfer(int(key))
    except NotAVoter as error:
        return error_answer(404, str(error), b"X-Metcd-Error: NotAVoter\r\n")
    return Answer(200, b'{"leader": %d, "term": %d}\n' % (int(key), term), JSON)
