"""The table of what the power-cut machine runs on.

An engine joins with one line; tests/crash/machine.py tells how anything else does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.crash.bitcask_subject import BitcaskSubject
from tests.crash.btree_subject import BTreeSubject
from tests.crash.directory_subject import DirectorySubject
from tests.crash.machine import Subject
from tests.crash.raft_subjects import SnapshotSubject, WalSubject
from tests.crash.store_subject import StoreSubject

__all__ = ["SUBJECTS", "TOY"]

TOY = f"{Path(__file__).parents[2]}/examples/toy.py:ToyStore"

SUBJECTS: dict[str, Callable[[], Subject]] = {
    "toy": lambda: StoreSubject(TOY, logs=("*.log",)),
    "lsm": lambda: StoreSubject(
        "lsm", logs=("*.log",), write_buffer_bytes=600, max_file_bytes=400, block_bytes=128, max_manifest_bytes=700
    ),
    "btree": BTreeSubject,
    "bitcask": BitcaskSubject,
    "wal": WalSubject,
    "snapshot": SnapshotSubject,
    "directory": DirectorySubject,
}
