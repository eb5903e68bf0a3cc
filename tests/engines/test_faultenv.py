"""FaultEnv: call n fails, and a failed fsync loses what it was to bring to the disk (promise 5 of engines/simdisk.py)."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.env import Env, RealEnv
from engines.faultenv import OPENS, FaultEnv
from engines.simenv import KINDS, Call, Policy, SimEnv


def test_a_failed_sync_loses_its_data_for_ever() -> None:
    """Promise 5: the next sync succeeds without them, and readers see them until the power goes."""
    env = SimEnv()
    with_a = env.open("/f", "x")
    with_a.append(b"a")
    with_a.sync("content")
    env.sync_dir("/", "name")
    faulty = FaultEnv(env, 1, kinds={"sync"})
    file = faulty.open("/f", "r+")
    file.append(b"b")
    with pytest.raises(OSError) as failure:
        file.sync("wal")
    assert failure.value.errno == errno.EIO and faulty.fired == Call(1, "sync", "/f", "wal")
    file.append(b"c")
    file.sync("wal")
    assert file.pread(3, 0) == b"abc"
    assert env.crash(Policy.EVERYTHING, random.Random(0)).files() == {"/f": b"abc"}
    for policy in Policy:
        if policy is not Policy.EVERYTHING:
            assert env.crash(policy, random.Random(0)).files() == {"/f": b"a\0c"}


def test_a_failed_sync_of_a_directory_loses_its_names() -> None:
    env = SimEnv()
    faulty = FaultEnv(env, 1, kinds={"sync_dir"})
    faulty.open("/f", "x")
    with pytest.raises(OSError):
        faulty.sync_dir("/", "names")
    faulty.open("/g", "x")
    faulty.sync_dir("/", "names")
    assert env.list("/") == ["f", "g"]
    assert env.crash(Policy.DATA_WITHOUT_NAMES, random.Random(0)).list("/") == ["g"]
    assert env.crash(Policy.EVERYTHING, random.Random(0)).list("/") == ["f", "g"]


def test_a_call_fails_once_or_for_ever() -> None:
    for forever, expected in ((False, "ok EIO ok ok"), (True, "ok EIO EIO EIO")):
        file = FaultEnv(SimEnv(), 3, forever=forever).open("/f", "x")
        outcomes = []
        for _ in range(4):
            try:
                file.append(b"x")
                outcomes.append("ok")
            except OSError as error:
                outcomes.append(errno.errorcode[error.errno or 0])
        assert " ".join(outcomes) == expected
        assert file.size() == outcomes.count("ok")


def test_a_short_write_writes_half() -> None:
    file = FaultEnv(SimEnv(), 2, short_write=True).open("/f", "x")
    file.append(b"1234")
    with pytest.raises(OSError) as failure:
        file.pwrite(b"abcdef", 4)
    assert failure.value.errno == errno.ENOSPC and file.pread(10, 0) == b"1234abc"


def test_a_failing_call_does_nothing() -> None:
    """Every kind in turn; what has not happened can't be seen."""

    def attempt(env: Env) -> None:
        env.makedirs("/d", "mkdir")
        file = env.open("/d/f", "x")
        file.append(b"a")
        file.pwrite(b"b", 1)
        file.truncate(1)
        file.allocate(9)
        file.sync("content")
        env.link("/d/f", "/d/g")
        env.rename("/d/g", "/d/h")
        env.unlink("/d/f")
        env.sync_dir("/d", "names")

    seen: list[Call] = []
    attempt(SimEnv(after_call=seen.append))
    assert {call.kind for call in seen} == KINDS - {"map"}
    for number, call in enumerate(seen, 1):
        env = SimEnv()
        faulty = FaultEnv(env, number, errno.ENOSPC)
        with pytest.raises(OSError):
            attempt(faulty)
        assert faulty.fired == call
        expected = SimEnv()
        with pytest.raises(OSError):
            attempt(FaultEnv(expected, number, errno.EIO, forever=True))
        assert env.files() == expected.files() and env.calls == number - 1


def test_descriptors_run_out_where_files_are_opened() -> None:
    env = SimEnv()
    env.open("/f", "x").append(b"data")
    calls: list[Callable[[Env], object]] = [
        lambda env: env.open("/f", "r"),
        lambda env: env.lock("/f"),
        lambda env: env.sync_dir("/", "names"),
    ]
    for call in calls:
        with pytest.raises(OSError) as failure:
            call(FaultEnv(env, 1, errno.EMFILE, kinds=OPENS))
        assert failure.value.errno == errno.EMFILE


def test_another_env_can_fail_too(tmp_path: Path) -> None:
    faulty = FaultEnv(RealEnv(), 2)
    faulty.makedirs(str(tmp_path / "d"), "mkdir")
    with pytest.raises(OSError, match="Input/output error"):
        faulty.open(str(tmp_path / "d/f"), "x")
    assert faulty.list(str(tmp_path / "d")) == []
