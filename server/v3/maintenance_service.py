"""The Maintenance service: how a node is, checksums, alarms, the whole state as a stream, and who leads.

    status                       this node, as it sees itself; nothing is asked of the others
    alarm                        through Raft (server/v3/alarms.py), as in etcd also where it only asks
    hash, hashkv                 checksums of this node (server/v3/hashes.py)
    defragment                   the engine's `compact`, which gives room back to the file system; this node's alone
    snapshot                     a stream of BLOB_BYTES each, and last the SHA-256 of all of them
    transfer-leadership          asked of the leader, which hands over
    downgrade                    whether an older version could go on; enabling and cancelling are kept, and nothing else

What a snapshot's bytes are is our own matter: a snapshot file (server/snapshot.py), as GET /_/snapshot has it, for `metcd
snapshot restore`, which knows the hash at its end (server/snapshot_hash.py), and not for etcdctl's. `remaining_bytes` is
exact: the state is walked twice, once to count.

Departures from etcd 3.5.1: hashkv is there (3.5.1 has no path for it, 3.5.30 has). While authentication is on, all but status need
the role root, and asking for alarms a user: 3.5.1 lets anybody raise an alarm, hand over and downgrade.
Follows etcd's api/v3rpc/maintenance.go, and for downgrades server/etcdserver/v3_server.go.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from server.errors import NodeError, NodeStopped, NoLeader, Overloaded
from server.mvcc import Compacted, FutureRevision
from server.v3 import rpc, status
from server.v3.alarms import kind_name
from server.v3.etcd import REQUEST_S
from server.v3.failures import confirmed
from server.v3.hashes import hash_of_keys, hash_of_rows
from server.v3.method import CHECK_S, Call, Caller, Method, Out, Stream, Write
from server.v3.status import Status
from server.v3.version import CLUSTER_VERSION, DOWNGRADE_VERSION, SERVER_VERSION

__all__ = ["BLOB_BYTES", "METHODS", "alarm_text"]

BLOB_BYTES = 32 << 10
TRANSFER_S = 5.0
TRANSFER_TIMEOUT = status.Sentence(14, "etcdserver: request timed out, leader transfer took too long")
_VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})(\.[0-9]{1,9}([-+][0-9A-Za-z.+-]+)?)?\Z")  # the patch doesn't count


# ---- how it is ------------------------------------------------------------------------------------------------------


def alarm_text(member: int, kind: int) -> str:
    """An alarm as protobuf's text format has it, with the space at its end."""
    fields = [f"memberID:{member} "] if member else []
    return "".join([*fields, f"alarm:{kind_name(kind)} "])


def _status(etcd: Any, caller: Caller, request: rpc.StatusRequest) -> rpc.StatusResponse:
    node, raft = etcd.node, etcd.inside.raft
    stats = node.machine.store.stats()
    leader = raft.lead
    own = node.members.book.members.get(node.id)
    return rpc.StatusResponse(
        header=etcd.header(node.machine.revision),
        version=SERVER_VERSION,
        dbSize=node.machine.store.size_bytes(),
        leader=leader,
        raftIndex=raft.commit_index,
        raftTerm=raft.term,
        raftAppliedIndex=node.machine.applied_index,
        errors=[
            *([] if leader else [status.NO_LEADER.sentence]),
            *(alarm_text(*alarm) for alarm in etcd.alarms.raised),
        ],
        dbSizeInUse=stats.live_bytes,
        isLearner=own is not None and own.learner,
    )


def _hash(etcd: Any, caller: Caller, request: rpc.HashRequest) -> rpc.HashResponse:
    etcd.auth.root_of_maintenance(caller)
    with etcd.view() as view:
        return rpc.HashResponse(etcd.header(view.revision), hash_of_rows(_asked_for(caller, view.rows())))


def _hash_of_keys(etcd: Any, caller: Caller, request: rpc.HashKVRequest) -> rpc.HashKVResponse:
    etcd.auth.root_of_maintenance(caller)
    with etcd.view() as view:
        try:
            checksum, compacted = hash_of_keys(view, max(0, request.revision))
        except Compacted:
            raise Status(*status.COMPACTED) from None
        except FutureRevision:
            raise Status(*status.FUTURE_REV) from None
        return rpc.HashKVResponse(etcd.header(view.revision), checksum, compacted)


def _asked_for(caller: Caller, rows: Iterable[Any]) -> Iterator[Any]:
    """The rows, as long as the client is there."""
    for number, row in enumerate(rows):
        if number % 1000 == 0 and caller.gone():
            raise Status(status.Code.CANCELED, "context canceled")
        yield row


def _defragment(etcd: Any, caller: Caller, request: rpc.DefragmentRequest) -> rpc.DefragmentResponse:
    etcd.auth.root_of_maintenance(caller)
    etcd.node.machine.store.compact()
    return rpc.DefragmentResponse()


# ---- a snapshot -----------------------------------------------------------------------------------------------------


class _Snapshot:
    """The request of a snapshot has come: a worker sends it."""

    def __init__(self, etcd: Any, caller: Caller, out: Any) -> None:
        self._etcd, self._caller, self._out = etcd, caller, out
        self._gone = False

    def received(self, message: rpc.SnapshotRequest) -> None:
        self._out.job(self._send)

    def ended(self) -> None:
        pass

    def closed(self) -> None:
        self._gone = True

    def _send(self) -> None:
        out, digest = self._out, hashlib.sha256()
        self._etcd.auth.root_of_maintenance(self._caller)
        try:
            _, blocks, size = self._etcd.node.snapshots.measured()
            left = size
            with contextlib.closing(blocks):
                for blob in _blobs(blocks):
                    left -= len(blob)
                    digest.update(blob)
                    if not self._fits() or not out.send(rpc.SnapshotResponse(remaining_bytes=left, blob=blob)):
                        return
        except NodeError as error:
            raise Status(*_sentence_of(error)) from None
        out.send(rpc.SnapshotResponse(blob=digest.digest()))
        out.end()

    def _fits(self) -> bool:
        """Returns when the client has taken enough for more to be sent; False if it takes nothing any more."""
        while not self._gone:
            if self._out.room(CHECK_S):
                return True
        return False


def _blobs(blocks: Iterable[bytes]) -> Iterator[bytes]:
    gathered = bytearray()
    for block in blocks:
        gathered += block
        while len(gathered) >= BLOB_BYTES:
            yield bytes(gathered[:BLOB_BYTES])
            del gathered[:BLOB_BYTES]
    if gathered:
        yield bytes(gathered)


def _sentence_of(error: NodeError) -> status.Sentence:
    if isinstance(error, Overloaded):
        return status.TOO_MANY_REQUESTS
    return status.STOPPED if isinstance(error, NodeStopped) else status.TIMEOUT


def _snapshot(etcd: Any, caller: Caller, out: Out) -> _Snapshot:
    return _Snapshot(etcd, caller, out)


# ---- what changes something -----------------------------------------------------------------------------------------


def _check_alarm(request: rpc.AlarmRequest) -> None:
    """Whatever it asks for is answered."""


def _transfer(etcd: Any, caller: Caller, request: rpc.MoveLeaderRequest) -> rpc.MoveLeaderResponse:
    etcd.auth.check_root(etcd.auth.identify_if_on(caller))
    node = etcd.node
    if etcd.inside.raft.lead != node.id:
        raise Status(*status.NOT_LEADER)
    member = node.members.book.members.get(request.targetID)
    if member is None or member.learner:
        raise Status(*status.BAD_LEADER_TRANSFEREE)
    try:
        node.transfer(request.targetID, caller.left_s(TRANSFER_S))
    except NoLeader:
        raise Status(*TRANSFER_TIMEOUT) from None
    return rpc.MoveLeaderResponse()


def _downgrade(etcd: Any, caller: Caller, request: rpc.DowngradeRequest) -> rpc.DowngradeResponse:
    caller = etcd.auth.identify_if_on(caller)
    etcd.auth.check_root(caller)
    action = rpc.DowngradeRequest.DowngradeAction
    if request.action not in (action.VALIDATE, action.ENABLE, action.CANCEL):
        raise Status(status.Code.UNKNOWN, "etcdserver: unknown method")
    if request.action == action.CANCEL:
        confirmed(etcd.barrier, caller, REQUEST_S, status.TIMEOUT)
        if not etcd.alarms.downgrade:
            raise Status(*status.NO_INFLIGHT_DOWNGRADE)
        _set_downgrade(etcd, caller, "")
    else:
        found = _VERSION.match(request.version)
        if found is None:
            raise Status(*status.WRONG_DOWNGRADE_VERSION_FORMAT)
        wanted = int(found[1]), int(found[2])
        confirmed(etcd.barrier, caller, REQUEST_S, status.TIMEOUT)
        if wanted != DOWNGRADE_VERSION:
            raise Status(*status.INVALID_DOWNGRADE_TARGET_VERSION)
        if etcd.alarms.downgrade:
            raise Status(*status.DOWNGRADE_IN_PROCESS)
        if request.action == action.ENABLE:
            _set_downgrade(etcd, caller, f"{wanted[0]}.{wanted[1]}.0")
    return rpc.DowngradeResponse(etcd.header(etcd.node.machine.revision), CLUSTER_VERSION)


def _set_downgrade(etcd: Any, caller: Caller, version: str) -> None:
    wanted = rpc.DowngradeInfoSetRequest(bool(version), version)
    etcd.ask(caller, "downgrade_info_set", wanted)


METHODS: list[Method] = [
    Write("maintenance/alarm", rpc.AlarmRequest, _check_alarm, "alarm"),
    Call("maintenance/status", rpc.StatusRequest, _status),
    Call("maintenance/defragment", rpc.DefragmentRequest, _defragment),
    Call("maintenance/hash", rpc.HashRequest, _hash),
    Call("maintenance/hashkv", rpc.HashKVRequest, _hash_of_keys),
    Stream("maintenance/snapshot", rpc.SnapshotRequest, _snapshot, many=False),
    Call("maintenance/transfer-leadership", rpc.MoveLeaderRequest, _transfer),
    Call("maintenance/downgrade", rpc.DowngradeRequest, _downgrade),
]
