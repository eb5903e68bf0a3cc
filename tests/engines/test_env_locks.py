"""engines/env.py: locks that keep out this process and others, and that say who has them."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from engines import StoreLocked
from engines.env import LockKind, RealEnv, real_env

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def env() -> RealEnv:
    return RealEnv()


KINDS: list[LockKind] = ["posix", "flock", "both"]

TRY_LOCK = """
import sys
from engines import StoreLocked
from engines.env import RealEnv
try:
    RealEnv().lock(sys.argv[1], sys.argv[2], shared=sys.argv[3] == "shared")
    print("got it")
except StoreLocked as error:
    print(error.holder)
"""

HOLD_LOCK = """
import sys
from engines.env import RealEnv
lock = RealEnv().lock(sys.argv[1], sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def another_process_tries(path: str, kind: LockKind, how: str = "exclusive") -> str:
    ran = subprocess.run(
        [sys.executable, "-c", TRY_LOCK, path, kind, how], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_keeps_everybody_out(env: RealEnv, tmp_path: Path, kind: LockKind) -> None:
    """This process, through another Env as well, and another process, which is told who has it; until it is closed.

    The refused attempt of our own comes first: POSIX locks vanish when their process closes any descriptor of the file.
    """
    path = f"{tmp_path}/LOCK"
    lock = env.lock(path, kind)
    for other in (env, RealEnv(), real_env()):
        with pytest.raises(StoreLocked) as refusal:
            other.lock(path, kind)
        assert (refusal.value.holder, refusal.value.path) == ("this process", path)
    assert another_process_tries(path, kind) == f"process {os.getpid()}"
    lock.close()
    lock.close()
    assert another_process_tries(path, kind) == "got it"
    env.lock(path, kind).close()


@contextmanager
def held_by_another_process(path: str, kind: LockKind) -> Iterator[int]:
    """Another process has the lock, and is killed at the end of the block; its id."""
    command = [sys.executable, "-c", HOLD_LOCK, path, kind]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            yield holder.pid
        finally:
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait(60)


@pytest.mark.parametrize("kind", KINDS)
def test_the_holder_is_looked_up_in_proc_locks(env: RealEnv, tmp_path: Path, kind: LockKind) -> None:
    """StoreLocked names the other process; when that is killed, its lock is gone with it."""
    path = f"{tmp_path}/LOCK"
    with held_by_another_process(path, kind) as pid:
        with pytest.raises(StoreLocked) as refusal:
            env.lock(path, kind)
        assert refusal.value.holder == f"process {pid}"
        assert f"process {pid}" in str(refusal.value)
    env.lock(path, kind).close()


def test_a_name_for_the_same_file_is_the_same_lock(env: RealEnv, tmp_path: Path) -> None:
    """A lock is on the inode: another path to it finds it held."""
    lock = env.lock(f"{tmp_path}/LOCK")
    os.link(tmp_path / "LOCK", tmp_path / "other name")
    (tmp_path / "link").symlink_to(tmp_path / "LOCK")
    for name in ("other name", "link", "../" + tmp_path.name + "/LOCK"):
        with pytest.raises(StoreLocked, match="this process"):
            env.lock(f"{tmp_path}/{name}")
    lock.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_lock_is_shared_between_processes(env: RealEnv, tmp_path: Path, kind: LockKind) -> None:
    """Several readers, or one writer."""
    path = f"{tmp_path}/LOCK"
    env.lock(path, kind).close()
    lock = env.lock(path, kind, shared=True)
    assert another_process_tries(path, kind, "shared") == "got it"
    assert another_process_tries(path, kind) == f"process {os.getpid()}"
    lock.close()
    lock = env.lock(path, kind)
    assert another_process_tries(path, kind, "shared") == f"process {os.getpid()}"
    lock.close()


def test_a_shared_lock_needs_no_right_to_write(env: RealEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that exists is opened for reading only, as bbolt does for a read-only database."""
    (tmp_path / "LOCK").write_bytes(b"")
    flags: list[int] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flag, *rest: (flags.append(flag), real(path, flag, *rest))[1])
    env.lock(f"{tmp_path}/LOCK", shared=True).close()
    assert [flag & os.O_ACCMODE for flag in flags] == [os.O_RDONLY]


def test_both_kinds_keep_out_programs_of_either(env: RealEnv, tmp_path: Path) -> None:
    """goleveldb locks LOCK with flock, and LevelDB with fcntl: neither sees the other."""
    path = f"{tmp_path}/LOCK"
    with closing(env.lock(path, "both")):
        for kind in KINDS:
            assert another_process_tries(path, kind) == f"process {os.getpid()}"
    for kind in KINDS[:2]:
        with held_by_another_process(path, kind) as pid, pytest.raises(StoreLocked, match=f"process {pid}"):
            env.lock(path, "both")
        env.lock(path, "both").close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_lock_is_shared_within_a_process(env: RealEnv, tmp_path: Path, kind: LockKind) -> None:
    """Two stores that only read; the lock holds until the last of them is closed, whichever that is."""
    path = f"{tmp_path}/LOCK"
    (tmp_path / "LOCK").write_bytes(b"")
    open_before = len(os.listdir("/proc/self/fd"))
    first, second = env.lock(path, kind, shared=True), env.lock(path, kind, shared=True)
    with pytest.raises(StoreLocked, match="this process"):
        env.lock(path, kind)
    first.close()
    first.close()
    assert another_process_tries(path, kind) == f"process {os.getpid()}"
    second.close()
    assert another_process_tries(path, kind) == "got it"
    assert len(os.listdir("/proc/self/fd")) == open_before


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_lock_creates_nothing(env: RealEnv, tmp_path: Path, kind: LockKind) -> None:
    with pytest.raises(FileNotFoundError):
        env.lock(f"{tmp_path}/LOCK", kind, shared=True)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_in_a_missing_directory_is_an_oserror(env: RealEnv, tmp_path: Path) -> None:
    """And no StoreLocked: nobody has it."""
    with pytest.raises(FileNotFoundError):
        env.lock(f"{tmp_path}/nowhere/LOCK")


def test_a_holder_that_cannot_be_found_is_another_process(
    env: RealEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where /proc/locks doesn't tell (another container, another system), the lock holds all the same."""

    def refuse(fd: int, operation: int) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreLocked, match="another process"):
        env.lock(f"{tmp_path}/LOCK")
    assert len(os.listdir("/proc/self/fd")) == open_before


@pytest.mark.parametrize("kind", KINDS)
def test_a_look_at_a_locked_file_gives_no_lock_up(env: RealEnv, tmp_path: Path, kind: LockKind) -> None:
    """POSIX drops a process's lock with any descriptor of the file: reading it, or giving it an owner, let others in.

    Once the lock is given up, nothing of it stays open.
    """
    path = str(tmp_path / "LOCK")
    lock = env.lock(path, kind)
    for _ in range(3):
        with closing(env.open(path, "r")) as file:
            file.pread(10, 0)
        env.adopt(path, path)
    for probe in KINDS if kind == "both" else [kind]:
        assert another_process_tries(path, probe) == f"process {os.getpid()}"
    lock.close()
    assert another_process_tries(path, kind) == "got it"
    assert path not in [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_descriptor_that_a_child_has_inherited_keeps_nobody_out(env: RealEnv, tmp_path: Path, kind: LockKind) -> None:
    """A child that was forked and has not run yet has closed nothing; a copy of the descriptor stands for its own."""
    path = str(tmp_path / "LOCK")
    lock = env.lock(path, kind)
    inherited = [
        os.dup(int(descriptor))
        for descriptor in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{descriptor}") and os.readlink(f"/proc/self/fd/{descriptor}") == path
    ]
    assert inherited
    lock.close()
    try:
        assert another_process_tries(path, kind) == "got it"
    finally:
        for descriptor in inherited:
            os.close(descriptor)
