"""Snapshot files: the whole state of a state machine as a stream of sorted pairs, for any engine to take or install.

A snapshot is named `%016x-%016x.snap`, by the term and index of the last entry that it holds, as etcd's are. It is a file
of engines/log.py's records, the same on every engine. The payloads, in their order:

    HEADER   once     0  1  kind 1              1  1  version of this format, 1
                      2  …  SnapshotMetadata (raft/raftpb.py): index, term, configuration
    PAIRS    0 or     0  1  kind 2
             more     1  …  pairs: length of key (4), length of value (4), key, value; about 64 KiB, at least one
    TRAILER  once     0  1  kind 3
                      1  8  number of pairs     9  8  bytes of all keys and values
                     17  4  crc32c over the payloads of all records before this one

Integers are little-endian and unsigned. Keys ascend strictly over the whole file; nothing follows the trailer.

Invariants:

1. A file under a snapshot's name is whole and on disk: it is written under a temporary name, synced, renamed, and then
   the directory is synced. What is cut, flipped or joined from two files is found by the records' checksums, the counts,
   the order of the keys, or the checksum over everything.
2. Reading streams. The node that installs a snapshot verifies the file first (`verify_snapshot`), because a store's content
   should not be replaced by half of one; and the stream itself raises CorruptionError in place of its end.
3. What a peer sends decides no file name: the name is made of the two numbers in the metadata.
4. A damaged file is put aside as `….snap.broken` and reported, and an older one may serve. It is never deleted.

Left out: compression (the transport can do it), incremental snapshots, and a checksum against a malicious peer: peers
are trusted as far as Raft trusts them.

Follows etcd's server/etcdserver/api/snap: snapshotter.go and db.go; the stream is what its backend snapshot is there.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from crc32c import crc32c

from engines.env import Env, File, real_env
from engines.errors import CorruptionError
from engines.kvstore import Pair
from engines.log import LogReader, LogWriter
from raft.errors import DecodeError
from raft.raftpb import SnapshotMetadata
from server.logs import logger

__all__ = [
    "FoundSnapshot",
    "SnapshotReceiver",
    "Summary",
    "dump",
    "find_snapshots",
    "is_snapshot",
    "newest_snapshot",
    "purge",
    "put_aside",
    "read_snapshot",
    "receive_snapshot",
    "records",
    "remove_leftovers",
    "save",
    "summarize",
    "verify_snapshot",
    "write_snapshot",
]

VERSION = 1
BATCH_BYTES = 64 << 10
HEADER_BYTES_MAX = 32 << 10  # a header of 1,000 members has a quarter of that
ASIDE = ".aside"
PART = ".snap.part"  # of what is being received

HEADER, PAIRS, TRAILER = 1, 2, 3
_KIND = {HEADER: bytes((HEADER,)), PAIRS: bytes((PAIRS,)), TRAILER: bytes((TRAILER,))}
_LENGTHS = struct.Struct("<II")
_TRAILER = struct.Struct("<BQQI")
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")


# ---- writing --------------------------------------------------------------------------------------------------------


def write_snapshot(directory: str, metadata: SnapshotMetadata, pairs: Iterable[Pair], env: Env | None = None) -> str:
    """Writes a snapshot file, and returns its path; it is on disk, under its name, when it returns.

    pairs: their keys ascend strictly (ValueError). Whatever raises, `pairs` itself included, no half file has the
    snapshot's name. Memory: one batch. O(bytes), and two syncs. Requires: one writer at a time in a directory.
    """
    env = env or real_env()
    path = _path(directory, metadata)
    with _temporary(path, env) as file:
        write_records(LogWriter(file), metadata, pairs)
        file.sync("server.snapshot.write")
        _publish(f"{path}.tmp", path, env, "server.snapshot.write_dir")
    return path


def write_records(log: LogWriter, metadata: SnapshotMetadata, pairs: Iterable[Pair]) -> None:
    """Writes the content of a snapshot file, for any file to hold. Raises ValueError, OSError. O(bytes)."""
    for payload in records(metadata, pairs):
        log.append(payload)


def records(metadata: SnapshotMetadata, pairs: Iterable[Pair]) -> Iterator[bytes]:
    """The payloads of a snapshot file, one at a time. Raises ValueError. O(bytes)."""
    header = _KIND[HEADER] + bytes((VERSION,)) + metadata.encode()
    yield header
    checksum = crc32c(header)
    count = size = 0
    for batch in _batches(pairs):
        payload = b"".join(batch)
        yield payload
        checksum = crc32c(payload, checksum)
        count += len(batch) // 3
        size += len(payload) - 1 - _LENGTHS.size * (len(batch) // 3)
    yield _TRAILER.pack(TRAILER, count, size, checksum)


def _batches(pairs: Iterable[Pair]) -> Iterator[list[bytes]]:
    """The payloads of the PAIRS records, each as its parts: the kind, then lengths, key and value of each pair."""
    batch = [_KIND[PAIRS]]
    size = 0
    last: bytes | None = None
    for key, value in pairs:
        if last is not None and key <= last:
            raise ValueError(f"the keys of a snapshot ascend, but {key!r} follows {last!r}")
        last = key
        batch += (_LENGTHS.pack(len(key), len(value)), key, value)
        size += len(key) + len(value) + _LENGTHS.size
        if size >= BATCH_BYTES:
            yield batch
            batch = [_KIND[PAIRS]]
            size = 0
    if size:
        yield batch


@contextlib.contextmanager
def _temporary(path: str, env: Env) -> Iterator[File]:
    """A file to be written before it is `path`; removed if the block raises, which includes a failed `_publish`."""
    file = env.open(f"{path}.tmp", "w")
    try:
        yield file
    except BaseException:
        with contextlib.suppress(OSError):
            env.unlink(f"{path}.tmp")
        raise
    finally:
        file.close()


def _publish(temporary: str, path: str, env: Env, site: str) -> None:
    """Gives a synced file its name, durably."""
    env.rename(temporary, path)
    env.sync_dir(path.rpartition("/")[0], site)


def _path(directory: str, metadata: SnapshotMetadata) -> str:
    return f"{directory}/{metadata.term:016x}-{metadata.index:016x}.snap"


# ---- receiving ------------------------------------------------------------------------------------------------------


class SnapshotReceiver:
    """Takes the bytes of a snapshot file as they come from a peer. `finish` makes it a snapshot, `discard` forgets it.

    Requires: one receiver at a time in a directory; `write_snapshot` may write another file meanwhile, even one of the
    same name. A receiver that is neither finished nor discarded leaves its part of the file, which
    `remove_leftovers` removes. `size` is how much it has; `failed`, whether a write failed, so that nobody knows.
    """

    def __init__(self, directory: str, metadata: SnapshotMetadata, env: Env | None = None) -> None:
        """metadata: what the leader says that it sends; the file must say the same."""
        self._env = env or real_env()
        self._metadata = metadata
        self._path = _path(directory, metadata)
        self._temporary = f"{directory}/received{PART}"
        self._file = self._env.open(self._temporary, "w")
        self.size = 0
        self.failed = False

    def write(self, chunk: bytes) -> None:
        """Appends what has come. Raises OSError; then it is good for nothing but to be discarded."""
        self.failed = True
        self._file.append(chunk)
        self.failed = False
        self.size += len(chunk)

    def finish(self) -> str:
        """Verifies the whole file, and returns its path; on disk when it returns. O(bytes), and two syncs.

        Raises CorruptionError if it is damaged or another snapshot than announced, OSError; nothing is left then.
        """
        try:
            with closing(self._file):
                metadata = _verify(LogReader(self._file, self._temporary, None))
                if metadata != self._metadata:
                    raise CorruptionError(
                        self._temporary, 0, f"the snapshot {self._metadata} was announced, and {metadata} has come"
                    )
                self._file.sync("server.snapshot.receive")
            _publish(self._temporary, self._path, self._env, "server.snapshot.receive_dir")
        except BaseException:
            self.discard()
            raise
        return self._path

    def discard(self) -> None:
        """Closes and removes the temporary file. Never raises an OSError."""
        self._file.close()
        with contextlib.suppress(OSError):
            self._env.unlink(self._temporary)


def receive_snapshot(
    directory: str, metadata: SnapshotMetadata, chunks: Iterable[bytes], env: Env | None = None
) -> str:
    """Writes the snapshot file that comes in `chunks`, and returns its path; see SnapshotReceiver."""
    receiver = SnapshotReceiver(directory, metadata, env)
    try:
        for chunk in chunks:
            receiver.write(chunk)
    except BaseException:
        receiver.discard()
        raise
    return receiver.finish()


# ---- reading --------------------------------------------------------------------------------------------------------


def read_snapshot(path: str, env: Env | None = None) -> tuple[SnapshotMetadata, Iterator[Pair]]:
    """A snapshot's metadata, and its pairs in the order of their keys.

    The iterator raises CorruptionError before it would end if anything is wrong with the file: until it has ended,
    nothing of it can be trusted. It outlives the file's name. Raises OSError; CorruptionError for a bad header.
    """
    with closing((env or real_env()).open(path, "r")) as file:
        reader = LogReader(file, path, None)
    records = iter(reader)
    header = next(records, None)
    if header is None:
        raise CorruptionError(path, 0, f"a snapshot begins with a header; {_torn(reader)}: {_ADVICE}")
    return _decode_header(path, header[1]), _pairs(reader, records, header[1])


_ADVICE = "take another snapshot, or get one from a peer"


def _torn(reader: LogReader) -> str:
    return str(reader.torn) if reader.torn is not None else f"the file ends at byte {reader.end}"


def _decode_header(path: str, payload: bytes) -> SnapshotMetadata:
    if payload[:1] != _KIND[HEADER] or payload[1:2] != bytes((VERSION,)):
        raise CorruptionError(
            path, 0, f"a snapshot begins with a header of version {VERSION} (01 01), and this with {payload[:2].hex()}"
        )
    try:
        return SnapshotMetadata.decode(payload[2:])
    except DecodeError as error:
        raise CorruptionError(path, 0, f"the header's metadata cannot be read: {error}; {_ADVICE}") from None


def _pairs(reader: LogReader, records: Iterator[tuple[int, bytes]], header: bytes) -> Iterator[Pair]:
    checksum = crc32c(header)
    count = size = 0
    last: bytes | None = None
    for offset, payload in records:
        if payload[:1] == _KIND[TRAILER]:
            found = payload, next(records, None), reader.torn
            if found != (_TRAILER.pack(TRAILER, count, size, checksum), None, None) or reader.end != reader.size:
                raise CorruptionError(
                    reader.path,
                    offset,
                    f"a trailer for {count} pairs with {size} bytes and checksum {checksum:#010x} was expected as the "
                    f"last record, and {payload.hex()} was found; {_ADVICE}",
                )
            return
        checksum = crc32c(payload, checksum)
        for key, value in _decode_pairs(reader.path, offset, payload):
            if last is not None and key <= last:
                raise CorruptionError(reader.path, offset, f"keys ascend, but {key!r} follows {last!r}; {_ADVICE}")
            last = key
            count += 1
            size += len(key) + len(value)
            yield key, value
    raise CorruptionError(reader.path, reader.end, f"a trailer was expected; {_torn(reader)}; {_ADVICE}")


def _decode_pairs(path: str, offset: int, payload: bytes) -> Iterator[Pair]:
    at, end = 1, len(payload)
    if payload[:1] != _KIND[PAIRS] or end == 1:
        raise CorruptionError(path, offset, f"a record of pairs was expected, and {payload[:2].hex()} was found")
    while at < end:
        if end - at < _LENGTHS.size:
            raise CorruptionError(path, offset, f"a pair's lengths have 8 bytes, and {end - at} are left; {_ADVICE}")
        key_bytes, value_bytes = _LENGTHS.unpack_from(payload, at)
        middle = at + _LENGTHS.size + key_bytes
        at = middle + value_bytes
        if at > end:
            raise CorruptionError(
                path, offset, f"a pair of {key_bytes} and {value_bytes} bytes ends {at - end} bytes after its record"
            )
        yield payload[middle - key_bytes : middle], payload[middle:at]


def _verify(reader: LogReader) -> SnapshotMetadata:
    records = iter(reader)
    header = next(records, (0, b""))[1]
    metadata = _decode_header(reader.path, header)
    for _ in _pairs(reader, records, header):
        pass
    return metadata


def verify_snapshot(path: str, env: Env | None = None) -> SnapshotMetadata:
    """Reads the whole file, and returns its metadata. Raises CorruptionError, OSError. O(bytes)."""
    metadata, pairs = read_snapshot(path, env)
    for _ in pairs:
        pass
    return metadata


@dataclass(frozen=True, slots=True)
class Summary:
    """What a whole snapshot file is: of which entry, how many pairs with how many bytes, and the checksum over all of it."""

    metadata: SnapshotMetadata
    pairs: int
    pairs_bytes: int
    file_bytes: int
    checksum: int


def summarize(path: str, env: Env | None = None) -> Summary:
    """Verifies a snapshot file, and says what it is. Raises CorruptionError, OSError. O(bytes)."""
    with closing((env or real_env()).open(path, "r")) as file:
        return _summary(LogReader(file, path, None))


def _summary(reader: LogReader) -> Summary:
    last = b""

    def noted() -> Iterator[tuple[int, bytes]]:
        nonlocal last
        for record in reader:
            last = record[1]
            yield record

    taken = noted()
    header = next(taken, (0, b""))[1]
    metadata = _decode_header(reader.path, header)
    for _ in _pairs(reader, taken, header):
        pass
    _, count, size, checksum = _TRAILER.unpack(last)
    return Summary(metadata, count, size, reader.size, checksum)


def save(path: str, chunks: Iterable[bytes], env: Env | None = None) -> Summary:
    """Makes a snapshot file under any name of the bytes that come; it is whole, verified and on disk when it returns.

    What was under that name is replaced then, and not before. Raises CorruptionError for what isn't whole, OSError, and
    what `chunks` raises; nothing is left then. O(bytes), and two syncs.
    """
    env = env or real_env()
    path = env.absolute(path)
    with _temporary(path, env) as file:
        for chunk in chunks:
            file.append(chunk)
        summary = _summary(LogReader(file, path, None))
        file.sync("server.snapshot.save")
        _publish(f"{path}.tmp", path, env, "server.snapshot.save_dir")
    return summary


def is_snapshot(path: str, env: Env) -> bool:
    """True if the file begins as a snapshot file does, whatever its name. O(1)."""
    try:
        with closing(env.open(path, "r")) as file:
            _decode_header(path, next(iter(LogReader(file.pread(HEADER_BYTES_MAX, 0), path, None)), (0, b""))[1])
    except (OSError, CorruptionError):
        return False
    return True


# ---- the directory --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FoundSnapshot:
    """A snapshot file that was verified."""

    path: str
    metadata: SnapshotMetadata


def _report(sentence: str) -> None:
    logger().warning("%s", sentence)


def _names(directory: str, env: Env) -> list[str]:
    """The snapshots' names, the newest first: of the highest index, then term."""
    return sorted(filter(_NAME.fullmatch, env.list(directory)), key=lambda name: (name[17:], name), reverse=True)


def find_snapshots(
    directory: str, env: Env | None = None, report: Callable[[str], None] = _report
) -> Iterator[FoundSnapshot]:
    """The whole snapshots, the newest first, each verified when it is asked for.

    A damaged one is renamed to `….broken`, handed to `report` as a sentence, and skipped; so is one whose name is not
    that of its content. Raises OSError. O(bytes of those that are asked for).
    """
    env = env or real_env()
    for name in _names(directory, env):
        path = f"{directory}/{name}"
        try:
            metadata = verify_snapshot(path, env)
            if path != _path(directory, metadata):
                raise CorruptionError(path, 0, f"the file holds another snapshot, {metadata}")
        except CorruptionError as error:
            with contextlib.suppress(FileNotFoundError):
                env.rename(path, f"{path}.broken")
            report(f"{error}; put aside as {path}.broken")
        except FileNotFoundError:
            continue  # purged meanwhile, by another thread
        else:
            yield FoundSnapshot(path, metadata)


def newest_snapshot(
    directory: str, env: Env | None = None, report: Callable[[str], None] = _report
) -> FoundSnapshot | None:
    """The first of `find_snapshots`, or None."""
    return next(find_snapshots(directory, env, report), None)


def purge(directory: str, keep: int, env: Env | None = None, *, spare_index: int = 0) -> None:
    """Removes all snapshots but the `keep` newest and that of `spare_index`, the log's mark; broken ones stay.

    Those that were put aside go when the mark has passed them. One that is being read stays readable. Requires: one
    purge at a time in a directory.
    """
    env = env or real_env()
    for name in env.list(directory):
        if name.endswith(ASIDE) and _NAME.fullmatch(name.removesuffix(ASIDE)) and int(name[17:33], 16) <= spare_index:
            env.unlink(f"{directory}/{name}")
    for name in _names(directory, env)[keep:]:
        if int(name[17:33], 16) != spare_index:
            with contextlib.suppress(FileNotFoundError):  # put aside meanwhile, by another thread
                env.unlink(f"{directory}/{name}")


def put_aside(path: str, env: Env) -> None:
    """Takes a whole snapshot that the log doesn't lead to out of the way, under a name that `purge` knows."""
    env.rename(path, f"{path}{ASIDE}")


def remove_leftovers(directory: str, env: Env | None = None) -> None:
    """Removes what a crash left of snapshots that were being written or received. Requires: nobody does either."""
    env = env or real_env()
    for name in env.list(directory):
        if name.endswith((".snap.tmp", PART)):
            env.unlink(f"{directory}/{name}")


def dump(path: str, env: Env | None = None) -> Iterator[str]:
    """The file as lines of text: each record with its offset, and how many pairs with which keys it has."""
    with closing((env or real_env()).open(path, "r")) as file:
        reader = LogReader(file, path, None)
    try:
        for offset, payload in reader:
            if payload[:1] == _KIND[HEADER]:
                metadata = _decode_header(path, payload)
                yield f"{offset:08x}  HEADER   version {VERSION}, {metadata}"
            elif payload[:1] == _KIND[TRAILER] and len(payload) == _TRAILER.size:
                _, count, size, checksum = _TRAILER.unpack(payload)
                yield f"{offset:08x}  TRAILER  {count} pairs, {size} bytes, checksum {checksum:#010x}"
            else:
                keys = [key for key, _ in _decode_pairs(path, offset, payload)]
                yield f"{offset:08x}  PAIRS    {len(keys)} pairs, {keys[0]!r} to {keys[-1]!r}, {len(payload)} bytes"
        yield f"{reader.end:08x}  " + (str(reader.torn) if reader.torn else "end")
    except CorruptionError as error:
        yield f"{error.offset or 0:08x}  DAMAGED: {error.why}"
