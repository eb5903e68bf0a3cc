"""engines/process.py: a helper process, how it starts where it can, and how it ends whatever happens."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from pickle import PickleBuffer

import pytest

import engines
from engines.process import Channel, ChannelClosed, Helper, NoHelper, has_input

HOME = Path(engines.__file__).parents[1]
HELPER = "tests.engines.test_process"


def serve(arguments: object, channels: list[Channel]) -> Callable[[Channel], None]:
    """What the helper of these tests does: tells about itself, or echoes."""
    if isinstance(arguments, Exception):
        raise arguments

    def answer(channel: Channel) -> None:
        asked = channel.receive()
        if asked == "self":
            descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1]  # the last one lists them
            channel.send(
                (os.getsid(0), os.getcwd(), len(descriptors), sys.modules["__main__"].__dict__.get("__file__"))
            )
        elif asked == "wait":
            channel.receive()
        elif asked == "print":
            print("to nobody", flush=True)
            print("to nobody", file=sys.stderr, flush=True)
            channel.send(None)
        else:
            channel.send((channels.index(channel), asked))

    return answer


@pytest.fixture
def helper() -> Iterator[Helper]:
    helper = Helper(HELPER, None, 2)
    helper.wait()
    yield helper
    helper.end()


def test_each_channel_has_its_answers(helper: Helper) -> None:
    """Objects of any size, in order."""
    for channel in (0, 1, 0):
        for asked in (b"", b"x" * 3_000_000, {"a": [1]}):
            assert helper.ask(channel, asked) == (channel, asked)


def test_a_helper_has_nothing_of_its_parents(helper: Helper, capfd: pytest.CaptureFixture[str]) -> None:
    """Its own session (a Ctrl-C in the terminal goes past it), three descriptors and its channels, no main module, no output."""
    session, directory, descriptors, main = helper.ask(0, "self")
    assert session == helper.pid
    assert directory == "/"
    assert descriptors == 3 + 2
    assert main is None
    helper.ask(0, "print")
    assert capfd.readouterr() == ("", "")


class Large:
    """Hands its bytes over as a large part."""

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data

    def __reduce__(self) -> tuple[object, ...]:
        return Large, (PickleBuffer(self.data),)


def test_large_parts_stand_beside_the_pickle(helper: Helper) -> None:
    """Rule 6: any number of them, of any size, and none of their bytes in the pickle."""
    sizes = [0, 1, 3_000_000]
    channel, parts = helper.ask(1, [Large(b"x" * size) for size in sizes])
    assert channel == 1 and [part.data for part in parts] == [b"x" * size for size in sizes]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Channel(ours).send([Large(b"x" * 20_000), Large(b"y")])
        pickled, large = (int.from_bytes(theirs.recv(8), "big") for _ in range(2))
        assert pickled < 500 and large == 2


def test_the_end_leaves_neither_a_zombie_nor_a_descriptor() -> None:
    """Of a helper that works, and of one that was killed."""
    before = sorted(os.listdir("/proc/self/fd"))
    for how in ("ended", "ended at once", "killed"):
        helper = Helper(HELPER, None, 2)
        if how != "ended at once":
            helper.wait()
        if how == "killed":
            os.kill(helper.pid, signal.SIGKILL)
            with pytest.raises(ChannelClosed):
                helper.ask(0, "anything")
        helper.end()
        helper.end()
        assert not Path(f"/proc/{helper.pid}").exists()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_the_end_tells_whoever_waits_for_an_answer(helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a helper dies, the first thread to notice ends it, while another one may still wait at its channel."""
    waits = threading.Event()
    told: list[BaseException] = []

    def noted(channels: list[Channel], timeout_s: float) -> list[Channel]:
        waits.set()
        return has_input(channels, timeout_s)

    def ask() -> None:
        try:
            helper.ask(1, "wait")
        except BaseException as error:
            told.append(error)

    monkeypatch.setattr("engines.process.has_input", noted)
    asking = threading.Thread(target=ask)
    asking.start()
    assert waits.wait(60)
    helper.end()
    asking.join()
    assert [type(error) for error in told] == [ChannelClosed]
    with pytest.raises(ChannelClosed):
        helper.ask(0, "self")


def test_an_answer_after_an_interrupt_is_not_the_next_requests(helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be taken for it: the tables of another compaction."""

    def interrupted(channels: list[Channel], timeout_s: float) -> list[Channel]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("engines.process.has_input", interrupted)
        helper.ask(1, "first")
    with pytest.raises(ChannelClosed):
        helper.ask(1, "second")


def test_what_is_no_place_in_the_path_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python ignores it, too: many a script appends a Path."""
    monkeypatch.setattr(sys, "path", [Path("/nowhere"), *sys.path, None, b"/nowhere"])
    helper = Helper(HELPER, None, 1)
    helper.wait()
    assert helper.ask(0, "any") == (0, "any")
    helper.end()


def test_a_helper_ends_with_a_parent_that_was_killed() -> None:
    """By the end of its channel."""
    script = f"from engines.process import Helper; h = Helper({HELPER!r}, None, 1); h.wait(); print(h.pid, flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        watched = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    try:
        assert has_input([_Descriptor(watched)], 30)  # type: ignore[list-item]  # readable when the process has ended
    finally:
        os.close(watched)


class _Descriptor:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


def refuse(*arguments: object, **options: object) -> None:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (("sys.executable", ""), "no Python: ''"),
        (("sys.executable", "/usr/bin/blender"), "no Python: '/usr/bin/blender'"),
        (("sys.executable", "/no/such/python3.11"), "No such file"),
        (("sys.frozen", True), "no Python"),
        (("sys.path", ["", "relative"]), "before it said anything"),  # not even the standard library
        (("subprocess.Popen", refuse), "temporarily unavailable"),
    ],
)
def test_where_none_can_be_started_the_reason_is_said(
    monkeypatch: pytest.MonkeyPatch, broken: tuple[str, object], says: str
) -> None:
    """And nothing is run to find out."""
    before = sorted(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(*broken, raising=False)
    with pytest.raises(NoHelper, match=says):
        Helper(HELPER, None, 2).wait()
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        (HELPER, ValueError("a reason"), "ValueError: a reason"),
        ("engines.no_such_module", None, "ModuleNotFoundError"),
        (HELPER, lambda: None, "can't be handed over"),
    ],
)
def test_a_helper_that_cannot_work_says_why(module: str, arguments: object, says: str) -> None:
    """What it is to run can't be imported, refuses, or can't be pickled."""
    with pytest.raises(NoHelper, match=says):
        Helper(module, arguments, 1).wait()


SCRIPT = """
import engines, os, sys, multiprocessing
print("the program begins")

def work(path):
    store = engines.open(path, "lsm", sync=False, memtable="sorted")
    for number in range(40_000):
        store.put(b"%08d" % (number * 7 % 40_000), b"v" * 100)
    store.flush()
    print(store.describe()["work_is_done_by"][:8], store.stats().engine["workers_refused"])
    if "drop" not in sys.argv:
        store.close()

if sys.argv[2] == "daemon":
    child = multiprocessing.get_context("fork").Process(target=work, args=(sys.argv[1],), daemon=True)
    child.start()
    child.join()
else:
    work(sys.argv[1])
"""


@pytest.mark.parametrize("how", ["close", "drop", "daemon"])
def test_a_script_without_a_guard_has_a_worker(tmp_path: Path, how: str) -> None:
    """The main module runs once; a daemonic process of multiprocessing's may have no child of its kind, but this one."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, script, tmp_path / "db", how],
        env={**os.environ, "PYTHONPATH": str(HOME), "METCD_PLAIN": "0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout.splitlines() == ["the program begins", "process  0"], ran.stderr
    assert ran.returncode == 0 and (how == "drop" or not ran.stderr)
