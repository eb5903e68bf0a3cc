"""Page sizes of other programs: bbolt takes whatever it is told, 512 bytes or no power of two (Options.PageSize).

The smallest a meta fits into are 80 bytes. Ours are powers of two from 1,024; these files are made with `create`, and
tests/interop has them made by the real bbolt.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from engines.btree import BTreeStore, check_file
from engines.btree.meta import Meta
from engines.btree.recovery import create
from engines.env import Env, real_env
from engines.kvstore import KVStore
from engines.simdisk import Policy
from engines.simenv import SimEnv
from tests.crash.btree_subject import BTreeSubject
from tests.crash.machine import ROOT, power_cut

SIZES = [80, 100, 128, 255, 256, 512, 600, 639, 640, 1000, 1536, 5000, 100_000]


def make(env: Env, path: str, page_bytes: int) -> None:
    lock = create(env, path, page_bytes)
    assert lock is not None
    lock.close()


@pytest.mark.parametrize("page_bytes", SIZES)
def test_any_page_size_is_read_and_written(tmp_path: Path, rng: random.Random, page_bytes: int) -> None:
    """Writes synced and not, batches, loads and compactions; after each opening, all is there and well."""
    path = str(tmp_path / "db")
    make(real_env(), path, page_bytes)
    content: dict[bytes, bytes] = {}
    for _ in range(3):
        with BTreeStore(path, sync=False) as store:
            assert dict(store.scan()) == content
            for number in range(150):
                key = b"%d" % rng.randrange(90) * rng.choice((1, 1, 9))
                content[key] = b"v" * rng.choice((0, 5, 60, 700))
                store.put(key, content[key], sync=number % 40 == 7)
                if number % 5 == 0:
                    content.pop(gone := min(content))
                    store.delete(gone)
            assert store.check() == []
            store.compact()
            assert dict(store.scan()) == content and store.describe()["page_size"] == page_bytes
            store.load(sorted(content.items()))
        assert check_file(real_env(), path) == []


@pytest.mark.parametrize("page_bytes", SIZES)
def test_unsynced_writes_survive_a_kill_whatever_the_page_size(page_bytes: int) -> None:
    """The spare place of a provisional meta lies within its page; where there is no room for one, each commit is synced."""
    env = SimEnv(0)
    make(env, ROOT, page_bytes)
    store = BTreeStore(ROOT, env=env, sync=False)
    before = store.stats().fsyncs
    for number in range(40):
        store.put(b"%d" % number, b"v" * number)
    assert (store.stats().fsyncs > before) is (page_bytes < 256)
    again = BTreeStore(ROOT, env=env.crash(Policy.EVERYTHING, random.Random(0)))
    assert dict(again.scan()) == {b"%d" % number: b"v" * number for number in range(40)}
    assert again.check() == []


@pytest.mark.parametrize("page_bytes", [512, 1000, 3000])
def test_meta_1_is_found_where_a_damaged_meta_0_says(tmp_path: Path, page_bytes: int) -> None:
    """bbolt looks at powers of two from 1,024 only; a meta 0 with a wrong checksum may still tell the page size."""
    path = tmp_path / "db"
    make(real_env(), str(path), page_bytes)
    with BTreeStore(str(path)) as store:
        store.put(b"a", b"1")
    content = bytearray(path.read_bytes())
    content[64] ^= 1  # its txid
    path.write_bytes(content)
    with BTreeStore(str(path), read_only=True) as store:
        assert store.get(b"a") == b"1"
        assert [problem[:12] for problem in store.check()] == ["meta page 0:"]
    assert isinstance(Meta.decode(bytes(content[page_bytes:])), Meta)


class SmallPages(BTreeSubject):
    """The engine's subject in a file of a foreign page size."""

    def __init__(self, page_bytes: int) -> None:
        super().__init__()
        self._foreign_bytes = page_bytes

    def open(self, env: Env) -> KVStore:
        if not env.exists(ROOT):
            make(env, ROOT, self._foreign_bytes)
        return super().open(env)


@pytest.mark.parametrize("page_bytes", [100, 512, 1000])
def test_power_cuts_with_any_page_size(seed: int, page_bytes: int) -> None:
    """Pages that share a sector, metas that lie across two: a prefix of history with every synced write in it."""
    power_cut(SmallPages(page_bytes), seed, images=150).require_no_failure()
