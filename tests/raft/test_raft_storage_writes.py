"""Asynchronous storage writes (raft/storage_writes.py): what the two threads are told, and when they may answer."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from raft import Config, ConfState, MemoryStorage, Message, RaftPanic, RawNode, Ready, StateType, StepLocalMsgError
from raft.kinds import MessageType
from raft.raftpb import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_STORAGE_APPEND,
    MSG_STORAGE_APPEND_RESP,
    MSG_STORAGE_APPLY,
    MSG_STORAGE_APPLY_RESP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    HardState,
)
from raft.util import LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD
from tests.raft.nodes import entries, of_type


def make_node(node_id: int = 1, voters: Sequence[int] = (1,)) -> tuple[RawNode, MemoryStorage]:
    storage = MemoryStorage(ConfState(tuple(voters)))
    rng = random.Random(node_id)
    config = Config(id=node_id, election_tick=10, heartbeat_tick=1, storage=storage, rng=rng, async_storage_writes=True)
    return RawNode(config), storage


def write(storage: MemoryStorage, message: Message) -> list[Message]:
    """The append thread."""
    storage.append(message.entries)
    if message.term or message.vote or message.commit:
        storage.set_hard_state(HardState(message.term, message.vote, message.commit))
    return message.responses


def thread_message(ready: Ready, kind: int) -> Message:
    (message,) = of_type(ready.messages, kind)
    return message


def test_a_leader_alone_commits_when_its_disk_has_answered() -> None:
    """etcd#14370, with writes that overlap."""
    node, storage = make_node()
    node.campaign()
    vote = thread_message(node.ready(), MSG_STORAGE_APPEND)
    assert (vote.to, vote.from_, vote.term, vote.vote) == (LOCAL_APPEND_THREAD, 1, 1, 1)
    assert [m.type for m in vote.responses] == [MSG_VOTE_RESP], "nothing but the hard state is written"
    assert node.role == StateType.CANDIDATE
    for response in write(storage, vote):
        node.step(response)
    assert node.role == StateType.LEADER
    first = thread_message(node.ready(), MSG_STORAGE_APPEND)
    node.propose(b"x")
    second = thread_message(node.ready(), MSG_STORAGE_APPEND)
    assert [[e.index for e in m.entries] for m in (first, second)] == [[1], [2]], "a pipeline of two"
    assert [m.type for m in first.responses] == [MSG_APP_RESP, MSG_STORAGE_APPEND_RESP]
    assert node.commit_index == 0
    for response in write(storage, first):
        node.step(response)
    assert node.commit_index == 1
    ready = node.ready()
    apply = thread_message(ready, MSG_STORAGE_APPLY)
    assert (apply.to, [e.index for e in apply.entries]) == (LOCAL_APPLY_THREAD, [1])
    assert node.status().applied == 0
    for response in apply.responses:
        assert response.type == MSG_STORAGE_APPLY_RESP
        node.step(response)
    assert node.status().applied == 1


def test_what_is_not_stable_is_not_applied() -> None:
    """Nothing orders the two threads, so an application could be ahead of its log after a crash."""
    node, storage = make_node(2, (1, 2, 3))
    node.step(Message(MSG_APP, to=2, from_=1, term=1, entries=entries(1, (1, 1)), commit=2))
    ready = node.ready()
    append = thread_message(ready, MSG_STORAGE_APPEND)
    assert (ready.committed_entries, of_type(ready.messages, MSG_STORAGE_APPLY)) == ([], [])
    assert of_type(ready.messages, MSG_APP_RESP) == [], "the acknowledgement waits with the write"
    for response in write(storage, append):
        if response.to == 2:
            node.step(response)
    assert [e.index for e in thread_message(node.ready(), MSG_STORAGE_APPLY).entries] == [1, 2]


def test_the_answer_of_an_old_term_stabilises_nothing() -> None:
    """The ABA problem: the same entries are in the log again, but others are on their way to the disk."""
    node, storage = make_node(2, (1, 2, 3))
    node.step(Message(MSG_APP, to=2, from_=1, term=1, entries=entries(1, (1, 1))))
    old = thread_message(node.ready(), MSG_STORAGE_APPEND)
    node.step(Message(MSG_APP, to=2, from_=3, term=2, entries=entries(1, (2, 2))))
    replaced = thread_message(node.ready(), MSG_STORAGE_APPEND)
    node.step(Message(MSG_APP, to=2, from_=1, term=3, entries=entries(1, (1, 1))))
    again = thread_message(node.ready(), MSG_STORAGE_APPEND)
    for message in (old, replaced):
        for response in write(storage, message):
            if response.to == 2:
                node.step(response)
        assert node.raft.log.unstable.offset == 1
    for response in write(storage, again):
        if response.to == 2:
            node.step(response)
    assert node.raft.log.unstable.offset == 3
    assert [storage.term(1), storage.term(2)] == [1, 1]


def test_a_new_term_reports_the_entries_whose_answer_was_ignored() -> None:
    node, storage = make_node(2, (1, 2, 3))
    node.step(Message(MSG_APP, to=2, from_=1, term=1, entries=entries(1, (1,))))
    old = thread_message(node.ready(), MSG_STORAGE_APPEND)
    node.step(Message(MSG_APP, to=2, from_=3, term=2))
    new = thread_message(node.ready(), MSG_STORAGE_APPEND)
    assert new.entries == []
    for message in (old, new):
        for response in write(storage, message):
            if response.to == 2:
                node.step(response)
    assert node.raft.log.unstable.entries == []


def test_there_is_no_advance() -> None:
    node, _ = make_node()
    node.campaign()
    node.ready()
    with pytest.raises(RaftPanic, match="async_storage_writes"):
        node.advance()


def test_only_the_own_threads_answer() -> None:
    node, _ = make_node()
    for kind, from_ in ((MSG_STORAGE_APPEND_RESP, 3), (MSG_STORAGE_APPEND, LOCAL_APPEND_THREAD)):
        with pytest.raises(StepLocalMsgError):
            node.step(Message(kind, to=1, from_=from_, term=1))


def test_a_vote_for_another_waits_for_the_write() -> None:
    node, storage = make_node(2, (1, 2, 3))
    node.step(Message(MSG_VOTE, to=2, from_=1, term=1))
    ready = node.ready()
    assert [m.type for m in ready.messages] == [MSG_STORAGE_APPEND]
    answers = write(storage, thread_message(ready, MSG_STORAGE_APPEND))
    assert [(m.type, m.to, m.reject) for m in answers] == [(MSG_VOTE_RESP, 1, False)]
    assert storage.initial_state()[0].vote == 1


def test_a_write_that_promises_nothing_has_no_answer() -> None:
    """A commit index alone, which needs no sync either."""
    node, storage = make_node(2, (1, 2, 3))
    node.step(Message(MSG_APP, to=2, from_=1, term=1, entries=entries(1, (1,))))
    for response in write(storage, thread_message(node.ready(), MSG_STORAGE_APPEND)):
        if response.to == 2:
            node.step(response)
    node.step(Message(MSG_HEARTBEAT, to=2, from_=1, term=1, commit=1))
    ready = node.ready()
    append = thread_message(ready, MSG_STORAGE_APPEND)
    assert (append.commit, append.responses, ready.must_sync) == (1, [], False)


@pytest.mark.parametrize("kind", [MSG_APP_RESP, MSG_VOTE_RESP, MSG_HEARTBEAT, MSG_HEARTBEAT_RESP])
def test_only_a_promise_that_is_kept_comes_from_the_node_itself(kind: MessageType) -> None:
    """The append thread delivers what this node promises itself. A peer that has the wrong id could send anything."""
    node, storage = make_node()
    node.campaign()
    for response in write(storage, thread_message(node.ready(), MSG_STORAGE_APPEND)):
        node.step(response)
    with pytest.raises(StepLocalMsgError, match="from node 1"):
        node.step(Message(kind, to=1, from_=1, term=1, reject=True))
