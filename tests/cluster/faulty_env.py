"""A real disk that can be made slow or full while the process runs: what a node of tests.cluster.node has for an Env.

    control file            {"sync_delay_s": 0.4}        every sync takes that much longer
                            {"full_after_bytes": 65536}  that many more bytes can be written; then ENOSPC, a short write first
                            {} or no file                a disk like any other

The file is looked at before each sync, write and creation (one stat), and replaced as a whole by who breaks the disk. So a
fault needs nothing of the node, which may be stopped, and no privileges of the machine.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

from engines.env import File, Mode, MutableView, RealEnv, View

__all__ = ["FaultyEnv", "break_disk"]


def break_disk(control: Path, **faults: float) -> None:
    """Has a node's disk behave so from its next call on; no faults: like any other."""
    new = control.with_suffix(".new")
    new.write_text(json.dumps(faults))
    new.rename(control)


class FaultyEnv(RealEnv):
    """The operating system's disk, as a control file says."""

    def __init__(self, control: Path) -> None:
        super().__init__()
        self._control = str(control)
        self._seen: tuple[int, int] = (0, 0)
        self._faults: dict[str, Any] = {}
        self._left = 0  # bytes until the disk is full
        self._guard = threading.Lock()

    def open(self, path: str, mode: Mode) -> File:
        if mode in ("w", "x"):
            self.take(0)
        return _FaultyFile(self, super().open(path, mode))

    def sync_dir(self, path: str, site: str) -> None:
        self.slow_down()
        super().sync_dir(path, site)

    def faults(self) -> dict[str, Any]:
        """What the control file says now."""
        try:
            found = os.stat(self._control)
        except FileNotFoundError:
            return {}
        if (found.st_mtime_ns, found.st_ino) != self._seen:
            with open(self._control) as file:
                self._faults = json.load(file)
            self._seen = (found.st_mtime_ns, found.st_ino)
            self._left = int(self._faults.get("full_after_bytes", 0))
        return self._faults

    def slow_down(self) -> None:
        """Takes the time that a sync takes longer."""
        delay_s = self.faults().get("sync_delay_s", 0)
        if delay_s:
            threading.Event().wait(delay_s)

    def take(self, size: int) -> int:
        """How many of `size` more bytes fit on the disk. Raises OSError(ENOSPC) if none does."""
        with self._guard:
            if "full_after_bytes" not in self.faults():
                return size
            fits = min(size, self._left)
            self._left -= fits
        if fits == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fits


class _FaultyFile:
    """A file on such a disk."""

    def __init__(self, env: FaultyEnv, file: File) -> None:
        self._env = env
        self._file = file
        self.path = file.path
        self.pread = file.pread  # reading is never slow, and needs no room
        self.size = file.size
        self.close = file.close

    def append(self, data: bytes) -> None:
        fits = self._env.take(len(data)) if data else 0
        self._file.append(data[:fits])
        if fits < len(data):
            self._full()

    def pwrite(self, data: bytes, offset: int) -> None:
        grows = max(0, offset + len(data) - self._file.size())
        if grows:
            self._fit(grows)
        self._file.pwrite(data, offset)

    def truncate(self, size: int) -> None:
        self._file.truncate(size)

    def allocate(self, size: int) -> None:
        grows = max(0, size - self._file.size())
        if grows:
            self._fit(grows)
        self._file.allocate(size)

    def view(self) -> View:
        return self._file.view()

    def map(self) -> MutableView:
        return self._file.map()

    def give_back(self, view: View) -> None:
        self._file.give_back(view)

    def sync(self, site: str) -> None:
        self._env.slow_down()
        self._file.sync(site)

    def _fit(self, size: int) -> None:
        if self._env.take(size) < size:
            self._full()

    def _full(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
