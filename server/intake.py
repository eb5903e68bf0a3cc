"""What gets into Raft: the proposals of this node's clients, and what its peers send.

    clients' proposals ──▶ too late? ─────────────────────────────▶ as few MsgProps as possible ──▶ RawNode
    peers' messages ─────▶ a term that leads too far? (guards.py) ─▶ step ────────────────────────▶ RawNode
         MsgProp ─────────▶ too late? unreadable? (forwards.py) ───▶ what is left of it ──────────▶ RawNode, if it leads
         MsgProp, refused ─▶ who waits for those proposals is told that nothing was written

Invariants:

1. Nothing that can't be applied becomes an entry: this node's proposals are made by it, and those of others are decoded
   before they are proposed. An entry that no node can apply would end all of them, and again at each restart.
2. A proposal whose deadline has passed is proposed by nobody: its client has been told that the outcome is unknown, and
   "unknown" must not last.
3. A refusal is sent only for what Raft did not take.

All of it is for the node's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from raft import ProposalDroppedError, RawNode, StepLocalMsgError, StepPeerNotFoundError
from raft.raftpb import MSG_PROP, Entry, Message
from server.config import MESSAGE_BYTES_MAX
from server.errors import NodeError, NoLeader, Overloaded
from server.forwards import NO_LEADER, OVERLOADED, UNREADABLE, fault, refusal, refused, sift, with_deadlines
from server.guards import TERM_LEAD_MAX, leads_too_far
from server.logs import Minutely, logger
from server.proposals import Proposal, Proposals

__all__ = ["Intake"]


class Intake:
    """The way into one node's Raft."""

    def __init__(
        self,
        node_id: int,
        raft: RawNode,
        proposals: Proposals,
        send: Callable[[list[Message]], None],
        now: Callable[[], float],
    ) -> None:
        """send: hands messages to the transport. now: seconds by this node's clock, as the deadlines are."""
        self._node_id = node_id
        self._raft = raft
        self._proposals = proposals
        self._send = send
        self._now = now
        self._complaints = Minutely(logger())
        self.counters = dict.fromkeys(
            ("proposals", "proposals_expired", "proposals_unreadable", "messages_in", "messages_refused"), 0
        )

    def propose(self, proposals: list[Proposal]) -> None:
        """Hands this node's proposals to Raft, in messages of at most MESSAGE_BYTES_MAX (or one proposal)."""
        now = self._now()
        wanted = [proposal for proposal in proposals if proposal.deadline > now]
        if len(wanted) < len(proposals):
            late = [proposal.data for proposal in proposals if proposal.deadline <= now]
            self.counters["proposals_expired"] += len(late)
            self._proposals.refuse(late, Overloaded("the node was too busy to take the write in time: try again later"))
        self.counters["proposals"] += len(wanted)
        start = size = 0
        for at, proposal in enumerate(wanted):
            if size and size + len(proposal.data) > MESSAGE_BYTES_MAX:
                self._propose_some(wanted[start:at])
                start, size = at, 0
            size += len(proposal.data)
        if wanted:
            self._propose_some(wanted[start:])

    def _propose_some(self, proposals: list[Proposal]) -> None:
        datas = [proposal.data for proposal in proposals]
        # a leader keeps them; a follower that forwards them says how long they are wanted
        leads = self._raft.lead == self._node_id
        context = b"" if leads else with_deadlines([proposal.deadline for proposal in proposals])
        try:
            self._raft.propose_batch(datas, context)
        except ProposalDroppedError:
            error: NodeError
            if self._raft.lead:
                error = Overloaded("too much is waiting to be committed, so the write was refused: try again later")
            else:
                error = NoLeader("no leader is known, so the write was not proposed: try again soon")
            self._proposals.refuse(datas, error)

    def step(self, messages: list[Message]) -> None:
        """Hands peers' messages to Raft, except for what no peer in its senses sends."""
        self.counters["messages_in"] += len(messages)
        raft = self._raft
        for message in messages:
            if leads_too_far(message, raft.term):
                self._refuse_term(message)
                continue
            try:
                if message.type == MSG_PROP:
                    self._step_forwarded(message)
                else:
                    raft.step(message)
            except (StepLocalMsgError, StepPeerNotFoundError) as error:
                self._tell(f"a message from node {message.from_} is ignored: {error}")

    def _step_forwarded(self, message: Message) -> None:
        if message.reject:
            self._proposals.refuse(*refused(message))
            return
        raft = self._raft
        if raft.lead == self._node_id:
            sifted = sift(message, self._now())
            self.counters["proposals_expired"] += sifted.late
            if sifted.unreadable:
                self._refuse_unreadable(message, sifted.unreadable)
            if not sifted.good:
                return
            message = replace(message, entries=sifted.good, context=b"")
        try:
            self._raft.step(message)
        except ProposalDroppedError:
            self._refuse(message, message.entries, OVERLOADED if raft.lead else NO_LEADER)

    def _refuse_unreadable(self, message: Message, entries: list[Entry]) -> None:
        self.counters["proposals_unreadable"] += len(entries)
        why = fault(entries[0])
        self._tell(f"proposals from node {message.from_} are refused, because no node could apply them: {why}")
        self._refuse(message, entries, UNREADABLE)

    def _refuse(self, message: Message, entries: list[Entry], why: int) -> None:
        answer = refusal(entries, self._node_id, message.from_, why)
        if message.from_ == self._node_id:  # it went round, from one supposed leader to the next
            self._proposals.refuse(*refused(answer))
        else:
            self._send([answer])

    def _refuse_term(self, message: Message) -> None:
        self.counters["messages_refused"] += 1
        self._tell(
            f"node {message.from_} is not heard: its term is beyond {self._raft.term:,} + {TERM_LEAD_MAX:,}, where "
            "no number of elections leads; its log is damaged or not of this cluster",
        )

    def _tell(self, sentence: str) -> None:
        self._complaints.say(f"node {self._node_id}: {sentence}")
