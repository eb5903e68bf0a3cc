"""Reading Raft's write-ahead log: what its records mean, one after the other, and whether they are whole.

`History` is what the log says up to some record: hard state, newest mark, and which indexes have entries of which
terms. The writer and the reader keep the same one, by the same rules, so that they cannot disagree:

 1. Entries overwrite: an entry of index i removes every entry after i - 1 (a new leader's log wins).
 2. A mark of (index, term) says that a snapshot holds everything up to there. If the log has the entry of that index
    and term, what follows it stays. If not, the snapshot came from a leader, and the log has nothing in common with it
    after that index: all entries go. (A log that keeps them never matches the leader's again: hashicorp/raft#697.)
    The writer decides that and says it in the mark's kind, because a reader may not find that entry any more: its
    segment may be gone, and entries after it still be there.
 3. The last hard state counts.

Which damage is an error, and which is how a crash looks:

 4. Only the last segment can have a torn tail: a segment is whole and on disk before the next one gets its name. Only
    records that nothing after them testifies to count as torn (engines/log.py, rule 5).
 5. Each segment's head repeats what was known, so that segments before a mark can go. They are removed oldest first, but
    a crash may bring some back, in any combination: so the log is the longest run of consecutive sequence numbers that
    ends with the newest. What lies before a gap is left over, and removed at the next open.
 6. Removing is only right up to a mark. So if the first segment of the run doesn't begin right after the mark that is
    the newest at the end of the log, entries are missing: CorruptionError.
 7. A log that ends before its own commit index has lost entries that were acknowledged: CorruptionError, not a torn
    tail. The node must not vote or acknowledge with such a log.

Follows etcd's server/storage/wal: ReadAll, Repair, ValidSnapshotEntries. etcd leaves rule 2 to the caller, and has a
rolling checksum over all segments where a head here names salt and end of the one before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from engines.env import Env, real_env
from engines.errors import CorruptionError, StoreError
from engines.log import LogReader, TornTail
from raft.errors import DecodeError
from raft.raftpb import Entry, HardState, SnapshotMetadata
from server.errors import WAY_OUT
from server.wal_segment import (
    ENTRIES,
    HEAD,
    KIND_NAMES,
    PREFIX_BYTES,
    RESTORE,
    SNAPSHOT,
    START,
    STATE,
    Head,
    SegmentName,
    Start,
    decode_entries,
    decode_state,
    split,
)

__all__ = ["History", "Recovery", "Segment", "WalMismatch", "check", "dump", "overwrite", "replay"]


CLUSTER_ID_BEFORE = (
    0x1000  # in every head, before clusters had ids of their own; its directory gets one at its next start
)


class WalMismatch(StoreError):
    """The log belongs to another node or another cluster: two nodes that share a log vote twice."""

    def __init__(self, path: str, what: str, found: int, expected: int) -> None:
        super().__init__(
            f"{path} belongs to {what} {found:#x}, and this is {what} {expected:#x}: give each node a directory of its own"
        )
        self.path = path
        self.found = found
        self.expected = expected


class History:
    """What the log says up to now: `hard_state`, `snapshot` (the newest mark), `last_index`, and the entries' terms.

    `missing_index`: up to there, entries after the mark are in no segment that was read; a later mark or an entry that
    overwrites them makes up for it. Cost of every method: O(entries given), plus O(changes of term).
    """

    def __init__(self, hard_state: HardState, snapshot: SnapshotMetadata, last_index: int) -> None:
        self.hard_state = hard_state
        self.snapshot = snapshot
        self.last_index = last_index
        self.missing_index = last_index
        self._runs: list[tuple[int, int]] = []  # (first index, term) of each run of entries with one term

    def term(self, index: int) -> int | None:
        """The term of the entry at `index`, or of the mark there; None if neither is known."""
        if index == self.snapshot.index:
            return self.snapshot.term
        if self.snapshot.index < index <= self.last_index:
            for first, term in reversed(self._runs):
                if first <= index:
                    return term
        return None

    def refusal(self, entries: Sequence[Entry]) -> str | None:
        """Why `entries` (not empty) cannot be the next ones; None if they can."""
        first = entries[0].index
        if not self.snapshot.index < first <= self.last_index + 1:
            return (
                f"the next entry has an index from {self.snapshot.index + 1} (after the snapshot) to "
                f"{self.last_index + 1} (after the last), and this one has {first}"
            )
        for expected, entry in enumerate(entries, first):
            if entry.index != expected:
                return f"entry {expected} was expected after entry {expected - 1}, and this is entry {entry.index}"
        return None

    def append(self, entries: Sequence[Entry]) -> None:
        """Rule 1. Requires: `refusal(entries)` is None."""
        first = entries[0].index
        runs = self._runs
        while runs and runs[-1][0] >= first:
            runs.pop()
        self.missing_index = min(self.missing_index, first - 1)
        term = runs[-1][1] if runs else None
        for entry in entries:
            if entry.term != term:
                term = entry.term
                runs.append((entry.index, term))
        self.last_index = entries[-1].index

    def mark(self, snapshot: SnapshotMetadata) -> None:
        """Rule 2, a mark after which entries stay. Requires: its index lies from the newest mark to the last entry."""
        self.snapshot = snapshot
        while len(self._runs) > 1 and self._runs[1][0] <= snapshot.index:
            self._runs.pop(0)

    def restore(self, snapshot: SnapshotMetadata) -> None:
        """Rule 2, a mark after which nothing stays. Requires: its index is not below the newest mark's."""
        self._runs.clear()
        self.last_index = self.missing_index = snapshot.index
        self.snapshot = snapshot


def overwrite(kept: list[Entry], entries: Sequence[Entry]) -> None:
    """Rule 1 for a list: `entries` take the place of all in `kept` that have their first index or a higher one.

    kept: indexes without a gap, changed in place; may be empty, or begin after the first of `entries`. entries: not
    empty, without a gap; History.refusal has seen to it that no gap arises between the two. O(entries given and removed).
    """
    del kept[max(entries[0].index - kept[0].index, 0) if kept else 0 :]
    kept += entries


@dataclass(slots=True)
class Segment:
    """A segment that was read or is being written. `top_index` is the highest index of an entry that is in it."""

    name: SegmentName
    top_index: int = 0


@dataclass(slots=True)
class Recovery:
    """What `replay` found. `end` and `salt` are the last segment's; `torn` is what lies after its end.

    start: the newest START, None for a log of an earlier version, or one that is being made.
    """

    history: History = field(default_factory=lambda: History(HardState(), SnapshotMetadata(), 0))
    entries: list[Entry] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)  # names of files that can go
    end: int = 0
    salt: int = 0
    torn: TornTail | None = None
    start: Start | None = None


def replay(path: str, env: Env, node_id: int | None = None, cluster_id: int | None = None) -> Recovery:
    """Reads the log in the directory `path` and changes nothing; no segments, if there is none yet.

    node_id, cluster_id: whose it has to be, None for anybody's. Raises WalMismatch, CorruptionError (rules 4, 6, 7).
    O(bytes of the log); the entries after the newest mark are in memory.
    """
    recovery = Recovery()
    names = _choose_segments(path, env, recovery)
    for name in names:
        _SegmentReader(recovery, path, env, name).read(node_id, cluster_id)
        if recovery.torn is not None and name != names[-1]:
            raise CorruptionError(
                f"{path}/{name}",
                recovery.torn.offset,
                f"{recovery.torn.why}; no crash does that to a segment that another one follows; {WAY_OUT}",
            )
    _check_whole(path, recovery)
    return recovery


def _choose_segments(path: str, env: Env, recovery: Recovery) -> list[SegmentName]:
    """Rule 5: the run of segments that is the log, oldest first. The rest go to the leftovers."""
    listed = env.list(path)
    recovery.leftovers = [name for name in listed if name.endswith(".wal.tmp")]
    names = sorted(filter(None, map(SegmentName.parse, listed)))
    for at in range(len(names) - 1, 0, -1):
        if names[at].sequence == names[at - 1].sequence:
            raise CorruptionError(
                f"{path}/{names[at]}",
                None,
                f"{names[at - 1]} has the same sequence number; one of the two is not ours; {WAY_OUT}",
            )
        if names[at].sequence != names[at - 1].sequence + 1:
            recovery.leftovers += map(str, names[:at])
            return names[at:]
    return names


def _check_whole(path: str, recovery: Recovery) -> None:
    """Rules 6 and 7."""
    history = recovery.history
    if history.missing_index > history.snapshot.index:
        raise CorruptionError(
            f"{path}/{recovery.segments[0].name}",
            None,
            f"entries {history.snapshot.index + 1} to {history.missing_index} were in segments before this one, which "
            f"are gone; {WAY_OUT}",
        )
    if history.last_index < history.hard_state.commit:
        raise CorruptionError(
            f"{path}/{recovery.segments[-1].name}",
            recovery.end,
            f"the log ends with entry {history.last_index}, but says that entry {history.hard_state.commit} was "
            f"committed: entries are lost; {WAY_OUT}",
        )


class _SegmentReader:
    """Reads one segment into a Recovery."""

    def __init__(self, recovery: Recovery, path: str, env: Env, name: SegmentName) -> None:
        self._recovery = recovery
        self._path = f"{path}/{name}"
        self._env = env
        self._name = name
        self._salt: int | None = None

    def read(self, node_id: int | None, cluster_id: int | None) -> None:
        """Applies every record. Raises WalMismatch, CorruptionError."""
        recovery = self._recovery
        segment = Segment(self._name)
        with closing(self._env.open(self._path, "r")) as file:
            reader = LogReader(file, self._path, self._testimony, advice=WAY_OUT)
            for offset, payload in reader:
                try:
                    if self._salt is None:
                        self._begin(Head.decode(payload), node_id, cluster_id)
                        recovery.segments.append(segment)
                        continue
                    parts = split(payload, self._salt, offset)
                    if parts is None:
                        reader.reject(offset, "the record here was written for another place or another segment")
                        break
                    self._apply(segment, parts[0], payload)
                except DecodeError as error:
                    raise CorruptionError(
                        self._path,
                        offset,
                        f"{error}; the checksum and the stamp are right, so it was written wrong; {WAY_OUT}",
                    ) from None
        if self._salt is None:
            raise CorruptionError(self._path, 0, f"a segment begins with a valid HEAD, and this one doesn't; {WAY_OUT}")
        recovery.end, recovery.torn = reader.end, reader.torn

    def _testimony(self, offset: int, payload: bytes) -> int:
        """Up to where the file was on disk when a record after a damaged spot was written."""
        if self._salt is None:
            return offset  # the head is on disk before the segment has its name
        parts = split(payload, self._salt, offset)
        return parts[1] if parts else 0  # no record of this segment: bytes in a value that look like one

    def _begin(self, head: Head, node_id: int | None, cluster_id: int | None) -> None:
        """Checks that the head is ours, and that the segment follows on the one before it."""
        recovery = self._recovery
        before_ids = recovery.start is None and head.cluster_id == CLUSTER_ID_BEFORE
        if cluster_id is not None and head.cluster_id != cluster_id and not before_ids:
            raise WalMismatch(self._path, "cluster", head.cluster_id, cluster_id)
        if node_id is not None and head.node_id != node_id:
            raise WalMismatch(self._path, "node", head.node_id, node_id)
        before = self._name.first_index - 1
        if not recovery.segments:
            recovery.history = History(head.hard_state, head.snapshot, before)
            fits = before >= head.snapshot.index
        else:
            history = recovery.history
            fits = (head.previous_salt, head.previous_end) == (recovery.salt, recovery.end)
            fits &= (head.hard_state, head.snapshot) == (history.hard_state, history.snapshot)
            fits &= before == history.last_index
        if not fits:
            raise CorruptionError(
                self._path,
                0,
                f"the segment does not follow on the one before it: one of the two was replaced or cut; {WAY_OUT}",
            )
        self._salt = recovery.salt = head.salt

    def _apply(self, segment: Segment, kind: int, payload: bytes) -> None:
        recovery = self._recovery
        history = recovery.history
        if kind == ENTRIES:
            self._append(segment, decode_entries(payload))
        elif kind == STATE:
            history.hard_state, entries = decode_state(payload)
            self._append(segment, entries)
        elif kind in (SNAPSHOT, RESTORE):
            self._mark(kind, SnapshotMetadata.decode(payload[PREFIX_BYTES:]))
        elif kind == START:
            self._start(Start.decode(payload))
        elif kind == HEAD:
            raise DecodeError("a second HEAD is in the segment")

    def _start(self, start: Start) -> None:
        last = self._recovery.start
        if last is not None and (start.number != last.number or start.count < last.count):
            raise DecodeError(f"the start {start} follows {last}: parts of the log belong to different directories")
        self._recovery.start = start

    def _mark(self, kind: int, snapshot: SnapshotMetadata) -> None:
        recovery = self._recovery
        history = recovery.history
        if snapshot.index < history.snapshot.index:
            raise DecodeError(f"a mark at {snapshot.index} follows the one at {history.snapshot.index}")
        if kind == RESTORE:
            history.restore(snapshot)
            recovery.entries = []
            return
        if snapshot.index > history.last_index or history.term(snapshot.index) not in (None, snapshot.term):
            raise DecodeError(
                f"a mark at {snapshot.index} of term {snapshot.term} keeps what follows it, but the log ends at "
                f"{history.last_index}, and has term {history.term(snapshot.index)} there"
            )
        history.mark(snapshot)
        kept = recovery.entries
        del kept[: max(snapshot.index - kept[0].index + 1, 0) if kept else 0]

    def _append(self, segment: Segment, entries: list[Entry]) -> None:
        if not entries:
            return
        recovery = self._recovery
        refusal = recovery.history.refusal(entries)
        if refusal:
            raise DecodeError(refusal)
        recovery.history.append(entries)
        overwrite(recovery.entries, entries)
        segment.top_index = max(segment.top_index, entries[-1].index)


def check(path: str, env: Env | None = None) -> list[str]:
    """Reads the whole log, and returns what is wrong with it as sentences; [] is OK. A torn tail is no violation.

    Takes no lock and changes nothing; the log of a running node may show a record that is just being written.
    """
    try:
        replay(path, env or real_env())
    except CorruptionError as error:
        return [str(error)]
    return []


def dump(path: str, env: Env | None = None) -> Iterator[str]:
    """The log as lines of text: each segment, and each record with its offset and meaning. Changes nothing."""
    env = env or real_env()
    for name in sorted(filter(None, map(SegmentName.parse, env.list(path)))):
        yield f"{path}/{name}: sequence {name.sequence}, next entry {name.first_index}"
        with closing(env.open(f"{path}/{name}", "r")) as file:
            reader = LogReader(file, f"{path}/{name}")
            try:
                for offset, payload in reader:
                    yield f"{offset:08x}  {describe(payload)}"
            except CorruptionError as error:
                yield f"{error.offset or 0:08x}  DAMAGED: {error.why}"
            yield f"{reader.end:08x}  " + (str(reader.torn) if reader.torn else "end")


def describe(payload: bytes) -> str:
    """What a record says, in one line. Never raises for bytes."""
    try:
        kind = payload[0] if payload else 0
        name = KIND_NAMES[kind] if kind < len(KIND_NAMES) else ""
        if not name or len(payload) < PREFIX_BYTES:
            return f"unknown record of {len(payload)} bytes"
        synced = int.from_bytes(payload[9:17], "little")
        if name == "HEAD":
            return f"HEAD      {Head.decode(payload)}"
        if kind == START:
            return f"START     synced {synced:#x}  {Start.decode(payload)}"
        if kind in (SNAPSHOT, RESTORE):
            return f"{name:8}  synced {synced:#x}  {SnapshotMetadata.decode(payload[PREFIX_BYTES:])}"
        hard_state, entries = decode_state(payload) if kind == STATE else (None, decode_entries(payload))
        told = f"{hard_state}  " if hard_state else ""
        if entries:
            size = sum(len(entry.data) for entry in entries)
            terms = sorted({entry.term for entry in entries})
            told += f"entries {entries[0].index}..{entries[-1].index} of terms {terms}, {size} bytes of data"
        return f"{name:8}  synced {synced:#x}  {told}".rstrip()
    except DecodeError as error:
        return f"unreadable record of {len(payload)} bytes: {error}"
