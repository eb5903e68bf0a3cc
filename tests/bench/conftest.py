"""Benchmarks run on every engine of the registry, or on those given with `--engine`; with the engines' own options."""

from __future__ import annotations

import dataclasses

import pytest

from tests.conformance.engine_table import engine_table


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        table = engine_table(metafunc.config.getoption("--engine"))
        real = [dataclasses.replace(engine, options={}) for engine in table]
        metafunc.parametrize("engine", real, ids=str, scope="session")
