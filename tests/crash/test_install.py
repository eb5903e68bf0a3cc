"""The power is cut after every call of a snapshot's installation: the old state is found, or the new one.

From each engine onto each other: the files of one index are the same bytes on all of them, so a run for each engine that
installs them, with the sources in turn, is a run for all pairs.
"""

from __future__ import annotations

from typing import Any

import pytest

from server.snapshot import read_snapshot
from tests.crash.install_subject import SOURCES, InstallSubject, snapshot_bytes
from tests.crash.machine import Step, power_cut, site_mutants

SECOND_CUTS = 0.002  # of the images: a recovery of an engine and a log makes a hundred calls, and each is cut again


@pytest.mark.parametrize("index", [1, 30, 61])
def test_the_file_of_an_index_is_the_same_on_every_engine(index: int) -> None:
    assert len({snapshot_bytes(engine, index) for engine in SOURCES}) == 1


@pytest.mark.parametrize("engine", SOURCES)
def test_some_power_cuts(engine: str, seed: int) -> None:
    power_cut(InstallSubject(engine, steps=14), seed, images=200, second_cut_share=0.0).require_no_failure()


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("engine", SOURCES)
def test_a_power_cut_after_every_call(engine: str, source: str, seed: int) -> None:
    """Each engine's snapshot on each engine; the figures are printed."""
    report = power_cut(InstallSubject(engine, steps=24, sources=(source,)), seed, second_cut_share=SECOND_CUTS)
    print(f"from {source}: {report}")
    report.require_no_failure()


@pytest.mark.slow
@pytest.mark.parametrize("site", ["server.snapshot.receive", "server.snapshot.receive_dir", "server.wal.mark"])
def test_each_sync_of_the_installation_is_missed(site: str) -> None:
    assert site_mutants(InstallSubject("btree"), {site})[site] is not None


class _WrongOrder(InstallSubject):
    """The steps of an installation in another order than NodeStorage's and ReadyLoop's."""

    def __init__(self, engine: str, order: str) -> None:
        super().__init__(engine, steps=6)
        self.order = order

    def apply(self, handle: Any, step: Step) -> None:
        if step.kind != "install":
            super().apply(handle, step)
            return
        index, source = step.arguments
        if self.order == "mark before file":
            handle.mark(index)
            handle.receive(index, source)
            handle.load()
        else:
            handle.receive(index, source)
            handle.machine.recover_from_snapshot(*read_snapshot(handle.path(index), handle.config.env))
            handle.mark(index)


@pytest.mark.parametrize("order", ["mark before file", "load before mark"])
def test_another_order_is_noticed(order: str, seed: int) -> None:
    report = power_cut(_WrongOrder("btree", order), seed, stop_at_first=True, probe_share=0.0, second_cut_share=0.0)
    assert report.failed
    assert "DirectoryRefused" in str(report.failures[0])
