"""Clients of locks and leases, beside the others of a round (clients.py): they take a lock with a lease, and use it, and lose it.

Each grants a lease of LEASE_S at some node, asks for one of a few locks, and when it has it, reads its own key and writes under
its protection: a transaction that compares the create revision of the lock's key. A second thread keeps its lease alive at
another node meanwhile. Then it unlocks, or revokes the lease, or is gone without a word, and its lease has to end by itself.

`judge` is told everything that has happened to the locks' keys, by a watch from the first revision on, after the round:

1. mutual exclusion  Whoever was told that it holds a lock held it: at the revision of that answer its key is there, and is the
                     oldest of the lock's. So no two hold it at a revision; and nobody is told so before the holder before it has
                     lost its key.
2. fencing           A write under a lock's protection was done at a revision at which its writer held the lock.
3. kept alive        Between an answer that a lease was kept alive and the end of its time, counted from the question, its key is
                     there: neither is it missing from an answer in that time, nor is the lease unknown.
4. expired           After the round, when the longest time has passed, no key of a lease is left that nobody kept alive; that
                     of the witness is, whose lease is kept alive all the time and is long enough for every fault.

An answer that didn't come says nothing. A client that isn't sure whether its lease lives lets go of everything, as it should.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import math
import random
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.cluster.processes import until
from tests.cluster.txn_load import Asked, NotDone, Refusal, Unknown

__all__ = ["LOCKS", "Claim", "Fenced", "LockLoad", "Step", "judge"]

LEASE_S = 2
WITNESS_S = 120  # longer than any round's faults
LOCKS = (b"lock/a", b"lock/b", b"lock/c")
WITNESS = b"lock-witness"
PROTECTED = b"lock-protected/"
END = b"lock-the-end"
KEEP_EVERY_S = 0.4
HOLD_S = 0.1
PAUSE_S = 0.02
GONE_S = 60.0  # until every lease that nobody keeps alive has to be gone, on a busy machine
CLIENTS = 6


class Step(NamedTuple):
    """A change of a lock's key: it was created or changed, and is that which was created at `created`; 0: it was deleted."""

    revision: int
    key: bytes
    created: int


class Claim(NamedTuple):
    """A client was told at `revision` that `key` holds its lock."""

    lock: bytes
    key: bytes
    revision: int


class Fenced(NamedTuple):
    """At `revision` a client has written under the protection of `key`, which was created at `created`."""

    lock: bytes
    key: bytes
    created: int
    revision: int


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


class _Lease:
    """One lease of a client, and until when it lives for certain: by the last answer, counted from when it was asked."""

    def __init__(self, lease: str, asked: float, ttl: int) -> None:
        self.id = lease
        self.until = asked + ttl
        self.let_go = threading.Event()  # it isn't kept alive any more


class LockLoad:
    """Clients at work, from `start` to `stop`, and what `judge` makes of it. failures: what they must not have been told."""

    def __init__(self, urls: Mapping[int, str], seed: int, began: float) -> None:
        """urls: of the nodes."""
        self.failures: list[BaseException] = []
        self.claims: list[Claim] = []
        self.fenced: list[Fenced] = []
        self.lost = 0  # locks that were lost without a word
        self._urls = list(urls.values())
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._guarded, args=(self._witness,), name="client-lock-witness")]
        for number in range(CLIENTS):
            rng = random.Random(f"lock {seed} {number}")
            self._threads.append(
                threading.Thread(target=self._guarded, args=(self._run, rng), name=f"client-lock-{number}")
            )

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns when every client has had its last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, run: Any, *arguments: Any) -> None:
        try:
            run(*arguments)
        except BaseException as error:
            self.failures.append(error)

    # ---- clients ----------------------------------------------------------------------------------------------------

    def _run(self, rng: random.Random) -> None:
        while not self._stop.is_set():
            nodes = [Asked(url) for url in rng.sample(self._urls, len(self._urls))]
            try:
                self._take(nodes, rng)
            except (NotDone, Unknown, Refusal):  # a lock without a majority, a lease that has ended
                self._stop.wait(PAUSE_S)
            finally:
                for node in nodes:
                    node.close()

    def _take(self, nodes: list[Asked], rng: random.Random) -> None:
        """A lease, a lock, and its loss. Raises NotDone, Unknown."""
        lease = _granted(nodes[0], LEASE_S)
        keeper = threading.Thread(target=self._guarded, args=(self._keep, lease, nodes[1]), name="client-lock-keeper")
        keeper.start()
        try:
            lock = rng.choice(LOCKS)
            answer = nodes[0].ask("lock/lock", {"name": coded(lock), "lease": lease.id})
            self._hold(nodes[2], lease, lock, answer, rng)
            choice = rng.random()
            if choice < 0.6:
                nodes[0].ask("lock/unlock", {"key": answer["key"]})
            elif choice < 0.85:
                lease.let_go.set()
                nodes[0].ask("lease/revoke", {"ID": lease.id})
            else:
                self.lost += 1
        finally:
            lease.let_go.set()
            keeper.join()

    def _hold(self, node: Asked, lease: _Lease, lock: bytes, answer: Any, rng: random.Random) -> None:
        """Uses a lock that it has been given. Raises NotDone, Unknown."""
        key = base64.b64decode(answer["key"])
        with self._guard:
            self.claims.append(Claim(lock, key, int(answer["header"]["revision"])))
        created = self._must_be_there(node, lease, key)
        for _ in range(rng.randrange(1, 4)):
            compare = {"target": "CREATE", "key": coded(key), "create_revision": str(created)}
            put = {"request_put": {"key": coded(PROTECTED + lock), "value": coded(key)}}
            done = node.ask("kv/txn", {"compare": [compare], "success": [put]})
            if done.get("succeeded"):
                with self._guard:
                    self.fenced.append(Fenced(lock, key, created, int(done["header"]["revision"])))
            self._stop.wait(rng.random() * HOLD_S)
            self._must_be_there(node, lease, key)

    def _must_be_there(self, node: Asked, lease: _Lease, key: bytes) -> int:
        """The create revision of a lease's key. Raises NotDone if it is gone, and may be; Unknown."""
        found = node.ask("kv/range", {"key": coded(key)})
        if time.monotonic() < lease.until:
            assert found.get("kvs"), f"{key!r} is gone, and its lease {lease.id} was alive"
        if not found.get("kvs"):
            raise NotDone
        return int(found["kvs"][0]["create_revision"])

    def _keep(self, lease: _Lease, node: Asked) -> None:
        """Keeps a lease alive until it is let go."""
        while not lease.let_go.wait(KEEP_EVERY_S):
            _kept_alive(node, lease)

    def _witness(self) -> None:
        """A lease that is kept alive from the beginning to the end, at whatever node answers."""
        nodes = [Asked(url) for url in self._urls]
        lease: _Lease | None = None
        put = False
        while not self._stop.is_set() or not put:
            try:
                if lease is None:
                    lease = _granted(nodes[0], WITNESS_S)
                elif not put:
                    nodes[0].ask("kv/put", {"key": coded(WITNESS), "lease": lease.id})
                    put = True
                else:
                    self._stop.wait(KEEP_EVERY_S)
                    _kept_alive(nodes[0], lease)
            except (NotDone, Unknown, Refusal):
                nodes.append(nodes.pop(0))
        for node in nodes:
            node.close()

    # ---- the end ----------------------------------------------------------------------------------------------------

    def judge(self, urls: Mapping[int, str]) -> str:
        """What is wrong, in some lines; "" if nothing is. Returns when nothing of the leases is left that nobody keeps alive; the
        witness has to be there. Raises Failed. Requires: it has stopped, and all nodes serve."""
        url = next(iter(urls.values()))
        node = Asked(url)

        def alone() -> bool:
            left = node.ask("kv/range", {"key": coded(b"lock/"), "range_end": coded(b"lock0"), "keys_only": True})
            witness = node.ask("kv/range", {"key": coded(WITNESS), "keys_only": True})
            assert witness.get("kvs"), "the witness's lease was kept alive, and its key is gone"
            leases = [each["ID"] for each in node.ask("lease/leases", {}).get("leases", [])]
            times = {node.ask("lease/timetolive", {"ID": lease}).get("grantedTTL") for lease in leases}
            return not left.get("kvs") and times <= {str(WITNESS_S), None}  # None: it has ended meanwhile

        try:
            until("the leases are gone that nobody keeps alive", alone, GONE_S)
            node.ask("kv/put", {"key": coded(END)})
        finally:
            node.close()
        return judge(_steps(url), self.claims, self.fenced)

    def save(self, directory: Path) -> None:
        """Leaves what was told in the directory of a round that failed."""
        lines = [str(each) for each in (*self.claims, *self.fenced)]
        (directory / "lock-history.txt").write_text("\n".join(lines) + "\n")

    def __str__(self) -> str:
        return (
            f"{len(self.claims):,} locks were taken and {self.lost:,} lost without a word; "
            f"{len(self.fenced):,} writes under their protection"
        )


def _granted(node: Asked, ttl: int) -> _Lease:
    asked = time.monotonic()
    answer = node.ask("lease/grant", {"TTL": ttl})
    return _Lease(answer["ID"], asked, int(answer["TTL"]))


def _kept_alive(node: Asked, lease: _Lease) -> None:
    """Keeps a lease alive, if somebody answers."""
    asked = time.monotonic()
    try:
        answer = node.ask("lease/keepalive", {"ID": lease.id})["result"]
    except (NotDone, Unknown, Refusal, KeyError):  # KeyError: a stream that ended with an error, such as: no leader
        return
    if "TTL" in answer:
        lease.until = asked + int(answer["TTL"])
    else:
        assert lease.let_go.is_set() or time.monotonic() > lease.until, (
            f"the lease {lease.id} is unknown, and was alive"
        )
        lease.until = 0.0


def _steps(url: str) -> list[Step]:
    """Everything that has happened to locks, from a watch that begins with the history."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=GONE_S)
    create = {"create_request": {"key": coded(b"lock"), "range_end": coded(b"locl"), "start_revision": "1"}}
    steps: list[Step] = []
    with contextlib.closing(connection):
        connection.request("POST", "/v3/watch", json.dumps(create))
        answer = connection.getresponse()
        while not steps or steps[-1].key != END:
            result = json.loads(answer.readline())["result"]
            for event in result.get("events", []):
                kv = event["kv"]
                created = 0 if event.get("type") == "DELETE" else int(kv["create_revision"])
                steps.append(Step(int(kv["mod_revision"]), base64.b64decode(kv["key"]), created))
    return steps


# ---- judgement ------------------------------------------------------------------------------------------------------


def judge(steps: Iterable[Step], claims: Iterable[Claim], fenced: Iterable[Fenced]) -> str:
    """What is wrong with what the clients were told, in some lines; "" if nothing is. steps: of all locks.

    A lock's holder at a revision is the oldest of its keys that are there after that revision's changes.
    """
    asked = {claim.revision for claim in claims} | {each.revision for each in fenced}
    holders = _holders(steps, asked)
    complaints = []
    for claim in sorted(claims, key=lambda each: each.revision):
        holder = holders[claim.lock, claim.revision]
        if holder is None or holder[0] != claim.key:
            complaints.append(f"{claim.key!r} was told at revision {claim.revision} that it holds, and {holder} does")
    for each in sorted(fenced, key=lambda each: each.revision):
        holder = holders[each.lock, each.revision]
        if holder != (each.key, each.created):
            complaints.append(f"{each.key!r} has written at revision {each.revision}, while {holder} holds")
    return "\n".join(complaints)


def _holders(steps: Iterable[Step], asked: set[int]) -> dict[tuple[bytes, int], tuple[bytes, int] | None]:
    """Who holds which lock at these revisions: its key, and when that was created."""
    wanted = sorted(asked, reverse=True)
    holders: dict[tuple[bytes, int], tuple[bytes, int] | None] = {}
    keys: dict[bytes, dict[bytes, int]] = {lock: {} for lock in LOCKS}

    def note(before: float) -> None:
        while wanted and wanted[-1] < before:
            revision = wanted.pop()
            for lock, its in keys.items():
                holders[lock, revision] = min(its.items(), key=lambda item: item[1], default=None)

    for step in steps:
        note(step.revision)
        its = keys.get(step.key.rpartition(b"/")[0], {})
        if step.created:
            its[step.key] = step.created
        else:
            its.pop(step.key, None)
    note(math.inf)
    return holders
