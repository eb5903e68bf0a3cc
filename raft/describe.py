"""Raft's values as text, in the format of etcd-io/raft: for logs, for people, and for scripts that are compared by bytes.

    entry         2/7 EntryNormal "x=1"                    term/index, kind, data quoted as Go does
                  2/8 EntryConfChangeV2 v4 r1              v voter, l learner, r remove, u update
    message       1->2 MsgApp Term:2 Log:2/6 Commit:5 Entries:[2/7 EntryNormal "x=1"]
    hard state    Term:2 Vote:1 Commit:5
    Ready         Ready MustSync=true:                     then a line or a list for each part that is there
    progress      2: StateReplicate match=6 next=8 inflight=1

A zero that says nothing is left out: no `Commit:0`, no `Vote:0`. Ids are hexadecimal in messages, as in etcd's log.

Follows etcd-io/raft: util.go (Describe…), quorum/majority.go (Describe) and raftpb/confchange.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from raft.errors import DecodeError
from raft.kinds import ConfChangeType, EntryType
from raft.quorum import INFINITE_INDEX
from raft.raftpb import ConfChange, ConfChangeSingle, ConfChangeV2, ConfState, Entry, HardState, Message, Snapshot
from raft.rawnode import Ready
from raft.state import ReadState, SoftState
from raft.tracker import Progress
from raft.util import LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, NONE

__all__ = [
    "conf_changes_from_text",
    "describe_acknowledged",
    "describe_conf_changes",
    "describe_conf_state",
    "describe_entries",
    "describe_entry",
    "describe_hard_state",
    "describe_index",
    "describe_message",
    "describe_progress",
    "describe_ready",
    "describe_snapshot",
    "describe_soft_state",
    "quote",
]

_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}

_CHANGE_LETTERS: Final = {
    "v": ConfChangeType.ADD_NODE,
    "l": ConfChangeType.ADD_LEARNER_NODE,
    "r": ConfChangeType.REMOVE_NODE,
    "u": ConfChangeType.UPDATE_NODE,
}
_LETTERS: Final = {kind: letter for letter, kind in _CHANGE_LETTERS.items()}


def quote(data: bytes) -> str:
    """The bytes as a quoted Go string (`%q`): what is UTF-8 and printable as it is, the rest escaped."""
    return '"' + "".join(map(_escape, data.decode("utf-8", "surrogateescape"))) + '"'


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable():
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _ids(ids: Iterable[int]) -> str:
    return "[" + " ".join(map(str, ids)) + "]"


def _yes(flag: bool) -> str:
    return "true" if flag else "false"


def _target(node_id: int) -> str:
    names = {NONE: "None", LOCAL_APPEND_THREAD: "AppendThread", LOCAL_APPLY_THREAD: "ApplyThread"}
    return names.get(node_id, f"{node_id:x}")


# Membership changes: `v1 l2 r3 u4`.


def describe_conf_changes(changes: Iterable[ConfChangeSingle]) -> str:
    """The changes in one line, as `conf_changes_from_text` reads them."""
    return " ".join(f"{_LETTERS[change.type]}{change.node_id}" for change in changes)


def conf_changes_from_text(text: str) -> tuple[ConfChangeSingle, ...]:
    """Reads `v1 l2 r3 u4`. Raises `ValueError` with a sentence that names the word which is no change."""
    changes = []
    for word in text.split():
        kind = _CHANGE_LETTERS.get(word[0])
        if kind is None:
            raise ValueError(f"unknown input: {word}")
        if not (word[1:].isascii() and word[1:].isdigit()):
            raise ValueError(f"{word!r} is no membership change: a letter of v, l, r, u and a node's number is one")
        changes.append(ConfChangeSingle(kind, int(word[1:])))
    return tuple(changes)


# Entries, messages and states.


def describe_entry(entry: Entry) -> str:
    """One entry in one line. Data that should be a membership change and isn't becomes the reason."""
    if entry.type == EntryType.NORMAL:
        text = quote(entry.data)
    else:
        decoder = ConfChange.decode if entry.type == EntryType.CONF_CHANGE else ConfChangeV2.decode
        try:
            text = describe_conf_changes(decoder(entry.data).as_v2().changes)
        except DecodeError as error:
            text = str(error)
    return f"{entry.term}/{entry.index} {entry.type}" + (f" {text}" if text else "")


def describe_entries(entries: Sequence[Entry]) -> str:
    """One line for each."""
    return "".join(describe_entry(entry) + "\n" for entry in entries)


def describe_conf_state(state: ConfState) -> str:
    """Who takes part, in one line."""
    return (
        f"Voters:{_ids(state.voters)} VotersOutgoing:{_ids(state.voters_outgoing)} Learners:{_ids(state.learners)} "
        f"LearnersNext:{_ids(state.learners_next)} AutoLeave:{_yes(state.auto_leave)}"
    )


def describe_snapshot(snapshot: Snapshot) -> str:
    """Its metadata in one line; its data is the application's."""
    metadata = snapshot.metadata
    return f"Index:{metadata.index} Term:{metadata.term} ConfState:{describe_conf_state(metadata.conf_state)}"


def describe_hard_state(state: HardState) -> str:
    """What must not be forgotten, in one line."""
    vote = f" Vote:{state.vote}" if state.vote else ""
    return f"Term:{state.term}{vote} Commit:{state.commit}"


def describe_soft_state(state: SoftState) -> str:
    """Leader and role, in one line."""
    return f"Lead:{state.lead} State:{state.raft_state}"


def _read_states(states: Iterable[ReadState]) -> str:
    return "[" + " ".join(f"{{{state.index} {_ids(state.request_ctx)}}}" for state in states) + "]"


def describe_message(message: Message, indent: str = "") -> str:
    """One line; more if it carries several entries, a snapshot or responses. No newline at the end."""
    text = (
        f"{indent}{_target(message.from_)}->{_target(message.to)} {message.type} Term:{message.term} "
        f"Log:{message.log_term}/{message.index}"
    )
    if message.reject:
        text += f" Rejected (Hint: {message.reject_hint})"
    if message.commit:
        text += f" Commit:{message.commit}"
    if message.vote:
        text += f" Vote:{message.vote}"
    if len(message.entries) == 1:
        text += f" Entries:[{describe_entry(message.entries[0])}]"
    elif message.entries:
        lines = "".join(f"\n{indent}  {describe_entry(entry)}" for entry in message.entries)
        text += f" Entries:[{lines}\n{indent}]"
    if message.snapshot is not None and not message.snapshot.is_empty():
        text += f"\n{indent}  Snapshot: {describe_snapshot(message.snapshot)}"
    if message.responses:
        lines = "".join("\n" + describe_message(response, indent + "  ") for response in message.responses)
        text += f" Responses:[{lines}\n{indent}]"
    return text


def describe_ready(ready: Ready) -> str:
    """All that a Ready asks for, in the order in which etcd prints it. Ends with a newline unless it is empty."""
    text = ""
    if ready.soft_state is not None:
        text += describe_soft_state(ready.soft_state) + "\n"
    if ready.hard_state is not None and not ready.hard_state.is_empty():
        text += f"HardState {describe_hard_state(ready.hard_state)}\n"
    if ready.read_states:
        text += f"ReadStates {_read_states(ready.read_states)}\n"
    if ready.entries:
        text += "Entries:\n" + describe_entries(ready.entries)
    if ready.snapshot is not None and not ready.snapshot.is_empty():
        text += f"Snapshot {describe_snapshot(ready.snapshot)}\n"
    if ready.committed_entries:
        text += "CommittedEntries:\n" + describe_entries(ready.committed_entries)
    if ready.messages:
        text += "Messages:\n" + "".join(describe_message(message) + "\n" for message in ready.messages)
    return f"Ready MustSync={_yes(ready.must_sync)}:\n{text}" if text else "<empty Ready>"


# What a leader knows of the others.


def describe_progress(progress: Mapping[int, Progress]) -> str:
    """One line for each node, ascending."""
    return "".join(f"{node_id}: {progress[node_id]}\n" for node_id in sorted(progress))


def describe_index(index: int) -> str:
    """A log index; that of a quorum without voters, which agrees to everything, is ∞."""
    return "∞" if index == INFINITE_INDEX else str(index)


def describe_acknowledged(ids: Sequence[int], acknowledged: Mapping[int, int]) -> str:
    """A picture of a majority: what each voter has acknowledged, with a longer bar the more others it is ahead of.

    Voters that acknowledged the same have the same bar.
    """
    if not ids:
        return "<empty majority quorum>"
    count = len(ids)
    ascending = sorted(ids, key=lambda node_id: (acknowledged.get(node_id, 0), node_id))
    bars = {ascending[0]: 0}
    for place in range(1, count):
        lower, node_id = ascending[place - 1], ascending[place]
        ahead = acknowledged.get(node_id, 0) > acknowledged.get(lower, 0)
        bars[node_id] = place if ahead else bars[lower]
    lines = [" " * count + "    idx\n"]
    for node_id in sorted(ids):
        bar = bars[node_id]
        picture = "x" * bar + ">" + " " * (count - bar) if node_id in acknowledged else "?" + " " * count
        lines.append(f"{picture} {acknowledged.get(node_id, 0):5d}    (id={node_id})\n")
    return "".join(lines)
