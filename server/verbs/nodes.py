"""Verbs that run nodes: serve, one in the foreground; cluster, several on this machine."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import gc
import os
import queue
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import engines
from server import mounts
from server.addresses import netloc, parse_url, url_of
from server.client import Client
from server.cluster import (
    FIRST_PORT,
    ClusterError,
    LocalCluster,
    LocalNode,
    default_engines,
    metcd_command,
    packages_and_engines,
)
from server.config import RETENTION, Joining, NodeConfig, Peers
from server.descriptors import raise_limit
from server.engine_options import engine_options, share_out
from server.errors import NodeError, NodeRemoved
from server.http import FrontEnd
from server.identity import read_identity
from server.joining import joining_of
from server.lab import Lab
from server.lab_node import LabNode
from server.lab_port import LabPort
from server.live_lines import LiveLines, Rates
from server.logs import flush, logger, pass_on, print_line, write_json
from server.node import Node
from server.routes_page import page_url
from server.secret import SecretError, read_secret
from server.strangers import Strangers
from server.transport import SecretMissing, require_secret
from server.verbs.words import AddVerb, UsageError, count, port, quota

__all__ = ["add", "peers_of", "stop_event"]

OPTION_HELP = "an option of the engine, as `metcd options ENGINE` lists them; may be repeated"
LISTEN_HELP = "where it listens for the other nodes, if they reach it at another URL than this (NAT, a proxy)"
SKIP_HELP = "an entry that can't be decoded is passed over: give it to all members alike (server/IDENTITY.md)"
PAGE_HELP = "client URLs of other nodes: this node's live page shows them, too, and their pages this node"
RETENTION_HELP = (
    "how many revisions the leader keeps: it compacts the rest once there are twice as many; 0: all "
    f"(default: {RETENTION:,})"
)
QUOTA_HELP = (
    "a node whose store takes that many bytes raises the alarm NOSPACE, and nothing more can be put; 0 and below: never "
    "(default: 0)"
)
ADVERTISE_HELP = (
    "where clients reach it, for the list of members (default: --host, or its peers' name for it, and --port)"
)
NAME_BYTES_MAX = 200
CORS_HELP = "origins whose pages may call etcd's paths, '*' for any (default: none)"
HOSTS_HELP = "names that clients may use for this server, '*' for any (default: localhost and addresses)"
LOG_FORMATS = ("text", "json")
LOG_HELP = "of what nodes log: lines for people, or a JSON object a line (default: %(default)s)"
SERVE_LAB_HELP = (
    "be told faults on standard input, a JSON object a line, and begin after the first; URL: whom its page may call"
)
CLUSTER_LAB_HELP = (
    "serve what cuts links, pauses and kills nodes, on the port below --port, for who has the printed token"
)
LIVE_S = 1.0  # between two looks at the nodes, for the live lines
LIVE_TIMEOUT_S = 0.3  # for the answer of one node
TURN_S = 0.2  # how soon a dead node is noticed


def add(verb: AddVerb) -> None:
    """Adds the verbs of this module."""
    serve = verb("serve", _serve, "run one node in the foreground")
    serve.add_argument("--id", type=int, required=True, help="this node's number, 1 for the first URL of --cluster")
    serve.add_argument(
        "--cluster",
        help="the peer URL of every node that begins it, in their order; a directory that has begun knows it",
    )
    serve.add_argument(
        "--join", metavar="URL", help="with an empty --data: ask the node at this client URL for the members"
    )
    serve.add_argument("--listen-peer", metavar="URL", help=LISTEN_HELP)
    serve.add_argument("--port", type=port, default=FIRST_PORT, help="for clients (default: %(default)s)")
    serve.add_argument("--host", default="127.0.0.1", help="for clients (default: %(default)s)")
    serve.add_argument("--peer-secret-file", help="what all nodes share, so that nobody else is heard on the peer port")
    serve.add_argument("--data", required=True, help="this node's directory")
    serve.add_argument("--engine", default="memory", help="a name, module:Class or path/to/file.py:Class")
    serve.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help=OPTION_HELP)
    serve.add_argument("--cluster-token", default="", help="tells apart two clusters that begin with the same nodes")
    serve.add_argument("--skip-entry", type=int, action="append", default=[], metavar="INDEX", help=SKIP_HELP)
    serve.add_argument("--name", help="what it is called in the list of members (default: node1 for --id 1)")
    serve.add_argument("--advertise-client-urls", metavar="URL,URL", help=ADVERTISE_HELP)
    serve.add_argument("--page-with", metavar="URL,URL", help=PAGE_HELP)
    serve.add_argument("--auto-compaction-retention", type=count, metavar="N", default=RETENTION, help=RETENTION_HELP)
    serve.add_argument("--quota-backend-bytes", type=quota, metavar="N", default=0, help=QUOTA_HELP)
    serve.add_argument("--until-stdin-closes", action="store_true", help="stop when standard input ends")
    serve.add_argument("--lab", metavar="URL", help=SERVE_LAB_HELP)
    serve.add_argument("--log-format", choices=LOG_FORMATS, default="text", help=LOG_HELP)

    _add_strangers(serve)

    cluster = verb("cluster", _cluster, "run a cluster on this machine, until Ctrl-C")
    cluster.add_argument("--nodes", type=int, help="how many (default: 3, or as many as --engines)")
    cluster.add_argument(
        "--engines",
        help="one for each node, in turn (default: all that are built); DIR:lsm,btree runs the packages in DIR",
    )
    cluster.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"{OPTION_HELP}, and goes to each node that has it",
    )
    cluster.add_argument("--auto-compaction-retention", type=count, metavar="N", help=RETENTION_HELP)
    cluster.add_argument("--quota-backend-bytes", type=quota, metavar="N", help=QUOTA_HELP)
    cluster.add_argument("--log-format", choices=LOG_FORMATS, default="text", help=LOG_HELP)
    cluster.add_argument("--data", default="data", help="where the nodes' directories are (default: %(default)s)")
    cluster.add_argument("--port", type=port, default=FIRST_PORT, help="node 1's client port (default: %(default)s)")
    cluster.add_argument("--lab", action="store_true", help=CLUSTER_LAB_HELP)
    _add_strangers(cluster)


def _add_strangers(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--cors", metavar="ORIGIN,ORIGIN", type=_names, help=CORS_HELP)
    verb.add_argument("--host-whitelist", metavar="HOST,HOST", type=_names, help=HOSTS_HELP)


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def _serve(options: argparse.Namespace) -> int:
    try:
        return _run_node(options)
    finally:
        flush()  # so that the sentence with which `main` ends is the last one


def _run_node(options: argparse.Namespace) -> int:
    raise_limit()
    pages = [_page(url, "--page-with") for url in (options.page_with or "").split(",") if options.page_with]
    lab_url = _page(options.lab, "--lab") if options.lab else ""
    peers, joining = _members(options)
    listener = _url(options.listen_peer, "--listen-peer") if options.listen_peer else None
    stop = stop_event()
    lab = LabNode() if options.lab else None
    if options.log_format == "json":
        write_json(options.id)
    if (sentence := mounts.warning(options.data)) is not None:
        logger().warning("%s", sentence)
    try:
        config = NodeConfig(
            options.id, peers if options.cluster else {}, options.data, options.engine, listen_peer=listener,
            engine_options=engine_options(options.engine, options.option),
            cluster_token=options.cluster_token, peer_secret=_peer_secret(options, (listener or peers[options.id])[0]),
            skip_entries=frozenset(options.skip_entry), joining=joining, retention=options.auto_compaction_retention,
            quota_bytes=options.quota_backend_bytes,
            name=_name(options), client_urls=_client_urls(options, peers[options.id][0]),
        )  # fmt: skip
        node = Node(config if lab is None else dataclasses.replace(config, env=lab.env()))
    except SecretMissing as error:  # its members have it beyond this machine now, and only its engine knows that
        raise UsageError(str(error)) from None
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES) or error.filename is not None:
            raise
        host, port = listener or peers[options.id]
        raise UsageError(f"peers can't be served on {netloc(host, port)}: {error.strerror}") from None
    try:
        strangers = Strangers(options.cors, options.host_whitelist)
        front = FrontEnd(node, (options.host, options.port), pages=pages, lab=lab_url, strangers=strangers)
    except OSError as error:
        node.stop()
        raise UsageError(f"clients can't be served on {netloc(options.host, options.port)}: {error.strerror}") from None
    if not front.local_only:
        logger().warning("metcd: everybody who reaches %s can read and write everything: there is no TLS", options.host)
    if options.until_stdin_closes or lab is not None:
        ended = stop if options.until_stdin_closes else threading.Event()
        threading.Thread(target=_read_stdin, args=(lab, ended), daemon=True).start()
    if lab is not None:
        while not lab.begun.wait(TURN_S) and not stop.is_set():
            pass
        lab.attach(node.breakable())
    gc.freeze()  # what was imported stays: a full collection stops the node for 2 ms in place of 20
    node.start()
    front.start()
    serves = f"node {options.id} serves {url_of(options.host, options.port)} on the engine {options.engine}"
    if options.log_format == "json":
        logger().info("%s", serves)
    else:
        print_line(serves)
    while not stop.wait(TURN_S) and not node.stopped.is_set():
        pass
    front.stop()
    node.hand_over()
    node.stop()
    if isinstance(node.failure, NodeRemoved):
        return 2  # its log line says what to do
    return 1 if node.failure is not None else 0


def _members(options: argparse.Namespace) -> tuple[Peers, Joining | None]:
    """Where the members are, this node among them; and what a node that joins was told. Raises UsageError, NodeError."""
    identity = read_identity(options.data)
    if options.cluster:
        peers = peers_of(options.cluster)
        if options.id not in peers and identity is None:
            raise UsageError(f"--id {options.id} is not in the cluster: --cluster names the nodes 1 to {len(peers)}")
        return {options.id: ("127.0.0.1", 0), **peers}, None
    if identity is not None:
        return {options.id: ("127.0.0.1", 0), **identity.addresses(), **identity.joined_addresses()}, None
    if not options.join:
        raise UsageError(
            f"{options.data} belongs to no cluster yet: begin one with --cluster, or join one with --join URL"
        )
    with Client([url_of(*_url(options.join, "--join"))], user=os.environ.get("METCD_USER")) as client:
        joining = joining_of(client.members(), options.id)
    return joining.members, joining


def _name(options: argparse.Namespace) -> str:
    name: str = options.name if options.name is not None else f"node{options.id}"
    if not name.isprintable() or not 0 < len(name.encode()) <= NAME_BYTES_MAX:
        raise UsageError(f"--name is 1 to {NAME_BYTES_MAX} bytes of printable text")
    return name


def _client_urls(options: argparse.Namespace, known_as: str) -> tuple[str, ...]:
    """What is told to clients. known_as: the host in this node's peer URL, for one that listens on all addresses."""
    if options.advertise_client_urls:
        return tuple(_page(url, "--advertise-client-urls") for url in options.advertise_client_urls.split(","))
    return (url_of(known_as if options.host in ("0.0.0.0", "::") else options.host, options.port),)


def _page(url: str, option: str) -> str:
    """The origin that an option names. Raises UsageError."""
    try:
        return page_url(url)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _peer_secret(options: argparse.Namespace, host: str) -> bytes:
    try:
        secret = read_secret(options.peer_secret_file) if options.peer_secret_file else b""
        require_secret(host, secret)
    except (SecretError, ValueError) as error:
        raise UsageError(str(error)) from None
    return secret


def _read_stdin(lab: LabNode | None, ended: threading.Event) -> None:
    """A thread that waits in sys.stdin holds its lock, and the interpreter aborts if that is held when it ends (SIGABRT)."""
    while data := os.read(sys.stdin.fileno(), 4096):
        if lab is not None:
            lab.take(data)
    ended.set()


def _url(text: str, option: str) -> tuple[str, int]:
    try:
        return parse_url(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def peers_of(cluster: str) -> Peers:
    """ "http://a:1,http://b:2" as {1: ("a", 1), 2: ("b", 2)}."""
    peers: Peers = {}
    for at, url in enumerate(cluster.split(","), 1):
        try:
            address = parse_url(url)
        except ValueError:
            raise UsageError(
                f"--cluster is http://host:port,http://host:port,… and this part is not: {url!r}"
            ) from None
        if address in peers.values():
            raise UsageError(f"--cluster names {netloc(*address)} twice: each node has a peer port of its own")
        peers[at] = address
    return peers


def stop_event() -> threading.Event:
    """Is set by SIGINT (Ctrl-C) and SIGTERM, however many come.

    By a thread: a handler may run while `wait`, or another handler, holds the event's lock, and would wait for itself.
    """
    stop = threading.Event()
    came: queue.SimpleQueue[int] = queue.SimpleQueue()  # whose put may interrupt another

    def wait_for_one() -> None:
        came.get()
        stop.set()

    threading.Thread(target=wait_for_one, name="signals", daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: came.put(number))
    return stop


def _cluster(options: argparse.Namespace) -> int:
    packages, names = packages_and_engines(options.engines) if options.engines else (None, default_engines())
    for name in names:
        engines.engine_class(name)
    count = options.nodes if options.nodes is not None else max(3, len(names) if options.engines else 3)
    stop = stop_event()
    nodes = [names[at % len(names)] for at in range(count)]
    shares = share_out(nodes, options.option)
    told = {
        "--auto-compaction-retention": options.auto_compaction_retention,
        "--quota-backend-bytes": options.quota_backend_bytes,
    }
    more = [word for flag, number in told.items() if number is not None for word in (flag, str(number))]
    more += _strangers_flags(options)
    with LocalCluster(nodes, options.data, options.port, shares, packages, options.log_format, more) as cluster:
        with _lab(cluster, options.port - 1) if options.lab else contextlib.nullcontext() as lab:
            cluster.start()
            cluster.wait_until_healthy(given_up=stop)
            if not stop.is_set():
                _print_cluster(cluster, lab)
            _watch(cluster, lab.lab if lab is not None else None, stop)
            print_line("\nstopping")
        for node, process in cluster.brought_back():
            print_line(f"node {node.id} was brought back by hand, and goes on as {process}: end it there")
    return 0


def _strangers_flags(options: argparse.Namespace) -> list[str]:
    told = {"--cors": options.cors, "--host-whitelist": options.host_whitelist}
    return [word for flag, names in told.items() if names is not None for word in (flag, ",".join(sorted(names)))]


@contextlib.contextmanager
def _lab(cluster: LocalCluster, port: int) -> Iterator[LabPort]:
    """The lab of a cluster that has not started yet, and its port. Raises ClusterError if that can't be had."""
    with Lab(cluster, port) as lab:
        try:
            lab_port = LabPort(lab, ("127.0.0.1", port), [node.url for node in cluster.nodes])
        except OSError as error:
            raise ClusterError(
                f"the lab's port {port} can't be had ({error.strerror}): choose another --port"
            ) from None
        lab_port.start()
        try:
            yield lab_port
        finally:
            lab_port.stop()


def _watch(cluster: LocalCluster, lab: Lab | None, stop: threading.Event) -> None:
    """Until the end: says which node has ended, and shows how all are, if somebody looks at a terminal."""
    live = LiveLines(print_line) if sys.stdout.isatty() and not stop.is_set() else None
    if live is not None and sys.stderr.isatty():
        cluster.say = live.say
    say = live.say if live is not None else print_line
    if lab is not None:
        lab.say = say
    rates, looked_at = Rates(), 0.0
    while (cluster.processes or lab is not None) and not stop.wait(TURN_S):
        for node in cluster.dead():
            say(f"\nnode {node.id} has ended. This brings it back:\n  {cluster.command_line(node)}")
        if live is not None and (now := time.monotonic()) - looked_at >= LIVE_S:
            looked_at = now
            live.draw([_live_line(rates, node, lab) for node in cluster.nodes])
    if live is not None:
        live.end()
        cluster.say = pass_on


def _live_line(rates: Rates, node: LocalNode, lab: Lab | None) -> str:
    process = "running" if lab is None else lab.process_of(node.id)
    status = None if process == "paused" else _status_of(node.url)  # a dead one may have been brought back by hand
    return rates.line(node.id, status, time.monotonic(), "away" if process == "running" else process)


def _status_of(url: str) -> dict[str, Any] | None:
    with contextlib.suppress(NodeError), Client([url], timeout_s=LIVE_TIMEOUT_S) as client:
        return client.status()
    return None


def _print_cluster(cluster: LocalCluster, lab: LabPort | None) -> None:
    """The table of nodes, and lines to be typed into another terminal."""
    width = max(10, 2 + max(len(node.engine) for node in cluster.nodes))
    print_line(f"\n{'node':<6}{'engine':<{width}}{'pid':<9}{'clients':<25}data")
    for node in cluster.nodes:
        print_line(
            f"{node.id:<6}{node.engine:<{width}}{cluster.processes[node.id].pid:<9}{node.url:<25}{node.data_dir}"
        )
    if cluster.packages is not None:
        print_line(f"\nThe nodes run the packages of {cluster.packages}, in plain form.")
    first, last = cluster.nodes[0], cluster.nodes[-1]
    command = shlex.join(metcd_command())
    print_line(f"\nThe live page is at {first.url}/_/page")
    print_line(
        "\nType into another terminal:\n"
        f"  curl -L {first.url}/hello -XPUT -d world\n"
        f"  curl -L {last.url}/hello\n"
        f"  curl -L {first.url}/_/status\n"
        f"  {command} load unicode{'' if first.client_port == FIRST_PORT else f' --endpoints {first.url}'}\n"
        f"  curl -L {last.url}/unicode/U+2603\n"
        f"  kill -9 {cluster.processes[last.id].pid}        # node {last.id}; the others go on\n"
        "\nCtrl-C here ends all nodes; their data stays."
    )
    if lab is not None:
        print_line(
            "\nThe lab, which cuts links and kills nodes. Who has this line may, from this machine:\n"
            f"  {first.url}/_/page#lab={lab.url}&token={lab.token}"
        )
