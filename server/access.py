"""Who may use the simple routes while authentication is on: every route says what it needs, and one that says nothing is root's.

    GET /hello, Authorization: Basic …    ──▶ a user by name and password (asked once, then remembered)
    GET /hello, Authorization: <token>    ──▶ a user by a token of /v3/auth/authenticate
                                               │
                      the route's Right  ──▶ permitted, or 401 (who is that?), or 403 (not that one)

| right | routes |
|---|---|
| OPEN | /_/health, /_/metrics and /_/status, as etcd's /health, /metrics and maintenance/status are |
| KNOWN, any user | GET /_/members, POST /_/sessions |
| READ, of the key or of all of the range | GET /key, /_/scan |
| WRITE, of the key | PUT and DELETE of /key; of every key in a batch: POST /_/batch |
| ROOT | changes of members, the leader, snapshots, digests, the live page and what it shows |

1. Everything is decided before a request's body is read, but for a batch, whose keys are in it. Once the body is there, which
   its client may delay, it is asked again whether that still holds: also of a request that came while authentication was off.
2. What is read is answered only if users and roles are still what they were when it was permitted. The live page's frames end
   when whoever takes them is root no more.
3. A write is checked by the node that it was sent to, before it is proposed, and once more where it is applied
   (server/v3/simple_writes.py): by the name and the auth revision that go with it through the log. If users or roles have
   changed in between, it does nothing, and its client is to ask again (503). Opening a session is checked before only.
4. Nobody's loop hashes: while authentication is on, requests are served in threads, not in the node's loop.

Left out: who may use which session (server/sessions.py): its number isn't a secret, and using somebody else's makes his next
write be taken for a repetition. Nodes among themselves use another port, and another secret (server/handshake.py).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from typing import Protocol

from server.answers import Call, Right
from server.request import BadRequest
from server.v3 import status
from server.v3.auth import Who
from server.v3.method import Caller
from server.v3.permissions import FROM_KEY, Need
from server.v3.status import Status

__all__ = ["Auth", "admit", "is_root_s", "readmit", "require_writes", "settle"]

_BASIC = re.compile(rb"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/=]+)")
_CHALLENGE = b'WWW-Authenticate: Basic realm="metcd", charset="UTF-8"\r\n'
_AGAIN = b"Retry-After: 1\r\nX-Metcd-Error: Overloaded\r\n"
_HOW = "send Authorization: Basic with name and password, or a token of /v3/auth/authenticate"


class Auth(Protocol):
    """The part of server.v3.auth.Auth that is asked here; its docstrings say what each call promises."""

    @property
    def enabled(self) -> bool: ...
    def identify(self, caller: Caller) -> Caller: ...
    def basic(self, name: str, password: str) -> Who | None: ...
    def check_known(self, who: Who) -> None: ...
    def check_root(self, who: Who) -> None: ...
    def check_needs(self, who: Who, needs: Iterable[Need]) -> None: ...
    def settled(self, who: Who) -> None: ...


def admit(auth: Auth, call: Call, authorization: bytes | None) -> Call:
    """The call, with who asks for it in its options ("who"), if he may; for what needs no right, as it is.

    authorization: the field of the request's head. Requires: authentication is on, and this isn't the node's thread: it may
    hash, or wait for a token's entry. Raises BadRequest: 401, 403, or 503 if it should be tried again; NodeError.
    """
    right = call.route.right
    if right is Right.OPEN:
        return call
    try:
        who = _identified(auth, authorization)
        if right is Right.READ:
            auth.check_needs(who, (_range_of(call),))
        elif right is Right.WRITE and call.key:
            auth.check_needs(who, (Need(True, call.key),))
        elif right in (Right.KNOWN, Right.WRITE):
            auth.check_known(who)
        else:
            auth.check_root(who)
    except Status as error:
        raise _refusal(error) from None
    return call._replace(options={**call.options, "who": who})


def require_writes(auth: Auth, who: Who, keys: Iterable[bytes]) -> None:
    """Raises BadRequest (403) unless who asks, as `admit` has found, may write all these keys."""
    try:
        auth.check_needs(who, (Need(True, key) for key in keys))
    except Status as error:
        raise _refusal(error) from None


def readmit(auth: Auth, call: Call) -> None:
    """Before a call is run, whose body may have come late: raises BadRequest (403, or 503 if it should be tried again) if who asks
    may not do it any more, or was never asked who he is because authentication was off then. Requires: it is on.

    What is read is left to `settle`, and what is written to the entry (server/v3/simple_writes.py).
    """
    right, who = call.route.right, call.options.get("who")
    if right is Right.OPEN or "method" in call.options:  # etcd's methods look for themselves
        return
    try:
        if who is None:
            raise Status(*status.AUTH_OLD_REVISION)
        if right is Right.KNOWN:
            auth.check_known(who)
        elif right is Right.ROOT:
            auth.check_root(who)
    except Status as error:
        raise _refusal(error) from None


def settle(auth: Auth, call: Call) -> None:
    """After a call was run: raises BadRequest (503) if it has read, and users or roles have changed since it was admitted.
    Requires: authentication is on."""
    if call.route.right is Right.READ:
        readmit(auth, call)
        try:
            auth.settled(call.options["who"])
        except Status as error:
            raise _refusal(error) from None


def is_root_s(auth: Auth, who: Who | None) -> bool:
    """Whether an answer that has no end may go on: it was root's when it began, or authentication was off, and still is so.

    who: as `admit` has found; None if authentication was off then.
    """
    try:
        if auth.enabled:
            auth.check_root(who or Caller())
    except Status:
        return False
    return True


def _identified(auth: Auth, authorization: bytes | None) -> Who:
    if not authorization:
        raise BadRequest(401, f"Authentication is on: {_HOW}.", _CHALLENGE)
    basic = _BASIC.fullmatch(authorization)
    if basic is None:
        return auth.identify(Caller(authorization.decode("latin-1")))
    try:
        name, colon, password = binascii.a2b_base64(basic[1], strict_mode=True).decode().partition(":")
    except ValueError:
        name = colon = password = ""
    who = auth.basic(name, password) if colon else None
    if who is None:
        raise BadRequest(401, "There is no such user, or it has another password.", _CHALLENGE)
    return who


def _range_of(call: Call) -> Need:
    """What a GET or a scan reads: the key, or the keys from start to stop that begin with prefix."""
    if call.key:
        return Need(False, call.key)
    options = call.options
    prefix = options.get("prefix", b"")
    start = max(options.get("start", b""), prefix) or b"\0"  # the lowest key that there can be
    stops = [stop for stop in (options.get("stop"), _after(prefix)) if stop is not None]
    return Need(False, start, min(stops) if stops else FROM_KEY)


def _after(prefix: bytes) -> bytes | None:
    """The first key that comes after all that begin with a prefix; None if there is none."""
    rest = prefix.rstrip(b"\xff")
    return rest[:-1] + bytes([rest[-1] + 1]) if rest else None


def _refusal(error: Status) -> BadRequest:
    """What a client of the simple routes is told."""
    if error.args == status.PERMISSION_DENIED:
        return BadRequest(403, "This user may not do that: the permissions of his roles don't cover it.")
    if error.args == status.INVALID_AUTH_TOKEN:
        return BadRequest(401, f"The token is not valid, or its time is over: {_HOW}.", _CHALLENGE)
    if error.args == status.AUTH_OLD_REVISION:
        return BadRequest(503, "Users or roles have changed meanwhile, so nothing was done: ask again.", _AGAIN)
    return BadRequest(503, "Too many passwords are being checked: try again later.", _AGAIN)
