"""Frames of the feed, made up: `small` as a cluster has them after a minute, `big` as after weeks of load (fake_feed.py)."""

from __future__ import annotations

import random
import tempfile
from functools import cache
from typing import Any

import engines
from server.node_metrics import stats_of

Frame = dict[str, Any]

ENGINES = ("lsm", "btree", "bitcask")
KINDS = ("put", "put", "put", "put", "delete", "batch", "session")


def raft(node_id: int, n: int, first: int = 1) -> Frame:
    """Node 1 leads; an entry comes with each third frame; node 3 is four entries short."""
    last = first + 16 + n // 3
    commit = last - 1 if n % 3 == 0 else last
    have = last - 4 if node_id == 3 else last
    kinds = random.Random(7)
    log = []
    for index in range(1, have + 1) if have < 33 else range(have - 31, have + 1):
        kinds.seed(index)
        term = 1 + (index - first >= 3) + (index - first >= 11)
        kind = "empty" if index - first in (0, 3, 11) else "change" if index - first == 1 else kinds.choice(KINDS)
        log.append([index, term, kind, 0 if kind == "empty" else kinds.randrange(30, 900)])
    progress = {
        str(peer): {
            "match": last - 4 * (peer == 3),
            "next": last + 1,
            "state": "replicate",
            "active": True,
            "inflight": 0,
        }
        for peer in (2, 3)
    }
    return {
        "role": "leader" if node_id == 1 else "follower",
        "term": 3,
        "leader": 1,
        "vote": 1,
        "commit": min(commit, have),
        "applied": min(commit, have),
        "first": first,
        "last": have,
        "snapshot_index": first - 1,
        "members": {"1": "voter", "2": "voter", "3": "voter"},
        "progress": progress if node_id == 1 else {},
        "log": log,
    }


def messages(node_id: int, n: int, last: int) -> Frame:
    """A heartbeat in each tenth frame, an append with each new entry, and what answers them."""
    sent: list[list[Any]] = []
    if node_id == 1:
        if n % 5 == 0:
            sent += [["MsgHeartbeat", peer, 3, 0, 0] for peer in (2, 3)]
        if n % 3 == 0:
            sent += [["MsgApp", peer, 3, last, 1] for peer in (2, 3)]
    elif n % 3 == 0:
        sent += [["MsgAppResp", 1, 3, last, 0]]
    elif n % 5 == 0:
        sent += [["MsgHeartbeatResp", 1, 3, 0, 0]]
    return {"sent": sent, "received": [], "dropped": 0, "counts": {f"{kind}>{to}": 1 for kind, to, *_ in sent}}


def requests(node_id: int, n: int) -> list[list[Any]]:
    """A put or a get with each second frame of node 1."""
    rng = random.Random(n * 7 + node_id)
    if node_id != 1 or n % 2:
        return []
    if rng.random() < 0.3:
        return [
            ["GET", f"user/{rng.randrange(999)}", 200, round(rng.uniform(0.2, 0.9), 3), {"queue": 0.1, "apply": 0.1}]
        ]
    parts = {
        "queue": rng.uniform(0.05, 0.4),
        "persist": rng.uniform(0.4, 3),
        "replicate": rng.uniform(0.5, 2.5),
        "apply": rng.uniform(0.05, 0.3),
    }
    method = "DELETE" if rng.random() < 0.15 else "PUT"
    return [[method, f"user/{rng.randrange(999)}", 204, sum(parts.values()), parts]]


@cache
def sketched(engine: str) -> Frame:
    """What a real store of this engine tells of itself after some writes: {"describe", "stats"}."""
    with tempfile.TemporaryDirectory() as directory, engines.open(f"{directory}/store", engine=engine) as store:
        for n in range(400):
            store.put(b"user/%03d" % (n % 150), b"value %d" % n * 20, sync=False)
        store.delete(b"user/007")
        describe: Frame = store.sketch()  # type: ignore[attr-defined]
        return {"describe": describe, "stats": stats_of(store.stats())}


def frame(node_id: int, n: int, urls: list[str], describe: dict[str, Any], first: int = 1) -> Frame:
    """A whole frame, with this describe() of the node's store in each fifth."""
    of_raft = raft(node_id, n, first)
    return {
        "id": node_id,
        "engine": ENGINES[(node_id - 1) % 3],
        "now_ms": n * 100.0,
        "pages": urls,
        "raft": of_raft,
        "messages": messages(node_id, n, of_raft["last"]),
        "wal": {
            "segments": [[f"{at:016x}.wal", 64 << 20] for at in range(3)]
            + [["0000000000000003.wal", 9_400_000 + 900 * n]],
            "fsyncs": 40 + n // 3,
            "bytes": 201_000_000 + 900 * n,
        },
        "requests": requests(node_id, n),
        "rates": {"puts": 4.0, "gets": 1.5, "latency_ms": 2.4},
        "store": {"applied": of_raft["applied"], "describe": describe, "stats": {}} if n % 5 == 0 else None,
        "events": [["role", "candidate", "leader", 1, 3]] if n == 0 and node_id == 1 else [],
    }


def small(node_id: int, n: int, urls: list[str]) -> Frame:
    """A cluster of three that has run for a minute."""
    told = sketched(ENGINES[(node_id - 1) % 3])
    made = frame(node_id, n, urls, told["describe"])
    if made["store"] is not None:
        made["store"] |= {"stats": told["stats"], "until": made["store"]["applied"]}
    return made


def big(node_id: int, n: int, urls: list[str]) -> Frame:
    """Seven of them, as busy as a frame can tell: a log of millions, 40 messages and 20 requests of each in each frame."""
    made = small(node_id, n, urls)
    raft = made["raft"]
    last = 7_340_000 + 300 * n
    raft |= {"first": last - 9000, "last": last, "commit": last - 3, "applied": last - 5, "snapshot_index": last - 9001}
    raft["log"] = [[index, 3 + index % 5, KINDS[index % 7], 120] for index in range(last - 31, last + 1)]
    raft["members"] = dict.fromkeys(map(str, range(1, len(urls) + 1)), "voter")
    others = [peer for peer in range(1, len(urls) + 1) if peer != node_id]
    kinds = ["MsgApp", "MsgAppResp", "MsgHeartbeat", "MsgHeartbeatResp", "MsgProp"]
    made["messages"]["sent"] = [[kinds[at % 5], others[at % len(others)], 3, last, 8] for at in range(40)]
    if node_id == 1:
        raft["progress"] = {
            str(peer): {"match": last, "next": last + 1, "state": "replicate", "active": True, "inflight": 3}
            for peer in others
        }
    parts = {"queue": 0.4, "persist": 2.0 + n % 7, "replicate": 1.5, "apply": 0.2, "answer": 0.05}
    made["requests"] = [["PUT", f"user/{n}/{at}", 204, 5.0 + n % 7 + at / 10, parts] for at in range(20)]
    made["wal"] = {
        "segments": [[f"{at:016x}.wal", 64 << 20] for at in range(64)],
        "fsyncs": 500 * n,
        "bytes": 10**9 * n,
    }
    return made
