"""Data directories of nodes that have lived for a while, and what can happen to them; for the table of test_identity.py."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from server.config import NodeConfig
from server.node import Node
from tests.server.local_nodes import cuts_over, eventually, free_ports

__all__ = ["Lived", "files", "lived"]


@dataclasses.dataclass
class Lived:
    """A directory whose node was stopped, and the configuration it had. `value` is what it answers for b"key"."""

    config: NodeConfig
    path: Path
    value: bytes | None

    def start(self, **changes: Any) -> Node:
        """Opens the directory as its node does, with changes to what the node is told."""
        return Node(dataclasses.replace(self.config, **changes))

    def copy(self, to: Path) -> Path:
        """What is there now, to be put back later."""
        shutil.copytree(self.path, to)
        return to

    def live_on(self, puts: int = 3) -> None:
        """Another life: it starts, writes, and stops. The same life leaves the same files, however slow the machine is:
        every cut of the log ends before the next write."""
        node = self.start()
        node.start()
        eventually("it leads", lambda: node.status()["role"] == "leader")
        for number in range(puts):
            self.value = b"%d of %d" % (number, puts)
            node.propose([(b"key", self.value)])
            cuts_over(node)
        node.stop()

    def answers(self, node: Node) -> bytes | None:
        """What a node on this directory answers when it leads; the node is stopped."""
        node.start()
        try:
            eventually("it leads", lambda: node.status()["role"] == "leader")
            node.read_barrier()
            return node.machine.lookup(b"key")
        finally:
            node.stop()

    def log(self) -> list[Path]:
        """The log's segments, oldest first."""
        return sorted((self.path / "wal").glob("*.wal"))


def lived(path: Path, engine: str = "memory", puts: int = 20, **options: Any) -> Lived:
    """The directory of a cluster of one, which has voted for itself and committed its writes."""
    peers = options.pop("peers", None) or {1: ("127.0.0.1", free_ports(1)[0])}
    # An election takes 10 to 19 ticks, and one that is alone waits for nobody's answer.
    config = NodeConfig(1, peers, str(path), engine, tick_s=0.002, **options)
    directory = Lived(config, path, None)
    directory.live_on(puts)
    return directory


def files(path: Path) -> dict[str, bytes]:
    """Every file but the locks, and its bytes."""
    return {
        str(each.relative_to(path)): each.read_bytes()
        for each in sorted(path.rglob("*"))
        if each.is_file() and each.name not in ("LOCK", "lsm.lock") and not each.name.endswith(".lock")
    }
