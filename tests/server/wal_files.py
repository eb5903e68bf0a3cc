"""What the tests of the write-ahead log share: logs on a simulated disk, and a look at their bytes."""

from engines.log import LogReader
from engines.simenv import SimEnv
from raft.raftpb import Entry, HardState
from server.wal import Wal, WalState

ROOT = "/disk/wal"


def opened(env: SimEnv, **options: int) -> tuple[Wal, WalState]:
    return Wal.open(ROOT, env, **{"node_id": 1, "cluster_id": 2, **options})


def entries(first: int, last: int, term: int = 1, data: bytes = b"data") -> list[Entry]:
    return [Entry(term, index, 0, data) for index in range(first, last + 1)]


def reopened(env: SimEnv, wal: Wal, **options: int) -> WalState:
    wal.close()
    wal, state = opened(env, **options)
    wal.close()
    return state


def killed(env: SimEnv, wal: Wal) -> None:
    """The process ends without closing; the lock goes with it."""
    wal._lock.close()


def segments(env: SimEnv) -> list[str]:
    return [name for name in env.list(ROOT) if name.endswith(".wal")]


def content(env: SimEnv, name: str) -> bytes:
    return env.files()[f"{ROOT}/{name}"]


def records(env: SimEnv, name: str) -> list[tuple[int, bytes]]:
    return list(LogReader(content(env, name), name))


def log_end(data: bytes) -> int:
    reader = LogReader(data, "test.wal")
    assert list(reader) and reader.torn is None
    return reader.end


def indexes(state: WalState) -> list[int]:
    return [entry.index for entry in state.entries]


def filled(env: SimEnv, count: int = 40, segment_bytes: int = 1000, commit_max: int = 1000) -> Wal:
    """A log of `count` entries in several segments."""
    wal, _ = opened(env, segment_bytes=segment_bytes)
    for i in range(1, count + 1):
        wal.save(HardState(1, 1, min(i - 1, commit_max)), entries(i, i, data=b"x" * 60), must_sync=True)
    return wal
