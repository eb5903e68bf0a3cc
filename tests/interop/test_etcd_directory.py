"""A data directory of the real etcd: `metcd check`, `dump`, `which` and `repair` know it for what it is, and leave it alone.

    apt-get install etcd-server etcd-client

Its wal/ and snap/ look like a node's of ours, down to the names of the files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from engines.btree import BTreeStore
from server import inspect
from server.store_check import NotRecognised
from server.wal_segment import SegmentName
from tests.conformance.reading import picture
from tests.server.local_nodes import eventually, free_ports

KEYS = 200


@pytest.fixture(scope="module")
def etcds_directory(tmp_path_factory) -> Path:
    """A directory that etcd has served writes from, and closed."""
    for program in ("etcd", "etcdctl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} isn't installed: apt-get install etcd-server etcd-client")
    directory = tmp_path_factory.mktemp("etcd")
    client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    words = ["--data-dir", str(directory / "data"), "--listen-client-urls", client, "--advertise-client-urls", client]
    words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(["etcd", *words, "--snapshot-count", "50"], stdout=log, stderr=log)
    environment = {**os.environ, "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": client}

    def etcdctl(*words: str) -> bool:
        return subprocess.run(["etcdctl", *words], env=environment, capture_output=True, timeout=60).returncode == 0

    try:
        eventually("it answers", lambda: etcdctl("endpoint", "health"))
        for number in range(KEYS):
            assert etcdctl("put", f"key{number}", "value" * 20)
        assert etcdctl("snapshot", "save", str(directory / "saved.db"))
    finally:
        process.terminate()
        process.wait(60)
    return directory


def test_the_scene_took_place(etcds_directory):
    """A log with names as ours have, a snapshot of its Raft, a database."""
    member = etcds_directory / "data/member"
    assert any(SegmentName.parse(name) for name in os.listdir(member / "wal"))
    assert any(name.endswith(".snap") for name in os.listdir(member / "snap"))
    assert (member / "snap/db").stat().st_size


@pytest.mark.parametrize("part", [".", "member", "member/wal", "member/snap"])
def test_etcds_directory_is_told_and_left_alone(etcds_directory, part):
    """It was taken for a node of ours: a false violation, and an engine directory made in it."""
    data = etcds_directory / "data"
    before = picture(etcds_directory)
    for look in (inspect.check, inspect.what_is, inspect.repair, lambda path: list(inspect.dump(path))):
        with pytest.raises(NotRecognised, match=f"metcd check {data}/member/snap/db --engine btree"):
            look(data / part)
    assert picture(etcds_directory) == before


def test_etcds_databases_are_sound_for_us(etcds_directory):
    """The member's, and a saved snapshot: the command that the sentence names works, and so does reading a bucket."""
    before = picture(etcds_directory)
    for database in ("data/member/snap/db", "saved.db"):
        path = etcds_directory / database
        assert inspect.check(path, "btree") == []
        assert sum(1 for _ in inspect.dump(path, "btree")) > 10
        with BTreeStore(path, bucket=b"key", read_only=True) as store:
            assert sum(1 for _ in store.scan()) >= KEYS
    assert picture(etcds_directory) == before
