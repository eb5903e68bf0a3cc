"""Which disk each node has to come with: the book, a part of the replicated state, and the changes that are written in it.

    lost      node 3 comes with disk 7, and the book says disk 0: nobody exchanges messages of Raft with it
    readmit   entry 41, a change that makes node 3 a learner: the book says disk 7, readmitted at 41
    promote   entry 58, a change that makes it a voter again: the book says disk 7

A disk that is lost takes with it what its node has promised. So node 3 with disk 0 and node 3 with disk 7 are two nodes as
far as Raft's proofs go: one is taken out of the configuration, and another one is added. Raft knows ids only; the book
is what tells the two apart, and `may_talk` is where it is asked.

Invariants:

1. The book changes by applied entries only, so two nodes that have applied the same have the same book.
2. `version` is the index of the entry that changed it last. Of two books, the one of the higher version is the newer.
3. A node readmitted at entry i has everything that was committed when it asked once its log matches up to i: the leader
   that proposed entry i after it was asked has it in its log before i, or i doesn't commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from raft.kinds import ConfChangeType
from raft.raftpb import ENTRY_CONF_CHANGE_V2, ConfChangeSingle, ConfChangeV2, Entry
from raft.simulation.application import Application

__all__ = ["Book", "BookApplication", "Card", "Member", "may_talk", "promotion", "readmission"]


class Member(NamedTuple):
    """disk: the number of the disk that counts. since: the entry that readmitted it; 0 once it is what it was before.
    votes: whether it was a voter, and is to be one again."""

    disk: int = 0
    since: int = 0
    votes: bool = True


@dataclass(frozen=True)
class Book:
    """Node id → member. Who isn't in it has its first disk, 0. Never changed: `at` makes another one."""

    version: int = 0
    members: Mapping[int, Member] = field(default_factory=dict)

    def of(self, node_id: int) -> Member:
        """What the book says of a node."""
        return self.members.get(node_id, Member())

    def names(self, node_id: int, disk: int) -> bool:
        """Whether this is the disk that the node has to come with."""
        return self.of(node_id).disk == disk

    def readmitted(self) -> list[tuple[int, Member]]:
        """Those that are on their way back, by id."""
        return [(node_id, member) for node_id, member in sorted(self.members.items()) if member.since]

    def at(self, index: int, change: ConfChangeV2) -> Book:
        """The book after the change of entry `index`."""
        word, *numbers = change.context.split()
        node_id = change.changes[0].node_id
        before = self.of(node_id)
        if word == b"readmit":
            member = Member(int(numbers[0]), index, numbers[1] == b"1")
        elif before.disk == int(numbers[0]):
            member = Member(before.disk)
        else:
            return self
        return replace(self, version=index, members={**self.members, node_id: member})


def readmission(node_id: int, disk: int, votes: bool) -> ConfChangeV2:
    """The change that takes node `node_id` for a learner, with an empty disk of this number. votes: it was a voter."""
    single = ConfChangeSingle(ConfChangeType.ADD_LEARNER_NODE, node_id)
    return ConfChangeV2(changes=(single,), context=b"readmit %d %d" % (disk, votes))


def promotion(node_id: int, disk: int, votes: bool) -> ConfChangeV2:
    """The change that ends a readmission: the node is what it was before."""
    kind = ConfChangeType.ADD_NODE if votes else ConfChangeType.ADD_LEARNER_NODE
    return ConfChangeV2(changes=(ConfChangeSingle(kind, node_id),), context=b"promote %d" % disk)


class Card(NamedTuple):
    """What a node shows when it is met: who it is, and the book as applied there."""

    node_id: int
    disk: int
    book: Book


def may_talk(one: Card, other: Card) -> bool:
    """Whether the two may exchange messages of Raft: the newer book decides, for it is what the older one will be.

    A node whose book is older can't know yet that the other's disk was replaced; it learns so from the other itself. But
    only from one that votes again: as long as it is on its way back, it is heard only by those that have applied so.
    """
    newer, older = (one, other) if one.book.version >= other.book.version else (other, one)
    book = newer.book
    if not (book.names(newer.node_id, newer.disk) and book.names(older.node_id, older.disk)):
        return False
    return older.book.names(newer.node_id, newer.disk) or not book.of(newer.node_id).since


class BookApplication(Application):
    """The application with the book in its state, and so in its snapshots."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()

    def apply(self, entry: Entry) -> None:
        """Applies the next entry; a change that says so changes the book."""
        super().apply(entry)
        if entry.type == ENTRY_CONF_CHANGE_V2:
            change = ConfChangeV2.decode(entry.data)
            if change.context:
                self.book = self.book.at(entry.index, change)

    def snapshot(self) -> bytes:
        """The book in a line, then the state."""
        words = [
            f"{node_id}={member.disk},{member.since},{member.votes:d}" for node_id, member in self.book.members.items()
        ]
        return " ".join([str(self.book.version), *words]).encode() + b"\n" + super().snapshot()

    def install(self, data: bytes) -> None:
        """Replaces book and state by those of a snapshot."""
        line, _, rest = data.partition(b"\n")
        version, *words = line.decode().split()
        members = {}
        for word in words:
            node_id, _, text = word.partition("=")
            disk, since, votes = map(int, text.split(","))
            members[int(node_id)] = Member(disk, since, bool(votes))
        self.book = Book(int(version), members)
        super().install(rest)
