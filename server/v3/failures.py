"""What etcd's clients are told in place of a result: every failure as a Status.

    what happened                            etcd's code and sentence
    no leader confirmed a read in time       14   request timed out
    no leader took a request in time          2   context deadline exceeded            nothing was done
    a request's outcome isn't known          14   request timed out                    it may be done, now or later
    too much is waiting                       8   too many requests                    nothing was done
    more than one entry may carry             3   request is too large                 nothing was done
    the node stops                           14   server stopped
    Grpc-Timeout is over                      4   context deadline exceeded
    the client has gone                       1   context canceled                     nobody reads it
    a fault of ours                          13   what it was; it is logged

etcd holds a request for which there is no leader until one comes, and `patiently` does that, too: a node's NoLeader says that
nothing was written, so that asking again writes nothing twice.

Follows etcd's server/etcdserver/v3_server.go and api/v3rpc/util.go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from engines.errors import StoreClosed
from server.errors import NodeError, NodeStopped, NoLeader, OutcomeUnknown, Overloaded, TooLarge
from server.logs import logger
from server.v3 import status
from server.v3.method import CHECK_S, Caller
from server.v3.status import Code, Status

__all__ = ["DEADLINE", "check", "confirmed", "patiently", "status_of"]

T = TypeVar("T")

DEADLINE = "context deadline exceeded"

_log = logger("gateway")


def status_of(error: Exception, reads: bool = False) -> Status:
    """The Status for whatever was raised. reads: what failed changes nothing."""
    if isinstance(error, Status):
        return error
    if isinstance(error, NodeStopped | StoreClosed):
        return Status(*status.STOPPED)
    if isinstance(error, NoLeader):
        return Status(*status.TIMEOUT) if reads else Status(Code.UNKNOWN, DEADLINE)
    if isinstance(error, OutcomeUnknown):
        return Status(*status.TIMEOUT)
    if isinstance(error, TooLarge):
        return Status(*status.REQUEST_TOO_LARGE)
    if isinstance(error, Overloaded):
        return Status(*status.TOO_MANY_REQUESTS)
    if isinstance(error, NodeError):
        return Status(Code.UNAVAILABLE, str(error))
    _log.error("a call failed", exc_info=error)
    return Status(Code.INTERNAL, f"the server failed to answer ({type(error).__name__}); its log says more")


def check(caller: Caller) -> None:
    """Raises Status if nobody waits for an answer any more: the client's time is over, or it has gone; NodeStopped."""
    if caller.until <= time.monotonic():
        raise Status(Code.DEADLINE_EXCEEDED, DEADLINE)
    if caller.gone():
        raise Status(Code.CANCELED, "context canceled")


def confirmed(barrier: Callable[[float], object], caller: Caller, most_s: float, sentence: status.Sentence) -> None:
    """Returns once `barrier` has, which is called as `patiently` does. Raises Status: `sentence` if nobody confirms it in time."""
    try:
        patiently(barrier, caller, most_s)
    except NoLeader:
        raise Status(*sentence) from None


def patiently(attempt: Callable[[float], T], caller: Caller, most_s: float) -> T:
    """What `attempt` returns, which is given the seconds that are left of `most_s`; it is called again as long as it raises
    NoLeader. Raises Status if the caller's own time is over, NoLeader if `most_s` is, and what else `attempt` raises."""
    end = time.monotonic() + most_s
    pause = threading.Event()
    while True:
        left_s = end - time.monotonic()
        try:
            return attempt(caller.left_s(max(0.0, left_s)))
        except (NoLeader, OutcomeUnknown) as error:
            if caller.until <= time.monotonic():
                raise Status(Code.DEADLINE_EXCEEDED, DEADLINE) from None
            if isinstance(error, OutcomeUnknown) or left_s <= 2 * CHECK_S:  # too little for another attempt
                raise
        check(caller)
        pause.wait(CHECK_S)
