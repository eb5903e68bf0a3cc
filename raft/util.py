"""Small rules that several files share: cutting a run of entries at a size, what must be synced, what may be sent early.

A driver writes a `Ready` to disk before it sends its messages, with one exception that saves the leader a disk write of
latency (Ongaro's thesis, section 10.2.1): a leader may send its entries to the followers while it writes them itself,
because its own write is counted for the commit only after the driver has said `advance`.
`may_send_before_sync` names the messages that promise nothing about the sender's disk:

    MsgApp, MsgSnap, MsgHeartbeat       the sender is the leader of its term, which was durable before it asked for votes
    MsgProp, MsgReadIndex               a request passed on
    MsgReadIndexResp                    an index that a quorum has
    all others                          only after the sync: MsgVote and MsgVoteResp promise a vote, MsgAppResp promises
                                        entries, MsgHeartbeatResp the term

Follows etcd-io/raft: util.go and rawnode.go (MustSync).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from raft.raftpb import (
    MSG_APP,
    MSG_HEARTBEAT,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    Entry,
    HardState,
    Message,
)

__all__ = [
    "LOCAL_APPEND_THREAD",
    "LOCAL_APPLY_THREAD",
    "NONE",
    "NO_LIMIT",
    "Logger",
    "entries_size",
    "may_send_before_sync",
    "must_sync",
    "payloads_size",
    "take_within",
]

NONE: Final = 0
"""The id of no node: no leader, no vote."""

NO_LIMIT: Final = (1 << 64) - 1

LOCAL_APPEND_THREAD: Final = (1 << 64) - 1
"""The id that stands for this node's own log writer, in messages of asynchronous storage writes."""

LOCAL_APPLY_THREAD: Final = (1 << 64) - 2
"""The same for what applies committed entries."""

_EARLY: Final = frozenset((MSG_PROP, MSG_APP, MSG_SNAP, MSG_HEARTBEAT, MSG_READ_INDEX, MSG_READ_INDEX_RESP))


class Logger(Protocol):
    """What `Config.logger` has to offer; a `logging.Logger` does. The text is only made if somebody wants to see it."""

    def debug(self, template: str, /, *args: Any) -> None: ...
    def info(self, template: str, /, *args: Any) -> None: ...
    def warning(self, template: str, /, *args: Any) -> None: ...
    def error(self, template: str, /, *args: Any) -> None: ...


def entries_size(entries: Sequence[Entry]) -> int:
    """Encoded bytes of all entries together. O(n)."""
    return sum([17 + len(entry.data) for entry in entries])


def payloads_size(entries: Sequence[Entry]) -> int:
    """Bytes of data in all entries together: an empty entry counts nothing. O(n)."""
    return sum([len(entry.data) for entry in entries])


def take_within(entries: list[Entry], start: int, stop: int, max_size_bytes: int) -> tuple[list[Entry], int]:
    """The entries from `start` on, to `stop` at most, that fit into max_size_bytes; and the bytes of data in them.

    One entry is always let through, or an entry larger than the limit would stop replication for ever.
    O(entries returned): a long log isn't copied to send a little of it. Requires: start < stop.
    """
    stop = min(stop, start + 1 + max_size_bytes // 17)  # more don't fit, however small they are
    end = min(stop, start + 64)
    taken = entries[start:end]
    payload_bytes = sum([len(entry.data) for entry in taken])
    while payload_bytes + 17 * len(taken) <= max_size_bytes:
        if end == stop:
            return taken, payload_bytes
        more = entries[end : min(stop, end + 4 * len(taken))]
        end += len(more)
        taken += more
        payload_bytes += sum([len(entry.data) for entry in more])
    while len(taken) > 1 and payload_bytes + 17 * len(taken) > max_size_bytes:
        payload_bytes -= len(taken.pop().data)
    return taken, payload_bytes


def must_sync(state: HardState, previous: HardState, entry_count: int) -> bool:
    """Whether a Ready has to be on disk before its messages leave and before `advance`.

    Figure 2 of the paper: currentTerm, votedFor and the log are persistent state; a vote that a crash takes back is
    given a second time (PySyncObj#84, #202). The commit index isn't: after a crash it is learned again, so a Ready that
    only raises it needs no fsync, and its hard state rides with the next write.
    """
    return entry_count > 0 or state.vote != previous.vote or state.term != previous.term


def may_send_before_sync(message: Message) -> bool:
    """Whether a driver may send this message of a Ready before the Ready is on disk (see above)."""
    return message.type in _EARLY
