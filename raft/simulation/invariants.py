"""What must hold in every run: the properties, checked as each fact appears, at a cost that doesn't grow with the run.

    Election Safety        no two leaders in one term                                             paper, figure 3
    Leader Append-Only     a leader writes no entry over one that it has
    Log Matching           entries with the same index and term are the same, and so are those before
    Leader Completeness    a new leader has every entry that was committed in an earlier term
    State Machine Safety   at each index all applications have applied the same, in order, without a gap
    Same Members           nodes that have applied the same have the same configuration in force
    Applied On Disk        a node applies only what it has on its own disk
    One Vote               a node that has granted its vote in a term grants no other, whatever it has forgotten
    Committed Immutable    what any node knew as committed never changes on any node
    Committed On Quorum    what a leader commits is on the disks of a quorum of its configuration at that moment
    Monotonic              term, commit and applied index of a running node never decrease; a node that starts again has
                           at least the term, and in that term the vote, that it had promised with
    Reads                  the index of a read, by ReadIndex or by lease, is not below what was known anywhere as
                           committed when the read was asked for; so a client that reads sees every write that was
                           acknowledged before
    Dropped Is Dropped     a proposal that was refused with `ProposalDroppedError` is in no log

Liveness is checked by the simulation itself, after the faults have ended.

Not checked, because they are not true: that a node's own disk has what it knows as committed (a leader may learn from
the others before its own write has ended), and that a log with a committed entry is more up to date than every other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from raft.raftpb import ConfState, Entry
from raft.simulation.peer import Peer
from raft.state import STATE_LEADER, ReadState

__all__ = ["History", "Invariants", "Violation"]


class Violation(AssertionError):
    """A property doesn't hold. The sentence begins with its name."""


@dataclass
class History:
    """All facts of a run that can't be unmade, to hold new ones against. Every method is O(1)."""

    leaders: dict[int, int] = field(default_factory=dict)
    votes: dict[tuple[int, int, int], int] = field(default_factory=dict)
    entries: dict[tuple[int, int], tuple[bytes, int]] = field(default_factory=dict)
    committed: dict[int, tuple[int, int]] = field(default_factory=dict)
    commit: int = 0
    checksums: dict[int, int] = field(default_factory=dict)
    configurations: dict[int, ConfState] = field(default_factory=dict)
    dropped: set[bytes] = field(default_factory=set)
    reads: dict[bytes, int] = field(default_factory=dict)
    reads_answered: int = 0

    def see_leader(self, term: int, node_id: int) -> None:
        """A node leads in this term."""
        if self.leaders.setdefault(term, node_id) != node_id:
            raise Violation(f"Election Safety: nodes {self.leaders[term]} and {node_id} lead in term {term}")

    def see_vote(self, node_id: int, term: int, candidate: int, disk: int = 0) -> None:
        """A node's vote counts from here on. disk: which of its disks promises it."""
        if self.votes.setdefault((node_id, disk, term), candidate) != candidate:
            first = self.votes[node_id, disk, term]
            raise Violation(f"One Vote: node {node_id} votes for {first} and {candidate} in term {term}")

    def see_entry(self, entry: Entry, previous_term: int) -> None:
        """An entry is in a log, after one of previous_term."""
        fact = (entry.data, previous_term)
        if self.entries.setdefault((entry.index, entry.term), fact) != fact:
            raise Violation(f"Log Matching: entry {entry.index} of term {entry.term} exists twice")
        if entry.data in self.dropped:
            raise Violation(f"Dropped Is Dropped: {entry.data!r} was refused, and is entry {entry.index}")

    def see_commit(self, index: int, entry_term: int, leader_term: int) -> None:
        """A node of term leader_term knows an entry as committed."""
        known = self.committed.setdefault(index, (entry_term, leader_term))
        if known[0] != entry_term:
            raise Violation(f"Committed Immutable: entry {index} was of term {known[0]}, and is of term {entry_term}")
        self.commit = max(self.commit, index)

    def see_state(self, index: int, checksum: int) -> None:
        """An application has applied everything up to `index`."""
        if self.checksums.setdefault(index, checksum) != checksum:
            raise Violation(f"State Machine Safety: states differ at index {index}")

    def see_configuration(self, index: int, conf_state: ConfState) -> None:
        """The configuration that is in force when everything up to `index` is applied."""
        if self.configurations.setdefault(index, conf_state) != conf_state:
            raise Violation(f"Same Members: at {index} {self.configurations[index]} and {conf_state} are in force")

    def ask(self, context: bytes) -> None:
        """A read is asked for: it has to see all that is committed at this moment."""
        self.reads[context] = self.commit

    def answer(self, node_id: int, read: ReadState) -> None:
        """A read may be done once `read.index` is applied."""
        asked = self.reads[read.request_ctx]
        if read.index < asked:
            raise Violation(f"Reads: node {node_id} reads at index {read.index}, but {asked} was committed before")
        self.reads_answered += 1


@dataclass
class _Seen:
    """What was seen of one node since its start."""

    term: int = 0
    commit: int = 0
    applied: int = 0
    leads: bool = False
    last_written: int = 0


class Invariants:
    """Holds each node against the history. `peers` are all nodes, running or not."""

    def __init__(self, peers: Mapping[int, Peer], history: History | None = None) -> None:
        self.peers = peers
        self.history = history or History()
        self.seen = {node_id: _Seen() for node_id in peers}
        self.lost: set[int] = set()  # nodes whose disks were lost, which their cluster never hears again

    def after_event(self, peer: Peer) -> None:
        """What can have changed on one node by one event. O(1), and O(newly committed entries)."""
        r, seen = peer.node.raft, self.seen[peer.id]
        if r.term != seen.term:
            if r.term < seen.term:
                raise Violation(f"Monotonic: the term of node {peer.id} fell from {seen.term} to {r.term}")
            seen.term = r.term
        leads = r.state == STATE_LEADER
        if leads and not seen.leads:
            self.history.see_leader(r.term, peer.id)
            self._check_completeness(peer)
        seen.leads = leads
        if r.log.committed != seen.commit:
            self._see_commits(peer, seen, leads)

    def _see_commits(self, peer: Peer, seen: _Seen, leads: bool) -> None:
        r = peer.node.raft
        commit = r.log.committed
        if commit < seen.commit:
            raise Violation(f"Monotonic: the commit index of node {peer.id} fell from {seen.commit} to {commit}")
        if leads and commit > self.history.commit:
            self._check_quorum(peer, commit)
        for index in range(max(seen.commit + 1, r.log.first_index()), commit + 1):
            self.history.see_commit(index, r.log.term(index), r.term)
        seen.commit = commit

    def _check_quorum(self, peer: Peer, index: int) -> None:
        term = peer.node.raft.log.term(index)
        on_disk = {other.id: index for other in self.peers.values() if self.has_written(peer, other, index, term)}
        if peer.node.raft.tracker.voters.committed_index(on_disk) < index:
            raise Violation(
                f"Committed On Quorum: leader {peer.id} commits entry {index}, which is on the disks of {[*on_disk]}"
            )

    def has_written(self, leader: Peer, other: Peer, index: int, term: int) -> bool:
        """Whether the node that a leader counts as `other` has written an entry."""
        return other.id in self.lost or other.has_on_disk(index, term)

    def _check_completeness(self, peer: Peer) -> None:
        """O(committed entries), once for each leader."""
        log, term = peer.node.raft.log, peer.node.raft.term
        first = log.first_index()
        for index, (entry_term, committed_in) in self.history.committed.items():
            if index >= first and committed_in < term and log.term_or_zero(index) != entry_term:
                raise Violation(
                    f"Leader Completeness: node {peer.id} leads in term {term} without entry {index} of term "
                    f"{entry_term}, which was committed in term {committed_in}"
                )

    def before_take(self, peer: Peer) -> None:
        """The entries that the next Ready will want written."""
        log, seen = peer.node.raft.log, self.seen[peer.id]
        snapshot = log.unstable.next_snapshot()
        if snapshot is not None:
            seen.last_written = snapshot.metadata.index
        entries = log.unstable.next_entries()
        if not entries:
            return
        if seen.leads and entries[0].index <= seen.last_written:
            raise Violation(f"Leader Append-Only: leader {peer.id} writes over entry {entries[0].index}")
        seen.last_written = entries[-1].index
        previous_term = log.term(entries[0].index - 1)
        for entry in entries:
            self.history.see_entry(entry, previous_term)
            previous_term = entry.term

    def before_finish(self, peer: Peer) -> None:
        """The Ready is on disk: from here on its vote counts, and its reads may be answered."""
        ready = peer.ready
        assert ready is not None
        hard_state = ready.hard_state
        if hard_state is not None and hard_state.vote:
            self.voted(peer.id, hard_state.term, hard_state.vote)
        self.answers(peer.id, ready.read_states)

    def voted(self, node_id: int, term: int, candidate: int) -> None:
        """A vote is on disk, or leaves its node."""
        if node_id not in self.lost:
            self.history.see_vote(node_id, term, candidate)

    def answers(self, node_id: int, reads: Iterable[ReadState]) -> None:
        """Reads of a Ready."""
        for read in reads:
            self.history.answer(node_id, read)

    def applied(self, peer: Peer) -> None:
        """The application may be further now."""
        application, seen = peer.application, self.seen[peer.id]
        if application.index < seen.applied:
            raise Violation(f"Monotonic: node {peer.id} was at index {seen.applied}, and is at {application.index}")
        if application.index > seen.applied:
            seen.applied = application.index
            self.history.see_state(application.index, application.checksum)
            if peer.may_take_snapshot():
                self.history.see_configuration(application.index, peer.node.raft.tracker.conf_state())

    def started(self, peer: Peer) -> None:
        """A node has started, from what its disk has."""
        r, written = peer.node.raft, peer.disk.hard_state()
        if r.term < written.term:
            raise Violation(f"Monotonic: node {peer.id} starts at term {r.term}, but had written {written.term}")
        if r.term == written.term and r.vote != written.vote:
            raise Violation(f"Monotonic: node {peer.id} has forgotten its vote for {written.vote} in term {r.term}")
        if r.log.committed < written.commit:
            raise Violation(f"Monotonic: node {peer.id} starts at commit {r.log.committed}, wrote {written.commit}")
        self.seen[peer.id] = _Seen(term=r.term, last_written=peer.storage.last_index())
        self.applied(peer)
