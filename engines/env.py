"""Env and File: the only door from an engine to disk, clock and randomness.

Nothing else in engines/ opens a file, reads a clock or draws a random number. So one constructor argument decides
whether an engine runs on the real disk (`RealEnv`), on a simulated one whose power can be cut between any two calls
(`simenv.SimEnv`), or on one that fails at call n (`faultenv.FaultEnv`).

What a caller has to know about disks, and where each fact is dealt with:

1. A write is in the page cache; `File.sync` brings it to the disk, and until then any part of it may be lost, and
   later writes may survive earlier ones. Two writes are ordered only by a sync between them.
2. `File.sync` doesn't make the file's *name* durable. After a create, rename or unlink that matters comes
   `Env.sync_dir`; two directory changes without it may survive in either order.
3. A failed sync loses what it was to bring to disk, and the next one may succeed without it. Never retry.
4. Each sync names its site ("lsm.wal.append"), so that a test can leave out exactly that one and see who notices.
5. A mapping of a preallocated file is the fastest way to write small pages (400 ns against 7 µs for a `pwrite`).
   `allocate` first, so that a full disk is an error there and never a SIGBUS; `sync` as for any other write.

Left out: asynchronous I/O, direct I/O, and any file system whose fsync lies. The shape follows LevelDB's Env and
SQLite's VFS, with the directory sync that LevelDB's lacks.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import random
import stat
import sys
import time
from typing import Literal, Protocol, overload

from engines.locks import LockKind, close_file, lock_file

__all__ = [
    "Env",
    "File",
    "Lock",
    "LockKind",
    "Mode",
    "MutableView",
    "RealEnv",
    "StorePath",
    "View",
    "real_env",
]

Mode = Literal["r", "r+", "w", "x"]
StorePath = str | os.PathLike[str]  # what a caller may say; within a store it is what Env.absolute makes of it


class View(Protocol):
    """Bytes of a file, mapped or copied: slices are `bytes`. Valid after the file is closed or unlinked."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> bytes: ...


class MutableView(View, Protocol):
    """A writable mapping: `view[a:b] = data` with b - a == len(data) is a write like any other, unsynced."""

    def __setitem__(self, index: slice, data: bytes, /) -> None: ...


class File(Protocol):
    """An open file. Every method raises OSError when the system call does; offsets and sizes are in bytes."""

    path: str

    def append(self, data: bytes) -> None:
        """Writes all of `data` at the end; after an OSError any part of it may be there."""

    def pread(self, size: int, offset: int) -> bytes:
        """Reads up to `size` bytes at `offset`; fewer only at the end of the file. Thread-safe."""

    def pwrite(self, data: bytes, offset: int) -> None:
        """Writes all of `data` at `offset`; a gap before it reads as zeros. After an OSError any part may be there."""

    def truncate(self, size: int) -> None:
        """Cuts the file, or extends it by zeros."""

    def allocate(self, size: int) -> None:
        """Reserves blocks for the first `size` bytes and extends the file to it by zeros; ENOSPC if there are none."""

    def size(self) -> int:
        """The file's size now."""

    def view(self) -> View:
        """The file's current bytes, for reading. Requires: nobody cuts the file while the view is in use."""

    def map(self) -> MutableView:
        """The file's bytes, for writing in place. Requires: opened for writing, `allocate` of its whole size."""

    def give_back(self, view: View) -> None:
        """Takes a view's pages out of this process's memory: they stay in the file and the system's cache, as they are."""

    def sync(self, site: str) -> None:
        """Brings the file's content and size to the disk (fdatasync). `site` names the call for tests."""

    def close(self) -> None:
        """Closes the descriptor; twice is fine. Nothing is synced by it."""


class Lock(Protocol):
    """A held lock; closing it gives it up, twice is fine."""

    def close(self) -> None: ...


class Env(Protocol):
    """Where files are, what time it is, and what chance says. Paths are str with "/" between their parts."""

    rng: random.Random

    def open(self, path: str, mode: Mode) -> File:
        """Opens a file: "r" to read, "r+" to read and write what exists, "w" to begin empty, "x" to create anew.

        Raises FileNotFoundError ("r", "r+"), FileExistsError ("x"), OSError.
        """

    def absolute(self, path: StorePath) -> str:
        """The path from the root on, so that a later chdir doesn't move a store; links are not followed."""

    def resolve(self, path: str) -> str:
        """Where a symbolic link at `path` leads, whether something is there or not; `path` itself if it is none."""

    def exists(self, path: str) -> bool:
        """True if a file or directory has this name."""

    def is_dir(self, path: str) -> bool:
        """True if the path is a directory."""

    def mode(self, path: str) -> int:
        """The permission bits of a file (Riak marks a segment that awaits deletion with one of them)."""

    def adopt(self, path: str, like: str) -> None:
        """Gives a file that was just created the owner, the group and the permissions of the file `like`.

        As far as this process may: root may, so that the files that it writes in another user's store stay that
        user's; anybody else keeps the permissions, and the group where the system allows it. Raises OSError if either
        can't be looked at.
        """

    def list(self, path: str) -> list[str]:
        """The names in a directory, sorted."""

    def makedirs(self, path: str, site: str) -> None:
        """Creates a directory and its missing parents, each made durable by a sync of the one above it.

        The one above the first that was there is synced too: the process that made that may have been killed before the sync.
        """

    def rename(self, old: str, new: str) -> None:
        """Renames a file, replacing `new`: atomic for readers, durable after `sync_dir`."""

    def link(self, old: str, new: str) -> None:
        """Gives a file a second name; durable after `sync_dir`."""

    def unlink(self, path: str) -> None:
        """Removes a name; durable after `sync_dir`."""

    def sync_dir(self, path: str, site: str) -> None:
        """Makes the names in the directory `path` durable: creations, renames, unlinks. `site` as for File.sync."""

    def lock(self, path: str, kind: LockKind = "posix", *, shared: bool = False) -> Lock:
        """Locks the file at `path` against other processes and against this one.

        "posix" is fcntl's record lock on the whole file, LevelDB's way; "flock" is flock's, the way of bbolt and
        goleveldb; the two don't see each other, so "both" takes both. An exclusive lock creates a missing file. A
        shared one excludes exclusive ones only, changes nothing on the disk, and needs no right to write.
        Raises StoreLocked at once if somebody has it, FileNotFoundError if there is nothing to share, OSError.
        """

    def pid(self) -> int:
        """This process's id, for lock files that say who holds them."""

    def process_alive(self, pid: int) -> bool:
        """True if a process with this id exists."""

    def now(self) -> float:
        """Seconds on a clock that only goes forward, of no particular origin."""

    def unix_time(self) -> float:
        """Seconds since 1970, for formats that store them; may jump."""


class _RealFile:
    """A File on a file descriptor. `_end` is kept here, because a writer is the only one who moves it."""

    __slots__ = ("_end", "_fd", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._end = os.fstat(fd).st_size

    def append(self, data: bytes) -> None:
        try:
            written = os.pwrite(self._fd, data, self._end)
            self._end += written
            if written != len(data):
                self._write_rest(memoryview(data)[written:])
        except OSError as error:
            raise self._named(error) from None

    def _write_rest(self, rest: memoryview) -> None:
        """A short write is no error by itself: the next one tells whether there is one (ENOSPC)."""
        while rest:
            written = os.pwrite(self._fd, rest, self._end)
            self._end += written
            rest = rest[written:]

    def _named(self, error: OSError) -> OSError:
        """The error with the file's name in it: a call on a descriptor has none ("No space left on device", where?)."""
        error.filename = self.path
        return error

    def pread(self, size: int, offset: int) -> bytes:
        try:
            data = os.pread(self._fd, size, offset)
            if len(data) == size:
                return data
            parts = [data]
            while data and size > (got := sum(map(len, parts))):
                data = os.pread(self._fd, size - got, offset + got)
                parts.append(data)
        except OSError as error:
            raise self._named(error) from None
        return b"".join(parts)

    def pwrite(self, data: bytes, offset: int) -> None:
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(self._fd, rest, offset)
                offset += written
                rest = rest[written:]
                self._end = max(self._end, offset)
        except OSError as error:
            raise self._named(error) from None

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise self._named(error) from None
        self._end = size

    def allocate(self, size: int) -> None:
        try:
            if size > 0:
                os.posix_fallocate(self._fd, 0, size)
                self._end = max(self._end, size)
        except OSError as error:
            raise self._named(error) from None

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def view(self) -> View:
        size = self.size()
        return mmap.mmap(self._fd, size, access=mmap.ACCESS_READ) if size else b""

    def map(self) -> MutableView:
        return mmap.mmap(self._fd, self.size())

    def give_back(self, view: View) -> None:
        if isinstance(view, mmap.mmap) and sys.platform == "linux":
            with contextlib.suppress(OSError):  # a process that has locked its memory (mlockall) keeps it
                view.madvise(mmap.MADV_DONTNEED)  # of a shared mapping: what was written through it stays

    def sync(self, site: str) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._named(error) from None

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            close_file(fd)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            self.close()  # an interrupt may have come between `open` and the `try` that closes it


_FLAGS = {
    "r": os.O_RDONLY | os.O_NONBLOCK,  # for a pipe: opening one waits for its writer otherwise, for ever
    "r+": os.O_RDWR,
    "w": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "x": os.O_RDWR | os.O_CREAT | os.O_EXCL,
}


class RealEnv:
    """The operating system's disk and clocks. Files are created with mode 0600, directories with 0700."""

    def __init__(self) -> None:
        self.rng = random.Random()

    def open(self, path: str, mode: Mode) -> File:
        return _RealFile(path, os.open(path, _FLAGS[mode] | os.O_CLOEXEC, 0o600))

    def absolute(self, path: StorePath) -> str:
        if not path:
            raise FileNotFoundError(errno.ENOENT, "an empty path is no store's", path)
        return os.path.abspath(os.fsdecode(path))  # bytes are no StorePath, but what else could be meant?

    def resolve(self, path: str) -> str:
        return os.path.realpath(path) if os.path.islink(path) else path

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(path)

    def mode(self, path: str) -> int:
        return stat.S_IMODE(os.stat(path).st_mode)

    def adopt(self, path: str, like: str) -> None:
        wanted = os.stat(like)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _adopt(fd, wanted)
        finally:
            close_file(fd)

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def makedirs(self, path: str, site: str) -> None:
        parent = os.path.dirname(os.path.abspath(path))
        if self.is_dir(path):
            # The process that made it may have been killed before the sync. A parent that can't be read isn't our making.
            with contextlib.suppress(PermissionError):
                self.sync_dir(parent, site)
            return
        self.makedirs(parent, site)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        self.sync_dir(parent, site)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def link(self, old: str, new: str) -> None:
        os.link(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def sync_dir(self, path: str, site: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: str, kind: LockKind = "posix", *, shared: bool = False) -> Lock:
        return lock_file(path, kind, shared)

    def pid(self) -> int:
        return os.getpid()

    def process_alive(self, pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    # one call, not two: a node asks for the time 25 times for a PUT, and Bitcask for each record
    now = staticmethod(time.monotonic)
    unix_time = staticmethod(time.time)


def _adopt(fd: int, wanted: os.stat_result) -> None:
    """Owner, group and permissions for the open file. One that this process can't have created is left alone: in a
    directory where others write, the name may lead to a file of somebody else's.
    """
    now = os.fstat(fd)
    if now.st_uid != os.geteuid() or now.st_nlink != 1 or not stat.S_ISREG(now.st_mode):
        return
    permissions = stat.S_IMODE(wanted.st_mode) & 0o777
    if now.st_gid != wanted.st_gid:
        try:
            os.fchown(fd, -1, wanted.st_gid)
        except PermissionError:
            permissions &= ~0o070  # they are meant for another group than this process's
    if stat.S_IMODE(now.st_mode) != permissions:
        os.fchmod(fd, permissions)
    if now.st_uid != wanted.st_uid:
        with contextlib.suppress(PermissionError):
            os.fchown(fd, wanted.st_uid, -1)


_REAL = RealEnv()


def real_env() -> Env:
    """The one RealEnv that stores share unless they are given another Env."""
    return _REAL


def plain_everywhere() -> bool:
    """True if METCD_PLAIN in the environment says that no engine is to install its accelerations."""
    return os.environ.get("METCD_PLAIN", "0") not in ("", "0")
