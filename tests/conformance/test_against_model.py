"""Each engine against the model, over histories that Hypothesis makes up (reference: tests/conformance/machine.py)."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.conformance.engine_table import Engine
from tests.conformance.machine import run_machine


def test_store_and_model_agree(engine: Engine) -> None:
    """The whole contract, in histories of up to 50 steps."""
    run_machine(engine, settings(settings.get_profile("fast"), max_examples=30, stateful_step_count=50))


@pytest.mark.slow
def test_store_and_model_agree_for_long(engine: Engine) -> None:
    """The same, in 2,000 histories of 60 steps."""
    run_machine(engine, settings(settings.get_profile("slow"), stateful_step_count=60))
