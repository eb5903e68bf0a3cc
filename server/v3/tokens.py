"""Tokens: what a client shows in place of its password, for 300 seconds, and 300 more with each use.

    authenticate ──▶ password checked ──▶ 16 random letters ──▶ their SHA-256, through Raft ──▶ in every node's table
                                                 │                         entry 42
                                                 └──▶ the client is told  AbCdEfGhIjKlMnOp.42

The form is that of etcd's simple tokens: the letters, a dot, the index of the entry that made it. By the index a node that
is late knows that it has to wait, and doesn't say "invalid" of a token that is only new.

Invariants:

1. A token is valid on every node, as its entry is applied there; its time runs on each node for itself, by that node's
   clock, and begins anew with each use there. So a client that stays with one node keeps it, and one that comes back to
   another after 300 s has to authenticate again.
2. Nothing but the client has the token itself. The log, and with it every node's disk, has a digest of it. (etcd's log has
   the letters.)
3. A token ends with what it was given for: it holds the password record against which it was given, and is worth nothing
   once the user's record is another one, or the user is gone. So no list has to be searched when a password changes, and
   a node that learns of the change by a snapshot knows it, too.
4. The table is bounded. What goes is the token that was used longest ago.

The table is in memory only. A node that restarts knows no tokens: those of the entries that its log has then are of before,
and not assigned when it applies them again (`restart`), because their time may have ended long ago. Its clients authenticate
anew, which etcd's clients do by themselves when a token is refused. (etcd forgets them at a restart, too, but for those of the
entries that its backend hadn't committed.)

Left out: etcd's JSON Web Tokens, which need a library for their signatures. Follows etcd's server/auth/simple_token.go.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import threading
from collections.abc import Callable
from typing import NamedTuple

from server.limits import TOKENS_MAX

__all__ = ["TOKEN_S", "Held", "Tokens", "digest_of", "index_of", "new_letters"]

TOKEN_S = 300.0
LETTERS = 16  # of 52: 91 bits, which nobody guesses

_TOKEN = re.compile(r"([A-Za-z]{1,64})\.([0-9]{1,19})")


class Held(NamedTuple):
    """Whose a token is, and the password record against which it was given."""

    username: str
    password: bytes


class _Token(NamedTuple):
    held: Held
    until: float  # seconds, by the clock of the table


def new_letters() -> str:
    """The secret part of a new token."""
    return "".join(secrets.choice(string.ascii_letters) for _ in range(LETTERS))


def digest_of(letters: str) -> str:
    """What goes through Raft in place of the letters. One round of SHA-256 is enough, as they are random."""
    return hashlib.sha256(letters.encode()).hexdigest()


def index_of(token: str) -> int | None:
    """The index in a token: that of the entry that made it; None if this can't be a token."""
    found = _TOKEN.fullmatch(token)
    return None if found is None else int(found[2])


class Tokens:
    """The table of one node. For any thread."""

    def __init__(self, now: Callable[[], float], most: int = TOKENS_MAX) -> None:
        """now: seconds, by a clock that never goes back."""
        self._now = now
        self._most = most
        self._guard = threading.Lock()
        self._restarted = 0  # index of the last entry that was in the log then
        self._tokens: dict[tuple[str, int], _Token] = {}  # by digest and index; the one that ends first comes first

    def __len__(self) -> int:
        return len(self._tokens)

    def restart(self, index: int) -> None:
        """The node starts, and its log goes as far as this index: tokens of these entries were given before."""
        self._restarted = index

    def assign(self, digest: str, index: int, held: Held) -> None:
        """Adds the token whose entry has this index, unless it was given before the node's start. O(1), and O(those that have
        ended)."""
        if index <= self._restarted:
            return
        with self._guard:
            self._sweep()
            self._tokens[digest, index] = _Token(held, self._now() + TOKEN_S)
            while len(self._tokens) > self._most:
                del self._tokens[next(iter(self._tokens))]

    def find(self, token: str) -> Held | None:
        """Whose a token is, and gives it its whole time again; None if it isn't one, or has ended. O(1)."""
        found = _TOKEN.fullmatch(token)
        if found is None:
            return None
        key = digest_of(found[1]), int(found[2])
        with self._guard:
            self._sweep()
            known = self._tokens.pop(key, None)
            if known is None:
                return None
            self._tokens[key] = known._replace(until=self._now() + TOKEN_S)
            return known.held

    def clear(self) -> None:
        """Ends all of them: authentication was turned off."""
        with self._guard:
            self._tokens.clear()

    def _sweep(self) -> None:
        now = self._now()
        while self._tokens:
            first = next(iter(self._tokens))
            if self._tokens[first].until > now:
                return
            del self._tokens[first]
