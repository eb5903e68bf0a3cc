"""The contract, eighth point: after an interrupt at any line of any call the store is usable, or has failed."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from tests.conformance.engine_table import Engine
from tests.conformance.interrupts import CALLS, interrupted_at, lines_of

SAMPLE = 8  # lines of each call: the whole takes minutes


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_at_a_line_leaves_a_store_that_goes_on_or_has_failed(
    engine: Engine, call: str, tmp_path: Path, rng: random.Random
) -> None:
    """No lock stays held, close returns, and the disk is as after a crash: what was acknowledged is there, and a batch
    is whole or absent. At some lines, by chance; the last one is the way out of the call."""
    last = lines_of(engine, call, str(tmp_path / "counted"), sync=False)
    for line in {*rng.sample(range(1, last + 1), min(last, SAMPLE)), last}:
        assert not interrupted_at(engine, call, line, str(tmp_path / f"store {line}"), sync=False)


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_at_every_line(engine: Engine, call: str, tmp_path: Path) -> None:
    """The same, at each line."""
    for line in itertools.count(1):
        wrong = interrupted_at(engine, call, line, str(tmp_path / f"store {line}"), sync=False)
        if wrong is None:
            break
        assert not wrong
