"""The paper's sections 5.1 to 5.4, and the test that holds the library to each of their sentences.

etcd's raft_paper_test.go has 26 tests, by section. Here they are with ours, which are held to exist: a reader who comes
from there, or from the paper, finds the place.

    5.1     terms               test_paper_5_1_terms.py
    5.2     elections           test_paper_5_2_elections.py
    5.3     replication         test_paper_5_3_replication.py
    5.4     safety              test_paper_5_4_safety.py
    6       membership          test_paper_6_membership.py, test_raft_membership.py
    7       snapshots           test_paper_7_snapshots.py, test_raft_snapshots.py
    8       reads               test_paper_8_reads.py, test_raft_reads.py
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SECTIONS = {
    "5.1": "test_paper_5_1_terms.py",
    "5.2": "test_paper_5_2_elections.py",
    "5.3": "test_paper_5_3_replication.py",
    "5.4": "test_paper_5_4_safety.py",
}

TABLE = [
    ("5.1", "FollowerUpdateTermFromMessage", "a_higher_term_makes_a_follower_of_it"),
    ("5.1", "CandidateUpdateTermFromMessage", "a_higher_term_makes_a_follower_of_it"),
    ("5.1", "LeaderUpdateTermFromMessage", "a_higher_term_makes_a_follower_of_it"),
    ("5.1", "RejectStaleTermMessage", "a_stale_term_changes_nothing"),
    ("5.2", "StartAsFollower", "nodes_start_as_followers"),
    ("5.2", "LeaderBcastBeat", "a_leader_sends_heartbeats_to_all"),
    ("5.2", "FollowerStartElection", "a_timeout_starts_an_election"),
    ("5.2", "CandidateStartNewElection", "a_timeout_starts_an_election"),
    ("5.2", "LeaderElectionInOneRoundRPC", "a_majority_of_votes_makes_the_leader"),
    ("5.2", "FollowerVote", "one_vote_in_a_term_first_come_first_served"),
    ("5.2", "CandidateFallback", "a_candidate_gives_way_to_a_leader_of_its_term_or_a_later_one"),
    ("5.2", "FollowerElectionTimeoutRandomized", "timeouts_are_random_in_their_interval"),
    ("5.2", "CandidateElectionTimeoutRandomized", "timeouts_are_random_in_their_interval"),
    ("5.2", "FollowersElectionTimeoutNonconflict", "random_timeouts_make_split_votes_rare"),
    ("5.2", "CandidatesElectionTimeoutNonconflict", "random_timeouts_make_split_votes_rare"),
    ("5.3", "LeaderStartReplication", "a_proposal_is_appended_and_sent_to_all"),
    ("5.3", "LeaderCommitEntry", "an_entry_is_committed_when_a_majority_has_it"),
    ("5.3", "LeaderAcknowledgeCommit", "an_entry_is_committed_when_a_majority_has_it"),
    ("5.3", "LeaderCommitPrecedingEntries", "committing_an_entry_commits_all_before_it"),
    ("5.3", "FollowerCommitEntry", "followers_apply_what_they_learn_to_be_committed_in_order"),
    ("5.3", "FollowerCheckMsgApp", "a_follower_refuses_what_does_not_follow_its_log"),
    ("5.3", "FollowerAppendEntries", "a_follower_deletes_only_what_conflicts"),
    ("5.3", "LeaderSyncFollowerLog", "the_leader_brings_every_log_of_figure_7_into_line"),
    ("5.4", "VoteRequest", "a_request_for_votes_tells_of_the_last_entry"),
    ("5.4", "Voter", "a_vote_goes_only_to_a_log_as_up_to_date_as_the_own"),
    ("5.4", "LeaderOnlyCommitsLogFromCurrentTerm", "only_entries_of_the_own_term_are_committed_by_counting"),
]
"""Section, etcd's test, ours."""


def test_the_table_has_all_of_etcds() -> None:
    assert len({etcds for _, etcds, _ in TABLE}) == len(TABLE) == 26


@pytest.mark.parametrize("section", SECTIONS)
def test_the_tests_of_a_section_are_there(section: str) -> None:
    """A test that is renamed is renamed in the table, too."""
    text = (Path(__file__).parent / SECTIONS[section]).read_text("utf-8")
    written = set(re.findall(r"^def test_(\w+)\(", text, flags=re.M))
    assert {ours for of, _, ours in TABLE if of == section} <= written
