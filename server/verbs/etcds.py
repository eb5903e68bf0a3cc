"""The way out, and in: export and import copy keys and leases to a real etcd and from one; front serves over one."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import getpass
import json
import os
import sys
import threading
import time

from tqdm import tqdm

from server.addresses import netloc, url_of
from server.cluster import FIRST_PORT
from server.copying import Copying, CopyRefused, Moved, Report
from server.descriptors import raise_limit
from server.etcd_client import EtcdClient
from server.front import Front, FrontNode
from server.logs import logger, print_line
from server.v3.status import Status
from server.verbs.clients import DEFAULT_ENDPOINTS
from server.verbs.nodes import stop_event
from server.verbs.words import AddVerb, UsageError, port

__all__ = ["add"]

OURS = os.environ.get("METCD_ENDPOINTS", DEFAULT_ENDPOINTS)
USER_HELP = "where authentication is on; the password is asked for if it isn't there"
BAR_S = 0.1  # between two drawings of a bar
LINE_S = 10.0  # between two lines of progress, where no bar can be drawn
TIMEOUT_HELP = "seconds for each request (default: %(default)s)"


def add(verb: AddVerb) -> None:
    """Adds the verbs of this module."""
    out = verb("export", _copy, "copy all keys and leases of this cluster to an etcd that is empty")
    out.add_argument("--to", metavar="URL,URL", required=True, help="client URLs of the etcd")
    out.add_argument("--from", dest="source", metavar="URL,URL", default=OURS, help="of this cluster's nodes")
    into = verb("import", _copy, "copy all keys and leases of an etcd to this cluster, which is empty")
    into.add_argument("--from", dest="source", metavar="URL,URL", required=True, help="client URLs of the etcd")
    into.add_argument("--to", metavar="URL,URL", default=OURS, help="of this cluster's nodes")
    front = verb("front", _front, "serve the interface of a node over a real etcd cluster")
    front.add_argument("--etcd", metavar="URL,URL", required=True, help="client URLs of the etcd's members")
    front.add_argument("--port", type=port, default=FIRST_PORT, help="for clients (default: %(default)s)")
    front.add_argument("--host", default="127.0.0.1", help="for clients (default: %(default)s)")
    front.add_argument("--until-stdin-closes", action="store_true", help="stop when standard input ends")
    front.add_argument("--timeout", type=float, default=10.0, help=TIMEOUT_HELP)
    front.add_argument("--user", metavar="NAME[:PASSWORD]", help=USER_HELP)
    for each in (out, into):
        for side in ("from", "to"):
            each.add_argument(f"--{side}-user", metavar="NAME[:PASSWORD]", help=f"of --{side}: {USER_HELP}")
        each.add_argument("--timeout", type=float, default=10.0, help=TIMEOUT_HELP)
        each.add_argument("--json", action="store_true", help="for programs: what was done, as one JSON object")


def etcd_of(urls: str, option: str, user: str | None, timeout_s: float) -> EtcdClient:
    """A client of the etcd that an option names, for a user. Raises UsageError."""
    if user and ":" not in user:
        user = f"{user}:{getpass.getpass(f'password of {user}: ')}"
    try:
        return EtcdClient(urls.split(","), timeout_s, user or None)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _copy(options: argparse.Namespace) -> int:
    """0 if both sides are the same at the end; 1 if they aren't; 2, by an exception, if it can't be made."""
    source = etcd_of(options.source, "--from", options.from_user, options.timeout)
    target = etcd_of(options.to, "--to", options.to_user, options.timeout)
    try:
        with contextlib.closing(_Progress()) as progress:
            report = Copying(source, target, progress.told, progress.moved).run()
    except (CopyRefused, Status) as refused:
        raise UsageError(str(refused)) from None
    finally:
        source.close()
        target.close()
    if options.json:
        print(json.dumps(dataclasses.asdict(report)))
    else:
        print(*_lines(report), sep="\n")
    return 0 if report.verified else 1


class _Progress:
    """What a copy says of itself on standard error: a bar on a terminal, elsewhere a line every LINE_S seconds."""

    def __init__(self) -> None:
        self._bar = tqdm(unit=" keys", disable=None, leave=False, mininterval=BAR_S, miniters=1)
        self._said_at = time.monotonic()

    def told(self, line: str) -> None:
        """A sentence about what is done."""
        tqdm.write(f"metcd: {line}", file=sys.stderr)

    def moved(self, moved: Moved) -> None:
        """How far it is."""
        at = f" at revision {moved.revision:,}" if moved.revision else ""
        if not self._bar.disable:
            self._bar.set_description_str(f"{moved.what}{at}", refresh=False)
            self._bar.total = moved.all_keys
            self._bar.update(moved.keys - self._bar.n)
            return
        now = time.monotonic()
        if now - self._said_at >= LINE_S:
            self._said_at = now
            self.told(f"{moved.keys:,} of {moved.all_keys:,} keys are {moved.what}{at}")

    def close(self) -> None:
        """The bar disappears."""
        self._bar.close()


def _lines(report: Report) -> list[str]:
    lines = [
        f"revision {report.revision:,}: {report.keys:,} keys and {report.leases:,} leases; {report.written:,} keys were written, "
        f"{report.deleted:,} deleted"
    ]
    if report.left_out:
        lines.append(f"left out: {report.left_out:,} keys of leases that have ended")
    if report.verified:
        lines.append(f"verified: both sides have {report.keys:,} keys, sha256 {report.sha256}")
    else:
        lines.append(
            f"NOT the same: {report.keys:,} keys, sha256 {report.sha256}, are {report.target_keys:,} keys, "
            f"{report.target_sha256}, in the target; who else writes there? Run it again"
        )
    if report.source_revision > report.revision:
        lines.append(f"the source is at revision {report.source_revision:,} now: what changed since then isn't copied")
    return lines


def _front(options: argparse.Namespace) -> int:
    etcd = etcd_of(options.etcd, "--etcd", options.user, options.timeout)
    stop = stop_event()
    raise_limit()
    try:
        front = Front(FrontNode(etcd), (options.host, options.port))
    except OSError as error:
        raise UsageError(f"clients can't be served on {netloc(options.host, options.port)}: {error.strerror}") from None
    if not front.local_only:
        logger().warning("metcd: everybody who reaches %s can read and write everything: there is no TLS", options.host)
    if options.until_stdin_closes:
        threading.Thread(target=_read_stdin, args=(stop,), daemon=True).start()
    front.start()
    print_line(f"a front to {', '.join(etcd.urls)} serves {url_of(*front.address)}")
    stop.wait()
    front.stop()
    etcd.close()
    return 0


def _read_stdin(ended: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    ended.set()
