"""A new cluster out of a snapshot file: a data directory for one of its nodes.

    metcd snapshot restore FILE --id 1 …  ─┐
    metcd snapshot restore FILE --id 2 …  ─┼─▶  three directories, on any engines, that begin at one entry ──▶ metcd serve
    metcd snapshot restore FILE --id 3 …  ─┘

    DATA/identity   of the new cluster: new members, a token that names the file, a new number
         snap/      the file again, with our own keys changed: who takes part, which cluster, where the members are; their names
                    and their clients' URLs, which they publish themselves, are left out
         wal/       a mark at the file's index and term, and a hard state of that term with the commit index there
         engine     nothing: the node's start loads the snapshot, as after any crash before a load

The new cluster goes on at the file's index: an index that a client was told by the old cluster stays lower than all that it
is told by this one. (etcd begins anew at index 1, and its clients' revisions go on, since those are in the data.)

Invariants:

1. Nodes of two files never form a cluster: the token has the file's index and checksum, and the cluster's id is a hash of
   the list and the token. Nor does a node of the old cluster take part, even if the addresses are the same.
2. All directories of one file have one state: the same pairs, the same term, the same members. The first entry after it is
   proposed by a leader of a later term, whom a majority of the new members has elected.
3. A directory is there as a whole or not at all: it is made beside its place, and renamed. A directory that is there
   already is never touched.

Follows etcd's etcdutl/snapshot/v3_snapshot.go, Restore.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace

from engines.env import Env
from engines.errors import CorruptionError, StoreError
from engines.kvstore import Pair
from raft.raftpb import ConfState, HardState, SnapshotMetadata
from server.address_book import MEMBERS, first_book
from server.config import NodeConfig
from server.directory import open_directory
from server.snapshot import Summary, read_snapshot, write_snapshot
from server.snapshot_hash import Saved, saved
from server.statemachine import APPLIED, CLUSTER, CONF_STATE, applied_of, cluster_bytes
from server.v3.attributes import NAME_ROW

__all__ = ["RestoreRefused", "Restored", "restore"]

OWN = b"m"  # what our own keys begin with; the users' come before them


class RestoreRefused(StoreError):
    """A directory can't be made; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was made: of which file, and the token with which all nodes of the new cluster have to be started."""

    summary: Summary
    token: str


def restore(path: str, config: NodeConfig) -> Restored:
    """Makes the data directory of a node of a new cluster, which begins with the state in the file.

    config: of the node, as it will be started; its peers are the new cluster's members, its cluster_token the beginning of
    the token. Raises RestoreRefused, CorruptionError for a damaged file, UnknownEngine, OSError; then there is no
    directory. O(bytes).
    """
    env = config.env
    place = env.absolute(config.data_dir)
    if env.exists(place):
        raise RestoreRefused(f"{place} is there already: a snapshot is restored into a directory that isn't there yet")
    file = saved(path, env)
    summary = file.summary
    begun = f"{config.cluster_token}-" if config.cluster_token else ""
    token = f"{begun}restored-{summary.metadata.index}-{summary.checksum:08x}"
    making = f"{place}.restoring"
    _remove_unfinished(making, env)
    try:
        _make(path, replace(config, data_dir=making, cluster_token=token), file)
        if env.exists(place):
            raise RestoreRefused(f"{place} has come into being meanwhile; it was left as it is")
        env.rename(making, place)
        env.sync_dir(place.rpartition("/")[0] or "/", "server.restore.rename_dir")
    except BaseException:
        with contextlib.suppress(OSError, StoreError):
            _remove_unfinished(making, env)
        raise
    return Restored(summary, token)


def _remove_unfinished(making: str, env: Env) -> None:
    """Removes what a restore that was cut short has left. Raises StoreLocked if one is at work there."""
    if env.exists(making):
        with contextlib.suppress(FileNotFoundError):
            env.lock(f"{making}/LOCK").close()
        shutil.rmtree(making)


def _make(path: str, config: NodeConfig, file: Saved) -> None:
    """The directory's parts, in the order of invariant 1 of server/directory.py."""
    of = file.summary.metadata
    metadata = SnapshotMetadata(of.index, of.term, ConfState(tuple(sorted(config.peers))))
    with contextlib.closing(open_directory(config)) as directory:
        own = {
            CONF_STATE: metadata.conf_state.encode(),
            CLUSTER: cluster_bytes(directory.identity.cluster_id),
            MEMBERS: first_book(directory.identity.addresses()).encode(),
        }
        config.env.makedirs(f"{directory.path}/snap", "server.restore.mkdir")
        pairs = _with_own(path, read_snapshot(path, file.env)[1], own, metadata)
        write_snapshot(f"{directory.path}/snap", metadata, pairs, config.env)
        directory.wal.save_snapshot(metadata)
        directory.wal.save(HardState(of.term, 0, of.index), [], must_sync=True)
        directory.note_segment()


def _with_own(path: str, pairs: Iterator[Pair], own: dict[bytes, bytes], metadata: SnapshotMetadata) -> Iterator[Pair]:
    """The pairs with `own` in the place of what the file has under these keys, and without what the members of the old cluster
    have published: those of the new one publish their own when they start. Raises CorruptionError if they are no state."""
    found: dict[bytes, bytes] = {}
    for key, value in pairs:
        if key < OWN:
            yield key, value
        else:
            found[key] = value
    if applied_of(found.get(APPLIED, b"")) != (metadata.index, metadata.term):
        raise CorruptionError(
            path, None, f"the file is of index {metadata.index}, but its pairs aren't a node's state there"
        )
    kept = {key: value for key, value in found.items() if not key.startswith(NAME_ROW)}
    yield from sorted((kept | own).items())
