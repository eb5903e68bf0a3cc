"""Who may open a directory: one store of ours, or one Riak.

    bitcask.metcd.lock     locked with fcntl: excludes every other store of ours, and ends with its process
    bitcask.write.lock     Riak's: "<pid> <active file>\\n"; it exists while somebody writes
    bitcask.merge.lock     Riak's: the same, while somebody merges

Riak believes a lock file if a process with its pid exists, and then refuses for ever if the pid was given to another
process after a crash (basho/bitcask#255). So our files carry a second line, "metcd". The process that holds the fcntl lock
knows that no store of ours is open, and takes files with that line for what a crash has left, whatever their pid is now.
A file of Riak's is believed as Riak does it; a file that nobody can read is what a power cut left of one.

While a store is open it holds both of Riak's locks: a merge of Riak's would delete files that are in use here.

Follows bitcask_lockops.erl. Left out: syncing the lock files. Riak takes a torn one for a live one; opening the
directory with metcd, which after a crash has to come first anyway, clears it away.
"""

from __future__ import annotations

import contextlib
import re

from engines.bitcask.segment import data_file_id
from engines.env import Env, Lock
from engines.errors import StoreLocked

__all__ = ["OWN_LOCK", "RIAK_LOCKS", "DirectoryLock", "shared_lock"]

OWN_LOCK = "bitcask.metcd.lock"
RIAK_LOCKS = ("bitcask.write.lock", "bitcask.merge.lock")

OUR_LINE = b"metcd"
RIAKS_ADVICE = (
    "this is a lock of Riak's, which holds as long as a process with that number exists; if process {} is Riak, close "
    "the store there; if Riak has crashed and its number is another process's now, remove the lock's file"
)
CONTENT = re.compile(rb"([0-9]{1,18}) .*\n(.*)")


def shared_lock(env: Env, directory: str) -> Lock:
    """What a store for reading only holds: our own lock, shared, if there is one; it makes no file.

    Without one, no store of ours is open. Riak's locks keep Riak's writers apart, and never kept a reader out.
    Raises StoreLocked if a store of ours writes, OSError.
    """
    try:
        return env.lock(f"{directory}/{OWN_LOCK}", shared=True)
    except FileNotFoundError:
        return NoLock()


class NoLock:
    """Nothing, held."""

    def close(self) -> None:
        """Gives nothing up."""


class DirectoryLock:
    """All three locks of a directory; made when they are held, and closed in the end, twice if you like.

    Raises StoreLocked, with the holder's pid, OSError.
    """

    def __init__(self, env: Env, directory: str) -> None:
        self._env = env
        self._taken: list[str] = []
        is_new = not env.exists(f"{directory}/{OWN_LOCK}")
        self._own: Lock = env.lock(f"{directory}/{OWN_LOCK}")
        try:
            self._like = _data_file(env, directory)
            if is_new and self._like is not None:
                env.adopt(f"{directory}/{OWN_LOCK}", self._like)
            for name in RIAK_LOCKS:
                self._take(f"{directory}/{name}")
        except BaseException:
            self.close()
            raise

    def _take(self, path: str) -> None:
        env = self._env
        if env.exists(path):
            holder = self._holder(path)
            if holder is not None:
                raise StoreLocked(path, f"process {holder}", RIAKS_ADVICE.format(holder))
            env.unlink(path)
        try:
            file = env.open(path, "x")
        except FileExistsError:
            raise StoreLocked(path, "a process that was faster") from None
        self._taken.append(path)
        try:
            if self._like is not None:
                self._env.adopt(path, self._like)  # or Riak, as another user, could not see that it is stale
            file.append(b"%d \n%s\n" % (env.pid(), OUR_LINE))
        finally:
            file.close()

    def _holder(self, path: str) -> int | None:
        """The process that holds Riak's lock; None if it is stale."""
        file = self._env.open(path, "r")
        try:
            match = CONTENT.match(file.pread(4096, 0))
        finally:
            file.close()
        if match is None or match[2] == OUR_LINE:
            return None
        pid = int(match[1])
        return pid if pid != self._env.pid() and self._env.process_alive(pid) else None

    def close(self) -> None:
        """Gives the locks up, as far as the disk lets it: the next opening knows that what is left is stale."""
        for path in self._taken:
            with contextlib.suppress(OSError):
                self._env.unlink(path)
        self._taken = []
        self._own.close()


def _data_file(env: Env, directory: str) -> str | None:
    """The path of a data file, whose owner is the store's; None if there is none."""
    names = (name for name in env.list(directory) if (file := data_file_id(name)) is not None and file[1] == "data")
    return next((path for name in names if not env.is_dir(path := f"{directory}/{name}")), None)
