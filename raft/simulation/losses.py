"""Which disk may be lost so that the others can still go on: who decides after that, in every configuration in question.

The next leader is a node whose log no other one's is ahead of. It counts majorities of the configuration that it has in
force, and then of each one that is in its log. So in all of these, the nodes that have the disks which the book names must
be a majority without the node that loses its disk; and the same in the log of that node, whose last messages may still
arrive. What a crash would take back counts as taken back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raft.confchange import Changer, restore
from raft.quorum import VOTE_WON, JointConfig, MajorityConfig
from raft.raftpb import ENTRY_CONF_CHANGE, ENTRY_CONF_CHANGE_V2, ConfChange, ConfChangeV2, Entry
from raft.simulation.book import Book, BookApplication
from raft.simulation.disk import Disk
from raft.storage import MemoryStorage
from raft.tracker import ProgressTracker

__all__ = ["can_do_without"]

_Decides = tuple[JointConfig, Book]
_Log = tuple[int, int, list[_Decides]]  # term and index of the last entry, and who decides as far as it reaches


def can_do_without(peers: Mapping[int, Any], lost: int) -> bool:
    """Whether the nodes can go on if node `lost` loses its disk now. O(entries of all logs)."""
    newest = max((peer.book for peer in peers.values()), key=lambda book: book.version)
    whole = [peer for peer in peers.values() if peer.id != lost and newest.names(peer.id, peer.disk_number)]
    if not whole:
        return False
    durable = {peer.id: _durable(peer) for peer in whole}
    ahead = max(log[:2] for log in durable.values())
    able = False
    for peer in (*whole, peers[lost]):
        logs = [durable[peer.id] if peer.id in durable else _durable(peer), *_running(peer)]
        if peer.id != lost and max(log[:2] for log in logs) < ahead:
            continue
        decides = [each for log in logs for each in log[2]]
        if not all(_go_on(peers, lost, log[2]) for log in logs):
            return False
        able = able or (peer.id != lost and all(peer.id in voters for voters, _ in decides))
    return able


def _go_on(peers: Mapping[int, Any], lost: int, decides: list[_Decides]) -> bool:
    """Whether those that are left with the disks that the book names decide, in each of these configurations.

    Those that leave with the next one don't count: they may have the longest logs, and don't campaign. Those that are on
    their way back may count at any time, and their disks may be lost already.
    """
    for position, (voters, book) in enumerate(decides):
        after = decides[position + 1][0] if position + 1 < len(decides) else voters
        lost_again = {
            each for each, member in book.readmitted() if each == lost or member.disk != peers[each].disk_number
        }
        for incoming in (voters.incoming, MajorityConfig({*voters.incoming, *lost_again})):
            config = JointConfig(incoming, voters.outgoing)
            left = {
                each: each != lost and each in after.incoming and book.names(each, peers[each].disk_number)
                for each in config.ids()
            }
            if config.vote_result(left) != VOTE_WON:
                return False
    return True


def _durable(peer: Any) -> _Log:
    """After a crash now."""
    disk = Disk(peer.disk.conf_state)
    disk.records = peer.disk.records[: peer.disk.synced]
    storage = disk.replay()
    return _log_of(storage, _entries(storage), disk.hard_state().commit)


def _running(peer: Any) -> list[_Log]:
    """As it runs, with what isn't on disk yet; a snapshot that isn't there yet has no configuration of its own here."""
    if not peer.up:
        return []
    log = peer.node.raft.log
    if log.unstable.snapshot is not None:
        return [(log.last_term(), log.last_index(), [])]
    commit = min(log.applied, peer.application.index)
    return [_log_of(peer.storage, [*_entries(peer.storage, log.unstable.offset), *log.unstable.entries], commit)]


def _entries(storage: MemoryStorage, stop: int = 0) -> list[Entry]:
    first, stop = storage.first_index(), stop or storage.last_index() + 1
    return storage.entries(first, stop, 1 << 40) if first < stop else []


def _log_of(storage: MemoryStorage, entries: list[Entry], commit: int) -> _Log:
    metadata = storage.snapshot().metadata
    last = entries[-1] if entries else None
    end = (last.term, last.index) if last is not None else (metadata.term, metadata.index)
    return (*end, list(_decisive(storage, entries, commit)))


def _decisive(storage: MemoryStorage, entries: list[Entry], commit: int) -> Iterator[_Decides]:
    """The configuration in force at entry `commit`, and each one after it."""
    snapshot = storage.snapshot()
    tracker = ProgressTracker(1)
    tracker.config, tracker.progress = restore(tracker, storage.initial_state()[1], 1)
    application = BookApplication()
    if not snapshot.is_empty():
        application.install(snapshot.data)
    book, index = application.book, snapshot.metadata.index
    for entry in entries:
        if entry.index <= index or entry.type not in (ENTRY_CONF_CHANGE, ENTRY_CONF_CHANGE_V2):
            continue
        if entry.index > commit:
            yield tracker.voters, book
        kind = ConfChange if entry.type == ENTRY_CONF_CHANGE else ConfChangeV2
        change = kind.decode(entry.data).as_v2()
        changer = Changer(tracker, 1)
        auto_leave = change.enter_joint()
        if change.leave_joint():
            tracker.config, tracker.progress = changer.leave_joint()
        elif auto_leave is not None:
            tracker.config, tracker.progress = changer.enter_joint(auto_leave, change.changes)
        else:
            tracker.config, tracker.progress = changer.simple(change.changes)
        if change.context:
            book = book.at(entry.index, change)
    yield tracker.voters, book
