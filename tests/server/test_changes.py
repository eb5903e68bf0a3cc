"""Changes of the membership, one Changes at a time: what a leader judges by, and what is said of a node that stops."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from server.address_book import AddressBook, first_book
from server.changes import REMOVE, Around, Changes, Wish
from server.errors import NodeStopped, NoLeader, OutcomeUnknown


class Leader:
    """Node 2 leads nodes 1 and 2, and its book is the first one. The node's thread is `later`, at once."""

    def __init__(self, later=None):
        self.applied_index = 0
        self.stops = False
        self.proposed = []
        self.in_thread = False
        log = SimpleNamespace(applied=0)
        core = SimpleNamespace(pending_conf_index=0, lead_transferee=0, log=log)
        self.raft = SimpleNamespace(
            lead=2, term=3, raft=core, propose_conf_change=self.proposed.append, status=self.status
        )
        around = Around(
            later or self.later,
            lambda messages: None,
            lambda: {1, 2},
            lambda: 0.0 if not self.proposed else 10.0,  # the time of a call is up once something was proposed
            lambda: self.stops,
            lambda: self.applied_index,
        )
        book = first_book({1: ("127.0.0.1", 1), 2: ("127.0.0.1", 2)})
        self.changes = Changes(2, 7, self.raft, AddressBook(book), around)  # type: ignore[arg-type]

    def later(self, call):
        self.in_thread = True
        call()
        self.in_thread = False

    def status(self):
        assert self.in_thread, "Raft is read in the node's thread only"
        return SimpleNamespace(commit=9, progress={})


def test_a_change_that_is_in_force_but_not_in_the_book_is_still_under_way():
    """While an engine is flushed nothing is applied. Judged by the book of before, a second removal takes the last voter."""
    leader = Leader()
    leader.raft.raft.pending_conf_index = leader.raft.raft.log.applied = 5  # node 1's removal: in force, as Raft has it
    leader.applied_index = 4
    ticks = iter(range(100))
    leader.changes._around = leader.changes._around._replace(now=lambda: next(ticks))
    with pytest.raises(NoLeader, match="another change of the members is under way"):
        leader.changes.change(Wish(REMOVE, 1), 3)
    assert not leader.proposed
    leader.applied_index = 5
    with pytest.raises(OutcomeUnknown):
        leader.changes.change(Wish(REMOVE, 1), 2)
    assert leader.proposed


def test_a_change_that_was_handed_in_before_the_node_stopped_is_unknown():
    """A client that is told that nothing was done asks the next node, and is refused what it has done itself."""
    leader = Leader()

    def propose_and_stop(change):
        leader.proposed.append(change)
        leader.stops = True

    leader.raft.propose_conf_change = propose_and_stop
    leader.changes._around = leader.changes._around._replace(now=lambda: 0.0)
    with pytest.raises(OutcomeUnknown):
        leader.changes.change(Wish(REMOVE, 1), 0.05)
    assert leader.proposed
    with pytest.raises(NodeStopped):
        leader.changes.change(Wish(REMOVE, 1), 0.05)


def test_the_leaders_view_is_made_in_the_nodes_thread():
    leader = Leader()
    assert leader.changes.view() == {}
    leader.stops = True
    assert leader.changes.view() == {}
