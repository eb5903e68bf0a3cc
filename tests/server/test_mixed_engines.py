"""One cluster, one history, and an engine of another kind on each node."""

import itertools
import random

import pytest

import engines
from tests.server.local_nodes import LocalCluster, cuts_over

BUILT = sorted(engines.ENGINES)
WITH_FILES = [name for name in BUILT if engines.engine_class(name).persistent] or ["memory"]


def mixed(count: int = 3) -> list[str]:
    """As many different engines as there are, those with files first."""
    return list(itertools.islice(itertools.cycle(WITH_FILES), count))


def history(rng: random.Random, steps: int):
    """Proposals of puts and deletes, some of them of values that one engine's format reserves."""
    keys = [b"key%02d" % number for number in range(40)]
    values = [b"", b"=", b"bitcask_tombstone2\0\0\0\7", b"x" * 5000, *(b"%d" % number for number in range(20))]
    for _ in range(steps):
        yield [
            (rng.choice(keys), None if rng.random() < 0.3 else rng.choice(values))
            for _ in range(rng.randint(1, 5))
        ]  # fmt: skip


def replay(model: dict[bytes, bytes], operations) -> None:
    for key, value in operations:
        if value is None:
            model.pop(key, None)
        else:
            model[key] = value


def test_different_engines_hold_the_same_bytes(tmp_path, rng):
    """Pair for pair, ours among them, through restarts of single nodes and of all."""
    model: dict[bytes, bytes] = {}
    with LocalCluster(tmp_path, mixed()) as cluster:
        for round_, operations in enumerate(history(rng, 60)):
            cluster.leader().propose(operations)
            replay(model, operations)
            if round_ % 20 == 10:
                restarted = cluster.follower().id
                cluster.stop(restarted)
                cluster.start(restarted)
        for node_id in (1, 2, 3):
            cluster.stop(node_id)
        for node_id in (1, 2, 3):
            cluster.start(node_id)
        cluster.put(cluster.leader(), b"last", b"one")
        cluster.converged()
        for node in cluster.nodes.values():
            assert dict(node.machine.scan()) == model | {b"last": b"one"}
            assert node.machine.store.check() == []


@pytest.mark.parametrize("engine", BUILT)
def test_a_snapshot_of_another_engine_is_installed(tmp_path, engine):
    """The leader's snapshot, whatever its engine, becomes the content of a follower that was away."""
    others = [name for name in mixed(3) if name != engine][:2]
    with LocalCluster(
        tmp_path, [engine, *others, *["memory"] * (2 - len(others))], snapshot_entries=20, catch_up_entries=5
    ) as cluster:
        cluster.put(cluster.leader(), b"first", b"v")
        away = 1
        cluster.stop(away)
        for number in range(100):
            cluster.put(cluster.leader(), b"%03d" % number, b"v")
        node = cluster.start(away)
        cluster.put(cluster.leader(), b"last", b"v")
        cluster.converged()
        assert len(list(node.machine.scan())) == 102
        cluster.stop(away)
        node = cluster.start(away)
        cluster.put(cluster.leader(), b"again", b"v")
        cluster.converged()
        assert len(list(node.machine.scan())) == 103


@pytest.mark.parametrize("engine", WITH_FILES)
def test_an_engine_with_files_replays_only_what_it_has_not_applied(tmp_path, engine):
    """It remembers its applied index in the same batch as the data, and the log is cut without a snapshot file."""
    with LocalCluster(tmp_path, [engine], snapshot_entries=20, catch_up_entries=5) as cluster:
        for number in range(50):
            cluster.put(cluster.leader(), b"%03d" % number, b"v")
        cuts_over(cluster.leader())
        cluster.stop(1)
        node = cluster.start(1)
        assert node.status()["applied_index"] >= (50 if node.machine.persistent else 20)
        cluster.put(cluster.leader(), b"after", b"v")
        assert len(list(node.machine.scan())) == 51
