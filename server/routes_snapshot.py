"""The route of a whole state: `GET /_/snapshot`.

    GET     /_/snapshot   ?consistency=linearizable|lease|stale     200 and a snapshot file (server/snapshot.py),
                                                                    with X-Metcd-Index and X-Metcd-Term

Its length isn't known when it begins. What has come whole ends with a trailer: `metcd snapshot save` looks at it.
"""

from __future__ import annotations

from server.answers import OCTETS, Answer, Options, Serving

__all__ = ["answer_snapshot"]


def answer_snapshot(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """The state applied here, after a barrier, so that it has every write that was answered before the call.

    Raises what the barrier raises, and Overloaded while too many are read already.
    """
    server.node.read_barrier(options.get("consistency", "linearizable"))
    metadata, blocks = server.node.snapshot_stream()
    fields = b"X-Metcd-Index: %d\r\nX-Metcd-Term: %d\r\n" % (metadata.index, metadata.term)
    return Answer(200, blocks, OCTETS + fields)
