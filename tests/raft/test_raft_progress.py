"""One follower as its leader sees it (raft/tracker/progress.py): match and next, and the three states."""

from __future__ import annotations

import pytest

from raft.tracker import STATE_PROBE, STATE_REPLICATE, STATE_SNAPSHOT, Inflights, Progress, ProgressState


def make_progress(state: ProgressState, match: int = 3, next: int = 5, size: int = 4) -> Progress:
    progress = Progress(match, next, Inflights(size))
    progress.state = state
    return progress


@pytest.mark.parametrize(
    ("state", "paused", "expected"),
    [
        (STATE_PROBE, False, False),
        (STATE_PROBE, True, True),
        (STATE_REPLICATE, False, False),
        (STATE_REPLICATE, True, True),
        (STATE_SNAPSHOT, False, True),
    ],
)
def test_paused_is_a_flow_that_waits_or_a_snapshot(state: ProgressState, paused: bool, expected: bool) -> None:
    progress = make_progress(state)
    progress.msg_app_flow_paused = paused
    assert progress.is_paused() is expected


def test_match_only_grows() -> None:
    progress = make_progress(STATE_REPLICATE, match=3, next=5)
    assert not progress.maybe_update(2)
    assert not progress.maybe_update(3)
    assert progress.maybe_update(4)
    assert (progress.match, progress.next) == (4, 5)
    assert progress.maybe_update(9)
    assert (progress.match, progress.next) == (9, 10)


@pytest.mark.parametrize(
    ("state", "match", "next", "rejected", "hint", "accepted", "expected"),
    [
        (STATE_REPLICATE, 5, 10, 5, 5, False, 10),  # acknowledged since
        (STATE_REPLICATE, 5, 10, 4, 4, False, 10),
        (STATE_REPLICATE, 5, 10, 9, 9, True, 6),
        (STATE_PROBE, 0, 10, 5, 5, False, 10),  # answers an earlier probe
        (STATE_PROBE, 0, 10, 9, 2, True, 3),  # the hint saves probes
        (STATE_PROBE, 0, 10, 9, 9, True, 9),
        (STATE_PROBE, 5, 10, 9, 2, True, 6),  # never at or before match
        (STATE_PROBE, 0, 1, 0, 0, True, 1),
    ],
)
def test_a_refusal_steps_back_unless_it_is_old(
    state: ProgressState, match: int, next: int, rejected: int, hint: int, accepted: bool, expected: int
) -> None:
    progress = make_progress(state, match, next)
    assert progress.maybe_decrease(rejected, hint) is accepted
    assert (progress.match, progress.next) == (match, expected)


def test_probing_starts_behind_match_or_behind_the_snapshot() -> None:
    progress = make_progress(STATE_REPLICATE, match=3, next=9)
    progress.sent_commit = 8
    progress.become_probe()
    assert (progress.state, progress.next, progress.sent_commit) == (STATE_PROBE, 4, 3)
    progress.become_snapshot(10)
    assert (progress.state, progress.next, progress.pending_snapshot) == (STATE_SNAPSHOT, 11, 10)
    progress.become_probe()
    assert (progress.state, progress.next, progress.pending_snapshot) == (STATE_PROBE, 11, 0)


@pytest.mark.parametrize(
    ("commit", "sent_commit", "next", "expected"),
    [(5, 3, 9, True), (3, 3, 9, False), (9, 3, 4, False), (9, 3, 5, True)],
)
def test_a_commit_index_is_worth_a_message_if_it_is_new_and_of_use(
    commit: int, sent_commit: int, next: int, expected: bool
) -> None:
    """A follower with no entries after what it was told of can't commit any more, however far the leader is."""
    progress = make_progress(STATE_REPLICATE, match=2, next=next)
    progress.sent_commit = sent_commit
    assert progress.can_bump_commit(commit) is expected


@pytest.mark.parametrize("state", [STATE_PROBE, STATE_REPLICATE])
def test_an_answer_resumes_a_paused_flow(state: ProgressState) -> None:
    """Any news, of entries or of a refusal; what is old news leaves it paused."""
    progress = make_progress(state, match=3, next=5)
    progress.msg_app_flow_paused = True
    assert not progress.maybe_update(3)
    assert progress.is_paused()
    assert progress.maybe_update(4)
    assert not progress.is_paused()


def test_a_refused_probe_may_be_sent_again_at_once() -> None:
    progress = make_progress(STATE_PROBE, match=0, next=5)
    progress.msg_app_flow_paused = True
    assert progress.maybe_decrease(4, 2)
    assert not progress.is_paused()


def test_replicating_begins_behind_match() -> None:
    progress = make_progress(STATE_PROBE, match=3, next=9)
    progress.become_replicate()
    assert (progress.state, progress.match, progress.next) == (STATE_REPLICATE, 3, 4)


def test_every_change_of_state_empties_the_window() -> None:
    """What was under way says nothing about the state that begins."""
    progress = make_progress(STATE_PROBE, match=3)
    for change in (
        progress.become_replicate,
        lambda: progress.become_snapshot(9),
        progress.become_probe,
    ):
        progress.inflights.add(100, 1)
        progress.pending_snapshot = 0
        change()
        assert len(progress.inflights) == 0


@pytest.mark.parametrize(
    ("state", "count", "next", "inflight", "paused"),
    [
        (STATE_REPLICATE, 2, 6, 1, False),  # optimistic: the next message goes on from there
        (STATE_REPLICATE, 0, 4, 0, False),
        (STATE_PROBE, 2, 4, 0, True),  # one at a time
        (STATE_PROBE, 0, 4, 0, False),
    ],
)
def test_what_a_message_changes_depends_on_the_state(
    state: ProgressState, count: int, next: int, inflight: int, paused: bool
) -> None:
    progress = make_progress(state, match=3, next=4)
    progress.sent_entries(count, 10)
    assert (progress.next, len(progress.inflights), progress.is_paused()) == (next, inflight, paused)
