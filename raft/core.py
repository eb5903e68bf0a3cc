"""What a node is: its term, vote, role, log and timers, and the few moves that every role makes with them.

    role files                              raft.py
    election pre_vote follower leader … ──► Core ◄── Raft: takes a message, applies the rules of terms,
       functions of (core, message)                  and hands it to the function of the role

The role files know this class and no more; `Raft` knows them all. So the imports form no circle, and a role can be read,
tested, or replaced without the others.

Invariants
 1. `term` never decreases; `vote` changes once in a term at most.
 2. Nothing here happens by itself: time is `tick`, chance is `rng`, and messages leave through a Ready.
 3. What promises that something is on this node's disk (a vote, an acknowledgement, also those to itself) is put into
    messages_after_append. It is sent, or stepped if it is to this node, only after the driver has written the Ready in
    which it lies. A leader counts itself for a commit, and a candidate itself for its election, no earlier than that
    (etcd#14370: the leader of a cluster of one committed what a crash could still take back).

Follows etcd-io/raft: raft.go (raft, newRaft, reset, send, becomeFollower and the others).
"""

from __future__ import annotations

from raft import confchange
from raft.config import READ_ONLY_LEASE_BASED, Config
from raft.errors import RaftPanic
from raft.log import RaftLog
from raft.raftpb import (
    MSG_APP_RESP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_VOTE,
    MSG_VOTE_RESP,
    HardState,
    Message,
)
from raft.read_only import ReadOnly
from raft.state import (
    STATE_CANDIDATE,
    STATE_FOLLOWER,
    STATE_LEADER,
    STATE_PRE_CANDIDATE,
    ReadState,
    SoftState,
    StateType,
)
from raft.tracker import Progress, ProgressTracker, TrackerConfig
from raft.util import NO_LIMIT, NONE

__all__ = ["Core"]

_VOTES = frozenset((MSG_VOTE, MSG_VOTE_RESP, MSG_PRE_VOTE, MSG_PRE_VOTE_RESP))
_PROMISES = frozenset((MSG_APP_RESP, MSG_VOTE_RESP, MSG_PRE_VOTE_RESP))


class Core:
    """The state of one node. `Raft` adds the way of a message through it."""

    __slots__ = (
        "config",
        "election_elapsed",
        "heard_elapsed",
        "heartbeat_elapsed",
        "id",
        "lead",
        "lead_transferee",
        "log",
        "logger",
        "messages",
        "messages_after_append",
        "pending_conf_index",
        "pending_read_index_messages",
        "randomized_election_timeout",
        "read_only",
        "read_states",
        "state",
        "term",
        "tracker",
        "uncommitted_size",
        "vote",
    )

    def __init__(self, config: Config) -> None:
        """Starts, or starts again, from what config.storage holds. Raises `ValueError` for a bad configuration.

        The commit index is the largest that anything saved vouches for. The hard state may be older than the others,
        because a Ready that only raises the commit index isn't synced: a snapshot holds committed entries only, and
        the application has applied committed entries only.
        """
        config.validate()
        self.config = config
        self.id = config.id
        self.logger = config.logger
        hard_state, conf_state = config.storage.initial_state()
        # At least 1: with 0 the room for entries being applied would be used up before there are any.
        max_applying_size_bytes = max(1, config.max_committed_size_per_ready or config.max_size_per_msg)
        self.log = RaftLog(config.storage, max_applying_size_bytes, config.logger)
        self.tracker = ProgressTracker(config.max_inflight_msgs, config.max_inflight_bytes)
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.lead = NONE
        self.lead_transferee = NONE
        self.state: StateType = STATE_FOLLOWER
        self.messages: list[Message] = []
        self.messages_after_append: list[Message] = []
        self.read_states: list[ReadState] = []
        self.read_only = ReadOnly()
        self.pending_read_index_messages: list[Message] = []
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        # Ticks since a leader was last heard, in whatever term. A node that starts again may have promised its leader
        # something right before; a new one has promised nothing.
        self.heard_elapsed = 0 if hard_state.term else config.election_tick
        self.randomized_election_timeout = 0

        self.set_configuration(*confchange.restore(self.tracker, conf_state, self.log.last_index()))
        self.log.commit_to(hard_state.commit)
        if config.applied > self.log.applied:
            self.log.commit_to(config.applied)
            self.log.applied_to(config.applied, 0)
        self.become_follower(self.term, NONE)
        if self.logger is not None:
            self.logger.info(
                "newRaft %x [peers: [%s], term: %d, commit: %d, applied: %d, lastindex: %d, lastterm: %d]",
                *(self.id, ",".join(f"{node_id:x}" for node_id in self.tracker.voters.ids()), self.term),
                *(self.log.committed, self.log.applied, self.log.last_index(), self.log.last_term()),
            )

    def info(self, template: str, *args: object) -> None:
        """A log line, if somebody wants to see it. For what is rare; where messages are many, the caller looks itself."""
        if self.logger is not None:
            self.logger.info(template, *args)

    def soft_state(self) -> SoftState:
        return SoftState(self.lead, self.state)

    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.log.committed)

    def promotable(self) -> bool:
        """Whether this node may campaign: it is a voter, and its log is not about to be replaced by a snapshot."""
        progress = self.tracker.progress.get(self.id)
        return progress is not None and not progress.is_learner and self.log.unstable.snapshot is None

    def is_bound_by_lease(self) -> bool:
        """Whether a leader may count on this node for its lease reads: it was heard within the election timeout."""
        config = self.config
        return config.read_only_option == READ_ONLY_LEASE_BASED and self.heard_elapsed < config.election_tick

    # Roles.

    def become_follower(self, term: int, lead: int) -> None:
        """Follows `lead` in `term`; a `lead` of NONE (0) says that the leader of that term isn't known (yet).

        Requires: term ≥ self.term. What every change of role begins with is `reset`'s. Postcondition: `term`, `lead` and
        `state` (STATE_FOLLOWER) are these; a vote that was given in the same term is still there. O(nodes).
        """
        self.reset(term)
        self.lead = lead
        self.state = STATE_FOLLOWER
        self.info("%x became follower at term %d", self.id, self.term)

    def become_candidate(self) -> None:
        """Begins a campaign: the next term, and this node's own vote in it (paper section 5.2).

        What every change of role begins with is `reset`'s. Postcondition: `term` is one higher, `vote` is this node's
        id, `lead` is NONE, `state` is STATE_CANDIDATE. Nothing is sent. Raises `RaftPanic` on a leader: a leader that
        campaigns is a fault of the caller. O(nodes).
        """
        if self.state == STATE_LEADER:
            raise RaftPanic("a leader can't become a candidate")
        self.reset(self.term + 1)
        self.vote = self.id
        self.state = STATE_CANDIDATE
        self.info("%x became candidate at term %d", self.id, self.term)

    def become_pre_candidate(self) -> None:
        """The question before a campaign. Neither the term nor the vote changes: nothing is promised to anybody yet."""
        if self.state == STATE_LEADER:
            raise RaftPanic("a leader can't become a pre-candidate")
        self.tracker.reset_votes()
        # Its leader has been silent for an election timeout. If it kept the leader, it would refuse its vote to the
        # others, who ask for the same reason (etcd#9586).
        self.lead = NONE
        self.state = STATE_PRE_CANDIDATE
        if self.logger is not None:
            self.logger.info("%x became pre-candidate at term %d", self.id, self.term)

    def become_leader(self) -> None:
        """The role alone; `leader.take_over` opens the term with an entry."""
        if self.state == STATE_FOLLOWER:
            raise RaftPanic("a follower can't become the leader without an election")
        self.reset(self.term)
        self.lead = self.id
        self.state = STATE_LEADER
        own = self.tracker.progress[self.id]
        own.become_replicate()
        own.recent_active = True
        # Somewhere in the log there may be a membership change that isn't applied. Rather than look for it, allow none
        # until everything that is there now is applied. A change after that comes after this term's first entry, so it
        # can't be committed before that is (openraft#2051).
        self.pending_conf_index = self.log.last_index()

    def reset(self, term: int) -> None:
        """What every change of role does: forget the leader, the votes, the timers, and all that only a leader knows."""
        self.enter_term(term)
        self.restart_election_timer()
        self.lead = NONE
        self.lead_transferee = NONE
        self.heartbeat_elapsed = 0
        self.tracker.reset_votes()
        last = self.log.last_index()
        progress = self.tracker.progress
        for node_id, before in progress.items():
            match = last if node_id == self.id else 0
            progress[node_id] = self.tracker.new_progress(match, last + 1, before.is_learner)
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.read_only = ReadOnly()
        self.pending_read_index_messages = []

    def enter_term(self, term: int) -> None:
        """This node's term is `term` from here on; the vote belongs to the term in which it was given.

        Requires: term ≥ self.term (`Raft.settle_term` lets no older one through). Called with the current term as well:
        a candidate that follows the winner changes its role and not its term. O(1).
        """
        if self.term != term:
            self.term = term
            self.vote = NONE

    def restart_election_timer(self) -> None:
        """The election timer starts at 0, with a new timeout of a random length.

        `election_elapsed` counts the ticks, `randomized_election_timeout` is the number at which this node campaigns:
        from config.election_tick to 2 * config.election_tick - 1, each as likely as the others, drawn with config.rng, the
        only source of chance here. O(1).
        """
        self.election_elapsed = 0
        ticks = self.config.election_tick
        self.randomized_election_timeout = self.config.rng.randrange(ticks, 2 * ticks)

    def set_configuration(self, config: TrackerConfig, progress: dict[int, Progress]) -> None:
        """Who takes part from here on. What a leader has to do about it is membership.py's."""
        self.tracker.config, self.tracker.progress = config, progress
        if self.logger is not None:
            self.logger.info("%x switched to configuration %s", self.id, config)

    # Messages.

    def send(self, message: Message) -> None:
        """Hands a message out with the next Ready; those that promise something only once that is on disk.

        Fills in what is missing: the sender (`from_`), if it is NONE, and the term. Who sends anything about votes
        (`_VOTES`) has named the term that it is about; MsgProp and MsgReadIndex keep term 0, because they are passed on
        for others; everything else gets this node's term.

        A promise (`_PROMISES`: a vote, an acknowledgement) goes to `messages_after_append`, also one to this node
        itself: the driver sends, or delivers, these after the Ready in which they lie is on disk. All others go to
        `messages`, in the order of the calls. O(1).
        """
        if message.from_ == NONE:
            message.from_ = self.id
        kind = message.type
        if kind in _VOTES:
            assert message.term != 0, "a vote names its term"
        else:
            assert message.term == 0, "the term is filled in here"
            if kind not in (MSG_PROP, MSG_READ_INDEX):
                message.term = self.term
        if kind in _PROMISES:
            self.messages_after_append.append(message)
        else:
            assert message.to != self.id, "a message to this node itself must wait for the disk"
            self.messages.append(message)

    def increase_uncommitted_size(self, payload_bytes: int) -> bool:
        """Makes room for proposals, or refuses them. A first one always fits, and an empty one is never refused.

        Never refusing empty ones matters: a leader must be able to open its term, and to leave a joint configuration.
        """
        limit = self.config.max_uncommitted_entries_size or NO_LIMIT
        if self.uncommitted_size > 0 and payload_bytes > 0 and self.uncommitted_size + payload_bytes > limit:
            return False
        self.uncommitted_size += payload_bytes
        return True
