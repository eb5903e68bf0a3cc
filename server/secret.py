"""The secret that the members of a cluster share, and how two of them prove to each other that they have it.

    caller                                                   listener
    POST /raft/hello      X-Metcd-Nonce: Nc        ──────▶
                          ◀──────   200     X-Metcd-Nonce: Nl     X-Metcd-Proof: HMAC("answers", Nc, Nl, …)
    POST /raft/stream     X-Metcd-Proof: HMAC("calls", Nc, Nl, …)     ──────▶
                          ◀──────   101

Each side draws a nonce of 16 bytes for each connection, and each proof is over both, so that what somebody has recorded
proves nothing on another connection. The two proofs begin with different words, so that a listener can't be made to
answer its own question. The caller's is over the path, the cluster and the two nodes' ids as well: it is good for what
it was made for. The listener proves itself first, so that a caller tells nothing to somebody who has only its address.

What it protects: nobody who can connect, and has not the secret, is heard; a node's messages go to members only. What it
does not: everybody who can read or change what goes over the wire can read and change messages and snapshots, since nothing is
encrypted and no frame is signed. For that there has to be a network, or a tunnel, that others can't reach into.

HMAC with SHA-256 (RFC 2104), compared in constant time; both are the standard library's.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat

__all__ = ["HELLO", "NONCE", "PROOF", "Exchange", "SecretError", "draw_secret", "is_nonce", "read_secret", "same"]

HELLO = "/raft/hello"
NONCE = "X-Metcd-Nonce"
PROOF = "X-Metcd-Proof"

SECRET_BYTES_MIN = 16
SECRET_BYTES_MAX = 4096
NONCE_BYTES = 16


class SecretError(Exception):
    """The file of a secret can't be used; the sentence says why, and what to do."""


def draw_secret(path: str) -> None:
    """Makes a file with a new secret, which only its owner may read; leaves one alone that is there. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        draft = f"{path}.{secrets.token_hex(8)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, secrets.token_hex(32).encode() + b"\n")
            os.fsync(descriptor)
            os.link(draft, path)  # all of it at once, and not if somebody else was faster
        finally:
            os.close(descriptor)
            os.unlink(draft)


def read_secret(path: str) -> bytes:
    """The secret in a file: its bytes without the white space around them. Raises SecretError, with a sentence."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for its writer
    except OSError as error:
        raise SecretError(f"the peer secret can't be read from {path}: {error.strerror}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise SecretError(f"the peer secret is in a file, and {path} is none")
        if mode & 0o077:
            raise SecretError(
                f"{path} has the mode {stat.S_IMODE(mode):04o}, so that others may read the secret: chmod 600 {path}"
            )
        secret = os.read(descriptor, SECRET_BYTES_MAX + 1).strip()
    finally:
        os.close(descriptor)
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise SecretError(
            f"a peer secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX:,} bytes, and {path} has {len(secret):,}: "
            f"head -c 32 /dev/urandom | base64 > {path}"
        )
    return secret


def is_nonce(text: str | None) -> bool:
    """True for what the other side may have drawn."""
    return text is not None and len(text) == 2 * NONCE_BYTES and all(digit in "0123456789abcdef" for digit in text)


class Exchange:
    """The two nonces of one connection, and the proofs over them."""

    def __init__(self, secret: bytes, caller: int, listener: int, theirs: str = "") -> None:
        """caller, listener: the ids of the two nodes. theirs: the other side's nonce, as soon as it is known."""
        self._secret = secret
        self._between = f"{caller}\0{listener}"
        self.ours = secrets.token_hex(NONCE_BYTES)
        self.theirs = theirs

    def answers(self, caller_nonce: str, listener_nonce: str) -> str:
        """What a listener that has the secret answers to a hello."""
        return self._proof("metcd peer answers", caller_nonce, listener_nonce)

    def calls(self, caller_nonce: str, listener_nonce: str, path: str, cluster: str) -> str:
        """What a caller that has the secret asks for `path` with."""
        return self._proof("metcd peer calls", caller_nonce, listener_nonce, path, cluster)

    def _proof(self, *words: str) -> str:
        text = "\0".join((*words, self._between))
        return hmac.new(self._secret, text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def same(proof: str, given: str | None) -> bool:
    """True if what was given is this proof. How long that takes says nothing about where they differ."""
    return given is not None and hmac.compare_digest(proof.encode(), given.encode("utf-8", "surrogateescape"))
