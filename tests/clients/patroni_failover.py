"""Patroni: two PostgreSQL servers that agree through etcd's v3 JSON gateway who of them is the primary, and a failover.

    1   two members start; the first one that takes the lock in etcd makes the database, the other one copies it
    2   a row is written to the primary, and is seen on the replica
    3   the primary's Patroni and PostgreSQL are killed: its lease runs out, the other one takes the lock, and is primary
    4   the row is there; another one can be written
    5   a node of the cluster that keeps the lock is killed: the primary stays what it is, through the nodes that are left
    6   the first member comes back, as a replica, and has both rows

PostgreSQL refuses to run as root; if that is who runs this, all of it runs as Debian's user `postgres`. That user may not be
allowed to look where our Python and its packages are (root's home, often): so Patroni gets a copy of the packages that it
needs, and if need be Debian's Python.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.clients.systems import Missing, System, ask, until
from tests.server.local_nodes import free_ports

__all__ = ["patroni"]

TTL_S = 20  # Patroni takes no less
FAILOVER_S = 120.0
SCOPE = "metcd"
PASSWORD = "only-for-this-test"


def patroni(system: System, directory: Path) -> str:
    """The story above. Raises AssertionError where it goes otherwise, and Missing."""
    user = "postgres" if os.geteuid() == 0 else ""
    programs = _programs()
    home = directory / "postgres"
    home.mkdir()
    if user:
        entry = _entry(user)
        os.chown(home, entry.pw_uid, entry.pw_gid)
        for above in (directory, *directory.parents):
            with contextlib.suppress(PermissionError):
                if not above.stat().st_mode & 0o001:
                    above.chmod(above.stat().st_mode | 0o001)
    ports = free_ports(4)
    words = _command(home, user)
    pair = [_Member(f"pg{at + 1}", home, programs, ports[2 * at], ports[2 * at + 1], system, words) for at in range(2)]
    try:
        return _story(system, pair)
    finally:
        for member in pair:
            member.kill()


def _story(system: System, pair: list[_Member]) -> str:
    for member in pair:
        member.start()
    first = until("one member is primary", lambda: _primary(pair), FAILOVER_S)
    assert isinstance(first, _Member)
    other = pair[1 - pair.index(first)]
    until("the other one is a replica that streams", lambda: other.role() == "replica", FAILOVER_S)
    first.sql("create table told (what text)")
    first.sql("insert into told values ('before')")
    until("the replica has the row", lambda: other.sql("select what from told") == [("before",)])
    first.kill()
    until("the other one is primary", lambda: other.role() == "primary", FAILOVER_S)
    assert other.sql("select what from told") == [("before",)]
    other.sql("insert into told values ('after')")
    if len(system.urls) > 1:
        system.kill(0)
        other.keeps_the_lead(2 * TTL_S)
    first.start()
    both = [("after",), ("before",)]
    until("who was primary is a replica", lambda: first.role() == "replica", FAILOVER_S)
    until("it has both rows", lambda: first.sql("select what from told order by 1") == both, FAILOVER_S)
    return f"{first.name} was killed, {other.name} took over, and {first.name} came back as its replica"


def _primary(pair: list[_Member]) -> _Member | None:
    return next((member for member in pair if member.role() == "primary"), None)


def _programs() -> str:
    """Where Debian keeps PostgreSQL's programs. Raises Missing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise Missing("PostgreSQL isn't installed: apt-get install postgresql")
    return str(found[-1].parent)


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise Missing(f"PostgreSQL doesn't run as root, and there is no user {user}") from None


def _command(home: Path, user: str) -> list[str]:
    """The words that start Patroni, without its file: as this user, with a Python that it may run. Raises Missing."""
    packages = home / "packages"
    try:
        _copy(packages)
    except importlib.metadata.PackageNotFoundError as error:
        raise Missing(f"{error.name} isn't installed: make clients does it") from None
    setpriv = shutil.which("setpriv")
    if user and setpriv is None:
        raise Missing("setpriv isn't installed: apt-get install util-linux")
    drop = [str(setpriv), f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    environment = ["env", f"HOME={home}", f"PYTHONPATH={packages}", "NO_PROXY=*"]
    # It starts PostgreSQL by another Python, so that one has to be in this user's reach, too.
    probe = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import patroni, psycopg, etcd'], check=True)"
    )
    told = ""
    for python in (sys.executable, "/usr/bin/python3"):
        words = [*environment, *drop, python]
        tried = subprocess.run([*words, "-c", probe], cwd=home, capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return [*words, str(packages / "bin" / "patroni")]
        told = tried.stderr[-300:]
    raise Missing(f"the user {user} can run neither {sys.executable} nor /usr/bin/python3 with our packages: {told}")


def _copy(packages: Path) -> None:
    """Copies the files of all packages that Patroni needs. Raises PackageNotFoundError."""
    first = ["patroni", "python-etcd", "dnspython", "psycopg", "psycopg-binary"]
    wanted, seen = [*first], set[str]()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name in first:
                raise
            continue  # only another Python, or another system, needs it
        needed = [need for need in found.requires or [] if "extra ==" not in need]
        wanted += [re.split(r"[^\w.-]", need)[0] for need in needed]
        for file in found.files or []:
            if ".." not in file.parts:
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target)
    (packages / "bin").mkdir(exist_ok=True)  # run as a file of the package, it would take its modules for Python's
    (packages / "bin" / "patroni").write_text(
        "from patroni.__main__ import main\n\nif __name__ == '__main__':\n    main()\n"
    )


class _Member:
    """One Patroni with its PostgreSQL."""

    def __init__(
        self, name: str, home: Path, programs: str, port: int, api_port: int, system: System, words: list[str]
    ) -> None:
        self.name = name
        self._words = words
        self._port = port
        self._api = f"http://127.0.0.1:{api_port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._home = home
        self._log = home / f"{name}.log"
        self._file = home / f"{name}.json"
        network = "host all all 127.0.0.1/32 md5", "host replication replicator 127.0.0.1/32 md5"
        users = {"superuser": {"username": "postgres", "password": PASSWORD}}
        users["replication"] = {"username": "replicator", "password": PASSWORD}
        configuration = {
            "scope": SCOPE,
            "name": name,
            "restapi": {"listen": self._api.removeprefix("http://"), "connect_address": self._api.removeprefix("http://")},
            "etcd3": {"hosts": [url.removeprefix("http://") for url in system.urls], "protocol": "http"},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_S, "loop_wait": 2, "retry_timeout": 5, "maximum_lag_on_failover": 1 << 20,
                    "postgresql": {"parameters": {"fsync": "off", "shared_buffers": "16MB"}},
                },
                "initdb": [{"encoding": "UTF8"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{port}", "connect_address": f"127.0.0.1:{port}", "bin_dir": programs,
                "data_dir": str(home / name), "pg_hba": list(network), "authentication": users,
                "parameters": {"unix_socket_directories": str(home), "log_line_prefix": f"{name} "},
            },
        }  # fmt: skip
        self._file.write_text(json.dumps(configuration, indent=1))  # JSON is YAML

    def start(self) -> None:
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [*self._words, str(self._file)], stdout=log, stderr=log, cwd=self._home, start_new_session=True
            )

    def kill(self) -> None:
        """Ends Patroni and its PostgreSQL, which is a session of its own, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for group in self._postmaster():
            with contextlib.suppress(ProcessLookupError):
                os.kill(group, signal.SIGKILL)

    def _postmaster(self) -> Iterator[int]:
        with contextlib.suppress(OSError, ValueError):
            postmaster = int((self._home / self.name / "postmaster.pid").read_text().split()[0])
            with open(f"/proc/{postmaster}/cmdline") as line:
                if str(self._home) in line.read():  # it is ours, and not who got its number
                    yield postmaster
                    for task in Path(f"/proc/{postmaster}/task").glob("*/children"):
                        yield from map(int, task.read_text().split())

    def role(self) -> str:
        """What Patroni says that it is, once its PostgreSQL runs; "" as long as it doesn't say."""
        told = self._told()
        role = "primary" if told.get("role") in ("primary", "master") else str(told.get("role", ""))
        return role if told.get("state") in ("running", "streaming") else ""

    def _told(self) -> dict[str, Any]:
        _, body = ask(self._api, "/patroni")
        with contextlib.suppress(ValueError):
            found: dict[str, Any] = json.loads(body)
            return found
        return {}

    def keeps_the_lead(self, seconds: float) -> None:
        """Looks for so long. Raises AssertionError if this member stops being the primary, if only for a moment."""
        timeline, deadline, pause = self._told().get("timeline"), time.monotonic() + seconds, threading.Event()
        while time.monotonic() < deadline:
            assert self.role() in ("primary", ""), f"{self.name} lost the lead"
            pause.wait(0.2)
        assert (self.role(), self._told().get("timeline")) == ("primary", timeline), f"{self.name} lost the lead"

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        import psycopg

        where = f"host=127.0.0.1 port={self._port} dbname=postgres user=postgres password={PASSWORD} connect_timeout=5"
        refused = psycopg.OperationalError, psycopg.errors.UndefinedTable  # a replica that lags has no such table
        with contextlib.suppress(*refused), psycopg.connect(where, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []
        return []
