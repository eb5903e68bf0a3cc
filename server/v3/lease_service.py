"""The methods about leases: grant, revoke, keepalive, timetolive, leases.

    grant, revoke            through Raft; who proposes a grant chooses its id, and the time that is given at least
    keepalive                a stream: each request is answered before the next one is looked at; by the leader
    timetolive               by the leader; its keys are read here, after a read barrier
    leases                   what this node knows

Invariants:

1. What a grant asks for is made definite before it is proposed: so a lease has the same id and time on every node, whatever
   least time each of them was started with.
2. A keepalive's header is made before the lease is kept alive: its revision is one at which the lease was there.
3. A lease that isn't there is no error for keepalive (no TTL) and timetolive (-1), as in etcd.

The paths under kv/lease/ are older ones, which etcd keeps. Follows etcd 3.5's server/etcdserver/api/v3rpc/lease.go and, for
the loops that ask the leader, v3_server.go.
"""

from __future__ import annotations

import queue
from collections import deque
from typing import Any

from server.v3 import status
from server.v3.failures import patiently
from server.v3.lease_calls import GONE, Known
from server.v3.method import Call, Caller, Incoming, Method, Out, Read, Stream, Write
from server.v3.rpc import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseLeasesRequest,
    LeaseLeasesResponse,
    LeaseRevokeRequest,
    LeaseStatus,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from server.v3.status import Status

__all__ = ["METHODS", "grant"]

LEASE_CALL_S = 7.0  # etcd's timeout of a request: 5 s, and two election timeouts
GRACE_S = 3.0  # beyond which a node's thread that doesn't answer is at a disk that doesn't answer
KEEPALIVES_MAX = 10_000  # of one stream that wait for those before them


def grant(etcd: Any, caller: Caller, request: LeaseGrantRequest) -> LeaseGrantResponse:
    """Grants a lease; with ID 0, of an id that is chosen here. Raises Status, NodeError."""
    caller = etcd.identify(caller)
    ttl = max(request.TTL, etcd.leasing.ttl_min_s)  # one that is too large is refused when the entry is applied
    while True:
        lease = request.ID or etcd.leasing.new_id()
        try:
            response: LeaseGrantResponse = etcd.ask(caller, "lease_grant", LeaseGrantRequest(TTL=ttl, ID=lease))
            return response
        except Status as error:
            if request.ID or (error.code, error.sentence) != status.LEASE_EXIST:
                raise


def timetolive(etcd: Any, caller: Caller, request: LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse:
    """What remains of a lease, by the leader's word. Raises Status, NodeError."""
    caller = etcd.auth.identify_if_on(caller)
    etcd.auth.check_known(caller)
    if request.keys and etcd.auth.enabled:
        etcd.auth.check_lease_read(caller, request.ID)
    answers: queue.SimpleQueue[Known | Status] = queue.SimpleQueue()
    timeout_s = caller.left_s(LEASE_CALL_S)
    etcd.leasing.calls.look(request.ID, timeout_s, answers.put)
    try:
        known = answers.get(timeout=timeout_s + GRACE_S)
    except queue.Empty:
        raise Status(*status.TIMEOUT) from None
    if isinstance(known, Status):
        raise known
    if known == GONE:
        return LeaseTimeToLiveResponse(header=etcd.header(etcd.node.machine.revision), ID=request.ID, TTL=-1)
    keys: list[bytes] = []
    if request.keys:
        patiently(etcd.barrier, caller, LEASE_CALL_S)
        keys = etcd.leases.keys_in(etcd.node.machine.store, request.ID)
        if etcd.auth.enabled:  # since it was looked at, others may hang on the lease, and it may have been turned on
            etcd.auth.check_keys_read(caller, keys)
    return LeaseTimeToLiveResponse(
        header=etcd.header(etcd.node.machine.revision),
        ID=request.ID,
        TTL=known.seconds,
        grantedTTL=known.granted,
        keys=keys,
    )


def leases(etcd: Any, view: Any, caller: Caller, request: LeaseLeasesRequest) -> LeaseLeasesResponse:
    """All leases that this node knows. O(n log n)."""
    etcd.auth.check_known(caller)
    found = [LeaseStatus(ID=lease) for lease in etcd.leasing.keeper.in_order()]
    return LeaseLeasesResponse(header=etcd.header(view.revision), leases=found)


class KeepAlive:
    """One keepalive stream: requests in the order of the body, one after the other. For the streams' thread.

    What is answered in the node's thread comes back to this one first: an end that it sent by itself would overtake it.
    """

    def __init__(self, etcd: Any, caller: Caller, out: Out) -> None:
        self._etcd = etcd
        self._caller = caller
        self._who: Caller | None = None  # the same, once it is known who that is
        self._out = out
        self._waiting: deque[int] = deque()  # leases, the first one being asked for
        self._ended = self._over = False

    def received(self, message: LeaseKeepAliveRequest) -> None:
        """A request of the client."""
        if self._over:
            return
        if len(self._waiting) >= KEEPALIVES_MAX:
            self._fail(Status(*status.TOO_MANY_REQUESTS))
            return
        self._waiting.append(message.ID)
        if len(self._waiting) == 1:
            self._ask()

    def ended(self) -> None:
        """The client asks for nothing more."""
        self._ended = True
        if not (self._waiting or self._over):
            self._end()

    def closed(self) -> None:
        """The client has gone."""
        self._over = True

    def _ask(self) -> None:
        """Has the first of the waiting leases kept alive."""
        if self._over:
            return
        etcd, lease = self._etcd, self._waiting[0]
        if self._who is None and not etcd.auth.ready(self._caller):
            self._out.job(self._identify)
            return
        try:
            who = self._who = etcd.auth.reidentify(self._who or etcd.auth.identify_if_on(self._caller))
            if etcd.auth.enabled:
                etcd.auth.check_lease_write(who, lease)
        except Status as error:
            self._fail(error)
            return
        header = etcd.header(etcd.node.machine.revision)

        def answered(outcome: Known | Status) -> None:
            response = LeaseKeepAliveResponse(header=header, ID=lease)
            etcd.streams.call(lambda: self._answered(response, outcome))

        etcd.leasing.calls.renew(lease, who.left_s(LEASE_CALL_S), answered)

    def _identify(self) -> None:
        """Waits until it is known whose token that is, in a worker."""
        self._who = self._etcd.auth.identify_if_on(self._caller)
        self._etcd.streams.call(self._ask)

    def _answered(self, response: LeaseKeepAliveResponse, outcome: Known | Status) -> None:
        if self._over:
            return
        if isinstance(outcome, Status):
            self._fail(outcome)
            return
        response.TTL = outcome.seconds
        self._out.send(response)
        self._waiting.popleft()
        if self._waiting:
            self._ask()
        elif self._ended:
            self._end()

    def _fail(self, error: Status) -> None:
        self._over = True
        self._out.fail(error)

    def _end(self) -> None:
        self._over = True
        self._out.end()


def keepalive(etcd: Any, caller: Caller, out: Out) -> Incoming:
    """Opens a keepalive stream."""
    return KeepAlive(etcd, caller, out)


def _unchecked(request: object) -> None:
    """Nothing is wrong with a request about a lease in itself."""


def _always(request: object) -> bool:
    return True


def _never(request: Any) -> bool:
    return False


METHODS: list[Method] = [
    Call("lease/grant", LeaseGrantRequest, grant),
    Stream("lease/keepalive", LeaseKeepAliveRequest, keepalive),
    *(Write(path, LeaseRevokeRequest, _unchecked, "lease_revoke") for path in ("lease/revoke", "kv/lease/revoke")),
    *(
        Call(path, LeaseTimeToLiveRequest, timetolive)
        for path in ("lease/timetolive", "kv/lease/timetolive")
    ),
    *(
        Read(path, LeaseLeasesRequest, _unchecked, leases, serializable=_always, light=_never, heedless=True)
        for path in ("lease/leases", "kv/lease/leases")
    ),
]  # fmt: skip
