"""engines/env.py: the real disk behind its door, on a real directory, with real second processes."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engines.env import File, RealEnv, real_env

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def env() -> RealEnv:
    return RealEnv()


@pytest.fixture
def file(env: RealEnv, tmp_path: Path) -> Iterator[File]:
    opened = env.open(f"{tmp_path}/file", "x")
    yield opened
    opened.close()


# files


def test_modes_say_what_must_be_there(env: RealEnv, tmp_path: Path) -> None:
    """ "r" and "r+" want the file, "x" wants none, "w" empties it."""
    path = f"{tmp_path}/file"
    for mode in ("r", "r+"):
        with pytest.raises(FileNotFoundError):
            env.open(path, mode)  # type: ignore[arg-type]
    created = env.open(path, "x")
    created.append(b"content")
    created.close()
    with pytest.raises(FileExistsError):
        env.open(path, "x")
    for mode in ("r", "r+"):
        opened = env.open(path, mode)  # type: ignore[arg-type]
        assert opened.pread(100, 0) == b"content"
        opened.close()
    emptied = env.open(path, "w")
    assert emptied.size() == 0
    emptied.close()


def test_a_file_opened_for_reading_is_not_written(env: RealEnv, tmp_path: Path) -> None:
    """ "r" is read-only down to the operating system."""
    (tmp_path / "file").write_bytes(b"content")
    opened = env.open(f"{tmp_path}/file", "r")
    for write in (lambda: opened.append(b"x"), lambda: opened.pwrite(b"x", 0), lambda: opened.truncate(0)):
        with pytest.raises(OSError):
            write()
    opened.close()
    assert (tmp_path / "file").read_bytes() == b"content"


def test_append_goes_on_at_the_end(env: RealEnv, file: File, tmp_path: Path) -> None:
    """Also after a pwrite beyond it, a truncation, an allocation, and in a file that was there before."""
    file.append(b"abc")
    file.append(b"")
    file.pwrite(b"XY", 5)
    file.append(b"def")
    assert file.pread(100, 0) == b"abc\x00\x00XYdef"
    file.truncate(4)
    file.append(b"!")
    assert file.pread(100, 0) == b"abc\x00!"
    file.allocate(8)
    file.append(b"end")
    assert file.pread(100, 0) == b"abc\x00!\x00\x00\x00end"
    again = env.open(f"{tmp_path}/file", "r+")
    again.append(b"more")
    again.close()
    assert file.pread(100, 8) == b"endmore"
    assert file.size() == 15


def test_reads_are_short_only_at_the_end(file: File) -> None:
    """pread: fewer bytes than asked for mean the end of the file."""
    file.append(b"0123456789")
    assert file.pread(4, 0) == b"0123"
    assert file.pread(4, 8) == b"89"
    assert file.pread(4, 10) == b""
    assert file.pread(4, 1_000) == b""
    assert file.pread(0, 3) == b""


def test_truncate_extends_by_zeros(file: File) -> None:
    """As ftruncate does."""
    file.append(b"ab")
    file.truncate(5)
    assert file.pread(100, 0) == b"ab\x00\x00\x00"


def test_allocate_never_shrinks(file: File) -> None:
    """Its first `size` bytes have blocks; the file is extended to it, and what was there stays."""
    file.append(b"abcdef")
    file.allocate(3)
    assert file.size() == 6
    file.allocate(0)
    file.allocate(100_000)
    assert file.size() == 100_000
    assert file.pread(8, 0) == b"abcdef\x00\x00"


def test_a_file_closes_twice_and_then_is_closed(file: File) -> None:
    """Its descriptor's number may be another file's by then."""
    file.close()
    file.close()
    for use in (lambda: file.append(b"x"), lambda: file.pread(1, 0), file.size, lambda: file.sync("site")):
        with pytest.raises((OSError, ValueError)):  # os.fdatasync(-1) is a ValueError
            use()


def test_a_view_shows_bytes_and_outlives_the_file(env: RealEnv, file: File, tmp_path: Path) -> None:
    """Slices are bytes, items are ints; neither close nor unlink takes it away."""
    file.append(b"0123456789")
    view = file.view()
    file.close()
    env.unlink(f"{tmp_path}/file")
    assert (len(view), view[3], view[2:5], view[-1]) == (10, ord("3"), b"234", ord("9"))
    assert type(view[2:5]) is bytes


def test_a_view_of_nothing_is_empty(file: File) -> None:
    """An empty file can't be mapped; its view can be had."""
    assert len(file.view()) == 0
    assert file.view()[0:10] == b""


def test_a_mapping_writes_the_file(env: RealEnv, file: File, tmp_path: Path) -> None:
    """map: what is assigned is what every reader of the file sees, and its size can't change by it."""
    file.allocate(8_192)
    mapping = file.map()
    mapping[4_000:4_005] = b"hello"
    assert file.pread(7, 3_999) == b"\x00hello\x00"
    with pytest.raises((IndexError, ValueError)):
        mapping[0:3] = b"longer"
    file.sync("site")
    assert (tmp_path / "file").read_bytes()[4_000:4_005] == b"hello"


def test_a_mapping_that_is_given_back_keeps_what_was_written(file: File) -> None:
    """And one that is locked into memory is kept, without a word: a store's reading and writing must not fail for that."""
    page = mmap.PAGESIZE
    file.allocate(2 * page)
    view = file.map()
    assert isinstance(view, mmap.mmap)
    view[page : page + 3] = b"abc"
    file.give_back(view)
    assert view[page : page + 3] == b"abc" and file.pread(3, page) == b"abc"
    held = ctypes.c_char.from_buffer(view)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    assert libc.mlock(ctypes.addressof(held), page) == 0, os.strerror(ctypes.get_errno())
    file.give_back(view)
    assert view[page : page + 3] == b"abc"


# short writes and short reads


def shortened(monkeypatch: pytest.MonkeyPatch, name: str, most: int) -> list[int]:
    """Lets `os.pwrite` or `os.pread` do at most so many bytes at a time, as the system may; returns what it did."""
    real: Callable[..., Any] = getattr(os, name)
    done: list[int] = []

    def short(fd: int, what: Any, offset: int) -> Any:
        result = real(fd, what[:most] if name == "pwrite" else min(what, most), offset)
        done.append(result if name == "pwrite" else len(result))
        return result

    monkeypatch.setattr(os, name, short)
    return done


def test_a_short_write_is_completed(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """append and pwrite write all of it: fewer bytes than asked for are no error by themselves (write(2))."""
    done = shortened(monkeypatch, "pwrite", 7)
    file.append(b"0123456789" * 3)
    assert done == [7, 7, 7, 7, 2]
    file.append(b"abcdefghij")
    file.pwrite(b"ABCDEFGHIJ", 5)
    monkeypatch.undo()
    assert file.pread(100, 0) == b"01234ABCDEFGHIJ567890123456789abcdefghij"


def test_a_disk_that_fills_up_in_the_middle_of_a_write_is_an_error(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short write, and then ENOSPC: part of it is there, and the caller is told."""
    real = os.pwrite
    room = [7]

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(fd, data[: room[0]], offset)
        room[0] -= written
        return written

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match="No space left"):
        file.append(b"0123456789")
    assert file.pread(100, 0) == b"0123456"


def test_a_short_read_is_completed(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """pread asks again until nothing comes."""
    file.append(b"0123456789" * 3)
    done = shortened(monkeypatch, "pread", 7)
    assert file.pread(20, 5) == (b"0123456789" * 3)[5:25]
    assert done == [7, 7, 6]
    assert file.pread(100, 5) == (b"0123456789" * 3)[5:]


@example(steps=[("pwrite", 60)])  # of no bytes: the file isn't longer, so an append goes to its beginning
@given(
    st.lists(st.tuples(st.sampled_from(["append", "pwrite", "truncate", "allocate"]), st.integers(0, 60)), max_size=12)
)
def test_a_file_is_a_bytearray(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    """Any sequence of writes leaves what it would leave in memory."""
    file = RealEnv().open(f"{tmp_path_factory.mktemp('model')}/file", "x")
    model = bytearray()
    for number, (name, size) in enumerate(steps):
        data = bytes([number + 1]) * (size % 20)
        match name:
            case "append":
                file.append(data)
                model += data
            case "pwrite":
                file.pwrite(data, size)
                if data:
                    model.extend(bytes(max(0, size - len(model))))
                    model[size : size + len(data)] = data
            case "truncate":
                file.truncate(size)
                model.extend(bytes(max(0, size - len(model))))
                del model[size:]
            case "allocate":
                file.allocate(size)
                model.extend(bytes(max(0, size - len(model))))
    assert file.pread(1_000, 0) == model
    assert bytes(file.view()[:]) == model
    assert file.size() == len(model)
    file.append(b"end")
    assert file.pread(1_000, 0) == model + b"end"
    file.close()


# names


def test_what_is_created_is_for_its_owner(env: RealEnv, tmp_path: Path) -> None:
    """Files 0600, directories 0700, whatever the umask allows; a lock's file as well."""
    before = os.umask(0)
    try:
        env.makedirs(f"{tmp_path}/one/two", "site")
        env.open(f"{tmp_path}/one/two/file", "w").close()
        env.lock(f"{tmp_path}/one/two/LOCK").close()
    finally:
        os.umask(before)
    modes = {
        path: stat.S_IMODE((tmp_path / "one" / path).stat().st_mode) for path in (".", "two", "two/file", "two/LOCK")
    }
    assert modes == {".": 0o700, "two": 0o700, "two/file": 0o600, "two/LOCK": 0o600}
    assert env.mode(f"{tmp_path}/one/two/file") == 0o600


def test_names_come_and_go(env: RealEnv, tmp_path: Path) -> None:
    """exists, is_dir, list, rename, link, unlink."""
    a, b, c = (f"{tmp_path}/{name}" for name in "abc")
    assert env.list(str(tmp_path)) == []
    for path, content in ((b, b"content of b"), (a, b"content of a")):
        opened = env.open(path, "x")
        opened.append(content)
        opened.close()
    assert env.list(str(tmp_path)) == ["a", "b"]
    env.link(a, c)
    with pytest.raises(FileExistsError):
        env.link(a, b)
    env.rename(a, b)
    assert env.list(str(tmp_path)) == ["b", "c"]
    assert Path(b).read_bytes() == Path(c).read_bytes() == b"content of a"
    env.unlink(b)
    assert (env.exists(b), env.exists(c), env.exists(str(tmp_path))) == (False, True, True)
    assert (env.is_dir(c), env.is_dir(str(tmp_path)), env.is_dir(b)) == (False, True, False)
    for gone in (lambda: env.unlink(b), lambda: env.rename(b, a), lambda: env.list(b), lambda: env.mode(b)):
        with pytest.raises(FileNotFoundError):
            gone()


def test_a_dangling_link_is_there(env: RealEnv, tmp_path: Path) -> None:
    """exists: something has this name, so "x" would fail on it."""
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert env.exists(f"{tmp_path}/link")
    with pytest.raises(FileExistsError):
        env.open(f"{tmp_path}/link", "x")


def test_a_link_is_resolved_and_nothing_else(env: RealEnv, tmp_path: Path) -> None:
    """resolve: through links to links, also where nothing is; the names of the directories stay as they were said."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "also").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "one").symlink_to("two")
    (tmp_path / "disk" / "two").symlink_to("three")
    assert env.resolve(f"{tmp_path}/also/one") == f"{tmp_path}/disk/three"
    assert env.resolve(f"{tmp_path}/also/three") == f"{tmp_path}/also/three"


def test_each_made_directory_is_synced_into_its_parent(
    env: RealEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """makedirs: a directory whose name isn't durable takes its files with it."""
    synced: list[str] = []
    real = env.sync_dir
    monkeypatch.setattr(env, "sync_dir", lambda path, site: (synced.append(f"{path} {site}"), real(path, site)))
    env.makedirs(f"{tmp_path}/one/two/three", "mkdir")
    wanted = [f"{tmp_path} mkdir", f"{tmp_path}/one mkdir", f"{tmp_path}/one/two mkdir"]
    assert synced[-3:] == wanted
    env.makedirs(f"{tmp_path}/one/two/three", "again")
    assert Path(f"{tmp_path}/one/two/three").is_dir()


def test_a_relative_path_is_made_below_the_working_directory(
    env: RealEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """makedirs("data") has a parent too."""
    monkeypatch.chdir(tmp_path)
    env.makedirs("data", "site")
    env.makedirs("more/data", "site")
    assert (tmp_path / "data").is_dir()
    assert (tmp_path / "more" / "data").is_dir()


def test_a_file_in_the_way_of_a_directory_is_an_error(env: RealEnv, tmp_path: Path) -> None:
    """makedirs on or below a file."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):
        env.makedirs(f"{tmp_path}/file/below", "site")


def test_a_directory_is_synced_by_its_descriptor(env: RealEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sync_dir syncs the directory itself, and leaves no descriptor behind when that fails."""
    synced: list[str] = []

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        raise OSError(errno.EIO, "the disk fails")

    open_before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="the disk fails"):
        env.sync_dir(str(tmp_path), "site")
    assert synced == [str(tmp_path)]
    assert len(os.listdir("/proc/self/fd")) == open_before
    with pytest.raises(OSError):
        env.sync_dir(f"{tmp_path}/nowhere", "site")


def test_descriptors_do_not_reach_child_processes(env: RealEnv, file: File, tmp_path: Path) -> None:
    """A child that outlives us would keep the lock."""
    lock = env.lock(f"{tmp_path}/LOCK")
    script = "import os; print([os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')])"
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, close_fds=False, check=True
    )
    assert "/proc" in ran.stdout
    assert str(tmp_path) not in ran.stdout
    lock.close()


# processes, clocks, chance


def test_processes_are_alive_or_not(env: RealEnv) -> None:
    """For lock files that say who holds them."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        child.wait(60)
    assert env.pid() == os.getpid()
    assert env.process_alive(os.getpid())
    assert env.process_alive(1), "also one that isn't ours"
    assert not env.process_alive(child.pid)


def test_the_monotonic_clock_does_not_go_back(env: RealEnv) -> None:
    """now: of no particular origin; unix_time: since 1970, and this is written after 2024."""
    times = [env.now() for _ in range(1_000)]
    assert times == sorted(times)
    assert env.unix_time() > 1_700_000_000


def test_chance_is_not_the_same_for_everybody() -> None:
    """Two Envs draw from two generators."""
    assert RealEnv().rng.random() != RealEnv().rng.random()


def test_stores_share_one_env() -> None:
    """real_env: one object, so that all see the locks that are held."""
    assert real_env() is real_env()


@pytest.mark.parametrize("call", ["append", "pwrite"])
def test_a_full_disk_is_told_with_the_files_name(call: str) -> None:
    """The system call knows a descriptor only; somebody who reads "No space left on device" asks where."""
    file = RealEnv().open("/dev/full", "r+")
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        file.append(b"x") if call == "append" else file.pwrite(b"x", 0)
    file.close()


def test_every_failing_call_names_its_file(tmp_path: Path) -> None:
    env = RealEnv()
    file = env.open(f"{tmp_path}/file", "x")
    file.close()
    calls: list[Callable[[], object]] = [
        lambda: file.append(b"x"),
        lambda: file.pwrite(b"x", 0),
        lambda: file.pread(1, 0),
        lambda: file.truncate(0),
        lambda: file.allocate(1),
    ]
    for call in calls:
        with pytest.raises(OSError, match="Bad file descriptor") as failure:
            call()
        assert failure.value.filename == f"{tmp_path}/file"
    device = env.open("/dev/full", "r")
    with pytest.raises(OSError, match="'/dev/full'"):  # a device can't be synced
        device.sync("site")
    device.close()


def test_an_empty_path_names_nothing() -> None:
    """It would be the current directory."""
    with pytest.raises(FileNotFoundError, match="an empty path is no store's"):
        RealEnv().absolute("")
