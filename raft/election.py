"""Elections: campaigning, voting, and counting votes.

    1. A follower that hears from no leader for its (random) timeout becomes a candidate: term + 1, a vote for itself.
    2. It asks all voters. A voter grants one vote in a term, and only to a log at least as up to date as its own.
    3. A majority makes the leader; a lost vote, or a leader of the same or a higher term, makes a follower.

Invariants
 1. One vote in a term: `vote` is written before the answer is sent (it waits in messages_after_append), and a restart
    reads it back. Two leaders in one term would need two majorities, and so a node that voted twice.
 2. The candidate's own vote is an answer like any other's: counted when it is on disk.
 3. A node with a membership change that is committed but not applied doesn't campaign: it might count majorities of a
    configuration that is no longer in force (etcd#7280, #12133).

Follows etcd-io/raft: raft.go (hup, campaign, poll, stepCandidate); paper sections 5.2 and 5.4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raft import leader
from raft.core import Core
from raft.errors import ProposalDroppedError
from raft.quorum import VOTE_LOST, VOTE_WON, VoteResult
from raft.raftpb import (
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    MSG_PROP,
    MSG_TIMEOUT_NOW,
    MSG_VOTE,
    MSG_VOTE_RESP,
    Message,
    MessageType,
)
from raft.state import STATE_LEADER
from raft.util import NONE

__all__ = [
    "CAMPAIGN_TRANSFER",
    "answer_vote_request",
    "ask_for_votes",
    "campaign",
    "campaign_for_transfer",
    "count_vote",
    "explain_vote",
    "handle_vote_request",
    "hup",
    "refuse_requests",
    "step_candidate",
]

CAMPAIGN_TRANSFER: Final = b"CampaignTransfer"
"""The context of a vote request that the leader itself has asked for: no lease holds against it (lease.py)."""


def hup(r: Core, campaign: Callable[[Core], None]) -> None:
    """Starts a campaign of this kind, unless this node leads already or must not lead."""
    if r.state == STATE_LEADER:
        if r.logger is not None:
            r.logger.debug("%x ignoring MsgHup because already leader", r.id)
    elif not r.promotable():
        if r.logger is not None:
            r.logger.warning("%x is unpromotable and can not campaign", r.id)
    # With an unapplied change it might count majorities of the old configuration, while the new one's elect another
    # leader (etcd#7280, #12133).
    elif _has_unapplied_conf_changes(r):
        if r.logger is not None:
            r.logger.warning(
                "%x cannot campaign at term %d since there are still pending configuration changes to apply",
                r.id,
                r.term,
            )
    else:
        if r.logger is not None:
            r.logger.info("%x is starting a new election at term %d", r.id, r.term)
        campaign(r)


def _has_unapplied_conf_changes(r: Core) -> bool:
    """Looks through the entries between applied and committed, a page at a time. O(entries)."""
    if r.log.applied >= r.log.committed:
        return False
    page_size_bytes = r.log.max_applying_size_bytes
    for page in r.log.scan(r.log.applied + 1, r.log.committed + 1, page_size_bytes):
        if any(entry.type in (ENTRY_CONF_CHANGE, ENTRY_CONF_CHANGE_V2) for entry in page):
            return True
    return False


def campaign(r: Core) -> None:
    """Becomes a candidate and asks every voter, itself included, for its vote."""
    r.become_candidate()
    ask_for_votes(r, MSG_VOTE, MSG_VOTE_RESP, r.term, b"")


def campaign_for_transfer(r: Core) -> None:
    """The same because the leader wants it so: without a pre-vote, which the leader's lease would refuse (raft#203)."""
    r.become_candidate()
    ask_for_votes(r, MSG_VOTE, MSG_VOTE_RESP, r.term, CAMPAIGN_TRANSFER)


def ask_for_votes(r: Core, request: MessageType, response: MessageType, term: int, context: bytes) -> None:
    """Asks every voter of the configuration (r.tracker.voters.ids(), ascending) for its vote, with one message each.

    To the others: a message of type `request`, with `term`, `context`, and the last entry of this node's log: `index` is
    its index, `log_term` its term. To itself: the answer, a granted `response` with `term`, because this node's own vote
    counts like any other's, and not before it is on disk (invariant 2). All go through r.send.

    A campaign gives MSG_VOTE, MSG_VOTE_RESP and its own new term. Requires: the vote is noted (become_candidate).
    O(voters).
    """
    last = r.log.last_index()
    last_term = r.log.term(last)
    for node_id in r.tracker.voters.ids():
        if node_id == r.id:
            r.send(Message(response, to=node_id, term=term))
        else:
            r.info(
                "%x [logterm: %d, index: %d] sent %s request to %x at term %d",
                *(r.id, last_term, last, request, node_id, r.term),
            )
            r.send(Message(request, to=node_id, term=term, index=last, log_term=last_term, context=context))


def handle_vote_request(r: Core, m: Message) -> None:
    """A request for a vote in this node's term. What a lease promises (lease.py, off by default) comes first."""
    if r.is_bound_by_lease() and m.context != CAMPAIGN_TRANSFER:
        refuse_vote(r, m)
    else:
        answer_vote_request(r, m)


def answer_vote_request(r: Core, m: Message) -> None:
    """Grants or refuses a vote in this term (paper section 5.2 and 5.4.1).

    Comes in: MsgVote from m.from_, whose log ends with (m.index, m.log_term). Requires: m.term == r.term, because a lower
    term was refused and a higher one followed before (`Raft.settle_term`).

    The vote is granted if it is free, or was given to this same candidate before (its first answer may be lost), and the
    candidate's log is at least as up to date as this one (`RaftLog.is_up_to_date`). It is free if this node has voted
    for nobody in this term, and knows of no leader: if there is one, the term is decided.
    Granted: `vote` is noted, the election timer counts from 0 again, and MsgVoteResp with this term goes to the
    candidate, by r.send, which holds it back until the vote is on disk. Refused: `refuse_vote`, and nothing changes.

    A node that is no voter in its own view of the configuration votes all the same: it may not have applied the
    change that made it one yet, and the candidate's majority may need it (etcd#10998). O(1).
    """
    can_vote = r.vote == m.from_ or (r.vote == NONE and r.lead == NONE)
    if can_vote and r.log.is_up_to_date(m.index, m.log_term):
        explain_vote(r, m, "cast", "for")
        r.vote = m.from_
        r.election_elapsed = 0
        r.send(Message(MSG_VOTE_RESP, to=m.from_, term=r.term))
    else:
        refuse_vote(r, m)


def refuse_vote(r: Core, m: Message) -> None:
    """Tells a candidate that it doesn't get this node's vote."""
    explain_vote(r, m, "rejected", "from")
    r.send(Message(MSG_VOTE_RESP, to=m.from_, term=r.term, reject=True))


def explain_vote(r: Core, m: Message, what: str, whom: str) -> None:
    """The log line about an answer to a vote request or a pre-vote request, before the vote is noted."""
    r.info(
        f"%x [logterm: %d, index: %d, vote: %x] {what} %s {whom} %x [logterm: %d, index: %d] at term %d",
        *(r.id, r.log.last_term(), r.log.last_index(), r.vote),
        *(m.type, m.from_, m.log_term, m.index, r.term),
    )


def step_candidate(r: Core, m: Message) -> None:
    """A candidate's messages, all of its own term; a leader's have made it a follower before they get here.

    MsgVoteResp is an answer to this campaign: `count_vote` notes it, and says what all answers amount to. With VOTE_WON
    this node takes over (leader.take_over). With VOTE_LOST it follows, in the same term, nobody it knows: its vote is
    spent, on itself. With VOTE_PENDING it waits for more answers, or for its timeout.
    Everything else is `refuse_requests`'s. Late answers to a pre-vote (MsgPreVoteResp) are no votes, although this node
    has asked for both (raft#196). O(nodes).
    """
    if m.type == MSG_VOTE_RESP:
        result = count_vote(r, m)
        if result == VOTE_WON:
            leader.take_over(r)
        elif result == VOTE_LOST:
            r.become_follower(r.term, NONE)
    else:
        refuse_requests(r, m)


def count_vote(r: Core, m: Message) -> VoteResult:
    """Notes an answer; the result is what all answers so far amount to."""
    r.info("%x received %s%s from %x at term %d", r.id, m.type, " rejection" * m.reject, m.from_, r.term)
    r.tracker.record_vote(m.from_, not m.reject)
    granted, rejected, result = r.tracker.tally_votes()
    r.info("%x has received %d %s votes and %d vote rejections", r.id, granted, m.type, rejected)
    return result


def refuse_requests(r: Core, m: Message) -> None:
    """While nobody leads, proposals are refused; reads are dropped, as the network might have done."""
    if m.type == MSG_PROP:
        if r.logger is not None:
            r.logger.info("%x no leader at term %d; dropping proposal", r.id, r.term)
        raise ProposalDroppedError(f"node {r.id} has no leader at term {r.term}")
    if m.type == MSG_TIMEOUT_NOW and r.logger is not None:
        r.logger.debug("%x [term %d state %s] ignored MsgTimeoutNow from %x", r.id, r.term, r.state, m.from_)
