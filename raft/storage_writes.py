"""Asynchronous storage writes: what is to be written and applied leaves as messages, and their answers come back as such.

With `Config.async_storage_writes` a driver needn't wait for one Ready's write before it takes the next:

    ready.messages   MsgStorageAppend ──► append thread: write entries, hard state, snapshot; sync ──► its `responses`
                     MsgStorageApply  ──► apply thread: apply the entries                          ──► its `responses`
                     all others       ──► the network, at once

Each of the two threads does its messages in order, and then delivers their responses: those to this node through
`RawNode.step`, those to others over the network. There is no `advance`.

    MsgStorageAppend   responses: the votes and acknowledgements that promise what it writes, this node's own among them,
                       and MsgStorageAppendResp if there are entries or a snapshot. Without responses it need not be synced.
    MsgStorageApply    responses: MsgStorageApplyResp

A snapshot may be installed while older entries wait for the apply thread. It passes over those that the snapshot has, and
over their membership changes.

Invariants
 1. An answer is delivered only after everything that it depends on is durable: it rides with the message that writes
    the last of it, and the thread keeps the order.
 2. MsgStorageAppendResp names the last entry of the whole log, and the term of the node when it was made. In a later
    term it is ignored: a later leader's entries may have replaced those, and may be on their way to the disk, although
    the ones that it names are in the log again (the ABA problem; rabbitmq/ra#637). A new term is always written, so
    another such answer follows, also if no entry is.
 3. Its own answer comes after the acknowledgements: they look up terms in the unstable part that it cuts away.

Follows etcd-io/raft: rawnode.go (newStorageAppendMsg and its neighbours), doc.go.
"""

from __future__ import annotations

from raft.core import Core
from raft.raftpb import (
    MSG_STORAGE_APPEND,
    MSG_STORAGE_APPEND_RESP,
    MSG_STORAGE_APPLY,
    MSG_STORAGE_APPLY_RESP,
    Entry,
    HardState,
    Message,
    Snapshot,
)
from raft.util import LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD

__all__ = ["append_message", "append_response", "apply_message", "apply_response"]


def append_message(
    r: Core, entries: list[Entry], hard_state: HardState | None, snapshot: Snapshot | None
) -> Message | None:
    """What the append thread has to write, and to deliver then; None if there is nothing."""
    promises = r.messages_after_append
    if not entries and hard_state is None and snapshot is None and not promises:
        return None
    message = Message(MSG_STORAGE_APPEND, to=LOCAL_APPEND_THREAD, from_=r.id, entries=entries, snapshot=snapshot)
    if hard_state is not None:
        message.term, message.vote, message.commit = hard_state.term, hard_state.vote, hard_state.commit
    response = append_response(r, snapshot)
    message.responses = promises if response is None else [*promises, response]
    return message


def append_response(r: Core, snapshot: Snapshot | None) -> Message | None:
    """What this node has to be told when all that it has handed out is written; None if nothing waits for it.

    All unstable entries, not only those of this Ready: an earlier answer may have been ignored (invariant 2).
    """
    unstable = r.log.unstable
    if not unstable.entries and snapshot is None:
        return None
    response = Message(MSG_STORAGE_APPEND_RESP, to=r.id, from_=LOCAL_APPEND_THREAD, term=r.term, snapshot=snapshot)
    if unstable.entries:
        last = unstable.entries[-1]
        response.index, response.log_term = last.index, last.term
    return response


def apply_message(r: Core, entries: list[Entry]) -> Message:
    """What the apply thread has to apply."""
    return Message(
        MSG_STORAGE_APPLY, to=LOCAL_APPLY_THREAD, from_=r.id, entries=entries, responses=[apply_response(r, entries)]
    )


def apply_response(r: Core, entries: list[Entry]) -> Message:
    """What this node has to be told when these entries are applied. It has no term: what is committed stays so."""
    return Message(MSG_STORAGE_APPLY_RESP, to=r.id, from_=LOCAL_APPLY_THREAD, entries=entries)
