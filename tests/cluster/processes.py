"""Three nodes, three processes, three engines, and the proxy between them: started, killed, stopped, told apart.

Each node is `python -m tests.cluster.node`: the real `metcd serve` on a disk that can be broken. Their logs are files beside
their directories, and stay. A node ends when this process does, however that ends: its standard input closes.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from server.config import NodeConfig
from tests.cluster.control import break_disk
from tests.cluster.proxy import Proxy
from tests.server.local_nodes import free_ports

__all__ = ["ENGINES", "Cluster", "Failed", "until"]

ENGINES = ("lsm", "btree", "bitcask")
ASK_TIMEOUT_S = 1.0
TURN_S = 0.02
END_S = 10.0  # a node that was asked to stop


class Failed(AssertionError):
    """The round has failed; the sentence says how."""


def until(what: str, look: Callable[[], Any], timeout_s: float) -> Any:
    """What `look` returns, as soon as that is true. Raises Failed after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"within {timeout_s:g} s it did not happen that {what}")
        pause.wait(TURN_S)


def _hold(port: int) -> socket.socket:
    """A socket that has a port, and listens to nobody. Raises OSError."""
    held = socket.socket()
    held.bind(("127.0.0.1", port))
    return held


class Cluster:
    """The processes of one round, and what can be done to them."""

    def __init__(
        self,
        directory: Path,
        engines: Iterable[str] = ENGINES,
        tick_s: float = NodeConfig.tick_s,
        plant: str = "",
        proxied: bool = True,
        recorded: bool = True,
    ) -> None:
        """proxied: False has the nodes talk to each other directly. recorded: False has them write down nothing of what they
        apply. Both for figures without a detour."""
        self.recorded = recorded
        self.directory = directory
        self.engines = dict(enumerate(engines, 1))
        self.tick_s = tick_s
        self.plant = plant
        self.election_s = 2 * 10 * tick_s  # a follower campaigns within that time
        count = len(self.engines)
        self.spares = {count + node_id: engine for node_id, engine in self.engines.items()}  # who may replace them
        everybody = [*self.engines, *self.spares]
        ports = free_ports(3 * len(everybody))
        self.client_ports = dict(zip(everybody, ports))
        self.own_ports = dict(zip(everybody, ports[len(everybody) :]))
        self.called_ports = dict(zip(everybody, ports[2 * len(everybody) :])) if proxied else self.own_ports
        self.list = ",".join(f"http://127.0.0.1:{self.called_ports[node_id]}" for node_id in self.engines)
        # nobody else is to get a spare node's ports before it starts
        self._held = {node_id: [_hold(port) for port in self._ports(node_id)] for node_id in self.spares}
        self.joined: set[int] = set()  # nodes that the cluster did not begin with
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        self.paused: set[int] = set()
        self.proxy = Proxy()
        if proxied:
            for node_id in self.engines:
                self.add_to_proxy(node_id)

    # ---- one node ------------------------------------------------------------------------------------------------

    def data(self, node_id: int) -> Path:
        return self.directory / f"node{node_id}"

    def log(self, node_id: int) -> Path:
        return self.directory / f"node{node_id}.log"

    def command(self, node_id: int) -> list[str]:
        """The words that start a node."""
        words = [sys.executable, "-m", "tests.cluster.node", "--control", str(self.control(node_id))]
        words += ["--record", str(self.record(node_id))] if self.recorded else []
        words += ["--tick", str(self.tick_s), *(["--plant", self.plant] if self.plant else [])]
        words += ["serve", "--id", str(node_id), "--port", str(self.client_ports[node_id])]
        words += ["--join", self._member(node_id)] if node_id in self.joined else ["--cluster", self.list]
        words += ["--listen-peer", f"http://127.0.0.1:{self.own_ports[node_id]}"]
        words += ["--engine", self.engines[node_id], "--data", str(self.data(node_id)), "--until-stdin-closes"]
        return words

    def _member(self, node_id: int) -> str:
        """The URL of another node, a running one if there is any."""
        others = [each for each in [*self.running, *self.engines] if each != node_id]
        return self.url(others[0])

    def control(self, node_id: int) -> Path:
        return self.directory / f"node{node_id}.disk"

    def record(self, node_id: int) -> Path:
        """Where a node writes down what it has applied."""
        return self.directory / f"node{node_id}.applied"

    def start(self, node_id: int) -> None:
        """Starts a node that isn't running."""
        assert node_id not in self.running
        with open(self.log(node_id), "ab") as log:
            self.running[node_id] = subprocess.Popen(
                self.command(node_id),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "METCD_PLAIN": "1"} if self.plant else None,
            )

    def add_to_proxy(self, node_id: int) -> None:
        """Has the proxy listen for a node."""
        if self.called_ports is not self.own_ports:
            self.proxy.add(node_id, self.called_ports[node_id], ("127.0.0.1", self.own_ports[node_id]))

    def replace(self, node_id: int, timeout_s: float) -> int:
        """Another node with an empty directory takes a member's place: added as a learner, promoted, and only then is the
        old one removed. Returns its id. Raises Failed."""
        new = min(self.spares)
        for held in self._held.pop(new):
            held.close()
        self.add_to_proxy(new)
        asked = next(each for each in self.running if each != node_id)
        url = f"http://127.0.0.1:{self.called_ports[new]}".encode()
        self._change(asked, f"{new}?learner=true", "POST", url, timeout_s)
        self.engines[new] = self.spares.pop(new)
        self.joined.add(new)
        self.start(new)
        self._change(asked, f"{new}?promote=true", "POST", b"", timeout_s)
        self._change(asked, f"{node_id}", "DELETE", b"", timeout_s)
        until(f"node {node_id}, which was removed, stops", lambda: self.ended(node_id), timeout_s)
        del self.engines[node_id]
        return new

    def _change(self, asked: int, path: str, method: str, body: bytes, timeout_s: float) -> None:
        """A change of the members, asked for until it is made: a learner is promoted when it has caught up.

        One whose answer did not come, or was 504, may have been made: the members tell, because the second one is refused.
        """
        told = ""
        node_id, _, query = path.partition("?")

        def made() -> bool:
            nonlocal told
            status, answer = self.ask(asked, f"/_/members/{path}", method, body)
            told = f"{status} {answer[:300]!r}"
            return status == 200 or self._is_member(asked, int(node_id), query) == (method == "POST")

        try:
            until("it is done", made, timeout_s)
        except Failed:
            raise Failed(f"{method} /_/members/{path} was not done within {timeout_s:g} s: {told}") from None

    def _is_member(self, asked: int, node_id: int, query: str) -> bool | None:
        """Whether a node is a member, in the role that `query` asks for; None if that isn't known now."""
        status, answer = self.ask(asked, "/_/members")
        if status != 200:
            return None
        roles = {each["id"]: each["learner"] for each in json.loads(answer)["members"]}
        return node_id in roles and (not query or roles[node_id] == (query == "learner=true"))

    def kill(self, *node_ids: int) -> None:
        """kill -9: nothing is closed and nothing is said."""
        for node_id in node_ids:
            self.running[node_id].kill()
        for node_id in node_ids:
            self._gone(node_id)

    def stop(self, node_id: int) -> None:
        """SIGTERM; returns when the node has stopped. Raises Failed if it doesn't, or not with status 0."""
        process = self.running[node_id]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"node {node_id} did not stop within {END_S:g} s of SIGTERM") from None
        if self._gone(node_id) != 0:
            raise Failed(f"node {node_id} stopped with status {process.returncode}: its log says why")

    def pause(self, node_id: int) -> None:
        """SIGSTOP."""
        self.running[node_id].send_signal(signal.SIGSTOP)
        self.paused.add(node_id)

    def resume(self, *node_ids: int) -> None:
        """SIGCONT."""
        for node_id in node_ids or tuple(self.paused):
            self.paused.discard(node_id)
            if node_id in self.running:
                self.running[node_id].send_signal(signal.SIGCONT)

    def ended(self, node_id: int) -> bool:
        """Whether a node has ended by itself; then it is not running any more."""
        if node_id in self.running and self.running[node_id].poll() is not None:
            self._gone(node_id)
        return node_id not in self.running

    def require_running(self, node_id: int) -> None:
        """Raises Failed, with the last that it wrote down, if a node has ended by itself."""
        if self.ended(node_id):
            last = self.log(node_id).read_text(errors="replace").rstrip().rpartition("\n")[2]
            raise Failed(f"node {node_id} has ended: {last}")

    def wipe(self, node_id: int) -> None:
        """Empties the directory of a node that isn't running."""
        assert node_id not in self.running
        shutil.rmtree(self.data(node_id))

    def break_disk(self, node_id: int, **faults: float) -> None:
        """See server/faulty_env.py."""
        break_disk(self.control(node_id), **faults)

    def _gone(self, node_id: int) -> int:
        process = self.running.pop(node_id)
        self.paused.discard(node_id)
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        return process.wait(END_S)

    # ---- all of them -----------------------------------------------------------------------------------------------

    def _ports(self, node_id: int) -> set[int]:
        return {self.client_ports[node_id], self.own_ports[node_id], self.called_ports[node_id]}

    def urls(self) -> dict[int, str]:
        """Of the nodes that take part, and of those that may replace them."""
        return {node_id: self.url(node_id) for node_id in self.client_ports}

    def url(self, node_id: int) -> str:
        return f"http://127.0.0.1:{self.client_ports[node_id]}"

    def ask(self, node_id: int, path: str, method: str = "GET", body: bytes = b"") -> tuple[int, bytes]:
        """The answer of one node; (0, b"") if none comes within a second."""
        connection = http.client.HTTPConnection("127.0.0.1", self.client_ports[node_id], timeout=ASK_TIMEOUT_S)
        try:
            connection.request(method, path, None if method == "GET" else body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def status(self, node_id: int) -> dict[str, Any]:
        """What a node says of itself; {} if it doesn't answer."""
        status, body = self.ask(node_id, "/_/status")
        return json.loads(body) if status == 200 else {}

    def leader(self, timeout_s: float = 20.0) -> int:
        """The node that all running nodes call the leader."""

        def agreed() -> int:
            named = {self.status(node_id).get("leader", 0) for node_id in self.running if node_id not in self.paused}
            leader = named.pop() if len(named) == 1 else 0
            return leader if leader in self.running else 0

        return int(until("the running nodes agree on a leader", agreed, timeout_s))

    def followers(self) -> list[int]:
        """The others."""
        leader = self.leader()
        return [node_id for node_id in self.running if node_id != leader]

    def heal(self) -> None:
        """Ends every fault, and starts every node that isn't running."""
        self.proxy.heal()
        self.resume()
        for node_id in self.engines:
            self.break_disk(node_id)
            if self.ended(node_id):
                self.start(node_id)

    def same_everywhere(self, timeout_s: float) -> list[bytes]:
        """The scan that every node answers, once all have applied the same. Raises Failed if they don't."""

        def same() -> list[bytes]:
            status = [self.status(node_id) for node_id in self.engines]
            if len({each.get("applied_index", -at) for at, each in enumerate(status)}) != 1:
                return []
            if {each["commit_index"] for each in status} != {status[0]["applied_index"]}:
                return []
            scans = [self.ask(node_id, "/_/scan?consistency=stale") for node_id in self.engines]
            if any(code != 200 for code, _ in scans):
                return []
            if len({body for _, body in scans}) != 1:
                raise Failed(
                    f"at index {status[0]['applied_index']} the nodes differ: {[len(body) for _, body in scans]}"
                )
            return [scans[0][1]]

        return list(until("all nodes have applied the same", same, timeout_s))

    def __enter__(self) -> Cluster:
        self.directory.mkdir(parents=True, exist_ok=True)
        for node_id in self.engines:
            self.start(node_id)
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        for process in self.running.values():
            process.kill()
        for node_id in list(self.running):
            self._gone(node_id)
        self.proxy.close()
        for held in itertools.chain(*self._held.values()):
            held.close()
