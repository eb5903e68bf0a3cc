"""A watch within the server: its reader waits in a thread, may be slow, and is told what was compacted."""

import contextlib
import threading

import pytest

from server.mvcc import Compacted
from server.v3 import subscription
from server.v3.subscription import Subscription
from server.v3.watch_hub import Block, WatchHub
from tests.server.v3.watch_world import World, entry_of


@pytest.fixture
def world():
    with contextlib.closing(World()) as world:
        world.hub = WatchHub(world.views, world.revision, world.calls.append)
        yield world


def put(world, *keys):
    world.hub.applied(world.write(entry_of([(key, b"1") for key in keys])))


def test_it_gets_what_comes_after_it_was_made_although_it_is_registered_later(world):
    put(world, b"a")
    watched = Subscription(world.hub, world.calls.append, b"a", None, 0)
    put(world, b"a")
    put(world, b"b")
    world.drain()
    put(world, b"a")
    world.drain()
    assert [[change.main for change in watched.next(0)] for _ in range(2)] == [[3], [5]]
    assert watched.next(0) is None
    watched.close()
    world.drain()
    assert world.hub.metrics()["watchers"] == 0
    assert watched.next(10) is None, "who waits is told at once"


def test_a_slow_reader_reads_the_history(world, monkeypatch):
    monkeypatch.setattr(subscription, "QUEUED_MAX", 4)
    watched = Subscription(world.hub, world.calls.append, b"a", b"b", 2)
    for _ in range(20):
        put(world, b"a", b"aa")
        world.drain()
    assert watched.full and world.hub.metrics()["watchers_unsynced"] == 1
    assert sum(map(len, watched._queued)) == 4, "the rest is in the history only"
    seen = []
    while changes := watched.next(0):
        seen += changes
        world.drain()
    assert seen == world.all


@pytest.mark.parametrize("what", ["deliver", "compacted", "close"])
def test_who_waits_is_woken(world, what):
    watched, told = Subscription(world.hub, world.calls.append, b"a", None, 0), []

    def read():
        try:
            told.append(watched.next(600))
        except Compacted as error:
            told.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    if what == "close":
        watched.close()
    elif what == "deliver":
        watched.deliver(watched, Block([], 2))
    else:
        watched.compacted(watched, 2)
    reader.join(30)
    assert not reader.is_alive() and len(told) == 1


def test_it_says_what_was_compacted(world):
    put(world, b"a"), put(world, b"a")
    world.write(lambda writes: writes.compact(3))
    watched = Subscription(world.hub, world.calls.append, b"a", None, 2)
    world.drain()
    with pytest.raises(Compacted):
        watched.next(0)
