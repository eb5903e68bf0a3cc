"""Alarms: what is wrong with a node, and what the cluster refuses meanwhile; and whether it is being downgraded.

All of it goes through Raft, and is the same on every node.

    NOSPACE    put, lease/grant and a txn with a put in one of its branches are refused; deleting and compacting make room
    CORRUPT    nothing is changed any more: put, deleterange, txn, compaction, lease/grant and lease/revoke are refused

They hold for the whole cluster, whichever node they are of, until all of their kind are deactivated. Clients raise them, and
a node that is at its quota NOSPACE (server/v3/quota.py). In etcd a node also raises CORRUPT when its hashes differ from the
others'; here it stops by itself (server/divergence.py). Simple writes are refused by the same rules: a PUT and a batch with
a put as a put is, all else as a deleterange (server/v3/simple_writes.py).

    malarm        one row: a protobuf AlarmResponse with all of them, by member and kind; no row if there is none
    mdowngrade    the version to which somebody wants to go back; no row if nobody does. Nothing follows from it

Invariants:

1. What is refused follows from the entries before it alone, so every node refuses the same (`check_entry`, while applying).
2. An alarm that is raised again, or deactivated where there is none, changes nothing.
3. ALARMS_MAX of them are kept; beyond that, none is raised: any number counts as a member.

Left out: as in etcd 3.5.1, a put in a transaction within a transaction isn't looked at.
Follows etcd's server/etcdserver/api/v3alarm/alarms.go and server/etcdserver/apply.go (applierV3Capped, applierV3Corrupt).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from engines.coding import DecodeError as CodingError
from engines.kvstore import KVStore, WriteBatch
from server.v3 import rpc, status, wire
from server.v3.status import Status

__all__ = ["ALARMS_MAX", "ALARM_ROW", "DOWNGRADE_ROW", "Alarms", "State", "kind_name"]

ALARM_ROW = b"malarm"
DOWNGRADE_ROW = b"mdowngrade"
ALARMS_MAX = 1000

_Action = rpc.AlarmRequest.AlarmAction
_NOSPACE, _CORRUPT = rpc.AlarmType.NOSPACE, rpc.AlarmType.CORRUPT
_CHANGES = frozenset({"put", "delete_range", "txn", "compaction", "lease_grant", "lease_revoke"})


class State(NamedTuple):
    """All that is kept. raised: member and kind of each alarm, ascending."""

    raised: tuple[tuple[int, int], ...] = ()
    downgrade: str = ""


class Alarms:
    """The alarms of the cluster. For the thread that applies; `raised` and `downgrade` are for any."""

    def __init__(self) -> None:
        self._kept = State()  # what the engine has
        self._next = State()  # with what the entries of the current batch do
        self._before = State()

    @property
    def raised(self) -> tuple[tuple[int, int], ...]:
        """Member and kind of each alarm."""
        return self._kept.raised

    @property
    def downgrade(self) -> str:
        """The version to which somebody wants to go back, "" if nobody does."""
        return self._kept.downgrade

    # ---- while applying -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A request is about to be evaluated."""
        self._before = self._next

    def undo(self) -> None:
        """It is refused: nothing has changed."""
        self._next = self._before

    @property
    def any(self) -> bool:
        """Whether one is raised, by the entries up to here; for the thread that applies."""
        return bool(self._next.raised)

    def check_entry(self, field: str, request: Any) -> None:
        """Raises Status for what an alarm forbids: of this field of an InternalRaftRequest."""
        if self._next.raised:
            puts = field in ("put", "lease_grant") or (field == "txn" and _puts(request))
            self._check(field in _CHANGES, puts)

    def check_keys(self, puts: bool) -> None:
        """Raises Status for what an alarm forbids: of simple operations, with a put among them or not."""
        self._check(True, puts)

    def _check(self, changes: bool, puts: bool) -> None:
        kinds = {kind for _, kind in self._next.raised}
        if _CORRUPT in kinds and changes:
            raise Status(*status.CORRUPT)
        if _NOSPACE in kinds and puts:
            raise Status(*status.NO_SPACE)

    def of_kind(self, kind: int) -> tuple[int, ...]:
        """The members that have raised an alarm of this kind, by the entries up to here; for the thread that applies."""
        return tuple(member for member, each in self._next.raised if each == kind)

    def change(self, request: rpc.AlarmRequest) -> list[rpc.AlarmMember]:
        """Does what a request asks for; the alarms that its answer names. Raises Status beyond ALARMS_MAX."""
        raised = self._next.raised
        one = (request.memberID, request.alarm)
        if request.action == _Action.GET:
            return _members(each for each in raised if request.alarm in (rpc.AlarmType.NONE, each[1]))
        if request.action == _Action.ACTIVATE and request.alarm != rpc.AlarmType.NONE:
            if one not in raised:
                if len(raised) >= ALARMS_MAX:
                    raise Status(*status.TOO_MANY_REQUESTS)
                self._next = self._next._replace(raised=tuple(sorted({*raised, one})))
            return _members([one])
        if request.action == _Action.DEACTIVATE and one in raised:
            self._next = self._next._replace(raised=tuple(each for each in raised if each != one))
            return _members([one])
        return []

    def set_downgrade(self, request: rpc.DowngradeInfoSetRequest) -> None:
        """Somebody wants to go back to another version, or doesn't any more."""
        self._next = self._next._replace(downgrade=request.ver if request.enabled else "")

    # ---- OwnKeys (server/statemachine.py) -----------------------------------------------------------------------

    def read(self, store: KVStore) -> None:
        """Reads what an engine has that was opened or loaded. Raises DecodeError."""
        row, version = store.get(ALARM_ROW), store.get(DOWNGRADE_ROW)
        try:
            alarms = [] if row is None else wire.decode(rpc.AlarmResponse, row).alarms
            raised = tuple((each.memberID, each.alarm) for each in alarms)
            self._kept = State(raised, "" if version is None else version.decode())
        except (wire.DecodeError, UnicodeDecodeError) as error:
            raise CodingError(f"the rows of alarms can't be read: {error}") from None
        self._next = self._before = self._kept

    def put(self, batch: WriteBatch, entries: Sequence[object], machine: object) -> None:
        """Adds the rows to the batch that are others now."""
        kept, now = self._kept, self._next
        if now.raised != kept.raised:
            _put(batch, ALARM_ROW, wire.encode(rpc.AlarmResponse(alarms=_members(now.raised))))
        if now.downgrade != kept.downgrade:
            _put(batch, DOWNGRADE_ROW, now.downgrade.encode())

    def written(self) -> None:
        """The batch is in the engine."""
        self._kept = self._next


def kind_name(kind: int) -> str:
    """The name of an alarm's kind; of one that has none, the number, as Go prints it: any kind can be raised."""
    try:
        return rpc.AlarmType(kind).name
    except ValueError:
        return str(kind)


def _put(batch: WriteBatch, key: bytes, row: bytes) -> None:
    if row:
        batch.put(key, row)
    else:
        batch.delete(key)


def _members(alarms: Any) -> list[rpc.AlarmMember]:
    return [rpc.AlarmMember(member, kind) for member, kind in alarms]


def _puts(request: rpc.TxnRequest) -> bool:
    return any(each.request_put is not None for each in [*request.success, *request.failure])
