"""A script as a film: a moment for each command, each message that it delivers or drops, and each Ready.

    film_of_script(script, random.Random(0))      the object that raft/simulation/film/make.py makes a page of

The script's comments are told with the command below them, so a script that explains a figure of the paper is a film that
explains it. Time is the number of the moment. Where the output is not what the script expects, the film ends, and says so:
what a simulated run has in a broken property, a script has in its first difference.

Left out: other ends (a script is changed by writing another one), and messages between a node and its own two threads.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from raft.config import Config
from raft.interaction.cluster import Cluster
from raft.interaction.commands import Interaction
from raft.interaction.confchange_commands import COMMANDS as CONFCHANGE
from raft.interaction.datadriven import Directive, Script, ScriptError
from raft.interaction.quorum_commands import COMMANDS as QUORUM
from raft.interaction.script import Difference, without_log_lines
from raft.raftpb import Message, Snapshot, SnapshotMetadata
from raft.rawnode import RawNode
from raft.simulation.film.data import Acts, film_data, with_sources
from raft.simulation.film.recorder import Film
from raft.storage import MemoryStorage

__all__ = ["film_of_script"]


@dataclass
class _Applied:
    index: int


@dataclass
class _Disk:
    """The storage of a script's node, whose snapshot is the one that cut its log, and not the one made a moment ago."""

    storage: MemoryStorage

    def last_index(self) -> int:
        return self.storage.last_index()

    def snapshot(self) -> Snapshot:
        return Snapshot(SnapshotMetadata(self.storage.first_index() - 1))


class _Look:
    """A script's node as the recorder looks at one (raft/simulation/peer.py)."""

    def __init__(self, cluster: Cluster, node_id: int) -> None:
        self.cluster = cluster
        self.id = node_id

    @property
    def node(self) -> RawNode:
        return self.cluster.nodes[self.id].raw_node

    @property
    def storage(self) -> _Disk:
        return _Disk(self.cluster.nodes[self.id].storage)

    @property
    def application(self) -> _Applied:
        return _Applied(self.cluster.nodes[self.id].history[-1].metadata.index)


class _Filmed(Cluster):
    """A cluster that tells a film of whatever moves."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.film = Film()
        self.looks: dict[int, Any] = {}  # Any: the recorder wants peers, and these only look like them

    @property
    def now(self) -> int:
        return len(self.film.moments)

    def begins(self, node_id: int, kind: str) -> None:
        """Another moment."""
        self.film.begins(self.now, "")
        self.film.current.at = self.now
        self.film.current.node, self.film.current.kind = node_id, kind

    def looked(self) -> None:
        """What each node is now."""
        for look in self.looks.values():
            self.film.looked_at(self.now, look)

    def add_nodes(self, count: int, config: Config, snapshot: Snapshot) -> None:
        before = set(self.nodes)
        super().add_nodes(count, config, snapshot)
        for node_id in self.nodes.keys() - before:
            self.looks[node_id] = _Look(self, node_id)
            self.film.started(self.now, self.looks[node_id])

    def restart(self, node_id: int) -> None:
        super().restart(node_id)
        self.film.started(self.now, self.looks[node_id])

    def hand_over(self, message: Message) -> None:
        if self._between_nodes(message):
            self.begins(message.to, "receives")
            self.film.received(self.now, message)
        super().hand_over(message)
        self.looked()

    def drop(self, message: Message) -> None:
        if self._between_nodes(message):
            self.begins(message.to, "lost")
            self.film.lost(self.now, message)

    def process_ready(self, node_id: int) -> None:
        self.begins(node_id, "disk")
        before = len(self.messages)
        super().process_ready(node_id)
        self._sent(before)

    def process_append_thread(self, node_id: int) -> None:
        self.begins(node_id, "disk")
        before = len(self.messages)
        super().process_append_thread(node_id)
        self._sent(before)

    def process_apply_thread(self, node_id: int) -> None:
        self.begins(node_id, "applies")
        super().process_apply_thread(node_id)
        self.looked()

    def send_snapshot(self, sender: int, receiver: int) -> None:
        before = len(self.messages)
        super().send_snapshot(sender, receiver)
        self._sent(before)

    def _sent(self, before: int) -> None:
        for message in self.messages[before:]:
            if self._between_nodes(message):
                self.film.sent(self.now, message)
        self.looked()

    def _between_nodes(self, message: Message) -> bool:
        return message.from_ != message.to and message.from_ in self.nodes and message.to in self.nodes


class _Recording(Interaction):
    """Runs the directives of a script on a cluster that is filmed."""

    cluster: _Filmed
    told = ""  # where the last command stood whose comments were told: those in its input share them

    def new_cluster(self, rng: random.Random) -> Cluster:
        return _Filmed(rng)

    def run_one(self, directive: Directive) -> str:
        cluster = self.cluster
        words = [directive.command, *(_argument(one.key, one.values) for one in directive.arguments)]
        cluster.begins(0, "command")
        if directive.where != self.told:
            self.told = directive.where
            comments = [line for line in directive.head.splitlines() if line.startswith("#")]
            cluster.film.current.lines += [(0, line) for line in comments]
        cluster.film.current.lines.append((0, " ".join(words)))
        error = super().run_one(directive)
        cluster.looked()
        if error:
            cluster.film.current.lines.append((0, error))
        return error


def _argument(key: str, values: tuple[str, ...]) -> str:
    if not values:
        return key
    return f"{key}={values[0]}" if len(values) == 1 else f"{key}=({','.join(values)})"


def film_of_script(script: Script, rng: random.Random, title: str, log_lines: bool = True) -> dict[str, Any]:
    """Plays a script of nodes and messages, and returns the film as an object for JSON.

    Raises `ScriptError` for one that can't be run, and for a script about quorums or configurations, which has no nodes.
    """
    first = script.directives[0] if script.directives else None
    if first is None or first.command in QUORUM or first.command in CONFCHANGE:
        raise ScriptError(
            f"{first.where if first else script.name}: a film is made of a script with nodes and messages"
        )
    recording = _Recording(rng)
    difference: Difference | None = None
    for directive in script.directives:
        text = recording.run(directive)
        actual = text if not text or text.endswith("\n") else text + "\n"
        expected = directive.expected
        if not log_lines:
            expected, actual = without_log_lines(expected), without_log_lines(actual)
        if expected != actual:
            difference = Difference(directive, expected, actual)
            break
    film = recording.cluster.film
    violation = f"not what the script says: {difference}" if difference is not None else ""
    film.ends()
    acts: Acts = {}
    data = film_data(film, title, "", violation, [("script", script.name)], acts)
    return with_sources({**data, "tick": 1, "steps": {}, "skipped": []}, film, acts)
