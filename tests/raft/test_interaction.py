"""The harness for scripts (raft/interaction): the command line, the vocabulary, and what it refuses."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from raft.interaction import commands, first_difference, outputs, parse_script, without_log_lines
from raft.interaction.__main__ import main
from raft.interaction.datadriven import ScriptError

START = "add-nodes 3 voters=(1,2,3) index=2\n----\nok\n"
SILENT = (
    f"log-level none\n----\nok\n\n{START}\ncampaign 1\n----\nok\n\nstabilize\n----\nok\n\nlog-level info\n----\nok\n\n"
)


def printed(text: str) -> list[str]:
    """What each command of a script prints."""
    script = parse_script("a.txt", re.sub(r"$", "\n----\n", text.strip(), flags=re.M).replace("----\n", "----\n\n"))
    return list(outputs(script, random.Random(0)))


def after_an_election(text: str, options: str = "") -> list[str]:
    """What commands print once node 1 leads three nodes; nothing of how it came to that."""
    head = f"log-level none\nadd-nodes 3 voters=(1,2,3) index=2 {options}\ncampaign 1\nstabilize\nlog-level debug\n"
    return printed(head + text)[5:]


def test_a_script_whose_output_is_as_expected_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.txt"
    file.write_text(SILENT + 'raft-log 2\n----\n1/3 EntryNormal ""\n')
    assert main([str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: 6 commands, all as expected\n"


def test_the_first_difference_is_a_diff_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.txt"
    file.write_text(SILENT + 'raft-log 2\n----\n1/3 EntryNormal "x"\n\nstatus 9\n----\nnever reached\n')
    assert main([str(file)]) == 1
    assert capsys.readouterr().out.split("\n") == [
        f"{file}:21: raft-log 2",
        "--- expected",
        "+++ actual",
        "@@ -1 +1 @@",
        '-1/3 EntryNormal "x"',
        '+1/3 EntryNormal ""',
        "",
    ]


def test_all_files_are_run_and_the_worst_decides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, different, unknown = tmp_path / "good.txt", tmp_path / "different.txt", tmp_path / "unknown.txt"
    good.write_text("raft-state\n----\nok\n")
    different.write_text("raft-state\n----\n")
    unknown.write_text("raft-state\n----\nok\n\nraft-stat\n----\nok\n")
    assert main([str(good), str(different)]) == 1
    assert main([str(unknown), str(tmp_path / "none.txt"), str(different), str(good)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith(f"{unknown}:5: unknown command 'raft-stat'; there are _breakpoint, add-nodes, ")
    assert "No such file" in errors[1]


def test_rewriting_makes_a_script_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"# \xc3\xa9\n\nadd-nodes 1 voters=(1) index=3\n----\n\ncampaign 1\n----\nold\n\n# The end.\n")
    assert main(["--print", str(file)]) == 0
    shown = capsys.readouterr().out
    assert main(["--rewrite", str(file)]) == 0
    assert file.read_text("utf-8") == shown
    assert shown.startswith("# é\n\nadd-nodes 1 voters=(1) index=3\n----\nINFO 1 ")
    assert shown.endswith("\n\n# The end.\n")
    assert main([str(file)]) == 0


def test_log_lines_can_be_left_out_of_the_comparison() -> None:
    script = parse_script("a.txt", "add-nodes 1 voters=(1) index=3\n----\nINFO other words\n\ncampaign 1\n----\nok\n")
    assert first_difference(script, random.Random(0)) is not None
    assert first_difference(script, random.Random(0), log_lines=False) is None


def test_only_log_lines_are_left_out() -> None:
    text = "> 1 handling Ready\n  INFO 1 became leader\nDEBUG x\n  Messages:\n  WARNING 1\nok\n"
    assert without_log_lines(text) == "> 1 handling Ready\n  Messages:\n  WARNING 1\nok\n"
    assert without_log_lines("ok\n") == without_log_lines("INFO 1\n") == ""


def test_a_run_repeats_itself() -> None:
    text = "add-nodes 3 voters=(1,2,3) index=2\ntick-election 2\ntick-election 3\ntick-election 1\nstabilize"
    assert printed(text) == printed(text)


# The vocabulary. What the commands of etcd's corpus print is compared with that corpus; here is the rest.


def test_the_vocabulary_is_etcds_and_two_words_of_our_own() -> None:
    """reference: rafttest/interaction_env_handler.go has 22."""
    assert len(commands.COMMANDS) == 22 + 2
    assert commands.__doc__ is not None
    assert [name for name in commands.COMMANDS if name not in commands.__doc__] == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("campaign", "needs the number of a node"),
        ("campaign 4", "there is no node 4; there are 3"),
        ("campaign x", "expected the number of a node, found 'x'"),
        ("propose 1", "needs the data to propose"),
        ("add-nodes 1 voter=1", "knows no option voter="),
        ("add-nodes 1 prevote=maybe", "expected true or false, found 'maybe'"),
        ("add-nodes x", "expected a number, found 'x'"),
        ("stabilize 1 loglevel=none", "knows no option loglevel="),
        ("deliver-msgs 1 type=MsgNews", "unknown message type MsgNews"),
        ("deliver-msgs 1 drop=1", "can't both deliver and drop msgs to 1"),
        ("deliver-msgs 1 with=1", "knows no option with="),
        ("send-snapshot 1", "needs two nodes"),
        ("set-randomized-election-timeout 1", "needs timeout="),
        ("propose-conf-change 1 v2=true", "knows no option v2="),
    ],
)
def test_an_argument_without_meaning_is_named_with_its_place(line: str, why: str) -> None:
    with pytest.raises(ScriptError) as caught:
        printed(f"add-nodes 3 voters=(1,2,3) index=2\n{line}")
    assert re.match(rf"a\.txt:\d+: {line.split()[0]}: {re.escape(why)}", str(caught.value))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("add-nodes 1 voters=(1) index=1", "index must be specified as > 1 due to bootstrap"),
        ("add-nodes 1 voters=(1)", "index must be specified as > 1 due to bootstrap"),
        ("add-nodes 1 read-only=sometimes", 'invalid read-only option "sometimes"'),
        ("report-unreachable 1", "must specify exactly two node indexes: node on which to report, and reported node"),
        ("propose 2 x", "raft proposal dropped"),
        ("compact 1 1", "requested index is unavailable due to compaction"),
        ("log-level loud", "log levels must be either of [DEBUG INFO WARN ERROR FATAL NONE]"),
        ("propose-conf-change 1 transition=slow", "unknown transition slow"),
        ("propose-conf-change 1 v1=true", "v1 conf change can only have one operation and no transition"),
        ("process-append-thread 1", "no append work to perform"),
        ("process-apply-thread 1", "no apply work to perform"),
        ("deliver-msgs 1", "no messages"),
        ("deliver-msgs drop=(7)", "no messages"),
        ("raft-log 1", "log is empty: first index=3, last index=2"),
        ("status 1", "ok"),
        ("_breakpoint", "ok"),
    ],
)
def test_what_a_command_answers_where_there_is_nothing_to_do(line: str, text: str) -> None:
    """etcd's words: files of its corpus may depend on each."""
    assert printed(f"add-nodes 3 voters=(1,2,3) index=2\nlog-level error\n{line}")[-1] == text + "\n"


def test_none_silences_everything_but_errors() -> None:
    assert printed("log-level none\nadd-nodes 1 voters=(1) index=2\nraft-state\npropose 1 x")[1:] == [
        "ok\n",
        "ok\n",
        "raft proposal dropped\n",
    ]


def test_commands_in_lines_below_each_other_share_one_output() -> None:
    """etcd's scripts may write a preparation of several commands so. The first one's error ends it."""
    text = "log-level none\nadd-nodes 1 voters=(1) index=2\ncampaign 1\nstabilize\nlog-level debug\nraft-state\n----\n"
    text += "\npropose 1 a\npropose 1 b\nprocess-ready 1\n----\n\ncompact 1 9\nraft-state\n----\n"
    state, ready, error = outputs(parse_script("a.txt", text), random.Random(0))
    assert state == "1: StateLeader (Voter) Term:1 Lead:1\n"
    assert ready == 'Ready MustSync=true:\nEntries:\n1/4 EntryNormal "a"\n1/5 EntryNormal "b"\n'
    assert "can't be cut" in error
    assert "StateLeader" not in error


def test_a_level_for_one_command_ends_with_it() -> None:
    out = printed("log-level warn\nadd-nodes 1 voters=(1) index=2\ncampaign 1\nstabilize log-level=none\nraft-state")
    assert out[1:] == ["ok\n", "ok\n", "ok\n", "1: StateLeader (Voter) Term:1 Lead:1\n"]


def test_levels_let_pass_what_is_at_least_as_grave() -> None:
    assert printed("log-level error\nadd-nodes 1 voters=(1) index=2\ncampaign 1") == ["ok\n"] * 3
    assert printed("log-level INFO\nadd-nodes 1 voters=(1) index=2")[1].startswith("INFO 1 ")


def test_content_and_history_make_the_snapshot_that_is_sent() -> None:
    """The state machine appends; `send-snapshot` takes the newest."""
    out = printed(
        "log-level none\nadd-nodes 2 voters=(1,2) index=5 content=foo\ncampaign 1\nstabilize\npropose 1 bar\n"
        "stabilize\nlog-level info\nsend-snapshot 1 2\ndeliver-msgs 2"
    )
    line = (
        "1->2 MsgSnap Term:1 Log:0/0\n  Snapshot: Index:7 Term:1 ConfState:Voters:[1 2] VotersOutgoing:[] Learners:[] "
        "LearnersNext:[] AutoLeave:false\n"
    )
    assert out[-2] == line
    assert out[-1].startswith(line)


def test_messages_are_delivered_by_type_and_in_order() -> None:
    out = after_an_election(
        "propose 1 a\ntick-heartbeat 1\nprocess-ready 1\ndeliver-msgs 2 type=MsgHeartbeat\ndeliver-msgs 2 3"
    )
    assert out[-2] == "1->2 MsgHeartbeat Term:1 Log:0/0 Commit:3\n"
    assert [line[:12] for line in out[-1].splitlines()] == ["1->2 MsgApp ", "1->3 MsgApp ", "1->3 MsgHear"]


def test_several_nodes_have_a_heading_each() -> None:
    (out,) = after_an_election("process-ready 2 3")
    assert out == "> 2 handling Ready\n  <empty Ready>\n> 3 handling Ready\n  <empty Ready>\n"
    (out,) = after_an_election("process-append-thread 2 3")
    assert out.splitlines()[:2] == ["> 2 processing append thread", "  no append work to perform"]


def test_stabilizing_some_nodes_is_a_partition() -> None:
    out = after_an_election("propose 1 a\nstabilize 1 2 log-level=none\nraft-log 2\nraft-log 3")
    assert [text.count("\n") for text in out[-2:]] == [2, 1]


def test_a_restart_forgets_what_was_not_written() -> None:
    """Our own word: the proposal was in no Ready yet."""
    out = after_an_election("propose 1 lost\nrestart 1\nraft-state\nraft-log 1")
    assert "term: 1, commit: 3, applied: 3" in out[1]
    assert out[2].startswith("1: StateFollower (Voter) Term:1 Lead:0\n")
    assert out[3] == '1/3 EntryNormal ""\n'


def test_a_read_is_answered_with_the_index_at_which_it_may_be_done() -> None:
    """Our own word."""
    (_, out) = after_an_election("read-index 1 x\nstabilize")
    assert "ReadStates [{3 [120]}]" in out
