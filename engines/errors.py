"""What can go wrong in a store, one class for each thing that a caller can do something different about.

    StoreError                    any of the below
    ├── InvalidKey, InvalidValue  the caller's bytes are refused; nothing was written
    │   └── ReservedValue         a value that means something else in the engine's format
    ├── InvalidOption             the caller's option is refused; nothing was opened
    ├── StoreClosed               the store (or snapshot) was closed before the call
    ├── StoreFailed               an earlier write or fsync failed: the disk is the truth, reopen to see it
    ├── StoreForked               the process has forked since the store was opened: a child opens it itself
    ├── StoreLocked               another process, or this one, has the directory open
    ├── StoreChanged              another program has removed files under a store that is open for reading only
    ├── ReadOnly                  a write to a store that was opened for reading
    ├── NoSuchStore               nothing is there, and creating it was not asked for
    ├── WrongEngine               the directory was written by another engine
    ├── ForeignFormat             sound files, but of a program, a version or a feature that the engine doesn't know
    ├── UnknownEngine             no engine has this name
    └── CorruptionError           the bytes on disk are not what their format says

Each message is one sentence that says what was expected, what was found, where, and what to do.
`assert` is for our own invariants; corruption is never found by an `assert`, because `python -O` removes those.
"""

from __future__ import annotations

__all__ = [
    "CorruptionError",
    "ForeignFormat",
    "InvalidKey",
    "InvalidOption",
    "InvalidValue",
    "NoSuchStore",
    "ReadOnly",
    "ReservedValue",
    "StoreChanged",
    "StoreClosed",
    "StoreError",
    "StoreFailed",
    "StoreForked",
    "StoreLocked",
    "UnknownEngine",
    "WrongEngine",
]


class StoreError(Exception):
    """Anything that a store refuses or finds broken."""


class InvalidKey(StoreError, ValueError):
    """A key that is not `bytes` of 1 to 32,768 bytes."""


class InvalidValue(StoreError, ValueError):
    """A value that is not `bytes`, or that the engine's format can't hold."""


class ReservedValue(InvalidValue):
    """A value that the engine's format would take for something else, and has no way to escape."""


class InvalidOption(StoreError, ValueError):
    """An option whose value makes no sense, or that the engine doesn't have."""


class StoreClosed(StoreError):
    """A call on a store or a snapshot after its `close()`."""


class StoreFailed(StoreError):
    """A call after a write or an fsync has failed.

    After a failed fsync the kernel may have marked the lost pages clean, so that a second fsync succeeds without the
    data (the fsyncgate rule). Nothing is therefore retried: the store refuses every call, and a caller who
    opens it again reads what the disk really has. `__cause__` is the first failure.
    """


class StoreForked(StoreError):
    """A call in a forked child on a store that its parent opened.

    Both would write the same files at the same places. The parent's store is untouched by whatever the child calls;
    the child opens the store itself, after the fork, when the parent has closed it.
    """


class StoreLocked(StoreError):
    """The store is open elsewhere: a second writer would destroy it.

    `path` is the lock's file; `holder` says who has it, in words ("process 4711", "this process"); `advice` what to do.
    """

    def __init__(
        self, path: str, holder: str, advice: str = "a store is open in one process at a time; close it there first"
    ) -> None:
        super().__init__(f"{path} is locked by {holder}: {advice}")
        self.path = path
        self.holder = holder


class StoreChanged(StoreError):
    """A file is gone, or shorter, that was there when the store was opened for reading only: a program that its locks
    don't keep out has merged or compacted meanwhile. Nothing is lost; a caller who opens the store again sees its
    present state."""

    def __init__(self, path: str, what: str = "is gone") -> None:
        super().__init__(
            f"{path} {what}: another program has changed the store since it was opened for reading only; open it again"
        )
        self.path = path


class ReadOnly(StoreError):
    """A write to a store that was opened for reading only."""


class NoSuchStore(StoreError, FileNotFoundError):
    """There is no store at the path, and the caller asked not to create one."""

    @classmethod
    def at(cls, path: str) -> NoSuchStore:
        """The error with its sentence, the same for every engine."""
        return cls(f"there is no store at {path}, and creating one was not asked for")


class WrongEngine(StoreError):
    """The path holds another engine's files; `found` and `asked` are the engines' names."""

    def __init__(self, path: str, found: str, asked: str) -> None:
        super().__init__(f"{path} was written by the engine {found!r}, not {asked!r}: open it with engine={found!r}")
        self.path = path
        self.found = found
        self.asked = asked


class ForeignFormat(StoreError):
    """Files that are not damaged, and that this engine can't open: RocksDB's, another comparator, a newer feature.

    `path` is the file or directory; `what` says what it is and what to do. Nothing was changed.
    """

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path
        self.what = what

    def __reduce__(self) -> tuple[object, ...]:
        """So that it can be sent from a process to another one."""
        return type(self), (self.path, self.what)


class UnknownEngine(StoreError, LookupError):
    """No engine is registered under the name, or it can't be imported."""


class CorruptionError(StoreError):
    """Bytes on disk that their format does not allow: a flipped bit, a lost file, a foreign writer.

    `path` is the file, `offset` the byte where the damaged thing begins (None: the file as a whole), `why` says what
    was expected and what was found. Never raised for a torn tail: that is how a crash looks, and recovery handles it.
    """

    def __init__(self, path: str, offset: int | None, why: str) -> None:
        where = path if offset is None else f"{path} at byte {offset}"
        super().__init__(f"{where}: {why}")
        self.path = path
        self.offset = offset
        self.why = why

    def __reduce__(self) -> tuple[object, ...]:
        """So that it can be sent from a process to another one."""
        return type(self), (self.path, self.offset, self.why)
