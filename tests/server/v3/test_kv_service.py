"""Which methods of the service KV read, what may be read in the thread of all connections, and a compaction that waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.errors import NoLeader
from server.v3 import auth_service, kv_service, rpc
from server.v3.method import Call, Caller, Read, Write
from server.v3.rpc import CompactionRequest, Compare, PutRequest, RangeRequest, RequestOp, TxnRequest
from server.v3.status import Status
from tests.server.local_nodes import LocalCluster

METHODS = {each.path: each for each in kv_service.METHODS}
ONE = RequestOp(request_range=RangeRequest(key=b"a"))
MANY = RequestOp(request_range=RangeRequest(key=b"a", range_end=b"b"))
PUT = RequestOp(request_put=PutRequest(key=b"a"))


def test_a_read_of_a_key_or_of_a_few_is_light() -> None:
    ranges, txns = METHODS["kv/range"], METHODS["kv/txn"]
    assert isinstance(ranges, Read) and isinstance(txns, Write) and txns.read is not None
    assert ranges.light(RangeRequest(key=b"a"))
    assert not ranges.light(RangeRequest(key=b"a", range_end=b"\0", limit=1))  # it counts all
    few = kv_service.LIGHT_OPERATIONS_MAX
    assert txns.read.light(TxnRequest(success=[ONE] * few))
    for heavy in (
        TxnRequest(success=[ONE] * (few + 1)), TxnRequest(failure=[MANY]),
        TxnRequest(compare=[Compare(key=b"a", range_end=b"\0")], success=[ONE]),
    ):  # fmt: skip
        assert not txns.read.light(heavy)


def test_a_transaction_that_only_reads_is_a_read() -> None:
    method = METHODS["kv/txn"]
    assert isinstance(method, Write)
    assert method.reads(TxnRequest(success=[ONE], failure=[MANY]))
    assert not method.reads(TxnRequest(success=[ONE], failure=[PUT]))


@pytest.mark.parametrize("path, request_", [
    ("kv/compaction", CompactionRequest(revision=1)),
    ("auth/user/add", rpc.AuthUserAddRequest("alice", "secret")),
    ("auth/user/changepw", rpc.AuthUserChangePasswordRequest("bob", "secret")),
])  # fmt: skip
def test_a_call_that_goes_through_the_log_waits_for_a_leader_like_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, request_: Any
) -> None:
    """An election is on: nothing was done, and it is asked for once more."""
    method = {**METHODS, **{each.path: each for each in auth_service.METHODS}}[path]
    assert isinstance(method, Call)
    with LocalCluster(tmp_path, ["memory"]) as nodes:
        etcd = nodes.leader().etcd
        added = rpc.AuthUserAddRequest("bob", options=rpc.UserAddOptions(no_password=True))
        etcd.request(rpc.InternalRaftRequest(auth_user_add=added))
        asked = etcd.inside.waits.request
        refusals = iter([NoLeader("an election is on")])

        def once_without_a_leader(data: bytes, timeout_s: float) -> object:
            for refusal in refusals:
                raise refusal
            return asked(data, timeout_s)

        monkeypatch.setattr(etcd.inside.waits, "request", once_without_a_leader)
        assert method.run(etcd, Caller(), request_).header is not None


def test_a_physical_compaction_is_answered_when_its_rows_are_gone(tmp_path: Path) -> None:
    method = METHODS["kv/compaction"]
    assert isinstance(method, Call)
    with LocalCluster(tmp_path, ["memory"]) as nodes:
        node = nodes.leader()
        for value in (b"1", b"2", b"3", b"4"):
            node.propose([(b"%04d" % number, value) for number in range(1000)])
        revision = node.machine.revision
        store = node.machine.store
        assert sum(1 for _ in store.scan(b"h", b"i")) == 4000
        answer = method.run(node.etcd, Caller(), CompactionRequest(revision=revision, physical=True))
        assert answer.header.revision == revision
        assert (
            sum(1 for _ in store.scan(b"h", b"i")) == 2000
        )  # what was changed at this revision keeps what it replaced
        for wrong in (revision, revision + 1, -1):
            with pytest.raises(Status, match="required revision"):
                method.run(node.etcd, Caller(), CompactionRequest(revision=wrong, physical=True))
