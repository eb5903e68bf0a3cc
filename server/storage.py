"""The durable side of a node: its write-ahead log, its snapshot files, and the copy in memory that Raft reads.

    data_dir/          server/directory.py says whether it is the one that the node has to have
      engine           the state machine's store, whatever the engine makes of that name
      wal/             entries, hard state, and marks where the log begins (server/wal.py)
      snap/            snapshot files (server/snapshot.py)

How a map in memory loses nothing: every entry is in the log, on this disk, before anybody is told that it is there. A
restart replays what follows the newest snapshot. An engine with files of its own remembers its applied index as well,
and replays only what follows that.

                 cut              applied by          last
                 (mark)           the engine          entry
    log   ────────┼─────────────────┼───────────────────┤
          gone    │  a persistent engine starts here    │
                  │  the memory engine starts at the newest snapshot file, which is at the cut or after it

Invariants:

1. The log is cut only after what survives without it: a persistent engine is flushed first; for the memory engine a
   snapshot file is synced first.
2. A snapshot from the leader is a whole, verified file before its mark is in the log, and its mark is in the log before
   the engine loads it (etcd#10219: file, mark, hard state). A crash in between leaves an engine that is older than the mark, and
   the file that takes it there.
3. A restart uses a file only if the log has its mark or its last entry: one whose mark the crash took may contradict
   the log, and the leader sends it again. It is put aside, and goes when the log's mark has passed it: nothing is
   deleted that the log doesn't lead past. The file of the newest mark is never purged.
4. Entries and hard state of one Ready are one write and one fsync; a snapshot's mark, which is rare, has its own before
   them. A commit index that changed alone is no reason to write: it rides with the next write, and the leader tells it
   again after a restart.
5. While a job flushes the engine or loads it (`engine_busy`), the node's thread applies nothing: a write would wait for
   the job's fsync, and heartbeats with it. There is one such job at a time.
6. The snapshot directory is bounded: SNAPSHOTS_KEPT files and that of the mark, one part of one that comes, one file that
   is being written, what was put aside until the mark passes it; damaged ones, which somebody should look at, stay.

Follows etcd's server/storage/storage.go and raftexample's replayWAL, saveSnap and maybeTriggerSnapshot.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from engines.errors import CorruptionError
from engines.kvstore import Pair
from raft import NO_LIMIT, MemoryStorage, Ready
from raft.raftpb import ConfState, Entry, HardState, Message, Snapshot, SnapshotMetadata
from server.directory import Directory
from server.errors import WAY_OUT, DirectoryRefused, NodeStopped
from server.logs import logger
from server.metrics import Histogram
from server.pace import Pace
from server.snapshot import (
    find_snapshots,
    purge,
    put_aside,
    read_snapshot,
    remove_leftovers,
    write_snapshot,
)
from server.snapshot_incoming import IncomingSnapshots
from server.snapshot_outgoing import HELD, OutgoingSnapshot
from server.snapshot_wire import Announced
from server.statemachine import MachineSnapshot, StateMachine

__all__ = ["CutLimits", "NodeStorage", "RunJob"]

SNAPSHOTS_KEPT = 2

Later = Callable[[Callable[[], object]], None]  # has a function called in the node's thread
RunJob = Callable[[Callable[[], None]], None]


class CutLimits(Protocol):
    """The part of a NodeConfig that says when the log is cut, and how much of it stays."""

    @property
    def snapshot_entries(self) -> int: ...
    @property
    def snapshot_bytes(self) -> int: ...
    @property
    def catch_up_entries(self) -> int: ...


class NodeStorage:
    """What a node has on disk. For the node's thread, but for `receive_snapshot`; its jobs run in threads of their own."""

    def __init__(self, directory: Directory, machine: StateMachine, run_job: RunJob | None = None) -> None:
        """Takes over an open directory, and brings the state machine to where the log's entries follow on.

        run_job: has a job done that takes its time, and whose end is told to the node's thread; by default in a thread.

        Raises CorruptionError, and DirectoryRefused for an engine or a snapshot that doesn't belong to the log; the
        directory stays the caller's then.
        """
        self._directory = directory
        self._machine = machine
        self._env = env = directory.env
        self._snap_dir = f"{directory.path}/snap"
        env.makedirs(self._snap_dir, "server.node.mkdir")
        self._wal, state = directory.wal, directory.state
        if state.repaired is not None:
            logger().warning("%s", state.repaired)
        self.memory = MemoryStorage()
        self.engine_busy = False  # a job has the engine: nothing can be applied
        self.resume: Callable[[], object] = lambda: None  # called in the node's thread when it can be, after a flush
        self.installing = False
        self._after_flush: Callable[[], object] | None = None  # an install that waits until a flush is done
        self._stopping = threading.Event()
        self._run_job = run_job or self._run_in_thread
        self._cutting = False
        self._uncut_entries = 0
        self._uncut_bytes = 0
        self._unsaved: HardState | None = None  # a commit index that rides with the next write
        self._jobs: set[threading.Thread] = set()
        self._writing = threading.Lock()  # one snapshot file of our own is written at a time
        self._incoming = IncomingSnapshots(self._snap_dir, env)  # and one is received, which may take longer
        self._outgoing: OutgoingSnapshot | None = None  # the newest file of our own, for followers
        self._handed_out = 0  # the index of the newest that a follower was given
        self._purging = threading.Lock()
        remove_leftovers(self._snap_dir, env)
        self._recover_machine(state.snapshot, state.entries)
        self._recovered = state

    def _recover_machine(self, mark: SnapshotMetadata, entries: list[Entry]) -> None:
        """Loads the newest snapshot file that the log leads to, if the engine's applied index is before the log's beginning."""
        last = entries[-1].index if entries else mark.index
        machine = self._machine
        if machine.applied_index > last:
            raise DirectoryRefused(
                f"{self._wal.path}: the engine has applied entry {machine.applied_index}, but the log ends at {last}: "
                f"one of the two was lost or replaced; {WAY_OUT}"
            )
        terms = {mark.index: mark.term} | {entry.index: entry.term for entry in entries}
        if terms.get(machine.applied_index, machine.applied_term) != machine.applied_term and machine.applied_index:
            raise DirectoryRefused(
                f"{self._wal.path}: entry {machine.applied_index}, the last that the engine has applied, is of term "
                f"{terms[machine.applied_index]} in the log and of {machine.applied_term} in the engine: the two are of "
                f"different nodes or times; {WAY_OUT}"
            )
        if machine.persistent and machine.applied_index >= mark.index:
            return
        for found in find_snapshots(self._snap_dir, self._env):  # the newest first
            index, term = found.metadata.index, found.metadata.term
            if index >= mark.index and terms.get(index) != term:
                # It came from the leader, and the crash came before its mark. It doesn't continue this log, so the
                # leader has to send it again; until then it must not take one of the places of those that are kept.
                put_aside(found.path, self._env)
            elif index >= mark.index and index > machine.applied_index:
                metadata, pairs = read_snapshot(found.path, self._env)
                machine.recover_from_snapshot(metadata, pairs)
                return
        if machine.applied_index < mark.index:
            raise DirectoryRefused(
                f"{self._snap_dir}: the log begins after entry {mark.index}, the engine is at {machine.applied_index}, "
                f"and there is no whole snapshot between the two; {WAY_OUT}"
            )

    def recovered(self, conf_state: ConfState) -> MemoryStorage:
        """The storage as Raft finds it at its start; `conf_state` is who takes part at the applied index.

        It is a new MemoryStorage, and from now on `memory`: it begins at the newest mark of the log (`_recovered.snapshot`,
        with this conf_state; index 0 is no mark), has the entries that the log has after it, and its hard state, of which
        the commit index is at least the mark's, and at least what the engine has applied: that was committed, even if the
        commit index that said so was not written yet. The directory was opened, and the engine brought to where the
        entries follow on; __init__ guarantees it. O(entries).
        """
        state = self._recovered
        if state.snapshot.index:
            self.memory.apply_snapshot(Snapshot(replace(state.snapshot, conf_state=conf_state)))
        else:
            self.memory = MemoryStorage(conf_state)
        self.memory.append(state.entries)
        commit = max(state.hard_state.commit, self._machine.applied_index, state.snapshot.index)
        self.memory.set_hard_state(state.hard_state._replace(commit=commit))
        return self.memory

    def persist(self, ready: Ready) -> None:
        """Brings a Ready to the disk, and then into `memory`, which Raft reads.

        A snapshot's mark comes first (`Wal.save_snapshot`, which syncs); its file is on disk already, because
        `receive_snapshot` had it written before Raft heard of it. Then hard state and entries are one `Wal.save`, synced if
        ready.must_sync. A hard state alone that needn't be synced, a commit index that moved, is not written: it is kept
        in `_unsaved`, and the next save has it, unless that has a newer one. After what was written,
        `Directory.note_segment`. Only then does `memory` get the snapshot, the hard state and the entries, in this order.
        Raises OSError, StoreFailed; nothing of the Ready may be promised to anybody then. One write and one sync.
        """
        hard_state = ready.hard_state or self._unsaved
        if ready.snapshot is not None:
            self._wal.save_snapshot(ready.snapshot.metadata)
        if ready.must_sync or ready.entries:
            self._wal.save(hard_state, ready.entries, must_sync=ready.must_sync)
            self._unsaved = None
        else:
            self._unsaved = hard_state
        self._directory.note_segment()
        if ready.snapshot is not None:
            self.memory.apply_snapshot(ready.snapshot)
        if ready.hard_state is not None:
            self.memory.set_hard_state(ready.hard_state)
        if ready.entries:
            self.memory.append(ready.entries)

    # ---- cutting the log --------------------------------------------------------------------------------------------

    def wants_cut(self, applied: Sequence[Entry], limits: CutLimits) -> bool:
        """Counts what was applied; True if enough of it has gathered since the last cut."""
        self._uncut_entries += len(applied)
        self._uncut_bytes += sum(entry.size() for entry in applied)
        enough = self._uncut_entries >= limits.snapshot_entries or self._uncut_bytes >= limits.snapshot_bytes
        return enough and not self._cutting and not self.engine_busy

    def begin_cut(self, limits: CutLimits, later: Later) -> None:
        """Makes durable what was applied, in a job; then, in the node's thread, cuts the log.

        An engine that is being flushed takes no write until its fsync is done, however long that takes. The node's thread
        must not wait for it, for it has heartbeats to send: until then, nothing is applied.
        """
        self._cutting = True
        self._uncut_entries = self._uncut_bytes = 0
        snapshot = self._machine.snapshot()
        if self._machine.persistent:
            self.engine_busy = True
            snapshot.view.close()
            self._start(self._flush, later, self._flushed, snapshot.metadata, limits)
            return
        made = OutgoingSnapshot(snapshot, self._write, self._env)
        self._start(made.path, later, self._written, made, limits)

    def _flush(self) -> None:
        self._machine.flush()
        self._purge()

    def _flushed(self, metadata: SnapshotMetadata, limits: CutLimits) -> None:
        install, self._after_flush = self._after_flush, None
        self.engine_busy = install is not None
        self.cut(metadata, limits)
        if install is not None:
            install()
        else:
            self.resume()

    def _written(self, made: OutgoingSnapshot, limits: CutLimits) -> None:
        self._replace_outgoing(made)
        self.cut(made.metadata, limits)

    def _write(self, snapshot: MachineSnapshot) -> str:
        with self._writing:
            path = write_snapshot(self._snap_dir, snapshot.metadata, self._paced(snapshot.pairs()), self._env)
        self._purge()
        return path

    def _paced(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """The same pairs, in pieces that leave the node's thread its time (server/pace.py), for as long as the node runs: a
        file that is given up is no file (server/snapshot.py), and a store that is given up is the old one."""
        pace = Pace(self._stopping)
        for pair in pairs:
            if pace.step():
                raise NodeStopped("the node stops")
            yield pair

    def stop_writing(self) -> None:
        """Gives up the snapshot files that are being written, which would keep a large node from stopping for long."""
        self._stopping.set()

    def _purge(self) -> None:
        mark = self.memory.snapshot().metadata.index
        with self._purging:
            purge(self._snap_dir, SNAPSHOTS_KEPT, self._env, spare_index=mark)
        self._incoming.drop_passed(mark)

    def cut(self, metadata: SnapshotMetadata, limits: CutLimits) -> None:
        """Cuts the log at `metadata.index`: everything up to there is durable without it (begin_cut guarantees it).

        Does nothing if a snapshot from the leader has overtaken this one: if the mark in `memory` is not before it. Else
        `memory` gets the mark (`create_snapshot`, without data), the log gets it on disk (`save_snapshot`), the directory
        notes a new segment, `memory` is compacted so that it begins with the entry `kept_index` (if that is not its first
        already), and the log's old segments are released. In this order: what the log forgets, it has a mark for.
        Afterwards the next cut may begin (`_cutting`). For the node's thread. Raises OSError, StoreFailed.
        """
        self._cutting = False
        if metadata.index <= self.memory.snapshot().metadata.index:
            return
        self.memory.create_snapshot(metadata.index, metadata.conf_state, b"")
        self._wal.save_snapshot(metadata)
        self._directory.note_segment()
        kept_index = self.kept_index(metadata.index, limits)
        if kept_index > self.memory.first_index():
            self.memory.compact(kept_index - 1)
        self._wal.release(metadata.index)

    def kept_index(self, cut_index: int, limits: CutLimits) -> int:
        """The first entry that stays in memory for slow followers: `catch_up_entries` do, but no more than
        `snapshot_bytes` of them; HELD times as much while a snapshot before them may be on its way. O(entries that stay)."""
        keep_entries, keep_bytes = limits.catch_up_entries, limits.snapshot_bytes
        held_entries = cut_index - self._handed_out
        if self._handed_out and keep_entries < held_entries <= HELD * keep_entries:
            keep_entries, keep_bytes = held_entries, HELD * keep_bytes
        index = max(self.memory.first_index(), cut_index - keep_entries + 1)
        size_bytes = 0
        for entry in reversed(self.memory.entries(index, cut_index + 1, NO_LIMIT)):
            size_bytes += entry.size()
            if size_bytes > keep_bytes:
                return entry.index + 1
        return index

    # ---- snapshots to and from peers --------------------------------------------------------------------------------

    def snapshot(self) -> MachineSnapshot | None:
        """The state applied here, whose view the caller closes; None while one is loaded, or before there is any. O(1)."""
        if self.installing or self._machine.conf_state is None:
            return None
        return self._machine.snapshot()

    def outgoing_snapshot(self, message: Message) -> tuple[Message, Callable[[], str]]:
        """The MsgSnap for a state that the follower can go on from, and a function that returns its file's path, for a job.

        server/snapshot_outgoing.py says which state, and why not always the one that Raft named.
        """
        outgoing = self._outgoing
        if outgoing is None or not outgoing.usable(self.memory.first_index()):
            outgoing = OutgoingSnapshot(self._machine.snapshot(), self._write, self._env)
            self._replace_outgoing(outgoing)
        self._handed_out = outgoing.metadata.index
        return replace(message, snapshot=Snapshot(outgoing.metadata)), outgoing.path

    def _replace_outgoing(self, new: OutgoingSnapshot | None) -> None:
        if self._outgoing is not None:
            self._outgoing.forget()
        self._outgoing = new

    def receive_snapshot(self, metadata: SnapshotMetadata, body: Iterator[bytes]) -> None:
        """Writes and verifies the file of a snapshot from the leader, all of which comes in `body`. See receive_rest."""
        self.receive_rest(metadata, None, lambda offset: body)

    def receive_rest(
        self, metadata: SnapshotMetadata, file: Announced | None, rest: Callable[[int], Iterator[bytes]]
    ) -> None:
        """Writes and verifies the file of a snapshot from the leader; asks `rest` for what isn't here yet.

        For the transport's threads. Raises Overloaded while another one comes, and what IncomingSnapshots.receive raises.
        """
        self._incoming.receive(metadata, file, rest)
        self._purge()

    def begin_install(self, later: Later, then: Callable[[], None]) -> None:
        """Loads the newest mark's snapshot into the engine, in a job; nothing is applied until `then` is called.

        An engine takes one snapshot at a time: the mark of a newer one waits until the one that is being loaded is
        whole, and is loaded after it. Nor does it load anything before a flush that has begun is done.
        """
        if self.installing:
            return
        self.installing = True
        if self.engine_busy:
            self._after_flush = lambda: self._install(later, then)
        else:
            self.engine_busy = True
            self._install(later, then)

    def _install(self, later: Later, then: Callable[[], None]) -> None:
        wanted = self.memory.snapshot().metadata

        def job() -> None:
            for found in find_snapshots(self._snap_dir, self._env):
                if found.metadata.index == wanted.index:
                    metadata, pairs = read_snapshot(found.path, self._env)
                    self._machine.recover_from_snapshot(metadata, self._paced(pairs))
                    return
            raise CorruptionError(self._snap_dir, None, f"the snapshot of index {wanted.index} was here, and is gone")

        self._start(job, later, self._installed, wanted.index, later, then)

    def _installed(self, index: int, later: Later, then: Callable[[], None]) -> None:
        self.installing = self.engine_busy = False
        if index < self.memory.snapshot().metadata.index:
            self.begin_install(later, then)
            return
        self._wal.release(index)
        then()

    def _start(self, job: Callable[[], object], later: Later, done: Callable[..., object], *words: object) -> None:
        """Has a job run, and then, in the node's thread, `done` called; what the job raises is raised there instead."""

        def run() -> None:
            try:
                job()
            except BaseException as error:
                failure = error

                def fail() -> None:
                    raise failure

                later(fail)
            else:
                later(lambda: done(*words))

        self._run_job(run)

    def _run_in_thread(self, job: Callable[[], None]) -> None:
        thread = threading.Thread(target=job, name="snapshot-job", daemon=True)
        self._jobs = {t for t in self._jobs if t.is_alive()} | {thread}
        thread.start()

    def stats(self) -> dict[str, int]:
        """The log's counters."""
        return self._wal.stats()

    def snapshot_counters(self) -> dict[str, int]:
        """What has come of snapshots."""
        return dict(self._incoming.counters)

    @property
    def fsync_times(self) -> Histogram:
        """What the log's fsyncs took."""
        return self._wal.fsync_times

    def close(self) -> None:
        """Waits for jobs, writes what was left to ride along, and closes the log."""
        for thread in self._jobs:
            thread.join()
        self._replace_outgoing(None)
        try:
            try:
                if self._unsaved is not None:
                    self._wal.save(self._unsaved, [], must_sync=False)
            finally:  # a log that has failed takes nothing more, and its lock has to go all the same
                self._directory.close()
        except Exception as error:
            logger().warning("the log closed badly: %s", error)
