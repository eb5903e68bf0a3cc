"""Leadership transfer: the leader hands over to a node that it names, without waiting for a timeout.

    MsgTransferLeader{from: 3} ──► leader: no proposals from here on; is node 3's log complete?
                                     no: it is sent what it lacks      yes: MsgTimeoutNow ──► node 3 campaigns at once

It is given up after an election timeout, and when the other is removed: a leader that refuses proposals for longer than
an election would take is worse than none.

Follows etcd-io/raft: raft.go (MsgTransferLeader, sendTimeoutNow); thesis section 3.10.
"""

from __future__ import annotations

from raft.core import Core
from raft.raftpb import MSG_TIMEOUT_NOW, Message
from raft.replication import maybe_send_append
from raft.tracker import Progress
from raft.util import NONE

__all__ = ["continue_transfer", "handle_transfer"]


def handle_transfer(r: Core, m: Message, progress: Progress) -> None:
    """The leader is asked to hand over to m.from_, whose progress this is."""
    transferee, before = m.from_, r.lead_transferee
    if progress.is_learner:
        if r.logger is not None:
            r.logger.debug("%x is learner. Ignored transferring leadership", r.id)
        return
    if before != NONE:
        if before == transferee:
            if r.logger is not None:
                r.logger.info(
                    "%x [term %d] transfer leadership to %x is in progress, ignores request to same node %x",
                    *(r.id, r.term, transferee, transferee),
                )
            return
        r.lead_transferee = NONE
        if r.logger is not None:
            r.logger.info("%x [term %d] abort previous transferring leadership to %x", r.id, r.term, before)
    if transferee == r.id:
        if r.logger is not None:
            r.logger.debug("%x is already leader. Ignored transferring leadership to self", r.id)
        return
    if r.logger is not None:
        r.logger.info("%x [term %d] starts to transfer leadership to %x", r.id, r.term, transferee)
    r.election_elapsed = 0  # it has an election timeout to succeed: see leader.tick
    r.lead_transferee = transferee
    if progress.match == r.log.last_index():
        _send_timeout_now(r, transferee)
        if r.logger is not None:
            r.logger.info(
                "%x sends MsgTimeoutNow to %x immediately as %x already has up-to-date log",
                *(r.id, transferee, transferee),
            )
    else:
        maybe_send_append(r, transferee, progress, send_if_empty=True)


def continue_transfer(r: Core, progress: Progress) -> None:
    """The node to hand over to has answered; is its log complete now?"""
    if progress.match == r.log.last_index():
        if r.logger is not None:
            r.logger.info("%x sent MsgTimeoutNow to %x after received MsgAppResp", r.id, r.lead_transferee)
        _send_timeout_now(r, r.lead_transferee)


def _send_timeout_now(r: Core, to: int) -> None:
    # The campaign that this asks for passes all leases, and the message may arrive late: no lease is left in this term.
    r.read_only.lease_is_void = True
    r.send(Message(MSG_TIMEOUT_NOW, to=to))
