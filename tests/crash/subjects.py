"""The table of what the power-cut machine runs on.

An engine joins with one line; tests/crash/machine.py tells how anything else does. An engine of one's own needs no line:
`subject_named("path/to/file.py:Class")`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from engines import engine_class
from tests.crash.bitcask_subject import BitcaskSubject
from tests.crash.btree_subject import BTreeSubject
from tests.crash.directory_subject import DirectorySubject
from tests.crash.machine import Subject
from tests.crash.raft_subjects import SnapshotSubject, WalSubject
from tests.crash.store_subject import StoreSubject

__all__ = ["SUBJECTS", "TOY", "subject_named"]

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


def subject_named(name: str, logs: Sequence[str] = ("*",)) -> Subject:
    """A subject of the table, or an engine by its place, "path/to/file.py:Class" or "package.module:Class".

    `logs` are the names (fnmatch) of an engine's files whose end may be torn; "*" lets damage anywhere shorten history.
    Raises UnknownEngine, and ValueError for an engine that keeps no files.
    """
    if name in SUBJECTS:
        return SUBJECTS[name]()
    if not engine_class(name).persistent:
        raise ValueError(
            f"{name} keeps no files (persistent = False): a power cut takes all of it, and that is no failure"
        )
    subject = StoreSubject(name, logs=logs)
    subject.name = name
    return subject
