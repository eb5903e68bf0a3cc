"""The parts of a frame, made of what the node's thread and the taps have handed over. server/feed.py has the whole frame.

All of this is pure, and runs in the feed's thread: what it is given doesn't change any more.
"""

from __future__ import annotations

import contextlib
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from raft.raftpb import Entry, Message
from server.address_book import CONF_CHANGES
from server.feed_taps import Asked, Interval, Span, Taps
from server.request import BadRequest, percent_decode
from server.statemachine import kind_of_proposal
from server.watched import View

__all__ = ["EntryKinds", "messages_part", "nothing_sent", "raft_part", "requests_part"]

KEY_CHARACTERS_MAX = 40
KINDS_KEPT = 256
_INDEX = re.compile(rb"X-Metcd-Index: ([0-9]{1,19})\r\n")


class EntryKinds:
    """What entries are, in a word; remembered for the newest, which are shown again and again."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, int], str] = OrderedDict()

    def of(self, entry: Entry) -> str:
        """ "put", "delete", "batch", "request", "session", "mark", "change", "empty"; "unreadable" for what no node of ours proposed."""
        place = entry.index, entry.term
        kind = self._known.get(place)
        if kind is None:
            kind = self._known[place] = _kind_of(entry)
            if len(self._known) > KINDS_KEPT:
                self._known.popitem(last=False)
        return kind


def _kind_of(entry: Entry) -> str:
    if entry.type in CONF_CHANGES:
        return "change"
    return kind_of_proposal(entry.data) if entry.data else "empty"


def raft_part(view: View, kinds: EntryKinds) -> dict[str, Any]:
    """The frame's "raft"."""
    status = view.status
    conf_state = status.conf_state
    members = dict.fromkeys((*conf_state.voters, *conf_state.voters_outgoing), "voter")
    members |= {node: "learner" for node in (*conf_state.learners, *conf_state.learners_next) if node not in members}
    return {
        "role": status.raft_state.name.lower().replace("_", "-"),
        "term": status.term,
        "leader": status.lead,
        "vote": status.vote,
        "commit": status.commit,
        "applied": view.applied,
        "first": view.first,
        "last": status.last_index,
        "snapshot_index": view.snapshot_index,
        "installing": view.installing,
        "members": {str(node): kind for node, kind in sorted(members.items())},
        "progress": {
            str(node): {
                "match": peer.match,
                "next": peer.next,
                "state": peer.state.name.lower(),
                "active": peer.recent_active,
                "inflight": peer.inflight,
            }
            for node, peer in status.progress.items()
            if node != status.id
        },
        "log": [[entry.index, entry.term, kinds.of(entry), len(entry.data)] for entry in view.entries],
    }


def messages_part(interval: Interval) -> dict[str, Any]:
    """The frame's "messages"."""
    return {
        "sent": [_shown(message, message.to) for message in interval.sent],
        "received": [_shown(message, message.from_) for message in interval.received],
        "dropped": interval.dropped,
        "counts": {
            **{f"{kind}>{node}": count for (kind, node), count in interval.sent_types.items()},
            **{f"{kind}<{node}": count for (kind, node), count in interval.received_types.items()},
        },
    }


def _shown(message: Message, peer: int) -> list[Any]:
    return [str(message.type), peer, message.term, message.index, len(message.entries)]


def nothing_sent(messages: dict[str, Any]) -> bool:
    """True for a "messages" of an interval in which there were none."""
    return not messages["counts"] and not messages["dropped"]


def requests_part(interval: Interval, taps: Taps) -> list[list[Any]]:
    """The frame's "requests": each with where its time went, if it is a write whose entry is known."""
    persisting, applying = list(taps.persisting), list(taps.applying)
    return [
        [
            asked.method.decode(),
            _key(asked.target),
            asked.status,
            _ms(asked.seconds),
            _phases(asked, persisting, applying),
        ]
        for asked in interval.asked
    ]


def _key(target: bytes) -> str:
    """The path as people read it: the key, or for what isn't one the whole path; cut."""
    path = target.partition(b"?")[0]
    with contextlib.suppress(BadRequest):
        path = path if path.startswith(b"/_/") else percent_decode(path[1:])
    return path.decode("utf-8", "backslashreplace")[:KEY_CHARACTERS_MAX]


def _phases(asked: Asked, persisting: Sequence[Span], applying: Sequence[Span]) -> dict[str, float]:
    """Where the time of a write went, in milliseconds; {} for what has no entry, or one that isn't known any more.

    queue: until this node begins to write the entry to its log; persist: until it is on disk here; replicate: until the
    committed entry is applied; apply: in the engine; answer: the rest. On a follower the way to the leader is in queue.
    """
    found = _INDEX.search(asked.headers)
    index = int(found[1]) if found is not None else 0
    persisted, applied = _span(persisting, index), _span(applying, index)
    if persisted is None or applied is None:
        return {}
    moments = [asked.at - asked.seconds, persisted.begun, persisted.ended, applied.begun, applied.ended, asked.at]
    for at in range(
        1, len(moments)
    ):  # a majority may have it before this disk does; the clocks are read a moment apart
        moments[at] = min(max(moments[at], moments[at - 1]), asked.at)
    names = ("queue", "persist", "replicate", "apply", "answer")
    return {name: _ms(after - before) for name, before, after in zip(names, moments, moments[1:])}


def _span(spans: Iterable[Span], index: int) -> Span | None:
    """The newest that has the index: an entry that was overwritten has an older one."""
    return next((span for span in reversed(list(spans)) if span.first <= index <= span.last), None)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
