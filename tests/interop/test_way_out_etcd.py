"""The way out, against three of Debian's etcd, and three of upstream's 3.5.1: export and import, and the front over them."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.cli import main
from server.client import Client
from server.copying import MARK, Copying
from server.etcd_client import EtcdClient
from server.v3 import rpc
from tests.interop.etcd_member import BUILDS, Etcd, running_etcd, running_etcds
from tests.server.gateways import asked, front_over, serving
from tests.server.local_nodes import eventually


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def put(etcd: Etcd, key: bytes, value: bytes, lease: int = 0) -> None:
    assert etcd.ask("kv/put", {"key": b64(key), "value": b64(value), "lease": lease})[0] == 200


def everything(etcd: Etcd) -> dict[bytes, tuple[bytes, int]]:
    """All keys with their values and leases."""
    _, answer = etcd.ask("kv/range", {"key": b64(b"\0"), "range_end": b64(b"\0")})
    return {
        base64.b64decode(pair["key"]): (base64.b64decode(pair.get("value", "")), int(pair.get("lease", 0)))
        for pair in answer.get("kvs", [])
    }


def all_of(etcds: list[Etcd]) -> list[str]:
    return [etcd.url for etcd in etcds]


def urls(etcds: list[Etcd]) -> str:
    return ",".join(all_of(etcds))


@pytest.fixture(scope="module", params=BUILDS)
def build(request: pytest.FixtureRequest) -> str:
    """Which etcd."""
    return str(request.param)


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory, build: str) -> Iterator[tuple[Etcd, list[Etcd]]]:
    """A source of one member, and a target of three."""
    directory = tmp_path_factory.mktemp("etcd")
    with running_etcd(directory / "source", build) as source, running_etcds(directory / "target", 3, build) as target:
        yield source, target


@pytest.fixture
def pair(clusters: tuple[Etcd, list[Etcd]]) -> tuple[Etcd, list[Etcd]]:
    """The same, both empty: no keys, no leases."""
    for etcd in (clusters[0], clusters[1][0]):
        etcd.ask("kv/deleterange", {"key": b64(b"\0"), "range_end": b64(b"\0")})
        for lease in etcd.ask("lease/leases", {})[1].get("leases", []):
            etcd.ask("lease/revoke", {"ID": lease["ID"]})
    return clusters


def fill(source: Etcd) -> None:
    """1,200 keys, a tenth of them with a lease, and two large values."""
    for lease in (77, 4660):
        source.ask("lease/grant", {"ID": lease, "TTL": 600})
    for at in range(1200):
        put(source, b"key/%05d\xff" % at, b"v" * (at % 300), 77 if at % 10 == 0 else 0)
    put(source, b"large/1", b"x" * 1_000_000, 4660)
    put(source, b"large/2", b"y" * 1_000_000)


def test_upstream_s_etcd_is_the_newer_one(pair: tuple[Etcd, list[Etcd]], build: str) -> None:
    version = pair[0].ask("maintenance/status", {})[1]["version"]
    assert (version == "3.5.1") == (build == "upstream")


def test_an_export_copies_keys_and_leases_and_verifies_them(
    pair: tuple[Etcd, list[Etcd]], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = pair
    fill(source)
    assert main(["export", "--from", source.url, "--to", urls(target), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["keys"], report["leases"], report["written"], report["verified"]) == (1202, 2, 1202, True)
    assert everything(target[1]) == everything(source)
    assert target[2].ask("lease/timetolive", {"ID": 77})[1]["grantedTTL"] == "600"
    assert main(["export", "--from", source.url, "--to", urls(target)]) == 2
    assert "the target has 1,202 keys, and a copy needs an empty one" in capsys.readouterr().err


def test_an_import_is_the_same_in_the_other_direction(
    pair: tuple[Etcd, list[Etcd]], capsys: pytest.CaptureFixture[str]
) -> None:
    target, source = pair
    for at in range(40):
        put(source[0], b"k%d" % at, b"v")
    assert main(["import", "--from", urls(source), "--to", target.url]) == 0
    assert "verified: both sides have 40 keys, sha256 " in capsys.readouterr().out
    assert everything(target) == everything(source[0])


@pytest.mark.parametrize("engine", ["lsm", "btree", "bitcask", "memory"])
def test_from_ours_to_etcd_and_back_into_ours(
    pair: tuple[Etcd, list[Etcd]], tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was copied out and in again hashes as it did; so do keys that the simple routes wrote."""
    _, etcds = pair
    with serving(tmp_path / "one", engine) as one, serving(tmp_path / "two", engine) as two:
        with Client([one]) as client, EtcdClient([one]) as gateway:
            client.batch([(b"simple/%d" % at, b"\xff" * at) for at in range(300)])
            gateway.tell("lease/grant", rpc.LeaseGrantRequest(ID=77, TTL=600), rpc.LeaseGrantResponse)
            gateway.tell("kv/put", rpc.PutRequest(key=b"leased", value=b"v", lease=77), rpc.PutResponse)
        assert main(["export", "--from", one, "--to", urls(etcds), "--json"]) == 0
        assert main(["import", "--from", urls(etcds), "--to", two, "--json"]) == 0
        out, into = map(json.loads, capsys.readouterr().out.splitlines())
        assert out["keys"] == into["keys"] == 301
        assert out["sha256"] == into["target_sha256"]
        assert everything(etcds[1])[b"leased"] == (b"v", 77)
        with Client([two]) as client:
            assert client.get(b"simple/299") == b"\xff" * 299


class Killed(Exception):
    """In place of the end of a process."""


class Mortal(EtcdClient):
    """A client whose process ends in the middle of a call, which may be carried out or not."""

    writes = 0

    def tell(self, path: str, request: rpc.Message, response: type[Any]) -> Any:
        self.writes -= path == "kv/txn"
        if self.writes < 0:
            if self.writes % 2:
                super().tell(path, request, response)
            raise Killed
        return super().tell(path, request, response)


def half_a_copy(source: Etcd, target: list[Etcd], writes: int) -> None:
    from_, to = EtcdClient([source.url]), Mortal([etcd.url for etcd in target])
    to.writes = writes
    with pytest.raises(Killed):
        Copying(from_, to, print).run()
    from_.close()
    to.close()


@pytest.mark.parametrize("writes", [1, 4, 5, 13])
def test_a_copy_that_was_killed_goes_on_where_it_was(
    pair: tuple[Etcd, list[Etcd]], capsys: pytest.CaptureFixture[str], writes: int
) -> None:
    """Also if the source has changed since: what is copied is one revision."""
    source, target = pair
    fill(source)
    before = everything(source)
    half_a_copy(source, target, writes)
    put(source, b"key/00000", b"later")
    put(source, b"key/99999", b"later")
    assert main(["export", "--from", source.url, "--to", urls(target), "--json"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["resumed"]
    assert report["written"] < 1202
    assert report["source_revision"] == report["revision"] + 2
    assert "an earlier copy is gone on with" in said.err
    assert everything(target[0]) == before


def test_if_the_source_has_compacted_meanwhile_it_is_copied_anew_and_what_is_gone_is_deleted(
    pair: tuple[Etcd, list[Etcd]], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = pair
    fill(source)
    half_a_copy(source, target, 5)
    assert MARK in everything(target[0])
    source.ask("lease/revoke", {"ID": 77})
    put(source, b"key/00001\xff", b"later")
    source.ask("kv/deleterange", {"key": b64(b"key/00002\xff")})
    revision = source.ask("kv/range", {"key": b64(b"a")})[1]["header"]["revision"]
    assert source.ask("kv/compaction", {"revision": revision})[0] == 200
    assert main(["export", "--from", source.url, "--to", urls(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deleted"] == 1
    assert everything(target[0]) == everything(source)
    assert target[0].ask("lease/leases", {})[1]["leases"] == [{"ID": "4660"}]


def test_a_copy_is_refused_where_it_would_do_harm(
    pair: tuple[Etcd, list[Etcd]], tmp_path: Path, build: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = pair
    put(source, b"a", b"1")
    assert main(["export", "--from", source.url, "--to", source.url]) == 2
    half_a_copy(source, target, 1)
    with running_etcd(tmp_path, build) as other:
        assert main(["export", "--from", other.url, "--to", urls(target)]) == 2
    assert main(["export", "--from", source.url, "--to", "https://127.0.0.1:1"]) == 2
    same, another, url = capsys.readouterr().err.splitlines()[-3:]
    assert same == "metcd: source and target are the same cluster: nothing was done"
    assert "is being filled from another cluster" in another
    assert "--to: a node's URL is http://host:port" in url


# ---- the front ------------------------------------------------------------------------------------------------------


def test_a_client_of_ours_notices_no_difference(pair: tuple[Etcd, list[Etcd]]) -> None:
    _, etcds = pair
    with front_over(all_of(etcds)) as url, Client([url]) as client:
        client.put(b"hello", b"world")
        assert client.get(b"hello") == b"world"
        assert client.get(b"hello", consistency="stale") in (b"world", None)
        assert client.get(b"nothing") is None
        client.batch([(b"k%04d" % at, b"%d" % at) for at in range(120)])
        client.batch([(b"k0000", b"first"), (b"k0001", None), (b"k0000", b"last")])
        assert client.get(b"k0000") == b"last"
        client.delete(b"hello")
        keys = [key for key, _ in client.scan()]
        assert keys == [b"k%04d" % at for at in range(120) if at != 1]
        assert [key for key, _ in client.scan(prefix=b"k", reverse=True)] == keys[::-1]
        assert [key for key, _ in client.scan(start=b"k0100", stop=b"k0110", limit=3)] == keys[99:102]
    assert everything(etcds[0])[b"k0000"] == (b"last", 0)


def test_a_scan_of_many_pages_sees_one_revision(pair: tuple[Etcd, list[Etcd]]) -> None:
    _, etcds = pair
    with front_over(all_of(etcds)) as url, Client([url]) as client:
        for part in range(12):
            client.batch([(b"k%05d" % (part * 100 + at), b"v") for at in range(100)])
        pairs = client.scan()
        first = next(pairs)
        assert first == (b"k00000", b"v")
        assert 1 + len(list(pairs)) == 1200
        assert [key for key, _ in client.scan(reverse=True)] == [b"k%05d" % at for at in reversed(range(1200))]


def test_a_request_of_a_session_is_carried_out_once_by_whichever_front(pair: tuple[Etcd, list[Etcd]]) -> None:
    _, etcds = pair
    with front_over(all_of(etcds)) as one, front_over(all_of(etcds)) as other:
        session = json.loads(asked(one, "POST", "/_/sessions")[2])["session"]
        status, index, _ = asked(one, "PUT", "/a", b"1", X_Metcd_Request=f"{session}/1")
        assert status == 204
        assert asked(one, "PUT", "/a", b"other")[0] == 204
        assert asked(other, "PUT", "/a", b"1", X_Metcd_Request=f"{session}/1")[:2] == (204, index)
        assert asked(other, "GET", "/a")[2] == b"other"
        assert asked(other, "DELETE", "/a", X_Metcd_Request=f"{session}/2")[0] == 204
        assert asked(one, "PUT", "/a", b"1", X_Metcd_Request=f"{session}/1")[0] == 409
        etcds[0].ask("lease/revoke", {"ID": session})
        assert asked(one, "PUT", "/a", b"1", X_Metcd_Request=f"{session}/3")[0] == 410
        assert asked(one, "GET", "/a")[0] == 404


def test_what_etcd_refuses_and_what_only_a_node_has_is_said(pair: tuple[Etcd, list[Etcd]]) -> None:
    _, etcds = pair
    with front_over(all_of(etcds)) as url:
        many = b"".join(b'{"op":"put","key":"%b","value":""}\n' % b64(b"k%d" % at).encode() for at in range(129))
        status, _, body = asked(url, "POST", "/_/batch", many)
        assert (status, json.loads(body)["error"]) == (
            413,
            "etcd refuses it: etcdserver: too many operations in txn request",
        )
        for path in ("/_/members", "/_/snapshot", "/_/feed", "/_/describe", "/_/explain?key=a"):
            assert asked(url, "GET", path)[0] == 501, path
        for path in ("/_/digest", "/v3/kv/range", "/v3/auth/status"):
            assert asked(url, "POST", path, b'{"key":"Zm9v"}')[0] == 501, path
        assert asked(url, "GET", "/_/health")[0] == 200
        told = json.loads(asked(url, "GET", "/_/status")[2])
        assert [etcd["leads"] for etcd in told["etcd"]].count(True) == 1
        assert b"front_sent_total" in asked(url, "GET", "/_/metrics")[2]
        assert main(["status", "--endpoints", url]) == 0


def test_another_member_is_asked_when_one_dies_and_without_a_majority_nothing_is_claimed(
    tmp_path: Path, build: str
) -> None:
    """503: nothing was done. 504: unknown. A stale read is answered by whoever is left."""
    with running_etcds(tmp_path, 3, build) as etcds, front_over(all_of(etcds)) as url:
        assert asked(url, "PUT", "/a", b"1")[0] == 204
        etcds[0].process.send_signal(signal.SIGSTOP)
        assert eventually("a read is answered by another member", lambda: asked(url, "GET", "/a")[2] == b"1")
        assert eventually("so is a write", lambda: asked(url, "PUT", "/a", b"2")[0] == 204)
        etcds[0].process.send_signal(signal.SIGCONT)
        etcds[1].process.kill()
        assert eventually("a write finds two of three", lambda: asked(url, "PUT", "/a", b"3")[0] == 204)
        etcds[2].process.kill()
        assert eventually("a write ends as unknown", lambda: asked(url, "PUT", "/a", b"4")[0] == 504)
        assert asked(url, "GET", "/a")[0] == 503
        assert asked(url, "GET", "/_/health")[0] == 503
        assert asked(url, "GET", "/a?consistency=stale") == (200, "", b"3")
        etcds[0].process.kill()
        assert eventually("nobody is there", lambda: asked(url, "PUT", "/a", b"5")[0] == 503)


def test_where_authentication_is_on_a_user_is_needed_and_enough(
    tmp_path: Path, build: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_etcd(tmp_path / "source", build) as source, running_etcd(tmp_path / "target", build) as target:
        put(source, b"a", b"1")
        for path, body in (("user/add", {"name": "root", "password": "secret"}), ("role/add", {"name": "root"})):
            target.ask(f"auth/{path}", body)
        target.ask("auth/user/grant", {"user": "root", "role": "root"})
        assert target.ask("auth/enable", {})[0] == 200
        words = ["export", "--from", source.url, "--to", target.url]
        assert main(words) == 2
        assert main([*words, "--to-user", "root:wrong"]) == 2
        nobody, wrong = capsys.readouterr().err.splitlines()
        assert "user name is empty" in nobody
        assert "authentication failed" in wrong
        assert main([*words, "--from-user", "root:any", "--to-user", "root:secret"]) == 0
        with EtcdClient([target.url], user="root:secret") as client:
            found = client.ask("kv/range", rpc.RangeRequest(key=b"a"), rpc.RangeResponse)
            assert found.kvs[0].value == b"1"
