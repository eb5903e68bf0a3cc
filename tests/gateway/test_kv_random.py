"""Random requests of the service KV: our code answers as the model does, which a real etcd is held to (tests/interop)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engines
from engines.memory import MemoryStore
from tests.gateway.kv_direct import Direct
from tests.gateway.kv_model import Model
from tests.gateway.kv_requests import LEASES, draw

REQUESTS = 250


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_a_short_sequence(rng: random.Random) -> None:
    """Hypothesis makes it smaller, should it fail."""
    _compare(Direct(MemoryStore(), LEASES), rng, 12)


@pytest.mark.parametrize("engine", ["lsm", "btree", "bitcask", "memory"])
def test_a_long_sequence(engine: str, seed: int, tmp_path: Path) -> None:
    with engines.open(tmp_path / "store", engine, sync=False) as store:
        statuses = _compare(Direct(store, LEASES), random.Random(f"{seed} {engine}"), REQUESTS)
    assert {200, 400} <= statuses


def _compare(direct: Direct, rng: random.Random, requests: int) -> set[int]:
    """The statuses that there were."""
    model = Model(LEASES)
    statuses = set()
    for at in range(requests):
        path, body = draw(rng, model.revision)
        told = direct.ask(path, body)
        assert told == model.ask(path, body), f"request {at}: {path} {body}"
        statuses.add(told[0])
    return statuses
