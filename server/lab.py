"""The lab of a cluster on this machine: what can be done to its nodes, and what has been done.

    a link is cut      both ends are told on their standard input, and their transports obey (server/lab_node.py)
    a disk is slow     the node is told likewise
    pause, resume      SIGSTOP, SIGCONT: every thread stands still, connections stay open, nobody is told
    kill, start        SIGKILL, and the same command on the same files

    metcd cluster ── standard input, open ──▶ nodes         closed: a node stops
        └─────────── standard input, open ──▶ a pause       closed: the node goes on

A pause is a process of its own, a shell that stops the node, waits for its standard input to end, and has the node go on.
So a pause ends with the cluster however that ends, by `kill -9` too: a node that stands still could not notice that its
own standard input has closed, and would stay for ever.

Invariants:

1. Faults are kept here and told as a whole: a node that is started or goes on again is told first (`faults_of`,
   `resume`), so that it never uses a link that is cut.
2. Nothing is written to a node that stands still, and no write waits: a pipe that nobody reads holds 64 KiB.
3. What can't be done now is refused with a sentence, 409, and nothing is done.

A link has a direction, as it has in tests/cluster/proxy.py: (1, 2) is the connection that node 1 opens to node 2.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from server.client import Client
from server.cluster import ClusterError, LocalCluster, LocalNode
from server.errors import NodeError
from server.logs import print_line
from server.request import BadRequest

__all__ = ["Lab"]

TRANSFER_TIMEOUT_S = 5.0
_PAUSE = 'kill -STOP "$1" && echo && read -r _; kill -CONT "$1"'

Link = tuple[int, int]  # from, to


class Lab:
    """The faults of a cluster. Every method may be called by any thread. A context manager: leaving it ends all pauses."""

    def __init__(self, cluster: LocalCluster, port: int) -> None:
        """To be made before the cluster starts: its nodes have to begin as those of a lab. port: where it is called."""
        self.url = f"http://127.0.0.1:{port}"
        self._cluster = cluster
        self._nodes = {node.id: node for node in cluster.nodes}
        self._cut: set[Link] = set()
        self._sync_delay_s = dict.fromkeys(self._nodes, 0.0)
        self._pauses: dict[int, subprocess.Popen[bytes]] = {}
        self._closed = False
        self._guard = threading.RLock()
        self.say: Callable[[str], None] = print_line  # takes a line for each thing that is done
        cluster.lab = self

    def faults_of(self, node: LocalNode) -> bytes:
        """All faults of a node in one line, as it is told them."""
        with self._guard:
            mute = sorted(to for from_, to in self._cut if from_ == node.id)
            deaf = sorted(from_ for from_, to in self._cut if to == node.id)
            faults = {"mute": mute, "deaf": deaf, "sync_delay_s": self._sync_delay_s[node.id]}
        return json.dumps(faults).encode() + b"\n"

    def state(self) -> dict[str, Any]:
        """What is cut, paused, dead and slow, ready for JSON."""
        with self._guard:
            nodes = {
                str(node.id): {
                    "url": node.url,
                    "process": self.process_of(node.id),
                    "sync_delay_s": self._sync_delay_s[node.id],
                }
                for node in self._nodes.values()
            }
            return {"nodes": nodes, "cut": [list(link) for link in sorted(self._cut)]}

    def process_of(self, node_id: int) -> str:
        """ "running", "paused" or "dead": also of a node that ended by itself, or was brought back by hand."""
        with self._guard:
            process = self._cluster.processes.get(node_id)
            if process is None or process.poll() is not None:
                return "dead"
            return "paused" if node_id in self._pauses else "running"

    # ---- what can be done -------------------------------------------------------------------------------------------

    def cut(self, a: int, b: int, cut: bool, one_way: bool) -> None:
        """Cuts or heals the link from a to b, and unless it is `one_way` the one from b to a."""
        with self._guard:
            ends = self._node(a), self._node(b)
            if a == b:
                raise BadRequest(400, "A link is between two nodes.")
            links = {(a, b)} if one_way else {(a, b), (b, a)}
            self._cut = self._cut | links if cut else self._cut - links
            for node in ends:
                self._tell_faults(node)
        self.say(f"lab: the link {a} {'→' if one_way else '↔'} {b} is {'cut' if cut else 'healed'}")

    def slow_disk(self, node_id: int, sync_delay_s: float) -> None:
        """Has each sync of the node's disk take so many seconds longer; 0 for a disk like any other."""
        with self._guard:
            node = self._node(node_id)
            self._sync_delay_s[node_id] = sync_delay_s
            self._tell_faults(node)
        self.say(f"lab: each sync of node {node_id} takes {sync_delay_s:g} s longer")

    def pause(self, node_id: int) -> None:
        """Has the node stand still until `resume`, or until this process ends."""
        with self._guard:
            self._require(node_id, "running")
            holder = subprocess.Popen(
                ["/bin/sh", "-c", _PAUSE, "metcd-pause", str(self._cluster.processes[node_id].pid)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            assert holder.stdout is not None
            self._pauses[node_id] = holder
            if not holder.stdout.read(1):
                self._end_pause(node_id)
                raise BadRequest(409, f"Node {node_id} has just ended.")
        self.say(f"lab: node {node_id} is paused")

    def resume(self, node_id: int) -> None:
        """Has a paused node go on."""
        with self._guard:
            node = self._require(node_id, "paused")
            self._tell(node, self.faults_of(node))
            self._end_pause(node_id)
        self.say(f"lab: node {node_id} goes on")

    def kill(self, node_id: int) -> None:
        """Ends the node's process without warning."""
        with self._guard:
            node = self._require(node_id, "running", "paused")
            self._cluster.kill_node(node)
            self._end_pause(node_id)
        self.say(f"lab: node {node_id} is killed; `start` brings it back")

    def start(self, node_id: int) -> None:
        """Starts a node whose process has ended."""
        with self._guard:
            node = self._require(node_id, "dead")
            self._cluster.kill_node(node)  # one that ended by itself a moment ago is still kept
            self._end_pause(node_id)
            try:
                self._cluster.require_free_ports(node)
            except ClusterError as error:
                raise BadRequest(409, f"Node {node_id} can't be started: {error}.") from None
            self._cluster.start_node(node)
        self.say(f"lab: node {node_id} is started")

    def do(self, node_id: int, action: str) -> None:
        """Has the node do one of server.lab_node.ACTIONS."""
        with self._guard:
            self._tell(self._require(node_id, "running"), json.dumps({"do": action}).encode() + b"\n")
        self.say(f"lab: node {node_id} is told: {action.replace('_', ' ')}")

    def transfer(self, node_id: int) -> None:
        """Has the leader hand over to the node; returns when that leads."""
        self._require(node_id, "running")
        running = [node.url for node in self._nodes.values() if self.process_of(node.id) == "running"]
        try:
            with Client(running, timeout_s=TRANSFER_TIMEOUT_S) as client:
                client.transfer(node_id)
        except NodeError as error:
            raise BadRequest(503, f"Node {node_id} doesn't lead: {error}.") from None
        self.say(f"lab: node {node_id} leads")

    def close(self) -> None:
        """Ends all pauses, and refuses what comes now."""
        with self._guard:
            self._closed = True
            for node_id in list(self._pauses):
                self._end_pause(node_id)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what that is made of ---------------------------------------------------------------------------------------

    def _node(self, node_id: int) -> LocalNode:
        if self._closed:
            raise BadRequest(503, "The cluster stops.")
        if node_id not in self._nodes:
            raise BadRequest(404, f"There is no node {node_id}: this cluster has the nodes 1 to {len(self._nodes)}.")
        return self._nodes[node_id]

    def _require(self, node_id: int, *processes: str) -> LocalNode:
        node, process = self._node(node_id), self.process_of(node_id)
        if process not in processes:
            raise BadRequest(409, f"Node {node_id} is {process}, and this is for one that is {' or '.join(processes)}.")
        return node

    def _tell_faults(self, node: LocalNode) -> None:
        """One that stands still, or has ended, is told later."""
        if self.process_of(node.id) == "running":
            self._tell(node, self.faults_of(node))

    def _tell(self, node: LocalNode, line: bytes) -> None:
        process = self._cluster.processes[node.id]
        assert process.stdin is not None
        descriptor = process.stdin.fileno()
        os.set_blocking(descriptor, False)
        try:
            os.write(descriptor, line)  # all of it or nothing: it is shorter than PIPE_BUF
        except BlockingIOError:
            raise BadRequest(503, f"Node {node.id} doesn't listen: something else has stopped it.") from None
        except OSError:
            pass  # it ends at this moment

    def _end_pause(self, node_id: int) -> None:
        holder = self._pauses.pop(node_id, None)
        if holder is not None:
            assert holder.stdin is not None and holder.stdout is not None
            with contextlib.suppress(OSError):
                holder.stdin.close()
            holder.wait()
            holder.stdout.close()
