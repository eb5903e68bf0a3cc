"""A client of etcd's v3 JSON gateway: several URLs of one cluster, and whether a call that failed may have done something.

    ask(path, request, Response)    a call that changes nothing: sent until somebody answers, or the time is over
    tell(path, request, Response)   a call that changes something: sent again only if it can't have done anything

What became of a `tell` decides between two errors, and etcd's answers don't say it by their status:

    no connection; code 14 "no leader", "not capable"; code 8 "too many requests"     nothing was done: the next URL, then NoLeader
    codes 3, 5, 7, 8, 9, 11, 12, 16                                                   refused: Status, with etcd's sentence
    no answer; code 14 "timed out"; code 2, 4 "context deadline exceeded"; any other  OutcomeUnknown

1. A call that may have been carried out is never sent a second time.
2. A node that doesn't answer an `ask` within TRY_S isn't waited for longer while there is another one to be asked.
3. A user's token that has expired is replaced, and the call sent again: it was refused. One thread asks for the new one, and the
   others wait for it: none sends a call without a token meanwhile.
4. The URL that answered last is asked first. Connections are kept, one for each call that is on its way at the same time.

It works against etcd 3.4 and later, and against our own nodes. Left out: TLS; streams, but for the one message that
lease/keepalive answers.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from server.addresses import parse_url
from server.client_wire import Exchange, NotSent, Told, send
from server.errors import NoLeader, OutcomeUnknown
from server.v3 import rpc, status
from server.v3.jsonpb import parse, render
from server.v3.status import Code, Sentence, Status

__all__ = ["EtcdClient"]

M = TypeVar("M", bound=rpc.Message)

TRY_S = 3.0  # for one node, if there are others: etcd's own timeout is 7 s
CONNECT_S = 2.0
_NOTHING_DONE = {
    status.NO_LEADER,
    status.NOT_CAPABLE,
    status.TOO_MANY_REQUESTS,
    status.NOT_SUPPORTED_FOR_LEARNER,
}
_NOT_DIALED = 'connection error: desc = "transport: Error while dialing'  # the gateway didn't reach its own server
_REFUSED = {
    Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.PERMISSION_DENIED, Code.RESOURCE_EXHAUSTED, Code.FAILED_PRECONDITION,
    Code.OUT_OF_RANGE, Code.UNIMPLEMENTED, Code.UNAUTHENTICATED,
}  # fmt: skip


_OTHER_TOKEN = {status.INVALID_AUTH_TOKEN, status.AUTH_OLD_REVISION, status.USER_EMPTY, status.AUTH_USER_EMPTY}


class EtcdClient:
    """For any thread. A context manager; or close() when nobody calls any more."""

    def __init__(self, urls: Sequence[str], timeout_s: float = 10.0, user: str | None = None) -> None:
        """urls: "http://host:port" of nodes of one cluster. timeout_s: for each call. user: "name:password", for a cluster that
        asks who calls. Raises ValueError for a bad URL, or a user without a password."""
        if not urls:
            raise ValueError("no URL of an etcd is given")
        self.urls = list(urls)
        self._timeout_s = timeout_s
        self._addresses = [parse_url(url) for url in urls]
        self._free: list[list[http.client.HTTPConnection]] = [[] for _ in urls]
        self._guard = threading.Lock()
        self._first = 0  # asked first
        self._user = _name_and_password(user) if user is not None else None
        self._authenticating = threading.Lock()
        self._token: str | None = None  # of the user; "" while the cluster asks nobody who calls
        self._outcomes: Counter[str] = Counter()  # of single sendings

    def __enter__(self) -> EtcdClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that are free."""
        with self._guard:
            for connections in self._free:
                for connection in connections:
                    connection.close()
                connections.clear()

    def outcomes(self) -> dict[str, int]:
        """How many single sendings ended how: by status, "not sent", "no answer"."""
        with self._guard:
            return dict(self._outcomes)

    def ask(self, path: str, request: rpc.Message, response: type[M]) -> M:
        """A call without effect. Raises Status if etcd refuses it, NoLeader if nobody answers in time."""
        return self._call(path, request, response, repeats=True)

    def tell(self, path: str, request: rpc.Message, response: type[M]) -> M:
        """A call with an effect. Raises Status if it was refused, NoLeader if nothing was done, OutcomeUnknown."""
        return self._call(path, request, response, repeats=False)

    def ask_at(self, at: int, path: str, request: rpc.Message, response: type[M]) -> M:
        """The same as `ask`, of the URL with this number alone. Raises NoLeader, OutcomeUnknown, Status."""
        return self._judged(
            self._send(at, path, render(request), time.monotonic() + TRY_S, self._token or ""), response
        )

    def _call(self, path: str, request: rpc.Message, response: type[M], repeats: bool) -> M:
        """A call with the user's token. What is refused for the token alone has done nothing, and is sent with a new one."""
        body, deadline = render(request), time.monotonic() + self._timeout_s
        if self._user is None:
            return self._sent(path, body, response, repeats, deadline, "")
        token = self._token
        if token is None:
            token = self._authenticate(self._user, None, deadline)
        try:
            return self._sent(path, body, response, repeats, deadline, token)
        except Status as refused:
            if (refused.code, refused.sentence) not in _OTHER_TOKEN:
                raise
        token = self._authenticate(self._user, token, deadline)
        return self._sent(path, body, response, repeats, deadline, token)

    def _authenticate(self, user: tuple[str, str], refused: str | None, deadline: float) -> str:
        """A token for the user, in place of one that was refused. Raises what a call raises."""
        if not self._authenticating.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise NoLeader("no etcd gave a token in time")
        try:
            if self._token is not None and self._token != refused:  # another thread has got it meanwhile
                return self._token
            self._token = token = self._new_token(user, deadline)
            return token
        except BaseException:
            self._token = None
            raise
        finally:
            self._authenticating.release()

    def _new_token(self, user: tuple[str, str], deadline: float) -> str:
        asked = render(rpc.AuthenticateRequest(*user))
        try:
            return self._sent("auth/authenticate", asked, rpc.AuthenticateResponse, True, deadline, "").token
        except Status as refused:
            if (refused.code, refused.sentence) != status.AUTH_NOT_ENABLED:
                raise
            return ""

    def _sent(self, path: str, body: bytes, response: type[M], repeats: bool, deadline: float, token: str) -> M:
        """The answer of the first node that gives one. token: "" for none."""
        why = ""
        order = [(self._first + step) % len(self.urls) for step in range(len(self.urls))]
        for at in order:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try_s = min(left, TRY_S) if repeats and at != order[-1] else left
            try:
                answer = self._judged(self._send(at, path, body, time.monotonic() + try_s, token), response)
            except NoLeader as error:
                why = f"{self.urls[at]}: {error}"
            except OutcomeUnknown as error:
                why = f"{self.urls[at]}: {error}"
                if not repeats:
                    raise OutcomeUnknown(why) from None
            else:
                self._first = at
                return answer
        raise NoLeader(f"no etcd carried it out; the last one, {why}" if why else "no etcd answered in time")

    def _send(self, at: int, path: str, body: bytes, deadline: float, token: str) -> Told:
        """One sending. Raises NoLeader if nothing was received there, OutcomeUnknown if there is no answer."""
        with self._guard:
            connection = self._free[at].pop() if self._free[at] else None
        if connection is None:
            connection = http.client.HTTPConnection(*self._addresses[at])
        try:
            if connection.sock is None:
                connection.timeout = min(CONNECT_S, max(0.01, deadline - time.monotonic()))
                connection.connect()
        except OSError as error:
            self._end(connection, "not sent")
            raise NoLeader(f"it can't be reached: {error}") from None
        try:
            fields = {"Authorization": token} if token else {}
            told = send(connection, Exchange("POST", f"/v3/{path}", body, fields), deadline)
        except NotSent as error:
            self._end(connection, "not sent")
            raise NoLeader(str(error)) from None
        except (OSError, http.client.HTTPException) as error:
            self._end(connection, "no answer")
            raise OutcomeUnknown(f"it doesn't answer: {error!r}") from None
        with self._guard:
            self._outcomes[str(told.status)] += 1
            self._free[at].append(connection)
        return told

    def _end(self, connection: http.client.HTTPConnection, outcome: str) -> None:
        connection.close()
        with self._guard:
            self._outcomes[outcome] += 1

    def _judged(self, told: Told, response: type[M]) -> M:
        """What an answer means. Raises Status, NoLeader, OutcomeUnknown."""
        if told.status == 200:
            return _message(told.body, response)
        said = _sentence(told)
        if said in _NOTHING_DONE or said.sentence.startswith(_NOT_DIALED):
            raise NoLeader(said.sentence)
        if said.code in _REFUSED or said in _OTHER_TOKEN:
            raise Status(*said)
        raise OutcomeUnknown(said.sentence)


def _name_and_password(user: str) -> tuple[str, str]:
    name, colon, password = user.partition(":")
    if not colon:
        raise ValueError("a user is given as name:password")
    return name, password


def _message(body: bytes, response: type[M]) -> M:
    """The message of an answer; of a stream, that of its first line."""
    line, _, _ = body.partition(b"\n")
    if line.startswith(b'{"result":') and line.endswith(b"}"):
        body = line[len(b'{"result":') : -1]
    try:
        return parse(response, body)
    except Status as wrong:
        raise OutcomeUnknown(f"its answer can't be read: {wrong.sentence}") from None


def _sentence(told: Told) -> Sentence:
    """The code and sentence of an error; code 12 if who answered isn't a v3 gateway."""
    try:
        error = json.loads(told.body)
        return Sentence(int(error["code"]), str(error["message"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        text = told.body[:100].decode("utf-8", "replace").strip()
        code = Code.UNIMPLEMENTED if told.status in (404, 405, 501) else Code.UNKNOWN
        return Sentence(code, f"it answers {told.status} {text!r}, which etcd's JSON gateway doesn't")
