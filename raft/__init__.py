"""Raft, in the shape of etcd-io/raft: a pure state machine that leaves disk, network, clock and chance to its driver.

Raft keeps one log on several nodes the same, so that all that apply it in order end in the same state. One node, the
leader, decides what comes next in the log; a majority has to have an entry before it is *committed*, which is for ever;
and since any two majorities share a node, a new leader always knows what the old one has committed.

    client ──► propose ──► leader's log ──► MsgApp ──► followers' logs ──► MsgAppResp ──► committed ──► applied
                              │ disk                        │ disk
                              └──── counted when there ─────┘

What happens goes in (`RawNode.tick`, `step`, `propose`), and what is to be done comes out as a `Ready`: entries and
hard state to write, messages to send, committed entries to apply. Nothing in this package opens a file or a socket,
starts a thread, or looks at a clock; chance is a `random.Random` handed in. So a node is a function of what it was fed:
a cluster runs in one thread of a test, a seed makes a run repeat itself, and a crash is forgetting what wasn't written.

Reading order, each file a little harder than the last:

    kinds.py             message types, entry types, roles: the enumerations
    confpb.py raftpb.py  configurations, entries, messages, hard state, snapshots, and their bytes
    storage.py           what the library reads back from disk; the same in memory
    log_unstable.py      the end of the log that is not on disk yet
    log.py               the log: append, conflict, commit, apply
    quorum/              what is a majority
    tracker/             what a leader knows of each follower
    core.py              term, vote, role, timers, and how messages leave
    election.py          campaigns and votes                           paper section 5.2, 5.4.1
    follower.py          entries and heartbeats                        paper section 5.3
    replication.py       what the leader sends, and commit             paper section 5.3, 5.4.2
    leader.py            proposals and followers' reports              paper section 5.3, 8
    heartbeat.py reads.py read_only.py   linearizable reads            thesis section 6.4
    snapshots.py         in place of entries that are cut away         paper section 7
    confchange/ membership.py   membership changes                     paper section 6, thesis chapter 4
    raft.py              terms, and the way of a message to its role   paper section 5.1
    rawnode.py           the driver's side: Ready, advance, and the contract between them
    config.py state.py status.py util.py errors.py

and then what a cluster can do without, each with a default that leaves it out:

    pre_vote.py          a node that was cut off disturbs nobody       thesis section 9.6
    lease.py             check_quorum, and what lease reads stand on   thesis section 6.2, 6.4
    transfer.py          the leader hands over                         thesis section 3.10
    storage_writes.py    writes that overlap                           etcd's doc.go
    bootstrap.py         members as the first entries of the log
    outcomes.py          what became of a proposal                     thesis section 6.3

and beside the library, importing it and not imported by it:

    describe.py          all of it as text, in etcd's formats
    interaction/         runs as scripts: `python -m raft.interaction FILE…`; tests/raft/scripts has some to read first
    simulation/          clusters with faults drawn from a seed: `python -m raft.simulator --seeds 100`, and what must hold

The safety properties (figure 3 of the paper) and where they are kept:

    Election Safety          election.py invariant 1, with the vote in the hard state before the answer leaves
    Leader Append-Only       leader.py invariant 1
    Log Matching             log.py maybe_append
    Leader Completeness      log.py is_up_to_date and maybe_commit
    State Machine Safety     log.py invariants 2 and 4
"""

from raft.bootstrap import Peer
from raft.config import READ_ONLY_LEASE_BASED, READ_ONLY_SAFE, Config
from raft.errors import (
    CompactedError,
    ConfChangeError,
    DecodeError,
    LogLostError,
    ProposalDroppedError,
    RaftError,
    RaftPanic,
    SnapshotOutOfDateError,
    SnapshotTemporarilyUnavailableError,
    StepLocalMsgError,
    StepPeerNotFoundError,
    UnavailableError,
)
from raft.kinds import (
    ConfChangeTransition,
    ConfChangeType,
    EntryType,
    MessageType,
    ProgressState,
    ReadOnlyOption,
    SnapshotStatus,
    StateType,
    VoteResult,
)
from raft.outcomes import Outcome, Outcomes, Place
from raft.raft import Raft
from raft.raftpb import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
    SnapshotMetadata,
)
from raft.rawnode import SNAPSHOT_FAILURE, SNAPSHOT_FINISH, RawNode, Ready
from raft.state import (
    STATE_CANDIDATE,
    STATE_FOLLOWER,
    STATE_LEADER,
    STATE_PRE_CANDIDATE,
    ReadState,
    SoftState,
)
from raft.status import PeerStatus, Status
from raft.storage import MemoryStorage, Storage
from raft.util import LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, NO_LIMIT, NONE, Logger, may_send_before_sync, must_sync

__all__ = [
    "LOCAL_APPEND_THREAD",
    "LOCAL_APPLY_THREAD",
    "NONE",
    "NO_LIMIT",
    "READ_ONLY_LEASE_BASED",
    "READ_ONLY_SAFE",
    "SNAPSHOT_FAILURE",
    "SNAPSHOT_FINISH",
    "STATE_CANDIDATE",
    "STATE_FOLLOWER",
    "STATE_LEADER",
    "STATE_PRE_CANDIDATE",
    "CompactedError",
    "ConfChange",
    "ConfChangeError",
    "ConfChangeSingle",
    "ConfChangeTransition",
    "ConfChangeType",
    "ConfChangeV2",
    "ConfState",
    "Config",
    "DecodeError",
    "Entry",
    "EntryType",
    "HardState",
    "LogLostError",
    "Logger",
    "MemoryStorage",
    "Message",
    "MessageType",
    "Outcome",
    "Outcomes",
    "Peer",
    "PeerStatus",
    "Place",
    "ProgressState",
    "ProposalDroppedError",
    "Raft",
    "RaftError",
    "RaftPanic",
    "RawNode",
    "ReadOnlyOption",
    "ReadState",
    "Ready",
    "Snapshot",
    "SnapshotMetadata",
    "SnapshotOutOfDateError",
    "SnapshotStatus",
    "SnapshotTemporarilyUnavailableError",
    "SoftState",
    "StateType",
    "Status",
    "StepLocalMsgError",
    "StepPeerNotFoundError",
    "Storage",
    "UnavailableError",
    "VoteResult",
    "may_send_before_sync",
    "must_sync",
]
