"""Clients of /v3/kv/txn and /v3/kv/range, one at each node, beside the others of a round (clients.py).

Each reads a group of keys and then changes something of it in a transaction that compares what it saw: an amount goes from
one account to the other, a key is made, changed or removed. Others may have been there first; then the transaction reads the group
again. What an answer means for the history (txn_history.py):

| answer                                                | a transaction              | a read  |
|-------------------------------------------------------|----------------------------|---------|
| 200                                                   | done between call and end  | saw this|
| no connection                                         | not done: left out         | nothing |
| 503, 504; the connection breaks; no answer in time    | unknown: no end            | nothing |

etcd's 503 says "timed out", "no leader" and more: it may have been done.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.cluster.txn_history import GROUP_OPERATIONS_MAX, PATH, TxnOp, group_of, judge, log_of, request_of, values_of
from tests.gateway.kv_model import coded, decoded

__all__ = ["Asked", "NotDone", "Refusal", "TxnLoad", "Unknown", "change"]

PATIENCE_S = 3.0
PAUSE_S = 0.02
FIRST_AMOUNT = 100
SPARE = 6  # operations of a group that a round adds at the end
FIRST_CLIENT = 20

Body = dict[str, Any]


class NotDone(Exception):
    """It has surely not been done."""


class Unknown(Exception):
    """It may have been done."""


class Refusal(AssertionError):
    """An answer that says no. To who doesn't catch it, one that must not be."""


class Asked:
    """One node's /v3, asked over one connection."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)

    def ask(self, path: str, body: Body) -> Body:
        """The answer. Raises NotDone, Unknown, Refusal."""
        connection = self._connection
        try:
            if connection.sock is None:
                connection.connect()
        except OSError as error:
            connection.close()
            raise NotDone from error
        try:
            connection.request("POST", f"/v3/{path}", json.dumps(body))
            answer = connection.getresponse()
            status, data = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unknown from error
        if status in (503, 504):
            raise Unknown
        if status != 200:
            raise Refusal(f"{path} {body} was answered {status}: {data!r}")
        return dict(json.loads(data))

    def close(self) -> None:
        self._connection.close()


class _Groups:
    """The group in use, for any thread; the next one when it has had its share."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._number = 1
        self._used: Counter[int] = Counter()

    def one(self, operations: int) -> bytes:
        """The group for so many more operations."""
        with self._guard:
            if self._used[self._number] + operations > GROUP_OPERATIONS_MAX - SPARE:
                self._number += 1
            self._used[self._number] += operations
            return group_of(self._number)


class TxnLoad:
    """Clients at work, from `start` to `stop`; what they were told, and what `judge` makes of it.

    failures: what they must not have been told.
    """

    def __init__(self, urls: Mapping[int, str], seed: int, began: float) -> None:
        """urls: of the nodes, one client for each. began: what times are counted from, by time.monotonic."""
        self.failures: list[BaseException] = []
        self.history: list[TxnOp] = []
        self._urls, self._began = dict(urls), began
        self._groups = _Groups()
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run, args=(node, random.Random(f"txn {seed} {node}")), name=f"client-txn-{node}"
            )
            for node in self._urls
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns when every client has had its last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, node: int, rng: random.Random) -> None:
        asked = Asked(self._urls[node])
        try:
            count = 0
            while not self._stop.is_set():
                group = self._groups.one(2)
                read = self._do(asked, TxnOp(FIRST_CLIENT + node, node, "read", group, self._now()))
                if read is None:
                    self._stop.wait(PAUSE_S)
                    continue
                count += 1
                mark = b"%d.%d" % (node, count)
                expects, puts = change(rng, group, values_of(read), mark)
                op = TxnOp(read.client, node, "txn", group, self._now(), expects=expects, puts=puts, mark=mark)
                if self._do(asked, op) is None:
                    self._stop.wait(PAUSE_S)
        except BaseException as error:
            self.failures.append(error)
        finally:
            asked.close()

    def _do(self, asked: Asked, op: TxnOp) -> TxnOp | None:
        """Does an operation and writes it down; None if no answer came."""
        try:
            answer = asked.ask(PATH[op.kind], request_of(op))
        except (NotDone, Unknown) as error:
            if isinstance(error, Unknown) and op.kind == "txn":
                self._add(op)
            return None
        done = replace(op, answer=answer, answered=self._now())
        self._add(done)
        return done

    def _add(self, op: TxnOp) -> None:
        with self._guard:
            self.history.append(op)

    def _now(self) -> float:
        return time.monotonic() - self._began

    # ---- the end ----------------------------------------------------------------------------------------------------

    def judge(self, urls: Mapping[int, str]) -> str:
        """What is wrong, in some lines; "" if nothing is. urls: of the members. Requires: it has stopped, and all serve.

        Each node is asked for each group once more; that is a part of the history.
        """
        groups = sorted({op.group for op in self.history})
        marks: dict[bytes, int] = {}
        for node, url in urls.items():
            asked = Asked(url)
            try:
                for group in groups:
                    self._do(asked, TxnOp(FIRST_CLIENT + 10 + node, node, "read", group, self._now()))
                    if node == min(urls):
                        marks |= _marks(asked, group)
            finally:
                asked.close()
        return judge(self.history, marks)

    def save(self, directory: Path) -> None:
        """Leaves the history in the directory of a round that failed."""
        lines = [str(op) for op in sorted(self.history, key=lambda op: op.called)]
        (directory / "txn-history.txt").write_text("\n".join(lines) + "\n")

    def __str__(self) -> str:
        unknown = sum(not op.known for op in self.history)
        done = sum(op.writes for op in self.history)
        groups = len({op.group for op in self.history})
        return f"{len(self.history):,} requests of /v3/kv on {groups} groups of keys, {done:,} transactions done, {unknown} unknown"


def change(
    rng: random.Random, group: bytes, seen: Mapping[bytes, bytes], mark: bytes
) -> tuple[dict[bytes, bytes | None], dict[bytes, bytes | None]]:
    """What a transaction expects, after a read has seen this, and what it puts then; each value is of this mark alone."""
    third = group + b"c"
    if rng.random() < 0.6:
        payer, payee = rng.sample([group + b"a", group + b"b"], 2)
        amount = rng.randrange(1, 10)
        puts: dict[bytes, bytes | None] = {
            payer: b"%d %b" % (_amount(seen.get(payer)) - amount, mark),
            payee: b"%d %b" % (_amount(seen.get(payee)) + amount, mark),
        }
    else:
        puts = {third: None if third in seen and rng.random() < 0.5 else mark}
    return {key: seen.get(key) for key in puts}, puts


def _amount(value: bytes | None) -> int:
    return FIRST_AMOUNT if value is None else int(value.split()[0])


def _marks(asked: Asked, group: bytes) -> dict[bytes, int]:
    """The versions of a group's log, the newest first, each with its revision."""
    marks: dict[bytes, int] = {}
    revision, version = 0, 2
    while version > 1:
        answer = asked.ask("kv/range", {"key": coded(log_of(group)), "revision": str(revision)})
        if "kvs" not in answer:
            return marks
        (found,) = answer["kvs"]
        marks[decoded(found["value"])] = int(found["mod_revision"])
        revision, version = int(found["mod_revision"]) - 1, int(found["version"])
    return marks
