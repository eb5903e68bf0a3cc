"""read_only=True: what it needs, what it leaves alone, and who it sees; and whose files a writer makes."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import engines
from engines.env import real_env
from engines.errors import CorruptionError, NoSuchStore, StoreLocked
from engines.faultenv import FaultEnv
from engines.lsm.store import LsmStore
from engines.simenv import KINDS, Policy, SimEnv

REPOSITORY = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"write_buffer_bytes": 2_000, "max_file_bytes": 2_000, "background": False}
NOBODY = 65534


def opened(path: Path | str, **options: Any) -> LsmStore:
    store = engines.open(str(path), "lsm", **{**SMALL, **options})
    assert isinstance(store, LsmStore)
    return store


def fill(store: LsmStore, count: int = 100) -> dict[bytes, bytes]:
    """Tables on two levels, and a log that no table has."""
    content = {b"%04d" % number: b"v%d" % number * 10 for number in range(count)}
    for key, value in content.items():
        store.put(key, value)
    return content


def killed(path: Path) -> dict[bytes, bytes]:
    """A store as a killed process leaves it: LOCK is there, and a log with the zeros of its preallocated rest."""
    env = SimEnv(0)
    store = opened("/db", env=env)
    content = fill(store)
    assert len(store.core.state.memtable) and any(store.core.state.version.files())
    path.mkdir()
    for name, data in env.crash(Policy.EVERYTHING, random.Random(0)).files().items():
        (path / name.rpartition("/")[2]).write_bytes(data)
    return content


def everything(path: Path) -> dict[str, tuple[object, ...]]:
    """Name → type, mode, owner, inode, times and bytes of all below a directory, itself included; not the time of access."""
    found: dict[str, tuple[object, ...]] = {}
    for each in [path, *sorted(path.rglob("*"))]:
        status = each.lstat()
        data = each.read_bytes() if each.is_file() else b""
        found[str(each.relative_to(path))] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_ino),
            *(status.st_mtime_ns, status.st_ctime_ns, data),
        )
    return found


def in_a_child(work: Callable[[], None]) -> None:
    """Runs it in a forked child, who may give up root's rights; fails as it fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12's about forks beside threads: the child starts none
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as failure:
            print(repr(failure), file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, "the child failed; what it said is above"


# ---- nothing is changed ---------------------------------------------------------------------------------------------


def test_nothing_on_the_disk_changes(tmp_path: Path) -> None:
    """Contents, names, modes, owners and times, while reading, checking and dumping a store that was killed."""
    path = tmp_path / "db"
    content = killed(path)
    before = everything(path)
    with opened(path, read_only=True) as store:
        assert dict(store.scan()) == content
        assert store.check() == []
        store.describe()
    assert engines.which(str(path)) == "lsm"
    assert list(LsmStore.dump(str(path), real_env()))
    assert everything(path) == before


def test_no_call_that_writes_is_made() -> None:
    """A read-only mount: each call that would change something fails with EROFS, and none is needed."""
    env = SimEnv(0)
    content = fill(opened("/db", env=env))
    image = env.crash(Policy.EVERYTHING, random.Random(0))
    image.unlink("/db/LOCK")
    before = image.files()
    mount = FaultEnv(image, 1, errno.EROFS, forever=True, kinds=KINDS)
    with opened("/db", env=mount, read_only=True) as store:
        assert dict(store.scan()) == content
        assert store.check() == []
    assert mount.calls == 0
    assert image.files() == before
    with pytest.raises(OSError):
        opened("/db", env=mount)


def test_a_user_who_may_only_read(tmp_path: Path) -> None:
    """Neither the directory nor a file of it may be written. Root may always write, so it becomes somebody else."""
    path = Path(real_env().absolute(tmp_path)) / "db"
    content = killed(path)
    for each in path.iterdir():
        each.chmod(0o444)
    path.chmod(0o555)
    above = list(path.parents)[:-2]
    modes = [each.stat().st_mode for each in above]
    if os.geteuid() == 0:
        for each in above:
            each.chmod(0o755)
    before = everything(path)

    def read() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        with pytest.raises(PermissionError):
            os.open(path / "CURRENT", os.O_WRONLY)
        with opened(path, read_only=True) as store:
            assert dict(store.scan()) == content
            assert store.check() == []

    try:
        in_a_child(read)
    finally:
        for each, mode in zip(above, modes):
            each.chmod(stat.S_IMODE(mode))
        path.chmod(0o755)
    path.chmod(0o555)
    assert {name: found[:4] for name, found in everything(path).items()} == {
        name: found[:4] for name, found in before.items()
    }
    path.chmod(0o755)


def test_where_nothing_is_nothing_is_made(tmp_path: Path) -> None:
    """Not the directory, and no lock file in an empty one; with create=False, neither."""
    for options in ({"read_only": True}, {"create": False}):
        with pytest.raises(NoSuchStore, match="there is no store at"):
            opened(tmp_path / "nothing", **options)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(NoSuchStore, match="there is no store at"):
            opened(tmp_path, **options)
        assert list(tmp_path.iterdir()) == []


def test_a_store_that_has_lost_current_is_no_empty_directory(tmp_path: Path) -> None:
    """Its tables are there: a sentence about CURRENT, and still nothing is made."""
    path = tmp_path / "db"
    killed(path)
    for name in ("CURRENT", "LOCK"):
        (path / name).unlink()
    before = everything(path)
    for options in ({"read_only": True}, {"create": False}):
        with pytest.raises(CorruptionError, match="CURRENT: it is missing, although"):
            opened(path, **options)
    assert everything(path) == before


# ---- who is seen ----------------------------------------------------------------------------------------------------

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
getattr(fcntl, sys.argv[2])(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["lockf", "flock"])
def test_a_writer_of_either_kind_is_seen(tmp_path: Path, kind: str) -> None:
    """LevelDB locks LOCK with fcntl, goleveldb with flock: reading and writing are refused beside each of them."""
    opened(tmp_path).close()
    command = [sys.executable, "-c", HOLD, str(tmp_path / "LOCK"), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == b"locked\n"
        before = everything(tmp_path)
        for read_only in (True, False):
            with pytest.raises(StoreLocked, match=f"LOCK is locked by process {holder.pid}"):
                opened(tmp_path, read_only=read_only)
        assert everything(tmp_path) == before
        holder.stdin.close()
    with opened(tmp_path, read_only=True):
        pass


def test_two_readers_of_one_process(tmp_path: Path) -> None:
    """They share the lock, and the first one's close doesn't give it up for the second."""
    opened(tmp_path).close()
    first, second = opened(tmp_path, read_only=True), opened(tmp_path, read_only=True)
    first.close()
    with pytest.raises(StoreLocked, match="this process"):
        opened(tmp_path)
    second.close()
    opened(tmp_path).close()


def test_a_lock_file_that_may_not_be_read_is_not_taken_for_none() -> None:
    """Somebody may hold it: going on would read a store that is being written."""
    env = SimEnv(0)
    opened("/db", env=env).close()
    with pytest.raises(PermissionError):
        opened("/db", env=FaultEnv(env, 1, errno.EACCES, kinds={"lock"}), read_only=True)


# ---- whose files they are -------------------------------------------------------------------------------------------


def test_new_files_have_the_permissions_of_current(tmp_path: Path) -> None:
    """LevelDB makes its files for everybody to read; ours would lock out who could read them until now."""
    opened(tmp_path).close()
    (tmp_path / "CURRENT").chmod(0o664)
    (tmp_path / "LOCK").unlink()
    with opened(tmp_path) as store:
        fill(store)
        names = {each.name for each in tmp_path.iterdir() if stat.S_IMODE(each.stat().st_mode) != 0o664}
    assert names == set()


@pytest.mark.parametrize("options", [{}, {"compaction_process": True, "background": True}])
def test_root_leaves_the_files_to_their_owner(tmp_path: Path, options: dict[str, Any]) -> None:
    """Root repairs or inspects a user's store, and the user's own program opens it afterwards.

    Only root can give a file away; somebody else's run of this test holds that what can't be done is no error.
    """
    opened(tmp_path, **options).close()
    is_root = os.geteuid() == 0
    owner = (NOBODY, NOBODY) if is_root else (os.geteuid(), os.getegid())
    for each in [tmp_path, *tmp_path.iterdir()]:
        if is_root:
            os.chown(each, *owner)
    with opened(tmp_path, **options) as store:
        fill(store)
        store.compact()
    assert any(each.suffix == ".ldb" for each in tmp_path.iterdir())
    assert {(each.stat().st_uid, each.stat().st_gid) for each in tmp_path.iterdir()} == {owner}


def test_a_file_of_somebody_else_is_not_given_away(tmp_path: Path) -> None:
    """Env.adopt changes only what this process has just created: no link that somebody has put there, hard or symbolic."""
    like, other = tmp_path / "like", tmp_path / "other"
    like.touch(0o644)
    other.touch(0o600)
    (tmp_path / "hard").hardlink_to(other)
    (tmp_path / "symbolic").symlink_to(other)
    real_env().adopt(str(tmp_path / "hard"), str(like))
    with pytest.raises(OSError):
        real_env().adopt(str(tmp_path / "symbolic"), str(like))
    assert stat.S_IMODE(other.stat().st_mode) == 0o600


def test_a_group_that_cannot_be_kept_gets_nothing() -> None:
    """Permissions for CURRENT's group are not for whatever group the writer is in. Root becomes somebody else for it;
    anybody else has no file of a foreign group, and sees that those of its own group are kept."""
    directory = Path(tempfile.mkdtemp())  # where others may go, as they may not go to tmp_path
    try:
        directory.chmod(0o777)
        like, new = directory / "like", directory / "new"
        like.touch()
        like.chmod(0o664)

        def adopt() -> None:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            real_env().open(str(new), "x").close()
            real_env().adopt(str(new), str(like))

        in_a_child(adopt)
        assert stat.S_IMODE(new.stat().st_mode) == (0o604 if os.geteuid() == 0 else 0o664)
    finally:
        shutil.rmtree(directory)
