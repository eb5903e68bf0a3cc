"""The service Watch: many watches on one stream, and what their client is told of each.

    {"create_request":{…}} ─▶ {"created":true}, then its events
    {"cancel_request":{…}} ─▶ {"canceled":true}; nothing for a watch that isn't there
    {"progress_request":{}} ─▶ a header with the revision up to which all events of this stream have been sent

1. A watch's `created` comes before its events; after its `canceled` there are none.
2. `watch_id` is the client's wish, or the next number that is free; a wish that is taken is refused by a message with
   `created` and `canceled`, and so is a watch that its user has no permission for.
3. A progress message is sent when every watch of the stream has been given everything up to its revision, not before: a
   client may go on from the revision after it. (etcd sent it ahead of events until 3.5.8.)
4. With `progress_notify` a watch is told the revision every PROGRESS_S if it had no event since.
5. No read barrier: a watch on a node that has no leader begins, and goes on when there is one.

Follows etcd's server/etcdserver/api/v3rpc/watch.go.
"""

from __future__ import annotations

import random
import time
from collections import deque
from typing import Any, Protocol

from server.limits import WATCHES_MAX
from server.v3.method import Caller, Incoming, Stream
from server.v3.rpc import ResponseHeader, WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse
from server.v3.status import PERMISSION_DENIED, TOO_MANY_REQUESTS, Sentence, Status
from server.v3.watch_hub import Block, Watcher, WatchHub
from server.v3.watch_index import TO_THE_END
from server.v3.watch_wire import chunks_of_block

__all__ = ["METHODS", "Watches"]

PROGRESS_S = 600.0  # etcd's --experimental-watch-progress-notify-interval; and up to a tenth: not all come at once
SWEEP_S = 0.5
REQUESTS_MAX = 10_000  # of one stream that wait for an authentication
NO_WATCH = -1  # the watch_id of what is about no watch
EMPTY_RANGE = "mvcc: watcher range is empty"
DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"


class Node(Protocol):
    """What this service asks of the node: server.v3.etcd.Etcd."""

    hub: WatchHub
    watches: Watches
    streams: Any
    auth: Any

    def header(self, revision: int) -> ResponseHeader: ...


class Out(Protocol):
    """The answer of a stream: server.v3.stream.StreamConnection."""

    on_room: Any

    @property
    def full(self) -> bool: ...
    def send(self, message: Any) -> bool: ...
    def send_chunk(self, chunk: bytes) -> bool: ...
    def job(self, function: Any) -> None: ...


class Watches:
    """The watch streams of one node, for what is done from time to time. For the streams' thread."""

    def __init__(self, progress_s: float = PROGRESS_S) -> None:
        self.progress_s = progress_s
        self.count = 0  # of all streams
        self.asking: dict[WatchStream, None] = {}  # for their progress, while a watch of theirs is unsynced
        self.notified: dict[WatchStream, None] = {}  # with watches that want to be told of it
        self._swept_at = 0.0

    def sweep(self, now: float) -> None:
        """Tells those of their progress whose time it is, and those who have asked and are up to date now."""
        for stream in list(self.asking):
            stream.tell_progress()
        if now - self._swept_at < min(SWEEP_S, self.progress_s):
            return
        self._swept_at = now
        for stream in list(self.notified):
            stream.notify(now)


class StreamWatcher(Watcher):
    """One watch of a stream."""

    __slots__ = ("fragment", "progress", "quiet", "watch_id")

    def __init__(
        self, stream: WatchStream, watch_id: int, key: bytes, stop: bytes | None, request: WatchCreateRequest
    ) -> None:
        filters = request.filters
        super().__init__(
            stream,
            key,
            stop,
            request.prev_kv,
            WatchCreateRequest.FilterType.NOPUT in filters,
            WatchCreateRequest.FilterType.NODELETE in filters,
        )
        self.watch_id = watch_id
        self.fragment = request.fragment
        self.progress = request.progress_notify
        self.quiet = True  # no event since it was last told of its progress


def _stop_of(range_end: bytes) -> bytes | None:
    return None if not range_end else TO_THE_END if range_end == b"\0" else range_end


class WatchStream:
    """The watches of one stream, and the sink of their events."""

    def __init__(self, etcd: Node, caller: Caller, out: Out) -> None:
        self._etcd, self._caller, self._out = etcd, caller, out
        self._watchers: dict[int, StreamWatcher] = {}
        self._next_id = 0
        self._requests: deque[WatchRequest] = deque()  # that wait for an authentication
        self._identified: Caller | Status | None = None
        self._identifying = False
        self._next_progress = 0.0
        out.on_room = self._resume

    # ---- what the client says ------------------------------------------------------------------------------------

    def received(self, message: WatchRequest) -> None:
        """See server.v3.method.Incoming. Raises Status if too many wait for an authentication."""
        if len(self._requests) >= REQUESTS_MAX:
            raise Status(*TOO_MANY_REQUESTS)
        self._requests.append(message)
        self._serve()

    def ended(self) -> None:
        """The client asks for nothing more; it has its watches."""

    def closed(self) -> None:
        """All of them end, and what waits for an authentication doesn't begin."""
        self._requests.clear()
        for watcher in self._watchers.values():
            self._etcd.hub.cancel(watcher)
        self._etcd.watches.count -= len(self._watchers)
        self._watchers.clear()
        self._etcd.watches.asking.pop(self, None)
        self._etcd.watches.notified.pop(self, None)

    def _serve(self) -> None:
        requests = self._requests
        while requests and not self._identifying:
            request = requests[0]
            if request.create_request is not None:
                who = self._identify()
                if who is None:
                    return
                self._create(request.create_request, who)
            elif request.cancel_request is not None:
                self._cancel(request.cancel_request)
            elif request.progress_request is not None:
                self._etcd.watches.asking[self] = None
                self.tell_progress()
            requests.popleft()

    def _identify(self) -> Caller | Status | None:
        """Who asks, or why not; None: that is found out by a worker, since it may have to wait for the node."""
        known, self._identified = self._identified, None
        if known is not None:
            return known
        if self._etcd.auth.ready(self._caller):
            return self._ask_auth()
        self._identifying = True
        self._out.job(self._identify_in_worker)
        return None

    def _identify_in_worker(self) -> None:
        who = self._ask_auth()
        self._etcd.streams.call(lambda: self._go_on(who))

    def _ask_auth(self) -> Caller | Status:
        try:
            found: Caller = self._etcd.auth.identify(self._caller)
            return found
        except Status as status:
            return status

    def _go_on(self, who: Caller | Status) -> None:
        self._identified = who
        self._identifying = False
        self._serve()

    def _create(self, request: WatchCreateRequest, who: Caller | Status) -> None:
        watch_id = request.watch_id
        key, stop = request.key or b"\0", _stop_of(request.range_end)
        if isinstance(who, Status) or not self._permitted(who, key, request.range_end):
            self._refuse(watch_id, _as_go_says(PERMISSION_DENIED))
        elif stop is not None and key >= stop:
            self._refuse(NO_WATCH, EMPTY_RANGE)
        elif watch_id and watch_id in self._watchers:
            self._refuse(NO_WATCH, DUPLICATE_ID)
        elif self._etcd.watches.count >= WATCHES_MAX:
            self._refuse(NO_WATCH, _as_go_says(TOO_MANY_REQUESTS))
        else:
            self._begin(StreamWatcher(self, watch_id or self._free_id(), key, stop, request), request.start_revision)

    def _permitted(self, who: Caller, key: bytes, range_end: bytes) -> bool:
        try:
            self._etcd.auth.check_watch(who, key, range_end)
            return True
        except Status:
            return False

    def _free_id(self) -> int:
        while self._next_id in self._watchers:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _begin(self, watcher: StreamWatcher, start_revision: int) -> None:
        self._watchers[watcher.watch_id] = watcher
        self._etcd.watches.count += 1
        if watcher.progress and self not in self._etcd.watches.notified:
            self._etcd.watches.notified[self] = None
            self._next_progress = time.monotonic() + self._interval()
        revision = self._etcd.hub.watch(watcher, start_revision)
        self._out.send(WatchResponse(self._etcd.header(revision), watcher.watch_id, created=True))

    def _refuse(self, watch_id: int, reason: str) -> None:
        header = self._etcd.header(self._etcd.hub.revision)
        self._out.send(WatchResponse(header, watch_id, created=True, canceled=True, cancel_reason=reason))

    def _cancel(self, request: WatchCancelRequest) -> None:
        watcher = self._watchers.pop(request.watch_id, None)
        if watcher is None:
            return
        self._etcd.watches.count -= 1
        self._etcd.hub.cancel(watcher)
        header = self._etcd.header(self._etcd.hub.revision)
        self._out.send(WatchResponse(header, request.watch_id, canceled=True))

    # ---- what the hub says ---------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether the client has too much to take already."""
        return self._out.full

    def deliver(self, watcher: StreamWatcher, block: Block) -> None:
        """Sends events."""
        watcher.quiet = False
        for chunk in chunks_of_block(block, watcher, self._etcd.header):
            self._out.send_chunk(chunk)

    def compacted(self, watcher: StreamWatcher, revision: int) -> None:
        """Ends a watch that wants what isn't there any more."""
        if self._watchers.pop(watcher.watch_id, None) is not None:
            self._etcd.watches.count -= 1
        header = self._etcd.header(0)
        self._out.send(WatchResponse(header, watcher.watch_id, canceled=True, compact_revision=revision))

    def _resume(self) -> None:
        self._etcd.hub.resume(self)

    # ---- progress ------------------------------------------------------------------------------------------------

    def tell_progress(self) -> None:
        """Answers the client's question, if all its watches are up to date. Requires: it is among `asking`."""
        revision = self._etcd.hub.progress(self._watchers.values())
        if revision is not None:
            del self._etcd.watches.asking[self]
            self._out.send(WatchResponse(self._etcd.header(revision), NO_WATCH))

    def notify(self, now: float) -> None:
        """Tells the watches that have asked for it, and had no event since the last time, how far they are."""
        if now < self._next_progress:
            return
        self._next_progress = now + self._interval()
        for watcher in self._watchers.values():
            if watcher.progress and watcher.quiet:
                revision = self._etcd.hub.progress([watcher])
                if revision is not None:
                    self._out.send(WatchResponse(self._etcd.header(revision), watcher.watch_id))
            watcher.quiet = True

    def _interval(self) -> float:
        progress_s = self._etcd.watches.progress_s
        return progress_s + random.uniform(0.0, progress_s / 10)


def _as_go_says(sentence: Sentence) -> str:
    """An error of gRPC as Go prints it: in a reason for a cancellation it is text."""
    names = {7: "PermissionDenied", 8: "ResourceExhausted"}
    return f"rpc error: code = {names[sentence.code]} desc = {sentence.sentence}"


def _open(etcd: Node, caller: Caller, out: Any) -> Incoming:
    return WatchStream(etcd, caller, out)


METHODS = [Stream("watch", WatchRequest, _open)]
