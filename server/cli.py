"""The `metcd` command: a verb for each thing that one does with a node, a cluster, or the files of a store.

    metcd cluster                                        three nodes on this machine, until Ctrl-C
    metcd cluster --engines DIR:lsm,btree,bitcask        the same, on the packages of a directory
    metcd serve --id 1 --cluster URL,URL,URL --data DIR  one node, in the foreground
    metcd put hello world;  metcd get hello              as a client of a cluster
    metcd delete KEY;  metcd scan;  metcd status
    metcd load unicode                                   a real data set: the names of all Unicode characters
    metcd load FILE                                      lines as `metcd scan --ndjson` prints them
    metcd check PATH;  metcd dump PATH;  metcd which PATH
                                                         the files of a store or of a node that isn't running
    metcd repair PATH                                    a store that doesn't open any more, from what is whole
    metcd learn COMMAND                                  the tutorial (server/__main__.py hands it over)

Exit status: 0 done; 1 not found, or the check found something, or the node failed; 2 the request is wrong, refused or
can't be carried out. What is wrong is said in one line.

Left out until Raft has what they need: member, transfer, snapshot.
"""

from __future__ import annotations

import argparse
import base64
import errno
import io
import json
import os
import shlex
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from platform import python_version

from tqdm import tqdm

import engines
from engines.kvstore import Pair
from server import inspect
from server.addresses import netloc, parse_url, url_of
from server.client import Client
from server.cluster import (
    FIRST_PORT,
    PORT_STEP,
    ClusterError,
    LocalCluster,
    default_engines,
    metcd_command,
    packages_and_engines,
)
from server.config import NodeConfig, Peers
from server.engine_options import engine_options, options_of_nodes, share_out
from server.errors import NodeError, OutcomeUnknown
from server.http import FrontEnd
from server.logs import logger, print_line
from server.node import Node
from server.routes import pair_line
from server.secret import SecretError, read_secret
from server.transport import require_secret

__all__ = ["main"]

DEFAULT_ENDPOINTS = ",".join(f"http://127.0.0.1:{FIRST_PORT + at * PORT_STEP}" for at in range(3))
LOAD_BATCH = 500  # pairs in one proposal: some 20 KB of Unicode names
LOAD_BATCH_BYTES = 256 << 10  # of keys and values; a pair that is larger travels alone
LOAD_ATTEMPTS = 10  # each as long as the client's timeout
OPTION_HELP = "an option of the engine, as `metcd options ENGINE` lists them; may be repeated"
SKIP_HELP = "an entry that can't be decoded is passed over: give it to all members alike (server/IDENTITY.md)"
TURN_S = 0.2  # how soon a dead node is noticed


class UsageError(Exception):
    """The command line asks for something that makes no sense; the sentence says what."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, and returns its exit status."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # what the terminal's encoding doesn't have is escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except BrokenPipeError:  # the reader of the output has closed it (`metcd scan | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit must not fail again
        return 1
    except (engines.StoreError, NodeError, UsageError, ClusterError, OSError) as error:
        full = (
            isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None
        )  # a file has a name
        print(f"metcd: {'standard output: ' if full else ''}{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metcd",
        description="A tiny etcd, to be read, run, broken and compared.",
        epilog="metcd learn: the tutorial, in which you write all of this yourself.",
    )
    parser.add_argument("--version", action="version", version=f"metcd {version('metcd')}, Python {python_version()}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str, *words: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        for word in words:
            added.add_argument(word)
        return added

    for add in (_add_verbs_of_nodes, _add_verbs_of_clients, _add_verbs_of_files):
        add(verb)
    return parser


def _add_verbs_of_nodes(verb: Callable[..., argparse.ArgumentParser]) -> None:
    serve = verb("serve", _serve, "run one node in the foreground")
    serve.add_argument("--id", type=int, required=True, help="this node's number, 1 for the first URL of --cluster")
    serve.add_argument("--cluster", required=True, help="the peer URL of every node, in the order of their numbers")
    serve.add_argument("--port", type=_port, default=FIRST_PORT, help="for clients (default: %(default)s)")
    serve.add_argument("--host", default="127.0.0.1", help="for clients (default: %(default)s)")
    serve.add_argument("--peer-secret-file", help="what all nodes share, so that nobody else is heard on the peer port")
    serve.add_argument("--data", required=True, help="this node's directory")
    serve.add_argument("--engine", default="memory", help="a name, module:Class or path/to/file.py:Class")
    serve.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help=OPTION_HELP)
    serve.add_argument("--cluster-token", default="", help="tells apart two clusters that begin with the same nodes")
    serve.add_argument("--skip-entry", type=int, action="append", default=[], metavar="INDEX", help=SKIP_HELP)
    serve.add_argument("--until-stdin-closes", action="store_true", help="stop when standard input ends")

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
    cluster.add_argument("--data", default="data", help="where the nodes' directories are (default: %(default)s)")
    cluster.add_argument("--port", type=_port, default=FIRST_PORT, help="node 1's client port (default: %(default)s)")


def _add_verbs_of_clients(verb: Callable[..., argparse.ArgumentParser]) -> None:
    clients = [
        verb("get", _get, "print the value of a key", "key"),
        verb("put", _put, "set a key", "key", "value"),
        verb("delete", _delete, "remove a key", "key"),
        verb("scan", _scan, "print pairs in the order of their keys"),
        verb("status", _status, "print what each node says of itself"),
        verb("load", _load, "write a data set: unicode, or a file of NDJSON", "source"),
    ]
    for each in clients:
        each.add_argument(
            "--endpoints",
            default=os.environ.get("METCD_ENDPOINTS", DEFAULT_ENDPOINTS),
            help="URLs of nodes, asked in turn (default: METCD_ENDPOINTS, or the three of `metcd cluster`)",
        )
        each.add_argument("--timeout", type=float, default=10.0, help="seconds for each request (default: %(default)s)")
    get, scan = clients[0], clients[3]
    for each in (get, scan):
        each.add_argument("--consistency", choices=("linearizable", "lease", "stale"), default="linearizable")
    for bound in ("start", "stop", "prefix"):
        scan.add_argument(f"--{bound}")
    scan.add_argument("--limit", type=int)
    scan.add_argument("--reverse", action="store_true")
    scan.add_argument("--ndjson", action="store_true", help="exact bytes in base64, as `metcd load` reads them")


def _add_verbs_of_files(verb: Callable[..., argparse.ArgumentParser]) -> None:
    files = [
        verb("check", _check, "verify the files of a store, or of a node that isn't running; changes nothing", "path"),
        verb("dump", _dump, "show the bytes of a file and what they mean; changes nothing", "path"),
        verb("repair", _repair, "make a damaged store one that opens, from what is whole", "path"),
    ]
    for each in files:
        each.add_argument("--engine", help="a name, module:Class or path/to/file.py:Class (default: who recognises it)")
    verb("options", _options, "list what an engine can be told: --option of serve and cluster", "engine")
    verb("which", _which, "say whose files these are; changes nothing", "path")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, not {text!r}")
    return int(text)


# ---- nodes ----------------------------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    peers = _peers(options.cluster)
    if options.id not in peers:
        raise UsageError(f"--id {options.id} is not in the cluster: --cluster names the nodes 1 to {len(peers)}")
    stop = _stop_event()
    try:
        config = NodeConfig(
            options.id, peers, options.data, options.engine,
            engine_options=engine_options(options.engine, options.option),
            cluster_token=options.cluster_token, peer_secret=_peer_secret(options, peers), skip_entries=frozenset(options.skip_entry),
        )  # fmt: skip
        node = Node(config)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES) or error.filename is not None:
            raise
        host, port = peers[options.id]
        raise UsageError(f"peers can't be served on {netloc(host, port)}: {error.strerror}") from None
    try:
        front = FrontEnd(node, (options.host, options.port))
    except OSError as error:
        node.stop()
        raise UsageError(f"clients can't be served on {netloc(options.host, options.port)}: {error.strerror}") from None
    if not front.local_only:
        logger().warning("metcd: everybody who reaches %s can read and write everything: there is no TLS", options.host)
    node.start()
    front.start()
    print_line(f"node {options.id} serves {url_of(options.host, options.port)} on the engine {options.engine}")
    if options.until_stdin_closes:
        threading.Thread(target=_wait_for_stdin, args=(stop,), daemon=True).start()
    while not stop.wait(TURN_S) and not node.stopped.is_set():
        pass
    front.stop()
    node.stop()
    return 1 if node.failure is not None else 0


def _peer_secret(options: argparse.Namespace, peers: Peers) -> bytes:
    try:
        secret = read_secret(options.peer_secret_file) if options.peer_secret_file else b""
        require_secret(peers[options.id][0], secret)
    except (SecretError, ValueError) as error:
        raise UsageError(str(error)) from None
    return secret


def _options(options: argparse.Namespace) -> int:
    print(*options_of_nodes(options.engine).values(), sep="\n")
    return 0


def _wait_for_stdin(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()


def _peers(cluster: str) -> Peers:
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


def _stop_event() -> threading.Event:
    """Is set by SIGINT (Ctrl-C) and SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _cluster(options: argparse.Namespace) -> int:
    packages, names = packages_and_engines(options.engines) if options.engines else (None, default_engines())
    for name in names:
        engines.engine_class(name)
    count = options.nodes if options.nodes is not None else max(3, len(names) if options.engines else 3)
    stop = _stop_event()
    nodes = [names[at % len(names)] for at in range(count)]
    shares = share_out(nodes, options.option)
    with LocalCluster(nodes, options.data, options.port, shares, packages) as cluster:
        cluster.start()
        cluster.wait_until_healthy(given_up=stop)
        if not stop.is_set():
            _print_cluster(cluster)
        while cluster.processes and not stop.wait(TURN_S):
            for node in cluster.dead():
                print_line(f"\nnode {node.id} has ended. This brings it back:\n  {cluster.command_line(node)}")
        print_line("\nstopping")
        for node, process in cluster.brought_back():
            print_line(f"node {node.id} was brought back by hand, and goes on as {process}: end it there")
    return 0


def _print_cluster(cluster: LocalCluster) -> None:
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


# ---- clients --------------------------------------------------------------------------------------------------------


def _client(options: argparse.Namespace) -> Client:
    try:
        return Client(options.endpoints.split(","), timeout_s=options.timeout)
    except ValueError as error:
        raise UsageError(f"--endpoints: {error}") from None


def _get(options: argparse.Namespace) -> int:
    with _client(options) as client:
        value = client.get(os.fsencode(options.key), consistency=options.consistency)
    if value is None:
        print(f"metcd: there is no key {options.key!r}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(value + (b"\n" if sys.stdout.isatty() else b""))
    return 0


def _put(options: argparse.Namespace) -> int:
    with _client(options) as client:
        client.put(os.fsencode(options.key), os.fsencode(options.value))
    return 0


def _delete(options: argparse.Namespace) -> int:
    with _client(options) as client:
        client.delete(os.fsencode(options.key))
    return 0


def _scan(options: argparse.Namespace) -> int:
    bounds = {name: os.fsencode(text) for name in ("start", "stop", "prefix") if (text := getattr(options, name))}
    with _client(options) as client:
        pairs = client.scan(**bounds, limit=options.limit, reverse=options.reverse, consistency=options.consistency)
        for key, value in pairs:
            if options.ndjson:
                print(pair_line(key, value).decode(), end="")
            else:
                print(key.decode(errors="backslashreplace"), value.decode(errors="backslashreplace"), sep="\t")
    return 0


def _status(options: argparse.Namespace) -> int:
    reached = 0
    for url in options.endpoints.split(","):
        with Client([url], timeout_s=options.timeout) as client:
            try:
                print(json.dumps({"url": url, **client.status()}))
                reached += 1
            except NodeError as error:
                print(f"metcd: {url}: {error}", file=sys.stderr)
    return 0 if reached else 2


# ---- data sets ------------------------------------------------------------------------------------------------------


def _load(options: argparse.Namespace) -> int:
    """Writes pairs in the order of their keys, in batches; what an earlier run has written is skipped."""
    with _client(options) as client:
        if options.source == "unicode":
            pairs = unicode_names()
            last = next(client.scan(prefix=b"unicode/", reverse=True, limit=1), (b"", b""))[0]
            rest = [pair for pair in pairs if pair[0] > last]
            _write(client, rest, len(pairs), len(pairs) - len(rest))
        else:
            with sys.stdin.buffer if options.source == "-" else open(options.source, "rb") as file:
                _write(client, _ndjson(file, options.source), None, 0)
    return 0


def unicode_names() -> list[Pair]:
    """The names of all Unicode characters that this Python knows, by key: "unicode/U+2603" is "SNOWMAN"."""
    names = ((code, unicodedata.name(chr(code), "")) for code in range(sys.maxunicode + 1))
    return sorted((b"unicode/U+%04X" % code, name.encode()) for code, name in names if name)


def _ndjson(lines: Iterable[bytes], source: str) -> Iterator[Pair]:
    for number, line in enumerate(lines, 1):
        try:
            pair = json.loads(line)
            yield base64.b64decode(pair["key"], validate=True), base64.b64decode(pair["value"], validate=True)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UsageError(
                f'{source}, line {number}: a line is {{"key":"…","value":"…"}} in base64, and this is not: {error}'
            ) from None


def _write(client: Client, pairs: Iterable[Pair], total: int | None, done: int) -> None:
    """Writes pairs in batches. A batch whose outcome is unknown is sent again: puts of the same values do no harm."""
    with tqdm(total=total, initial=done, unit=" pairs", disable=None) as bar:
        for batch in _batches(pairs):
            for attempt in range(LOAD_ATTEMPTS):
                try:
                    client.batch(batch)
                    break
                except OutcomeUnknown:
                    if attempt + 1 == LOAD_ATTEMPTS:
                        raise
            bar.update(len(batch))
            done += len(batch)
    print(f"loaded {done:,} pairs")


def _batches(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Pairs in batches of LOAD_BATCH, or of fewer where they would be more than LOAD_BATCH_BYTES."""
    batch: list[Pair] = []
    size = 0
    for key, value in pairs:
        size += len(key) + len(value)
        if batch and (len(batch) == LOAD_BATCH or size > LOAD_BATCH_BYTES):
            yield batch
            batch, size = [], len(key) + len(value)
        batch.append((key, value))
    if batch:
        yield batch


# ---- files ----------------------------------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> int:
    try:
        found = inspect.check(options.path, options.engine)
    except inspect.NotRecognised as error:
        return _one_line(error)
    for sentence in found:
        print(sentence)
    count = "1 violation" if len(found) == 1 else f"{len(found)} violations"
    print(f"{options.path}: {count} found" if found else f"{options.path}: OK")
    return 1 if found else 0


def _dump(options: argparse.Namespace) -> int:
    try:
        for line in inspect.dump(options.path, options.engine):
            print(line)
    except inspect.NotRecognised as error:
        return _one_line(error)
    return 0


def _which(options: argparse.Namespace) -> int:
    try:
        print(inspect.what_is(options.path))
    except inspect.NotRecognised as error:
        return _one_line(error)
    return 0


def _repair(options: argparse.Namespace) -> int:
    try:
        done = inspect.repair(options.path, options.engine)
        print(*done or [f"{options.path}: nothing needs to be repaired"], sep="\n")
    except inspect.NotRecognised as error:
        return _one_line(error)
    return 0


def _one_line(error: inspect.NotRecognised) -> int:
    print(f"metcd: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
