"""All changes of a store, in their order, from a node that serves: its snapshot, loaded into a store in memory.

What clients were told while there were faults is compared with that: it was written by nodes that applied one log, and all
nodes are compared with each other besides (rounds.py).
"""

from __future__ import annotations

import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from engines.memory import MemoryStore
from server.mvcc import Change, Revision, View
from server.snapshot import read_snapshot, save

__all__ = ["changes_of"]

PATIENCE_S = 30.0


def changes_of(url: str) -> list[Change]:
    """Every change since revisions began. Requires: nothing was compacted. Raises OSError, Compacted."""
    with tempfile.TemporaryDirectory() as directory, MemoryStore() as store:
        path = Path(directory) / "snapshot"
        with urllib.request.urlopen(f"{url}/_/snapshot", timeout=PATIENCE_S) as answer:

            def chunks() -> Iterator[bytes]:
                while chunk := answer.read(1 << 18):
                    yield chunk

            save(str(path), chunks())
        store.load(read_snapshot(str(path))[1])
        return list(View(store).changes(Revision(2, 0)))
