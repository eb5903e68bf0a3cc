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

from typing import TYPE_CHECKING, Final

from raft import follower, leader
from raft.errors import ProposalDroppedError
from raft.quorum import VOTE_LOST, VOTE_WON
from raft.raftpb import (
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    MSG_APP,
    MSG_HEARTBEAT,
    MSG_PROP,
    MSG_SNAP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    Message,
)
from raft.state import STATE_LEADER
from raft.util import NONE

if TYPE_CHECKING:
    from raft.raft import Raft

__all__ = ["CAMPAIGN_ELECTION", "answer_vote_request", "campaign", "hup", "step_candidate"]

# The kinds of campaign. Pre-election and transfer are to follow; they differ in the message sent and in what wins.
CAMPAIGN_ELECTION: Final = "CampaignElection"


def hup(r: Raft, campaign_type: str) -> None:
    """Starts a campaign, unless this node leads already or must not lead."""
    if r.state == STATE_LEADER:
        return
    if not r.promotable():
        _explain(r, "is unpromotable and can not campaign")
        return
    if _has_unapplied_conf_changes(r):
        _explain(r, "can not campaign: there are membership changes to apply first")
        return
    campaign(r, campaign_type)


def _explain(r: Raft, what: str) -> None:
    if r.logger is not None:
        r.logger.warning("%x %s at term %d", r.id, what, r.term)


def _has_unapplied_conf_changes(r: Raft) -> bool:
    """Looks through the entries between applied and committed, a page at a time. O(entries)."""
    if r.log.applied >= r.log.committed:
        return False
    page_size_bytes = r.log.max_applying_size_bytes
    for page in r.log.scan(r.log.applied + 1, r.log.committed + 1, page_size_bytes):
        if any(entry.type in (ENTRY_CONF_CHANGE, ENTRY_CONF_CHANGE_V2) for entry in page):
            return True
    return False


def campaign(r: Raft, campaign_type: str) -> None:
    """Becomes a candidate and asks every voter, itself included, for its vote."""
    if r.logger is not None:
        r.logger.info("%x is starting a new election at term %d (%s)", r.id, r.term, campaign_type)
    r.become_candidate()
    last = r.log.last_index()
    last_term = r.log.term(last)
    for node_id in r.tracker.voters.ids():
        if node_id == r.id:
            r.send(Message(MSG_VOTE_RESP, to=node_id, term=r.term))
        else:
            r.send(Message(MSG_VOTE, to=node_id, term=r.term, index=last, log_term=last_term))


def answer_vote_request(r: Raft, m: Message) -> None:
    """Grants or refuses a vote in this term (paper section 5.2 and 5.4.1).

    A node that is no member in its own view of the configuration votes all the same: it may be behind in applying the
    change that made it a voter, and the candidate's majority may need it.
    """
    can_vote = r.vote == m.from_ or (r.vote == NONE and r.lead == NONE)
    if can_vote and r.log.is_up_to_date(m.index, m.log_term):
        r.send(Message(MSG_VOTE_RESP, to=m.from_, term=m.term))
        r.election_elapsed = 0
        r.vote = m.from_
    else:
        r.send(Message(MSG_VOTE_RESP, to=m.from_, term=r.term, reject=True))
    if r.logger is not None:
        r.logger.info(
            "%x [logterm: %d, index: %d, vote: %x] %s MsgVote from %x [logterm: %d, index: %d] at term %d",
            *(r.id, r.log.last_term(), r.log.last_index(), r.vote),
            "cast" if r.vote == m.from_ else "rejected",
            *(m.from_, m.log_term, m.index, r.term),
        )


def step_candidate(r: Raft, m: Message) -> None:
    """A candidate's messages. A leader of this term ends the campaign; reads find no leader, and are dropped."""
    kind = m.type
    if kind == MSG_VOTE_RESP:
        _count_vote(r, m)
    elif kind in (MSG_APP, MSG_HEARTBEAT, MSG_SNAP):
        r.become_follower(m.term, m.from_)
        follower.step_follower(r, m)
    elif kind == MSG_PROP:
        raise ProposalDroppedError(f"node {r.id} has no leader at term {r.term}")


def _count_vote(r: Raft, m: Message) -> None:
    r.tracker.record_vote(m.from_, not m.reject)
    granted, rejected, result = r.tracker.tally_votes()
    if r.logger is not None:
        r.logger.info("%x has received %d MsgVoteResp votes and %d vote rejections", r.id, granted, rejected)
    if result == VOTE_WON:
        r.become_leader()
        leader.broadcast_append(r)
    elif result == VOTE_LOST:
        # Nobody leads as far as this node knows; its vote in this term is spent on itself.
        r.become_follower(r.term, NONE)
