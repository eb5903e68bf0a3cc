"""Where etcd-io/raft's data-driven files are: the folder METCD_ETCD_TESTDATA, or one beside the repository.

They are etcd's, so they are no part of this repository; a run without them says so in its header (tests/conftest.py).
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["FILES", "FOLDER", "header"]

_NAMED = os.environ.get("METCD_ETCD_TESTDATA")
_BESIDE = Path("../shared/reference/etcd-raft-testdata")

FOLDER = Path(_NAMED) if _NAMED else Path(__file__).parents[2] / _BESIDE
FILES = sorted(FOLDER.rglob("*.txt"))


def header() -> str:
    """One line for the head of every run."""
    where = "METCD_ETCD_TESTDATA" if _NAMED else f"{_BESIDE}, or set METCD_ETCD_TESTDATA"
    if FILES:
        return f"etcd's Raft corpus: {len(FILES)} files in {FOLDER.resolve()}"
    return f"etcd's Raft corpus: NOT RUN, no files in {FOLDER} ({where})"
