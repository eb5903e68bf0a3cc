"""Passwords: what is kept of one is a record that tells it only to who guesses it, and each guess costs 16 MiB and 30 ms.

    0  1   version      1: scrypt
    1  1   log2 of N    14
    2  1   r            8
    3  1   p            1
    4  16  salt
    20 32  scrypt(password, salt, N, r, p)

Invariants:

1. A record is made, and a password checked, in the thread of the connection that asks: never while an entry is applied, never
   in the node's thread. What goes through Raft is the record.
2. At most PASSWORD_CHECKS_MAX at a time: others wait for their turn, and after TURN_S are told that there are too
   many. That is also the limit to guessing, for a password, or for all of them together.
3. Who isn't a user is told so after the same work as who gives a wrong password: the time doesn't tell who exists.
4. A record that can't be read, or that asks for more work than this module would, matches no password. So does the empty
   record, which stands for no password at all.

`Known` remembers who has shown a right password, for the simple routes, whose clients send it with every request (HTTP's
Basic): the key is a keyed digest (the key is drawn when the process starts), and an entry is worth nothing once the user's
record is another one. Nothing wrong is remembered.

etcd hashes with bcrypt, at cost 10, in 50 to 100 ms. scrypt (Percival 2009, RFC 7914) is in Python's own library, and takes
memory, which is what a guesser's machine has least of.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
import struct
import threading
from collections.abc import Callable

from server.limits import PASSWORD_BYTES_MAX, PASSWORD_CHECKS_MAX
from server.v3 import status
from server.v3.status import Status

__all__ = ["COST", "Known", "Passwords", "record_of", "text_of"]

COST = 14  # log2 of N: 16 MiB
COST_MAX = 17
TURN_S = 5.0
KNOWN_MAX = 1024

_RECORD = struct.Struct("<BBBB16s32s")
_R, _P = 8, 1
_SALT_BYTES, _HASH_BYTES = 16, 32


class Passwords:
    """Makes and checks records, a few at a time. For any thread but the node's."""

    def __init__(self, cost: int = COST) -> None:
        """cost: log2 of N, of new records; a low one is for tests."""
        self._cost = cost
        self._turns = threading.BoundedSemaphore(PASSWORD_CHECKS_MAX)
        # what it is checked against costs the same work and is not looked at: a hash for it would cost each start 30 ms
        self._nobody = _RECORD.pack(1, cost, _R, _P, bytes(_SALT_BYTES), bytes(_HASH_BYTES))

    def record(self, password: str) -> bytes:
        """What is kept of a password. Raises Status if it is too long, or too many are being made. One hash."""
        if len(password.encode("utf-8", "surrogatepass")) > PASSWORD_BYTES_MAX:
            raise Status(status.Code.INVALID_ARGUMENT, f"metcd: a password has at most {PASSWORD_BYTES_MAX:,} bytes")
        return self._in_turn(lambda: self._record(password, self._cost, secrets.token_bytes(_SALT_BYTES)))

    def match(self, record: bytes | None, password: str) -> bool:
        """Whether a record is this password's; None is nobody's, and takes as long. Raises Status if too many are being
        checked. One hash."""
        parts = _parts(record if record is not None else self._nobody)
        if parts is None or len(password.encode("utf-8", "surrogatepass")) > PASSWORD_BYTES_MAX:
            return False
        cost, salt, expected = parts
        found = self._in_turn(lambda: self._record(password, cost, salt))[-_HASH_BYTES:]
        return hmac.compare_digest(found, expected) and record is not None

    def _in_turn(self, work: Callable[[], bytes]) -> bytes:
        if not self._turns.acquire(timeout=TURN_S):
            raise Status(*status.TOO_MANY_REQUESTS)
        try:
            return work()
        finally:
            self._turns.release()

    @staticmethod
    def _record(password: str, cost: int, salt: bytes) -> bytes:
        secret = password.encode("utf-8", "surrogatepass")
        most_bytes = 128 * _R * ((1 << cost) + _P + 2)
        digest = hashlib.scrypt(secret, salt=salt, n=1 << cost, r=_R, p=_P, maxmem=most_bytes, dklen=_HASH_BYTES)
        return _RECORD.pack(1, cost, _R, _P, salt, digest)


def _parts(record: bytes) -> tuple[int, bytes, bytes] | None:
    """log2 of N, salt and hash of a record; None for what is none, or was made with other parameters than these."""
    if len(record) != _RECORD.size:
        return None
    version, cost, r, p, salt, digest = _RECORD.unpack(record)
    return (cost, salt, digest) if (version, r, p) == (1, _R, _P) and 1 <= cost <= COST_MAX else None


def text_of(record: bytes) -> str:
    """A record as text, as it goes through Raft: etcd's field for it is a string, in base64."""
    return binascii.b2a_base64(record, newline=False).decode()


def record_of(text: str) -> bytes:
    """The record of such a text; the empty one, which nothing matches, of any other."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return b""


class Known:
    """Who has shown the right password to this process. For any thread."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._guard = threading.Lock()
        self._known: dict[bytes, bytes] = {}  # digest of name and password → the record that they matched

    def has(self, name: str, password: str, record: bytes) -> bool:
        """Whether this password matched this very record before. A few microseconds."""
        return self._known.get(self._digest(name, password)) == record

    def add(self, name: str, password: str, record: bytes) -> None:
        """It does."""
        with self._guard:
            self._known.pop(self._digest(name, password), None)
            self._known[self._digest(name, password)] = record
            while len(self._known) > KNOWN_MAX:
                del self._known[next(iter(self._known))]

    def _digest(self, name: str, password: str) -> bytes:
        whole = b"\0".join(text.encode("utf-8", "surrogatepass") for text in (name, password))
        return hmac.digest(self._key, len(name).to_bytes(4, "big") + whole, "sha256")
