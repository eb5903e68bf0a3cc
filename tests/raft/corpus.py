"""Where etcd-io/raft's data-driven files are: the folder METCD_ETCD_TESTDATA, or one beside the repository.

They are etcd's, so they are no part of this repository. A run without them says so in its head and at its end
(tests/conftest.py), and fails if the folder was named.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["FILES", "NAMED", "header"]

NAMED = os.environ.get("METCD_ETCD_TESTDATA")
_BESIDE = Path("../shared/reference/etcd-raft-testdata")

_FOLDER = Path(NAMED) if NAMED else Path(__file__).parents[2] / _BESIDE
FILES = sorted(_FOLDER.rglob("*.txt"))


def header() -> str:
    """One line for the head of every run."""
    where = "METCD_ETCD_TESTDATA" if NAMED else f"{_BESIDE}, or set METCD_ETCD_TESTDATA"
    if FILES:
        return f"etcd's Raft corpus: {len(FILES)} files in {_FOLDER.resolve()}"
    return f"etcd's Raft corpus: NOT RUN, no files in {_FOLDER} ({where})"
