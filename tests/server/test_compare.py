"""`metcd check --cluster`: equal nodes are equal while writes go on, and the first key that differs is named."""

import contextlib
import json
import threading

import pytest

import engines
from engines.memory import MemoryStore
from raft.raftpb import (
    CONF_CHANGE_ADD_NODE,
    ENTRY_CONF_CHANGE_V2,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
)
from server import cli, marked_views
from server.client import Client
from server.compare import compare
from server.errors import NodeError
from server.http import FrontEnd
from server.marked_views import KEPT_S, NotMarked, NotYet, Views, blocks_of, hashed_pairs
from server.sessions import MARK
from server.statemachine import StateMachine, encode_proposal
from server.timings import TimedMachine
from tests.server.local_nodes import LocalCluster

THREE = ConfState(voters=(1, 2, 3))


def entry(index, *operations):
    return Entry(1, index, data=encode_proposal(7, index, operations))


# ---- views ------------------------------------------------------------------------------------------------------------


def test_a_batch_is_divided_at_a_mark_and_the_view_is_of_exactly_that_entry():
    with MemoryStore() as store, MemoryStore() as plain_store:
        machine, plain = TimedMachine(store, 0, (), (), now=lambda: 0.0), StateMachine(plain_store)
        for each in (machine, plain):
            each.apply([entry(1)], THREE)
        entries = [entry(2, (b"k", b"before")), entry(3, MARK), entry(4, (b"k", b"after")), entry(5, (b"l", b""))]
        assert machine.apply(entries, THREE) == plain.apply(entries, THREE)
        assert list(store.scan()) == list(plain_store.scan()), "the mark changes nothing"
        with machine.marked(3) as view:
            assert view.get(b"kk") == b"before"
            assert view.get(b"kl") is None
        for index, error in [(6, NotYet), (4, NotMarked)]:
            with pytest.raises(error), machine.marked(index):
                pass
        machine.apply([entry(6, MARK)])
        with pytest.raises(NotMarked), machine.marked(3):
            pass


def test_a_crash_after_a_mark_keeps_the_members_of_the_changes_before_it():
    """Raft goes on from the applied index, so a change that is applied without its members would be lost for good."""
    four = ConfState(voters=(1, 2, 3, 4))
    change = ConfChangeV2(changes=(ConfChangeSingle(CONF_CHANGE_ADD_NODE, 4),))
    with MemoryStore() as store:
        machine = TimedMachine(store, 0, (), (), now=lambda: 0.0)
        machine.apply([entry(1)], THREE)
        machine.note_members(2, four)
        entries = [Entry(1, 2, ENTRY_CONF_CHANGE_V2, change.encode()), entry(3, MARK), entry(4, (b"k", b"v"))]
        write, writes = store.write, []

        def write_once(batch, *, sync=None):
            if writes:
                raise OSError("the power is cut")
            writes.append(batch)
            write(batch, sync=sync)

        store.write = write_once
        with pytest.raises(OSError, match="the power is cut"):
            machine.apply(entries, four)
        del store.write
        found = StateMachine(store)
        assert (found.applied_index, found.conf_state) == (3, four)
        machine._views.drop()


def test_a_view_goes_when_nobody_has_asked_for_long_and_stays_for_its_readers():
    now = [0.0]
    with MemoryStore() as store:
        store.put(b"k", b"v")
        views = Views(lambda: now[0])
        first = store.snapshot()
        views.take(1, first)
        with views.read(1, 1) as view:
            now[0] = KEPT_S + 1
            views.drop_old()
            assert view.get(b"k") == b"v", "a reader is in it"
        with pytest.raises(engines.StoreClosed):
            first.get(b"k")
        second = store.snapshot()
        views.take(2, second)
        views.drop_old()
        with views.read(2, 2):
            pass
        now[0] += KEPT_S + 1
        views.drop_old()
        with pytest.raises(engines.StoreClosed):
            second.get(b"k")


def test_blocks_tell_pairs_apart_and_leave_out_what_may_differ(monkeypatch):
    monkeypatch.setattr(marked_views, "BLOCK_PAIRS", 3)
    pairs = [(b"k%d" % number, b"v") for number in range(7)]
    with MemoryStore() as one, MemoryStore() as two:
        for store in (one, two):
            store.load(pairs)
        two.put(b"mcluster", b"another")
        assert list(blocks_of(one)) == list(blocks_of(two))
        assert [key for key, _ in blocks_of(one)] == [b"k2", b"k5", b"k6"]
        assert [key for key, _ in hashed_pairs(two, b"k4")] == [b"k5", b"k6"]
        two.put(b"k4", b"w")
        differ = [left != right for left, right in zip(blocks_of(one), blocks_of(two))]
        assert differ == [False, True, False]


# ---- a cluster --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def fronts(cluster):
    """A front end for each node: their URLs by id."""
    with contextlib.ExitStack() as stack:
        urls = {}
        for node_id, node in cluster.nodes.items():
            front = FrontEnd(node, ("127.0.0.1", 0), None)
            front.start()
            stack.callback(front.stop)
            urls[node_id] = "http://{}:{}".format(*front.address)
        yield urls


def test_nodes_are_the_same_while_writes_go_on(tmp_path):
    with LocalCluster(tmp_path, ("lsm", "btree", "bitcask")) as cluster:
        cluster.leader()
        with fronts(cluster) as urls, Client(list(urls.values())) as client:
            client.batch([(b"%05d" % number, b"v" * 50) for number in range(3000)])
            ended = threading.Event()

            def write():
                with Client(list(urls.values())) as busy:
                    number = 0
                    while not ended.is_set():
                        number += 1
                        busy.put(b"%05d" % (number % 3000), b"%d" % number)

            writers = [threading.Thread(target=write) for _ in range(2)]
            for writer in writers:
                writer.start()
            try:
                for _ in range(5):
                    compared = compare(list(urls.values()))
                    assert compared.key is None, compared
                    assert compared.whole, compared
                    assert {node.keys for node in compared.nodes} == {compared.nodes[0].keys}
                    assert compared.nodes[0].keys > 3000
            finally:
                ended.set()
                for writer in writers:
                    writer.join()


@pytest.mark.parametrize(
    ("key", "value", "there"),
    [(b"k01500", b"other", "5 bytes"), (b"k01500", None, "absent"), (b"k015000", b"", "0 bytes")],
)
def test_a_key_that_was_changed_in_a_stopped_nodes_engine_is_named(tmp_path, capsys, key, value, there):
    with LocalCluster(tmp_path, ("lsm", "btree", "bitcask")) as cluster:
        leader = cluster.leader()
        leader.propose([(b"%05d" % number, b"v") for number in range(3000)])
        cluster.converged()
        cluster.stop(3)
        config = cluster.configs[3]
        with engines.open(f"{config.data_dir}/engine", config.engine) as store:
            if value is None:
                store.delete(key)
            else:
                store.put(key, value)
        cluster.start(3)
        cluster.leader()
        with fronts(cluster) as urls:
            arguments = ["check", "--cluster", "--endpoints", ",".join(urls.values())]
            assert cli.main(arguments) == 1
            table = capsys.readouterr().out
            assert f"the first key that differs is {key[1:].decode()!r}, on node 3" in table
            assert there in table
            assert cli.main([*arguments, "--json"]) == 1
            report = json.loads(capsys.readouterr().out)
            assert (report["same"], report["first_key"]) == (False, repr(key[1:].decode()))
            assert [node["keys"] for node in report["nodes"]] == [3000 + 1500 + (len(key) > 6)] * 3  # with the history


def test_a_node_that_is_away_is_not_compared_and_said_so(tmp_path, capsys):
    with LocalCluster(tmp_path) as cluster:
        cluster.put(cluster.leader(), b"k", b"v")
        with fronts(cluster) as urls:
            endpoints = [*urls.values(), "http://127.0.0.1:1"]
            arguments = ["check", "--cluster", "--timeout", "1", "--endpoints", ",".join(endpoints)]
            assert cli.main(arguments) == 2
            assert "not compared" in capsys.readouterr().out
            assert cli.main([*arguments[:5], endpoints[0]]) == 0
            assert "all nodes have the same" in capsys.readouterr().out
            client = Client([endpoints[0]], timeout_s=0.2)
            for index, why in [(1 << 40, "not applied here yet"), (1, "has no view")]:
                with pytest.raises(NodeError, match=why):
                    client.digest(index)
            client.close()


def test_check_wants_a_path_or_a_cluster(capsys):
    assert cli.main(["check"]) == 2
    assert cli.main(["check", "--cluster", "some/path"]) == 2
    assert "PATH" in capsys.readouterr().err
