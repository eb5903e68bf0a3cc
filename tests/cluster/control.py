"""The control file of a disk under test (server/faulty_env.py): whoever breaks the disk replaces it as a whole.

It is looked at before each sync, write and creation: one stat.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from server.faulty_env import DiskFaults, FaultyEnv

__all__ = ["break_disk", "controlled_env"]


def break_disk(control: Path, **faults: float) -> None:
    """Has a node's disk behave so from its next call on; no faults: like any other."""
    new = control.with_suffix(".new")
    new.write_text(json.dumps(faults))
    new.rename(control)


def controlled_env(control: Path) -> FaultyEnv:
    """The operating system's disk, as a control file says; no file: like any other."""
    return FaultyEnv(_ControlFile(control).read)


class _ControlFile:
    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._seen: tuple[int, int] = (0, 0)
        self._faults: DiskFaults = {}

    def read(self) -> DiskFaults:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return {}
        if (found.st_mtime_ns, found.st_ino) != self._seen:
            with open(self._path) as file:
                self._faults = json.load(file)
            self._seen = (found.st_mtime_ns, found.st_ino)
        return self._faults
