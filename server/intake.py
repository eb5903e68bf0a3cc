"""What gets into Raft: the proposals of this node's clients, and what its peers send.

    clients' proposals ──▶ too late? ─────────────────────────────▶ as few MsgProps as possible ──▶ RawNode
    held ones, again ────▶ is there a leader? (outstanding.py) ────▶ the same
    peers' messages ─────▶ a term that leads too far? (guards.py) ─▶ step ────────────────────────▶ RawNode
         MsgProp ─────────▶ for this term, and this node leads? too late? unreadable? (forwards.py) ─▶ RawNode
         MsgProp, refused ─▶ those proposals are held, or who waits for them is told that nothing was written

Invariants:

1. Nothing that can't be applied becomes an entry: this node's proposals are made by it, and those of others are decoded
   before they are proposed. An entry that no node can apply would end all of them, and again at each restart.
2. A proposal whose deadline has passed is proposed by nobody: its client has been told that the outcome is unknown, and
   "unknown" must not last.
3. A refusal is sent only for what Raft did not take.
4. A forwarded proposal is taken only by the leader of the term that it is meant for, and passed on by nobody.

All of it is for the node's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from raft import ProposalDroppedError, RawNode, StepLocalMsgError, StepPeerNotFoundError
from raft.raftpb import MSG_PROP, Entry, Message
from server.config import MESSAGE_BYTES_MAX
from server.divergence import DivergenceAlarm
from server.errors import NodeError, NoLeader, Overloaded
from server.feed_taps import Taps
from server.forwards import NO_LEADER, OVERLOADED, UNREADABLE, fault, refusal, refused, sift, term_of, with_deadlines
from server.guards import LEASE_ANSWER, LEASE_ASK, REPORT, TERM_LEAD_MAX, leads_too_far
from server.logs import Minutely, logger
from server.metrics import Metrics, describe
from server.outstanding import Outstanding
from server.proposals import Proposal, Proposals

__all__ = ["Intake"]

describe(
    {
        "proposals_total": "Clients' writes that this node handed to Raft.",
        "proposals_again_total": "Writes that were proposed again because a leader with whom they surely were lost is gone.",
        "proposals_expired_total": "Writes that were refused because their client had stopped waiting.",
        "proposals_unreadable_total": "Forwarded writes that were refused because no node could apply them.",
        "messages_in_total": "Raft messages from peers.",
        "messages_refused_total": "Raft messages whose term no number of elections leads to.",
    }
)


class Intake:
    """The way into one node's Raft."""

    def __init__(
        self,
        node_id: int,
        raft: RawNode,
        proposals: Proposals,
        outstanding: Outstanding,
        send: Callable[[list[Message]], None],
        now: Callable[[], float],
    ) -> None:
        """send: hands messages to the transport. now: seconds by this node's clock, as the deadlines are."""
        self._node_id = node_id
        self._raft = raft
        self._proposals = proposals
        self._outstanding = outstanding
        self._send = send
        self._now = now
        self._complaints = Minutely(logger())
        self.taps: Taps | None = None
        self.alarm: DivergenceAlarm | None = None
        self.leases: Callable[[Message], object] = lambda message: None  # takes what is about leases
        self.changes: Callable[[Message], bool] = lambda message: False  # takes what is about the membership
        self._tried: tuple[int, int] | None = None  # term and leader for which held proposals were proposed last
        self.counters = dict.fromkeys(
            (
                "proposals",
                "proposals_again",
                "proposals_expired",
                "proposals_unreadable",
                "messages_in",
                "messages_refused",
            ),
            0,
        )

    def metrics(self) -> Metrics:
        """What came in, and what of it was refused."""
        return {f"{name}_total": count for name, count in self.counters.items()}

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
        raft = self._raft
        if self._outstanding.full:
            error: NodeError = Overloaded("too much is under way already, so the write was refused: try again later")
            self._proposals.refuse([proposal.data for proposal in proposals], error)
            return
        datas = [proposal.data for proposal in proposals]
        # a leader keeps them; a follower that forwards them says for whom, and how long they are wanted
        leads = raft.lead == self._node_id
        context = b"" if leads else with_deadlines([proposal.deadline for proposal in proposals], raft.term)
        try:
            raft.propose_batch(datas, context)
        except ProposalDroppedError:
            if self._hands_over():
                self._outstanding.hold(proposals)
                return
            if raft.lead:
                error = Overloaded("too much is waiting to be committed, so the write was refused: try again later")
            else:
                error = NoLeader("no leader is known, so the write was not proposed: try again soon")
            self._proposals.refuse(datas, error)
        else:
            self._outstanding.proposed(proposals, raft.term)

    def _hands_over(self) -> bool:
        """Whether this node leads, and is about to lead no more: it takes no proposals until the other one leads."""
        return bool(self._raft.raft.lead_transferee)

    def propose_again(self, settled_term: int, ticked: bool) -> bool:
        """Proposes what is held, if there is a leader; True if Raft was given any.

        settled_term: `ReadyLoop.settled_term`. ticked: time has passed since the last call; without it, what came back
        from a leader is tried only with another one, or in another term. O(1) if nothing is held.
        """
        outstanding, raft = self._outstanding, self._raft
        outstanding.settle(settled_term)
        if ticked:
            outstanding.expire(self._now())
        found = (raft.term, raft.lead)
        if not (outstanding.holds and raft.lead) or (found == self._tried and not ticked):
            return False
        self._tried = found
        held = outstanding.take_held()
        self.counters["proposals_again"] += len(held)
        self.propose(held)
        return True

    def unsent(self, messages: list[Message]) -> None:
        """Messages that surely were not sent: proposals among them are in no log, and are tried again in a tick."""
        if self.taps is not None:
            self.taps.dropped(len(messages))
        for message in messages:
            if message.type == MSG_PROP and not message.reject:
                self._outstanding.returned([entry.data for entry in message.entries], term_of(message))

    def step(self, messages: list[Message]) -> None:
        """Hands peers' messages to Raft, except for what no peer in its senses sends."""
        self.counters["messages_in"] += len(messages)
        if self.taps is not None:
            self.taps.received(messages)
        raft = self._raft
        for message in messages:
            if leads_too_far(message, raft.term):
                self._refuse_term(message)
                continue
            try:
                if message.type == MSG_PROP:
                    self._step_forwarded(message)
                elif message.type == REPORT:
                    if self.alarm is not None:
                        self.alarm.hear(message)
                elif message.type in (LEASE_ASK, LEASE_ANSWER):
                    self.leases(message)
                else:
                    raft.step(message)
            except (StepLocalMsgError, StepPeerNotFoundError) as error:
                self._tell(f"a message from node {message.from_} is ignored: {error}")

    def _step_forwarded(self, message: Message) -> None:
        raft = self._raft
        if self.changes(message):
            return
        if message.reject:
            heads, error = refused(message)
            if isinstance(error, NoLeader):
                self._outstanding.returned(heads, term_of(message))
            else:
                self._outstanding.refused(heads, term_of(message), error)
            return
        if raft.lead != self._node_id or raft.term != term_of(message):
            self._refuse(message, message.entries, NO_LEADER)
            return
        sifted = sift(message, self._now())
        self.counters["proposals_expired"] += sifted.late
        if sifted.unreadable:
            self._refuse_unreadable(message, sifted.unreadable)
        if not sifted.good:
            return
        try:
            raft.step(replace(message, entries=sifted.good, context=b""))
        except ProposalDroppedError:
            self._refuse(message, sifted.good, NO_LEADER if self._hands_over() else OVERLOADED)

    def _refuse_unreadable(self, message: Message, entries: list[Entry]) -> None:
        self.counters["proposals_unreadable"] += len(entries)
        why = fault(entries[0])
        self._tell(f"proposals from node {message.from_} are refused, because no node could apply them: {why}")
        self._refuse(message, entries, UNREADABLE)

    def _refuse(self, message: Message, entries: list[Entry], why: int) -> None:
        self._send([refusal(entries, self._node_id, message.from_, why, term_of(message))])

    def _refuse_term(self, message: Message) -> None:
        self.counters["messages_refused"] += 1
        self._tell(
            f"node {message.from_} is not heard: its term is beyond {self._raft.term:,} + {TERM_LEAD_MAX:,}, where "
            "no number of elections leads; its log is damaged or not of this cluster",
        )

    def _tell(self, sentence: str) -> None:
        self._complaints.say(f"node {self._node_id}: {sentence}")
