"""The configuration of one node.

Follows etcd-io/raft: raft.go (Config).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from raft.kinds import ReadOnlyOption
from raft.storage import Storage
from raft.util import LOCAL_APPLY_THREAD, NONE, Logger

__all__ = ["READ_ONLY_LEASE_BASED", "READ_ONLY_SAFE", "Config"]

READ_ONLY_SAFE: Final = ReadOnlyOption.SAFE
READ_ONLY_LEASE_BASED: Final = ReadOnlyOption.LEASE_BASED


@dataclass(slots=True)
class Config:
    """All that a node has to be told. `validate` (called by `Raft`) raises `ValueError` with a sentence.

    id: this node, not 0, below 2**64 - 2. Never reused for another node: a node that lost its disk is another node.
    election_tick: ticks without a leader's message after which a follower campaigns; drawn anew each time from
        [election_tick, 2 * election_tick - 1]. Ten heartbeats are a good value.
    heartbeat_tick: ticks between a leader's heartbeats.
    storage: what was saved; read, never written.
    applied: the last entry that the application has applied: nothing up to it is handed out again. At least the index
        of storage's snapshot, if there is one; and the configuration that storage starts with must be the one in force
        there, because membership changes before it aren't handed out again, either.
    rng: the one source of chance, for the election timeout. Seeded alike, and fed alike, a node runs alike.
    async_storage_writes: the Ready's writes and applications are messages to two local threads of the driver, which
        answer when they are done (storage_writes.py); then several Readys can be on their way, and there is no advance.
    max_size_per_msg: bytes of entries in one MsgApp; one entry always goes, so 0 is "one entry in each".
    max_committed_size_per_ready: bytes of entries being applied at one time; 0 takes max_size_per_msg.
    max_uncommitted_entries_size: bytes of data that may wait for their commit on a leader before proposals are refused
        with `ProposalDroppedError`; 0 is no limit. A first proposal of any size is let through.
    max_inflight_msgs: MsgApps on their way to one follower. It is also the bound of its queue in the transport.
    max_inflight_bytes: the same in bytes; 0 is no limit, else not below max_size_per_msg.
    check_quorum: a leader that hasn't heard from a quorum for an election timeout steps down, and a node that hears
        from a leader grants nobody its vote (lease.py). Must be the same on all nodes.
    pre_vote: a node asks whether it could win before it raises its term, so that one that was cut off doesn't depose a
        leader when it returns (pre_vote.py; thesis section 9.6).
    read_only_option: READ_ONLY_SAFE asks a quorum for each read (batched by heartbeat). READ_ONLY_LEASE_BASED answers
        at once while the leader has a lease, which counts on clocks of about the same speed (lease.py); it needs
        check_quorum, and must be the same on all nodes.
    disable_proposal_forwarding: a follower refuses proposals instead of sending them to the leader.
    disable_conf_change_validation: the leader appends every membership change that is proposed, also one at the wrong
        time; for a driver that orders and checks them itself. One that can't be applied stops the node.
    step_down_on_removal: a leader that is removed or becomes a learner steps down when it applies that.
    logger: None is the fastest: then no text is made at all.
    """

    id: int
    election_tick: int
    heartbeat_tick: int
    storage: Storage
    rng: random.Random
    applied: int = 0
    async_storage_writes: bool = False
    max_size_per_msg: int = 1 << 20
    max_committed_size_per_ready: int = 0
    max_uncommitted_entries_size: int = 0
    max_inflight_msgs: int = 256
    max_inflight_bytes: int = 0
    check_quorum: bool = False
    pre_vote: bool = False
    read_only_option: ReadOnlyOption = READ_ONLY_SAFE
    disable_proposal_forwarding: bool = False
    disable_conf_change_validation: bool = False
    step_down_on_removal: bool = False
    logger: Logger | None = None

    def validate(self) -> None:
        if not NONE < self.id < LOCAL_APPLY_THREAD:
            raise ValueError(f"id must be from 1 to 2**64 - 3, not {self.id}: the two above stand for local threads")
        if self.heartbeat_tick <= 0:
            raise ValueError(f"heartbeat_tick must be at least 1, not {self.heartbeat_tick}")
        if self.election_tick <= self.heartbeat_tick:
            raise ValueError(
                f"election_tick must be more than heartbeat_tick ({self.heartbeat_tick}), not {self.election_tick}"
            )
        for name in ("applied", "max_size_per_msg", "max_committed_size_per_ready", "max_uncommitted_entries_size"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if self.max_inflight_msgs <= 0:
            raise ValueError(f"max_inflight_msgs must be at least 1, not {self.max_inflight_msgs}")
        if self.max_inflight_bytes != 0 and self.max_inflight_bytes < self.max_size_per_msg:
            raise ValueError(
                f"max_inflight_bytes must be 0 or at least max_size_per_msg ({self.max_size_per_msg}), "
                f"not {self.max_inflight_bytes}"
            )
        if self.read_only_option == READ_ONLY_LEASE_BASED and not self.check_quorum:
            raise ValueError("read_only_option READ_ONLY_LEASE_BASED needs check_quorum, or no lease would hold")
        if self.read_only_option not in (READ_ONLY_SAFE, READ_ONLY_LEASE_BASED):
            raise ValueError(
                f"read_only_option must be READ_ONLY_SAFE or READ_ONLY_LEASE_BASED, not {self.read_only_option}"
            )
