"""Real etcd, the plain-Python model of its keys, and our own: the same random requests, the same answers.

    apt-get install etcd-server

The model is what `make test` holds our code to, and what judges the transactions of the fault runs; so this is where it is
judged itself.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.cluster.txn_load import TxnLoad
from tests.gateway.kv_model import Model, without_names
from tests.gateway.kv_requests import LEASES, draw
from tests.interop.etcd_member import running_etcd
from tests.server.local_nodes import eventually

REQUESTS = 500
TTL_S = 3600


@pytest.mark.parametrize("number", range(6))
def test_random_requests_are_answered_alike(number: int, seed: int, tmp_path: Path) -> None:
    rng = random.Random(f"{seed} {number}")
    model = Model(LEASES)
    statuses = set()
    with running_etcd(tmp_path) as etcd:
        for lease in LEASES:
            assert etcd.ask("lease/grant", {"TTL": TTL_S, "ID": lease})[0] == 200
        for at in range(REQUESTS):
            path, body = draw(rng, model.revision)
            status, answer = etcd.ask(path, body)
            assert (status, without_names(answer)) == model.ask(path, body), f"request {at} of {number}: {path} {body}"
            statuses.add(status)
    assert {200, 400} <= statuses


def test_the_judge_of_transactions_passes_what_etcd_does(seed: int, tmp_path: Path) -> None:
    with running_etcd(tmp_path) as etcd:
        urls = dict.fromkeys((1, 2, 3), etcd.url)
        load = TxnLoad(urls, seed, time.monotonic())
        load.start()
        try:
            eventually("some work is done", lambda: load.failures or len(load.history) > 1000)
        finally:
            load.stop()
        assert load.failures == []
        assert load.judge(urls) == ""
        assert sum(op.writes for op in load.history) > 100
