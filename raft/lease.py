"""check_quorum and the leader's lease: a leader without a quorum stops leading, and nobody deposes one that has it.

    leader      once in an election timeout: was a quorum heard from? If not, it steps down. So a leader that is cut off
                doesn't keep clients waiting for commits that can't come.
    follower    while it has heard from a leader within the election timeout, it answers no request for its vote: the
                lease. So nodes that were removed, and can't hear the leader, don't depose it.

The two belong together: the lease is safe to give because the leader gives up when it can't reach those who gave it.

Lease reads (reads.py) need more than that, because a leader looks at its quorum once in an election timeout, and so may
lead for almost two after it was cut off, while the others elect a new one after one:

    read on the lease   a quorum has answered a heartbeat that was sent less than half an election timeout ago
    bound by it         a node votes for nobody, nor for itself, for an election timeout after it has heard any leader,
                        or was started, whatever it has learned of later terms in between (Core.is_bound_by_lease)
    void                once the leader has asked another to campaign: that campaign is answered all the same (transfer.py)

With an election timeout of E ticks that holds if no clock is faster than the leader's by a factor of (E - 1) / (E / 2):
followers count at least E - 1 whole ticks after a heartbeat, and the leader at most E / 2 after it was sent. etcd answers
reads on the lease as long as it leads, which is longer than the promises of its followers last.

A node whose term is ahead, because it campaigned while it was cut off, would be stuck: its votes are ignored, and it
ignores the leader's messages. It tells the leader its term in an empty answer, which makes the leader step down and
gives way to an election. pre_vote.py spares that.

Follows etcd-io/raft: raft.go (MsgCheckQuorum, inLease); thesis sections 4.2.3 and 6.2.
"""

from __future__ import annotations

from raft.core import Core
from raft.election import CAMPAIGN_TRANSFER
from raft.raftpb import MSG_APP_RESP, Message
from raft.util import NONE

__all__ = ["answer_old_leader", "holds_against"]


def holds_against(r: Core, m: Message) -> bool:
    """Whether this node follows a leader that it has heard from, and so ignores a request for a vote in a later term.

    A campaign that the leader has asked for is answered: its own lease is no obstacle to handing over.
    """
    follows = r.config.check_quorum and r.lead != NONE and r.election_elapsed < r.config.election_tick
    if not follows and not r.is_bound_by_lease():
        return False
    if m.context == CAMPAIGN_TRANSFER:
        return False
    if r.logger is not None:
        r.logger.info(
            "%x [logterm: %d, index: %d, vote: %x] ignored %s from %x [logterm: %d, index: %d] at term %d: "
            "lease is not expired (remaining ticks: %d)",
            *(r.id, r.log.last_term(), r.log.last_index(), r.vote, m.type, m.from_, m.log_term, m.index, r.term),
            r.config.election_tick - (r.election_elapsed if follows else r.heard_elapsed),
        )
    return True


def answer_old_leader(r: Core, m: Message) -> None:
    """Tells a leader of an earlier term that there is a later one; the empty answer carries it."""
    r.send(Message(MSG_APP_RESP, to=m.from_))
