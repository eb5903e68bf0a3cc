"""FaultEnv: an Env whose call n fails, once or for ever.

    FaultEnv(env, 12)                         call 12 raises EIO, and the next ones work
    FaultEnv(env, 12, ENOSPC, forever=True)   the disk is full from call 12 on
    FaultEnv(env, 3, short_write=True)        write 3 writes its first half, and raises ENOSPC
    FaultEnv(env, 2, EMFILE, kinds=OPENS)     the second call that needs a file descriptor gets none

The test is SQLite's: let call 1 fail, then call 2, and so on until a run completes untouched.

1. A call that fails does nothing, except that a short write writes half and a failed sync on a SimEnv loses the pending
   writes for ever (the fsyncgate rule).
2. Writes through a mapping can't fail: `allocate` has reserved their blocks. They are not counted.
3. Looking doesn't fail unless asked for by `kinds`; `size`, `exists`, `is_dir`, `mode` and `close` never do.

Left out: bit rot (`SimEnv.poke`), and errors that a real disk reports late, at a sync of another descriptor.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Collection
from typing import TYPE_CHECKING

from engines.env import Env, File, Lock, LockKind, Mode, MutableView, View
from engines.simenv import KINDS, Call, SimEnv, SimFile, os_error, path_parts

__all__ = ["OPENS", "FaultEnv"]

OPENS = frozenset(("open", "create", "sync_dir", "lock"))  # what needs a file descriptor: these fail with EMFILE


class FaultEnv:
    """Any Env, of which call `fail_at` (1 is the first) raises OSError(error); with `forever`, the later ones too.

    `kinds` says which calls are counted and can fail: by default all of KINDS but "map" (a mapping has no errors but
    signals). Besides them, "open" (to read, or what exists), "pread", "view", "list" and "lock" may be named; `OPENS`
    are those that fail with EMFILE. With `short_write`, only writes count: the one that fails writes its first half,
    and the error is ENOSPC. `calls` counts, `fired` is the first call that has failed.
    """

    def __init__(
        self,
        env: Env,
        fail_at: int,
        error: int = errno.EIO,
        *,
        forever: bool = False,
        short_write: bool = False,
        kinds: Collection[str] | None = None,
    ) -> None:
        self.env = env
        self.fail_at = fail_at
        self.error = errno.ENOSPC if short_write else error
        self.forever = forever
        self.short_write = short_write
        self.kinds = frozenset(kinds or (("append", "pwrite") if short_write else KINDS - {"map"}))
        self.calls = 0
        self.fired: Call | None = None

    def _fails(self, kind: str, path: str, site: str = "") -> bool:
        """Counts a call, and says whether it is one that fails."""
        if kind not in self.kinds:
            return False
        self.calls += 1
        if self.calls != self.fail_at and not (self.forever and self.calls > self.fail_at):
            return False
        self.fired = self.fired or Call(self.calls, kind, path, site)
        return True

    def _check(self, kind: str, path: str) -> None:
        if self._fails(kind, path):
            raise os_error(self.error, path)

    def open(self, path: str, mode: Mode) -> File:
        self._check("open" if mode in ("r", "r+") else "create", path)
        return _FaultFile(self, self.env.open(path, mode))

    def absolute(self, path: str | os.PathLike[str]) -> str:
        return self.env.absolute(path)

    def resolve(self, path: str) -> str:
        return self.env.resolve(path)

    def exists(self, path: str) -> bool:
        return self.env.exists(path)

    def is_dir(self, path: str) -> bool:
        return self.env.is_dir(path)

    def mode(self, path: str) -> int:
        return self.env.mode(path)

    def adopt(self, path: str, like: str) -> None:
        self.env.adopt(path, like)

    def list(self, path: str) -> list[str]:
        self._check("list", path)
        return self.env.list(path)

    def makedirs(self, path: str, site: str) -> None:
        """As SimEnv's, call by call; on another Env, the whole of it is one call."""
        if not isinstance(self.env, SimEnv):
            self._check("mkdir", path)
            self.env.makedirs(path, site)
            return
        above = "/" + "/".join(path_parts(path)[:-1])
        if not self.env.is_dir(path):
            self.makedirs(above, site)
            self._check("mkdir", path)
            self.env.mkdir(path)
        self.sync_dir(above, site)

    def rename(self, old: str, new: str) -> None:
        self._check("rename", new)
        self.env.rename(old, new)

    def link(self, old: str, new: str) -> None:
        self._check("link", new)
        self.env.link(old, new)

    def unlink(self, path: str) -> None:
        self._check("unlink", path)
        self.env.unlink(path)

    def sync_dir(self, path: str, site: str) -> None:
        if self._fails("sync_dir", path, site):
            if isinstance(self.env, SimEnv):
                self.env.lose_dir(path)
            raise os_error(self.error, path)
        self.env.sync_dir(path, site)

    def lock(self, path: str, kind: LockKind = "posix", *, shared: bool = False) -> Lock:
        self._check("lock", path)
        return self.env.lock(path, kind, shared=shared)

    def pid(self) -> int:
        return self.env.pid()

    def process_alive(self, pid: int) -> bool:
        return self.env.process_alive(pid)

    def now(self) -> float:
        return self.env.now()

    def unix_time(self) -> float:
        return self.env.unix_time()

    @property
    def rng(self) -> random.Random:
        return self.env.rng

    @rng.setter
    def rng(self, rng: random.Random) -> None:
        self.env.rng = rng


class _FaultFile:
    """A File of a FaultEnv."""

    __slots__ = ("_env", "_file", "path")

    def __init__(self, env: FaultEnv, file: File) -> None:
        self._env = env
        self._file = file
        self.path = file.path

    def append(self, data: bytes) -> None:
        if self._env._fails("append", self.path):
            if self._env.short_write:
                self._file.append(data[: len(data) // 2])
            raise os_error(self._env.error, self.path)
        self._file.append(data)

    def pwrite(self, data: bytes, offset: int) -> None:
        if self._env._fails("pwrite", self.path):
            if self._env.short_write:
                self._file.pwrite(data[: len(data) // 2], offset)
            raise os_error(self._env.error, self.path)
        self._file.pwrite(data, offset)

    def pread(self, size: int, offset: int) -> bytes:
        self._env._check("pread", self.path)
        return self._file.pread(size, offset)

    def truncate(self, size: int) -> None:
        self._env._check("truncate", self.path)
        self._file.truncate(size)

    def allocate(self, size: int) -> None:
        self._env._check("allocate", self.path)
        self._file.allocate(size)

    def size(self) -> int:
        return self._file.size()

    def view(self) -> View:
        self._env._check("view", self.path)
        return self._file.view()

    def map(self) -> MutableView:
        return self._file.map()

    def give_back(self, view: View) -> None:
        self._file.give_back(view)

    def sync(self, site: str) -> None:
        if self._env._fails("sync", self.path, site):
            if isinstance(self._file, SimFile):
                self._file.lose()
            raise os_error(self._env.error, self.path)
        self._file.sync(site)

    def close(self) -> None:
        self._file.close()


if TYPE_CHECKING:  # mypy sees that it keeps the protocol
    _: Env = FaultEnv(SimEnv(), 1)
