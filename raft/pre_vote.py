"""The pre-vote: would I win? Asked before a campaign, so that a node that can't win doesn't raise the others' terms.

A node that was cut off campaigns again and again, to nobody. Without the question its term is far ahead when it comes
back, and the leader has to step down, although all the others are content with it.

    follower ──times out──► pre-candidate ──a majority would──► candidate ──► …
                 term stays 7      MsgPreVote{term: 8}             term 8

Invariants
 1. Nobody's term and nobody's vote changes by a pre-vote: any number may be granted in one term.
 2. A grant carries the term that was asked about, a refusal the term of its sender, which the asker then follows.
 3. Pre-votes and votes are counted apart: the answers to one are nothing to the other.

Follows etcd-io/raft: raft.go; thesis section 9.6.
"""

from __future__ import annotations

from raft import election
from raft.core import Core
from raft.quorum import VOTE_LOST, VOTE_WON
from raft.raftpb import MSG_PRE_VOTE, MSG_PRE_VOTE_RESP, Message
from raft.util import NONE

__all__ = ["answer_pre_vote_request", "campaign", "refuse_old_term", "step_pre_candidate"]


def campaign(r: Core) -> None:
    """Asks every voter whether it would vote for this node in the next term."""
    r.become_pre_candidate()
    election.ask_for_votes(r, MSG_PRE_VOTE, MSG_PRE_VOTE_RESP, r.term + 1, b"")


def answer_pre_vote_request(r: Core, m: Message) -> None:
    """Would this node vote for it? For a later term it has no vote to keep; nothing is noted."""
    can_vote = r.vote == m.from_ or (r.vote == NONE and r.lead == NONE) or m.term > r.term
    if can_vote and r.log.is_up_to_date(m.index, m.log_term):
        election.explain_vote(r, m, "cast", "for")
        # The term that was asked about: the own one may be older, and the asker would drop the answer.
        r.send(Message(MSG_PRE_VOTE_RESP, to=m.from_, term=m.term))
    else:
        election.explain_vote(r, m, "rejected", "from")
        r.send(Message(MSG_PRE_VOTE_RESP, to=m.from_, term=r.term, reject=True))


def refuse_old_term(r: Core, m: Message) -> None:
    """Asked about a term that is over: the asker is told, or two nodes could wait for each other for ever, one with the
    higher term and one with the longer log, in a cluster that gets this option while it runs (etcd#8501)."""
    election.explain_vote(r, m, "rejected", "from")
    r.send(Message(MSG_PRE_VOTE_RESP, to=m.from_, term=r.term, reject=True))


def step_pre_candidate(r: Core, m: Message) -> None:
    """A pre-candidate's messages; a leader's have made it a follower before they get here."""
    if m.type == MSG_PRE_VOTE_RESP:
        result = election.count_vote(r, m)
        if result == VOTE_WON:
            election.campaign(r)
        elif result == VOTE_LOST:
            r.become_follower(r.term, NONE)  # its own term: those of granted pre-votes are in the future
    else:
        election.refuse_requests(r, m)
