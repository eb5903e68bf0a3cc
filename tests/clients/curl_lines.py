"""The lines of etcd's documentation for its JSON gateway, typed as they stand there but for the port, and the real curl.

They are those of "Why gRPC gateway" (dev-guide/api_grpc_gateway) and "Monitoring etcd" (op-guide/monitoring) of etcd's
documentation for 3.5. Each is printed with an answer, and ours has to have its shape: the same fields in the same order, strings
where there are strings, and the same revisions, counts, keys and values, which the lines lead to when they are typed in turn.
What depends on chance (ids, terms, tokens) is compared by its kind.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from tests.clients.systems import Missing, System

__all__ = ["curl", "shape"]

CHANCE = {"cluster_id", "member_id", "raft_term", "token"}
TIMEOUT_S = 30.0


def _at(revision: int) -> str:
    """The header of an answer, at this revision."""
    return (
        '"header":{"cluster_id":"12585971608760269493","member_id":"13847567121247652255",'
        f'"revision":"{revision}","raft_term":"3"}}'
    )


def _kvs(modified: int, version: int, value: str) -> str:
    found = f'"create_revision":"2","mod_revision":"{modified}","version":"{version}","value":"{value}"'
    return f'"kvs":[{{"key":"Zm9v",{found}}}],"count":"1"'


class Line(NamedTuple):
    """A line, and the answer that the documentation prints; where that isn't of this moment, what it would be."""

    typed: str
    printed: str


PUT_AND_GET = [
    Line(
        """curl -L http://localhost:2379/v3/kv/put -X POST -d '{"key": "Zm9v", "value": "YmFy"}'""",
        f"{{{_at(2)}}}",
    ),
    Line(
        """curl -L http://localhost:2379/v3/kv/range -X POST -d '{"key": "Zm9v"}'""",
        f"{{{_at(2)},{_kvs(2, 1, 'YmFy')}}}",
    ),
    Line(
        """curl -L http://localhost:2379/v3/kv/range -X POST -d '{"key": "Zm9v", "range_end": "Zm9w"}'""",
        f"{{{_at(2)},{_kvs(2, 1, 'YmFy')}}}",
    ),
]
WATCH = """curl -N http://localhost:2379/v3/watch -X POST -d '{"create_request": {"key":"Zm9v"} }'"""
WATCHED = [f'{{"result":{{{_at(2)},"created":true}}}}']
SEEN = (
    f'{{"result":{{{_at(3)},"events":[{{"kv":{{"key":"Zm9v","create_revision":"2","mod_revision":"3","version":"2",'
    '"value":"YmFy"}}]}}'
)
WHILE_WATCHED = Line(PUT_AND_GET[0].typed, f"{{{_at(3)}}}")
TRANSACTIONS = [
    Line(
        "curl -L http://localhost:2379/v3/kv/txn -X POST -d "
        """'{"compare":[{"target":"CREATE","key":"Zm9v","createRevision":"2"}],"success":[{"requestPut":{"key":"Zm9v","value":"YmFy"}}]}'""",
        f'{{{_at(4)},"succeeded":true,"responses":[{{"response_put":{{"header":{{"revision":"4"}}}}}}]}}',
    ),
    Line(
        """curl -L http://localhost:2379/v3/kv/put -X POST -d '{"key": "Zm9v", "value": "YmF6"}'""",
        f"{{{_at(5)}}}",
    ),
    Line(
        "curl -L http://localhost:2379/v3/kv/txn -X POST -d "
        """'{"compare":[{"version":"4","result":"EQUAL","target":"VERSION","key":"Zm9v"}],"success":[{"requestRange":{"key":"Zm9v"}}]}'""",
        f'{{{_at(5)},"succeeded":true,"responses":[{{"response_range":{{"header":{{"revision":"5"}},{_kvs(5, 4, "YmF6")}}}}}]}}',
    ),
]
AUTHENTICATION = [
    Line(
        """curl -L http://localhost:2379/v3/auth/user/add -X POST -d '{"name": "root", "password": "pass"}'""",
        f"{{{_at(5)}}}",
    ),
    Line(
        """curl -L http://localhost:2379/v3/auth/role/add -X POST -d '{"name": "root"}'""",
        f"{{{_at(5)}}}",
    ),
    Line(
        """curl -L http://localhost:2379/v3/auth/user/grant -X POST -d '{"user": "root", "role": "root"}'""",
        f"{{{_at(5)}}}",
    ),
    Line("""curl -L http://localhost:2379/v3/auth/enable -X POST -d '{}'""", f"{{{_at(5)}}}"),
    Line(
        """curl -L http://localhost:2379/v3/auth/authenticate -X POST -d '{"name": "root", "password": "pass"}'""",
        f'{{{_at(5)},"token":"sssvIpwfnLAcWAQH.9"}}',
    ),
]
WITH_TOKEN = Line(
    "curl -L http://localhost:2379/v3/kv/put -H 'Authorization: sssvIpwfnLAcWAQH.9' "
    """-X POST -d '{"key": "Zm9v", "value": "YmFy"}'""",
    f"{{{_at(6)}}}",
)
METRICS = "curl -L http://localhost:2379/metrics"
METRIC_NAMES = ("etcd_disk_backend_commit_duration_seconds_bucket", "etcd_server_has_leader", "etcd_server_is_leader")
HEALTH = "curl -L http://localhost:2379/health"


def shape(answer: Any, name: str = "") -> Any:
    """An answer with what depends on chance replaced by its kind; fields stay in their order."""
    if isinstance(answer, dict):
        return [(field, shape(value, field)) for field, value in answer.items()]
    if isinstance(answer, list):
        return [shape(each, name) for each in answer]
    return type(answer).__name__ if name in CHANCE else answer


def curl(system: System, directory: Path) -> str:
    """Types all lines, against the first node. Raises AssertionError at the first answer of another shape."""
    if shutil.which("curl") is None:
        raise Missing("curl isn't installed")
    terminal = _Terminal(system.urls[0].rpartition(":")[2])
    for line in PUT_AND_GET:
        terminal.compare(line)
    with terminal.watching(WATCH) as stream:
        for printed in WATCHED:
            _same(WATCH, json.loads(stream.readline()), printed)
        terminal.compare(WHILE_WATCHED)
        _same(WATCH, json.loads(stream.readline()), SEEN)
    for line in TRANSACTIONS:
        terminal.compare(line)
    metrics = terminal.type(METRICS)
    lacking = [name for name in METRIC_NAMES if f"\n{name}" not in metrics]
    assert not lacking, f"{METRICS} has no {', '.join(lacking)}"
    assert json.loads(terminal.type(HEALTH))["health"] == "true"
    for line in AUTHENTICATION:
        answer = terminal.compare(line)
    token = WITH_TOKEN.typed.replace("sssvIpwfnLAcWAQH.9", answer["token"])
    terminal.compare(WITH_TOKEN._replace(typed=token))
    count = len(PUT_AND_GET) + len(TRANSACTIONS) + len(AUTHENTICATION) + 5
    return f"{count} lines answered as printed"


class _Terminal:
    def __init__(self, port: str) -> None:
        self._port = port

    def _words(self, typed: str) -> list[str]:
        words = shlex.split(typed.replace("localhost:2379", f"localhost:{self._port}"))
        return [words[0], "--silent", "--show-error", "--noproxy", "*", *words[1:]]

    def type(self, typed: str) -> str:
        """What curl prints."""
        ran = subprocess.run(self._words(typed), capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert ran.returncode == 0, f"{typed}: {ran.stderr}"
        return ran.stdout

    def compare(self, line: Line) -> Any:
        """Types a line; returns the answer. Raises AssertionError if it isn't of the printed shape."""
        answer = json.loads(self.type(line.typed))
        _same(line.typed, answer, line.printed)
        return answer

    @contextlib.contextmanager
    def watching(self, typed: str) -> Iterator[IO[str]]:
        """The lines of an answer that doesn't end."""
        process = subprocess.Popen(self._words(typed), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout:
            try:
                yield process.stdout
            finally:
                process.kill()
                process.wait()


def _same(typed: str, answer: Any, printed: str) -> None:
    assert shape(answer) == shape(json.loads(printed)), (
        f"{typed}\n  printed: {printed}\n  answer:  {json.dumps(answer)}"
    )
