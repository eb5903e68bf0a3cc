"""What goes to one peer: what waits, what is dropped and told, and what happens while the peer is away."""

import threading

from raft.raftpb import MSG_APP, Entry, Message
from server import peer_sender as peer_sender_module
from server.listener import hang_up
from tests.server.fake_node import FakeLoop
from tests.server.inbox import Inbox
from tests.server.local_nodes import eventually
from tests.server.transports import PATIENCE_S, heartbeat, transport_of


def test_a_peer_that_is_away_is_reported_and_found_again(peers, form):
    """The messages that surely were not sent are named, so that their proposals can be answered."""
    inbox = Inbox()
    one = transport_of(1, peers, inbox, form)
    one.start()
    try:
        lost = heartbeat(1)
        one.send([lost])
        assert inbox.losses.get(timeout=PATIENCE_S) == (2, [lost])
        other = Inbox()
        two = transport_of(2, peers, other, form)
        two.start()
        try:
            one.send([heartbeat(2)])
            assert other.messages.get(timeout=PATIENCE_S).commit == 2
        finally:
            two.stop()
    finally:
        one.stop()


def test_what_is_sent_first_after_a_peer_was_started_again_arrives(peers, form, monkeypatch):
    """The old stream took it without an error, and it was lost: a client's write, in the first term of a new leader."""
    monkeypatch.setattr(peer_sender_module, "STREAM_IDLE_S", 0.0)
    inbox = Inbox()
    one = transport_of(1, peers, inbox, form)
    one.start()
    try:
        for number in range(1, 4):
            other = Inbox()
            two = transport_of(2, peers, other, form)
            two.start()
            try:
                one.send([heartbeat(number)])
                assert other.messages.get(timeout=PATIENCE_S).commit == number
            finally:
                two.stop()
        assert inbox.losses.empty()
    finally:
        one.stop()


def test_a_full_queue_drops_what_is_new_and_says_so(peers, monkeypatch):
    """A drop that nobody hears of stalls replication (etcd#9884)."""
    monkeypatch.setattr(peer_sender_module, "PEER_QUEUE_MESSAGES_MAX", 3)
    inbox = Inbox()
    one = transport_of(1, peers, inbox)  # not started: nothing leaves the queue
    messages = [heartbeat(number) for number in range(5)]
    one.send(messages)
    assert [inbox.losses.get(timeout=0) for _ in range(2)] == [(2, [messages[3]]), (2, [messages[4]])]
    assert inbox.losses.empty()
    one.stop()


def test_a_queue_is_bounded_in_bytes(peers, monkeypatch):
    """4096 messages of a mebibyte each would be four gibibytes, for a follower that is merely slow."""
    monkeypatch.setattr(peer_sender_module, "PEER_QUEUE_BYTES_MAX", 1000)
    inbox = Inbox()
    one = transport_of(1, peers, inbox)  # not started: nothing leaves the queue
    large = Message(MSG_APP, to=2, from_=1, term=1, entries=[Entry(1, 1, data=b"x" * 2000)])
    one.send([large, large])
    assert inbox.losses.get(timeout=0) == (2, [large])
    assert inbox.losses.empty()  # one message fits always
    one.stop()


def test_what_was_queued_by_bytes_is_free_again_when_it_is_sent(monkeypatch, pair):
    monkeypatch.setattr(peer_sender_module, "PEER_QUEUE_BYTES_MAX", 1000)
    transports, inboxes = pair
    for index in range(1, 6):
        entry = Entry(1, index, data=b"x" * 900)
        transports[1].send([Message(MSG_APP, to=2, from_=1, term=1, index=index - 1, entries=[entry])])
        assert inboxes[2].messages.get(timeout=PATIENCE_S).entries[0].index == index
    assert inboxes[1].losses.empty()


def test_who_sends_writes_to_the_stream_itself_and_the_thread_takes_over_what_does_not_fit(peers):
    """The fast form (`_write`): one order, whoever writes; nothing is lost while the pipe is full."""
    loop = FakeLoop()
    inboxes = {1: Inbox(), 2: Inbox()}
    one, two = (transport_of(node_id, peers, inboxes[node_id], loop) for node_id in peers)
    one.start()
    two.start()
    try:
        one.send([heartbeat(0)])
        assert inboxes[2].messages.get(timeout=PATIENCE_S).commit == 0
        sender = one._senders[2]
        eventually("the thread has given the stream back", lambda: sender._open is not None)
        hangs, back = threading.Event(), threading.Event()
        loop.call(lambda: (hangs.set(), back.wait(PATIENCE_S)))  # nobody reads the stream meanwhile
        assert hangs.wait(PATIENCE_S)
        large = [Entry(1, 1, data=bytes(1 << 20))]
        sent = [Message(MSG_APP, to=2, from_=1, term=1, index=number, entries=large) for number in range(12)]
        sent += [heartbeat(number) for number in range(1, 2000)]
        for message in sent:
            message.entries = [Entry(1, message.index + 1, data=entry.data) for entry in message.entries]
            one.send([message])
        assert sender._open is None
        back.set()
        assert [inboxes[2].messages.get(timeout=PATIENCE_S) for _ in sent] == sent
        assert inboxes[1].losses.empty()
        eventually("the thread has given the stream back", lambda: sender._open is not None)
    finally:
        one.stop()
        two.stop()
        loop.end()


def test_a_stream_that_breaks_while_who_sends_writes_to_it_is_reported_and_opened_again(peers):
    loop = FakeLoop()
    inboxes = {1: Inbox(), 2: Inbox()}
    one, two = (transport_of(node_id, peers, inboxes[node_id], loop) for node_id in peers)
    one.start()
    two.start()
    try:
        one.send([heartbeat(0)])
        assert inboxes[2].messages.get(timeout=PATIENCE_S).commit == 0
        sender = one._senders[2]
        eventually("the thread has given the stream back", lambda: sender._open is not None)
        hang_up(sender._socket)
        one.send([heartbeat(1)])
        assert inboxes[1].losses.get(timeout=PATIENCE_S) == (2, [])  # whether it was sent nobody knows
        one.send([heartbeat(2)])
        assert inboxes[2].messages.get(timeout=PATIENCE_S).commit == 2
    finally:
        one.stop()
        two.stop()
        loop.end()
