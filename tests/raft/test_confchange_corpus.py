"""The harness for scripts about configurations (raft/interaction/confchange_commands.py)."""

from __future__ import annotations

import random

import pytest

from raft.interaction import first_difference, outputs, parse_script
from raft.interaction.datadriven import ScriptError


def printed(text: str) -> list[str]:
    """What each command prints; "|" stands between a command and its input."""
    lines = [line.replace("|", "\n") + "\n----\n\n" for line in text.strip().split("\n")]
    return list(outputs(parse_script("a.txt", "".join(lines)), random.Random(0)))


def test_a_configuration_is_printed_with_the_progress_of_all() -> None:
    out = printed("simple|v1\nsimple|v2\nsimple|l3\nsimple|r2")
    assert out[-1] == "voters=(1) learners=(3)\n1: StateProbe match=0 next=1\n3: StateProbe match=0 next=2 learner\n"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("simple|v2 v3", "more than one voter changed without entering joint config"),
        ("simple|r1", "removed all voters"),
        ("simple|l1", "removed all voters"),
        ("enter-joint|r1", "removed all voters"),
        ("leave-joint|v1", "this command takes no input"),
        ("leave-joint", "can't leave a non-joint config"),
        ("simple|x1", "unknown input: x1"),
    ],
)
def test_a_change_that_is_refused_says_why_and_changes_nothing(line: str, why: str) -> None:
    """etcd's words; confchange/confchange.go."""
    out = printed(f"simple|v1\n{line}\nsimple")
    assert out[1] == why + "\n"
    assert out[2] == out[0]


def test_only_one_joint_change_is_under_way() -> None:
    out = printed("enter-joint|v1\nsimple|v1\nenter-joint autoleave=true|v2 v3\nenter-joint|v4\nsimple|v4\nleave-joint")
    assert out[0] == "can't make a zero-voter config joint\n"
    assert out[2].startswith("voters=(1 2 3)&&(1) autoleave\n")
    assert out[3:5] == ["config is already joint\n", "can't apply simple config change in joint config\n"]
    assert out[5].startswith("voters=(1 2 3)\n")


def test_an_unknown_command_is_named_with_its_place() -> None:
    script = parse_script("a.txt", "simple\nv1\n----\nvoters=(1)\n1: StateProbe match=0 next=1\n\nvote\n----\n")
    with pytest.raises(
        ScriptError, match=r"^a\.txt:7: unknown command 'vote'; in a confchange script, there are simple"
    ):
        first_difference(script, random.Random(0))
