"""Every public call of a store, and calls from another process: for the cases that treat all of them alike."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from engines import KVStore

__all__ = ["calls_on", "run_python"]

REPOSITORY = Path(__file__).parents[2]


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a process of its own, which has to end within a minute."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )


def calls_on(store: KVStore) -> dict[str, Callable[[], object]]:
    """Every public method of a store, ready to be called."""

    def batch() -> None:
        with store.batch() as batch:
            batch.put(b"a", b"1")

    return {
        "get": lambda: store.get(b"a"),
        "multi_get": lambda: store.multi_get([b"a"]),
        "in": lambda: b"a" in store,
        "scan": lambda: store.scan(),
        "put": lambda: store.put(b"a", b"1"),
        "delete": lambda: store.delete(b"a"),
        "batch": batch,
        "snapshot": lambda: store.snapshot(),
        "load": lambda: store.load([(b"a", b"1")]),
        "flush": lambda: store.flush(),
        "compact": lambda: store.compact(),
        "check": lambda: store.check(),
        "stats": lambda: store.stats(),
        "size_bytes": lambda: store.size_bytes(),
        "describe": lambda: store.describe(),
        "sketch": lambda: store.sketch(),
        "explain": lambda: store.explain(b"a"),
    }
