"""A real disk that can be made slow or full while the process runs: the Env of a node in a lab, and of one under test.

    {"sync_delay_s": 0.4}          every sync takes that much longer
    {"full_after_bytes": 65536}    that many more bytes can be written; then ENOSPC, a short write first
    {}                             a disk like any other

What is wrong with it is asked before each sync, write and creation. A lab's node is told in lines (server/lab_node.py); a
node under test looks into a file (tests/cluster/control.py), so that a fault needs nothing of the node, which may be
stopped, and no privileges of the machine. No data is changed or lost by it.

Left out: what survives of unsynced data, and errors at a certain call: those are engines/simenv.py's and faultenv.py's,
for disks that are simulated.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Mapping

from engines.env import File, Mode, MutableView, RealEnv, View

__all__ = ["DiskFaults", "FaultyEnv"]

DiskFaults = Mapping[str, float]


class FaultyEnv(RealEnv):
    """The operating system's disk, with faults. Every method may be called by any thread."""

    def __init__(self, look: Callable[[], DiskFaults]) -> None:
        """look: what is wrong now; the same object for as long as nothing changes. Called before each sync and write."""
        super().__init__()
        self._look = look
        self._faults: DiskFaults = {}
        self._left = 0  # bytes until the disk is full
        self._guard = threading.Lock()

    def open(self, path: str, mode: Mode) -> File:
        if mode in ("w", "x"):
            self.take(0)
        return _FaultyFile(self, super().open(path, mode))

    def sync_dir(self, path: str, site: str) -> None:
        self.slow_down()
        super().sync_dir(path, site)

    def faults(self) -> DiskFaults:
        """What is wrong now."""
        faults = self._look()
        if faults is not self._faults:
            self._faults = faults
            self._left = int(faults.get("full_after_bytes", 0))
        return faults

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
