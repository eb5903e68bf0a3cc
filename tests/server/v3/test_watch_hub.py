"""The hub: no event lost, doubled or reordered, whatever comes between a change and a watcher.

A script of steps, drawn from a seed, on a store in memory: batches of entries are applied, the streams' thread has its turns
(here: calls that wait in a list), sinks are full and have room again, history is compacted, a snapshot jumps over entries that the
hub is never told, clients come at any revision, go, and come back at the one after their last. At the end every client has all changes
of its keys from its first revision on, in their order, each once; or it was told at the right place that they are compacted.
"""

import contextlib
import os
import random
import sys
import threading

import pytest

from server.mvcc_compaction import backlog, step
from server.v3 import watch_hub
from server.v3.watch_hub import Watcher, WatchHub
from server.v3.watch_index import TO_THE_END
from tests.server.v3.watch_world import World, entry_of

SEED = int(os.environ.get("METCD_SEED", "0"))
KEYS = [b"a", b"ab", b"b", b"c"]
RANGES = [(b"a", None), (b"c", None), (b"a", b"b"), (b"a", b"c"), (b"b", TO_THE_END), (b"\0", TO_THE_END)]


class Client:
    """A sink, and what its watcher has seen."""

    def __init__(self, key, stop, start, no_puts, no_deletes, prev_kv, narrow=False):
        self.full = False
        self.narrow = narrow  # full after each block
        self.seen = []
        self.told_compacted = None
        self.start = start
        self.watcher = Watcher(self, key, stop, prev_kv, no_puts, no_deletes)

    def deliver(self, watcher, block):
        assert watcher is self.watcher
        assert not self.full
        assert self.told_compacted is None
        assert block.changes
        assert block.changes[-1].main <= block.revision
        if self.watcher.prev_kv:
            assert len(block.prevs) == len(block.changes)
        self.seen += block.changes
        self.full = self.narrow

    def compacted(self, watcher, revision):
        assert self.told_compacted is None
        self.told_compacted = revision

    def wants(self, change):
        key, stop = self.watcher.key, self.watcher.stop
        inside = change.record.key == key if stop is None else key <= change.record.key < stop
        return inside and not (self.watcher.no_deletes if change.deleted else self.watcher.no_puts)


class Hub(World):
    """A store, its hub and its clients."""

    def __init__(self):
        super().__init__()
        self.clients = []
        self.hub = WatchHub(self.views, self.revision, self.calls.append)

    def begin(self, client):
        self.clients.append(client)
        current = self.hub.watch(client.watcher, client.start)
        client.start = client.start or current + 1

    def check(self, client):
        wanted = [change for change in self.all if change.main >= client.start and client.wants(change)]
        if client.told_compacted is None:
            assert client.seen == wanted
            return
        assert client.told_compacted <= self.state.compacted
        assert client.seen == wanted[: len(client.seen)]
        missed = wanted[len(client.seen) :]
        assert client.start < client.told_compacted or (missed and missed[0].main < client.told_compacted)


WEIGHTS = {
    "apply": 10, "turn": 8, "come": 4, "full": 2, "room": 3, "jump": 1, "compact": 1, "leave": 1, "restart": 2, "drain": 1,
}  # fmt: skip


def drawn(rng):
    """A script of steps."""

    def entry():
        return entry_of(
            [(rng.choice(KEYS), rng.choice([None, b"1", b"2"])) for _ in range(rng.choice([0, 1, 1, 1, 2, 4]))]
        )

    def how(what):
        if what in ("apply", "jump"):
            return [entry() for _ in range(rng.choice([1, 1, 2, 4]))]
        if what == "come":
            flags = [rng.random() < 0.2 for _ in range(4)]
            return rng.choice(RANGES), rng.choice([99, -3, -2, -1, 0, 0, 1, 2, 5, 12]), *flags
        return rng.randrange(10)

    names = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=rng.randrange(100))
    return [(what, how(what)) for what in names]


def play(script):
    with contextlib.closing(Hub()) as world:
        _play(world, script)


def _play(world, script):
    hub = world.hub
    for what, how in script:
        here = world.clients[how % len(world.clients)] if isinstance(how, int) and world.clients else None
        if what == "apply":
            hub.applied(world.write(*how))
        elif what == "jump":  # a snapshot was loaded
            world.write(*how)
            hub.read(world.store)
        elif what == "turn":
            for _ in range(how % 3 + 1):
                world.turn()
        elif what == "drain":
            world.drain()
        elif what == "come":
            (start_key, stop), back, *flags = how
            start = max(1, world.state.revision + 1 - back) if back < 99 else 0
            world.begin(Client(start_key, stop, start, *flags))
        elif what == "compact":
            target = world.state.revision - how
            if target > world.state.compacted:
                world.write(lambda writes: writes.compact(target))  # noqa: B023
            while backlog(world.state):
                world.write(lambda writes: step(writes, 3))
        elif here is None:
            continue
        elif what == "full":
            here.full = True
        elif what == "room":
            here.full = False
            hub.resume(here)
        elif what == "leave":
            hub.cancel(here.watcher)
            world.clients.remove(here)
            assert here.seen == [c for c in world.all if c.main >= here.start and here.wants(c)][: len(here.seen)]
        elif what == "restart" and here.told_compacted is None:
            hub.cancel(here.watcher)
            world.clients.remove(here)
            watcher = here.watcher
            goes_on = here.seen[-1].main + 1 if here.seen else here.start
            again = Client(watcher.key, watcher.stop, goes_on, watcher.no_puts, watcher.no_deletes, watcher.prev_kv)
            again.narrow = here.narrow
            world.begin(again)
            again.start, again.seen = here.start, here.seen
    for client in world.clients:
        client.full = client.narrow = False
        hub.resume(client)
    world.drain()
    for client in world.clients:
        world.check(client)
    revision = hub.progress([client.watcher for client in world.clients if client.told_compacted is None])
    assert revision == world.state.revision
    for client in world.clients:
        hub.cancel(client.watcher)
    assert hub.metrics()["watchers"] == 0
    hub.applied(world.write(entry_of([(b"a", b"3")])))
    assert not world.calls, "nobody watches, and the node's thread is to pay nothing"


@pytest.mark.parametrize("walk", range(4))
def test_every_client_sees_every_change_once_and_in_order(walk):
    for number in range(60):
        _play_seed(f"{SEED} {walk} {number}")


@pytest.mark.parametrize("walk", range(4))
def test_the_same_with_a_deque_and_passes_of_few(walk, monkeypatch):
    rng = random.Random(f"few {SEED} {walk}")
    monkeypatch.setattr(watch_hub, "PENDING_MAX", rng.randrange(1, 6))
    monkeypatch.setattr(watch_hub, "BATCH_REVISIONS", rng.randrange(1, 4))
    monkeypatch.setattr(watch_hub, "PASS_WATCHERS", rng.randrange(1, 4))
    for number in range(60):
        _play_seed(f"few {SEED} {walk} {number}")


def _play_seed(seed):
    try:
        play(drawn(random.Random(seed)))
    except BaseException as error:
        error.add_note(f"the walk of seed {seed!r}; METCD_SEED={SEED}")
        raise


def test_what_a_sink_has_no_room_for_is_read_again():
    with contextlib.closing(Hub()) as world:
        for _ in range(3):
            world.write(entry_of([(b"a", b"1"), (b"b", b"1")]))
        one = Client(b"a", None, 2, False, False, False, narrow=True)
        two = Client(b"b", None, 2, False, False, False)
        two.watcher.sink = one  # two watches of one stream
        seen = []
        one.deliver = lambda watcher, block: (seen.append((watcher, len(block.changes))), setattr(one, "full", True))
        world.begin(one)
        world.begin(two)
        world.drain()
        assert seen == [(one.watcher, 3)]
        one.full = False
        world.hub.resume(one)
        world.drain()
        assert seen == [(one.watcher, 3), (two.watcher, 3)]


def watching(key, start, stop=None, prev_kv=False):
    """A client with room, which wants puts and deletes."""
    return Client(key, stop, start, False, False, prev_kv)


def revisions(client):
    return [change.main for change in client.seen]


def test_a_watch_that_ends_while_its_stream_is_full_takes_no_other_along():
    with contextlib.closing(Hub()) as world:
        one, two = watching(b"a", 0), watching(b"b", 0)
        two.watcher.sink = one  # two watches of one stream
        one.deliver = lambda watcher, block: two.seen.extend(block.changes)
        world.begin(one)
        world.begin(two)
        one.full = True
        world.hub.applied(world.write(entry_of([(b"a", b"1"), (b"b", b"1")])))
        world.drain()
        assert world.hub.metrics()["watchers_unsynced"] == 2
        world.hub.cancel(one.watcher)
        one.full = False
        world.hub.resume(one)
        world.drain()
        assert [change.record.key for change in two.seen] == [b"b"]
        assert world.hub.metrics()["watchers_unsynced"] == 0
        one.full = True
        world.hub.applied(world.write(entry_of([(b"b", b"2")])))
        world.drain()
        world.hub.cancel(two.watcher)
        assert not world.hub._parked, "of a stream without watches nothing is kept"


def test_a_stream_that_becomes_full_takes_nothing_from_another_that_watches_the_same_key():
    with contextlib.closing(Hub()) as world:
        world.write(entry_of([(b"a", b"1")]))
        narrow = Client(b"a", None, 2, False, False, False, narrow=True)
        second, other = watching(b"a", 2), watching(b"a", 2)
        second.watcher.sink = narrow
        narrow.deliver = lambda watcher, block: (narrow.seen.extend(block.changes), setattr(narrow, "full", True))
        for client in (narrow, second, other):
            world.begin(client)
        world.drain()
        assert (revisions(narrow), revisions(other)) == ([2], [2])
        narrow.full = False
        world.hub.resume(narrow)
        world.drain()
        assert (revisions(narrow), revisions(other)) == ([2, 2], [2]), "each watch of the stream has its own"


def test_progress_is_not_ahead_of_a_change_that_the_hub_has_not_been_told_of():
    """The node's thread has set the revision, and comes to the hub a moment later."""
    with contextlib.closing(Hub()) as world:
        client = watching(b"a", 0)
        world.begin(client)
        changes = world.write(entry_of([(b"a", b"1")]))
        assert world.revision() == 2
        assert world.hub.progress([client.watcher]) == 1
        world.hub.applied(changes)
        assert world.hub.progress([client.watcher]) == 2
        assert revisions(client) == [2]


def test_who_is_past_a_part_of_the_history_holds_up_nobody_who_watches_the_same_key():
    """All three are served in one pass, from revision 2 on, in which the second one has nothing to get."""
    with contextlib.closing(Hub()) as world:
        for key in (b"a", b"z", b"z"):
            world.write(entry_of([(key, b"1")]))
        clients = [watching(b"z", 2), watching(b"a", 3), watching(b"a", 2)]
        for client in clients:
            world.begin(client)
        world.drain()
        assert [revisions(client) for client in clients] == [[3, 4], [], [2]]


def test_a_pass_over_the_history_is_bounded_by_revisions_and_by_bytes(monkeypatch):
    """So that others have their turn in between; a revision is never divided."""
    for bound, most in (("BATCH_REVISIONS", 2), ("BATCH_BYTES", 798)):
        with monkeypatch.context() as patch, contextlib.closing(Hub()) as world:
            patch.setattr(watch_hub, bound, most)
            for _ in range(5):
                world.write(entry_of([(b"a", b"1"), (b"b", b"x" * 140)]))
            client, passes = watching(b"a", 1, TO_THE_END), []
            world.begin(client)
            while world.calls:
                world.turn()
                passes.append(revisions(client))
            assert passes[:3] == [[2, 2, 3, 3], [2, 2, 3, 3, 4, 4, 5, 5], [2, 2, 3, 3, 4, 4, 5, 5, 6, 6]], bound


def test_what_waits_for_the_streams_is_bounded_and_what_it_cannot_hold_is_read(monkeypatch):
    for bound, most in (("PENDING_MAX", 4), ("PENDING_BYTES_MAX", 1200)):
        with monkeypatch.context() as patch, contextlib.closing(Hub()) as world:
            patch.setattr(watch_hub, bound, most)
            client = watching(b"a", 0, TO_THE_END)
            world.begin(client)
            for count, gaps in ((2, 0), (2, 0), (3, 1)):  # so many batches fit, and one more doesn't
                before = revisions(client)
                for _ in range(count):
                    world.hub.applied(world.write(entry_of([(b"a", b"x" * 140), (b"b", b"x" * 140)])))
                assert revisions(client) == before
                world.drain()
                assert world.hub.metrics()["watch_gaps_total"] == gaps, bound
            world.check(client)


def test_what_a_change_replaced_is_told_from_the_revision_after_the_compacted_one_on():
    """As etcd has it, which looks at the revision before the change."""
    with contextlib.closing(Hub()) as world:
        for value in (b"1", b"2", b"3", b"4"):
            world.write(entry_of([(b"a", value)]))
        world.write(lambda writes: writes.compact(3))
        client, prevs = watching(b"a", 3, prev_kv=True), []
        client.deliver = lambda watcher, block: prevs.extend(block.prevs)
        world.begin(client)
        world.drain()
        assert [prev and prev.value for prev in prevs] == [None, b"2", b"3"]


def test_nothing_is_lost_beside_a_thread_that_writes():
    """The order in which a watcher says that it is there and looks at the revision, and in which the writer does, decides."""
    rng = random.Random(f"beside {SEED}")
    before = sys.getswitchinterval()
    sys.setswitchinterval(20e-6)
    with contextlib.closing(Hub()) as world:
        over = threading.Event()

        def write():
            own = random.Random(f"writer {SEED}")
            for _ in range(1500):
                keys = own.sample(KEYS, own.choice([1, 1, 2]))
                world.hub.applied(world.write(entry_of([(key, b"1") for key in keys])))
            over.set()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            here, left = [], []
            while not over.is_set():
                for _ in range(rng.randrange(4)):
                    world.turn()
                if len(here) < 5:
                    client = Client(*rng.choice(RANGES), rng.choice([0, 0, 1, world.revision()]), False, False, False)
                    world.begin(client)
                    here.append(client)
                elif rng.random() < 0.1:
                    gone = here.pop(rng.randrange(len(here)))
                    world.hub.cancel(gone.watcher)
                    world.clients.remove(gone)
                    left.append(gone)
        finally:
            writer.join()
            sys.setswitchinterval(before)
        world.drain()
        for client in world.clients:
            world.check(client)
        for gone in left:
            wanted = [change for change in world.all if change.main >= gone.start and gone.wants(change)]
            assert gone.seen == wanted[: len(gone.seen)]
        assert world.hub.progress([]) == world.revision()


def test_a_change_that_comes_while_a_watcher_looks_at_the_revision_is_not_lost():
    with contextlib.closing(Hub()) as world:

        def racing():
            revision = world.state.revision
            if not world.all:
                world.hub.applied(world.write(entry_of([(b"a", b"1")])))
            return revision

        world.hub = WatchHub(world.views, racing, world.calls.append)
        client = Client(b"a", None, 0, False, False, False)
        world.begin(client)
        world.drain()
        assert [change.main for change in client.seen] == [2]


def test_a_change_that_comes_while_the_deque_is_emptied_is_not_lost():
    with contextlib.closing(Hub()) as world:

        class Racing(WatchHub):
            @property
            def _passed(self):
                if self.processed and len(world.all) < 3:
                    self.applied(world.write(entry_of([(b"a", b"1")])))
                return self.passed

            @_passed.setter
            def _passed(self, revision):
                self.passed = revision

        world.hub = Racing(world.views, world.revision, world.calls.append)
        client = Client(b"a", None, 0, False, False, False)
        world.begin(client)
        world.hub.take()
        world.hub.take()
        world.drain()
        assert [change.main for change in client.seen] == [2, 3, 4]
