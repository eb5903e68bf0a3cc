"""One follower, as its leader sees it.

      1        match             next            last
      ├──────────┼─────────────────┼───────────────┤
       known to    sent (replicate)   still to send
       be there    or guessed (probe)

Invariants
 1. match < next. match only grows while the leader leads (paper section 5.3; it is what the commit rule counts).
 2. In PROBE, next is a guess, and one message is under way at most. In REPLICATE, everything before next was sent. In
    SNAPSHOT, next == pending_snapshot + 1.
 3. sent_commit ≤ next - 1 after every step back: what may have been lost is told again.

Follows etcd-io/raft: tracker/progress.go.
"""

from __future__ import annotations

from raft.tracker.inflights import Inflights
from raft.tracker.state import STATE_PROBE, STATE_REPLICATE, STATE_SNAPSHOT, ProgressState

__all__ = ["Progress"]


class Progress:
    """match, next, and the flow of messages to one follower (the leader has one for itself, too). All methods O(1)."""

    __slots__ = (
        "inflights",
        "is_learner",
        "match",
        "msg_app_flow_paused",
        "next",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(self, match: int, next: int, inflights: Inflights, is_learner: bool = False) -> None:
        self.match = match
        self.next = next
        self.inflights = inflights
        self.is_learner = is_learner
        self.state: ProgressState = STATE_PROBE
        self.pending_snapshot = 0
        self.recent_active = False
        self.msg_app_flow_paused = False
        self.sent_commit = 0

    def _reset_state(self, state: ProgressState) -> None:
        self.msg_app_flow_paused = False
        self.pending_snapshot = 0
        self.state = state
        self.inflights.reset()

    def become_probe(self) -> None:
        """To PROBE. Coming from SNAPSHOT, whose snapshot may have arrived, the guess is the entry after it."""
        behind_snapshot = self.pending_snapshot + 1 if self.state == STATE_SNAPSHOT else 0
        self._reset_state(STATE_PROBE)
        self.next = max(self.match + 1, behind_snapshot)
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        """To REPLICATE, from the entry after match."""
        self._reset_state(STATE_REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """To SNAPSHOT: one at `index` is being sent."""
        self._reset_state(STATE_SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def sent_entries(self, count: int, size_bytes: int) -> None:
        """A MsgApp with `count` entries was sent, starting at next; moves next (REPLICATE) and pauses the flow."""
        if self.state == STATE_REPLICATE:
            if count > 0:
                self.next += count
                self.inflights.add(self.next - 1, size_bytes)
            # A message that fills the window, or goes out in spite of a full one, is a probe: none follows until the
            # follower answers it or a heartbeat (etcd#14633).
            self.msg_app_flow_paused = self.inflights.full()
        elif count > 0:
            self.msg_app_flow_paused = True

    def can_bump_commit(self, commit: int) -> bool:
        """Whether an empty message would tell the follower of a commit index that it can use and hasn't been told."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def maybe_update(self, index: int) -> bool:
        """The follower has acknowledged everything up to `index`. False, and nothing changes, if that is old news.

        Old is what isn't after `match`: answers overtake each other. Else `match` is `index`, `next` is at least the entry
        after it (it may be further: entries are sent ahead of the answers), the flow isn't paused any more
        (`msg_app_flow_paused`), and the answer is True. O(1).
        """
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.msg_app_flow_paused = False
        return True

    def maybe_decrease(self, rejected: int, match_hint: int) -> bool:
        """The follower has refused entries that follow entry `rejected`; match_hint is the last that it may share.

        False, and nothing changes, if that is old news:
          in STATE_REPLICATE    if `rejected` isn't after `match`: that was acknowledged since
          in any other state    if `rejected` isn't next - 1: a probe is sent after that entry, so this answers another one
        Else `next` steps back, and the answer is True:
          in STATE_REPLICATE    to the entry after `match`, whatever the hint says: up to there it is known
          in any other state    to the entry after match_hint, but by one entry at least (to `rejected` at most), and
                                never to `match` or before it; and the flow isn't paused any more (msg_app_flow_paused)
        In both `sent_commit` (the commit index that it was last told) is next - 1 at most from then on, because what told
        it more may be lost. O(1).
        """
        if self.state == STATE_REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            if rejected != self.next - 1:
                return False
            self.next = max(min(rejected, match_hint + 1), self.match + 1)
            self.msg_app_flow_paused = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True

    def is_paused(self) -> bool:
        """Whether nothing may be sent now."""
        return self.state == STATE_SNAPSHOT or self.msg_app_flow_paused

    def __str__(self) -> str:
        text = f"{self.state} match={self.match} next={self.next}"
        if self.is_learner:
            text += " learner"
        if self.is_paused():
            text += " paused"
        if self.pending_snapshot:
            text += f" pendingSnap={self.pending_snapshot}"
        if not self.recent_active:
            text += " inactive"
        if len(self.inflights):
            text += f" inflight={len(self.inflights)}" + ("[full]" if self.inflights.full() else "")
        return text
