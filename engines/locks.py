"""Locks on files, against other processes and against this one; and what becomes of them in a forked child.

    posix    fcntl's record lock, LevelDB's way    a process's own: a child doesn't have it
    flock    flock's, bbolt's and goleveldb's way  an open descriptor's: a child has it as well, until both have closed it

A part of `engines.env`, the door to the disk, which says what a lock promises (`Env.lock`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import weakref
from collections.abc import Callable
from typing import Literal

from engines.errors import StoreLocked

__all__ = ["HeldLock", "LockKind", "after_fork_in_child", "close_file", "lock_file"]

LockKind = Literal["posix", "flock", "both"]


class _Held:
    """A file that this process has locked: the descriptor that carries the lock, given up with the last reference.

    By reference, not by a counter: an interrupt between any two lines then leaves nothing locked.
    """

    __slots__ = ("__weakref__", "beside", "fd", "is_posix", "shared")

    def __init__(self, path: str, shared: bool, is_posix: bool) -> None:
        self.shared = shared
        self.is_posix = is_posix
        self.beside: list[int] = []  # other descriptors of the file, which live as long as the lock (`close_file`)
        self.fd = os.open(path, (os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT) | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Unlocks and closes; twice is fine.

        Without the first, a child that was forked and has not run yet, or is about to run another program, would keep the
        lock until it closes the descriptor that it has inherited.
        """
        if getattr(self, "fd", -1) >= 0:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        self.forget()

    def forget(self) -> None:
        """Closes the descriptor in a forked child, which unlocks nothing while the parent has it."""
        fd, self.fd = getattr(self, "fd", -1), -1
        if fd >= 0:
            os.close(fd)
            while self.beside:
                os.close(self.beside.pop())

    def __del__(self) -> None:
        # a lock on the same inode that was taken in between would vanish with this descriptor
        with _held_lock: self.close()  # fmt: skip  # noqa: E701


# POSIX locks don't exclude the process that holds them, and vanish when it closes *any* descriptor of the file: so the
# inode is looked up here before the file is opened a second time, and all that share a lock share its descriptor.
_held: weakref.WeakValueDictionary[tuple[int, int], _Held] = weakref.WeakValueDictionary()  # by device and inode
_held_lock = threading.RLock()  # the collector may drop a store, and so its lock, in the middle of taking another one


class HeldLock:
    """A held lock, or a share of one."""

    __slots__ = ("_held",)

    def __init__(self, held: _Held) -> None:
        self._held: _Held | None = held

    def close(self) -> None:
        self._held = None


def _drop_locks_in_child() -> None:
    """A forked child has no lock of its parent's: fcntl's aren't inherited, and flock's would outlive the parent's close
    for as long as the child keeps the descriptor open. Closing it there unlocks nothing here.

    The table's own lock may be held by a thread that the child doesn't have.
    """
    global _held_lock
    _held_lock = threading.RLock()
    for held in list(_held.values()):
        held.forget()
    _held.clear()


def after_fork_in_child(call: Callable[[], None]) -> None:
    """Has `call` run in every child that is forked from now on, before anything else runs there."""
    os.register_at_fork(after_in_child=call)


after_fork_in_child(_drop_locks_in_child)


def lock_file(path: str, kind: LockKind, shared: bool) -> HeldLock:
    """What `Env.lock` says, for a file of the operating system's."""
    with _held_lock: return _find_or_take(path, kind, shared)  # fmt: skip  # noqa: E701


def _find_or_take(path: str, kind: LockKind, shared: bool) -> HeldLock:
    held = _held.get(_inode(os.stat(path))) if os.path.exists(path) else None
    if held is None or held.fd < 0:
        held = _take_lock(path, kind, shared)
    elif not (shared and held.shared):
        del held  # else the traceback, and the caller who keeps it, would keep the lock
        raise StoreLocked(path, "this process")
    return HeldLock(held)


def close_file(fd: int) -> None:
    """Closes a descriptor; of a file that this process has a POSIX lock on, when the lock is given up.

    The system drops the lock with *any* descriptor of the file: a thread that only looked at it would let others in.
    """
    with _held_lock: _close_or_keep(fd)  # fmt: skip  # noqa: E701


def _close_or_keep(fd: int) -> None:
    held = _held.get(_inode(os.fstat(fd))) if _held else None
    if held is not None and held.is_posix and held.fd >= 0:
        held.beside.append(fd)
    else:
        os.close(fd)


def _take_lock(path: str, kind: LockKind, shared: bool) -> _Held:
    """Locks a file that this process has no lock on, and enters it in the table."""
    held = _Held(path, shared, kind != "flock")
    try:
        operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        if kind != "flock":
            fcntl.lockf(held.fd, operation)
        if kind != "posix":
            fcntl.flock(held.fd, operation)
    except OSError as error:
        holder = _lock_holder(os.fstat(held.fd))
        held.close()
        if isinstance(error, (BlockingIOError, PermissionError)):
            raise StoreLocked(path, holder) from None
        raise
    _held[_inode(os.fstat(held.fd))] = held
    return held


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _lock_holder(status: os.stat_result) -> str:
    """Who holds a lock on the file, from /proc/locks ("1: FLOCK ADVISORY WRITE 4711 fd:01:2097 0 EOF")."""
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError), open("/proc/locks") as table:
        for line in table:
            fields = line.replace("->", "").split()
            if len(fields) > 5 and fields[5] == wanted and fields[4] != str(os.getpid()):
                return f"process {fields[4]}"
    return "another process"
