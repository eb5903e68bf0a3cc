"""A store runs before all of its parts are written."""

from __future__ import annotations

import random

import pytest

from engines.bitcask.store import BitcaskStore
from engines.simenv import SimEnv
from tests.bitcask.half_built import HALF_BUILT
from tests.bitcask.riak_files import PATH


@pytest.mark.parametrize("kind", HALF_BUILT)
def test_a_store_works_without_a_part(kind: type[BitcaskStore], rng: random.Random) -> None:
    """Without hints, merges, or undo maps; every opening finds everything."""
    env = SimEnv()
    model: dict[bytes, bytes] = {}
    for _ in range(4):
        with kind(PATH, env=env, max_file_size=300) as store:
            assert dict(store.scan()) == model
            before, snapshot = dict(model), store.snapshot()
            for _ in range(60):
                key = b"key%d" % rng.randrange(20)
                if rng.random() < 0.3:
                    store.delete(key)
                    model.pop(key, None)
                else:
                    model[key] = rng.randbytes(20)
                    store.put(key, model[key])
            store.compact()
            assert dict(snapshot.scan()) == before
            assert list(store.scan(reverse=True)) == sorted(model.items(), reverse=True)
            assert store.check() == []
