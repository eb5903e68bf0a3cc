"""What may be against a simple write where it is applied: a right that was taken away, or an alarm.

    etcd.evaluate ─▶ Guarding.settle ─▶ machine.guard = None, or check ◀── StateMachine, before each simple write

1. The guard follows from the entries alone: every request that changes users, roles or alarms settles it before the next
   entry is applied, of the same batch, too.
2. Nobody pays for it while authentication is off and no alarm is raised: `guard` is None then.
3. A write is refused as a whole, by the rules of etcd's put, delete and transaction. While authentication is on, one that
   doesn't say who asks for it was proposed before it was turned on, and is refused, as etcd refuses a put without a user.

An alarm is asked after the right, as for etcd's requests: who may not write learns nothing of alarms.
Follows etcd's server/etcdserver/apply.go (applierV3Capped, applierV3Corrupt) and apply_auth.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from engines.kvstore import KVStore, Operation, WriteBatch
from server.errors import Corrupt, NodeError, NoSpace, PermissionDenied, RightsChanged
from server.principal import Guard, Principal
from server.v3 import rpc, status
from server.v3.alarms import Alarms
from server.v3.auth import Auth
from server.v3.permissions import Need
from server.v3.status import Status

__all__ = ["Guarding"]

_NOBODY = Principal("", 0)


class Machine(Protocol):
    """The part of server.statemachine.StateMachine that is set here."""

    guard: Guard | None


class Guarding:
    """Keeps a state machine's guard. As an own table it has no rows: it learns of a snapshot. For the thread that applies."""

    def __init__(self, auth: Auth, alarms: Alarms) -> None:
        self._auth, self._alarms = auth, alarms
        self._machine: Machine | None = None

    def attach(self, machine: Machine) -> None:
        """The state machine is there, and what it has was read."""
        self._machine = machine
        self.settle()

    def settle(self) -> None:
        """Users, roles or alarms may be others now. O(1)."""
        if self._machine is not None:
            self._machine.guard = self.check if self._auth.enabled or self._alarms.any else None

    def check(self, who: Principal | None, operations: Sequence[Operation]) -> NodeError | None:
        """Why these puts and deletes are refused, or None."""
        try:
            self._auth.check_needs(who or _NOBODY, [Need(True, key) for key, _ in operations])
            self._alarms.check_keys(any(value is not None for _, value in operations))
        except Status as refused:
            return self._error_of(refused)
        return None

    def _error_of(self, refused: Status) -> NodeError:
        if refused.args == status.NO_SPACE:
            how = self._how_to_disarm(rpc.AlarmType.NOSPACE)
            return NoSpace(f"The alarm NOSPACE is raised, so nothing can be put, while deletes go on, until {how}.")
        if refused.args == status.CORRUPT:
            how = self._how_to_disarm(rpc.AlarmType.CORRUPT)
            return Corrupt(f"The alarm CORRUPT is raised, so nothing can be put or deleted until {how}.")
        if refused.args == status.PERMISSION_DENIED:
            return PermissionDenied("This user may not write that: the permissions of his roles don't cover it.")
        return RightsChanged("Users or roles have changed meanwhile, so nothing was done: ask again.")

    def _how_to_disarm(self, kind: rpc.AlarmType) -> str:
        member = self._alarms.of_kind(kind)[0]
        body = f'{{"action": "DEACTIVATE", "memberID": "{member}", "alarm": "{kind.name}"}}'
        return f"it is disarmed by POST /v3/maintenance/alarm with the body {body}"

    # ---- OwnKeys (server/statemachine.py) -----------------------------------------------------------------------

    def read(self, store: KVStore) -> None:
        """An engine was opened or loaded. Requires: the tables were read before."""
        self.settle()

    def put(self, batch: WriteBatch, entries: Sequence[object], machine: object) -> None:
        """There is nothing to keep."""

    def written(self) -> None:
        """Nor was there."""
