"""Which directory each member came with: what keeps out a node that has lost its own, or was given an older one.

Two nodes that meet tell each other who they are, and what they remember of all members. Each judges the other:

    the other says                                   what follows
    another cluster                                  refused, by both
    an id that isn't a member's, or one's own        refused
    it was let in by an entry not applied here yet   heard; it is called where it says that it is
    an id that was removed, or let in anew since     refused for good: it stops when it hears that
    a number that isn't the one remembered           refused: its directory isn't the one that has promised
    fewer starts than remembered, or another         refused: an older copy of its directory was put back
      session at the start that is remembered
    it remembers another number of me, or a later    refused, and I am kept out: I must not vote, campaign or
      start                                            acknowledge, for I don't know what I have promised
    none of that                                     heard; its number, its starts and its session are remembered on disk first

A node that is kept out stays so until it is started with the right directory: its own says so from then on, since those
who know better may be away at its next start. Who is refused isn't counted: nothing that it sends is read, and nothing
is sent to it.

Who is a member is what the address book (server/address_book.py) says at the index that is applied here. A node that is
behind may hear from a leader that it doesn't know yet: each one says which entry let it in, and whether that entry has
been applied here, this node knows. So a new member needs nobody but the leader to have heard of it.

Invariants:

1. What is remembered of a member is on disk before a message of its is read or sent.
2. A number, once remembered, is replaced only if a later entry has let in another directory of that id. A start is
   replaced only by a later one of a directory that knows it.
3. What members remember spreads: a member that has met another one tells those that have not. So a member that has lost its
   directory is refused also by those that it never talked to. Hearsay never replaces what a node has seen itself.

What can't be told: a member that nobody whom it can reach has ever met is a new member, whether it is or not (two nodes of
three that begin anew while the third, which knows better, is away). And an older copy of a directory is told only by those
that have met a start which came after the copy; if there was none, by the leader, which knows what was acknowledged (raft,
LogLostError).

For any thread. No input or output but through `remember`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from server.address_book import Book, Member, first_book
from server.addresses import netloc, parse_url
from server.config import Peers
from server.errors import WAY_OUT
from server.identity import Identity, Met

__all__ = ["Gone", "Hello", "Roster"]


class Gone(str):
    """A refusal that no later word takes back: the other was removed, and its directory takes no part any more."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a node says of itself when a connection begins.

    members: its first list, in words. known: invariant 3. past: what it drew at the starts that it remembers. address:
    where it is, "host:port", by what it has applied up to the index `applied`; "" if it doesn't say. leader: whom it
    follows, 0 for nobody. asks: its directory is empty, and it asks to be readmitted (server/readmission.py).
    """

    cluster_id: int
    node_id: int
    met: Met
    members: str = ""
    known: Mapping[int, Met] = field(default_factory=dict)
    past: Mapping[int, int] = field(default_factory=dict)
    address: str = ""
    applied: int = 0
    leader: int | None = None
    asks: bool = False


class Roster:
    """One node's memory of the members' directories, its own among them."""

    def __init__(
        self,
        identity: Identity,
        remember: Callable[[dict[int, Met]], None],
        keep_out: Callable[[str], None] | None = None,
        removed: Callable[[str], None] = lambda why: None,
        admit: Callable[[int], None] = lambda index: None,
    ) -> None:
        """identity: at this start. remember: writes to disk what is new, and that a member hears; returns when it is there.

        keep_out: the same for why this node is kept out. removed: called when this node hears that it was removed.
        admit: writes to disk which entry has let this node in anew.
        """
        self.cluster_id = identity.cluster_id
        self.node_id = identity.node_id
        self.kept_out = identity.kept_out  # why this node must not take part; "" if it may
        self._members = ", ".join(f"{node} at {address}" for node, address in identity.members.items())
        self._joined = identity.joined_addresses()
        self._past = identity.sessions
        self._me = Met(identity.number, identity.starts, identity.sessions[identity.starts], identity.admitted)
        self._heard = False
        self._book, self._applied = first_book(identity.addresses()), 0
        # where members say that they are, by what they have applied up to an index that isn't reached here
        self._elsewhere: dict[int, tuple[int, tuple[str, int]]] = {}
        self._met = {node: met for node, met in identity.met.items() if node != self.node_id}
        self._note_known()
        self._remember = remember
        self._keep_out = keep_out
        self._removed = removed
        self._admit = admit
        self.asked: Callable[[int, int], None] = lambda node, number: (
            None
        )  # a node asks to be readmitted with a directory
        self.asks = False  # whether this node asks to be readmitted
        self.leader: int | None = None  # whom this node follows
        self._leads: dict[int, int | None] = {}  # whom each of the others follows
        self._guard = threading.Lock()

    def _note_known(self) -> None:
        known = {**self._met, self.node_id: self._me}
        self._known = frozenset((node, met.admitted) for node, met in known.items())  # asked for with each frame

    def known(self) -> frozenset[tuple[int, int]]:
        """The directories that are known, this node's among them: whose each is, and which entry let it in."""
        return self._known

    def hello(self) -> Hello:
        """What this node says of itself now."""
        known = {**self._met, self.node_id: self._me}
        own = self.addresses().get(self.node_id)
        address = netloc(*own) if own is not None else ""
        return Hello(
            self.cluster_id,
            self.node_id,
            self._me,
            self._members,
            known,
            self._past,
            address,
            self._applied,
            self.leader,
            self.asks,
        )

    def leads(self) -> int:
        """The leader, as one of the others has said last; 0 if none of them has."""
        return next((leader for leader in self._leads.values() if leader), 0)

    # ---- who is a member --------------------------------------------------------------------------------------------

    @property
    def admitted(self) -> int:
        """The entry that let this directory in."""
        return self._me.admitted

    def follow(self, book: Book, applied_index: int) -> frozenset[int]:
        """Goes by this book, which counts at this index, from now on.

        Returns the ids whose directory of before is no member any more: connections with them are at an end.
        """
        with self._guard:
            before, self._book, self._applied = self._book.members, book, applied_index
            own = book.members.get(self.node_id)
            if own is not None and own.number == self._me.number and own.admitted > self._me.admitted:
                self._me = replace(self._me, admitted=own.admitted)
            self._met = {node: met for node, met in self._met.items() if self._is_the_one(node, met)}
            self._elsewhere = {node: said for node, said in self._elsewhere.items() if said[0] > applied_index}
            self._note_known()
        return frozenset(
            node
            for node, member in before.items()
            if node not in book.members or _directory(book.members[node]) != _directory(member)
        )

    def _is_the_one(self, node: int, met: Met) -> bool:
        """Whether this directory of a member is the one that counts here, or will be when more is applied."""
        member = self._book.members.get(node)
        if met.admitted > self._applied:
            return True
        return member is not None and met.admitted == member.admitted and member.number in (0, met.number)

    def addresses(self) -> Peers:
        """Where the members are, this node among them: by the book, or by their own word if they have applied more."""
        if self._applied < self._me.admitted and self._joined:
            known = self._joined
        else:
            known = {node: member.address for node, member in self._book.members.items() if member.host}
        return {**known, **{node: address for node, (_, address) in self._elsewhere.items()}}

    def removal(self) -> str:
        """That this node is no member any more, by the book; "" if it is one, or is still to be let in."""
        own = self._book.members.get(self.node_id)
        if self._applied < self._me.admitted or (own is not None and own.admitted <= self._me.admitted):
            return ""
        return self._says_removed(self.node_id)

    def leave(self, why: str) -> None:
        """A member has said that this node was removed."""
        self._removed(why)

    def _says_removed(self, node: int) -> Gone:
        member = self._book.members.get(node)
        if member is not None:
            when = f"; node {node} was let in anew at entry {member.admitted}, with another directory"
        else:
            at = self._book.removed.get(node)
            when = f" at entry {at}" if at is not None else ""
        return Gone(f"node {node} was removed from cluster {self.cluster_id:016x}{when}")

    # ---- judging ----------------------------------------------------------------------------------------------------

    def judge(self, hello: Hello) -> str:
        """Takes in what a node says of itself: "" if it may be heard, or a sentence that says why not; Gone, for good.

        What is new of it is on disk before "" is returned; that it can't be written is a reason, too.
        """
        with self._guard:
            why = self._stranger(hello)
            if why:
                return why
            self._leads = {**self._leads, hello.node_id: hello.leader}
            why = self._outsider(hello) or self._kept_out(hello) or self._changed(hello) or self._note(hello)
        if why and hello.asks and self._is_another(hello):
            self.asked(hello.node_id, hello.met.number)
        return why

    def _is_another(self, hello: Hello) -> bool:
        """Whether a member comes with another directory than the one that is known."""
        member, met = self._book.members.get(hello.node_id), self._met.get(hello.node_id)
        if member is None:
            return False
        return hello.met.number != (member.number or (met.number if met is not None else hello.met.number))

    def _stranger(self, hello: Hello) -> str:
        if hello.cluster_id != self.cluster_id:
            return (
                f"node {hello.node_id} is of cluster {hello.cluster_id:016x}, begun by the nodes {hello.members}, and "
                f"node {self.node_id} of cluster {self.cluster_id:016x}, begun by the nodes {self._members}: start both "
                "with the same --cluster and --cluster-token, each on its own directory of that cluster"
            )
        if hello.node_id == self.node_id:
            return f"a second node {self.node_id} is running: give each node its own --id and --data"
        return ""

    def _outsider(self, hello: Hello) -> str:
        """Whether the other is no member, by the book."""
        node, met = hello.node_id, hello.met
        member = self._book.members.get(node)
        if met.admitted > self._applied:
            return ""
        if member is None:
            if met.admitted or node in self._book.removed:
                return self._says_removed(node)
            return f"node {node} is not a member of cluster {self.cluster_id:016x}"
        if member.number:
            if member.number == met.number:
                return ""
            return (
                f"node {node} is a member with directory {member.number:016x}, and comes with {met.number:016x}: it must "
                f"not vote and is not counted, unless it is empty and the leader readmits it; {WAY_OUT}"
            )
        if met.admitted < member.admitted:
            return self._says_removed(node)
        if met.admitted > member.admitted:
            return f"node {node} says that entry {met.admitted} let it in, and here it was entry {member.admitted}"
        return ""

    def _kept_out(self, hello: Hello) -> str:
        """Whether the other remembers another directory of this node."""
        remembered = hello.known.get(self.node_id)
        if remembered is not None and remembered.number == self._me.number:
            why = self._let_in(remembered.admitted)
            if why:
                return why
        if remembered is not None and remembered.admitted < self._me.admitted:
            remembered = None  # it is behind, and remembers the directory that this one has replaced
        why = _difference(self.node_id, remembered, self._me, self._past) if remembered is not None else ""
        if why and not self.kept_out:
            self.kept_out = f"node {hello.node_id} remembers that {why}"
            # a member that has lost its own directory isn't a witness whose word outlives a restart
            if self._keep_out is not None and not self._changed(hello):
                with contextlib.suppress(OSError):  # the node is kept out at this start in any case
                    self._keep_out(self.kept_out)
        return self.kept_out

    def _let_in(self, admitted: int) -> str:
        """A later entry has let this directory in, whatever others remember: that is on disk before it takes part."""
        if admitted > self._me.admitted:
            try:
                self._admit(admitted)
            except OSError as error:
                return f"node {self.node_id} can't write down that entry {admitted} has let it in: {error}"
            self._me = replace(self._me, admitted=admitted)
            self._note_known()
            self.kept_out, self.asks = "", False
        return ""

    def _changed(self, hello: Hello) -> str:
        remembered = self._met.get(hello.node_id)
        if remembered is None or remembered.admitted < self._admitted(hello):
            return ""
        return _difference(hello.node_id, remembered, hello.met, hello.past)

    def _admitted(self, hello: Hello) -> int:
        """The entry that let the other in; the book knows it also of one that hasn't heard of it yet."""
        member = self._book.members.get(hello.node_id)
        known = member.admitted if member is not None and member.number == hello.met.number else 0
        return max(hello.met.admitted, known)

    def _note(self, hello: Hello) -> str:
        """Remembers the other, and those whom it knows and this node does not."""
        told = {node: met for node, met in hello.known.items() if node in self._book.members and node not in self._met}
        new = {node: met for node, met in told.items() if node != self.node_id and self._is_the_one(node, met)}
        new.pop(hello.node_id, None)
        met = replace(hello.met, admitted=self._admitted(hello))
        if self._met.get(hello.node_id) != met:
            new[hello.node_id] = met
        if new or not self._heard:
            try:
                self._remember(new)
            except OSError as error:
                return (
                    f"node {self.node_id} can't write down with which directory node {hello.node_id} came: {error}; "
                    "until it can, it hears nobody who is new"
                )
            self._met = {**self._met, **new}
            self._note_known()
            self._heard = True
        self._note_address(hello)
        return ""

    def _note_address(self, hello: Hello) -> None:
        """Where the other is, if it knows that better than the book here."""
        member = self._book.members.get(hello.node_id)
        with contextlib.suppress(ValueError):
            address = parse_url(f"http://{hello.address}")
            if hello.applied > self._applied and (member is None or member.address != address):
                self._elsewhere = {**self._elsewhere, hello.node_id: (hello.applied, address)}


def _directory(member: Member) -> tuple[int, int]:
    return member.admitted, member.number


def _difference(node: int, remembered: Met, met: Met, past: Mapping[int, int]) -> str:
    """Why `met` can't be the directory that is remembered, as it goes on; "" if it can."""
    if met.number != remembered.number:
        return (
            f"node {node} came with directory {remembered.number:016x}, and now it comes with {met.number:016x}, which "
            f"doesn't know what node {node} has promised: it must not vote and is not counted, unless it is empty and the "
            f"leader readmits it; {WAY_OUT}"
        )
    if past.get(remembered.starts) != remembered.session:
        return (
            f"node {node} was met at start {remembered.starts} of its directory, and now it comes with start "
            f"{met.starts} and doesn't know that one: an older copy was put back, which doesn't know what node {node} has "
            f"promised since: it must not vote and is not counted; {WAY_OUT}"
        )
    return ""
