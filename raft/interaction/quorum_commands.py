"""The vocabulary of quorum scripts: what a majority, or a joint configuration of two, has acknowledged or decided.

    committed [cfg=(…)] [cfgj=(…)|zero] [idx=(…)]       what each voter has acknowledged; _ is one not heard from
    vote [cfg=(…)] [cfgj=(…)|zero] [votes=(…)]          y, n or _ for each

The values belong to the voters of cfg and then of cfgj, in order, each voter once. cfgj=zero is a joint configuration
whose second half is empty. Beside the answer, each command looks for contradictions and prints those that it finds: an
answer that differs by another way of counting, with the halves exchanged, with an empty half or with the same half
twice, or when a voter that is behind the answer falls back further.

Follows etcd-io/raft: quorum/datadriven_test.go and quorum/quick_test.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from raft.describe import describe_acknowledged, describe_index
from raft.interaction.datadriven import Directive, ScriptError
from raft.quorum import INFINITE_INDEX, JointConfig, MajorityConfig

__all__ = ["COMMANDS", "Quorum", "committed_by_counting"]

COMMANDS: Final = ("committed", "vote")

_VOTES: Final = {"y": True, "n": False, "_": None}


@dataclass(frozen=True, slots=True)
class _Question:
    """The arguments of one directive. `second` is None for a majority alone."""

    first: tuple[int, ...]
    second: tuple[int, ...] | None
    indexes: tuple[int | None, ...]
    votes: tuple[bool | None, ...]

    def voters(self) -> tuple[int, ...]:
        """Every voter once, in the order in which values are given."""
        return tuple(dict.fromkeys((*self.first, *(self.second or ()))))


def committed_by_counting(ids: Sequence[int], acknowledged: Mapping[int, int]) -> int:
    """The largest index that a majority has, found by counting for each index; O(n²), and without a sort."""
    if not ids:
        return INFINITE_INDEX
    quorum = len(ids) // 2 + 1
    known = [acknowledged.get(node_id, 0) for node_id in ids]
    return max((index for index in known if sum(other >= index for other in known) >= quorum), default=0)


class Quorum:
    """Answers the directives of one script; each stands for itself."""

    def run(self, directive: Directive) -> str:
        """The answer, with what contradicts it. Raises `ScriptError`."""
        question = _question(directive)
        values: Sequence[int | bool | None] = question.votes if directive.command == "vote" else question.indexes
        voters = question.voters()
        if len(voters) != len(values):
            given = " ".join("_" if value is None else str(value) for value in values)
            named = " ".join(map(str, sorted(voters)))
            return f"error: mismatched input (explicit or _) for voters map[{named}]: [{given}]"
        if directive.command == "vote":
            return _vote(question)
        return _committed(question)


def _question(directive: Directive) -> _Question:
    first: tuple[int, ...] = ()
    second: tuple[int, ...] | None = None
    indexes: tuple[int | None, ...] = ()
    votes: tuple[bool | None, ...] = ()
    if directive.command not in COMMANDS:
        raise ScriptError(
            f"{directive.where}: unknown command {directive.command!r}; in a quorum script, there are {', '.join(COMMANDS)}"
        )
    for argument in directive.arguments:
        values = argument.values
        try:
            if argument.key == "cfg":
                first = tuple(map(int, values))
            elif argument.key == "cfgj":
                second = () if values == ("zero",) else tuple(map(int, values))
            elif argument.key == "idx":
                indexes = tuple(None if value == "_" else int(value) for value in values)
            elif argument.key == "votes":
                votes = tuple(_VOTES[value] for value in values)
            else:
                raise ScriptError(f"{directive.where}: {directive.command}: knows no argument {argument.key}")
        except (KeyError, ValueError) as error:
            if isinstance(error, ScriptError):
                raise
            raise ScriptError(
                f"{directive.where}: {argument.key}=({', '.join(values)}) has a value of no meaning"
            ) from error
    return _Question(first, second, indexes, votes)


def _committed(question: _Question) -> str:
    known = {node_id: index for node_id, index in zip(question.voters(), question.indexes) if index is not None}
    first = MajorityConfig(question.first)
    if question.second is not None:
        second = MajorityConfig(question.second)
        index = JointConfig(first, second).committed_index(known)
        text = describe_acknowledged(sorted(question.voters()), known)
        exchanged = JointConfig(second, first).committed_index(known)
        if exchanged != index:
            text += f"{describe_index(exchanged)} <-- via symmetry\n"
        return f"{text}{describe_index(index)}\n"
    index = first.committed_index(known)
    others = [
        (committed_by_counting(first.ids, known), "via alternative computation"),
        (JointConfig(first, MajorityConfig()).committed_index(known), "via zero-joint quorum"),
        (JointConfig(first, first).committed_index(known), "via self-joint quorum"),
    ]
    for node_id in first:
        acknowledged = known.get(node_id, 0)
        if index > acknowledged > 0:
            # It is behind the answer, so it has no part in it, however far behind it is.
            for less in (acknowledged - 1, 0):
                answer = first.committed_index({**known, node_id: less})
                others.append((answer, f"overlaying {node_id}->{less}"))
    contradictions = "".join(f"{describe_index(answer)} <-- {why}\n" for answer, why in others if answer != index)
    return f"{describe_acknowledged(first.ids, known)}{contradictions}{describe_index(index)}\n"


def _vote(question: _Question) -> str:
    votes = {node_id: vote for node_id, vote in zip(question.voters(), question.votes) if vote is not None}
    first = MajorityConfig(question.first)
    if question.second is None:
        return f"{first.vote_result(votes)}\n"
    second = MajorityConfig(question.second)
    result = JointConfig(first, second).vote_result(votes)
    exchanged = JointConfig(second, first).vote_result(votes)
    contradiction = f"{exchanged} <-- via symmetry\n" if exchanged != result else ""
    return f"{contradiction}{result}\n"
