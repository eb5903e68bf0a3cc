"""A disk that takes nothing more, under one node of three and under a process: nothing is acknowledged that isn't there, the
others serve on, and with room again the node has everything.

The log's part, call by call, is in tests/server/test_wal.py and tests/crash; here it is whole nodes.
"""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from itertools import count

import pytest

from engines.env import real_env
from engines.faultenv import FaultEnv
from server.client import Client
from server.errors import NodeError
from tests.server.local_nodes import LocalCluster, eventually, free_ports

VALUE = b"v" * 50_000  # a B+tree writes through a mapping, and needs room only when it grows


class FullDisk(FaultEnv):
    """The real disk, of which a part takes no more bytes while `full` is set: the log ("wal") or the store ("engine")."""

    def __init__(self, part: str, error: int) -> None:
        super().__init__(real_env(), 0, error)
        self.part = part
        self.full = False

    def _fails(self, kind: str, path: str, site: str = "") -> bool:
        return self.full and kind in self.kinds and f"/{self.part}" in path


def _write(cluster: LocalCluster, key: bytes) -> None:
    """A write through any node that takes it."""
    nodes = [node for node in cluster.nodes.values() if not node.stopped.is_set()]

    def written() -> bool:
        for node in nodes:
            try:
                return node.propose([(key, VALUE)]) > 0
            except NodeError:
                pass
        return False

    eventually(f"{key!r} is written", written)


@pytest.mark.parametrize(
    ("engine", "role", "part", "error"),
    [
        ("lsm", "leader", "engine", errno.ENOSPC),
        ("btree", "follower", "engine", errno.ENOSPC),
        ("bitcask", "follower", "engine", errno.EIO),
        ("lsm", "leader", "wal", errno.ENOSPC),
        ("btree", "follower", "wal", errno.EIO),
    ],
)
def test_one_full_disk_leaves_the_cluster_serving(engine, role, part, error, tmp_path):
    disk = FullDisk(part, error)
    with LocalCluster(tmp_path, (engine,) * 3) as cluster:
        victim = (cluster.leader() if role == "leader" else cluster.follower()).id
        cluster.stop(victim)
        cluster.start(victim, env=disk)
        if role == "leader":
            eventually("the victim leads", lambda: _leads(cluster, victim))
        node = cluster.nodes[victim]
        acknowledged = [b"before"]
        _write(cluster, b"before")
        disk.full = True
        numbers = count()

        def fails() -> bool:  # a node that has no leader for a moment refuses at once, any number of times
            key = b"%s/%d" % (part.encode(), next(numbers))
            try:
                node.propose([(key, VALUE)])
                acknowledged.append(key)
            except NodeError:
                pass
            return node.failure is not None

        eventually("the disk's failure is the node's", fails)
        eventually("it has stopped", node.stopped.is_set)
        assert isinstance(node.failure, OSError) and node.failure.errno == error, "it says what the disk has said"
        assert not node.alive()
        for number in range(3):
            acknowledged.append(b"after/%d" % number)
            _write(cluster, acknowledged[-1])
        disk.full = False
        cluster.stop(victim)
        cluster.start(victim, env=disk)
        cluster.converged()
        missing = [key for key in acknowledged if cluster.nodes[victim].machine.lookup(key) != VALUE]
        assert not missing, "with room again, all that was acknowledged is there"


def _leads(cluster: LocalCluster, victim: int) -> bool:
    """True if the victim leads; hands the leadership over to it otherwise."""
    leader = cluster.leader()
    if leader.id != victim:
        leader.later(lambda: leader._raft.transfer_leadership(victim))
    return leader.id == victim


def test_a_process_whose_disk_takes_no_more_ends_with_status_1_and_says_why(tmp_path):
    """A real process, whose files may not grow beyond a limit; the system then says EFBIG where a full disk says ENOSPC."""
    peer, port = free_ports(2)
    command = [
        sys.executable, "-m", "server", "serve", "--id", "1", "--cluster", f"http://127.0.0.1:{peer}", "--port", str(port),
        "--data", str(tmp_path / "node1"), "--engine", "lsm", "--until-stdin-closes",
    ]  # fmt: skip

    def started(limit_bytes: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["prlimit", f"--fsize={limit_bytes}", *command], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    process = started(3 << 20)
    written = 0
    with Client([f"http://127.0.0.1:{port}"], timeout_s=1.0) as client:
        eventually("it leads", lambda: _answers(client))
        while process.poll() is None and written < 1000:
            try:
                client.put(b"key%d" % written, VALUE)
                written += 1
            except NodeError:
                break
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "node 1: stops, because of OSError: [Errno 27]" in output
    assert 5 < written < 1000
    process = started(resource.RLIM_INFINITY if resource.RLIM_INFINITY > 0 else 1 << 40)
    with Client([f"http://127.0.0.1:{port}"], timeout_s=1.0) as client:
        eventually("it leads again", lambda: _answers(client))
        assert all(client.get(b"key%d" % number) == VALUE for number in range(written))
    process.communicate(timeout=30)
    assert process.returncode == 0


def _answers(client: Client) -> bool:
    try:
        return client.health()
    except NodeError:
        return False
