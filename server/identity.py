"""Whose a data directory is: a small file, `identity`, that is written before the directory promises anything.

    data_dir/identity       two lines: a JSON object, and the crc32c of that line in hexadecimal
      version               of this format, 1
      cluster               the cluster's id, 16 hexadecimal digits
      node                  this node's id
      number                drawn when the directory was made, 16 hexadecimal digits: another directory, another number
      engine                the engine's name, as --engine gave it
      members               the first list: node id → "host:port" of its peer port
      admitted              index of the entry that let this directory in (server/address_book.py); 0: of the first list
      joined                the members as they were then, as `members` has them: whom to listen to until they are applied here
      token                 whether the cluster was begun with a --cluster-token
      starts                how often a node has started on this directory; 0: its log may not be there yet
      segment               the sequence number of the newest segment that the log has had
      sessions              start → what was drawn at it, 16 hexadecimal digits
      heard                 the starts in which a member has heard this node
      met                   the other members' directories, as each came last: node id → number, starts, session, admitted
      lost                  why this directory must never take part again; "" if nothing is known
      kept_out              what a member has said against it (server/roster.py), "" or absent if none has
      removed               that this node was removed from its cluster, in a sentence; "" or absent if it was not

Two clusters with the same members are told apart by the token. Members never have to talk to agree on the cluster's id:
it is a hash of the first list and the token, and they were given the same ones.

Invariants:

1. The file is replaced as a whole: temporary name, sync, rename, sync of the directory. A crash leaves the old or the new.
2. `starts` here is never more than the log's own count (server/wal_segment.py, START): the log is written first. So a log
   with fewer starts is an older one, or another one.
3. `number` never changes. `starts`, `segment` and `admitted` never decrease. `lost` and `removed` are never taken back.
4. `sessions` has this start before a member hears of it. It forgets the oldest of SESSIONS_KEPT heard ones, and of as many
   others, so that a node which starts often and reaches nobody keeps what its members may remember.

Why sessions: an older copy of a directory that is put back counts on from its own starts, and may soon be beyond those
that the members remember. But at the start that they remember it drew something else, or doesn't know what was drawn.

server/directory.py says what follows from all that when a node starts, server/roster.py what the members do with it,
server/IDENTITY.md has the whole table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from crc32c import crc32c

from engines.env import Env, real_env
from engines.errors import CorruptionError, ForeignFormat
from server.addresses import netloc, parse_url
from server.config import Peers

__all__ = ["FILE_NAME", "Identity", "Met", "address_list", "cluster_id", "read_identity", "write_identity"]

FILE_NAME = "identity"
VERSION = 1
BYTES_MAX = 1 << 20  # far above what 1,000 members need
SESSIONS_KEPT = 64


@dataclass(frozen=True, slots=True)
class Met:
    """How a member's directory was seen last: its number, its count of starts, and what it drew at that start.

    admitted: index of the entry that let it in; 0 if it is of the first list.
    """

    number: int
    starts: int
    session: int
    admitted: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """What the file says; the module's docstring has the fields."""

    cluster_id: int
    node_id: int
    number: int
    engine: str
    members: Mapping[int, str]
    token: bool = False
    starts: int = 0
    segment: int = 0
    sessions: Mapping[int, int] = field(default_factory=dict)
    heard: frozenset[int] = frozenset()
    met: Mapping[int, Met] = field(default_factory=dict)
    lost: str = ""
    kept_out: str = ""
    admitted: int = 0
    joined: Mapping[int, str] = field(default_factory=dict)
    removed: str = ""

    def started(self, starts: int, session: int) -> Identity:
        """The identity at its start number `starts`, at which `session` was drawn (invariant 4)."""
        heard = sorted(each for each in self.sessions if each in self.heard)[-SESSIONS_KEPT:]
        others = sorted(each for each in self.sessions if each not in self.heard)[1 - SESSIONS_KEPT :]
        kept = {each: self.sessions[each] for each in sorted(heard + others)}
        return replace(self, starts=starts, sessions={**kept, starts: session}, heard=frozenset(heard))

    def addresses(self) -> Peers:
        """The first list, as hosts and ports."""
        return _peers(self.members)

    def joined_addresses(self) -> Peers:
        """The members as they were when this directory was let in, as hosts and ports; none if it is of the first list."""
        return _peers(self.joined)

    def remembering(self, met: Mapping[int, Met]) -> Identity:
        """The identity with what was seen of other members, which have heard this node in this start."""
        return replace(self, met={**self.met, **met}, heard=self.heard | {self.starts})

    def encode(self) -> bytes:
        """The file's bytes."""
        met = {
            str(node): {
                "number": f"{each.number:016x}",
                "starts": each.starts,
                "session": f"{each.session:016x}",
                "admitted": each.admitted,
            }
            for node, each in sorted(self.met.items())
        }
        line = json.dumps(
            {
                "version": VERSION,
                "cluster": f"{self.cluster_id:016x}",
                "node": self.node_id,
                "number": f"{self.number:016x}",
                "engine": self.engine,
                "members": {str(node): address for node, address in sorted(self.members.items())},
                "token": self.token,
                "starts": self.starts,
                "segment": self.segment,
                "sessions": {str(start): f"{session:016x}" for start, session in sorted(self.sessions.items())},
                "heard": sorted(self.heard),
                "met": met,
                "lost": self.lost,
                "kept_out": self.kept_out,
                "admitted": self.admitted,
                "joined": {str(node): address for node, address in sorted(self.joined.items())},
                "removed": self.removed,
            }
        ).encode()
        return b"%s\n%08x\n" % (line, crc32c(line))

    @classmethod
    def decode(cls, path: str, data: bytes) -> Identity:
        """What the file's bytes say. Raises CorruptionError; ForeignFormat for another version."""
        line, _, rest = data.partition(b"\n")
        if rest != b"%08x\n" % crc32c(line):
            raise CorruptionError(
                path,
                0,
                f"a line and its crc32c, {crc32c(line):08x}, were expected, and {rest[:20]!r} was found as the second "
                "line: the file was damaged or edited; put back the file as it was, and leave the node stopped until "
                "then (the other members go on without it)",
            )
        try:
            fields = json.loads(line)
            if fields["version"] != VERSION:
                raise ForeignFormat(path, f"an identity of version {VERSION} was expected, and this is of another; "
                                          "start the node with the metcd that wrote it")  # fmt: skip
            return cls._from(fields)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CorruptionError(path, 0, f"the fields of an identity were expected: {error!r}") from None

    @classmethod
    def _from(cls, fields: Any) -> Identity:
        met = {
            int(node): Met(
                int(each["number"], 16), int(each["starts"]), int(each["session"], 16), int(each.get("admitted", 0))
            )
            for node, each in fields["met"].items()
        }
        return cls(
            cluster_id=int(fields["cluster"], 16),
            node_id=int(fields["node"]),
            number=int(fields["number"], 16),
            engine=str(fields["engine"]),
            members={int(node): str(address) for node, address in fields["members"].items()},
            token=bool(fields["token"]),
            starts=int(fields["starts"]),
            segment=int(fields["segment"]),
            sessions={int(start): int(session, 16) for start, session in fields["sessions"].items()},
            heard=frozenset(map(int, fields["heard"])),
            met=met,
            lost=str(fields["lost"]),
            kept_out=str(fields.get("kept_out", "")),
            admitted=int(fields.get("admitted", 0)),
            joined={int(node): str(address) for node, address in fields.get("joined", {}).items()},
            removed=str(fields.get("removed", "")),
        )


def _peers(addresses: Mapping[int, str]) -> Peers:
    return {node: parse_url(f"http://{address}") for node, address in addresses.items()}


def read_identity(path: str, env: Env | None = None) -> Identity | None:
    """The identity of the data directory `path`; None if it has none. Changes nothing, takes no lock.

    Raises CorruptionError for a damaged file, ForeignFormat for one of another version, OSError.
    """
    name = f"{path}/{FILE_NAME}"
    try:
        file = (env or real_env()).open(name, "r")
    except (FileNotFoundError, NotADirectoryError):
        return None
    with closing(file):
        return Identity.decode(name, file.pread(BYTES_MAX, 0))


def write_identity(path: str, identity: Identity, env: Env) -> None:
    """Makes `identity` the one of the data directory `path`; on disk when it returns. Raises OSError. Two syncs."""
    name = f"{path}/{FILE_NAME}"
    with closing(env.open(f"{name}.tmp", "w")) as file:
        file.append(identity.encode())
        file.sync("server.identity.write")
    env.rename(f"{name}.tmp", name)
    env.sync_dir(path, "server.identity.write_dir")


def address_list(peers: Peers) -> dict[int, str]:
    """The members as an identity has them: node id → "host:port"."""
    return {node: netloc(host, port) for node, (host, port) in sorted(peers.items())}


def cluster_id(peers: Peers, token: str = "") -> int:
    """The id of the cluster that begins with this list and this token: 64 bits of a SHA-256.

    Which node is which counts: two addresses swapped are another cluster.
    """
    members = ",".join(f"{node}={address}" for node, address in address_list(peers).items())
    return int.from_bytes(hashlib.sha256(f"metcd\n{members}\n{token}".encode()).digest()[:8], "big")
