"""The lesson's homework with real processes: how does a map in memory lose nothing?

Three nodes, each a process with its own directory: on memory engines, and, marked slow, on an engine of another kind
each. Unicode names are loaded through a follower, every eighth of them, and, marked slow, all; the leader is killed in the
middle, and comes back; then all three are killed at once. Nothing is asked of a process before it dies: kill -9 runs no handler and closes no file.
"""

import contextlib
import itertools
import shutil
import signal
import subprocess
import sys
import threading
import unicodedata
from typing import Any

import pytest

from server.client import Client
from server.identity import read_identity
from tests.server.local_nodes import PATIENCE_S, eventually, free_ports

NODES = (1, 2, 3)
BATCH = 500


class Processes:
    """Three `metcd serve` processes, each to be killed and started again."""

    def __init__(self, directory, engines) -> None:
        self.directory = directory
        self.engines = dict(zip(NODES, engines, strict=True))
        ports = free_ports(6)
        self.client_ports = dict(zip(NODES, ports[:3], strict=True))
        self.cluster = ",".join(f"http://127.0.0.1:{port}" for port in ports[3:])
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, node_id: int) -> None:
        command = [sys.executable, "-m", "server", "serve", "--id", str(node_id), "--cluster", self.cluster]
        command += ["--port", str(self.client_ports[node_id]), "--engine", self.engines[node_id]]
        command += ["--data", str(self.directory / f"node{node_id}")]
        with open(self.directory / f"node{node_id}.log", "ab") as log:
            self.running[node_id] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, *node_ids: int) -> None:
        for node_id in node_ids:
            self.running[node_id].send_signal(signal.SIGKILL)
        for node_id in node_ids:
            assert self.running.pop(node_id).wait(PATIENCE_S) == -signal.SIGKILL

    def url(self, node_id: int) -> str:
        return f"http://127.0.0.1:{self.client_ports[node_id]}"

    def leader(self) -> int:
        """The node that every running node calls the leader."""

        def agreed() -> int:
            named = set()
            for node_id in self.running:
                try:
                    with Client([self.url(node_id)], timeout_s=1) as client:
                        named.add(client.status()["leader"])
                except Exception:
                    return 0
            return named.pop() if len(named) == 1 else 0

        return eventually("all nodes agree on a leader", agreed)

    def __enter__(self):
        for node_id in NODES:
            self.start(node_id)
        return self

    def __exit__(self, kind, *_: object) -> None:
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait()
        if kind is not None:
            for node_id in NODES:
                print((self.directory / f"node{node_id}.log").read_text()[-2000:])


def unicode_names(step: int) -> list[tuple[bytes, bytes]]:
    """The names of all characters, or of every second, …, with keys of our own."""
    return [
        (b"%06X" % code, name.encode())
        for code in range(0, sys.maxunicode + 1, step)
        if (name := unicodedata.name(chr(code), ""))
    ]


@pytest.fixture
def processes(tmp_path, request):
    with Processes(tmp_path, getattr(request, "param", ("memory",) * 3)) as processes:
        yield processes


@pytest.mark.parametrize(
    ("processes", "step"),
    [
        pytest.param(("memory",) * 3, 8, id="memory-few"),
        pytest.param(("memory",) * 3, 1, id="memory", marks=pytest.mark.slow),
        pytest.param(("lsm", "btree", "bitcask"), 1, id="bitcask-btree-lsm", marks=pytest.mark.slow),
    ],
    indirect=["processes"],
)
def test_nothing_acknowledged_is_lost_when_leader_and_then_all_nodes_are_killed(processes, step):
    """Nor is a directory locked for the next process by one that was killed."""
    pairs = unicode_names(step)
    leader = processes.leader()
    follower = next(node_id for node_id in NODES if node_id != leader)
    middle = len(pairs) // 2 // BATCH * BATCH
    restarted = False

    with Client([processes.url(follower)], timeout_s=5) as client:
        for at in range(0, len(pairs), BATCH):
            if at == middle:
                processes.kill(leader)
            batch = pairs[at : at + BATCH]
            eventually(f"batch {at} is acknowledged", lambda batch=batch: acknowledged(client, batch))
            if at > middle + len(pairs) // 4 and not restarted:
                processes.start(leader)
                restarted = True
    assert restarted

    processes.kill(*NODES)
    for node_id in NODES:
        processes.start(node_id)
    processes.leader()
    for node_id in NODES:
        assert processes.running[node_id].poll() is None, "it found its directory locked"
        assert scan(processes.url(node_id)) == pairs, f"node {node_id} differs"


def acknowledged(client: Client, batch: list[tuple[bytes, bytes]]) -> bool:
    """Writes a batch; False if it was refused or its outcome is unknown: puts of the same values may be sent again."""
    try:
        client.batch(batch)
    except Exception:
        return False
    return True


def scan(url: str) -> list[tuple[bytes, bytes]]:
    """Every pair, linearizable, from one node."""

    def attempt() -> list[tuple[bytes, bytes]]:
        try:
            with Client([url], timeout_s=20) as client:
                return list(client.scan())
        except Exception:
            return []

    return eventually(f"{url} answers a scan", attempt)


def test_a_process_without_its_log_ends_with_a_sentence(processes):
    """It used to vote again."""
    victim = next(node_id for node_id in NODES if node_id != processes.leader())
    with Client([processes.url(processes.leader())], timeout_s=5) as client:
        eventually("a write is acknowledged", lambda: acknowledged(client, [(b"key", b"value")]))
    directory = processes.directory / f"node{victim}"
    eventually("it has met the others", lambda: len(read_identity(str(directory)).met) == 2)
    processes.kill(victim)
    shutil.move(directory / "wal", processes.directory / "wal")
    processes.start(victim)
    assert processes.running.pop(victim).wait(PATIENCE_S) == 2
    said = (processes.directory / f"node{victim}.log").read_text().splitlines()[-1]
    assert said.startswith(f"metcd: {directory} has snap/ and engine/ and its identity, but no log in wal/")


def test_a_process_whose_disk_is_lost_comes_back_by_itself_under_load_and_counts_again(processes):
    """kill -9 and rm -r. Everything acknowledged is there; then another one is killed, and the two go on."""
    leader = processes.leader()
    victim, other = (node_id for node_id in NODES if node_id != leader)
    acknowledged: dict[bytes, bytes] = {}
    over = threading.Event()

    def write(writer: int) -> None:
        with Client([processes.url(node_id) for node_id in NODES], timeout_s=5) as client:
            for number in itertools.count():
                if over.is_set():
                    return
                with contextlib.suppress(Exception):
                    client.put(b"%d/%d" % (writer, number), b"%d" % number)
                    acknowledged[b"%d/%d" % (writer, number)] = b"%d" % number

    def status() -> dict[str, Any]:
        with contextlib.suppress(Exception), Client([processes.url(victim)], timeout_s=1) as client:
            return client.status()
        return {}

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in writers:
        thread.start()
    try:
        eventually("some writes are acknowledged", lambda: len(acknowledged) > 200)
        directory = processes.directory / f"node{victim}"
        eventually("it has met the others", lambda: len(read_identity(str(directory)).met) == 2)
        processes.kill(victim)
        shutil.rmtree(directory)
        processes.start(victim)
        eventually("it asks", lambda: status().get("readmission"))
        eventually("it votes again", lambda: status().get("readmission") == status().get("kept_out") == "")
        processes.kill(other)
        before = len(acknowledged)
        eventually("the two go on", lambda: len(acknowledged) > before + 100)
    finally:
        over.set()
        for thread in writers:
            thread.join()
    with Client([processes.url(victim)], timeout_s=5) as client:
        found = dict(client.scan())
    assert {key: found.get(key) for key in acknowledged} == acknowledged
    with Client([processes.url(leader)], timeout_s=5) as client:
        assert dict(client.scan()) == found
