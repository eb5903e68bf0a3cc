"""The service KV in plain Python: what etcd answers to range, put, deleterange, txn and compaction, from JSON to JSON.

It keeps the whole content at each revision, as a dict, and evaluates a request as its documentation reads. Real etcd
(tests/interop/test_etcd_kv.py) and the histories of the fault runs
(tests/cluster) are held to it.

Headers have the revision only. Leases are those it is told of.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Model", "Refused", "coded", "decoded", "without_names"]

Body = dict[str, Any]
MAX_OPERATIONS = 128
NEWEST_KEPT = 1_000_000_000


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def decoded(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def without_names(answer: Body) -> Body:
    """An answer without what tells nodes, clusters and terms apart, and without the field that 3.4 and 3.5.1 have twice."""
    header = {name: value for name, value in answer.get("header", {}).items() if name == "revision"}
    rest = {name: value for name, value in answer.items() if name not in ("header", "error")}
    return {"header": header, **rest} if "header" in answer else rest


class Refused(Exception):
    """An error as the gateway tells it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.status = {3: 400, 5: 404, 11: 400}[code]
        self.answer = {"code": code, "message": f"etcdserver: {message}"}


@dataclass(frozen=True)
class Version:
    create: int
    mod: int
    version: int
    value: bytes
    lease: int

    def shown(self, key: bytes, value: bool = True) -> Body:
        fields = {
            "key": coded(key),
            "create_revision": str(self.create),
            "mod_revision": str(self.mod),
            "version": str(self.version),
            "value": coded(self.value) if value else "",
            "lease": str(self.lease) if self.lease else "",
        }
        return {name: each for name, each in fields.items() if each}


State = dict[bytes, Version]
NOTHING = Version(0, 0, 0, b"", 0)


class Model:
    """A store. `revision` may be set forward by who knows that others have changed keys that nobody asks for here."""

    def __init__(self, leases: Collection[int] = (), kept: int = NEWEST_KEPT) -> None:
        """kept: of how many of its own changes the content before them is kept."""
        self.leases = leases
        self.kept = kept
        self.revision = 1
        self.compacted = -1
        self.states: dict[int, State] = {1: {}}  # by the revision that began with it

    def ask(self, path: str, body: Body) -> tuple[int, Body]:
        """Status and answer of a request: path without "/v3/"."""
        calls: Mapping[str, Callable[[Body], Body]] = {
            "kv/range": self._range,
            "kv/put": self._put,
            "kv/deleterange": self._delete,
            "kv/txn": self._txn,
            "kv/compaction": self._compact,
        }
        try:
            return 200, calls[path](body)
        except Refused as error:
            return error.status, error.answer

    def content(self, revision: int) -> State:
        """What there was at a revision."""
        return self.states[max(each for each in self.states if each <= revision)]

    def _changed(self, after: State) -> None:
        """`after` is the content now: of the next revision if it isn't what was."""
        if after is not self.content(self.revision):
            self.revision += 1
            self.states[self.revision] = after
            while len(self.states) > self.kept + 1:
                del self.states[next(iter(self.states))]

    # ---- requests of their own --------------------------------------------------------------------------------------

    def _range(self, body: Body) -> Body:
        check(body)
        revision = int(body.get("revision", 0))
        if revision > self.revision:
            raise Refused(11, "mvcc: required revision is a future revision")
        if 0 < revision < self.compacted:
            raise Refused(11, "mvcc: required revision has been compacted")
        return ranged(self.content(revision if revision > 0 else self.revision), body, self.revision)

    def _put(self, body: Body) -> Body:
        check_put(body)
        state = self.content(self.revision)
        lease = int(body.get("lease", 0))
        if lease and lease not in self.leases:
            raise Refused(5, "requested lease not found")
        self._possible_put(state, body)
        return self._performed("request_put", body)

    def _delete(self, body: Body) -> Body:
        check(body)
        return self._performed("request_delete_range", body)

    def _performed(self, kind: str, body: Body) -> Body:
        (response,), after = perform(self.content, self.revision, [{kind: body}])
        self._changed(after)
        return dict(next(iter(response.values())))

    def _compact(self, body: Body) -> Body:
        revision = int(body.get("revision", 0))
        if revision <= self.compacted:
            raise Refused(11, "mvcc: required revision has been compacted")
        if revision > self.revision:
            raise Refused(11, "mvcc: required revision is a future revision")
        self.compacted = revision
        return {"header": {"revision": str(self.revision)}}

    # ---- transactions -----------------------------------------------------------------------------------------------

    def _txn(self, body: Body) -> Body:
        check_txn(body, MAX_OPERATIONS)
        changes(body.get("success", []))
        changes(body.get("failure", []))
        before = self.content(self.revision)
        path: list[bool] = []
        done = chosen(before, body, path)
        for operation in done:
            self._possible(before, operation, "request_put")
        for operation in done:
            self._possible(before, operation, "request_range")
        operations = body.get("success" if path[0] else "failure", [])
        responses, after = perform(self.content, self.revision, operations, path[1:])
        self._changed(after)
        answer: Body = {"header": {"revision": str(self.revision)}, "succeeded": path[0], "responses": responses}
        return {name: value for name, value in answer.items() if value}

    def _possible(self, state: State, operation: Body, kind: str) -> None:
        body = operation.get(kind)
        if body is None:
            return
        if kind == "request_put":
            self._possible_put(state, body)
            if int(body.get("lease", 0)) not in (0, *self.leases):
                raise Refused(5, "requested lease not found")
            return
        revision = int(body.get("revision", 0))
        if revision > self.revision:
            raise Refused(11, "mvcc: required revision is a future revision")
        if revision and revision < self.compacted:
            raise Refused(11, "mvcc: required revision has been compacted")

    def _possible_put(self, state: State, body: Body) -> None:
        if (body.get("ignore_value") or body.get("ignore_lease")) and decoded(body["key"]) not in state:
            raise Refused(3, "key not found")


# ---- what is wrong in itself ------------------------------------------------------------------------------------------


def check(body: Body) -> None:
    if not body.get("key"):
        raise Refused(3, "key is not provided")


def check_put(body: Body) -> None:
    check(body)
    if body.get("ignore_value") and body.get("value"):
        raise Refused(3, "value is provided")
    if body.get("ignore_lease") and int(body.get("lease", 0)):
        raise Refused(3, "lease is provided")


def check_txn(body: Body, most: int) -> None:
    lists = [body.get(name, []) for name in ("compare", "success", "failure")]
    if max(map(len, lists)) > most:
        raise Refused(3, "too many operations in txn request")
    for compare in lists[0]:
        check(compare)
    for operation in lists[1] + lists[2]:
        ((kind, inner),) = operation.items() or [("", {})]
        if kind == "request_txn":
            check_txn(inner, most - max(map(len, lists)))
        elif kind == "request_put":
            check_put(inner)
        elif kind:
            check(inner)
        else:
            raise Refused(3, "key not found")


def changes(operations: Sequence[Body]) -> tuple[set[bytes], list[tuple[bytes, bytes]]]:
    """The keys that a list puts, and the ranges that it deletes."""
    puts: set[bytes] = set()
    deletes = [literal(each["request_delete_range"]) for each in operations if "request_delete_range" in each]

    def put(key: bytes, safe: Collection[bytes] = ()) -> None:
        if (key in puts and key not in safe) or any(start <= key < stop for start, stop in deletes):
            raise Refused(3, "duplicate key given in txn request")
        puts.add(key)

    for operation in operations:
        if "request_txn" in operation:
            then_puts, then_deletes = changes(operation["request_txn"].get("success", []))
            else_puts, else_deletes = changes(operation["request_txn"].get("failure", []))
            for key in then_puts:
                put(key)
            for key in else_puts:
                put(key, safe=then_puts)
            deletes += then_deletes + else_deletes
    for operation in operations:
        if "request_put" in operation:
            put(decoded(operation["request_put"]["key"]))
    return puts, deletes


def literal(body: Body) -> tuple[bytes, bytes]:
    """A range as etcd looks for clashes: an end of one zero byte is no more than that."""
    key = decoded(body["key"])
    return key, decoded(body.get("range_end")) or key + b"\0"


# ---- evaluation -----------------------------------------------------------------------------------------------------


def there(state: State, body: Body) -> list[bytes]:
    """The keys of a range, in order."""
    key, end = decoded(body["key"]), decoded(body.get("range_end"))
    if not end:
        return [key] if key in state else []
    return sorted(each for each in state if each >= key and (end == b"\0" or each < end))


def ranged(state: State, body: Body, revision: int) -> Body:
    """The answer to a range of this content."""
    keys = there(state, body)
    answer: Body = {"header": {"revision": str(revision)}}
    found = [] if body.get("count_only") else [(key, state[key]) for key in keys]
    limit, order = int(body.get("limit", 0)), int(body.get("sort_order", 0))
    target = int(body.get("sort_target", 0))
    bounds = {name: int(body.get(f"{name}_revision", 0)) for name in ("min_mod", "max_mod", "min_create", "max_create")}
    if limit > 0 and not order and not any(bounds.values()):
        found = found[: limit + 1]
    found = [
        (key, each)
        for key, each in found
        if each.mod >= bounds["min_mod"]
        and each.create >= bounds["min_create"]
        and (not bounds["max_mod"] or each.mod <= bounds["max_mod"])
        and (not bounds["max_create"] or each.create <= bounds["max_create"])
    ]
    if order or target:
        found.sort(
            key=lambda pair: (pair[0], pair[1].version, pair[1].create, pair[1].mod, pair[1].value)[target],
            reverse=order == 2,
        )
    if 0 < limit < len(found):
        found = found[:limit]
        answer["more"] = True
    if found:
        answer["kvs"] = [each.shown(key, not body.get("keys_only")) for key, each in found]
    if keys:
        answer["count"] = str(len(keys))
    return answer


def chosen(state: State, body: Body, path: list[bool]) -> list[Body]:
    """The operations that will be done, of inner transactions too; adds to `path` what each compare has come to."""
    succeeded = all(holds(state, compare) for compare in body.get("compare", []))
    path.append(succeeded)
    done = []
    for operation in body.get("success" if succeeded else "failure", []):
        done += chosen(state, operation["request_txn"], path) if "request_txn" in operation else [operation]
    return done


def holds(state: State, compare: Body) -> bool:
    versions = [state[key] for key in there(state, compare)]
    target = compare.get("target", "VERSION")
    if target == "VALUE" and not versions:
        return False
    return all(compares(compare, target, each) for each in versions or [NOTHING])


def compares(compare: Body, target: str, version: Version) -> bool:
    has: Any
    wanted: Any
    if target == "VALUE":
        has, wanted = version.value, decoded(compare.get("value"))
    else:
        field = {"CREATE": "create_revision", "MOD": "mod_revision", "VERSION": "version", "LEASE": "lease"}[target]
        has, wanted = getattr(version, target.lower()), int(compare.get(field, 0))
    return {
        "EQUAL": has == wanted, "NOT_EQUAL": has != wanted, "GREATER": has > wanted, "LESS": has < wanted,
    }[compare.get("result", "EQUAL")]  # fmt: skip


def perform(
    content: Callable[[int], State], revision: int, operations: Sequence[Body], path: Sequence[bool] = ()
) -> tuple[list[Body], State]:
    """Responses and the content after operations at `revision`; it is the content before them if nothing changed.

    content: of each revision so far. path: what the compares of inner transactions have come to, in their order.
    """
    before = state = content(revision)
    left = list(path)

    def run(operations: Sequence[Body]) -> list[Body]:
        return [one(operation) for operation in operations]

    def now() -> int:
        return revision + (state is not before)

    def one(operation: Body) -> Body:
        nonlocal state
        ((kind, body),) = operation.items()
        if kind == "request_range":
            asked = int(body.get("revision", 0))
            return {"response_range": ranged(content(asked) if asked > 0 else state, body, now())}
        if kind == "request_txn":
            succeeded = left.pop(0)
            inner = run(body.get("success" if succeeded else "failure", []))
            answer = {"header": {}, "succeeded": succeeded, "responses": inner}
            return {"response_txn": {name: value for name, value in answer.items() if value or name == "header"}}
        if kind == "request_put":
            response, state = put(state, body, revision + 1)
        else:
            response, state = deleted(state, body)
        return {kind.replace("request", "response"): {"header": {"revision": str(now())}, **response}}

    return run(operations), state


def put(state: State, body: Body, revision: int) -> tuple[Body, State]:
    key = decoded(body["key"])
    old = state.get(key)
    value = old.value if old and body.get("ignore_value") else decoded(body.get("value"))
    lease = old.lease if old and body.get("ignore_lease") else int(body.get("lease", 0))
    new = Version(old.create if old else revision, revision, old.version + 1 if old else 1, value, lease)
    response = {"prev_kv": old.shown(key)} if old and body.get("prev_kv") else {}
    return response, {**state, key: new}


def deleted(state: State, body: Body) -> tuple[Body, State]:
    keys = there(state, body)
    if not keys:
        return {}, state
    response: Body = {"deleted": str(len(keys))}
    if body.get("prev_kv"):
        response["prev_kvs"] = [state[key].shown(key) for key in keys]
    return response, {key: each for key, each in state.items() if key not in keys}
