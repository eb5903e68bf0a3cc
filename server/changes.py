"""Changes of the membership: from a client's wish to the entry, and the reasons why the leader takes none.

    any node      change ──▶ submit ──▶ is the leader elsewhere? ── MsgProp with one membership change ──▶ the leader
                    ▲          │ no                                                                          │
                    │          ▼                                                                             ▼
                    │       fault? ── a sentence: refused, or "again" ◀────────────────────────────────── fault?
                    │          │ none                                                                        │ none
                    └── applied here ◀──────────────────────── committed ◀──────────────────────────────── the entry

Invariants:

1. Only the leader judges, by what it has applied: one change at a time is under way, so it judges by what will be in force.
   A change is under way until the book has it: Raft has it in force earlier, and much earlier while the engine is flushed.
2. A change is known by its origin and sequence. It is submitted again until its outcome is known; the leader takes it again
   only if it isn't applied and none is under way, so it is applied once.
3. No change is taken that leaves the cluster without a majority that answers: a voter is added or removed only if enough
   voters are heard for the majority that is needed then, and who isn't heard doesn't count. A member that is new to it all
   comes as a learner, and becomes a voter when it has caught up (thesis 4.2.1). One exception: etcd's own call for it adds
   the second voter to a cluster of one, which then waits for it (server/v3/cluster_service.py).
4. A leader that is to be removed hands over first: then nobody waits for an election.

Follows etcd's server/etcdserver/server.go (AddMember, PromoteMember, mayRemoveMember: the strict reconfiguration check).
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Any, NamedTuple

from raft import ProposalDroppedError, RawNode
from raft.kinds import ProgressState
from raft.raftpb import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    ENTRY_CONF_CHANGE_V2,
    MSG_PROP,
    ConfChangeSingle,
    ConfChangeV2,
    DecodeError,
    Entry,
    Message,
)
from server.address_book import AddressBook, Book, BookChange, Record
from server.addresses import netloc, url_of
from server.errors import ChangeRefused, NodeError, NodeStopped, NoLeader, OutcomeUnknown
from server.forwards import HEAD_BYTES, term_of, with_deadlines
from server.reads import Waiter

__all__ = ["ADD", "LEARNER", "MOVE", "PROMOTE", "REMOVE", "Around", "Changes", "Wish"]

ADD, LEARNER, PROMOTE, REMOVE, MOVE = "add", "learner", "promote", "remove", "move"
AGAIN_S = 0.1  # until a change that the leader couldn't take just now is submitted again
UNHEARD_S = 1.0  # and one of which nothing is heard
VIEW_TIMEOUT_S = 1.0  # a node's thread that is away for longer is at a disk that doesn't answer
NODE_MAX = (1 << 53) - 1  # what every JSON reader takes
LAG_ENTRIES_MAX = 1000  # of a learner that may become a voter: what it gets within moments
REFUSED = 4  # the `reject_hint` of a MsgProp that refuses a membership change; server/forwards.py has those below
AGAIN = 5


class Wish(NamedTuple):
    """What somebody wants: one of the kinds above, for this node; where it is, if it is added or moves.

    alone: the only voter of a cluster, if it is asked, takes a second one without waiting for it, as etcd does (invariant 3).
    """

    kind: str
    node: int
    address: tuple[str, int] | None = None
    alone: bool = False

    def conf_change(self, book: Book, origin: int, sequence: int) -> ConfChangeV2:
        """The change that asks for it, as the book stands now."""
        member = book.members.get(self.node)
        records: tuple[Record, ...] = ()
        if self.address is not None:
            number = member.number if member is not None and self.kind == MOVE else 0
            records = (Record(self.node, *self.address, number, self.kind != MOVE),)
        learner = self.kind == LEARNER or (self.kind == MOVE and member is not None and member.learner)
        kind = CONF_CHANGE_REMOVE_NODE if self.kind == REMOVE else CONF_CHANGE_ADD_NODE
        if learner:
            kind = CONF_CHANGE_ADD_LEARNER_NODE
        context = BookChange(origin, sequence, records).encode()
        return ConfChangeV2(changes=(ConfChangeSingle(kind, self.node),), context=context)


class Again(NoLeader):
    """The leader can't take the change just now, and will soon."""


class Around(NamedTuple):
    """What Changes asks of the node around it.

    later: has a function called in the node's thread. send: hands messages to the transport. heard_lately: the members that
    were heard within an election timeout. now: seconds. stopping: whether the node's thread may have ended. applied_index: up
    to which the book is current.
    """

    later: Callable[[Callable[[], object]], None]
    send: Callable[[list[Message]], None]
    heard_lately: Callable[[], Collection[int]]
    now: Callable[[], float]
    stopping: Callable[[], bool]
    applied_index: Callable[[], int]


class Changes:
    """One node's part in changes of the membership. `change` and `view` are for any thread, the rest for the node's."""

    def __init__(self, node_id: int, origin: int, raft: RawNode, kept: AddressBook, around: Around) -> None:
        """`origin` tells this node's changes from those of all others, earlier runs of this node among them."""
        self._node_id = node_id
        self._origin = origin
        self._raft = raft
        self._kept = kept
        self._around = around
        self._sequences = itertools.count(1)
        self._waiting: dict[int, Waiter] = {}

    # ---- for any thread ---------------------------------------------------------------------------------------------

    def change(self, wish: Wish, timeout_s: float) -> int:
        """Has the members changed; returns the index of the entry once it is applied here.

        Raises ChangeRefused, NoLeader, NodeStopped: nothing was changed. Raises OutcomeUnknown when `timeout_s` has passed
        and it may be changed yet: GET /_/members tells.
        """
        sequence = next(self._sequences)
        around = self._around
        deadline = around.now() + timeout_s
        why: NodeError = NoLeader("no leader is known, so the members were not changed: try again soon")
        pause = threading.Event()
        unknown = OutcomeUnknown(
            f"the change was not applied within {timeout_s:g} s and may still be: GET /_/members tells"
        )
        while (left_s := deadline - around.now()) > 0:
            if around.stopping():  # it may have been submitted in an earlier round
                raise why if why is unknown else NodeStopped("the node has stopped")
            waiter = Waiter()
            around.later(lambda waiter=waiter: self._submit(sequence, wish, waiter, deadline))  # type: ignore[misc]
            try:
                index = waiter.wait(min(left_s, UNHEARD_S))
            except NoLeader as error:
                why = why if why is unknown else error
                pause.wait(min(AGAIN_S, max(0.0, left_s)))
                continue
            finally:
                around.later(lambda: self._waiting.pop(sequence, None))
            if index is not None:
                return index
            why = unknown
        raise why

    def view(self) -> dict[int, dict[str, Any]]:
        """What this node knows of each member if it leads: whether it is heard, and how many entries it lacks. {} elsewhere,
        and where the node's thread has no time to say. Waits VIEW_TIMEOUT_S at most."""
        seen: Future[dict[int, dict[str, Any]]] = Future()
        if not self._around.stopping():
            self._around.later(lambda: seen.set_result(self._view()))
            with contextlib.suppress(TimeoutError):
                return seen.result(VIEW_TIMEOUT_S)
        return {}

    # ---- for the node's thread --------------------------------------------------------------------------------------

    def _view(self) -> dict[int, dict[str, Any]]:
        status = self._raft.status()
        heard = {*self._around.heard_lately(), self._node_id}
        return {
            node: {
                "reachable": node in heard,
                "behind": max(0, status.commit - (status.commit if node == self._node_id else peer.match)),
                "caught_up": node == self._node_id or _caught_up(peer.state, status.commit - peer.match),
            }
            for node, peer in status.progress.items()
        }

    def _submit(self, sequence: int, wish: Wish, waiter: Waiter, deadline: float) -> None:
        known = self._kept.applied.get((self._origin, sequence))
        if known is not None:
            waiter.resolve(known)
            return
        self._waiting[sequence] = waiter
        raft = self._raft
        change = wish.conf_change(self._kept.book, self._origin, sequence)
        if raft.lead == self._node_id:
            refused = self._take(change, wish.alone)
            if refused is not None:
                waiter.resolve(refused)
        elif raft.lead:
            entry = Entry(0, 0, ENTRY_CONF_CHANGE_V2, change.encode())
            context = with_deadlines([deadline], raft.term)
            message = Message(MSG_PROP, to=raft.lead, from_=self._node_id, entries=[entry], context=context)
            self._around.send([message])
        else:
            waiter.resolve(NoLeader("no leader is known, so the members were not changed: try again soon"))

    def answer(self) -> None:
        """The book has changed: whoever waits for that is told."""
        for sequence, waiter in self._waiting.items():
            index = self._kept.applied.get((self._origin, sequence))
            if index is not None:
                waiter.resolve(index)

    def close(self, stopped: NodeStopped) -> None:
        """The node stops: nobody is told any more what became of a change."""
        for waiter in self._waiting.values():
            waiter.resolve(
                OutcomeUnknown(f"{stopped} while the change was on its way: GET /_/members of another node tells")
            )

    def forwarded(self, message: Message) -> bool:
        """Takes a MsgProp of a peer if it is about the membership; False if it isn't."""
        entries = message.entries
        if len(entries) != 1 or entries[0].type != ENTRY_CONF_CHANGE_V2:
            return False
        if message.reject:
            self._refused(message)
            return True
        raft = self._raft
        try:
            change = ConfChangeV2.decode(entries[0].data)
            BookChange.decode(change.context)
        except (DecodeError, ValueError):
            return False  # it is refused as what nobody could apply (server/forwards.py)
        if raft.lead != self._node_id or raft.term != term_of(message):
            refused: NodeError | None = Again("the node that was asked leads no more")
        else:
            refused = self._take(change)
        if refused is not None:
            told = change.context[:HEAD_BYTES] + str(refused).encode()[:1000]
            self._around.send(
                [
                    Message(
                        MSG_PROP, to=message.from_, from_=self._node_id, entries=[Entry(0, 0, ENTRY_CONF_CHANGE_V2, told)],
                        context=with_deadlines([], term_of(message)), reject=True,
                        reject_hint=AGAIN if isinstance(refused, Again) else REFUSED,
                    )
                ]
            )  # fmt: skip
        return True

    def _refused(self, message: Message) -> None:
        data = message.entries[0].data
        origin, sequence = int.from_bytes(data[:8], "little"), int.from_bytes(data[8:HEAD_BYTES], "little")
        waiter = self._waiting.get(sequence) if origin == self._origin else None
        if waiter is not None:
            sentence = data[HEAD_BYTES:].decode(errors="replace")
            waiter.resolve(Again(sentence) if message.reject_hint == AGAIN else ChangeRefused(sentence))

    def _take(self, change: ConfChangeV2, alone: bool = False) -> NodeError | None:
        """Proposes a change as the leader; why not, if not. alone: of the Wish."""
        head = BookChange.decode(change.context)
        if (head.origin, head.sequence) in self._kept.applied:
            return Again("it is applied here already, and will be there")
        raft = self._raft.raft
        if raft.pending_conf_index > min(raft.log.applied, self._around.applied_index()):
            return Again("another change of the members is under way: try again soon")
        if raft.lead_transferee:
            return Again("the leadership is being handed over: try again soon")
        try:
            fault = self._fault(change, head, alone)
            if fault:
                return ChangeRefused(fault)
            self._raft.propose_conf_change(change)
        except Again as again:
            return again
        except ProposalDroppedError:
            return Again("too much is waiting to be committed: try again soon")
        return None

    # ---- what the leader takes --------------------------------------------------------------------------------------

    def _fault(self, change: ConfChangeV2, head: BookChange, alone: bool) -> str:
        """Why this change must not be made, in a sentence; "" if it may. Raises Again."""
        if len(change.changes) != 1 or len(head.records) > 1:
            return "a change is about one member"
        [single] = change.changes
        node = single.node_id
        book = self._kept.book
        member = book.members.get(node)
        if not 1 <= node <= NODE_MAX:
            return f"a node's id is a number from 1 to {NODE_MAX}, not {node}"
        if single.type == CONF_CHANGE_REMOVE_NODE:
            return self._fault_of_removal(node, book)
        if single.type not in (CONF_CHANGE_ADD_NODE, CONF_CHANGE_ADD_LEARNER_NODE):
            return f"a change adds or removes, and this one is a {single.type}"
        learner = single.type == CONF_CHANGE_ADD_LEARNER_NODE
        if not head.records:
            return self._fault_of_promotion(node, book) if not learner else "a learner is added with its address"
        [record] = head.records
        if record.id != node or not record.host or not record.port:
            return f"node {node} is added with its own address"
        for other, each in book.members.items():
            if other != node and each.address == (record.host, record.port):
                return f"{url_of(*each.address)} is the address of node {other}"
        if record.admits:
            if member is not None:
                return f"there is a node {node} already, at {netloc(*member.address)}: remove it first, or choose another id"
            if learner or (alone and self._voters(book) == {self._node_id}):
                return ""
            return self._quorum_at_risk({*self._voters(book), node}, f"node {node}")
        if member is None:
            return f"there is no node {node}"
        if member.learner != learner or record.number != member.number:
            return f"node {node} has changed meanwhile: look at the members, and try again"
        return ""

    def _voters(self, book: Book) -> set[int]:
        return {node for node, member in book.members.items() if not member.learner}

    def _quorum_at_risk(self, voters: set[int], adds: str = "") -> str:
        """Why these voters would not be able to commit anything; "" if they are. Who isn't heard, doesn't count."""
        answer = voters & {*self._around.heard_lately(), self._node_id}
        quorum = len(voters) // 2 + 1
        if len(answer) >= quorum:
            return ""
        silent = ", ".join(f"node {node}" for node in sorted(voters - answer))
        advice = f"add {adds} as a learner, start it, and promote it then" if adds else "bring them back first"
        return (
            f"{quorum} of the {len(voters)} voters that there would be have to answer, and {silent} "
            f"{'is' if len(voters - answer) == 1 else 'are'} not heard: {advice}"
        )

    def _fault_of_removal(self, node: int, book: Book) -> str:
        if node not in book.members:
            at = book.removed.get(node)
            return f"node {node} was removed already, at entry {at}" if at is not None else f"there is no node {node}"
        voters = self._voters(book)
        if node not in voters:
            return ""
        if voters == {node}:
            return f"node {node} is the last voter: without it there is no cluster"
        fault = self._quorum_at_risk(voters - {node})
        if not fault and node == self._node_id:
            self._hand_over(voters - {node})
            raise Again(f"node {node} leads, and hands over before it is removed: try again soon")
        return fault

    def _hand_over(self, voters: set[int]) -> None:
        progress, heard = self._raft.status().progress, self._around.heard_lately()
        best = max((progress[each].match, each) for each in voters if each in progress and each in heard)
        self._raft.transfer_leadership(best[1])

    def _fault_of_promotion(self, node: int, book: Book) -> str:
        member = book.members.get(node)
        if member is None:
            return f"there is no node {node}"
        if not member.learner:
            return f"node {node} is a voter already"
        status = self._raft.status()
        peer = status.progress.get(node)
        if peer is None or node not in self._around.heard_lately():
            return f"node {node} is not heard: start it, and promote it when it has caught up"
        lag = status.commit - peer.match
        if not _caught_up(peer.state, lag):
            return f"node {node} has not caught up: it lacks {lag:,} entries"
        return self._quorum_at_risk({*self._voters(book), node})


def _caught_up(state: ProgressState, lag: int) -> bool:
    return state == ProgressState.REPLICATE and lag <= LAG_ENTRIES_MAX
