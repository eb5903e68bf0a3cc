"""A helper process: another Python that runs a function of this package, asked over sockets.

    parent ──(frame)──► helper     channel i, a socket pair
           ◄──(frame)──            the first frame of channel 0 says what to run, the answer that it runs
    frame                          length of the pickle │ number of large parts │ pickle │ each large part: length │ bytes
                                   numbers have 8 bytes, big-endian

1. The helper imports what it is told to run, and never the program's main module: so a script needs no
   `if __name__ == "__main__":`. It is started with `-I -S`, and is handed the absolute parts of `sys.path`.
2. It ends when a channel does, which is when its parent does, however that ends; and at the latest WATCH_S later, if
   somebody else keeps a copy of the socket.
3. Its session is its own: a Ctrl-C in the terminal doesn't reach it. Its standard streams lead nowhere, it has no other
   descriptor of its parent's, and its working directory is the root.
4. Where none can be started, `NoHelper` says why: a frozen or embedded interpreter (`sys.executable` is no Python, and must
   not be run to see what it does), a limit of the system's, a package that can't be imported.
5. In a forked child the helper is the parent's (`leave_to_parent`).
6. It gives way to its parent where both want a core: who waits for the parent is a user, and for the helper nobody, as a rule.
7. What an object hands over as a `pickle.PickleBuffer` is a large part, which neither end copies once more.

Frames are pickles: both ends are this package, and nobody else has the socket. `multiprocessing` has processes, too, but its
spawn imports the main module, and its daemonic processes may have no children.

This is a door to the world, as engines/env.py is: for the engines that run on the real Env.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

__all__ = ["Channel", "ChannelClosed", "Helper", "NoHelper", "has_input"]

NICE: Final = (
    10  # a tenth of a share: p99 of a PUT is 16 in place of 19 ms, where three nodes have two cores (64 clients)
)
START_S: Final = 60.0  # that a helper gets to say that it runs; importing takes 0.1
END_S: Final = 5.0  # that it gets to end by itself
WATCH_S: Final = 10.0  # between two looks at whether the other process still lives
_HEADER: Final = struct.Struct(">QQ")
_LARGE: Final = struct.Struct(">Q")
_BOOT: Final = (
    "import json, sys; path, module, fds = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from engines.process import run; run(module, fds)"
)


class NoHelper(Exception):
    """No process can be started here, and why."""


class ChannelClosed(Exception):
    """The other end is gone."""


class Channel:
    """One end of a socket pair, for whole objects. For one thread at a time."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, message: object) -> None:
        """Raises ChannelClosed; what pickle raises for an object that can't be pickled, and then nothing was sent."""
        large: list[pickle.PickleBuffer] = []
        frame = pickle.dumps(message, pickle.HIGHEST_PROTOCOL, buffer_callback=large.append)
        try:
            self._end.sendall(_HEADER.pack(len(frame), len(large)) + frame)
            for each in large:
                with memoryview(each) as part:
                    self._end.sendall(_LARGE.pack(part.nbytes))
                    self._end.sendall(part)
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def receive(self) -> Any:
        """Blocks until the other end has sent an object. Raises ChannelClosed; what pickle raises."""
        size, large = _HEADER.unpack(self._read(_HEADER.size))
        frame = self._read(size)
        return pickle.loads(frame, buffers=[self._read(*_LARGE.unpack(self._read(_LARGE.size))) for _ in range(large)])

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            try:
                got = self._end.recv_into(rest)
            except OSError as error:
                raise ChannelClosed(str(error)) from error
            if not got:
                raise ChannelClosed("the other end is closed")
            rest = rest[got:]
        return data

    def fileno(self) -> int:
        """Of the socket; -1 if it is closed."""
        return self._end.fileno()

    def hang_up(self) -> None:
        """Ends the connection, also where another process has a copy of the socket: whoever waits at it notices."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Twice is fine."""
        self._end.close()


def has_input(channels: list[Channel], timeout_s: float) -> list[Channel]:
    """Those that `receive` wouldn't wait for, an end included; none if the time is over. Another thread may close one."""
    watched = select.poll()  # select.select refuses descriptors from 1024 on
    places = [(channel, channel.fileno()) for channel in channels]
    closed = [channel for channel, fd in places if fd < 0]
    if closed:
        return closed
    for _, fd in places:
        watched.register(fd, select.POLLIN)
    ready = {fd for fd, _ in watched.poll(timeout_s * 1000)}
    return [channel for channel, fd in places if fd in ready]


class Helper:
    """One process, with the parent's ends of its channels."""

    def __init__(self, module: str, arguments: object, channels: int) -> None:
        """Starts it: `module.serve(arguments, channels)` will return a function that is then called. Raises NoHelper.

        Takes some 2 ms if the calling thread is the busy one of the program. In a thread beside a busy one it takes up to 0.3 s,
        as each of its twenty system calls lets go of the interpreter's lock.
        """
        self._runs = False
        ours, theirs = zip(*[socket.socketpair() for _ in range(channels)])
        self.channels = [Channel(end) for end in ours]
        try:
            try:
                self._process = _start(module, theirs)
            finally:
                for end in theirs:
                    end.close()
        except BaseException:
            self._close()
            raise
        self._or_kill(self._tell, arguments)

    def wait(self) -> None:
        """Returns when it runs, which it does after 0.1 s, and at once from then on. Raises NoHelper: then nothing is left of it."""
        if not self._runs:
            self._or_kill(self._greet)
            self._runs = True

    def is_ready(self) -> bool:
        """True if `wait` returns at once. O(1)."""
        return self._runs or bool(has_input([self.channels[0]], 0))

    def _or_kill(self, step: Callable[..., None], *arguments: object) -> None:
        try:
            step(*arguments)
        except BaseException:
            self._close()
            self._process.kill()
            self._process.wait()
            raise

    def _tell(self, arguments: object) -> None:
        try:
            self.channels[0].send(arguments)
        except ChannelClosed as error:
            raise NoHelper(f"a helper process ended at once: {error}") from error
        except Exception as error:  # what pickle raises is up to the object
            raise NoHelper(f"what a helper process would have to know can't be handed over: {error}") from error

    def _greet(self) -> None:
        first = self.channels[0]
        if not has_input([first], START_S):
            raise NoHelper(f"a helper process said nothing for {START_S:.0f} s")
        try:
            said = first.receive()
        except ChannelClosed as error:
            raise NoHelper("a helper process ended before it said anything") from error
        if said is not None:
            raise NoHelper(f"a helper process can't work: {said}")

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, channel: int, request: object) -> Any:
        """Sends a request, and waits for the answer to it; other threads go on meanwhile, and may ask on other channels.
        Requires: `wait` has returned.

        Raises ChannelClosed if the process is gone. After an interrupt the channel is closed, too: the answer that is still
        to come would be taken for the next request's.
        """
        asked = self.channels[channel]
        try:
            asked.send(request)
            while not has_input([asked], WATCH_S):
                if self._process.poll() is not None and not has_input([asked], 0):
                    raise ChannelClosed(f"the helper process ended with {self._process.returncode}")
            return asked.receive()
        except BaseException:
            asked.hang_up()
            raise

    def end(self) -> None:
        """Ends the process: by itself when it notices, which is between two requests at the latest, otherwise by force.

        A thread that waits for an answer has ChannelClosed.
        """
        for channel in self.channels:
            channel.hang_up()
        self._close()
        if not self._runs:  # it has done nothing yet, and would notice after its imports only
            self._process.kill()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def leave_to_parent(self) -> None:
        """In a forked child: the process isn't this one's child, and nothing here ends it or waits for it."""
        self._close()
        self._process.returncode = 0

    def _close(self) -> None:
        for channel in self.channels:
            channel.close()


def _start(module: str, ends: tuple[socket.socket, ...]) -> subprocess.Popen[bytes]:
    python = sys.executable or ""
    if getattr(sys, "frozen", False) or not re.fullmatch(r"(python|pypy)[0-9.]*t?(\.exe)?", os.path.basename(python)):
        raise NoHelper(f"sys.executable is no Python: {python!r}")
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = [
        part for part in sys.path if isinstance(part, str) and os.path.isabs(part)
    ]  # a Path there is ignored by Python
    fds = [end.fileno() for end in ends]
    told = json.dumps([path if home in path else [*path, home], module, fds])
    options = ["-I", "-S", "-X", f"utf8={sys.flags.utf8_mode}", *(["-B"] if sys.dont_write_bytecode else [])]
    try:
        return subprocess.Popen(
            [python, *options, "-c", _BOOT, told],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=fds,
            cwd="/",
            start_new_session=True,
        )
    except (OSError, ValueError, RuntimeError) as error:  # limits; a NUL in the path; the interpreter's end
        raise NoHelper(f"no process could be started: {error}") from error


def _give_way() -> None:
    """Rule 6. Where Linux shares the cores out among sessions, and not among processes, that of the session counts."""
    if hasattr(os, "nice"):
        os.nice(NICE)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as autogroup:
        autogroup.write(str(NICE))


def run(module: str, fds: list[int]) -> None:
    """The life of a helper process. Called by the boot code only."""
    parent = os.getppid()
    _give_way()
    channels = [Channel(socket.socket(fileno=fd)) for fd in fds]
    first = channels[0]
    with contextlib.suppress(ChannelClosed):
        try:
            answer = import_module(module).serve(first.receive(), channels)
        except Exception as error:  # told to the parent, whose `NoHelper` says it
            first.send(f"{type(error).__name__}: {error}")
            return
        first.send(None)
        while True:
            ready = has_input(channels, WATCH_S)
            if ready:
                answer(ready[0])
            elif os.getppid() != parent:
                return
