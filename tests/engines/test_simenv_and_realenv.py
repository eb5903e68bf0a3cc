"""The real disk as the judge of the simulated one: random sequences of calls have the same values and the same errors."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engines.env import Env, File, RealEnv
from engines.errors import StoreLocked
from engines.simenv import Policy, SimEnv

NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/b", "d/e", "a/x", "missing/x"])
DATA = st.binary(max_size=9)
OFFSETS = st.integers(-1, 12)
OPERATIONS = st.one_of(
    st.tuples(st.just("open"), NAMES, st.sampled_from(["r", "r+", "w", "x"])),
    st.tuples(st.sampled_from(["unlink", "list", "mkdir", "exists", "is_dir", "mode", "sync_dir", "lock"]), NAMES),
    st.tuples(st.sampled_from(["rename", "link"]), NAMES, NAMES),
    st.tuples(st.just("append"), DATA),
    st.tuples(st.just("pwrite"), DATA, OFFSETS),
    st.tuples(st.just("pread"), OFFSETS, OFFSETS),
    st.tuples(st.sampled_from(["truncate", "allocate"]), OFFSETS),
    st.tuples(st.just("map"), st.integers(0, 12), DATA),
    st.tuples(st.sampled_from(["size", "view", "sync", "close"])),
)


class Player:
    """Plays operations on an Env below `root`, and says what came out of each: a value, or the kind of error."""

    def __init__(self, env: Env, root: str) -> None:
        self.env = env
        self.root = root
        self.file: File | None = None

    def play(self, operation: tuple[Any, ...]) -> Any:
        name, *arguments = operation
        try:
            mine = getattr(self, name, None)
            return mine(*arguments) if mine is not None else self._named(name, *arguments)
        except (OSError, ValueError, IndexError, StoreLocked) as error:
            return type(error).__name__, getattr(error, "errno", None)

    def _named(self, name: str, *paths: str) -> Any:
        method: Callable[..., Any] = getattr(self.env, name)
        return method(*(f"{self.root}/{path}" for path in paths))

    def open(self, path: str, mode: Any) -> None:
        if mode == "r" and self.env.is_dir(f"{self.root}/{path}"):
            return  # the real disk opens a directory for reading, and then fails at everything
        file = self.env.open(f"{self.root}/{path}", mode)
        self.close()
        self.file = file

    def mkdir(self, path: str) -> None:
        self.env.makedirs(f"{self.root}/{path}", "mkdir")

    def sync_dir(self, path: str) -> None:
        self.env.sync_dir(f"{self.root}/{path}", "names")

    def lock(self, path: str) -> None:
        if self.file is None and not self.env.is_dir(f"{self.root}/{path}"):
            with_lock = self.env.lock(f"{self.root}/{path}")
            try:
                self.env.lock(f"{self.root}/{path}", "flock", shared=True)
            finally:
                with_lock.close()

    def append(self, data: bytes) -> None:
        if self.file is not None:
            self.file.append(data)

    def pwrite(self, data: bytes, offset: int) -> None:
        if self.file is not None and data:
            self.file.pwrite(data, offset)

    def pread(self, size: int, offset: int) -> bytes | None:
        return self.file.pread(size, offset) if self.file is not None and size >= 0 else None

    def truncate(self, size: int) -> None:
        if self.file is not None:
            self.file.truncate(size)

    def allocate(self, size: int) -> None:
        if self.file is not None:
            self.file.allocate(size)

    def map(self, offset: int, data: bytes) -> bytes | None:
        if self.file is None:
            return None
        mapping = self.file.map()
        mapping[offset : offset + len(data)] = data
        return mapping[:]

    def size(self) -> int | None:
        return self.file.size() if self.file is not None else None

    def view(self) -> bytes | None:
        return self.file.view()[:] if self.file is not None else None

    def sync(self) -> None:
        if self.file is not None:
            self.file.sync("content")

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file.close()
            self.file = None


def tree(env: Env, path: str) -> dict[str, Any]:
    """Everything below a path, whatever the Env."""
    found: dict[str, Any] = {}
    for name in env.list(path):
        child = f"{path}/{name}"
        if env.is_dir(child):
            found[name] = tree(env, child)
        else:
            file = env.open(child, "r")
            found[name] = (file.pread(1000, 0), env.mode(child))
            file.close()
    return found


@given(st.lists(OPERATIONS, max_size=40))
def test_the_simulated_disk_behaves_like_the_real_one(operations: list[tuple[Any, ...]]) -> None:
    """Any sequence of calls has the same values and the same errors."""
    with tempfile.TemporaryDirectory() as root:
        real, sim = Player(RealEnv(), root), Player(SimEnv(), "/root")
        sim.env.makedirs("/root", "mkdir")
        try:
            for operation in operations:
                assert real.play(operation) == sim.play(operation), operation
            assert tree(real.env, root) == tree(sim.env, "/root")
        finally:
            real.close()


@given(st.lists(OPERATIONS, max_size=30), st.integers(0, 1000))
def test_no_image_lacks_what_was_synced(operations: list[tuple[Any, ...]], seed: int) -> None:
    """Promise 1, whatever has happened: sync all, do more, cut. Files that were not touched since are as they were."""
    env = SimEnv()
    player = Player(env, "/root")
    player.mkdir("")
    for operation in operations:
        player.play(operation)
    sync_all(env, "/root")
    before = env.files()
    for policy in Policy:
        assert env.crash(policy, random.Random(seed)).files() == before
    env.open("/root/new", "w").append(b"x" * 700)
    for policy in Policy:
        image = env.crash(policy, random.Random(seed)).files()
        image.pop("/root/new", None)
        assert image == {path: data for path, data in before.items() if path != "/root/new"}


def sync_all(env: SimEnv, path: str) -> None:
    for name in env.list(path):
        child = f"{path}/{name}"
        if env.is_dir(child):
            sync_all(env, child)
        else:
            file = env.open(child, "r+")
            file.sync("content")
            file.close()
    env.sync_dir(path, "names")
