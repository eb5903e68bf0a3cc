"""server/v3/alarms.py: what is refused while an alarm is raised, and that alarms are kept."""

from __future__ import annotations

from typing import Any

import pytest

from engines.kvstore import WriteBatch
from engines.memory import MemoryStore
from server.v3 import rpc, status
from server.v3.alarms import ALARM_ROW, ALARMS_MAX, Alarms
from server.v3.status import Status

GET, ACTIVATE, DEACTIVATE = rpc.AlarmRequest.AlarmAction
NONE, NOSPACE, CORRUPT = rpc.AlarmType

PUT = rpc.PutRequest(b"a", b"1")
PUTS = rpc.TxnRequest(failure=[rpc.RequestOp(request_put=PUT)])
READS = rpc.TxnRequest(success=[rpc.RequestOp(request_range=rpc.RangeRequest(b"a"))])
REQUESTS: dict[str, Any] = {
    "put": PUT,
    "txn": PUTS,
    "delete_range": rpc.DeleteRangeRequest(b"a"),
    "compaction": rpc.CompactionRequest(1),
    "lease_grant": rpc.LeaseGrantRequest(60),
    "lease_revoke": rpc.LeaseRevokeRequest(1),
    "alarm": rpc.AlarmRequest(),
    "auth_enable": rpc.AuthEnableRequest(),
}


def ask(alarms: Alarms, action: int, member: int = 0, kind: int = NONE) -> list[tuple[int, int]]:
    return [(each.memberID, each.alarm) for each in alarms.change(rpc.AlarmRequest(action, member, kind))]


def written(alarms: Alarms, store: MemoryStore) -> None:
    """A batch ends."""
    batch = WriteBatch()
    alarms.put(batch, [], None)
    store.write(batch)
    alarms.written()


def refused(alarms: Alarms) -> dict[str, tuple[int, str]]:
    found = {}
    for field, request in REQUESTS.items():
        try:
            alarms.check_entry(field, request)
        except Status as error:
            found[field] = (error.code, error.sentence)
    return found


def test_what_an_alarm_forbids() -> None:
    """apply.go: applierV3Capped, applierV3Corrupt."""
    alarms = Alarms()
    assert refused(alarms) == {}
    ask(alarms, ACTIVATE, 1, NOSPACE)
    assert refused(alarms) == dict.fromkeys(("put", "txn", "lease_grant"), status.NO_SPACE)
    alarms.check_entry("txn", READS)
    ask(alarms, ACTIVATE, 2, CORRUPT)
    fields = ("put", "txn", "delete_range", "compaction", "lease_grant", "lease_revoke")
    assert refused(alarms) == dict.fromkeys(fields, status.CORRUPT)
    ask(alarms, DEACTIVATE, 2, CORRUPT)
    ask(alarms, DEACTIVATE, 1, NOSPACE)
    assert refused(alarms) == {}


def test_an_alarm_holds_until_no_member_has_it() -> None:
    alarms = Alarms()
    ask(alarms, ACTIVATE, 1, NOSPACE)
    ask(alarms, ACTIVATE, 2, NOSPACE)
    ask(alarms, DEACTIVATE, 1, NOSPACE)
    assert "put" in refused(alarms)
    ask(alarms, DEACTIVATE, 2, NOSPACE)
    assert refused(alarms) == {}


def test_what_is_told() -> None:
    """alarms.go: Activate tells of one that is raised already, Deactivate of none that isn't; NONE asks for all."""
    alarms = Alarms()
    assert ask(alarms, GET) == []
    assert ask(alarms, ACTIVATE, 7, NONE) == []
    assert ask(alarms, ACTIVATE, 7, NOSPACE) == [(7, NOSPACE)]
    assert ask(alarms, ACTIVATE, 7, NOSPACE) == [(7, NOSPACE)]
    assert ask(alarms, ACTIVATE, 3, CORRUPT) == [(3, CORRUPT)]
    assert ask(alarms, GET) == [(3, CORRUPT), (7, NOSPACE)]
    assert ask(alarms, GET, 99, NOSPACE) == [(7, NOSPACE)]
    assert ask(alarms, DEACTIVATE, 3, NOSPACE) == []
    assert ask(alarms, DEACTIVATE, 3, CORRUPT) == [(3, CORRUPT)]


def test_alarms_are_in_the_batch_and_read_again() -> None:
    store, alarms = MemoryStore(), Alarms()
    alarms.read(store)
    ask(alarms, ACTIVATE, 7, NOSPACE)
    alarms.set_downgrade(rpc.DowngradeInfoSetRequest(True, "3.4.0"))
    assert (alarms.raised, alarms.downgrade) == ((), "")  # nobody is told of what isn't in the engine
    written(alarms, store)
    again = Alarms()
    again.read(store)
    assert again.raised == alarms.raised == ((7, NOSPACE),)
    assert again.downgrade == alarms.downgrade == "3.4.0"
    assert refused(again) == refused(alarms) != {}
    ask(alarms, DEACTIVATE, 7, NOSPACE)
    alarms.set_downgrade(rpc.DowngradeInfoSetRequest(False, "3.4.0"))
    written(alarms, store)
    assert list(store.scan()) == []


def test_what_is_refused_is_taken_back() -> None:
    alarms = Alarms()
    alarms.begin()
    ask(alarms, ACTIVATE, 7, NOSPACE)
    alarms.undo()
    assert ask(alarms, GET) == []


def test_a_row_that_is_no_alarms_is_said() -> None:
    from engines.coding import DecodeError

    store = MemoryStore()
    store.put(ALARM_ROW, b"\xff")
    with pytest.raises(DecodeError, match="rows of alarms"):
        Alarms().read(store)


def test_any_number_is_a_member_but_not_any_number_of_them() -> None:
    alarms = Alarms()
    for member in range(ALARMS_MAX):
        ask(alarms, ACTIVATE, member, NOSPACE)
    with pytest.raises(Status, match="too many requests"):
        ask(alarms, ACTIVATE, ALARMS_MAX, NOSPACE)
    assert ask(alarms, ACTIVATE, 5, NOSPACE) == [(5, NOSPACE)]
