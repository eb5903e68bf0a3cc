"""check_quorum and the leader's lease: a leader without a quorum stops leading, and nobody deposes one that has it.

    leader      once in an election timeout: was a quorum heard from? If not, it steps down. So a leader that is cut off
                doesn't keep clients waiting for commits that can't come.
    follower    while it has heard from a leader within the election timeout, it answers no request for its vote: the
                lease. So nodes that were removed, and can't hear the leader, don't depose it.

The two belong together: the lease is safe to give because the leader gives up when it can't reach those who gave it;
and lease reads (reads.py) use that no other leader can have been elected while it holds, if all clocks run alike.

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
    if not r.config.check_quorum or r.lead == NONE or r.election_elapsed >= r.config.election_tick:
        return False
    if m.context == CAMPAIGN_TRANSFER:
        return False
    if r.logger is not None:
        r.logger.info(
            "%x [logterm: %d, index: %d, vote: %x] ignored %s from %x [logterm: %d, index: %d] at term %d: "
            "lease is not expired (remaining ticks: %d)",
            *(r.id, r.log.last_term(), r.log.last_index(), r.vote, m.type, m.from_, m.log_term, m.index, r.term),
            r.config.election_tick - r.election_elapsed,
        )
    return True


def answer_old_leader(r: Core, m: Message) -> None:
    """Tells a leader of an earlier term that there is a later one; the empty answer carries it."""
    r.send(Message(MSG_APP_RESP, to=m.from_))
