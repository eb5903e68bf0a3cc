"""The chapters' kit finds what is wrong in a store, shows it in few lines, and finds nothing in one that is right."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from engines.bitcask import BitcaskStore
from engines.memory import MemoryStore
from engines.simenv import SimEnv
from tests.chapters.kit import History, model_run, power_cuts, rounds, store_subject
from tests.crash.subjects import TOY

pytest_plugins = ["pytester"]


class ForgetsTheStart(MemoryStore):
    """A scan in reverse order leaves out the first key."""

    def scan(self, start: bytes = b"", stop: bytes | None = None, **how: Any) -> Iterator[tuple[bytes, bytes]]:
        pairs = list(super().scan(start, stop, **how))
        return iter(pairs[:-1] if how.get("reverse") and len(pairs) > 1 else pairs)


def test_a_round_is_an_eighth_outside_of_a_learners_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METCD_LEARN", "0")
    assert (rounds(40), rounds(4)) == (5, 1)
    monkeypatch.setenv("METCD_LEARN", "1")
    assert (rounds(40), rounds(4)) == (40, 4)


@pytest.mark.parametrize("engine", [MemoryStore, BitcaskStore])
def test_a_model_run_agrees_with_a_right_store(engine: Any, rng: random.Random, history: History) -> None:
    persistent = engine.persistent
    model_run(lambda env: engine("/db", env=env), rng, history, steps=150, persistent=persistent)
    assert len(history.lines) > 100


def test_a_model_run_shortens_what_fails(rng: random.Random, history: History) -> None:
    """Two keys and a scan: all that is needed to see it."""
    with pytest.raises(AssertionError, match="shortest history"):
        model_run(lambda env: ForgetsTheStart("/db", env=env), rng, history, persistent=False)
    assert len([line for line in history.lines if "put" in line or "batch" in line]) <= 2
    assert "expected" in history.lines[-2] and "found" in history.lines[-1]


def test_power_cuts_find_nothing_in_a_right_store(seed: int, history: History) -> None:
    report = power_cuts(store_subject(TOY, steps=10), seed, history)
    assert report.images >= 20 * report.calls > 200


def test_power_cuts_find_a_missing_sync_and_tell_where(seed: int, history: History) -> None:
    """Probes are left out, because they already find it where nothing was written."""
    subject = store_subject(TOY, steps=20, durable_share=1.0)
    with pytest.raises(AssertionError, match=r"cut after +call"):
        power_cuts(subject, seed, history, skip_sites={"toy.append"}, probe_share=0.0)
    text = str(history)
    assert text.count("the power is cut here") == 1 and "may not be lost" in text
    assert history.lines[-1].strip().startswith("found: ")


def test_what_is_watched_is_written_down(history: History) -> None:
    env = history.watch_disk(SimEnv(0))
    with history.watch(BitcaskStore("/db", env=env), "store") as store:
        store.put(b"a", b"1" * 100)
        assert b"a" in store
    text = str(history)
    assert "store.put(b'a', b'111111111111'...100 bytes)" in text and "b'a' in store" in text
    assert "disk call" in text and "bitcask.append" in text


def test_a_failing_test_has_its_history_in_the_report(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.chapters.conftest import *")
    pytester.makepyfile("def test_x(history):\n    history.expect('1 + 1', 3, 2)")
    result = pytester.runpytest_inprocess("-p", "no:benchmark", "-p", "no:xdist")
    result.stdout.fnmatch_lines(["*trace*", "*1 + 1", "*expected*3", "*found*2"])
