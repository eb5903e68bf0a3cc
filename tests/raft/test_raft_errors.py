"""Errors (raft/errors.py): which can be ignored, which mean ask again, and which stop the node."""

from __future__ import annotations

import pytest

import raft
from raft import errors


@pytest.mark.parametrize("name", errors.__all__)
def test_a_driver_finds_every_error_in_the_library_itself(name: str) -> None:
    assert getattr(raft, name) is getattr(errors, name)
    assert getattr(errors, name).__doc__


def test_what_stops_a_node_is_told_apart_from_what_does_not() -> None:
    """A driver that catches what may be ignored must not catch a panic by it."""
    panics = {name for name in errors.__all__ if issubclass(getattr(errors, name), errors.RaftPanic)}
    assert panics == {"RaftPanic", "LogLostError"}
    ignored = (errors.StepLocalMsgError, errors.StepPeerNotFoundError, errors.ProposalDroppedError)
    assert not any(issubclass(errors.RaftPanic, kind) for kind in ignored)
    assert not any(issubclass(kind, errors.RaftPanic) for kind in ignored)


def test_bytes_that_are_no_message_are_a_value_error() -> None:
    assert issubclass(errors.DecodeError, ValueError)
    assert not issubclass(errors.DecodeError, errors.RaftError)
