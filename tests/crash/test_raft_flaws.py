"""One line of the log or of the snapshots is made wrong, and the power-cut run or the damage run must notice.

A forgotten sync is not here: `test_subjects.py` leaves out every site.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

import server.snapshot
import server.wal
import server.wal_replay
from raft.raftpb import HardState, SnapshotMetadata
from server.wal import Wal
from server.wal_replay import History, _SegmentReader
from server.wal_segment import Head, prefix
from tests.crash.damage import flip_every_byte
from tests.crash.machine import Subject, power_cut
from tests.crash.raft_subjects import SnapshotSubject, WalSubject

Patch = pytest.MonkeyPatch
Flaw = Callable[[Patch], None]

encode_head = Head.encode
cut = Wal._cut


def nobody_testifies(patch: Patch) -> None:
    """Every damage passes for a torn tail."""
    patch.setattr(_SegmentReader, "_testimony", lambda self, offset, payload: 0)


def everybody_testifies(patch: Patch) -> None:
    """A hole in an unsynced window passes for damage."""
    patch.setattr(_SegmentReader, "_testimony", lambda self, offset, payload: offset)


def every_record_claims_a_sync(patch: Patch) -> None:
    patch.setattr(server.wal, "prefix", lambda kind, salt, offset, synced: prefix(kind, salt, offset, offset))


def release_without_a_mark(patch: Patch) -> None:
    release = Wal.release

    def without(self: Wal, index: int) -> None:
        marked, self._history.snapshot = self._history.snapshot, SnapshotMetadata(index)
        try:
            release(self, index)
        finally:
            self._history.snapshot = marked

    patch.setattr(Wal, "release", without)


def every_mark_keeps_what_follows(patch: Patch) -> None:
    """A snapshot of a leader leaves entries that conflict with it."""
    patch.setattr(History, "restore", History.mark)
    patch.setattr(server.wal, "RESTORE", server.wal.SNAPSHOT)


def a_segment_is_left_unsynced(patch: Patch) -> None:
    def unsynced(self: Wal) -> None:
        self._synced = self._end
        cut(self)

    patch.setattr(Wal, "_cut", unsynced)


def heads_forget_the_hard_state(patch: Patch) -> None:
    patch.setattr(Head, "encode", lambda self: encode_head(replace(self, hard_state=HardState())))


def heads_forget_the_mark(patch: Patch) -> None:
    patch.setattr(Head, "encode", lambda self: encode_head(replace(self, snapshot=SnapshotMetadata())))


def sync_does_nothing(patch: Patch) -> None:
    patch.setattr(Wal, "sync", Wal._check_usable)


def nothing_is_checked_at_the_end(patch: Patch) -> None:
    """Lost segments and a lost commit go unnoticed."""
    patch.setattr(server.wal_replay, "_check_whole", lambda path, recovery: None)


def a_snapshot_is_written_in_place(patch: Patch) -> None:
    """Under its name from the start."""

    class Renamed:
        def __init__(self, env: object) -> None:
            self.env = env

        def __getattr__(self, name: str) -> object:
            return getattr(self.env, name)

        def open(self, path: str, mode: str) -> object:
            return self.env.open(path.removesuffix(".tmp"), mode)  # type: ignore[attr-defined]

        def rename(self, old: str, new: str) -> None:
            pass

        def unlink(self, path: str) -> None:
            self.env.unlink(path.removesuffix(".tmp"))  # type: ignore[attr-defined]

    write = server.snapshot.write_snapshot
    patch.setattr(
        "tests.crash.raft_subjects.write_snapshot",
        lambda directory, metadata, pairs, env: write(directory, metadata, pairs, Renamed(env)),  # type: ignore[arg-type]
    )


FLAWS: dict[Flaw, type[Subject]] = {
    nobody_testifies: WalSubject,
    everybody_testifies: WalSubject,
    every_record_claims_a_sync: WalSubject,
    release_without_a_mark: WalSubject,
    every_mark_keeps_what_follows: WalSubject,
    a_segment_is_left_unsynced: WalSubject,
    heads_forget_the_hard_state: WalSubject,
    heads_forget_the_mark: WalSubject,
    sync_does_nothing: WalSubject,
    nothing_is_checked_at_the_end: WalSubject,
    a_snapshot_is_written_in_place: SnapshotSubject,
}


def noticed(subject: Subject, seed: int) -> bool:
    report = power_cut(subject, seed, stop_at_first=True)
    return bool(report.failed or flip_every_byte(subject, seed, attempts=2000).failed)


@pytest.mark.slow
@pytest.mark.parametrize("flaw", FLAWS, ids=lambda flaw: flaw.__name__)
def test_a_flaw_is_noticed(flaw: Flaw, seed: int, monkeypatch: Patch) -> None:
    subject = FLAWS[flaw]()
    flaw(monkeypatch)
    assert any(noticed(subject, seed + number) for number in range(4))
