"""Engines that do what a learner's may do: fail, hang, die, talk."""

from __future__ import annotations

import os
import signal
import sys
import threading

from engines.kvstore import WriteBatch
from engines.memory import MemoryStore


class Failing(MemoryStore):
    """Refuses every batch of more than one."""

    name = "failing"

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        if len(batch) > 1:
            raise RuntimeError("no room\nfor batches")
        super().write(batch, sync=sync)


class Dying(MemoryStore):
    """Takes its process with it at the first batch."""

    name = "dying"

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        if len(batch) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        super().write(batch, sync=sync)


class Hanging(MemoryStore):
    """Never returns from a batch."""

    name = "hanging"

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        if len(batch) > 1:
            threading.Event().wait()
        super().write(batch, sync=sync)


class Talking(MemoryStore):
    """Prints at every put, as programs do that are being written."""

    name = "talking"

    def put(self, key: bytes, value: bytes, *, sync: bool | None = None) -> None:
        print("put", key)
        sys.stdout.flush()
        super().put(key, value, sync=sync)
