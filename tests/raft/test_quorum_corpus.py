"""The harness for quorum scripts (raft/interaction/quorum_commands.py), and the checks that it makes beside the answer."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

import pytest

from raft.interaction import first_difference, parse_script
from raft.interaction.datadriven import ScriptError
from raft.interaction.quorum_commands import Quorum, committed_by_counting
from raft.quorum import JointConfig, MajorityConfig


def ask(line: str) -> str:
    (directive,) = parse_script("a.txt", f"{line}\n----\n").directives
    return Quorum().run(directive)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("committed", "<empty majority quorum>∞\n"),
        ("committed cfg=(1) idx=(12)", "     idx\n>     12    (id=1)\n12\n"),
        ("committed cfg=(1,2,3) cfgj=zero idx=(8,9,_)", "       idx\nx>       8    (id=1)\nxx>      9    (id=2)\n?        0    (id=3)\n8\n"),
        ("committed cfg=(1,2) cfgj=(2,3) idx=(8,9,5)", "       idx\nx>       8    (id=1)\nxx>      9    (id=2)\n>        5    (id=3)\n5\n"),
        ("vote cfg=(1,2,3) votes=(y,n,_)", "VotePending\n"),
        ("vote cfg=(1,2,3) cfgj=(3,4) votes=(y,y,n,y)", "VoteLost\n"),
        ("vote cfg=(1,2) votes=(y)", "error: mismatched input (explicit or _) for voters map[1 2]: [True]"),
    ],
)  # fmt: skip
def test_a_question_has_an_answer_and_a_picture(line: str, answer: str) -> None:
    assert ask(line) == answer


@pytest.mark.parametrize("line", ["count cfg=(1)", "vote cfg=(1) votes=(x)", "vote cfg=(a)", "vote of=(1)"])
def test_what_is_no_question_is_named_with_its_place(line: str) -> None:
    with pytest.raises(ScriptError, match=r"^a\.txt:1: "):
        ask(line)


def test_the_first_command_tells_the_vocabulary() -> None:
    script = parse_script("a.txt", "vote cfg=(1) votes=(y)\n----\nVoteWon\n\ncampaign 1\n----\n")
    with pytest.raises(ScriptError, match="in a quorum script, there are committed, vote"):
        first_difference(script, random.Random(0))


def test_an_answer_that_contradicts_another_way_of_counting_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quorum that takes the middle one place too high."""

    def too_high(self: MajorityConfig, acknowledged: Mapping[int, int]) -> int:
        return sorted(acknowledged.get(node_id, 0) for node_id in self.ids or (1,))[len(self.ids) // 2]

    monkeypatch.setattr(MajorityConfig, "committed_index", too_high)
    assert "5 <-- via alternative computation\n" in ask("committed cfg=(1,2) idx=(5,9)")


def test_counting_and_sorting_agree(rng: random.Random) -> None:
    """etcd's quick_test.go: two ways to the same index, for any majority."""
    for _ in range(2_000):
        ids: Iterable[int] = rng.sample(range(1, 12), rng.randint(0, 7))
        known = {node_id: rng.randint(0, 5) for node_id in ids if rng.random() < 0.8}
        config = MajorityConfig(ids)
        index = config.committed_index(known)
        assert index == committed_by_counting(config.ids, known)
        assert index == JointConfig(config, config).committed_index(known)
