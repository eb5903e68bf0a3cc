"""engines/lsm/gaps.py: a table has no rows at both ends of a range of which it has nothing else."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.lsm.gaps import Gaps
from engines.lsm.store import LsmStore
from engines.simenv import SimEnv
from tests.lsm.test_lsm_fast import SMALL, FastStore, PlainStore

KEYS = st.lists(st.integers(0, 60), unique=True, max_size=20).map(
    lambda numbers: [b"%02d" % at for at in sorted(numbers)]
)
FILES = KEYS.map(lambda lasts: [(last, 10 * (last[-1] & 3)) for last in lasts])


def test_a_gap_has_a_whole_file_in_it():
    """One that begins before the gap, or ends after it, isn't whole; nor is one that ends at the next key."""
    for wanted, lasts in (
        (False, "a c"),
        (True, "a c d"),
        (False, "c e"),
        (True, "c d e"),
        (False, "a c e"),
        (False, ""),
    ):
        gaps = Gaps([(last.encode(), 7) for last in lasts.split()], 7)
        assert gaps.between(b"b", b"e") is wanted, lasts
    assert not Gaps([(b"c", 7), (b"d", 6)], 7).between(b"b", b"e"), "too small"
    assert Gaps([(b"c", 7), (b"cc", 3), (b"d", 4)], 7).between(b"b", b"e"), "small ones together"


@given(KEYS, FILES, st.integers(0, 3), st.integers(0, 60))
def test_gaps_among_many_keys_are_those_between_each_two(keys, files, most, least):
    one, many = Gaps(files, least, most), Gaps(files, least, most)
    if keys:
        wanted = [at for at in range(1, len(keys)) if one.between(keys[at - 1], keys[at])]
        middle = 1 + len(keys) // 2
        found = many.among(keys[0], keys[:middle])
        if keys[middle:]:
            found += [middle + at for at in many.among(keys[middle - 1], keys[middle:])]
        assert found == wanted


def history(store: LsmStore, rng: random.Random) -> None:
    """A history that loses its old end while the new one grows, and a few keys after it that are written all the time."""
    for number in range(3_000):
        store.put(b"h%06d" % number, b"v" * 20)
        store.put(b"k%d" % rng.randrange(5), b"%d" % number)
        if number >= 1_500:
            store.delete(b"h%06d" % (number - 1_500))


@pytest.mark.parametrize("options", [{}, {"level0_files": 2, "level0_slowdown_files": 2}])
def test_a_historys_deletions_are_tables_of_their_own_in_both_forms(
    options: dict[str, Any], rng: random.Random
) -> None:
    seed = rng.random()
    envs = SimEnv(0), SimEnv(0)
    for kind, env in zip((PlainStore, FastStore), envs):
        with kind("/db", env=env, **SMALL, **options) as store:
            history(store, random.Random(seed))
            store.flush()
            tables = [store.core.tables.get(file) for _, file in store.core.versions.current.files()]
            for table in tables:
                kinds = {(row.key[:1], row.is_deletion) for row in table.rows()}
                assert (b"h", True) not in kinds or (b"k", False) not in kinds
            assert [key for key, _ in store.scan(prefix=b"h")] == [b"h%06d" % number for number in range(1_500, 3_000)]
            assert store.check() == []
    assert envs[0].files() == envs[1].files()


def test_what_lies_between_both_ends_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    for _ in range(2):
        with FastStore("/db", env=SimEnv(0), **SMALL) as store:
            history(store, random.Random(1))
            written.append(store.stats().bytes_written)
        monkeypatch.setattr(Gaps, "among", lambda *_: [])
    assert written[0] < 0.8 * written[1], written
