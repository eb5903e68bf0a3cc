"""Copies between two of our own clusters, and the front over one: what tests/interop asks of a real etcd, in small."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.cli import main
from server.client import Client
from server.copying import MARK, Copying, CopyRefused
from server.etcd_client import EtcdClient
from server.front import FrontNode
from server.v3 import rpc
from server.v3.services import TABLE
from tests.server.gateways import asked, front_over, serving
from tests.server.local_nodes import free_ports


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[EtcdClient, EtcdClient]]:
    """A source and a target, on two engines."""
    with serving(tmp_path / "source", "lsm") as source, serving(tmp_path / "target", "btree") as target:
        clients = EtcdClient([source]), EtcdClient([target])
        yield clients
        for client in clients:
            client.close()


def put(client: EtcdClient, key: bytes, value: bytes, lease: int = 0) -> None:
    client.tell("kv/put", rpc.PutRequest(key=key, value=value, lease=lease), rpc.PutResponse)


def everything(client: EtcdClient) -> dict[bytes, tuple[bytes, int]]:
    """All keys with their values and leases."""
    asked = rpc.RangeRequest(key=b"\0", range_end=b"\0")
    return {pair.key: (pair.value, pair.lease) for pair in client.ask("kv/range", asked, rpc.RangeResponse).kvs}


def fill(client: EtcdClient) -> None:
    client.tell("lease/grant", rpc.LeaseGrantRequest(ID=77, TTL=600), rpc.LeaseGrantResponse)
    for at in range(150):
        put(client, b"k%03d\xff" % at, b"v" * at, 77 if at % 10 == 0 else 0)


class Killed(Exception):
    """In place of the end of a process."""


class Mortal(EtcdClient):
    """A client whose process ends when it has written so often."""

    writes = 0

    def tell(self, path: str, request: rpc.Message, response: type[Any]) -> Any:
        self.writes -= path == "kv/txn"
        if self.writes < 0:
            raise Killed
        return super().tell(path, request, response)


def test_a_copy_has_all_keys_and_leases_and_says_so(
    both: tuple[EtcdClient, EtcdClient], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = both
    fill(source)
    assert main(["export", "--from", source.urls[0], "--to", target.urls[0], "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["keys"], report["leases"], report["written"], report["verified"]) == (150, 1, 150, True)
    assert everything(target) == everything(source)
    granted = target.ask("lease/timetolive", rpc.LeaseTimeToLiveRequest(ID=77), rpc.LeaseTimeToLiveResponse)
    assert granted.grantedTTL == 600
    with pytest.raises(CopyRefused, match="the target has 150 keys"):
        Copying(source, target, print).run()
    with pytest.raises(CopyRefused, match="the same cluster"):
        Copying(source, source, print).run()


def test_without_a_terminal_a_long_copy_says_in_lines_how_far_it_is(
    both: tuple[EtcdClient, EtcdClient], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of 32 keys, then 128. What goes to a program, on standard output, stays as it is."""
    source, target = both
    fill(source)
    monkeypatch.setattr("server.verbs.etcds.LINE_S", 0.0)
    assert main(["export", "--from", source.urls[0], "--to", target.urls[0], "--json"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    at = f"at revision {report['revision']:,}"
    assert said.err.splitlines() == [
        f"metcd: 32 of 150 keys are copied {at}",
        f"metcd: 150 of 150 keys are copied {at}",
        f"metcd: 32 of 150 keys are compared in the source {at}",
        f"metcd: 150 of 150 keys are compared in the source {at}",
        "metcd: 31 of 150 keys are compared in the target",
        "metcd: 150 of 150 keys are compared in the target",
    ]


def test_a_copy_that_takes_no_time_says_what_it_has_done_and_nothing_else(
    both: tuple[EtcdClient, EtcdClient], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = both
    fill(source)
    assert main(["export", "--from", source.urls[0], "--to", target.urls[0]]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "150 keys and 1 leases; 150 keys were written" in said.out


def test_who_is_not_there_is_named_while_he_is_asked_again(
    both: tuple[EtcdClient, EtcdClient], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL that is wrong would be ten seconds of silence."""
    monkeypatch.setattr("server.copying.PAUSE_S", 0.0)
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    assert main(["export", "--from", both[0].urls[0], "--to", nobody]) != 0
    again, end = capsys.readouterr().err.splitlines()
    assert nobody in again and again.endswith(": it is tried again, 19 times at most")
    assert nobody in end


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_copy_draws_a_bar(both: tuple[EtcdClient, EtcdClient], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = both
    fill(source)
    monkeypatch.setattr("server.verbs.etcds.BAR_S", 0.0)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert main(["export", "--from", source.urls[0], "--to", target.urls[0]]) == 0
    drawn = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "compared in the target" in drawn
    assert "150/150" in drawn
    assert "keys are" not in drawn


@pytest.mark.parametrize("value", [b"mine", b"[]", b'{"source":1}', b'{"source":1,"revision":2,"next":"no hex"}'])
def test_a_mark_that_no_copy_has_written_is_said_to_be_none(
    both: tuple[EtcdClient, EtcdClient], capsys: pytest.CaptureFixture[str], value: bytes
) -> None:
    source, target = both
    put(target, MARK, value)
    assert main(["export", "--from", source.urls[0], "--to", target.urls[0]]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the target has a key _/metcd/copied-from that no copy has written" in error
    assert everything(target) == {MARK: (value, 0)}


def test_a_copy_that_was_killed_goes_on_and_deletes_what_the_source_has_no_longer(
    both: tuple[EtcdClient, EtcdClient],
) -> None:
    source, target = both
    fill(source)
    mortal = Mortal(target.urls)
    mortal.writes = 3
    with pytest.raises(Killed):
        Copying(source, mortal, print).run()
    mortal.close()
    assert MARK in everything(target)
    source.tell("lease/revoke", rpc.LeaseRevokeRequest(ID=77), rpc.LeaseRevokeResponse)
    gone = rpc.DeleteRangeRequest(key=b"k001\xff")
    last = source.tell("kv/deleterange", gone, rpc.DeleteRangeResponse)
    assert last.header is not None
    compacting = rpc.CompactionRequest(revision=last.header.revision)
    source.tell("kv/compaction", compacting, rpc.CompactionResponse)
    report = Copying(source, target, print).run()
    assert (report.resumed, report.verified, report.deleted) == (True, True, 1)
    assert everything(target) == everything(source)


class Compacting(EtcdClient):
    """A source that gets another key and lease, and compacts what came before, ahead of the page of this number."""

    def __init__(self, urls: list[str], page: int) -> None:
        super().__init__(urls)
        self._pages_left = page

    def ask(self, path: str, request: rpc.Message, response: type[Any]) -> Any:
        if isinstance(request, rpc.RangeRequest) and request.revision:
            self._pages_left -= 1
            if self._pages_left == 0:
                self.tell("lease/grant", rpc.LeaseGrantRequest(ID=78, TTL=600), rpc.LeaseGrantResponse)
                last = self.tell("kv/put", rpc.PutRequest(key=b"new", lease=78), rpc.PutResponse)
                compacting = rpc.CompactionRequest(revision=last.header.revision)
                self.tell("kv/compaction", compacting, rpc.CompactionResponse)
        return super().ask(path, request, response)


@pytest.mark.parametrize("page", [1, 3], ids=["while copying", "while comparing"])
def test_a_source_that_compacts_meanwhile_is_copied_at_a_newer_revision(
    both: tuple[EtcdClient, EtcdClient], page: int
) -> None:
    source, target = both
    fill(source)
    with Compacting(source.urls, page) as compacting:
        report = Copying(compacting, target, print).run()
    assert (report.verified, report.keys, report.leases) == (True, 151, 2)
    assert everything(target) == everything(source)


class Meddled(EtcdClient):
    """A client beside which somebody else writes, after the second transaction."""

    writes = 0

    def tell(self, path: str, request: rpc.Message, response: type[Any]) -> Any:
        answer = super().tell(path, request, response)
        self.writes += path == "kv/txn"
        if self.writes == 2:
            self.writes += 1
            put(self, b"b", b"meddled")
        return answer


def test_somebody_who_writes_to_the_target_meanwhile_is_noticed(both: tuple[EtcdClient, EtcdClient]) -> None:
    """And the next run makes it right."""
    source, target = both
    put(source, b"a", b"1")
    meddled = Meddled(target.urls)
    report = Copying(source, meddled, print).run()
    meddled.close()
    assert (report.keys, report.target_keys, report.verified) == (1, 2, False)
    report = Copying(source, target, print).run()
    assert (report.resumed, report.deleted, report.verified) == (True, 1, True)
    assert everything(target) == everything(source) == {b"a": (b"1", 0)}


def test_the_front_answers_as_a_node_does(tmp_path: Path) -> None:
    with serving(tmp_path / "node") as node, front_over([node]) as front:
        for url in (node, front):  # the sessions of a front are keys, which a scan of the node shows
            with Client([url]) as ours:
                ours.put(b"hello", b"world")
                assert ours.get(b"hello") == b"world"
                ours.batch([(b"k%d" % at, b"") for at in range(9)])
                ours.batch([(b"k0", b"first"), (b"k1", None), (b"k0", b"last")])
                assert ours.get(b"k0", consistency="stale") == b"last"
                ours.delete(b"hello")
                assert ours.get(b"hello") is None
                keys = [key for key, _ in ours.scan()]
                assert keys == [b"k%d" % at for at in range(9) if at != 1]
                assert [key for key, _ in ours.scan(reverse=True)] == keys[::-1]
                assert [key for key, _ in ours.scan(prefix=b"k", start=b"k4", limit=2)] == [b"k4", b"k5"]


class Noting(EtcdClient):
    """Keeps how many bytes of values came with each range."""

    def __init__(self, urls: list[str]) -> None:
        super().__init__(urls)
        self.sizes: list[int] = []

    def ask(self, path: str, request: rpc.Message, response: type[Any]) -> Any:
        answer = super().ask(path, request, response)
        if isinstance(answer, rpc.RangeResponse):
            self.sizes.append(sum(len(pair.value) for pair in answer.kvs))
        return answer


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_of_large_values_asks_for_a_few_at_a_time(tmp_path: Path, reverse: bool) -> None:
    """500 of 1.5 MiB in one answer would be the end of a front."""
    with serving(tmp_path / "node") as node, Noting([node]) as client:
        for at in range(40):
            put(client, b"k%02d" % at, bytes(500_000))
        keys = [key for key, _ in FrontNode(client).machine.scan(reverse=reverse)]
        assert keys == sorted((b"k%02d" % at for at in range(40)), reverse=reverse)
        assert client.sizes == [16_000_000, 4_000_000]


def test_a_request_of_a_session_is_carried_out_once(tmp_path: Path) -> None:
    with serving(tmp_path / "node") as node, front_over([node]) as url:
        session = json.loads(asked(url, "POST", "/_/sessions")[2])["session"]
        first = asked(url, "PUT", "/a", b"1", X_Metcd_Request=f"{session}/1")
        assert first[0] == 204
        assert asked(url, "PUT", "/a", b"2")[0] == 204
        assert asked(url, "PUT", "/a", b"1", X_Metcd_Request=f"{session}/1")[:2] == first[:2]
        assert asked(url, "GET", "/a")[2] == b"2"
        assert asked(url, "DELETE", "/a", X_Metcd_Request=f"{session}/2")[0] == 204
        assert asked(url, "PUT", "/a", b"1", X_Metcd_Request=f"{session}/1")[0] == 409
        assert asked(url, "PUT", "/a", b"1", X_Metcd_Request=f"{session + 1}/1")[0] == 410


def test_an_alarm_is_told_by_a_front_as_by_a_node(tmp_path: Path) -> None:
    with serving(tmp_path / "node") as node, front_over([node]) as front:
        alarm = b'{"action":"%s","memberID":"1","alarm":"NOSPACE"}'
        assert [asked(url, "PUT", "/a", b"1")[0] for url in (node, front)] == [204, 204]
        assert asked(node, "POST", "/v3/maintenance/alarm", alarm % b"ACTIVATE")[0] == 200
        for url in (node, front):
            status, _, body = asked(url, "PUT", "/a", b"2")
            assert status == 507 and b"NOSPACE" in body
            assert asked(url, "DELETE", "/a")[0] == 204
        assert asked(node, "POST", "/v3/maintenance/alarm", alarm % b"DEACTIVATE")[0] == 200
        assert [asked(url, "PUT", "/a", b"3")[0] for url in (node, front)] == [204, 204]


def test_what_only_a_node_has_is_not_here(tmp_path: Path) -> None:
    with serving(tmp_path / "node") as node, front_over([node]) as url:
        for path in (
            "/_/members",
            "/_/snapshot",
            "/_/feed",
            "/_/describe",
            "/_/page",
            "/health",
            "/version",
            "/metrics",
        ):
            assert asked(url, "GET", path)[0] == 501, path
        for path in ("/_/digest", "/_/leader/1", "/v3/watch", *(path.decode() for path in TABLE)):
            assert asked(url, "POST", path, b'{"key":"Zm9v"}')[0] == 501, path
        assert asked(url, "GET", "/_/health")[0] == 200


def test_a_front_without_an_etcd_says_that_nothing_was_done() -> None:
    with front_over(["http://127.0.0.1:1"]) as url:
        assert asked(url, "PUT", "/a", b"1")[0] == 503
        assert asked(url, "GET", "/a")[0] == 503
        assert asked(url, "GET", "/_/health")[0] == 503
        told = json.loads(asked(url, "GET", "/_/status")[2])
        assert "can't be reached" in told["etcd"][0]["error"]
