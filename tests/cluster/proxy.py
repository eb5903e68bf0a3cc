"""A TCP proxy before each node's port for peers: the network between the nodes, to be broken link by link.

    node 1 ──┐
             ├──▶ port for node 3 ──▶ which link? ──▶ link 1 → 3 ──▶ node 3        a connection carries Raft's messages in
    node 2 ──┘     (in --cluster)                     link 2 → 3 ──▶ (--listen-peer)  one direction, from who opened it

`--cluster` names the proxy's ports, so that all nodes are given the same list, and a node that joins later is reached as
the others are. Which link a connection belongs to says the first request on it (X-Metcd-From, server/handshake.py).

| mode     | what a link does with a connection                                                         | what it stands for |
|----------|----------------------------------------------------------------------------------------------|--------------------|
| PASS     | bytes go through                                                                           |                    |
| DROP     | bytes are read and thrown away; new connections are taken, and never answered              | a partition        |
| HOLD     | nothing is read: senders fill their buffers; all of it arrives when the link passes again  | a stalled switch   |
| delay(s) | bytes go through, each s seconds later, in their order                                     | a long line        |
| RESET    | connections are reset, new ones at once                                                    | a firewall's rule  |

A stream with a hole is no stream: connections that have lost bytes are reset when their link leaves DROP. Links have a
direction, so that a node can be made deaf and not mute.

One thread and one selector for all links. What is held for a connection is bounded (BUFFER_BYTES): then its sender waits.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

__all__ = ["DROP", "HOLD", "PASS", "RESET", "Mode", "Proxy", "delay"]

BUFFER_BYTES = 4 << 20  # in each direction of a connection
HEAD_BYTES_MAX = 64 << 10  # within which a caller has to say who it is
READ_BYTES = 256 << 10
PATIENCE_S = 10.0  # for the proxy's own thread

_FROM = re.compile(rb"\r\nX-Metcd-From: ([0-9]{1,19})\r\n", re.IGNORECASE)
_RST = struct.pack("ii", 1, 0)  # SO_LINGER: close sends a reset


class Mode(NamedTuple):
    """What a link does."""

    kind: str
    delay_s: float = 0.0


PASS, DROP, HOLD, RESET = map(Mode, ("pass", "drop", "hold", "reset"))


def delay(seconds: float) -> Mode:
    """Everything arrives `seconds` later."""
    return Mode("delay", seconds)


Link = tuple[int, int]  # from, to


class _Pump:
    """One direction of a connection: what was read here and isn't written there yet."""

    def __init__(self, source: socket.socket) -> None:
        self.source = source
        self.sink: socket.socket | None = None
        self.chunks: deque[tuple[float, bytes]] = deque()  # when it may be written, and what
        self.size = 0
        self.ended = False  # the source will send no more
        self.shut = False  # and the sink has been told


class _Connection:
    """A caller, the node that it calls, and the two directions between them."""

    def __init__(self, to: int, caller: socket.socket) -> None:
        self.to = to
        self.link: Link | None = None  # not known before the first head is there
        self.holed = False
        self.out = _Pump(caller)
        self.back: _Pump | None = None

    def pumps(self) -> Iterable[_Pump]:
        return (self.out,) if self.back is None else (self.out, self.back)


class Proxy:
    """A port for each node, and the links between them. `add`, `set` and `close` are for any thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._modes: dict[Link, Mode] = {}
        self._targets: dict[int, tuple[str, int]] = {}
        self._listeners: list[socket.socket] = []
        self._connections: set[_Connection] = set()
        self._calls: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._stopping = False
        self.passed: Counter[Link] = Counter()  # bytes, from the caller
        self.dropped: Counter[Link] = Counter()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    # ---- for any thread ----------------------------------------------------------------------------------------------

    def add(self, node_id: int, port: int, target: tuple[str, int]) -> None:
        """Listens on `port` for node `node_id`, which itself listens at `target`. Raises OSError."""
        listener = socket.create_server(("127.0.0.1", port), backlog=64)
        listener.setblocking(False)

        def register() -> None:
            self._targets[node_id] = target
            self._listeners.append(listener)
            self._selector.register(listener, selectors.EVENT_READ, node_id)

        self._do(register)

    def set(self, mode: Mode, *links: Link) -> None:
        """Puts links into a mode; it is in force when this returns."""
        self._do(lambda: [self._set(link, mode) for link in links])  # type: ignore[arg-type, return-value]

    def links(self) -> list[Link]:
        """All links between the nodes that were added."""
        return [(a, b) for a in sorted(self._targets) for b in sorted(self._targets) if a != b]

    def heal(self) -> None:
        """Every link passes again."""
        self.set(PASS, *list(self._modes))

    def broken(self) -> list[Link]:
        """The links that don't pass."""
        return sorted(link for link, mode in self._modes.items() if mode != PASS)

    def close(self) -> None:
        """Ends every connection and the thread."""
        if self._thread.is_alive():
            self._do(self._stop)
            self._thread.join(PATIENCE_S)
            self._wake.close()
            self._woken.close()  # not by the thread, which may have stopped before `_do` wakes it

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, call: Callable[[], None]) -> None:
        done = threading.Event()
        self._calls.append((call, done))
        self._wake.send(b"x")
        if not done.wait(PATIENCE_S):
            raise AssertionError("the proxy's thread doesn't answer")

    # ---- the proxy's thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            for key, mask in self._selector.select(self._pause_s()):
                if key.fileobj is self._woken:
                    with contextlib.suppress(BlockingIOError):
                        self._woken.recv(4096)
                elif isinstance(key.data, int):
                    self._accept(key.fileobj, key.data)  # type: ignore[arg-type]
                elif key.data in self._connections:
                    self._serve(key.data, key.fileobj, mask)  # type: ignore[arg-type]
            while self._calls:
                call, done = self._calls.popleft()
                call()
                done.set()
            now = time.monotonic()
            for connection in [each for each in self._connections if self._mode(each).kind == "delay"]:
                self._move(connection, now)
        self._selector.close()

    def _stop(self) -> None:
        self._stopping = True
        for connection in list(self._connections):
            self._end(connection)
        for listener in self._listeners:
            listener.close()

    def _pause_s(self) -> float | None:
        due = [pump.chunks[0][0] for each in self._connections for pump in each.pumps() if pump.chunks]
        now = time.monotonic()
        late = [at - now for at in due if at > now]
        return max(0.0, min(late)) if late else None

    def _mode(self, connection: _Connection) -> Mode:
        return self._modes.get(connection.link, PASS) if connection.link is not None else PASS

    def _set(self, link: Link, mode: Mode) -> None:
        self._modes[link] = mode
        for connection in [each for each in self._connections if each.link == link]:
            if mode == RESET or (connection.holed and mode != DROP):
                self._end(connection)
            else:
                self._move(connection, time.monotonic())

    def _accept(self, listener: socket.socket, to: int) -> None:
        with contextlib.suppress(OSError):
            caller, _ = listener.accept()
            caller.setblocking(False)
            caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(to, caller)
            self._connections.add(connection)
            self._selector.register(caller, selectors.EVENT_READ, connection)

    def _serve(self, connection: _Connection, end: socket.socket, mask: int) -> None:
        try:
            if mask & selectors.EVENT_READ:
                self._read(connection, next(pump for pump in connection.pumps() if pump.source is end))
            if connection in self._connections:
                self._move(connection, time.monotonic())
        except OSError:
            self._end(connection)

    def _read(self, connection: _Connection, pump: _Pump) -> None:
        mode = self._mode(connection)
        if mode == HOLD:
            return
        try:
            data = pump.source.recv(READ_BYTES)
        except BlockingIOError:
            return
        if connection.link is not None and pump is connection.out:
            (self.dropped if mode == DROP else self.passed)[connection.link] += len(data)
        if mode == DROP:
            connection.holed = True
            if not data:
                self._end(connection)
            return
        if data:
            pump.chunks.append((time.monotonic() + mode.delay_s, data))
            pump.size += len(data)
        else:
            pump.ended = True
        if connection.link is None:
            self._introduce(connection)

    def _introduce(self, connection: _Connection) -> None:
        """Finds out who calls, and calls the node that is meant."""
        head = b"".join(data for _, data in connection.out.chunks)
        found = _FROM.search(head)
        if found is None:
            if b"\r\n\r\n" in head or len(head) > HEAD_BYTES_MAX or connection.out.ended:
                self._end(connection)
            return
        connection.link = (int(found[1]), connection.to)
        mode = self._mode(connection)
        if mode == RESET:
            self._end(connection)
        elif mode == DROP:
            connection.holed = True
            connection.out.chunks.clear()
            self.dropped[connection.link] += len(head)
        else:
            due = time.monotonic() + mode.delay_s
            connection.out.chunks = deque((due, data) for _, data in connection.out.chunks)
            self.passed[connection.link] += len(head)

    def _call(self, connection: _Connection) -> None:
        """Opens the connection to the node; writing waits until it is there."""
        callee = socket.socket()
        callee.setblocking(False)
        callee.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        callee.connect_ex(self._targets[connection.to])
        connection.out.sink = callee
        connection.back = _Pump(callee)
        connection.back.sink = connection.out.source

    def _move(self, connection: _Connection, now: float) -> None:
        """Writes what is due, and asks the selector for what can happen next."""
        mode = self._mode(connection)
        if connection.link is not None and connection.out.sink is None and mode not in (DROP, HOLD):
            self._call(connection)
            self._watch(connection, connection.out.sink, selectors.EVENT_WRITE)  # type: ignore[arg-type]
            return
        try:
            if mode not in (DROP, HOLD):
                for pump in connection.pumps():
                    self._write(pump, now)
        except OSError:
            self._end(connection)
            return
        if all(pump.shut for pump in connection.pumps()) and connection.back is not None:
            self._end(connection, reset=False)
            return
        for pump in connection.pumps():
            other = connection.back if pump is connection.out else connection.out
            reads = not pump.ended and pump.size < BUFFER_BYTES and mode != HOLD
            writes = other is not None and bool(other.chunks) and other.chunks[0][0] <= now and mode not in (DROP, HOLD)
            self._watch(connection, pump.source, reads * selectors.EVENT_READ | writes * selectors.EVENT_WRITE)

    def _write(self, pump: _Pump, now: float) -> None:
        if pump.sink is None:
            return
        while pump.chunks and pump.chunks[0][0] <= now:
            due, data = pump.chunks.popleft()
            try:
                sent = pump.sink.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            pump.size -= sent
            if sent < len(data):
                pump.chunks.appendleft((due, data[sent:]))
                return
        if pump.ended and not pump.chunks and not pump.shut:
            pump.shut = True
            with contextlib.suppress(OSError):
                pump.sink.shutdown(socket.SHUT_WR)

    def _watch(self, connection: _Connection, end: socket.socket, mask: int) -> None:
        known = end in self._selector.get_map()
        if mask and known:
            self._selector.modify(end, mask, connection)
        elif mask:
            self._selector.register(end, mask, connection)
        elif known:
            self._selector.unregister(end)

    def _end(self, connection: _Connection, reset: bool = True) -> None:
        self._connections.discard(connection)
        for pump in connection.pumps():
            if pump.source in self._selector.get_map():
                self._selector.unregister(pump.source)
            if reset:
                with contextlib.suppress(OSError):
                    pump.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            pump.source.close()
