"""What a node of a lab is told on its standard input, and what it does then: real faults, in its transport and its Env.

    metcd cluster --lab                                   metcd serve --lab URL
    server/lab.py ── {"mute": [2], "deaf": [2, 3], ────▶  links: Transport.cut       no frame, no call, no answer
                      "sync_delay_s": 0.2}                disk: FaultyEnv            each sync takes that much longer
                  ── {"do": "compact"} ────────────────▶  what a program with the store in its hands could ask of it
                     {"do": "campaign"}                   asks for votes now; who hears a leader refuses (pre-vote)
                     {"do": "step_down"}                  a leader gives up, as if a majority had not answered it

Invariants:

1. A line of faults is all of them: what it doesn't name is whole. So a node that was away needs the last line only.
2. The node takes part when it has its first line of faults, so that a link which is cut is never used.
3. Nothing here is reached by a port. Whoever holds the standard input of a process has started it.
4. A line that is none of these is told in the log, and changes nothing. A line has at most LINE_BYTES_MAX bytes.

A campaign by hand asks whether it could win, like every other: to pass over the leases of those who hear a leader, as a
transfer of the leadership does, is safe only if that leader knows of it (server/lease_reads.py).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from engines.errors import StoreClosed
from raft import RawNode
from server.faulty_env import DiskFaults, FaultyEnv
from server.logs import logger

__all__ = ["ACTIONS", "SYNC_DELAY_S_MAX", "Breakable", "LabNode"]

LINE_BYTES_MAX = 4096
SYNC_DELAY_S_MAX = 10.0
PEERS_MAX = 64

_log = logger("lab")


class Breakable(NamedTuple):
    """The parts of a node that a lab works on."""

    cut: Callable[[frozenset[int], frozenset[int]], None]  # server.transport.Transport's
    compact: Callable[[], None]
    later: Callable[[Callable[[], object]], None]  # has a function called in the node's thread
    raft: RawNode
    may_campaign: Callable[[], bool]


class LabNode:
    """The lines of one node. `take` is for the thread that reads them."""

    def __init__(self) -> None:
        self.begun = threading.Event()  # the first line of faults has come
        self._buffer = b""
        self._links: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
        self._disk: DiskFaults = {}
        self._node: Breakable | None = None
        self._compacting: threading.Thread | None = None

    def env(self) -> FaultyEnv:
        """The disk that the node is to have."""
        return FaultyEnv(lambda: self._disk)

    def attach(self, node: Breakable) -> None:
        """Has the node's links be as the lines say. To be called before the node starts, when it has `begun`."""
        self._node = node
        node.cut(*self._links)

    def take(self, data: bytes) -> None:
        """Does what the lines say that end in `data`."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > LINE_BYTES_MAX:
            lines, self._buffer = [*lines, self._buffer], b""
        for line in lines:
            try:
                self._do(line)
            except (ValueError, RecursionError) as error:
                _log.warning("a line of the lab is passed over: %s", error)

    def _do(self, line: bytes) -> None:
        told = json.loads(line) if len(line) <= LINE_BYTES_MAX else None
        if not isinstance(told, dict):
            raise ValueError(f"it is no JSON object of at most {LINE_BYTES_MAX} bytes")
        if "do" in told:
            action = ACTIONS.get(told["do"]) if isinstance(told["do"], str) else None
            if action is None or len(told) > 1:
                raise ValueError(f"what can be done is {', '.join(ACTIONS)}")
            if self._node is not None:
                action(self, self._node)
            return
        if told.keys() - {"mute", "deaf", "sync_delay_s"}:
            raise ValueError("faults are mute, deaf and sync_delay_s")
        links = _peers(told.get("mute", [])), _peers(told.get("deaf", []))
        delay_s = told.get("sync_delay_s", 0)
        if type(delay_s) not in (int, float) or not 0 <= delay_s <= SYNC_DELAY_S_MAX:
            raise ValueError(f"sync_delay_s is a number from 0 to {SYNC_DELAY_S_MAX:g}")
        self._links, self._disk = links, {"sync_delay_s": delay_s}
        if self._node is not None:
            self._node.cut(*links)
        self.begun.set()

    def compact(self, node: Breakable) -> None:
        """Has the store compact in a thread of its own; nothing if it does that already."""

        def run() -> None:
            try:
                node.compact()
            except StoreClosed:
                pass  # the node stops
            except Exception as error:
                _log.warning("the store can't compact: %s", error)

        if self._compacting is None or not self._compacting.is_alive():
            self._compacting = threading.Thread(target=run, name="lab-compact", daemon=True)
            self._compacting.start()

    def campaign(self, node: Breakable) -> None:
        """Has the node ask for votes now."""
        node.later(lambda: node.raft.campaign() if node.may_campaign() else None)

    def step_down(self, node: Breakable) -> None:
        """Has a leader become a follower of its own term; the next election is real."""

        def give_up() -> None:
            raft = node.raft.raft
            if raft.lead == raft.id:
                raft.become_follower(raft.term, 0)

        node.later(give_up)


ACTIONS: dict[str, Callable[[LabNode, Breakable], None]] = {
    "compact": LabNode.compact,
    "campaign": LabNode.campaign,
    "step_down": LabNode.step_down,
}


def _peers(told: Any) -> frozenset[int]:
    if not isinstance(told, list) or len(told) > PEERS_MAX or not all(type(peer) is int for peer in told):
        raise ValueError("mute and deaf are lists of the numbers of nodes")
    return frozenset(told)
