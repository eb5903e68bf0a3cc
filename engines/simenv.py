"""SimEnv: a disk in memory whose power can be cut between any two calls.

    env = SimEnv(seed=7)                      env.after_call = look       look(Call(12, "sync", "/db/1.log", "wal.append"))
    store = Engine("/db", env=env)            env.skip_sites = {"..."}    as if this fsync had been forgotten
    store.put(b"k", b"v")
    image = env.crash(Policy.TORN, rng)       another SimEnv: a disk that may be found after a power cut just now
    Engine("/db", env=image)

Every call that changes the disk has a number and a kind (`KINDS`); a cut after each call shows every disk that there
can be, because what a call has changed is pending until a sync, and any part of that may be lost.

1. Each of Env's calls does what RealEnv does, errors included; a test compares the two.
2. What a power cut leaves is decided in `engines.simdisk`, and its docstring says what the disk promises.
3. A write through `map()` is a pending write like any other.
4. A view shows what is written to the file after it was made, as a shared mapping does. Reading from it what has been
   cut off is an AssertionError here, and a SIGBUS there.
5. Deterministic: no clock but the virtual one, no chance but the seed's.

Left out: permissions, free space (`faultenv.FaultEnv` has ENOSPC), `..`, symbolic links. For one thread at a time, as simulations
are: an engine under it does its background work in the foreground.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, overload

from engines.env import Env, File, Lock, LockKind, Mode, MutableView, View
from engines.errors import StoreLocked
from engines.simdisk import FIXED, RANDOM, SECTOR_BYTES, Directory, Inode, Node, Policy, copied, fingerprint, survived

__all__ = ["FILE_KINDS", "FIXED", "KINDS", "NAME_KINDS", "RANDOM", "SECTOR_BYTES", "Call", "Policy", "SimEnv"]

# What changes the disk. Each such call has a number, and the power can be cut after it.
FILE_KINDS = frozenset(("append", "pwrite", "map", "truncate", "allocate", "sync"))
NAME_KINDS = frozenset(("create", "rename", "link", "unlink", "mkdir", "sync_dir"))
KINDS = FILE_KINDS | NAME_KINDS


class Call(NamedTuple):
    """One numbered call, 1 being the first; `site` is "" unless it is a sync."""

    number: int
    kind: str
    path: str
    site: str = ""


def os_error(number: int, path: str) -> OSError:
    """What the operating system's error `number` raises: FileNotFoundError for ENOENT, and so on."""
    return OSError(number, os.strerror(number), path)


@lru_cache(4096)
def path_parts(path: str) -> tuple[str, ...]:
    """The names that the path goes through."""
    return tuple(part for part in path.split("/") if part not in ("", "."))


class _SimView:
    """A mapping for reading, of the file's size at the time."""

    __slots__ = ("_inode", "_size")

    def __init__(self, inode: Inode) -> None:
        self._inode = inode
        self._size = len(inode.content)

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> bytes: ...
    def __getitem__(self, index: int | slice, /) -> int | bytes:
        content = self._inode.content
        if isinstance(index, slice):
            start, stop, step = index.indices(self._size)
            assert stop <= len(content) or start >= stop, "SIGBUS: the file was cut while a view of it is in use"
            return bytes(content[start:stop:step])
        position = range(self._size)[index]
        assert position < len(content), "SIGBUS: the file was cut while a view of it is in use"
        return content[position]


class _SimMap(_SimView):
    """A mapping for writing: each assignment is a numbered call."""

    __slots__ = ("_env", "_path")

    def __init__(self, inode: Inode, env: SimEnv, path: str) -> None:
        super().__init__(inode)
        self._env = env
        self._path = path

    def __setitem__(self, index: slice, data: bytes, /) -> None:
        start, stop, step = index.indices(self._size)
        if step != 1 or max(0, stop - start) != len(data):
            raise IndexError(f"the slice has {max(0, stop - start)} bytes, and the data {len(data)}")
        assert stop <= len(self._inode.content), "SIGBUS: the file was cut while a mapping of it is in use"
        self._inode.write(start, bytes(data))
        self._env._called("map", self._path)


class SimFile:
    """A File on an inode; it stays usable when its name is gone."""

    __slots__ = ("_env", "_inode", "_open", "_writable", "path")

    def __init__(self, env: SimEnv, inode: Inode, path: str, writable: bool) -> None:
        self._env = env
        self._inode = inode
        self._writable = writable
        self._open = True
        self.path = path
        env.open_files += 1

    def append(self, data: bytes) -> None:
        self._write(len(self._inode.content), data, "append")

    def pwrite(self, data: bytes, offset: int) -> None:
        self._write(offset, data, "pwrite")

    def _write(self, offset: int, data: bytes, kind: str) -> None:
        self._require(writable=True)
        if offset < 0:
            raise os_error(errno.EINVAL, self.path)
        if data:
            self._inode.write(offset, bytes(data))
        self._env._called(kind, self.path)

    def pread(self, size: int, offset: int) -> bytes:
        self._require()
        if offset < 0 or size < 0:
            raise os_error(errno.EINVAL, self.path)
        self._env.reads += 1
        return bytes(self._inode.content[offset : offset + size])

    def truncate(self, size: int) -> None:
        self._require()
        if size < 0 or not self._writable:
            raise os_error(errno.EINVAL, self.path)
        self._inode.write(size, None)
        self._env._called("truncate", self.path)

    def allocate(self, size: int) -> None:
        if size > 0:
            self._require(writable=True)
            if size > len(self._inode.content):
                self._inode.write(size, b"")
            self._env._called("allocate", self.path)

    def size(self) -> int:
        self._require()
        return len(self._inode.content)

    def view(self) -> View:
        self._require()
        self._env.reads += 1
        return _SimView(self._inode)

    def map(self) -> MutableView:
        self._require()
        if not self._inode.content:
            raise ValueError("cannot map an empty file: allocate it first")
        if not self._writable:
            raise os_error(errno.EACCES, self.path)
        return _SimMap(self._inode, self._env, self.path)

    def give_back(self, view: View) -> None:
        """Nothing: a simulated view has no memory of its own."""

    def sync(self, site: str) -> None:
        self._require()
        self._env._sync(self._inode, self.path, "sync", site)

    def lose(self) -> None:
        """What a failed sync does: the pending writes will never be durable, though readers still see them."""
        self._inode.lose()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._env.open_files -= 1

    def _require(self, writable: bool = False) -> None:
        if not self._open or (writable and not self._writable):
            raise os_error(errno.EBADF, self.path)


class _SimLock:
    """A held lock."""

    __slots__ = ("_held", "_inode")

    def __init__(self, held: dict[Inode, tuple[int, bool]], inode: Inode, shared: bool) -> None:
        self._held = held
        self._inode: Inode | None = inode
        held[inode] = held.get(inode, (0, shared))[0] + 1, shared

    def close(self) -> None:
        if self._inode is not None:
            users, shared = self._held.pop(self._inode)
            if users > 1:
                self._held[self._inode] = users - 1, shared
            self._inode = None


class SimEnv:
    """The simulated disk, its clock and its chance. "/" is there, and durable; a relative path begins at it.

    `after_call` is called with each Call that has changed the disk. A sync whose site is in `skip_sites` has a number
    and does nothing. `sites` are those that have been called; `calls`, `reads` and `open_files` are counters.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        skip_sites: Collection[str] = (),
        after_call: Callable[[Call], None] | None = None,
    ) -> None:
        self.seed = seed
        self.skip_sites = frozenset(skip_sites)
        self.after_call = after_call
        self.calls = 0
        self.reads = 0
        self.open_files = 0
        self.sites: set[str] = set()
        self.clock = 0.0  # seconds since the first SimEnv of this disk
        self.own_pid = 1000
        self.alive = {self.own_pid}  # the processes that exist
        self._root = Directory()
        self._held: dict[Inode, tuple[int, bool]] = {}  # how many hold it, and whether they share it
        self._foreign: dict[tuple[str, LockKind], tuple[str, bool]] = {}
        self._rng: random.Random | None = None

    # ---- what happens to the disk -------------------------------------------------------------------------------

    def crash(self, policy: Policy, rng: random.Random) -> SimEnv:
        """A disk that may be found after a power cut just now (after `kill -9`, for `everything`).

        This one stays as it is. On the new one, nobody holds a lock, the process has another id, `skip_sites` holds
        too, and there is no `after_call`. O(names + bytes of files with pending writes).
        """
        image = SimEnv(self.seed + 1, skip_sites=self.skip_sites)
        root = copied(self._root, {}) if policy is Policy.EVERYTHING else survived(self._root, policy, rng, {})
        assert isinstance(root, Directory)
        image._root = root
        image.clock = self.clock
        image.own_pid = self.own_pid + 1
        image.alive = self.alive - {self.own_pid} | {image.own_pid}
        return image

    def fingerprint(self) -> int:
        """A hash of all names and bytes, and of what is pending: equal for disks that nobody can tell apart."""
        return fingerprint(self._root, {})

    def is_durable(self) -> bool:
        """True if nothing is pending, so that all images of this moment are the same."""
        return self._root.is_durable()

    def files(self) -> dict[str, bytes]:
        """Path → content of every file, as readers see it, in the order of paths."""
        found: dict[str, bytes] = {}
        todo: list[tuple[str, Node]] = [("", self._root)]
        while todo:
            path, node = todo.pop()
            if isinstance(node, Inode):
                found[path] = node.frozen()
            else:
                todo += [(f"{path}/{name}", child) for name, child in node.entries.items()]
        return dict(sorted(found.items()))

    def poke(self, path: str, content: bytes, mode: int | None = None) -> None:
        """Bit rot: the existing file has this content from now on, durably, and its permission bits if given."""
        inode = self._inode(path)
        inode.content = inode.durable = content
        inode.pending, inode.lost = [], False
        inode.mode = inode.mode if mode is None else mode

    def advance(self, seconds: float) -> None:
        """Lets virtual time pass."""
        self.clock += seconds

    def lock_elsewhere(self, path: str, holder: str, kind: LockKind = "posix", *, shared: bool = False) -> None:
        """Another process, `holder` in words, takes a lock; it ends with a crash."""
        self._foreign["/".join(path_parts(path)), kind] = (holder, shared)

    def _called(self, kind: str, path: str, site: str = "") -> None:
        self.calls += 1
        if self.after_call is not None:
            self.after_call(Call(self.calls, kind, path, site))

    def _sync(self, node: Node, path: str, kind: str, site: str) -> None:
        self.sites.add(site)
        if site not in self.skip_sites:
            node.sync()
        self._called(kind, path, site)

    # ---- names --------------------------------------------------------------------------------------------------

    def _find(self, path: str) -> Node | None:
        """What the path names; None if its last part is missing. Raises OSError if an earlier one is."""
        node: Node | None = self._root
        for part in path_parts(path):
            if node is None:
                raise os_error(errno.ENOENT, path)
            if isinstance(node, Inode):
                raise os_error(errno.ENOTDIR, path)
            node = node.entries.get(part)
        return node

    def _existing(self, path: str) -> Node:
        if (node := self._find(path)) is None:
            raise os_error(errno.ENOENT, path)
        return node

    def _inode(self, path: str) -> Inode:
        node = self._existing(path)
        if isinstance(node, Directory):
            raise os_error(errno.EISDIR, path)
        return node

    def _directory(self, path: str) -> Directory:
        node = self._existing(path)
        if isinstance(node, Inode):
            raise os_error(errno.ENOTDIR, path)
        return node

    def _parent(self, path: str) -> tuple[Directory, str]:
        """The directory that has the path's last part as a name, and that name."""
        parts = path_parts(path)
        if not parts:
            raise os_error(errno.EBUSY, path)
        return self._directory("/".join(parts[:-1])), parts[-1]

    def open(self, path: str, mode: Mode) -> File:
        directory, name = self._parent(path)
        node = directory.entries.get(name)
        if mode == "x" and node is not None:
            raise os_error(errno.EEXIST, path)
        if isinstance(node, Directory):
            raise os_error(errno.EISDIR, path)
        if node is None:
            if mode in ("r", "r+"):
                raise os_error(errno.ENOENT, path)
            node = Inode()
            directory.change((name, node))
            self._called("create", path)
        elif mode == "w":
            node.write(0, None)
            self._called("truncate", path)
        return SimFile(self, node, path, mode != "r")

    def absolute(self, path: str | os.PathLike[str]) -> str:
        return "/" + "/".join(path_parts(os.fspath(path)))

    def resolve(self, path: str) -> str:
        return path

    def exists(self, path: str) -> bool:
        try:
            return self._find(path) is not None
        except OSError:
            return False

    def is_dir(self, path: str) -> bool:
        try:
            return isinstance(self._find(path), Directory)
        except OSError:
            return False

    def mode(self, path: str) -> int:
        node = self._existing(path)
        return node.mode if isinstance(node, Inode) else 0o700

    def adopt(self, path: str, like: str) -> None:
        """There is one user here, and permissions are what `chmod` says."""

    def list(self, path: str) -> list[str]:
        return sorted(self._directory(path).entries)

    def makedirs(self, path: str, site: str) -> None:
        above = "/" + "/".join(path_parts(path)[:-1])
        if not self.is_dir(path):
            self.makedirs(above, site)
            self.mkdir(path)
        self.sync_dir(above, site)

    def mkdir(self, path: str) -> None:
        """One directory, if nothing has its name. Not part of Env: FaultEnv needs it to fail between it and its sync."""
        directory, name = self._parent(path)
        if name not in directory.entries:
            directory.change((name, Directory()))
        self._called("mkdir", path)

    def rename(self, old: str, new: str) -> None:
        source, old_name = self._parent(old)
        target, new_name = self._parent(new)
        node = self._existing(old)
        replaced = target.entries.get(new_name)
        if isinstance(node, Directory):
            if path_parts(new)[: len(path_parts(old))] == path_parts(old) and node is not replaced:
                raise os_error(errno.EINVAL, new)
            if isinstance(replaced, Inode):
                raise os_error(errno.ENOTDIR, new)
            if replaced is not None and replaced.entries and replaced is not node:
                raise os_error(errno.ENOTEMPTY, new)
        elif isinstance(replaced, Directory):
            raise os_error(errno.EISDIR, new)
        if replaced is not node:  # two names of one file: rename(2) does nothing
            if source is target:
                source.change((old_name, None), (new_name, node))
            else:
                target.change((new_name, node))
                source.change((old_name, None))
        self._called("rename", new)

    def link(self, old: str, new: str) -> None:
        node = self._existing(old)
        directory, name = self._parent(new)
        if name in directory.entries:
            raise os_error(errno.EEXIST, new)
        if isinstance(node, Directory):
            raise os_error(errno.EPERM, old)
        directory.change((name, node))
        self._called("link", new)

    def unlink(self, path: str) -> None:
        self._inode(path)
        directory, name = self._parent(path)
        directory.change((name, None))
        self._called("unlink", path)

    def sync_dir(self, path: str, site: str) -> None:
        self._sync(self._directory(path), path, "sync_dir", site)

    def lose_dir(self, path: str) -> None:
        """What a failed sync of a directory does: see `SimFile.lose`."""
        self._directory(path).lose()

    def lock(self, path: str, kind: LockKind = "posix", *, shared: bool = False) -> Lock:
        if not shared and self._find(path) is None:
            self.open(path, "x").close()
        inode = self._inode(path)
        if inode in self._held and not (shared and self._held[inode][1]):
            raise StoreLocked(path, "this process")
        for each in ("posix", "flock") if kind == "both" else (kind,):
            holder, also_shared = self._foreign.get(("/".join(path_parts(path)), each), ("", True))
            if holder and not (shared and also_shared):
                raise StoreLocked(path, holder)
        return _SimLock(self._held, inode, shared)

    # ---- process, time, chance ----------------------------------------------------------------------------------

    def pid(self) -> int:
        return self.own_pid

    def process_alive(self, pid: int) -> bool:
        return pid in self.alive

    def now(self) -> float:
        return self.clock

    def unix_time(self) -> float:
        return 1_700_000_000.0 + self.clock

    @property
    def rng(self) -> random.Random:
        """Made when first asked for, because seeding takes longer than all the rest of an image."""
        if self._rng is None:
            self._rng = random.Random(self.seed)
        return self._rng

    @rng.setter
    def rng(self, rng: random.Random) -> None:
        self._rng = rng


if TYPE_CHECKING:  # mypy sees that it keeps the protocol
    _: Env = SimEnv()
